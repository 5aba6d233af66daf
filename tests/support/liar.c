/* SPDX-License-Identifier: BSD-3-Clause */
#include "tests/support/liar.h"

#include <stdlib.h>
#include <string.h>

#include "base/shared.h"

static struct liar *liar_of(struct virtio_device *vdev)
{
	return container_of(vdev, struct liar, front);
}

static void liar_get(struct virtio_device *vdev, u32 offset, void *buf, u32 n_bytes)
{
	struct liar *liar = liar_of(vdev);

	ASSERT(offset <= sizeof(liar->config) && n_bytes <= sizeof(liar->config) - offset);
	memcpy(buf, liar->config + offset, n_bytes);
	liar->n_config_reads++;
}

static void liar_set(struct virtio_device *vdev, u32 offset, const void *buf, u32 n_bytes)
{
	ASSERT(offset <= sizeof(liar_of(vdev)->config) &&
	       n_bytes <= sizeof(liar_of(vdev)->config) - offset);
	memcpy(liar_of(vdev)->config + offset, buf, n_bytes);
}

static u32 liar_generation(struct virtio_device *vdev)
{
	return liar_of(vdev)->unstable ? liar_of(vdev)->n_config_reads : 0;
}

static u8 liar_get_status(struct virtio_device *vdev)
{
	return liar_of(vdev)->status;
}

static void status_heard(struct liar *liar, u8 status)
{
	if (liar->n_statuses < sizeof(liar->statuses))
		liar->statuses[liar->n_statuses] = status;
	liar->n_statuses++;
}

static void liar_set_status(struct virtio_device *vdev, u8 status)
{
	struct liar *liar = liar_of(vdev);

	status_heard(liar, status);
	liar->status = status;
	if (liar->refuses_features)
		liar->status &= ~VIRTIO_STATUS_FEATURES_OK;
}

static int liar_reset(struct virtio_device *vdev)
{
	struct liar *liar = liar_of(vdev);

	status_heard(liar, 0);
	for (u32 i = 0; i < LIAR_MAX_QUEUES; i++)
		if (liar->queues[i].q.live)
			devq_stop(&liar->queues[i].q);
	if (liar->gone)
		return -ENODEV;
	if (liar->resets_never)
		return -ETIMEDOUT;
	liar->status = 0;
	return 0;
}

static bool liar_notify(struct virtqueue *vq)
{
	liar_of(virtqueue_device(vq))->n_kicks++;
	return true;
}

static void liar_del_vqs(struct virtio_device *vdev)
{
	struct liar *liar = liar_of(vdev);

	for (u32 i = 0; i < LIAR_MAX_QUEUES; i++) {
		struct liar_queue *q = &liar->queues[i];

		if (!q->vq)
			continue;
		ASSERT(!q->q.live); /* the driver has to reset before */
		virtio_vq_destroy(vdev, q->vq);
		q->vq = NULL;
	}
}

static int liar_find_vq(struct liar *liar, u16 index, const struct virtqueue_info *info)
{
	struct liar_queue *q = &liar->queues[index];
	struct devq_setup setup = {
		.packed = virtio_has_feature(&liar->front, VIRTIO_F_RING_PACKED),
		.event_idx = virtio_has_feature(&liar->front, VIRTIO_F_EVENT_IDX),
		.indirect = virtio_has_feature(&liar->front, VIRTIO_F_INDIRECT_DESC),
	};
	struct virtqueue_addrs addrs;
	int size = virtio_vq_size(&liar->front, info, liar->max_size);

	if (index >= liar->n_queues)
		return -ENOENT;
	if (size < 0)
		return size;
	q->vq = virtio_vq_create(&liar->front, index, size, info, liar_notify, &addrs);
	if (!q->vq)
		return -ENOMEM;
	setup.size = size;
	setup.desc_gpa = addrs.desc;
	setup.driver_gpa = addrs.driver_area;
	setup.device_gpa = addrs.device_area;
	devq_init(&q->q, 1024, q->map);
	ASSERT(devq_start(&q->q, &setup, &liar->map,
			  setup.packed ? DEVQ_POSITION_START_PACKED : 0) == 0);
	q->used_idx = q->used_slot = 0;
	q->used_wrap = true;
	return 0;
}

static int liar_find_vqs(struct virtio_device *vdev, u32 n, struct virtqueue *vqs[],
			 const struct virtqueue_info infos[])
{
	struct liar *liar = liar_of(vdev);

	if (n > LIAR_MAX_QUEUES)
		return -ENOENT;
	liar->n_find_vqs++;
	for (u32 i = 0; i < n; i++) {
		int err = infos[i].absent ? 0 : liar_find_vq(liar, i, &infos[i]);

		if (err < 0) {
			liar_reset(vdev);
			liar_del_vqs(vdev);
			return err;
		}
		vqs[i] = liar->queues[i].vq;
	}
	return 0;
}

static void liar_get_features(struct virtio_device *vdev, struct features *offered)
{
	*offered = liar_of(vdev)->offers;
	liar_of(vdev)->n_feature_reads++;
}

static int liar_finalize_features(struct virtio_device *vdev)
{
	liar_of(vdev)->written = vdev->features;
	return 0;
}

static const struct virtio_config_ops liar_ops = {
	.get = liar_get,
	.set = liar_set,
	.generation = liar_generation,
	.get_status = liar_get_status,
	.set_status = liar_set_status,
	.reset = liar_reset,
	.find_vqs = liar_find_vqs,
	.del_vqs = liar_del_vqs,
	.get_features = liar_get_features,
	.finalize_features = liar_finalize_features,
};

void liar_init(struct liar *liar, u32 device_id)
{
	void *ram = aligned_alloc(4096, LIAR_RAM_BYTES);

	ASSERT(ram);
	memset(liar, 0, sizeof(*liar));
	inproc_platform_init(&liar->memory, ram, LIAR_RAM_BYTES);
	liar->region = (struct memory_region){ INPROC_GPA, LIAR_RAM_BYTES, ram };
	ASSERT(memory_init(&liar->map, &liar->region, 1) == 0);
	liar->front.id.device = device_id;
	liar->front.id.vendor = 0x1af4;
	liar->front.config = &liar_ops;
	liar->front.platform = &liar->memory.platform;
	liar->front.name = "liar";
	features_set(&liar->offers, VIRTIO_F_VERSION_1);
	features_set(&liar->offers, VIRTIO_F_EVENT_IDX);
	features_set(&liar->offers, VIRTIO_F_INDIRECT_DESC);
	liar->written = (struct features){ { UINT64_MAX, UINT64_MAX } };
	liar->n_queues = 1;
	liar->max_size = 64;
}

void liar_fini(struct liar *liar)
{
	ASSERT(!liar->front.driver && liar->memory.n_mapped == 0 && liar->map.n_pins == 1);
	for (u32 i = 0; i < LIAR_MAX_QUEUES; i++)
		ASSERT(!liar->queues[i].vq);
	free(liar->memory.ram);
}

void *liar_alloc(struct liar *liar, size_t n_bytes)
{
	u64 addr;
	void *p = liar->front.platform->ops->dma_alloc(liar->front.platform, n_bytes, 64, &addr);

	ASSERT(p);
	return p;
}

bool liar_pop(struct liar *liar, u16 queue, struct chain *c)
{
	struct liar_queue *q = &liar->queues[queue];

	if (!q->q.live)
		return false;
	c->spans = liar->spans;
	c->max_spans = LIAR_MAX_SPANS;
	if (devq_pop(&q->q, c) <= 0)
		return false;
	/* Answers are written by hand; the packed ring's own count of them goes on regardless. */
	devq_drop(&q->q, c);
	if (q->q.setup.packed)
		q->q.packed.n_slots_in_flight -= c->n_slots;
	return true;
}

void liar_use(struct liar *liar, u16 queue, u32 id, u32 len, u16 n_slots)
{
	struct liar_queue *q = &liar->queues[queue];
	struct virtqueue_setup *s = &q->vq->setup;

	if (!s->packed) {
		struct virtq_used *used = s->device_area;
		struct virtq_used_elem *e = &used->ring[q->used_idx % s->size];

		le32_store(&e->id, id);
		le32_store(&e->len, len);
		le16_store_release(&used->idx, ++q->used_idx);
	} else {
		struct virtq_packed_desc *d = (struct virtq_packed_desc *)s->desc + q->used_slot;
		u16 marks = VIRTQ_PACKED_DESC_F_AVAIL | VIRTQ_PACKED_DESC_F_USED;

		le16_store(&d->id, id);
		le32_store(&d->len, len);
		le16_store_release(&d->flags, VIRTQ_DESC_F_WRITE | (q->used_wrap ? marks : 0));
		q->used_wrap ^= q->used_slot + n_slots >= s->size;
		q->used_slot = (q->used_slot + n_slots) % s->size;
	}
}

void liar_answer(struct liar *liar, u16 queue, const struct chain *c, u32 len)
{
	liar_use(liar, queue, c->id, len, c->n_slots);
}

void liar_jump(struct liar *liar, u16 queue, int by)
{
	struct liar_queue *q = &liar->queues[queue];
	struct virtq_used *used = q->vq->setup.device_area;

	q->used_idx += by;
	le16_store_release(&used->idx, q->used_idx);
}

void liar_interrupt(struct liar *liar, u16 queue)
{
	struct virtqueue *vq = liar->queues[queue].vq;

	if (vq && vq->setup.callback)
		vq->setup.callback(vq);
	while (virtio_poll())
		;
}

void liar_breaks(struct liar *liar)
{
	liar->status |= VIRTIO_STATUS_DEVICE_NEEDS_RESET;
	virtio_config_changed(&liar->front);
}
