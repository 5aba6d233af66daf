/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the two files of the block driver share: blk.c, which brings a device up and down, and
 * blk_request.c, through which requests go.
 *
 * A request's way: submit -> waiting -> (a piece of it) in flight -> next piece, or done.
 *
 * Both lists of a queue are in the order of submission, and a break puts what was in flight
 * before what waits. So an old write never lands after one that was submitted when it was
 * already known to have ended.
 *
 * What the device writes besides data, the status, lies in coherent memory of the driver's own,
 * one record for each request that the ring can hold; all that the driver has to remember lies
 * in memory that no device sees.
 */
#ifndef VIADUCT_DRIVER_BLK_QUEUE_H
#define VIADUCT_DRIVER_BLK_QUEUE_H

#include "driver/blk.h"
#include "spec/blk.h"

#define BLK_MAX_SEGMENTS 30u /* with header and status: 32 entries of an indirect table */
#define BLK_MAX_PIECE_BYTES (1u << 30) /* a chain holds 4 GiB - 1 */

struct blk_wire {
	struct virtio_blk_header header;
	struct virtio_blk_discard_write_zeroes range;
	u8 status;
	u8 unused[31];
};
SIZE_IS(struct blk_wire, 64);

struct blk_queue {
	struct blk *blk;
	struct virtqueue *vq;
	struct list waiting, in_flight;
	struct blk_wire *wires;
	u16 *free_slots; /* a stack of numbers of wires */
	u16 n_wires, n_free;
};

struct blk {
	struct virtio_device *vdev;
	struct driver_blk_info info;
	bool live; /* there are queues */
	bool given_up;
	u16 n_queues; /* there is memory for; info.n_queues of them are used */
	struct span sg[BLK_MAX_SEGMENTS + 2]; /* of the chain being built */
	struct blk_queue queues[];
};

/* Only while our probe holds it. */
static inline struct blk *blk_of(const struct virtio_device *vdev)
{
	return vdev->driver == &driver_blk ? vdev->priv : NULL;
}

/* Whether a request can be for this device, and how long it is: 0 or -errno. */
int blk_request_check(const struct blk *blk, struct driver_blk_request *req);

/* Reaps, submits what waits, tells those whose requests ended: all there is to do on a queue. */
void blk_queue_work(struct blk_queue *q);
void blk_queue_callback(struct virtqueue *vq);

/* Ends a request that is on no list; and tells the callers of all that were, without a lock. */
void blk_request_end(struct driver_blk_request *req, int err, struct list *ended);
void blk_tell_ended(struct list *ended);

#endif
