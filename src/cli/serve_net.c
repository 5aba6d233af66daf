/* SPDX-License-Identifier: BSD-3-Clause */
/* `viaduct serve net`: a network card behind user-mode NAT or on a TAP interface. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/serve.h"
#include "device/net.h"
#include "host/netport_slirp.h"
#include "host/netport_tap.h"
#include "host/randomness.h"

#define MAX_FORWARDS 16

struct options {
	const char *tap; /* NULL: user-mode NAT */
	const char *network;
	bool restricted;
	struct netport_slirp_forward forwards[MAX_FORWARDS];
	u32 n_forwards;
	bool has_mac;
	u8 mac[6];
	u32 mtu;
	u32 n_pairs;
};

static struct netport *the_port;
static bool the_port_is_tap;

static bool parse_mac(const char *text, u8 mac[6])
{
	unsigned int b[6];
	int end = 0;

	if (sscanf(text, "%2x:%2x:%2x:%2x:%2x:%2x%n", &b[0], &b[1], &b[2], &b[3], &b[4], &b[5],
		   &end) != 6 ||
	    text[end])
		return false;
	for (int i = 0; i < 6; i++)
		mac[i] = b[i];
	return !(mac[0] & 1);
}

static int net_option(void *options, char **argv, char *why)
{
	static const char *const with_value[] = { "--tap", "--network", "--forward",
						  "--mac", "--mtu",     "--pairs" };
	struct options *o = options;
	bool known = false;

	if (!strcmp(argv[0], "--user"))
		return 1;
	if (!strcmp(argv[0], "--restrict")) {
		o->restricted = true;
		return 1;
	}
	for (size_t i = 0; i < ARRAY_SIZE(with_value); i++)
		known |= !strcmp(argv[0], with_value[i]);
	if (!known)
		return 0;
	if (!argv[1]) {
		snprintf(why, SERVE_WHY_BYTES, "%s needs a value", argv[0]);
		return -1;
	}
	snprintf(why, SERVE_WHY_BYTES, "%s '%s' is not understood; see viaduct serve --help",
		 argv[0], argv[1]);
	if (!strcmp(argv[0], "--tap"))
		o->tap = argv[1];
	else if (!strcmp(argv[0], "--network"))
		o->network = argv[1];
	else if (!strcmp(argv[0], "--mac"))
		return (o->has_mac = parse_mac(argv[1], o->mac)) ? 2 : -1;
	else if (!strcmp(argv[0], "--mtu"))
		return cli_number(argv[1], 576, 65521, &o->mtu) ? 2 : -1;
	else if (!strcmp(argv[0], "--pairs"))
		return cli_number(argv[1], 1, 8, &o->n_pairs) ? 2 : -1;
	else if (o->n_forwards == MAX_FORWARDS ||
		 !netport_slirp_parse_forward(argv[1], &o->forwards[o->n_forwards++]))
		return -1;
	return 2;
}

static struct vdev *net_open(struct loop *loop, const char *name, const void *options, char *why)
{
	const struct options *o = options;
	struct device_net_config config = {
		.name = name,
		.mtu = o->mtu,
		.max_pairs = o->n_pairs ? o->n_pairs : 1,
		.queue_size = SERVE_QUEUE_SIZE,
		.clock = loop_clock(loop),
	};
	struct netport_slirp_config nat = {
		.name = name,
		.network = o->network,
		.mtu = o->mtu,
		.restricted = o->restricted,
		.forwards = o->forwards,
		.n_forwards = o->n_forwards,
	};
	struct netport_tap_config tap = { .name = name, .interface = o->tap };
	struct randomness *r;

	the_port_is_tap = o->tap;
	the_port = o->tap ? netport_tap_create(loop, &tap, why, SERVE_WHY_BYTES)
			  : netport_slirp_create(loop, &nat, why, SERVE_WHY_BYTES);
	if (!the_port)
		return NULL;
	config.port = the_port;
	memcpy(config.mac, o->mac, sizeof(config.mac));
	if (!o->has_mac) { /* locally administered, unicast, and nobody else's */
		r = host_randomness_create(NULL);
		if (r)
			r->ops->fill(r, config.mac, sizeof(config.mac));
		host_randomness_destroy(r);
		config.mac[0] = 0x52;
		config.mac[1] = 0x54;
	}
	return device_net_init(serve_memory(device_net_bytes(&config)), &config);
}

static void net_close(struct vdev *vdev)
{
	if (the_port_is_tap)
		netport_tap_destroy(the_port);
	else
		netport_slirp_destroy(the_port);
}

static bool net_command(struct vdev *vdev, int n_words, char **words, struct control_answer *a)
{
	if (!strcmp(words[0], "announce") && n_words == 1) {
		device_net_announce(vdev);
		return true;
	}
	if (strcmp(words[0], "link") != 0 || n_words != 2)
		return false;
	if (strcmp(words[1], "up") != 0 && strcmp(words[1], "down") != 0)
		control_fail(a, "link up, or link down");
	else
		device_net_set_link(vdev, !strcmp(words[1], "up"));
	return true;
}

static void net_status(struct vdev *vdev, struct control_answer *a)
{
	const struct device_net_stats *s = device_net_stats(vdev);

	control_say(a, "  %s", the_port->name);
	control_say(a,
		    "  from the guest: frames %llu, bytes %llu, cut in software %llu, dropped %llu",
		    (unsigned long long)s->tx_frames, (unsigned long long)s->tx_bytes,
		    (unsigned long long)s->tx_software_segments,
		    (unsigned long long)(s->tx_malformed + s->tx_oversize + s->tx_link_down +
					 s->tx_lost));
	control_say(a, "  to the guest: frames %llu, bytes %llu, filtered %llu, dropped %llu",
		    (unsigned long long)s->rx_frames, (unsigned long long)s->rx_bytes,
		    (unsigned long long)s->rx_filtered,
		    (unsigned long long)(s->rx_link_down + s->rx_malformed + s->rx_not_asked +
					 s->rx_no_fit));
}

const struct serve_type serve_net = {
	.name = "net",
	.help = "  --user            NAT without privileges (this is what it does by itself)\n"
		"  --forward RULE    tcp:[HOST]:PORT-[GUEST]:PORT, or udp:...; may be repeated\n"
		"  --network NET     the guest's network (10.0.2.0/24; the host is .2 there)\n"
		"  --restrict        nothing leaves but to forwards\n"
		"  --tap NAME        a TAP interface instead of NAT\n"
		"  --mac MAC         (a random one)\n"
		"  --mtu N           (1500)\n"
		"  --pairs N         queue pairs, 1 to 8 (1)",
	.commands = "[DEVICE] link up|down        plug the network cable in, pull it out\n"
		    "[DEVICE] announce            have the guest tell the network where it is",
	.options_bytes = sizeof(struct options),
	.option = net_option,
	.open = net_open,
	.close = net_close,
	.command = net_command,
	.status = net_status,
};
