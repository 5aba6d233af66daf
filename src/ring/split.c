/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The split ring, both halves (VIRTIO 1.4, 2.7). Called by devq.c and virtqueue.c.
 *
 *   descriptor table   the driver writes: address, length, flags, link
 *   available ring     the driver writes: heads of chains, idx, and its wish used_event
 *   used ring          the device writes: finished heads, idx, and its wish avail_event
 *
 * Each side writes what the other reads, so all order comes from four pairs:
 *
 *   [A] chain published / taken     driver: entries, then avail.idx (release)
 *                                   device: avail.idx (acquire), then entries
 *   [B] kick decision / arm         driver: avail.idx, full fence, avail_event or used.flags
 *                                   device: avail_event or used.flags, full fence, avail.idx
 *   [C] result given / reaped       device: used entry and data, then used.idx (release)
 *                                   driver: used.idx (acquire), then used entry and data
 *   [D] signal decision / arm       device: used.idx, full fence, used_event or avail.flags
 *                                   driver: used_event or avail.flags, full fence, used.idx
 *
 * In [B] and [D] both sides store first and look afterwards: at least one of them sees the
 * other, so a wake-up may be doubled but never lost.
 */
#include "base/shared.h"
#include "ring/format.h"

/* ---- device half ----------------------------------------------------------------------- */

enum ring_fault split_place(struct devq *q, struct memory *memory, u64 *value)
{
	const struct devq_setup *s = &q->setup;
	u32 n = s->size;

	*value = n;
	if (!is_power_of_two(n))
		return RING_FAULT_SIZE;
	*value = s->desc_gpa;
	q->split.desc = memory_at(memory, s->desc_gpa, VIRTQ_DESC_BYTES(n), VIRTQ_DESC_ALIGN);
	if (!q->split.desc)
		return RING_FAULT_AREA;
	*value = s->driver_gpa;
	q->split.avail = memory_at(memory, s->driver_gpa, VIRTQ_AVAIL_BYTES(n), VIRTQ_AVAIL_ALIGN);
	if (!q->split.avail)
		return RING_FAULT_AREA;
	*value = s->device_gpa;
	q->split.used = memory_at(memory, s->device_gpa, VIRTQ_USED_BYTES(n), VIRTQ_USED_ALIGN);
	if (!q->split.used)
		return RING_FAULT_AREA;

	q->split.used_event = &q->split.avail->ring[n];
	q->split.avail_event = (le16 *)&q->split.used->ring[n];
	return RING_OK;
}

enum ring_fault split_start(struct devq *q, u32 position)
{
	if (position > UINT16_MAX)
		return RING_FAULT_POSITION;
	q->split.avail_idx = q->split.avail_seen = position;
	/*
	 * Where the used ring ended is ours to know, but a position does not carry it: a device
	 * that takes over from another goes on where the ring says.
	 */
	q->split.used_idx = le16_load(&q->split.used->idx);
	q->split.used_published = q->split.signalled_idx = q->split.used_idx;
	return RING_OK;
}

u32 split_position(const struct devq *q)
{
	return q->split.avail_idx;
}

/* Copies descriptor `at` of the main table into the walk; each field is read once. */
static inline int split_fetch(struct devq *q, struct walk *w, u16 at)
{
	const struct virtq_desc *d = &q->split.desc[at];

	w->addr = le64_load(&d->addr);
	w->len = le32_load(&d->len);
	w->flags = le16_load(&d->flags);
	w->next = le16_load(&d->next);
	w->n_seen++;
	return 1;
}

/* Entries that the driver cannot know to be free: in flight, or given and not published. */
static inline u16 split_n_out(const struct devq *q)
{
	return q->n_in_flight + (u16)(q->split.used_idx - q->split.used_published);
}

int split_take(struct devq *q, struct walk *w)
{
	u16 head, idx = q->split.avail_idx;

	if (q->split.avail_seen == idx) {
		u16 seen = le16_load_acquire(&q->split.avail->idx); /* [A] */

		/* G-SPLIT-2.7.6.1-01, G01; what is out and not seen to be back is not the driver's. */
		if (unlikely((u16)(seen - idx) > q->setup.size - split_n_out(q)))
			return devq_fail(q, RING_FAULT_AVAIL_JUMP, 0, seen);
		q->split.avail_seen = seen;
		if (seen == idx)
			return 0;
	}
	head = le16_load(&q->split.avail->ring[idx & (q->setup.size - 1)]);
	if (unlikely(head >= q->setup.size))
		return devq_fail(q, RING_FAULT_HEAD_RANGE, head, head);
	w->id = head;
	w->n_slots = 1;
	w->n_seen = 0;
	w->indirect = false;
	return split_fetch(q, w, head);
}

int split_next(struct devq *q, struct walk *w)
{
	u32 entries = w->indirect ? w->table_entries : q->setup.size;

	if (!(w->flags & VIRTQ_DESC_F_NEXT))
		return 0;
	if (unlikely(w->next >= entries))
		return devq_fail(q, RING_FAULT_NEXT_RANGE, w->id, w->next);
	if (unlikely(w->n_seen == entries)) /* more steps than entries: it goes in circles */
		return devq_fail(q, RING_FAULT_LOOP, w->id, entries);
	if (!w->indirect)
		return split_fetch(q, w, w->next);

	struct virtq_desc d;

	if (!walk_table_entry(q, w, w->next, &d))
		return -EPROTO;
	w->addr = le64_get(d.addr);
	w->len = le32_get(d.len);
	w->flags = le16_get(d.flags);
	w->next = le16_get(d.next);
	w->n_seen++;
	return 1;
}

void split_took(struct devq *q, u16 n_slots)
{
	q->split.avail_idx += n_slots;
}

void split_untake(struct devq *q, u16 n_slots)
{
	q->split.avail_idx -= n_slots;
}

void split_give(struct devq *q, const struct chain *c, u32 n_written)
{
	struct virtq_used_elem *e = &q->split.used->ring[q->split.used_idx & (q->setup.size - 1)];

	le32_store(&e->id, c->id);
	le32_store(&e->len, n_written);
	q->split.used_idx++;
}

bool split_flush(struct devq *q)
{
	u16 now = q->split.used_idx, old = q->split.signalled_idx;

	if (q->split.used_published != now) {
		le16_store_release(&q->split.used->idx, now); /* [C] D-SPLIT-2.7.8.2-01, -02 */
		q->split.used_published = now;
	}
	if (now == old)
		return false;
	q->split.signalled_idx = now;
	fence_full(); /* [D] */
	if (q->setup.event_idx) /* D-SPLIT-2.7.7.2-05, -06 */
		return ring_event_crossed(le16_load(q->split.used_event), now, old);
	return !(le16_load(&q->split.avail->flags) & VIRTQ_AVAIL_F_NO_INTERRUPT);
}

void split_arm(struct devq *q)
{
	if (q->setup.event_idx)
		le16_store(q->split.avail_event, q->split.avail_idx);
	else
		le16_store(&q->split.used->flags, 0);
	fence_full(); /* [B] */
}

void split_disarm(struct devq *q)
{
	/* With EVENT_IDX an event that was stepped over disarms itself: D-SPLIT-2.7.10.2-03. */
	if (!q->setup.event_idx)
		le16_store(&q->split.used->flags, VIRTQ_USED_F_NO_NOTIFY);
}

bool split_pending(const struct devq *q)
{
	return q->split.avail_seen != q->split.avail_idx ||
	       le16_load(&q->split.avail->idx) != q->split.avail_idx;
}

/* ---- driver half ----------------------------------------------------------------------- */

static inline struct virtq_avail *vq_avail(const struct virtqueue *vq)
{
	return vq->setup.driver_area;
}

static inline struct virtq_used *vq_used(const struct virtqueue *vq)
{
	return vq->setup.device_area;
}

void split_put(struct virtqueue *vq, u16 head, u16 n_slots, bool indirect)
{
	struct virtq_desc *table = vq->setup.desc;
	u16 mask = vq->setup.size - 1, at = head;

	for (u16 i = 0; i < n_slots; i++) {
		const struct vq_slot *slot = &vq->setup.slots[at];
		u16 flags = indirect ? VIRTQ_DESC_F_INDIRECT : slot->in ? VIRTQ_DESC_F_WRITE : 0;

		if (i + 1 < n_slots)
			flags |= VIRTQ_DESC_F_NEXT;
		le64_store(&table[at].addr, slot->addr);
		le32_store(&table[at].len, slot->n_bytes);
		le16_store(&table[at].flags, flags);
		le16_store(&table[at].next, slot->next);
		at = slot->next;
	}
	le16_store(&vq_avail(vq)->ring[vq->split.avail_idx & mask], head);
	vq->split.avail_idx++;
	vq->n_added++;
}

bool split_must_kick(struct virtqueue *vq)
{
	u16 now = vq->split.avail_idx, old = now - (u16)vq->n_added;

	le16_store_release(&vq_avail(vq)->idx, now); /* [A] G-SPLIT-2.7.13.3.1-01 */
	vq->n_added = 0;
	fence_full(); /* [B] G-SPLIT-2.7.13.4.1-01 */
	if (vq->setup.event_idx) {
		const le16 *avail_event = (const le16 *)&vq_used(vq)->ring[vq->setup.size];

		return ring_event_crossed(le16_load(avail_event), now, old);
	}
	return !(le16_load(&vq_used(vq)->flags) & VIRTQ_USED_F_NO_NOTIFY);
}

int split_reap(struct virtqueue *vq, u32 *id, u32 *len)
{
	u16 idx = vq->split.used_idx;

	if (vq->split.used_seen == idx) {
		u16 seen = le16_load_acquire(&vq_used(vq)->idx); /* [C] */

		if (unlikely((u16)(seen - idx) > vq->n_in_flight)) { /* D01 */
			virtqueue_break(vq, RING_FAULT_USED_JUMP, 0, seen);
			return -EIO;
		}
		vq->split.used_seen = seen;
		if (seen == idx)
			return 0;
	}

	const struct virtq_used_elem *e = &vq_used(vq)->ring[idx & (vq->setup.size - 1)];

	*id = le32_load(&e->id);
	*len = le32_load(&e->len);
	return 1;
}

void split_reaped(struct virtqueue *vq, u16 n_slots)
{
	vq->split.used_idx++;
}

void split_cb_arm(struct virtqueue *vq, u16 after)
{
	struct virtq_avail *avail = vq_avail(vq);

	if (vq->setup.event_idx)
		le16_store(&avail->ring[vq->setup.size], vq->split.used_idx + after);
	else
		le16_store(&avail->flags, 0);
	fence_full(); /* [D] */
}

void split_cb_disarm(struct virtqueue *vq)
{
	struct virtq_avail *avail = vq_avail(vq);

	/* With EVENT_IDX the flags stay 0 (G-SPLIT-2.7.7.1-03): wish for an index just passed. */
	if (vq->setup.event_idx)
		le16_store(&avail->ring[vq->setup.size], vq->split.used_idx - 1);
	else
		le16_store(&avail->flags, VIRTQ_AVAIL_F_NO_INTERRUPT);
}

bool split_used(const struct virtqueue *vq, u16 more_than)
{
	return (u16)(le16_load(&vq_used(vq)->idx) - vq->split.used_idx) > more_than;
}
