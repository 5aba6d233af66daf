/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * In software what a port cannot do: completing a checksum, cutting a large TCP send into
 * frames. Freestanding.
 *
 * The frame is a guest's. Each byte of it is read once, into the caller's buffer, and what was
 * read is what is checked and sent. Whatever the guest claims, nothing outside the frame is
 * read and nothing outside the buffer is written; a claim that makes no sense is -EINVAL.
 */
#ifndef VIADUCT_DEVICE_NET_OFFLOAD_H
#define VIADUCT_DEVICE_NET_OFFLOAD_H

#include "base/errno.h"
#include "device/netport.h"
#include "ring/sg.h"

#define ETH_HEADER_BYTES 14
#define ETH_TAG_BYTES 4 /* a VLAN tag */
#define ETH_MAX_TAGS 2 /* that we look behind */
#define ETH_TYPE_IPV4 0x0800
#define ETH_TYPE_ARP 0x0806
#define ETH_TYPE_IPV6 0x86dd
#define ETH_TYPE_VLAN 0x8100
#define ETH_TYPE_QINQ 0x88a8

/* The longest frame of a network with packets of up to `mtu` bytes. */
#define NET_FRAME_BYTES(mtu) ((size_t)(mtu) + ETH_HEADER_BYTES + ETH_MAX_TAGS * ETH_TAG_BYTES)

/* Big-endian, as networks speak; any alignment. */
static inline u16 be16_at(const u8 *p)
{
	return (u16)(p[0] << 8 | p[1]);
}

static inline void be16_put(u8 *p, u16 v)
{
	p[0] = (u8)(v >> 8);
	p[1] = (u8)v;
}

static inline u32 be32_at(const u8 *p)
{
	return (u32)be16_at(p) << 16 | be16_at(p + 2);
}

static inline void be32_put(u8 *p, u32 v)
{
	be16_put(p, (u16)(v >> 16));
	be16_put(p + 2, (u16)v);
}

/*
 * Where the network header of a frame lies, behind up to two VLAN tags, and its type. The first
 * tag's id goes to `vlan`, -1 if there is none. Works on as much of the frame as is given.
 */
size_t net_network_header(const u8 *frame, size_t n, u16 *type, int *vlan);

/*
 * The ones' complement sum of RFC 1071, of big-endian words. Pieces of even length (but for the
 * last) and plain numbers may be added up in any order, then folded.
 */
u64 net_sum(const u8 *bytes, size_t n);
u16 net_sum_fold(u64 sum);

/* Completes, in place, the checksum that `offload` (with NEEDS_CSUM) asks for. 0 or -EINVAL. */
int net_complete_checksum(u8 *frame, size_t n, const struct net_offload *offload);

/*
 * The same checksum without writing it, of a frame of `n_bytes` in pieces: what belongs at
 * csum_start + csum_offset, which the caller has checked to lie within the frame.
 */
u16 net_checksum_of(const struct net_offload *offload, const struct span *v, size_t n_bytes);

/* A large TCP send on its way into frames. */
#define NET_SEGMENT_HEADER_BYTES 256 /* Ethernet, IP with options or extensions, TCP, at most */
#define NET_MAX_SEGMENTS 2048 /* of one send: a guest with gso_size 1 must not cost us 65535 */

struct net_segments {
	struct sg payload; /* not cut yet */
	u8 header[NET_SEGMENT_HEADER_BYTES]; /* the guest's */
	size_t header_bytes;
	size_t network, transport; /* where they begin in `header` */
	bool ipv6;
	u16 segment_bytes; /* payload of each but the last */
	u16 pseudo_sum; /* the TCP checksum's pseudo header, without its length */
	u32 n_segments, next;
};

/*
 * Reads the headers of `frame`, which is `offload`'s TCPV4 or TCPV6, and checks that no segment
 * is longer than `mtu`, Ethernet header and tags not counted. If `large_bytes` is more than that,
 * segments are that long instead of the guest's gso_size. 0, or -EINVAL.
 */
int net_segments_begin(struct net_segments *s, const struct net_offload *offload,
		       const struct sg *frame, u16 mtu, u16 large_bytes);

/*
 * Builds the next finished frame in `buffer`, of NET_FRAME_BYTES(mtu or large_bytes);
 * returns its bytes, or 0 after the last one. `buffer` NULL: passes over it.
 */
size_t net_segments_next(struct net_segments *s, u8 *buffer);

#endif
