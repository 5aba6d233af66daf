/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The packed ring, both halves (VIRTIO 1.4, 2.8). Called by devq.c and virtqueue.c.
 *
 * One ring of descriptors serves both ways. The driver writes descriptors and marks them
 * available; the device writes, over the first slot of each list, that it is used. What a mark
 * means depends on the pass: both sides keep a wrap counter that starts at 1 and flips at the
 * ring's end.
 *
 *   available   AVAIL flag == driver's wrap counter, USED flag its opposite
 *   used        both flags == device's wrap counter
 *
 *   [A] list published / taken     driver: the list, then its head's flags (release)
 *                                  device: the head's flags (acquire), then the list
 *   [B] kick decision / arm        driver: head's flags, full fence, device event area
 *                                  device: device event area, full fence, the next flags
 *   [C] result given / reaped      device: id, length and data, then flags (release)
 *                                  driver: flags (acquire), then id, length and data
 *   [D] signal decision / arm      device: flags, full fence, driver event area
 *                                  driver: driver event area, full fence, the next flags
 */
#include "base/shared.h"
#include "ring/format.h"

#define AVAIL VIRTQ_PACKED_DESC_F_AVAIL
#define USED VIRTQ_PACKED_DESC_F_USED

static inline u16 avail_marks(bool wrap)
{
	return wrap ? AVAIL : USED;
}

static inline u16 used_marks(bool wrap)
{
	return wrap ? AVAIL | USED : 0;
}

static inline bool is_available(u16 flags, bool wrap)
{
	return (flags & (AVAIL | USED)) == avail_marks(wrap);
}

static inline bool is_used(u16 flags, bool wrap)
{
	return (flags & (AVAIL | USED)) == used_marks(wrap);
}

/* Steps a position round the ring; the wrap counter flips at its end. */
static inline void step(u16 *slot, bool *wrap, u32 n, u16 size)
{
	u32 to = *slot + n;

	if (to >= size) {
		to -= size;
		*wrap = !*wrap;
	}
	*slot = to;
}

static inline void step_back(u16 *slot, bool *wrap, u32 n, u16 size)
{
	if (*slot < n) {
		*slot += size - n;
		*wrap = !*wrap;
	} else {
		*slot -= n;
	}
}

/* An event area as one word, so that offset and flags belong together. */
static inline void event_load(const struct virtq_event *area, u16 *off_wrap, u16 *flags)
{
	u32 both = le32_load((const le32 *)(const void *)area);

	*off_wrap = both & 0xffff;
	*flags = both >> 16 & 3;
}

static inline void event_store(struct virtq_event *area, u16 off_wrap, u16 flags)
{
	le32_store((le32 *)(void *)area, off_wrap | (u32)flags << 16);
}

/*
 * Does the other side want to hear of the last `n` slots, which end before position slot/wrap?
 * Its event may name a slot of this pass or of the one before.
 */
static bool event_wanted(const struct virtq_event *area, bool event_idx, u16 slot, bool wrap, u32 n,
			 u16 size)
{
	u16 off_wrap, flags;

	event_load(area, &off_wrap, &flags);
	if (flags == VIRTQ_EVENT_F_DISABLE)
		return false;
	if (flags != VIRTQ_EVENT_F_DESC || !event_idx || n >= size)
		return true;

	u16 event = off_wrap & ~VIRTQ_EVENT_WRAP;

	if (!!(off_wrap & VIRTQ_EVENT_WRAP) != wrap)
		event -= size;
	return ring_event_crossed(event, slot, slot - n);
}

/* ---- device half ----------------------------------------------------------------------- */

enum ring_fault packed_place(struct devq *q, struct memory *memory, u64 *value)
{
	const struct devq_setup *s = &q->setup;

	*value = s->desc_gpa;
	q->packed.desc =
		memory_at(memory, s->desc_gpa, VIRTQ_DESC_BYTES(s->size), VIRTQ_DESC_ALIGN);
	if (!q->packed.desc)
		return RING_FAULT_AREA;
	*value = s->driver_gpa;
	q->packed.driver_event =
		memory_at(memory, s->driver_gpa, VIRTQ_EVENT_BYTES, VIRTQ_EVENT_ALIGN);
	if (!q->packed.driver_event)
		return RING_FAULT_AREA;
	*value = s->device_gpa;
	q->packed.device_event =
		memory_at(memory, s->device_gpa, VIRTQ_EVENT_BYTES, VIRTQ_EVENT_ALIGN);
	return q->packed.device_event ? RING_OK : RING_FAULT_AREA;
}

enum ring_fault packed_start(struct devq *q, u32 position)
{
	q->packed.avail_slot = position & 0x7fff;
	q->packed.avail_wrap = position >> 15 & 1;
	q->packed.used_slot = position >> 16 & 0x7fff;
	q->packed.used_wrap = position >> 31;
	q->packed.n_slots_in_flight = 0;
	q->packed.n_given = 0;
	if (q->packed.avail_slot >= q->setup.size || q->packed.used_slot >= q->setup.size)
		return RING_FAULT_POSITION;
	return RING_OK;
}

u32 packed_position(const struct devq *q)
{
	return q->packed.avail_slot | (u32)q->packed.avail_wrap << 15 |
	       (u32)q->packed.used_slot << 16 | (u32)q->packed.used_wrap << 31;
}

/* Copies the descriptor in ring slot `at`, whose flags were read already, into the walk. */
static inline int packed_fetch(struct devq *q, struct walk *w, u16 at, u16 flags)
{
	const struct virtq_packed_desc *d = &q->packed.desc[at];

	w->addr = le64_load(&d->addr);
	w->len = le32_load(&d->len);
	w->id = le16_load(&d->id);
	w->flags = flags;
	w->n_slots++;
	w->n_seen++;
	return 1;
}

int packed_take(struct devq *q, struct walk *w)
{
	u16 flags = le16_load_acquire(&q->packed.desc[q->packed.avail_slot].flags); /* [A] */

	if (!is_available(flags, q->packed.avail_wrap))
		return 0;
	w->n_slots = 0;
	w->n_seen = 0;
	w->indirect = false;
	if (unlikely(q->packed.n_slots_in_flight == q->setup.size))
		return devq_fail(q, RING_FAULT_OVERRUN, 0, q->setup.size);
	return packed_fetch(q, w, q->packed.avail_slot, flags);
}

int packed_next(struct devq *q, struct walk *w)
{
	u16 slot = q->packed.avail_slot, flags;
	bool wrap = q->packed.avail_wrap;

	if (w->indirect) {
		struct virtq_packed_desc d;

		if (w->n_seen == w->table_entries)
			return 0;
		if (!walk_table_entry(q, w, w->n_seen, &d))
			return -EPROTO;
		w->addr = le64_get(d.addr);
		w->len = le32_get(d.len);
		w->flags = le16_get(d.flags) & VIRTQ_DESC_F_WRITE; /* all else is reserved: 2.8.7 */
		w->n_seen++;
		return 1;
	}

	if (!(w->flags & VIRTQ_DESC_F_NEXT))
		return 0;
	if (unlikely(w->n_seen == q->setup.size)) /* G-PACKED-2.8.17-02 */
		return devq_fail(q, RING_FAULT_LOOP, w->id, q->setup.size);
	if (unlikely(q->packed.n_slots_in_flight + w->n_slots >= q->setup.size))
		return devq_fail(q, RING_FAULT_OVERRUN, w->id, q->setup.size);
	step(&slot, &wrap, w->n_slots, q->setup.size);
	/* The head was published last (G-PACKED-2.8.17-06), so its list has to be whole. */
	flags = le16_load(&q->packed.desc[slot].flags);
	if (unlikely(!is_available(flags, wrap)))
		return devq_fail(q, RING_FAULT_TORN, w->id, flags);
	return packed_fetch(q, w, slot, flags);
}

void packed_took(struct devq *q, u16 n_slots)
{
	q->packed.n_slots_in_flight += n_slots;
	step(&q->packed.avail_slot, &q->packed.avail_wrap, n_slots, q->setup.size);
}

void packed_untake(struct devq *q, u16 n_slots)
{
	q->packed.n_slots_in_flight -= n_slots;
	step_back(&q->packed.avail_slot, &q->packed.avail_wrap, n_slots, q->setup.size);
}

void packed_give(struct devq *q, const struct chain *c, u32 n_written)
{
	struct virtq_packed_desc *d = &q->packed.desc[q->packed.used_slot];
	u16 flags = used_marks(q->packed.used_wrap);

	if (c->in_bytes > 0)
		flags |= VIRTQ_DESC_F_WRITE; /* without it the length does not count: 2.8.4 */
	le32_store(&d->len, n_written);
	le16_store(&d->id, c->id);
	le16_store_release(&d->flags, flags); /* [C] */
	step(&q->packed.used_slot, &q->packed.used_wrap, c->n_slots, q->setup.size);
	q->packed.n_slots_in_flight -= c->n_slots;
	q->packed.n_given += c->n_slots;
}

bool packed_flush(struct devq *q)
{
	u32 n = q->packed.n_given;

	if (n == 0)
		return false;
	q->packed.n_given = 0;
	fence_full(); /* [D] */
	return event_wanted(q->packed.driver_event, q->setup.event_idx, q->packed.used_slot,
			    q->packed.used_wrap, n, q->setup.size);
}

void packed_arm(struct devq *q)
{
	if (q->setup.event_idx)
		event_store(q->packed.device_event,
			    q->packed.avail_slot | (u16)q->packed.avail_wrap << 15,
			    VIRTQ_EVENT_F_DESC);
	else
		event_store(q->packed.device_event, 0, VIRTQ_EVENT_F_ENABLE);
	fence_full(); /* [B] */
}

void packed_disarm(struct devq *q)
{
	event_store(q->packed.device_event, 0, VIRTQ_EVENT_F_DISABLE);
}

bool packed_pending(const struct devq *q)
{
	return is_available(le16_load(&q->packed.desc[q->packed.avail_slot].flags),
			    q->packed.avail_wrap);
}

/* ---- driver half ----------------------------------------------------------------------- */

void packed_put(struct virtqueue *vq, u16 head, u16 n_slots, bool indirect)
{
	struct virtq_packed_desc *ring = vq->setup.desc;
	u16 slot = vq->packed.avail_slot, id = head, head_flags = 0;
	bool wrap = vq->packed.avail_wrap;

	for (u16 i = 0; i < n_slots; i++) {
		const struct vq_slot *s = &vq->setup.slots[id];
		u16 flags = avail_marks(wrap);

		flags |= indirect ? VIRTQ_DESC_F_INDIRECT : s->in ? VIRTQ_DESC_F_WRITE : 0;
		if (i + 1 < n_slots)
			flags |= VIRTQ_DESC_F_NEXT;
		le64_store(&ring[slot].addr, s->addr);
		le32_store(&ring[slot].len, s->n_bytes);
		le16_store(&ring[slot].id, head);
		if (i == 0)
			head_flags = flags;
		else
			le16_store(&ring[slot].flags, flags);
		step(&slot, &wrap, 1, vq->setup.size);
		id = s->next;
	}
	/* [A] the head last: G-PACKED-2.8.17-06, G-PACKED-2.8.21.1.1-01 */
	le16_store_release(&ring[vq->packed.avail_slot].flags, head_flags);
	vq->packed.avail_slot = slot;
	vq->packed.avail_wrap = wrap;
	vq->n_added += n_slots;
}

bool packed_must_kick(struct virtqueue *vq)
{
	u32 n = vq->n_added;

	vq->n_added = 0;
	fence_full(); /* [B] G-PACKED-2.8.21.3.1-01 */
	return event_wanted(vq->setup.device_area, vq->setup.event_idx, vq->packed.avail_slot,
			    vq->packed.avail_wrap, n, vq->setup.size);
}

int packed_reap(struct virtqueue *vq, u32 *id, u32 *len)
{
	const struct virtq_packed_desc *ring = vq->setup.desc;
	const struct virtq_packed_desc *d = &ring[vq->packed.used_slot];
	u16 flags = le16_load_acquire(&d->flags); /* [C] */

	/* With nothing in flight a mark is left over from a pass before, or a lie: no matter. */
	if (!is_used(flags, vq->packed.used_wrap) || vq->n_in_flight == 0)
		return 0;
	*id = le16_load(&d->id);
	*len = flags & VIRTQ_DESC_F_WRITE ? le32_load(&d->len) : 0;
	return 1;
}

void packed_reaped(struct virtqueue *vq, u16 n_slots)
{
	step(&vq->packed.used_slot, &vq->packed.used_wrap, n_slots, vq->setup.size);
}

void packed_cb_arm(struct virtqueue *vq, u16 after)
{
	u16 slot = vq->packed.used_slot;
	bool wrap = vq->packed.used_wrap;

	step(&slot, &wrap, after, vq->setup.size);
	if (vq->setup.event_idx)
		event_store(vq->setup.driver_area, slot | (u16)wrap << 15, VIRTQ_EVENT_F_DESC);
	else
		event_store(vq->setup.driver_area, 0, VIRTQ_EVENT_F_ENABLE);
	fence_full(); /* [D] */
}

void packed_cb_disarm(struct virtqueue *vq)
{
	event_store(vq->setup.driver_area, 0, VIRTQ_EVENT_F_DISABLE);
}

bool packed_used(const struct virtqueue *vq)
{
	const struct virtq_packed_desc *ring = vq->setup.desc;

	return vq->n_in_flight > 0 &&
	       is_used(le16_load(&ring[vq->packed.used_slot].flags), vq->packed.used_wrap);
}
