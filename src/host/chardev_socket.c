/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A Unix stream socket as a chardev.
 *
 *   listening:   nobody --accept--> client --end of its input--> nobody
 *   connecting:  nobody --connect, tried every second--> peer --end of its input--> nobody
 *
 * A client that closed while the guest takes no input is kept, because what it wrote is yet to
 * be read; but if another one comes meanwhile, that one counts, and the old input is dropped.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "host/chardev.h"
#include "host/chardev_stream.h"
#include "host/unix_socket.h"

#define RETRY_NS 1000000000ull

struct socket_chardev {
	struct stream stream;
	struct loop_watch listener; /* fd -1: connecting, or not bound yet */
	struct clock_timer retry; /* of what the world refuses just now: a peer, or a descriptor */
	struct sockaddr_un address;
	dev_t dev; /* of the socket file that we made */
	ino_t ino;
};

static struct socket_chardev *socket_of(struct stream *s)
{
	return container_of(s, struct socket_chardev, stream);
}

/* The next client may come in, or has to wait; in the latter case the kernel keeps it. */
static void let_in(struct socket_chardev *c, bool on)
{
	if (c->listener.fd >= 0)
		loop_change(c->stream.loop, &c->listener, on ? EPOLLIN : 0);
}

static void retry_soon(struct socket_chardev *c)
{
	struct clock *clock = loop_clock(c->stream.loop);

	clock->ops->start(clock, &c->retry, clock->ops->now_ns(clock) + RETRY_NS);
}

static void leave(struct stream *s)
{
	stream_detach(s);
	stream_set_open(s, false);
}

static void socket_ended(struct stream *s)
{
	struct socket_chardev *c = socket_of(s);

	leave(s);
	if (c->listener.fd >= 0)
		let_in(c, true);
	else
		retry_soon(c);
}

/* If it left nothing to read, that was the end already. */
static void socket_hung_up(struct stream *s)
{
	u8 byte;

	if (recv(s->in.fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) > 0)
		let_in(socket_of(s), true);
	else
		socket_ended(s);
}

static int join(struct socket_chardev *c, int fd)
{
	int err = stream_attach(&c->stream, fd, fd);

	if (err) {
		close(fd);
		return err;
	}
	stream_set_open(&c->stream, true);
	return 0;
}

static void client_came(struct loop_watch *w, u32 events)
{
	struct socket_chardev *c = container_of(w, struct socket_chardev, listener);
	int fd = accept4(w->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

	if (fd < 0) {
		if (errno == EAGAIN || errno == ECONNABORTED) /* it has gone again */
			return;
		/* Out of descriptors, most likely. It waits in the kernel, and would wake us for ever. */
		let_in(c, false);
		retry_soon(c);
		return;
	}
	if (c->stream.in.fd >= 0) {
		c->stream.from = c->stream.to = 0;
		leave(&c->stream);
	}
	if (join(c, fd) == 0)
		let_in(c, false);
}

static int connect_now(struct socket_chardev *c)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), err;

	if (fd < 0)
		return -errno;
	if (connect(fd, (struct sockaddr *)&c->address, sizeof(c->address))) {
		err = -errno;
		close(fd);
		return err;
	}
	return join(c, fd);
}

static void retry_fired(struct clock_timer *t)
{
	struct socket_chardev *c = container_of(t, struct socket_chardev, retry);

	if (c->listener.fd >= 0)
		let_in(c, true);
	else if (connect_now(c) < 0)
		retry_soon(c);
}

static int listen_now(struct socket_chardev *c)
{
	char why[256]; /* for people who use the command; here errno says enough */
	struct stat st;

	c->listener.fd = unix_listen(c->address.sun_path, why, sizeof(why));
	if (c->listener.fd < 0)
		return c->listener.fd;
	if (stat(c->address.sun_path, &st) == 0) {
		c->dev = st.st_dev;
		c->ino = st.st_ino;
	}
	return loop_add(c->stream.loop, &c->listener, EPOLLIN);
}

static void socket_destroy(struct stream *s)
{
	struct socket_chardev *c = socket_of(s);
	struct clock *clock = loop_clock(s->loop);
	struct stat st;

	clock->ops->stop(clock, &c->retry);
	loop_remove(s->loop, &c->listener);
	if (c->listener.fd >= 0)
		close(c->listener.fd);
	/* Only our own: another process may have put one in its place. */
	if (c->ino && stat(c->address.sun_path, &st) == 0 && st.st_dev == c->dev &&
	    st.st_ino == c->ino)
		unlink(c->address.sun_path);
	free(c);
}

static const struct stream_kind socket_kind = {
	.name = "socket",
	.ended = socket_ended,
	.hung_up = socket_hung_up,
	.destroy = socket_destroy,
};

struct chardev *host_chardev_socket_create(struct loop *loop, const char *path, bool listening)
{
	struct socket_chardev *c;
	int err;

	if (strlen(path) >= sizeof(c->address.sun_path)) {
		errno = ENAMETOOLONG;
		return NULL;
	}
	c = calloc(1, sizeof(*c));
	if (!c)
		return NULL;
	stream_init(&c->stream, &socket_kind, loop);
	c->listener = (struct loop_watch){ .fd = -1, .ready = client_came };
	c->retry.fired = retry_fired;
	c->address.sun_family = AF_UNIX;
	strcpy(c->address.sun_path, path);
	err = listening ? listen_now(c) : connect_now(c);
	if (!err)
		return &c->stream.chardev;
	host_chardev_destroy(&c->stream.chardev);
	errno = -err;
	return NULL;
}
