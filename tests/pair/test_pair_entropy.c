/* SPDX-License-Identifier: BSD-3-Clause */
/* The entropy driver against the entropy device, on every transport and kind of ring. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "device/entropy.h"
#include "driver/entropy.h"
#include "tests/pair/pair.h"
#include "tests/support/rig.h"

#define SECOND_NS 1000000000ull

static u64 seed;

static struct bench {
	struct randomness randomness;
	u64 n_filled; /* byte i of the source is i modulo 251 */
	bool fails;
	struct clock clock;
	u64 now_ns;
	struct clock_timer *timer;
	struct vdev *back;
	void *mem;
	struct pair pair;
} b;

static int fill(struct randomness *r, void *bytes, size_t n)
{
	if (b.fails)
		return -EIO;
	for (size_t i = 0; i < n; i++)
		((u8 *)bytes)[i] = b.n_filled++ % 251;
	return 0;
}

static u64 now(struct clock *c)
{
	return b.now_ns;
}

static void timer_start(struct clock *c, struct clock_timer *t, u64 deadline_ns)
{
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

/* Time passes for the device while the driver waits. */
static bool world(void *arg)
{
	struct clock_timer *t = b.timer;

	if (!t)
		return false;
	b.now_ns = max_u64(b.now_ns, t->deadline_ns);
	b.timer = NULL;
	t->deadline_ns = 0;
	t->fired(t);
	return true;
}

static void start(unsigned int combination, u32 max_bytes, u32 rate_bytes)
{
	struct pair_options options = pair_combination(combination);
	struct device_entropy_config config = {
		.name = "rng",
		.randomness = &b.randomness,
		.clock = &b.clock,
		.queue_size = 8,
		.max_bytes = max_bytes,
		.rate_bytes = rate_bytes,
	};

	memset(&b, 0, sizeof(b));
	b.randomness.ops = &randomness_ops;
	b.clock.ops = &clock_ops;
	b.mem = aligned_alloc(16, (device_entropy_bytes(&config) + 15) & ~(size_t)15);
	assert_non_null(b.mem);
	b.back = device_entropy_init(b.mem, &config);
	assert_int_equal(register_virtio_driver(&driver_entropy), 0);
	pair_start(&b.pair, &options, b.back, seed + combination);
	b.pair.world = world;
}

static void stop(void)
{
	pair_stop(&b.pair);
	unregister_virtio_driver(&driver_entropy);
	free(b.mem);
}

/* Reads `n` bytes, in calls of any size; returns how many calls it took. */
static u32 read_all(u8 *bytes, u32 n, u64 *rng)
{
	u32 n_calls = 0;

	for (u32 at = 0; at < n; n_calls++) {
		u32 most = min_u64(n - at, 1 + rig_random(rng) % 400);
		int got = driver_entropy_read(b.pair.front, bytes + at, most, SECOND_NS);

		assert_in_range(got, 1, most);
		at += got;
	}
	return n_calls;
}

static void entropy_pair_every_byte_comes_once_and_in_order(void **state)
{
	static u8 bytes[20000];

	for (unsigned int i = 0; i < pair_n_combinations(); i++) {
		u64 rng = seed + i;
		u32 n_calls;

		start(i, 100, 0);
		n_calls = read_all(bytes, sizeof(bytes), &rng);
		for (u32 at = 0; at < sizeof(bytes); at++)
			assert_int_equal(bytes[at], at % 251);
		print_message("  %s: %zu bytes in %u calls\n", pair_describe(&b.pair.options),
			      sizeof(bytes), n_calls);
		stop();
	}
}

static void entropy_pair_limited_rate_is_waited_for(void **state)
{
	static u8 bytes[5000];

	for (unsigned int i = 0; i < pair_n_combinations(); i++) {
		u64 rng = seed + i;

		start(i, 64, 1000);
		read_all(bytes, sizeof(bytes), &rng);
		assert_true(b.now_ns > 4 * SECOND_NS); /* the device's clock */
		assert_true(device_entropy_stats(b.back)->n_waits > 0);
		stop();
	}
}

static void entropy_pair_impatient_caller_gets_eagain_then_bytes(void **state)
{
	u8 bytes[16];

	for (unsigned int i = 0; i < pair_n_combinations(); i++) {
		start(i, 64, 0);
		assert_int_equal(driver_entropy_read(b.pair.front, bytes, 16, 0), -EAGAIN);
		pair_settle(&b.pair);
		assert_int_equal(driver_entropy_read(b.pair.front, bytes, 16, 0), 16);
		assert_int_equal(bytes[15], 15);
		stop();
	}
}

static void entropy_pair_source_failing_times_out_and_recovers(void **state)
{
	u8 bytes[16];

	for (unsigned int i = 0; i < pair_n_combinations(); i++) {
		start(i, 64, 0);
		b.pair.world = NULL; /* no time passes for the device, which waits to try again */
		b.fails = true;
		assert_int_equal(driver_entropy_read(b.pair.front, bytes, 16, SECOND_NS), -EAGAIN);
		b.fails = false;
		b.pair.world = world;
		assert_int_equal(driver_entropy_read(b.pair.front, bytes, 16, SECOND_NS), 16);
		stop();
	}
}

static void entropy_pair_breaking_and_leaving_is_survived(void **state)
{
	u8 bytes[16];

	for (unsigned int i = 0; i < pair_n_combinations(); i++) {
		const struct pair_transport *t;

		start(i, 64, 0);
		t = b.pair.options.transport;
		for (u32 n = 0; n < 5; n++) {
			vdev_break(b.back, 0, "the test breaks it");
			pair_settle(&b.pair);
			assert_int_equal(driver_entropy_read(b.pair.front, bytes, 16, SECOND_NS),
					 16);
			t->cut(&b.pair);
			assert_int_equal(driver_entropy_read(b.pair.front, bytes, 16, SECOND_NS),
					 -ENODEV);
			assert_int_equal(t->join(&b.pair), 0);
			assert_int_equal(driver_entropy_read(b.pair.front, bytes, 16, SECOND_NS),
					 16);
		}
		assert_int_equal(b.pair.front->n_recoveries, 10);
		stop();
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(entropy_pair_every_byte_comes_once_and_in_order),
		cmocka_unit_test(entropy_pair_limited_rate_is_waited_for),
		cmocka_unit_test(entropy_pair_impatient_caller_gets_eagain_then_bytes),
		cmocka_unit_test(entropy_pair_source_failing_times_out_and_recovers),
		cmocka_unit_test(entropy_pair_breaking_and_leaving_is_survived),
	};

	seed = rig_seed();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
