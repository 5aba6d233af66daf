/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The entropy device, with a source that counts and a clock that stands still until a test moves
 * it. Everything runs on each of the eight kinds of ring.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "device/entropy.h"
#include "tests/support/rig.h"

#define SECOND_NS 1000000000ull

static struct bench {
	struct device_entropy_config config;
	struct randomness randomness;
	int fails; /* 0 or -errno */
	u64 fails_after; /* bytes that come before that */
	u64 n_filled;
	struct clock clock;
	u64 now_ns;
	struct clock_timer *timer; /* running */
	struct vdev *vdev;
	void *mem;
	struct rig rig;
} b;

static unsigned int combination;
static u64 seed;

/* Never zero, so that what was filled can be told from what was not. */
static int fill(struct randomness *r, void *bytes, size_t n)
{
	if (b.fails && n > b.fails_after)
		return b.fails;
	b.fails_after -= b.fails ? n : 0;
	for (size_t i = 0; i < n; i++)
		((u8 *)bytes)[i] = (u8)(1 + (b.n_filled + i) % 255);
	b.n_filled += n;
	return 0;
}

static u64 now(struct clock *c)
{
	return b.now_ns;
}

static void timer_start(struct clock *c, struct clock_timer *t, u64 deadline_ns)
{
	assert_true(deadline_ns > 0);
	t->deadline_ns = deadline_ns;
	b.timer = t;
}

static void timer_stop(struct clock *c, struct clock_timer *t)
{
	t->deadline_ns = 0;
	b.timer = NULL;
}

static const struct randomness_ops randomness_ops = { fill };
static const struct clock_ops clock_ops = { now, timer_start, timer_stop };

static void pass(u64 ns)
{
	u64 end = b.now_ns + ns;

	while (b.timer && b.timer->deadline_ns <= end) {
		struct clock_timer *t = b.timer;

		b.now_ns = max_u64(b.now_ns, t->deadline_ns);
		b.timer = NULL;
		t->deadline_ns = 0;
		t->fired(t);
	}
	b.now_ns = end;
}

static void open_bench(u32 max_bytes, u32 rate_bytes, u32 burst_bytes)
{
	struct rig_options options = rig_combination(combination);

	memset(&b, 0, sizeof(b));
	b.randomness.ops = &randomness_ops;
	b.clock.ops = &clock_ops;
	b.now_ns = 12345;
	b.config = (struct device_entropy_config){
		.name = "entropy",
		.randomness = &b.randomness,
		.clock = &b.clock,
		.queue_size = 64,
		.max_bytes = max_bytes,
		.rate_bytes = rate_bytes,
		.burst_bytes = burst_bytes,
	};
	b.mem = aligned_alloc(64, (device_entropy_bytes(&b.config) + 63) & ~(size_t)63);
	memset(b.mem, 0xcc, device_entropy_bytes(&b.config));
	b.vdev = device_entropy_init(b.mem, &b.config);
	rig_start(&b.rig, b.vdev, &options, NULL);
}

static void close_bench(void)
{
	rig_stop(&b.rig);
	assert_null(b.timer); /* nothing may come after a reset */
	free(b.mem);
}

static u8 *ask(size_t n)
{
	u8 *room = rig_alloc(&b.rig, n);

	rig_submit(&b.rig, 0, &(struct span){ room, n }, 0, 1, room);
	return room;
}

static void assert_filled(const u8 *room, u32 want, size_t n)
{
	u32 n_written;

	assert_ptr_equal(rig_reap(&b.rig, 0, &n_written), room);
	assert_int_equal(n_written, want);
	for (size_t i = 0; i < n; i++)
		assert_true((room[i] != 0) == (i < want));
}

static void assert_waiting(void)
{
	u32 n;

	assert_null(rig_reap(&b.rig, 0, &n));
	assert_non_null(b.timer);
}

static void request_is_filled_to_the_last_byte(void **state)
{
	open_bench(0, 0, 0);
	for (size_t n = 1; n <= 4096; n = n * 3 / 2 + 1)
		assert_filled(ask(n), (u32)n, n);
	assert_int_equal(device_entropy_stats(b.vdev)->n_bytes, b.n_filled);
	close_bench();
}

static void request_in_pieces_is_filled_in_order(void **state)
{
	u8 *room;
	struct span sg[64];

	open_bench(100, 0, 0);
	room = rig_alloc(&b.rig, 192);
	for (u32 i = 0; i < 64; i++)
		sg[i] = (struct span){ room + 3 * i, 3 };
	rig_submit(&b.rig, 0, sg, 0, 64, room);
	assert_filled(room, 100, 192);
	close_bench();
}

static void hostile_G33_request_of_gigabytes_is_capped(void **state)
{
	struct span sg[64];
	u8 *room;
	u32 n_written;

	open_bench(0, 0, 0);
	/* The same 30 MiB again and again, for as many pieces as the device takes. */
	room = rig_alloc(&b.rig, 30 << 20);
	for (u32 i = 0; i < 64; i++)
		sg[i] = (struct span){ room, 30 << 20 };
	rig_submit(&b.rig, 0, sg, 0, 64, sg);
	assert_ptr_equal(rig_reap(&b.rig, 0, &n_written), sg);
	assert_int_equal(n_written, 4096);
	assert_int_equal(b.n_filled, 4096);
	close_bench();
}

static void hostile_G33_queue_full_of_huge_requests_costs_its_caps(void **state)
{
	u32 n_written, n = 0;

	open_bench(1024, 0, 0);
	b.rig.deaf = true;
	while (b.rig.vq[0].n_free > 0)
		ask(300000);
	vdev_kick(b.vdev, 0);
	while (rig_reap(&b.rig, 0, &n_written)) {
		assert_int_equal(n_written, 1024);
		n++;
	}
	assert_int_equal(n, 64);
	assert_int_equal(b.n_filled, 64 * 1024);
	close_bench();
}

static void request_without_room_comes_back_empty(void **state)
{
	u8 *out;
	u32 n_written;

	open_bench(0, 1, 1);
	out = rig_alloc(&b.rig, 16);
	rig_submit(&b.rig, 0, &(struct span){ out, 16 }, 1, 0, out);
	assert_ptr_equal(rig_reap(&b.rig, 0, &n_written), out);
	assert_int_equal(n_written, 0);
	assert_int_equal(b.n_filled, 0);
	close_bench();
}

static void rate_limit_keeps_requests_waiting_until_the_very_nanosecond(void **state)
{
	u8 *first, *second;

	open_bench(100, 1000, 200);
	assert_filled(ask(100), 100, 100);
	assert_filled(ask(100), 100, 100); /* the burst */
	first = ask(50);
	second = ask(100);
	assert_waiting();
	vdev_kick(b.vdev, 0); /* asking again does not help */
	assert_waiting();
	pass(SECOND_NS / 20 - 1);
	assert_waiting();
	pass(1);
	assert_filled(first, 50, 50);
	assert_waiting();
	pass(SECOND_NS / 10 - 1);
	assert_waiting();
	pass(1);
	assert_filled(second, 100, 100);
	assert_null(b.timer); /* idle is idle */
	assert_int_equal(device_entropy_stats(b.vdev)->n_waits, 2);

	pass(3600 * SECOND_NS);
	assert_filled(ask(100), 100, 100);
	assert_filled(ask(100), 100, 100);
	ask(1);
	assert_waiting(); /* an hour saves up no more than the burst */
	close_bench();
}

static void burst_smaller_than_the_cap_still_serves(void **state)
{
	u8 *room;

	open_bench(4096, 10, 8);
	assert_filled(ask(4096), 8, 4096);
	room = ask(4096);
	pass(SECOND_NS * 8 / 10);
	assert_filled(room, 8, 4096);
	close_bench();
}

/* Without the 128 bits that the plain product would take. */
static u64 tokens_in(u64 ns, u64 rate)
{
	return ns / SECOND_NS * rate + ns % SECOND_NS * rate / SECOND_NS;
}

/* However a guest asks, over any time, it gets no more than burst + rate * time; and it gets that. */
static void rate_at_random_is_kept_to_the_byte(void **state)
{
	static const u32 rates[] = { 1, 7, 1000, 333333333, 1000000000, UINT32_MAX };
	u64 rng = seed;

	for (u32 i = 0; i < ARRAY_SIZE(rates); i++) {
		u32 rate = rates[i], burst = 1 + rig_random(&rng) % 5000;
		u64 began;
		u32 n_written;

		open_bench(4096, rate, burst);
		began = b.now_ns;
		for (u32 round = 0; round < 500; round++) {
			while (b.rig.vq[0].n_free > 0 && rig_random(&rng) % 4)
				ask(1 + rig_random(&rng) % 200);
			pass(rig_random(&rng) % (200 * SECOND_NS / rate + 100));
			while (rig_reap(&b.rig, 0, &n_written))
				;
			assert_true(b.n_filled <= burst + tokens_in(b.now_ns - began, rate));
		}
		/* All that is still asked for comes in the end, one full bucket after the other. */
		pass(64 * (5000 * SECOND_NS / rate + 1));
		while (rig_reap(&b.rig, 0, &n_written))
			assert_true(n_written > 0);
		assert_null(b.timer);
		assert_int_equal(b.rig.vq[0].n_in_flight, 0);
		close_bench();
	}
}

static void hostile_G19_reset_while_waiting_stops_the_timer_and_buys_nothing(void **state)
{
	u64 filled;

	open_bench(100, 100, 100);
	assert_filled(ask(100), 100, 100);
	for (u32 i = 0; i < 20; i++) {
		ask(100);
		assert_waiting();
		assert_int_equal(rig_reset(&b.rig), 1);
		assert_null(b.timer);
		filled = b.n_filled;
		assert_int_equal(filled, 100);
		rig_restart(&b.rig, NULL);
	}
	close_bench();
}

static void source_that_fails_keeps_the_request_waiting(void **state)
{
	u8 *room;

	open_bench(100, 1000, 100);
	b.fails = -EAGAIN;
	room = ask(100);
	assert_waiting();
	pass(10 * SECOND_NS);
	assert_waiting();
	assert_true(device_entropy_stats(b.vdev)->n_failures >= 99);
	assert_true(device_entropy_stats(b.vdev)->n_failures <= 101); /* tried at leisure */
	b.fails = 0;
	pass(SECOND_NS / 10);
	assert_filled(room, 100, 100);
	close_bench();
}

static void source_that_fails_in_between_gives_what_there_is(void **state)
{
	u8 *room;
	struct span sg[2];

	open_bench(100, 0, 0);
	b.fails = -EIO;
	b.fails_after = 30;
	room = rig_alloc(&b.rig, 60);
	sg[0] = (struct span){ room, 30 };
	sg[1] = (struct span){ room + 30, 30 };
	rig_submit(&b.rig, 0, sg, 0, 2, room);
	assert_filled(room, 30, 60);
	close_bench();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(request_is_filled_to_the_last_byte),
		cmocka_unit_test(request_in_pieces_is_filled_in_order),
		cmocka_unit_test(hostile_G33_request_of_gigabytes_is_capped),
		cmocka_unit_test(hostile_G33_queue_full_of_huge_requests_costs_its_caps),
		cmocka_unit_test(request_without_room_comes_back_empty),
		cmocka_unit_test(rate_limit_keeps_requests_waiting_until_the_very_nanosecond),
		cmocka_unit_test(burst_smaller_than_the_cap_still_serves),
		cmocka_unit_test(rate_at_random_is_kept_to_the_byte),
		cmocka_unit_test(hostile_G19_reset_while_waiting_stops_the_timer_and_buys_nothing),
		cmocka_unit_test(source_that_fails_keeps_the_request_waiting),
		cmocka_unit_test(source_that_fails_in_between_gives_what_there_is),
	};
	int failed = 0;

	seed = rig_seed();
	for (combination = 0; combination < 8; combination++) {
		struct rig_options options = rig_combination(combination);

		failed += cmocka_run_group_tests_name(rig_describe(&options), tests, NULL, NULL);
	}
	return failed;
}
