/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The driver half, whatever the format: slots, tokens, limits, and doubts about the device.
 *
 * A buffer takes one slot for each of its descriptors, linked from its head; the head's number
 * is the id that the device gives back. Slots are private memory: what the device scribbles
 * over the ring changes neither what we free nor what we unmap (D03).
 */
#include "ring/virtqueue.h"

#include "base/shared.h"
#include "ring/format.h"

int virtqueue_init(struct virtqueue *vq, const struct virtqueue_setup *setup)
{
	u32 size = setup->size;

	if (size == 0 || size > VIRTQ_MAX_SIZE || (!setup->packed && !is_power_of_two(size)))
		return -EINVAL;
	/* G-SPLIT-2.7.1-01, G-PACKED-2.8.11-01 */
	if (!setup->desc || (uintptr_t)setup->desc % VIRTQ_DESC_ALIGN || !setup->driver_area ||
	    (uintptr_t)setup->driver_area %
		    (setup->packed ? VIRTQ_EVENT_ALIGN : VIRTQ_AVAIL_ALIGN) ||
	    !setup->device_area || (uintptr_t)setup->device_area % VIRTQ_USED_ALIGN ||
	    !setup->slots)
		return -EINVAL;
	if (setup->indirect && setup->tables && setup->dma && !setup->pieces)
		return -EINVAL;

	*vq = (struct virtqueue){
		.setup = *setup,
		.n_free = size,
		.cb_enabled = true,
	};
	if (setup->packed)
		vq->packed.avail_wrap = vq->packed.used_wrap = true;
	for (u32 i = 0; i < size; i++)
		setup->slots[i] = (struct vq_slot){ .next = i + 1 };
	/* The first wish: tell us of the first used buffer. */
	setup->packed ? packed_cb_arm(vq, 0) : split_cb_arm(vq, 0);
	return 0;
}

void virtqueue_break(struct virtqueue *vq, enum ring_fault kind, u16 id, u64 value)
{
	if (vq->fault.kind == RING_OK)
		vq->fault = (struct ring_fault_record){ kind, id, value };
}

static u64 dma_map(struct dma *dma, const struct span *s, bool in)
{
	if (!dma)
		return (uintptr_t)s->base;
	return dma->ops->map(dma, s->base, s->n_bytes, in ? DMA_FROM_DEVICE : DMA_TO_DEVICE);
}

static void dma_unmap(struct dma *dma, u64 addr, size_t n_bytes, bool in)
{
	if (dma)
		dma->ops->unmap(dma, addr, n_bytes, in ? DMA_FROM_DEVICE : DMA_TO_DEVICE);
}

static inline struct virtq_desc *slot_table(const struct virtqueue *vq, u16 head)
{
	return vq->setup.tables + (size_t)head * vq->setup.max_indirect;
}

/* Undoes the mappings of the first `n` descriptors of the buffer at `head`. */
static void slots_unmap(struct virtqueue *vq, u16 head, u32 n)
{
	u16 at = head;

	for (u32 i = 0; i < n; i++) {
		const struct vq_slot *slot = &vq->setup.slots[at];

		dma_unmap(vq->setup.dma, slot->addr, slot->n_bytes, slot->in);
		at = slot->next;
	}
}

static void pieces_unmap(struct virtqueue *vq, u16 head, u32 n)
{
	const struct vq_piece *p;

	if (!vq->setup.dma)
		return;
	p = vq->setup.pieces + (size_t)head * vq->setup.max_indirect;
	for (u32 i = 0; i < n; i++)
		dma_unmap(vq->setup.dma, p[i].addr, p[i].n_bytes, p[i].in);
}

/* A buffer's pieces, one after the other, whichever list they are in. */
struct pieces {
	const struct sg_list *list;
	u32 at;
};

static inline const struct span *pieces_next(struct pieces *p)
{
	while (p->at == p->list->n) {
		p->list++;
		p->at = 0;
	}
	return &p->list->v[p->at++];
}

/* Maps the buffer's pieces into the free slots from `head` on. */
static int slots_fill(struct virtqueue *vq, u16 head, struct pieces pieces, u32 n_out, u32 n)
{
	u16 at = head;

	for (u32 i = 0; i < n; i++) {
		struct vq_slot *slot = &vq->setup.slots[at];
		const struct span *piece = pieces_next(&pieces);
		u64 addr = dma_map(vq->setup.dma, piece, i >= n_out);

		if (addr == DMA_MAP_FAILED) {
			slots_unmap(vq, head, i);
			return -ENOMEM;
		}
		slot->addr = addr;
		slot->n_bytes = piece->n_bytes;
		slot->in = i >= n_out;
		at = slot->next;
	}
	return 0;
}

/* Maps the buffer's pieces into the table of slot `head`, and the table into the slot. */
static int table_fill(struct virtqueue *vq, u16 head, struct pieces pieces, u32 n_out, u32 n)
{
	struct virtq_desc *table = slot_table(vq, head);
	struct vq_slot *slot = &vq->setup.slots[head];
	struct span whole = { table, n * sizeof(*table) };
	u32 i;

	for (i = 0; i < n; i++) {
		bool in = i >= n_out;
		const struct span *piece = pieces_next(&pieces);
		u64 addr = dma_map(vq->setup.dma, piece, in);
		u16 flags = in ? VIRTQ_DESC_F_WRITE : 0;

		if (addr == DMA_MAP_FAILED)
			goto unmap;
		if (vq->setup.dma)
			vq->setup.pieces[(size_t)head * vq->setup.max_indirect + i] =
				(struct vq_piece){ addr, piece->n_bytes, in };
		le64_store(&table[i].addr, addr);
		le32_store(&table[i].len, piece->n_bytes);
		/* Packed: the buffer id, which is reserved here, and the flags change places. */
		if (vq->setup.packed) {
			le16_store(&table[i].flags, 0);
			le16_store(&table[i].next, flags);
			continue;
		}
		if (i + 1 < n)
			flags |= VIRTQ_DESC_F_NEXT;
		le16_store(&table[i].flags, flags);
		le16_store(&table[i].next, i + 1 < n ? i + 1 : 0);
	}
	/* Mapped last: what the device sees of the table is what stands in it now. */
	slot->addr = dma_map(vq->setup.dma, &whole, false);
	if (slot->addr == DMA_MAP_FAILED)
		goto unmap;
	slot->n_bytes = whole.n_bytes;
	slot->in = false;
	slot->n_indirect = n;
	return 0;
unmap:
	pieces_unmap(vq, head, i);
	return -ENOMEM;
}

/* What a list of pieces adds up to; false if one is empty or too long for any buffer. */
static bool lists_measure(const struct sg_list lists[], u32 n_lists, u32 *n, u64 *n_bytes)
{
	u64 count = 0;

	*n_bytes = 0;
	for (u32 l = 0; l < n_lists; l++) {
		count += lists[l].n;
		if (unlikely(count > VIRTQ_MAX_SIZE))
			return false;
		for (u32 i = 0; i < lists[l].n; i++) {
			if (unlikely(lists[l].v[i].n_bytes == 0 ||
				     lists[l].v[i].n_bytes > UINT32_MAX))
				return false;
			*n_bytes += lists[l].v[i].n_bytes;
		}
	}
	*n = count;
	return true;
}

int virtqueue_add_sgs(struct virtqueue *vq, const struct sg_list lists[], u32 n_out_lists,
		      u32 n_in_lists, void *token)
{
	struct pieces pieces = { lists, 0 };
	u32 n_out, n_in, n, n_slots;
	u64 out_bytes, in_bytes;
	u16 head = vq->free_head, tail = head;
	bool indirect;
	int err;

	if (unlikely(virtqueue_is_broken(vq)))
		return -EIO;
	if (unlikely(!lists_measure(lists, n_out_lists, &n_out, &out_bytes) ||
		     !lists_measure(lists + n_out_lists, n_in_lists, &n_in, &in_bytes)))
		return -EINVAL;
	n = n_out + n_in;
	if (unlikely(n == 0 || !token ||
		     out_bytes + in_bytes > UINT32_MAX)) /* G-SPLIT-2.7.5.2-01 */
		return -EINVAL;

	indirect = vq->setup.indirect && vq->setup.tables && n > 1 && n <= vq->setup.max_indirect;
	n_slots = indirect ? 1 : n;
	if (unlikely(n_slots > vq->setup.size)) /* G-SPLIT-2.7.5.3.1-03, G-PACKED-2.8.17-02 */
		return -EINVAL;
	if (n_slots > vq->n_free)
		return -ENOSPC;

	struct vq_slot *slot = &vq->setup.slots[head];

	slot->n_indirect = 0;
	err = indirect ? table_fill(vq, head, pieces, n_out, n)
		       : slots_fill(vq, head, pieces, n_out, n);
	if (unlikely(err))
		return err;
	for (u32 i = 1; i < n_slots; i++)
		tail = vq->setup.slots[tail].next;
	slot->token = token;
	slot->in_bytes = in_bytes;
	slot->n_slots = n_slots;
	vq->free_head = vq->setup.slots[tail].next;
	vq->n_free -= n_slots;
	vq->n_in_flight++;
	vq->setup.packed ? packed_put(vq, head, n_slots, indirect)
			 : split_put(vq, head, n_slots, indirect);
	return 0;
}

int virtqueue_add_buf(struct virtqueue *vq, const struct span sg[], u32 n_out, u32 n_in,
		      void *token)
{
	const struct sg_list lists[] = { { sg, n_out }, { sg + n_out, n_in } };

	return virtqueue_add_sgs(vq, lists, 1, 1, token);
}

bool virtqueue_kick_prepare(struct virtqueue *vq)
{
	if (vq->n_added == 0 || virtqueue_is_broken(vq))
		return false;
	return vq->setup.packed ? packed_must_kick(vq) : split_must_kick(vq);
}

bool virtqueue_notify(struct virtqueue *vq)
{
	return !virtqueue_is_broken(vq) && vq->setup.notify(vq);
}

bool virtqueue_kick(struct virtqueue *vq)
{
	if (virtqueue_kick_prepare(vq))
		return virtqueue_notify(vq);
	return !virtqueue_is_broken(vq);
}

/* The buffer at `head` is the driver's again: slots back to the free list, mappings undone. */
static void *buffer_end(struct virtqueue *vq, u16 head)
{
	struct vq_slot *slot = &vq->setup.slots[head];
	void *token = slot->token;
	u16 tail = head;

	if (slot->n_indirect)
		pieces_unmap(vq, head, slot->n_indirect);
	slots_unmap(vq, head, slot->n_slots);
	for (u32 i = 1; i < slot->n_slots; i++)
		tail = vq->setup.slots[tail].next;
	vq->setup.slots[tail].next = vq->free_head;
	vq->free_head = head;
	vq->n_free += slot->n_slots;
	vq->n_in_flight--;
	slot->token = NULL;
	return token;
}

void *virtqueue_get_buf(struct virtqueue *vq, u32 *n_written)
{
	u32 id, len;
	u16 n_slots;
	void *token;
	int got;

	if (unlikely(virtqueue_is_broken(vq)))
		return NULL;
	got = vq->setup.packed ? packed_reap(vq, &id, &len) : split_reap(vq, &id, &len);
	if (got <= 0)
		return NULL;
	if (unlikely(id >= vq->setup.size)) {
		virtqueue_break(vq, RING_FAULT_USED_ID_RANGE, id, id);
		return NULL;
	}
	if (unlikely(!vq->setup.slots[id].token)) {
		virtqueue_break(vq, RING_FAULT_USED_ID_IDLE, id, id);
		return NULL;
	}
	if (unlikely(len > vq->setup.slots[id].in_bytes)) { /* D02 */
		virtqueue_break(vq, RING_FAULT_USED_LENGTH, id, len);
		return NULL;
	}
	n_slots = vq->setup.slots[id].n_slots;
	token = buffer_end(vq, id);
	vq->setup.packed ? packed_reaped(vq, n_slots) : split_reaped(vq, n_slots);
	/* While callbacks are wanted, the wish has to move along with what was reaped. */
	if (vq->cb_enabled && vq->setup.event_idx)
		vq->setup.packed ? packed_cb_arm(vq, 0) : split_cb_arm(vq, 0);
	*n_written = len;
	return token;
}

void virtqueue_disable_cb(struct virtqueue *vq)
{
	if (!vq->cb_enabled)
		return;
	vq->cb_enabled = false;
	vq->setup.packed ? packed_cb_disarm(vq) : split_cb_disarm(vq);
}

bool virtqueue_pending(const struct virtqueue *vq)
{
	return vq->setup.packed ? packed_used(vq) : split_used(vq, 0);
}

bool virtqueue_enable_cb(struct virtqueue *vq)
{
	vq->cb_enabled = true;
	vq->setup.packed ? packed_cb_arm(vq, 0) : split_cb_arm(vq, 0);
	return !virtqueue_pending(vq);
}

bool virtqueue_enable_cb_delayed(struct virtqueue *vq)
{
	u16 in_flight = vq->setup.packed ? vq->setup.size - vq->n_free : vq->n_in_flight;
	u16 after = (u32)in_flight * 3 / 4;

	if (!vq->setup.event_idx)
		return virtqueue_enable_cb(vq);
	/*
	 * Not cb_enabled in get_buf's sense: the wish stays where it is put here until the
	 * callback comes and the driver reaps.
	 */
	vq->cb_enabled = true;
	if (!vq->setup.packed) {
		split_cb_arm(vq, after);
		return !split_used(vq, after);
	}
	packed_cb_arm(vq, after);
	return !packed_used(vq);
}

void *virtqueue_detach(struct virtqueue *vq)
{
	while (vq->detach_slot < vq->setup.size) {
		u16 at = vq->detach_slot++;

		if (vq->setup.slots[at].token)
			return buffer_end(vq, at);
	}
	return NULL;
}
