/* SPDX-License-Identifier: BSD-3-Clause */
/* A request's way through the block driver; see driver/blk_queue.h. */
#include "base/shared.h"
#include "driver/blk_queue.h"

#define STATUS_POISON 0xff /* a status that no device writes (D08) */

static struct blk_queue *queue_of(struct blk *blk, const struct driver_blk_request *req)
{
	return &blk->queues[req->queue % blk->info.n_queues];
}

/* ---- pieces ----------------------------------------------------------------------------- */

/* Moves the place where the next piece begins. */
static void request_advance(struct driver_blk_request *req, u64 n_bytes)
{
	while (n_bytes > 0) {
		u64 n = min_u64(n_bytes, req->sg[req->at_sg].n_bytes - req->at_byte);

		n_bytes -= n;
		req->at_byte += n;
		if (req->at_byte == req->sg[req->at_sg].n_bytes) {
			req->at_sg++;
			req->at_byte = 0;
		}
	}
}

/* As much of the data as one chain may carry, in whole blocks, to `to`; returns its segments. */
static u32 data_cut(const struct blk *blk, struct driver_blk_request *req, struct span *to)
{
	const struct driver_blk_info *info = &blk->info;
	u64 bytes = 0, most = (req->n_sectors - req->done_sectors) << VIRTIO_BLK_SECTOR_BITS, odd;
	size_t skip = req->at_byte;
	u32 n = 0;

	most = min_u64(most, BLK_MAX_PIECE_BYTES);
	for (u32 i = req->at_sg; n < info->max_segments && bytes < most;) {
		u64 left = min_u64(req->sg[i].n_bytes - skip, most - bytes);
		u64 take = min_u64(left, info->max_segment_bytes);

		if (take > 0)
			to[n++] = (struct span){ (u8 *)req->sg[i].base + skip, take };
		bytes += take;
		skip += take;
		if (skip == req->sg[i].n_bytes) {
			i++;
			skip = 0;
		}
	}
	for (odd = bytes & (info->block_bytes - 1); odd > 0;) {
		u64 cut = min_u64(odd, to[n - 1].n_bytes);

		to[n - 1].n_bytes -= cut;
		n -= to[n - 1].n_bytes == 0;
		odd -= cut;
	}
	bytes &= ~(u64)(info->block_bytes - 1);
	req->piece_sectors = bytes >> VIRTIO_BLK_SECTOR_BITS;
	return n;
}

static void range_cut(struct driver_blk_request *req, u32 limit, u32 flags, struct blk_wire *wire)
{
	req->piece_sectors = min_u64(req->n_sectors - req->done_sectors, limit);
	wire->range = (struct virtio_blk_discard_write_zeroes){
		.sector = le64_of(req->sector + req->done_sectors),
		.num_sectors = le32_of(req->piece_sectors),
		.flags = le32_of(flags),
	};
}

/* Offers the request's next piece to the device; as virtqueue_add_buf. */
static int piece_offer(struct blk_queue *q, struct driver_blk_request *req)
{
	const struct driver_blk_info *info = &q->blk->info;
	u16 slot = q->free_slots[q->n_free - 1];
	struct blk_wire *wire = &q->wires[slot];
	struct span *sg = q->blk->sg;
	u32 type = 0, flags, n = 1, n_out;
	bool in = false; /* the data, if any */
	u64 sector = 0; /* G-BLK-5.2.6.1-04 */
	int err;

	req->piece_sectors = 0;
	switch (req->op) {
	case DRIVER_BLK_READ:
	case DRIVER_BLK_WRITE:
		in = req->op == DRIVER_BLK_READ;
		type = in ? VIRTIO_BLK_T_IN : VIRTIO_BLK_T_OUT;
		sector = req->sector + req->done_sectors;
		n += data_cut(q->blk, req, sg + 1);
		if (n == 1)
			return -EINVAL;
		break;
	case DRIVER_BLK_FLUSH:
		type = VIRTIO_BLK_T_FLUSH;
		break;
	case DRIVER_BLK_DISCARD: /* flags 0: G-BLK-5.2.6.1-14 */
		type = VIRTIO_BLK_T_DISCARD;
		range_cut(req, info->max_discard_sectors, 0, wire);
		sg[n++] = (struct span){ &wire->range, sizeof(wire->range) };
		break;
	case DRIVER_BLK_WRITE_ZEROES:
		type = VIRTIO_BLK_T_WRITE_ZEROES;
		flags = req->may_unmap ? VIRTIO_BLK_WRITE_ZEROES_F_UNMAP : 0;
		range_cut(req, info->max_write_zeroes_sectors, flags, wire);
		sg[n++] = (struct span){ &wire->range, sizeof(wire->range) };
		break;
	case DRIVER_BLK_GET_ID:
		in = true;
		type = VIRTIO_BLK_T_GET_ID;
		sg[n++] = (struct span){ req->sg[0].base, VIRTIO_BLK_ID_BYTES };
		break;
	}
	wire->header = (struct virtio_blk_header){ le32_of(type), le32_of(0), le64_of(sector) };
	wire->status = STATUS_POISON;
	sg[0] = (struct span){ &wire->header, sizeof(wire->header) };
	sg[n++] = (struct span){ &wire->status, 1 };
	n_out = in ? 1 : n - 1;
	err = virtqueue_add_buf(q->vq, sg, n_out, n - n_out, req);
	if (err < 0)
		return err;
	req->slot = slot;
	req->in_flight = true;
	q->n_free--;
	return 0;
}

/* The device is done with a piece: what did it say, and did it say it? */
static int piece_result(const struct blk_queue *q, const struct driver_blk_request *req,
			u32 n_written)
{
	u32 in_bytes = 1;
	u8 status;

	if (req->op == DRIVER_BLK_READ)
		in_bytes += req->piece_sectors << VIRTIO_BLK_SECTOR_BITS;
	else if (req->op == DRIVER_BLK_GET_ID)
		in_bytes += VIRTIO_BLK_ID_BYTES;
	copy_once(&status, &q->wires[req->slot].status, 1);
	if (status == VIRTIO_BLK_S_UNSUPP)
		return -EOPNOTSUPP;
	/* G-SPLIT-2.7.8.3-01: what it did not claim to have written is not looked at (D02). */
	return status == VIRTIO_BLK_S_OK && n_written >= in_bytes ? 0 : -EIO;
}

/* ---- queues ----------------------------------------------------------------------------- */

void blk_request_end(struct driver_blk_request *req, int err, struct list *ended)
{
	req->err = err;
	req->in_flight = false;
	list_add_tail(ended, &req->node);
}

/* Tells the callers, with no lock held: they may submit again. */
void blk_tell_ended(struct list *ended)
{
	struct list *node;

	while ((node = list_pop(ended))) {
		struct driver_blk_request *req =
			container_of(node, struct driver_blk_request, node);

		req->done(req, req->err);
	}
}

static void piece_end(struct blk_queue *q, struct driver_blk_request *req, u32 n_written,
		      struct list *ended)
{
	int err = piece_result(q, req, n_written);

	list_del(&req->node);
	req->in_flight = false;
	q->free_slots[q->n_free++] = req->slot;
	if (err == 0) {
		if (req->op == DRIVER_BLK_READ || req->op == DRIVER_BLK_WRITE)
			request_advance(req, (u64)req->piece_sectors << VIRTIO_BLK_SECTOR_BITS);
		req->done_sectors += req->piece_sectors;
	}
	if (err < 0 || req->done_sectors == req->n_sectors)
		blk_request_end(req, err, ended);
	else
		list_add_tail(q->waiting.next, &req->node); /* first: it is the oldest */
}

/* Submits what waits, as far as there is room. */
static void queue_fill(struct blk_queue *q, struct list *ended)
{
	while (q->blk->live && q->n_free > 0 && !list_empty(&q->waiting)) {
		struct driver_blk_request *req =
			container_of(q->waiting.next, struct driver_blk_request, node);
		int err = piece_offer(q, req);

		if (err == -ENOSPC || err == -EIO) /* later; after the recovery */
			break;
		if (err == -ENOMEM && !list_empty(&q->in_flight)) /* bounce buffers come back */
			break;
		list_del(&req->node);
		if (err < 0)
			blk_request_end(req, err, ended);
		else
			list_add_tail(&q->in_flight, &req->node);
	}
}

/*
 * The end of each visit to a queue, which comes with the lock held and goes without: submits
 * what waits, rings, and tells whose requests have ended.
 */
static void queue_leave(struct blk_queue *q, struct list *ended)
{
	struct virtqueue *vq = q->vq;
	bool ring = false;

	if (q->blk->live) {
		queue_fill(q, ended);
		ring = virtqueue_kick_prepare(vq);
		virtio_queue_failed(vq);
	}
	platform_unlock(q->blk->vdev->platform);
	if (ring)
		virtqueue_notify(vq);
	blk_tell_ended(ended);
}

void blk_queue_work(struct blk_queue *q)
{
	struct driver_blk_request *req;
	struct list ended;
	u32 n_written;

	list_init(&ended);
	platform_lock(q->blk->vdev->platform);
	do {
		virtqueue_disable_cb(q->vq);
		while ((req = virtqueue_get_buf(q->vq, &n_written)))
			piece_end(q, req, n_written, &ended);
	} while (!virtqueue_enable_cb(q->vq) && !virtqueue_is_broken(q->vq));
	queue_leave(q, &ended);
}

void blk_queue_callback(struct virtqueue *vq)
{
	blk_queue_work(vq->priv);
}

/* ---- for the owners of requests --------------------------------------------------------- */

int blk_request_check(const struct blk *blk, struct driver_blk_request *req)
{
	const struct driver_blk_info *info = &blk->info;
	u64 bytes = 0;

	for (u32 i = 0; i < req->n_sg; i++) {
		if (req->sg[i].n_bytes > UINT64_MAX / 2 - bytes)
			return -EINVAL;
		bytes += req->sg[i].n_bytes;
	}
	switch (req->op) {
	case DRIVER_BLK_FLUSH:
		req->n_sectors = 0;
		return info->can_flush ? 0 : -EOPNOTSUPP; /* G-BLK-5.2.5.1-01 */
	case DRIVER_BLK_GET_ID: /* G-BLK-5.2.6.1-08 */
		req->n_sectors = 0;
		return req->n_sg && req->sg[0].n_bytes >= VIRTIO_BLK_ID_BYTES ? 0 : -EINVAL;
	case DRIVER_BLK_READ:
	case DRIVER_BLK_WRITE:
		if (bytes & (info->block_bytes - 1)) /* G-BLK-5.2.6.1-06 */
			return -EINVAL;
		req->n_sectors = bytes >> VIRTIO_BLK_SECTOR_BITS;
		break;
	case DRIVER_BLK_DISCARD:
		if (!info->can_discard)
			return -EOPNOTSUPP;
		break;
	case DRIVER_BLK_WRITE_ZEROES:
		if (!info->can_write_zeroes)
			return -EOPNOTSUPP;
		break;
	default:
		return -EINVAL;
	}
	if (req->op != DRIVER_BLK_READ && info->read_only)
		return -EROFS;
	if (req->n_sectors == 0 || req->sector > info->n_sectors || /* G-BLK-5.2.6.1-02 */
	    req->n_sectors > info->n_sectors - req->sector ||
	    ((req->sector | req->n_sectors) << VIRTIO_BLK_SECTOR_BITS & (info->block_bytes - 1)))
		return -EINVAL;
	return 0;
}

int driver_blk_submit(struct virtio_device *vdev, struct driver_blk_request *req)
{
	struct blk *blk = blk_of(vdev);
	struct blk_queue *q;
	struct list ended;
	int err;

	if (!blk || blk->given_up)
		return -ENODEV;
	err = blk_request_check(blk, req);
	if (err < 0)
		return err;
	req->done_sectors = req->at_byte = req->at_sg = 0;
	req->in_flight = req->ended = false;
	q = queue_of(blk, req);
	platform_lock(vdev->platform);
	list_init(&ended);
	list_add_tail(&q->waiting, &req->node);
	queue_leave(q, &ended);
	return 0;
}

static void run_done(struct driver_blk_request *req, int err)
{
	req->ended = true;
}

/* A request that took too long is not the device's any more when this returns. */
static void run_cancel(struct virtio_device *vdev, struct driver_blk_request *req)
{
	if (!req->in_flight) {
		list_del(&req->node);
		return;
	}
	req->no_retry = true;
	virtio_break_device(vdev);
	virtio_poll();
	ASSERT(req->ended);
}

int driver_blk_run(struct virtio_device *vdev, struct driver_blk_request *req, u64 timeout_ns)
{
	struct platform *p = vdev->platform;
	u64 start = p->ops->now_ns(p);
	int err;

	req->done = run_done;
	err = driver_blk_submit(vdev, req);
	if (err < 0)
		return err;
	while (!req->ended) {
		struct blk *blk = blk_of(vdev); /* there is one: remove ends all requests */

		if (p->ops->now_ns(p) - start >= timeout_ns) {
			run_cancel(vdev, req);
			return -ETIMEDOUT;
		}
		if (blk->live)
			blk_queue_work(queue_of(blk, req));
		virtio_poll();
		if (!req->ended)
			p->ops->relax(p);
	}
	return req->err;
}
