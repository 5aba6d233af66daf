/* SPDX-License-Identifier: BSD-3-Clause */
/* The console device on the wire (VIRTIO 1.4, 5.3). */
#ifndef VIADUCT_SPEC_CONSOLE_H
#define VIADUCT_SPEC_CONSOLE_H

#include "base/types.h"

/* Feature bits by number. */
#define VIRTIO_CONSOLE_F_SIZE 0
#define VIRTIO_CONSOLE_F_MULTIPORT 1
#define VIRTIO_CONSOLE_F_EMERG_WRITE 2

struct virtio_console_config {
	le16 cols, rows; /* of port 0, with SIZE; 0: unknown */
	le32 max_nr_ports; /* with MULTIPORT */
	le32 emerg_wr; /* written by the driver: its low byte is output at once */
};
SIZE_IS(struct virtio_console_config, 12);
OFFSET_IS(struct virtio_console_config, emerg_wr, 8);

/* Queues: port 0, then (with MULTIPORT) control, then ports 1, 2, ... */
#define VIRTIO_CONSOLE_CONTROL_RX_QUEUE 2
#define VIRTIO_CONSOLE_CONTROL_TX_QUEUE 3
#define VIRTIO_CONSOLE_RX_QUEUE(port) ((port) == 0 ? 0 : 2 * (port) + 2)
#define VIRTIO_CONSOLE_TX_QUEUE(port) ((port) == 0 ? 1 : 2 * (port) + 3)

/* On the control queues, both ways. */
struct virtio_console_control {
	le32 id; /* of the port */
	le16 event;
	le16 value;
};
SIZE_IS(struct virtio_console_control, 8);

#define VIRTIO_CONSOLE_DEVICE_READY 0 /* driver; value 1: it works */
#define VIRTIO_CONSOLE_DEVICE_ADD 1 /* device: there is a new port */
#define VIRTIO_CONSOLE_DEVICE_REMOVE 2 /* device: the port is gone */
#define VIRTIO_CONSOLE_PORT_READY 3 /* driver, after ADD; value 1: it works */
#define VIRTIO_CONSOLE_CONSOLE_PORT 4 /* device: this port is for a console */
#define VIRTIO_CONSOLE_RESIZE 5 /* device; struct virtio_console_resize follows */
#define VIRTIO_CONSOLE_PORT_OPEN 6 /* both: value 1 somebody listens here, 0 no longer */
#define VIRTIO_CONSOLE_PORT_NAME 7 /* device; the name follows, UTF-8 without an end mark */

struct virtio_console_resize {
	le16 cols, rows;
};
SIZE_IS(struct virtio_console_resize, 4);

#endif
