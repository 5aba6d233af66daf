/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What a port supplies: memory, addresses, time. Small on purpose: a kernel, a unikernel, a
 * bootloader or a process each fill in one struct, and all drivers work.
 *
 *   1, 2  alloc, free            private memory, at probe and remove only
 *   3, 4  dma_alloc, dma_free    memory that the device sees as we do (coherent)
 *   5, 6  dma->map, dma->unmap   a buffer's address for the device (ring/dma.h): identity, IOMMU,
 *                                bounce buffer; with caches that the device does not see, map
 *                                cleans and unmap invalidates
 *   7, 8  lock, unlock           around each call into a driver's queues; NULL: one thread
 *   9, 10 now_ns, relax          for waits, every one of which is bounded
 *
 * Registers and interrupts are the transport's to ask for (transport/); what a driver has to say
 * goes to base/log.h.
 */
#ifndef VIADUCT_DRIVER_PLATFORM_H
#define VIADUCT_DRIVER_PLATFORM_H

#include "ring/dma.h"

struct platform;

struct platform_ops {
	/* Zeroed, aligned to 16; NULL: there is none. May carve from a block that never returns. */
	void *(*alloc)(struct platform *p, size_t n_bytes);
	void (*free)(struct platform *p, void *mem, size_t n_bytes);
	/* Zeroed, aligned to `align` (a power of two up to 4096); its address for the device. */
	void *(*dma_alloc)(struct platform *p, size_t n_bytes, size_t align, u64 *addr);
	void (*dma_free)(struct platform *p, void *mem, size_t n_bytes);
	void (*lock)(struct platform *p);
	void (*unlock)(struct platform *p);
	u64 (*now_ns)(struct platform *p); /* monotonic */
	void (*relax)(struct platform *p); /* in a wait: lets the other side run for a moment */
};

struct platform {
	const struct platform_ops *ops;
	struct dma *dma; /* NULL: an address is a pointer */
};

static inline void platform_lock(struct platform *p)
{
	if (p->ops->lock)
		p->ops->lock(p);
}

static inline void platform_unlock(struct platform *p)
{
	if (p->ops->unlock)
		p->ops->unlock(p);
}

#endif
