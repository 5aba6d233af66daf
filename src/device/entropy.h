/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The entropy device: random bytes (device/randomness.h) for a guest, at a rate that one may set.
 *
 * A request of any size is answered with at most `max_bytes`, so what a guest can make us do for
 * one buffer is bounded (G33); with a rate limit, what it can make us do at all is.
 */
#ifndef VIADUCT_DEVICE_ENTROPY_H
#define VIADUCT_DEVICE_ENTROPY_H

#include "device/clock.h"
#include "device/randomness.h"
#include "device/vdev.h"

struct device_entropy_config {
	const char *name; /* for logs; outlives the device */
	struct randomness *randomness; /* outlives the device */
	struct clock *clock; /* likewise */
	u16 queue_size; /* entries at most, 1..32768; a power of two for split rings */
	u32 max_bytes; /* that one request gets; 0: 4096 */
	u32 rate_bytes; /* a second; 0: no limit */
	u32 burst_bytes; /* that may be saved up for later; 0: max_bytes */
};

/* Bytes of memory (aligned to 16) that device_entropy_init needs. */
size_t device_entropy_bytes(const struct device_entropy_config *config);
struct vdev *device_entropy_init(void *mem, const struct device_entropy_config *config);

/* For people. Counters are never reset. */
struct device_entropy_stats {
	u64 n_requests; /* answered */
	u64 n_bytes;
	u64 n_waits; /* for the rate limit */
	u64 n_failures; /* of the source; the guest waits meanwhile */
};

const struct device_entropy_stats *device_entropy_stats(const struct vdev *vdev);

#endif
