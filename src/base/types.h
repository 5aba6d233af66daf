/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The words everything is built from: sized integers, little-endian wire types, spans.
 *
 * A wire field is a one-member struct, so that forgetting to convert it does not compile.
 * Freestanding: needs nothing but the compiler's own headers.
 */
#ifndef VIADUCT_BASE_TYPES_H
#define VIADUCT_BASE_TYPES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;

/* Little-endian as it lies in shared memory or on a wire. */
typedef struct {
	u16 wire;
} le16;
typedef struct {
	u32 wire;
} le32;
typedef struct {
	u64 wire;
} le64;

#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define WIRE16(x) (x)
#define WIRE32(x) (x)
#define WIRE64(x) (x)
#else
#define WIRE16(x) __builtin_bswap16(x)
#define WIRE32(x) __builtin_bswap32(x)
#define WIRE64(x) __builtin_bswap64(x)
#endif

static inline u16 le16_get(le16 v)
{
	return WIRE16(v.wire);
}

static inline u32 le32_get(le32 v)
{
	return WIRE32(v.wire);
}

static inline u64 le64_get(le64 v)
{
	return WIRE64(v.wire);
}

static inline le16 le16_of(u16 v)
{
	return (le16){ WIRE16(v) };
}

static inline le32 le32_of(u32 v)
{
	return (le32){ WIRE32(v) };
}

static inline le64 le64_of(u64 v)
{
	return (le64){ WIRE64(v) };
}

/*
 * A piece of memory that this process can touch. Laid out like POSIX's struct iovec, so that
 * an array of spans can be handed to readv and its kin (host/ asserts the layout).
 */
struct span {
	void *base;
	size_t n_bytes;
};

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#define SIZE_IS(type, bytes) _Static_assert(sizeof(type) == (bytes), #type " is " #bytes " bytes")
#define OFFSET_IS(type, field, at) \
	_Static_assert(offsetof(type, field) == (at), #type "." #field " lies at " #at)

/* The object that holds member `member` at address `ptr`. */
#define container_of(ptr, type, member) \
	((type *)((char *)(1 ? (ptr) : &((type *)0)->member) - offsetof(type, member)))

#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)

/*
 * Our own bug, never a peer's lie: stop here. It stays on in every build; what a guest or a
 * peer wrote is checked by code, with an answer, and must not reach an ASSERT.
 */
#define ASSERT(x)                         \
	do {                              \
		if (unlikely(!(x)))       \
			__builtin_trap(); \
	} while (0)

static inline u64 min_u64(u64 a, u64 b)
{
	return a < b ? a : b;
}

static inline u64 max_u64(u64 a, u64 b)
{
	return a > b ? a : b;
}

static inline bool is_power_of_two(u64 v)
{
	return v != 0 && (v & (v - 1)) == 0;
}

/*
 * A set of feature bits. VIRTIO 1.4 uses bits up to 70, transports carry them in 32-bit words;
 * 128 bits leave room.
 */
struct features {
	u64 word[2];
};

static inline bool features_has(const struct features *f, unsigned int bit)
{
	return f->word[bit / 64] >> bit % 64 & 1;
}

static inline void features_set(struct features *f, unsigned int bit)
{
	f->word[bit / 64] |= (u64)1 << bit % 64;
}

static inline void features_clear(struct features *f, unsigned int bit)
{
	f->word[bit / 64] &= ~((u64)1 << bit % 64);
}

/* True if every bit of `f` is in `of` too. */
static inline bool features_subset(const struct features *f, const struct features *of)
{
	return !(f->word[0] & ~of->word[0]) && !(f->word[1] & ~of->word[1]);
}

/* The 32-bit word `n` as a transport's select register counts them; 0 past the end. */
static inline u32 features_word32(const struct features *f, u32 n)
{
	return n < 4 ? (u32)(f->word[n / 2] >> 32 * (n % 2)) : 0;
}

static inline void features_set_word32(struct features *f, u32 n, u32 value)
{
	if (n < 4) {
		f->word[n / 2] &= ~((u64)0xffffffff << 32 * (n % 2));
		f->word[n / 2] |= (u64)value << 32 * (n % 2);
	}
}

#endif
