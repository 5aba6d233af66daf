/* SPDX-License-Identifier: BSD-3-Clause */
/* The cursor's steps. Invariant: skip < v->n_bytes whenever n_bytes > 0. */
#include "ring/sg.h"

#include "base/shared.h"

struct span sg_take(struct sg *sg, size_t n)
{
	size_t here = sg->v->n_bytes - sg->skip;
	struct span run = {
		.base = (u8 *)sg->v->base + sg->skip,
		.n_bytes = min_u64(n, min_u64(here, sg->n_bytes)),
	};

	sg->n_bytes -= run.n_bytes;
	sg->skip += run.n_bytes;
	if (run.n_bytes == here) {
		sg->v++;
		sg->skip = 0;
	}
	return run;
}

size_t sg_read(struct sg *sg, void *dst, size_t n)
{
	size_t done = 0;

	n = min_u64(n, sg->n_bytes);
	while (done < n) {
		struct span run = sg_take(sg, n - done);

		if (dst)
			copy_once((u8 *)dst + done, run.base, run.n_bytes);
		done += run.n_bytes;
	}
	return done;
}

size_t sg_write(struct sg *sg, const void *src, size_t n)
{
	size_t done = 0;

	n = min_u64(n, sg->n_bytes);
	while (done < n) {
		struct span run = sg_take(sg, n - done);

		memcpy(run.base, (const u8 *)src + done, run.n_bytes);
		done += run.n_bytes;
	}
	return done;
}

size_t sg_zero(struct sg *sg, size_t n)
{
	size_t done = 0;

	n = min_u64(n, sg->n_bytes);
	while (done < n) {
		struct span run = sg_take(sg, n - done);

		memset(run.base, 0, run.n_bytes);
		done += run.n_bytes;
	}
	return done;
}

size_t sg_copy(struct sg *to, struct sg *from, size_t n)
{
	size_t done = 0;

	n = min_u64(n, min_u64(to->n_bytes, from->n_bytes));
	while (done < n) {
		struct span run = sg_take(from, n - done);

		/* Guest buffers may overlap; what ends up there is the guest's affair. */
		for (size_t put = 0; put < run.n_bytes;) {
			struct span room = sg_take(to, run.n_bytes - put);

			memmove(room.base, (u8 *)run.base + put, room.n_bytes);
			put += room.n_bytes;
		}
		done += run.n_bytes;
	}
	return done;
}

bool sg_split_tail(struct sg *sg, size_t n, struct sg *tail)
{
	if (n > sg->n_bytes)
		return false;
	*tail = *sg;
	sg_read(tail, NULL, sg->n_bytes - n);
	sg->n_bytes -= n;
	return true;
}

struct span *sg_spans(struct sg *sg, u32 *n)
{
	size_t left = sg->n_bytes;
	u32 count = 0;

	if (left > 0 && sg->skip > 0) {
		sg->v->base = (u8 *)sg->v->base + sg->skip;
		sg->v->n_bytes -= sg->skip;
		sg->skip = 0;
	}
	for (; left > 0; count++) {
		if (sg->v[count].n_bytes > left)
			sg->v[count].n_bytes = left;
		left -= sg->v[count].n_bytes;
	}
	*n = count;
	return sg->v;
}
