/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Receive: chains are popped when a frame arrives, never before, so that nothing is in flight
 * when nothing happens. If the guest has no room the port is stopped, and started again by the
 * kick that the empty pop armed.
 *
 * In reading order: flows (with several pairs, an answer goes to the pair that asked), room,
 * filling it, and the way of a frame.
 */
#include "device/net_device.h"

#include "base/shared.h"

/* The same for both directions of a flow. Works on as much of the frame as there is. */
static u32 flow_hash(const u8 *frame, size_t n)
{
	u16 type;
	int vlan;
	size_t at = net_network_header(frame, n, &type, &vlan);
	u32 hash = type;
	u8 protocol = 0;

	if (type == ETH_TYPE_IPV4 && n - at >= 20) {
		hash ^= be32_at(frame + at + 12) ^ be32_at(frame + at + 16);
		/* Fragments have no ports to go by, and belong together. */
		if (!(be16_at(frame + at + 6) & 0x3fff))
			protocol = frame[at + 9];
		at += (size_t)(frame[at] & 15) * 4;
	} else if (type == ETH_TYPE_IPV6 && n - at >= 40) {
		for (size_t i = 0; i < 32; i += 4)
			hash ^= be32_at(frame + at + 8 + i);
		protocol = frame[at + 6];
		at += 40;
	}
	if ((protocol == 6 || protocol == 17) && n >= at && n - at >= 4)
		hash ^= (u32)(be16_at(frame + at) ^ be16_at(frame + at + 2)) << 8 ^ protocol;
	return hash * 0x9e3779b1u >> 16;
}

void device_net_remember_flow(struct net *net, u16 pair, const struct sg *frame)
{
	u8 head[NET_PEEK_BYTES];
	struct sg sg = *frame;
	size_t n = sg_read(&sg, head, sizeof(head));

	net->flow_pair[flow_hash(head, n) % NET_FLOWS] = pair;
}

/* The receive queue for a frame; -1 if there is none that works. */
static int pick_queue(const struct net *net, const u8 *head, size_t n)
{
	u16 pair = 0;

	if (net->n_pairs > 1) {
		u32 hash = flow_hash(head, n);

		pair = net->flow_pair[hash % NET_FLOWS];
		if (pair >= net->n_pairs)
			pair = (u16)(hash % net->n_pairs);
	}
	for (u16 i = 0; i < net->n_pairs; i++, pair = (u16)((pair + 1) % net->n_pairs))
		if (vdev_live(&net->vdev, VIRTIO_NET_RX_QUEUE(pair)))
			return VIRTIO_NET_RX_QUEUE(pair);
	return -1;
}

/* Gives chains back as if they had never been popped, last one first. */
static void unpop_all(struct net *net, u16 queue, u32 n_chains)
{
	while (n_chains > 0)
		vdev_unpop(&net->vdev, queue, &net->rx_chains[--n_chains]);
}

/*
 * Pops chains for `n_bytes`. Returns how many; 0: none now, wait for the driver's kick, which the
 * pop has asked for; -ENOSPC: this frame will never fit; -EPROTO: broken.
 */
static int pop_room(struct net *net, u16 queue, size_t n_bytes)
{
	bool merge = vdev_has(&net->vdev, VIRTIO_NET_F_MRG_RXBUF);
	u32 max_chains = merge ? NET_RX_MERGED : 1, n = 0, slots = 0;
	size_t room = 0;
	int got = 0;

	while (room < n_bytes && n < max_chains) {
		struct chain *c = &net->rx_chains[n];

		got = vdev_pop(&net->vdev, queue, c);
		if (got <= 0)
			break;
		n++;
		if (c->out.n_bytes > 0 || c->in_bytes < NET_HEADER_BYTES) {
			/* Room for at least the header in each (G-NET-5.1.9.3.1-03). */
			unpop_all(net, queue, n);
			vdev_break(&net->vdev, queue, "receive-buffer-unfit");
			return -EPROTO;
		}
		room += c->in_bytes;
		slots += c->n_slots;
	}
	if (room >= n_bytes)
		return (int)n;

	unpop_all(net, queue, n);
	if (got < 0)
		return got;
	/* A frame larger than all that the ring can hold must not be waited for. */
	if (n == max_chains || slots >= net->vdev.queues[queue].q.setup.size)
		return -ENOSPC;
	return 0;
}

/* Overwrites two bytes, `at` bytes into what the first `n` chains hold. */
static void poke16(struct net *net, u32 n, size_t at, u16 value)
{
	u8 bytes[2];

	be16_put(bytes, value);
	for (u32 i = 0, done = 0; i < n && done < 2; i++) {
		struct sg sg = net->rx_chains[i].in;

		if (sg_read(&sg, NULL, at) == at)
			done += (u32)sg_write(&sg, bytes + done, 2 - done);
		at -= min_u64(at, net->rx_chains[i].in_bytes);
	}
}

/* Fills the popped chains, each but the last to its end (D-NET-5.1.9.4.1-03). */
static void fill(struct net *net, u16 queue, u32 n_chains, const struct net_offload *o,
		 const struct span *v, size_t n_bytes)
{
	bool finish = o->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM && !(net->guest_can & NETPORT_CSUM);
	struct sg from = { .v = (struct span *)v, .n_bytes = n_bytes };
	struct virtio_net_hdr header = {
		/* D-NET-5.1.9.4.1-05: flags are 0 without GUEST_CSUM. */
		.flags = net->guest_can & NETPORT_CSUM ? o->flags : 0,
		.num_buffers = le16_of((u16)n_chains),
	};

	if (header.flags & VIRTIO_NET_HDR_F_NEEDS_CSUM) {
		header.csum_start = le16_of(o->csum_start);
		header.csum_offset = le16_of(o->csum_offset);
	}
	if (o->gso_type != VIRTIO_NET_HDR_GSO_NONE) {
		header.gso_type = o->gso_type;
		header.hdr_len = le16_of(o->hdr_len);
		header.gso_size = le16_of(o->gso_size);
	}
	for (u32 i = 0; i < n_chains; i++) {
		struct sg to = net->rx_chains[i].in;

		if (i == 0)
			sg_write(&to, &header, NET_HEADER_BYTES);
		sg_copy(&to, &from, n_bytes);
	}
	if (finish)
		poke16(net, n_chains, NET_HEADER_BYTES + o->csum_start + o->csum_offset,
		       net_checksum_of(o, v, n_bytes));

	/* The driver sees none of these before all of them are pushed and flushed (-04). */
	n_bytes += NET_HEADER_BYTES;
	for (u32 i = 0; i < n_chains; i++) {
		struct chain *c = &net->rx_chains[i];
		u32 here = (u32)min_u64(n_bytes, c->in_bytes);

		n_bytes -= here;
		vdev_push(&net->vdev, queue, c, here);
	}
}

/* The port's own word is trusted, but a frame must be what the guest asked for. */
static bool drop_unfit(struct net *net, const struct net_offload *o, const u8 *head, size_t n_bytes)
{
	u16 type;
	int vlan;

	size_t checksum_at = (size_t)o->csum_start + o->csum_offset;

	if (!net_link_is_up(net)) {
		net->stats.rx_link_down++;
		return true;
	}
	if (n_bytes < ETH_HEADER_BYTES || (o->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM &&
					   (checksum_at > n_bytes || n_bytes - checksum_at < 2))) {
		net->stats.rx_malformed++;
		return true;
	}

	size_t network = net_network_header(head, min_u64(n_bytes, NET_PEEK_BYTES), &type, &vlan);

	/* D-NET-5.1.4.1-05; tags are part of the Ethernet header. */
	if (o->gso_type == VIRTIO_NET_HDR_GSO_NONE ? n_bytes - network > net->mtu
						   : n_bytes > NET_MAX_LARGE_BYTES) {
		net->stats.rx_malformed++;
		return true;
	}
	if (!device_net_wants(net, head, vlan)) {
		net->stats.rx_filtered++;
		return true;
	}
	/* A checksum that the guest cannot complete is completed here, a large frame is not cut. */
	if (net_offload_needs(o) & ~(net->guest_can | NETPORT_CSUM)) {
		net->stats.rx_not_asked++;
		return true;
	}
	return false;
}

bool device_net_receive(void *owner, const struct net_offload *offload, const struct span *v, u32 n)
{
	struct net *net = owner;
	size_t n_bytes = 0;
	u8 head[NET_PEEK_BYTES];

	for (u32 i = 0; i < n; i++)
		n_bytes += v[i].n_bytes;

	struct sg peek = { .v = (struct span *)v, .n_bytes = n_bytes };
	size_t n_head = sg_read(&peek, head, sizeof(head));

	if (drop_unfit(net, offload, head, n_bytes))
		return true;

	int queue = pick_queue(net, head, n_head);
	int got = queue < 0 ? 0 : pop_room(net, (u16)queue, NET_HEADER_BYTES + n_bytes);

	if (got == -ENOSPC) {
		net->stats.rx_no_fit++;
		return true;
	}
	if (got <= 0) {
		net->stats.rx_waits++;
		device_net_set_receiving(net, false);
		return false;
	}
	fill(net, (u16)queue, (u32)got, offload, v, n_bytes);
	net->stats.rx_frames++;
	net->stats.rx_bytes += n_bytes;
	return true;
}
