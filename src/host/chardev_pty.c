/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A pty as a chardev. Its other end is opened and closed by whatever program wants a terminal.
 *
 * A pty whose other end is closed reports a hang-up for ever, and says nothing when it is
 * opened again. So the first hang-up ends the watching, and inotify tells when to begin anew.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include "host/chardev.h"
#include "host/chardev_stream.h"

struct pty {
	struct stream stream;
	struct loop_watch opens; /* inotify's */
	char path[64];
	char *link; /* NULL: none */
};

static struct pty *pty_of(struct stream *s)
{
	return container_of(s, struct pty, stream);
}

/*
 * Somebody opened it; who has closed it again at once may have written something all the same.
 * (There is no news of a terminal's size at this end, so opening is when it is looked at.)
 */
static void opened(struct loop_watch *w, u32 events)
{
	struct pty *p = container_of(w, struct pty, opens);
	struct stream *s = &p->stream;
	struct pollfd now = { .fd = s->in.fd };
	struct winsize size;
	u8 told[4096];

	while (read(w->fd, told, sizeof(told)) > 0)
		;
	if (ioctl(s->in.fd, TIOCGWINSZ, &size) == 0)
		stream_set_size(s, size.ws_col, size.ws_row);
	stream_revive(s);
	stream_set_open(s, poll(&now, 1, 0) >= 0 && !(now.revents & POLLHUP));
}

static void closed(struct stream *s)
{
	stream_set_open(s, false);
}

static void remove_link(const char *link, const char *target)
{
	char now[64];
	ssize_t n = readlink(link, now, sizeof(now));

	if (n > 0 && (size_t)n == strlen(target) && memcmp(now, target, (size_t)n) == 0)
		unlink(link);
}

static void pty_destroy(struct stream *s)
{
	struct pty *p = pty_of(s);

	if (p->link)
		remove_link(p->link, p->path);
	loop_remove(s->loop, &p->opens);
	if (p->opens.fd >= 0)
		close(p->opens.fd);
	free(p->link);
	free(p);
}

static const struct stream_kind pty_kind = {
	.name = "pty",
	.ended = closed,
	.hung_up = closed,
	.destroy = pty_destroy,
};

/* Raw from the start: nobody is to get an echo of what the guest writes. */
static int open_pty(char path[64])
{
	int master = posix_openpt(O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC), slave;
	struct termios mode;

	if (master < 0)
		return -1;
	if (grantpt(master) || unlockpt(master) || ptsname_r(master, path, 64))
		goto close_master;
	slave = open(path, O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (slave < 0)
		goto close_master;
	if (tcgetattr(slave, &mode) == 0) {
		cfmakeraw(&mode);
		tcsetattr(slave, TCSANOW, &mode);
	}
	close(slave);
	return master;

close_master:
	close(master);
	return -1;
}

static int make_link(const char *link, const char *target)
{
	char now[64] = { 0 };

	if (symlink(target, link) == 0)
		return 0;
	if (errno != EEXIST || readlink(link, now, sizeof(now) - 1) < 0 ||
	    strncmp(now, "/dev/pts/", 9) != 0) {
		errno = errno == EINVAL ? EEXIST : errno;
		return -1;
	}
	return unlink(link) || symlink(target, link) ? -1 : 0;
}

struct chardev *host_chardev_pty_create(struct loop *loop, const char *link)
{
	struct pty *p = calloc(1, sizeof(*p));
	int fd, err;

	if (!p)
		return NULL;
	stream_init(&p->stream, &pty_kind, loop);
	p->opens = (struct loop_watch){ .fd = -1, .ready = opened };
	fd = open_pty(p->path);
	if (fd < 0)
		goto destroy;
	err = stream_attach(&p->stream, fd, fd);
	if (err) {
		close(fd);
		errno = -err;
		goto destroy;
	}
	p->opens.fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
	if (p->opens.fd < 0 || inotify_add_watch(p->opens.fd, p->path, IN_OPEN) < 0)
		goto destroy;
	err = loop_add(loop, &p->opens, EPOLLIN);
	if (err) {
		errno = -err;
		goto destroy;
	}
	if (link) {
		if (make_link(link, p->path) < 0)
			goto destroy;
		p->link = strdup(link);
	}
	p->stream.chardev.name = p->path;
	return &p->stream.chardev;

destroy:
	err = errno;
	host_chardev_destroy(&p->stream.chardev);
	errno = err;
	return NULL;
}

const char *host_chardev_pty_path(const struct chardev *c)
{
	return container_of(c, const struct pty, stream.chardev)->path;
}
