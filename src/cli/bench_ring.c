/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * `viaduct bench ring`: what one buffer costs on its way through a queue and back.
 *
 * Both halves of a queue in one process, with nothing between them but memory: on one processor
 * they take turns, a batch each; on two each has its own and looks for work all the time. Of
 * several short runs the best one counts: it is the one that nobody else disturbed.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/bench.h"
#include "cli/cli.h"
#include "ring/devq.h"
#include "ring/virtqueue.h"

#define QUEUE_SIZE 256
#define BUFFER_BYTES 64
#define MAX_SPANS 4
#define RAM_BYTES (64u << 10)
#define RUN_NS 20000000ull
#define N_RUNS 15

struct rings {
	struct virtqueue vq;
	struct devq devq;
	struct memory memory;
	struct memory_region region;
	u8 *ram;
	u64 in_flight[DEVQ_MAP_WORDS(QUEUE_SIZE)];
	struct vq_slot slots[QUEUE_SIZE];
	bool stop;
};

static bool no_doorbell(struct virtqueue *vq)
{
	return true;
}

static void rings_start(struct rings *r, bool packed, bool polling)
{
	/* Areas a page apart at least, so that neither half shares a line with the other's. */
	struct virtqueue_setup driver = {
		.size = QUEUE_SIZE,
		.packed = packed,
		.event_idx = true,
		.desc = r->ram,
		.driver_area = r->ram + 8192,
		.device_area = r->ram + 12288,
		.slots = r->slots,
		.notify = no_doorbell,
		.name = "bench",
	};
	struct devq_setup device = {
		.size = QUEUE_SIZE,
		.packed = packed,
		.event_idx = true,
		.desc_gpa = (uintptr_t)driver.desc,
		.driver_gpa = (uintptr_t)driver.driver_area,
		.device_gpa = (uintptr_t)driver.device_area,
	};

	memset(r->ram, 0, RAM_BYTES);
	r->stop = false;
	r->region = (struct memory_region){ (uintptr_t)r->ram, RAM_BYTES, r->ram };
	ASSERT(memory_init(&r->memory, &r->region, 1) == 0);
	ASSERT(virtqueue_init(&r->vq, &driver) == 0);
	devq_init(&r->devq, QUEUE_SIZE, r->in_flight);
	ASSERT(devq_start(&r->devq, &device, &r->memory,
			  packed ? DEVQ_POSITION_START_PACKED : DEVQ_POSITION_START_SPLIT) == 0);
	virtqueue_disable_cb(&r->vq);
	devq_set_polling(&r->devq, polling);
}

/* All that is there, at most `most`; returns how many. */
static u32 device_turn(struct rings *r, u32 most)
{
	struct span spans[MAX_SPANS];
	u32 n = 0;

	while (n < most) {
		struct chain c = { .spans = spans, .max_spans = MAX_SPANS };

		if (devq_pop(&r->devq, &c) <= 0)
			break;
		devq_push(&r->devq, &c, 0);
		n++;
	}
	if (n > 0)
		devq_flush(&r->devq);
	return n;
}

static void driver_add(struct rings *r, u32 n)
{
	struct span sg = { r->ram + 16384, BUFFER_BYTES };

	for (u32 i = 0; i < n; i++)
		ASSERT(virtqueue_add_buf(&r->vq, &sg, 1, 0, r) == 0);
	virtqueue_kick(&r->vq);
}

static u32 driver_reap(struct rings *r)
{
	u32 len, n = 0;

	while (virtqueue_get_buf(&r->vq, &len))
		n++;
	return n;
}

static u64 run_one_core(struct rings *r, u32 batch, u64 *elapsed_ns)
{
	u64 begun = bench_now_ns(), n = 0;

	do {
		for (u32 i = 0; i < 1024; i += batch) { /* look at the clock not too often */
			driver_add(r, batch);
			device_turn(r, batch);
			n += driver_reap(r);
		}
		*elapsed_ns = bench_now_ns() - begun;
	} while (*elapsed_ns < RUN_NS);
	return n;
}

static void *device_main(void *arg)
{
	struct rings *r = arg;

	while (!__atomic_load_n(&r->stop, __ATOMIC_ACQUIRE))
		device_turn(r, QUEUE_SIZE);
	return NULL;
}

/* 0: the second thread could not be had. */
static u64 run_two_cores(struct rings *r, u32 batch, u64 *elapsed_ns)
{
	pthread_t device;
	u64 begun, n = 0;

	if (pthread_create(&device, NULL, device_main, r))
		return 0;
	begun = bench_now_ns();
	do {
		for (u32 i = 0; i < 1024; i++) {
			if (r->vq.n_free >= batch)
				driver_add(r, batch);
			n += driver_reap(r);
		}
		*elapsed_ns = bench_now_ns() - begun;
	} while (*elapsed_ns < RUN_NS);
	__atomic_store_n(&r->stop, true, __ATOMIC_RELEASE);
	pthread_join(device, NULL);
	return n;
}

int bench_ring(int argc, char **argv)
{
	static const u32 batches[] = { 1, 16, 64 };
	static struct rings rings;
	long n_cpus = sysconf(_SC_NPROCESSORS_ONLN);
	bool json = false, first = true;

	for (int i = 1; i < argc; i++) {
		if (!strcmp(argv[i], "--json"))
			json = true;
		else if (strcmp(argv[i], "--quiet") != 0)
			return cli_usage("bench", "ring: '%s'? See viaduct bench --help", argv[i]);
	}
	rings.ram = aligned_alloc(4096, RAM_BYTES);
	if (!rings.ram)
		return cli_usage("bench", "no memory");
	if (json)
		printf("{\"ring\":[");
	else
		printf("%-8s%8s%8s%14s%16s\n", "ring", "cores", "batch", "ns/buffer", "buffers/s");
	for (int cores = 1; cores <= 2 && cores <= n_cpus; cores++)
		for (int packed = 0; packed < 2; packed++)
			for (u32 b = 0; b < ARRAY_SIZE(batches); b++) {
				const char *name = packed ? "packed" : "split";
				double best = 0;

				for (int run = 0; run < N_RUNS; run++) {
					u64 n, ns = 1;

					rings_start(&rings, packed, cores == 2);
					n = cores == 1 ? run_one_core(&rings, batches[b], &ns)
						       : run_two_cores(&rings, batches[b], &ns);
					ASSERT(rings.devq.fault.kind == RING_OK &&
					       rings.vq.fault.kind == RING_OK);
					devq_stop(&rings.devq);
					if ((double)n / (double)ns > best)
						best = (double)n / (double)ns;
				}
				if (best == 0)
					continue;
				if (json)
					printf("%s{\"format\":\"%s\",\"cores\":%d,\"batch\":%u,"
					       "\"ns_per_buffer\":%.1f,\"buffers_per_s\":%.0f}",
					       first ? "" : ",", name, cores, batches[b], 1 / best,
					       best * 1e9);
				else
					printf("%-8s%8d%8u%14.1f%16.0f\n", name, cores, batches[b],
					       1 / best, best * 1e9);
				fflush(stdout);
				first = false;
			}
	if (json)
		puts("]}");
	else if (n_cpus < 2)
		puts("(one processor only: no measurement on two)");
	free(rings.ram);
	return EXIT_OK;
}
