/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * libslirp on our event loop.
 *
 * libslirp thinks in poll(): before sleeping it names the descriptors that it cares about, and
 * afterwards it is told what happened to them. Here the set is named at the end of a turn, if
 * anything touched libslirp in that turn, and the difference to the last set is told to epoll.
 * A turn that has nothing to do with the network costs nothing.
 *
 *   guest's frame, descriptor, timer --> libslirp --> frames for the guest --> receive
 *                                           |                                   | no room
 *                                         stale                                 v
 *                                           v                          kept, within bounds
 *                             end of turn: poll set anew
 *
 * A guest that has no room for long stops whoever sends to it over TCP: without its acknowledgements
 * libslirp fills a buffer of its own and reads no further. What else comes is lost past the bound.
 */
#include "host/netport_slirp.h"

#include <arpa/inet.h>
#include <errno.h>
#include <signal.h>
#include <slirp/libslirp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#include "base/log.h"

#define NS_PER_MS 1000000ull
#define DEFAULT_MTU 1500
/* What libslirp says when it has no timer running at all. */
#define NO_TIMEOUT_MS 1000
#define MAX_FRAME_BYTES 65600
/*
 * libslirp ends TCP itself, and takes a packet of any size from the guest: one acknowledgement and
 * one write to the socket instead of forty. (Its MTU is for what it sends.) Half of what IP allows
 * leaves room for two in TCP's window without scaling, so that the guest need not wait.
 */
#define LARGE_BYTES 32768
/* Frames kept while the guest has no room: a good bit more than TCP's window without scaling. */
#define KEPT_BYTES (512 * 1024)

/* A descriptor of libslirp's in the current poll set. */
struct poll {
	struct loop_watch watch;
	struct slirp_port *port;
	bool wanted; /* named by the fill that is going on */
	u32 events; /* asked for by it */
	int happened; /* SLIRP_POLL_*, since the last look */
	struct list node;
};

struct slirp_timer {
	struct clock_timer timer;
	struct slirp_port *port;
	SlirpTimerId id;
	void *arg;
};

struct slirp_port {
	struct netport port;
	struct loop *loop;
	struct clock *clock;
	Slirp *slirp;

	struct loop_hook turn_end;
	struct loop_task look; /* libslirp has something to look at, before the loop sleeps */
	struct clock_timer timeout; /* libslirp's own slow and fast timers */
	bool stale; /* libslirp was touched: the poll set and the timeout are old */
	struct list polls;
	struct poll **by_fd;
	size_t n_by_fd;

	bool receiving;
	bool received; /* the device took frames since its last batch_end */
	/* Frames kept for the guest: a u32 length and the bytes, from `head` to `tail`. */
	u8 *kept;
	size_t kept_head, kept_tail;

	u8 frame[MAX_FRAME_BYTES]; /* of the guest's, in one piece and out of its reach */
	struct netport_slirp_stats stats;
};

static struct slirp_port *slirp_port_of(struct netport *port)
{
	return container_of(port, struct slirp_port, port);
}

/* ---- to the guest ----------------------------------------------------------------------- */

static bool give(struct slirp_port *p, const void *bytes, size_t n)
{
	/* libslirp ends all connections itself: what it says carries checksums of its making. */
	static const struct net_offload valid = { .flags = 2 /* DATA_VALID */ };
	const struct span v = { (void *)bytes, n };

	if (!p->receiving || !p->port.receive(p->port.owner, &valid, &v, 1))
		return false;
	p->received = true;
	p->stats.n_received++;
	return true;
}

static bool keep(struct slirp_port *p, const void *bytes, size_t n)
{
	u32 n32 = (u32)n;

	if (KEPT_BYTES - (p->kept_tail - p->kept_head) < sizeof(n32) + n)
		return false;
	if (KEPT_BYTES - p->kept_tail < sizeof(n32) + n) {
		memmove(p->kept, p->kept + p->kept_head, p->kept_tail - p->kept_head);
		p->kept_tail -= p->kept_head;
		p->kept_head = 0;
	}
	memcpy(p->kept + p->kept_tail, &n32, sizeof(n32));
	memcpy(p->kept + p->kept_tail + sizeof(n32), bytes, n);
	p->kept_tail += sizeof(n32) + n;
	return true;
}

static bool is_keeping(const struct slirp_port *p)
{
	return p->kept_head < p->kept_tail;
}

static void give_kept(struct slirp_port *p)
{
	while (is_keeping(p)) {
		u32 n;

		memcpy(&n, p->kept + p->kept_head, sizeof(n));
		if (!give(p, p->kept + p->kept_head + sizeof(n), n))
			return;
		p->kept_head += sizeof(n) + n;
	}
	p->kept_head = p->kept_tail = 0;
}

/* libslirp may have called `receive`; called last by whoever entered it, but for `send`. */
static void end_batch(struct slirp_port *p)
{
	p->stale = true;
	if (p->received)
		p->port.batch_end(p->port.owner);
	p->received = false;
}

/* ---- what libslirp calls ---------------------------------------------------------------- */

static ssize_t cb_send_packet(const void *bytes, size_t n, void *opaque)
{
	struct slirp_port *p = opaque;

	if (!is_keeping(p) && give(p, bytes, n))
		return (ssize_t)n;
	if (keep(p, bytes, n))
		p->stats.n_kept++;
	else
		p->stats.n_dropped++; /* TCP will send it again */
	return (ssize_t)n;
}

static void cb_guest_error(const char *message, void *opaque)
{
	struct slirp_port *p = opaque;

	/* A guest can make as many of these as it likes: one is told. */
	if (p->stats.n_errors++ == 0)
		log_line(LOG_WARN, p->port.name, "the guest's frames are not right: %s", message);
}

static int64_t cb_clock_get_ns(void *opaque)
{
	struct slirp_port *p = opaque;

	return (int64_t)p->clock->ops->now_ns(p->clock);
}

static void slirp_timer_fired(struct clock_timer *timer)
{
	struct slirp_timer *t = container_of(timer, struct slirp_timer, timer);

	slirp_handle_timer(t->port->slirp, t->id, t->arg);
	end_batch(t->port);
}

static void *cb_timer_new_opaque(SlirpTimerId id, void *arg, void *opaque)
{
	struct slirp_timer *t = calloc(1, sizeof(*t));

	/* libslirp has no way to hear of this. */
	if (!t)
		abort();
	*t = (struct slirp_timer){
		.timer.fired = slirp_timer_fired,
		.port = opaque,
		.id = id,
		.arg = arg,
	};
	return t;
}

static void cb_timer_free(void *timer, void *opaque)
{
	struct slirp_port *p = opaque;
	struct slirp_timer *t = timer;

	p->clock->ops->stop(p->clock, &t->timer);
	free(t);
}

static void cb_timer_mod(void *timer, int64_t expire_ms, void *opaque)
{
	struct slirp_port *p = opaque;
	struct slirp_timer *t = timer;

	p->clock->ops->start(p->clock, &t->timer, (u64)expire_ms * NS_PER_MS);
}

static void poll_forget(struct slirp_port *p, struct poll *poll)
{
	loop_remove(p->loop, &poll->watch);
	list_del(&poll->node);
	p->by_fd[poll->watch.fd] = NULL;
	free(poll);
}

static void cb_register_poll_fd(int fd, void *opaque)
{
	/* The next fill names it. */
}

/* Comes before the descriptor is closed, and its number used for another. */
static void cb_unregister_poll_fd(int fd, void *opaque)
{
	struct slirp_port *p = opaque;

	if (fd >= 0 && (size_t)fd < p->n_by_fd && p->by_fd[fd])
		poll_forget(p, p->by_fd[fd]);
}

static void cb_notify(void *opaque)
{
	struct slirp_port *p = opaque;

	p->stale = true;
}

static const SlirpCb callbacks = {
	.send_packet = cb_send_packet,
	.guest_error = cb_guest_error,
	.clock_get_ns = cb_clock_get_ns,
	.timer_new_opaque = cb_timer_new_opaque,
	.timer_free = cb_timer_free,
	.timer_mod = cb_timer_mod,
	.register_poll_fd = cb_register_poll_fd,
	.unregister_poll_fd = cb_unregister_poll_fd,
	.notify = cb_notify,
};

/* ---- descriptors ------------------------------------------------------------------------ */

static const struct {
	int slirp;
	u32 epoll;
} event_names[] = {
	{ SLIRP_POLL_IN, EPOLLIN },   { SLIRP_POLL_OUT, EPOLLOUT }, { SLIRP_POLL_PRI, EPOLLPRI },
	{ SLIRP_POLL_ERR, EPOLLERR }, { SLIRP_POLL_HUP, EPOLLHUP },
};

static void poll_ready(struct loop_watch *watch, u32 events)
{
	struct poll *poll = container_of(watch, struct poll, watch);

	for (size_t i = 0; i < ARRAY_SIZE(event_names); i++)
		if (events & event_names[i].epoll)
			poll->happened |= event_names[i].slirp;
	/* All that happens in this turn is looked at in one go. */
	loop_defer(poll->port->loop, &poll->port->look);
}

static struct poll *poll_for(struct slirp_port *p, int fd)
{
	struct poll *poll;

	if ((size_t)fd >= p->n_by_fd) {
		size_t n = (size_t)fd + 64;
		struct poll **by_fd = realloc(p->by_fd, n * sizeof(*by_fd));

		if (!by_fd)
			return NULL;
		memset(by_fd + p->n_by_fd, 0, (n - p->n_by_fd) * sizeof(*by_fd));
		p->by_fd = by_fd;
		p->n_by_fd = n;
	}
	if (p->by_fd[fd])
		return p->by_fd[fd];

	poll = calloc(1, sizeof(*poll));
	if (!poll)
		return NULL;
	poll->port = p;
	poll->watch.fd = fd;
	poll->watch.ready = poll_ready;
	if (loop_add(p->loop, &poll->watch, 0) < 0) {
		free(poll);
		return NULL;
	}
	list_add_tail(&p->polls, &poll->node);
	p->by_fd[fd] = poll;
	return poll;
}

/* The index that libslirp gets for a descriptor is the descriptor. */
static int add_poll(int fd, int events, void *opaque)
{
	struct slirp_port *p = opaque;
	struct poll *poll = poll_for(p, fd);

	if (!poll)
		return -1;
	poll->wanted = true;
	poll->events = 0;
	for (size_t i = 0; i < ARRAY_SIZE(event_names); i++)
		if (events & event_names[i].slirp)
			poll->events |= event_names[i].epoll;
	return fd;
}

static int get_happened(int fd, void *opaque)
{
	struct slirp_port *p = opaque;

	return fd >= 0 && (size_t)fd < p->n_by_fd && p->by_fd[fd] ? p->by_fd[fd]->happened : 0;
}

static void turn_end(struct loop_hook *hook)
{
	struct slirp_port *p = container_of(hook, struct slirp_port, turn_end);
	struct list *node, *tmp;
	u32 timeout_ms = UINT32_MAX;

	if (!p->stale)
		return;
	p->stale = false;
	slirp_pollfds_fill(p->slirp, &timeout_ms, add_poll, p);
	list_for_each (node, tmp, &p->polls) {
		struct poll *poll = container_of(node, struct poll, node);

		if (!poll->wanted) {
			poll_forget(p, poll);
			continue;
		}
		poll->wanted = false;
		if (poll->events != poll->watch.events)
			loop_change(p->loop, &poll->watch, poll->events);
	}

	if (timeout_ms < NO_TIMEOUT_MS)
		p->clock->ops->start(p->clock, &p->timeout,
				     p->clock->ops->now_ns(p->clock) + timeout_ms * NS_PER_MS);
	else
		p->clock->ops->stop(p->clock, &p->timeout);
}

/* Lets libslirp see what happened, and what time it is. */
static void look(struct slirp_port *p)
{
	struct list *node, *tmp;

	slirp_pollfds_poll(p->slirp, 0, get_happened, p);
	list_for_each (node, tmp, &p->polls)
		container_of(node, struct poll, node)->happened = 0;
	end_batch(p);
}

static void look_run(struct loop_task *task)
{
	look(container_of(task, struct slirp_port, look));
}

static void timeout_fired(struct clock_timer *timer)
{
	look(container_of(timer, struct slirp_port, timeout));
}

/* ---- the port --------------------------------------------------------------------------- */

static int port_send(struct netport *port, const struct net_offload *offload, const struct span *v,
		     u32 n)
{
	struct slirp_port *p = slirp_port_of(port);
	size_t n_bytes = 0;

	/* libslirp looks at a frame more than once, so the guest must not change it meanwhile. */
	for (u32 i = 0; i < n; i++) {
		if (v[i].n_bytes > sizeof(p->frame) - n_bytes)
			return -EINVAL;
		memcpy(p->frame + n_bytes, v[i].base, v[i].n_bytes);
		n_bytes += v[i].n_bytes;
	}
	slirp_input(p->slirp, p->frame, (int)n_bytes);
	p->stats.n_sent++;
	p->stale = true;
	/* It may have been the address that packets are waiting for: only a look sends them off. */
	loop_defer(p->loop, &p->look);
	p->received = false; /* our caller ends that batch */
	return 0;
}

static void port_set_receiving(struct netport *port, bool on)
{
	struct slirp_port *p = slirp_port_of(port);

	p->receiving = on;
	if (on)
		give_kept(p);
	p->received = false; /* as with send */
}

static void port_set_offloads(struct netport *port, u32 guest_can)
{
	/* Every frame comes finished. */
}

static const struct netport_ops port_ops = {
	.send = port_send,
	.set_receiving = port_set_receiving,
	.set_offloads = port_set_offloads,
};

const struct netport_slirp_stats *netport_slirp_stats(const struct netport *port)
{
	return &container_of(port, const struct slirp_port, port)->stats;
}

/* ---- set-up ----------------------------------------------------------------------------- */

__attribute__((format(printf, 3, 4))) static void explain(char *why, size_t why_bytes,
							  const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(why, why_bytes, format, args);
	va_end(args);
}

/* "HOST:PORT" up to `end`. */
static bool parse_end(const char *text, size_t n, struct in_addr *addr, u16 *port)
{
	const char *colon = memchr(text, ':', n);
	char host[INET_ADDRSTRLEN], *end;
	size_t host_bytes;
	unsigned long value;

	if (!colon)
		return false;
	host_bytes = (size_t)(colon - text);
	if (host_bytes >= sizeof(host))
		return false;
	memcpy(host, text, host_bytes);
	host[host_bytes] = '\0';
	addr->s_addr = htonl(INADDR_ANY);
	if (host_bytes && inet_pton(AF_INET, host, addr) != 1)
		return false;
	if (colon[1] < '0' || colon[1] > '9')
		return false;
	value = strtoul(colon + 1, &end, 10);
	*port = (u16)value;
	return end == text + n && value > 0 && value <= 65535;
}

bool netport_slirp_parse_forward(const char *text, struct netport_slirp_forward *forward)
{
	struct netport_slirp_forward f = { 0 };
	const char *dash;

	f.udp = !strncmp(text, "udp:", 4);
	if (!f.udp && strncmp(text, "tcp:", 4))
		return false;
	text += 4;
	dash = strchr(text, '-');
	if (!dash || !parse_end(text, (size_t)(dash - text), &f.host_addr, &f.host_port) ||
	    !parse_end(dash + 1, strlen(dash + 1), &f.guest_addr, &f.guest_port))
		return false;
	*forward = f;
	return true;
}

static bool parse_network(const char *text, SlirpConfig *slirp)
{
	char addr[INET_ADDRSTRLEN], *end;
	const char *slash = strchr(text, '/');
	struct in_addr network;
	unsigned long prefix;
	u32 mask, net;

	if (!slash || (size_t)(slash - text) >= sizeof(addr) || slash[1] < '0' || slash[1] > '9')
		return false;
	memcpy(addr, text, (size_t)(slash - text));
	addr[slash - text] = '\0';
	prefix = strtoul(slash + 1, &end, 10);
	if (*end || prefix < 8 || prefix > 27 || inet_pton(AF_INET, addr, &network) != 1)
		return false;
	mask = UINT32_MAX << (32 - prefix);
	net = ntohl(network.s_addr);
	if (net & ~mask)
		return false;
	slirp->vnetwork = network;
	slirp->vnetmask.s_addr = htonl(mask);
	slirp->vhost.s_addr = htonl(net + 2);
	slirp->vnameserver.s_addr = htonl(net + 3);
	slirp->vdhcp_start.s_addr = htonl(net + 15);
	return true;
}

static bool add_forward(struct slirp_port *p, const struct netport_slirp_forward *f, char *why,
			size_t why_bytes)
{
	char host[INET_ADDRSTRLEN];

	if (slirp_add_hostfwd(p->slirp, f->udp, f->host_addr, f->host_port, f->guest_addr,
			      f->guest_port) == 0)
		return true;
	explain(why, why_bytes, "cannot forward %s port %u of %s: %s", f->udp ? "UDP" : "TCP",
		f->host_port, inet_ntop(AF_INET, &f->host_addr, host, sizeof(host)),
		strerror(errno));
	return false;
}

struct netport *netport_slirp_create(struct loop *loop, const struct netport_slirp_config *config,
				     char *why, size_t why_bytes)
{
	u16 mtu = config->mtu ? config->mtu : DEFAULT_MTU;
	SlirpConfig slirp = {
		.version = SLIRP_CONFIG_VERSION_MAX,
		.restricted = config->restricted,
		.in_enabled = true,
		.in6_enabled = config->ipv6,
		.vprefix_len = 64,
		.vhostname = config->hostname,
		.if_mtu = mtu,
		.if_mru = mtu,
	};
	struct slirp_port *p;

	inet_pton(AF_INET6, "fec0::", &slirp.vprefix_addr6);
	inet_pton(AF_INET6, "fec0::2", &slirp.vhost6);
	inet_pton(AF_INET6, "fec0::3", &slirp.vnameserver6);
	if (!parse_network(config->network ? config->network : "10.0.2.0/24", &slirp)) {
		explain(why, why_bytes,
			"network '%s' is not of the form 10.0.2.0/24 (prefix from 8 to 27)",
			config->network);
		return NULL;
	}

	p = calloc(1, sizeof(*p));
	if (!p || !(p->kept = malloc(KEPT_BYTES))) {
		explain(why, why_bytes, "no memory");
		goto free_port;
	}
	p->port = (struct netport){
		.ops = &port_ops,
		.name = config->name,
		.large_bytes = LARGE_BYTES,
		.link_up = true,
	};
	p->loop = loop;
	p->clock = loop_clock(loop);
	p->turn_end.run = turn_end;
	p->look.run = look_run;
	p->timeout.fired = timeout_fired;
	list_init(&p->polls);

	/* libslirp writes to sockets whose other end may have gone, and expects EPIPE. */
	signal(SIGPIPE, SIG_IGN);
	p->slirp = slirp_new(&slirp, &callbacks, p);
	if (!p->slirp) {
		explain(why, why_bytes, "libslirp %s refuses this network, or MTU %u",
			slirp_version_string(), mtu);
		goto free_port;
	}
	loop_add_hook(loop, &p->turn_end);
	p->stale = true;
	for (u32 i = 0; i < config->n_forwards; i++)
		if (!add_forward(p, &config->forwards[i], why, why_bytes)) {
			netport_slirp_destroy(&p->port);
			return NULL;
		}
	return &p->port;

free_port:
	if (p)
		free(p->kept);
	free(p);
	return NULL;
}

void netport_slirp_destroy(struct netport *port)
{
	struct slirp_port *p = slirp_port_of(port);
	struct list *node, *tmp;

	slirp_cleanup(p->slirp);
	list_for_each (node, tmp, &p->polls)
		poll_forget(p, container_of(node, struct poll, node));
	p->clock->ops->stop(p->clock, &p->timeout);
	loop_cancel(p->loop, &p->look);
	loop_remove_hook(p->loop, &p->turn_end);
	free(p->by_fd);
	free(p->kept);
	free(p);
}
