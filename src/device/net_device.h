/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the parts of the network device share, and nobody else: net.c (set-up, link, the core's
 * calls), net_transmit.c, net_receive.c, net_control.c.
 *
 * The port may call device_net_receive from within its send and set_receiving; then the core, or
 * who called us, notifies the guest afterwards.
 */
#ifndef VIADUCT_DEVICE_NET_DEVICE_H
#define VIADUCT_DEVICE_NET_DEVICE_H

#include "device/clock.h"
#include "device/net.h"
#include "device/net_offload.h"
#include "spec/net.h"

#define NET_HEADER_BYTES sizeof(struct virtio_net_hdr)

/* The longest frame there can be: all that a length field of IPv6 can say. */
#define NET_MAX_LARGE_BYTES (NET_FRAME_BYTES(65535) + 40)

#define NET_TX_PIECES 512 /* of one frame, at most */
#define NET_RX_PIECES 64 /* of one receive buffer, at most */
#define NET_RX_MERGED 64 /* receive buffers for one frame, at most: 64 KiB in buffers of 1 KiB */

#define NET_FILTER_MACS 64 /* of each kind; with more, all of that kind pass */
#define NET_PEEK_BYTES 96 /* of a frame: Ethernet, IP, ports */
#define NET_FLOWS 1024

/*
 * Frames and commands that one call may cost before others on the loop have their turn: a driver
 * that refills its queue as fast as we empty it must not keep us for ever (G38). Exceeded by one
 * large frame at most.
 */
#define NET_TURN 512

/* Bits of VIRTIO_NET_CTRL_GUEST_OFFLOADS that we know, and of accepted.word[0] as well. */
#define NET_OFFLOAD_BIT(feature) ((u64)1 << (feature))
#define NET_OFFLOADS                                                                           \
	(NET_OFFLOAD_BIT(VIRTIO_NET_F_GUEST_CSUM) | NET_OFFLOAD_BIT(VIRTIO_NET_F_GUEST_TSO4) | \
	 NET_OFFLOAD_BIT(VIRTIO_NET_F_GUEST_TSO6) | NET_OFFLOAD_BIT(VIRTIO_NET_F_GUEST_ECN))

struct net_mac_table {
	u32 n;
	bool overflow;
	u8 mac[NET_FILTER_MACS][6];
};

struct net_filter {
	bool mode[VIRTIO_NET_CTRL_RX_NOBCAST + 1]; /* by command number */
	struct net_mac_table unicast, multicast;
	u64 vlans[4096 / 64];
};

struct net {
	struct vdev vdev;
	struct virtio_net_config config;
	struct netport *port;
	struct clock *clock;
	u8 first_mac[6]; /* after reset */
	u16 mtu, max_pairs;
	bool plugged;

	/* As the driver wants it; gone with reset. */
	u16 n_pairs;
	u32 guest_can; /* NETPORT_* */
	struct net_filter filter;

	bool receiving; /* what the port was told */
	bool tx_waiting; /* for the port's `ready` */
	u32 turn_left; /* of NET_TURN */
	struct clock_timer next_turn;
	bool later; /* the turn was used up: go on when next_turn fires */
	u16 first_pair; /* of the next turn, so that no pair starves another */
	u32 *segments_sent; /* per pair: of the frame that waits */
	u16 *flow_pair; /* by flow hash: which pair sent last; NULL with a single pair */

	u8 *frame; /* one frame finished in software, as large as the port takes */
	struct span *tx_spans; /* NET_TX_PIECES; control borrows them */
	struct chain *rx_chains; /* NET_RX_MERGED */
	struct span *rx_spans; /* NET_RX_PIECES for each of those */
	struct device_net_stats stats;
};

static inline bool net_link_is_up(const struct net *net)
{
	return net->plugged && net->port->link_up;
}

/* Queue pairs that have queue numbers; the control queue comes behind them. */
static inline u16 net_pairs_that_exist(const struct net *net)
{
	return vdev_has(&net->vdev, VIRTIO_NET_F_MQ) ? net->max_pairs : 1;
}

static inline void net_set_status_bit(struct net *net, u16 bit, bool on)
{
	u16 status = le16_get(net->config.status);

	net->config.status = le16_of(on ? status | bit : status & (u16)~bit);
}

/* What a port must be able to do to get the frame as it is, or a guest. */
static inline u32 net_offload_needs(const struct net_offload *o)
{
	u32 needs = 0;

	if (o->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM)
		needs |= NETPORT_CSUM;
	if ((o->gso_type & ~VIRTIO_NET_HDR_GSO_ECN) == VIRTIO_NET_HDR_GSO_TCPV4)
		needs |= NETPORT_TSO4;
	if ((o->gso_type & ~VIRTIO_NET_HDR_GSO_ECN) == VIRTIO_NET_HDR_GSO_TCPV6)
		needs |= NETPORT_TSO6;
	if (o->gso_type & VIRTIO_NET_HDR_GSO_ECN)
		needs |= NETPORT_ECN;
	return needs;
}

/* net.c: tells the port whether to bring frames. It may bring some before this returns. */
void device_net_set_receiving(struct net *net, bool on);
void device_net_set_guest_offloads(struct net *net, u64 offloads);
/* So much of the turn is used up; if it was the rest, `later` is set, and the caller stops. */
void device_net_spend(struct net *net, u32 n);

/* net_transmit.c: sends what is in the queue, until the port or the turn ends it. */
void device_net_transmit(struct net *net, u16 pair);

/* net_receive.c: the port's ear, and what it learns from frames sent. */
bool device_net_receive(void *owner, const struct net_offload *offload, const struct span *v,
			u32 n);
void device_net_remember_flow(struct net *net, u16 pair, const struct sg *frame);

/* net_control.c: commands, and the filter that they set. */
void device_net_control(struct net *net, u16 queue);
bool device_net_wants(const struct net *net, const u8 *mac, int vlan);

#endif
