/* SPDX-License-Identifier: BSD-3-Clause */
/* The network device as it lies on the wire (VIRTIO 1.4, 5.1): what is used here of it. */
#ifndef VIADUCT_SPEC_NET_H
#define VIADUCT_SPEC_NET_H

#include "base/types.h"

/* Feature bits by number. HOST: what the device does for frames sent; GUEST: what it may bring. */
#define VIRTIO_NET_F_CSUM 0
#define VIRTIO_NET_F_GUEST_CSUM 1
#define VIRTIO_NET_F_CTRL_GUEST_OFFLOADS 2
#define VIRTIO_NET_F_MTU 3
#define VIRTIO_NET_F_MAC 5
#define VIRTIO_NET_F_GUEST_TSO4 7
#define VIRTIO_NET_F_GUEST_TSO6 8
#define VIRTIO_NET_F_GUEST_ECN 9
#define VIRTIO_NET_F_GUEST_UFO 10
#define VIRTIO_NET_F_HOST_TSO4 11
#define VIRTIO_NET_F_HOST_TSO6 12
#define VIRTIO_NET_F_HOST_ECN 13
#define VIRTIO_NET_F_HOST_UFO 14
#define VIRTIO_NET_F_MRG_RXBUF 15
#define VIRTIO_NET_F_STATUS 16
#define VIRTIO_NET_F_CTRL_VQ 17
#define VIRTIO_NET_F_CTRL_RX 18
#define VIRTIO_NET_F_CTRL_VLAN 19
#define VIRTIO_NET_F_CTRL_RX_EXTRA 20
#define VIRTIO_NET_F_GUEST_ANNOUNCE 21
#define VIRTIO_NET_F_MQ 22
#define VIRTIO_NET_F_CTRL_MAC_ADDR 23

#define VIRTIO_NET_S_LINK_UP 1
#define VIRTIO_NET_S_ANNOUNCE 2

struct virtio_net_config {
	u8 mac[6];
	le16 status;
	le16 max_virtqueue_pairs;
	le16 mtu;
	le32 speed;
	u8 duplex;
	u8 rss_max_key_size;
	le16 rss_max_indirection_table_length;
	le32 supported_hash_types;
	le32 supported_tunnel_types;
};
SIZE_IS(struct virtio_net_config, 28);
OFFSET_IS(struct virtio_net_config, status, 6);
OFFSET_IS(struct virtio_net_config, mtu, 10);
OFFSET_IS(struct virtio_net_config, duplex, 16);
OFFSET_IS(struct virtio_net_config, supported_tunnel_types, 24);

/* Queues: receive 0, transmit 0, receive 1, ...; control behind the last pair there can be. */
#define VIRTIO_NET_RX_QUEUE(pair) (2 * (pair))
#define VIRTIO_NET_TX_QUEUE(pair) (2 * (pair) + 1)
#define VIRTIO_NET_MAX_PAIRS 0x8000

#define VIRTIO_NET_HDR_F_NEEDS_CSUM 1
#define VIRTIO_NET_HDR_F_DATA_VALID 2

#define VIRTIO_NET_HDR_GSO_NONE 0
#define VIRTIO_NET_HDR_GSO_TCPV4 1
#define VIRTIO_NET_HDR_GSO_UDP 3
#define VIRTIO_NET_HDR_GSO_TCPV6 4
#define VIRTIO_NET_HDR_GSO_UDP_L4 5
#define VIRTIO_NET_HDR_GSO_ECN 0x80

/* In front of each frame, both ways; longer only with features that are not used here. */
struct virtio_net_hdr {
	u8 flags;
	u8 gso_type;
	le16 hdr_len;
	le16 gso_size;
	le16 csum_start;
	le16 csum_offset;
	le16 num_buffers; /* receive only */
};
SIZE_IS(struct virtio_net_hdr, 12);
OFFSET_IS(struct virtio_net_hdr, num_buffers, 10);

/* A control command: this, its data; then, written by the device, one byte OK or ERR. */
struct virtio_net_ctrl_hdr {
	u8 class;
	u8 command;
};
SIZE_IS(struct virtio_net_ctrl_hdr, 2);

#define VIRTIO_NET_OK 0
#define VIRTIO_NET_ERR 1

/* Data of all: u8 on. */
#define VIRTIO_NET_CTRL_RX 0
#define VIRTIO_NET_CTRL_RX_PROMISC 0
#define VIRTIO_NET_CTRL_RX_ALLMULTI 1
#define VIRTIO_NET_CTRL_RX_ALLUNI 2
#define VIRTIO_NET_CTRL_RX_NOMULTI 3
#define VIRTIO_NET_CTRL_RX_NOUNI 4
#define VIRTIO_NET_CTRL_RX_NOBCAST 5

/* TABLE_SET: le32 entries, u8 macs[entries][6], for unicast and again for multicast. */
#define VIRTIO_NET_CTRL_MAC 1
#define VIRTIO_NET_CTRL_MAC_TABLE_SET 0
#define VIRTIO_NET_CTRL_MAC_ADDR_SET 1

/* Data: le16 id. */
#define VIRTIO_NET_CTRL_VLAN 2
#define VIRTIO_NET_CTRL_VLAN_ADD 0
#define VIRTIO_NET_CTRL_VLAN_DEL 1

#define VIRTIO_NET_CTRL_ANNOUNCE 3
#define VIRTIO_NET_CTRL_ANNOUNCE_ACK 0

/* Data: le16 pairs. */
#define VIRTIO_NET_CTRL_MQ 4
#define VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET 0

/* Data: le64, a bit for each GUEST_* feature, by the feature's number. */
#define VIRTIO_NET_CTRL_GUEST_OFFLOADS 5
#define VIRTIO_NET_CTRL_GUEST_OFFLOADS_SET 0

#endif
