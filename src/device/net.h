/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The network device: a port (device/netport.h) shown to a guest as virtio-net.
 *
 * Whatever the port can do, the guest is offered checksums and TCP segmentation for what it
 * sends: device/net_offload.c does what the port cannot. Filters that the guest asked for are
 * really applied. Nothing is queued here: a frame is in the guest's ring, with the port, or
 * lost, as on any Ethernet.
 */
#ifndef VIADUCT_DEVICE_NET_H
#define VIADUCT_DEVICE_NET_H

#include "device/clock.h"
#include "device/netport.h"
#include "device/vdev.h"

struct device_net_config {
	const char *name; /* for logs; outlives the device */
	/* Outlives the device, which takes over its ears (owner, receive, ...). */
	struct netport *port;
	/* So that a guest that never stops sending lets others have their turn; NULL: it does not. */
	struct clock *clock;
	u8 mac[6]; /* unicast; the guest may choose another */
	u16 mtu; /* bytes of a packet, 68..65535; 0: 1500 */
	u16 max_pairs; /* of a receive and a transmit queue each, 1..DEVICE_NET_MAX_PAIRS */
	u16 queue_size; /* entries in each at most, 1..32768; a power of two for split rings */
};

#define DEVICE_NET_MAX_PAIRS 256

/* Bytes of memory (aligned to 16) that device_net_init needs. */
size_t device_net_bytes(const struct device_net_config *config);
struct vdev *device_net_init(void *mem, const struct device_net_config *config);

/* Pulls the cable, or plugs it in. Frames are lost while it is out. In at first. */
void device_net_set_link(struct vdev *vdev, bool up);

/* Asks the guest to tell the network where it is now, if it can do that. */
void device_net_announce(struct vdev *vdev);

/* For people. Counters are never reset. */
struct device_net_stats {
	u64 tx_frames, tx_bytes; /* given to the port, as the guest sent them */
	u64 tx_software_checksums, tx_software_segments;
	u64 tx_malformed; /* header or offload that makes no sense: dropped */
	u64 tx_oversize; /* longer than the MTU allows: dropped */
	u64 tx_link_down; /* dropped */
	u64 tx_lost; /* the port took an error */
	u64 tx_waits; /* the port had no room: sent later */

	u64 rx_frames, rx_bytes; /* given to the guest */
	u64 rx_filtered; /* not for this guest */
	u64 rx_link_down; /* dropped */
	u64 rx_malformed; /* longer than the MTU allows, shorter than a header: dropped */
	u64 rx_not_asked; /* large receive that the guest did not ask for: dropped */
	u64 rx_no_fit; /* larger than the guest's buffers: dropped */
	u64 rx_waits; /* the guest had too few buffers: refused to the port */

	u64 ctrl_commands, ctrl_errors;
};

const struct device_net_stats *device_net_stats(const struct vdev *vdev);

#endif
