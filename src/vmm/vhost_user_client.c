/* SPDX-License-Identifier: BSD-3-Clause */
/* Sockets, descriptors and eventfds for transport/vhost_user/frontend.c. */
#include "vmm/vhost_user_client.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "vmm/shared_memory.h"

#define DEFAULT_TIMEOUT_MS 5000
#define MIN_PAUSE_NS 10000000ull
#define MAX_PAUSE_NS 1000000000ull

/* What the back end is told of where our memory lies; not the truth, which is none of its affair. */
#define CLAIMED_ADDR 0x700000000000ull

struct doorbells {
	struct loop_watch call; /* fd -1: none */
	int kick_fd;
	struct vhost_user_client *client;
	u16 queue;
};

struct vhost_user_client {
	struct loop *loop;
	struct vhost_user_client_config config;
	struct sockaddr_un address;
	struct vhost_user_front front;
	struct vhost_user_front_env env;
	struct vhost_user_front_memory region;
	struct shared_memory memory;

	struct loop_watch connection; /* fd -1: none */
	struct loop_watch requests; /* our end of the request channel; fd -1: none */
	int requests_peer_fd; /* -1: none */
	struct loop_task told; /* a configuration change */
	struct loop_task aftermath; /* of a lost connection */
	struct loop_hook recover; /* what callbacks put off */

	struct clock_timer retry;
	u64 connected_ns, gone_ns, pause_ns;
	struct doorbells doorbells[VHOST_USER_FRONT_MAX_QUEUES];
};

static struct vhost_user_client *client_of(struct vhost_user_front_env *env)
{
	return container_of(env, struct vhost_user_client, env);
}

static u64 now_ns(struct vhost_user_client *c)
{
	struct clock *clock = loop_clock(c->loop);

	return clock->ops->now_ns(clock);
}

static void tell(struct vhost_user_client *c, enum vhost_user_client_event event)
{
	if (c->config.event)
		c->config.event(c->config.arg, event);
}

/* ---- the request channel -------------------------------------------------------------------- */

static void watch_close(struct vhost_user_client *c, struct loop_watch *w)
{
	if (w->fd < 0)
		return;
	loop_remove(c->loop, w);
	close(w->fd);
	w->fd = -1;
}

static void requests_ready(struct loop_watch *w, u32 events)
{
	struct vhost_user_client *c = container_of(w, struct vhost_user_client, requests);
	u8 bytes[16 * sizeof(struct vhost_user_header)]; /* a flood has its share of a turn */
	struct iovec v = { bytes, sizeof(bytes) };
	struct msghdr m = { .msg_iov = &v, .msg_iovlen = 1 };
	ssize_t n = recvmsg(w->fd, &m, MSG_DONTWAIT);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	/* Without room for them, descriptors that come along never enter this process. */
	if (n > 0 && m.msg_flags & MSG_CTRUNC)
		vhost_user_front_lost(&c->front, "descriptors on the request channel");
	else if (n > 0)
		vhost_user_front_requested(&c->front, bytes, n);
	else
		watch_close(c, w); /* no more requests; whether it lives is told elsewhere */
}

static int env_open_requests(struct vhost_user_front_env *env)
{
	struct vhost_user_client *c = client_of(env);
	int fds[2], err;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0)
		return -errno;
	c->requests.fd = fds[0];
	err = loop_add(c->loop, &c->requests, EPOLLIN);
	if (err < 0) {
		close(fds[0]);
		close(fds[1]);
		c->requests.fd = -1;
		return err;
	}
	c->requests_peer_fd = fds[1];
	return fds[1];
}

static int env_answer(struct vhost_user_front_env *env, const void *bytes, u32 n_bytes)
{
	ssize_t n = send(client_of(env)->requests.fd, bytes, n_bytes, MSG_NOSIGNAL | MSG_DONTWAIT);

	return n == n_bytes ? 0 : -EPIPE;
}

/* ---- the connection -------------------------------------------------------------------------- */

/* Waits until the connection has `events`, serving the request channel meanwhile. */
static int await_connection(struct vhost_user_client *c, short events, u64 deadline_ns)
{
	while (c->connection.fd >= 0) {
		struct pollfd fds[2] = { { .fd = c->connection.fd, .events = events },
					 { .fd = c->requests.fd, .events = POLLIN } };
		u64 now = now_ns(c);

		if (now >= deadline_ns)
			return -ETIMEDOUT;
		if (poll(fds, 2, (int)((deadline_ns - now) / 1000000 + 1)) < 0 && errno != EINTR)
			return -errno;
		if (fds[1].revents)
			requests_ready(&c->requests, 0);
		if (fds[0].revents && c->connection.fd >= 0)
			return 0;
	}
	return -EPIPE;
}

static u64 deadline_ns(struct vhost_user_client *c)
{
	return now_ns(c) + c->config.timeout_ms * 1000000ull;
}

static int env_send(struct vhost_user_front_env *env, const void *bytes, u32 n_bytes,
		    const int *fds, u32 n_fds)
{
	struct vhost_user_client *c = client_of(env);
	u64 deadline = deadline_ns(c);
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int) * VHOST_USER_MAX_FDS)];
	} control = { .bytes = { 0 } };
	struct iovec v = { (void *)(uintptr_t)bytes, n_bytes };
	struct msghdr m = { .msg_iov = &v, .msg_iovlen = 1 };

	if (n_fds > 0) {
		m.msg_control = &control;
		m.msg_controllen = CMSG_SPACE(sizeof(int) * n_fds);
		struct cmsghdr *h = CMSG_FIRSTHDR(&m);

		h->cmsg_level = SOL_SOCKET;
		h->cmsg_type = SCM_RIGHTS;
		h->cmsg_len = CMSG_LEN(sizeof(int) * n_fds);
		memcpy(CMSG_DATA(h), fds, sizeof(int) * n_fds);
	}
	while (v.iov_len > 0) {
		int err = await_connection(c, POLLOUT, deadline);
		ssize_t n =
			err < 0 ? 0 : sendmsg(c->connection.fd, &m, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (err < 0)
			return err;
		if (n < 0 && errno != EAGAIN && errno != EINTR)
			return errno == ECONNRESET ? -EPIPE : -errno;
		if (n <= 0)
			continue;
		v.iov_base = (u8 *)v.iov_base + n;
		v.iov_len -= n;
		m.msg_control = NULL; /* went with the first byte */
		m.msg_controllen = 0;
	}
	return 0;
}

static int env_receive(struct vhost_user_front_env *env, void *bytes, u32 n_bytes)
{
	struct vhost_user_client *c = client_of(env);
	u64 deadline = deadline_ns(c);
	struct iovec v = { bytes, n_bytes };

	while (v.iov_len > 0) {
		struct msghdr m = { .msg_iov = &v, .msg_iovlen = 1 };
		int err = await_connection(c, POLLIN, deadline);
		ssize_t n = err < 0 ? 0 : recvmsg(c->connection.fd, &m, MSG_DONTWAIT);

		if (err < 0)
			return err;
		if (n == 0 || (n < 0 && errno == ECONNRESET))
			return -EPIPE;
		if (n < 0 && errno != EAGAIN && errno != EINTR)
			return -errno;
		if (n < 0)
			continue;
		if (m.msg_flags & MSG_CTRUNC)
			return -EPROTO;
		v.iov_base = (u8 *)v.iov_base + n;
		v.iov_len -= n;
	}
	return 0;
}

/* Nothing is expected: it closed, or it says what nobody asked. */
static void connection_ready(struct loop_watch *w, u32 events)
{
	struct vhost_user_client *c = container_of(w, struct vhost_user_client, connection);
	u8 byte;
	ssize_t n = recv(w->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	vhost_user_front_lost(&c->front,
			      n > 0 ? "it answers what nobody asked" : "it closed the connection");
}

static void env_lost(struct vhost_user_front_env *env)
{
	struct vhost_user_client *c = client_of(env);

	watch_close(c, &c->connection);
	watch_close(c, &c->requests);
	if (c->requests_peer_fd >= 0)
		close(c->requests_peer_fd);
	c->requests_peer_fd = -1;
	loop_defer(c->loop, &c->aftermath);
}

static void env_wake(struct vhost_user_front_env *env)
{
	loop_defer(client_of(env)->loop, &client_of(env)->told);
}

static void told_run(struct loop_task *t)
{
	vhost_user_front_dispatch(&container_of(t, struct vhost_user_client, told)->front);
}

static void recover_run(struct loop_hook *h)
{
	virtio_poll();
}

/* ---- doorbells -------------------------------------------------------------------------------- */

static void call_ready(struct loop_watch *w, u32 events)
{
	struct doorbells *d = container_of(w, struct doorbells, call);
	u64 count;

	if (read(w->fd, &count, sizeof(count)) > 0)
		vhost_user_front_called(&d->client->front, d->queue);
}

static void env_close_doorbells(struct vhost_user_front_env *env, u16 queue)
{
	struct doorbells *d = &client_of(env)->doorbells[queue];

	watch_close(d->client, &d->call);
	if (d->kick_fd >= 0)
		close(d->kick_fd);
	d->kick_fd = -1;
}

static int env_open_doorbells(struct vhost_user_front_env *env, u16 queue, int *kick_fd,
			      int *call_fd)
{
	struct doorbells *d = &client_of(env)->doorbells[queue];
	int err;

	d->kick_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	d->call.fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	err = d->kick_fd < 0 || d->call.fd < 0 ? -errno
					       : loop_add(d->client->loop, &d->call, EPOLLIN);
	if (err < 0) {
		env_close_doorbells(env, queue);
		return err;
	}
	*kick_fd = d->kick_fd;
	*call_fd = d->call.fd;
	return 0;
}

static void env_kick(struct vhost_user_front_env *env, u16 queue)
{
	u64 one = 1;

	/* Full means rung already. */
	if (write(client_of(env)->doorbells[queue].kick_fd, &one, sizeof(one)) < 0)
		return;
}

static const struct vhost_user_front_env_ops env_ops = {
	.send = env_send,
	.receive = env_receive,
	.open_requests = env_open_requests,
	.answer = env_answer,
	.open_doorbells = env_open_doorbells,
	.close_doorbells = env_close_doorbells,
	.kick = env_kick,
	.lost = env_lost,
	.wake = env_wake,
};

/* ---- coming and going ------------------------------------------------------------------------- */

/* 0, or -errno: nobody there, or nobody that can be talked to. */
static int client_connect(struct vhost_user_client *c)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int err;

	if (fd < 0)
		return -errno;
	if (connect(fd, (const struct sockaddr *)&c->address, sizeof(c->address)) < 0) {
		err = -errno;
		close(fd);
		return err;
	}
	c->connection.fd = fd;
	err = loop_add(c->loop, &c->connection, EPOLLIN);
	if (err < 0) {
		close(fd);
		c->connection.fd = -1;
		return err;
	}
	c->connected_ns = now_ns(c);
	return vhost_user_front_connect(&c->front);
}

/* After a pause that doubles each time, so that nobody is hammered; or not any more. */
static void retry_later(struct vhost_user_client *c)
{
	struct clock *clock = loop_clock(c->loop);
	u64 now = now_ns(c);

	if (now - c->gone_ns >= c->config.give_up_ms * 1000000ull) {
		tell(c, VHOST_USER_CLIENT_GAVE_UP);
		return;
	}
	clock->ops->start(clock, &c->retry, now + c->pause_ns);
	c->pause_ns = min_u64(2 * c->pause_ns, MAX_PAUSE_NS);
}

static void retry_fired(struct clock_timer *t)
{
	struct vhost_user_client *c = container_of(t, struct vhost_user_client, retry);

	if (client_connect(c) == 0 && virtio_device_back(&c->front.device) == 0 &&
	    c->connection.fd >= 0) {
		c->gone_ns = 0;
		tell(c, VHOST_USER_CLIENT_BACK);
		return;
	}
	/* There, but of no use: another one may come in its place. */
	vhost_user_front_lost(&c->front, "the device does not come up");
	loop_cancel(c->loop, &c->aftermath);
	virtio_device_gone(&c->front.device);
	retry_later(c);
}

static void aftermath_run(struct loop_task *t)
{
	struct vhost_user_client *c = container_of(t, struct vhost_user_client, aftermath);

	virtio_device_gone(&c->front.device);
	tell(c, VHOST_USER_CLIENT_GONE);
	/* One that goes as soon as it came gets no new start with short pauses. */
	if (c->pause_ns == 0 || now_ns(c) - c->connected_ns > MAX_PAUSE_NS)
		c->pause_ns = MIN_PAUSE_NS;
	c->gone_ns = now_ns(c);
	retry_later(c);
}

struct virtio_device *vhost_user_client_device(struct vhost_user_client *c)
{
	return &c->front.device;
}

const struct vhost_user_front *vhost_user_client_front(const struct vhost_user_client *c)
{
	return &c->front;
}

static void connect_why(const char *path, int err, char *why, size_t n_why)
{
	switch (err) {
	case -ENOENT:
		snprintf(why, n_why, "%s: no such socket; start the back end first", path);
		break;
	case -ECONNREFUSED:
		snprintf(why, n_why, "%s: nobody listens there any more; start the back end", path);
		break;
	case -EAGAIN:
		snprintf(why, n_why, "%s: busy with other front ends", path);
		break;
	case -ENODEV:
		snprintf(
			why, n_why,
			"%s: no answer such as a vhost-user back end gives; perhaps it has another "
			"front end, and takes one at a time",
			path);
		break;
	default:
		snprintf(why, n_why, "%s: %s", path, strerror(-err));
	}
}

struct vhost_user_client *vhost_user_client_create(struct loop *loop,
						   const struct vhost_user_client_config *config,
						   char *why, size_t n_why)
{
	struct vhost_user_client *c = calloc(1, sizeof(*c));
	int err;

	if (!c || strlen(config->path) >= sizeof(c->address.sun_path)) {
		snprintf(why, n_why, "%s: %s", config->path,
			 c ? "longer than a socket's path may be" : "no memory");
		free(c);
		return NULL;
	}
	signal(SIGPIPE, SIG_IGN);
	c->loop = loop;
	c->config = *config;
	if (c->config.timeout_ms == 0)
		c->config.timeout_ms = DEFAULT_TIMEOUT_MS;
	c->address.sun_family = AF_UNIX;
	strcpy(c->address.sun_path, config->path);
	c->env.ops = &env_ops;
	c->connection = (struct loop_watch){ .fd = -1, .ready = connection_ready };
	c->requests = (struct loop_watch){ .fd = -1, .ready = requests_ready };
	c->requests_peer_fd = -1;
	c->told.run = told_run;
	c->aftermath.run = aftermath_run;
	c->recover.run = recover_run;
	c->retry.fired = retry_fired;
	for (u32 i = 0; i < VHOST_USER_FRONT_MAX_QUEUES; i++)
		c->doorbells[i] = (struct doorbells){ .call = { .fd = -1, .ready = call_ready },
						      .kick_fd = -1,
						      .client = c,
						      .queue = i };
	err = shared_memory_init(&c->memory, config->memory_bytes);
	if (err < 0) {
		snprintf(why, n_why, "no shared memory: %s", strerror(-err));
		free(c);
		return NULL;
	}
	c->region = (struct vhost_user_front_memory){
		.region = { SHARED_MEMORY_GPA, config->memory_bytes, CLAIMED_ADDR, 0 },
		.fd = c->memory.fd,
	};
	vhost_user_front_init(&c->front, &c->env, &c->memory.platform, config->device_id,
			      config->name, &c->region, 1);
	c->front.hidden = config->hidden;
	err = client_connect(c);
	if (err < 0) {
		connect_why(config->path, err, why, n_why);
		loop_cancel(loop, &c->aftermath);
		shared_memory_fini(&c->memory);
		free(c);
		return NULL;
	}
	loop_add_hook(loop, &c->recover);
	return c;
}

void vhost_user_client_destroy(struct vhost_user_client *c)
{
	struct clock *clock = loop_clock(c->loop);

	c->front.connected = false; /* on purpose: nothing to be told about */
	env_lost(&c->env);
	loop_cancel(c->loop, &c->aftermath);
	loop_cancel(c->loop, &c->told);
	loop_remove_hook(c->loop, &c->recover);
	clock->ops->stop(clock, &c->retry);
	shared_memory_fini(&c->memory);
	free(c);
}
