/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What a console port asks of its host: a stream of bytes both ways that may come and go.
 *
 * Freestanding; the back ends (terminal, pty, socket, file, pipe) live in host/. One thread.
 */
#ifndef VIADUCT_DEVICE_CHARDEV_H
#define VIADUCT_DEVICE_CHARDEV_H

#include "base/types.h"

struct chardev;

struct chardev_ops {
	/*
	 * Bytes from the guest. Returns how many were taken, 0..n; fewer than n: `writable`
	 * follows. A stream with nobody at the other end takes (and drops) everything.
	 */
	size_t (*write)(struct chardev *c, const void *bytes, size_t n);
	/* The device can (not) take input; while it cannot, nothing is read. Off at first. */
	void (*set_reading)(struct chardev *c, bool on);
};

struct chardev {
	const struct chardev_ops *ops;
	const char *name;
	bool open; /* somebody is at the other end */
	u16 cols, rows; /* of a terminal; 0: unknown */

	/*
	 * The device's ears, set by it; called on the loop's thread, and never from within one of
	 * the operations above: a device is not to be entered twice. NULL: nobody listens.
	 */
	void *owner;
	/* Bytes for the guest. Returns how many were taken; the rest is offered again. */
	size_t (*input)(void *owner, const void *bytes, size_t n);
	void (*writable)(void *owner);
	void (*open_changed)(void *owner);
	void (*resized)(void *owner);
};

#endif
