/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The driver half of a virtqueue, in the words of Linux 2.6.30: add_buf, kick, get_buf,
 * enable_cb, disable_cb.
 *
 * virtqueue.c knows slots, tokens and limits; where entries lie and how they wrap is known to
 * split.c and packed.c alone. The driver never reads back what it wrote: all that it needs to
 * remember is in its slots, which the device cannot reach. The device may be hostile: what it
 * breaks is latched as a fault, the queue is then broken, and the tokens still out come back
 * from virtqueue_detach, each exactly once.
 *
 * The caller serialises all calls on one queue. Nothing is allocated; memory is lent.
 */
#ifndef VIADUCT_RING_VIRTQUEUE_H
#define VIADUCT_RING_VIRTQUEUE_H

#include "base/errno.h"
#include "ring/dma.h"
#include "ring/fault.h"
#include "spec/virtq.h"

struct virtqueue;

/* What the driver remembers of each slot (split: descriptor; packed: buffer id). */
struct vq_slot {
	void *token; /* not NULL: a buffer of the driver's that begins here is in flight */
	u64 addr; /* of this descriptor's buffer, for unmap */
	u32 n_bytes;
	u32 in_bytes; /* of the whole buffer: the most that a device may claim */
	u16 next; /* next descriptor of the chain, or next free slot */
	u16 n_slots; /* ring entries that the buffer took */
	u16 n_indirect; /* entries of its indirect table, 0: direct */
	bool in; /* device-writable */
};

/* What the driver remembers of an entry of an indirect table, for unmap. */
struct vq_piece {
	u64 addr;
	u32 n_bytes;
	bool in;
};

struct virtqueue_setup {
	u16 size; /* 1..VIRTQ_MAX_SIZE; split: a power of two */
	bool packed, event_idx, indirect;
	/* Ring memory: device-visible, zeroed, aligned as spec/virtq.h says. */
	void *desc; /* table, or packed ring */
	void *driver_area; /* available ring, or driver event area */
	void *device_area; /* used ring, or device event area */
	/* Private memory: `size` slots. */
	struct vq_slot *slots;
	/*
	 * Indirect tables, size * max_indirect entries, device-visible (named to the device by
	 * `dma`); NULL if not wanted. A buffer of 2..max_indirect pieces then takes one entry.
	 */
	struct virtq_desc *tables;
	struct vq_piece *pieces; /* private, as many as tables has entries; only for `dma` */
	u16 max_indirect;
	struct dma *dma; /* NULL: an address is a pointer */
	void (*callback)(struct virtqueue *vq); /* the device used a buffer; may be NULL */
	bool (*notify)(struct virtqueue *vq); /* ring the doorbell; false: the device is gone */
	const char *name;
};

struct virtqueue {
	struct virtqueue_setup setup;
	void *priv; /* the driver's */
	u16 index; /* among the device's queues; the transport's */
	u16 n_free; /* ring entries */
	u16 n_in_flight; /* buffers */
	u32 n_added; /* since the last kick decision; split: buffers, packed: ring entries */
	u16 free_head; /* split: descriptors; packed: buffer ids */
	bool cb_enabled;
	struct ring_fault_record fault;
	u16 detach_slot; /* how far virtqueue_detach has come */

	union {
		struct {
			u16 avail_idx; /* next to fill, free-running */
			u16 used_idx; /* next to reap, free-running */
			u16 used_seen; /* used->idx as last loaded */
		} split;
		struct {
			u16 avail_slot, used_slot;
			bool avail_wrap, used_wrap;
		} packed;
	};
};

/* 0, or -EINVAL if the setup is impossible. Callbacks are enabled at first. */
int virtqueue_init(struct virtqueue *vq, const struct virtqueue_setup *setup);

/*
 * Offers a buffer: the first `n_out` spans of `sg` are read by the device, the next `n_in` are
 * written by it; none is empty, together at most 4 GiB - 1. `token` (not NULL) comes back from
 * get_buf. The device may see the buffer at once, and will by the next kick.
 *
 * 0; -ENOSPC: full for now; -EINVAL: no spans, more than can ever fit, an empty one, too many
 * bytes, a NULL token; -ENOMEM: dma could not map; -EIO: the queue is broken.
 */
int virtqueue_add_buf(struct virtqueue *vq, const struct span sg[], u32 n_out, u32 n_in,
		      void *token);

/* A piece of a buffer that is scattered over several arrays. */
struct sg_list {
	const struct span *v;
	u32 n; /* may be 0 */
};

/*
 * The same, from several lists: first `n_out_lists` that the device reads, then `n_in_lists`
 * that it writes. For a header, data and a trailer that live in different places.
 */
int virtqueue_add_sgs(struct virtqueue *vq, const struct sg_list lists[], u32 n_out_lists,
		      u32 n_in_lists, void *token);

/* Publishes what was added and notifies if the device wants it. False: the device is gone. */
bool virtqueue_kick(struct virtqueue *vq);

/* The two halves of kick, so that the doorbell can be rung outside the caller's lock. */
bool virtqueue_kick_prepare(struct virtqueue *vq);
bool virtqueue_notify(struct virtqueue *vq);

/*
 * A token that the device is done with and the bytes it wrote (never more than there was room
 * for), or NULL: nothing yet, or broken (see virtqueue_is_broken).
 */
void *virtqueue_get_buf(struct virtqueue *vq, u32 *n_written);

/* A hint: callbacks may still come. */
void virtqueue_disable_cb(struct virtqueue *vq);

/* False: buffers are waiting already; disable again and reap them. */
bool virtqueue_enable_cb(struct virtqueue *vq);

/* Like enable_cb, but asks for the callback when most of what is in flight is done. */
bool virtqueue_enable_cb_delayed(struct virtqueue *vq);

/*
 * After the device was reset: one token that never came back a call, then NULL. A queue that
 * gave all of them back can be set up again with virtqueue_init.
 */
void *virtqueue_detach(struct virtqueue *vq);

/* True if get_buf would return something or find a fault. */
bool virtqueue_pending(const struct virtqueue *vq);

static inline bool virtqueue_is_broken(const struct virtqueue *vq)
{
	return vq->fault.kind != RING_OK;
}

/* Latches the first fault. For this half's own files and for a transport that lost its device. */
void virtqueue_break(struct virtqueue *vq, enum ring_fault kind, u16 id, u64 value);

#endif
