/* SPDX-License-Identifier: BSD-3-Clause */
/* The rig: guest RAM with made-up addresses, direct notifications, the start-up handshake. */
#include "tests/support/rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include <cmocka.h>

u64 rig_gpa(const struct rig *rig, const void *p)
{
	size_t at = (const u8 *)p - rig->ram;

	assert_true(at < RIG_RAM_BYTES);
	return at < RIG_HALF_BYTES ? RIG_GPA_LOW + at : RIG_GPA_HIGH + (at - RIG_HALF_BYTES);
}

static u64 rig_map(struct dma *dma, void *p, size_t n_bytes, enum dma_dir dir)
{
	struct rig *rig = container_of(dma, struct rig, dma);

	rig->n_mapped++;
	return rig_gpa(rig, p);
}

static void rig_unmap(struct dma *dma, u64 addr, size_t n_bytes, enum dma_dir dir)
{
	struct rig *rig = container_of(dma, struct rig, dma);

	assert_true(rig->n_mapped > 0);
	rig->n_mapped--;
}

static const struct dma_ops rig_dma_ops = { rig_map, rig_unmap };

static void rig_used(struct vdev_link *link, u16 queue)
{
	container_of(link, struct rig, link)->n_used[queue]++;
}

static void rig_config(struct vdev_link *link)
{
	container_of(link, struct rig, link)->n_config++;
}

static void rig_again(struct vdev_link *link, u16 queue)
{
	struct rig *rig = container_of(link, struct rig, link);

	rig->n_again++;
	rig->again[queue] = true;
}

static const struct vdev_link_ops rig_link_ops = { rig_used, rig_config, rig_again };

static bool rig_notify(struct virtqueue *vq)
{
	struct rig *rig = vq->priv;

	rig->n_kicks[vq->index]++;
	if (!rig->deaf)
		vdev_kick(rig->vdev, vq->index);
	return true;
}

void *rig_alloc(struct rig *rig, size_t n_bytes)
{
	bool low = rig->low_used <= rig->high_used;
	size_t *used = low ? &rig->low_used : &rig->high_used;
	size_t at = (*used + 15) & ~(size_t)15;
	u8 *p = rig->ram + (low ? 0 : RIG_HALF_BYTES) + at;

	assert_true(n_bytes <= RIG_HALF_BYTES - at);
	*used = at + n_bytes;
	memset(p, 0, n_bytes);
	return p;
}

void rig_start_queue(struct rig *rig, u16 index)
{
	const struct rig_options *o = &rig->options;
	u16 max = rig->vdev->queues[index].q.max_size;
	u16 size = o->queue_size ? o->queue_size : 64;
	struct virtqueue *vq = &rig->vq[index];

	if (size > max)
		size = max;

	struct virtqueue_setup s = {
		.size = size,
		.packed = o->packed,
		.event_idx = o->event_idx,
		.indirect = o->indirect,
		.desc = rig_alloc(rig, VIRTQ_DESC_BYTES(size)),
		.driver_area = rig_alloc(rig, VIRTQ_AVAIL_BYTES(size)),
		.device_area = rig_alloc(rig, VIRTQ_USED_BYTES(size)),
		.slots = calloc(size, sizeof(struct vq_slot)),
		.max_indirect = RIG_MAX_INDIRECT,
		.dma = &rig->dma,
		.notify = rig_notify,
		.name = "rig",
	};
	struct devq_setup d = {
		.size = size,
		.desc_gpa = rig_gpa(rig, s.desc),
		.driver_gpa = rig_gpa(rig, s.driver_area),
		.device_gpa = rig_gpa(rig, s.device_area),
	};

	if (o->indirect) {
		s.tables = rig_alloc(rig, (size_t)size * RIG_MAX_INDIRECT * 16);
		s.pieces = calloc((size_t)size * RIG_MAX_INDIRECT, sizeof(struct vq_piece));
	}
	assert_int_equal(virtqueue_init(vq, &s), 0);
	vq->priv = rig;
	vq->index = index;
	assert_int_equal(
		vdev_queue_start(rig->vdev, index, &d, vdev_queue_position_start(rig->vdev)), 0);
	vdev_queue_enable(rig->vdev, index, true);
}

static void features_choose(struct features *f, unsigned int bit, bool on)
{
	if (!on)
		features_clear(f, bit);
}

void rig_restart(struct rig *rig, const int *features)
{
	struct vdev *vdev = rig->vdev;
	const struct rig_options *o = &rig->options;
	struct features accepted = vdev->offered;

	rig->low_used = rig->high_used = 4096;
	if (features) {
		/* The type's bits are 0-23 and from 50 on; the rest belongs to ring and transport. */
		for (unsigned int bit = 0; bit < 128; bit++)
			if (bit < 24 || bit >= 50)
				features_clear(&accepted, bit);
		for (; *features >= 0; features++) {
			assert_true(features_has(&vdev->offered, *features));
			features_set(&accepted, *features);
		}
	}
	features_choose(&accepted, VIRTIO_F_RING_PACKED, o->packed);
	features_choose(&accepted, VIRTIO_F_EVENT_IDX, o->event_idx);
	features_choose(&accepted, VIRTIO_F_INDIRECT_DESC, o->indirect);

	vdev_set_status(vdev, VIRTIO_STATUS_ACKNOWLEDGE);
	vdev_set_status(vdev, vdev->status | VIRTIO_STATUS_DRIVER);
	vdev_set_features(vdev, &accepted);
	vdev_set_status(vdev, vdev->status | VIRTIO_STATUS_FEATURES_OK);
	assert_true(vdev->status & VIRTIO_STATUS_FEATURES_OK);
	assert_true(vdev->n_queues <= RIG_MAX_QUEUES);
	for (u16 i = 0; i < vdev->n_queues; i++) {
		if (i < 64 && rig->left_out >> i & 1)
			rig->vq[i] = (struct virtqueue){ 0 };
		else
			rig_start_queue(rig, i);
	}
	vdev_set_status(vdev, vdev->status | VIRTIO_STATUS_DRIVER_OK);
	assert_true(vdev->status & VIRTIO_STATUS_DRIVER_OK);
}

void rig_start(struct rig *rig, struct vdev *vdev, const struct rig_options *options,
	       const int *features)
{
	*rig = (struct rig){
		.vdev = vdev,
		.options = *options,
		.link.ops = &rig_link_ops,
		.dma.ops = &rig_dma_ops,
	};
	rig->ram = mmap(NULL, RIG_RAM_BYTES, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	assert_true(rig->ram != MAP_FAILED);
	rig->regions[0] = (struct memory_region){ RIG_GPA_LOW, RIG_HALF_BYTES, rig->ram };
	rig->regions[1] =
		(struct memory_region){ RIG_GPA_HIGH, RIG_HALF_BYTES, rig->ram + RIG_HALF_BYTES };
	assert_int_equal(memory_init(&rig->memory, rig->regions, 2), 0);
	vdev_set_link(vdev, &rig->link);
	vdev_set_memory(vdev, &rig->memory);
	rig_restart(rig, features);
}

unsigned int rig_reset(struct rig *rig)
{
	unsigned int n = 0;

	vdev_reset(rig->vdev);
	for (u16 i = 0; i < rig->vdev->n_queues; i++) {
		while (virtqueue_detach(&rig->vq[i]))
			n++;
		free(rig->vq[i].setup.slots);
		free(rig->vq[i].setup.pieces);
	}
	assert_int_equal(rig->n_mapped, 0);
	return n;
}

void rig_stop(struct rig *rig)
{
	rig_reset(rig);
	vdev_set_memory(rig->vdev, NULL);
	vdev_set_link(rig->vdev, NULL);
	assert_int_equal(rig->memory.n_pins, 1);
	munmap(rig->ram, RIG_RAM_BYTES);
}

void rig_submit(struct rig *rig, u16 queue, const struct span *sg, u32 n_out, u32 n_in, void *token)
{
	assert_int_equal(virtqueue_add_buf(&rig->vq[queue], sg, n_out, n_in, token), 0);
	assert_true(virtqueue_kick(&rig->vq[queue]));
}

void *rig_reap(struct rig *rig, u16 queue, u32 *n_written)
{
	void *token = virtqueue_get_buf(&rig->vq[queue], n_written);

	assert_false(virtqueue_is_broken(&rig->vq[queue]));
	return token;
}

u32 rig_transact(struct rig *rig, u16 queue, const struct span *sg, u32 n_out, u32 n_in)
{
	u32 n_written = 0;
	int token;

	rig_submit(rig, queue, sg, n_out, n_in, &token);
	assert_ptr_equal(rig_reap(rig, queue, &n_written), &token);
	return n_written;
}

struct rig_options rig_combination(unsigned int i)
{
	return (struct rig_options){ .packed = i & 1, .event_idx = i & 2, .indirect = i & 4 };
}

const char *rig_describe(const struct rig_options *o)
{
	static char text[64];

	snprintf(text, sizeof(text), "%s%s%s", o->packed ? "packed" : "split",
		 o->event_idx ? " event_idx" : "", o->indirect ? " indirect" : "");
	return text;
}

u64 rig_random(u64 *state)
{
	u64 z = *state += 0x9e3779b97f4a7c15;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
	z = (z ^ z >> 27) * 0x94d049bb133111eb;
	return z ^ z >> 31;
}

u64 rig_seed(void)
{
	const char *given = getenv("VIADUCT_TEST_SEED");
	struct timespec now;
	u64 seed;

	clock_gettime(CLOCK_MONOTONIC, &now);
	seed = given ? strtoull(given, NULL, 0) : (u64)now.tv_sec * 1000000007u + now.tv_nsec;
	printf("seed %llu (set VIADUCT_TEST_SEED to repeat)\n", (unsigned long long)seed);
	return seed;
}
