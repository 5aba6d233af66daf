/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the parts of the balloon driver share, and nobody else: balloon.c (pages given and taken
 * back, statistics) and balloon_free.c (memory that is free: hints, reports).
 */
#ifndef VIADUCT_DRIVER_BALLOON_PARTS_H
#define VIADUCT_DRIVER_BALLOON_PARTS_H

#include "driver/balloon.h"

#define BATCH 256 /* pages in a request */
#define MAX_FREE_QUEUE 64
#define MAX_REPORT 32 /* stretches in a report */

/* In memory that the device sees, written by us and never read back. */
struct balloon_shared {
	le32 pfns[BATCH];
	struct virtio_balloon_stat stats[VIRTIO_BALLOON_S_N_TAGS];
	le32 hint_cmd;
};

static inline struct driver_balloon *balloon_of(struct virtio_device *vdev)
{
	return container_of(vdev->driver, struct driver_balloon, driver);
}

static inline struct driver_balloon *owner_of(struct virtqueue *vq)
{
	return balloon_of(virtqueue_device(vq));
}

/* ---- balloon_free.c */
void driver_balloon_hints_reset(struct driver_balloon *b);
/* The device's word on hints may be another one; with the lock held. */
void driver_balloon_hear_hints(struct driver_balloon *b);
/* Callbacks. */
void driver_balloon_hints_seen(struct virtqueue *vq);
void driver_balloon_reports_seen(struct virtqueue *vq);

#endif
