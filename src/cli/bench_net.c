/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * `viaduct bench SOCKET --type net`: our network driver on somebody's card.
 *
 * Sends numbered frames as fast as the card takes them and counts what comes. Frames of ours that
 * come back tell how long they were away. To verify, the back end must bring each frame back, in
 * order, its payload as it was (addresses may be swapped); no more than the depth are away at a
 * time, so that nobody has a reason to drop one. Greetings go first, one by one, until one comes
 * back: a back end may take frames before it is ready to bring any.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "cli/bench.h"
#include "cli/cli.h"
#include "driver/net.h"
#include "host/log.h"
#include "vmm/vhost_user_client.h"

#define MAX_DEPTH 1024
#define MAX_FRAME_BYTES 9014
#define MIN_FRAME_BYTES 60
#define N_BUFFERS 256 /* as many as the ring holds */
#define BATCH 64 /* frames taken in a turn before others are sent */
#define RING_ROOM_BYTES (16u << 20)
#define SECOND_NS 1000000000ull
#define LAST_NS 2000000000ull /* how long to wait for what is still away */
#define STUCK_S 10
#define GREETING_NS 10000000ull

/* What follows the Ethernet header of a frame of ours; bytes up to its end come from `number`. */
struct payload {
	u64 run, number, sent_ns;
};
#define ETHERNET_BYTES 14u
#define PATTERN_AT (ETHERNET_BYTES + sizeof(struct payload))

struct options {
	const char *path;
	bool verify, json, quiet;
	u32 depth, frame_bytes, seconds, n_frames, give_up_s;
	u64 run;
	const char *rings; /* NULL: as offered */
	struct features hidden;
};

struct slot {
	struct driver_net_frame frame;
	struct span sg;
	struct list node;
};

static struct bench {
	struct options o;
	struct loop *loop;
	struct vhost_user_client *client;
	struct virtio_device *device;
	u8 *send_bytes, *receive_bytes;
	u32 buffer_bytes;
	struct slot *slots;
	struct list idle;
	struct driver_net_buffer buffers[N_BUFFERS];

	bool greeting, greeted; /* before the run; and one came back */
	u64 begun_ns, ended_ns, last_ns;
	double cpu_us_at_begin, cpu_us;
	u64 n_sent; /* offered to the device: the next frame's number */
	u64 n_taken, n_taken_bytes, n_failed;
	u64 n_received, n_received_bytes; /* whoever sent them */
	u64 next_back, n_back, n_lost, n_wrong;
	bool sending_over, failed;
	struct bench_times times;

	struct loop_hook hook;
	struct loop_signal interrupt;
	struct clock_timer tick, greet;
	u32 seconds_run, seconds_stuck;
	u64 taken_at_tick, received_at_tick;
	u32 n_gone, n_again;
} b;

static double cpu_us(void)
{
	struct rusage r;

	getrusage(RUSAGE_SELF, &r);
	return (double)(r.ru_utime.tv_sec + r.ru_stime.tv_sec) * 1e6 +
	       (double)(r.ru_utime.tv_usec + r.ru_stime.tv_usec);
}

/* ---- frames ---------------------------------------------------------------------------------- */

static u8 pattern(u64 number, u32 at)
{
	return (u8)(number * 31 + number / 256 + at * 7);
}

static void frame_write(u8 *bytes, u64 number)
{
	struct payload p = { b.o.run, number, bench_now_ns() };

	memcpy(bytes + ETHERNET_BYTES, &p, sizeof(p));
	if (b.o.verify)
		for (u32 i = PATTERN_AT; i < b.o.frame_bytes; i++)
			bytes[i] = pattern(number, i);
}

static void frame_done(struct driver_net_frame *frame, int err)
{
	struct slot *s = container_of(frame, struct slot, frame);

	list_add_tail(&b.idle, &s->node);
	if (err < 0) {
		b.n_failed++;
		return;
	}
	b.n_taken++;
	b.n_taken_bytes += b.o.frame_bytes;
	b.last_ns = bench_now_ns();
}

/* The bytes in one piece: where they lie, if they are; else a copy. NULL: too long for us. */
static const u8 *frame_bytes(const struct driver_net_received *f)
{
	static u8 copy[MAX_FRAME_BYTES + 64];
	u32 n = 0;

	if (f->n_buffers == 1)
		return f->first->data.base;
	if (f->n_bytes > sizeof(copy))
		return NULL;
	for (const struct driver_net_buffer *r = f->first; r; r = r->next) {
		memcpy(copy + n, r->data.base, r->data.n_bytes);
		n += (u32)r->data.n_bytes;
	}
	return copy;
}

static bool frame_is_whole(const struct driver_net_received *f, const u8 *bytes, u64 number)
{
	if (f->n_bytes != b.o.frame_bytes)
		return false;
	for (u32 i = PATTERN_AT; i < f->n_bytes; i++)
		if (bytes[i] != pattern(number, i))
			return false;
	return true;
}

static void frame_came(const struct driver_net_received *f)
{
	const u8 *bytes = frame_bytes(f);
	u64 now = bench_now_ns();
	struct payload p;

	b.n_received++;
	b.n_received_bytes += f->n_bytes;
	if (!bytes || f->n_bytes < PATTERN_AT)
		return;
	memcpy(&p, bytes + ETHERNET_BYTES, sizeof(p));
	if (p.run != b.o.run)
		return; /* somebody else's, or a greeting that was late */
	b.greeted = true;
	if (b.greeting)
		return;
	b.n_back++;
	b.last_ns = now;
	if (p.number < b.next_back || p.number >= b.n_sent) {
		b.n_wrong++; /* twice, out of order, or never sent */
		return;
	}
	b.n_lost += p.number - b.next_back;
	b.next_back = p.number + 1;
	bench_times_add(&b.times, now - p.sent_ns);
	if (b.o.verify && !frame_is_whole(f, bytes, p.number))
		b.n_wrong++;
}

/* ---- the loop's turn ------------------------------------------------------------------------- */

static void end(int status)
{
	b.ended_ns = max_u64(b.last_ns, b.begun_ns + 1);
	b.cpu_us = cpu_us() - b.cpu_us_at_begin;
	loop_stop(b.loop, status);
}

static bool may_send(void)
{
	if (b.sending_over || list_empty(&b.idle))
		return false;
	if (b.greeting)
		return b.n_taken + b.n_failed == b.n_sent &&
		       bench_now_ns() - b.last_ns >= GREETING_NS;
	if (b.o.n_frames && b.n_sent >= b.o.n_frames)
		return false;
	return !b.o.verify || b.n_sent - b.next_back < b.o.depth;
}

static void send_all(void)
{
	while (may_send()) {
		struct slot *s = container_of(list_pop(&b.idle), struct slot, node);

		frame_write(s->sg.base, b.n_sent);
		if (driver_net_send(b.device, 0, &s->frame) < 0) {
			list_add_tail(&b.idle, &s->node);
			return; /* full, or away: another turn */
		}
		b.n_sent++;
	}
}

/* From here on it counts. */
static void run_begin(void)
{
	b.greeting = false;
	b.o.run++;
	b.n_sent = b.n_taken = b.n_taken_bytes = b.n_failed = 0;
	b.n_received = b.n_received_bytes = 0;
	b.taken_at_tick = b.received_at_tick = 0;
	b.begun_ns = b.last_ns = bench_now_ns();
	b.cpu_us_at_begin = cpu_us();
}

/* What is still away may come until LAST_NS after the last one did. */
static bool is_over(void)
{
	if (!b.sending_over && !(b.o.n_frames && b.n_sent >= b.o.n_frames))
		return false;
	b.sending_over = true;
	driver_net_reap(b.device, 0);
	if (b.n_taken + b.n_failed == b.n_sent && (!b.o.verify || b.next_back == b.n_sent))
		return true;
	return bench_now_ns() - b.last_ns > LAST_NS;
}

static void pump(struct loop_hook *hook)
{
	struct driver_net_received f;
	u64 now = bench_now_ns();
	u32 n = 0;

	if (now - b.begun_ns >= b.o.seconds * SECOND_NS)
		b.sending_over = true;
	if (b.greeted && b.greeting && b.n_taken + b.n_failed == b.n_sent)
		run_begin();
	do {
		for (n = 0; n < BATCH && driver_net_receive(b.device, 0, &f) == 1; n++) {
			frame_came(&f);
			driver_net_post(b.device, 0, f.first);
		}
		send_all();
		driver_net_kick(b.device, 0);
	} while (n == BATCH);
	if (is_over() && b.ended_ns == 0)
		end(EXIT_OK);
}

static void client_event(void *arg, enum vhost_user_client_event event)
{
	switch (event) {
	case VHOST_USER_CLIENT_GONE:
		b.n_gone++;
		fprintf(stderr, "viaduct bench: the back end is gone; waiting for it\n");
		break;
	case VHOST_USER_CLIENT_BACK:
		b.n_again++;
		b.seconds_stuck = 0;
		fprintf(stderr, "viaduct bench: it is back\n");
		break;
	case VHOST_USER_CLIENT_GAVE_UP:
		fprintf(stderr, "viaduct bench: it did not come back within %u s\n", b.o.give_up_s);
		b.failed = true;
		end(EXIT_FAILED);
		break;
	}
}

static void interrupted(struct loop_signal *s)
{
	b.failed = true;
	end(EXIT_FAILED);
}

static double gbit(u64 n_bytes, double seconds)
{
	return seconds > 0 ? (double)n_bytes * 8 / seconds / 1e9 : 0;
}

static void ticked(struct clock_timer *t)
{
	struct clock *clock = loop_clock(b.loop);
	u64 out = b.n_taken - b.taken_at_tick, in = b.n_received - b.received_at_tick;

	b.taken_at_tick = b.n_taken;
	b.received_at_tick = b.n_received;
	b.seconds_run++;
	if (!b.o.quiet)
		fprintf(stderr, "%4u s  out %9llu frames/s  in %9llu frames/s  p99 %.3f ms\n",
			b.seconds_run, (unsigned long long)out, (unsigned long long)in,
			(double)bench_times_at(&b.times, 990) / 1e6);
	b.seconds_stuck = out + in > 0 || b.n_gone != b.n_again ? 0 : b.seconds_stuck + 1;
	if (b.seconds_stuck == STUCK_S) {
		fprintf(stderr, "viaduct bench: no frame has moved for %d s\n", STUCK_S);
		b.failed = true;
		end(EXIT_FAILED);
		return;
	}
	clock->ops->start(clock, t, clock->ops->now_ns(clock) + SECOND_NS);
}

/* Nobody else wakes us while nothing comes back. */
static void greet(struct clock_timer *t)
{
	struct clock *clock = loop_clock(b.loop);

	driver_net_reap(b.device, 0);
	if (b.greeting)
		clock->ops->start(clock, t, clock->ops->now_ns(clock) + GREETING_NS);
}

/* ---- before and after ------------------------------------------------------------------------- */

static const char *rings_text(void)
{
	return virtio_has_feature(b.device, VIRTIO_F_RING_PACKED) ? "packed" : "split";
}

static int verdict(int status)
{
	if (b.o.verify &&
	    (b.n_wrong || b.n_failed || b.n_back == 0 || b.next_back != b.n_sent || b.n_lost))
		return EXIT_FAILED;
	return status;
}

static void report(int status)
{
	double s = (double)(b.ended_ns - b.begun_ns) / 1e9;
	u64 n_lost = b.n_lost + (b.n_sent - b.next_back);

	if (b.o.json) {
		printf("{\"rings\":\"%s\",\"mergeable\":%s,\"frame_bytes\":%u,\"depth\":%u,"
		       "\"seconds\":%.3f,\"sent\":%llu,\"sent_per_s\":%.0f,\"sent_gbit_per_s\":%."
		       "3f,"
		       "\"received\":%llu,\"received_per_s\":%.0f,\"received_gbit_per_s\":%.3f,"
		       "\"back\":%llu,\"lost\":%llu,\"wrong\":%llu,\"failed\":%llu,"
		       "\"p50_us\":%.1f,\"p99_us\":%.1f,\"p999_us\":%.1f,\"max_us\":%.1f,"
		       "\"cpu_us_per_frame\":%.3f,\"times_gone\":%u,\"times_back\":%u,\"ok\":%s}\n",
		       rings_text(), driver_net_info(b.device)->mergeable ? "true" : "false",
		       b.o.frame_bytes, b.o.depth, s, (unsigned long long)b.n_taken,
		       (double)b.n_taken / s, gbit(b.n_taken_bytes, s),
		       (unsigned long long)b.n_received, (double)b.n_received / s,
		       gbit(b.n_received_bytes, s), (unsigned long long)b.n_back,
		       (unsigned long long)n_lost, (unsigned long long)b.n_wrong,
		       (unsigned long long)b.n_failed, (double)bench_times_at(&b.times, 500) * 1e-3,
		       (double)bench_times_at(&b.times, 990) * 1e-3,
		       (double)bench_times_at(&b.times, 999) * 1e-3, (double)b.times.max_ns * 1e-3,
		       b.cpu_us / (double)max_u64(1, b.n_taken + b.n_received), b.n_gone, b.n_again,
		       status == EXIT_OK ? "true" : "false");
		return;
	}
	printf("out      %llu frames in %.1f s: %.0f frames/s, %.3f Gbit/s\n",
	       (unsigned long long)b.n_taken, s, (double)b.n_taken / s, gbit(b.n_taken_bytes, s));
	printf("in       %llu frames: %.0f frames/s, %.3f Gbit/s\n",
	       (unsigned long long)b.n_received, (double)b.n_received / s,
	       gbit(b.n_received_bytes, s));
	if (b.n_back > 0)
		printf("there and back  p50 %.3f ms, p99 %.3f ms, p99.9 %.3f ms, longest %.3f ms; "
		       "%llu did not come\n",
		       (double)bench_times_at(&b.times, 500) / 1e6,
		       (double)bench_times_at(&b.times, 990) / 1e6,
		       (double)bench_times_at(&b.times, 999) / 1e6, (double)b.times.max_ns / 1e6,
		       (unsigned long long)n_lost);
	else
		puts("no frame of ours came back");
	printf("CPU      %.3f us a frame, on the driver's side\n",
	       b.cpu_us / (double)max_u64(1, b.n_taken + b.n_received));
	if (b.o.verify && status == EXIT_OK)
		printf("verified %llu frames: each came back once, in order, as it was\n",
		       (unsigned long long)b.n_back);
	else if (b.greeting)
		puts("NOT verified: the back end brings nothing back");
	else if (b.o.verify)
		printf("NOT verified: %llu lost, %llu wrong, %llu failed\n",
		       (unsigned long long)n_lost, (unsigned long long)b.n_wrong,
		       (unsigned long long)b.n_failed);
}

/* 1 or 2 words used; 0: unknown; -1: a wrong value. */
static int option(struct options *o, char **argv)
{
	const char *value = argv[1];

	if (!strcmp(argv[0], "--type"))
		return 2; /* that is why we are here */
	if (!strcmp(argv[0], "--verify"))
		return o->verify = true, 1;
	if (!strcmp(argv[0], "--json"))
		return o->json = true, 1;
	if (!strcmp(argv[0], "--quiet"))
		return o->quiet = true, 1;
	if (!strcmp(argv[0], "--no-event-idx"))
		return features_set(&o->hidden, VIRTIO_F_EVENT_IDX), 1;
	if (!strcmp(argv[0], "--no-indirect"))
		return features_set(&o->hidden, VIRTIO_F_INDIRECT_DESC), 1;
	if (!strcmp(argv[0], "--no-mergeable"))
		return features_set(&o->hidden, VIRTIO_NET_F_MRG_RXBUF), 1;
	if (!strcmp(argv[0], "--depth"))
		return cli_number(value, 1, MAX_DEPTH, &o->depth) ? 2 : -1;
	if (!strcmp(argv[0], "--frame"))
		return cli_number(value, MIN_FRAME_BYTES, MAX_FRAME_BYTES, &o->frame_bytes) ? 2
											    : -1;
	if (!strcmp(argv[0], "--frames"))
		return cli_number(value, 1, UINT32_MAX, &o->n_frames) ? 2 : -1;
	if (!strcmp(argv[0], "--seconds"))
		return cli_number(value, 1, 1000000, &o->seconds) ? 2 : -1;
	if (!strcmp(argv[0], "--give-up"))
		return cli_number(value, 0, 1000000, &o->give_up_s) ? 2 : -1;
	if (!strcmp(argv[0], "--rings")) {
		o->rings = value;
		if (value && !strcmp(value, "split"))
			return features_set(&o->hidden, VIRTIO_F_RING_PACKED), 2;
		return value && !strcmp(value, "packed") ? 2 : -1;
	}
	return 0;
}

/* Frames to send, whose addresses never change, and buffers to receive. False: no memory. */
static bool prepare(void)
{
	static const u8 addresses[ETHERNET_BYTES] = {
		0x02, 'V',  'I', 'A', 'D', 2, /* to nobody, */
		0x02, 'V',  'I', 'A', 'D', 1, /* from us */
		0x88, 0xb5, /* for experiments */
	};
	const struct driver_net_info *info = driver_net_info(b.device);
	struct platform *p = b.device->platform;
	u64 addr;

	b.buffer_bytes = (u32)max_u64(2048, info->min_buffer_bytes);
	b.send_bytes = p->ops->dma_alloc(p, (size_t)b.o.depth * b.o.frame_bytes, 64, &addr);
	b.receive_bytes = p->ops->dma_alloc(p, (size_t)N_BUFFERS * b.buffer_bytes, 64, &addr);
	b.slots = calloc(b.o.depth, sizeof(*b.slots));
	if (!b.send_bytes || !b.receive_bytes || !b.slots)
		return false;
	for (u32 i = 0; i < b.o.depth; i++) {
		struct slot *s = &b.slots[i];

		s->sg = (struct span){ b.send_bytes + (size_t)i * b.o.frame_bytes,
				       b.o.frame_bytes };
		memcpy(s->sg.base, addresses, sizeof(addresses));
		s->frame.sg = &s->sg;
		s->frame.n_sg = 1;
		s->frame.done = frame_done;
		list_add_tail(&b.idle, &s->node);
	}
	for (u32 i = 0; i < N_BUFFERS; i++)
		b.buffers[i] = (struct driver_net_buffer){
			.base = b.receive_bytes + (size_t)i * b.buffer_bytes,
			.n_bytes = b.buffer_bytes,
			.next = i + 1 < N_BUFFERS ? &b.buffers[i + 1] : NULL,
		};
	return driver_net_post(b.device, 0, b.buffers) == 0;
}

static int run(void)
{
	struct clock *clock = loop_clock(b.loop);
	int status;

	if (b.o.rings && strcmp(b.o.rings, rings_text()) != 0)
		return cli_usage("bench", "%s offers no %s rings", b.o.path, b.o.rings);
	if (b.o.frame_bytes > driver_net_info(b.device)->mtu + ETHERNET_BYTES)
		return cli_usage("bench", "--frame: the card takes %u bytes at most",
				 driver_net_info(b.device)->mtu + ETHERNET_BYTES);
	if (!prepare())
		return cli_usage("bench", "no memory for %u frames of %u bytes", b.o.depth,
				 b.o.frame_bytes);
	if (!b.o.json)
		printf("%s: %s rings%s%s%s; frames of %u bytes, depth %u%s\n", b.o.path,
		       rings_text(),
		       virtio_has_feature(b.device, VIRTIO_F_EVENT_IDX) ? ", event index" : "",
		       virtio_has_feature(b.device, VIRTIO_F_INDIRECT_DESC) ? ", indirect" : "",
		       driver_net_info(b.device)->mergeable ? ", mergeable" : "", b.o.frame_bytes,
		       b.o.depth, b.o.verify ? ", verifying" : "");
	fflush(stdout);
	b.hook.run = pump;
	b.tick.fired = ticked;
	b.interrupt = (struct loop_signal){ .signo = SIGINT, .raised = interrupted };
	loop_add_hook(b.loop, &b.hook);
	loop_add_signal(b.loop, &b.interrupt);
	clock->ops->start(clock, &b.tick, clock->ops->now_ns(clock) + SECOND_NS);
	run_begin();
	b.greeting = b.o.verify;
	b.greet.fired = greet;
	if (b.greeting)
		clock->ops->start(clock, &b.greet, clock->ops->now_ns(clock) + GREETING_NS);
	pump(&b.hook); /* something is under way before the loop first sleeps */
	status = verdict(loop_run(b.loop));
	clock->ops->stop(clock, &b.tick);
	clock->ops->stop(clock, &b.greet);
	loop_remove_signal(b.loop, &b.interrupt);
	loop_remove_hook(b.loop, &b.hook);
	report(status);
	return status;
}

static void give_back(void)
{
	struct platform *p = b.device->platform;

	if (b.send_bytes)
		p->ops->dma_free(p, b.send_bytes, (size_t)b.o.depth * b.o.frame_bytes);
	if (b.receive_bytes)
		p->ops->dma_free(p, b.receive_bytes, (size_t)N_BUFFERS * b.buffer_bytes);
	free(b.slots);
}

int bench_net(int argc, char **argv)
{
	struct vhost_user_client_config config = {
		.name = "bench",
		.device_id = VIRTIO_ID_NET,
		.event = client_event,
	};
	char why[512];
	int status;

	b.o = (struct options){ .path = argv[0],
				.depth = 128,
				.frame_bytes = MIN_FRAME_BYTES,
				.seconds = 5,
				.give_up_s = 30,
				.run = bench_now_ns() };
	/*
	 * Everything is to come, so there is nothing to set. Besides, a back end may offer a control
	 * queue that only a hypervisor in front of it would serve, as DPDK's does.
	 */
	features_set(&b.o.hidden, VIRTIO_NET_F_CTRL_VQ);
	for (int i = 1, used; i < argc; i += used) {
		used = option(&b.o, argv + i);
		if (used == 0)
			return cli_usage("bench", "'%s'? See viaduct bench --help", argv[i]);
		if (used < 0)
			return cli_usage("bench", "%s does not take '%s'; see viaduct bench --help",
					 argv[i], argv[i + 1] ? argv[i + 1] : "");
	}
	list_init(&b.idle);
	host_log_start(LOG_ERROR);
	b.loop = loop_create();
	if (!b.loop)
		return cli_usage("bench", "no event loop to be had");
	config.path = b.o.path;
	config.hidden = b.o.hidden;
	config.give_up_ms = b.o.give_up_s * 1000;
	config.memory_bytes = RING_ROOM_BYTES + (u64)b.o.depth * b.o.frame_bytes +
			      (u64)N_BUFFERS * (MAX_FRAME_BYTES + 64);
	config.memory_bytes = (config.memory_bytes + 4095) & ~4095ull;
	b.client = vhost_user_client_create(b.loop, &config, why, sizeof(why));
	if (!b.client) {
		loop_destroy(b.loop);
		return cli_usage("bench", "%s", why);
	}
	b.device = vhost_user_client_device(b.client);
	register_virtio_driver(&driver_net);
	if (register_virtio_device(b.device) < 0)
		status = cli_usage("bench", "%s: our network driver cannot work with that device",
				   b.o.path);
	else
		status = run();
	unregister_virtio_device(b.device);
	unregister_virtio_driver(&driver_net);
	give_back();
	vhost_user_client_destroy(b.client);
	loop_destroy(b.loop);
	return status;
}
