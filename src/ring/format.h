/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What a ring format does for the two halves: the same verbs in split.c and packed.c.
 *
 * Private to ring/. devq.c and virtqueue.c choose the format by one predictable branch and call
 * it directly; neither knows a wrap counter or an index of the ring.
 */
#ifndef VIADUCT_RING_FORMAT_H
#define VIADUCT_RING_FORMAT_H

#include "ring/devq.h"
#include "ring/virtqueue.h"

/*
 * A device half's walk along one chain. The descriptor at hand is a copy: read once, then
 * checked, then used.
 */
struct walk {
	u64 addr;
	u32 len;
	u16 flags;
	u16 next; /* split: where the chain goes on */
	u16 id; /* split: head; packed: buffer id, known for good at the end of the list */
	u16 n_slots; /* ring entries seen so far */
	u32 n_seen; /* descriptors seen in the present table */

	/* Inside an indirect table. */
	bool indirect;
	u32 table_entries;
	u64 table_gpa;
	const u8 *table; /* NULL: it is in several pieces, read it entry by entry */
};

/*
 * Device half.
 *   place    finds the ring's parts in a map; RING_OK or what is wrong, with the value
 *   start    takes up positions; position gives them back
 *   take     the first descriptor of the next available chain: 1, 0 none, -EPROTO
 *   next     the chain's next descriptor: 1, 0 it ended, -EPROTO
 *   took     the chain is accepted: step past it; untake steps back
 *   give     a used element for the chain
 *   flush    publishes the given ones; true if the driver asked to be told
 *   arm      asks the driver to notify; disarm asks it not to
 *   pending  something is available
 */
enum ring_fault split_place(struct devq *q, struct memory *memory, u64 *value);
enum ring_fault split_start(struct devq *q, u32 position);
u32 split_position(const struct devq *q);
int split_take(struct devq *q, struct walk *w);
int split_next(struct devq *q, struct walk *w);
void split_took(struct devq *q, u16 n_slots);
void split_untake(struct devq *q, u16 n_slots);
void split_give(struct devq *q, const struct chain *c, u32 n_written);
bool split_flush(struct devq *q);
void split_arm(struct devq *q);
void split_disarm(struct devq *q);
bool split_pending(const struct devq *q);

enum ring_fault packed_place(struct devq *q, struct memory *memory, u64 *value);
enum ring_fault packed_start(struct devq *q, u32 position);
u32 packed_position(const struct devq *q);
int packed_take(struct devq *q, struct walk *w);
int packed_next(struct devq *q, struct walk *w);
void packed_took(struct devq *q, u16 n_slots);
void packed_untake(struct devq *q, u16 n_slots);
void packed_give(struct devq *q, const struct chain *c, u32 n_written);
bool packed_flush(struct devq *q);
void packed_arm(struct devq *q);
void packed_disarm(struct devq *q);
bool packed_pending(const struct devq *q);

/* Reads entry `at` of the walk's indirect table; false: it is not in memory (latched). */
bool walk_table_entry(struct devq *q, struct walk *w, u32 at, void *entry16);

/*
 * Driver half. A buffer takes the free-list slots from `head` on, linked by `next`; each holds
 * the address and length of one descriptor. In both formats the head is the id that comes back.
 *   put        writes the descriptors; `indirect` if the one slot names a table
 *   must_kick  publishes what was put; true if the device asked to be told
 *   reap       a used id and length: 1, 0 none, and -EIO with the fault latched
 *   reaped     the id was believable: step past its `n_slots` entries
 *   cb_arm     asks for a notification once `after` more ring entries are used
 *   cb_disarm  asks for none
 *   used       something is there to reap
 */
void split_put(struct virtqueue *vq, u16 head, u16 n_slots, bool indirect);
bool split_must_kick(struct virtqueue *vq);
int split_reap(struct virtqueue *vq, u32 *id, u32 *len);
void split_reaped(struct virtqueue *vq, u16 n_slots);
void split_cb_arm(struct virtqueue *vq, u16 after);
void split_cb_disarm(struct virtqueue *vq);
bool split_used(const struct virtqueue *vq, u16 more_than);

void packed_put(struct virtqueue *vq, u16 head, u16 n_slots, bool indirect);
bool packed_must_kick(struct virtqueue *vq);
int packed_reap(struct virtqueue *vq, u32 *id, u32 *len);
void packed_reaped(struct virtqueue *vq, u16 n_slots);
void packed_cb_arm(struct virtqueue *vq, u16 after);
void packed_cb_disarm(struct virtqueue *vq);
bool packed_used(const struct virtqueue *vq);

/*
 * An index moved from `old` to `now`: did it step over `event`, so that the other side is to
 * be told? All free-running modulo 2^16 (VIRTIO 1.4, 2.7.10, virtq_need_event).
 */
static inline bool ring_event_crossed(u16 event, u16 now, u16 old)
{
	return (u16)(now - event - 1) < (u16)(now - old);
}

#endif
