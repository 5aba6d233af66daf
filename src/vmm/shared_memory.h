/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A driver's platform in an ordinary process: what a device in another process may see comes
 * from one sealed memfd, everything else from the heap, where no device reaches it.
 *
 * Addresses for the device are offset from our pointers on purpose, so that a forgotten
 * translation is found at once; and so is what the back end is told of our address space.
 */
#ifndef VIADUCT_VMM_SHARED_MEMORY_H
#define VIADUCT_VMM_SHARED_MEMORY_H

#include "base/list.h"
#include "driver/platform.h"

#define SHARED_MEMORY_GPA 0x100000000ull /* of its first byte, as devices are told */

struct shared_memory {
	struct platform platform;
	struct dma dma;
	u8 *base;
	u64 n_bytes;
	int fd;
	struct list extents; /* in use, by offset; kept on the heap */
};

/* 0 or -errno. `n_bytes` is a multiple of 4096; pages become resident when they are used. */
int shared_memory_init(struct shared_memory *m, u64 n_bytes);
void shared_memory_fini(struct shared_memory *m);

#endif
