/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Frames on their way in through the network driver. No loop here goes on for as long as a device
 * likes: each is bounded by what is in flight when it begins, as nothing is posted within one.
 */
#include "base/log.h"
#include "base/shared.h"
#include "driver/net_parts.h"

#define HEADER_BYTES sizeof(struct virtio_net_hdr)

/* A count or length that no honest device writes. */
static void device_lied(struct net_pair *p, const char *what, u32 value)
{
	if (!p->net->vdev->recovery_wanted)
		log_line(LOG_WARN, p->net->vdev->name, "queue receive: %s (%u); reset", what,
			 value);
	virtio_break_device(p->net->vdev);
}

/* ---- receive buffers ---------------------------------------------------------------------- */

void driver_net_fill(struct net_pair *p)
{
	while (!list_empty(&p->waiting)) {
		struct list *node = p->waiting.next;
		struct driver_net_buffer *b = container_of(node, struct driver_net_buffer, node);
		struct span room = { b->base, b->n_bytes };

		if (virtqueue_add_buf(p->rx, &room, 0, 1, b) < 0)
			return; /* full, broken, or no memory to map it: it waits */
		list_del(node);
	}
}

static void buffers_wait(struct net_pair *p, struct driver_net_buffer *first)
{
	for (struct driver_net_buffer *b = first, *next; b; b = next) {
		next = b->next;
		b->next = NULL;
		list_add_tail(&p->waiting, &b->node);
	}
}

int driver_net_post(struct virtio_device *vdev, u16 pair, struct driver_net_buffer *first)
{
	struct net *net = net_of(vdev);
	struct net_pair *p;

	if (!net)
		return -ENODEV;
	if (pair >= net->info.n_pairs)
		return -EINVAL;
	for (struct driver_net_buffer *b = first; b; b = b->next)
		if (b->n_bytes < net->info.min_buffer_bytes || b->n_bytes > NET_MAX_BUFFER_BYTES)
			return -EINVAL;
	p = &net->pairs[pair];
	platform_lock(vdev->platform);
	buffers_wait(p, first);
	if (net_usable(net)) {
		driver_net_fill(p);
		virtio_queue_failed(p->rx);
	}
	platform_unlock(vdev->platform);
	return 0;
}

/* The frame that is not whole yet will never be. */
static void frame_abandon(struct net_pair *p)
{
	buffers_wait(p, p->frame.first);
	p->frame = (struct driver_net_received){ 0 };
	p->n_missing = 0;
}

/* After a reset. */
void driver_net_take_back(struct net_pair *p)
{
	struct driver_net_buffer *b;

	frame_abandon(p);
	while ((b = virtqueue_detach(p->rx)))
		list_add_tail(&p->waiting, &b->node);
}

/* ---- receiving ---------------------------------------------------------------------------- */

/*
 * Is what the header says of the frame possible? Who wrote it may be another guest, for which
 * the device only passes it on: the frame is then dropped, the device not blamed (D09).
 */
static bool frame_believable(const struct net *net, const struct driver_net_received *f)
{
	const struct driver_net_offload *o = &f->offload;
	bool csum = virtio_has_feature(net->vdev, VIRTIO_NET_F_GUEST_CSUM);
	u8 type = o->gso_type & ~VIRTIO_NET_HDR_GSO_ECN;

	if (f->n_bytes < NET_ETHERNET_BYTES || f->n_bytes > NET_MAX_LARGE_BYTES)
		return false;
	if ((o->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM) &&
	    (!csum || !net_checksum_within(o, f->n_bytes)))
		return false;
	if (o->gso_type == VIRTIO_NET_HDR_GSO_NONE)
		return true;
	if (o->gso_size == 0 ||
	    (o->gso_type != type && !virtio_has_feature(net->vdev, VIRTIO_NET_F_GUEST_ECN)))
		return false;
	if (type == VIRTIO_NET_HDR_GSO_TCPV4)
		return virtio_has_feature(net->vdev, VIRTIO_NET_F_GUEST_TSO4);
	return type == VIRTIO_NET_HDR_GSO_TCPV6 &&
	       virtio_has_feature(net->vdev, VIRTIO_NET_F_GUEST_TSO6);
}

/* G-NET-5.1.9.4.2-01: unknown flags do no harm; -04: nor does what no flag makes valid. */
static struct driver_net_offload offload_of(const struct net *net, const struct virtio_net_hdr *h)
{
	struct driver_net_offload o = { .flags = h->flags & (VIRTIO_NET_HDR_F_NEEDS_CSUM |
							     VIRTIO_NET_HDR_F_DATA_VALID),
					.gso_type = h->gso_type };

	if (!virtio_has_feature(net->vdev, VIRTIO_NET_F_GUEST_CSUM))
		o.flags &= ~VIRTIO_NET_HDR_F_DATA_VALID; /* we did not ask for its opinion */
	if (o.flags & VIRTIO_NET_HDR_F_NEEDS_CSUM) {
		o.csum_start = le16_get(h->csum_start);
		o.csum_offset = le16_get(h->csum_offset);
	}
	if (o.gso_type != VIRTIO_NET_HDR_GSO_NONE) {
		o.hdr_len = le16_get(h->hdr_len);
		o.gso_size = le16_get(h->gso_size);
	}
	return o;
}

/* The first buffer of a frame: how many are there to come? False: the device lied. */
static bool frame_begin(struct net_pair *p, const struct driver_net_buffer *b, u32 n_written)
{
	struct virtio_net_hdr header;

	if (n_written < HEADER_BYTES) {
		device_lied(p, "a frame shorter than its header", n_written);
		return false;
	}
	copy_once(&header, b->base, HEADER_BYTES);
	p->n_missing = p->net->info.mergeable ? le16_get(header.num_buffers) : 1;
	if (p->n_missing == 0 || p->n_missing > DRIVER_NET_MAX_MERGED) {
		device_lied(p, "a frame of so many buffers", p->n_missing);
		p->n_missing = 0;
		return false;
	}
	p->frame = (struct driver_net_received){ .offload = offload_of(p->net, &header) };
	return true;
}

/* A buffer came. 1: with it the frame is whole; 0: it is not; -EPROTO: the device lied. */
static int buffer_take(struct net_pair *p, struct driver_net_buffer *b, u32 n_written)
{
	bool first = p->n_missing == 0;
	u32 skip = first ? HEADER_BYTES : 0;

	b->next = NULL;
	if (first && !frame_begin(p, b, n_written)) {
		buffers_wait(p, b);
		return -EPROTO;
	}
	if (n_written <= skip) {
		device_lied(p, "a buffer without a frame", n_written);
		buffers_wait(p, b);
		return -EPROTO;
	}
	b->data = (struct span){ (u8 *)b->base + skip, n_written - skip };
	if (first)
		p->frame.first = b;
	else
		p->last->next = b;
	p->last = b;
	p->frame.n_buffers++;
	p->frame.n_bytes += b->data.n_bytes; /* 66 buffers of 1 MiB */
	return --p->n_missing == 0;
}

static int frame_take(struct net_pair *p, struct driver_net_received *frame)
{
	struct driver_net_buffer *b;
	u32 n;

	while ((b = virtqueue_get_buf(p->rx, &n))) {
		int got = buffer_take(p, b, n);

		if (got < 0)
			return -ENODEV;
		if (got == 0)
			continue;
		if (!frame_believable(p->net, &p->frame)) {
			p->net->info.n_bad_frames++;
			frame_abandon(p);
			continue;
		}
		/* hdr_len is a hint, from now on one that can be used as an offset. */
		p->frame.offload.hdr_len = min_u64(p->frame.offload.hdr_len, p->frame.n_bytes);
		*frame = p->frame;
		p->frame = (struct driver_net_received){ 0 };
		return 1;
	}
	return virtio_queue_failed(p->rx) ? -ENODEV : 0;
}

int driver_net_receive(struct virtio_device *vdev, u16 pair, struct driver_net_received *frame)
{
	struct net_pair *p;
	bool ring = false;
	int got = net_pair_of(vdev, pair, &p);

	if (got < 0)
		return got;
	platform_lock(vdev->platform);
	do
		got = frame_take(p, frame);
	while (got == 0 && !virtqueue_enable_cb(p->rx));
	if (!list_empty(&p->waiting) && got >= 0) { /* dropped ones: nobody else posts them */
		driver_net_fill(p);
		ring = virtqueue_kick_prepare(p->rx);
	}
	platform_unlock(vdev->platform);
	if (ring)
		virtqueue_notify(p->rx);
	return got;
}

void driver_net_received_callback(struct virtqueue *vq)
{
	struct net_pair *p = vq->priv;
	struct net *net = p->net;

	platform_lock(net->vdev->platform);
	virtqueue_disable_cb(vq);
	platform_unlock(net->vdev->platform);
	if (net->ears->received)
		net->ears->received(net->owner, p - net->pairs);
}
