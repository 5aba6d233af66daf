/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The network driver against the network device, on every transport and kind of ring, with and
 * without mergeable buffers. The port is a loop: what was sent comes back when the test lets it.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "device/net.h"
#include "driver/net.h"
#include "tests/pair/pair.h"
#include "tests/support/rig.h"

#define SECOND_NS 1000000000ull
#define N_FRAMES 600
#define N_SLOTS 24
#define N_PAIRS 2
#define LARGE_BYTES 60000u
#define LOOP_FRAMES 64

static const u8 own_mac[6] = { 0x52, 0x54, 0, 1, 2, 3 };
static const u8 other_mac[6] = { 0x52, 0x54, 0, 7, 7, 7 };
static u64 seed;

/* What the port has taken and not brought back yet. */
struct looped {
	struct net_offload offload;
	u32 n_bytes;
	u8 bytes[LARGE_BYTES + 100];
};

struct slot {
	struct driver_net_frame frame;
	struct span sg[4];
	u8 *bytes; /* LARGE_BYTES */
	bool busy;
	u32 n_done, n_failed;
};

static struct bench {
	struct netport port;
	struct looped loop[LOOP_FRAMES];
	u32 loop_head, n_looped;
	bool held; /* nothing comes back */
	bool receiving;
	struct vdev *back;
	void *mem;
	struct pair pair;

	struct slot slots[N_SLOTS];
	struct driver_net_buffer *buffers;
	u32 n_buffers;
	u32 n_heard, n_changed, n_announced;
} b;

static int port_send(struct netport *port, const struct net_offload *offload, const struct span *v,
		     u32 n)
{
	struct looped *l = &b.loop[(b.loop_head + b.n_looped) % LOOP_FRAMES];

	if (b.n_looped == LOOP_FRAMES)
		return -EAGAIN;
	l->offload = *offload;
	l->n_bytes = 0;
	for (u32 i = 0; i < n; i++) {
		assert_true(v[i].n_bytes <= sizeof(l->bytes) - l->n_bytes);
		memcpy(l->bytes + l->n_bytes, v[i].base, v[i].n_bytes);
		l->n_bytes += v[i].n_bytes;
	}
	b.n_looped++;
	return 0;
}

static void port_set_receiving(struct netport *port, bool on)
{
	b.receiving = on;
}

static void port_set_offloads(struct netport *port, u32 guest_can)
{
}

static const struct netport_ops port_ops = { port_send, port_set_receiving, port_set_offloads };

/* One frame comes back, if the device has room for it. */
static bool world(void *arg)
{
	struct looped *l = &b.loop[b.loop_head];
	struct span v = { l->bytes, l->n_bytes };
	bool was_full = b.n_looped == LOOP_FRAMES;

	if (b.n_looped == 0 || b.held || !b.receiving ||
	    !b.port.receive(b.port.owner, &l->offload, &v, 1))
		return false;
	b.loop_head = (b.loop_head + 1) % LOOP_FRAMES;
	b.n_looped--;
	b.port.batch_end(b.port.owner);
	if (was_full)
		b.port.ready(b.port.owner);
	return true;
}

static void heard(void *owner, u16 pair)
{
	b.n_heard++;
}

static void changed(void *owner)
{
	b.n_changed++;
}

static void announce(void *owner)
{
	b.n_announced++;
}

static const struct driver_net_ears ears = { heard, changed, announce };

static void frame_done(struct driver_net_frame *frame, int err)
{
	struct slot *s = container_of(frame, struct slot, frame);

	assert_true(s->busy);
	assert_true(err == 0 || err == -EIO);
	s->busy = false;
	s->n_done++;
	s->n_failed += err != 0;
}

static void start(unsigned int combination, bool mergeable, u32 n_buffers)
{
	struct pair_options options = pair_combination(combination);
	struct device_net_config config = {
		.name = "net",
		.port = &b.port,
		.mac = { 0x52, 0x54, 0, 1, 2, 3 },
		.max_pairs = N_PAIRS,
		.queue_size = 256, /* what the driver asks for */
	};
	u32 buffer_bytes = mergeable ? 1024 : 1534;
	const struct driver_net_info *info;

	memset(&b, 0, sizeof(b));
	b.port = (struct netport){
		.ops = &port_ops,
		.name = "loop",
		.can = NETPORT_CSUM | NETPORT_TSO4,
		.brings = NETPORT_CSUM | NETPORT_TSO4,
		.link_up = true,
	};
	b.mem = aligned_alloc(16, (device_net_bytes(&config) + 15) & ~(size_t)15);
	assert_non_null(b.mem);
	b.back = device_net_init(b.mem, &config);
	if (!mergeable)
		features_clear(&b.back->offered, VIRTIO_NET_F_MRG_RXBUF);
	assert_int_equal(register_virtio_driver(&driver_net), 0);
	pair_start(&b.pair, &options, b.back, seed + combination);
	b.pair.world = world;

	info = driver_net_info(b.pair.front);
	assert_non_null(info);
	assert_memory_equal(info->mac, own_mac, 6);
	assert_int_equal(info->mtu, 1500);
	assert_int_equal(info->n_pairs, N_PAIRS);
	assert_int_equal(info->n_pairs_used, 1);
	assert_int_equal(info->mergeable, mergeable);
	assert_int_equal(info->min_buffer_bytes, buffer_bytes);
	assert_true(info->link_up && info->can_csum && info->can_tso4 && info->can_filter);
	assert_int_equal(driver_net_listen(b.pair.front, &ears, NULL), 0);

	for (u32 i = 0; i < N_SLOTS; i++) {
		b.slots[i].bytes = pair_alloc(&b.pair, i == 0 ? LARGE_BYTES : 2048);
		b.slots[i].frame.done = frame_done;
	}
	b.buffers = calloc(n_buffers, sizeof(*b.buffers));
	b.n_buffers = n_buffers;
	for (u32 i = 0; i < n_buffers; i++) {
		b.buffers[i].base = pair_alloc(&b.pair, buffer_bytes);
		b.buffers[i].n_bytes = buffer_bytes;
		b.buffers[i].next = i + 1 < n_buffers ? &b.buffers[i + 1] : NULL;
	}
	assert_int_equal(driver_net_post(b.pair.front, 0, b.buffers), 0);
	driver_net_kick(b.pair.front, 0);
}

static void stop(void)
{
	pair_stop(&b.pair);
	unregister_virtio_driver(&driver_net);
	for (u32 i = 0; i < N_SLOTS; i++)
		assert_false(b.slots[i].busy);
	free(b.buffers);
	free(b.mem);
}

/* ---- frames that can be recognised ------------------------------------------------------- */

static u8 byte_of(u32 number, u32 at)
{
	return (u8)(number * 31 + at * 7 + (at >> 8));
}

static u32 bytes_of(u32 number)
{
	return number % 7 == 0 ? 1514 : 18 + number * 97 % 1497;
}

static void frame_make(u8 *bytes, const u8 *to, u32 number, u32 n_bytes)
{
	static const u8 from_and_type[8] = { 0x52, 0x54, 0, 9, 9, 9, 0x88, 0xb5 };

	memcpy(bytes, to, 6);
	memcpy(bytes + 6, from_and_type, 8);
	memcpy(bytes + 14, &number, 4);
	for (u32 i = 18; i < n_bytes; i++)
		bytes[i] = byte_of(number, i);
}

/* The frame's bytes as a whole; returns how many. */
static u32 frame_gather(const struct driver_net_received *f, u8 *to)
{
	u32 n = 0, n_buffers = 0;

	for (const struct driver_net_buffer *r = f->first; r; r = r->next, n_buffers++) {
		assert_true(r->data.n_bytes > 0);
		memcpy(to + n, r->data.base, r->data.n_bytes);
		n += r->data.n_bytes;
	}
	assert_int_equal(n, f->n_bytes);
	assert_int_equal(n_buffers, f->n_buffers);
	return n;
}

static void frame_verify(const struct driver_net_received *f, u32 number)
{
	static u8 bytes[LARGE_BYTES];
	u32 n = frame_gather(f, bytes), got;

	assert_int_equal(n, bytes_of(number));
	memcpy(&got, bytes + 14, 4);
	assert_int_equal(got, number);
	for (u32 i = 18; i < n; i++)
		assert_int_equal(bytes[i], byte_of(number, i));
}

/* Into 1 to 4 pieces. */
static void frame_cut(struct slot *s, u32 n_bytes, u64 *rng)
{
	u32 n = 1 + rig_random(rng) % 4, at = 0;

	for (u32 i = 0; i < n; i++) {
		u32 left = n_bytes - at - (n - i - 1);
		u32 take = i + 1 == n ? left : 1 + rig_random(rng) % left;

		s->sg[i] = (struct span){ s->bytes + at, take };
		at += take;
	}
	s->frame.sg = s->sg;
	s->frame.n_sg = n;
}

static struct slot *slot_free(void)
{
	for (u32 i = 0; i < N_SLOTS; i++)
		if (!b.slots[i].busy)
			return &b.slots[i];
	return NULL;
}

/* 0, or why it could not be sent. */
static int send_to(u16 pair, const u8 *to, u32 number, u64 *rng)
{
	struct slot *s = slot_free();
	int err;

	if (!s)
		return -ENOSPC;
	frame_make(s->bytes, to, number, bytes_of(number));
	frame_cut(s, bytes_of(number), rng);
	s->busy = true;
	err = driver_net_send(b.pair.front, pair, &s->frame);
	if (err < 0)
		s->busy = false;
	return err;
}

/* One frame there and back. True: it came. */
static bool passes(const u8 *to, u32 number)
{
	struct driver_net_received f;
	u32 n_heard = b.n_heard;
	u64 rng = number;

	assert_int_equal(send_to(0, to, number, &rng), 0);
	driver_net_kick(b.pair.front, 0);
	pair_settle(&b.pair);
	if (driver_net_receive(b.pair.front, 0, &f) == 0)
		return false;
	frame_verify(&f, number);
	assert_int_equal(driver_net_post(b.pair.front, 0, f.first), 0);
	driver_net_kick(b.pair.front, 0);
	pair_settle(&b.pair);
	/* We were told of it, and to find nothing more is to ask to be told again. */
	assert_true(b.n_heard > n_heard);
	assert_int_equal(driver_net_receive(b.pair.front, 0, &f), 0);
	return true;
}

/* ---- tests ------------------------------------------------------------------------------- */

#define FOR_ALL(combination, mergeable)                                                        \
	for (unsigned int combination = 0; combination < pair_n_combinations(); combination++) \
		for (int mergeable = 0; mergeable < 2; mergeable++)

static void net_pair_every_frame_comes_back_as_it_was_and_in_order(void **state)
{
	FOR_ALL(i, mergeable)
	{
		struct driver_net_received f;
		u32 n_sent = 0, n_got = 0, n_done = 0, n_merged = 0;
		u64 rng = seed + i;

		start(i, mergeable, 40);
		while (n_got < N_FRAMES) {
			u32 n_steps = rig_random(&rng) % 64;

			for (u32 batch = rig_random(&rng) % 8; batch > 0 && n_sent < N_FRAMES;
			     batch--) {
				int err = send_to(0, own_mac, n_sent, &rng);

				assert_true(err == 0 || err == -ENOSPC);
				n_sent += err == 0;
			}
			driver_net_kick(b.pair.front, 0);
			while (n_steps-- > 0 && pair_step(&b.pair))
				;
			while (driver_net_receive(b.pair.front, 0, &f) == 1) {
				frame_verify(&f, n_got++);
				n_merged += f.n_buffers > 1;
				assert_int_equal(driver_net_post(b.pair.front, 0, f.first), 0);
			}
			driver_net_kick(b.pair.front, 0);
		}
		pair_settle(&b.pair);
		for (u32 s = 0; s < N_SLOTS; s++)
			n_done += b.slots[s].n_done;
		assert_int_equal(n_done, N_FRAMES);
		assert_int_equal(n_merged > 0, mergeable);
		assert_int_equal(b.pair.front->n_recoveries, 0);
		assert_int_equal(driver_net_info(b.pair.front)->n_bad_frames, 0);
		assert_true(b.n_heard > 0);
		if (mergeable)
			print_message("  %s: %u frames, %u of several buffers\n",
				      pair_describe(&b.pair.options), n_got, n_merged);
		stop();
	}
}

/* A segment of 60000 bytes, its checksum left open: the header passes both ways as it is. */
static void net_pair_large_frame_passes_with_its_offload(void **state)
{
	static u8 bytes[LARGE_BYTES];

	for (unsigned int i = 0; i < pair_n_combinations(); i++) {
		struct driver_net_received f;
		struct slot *s = &b.slots[0];
		struct driver_net_offload o = {
			.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
			.gso_type = VIRTIO_NET_HDR_GSO_TCPV4,
			.hdr_len = 54,
			.gso_size = 1448,
			.csum_start = 34,
			.csum_offset = 16,
		};
		static const u8 ip[20] = {
			0x45, 0, (LARGE_BYTES - 14) >> 8, (LARGE_BYTES - 14) & 255, 0, 0, 0, 0,
			64,   6
		};

		start(i, true, 100);
		frame_make(s->bytes, own_mac, i, LARGE_BYTES);
		s->bytes[12] = 8;
		s->bytes[13] = 0;
		memcpy(s->bytes + 14, ip, sizeof(ip));
		s->bytes[14 + 20 + 12] = 0x50; /* a TCP header of 20 bytes */
		s->bytes[14 + 20 + 13] = 0x10;
		s->sg[0] = (struct span){ s->bytes, 54 };
		s->sg[1] = (struct span){ s->bytes + 54, LARGE_BYTES - 54 };
		s->frame.sg = s->sg;
		s->frame.n_sg = 2;
		s->frame.offload = o;
		s->busy = true;
		assert_int_equal(driver_net_send(b.pair.front, 0, &s->frame), 0);
		driver_net_kick(b.pair.front, 0);
		pair_settle(&b.pair);
		assert_int_equal(s->n_done, 1);
		assert_int_equal(driver_net_receive(b.pair.front, 0, &f), 1);
		assert_int_equal(f.n_buffers, (LARGE_BYTES + 12 + 1023) / 1024);
		assert_int_equal(frame_gather(&f, bytes), LARGE_BYTES);
		assert_memory_equal(bytes, s->bytes, LARGE_BYTES);
		assert_memory_equal(&f.offload, &o, sizeof(o));
		assert_int_equal(driver_net_post(b.pair.front, 0, f.first), 0);
		stop();
	}
}

static void net_pair_what_cannot_be_sent_is_refused(void **state)
{
	struct driver_net_frame *f;
	struct span sg[DRIVER_NET_MAX_SEGMENTS + 1];
	struct driver_net_buffer small = { 0 };

	start(0, true, 4);
	f = &b.slots[0].frame;
	f->sg = sg;
	f->n_sg = 1;
	for (u32 i = 0; i < ARRAY_SIZE(sg); i++)
		sg[i] = (struct span){ b.slots[0].bytes, 13 };
	assert_int_equal(driver_net_send(b.pair.front, 0, f), -EINVAL);
	sg[0].n_bytes = 1500 + 14 + 8 + 1;
	assert_int_equal(driver_net_send(b.pair.front, 0, f), -EINVAL);
	sg[0].n_bytes = 60;
	assert_int_equal(driver_net_send(b.pair.front, N_PAIRS, f), -EINVAL);
	f->n_sg = DRIVER_NET_MAX_SEGMENTS + 1;
	assert_int_equal(driver_net_send(b.pair.front, 0, f), -EINVAL);
	f->n_sg = 1;
	f->offload = (struct driver_net_offload){ .flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
						  .csum_start = 50,
						  .csum_offset = 9 };
	assert_int_equal(driver_net_send(b.pair.front, 0, f), -EINVAL);
	f->offload = (struct driver_net_offload){ .flags = VIRTIO_NET_HDR_F_DATA_VALID };
	assert_int_equal(driver_net_send(b.pair.front, 0, f), -EINVAL);
	f->offload = (struct driver_net_offload){ .gso_type = VIRTIO_NET_HDR_GSO_TCPV4,
						  .gso_size = 1448 }; /* without checksum */
	assert_int_equal(driver_net_send(b.pair.front, 0, f), -EINVAL);
	f->offload = (struct driver_net_offload){ .flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
						  .gso_type = VIRTIO_NET_HDR_GSO_UDP,
						  .gso_size = 1448 };
	assert_int_equal(driver_net_send(b.pair.front, 0, f), -EINVAL);
	small = (struct driver_net_buffer){ .base = sg, .n_bytes = 1023 };
	assert_int_equal(driver_net_post(b.pair.front, 0, &small), -EINVAL);
	small.n_bytes = 1u << 21;
	assert_int_equal(driver_net_post(b.pair.front, 0, &small), -EINVAL);
	stop();
}

static void net_pair_settings_hold_over_a_break(void **state)
{
	static const struct driver_net_filter filter = {
		.n_unicast = 1,
		.n_multicast = 1,
		.unicast = { { 0x52, 0x54, 0, 7, 7, 7 } },
		.multicast = { { 0x33, 0x33, 0, 0, 0, 1 } },
	};
	static const u8 group[6] = { 0x33, 0x33, 0, 0, 0, 1 };
	static const u8 chosen[6] = { 0x02, 1, 1, 1, 1, 1 };

	for (unsigned int i = 0; i < pair_n_combinations(); i++) {
		struct virtio_device *dev;

		start(i, true, 8);
		dev = b.pair.front;
		assert_false(passes(other_mac, 1));
		assert_false(passes(group, 2));
		assert_int_equal(driver_net_set_filter(dev, &filter, SECOND_NS), 0);
		assert_true(passes(other_mac, 3));
		assert_true(passes(group, 4));
		assert_int_equal(driver_net_set_mac(dev, chosen, SECOND_NS), 0);
		assert_memory_equal(driver_net_info(dev)->mac, chosen, 6);
		assert_true(passes(chosen, 5));
		assert_false(passes(own_mac, 6));
		assert_int_equal(
			driver_net_set_mode(dev, VIRTIO_NET_CTRL_RX_NOMULTI, true, SECOND_NS), 0);
		assert_false(passes(group, 7));
		assert_int_equal(driver_net_set_vlan(dev, 4095, true, SECOND_NS), 0);
		assert_int_equal(driver_net_set_vlan(dev, 4095, false, SECOND_NS), 0);
		assert_int_equal(driver_net_set_vlan(dev, 5, true, SECOND_NS), 0);
		assert_int_equal(driver_net_set_vlan(dev, 4096, true, SECOND_NS), -EINVAL);
		assert_int_equal(driver_net_set_pairs(dev, 2, SECOND_NS), 0);
		assert_int_equal(driver_net_info(dev)->n_pairs_used, 2);
		assert_int_equal(driver_net_set_pairs(dev, 3, SECOND_NS), -EINVAL);
		assert_int_equal(driver_net_set_mac(dev, group, SECOND_NS), -EINVAL);
		assert_int_equal(device_net_stats(b.back)->ctrl_errors, 0);
		assert_int_equal(device_net_stats(b.back)->ctrl_commands, 7);

		vdev_break(b.back, 0, "the test breaks it");
		pair_settle(&b.pair);
		assert_int_equal(dev->n_recoveries, 1);
		/* pairs, address, filter, mode, VLAN */
		assert_int_equal(device_net_stats(b.back)->ctrl_commands, 7 + 5);
		assert_int_equal(device_net_stats(b.back)->ctrl_errors, 0);
		assert_int_equal(driver_net_info(dev)->n_pairs_used, 2);
		assert_memory_equal(driver_net_info(dev)->mac, chosen, 6);
		assert_true(passes(chosen, 8));
		assert_true(passes(other_mac, 9));
		assert_false(passes(own_mac, 10));
		assert_false(passes(group, 11));
		stop();
	}
}

static void net_pair_both_pairs_carry_frames(void **state)
{
	for (unsigned int i = 0; i < pair_n_combinations(); i++) {
		struct driver_net_received f;
		u64 rng = seed;

		start(i, true, 8);
		assert_int_equal(driver_net_set_pairs(b.pair.front, 2, SECOND_NS), 0);
		for (u32 k = 0; k < 4; k++) {
			struct driver_net_buffer *more = calloc(1, sizeof(*more));

			more->base = pair_alloc(&b.pair, 2048);
			more->n_bytes = 2048;
			assert_int_equal(driver_net_post(b.pair.front, 1, more), 0);
			assert_int_equal(send_to(1, own_mac, k, &rng), 0);
			driver_net_kick(b.pair.front, 1);
			pair_settle(&b.pair);
			/* The device answers where it was spoken to. */
			assert_int_equal(driver_net_receive(b.pair.front, 0, &f), 0);
			assert_int_equal(driver_net_receive(b.pair.front, 1, &f), 1);
			frame_verify(&f, k);
			assert_ptr_equal(f.first, more);
			free(more);
		}
		stop();
	}
}

static void net_pair_link_and_announcement_are_heard(void **state)
{
	for (unsigned int i = 0; i < pair_n_combinations(); i++) {
		start(i, true, 8);
		device_net_set_link(b.back, false);
		pair_settle(&b.pair);
		assert_false(driver_net_info(b.pair.front)->link_up);
		assert_false(passes(own_mac, 1));
		device_net_set_link(b.back, true);
		pair_settle(&b.pair);
		assert_true(driver_net_info(b.pair.front)->link_up);
		assert_true(passes(own_mac, 2));
		assert_int_equal(b.n_changed, 2);
		assert_int_equal(b.n_announced, 0);
		device_net_announce(b.back);
		pair_settle(&b.pair);
		assert_int_equal(b.n_announced, 1);
		assert_int_equal(device_net_stats(b.back)->ctrl_commands, 1);
		assert_int_equal(device_net_stats(b.back)->ctrl_errors, 0);
		stop();
	}
}

/* Frames under way when a device breaks or leaves end once; buffers are used again. */
static void net_pair_breaking_and_leaving_is_survived(void **state)
{
	FOR_ALL(i, mergeable)
	{
		const struct pair_transport *t;
		struct driver_net_received f;
		u64 rng = seed + i;

		start(i, mergeable, 8);
		t = b.pair.options.transport;
		for (u32 n = 0; n < 6; n++) {
			u32 n_done = 0, before = 0;

			for (u32 s = 0; s < N_SLOTS; s++)
				before += b.slots[s].n_done;
			for (u32 k = 0; k < 5; k++)
				assert_int_equal(send_to(0, own_mac, k, &rng), 0);
			driver_net_kick(b.pair.front, 0);
			for (u32 k = rig_random(&rng) % 6; k > 0; k--)
				pair_step(&b.pair);
			if (n % 2) {
				vdev_break(b.back, 1, "the test breaks it");
				pair_settle(&b.pair);
			} else {
				t->cut(&b.pair);
				assert_int_equal(send_to(0, own_mac, 0, &rng), -ENODEV);
				assert_int_equal(driver_net_receive(b.pair.front, 0, &f), -ENODEV);
				assert_int_equal(driver_net_set_mode(b.pair.front, 0, true, 1),
						 -ENODEV);
				assert_int_equal(t->join(&b.pair), 0);
			}
			pair_settle(&b.pair);
			for (u32 s = 0; s < N_SLOTS; s++) {
				assert_false(b.slots[s].busy);
				n_done += b.slots[s].n_done;
			}
			assert_int_equal(n_done, before + 5);
			while (driver_net_receive(b.pair.front, 0, &f) == 1) {
				assert_int_equal(driver_net_post(b.pair.front, 0, f.first), 0);
				driver_net_kick(b.pair.front, 0);
				pair_settle(&b.pair);
			}
			assert_int_equal(b.n_looped, 0);
			/* All eight buffers still take turns. */
			for (u32 k = 0; k < 20; k++)
				assert_true(passes(own_mac, k));
		}
		assert_int_equal(b.pair.front->n_recoveries, 6);
		assert_int_equal(driver_net_info(b.pair.front)->n_bad_frames, 0);
		stop();
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(net_pair_every_frame_comes_back_as_it_was_and_in_order),
		cmocka_unit_test(net_pair_large_frame_passes_with_its_offload),
		cmocka_unit_test(net_pair_what_cannot_be_sent_is_refused),
		cmocka_unit_test(net_pair_settings_hold_over_a_break),
		cmocka_unit_test(net_pair_both_pairs_carry_frames),
		cmocka_unit_test(net_pair_link_and_announcement_are_heard),
		cmocka_unit_test(net_pair_breaking_and_leaving_is_survived),
	};

	seed = rig_seed();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
