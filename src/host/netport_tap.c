/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * TAP: one read or write a frame, straight from and to the guest's pieces on the way out.
 *
 * Sleeping and waking is the descriptor's readiness: it is watched for input while the device
 * receives, for output after the kernel had no room. One frame that was read and then refused is
 * kept; behind it the kernel's own queue fills, and drops.
 */
#include "host/netport_tap.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/log.h"

#define ALL_OFFLOADS (NETPORT_CSUM | NETPORT_TSO4 | NETPORT_TSO6 | NETPORT_ECN)

/* 64 KiB of IP with an Ethernet header and tags; what is longer, the kernel cannot have. */
#define MAX_FRAME_BYTES (65536 + 64)
/* Frames a turn: others live on this loop, too. */
#define BATCH 64
#define MAX_PIECES 1023

/* The kernel's vnet header without num_buffers, in the machine's byte order: ours. */
SIZE_IS(struct net_offload, 10);
OFFSET_IS(struct net_offload, hdr_len, 2);
OFFSET_IS(struct net_offload, csum_offset, 8);

/* A span is an iovec. */
SIZE_IS(struct span, sizeof(struct iovec));
OFFSET_IS(struct span, base, offsetof(struct iovec, iov_base));
OFFSET_IS(struct span, n_bytes, offsetof(struct iovec, iov_len));

struct tap_port {
	struct netport port;
	struct loop *loop;
	struct loop_watch watch;
	char interface[IFNAMSIZ];
	bool receiving;
	bool waiting; /* for room to send */
	bool broken; /* the interface has gone */

	struct net_offload offload; /* of the frame below */
	size_t kept_bytes; /* not 0: refused by the device, to be offered again */
	u8 frame[MAX_FRAME_BYTES];
};

static struct tap_port *tap_port_of(struct netport *port)
{
	return container_of(port, struct tap_port, port);
}

static void update_watch(struct tap_port *t)
{
	u32 events = 0;

	if (!t->broken && t->receiving && t->kept_bytes == 0)
		events |= EPOLLIN;
	if (!t->broken && t->waiting)
		events |= EPOLLOUT;
	if (events != t->watch.events)
		loop_change(t->loop, &t->watch, events);
}

/* ---- to the guest ----------------------------------------------------------------------- */

static bool give(struct tap_port *t, size_t n_bytes)
{
	const struct span v = { t->frame, n_bytes };

	return t->receiving && t->port.receive(t->port.owner, &t->offload, &v, 1);
}

/* The interface was deleted, or taken away: no frame comes or goes any more. */
static void lose_interface(struct tap_port *t, int err)
{
	t->broken = true;
	t->port.link_up = false;
	log_line(LOG_ERROR, t->port.name, "TAP interface %s is lost: %s", t->interface,
		 strerror(err));
	t->port.link_changed(t->port.owner);
}

static void read_batch(struct tap_port *t)
{
	struct iovec v[2] = { { &t->offload, sizeof(t->offload) }, { t->frame, sizeof(t->frame) } };
	bool gave = false;

	for (u32 i = 0; i < BATCH && t->receiving && t->kept_bytes == 0; i++) {
		ssize_t n = readv(t->watch.fd, v, 2);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno != EAGAIN)
			lose_interface(t, errno);
		if (n < 0)
			break;
		/* Shorter than its header: never seen, and nothing to give. */
		if ((size_t)n <= sizeof(t->offload))
			continue;
		if (give(t, (size_t)n - sizeof(t->offload)))
			gave = true;
		else
			t->kept_bytes = (size_t)n - sizeof(t->offload);
	}
	if (gave)
		t->port.batch_end(t->port.owner);
}

static void tap_ready(struct loop_watch *watch, u32 events)
{
	struct tap_port *t = container_of(watch, struct tap_port, watch);

	if (t->waiting && (events & (EPOLLOUT | EPOLLERR | EPOLLHUP))) {
		t->waiting = false;
		t->port.ready(t->port.owner);
	}
	if (events & (EPOLLIN | EPOLLERR | EPOLLHUP))
		read_batch(t);
	update_watch(t);
}

/* ---- the port --------------------------------------------------------------------------- */

static int port_send(struct netport *port, const struct net_offload *offload, const struct span *v,
		     u32 n)
{
	struct tap_port *t = tap_port_of(port);
	struct iovec pieces[1 + MAX_PIECES];
	ssize_t sent;

	if (t->broken)
		return -ENODEV;
	if (n > MAX_PIECES)
		return -EINVAL;
	pieces[0] = (struct iovec){ (void *)offload, sizeof(*offload) };
	memcpy(pieces + 1, v, n * sizeof(*v));
	do
		sent = writev(t->watch.fd, pieces, (int)n + 1);
	while (sent < 0 && errno == EINTR);
	if (sent >= 0)
		return 0;
	if (errno != EAGAIN)
		return -errno;
	t->waiting = true;
	update_watch(t);
	return -EAGAIN;
}

static void port_set_receiving(struct netport *port, bool on)
{
	struct tap_port *t = tap_port_of(port);

	t->receiving = on;
	if (on && t->kept_bytes > 0 && give(t, t->kept_bytes))
		t->kept_bytes = 0;
	update_watch(t);
}

static void port_set_offloads(struct netport *port, u32 guest_can)
{
	struct tap_port *t = tap_port_of(port);
	unsigned int flags = 0;

	if (guest_can & NETPORT_CSUM)
		flags |= TUN_F_CSUM;
	if (guest_can & NETPORT_TSO4)
		flags |= TUN_F_TSO4;
	if (guest_can & NETPORT_TSO6)
		flags |= TUN_F_TSO6;
	/* The kernel knows no ECN without either of these. */
	if ((guest_can & NETPORT_ECN) && (flags & (TUN_F_TSO4 | TUN_F_TSO6)))
		flags |= TUN_F_TSO_ECN;
	if (!t->broken && ioctl(t->watch.fd, TUNSETOFFLOAD, (unsigned long)flags) < 0)
		log_line(LOG_WARN, port->name, "cannot set offloads of %s: %s", t->interface,
			 strerror(errno));
}

static const struct netport_ops port_ops = {
	.send = port_send,
	.set_receiving = port_set_receiving,
	.set_offloads = port_set_offloads,
};

const char *netport_tap_interface(const struct netport *port)
{
	return container_of(port, const struct tap_port, port)->interface;
}

/* ---- set-up ----------------------------------------------------------------------------- */

static void explain_open(int err, char *why, size_t why_bytes)
{
	if (err == EACCES || err == EPERM)
		snprintf(why, why_bytes,
			 "/dev/net/tun may not be opened by this user: run as root, or use the "
			 "user-mode network");
	else
		snprintf(why, why_bytes, "/dev/net/tun: %s (is the tun module there?)",
			 strerror(err));
}

static void explain_attach(const char *interface, int err, char *why, size_t why_bytes)
{
	const char *name = interface ? interface : "a new one";

	if (err == EPERM || err == EACCES)
		snprintf(why, why_bytes,
			 "TAP interface %s: not permitted; let root make it: ip tuntap add NAME "
			 "mode tap user USER vnet_hdr",
			 name);
	else if (err == EBUSY)
		snprintf(why, why_bytes, "TAP interface %s is in use by another program", name);
	else if (err == EINVAL)
		snprintf(why, why_bytes,
			 "TAP interface %s: is no TAP interface, or one with several queues", name);
	else
		snprintf(why, why_bytes, "TAP interface %s: %s", name, strerror(err));
}

/* Who may make an interface wants it up; who may not, had it made and set up by who may. */
static void bring_up(const char *interface)
{
	struct ifreq request = { 0 };
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	memcpy(request.ifr_name, interface, IFNAMSIZ);
	if (fd >= 0 && ioctl(fd, SIOCGIFFLAGS, &request) == 0 && !(request.ifr_flags & IFF_UP)) {
		request.ifr_flags |= IFF_UP;
		ioctl(fd, SIOCSIFFLAGS, &request);
	}
	if (fd >= 0)
		close(fd);
}

struct netport *netport_tap_create(struct loop *loop, const struct netport_tap_config *config,
				   char *why, size_t why_bytes)
{
	struct ifreq request = { .ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR };
	int header_bytes = sizeof(struct net_offload);
	struct tap_port *t;
	int fd, err;

	if (config->interface && strlen(config->interface) >= IFNAMSIZ) {
		snprintf(why, why_bytes, "TAP interface %s: names have at most %d bytes",
			 config->interface, IFNAMSIZ - 1);
		return NULL;
	}
	fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0) {
		explain_open(errno, why, why_bytes);
		return NULL;
	}
	if (config->interface)
		memcpy(request.ifr_name, config->interface, strlen(config->interface));
	/* The header's size stays with an interface that was there before: say it. */
	if (ioctl(fd, TUNSETIFF, &request) < 0 || ioctl(fd, TUNSETVNETHDRSZ, &header_bytes) < 0) {
		explain_attach(config->interface, errno, why, why_bytes);
		goto close_fd;
	}

	t = calloc(1, sizeof(*t));
	if (!t) {
		snprintf(why, why_bytes, "no memory");
		goto close_fd;
	}
	t->port = (struct netport){
		.ops = &port_ops,
		.name = config->name,
		.can = ALL_OFFLOADS,
		.brings = ALL_OFFLOADS,
		.link_up = true,
	};
	t->loop = loop;
	t->watch.fd = fd;
	t->watch.ready = tap_ready;
	memcpy(t->interface, request.ifr_name, IFNAMSIZ);
	port_set_offloads(&t->port, 0);
	err = loop_add(loop, &t->watch, 0);
	if (err < 0) {
		snprintf(why, why_bytes, "TAP interface %s: %s", t->interface, strerror(-err));
		goto free_port;
	}
	bring_up(t->interface);
	return &t->port;

free_port:
	free(t);
close_fd:
	close(fd);
	return NULL;
}

void netport_tap_destroy(struct netport *port)
{
	struct tap_port *t = tap_port_of(port);

	loop_remove(t->loop, &t->watch);
	close(t->watch.fd);
	free(t);
}
