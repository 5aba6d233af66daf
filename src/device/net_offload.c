/* SPDX-License-Identifier: BSD-3-Clause */
/* Checksums and TCP segmentation by hand, for ports that know only finished frames. */
#include "device/net_offload.h"

#include "base/shared.h"
#include "spec/net.h"

#define IPV4_MIN_BYTES 20
#define IPV6_BYTES 40
#define IP_PROTOCOL_TCP 6

#define TCP_MIN_BYTES 20
#define TCP_CHECKSUM_AT 16
#define TCP_FLAG_FIN 0x01
#define TCP_FLAG_PSH 0x08
#define TCP_FLAG_CWR 0x80

size_t net_network_header(const u8 *frame, size_t n, u16 *type, int *vlan)
{
	size_t at = ETH_HEADER_BYTES;

	*vlan = -1;
	*type = be16_at(frame + at - 2);
	for (int tags = 0; tags < ETH_MAX_TAGS && n - at >= ETH_TAG_BYTES; tags++) {
		if (*type != ETH_TYPE_VLAN && *type != ETH_TYPE_QINQ)
			break;
		if (tags == 0)
			*vlan = be16_at(frame + at) & 0xfff;
		at += ETH_TAG_BYTES;
		*type = be16_at(frame + at - 2);
	}
	return at;
}

u64 net_sum(const u8 *bytes, size_t n)
{
	u64 sum = 0;
	u32 word;

	/* Ones' complement addition does not care which byte of a word is the high one until the
	 * end, so add the machine's own words, two at once, and turn the total around. */
	for (; n >= sizeof(word); n -= sizeof(word), bytes += sizeof(word)) {
		memcpy(&word, bytes, sizeof(word));
		sum += word;
	}
	word = 0;
	memcpy(&word, bytes, n);
	sum += word;

	u16 folded = net_sum_fold(sum);
	u8 as_bytes[2];

	memcpy(as_bytes, &folded, sizeof(folded));
	return be16_at(as_bytes);
}

u16 net_sum_fold(u64 sum)
{
	while (sum > 0xffff)
		sum = (sum >> 16) + (sum & 0xffff);
	return (u16)sum;
}

/* The two zeroes are equal to TCP and IP; to UDP a plain 0 would mean that there is none. */
static u16 checksum_of_sum(u64 sum)
{
	u16 checksum = (u16)~net_sum_fold(sum);

	return checksum ? checksum : 0xffff;
}

/* The field at `at` holds what is to be added to the sum of [start, n). */
static void complete(u8 *frame, size_t n, size_t start, size_t at)
{
	be16_put(frame + at, checksum_of_sum(net_sum(frame + start, n - start)));
}

int net_complete_checksum(u8 *frame, size_t n, const struct net_offload *offload)
{
	size_t at = (size_t)offload->csum_start + offload->csum_offset;

	if (at > n || n - at < 2)
		return -EINVAL;
	complete(frame, n, offload->csum_start, at);
	return 0;
}

u16 net_checksum_of(const struct net_offload *offload, const struct span *v, size_t n_bytes)
{
	struct sg sg = { .v = (struct span *)v, .n_bytes = n_bytes };
	bool odd = false;
	u64 sum = 0;

	sg_read(&sg, NULL, offload->csum_start);
	while (sg.n_bytes > 0) {
		struct span run = sg_take(&sg, sg.n_bytes);
		u16 here = net_sum_fold(net_sum(run.base, run.n_bytes));

		/* A piece that begins within a word has its bytes the other way round. */
		sum += odd ? (u16)(here << 8 | here >> 8) : here;
		odd ^= run.n_bytes & 1;
	}
	return checksum_of_sum(sum);
}

/* The network header of a TCP frame, up to `transport`, is one that can be repeated. */
static bool network_is_sane(const struct net_segments *s)
{
	const u8 *ip = s->header + s->network;

	if (s->transport < s->network)
		return false;

	size_t n_bytes = s->transport - s->network;

	/* Extension headers of IPv6 are repeated as they are, whatever they say. */
	if (s->ipv6)
		return n_bytes >= IPV6_BYTES && ip[0] >> 4 == 6;

	/* A fragment has no TCP header to speak of: MF and the offset are 0. */
	return n_bytes >= IPV4_MIN_BYTES && ip[0] >> 4 == 4 &&
	       (size_t)(ip[0] & 15) * 4 == n_bytes && ip[9] == IP_PROTOCOL_TCP &&
	       !(be16_at(ip + 6) & 0x3fff);
}

int net_segments_begin(struct net_segments *s, const struct net_offload *offload,
		       const struct sg *frame, u16 mtu, u16 large_bytes)
{
	u16 type;
	int vlan;

	s->payload = *frame;
	s->transport = offload->csum_start;
	s->ipv6 = (offload->gso_type & ~VIRTIO_NET_HDR_GSO_ECN) == VIRTIO_NET_HDR_GSO_TCPV6;
	if (!(offload->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM) ||
	    offload->csum_offset != TCP_CHECKSUM_AT || offload->gso_size == 0)
		return -EINVAL;

	/* Up to the fixed part of the TCP header first: it tells how long it is in all. */
	if (s->transport < ETH_HEADER_BYTES || s->transport > sizeof(s->header) - TCP_MIN_BYTES)
		return -EINVAL;
	s->header_bytes = s->transport + TCP_MIN_BYTES;
	if (sg_read(&s->payload, s->header, s->header_bytes) != s->header_bytes)
		return -EINVAL;

	s->network = net_network_header(s->header, s->header_bytes, &type, &vlan);
	if (type != (s->ipv6 ? ETH_TYPE_IPV6 : ETH_TYPE_IPV4) || !network_is_sane(s))
		return -EINVAL;

	u8 *tcp = s->header + s->transport;
	size_t tcp_bytes = (size_t)(tcp[12] >> 4) * 4;

	if (tcp_bytes < TCP_MIN_BYTES || tcp_bytes > sizeof(s->header) - s->transport)
		return -EINVAL;
	s->header_bytes = s->transport + tcp_bytes;
	if (sg_read(&s->payload, tcp + TCP_MIN_BYTES, tcp_bytes - TCP_MIN_BYTES) !=
	    tcp_bytes - TCP_MIN_BYTES)
		return -EINVAL;

	/* The guest summed up its pseudo header, length of the whole included: take that out. */
	u64 whole_bytes = tcp_bytes + s->payload.n_bytes;

	s->pseudo_sum =
		net_sum_fold((u64)be16_at(tcp + TCP_CHECKSUM_AT) + (u16)~net_sum_fold(whole_bytes));

	size_t packet_header_bytes = s->header_bytes - s->network;

	s->segment_bytes = offload->gso_size;
	if (large_bytes > mtu) {
		if (packet_header_bytes >= large_bytes)
			return -EINVAL;
		mtu = large_bytes;
		s->segment_bytes = (u16)(large_bytes - packet_header_bytes);
	}
	s->n_segments = 1;
	if (s->payload.n_bytes > 0)
		s->n_segments = (u32)((s->payload.n_bytes - 1) / s->segment_bytes + 1);
	s->next = 0;
	if (s->n_segments > NET_MAX_SEGMENTS ||
	    packet_header_bytes + min_u64(s->segment_bytes, s->payload.n_bytes) > mtu)
		return -EINVAL;
	return 0;
}

size_t net_segments_next(struct net_segments *s, u8 *buffer)
{
	u32 i = s->next;
	bool last = i + 1 == s->n_segments;
	size_t n = min_u64(s->segment_bytes, s->payload.n_bytes);

	if (i == s->n_segments)
		return 0;
	s->next++;
	if (!buffer) {
		sg_read(&s->payload, NULL, n);
		return s->header_bytes + n;
	}

	u8 *ip = buffer + s->network;
	u8 *tcp = buffer + s->transport;
	size_t frame_bytes = s->header_bytes + n;

	memcpy(buffer, s->header, s->header_bytes);
	sg_read(&s->payload, buffer + s->header_bytes, n);

	if (s->ipv6) {
		be16_put(ip + 4, (u16)(frame_bytes - s->network - IPV6_BYTES));
	} else {
		be16_put(ip + 2, (u16)(frame_bytes - s->network));
		be16_put(ip + 4, (u16)(be16_at(ip + 4) + i));
		be16_put(ip + 10, 0);
		complete(buffer, s->transport, s->network, s->network + 10);
	}

	/* Only the first segment tells of the reduced window, only the last one ends and pushes. */
	be32_put(tcp + 4, be32_at(tcp + 4) + i * s->segment_bytes);
	if (i > 0)
		tcp[13] &= (u8)~TCP_FLAG_CWR;
	if (!last)
		tcp[13] &= (u8) ~(TCP_FLAG_FIN | TCP_FLAG_PSH);
	be16_put(tcp + TCP_CHECKSUM_AT,
		 net_sum_fold((u64)s->pseudo_sum + frame_bytes - s->transport));
	complete(buffer, frame_bytes, s->transport, s->transport + TCP_CHECKSUM_AT);
	return frame_bytes;
}
