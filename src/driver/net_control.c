/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the owner set, told to the device: the settings that are wanted are held against those
 * that the device knows, and what differs is the next command. So a device that was brought up
 * again hears of all of them by itself, with nobody waiting for it.
 */
#include "base/shared.h"
#include "driver/net_parts.h"

#define STATUS_POISON 0xff /* a status that no device writes (D08) */

/* ---- commands ---------------------------------------------------------------------------- */

static bool filters_differ(const struct driver_net_filter *a, const struct driver_net_filter *b)
{
	return memcmp(a, b, sizeof(*a)) != 0; /* no padding, and unused places are 0 */
}

static unsigned int mode_feature(u8 mode)
{
	return mode <= VIRTIO_NET_CTRL_RX_ALLMULTI ? VIRTIO_NET_F_CTRL_RX
						   : VIRTIO_NET_F_CTRL_RX_EXTRA;
}

/* Finds what the device has yet to hear; NET_NOTHING: nothing. */
static enum net_command command_next(struct net *net)
{
	const struct net_settings *w = &net->wanted, *t = &net->told;
	struct virtio_device *vdev = net->vdev;

	if (net->announced)
		return NET_ANNOUNCE;
	if (w->n_pairs != t->n_pairs && virtio_has_feature(vdev, VIRTIO_NET_F_MQ))
		return NET_PAIRS;
	if (net->mac_chosen && memcmp(w->mac, t->mac, 6) &&
	    virtio_has_feature(vdev, VIRTIO_NET_F_CTRL_MAC_ADDR))
		return NET_MAC;
	if (virtio_has_feature(vdev, VIRTIO_NET_F_CTRL_RX) &&
	    filters_differ(&w->filter, &t->filter))
		return NET_FILTER;
	for (u8 i = 0; i < ARRAY_SIZE(w->modes); i++)
		if (w->modes[i] != t->modes[i] && virtio_has_feature(vdev, mode_feature(i))) {
			net->command_which = i;
			return NET_MODE;
		}
	if (!virtio_has_feature(vdev, VIRTIO_NET_F_CTRL_VLAN))
		return NET_NOTHING;
	for (u32 i = 0; i < ARRAY_SIZE(w->vlans); i++)
		if (w->vlans[i] != t->vlans[i]) {
			net->command_which =
				64 * i + (u32)__builtin_ctzll(w->vlans[i] ^ t->vlans[i]);
			return NET_VLAN;
		}
	return NET_NOTHING;
}

static u8 *put_macs(u8 *to, const u8 (*macs)[6], u32 n)
{
	le32 wire = le32_of(n);

	memcpy(to, &wire, sizeof(wire));
	memcpy(to + sizeof(wire), macs, 6 * (size_t)n);
	return to + sizeof(wire) + 6 * (size_t)n;
}

static bool vlan_of(const struct net_settings *s, u16 id)
{
	return s->vlans[id / 64] >> id % 64 & 1;
}

/* Writes the command down; returns how many bytes of data it has. */
static u32 command_write(const struct net *net, struct net_control_wire *wire)
{
	const struct net_settings *w = &net->wanted;
	le16 number;
	u8 *end;

	switch (net->command) {
	case NET_NOTHING:
		break;
	case NET_ANNOUNCE:
		wire->header = (struct virtio_net_ctrl_hdr){ VIRTIO_NET_CTRL_ANNOUNCE,
							     VIRTIO_NET_CTRL_ANNOUNCE_ACK };
		break;
	case NET_PAIRS:
		wire->header = (struct virtio_net_ctrl_hdr){ VIRTIO_NET_CTRL_MQ,
							     VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET };
		number = le16_of(w->n_pairs);
		memcpy(wire->data, &number, sizeof(number));
		return sizeof(number);
	case NET_MAC:
		wire->header = (struct virtio_net_ctrl_hdr){ VIRTIO_NET_CTRL_MAC,
							     VIRTIO_NET_CTRL_MAC_ADDR_SET };
		memcpy(wire->data, w->mac, sizeof(w->mac));
		return sizeof(w->mac);
	case NET_FILTER:
		wire->header = (struct virtio_net_ctrl_hdr){ VIRTIO_NET_CTRL_MAC,
							     VIRTIO_NET_CTRL_MAC_TABLE_SET };
		end = put_macs(wire->data, w->filter.unicast, w->filter.n_unicast);
		return put_macs(end, w->filter.multicast, w->filter.n_multicast) - wire->data;
	case NET_MODE:
		wire->header =
			(struct virtio_net_ctrl_hdr){ VIRTIO_NET_CTRL_RX, (u8)net->command_which };
		wire->data[0] = w->modes[net->command_which];
		return 1;
	case NET_VLAN:
		wire->header = (struct virtio_net_ctrl_hdr){ VIRTIO_NET_CTRL_VLAN,
							     vlan_of(w, net->command_which)
								     ? VIRTIO_NET_CTRL_VLAN_ADD
								     : VIRTIO_NET_CTRL_VLAN_DEL };
		number = le16_of(net->command_which);
		memcpy(wire->data, &number, sizeof(number));
		return sizeof(number);
	}
	return 0;
}

/* Makes `to` as `from` is, as far as the command under way goes. */
static void command_copy(const struct net *net, struct net_settings *to,
			 const struct net_settings *from)
{
	u16 which = net->command_which;

	switch (net->command) {
	case NET_NOTHING:
	case NET_ANNOUNCE:
		break;
	case NET_PAIRS:
		to->n_pairs = from->n_pairs;
		break;
	case NET_MAC:
		memcpy(to->mac, from->mac, sizeof(to->mac));
		break;
	case NET_FILTER:
		to->filter = from->filter;
		break;
	case NET_MODE:
		to->modes[which] = from->modes[which];
		break;
	case NET_VLAN:
		to->vlans[which / 64] &= ~((u64)1 << which % 64);
		to->vlans[which / 64] |= (u64)vlan_of(from, which) << which % 64;
		break;
	}
}

/* Refused is not wanted any more: the device would refuse it again. */
static void command_end(struct net *net, bool good)
{
	if (good) {
		command_copy(net, &net->told, &net->wanted);
	} else {
		command_copy(net, &net->wanted, &net->told);
		net->control_err = -EIO;
	}
	if (net->command == NET_MAC)
		memcpy(net->info.mac, net->told.mac, sizeof(net->info.mac));
	net->info.n_pairs_used = net->told.n_pairs;
	net->command = NET_NOTHING;
}

static void command_begin(struct net *net)
{
	struct span sg[2] = {
		{ &net->wire->header, sizeof(net->wire->header) },
		{ &net->wire->status, 1 },
	};

	net->command = command_next(net);
	if (net->command == NET_NOTHING)
		return;
	sg[0].n_bytes += command_write(net, net->wire);
	net->wire->status = STATUS_POISON;
	if (virtqueue_add_buf(net->control, sg, 1, 1, net->wire) < 0)
		net->command = NET_NOTHING; /* broken; or no memory to map it: later */
	else if (net->command == NET_ANNOUNCE)
		net->announced = false;
}

void driver_net_control_work(struct net *net)
{
	struct virtqueue *vq = net->control;
	bool ring;
	u8 status;
	u32 n;

	if (!vq || !net_usable(net))
		return;
	platform_lock(net->vdev->platform);
	if (virtqueue_get_buf(vq, &n)) {
		copy_once(&status, &net->wire->status, 1);
		command_end(net, n >= 1 && status == VIRTIO_NET_OK);
	}
	if (net->command == NET_NOTHING)
		command_begin(net);
	ring = virtqueue_kick_prepare(vq);
	virtio_queue_failed(vq);
	platform_unlock(net->vdev->platform);
	if (ring)
		virtqueue_notify(vq);
}

void driver_net_control_callback(struct virtqueue *vq)
{
	driver_net_control_work(vq->priv);
}

void driver_net_control_forget(struct net *net)
{
	memset(&net->told, 0, sizeof(net->told));
	memcpy(net->told.mac, net->info.mac, sizeof(net->told.mac));
	net->told.n_pairs = net->info.n_pairs_used = 1;
	net->wanted.n_pairs = min_u64(net->wanted.n_pairs, net->info.n_pairs);
}

/* ---- for the owner ----------------------------------------------------------------------- */

/* Until the device knows everything, or `timeout_ns` have passed. */
static int control_wait(struct net *net, u64 timeout_ns)
{
	struct platform *p = net->vdev->platform;
	u64 start = p->ops->now_ns(p);

	while (net->live) {
		driver_net_control_work(net);
		if (net_usable(net) && net->command == NET_NOTHING)
			return net->control_err;
		if (p->ops->now_ns(p) - start >= timeout_ns)
			return -ETIMEDOUT;
		virtio_poll();
		p->ops->relax(p);
	}
	return -ENODEV;
}

/* What is under way comes first: the answer to it is then known to be to it. */
static int change_begin(struct virtio_device *vdev, unsigned int feature, u64 timeout_ns,
			struct net **net)
{
	int err;

	*net = net_of(vdev);
	if (!*net || !(*net)->live)
		return -ENODEV;
	if (!virtio_has_feature(vdev, feature))
		return -EOPNOTSUPP;
	err = control_wait(*net, timeout_ns);
	(*net)->control_err = 0; /* nobody was there to hear it */
	return err == -EIO ? 0 : err;
}

int driver_net_set_mode(struct virtio_device *vdev, u8 mode, bool on, u64 timeout_ns)
{
	struct net *net;
	int err;

	if (mode > VIRTIO_NET_CTRL_RX_NOBCAST)
		return -EINVAL;
	err = change_begin(vdev, mode_feature(mode), timeout_ns, &net);
	if (err < 0)
		return err;
	net->wanted.modes[mode] = on;
	return control_wait(net, timeout_ns);
}

int driver_net_set_filter(struct virtio_device *vdev, const struct driver_net_filter *filter,
			  u64 timeout_ns)
{
	struct driver_net_filter *wanted;
	struct net *net;
	int err;

	if (filter->n_unicast > DRIVER_NET_MAX_MACS || filter->n_multicast > DRIVER_NET_MAX_MACS)
		return -EINVAL;
	err = change_begin(vdev, VIRTIO_NET_F_CTRL_RX, timeout_ns, &net);
	if (err < 0)
		return err;
	wanted = &net->wanted.filter;
	memset(wanted, 0, sizeof(*wanted));
	wanted->n_unicast = filter->n_unicast;
	wanted->n_multicast = filter->n_multicast;
	memcpy(wanted->unicast, filter->unicast, 6 * (size_t)filter->n_unicast);
	memcpy(wanted->multicast, filter->multicast, 6 * (size_t)filter->n_multicast);
	return control_wait(net, timeout_ns);
}

int driver_net_set_mac(struct virtio_device *vdev, const u8 mac[6], u64 timeout_ns)
{
	struct net *net;
	int err;

	if (mac[0] & 1)
		return -EINVAL;
	err = change_begin(vdev, VIRTIO_NET_F_CTRL_MAC_ADDR, timeout_ns, &net);
	if (err < 0)
		return err;
	memcpy(net->wanted.mac, mac, 6);
	net->mac_chosen = true;
	return control_wait(net, timeout_ns);
}

int driver_net_set_vlan(struct virtio_device *vdev, u16 id, bool on, u64 timeout_ns)
{
	u64 *word, bit = (u64)1 << id % 64;
	struct net *net;
	int err;

	if (id > 0xfff)
		return -EINVAL;
	err = change_begin(vdev, VIRTIO_NET_F_CTRL_VLAN, timeout_ns, &net);
	if (err < 0)
		return err;
	word = &net->wanted.vlans[id / 64];
	*word = on ? *word | bit : *word & ~bit;
	return control_wait(net, timeout_ns);
}

int driver_net_set_pairs(struct virtio_device *vdev, u16 n_pairs, u64 timeout_ns)
{
	struct net *net;
	int err = change_begin(vdev, VIRTIO_NET_F_MQ, timeout_ns, &net);

	if (err < 0)
		return err;
	if (n_pairs == 0 || n_pairs > net->info.n_pairs)
		return -EINVAL;
	net->wanted.n_pairs = n_pairs;
	return control_wait(net, timeout_ns);
}
