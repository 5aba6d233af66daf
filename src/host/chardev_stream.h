/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the chardevs have in common: two descriptors (or one for both ways) on an event loop.
 *
 * Input is read when the device wants it, one buffer ahead at most; output is written at once,
 * as far as the descriptor takes it and within a budget for each turn of the loop, so that one
 * busy port cannot keep all others waiting. Embedded first in each kind of chardev.
 */
#ifndef VIADUCT_HOST_CHARDEV_STREAM_H
#define VIADUCT_HOST_CHARDEV_STREAM_H

#include "device/chardev.h"
#include "host/loop.h"

#define STREAM_BUFFER_BYTES 4096

struct stream;

/* What a kind of chardev adds. NULL: nothing. */
struct stream_kind {
	const char *name;
	/* What of the bytes is for the guest? Leaves that in place, at most n + 1 bytes. */
	size_t (*filter)(struct stream *s, u8 *bytes, size_t n);
	/* Read even if the device does not want it; what finds no place is dropped. */
	bool reads_always;
	/* Input came to its end: the other side has gone. */
	void (*ended)(struct stream *s);
	/* The other side has gone, but there may be input that nobody wants yet. For sockets. */
	void (*hung_up)(struct stream *s);
	void (*destroy)(struct stream *s); /* frees `s` */
};

struct stream {
	struct chardev chardev;
	const struct stream_kind *kind;
	struct loop *loop;
	/* fd -1: there is none. One descriptor for both ways is watched by `in`. */
	struct loop_watch in, out;
	struct loop_task task; /* what has to be done soon, but not now */
	bool in_unwatchable; /* a regular file: always ready */
	bool in_is_socket, out_is_socket;

	bool reading; /* the device wants input */
	bool in_ended;
	bool hang_ups; /* to be told even when nothing is read */
	bool blocked; /* the device waits for `writable` */
	bool waiting; /* for EPOLLOUT, that is; otherwise the task ends it */
	bool complained; /* about lost output */
	u32 n_written; /* since the task last ran */

	u8 left[STREAM_BUFFER_BYTES]; /* input that the device has not taken yet */
	u32 from, to;
};

/* Nothing attached, not open. */
void stream_init(struct stream *s, const struct stream_kind *kind, struct loop *loop);

/* Begins to use descriptors (-1: none); they do not block. 0 or -errno, with nothing attached. */
int stream_attach(struct stream *s, int in_fd, int out_fd);

/* Ends their use and closes them; input that was read already is kept. */
void stream_detach(struct stream *s);

/* Somebody came to the other end, or left. Output that waited is dropped if nobody is there. */
void stream_set_open(struct stream *s, bool open);

void stream_set_size(struct stream *s, u16 cols, u16 rows);

/* Input may come again after it had ended. */
void stream_revive(struct stream *s);

#endif
