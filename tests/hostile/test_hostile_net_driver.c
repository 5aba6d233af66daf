/* SPDX-License-Identifier: BSD-3-Clause */
/* The network driver against a hostile device, on split and packed rings. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "driver/net.h"
#include "tests/support/liar.h"

#define HEADER 12
#define RX 0
#define TX 1
#define N_BUFFERS 4
#define BUFFER_BYTES 2048
#define MILLISECOND_NS 1000000ull

static struct liar liar;
static bool packed;
static struct driver_net_buffer buffers[N_BUFFERS];
static struct driver_net_frame frame;
static struct span frame_sg;
static int done_err;
static u32 n_done;
static u32 n_announced;

static void offer(unsigned int bit)
{
	features_set(&liar.offers, bit);
}

static struct virtio_net_config *config(void)
{
	return (struct virtio_net_config *)liar.config;
}

static void done(struct driver_net_frame *f, int err)
{
	assert_ptr_equal(f, &frame);
	n_done++;
	done_err = err;
}

static void init(void)
{
	liar_init(&liar, VIRTIO_ID_NET);
	liar.n_queues = 3;
	if (packed)
		offer(VIRTIO_F_RING_PACKED);
	assert_int_equal(register_virtio_driver(&driver_net), 0);
	n_done = 0;
}

static int bring_up(void)
{
	int err = register_virtio_device(&liar.front);

	if (err < 0)
		return err;
	memset(buffers, 0, sizeof(buffers));
	for (u32 i = 0; i < N_BUFFERS; i++) {
		buffers[i].base = liar_alloc(&liar, BUFFER_BYTES);
		buffers[i].n_bytes = BUFFER_BYTES;
		buffers[i].next = i + 1 < N_BUFFERS ? &buffers[i + 1] : NULL;
	}
	assert_int_equal(driver_net_post(&liar.front, 0, buffers), 0);
	driver_net_kick(&liar.front, 0);
	frame_sg = (struct span){ liar_alloc(&liar, 64), 64 };
	frame = (struct driver_net_frame){ .sg = &frame_sg, .n_sg = 1, .done = done };
	return 0;
}

static void up_mergeable(void)
{
	init();
	offer(VIRTIO_NET_F_MRG_RXBUF);
	assert_int_equal(bring_up(), 0);
}

static void down(void)
{
	unregister_virtio_device(&liar.front);
	unregister_virtio_driver(&driver_net);
	liar_fini(&liar);
}

/* The device writes this header, and says that so many bytes are there. */
static void bring(const struct virtio_net_hdr *h, u32 len)
{
	struct chain c;

	assert_true(liar_pop(&liar, RX, &c));
	assert_int_equal(c.in_bytes, BUFFER_BYTES);
	memset(c.spans[0].base, 0x77, BUFFER_BYTES);
	if (h)
		memcpy(c.spans[0].base, h, HEADER);
	liar_answer(&liar, RX, &c, len);
}

static int receive(struct driver_net_received *f)
{
	return driver_net_receive(&liar.front, 0, f);
}

/* A good frame passes, through each of the buffers: none was lost. */
static void check_works(void)
{
	static const struct virtio_net_hdr plain = { .num_buffers = { WIRE16(1) } };
	struct driver_net_received f;
	u32 seen = 0;

	for (u32 i = 0; i < N_BUFFERS; i++) {
		bring(&plain, HEADER + 60);
		assert_int_equal(receive(&f), 1);
		assert_int_equal(f.n_bytes, 60);
		assert_int_equal(f.n_buffers, 1);
		seen |= 1u << (f.first - buffers);
		assert_int_equal(driver_net_post(&liar.front, 0, f.first), 0);
		driver_net_kick(&liar.front, 0);
	}
	assert_int_equal(seen, (1u << N_BUFFERS) - 1);
	assert_int_equal(receive(&f), 0);
}

static void D02_length(void)
{
	static const u32 lens[] = { 0, 1, HEADER - 1, HEADER, BUFFER_BYTES + 1, UINT32_MAX };
	static const struct virtio_net_hdr plain = { .num_buffers = { WIRE16(1) } };
	struct driver_net_received f;

	for (u32 i = 0; i < ARRAY_SIZE(lens); i++) {
		up_mergeable();
		bring(&plain, lens[i]);
		assert_int_equal(receive(&f), -ENODEV);
		assert_int_equal(receive(&f), -ENODEV);
		assert_true(virtio_poll());
		assert_int_equal(liar.front.n_recoveries, 1);
		check_works();
		down();
	}
}

static void D02_sent_frame_with_bytes_written_breaks(void)
{
	struct chain c;

	up_mergeable();
	assert_int_equal(driver_net_send(&liar.front, 0, &frame), 0);
	driver_net_kick(&liar.front, 0);
	assert_true(liar_pop(&liar, TX, &c));
	liar_answer(&liar, TX, &c, 1);
	liar_interrupt(&liar, TX);
	assert_int_equal(n_done, 1);
	assert_int_equal(done_err, -EIO);
	assert_int_equal(liar.front.n_recoveries, 1);
	assert_int_equal(driver_net_send(&liar.front, 0, &frame), 0);
	driver_net_kick(&liar.front, 0);
	assert_true(liar_pop(&liar, TX, &c));
	liar_answer(&liar, TX, &c, 0);
	liar_interrupt(&liar, TX);
	assert_int_equal(n_done, 2);
	assert_int_equal(done_err, 0);
	down();
}

static void D01_sent_frame_comes_twice(void)
{
	struct chain c;

	up_mergeable();
	assert_int_equal(driver_net_send(&liar.front, 0, &frame), 0);
	driver_net_kick(&liar.front, 0);
	assert_true(liar_pop(&liar, TX, &c));
	liar_answer(&liar, TX, &c, 0);
	liar_answer(&liar, TX, &c, 0);
	liar_interrupt(&liar, TX);
	assert_int_equal(n_done, 1);
	/* Split: the index tells at once. Packed: nobody looks where nothing is in flight. */
	assert_int_equal(done_err, packed ? 0 : -EIO);
	assert_int_equal(liar.front.n_recoveries, !packed);
	check_works();
	down();
}

static void D09_num_buffers(void)
{
	static const struct {
		u16 num;
		bool lie;
	} rows[] = {
		{ 0, true },
		{ 1, false },
		{ DRIVER_NET_MAX_MERGED, false },
		{ DRIVER_NET_MAX_MERGED + 1, true },
		{ 65535, true },
	};

	for (u32 i = 0; i < ARRAY_SIZE(rows); i++) {
		struct virtio_net_hdr h = { .num_buffers = le16_of(rows[i].num) };
		struct driver_net_received f;

		up_mergeable();
		bring(&h, HEADER + 60);
		assert_int_equal(receive(&f), rows[i].lie ? -ENODEV : rows[i].num == 1);
		virtio_poll();
		assert_int_equal(liar.front.n_recoveries, rows[i].lie);
		if (rows[i].lie)
			check_works();
		down();
	}
}

/* Without mergeable buffers the field says nothing, and nobody looks. */
static void D09_num_buffers_not_mergeable(void)
{
	static const u16 nums[] = { 0, 1, 2, 65535 };

	init();
	assert_int_equal(bring_up(), 0);
	for (u32 i = 0; i < ARRAY_SIZE(nums); i++) {
		struct virtio_net_hdr h = { .num_buffers = le16_of(nums[i]) };
		struct driver_net_received f;

		bring(&h, HEADER + 60);
		assert_int_equal(receive(&f), 1);
		assert_int_equal(f.n_buffers, 1);
	}
	assert_int_equal(liar.front.n_recoveries, 0);
	down();
}

/* A frame in three of which the third never comes is nobody's; its buffers are not lost. */
static void D09_frame_that_never_ends(void)
{
	struct virtio_net_hdr h = { .num_buffers = le16_of(3) };
	struct driver_net_received f;

	up_mergeable();
	bring(&h, BUFFER_BYTES);
	bring(NULL, BUFFER_BYTES);
	assert_int_equal(receive(&f), 0);
	assert_int_equal(receive(&f), 0);
	liar_breaks(&liar);
	assert_true(virtio_poll());
	check_works();
	/* And when it does end: */
	bring(&h, BUFFER_BYTES);
	bring(NULL, BUFFER_BYTES);
	assert_int_equal(receive(&f), 0);
	bring(NULL, 5);
	assert_int_equal(receive(&f), 1);
	assert_int_equal(f.n_buffers, 3);
	assert_int_equal(f.n_bytes, 2 * BUFFER_BYTES - HEADER + 5);
	assert_int_equal(((u8 *)f.first->next->data.base)[0], 0x77);
	down();
}

static void D09_second_buffer_empty(void)
{
	struct virtio_net_hdr h = { .num_buffers = le16_of(2) };
	struct driver_net_received f;

	up_mergeable();
	bring(&h, BUFFER_BYTES);
	bring(NULL, 0);
	assert_int_equal(receive(&f), -ENODEV);
	assert_true(virtio_poll());
	assert_int_equal(liar.front.n_recoveries, 1);
	check_works();
	down();
}

/* What another guest may have written: the frame is lost, the device is not blamed. */
static void D09_junk_in_headers(void)
{
	static const struct {
		struct virtio_net_hdr h;
		u32 n_bytes;
		bool guest_csum, guest_tso4, good;
	} rows[] = {
		/* runts */
		{ { 0 }, 1, true, true, false },
		{ { 0 }, 13, true, true, false },
		{ { 0 }, 14, true, true, true },
		/* checksums */
		{ { .flags = 1, .csum_start = { WIRE16(34) }, .csum_offset = { WIRE16(16) } },
		  60,
		  true,
		  true,
		  true },
		{ { .flags = 1, .csum_start = { WIRE16(34) }, .csum_offset = { WIRE16(16) } },
		  60,
		  false,
		  false,
		  false },
		{ { .flags = 1, .csum_start = { WIRE16(58) } }, 60, true, true, true },
		{ { .flags = 1, .csum_start = { WIRE16(59) } }, 60, true, true, false },
		{ { .flags = 1, .csum_start = { WIRE16(61) } }, 60, true, true, false },
		{ { .flags = 1, .csum_start = { WIRE16(65535) }, .csum_offset = { WIRE16(65535) } },
		  60,
		  true,
		  true,
		  false },
		{ { .flags = 1, .csum_offset = { WIRE16(65535) } }, 60, true, true, false },
		/* not looked at without the flag; unknown flags do no harm */
		{ { .flags = 0xfc, .csum_start = { WIRE16(65535) } }, 60, true, true, true },
		/* segments */
		{ { .gso_type = 1, .gso_size = { WIRE16(1448) } }, 60, true, true, true },
		{ { .gso_type = 1, .gso_size = { WIRE16(1448) } }, 60, true, false, false },
		{ { .gso_type = 1 }, 60, true, true, false },
		{ { .gso_type = 4, .gso_size = { WIRE16(1448) } }, 60, true, true, false },
		{ { .gso_type = 3, .gso_size = { WIRE16(1448) } }, 60, true, true, false },
		{ { .gso_type = 0x81, .gso_size = { WIRE16(1448) } }, 60, true, true, false },
		{ { .gso_type = 0x80, .gso_size = { WIRE16(1448) } }, 60, true, true, false },
		{ { .gso_type = 0x7f, .gso_size = { WIRE16(1448) } }, 60, true, true, false },
	};

	for (u32 i = 0; i < ARRAY_SIZE(rows); i++) {
		struct virtio_net_hdr h = rows[i].h;
		struct driver_net_received f;

		init();
		offer(VIRTIO_NET_F_MRG_RXBUF);
		if (rows[i].guest_csum)
			offer(VIRTIO_NET_F_GUEST_CSUM);
		if (rows[i].guest_tso4)
			offer(VIRTIO_NET_F_GUEST_TSO4);
		assert_int_equal(bring_up(), 0);
		h.num_buffers = le16_of(1);
		h.hdr_len = le16_of(65535); /* a hint, and a bad one */
		bring(&h, HEADER + rows[i].n_bytes);
		assert_int_equal(receive(&f), rows[i].good);
		assert_int_equal(driver_net_info(&liar.front)->n_bad_frames, !rows[i].good);
		if (rows[i].good) {
			assert_true(f.offload.hdr_len <= f.n_bytes);
			assert_int_equal(f.offload.flags & ~3, 0);
			assert_int_equal(driver_net_post(&liar.front, 0, f.first), 0);
		}
		check_works();
		assert_int_equal(liar.front.n_recoveries, 0);
		down();
	}
}

/* DATA_VALID is an opinion that we did not ask for. */
static void D09_data_valid_unasked(void)
{
	struct virtio_net_hdr h = { .flags = VIRTIO_NET_HDR_F_DATA_VALID,
				    .num_buffers = le16_of(1) };
	struct driver_net_received f;

	up_mergeable();
	bring(&h, HEADER + 60);
	assert_int_equal(receive(&f), 1);
	assert_int_equal(f.offload.flags, 0);
	down();
}

static void D04_mtu(void)
{
	static const struct {
		u16 says, is;
	} rows[] = { { 0, 1500 }, { 67, 1500 }, { 68, 68 }, { 9000, 9000 }, { 65535, 65535 } };

	for (u32 i = 0; i < ARRAY_SIZE(rows); i++) {
		const struct driver_net_info *info;

		init();
		offer(VIRTIO_NET_F_MRG_RXBUF);
		offer(VIRTIO_NET_F_MTU);
		config()->mtu = le16_of(rows[i].says);
		assert_int_equal(bring_up(), 0);
		info = driver_net_info(&liar.front);
		assert_int_equal(info->mtu, rows[i].is);
		assert_int_equal(features_has(&liar.written, VIRTIO_NET_F_MTU),
				 rows[i].says == rows[i].is);
		frame_sg.n_bytes = info->mtu + 22;
		if (frame_sg.n_bytes <= 64)
			assert_int_equal(driver_net_send(&liar.front, 0, &frame), 0);
		frame_sg.n_bytes++;
		assert_int_equal(driver_net_send(&liar.front, 0, &frame), -EINVAL);
		check_works();
		down();
	}
}

static void D04_pairs(void)
{
	static const struct {
		u16 says;
		bool mq;
		u16 is;
		int err;
	} rows[] = {
		{ 0, false, 1, 0 },
		{ 1, true, 1, 0 },
		{ 2, true, 2, 0 },
		{ 31, true, DRIVER_NET_MAX_PAIRS, 0 },
		/* more than the liar has queues: it is refused, and nothing worse */
		{ 32, true, 0, -ENOENT },
		{ 256, true, 0, -ENOENT },
		{ 257, false, 1, 0 },
		{ 0x8000, false, 1, 0 },
		{ 65535, false, 1, 0 },
	};

	for (u32 i = 0; i < ARRAY_SIZE(rows); i++) {
		init();
		offer(VIRTIO_NET_F_MRG_RXBUF);
		offer(VIRTIO_NET_F_CTRL_VQ);
		offer(VIRTIO_NET_F_MQ);
		liar.n_queues = rows[i].mq ? 2 * rows[i].says + 1 : 3;
		config()->max_virtqueue_pairs = le16_of(rows[i].says);
		assert_int_equal(bring_up(), rows[i].err);
		assert_int_equal(features_has(&liar.written, VIRTIO_NET_F_MQ), rows[i].mq);
		if (rows[i].err == 0) {
			assert_int_equal(driver_net_info(&liar.front)->n_pairs, rows[i].is);
			assert_int_equal(driver_net_info(&liar.front)->n_pairs_used, 1);
			check_works();
		}
		down();
	}
}

/* Prerequisites that the device forgot: done without, whatever it offers. */
static void D05_features_without_what_they_need(void)
{
	static const u8 alone[] = {
		VIRTIO_NET_F_HOST_TSO4,     VIRTIO_NET_F_HOST_TSO6,      VIRTIO_NET_F_HOST_ECN,
		VIRTIO_NET_F_GUEST_TSO4,    VIRTIO_NET_F_GUEST_TSO6,     VIRTIO_NET_F_GUEST_ECN,
		VIRTIO_NET_F_CTRL_RX,       VIRTIO_NET_F_CTRL_RX_EXTRA,  VIRTIO_NET_F_CTRL_VLAN,
		VIRTIO_NET_F_CTRL_MAC_ADDR, VIRTIO_NET_F_GUEST_ANNOUNCE, VIRTIO_NET_F_MQ,
	};

	init();
	config()->max_virtqueue_pairs = le16_of(1);
	for (u32 i = 0; i < ARRAY_SIZE(alone); i++)
		offer(alone[i]);
	assert_int_equal(bring_up(), 0);
	for (u32 i = 0; i < ARRAY_SIZE(alone); i++)
		assert_false(features_has(&liar.written, alone[i]));
	down();
}

/* ---- control ------------------------------------------------------------------------------ */

#define CONTROL 2

static u16 control_queue;

static void up_control(void)
{
	init();
	offer(VIRTIO_NET_F_MRG_RXBUF);
	offer(VIRTIO_NET_F_CTRL_VQ);
	offer(VIRTIO_NET_F_CTRL_RX);
	assert_int_equal(bring_up(), 0);
	control_queue = CONTROL;
}

static int promisc(bool on)
{
	return driver_net_set_mode(&liar.front, VIRTIO_NET_CTRL_RX_PROMISC, on, MILLISECOND_NS);
}

static bool answers;
static u8 answer;
static u32 answer_len, n_commands;

/* What the device does while the driver waits. */
static void answer_control(void *arg)
{
	struct chain c;

	if (!answers || !liar_pop(&liar, control_queue, &c))
		return;
	n_commands++;
	assert_in_range(c.out.n_bytes, 3, 4);
	assert_int_equal(c.in_bytes, 1);
	sg_write(&c.in, &answer, 1);
	liar_answer(&liar, control_queue, &c, answer_len);
}

/* It says something else each time that it is asked. */
static void D04_pairs_change_under_us(void)
{
	struct chain c;

	init();
	offer(VIRTIO_NET_F_MRG_RXBUF);
	offer(VIRTIO_NET_F_CTRL_VQ);
	offer(VIRTIO_NET_F_MQ);
	liar.unstable = true;
	liar.n_queues = 5;
	config()->max_virtqueue_pairs = le16_of(2);
	assert_int_equal(bring_up(), 0);
	answers = true;
	answer = VIRTIO_NET_OK;
	answer_len = 1;
	control_queue = 4;
	liar.memory.relax = answer_control;
	assert_int_equal(driver_net_set_pairs(&liar.front, 2, MILLISECOND_NS), 0);
	assert_int_equal(driver_net_info(&liar.front)->n_pairs_used, 2);
	config()->max_virtqueue_pairs = le16_of(1); /* as a device that comes back smaller */
	liar.n_queues = 3;
	assert_int_equal(driver_net_post(&liar.front, 1, NULL), 0);
	liar_breaks(&liar);
	assert_true(virtio_poll());
	assert_int_equal(driver_net_info(&liar.front)->n_pairs, 1);
	assert_int_equal(driver_net_info(&liar.front)->n_pairs_used, 1);
	assert_false(liar_pop(&liar, CONTROL, &c)); /* 2 are not asked for again */
	assert_int_equal(driver_net_post(&liar.front, 1, NULL), -EINVAL);
	check_works();
	down();
}

static void D07_control_never_answers(void)
{
	up_control();
	answers = false;
	liar.memory.relax = answer_control;
	assert_int_equal(promisc(true), -ETIMEDOUT);
	assert_int_equal(promisc(false), -ETIMEDOUT); /* the first is still under way */
	/* Late, and welcome: then it is carried out, and the next one can be. */
	answers = true;
	answer = VIRTIO_NET_OK;
	answer_len = 1;
	n_commands = 0;
	assert_int_equal(promisc(true), 0);
	assert_int_equal(n_commands, 1);
	assert_int_equal(promisc(false), 0);
	assert_int_equal(n_commands, 2);
	check_works(); /* frames passed all along */
	down();
}

static void D08_control_answers_junk(void)
{
	static const struct {
		u8 answer;
		u32 len;
	} rows[] = { { 1, 1 }, { 2, 1 }, { 0xff, 1 }, { 0, 0 }, { 0xff, 0 } };

	for (u32 i = 0; i < ARRAY_SIZE(rows); i++) {
		up_control();
		answers = true;
		n_commands = 0;
		answer = rows[i].answer;
		answer_len = rows[i].len;
		liar.memory.relax = answer_control;
		assert_int_equal(promisc(true), -EIO);
		assert_int_equal(promisc(false), 0); /* it never was on: nothing to tell */
		assert_int_equal(n_commands, 1);
		answer = VIRTIO_NET_OK;
		answer_len = 1;
		assert_int_equal(promisc(true), 0);
		assert_int_equal(n_commands, 2);
		assert_int_equal(liar.front.n_recoveries, 0);
		down();
	}
}

/* Each answer breaks the queue; recovered as often as is allowed, then given up: no hang. */
static void D02_control_lengths_lie_for_ever(void)
{
	int err;

	up_control();
	answers = true;
	answer = VIRTIO_NET_OK;
	answer_len = 2;
	liar.memory.relax = answer_control;
	err = driver_net_set_mode(&liar.front, VIRTIO_NET_CTRL_RX_PROMISC, true,
				  1000 * MILLISECOND_NS);
	assert_int_equal(err, -ENODEV);
	assert_int_equal(liar.front.state, VIRTIO_STATE_BROKEN);
	assert_int_equal(driver_net_send(&liar.front, 0, &frame), -ENODEV);
	answer_len = 1;
	assert_int_equal(virtio_device_back(&liar.front), 0);
	check_works();
	down();
}

static void announce(void *owner)
{
	n_announced++;
}

/* A device that asks again and again is answered once each time it asks, without a queue of our own. */
static void D07_announcements_without_end(void)
{
	static const struct driver_net_ears ears = { .announce = announce };
	struct chain c;

	init();
	offer(VIRTIO_NET_F_CTRL_VQ);
	offer(VIRTIO_NET_F_STATUS);
	offer(VIRTIO_NET_F_GUEST_ANNOUNCE);
	assert_int_equal(bring_up(), 0);
	assert_int_equal(driver_net_listen(&liar.front, &ears, NULL), 0);
	n_announced = 0;
	config()->status = le16_of(VIRTIO_NET_S_LINK_UP | VIRTIO_NET_S_ANNOUNCE);
	for (u32 i = 0; i < 100; i++)
		virtio_config_changed(&liar.front);
	assert_int_equal(n_announced, 100);
	assert_true(liar_pop(&liar, CONTROL, &c));
	assert_false(liar_pop(&liar, CONTROL, &c));
	down();
}

#define BOTH(test)                               \
	static void hostile_net_##test(void **s) \
	{                                        \
		for (int i = 0; i < 2; i++) {    \
			packed = i;              \
			test();                  \
		}                                \
	}

#define TESTS(X)                                    \
	X(D01_sent_frame_comes_twice)               \
	X(D02_length)                               \
	X(D02_sent_frame_with_bytes_written_breaks) \
	X(D02_control_lengths_lie_for_ever)         \
	X(D04_mtu)                                  \
	X(D04_pairs)                                \
	X(D04_pairs_change_under_us)                \
	X(D05_features_without_what_they_need)      \
	X(D07_control_never_answers)                \
	X(D07_announcements_without_end)            \
	X(D08_control_answers_junk)                 \
	X(D09_num_buffers)                          \
	X(D09_num_buffers_not_mergeable)            \
	X(D09_frame_that_never_ends)                \
	X(D09_second_buffer_empty)                  \
	X(D09_junk_in_headers)                      \
	X(D09_data_valid_unasked)

TESTS(BOTH)

#define ROW(test) cmocka_unit_test(hostile_net_##test),

int main(void)
{
	const struct CMUnitTest tests[] = { TESTS(ROW) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
