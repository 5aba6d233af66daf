/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The device end of virtio-mmio: the register window of one device.
 *
 * A monitor that traps the driver's accesses hands them in here, and carries one interrupt line
 * out. Version 2 alone is spoken. Every access has a defined answer, whoever makes it: what is
 * no aligned 32-bit word of a control register, or no aligned 8, 16 or 32 bits of the
 * configuration, reads as 0 and is dropped when written; so are reads of write-only registers
 * and writes to the others. One thread, the device's.
 */
#ifndef VIADUCT_TRANSPORT_MMIO_DEVICE_H
#define VIADUCT_TRANSPORT_MMIO_DEVICE_H

#include "device/vdev.h"
#include "spec/mmio.h"

/* What the driver wrote about a queue; used from the moment that it is made ready. */
struct mmio_device_queue {
	u32 size;
	u64 desc_gpa, driver_gpa, device_gpa;
	bool again; /* a look at it ended with work left */
};

struct mmio_device {
	struct vdev_link link;
	struct vdev *vdev;
	struct mmio_device_queue *queues;
	/* The interrupt line; called when it changes. Must not call back into the device. */
	void (*irq)(void *arg, bool high);
	void *irq_arg;

	u32 device_features_sel, driver_features_sel, queue_sel;
	struct features driver_features;
	bool features_beyond; /* the driver accepted bits past those that can be offered */
	u32 interrupt_status;
};

/*
 * Connects itself to `vdev`, which has to be reset, and which the owner gives its guest memory.
 * `queues` is lent, vdev->n_queues of them.
 */
void mmio_device_init(struct mmio_device *d, struct vdev *vdev, struct mmio_device_queue *queues,
		      void (*irq)(void *arg, bool high), void *irq_arg);

/* `offset` and `width` (in bytes) are any numbers; the value is in the machine's own order. */
u64 mmio_device_read(struct mmio_device *d, u64 offset, u32 width);
void mmio_device_write(struct mmio_device *d, u64 offset, u32 width, u64 value);

/*
 * Goes on where a look at a queue was ended because it is somebody else's turn. For the owner's
 * loop, once each turn; false: there was nothing.
 */
bool mmio_device_step(struct mmio_device *d);

/* Resets and disconnects it. */
void mmio_device_fini(struct mmio_device *d);

#endif
