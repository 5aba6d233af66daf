/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The block driver: requests, lent by their callers, to any virtio disk.
 *
 * A request is the caller's struct from submit to done; nothing is allocated for it. It may be
 * of any length and cut in any way: what exceeds the device's limits goes in pieces. A device
 * that breaks or goes away is brought up again under the requests, which are then submitted
 * again, in order and before any new one; reads, writes, flushes, discards and zeroes can bear
 * that. They fail if the device stays away for good, or by themselves if the caller asks for it.
 *
 * A write is volatile until a flush that was submitted after its end has ended well.
 */
#ifndef VIADUCT_DRIVER_BLK_H
#define VIADUCT_DRIVER_BLK_H

#include "driver/virtio.h"

extern struct virtio_driver driver_blk; /* for register_virtio_driver */

#define DRIVER_BLK_MAX_QUEUES 16
#define DRIVER_BLK_ID_BYTES 20

enum driver_blk_op {
	DRIVER_BLK_READ,
	DRIVER_BLK_WRITE,
	DRIVER_BLK_FLUSH,
	DRIVER_BLK_DISCARD, /* what the range reads as afterwards is undefined */
	DRIVER_BLK_WRITE_ZEROES,
	DRIVER_BLK_GET_ID, /* the first 20 bytes of `sg`: its serial number */
};

struct driver_blk_request {
	/* The caller's; stays as it is until done. Zero what you do not use. */
	enum driver_blk_op op;
	u16 queue; /* any number; which queue that is, is the driver's to say */
	bool may_unmap; /* WRITE_ZEROES: deallocating is fine */
	bool no_retry; /* fails with -EIO if the device breaks meanwhile */
	u64 sector; /* of 512 bytes, whatever the block size */
	u64 n_sectors; /* DISCARD, WRITE_ZEROES; set by the driver otherwise */
	const struct span *sg; /* the data, in memory that the device can be shown */
	u32 n_sg;
	/*
	 * The end of it, once: 0, -EIO, -EOPNOTSUPP, -EINVAL (pieces below a block that the device
	 * cannot take), -ENODEV. May submit again, this one too; may not unregister the device.
	 */
	void (*done)(struct driver_blk_request *req, int err);

	/* The driver's. */
	struct list node;
	u64 done_sectors;
	u32 piece_sectors; /* in flight */
	u32 at_sg; /* where the next piece begins: in sg[at_sg], at_byte in */
	size_t at_byte;
	u16 slot;
	bool in_flight, ended;
	int err;
};

/* What is known of a disk; 0: no limit, no preference. */
struct driver_blk_info {
	u64 n_sectors; /* of 512 bytes; may change while the device lives */
	u32 block_bytes; /* ranges are multiples of it: a power of two, at least 512 */
	u32 physical_block_bytes, opt_io_bytes;
	bool read_only, can_flush, can_discard, can_write_zeroes;
	u16 n_queues;
	u32 max_segments, max_segment_bytes; /* of one piece */
	u32 max_discard_sectors, discard_align_sectors, max_write_zeroes_sectors;
};

/* Kept up to date; NULL if this device is not bound to this driver. */
const struct driver_blk_info *driver_blk_info(const struct virtio_device *vdev);

/*
 * 0: `done` will be called, perhaps before this returns. Otherwise nothing happens: -ENODEV, -EINVAL (a range that is
 * empty, past the end or not in blocks), -EROFS, -EOPNOTSUPP (no flush: the device never said
 * what it keeps in caches). A full queue is no error: the request waits.
 */
int driver_blk_submit(struct virtio_device *vdev, struct driver_blk_request *req);

/*
 * Submits and waits, at most `timeout_ns`: needs no interrupts, and does the loop's work too.
 * Sets `done`. -ETIMEDOUT: the request was taken back, for which the device was reset if it had
 * it. Not from a callback.
 */
int driver_blk_run(struct virtio_device *vdev, struct driver_blk_request *req, u64 timeout_ns);

#endif
