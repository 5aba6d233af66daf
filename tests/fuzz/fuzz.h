/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the fuzz targets share: reading an input as a list of choices, and proof of reach.
 *
 * A target is built twice: with libFuzzer (-Dfuzz=true, clang), to search; and with replay.c,
 * which runs the committed corpus in the ordinary tests and then asks the target whether it got
 * as deep as it must.
 */
#ifndef VIADUCT_TESTS_FUZZ_FUZZ_H
#define VIADUCT_TESTS_FUZZ_FUZZ_H

#include <stdlib.h>

#include "base/types.h"

/* In the target. */
int LLVMFuzzerTestOneInput(const u8 *data, size_t n_bytes);
/* Prints what the inputs so far have reached; false if that is not enough. */
bool fuzz_reached_enough(void);

/* A promise broken: libFuzzer takes the abort for a find. */
#define MUST(x)                  \
	do {                     \
		if (!(x))        \
			abort(); \
	} while (0)

struct choices {
	const u8 *data;
	size_t n_bytes;
};

/* The next byte; 0 for ever at the end. */
static inline u8 choose(struct choices *c)
{
	if (c->n_bytes == 0)
		return 0;
	c->n_bytes--;
	return *c->data++;
}

static inline u16 choose16(struct choices *c)
{
	u16 low = choose(c);

	return low | choose(c) << 8;
}

/* A byte picks one of a table of values that matter. */
#define CHOOSE_OF(c, table) ((table)[choose(c) % ARRAY_SIZE(table)])

#endif
