/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The register window of virtio-mmio, each end attacked by hand: the device by a driver that
 * writes anything (G15 to G23), the driver by a window that answers anything (D05 to D07). In
 * between stands a spy, which holds our driver to the rules for accesses.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/log.h"
#include "tests/support/echo.h"
#include "tests/support/rig.h"
#include "transport/inproc/link.h"
#include "transport/mmio/device.h"
#include "transport/mmio/driver.h"

#define N_QUEUES 2
#define RAM_BYTES (1u << 20)
#define NOT_OVERRIDDEN 0xdead0000u

static struct world {
	struct echo echo;
	struct mmio_device back;
	struct mmio_device_queue queues[N_QUEUES];
	struct mmio_driver front;
	struct mmio_regs regs;
	struct inproc_platform platform;
	struct memory map;
	struct memory_region region;
	bool line;
	u32 n_line_changes;

	/* What the driver is shown in place of the truth. */
	u32 lie_at, lie;
	bool gone;
	u32 n_accesses;
	struct {
		u32 offset, width;
		bool is_write;
	} log[64]; /* the last ones */

	struct virtqueue *vqs[N_QUEUES];
	u32 n_back, n_probes, n_config;
} w;

static _Alignas(4096) u8 ram[RAM_BYTES];
static u32 n_log_lines;
static char last_line[256];

static void keep_line(enum log_level level, const char *object, const char *format, va_list args)
{
	n_log_lines += level <= LOG_WARN;
	vsnprintf(last_line, sizeof(last_line), format, args);
}

/* ---- the device, by hand --------------------------------------------------------------- */

static void on_line(void *arg, bool high)
{
	assert_int_not_equal(w.line, high);
	w.line = high;
	w.n_line_changes++;
}

static u32 rd(u32 reg)
{
	return mmio_device_read(&w.back, reg, 4);
}

static void wr(u32 reg, u32 value)
{
	mmio_device_write(&w.back, reg, 4, value);
}

/* Up to FEATURES_OK, with the offered features and these bits beside; returns the status. */
static u32 negotiate(u32 word, u32 more)
{
	u32 status = VIRTIO_STATUS_ACKNOWLEDGE | VIRTIO_STATUS_DRIVER;

	wr(VIRTIO_MMIO_STATUS, 0);
	wr(VIRTIO_MMIO_STATUS, status);
	for (u32 i = 0; i < 2; i++) {
		wr(VIRTIO_MMIO_DEVICE_FEATURES_SEL, i);
		wr(VIRTIO_MMIO_DRIVER_FEATURES_SEL, i);
		wr(VIRTIO_MMIO_DRIVER_FEATURES, rd(VIRTIO_MMIO_DEVICE_FEATURES));
	}
	if (more) {
		wr(VIRTIO_MMIO_DRIVER_FEATURES_SEL, word);
		wr(VIRTIO_MMIO_DEVICE_FEATURES_SEL, word);
		wr(VIRTIO_MMIO_DRIVER_FEATURES, rd(VIRTIO_MMIO_DEVICE_FEATURES) | more);
	}
	wr(VIRTIO_MMIO_STATUS, status | VIRTIO_STATUS_FEATURES_OK);
	return rd(VIRTIO_MMIO_STATUS);
}

static void set_queue(u32 queue, u32 size, u64 desc, u64 driver, u64 device)
{
	wr(VIRTIO_MMIO_QUEUE_SEL, queue);
	wr(VIRTIO_MMIO_QUEUE_SIZE, size);
	wr(VIRTIO_MMIO_QUEUE_DESC_LOW, (u32)desc);
	wr(VIRTIO_MMIO_QUEUE_DESC_HIGH, desc >> 32);
	wr(VIRTIO_MMIO_QUEUE_DRIVER_LOW, (u32)driver);
	wr(VIRTIO_MMIO_QUEUE_DRIVER_HIGH, driver >> 32);
	wr(VIRTIO_MMIO_QUEUE_DEVICE_LOW, (u32)device);
	wr(VIRTIO_MMIO_QUEUE_DEVICE_HIGH, device >> 32);
	wr(VIRTIO_MMIO_QUEUE_READY, 1);
}

static void set_good_queue(u32 queue)
{
	u64 at = INPROC_GPA + 65536 + queue * 32768;

	set_queue(queue, 64, at, at + 8192, at + 16384);
}

static bool needs_reset(void)
{
	return rd(VIRTIO_MMIO_STATUS) & VIRTIO_STATUS_DEVICE_NEEDS_RESET;
}

/* ---- the spy ------------------------------------------------------------------------------ */

enum { R = 1, W = 2 };

static int rights(u32 reg)
{
	switch (reg) {
	case VIRTIO_MMIO_MAGIC_VALUE:
	case VIRTIO_MMIO_VERSION_REG:
	case VIRTIO_MMIO_DEVICE_ID:
	case VIRTIO_MMIO_VENDOR_ID:
	case VIRTIO_MMIO_DEVICE_FEATURES:
	case VIRTIO_MMIO_QUEUE_SIZE_MAX:
	case VIRTIO_MMIO_INTERRUPT_STATUS:
	case VIRTIO_MMIO_CONFIG_GENERATION:
		return R;
	case VIRTIO_MMIO_QUEUE_READY:
	case VIRTIO_MMIO_STATUS:
	case VIRTIO_MMIO_QUEUE_RESET:
		return R | W;
	case VIRTIO_MMIO_DEVICE_FEATURES_SEL:
	case VIRTIO_MMIO_DRIVER_FEATURES:
	case VIRTIO_MMIO_DRIVER_FEATURES_SEL:
	case VIRTIO_MMIO_QUEUE_SEL:
	case VIRTIO_MMIO_QUEUE_SIZE:
	case VIRTIO_MMIO_QUEUE_NOTIFY:
	case VIRTIO_MMIO_INTERRUPT_ACK:
	case VIRTIO_MMIO_QUEUE_DESC_LOW:
	case VIRTIO_MMIO_QUEUE_DESC_HIGH:
	case VIRTIO_MMIO_QUEUE_DRIVER_LOW:
	case VIRTIO_MMIO_QUEUE_DRIVER_HIGH:
	case VIRTIO_MMIO_QUEUE_DEVICE_LOW:
	case VIRTIO_MMIO_QUEUE_DEVICE_HIGH:
		return W;
	}
	return 0; /* shared memory too: our driver has no use for it */
}

static void spy(u32 offset, u32 width, bool is_write, u32 value)
{
	u32 at = w.n_accesses++ % ARRAY_SIZE(w.log);

	w.log[at].offset = offset;
	w.log[at].width = width;
	w.log[at].is_write = is_write;
	if (offset >= VIRTIO_MMIO_CONFIG) {
		assert_int_equal(offset % width, 0); /* G-MMIO-4.2.2.2-03 */
		return;
	}
	assert_int_equal(width, 4); /* G-MMIO-4.2.2.2-02 */
	assert_true(rights(offset) & (is_write ? W : R)); /* -01, -01b, -01c; 4.2.3.1.1-03 */
	if (w.gone || w.lie_at != NOT_OVERRIDDEN)
		return;
	/* -09, -10: what is the truth about the queue is asked of the device behind our back. */
	if (offset == VIRTIO_MMIO_QUEUE_SIZE_MAX || offset == VIRTIO_MMIO_QUEUE_SIZE ||
	    (offset >= VIRTIO_MMIO_QUEUE_DESC_LOW && offset <= VIRTIO_MMIO_QUEUE_DEVICE_HIGH))
		assert_int_equal(rd(VIRTIO_MMIO_QUEUE_READY), 0);
	if (offset == VIRTIO_MMIO_QUEUE_SIZE)
		assert_in_range(value, 1, rd(VIRTIO_MMIO_QUEUE_SIZE_MAX));
	if (offset == VIRTIO_MMIO_INTERRUPT_ACK)
		assert_int_equal(value & ~VIRTIO_MMIO_INT_ALL, 0); /* -13b */
}

static u32 spied_read(u32 offset, u32 width)
{
	spy(offset, width, false, 0);
	if (w.gone)
		return UINT32_MAX;
	return offset == w.lie_at ? w.lie : mmio_device_read(&w.back, offset, width);
}

static void spied_write(u32 offset, u32 width, u32 value)
{
	spy(offset, width, true, value);
	if (!w.gone)
		mmio_device_write(&w.back, offset, width, value);
}

static u8 read8(struct mmio_regs *regs, u32 offset)
{
	return spied_read(offset, 1);
}

static u16 read16(struct mmio_regs *regs, u32 offset)
{
	return spied_read(offset, 2);
}

static u32 read32(struct mmio_regs *regs, u32 offset)
{
	return spied_read(offset, 4);
}

static void write8(struct mmio_regs *regs, u32 offset, u8 value)
{
	spied_write(offset, 1, value);
}

static void write16(struct mmio_regs *regs, u32 offset, u16 value)
{
	spied_write(offset, 2, value);
}

static void write32(struct mmio_regs *regs, u32 offset, u32 value)
{
	spied_write(offset, 4, value);
}

static const struct mmio_regs_ops regs_ops = { read8, read16, read32, write8, write16, write32 };

/* ---- a driver that sends bytes and wants them back --------------------------------------- */

static void test_callback(struct virtqueue *vq)
{
	u32 n;

	while (virtqueue_get_buf(vq, &n))
		w.n_back++;
}

static int test_probe(struct virtio_device *vdev)
{
	const struct virtqueue_info infos[N_QUEUES] = {
		{ .name = "first", .callback = test_callback, .max_size = 100 },
		{ .name = "second", .callback = test_callback },
	};

	w.n_probes++;
	return virtio_find_vqs(vdev, N_QUEUES, w.vqs, infos);
}

static void test_remove(struct virtio_device *vdev)
{
	for (u32 i = 0; i < N_QUEUES; i++)
		while (virtqueue_detach(w.vqs[i]))
			;
	vdev->config->del_vqs(vdev);
}

static void test_config_changed(struct virtio_device *vdev)
{
	w.n_config++;
}

static const struct virtio_device_id ids[] = { { 0xec0, VIRTIO_DEV_ANY_ID }, { 0, 0 } };
static struct virtio_driver test_driver = {
	.name = "test",
	.id_table = ids,
	.probe = test_probe,
	.remove = test_remove,
	.config_changed = test_config_changed,
};

static void send(u32 queue)
{
	struct platform *p = &w.platform.platform;
	u64 addr;
	u8 *buffers = p->ops->dma_alloc(p, 64, 64, &addr);
	struct span sg[2];

	assert_non_null(buffers);
	sg[0] = (struct span){ buffers, 16 };
	sg[1] = (struct span){ buffers + 16, 16 };
	assert_int_equal(virtqueue_add_buf(w.vqs[queue], sg, 1, 1, buffers), 0);
	virtqueue_kick(w.vqs[queue]);
}

static int set_up(void **state)
{
	memset(&w, 0, sizeof(w));
	n_log_lines = 0;
	last_line[0] = 0;
	w.lie_at = NOT_OVERRIDDEN;
	w.regs.ops = &regs_ops;
	echo_init(&w.echo, N_QUEUES);
	memset(ram, 0, sizeof(ram));
	inproc_platform_init(&w.platform, ram, RAM_BYTES);
	w.region = (struct memory_region){ INPROC_GPA, RAM_BYTES, ram };
	assert_int_equal(memory_init(&w.map, &w.region, 1), 0);
	mmio_device_init(&w.back, &w.echo.vdev, w.queues, on_line, NULL);
	vdev_set_memory(&w.echo.vdev, &w.map);
	return 0;
}

static int tear_down(void **state)
{
	mmio_device_fini(&w.back);
	assert_false(w.line);
	vdev_set_memory(&w.echo.vdev, NULL);
	assert_int_equal(w.map.n_pins, 1);
	return 0;
}

static void plug(void)
{
	assert_int_equal(mmio_driver_init(&w.front, &w.regs, &w.platform.platform, "front"), 1);
	assert_int_equal(register_virtio_driver(&test_driver), 0);
	assert_int_equal(register_virtio_device(&w.front.device), 0);
	assert_int_equal(w.front.device.state, VIRTIO_STATE_LIVE);
}

static void unplug(void)
{
	unregister_virtio_device(&w.front.device);
	unregister_virtio_driver(&test_driver);
}

/* ---- the device end ------------------------------------------------------------------------ */

static void device_identity_is_that_of_version_2(void **state)
{
	assert_int_equal(rd(VIRTIO_MMIO_MAGIC_VALUE), 0x74726976);
	assert_int_equal(rd(VIRTIO_MMIO_VERSION_REG), 2);
	assert_int_equal(rd(VIRTIO_MMIO_DEVICE_ID), 0xec0);
	assert_int_equal(rd(VIRTIO_MMIO_STATUS), 0);
	assert_int_equal(rd(VIRTIO_MMIO_INTERRUPT_STATUS), 0); /* D-MMIO-4.2.2.1-04 */
	for (u32 i = 0; i < 300; i++) { /* no region of any number */
		wr(VIRTIO_MMIO_SHM_SEL, i);
		for (u32 reg = VIRTIO_MMIO_SHM_LEN_LOW; reg <= VIRTIO_MMIO_SHM_BASE_HIGH; reg += 4)
			assert_int_equal(rd(reg), UINT32_MAX);
	}
}

static void device_illegal_access_reads_0_and_changes_nothing_G21(void **state)
{
	static const u32 widths[] = { 0, 1, 2, 3, 4, 5, 7, 8, 16, 4096, UINT32_MAX };
	struct mmio_device back;
	struct mmio_device_queue queues[N_QUEUES];
	u8 config[sizeof(w.echo.config)];

	assert_true(negotiate(0, 0) & VIRTIO_STATUS_FEATURES_OK);
	set_good_queue(0);
	wr(VIRTIO_MMIO_QUEUE_SEL, 1);
	back = w.back;
	memcpy(queues, w.queues, sizeof(queues));
	memcpy(config, w.echo.config, sizeof(config));
	for (u32 offset = 0; offset < 0x140; offset++)
		for (u32 i = 0; i < ARRAY_SIZE(widths); i++) {
			u32 width = widths[i];
			bool legal = width == 4 && offset % 4 == 0;

			if (offset >= VIRTIO_MMIO_CONFIG && (width == 1 || width == 2))
				legal = offset % width == 0;
			if (legal)
				continue;
			assert_int_equal(mmio_device_read(&w.back, offset, width), 0);
			mmio_device_write(&w.back, offset, width, 0);
			mmio_device_write(&w.back, offset, width, UINT64_MAX);
		}
	assert_memory_equal(&w.back, &back, sizeof(back));
	assert_memory_equal(w.queues, queues, sizeof(queues));
	assert_memory_equal(w.echo.config, config, sizeof(config));
	assert_int_equal(rd(VIRTIO_MMIO_STATUS), VIRTIO_STATUS_ACKNOWLEDGE | VIRTIO_STATUS_DRIVER |
							 VIRTIO_STATUS_FEATURES_OK);
	assert_true(w.echo.vdev.queues[0].started);
	assert_false(w.echo.vdev.queues[1].started);
}

static void device_wrong_direction_reads_0_and_changes_nothing_G21(void **state)
{
	u32 before[0x100 / 4];

	negotiate(0, 0);
	for (u32 reg = 0; reg < 0x100; reg += 4) {
		before[reg / 4] = rd(reg);
		if (rights(reg) == W)
			assert_int_equal(before[reg / 4], 0);
	}
	for (u32 reg = 0; reg < 0x100; reg += 4)
		if (!(rights(reg) & W) && reg != VIRTIO_MMIO_SHM_SEL) {
			wr(reg, 0);
			wr(reg, 1);
			wr(reg, UINT32_MAX);
		}
	for (u32 reg = 0; reg < 0x100; reg += 4)
		assert_int_equal(rd(reg), before[reg / 4]);
	/* Far away, and where 32 bits end. */
	assert_int_equal(mmio_device_read(&w.back, UINT64_MAX - 3, 4), 0);
	assert_int_equal(mmio_device_read(&w.back, 1ull << 32, 4), 0);
	mmio_device_write(&w.back, (1ull << 32) + VIRTIO_MMIO_STATUS, 4, 0);
	mmio_device_write(&w.back, UINT32_MAX - 3, 4, 1);
	assert_int_equal(mmio_device_read(&w.back, UINT32_MAX - 3, 4), 0);
	assert_int_equal(rd(VIRTIO_MMIO_STATUS), before[VIRTIO_MMIO_STATUS / 4]);
}

static void device_config_is_read_and_written_by_any_legal_width_G21_G23(void **state)
{
	assert_int_equal(mmio_device_read(&w.back, 0x103, 1), 3);
	assert_int_equal(mmio_device_read(&w.back, 0x102, 2), 0x0302);
	assert_int_equal(mmio_device_read(&w.back, 0x10c, 4), 0x0f0e0d0c);
	mmio_device_write(&w.back, 0x104, 4, 0x11223344);
	mmio_device_write(&w.back, 0x106, 2, 0x5566);
	mmio_device_write(&w.back, 0x105, 1, 0x77);
	assert_int_equal(mmio_device_read(&w.back, 0x104, 4), 0x55667744);
	/* Bytes that are not the driver's, and those past the end. */
	mmio_device_write(&w.back, 0x100, 4, UINT32_MAX);
	mmio_device_write(&w.back, 0x108, 2, UINT32_MAX);
	mmio_device_write(&w.back, 0x110, 4, UINT32_MAX);
	assert_int_equal(mmio_device_read(&w.back, 0x100, 4), 0x03020100);
	assert_int_equal(mmio_device_read(&w.back, 0x108, 4), 0x0b0a0908);
	assert_int_equal(mmio_device_read(&w.back, 0x110, 4), 0);
}

static void device_generation_follows_each_change_G23(void **state)
{
	u32 before = rd(VIRTIO_MMIO_CONFIG_GENERATION);

	vdev_config_changed(&w.echo.vdev);
	assert_int_not_equal(rd(VIRTIO_MMIO_CONFIG_GENERATION), before); /* D-MMIO-4.2.2.1-06 */
	assert_false(w.line); /* nobody listens yet */
}

static void device_selection_out_of_range_finds_nothing_G16(void **state)
{
	static const u32 numbers[] = { N_QUEUES, 0x7fff,     0xffff,     0x10000,
				       0x10001,  0x7fffffff, 0x80000000, UINT32_MAX };

	negotiate(0, 0);
	for (u32 i = 0; i < ARRAY_SIZE(numbers); i++) {
		set_queue(numbers[i], 64, INPROC_GPA, INPROC_GPA + 8192, INPROC_GPA + 16384);
		assert_int_equal(rd(VIRTIO_MMIO_QUEUE_SIZE_MAX), 0);
		assert_int_equal(rd(VIRTIO_MMIO_QUEUE_READY), 0);
		wr(VIRTIO_MMIO_QUEUE_READY, 0);
		wr(VIRTIO_MMIO_QUEUE_RESET, 1);
		wr(VIRTIO_MMIO_QUEUE_NOTIFY, numbers[i]);
		wr(VIRTIO_MMIO_DEVICE_FEATURES_SEL, numbers[i] | 4);
		assert_int_equal(rd(VIRTIO_MMIO_DEVICE_FEATURES), 0);
	}
	for (u32 i = 0; i < N_QUEUES; i++)
		assert_false(w.echo.vdev.queues[i].started);
	assert_false(needs_reset());
	assert_int_equal(n_log_lines, 0);
}

static void device_impossible_queue_breaks_until_reset_G15_G17(void **state)
{
	const u64 g = INPROC_GPA;
	static const u32 sizes[] = { 0,       ECHO_QUEUE_SIZE + 1, 512, 0xffff,    0x10000,
				     0x10040, 0x80000000,          3,   UINT32_MAX };
	const u64 areas[][3] = {
		{ 0, g + 8192, g + 16384 }, /* address 0 */
		{ g + 1, g + 8192, g + 16384 }, /* not aligned */
		{ g, g + 8193, g + 16384 },
		{ g, g + 8192, g + 16385 },
		{ g - 16, g + 8192, g + 16384 }, /* straddles the beginning */
		{ g + RAM_BYTES - 16, g, g + 16384 }, /* and the end */
		{ g, g + RAM_BYTES, g + 16384 },
		{ g, g + 8192, UINT64_MAX - 3 }, /* top of space */
		{ UINT64_MAX - 15, g, g + 4096 },
	};

	features_clear(&w.echo.vdev.offered, VIRTIO_F_RING_PACKED); /* sizes: powers of two */
	for (u32 i = 0; i < ARRAY_SIZE(sizes) + ARRAY_SIZE(areas); i++) {
		const u64 *a = i < ARRAY_SIZE(sizes) ? NULL : areas[i - ARRAY_SIZE(sizes)];

		assert_true(negotiate(0, 0) & VIRTIO_STATUS_FEATURES_OK);
		n_log_lines = 0;
		if (a)
			set_queue(0, 64, a[0], a[1], a[2]);
		else
			set_queue(0, sizes[i], g, g + 8192, g + 16384);
		assert_int_equal(rd(VIRTIO_MMIO_QUEUE_READY), 0);
		assert_true(needs_reset());
		wr(VIRTIO_MMIO_QUEUE_READY, 1); /* again, and it stays so */
		set_good_queue(1);
		assert_int_equal(rd(VIRTIO_MMIO_QUEUE_READY), 0);
		assert_int_equal(n_log_lines, 1);
		/* G24: told once somebody listens. */
		wr(VIRTIO_MMIO_STATUS, rd(VIRTIO_MMIO_STATUS) | VIRTIO_STATUS_DRIVER_OK);
		assert_int_equal(rd(VIRTIO_MMIO_INTERRUPT_STATUS), VIRTIO_MMIO_INT_CONFIG);
		assert_true(w.line);
		wr(VIRTIO_MMIO_STATUS, 0);
		assert_int_equal(rd(VIRTIO_MMIO_INTERRUPT_STATUS), 0); /* D-MMIO-4.2.2.1-05 */
		assert_false(w.line);
	}
	plug();
	send(0);
	assert_true(mmio_driver_interrupt(&w.front));
	assert_int_equal(w.n_back, 1);
	unplug();
}

static void device_queue_needs_features_first(void **state)
{
	set_good_queue(0);
	assert_int_equal(rd(VIRTIO_MMIO_QUEUE_READY), 0);
	wr(VIRTIO_MMIO_STATUS, VIRTIO_STATUS_ACKNOWLEDGE | VIRTIO_STATUS_DRIVER);
	wr(VIRTIO_MMIO_QUEUE_READY, 1);
	assert_int_equal(rd(VIRTIO_MMIO_QUEUE_READY), 0);
	assert_false(needs_reset());
}

static void device_queue_registers_after_ready_are_ignored_G15(void **state)
{
	plug();
	wr(VIRTIO_MMIO_QUEUE_SEL, 0);
	assert_int_equal(rd(VIRTIO_MMIO_QUEUE_READY), 1);
	set_queue(0, 0, 0, UINT64_MAX, 1);
	wr(VIRTIO_MMIO_QUEUE_READY, 7); /* neither of its two values */
	assert_int_equal(rd(VIRTIO_MMIO_QUEUE_READY), 1);
	for (u32 i = 0; i < 1000; i++) {
		send(0);
		assert_true(mmio_driver_interrupt(&w.front));
	}
	assert_int_equal(w.n_back, 1000);
	assert_false(needs_reset());
	unplug();
}

static void device_queue_not_ready_leaves_its_ring_alone(void **state)
{
	static u8 before[RAM_BYTES];

	plug();
	w.echo.hold = true;
	send(0); /* one in its hands: stopping gives it back first */
	assert_true(w.echo.holding[0]);
	wr(VIRTIO_MMIO_QUEUE_SEL, 0);
	wr(VIRTIO_MMIO_QUEUE_READY, 0);
	assert_int_equal(rd(VIRTIO_MMIO_QUEUE_READY), 0);
	assert_false(w.echo.holding[0]);
	w.echo.hold = false;
	memcpy(before, ram, RAM_BYTES);
	for (u32 i = 0; i < 100; i++)
		wr(VIRTIO_MMIO_QUEUE_NOTIFY, 0); /* D-MMIO-4.2.2.1-07 */
	assert_memory_equal(before, ram, RAM_BYTES);
	send(1); /* the other goes on */
	while (mmio_driver_interrupt(&w.front))
		;
	assert_true(w.n_back >= 1);
	unplug();
}

static void device_status_of_any_value_from_any_state_is_defined_G18(void **state)
{
	const u32 known = VIRTIO_STATUS_ACKNOWLEDGE | VIRTIO_STATUS_DRIVER |
			  VIRTIO_STATUS_FEATURES_OK | VIRTIO_STATUS_DRIVER_OK |
			  VIRTIO_STATUS_FAILED;

	for (u32 from = 0; from < 5; from++)
		for (u32 to = 0; to < 256; to++) {
			u32 was, is;

			wr(VIRTIO_MMIO_STATUS, 0);
			if (from > 0)
				wr(VIRTIO_MMIO_STATUS, VIRTIO_STATUS_ACKNOWLEDGE);
			if (from > 1)
				negotiate(0, 0);
			if (from > 2)
				wr(VIRTIO_MMIO_STATUS,
				   rd(VIRTIO_MMIO_STATUS) | VIRTIO_STATUS_DRIVER_OK);
			if (from > 3)
				wr(VIRTIO_MMIO_STATUS, VIRTIO_STATUS_FAILED);
			was = rd(VIRTIO_MMIO_STATUS);
			wr(VIRTIO_MMIO_STATUS, to);
			is = rd(VIRTIO_MMIO_STATUS);
			if (to == 0) {
				assert_int_equal(is, 0);
				continue;
			}
			assert_int_equal(is & ~known, 0);
			assert_int_equal(is & was, was); /* no bit is lost but by a reset */
			assert_int_equal(is & ~(was | to), 0); /* none comes by itself */
			if (is & VIRTIO_STATUS_DRIVER_OK)
				assert_true(is & VIRTIO_STATUS_FEATURES_OK);
		}
}

static void device_features_not_offered_are_refused_G22(void **state)
{
	assert_true(negotiate(0, 0) & VIRTIO_STATUS_FEATURES_OK);
	assert_false(negotiate(0, 1u << 23) & VIRTIO_STATUS_FEATURES_OK);
	assert_false(negotiate(1, 1u << 31) & VIRTIO_STATUS_FEATURES_OK);
	assert_false(negotiate(3, 1) & VIRTIO_STATUS_FEATURES_OK);
	assert_false(negotiate(4, 1) & VIRTIO_STATUS_FEATURES_OK); /* past what we can hold */
	assert_false(negotiate(UINT32_MAX, 1) & VIRTIO_STATUS_FEATURES_OK);
	assert_true(negotiate(0, 0) & VIRTIO_STATUS_FEATURES_OK);
	/* Too late: neither taken nor held against it. */
	wr(VIRTIO_MMIO_DRIVER_FEATURES_SEL, 0);
	wr(VIRTIO_MMIO_DRIVER_FEATURES, 0);
	assert_true(features_has(&w.echo.vdev.accepted, VIRTIO_F_EVENT_IDX));
}

static void device_notified_at_any_time_survives_G20(void **state)
{
	static u8 before[RAM_BYTES];

	for (u32 step = 0; step < 4; step++) {
		if (step == 1)
			negotiate(0, 0);
		if (step == 2)
			set_good_queue(0);
		if (step == 3)
			wr(VIRTIO_MMIO_STATUS, 0);
		memcpy(before, ram, RAM_BYTES);
		for (u32 i = 0; i < 10000; i++)
			wr(VIRTIO_MMIO_QUEUE_NOTIFY, i % 3);
		assert_memory_equal(before, ram, RAM_BYTES);
	}
	assert_int_equal(n_log_lines, 0);
	assert_false(w.line);
}

static void device_reset_with_requests_in_flight_touches_no_memory_after_G19(void **state)
{
	static u8 before[RAM_BYTES];

	plug();
	for (u32 i = 0; i < 2000; i++) {
		w.echo.hold = true;
		send(0);
		send(1);
		assert_true(w.echo.holding[0] && w.echo.holding[1]);
		wr(VIRTIO_MMIO_STATUS, 0);
		assert_int_equal(rd(VIRTIO_MMIO_STATUS), 0);
		for (u32 q = 0; q < 3; q++) { /* D-MMIO-4.2.2.1-05 */
			wr(VIRTIO_MMIO_QUEUE_SEL, q);
			assert_int_equal(rd(VIRTIO_MMIO_QUEUE_READY), 0);
		}
		assert_int_equal(rd(VIRTIO_MMIO_INTERRUPT_STATUS), 0);
		memcpy(before, ram, 65536);
		w.echo.hold = false;
		echo_release(&w.echo);
		wr(VIRTIO_MMIO_QUEUE_NOTIFY, 0);
		assert_memory_equal(before, ram, 65536);
		assert_false(w.line);
		/* And it is as new: the driver, which did not see it coming, begins again. */
		unplug();
		inproc_platform_init(&w.platform, ram, RAM_BYTES);
		plug();
	}
	unplug();
}

static void device_interrupt_stays_until_acknowledged(void **state)
{
	plug();
	assert_false(w.line);
	send(0);
	vdev_config_changed(&w.echo.vdev);
	assert_int_equal(rd(VIRTIO_MMIO_INTERRUPT_STATUS), VIRTIO_MMIO_INT_ALL);
	assert_int_equal(rd(VIRTIO_MMIO_INTERRUPT_STATUS), VIRTIO_MMIO_INT_ALL); /* -03 */
	wr(VIRTIO_MMIO_INTERRUPT_ACK, 0);
	wr(VIRTIO_MMIO_INTERRUPT_ACK, ~VIRTIO_MMIO_INT_ALL);
	assert_int_equal(rd(VIRTIO_MMIO_INTERRUPT_STATUS), VIRTIO_MMIO_INT_ALL);
	wr(VIRTIO_MMIO_INTERRUPT_ACK, VIRTIO_MMIO_INT_USED);
	assert_int_equal(rd(VIRTIO_MMIO_INTERRUPT_STATUS), VIRTIO_MMIO_INT_CONFIG);
	assert_true(w.line);
	wr(VIRTIO_MMIO_INTERRUPT_ACK, UINT32_MAX);
	assert_int_equal(rd(VIRTIO_MMIO_INTERRUPT_STATUS), 0);
	assert_false(w.line);
	assert_int_equal(w.n_line_changes, 2); /* a level, not a pulse an event */
	unplug();
}

static void device_queue_reset_works_only_if_negotiated(void **state)
{
	const u32 begun = VIRTIO_STATUS_ACKNOWLEDGE | VIRTIO_STATUS_DRIVER;

	wr(VIRTIO_MMIO_STATUS, begun);
	wr(VIRTIO_MMIO_DRIVER_FEATURES_SEL, 1);
	wr(VIRTIO_MMIO_DRIVER_FEATURES, 1); /* VERSION_1 alone */
	wr(VIRTIO_MMIO_STATUS, begun | VIRTIO_STATUS_FEATURES_OK);
	wr(VIRTIO_MMIO_DRIVER_FEATURES, UINT32_MAX); /* too late */
	set_good_queue(0);
	wr(VIRTIO_MMIO_QUEUE_RESET, 1);
	assert_int_equal(rd(VIRTIO_MMIO_QUEUE_READY), 1);

	assert_true(negotiate(0, 0) & VIRTIO_STATUS_FEATURES_OK);
	assert_int_equal(rd(VIRTIO_MMIO_QUEUE_RESET), 0); /* D-MMIO-4.2.2.1-08 */
	set_good_queue(0);
	set_good_queue(1);
	wr(VIRTIO_MMIO_STATUS, rd(VIRTIO_MMIO_STATUS) | VIRTIO_STATUS_DRIVER_OK);
	wr(VIRTIO_MMIO_QUEUE_SEL, 0);
	assert_int_equal(rd(VIRTIO_MMIO_QUEUE_RESET), 0); /* -09 */
	wr(VIRTIO_MMIO_QUEUE_RESET, 0);
	wr(VIRTIO_MMIO_QUEUE_RESET, 2);
	assert_int_equal(rd(VIRTIO_MMIO_QUEUE_READY), 1);
	wr(VIRTIO_MMIO_QUEUE_RESET, 1); /* -10 */
	assert_int_equal(rd(VIRTIO_MMIO_QUEUE_RESET), 0); /* -12 */
	assert_int_equal(rd(VIRTIO_MMIO_QUEUE_READY), 0);
	wr(VIRTIO_MMIO_QUEUE_SEL, 1);
	assert_int_equal(rd(VIRTIO_MMIO_QUEUE_READY), 1); /* one queue, not all */
	wr(VIRTIO_MMIO_QUEUE_SEL, 0);
	set_good_queue(0);
	assert_int_equal(rd(VIRTIO_MMIO_QUEUE_READY), 1);
	assert_false(needs_reset());
}

static void device_random_accesses_never_break_more_than_the_device(void **state)
{
	u64 rng = rig_seed();
	u32 n_ready = 0, n_broken = 0, n_live = 0;
	static const u32 numbers[] = { 0, 1, 2, 3, 7, 8, 11, 15, 64, 256, 0xffff, 0x10000 };

	for (u32 i = 0; i < 200000; i++) {
		u64 r = rig_random(&rng);
		u32 offset = r % 0x120 & (r >> 20 & 7 ? ~3u : ~0u);
		u32 width = r >> 24 & 7 ? 4 : r >> 28 & 15;
		u64 value = r >> 40 & 3 ? numbers[(r >> 42) % ARRAY_SIZE(numbers)]
					: INPROC_GPA + (r >> 44 & 0xfff0);

		/* Now and then something sensible, or nothing but the first steps would be seen. */
		switch (rig_random(&rng) % 64) {
		case 0:
			negotiate(0, 0);
			break;
		case 1:
		case 2:
			set_good_queue(r & 1);
			break;
		case 3:
		case 4:
			wr(VIRTIO_MMIO_STATUS, rd(VIRTIO_MMIO_STATUS) | VIRTIO_STATUS_DRIVER_OK);
			break;
		default:
			if (r >> 63)
				mmio_device_read(&w.back, offset, width);
			else
				mmio_device_write(&w.back, offset, width, value);
		}
		assert_int_equal(w.line, rd(VIRTIO_MMIO_INTERRUPT_STATUS) != 0);
		n_ready += w.echo.vdev.queues[0].started;
		n_broken += w.echo.vdev.broken;
		n_live += w.echo.vdev.active;
	}
	print_message("  of 200000 looks: queue 0 ready %u, broken %u, live %u\n", n_ready,
		      n_broken, n_live);
	assert_true(n_ready > 0 && n_broken > 0 && n_live > 0);
	/* Whatever it was, a reset ends it. */
	wr(VIRTIO_MMIO_STATUS, 0);
	plug();
	send(0);
	assert_true(mmio_driver_interrupt(&w.front));
	assert_int_equal(w.n_back, 1);
	unplug();
}

/* ---- the driver end ------------------------------------------------------------------------ */

static int found_with(u32 reg, u32 lie)
{
	w.lie_at = reg;
	w.lie = lie;
	w.n_accesses = n_log_lines = 0;
	return mmio_driver_init(&w.front, &w.regs, &w.platform.platform, "front");
}

static void driver_window_without_a_device_is_left_alone_D06(void **state)
{
	static const u32 versions[] = { 0, 3, 4, 0x102, 0x20000, 0x02000000, UINT32_MAX };

	assert_int_equal(found_with(VIRTIO_MMIO_MAGIC_VALUE, 0x74726977), -ENODEV);
	assert_int_equal(w.n_accesses, 1); /* G-MMIO-4.2.2.2-04: nothing more is touched */
	assert_int_equal(n_log_lines, 1);
	assert_int_equal(found_with(VIRTIO_MMIO_VERSION_REG, 1), -ENODEV);
	assert_int_equal(w.n_accesses, 2);
	assert_int_equal(n_log_lines, 1);
	assert_non_null(strstr(last_line, "version 1 (legacy)"));
	for (u32 i = 0; i < ARRAY_SIZE(versions); i++) { /* G-MMIO-4.2.2.2-05 */
		assert_int_equal(found_with(VIRTIO_MMIO_VERSION_REG, versions[i]), -ENODEV);
		assert_int_equal(w.n_accesses, 2);
		assert_int_equal(n_log_lines, 1);
	}
	assert_int_equal(found_with(VIRTIO_MMIO_DEVICE_ID, 0), 0);
	assert_int_equal(w.n_accesses, 3); /* G-MMIO-4.2.3.1.1-02c */
	assert_int_equal(n_log_lines, 0); /* G-MMIO-4.2.2.2-06b */
	w.gone = true;
	assert_int_equal(found_with(NOT_OVERRIDDEN, 0), -ENODEV);
}

static int registered_with(u32 reg, u32 lie)
{
	int err;

	assert_int_equal(found_with(NOT_OVERRIDDEN, 0), 1);
	w.lie_at = reg;
	w.lie = lie;
	assert_int_equal(register_virtio_driver(&test_driver), 0);
	err = register_virtio_device(&w.front.device);
	unplug();
	w.lie_at = NOT_OVERRIDDEN;
	return err;
}

static void driver_device_that_negotiates_badly_is_failed_D05(void **state)
{
	/* Both words read the same: VERSION_1 is bit 0 of the second. */
	assert_int_equal(registered_with(VIRTIO_MMIO_DEVICE_FEATURES, ~1u), -ENODEV);
	assert_int_equal(w.n_probes, 0);
	assert_true(rd(VIRTIO_MMIO_STATUS) & VIRTIO_STATUS_FAILED); /* G-CORE-3.1.1-04 */
	w.echo.refuse = true;
	assert_int_equal(registered_with(NOT_OVERRIDDEN, 0), -ENODEV);
	assert_int_equal(w.n_probes, 0);
	w.echo.refuse = false;
	assert_int_equal(registered_with(NOT_OVERRIDDEN, 0), 0);
	assert_int_equal(w.n_probes, 1);
}

static void driver_queue_that_cannot_be_is_refused_D06(void **state)
{
	assert_int_equal(registered_with(VIRTIO_MMIO_QUEUE_SIZE_MAX, 0), -ENOENT);
	assert_int_equal(registered_with(VIRTIO_MMIO_QUEUE_READY, 1), -EBUSY);
	for (u32 i = 0; i < MMIO_DRIVER_MAX_QUEUES; i++)
		assert_null(w.front.vqs[i]);
}

static void driver_reset_without_end_is_given_up_D07(void **state)
{
	assert_int_equal(registered_with(VIRTIO_MMIO_STATUS, 0x0f), -ETIMEDOUT);
	assert_int_equal(registered_with(VIRTIO_MMIO_STATUS, UINT32_MAX), -ENODEV);
	assert_int_equal(w.n_probes, 0);
}

static void no_token(struct virtqueue *vq, void *token)
{
	fail_msg("a buffer that the device may still write is given back");
}

static void driver_queue_reset_without_end_breaks_the_device_D07(void **state)
{
	static const u32 lies[] = { VIRTIO_MMIO_QUEUE_RESET, VIRTIO_MMIO_QUEUE_READY };

	for (u32 i = 0; i < ARRAY_SIZE(lies); i++) {
		w.n_probes = 0;
		plug();
		w.echo.hold = true;
		send(0);
		w.echo.hold = false;
		w.lie_at = lies[i];
		w.lie = 1;
		/* G-MMIO-4.2.2.2-14 */
		assert_int_equal(virtqueue_reset(w.vqs[0], no_token), -ETIMEDOUT);
		w.lie_at = NOT_OVERRIDDEN;
		assert_true(virtio_poll());
		assert_int_equal(w.n_probes, 2);
		assert_int_equal(w.front.device.state, VIRTIO_STATE_LIVE);
		unplug();
	}
}

static void driver_device_pulled_out_gives_everything_back_D07(void **state)
{
	plug();
	w.echo.hold = true;
	send(0);
	w.gone = true;
	assert_false(mmio_driver_interrupt(&w.front));
	assert_int_equal(w.n_back, 0);
	virtio_device_gone(&w.front.device);
	assert_null(w.front.vqs[0]);
	w.gone = false;
	w.echo.hold = false;
	assert_int_equal(virtio_device_back(&w.front.device), 0);
	send(0);
	assert_true(mmio_driver_interrupt(&w.front));
	assert_int_equal(w.n_back, 1);
	unplug();
}

static void driver_needs_reset_in_the_middle_recovers_D07(void **state)
{
	plug();
	vdev_break(&w.echo.vdev, 0, "the test breaks it");
	assert_true(w.line);
	assert_true(mmio_driver_interrupt(&w.front));
	assert_true(virtio_poll());
	assert_int_equal(w.n_probes, 2);
	assert_false(needs_reset());
	assert_false(w.line);
	send(1);
	assert_true(mmio_driver_interrupt(&w.front));
	assert_int_equal(w.n_back, 1);
	unplug();
}

static void driver_interrupts_of_any_kind_end_D07(void **state)
{
	plug();
	assert_false(mmio_driver_interrupt(&w.front)); /* not ours */
	w.lie_at = VIRTIO_MMIO_INTERRUPT_STATUS;
	w.lie = ~VIRTIO_MMIO_INT_ALL ^ 0x80000000; /* G-MMIO-4.2.2.2-12 */
	assert_false(mmio_driver_interrupt(&w.front));
	w.lie = UINT32_MAX - 0x10;
	for (u32 i = 0; i < 100000; i++) { /* a storm: each call is short and tells the truth */
		w.n_accesses = 0;
		assert_true(mmio_driver_interrupt(&w.front));
		assert_true(w.n_accesses <= 3);
	}
	assert_int_equal(w.n_back, 0);
	assert_int_equal(w.n_config, 100000);
	w.lie_at = NOT_OVERRIDDEN;
	unplug();
}

static void driver_one_interrupt_serves_all_queues_then_is_acknowledged(void **state)
{
	plug();
	send(0);
	send(1);
	w.n_accesses = 0;
	assert_true(w.line);
	assert_true(mmio_driver_interrupt(&w.front));
	assert_int_equal(w.n_back, 2); /* G-MMIO-4.2.3.4.1-02 */
	assert_false(w.line); /* -03 */
	assert_int_equal(w.log[0].offset, VIRTIO_MMIO_INTERRUPT_STATUS); /* -01 */
	assert_int_equal(w.log[1].offset, VIRTIO_MMIO_INTERRUPT_ACK);
	assert_int_equal(w.n_accesses, 2);
	unplug();
}

static void driver_polled_mode_needs_no_line(void **state)
{
	plug();
	for (u32 i = 0; i < 5000; i++) {
		send(i % N_QUEUES);
		if (i % 7 == 0)
			mmio_driver_interrupt(&w.front);
	}
	while (mmio_driver_interrupt(&w.front))
		;
	assert_int_equal(w.n_back, 5000);
	unplug();
}

static void driver_config_is_accessed_by_its_fields_widths(void **state)
{
	u8 mac[6];

	plug();
	for (u32 width = 1; width <= 8; width *= 2) {
		u32 n = width == 8 ? 2 : 1, each = width == 8 ? 4 : width;
		u64 value = 0x0f0e0d0c0b0a0908;

		w.n_accesses = 0;
		assert_true(virtio_cread(&w.front.device, 8, width) ==
			    (width == 8 ? value : value & ((1ull << 8 * width) - 1)));
		assert_int_equal(w.n_accesses, n + 2); /* between two looks at the generation */
		for (u32 i = 0; i < n; i++) {
			assert_int_equal(w.log[1 + i].offset, 0x108 + 4 * i);
			assert_int_equal(w.log[1 + i].width, each);
		}
	}
	w.n_accesses = 0;
	virtio_cread_bytes(&w.front.device, 0, mac, 6);
	assert_memory_equal(mac, "\0\1\2\3\4\5", 6);
	assert_int_equal(w.n_accesses, 8);
	virtio_cwrite(&w.front.device, 4, 4, 0x11223344);
	virtio_cwrite(&w.front.device, 6, 2, 0x5566);
	virtio_cwrite(&w.front.device, 5, 1, 0x77);
	assert_int_equal(virtio_cread(&w.front.device, 4, 4), 0x55667744);
	unplug();
}

#define ROW(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		ROW(device_identity_is_that_of_version_2),
		ROW(device_illegal_access_reads_0_and_changes_nothing_G21),
		ROW(device_wrong_direction_reads_0_and_changes_nothing_G21),
		ROW(device_config_is_read_and_written_by_any_legal_width_G21_G23),
		ROW(device_generation_follows_each_change_G23),
		ROW(device_selection_out_of_range_finds_nothing_G16),
		ROW(device_impossible_queue_breaks_until_reset_G15_G17),
		ROW(device_queue_needs_features_first),
		ROW(device_queue_registers_after_ready_are_ignored_G15),
		ROW(device_queue_not_ready_leaves_its_ring_alone),
		ROW(device_status_of_any_value_from_any_state_is_defined_G18),
		ROW(device_features_not_offered_are_refused_G22),
		ROW(device_notified_at_any_time_survives_G20),
		ROW(device_reset_with_requests_in_flight_touches_no_memory_after_G19),
		ROW(device_interrupt_stays_until_acknowledged),
		ROW(device_queue_reset_works_only_if_negotiated),
		ROW(device_random_accesses_never_break_more_than_the_device),
		ROW(driver_window_without_a_device_is_left_alone_D06),
		ROW(driver_device_that_negotiates_badly_is_failed_D05),
		ROW(driver_queue_that_cannot_be_is_refused_D06),
		ROW(driver_reset_without_end_is_given_up_D07),
		ROW(driver_queue_reset_without_end_breaks_the_device_D07),
		ROW(driver_device_pulled_out_gives_everything_back_D07),
		ROW(driver_needs_reset_in_the_middle_recovers_D07),
		ROW(driver_interrupts_of_any_kind_end_D07),
		ROW(driver_one_interrupt_serves_all_queues_then_is_acknowledged),
		ROW(driver_polled_mode_needs_no_line),
		ROW(driver_config_is_accessed_by_its_fields_widths),
	};

	log_set_hook(keep_line);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
