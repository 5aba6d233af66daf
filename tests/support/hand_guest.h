/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A guest made by hand at a network port: frames go in, and what comes out is kept. Just enough
 * Ethernet, ARP, IPv4 and TCP to talk to a real network stack at the other end, written apart
 * from the code under test as far as it can be.
 */
#ifndef VIADUCT_TESTS_SUPPORT_HAND_GUEST_H
#define VIADUCT_TESTS_SUPPORT_HAND_GUEST_H

#include "device/netport.h"
#include "host/loop.h"

#define HAND_MAX_FRAMES 1024
#define HAND_PATIENCE_NS 10000000000ull /* until a test gives up waiting */

#define TCP_FIN 1
#define TCP_SYN 2
#define TCP_RST 4
#define TCP_PSH 8
#define TCP_ACK 16

struct hand_frame {
	struct net_offload offload;
	size_t n_bytes;
	u8 *bytes;
};

struct hand_guest {
	struct loop *loop;
	struct netport *port;
	u8 mac[6], ip[4], host_ip[4];
	u8 host_mac[6]; /* broadcast at first: not every stack takes TCP so */
	bool refuse;
	u32 n_batches;
	u32 n_frames, n_read;
	struct hand_frame frames[HAND_MAX_FRAMES];
};

/* Takes over the port's ears and starts receiving; zeroed at first. */
void hand_attach(struct hand_guest *g, struct loop *loop, struct netport *port, const u8 ip[4],
		 const u8 host_ip[4]);
/* Adds a frame as if the port had brought it. */
void hand_add_frame(struct hand_guest *g, const struct net_offload *o, const void *bytes, size_t n);
void hand_forget_frames(struct hand_guest *g);

u64 hand_now_ns(struct hand_guest *g);
void hand_send(struct hand_guest *g, const struct net_offload *o, const u8 *frame, size_t n);

/*
 * The next frame; turns the loop until there is one; NULL if none comes in time. What else there
 * is about it: g->frames[g->n_read - 1].
 */
const u8 *hand_next(struct hand_guest *g, size_t *n);

/* IPv4 around the `n` bytes that lie at frame + 34 already; returns the frame's length. */
size_t hand_put_ipv4(struct hand_guest *g, u8 *frame, u8 protocol, const u8 *from, const u8 *to,
		     size_t n);
u16 hand_pseudo_sum(const u8 *ip, size_t n);
/* Fails the test if a checksum of this IPv4 frame is wrong. */
void hand_check_checksums(const u8 *frame, size_t n);

/* Operation 1: who has `ip`? 2: `g` is here, told to `ip`. */
size_t hand_make_arp(struct hand_guest *g, u8 frame[60], u16 operation, const u8 *ip);
void hand_send_arp(struct hand_guest *g, u16 operation, const u8 *ip);

/* One end of a TCP connection, just clever enough. */
struct hand_tcp {
	u16 here, there; /* ports */
	u32 send_next, receive_next;
};

/*
 * The segment as a guest with offloads makes it: any size, the pseudo header summed up only;
 * steps `t` past it. Returns the frame's length.
 */
size_t hand_make_segment(struct hand_guest *g, struct hand_tcp *t, u8 *frame, struct net_offload *o,
			 u8 flags, const void *data, size_t n);
/* A finished segment of at most 1460 bytes. */
void hand_send_segment(struct hand_guest *g, struct hand_tcp *t, u8 flags, const void *data,
		       size_t n);
/* The TCP header of this connection's next segment, `n`: its payload's bytes. Answers ARP. */
const u8 *hand_next_segment(struct hand_guest *g, struct hand_tcp *t, size_t *n);
void hand_connect(struct hand_guest *g, struct hand_tcp *t);

/* A listening socket at `addr` (network order), its port, and a connection to it. Non-blocking. */
int hand_listen(u32 addr, u16 *port);
int hand_accept(struct hand_guest *g, int listener);
void hand_read_all(struct hand_guest *g, int fd, void *bytes, size_t n);

#endif
