/* SPDX-License-Identifier: BSD-3-Clause */
/* Guest address to pointer: binary search, with the last hit tried first. */
#include "memory/memory.h"

#include "base/errno.h"
#include "base/shared.h"

static bool region_is_sane(const struct memory_region *r)
{
	return r->n_bytes != 0 && r->n_bytes - 1 <= UINT64_MAX - r->gpa &&
	       r->n_bytes - 1 <= UINTPTR_MAX - (uintptr_t)r->base && r->base;
}

int memory_init(struct memory *memory, struct memory_region *regions, u32 n_regions)
{
	/* Insertion sort: a map is made seldom, and mostly sorted already. */
	for (u32 i = 1; i < n_regions; i++) {
		struct memory_region r = regions[i];
		u32 at = i;

		for (; at > 0 && regions[at - 1].gpa > r.gpa; at--)
			regions[at] = regions[at - 1];
		regions[at] = r;
	}
	for (u32 i = 0; i < n_regions; i++) {
		if (!region_is_sane(&regions[i]))
			return -EINVAL;
		if (i > 0 && regions[i].gpa - regions[i - 1].gpa < regions[i - 1].n_bytes)
			return -EINVAL;
	}
	*memory = (struct memory){ .regions = regions, .n_regions = n_regions, .n_pins = 1 };
	return 0;
}

void memory_unpin(struct memory *memory)
{
	ASSERT(memory->n_pins > 0);
	if (--memory->n_pins == 0 && memory->idle)
		memory->idle(memory);
}

static inline bool region_holds(const struct memory_region *r, u64 gpa)
{
	return gpa >= r->gpa && gpa - r->gpa < r->n_bytes;
}

bool memory_find(const struct memory *memory, u32 *hint, u64 gpa, u64 n_bytes, struct span *span)
{
	u32 at = *hint;

	if (unlikely(at >= memory->n_regions || !region_holds(&memory->regions[at], gpa))) {
		u32 low = 0, high = memory->n_regions;

		/* The last region that begins at or below gpa, if any, is at low - 1. */
		while (low < high) {
			u32 middle = low + (high - low) / 2;

			if (memory->regions[middle].gpa <= gpa)
				low = middle + 1;
			else
				high = middle;
		}
		if (low == 0 || !region_holds(&memory->regions[low - 1], gpa))
			return false;
		*hint = at = low - 1;
	}

	const struct memory_region *r = &memory->regions[at];
	u64 offset = gpa - r->gpa;

	span->base = r->base + offset;
	span->n_bytes = min_u64(n_bytes, r->n_bytes - offset);
	return true;
}

bool memory_read(const struct memory *memory, u32 *hint, u64 gpa, void *dst, u32 n_bytes)
{
	struct span span;

	for (u32 done = 0; done < n_bytes; done += span.n_bytes) {
		if (gpa > UINT64_MAX - done ||
		    !memory_find(memory, hint, gpa + done, n_bytes - done, &span))
			return false;
		copy_once((u8 *)dst + done, span.base, span.n_bytes);
	}
	return true;
}

void *memory_at(const struct memory *memory, u64 gpa, u64 n_bytes, u32 align)
{
	u32 hint = 0;
	struct span span;

	if (n_bytes == 0 || !memory_find(memory, &hint, gpa, n_bytes, &span))
		return NULL;
	if (span.n_bytes != n_bytes || (gpa & (align - 1)) || ((uintptr_t)span.base & (align - 1)))
		return NULL;
	return span.base;
}
