/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Virtqueues as they lie in memory: VIRTIO 1.4, 2.7 (split) and 2.8 (packed).
 * The wire and nothing else.
 */
#ifndef VIADUCT_SPEC_VIRTQ_H
#define VIADUCT_SPEC_VIRTQ_H

#include "base/types.h"

#define VIRTQ_MAX_SIZE 32768

/* Flags of a descriptor, both formats. */
#define VIRTQ_DESC_F_NEXT 1
#define VIRTQ_DESC_F_WRITE 2
#define VIRTQ_DESC_F_INDIRECT 4

/* --- split --- */

#define VIRTQ_AVAIL_F_NO_INTERRUPT 1
#define VIRTQ_USED_F_NO_NOTIFY 1

#define VIRTQ_DESC_ALIGN 16
#define VIRTQ_AVAIL_ALIGN 2
#define VIRTQ_USED_ALIGN 4

struct virtq_desc {
	le64 addr;
	le32 len;
	le16 flags;
	le16 next;
};
SIZE_IS(struct virtq_desc, 16);

/* le16 used_event follows ring[size] (VIRTIO_F_EVENT_IDX). */
struct virtq_avail {
	le16 flags;
	le16 idx;
	le16 ring[];
};
SIZE_IS(struct virtq_avail, 4);

struct virtq_used_elem {
	le32 id;
	le32 len;
};
SIZE_IS(struct virtq_used_elem, 8);

/* le16 avail_event follows ring[size] (VIRTIO_F_EVENT_IDX). */
struct virtq_used {
	le16 flags;
	le16 idx;
	struct virtq_used_elem ring[];
};
SIZE_IS(struct virtq_used, 4);

/* Bytes of each part for a queue of `size`, event field included. */
#define VIRTQ_DESC_BYTES(size) (16 * (size_t)(size))
#define VIRTQ_AVAIL_BYTES(size) (6 + 2 * (size_t)(size))
#define VIRTQ_USED_BYTES(size) (6 + 8 * (size_t)(size))

/* --- packed --- */

#define VIRTQ_PACKED_DESC_F_AVAIL (1 << 7)
#define VIRTQ_PACKED_DESC_F_USED (1 << 15)

#define VIRTQ_EVENT_F_ENABLE 0
#define VIRTQ_EVENT_F_DISABLE 1
#define VIRTQ_EVENT_F_DESC 2
#define VIRTQ_EVENT_WRAP (1 << 15) /* in off_wrap */

#define VIRTQ_EVENT_ALIGN 4
#define VIRTQ_EVENT_BYTES 4

struct virtq_packed_desc {
	le64 addr;
	le32 len;
	le16 id;
	le16 flags;
};
SIZE_IS(struct virtq_packed_desc, 16);

/* Event suppression: the driver's area is written by the driver, the device's by the device. */
struct virtq_event {
	le16 off_wrap;
	le16 flags;
};
SIZE_IS(struct virtq_event, 4);

#endif
