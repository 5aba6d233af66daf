/* SPDX-License-Identifier: BSD-3-Clause */
/* Files and named pipes as chardevs. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "host/chardev.h"
#include "host/chardev_stream.h"

static void file_destroy(struct stream *s)
{
	free(s);
}

static const struct stream_kind file_kind = { .name = "file", .destroy = file_destroy };

/* A named pipe both ways: opening does not wait for anybody, and it has no end. */
static int open_path(const char *path, int flags)
{
	struct stat st;

	if (stat(path, &st) == 0 && S_ISFIFO(st.st_mode))
		flags = O_RDWR;
	return open(path, flags | O_NONBLOCK | O_NOCTTY | O_CLOEXEC, 0666);
}

struct chardev *host_chardev_file_create(struct loop *loop, const struct host_chardev_file *options)
{
	int how = O_WRONLY | O_CREAT | (options->append ? O_APPEND : O_TRUNC);
	int in_fd = -1, out_fd = -1, err;
	struct stream *s = malloc(sizeof(*s));

	if (!s)
		return NULL;
	stream_init(s, &file_kind, loop);
	if (options->in && (in_fd = open_path(options->in, O_RDONLY)) < 0)
		goto free_s;
	if (options->out && (out_fd = open_path(options->out, how)) < 0)
		goto close_in;
	s->chardev.open = true;
	err = stream_attach(s, in_fd, out_fd);
	if (!err)
		return &s->chardev;

	errno = -err;
	if (out_fd >= 0)
		close(out_fd);
close_in:
	if (in_fd >= 0)
		close(in_fd);
free_s:
	free(s);
	return NULL;
}
