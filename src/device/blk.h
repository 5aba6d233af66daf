/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The block device: a storage (device/storage.h) shown to a guest as virtio-blk.
 *
 * FLUSH is always offered, so a guest that knows about caches can have one, and a guest that
 * does not gets write-through: no completed write is ever lost without the guest having been
 * able to prevent it. A read-only device refuses writes whatever the guest negotiated.
 */
#ifndef VIADUCT_DEVICE_BLK_H
#define VIADUCT_DEVICE_BLK_H

#include "device/storage.h"
#include "device/vdev.h"

struct device_blk_config {
	const char *name; /* for logs; outlives the device */
	/*
	 * Outlives the device, which takes over its ears (owner, batch_end, resized). Its features
	 * are looked at once, in init; only n_bytes may change later.
	 */
	struct storage *storage;
	const char *serial; /* what GET_ID says, its first 20 bytes; NULL: nothing */
	bool read_only; /* also if the storage is */
	u16 n_queues; /* at least 1 */
	u16 queue_size; /* entries in each at most, 1..32768; a power of two for split rings */
	u32 seg_max; /* data segments a request, at most DEVICE_BLK_SEG_MAX; 0: what a queue holds */
	u32 size_max; /* bytes a segment, a hint to the driver; 0: not offered */
};

#define DEVICE_BLK_SEG_MAX 999

/* Bytes of memory (aligned to 16) that device_blk_init needs. */
size_t device_blk_bytes(const struct device_blk_config *config);
struct vdev *device_blk_init(void *mem, const struct device_blk_config *config);

enum device_blk_op {
	DEVICE_BLK_READ,
	DEVICE_BLK_WRITE,
	DEVICE_BLK_FLUSH,
	DEVICE_BLK_GET_ID,
	DEVICE_BLK_DISCARD,
	DEVICE_BLK_WRITE_ZEROES,
	DEVICE_BLK_OTHER, /* what we do not know, and requests without a whole header */
	DEVICE_BLK_N_OPS
};

/* For people. Counters are never reset. */
struct device_blk_stats {
	struct {
		u64 n_done;
		u64 n_failed; /* of those: answered with anything but OK */
		u64 n_bytes; /* of the others: read, written, discarded, zeroed */
	} op[DEVICE_BLK_N_OPS];
	u64 n_storage_flushes; /* for FLUSH, and for writes of a write-through device */
	u32 n_in_flight;
};

const struct device_blk_stats *device_blk_stats(const struct vdev *vdev);

#endif
