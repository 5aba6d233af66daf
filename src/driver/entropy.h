/* SPDX-License-Identifier: BSD-3-Clause */
/* The entropy driver: random bytes from the other side of the bridge. */
#ifndef VIADUCT_DRIVER_ENTROPY_H
#define VIADUCT_DRIVER_ENTROPY_H

#include "driver/virtio.h"

extern struct virtio_driver driver_entropy; /* for register_virtio_driver */

/*
 * Up to `n_bytes` random bytes; returns how many there were, at least 1. Waits `timeout_ns` at
 * most (0: only looks, and asks for the next call's bytes): -EAGAIN. -ENODEV: the device is not
 * there or is broken; it may be back later. Not from a callback. Mix what comes with what you
 * have: whoever made the device knows it.
 */
int driver_entropy_read(struct virtio_device *vdev, void *bytes, u32 n_bytes, u64 timeout_ns);

#endif
