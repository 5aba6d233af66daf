/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The only ways to touch memory that a peer may change under us.
 *
 * Each load and store happens exactly once, untorn: the compiler may neither repeat nor split
 * it (64 bits are two words on a 32-bit machine). The ordered ones end, at their place of use,
 * in a letter that names their partner on the other side; ring/split.c and ring/packed.c show
 * both sides of each pair on one screen.
 */
#ifndef VIADUCT_BASE_SHARED_H
#define VIADUCT_BASE_SHARED_H

#include "base/types.h"

void *memcpy(void *dst, const void *src, size_t n);
void *memmove(void *dst, const void *src, size_t n);
void *memset(void *dst, int c, size_t n);
int memcmp(const void *a, const void *b, size_t n);

static inline u16 le16_load(const le16 *p)
{
	return WIRE16(__atomic_load_n(&p->wire, __ATOMIC_RELAXED));
}

static inline u32 le32_load(const le32 *p)
{
	return WIRE32(__atomic_load_n(&p->wire, __ATOMIC_RELAXED));
}

/*
 * A 32-bit machine may have no 64-bit accesses of its own, and then a call into a library would
 * stand here. Two halves do as well: an honest peer changes no 64-bit field while we may look,
 * and what a hostile one makes of it is checked like any other number.
 */
static inline u64 le64_load(const le64 *p)
{
#if __SIZEOF_POINTER__ >= 8
	return WIRE64(__atomic_load_n(&p->wire, __ATOMIC_RELAXED));
#else
	const le32 *half = (const le32 *)(const void *)p;

	return le32_load(&half[0]) | (u64)le32_load(&half[1]) << 32;
#endif
}

static inline u16 le16_load_acquire(const le16 *p)
{
	return WIRE16(__atomic_load_n(&p->wire, __ATOMIC_ACQUIRE));
}

static inline void le16_store(le16 *p, u16 v)
{
	__atomic_store_n(&p->wire, WIRE16(v), __ATOMIC_RELAXED);
}

static inline void le32_store(le32 *p, u32 v)
{
	__atomic_store_n(&p->wire, WIRE32(v), __ATOMIC_RELAXED);
}

static inline void le64_store(le64 *p, u64 v)
{
#if __SIZEOF_POINTER__ >= 8
	__atomic_store_n(&p->wire, WIRE64(v), __ATOMIC_RELAXED);
#else
	le32 *half = (le32 *)(void *)p;

	le32_store(&half[0], (u32)v);
	le32_store(&half[1], v >> 32);
#endif
}

static inline void le16_store_release(le16 *p, u16 v)
{
	__atomic_store_n(&p->wire, WIRE16(v), __ATOMIC_RELEASE);
}

/* Our stores so far are visible before any of our later loads is performed. */
static inline void fence_full(void)
{
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
}

/*
 * Copies shared bytes of any alignment into a local, once: what is checked afterwards is what
 * is used. The empty statement keeps the compiler from reading the source again.
 */
static inline void copy_once(void *dst, const void *src, size_t n)
{
	memcpy(dst, src, n);
	__asm__ volatile("" : : "r"(dst) : "memory");
}

#endif
