/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The network driver: frames, in buffers lent by their owner, to and from any virtio card.
 *
 * Nothing is copied: the device reads and writes the owner's memory. Nothing is allocated or
 * rung for a frame: send and post as many as there are, then kick once. As on any Ethernet
 * frames may be lost: those that a device had when it broke or went away end with an error. It
 * is brought up again by itself; the receive buffers that it had are posted again, and what was
 * set (filters, addresses, pairs) is told again.
 *
 * Received frames are fetched. `received` says that there are some; that it says so again may be
 * relied upon only after driver_net_receive has returned 0.
 */
#ifndef VIADUCT_DRIVER_NET_H
#define VIADUCT_DRIVER_NET_H

#include "driver/virtio.h"
#include "spec/net.h"

extern struct virtio_driver driver_net; /* for register_virtio_driver */

#define DRIVER_NET_MAX_PAIRS 16 /* that are used; a device may have more */
#define DRIVER_NET_MAX_SEGMENTS 31 /* of a frame sent: with its header, 32 descriptors */
#define DRIVER_NET_MAX_MERGED \
	66 /* buffers of a frame received: 64 KiB and headers, in 1 KiB each */
#define DRIVER_NET_MAX_MACS 32 /* of each kind in the filter */

/*
 * Work left to do on a frame, as in struct virtio_net_hdr, in the machine's byte order: a checksum to
 * complete (flags NEEDS_CSUM), a segment to cut (gso_type). All 0: it is finished.
 */
struct driver_net_offload {
	u8 flags, gso_type;
	u16 hdr_len, gso_size, csum_start, csum_offset;
};

/* What is known of a card. */
struct driver_net_info {
	u8 mac[6]; /* all 0: the device has none for us, choose one */
	bool link_up;
	u16 mtu; /* of a packet; 1500 if the device does not say */
	u16 n_pairs; /* that driver_net_set_pairs may ask for */
	u16 n_pairs_used; /* the device brings frames on these */
	bool mergeable; /* a frame may come in several buffers */
	u32 min_buffer_bytes; /* of a receive buffer */
	bool can_csum, can_tso4, can_tso6, can_ecn; /* of frames sent */
	bool can_filter, can_filter_more, can_vlan, can_set_mac; /* of the settings below */
	u64 n_bad_frames; /* received and dropped: runts, offloads that cannot be (D09) */
};

/* What the owner wants to hear; any may be NULL. From queue callbacks, with no lock held. */
struct driver_net_ears {
	void (*received)(void *owner, u16 pair); /* driver_net_receive has something */
	void (*changed)(void *owner); /* link, MTU; the device is back after a break */
	/* Say to the network where we are (gratuitous ARP and its kin), now. */
	void (*announce)(void *owner);
};

/* A frame to send: the owner's, from driver_net_send to done. Zero what you do not use. */
struct driver_net_frame {
	const struct span *sg; /* from the Ethernet header on, in memory the device can be shown */
	u32 n_sg;
	struct driver_net_offload offload;
	/* The end of it, once: 0: the device took it; -EIO: it broke or went. May send again. */
	void (*done)(struct driver_net_frame *frame, int err);

	/* The driver's. */
	struct list node;
	u16 header;
	int err;
};

/* A receive buffer: the owner's, but for the time from post until it comes with a frame. */
struct driver_net_buffer {
	void *base;
	u32 n_bytes;
	struct span data; /* of a frame received: what of it lies in here, never empty */
	struct driver_net_buffer *next; /* of the same frame, or of those to post */
	struct list node; /* the driver's */
};

struct driver_net_received {
	struct driver_net_buffer *first; /* post them again when done with */
	u16 n_buffers;
	u32 n_bytes; /* at least an Ethernet header */
	struct driver_net_offload offload; /* believable: within the frame, and what we can take */
};

/* Kept up to date; NULL if this device is not bound to this driver. */
const struct driver_net_info *driver_net_info(const struct virtio_device *vdev);

/* From now on until the device is unregistered. 0 or -ENODEV. */
int driver_net_listen(struct virtio_device *vdev, const struct driver_net_ears *ears, void *owner);

/*
 * 0: `done` will be called, perhaps before this returns (for others of this queue, too); the
 * device need not look before the next kick. -ENOSPC: the queue is full, kick, and try when
 * something is done. -ENOMEM: no bounce buffer. -ENODEV: broken or gone. -EINVAL: no such pair,
 * too short or long, too many pieces, or an offload that the device does not do.
 */
int driver_net_send(struct virtio_device *vdev, u16 pair, struct driver_net_frame *frame);

/*
 * Lends `first` and all that follow it by `next` for receiving. What the queue cannot hold
 * waits. All are the owner's again when the device is unregistered. 0, -ENODEV: not our device,
 * -EINVAL: no such pair, or not of min_buffer_bytes to 1 MiB (none is taken then).
 */
int driver_net_post(struct virtio_device *vdev, u16 pair, struct driver_net_buffer *first);

/* Tells the device of what was sent and posted. */
void driver_net_kick(struct virtio_device *vdev, u16 pair);

/*
 * 1: the next frame; its buffers are the owner's. 0: none now. -ENODEV: broken or gone. -EINVAL:
 * no such pair.
 */
int driver_net_receive(struct virtio_device *vdev, u16 pair, struct driver_net_received *frame);

/* Ends frames that the device is done with, for those who do not wait for callbacks. */
void driver_net_reap(struct virtio_device *vdev, u16 pair);

/* ---- settings: they hold from then on, over breaks too ------------------------------------ */

/*
 * Each waits for the device, `timeout_ns` at most, doing the loop's work too; not from a
 * callback. 0; -EOPNOTSUPP: the device has no such command; -EIO: it refuses, all is as before;
 * -EINVAL; -ENODEV: broken or gone; -ETIMEDOUT: no answer, it may still come.
 */

/* `mode`: VIRTIO_NET_CTRL_RX_PROMISC .. NOBCAST. */
int driver_net_set_mode(struct virtio_device *vdev, u8 mode, bool on, u64 timeout_ns);

/* Which addresses to receive besides our own, instead of those set before. */
struct driver_net_filter {
	u32 n_unicast, n_multicast; /* up to DRIVER_NET_MAX_MACS each */
	u8 unicast[DRIVER_NET_MAX_MACS][6], multicast[DRIVER_NET_MAX_MACS][6];
};
int driver_net_set_filter(struct virtio_device *vdev, const struct driver_net_filter *filter,
			  u64 timeout_ns);
int driver_net_set_mac(struct virtio_device *vdev, const u8 mac[6], u64 timeout_ns);
int driver_net_set_vlan(struct virtio_device *vdev, u16 id, bool on, u64 timeout_ns);
int driver_net_set_pairs(struct virtio_device *vdev, u16 n_pairs, u64 timeout_ns);

#endif
