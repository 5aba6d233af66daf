/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A cursor over the bytes of a request, however the driver has cut them up.
 *
 * Devices never index segments (D-SPLIT-2.7.4.1-01): headers come by sg_read, answers go by
 * sg_write, trailers are parted with sg_split_tail. A cursor borrows the chain's spans; it is
 * valid from devq_pop to devq_push. Copies are made once: what was read is what is checked.
 */
#ifndef VIADUCT_RING_SG_H
#define VIADUCT_RING_SG_H

#include "base/types.h"

struct sg {
	struct span *v; /* where the next byte lies, `skip` bytes in */
	size_t skip;
	size_t n_bytes; /* left; the spans hold at least as many */
};

/* Consumes up to `n` bytes into `dst` (NULL: skips them). Returns how many there were. */
size_t sg_read(struct sg *sg, void *dst, size_t n);

/* Consumes up to `n` bytes of room, filling it from `src`. Returns how much there was. */
size_t sg_write(struct sg *sg, const void *src, size_t n);

/*
 * The next piece that lies together, at most `n` (not 0) bytes of it, consumed. For devices that
 * are given the memory itself and not what it holds; the cursor must not be empty.
 */
struct span sg_take(struct sg *sg, size_t n);

/* Fills up to `n` bytes of room with zeroes; returns how many. */
size_t sg_zero(struct sg *sg, size_t n);

/* Copies up to `n` bytes from cursor to cursor, consuming both. Returns how many. */
size_t sg_copy(struct sg *to, struct sg *from, size_t n);

/*
 * Parts the last `n` bytes from `sg`, which keeps the rest, and lets `tail` stand for them.
 * False, with nothing changed, if there are fewer.
 */
bool sg_split_tail(struct sg *sg, size_t n, struct sg *tail);

/*
 * The bytes left, as a plain array of `*n` spans, for a system call. Trims the first and the
 * last span in place: other cursors on the same spans (a tail that was parted) must have been
 * resolved before. Consumes nothing; the array is the chain's.
 */
struct span *sg_spans(struct sg *sg, u32 *n);

/* The next byte's address; the cursor must not be empty. For one-byte trailers. */
static inline u8 *sg_at(const struct sg *sg)
{
	ASSERT(sg->n_bytes > 0);
	return (u8 *)sg->v->base + sg->skip;
}

#endif
