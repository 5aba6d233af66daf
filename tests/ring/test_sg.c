/* SPDX-License-Identifier: BSD-3-Clause */
/* The cursor against a flat copy of the same bytes, cut up at random. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "ring/sg.h"
#include "tests/support/rig.h"

#define N 512

/* Cuts `bytes` into spans of random lengths and returns the cursor over all of them. */
static struct sg cut(u8 *bytes, size_t n, struct span *spans, u64 *seed)
{
	struct sg sg = { .v = spans, .n_bytes = n };

	for (size_t at = 0; at < n; spans++) {
		size_t len = min_u64(1 + rig_random(seed) % 20, n - at);

		*spans = (struct span){ bytes + at, len };
		at += len;
	}
	return sg;
}

static void any_steps_equal_the_flat_bytes(void **state)
{
	u64 seed = rig_seed();

	for (int round = 0; round < 3000; round++) {
		u8 bytes[N], flat[N], got[N];
		struct span spans[N];
		size_t n = 1 + rig_random(&seed) % N, at = 0;
		struct sg sg;

		for (size_t i = 0; i < n; i++)
			bytes[i] = flat[i] = rig_random(&seed);
		sg = cut(bytes, n, spans, &seed);
		while (sg.n_bytes > 0) {
			size_t want = rig_random(&seed) % 60, real = min_u64(want, n - at);

			assert_ptr_equal(sg_at(&sg), bytes + at);
			switch (rig_random(&seed) % 4) {
			case 0:
				assert_int_equal(sg_read(&sg, got, want), real);
				assert_memory_equal(got, flat + at, real);
				break;
			case 1:
				assert_int_equal(sg_read(&sg, NULL, want), real);
				break;
			case 2:
				memset(got, round, want);
				assert_int_equal(sg_write(&sg, got, want), real);
				memset(flat + at, round, real);
				break;
			case 3:
				assert_int_equal(sg_zero(&sg, want), real);
				memset(flat + at, 0, real);
				break;
			}
			at += real;
			assert_int_equal(sg.n_bytes, n - at);
		}
		assert_memory_equal(bytes, flat, n);
		assert_int_equal(sg_read(&sg, got, 10), 0);
	}
}

static void split_tail_parts_any_layout(void **state)
{
	u64 seed = rig_seed();

	for (int round = 0; round < 3000; round++) {
		u8 bytes[N], got[N];
		struct span spans[N], *v;
		size_t n = 1 + rig_random(&seed) % N, skip = rig_random(&seed) % n, tail_n;
		struct sg sg, tail, untouched;
		u32 n_spans;

		for (size_t i = 0; i < n; i++)
			bytes[i] = rig_random(&seed);
		sg = cut(bytes, n, spans, &seed);
		sg_read(&sg, NULL, skip);
		untouched = sg;
		assert_false(sg_split_tail(&sg, n - skip + 1, &tail));
		assert_memory_equal(&sg, &untouched, sizeof(sg));

		tail_n = rig_random(&seed) % (n - skip + 1);
		assert_true(sg_split_tail(&sg, tail_n, &tail));
		assert_int_equal(sg.n_bytes, n - skip - tail_n);
		assert_int_equal(sg_read(&tail, got, N), tail_n);
		assert_memory_equal(got, bytes + n - tail_n, tail_n);

		/* What is left, as an array for a system call. */
		v = sg_spans(&sg, &n_spans);
		size_t at = skip;

		for (u32 i = 0; i < n_spans; i++) {
			assert_ptr_equal(v[i].base, bytes + at);
			assert_true(v[i].n_bytes > 0);
			at += v[i].n_bytes;
		}
		assert_int_equal(at, n - tail_n);
	}
}

static void copy_moves_between_any_two_layouts(void **state)
{
	u64 seed = rig_seed();

	for (int round = 0; round < 3000; round++) {
		u8 from[N], to[N];
		struct span from_spans[N], to_spans[N];
		size_t n_from = 1 + rig_random(&seed) % N, n_to = 1 + rig_random(&seed) % N, n,
		       want;
		struct sg a, b;

		for (size_t i = 0; i < n_from; i++)
			from[i] = rig_random(&seed);
		memset(to, 0, sizeof(to));
		a = cut(from, n_from, from_spans, &seed);
		b = cut(to, n_to, to_spans, &seed);
		want = rig_random(&seed) % (N + 10);
		n = min_u64(want, min_u64(n_from, n_to));
		assert_int_equal(sg_copy(&b, &a, want), n);
		assert_memory_equal(to, from, n);
		assert_int_equal(a.n_bytes, n_from - n);
		assert_int_equal(b.n_bytes, n_to - n);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(any_steps_equal_the_flat_bytes),
		cmocka_unit_test(split_tail_parts_any_layout),
		cmocka_unit_test(copy_moves_between_any_two_layouts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
