/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Control: each command is checked whole, then done whole; true is VIRTIO_NET_OK, and only then
 * has anything changed. At the end, what the frames' filter makes of it.
 */
#include "device/net_device.h"

#include "base/shared.h"

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

static bool read_mac_table(struct sg *data, struct net_mac_table *table)
{
	le32 wire;

	if (sg_read(data, &wire, sizeof(wire)) < sizeof(wire))
		return false;

	u32 n = le32_get(wire);

	/* Nothing is believed about the number but what bytes are there to show for it. */
	if (n > data->n_bytes / 6)
		return false;
	table->overflow = n > NET_FILTER_MACS;
	table->n = table->overflow ? 0 : n;
	sg_read(data, table->overflow ? NULL : table->mac, (size_t)n * 6);
	return true;
}

static bool control_mac(struct net *net, u8 command, struct sg *data)
{
	struct net_mac_table unicast, multicast;
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

static bool control_announce(struct net *net, u8 command, struct sg *data)
{
	if (!vdev_has(&net->vdev, VIRTIO_NET_F_GUEST_ANNOUNCE) ||
	    command != VIRTIO_NET_CTRL_ANNOUNCE_ACK || data->n_bytes > 0)
		return false;
	/* D-NET-5.1.9.5.4.2-01 */
	net_set_status_bit(net, VIRTIO_NET_S_ANNOUNCE, false);
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
	device_net_set_receiving(net, true);
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

	if (offloads & ~(net->vdev.accepted.word[0] & NET_OFFLOADS))
		return false;
	device_net_set_guest_offloads(net, offloads);
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

void device_net_control(struct net *net, u16 queue)
{
	/* Transmit never waits inside send_frame, so its spans are free here. */
	struct chain c = { .spans = net->tx_spans, .max_spans = NET_TX_PIECES };

	while (!net->later && vdev_pop(&net->vdev, queue, &c) > 0) {
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
		device_net_spend(net, 1);
	}
}

static bool table_has(const struct net_mac_table *table, const u8 *mac)
{
	for (u32 i = 0; i < table->n; i++)
		if (!memcmp(table->mac[i], mac, 6))
			return true;
	return table->overflow;
}

/* What the guest asked for, with the ranks of D-NET-5.1.9.5.1.1-01 to -13. */
bool device_net_wants(const struct net *net, const u8 *mac, int vlan)
{
	static const u8 broadcast[6] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff };
	const struct net_filter *f = &net->filter;

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
