/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The driver end of virtio-mmio: a virtio_device behind a window of registers.
 *
 * The port says how registers are reached and calls mmio_driver_interrupt when the device's
 * line is raised; without a line it calls the same from time to time. The device is not
 * trusted: no wait is without an end, and a window that reads as all ones has lost its device.
 */
#ifndef VIADUCT_TRANSPORT_MMIO_DRIVER_H
#define VIADUCT_TRANSPORT_MMIO_DRIVER_H

#include "driver/virtio.h"
#include "spec/mmio.h"

#define MMIO_DRIVER_MAX_QUEUES 64

struct mmio_regs;

/*
 * One access each, of exactly that width, little-endian on the bus and in the machine's order
 * here. A write comes after all our earlier stores to memory, a read before our later loads
 * (with memory that is not strongly ordered, a barrier each).
 */
struct mmio_regs_ops {
	u8 (*read8)(struct mmio_regs *regs, u32 offset);
	u16 (*read16)(struct mmio_regs *regs, u32 offset);
	u32 (*read32)(struct mmio_regs *regs, u32 offset);
	void (*write8)(struct mmio_regs *regs, u32 offset, u8 value);
	void (*write16)(struct mmio_regs *regs, u32 offset, u16 value);
	void (*write32)(struct mmio_regs *regs, u32 offset, u32 value);
};

struct mmio_regs {
	const struct mmio_regs_ops *ops;
};

struct mmio_driver {
	struct virtio_device device;
	struct mmio_regs *regs;
	struct virtqueue *vqs[MMIO_DRIVER_MAX_QUEUES];
};

/*
 * Looks what is there. 1: a device; register_virtio_device(&m->device) comes next. 0: a
 * placeholder, which is no error. -ENODEV: nothing that we can drive; one line says what.
 */
int mmio_driver_init(struct mmio_driver *m, struct mmio_regs *regs, struct platform *platform,
		     const char *name);

/*
 * The interrupt handler: asks the device what happened, acknowledges, and calls back. True if
 * there was something (lines may be shared). Not reentrant; virtio_poll is due afterwards.
 *
 * Polled mode: call it in place of an interrupt. The device notes its events whether or not
 * anybody listens to its line.
 */
bool mmio_driver_interrupt(struct mmio_driver *m);

#endif
