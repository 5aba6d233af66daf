/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A network port that needs no privileges: user-mode NAT through libslirp.
 *
 * The guest sits in a network of its own, by default 10.0.2.0/24: it is 10.0.2.15 (by DHCP), the
 * host is 10.0.2.2, a name server answers at 10.0.2.3. Its connections leave as sockets of this
 * process. Nobody outside reaches it but through the ports that are forwarded.
 */
#ifndef VIADUCT_HOST_NETPORT_SLIRP_H
#define VIADUCT_HOST_NETPORT_SLIRP_H

#include <netinet/in.h>

#include "device/netport.h"
#include "host/loop.h"

/* Whoever connects to the host's port talks to the guest's. */
struct netport_slirp_forward {
	bool udp;
	struct in_addr host_addr; /* 0.0.0.0: all of the host's */
	u16 host_port;
	struct in_addr guest_addr; /* 0.0.0.0: the first one that DHCP gives */
	u16 guest_port;
};

struct netport_slirp_config {
	const char *name; /* for logs; outlives the port */
	/* "10.0.2.0/24" or NULL. Prefix 8..27: host is .2, name server .3, DHCP begins at .15. */
	const char *network;
	const char *hostname; /* told by DHCP, or NULL */
	u16 mtu; /* the device's; 0: 1500 */
	bool ipv6; /* as well: fec0::/64, the host is fec0::2 */
	bool restricted; /* nothing leaves: only DHCP, the host's answers and forwards */
	const struct netport_slirp_forward *forwards;
	u32 n_forwards;
};

/*
 * "tcp:[HOST]:PORT-[GUEST]:PORT" or "udp:...", as other monitors spell it; an empty address is
 * 0.0.0.0. False if it is not that.
 */
bool netport_slirp_parse_forward(const char *text, struct netport_slirp_forward *forward);

/* NULL, with a sentence for people in `why`, if it cannot be. */
struct netport *netport_slirp_create(struct loop *loop, const struct netport_slirp_config *config,
				     char *why, size_t why_bytes);
void netport_slirp_destroy(struct netport *port);

/* For people. */
struct netport_slirp_stats {
	u64 n_sent, n_received;
	u64 n_dropped; /* for the guest, which had no room for long */
	u64 n_kept; /* for the guest, which had no room for a while */
	u64 n_errors; /* that libslirp found in the guest's frames */
};
const struct netport_slirp_stats *netport_slirp_stats(const struct netport *port);

#endif
