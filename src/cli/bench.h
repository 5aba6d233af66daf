/* SPDX-License-Identifier: BSD-3-Clause */
/* What the benchmarks share: times of operations, and what they amount to. */
#ifndef VIADUCT_CLI_BENCH_H
#define VIADUCT_CLI_BENCH_H

#include <time.h>

#include "base/types.h"

/* argv[0] is what to measure. Each returns the exit status. */
int bench_blk(int argc, char **argv);
int bench_net(int argc, char **argv);
int bench_ring(int argc, char **argv);

static inline u64 bench_now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (u64)t.tv_sec * 1000000000 + (u64)t.tv_nsec;
}

/* How many operations took how long, to 3 in 100: 32 steps for each doubling. */
#define BENCH_N_STEPS 2048
struct bench_times {
	u64 n;
	u64 max_ns;
	u64 steps[BENCH_N_STEPS];
};

static inline void bench_times_add(struct bench_times *t, u64 ns)
{
	u32 shift = ns >= 64 ? 63 - 5 - (u32)__builtin_clzll(ns) : 0;

	t->n++;
	t->max_ns = max_u64(t->max_ns, ns);
	t->steps[shift * 32 + (ns >> shift)]++;
}

/* Of `per_mille` in a thousand operations, none took longer. */
static inline u64 bench_times_at(const struct bench_times *t, u32 per_mille)
{
	u64 want = (t->n * per_mille + 999) / 1000, seen = 0;

	for (u32 i = 0; i < BENCH_N_STEPS; i++) {
		u32 shift = i < 64 ? 0 : i / 32 - 1;

		seen += t->steps[i];
		if (seen >= want && want > 0)
			return min_u64((((u64)i - shift * 32 + 1) << shift) - 1, t->max_ns);
	}
	return 0;
}

#endif
