/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Guest memory as a device sees it: the only place where a guest's number becomes a pointer.
 *
 * A map is a sorted table of regions, made once and never changed. A transport that hears of a
 * new layout makes a new map and hands it to the device (vdev_set_memory); the old one lives
 * on until the last request that points into it is done. One event loop owns a map and all
 * its users: no locks here.
 */
#ifndef VIADUCT_MEMORY_MEMORY_H
#define VIADUCT_MEMORY_MEMORY_H

#include "base/types.h"

/* Guest addresses [gpa, gpa + n_bytes) lie at `base` in this process. */
struct memory_region {
	u64 gpa;
	u64 n_bytes;
	u8 *base;
};

struct memory {
	const struct memory_region *regions; /* sorted by gpa */
	u32 n_regions;
	u32 n_pins;
	/* Called once when the last pin goes; may free the map. NULL: nobody cares. */
	void (*idle)(struct memory *memory);
};

/*
 * Sorts `regions` in place and makes a map of them, pinned once by the caller. The array is
 * the caller's and outlives the map. -EINVAL if a region is empty, wraps around the end of
 * the address space (the guest's or ours) or overlaps another (case V05).
 */
int memory_init(struct memory *memory, struct memory_region *regions, u32 n_regions);

static inline void memory_pin(struct memory *memory)
{
	memory->n_pins++;
}

void memory_unpin(struct memory *memory);

/*
 * The longest run of at most `n_bytes` (not 0) from `gpa` on that lies in one region. False if
 * `gpa` itself is not mapped. Regions that touch are still two: call again for the rest.
 * `hint` remembers where the last look-up of this caller ended; start it at 0.
 */
bool memory_find(const struct memory *memory, u32 *hint, u64 gpa, u64 n_bytes, struct span *span);

/* Copies [gpa, gpa + n_bytes) into `dst`, once, across regions. False: not all is mapped. */
bool memory_read(const struct memory *memory, u32 *hint, u64 gpa, void *dst, u32 n_bytes);

/*
 * All of [gpa, gpa + n_bytes) as one piece, for rings and tables; NULL if it is not, or if
 * `gpa` or the pointer is not a multiple of `align` (a power of two).
 */
void *memory_at(const struct memory *memory, u64 gpa, u64 n_bytes, u32 align);

#endif
