/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The user-mode NAT with a guest made by hand: frames go in, libslirp's own answers come out.
 * The other ends of connections are real sockets on the loopback interface.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "device/net.h"
#include "device/net_offload.h"
#include "host/netport_slirp.h"
#include "spec/net.h"
#include "tests/support/rig.h"

#define MAX_FRAMES 1024
#define PATIENCE_NS 10000000000ull

#define SYN 2
#define FIN 1
#define RST 4
#define PSH 8
#define ACK 16

static const u8 guest_mac[6] = { 0x52, 0x54, 0, 0x12, 0x34, 0x56 };
static const u8 guest_ip[4] = { 10, 0, 2, 15 }, host_ip[4] = { 10, 0, 2, 2 };

/* ---- a guest's end: what came, and time ------------------------------------------------- */

struct guest {
	struct loop *loop;
	struct netport *port;
	bool refuse;
	u32 n_batches;
	u32 n_frames, n_read;
	struct {
		size_t n_bytes;
		u8 bytes[1600];
	} frames[MAX_FRAMES];
};

static bool guest_receive(void *owner, const struct net_offload *offload, const struct span *v,
			  u32 n)
{
	struct guest *g = owner;

	if (g->refuse)
		return false;
	assert_int_equal(n, 1);
	assert_int_equal(offload->gso_type, 0);
	assert_int_equal(offload->flags, VIRTIO_NET_HDR_F_DATA_VALID);
	assert_true(g->n_frames < MAX_FRAMES && v->n_bytes <= sizeof(g->frames[0].bytes));
	memcpy(g->frames[g->n_frames].bytes, v->base, v->n_bytes);
	g->frames[g->n_frames++].n_bytes = v->n_bytes;
	return true;
}

static void guest_batch_end(void *owner)
{
	((struct guest *)owner)->n_batches++;
}

static u64 now_ns(struct guest *g)
{
	struct clock *clock = loop_clock(g->loop);

	return clock->ops->now_ns(clock);
}

static struct guest *guest_new(const struct netport_slirp_config *config)
{
	struct guest *g = calloc(1, sizeof(*g));
	char why[200] = "";

	g->loop = loop_create();
	assert_non_null(g->loop);
	g->port = netport_slirp_create(g->loop, config, why, sizeof(why));
	if (!g->port)
		fail_msg("%s", why);
	g->port->owner = g;
	g->port->receive = guest_receive;
	g->port->batch_end = guest_batch_end;
	g->port->ops->set_receiving(g->port, true);
	return g;
}

static void guest_free(struct guest *g)
{
	netport_slirp_destroy(g->port);
	loop_destroy(g->loop);
	free(g);
}

static void guest_send(struct guest *g, const u8 *frame, size_t n)
{
	static const struct net_offload none;
	/* In two pieces, as a device may do it. */
	struct span v[2] = { { (u8 *)frame, 14 }, { (u8 *)frame + 14, n - 14 } };

	assert_int_equal(g->port->ops->send(g->port, &none, v, 2), 0);
}

/* The next frame, or NULL if none comes in time. */
static const u8 *guest_next(struct guest *g, size_t *n)
{
	u64 deadline = now_ns(g) + PATIENCE_NS;

	while (g->n_read == g->n_frames) {
		if (now_ns(g) > deadline)
			return NULL;
		loop_turn(g->loop, 100);
	}
	*n = g->frames[g->n_read].n_bytes;
	return g->frames[g->n_read++].bytes;
}

/* ---- frames by hand --------------------------------------------------------------------- */

static void put_ethernet(u8 *frame, u16 type)
{
	memset(frame, 0xff, 6);
	memcpy(frame + 6, guest_mac, 6);
	be16_put(frame + 12, type);
}

/* IPv4 around `n` bytes that lie at frame + 34 already. */
static size_t put_ipv4(u8 *frame, u8 protocol, const u8 *from, const u8 *to, size_t n)
{
	u8 *ip = frame + 14;

	put_ethernet(frame, ETH_TYPE_IPV4);
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

static u16 pseudo_sum(const u8 *ip, size_t n)
{
	return net_sum_fold(net_sum(ip + 12, 8) + ip[9] + n);
}

/* Every IPv4 packet that libslirp sends has right checksums: this is what DATA_VALID claims. */
static void check_checksums(const u8 *frame, size_t n)
{
	const u8 *ip = frame + 14;
	size_t ip_bytes = be16_at(ip + 2);

	assert_true(n >= 34 && be16_at(frame + 12) == ETH_TYPE_IPV4 && 14 + ip_bytes <= n);
	assert_int_equal(net_sum_fold(net_sum(ip, 20)), 0xffff);
	assert_int_equal(net_sum_fold(net_sum(ip + 20, ip_bytes - 20) +
				      (ip[9] == 1 ? 0 : pseudo_sum(ip, ip_bytes - 20))),
			 0xffff);
}

static void send_arp(struct guest *g, u16 operation, const u8 *to_ip)
{
	u8 frame[60] = { 0 }, *arp = frame + 14;

	put_ethernet(frame, ETH_TYPE_ARP);
	be16_put(arp, 1);
	be16_put(arp + 2, ETH_TYPE_IPV4);
	arp[4] = 6;
	arp[5] = 4;
	be16_put(arp + 6, operation);
	memcpy(arp + 8, guest_mac, 6);
	memcpy(arp + 14, guest_ip, 4);
	memcpy(arp + 24, to_ip, 4);
	guest_send(g, frame, sizeof(frame));
}

static void send_echo(struct guest *g, u16 sequence, size_t payload)
{
	static u8 frame[1600];
	u8 *icmp = frame + 34;

	memset(icmp, 0, 8 + payload);
	icmp[0] = 8;
	be16_put(icmp + 4, 0x1234);
	be16_put(icmp + 6, sequence);
	memset(icmp + 8, 'x', payload);
	be16_put(icmp + 2, (u16)~net_sum_fold(net_sum(icmp, 8 + payload)));
	guest_send(g, frame, put_ipv4(frame, 1, guest_ip, host_ip, 8 + payload));
}

/* One end of a TCP connection, just clever enough. */
struct tcp {
	u16 here, there; /* ports */
	u32 send_next, receive_next;
};

static size_t make_segment(const struct tcp *t, u8 *frame, u8 flags, const void *data, size_t n)
{
	u8 *tcp = frame + 34;

	memset(tcp, 0, 20);
	be16_put(tcp, t->here);
	be16_put(tcp + 2, t->there);
	be32_put(tcp + 4, t->send_next);
	be32_put(tcp + 8, flags & ACK ? t->receive_next : 0);
	tcp[12] = 0x50;
	tcp[13] = flags;
	be16_put(tcp + 14, 60000);
	if (n)
		memcpy(tcp + 20, data, n);
	return put_ipv4(frame, 6, guest_ip, host_ip, 20 + n);
}

static void send_segment(struct guest *g, struct tcp *t, u8 flags, const void *data, size_t n)
{
	static u8 frame[1600];
	size_t n_bytes = make_segment(t, frame, flags, data, n);

	be16_put(frame + 34 + 16,
		 (u16)~net_sum_fold(net_sum(frame + 34, 20 + n) + pseudo_sum(frame + 14, 20 + n)));
	guest_send(g, frame, n_bytes);
	t->send_next += (u32)n + !!(flags & (SYN | FIN));
}

/* The next segment for this connection, its payload's length in `n`; questions are answered. */
static const u8 *next_segment(struct guest *g, struct tcp *t, size_t *n)
{
	const u8 *frame;
	size_t n_frame;

	while ((frame = guest_next(g, &n_frame))) {
		if (be16_at(frame + 12) == ETH_TYPE_ARP && be16_at(frame + 20) == 1 &&
		    !memcmp(frame + 38, guest_ip, 4)) {
			send_arp(g, 2, frame + 28);
			continue;
		}
		if (be16_at(frame + 12) != ETH_TYPE_IPV4 || frame[23] != 6 ||
		    be16_at(frame + 36) != t->here)
			continue;
		check_checksums(frame, n_frame);
		*n = be16_at(frame + 16) - 20u - (frame[46] >> 4) * 4u;
		return frame + 34;
	}
	fail_msg("no segment came");
	return NULL;
}

static void handshake(struct guest *g, struct tcp *t)
{
	const u8 *tcp;
	size_t n;

	send_segment(g, t, SYN, NULL, 0);
	tcp = next_segment(g, t, &n);
	assert_int_equal(tcp[13], SYN | ACK);
	assert_int_equal(be32_at(tcp + 8), t->send_next);
	t->receive_next = be32_at(tcp + 4) + 1;
	send_segment(g, t, ACK, NULL, 0);
}

/* ---- sockets on the other side ---------------------------------------------------------- */

static int listen_somewhere(u16 *port)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t n = sizeof(a);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);

	assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	assert_int_equal(listen(fd, 4), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&a, &n), 0);
	*port = ntohs(a.sin_port);
	return fd;
}

static int accept_one(struct guest *g, int listener)
{
	u64 deadline = now_ns(g) + PATIENCE_NS;
	int fd;

	while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) < 0) {
		assert_int_equal(errno, EAGAIN);
		assert_true(now_ns(g) < deadline);
		loop_turn(g->loop, 10);
	}
	return fd;
}

static void read_all(struct guest *g, int fd, void *bytes, size_t n)
{
	u64 deadline = now_ns(g) + PATIENCE_NS;
	size_t at = 0;

	while (at < n) {
		ssize_t got = read(fd, (u8 *)bytes + at, n - at);

		assert_true(got > 0 || (got < 0 && errno == EAGAIN));
		if (got > 0)
			at += (size_t)got;
		else
			loop_turn(g->loop, 10);
		assert_true(now_ns(g) < deadline);
	}
}

/* ---- the tests -------------------------------------------------------------------------- */

static void arp_for_the_host_is_answered(void **state)
{
	struct guest *g = guest_new(&(struct netport_slirp_config){ .name = "net0" });
	const u8 *frame;
	size_t n;

	send_arp(g, 1, host_ip);
	frame = guest_next(g, &n);
	assert_non_null(frame);
	assert_memory_equal(frame, guest_mac, 6);
	assert_int_equal(be16_at(frame + 12), ETH_TYPE_ARP);
	assert_int_equal(be16_at(frame + 20), 2);
	assert_memory_equal(frame + 28, host_ip, 4);
	assert_int_equal(g->n_batches, 0); /* an answer within send is the sender's to end */
	guest_free(g);
}

/* An option of a DHCP message, or NULL. */
static const u8 *dhcp_option(const u8 *options, const u8 *end, u8 code)
{
	while (options + 2 <= end && *options != 255) {
		if (*options == 0) {
			options++;
			continue;
		}
		if (*options == code)
			return options + 2;
		options += 2 + options[1];
	}
	return NULL;
}

static void dhcp_offers_address_router_and_name_server_of(const char *network, const u8 *net)
{
	struct guest *g =
		guest_new(&(struct netport_slirp_config){ .name = "net0", .network = network });
	static const u8 any[4], all[4] = { 255, 255, 255, 255 };
	u8 frame[400] = { 0 }, *udp = frame + 34, *bootp = udp + 8, host[4], dns[4], own[4];
	const u8 *answer, *end;
	size_t n;

	be16_put(udp, 68);
	be16_put(udp + 2, 67);
	be16_put(udp + 4, 8 + 300);
	bootp[0] = bootp[1] = 1;
	bootp[2] = 6;
	be32_put(bootp + 4, 0xfeedbeef);
	memcpy(bootp + 28, guest_mac, 6);
	be32_put(bootp + 236, 0x63825363);
	memcpy(bootp + 240, "\x35\x01\x01\xff", 4); /* DISCOVER */
	guest_send(g, frame, put_ipv4(frame, 17, any, all, 308));

	answer = guest_next(g, &n);
	assert_non_null(answer);
	check_checksums(answer, n);
	end = answer + n;
	bootp = (u8 *)answer + 42;
	assert_int_equal(be32_at(bootp + 4), 0xfeedbeef);
	memcpy(own, net, 4);
	memcpy(host, net, 4);
	memcpy(dns, net, 4);
	own[3] += 15;
	host[3] += 2;
	dns[3] += 3;
	assert_memory_equal(bootp + 16, own, 4);
	assert_int_equal(*dhcp_option(bootp + 240, end, 53), 2); /* OFFER */
	assert_memory_equal(dhcp_option(bootp + 240, end, 3), host, 4);
	assert_memory_equal(dhcp_option(bootp + 240, end, 6), dns, 4);
	guest_free(g);
}

static void dhcp_offers_the_usual_network(void **state)
{
	dhcp_offers_address_router_and_name_server_of(NULL, (const u8[]){ 10, 0, 2, 0 });
}

static void dhcp_offers_the_network_that_was_asked_for(void **state)
{
	dhcp_offers_address_router_and_name_server_of("192.168.77.32/27",
						      (const u8[]){ 192, 168, 77, 32 });
}

static void echo_to_the_host_comes_back(void **state)
{
	struct guest *g = guest_new(&(struct netport_slirp_config){ .name = "net0" });
	const u8 *frame;
	size_t n;

	send_echo(g, 77, 1000);
	do {
		frame = guest_next(g, &n);
		assert_non_null(frame);
		if (be16_at(frame + 12) == ETH_TYPE_ARP)
			send_arp(g, 2, host_ip);
	} while (be16_at(frame + 12) != ETH_TYPE_IPV4);
	check_checksums(frame, n);
	assert_int_equal(n, 42 + 1000);
	assert_int_equal(frame[34], 0);
	assert_int_equal(be16_at(frame + 40), 77);
	guest_free(g);
}

static void tcp_to_a_host_socket_carries_bytes_both_ways_and_ends(void **state)
{
	struct guest *g = guest_new(&(struct netport_slirp_config){ .name = "net0" });
	struct tcp t = { .here = 40000, .send_next = 0xfffffff0 };
	int listener = listen_somewhere(&t.there), fd;
	char bytes[5];
	const u8 *tcp;
	size_t n;

	send_arp(g, 1, host_ip);
	handshake(g, &t);
	fd = accept_one(g, listener);
	send_segment(g, &t, ACK | PSH, "hello", 5);
	read_all(g, fd, bytes, 5);
	assert_memory_equal(bytes, "hello", 5);

	assert_int_equal(write(fd, "world", 5), 5);
	do
		tcp = next_segment(g, &t, &n);
	while (n == 0);
	assert_int_equal(n, 5);
	assert_int_equal(be32_at(tcp + 4), t.receive_next);
	assert_memory_equal(tcp + 20, "world", 5);
	assert_true(g->n_batches > 0);
	t.receive_next += 5;
	send_segment(g, &t, ACK, NULL, 0);

	/* Closed by the host, then by the guest. */
	close(fd);
	do
		tcp = next_segment(g, &t, &n);
	while (!(tcp[13] & FIN));
	t.receive_next++;
	send_segment(g, &t, ACK | FIN, NULL, 0);
	do
		tcp = next_segment(g, &t, &n);
	while (be32_at(tcp + 8) != t.send_next);
	close(listener);
	guest_free(g);
}

static void tcp_to_a_closed_host_port_is_reset(void **state)
{
	struct guest *g = guest_new(&(struct netport_slirp_config){ .name = "net0" });
	struct tcp t = { .here = 40000 };
	size_t n;

	close(listen_somewhere(&t.there));
	send_arp(g, 1, host_ip);
	send_segment(g, &t, SYN, NULL, 0);
	assert_true(next_segment(g, &t, &n)[13] & RST);
	guest_free(g);
}

static void tcp_when_restricted_is_reset(void **state)
{
	struct guest *g =
		guest_new(&(struct netport_slirp_config){ .name = "net0", .restricted = true });
	struct tcp t = { .here = 40000 };
	int listener = listen_somewhere(&t.there);
	size_t n;

	send_arp(g, 1, host_ip);
	send_segment(g, &t, SYN, NULL, 0);
	assert_true(next_segment(g, &t, &n)[13] & RST);
	assert_int_equal(accept(listener, NULL, NULL), -1);
	close(listener);
	guest_free(g);
}

static void forward_brings_a_host_connection_to_the_guest(void **state)
{
	struct netport_slirp_forward forward = { .host_addr.s_addr = htonl(INADDR_LOOPBACK),
						 .guest_port = 7777 };
	struct netport_slirp_config config = { .name = "net0",
					       .forwards = &forward,
					       .n_forwards = 1 };
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	struct tcp t = { .here = 7777, .send_next = 1 };
	struct guest *g;
	const u8 *tcp;
	char bytes[4];
	size_t n;
	int fd;

	close(listen_somewhere(&forward.host_port));
	g = guest_new(&config);
	loop_turn(g->loop, 0); /* the end of a turn: libslirp's sockets are watched */
	a.sin_port = htons(forward.host_port);
	fd = socket(AF_INET, SOCK_STREAM, 0);
	assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	assert_int_equal(fcntl(fd, F_SETFL, O_NONBLOCK), 0);

	tcp = next_segment(g, &t, &n);
	assert_int_equal(tcp[13], SYN);
	t.there = be16_at(tcp);
	t.receive_next = be32_at(tcp + 4) + 1;
	send_segment(g, &t, SYN | ACK, NULL, 0);
	next_segment(g, &t, &n);
	send_segment(g, &t, ACK | PSH, "ping", 4);
	read_all(g, fd, bytes, 4);
	assert_memory_equal(bytes, "ping", 4);
	close(fd);
	guest_free(g);
}

static void forward_of_a_busy_port_says_so(void **state)
{
	struct netport_slirp_forward forward = { .host_addr.s_addr = htonl(INADDR_LOOPBACK),
						 .guest_port = 7 };
	struct netport_slirp_config config = { .name = "net0",
					       .forwards = &forward,
					       .n_forwards = 1 };
	int listener = listen_somewhere(&forward.host_port);
	struct loop *loop = loop_create();
	char why[200], want[200];

	snprintf(want, sizeof(want), "cannot forward TCP port %u of 127.0.0.1: %s",
		 forward.host_port, strerror(EADDRINUSE));
	assert_null(netport_slirp_create(loop, &config, why, sizeof(why)));
	assert_string_equal(why, want);
	loop_destroy(loop);
	close(listener);
}

static void forward_texts_are_parsed_or_refused(void **state)
{
	static const char *const bad[] = {
		"",
		"tcp",
		"tcp:",
		"sctp::1-:2",
		"tcp::80",
		"tcp::80-",
		"tcp::80-:",
		"tcp::80-80",
		"tcp::0-:80",
		"tcp::80-:65536",
		"tcp::80-:80x",
		"tcp:: 80-:80",
		"tcp::-1-:80",
		"tcp:localhost:80-:80",
		"tcp:1.2.3:80-:80",
		"tcp:111.111.111.1111:80-:80",
		"tcp::99999999999999999999-:80",
	};
	struct netport_slirp_forward f = { .host_port = 9 };

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_false(netport_slirp_parse_forward(bad[i], &f));
	assert_int_equal(f.host_port, 9);
	assert_true(netport_slirp_parse_forward("tcp::2222-:22", &f));
	assert_false(f.udp);
	assert_int_equal(f.host_addr.s_addr, 0);
	assert_int_equal(f.host_port, 2222);
	assert_int_equal(f.guest_port, 22);
	assert_true(netport_slirp_parse_forward("udp:127.0.0.1:53-10.0.2.16:65535", &f));
	assert_true(f.udp);
	assert_int_equal(ntohl(f.host_addr.s_addr), INADDR_LOOPBACK);
	assert_int_equal(ntohl(f.guest_addr.s_addr), 0x0a000210);
	assert_int_equal(f.guest_port, 65535);
}

static void network_that_is_none_is_refused_with_reason(void **state)
{
	static const char *const bad[] = { "",           "10.0.2.0",    "10.0.2.0/",
					   "10.0.2.0/x", "10.0.2.1/24", "10.0.2.0/28",
					   "10.0.2.0/7", "10.0.2/24",   "fec0::/64" };
	struct loop *loop = loop_create();

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct netport_slirp_config config = { .name = "net0", .network = bad[i] };
		char why[200] = "";

		assert_null(netport_slirp_create(loop, &config, why, sizeof(why)));
		assert_non_null(strstr(why, bad[i]));
	}
	loop_destroy(loop);
}

static void frames_for_a_busy_guest_are_kept_in_order_and_bounded(void **state)
{
	struct guest *g = guest_new(&(struct netport_slirp_config){ .name = "net0" });
	const struct netport_slirp_stats *stats = netport_slirp_stats(g->port);
	u64 kept;

	send_arp(g, 1, host_ip);
	assert_int_equal(g->n_frames, 1);
	g->refuse = true;
	g->port->ops->set_receiving(g->port, false);
	for (u16 k = 0; k < 600; k++)
		send_echo(g, k, 1400);
	assert_int_equal(g->n_frames, 1);
	kept = stats->n_kept;
	/* 512 KiB in frames of 1442 bytes and their lengths. */
	assert_int_equal(kept, 512 * 1024 / (1442 + 4));
	assert_int_equal(stats->n_dropped, 600 - kept);

	g->refuse = false;
	g->port->ops->set_receiving(g->port, true);
	assert_int_equal(g->n_frames, 1 + kept);
	for (u16 k = 0; k < kept; k++)
		assert_int_equal(be16_at(g->frames[1 + k].bytes + 40), k);

	/* Direct again, and refusing again keeps again. */
	send_echo(g, 1000, 10);
	assert_int_equal(g->n_frames, 2 + kept);
	guest_free(g);
}

static void host_data_for_a_busy_guest_stays_in_the_socket(void **state)
{
	struct guest *g = guest_new(&(struct netport_slirp_config){ .name = "net0" });
	const struct netport_slirp_stats *stats = netport_slirp_stats(g->port);
	struct tcp t = { .here = 40000 };
	int listener = listen_somewhere(&t.there), fd;
	static u8 chunk[4096];
	size_t got = 0, n;

	send_arp(g, 1, host_ip);
	handshake(g, &t);
	fd = accept_one(g, listener);
	g->refuse = true;
	for (u32 k = 0; k < 200; k++)
		if (write(fd, chunk, sizeof(chunk)) < 0)
			break;
	for (u32 k = 0; k < 50; k++)
		loop_turn(g->loop, 1);
	assert_true(stats->n_kept > 0);
	assert_int_equal(stats->n_dropped, 0);
	assert_int_equal(g->n_frames, g->n_read);

	g->refuse = false;
	g->port->ops->set_receiving(g->port, true);
	while (got < 40 * sizeof(chunk)) {
		const u8 *tcp = next_segment(g, &t, &n);

		if (be32_at(tcp + 4) == t.receive_next) {
			got += n;
			t.receive_next += (u32)n;
		}
		send_segment(g, &t, ACK, NULL, 0);
		if (g->n_read == g->n_frames)
			g->n_read = g->n_frames = 0;
	}
	assert_int_equal(stats->n_dropped, 0);
	close(fd);
	close(listener);
	guest_free(g);
}

static void idle_port_lets_the_loop_sleep(void **state)
{
	struct guest *g = guest_new(&(struct netport_slirp_config){ .name = "net0" });
	u64 before;

	send_arp(g, 1, host_ip);
	loop_turn(g->loop, 0);
	before = now_ns(g);
	/* libslirp would look at the clock once a second, for nothing. */
	loop_turn(g->loop, 1200);
	assert_true(now_ns(g) - before >= 1190 * 1000000ull);
	guest_free(g);
}

static void ports_come_and_go_without_leaking_descriptors(void **state)
{
	int before = dup(0), after;

	close(before);
	for (u32 k = 0; k < 50; k++) {
		struct guest *g =
			guest_new(&(struct netport_slirp_config){ .name = "net0", .ipv6 = true });
		struct tcp t = { .here = 40000 };
		int listener = listen_somewhere(&t.there);

		send_arp(g, 1, host_ip);
		handshake(g, &t);
		close(accept_one(g, listener));
		close(listener);
		guest_free(g); /* with a connection open */
	}
	after = dup(0);
	close(after);
	assert_int_equal(after, before);
}

/* ---- the whole way: a driver's large send, our device, libslirp, a socket --------------- */

struct large_rig {
	struct rig rig;
	struct guest *g;
	struct vdev *vdev;
	u8 *rx[64];
};

static void rx_post(struct large_rig *l, u8 *p)
{
	struct span v = { p, 2048 };

	rig_submit(&l->rig, 0, &v, 0, 1, p);
}

/* What the driver got goes where the hand-made guest looks for it. */
static void rx_drain(struct large_rig *l)
{
	u32 n_written;
	u8 *p;

	while ((p = rig_reap(&l->rig, 0, &n_written))) {
		struct guest *g = l->g;

		assert_true(n_written > 12 && g->n_frames < MAX_FRAMES);
		assert_int_equal(p[0], VIRTIO_NET_HDR_F_DATA_VALID);
		memcpy(g->frames[g->n_frames].bytes, p + 12, n_written - 12);
		g->frames[g->n_frames++].n_bytes = n_written - 12;
		rx_post(l, p);
	}
}

static void tx(struct large_rig *l, const struct virtio_net_hdr *header, const u8 *frame, size_t n)
{
	u8 *p = rig_alloc(&l->rig, 12 + n);

	memcpy(p, header, 12);
	memcpy(p + 12, frame, n);
	rig_transact(&l->rig, 1, &(struct span){ p, 12 + n }, 1, 0);
}

/* The segment as a guest with offloads makes it: the pseudo header's sum only, and any size. */
static void tx_segment(struct large_rig *l, struct tcp *t, u8 flags, const void *data, size_t n)
{
	static u8 frame[70000];
	size_t n_bytes = make_segment(t, frame, flags, data, n);
	struct virtio_net_hdr header = {
		.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
		.gso_type = n > 1460 ? VIRTIO_NET_HDR_GSO_TCPV4 : VIRTIO_NET_HDR_GSO_NONE,
		.gso_size = le16_of(n > 1460 ? 1460 : 0),
		.hdr_len = le16_of(54),
		.csum_start = le16_of(34),
		.csum_offset = le16_of(16),
	};

	be16_put(frame + 34 + 16, pseudo_sum(frame + 14, 20 + n));
	tx(l, &header, frame, n_bytes);
	t->send_next += (u32)n + !!(flags & (SYN | FIN));
}

static void large_send_through_the_device_reaches_a_host_socket(void **state)
{
	static u8 data[60000], got[60000], arp[60];
	struct large_rig l = { .g = calloc(1, sizeof(struct guest)) };
	struct device_net_config config = { .name = "net0", .max_pairs = 1, .queue_size = 256 };
	struct tcp t = { .here = 40000, .send_next = 5 };
	int listener = listen_somewhere(&t.there), fd;
	u64 seed = rig_seed();
	char why[200];
	void *mem;
	size_t n;

	l.g->loop = loop_create();
	l.g->port = netport_slirp_create(l.g->loop, &(struct netport_slirp_config){ .name = "n" },
					 why, sizeof(why));
	config.port = l.g->port;
	memcpy(config.mac, guest_mac, 6);
	mem = aligned_alloc(16, (device_net_bytes(&config) + 15) & ~(size_t)15);
	l.vdev = device_net_init(mem, &config);
	rig_start(&l.rig, l.vdev, &(struct rig_options){ .event_idx = true }, NULL);
	for (u32 i = 0; i < 32; i++)
		rx_post(&l, rig_alloc(&l.rig, 2048));
	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (u8)rig_random(&seed);

	put_ethernet(arp, ETH_TYPE_ARP);
	memcpy(arp + 14, "\0\1\x08\0\6\4\0\1", 8);
	memcpy(arp + 22, guest_mac, 6);
	memcpy(arp + 28, guest_ip, 4);
	memcpy(arp + 38, host_ip, 4);
	tx(&l, (struct virtio_net_hdr *)(u8[12]){ 0 }, arp, sizeof(arp));

	tx_segment(&l, &t, SYN, NULL, 0);
	while (l.g->n_frames < 2) {
		loop_turn(l.g->loop, 10);
		rx_drain(&l);
	}
	l.g->n_read = 1;
	t.receive_next = be32_at(next_segment(l.g, &t, &n) + 4) + 1;
	tx_segment(&l, &t, ACK, NULL, 0);
	fd = accept_one(l.g, listener);
	/* More than 60000 bytes libslirp's window would not take without an answer. */
	tx_segment(&l, &t, ACK | PSH, data, sizeof(data));
	read_all(l.g, fd, got, sizeof(got));
	assert_memory_equal(got, data, sizeof(data));
	assert_int_equal(device_net_stats(l.vdev)->tx_software_segments, 42);
	assert_int_equal(netport_slirp_stats(l.g->port)->n_errors, 0);

	close(fd);
	close(listener);
	rig_stop(&l.rig);
	free(mem);
	guest_free(l.g);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(arp_for_the_host_is_answered),
		cmocka_unit_test(dhcp_offers_the_usual_network),
		cmocka_unit_test(dhcp_offers_the_network_that_was_asked_for),
		cmocka_unit_test(echo_to_the_host_comes_back),
		cmocka_unit_test(tcp_to_a_host_socket_carries_bytes_both_ways_and_ends),
		cmocka_unit_test(tcp_to_a_closed_host_port_is_reset),
		cmocka_unit_test(tcp_when_restricted_is_reset),
		cmocka_unit_test(forward_brings_a_host_connection_to_the_guest),
		cmocka_unit_test(forward_of_a_busy_port_says_so),
		cmocka_unit_test(forward_texts_are_parsed_or_refused),
		cmocka_unit_test(network_that_is_none_is_refused_with_reason),
		cmocka_unit_test(frames_for_a_busy_guest_are_kept_in_order_and_bounded),
		cmocka_unit_test(host_data_for_a_busy_guest_stays_in_the_socket),
		cmocka_unit_test(idle_port_lets_the_loop_sleep),
		cmocka_unit_test(ports_come_and_go_without_leaking_descriptors),
		cmocka_unit_test(large_send_through_the_device_reaches_a_host_socket),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
