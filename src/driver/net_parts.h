/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the files of the network driver share: net.c, which brings a device up and down,
 * net_transmit.c and net_receive.c, through which frames go, and net_control.c, which tells the device
 * what was set.
 *
 * A receive buffer is waiting, in the queue, part of a frame that is not whole yet, or its
 * owner's. A break makes waiting ones of all but the owner's.
 *
 * Of what the device writes only the frames lie in memory of the owner's. Headers of frames sent
 * and the control command lie in coherent memory of the driver's own.
 */
#ifndef VIADUCT_DRIVER_NET_PARTS_H
#define VIADUCT_DRIVER_NET_PARTS_H

#include "driver/net.h"

#define NET_MIN_MTU 68 /* what IPv4 needs */
#define NET_ETHERNET_BYTES 14u
#define NET_TAGS_BYTES 8u /* up to two VLAN tags */
#define NET_MAX_LARGE_BYTES (65535u + 40 + NET_ETHERNET_BYTES + NET_TAGS_BYTES)
#define NET_MAX_BUFFER_BYTES (1u << 20)
#define NET_MIN_MERGED_BYTES 1024u /* so that DRIVER_NET_MAX_MERGED hold any frame */
/* A device of more is used without MQ: its control queue would be too far away. */
#define NET_MAX_DEVICE_PAIRS 256

struct net_pair {
	struct net *net;
	struct virtqueue *rx, *tx;
	struct list waiting; /* receive buffers that are yet to be posted */
	struct driver_net_received frame; /* of which n_missing buffers have yet to come */
	struct driver_net_buffer *last; /* of `frame` */
	u32 n_missing;
	struct virtio_net_hdr *headers; /* one for each entry of tx */
	u16 *free_headers; /* a stack of numbers of them */
	u16 n_headers, n_free;
};

struct net_settings {
	u16 n_pairs;
	u8 mac[6];
	bool modes[VIRTIO_NET_CTRL_RX_NOBCAST + 1];
	struct driver_net_filter filter;
	u64 vlans[4096 / 64];
};

/* One command is under way at a time: which. */
enum net_command { NET_NOTHING, NET_ANNOUNCE, NET_PAIRS, NET_MAC, NET_FILTER, NET_MODE, NET_VLAN };

struct net_control_wire {
	struct virtio_net_ctrl_hdr header;
	u8 data[8 + 2 * 6 * DRIVER_NET_MAX_MACS];
	u8 status;
};

struct net {
	struct virtio_device *vdev;
	struct driver_net_info info;
	const struct driver_net_ears *ears; /* never NULL */
	void *owner;
	bool live; /* there are queues */

	struct virtqueue *control; /* NULL: the device has none */
	struct net_control_wire *wire;
	/* The owner's wishes, and which of them the device knows: what differs is told next. */
	struct net_settings wanted, told;
	bool mac_chosen; /* wanted.mac is a wish */
	bool announce_wanted; /* by the device */
	bool announced; /* and the device has yet to hear that */
	enum net_command command;
	u16 command_which; /* mode, or VLAN */
	int control_err; /* of a command that was refused */

	struct net_pair pairs[DRIVER_NET_MAX_PAIRS]; /* info.n_pairs of them have queues */
};

/* Only while our probe holds it. */
static inline struct net *net_of(const struct virtio_device *vdev)
{
	return vdev->driver == &driver_net ? vdev->priv : NULL;
}

/* It can be given something: has queues, and nobody found it lying. */
static inline bool net_usable(const struct net *net)
{
	return net->live && !net->vdev->recovery_wanted;
}

/* The pair of that number: 0, -ENODEV, -EINVAL. */
static inline int net_pair_of(const struct virtio_device *vdev, u16 number, struct net_pair **pair)
{
	struct net *net = net_of(vdev);

	if (!net || !net_usable(net))
		return -ENODEV;
	if (number >= net->info.n_pairs)
		return -EINVAL;
	*pair = &net->pairs[number];
	return 0;
}

/* The checksum to complete lies within the frame. */
static inline bool net_checksum_within(const struct driver_net_offload *o, u32 n_bytes)
{
	return o->csum_start <= n_bytes && n_bytes - o->csum_start >= (u32)o->csum_offset + 2;
}

/* net_transmit.c */
void driver_net_sent_callback(struct virtqueue *vq);
void driver_net_fail_sent(struct net_pair *p); /* after a reset */

/* net_receive.c */
void driver_net_received_callback(struct virtqueue *vq);
void driver_net_fill(struct net_pair *p); /* posts what waits; no kick */
void driver_net_take_back(struct net_pair *p); /* after a reset: buffers wait again */

/* net_control.c */
void driver_net_control_callback(struct virtqueue *vq);
/* The device knows nothing yet, or nothing any more. */
void driver_net_control_forget(struct net *net);
/* Reaps an answer, tells what is next: all there is to do on the control queue. */
void driver_net_control_work(struct net *net);

#endif
