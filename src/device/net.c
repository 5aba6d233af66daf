/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A network device's three kinds of queue.
 *
 * Transmit: frames go from the ring to the port at once. If the port has no room, the chain is
 * put back and the queue waits for `ready`.
 * Receive: chains are popped when a frame arrives, never before, so nothing is in flight when
 * nothing happens. If the guest has no room the port is stopped, and started again by the kick
 * that the empty pop armed.
 * Control: each command is checked whole, then done whole.
 *
 * The port may call net_receive from within its send and set_receiving; then the core, or who
 * called us, notifies the guest afterwards.
 */
#include "device/net.h"

#include "base/shared.h"
#include "device/net_offload.h"
#include "spec/net.h"

#define HEADER_BYTES sizeof(struct virtio_net_hdr)
#define DEFAULT_MTU 1500

/* The longest frame there can be: all that a length field of IPv6 can say. */
#define MAX_GSO_BYTES (NET_FRAME_BYTES(65535) + 40)

#define TX_PIECES 512 /* of one frame, at most */
#define RX_PIECES 64 /* of one receive buffer, at most */
#define RX_MERGED 64 /* receive buffers for one frame, at most: 64 KiB in buffers of 1 KiB */

#define FILTER_MACS 64 /* of each kind; with more, all of that kind pass */
#define PEEK_BYTES 96 /* of a frame: Ethernet, IP, ports */
#define FLOWS 1024
#define NO_PAIR 0xffff

/* Bits of VIRTIO_NET_CTRL_GUEST_OFFLOADS that we know, and of accepted.word[0] as well. */
#define OFFLOAD_BIT(feature) ((u64)1 << (feature))
#define OFFLOADS                                                                       \
	(OFFLOAD_BIT(VIRTIO_NET_F_GUEST_CSUM) | OFFLOAD_BIT(VIRTIO_NET_F_GUEST_TSO4) | \
	 OFFLOAD_BIT(VIRTIO_NET_F_GUEST_TSO6) | OFFLOAD_BIT(VIRTIO_NET_F_GUEST_ECN))

struct mac_table {
	u32 n;
	bool overflow;
	u8 mac[FILTER_MACS][6];
};

struct filter {
	bool mode[VIRTIO_NET_CTRL_RX_NOBCAST + 1]; /* by command number */
	struct mac_table unicast, multicast;
	u64 vlans[4096 / 64];
};

struct net {
	struct vdev vdev;
	struct virtio_net_config config;
	struct netport *port;
	u8 first_mac[6]; /* after reset */
	u16 mtu, max_pairs;
	bool plugged;

	/* As the driver wants it; gone with reset. */
	u16 n_pairs;
	u32 guest_can; /* NETPORT_* */
	struct filter filter;

	bool receiving; /* what the port was told */
	bool tx_waiting; /* for the port's `ready` */
	u32 *segments_sent; /* per pair: of the frame that waits */
	u16 *flow_pair; /* by flow hash: which pair sent last; NULL with a single pair */

	u8 *frame; /* one frame finished in software, of NET_FRAME_BYTES(mtu) */
	struct span *tx_spans; /* TX_PIECES */
	struct chain *rx_chains; /* RX_MERGED */
	struct span *rx_spans; /* RX_PIECES for each of those */
	struct device_net_stats stats;
};

static struct net *net_of(struct vdev *vdev)
{
	return container_of(vdev, struct net, vdev);
}

static bool link_is_up(const struct net *net)
{
	return net->plugged && net->port->link_up;
}

/* Queue pairs that have queue numbers; the control queue comes behind them. */
static u16 pairs_that_exist(const struct net *net)
{
	return vdev_has(&net->vdev, VIRTIO_NET_F_MQ) ? net->max_pairs : 1;
}

/* Tells the port whether to bring frames. It may bring some before this returns. */
static void set_receiving(struct net *net, bool on)
{
	on = on && net->vdev.active && !net->vdev.broken && link_is_up(net);
	if (net->receiving == on)
		return;
	net->receiving = on;
	net->port->ops->set_receiving(net->port, on);
}

static void set_guest_offloads(struct net *net, u64 offloads)
{
	u32 can = 0;

	/* Large frames come with a checksum to complete: none of them without GUEST_CSUM. */
	if (offloads & OFFLOAD_BIT(VIRTIO_NET_F_GUEST_CSUM)) {
		can |= NETPORT_CSUM;
		if (offloads & OFFLOAD_BIT(VIRTIO_NET_F_GUEST_TSO4))
			can |= NETPORT_TSO4;
		if (offloads & OFFLOAD_BIT(VIRTIO_NET_F_GUEST_TSO6))
			can |= NETPORT_TSO6;
		if (offloads & OFFLOAD_BIT(VIRTIO_NET_F_GUEST_ECN))
			can |= NETPORT_ECN;
	}
	net->guest_can = can;
	net->port->ops->set_offloads(net->port, can);
}

/* ---- flows: with several pairs, an answer goes to the pair that asked ------------------- */

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

static void remember_flow(struct net *net, u16 pair, const struct sg *frame)
{
	u8 head[PEEK_BYTES];
	struct sg sg = *frame;
	size_t n = sg_read(&sg, head, sizeof(head));

	net->flow_pair[flow_hash(head, n) % FLOWS] = pair;
}

/* The receive queue for a frame; -1 if there is none that works. */
static int pick_queue(const struct net *net, const u8 *head, size_t n)
{
	u16 pair = 0;

	if (net->n_pairs > 1) {
		u32 hash = flow_hash(head, n);

		pair = net->flow_pair[hash % FLOWS];
		if (pair >= net->n_pairs)
			pair = (u16)(hash % net->n_pairs);
	}
	for (u16 i = 0; i < net->n_pairs; i++, pair = (u16)((pair + 1) % net->n_pairs))
		if (vdev_live(&net->vdev, VIRTIO_NET_RX_QUEUE(pair)))
			return VIRTIO_NET_RX_QUEUE(pair);
	return -1;
}

/* ---- transmit --------------------------------------------------------------------------- */

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

/* What a port must be able to do to get the frame as it is. */
static u32 offload_needs(const struct net_offload *o)
{
	u32 needs = 0;

	if (o->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM)
		needs |= NETPORT_CSUM;
	if ((o->gso_type & ~VIRTIO_NET_HDR_GSO_ECN) == VIRTIO_NET_HDR_GSO_TCPV4)
		needs |= NETPORT_TSO4;
	if ((o->gso_type & ~VIRTIO_NET_HDR_GSO_ECN) == VIRTIO_NET_HDR_GSO_TCPV6)
		needs |= NETPORT_TSO6;
	if (o->gso_type & VIRTIO_NET_HDR_GSO_ECN)
		needs |= NETPORT_ECN;
	return needs;
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

	if (net_segments_begin(&s, o, frame, net->mtu) != 0)
		return -EINVAL;
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
	if (sg_read(&frame, &header, HEADER_BYTES) < HEADER_BYTES ||
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
	if (n_bytes > (large ? MAX_GSO_BYTES : NET_FRAME_BYTES(net->mtu))) {
		net->stats.tx_oversize++;
		return 0;
	}
	if (!link_is_up(net)) {
		net->stats.tx_link_down++;
		return 0;
	}
	if (net->n_pairs > 1)
		remember_flow(net, pair, &frame);

	if (!(offload_needs(&o) & ~net->port->can)) {
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

static void transmit(struct net *net, u16 pair)
{
	u16 queue = VIRTIO_NET_TX_QUEUE(pair);
	struct chain c = { .spans = net->tx_spans, .max_spans = TX_PIECES };

	while (!net->tx_waiting && vdev_pop(&net->vdev, queue, &c) > 0) {
		if (send_frame(net, pair, &c) == -EAGAIN) {
			vdev_unpop(&net->vdev, queue, &c);
			net->stats.tx_waits++;
			net->tx_waiting = true;
			return;
		}
		vdev_push(&net->vdev, queue, &c, 0);
	}
}

static void port_ready(void *owner)
{
	struct net *net = owner;

	net->tx_waiting = false;
	for (u16 pair = 0; pair < pairs_that_exist(net); pair++)
		transmit(net, pair);
	vdev_flush(&net->vdev);
}

/* ---- receive ---------------------------------------------------------------------------- */

static bool table_has(const struct mac_table *table, const u8 *mac)
{
	for (u32 i = 0; i < table->n; i++)
		if (!memcmp(table->mac[i], mac, 6))
			return true;
	return table->overflow;
}

/* What the guest asked for, with the ranks of D-NET-5.1.9.5.1.1-01 to -13. */
static bool is_wanted(const struct net *net, const u8 *mac, int vlan)
{
	static const u8 broadcast[6] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff };
	const struct filter *f = &net->filter;

	if (f->mode[VIRTIO_NET_CTRL_RX_PROMISC])
		return true;
	if (vlan >= 0 && vdev_has(&net->vdev, VIRTIO_NET_F_CTRL_VLAN) &&
	    !(f->vlans[vlan / 64] >> vlan % 64 & 1))
		return false;
	if (!vdev_has(&net->vdev, VIRTIO_NET_F_CTRL_RX))
		return true;
	if (!memcmp(mac, broadcast, 6))
		return !f->mode[VIRTIO_NET_CTRL_RX_NOBCAST];
	if (mac[0] & 1)
		return !f->mode[VIRTIO_NET_CTRL_RX_NOMULTI] &&
		       (f->mode[VIRTIO_NET_CTRL_RX_ALLMULTI] || table_has(&f->multicast, mac));
	return !f->mode[VIRTIO_NET_CTRL_RX_NOUNI] &&
	       (f->mode[VIRTIO_NET_CTRL_RX_ALLUNI] || !memcmp(mac, net->config.mac, 6) ||
		table_has(&f->unicast, mac));
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
	u32 max_chains = merge ? RX_MERGED : 1, n = 0, slots = 0;
	size_t room = 0;
	int got = 0;

	while (room < n_bytes && n < max_chains) {
		struct chain *c = &net->rx_chains[n];

		got = vdev_pop(&net->vdev, queue, c);
		if (got <= 0)
			break;
		n++;
		if (c->out.n_bytes > 0 || c->in_bytes < HEADER_BYTES) {
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
			sg_write(&to, &header, HEADER_BYTES);
		sg_copy(&to, &from, n_bytes);
	}
	if (finish)
		poke16(net, n_chains, HEADER_BYTES + o->csum_start + o->csum_offset,
		       net_checksum_of(o, v, n_bytes));

	/* The driver sees none of these before all of them are pushed and flushed (-04). */
	n_bytes += HEADER_BYTES;
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

	if (!link_is_up(net)) {
		net->stats.rx_link_down++;
		return true;
	}
	if (n_bytes < ETH_HEADER_BYTES || (o->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM &&
					   (checksum_at > n_bytes || n_bytes - checksum_at < 2))) {
		net->stats.rx_malformed++;
		return true;
	}

	size_t network = net_network_header(head, min_u64(n_bytes, PEEK_BYTES), &type, &vlan);

	/* D-NET-5.1.4.1-05; tags are part of the Ethernet header. */
	if (o->gso_type == VIRTIO_NET_HDR_GSO_NONE ? n_bytes - network > net->mtu
						   : n_bytes > MAX_GSO_BYTES) {
		net->stats.rx_malformed++;
		return true;
	}
	if (!is_wanted(net, head, vlan)) {
		net->stats.rx_filtered++;
		return true;
	}
	/* A checksum that the guest cannot complete is completed here, a large frame is not cut. */
	if (offload_needs(o) & ~(net->guest_can | NETPORT_CSUM)) {
		net->stats.rx_not_asked++;
		return true;
	}
	return false;
}

static bool port_receive(void *owner, const struct net_offload *offload, const struct span *v,
			 u32 n)
{
	struct net *net = owner;
	size_t n_bytes = 0;
	u8 head[PEEK_BYTES];

	for (u32 i = 0; i < n; i++)
		n_bytes += v[i].n_bytes;

	struct sg peek = { .v = (struct span *)v, .n_bytes = n_bytes };
	size_t n_head = sg_read(&peek, head, sizeof(head));

	if (drop_unfit(net, offload, head, n_bytes))
		return true;

	int queue = pick_queue(net, head, n_head);
	int got = queue < 0 ? 0 : pop_room(net, (u16)queue, HEADER_BYTES + n_bytes);

	if (got == -ENOSPC) {
		net->stats.rx_no_fit++;
		return true;
	}
	if (got <= 0) {
		net->stats.rx_waits++;
		set_receiving(net, false);
		return false;
	}
	fill(net, (u16)queue, (u32)got, offload, v, n_bytes);
	net->stats.rx_frames++;
	net->stats.rx_bytes += n_bytes;
	return true;
}

static void port_batch_end(void *owner)
{
	struct net *net = owner;

	vdev_flush(&net->vdev);
}

/* ---- control: true is VIRTIO_NET_OK, and only then has anything changed ----------------- */

/* Exactly `n` bytes of data are left, no more and no less (case G29). */
static bool read_exactly(struct sg *data, void *dst, size_t n)
{
	return data->n_bytes == n && sg_read(data, dst, n) == n;
}

static bool control_rx(struct net *net, u8 command, struct sg *data)
{
	bool extra = command > VIRTIO_NET_CTRL_RX_ALLMULTI;
	u8 on;

	if (command > VIRTIO_NET_CTRL_RX_NOBCAST || !read_exactly(data, &on, 1))
		return false;
	if (!vdev_has(&net->vdev, extra ? VIRTIO_NET_F_CTRL_RX_EXTRA : VIRTIO_NET_F_CTRL_RX))
		return false;
	net->filter.mode[command] = on != 0;
	return true;
}

static bool read_mac_table(struct sg *data, struct mac_table *table)
{
	le32 wire;

	if (sg_read(data, &wire, sizeof(wire)) < sizeof(wire))
		return false;

	u32 n = le32_get(wire);

	/* Nothing is believed about the number but what bytes are there to show for it. */
	if (n > data->n_bytes / 6)
		return false;
	table->overflow = n > FILTER_MACS;
	table->n = table->overflow ? 0 : n;
	sg_read(data, table->overflow ? NULL : table->mac, (size_t)n * 6);
	return true;
}

static bool control_mac(struct net *net, u8 command, struct sg *data)
{
	struct mac_table unicast, multicast;
	u8 mac[6];

	switch (command) {
	case VIRTIO_NET_CTRL_MAC_TABLE_SET:
		if (!vdev_has(&net->vdev, VIRTIO_NET_F_CTRL_RX) ||
		    !read_mac_table(data, &unicast) || !read_mac_table(data, &multicast) ||
		    data->n_bytes > 0)
			return false;
		net->filter.unicast = unicast;
		net->filter.multicast = multicast;
		return true;
	case VIRTIO_NET_CTRL_MAC_ADDR_SET:
		if (!vdev_has(&net->vdev, VIRTIO_NET_F_CTRL_MAC_ADDR) ||
		    !read_exactly(data, mac, sizeof(mac)) || mac[0] & 1)
			return false;
		/* D-NET-5.1.9.5.2.1-03. The driver knows: it gets no notification. */
		memcpy(net->config.mac, mac, sizeof(mac));
		net->vdev.config_generation++;
		return true;
	default:
		return false;
	}
}

static bool control_vlan(struct net *net, u8 command, struct sg *data)
{
	le16 wire;

	if (!vdev_has(&net->vdev, VIRTIO_NET_F_CTRL_VLAN) || command > VIRTIO_NET_CTRL_VLAN_DEL ||
	    !read_exactly(data, &wire, sizeof(wire)))
		return false;

	u16 id = le16_get(wire);

	if (id > 0xfff)
		return false;
	if (command == VIRTIO_NET_CTRL_VLAN_ADD)
		net->filter.vlans[id / 64] |= (u64)1 << id % 64;
	else
		net->filter.vlans[id / 64] &= ~((u64)1 << id % 64);
	return true;
}

static void set_status_bit(struct net *net, u16 bit, bool on)
{
	u16 status = le16_get(net->config.status);

	net->config.status = le16_of(on ? status | bit : status & (u16)~bit);
}

static bool control_announce(struct net *net, u8 command, struct sg *data)
{
	if (!vdev_has(&net->vdev, VIRTIO_NET_F_GUEST_ANNOUNCE) ||
	    command != VIRTIO_NET_CTRL_ANNOUNCE_ACK || data->n_bytes > 0)
		return false;
	/* D-NET-5.1.9.5.4.2-01 */
	set_status_bit(net, VIRTIO_NET_S_ANNOUNCE, false);
	net->vdev.config_generation++;
	return true;
}

static bool control_mq(struct net *net, u8 command, struct sg *data)
{
	le16 wire;

	if (!vdev_has(&net->vdev, VIRTIO_NET_F_MQ) || command != VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET ||
	    !read_exactly(data, &wire, sizeof(wire)))
		return false;

	u16 pairs = le16_get(wire);

	if (pairs < 1 || pairs > net->max_pairs)
		return false;
	net->n_pairs = pairs;
	/* One of the new queues may have the buffers that the old ones lacked. */
	set_receiving(net, true);
	return true;
}

static bool control_offloads(struct net *net, u8 command, struct sg *data)
{
	le64 wire;

	if (!vdev_has(&net->vdev, VIRTIO_NET_F_CTRL_GUEST_OFFLOADS) ||
	    command != VIRTIO_NET_CTRL_GUEST_OFFLOADS_SET ||
	    !read_exactly(data, &wire, sizeof(wire)))
		return false;

	u64 offloads = le64_get(wire);

	if (offloads & ~(net->vdev.accepted.word[0] & OFFLOADS))
		return false;
	set_guest_offloads(net, offloads);
	return true;
}

static bool control_command(struct net *net, struct sg *data)
{
	struct virtio_net_ctrl_hdr header;

	if (sg_read(data, &header, sizeof(header)) < sizeof(header))
		return false;
	switch (header.class) {
	case VIRTIO_NET_CTRL_RX:
		return control_rx(net, header.command, data);
	case VIRTIO_NET_CTRL_MAC:
		return control_mac(net, header.command, data);
	case VIRTIO_NET_CTRL_VLAN:
		return control_vlan(net, header.command, data);
	case VIRTIO_NET_CTRL_ANNOUNCE:
		return control_announce(net, header.command, data);
	case VIRTIO_NET_CTRL_MQ:
		return control_mq(net, header.command, data);
	case VIRTIO_NET_CTRL_GUEST_OFFLOADS:
		return control_offloads(net, header.command, data);
	default:
		return false;
	}
}

static void control(struct net *net, u16 queue)
{
	/* Transmit never waits inside send_frame, so its spans are free here. */
	struct chain c = { .spans = net->tx_spans, .max_spans = TX_PIECES };

	while (vdev_pop(&net->vdev, queue, &c) > 0) {
		if (c.in_bytes == 0) {
			/* There is no way to answer this. */
			vdev_unpop(&net->vdev, queue, &c);
			vdev_break(&net->vdev, queue, "control-no-ack");
			return;
		}

		u8 ack = control_command(net, &c.out) ? VIRTIO_NET_OK : VIRTIO_NET_ERR;

		net->stats.ctrl_commands++;
		net->stats.ctrl_errors += ack != VIRTIO_NET_OK;
		sg_write(&c.in, &ack, 1);
		vdev_push(&net->vdev, queue, &c, 1);
	}
}

/* ---- the core's calls ------------------------------------------------------------------- */

/*
 * Refused is only what contradicts itself within the frames' path. The features that need a
 * control queue do not count: a vhost-user front end may keep that queue to itself, and yet
 * tell us that it has agreed on several queue pairs.
 */
static int check_features(struct vdev *vdev, const struct features *f)
{
	static const struct {
		u8 feature, needs_one_of[2];
	} rules[] = {
		{ VIRTIO_NET_F_HOST_TSO4, { VIRTIO_NET_F_CSUM, VIRTIO_NET_F_CSUM } },
		{ VIRTIO_NET_F_HOST_TSO6, { VIRTIO_NET_F_CSUM, VIRTIO_NET_F_CSUM } },
		{ VIRTIO_NET_F_HOST_ECN, { VIRTIO_NET_F_HOST_TSO4, VIRTIO_NET_F_HOST_TSO6 } },
		{ VIRTIO_NET_F_GUEST_TSO4, { VIRTIO_NET_F_GUEST_CSUM, VIRTIO_NET_F_GUEST_CSUM } },
		{ VIRTIO_NET_F_GUEST_TSO6, { VIRTIO_NET_F_GUEST_CSUM, VIRTIO_NET_F_GUEST_CSUM } },
		{ VIRTIO_NET_F_GUEST_ECN, { VIRTIO_NET_F_GUEST_TSO4, VIRTIO_NET_F_GUEST_TSO6 } },
	};

	for (size_t i = 0; i < ARRAY_SIZE(rules); i++)
		if (features_has(f, rules[i].feature) &&
		    !features_has(f, rules[i].needs_one_of[0]) &&
		    !features_has(f, rules[i].needs_one_of[1]))
			return -EINVAL;
	return 0;
}

static void net_activate(struct vdev *vdev)
{
	struct net *net = net_of(vdev);

	/* One pair until told otherwise (D-NET-5.1.9.5.6.2-01); who has no control queue of ours
	 * says it by enabling queues. */
	net->n_pairs = vdev_has(vdev, VIRTIO_NET_F_CTRL_VQ) ? 1 : pairs_that_exist(net);
	set_guest_offloads(net, vdev->accepted.word[0] & OFFLOADS);
	set_receiving(net, true);
}

/* Nothing is ever in flight. But a frame that waits may come back as another one. */
static void net_drain(struct vdev *vdev)
{
	struct net *net = net_of(vdev);

	memset(net->segments_sent, 0, net->max_pairs * sizeof(net->segments_sent[0]));
}

static void net_reset(struct vdev *vdev)
{
	struct net *net = net_of(vdev);

	set_receiving(net, false);
	net->n_pairs = 1;
	set_guest_offloads(net, 0);
	memset(&net->filter, 0, sizeof(net->filter));
	memcpy(net->config.mac, net->first_mac, sizeof(net->first_mac));
	set_status_bit(net, VIRTIO_NET_S_ANNOUNCE, false);
	if (net->flow_pair)
		memset(net->flow_pair, 0xff, FLOWS * sizeof(net->flow_pair[0]));
}

static void net_kick(struct vdev *vdev, u16 queue)
{
	struct net *net = net_of(vdev);
	u16 control_queue = VIRTIO_NET_RX_QUEUE(pairs_that_exist(net));

	if (queue == control_queue && vdev_has(vdev, VIRTIO_NET_F_CTRL_VQ))
		control(net, queue);
	else if (queue < control_queue && queue % 2)
		transmit(net, queue / 2);
	else if (queue < control_queue)
		set_receiving(net, true);
}

static const struct vdev_type net_type = {
	.name = "net",
	.device_id = VIRTIO_ID_NET,
	.check_features = check_features,
	.activate = net_activate,
	.drain = net_drain,
	.reset = net_reset,
	.kick = net_kick,
};

/* ---- link ------------------------------------------------------------------------------- */

static void link_update(struct net *net)
{
	bool up = link_is_up(net);
	bool was_up = le16_get(net->config.status) & VIRTIO_NET_S_LINK_UP;

	if (up == was_up)
		return;
	set_status_bit(net, VIRTIO_NET_S_LINK_UP, up);
	vdev_config_changed(&net->vdev);
	set_receiving(net, up);
	vdev_flush(&net->vdev);
}

static void port_link_changed(void *owner)
{
	link_update(owner);
}

void device_net_set_link(struct vdev *vdev, bool up)
{
	struct net *net = net_of(vdev);

	net->plugged = up;
	link_update(net);
}

void device_net_announce(struct vdev *vdev)
{
	struct net *net = net_of(vdev);

	if (!vdev->active || !vdev_has(vdev, VIRTIO_NET_F_GUEST_ANNOUNCE) ||
	    !vdev_has(vdev, VIRTIO_NET_F_CTRL_VQ))
		return;
	set_status_bit(net, VIRTIO_NET_S_ANNOUNCE, true);
	vdev_config_changed(vdev);
}

const struct device_net_stats *device_net_stats(const struct vdev *vdev)
{
	return &container_of(vdev, const struct net, vdev)->stats;
}

/* ---- set-up ----------------------------------------------------------------------------- */

static u16 mtu_of(const struct device_net_config *config)
{
	return config->mtu ? config->mtu : DEFAULT_MTU;
}

static u16 n_queues(const struct device_net_config *config)
{
	return (u16)(2 * config->max_pairs + 1);
}

/* Everything that is lent, in one order for both callers; NULL while counting. */
static struct net *carve(struct arena *arena, const struct device_net_config *config,
			 struct vdev_queue **queues)
{
	struct net *net = arena_take(arena, 1, sizeof(*net));
	u32 *segments_sent = arena_take(arena, config->max_pairs, sizeof(*segments_sent));
	u16 *flow_pair = NULL;

	*queues = vdev_carve_queues(arena, n_queues(config), config->queue_size);

	u8 *frame = arena_take(arena, 1, NET_FRAME_BYTES(mtu_of(config)));
	struct span *tx_spans = arena_take(arena, TX_PIECES, sizeof(*tx_spans));
	struct chain *rx_chains = arena_take(arena, RX_MERGED, sizeof(*rx_chains));
	struct span *rx_spans = arena_take(arena, RX_MERGED * RX_PIECES, sizeof(*rx_spans));

	if (config->max_pairs > 1)
		flow_pair = arena_take(arena, FLOWS, sizeof(*flow_pair));
	if (!net)
		return NULL;

	*net = (struct net){
		.port = config->port,
		.mtu = mtu_of(config),
		.max_pairs = config->max_pairs,
		.plugged = true,
		.n_pairs = 1,
		.segments_sent = segments_sent,
		.flow_pair = flow_pair,
		.frame = frame,
		.tx_spans = tx_spans,
		.rx_chains = rx_chains,
		.rx_spans = rx_spans,
	};
	for (u32 i = 0; i < RX_MERGED; i++)
		rx_chains[i] = (struct chain){
			.spans = rx_spans + (size_t)i * RX_PIECES,
			.max_spans = RX_PIECES,
		};
	memset(segments_sent, 0, config->max_pairs * sizeof(*segments_sent));
	if (flow_pair)
		memset(flow_pair, 0xff, FLOWS * sizeof(*flow_pair));
	return net;
}

size_t device_net_bytes(const struct device_net_config *config)
{
	struct arena counting = { 0 };
	struct vdev_queue *queues;

	carve(&counting, config, &queues);
	return counting.used_bytes;
}

static void offer(struct net *net)
{
	static const u8 always[] = {
		VIRTIO_NET_F_CSUM,          VIRTIO_NET_F_HOST_TSO4,
		VIRTIO_NET_F_HOST_TSO6,     VIRTIO_NET_F_HOST_ECN,
		VIRTIO_NET_F_GUEST_CSUM,    VIRTIO_NET_F_CTRL_GUEST_OFFLOADS,
		VIRTIO_NET_F_MTU,           VIRTIO_NET_F_MAC,
		VIRTIO_NET_F_MRG_RXBUF,     VIRTIO_NET_F_STATUS,
		VIRTIO_NET_F_CTRL_VQ,       VIRTIO_NET_F_CTRL_RX,
		VIRTIO_NET_F_CTRL_RX_EXTRA, VIRTIO_NET_F_CTRL_VLAN,
		VIRTIO_NET_F_CTRL_MAC_ADDR, VIRTIO_NET_F_GUEST_ANNOUNCE,
	};
	struct features *f = &net->vdev.offered;
	u32 brings = net->port->brings;

	for (size_t i = 0; i < ARRAY_SIZE(always); i++)
		features_set(f, always[i]);
	if (brings & NETPORT_TSO4)
		features_set(f, VIRTIO_NET_F_GUEST_TSO4);
	if (brings & NETPORT_TSO6)
		features_set(f, VIRTIO_NET_F_GUEST_TSO6);
	if (brings & NETPORT_ECN && brings & (NETPORT_TSO4 | NETPORT_TSO6))
		features_set(f, VIRTIO_NET_F_GUEST_ECN);
	if (net->max_pairs > 1)
		features_set(f, VIRTIO_NET_F_MQ);
}

struct vdev *device_net_init(void *mem, const struct device_net_config *config)
{
	struct arena arena = { .base = mem };
	struct vdev_queue *queues;
	struct net *net = carve(&arena, config, &queues);
	struct netport *port = config->port;

	ASSERT(config->max_pairs > 0 && config->max_pairs <= DEVICE_NET_MAX_PAIRS);
	ASSERT(net->mtu >= 68 && !(config->mac[0] & 1)); /* D-NET-5.1.4.1-02 */

	memcpy(net->first_mac, config->mac, sizeof(net->first_mac));
	memcpy(net->config.mac, config->mac, sizeof(net->config.mac));
	net->config.max_virtqueue_pairs = le16_of(net->max_pairs);
	net->config.mtu = le16_of(net->mtu);
	vdev_init(&net->vdev, &net_type, config->name, &net->config, sizeof(net->config), queues,
		  n_queues(config));
	offer(net);

	port->owner = net;
	port->receive = port_receive;
	port->batch_end = port_batch_end;
	port->ready = port_ready;
	port->link_changed = port_link_changed;
	set_status_bit(net, VIRTIO_NET_S_LINK_UP, link_is_up(net));
	return &net->vdev;
}
