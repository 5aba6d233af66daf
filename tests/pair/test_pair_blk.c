/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The block driver against the block device, on every transport and kind of ring.
 *
 * The disk is a mock that holds its operations until the world, in seeded order, ends one. Each
 * of the concurrent requests has a stretch of the disk of its own, of which the test knows what
 * must be in it.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "device/blk.h"
#include "driver/blk.h"
#include "tests/pair/pair.h"
#include "tests/support/mock_storage.h"
#include "tests/support/rig.h"

#define SECTOR 512u
#define N_STRETCHES 24u
#define STRETCH_SECTORS 64u
#define STRETCH_BYTES (STRETCH_SECTORS * SECTOR)
#define DISK_SECTORS (N_STRETCHES * STRETCH_SECTORS)
#define SECOND_NS 1000000000ull

static u64 seed, rng;

static struct bench {
	struct mock_storage disk;
	struct vdev *back;
	void *mem;
	struct pair pair;
	struct virtio_device *front;
} b;

static u64 random_below(u64 n)
{
	return rig_random(&rng) % n;
}

/* The disk ends something, if it holds anything. */
static bool world(void *arg)
{
	if (b.disk.n_pending == 0)
		return false;
	mock_complete(&b.disk, random_below(b.disk.n_pending));
	return true;
}

static void start(unsigned int combination, struct device_blk_config *config)
{
	struct pair_options options = pair_combination(combination);

	rng = seed + combination;
	mock_storage_init(&b.disk, (u64)DISK_SECTORS * SECTOR);
	config->name = "vda";
	config->storage = &b.disk.storage;
	config->queue_size = max_u64(config->queue_size, options.transport->min_queue_size);
	config->serial = "a serial of 20 bytes";
	b.mem = aligned_alloc(16, (device_blk_bytes(config) + 15) & ~(size_t)15);
	assert_non_null(b.mem);
	b.back = device_blk_init(b.mem, config);
	assert_int_equal(register_virtio_driver(&driver_blk), 0);
	pair_start(&b.pair, &options, b.back, seed + combination);
	b.pair.world = world;
	b.disk.hold = true;
	b.front = b.pair.front;
}

static void stop(void)
{
	pair_stop(&b.pair);
	unregister_virtio_driver(&driver_blk);
	mock_storage_fini(&b.disk);
	free(b.mem);
}

static int run(struct driver_blk_request req)
{
	return driver_blk_run(b.front, &req, SECOND_NS);
}

/* ---- one at a time --------------------------------------------------------------------- */

static void one_at_a_time(unsigned int combination)
{
	struct device_blk_config config = { .n_queues = 2, .queue_size = 64, .seg_max = 40 };
	const struct driver_blk_info *info;
	struct span s, cut[3];
	u8 *data;

	start(combination, &config);
	info = driver_blk_info(b.front);
	assert_int_equal(info->n_sectors, DISK_SECTORS);
	assert_int_equal(info->block_bytes, 512);
	assert_true(info->can_flush && info->can_discard && info->can_write_zeroes);
	assert_false(info->read_only);
	assert_int_equal(info->n_queues, 2);
	assert_in_range(info->max_segments, 20, 40);

	data = pair_alloc(&b.pair, 4096);
	for (u32 i = 0; i < 4096; i++)
		data[i] = i * 7 + 1;
	/* A write cut in odd pieces, one of them empty. */
	cut[0] = (struct span){ data, 100 };
	cut[1] = (struct span){ data + 100, 0 };
	cut[2] = (struct span){ data + 100, 924 };
	assert_int_equal(run((struct driver_blk_request){
				 .op = DRIVER_BLK_WRITE, .sector = 3, .sg = cut, .n_sg = 3 }),
			 0);
	assert_memory_equal(b.disk.bytes + 3 * SECTOR, data, 1024);
	s = (struct span){ data + 2048, 1024 };
	assert_int_equal(
		run((struct driver_blk_request){
			.op = DRIVER_BLK_READ, .queue = 1, .sector = 3, .sg = &s, .n_sg = 1 }),
		0);
	assert_memory_equal(data + 2048, data, 1024);

	assert_memory_not_equal(b.disk.stable + 3 * SECTOR, data, 1024);
	assert_int_equal(run((struct driver_blk_request){ .op = DRIVER_BLK_FLUSH }), 0);
	assert_memory_equal(b.disk.stable + 3 * SECTOR, data, 1024);

	assert_int_equal(run((struct driver_blk_request){
				 .op = DRIVER_BLK_WRITE_ZEROES, .sector = 3, .n_sectors = 1 }),
			 0);
	assert_int_equal(b.disk.bytes[3 * SECTOR], 0);
	assert_memory_equal(b.disk.bytes + 4 * SECTOR, data + 512, 512);
	assert_int_equal(run((struct driver_blk_request){
				 .op = DRIVER_BLK_DISCARD, .sector = 4, .n_sectors = 1 }),
			 0);
	assert_int_equal(b.disk.n_begun[MOCK_DISCARD], 1);

	s = (struct span){ data, 32 };
	assert_int_equal(
		run((struct driver_blk_request){ .op = DRIVER_BLK_GET_ID, .sg = &s, .n_sg = 1 }),
		0);
	assert_memory_equal(data, "a serial of 20 bytes", 20);

	/* Errors of the disk are the request's, and nothing else's. */
	b.disk.fail[MOCK_READ] = -EIO;
	s = (struct span){ data, 512 };
	assert_int_equal(
		run((struct driver_blk_request){ .op = DRIVER_BLK_READ, .sg = &s, .n_sg = 1 }),
		-EIO);
	b.disk.fail[MOCK_READ] = 0;
	assert_int_equal(
		run((struct driver_blk_request){ .op = DRIVER_BLK_READ, .sg = &s, .n_sg = 1 }), 0);
	assert_int_equal(b.back->n_faults, 0);
	stop();
}

static void what_cannot_be_is_refused(unsigned int combination)
{
	struct device_blk_config config = { .n_queues = 1, .queue_size = 64 };
	struct span s[2];
	u8 *data;

	start(combination, &config);
	data = pair_alloc(&b.pair, 4096);
	s[0] = (struct span){ data, 512 };
	s[1] = (struct span){ data + 512, 100 };
#define RUN(...) run((struct driver_blk_request){ __VA_ARGS__ })
	assert_int_equal(RUN(.op = DRIVER_BLK_READ, .sg = s, .n_sg = 2), -EINVAL);
	assert_int_equal(RUN(.op = DRIVER_BLK_READ, .sg = s, .n_sg = 0), -EINVAL);
	assert_int_equal(RUN(.op = DRIVER_BLK_READ, .sg = s, .n_sg = 1, .sector = DISK_SECTORS),
			 -EINVAL);
	assert_int_equal(RUN(.op = DRIVER_BLK_READ, .sg = s, .n_sg = 1, .sector = UINT64_MAX),
			 -EINVAL);
	assert_int_equal(RUN(.op = DRIVER_BLK_WRITE_ZEROES, .sector = 1, .n_sectors = UINT64_MAX),
			 -EINVAL);
	assert_int_equal(RUN(.op = DRIVER_BLK_DISCARD, .sector = 1), -EINVAL);
	assert_int_equal(RUN(.op = DRIVER_BLK_GET_ID, .sg = s + 1, .n_sg = 0), -EINVAL);
	assert_int_equal(RUN(.op = (enum driver_blk_op)77), -EINVAL);
	assert_int_equal(b.disk.n_begun[MOCK_READ] + b.disk.n_begun[MOCK_DISCARD] +
				 b.disk.n_begun[MOCK_WRITE_ZEROES],
			 0);
	stop();

	config.read_only = true;
	start(combination, &config);
	assert_true(driver_blk_info(b.front)->read_only);
	s[0].base = pair_alloc(&b.pair, 512);
	assert_int_equal(RUN(.op = DRIVER_BLK_WRITE, .sg = s, .n_sg = 1), -EROFS);
	assert_int_equal(RUN(.op = DRIVER_BLK_READ, .sg = s, .n_sg = 1), 0);
	stop();
}

/* A disk that does not answer, asked with patience of a second. */
static bool sleeping_world(void *arg)
{
	return false;
}

static void wait_that_is_too_long_takes_the_request_back(unsigned int combination)
{
	struct device_blk_config config = { .n_queues = 1, .queue_size = 64 };
	struct span s;

	start(combination, &config);
	s = (struct span){ pair_alloc(&b.pair, 512), 512 };
	b.pair.world = sleeping_world;
	assert_int_equal(RUN(.op = DRIVER_BLK_READ, .sg = &s, .n_sg = 1), -ETIMEDOUT);
	assert_int_equal(b.front->n_recoveries, 1);
	b.pair.world = world;
	assert_int_equal(RUN(.op = DRIVER_BLK_READ, .sg = &s, .n_sg = 1), 0);

	/* While there is no device, nothing has to be reset for it. */
	b.pair.options.transport->cut(&b.pair);
	assert_int_equal(RUN(.op = DRIVER_BLK_READ, .sg = &s, .n_sg = 1), -ETIMEDOUT);
	assert_int_equal(b.pair.options.transport->join(&b.pair), 0);
	assert_int_equal(RUN(.op = DRIVER_BLK_READ, .sg = &s, .n_sg = 1), 0);
	stop();
}

/* ---- many at once ---------------------------------------------------------------------- */

static struct stretch {
	struct driver_blk_request req; /* first */
	u64 first_sector;
	u8 *data; /* STRETCH_BYTES */
	u8 expected[STRETCH_BYTES];
	bool known[STRETCH_SECTORS]; /* not discarded since it was written */
	struct span sg[40];
	u64 at; /* sectors into the stretch */
	bool busy;
} stretches[N_STRETCHES];

static u64 n_ended[6], n_sectors_moved;

static void many_done(struct driver_blk_request *req, int err)
{
	struct stretch *t = container_of(req, struct stretch, req);

	assert_true(t->busy);
	t->busy = false;
	n_ended[req->op]++;
	n_sectors_moved += req->n_sectors;
	assert_int_equal(err, 0);
	for (u64 i = 0; i < req->n_sectors; i++) {
		u8 *expected = t->expected + (t->at + i) * SECTOR;
		bool *known = &t->known[t->at + i];

		switch (req->op) {
		case DRIVER_BLK_READ:
			if (*known)
				assert_memory_equal(t->data + i * SECTOR, expected, SECTOR);
			break;
		case DRIVER_BLK_WRITE:
			memcpy(expected, t->data + i * SECTOR, SECTOR);
			*known = true;
			break;
		case DRIVER_BLK_WRITE_ZEROES:
			memset(expected, 0, SECTOR);
			*known = true;
			break;
		case DRIVER_BLK_DISCARD:
			*known = false;
			break;
		default:
			break;
		}
	}
	if (req->op == DRIVER_BLK_GET_ID)
		assert_memory_equal(t->data, "a serial of 20 bytes", 20);
}

/* Cuts t->data anywhere, as callers do who have their data in pieces. */
static u32 cut_data(struct stretch *t, u64 n_bytes)
{
	u64 at = 0;
	u32 n = 0;

	while (at < n_bytes) {
		u64 take = min_u64(n_bytes - at, random_below(n_bytes) + 1);

		if (n + 1 == ARRAY_SIZE(t->sg))
			take = n_bytes - at;
		t->sg[n++] = (struct span){ t->data + at, take };
		at += take;
	}
	return n;
}

static void many_submit(struct stretch *t)
{
	static const enum driver_blk_op often[] = {
		DRIVER_BLK_READ,  DRIVER_BLK_READ,         DRIVER_BLK_WRITE,   DRIVER_BLK_WRITE,
		DRIVER_BLK_FLUSH, DRIVER_BLK_WRITE_ZEROES, DRIVER_BLK_DISCARD, DRIVER_BLK_GET_ID,
	};
	struct driver_blk_request *req = &t->req;
	u64 n;

	t->at = random_below(STRETCH_SECTORS);
	n = 1 + random_below(STRETCH_SECTORS - t->at);
	*req = (struct driver_blk_request){
		.op = often[random_below(ARRAY_SIZE(often))],
		.queue = random_below(7),
		.may_unmap = random_below(2),
		.sector = t->first_sector + t->at,
		.n_sectors = n,
		.sg = t->sg,
		.done = many_done,
	};
	if (req->op == DRIVER_BLK_WRITE)
		for (u64 i = 0; i < n * SECTOR; i += 8)
			memcpy(t->data + i, &(u64){ rig_random(&rng) }, 8);
	else
		memset(t->data, 0x5a, STRETCH_BYTES);
	if (req->op == DRIVER_BLK_READ || req->op == DRIVER_BLK_WRITE)
		req->n_sg = cut_data(t, n * SECTOR);
	else if (req->op == DRIVER_BLK_GET_ID)
		req->n_sg = cut_data(t, 20), t->sg[0].n_bytes = 20;
	t->busy = true;
	assert_int_equal(driver_blk_submit(b.front, req), 0);
}

/* One of many things that can happen. */
static void many_step(bool chaos, bool *away)
{
	const struct pair_transport *transport = b.pair.options.transport;
	struct stretch *t = &stretches[random_below(N_STRETCHES)];
	u64 what = random_below(1000);

	if (what < 300) {
		if (!t->busy)
			many_submit(t);
	} else if (what < 700) {
		transport->step(&b.pair);
	} else if (what < 990) {
		world(NULL);
	} else if (what < 995) {
		virtio_poll();
	} else if (!chaos) {
		return;
	} else if (*away) {
		assert_int_equal(transport->join(&b.pair), 0);
		*away = false;
	} else if (what < 997) {
		transport->cut(&b.pair);
		*away = true;
	} else {
		b.pair.memory.now_ns += SECOND_NS; /* so that it does not seem to break too often */
		vdev_break(b.back, 0, "the test breaks it");
	}
}

static void many_at_once(unsigned int combination, bool chaos)
{
	struct device_blk_config config = {
		.n_queues = 3, .queue_size = 16, .seg_max = 9, .size_max = 1536
	};
	bool away = false;
	u64 n_recoveries;

	memset(n_ended, 0, sizeof(n_ended));
	n_sectors_moved = 0;
	start(combination, &config);
	for (u32 i = 0; i < N_STRETCHES; i++) {
		stretches[i] = (struct stretch){
			.first_sector = (u64)i * STRETCH_SECTORS,
			.data = pair_alloc(&b.pair, STRETCH_BYTES),
		};
		memset(stretches[i].known, true, sizeof(stretches[i].known)); /* zeroes */
	}
	for (u32 n = 0; n < 10000; n++)
		many_step(chaos, &away);
	if (away)
		assert_int_equal(b.pair.options.transport->join(&b.pair), 0);
	pair_settle(&b.pair);
	for (u32 i = 0; i < N_STRETCHES; i++) {
		struct stretch *t = &stretches[i];

		assert_false(t->busy);
		for (u32 at = 0; at < STRETCH_SECTORS; at++)
			if (t->known[at])
				assert_memory_equal(b.disk.bytes + (t->first_sector + at) * SECTOR,
						    t->expected + at * SECTOR, SECTOR);
	}
	n_recoveries = b.front->n_recoveries;
	assert_true(chaos ? n_recoveries > 5 : n_recoveries == 0);
	for (u32 op = 0; op < ARRAY_SIZE(n_ended); op++)
		assert_true(n_ended[op] > 50);
	print_message("  %s: %llu reads %llu writes %llu flushes %llu discards %llu zeroes %llu "
		      "ids, %llu sectors, %llu recoveries\n",
		      pair_describe(&b.pair.options), (unsigned long long)n_ended[0],
		      (unsigned long long)n_ended[1], (unsigned long long)n_ended[2],
		      (unsigned long long)n_ended[3], (unsigned long long)n_ended[4],
		      (unsigned long long)n_ended[5], (unsigned long long)n_sectors_moved,
		      (unsigned long long)n_recoveries);
	stop();
}

/* A driver that goes while requests are in all stages ends each of them. */
static u32 n_left;

static void left_done(struct driver_blk_request *req, int err)
{
	assert_int_equal(err, -ENODEV);
	n_left++;
}

static void unregister_ends_requests_in_all_stages(unsigned int combination)
{
	struct device_blk_config config = { .n_queues = 1, .queue_size = 16 };
	static struct driver_blk_request reqs[40];
	struct span s;

	start(combination, &config);
	s = (struct span){ pair_alloc(&b.pair, 512), 512 };
	n_left = 0;
	for (u32 i = 0; i < ARRAY_SIZE(reqs); i++) {
		reqs[i] = (struct driver_blk_request){
			.op = DRIVER_BLK_READ, .sg = &s, .n_sg = 1, .done = left_done
		};
		assert_int_equal(driver_blk_submit(b.front, &reqs[i]), 0);
	}
	while (b.pair.options.transport->step(&b.pair)) /* some are the disk's by now */
		;
	unregister_virtio_driver(&driver_blk);
	assert_int_equal(n_left, ARRAY_SIZE(reqs));
	assert_null(driver_blk_info(b.front));
	assert_int_equal(driver_blk_submit(b.front, &reqs[0]), -ENODEV);
	assert_int_equal(register_virtio_driver(&driver_blk), 0);
	assert_int_equal(RUN(.op = DRIVER_BLK_READ, .sg = &s, .n_sg = 1), 0);
	stop();
}

/* ---- all combinations ------------------------------------------------------------------ */

static void each(void (*test)(unsigned int combination))
{
	for (unsigned int i = 0; i < pair_n_combinations(); i++)
		test(i);
}

static void blk_pair_each_operation_does_what_it_says(void **state)
{
	each(one_at_a_time);
}

static void blk_pair_impossible_requests_are_refused(void **state)
{
	each(what_cannot_be_is_refused);
}

static void blk_pair_wait_too_long_takes_the_request_back(void **state)
{
	each(wait_that_is_too_long_takes_the_request_back);
}

static void blk_pair_unregister_ends_requests_in_all_stages(void **state)
{
	each(unregister_ends_requests_in_all_stages);
}

static void calm(unsigned int combination)
{
	many_at_once(combination, false);
}

static void chaotic(unsigned int combination)
{
	many_at_once(combination, true);
}

static void blk_pair_many_at_once_keep_their_data(void **state)
{
	each(calm);
}

static void blk_pair_device_breaking_and_leaving_loses_nothing(void **state)
{
	each(chaotic);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(blk_pair_each_operation_does_what_it_says),
		cmocka_unit_test(blk_pair_impossible_requests_are_refused),
		cmocka_unit_test(blk_pair_wait_too_long_takes_the_request_back),
		cmocka_unit_test(blk_pair_unregister_ends_requests_in_all_stages),
		cmocka_unit_test(blk_pair_many_at_once_keep_their_data),
		cmocka_unit_test(blk_pair_device_breaking_and_leaving_loses_nothing),
	};

	seed = rig_seed();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
