/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The balloon driver against a device that says what a test wants, on split and packed rings.
 * The owner keeps books of every page: where it is, and that it changes hands one at a time.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "driver/balloon.h"
#include "tests/support/liar.h"

#define INFLATE VIRTIO_BALLOON_INFLATEQ
#define DEFLATE VIRTIO_BALLOON_DEFLATEQ
#define STATS VIRTIO_BALLOON_STATSQ
#define HINTS VIRTIO_BALLOON_FREE_PAGE_VQ
#define REPORTS VIRTIO_BALLOON_REPORTING_VQ

#define N_PAGES 2000 /* that the owner has */
#define MAX_PAGES 1500 /* that it lets go */
#define FIRST_PFN 0x1000
#define BATCH 256
#define STRETCH 4096

static bool packed; /* the ring of this run */

static struct liar liar;
static struct virtio_device *const front = &liar.front;
static struct driver_balloon balloon;
static u32 pfns[MAX_PAGES];

/* A lock that may be taken once, and never by one who holds it. */
static bool locked;
static struct platform_ops locking;

static void lock(struct platform *p)
{
	assert_false(locked);
	locked = true;
}

static void unlock(struct platform *p)
{
	assert_true(locked);
	locked = false;
}

static void add_lock(void)
{
	locking = *front->platform->ops;
	locking.lock = lock;
	locking.unlock = unlock;
	front->platform->ops = &locking;
}

static struct {
	bool taken[N_PAGES];
	u32 n_taken, most; /* it has no more to spare than `most` */
	u32 next;
	u32 n_reported, n_hints, n_hints_left, n_hints_done;
	bool report_again;
	u64 stats_base;
	u8 *memory; /* free stretches */
} books;

static u32 take(void *owner)
{
	assert_ptr_equal(owner, &books);
	assert_true(locked);
	if (books.n_taken >= books.most)
		return DRIVER_BALLOON_NO_PAGE;
	while (books.taken[books.next % N_PAGES])
		books.next++;
	books.taken[books.next % N_PAGES] = true;
	books.n_taken++;
	return FIRST_PFN + books.next % N_PAGES;
}

static void give(void *owner, u32 pfn)
{
	assert_true(locked);
	assert_in_range(pfn, FIRST_PFN, FIRST_PFN + N_PAGES - 1);
	assert_true(books.taken[pfn - FIRST_PFN]); /* once */
	books.taken[pfn - FIRST_PFN] = false;
	books.n_taken--;
}

static void stats(void *owner, u64 value[VIRTIO_BALLOON_S_N_TAGS])
{
	assert_true(locked);
	for (u32 tag = 0; tag < VIRTIO_BALLOON_S_N_TAGS; tag++)
		value[tag] = books.stats_base + tag;
	books.stats_base += 100;
}

static void reported(void *owner, void *token)
{
	struct span s = { token, STRETCH };

	assert_false(locked); /* it may report again */
	books.n_reported++;
	if (books.report_again)
		assert_int_equal(driver_balloon_report(&balloon, &s, 1, token), 0);
}

static bool next_hint(void *owner, bool first, struct span *bytes)
{
	assert_true(locked);
	if (first)
		books.n_hints = 0;
	if (books.n_hints_left == 0)
		return false;
	books.n_hints_left--;
	*bytes = (struct span){ books.memory + STRETCH * (books.n_hints++ % 16), STRETCH };
	return true;
}

static void hints_done(void *owner)
{
	assert_true(locked);
	books.n_hints_done++;
}

static const struct driver_balloon_ops ops = { take, give, stats, reported, next_hint, hints_done };

static struct driver_balloon_config config = {
	.ops = &ops,
	.owner = &books,
	.pfns = pfns,
	.max_pages = MAX_PAGES,
	.stats_tags = 1u << VIRTIO_BALLOON_S_MEMFREE | 1u << VIRTIO_BALLOON_S_MEMTOT | 1u << 31,
};

/* ---- the device's side ------------------------------------------------------------------- */

static int setup(void **state)
{
	memset(&books, 0, sizeof(books));
	books.most = N_PAGES;
	liar_init(&liar, VIRTIO_ID_BALLOON);
	add_lock();
	if (packed)
		features_set(&liar.offers, VIRTIO_F_RING_PACKED);
	for (unsigned int bit = 0; bit <= VIRTIO_BALLOON_F_PAGE_REPORTING; bit++)
		features_set(&liar.offers, bit);
	liar.n_queues = VIRTIO_BALLOON_N_QUEUES;
	books.memory = liar_alloc(&liar, 16 * STRETCH);
	config.poisons = false;
	return 0;
}

static int teardown(void **state)
{
	assert_int_equal(books.n_taken, 0); /* whatever happened: all of it is back */
	liar_fini(&liar);
	return 0;
}

static void bind(void)
{
	driver_balloon_init(&balloon, &config);
	assert_int_equal(register_virtio_driver(&balloon.driver), 0);
	assert_int_equal(register_virtio_device(front), 0);
	assert_int_equal(front->state, VIRTIO_STATE_LIVE);
}

static void unbind(void)
{
	unregister_virtio_device(front);
	unregister_virtio_driver(&balloon.driver);
}

static void set_field(u32 offset, u32 value)
{
	le32 wire = le32_of(value);

	memcpy(liar.config + offset, &wire, 4);
}

static u32 field(u32 offset)
{
	le32 wire;

	memcpy(&wire, liar.config + offset, 4);
	return le32_get(wire);
}

#define FIELD(name) offsetof(struct virtio_balloon_config, name)

static void want(u32 pages)
{
	set_field(FIELD(num_pages), pages);
	virtio_config_changed(front);
}

static void want_hints(u32 id)
{
	set_field(FIELD(free_page_hint_cmd_id), id);
	virtio_config_changed(front);
}

/* The next request for pages; how many, each of them taken from the owner. 0: none. */
static u32 pop_pages(u16 queue, struct chain *c)
{
	u32 n;

	if (!liar_pop(&liar, queue, c))
		return 0;
	assert_int_equal(c->in.n_bytes, 0);
	n = c->out.n_bytes / 4;
	for (u32 i = 0; i < n; i++) {
		le32 wire;

		assert_int_equal(sg_read(&c->out, &wire, 4), 4);
		assert_in_range(le32_get(wire), FIRST_PFN, FIRST_PFN + N_PAGES - 1);
		assert_true(queue == DEFLATE || books.taken[le32_get(wire) - FIRST_PFN]);
	}
	return n;
}

static u32 serve(u16 queue)
{
	struct chain c;
	u32 n, all = 0;

	while ((n = pop_pages(queue, &c)) > 0) {
		liar_answer(&liar, queue, &c, 0);
		liar_interrupt(&liar, queue);
		all += n;
	}
	return all;
}

static void fill(u32 pages)
{
	want(pages);
	assert_int_equal(serve(INFLATE), pages);
	assert_int_equal(driver_balloon_pages(&balloon), pages);
}

/* ---- inflate and deflate ----------------------------------------------------------------- */

static void balloon_follows_the_device_up_and_down(void **state)
{
	struct chain c;

	bind();
	want(600);
	assert_int_equal(pop_pages(INFLATE, &c), BATCH);
	assert_int_equal(driver_balloon_pages(&balloon), 0); /* not before it is acknowledged */
	assert_int_equal(field(FIELD(actual)), 0);
	liar_answer(&liar, INFLATE, &c, 0);
	liar_interrupt(&liar, INFLATE);
	assert_int_equal(driver_balloon_pages(&balloon), BATCH);
	assert_int_equal(field(FIELD(actual)), BATCH); /* G-BALLOON-5.5.6.1-11 */
	assert_int_equal(serve(INFLATE), 600 - BATCH);
	assert_int_equal(field(FIELD(actual)), 600);
	want(600);
	assert_int_equal(serve(INFLATE) + serve(DEFLATE), 0);
	want(100);
	assert_int_equal(serve(DEFLATE), 500);
	assert_int_equal(field(FIELD(actual)), 100);
	assert_int_equal(books.n_taken, 100);
	want(0);
	assert_int_equal(serve(DEFLATE), 100);
	unbind();
}

static void deflated_page_is_used_when_the_device_knows(void **state)
{
	struct chain c;

	bind();
	fill(10);
	want(4);
	assert_int_equal(pop_pages(DEFLATE, &c), 6);
	assert_int_equal(books.n_taken, 10); /* G-BALLOON-5.5.6.1-07 */
	liar_answer(&liar, DEFLATE, &c, 0);
	liar_interrupt(&liar, DEFLATE);
	assert_int_equal(books.n_taken, 4);
	unbind();
}

static void deflated_page_is_used_at_once_if_it_may(void **state)
{
	features_clear(&liar.offers, VIRTIO_BALLOON_F_MUST_TELL_HOST);
	bind();
	fill(10);
	want(4);
	assert_int_equal(books.n_taken, 4); /* G-BALLOON-5.5.6.1-08 */
	want(1); /* the request before is still under way */
	assert_int_equal(books.n_taken, 4);
	assert_int_equal(serve(DEFLATE), 6 + 3);
	assert_int_equal(books.n_taken, 1);
	unbind();
}

static void wish_changed_during_a_request_counts_afterwards(void **state)
{
	struct chain c;

	bind();
	want(100);
	assert_int_equal(pop_pages(INFLATE, &c), 100);
	want(30);
	assert_int_equal(serve(DEFLATE), 0); /* G-BALLOON-5.5.6.1-10 */
	liar_answer(&liar, INFLATE, &c, 0);
	liar_interrupt(&liar, INFLATE);
	assert_int_equal(serve(DEFLATE), 70);
	assert_int_equal(driver_balloon_pages(&balloon), 30);
	unbind();
}

static void owner_without_pages_goes_on_when_it_has_some(void **state)
{
	bind();
	books.most = 10;
	want(100);
	assert_int_equal(serve(INFLATE), 10);
	books.most = 25;
	assert_int_equal(serve(INFLATE), 0);
	driver_balloon_go_on(&balloon);
	assert_int_equal(serve(INFLATE), 15);
	unbind();
}

static void hostile_D04_wish_without_end_ends_at_the_limit(void **state)
{
	bind();
	want(0xffffffff);
	assert_int_equal(serve(INFLATE), MAX_PAGES);
	assert_int_equal(driver_balloon_pages(&balloon), MAX_PAGES);
	want(0x80000000);
	assert_int_equal(serve(INFLATE) + serve(DEFLATE), 0);
	unbind();
}

static void hostile_D04_config_never_stable_is_read_all_the_same(void **state)
{
	liar.unstable = true;
	set_field(FIELD(num_pages), 5);
	bind();
	assert_int_equal(serve(INFLATE), 5);
	unbind();
}

static void hostile_D03_numbers_rewritten_in_the_request_change_nothing(void **state)
{
	struct chain c;
	le32 *wire;

	bind();
	fill(20);
	want(5);
	assert_true(liar_pop(&liar, DEFLATE, &c));
	wire = (le32 *)sg_at(&c.out);
	for (u32 i = 0; i < 15; i++)
		wire[i] = le32_of(0xdeadbeef);
	liar_answer(&liar, DEFLATE, &c, 0);
	liar_interrupt(&liar, DEFLATE); /* `give` looks at each */
	assert_int_equal(books.n_taken, 5);
	unbind();
}

/* ---- lies that break the device ----------------------------------------------------------- */

static void hostile_D01_used_id_wrong_gives_each_page_back_once(void **state)
{
	bind();
	fill(300);
	want(700);
	liar_use(&liar, INFLATE, 9999, 0, 1);
	liar_interrupt(&liar, INFLATE);
	assert_int_equal(front->n_recoveries, 1);
	assert_int_equal(serve(INFLATE), 700); /* from the start */
	unbind();
}

static void hostile_D02_length_written_to_numbers_recovers_or_is_nothing(void **state)
{
	struct chain c;

	bind();
	want(10);
	assert_int_equal(pop_pages(INFLATE, &c), 10);
	liar_answer(&liar, INFLATE, &c, 40); /* a readable buffer */
	liar_interrupt(&liar, INFLATE);
	assert_int_equal(front->state, VIRTIO_STATE_LIVE);
	serve(INFLATE);
	assert_int_equal(driver_balloon_pages(&balloon), 10);
	assert_int_equal(books.n_taken, 10);
	unbind();
}

static void hostile_D07_needs_reset_gives_each_page_back_once(void **state)
{
	for (int must_tell = 0; must_tell < 2; must_tell++) {
		if (!must_tell)
			features_clear(&liar.offers, VIRTIO_BALLOON_F_MUST_TELL_HOST);
		else
			features_set(&liar.offers, VIRTIO_BALLOON_F_MUST_TELL_HOST);
		bind();
		fill(50);
		want(30); /* under way */
		liar_breaks(&liar);
		liar_interrupt(&liar, DEFLATE);
		assert_int_equal(front->n_recoveries, 1);
		assert_int_equal(books.n_taken, 30); /* on the way in */
		assert_int_equal(driver_balloon_pages(&balloon), 0);
		assert_int_equal(serve(INFLATE), 30);
		unbind();
		assert_int_equal(books.n_taken, 0);
	}
}

static void hostile_D07_reset_never_acknowledged_gives_all_back(void **state)
{
	bind();
	fill(50);
	liar.resets_never = true;
	liar_breaks(&liar);
	liar_interrupt(&liar, INFLATE);
	assert_int_equal(front->state, VIRTIO_STATE_BROKEN);
	assert_int_equal(books.n_taken, 0);
	driver_balloon_go_on(&balloon);
	assert_int_equal(books.n_taken, 0);
	assert_int_equal(driver_balloon_oom(&balloon, 1, 1000000), 0);
	unbind();
}

static void hostile_D07_interrupt_storm_changes_nothing(void **state)
{
	bind();
	fill(5);
	books.n_hints_left = 5;
	for (u32 i = 0; i < 1000; i++)
		for (u16 queue = 0; queue < VIRTIO_BALLOON_N_QUEUES; queue++)
			liar_interrupt(&liar, queue);
	for (u32 i = 0; i < 1000; i++)
		virtio_config_changed(front);
	assert_int_equal(serve(INFLATE) + serve(DEFLATE), 0);
	assert_int_equal(books.stats_base, 100); /* one buffer of statistics */
	unbind();
}

/* ---- out of memory ------------------------------------------------------------------------ */

/* The device acknowledges while the driver waits. */
static void device_acks(void *arg)
{
	struct chain c;

	if (pop_pages(DEFLATE, &c))
		liar_answer(&liar, DEFLATE, &c, 0); /* without an interrupt */
	if (pop_pages(INFLATE, &c))
		liar_answer(&liar, INFLATE, &c, 0);
}

static void oom_takes_back_what_it_needs_and_keeps_it(void **state)
{
	bind();
	fill(1000);
	liar.memory.relax = device_acks;
	assert_int_equal(driver_balloon_oom(&balloon, 600, 1000000000), 600);
	assert_int_equal(books.n_taken, 400);
	assert_int_equal(field(FIELD(actual)), 400);
	virtio_config_changed(front); /* as before: no reason to give again */
	assert_int_equal(serve(INFLATE), 0);
	assert_int_equal(driver_balloon_oom(&balloon, 600, 1000000000), 400); /* all there is */
	want(50);
	assert_int_equal(serve(INFLATE), 50);
	unbind();
}

static void oom_during_an_inflate_waits_for_it(void **state)
{
	bind();
	want(700); /* the first batch is under way */
	liar.memory.relax = device_acks;
	assert_int_equal(driver_balloon_oom(&balloon, 100, 1000000000), 100);
	assert_int_equal(books.n_taken, BATCH - 100);
	unbind();
}

static void hostile_D07_oom_with_a_silent_device_ends_in_time(void **state)
{
	u64 start;

	bind();
	fill(100);
	start = liar.memory.now_ns;
	assert_int_equal(driver_balloon_oom(&balloon, 50, 5000000), 0);
	assert_in_range(liar.memory.now_ns - start, 5000000, 6000000);
	assert_int_equal(books.n_taken, 100); /* it was not told yet, or does not say so */
	assert_int_equal(serve(DEFLATE), 50);
	assert_int_equal(books.n_taken, 50);
	unbind();
}

static void device_lies(void *arg)
{
	liar_use(&liar, DEFLATE, 9999, 0, 1);
}

static void hostile_D01_oom_with_a_lying_device_ends_at_once(void **state)
{
	u64 start;

	bind();
	fill(100);
	start = liar.memory.now_ns;
	liar.memory.relax = device_lies;
	assert_int_equal(driver_balloon_oom(&balloon, 50, 1000000000), 0);
	assert_true(liar.memory.now_ns - start < 1000000);
	liar_interrupt(&liar, DEFLATE);
	assert_int_equal(front->n_recoveries, 1);
	unbind();
}

static void oom_that_the_device_does_not_allow_takes_nothing(void **state)
{
	features_clear(&liar.offers, VIRTIO_BALLOON_F_DEFLATE_ON_OOM);
	bind();
	fill(100);
	assert_int_equal(driver_balloon_oom(&balloon, 50, 5000000), 0); /* G-BALLOON-5.5.6.1-04 */
	assert_int_equal(serve(DEFLATE), 0);
	unbind();
}

/* ---- statistics --------------------------------------------------------------------------- */

static void statistics_come_whenever_the_device_asks(void **state)
{
	struct virtio_balloon_stat wire[2];
	struct chain c, extra;

	bind();
	for (u32 round = 0; round < 50; round++) {
		assert_true(liar_pop(&liar, STATS, &c)); /* G-BALLOON-5.5.6.3.1-02, -03 */
		assert_false(liar_pop(&liar, STATS, &extra)); /* G-BALLOON-5.5.6.3.1-01 */
		assert_int_equal(c.out.n_bytes, sizeof(wire));
		sg_read(&c.out, wire, sizeof(wire));
		assert_int_equal(le16_get(wire[0].tag), VIRTIO_BALLOON_S_MEMFREE);
		assert_int_equal(le64_get(wire[0].val), 100 * round + VIRTIO_BALLOON_S_MEMFREE);
		assert_int_equal(le16_get(wire[1].tag), VIRTIO_BALLOON_S_MEMTOT);
		assert_int_equal(le64_get(wire[1].val), 100 * round + VIRTIO_BALLOON_S_MEMTOT);
		liar_answer(&liar, STATS, &c, 0);
		liar_interrupt(&liar, STATS);
	}
	unbind();
}

/* ---- hints -------------------------------------------------------------------------------- */

static bool pop_cmd(u32 *id)
{
	struct chain c;
	le32 wire;

	if (!liar_pop(&liar, HINTS, &c))
		return false;
	assert_int_equal(c.in.n_bytes, 0);
	assert_int_equal(c.out.n_bytes, 4); /* G-BALLOON-5.5.6.5.1-01 */
	sg_read(&c.out, &wire, 4);
	*id = le32_get(wire);
	liar_answer(&liar, HINTS, &c, 0);
	liar_interrupt(&liar, HINTS);
	return true;
}

static void assert_cmd(u32 id)
{
	u32 got;

	assert_true(pop_cmd(&got));
	assert_int_equal(got, id);
}

static void pop_hint(void)
{
	struct chain c;

	assert_true(liar_pop(&liar, HINTS, &c));
	assert_int_equal(c.out.n_bytes, 0);
	assert_int_equal(c.in.n_bytes, STRETCH);
	liar_answer(&liar, HINTS, &c, STRETCH);
	liar_interrupt(&liar, HINTS);
}

static void hints_begin_with_the_id_and_end_with_stop(void **state)
{
	struct chain c;

	bind();
	for (u32 id = 2; id < 6; id++) {
		books.n_hints_left = 200; /* more than the queue holds */
		want_hints(id);
		assert_cmd(id);
		for (u32 i = 0; i < 200; i++)
			pop_hint();
		assert_int_equal(books.n_hints, 200);
		assert_cmd(VIRTIO_BALLOON_CMD_ID_STOP); /* G-BALLOON-5.5.6.5.1-06 */
		want_hints(id); /* again: no news */
		assert_false(liar_pop(&liar, HINTS, &c));
		assert_int_equal(books.n_hints_done, id - 2);
		want_hints(VIRTIO_BALLOON_CMD_ID_DONE);
		assert_int_equal(books.n_hints_done, id - 1);
	}
	unbind();
}

static void hints_stop_when_the_device_says_so(void **state)
{
	struct chain c;
	u32 n = 0;

	bind();
	books.n_hints_left = 1000;
	want_hints(7);
	assert_cmd(7);
	want_hints(VIRTIO_BALLOON_CMD_ID_STOP);
	while (liar_pop(&liar, HINTS, &c) && c.in.n_bytes > 0) { /* those on the way */
		liar_answer(&liar, HINTS, &c, 0);
		liar_interrupt(&liar, HINTS);
		n++;
	}
	assert_int_equal(c.out.n_bytes, 4); /* then STOP */
	liar_answer(&liar, HINTS, &c, 0);
	liar_interrupt(&liar, HINTS);
	assert_false(liar_pop(&liar, HINTS, &c));
	assert_true(n <= 64 && books.n_hints_left >= 1000 - 64);
	assert_int_equal(books.n_hints_done, 0); /* the device may still rely on them */
	unbind();
	assert_int_equal(books.n_hints_done, 1);
}

static void hostile_hint_rounds_in_a_storm_are_each_well_formed(void **state)
{
	u32 current = 0, id, n_rounds = 0;
	struct chain c;

	bind();
	books.n_hints_left = UINT32_MAX;
	for (u32 i = 0; i < 500; i++) {
		want_hints(2 + i * 7919 % 5);
		if (i % 3 == 0)
			continue; /* not even looked at */
		for (u32 k = 0; k < i % 40 && liar_pop(&liar, HINTS, &c); k++) {
			if (c.out.n_bytes == 0) {
				assert_int_not_equal(current, 0); /* only within a round */
			} else {
				le32 wire;

				sg_read(&c.out, &wire, 4);
				id = le32_get(wire);
				assert_true(!current != !id); /* -02, -03: id, STOP, id, ... */
				current = id;
				n_rounds += id != 0;
			}
			liar_answer(&liar, HINTS, &c, 0);
			liar_interrupt(&liar, HINTS);
		}
	}
	assert_true(n_rounds > 10);
	assert_int_equal(front->n_recoveries, 0);
	unbind();
}

static void one_entry_queues_work(void **state)
{
	liar.max_size = 1;
	bind();
	fill(300);
	books.n_hints_left = 3;
	want_hints(9);
	assert_cmd(9);
	for (u32 i = 0; i < 3; i++)
		pop_hint();
	assert_cmd(VIRTIO_BALLOON_CMD_ID_STOP);
	unbind();
}

/* ---- reports ------------------------------------------------------------------------------ */

static void reports_come_back_once_even_from_a_device_that_breaks(void **state)
{
	struct span s[2] = { { books.memory, STRETCH }, { books.memory + STRETCH, STRETCH } };
	struct chain c;

	bind();
	for (u32 i = 0; i < 3; i++)
		assert_int_equal(driver_balloon_report(&balloon, s, 2, books.memory), 0);
	assert_true(liar_pop(&liar, REPORTS, &c));
	assert_int_equal(c.out.n_bytes, 0);
	assert_int_equal(c.in.n_bytes, 2 * STRETCH);
	liar_answer(&liar, REPORTS, &c, 2 * STRETCH);
	liar_interrupt(&liar, REPORTS);
	assert_int_equal(books.n_reported, 1);
	liar_breaks(&liar);
	liar_interrupt(&liar, REPORTS);
	assert_int_equal(books.n_reported, 3);
	assert_int_equal(driver_balloon_report(&balloon, s, 0, books.memory), -EINVAL);
	for (u32 i = 0; i < 64; i++)
		assert_int_equal(driver_balloon_report(&balloon, s, 2, books.memory), 0);
	assert_int_equal(driver_balloon_report(&balloon, s, 2, books.memory), -ENOSPC);
	unbind();
	assert_int_equal(books.n_reported, 67);
	assert_int_equal(driver_balloon_report(&balloon, s, 2, books.memory), -ENODEV);
}

static void report_from_within_reported_does_not_go_on_for_ever(void **state)
{
	struct span s = { books.memory, STRETCH };
	struct chain c;

	bind();
	books.report_again = true;
	for (u32 i = 0; i < 4; i++)
		assert_int_equal(driver_balloon_report(&balloon, &s, 1, books.memory), 0);
	while (books.n_reported < 100) {
		assert_true(liar_pop(&liar, REPORTS, &c));
		liar_answer(&liar, REPORTS, &c, 0);
		liar_interrupt(&liar, REPORTS);
	}
	books.report_again = false;
	unbind();
	assert_int_equal(books.n_reported, 104);
}

/* ---- features and poison ------------------------------------------------------------------ */

static void owner_that_can_little_asks_for_little(void **state)
{
	static const struct driver_balloon_ops few = { .take = take, .give = give };
	struct driver_balloon_config full = config;
	struct span s = { books.memory, STRETCH };

	config.ops = &few;
	bind();
	config = full;
	assert_false(virtio_has_feature(front, VIRTIO_BALLOON_F_STATS_VQ));
	assert_false(virtio_has_feature(front, VIRTIO_BALLOON_F_FREE_PAGE_HINT));
	assert_false(virtio_has_feature(front, VIRTIO_BALLOON_F_PAGE_REPORTING));
	assert_false(virtio_has_feature(front, VIRTIO_BALLOON_F_PAGE_POISON));
	assert_true(virtio_has_feature(front, VIRTIO_BALLOON_F_MUST_TELL_HOST));
	assert_int_equal(driver_balloon_report(&balloon, &s, 1, &s), -EOPNOTSUPP);
	fill(300);
	unbind();
}

static void poison_is_told_before_driver_ok_and_reporting_needs_it(void **state)
{
	config.poisons = true;
	config.poison = 0xaaaa5555;
	bind();
	assert_true(virtio_has_feature(front, VIRTIO_BALLOON_F_PAGE_POISON));
	assert_true(virtio_has_feature(front, VIRTIO_BALLOON_F_PAGE_REPORTING));
	assert_int_equal(field(FIELD(poison_val)), 0xaaaa5555);
	unbind();
	features_clear(&liar.offers, VIRTIO_BALLOON_F_PAGE_POISON);
	set_field(FIELD(poison_val), 1);
	bind();
	/* G-BALLOON-5.5.3.1-03 */
	assert_false(virtio_has_feature(front, VIRTIO_BALLOON_F_PAGE_REPORTING));
	assert_int_equal(field(FIELD(poison_val)), 1);
	unbind();
}

static void missing_queue_or_memory_fails_probe(void **state)
{
	liar.n_queues = VIRTIO_BALLOON_REPORTING_VQ;
	driver_balloon_init(&balloon, &config);
	assert_int_equal(register_virtio_driver(&balloon.driver), 0);
	assert_int_equal(register_virtio_device(front), -ENOENT);
	unregister_virtio_device(front);
	liar.n_queues = VIRTIO_BALLOON_N_QUEUES;
	liar.memory.n_bytes = liar.memory.used_bytes;
	liar.memory.freed = NULL;
	assert_int_equal(register_virtio_device(front), -ENOMEM);
	unregister_virtio_device(front);
	liar.memory.n_bytes = LIAR_RAM_BYTES;
	assert_int_equal(register_virtio_device(front), 0);
	unbind();
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(balloon_follows_the_device_up_and_down),
		TEST(deflated_page_is_used_when_the_device_knows),
		TEST(deflated_page_is_used_at_once_if_it_may),
		TEST(wish_changed_during_a_request_counts_afterwards),
		TEST(owner_without_pages_goes_on_when_it_has_some),
		TEST(hostile_D04_wish_without_end_ends_at_the_limit),
		TEST(hostile_D04_config_never_stable_is_read_all_the_same),
		TEST(hostile_D03_numbers_rewritten_in_the_request_change_nothing),
		TEST(hostile_D01_used_id_wrong_gives_each_page_back_once),
		TEST(hostile_D02_length_written_to_numbers_recovers_or_is_nothing),
		TEST(hostile_D07_needs_reset_gives_each_page_back_once),
		TEST(hostile_D07_reset_never_acknowledged_gives_all_back),
		TEST(hostile_D07_interrupt_storm_changes_nothing),
		TEST(oom_takes_back_what_it_needs_and_keeps_it),
		TEST(oom_during_an_inflate_waits_for_it),
		TEST(hostile_D07_oom_with_a_silent_device_ends_in_time),
		TEST(hostile_D01_oom_with_a_lying_device_ends_at_once),
		TEST(oom_that_the_device_does_not_allow_takes_nothing),
		TEST(statistics_come_whenever_the_device_asks),
		TEST(hints_begin_with_the_id_and_end_with_stop),
		TEST(hints_stop_when_the_device_says_so),
		TEST(hostile_hint_rounds_in_a_storm_are_each_well_formed),
		TEST(one_entry_queues_work),
		TEST(reports_come_back_once_even_from_a_device_that_breaks),
		TEST(report_from_within_reported_does_not_go_on_for_ever),
		TEST(owner_that_can_little_asks_for_little),
		TEST(poison_is_told_before_driver_ok_and_reporting_needs_it),
		TEST(missing_queue_or_memory_fails_probe),
	};
	int n_failed = cmocka_run_group_tests_name("split", tests, NULL, NULL);

	packed = true;
	return n_failed + cmocka_run_group_tests_name("packed", tests, NULL, NULL);
}
