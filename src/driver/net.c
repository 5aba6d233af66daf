/* SPDX-License-Identifier: BSD-3-Clause */
/* The network driver: what a card says about itself, and how it comes up, goes down and comes back. */
#include "driver/net.h"

#include "base/log.h"
#include "base/shared.h"
#include "driver/net_parts.h"

static const struct driver_net_ears deaf;

const struct driver_net_info *driver_net_info(const struct virtio_device *vdev)
{
	return net_of(vdev) ? &net_of(vdev)->info : NULL;
}

/* ---- features ---------------------------------------------------------------------------- */

static u32 device_pairs(struct virtio_device *vdev)
{
	if (!virtio_has_feature(vdev, VIRTIO_NET_F_MQ))
		return 1;
	return VIRTIO_CREAD(vdev, struct virtio_net_config, max_virtqueue_pairs);
}

static u32 device_mtu(struct virtio_device *vdev)
{
	if (!virtio_has_feature(vdev, VIRTIO_NET_F_MTU))
		return 1500;
	return VIRTIO_CREAD(vdev, struct virtio_net_config, mtu);
}

/* What a device forgot to offer along (5.1.3.1), or cannot mean (D04), is done without. */
static void net_trim_features(struct virtio_device *vdev)
{
	static const struct {
		u8 feature, needs_one_of[2];
	} rules[] = {
		{ VIRTIO_NET_F_HOST_TSO4, { VIRTIO_NET_F_CSUM, VIRTIO_NET_F_CSUM } },
		{ VIRTIO_NET_F_HOST_TSO6, { VIRTIO_NET_F_CSUM, VIRTIO_NET_F_CSUM } },
		{ VIRTIO_NET_F_HOST_ECN, { VIRTIO_NET_F_HOST_TSO4, VIRTIO_NET_F_HOST_TSO6 } },
		/* Ours: large frames only into buffers that need not be as large. */
		{ VIRTIO_NET_F_GUEST_TSO4, { VIRTIO_NET_F_MRG_RXBUF, VIRTIO_NET_F_MRG_RXBUF } },
		{ VIRTIO_NET_F_GUEST_TSO6, { VIRTIO_NET_F_MRG_RXBUF, VIRTIO_NET_F_MRG_RXBUF } },
		{ VIRTIO_NET_F_GUEST_TSO4, { VIRTIO_NET_F_GUEST_CSUM, VIRTIO_NET_F_GUEST_CSUM } },
		{ VIRTIO_NET_F_GUEST_TSO6, { VIRTIO_NET_F_GUEST_CSUM, VIRTIO_NET_F_GUEST_CSUM } },
		{ VIRTIO_NET_F_GUEST_ECN, { VIRTIO_NET_F_GUEST_TSO4, VIRTIO_NET_F_GUEST_TSO6 } },
		{ VIRTIO_NET_F_CTRL_RX, { VIRTIO_NET_F_CTRL_VQ, VIRTIO_NET_F_CTRL_VQ } },
		{ VIRTIO_NET_F_CTRL_RX_EXTRA, { VIRTIO_NET_F_CTRL_VQ, VIRTIO_NET_F_CTRL_VQ } },
		{ VIRTIO_NET_F_CTRL_VLAN, { VIRTIO_NET_F_CTRL_VQ, VIRTIO_NET_F_CTRL_VQ } },
		{ VIRTIO_NET_F_CTRL_MAC_ADDR, { VIRTIO_NET_F_CTRL_VQ, VIRTIO_NET_F_CTRL_VQ } },
		{ VIRTIO_NET_F_MQ, { VIRTIO_NET_F_CTRL_VQ, VIRTIO_NET_F_CTRL_VQ } },
		{ VIRTIO_NET_F_GUEST_ANNOUNCE, { VIRTIO_NET_F_CTRL_VQ, VIRTIO_NET_F_CTRL_VQ } },
		{ VIRTIO_NET_F_GUEST_ANNOUNCE, { VIRTIO_NET_F_STATUS, VIRTIO_NET_F_STATUS } },
	};
	struct features *f = &vdev->features;
	u32 n_pairs = device_pairs(vdev);

	for (size_t i = 0; i < ARRAY_SIZE(rules); i++)
		if (!features_has(f, rules[i].needs_one_of[0]) &&
		    !features_has(f, rules[i].needs_one_of[1]))
			features_clear(f, rules[i].feature);
	if (n_pairs == 0 || n_pairs > NET_MAX_DEVICE_PAIRS)
		features_clear(f, VIRTIO_NET_F_MQ);
	if (device_mtu(vdev) < NET_MIN_MTU)
		features_clear(f, VIRTIO_NET_F_MTU);
}

/* ---- configuration ----------------------------------------------------------------------- */

/* What may change while the device lives. */
static void status_read(struct net *net)
{
	struct virtio_device *vdev = net->vdev;
	u32 status = VIRTIO_NET_S_LINK_UP; /* G-NET-5.1.4.2-05 */

	if (virtio_has_feature(vdev, VIRTIO_NET_F_STATUS))
		status = VIRTIO_CREAD(vdev, struct virtio_net_config, status);
	net->info.link_up = status & VIRTIO_NET_S_LINK_UP;
	net->announce_wanted = (status & VIRTIO_NET_S_ANNOUNCE) &&
			       virtio_has_feature(vdev, VIRTIO_NET_F_GUEST_ANNOUNCE);
}

/* The device is only told that it was done by somebody who can do it. */
static void announce_if_wanted(struct net *net)
{
	if (!net->announce_wanted || !net->ears->announce)
		return;
	net->announce_wanted = false;
	net->ears->announce(net->owner);
	net->announced = true;
	driver_net_control_work(net);
}

static void config_read(struct net *net)
{
	struct virtio_device *vdev = net->vdev;
	struct driver_net_info *i = &net->info;
	u64 n_bad_frames = i->n_bad_frames;
	u32 mtu = device_mtu(vdev);

	*i = (struct driver_net_info){
		/* It said something sensible when it was asked before. */
		.mtu = max_u64(mtu, NET_MIN_MTU),
		.mergeable = virtio_has_feature(vdev, VIRTIO_NET_F_MRG_RXBUF),
		.can_csum = virtio_has_feature(vdev, VIRTIO_NET_F_CSUM),
		.can_tso4 = virtio_has_feature(vdev, VIRTIO_NET_F_HOST_TSO4),
		.can_tso6 = virtio_has_feature(vdev, VIRTIO_NET_F_HOST_TSO6),
		.can_ecn = virtio_has_feature(vdev, VIRTIO_NET_F_HOST_ECN),
		.can_filter = virtio_has_feature(vdev, VIRTIO_NET_F_CTRL_RX),
		.can_filter_more = virtio_has_feature(vdev, VIRTIO_NET_F_CTRL_RX_EXTRA),
		.can_vlan = virtio_has_feature(vdev, VIRTIO_NET_F_CTRL_VLAN),
		.can_set_mac = virtio_has_feature(vdev, VIRTIO_NET_F_CTRL_MAC_ADDR),
		.n_bad_frames = n_bad_frames,
	};
	if (virtio_has_feature(vdev, VIRTIO_NET_F_MAC)) /* G-NET-5.1.4.2-03 */
		virtio_cread_bytes(vdev, offsetof(struct virtio_net_config, mac), i->mac, 6);
	/* G-NET-5.1.4.2-07, G-NET-5.1.9.3.1-03 */
	i->min_buffer_bytes = i->mergeable ? NET_MIN_MERGED_BYTES
					   : sizeof(struct virtio_net_hdr) + NET_ETHERNET_BYTES +
						     NET_TAGS_BYTES + i->mtu;
	status_read(net);
}

static void net_config_changed(struct virtio_device *vdev)
{
	struct net *net = net_of(vdev);

	status_read(net);
	if (net->ears->changed)
		net->ears->changed(net->owner);
	announce_if_wanted(net);
}

int driver_net_listen(struct virtio_device *vdev, const struct driver_net_ears *ears, void *owner)
{
	struct net *net = net_of(vdev);

	if (!net)
		return -ENODEV;
	net->ears = ears;
	net->owner = owner;
	if (net->live)
		announce_if_wanted(net);
	return 0;
}

/* ---- queues ------------------------------------------------------------------------------ */

static int pair_start(struct net_pair *pair, struct virtqueue *rx, struct virtqueue *tx)
{
	struct platform *p = pair->net->vdev->platform;
	u16 n = tx->setup.size;
	u64 addr;

	pair->rx = rx;
	pair->tx = tx;
	rx->priv = tx->priv = pair;
	pair->n_headers = pair->n_free = n;
	pair->headers = p->ops->dma_alloc(p, n * sizeof(*pair->headers), 64, &addr);
	pair->free_headers = p->ops->alloc(p, n * sizeof(*pair->free_headers));
	if (!pair->headers || !pair->free_headers)
		return -ENOMEM;
	for (u16 i = 0; i < n; i++)
		pair->free_headers[i] = i;
	return 0;
}

static void pair_free(struct net_pair *pair)
{
	struct platform *p = pair->net->vdev->platform;

	if (pair->headers)
		p->ops->dma_free(p, pair->headers, pair->n_headers * sizeof(*pair->headers));
	if (pair->free_headers)
		p->ops->free(p, pair->free_headers, pair->n_headers * sizeof(*pair->free_headers));
	pair->headers = NULL;
	pair->free_headers = NULL;
	pair->rx = pair->tx = NULL;
}

/* Finds the queues of the pairs that are used, and of control, which lies behind all pairs. */
static int queues_find(struct net *net, u32 n_device_pairs)
{
	struct platform *p = net->vdev->platform;
	bool control = virtio_has_feature(net->vdev, VIRTIO_NET_F_CTRL_VQ);
	u16 n_pairs = net->info.n_pairs;
	u32 n = control ? 2 * n_device_pairs + 1 : 2u * n_pairs;
	struct virtqueue_info *infos = p->ops->alloc(p, n * sizeof(*infos));
	struct virtqueue **vqs = p->ops->alloc(p, n * sizeof(*vqs));
	int err = infos && vqs ? 0 : -ENOMEM;

	for (u32 i = 0; i < n && err == 0; i++)
		infos[i] =
			i % 2 ? (struct virtqueue_info){ .name = "transmit",
							 .callback = driver_net_sent_callback,
							 .max_indirect =
								 DRIVER_NET_MAX_SEGMENTS + 1 }
			      : (struct virtqueue_info){ .name = "receive",
							 .callback = driver_net_received_callback };
	for (u32 i = 2u * n_pairs; i < n && err == 0; i++)
		infos[i].absent = true;
	if (control && err == 0)
		infos[n - 1] = (struct virtqueue_info){ .name = "control",
							.callback = driver_net_control_callback,
							.max_size = 4,
							.max_indirect = 2 };
	if (err == 0)
		err = virtio_find_vqs(net->vdev, n, vqs, infos);
	if (err == 0) {
		for (u16 i = 0; i < n_pairs && err == 0; i++)
			err = pair_start(&net->pairs[i], vqs[VIRTIO_NET_RX_QUEUE(i)],
					 vqs[VIRTIO_NET_TX_QUEUE(i)]);
		net->control = control ? vqs[n - 1] : NULL;
		if (control)
			net->control->priv = net;
		if (err < 0)
			virtio_del_vqs(net->vdev);
	}
	if (infos)
		p->ops->free(p, infos, n * sizeof(*infos));
	if (vqs)
		p->ops->free(p, vqs, n * sizeof(*vqs));
	return err;
}

static void queues_forget(struct net *net)
{
	for (u16 i = 0; i < DRIVER_NET_MAX_PAIRS; i++)
		pair_free(&net->pairs[i]);
	net->control = NULL;
}

/* ---- up and down ------------------------------------------------------------------------- */

/* From negotiated features to working queues. */
static int net_start(struct net *net)
{
	u32 n_device_pairs = device_pairs(net->vdev);
	struct list *node;
	int err;

	if (n_device_pairs == 0 || n_device_pairs > NET_MAX_DEVICE_PAIRS)
		return -EPROTO; /* it was another number a moment ago */
	config_read(net);
	net->info.n_pairs = min_u64(n_device_pairs, DRIVER_NET_MAX_PAIRS);
	err = queues_find(net, n_device_pairs);
	if (err < 0) {
		queues_forget(net);
		return err;
	}
	driver_net_control_forget(net);
	/* A device that came back with fewer queues. */
	for (u16 i = net->info.n_pairs; i < DRIVER_NET_MAX_PAIRS; i++)
		while ((node = list_pop(&net->pairs[i].waiting)))
			list_add_tail(&net->pairs[i % net->info.n_pairs].waiting, node);
	net->live = true;
	virtio_device_ready(net->vdev);
	for (u16 i = 0; i < net->info.n_pairs; i++) {
		driver_net_fill(&net->pairs[i]);
		driver_net_kick(net->vdev, i);
	}
	driver_net_control_work(net);
	return 0;
}

/* After a reset: everything back from the device. */
static void net_freeze(struct virtio_device *vdev)
{
	struct net *net = vdev->priv;
	bool was_live = net->live;

	net->live = false;
	while (net->control && virtqueue_detach(net->control))
		;
	net->command = NET_NOTHING;
	net->announced = false;
	for (u16 i = 0; i < net->info.n_pairs && was_live; i++) {
		driver_net_take_back(&net->pairs[i]);
		driver_net_fail_sent(&net->pairs[i]);
	}
	vdev->config->del_vqs(vdev);
	queues_forget(net);
}

static int net_restore(struct virtio_device *vdev)
{
	struct net *net = vdev->priv;
	int err = net_start(net);

	if (err < 0)
		return err;
	if (net->ears->changed)
		net->ears->changed(net->owner);
	announce_if_wanted(net);
	return 0;
}

static int net_probe(struct virtio_device *vdev)
{
	struct platform *p = vdev->platform;
	struct net *net = p->ops->alloc(p, sizeof(*net));
	u64 addr;
	int err = -ENOMEM;

	if (!net)
		return -ENOMEM;
	vdev->priv = net;
	net->vdev = vdev;
	net->ears = &deaf;
	net->wanted.n_pairs = 1;
	for (u16 i = 0; i < DRIVER_NET_MAX_PAIRS; i++) {
		net->pairs[i].net = net;
		list_init(&net->pairs[i].waiting);
	}
	net->wire = p->ops->dma_alloc(p, sizeof(*net->wire), 64, &addr);
	if (net->wire)
		err = net_start(net);
	if (err == 0)
		return 0;
	if (net->wire)
		p->ops->dma_free(p, net->wire, sizeof(*net->wire));
	p->ops->free(p, net, sizeof(*net));
	return err;
}

static void net_remove(struct virtio_device *vdev)
{
	struct platform *p = vdev->platform;
	struct net *net = vdev->priv;

	net_freeze(vdev);
	p->ops->dma_free(p, net->wire, sizeof(*net->wire));
	p->ops->free(p, net, sizeof(*net));
}

static const struct virtio_device_id ids[] = { { VIRTIO_ID_NET, VIRTIO_DEV_ANY_ID }, { 0 } };
static const unsigned int features[] = {
	VIRTIO_NET_F_CSUM,          VIRTIO_NET_F_GUEST_CSUM,     VIRTIO_NET_F_MTU,
	VIRTIO_NET_F_MAC,           VIRTIO_NET_F_GUEST_TSO4,     VIRTIO_NET_F_GUEST_TSO6,
	VIRTIO_NET_F_GUEST_ECN,     VIRTIO_NET_F_HOST_TSO4,      VIRTIO_NET_F_HOST_TSO6,
	VIRTIO_NET_F_HOST_ECN,      VIRTIO_NET_F_MRG_RXBUF,      VIRTIO_NET_F_STATUS,
	VIRTIO_NET_F_CTRL_VQ,       VIRTIO_NET_F_CTRL_RX,        VIRTIO_NET_F_CTRL_VLAN,
	VIRTIO_NET_F_CTRL_RX_EXTRA, VIRTIO_NET_F_GUEST_ANNOUNCE, VIRTIO_NET_F_MQ,
	VIRTIO_NET_F_CTRL_MAC_ADDR,
};

struct virtio_driver driver_net = {
	.name = "net",
	.id_table = ids,
	.feature_table = features,
	.feature_table_size = ARRAY_SIZE(features),
	.trim_features = net_trim_features,
	.probe = net_probe,
	.remove = net_remove,
	.config_changed = net_config_changed,
	.freeze = net_freeze,
	.restore = net_restore,
};
