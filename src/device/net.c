/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The network device: set-up, link, and what the core and the port call. The queues' own work is
 * in net_transmit.c, net_receive.c and net_control.c.
 */
#include "device/net_device.h"

#include "base/shared.h"

#define DEFAULT_MTU 1500

static struct net *net_of(struct vdev *vdev)
{
	return container_of(vdev, struct net, vdev);
}

void device_net_set_receiving(struct net *net, bool on)
{
	on = on && net->vdev.active && !net->vdev.broken && net_link_is_up(net);
	if (net->receiving == on)
		return;
	net->receiving = on;
	net->port->ops->set_receiving(net->port, on);
}

void device_net_set_guest_offloads(struct net *net, u64 offloads)
{
	u32 can = 0;

	/* Large frames come with a checksum to complete: none of them without GUEST_CSUM. */
	if (offloads & NET_OFFLOAD_BIT(VIRTIO_NET_F_GUEST_CSUM)) {
		can |= NETPORT_CSUM;
		if (offloads & NET_OFFLOAD_BIT(VIRTIO_NET_F_GUEST_TSO4))
			can |= NETPORT_TSO4;
		if (offloads & NET_OFFLOAD_BIT(VIRTIO_NET_F_GUEST_TSO6))
			can |= NETPORT_TSO6;
		if (offloads & NET_OFFLOAD_BIT(VIRTIO_NET_F_GUEST_ECN))
			can |= NETPORT_ECN;
	}
	net->guest_can = can;
	net->port->ops->set_offloads(net->port, can);
}

void device_net_spend(struct net *net, u32 n)
{
	if (n < net->turn_left || !net->clock) {
		net->turn_left -= (u32)min_u64(n, net->turn_left);
		return;
	}
	net->turn_left = 0;
	if (!net->later)
		net->clock->ops->start(net->clock, &net->next_turn,
				       net->clock->ops->now_ns(net->clock) + 1);
	net->later = true;
}

static void transmit_all(struct net *net)
{
	u16 n = net_pairs_that_exist(net);

	net->turn_left = NET_TURN;
	for (u16 i = 0; i < n; i++)
		device_net_transmit(net, (u16)((net->first_pair + i) % n));
	net->first_pair = (u16)((net->first_pair + 1) % n);
}

static u16 control_queue(const struct net *net)
{
	return VIRTIO_NET_RX_QUEUE(net_pairs_that_exist(net));
}

static void next_turn(struct clock_timer *timer)
{
	struct net *net = container_of(timer, struct net, next_turn);

	net->later = false;
	transmit_all(net);
	if (vdev_has(&net->vdev, VIRTIO_NET_F_CTRL_VQ))
		device_net_control(net, control_queue(net));
	vdev_flush(&net->vdev);
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
	net->n_pairs = vdev_has(vdev, VIRTIO_NET_F_CTRL_VQ) ? 1 : net_pairs_that_exist(net);
	device_net_set_guest_offloads(net, vdev->accepted.word[0] & NET_OFFLOADS);
	device_net_set_receiving(net, true);
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

	device_net_set_receiving(net, false);
	if (net->clock)
		net->clock->ops->stop(net->clock, &net->next_turn);
	net->later = false;
	net->first_pair = 0;
	net->n_pairs = 1;
	device_net_set_guest_offloads(net, 0);
	memset(&net->filter, 0, sizeof(net->filter));
	memcpy(net->config.mac, net->first_mac, sizeof(net->first_mac));
	net_set_status_bit(net, VIRTIO_NET_S_ANNOUNCE, false);
	if (net->flow_pair)
		memset(net->flow_pair, 0xff, NET_FLOWS * sizeof(net->flow_pair[0]));
}

static void net_kick(struct vdev *vdev, u16 queue)
{
	struct net *net = net_of(vdev);
	u16 control = control_queue(net);

	net->turn_left = NET_TURN;
	if (queue == control && vdev_has(vdev, VIRTIO_NET_F_CTRL_VQ))
		device_net_control(net, queue);
	else if (queue < control && queue % 2)
		device_net_transmit(net, queue / 2);
	else if (queue < control)
		device_net_set_receiving(net, true);
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

/* ---- the port's calls ------------------------------------------------------------------- */

static void port_ready(void *owner)
{
	struct net *net = owner;

	net->tx_waiting = false;
	transmit_all(net);
	vdev_flush(&net->vdev);
}

static void port_batch_end(void *owner)
{
	struct net *net = owner;

	vdev_flush(&net->vdev);
}

/* ---- link ------------------------------------------------------------------------------- */

static void link_update(struct net *net)
{
	bool up = net_link_is_up(net);
	bool was_up = le16_get(net->config.status) & VIRTIO_NET_S_LINK_UP;

	if (up == was_up)
		return;
	net_set_status_bit(net, VIRTIO_NET_S_LINK_UP, up);
	vdev_config_changed(&net->vdev);
	device_net_set_receiving(net, up);
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
	net_set_status_bit(net, VIRTIO_NET_S_ANNOUNCE, true);
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

	u8 *frame = arena_take(arena, 1,
			       NET_FRAME_BYTES(max_u64(mtu_of(config), config->port->large_bytes)));
	struct span *tx_spans = arena_take(arena, NET_TX_PIECES, sizeof(*tx_spans));
	struct chain *rx_chains = arena_take(arena, NET_RX_MERGED, sizeof(*rx_chains));
	struct span *rx_spans = arena_take(arena, NET_RX_MERGED * NET_RX_PIECES, sizeof(*rx_spans));

	if (config->max_pairs > 1)
		flow_pair = arena_take(arena, NET_FLOWS, sizeof(*flow_pair));
	if (!net)
		return NULL;

	*net = (struct net){
		.port = config->port,
		.clock = config->clock,
		.next_turn.fired = next_turn,
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
	for (u32 i = 0; i < NET_RX_MERGED; i++)
		rx_chains[i] = (struct chain){
			.spans = rx_spans + (size_t)i * NET_RX_PIECES,
			.max_spans = NET_RX_PIECES,
		};
	memset(segments_sent, 0, config->max_pairs * sizeof(*segments_sent));
	if (flow_pair)
		memset(flow_pair, 0xff, NET_FLOWS * sizeof(*flow_pair));
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
	port->receive = device_net_receive;
	port->batch_end = port_batch_end;
	port->ready = port_ready;
	port->link_changed = port_link_changed;
	net_set_status_bit(net, VIRTIO_NET_S_LINK_UP, net_link_is_up(net));
	return &net->vdev;
}
