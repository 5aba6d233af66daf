/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The console device: byte streams (device/chardev.h) shown to a guest as virtio-console ports.
 *
 * A port is a console (the guest puts a terminal on it) or a plain, named, serial port. Ports
 * come and go while the guest runs; a guest without MULTIPORT has port 0 and nothing else.
 *
 * Nothing is queued here, in either direction. Input is taken from a chardev only as far as the
 * guest has buffers for it; output that a chardev does not take stays in the guest's own buffer;
 * and what is to be told about a port is a few bits of state, told when the guest has room.
 */
#ifndef VIADUCT_DEVICE_CONSOLE_H
#define VIADUCT_DEVICE_CONSOLE_H

#include "device/chardev.h"
#include "device/vdev.h"

#define DEVICE_CONSOLE_MAX_PORTS 32
#define DEVICE_CONSOLE_NAME_BYTES 64 /* of a port, with its end */

struct device_console_config {
	const char *name; /* for logs; outlives the device */
	u16 max_ports; /* 1: port 0 alone, MULTIPORT is not offered; ..DEVICE_CONSOLE_MAX_PORTS */
	u16 queue_size; /* entries in each at most, 1..32768; a power of two for split rings */
	/*
	 * RESIZE carries columns, then rows, says the specification. Linux's driver reads them the
	 * other way round up to 6.15; it cannot be told apart from here, so somebody has to say.
	 */
	bool resize_rows_first;
};

/* Bytes of memory (aligned to 16) that device_console_init needs. */
size_t device_console_bytes(const struct device_console_config *config);
struct vdev *device_console_init(void *mem, const struct device_console_config *config);

struct device_console_port {
	/* Outlives the port, which takes over its ears. */
	struct chardev *chardev;
	const char *name; /* copied; NULL or "": has none */
	bool is_console;
};

/*
 * A new port, also while the guest runs; it is told as soon as it listens. 0, -EINVAL (no such
 * port can be, or the name is too long), -EBUSY (there is one already).
 */
int device_console_add_port(struct vdev *vdev, u32 id, const struct device_console_port *port);

/* The chardev is nobody's afterwards; output it did not take yet is lost. 0 or -ENOENT. */
int device_console_remove_port(struct vdev *vdev, u32 id);

/* For people. Counters begin with the port. */
struct device_console_port_state {
	const struct chardev *chardev;
	const char *name; /* "": none */
	bool is_console;
	bool guest_ready; /* the driver took the port (without MULTIPORT: DRIVER_OK) */
	bool guest_open; /* a program of the guest has it open (likewise) */
	u64 n_in, n_out; /* bytes to and from the guest */
};

/* False: no such port. */
bool device_console_port_state(const struct vdev *vdev, u32 id,
			       struct device_console_port_state *state);

/* Control messages of the driver that made no sense, and were dropped (G32). */
u64 device_console_n_ignored(const struct vdev *vdev);

#endif
