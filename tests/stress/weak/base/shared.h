/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Stands in for src/base/shared.h when the ring is built for test_ring_weak.c: shared memory as
 * weakly ordered machines have it, see there.
 */
#ifndef VIADUCT_BASE_SHARED_H
#define VIADUCT_BASE_SHARED_H

#include "base/types.h"

void *memcpy(void *dst, const void *src, size_t n);
void *memmove(void *dst, const void *src, size_t n);
void *memset(void *dst, int c, size_t n);
int memcmp(const void *a, const void *b, size_t n);

u64 weak_load(const void *p, u32 n_bytes);
void weak_store(void *p, u64 value, u32 n_bytes, bool release);
void weak_acquired(void); /* the load just done was an acquire */
void weak_fence(void);

static inline u16 le16_load(const le16 *p)
{
	return weak_load(p, 2);
}

static inline u32 le32_load(const le32 *p)
{
	return weak_load(p, 4);
}

static inline u64 le64_load(const le64 *p)
{
	return weak_load(p, 8);
}

static inline u16 le16_load_acquire(const le16 *p)
{
	u16 value = weak_load(p, 2);

	weak_acquired();
	return value;
}

static inline void le16_store(le16 *p, u16 v)
{
	weak_store(p, v, 2, false);
}

static inline void le32_store(le32 *p, u32 v)
{
	weak_store(p, v, 4, false);
}

static inline void le64_store(le64 *p, u64 v)
{
	weak_store(p, v, 8, false);
}

static inline void le16_store_release(le16 *p, u16 v)
{
	weak_store(p, v, 2, true);
}

static inline void fence_full(void)
{
	weak_fence();
}

/* Of tables: two words at a time, in any order as far as we know. */
static inline void copy_once(void *dst, const void *src, size_t n)
{
	for (size_t i = 0; i < n; i += 8) {
		u64 word = weak_load((const u8 *)src + i, 8);

		memcpy((u8 *)dst + i, &word, 8);
	}
}

#endif
