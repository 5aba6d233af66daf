/* SPDX-License-Identifier: BSD-3-Clause */
/* The front end: messages, rings in RAM, addresses that are nobody's pointers. */
#include "tests/support/front.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "spec/virtio.h"

int front_message(struct front *f, u32 request, const void *payload, u32 n_bytes, const int *fds,
		  u32 n_fds)
{
	struct vhost_user_header h = { request, VHOST_USER_VERSION, n_bytes };

	return f->send(f, &h, payload, fds, n_fds);
}

int front_number(struct front *f, u32 request, u64 number)
{
	return front_message(f, request, &number, sizeof(number), NULL, 0);
}

int front_state(struct front *f, u32 request, u32 index, u32 value)
{
	struct vhost_user_vring_state s = { index, value };

	return front_message(f, request, &s, sizeof(s), NULL, 0);
}

int front_ring_fd(struct front *f, u32 request, u16 queue, int fd)
{
	u64 number = fd < 0 ? queue | VHOST_USER_VRING_NO_FD : queue;

	return front_message(f, request, &number, sizeof(number), &fd, fd >= 0);
}

struct vhost_user_region front_region(void)
{
	return (struct vhost_user_region){ FRONT_GPA, FRONT_RAM_BYTES, FRONT_ADDR, 0 };
}

int front_memory(struct front *f, int fd)
{
	struct vhost_user_mem_table t = { .n_regions = 1, .regions[0] = front_region() };

	return front_message(f, VHOST_USER_SET_MEM_TABLE, &t, 8 + sizeof(t.regions[0]), &fd, 1);
}

u64 front_features(const struct front *f)
{
	return 1ull << VIRTIO_F_VERSION_1 | 1ull << VHOST_USER_F_PROTOCOL_FEATURES |
	       (u64)f->packed << VIRTIO_F_RING_PACKED | (u64)f->event_idx << VIRTIO_F_EVENT_IDX;
}

void *front_alloc(struct front *f, u32 n_bytes)
{
	u32 at = (f->used_bytes + 15) & ~15u;

	assert_true(n_bytes <= FRONT_RAM_BYTES - at);
	f->used_bytes = at + n_bytes;
	return memset(f->ram + at, 0, n_bytes);
}

u64 front_gpa(const struct front *f, const void *p)
{
	return FRONT_GPA + ((const u8 *)p - f->ram);
}

static u64 front_map(struct dma *dma, void *p, size_t n_bytes, enum dma_dir dir)
{
	return front_gpa(container_of(dma, struct front, dma), p);
}

static void front_unmap(struct dma *dma, u64 addr, size_t n_bytes, enum dma_dir dir)
{
}

static const struct dma_ops front_dma = { front_map, front_unmap };

static bool front_notify(struct virtqueue *vq)
{
	struct front *f = vq->priv;

	f->kick(f, vq->index);
	return true;
}

int front_ring(struct front *f, u16 queue)
{
	struct virtqueue_setup s = {
		.size = FRONT_QUEUE_SIZE,
		.packed = f->packed,
		.event_idx = f->event_idx,
		.desc = front_alloc(f, VIRTQ_DESC_BYTES(FRONT_QUEUE_SIZE)),
		.driver_area = front_alloc(f, VIRTQ_AVAIL_BYTES(FRONT_QUEUE_SIZE)),
		.device_area = front_alloc(f, VIRTQ_USED_BYTES(FRONT_QUEUE_SIZE)),
		.slots = f->slots[queue],
		.dma = &f->dma,
		.notify = front_notify,
		.name = "front",
	};
	u64 to_front = FRONT_ADDR - FRONT_GPA;
	struct vhost_user_vring_addr a = {
		.index = queue,
		.desc = front_gpa(f, s.desc) + to_front,
		.avail = front_gpa(f, s.driver_area) + to_front,
		.used = front_gpa(f, s.device_area) + to_front,
	};
	int err;

	f->dma.ops = &front_dma;
	assert_int_equal(virtqueue_init(&f->vq[queue], &s), 0);
	f->vq[queue].priv = f;
	f->vq[queue].index = queue;
	err = front_state(f, VHOST_USER_SET_VRING_NUM, queue, FRONT_QUEUE_SIZE);
	if (err == 0)
		err = front_state(f, VHOST_USER_SET_VRING_BASE, queue, f->packed ? 0x80008000u : 0);
	if (err == 0)
		err = front_message(f, VHOST_USER_SET_VRING_ADDR, &a, sizeof(a), NULL, 0);
	return err;
}

void front_submit(struct front *f, u16 queue, const void *out, u32 n_out, void *in, u32 n_in)
{
	struct span sg[] = { { (void *)(uintptr_t)out, n_out }, { in, n_in } };

	assert_int_equal(virtqueue_add_buf(&f->vq[queue], sg, 1, 1, in), 0);
	assert_true(virtqueue_kick(&f->vq[queue]));
}
