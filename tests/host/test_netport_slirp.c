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
#include "tests/support/hand_guest.h"
#include "tests/support/rig.h"

#define LOOPBACK htonl(INADDR_LOOPBACK)

static const u8 guest_ip[4] = { 10, 0, 2, 15 }, host_ip[4] = { 10, 0, 2, 2 };

static struct hand_guest *guest_new(const struct netport_slirp_config *config)
{
	struct hand_guest *g = calloc(1, sizeof(*g));
	struct loop *loop = loop_create();
	char why[200] = "";
	struct netport *port = netport_slirp_create(loop, config, why, sizeof(why));

	if (!port)
		fail_msg("%s", why);
	hand_attach(g, loop, port, guest_ip, host_ip);
	return g;
}

/* Every frame is finished, with right checksums: this is what DATA_VALID claims. */
static void guest_free(struct hand_guest *g)
{
	for (u32 i = 0; i < g->n_frames; i++) {
		const struct hand_frame *f = &g->frames[i];

		assert_int_equal(f->offload.flags, VIRTIO_NET_HDR_F_DATA_VALID);
		assert_int_equal(f->offload.gso_type, VIRTIO_NET_HDR_GSO_NONE);
		if (be16_at(f->bytes + 12) == ETH_TYPE_IPV4)
			hand_check_checksums(f->bytes, f->n_bytes);
	}
	hand_forget_frames(g);
	netport_slirp_destroy(g->port);
	loop_destroy(g->loop);
	free(g);
}

static void send_finished(struct hand_guest *g, const u8 *frame, size_t n)
{
	static const struct net_offload none;

	hand_send(g, &none, frame, n);
}

static void send_echo(struct hand_guest *g, u16 sequence, size_t payload)
{
	static u8 frame[1600];
	u8 *icmp = frame + 34;

	memset(icmp, 0, 8 + payload);
	icmp[0] = 8;
	be16_put(icmp + 4, 0x1234);
	be16_put(icmp + 6, sequence);
	memset(icmp + 8, 'x', payload);
	be16_put(icmp + 2, (u16)~net_sum_fold(net_sum(icmp, 8 + payload)));
	send_finished(g, frame,
		      hand_put_ipv4(g, frame, IPPROTO_ICMP, guest_ip, host_ip, 8 + payload));
}

/* ---- the tests -------------------------------------------------------------------------- */

static void arp_for_the_host_is_answered(void **state)
{
	struct hand_guest *g = guest_new(&(struct netport_slirp_config){ .name = "net0" });
	const u8 *frame;
	size_t n;

	hand_send_arp(g, 1, host_ip);
	frame = hand_next(g, &n);
	assert_non_null(frame);
	assert_memory_equal(frame, g->mac, 6);
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
	struct hand_guest *g =
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
	memcpy(bootp + 28, g->mac, 6);
	be32_put(bootp + 236, 0x63825363);
	memcpy(bootp + 240, "\x35\x01\x01\xff", 4); /* DISCOVER */
	send_finished(g, frame, hand_put_ipv4(g, frame, IPPROTO_UDP, any, all, 308));

	answer = hand_next(g, &n);
	assert_non_null(answer);
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
	struct hand_guest *g = guest_new(&(struct netport_slirp_config){ .name = "net0" });
	const u8 *frame;
	size_t n;

	send_echo(g, 77, 1000);
	do {
		frame = hand_next(g, &n);
		assert_non_null(frame);
		if (be16_at(frame + 12) == ETH_TYPE_ARP)
			hand_send_arp(g, 2, host_ip);
	} while (be16_at(frame + 12) != ETH_TYPE_IPV4);
	assert_int_equal(n, 42 + 1000);
	assert_int_equal(frame[34], 0);
	assert_int_equal(be16_at(frame + 40), 77);
	guest_free(g);
}

static void tcp_to_a_host_socket_carries_bytes_both_ways_and_ends(void **state)
{
	struct hand_guest *g = guest_new(&(struct netport_slirp_config){ .name = "net0" });
	struct hand_tcp t = { .here = 40000, .send_next = 0xfffffff0 };
	int listener = hand_listen(LOOPBACK, &t.there), fd;
	char bytes[5];
	const u8 *tcp;
	size_t n;

	hand_send_arp(g, 1, host_ip);
	hand_connect(g, &t);
	fd = hand_accept(g, listener);
	hand_send_segment(g, &t, TCP_ACK | TCP_PSH, "hello", 5);
	hand_read_all(g, fd, bytes, 5);
	assert_memory_equal(bytes, "hello", 5);

	assert_int_equal(write(fd, "world", 5), 5);
	do
		tcp = hand_next_segment(g, &t, &n);
	while (n == 0);
	assert_int_equal(n, 5);
	assert_int_equal(be32_at(tcp + 4), t.receive_next);
	assert_memory_equal(tcp + 20, "world", 5);
	assert_true(g->n_batches > 0);
	t.receive_next += 5;
	hand_send_segment(g, &t, TCP_ACK, NULL, 0);

	/* Closed by the host, then by the guest. */
	close(fd);
	do
		tcp = hand_next_segment(g, &t, &n);
	while (!(tcp[13] & TCP_FIN));
	t.receive_next++;
	hand_send_segment(g, &t, TCP_ACK | TCP_FIN, NULL, 0);
	do
		tcp = hand_next_segment(g, &t, &n);
	while (be32_at(tcp + 8) != t.send_next);
	close(listener);
	guest_free(g);
}

static void tcp_to_a_closed_host_port_is_reset(void **state)
{
	struct hand_guest *g = guest_new(&(struct netport_slirp_config){ .name = "net0" });
	struct hand_tcp t = { .here = 40000 };
	size_t n;

	close(hand_listen(LOOPBACK, &t.there));
	hand_send_arp(g, 1, host_ip);
	hand_send_segment(g, &t, TCP_SYN, NULL, 0);
	assert_true(hand_next_segment(g, &t, &n)[13] & TCP_RST);
	guest_free(g);
}

static void tcp_when_restricted_is_reset(void **state)
{
	struct hand_guest *g =
		guest_new(&(struct netport_slirp_config){ .name = "net0", .restricted = true });
	struct hand_tcp t = { .here = 40000 };
	int listener = hand_listen(LOOPBACK, &t.there);
	size_t n;

	hand_send_arp(g, 1, host_ip);
	hand_send_segment(g, &t, TCP_SYN, NULL, 0);
	assert_true(hand_next_segment(g, &t, &n)[13] & TCP_RST);
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
	struct hand_tcp t = { .here = 7777, .send_next = 1 };
	struct hand_guest *g;
	const u8 *tcp;
	char bytes[4];
	size_t n;
	int fd;

	close(hand_listen(LOOPBACK, &forward.host_port));
	g = guest_new(&config);
	loop_turn(g->loop, 0); /* the end of a turn: libslirp's sockets are watched */
	a.sin_port = htons(forward.host_port);
	fd = socket(AF_INET, SOCK_STREAM, 0);
	assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	assert_int_equal(fcntl(fd, F_SETFL, O_NONBLOCK), 0);

	tcp = hand_next_segment(g, &t, &n);
	assert_int_equal(tcp[13], TCP_SYN);
	t.there = be16_at(tcp);
	t.receive_next = be32_at(tcp + 4) + 1;
	hand_send_segment(g, &t, TCP_SYN | TCP_ACK, NULL, 0);
	hand_next_segment(g, &t, &n);
	hand_send_segment(g, &t, TCP_ACK | TCP_PSH, "ping", 4);
	hand_read_all(g, fd, bytes, 4);
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
	int listener = hand_listen(LOOPBACK, &forward.host_port);
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
	struct hand_guest *g = guest_new(&(struct netport_slirp_config){ .name = "net0" });
	const struct netport_slirp_stats *stats = netport_slirp_stats(g->port);
	u64 kept;

	hand_send_arp(g, 1, host_ip);
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

static void host_data_for_a_busy_guest_waits_and_is_not_lost(void **state)
{
	struct hand_guest *g = guest_new(&(struct netport_slirp_config){ .name = "net0" });
	const struct netport_slirp_stats *stats = netport_slirp_stats(g->port);
	struct hand_tcp t = { .here = 40000 };
	int listener = hand_listen(LOOPBACK, &t.there), fd;
	static u8 chunk[4096];
	size_t got = 0, n;

	hand_send_arp(g, 1, host_ip);
	hand_connect(g, &t);
	fd = hand_accept(g, listener);
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
		const u8 *tcp = hand_next_segment(g, &t, &n);

		if (be32_at(tcp + 4) == t.receive_next) {
			got += n;
			t.receive_next += (u32)n;
		}
		hand_send_segment(g, &t, TCP_ACK, NULL, 0);
		if (g->n_read == g->n_frames)
			hand_forget_frames(g);
	}
	assert_int_equal(stats->n_dropped, 0);
	close(fd);
	close(listener);
	guest_free(g);
}

static void idle_port_lets_the_loop_sleep(void **state)
{
	struct hand_guest *g = guest_new(&(struct netport_slirp_config){ .name = "net0" });
	u64 before;

	hand_send_arp(g, 1, host_ip);
	loop_turn(g->loop, 0);
	before = hand_now_ns(g);
	/* libslirp would look at the clock once a second, for nothing. */
	loop_turn(g->loop, 1200);
	assert_true(hand_now_ns(g) - before >= 1190 * 1000000ull);
	guest_free(g);
}

static void ports_come_and_go_without_leaking_descriptors(void **state)
{
	int before = dup(0), after;

	close(before);
	for (u32 k = 0; k < 50; k++) {
		struct hand_guest *g =
			guest_new(&(struct netport_slirp_config){ .name = "net0", .ipv6 = true });
		struct hand_tcp t = { .here = 40000 };
		int listener = hand_listen(LOOPBACK, &t.there);

		hand_send_arp(g, 1, host_ip);
		hand_connect(g, &t);
		close(hand_accept(g, listener));
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
	struct hand_guest guest;
	struct vdev *vdev;
};

static void rx_post(struct large_rig *l, u8 *p)
{
	struct span v = { p, 2048 };

	rig_submit(&l->rig, 0, &v, 0, 1, p);
}

/* What the driver gets is looked at as if the port had brought it. */
static void rx_wait(struct large_rig *l, u32 n_frames)
{
	u64 deadline = hand_now_ns(&l->guest) + HAND_PATIENCE_NS;
	u32 n_written;
	u8 *p;

	while (l->guest.n_frames < n_frames) {
		struct net_offload o = { 0 };

		loop_turn(l->guest.loop, 10);
		while ((p = rig_reap(&l->rig, 0, &n_written))) {
			assert_true(n_written > 12);
			o.flags = p[0];
			o.gso_type = p[1];
			hand_add_frame(&l->guest, &o, p + 12, n_written - 12);
			rx_post(l, p);
		}
		assert_true(hand_now_ns(&l->guest) < deadline);
	}
}

static void tx(struct large_rig *l, const struct net_offload *o, const u8 *frame, size_t n)
{
	u8 *p = rig_alloc(&l->rig, 12 + n);
	struct virtio_net_hdr header = {
		.flags = o->flags,
		.gso_type = o->gso_type,
		.hdr_len = le16_of(o->hdr_len),
		.gso_size = le16_of(o->gso_size),
		.csum_start = le16_of(o->csum_start),
		.csum_offset = le16_of(o->csum_offset),
	};

	memcpy(p, &header, 12);
	memcpy(p + 12, frame, n);
	rig_transact(&l->rig, 1, &(struct span){ p, 12 + n }, 1, 0);
}

static void tx_segment(struct large_rig *l, struct hand_tcp *t, u8 flags, const void *data,
		       size_t n)
{
	static u8 frame[70000];
	struct net_offload o;
	size_t n_bytes = hand_make_segment(&l->guest, t, frame, &o, flags, data, n);

	tx(l, &o, frame, n_bytes);
}

static void large_send_through_the_device_reaches_a_host_socket(void **state)
{
	static u8 data[60000], got[60000];
	static struct large_rig l;
	struct net_offload none = { 0 };
	struct hand_guest *g = &l.guest;
	struct device_net_config config = { .name = "net0", .max_pairs = 1, .queue_size = 256 };
	struct hand_tcp t = { .here = 40000, .send_next = 5 };
	int listener = hand_listen(LOOPBACK, &t.there), fd;
	struct loop *loop = loop_create();
	u64 seed = rig_seed();
	char why[200];
	u8 arp[60];
	void *mem;
	size_t n;

	config.port = netport_slirp_create(loop, &(struct netport_slirp_config){ .name = "n" }, why,
					   sizeof(why));
	hand_attach(g, loop, config.port, guest_ip, host_ip);
	/* The device takes the port's ears over, and is the one that is asked. */
	config.port->ops->set_receiving(config.port, false);
	config.clock = loop_clock(loop);
	memcpy(config.mac, g->mac, 6);
	mem = aligned_alloc(16, (device_net_bytes(&config) + 15) & ~(size_t)15);
	l.vdev = device_net_init(mem, &config);
	rig_start(&l.rig, l.vdev, &(struct rig_options){ .event_idx = true }, NULL);
	for (u32 i = 0; i < 32; i++)
		rx_post(&l, rig_alloc(&l.rig, 2048));
	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (u8)rig_random(&seed);

	tx(&l, &none, arp, hand_make_arp(g, arp, 1, host_ip));
	tx_segment(&l, &t, TCP_SYN, NULL, 0);
	rx_wait(&l, 2);
	g->n_read = 1;
	t.receive_next = be32_at(hand_next_segment(g, &t, &n) + 4) + 1;
	tx_segment(&l, &t, TCP_ACK, NULL, 0);
	fd = hand_accept(g, listener);
	/* As much as libslirp's window takes without an answer. */
	tx_segment(&l, &t, TCP_ACK | TCP_PSH, data, sizeof(data));
	hand_read_all(g, fd, got, sizeof(got));
	assert_memory_equal(got, data, sizeof(data));
	assert_int_equal(device_net_stats(l.vdev)->tx_software_segments, 2);
	assert_int_equal(netport_slirp_stats(config.port)->n_errors, 0);

	close(fd);
	close(listener);
	rig_stop(&l.rig);
	free(mem);
	hand_forget_frames(g);
	netport_slirp_destroy(config.port);
	loop_destroy(loop);
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
		cmocka_unit_test(host_data_for_a_busy_guest_waits_and_is_not_lost),
		cmocka_unit_test(idle_port_lets_the_loop_sleep),
		cmocka_unit_test(ports_come_and_go_without_leaking_descriptors),
		cmocka_unit_test(large_send_through_the_device_reaches_a_host_socket),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
