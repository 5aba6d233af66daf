/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Stands in for src/base/shared.h when the ring is built for test_ring_fetch.c: every access to
 * shared memory is told to the test before it happens.
 */
#ifndef VIADUCT_BASE_SHARED_H
#define VIADUCT_BASE_SHARED_H

#include "base/types.h"

void *memcpy(void *dst, const void *src, size_t n);
void *memmove(void *dst, const void *src, size_t n);
void *memset(void *dst, int c, size_t n);
int memcmp(const void *a, const void *b, size_t n);

void shared_fetched(const void *p, size_t n);
void shared_stored(const void *p, size_t n);

#define COUNTED_LOAD(name, type, value)         \
	static inline value name(const type *p) \
	{                                       \
		shared_fetched(p, sizeof(*p));  \
		return type##_get(*p);          \
	}
#define COUNTED_STORE(name, type, value)          \
	static inline void name(type *p, value v) \
	{                                         \
		shared_stored(p, sizeof(*p));     \
		*p = type##_of(v);                \
	}

COUNTED_LOAD(le16_load, le16, u16)
COUNTED_LOAD(le16_load_acquire, le16, u16)
COUNTED_LOAD(le32_load, le32, u32)
COUNTED_LOAD(le64_load, le64, u64)
COUNTED_STORE(le16_store, le16, u16)
COUNTED_STORE(le16_store_release, le16, u16)
COUNTED_STORE(le32_store, le32, u32)
COUNTED_STORE(le64_store, le64, u64)

static inline void fence_full(void)
{
}

static inline void copy_once(void *dst, const void *src, size_t n)
{
	shared_fetched(src, n);
	memcpy(dst, src, n);
}

#endif
