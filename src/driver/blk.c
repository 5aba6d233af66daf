/* SPDX-License-Identifier: BSD-3-Clause */
/* The block driver: what a disk says about itself, and how it comes up, goes down and comes back. */
#include "base/log.h"
#include "base/shared.h"
#include "driver/blk_queue.h"

#define MAX_BLOCK_BYTES (1u << 20)

const struct driver_blk_info *driver_blk_info(const struct virtio_device *vdev)
{
	return blk_of(vdev) ? &blk_of(vdev)->info : NULL;
}

static u32 cread32(struct virtio_device *vdev, u32 bit, u32 offset, u32 otherwise)
{
	u32 value = virtio_has_feature(vdev, bit) ? virtio_cread(vdev, offset, 4) : 0;

	return value ? value : otherwise; /* some devices say 0 and mean that they do not care */
}
#define CREAD32(vdev, bit, field, otherwise) \
	cread32(vdev, bit, offsetof(struct virtio_blk_config, field), otherwise)

static void capacity_read(struct blk *blk)
{
	u64 n = VIRTIO_CREAD(blk->vdev, struct virtio_blk_config, capacity);

	/* What cannot be (D04) is made such that bytes can still be counted. */
	blk->info.n_sectors = min_u64(n, UINT64_MAX >> VIRTIO_BLK_SECTOR_BITS);
}

/* What the device says about itself; -EPROTO if no request could ever be right for it. */
static int config_read(struct blk *blk)
{
	struct virtio_device *vdev = blk->vdev;
	struct driver_blk_info *i = &blk->info;
	u32 block_sectors, exp = 0;

	*i = (struct driver_blk_info){
		.block_bytes = CREAD32(vdev, VIRTIO_BLK_F_BLK_SIZE, blk_size, 512),
		.read_only = virtio_has_feature(vdev, VIRTIO_BLK_F_RO),
		.can_flush = virtio_has_feature(vdev, VIRTIO_BLK_F_FLUSH),
		.can_discard = virtio_has_feature(vdev, VIRTIO_BLK_F_DISCARD),
		.can_write_zeroes = virtio_has_feature(vdev, VIRTIO_BLK_F_WRITE_ZEROES),
		.max_segment_bytes =
			CREAD32(vdev, VIRTIO_BLK_F_SIZE_MAX, size_max, BLK_MAX_PIECE_BYTES),
		.max_segments =
			min_u64(CREAD32(vdev, VIRTIO_BLK_F_SEG_MAX, seg_max, 1), BLK_MAX_SEGMENTS),
		.discard_align_sectors =
			CREAD32(vdev, VIRTIO_BLK_F_DISCARD, discard_sector_alignment, 0),
	};
	capacity_read(blk);
	if (!is_power_of_two(i->block_bytes) || i->block_bytes < VIRTIO_BLK_SECTOR_BYTES ||
	    i->block_bytes > MAX_BLOCK_BYTES ||
	    (u64)i->max_segments * i->max_segment_bytes < i->block_bytes) {
		log_line(LOG_ERROR, vdev->name, "impossible blocks: %u bytes, %u segments of %u",
			 i->block_bytes, i->max_segments, i->max_segment_bytes);
		return -EPROTO;
	}
	block_sectors = i->block_bytes >> VIRTIO_BLK_SECTOR_BITS;
	i->max_discard_sectors =
		CREAD32(vdev, VIRTIO_BLK_F_DISCARD, max_discard_sectors, UINT32_MAX) &
		~(block_sectors - 1);
	i->max_write_zeroes_sectors =
		CREAD32(vdev, VIRTIO_BLK_F_WRITE_ZEROES, max_write_zeroes_sectors, UINT32_MAX) &
		~(block_sectors - 1);
	i->can_discard &= i->max_discard_sectors > 0;
	i->can_write_zeroes &= i->max_write_zeroes_sectors > 0;
	if (virtio_has_feature(vdev, VIRTIO_BLK_F_TOPOLOGY)) {
		exp = VIRTIO_CREAD(vdev, struct virtio_blk_config, topology.physical_block_exp);
		i->opt_io_bytes =
			VIRTIO_CREAD(vdev, struct virtio_blk_config, topology.opt_io_size);
		i->opt_io_bytes =
			min_u64((u64)i->opt_io_bytes * i->block_bytes, BLK_MAX_PIECE_BYTES);
	}
	i->physical_block_bytes = i->block_bytes << min_u64(exp, 10);
	return 0;
}

static u32 num_queues(struct virtio_device *vdev)
{
	u32 n = 1;

	if (virtio_has_feature(vdev, VIRTIO_BLK_F_MQ))
		n = VIRTIO_CREAD(vdev, struct virtio_blk_config, num_queues);
	return max_u64(1, min_u64(n, DRIVER_BLK_MAX_QUEUES));
}

static void queue_free(struct blk_queue *q)
{
	struct platform *p = q->blk->vdev->platform;

	if (q->wires)
		p->ops->dma_free(p, q->wires, q->n_wires * sizeof(*q->wires));
	if (q->free_slots)
		p->ops->free(p, q->free_slots, q->n_wires * sizeof(*q->free_slots));
	q->wires = NULL;
	q->free_slots = NULL;
	q->vq = NULL;
}

static int queue_start(struct blk_queue *q, struct virtqueue *vq)
{
	struct platform *p = q->blk->vdev->platform;
	struct driver_blk_info *info = &q->blk->info;
	u64 addr;

	if (vq->setup.size < 3)
		return -EPROTO;
	/* G-SPLIT-2.7.5.3.1-03: no chain is longer than the queue. */
	info->max_segments = min_u64(info->max_segments, vq->setup.size - 2);
	q->vq = vq;
	vq->priv = q;
	q->n_wires = q->n_free = vq->setup.size;
	q->wires = p->ops->dma_alloc(p, q->n_wires * sizeof(*q->wires), 64, &addr);
	q->free_slots = p->ops->alloc(p, q->n_wires * sizeof(*q->free_slots));
	if (!q->wires || !q->free_slots)
		return -ENOMEM;
	for (u16 i = 0; i < q->n_wires; i++)
		q->free_slots[i] = i;
	return 0;
}

static void queues_free(struct blk *blk)
{
	for (u16 i = 0; i < blk->n_queues; i++)
		queue_free(&blk->queues[i]);
}

/* Ends those of the waiting requests that `which` says. */
static void blk_fail(struct blk *blk, bool (*which)(struct blk *, struct driver_blk_request *),
		     int err)
{
	struct list ended, *node, *tmp;

	list_init(&ended);
	for (u16 i = 0; i < blk->n_queues; i++)
		list_for_each (node, tmp, &blk->queues[i].waiting) {
			struct driver_blk_request *req =
				container_of(node, struct driver_blk_request, node);

			if (!which(blk, req))
				continue;
			list_del(node);
			blk_request_end(req, err, &ended);
		}
	blk_tell_ended(&ended);
}

static bool all(struct blk *blk, struct driver_blk_request *req)
{
	return true;
}

static bool not_retried(struct blk *blk, struct driver_blk_request *req)
{
	return req->no_retry;
}

/* The device that came back may be smaller, or able to do less. */
static bool impossible_now(struct blk *blk, struct driver_blk_request *req)
{
	return blk_request_check(blk, req) < 0;
}

/* From negotiated features to working queues; what waits is submitted, oldest first. */
static int blk_start(struct blk *blk)
{
	struct virtqueue_info infos[DRIVER_BLK_MAX_QUEUES];
	struct virtqueue *vqs[DRIVER_BLK_MAX_QUEUES];
	struct list *node;
	int err = config_read(blk);

	blk->info.n_queues = min_u64(num_queues(blk->vdev), blk->n_queues);
	if (err < 0)
		return err;
	for (u16 i = 0; i < blk->info.n_queues; i++)
		infos[i] = (struct virtqueue_info){ .name = "request",
						    .callback = blk_queue_callback,
						    .max_indirect = blk->info.max_segments + 2 };
	err = virtio_find_vqs(blk->vdev, blk->info.n_queues, vqs, infos);
	if (err < 0)
		return err;
	for (u16 i = 0; i < blk->info.n_queues && err == 0; i++)
		err = queue_start(&blk->queues[i], vqs[i]);
	if (err < 0) {
		virtio_del_vqs(blk->vdev);
		queues_free(blk);
		return err;
	}
	/* A device that came back with fewer queues. */
	for (u16 i = blk->info.n_queues; i < blk->n_queues; i++)
		while ((node = list_pop(&blk->queues[i].waiting)))
			list_add_tail(&blk->queues[i % blk->info.n_queues].waiting, node);
	blk_fail(blk, impossible_now, -EIO);
	blk->given_up = false;
	blk->live = true;
	virtio_device_ready(blk->vdev);
	for (u16 i = 0; i < blk->info.n_queues; i++)
		blk_queue_work(&blk->queues[i]);
	return 0;
}

/* After a reset: everything back from the device. */
static void blk_stop(struct blk *blk)
{
	for (u16 i = 0; i < blk->n_queues && blk->live; i++) {
		struct blk_queue *q = &blk->queues[i];

		while (q->vq && virtqueue_detach(q->vq))
			;
		while (!list_empty(&q->in_flight)) { /* before what waits: it is older */
			struct list *newest = q->in_flight.prev;

			list_del(newest);
			list_add_tail(q->waiting.next, newest);
			container_of(newest, struct driver_blk_request, node)->in_flight = false;
		}
	}
	blk->live = false;
	blk->vdev->config->del_vqs(blk->vdev);
	queues_free(blk);
}

static int blk_probe(struct virtio_device *vdev)
{
	struct platform *p = vdev->platform;
	u16 n_queues = num_queues(vdev);
	struct blk *blk = p->ops->alloc(p, sizeof(*blk) + n_queues * sizeof(blk->queues[0]));
	int err;

	if (!blk)
		return -ENOMEM;
	vdev->priv = blk;
	blk->vdev = vdev;
	blk->n_queues = n_queues;
	for (u16 i = 0; i < n_queues; i++) {
		blk->queues[i].blk = blk;
		list_init(&blk->queues[i].waiting);
		list_init(&blk->queues[i].in_flight);
	}
	err = blk_start(blk);
	if (err < 0)
		p->ops->free(p, blk, sizeof(*blk) + n_queues * sizeof(blk->queues[0]));
	return err;
}

static void blk_freeze(struct virtio_device *vdev)
{
	blk_stop(vdev->priv);
	blk_fail(vdev->priv, not_retried, -EIO);
}

static int blk_restore(struct virtio_device *vdev)
{
	return blk_start(vdev->priv);
}

static void blk_give_up(struct virtio_device *vdev)
{
	struct blk *blk = vdev->priv;

	blk->given_up = true;
	blk_fail(blk, all, -ENODEV);
}

static void blk_remove(struct virtio_device *vdev)
{
	struct platform *p = vdev->platform;
	struct blk *blk = vdev->priv;

	blk_stop(blk);
	blk_give_up(vdev);
	p->ops->free(p, blk, sizeof(*blk) + blk->n_queues * sizeof(blk->queues[0]));
}

static void blk_config_changed(struct virtio_device *vdev)
{
	capacity_read(vdev->priv); /* G-BLK-5.2.6.1-01; nothing else may change */
}

static const struct virtio_device_id ids[] = { { VIRTIO_ID_BLOCK, VIRTIO_DEV_ANY_ID }, { 0 } };
static const unsigned int features[] = {
	VIRTIO_BLK_F_SIZE_MAX, VIRTIO_BLK_F_SEG_MAX, VIRTIO_BLK_F_RO,
	VIRTIO_BLK_F_BLK_SIZE, VIRTIO_BLK_F_FLUSH,   VIRTIO_BLK_F_TOPOLOGY,
	VIRTIO_BLK_F_MQ,       VIRTIO_BLK_F_DISCARD, VIRTIO_BLK_F_WRITE_ZEROES,
};

struct virtio_driver driver_blk = {
	.name = "blk",
	.id_table = ids,
	.feature_table = features,
	.feature_table_size = ARRAY_SIZE(features),
	.probe = blk_probe,
	.remove = blk_remove,
	.config_changed = blk_config_changed,
	.freeze = blk_freeze,
	.restore = blk_restore,
	.give_up = blk_give_up,
};
