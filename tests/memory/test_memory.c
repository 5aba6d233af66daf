/* SPDX-License-Identifier: BSD-3-Clause */
/* Guest addresses to pointers: every edge of every region, against a model that is a byte map. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/errno.h"
#include "memory/memory.h"
#include "tests/support/rig.h"

static u8 ram[4096];

static void init_refuses_what_no_map_can_be(void **state)
{
	struct memory m;
	struct {
		struct memory_region r[2];
		u32 n;
		int want;
	} rows[] = {
		{ { { 0, 0, ram } }, 1, -EINVAL }, /* V05: empty */
		{ { { 0, 16, NULL } }, 1, -EINVAL },
		{ { { UINT64_MAX, 2, ram } }, 1, -EINVAL }, /* wraps round the guest's top */
		{ { { UINT64_MAX, 1, ram } }, 1, 0 },
		{ { { 0, UINT64_MAX, ram } }, 1, -EINVAL }, /* wraps round ours */
		{ { { 100, 10, ram }, { 109, 5, ram } }, 2, -EINVAL }, /* overlap by one */
		{ { { 109, 5, ram }, { 100, 10, ram } }, 2, -EINVAL }, /* in either order */
		{ { { 100, 10, ram }, { 110, 5, ram } }, 2, 0 },
		{ { { 110, 5, ram }, { 100, 10, ram } }, 2, 0 },
		{ { { 100, 10, ram }, { 100, 10, ram } }, 2, -EINVAL },
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		assert_int_equal(memory_init(&m, rows[i].r, rows[i].n), rows[i].want);
	assert_int_equal(memory_init(&m, NULL, 0), 0);
	assert_null(memory_at(&m, 0, 1, 1));
}

static void find_agrees_with_a_byte_map(void **state)
{
	u64 seed = rig_seed();

	for (int round = 0; round < 200; round++) {
		struct memory_region r[24];
		struct memory m;
		u32 n = 0, hint = 0;
		const u8 *model[600] = { 0 };
		u16 region_of[600] = { 0 };

		for (u64 at = rig_random(&seed) % 20; at < 560 && n < ARRAY_SIZE(r);) {
			u64 len = 1 + rig_random(&seed) % 40;

			if (at + len > 600)
				break;
			r[n] = (struct memory_region){ at, len, ram + rig_random(&seed) % 3000 };
			for (u64 i = 0; i < len; i++) {
				model[at + i] = r[n].base + i;
				region_of[at + i] = n;
			}
			n++;
			at += len + (rig_random(&seed) % 2 ? 0 : rig_random(&seed) % 20);
		}
		for (u32 i = n; i > 1; i--) { /* in any order */
			u32 with = rig_random(&seed) % i;
			struct memory_region t = r[i - 1];

			r[i - 1] = r[with];
			r[with] = t;
		}
		assert_int_equal(memory_init(&m, r, n), 0);
		for (int look = 0; look < 2000; look++) {
			u64 gpa = rig_random(&seed) % 600, want = 0,
			    len = 1 + rig_random(&seed) % 60;
			struct span s;

			while (want < len && gpa + want < 600 && model[gpa + want] &&
			       region_of[gpa + want] == region_of[gpa])
				want++;
			assert_int_equal(memory_find(&m, &hint, gpa, len, &s), want > 0);
			if (want > 0) {
				assert_int_equal(s.n_bytes, want);
				assert_ptr_equal(s.base, model[gpa]);
			}
			assert_ptr_equal(memory_at(&m, gpa, len, 1),
					 want == len ? model[gpa] : NULL);
		}
	}
}

static void at_wants_alignment_on_both_sides(void **state)
{
	static _Alignas(64) u8 block[256];
	struct memory_region r = { 0x1000, 128, block + 8 };
	struct memory m;

	assert_int_equal(memory_init(&m, &r, 1), 0);
	assert_null(memory_at(&m, 0x1000, 16, 16)); /* the pointer is not */
	assert_null(memory_at(&m, 0x1008, 16, 16)); /* the address is not */
	assert_ptr_equal(memory_at(&m, 0x1008, 16, 8), block + 16);
	assert_null(memory_at(&m, 0x1000, 129, 1));
	assert_null(memory_at(&m, 0x1000, 0, 1));
	assert_null(memory_at(&m, 0x1001, UINT64_MAX, 1)); /* G09 */
}

static void read_crosses_regions_and_stops_at_holes(void **state)
{
	struct memory_region r[] = { { 0, 4, ram },
				     { 4, 4, ram + 100 },
				     { UINT64_MAX - 3, 4, ram } };
	struct memory m;
	u32 hint = 0;
	u8 got[16];

	memcpy(ram, "abcd", 4);
	memcpy(ram + 100, "efgh", 4);
	assert_int_equal(memory_init(&m, r, 3), 0);
	assert_true(memory_read(&m, &hint, 2, got, 5));
	assert_memory_equal(got, "cdefg", 5);
	assert_false(memory_read(&m, &hint, 6, got, 3));
	/* G08: from the top of the numbers it does not go on at 0. */
	assert_false(memory_read(&m, &hint, UINT64_MAX - 1, got, 4));
	assert_true(memory_read(&m, &hint, UINT64_MAX - 3, got, 4));
}

static unsigned int n_idle;

static void count_idle(struct memory *m)
{
	n_idle++;
}

static void last_unpin_tells_once(void **state)
{
	struct memory m;

	n_idle = 0;
	assert_int_equal(memory_init(&m, NULL, 0), 0);
	m.idle = count_idle;
	memory_pin(&m);
	memory_unpin(&m);
	assert_int_equal(n_idle, 0);
	memory_unpin(&m);
	assert_int_equal(n_idle, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(init_refuses_what_no_map_can_be),
		cmocka_unit_test(find_agrees_with_a_byte_map),
		cmocka_unit_test(at_wants_alignment_on_both_sides),
		cmocka_unit_test(read_crosses_regions_and_stops_at_holes),
		cmocka_unit_test(last_unpin_tells_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
