/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A network port on a TAP interface: the host's own network stack, or a bridge, at the other end.
 *
 * With IFF_VNET_HDR the kernel takes and brings large frames and unfinished checksums as they
 * are, so nothing is cut or summed up here.
 */
#ifndef VIADUCT_HOST_NETPORT_TAP_H
#define VIADUCT_HOST_NETPORT_TAP_H

#include "device/netport.h"
#include "host/loop.h"

struct netport_tap_config {
	const char *name; /* for logs; outlives the port */
	/*
	 * One that was made for this user ("ip tuntap add NAME mode tap user USER vnet_hdr"), or, for
	 * who may, one to be made now; NULL: the kernel finds a name.
	 */
	const char *interface;
};

/* NULL, with a sentence for people in `why`, if it cannot be. */
struct netport *netport_tap_create(struct loop *loop, const struct netport_tap_config *config,
				   char *why, size_t why_bytes);
void netport_tap_destroy(struct netport *port);

/* The interface's name. */
const char *netport_tap_interface(const struct netport *port);

#endif
