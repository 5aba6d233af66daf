/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The balloon against a driver half, in both ring formats with and without event index and
 * indirect tables. The host's pages are a mock, because what must be shown is exactly which
 * bytes are given back, by how many calls, and that nothing else ever is; tests/host/test_pages.c
 * shows that giving back works. The clock is one too, so that nothing waits.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

#include "base/log.h"
#include "base/shared.h"
#include "device/balloon.h"
#include "tests/support/rig.h"

#define INFLATEQ VIRTIO_BALLOON_INFLATEQ
#define DEFLATEQ VIRTIO_BALLOON_DEFLATEQ
#define STATSQ VIRTIO_BALLOON_STATSQ
#define HINTQ VIRTIO_BALLOON_FREE_PAGE_VQ
#define REPORTQ VIRTIO_BALLOON_REPORTING_VQ

/*
 * The guest's memory, by page number. LOW and MIDDLE touch; behind MIDDLE is a hole; HIGH ends
 * 100 bytes into a page. BIG is so large that only its addresses are ever used. P(n) are pages
 * of LOW in which no ring lies.
 */
#define PAGE ((u64)4096)
#define LOW_PFN (u32)(RIG_GPA_LOW / PAGE)
#define LOW_PAGES 4096u
#define MIDDLE_PFN (LOW_PFN + LOW_PAGES)
#define MIDDLE_PAGES 2048u
#define HIGH_PFN (u32)(RIG_GPA_HIGH / PAGE)
#define HIGH_PAGES 2048u
#define BIG_GPA (RIG_GPA_HIGH * 2)
#define BIG_BYTES ((size_t)256 << 20)
#define P(n) (LOW_PFN + 2048 + (n))

struct call {
	enum { RELEASE = 1, EXPECT } kind;
	u64 gpa, n_bytes;
};

struct test {
	struct rig rig;
	struct vdev *vdev;
	const struct device_balloon_state *state;
	void *mem;
	struct memory memory;
	struct memory_region regions[4];
	u8 *big;
	struct dma_ops dma_ops;
	u8 *buffer; /* a page of the guest's */
	u8 *lot; /* all of MIDDLE */
	u64 seed;

	struct pages pages;
	struct call calls[2048]; /* since the last look */
	u32 n_calls;
	u32 n_all_calls;
	int release_err;
	int watch_queue; /* -1: none */
	bool used_before_call;

	struct clock clock;
	u64 now_ns;
	struct list timers;

	/* What the ears heard. */
	u32 n_actual, actual, n_stats, n_ended;
	struct call hinted[16];
	u32 n_hinted;
	bool ask_again; /* for statistics, from within stats_arrived */
};

static unsigned int combination;
static u64 seed;
static u32 n_log_lines;

static void count_line(enum log_level level, const char *object, const char *format, va_list args)
{
	n_log_lines++;
}

static u64 gpa_of(struct test *t, const void *p)
{
	const u8 *at = p;

	if (at >= t->big && at < t->big + BIG_BYTES)
		return BIG_GPA + (u64)(at - t->big);
	return rig_gpa(&t->rig, p);
}

static void note_call(struct pages *pages, int kind, struct span bytes)
{
	struct test *t = container_of(pages, struct test, pages);

	t->n_all_calls++;
	assert_true(bytes.n_bytes > 0);
	if (t->n_calls < ARRAY_SIZE(t->calls))
		t->calls[t->n_calls++] =
			(struct call){ kind, gpa_of(t, bytes.base), bytes.n_bytes };
	if (t->watch_queue >= 0)
		t->used_before_call |= virtqueue_pending(&t->rig.vq[t->watch_queue]);
}

static int mock_release(struct pages *pages, struct span bytes)
{
	note_call(pages, RELEASE, bytes);
	return container_of(pages, struct test, pages)->release_err;
}

static void mock_expect(struct pages *pages, struct span bytes)
{
	note_call(pages, EXPECT, bytes);
}

static const struct pages_ops mock_pages_ops = { mock_release, mock_expect };

static u64 mock_now_ns(struct clock *c)
{
	return container_of(c, struct test, clock)->now_ns;
}

static void mock_stop(struct clock *c, struct clock_timer *timer)
{
	if (timer->deadline_ns)
		list_del(&timer->node);
	timer->deadline_ns = 0;
}

static void mock_start(struct clock *c, struct clock_timer *timer, u64 deadline_ns)
{
	assert_true(deadline_ns > mock_now_ns(c));
	mock_stop(c, timer);
	timer->deadline_ns = deadline_ns;
	list_add_tail(&container_of(c, struct test, clock)->timers, &timer->node);
}

static const struct clock_ops mock_clock_ops = { mock_now_ns, mock_start, mock_stop };

/* Time passes; returns how many timers that were due at its end have fired, once each. */
static u32 pass(struct test *t, u64 ns)
{
	struct list *node, *tmp;
	u32 n = 0;

	t->now_ns += ns;
	list_for_each (node, tmp, &t->timers) {
		struct clock_timer *timer = container_of(node, struct clock_timer, node);

		if (timer->deadline_ns > t->now_ns)
			continue;
		mock_stop(&t->clock, timer);
		timer->fired(timer);
		n++;
	}
	return n;
}

/* One more turn of the loop. */
static u32 run_timers(struct test *t)
{
	return pass(t, 1);
}

static void hear_actual(void *owner, u32 pages)
{
	struct test *t = owner;

	t->n_actual++;
	t->actual = pages;
}

static void hear_stats(void *owner)
{
	struct test *t = owner;

	t->n_stats++;
	if (t->ask_again)
		assert_int_equal(device_balloon_request_stats(t->vdev), 0);
}

static void hear_hinted(void *owner, struct span bytes)
{
	struct test *t = owner;

	assert_true(t->n_hinted < ARRAY_SIZE(t->hinted));
	t->hinted[t->n_hinted++] = (struct call){ RELEASE, gpa_of(t, bytes.base), bytes.n_bytes };
}

static void hear_ended(void *owner)
{
	((struct test *)owner)->n_ended++;
}

static const struct device_balloon_ears ears = {
	.actual_changed = hear_actual,
	.stats_arrived = hear_stats,
	.hinted = hear_hinted,
	.hints_ended = hear_ended,
};

static u64 map(struct dma *dma, void *p, size_t n_bytes, enum dma_dir dir)
{
	struct rig *rig = container_of(dma, struct rig, dma);

	rig->n_mapped++;
	return gpa_of(container_of(rig, struct test, rig), p);
}

/* A device that offers `features`, and a driver that takes them all. */
static struct test *begin(u32 features, u64 left_out)
{
	struct test *t = test_calloc(1, sizeof(*t));
	struct rig_options options = rig_combination(combination);
	struct device_balloon_config config = {
		.name = "balloon",
		.features = features,
		.target_pages = 5,
		.pages = &t->pages,
		.clock = &t->clock,
		.ears = &ears,
		.owner = t,
	};
	u8 *ram;

	t->seed = seed;
	t->watch_queue = -1;
	t->pages.ops = &mock_pages_ops;
	t->clock.ops = &mock_clock_ops;
	t->now_ns = 1000;
	list_init(&t->timers);
	n_log_lines = 0;
	log_set_hook(count_line);

	t->big = mmap(NULL, BIG_BYTES, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	assert_ptr_not_equal(t->big, MAP_FAILED);
	t->mem = test_malloc(device_balloon_bytes(&config));
	t->vdev = device_balloon_init(t->mem, &config);
	t->state = device_balloon_state(t->vdev);

	options.queue_size = 128;
	rig_start(&t->rig, t->vdev, &options, NULL);
	rig_reset(&t->rig);

	ram = t->rig.ram;
	t->regions[0] = (struct memory_region){ RIG_GPA_LOW, LOW_PAGES * PAGE, ram };
	t->regions[1] = (struct memory_region){ MIDDLE_PFN * PAGE, MIDDLE_PAGES * PAGE,
						ram + LOW_PAGES * PAGE };
	t->regions[2] = (struct memory_region){ RIG_GPA_HIGH, HIGH_PAGES * PAGE + 100,
						ram + RIG_HALF_BYTES };
	t->regions[3] = (struct memory_region){ BIG_GPA, BIG_BYTES, t->big };
	assert_int_equal(memory_init(&t->memory, t->regions, 4), 0);
	vdev_set_memory(t->vdev, &t->memory);
	t->lot = ram + LOW_PAGES * PAGE;
	t->dma_ops = *t->rig.dma.ops;
	t->dma_ops.map = map;
	t->rig.dma.ops = &t->dma_ops;
	t->rig.left_out = left_out;
	rig_restart(&t->rig, NULL);
	t->buffer = rig_alloc(&t->rig, PAGE);
	return t;
}

static void end(struct test *t)
{
	rig_stop(&t->rig);
	assert_true(list_empty(&t->timers));
	assert_int_equal(t->memory.n_pins, 1);
	munmap(t->big, BIG_BYTES);
	test_free(t->mem);
	test_free(t);
	log_set_hook(NULL);
}

static int set_up(void **state)
{
	*state = begin(DEVICE_BALLOON_ALL_FEATURES, 0);
	return 0;
}

static int tear_down(void **state)
{
	end(*state);
	return 0;
}

/* Resets, takes back what was under way, and starts again. */
static unsigned int begin_anew(struct test *t)
{
	unsigned int lost = rig_reset(&t->rig);

	t->n_all_calls = t->n_calls = 0;
	assert_int_equal(run_timers(t), 0);
	assert_int_equal(t->n_all_calls, 0);
	rig_restart(&t->rig, NULL);
	t->buffer = rig_alloc(&t->rig, PAGE);
	return lost;
}

static void post(struct test *t, u16 queue, void *base, size_t n_out, size_t n_in)
{
	const struct span sg = { base, n_out + n_in };

	assert_int_equal(virtqueue_add_buf(&t->rig.vq[queue], &sg, n_out > 0, n_in > 0, t), 0);
}

static void kick(struct test *t, u16 queue)
{
	assert_true(virtqueue_kick(&t->rig.vq[queue]));
}

/* True if a request came back; that nothing was written to it is always so. */
static bool reap(struct test *t, u16 queue)
{
	u32 n_written = 0;

	if (!rig_reap(&t->rig, queue, &n_written))
		return false;
	assert_int_equal(n_written, 0);
	return true;
}

/* Kicks, and lets the loop turn until the one request is back. */
static void finish(struct test *t, u16 queue)
{
	kick(t, queue);
	while (run_timers(t) > 0)
		;
	assert_true(reap(t, queue));
	assert_false(reap(t, queue));
}

/* `n` bytes from t->buffer as device-readable pieces of `cut` bytes. */
static void send_cut(struct test *t, u16 queue, size_t n, size_t cut)
{
	struct span sg[64];
	u32 n_sg = 0;

	for (size_t at = 0; at < n; at += cut)
		sg[n_sg++] = (struct span){ t->buffer + at, min_u64(cut, n - at) };
	assert_int_equal(virtqueue_add_buf(&t->rig.vq[queue], sg, n_sg, 0, t), 0);
	finish(t, queue);
}

static void send_pfns(struct test *t, u16 queue, const u32 *pfns, u32 n)
{
	assert_true(n * sizeof(le32) <= PAGE);
	for (u32 i = 0; i < n; i++)
		le32_store((le32 *)t->buffer + i, pfns[i]);
	send_cut(t, queue, n * sizeof(le32), PAGE);
}

/* The calls since the last look were these and no others, in this order. */
static void expect_calls(struct test *t, u32 n, ...)
{
	va_list args;

	assert_int_equal(t->n_calls, n);
	va_start(args, n);
	for (u32 i = 0; i < n; i++) {
		struct call c = va_arg(args, struct call);

		assert_int_equal(t->calls[i].kind, c.kind);
		assert_int_equal(t->calls[i].gpa, c.gpa);
		assert_int_equal(t->calls[i].n_bytes, c.n_bytes);
	}
	va_end(args);
	t->n_calls = 0;
}

/* As vhost-user does it: GET_VRING_BASE, then the same ring from there. */
static void stop_and_restart(struct test *t, u16 queue)
{
	const struct virtqueue_setup *s = &t->rig.vq[queue].setup;
	const struct devq_setup d = {
		.size = s->size,
		.desc_gpa = gpa_of(t, s->desc),
		.driver_gpa = gpa_of(t, s->driver_area),
		.device_gpa = gpa_of(t, s->device_area),
	};
	u32 position = vdev_queue_stop(t->vdev, queue);

	assert_int_equal(vdev_queue_start(t->vdev, queue, &d, position), 0);
}

/* ---- inflate and deflate ---------------------------------------------------------------- */

static void inflate_of_a_run_is_one_release(void **state)
{
	static const u32 up[] = { P(16), P(17), P(18), P(19) },
			 down[] = { P(23), P(22), P(21), P(20) },
			 mixed[] = { P(30), P(34), P(31), P(33), P(32) };
	struct test *t = *state;

	send_pfns(t, INFLATEQ, up, 4);
	expect_calls(t, 1, (struct call){ RELEASE, P(16) * PAGE, 4 * PAGE });
	send_pfns(t, INFLATEQ, down, 4);
	expect_calls(t, 1, (struct call){ RELEASE, P(20) * PAGE, 4 * PAGE });
	send_pfns(t, INFLATEQ, mixed, 5);
	expect_calls(t, 1, (struct call){ RELEASE, P(30) * PAGE, 5 * PAGE });

	assert_int_equal(t->state->n_inflated_pages, 13);
	assert_int_equal(t->state->inside_pages, 13);
	assert_int_equal(t->state->released_bytes, 13 * PAGE);
	assert_int_equal(t->state->n_bad_pages, 0);
}

static void inflate_of_scattered_pages_is_one_release_a_run(void **state)
{
	static const u32 pfns[] = { P(40), P(16), P(41), P(50), P(17) };
	struct test *t = *state;

	send_pfns(t, INFLATEQ, pfns, 5);
	expect_calls(t, 3, (struct call){ RELEASE, P(16) * PAGE, 2 * PAGE },
		     (struct call){ RELEASE, P(40) * PAGE, 2 * PAGE },
		     (struct call){ RELEASE, P(50) * PAGE, PAGE });
}

static void deflate_is_announced_and_never_released(void **state)
{
	static const u32 pfns[] = { P(17), P(16), P(20) };
	struct test *t = *state;

	send_pfns(t, INFLATEQ, pfns, 3);
	expect_calls(t, 2, (struct call){ RELEASE, P(16) * PAGE, 2 * PAGE },
		     (struct call){ RELEASE, P(20) * PAGE, PAGE });
	send_pfns(t, DEFLATEQ, pfns, 2);
	expect_calls(t, 1, (struct call){ EXPECT, P(16) * PAGE, 2 * PAGE });
	assert_int_equal(t->state->n_deflated_pages, 2);
	assert_int_equal(t->state->inside_pages, 1);

	/* More than there was: a lie that leads nowhere. */
	send_pfns(t, DEFLATEQ, pfns, 3);
	assert_int_equal(t->state->inside_pages, 0);
}

/* A page that is given back after the acknowledgment would take the guest's new data with it. */
static void release_comes_before_the_acknowledgment(void **state)
{
	static const u32 pfns[] = { P(16) };
	struct test *t = *state;

	t->watch_queue = INFLATEQ;
	send_pfns(t, INFLATEQ, pfns, 1);
	assert_int_equal(t->n_calls, 1);
	assert_false(t->used_before_call);
}

static void numbers_are_read_through_any_framing(void **state)
{
	static const size_t cuts[] = { 1, 2, 3, 5, 7, 64 };
	struct test *t = *state;

	for (size_t i = 0; i < ARRAY_SIZE(cuts); i++) {
		for (u32 n = 0; n < 12; n++)
			le32_store((le32 *)t->buffer + n, P(16) + n);
		send_cut(t, INFLATEQ, 12 * 4, cuts[i]);
		expect_calls(t, 1, (struct call){ RELEASE, P(16) * PAGE, 12 * PAGE });
	}
}

static void hostile_G34_page_outside_is_passed_over(void **state)
{
	static const u32 pfns[] = {
		MIDDLE_PFN + MIDDLE_PAGES, /* just past the end of a region */
		LOW_PFN - 1, /* just before the first */
		P(16),
		0xffffffff,
		HIGH_PFN - 1,
		HIGH_PFN,
		0,
		P(17),
		0x80000000,
	};
	struct test *t = *state;

	send_pfns(t, INFLATEQ, pfns, ARRAY_SIZE(pfns));
	expect_calls(t, 2, (struct call){ RELEASE, P(16) * PAGE, 2 * PAGE },
		     (struct call){ RELEASE, RIG_GPA_HIGH, PAGE });
	assert_int_equal(t->state->n_bad_pages, 6);
	assert_false(t->vdev->broken);
	assert_int_equal(n_log_lines, 1);

	/* The same again says nothing more: one line a reset. */
	send_pfns(t, INFLATEQ, pfns, ARRAY_SIZE(pfns));
	assert_int_equal(t->state->n_bad_pages, 12);
	assert_int_equal(n_log_lines, 1);
	begin_anew(t);
	send_pfns(t, INFLATEQ, pfns, ARRAY_SIZE(pfns));
	assert_int_equal(n_log_lines, 2);
}

/* The high region ends in the middle of a page: that page is not the guest's to give. */
static void hostile_G34_region_end_inside_a_page_keeps_that_page(void **state)
{
	static const u32 pfns[] = { HIGH_PFN + HIGH_PAGES - 1, HIGH_PFN + HIGH_PAGES };
	struct test *t = *state;

	send_pfns(t, INFLATEQ, pfns, 2);
	expect_calls(t, 1, (struct call){ RELEASE, (u64)(HIGH_PFN + HIGH_PAGES - 1) * PAGE, PAGE });
	assert_int_equal(t->state->n_bad_pages, 1);
	send_pfns(t, INFLATEQ, pfns + 1, 1);
	expect_calls(t, 0);
	assert_int_equal(t->state->n_bad_pages, 2);
}

/* Regions that touch for the guest lie apart here: a run over both is two calls. */
static void run_over_two_regions_is_released_in_each(void **state)
{
	static const u32 pfns[] = { MIDDLE_PFN + MIDDLE_PAGES - 1, MIDDLE_PFN - 1, MIDDLE_PFN };
	struct test *t = *state;
	u32 all[4];

	for (u32 i = 0; i < 4; i++)
		all[i] = MIDDLE_PFN - 2 + i;
	send_pfns(t, INFLATEQ, all, 4);
	expect_calls(t, 2, (struct call){ RELEASE, (u64)(MIDDLE_PFN - 2) * PAGE, 2 * PAGE },
		     (struct call){ RELEASE, MIDDLE_PFN * PAGE, 2 * PAGE });
	send_pfns(t, DEFLATEQ, pfns, 3);
	expect_calls(t, 3, (struct call){ EXPECT, (u64)(MIDDLE_PFN - 1) * PAGE, PAGE },
		     (struct call){ EXPECT, MIDDLE_PFN * PAGE, PAGE },
		     (struct call){ EXPECT, (u64)(MIDDLE_PFN + MIDDLE_PAGES - 1) * PAGE, PAGE });
}

static void hostile_G34_page_named_again_is_released_once(void **state)
{
	u32 pfns[300];
	struct test *t = *state;

	for (u32 i = 0; i < 256; i++)
		pfns[i] = P(16) + i % 2;
	send_pfns(t, INFLATEQ, pfns, 256);
	expect_calls(t, 1, (struct call){ RELEASE, P(16) * PAGE, 2 * PAGE });
	assert_int_equal(t->state->inside_pages, 2);
}

static void hostile_G34_odd_buffers_are_given_back_unused(void **state)
{
	struct test *t = *state;

	memset(t->buffer, 0, 64);
	le32_store((le32 *)t->buffer, P(16));

	/* A number and a half; half a number; and room to write where numbers should be. */
	send_cut(t, INFLATEQ, 6, 64);
	expect_calls(t, 1, (struct call){ RELEASE, P(16) * PAGE, PAGE });
	send_cut(t, INFLATEQ, 3, 64);
	expect_calls(t, 0);
	post(t, INFLATEQ, t->buffer, 0, 64);
	finish(t, INFLATEQ);
	expect_calls(t, 0);
	post(t, DEFLATEQ, t->buffer, 0, 64);
	finish(t, DEFLATEQ);
	expect_calls(t, 0);
	assert_false(t->vdev->broken);
}

/* The host's failure is no fault of the guest's: its request is acknowledged. */
static void release_that_fails_is_counted_and_acknowledged(void **state)
{
	static const u32 pfns[] = { P(16), P(18), P(20) };
	struct test *t = *state;

	t->release_err = -ENOMEM;
	send_pfns(t, INFLATEQ, pfns, 3);
	assert_int_equal(t->state->n_release_failed, 3);
	assert_int_equal(t->state->released_bytes, 0);
	assert_int_equal(n_log_lines, 1);
	assert_false(t->vdev->broken);
}

/* Any list whatever: released is what was named and is the guest's, that and nothing else. */
static void random_lists_release_exactly_what_they_name(void **state)
{
	/* Pages on both sides of where two regions touch, and over the end of the second. */
	enum { FIRST = MIDDLE_PFN - 200, N = MIDDLE_PAGES + 400 };
	struct test *t = *state;

	for (u32 round = 0; round < 40; round++) {
		static u8 named[N], released[N];
		u32 pfns[1000], n = 1 + rig_random(&t->seed) % ARRAY_SIZE(pfns), at = 0;

		memset(named, 0, sizeof(named));
		memset(released, 0, sizeof(released));
		while (at < n) {
			u32 first = rig_random(&t->seed) % N;
			u32 run = 1 + rig_random(&t->seed) % 20;

			for (; run && at < n && first < N; run--, first++) {
				pfns[at++] = FIRST + first;
				named[first] = first < 200 + MIDDLE_PAGES;
			}
		}
		send_pfns(t, INFLATEQ, pfns, n);
		for (u32 i = 0; i < t->n_calls; i++) {
			const struct call *c = &t->calls[i];

			assert_int_equal(c->kind, RELEASE);
			assert_int_equal(c->gpa % PAGE, 0);
			assert_int_equal(c->n_bytes % PAGE, 0);
			assert_true(c->gpa >= FIRST * PAGE &&
				    c->gpa + c->n_bytes <= (FIRST + N) * PAGE);
			memset(released + (c->gpa / PAGE - FIRST), 1, c->n_bytes / PAGE);
		}
		assert_memory_equal(released, named, N);
		t->n_calls = 0;
	}
}

/* ---- bounded turns ---------------------------------------------------------------------- */

/* Pieces of 8 MiB, all the same memory, as many as one request can have: half a gigabyte. */
static void hostile_G38_endless_list_takes_bounded_turns(void **state)
{
	struct test *t = *state;
	struct span sg[64];
	u32 most = 0;

	/* The worst there is: every number a call of its own, and in falling order. */
	for (u32 i = 0; i < MIDDLE_PAGES * 1024; i++)
		le32_store((le32 *)t->lot + i, P(2 * (255 - i % 256)));
	for (u32 i = 0; i < ARRAY_SIZE(sg); i++)
		sg[i] = (struct span){ t->lot, MIDDLE_PAGES * PAGE };
	assert_int_equal(virtqueue_add_buf(&t->rig.vq[INFLATEQ], sg, 64, 0, t), 0);
	kick(t, INFLATEQ);
	for (u32 turn = 0; turn < 50; turn++) {
		u32 before = t->n_all_calls;

		/* A storm of kicks buys nothing. */
		for (u32 i = 0; i < 10; i++)
			vdev_kick(t->vdev, INFLATEQ);
		assert_int_equal(t->n_all_calls, before);
		assert_int_equal(run_timers(t), 1);
		most = (u32)max_u64(most, t->n_all_calls - before);
	}
	assert_int_equal(most, 256);
	assert_false(reap(t, INFLATEQ));

	/* Reset in the middle of it: gone without a trace, and as new. */
	assert_int_equal(begin_anew(t), 1);
	send_pfns(t, INFLATEQ, (const u32[]){ P(16) }, 1);
	expect_calls(t, 1, (struct call){ RELEASE, P(16) * PAGE, PAGE });
}

/* As much as a chain may hold, 4 GiB less a page, and not one number of it any good. */
static void hostile_G38_gigabytes_of_bad_numbers_take_bounded_turns(void **state)
{
	struct test *t = *state;
	struct span sg[64];

	for (u32 i = 0; i < ARRAY_SIZE(sg); i++)
		sg[i] = (struct span){ t->big, (64u << 20) - (i == 63 ? PAGE : 0) };
	assert_int_equal(virtqueue_add_buf(&t->rig.vq[DEFLATEQ], sg, 64, 0, t), 0);
	kick(t, DEFLATEQ);
	for (u32 turn = 0; turn < 20; turn++) {
		u64 before = t->state->n_bad_pages;

		assert_int_equal(run_timers(t), 1);
		/* All zero: each batch is one page, named 256 times. */
		assert_true(t->state->n_bad_pages - before <= 4);
		assert_true(t->state->n_bad_pages > before);
	}
	assert_int_equal(n_log_lines, 1);
	assert_int_equal(begin_anew(t), 1);
}

static void long_list_is_finished_over_several_turns(void **state)
{
	struct test *t = *state;
	u32 n = 4096, turns = 0;

	for (u32 i = 0; i < n; i++)
		le32_store((le32 *)t->lot + i, P(2 * (i % 32)));
	post(t, INFLATEQ, t->lot, n * 4, 0);
	kick(t, INFLATEQ);
	assert_false(reap(t, INFLATEQ));
	while (run_timers(t) > 0)
		turns++;
	assert_true(turns >= 3);
	assert_true(reap(t, INFLATEQ));
	/* 16 batches of 256 numbers, 32 pages each, none beside another. */
	assert_int_equal(t->n_all_calls, 16 * 32);
}

/* An endless supply of small requests must not hold the loop either. */
static void hostile_G38_many_small_requests_take_bounded_turns(void **state)
{
	struct test *t = *state;

	le32_store((le32 *)t->buffer, P(16));
	for (u32 i = 0; i < 100; i++)
		post(t, INFLATEQ, t->buffer, 4, 0);
	kick(t, INFLATEQ);
	assert_true(t->n_all_calls < 60);
	while (run_timers(t) > 0)
		;
	assert_int_equal(t->n_all_calls, 100);
	for (u32 i = 0; i < 100; i++)
		assert_true(reap(t, INFLATEQ));
}

static void queue_stopped_in_the_middle_begins_the_request_anew(void **state)
{
	struct test *t = *state;
	u32 n = 4096;

	for (u32 i = 0; i < n; i++)
		le32_store((le32 *)t->lot + i, P(2 * (i % 32)));
	post(t, INFLATEQ, t->lot, n * 4, 0);
	kick(t, INFLATEQ);
	assert_true(t->n_all_calls > 0 && t->n_all_calls < 16 * 32);
	stop_and_restart(t, INFLATEQ);
	while (run_timers(t) > 0)
		;
	assert_true(reap(t, INFLATEQ));
	assert_false(reap(t, INFLATEQ));
	assert_false(t->vdev->broken);
}

static void queue_disabled_in_the_middle_waits(void **state)
{
	struct test *t = *state;
	u32 n = 4096, before;

	for (u32 i = 0; i < n; i++)
		le32_store((le32 *)t->lot + i, P(2 * (i % 32)));
	post(t, INFLATEQ, t->lot, n * 4, 0);
	kick(t, INFLATEQ);
	vdev_queue_enable(t->vdev, INFLATEQ, false);
	before = t->n_all_calls;
	while (run_timers(t) > 0)
		;
	assert_int_equal(t->n_all_calls, before);
	assert_false(reap(t, INFLATEQ));
	vdev_queue_enable(t->vdev, INFLATEQ, true);
	while (run_timers(t) > 0)
		;
	assert_true(reap(t, INFLATEQ));
	assert_int_equal(t->n_all_calls, 16 * 32);
}

/* Another queue breaks the device while a long request is under way. */
static void device_broken_in_the_middle_touches_nothing_more(void **state)
{
	struct test *t = *state;

	for (u32 i = 0; i < 4096; i++)
		le32_store((le32 *)t->lot + i, P(2 * (i % 32)));
	post(t, INFLATEQ, t->lot, 4096 * 4, 0);
	kick(t, INFLATEQ);
	vdev_break(t->vdev, DEFLATEQ, "for this test");
	t->n_all_calls = 0;
	while (run_timers(t) > 0)
		;
	assert_int_equal(t->n_all_calls, 0);
	assert_false(reap(t, INFLATEQ));
	assert_int_equal(begin_anew(t), 1);
	send_pfns(t, INFLATEQ, (const u32[]){ P(16) }, 1);
	expect_calls(t, 1, (struct call){ RELEASE, P(16) * PAGE, PAGE });
}

/* ---- reporting ---------------------------------------------------------------------------- */

static void reported_ranges_are_released_piece_by_piece(void **state)
{
	struct test *t = *state;
	u8 *low = t->rig.ram + 2048 * PAGE;
	const struct span sg[] = {
		{ low + 16 * PAGE, 512 * PAGE },
		{ low, PAGE },
		{ t->lot - 2 * PAGE, 4 * PAGE }, /* over two regions */
	};

	t->watch_queue = REPORTQ;
	assert_int_equal(virtqueue_add_buf(&t->rig.vq[REPORTQ], sg, 0, 3, t), 0);
	finish(t, REPORTQ);
	expect_calls(t, 4, (struct call){ RELEASE, P(16) * PAGE, 512 * PAGE },
		     (struct call){ RELEASE, P(0) * PAGE, PAGE },
		     (struct call){ RELEASE, (u64)(MIDDLE_PFN - 2) * PAGE, 2 * PAGE },
		     (struct call){ RELEASE, (u64)MIDDLE_PFN * PAGE, 2 * PAGE });
	assert_false(t->used_before_call);
	assert_int_equal(t->state->reported_bytes, 517 * PAGE);
	assert_int_equal(t->state->released_bytes, 517 * PAGE);
	assert_int_equal(t->state->inside_pages, 0);
}

static void large_report_is_sliced_into_turns(void **state)
{
	struct test *t = *state;
	const u64 slice = 64 << 20;

	post(t, REPORTQ, t->big, 0, BIG_BYTES);
	kick(t, REPORTQ);
	assert_int_equal(t->n_all_calls, 1);
	assert_false(reap(t, REPORTQ));
	for (u32 i = 1; i < 4; i++) {
		assert_int_equal(run_timers(t), 1);
		assert_int_equal(t->n_all_calls, i + 1);
	}
	while (run_timers(t) > 0)
		;
	assert_true(reap(t, REPORTQ));
	expect_calls(t, 4, (struct call){ RELEASE, BIG_GPA, slice },
		     (struct call){ RELEASE, BIG_GPA + slice, slice },
		     (struct call){ RELEASE, BIG_GPA + 2 * slice, slice },
		     (struct call){ RELEASE, BIG_GPA + 3 * slice, slice });
}

static void set_poison(struct test *t, u32 poison)
{
	le32 wire = le32_of(poison);

	vdev_config_write(t->vdev, offsetof(struct virtio_balloon_config, poison_val), &wire, 4);
}

/* D-BALLOON-5.5.6.7.2-02: zeroes would not do for one who expects 0xaaaaaaaa. */
static void reported_pages_with_a_poison_are_kept(void **state)
{
	struct test *t = *state;

	set_poison(t, 0xaaaaaaaa);
	post(t, REPORTQ, t->lot, 0, 8 * PAGE);
	finish(t, REPORTQ);
	expect_calls(t, 0);
	assert_int_equal(t->state->poisoned_bytes, 8 * PAGE);
	assert_int_equal(t->state->reported_bytes, 8 * PAGE);

	/* Inflated ones are released all the same: they are written to before they are used. */
	send_pfns(t, INFLATEQ, (const u32[]){ P(16) }, 1);
	expect_calls(t, 1, (struct call){ RELEASE, P(16) * PAGE, PAGE });

	/* Poisoned with zeroes is what zeroes are. */
	set_poison(t, 0);
	post(t, REPORTQ, t->lot, 0, 8 * PAGE);
	finish(t, REPORTQ);
	expect_calls(t, 1, (struct call){ RELEASE, (u64)MIDDLE_PFN * PAGE, 8 * PAGE });
}

static void poison_of_a_driver_before_is_forgotten(void **state)
{
	struct test *t = *state;

	set_poison(t, 0xaaaaaaaa);
	assert_int_equal(begin_anew(t), 0);
	post(t, REPORTQ, t->lot, 0, PAGE);
	finish(t, REPORTQ);
	expect_calls(t, 1, (struct call){ RELEASE, (u64)MIDDLE_PFN * PAGE, PAGE });
}

/* Without the feature the field is not the driver's to write. */
static void poison_that_was_not_offered_is_ignored(void **state)
{
	struct test *t =
		begin(DEVICE_BALLOON_ALL_FEATURES & ~(1u << VIRTIO_BALLOON_F_PAGE_POISON), 0);

	set_poison(t, 0xaaaaaaaa);
	post(t, REPORTQ, t->lot, 0, PAGE);
	finish(t, REPORTQ);
	expect_calls(t, 1, (struct call){ RELEASE, (u64)MIDDLE_PFN * PAGE, PAGE });
	end(t);
}

static void hostile_G34_report_past_the_end_of_memory_breaks_the_device(void **state)
{
	struct test *t = *state;
	u8 *past = t->lot + MIDDLE_PAGES * PAGE - PAGE;

	post(t, REPORTQ, past, 0, 2 * PAGE);
	kick(t, REPORTQ);
	assert_true(t->vdev->broken);
	assert_string_equal(t->vdev->fault_what, ring_fault_name(RING_FAULT_ADDRESS));
	expect_calls(t, 0);
	assert_int_equal(begin_anew(t), 1);
	assert_false(t->vdev->broken);
}

/* Not aligned, or less than a page: the host's pages decide what of it can go. */
static void hostile_G34_odd_report_is_passed_on_as_it_is(void **state)
{
	struct test *t = *state;

	post(t, REPORTQ, t->lot + 1, 0, 3 * PAGE);
	finish(t, REPORTQ);
	expect_calls(t, 1, (struct call){ RELEASE, (u64)MIDDLE_PFN * PAGE + 1, 3 * PAGE });
	post(t, REPORTQ, t->lot, 64, 0);
	finish(t, REPORTQ);
	expect_calls(t, 0);
}

/* ---- hints -------------------------------------------------------------------------------- */

static u32 command_id(struct test *t)
{
	le32 wire;

	vdev_config_read(t->vdev, offsetof(struct virtio_balloon_config, free_page_hint_cmd_id),
			 &wire, 4);
	return le32_get(wire);
}

static void send_command(struct test *t, u32 id)
{
	le32_store((le32 *)t->buffer, id);
	post(t, HINTQ, t->buffer, 4, 0);
	finish(t, HINTQ);
}

static void send_hint(struct test *t, u32 page)
{
	post(t, HINTQ, t->lot + page * PAGE, 0, PAGE);
	finish(t, HINTQ);
}

static void hints_of_a_round_are_told_and_never_released(void **state)
{
	struct test *t = *state;
	u64 n_config = t->rig.n_config;

	assert_int_equal(command_id(t), VIRTIO_BALLOON_CMD_ID_STOP);
	assert_int_equal(device_balloon_hints_start(t->vdev), 0);
	assert_int_equal(command_id(t), 2);
	assert_int_equal(t->rig.n_config, n_config + 1);

	send_command(t, 2);
	assert_true(t->state->hinting);
	send_hint(t, 3);
	send_hint(t, 7);
	assert_int_equal(t->n_ended, 0);
	send_command(t, VIRTIO_BALLOON_CMD_ID_STOP);
	assert_int_equal(t->n_ended, 1);
	assert_false(t->state->hinting);

	assert_int_equal(t->n_hinted, 2);
	assert_int_equal(t->hinted[0].gpa, (MIDDLE_PFN + 3) * PAGE);
	assert_int_equal(t->hinted[1].gpa, (MIDDLE_PFN + 7) * PAGE);
	assert_int_equal(t->hinted[1].n_bytes, PAGE);
	assert_int_equal(t->state->hinted_bytes, 2 * PAGE);
	assert_int_equal(t->state->n_stray_hints, 0);

	device_balloon_hints_done(t->vdev);
	assert_int_equal(command_id(t), VIRTIO_BALLOON_CMD_ID_DONE);
	assert_int_equal(t->rig.n_config, n_config + 2);
	expect_calls(t, 0);
}

/* D-BALLOON-5.5.6.5.2-03 */
static void hints_outside_of_the_round_are_ignored(void **state)
{
	struct test *t = *state;

	send_hint(t, 1); /* there is none */
	send_command(t, 2); /* not yet */
	send_hint(t, 1);
	assert_int_equal(device_balloon_hints_start(t->vdev), 0);
	send_hint(t, 1); /* its command has not come */
	send_command(t, 3); /* nor is it this one */
	send_hint(t, 1);
	assert_int_equal(t->state->n_stray_hints, 6);
	send_command(t, 2);
	send_hint(t, 1);
	assert_int_equal(t->n_hinted, 1);

	/* The device begins anew; the driver is still at the old round. */
	assert_int_equal(device_balloon_hints_start(t->vdev), 0);
	assert_int_equal(command_id(t), 3);
	send_hint(t, 2);
	send_command(t, 2);
	send_hint(t, 2);
	assert_int_equal(t->n_hinted, 1);
	send_command(t, 3);
	send_hint(t, 2);
	assert_int_equal(t->n_hinted, 2);

	device_balloon_hints_pause(t->vdev);
	send_hint(t, 3);
	send_command(t, 3);
	send_hint(t, 3);
	device_balloon_hints_done(t->vdev);
	send_command(t, VIRTIO_BALLOON_CMD_ID_DONE);
	send_hint(t, 3);
	assert_int_equal(t->n_hinted, 2);
	assert_int_equal(t->n_ended, 0);
	expect_calls(t, 0);
	assert_false(t->vdev->broken);
}

static void hint_round_does_not_outlive_a_reset(void **state)
{
	struct test *t = *state;

	assert_int_equal(device_balloon_hints_start(t->vdev), 0);
	send_command(t, 2);
	begin_anew(t);
	assert_int_equal(command_id(t), VIRTIO_BALLOON_CMD_ID_STOP);
	send_hint(t, 1);
	send_command(t, 2);
	send_hint(t, 1);
	assert_int_equal(t->n_hinted, 0);

	/* The next round has an id of its own: D-BALLOON-5.5.6.5.2-02. */
	assert_int_equal(device_balloon_hints_start(t->vdev), 0);
	assert_int_equal(command_id(t), 3);
}

static void hint_command_of_odd_length_is_ignored_or_cut(void **state)
{
	struct test *t = *state;

	assert_int_equal(device_balloon_hints_start(t->vdev), 0);
	le32_store((le32 *)t->buffer, 2);
	post(t, HINTQ, t->buffer, 3, 0);
	finish(t, HINTQ);
	assert_false(t->state->hinting);
	assert_int_equal(t->state->n_stray_hints, 1);
	post(t, HINTQ, t->buffer, PAGE, 0);
	finish(t, HINTQ);
	assert_true(t->state->hinting);
}

static void command_and_pages_in_one_chain_are_taken_in_order(void **state)
{
	struct test *t = *state;
	const struct span sg[] = { { t->buffer, 4 }, { t->lot, PAGE } };

	assert_int_equal(device_balloon_hints_start(t->vdev), 0);
	le32_store((le32 *)t->buffer, 2);
	assert_int_equal(virtqueue_add_buf(&t->rig.vq[HINTQ], sg, 1, 1, t), 0);
	finish(t, HINTQ);
	assert_int_equal(t->n_hinted, 1);
}

static void hints_without_the_feature_or_a_driver_are_refused(void **state)
{
	struct test *t =
		begin(DEVICE_BALLOON_ALL_FEATURES & ~(1u << VIRTIO_BALLOON_F_FREE_PAGE_HINT), 0);

	assert_int_equal(device_balloon_hints_start(t->vdev), -EOPNOTSUPP);
	end(t);
	t = begin(DEVICE_BALLOON_ALL_FEATURES, 0);
	rig_reset(&t->rig);
	assert_int_equal(device_balloon_hints_start(t->vdev), -EOPNOTSUPP);
	rig_restart(&t->rig, NULL);
	end(t);
}

/* ---- statistics --------------------------------------------------------------------------- */

static void put_stat(struct test *t, u32 at, u16 tag, u64 val)
{
	struct virtio_balloon_stat stat = { le16_of(tag), le64_of(val) };

	memcpy(t->buffer + at * sizeof(stat), &stat, sizeof(stat));
}

static void send_stats(struct test *t, size_t n_bytes)
{
	post(t, STATSQ, t->buffer, n_bytes, 0);
	kick(t, STATSQ);
}

static void assert_stat(struct test *t, u16 tag, u64 value)
{
	assert_true(t->state->stats[tag].known);
	assert_int_equal(t->state->stats[tag].value, value);
}

static void first_stats_are_read_and_the_buffer_is_kept(void **state)
{
	struct test *t = *state;

	put_stat(t, 0, VIRTIO_BALLOON_S_MEMTOT, 512ull << 30);
	put_stat(t, 1, VIRTIO_BALLOON_S_MEMFREE, 12345);
	send_stats(t, 20);
	assert_int_equal(t->n_stats, 1);
	assert_stat(t, VIRTIO_BALLOON_S_MEMTOT, 512ull << 30);
	assert_stat(t, VIRTIO_BALLOON_S_MEMFREE, 12345);
	assert_false(t->state->stats[VIRTIO_BALLOON_S_CACHES].known);
	assert_int_equal(t->state->stats_at_ns, t->now_ns);
	assert_int_equal(t->state->stats[VIRTIO_BALLOON_S_MEMFREE].at_ns, t->now_ns);
	assert_false(reap(t, STATSQ));
	assert_int_equal(t->vdev->queues[STATSQ].q.n_in_flight, 0);

	/* Kicks do not make it new. */
	put_stat(t, 1, VIRTIO_BALLOON_S_MEMFREE, 99);
	for (u32 i = 0; i < 10; i++)
		vdev_kick(t->vdev, STATSQ);
	assert_int_equal(t->n_stats, 1);
	assert_stat(t, VIRTIO_BALLOON_S_MEMFREE, 12345);
}

static void request_uses_the_buffer_and_takes_the_answer(void **state)
{
	struct test *t = *state;

	for (u32 round = 0; round < 300; round++) {
		u64 n_used = t->rig.n_used[STATSQ];

		put_stat(t, 0, VIRTIO_BALLOON_S_AVAIL, round);
		send_stats(t, 10);
		assert_int_equal(t->n_stats, round + 1);
		assert_stat(t, VIRTIO_BALLOON_S_AVAIL, round);
		pass(t, 1000);

		assert_int_equal(device_balloon_request_stats(t->vdev), 0);
		/* Asked twice before it answered: one request. */
		assert_int_equal(device_balloon_request_stats(t->vdev), 0);
		assert_int_equal(t->rig.n_used[STATSQ], n_used + 1);
		assert_true(reap(t, STATSQ));
		assert_true(virtqueue_enable_cb(&t->rig.vq[STATSQ]));
		assert_false(reap(t, STATSQ));
	}
}

static void stats_in_any_order_with_unknown_tags_are_sorted_out(void **state)
{
	struct test *t = *state;

	put_stat(t, 0, 0xffff, 1);
	put_stat(t, 1, VIRTIO_BALLOON_S_HTLB_PGFAIL, 9);
	put_stat(t, 2, VIRTIO_BALLOON_S_N_TAGS, 2);
	put_stat(t, 3, VIRTIO_BALLOON_S_SWAP_IN, 1);
	put_stat(t, 4, VIRTIO_BALLOON_S_MAJFLT, 7);
	put_stat(t, 5, VIRTIO_BALLOON_S_MAJFLT, UINT64_MAX); /* the last one counts */
	put_stat(t, 6, VIRTIO_BALLOON_S_CACHES, 3); /* cut off in its middle */
	send_stats(t, 69);
	assert_stat(t, VIRTIO_BALLOON_S_HTLB_PGFAIL, 9);
	assert_stat(t, VIRTIO_BALLOON_S_SWAP_IN, 1);
	assert_stat(t, VIRTIO_BALLOON_S_MAJFLT, UINT64_MAX);
	assert_false(t->state->stats[VIRTIO_BALLOON_S_CACHES].known);
	assert_int_equal(t->n_stats, 1);
}

static void hostile_G34_stats_of_gigabytes_are_read_to_a_bound(void **state)
{
	struct test *t = *state;
	struct span sg[64];

	/* Within the bound of 64 entries, and beyond it. */
	memset(t->lot, 0xff, 1 << 20);
	memcpy(t->lot + 63 * 10, &(struct virtio_balloon_stat){ le16_of(2), le64_of(63) }, 10);
	memcpy(t->lot + 64 * 10, &(struct virtio_balloon_stat){ le16_of(3), le64_of(64) }, 10);
	sg[0] = (struct span){ t->lot, MIDDLE_PAGES * PAGE };
	for (u32 i = 1; i < ARRAY_SIZE(sg); i++)
		sg[i] = (struct span){ t->big, (64u << 20) - (i == 63 ? PAGE : 0) };
	assert_int_equal(virtqueue_add_buf(&t->rig.vq[STATSQ], sg, 64, 0, t), 0);
	kick(t, STATSQ);
	assert_int_equal(t->n_stats, 1);
	assert_stat(t, 2, 63);
	assert_false(t->state->stats[3].known);
	assert_int_equal(device_balloon_request_stats(t->vdev), 0);
	assert_true(reap(t, STATSQ));

	/* Room to write to says nothing. */
	post(t, STATSQ, t->buffer, 0, 100);
	kick(t, STATSQ);
	assert_int_equal(t->n_stats, 2);
	assert_int_equal(device_balloon_request_stats(t->vdev), 0);
	assert_true(reap(t, STATSQ));
	assert_false(t->vdev->broken);
}

/* G-BALLOON-5.5.6.3.1-01 broken: each of a hundred buffers is an answer, at one a turn. */
static void hostile_G38_answers_in_advance_do_not_become_a_loop(void **state)
{
	struct test *t = *state;

	t->ask_again = true;
	put_stat(t, 0, VIRTIO_BALLOON_S_AVAIL, 1);
	for (u32 i = 0; i < 100; i++)
		post(t, STATSQ, t->buffer, 10, 0);
	kick(t, STATSQ);
	for (u32 i = 1; i < 100; i++) {
		assert_int_equal(t->n_stats, i);
		assert_int_equal(run_timers(t), 1);
	}
	assert_int_equal(t->n_stats, 100);
	/* A last look finds nothing, so that the driver will kick. */
	assert_int_equal(run_timers(t), 1);
	assert_int_equal(run_timers(t), 0);
	for (u32 i = 0; i < 100; i++)
		assert_true(reap(t, STATSQ));
	t->ask_again = false;
	send_stats(t, 10);
	assert_int_equal(t->n_stats, 101);
}

/* Vhost-user stops and starts queues at any time: the one buffer must not be lost to that. */
static void stats_queue_stopped_and_started_goes_on(void **state)
{
	struct test *t = *state;

	put_stat(t, 0, VIRTIO_BALLOON_S_AVAIL, 1);
	send_stats(t, 10);
	for (u32 round = 1; round < 5; round++) {
		stop_and_restart(t, STATSQ);
		assert_int_equal(t->n_stats, 1 + round);
		assert_false(reap(t, STATSQ));
	}
	assert_int_equal(device_balloon_request_stats(t->vdev), 0);
	assert_true(reap(t, STATSQ));
	send_stats(t, 10);
	assert_int_equal(t->n_stats, 6);
}

/* A buffer that is always there is no work: a loop that polls may go to sleep over it. */
static void polling_over_a_kept_buffer_finds_no_work(void **state)
{
	struct test *t = *state;

	send_stats(t, 10);
	vdev_set_polling(t->vdev, true);
	assert_false(vdev_poll(t->vdev));
	assert_int_equal(device_balloon_request_stats(t->vdev), 0);
	assert_true(reap(t, STATSQ));
	assert_false(vdev_poll(t->vdev));
	put_stat(t, 0, VIRTIO_BALLOON_S_AVAIL, 44);
	send_stats(t, 10);
	vdev_poll(t->vdev);
	assert_stat(t, VIRTIO_BALLOON_S_AVAIL, 44);
	vdev_set_polling(t->vdev, false);
	assert_int_equal(t->n_stats, 2);
}

static void stats_are_asked_for_at_intervals(void **state)
{
	struct test *t = *state;

	device_balloon_set_stats_interval(t->vdev, 1000);
	send_stats(t, 10);
	assert_int_equal(pass(t, 999), 0);
	assert_false(reap(t, STATSQ));
	for (u32 i = 0; i < 5; i++) {
		assert_int_equal(pass(t, i ? 1000 : 1), 1);
		assert_true(reap(t, STATSQ));
		send_stats(t, 10);
		assert_int_equal(t->n_stats, i + 2);
	}
	/* A driver that does not answer is not asked more. */
	assert_int_equal(pass(t, 1000), 1);
	assert_true(reap(t, STATSQ));
	assert_int_equal(pass(t, 1000), 1);
	assert_false(reap(t, STATSQ));

	/* Without a driver nobody is asked; it goes on with the next one, and ends when it is told to. */
	assert_int_equal(rig_reset(&t->rig), 0);
	assert_int_equal(pass(t, 100000), 0);
	rig_restart(&t->rig, NULL);
	t->buffer = rig_alloc(&t->rig, PAGE);
	send_stats(t, 10);
	assert_int_equal(pass(t, 1000), 1);
	assert_true(reap(t, STATSQ));
	device_balloon_set_stats_interval(t->vdev, 0);
	assert_int_equal(pass(t, 100000), 0);
}

static void stats_without_the_feature_or_a_driver_are_refused(void **state)
{
	struct test *t = begin(DEVICE_BALLOON_ALL_FEATURES & ~(1u << VIRTIO_BALLOON_F_STATS_VQ), 0);

	assert_int_equal(device_balloon_request_stats(t->vdev), -EOPNOTSUPP);
	device_balloon_set_stats_interval(t->vdev, 10);
	assert_int_equal(pass(t, 100), 0);
	end(t);
	t = begin(DEVICE_BALLOON_ALL_FEATURES, 0);
	rig_reset(&t->rig);
	assert_int_equal(device_balloon_request_stats(t->vdev), -EOPNOTSUPP);
	rig_restart(&t->rig, NULL);
	end(t);
}

static void stats_of_a_driver_before_are_forgotten(void **state)
{
	struct test *t = *state;

	put_stat(t, 0, VIRTIO_BALLOON_S_AVAIL, 1);
	send_stats(t, 10);
	assert_stat(t, VIRTIO_BALLOON_S_AVAIL, 1);
	assert_int_equal(begin_anew(t), 1);
	assert_false(t->state->stats[VIRTIO_BALLOON_S_AVAIL].known);
}

/* ---- configuration ------------------------------------------------------------------------ */

static u32 config_word(struct test *t, u32 offset)
{
	le32 wire;

	vdev_config_read(t->vdev, offset, &wire, 4);
	return le32_get(wire);
}

static void target_is_told_when_it_changes(void **state)
{
	struct test *t = *state;
	u64 n_config = t->rig.n_config;
	u32 generation = t->vdev->config_generation;

	assert_int_equal(config_word(t, 0), 5);
	device_balloon_set_target(t->vdev, 32768);
	assert_int_equal(config_word(t, 0), 32768);
	assert_int_equal(t->state->target_pages, 32768);
	assert_int_equal(t->rig.n_config, n_config + 1);
	assert_int_not_equal(t->vdev->config_generation, generation);
	device_balloon_set_target(t->vdev, 32768);
	assert_int_equal(t->rig.n_config, n_config + 1);

	/* It is the host's: a new driver finds it. */
	begin_anew(t);
	assert_int_equal(config_word(t, 0), 32768);
	rig_reset(&t->rig);
	n_config = t->rig.n_config;
	device_balloon_set_target(t->vdev, 7);
	assert_int_equal(t->rig.n_config, n_config);
	rig_restart(&t->rig, NULL);
	assert_int_equal(config_word(t, 0), 7);
}

static void actual_is_heard_when_it_changes(void **state)
{
	struct test *t = *state;
	le32 wire = le32_of(300);

	vdev_config_write(t->vdev, 4, &wire, 4);
	assert_int_equal(t->n_actual, 1);
	assert_int_equal(t->actual, 300);
	assert_int_equal(t->state->actual_pages, 300);
	assert_int_equal(config_word(t, 4), 300);
	vdev_config_write(t->vdev, 4, &wire, 4);
	assert_int_equal(t->n_actual, 1);

	/* The next driver has none of them. */
	begin_anew(t);
	assert_int_equal(t->n_actual, 2);
	assert_int_equal(t->actual, 0);
	assert_int_equal(config_word(t, 4), 0);
}

static void hostile_G23_writes_to_read_only_config_are_dropped(void **state)
{
	struct test *t = *state;
	const u8 junk[64] = { 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17 };

	vdev_config_write(t->vdev, 0, junk, sizeof(junk));
	assert_int_equal(config_word(t, 0), 5);
	assert_int_equal(config_word(t, 4), 0x08070605);
	assert_int_equal(config_word(t, 8), 0);
	assert_int_equal(config_word(t, 12), 0x100f0e0d);
	assert_int_equal(t->actual, 0x08070605);
	vdev_config_write(t->vdev, 5, junk, 1);
	assert_int_equal(t->actual, 0x08070105);
}

static void offers_what_was_configured(void **state)
{
	static const u32 sets[] = { 0, 1, 2, 4, 8, 16, 32, 63, 42 };

	for (size_t i = 0; i < ARRAY_SIZE(sets); i++) {
		struct test *t = begin(sets[i], 0);

		assert_int_equal(t->vdev->offered.word[0] & 0xffffff, sets[i]);
		end(t);
	}
}

/* ---- which queue is which ----------------------------------------------------------------- */

#define STATS (1u << VIRTIO_BALLOON_F_STATS_VQ)
#define HINTS (1u << VIRTIO_BALLOON_F_FREE_PAGE_HINT)
#define REPORTS (1u << VIRTIO_BALLOON_F_PAGE_REPORTING)

/* A page to write to, in any optional queue, shows by what it does whose queue it is. */
static u32 role_of(struct test *t, u16 queue)
{
	u64 strays = t->state->n_stray_hints;
	u32 n_stats = t->n_stats, role;

	t->n_all_calls = t->n_calls = 0;
	post(t, queue, t->lot, 0, PAGE);
	kick(t, queue);
	role = t->n_all_calls == 1 ? REPORTS : 0;
	role |= t->state->n_stray_hints != strays ? HINTS : 0;
	role |= t->n_stats != n_stats ? STATS : 0;
	return role;
}

static void take_features(struct test *t, u32 accepted)
{
	int list[8], n = 0;

	for (int bit = 0; bit <= VIRTIO_BALLOON_F_PAGE_REPORTING; bit++)
		if (accepted >> bit & 1)
			list[n++] = bit;
	list[n] = -1;
	rig_reset(&t->rig);
	rig_restart(&t->rig, list);
}

static void queues_are_found_however_a_driver_numbers_them(void **state)
{
	static const struct {
		u32 offered, accepted;
		u32 queues[3]; /* role of queue 2, 3 and 4; 0: not started by the driver */
	} rows[] = {
		/* All there: no two ways. */
		{ STATS | HINTS | REPORTS, STATS | HINTS | REPORTS, { STATS, HINTS, REPORTS } },
		{ STATS | HINTS | REPORTS, STATS | HINTS, { STATS, HINTS, 0 } },
		{ STATS, STATS, { STATS, 0, 0 } },
		/* Stats missing: by the text, and moved up. */
		{ HINTS | REPORTS, HINTS | REPORTS, { 0, HINTS, REPORTS } },
		{ HINTS | REPORTS, HINTS | REPORTS, { HINTS, REPORTS, 0 } },
		{ HINTS, HINTS, { 0, HINTS, 0 } },
		{ HINTS, HINTS, { HINTS, 0, 0 } },
		/* Hints missing. */
		{ STATS | REPORTS, STATS | REPORTS, { STATS, 0, REPORTS } },
		{ STATS | REPORTS, STATS | REPORTS, { STATS, REPORTS, 0 } },
		/* Offered and refused: up past what was not accepted, or only what was not offered. */
		{ STATS | HINTS | REPORTS, STATS | REPORTS, { STATS, REPORTS, 0 } },
		{ STATS | HINTS | REPORTS, STATS | REPORTS, { STATS, 0, REPORTS } },
		{ STATS | REPORTS, REPORTS, { 0, 0, REPORTS } },
		{ STATS | REPORTS, REPORTS, { 0, REPORTS, 0 } },
		{ STATS | REPORTS, REPORTS, { REPORTS, 0, 0 } },
		{ STATS | HINTS | REPORTS, REPORTS, { 0, 0, REPORTS } },
		{ STATS | HINTS | REPORTS, REPORTS, { REPORTS, 0, 0 } },
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct test *t = begin(rows[i].offered, 0);

		for (u16 q = 0; q < 3; q++)
			t->rig.left_out |= (u64)!rows[i].queues[q] << (2 + q);
		take_features(t, rows[i].accepted);
		for (u16 q = 0; q < 3; q++)
			if (rows[i].queues[q])
				assert_int_equal(role_of(t, 2 + q), rows[i].queues[q]);
		end(t);
	}
}

/* A transport that starts every queue there is shows nothing: the text stands. */
static void queues_all_started_are_numbered_by_the_text(void **state)
{
	struct test *t = begin(REPORTS, 0);

	assert_int_equal(role_of(t, 2), 0);
	assert_int_equal(role_of(t, 3), 0);
	assert_int_equal(role_of(t, 4), REPORTS);
	end(t);
}

/* Queues may start after DRIVER_OK; a kick that came too early to be understood is not lost. */
static void queue_that_could_be_either_waits_for_the_next_to_start(void **state)
{
	for (u16 next = 2; next <= 4; next += 2) {
		struct test *t = begin(HINTS | REPORTS, 1u << 2 | 1u << 4);

		assert_int_equal(role_of(t, 3), 0);
		rig_start_queue(&t->rig, next);
		assert_true(reap(t, 3));
		assert_int_equal(t->n_all_calls, next == 2);
		assert_int_equal(t->state->n_stray_hints, next == 4);
		assert_int_equal(role_of(t, next), next == 2 ? HINTS : REPORTS);

		/* Once known it stays, whatever else is started. */
		rig_start_queue(&t->rig, 6 - next);
		assert_int_equal(role_of(t, 3), next == 2 ? REPORTS : HINTS);
		assert_int_equal(role_of(t, 6 - next), 0);
		end(t);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(inflate_of_a_run_is_one_release, set_up, tear_down),
		cmocka_unit_test_setup_teardown(inflate_of_scattered_pages_is_one_release_a_run,
						set_up, tear_down),
		cmocka_unit_test_setup_teardown(deflate_is_announced_and_never_released, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(release_comes_before_the_acknowledgment, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(numbers_are_read_through_any_framing, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(hostile_G34_page_outside_is_passed_over, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(
			hostile_G34_region_end_inside_a_page_keeps_that_page, set_up, tear_down),
		cmocka_unit_test_setup_teardown(run_over_two_regions_is_released_in_each, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(hostile_G34_page_named_again_is_released_once,
						set_up, tear_down),
		cmocka_unit_test_setup_teardown(hostile_G34_odd_buffers_are_given_back_unused,
						set_up, tear_down),
		cmocka_unit_test_setup_teardown(release_that_fails_is_counted_and_acknowledged,
						set_up, tear_down),
		cmocka_unit_test_setup_teardown(random_lists_release_exactly_what_they_name, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(hostile_G38_endless_list_takes_bounded_turns,
						set_up, tear_down),
		cmocka_unit_test_setup_teardown(
			hostile_G38_gigabytes_of_bad_numbers_take_bounded_turns, set_up, tear_down),
		cmocka_unit_test_setup_teardown(long_list_is_finished_over_several_turns, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(hostile_G38_many_small_requests_take_bounded_turns,
						set_up, tear_down),
		cmocka_unit_test_setup_teardown(queue_stopped_in_the_middle_begins_the_request_anew,
						set_up, tear_down),
		cmocka_unit_test_setup_teardown(queue_disabled_in_the_middle_waits, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(device_broken_in_the_middle_touches_nothing_more,
						set_up, tear_down),
		cmocka_unit_test_setup_teardown(reported_ranges_are_released_piece_by_piece, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(large_report_is_sliced_into_turns, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(reported_pages_with_a_poison_are_kept, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(poison_of_a_driver_before_is_forgotten, set_up,
						tear_down),
		cmocka_unit_test(poison_that_was_not_offered_is_ignored),
		cmocka_unit_test_setup_teardown(
			hostile_G34_report_past_the_end_of_memory_breaks_the_device, set_up,
			tear_down),
		cmocka_unit_test_setup_teardown(hostile_G34_odd_report_is_passed_on_as_it_is,
						set_up, tear_down),
		cmocka_unit_test_setup_teardown(hints_of_a_round_are_told_and_never_released,
						set_up, tear_down),
		cmocka_unit_test_setup_teardown(hints_outside_of_the_round_are_ignored, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(hint_round_does_not_outlive_a_reset, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(hint_command_of_odd_length_is_ignored_or_cut,
						set_up, tear_down),
		cmocka_unit_test_setup_teardown(command_and_pages_in_one_chain_are_taken_in_order,
						set_up, tear_down),
		cmocka_unit_test(hints_without_the_feature_or_a_driver_are_refused),
		cmocka_unit_test_setup_teardown(first_stats_are_read_and_the_buffer_is_kept, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(request_uses_the_buffer_and_takes_the_answer,
						set_up, tear_down),
		cmocka_unit_test_setup_teardown(stats_in_any_order_with_unknown_tags_are_sorted_out,
						set_up, tear_down),
		cmocka_unit_test_setup_teardown(hostile_G34_stats_of_gigabytes_are_read_to_a_bound,
						set_up, tear_down),
		cmocka_unit_test_setup_teardown(hostile_G38_answers_in_advance_do_not_become_a_loop,
						set_up, tear_down),
		cmocka_unit_test_setup_teardown(stats_queue_stopped_and_started_goes_on, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(polling_over_a_kept_buffer_finds_no_work, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(stats_are_asked_for_at_intervals, set_up,
						tear_down),
		cmocka_unit_test(stats_without_the_feature_or_a_driver_are_refused),
		cmocka_unit_test_setup_teardown(stats_of_a_driver_before_are_forgotten, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(target_is_told_when_it_changes, set_up, tear_down),
		cmocka_unit_test_setup_teardown(actual_is_heard_when_it_changes, set_up, tear_down),
		cmocka_unit_test_setup_teardown(hostile_G23_writes_to_read_only_config_are_dropped,
						set_up, tear_down),
		cmocka_unit_test(offers_what_was_configured),
		cmocka_unit_test(queues_are_found_however_a_driver_numbers_them),
		cmocka_unit_test(queues_all_started_are_numbered_by_the_text),
		cmocka_unit_test(queue_that_could_be_either_waits_for_the_next_to_start),
	};
	int failed = 0;

	seed = rig_seed();
	for (combination = 0; combination < 8; combination++) {
		struct rig_options options = rig_combination(combination);

		failed += cmocka_run_group_tests_name(rig_describe(&options), tests, NULL, NULL);
	}
	return failed;
}
