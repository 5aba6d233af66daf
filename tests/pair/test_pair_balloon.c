/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The balloon driver against the balloon device, on every transport and kind of ring. Memory
 * that the host takes is overwritten: a page that its owner uses must never be among it.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "device/balloon.h"
#include "driver/balloon.h"
#include "tests/pair/pair.h"
#include "tests/support/rig.h"

#define N_PAGES 1024
#define PAGE 4096
#define IN_USE 0x5a
#define OVERWRITTEN 0

static u64 seed;

static struct bench {
	struct vdev *back;
	void *mem;
	struct pages pages;
	struct clock clock;
	u64 now_ns;
	struct clock_timer *timers[4];
	u64 released, hinted;
	u32 n_stats, n_hints_ended, actual;

	struct driver_balloon driver;
	u32 pfns[N_PAGES];
	u8 *memory; /* the owner's pages */
	bool away[N_PAGES]; /* taken, reported or hinted */
	u32 n_away, n_reported, hint_at, n_hints_done;
	struct pair pair;
	u64 rng;
} b;

/* ---- the host ---------------------------------------------------------------------------- */

static void assert_away(struct span bytes)
{
	size_t at = (u8 *)bytes.base - b.memory;

	assert_true(at % PAGE == 0 && at < N_PAGES * PAGE && bytes.n_bytes <= N_PAGES * PAGE - at);
	for (size_t i = 0; i < bytes.n_bytes; i += PAGE)
		assert_true(b.away[(at + i) / PAGE]);
}

static int release(struct pages *p, struct span bytes)
{
	/* Over vhost-user the device has a mapping of its own: there only the sizes can be told. */
	if ((u8 *)bytes.base >= b.memory && (u8 *)bytes.base < b.memory + N_PAGES * PAGE)
		assert_away(bytes);
	memset(bytes.base, OVERWRITTEN, bytes.n_bytes);
	b.released += bytes.n_bytes;
	return 0;
}

static void expect(struct pages *p, struct span bytes)
{
}

static const struct pages_ops pages_ops = { release, expect };

static u64 now(struct clock *c)
{
	return b.now_ns;
}

static void timer_stop(struct clock *c, struct clock_timer *t)
{
	for (u32 i = 0; i < ARRAY_SIZE(b.timers); i++)
		if (b.timers[i] == t)
			b.timers[i] = NULL;
	t->deadline_ns = 0;
}

static void timer_start(struct clock *c, struct clock_timer *t, u64 deadline_ns)
{
	timer_stop(c, t);
	t->deadline_ns = deadline_ns;
	for (u32 i = 0; i < ARRAY_SIZE(b.timers); i++)
		if (!b.timers[i]) {
			b.timers[i] = t;
			return;
		}
	fail();
}

static const struct clock_ops clock_ops = { now, timer_start, timer_stop };

static bool world(void *arg)
{
	for (u32 i = 0; i < ARRAY_SIZE(b.timers); i++) {
		struct clock_timer *t = b.timers[i];

		if (!t)
			continue;
		b.now_ns = max_u64(b.now_ns, t->deadline_ns);
		timer_stop(&b.clock, t);
		t->fired(t);
		return true;
	}
	return false;
}

static void on_actual(void *owner, u32 pages)
{
	b.actual = pages;
}

static void on_stats(void *owner)
{
	b.n_stats++;
}

static void on_hinted(void *owner, struct span bytes)
{
	b.hinted += bytes.n_bytes;
}

static void on_hints_ended(void *owner)
{
	b.n_hints_ended++;
}

static const struct device_balloon_ears ears = { on_actual, on_stats, on_hinted, on_hints_ended };

/* ---- the owner of the pages --------------------------------------------------------------- */

static u64 pfn_of_first(void)
{
	return inproc_addr(&b.pair.memory, b.memory) / PAGE;
}

static void page_goes(u32 i)
{
	assert_false(b.away[i]);
	for (u32 at = 0; at < PAGE; at += 512)
		assert_int_equal(b.memory[(size_t)i * PAGE + at], IN_USE);
	b.away[i] = true;
	b.n_away++;
}

static void page_is_back(u32 i)
{
	assert_true(b.away[i]);
	b.away[i] = false;
	b.n_away--;
	memset(b.memory + (size_t)i * PAGE, IN_USE, PAGE);
}

static u32 take(void *owner)
{
	u32 from = rig_random(&b.rng) % N_PAGES;

	for (u32 i = 0; i < N_PAGES; i++)
		if (!b.away[(from + i) % N_PAGES]) {
			page_goes((from + i) % N_PAGES);
			return pfn_of_first() + (from + i) % N_PAGES;
		}
	return DRIVER_BALLOON_NO_PAGE;
}

static void give(void *owner, u32 pfn)
{
	page_is_back(pfn - pfn_of_first());
}

static void stats(void *owner, u64 value[VIRTIO_BALLOON_S_N_TAGS])
{
	value[VIRTIO_BALLOON_S_MEMFREE] = (u64)(N_PAGES - b.n_away) * PAGE;
	value[VIRTIO_BALLOON_S_MAJFLT] = 12345;
}

static void reported(void *owner, void *token)
{
	page_is_back(((u8 *)token - b.memory) / PAGE);
	b.n_reported++;
}

/* The first half of memory is free, and stays so. */
static bool next_hint(void *owner, bool first, struct span *bytes)
{
	if (first)
		b.hint_at = 0;
	if (b.hint_at == N_PAGES / 2)
		return false;
	*bytes = (struct span){ b.memory + (size_t)b.hint_at * PAGE, 4 * PAGE };
	b.hint_at += 4;
	return true;
}

static void hints_done(void *owner)
{
	b.n_hints_done++;
}

static const struct driver_balloon_ops ops = { take, give, stats, reported, next_hint, hints_done };

static void start(unsigned int combination)
{
	struct pair_options options = pair_combination(combination);
	struct device_balloon_config config = {
		.name = "balloon",
		.features = DEVICE_BALLOON_ALL_FEATURES,
		.pages = &b.pages,
		.clock = &b.clock,
		.ears = &ears,
	};
	struct driver_balloon_config driver = {
		.ops = &ops,
		.pfns = b.pfns,
		.max_pages = N_PAGES,
		.stats_tags = 1u << VIRTIO_BALLOON_S_MEMFREE | 1u << VIRTIO_BALLOON_S_MAJFLT,
	};

	memset(&b, 0, sizeof(b));
	b.rng = seed + combination;
	b.pages.ops = &pages_ops;
	b.clock.ops = &clock_ops;
	b.mem = aligned_alloc(16, (device_balloon_bytes(&config) + 15) & ~(size_t)15);
	assert_non_null(b.mem);
	b.back = device_balloon_init(b.mem, &config);
	driver_balloon_init(&b.driver, &driver);
	assert_int_equal(register_virtio_driver(&b.driver.driver), 0);
	pair_start(&b.pair, &options, b.back, b.rng);
	b.pair.world = world;
	b.memory = pair_alloc(&b.pair, (N_PAGES + 1) * PAGE);
	b.memory += -(uintptr_t)b.memory % PAGE;
	memset(b.memory, IN_USE, N_PAGES * PAGE);
	pair_settle(&b.pair);
}

static void stop(void)
{
	pair_stop(&b.pair);
	assert_int_equal(b.n_away, 0);
	unregister_virtio_driver(&b.driver.driver);
	vdev_reset(b.back);
	free(b.mem);
}

static void set_target(u32 pages)
{
	device_balloon_set_target(b.back, pages);
	pair_settle(&b.pair);
	assert_int_equal(driver_balloon_pages(&b.driver), pages);
	assert_int_equal(b.actual, pages);
	assert_int_equal(b.n_away, pages);
	assert_int_equal(device_balloon_state(b.back)->inside_pages, pages);
	assert_int_equal(device_balloon_state(b.back)->n_bad_pages, 0);
}

/* ---- tests ------------------------------------------------------------------------------- */

static void balloon_pair_follows_every_target_and_pages_really_go(void **state)
{
	for (unsigned int i = 0; i < pair_n_combinations(); i++) {
		start(i);
		for (u32 n = 0; n < 30; n++)
			set_target(rig_random(&b.rng) % (N_PAGES + 1));
		set_target(N_PAGES);
		for (u32 at = 0; at < N_PAGES * PAGE; at += 512)
			assert_int_equal(b.memory[at], OVERWRITTEN);
		assert_true(b.released > 2 * N_PAGES * PAGE);
		set_target(0);
		for (u32 at = 0; at < N_PAGES * PAGE; at += 512)
			assert_int_equal(b.memory[at], IN_USE);
		print_message("  %s: %llu MiB released\n", pair_describe(&b.pair.options),
			      (unsigned long long)b.released >> 20);
		stop();
	}
}

static void balloon_pair_statistics_arrive_as_they_are(void **state)
{
	for (unsigned int i = 0; i < pair_n_combinations(); i++) {
		const struct device_balloon_state *s;

		start(i);
		s = device_balloon_state(b.back);
		for (u32 n = 1; n < 20; n++) {
			set_target(n * 10);
			assert_int_equal(device_balloon_request_stats(b.back), 0);
			pair_settle(&b.pair);
			assert_true(b.n_stats >= n);
			assert_true(s->stats[VIRTIO_BALLOON_S_MEMFREE].known);
			assert_int_equal(s->stats[VIRTIO_BALLOON_S_MEMFREE].value,
					 (u64)(N_PAGES - n * 10) * PAGE);
			assert_int_equal(s->stats[VIRTIO_BALLOON_S_MAJFLT].value, 12345);
			assert_false(s->stats[VIRTIO_BALLOON_S_CACHES].known);
		}
		stop();
	}
}

static void balloon_pair_reports_are_released_and_come_back(void **state)
{
	for (unsigned int i = 0; i < pair_n_combinations(); i++) {
		u32 n = 0;

		start(i);
		for (u32 page = 0; page < N_PAGES; page++) {
			struct span s = { b.memory + (size_t)page * PAGE, PAGE };
			int err;

			while ((err = driver_balloon_report(&b.driver, &s, 1, s.base)) == -ENOSPC)
				assert_true(pair_step(&b.pair));
			assert_int_equal(err, 0);
			page_goes(page);
			n++;
		}
		pair_settle(&b.pair);
		assert_int_equal(b.n_reported, n);
		assert_int_equal(device_balloon_state(b.back)->reported_bytes, (u64)n * PAGE);
		assert_int_equal(b.released, (u64)n * PAGE);
		stop();
	}
}

static void balloon_pair_hints_come_in_rounds(void **state)
{
	for (unsigned int i = 0; i < pair_n_combinations(); i++) {
		start(i);
		for (u32 n = 1; n < 5; n++) {
			assert_int_equal(device_balloon_hints_start(b.back), 0);
			pair_settle(&b.pair);
			assert_int_equal(b.hinted, (u64)n * N_PAGES / 2 * PAGE);
			assert_int_equal(b.n_hints_ended, n);
			assert_int_equal(b.n_hints_done, n - 1);
			device_balloon_hints_done(b.back);
			pair_settle(&b.pair);
			assert_int_equal(b.n_hints_done, n);
		}
		assert_int_equal(device_balloon_state(b.back)->n_stray_hints, 0);
		assert_int_equal(b.released, 0);
		stop();
	}
}

static void balloon_pair_out_of_memory_takes_pages_back(void **state)
{
	for (unsigned int i = 0; i < pair_n_combinations(); i++) {
		start(i);
		set_target(1000);
		assert_int_equal(driver_balloon_oom(&b.driver, 700, 1000000000), 700);
		assert_int_equal(b.n_away, 300);
		pair_settle(&b.pair);
		assert_int_equal(b.actual, 300); /* not inflated again at once */
		set_target(500);
		stop();
	}
}

static void balloon_pair_breaking_and_leaving_fills_it_again(void **state)
{
	for (unsigned int i = 0; i < pair_n_combinations(); i++) {
		const struct pair_transport *t;

		start(i);
		t = b.pair.options.transport;
		for (u32 n = 0; n < 5; n++) {
			set_target(600);
			device_balloon_set_target(b.back, 100 + n);
			if (n % 2)
				pair_step(&b.pair);
			vdev_break(b.back, 0, "the test breaks it");
			pair_settle(&b.pair);
			assert_int_equal(b.n_away, 100 + n);
			t->cut(&b.pair);
			assert_int_equal(b.n_away, 0);
			assert_int_equal(t->join(&b.pair), 0);
			pair_settle(&b.pair);
			assert_int_equal(b.n_away, 100 + n);
		}
		assert_int_equal(b.pair.front->n_recoveries, 10);
		stop();
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(balloon_pair_follows_every_target_and_pages_really_go),
		cmocka_unit_test(balloon_pair_statistics_arrive_as_they_are),
		cmocka_unit_test(balloon_pair_reports_are_released_and_come_back),
		cmocka_unit_test(balloon_pair_hints_come_in_rounds),
		cmocka_unit_test(balloon_pair_out_of_memory_takes_pages_back),
		cmocka_unit_test(balloon_pair_breaking_and_leaving_fills_it_again),
	};

	seed = rig_seed();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
