/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What a network device asks of its host: a port that takes and brings Ethernet frames.
 *
 * Synchronous and unreliable, as Ethernet is: a frame is taken, refused for now, or lost.
 * Freestanding; the back ends (TAP, user-mode NAT, ...) live in host/. One thread.
 */
#ifndef VIADUCT_DEVICE_NETPORT_H
#define VIADUCT_DEVICE_NETPORT_H

#include "base/types.h"

/*
 * Work left to do on a frame. All 0: a plain, finished frame of at most MTU size. Values are
 * those of struct virtio_net_hdr (flags NEEDS_CSUM 1, DATA_VALID 2; gso_type NONE 0, TCPV4 1,
 * UDP 3, TCPV6 4, UDP_L4 5, ECN 0x80), in the machine's byte order.
 */
struct net_offload {
	u8 flags, gso_type;
	u16 hdr_len, gso_size, csum_start, csum_offset;
};

/* Offloads that a side is able to do itself. */
#define NETPORT_CSUM (1u << 0) /* frames with NEEDS_CSUM */
#define NETPORT_TSO4 (1u << 1)
#define NETPORT_TSO6 (1u << 2)
#define NETPORT_ECN (1u << 3)

struct netport;

struct netport_ops {
	/*
	 * A frame from the guest: `n` spans, at least 14 bytes in all. Needs only offloads that are
	 * in `can`. 0: taken (copied or sent; the spans are the device's again). -EAGAIN: no room
	 * now, `ready` follows. Another -errno: the frame is lost.
	 */
	int (*send)(struct netport *port, const struct net_offload *offload, const struct span *v,
		    u32 n);
	/*
	 * The device can (not) take frames; while it cannot, a port keeps or drops what comes in,
	 * at its choice, within bounds. Off at first.
	 */
	void (*set_receiving)(struct netport *port, bool on);
	/* Which NETPORT_* the guest takes on receive; of large frames (TSO4, TSO6) no others. */
	void (*set_offloads)(struct netport *port, u32 guest_can);
};

struct netport {
	const struct netport_ops *ops;
	const char *name;
	u32 can; /* NETPORT_*, of frames sent; what is missing, the device does in software */
	/*
	 * Finished TCP frames are taken with IP packets of up to this many bytes, whatever the MTU; 0:
	 * none are. For a port that ends connections itself: what it does not have to forward, the
	 * device does not have to cut.
	 */
	u16 large_bytes;
	u32 brings; /* NETPORT_*, of frames received that it may leave to the guest */
	bool link_up;

	/* The device's ears, set by it; called on the loop's thread. */
	void *owner;
	/*
	 * A frame for the guest. True: taken. False: no room; the port keeps or drops it and goes on
	 * after set_receiving(on).
	 */
	bool (*receive)(void *owner, const struct net_offload *offload, const struct span *v,
			u32 n);
	/*
	 * After one or more receives, but not for those within send or set_receiving: the guest may
	 * answer at once, and the device is not to be entered twice.
	 */
	void (*batch_end)(void *owner);
	void (*ready)(void *owner); /* after -EAGAIN: send again */
	void (*link_changed)(void *owner);
};

#endif
