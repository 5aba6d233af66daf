/* SPDX-License-Identifier: BSD-3-Clause */
/* A descriptor that somebody else has opened, as a chardev. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

#include "host/chardev.h"
#include "host/chardev_stream.h"

static void fd_ended(struct stream *s)
{
	stream_set_open(s, false);
}

static void fd_destroy(struct stream *s)
{
	free(s);
}

static const struct stream_kind fd_kind = {
	.name = "fd",
	.ended = fd_ended,
	.destroy = fd_destroy,
};

struct chardev *host_chardev_fd_create(struct loop *loop, int fd)
{
	int flags = fcntl(fd, F_GETFL), err;
	struct stream *s;

	if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
		return NULL;
	s = malloc(sizeof(*s));
	if (!s)
		return NULL;
	stream_init(s, &fd_kind, loop);
	s->chardev.open = true;
	err = stream_attach(s, fd, fd);
	if (!err)
		return &s->chardev;
	free(s);
	errno = -err;
	return NULL;
}
