/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * How the driver half names its own memory to the device.
 *
 * Without one (NULL) a buffer's address is its pointer. A port with an IOMMU, a bounce buffer
 * or an offset supplies these; ring/virtqueue.c calls map once per buffer added and unmap once
 * when it comes back.
 */
#ifndef VIADUCT_RING_DMA_H
#define VIADUCT_RING_DMA_H

#include "base/types.h"

enum dma_dir { DMA_TO_DEVICE, DMA_FROM_DEVICE };

struct dma;

#define DMA_MAP_FAILED UINT64_MAX

struct dma_ops {
	/* The device's address of [p, p + n_bytes), or DMA_MAP_FAILED. */
	u64 (*map)(struct dma *dma, void *p, size_t n_bytes, enum dma_dir dir);
	void (*unmap)(struct dma *dma, u64 addr, size_t n_bytes, enum dma_dir dir);
};

struct dma {
	const struct dma_ops *ops;
};

#endif
