/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Carving one lent block of memory into the arrays that an object needs.
 *
 * An object's init function carves from an arena; the same code, run on an arena without
 * memory, tells how large the block has to be. So the two can never disagree.
 */
#ifndef VIADUCT_BASE_ARENA_H
#define VIADUCT_BASE_ARENA_H

#include "base/types.h"

struct arena {
	u8 *base; /* NULL: only counting. Aligned to 16. */
	size_t used_bytes;
};

/* `n` objects of `bytes` each, aligned to 16; NULL while counting. Not cleared. */
static inline void *arena_take(struct arena *a, size_t n, size_t bytes)
{
	size_t at = (a->used_bytes + 15) & ~(size_t)15;

	ASSERT(!bytes || n <= (SIZE_MAX - at) / bytes);
	a->used_bytes = at + n * bytes;
	return a->base ? a->base + at : NULL;
}

#endif
