/* SPDX-License-Identifier: BSD-3-Clause */
/* The traditional memory balloon: VIRTIO 1.4, 5.5. The wire and nothing else. */
#ifndef VIADUCT_SPEC_BALLOON_H
#define VIADUCT_SPEC_BALLOON_H

#include "base/types.h"

/* Feature bits. */
#define VIRTIO_BALLOON_F_MUST_TELL_HOST 0 /* deflated pages are used after the acknowledgment */
#define VIRTIO_BALLOON_F_STATS_VQ 1
#define VIRTIO_BALLOON_F_DEFLATE_ON_OOM 2
#define VIRTIO_BALLOON_F_FREE_PAGE_HINT 3
#define VIRTIO_BALLOON_F_PAGE_POISON 4
#define VIRTIO_BALLOON_F_PAGE_REPORTING 5

/* Queues as 5.5.2 numbers them. Drivers do not agree: see device/balloon.c. */
#define VIRTIO_BALLOON_INFLATEQ 0
#define VIRTIO_BALLOON_DEFLATEQ 1
#define VIRTIO_BALLOON_STATSQ 2
#define VIRTIO_BALLOON_FREE_PAGE_VQ 3
#define VIRTIO_BALLOON_REPORTING_VQ 4
#define VIRTIO_BALLOON_N_QUEUES 5

/* A page number counts these, whatever the guest's own page size. */
#define VIRTIO_BALLOON_PAGE_BYTES 4096
#define VIRTIO_BALLOON_PFN_SHIFT 12

struct virtio_balloon_config {
	le32 num_pages; /* what the device wants */
	le32 actual; /* what the driver has given; driver-writable */
	le32 free_page_hint_cmd_id; /* FREE_PAGE_HINT */
	le32 poison_val; /* PAGE_POISON; driver-writable */
};
SIZE_IS(struct virtio_balloon_config, 16);
OFFSET_IS(struct virtio_balloon_config, actual, 4);
OFFSET_IS(struct virtio_balloon_config, poison_val, 12);

/* Command ids with a meaning of their own; 2 and up name a round of hints. */
#define VIRTIO_BALLOON_CMD_ID_STOP 0
#define VIRTIO_BALLOON_CMD_ID_DONE 1

/* Tags of statistics. */
#define VIRTIO_BALLOON_S_SWAP_IN 0 /* bytes */
#define VIRTIO_BALLOON_S_SWAP_OUT 1 /* bytes */
#define VIRTIO_BALLOON_S_MAJFLT 2
#define VIRTIO_BALLOON_S_MINFLT 3
#define VIRTIO_BALLOON_S_MEMFREE 4 /* bytes */
#define VIRTIO_BALLOON_S_MEMTOT 5 /* bytes */
#define VIRTIO_BALLOON_S_AVAIL 6 /* bytes */
#define VIRTIO_BALLOON_S_CACHES 7 /* bytes */
#define VIRTIO_BALLOON_S_HTLB_PGALLOC 8
#define VIRTIO_BALLOON_S_HTLB_PGFAIL 9
#define VIRTIO_BALLOON_S_N_TAGS 10

/* An array of these, with nothing between. */
struct virtio_balloon_stat {
	le16 tag;
	le64 val;
} __attribute__((packed));
SIZE_IS(struct virtio_balloon_stat, 10);

#endif
