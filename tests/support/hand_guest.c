/* SPDX-License-Identifier: BSD-3-Clause */
/* Frames by hand. */
#include "tests/support/hand_guest.h"

#include <errno.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "device/net_offload.h"
#include "spec/net.h"

static const u8 hand_mac[6] = { 0x52, 0x54, 0, 0x12, 0x34, 0x56 };

void hand_add_frame(struct hand_guest *g, const struct net_offload *o, const void *bytes, size_t n)
{
	struct hand_frame *f = &g->frames[g->n_frames];

	assert_true(g->n_frames < HAND_MAX_FRAMES);
	*f = (struct hand_frame){ .offload = *o, .n_bytes = n, .bytes = malloc(n) };
	memcpy(f->bytes, bytes, n);
	g->n_frames++;
}

static bool hand_receive(void *owner, const struct net_offload *offload, const struct span *v,
			 u32 n)
{
	struct hand_guest *g = owner;

	if (g->refuse)
		return false;
	assert_int_equal(n, 1);
	hand_add_frame(g, offload, v->base, v->n_bytes);
	return true;
}

static void hand_batch_end(void *owner)
{
	((struct hand_guest *)owner)->n_batches++;
}

void hand_attach(struct hand_guest *g, struct loop *loop, struct netport *port, const u8 ip[4],
		 const u8 host_ip[4])
{
	g->loop = loop;
	g->port = port;
	memcpy(g->mac, hand_mac, 6);
	memset(g->host_mac, 0xff, 6);
	memcpy(g->ip, ip, 4);
	memcpy(g->host_ip, host_ip, 4);
	port->owner = g;
	port->receive = hand_receive;
	port->batch_end = hand_batch_end;
	port->ops->set_receiving(port, true);
}

void hand_forget_frames(struct hand_guest *g)
{
	for (u32 i = 0; i < g->n_frames; i++)
		free(g->frames[i].bytes);
	g->n_frames = g->n_read = 0;
}

u64 hand_now_ns(struct hand_guest *g)
{
	struct clock *clock = loop_clock(g->loop);

	return clock->ops->now_ns(clock);
}

void hand_send(struct hand_guest *g, const struct net_offload *o, const u8 *frame, size_t n)
{
	/* In two pieces, as a device may do it. */
	struct span v[2] = { { (u8 *)frame, 14 }, { (u8 *)frame + 14, n - 14 } };

	assert_int_equal(g->port->ops->send(g->port, o, v, 2), 0);
}

const u8 *hand_next(struct hand_guest *g, size_t *n)
{
	u64 deadline = hand_now_ns(g) + HAND_PATIENCE_NS;

	while (g->n_read == g->n_frames) {
		if (hand_now_ns(g) > deadline)
			return NULL;
		loop_turn(g->loop, 100);
	}
	*n = g->frames[g->n_read].n_bytes;
	return g->frames[g->n_read++].bytes;
}

static void put_ethernet(struct hand_guest *g, u8 *frame, u16 type)
{
	memcpy(frame, g->host_mac, 6);
	memcpy(frame + 6, g->mac, 6);
	be16_put(frame + 12, type);
}

size_t hand_put_ipv4(struct hand_guest *g, u8 *frame, u8 protocol, const u8 *from, const u8 *to,
		     size_t n)
{
	u8 *ip = frame + 14;

	put_ethernet(g, frame, ETH_TYPE_IPV4);
	memset(ip, 0, 20);
	ip[0] = 0x45;
	be16_put(ip + 2, (u16)(20 + n));
	ip[8] = 64;
	ip[9] = protocol;
	memcpy(ip + 12, from, 4);
	memcpy(ip + 16, to, 4);
	be16_put(ip + 10, (u16)~net_sum_fold(net_sum(ip, 20)));
	return 34 + n;
}

u16 hand_pseudo_sum(const u8 *ip, size_t n)
{
	return net_sum_fold(net_sum(ip + 12, 8) + ip[9] + n);
}

void hand_check_checksums(const u8 *frame, size_t n)
{
	const u8 *ip = frame + 14;
	size_t ip_bytes = be16_at(ip + 2);

	assert_true(n >= 34 && be16_at(frame + 12) == ETH_TYPE_IPV4 && 14 + ip_bytes <= n);
	assert_int_equal(net_sum_fold(net_sum(ip, 20)), 0xffff);
	assert_int_equal(
		net_sum_fold(net_sum(ip + 20, ip_bytes - 20) +
			     (ip[9] == IPPROTO_ICMP ? 0 : hand_pseudo_sum(ip, ip_bytes - 20))),
		0xffff);
}

size_t hand_make_arp(struct hand_guest *g, u8 frame[60], u16 operation, const u8 *ip)
{
	u8 *arp = frame + 14;

	memset(frame, 0, 60);
	put_ethernet(g, frame, ETH_TYPE_ARP);
	be16_put(arp, 1);
	be16_put(arp + 2, ETH_TYPE_IPV4);
	arp[4] = 6;
	arp[5] = 4;
	be16_put(arp + 6, operation);
	memcpy(arp + 8, g->mac, 6);
	memcpy(arp + 14, g->ip, 4);
	memcpy(arp + 24, ip, 4);
	return 60;
}

void hand_send_arp(struct hand_guest *g, u16 operation, const u8 *ip)
{
	static const struct net_offload none;
	u8 frame[60];

	hand_send(g, &none, frame, hand_make_arp(g, frame, operation, ip));
}

size_t hand_make_segment(struct hand_guest *g, struct hand_tcp *t, u8 *frame, struct net_offload *o,
			 u8 flags, const void *data, size_t n)
{
	u8 *tcp = frame + 34;
	size_t n_bytes;

	memset(tcp, 0, 20);
	be16_put(tcp, t->here);
	be16_put(tcp + 2, t->there);
	be32_put(tcp + 4, t->send_next);
	be32_put(tcp + 8, flags & TCP_ACK ? t->receive_next : 0);
	tcp[12] = 0x50;
	tcp[13] = flags;
	be16_put(tcp + 14, 60000);
	if (n)
		memcpy(tcp + 20, data, n);
	n_bytes = hand_put_ipv4(g, frame, IPPROTO_TCP, g->ip, g->host_ip, 20 + n);
	be16_put(tcp + 16, hand_pseudo_sum(frame + 14, 20 + n));
	*o = (struct net_offload){
		.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
		.gso_type = n > 1460 ? VIRTIO_NET_HDR_GSO_TCPV4 : VIRTIO_NET_HDR_GSO_NONE,
		.gso_size = n > 1460 ? 1460 : 0,
		.hdr_len = 54,
		.csum_start = 34,
		.csum_offset = 16,
	};
	t->send_next += (u32)n + !!(flags & (TCP_SYN | TCP_FIN));
	return n_bytes;
}

void hand_send_segment(struct hand_guest *g, struct hand_tcp *t, u8 flags, const void *data,
		       size_t n)
{
	static const struct net_offload none;
	struct net_offload o;
	u8 frame[1600];
	size_t n_bytes = hand_make_segment(g, t, frame, &o, flags, data, n);

	be16_put(frame + 50, (u16)~net_sum_fold(net_sum(frame + 34, n_bytes - 34)));
	hand_send(g, &none, frame, n_bytes);
}

const u8 *hand_next_segment(struct hand_guest *g, struct hand_tcp *t, size_t *n)
{
	const u8 *frame;

	while ((frame = hand_next(g, n))) {
		if (be16_at(frame + 12) == ETH_TYPE_ARP && be16_at(frame + 20) == 1 &&
		    !memcmp(frame + 38, g->ip, 4)) {
			hand_send_arp(g, 2, frame + 28);
			continue;
		}
		if (be16_at(frame + 12) != ETH_TYPE_IPV4 || frame[23] != IPPROTO_TCP ||
		    be16_at(frame + 36) != t->here)
			continue;
		*n = be16_at(frame + 16) - 20u - (frame[46] >> 4) * 4u;
		return frame + 34;
	}
	fail_msg("no segment came");
	return NULL;
}

void hand_connect(struct hand_guest *g, struct hand_tcp *t)
{
	const u8 *tcp;
	size_t n;

	hand_send_segment(g, t, TCP_SYN, NULL, 0);
	tcp = hand_next_segment(g, t, &n);
	assert_int_equal(tcp[13], TCP_SYN | TCP_ACK);
	assert_int_equal(be32_at(tcp + 8), t->send_next);
	t->receive_next = be32_at(tcp + 4) + 1;
	hand_send_segment(g, t, TCP_ACK, NULL, 0);
}

int hand_listen(u32 addr, u16 *port)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = addr };
	socklen_t n = sizeof(a);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);

	assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	assert_int_equal(listen(fd, 4), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&a, &n), 0);
	*port = ntohs(a.sin_port);
	return fd;
}

int hand_accept(struct hand_guest *g, int listener)
{
	u64 deadline = hand_now_ns(g) + HAND_PATIENCE_NS;
	int fd;

	while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) < 0) {
		assert_int_equal(errno, EAGAIN);
		assert_true(hand_now_ns(g) < deadline);
		loop_turn(g->loop, 10);
	}
	return fd;
}

void hand_read_all(struct hand_guest *g, int fd, void *bytes, size_t n)
{
	u64 deadline = hand_now_ns(g) + HAND_PATIENCE_NS;
	size_t at = 0;

	while (at < n) {
		ssize_t got = read(fd, (u8 *)bytes + at, n - at);

		assert_true(got > 0 || (got < 0 && errno == EAGAIN));
		if (got > 0)
			at += (size_t)got;
		else
			loop_turn(g->loop, 10);
		assert_true(hand_now_ns(g) < deadline);
	}
}
