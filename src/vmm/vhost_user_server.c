/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Sockets, descriptors and eventfds for transport/vhost_user/backend.c.
 *
 * Nothing here ever waits for the peer: reads happen when there is something, an answer that
 * does not fit into the socket is kept (one, and no further request is read meanwhile: V16),
 * doorbells that are full are rung already.
 */
#include "vmm/vhost_user_server.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "host/mapping.h"
#include "transport/vhost_user/backend.h"

#define MESSAGES_A_TURN 16

/* A piece of guest memory. */
struct guest_mapping {
	struct mapping mapping;
	struct vhost_user_server *server;
	struct list node;
};

/* A ring's doorbell. */
struct kick {
	struct loop_watch watch; /* fd -1: none */
	struct vhost_user_server *server;
	u16 queue;
	bool again; /* a look at the ring ended early */
};

struct vhost_user_server {
	struct loop *loop;
	struct vdev *vdev;
	struct vhost_user_backend backend;
	struct vhost_user_env env;
	struct loop_watch listener;
	struct loop_watch connection; /* fd -1: none */
	struct vhost_user_decoder decoder;
	struct loop_watch request; /* fd -1: nothing waits to be sent on the request socket */
	struct loop_poller poller;
	struct loop_task again_task;
	struct mapping_guard guard;
	struct list mappings;
	u32 n_out, out_sent;
	u8 out[sizeof(struct vhost_user_header) + sizeof(union vhost_user_payload)];
	struct kick kicks[VHOST_USER_MAX_QUEUES];
};

/* ---- what the back end asks for --------------------------------------------------------- */

static struct vhost_user_server *server_of(struct vhost_user_env *env)
{
	return container_of(env, struct vhost_user_server, env);
}

static void connection_close(struct vhost_user_server *s);

/* The front end shrank memory that it had lent to us (V06): that ends its connection. */
static void mapping_broke(struct mapping *m)
{
	struct vhost_user_server *s = container_of(m, struct guest_mapping, mapping)->server;

	log_line(LOG_WARN, s->vdev->name, "guest memory vanished; closing the connection");
	connection_close(s);
}

static void *env_map(struct vhost_user_env *env, int fd, u64 offset, u64 n_bytes)
{
	struct vhost_user_server *s = server_of(env);
	struct guest_mapping *g = calloc(1, sizeof(*g));
	int err;

	if (!g)
		return NULL;
	g->server = s;
	g->mapping.broke = mapping_broke;
	err = mapping_open(&g->mapping, &s->guard, fd, offset, n_bytes);
	if (err < 0) {
		log_line(LOG_WARN, s->vdev->name, "guest memory does not map: %s", strerror(-err));
		free(g);
		return NULL;
	}
	list_add_tail(&s->mappings, &g->node);
	return g->mapping.base;
}

static void env_unmap(struct vhost_user_env *env, void *base, u64 n_bytes)
{
	struct list *node, *tmp;

	list_for_each (node, tmp, &server_of(env)->mappings) {
		struct guest_mapping *g = container_of(node, struct guest_mapping, node);

		if (g->mapping.base != base)
			continue;
		list_del(node);
		mapping_close(&g->mapping);
		free(g);
		return;
	}
}

static void env_close(struct vhost_user_env *env, int fd)
{
	struct vhost_user_server *s = server_of(env);

	if (fd == s->request.fd) {
		loop_remove(s->loop, &s->request);
		s->request.fd = -1;
	}
	close(fd);
}

/*
 * Descriptors that come from a peer must not be able to make us wait: not a doorbell that
 * somebody else emptied first, not a call descriptor that is full (V04).
 */
static int fd_set_nonblocking(int fd)
{
	int flags = fcntl(fd, F_GETFL);

	if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
		return -errno;
	return 0;
}

static void kick_ready(struct loop_watch *w, u32 events)
{
	struct kick *k = container_of(w, struct kick, watch);
	u64 count;
	ssize_t n = read(w->fd, &count, sizeof(count));

	/*
	 * A doorbell whose other end is gone would be readable for ever (V04): no more of it. The
	 * ring still works for a front end that sends a new one.
	 */
	if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) {
		loop_remove(k->server->loop, w);
		w->fd = -1;
	}
	vhost_user_backend_kicked(&k->server->backend, k->queue);
}

static void env_unwatch(struct vhost_user_env *env, u16 queue)
{
	struct kick *k = &server_of(env)->kicks[queue];

	if (k->watch.fd < 0)
		return;
	loop_remove(k->server->loop, &k->watch);
	k->watch.fd = -1;
}

static int env_watch(struct vhost_user_env *env, u16 queue, int fd)
{
	struct kick *k = &server_of(env)->kicks[queue];
	int err;

	k->watch.fd = fd;
	err = loop_add(k->server->loop, &k->watch, EPOLLIN);
	if (err < 0)
		k->watch.fd = -1;
	return err;
}

static void env_signal(struct vhost_user_env *env, int fd)
{
	u64 one = 1;

	/* Full means rung already; that the other end is gone is found by the connection. */
	if (write(fd, &one, sizeof(one)) < 0)
		return;
}

static int env_answer(struct vhost_user_env *env, const void *bytes, u32 n_bytes)
{
	struct vhost_user_server *s = server_of(env);
	ssize_t n = send(s->connection.fd, bytes, n_bytes, MSG_NOSIGNAL | MSG_DONTWAIT);

	if (n == n_bytes)
		return 0;
	if (n < 0 && errno != EAGAIN && errno != EINTR)
		return -errno;
	n = n < 0 ? 0 : n;
	s->n_out = n_bytes - n;
	s->out_sent = 0;
	memcpy(s->out, (const u8 *)bytes + n, s->n_out);
	return loop_change(s->loop, &s->connection, EPOLLOUT);
}

static void request_ready(struct loop_watch *w, u32 events)
{
	struct vhost_user_server *s = container_of(w, struct vhost_user_server, request);

	loop_remove(s->loop, w);
	w->fd = -1;
	vhost_user_backend_retry(&s->backend);
}

static int env_request(struct vhost_user_env *env, int fd, const void *bytes, u32 n_bytes)
{
	struct vhost_user_server *s = server_of(env);

	if (s->request.fd >= 0)
		return -EAGAIN;
	/* 12 bytes go into a socket whole or not at all, as long as its buffer is no smaller. */
	if (send(fd, bytes, n_bytes, MSG_NOSIGNAL | MSG_DONTWAIT) >= 0)
		return 0;
	if (errno != EAGAIN)
		return -errno;
	s->request.fd = fd;
	if (loop_add(s->loop, &s->request, EPOLLOUT) < 0) {
		s->request.fd = -1;
		return -EIO;
	}
	return -EAGAIN;
}

static void again_run(struct loop_task *t)
{
	struct vhost_user_server *s = container_of(t, struct vhost_user_server, again_task);

	for (u16 i = 0; i < s->vdev->n_queues; i++) {
		if (!s->kicks[i].again)
			continue;
		s->kicks[i].again = false;
		vhost_user_backend_kicked(&s->backend, i);
	}
}

static void env_again(struct vhost_user_env *env, u16 queue)
{
	struct vhost_user_server *s = server_of(env);

	s->kicks[queue].again = true;
	loop_defer(s->loop, &s->again_task);
}

static const struct vhost_user_env_ops env_ops = {
	.map = env_map,
	.unmap = env_unmap,
	.close = env_close,
	.watch = env_watch,
	.unwatch = env_unwatch,
	.signal = env_signal,
	.again = env_again,
	.answer = env_answer,
	.request = env_request,
};

/* ---- the connection ---------------------------------------------------------------------- */

static void connection_close(struct vhost_user_server *s)
{
	if (s->connection.fd < 0)
		return;
	for (u32 i = 0; i < s->decoder.msg.n_fds; i++) /* of a message that never became whole */
		close(s->decoder.msg.fds[i]);
	vhost_user_decoder_init(&s->decoder);
	vhost_user_backend_close(&s->backend);
	loop_remove(s->loop, &s->connection);
	close(s->connection.fd);
	s->connection.fd = -1;
	s->n_out = 0;
	loop_change(s->loop, &s->listener, EPOLLIN); /* the next one, who may be waiting */
}

/* A request that cannot be honoured ends its connection, and is named once. */
static void connection_refuse(struct vhost_user_server *s, const char *why)
{
	/* Before its header is whole, what lies there is the last request's. */
	u32 request = s->decoder.n_got < sizeof(s->decoder.msg.header)
			      ? VHOST_USER_N_REQUESTS
			      : s->decoder.msg.header.request;

	log_line(LOG_WARN, s->vdev->name, "front end sent %s: %s; closing its connection",
		 vhost_user_request_name(request), why);
	connection_close(s);
}

/*
 * Reads what is there of the message at hand. Returns its bytes and keeps the descriptors in
 * `fds`; 0: the front end is gone; -EAGAIN; -EPROTO: descriptors that no message brings.
 */
static ssize_t receive(struct vhost_user_server *s, int *fds, u32 *n_fds)
{
	struct span room = vhost_user_decoder_room(&s->decoder);
	struct iovec v = { room.base, room.n_bytes };
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int) * VHOST_USER_MAX_FDS)];
	} control;
	struct msghdr m = {
		.msg_iov = &v,
		.msg_iovlen = 1,
		.msg_control = control.bytes,
		.msg_controllen = sizeof(control.bytes),
	};
	ssize_t n = recvmsg(s->connection.fd, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);

	*n_fds = 0;
	if (n < 0)
		return errno == EINTR ? -EAGAIN : -errno;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c)) {
		u32 count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		memcpy(fds + *n_fds, CMSG_DATA(c), count * sizeof(int));
		*n_fds += count;
	}
	bool good =
		!(m.msg_flags & MSG_CTRUNC) && *n_fds <= VHOST_USER_MAX_FDS - s->decoder.msg.n_fds;

	for (u32 i = 0; i < *n_fds; i++)
		good = good && fd_set_nonblocking(fds[i]) == 0;
	if (good)
		return n;
	for (u32 i = 0; i < *n_fds; i++) /* V03 */
		close(fds[i]);
	*n_fds = 0;
	return -EPROTO;
}

/* One step: reads, and handles a message that became whole. False: stop for this turn. */
static bool connection_step(struct vhost_user_server *s)
{
	int fds[VHOST_USER_MAX_FDS];
	const char *why = NULL;
	u32 n_fds = 0;
	ssize_t n = 0;
	int got;

	if (vhost_user_decoder_room(&s->decoder).n_bytes > 0) {
		n = receive(s, fds, &n_fds);
		if (n == -EAGAIN)
			return false;
		if (n == -EPROTO) {
			connection_refuse(s, "descriptors that no request brings");
			return false;
		}
		if (n <= 0) { /* gone, in the middle of a message or not: its own affair */
			connection_close(s);
			return false;
		}
	}
	got = vhost_user_decoder_got(&s->decoder, n, fds, n_fds, &why);
	if (got == 0)
		return true;
	if (got > 0)
		got = vhost_user_backend_handle(&s->backend, &s->decoder.msg, &why);
	if (got < 0) {
		connection_refuse(s, why);
		return false;
	}
	vhost_user_decoder_init(&s->decoder);
	return s->n_out == 0;
}

static void connection_ready(struct loop_watch *w, u32 events)
{
	struct vhost_user_server *s = container_of(w, struct vhost_user_server, connection);

	if (s->n_out > 0) {
		ssize_t n =
			send(w->fd, s->out + s->out_sent, s->n_out, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return;
		if (n < 0) {
			connection_close(s);
			return;
		}
		s->out_sent += n;
		s->n_out -= n;
		if (s->n_out > 0)
			return;
		loop_change(s->loop, w, EPOLLIN);
	}
	/* A flood of requests gets its share of a turn, no more (V16). */
	for (int i = 0; i < MESSAGES_A_TURN && connection_step(s); i++)
		;
}

static void listener_ready(struct loop_watch *w, u32 events)
{
	struct vhost_user_server *s = container_of(w, struct vhost_user_server, listener);
	int fd = accept4(w->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (fd < 0)
		return;
	s->connection.fd = fd;
	if (loop_add(s->loop, &s->connection, EPOLLIN) < 0) {
		s->connection.fd = -1;
		close(fd);
		return;
	}
	loop_change(s->loop, w, 0); /* one at a time */
	vhost_user_backend_open(&s->backend);
}

bool vhost_user_server_connected(const struct vhost_user_server *s)
{
	return s->connection.fd >= 0;
}

/* ---- polling ------------------------------------------------------------------------------ */

static bool server_poll(struct loop_poller *p)
{
	return vdev_poll(container_of(p, struct vhost_user_server, poller)->vdev);
}

static void server_set_polling(struct loop_poller *p, bool on)
{
	vdev_set_polling(container_of(p, struct vhost_user_server, poller)->vdev, on);
}

/* ---- making and unmaking ------------------------------------------------------------------ */

struct vhost_user_server *vhost_user_server_create(struct loop *loop, struct vdev *vdev,
						   int listen_fd)
{
	struct vhost_user_server *s = calloc(1, sizeof(*s));
	int err;

	if (!s)
		return NULL;
	/* A call descriptor may be a pipe (User-Mode Linux's are) whose reader was killed (V17). */
	signal(SIGPIPE, SIG_IGN);
	s->loop = loop;
	s->vdev = vdev;
	s->env.ops = &env_ops;
	s->listener = (struct loop_watch){ .fd = listen_fd, .ready = listener_ready };
	s->connection = (struct loop_watch){ .fd = -1, .ready = connection_ready };
	s->request = (struct loop_watch){ .fd = -1, .ready = request_ready };
	s->again_task.run = again_run;
	s->poller = (struct loop_poller){ .poll = server_poll, .set_polling = server_set_polling };
	for (u16 i = 0; i < VHOST_USER_MAX_QUEUES; i++)
		s->kicks[i] = (struct kick){ .watch = { .fd = -1, .ready = kick_ready },
					     .server = s,
					     .queue = i };
	vhost_user_backend_init(&s->backend, vdev, &s->env);
	list_init(&s->mappings);
	err = mapping_guard_init(&s->guard, loop);
	if (err < 0)
		goto free;
	err = fd_set_nonblocking(listen_fd);
	if (err == 0)
		err = loop_add(loop, &s->listener, EPOLLIN);
	if (err < 0)
		goto guard;
	loop_add_poller(loop, &s->poller);
	return s;
guard:
	mapping_guard_fini(&s->guard);
free:
	free(s);
	errno = -err;
	return NULL;
}

void vhost_user_server_destroy(struct vhost_user_server *s)
{
	if (!s)
		return;
	connection_close(s);
	loop_remove_poller(s->loop, &s->poller);
	loop_cancel(s->loop, &s->again_task);
	loop_remove(s->loop, &s->listener);
	close(s->listener.fd);
	mapping_guard_fini(&s->guard);
	free(s);
}
