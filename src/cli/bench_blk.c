/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * `viaduct bench SOCKET`: our block driver on somebody's disk, in a loop of fixed depth.
 *
 * A run is a row of phases: to measure only RUN (and FLUSH, if it wrote); to verify FILL, RUN,
 * FLUSH, CHECK. An operation that ended is put aside, and the end of the loop's turn starts the
 * next one in its place, so that what ends together is submitted together.
 *
 * Verifying: each sector says in every byte which sector it is and how often it was written.
 * What a block must read as is known at all times, because no block is under way twice.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "cli/bench.h"
#include "cli/cli.h"
#include "driver/blk.h"
#include "host/log.h"
#include "vmm/vhost_user_client.h"

#define SECTOR_BYTES 512u
#define WORDS_A_SECTOR (SECTOR_BYTES / sizeof(u64))
#define MAX_DEPTH 4096
#define MAX_BLOCK_BYTES (16u << 20)
#define RING_ROOM_BYTES (64u << 20) /* rings and indirect tables; resident only as used */
#define VERIFY_BYTES (64u << 20)
#define SECOND_NS 1000000000ull
#define STUCK_S 30u
#define FLUSH_EVERY 256 /* operations of a verifying run */
#define MAX_COMPLAINTS 10

enum op { OP_READ, OP_WRITE, OP_MIX };
enum phase { PHASE_FILL, PHASE_RUN, PHASE_FLUSH, PHASE_CHECK, PHASE_END };

struct options {
	const char *path;
	enum op op;
	bool sequential, verify, json, quiet;
	u32 depth, block_bytes, n_queues, seconds, give_up_s;
	u64 size_bytes, seed;
	const char *rings; /* NULL: as offered */
	struct features hidden;
};

/* One place of the depth. */
struct slot {
	struct driver_blk_request req;
	struct span sg;
	u64 block;
	u32 version; /* of what is written, or must be read */
	u64 begun_ns;
	struct list node;
};

static struct bench {
	struct options o;
	struct loop *loop;
	struct vhost_user_client *client;
	struct virtio_device *device;
	struct driver_blk_info info;
	u8 *buffers;
	struct slot *slots;
	struct list idle;
	u32 n_under_way;
	u64 n_blocks;
	u32 *versions; /* of each block; 0: never written */
	bool *busy;

	enum phase phase;
	u64 cursor, random, since_flush;
	u64 run_begun_ns, run_ended_ns, deadline_ns;
	double cpu_us_at_begin, cpu_us;
	u64 n_ops, n_read_bytes, n_written_bytes, n_flushes, n_checked, n_wrong, n_errors;
	bool failed; /* no more is started */
	struct bench_times times;

	struct loop_hook hook;
	struct loop_signal interrupt;
	struct clock_timer tick;
	u32 seconds_run, seconds_stuck;
	u64 ops_at_tick, done_at_tick, n_done;
	u64 gone_ns;
	u32 n_gone, n_back;
} b;

static double cpu_us(void)
{
	struct rusage r;

	getrusage(RUSAGE_SELF, &r);
	return (double)(r.ru_utime.tv_sec + r.ru_stime.tv_sec) * 1e6 +
	       (double)(r.ru_utime.tv_usec + r.ru_stime.tv_usec);
}

static u64 random_next(void)
{
	b.random ^= b.random << 13;
	b.random ^= b.random >> 7;
	b.random ^= b.random << 17;
	return b.random;
}

/* ---- what is written, and what must be read ------------------------------------------------- */

static u64 pattern_word(u64 sector, u32 version, u64 i)
{
	u64 x = b.o.seed ^ sector * 0x9e3779b97f4a7c15ull ^ version * 0xc2b2ae3d27d4eb4full ^
		i * 0x165667b19e3779f9ull;

	x ^= x >> 31;
	return x * 0xd6e8feb86659fd93ull;
}

/* The first two words say in clear what it is; the rest could not come about otherwise. */
static void pattern_fill(u64 *words, u64 sector, u32 version)
{
	words[0] = sector;
	words[1] = version;
	for (u64 i = 2; i < WORDS_A_SECTOR; i++)
		words[i] = pattern_word(sector, version, i);
}

static u64 slot_sector(const struct slot *s)
{
	return s->block * (b.o.block_bytes / SECTOR_BYTES);
}

static void slot_fill(struct slot *s)
{
	u64 *words = s->sg.base;

	for (u32 i = 0; i < b.o.block_bytes / SECTOR_BYTES; i++)
		pattern_fill(words + i * WORDS_A_SECTOR, slot_sector(s) + i, s->version);
}

static void slot_check(const struct slot *s)
{
	const u64 *words = s->sg.base;
	u64 wanted[WORDS_A_SECTOR];

	b.n_checked++;
	for (u32 i = 0; i < b.o.block_bytes / SECTOR_BYTES; i++, words += WORDS_A_SECTOR) {
		u64 sector = slot_sector(s) + i;

		pattern_fill(wanted, sector, s->version);
		if (memcmp(words, wanted, sizeof(wanted)) == 0)
			continue;
		if (b.n_wrong++ < MAX_COMPLAINTS)
			fprintf(stderr,
				"viaduct bench: sector %llu: wanted version %u, found sector %llu "
				"version %llu%s\n",
				(unsigned long long)sector, s->version,
				(unsigned long long)words[0], (unsigned long long)words[1],
				words[0] == sector && words[1] == s->version
					? " with other bytes after it"
					: "");
		b.failed = true;
	}
}

/* ---- operations ------------------------------------------------------------------------------- */

static void op_done(struct driver_blk_request *req, int err)
{
	struct slot *s = container_of(req, struct slot, req);

	b.n_under_way--;
	b.n_done++;
	list_add_tail(&b.idle, &s->node);
	if (req->op != DRIVER_BLK_FLUSH)
		b.busy[s->block] = false;
	if (err < 0) {
		if (b.n_errors++ == 0 && !b.failed)
			fprintf(stderr, "viaduct bench: %s of block %llu: %s\n",
				req->op == DRIVER_BLK_READ    ? "read"
				: req->op == DRIVER_BLK_WRITE ? "write"
							      : "flush",
				(unsigned long long)s->block, strerror(-err));
		b.failed = true;
		return;
	}
	if (req->op == DRIVER_BLK_WRITE && b.versions)
		b.versions[s->block] = s->version;
	if (req->op == DRIVER_BLK_READ && b.versions)
		slot_check(s);
	if (b.phase != PHASE_RUN)
		return;
	bench_times_add(&b.times, bench_now_ns() - s->begun_ns);
	b.n_ops++;
	b.n_flushes += req->op == DRIVER_BLK_FLUSH;
	b.n_read_bytes += req->op == DRIVER_BLK_READ ? b.o.block_bytes : 0;
	b.n_written_bytes += req->op == DRIVER_BLK_WRITE ? b.o.block_bytes : 0;
}

static u64 run_block(void)
{
	u64 block;

	do
		block = b.o.sequential ? b.cursor++ % b.n_blocks : random_next() % b.n_blocks;
	while (b.busy[block]); /* at most half of them are */
	return block;
}

/* What comes next in this phase; false: nothing. */
static bool next_op(struct slot *s)
{
	enum driver_blk_op op = DRIVER_BLK_READ;

	switch (b.phase) {
	case PHASE_FILL:
	case PHASE_CHECK:
		if (b.cursor == b.n_blocks)
			return false;
		s->block = b.cursor++;
		op = b.phase == PHASE_FILL ? DRIVER_BLK_WRITE : DRIVER_BLK_READ;
		break;
	case PHASE_RUN:
		if (bench_now_ns() >= b.deadline_ns)
			return false;
		if (b.versions && b.info.can_flush && ++b.since_flush == FLUSH_EVERY) {
			b.since_flush = 0;
			op = DRIVER_BLK_FLUSH;
			break;
		}
		s->block = run_block();
		if (b.o.op == OP_WRITE || (b.o.op == OP_MIX && random_next() >> 63))
			op = DRIVER_BLK_WRITE;
		break;
	case PHASE_FLUSH:
		if (b.cursor++ > 0 || !b.info.can_flush)
			return false;
		op = DRIVER_BLK_FLUSH;
		break;
	case PHASE_END:
		return false;
	}
	s->req.op = op;
	s->req.sector = op == DRIVER_BLK_FLUSH ? 0 : slot_sector(s);
	s->req.n_sg = op == DRIVER_BLK_FLUSH ? 0 : 1;
	s->req.queue = (s - b.slots) % b.o.n_queues;
	if (b.versions && op != DRIVER_BLK_FLUSH)
		s->version = b.versions[s->block] + (op == DRIVER_BLK_WRITE);
	if (b.versions && op == DRIVER_BLK_WRITE)
		slot_fill(s);
	if (b.versions && op == DRIVER_BLK_READ)
		memset(s->sg.base, 0xee, b.o.block_bytes); /* what is not read is not right */
	if (op != DRIVER_BLK_FLUSH)
		b.busy[s->block] = true;
	return true;
}

static void phase_begin(enum phase phase)
{
	b.phase = phase;
	b.cursor = 0;
	if (phase == PHASE_RUN) {
		b.run_begun_ns = bench_now_ns();
		b.deadline_ns = b.run_begun_ns + b.o.seconds * SECOND_NS;
		b.cpu_us_at_begin = cpu_us();
	}
	if (phase == PHASE_END || b.failed) {
		b.phase = PHASE_END;
		loop_stop(b.loop, b.failed ? EXIT_FAILED : EXIT_OK);
	}
}

static void phase_end(void)
{
	static const enum phase next[] = { [PHASE_FILL] = PHASE_RUN,
					   [PHASE_RUN] = PHASE_FLUSH,
					   [PHASE_FLUSH] = PHASE_CHECK,
					   [PHASE_CHECK] = PHASE_END };

	if (b.phase == PHASE_RUN) {
		b.run_ended_ns = bench_now_ns();
		b.cpu_us = cpu_us() - b.cpu_us_at_begin;
	}
	if (b.phase == PHASE_RUN && b.o.op == OP_READ)
		phase_begin(PHASE_END);
	else if (b.phase == PHASE_FLUSH && !b.versions)
		phase_begin(PHASE_END);
	else
		phase_begin(next[b.phase]);
}

static void pump(struct loop_hook *hook)
{
	struct list *node;

	while (b.phase != PHASE_END) {
		int err;

		while (!b.failed && (node = list_pop(&b.idle))) {
			struct slot *s = container_of(node, struct slot, node);

			if (!next_op(s)) {
				list_add_tail(&b.idle, node);
				break;
			}
			s->begun_ns = bench_now_ns();
			b.n_under_way++;
			err = driver_blk_submit(b.device, &s->req);
			if (err < 0)
				op_done(&s->req, err);
		}
		if (b.n_under_way > 0)
			return;
		phase_end();
	}
}

/* ---- what the outside does -------------------------------------------------------------------- */

static void client_event(void *arg, enum vhost_user_client_event event)
{
	switch (event) {
	case VHOST_USER_CLIENT_GONE:
		b.n_gone++;
		b.gone_ns = bench_now_ns();
		fprintf(stderr, "viaduct bench: the back end is gone; waiting for it\n");
		break;
	case VHOST_USER_CLIENT_BACK:
		b.n_back++;
		b.seconds_stuck = 0;
		fprintf(stderr, "viaduct bench: it is back after %.2f s\n",
			(double)(bench_now_ns() - b.gone_ns) / 1e9);
		break;
	case VHOST_USER_CLIENT_GAVE_UP:
		fprintf(stderr, "viaduct bench: it did not come back within %u s\n", b.o.give_up_s);
		b.failed = true;
		b.phase = PHASE_END;
		loop_stop(b.loop, EXIT_FAILED);
		break;
	}
}

static void interrupted(struct loop_signal *s)
{
	b.failed = true;
	b.phase = PHASE_END;
	loop_stop(b.loop, EXIT_FAILED);
}

static void ticked(struct clock_timer *t)
{
	static const char *const names[] = { "filling", "running", "flushing", "checking", "" };
	struct clock *clock = loop_clock(b.loop);
	u64 n = b.n_done - b.done_at_tick;

	b.done_at_tick = b.n_done;
	b.seconds_run++;
	if (!b.o.quiet)
		fprintf(stderr, "%4u s  %-9s %9llu operations/s %9.1f MB/s  p99 %.3f ms\n",
			b.seconds_run, names[b.phase], (unsigned long long)n,
			(double)n * b.o.block_bytes / 1e6,
			(double)bench_times_at(&b.times, 990) / 1e6);
	b.seconds_stuck = n > 0 || b.n_gone != b.n_back ? 0 : b.seconds_stuck + 1;
	if (b.seconds_stuck == STUCK_S) {
		fprintf(stderr, "viaduct bench: nothing has ended for %u s\n", STUCK_S);
		b.failed = true;
		b.phase = PHASE_END;
		loop_stop(b.loop, EXIT_FAILED);
		return;
	}
	clock->ops->start(clock, t,
			  t->deadline_ns ? t->deadline_ns + SECOND_NS
					 : clock->ops->now_ns(clock) + SECOND_NS);
}

/* ---- before and after --------------------------------------------------------------------------- */

static const char *rings_text(void)
{
	return virtio_has_feature(b.device, VIRTIO_F_RING_PACKED) ? "packed" : "split";
}

static const char *op_text(void)
{
	static const char *const names[] = { "read", "write", "mix" };

	return b.o.verify ? "verify" : names[b.o.op];
}

static void report(int status)
{
	double s = (double)(b.run_ended_ns - b.run_begun_ns) / 1e9;
	double n = b.n_ops ? (double)b.n_ops : 1;
	double bytes = (double)(b.n_read_bytes + b.n_written_bytes);
	const double ms = 1e-6;

	if (b.run_ended_ns == 0)
		s = 0;
	if (b.o.json) {
		printf("{\"op\":\"%s\",\"order\":\"%s\",\"rings\":\"%s\",\"event_idx\":%s,"
		       "\"indirect\":%s,\"block_bytes\":%u,\"depth\":%u,\"queues\":%u,"
		       "\"seed\":%llu,\"seconds\":%.3f,\"operations\":%llu,\"iops\":%.0f,"
		       "\"mb_per_s\":%.1f,\"p50_us\":%.1f,\"p99_us\":%.1f,\"p999_us\":%.1f,"
		       "\"max_us\":%.1f,\"cpu_us_per_op\":%.2f,\"flushes\":%llu,"
		       "\"blocks_checked\":%llu,\"sectors_wrong\":%llu,\"errors\":%llu,"
		       "\"times_gone\":%u,\"times_back\":%u,\"ok\":%s}\n",
		       op_text(), b.o.sequential ? "sequential" : "random", rings_text(),
		       virtio_has_feature(b.device, VIRTIO_F_EVENT_IDX) ? "true" : "false",
		       virtio_has_feature(b.device, VIRTIO_F_INDIRECT_DESC) ? "true" : "false",
		       b.o.block_bytes, b.o.depth, b.o.n_queues, (unsigned long long)b.o.seed, s,
		       (unsigned long long)b.n_ops, s > 0 ? n / s : 0, s > 0 ? bytes / s / 1e6 : 0,
		       (double)bench_times_at(&b.times, 500) * 1e-3,
		       (double)bench_times_at(&b.times, 990) * 1e-3,
		       (double)bench_times_at(&b.times, 999) * 1e-3, (double)b.times.max_ns * 1e-3,
		       b.cpu_us / n, (unsigned long long)b.n_flushes,
		       (unsigned long long)b.n_checked, (unsigned long long)b.n_wrong,
		       (unsigned long long)b.n_errors, b.n_gone, b.n_back,
		       status == EXIT_OK ? "true" : "false");
		return;
	}
	if (b.n_ops > 0 && s > 0) {
		printf("%llu operations in %.1f s: %.0f IOPS, %.1f MB/s\n",
		       (unsigned long long)b.n_ops, s, n / s, bytes / s / 1e6);
		printf("latency  p50 %.3f ms, p99 %.3f ms, p99.9 %.3f ms, longest %.3f ms\n",
		       (double)bench_times_at(&b.times, 500) * ms,
		       (double)bench_times_at(&b.times, 990) * ms,
		       (double)bench_times_at(&b.times, 999) * ms, (double)b.times.max_ns * ms);
		printf("CPU      %.2f us an operation, on the driver's side\n", b.cpu_us / n);
	}
	if (b.o.verify && status == EXIT_OK)
		printf("verified %llu blocks read, %llu flushes: all as written%s\n",
		       (unsigned long long)b.n_checked, (unsigned long long)b.n_flushes,
		       b.n_back ? ", though the back end was away" : "");
	else if (b.o.verify)
		printf("NOT verified: %llu sectors wrong, %llu errors (seed %llu)\n",
		       (unsigned long long)b.n_wrong, (unsigned long long)b.n_errors,
		       (unsigned long long)b.o.seed);
}

/* 1 or 2 words used; 0: unknown; -1: a wrong value. */
static int option(struct options *o, char **argv)
{
	const char *value = argv[1];
	u32 seed;

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
	if (!strcmp(argv[0], "--depth"))
		return cli_number(value, 1, MAX_DEPTH, &o->depth) ? 2 : -1;
	if (!strcmp(argv[0], "--block"))
		return cli_number(value, SECTOR_BYTES, MAX_BLOCK_BYTES, &o->block_bytes) &&
				       o->block_bytes % SECTOR_BYTES == 0
			       ? 2
			       : -1;
	if (!strcmp(argv[0], "--queues"))
		return cli_number(value, 1, DRIVER_BLK_MAX_QUEUES, &o->n_queues) ? 2 : -1;
	if (!strcmp(argv[0], "--seconds"))
		return cli_number(value, 1, 1000000, &o->seconds) ? 2 : -1;
	if (!strcmp(argv[0], "--give-up"))
		return cli_number(value, 0, 1000000, &o->give_up_s) ? 2 : -1;
	if (!strcmp(argv[0], "--size"))
		return value && cli_size(value, &o->size_bytes) && o->size_bytes > 0 ? 2 : -1;
	if (!strcmp(argv[0], "--seed")) {
		if (!cli_number(value, 1, UINT32_MAX, &seed))
			return -1;
		o->seed = seed;
		return 2;
	}
	if (!strcmp(argv[0], "--op")) {
		if (value && !strcmp(value, "read"))
			return o->op = OP_READ, 2;
		if (value && !strcmp(value, "write"))
			return o->op = OP_WRITE, 2;
		return value && !strcmp(value, "mix") ? (o->op = OP_MIX, 2) : -1;
	}
	if (!strcmp(argv[0], "--order")) {
		o->sequential = value && !strcmp(value, "sequential");
		return value && (o->sequential || !strcmp(value, "random")) ? 2 : -1;
	}
	if (!strcmp(argv[0], "--rings")) {
		o->rings = value;
		if (value && !strcmp(value, "split"))
			return features_set(&o->hidden, VIRTIO_F_RING_PACKED), 2;
		return value && !strcmp(value, "packed") ? 2 : -1;
	}
	return 0;
}

/* What the options and the disk make of each other. EXIT_OK, or said why not. */
static int plan(void)
{
	u64 disk_bytes = b.info.n_sectors * SECTOR_BYTES;

	if (b.o.rings && strcmp(b.o.rings, rings_text()) != 0)
		return cli_usage("bench", "%s offers no %s rings", b.o.path, b.o.rings);
	if ((b.o.verify || b.o.op != OP_READ) && b.info.read_only)
		return cli_usage("bench", "%s is read-only; --op read is all it takes", b.o.path);
	if (b.o.block_bytes % b.info.block_bytes)
		return cli_usage("bench",
				 "--block: the disk has blocks of %u bytes; name a multiple",
				 b.info.block_bytes);
	if (b.o.n_queues == 0)
		b.o.n_queues = b.info.n_queues;
	if (b.o.n_queues > b.info.n_queues)
		return cli_usage("bench", "--queues: the disk has %u", b.info.n_queues);
	if (b.o.size_bytes == 0)
		b.o.size_bytes = b.o.verify ? VERIFY_BYTES : disk_bytes;
	b.n_blocks = min_u64(b.o.size_bytes, disk_bytes) / b.o.block_bytes;
	if (b.n_blocks < 2 * (u64)b.o.depth)
		return cli_usage("bench",
				 "%llu blocks of %u bytes are too few for a depth of %u; lower "
				 "--block or --depth",
				 (unsigned long long)b.n_blocks, b.o.block_bytes, b.o.depth);
	return EXIT_OK;
}

/* Buffers, slots and books; false: no memory. */
static bool prepare(void)
{
	struct platform *p = b.device->platform;
	u64 addr;

	b.buffers = p->ops->dma_alloc(p, (size_t)b.o.depth * b.o.block_bytes, 4096, &addr);
	b.slots = calloc(b.o.depth, sizeof(*b.slots));
	b.busy = calloc(b.n_blocks, sizeof(*b.busy));
	if (b.o.verify)
		b.versions = calloc(b.n_blocks, sizeof(*b.versions));
	if (!b.buffers || !b.slots || !b.busy || (b.o.verify && !b.versions))
		return false;
	for (u32 i = 0; i < b.o.depth; i++) {
		struct slot *s = &b.slots[i];

		s->sg = (struct span){ b.buffers + (size_t)i * b.o.block_bytes, b.o.block_bytes };
		s->req.sg = &s->sg;
		s->req.done = op_done;
		list_add_tail(&b.idle, &s->node);
	}
	return true;
}

static int run(void)
{
	struct clock *clock = loop_clock(b.loop);
	int status = EXIT_FAILED;

	if (!prepare())
		return cli_usage("bench", "no memory for %u operations of %u bytes on %llu blocks",
				 b.o.depth, b.o.block_bytes, (unsigned long long)b.n_blocks);
	if (!b.o.json)
		printf("%s: %.1f MiB, %s rings%s%s; %s, %s, %u bytes, depth %u, %u queue%s, seed "
		       "%llu\n",
		       b.o.path, (double)b.info.n_sectors / 2048, rings_text(),
		       virtio_has_feature(b.device, VIRTIO_F_EVENT_IDX) ? ", event index" : "",
		       virtio_has_feature(b.device, VIRTIO_F_INDIRECT_DESC) ? ", indirect" : "",
		       op_text(), b.o.sequential ? "sequential" : "random", b.o.block_bytes,
		       b.o.depth, b.o.n_queues, b.o.n_queues == 1 ? "" : "s",
		       (unsigned long long)b.o.seed);
	fflush(stdout);
	b.random = b.o.seed;
	b.hook.run = pump;
	b.tick.fired = ticked;
	b.interrupt = (struct loop_signal){ .signo = SIGINT, .raised = interrupted };
	loop_add_hook(b.loop, &b.hook);
	loop_add_signal(b.loop, &b.interrupt);
	clock->ops->start(clock, &b.tick, clock->ops->now_ns(clock) + SECOND_NS);
	phase_begin(b.versions ? PHASE_FILL : PHASE_RUN);
	pump(&b.hook); /* something is under way before the loop first sleeps */
	status = loop_run(b.loop);
	clock->ops->stop(clock, &b.tick);
	loop_remove_signal(b.loop, &b.interrupt);
	loop_remove_hook(b.loop, &b.hook);
	return status;
}

int bench_blk(int argc, char **argv)
{
	struct vhost_user_client_config config = {
		.name = "bench",
		.device_id = VIRTIO_ID_BLOCK,
		.event = client_event,
	};
	char why[512];
	int status = EXIT_FAILED;

	b.o = (struct options){ .path = argv[0],
				.depth = 32,
				.block_bytes = 4096,
				.seconds = 5,
				.give_up_s = 30,
				.seed = bench_now_ns() & UINT32_MAX };
	for (int i = 1, used; i < argc; i += used) {
		used = option(&b.o, argv + i);
		if (used == 0)
			return cli_usage("bench", "'%s'? See viaduct bench --help", argv[i]);
		if (used < 0)
			return cli_usage("bench", "%s does not take '%s'; see viaduct bench --help",
					 argv[i], argv[i + 1] ? argv[i + 1] : "");
	}
	if (b.o.verify)
		b.o.op = OP_MIX;
	list_init(&b.idle);
	host_log_start(LOG_ERROR);
	b.loop = loop_create();
	if (!b.loop)
		return cli_usage("bench", "no event loop to be had");
	config.path = b.o.path;
	config.hidden = b.o.hidden;
	config.give_up_ms = b.o.give_up_s * 1000;
	config.memory_bytes = RING_ROOM_BYTES + (u64)b.o.depth * (b.o.block_bytes + 4096u);
	config.memory_bytes = (config.memory_bytes + 4095) & ~4095ull;
	b.client = vhost_user_client_create(b.loop, &config, why, sizeof(why));
	if (!b.client) {
		loop_destroy(b.loop);
		return cli_usage("bench", "%s", why);
	}
	b.device = vhost_user_client_device(b.client);
	register_virtio_driver(&driver_blk);
	if (!cli_is_blk(vhost_user_client_front(b.client)->features_offered)) {
		status = cli_usage("bench",
				   "%s is no block device; --type net if it is a network card, "
				   "see viaduct probe",
				   b.o.path);
	} else if (register_virtio_device(b.device) < 0) {
		status = cli_usage("bench", "%s: our block driver cannot work with that device",
				   b.o.path);
		unregister_virtio_device(b.device);
	} else {
		b.info = *driver_blk_info(b.device);
		status = plan();
		if (status == EXIT_OK) {
			status = run();
			report(status);
		}
		unregister_virtio_device(b.device);
	}
	unregister_virtio_driver(&driver_blk);
	if (b.buffers)
		b.device->platform->ops->dma_free(b.device->platform, b.buffers,
						  (size_t)b.o.depth * b.o.block_bytes);
	vhost_user_client_destroy(b.client);
	loop_destroy(b.loop);
	free(b.slots);
	free(b.busy);
	free(b.versions);
	return status;
}
