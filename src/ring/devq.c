/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The device half, whatever the format: walk a chain, check it, turn it into spans.
 *
 * Everything that a driver may get wrong between "here is a head" and "these are the bytes" is
 * checked here, once for both formats; split.c and packed.c check only what is theirs alone.
 * A request that fails a check is a fault, never a short or an empty request.
 */
#include "ring/devq.h"

#include "base/shared.h"
#include "ring/format.h"

void devq_init(struct devq *q, u16 max_size, u64 *in_flight)
{
	ASSERT(max_size > 0 && max_size <= VIRTQ_MAX_SIZE);
	*q = (struct devq){ .in_flight = in_flight, .max_size = max_size };
}

int devq_fail(struct devq *q, enum ring_fault kind, u16 id, u64 value)
{
	if (q->fault.kind == RING_OK)
		q->fault = (struct ring_fault_record){ kind, id, value };
	return -EPROTO;
}

static enum ring_fault devq_place(struct devq *q, struct memory *memory, u64 *value)
{
	return q->setup.packed ? packed_place(q, memory, value) : split_place(q, memory, value);
}

int devq_start(struct devq *q, const struct devq_setup *setup, struct memory *memory, u32 position)
{
	enum ring_fault fault;
	u64 value;

	ASSERT(!q->live);
	q->setup = *setup;
	q->fault = (struct ring_fault_record){ RING_OK, 0, 0 };
	q->polling = q->armed = false;
	q->memory_hint = 0;
	q->n_in_flight = 0;
	memset(q->in_flight, 0, DEVQ_MAP_WORDS(q->max_size) * sizeof(u64));

	if (setup->size == 0 || setup->size > q->max_size)
		return devq_fail(q, RING_FAULT_SIZE, 0, setup->size);
	fault = devq_place(q, memory, &value);
	if (fault == RING_OK) {
		value = position;
		fault = setup->packed ? packed_start(q, position) : split_start(q, position);
	}
	if (fault != RING_OK)
		return devq_fail(q, fault, 0, value);

	memory_pin(memory);
	q->memory = memory;
	q->live = true;
	return 0;
}

u32 devq_stop(struct devq *q)
{
	ASSERT(q->live && q->n_in_flight == 0);
	devq_flush(q);
	q->live = false;
	memory_unpin(q->memory);
	q->memory = NULL;
	return q->setup.packed ? packed_position(q) : split_position(q);
}

int devq_remap(struct devq *q, struct memory *memory)
{
	struct memory *old = q->memory;
	enum ring_fault fault;
	u64 value = 0;

	ASSERT(q->live);
	memory_pin(memory);
	q->memory = memory;
	q->memory_hint = 0;
	fault = devq_place(q, memory, &value);
	/*
	 * A ring that is not in the new map must not be touched through the old one either: the
	 * fault keeps every verb off the ring from here on.
	 */
	if (fault != RING_OK)
		devq_fail(q, fault, 0, value);
	memory_unpin(old);
	return q->fault.kind == RING_OK ? 0 : -EPROTO;
}

static inline bool bit_test(const u64 *map, u16 bit)
{
	return map[bit / 64] >> bit % 64 & 1;
}

static inline void bit_flip(u64 *map, u16 bit)
{
	map[bit / 64] ^= (u64)1 << bit % 64;
}

/* One descriptor's bytes, as spans at the end of the chain's. */
static int chain_add(struct devq *q, struct chain *c, u32 *n_spans, const struct walk *w)
{
	bool in = w->flags & VIRTQ_DESC_F_WRITE;
	struct sg *sg = in ? &c->in : &c->out;
	u64 total = (u64)c->out.n_bytes + c->in.n_bytes + w->len;
	u64 gpa = w->addr;
	u32 left = w->len;

	if (unlikely(left == 0))
		return devq_fail(q, RING_FAULT_ZERO_LENGTH, w->id, gpa);
	if (unlikely(!in && c->in.n_bytes > 0)) /* G-SPLIT-2.7.4.2-01, G-PACKED-2.8.17-03 */
		return devq_fail(q, RING_FAULT_ORDER, w->id, gpa);
	if (unlikely(total > UINT32_MAX)) /* G-SPLIT-2.7.5.2-01 */
		return devq_fail(q, RING_FAULT_TOTAL_LENGTH, w->id, total);
	if (unlikely(left - 1 > UINT64_MAX - gpa))
		return devq_fail(q, RING_FAULT_ADDRESS, w->id, gpa);

	if (sg->n_bytes == 0)
		sg->v = c->spans + *n_spans;
	sg->n_bytes += left;
	for (;;) {
		struct span *span = &c->spans[*n_spans];

		if (unlikely(*n_spans == c->max_spans)) /* D-SPLIT-2.7.4.1-02, D-PACKED-2.8.18-02 */
			return devq_fail(q, RING_FAULT_CHAIN_TOO_LONG, w->id, c->max_spans);
		if (unlikely(!memory_find(q->memory, &q->memory_hint, gpa, left, span)))
			return devq_fail(q, RING_FAULT_ADDRESS, w->id, gpa);
		++*n_spans;
		left -= span->n_bytes;
		if (likely(left == 0))
			return 0;
		gpa += span->n_bytes;
	}
}

/* The descriptor at hand names a table: step into it, onto its first entry. */
static int walk_enter_table(struct devq *q, struct walk *w)
{
	struct span span;
	u32 hint = q->memory_hint;

	if (!q->setup.indirect) /* G-SPLIT-2.7.5.3.1-01, G-PACKED-2.8.19-01 */
		return devq_fail(q, RING_FAULT_INDIRECT_UNOFFERED, w->id, w->addr);
	if (w->indirect) /* G-SPLIT-2.7.5.3.1-02 */
		return devq_fail(q, RING_FAULT_INDIRECT_NESTED, w->id, w->addr);
	/* G-SPLIT-2.7.5.3.1-04; a packed list may not even lead to one: G-PACKED-2.8.19-04 */
	if ((w->flags & VIRTQ_DESC_F_NEXT) || (q->setup.packed && w->n_slots > 1))
		return devq_fail(q, RING_FAULT_INDIRECT_NEXT, w->id, w->flags);
	if (w->len == 0 || w->len % sizeof(struct virtq_desc) != 0)
		return devq_fail(q, RING_FAULT_INDIRECT_LENGTH, w->id, w->len);
	if (w->len - 1 > UINT64_MAX - w->addr ||
	    !memory_find(q->memory, &hint, w->addr, w->len, &span))
		return devq_fail(q, RING_FAULT_INDIRECT_ADDRESS, w->id, w->addr);

	w->indirect = true;
	w->table_gpa = w->addr;
	w->table_entries = w->len / sizeof(struct virtq_desc);
	w->table = span.n_bytes == w->len ? span.base : NULL;
	w->n_seen = 0;
	w->next = 0;
	w->flags = VIRTQ_DESC_F_NEXT; /* of WRITE, nothing is kept: D-SPLIT-2.7.5.3.2-01 */
	return q->setup.packed ? packed_next(q, w) : split_next(q, w);
}

bool walk_table_entry(struct devq *q, struct walk *w, u32 at, void *entry16)
{
	u64 gpa = w->table_gpa + (u64)at * sizeof(struct virtq_desc);

	/* Any alignment is legal for a table, hence a copy and not a load. */
	if (likely(w->table)) {
		copy_once(entry16, w->table + (size_t)at * sizeof(struct virtq_desc),
			  sizeof(struct virtq_desc));
		return true;
	}
	if (memory_read(q->memory, &q->memory_hint, gpa, entry16, sizeof(struct virtq_desc)))
		return true;
	devq_fail(q, RING_FAULT_INDIRECT_ADDRESS, w->id, gpa);
	return false;
}

/* Fetches the whole chain that begins with the descriptor in `w`. */
static int chain_fetch(struct devq *q, struct chain *c, struct walk *w)
{
	u32 n_spans = 0;
	int err;

	c->out = c->in = (struct sg){ .v = c->spans };
	do {
		if (w->flags & VIRTQ_DESC_F_INDIRECT) {
			err = walk_enter_table(q, w);
			if (unlikely(err <= 0))
				return -EPROTO;
			if (unlikely(w->flags & VIRTQ_DESC_F_INDIRECT))
				return devq_fail(q, RING_FAULT_INDIRECT_NESTED, w->id, w->addr);
		}
		err = chain_add(q, c, &n_spans, w);
		if (unlikely(err))
			return err;
		err = q->setup.packed ? packed_next(q, w) : split_next(q, w);
	} while (err > 0);
	return err;
}

int devq_pop(struct devq *q, struct chain *c)
{
	struct walk w;
	int got;

	ASSERT(q->live);
	if (unlikely(q->fault.kind != RING_OK))
		return -EPROTO;

	/*
	 * Empty is answered only after the driver was asked to notify and the ring was looked at
	 * once more, so that no wake-up falls between the look and the asking ([B] in the formats).
	 */
	got = q->setup.packed ? packed_take(q, &w) : split_take(q, &w);
	if (got == 0 && !q->armed && !q->polling) {
		q->armed = true;
		q->setup.packed ? packed_arm(q) : split_arm(q);
		got = q->setup.packed ? packed_take(q, &w) : split_take(q, &w);
	}
	if (got <= 0)
		return got;
	if (q->armed) {
		q->armed = false;
		q->setup.packed ? packed_disarm(q) : split_disarm(q);
	}

	if (unlikely(chain_fetch(q, c, &w) < 0))
		return -EPROTO;
	/* Packed lists name their buffer at the end, so the id is looked at only here (G14). */
	if (unlikely(w.id >= q->setup.size))
		return devq_fail(q, RING_FAULT_ID_RANGE, w.id, w.id);
	if (unlikely(bit_test(q->in_flight, w.id)))
		return devq_fail(q, RING_FAULT_ID_IN_FLIGHT, w.id, w.id);

	bit_flip(q->in_flight, w.id);
	q->n_in_flight++;
	q->n_popped++;
	q->setup.packed ? packed_took(q, w.n_slots) : split_took(q, w.n_slots);
	memory_pin(q->memory);
	c->id = w.id;
	c->n_slots = w.n_slots;
	c->in_bytes = c->in.n_bytes;
	c->memory = q->memory;
	return 1;
}

/* The chain is no longer ours: its id may come again, its memory may go. */
static void chain_end(struct devq *q, struct chain *c)
{
	ASSERT(q->n_in_flight > 0 && bit_test(q->in_flight, c->id));
	bit_flip(q->in_flight, c->id);
	q->n_in_flight--;
	memory_unpin(c->memory);
	c->memory = NULL;
}

void devq_unpop(struct devq *q, struct chain *c)
{
	chain_end(q, c);
	q->n_popped--;
	q->setup.packed ? packed_untake(q, c->n_slots) : split_untake(q, c->n_slots);
}

void devq_push(struct devq *q, struct chain *c, u32 n_written)
{
	ASSERT(n_written <= c->in_bytes);
	chain_end(q, c);
	if (unlikely(q->fault.kind != RING_OK))
		return;
	q->setup.packed ? packed_give(q, c, n_written) : split_give(q, c, n_written);
	q->n_pushed++;
}

void devq_drop(struct devq *q, struct chain *c)
{
	chain_end(q, c);
}

bool devq_flush(struct devq *q)
{
	bool signal;

	if (!q->live || q->fault.kind != RING_OK)
		return false;
	signal = q->setup.packed ? packed_flush(q) : split_flush(q);
	q->n_signals += signal;
	return signal;
}

bool devq_pending(struct devq *q)
{
	if (!q->live || q->fault.kind != RING_OK)
		return false;
	return q->setup.packed ? packed_pending(q) : split_pending(q);
}

void devq_set_polling(struct devq *q, bool on)
{
	q->polling = on;
	if (!q->live || q->fault.kind != RING_OK)
		return;
	if (on) {
		q->armed = false;
		q->setup.packed ? packed_disarm(q) : split_disarm(q);
	}
}
