/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The double-fetch detector (G12, D12): the ring, built with loads and stores that count.
 *
 * What a peer may change is read once in each step, or the copy that was checked is not the one
 * that is used. Besides: the driver half never reads what it wrote itself (D03), and neither half
 * writes to what is the other's.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/shared.h"
#include "tests/support/rig.h"
#include "tests/support/ring_pair.h"

#define SIZE 8

/* Each part of the ring has a page of its own. */
_Static_assert(PAIR_DRIVER_AT == 0x1000 && PAIR_DEVICE_AT == 0x2000, "");

static struct ring_pair pair;

/* How often each byte was touched since the last reset, and which were. */
struct touches {
	u8 times[PAIR_RAM_BYTES];
	u32 at[4096];
	u32 n;
};

static struct touches fetched, stored;
static u64 n_fetches, n_stores;

static u8 *whose(const void *p, size_t *at)
{
	const u8 *byte = p;
	u8 *views[] = { pair.ram, pair.device_ram };

	for (int i = 0; i < 2; i++) {
		if (byte >= views[i] && byte < views[i] + PAIR_RAM_BYTES) {
			*at = byte - views[i];
			return views[i];
		}
	}
	return NULL;
}

static void count(struct touches *t, const void *p, size_t n)
{
	size_t at = 0;

	assert_non_null(whose(p, &at)); /* shared words lie in shared memory and nowhere else */
	for (size_t i = 0; i < n; i++) {
		assert_true(t->n < ARRAY_SIZE(t->at));
		t->at[t->n++] = at + i;
		t->times[at + i]++;
	}
}

void shared_fetched(const void *p, size_t n)
{
	count(&fetched, p, n);
	n_fetches++;
}

void shared_stored(const void *p, size_t n)
{
	count(&stored, p, n);
	n_stores++;
}

static void reset(void)
{
	while (fetched.n > 0)
		fetched.times[fetched.at[--fetched.n]] = 0;
	while (stored.n > 0)
		stored.times[stored.at[--stored.n]] = 0;
}

/* The most that a byte of [from, from + n) was touched. */
static u8 most(const struct touches *t, u32 from, u32 n)
{
	u8 max = 0;

	for (u32 i = 0; i < t->n; i++)
		if (t->at[i] - from < n && t->times[t->at[i]] > max)
			max = t->times[t->at[i]];
	return max;
}

/* No field more than once in this step. */
static void assert_fetched_once(void)
{
	assert_true(most(&fetched, 0, PAIR_RAM_BYTES) <= 1);
}

static void add(u32 n_pieces, u64 *rnd)
{
	struct span sg[SIZE];
	u32 n_out = rig_random(rnd) % (n_pieces + 1);

	for (u32 i = 0; i < n_pieces; i++)
		sg[i] = (struct span){ pair.ram + PAIR_DATA_AT + 64 * i, 1 + rig_random(rnd) % 64 };
	reset();
	if (virtqueue_add_buf(&pair.vq, sg, n_out, n_pieces - n_out, &pair) == 0) {
		assert_true(most(&stored, 0, PAIR_RAM_BYTES) == 1);
		/* The device's area is not ours to write. */
		assert_int_equal(most(&stored, PAIR_DEVICE_AT, 0x1000), 0);
	}
	assert_int_equal(most(&fetched, 0, PAIR_RAM_BYTES), 0);
}

/* What the driver wrote it knows: split, all but the device's area; packed, its event area. */
static void assert_driver_read_only_what_is_the_devices(void)
{
	if (!pair.options.packed)
		assert_int_equal(most(&fetched, PAIR_DESC_AT, 0x1000), 0);
	assert_int_equal(most(&fetched, PAIR_DRIVER_AT, 0x1000), 0);
	assert_int_equal(most(&fetched, PAIR_TABLES_AT, 16 * PAIR_MAX_SIZE * PAIR_MAX_INDIRECT), 0);
	assert_int_equal(most(&stored, PAIR_DEVICE_AT, 0x1000), 0);
}

static void assert_device_wrote_only_what_is_the_drivers_to_read(void)
{
	if (!pair.options.packed)
		assert_int_equal(most(&stored, PAIR_DESC_AT, 0x1000), 0);
	assert_int_equal(most(&stored, PAIR_DRIVER_AT, 0x1000), 0);
	assert_int_equal(most(&fetched, PAIR_DEVICE_AT, 0x1000), 0);
	assert_int_equal(most(&stored, PAIR_TABLES_AT, 16 * PAIR_MAX_SIZE * PAIR_MAX_INDIRECT), 0);
}

static void fetch_G12_each_field_once_in_each_step(void **state)
{
	u64 rnd = rig_seed();

	for (unsigned int i = 0; i < 8; i++) {
		struct ring_pair_options options = ring_pair_combination(i, SIZE);
		u64 n_pops = 0, before;

		reset();
		ring_pair_start(&pair, &options);
		n_fetches = n_stores = 0;
		for (u32 round = 0; round < 500; round++) {
			struct span spans[SIZE][SIZE + 2];
			struct chain chains[SIZE];
			u32 n = 0, len;

			for (u32 k = rig_random(&rnd) % 4; k > 0; k--)
				add(1 + rig_random(&rnd) % SIZE, &rnd);
			reset();
			virtqueue_kick(&pair.vq);
			assert_fetched_once();
			assert_driver_read_only_what_is_the_devices();

			for (int got = 1; got > 0;) {
				chains[n] =
					(struct chain){ .spans = spans[n], .max_spans = SIZE + 2 };
				reset();
				before = n_fetches;
				got = devq_pop(&pair.devq, &chains[n]);
				assert_true(got >= 0);
				assert_device_wrote_only_what_is_the_drivers_to_read();
				/* "Empty" looks again after asking to be told: [B]. */
				if (got == 0) {
					assert_true(n_fetches - before <= 2);
					break;
				}
				assert_true(n_fetches - before >= 4);
				assert_fetched_once();
				n++;
				n_pops++;
			}
			reset();
			while (n > 0) {
				devq_push(&pair.devq, &chains[n - 1], chains[n - 1].in_bytes);
				n--;
			}
			assert_int_equal(most(&fetched, 0, PAIR_RAM_BYTES), 0);
			devq_flush(&pair.devq);
			assert_fetched_once();
			assert_device_wrote_only_what_is_the_drivers_to_read();

			for (void *token = &pair; token;) {
				reset();
				token = virtqueue_get_buf(&pair.vq, &len);
				assert_fetched_once();
				assert_driver_read_only_what_is_the_devices();
			}
			reset();
			if (rig_random(&rnd) % 2)
				virtqueue_disable_cb(&pair.vq);
			else
				virtqueue_enable_cb(&pair.vq);
			assert_fetched_once();
			assert_driver_read_only_what_is_the_devices();
		}
		assert_true(n_pops > 300);
		print_message("%s: %llu pops, %llu fetches, %llu stores\n",
			      rig_describe(&(struct rig_options){ options.packed, options.event_idx,
								  options.indirect, 0 }),
			      (unsigned long long)n_pops, (unsigned long long)n_fetches,
			      (unsigned long long)n_stores);
	}
}

/*
 * A split chain may lead back to a descriptor that was good the first time round; that is how it
 * can end. The spans that there is room for, SIZE of them, bound it: the next one is the fault.
 */
static bool may_have_gone_in_circles(void)
{
	switch (pair.devq.fault.kind) {
	case RING_FAULT_LOOP:
	case RING_FAULT_CHAIN_TOO_LONG:
	case RING_FAULT_ORDER:
	case RING_FAULT_TOTAL_LENGTH:
		return !pair.options.packed && most(&fetched, 0, PAIR_RAM_BYTES) <= SIZE + 1;
	default:
		return false;
	}
}

/* Faulty chains too: what showed the fault is what is recorded. */
static void fetch_G12_each_field_once_on_the_way_to_a_fault(void **state)
{
	u64 rnd = rig_seed(), n_faults = 0;

	for (u32 round = 0; round < 20000; round++) {
		struct ring_pair_options options = ring_pair_combination(round, SIZE);
		struct span spans[SIZE];
		struct chain c = { .spans = spans, .max_spans = SIZE };
		int got = 1;

		reset();
		ring_pair_start(&pair, &options);
		add(1 + rig_random(&rnd) % SIZE, &rnd);
		virtqueue_kick(&pair.vq);
		for (int k = 0; k < 4; k++) {
			u32 parts[] = { PAIR_DESC_AT, PAIR_DRIVER_AT, PAIR_TABLES_AT };
			u32 at = parts[rig_random(&rnd) % 3] + rig_random(&rnd) % 128;

			pair.ram[at] ^= 1 << rig_random(&rnd) % 8;
		}
		while (got > 0) {
			reset();
			got = devq_pop(&pair.devq, &c);
			if (got != 0 && !may_have_gone_in_circles())
				assert_fetched_once();
			if (got > 0)
				devq_push(&pair.devq, &c, 0);
		}
		n_faults += got < 0;
	}
	print_message("%llu faults\n", (unsigned long long)n_faults);
	assert_true(n_faults > 1000);
}

static int create(void **state)
{
	ring_pair_create(&pair, false);
	return 0;
}

static int destroy(void **state)
{
	ring_pair_destroy(&pair);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(fetch_G12_each_field_once_in_each_step),
		cmocka_unit_test(fetch_G12_each_field_once_on_the_way_to_a_fault),
	};

	return cmocka_run_group_tests(tests, create, destroy);
}
