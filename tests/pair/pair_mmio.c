/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * MMIO as a transport for pairs: each register access of our driver end goes straight to our
 * device end, but for QueueNotify, which waits as it does where a monitor has the kernel make an
 * event of it. Doorbells, the interrupt line and looks that go on are picked by a seeded step.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "tests/pair/pair.h"
#include "tests/support/rig.h"
#include "transport/mmio/device.h"
#include "transport/mmio/driver.h"

struct window {
	struct mmio_regs regs;
	struct mmio_driver front;
	struct mmio_device back;
	struct memory map;
	struct memory_region region;
	u64 random;
	u64 kicked; /* a bit a queue */
	bool line; /* the interrupt's level */
	bool cut; /* nobody answers: all ones, and writes go nowhere */
};

static u64 access_read(struct mmio_regs *regs, u32 offset, u32 width)
{
	struct window *w = container_of(regs, struct window, regs);

	return w->cut ? UINT64_MAX : mmio_device_read(&w->back, offset, width);
}

static void access_write(struct mmio_regs *regs, u32 offset, u32 width, u64 value)
{
	struct window *w = container_of(regs, struct window, regs);

	if (w->cut)
		return;
	if (offset == VIRTIO_MMIO_QUEUE_NOTIFY && width == 4 && value < w->back.vdev->n_queues)
		w->kicked |= 1ull << value;
	else
		mmio_device_write(&w->back, offset, width, value);
}

static u8 read8(struct mmio_regs *regs, u32 offset)
{
	return access_read(regs, offset, 1);
}

static u16 read16(struct mmio_regs *regs, u32 offset)
{
	return access_read(regs, offset, 2);
}

static u32 read32(struct mmio_regs *regs, u32 offset)
{
	return access_read(regs, offset, 4);
}

static void write8(struct mmio_regs *regs, u32 offset, u8 value)
{
	access_write(regs, offset, 1, value);
}

static void write16(struct mmio_regs *regs, u32 offset, u16 value)
{
	access_write(regs, offset, 2, value);
}

static void write32(struct mmio_regs *regs, u32 offset, u32 value)
{
	access_write(regs, offset, 4, value);
}

static const struct mmio_regs_ops regs_ops = { read8, read16, read32, write8, write16, write32 };

static void window_irq(void *arg, bool high)
{
	((struct window *)arg)->line = high;
}

static void window_start(struct pair *p)
{
	struct window *w = calloc(1, sizeof(*w));
	struct mmio_device_queue *queues = calloc(p->back->n_queues, sizeof(*queues));

	assert_non_null(w);
	assert_non_null(queues);
	assert_true(p->back->n_queues <= 64);
	w->regs.ops = &regs_ops;
	w->random = p->seed;
	w->region = (struct memory_region){ INPROC_GPA, PAIR_RAM_BYTES, p->memory.ram };
	assert_int_equal(memory_init(&w->map, &w->region, 1), 0);
	mmio_device_init(&w->back, p->back, queues, window_irq, w);
	vdev_set_memory(p->back, &w->map);
	assert_int_equal(mmio_driver_init(&w->front, &w->regs, &p->memory.platform, p->back->name),
			 1);
	p->link = w;
	p->front = &w->front.device;
}

static void window_stop(struct pair *p)
{
	struct window *w = p->link;

	unregister_virtio_device(p->front);
	mmio_device_fini(&w->back);
	vdev_set_memory(p->back, NULL);
	assert_int_equal(w->map.n_pins, 1);
	free(w->back.queues);
	free(w);
}

static bool ring_one(struct window *w)
{
	u64 queue;

	if (!w->kicked)
		return false;
	/* Without a seed the lowest, else the first that waits from a random one on. */
	queue = w->random ? rig_random(&w->random) % 64 : 0;
	while (!(w->kicked >> queue & 1))
		queue = (queue + 1) % 64;
	w->kicked &= ~(1ull << queue);
	mmio_device_write(&w->back, VIRTIO_MMIO_QUEUE_NOTIFY, 4, queue);
	return true;
}

static bool window_step(struct pair *p)
{
	struct window *w = p->link;
	u64 first = w->random ? rig_random(&w->random) % 3 : 0;

	for (u32 i = 0; i < 3; i++) {
		switch ((first + i) % 3) {
		case 0:
			if (ring_one(w))
				return true;
			break;
		case 1:
			if (w->line && mmio_driver_interrupt(&w->front))
				return true;
			break;
		case 2:
			if (mmio_device_step(&w->back))
				return true;
			break;
		}
	}
	return false;
}

static void window_cut(struct pair *p)
{
	struct window *w = p->link;

	mmio_device_write(&w->back, VIRTIO_MMIO_STATUS, 4,
			  0); /* it takes its hands off our memory */
	w->cut = true;
	w->kicked = 0;
	virtio_device_gone(p->front);
}

static int window_join(struct pair *p)
{
	((struct window *)p->link)->cut = false;
	return virtio_device_back(p->front);
}

const struct pair_transport pair_mmio = {
	.name = "mmio",
	.start = window_start,
	.stop = window_stop,
	.step = window_step,
	.cut = window_cut,
	.join = window_join,
};
