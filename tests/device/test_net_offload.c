/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Checksums and TCP segmentation in software, against a naive second opinion: a checksum added
 * up a word at a time over a pseudo header built from the finished frame, and a stream put
 * together again from the segments.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "device/net_offload.h"
#include "spec/net.h"
#include "tests/support/rig.h"

#define MAX_FRAME 70000

static u64 random_state;

static u32 random_u32(void)
{
	return (u32)rig_random(&random_state);
}

static void random_bytes(u8 *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		p[i] = (u8)random_u32();
}

/* RFC 1071 by the letter. */
static u16 naive_sum(u32 sum, const u8 *p, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		sum += i % 2 ? p[i] : (u32)p[i] << 8;
		if (sum > 0xffff)
			sum -= 0xffff;
	}
	return (u16)sum;
}

/* The pseudo header of the TCP (6) or UDP (17) part of an IP packet, added up. */
static u16 naive_pseudo(const u8 *ip, u8 protocol, size_t n)
{
	u8 pseudo[40] = { 0 };

	if (ip[0] >> 4 == 4) {
		memcpy(pseudo, ip + 12, 8);
		pseudo[9] = protocol;
		be16_put(pseudo + 10, (u16)n);
		return naive_sum(0, pseudo, 12);
	}
	memcpy(pseudo, ip + 8, 32);
	be32_put(pseudo + 32, (u32)n);
	pseudo[39] = protocol;
	return naive_sum(0, pseudo, 40);
}

static bool is_zero(u16 sum)
{
	return sum == 0 || sum == 0xffff;
}

/* ---- sums ------------------------------------------------------------------------------- */

static void sum_of_known_words_is_rfc1071s_example(void **state)
{
	static const u8 words[] = { 0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7 };

	assert_int_equal(net_sum_fold(net_sum(words, sizeof(words))), 0xddf2);
}

static void sum_of_ipv4_header_from_the_books_matches(void **state)
{
	/* A header whose checksum, 0xb861, is printed in many places. */
	static const u8 header[] = { 0x45, 0x00, 0x00, 0x73, 0x00, 0x00, 0x40, 0x00, 0x40, 0x11,
				     0x00, 0x00, 0xc0, 0xa8, 0x00, 0x01, 0xc0, 0xa8, 0x00, 0xc7 };

	assert_int_equal((u16)~net_sum_fold(net_sum(header, sizeof(header))), 0xb861);
}

static void sum_of_any_length_and_alignment_matches_the_naive_one(void **state)
{
	static u8 bytes[600];

	random_bytes(bytes, sizeof(bytes));
	for (size_t at = 0; at < 8; at++)
		for (size_t n = 0; n < 520; n++) {
			u16 got = net_sum_fold(net_sum(bytes + at, n));
			u16 want = naive_sum(0, bytes + at, n);

			assert_true(got == want || (is_zero(got) && is_zero(want)));
		}
}

static void sum_of_64_kib_of_ones_does_not_overflow(void **state)
{
	static u8 bytes[65536];

	memset(bytes, 0xff, sizeof(bytes));
	assert_int_equal(net_sum_fold(net_sum(bytes, sizeof(bytes))), 0xffff);
}

/* ---- completing ------------------------------------------------------------------------- */

/* A UDP frame over IPv4 with the pseudo header's sum in place. Returns its length. */
static size_t make_udp(u8 *frame, size_t payload)
{
	u8 *ip = frame + 14, *udp = ip + 20;

	random_bytes(frame, 42 + payload);
	be16_put(frame + 12, ETH_TYPE_IPV4);
	ip[0] = 0x45;
	ip[9] = 17;
	be16_put(udp + 4, (u16)(8 + payload));
	be16_put(udp + 6, naive_pseudo(ip, 17, 8 + payload));
	return 42 + payload;
}

static void complete_udp_frame_verifies(void **state)
{
	static u8 frame[2000];
	struct net_offload o = { .flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
				 .csum_start = 34,
				 .csum_offset = 6 };

	for (size_t payload = 0; payload < 300; payload++) {
		size_t n = make_udp(frame, payload);
		u16 pseudo = naive_pseudo(frame + 14, 17, n - 34);

		assert_int_equal(net_complete_checksum(frame, n, &o), 0);
		assert_int_equal(naive_sum(pseudo, frame + 34, n - 34), 0xffff);
		assert_int_not_equal(be16_at(frame + 40), 0);
	}
}

static void complete_udp_sum_of_zero_is_sent_as_ones(void **state)
{
	static u8 frame[100];
	struct net_offload o = { .flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
				 .csum_start = 34,
				 .csum_offset = 6 };
	size_t n = make_udp(frame, 20);

	/* A payload word that brings the sum to 0xffff, whose complement is 0. */
	be16_put(frame + n - 2, 0);
	be16_put(frame + n - 2, (u16)~naive_sum(0, frame + 34, n - 34));
	assert_int_equal(net_complete_checksum(frame, n, &o), 0);
	assert_int_equal(be16_at(frame + 40), 0xffff);
}

static void complete_with_field_outside_is_refused_and_writes_nothing(void **state)
{
	static const u16 extremes[] = { 0, 1, 14, 58, 59, 60, 61, 0x7fff, 0x8000, 0xfffe, 0xffff };
	u8 *frame = malloc(60), before[60];

	random_bytes(frame, 60);
	for (size_t i = 0; i < ARRAY_SIZE(extremes); i++)
		for (size_t k = 0; k < ARRAY_SIZE(extremes); k++) {
			struct net_offload o = { .flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
						 .csum_start = extremes[i],
						 .csum_offset = extremes[k] };
			bool fits = (u32)extremes[i] + extremes[k] + 2 <= 60;

			memcpy(before, frame, 60);
			assert_int_equal(net_complete_checksum(frame, 60, &o), fits ? 0 : -EINVAL);
			if (!fits)
				assert_memory_equal(frame, before, 60);
		}
	free(frame);
}

static void checksum_of_pieces_equals_that_of_the_whole(void **state)
{
	static u8 frame[2000], whole[2000];
	struct net_offload o = { .flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
				 .csum_start = 34,
				 .csum_offset = 6 };

	for (int round = 0; round < 500; round++) {
		size_t n = make_udp(frame, random_u32() % 1400);
		struct span v[64];
		size_t at = 0;
		u32 pieces = 0;

		while (at < n) {
			size_t here = pieces == 63 ? n - at : 1 + random_u32() % 100;

			if (here > n - at)
				here = n - at;
			v[pieces++] = (struct span){ frame + at, here };
			at += here;
		}
		memcpy(whole, frame, n);
		assert_int_equal(net_complete_checksum(whole, n, &o), 0);
		assert_int_equal(net_checksum_of(&o, v, n), be16_at(whole + 40));
	}
}

/* ---- segments --------------------------------------------------------------------------- */

/* A large send as a guest makes it. */
struct large {
	u8 frame[MAX_FRAME];
	size_t n_bytes, network, transport, header_bytes;
	bool ipv6;
	u8 flags;
	u32 sequence;
	struct net_offload offload;
	u16 large_bytes; /* of the port; 0 unless set after make_large */
};

static void make_large(struct large *l, bool ipv6, int tags, size_t ip_bytes, size_t tcp_bytes,
		       size_t payload, u16 gso_size, u8 flags)
{
	l->large_bytes = 0;
	l->ipv6 = ipv6;
	l->network = 14 + 4 * (size_t)tags;
	l->transport = l->network + ip_bytes;
	l->header_bytes = l->transport + tcp_bytes;
	l->n_bytes = l->header_bytes + payload;
	l->flags = flags;
	random_bytes(l->frame, l->n_bytes);

	for (int tag = 0; tag < tags; tag++)
		be16_put(l->frame + 12 + 4 * tag, tag + 1 < tags ? ETH_TYPE_QINQ : ETH_TYPE_VLAN);
	be16_put(l->frame + l->network - 2, ipv6 ? ETH_TYPE_IPV6 : ETH_TYPE_IPV4);

	u8 *ip = l->frame + l->network, *tcp = l->frame + l->transport;

	if (ipv6) {
		ip[0] = 0x60;
		ip[6] = 6;
	} else {
		ip[0] = (u8)(0x40 | ip_bytes / 4);
		ip[6] = 0x40; /* do not fragment */
		ip[7] = 0;
		ip[9] = 6;
		be16_put(ip + 4, 0xfffe); /* so that ids wrap */
	}
	l->sequence = 0xffffff00 + random_u32() % 256;
	be32_put(tcp + 4, l->sequence);
	tcp[12] = (u8)(tcp_bytes / 4 << 4);
	tcp[13] = flags;
	be16_put(tcp + 16, naive_pseudo(ip, 6, l->n_bytes - l->transport));
	l->offload = (struct net_offload){
		.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
		.gso_type = ipv6 ? VIRTIO_NET_HDR_GSO_TCPV6 : VIRTIO_NET_HDR_GSO_TCPV4,
		.hdr_len = (u16)l->header_bytes,
		.gso_size = gso_size,
		.csum_start = (u16)l->transport,
		.csum_offset = 16,
	};
}

/* Cuts the frame at random and asks for segments of it. `v` stays the cursor's. */
static int begin(struct net_segments *s, struct large *l, u16 mtu, struct span v[32])
{
	struct sg sg = { .v = v, .n_bytes = l->n_bytes };
	size_t at = 0;
	u32 n = 0;

	while (at < l->n_bytes) {
		size_t here = n == 31 ? l->n_bytes - at : 1 + random_u32() % (n < 16 ? 40 : 9000);

		if (here > l->n_bytes - at)
			here = l->n_bytes - at;
		v[n++] = (struct span){ l->frame + at, here };
		at += here;
	}
	return net_segments_begin(s, &l->offload, &sg, mtu, l->large_bytes);
}

static void check_segment(const struct large *l, const u8 *frame, size_t n, u32 i, u32 n_segments,
			  size_t payload_at, size_t payload)
{
	const u8 *ip = frame + l->network, *tcp = frame + l->transport;
	u8 flags = l->flags;

	assert_int_equal(n, l->header_bytes + payload);
	assert_memory_equal(frame, l->frame, l->network);
	assert_memory_equal(frame + l->header_bytes, l->frame + l->header_bytes + payload_at,
			    payload);
	if (l->ipv6) {
		assert_int_equal(be16_at(ip + 4), n - l->network - 40);
	} else {
		assert_int_equal(be16_at(ip + 2), n - l->network);
		assert_int_equal(be16_at(ip + 4), (u16)(0xfffe + i));
		assert_int_equal(naive_sum(0, ip, l->transport - l->network), 0xffff);
	}
	assert_int_equal(be32_at(tcp + 4), (u32)(l->sequence + payload_at));
	if (i > 0)
		flags &= 0x7f; /* CWR */
	if (i + 1 < n_segments)
		flags &= 0xf6; /* FIN, PSH */
	assert_int_equal(tcp[13], flags);
	assert_memory_equal(tcp, l->frame + l->transport, 4);
	assert_memory_equal(tcp + 8, l->frame + l->transport + 8, 5);
	assert_memory_equal(tcp + 18, l->frame + l->transport + 18,
			    l->header_bytes - l->transport - 18);
	assert_int_equal(naive_sum(naive_pseudo(ip, 6, n - l->transport), tcp, n - l->transport),
			 0xffff);
}

static void check_all(struct large *l, u16 mtu)
{
	struct net_segments s;
	struct span v[32];
	u8 *frame = malloc(NET_FRAME_BYTES(mtu));
	size_t payload = l->n_bytes - l->header_bytes, at = 0;
	u32 want = payload ? (u32)((payload + l->offload.gso_size - 1) / l->offload.gso_size) : 1;

	assert_int_equal(begin(&s, l, mtu, v), 0);
	assert_int_equal(s.n_segments, want);
	for (u32 i = 0; i < want; i++) {
		size_t here = min_u64(l->offload.gso_size, payload - at);
		size_t n = net_segments_next(&s, frame);

		check_segment(l, frame, n, i, want, at, here);
		at += here;
	}
	assert_int_equal(net_segments_next(&s, frame), 0);
	assert_int_equal(at, payload);
	free(frame);
}

static void segments_of_random_sends_are_whole_and_verify(void **state)
{
	static struct large l;

	for (int round = 0; round < 400; round++) {
		bool ipv6 = random_u32() % 2;
		size_t ip_bytes = ipv6 ? 40 + 8 * (random_u32() % 4) : 20 + 4 * (random_u32() % 11);
		size_t tcp_bytes = 20 + 4 * (random_u32() % 11);
		u16 room = (u16)(1500 - ip_bytes - tcp_bytes);
		u16 gso_size = (u16)(room - random_u32() % (random_u32() % 2 ? 8 : 1000));

		make_large(&l, ipv6, (int)(random_u32() % 3), ip_bytes, tcp_bytes,
			   random_u32() % 60000, gso_size, (u8)random_u32());
		check_all(&l, 1500);
	}
}

static void segments_with_all_flags_cwr_first_fin_psh_last(void **state)
{
	static struct large l;

	make_large(&l, false, 0, 20, 32, 4000, 1448, 0xff);
	l.offload.gso_type |= VIRTIO_NET_HDR_GSO_ECN;
	check_all(&l, 1500);
}

static void segments_of_exact_multiple_have_no_empty_tail(void **state)
{
	static struct large l;

	make_large(&l, true, 0, 40, 20, 3 * 1440, 1440, 0x18);
	check_all(&l, 1500);
}

static void segments_of_no_payload_are_one_frame(void **state)
{
	static struct large l;

	make_large(&l, false, 0, 20, 20, 0, 1460, 0x11);
	check_all(&l, 1500);
}

static void segments_at_mtu_65535_do_not_wrap_lengths(void **state)
{
	static struct large l;

	make_large(&l, false, 2, 20, 20, 65495, 65495, 0x10);
	check_all(&l, 65535);
	make_large(&l, false, 2, 20, 20, 65496, 65496, 0x10);

	struct net_segments s;
	struct span v[32];

	assert_int_equal(begin(&s, &l, 65535, v), -EINVAL);
}

static void segments_for_a_port_that_takes_large_ones_are_that_large(void **state)
{
	static struct large l;
	static u8 frame[NET_FRAME_BYTES(40000)];
	struct net_segments s;
	struct span v[32];

	make_large(&l, false, 1, 20, 32, 60000, 1448, 0x19);
	l.large_bytes = 40000;
	assert_int_equal(begin(&s, &l, 1500, v), 0);
	assert_int_equal(s.n_segments, 2);
	check_segment(&l, frame, net_segments_next(&s, frame), 0, 2, 0, 40000 - 52);
	check_segment(&l, frame, net_segments_next(&s, frame), 1, 2, 40000 - 52, 20052);
	assert_int_equal(net_segments_next(&s, frame), 0);

	/* What is not more than the MTU does not count. */
	l.large_bytes = 1500;
	assert_int_equal(begin(&s, &l, 1500, v), 0);
	assert_int_equal(s.n_segments, 42);
	/* No room for headers and a byte. */
	l.large_bytes = 52;
	assert_int_equal(begin(&s, &l, 51, v), -EINVAL);
	l.large_bytes = 53;
	l.n_bytes = l.header_bytes + 1000;
	assert_int_equal(begin(&s, &l, 51, v), 0);
	assert_int_equal(s.n_segments, 1000);
}

static void segments_passed_over_leave_the_rest_the_same(void **state)
{
	static struct large l;
	struct net_segments s;
	struct span v[32];
	static u8 frame[NET_FRAME_BYTES(1500)];

	make_large(&l, false, 1, 20, 32, 10 * 1448, 1448, 0x18);
	assert_int_equal(begin(&s, &l, 1500, v), 0);
	for (u32 i = 0; i < 7; i++)
		assert_int_equal(net_segments_next(&s, NULL), l.header_bytes + 1448);
	check_segment(&l, frame, net_segments_next(&s, frame), 7, 10, 7 * 1448, 1448);
}

/* One claim broken at a time: each is refused. (Case G28.) */
static void hostile_G28_segments_of_nonsense_are_refused(void **state)
{
	static struct large l;
	struct net_segments s;
	struct span v[32];

#define REFUSED(damage)                                             \
	do {                                                        \
		make_large(&l, false, 0, 20, 20, 5000, 1460, 0x10); \
		assert_int_equal(begin(&s, &l, 1500, v), 0);        \
		make_large(&l, false, 0, 20, 20, 5000, 1460, 0x10); \
		damage;                                             \
		if (begin(&s, &l, 1500, v) != -EINVAL)              \
			fail_msg("not refused: %s", #damage);       \
	} while (0)

	REFUSED(l.offload.flags = 0);
	REFUSED(l.offload.csum_offset = 6);
	REFUSED(l.offload.csum_offset = 0xffff);
	REFUSED(l.offload.gso_size = 0);
	REFUSED(l.offload.gso_size = 1461);
	REFUSED(l.offload.gso_size = 0xffff);
	REFUSED(l.offload.gso_size = 1); /* 5000 segments */
	REFUSED(l.offload.csum_start = 0);
	REFUSED(l.offload.csum_start = 13);
	REFUSED(l.offload.csum_start = 33);
	REFUSED(l.offload.csum_start = 38);
	REFUSED(l.offload.csum_start = NET_SEGMENT_HEADER_BYTES);
	REFUSED(l.offload.csum_start = 0xffff);
	REFUSED(l.offload.gso_type = VIRTIO_NET_HDR_GSO_TCPV6);
	REFUSED(l.frame[12] = 0x86);
	REFUSED(l.frame[14] = 0x55); /* version */
	REFUSED(l.frame[14] = 0x46); /* header longer than said */
	REFUSED(l.frame[14] = 0x44); /* shorter than can be */
	REFUSED(l.frame[23] = 17); /* UDP */
	REFUSED(l.frame[20] |= 0x20); /* more fragments */
	REFUSED(l.frame[21] = 1); /* fragment offset */
	REFUSED(l.frame[34 + 12] = 0x40); /* TCP header too short */
	REFUSED((l.frame[34 + 12] = 0xf0, l.n_bytes = 34 + 59)); /* not all there */
	REFUSED(l.n_bytes = 34 + 19);
	REFUSED(l.n_bytes = 14);
#undef REFUSED

	make_large(&l, true, 0, 40, 20, 5000, 1440, 0x10);
	l.frame[14] = 0x40;
	assert_int_equal(begin(&s, &l, 1500, v), -EINVAL);
	make_large(&l, true, 0, 40, 20, 5000, 1440, 0x10);
	l.offload.csum_start = 53;
	assert_int_equal(begin(&s, &l, 1500, v), -EINVAL);
}

/* Any header over any bytes: refused, or cut within bounds (the sanitizer watches). */
static void hostile_G28_random_headers_stay_in_bounds(void **state)
{
	static struct large l;
	u32 accepted = 0;

	for (int round = 0; round < 20000; round++) {
		struct net_segments s;
		struct span v[32];
		u16 mtu = (u16)(68 + random_u32() % 1500);
		u8 *frame;
		size_t n;

		make_large(&l, random_u32() % 2, (int)(random_u32() % 3), 40, 20,
			   random_u32() % 4000, (u16)(1 + random_u32() % 3000), 0x10);
		for (u32 i = random_u32() % 3; i > 0; i--)
			l.frame[random_u32() % l.header_bytes] = (u8)random_u32();
		if (random_u32() % 4 == 0)
			l.offload.csum_start = (u16)(random_u32() % 400);
		if (random_u32() % 4 == 0)
			l.n_bytes = random_u32() % (l.n_bytes + 1);
		if (l.n_bytes == 0 || begin(&s, &l, mtu, v) != 0)
			continue;
		accepted++;
		frame = malloc(NET_FRAME_BYTES(mtu));
		while ((n = net_segments_next(&s, frame)) > 0)
			assert_true(n <= NET_FRAME_BYTES(mtu));
		free(frame);
	}
	assert_true(accepted > 1000);
}

static void network_header_is_found_behind_tags(void **state)
{
	u8 frame[64] = { 0 };
	u16 type;
	int vlan;

	be16_put(frame + 12, ETH_TYPE_IPV6);
	assert_int_equal(net_network_header(frame, 64, &type, &vlan), 14);
	assert_int_equal(type, ETH_TYPE_IPV6);
	assert_int_equal(vlan, -1);

	be16_put(frame + 12, ETH_TYPE_QINQ);
	be16_put(frame + 14, 0xf123); /* priority bits do not count */
	be16_put(frame + 16, ETH_TYPE_VLAN);
	be16_put(frame + 20, ETH_TYPE_ARP);
	assert_int_equal(net_network_header(frame, 64, &type, &vlan), 22);
	assert_int_equal(type, ETH_TYPE_ARP);
	assert_int_equal(vlan, 0x123);

	/* A tag that the frame does not hold whole is not read. */
	assert_int_equal(net_network_header(frame, 17, &type, &vlan), 14);
	assert_int_equal(vlan, -1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sum_of_known_words_is_rfc1071s_example),
		cmocka_unit_test(sum_of_ipv4_header_from_the_books_matches),
		cmocka_unit_test(sum_of_any_length_and_alignment_matches_the_naive_one),
		cmocka_unit_test(sum_of_64_kib_of_ones_does_not_overflow),
		cmocka_unit_test(complete_udp_frame_verifies),
		cmocka_unit_test(complete_udp_sum_of_zero_is_sent_as_ones),
		cmocka_unit_test(complete_with_field_outside_is_refused_and_writes_nothing),
		cmocka_unit_test(checksum_of_pieces_equals_that_of_the_whole),
		cmocka_unit_test(segments_of_random_sends_are_whole_and_verify),
		cmocka_unit_test(segments_with_all_flags_cwr_first_fin_psh_last),
		cmocka_unit_test(segments_of_exact_multiple_have_no_empty_tail),
		cmocka_unit_test(segments_of_no_payload_are_one_frame),
		cmocka_unit_test(segments_at_mtu_65535_do_not_wrap_lengths),
		cmocka_unit_test(segments_for_a_port_that_takes_large_ones_are_that_large),
		cmocka_unit_test(segments_passed_over_leave_the_rest_the_same),
		cmocka_unit_test(hostile_G28_segments_of_nonsense_are_refused),
		cmocka_unit_test(hostile_G28_random_headers_stay_in_bounds),
		cmocka_unit_test(network_header_is_found_behind_tags),
	};

	random_state = rig_seed();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
