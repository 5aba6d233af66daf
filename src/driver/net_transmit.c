/* SPDX-License-Identifier: BSD-3-Clause */
/* Frames on their way out through the network driver, and the doorbells. */
#include "base/shared.h"
#include "driver/net_parts.h"

#define HEADER_BYTES sizeof(struct virtio_net_hdr)

/* G-NET-5.1.9.2.1-21, -22, -22b, -33 and 5.1.4.2-08, kept for the owner. */
static int frame_check(const struct net *net, const struct driver_net_frame *frame)
{
	const struct driver_net_info *info = &net->info;
	const struct driver_net_offload *o = &frame->offload;
	u8 type = o->gso_type & ~VIRTIO_NET_HDR_GSO_ECN;
	bool large = type != VIRTIO_NET_HDR_GSO_NONE;
	bool csum = o->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM;
	u64 n_bytes = 0;

	if (frame->n_sg == 0 || frame->n_sg > DRIVER_NET_MAX_SEGMENTS)
		return -EINVAL;
	for (u32 i = 0; i < frame->n_sg; i++)
		n_bytes += min_u64(frame->sg[i].n_bytes, UINT32_MAX);
	if (n_bytes < NET_ETHERNET_BYTES ||
	    n_bytes >
		    (large ? NET_MAX_LARGE_BYTES : NET_ETHERNET_BYTES + NET_TAGS_BYTES + info->mtu))
		return -EINVAL;
	if (o->flags & ~VIRTIO_NET_HDR_F_NEEDS_CSUM ||
	    (csum && (!info->can_csum || !net_checksum_within(o, n_bytes))))
		return -EINVAL;
	if (!large)
		return o->gso_type ? -EINVAL : 0;
	if (!csum || o->gso_size == 0 || (o->gso_type != type && !info->can_ecn))
		return -EINVAL;
	if (type == VIRTIO_NET_HDR_GSO_TCPV4)
		return info->can_tso4 ? 0 : -EINVAL;
	return type == VIRTIO_NET_HDR_GSO_TCPV6 && info->can_tso6 ? 0 : -EINVAL;
}

/* As virtqueue_add_buf. */
static int frame_offer(struct net_pair *p, struct driver_net_frame *frame)
{
	const struct driver_net_offload *o = &frame->offload;
	struct span sg[DRIVER_NET_MAX_SEGMENTS + 1];
	u16 slot;
	int err;

	if (p->n_free == 0)
		return -ENOSPC;
	slot = p->free_headers[p->n_free - 1];
	p->headers[slot] = (struct virtio_net_hdr){
		.flags = o->flags,
		.gso_type = o->gso_type,
		.hdr_len = le16_of(o->hdr_len),
		.gso_size = le16_of(o->gso_size),
		.csum_start = le16_of(o->csum_start),
		.csum_offset = le16_of(o->csum_offset),
	};
	sg[0] = (struct span){ &p->headers[slot], HEADER_BYTES };
	for (u32 i = 0; i < frame->n_sg; i++)
		sg[i + 1] = frame->sg[i];
	err = virtqueue_add_buf(p->tx, sg, frame->n_sg + 1, 0, frame);
	if (err < 0)
		return err;
	frame->header = slot;
	p->n_free--;
	return 0;
}

static void frame_end(struct net_pair *p, struct driver_net_frame *frame, int err,
		      struct list *ended)
{
	p->free_headers[p->n_free++] = frame->header;
	frame->err = err;
	list_add_tail(ended, &frame->node);
}

static void reap(struct net_pair *p, struct list *ended)
{
	struct driver_net_frame *frame;
	u32 n;

	while ((frame = virtqueue_get_buf(p->tx, &n)))
		frame_end(p, frame, 0, ended);
}

/* Tells the owner, with no lock held: it may send again. */
static void tell_ended(struct list *ended)
{
	struct list *node;

	while ((node = list_pop(ended))) {
		struct driver_net_frame *frame = container_of(node, struct driver_net_frame, node);

		frame->done(frame, frame->err);
	}
}

int driver_net_send(struct virtio_device *vdev, u16 pair, struct driver_net_frame *frame)
{
	struct net_pair *p;
	struct list ended;
	int err = net_pair_of(vdev, pair, &p);

	if (err == 0)
		err = frame_check(p->net, frame);
	if (err < 0)
		return err;
	list_init(&ended);
	platform_lock(vdev->platform);
	err = frame_offer(p, frame);
	if (err == -ENOSPC) {
		reap(p, &ended);
		err = frame_offer(p, frame);
	}
	if (virtio_queue_failed(p->tx) && err < 0)
		err = -ENODEV;
	platform_unlock(vdev->platform);
	tell_ended(&ended);
	return err;
}

void driver_net_sent_callback(struct virtqueue *vq)
{
	struct net_pair *p = vq->priv;
	struct platform *platform = p->net->vdev->platform;
	struct list ended;

	list_init(&ended);
	platform_lock(platform);
	do {
		virtqueue_disable_cb(vq);
		reap(p, &ended);
	} while (!virtqueue_enable_cb(vq) && !virtqueue_is_broken(vq));
	virtio_queue_failed(vq);
	platform_unlock(platform);
	tell_ended(&ended);
}

void driver_net_reap(struct virtio_device *vdev, u16 pair)
{
	struct net_pair *p;

	if (net_pair_of(vdev, pair, &p) == 0)
		driver_net_sent_callback(p->tx);
}

/* After a reset. */
void driver_net_fail_sent(struct net_pair *p)
{
	struct driver_net_frame *frame;
	struct list ended;

	list_init(&ended);
	while ((frame = virtqueue_detach(p->tx)))
		frame_end(p, frame, -EIO, &ended);
	tell_ended(&ended);
}

void driver_net_kick(struct virtio_device *vdev, u16 pair)
{
	struct net_pair *p;
	bool ring_rx, ring_tx;

	if (net_pair_of(vdev, pair, &p) < 0)
		return;
	platform_lock(vdev->platform);
	ring_rx = virtqueue_kick_prepare(p->rx);
	ring_tx = virtqueue_kick_prepare(p->tx);
	platform_unlock(vdev->platform);
	if (ring_rx)
		virtqueue_notify(p->rx);
	if (ring_tx)
		virtqueue_notify(p->tx);
}
