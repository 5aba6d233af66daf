/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * One queue, one buffer, which is the driver's own: a device that is late, or writes when it
 * should not any more, never reaches the caller's memory.
 */
#include "driver/entropy.h"

#include "base/shared.h"

#define BUFFER_BYTES 256

struct entropy {
	struct virtqueue *vq;
	u8 *buffer; /* the device's while it is in flight */
	u32 at, end; /* of the bytes in it that nobody had yet */
};

/* Takes what is there; if that was all, asks for more. */
static u32 entropy_take(struct entropy *e, void *bytes, u32 n_bytes)
{
	struct span s = { e->buffer, BUFFER_BYTES };
	u32 n;

	if (virtqueue_get_buf(e->vq, &n)) {
		e->at = 0;
		e->end = n; /* no more than there is room for: the ring has checked (D02) */
	}
	n = min_u64(n_bytes, e->end - e->at);
	memcpy(bytes, e->buffer + e->at, n);
	memset(e->buffer + e->at, 0, n); /* nobody gets them twice */
	e->at += n;
	if (e->at == e->end && e->vq->n_in_flight == 0 &&
	    virtqueue_add_buf(e->vq, &s, 0, 1, e) == 0)
		virtqueue_kick(e->vq);
	return n;
}

int driver_entropy_read(struct virtio_device *vdev, void *bytes, u32 n_bytes, u64 timeout_ns)
{
	struct platform *p = vdev->platform;
	u64 start = p->ops->now_ns(p);

	while (vdev->driver == &driver_entropy && vdev->state == VIRTIO_STATE_LIVE) {
		struct entropy *e = vdev->priv; /* another one after a recovery */
		u32 n;

		platform_lock(p);
		n = entropy_take(e, bytes, min_u64(n_bytes, BUFFER_BYTES));
		platform_unlock(p);
		if (n > 0)
			return n;
		virtio_queue_failed(e->vq);
		if (p->ops->now_ns(p) - start >= timeout_ns)
			return -EAGAIN;
		virtio_poll();
		p->ops->relax(p);
	}
	return -ENODEV;
}

static void entropy_remove(struct virtio_device *vdev)
{
	struct platform *p = vdev->platform;
	struct entropy *e = vdev->priv;

	while (virtqueue_detach(e->vq))
		;
	vdev->config->del_vqs(vdev);
	p->ops->dma_free(p, e->buffer, BUFFER_BYTES);
	p->ops->free(p, e, sizeof(*e));
}

static int entropy_probe(struct virtio_device *vdev)
{
	struct virtqueue_info info = { .name = "request", .max_size = 1 };
	struct platform *p = vdev->platform;
	struct entropy *e = vdev->priv = p->ops->alloc(p, sizeof(*e));
	int err;

	if (!e)
		return -ENOMEM;
	e->buffer = p->ops->dma_alloc(p, BUFFER_BYTES, 64, &(u64){ 0 });
	err = e->buffer ? virtio_find_vqs(vdev, 1, &e->vq, &info) : -ENOMEM;
	if (err == 0)
		return 0;
	if (e->buffer)
		p->ops->dma_free(p, e->buffer, BUFFER_BYTES);
	p->ops->free(p, e, sizeof(*e));
	return err;
}

static const struct virtio_device_id ids[] = { { VIRTIO_ID_ENTROPY, VIRTIO_DEV_ANY_ID }, { 0 } };

struct virtio_driver driver_entropy = {
	.name = "entropy",
	.id_table = ids,
	.probe = entropy_probe,
	.remove = entropy_remove,
};
