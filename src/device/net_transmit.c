/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Transmit: frames go from the ring to the port at once.
 *
 * What the port can do is left to it, the frame still in the guest's pieces; what it cannot is
 * done on a private copy, each of the guest's bytes read once. If the port has no room, the
 * chain is put back as if never taken, and all queues wait for `ready`.
 */
#include "device/net_device.h"

/* What the guest asks for it may ask for, and it lies within the frame (case G28). */
static bool offload_is_sane(const struct net *net, const struct net_offload *o, size_t n_bytes)
{
	const struct vdev *vdev = &net->vdev;
	u8 gso = o->gso_type & (u8)~VIRTIO_NET_HDR_GSO_ECN;
	bool ecn = o->gso_type & VIRTIO_NET_HDR_GSO_ECN;

	if (o->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM) {
		size_t at = (size_t)o->csum_start + o->csum_offset;

		if (!vdev_has(vdev, VIRTIO_NET_F_CSUM) || o->csum_start < ETH_HEADER_BYTES ||
		    at > n_bytes || n_bytes - at < 2)
			return false;
	}
	if (o->gso_type == VIRTIO_NET_HDR_GSO_NONE)
		return true;
	if (!(o->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM) || o->gso_size == 0)
		return false;
	if (ecn && !vdev_has(vdev, VIRTIO_NET_F_HOST_ECN))
		return false;
	return (gso == VIRTIO_NET_HDR_GSO_TCPV4 && vdev_has(vdev, VIRTIO_NET_F_HOST_TSO4)) ||
	       (gso == VIRTIO_NET_HDR_GSO_TCPV6 && vdev_has(vdev, VIRTIO_NET_F_HOST_TSO6));
}

/* 0, -EAGAIN or -EIO, whatever the port's reason: -EINVAL stands for the guest's mistakes. */
static int give_to_port(struct net *net, const struct net_offload *o, const struct span *v, u32 n)
{
	int err = net->port->ops->send(net->port, o, v, n);

	return err == 0 || err == -EAGAIN ? err : -EIO;
}

static int send_finished(struct net *net, size_t n_bytes)
{
	static const struct net_offload finished;
	const struct span v = { net->frame, n_bytes };

	return give_to_port(net, &finished, &v, 1);
}

static int send_checksummed(struct net *net, const struct net_offload *o, struct sg *frame)
{
	size_t n = sg_read(frame, net->frame, NET_FRAME_BYTES(net->mtu));
	int err = net_complete_checksum(net->frame, n, o);

	if (err)
		return err;
	net->stats.tx_software_checksums++;
	return send_finished(net, n);
}

/*
 * Resumes behind the segments that an earlier try has sent, so that a port without room for all
 * of them at once gets each of them once.
 */
static int send_segments(struct net *net, u16 pair, const struct net_offload *o,
			 const struct sg *frame)
{
	struct net_segments s;
	u32 *sent = &net->segments_sent[pair];
	u32 skip = *sent;
	int lost = 0;
	size_t n;

	if (net_segments_begin(&s, o, frame, net->mtu, net->port->large_bytes) != 0)
		return -EINVAL;
	device_net_spend(net, s.n_segments - (u32)min_u64(skip, s.n_segments));
	while (s.next < skip && net_segments_next(&s, NULL))
		;
	while ((n = net_segments_next(&s, net->frame)) > 0) {
		int err = send_finished(net, n);

		if (err == -EAGAIN)
			return err;
		if (err)
			lost = err;
		net->stats.tx_software_segments++;
		++*sent;
	}
	return lost;
}

/* 0: the frame has gone, one way or another. -EAGAIN: it has not. */
static int send_frame(struct net *net, u16 pair, const struct chain *c)
{
	struct virtio_net_hdr header;
	struct sg frame = c->out;
	int err;

	/* The header lies in as many pieces as the driver likes (D-SPLIT-2.7.4.1-01). */
	if (sg_read(&frame, &header, NET_HEADER_BYTES) < NET_HEADER_BYTES ||
	    frame.n_bytes < ETH_HEADER_BYTES) {
		net->stats.tx_malformed++;
		return 0;
	}

	size_t n_bytes = frame.n_bytes;
	struct net_offload o = {
		/* Bits that we do not know do no harm (D-NET-5.1.9.2.2-01). */
		.flags = header.flags & VIRTIO_NET_HDR_F_NEEDS_CSUM,
		.gso_type = header.gso_type,
		/* A hint, and no more (D-NET-5.1.9.2.2-07). */
		.hdr_len = (u16)min_u64(le16_get(header.hdr_len), n_bytes),
		.gso_size = le16_get(header.gso_size),
		.csum_start = le16_get(header.csum_start),
		.csum_offset = le16_get(header.csum_offset),
	};
	bool large = o.gso_type != VIRTIO_NET_HDR_GSO_NONE;

	if (!offload_is_sane(net, &o, n_bytes)) {
		net->stats.tx_malformed++;
		return 0;
	}
	if (n_bytes > (large ? NET_MAX_LARGE_BYTES : NET_FRAME_BYTES(net->mtu))) {
		net->stats.tx_oversize++;
		return 0;
	}
	if (!net_link_is_up(net)) {
		net->stats.tx_link_down++;
		return 0;
	}
	if (net->n_pairs > 1)
		device_net_remember_flow(net, pair, &frame);

	if (!(net_offload_needs(&o) & ~net->port->can)) {
		u32 n;
		struct span *v = sg_spans(&frame, &n);

		err = give_to_port(net, &o, v, n);
	} else if (large) {
		err = send_segments(net, pair, &o, &frame);
	} else {
		err = send_checksummed(net, &o, &frame);
	}

	if (err == -EAGAIN)
		return err;
	net->segments_sent[pair] = 0;
	if (err == -EINVAL) {
		net->stats.tx_malformed++;
	} else if (err) {
		net->stats.tx_lost++;
	} else {
		net->stats.tx_frames++;
		net->stats.tx_bytes += n_bytes;
	}
	return 0;
}

void device_net_transmit(struct net *net, u16 pair)
{
	u16 queue = VIRTIO_NET_TX_QUEUE(pair);
	struct chain c = { .spans = net->tx_spans, .max_spans = NET_TX_PIECES };

	while (!net->tx_waiting && !net->later && vdev_pop(&net->vdev, queue, &c) > 0) {
		if (send_frame(net, pair, &c) == -EAGAIN) {
			vdev_unpop(&net->vdev, queue, &c);
			net->stats.tx_waits++;
			net->tx_waiting = true;
			return;
		}
		vdev_push(&net->vdev, queue, &c, 0);
		device_net_spend(net, 1);
	}
}
