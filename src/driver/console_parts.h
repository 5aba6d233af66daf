/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the parts of the console driver share, and nobody else: console_port.c (bytes of a port),
 * console_control.c (what is told of ports), console.c (the owner's calls, life and death).
 *
 * All memory is taken in probe: a few small buffers for each port and for each control queue.
 * A buffer is the device's from post to get_buf or detach.
 */
#ifndef VIADUCT_DRIVER_CONSOLE_PARTS_H
#define VIADUCT_DRIVER_CONSOLE_PARTS_H

#include "driver/console.h"
#include "spec/console.h"

#define N_BUFFERS 8 /* in each queue */
#define BUFFER_BYTES 256
#define MAX_QUEUES (2 * DRIVER_CONSOLE_MAX_PORTS + 2)

struct buffer {
	u8 *bytes;
	u32 n_bytes; /* output: not yet taken by the device; 0: free */
	bool posted; /* the device's */
};

/* What the device has yet to hear of a port. */
enum tell {
	TELL_READY = 1 << 0,
	TELL_OPEN = 1 << 1, /* what `open` is by then */
};

struct port {
	struct driver_console_port info;
	struct console *console;
	u32 id;
	bool there;
	u8 tell;
	struct virtqueue *rx, *tx; /* NULL: frozen */

	struct buffer in[N_BUFFERS];
	struct buffer *reading; /* received, and read up to `at` */
	u32 at, end;

	struct buffer out[N_BUFFERS]; /* a circle, filled at `next`: what comes there is oldest */
	u32 next;
	bool cut_short; /* a write found no room: somebody waits */
};

struct console {
	struct virtio_device *vdev;
	const struct driver_console_ears *ears;
	void *owner;
	struct buffer control_in[N_BUFFERS], control_out[N_BUFFERS];
	struct virtqueue *vqs[MAX_QUEUES];
	u32 n_vqs; /* 0: frozen */
	bool multiport;
	u32 n_ports; /* with queues now */
	u32 max_ports; /* with buffers */
	u8 *memory; /* of all buffers */
	struct port ports[];
};

/* ---- console_port.c */
/* All that the device could receive into, but for the one that is being read; and a kick. */
void driver_console_post_input(struct virtqueue *vq, struct buffer in[], const struct buffer *but);
/* False: no room in the queue, or it is broken. No kick. */
bool driver_console_post_output(struct virtqueue *vq, struct buffer *b);
/* NULL: nothing, or the queue is broken and the device will be reset. */
struct buffer *driver_console_get(struct virtqueue *vq, u32 *n_written);
/* Frees the output that the device is done with. */
void driver_console_reap_output(struct virtqueue *vq);
/* The device has the port: its buffers go there, those too that an earlier life did not take. */
void driver_console_port_start(struct port *p);
/* Nothing of what was received or is yet to be sent is another port's. */
void driver_console_port_forget(struct port *p);
void driver_console_input_came(struct virtqueue *vq);
void driver_console_output_taken(struct virtqueue *vq);

/* ---- console_control.c */
/* Both queues work: says that we do. */
void driver_console_control_start(struct console *c);
void driver_console_tell_all(struct console *c);
void driver_console_control_came(struct virtqueue *vq);
void driver_console_control_taken(struct virtqueue *vq);
void driver_console_port_comes(struct port *p);
void driver_console_port_goes(struct port *p);
/* Of port 0, from the configuration. */
void driver_console_read_size(struct console *c);
/* A bit for each port that is not as it was. Without the lock: the owner calls us back. */
void driver_console_tell_owner(struct console *c, u32 changed);

#endif
