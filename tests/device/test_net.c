/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The network device against the driver half of its queues, with a port that records.
 *
 * The port is a stand-in because the tests need one that refuses, loses and floods at will; the
 * real ones are tested in tests/host.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/shared.h"
#include "device/net.h"
#include "device/net_offload.h"
#include "spec/net.h"
#include "tests/support/rig.h"

#define HEADER 12
#define MAX_FRAMES 256
#define ALL_TSO (NETPORT_CSUM | NETPORT_TSO4 | NETPORT_TSO6 | NETPORT_ECN)

static const u8 own_mac[6] = { 0x52, 0x54, 0, 1, 2, 3 };
static const u8 peer_mac[6] = { 0x52, 0x54, 0, 9, 9, 9 };
static u64 random_state;

struct frame {
	struct net_offload offload;
	size_t n_bytes;
	u8 *bytes;
};

struct mock {
	struct netport port;
	struct frame frames[MAX_FRAMES];
	u32 n_frames;
	u32 room; /* frames until -EAGAIN */
	int error; /* instead of taking a frame */
	bool receiving;
	u32 n_receiving_calls;
	u32 guest_can;
	/* The guest acts while we send; frames are counted and not kept then. */
	void (*meanwhile)(struct mock *m);
	u32 n_meanwhile;
};

static int mock_send(struct netport *port, const struct net_offload *offload, const struct span *v,
		     u32 n)
{
	struct mock *m = container_of(port, struct mock, port);
	struct frame *f = &m->frames[m->n_frames];

	if (m->meanwhile) {
		m->n_meanwhile++;
		m->meanwhile(m);
		return 0;
	}
	if (m->error)
		return m->error;
	if (m->room == 0)
		return -EAGAIN;
	m->room--;
	assert_true(m->n_frames < MAX_FRAMES);
	f->offload = *offload;
	f->n_bytes = 0;
	for (u32 i = 0; i < n; i++)
		f->n_bytes += v[i].n_bytes;
	f->bytes = malloc(f->n_bytes);
	for (size_t i = 0, at = 0; i < n; at += v[i++].n_bytes)
		memcpy(f->bytes + at, v[i].base, v[i].n_bytes);
	m->n_frames++;
	return 0;
}

static void mock_set_receiving(struct netport *port, bool on)
{
	struct mock *m = container_of(port, struct mock, port);

	assert_true(m->receiving != on);
	m->receiving = on;
	m->n_receiving_calls++;
}

static void mock_set_offloads(struct netport *port, u32 guest_can)
{
	container_of(port, struct mock, port)->guest_can = guest_can;
}

static const struct netport_ops mock_ops = { mock_send, mock_set_receiving, mock_set_offloads };

static void mock_forget(struct mock *m)
{
	for (u32 i = 0; i < m->n_frames; i++)
		free(m->frames[i].bytes);
	m->n_frames = 0;
}

/* ---- a device, its port, its driver ----------------------------------------------------- */

struct bench {
	struct mock mock;
	struct vdev *vdev;
	struct rig rig;
	struct clock clock;
	struct clock_timer *timer; /* that is running */
	void *mem;
	u16 control; /* the control queue's number */
	const struct device_net_stats *stats;
};

/* A clock that stands still until the test says that a timer is due. */
static u64 clock_now_ns(struct clock *clock)
{
	return 1000;
}

static void clock_start(struct clock *clock, struct clock_timer *t, u64 deadline_ns)
{
	struct bench *b = container_of(clock, struct bench, clock);

	assert_true(deadline_ns > 1000);
	assert_true(!b->timer || b->timer == t);
	b->timer = t;
}

static void clock_stop(struct clock *clock, struct clock_timer *t)
{
	container_of(clock, struct bench, clock)->timer = NULL;
}

static const struct clock_ops clock_ops = { clock_now_ns, clock_start, clock_stop };

static u16 large_bytes_of_mock;

static void bench_make(struct bench *b, u32 can, u32 brings, u16 pairs, u16 mtu)
{
	memset(b, 0, sizeof(*b));
	b->mock.port = (struct netport){
		.ops = &mock_ops, .name = "mock", .can = can, .brings = brings, .link_up = true
	};
	b->mock.port.large_bytes = large_bytes_of_mock;
	b->mock.room = UINT32_MAX;

	b->clock.ops = &clock_ops;

	struct device_net_config config = {
		.name = "net0",
		.port = &b->mock.port,
		.clock = &b->clock,
		.mtu = mtu,
		.max_pairs = pairs,
		.queue_size = 256,
	};

	memcpy(config.mac, own_mac, 6);
	b->mem = aligned_alloc(16, (device_net_bytes(&config) + 15) & ~(size_t)15);
	memset(b->mem, 0xa5, device_net_bytes(&config)); /* nothing may count on zeroes */
	b->vdev = device_net_init(b->mem, &config);
	b->stats = device_net_stats(b->vdev);
	b->control = (u16)(2 * pairs);
}

static void bench_start(struct bench *b, const struct rig_options *o, const int *features)
{
	rig_start(&b->rig, b->vdev, o, features);
	if (!vdev_has(b->vdev, VIRTIO_NET_F_MQ))
		b->control = 2;
}

static void bench_stop(struct bench *b)
{
	rig_stop(&b->rig);
	assert_false(b->mock.receiving);
	mock_forget(&b->mock);
	free(b->mem);
}

static const struct rig_options split = { 0 };

/* Transmits header and frame in pieces of the given sizes (the last one takes the rest). */
static void transmit_pieces(struct bench *b, u16 queue, const struct virtio_net_hdr *header,
			    const u8 *frame, size_t n_bytes, const size_t *piece, u32 n_pieces)
{
	u8 *p = rig_alloc(&b->rig, HEADER + n_bytes);
	struct span v[32];
	size_t at = 0;
	u32 n = 0;

	memcpy(p, header, HEADER);
	memcpy(p + HEADER, frame, n_bytes);
	while (n < n_pieces && piece[n] && at + piece[n] < HEADER + n_bytes) {
		v[n] = (struct span){ p + at, piece[n] };
		at += piece[n++];
	}
	v[n++] = (struct span){ p + at, HEADER + n_bytes - at };
	rig_submit(&b->rig, queue, v, n, 0, p);
}

static void transmit(struct bench *b, u16 queue, const struct virtio_net_hdr *header,
		     const u8 *frame, size_t n_bytes)
{
	transmit_pieces(b, queue, header, frame, n_bytes, NULL, 0);
}

/* The chain that was sent came back, with nothing written. */
static void reap_transmitted(struct bench *b, u16 queue)
{
	u32 n_written = 1;

	assert_non_null(rig_reap(&b->rig, queue, &n_written));
	assert_int_equal(n_written, 0);
}

static u8 *post(struct bench *b, u16 queue, size_t n_bytes)
{
	u8 *p = rig_alloc(&b->rig, n_bytes);
	struct span v = { p, n_bytes };

	memset(p, 0xee, n_bytes);
	rig_submit(&b->rig, queue, &v, 0, 1, p);
	return p;
}

/* A frame arrives, in three pieces. */
static bool bring_with(struct bench *b, const struct net_offload *o, const u8 *frame, size_t n)
{
	size_t a = n / 3, c = n / 2;
	struct span v[3] = { { (u8 *)frame, a },
			     { (u8 *)frame + a, c - a },
			     { (u8 *)frame + c, n - c } };
	bool taken = b->mock.port.receive(b->mock.port.owner, o, v, 3);

	b->mock.port.batch_end(b->mock.port.owner);
	return taken;
}

static bool bring(struct bench *b, const u8 *frame, size_t n)
{
	static const struct net_offload none;

	return bring_with(b, &none, frame, n);
}

static int control(struct bench *b, u8 class, u8 command, const void *data, size_t n_bytes)
{
	u8 *p = rig_alloc(&b->rig, 2 + n_bytes), *ack = rig_alloc(&b->rig, 1);
	struct span v[] = { { p, 2 }, { p + 2, n_bytes }, { ack, 1 } };

	p[0] = class;
	p[1] = command;
	if (n_bytes)
		memcpy(p + 2, data, n_bytes);
	*ack = 0xaa;
	if (n_bytes == 0)
		v[1] = v[2];
	assert_int_equal(rig_transact(&b->rig, b->control, v, n_bytes ? 2 : 1, 1), 1);
	return *ack;
}

static u16 config16(struct bench *b, u32 offset)
{
	le16 v;

	vdev_config_read(b->vdev, offset, &v, 2);
	return le16_get(v);
}

static u16 config_status(struct bench *b)
{
	return config16(b, offsetof(struct virtio_net_config, status));
}

/* A frame of random bytes to `to`. */
static const u8 *a_frame(const u8 *to, size_t n)
{
	static u8 frame[70000];

	for (size_t i = 0; i < n; i++)
		frame[i] = (u8)rig_random(&random_state);
	if (n >= 6)
		memcpy(frame, to, 6);
	if (n >= 14) {
		memcpy(frame + 6, peer_mac, 6);
		be16_put(frame + 12, 0x88b5); /* for experiments */
	}
	return frame;
}

/* A TCP send over IPv4 (or 6) with its pseudo header summed up, as a guest would hand it over. */
static u8 *a_large_send(bool ipv6, size_t payload, struct virtio_net_hdr *header)
{
	size_t transport = ipv6 ? 54 : 34, n = transport + 20 + payload;
	u8 *frame = (u8 *)a_frame(peer_mac, n);
	u8 *ip = frame + 14, *tcp = frame + transport;

	be16_put(frame + 12, ipv6 ? ETH_TYPE_IPV6 : ETH_TYPE_IPV4);
	ip[0] = ipv6 ? 0x60 : 0x45;
	if (ipv6) {
		ip[6] = 6;
	} else {
		ip[6] = ip[7] = 0;
		ip[9] = 6;
	}
	tcp[12] = 0x50;
	be16_put(tcp + 16,
		 net_sum_fold(net_sum(ipv6 ? ip + 8 : ip + 12, ipv6 ? 32 : 8) + 6 + 20 + payload));
	*header = (struct virtio_net_hdr){
		.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
		.gso_type = ipv6 ? VIRTIO_NET_HDR_GSO_TCPV6 : VIRTIO_NET_HDR_GSO_TCPV4,
		.hdr_len = le16_of((u16)(transport + 20)),
		.gso_size = le16_of(1400),
		.csum_start = le16_of((u16)transport),
		.csum_offset = le16_of(16),
	};
	return frame;
}

static bool tcp_verifies(const u8 *frame, size_t n)
{
	bool ipv6 = be16_at(frame + 12) == ETH_TYPE_IPV6;
	size_t transport = ipv6 ? 54 : 34;

	return net_sum_fold(net_sum(frame + 14 + (ipv6 ? 8 : 12), ipv6 ? 32 : 8) + 6 +
			    (n - transport) + net_sum(frame + transport, n - transport)) == 0xffff;
}

/* ---- what is offered -------------------------------------------------------------------- */

static void init_configuration_says_what_was_given(void **state)
{
	struct bench b;
	u8 mac[6];

	bench_make(&b, 0, 0, 4, 9000);
	vdev_config_read(b.vdev, 0, mac, 6);
	assert_memory_equal(mac, own_mac, 6);
	assert_int_equal(config_status(&b), VIRTIO_NET_S_LINK_UP);
	assert_int_equal(config16(&b, 8), 4);
	assert_int_equal(config16(&b, 10), 9000);
	assert_int_equal(b.vdev->config_bytes, 28);
	assert_int_equal(b.vdev->n_queues, 9);
	assert_true(features_has(&b.vdev->offered, VIRTIO_NET_F_MQ));
	free(b.mem);

	bench_make(&b, 0, 0, 1, 0);
	assert_int_equal(config16(&b, 10), 1500);
	assert_false(features_has(&b.vdev->offered, VIRTIO_NET_F_MQ));
	free(b.mem);
}

static void offered_host_offloads_always_guest_offloads_if_port_brings(void **state)
{
	struct bench b;

	bench_make(&b, 0, 0, 1, 0);
	assert_true(features_has(&b.vdev->offered, VIRTIO_NET_F_CSUM));
	assert_true(features_has(&b.vdev->offered, VIRTIO_NET_F_HOST_TSO4));
	assert_true(features_has(&b.vdev->offered, VIRTIO_NET_F_HOST_TSO6));
	assert_true(features_has(&b.vdev->offered, VIRTIO_NET_F_HOST_ECN));
	assert_true(features_has(&b.vdev->offered, VIRTIO_NET_F_GUEST_CSUM));
	assert_false(features_has(&b.vdev->offered, VIRTIO_NET_F_GUEST_TSO4));
	assert_false(features_has(&b.vdev->offered, VIRTIO_NET_F_GUEST_TSO6));
	assert_false(features_has(&b.vdev->offered, VIRTIO_NET_F_GUEST_ECN));
	free(b.mem);

	bench_make(&b, ALL_TSO, ALL_TSO, 1, 0);
	assert_true(features_has(&b.vdev->offered, VIRTIO_NET_F_GUEST_TSO4));
	assert_true(features_has(&b.vdev->offered, VIRTIO_NET_F_GUEST_TSO6));
	assert_true(features_has(&b.vdev->offered, VIRTIO_NET_F_GUEST_ECN));
	free(b.mem);
}

static bool features_are_taken(struct bench *b, const int *features)
{
	struct features f = { { 0, 0 } };

	features_set(&f, VIRTIO_F_VERSION_1);
	for (; *features >= 0; features++)
		features_set(&f, (unsigned int)*features);
	vdev_set_status(b->vdev, 0);
	vdev_set_status(b->vdev, 1);
	vdev_set_status(b->vdev, 3);
	vdev_set_features(b->vdev, &f);
	vdev_set_status(b->vdev, 11);
	return b->vdev->status & VIRTIO_STATUS_FEATURES_OK;
}

static void features_without_what_they_stand_on_are_refused(void **state)
{
	static const int refused[][3] = {
		{ VIRTIO_NET_F_HOST_TSO4, -1 },
		{ VIRTIO_NET_F_HOST_TSO6, -1 },
		{ VIRTIO_NET_F_HOST_ECN, VIRTIO_NET_F_CSUM, -1 },
		{ VIRTIO_NET_F_GUEST_TSO4, -1 },
		{ VIRTIO_NET_F_GUEST_TSO6, -1 },
		{ VIRTIO_NET_F_GUEST_ECN, VIRTIO_NET_F_GUEST_CSUM, -1 },
	};
	static const int taken[][4] = {
		{ -1 },
		{ VIRTIO_NET_F_CSUM, VIRTIO_NET_F_HOST_TSO6, VIRTIO_NET_F_HOST_ECN, -1 },
		{ VIRTIO_NET_F_GUEST_CSUM, VIRTIO_NET_F_GUEST_TSO4, VIRTIO_NET_F_GUEST_ECN, -1 },
		{ VIRTIO_NET_F_MQ, -1 }, /* a vhost-user front end that keeps the control queue */
	};
	struct bench b;

	bench_make(&b, ALL_TSO, ALL_TSO, 2, 0);
	for (size_t i = 0; i < ARRAY_SIZE(refused); i++)
		assert_false(features_are_taken(&b, refused[i]));
	for (size_t i = 0; i < ARRAY_SIZE(taken); i++)
		assert_true(features_are_taken(&b, taken[i]));
	free(b.mem);
}

/* ---- transmit --------------------------------------------------------------------------- */

static void transmit_any_framing_arrives_whole_in_every_ring(void **state)
{
	static const size_t pieces[][4] = {
		{ 12 }, { 10, 2, 14 }, { 1, 1, 1, 1 }, { 11, 1, 1, 12 }, { 13, 1 }, { 5, 30, 3 },
	};

	for (unsigned int i = 0; i < 8; i++) {
		struct rig_options o = rig_combination(i);
		struct virtio_net_hdr header = { 0 };
		struct bench b;

		bench_make(&b, 0, 0, 1, 0);
		bench_start(&b, &o, NULL);
		for (u32 k = 0; k < 150; k++) {
			size_t n = 14 + rig_random(&random_state) % 1501;
			const u8 *frame = a_frame(peer_mac, n);

			transmit_pieces(&b, 1, &header, frame, n, pieces[k % 6], 4);
			reap_transmitted(&b, 1);
			assert_int_equal(b.mock.frames[k].n_bytes, n);
			assert_memory_equal(b.mock.frames[k].bytes, frame, n);
			assert_int_equal(b.mock.frames[k].offload.flags, 0);
		}
		assert_int_equal(b.stats->tx_frames, 150);
		bench_stop(&b);
	}
}

static void transmit_large_to_able_port_passes_as_it_is(void **state)
{
	struct virtio_net_hdr header;
	struct bench b;

	bench_make(&b, ALL_TSO, 0, 1, 0);
	bench_start(&b, &split, NULL);

	u8 *frame = a_large_send(false, 30000, &header);

	header.gso_type |= VIRTIO_NET_HDR_GSO_ECN;
	header.flags |= 0xfe; /* D-NET-5.1.9.2.2-01: unknown bits do no harm, nor go on */
	header.hdr_len = le16_of(0xffff); /* D-NET-5.1.9.2.2-07 */
	transmit(&b, 1, &header, frame, 30054);
	reap_transmitted(&b, 1);
	assert_int_equal(b.mock.n_frames, 1);
	assert_int_equal(b.mock.frames[0].n_bytes, 30054);
	assert_memory_equal(b.mock.frames[0].bytes, frame, 30054);
	assert_int_equal(b.mock.frames[0].offload.flags, VIRTIO_NET_HDR_F_NEEDS_CSUM);
	assert_int_equal(b.mock.frames[0].offload.gso_type, 0x81);
	assert_int_equal(b.mock.frames[0].offload.gso_size, 1400);
	assert_int_equal(b.mock.frames[0].offload.csum_start, 34);
	assert_int_equal(b.mock.frames[0].offload.csum_offset, 16);
	assert_int_equal(b.mock.frames[0].offload.hdr_len, 30054);
	bench_stop(&b);
}

static void transmit_large_is_cut_for_a_port_that_lacks_any_of_it(void **state)
{
	static const u32 cans[] = { 0, NETPORT_CSUM, ALL_TSO & ~NETPORT_ECN,
				    ALL_TSO & ~NETPORT_CSUM,
				    NETPORT_CSUM | NETPORT_TSO6 | NETPORT_ECN };

	for (size_t i = 0; i < ARRAY_SIZE(cans); i++) {
		struct virtio_net_hdr header;
		struct bench b;
		size_t at = 54;

		bench_make(&b, cans[i], 0, 1, 0);
		bench_start(&b, &split, NULL);

		u8 *frame = a_large_send(false, 30000, &header);

		header.gso_type |= VIRTIO_NET_HDR_GSO_ECN;
		transmit(&b, 1, &header, frame, 30054);
		reap_transmitted(&b, 1);
		assert_int_equal(b.mock.n_frames, 22);
		for (u32 k = 0; k < 22; k++) {
			struct frame *f = &b.mock.frames[k];

			assert_int_equal(f->offload.flags, 0);
			assert_int_equal(f->offload.gso_type, 0);
			assert_true(f->n_bytes <= 1514);
			assert_memory_equal(f->bytes + 54, frame + at, f->n_bytes - 54);
			assert_true(tcp_verifies(f->bytes, f->n_bytes));
			at += f->n_bytes - 54;
		}
		assert_int_equal(at, 30054);
		assert_int_equal(b.stats->tx_frames, 1);
		assert_int_equal(b.stats->tx_software_segments, 22);
		bench_stop(&b);
	}
}

static void transmit_ipv6_large_is_cut_too(void **state)
{
	struct virtio_net_hdr header;
	struct bench b;

	bench_make(&b, 0, 0, 1, 0);
	bench_start(&b, &split, NULL);

	u8 *frame = a_large_send(true, 65000, &header);

	transmit(&b, 1, &header, frame, 65074);
	reap_transmitted(&b, 1);
	assert_int_equal(b.mock.n_frames, 47);
	for (u32 k = 0; k < 47; k++)
		assert_true(tcp_verifies(b.mock.frames[k].bytes, b.mock.frames[k].n_bytes));
	bench_stop(&b);
}

static void transmit_large_to_a_port_that_ends_tcp_is_finished_but_whole(void **state)
{
	struct virtio_net_hdr header;
	struct bench b;
	u8 *frame;

	/* Told beforehand, as the memory that the device needs depends on it. */
	large_bytes_of_mock = 65535;
	bench_make(&b, 0, 0, 1, 0);
	large_bytes_of_mock = 0;
	bench_start(&b, &split, NULL);
	frame = a_large_send(false, 60000, &header);
	transmit(&b, 1, &header, frame, 60054);
	reap_transmitted(&b, 1);
	assert_int_equal(b.mock.n_frames, 1);
	assert_int_equal(b.mock.frames[0].n_bytes, 60054);
	assert_int_equal(b.mock.frames[0].offload.flags, 0);
	assert_int_equal(b.mock.frames[0].offload.gso_type, 0);
	assert_int_equal(be16_at(b.mock.frames[0].bytes + 16), 60040);
	assert_memory_equal(b.mock.frames[0].bytes + 54, frame + 54, 60000);
	assert_true(tcp_verifies(b.mock.frames[0].bytes, 60054));
	bench_stop(&b);
}

static void transmit_checksum_is_completed_for_a_port_that_cannot(void **state)
{
	struct virtio_net_hdr header;
	struct bench b;

	for (u32 can = 0; can <= NETPORT_CSUM; can++) {
		bench_make(&b, can, 0, 1, 0);
		bench_start(&b, &split, NULL);

		u8 *frame = a_large_send(false, 1001, &header);

		header.gso_type = 0;
		transmit(&b, 1, &header, frame, 1055);
		reap_transmitted(&b, 1);
		assert_int_equal(b.mock.n_frames, 1);
		assert_int_equal(b.mock.frames[0].n_bytes, 1055);
		assert_int_equal(b.mock.frames[0].offload.flags, can ? 1 : 0);
		assert_int_equal(tcp_verifies(b.mock.frames[0].bytes, 1055), !can);
		assert_int_equal(b.stats->tx_software_checksums, !can);
		bench_stop(&b);
	}
}

static void transmit_up_to_mtu_passes_and_beyond_is_dropped(void **state)
{
	struct virtio_net_hdr header = { 0 };
	struct bench b;

	bench_make(&b, ALL_TSO, 0, 1, 1500);
	bench_start(&b, &split, NULL);
	transmit(&b, 1, &header, a_frame(peer_mac, 1514), 1514); /* D-NET-5.1.4.1-06 */
	reap_transmitted(&b, 1);
	transmit(&b, 1, &header, a_frame(peer_mac, 1522), 1522); /* with two tags */
	reap_transmitted(&b, 1);
	transmit(&b, 1, &header, a_frame(peer_mac, 1523), 1523);
	reap_transmitted(&b, 1);
	assert_int_equal(b.mock.n_frames, 2);
	assert_int_equal(b.stats->tx_oversize, 1);
	bench_stop(&b);
}

/* A port may count on this much. */
static void check_offload(const struct frame *f)
{
	const struct net_offload *o = &f->offload;

	assert_true(!(o->flags & ~VIRTIO_NET_HDR_F_NEEDS_CSUM));
	if (o->flags) {
		assert_true(o->csum_start >= 14);
		assert_true((size_t)o->csum_start + o->csum_offset + 2 <= f->n_bytes);
	}
	if (o->gso_type != VIRTIO_NET_HDR_GSO_NONE) {
		assert_int_equal(o->flags, VIRTIO_NET_HDR_F_NEEDS_CSUM);
		assert_true(o->gso_size > 0);
	}
	assert_true(o->hdr_len <= f->n_bytes);
}

/* Each is dropped, given back and counted; the next good frame passes. */
static void hostile_G28_transmit_bad_header_is_dropped(void **state)
{
	static const u16 extremes[] = { 0, 1, 13, 14, 34, 500, 1020, 1040, 1041, 0xfffe, 0xffff };
	static const u8 gso_types[] = { 0, 1, 2, 3, 4, 5, 0x20, 0x40, 0x80, 0x81, 0x84, 0xff };

	for (u32 can = 0; can <= ALL_TSO; can += ALL_TSO) {
		struct bench b;
		u64 n = 0, passed = 0;
		u8 *frame;
		struct virtio_net_hdr good, header;

		bench_make(&b, can, 0, 1, 0);
		bench_start(&b, &split, NULL);
		frame = a_large_send(false, 1001, &good);
		for (size_t g = 0; g < ARRAY_SIZE(gso_types); g++)
			for (size_t s = 0; s < ARRAY_SIZE(extremes); s++)
				for (size_t o = 0; o < ARRAY_SIZE(extremes); o++)
					for (u32 flags = 0; flags < 2; flags++) {
						header = good;
						header.flags = (u8)flags;
						header.gso_type = gso_types[g];
						header.csum_start = le16_of(extremes[s]);
						header.csum_offset = le16_of(extremes[o]);
						header.gso_size = le16_of(extremes[(s + o) % 11]);
						header.hdr_len = le16_of(extremes[o]);
						b.rig.low_used = b.rig.high_used = 1 << 20;
						transmit(&b, 1, &header, frame, 1055);
						reap_transmitted(&b, 1);
						passed += b.mock.n_frames > 0;
						if (b.mock.n_frames > 0)
							check_offload(&b.mock.frames[0]);
						mock_forget(&b.mock);
						n++;
					}
		assert_int_equal(b.stats->tx_frames, passed);
		assert_int_equal(b.stats->tx_malformed + b.stats->tx_oversize + passed, n);
		assert_true(b.stats->tx_malformed > n / 2);
		assert_false(b.vdev->broken);

		transmit(&b, 1, &good, frame, 1055);
		reap_transmitted(&b, 1);
		assert_int_equal(b.mock.n_frames, 1);
		bench_stop(&b);
	}
}

static void hostile_G28_transmit_short_chain_is_dropped(void **state)
{
	for (size_t n = 1; n <= HEADER + 14; n++) {
		struct bench b;
		u8 *p;

		bench_make(&b, 0, 0, 1, 0);
		bench_start(&b, &split, NULL);
		p = rig_alloc(&b.rig, n);
		assert_int_equal(rig_transact(&b.rig, 1, &(struct span){ p, n }, 1, 0), 0);
		assert_int_equal(b.mock.n_frames, n == HEADER + 14);
		assert_int_equal(b.stats->tx_malformed, n != HEADER + 14);
		bench_stop(&b);
	}
}

static void hostile_G28_transmit_chain_for_writing_only_is_dropped(void **state)
{
	struct bench b;
	u8 *p;

	bench_make(&b, 0, 0, 1, 0);
	bench_start(&b, &split, NULL);
	p = rig_alloc(&b.rig, 2000);
	assert_int_equal(rig_transact(&b.rig, 1, &(struct span){ p, 2000 }, 0, 1), 0);
	assert_int_equal(b.stats->tx_malformed, 1);
	bench_stop(&b);
}

static void transmit_offload_that_was_not_negotiated_is_dropped(void **state)
{
	static const int plain[] = { VIRTIO_NET_F_MAC, -1 };
	static const int no_ecn[] = { VIRTIO_NET_F_CSUM, VIRTIO_NET_F_HOST_TSO4, -1 };
	struct virtio_net_hdr header;
	struct bench b;
	u8 *frame;

	bench_make(&b, ALL_TSO, 0, 1, 0);
	bench_start(&b, &split, plain);
	frame = a_large_send(false, 1001, &header);
	header.gso_type = 0;
	transmit(&b, 1, &header, frame, 1055);
	reap_transmitted(&b, 1);
	assert_int_equal(b.stats->tx_malformed, 1);

	rig_reset(&b.rig);
	rig_restart(&b.rig, no_ecn);
	frame = a_large_send(false, 1001, &header);
	header.gso_type |= VIRTIO_NET_HDR_GSO_ECN;
	transmit(&b, 1, &header, frame, 1055);
	reap_transmitted(&b, 1);
	frame = a_large_send(true, 1001, &header);
	transmit(&b, 1, &header, frame, 1075);
	reap_transmitted(&b, 1);
	assert_int_equal(b.stats->tx_malformed, 3);
	assert_int_equal(b.mock.n_frames, 0);
	bench_stop(&b);
}

static void transmit_to_full_port_waits_and_keeps_order(void **state)
{
	for (unsigned int i = 0; i < 8; i++) {
		struct rig_options o = rig_combination(i);
		struct virtio_net_hdr header = { 0 };
		u8 frame[64] = { 0 };
		struct bench b;
		u32 n_written;

		bench_make(&b, 0, 0, 1, 0);
		bench_start(&b, &o, NULL);
		b.mock.room = 3;
		for (u8 k = 0; k < 10; k++) {
			frame[20] = k;
			transmit(&b, 1, &header, frame, 64);
		}
		assert_int_equal(b.mock.n_frames, 3);
		for (u32 k = 0; k < 3; k++)
			reap_transmitted(&b, 1);
		assert_null(rig_reap(&b.rig, 1, &n_written));
		assert_int_equal(b.stats->tx_waits, 1); /* further kicks do not try again */

		b.mock.room = UINT32_MAX;
		b.mock.port.ready(b.mock.port.owner);
		assert_int_equal(b.mock.n_frames, 10);
		for (u32 k = 0; k < 7; k++)
			reap_transmitted(&b, 1);
		for (u8 k = 0; k < 10; k++)
			assert_int_equal(b.mock.frames[k].bytes[20], k);

		/* And the doorbell works again. */
		transmit(&b, 1, &header, frame, 64);
		assert_int_equal(b.mock.n_frames, 11);
		bench_stop(&b);
	}
}

static void transmit_segments_to_full_port_are_sent_once_each(void **state)
{
	struct virtio_net_hdr header;
	struct bench b;
	u8 *frame;
	u32 n_written;

	bench_make(&b, 0, 0, 1, 0);
	bench_start(&b, &split, NULL);
	frame = a_large_send(false, 14000, &header);
	b.mock.room = 4;
	transmit(&b, 1, &header, frame, 14054);
	assert_null(rig_reap(&b.rig, 1, &n_written));
	b.mock.room = 3;
	b.mock.port.ready(b.mock.port.owner);
	assert_null(rig_reap(&b.rig, 1, &n_written));
	b.mock.room = 100;
	b.mock.port.ready(b.mock.port.owner);
	reap_transmitted(&b, 1);
	assert_int_equal(b.mock.n_frames, 10);
	for (u32 k = 0; k < 10; k++)
		assert_memory_equal(b.mock.frames[k].bytes + 54, frame + 54 + 1400 * k, 1400);

	/* The next one starts at its beginning. */
	transmit(&b, 1, &header, frame, 14054);
	assert_int_equal(b.mock.n_frames, 20);
	bench_stop(&b);
}

static void transmit_reset_while_waiting_forgets_progress(void **state)
{
	struct virtio_net_hdr header;
	struct bench b;
	u8 *frame;

	bench_make(&b, 0, 0, 1, 0);
	bench_start(&b, &split, NULL);
	frame = a_large_send(false, 14000, &header);
	b.mock.room = 4;
	transmit(&b, 1, &header, frame, 14054);
	assert_int_equal(rig_reset(&b.rig), 1);
	mock_forget(&b.mock);

	rig_restart(&b.rig, NULL);
	b.mock.room = 100;
	transmit(&b, 1, &header, frame, 14054);
	assert_int_equal(b.mock.n_frames, 0); /* the port has not said that it is ready */
	b.mock.port.ready(b.mock.port.owner);
	assert_int_equal(b.mock.n_frames, 10);
	bench_stop(&b);
}

static void transmit_lost_by_port_is_counted_and_given_back(void **state)
{
	struct virtio_net_hdr header = { 0 };
	struct bench b;

	bench_make(&b, 0, 0, 1, 0);
	bench_start(&b, &split, NULL);
	b.mock.error = -EIO;
	transmit(&b, 1, &header, a_frame(peer_mac, 60), 60);
	reap_transmitted(&b, 1);
	b.mock.error = -EINVAL; /* a port's word for it is not the guest's mistake */
	transmit(&b, 1, &header, a_frame(peer_mac, 60), 60);
	reap_transmitted(&b, 1);
	assert_int_equal(b.stats->tx_lost, 2);
	assert_int_equal(b.stats->tx_malformed, 0);
	bench_stop(&b);
}

static void refill_transmit(struct mock *m)
{
	struct bench *b = container_of(m, struct bench, mock);
	static u32 token;
	static u8 *p;
	u32 n_written;

	/*
	 * What was sent is given back at the end of a turn only, but a hostile driver does not wait
	 * for that to offer it again. This one does, so it is given back now.
	 */
	vdev_flush(b->vdev);
	p = b->rig.ram + RIG_HALF_BYTES - 4096; /* zeroes */
	while (rig_reap(&b->rig, 1, &n_written))
		;
	while (b->rig.vq[1].n_free)
		assert_int_equal(
			virtqueue_add_buf(&b->rig.vq[1], &(struct span){ p, 100 }, 1, 0, &token),
			0);
	virtqueue_kick_prepare(&b->rig.vq[1]);
}

static void hostile_G38_endless_sending_gets_a_turn_at_a_time(void **state)
{
	for (unsigned int i = 0; i < 8; i++) {
		struct rig_options o = rig_combination(i);
		struct virtio_net_hdr header = { 0 };
		struct bench b;
		u32 sent, n_written;

		bench_make(&b, 0, 0, 1, 0);
		bench_start(&b, &o, NULL);
		b.mock.meanwhile = refill_transmit;
		transmit(&b, 1, &header, a_frame(peer_mac, 60), 60);
		sent = b.mock.n_meanwhile;
		assert_int_equal(sent, 512);
		assert_non_null(b.timer);
		vdev_kick(b.vdev, 1); /* does not lengthen the turn */
		assert_int_equal(b.mock.n_meanwhile, sent);

		for (u32 turn = 2; turn < 5; turn++) {
			struct clock_timer *t = b.timer;

			b.timer = NULL;
			t->fired(t);
			assert_int_equal(b.mock.n_meanwhile, 512 * turn);
			assert_non_null(b.timer);
		}

		/* It ends when the guest does: everything goes out, no timer is left. */
		b.mock.meanwhile = NULL;
		struct clock_timer *t = b.timer;

		b.timer = NULL;
		t->fired(t);
		assert_null(b.timer);
		assert_false(devq_pending(&b.vdev->queues[1].q));
		mock_forget(&b.mock);
		while (rig_reap(&b.rig, 1, &n_written))
			;
		transmit(&b, 1, &header, a_frame(peer_mac, 60), 60);
		assert_int_equal(b.mock.n_frames, 1);
		bench_stop(&b);
	}
}

static void hostile_G38_tiny_segments_end_the_turn(void **state)
{
	struct virtio_net_hdr header;
	struct bench b;
	u8 *frame;
	u32 n_written;

	bench_make(&b, 0, 0, 1, 0);
	bench_start(&b, &split, NULL);
	frame = a_large_send(false, 2000, &header);
	header.gso_size = le16_of(10);
	b.rig.deaf = true;
	b.mock.room = 200;
	for (u32 k = 0; k < 6; k++)
		transmit(&b, 1, &header, frame, 2054);
	vdev_kick(b.vdev, 1);
	assert_int_equal(b.mock.n_frames, 200);
	mock_forget(&b.mock);
	b.mock.room = 256;
	b.mock.port.ready(b.mock.port.owner);
	assert_int_equal(b.mock.n_frames, 256);
	mock_forget(&b.mock);
	b.mock.room = UINT32_MAX;
	b.mock.error = -EIO;
	b.mock.port.ready(b.mock.port.owner);
	/* The rest of the third one, and two more with 200 each, are all that a turn holds. */
	for (u32 k = 0; k < 5; k++)
		assert_non_null(rig_reap(&b.rig, 1, &n_written));
	assert_null(rig_reap(&b.rig, 1, &n_written));
	assert_non_null(b.timer);
	bench_stop(&b);
	assert_null(b.timer); /* a reset ends it */
}

/* ---- receive ---------------------------------------------------------------------------- */

static const int no_merge[] = { VIRTIO_NET_F_MAC, VIRTIO_NET_F_GUEST_CSUM, -1 };

static void receive_arrives_whole_in_every_ring_and_buffer_kind(void **state)
{
	for (unsigned int i = 0; i < 16; i++) {
		struct rig_options o = rig_combination(i % 8);
		bool merge = i >= 8;
		struct bench b;

		bench_make(&b, 0, 0, 1, 0);
		bench_start(&b, &o, merge ? NULL : no_merge);
		assert_true(b.mock.receiving);
		for (u32 k = 0; k < 200; k++) {
			size_t n = 14 + rig_random(&random_state) % 1501;
			const u8 *frame = a_frame(own_mac, n);
			u8 *p = post(&b, 0, 1526);
			struct virtio_net_hdr header;
			u32 n_written;

			assert_true(bring(&b, frame, n));
			assert_ptr_equal(rig_reap(&b.rig, 0, &n_written), p);
			assert_int_equal(n_written, HEADER + n);
			memcpy(&header, p, HEADER);
			assert_int_equal(header.flags, 0);
			assert_int_equal(header.gso_type, 0);
			assert_int_equal(le16_get(header.num_buffers), 1); /* D-NET-5.1.9.4.1-01 */
			assert_memory_equal(p + HEADER, frame, n);
			for (size_t at = HEADER + n; at < 1526; at++)
				assert_int_equal(p[at], 0xee);
		}
		assert_int_equal(b.stats->rx_frames, 200);
		bench_stop(&b);
	}
}

static void receive_merged_fills_all_but_the_last_and_signals_once(void **state)
{
	for (unsigned int i = 0; i < 8; i++) {
		struct rig_options o = rig_combination(i);
		static const size_t sizes[] = { 12, 13, 100, 12, 700, 1000 };
		struct virtio_net_hdr header;
		struct bench b;
		u8 *p[6], whole[2000];
		size_t at = 0;
		u64 n_used;

		bench_make(&b, 0, 0, 1, 0);
		bench_start(&b, &o, NULL);
		for (u32 k = 0; k < 6; k++)
			p[k] = post(&b, 0, sizes[k]);
		n_used = b.rig.n_used[0];

		const u8 *frame = a_frame(own_mac, 1400);

		assert_true(bring(&b, frame, 1400));
		assert_int_equal(b.rig.n_used[0], n_used + 1);
		for (u32 k = 0; k < 6; k++) {
			u32 n_written;

			assert_ptr_equal(rig_reap(&b.rig, 0, &n_written), p[k]);
			/* D-NET-5.1.9.4.1-03 */
			assert_int_equal(n_written, k < 5 ? sizes[k] : 1412 - 837);
			memcpy(whole + at, p[k], n_written);
			at += n_written;
		}
		memcpy(&header, whole, HEADER);
		assert_int_equal(le16_get(header.num_buffers), 6); /* D-NET-5.1.9.4.1-02 */
		assert_int_equal(at, 1412);
		assert_memory_equal(whole + HEADER, frame, 1400);
		bench_stop(&b);
	}
}

/* No buffers: one refusal, the port is stopped, nothing more happens until the guest kicks. */
static void hostile_G30_receive_without_buffers_stops_the_port(void **state)
{
	for (unsigned int i = 0; i < 8; i++) {
		struct rig_options o = rig_combination(i);
		struct bench b;
		u32 n_written;

		bench_make(&b, 0, 0, 1, 0);
		bench_start(&b, &o, NULL);
		for (u32 round = 1; round <= 100; round++) {
			const u8 *frame = a_frame(own_mac, 60);
			u8 *p;

			assert_false(bring(&b, frame, 60));
			assert_false(b.mock.receiving);
			assert_int_equal(b.mock.n_receiving_calls, 2 * round);
			assert_int_equal(b.stats->rx_waits, round);

			p = post(&b, 0, 1526);
			assert_true(b.mock.receiving); /* the kick was asked for and came */
			assert_true(bring(&b, frame, 60));
			assert_ptr_equal(rig_reap(&b.rig, 0, &n_written), p);
		}
		bench_stop(&b);
	}
}

static void receive_merged_with_too_few_buffers_leaves_them_in_the_ring(void **state)
{
	for (unsigned int i = 0; i < 8; i++) {
		struct rig_options o = rig_combination(i);
		struct bench b;
		u8 *p[4];
		u32 n_written;

		bench_make(&b, 0, 0, 1, 0);
		bench_start(&b, &o, NULL);
		for (u32 k = 0; k < 3; k++)
			p[k] = post(&b, 0, 300);

		const u8 *frame = a_frame(own_mac, 1000);

		assert_false(bring(&b, frame, 1000));
		assert_null(rig_reap(&b.rig, 0, &n_written));
		/* A smaller one fits. */
		p[3] = post(&b, 0, 300);
		assert_true(b.mock.receiving);
		assert_true(bring(&b, frame, 1000));
		for (u32 k = 0; k < 4; k++) {
			assert_ptr_equal(rig_reap(&b.rig, 0, &n_written), p[k]);
			assert_int_equal(n_written, k < 3 ? 300 : 112);
		}
		bench_stop(&b);
	}
}

static void hostile_G30_receive_larger_than_the_whole_ring_is_dropped(void **state)
{
	struct rig_options o = { .queue_size = 4 };
	struct bench b;
	u32 n_written;
	u8 *p;

	bench_make(&b, 0, 0, 1, 0);
	bench_start(&b, &o, NULL);
	p = post(&b, 0, 100);
	for (u32 k = 0; k < 3; k++)
		post(&b, 0, 100);
	/* Waiting for more would be waiting for ever. */
	assert_true(bring(&b, a_frame(own_mac, 1000), 1000));
	assert_int_equal(b.stats->rx_no_fit, 1);
	assert_true(b.mock.receiving);
	assert_true(bring(&b, a_frame(own_mac, 60), 60));
	assert_ptr_equal(rig_reap(&b.rig, 0, &n_written), p);
	bench_stop(&b);
}

static void hostile_G30_receive_into_more_than_64_buffers_is_dropped(void **state)
{
	struct rig_options o = { .queue_size = 256 };
	struct bench b;
	u32 n_written;

	bench_make(&b, 0, 0, 1, 0);
	bench_start(&b, &o, NULL);
	for (u32 k = 0; k < 200; k++)
		post(&b, 0, 12);
	assert_true(bring(&b, a_frame(own_mac, 64 * 12 - HEADER + 1), 64 * 12 - HEADER + 1));
	assert_int_equal(b.stats->rx_no_fit, 1);
	assert_null(rig_reap(&b.rig, 0, &n_written));
	assert_true(bring(&b, a_frame(own_mac, 64 * 12 - HEADER), 64 * 12 - HEADER));
	for (u32 k = 0; k < 64; k++)
		assert_non_null(rig_reap(&b.rig, 0, &n_written));
	assert_null(rig_reap(&b.rig, 0, &n_written));
	bench_stop(&b);
}

static void hostile_G30_receive_without_merge_beyond_the_buffer_is_dropped(void **state)
{
	struct bench b;
	u32 n_written;
	u8 *p;

	bench_make(&b, 0, 0, 1, 0);
	bench_start(&b, &split, no_merge);
	p = post(&b, 0, 500);
	post(&b, 0, 1526);
	assert_true(bring(&b, a_frame(own_mac, 489), 489));
	assert_int_equal(b.stats->rx_no_fit, 1);
	assert_null(rig_reap(&b.rig, 0, &n_written));
	assert_true(bring(&b, a_frame(own_mac, 488), 488));
	assert_ptr_equal(rig_reap(&b.rig, 0, &n_written), p);
	assert_int_equal(n_written, 500);
	bench_stop(&b);
}

static void hostile_G30_receive_buffer_without_room_for_header_breaks(void **state)
{
	struct bench b;

	bench_make(&b, 0, 0, 1, 0);
	bench_start(&b, &split, NULL);
	post(&b, 0, 11);
	assert_false(bring(&b, a_frame(own_mac, 60), 60));
	assert_true(b.vdev->broken);
	assert_string_equal(b.vdev->fault_what, "receive-buffer-unfit");
	assert_false(b.mock.receiving);
	assert_int_equal(b.rig.n_config, 1);
	assert_false(bring(&b, a_frame(own_mac, 60), 60));
	assert_int_equal(b.rig.n_config, 1);

	/* Full service after a reset. */
	assert_int_equal(rig_reset(&b.rig), 1);
	rig_restart(&b.rig, NULL);
	post(&b, 0, 1526);
	assert_true(bring(&b, a_frame(own_mac, 60), 60));
	bench_stop(&b);
}

static void hostile_G10_receive_buffer_with_readable_part_breaks(void **state)
{
	struct bench b;
	u8 *p;

	bench_make(&b, 0, 0, 1, 0);
	bench_start(&b, &split, NULL);
	post(&b, 0, 20);
	p = rig_alloc(&b.rig, 2000);

	struct span v[] = { { p, 12 }, { p + 12, 1900 } };

	rig_submit(&b.rig, 0, v, 1, 1, p);
	assert_false(bring(&b, a_frame(own_mac, 600), 600));
	assert_string_equal(b.vdev->fault_what, "receive-buffer-unfit");
	bench_stop(&b);
}

static void receive_flags_follow_guest_csum(void **state)
{
	static const int without[] = { VIRTIO_NET_F_MAC, VIRTIO_NET_F_MRG_RXBUF, -1 };
	static const struct net_offload valid = { .flags = VIRTIO_NET_HDR_F_DATA_VALID };
	struct bench b;
	u8 *p;

	bench_make(&b, 0, 0, 1, 0);
	bench_start(&b, &split, NULL);
	assert_int_equal(b.mock.guest_can, NETPORT_CSUM);
	p = post(&b, 0, 1526);
	assert_true(bring_with(&b, &valid, a_frame(own_mac, 60), 60));
	assert_int_equal(p[0], VIRTIO_NET_HDR_F_DATA_VALID);
	rig_reset(&b.rig);
	assert_int_equal(b.mock.guest_can, 0);

	rig_restart(&b.rig, without);
	assert_int_equal(b.mock.guest_can, 0);
	p = post(&b, 0, 1526);
	assert_true(bring_with(&b, &valid, a_frame(own_mac, 60), 60));
	assert_int_equal(p[0], 0); /* D-NET-5.1.9.4.1-05 */
	bench_stop(&b);
}

/* The checksum field falls within a buffer, across two, at an odd place. */
static void receive_checksum_is_completed_for_a_guest_that_cannot(void **state)
{
	static const int without[] = { VIRTIO_NET_F_MAC, VIRTIO_NET_F_MRG_RXBUF, -1 };

	for (size_t first = HEADER; first < HEADER + 60; first++) {
		struct virtio_net_hdr header;
		struct net_offload o = { .flags = 1, .csum_start = 34, .csum_offset = 16 };
		u8 *frame = a_large_send(false, 301, &header), whole[600];
		size_t at = 0, n = 355;
		struct bench b;
		u32 n_written;
		u8 *p;

		bench_make(&b, 0, 0, 1, 0);
		bench_start(&b, &split, without);
		memcpy(frame, own_mac, 6);
		post(&b, 0, first);
		post(&b, 0, 13);
		post(&b, 0, 600);
		assert_true(bring_with(&b, &o, frame, n));
		while ((p = rig_reap(&b.rig, 0, &n_written))) {
			memcpy(whole + at, p, n_written);
			at += n_written;
		}
		assert_int_equal(at, HEADER + n);
		assert_int_equal(whole[0], 0);
		assert_memory_equal(whole + HEADER, frame, 50);
		assert_memory_equal(whole + HEADER + 52, frame + 52, n - 52);
		assert_true(tcp_verifies(whole + HEADER, n));
		bench_stop(&b);
	}
}

static void receive_large_passes_only_if_asked_for(void **state)
{
	struct net_offload o = { .flags = 1,
				 .gso_type = 1,
				 .gso_size = 1400,
				 .csum_start = 34,
				 .csum_offset = 16,
				 .hdr_len = 54 };
	struct virtio_net_hdr header;
	le64 wire = le64_of(1 << VIRTIO_NET_F_GUEST_CSUM);
	struct bench b;
	u8 *frame, *p;

	bench_make(&b, ALL_TSO, ALL_TSO, 1, 0);
	bench_start(&b, &split, NULL);
	assert_int_equal(b.mock.guest_can, ALL_TSO);
	frame = a_large_send(false, 30000, &header);
	memcpy(frame, own_mac, 6);
	p = post(&b, 0, 65562);
	assert_true(bring_with(&b, &o, frame, 30054));
	memcpy(&header, p, HEADER);
	assert_int_equal(header.flags, 1);
	assert_int_equal(header.gso_type, 1);
	assert_int_equal(le16_get(header.gso_size), 1400);
	assert_int_equal(le16_get(header.hdr_len), 54);
	assert_int_equal(le16_get(header.csum_start), 34);
	assert_int_equal(le16_get(header.csum_offset), 16);
	assert_memory_equal(p + HEADER, frame, 30054);

	/* Switched off while running (VIRTIO_NET_CTRL_GUEST_OFFLOADS). */
	assert_int_equal(control(&b, 5, 0, &wire, 8), VIRTIO_NET_OK);
	assert_int_equal(b.mock.guest_can, NETPORT_CSUM);
	post(&b, 0, 65562);
	assert_true(bring_with(&b, &o, frame, 30054));
	assert_int_equal(b.stats->rx_not_asked, 1);
	assert_int_equal(b.stats->rx_frames, 1);
	bench_stop(&b);
}

static void receive_beyond_mtu_is_dropped(void **state)
{
	struct bench b;
	u8 *frame;

	bench_make(&b, 0, 0, 1, 1400);
	bench_start(&b, &split, NULL);
	assert_int_equal(control(&b, 0, VIRTIO_NET_CTRL_RX_PROMISC, "\1", 1), VIRTIO_NET_OK);
	for (u32 k = 0; k < 4; k++)
		post(&b, 0, 2000);
	assert_true(bring(&b, a_frame(own_mac, 1414), 1414));
	assert_int_equal(b.stats->rx_frames, 1);
	assert_true(bring(&b, a_frame(own_mac, 1415), 1415)); /* D-NET-5.1.4.1-05 */
	assert_int_equal(b.stats->rx_malformed, 1);
	frame = (u8 *)a_frame(own_mac, 1418);
	be16_put(frame + 12, ETH_TYPE_VLAN);
	assert_true(bring(&b, frame, 1418));
	assert_int_equal(b.stats->rx_frames, 2);
	assert_true(bring(&b, a_frame(own_mac, 13), 13));
	assert_int_equal(b.stats->rx_malformed, 2);
	bench_stop(&b);
}

static void receive_before_driver_and_after_reset_is_refused(void **state)
{
	struct bench b;

	bench_make(&b, 0, 0, 1, 0);
	assert_false(b.mock.receiving);
	assert_false(bring(&b, a_frame(own_mac, 60), 60));
	bench_start(&b, &split, NULL);
	post(&b, 0, 1526);
	rig_reset(&b.rig);
	assert_false(b.mock.receiving);
	assert_false(bring(&b, a_frame(own_mac, 60), 60));
	rig_restart(&b.rig, NULL);
	bench_stop(&b);
}

/* ---- filters ---------------------------------------------------------------------------- */

static const u8 mac_broadcast[6] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff };
static const u8 mac_group[6] = { 0x01, 0, 0x5e, 1, 2, 3 };
static const u8 mac_other[6] = { 0x02, 9, 8, 7, 6, 5 };

/* Whether a frame to `mac` gets through, with a VLAN tag unless `vlan` is -1. */
static bool passes(struct bench *b, const u8 *mac, int vlan)
{
	u8 *frame = (u8 *)a_frame(mac, 100);
	u64 before = b->stats->rx_frames + b->stats->rx_filtered, passed = b->stats->rx_frames;
	u32 n_written;

	if (vlan >= 0) {
		be16_put(frame + 12, ETH_TYPE_VLAN);
		be16_put(frame + 14, (u16)(0x6000 | vlan));
	}
	b->rig.low_used = b->rig.high_used = 4 << 20;
	post(b, 0, 1526);
	assert_true(bring(b, frame, 100));
	assert_int_equal(b->stats->rx_frames + b->stats->rx_filtered, before + 1);
	while (rig_reap(&b->rig, 0, &n_written))
		;
	return b->stats->rx_frames > passed;
}

/* Letters of those that pass, of: own, other unicast, group, broadcast. */
static const char *who_passes(struct bench *b)
{
	static char who[5];
	char *p = who;

	if (passes(b, own_mac, -1))
		*p++ = 'o';
	if (passes(b, mac_other, -1))
		*p++ = 'u';
	if (passes(b, mac_group, -1))
		*p++ = 'g';
	if (passes(b, mac_broadcast, -1))
		*p++ = 'b';
	*p = '\0';
	return who;
}

static void filter_modes_rank_as_the_specification_says(void **state)
{
	/* Modes by command: promisc, allmulti, alluni, nomulti, nouni, nobcast. */
	static const struct {
		u8 modes[6];
		const char *pass;
	} rows[] = {
		{ { 0, 0, 0, 0, 0, 0 }, "ob" },   { { 1, 0, 0, 0, 0, 0 }, "ougb" },
		{ { 1, 0, 0, 1, 1, 1 }, "ougb" }, { { 0, 1, 0, 0, 0, 0 }, "ogb" },
		{ { 0, 1, 0, 1, 0, 0 }, "ob" },   { { 0, 0, 1, 0, 0, 0 }, "oub" },
		{ { 0, 0, 1, 0, 1, 0 }, "b" },    { { 0, 0, 0, 0, 1, 0 }, "b" },
		{ { 0, 0, 0, 1, 0, 0 }, "ob" },   { { 0, 0, 0, 0, 0, 1 }, "o" },
		{ { 0, 1, 0, 0, 0, 1 }, "og" },   { { 0, 1, 1, 0, 0, 0 }, "ougb" },
		{ { 0, 1, 1, 1, 1, 1 }, "" },
	};
	struct bench b;

	bench_make(&b, 0, 0, 1, 0);
	bench_start(&b, &split, NULL);
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		for (u8 mode = 0; mode < 6; mode++)
			assert_int_equal(
				control(&b, VIRTIO_NET_CTRL_RX, mode, &rows[i].modes[mode], 1),
				VIRTIO_NET_OK);
		assert_string_equal(who_passes(&b), rows[i].pass);
	}
	/* A reset takes all modes back. */
	rig_reset(&b.rig);
	rig_restart(&b.rig, NULL);
	assert_string_equal(who_passes(&b), "ob");
	bench_stop(&b);
}

static void filter_is_off_for_a_driver_without_ctrl_rx(void **state)
{
	struct bench b;

	bench_make(&b, 0, 0, 1, 0);
	bench_start(&b, &split, no_merge);
	assert_string_equal(who_passes(&b), "ougb");
	assert_true(passes(&b, own_mac, 77)); /* D-NET-5.1.9.5.3.1-01 */
	bench_stop(&b);
}

/* le32 n, n macs; le32 m, m macs. */
static size_t mac_table(u8 *p, u32 n_unicast, u32 n_group, const u8 *unicast, const u8 *group)
{
	le32 n = le32_of(n_unicast);
	size_t at = 4;

	memcpy(p, &n, 4);
	for (u32 i = 0; i < n_unicast; i++, at += 6) {
		memcpy(p + at, unicast, 6);
		p[at + 5] ^= (u8)(n_unicast - 1 - i); /* the one that matters comes last */
	}
	n = le32_of(n_group);
	memcpy(p + at, &n, 4);
	at += 4;
	for (u32 i = 0; i < n_group; i++, at += 6)
		memcpy(p + at, group, 6);
	return at;
}

static void filter_mac_table_lets_listed_addresses_in(void **state)
{
	static u8 data[4096];
	struct bench b;

	bench_make(&b, 0, 0, 1, 0);
	bench_start(&b, &split, NULL);
	assert_int_equal(control(&b, 1, 0, data, mac_table(data, 1, 0, mac_other, NULL)), 0);
	assert_string_equal(who_passes(&b), "oub");
	assert_int_equal(control(&b, 1, 0, data, mac_table(data, 0, 1, NULL, mac_group)), 0);
	assert_string_equal(who_passes(&b), "ogb");
	assert_int_equal(control(&b, 1, 0, data, mac_table(data, 64, 64, mac_other, mac_group)), 0);
	assert_string_equal(who_passes(&b), "ougb");
	assert_int_equal(control(&b, 1, 0, data, mac_table(data, 64, 0, mac_group, NULL)), 0);
	assert_string_equal(who_passes(&b), "ob");
	/* More than we keep: all of that kind, rather than too few. */
	assert_int_equal(control(&b, 1, 0, data, mac_table(data, 65, 0, mac_group, NULL)), 0);
	assert_string_equal(who_passes(&b), "oub");
	assert_int_equal(control(&b, 1, 0, data, mac_table(data, 0, 0, NULL, NULL)), 0);
	assert_string_equal(who_passes(&b), "ob");
	bench_stop(&b);
}

static void hostile_G29_mac_table_that_lies_is_refused_and_changes_nothing(void **state)
{
	static u8 data[4096];
	static const u32 lies[] = { 2, 3, 0x2aaaaaab, 0x7fffffff, 0x80000000, 0xffffffff };
	struct bench b;
	size_t n;

	bench_make(&b, 0, 0, 1, 0);
	bench_start(&b, &split, NULL);
	n = mac_table(data, 1, 1, mac_other, mac_group);
	assert_int_equal(control(&b, 1, 0, data, n), VIRTIO_NET_OK);
	for (size_t i = 0; i < ARRAY_SIZE(lies); i++) {
		le32 lie = le32_of(lies[i]);

		mac_table(data, 1, 1, mac_broadcast, mac_broadcast);
		memcpy(data, &lie, 4);
		assert_int_equal(control(&b, 1, 0, data, n), VIRTIO_NET_ERR);
		mac_table(data, 1, 1, mac_broadcast, mac_broadcast);
		memcpy(data + 10, &lie, 4);
		assert_int_equal(control(&b, 1, 0, data, n), VIRTIO_NET_ERR);
	}
	mac_table(data, 1, 1, mac_broadcast, mac_broadcast);
	for (size_t shorter = 0; shorter < n; shorter++)
		assert_int_equal(control(&b, 1, 0, data, shorter), VIRTIO_NET_ERR);
	assert_int_equal(control(&b, 1, 0, data, n + 1), VIRTIO_NET_ERR);
	assert_string_equal(who_passes(&b), "ougb");
	bench_stop(&b);
}

static void filter_vlan_lets_listed_tags_in(void **state)
{
	struct bench b;
	le16 id = le16_of(4095);

	bench_make(&b, 0, 0, 1, 0);
	bench_start(&b, &split, NULL);
	assert_false(passes(&b, own_mac, 4095));
	assert_int_equal(control(&b, 2, 0, &id, 2), VIRTIO_NET_OK);
	assert_true(passes(&b, own_mac, 4095));
	assert_false(passes(&b, own_mac, 4094));
	assert_false(passes(&b, own_mac, 0));
	assert_false(passes(&b, mac_other, 4095)); /* both filters hold */
	assert_true(passes(&b, own_mac, -1));
	assert_int_equal(control(&b, 2, 1, &id, 2), VIRTIO_NET_OK);
	assert_false(passes(&b, own_mac, 4095));
	assert_int_equal(control(&b, 0, 0, "\1", 1), VIRTIO_NET_OK);
	assert_true(passes(&b, own_mac, 4095)); /* D-NET-5.1.9.5.1.1-02 */
	bench_stop(&b);
}

/* ---- control ---------------------------------------------------------------------------- */

static void control_mac_addr_set_changes_config_and_filter_until_reset(void **state)
{
	struct bench b;
	u8 mac[6];
	u32 generation;

	bench_make(&b, 0, 0, 1, 0);
	bench_start(&b, &split, NULL);
	generation = b.vdev->config_generation;
	assert_int_equal(control(&b, 1, 1, mac_other, 6), VIRTIO_NET_OK);
	vdev_config_read(b.vdev, 0, mac, 6);
	assert_memory_equal(mac, mac_other, 6);
	assert_int_not_equal(b.vdev->config_generation, generation);
	assert_string_equal(who_passes(&b), "ub");
	assert_int_equal(control(&b, 1, 1, mac_group, 6), VIRTIO_NET_ERR);
	assert_int_equal(control(&b, 1, 1, own_mac, 5), VIRTIO_NET_ERR);
	assert_int_equal(control(&b, 1, 1, "\2\2\2\2\2\2\2", 7), VIRTIO_NET_ERR);
	assert_int_equal(control(&b, 1, 1, NULL, 0), VIRTIO_NET_ERR);
	vdev_config_read(b.vdev, 0, mac, 6);
	assert_memory_equal(mac, mac_other, 6);
	rig_reset(&b.rig);
	vdev_config_read(b.vdev, 0, mac, 6);
	assert_memory_equal(mac, own_mac, 6);
	rig_restart(&b.rig, NULL);
	bench_stop(&b);
}

static void hostile_G29_control_wrong_lengths_and_values_are_errors(void **state)
{
	static const u8 ones[16] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
				     0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff };
	static const struct {
		u8 class, commands, n_bytes;
	} rows[] = { { 0, 6, 1 }, { 1, 2, 0 }, { 2, 2, 2 }, { 3, 1, 0 }, { 4, 1, 2 }, { 5, 1, 8 } };
	struct bench b;

	bench_make(&b, ALL_TSO, ALL_TSO, 4, 0);
	bench_start(&b, &split, NULL);
	for (u32 group = 0; group < 256; group++)
		for (u32 command = 0; command < 256; command++)
			for (size_t n = 0; n < 16; n += group < 6 && command < 6 ? 1 : 5) {
				bool sane = group < 6 && command < rows[group].commands &&
					    n == rows[group].n_bytes;
				/* All ones are an on, and out of range for all the rest. */
				bool ok = sane && (group == 0 || group == 3);

				b.rig.low_used = b.rig.high_used = 4 << 20;
				assert_int_equal(control(&b, (u8)group, (u8)command, ones, n), !ok);
			}
	assert_false(b.vdev->broken);
	assert_int_equal(b.stats->ctrl_commands - b.stats->ctrl_errors, 7);
	bench_stop(&b);
}

static void hostile_G29_control_ranges_are_kept(void **state)
{
	static const u16 bad_ids[] = { 4096, 4097, 0x7fff, 0x8000, 0xffff };
	static const u16 bad_pairs[] = { 0, 5, 0x7fff, 0x8000, 0xffff };
	struct bench b;
	le16 wire;

	bench_make(&b, 0, 0, 4, 0);
	bench_start(&b, &split, NULL);
	for (u32 i = 0; i < 5; i++) {
		wire = le16_of(bad_ids[i]);
		assert_int_equal(control(&b, 2, 0, &wire, 2), VIRTIO_NET_ERR);
		assert_int_equal(control(&b, 2, 1, &wire, 2), VIRTIO_NET_ERR);
		wire = le16_of(bad_pairs[i]);
		assert_int_equal(control(&b, 4, 0, &wire, 2), VIRTIO_NET_ERR);
	}
	for (u16 pairs = 1; pairs <= 4; pairs++) {
		wire = le16_of(pairs);
		assert_int_equal(control(&b, 4, 0, &wire, 2), VIRTIO_NET_OK);
	}
	bench_stop(&b);
}

static void hostile_G29_control_without_room_for_ack_breaks(void **state)
{
	struct bench b;
	u8 *p;

	bench_make(&b, 0, 0, 1, 0);
	bench_start(&b, &split, NULL);
	p = rig_alloc(&b.rig, 3);
	p[2] = 1;
	rig_submit(&b.rig, 2, &(struct span){ p, 3 }, 1, 0, p);
	assert_true(b.vdev->broken);
	assert_string_equal(b.vdev->fault_what, "control-no-ack");
	assert_int_equal(b.vdev->fault_queue, 2);
	assert_int_equal(rig_reset(&b.rig), 1);
	rig_restart(&b.rig, NULL);
	assert_string_equal(who_passes(&b), "ob"); /* the command was not carried out */
	assert_int_equal(control(&b, 0, 0, "\1", 1), VIRTIO_NET_OK);
	bench_stop(&b);
}

static void hostile_G29_control_without_any_command_is_an_error(void **state)
{
	struct bench b;
	u8 *p;

	bench_make(&b, 0, 0, 1, 0);
	bench_start(&b, &split, NULL);
	p = rig_alloc(&b.rig, 100);
	assert_int_equal(rig_transact(&b.rig, 2, &(struct span){ p, 100 }, 0, 1), 1);
	assert_int_equal(p[0], VIRTIO_NET_ERR);
	assert_int_equal(p[1], 0);

	struct span one[] = { { p + 10, 1 }, { p + 20, 1 } };

	assert_int_equal(rig_transact(&b.rig, 2, one, 1, 1), 1);
	assert_int_equal(p[20], VIRTIO_NET_ERR);
	bench_stop(&b);
}

static void control_commands_of_features_not_negotiated_are_errors(void **state)
{
	static const int only_queue[] = { VIRTIO_NET_F_CTRL_VQ, -1 };
	static u8 data[16];
	struct bench b;

	bench_make(&b, 0, 0, 4, 0);
	bench_start(&b, &split, only_queue);
	for (u8 mode = 0; mode < 6; mode++)
		assert_int_equal(control(&b, 0, mode, "\1", 1), VIRTIO_NET_ERR);
	assert_int_equal(control(&b, 1, 0, data, 8), VIRTIO_NET_ERR);
	assert_int_equal(control(&b, 1, 1, own_mac, 6), VIRTIO_NET_ERR);
	assert_int_equal(control(&b, 2, 0, data, 2), VIRTIO_NET_ERR);
	assert_int_equal(control(&b, 3, 0, NULL, 0), VIRTIO_NET_ERR);
	assert_int_equal(control(&b, 4, 0, "\1\0", 2), VIRTIO_NET_ERR);
	assert_int_equal(control(&b, 5, 0, data, 8), VIRTIO_NET_ERR);
	bench_stop(&b);
}

static void control_offloads_beyond_the_negotiated_are_refused(void **state)
{
	static const int csum[] = { VIRTIO_NET_F_CTRL_VQ, VIRTIO_NET_F_CTRL_GUEST_OFFLOADS,
				    VIRTIO_NET_F_GUEST_CSUM, -1 };
	struct bench b;
	le64 wire = le64_of(1 << VIRTIO_NET_F_GUEST_CSUM | 1 << VIRTIO_NET_F_GUEST_TSO4);

	bench_make(&b, ALL_TSO, ALL_TSO, 1, 0);
	bench_start(&b, &split, csum);
	assert_int_equal(control(&b, 5, 0, &wire, 8), VIRTIO_NET_ERR);
	assert_int_equal(b.mock.guest_can, NETPORT_CSUM);
	wire = le64_of(1 << VIRTIO_NET_F_CSUM);
	assert_int_equal(control(&b, 5, 0, &wire, 8), VIRTIO_NET_ERR);
	wire = le64_of(0);
	assert_int_equal(control(&b, 5, 0, &wire, 8), VIRTIO_NET_OK);
	assert_int_equal(b.mock.guest_can, 0);
	bench_stop(&b);
}

static void announce_is_asked_for_and_acknowledged(void **state)
{
	struct bench b;

	bench_make(&b, 0, 0, 1, 0);
	device_net_announce(b.vdev); /* nobody is there */
	assert_int_equal(config_status(&b), VIRTIO_NET_S_LINK_UP);
	bench_start(&b, &split, NULL);
	device_net_announce(b.vdev);
	assert_int_equal(b.rig.n_config, 1);
	assert_int_equal(config_status(&b), VIRTIO_NET_S_LINK_UP | VIRTIO_NET_S_ANNOUNCE);
	assert_int_equal(control(&b, 3, 0, NULL, 0), VIRTIO_NET_OK);
	assert_int_equal(config_status(&b), VIRTIO_NET_S_LINK_UP); /* D-NET-5.1.9.5.4.2-01 */
	assert_int_equal(b.rig.n_config, 1);
	device_net_announce(b.vdev);
	rig_reset(&b.rig);
	assert_int_equal(config_status(&b), VIRTIO_NET_S_LINK_UP);

	rig_restart(&b.rig, no_merge);
	device_net_announce(b.vdev); /* it could not answer */
	assert_int_equal(config_status(&b), VIRTIO_NET_S_LINK_UP);
	bench_stop(&b);
}

/* ---- link ------------------------------------------------------------------------------- */

static void link_down_loses_frames_both_ways_and_tells_the_guest(void **state)
{
	struct virtio_net_hdr header = { 0 };
	struct bench b;

	bench_make(&b, 0, 0, 1, 0);
	bench_start(&b, &split, NULL);
	post(&b, 0, 1526);
	device_net_set_link(b.vdev, false);
	assert_int_equal(b.rig.n_config, 1);
	assert_int_equal(config_status(&b), 0);
	assert_false(b.mock.receiving);
	post(&b, 0, 1526);
	assert_false(b.mock.receiving); /* a kick does not plug it in */
	assert_true(bring(&b, a_frame(own_mac, 60), 60));
	assert_int_equal(b.stats->rx_link_down, 1);
	transmit(&b, 1, &header, a_frame(peer_mac, 60), 60);
	reap_transmitted(&b, 1);
	assert_int_equal(b.stats->tx_link_down, 1);
	assert_int_equal(b.mock.n_frames, 0);

	device_net_set_link(b.vdev, false);
	assert_int_equal(b.rig.n_config, 1);
	device_net_set_link(b.vdev, true);
	assert_int_equal(b.rig.n_config, 2);
	assert_int_equal(config_status(&b), VIRTIO_NET_S_LINK_UP);
	assert_true(b.mock.receiving);
	assert_true(bring(&b, a_frame(own_mac, 60), 60));
	assert_int_equal(b.stats->rx_frames, 1);
	bench_stop(&b);
}

static void link_needs_both_the_plug_and_the_port(void **state)
{
	struct bench b;

	bench_make(&b, 0, 0, 1, 0);
	bench_start(&b, &split, NULL);
	b.mock.port.link_up = false;
	b.mock.port.link_changed(b.mock.port.owner);
	assert_int_equal(config_status(&b), 0);
	device_net_set_link(b.vdev, false);
	device_net_set_link(b.vdev, true);
	assert_int_equal(config_status(&b), 0);
	b.mock.port.link_up = true;
	b.mock.port.link_changed(b.mock.port.owner);
	assert_int_equal(config_status(&b), VIRTIO_NET_S_LINK_UP);
	assert_int_equal(b.rig.n_config, 2);
	bench_stop(&b);
}

static void link_down_survives_a_reset(void **state)
{
	struct bench b;

	bench_make(&b, 0, 0, 1, 0);
	bench_start(&b, &split, NULL);
	device_net_set_link(b.vdev, false);
	rig_reset(&b.rig);
	rig_restart(&b.rig, NULL);
	assert_int_equal(config_status(&b), 0);
	assert_false(b.mock.receiving);
	bench_stop(&b);
}

/* ---- several pairs ---------------------------------------------------------------------- */

/* A TCP frame of flow `flow`, from the guest or its answer. */
static const u8 *a_flow(u16 flow, bool answer)
{
	struct virtio_net_hdr header;
	u8 *frame = a_large_send(false, 10, &header);
	static const u8 here[4] = { 10, 0, 0, 1 }, there[4] = { 10, 0, 7, 9 };

	memcpy(frame, answer ? own_mac : peer_mac, 6);
	memcpy(frame + 26, answer ? there : here, 4);
	memcpy(frame + 30, answer ? here : there, 4);
	be16_put(frame + 34, answer ? 80 : flow);
	be16_put(frame + 36, answer ? flow : 80);
	return frame;
}

/* The pair that gets an answer to `flow`. */
static int answered_on(struct bench *b, u16 flow)
{
	u32 n_written;

	assert_true(bring(b, a_flow(flow, true), 64));
	for (u16 pair = 0; pair < 4; pair++)
		if (rig_reap(&b->rig, 2 * pair, &n_written)) {
			post(b, 2 * pair, 1526);
			return pair;
		}
	return -1;
}

static void pairs_answers_go_where_the_flow_was_sent(void **state)
{
	struct virtio_net_hdr header = { 0 };
	struct bench b;
	u32 hashed[4] = { 0 };
	le16 wire = le16_of(3);

	bench_make(&b, 0, 0, 4, 0);
	bench_start(&b, &split, NULL);
	for (u16 pair = 0; pair < 4; pair++)
		for (u32 k = 0; k < 4; k++)
			post(&b, 2 * pair, 1526);

	/* D-NET-5.1.9.5.6.2-01: one pair at first, whatever was sent where. */
	transmit(&b, 5, &header, a_flow(1000, false), 64);
	assert_int_equal(answered_on(&b, 1000), 0);

	assert_int_equal(control(&b, 4, 0, &wire, 2), VIRTIO_NET_OK);
	for (u16 flow = 1000; flow < 1200; flow++) {
		u16 pair = flow % 3;

		b.rig.low_used = b.rig.high_used = 8 << 20;
		transmit(&b, VIRTIO_NET_TX_QUEUE(pair), &header, a_flow(flow, false), 64);
		reap_transmitted(&b, VIRTIO_NET_TX_QUEUE(pair));
		assert_int_equal(answered_on(&b, flow), pair);
		/* It moves. */
		pair = (u16)((pair + 1) % 3);
		transmit(&b, VIRTIO_NET_TX_QUEUE(pair), &header, a_flow(flow, false), 64);
		reap_transmitted(&b, VIRTIO_NET_TX_QUEUE(pair));
		assert_int_equal(answered_on(&b, flow), pair);
		mock_forget(&b.mock);
	}
	/* Flows that never sent are spread, and stay where they are. */
	for (u16 flow = 20000; flow < 20300; flow++) {
		int pair;

		b.rig.low_used = b.rig.high_used = 8 << 20;
		pair = answered_on(&b, flow);
		assert_int_equal(answered_on(&b, flow), pair);
		hashed[pair]++;
	}
	assert_true(hashed[0] > 50 && hashed[1] > 50 && hashed[2] > 50);
	assert_int_equal(hashed[3], 0); /* D-NET-5.1.9.5.6.2-02 */
	bench_stop(&b);
}

static void pairs_without_control_queue_are_those_that_are_enabled(void **state)
{
	static const int vhost_user[] = { VIRTIO_NET_F_MQ, -1 };
	struct virtio_net_hdr header = { 0 };
	struct bench b;

	bench_make(&b, 0, 0, 4, 0);
	bench_start(&b, &split, vhost_user);
	for (u16 pair = 0; pair < 4; pair++)
		post(&b, 2 * pair, 1526);
	transmit(&b, 5, &header, a_flow(1000, false), 64);
	assert_int_equal(answered_on(&b, 1000), 2);
	/* A pair that is disabled is passed by. */
	vdev_queue_enable(b.vdev, 4, false);
	assert_int_equal(answered_on(&b, 1000), 3);
	for (u16 pair = 0; pair < 4; pair++)
		vdev_queue_enable(b.vdev, 2 * pair, false);
	assert_false(bring(&b, a_flow(1000, true), 64));
	assert_false(b.mock.receiving);
	vdev_queue_enable(b.vdev, 0, true);
	assert_true(b.mock.receiving);
	assert_int_equal(answered_on(&b, 1000), 0);
	bench_stop(&b);
}

static void pairs_not_negotiated_leave_control_at_queue_2(void **state)
{
	static const int no_mq[] = { VIRTIO_NET_F_CTRL_VQ, VIRTIO_NET_F_CTRL_RX, -1 };
	struct bench b;

	bench_make(&b, 0, 0, 4, 0);
	bench_start(&b, &split, no_mq);
	assert_int_equal(b.control, 2);
	assert_int_equal(control(&b, 0, 0, "\1", 1), VIRTIO_NET_OK);
	bench_stop(&b);
}

/* ---- everything at once ----------------------------------------------------------------- */

/* Whatever is asked of it, in band, the device answers and is never broken. */
static void hostile_random_requests_never_break_the_device(void **state)
{
	for (unsigned int i = 0; i < 16; i++) {
		struct rig_options o = rig_combination(i % 8);
		u32 n_written;
		struct bench b;

		bench_make(&b, i < 8 ? 0 : ALL_TSO, ALL_TSO, 2, 0);
		bench_start(&b, &o, i & 1 ? NULL : no_merge);
		for (u32 k = 0; k < 4000; k++) {
			u64 r = rig_random(&random_state);
			struct virtio_net_hdr header;
			struct net_offload rx = { .flags = (u8)(r >> 32 & 3) };
			u8 *frame = a_large_send(r >> 40 & 1, 100 + r % 1200, &header);
			size_t n = 14 + rig_random(&random_state) % 1400;
			u8 *raw = (u8 *)&header;

			b.rig.low_used = b.rig.high_used = 8 << 20;
			if (r >> 41 & 1)
				raw[r >> 8 & 7] = (u8)(r >> 16);
			if (r >> 42 & 1)
				frame[r >> 20 & 63] = (u8)(r >> 24);
			rx.csum_start = (u16)(rig_random(&random_state) % 1500);
			rx.csum_offset = (u16)(rig_random(&random_state) % 30);
			rx.gso_type = r >> 43 & 1 ? (u8)(r >> 44) : 0;
			b.mock.room = r >> 55 & 1 ? 1 : 100;
			if (r % 5 == 0)
				memcpy(frame, own_mac, 6);

			switch (r >> 60 & 3) {
			case 0:
				transmit(&b, 1, &header, frame, n);
				b.mock.room = 10000;
				b.mock.port.ready(b.mock.port.owner);
				reap_transmitted(&b, 1);
				break;
			case 1:
				if (b.rig.vq[0].n_free)
					post(&b, 0, 12 + r % 2000);
				break;
			case 2:
				bring_with(&b, &rx, frame, n);
				while (rig_reap(&b.rig, 0, &n_written))
					assert_true(n_written > 0);
				break;
			default:
				if (i & 1)
					control(&b, (u8)(r % 7), (u8)(r >> 8 & 7), frame, r % 40);
			}
			mock_forget(&b.mock);
			assert_false(b.vdev->broken);
		}
		bench_stop(&b);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(init_configuration_says_what_was_given),
		cmocka_unit_test(offered_host_offloads_always_guest_offloads_if_port_brings),
		cmocka_unit_test(features_without_what_they_stand_on_are_refused),
		cmocka_unit_test(transmit_any_framing_arrives_whole_in_every_ring),
		cmocka_unit_test(transmit_large_to_able_port_passes_as_it_is),
		cmocka_unit_test(transmit_large_is_cut_for_a_port_that_lacks_any_of_it),
		cmocka_unit_test(transmit_ipv6_large_is_cut_too),
		cmocka_unit_test(transmit_large_to_a_port_that_ends_tcp_is_finished_but_whole),
		cmocka_unit_test(transmit_checksum_is_completed_for_a_port_that_cannot),
		cmocka_unit_test(transmit_up_to_mtu_passes_and_beyond_is_dropped),
		cmocka_unit_test(hostile_G28_transmit_bad_header_is_dropped),
		cmocka_unit_test(hostile_G28_transmit_short_chain_is_dropped),
		cmocka_unit_test(hostile_G28_transmit_chain_for_writing_only_is_dropped),
		cmocka_unit_test(transmit_offload_that_was_not_negotiated_is_dropped),
		cmocka_unit_test(transmit_to_full_port_waits_and_keeps_order),
		cmocka_unit_test(transmit_segments_to_full_port_are_sent_once_each),
		cmocka_unit_test(transmit_reset_while_waiting_forgets_progress),
		cmocka_unit_test(transmit_lost_by_port_is_counted_and_given_back),
		cmocka_unit_test(hostile_G38_endless_sending_gets_a_turn_at_a_time),
		cmocka_unit_test(hostile_G38_tiny_segments_end_the_turn),
		cmocka_unit_test(receive_arrives_whole_in_every_ring_and_buffer_kind),
		cmocka_unit_test(receive_merged_fills_all_but_the_last_and_signals_once),
		cmocka_unit_test(hostile_G30_receive_without_buffers_stops_the_port),
		cmocka_unit_test(receive_merged_with_too_few_buffers_leaves_them_in_the_ring),
		cmocka_unit_test(hostile_G30_receive_larger_than_the_whole_ring_is_dropped),
		cmocka_unit_test(hostile_G30_receive_into_more_than_64_buffers_is_dropped),
		cmocka_unit_test(hostile_G30_receive_without_merge_beyond_the_buffer_is_dropped),
		cmocka_unit_test(hostile_G30_receive_buffer_without_room_for_header_breaks),
		cmocka_unit_test(hostile_G10_receive_buffer_with_readable_part_breaks),
		cmocka_unit_test(receive_flags_follow_guest_csum),
		cmocka_unit_test(receive_checksum_is_completed_for_a_guest_that_cannot),
		cmocka_unit_test(receive_large_passes_only_if_asked_for),
		cmocka_unit_test(receive_beyond_mtu_is_dropped),
		cmocka_unit_test(receive_before_driver_and_after_reset_is_refused),
		cmocka_unit_test(filter_modes_rank_as_the_specification_says),
		cmocka_unit_test(filter_is_off_for_a_driver_without_ctrl_rx),
		cmocka_unit_test(filter_mac_table_lets_listed_addresses_in),
		cmocka_unit_test(hostile_G29_mac_table_that_lies_is_refused_and_changes_nothing),
		cmocka_unit_test(filter_vlan_lets_listed_tags_in),
		cmocka_unit_test(control_mac_addr_set_changes_config_and_filter_until_reset),
		cmocka_unit_test(hostile_G29_control_wrong_lengths_and_values_are_errors),
		cmocka_unit_test(hostile_G29_control_ranges_are_kept),
		cmocka_unit_test(hostile_G29_control_without_room_for_ack_breaks),
		cmocka_unit_test(hostile_G29_control_without_any_command_is_an_error),
		cmocka_unit_test(control_commands_of_features_not_negotiated_are_errors),
		cmocka_unit_test(control_offloads_beyond_the_negotiated_are_refused),
		cmocka_unit_test(announce_is_asked_for_and_acknowledged),
		cmocka_unit_test(link_down_loses_frames_both_ways_and_tells_the_guest),
		cmocka_unit_test(link_needs_both_the_plug_and_the_port),
		cmocka_unit_test(link_down_survives_a_reset),
		cmocka_unit_test(pairs_answers_go_where_the_flow_was_sent),
		cmocka_unit_test(pairs_without_control_queue_are_those_that_are_enabled),
		cmocka_unit_test(pairs_not_negotiated_leave_control_at_queue_2),
		cmocka_unit_test(hostile_random_requests_never_break_the_device),
	};

	random_state = rig_seed();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
