/* SPDX-License-Identifier: BSD-3-Clause */
/* Bytes between a device and two descriptors. update() turns the state into what is watched. */
#include "host/chardev_stream.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "host/chardev.h"

#define BUDGET_BYTES 65536 /* written in a turn of the loop */

static struct stream *stream_of(struct chardev *c)
{
	return container_of(c, struct stream, chardev);
}

static bool wants_input(const struct stream *s)
{
	if (s->in.fd < 0 || s->in_ended)
		return false;
	return s->kind->reads_always || (s->reading && s->from == s->to);
}

static void watch(struct stream *s, struct loop_watch *w, u32 events)
{
	/* What could fail was tried by stream_attach; only memory in the kernel is left. */
	if (loop_change(s->loop, w, events) < 0)
		log_line(LOG_ERROR, s->chardev.name, "the event loop does not watch it any more");
}

static void update(struct stream *s)
{
	u32 in = wants_input(s) ? EPOLLIN : 0;
	u32 out = s->waiting ? EPOLLOUT : 0;

	if (s->in.fd >= 0 && s->in.fd == s->out.fd)
		in |= out;
	else if (s->out.fd >= 0)
		watch(s, &s->out, out);
	if (s->in.fd >= 0 && !s->in_unwatchable)
		watch(s, &s->in, !in && s->hang_ups ? EPOLLRDHUP : in);

	if ((s->blocked && !s->waiting) || (s->reading && s->from < s->to) ||
	    (s->in_unwatchable && wants_input(s)))
		loop_defer(s->loop, &s->task);
}

/* ---- output ---------------------------------------------------------------------------- */

static ssize_t write_some(struct stream *s, const void *bytes, size_t n)
{
	return s->out_is_socket ? send(s->out.fd, bytes, n, MSG_DONTWAIT | MSG_NOSIGNAL)
				: write(s->out.fd, bytes, n);
}

/* Output cannot be answered with an error. If nobody reads it any more, that is no news. */
static void lose(struct stream *s, int err)
{
	bool gone = err == EPIPE || err == ECONNRESET || (err == EIO && isatty(s->out.fd));

	if (!gone && !s->complained) {
		s->complained = true;
		log_line(LOG_WARN, s->chardev.name, "output is lost: %s", strerror(err));
	}
}

static size_t stream_write(struct chardev *c, const void *bytes, size_t n)
{
	struct stream *s = stream_of(c);
	size_t done = 0;

	if (s->out.fd < 0 || !c->open)
		return n;
	while (!s->blocked && done < n) {
		size_t now = min_u64(n - done, BUDGET_BYTES - s->n_written);
		ssize_t put = now ? write_some(s, (const u8 *)bytes + done, now) : 0;

		if (put > 0) {
			done += (size_t)put;
			s->n_written += (u32)put;
		} else if (put == 0) {
			s->blocked = true; /* its share of this turn is used up */
		} else if (errno == EAGAIN) {
			s->blocked = s->waiting = true;
		} else if (errno != EINTR) {
			lose(s, errno);
			return n;
		}
	}
	update(s);
	return done;
}

static void unblock(struct stream *s)
{
	s->n_written = 0;
	s->waiting = false;
	if (!s->blocked)
		return;
	s->blocked = false;
	if (s->chardev.writable)
		s->chardev.writable(s->chardev.owner);
}

/* ---- input ----------------------------------------------------------------------------- */

static void stream_set_reading(struct chardev *c, bool on)
{
	struct stream *s = stream_of(c);

	s->reading = on;
	update(s);
}

static void offer(struct stream *s)
{
	if (s->from < s->to && s->reading && s->chardev.input)
		s->from += s->chardev.input(s->chardev.owner, s->left + s->from, s->to - s->from);
}

static void read_some(struct stream *s)
{
	u8 bytes[STREAM_BUFFER_BYTES];
	ssize_t got = s->in_is_socket ? recv(s->in.fd, bytes, sizeof(bytes) - 1, MSG_DONTWAIT)
				      : read(s->in.fd, bytes, sizeof(bytes) - 1);
	size_t n;

	if (got < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (got <= 0) {
		s->in_ended = true;
		if (s->kind->ended)
			s->kind->ended(s);
		return;
	}
	n = s->kind->filter ? s->kind->filter(s, bytes, (size_t)got) : (size_t)got;
	if (s->from == s->to)
		s->from = s->to = 0;
	n = min_u64(n, sizeof(s->left) - s->to); /* only who reads always may drop anything */
	memcpy(s->left + s->to, bytes, n);
	s->to += (u32)n;
	offer(s);
}

/* ---- the loop's calls ------------------------------------------------------------------ */

static void in_ready(struct loop_watch *w, u32 events)
{
	struct stream *s = container_of(w, struct stream, in);

	if ((events & (EPOLLOUT | EPOLLERR | EPOLLHUP)) && s->waiting)
		unblock(s);
	if (wants_input(s)) {
		if (events & ~(u32)EPOLLOUT)
			read_some(s);
	} else if ((events & (EPOLLRDHUP | EPOLLERR | EPOLLHUP)) && s->hang_ups) {
		s->hang_ups = false;
		if (s->kind->hung_up)
			s->kind->hung_up(s);
	}
	update(s);
}

static void out_ready(struct loop_watch *w, u32 events)
{
	struct stream *s = container_of(w, struct stream, out);

	unblock(s);
	update(s);
}

static void run_task(struct loop_task *t)
{
	struct stream *s = container_of(t, struct stream, task);

	if (s->waiting)
		s->n_written = 0;
	else
		unblock(s);
	offer(s);
	if (s->in_unwatchable && wants_input(s))
		read_some(s);
	update(s);
}

/* ---- for the kinds --------------------------------------------------------------------- */

static const struct chardev_ops stream_ops = { stream_write, stream_set_reading };

void stream_init(struct stream *s, const struct stream_kind *kind, struct loop *loop)
{
	*s = (struct stream){
		.chardev = { .ops = &stream_ops, .name = kind->name },
		.kind = kind,
		.loop = loop,
		.in = { .fd = -1, .ready = in_ready },
		.out = { .fd = -1, .ready = out_ready },
		.task.run = run_task,
	};
}

/* Can it be watched at all? Regular files cannot, and need not. */
static int try_watch(struct stream *s, struct loop_watch *w, bool *unwatchable)
{
	int err = loop_add(s->loop, w, EPOLLIN);

	*unwatchable = err == -EPERM;
	if (err == -EPERM)
		return 0;
	return err ? err : loop_change(s->loop, w, 0);
}

static bool is_socket(int fd)
{
	struct stat st;

	return fd >= 0 && fstat(fd, &st) == 0 && S_ISSOCK(st.st_mode);
}

int stream_attach(struct stream *s, int in_fd, int out_fd)
{
	bool out_unwatchable;
	int err = 0;

	s->in.fd = in_fd;
	s->out.fd = out_fd;
	s->in_is_socket = is_socket(in_fd);
	s->out_is_socket = is_socket(out_fd);
	s->in_unwatchable = s->in_ended = s->waiting = false;
	s->hang_ups = s->kind->hung_up;
	if (in_fd >= 0)
		err = try_watch(s, &s->in, &s->in_unwatchable);
	if (!err && out_fd >= 0 && out_fd != in_fd)
		err = try_watch(s, &s->out, &out_unwatchable);
	if (err) {
		loop_remove(s->loop, &s->in);
		s->in.fd = s->out.fd = -1;
		return err;
	}
	update(s);
	return 0;
}

void stream_detach(struct stream *s)
{
	loop_remove(s->loop, &s->in);
	loop_remove(s->loop, &s->out);
	loop_cancel(s->loop, &s->task);
	if (s->out.fd >= 0 && s->out.fd != s->in.fd)
		close(s->out.fd);
	if (s->in.fd >= 0)
		close(s->in.fd);
	s->in.fd = s->out.fd = -1;
	s->waiting = false;
	update(s);
}

void stream_set_open(struct stream *s, bool open)
{
	if (s->chardev.open == open)
		return;
	s->chardev.open = open;
	if (!open)
		s->waiting = false; /* the task lets the device write into nowhere */
	if (s->chardev.open_changed)
		s->chardev.open_changed(s->chardev.owner);
	update(s);
}

void stream_set_size(struct stream *s, u16 cols, u16 rows)
{
	if (s->chardev.cols == cols && s->chardev.rows == rows)
		return;
	s->chardev.cols = cols;
	s->chardev.rows = rows;
	if (s->chardev.resized)
		s->chardev.resized(s->chardev.owner);
}

void stream_revive(struct stream *s)
{
	s->in_ended = false;
	s->hang_ups = s->kind->hung_up;
	update(s);
}

void host_chardev_destroy(struct chardev *c)
{
	if (!c)
		return;
	stream_detach(stream_of(c));
	loop_cancel(stream_of(c)->loop, &stream_of(c)->task);
	stream_of(c)->kind->destroy(stream_of(c));
}
