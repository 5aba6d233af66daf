/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The device half of a virtqueue: pop a request, push its answer.
 *
 * devq.c walks chains, checks them and turns guest addresses into spans; where the entries lie
 * and how they wrap is known to split.c and packed.c alone. Everything read from the ring is
 * read once, into a local, then checked, then used. The driver may be hostile: what it breaks
 * is latched as a fault (ring/fault.h), and the queue then answers -EPROTO until it is started
 * again.
 *
 * One thread owns a queue. Nothing is allocated; memory is lent at devq_init.
 */
#ifndef VIADUCT_RING_DEVQ_H
#define VIADUCT_RING_DEVQ_H

#include "base/errno.h"
#include "memory/memory.h"
#include "ring/fault.h"
#include "ring/sg.h"
#include "spec/virtq.h"

/*
 * One request. `out` is what the driver sent, `in` the room for the answer. The spans are the
 * caller's, lent before devq_pop; valid until devq_push or devq_unpop. Fields from `id` on are
 * the ring's.
 */
struct chain {
	struct span *spans;
	u16 max_spans; /* room in `spans`: the longest chain that this device takes */

	u16 id; /* split: head; packed: buffer id */
	u16 n_slots; /* ring entries that it took */
	struct sg out, in;
	u32 in_bytes; /* room there was at first: the most that may be pushed as written */
	struct memory *memory; /* pinned from pop to push */
};

/* Where and how a ring lies: the transport's part of starting a queue. */
struct devq_setup {
	u16 size;
	bool packed, event_idx, indirect;
	u64 desc_gpa; /* descriptor table or ring */
	u64 driver_gpa; /* available ring, or driver event area */
	u64 device_gpa; /* used ring, or device event area */
};

/*
 * Where a queue begins or stopped, as vhost-user's SET_VRING_BASE and GET_VRING_BASE spell it.
 * Split: the next available index, 16 bits. Packed: bits 0-14 next available slot, 15 its wrap
 * counter, 16-30 next used slot, 31 its wrap counter.
 */
#define DEVQ_POSITION_START_SPLIT 0u
#define DEVQ_POSITION_START_PACKED 0x80008000u

struct devq {
	/* Lent, for ever. */
	u64 *in_flight; /* a bit for each head or buffer id */
	u16 max_size;

	/* From devq_start on. */
	struct devq_setup setup;
	struct memory *memory;
	u32 memory_hint;
	bool live;
	bool polling; /* the owner looks by itself: do not ask for notifications */
	bool armed; /* the driver has been asked to notify, nothing was taken since */
	u16 n_in_flight; /* chains popped and not pushed */
	struct ring_fault_record fault;

	union {
		struct {
			const struct virtq_desc *desc;
			const struct virtq_avail *avail;
			struct virtq_used *used;
			const le16 *used_event; /* behind avail: the driver's wish */
			le16 *avail_event; /* behind used: ours */
			u16 avail_idx; /* next to take, free-running */
			u16 avail_seen; /* avail->idx as last loaded */
			u16 used_idx; /* next to give, free-running */
			u16 used_published; /* used->idx as last stored */
			u16 signalled_idx; /* used_idx at the last signal decision */
		} split;
		struct {
			struct virtq_packed_desc *desc;
			const struct virtq_event *driver_event;
			struct virtq_event *device_event;
			u16 avail_slot, used_slot; /* next to take, next to give */
			bool avail_wrap, used_wrap;
			u16 n_slots_in_flight;
			u32 n_given; /* slots since the last signal decision */
		} packed;
	};

	/* For people: never decremented. */
	u64 n_popped, n_pushed, n_signals;
};

/* Words that the in-flight map of a queue of up to `max_size` takes. */
#define DEVQ_MAP_WORDS(max_size) (((u32)(max_size) + 63) / 64)

/* `in_flight` has DEVQ_MAP_WORDS(max_size) words; max_size is 1..VIRTQ_MAX_SIZE. */
void devq_init(struct devq *q, u16 max_size, u64 *in_flight);

/*
 * Begins work on a ring in `memory` (pinned until devq_stop). 0, or -EPROTO with the fault
 * latched: bad size, area or position. Nothing is in flight afterwards.
 */
int devq_start(struct devq *q, const struct devq_setup *setup, struct memory *memory, u32 position);

/*
 * Ends work and tells where it ended. Nothing may be in flight (drain first). Publishes what
 * was pushed. A broken queue can be stopped too.
 */
u32 devq_stop(struct devq *q);

/*
 * Same ring, new map. 0, or -EPROTO with the fault latched if the ring is not in it. Chains in
 * flight keep the old map pinned.
 */
int devq_remap(struct devq *q, struct memory *memory);

/*
 * 1: a request is in `c`. 0: there is none, and the driver will notify when there is (unless
 * `polling`): no wake-up can be lost. -EPROTO: the queue is broken; see q->fault.
 */
int devq_pop(struct devq *q, struct chain *c);

/*
 * Takes the last devq_pop back, as if it had not happened. Allowed any number of times, in
 * reverse order, while nothing was pushed in between.
 */
void devq_unpop(struct devq *q, struct chain *c);

/*
 * Gives the request back with `n_written` bytes (at most c->in_bytes) written to its room.
 * The driver may not see it before devq_flush.
 */
void devq_push(struct devq *q, struct chain *c, u32 n_written);

/*
 * Forgets a request without an answer: on a ring that is about to be stopped for good, or
 * broken. The driver gets its buffer back by a reset only.
 */
void devq_drop(struct devq *q, struct chain *c);

/*
 * Publishes everything pushed; true if the driver must be notified now. To be called after
 * each batch, by the device core only. False on a queue that is not live.
 */
bool devq_flush(struct devq *q);

/* True if a pop would find something (or a fault). Does not arm. */
bool devq_pending(struct devq *q);

/*
 * While on, pops do not ask for notifications and the driver is told to send none. Turning it
 * off arms at the next empty pop, so call devq_pop afterwards.
 */
void devq_set_polling(struct devq *q, bool on);

/* Latches the first fault; returns -EPROTO. For this half's own files. */
int devq_fail(struct devq *q, enum ring_fault kind, u16 id, u64 value);

#endif
