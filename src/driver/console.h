/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The console driver: the device's ports as byte streams, for a terminal or for programs.
 *
 * Without MULTIPORT there is port 0 and nothing else. With it ports come and go, have names, and
 * each side says whether it has them open. A port is known by its number; what is known of one
 * that is there stands in struct driver_console_port.
 *
 * Bytes are copied, through buffers that are the driver's own. A device that breaks or goes away
 * takes its ports along, and brings them again when it is back: what was written and not yet
 * taken by the device is then sent (again, if it took some of it unseen), what was received can
 * still be read, and a port that was open is opened again.
 */
#ifndef VIADUCT_DRIVER_CONSOLE_H
#define VIADUCT_DRIVER_CONSOLE_H

#include "driver/virtio.h"

extern struct virtio_driver driver_console; /* for register_virtio_driver */

#define DRIVER_CONSOLE_MAX_PORTS 16 /* the device's others are told that they are not wanted */
#define DRIVER_CONSOLE_NAME_BYTES 64 /* with its end; a longer name is cut */

struct driver_console_port {
	/* The device's words: any bytes but 0. "": has none. */
	char name[DRIVER_CONSOLE_NAME_BYTES];
	bool is_console; /* the device would have a terminal here */
	bool device_open; /* somebody is at the other end */
	bool open; /* on our side */
	u16 cols, rows; /* of a terminal; 0: unknown */
	u32 life; /* another number: another port that came in this one's place */
};

/* What the owner wants to hear; any may be NULL. From the queues' callbacks and the core. */
struct driver_console_ears {
	/* A port came, went, or is not as it was. */
	void (*changed)(void *owner, u32 id);
	/* There may be something to read. */
	void (*input)(void *owner, u32 id);
	/* A write that was cut short may go on. */
	void (*room)(void *owner, u32 id);
};

/*
 * From now on until the device is unregistered. Ports that are there already are told at once.
 * 0, or -ENODEV: not bound to this driver.
 */
int driver_console_listen(struct virtio_device *vdev, const struct driver_console_ears *ears,
			  void *owner);

/* NULL: there is no such port now. Valid until the driver is called again. */
const struct driver_console_port *driver_console_port(const struct virtio_device *vdev, u32 id);

/*
 * Tells the device whether somebody listens; without MULTIPORT it assumes so. A console port is
 * open from the start. 0 or -ENODEV: no such port.
 */
int driver_console_open(struct virtio_device *vdev, u32 id, bool open);

/*
 * Up to `n` bytes; how many there were, 0: none for now, -ENODEV: no such port. Whoever got
 * fewer than `n` hears of more.
 */
int driver_console_read(struct virtio_device *vdev, u32 id, void *bytes, u32 n);

/* How many were taken, perhaps 0; fewer than `n`: `room` follows. -ENODEV: no such port. */
int driver_console_write(struct virtio_device *vdev, u32 id, const void *bytes, u32 n);

/* One byte, needing no queues: for last words. 0, or -EOPNOTSUPP: the device takes none. */
int driver_console_emergency(struct virtio_device *vdev, u8 byte);

#endif
