/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The terminal of this process as a chardev.
 *
 * Two things are shared with whoever started us, and must come back unharmed. The terminal's
 * mode: a child, the keeper, waits on a pipe for our end, and restores it if we could not, even
 * if we were killed. The descriptors' O_NONBLOCK: it belongs to the open file, which the shell
 * has, too; so the terminal is opened a second time for us alone.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include "host/chardev.h"
#include "host/chardev_stream.h"

#define ESCAPE 0x01 /* Ctrl-A */

static const char help[] = "\r\n"
			   "Ctrl-A x       leave\r\n"
			   "Ctrl-A h       this help\r\n"
			   "Ctrl-A Ctrl-A  one Ctrl-A for the guest\r\n";

struct terminal {
	struct stream stream;
	struct host_chardev_terminal options;
	struct loop_signal winch;
	bool escaped; /* Ctrl-A came, and nothing after it */
	struct termios before;
	pid_t process; /* that made it raw */
	pid_t keeper;
	int keeper_fd; /* our end of its pipe */
};

/* The one whose mode is to be restored on exit. SIGWINCH can be caught only once, anyway. */
static struct terminal *raw_terminal;

static struct terminal *terminal_of(struct stream *s)
{
	return container_of(s, struct terminal, stream);
}

/* ---- mode ------------------------------------------------------------------------------ */

/*
 * The keeper's life. In a session of its own no terminal signals it, nor stops it for changing
 * the mode of a terminal that is not its own. It holds nothing open but its pipe and the
 * terminal. A byte says that all is restored already; the pipe's end, that we are dead.
 */
static _Noreturn void keep(int pipe_fd, int tty_fd, const struct termios *before)
{
	sigset_t all;
	char done;

	pipe_fd = fcntl(pipe_fd, F_DUPFD, 3); /* 0 may be the terminal */
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, NULL);
	setsid();
	if (dup2(tty_fd, 1) == 1 && dup2(pipe_fd, 0) == 0) {
		if (syscall(SYS_close_range, 2u, ~0u, 0) < 0)
			for (int fd = 2; fd < 1024; fd++)
				close(fd);
		if (read(0, &done, 1) == 0)
			tcsetattr(1, TCSANOW, before);
	}
	_exit(0);
}

static void restore(struct terminal *t)
{
	if (raw_terminal != t)
		return;
	raw_terminal = NULL;
	tcsetattr(t->options.in_fd, TCSADRAIN, &t->before);
	if (write(t->keeper_fd, "", 1) == 1)
		waitpid(t->keeper, NULL, 0);
	close(t->keeper_fd);
}

/* A child that was forked and exits is not the one who has the terminal. */
static void restore_at_exit(void)
{
	if (raw_terminal && raw_terminal->process == getpid())
		restore(raw_terminal);
}

static int make_raw(struct terminal *t)
{
	static bool registered;
	int fd = t->options.in_fd, ends[2];
	struct termios raw;

	if (tcgetattr(fd, &t->before) || pipe2(ends, O_CLOEXEC))
		return -errno;
	t->keeper = fork();
	if (t->keeper == 0)
		keep(ends[0], fd, &t->before);
	close(ends[0]);
	if (t->keeper < 0) {
		close(ends[1]);
		return -EAGAIN;
	}
	t->keeper_fd = ends[1];
	t->process = getpid();
	raw_terminal = t;
	if (!registered)
		registered = atexit(restore_at_exit) == 0;
	raw = t->before;
	cfmakeraw(&raw);
	return tcsetattr(fd, TCSADRAIN, &raw) ? -errno : 0;
}

/* ---- escapes --------------------------------------------------------------------------- */

/* On Ctrl-A x the rest of what was typed is dropped: it was meant for nobody. */
static size_t terminal_filter(struct stream *s, u8 *bytes, size_t n)
{
	struct terminal *t = terminal_of(s);
	u8 typed[STREAM_BUFFER_BYTES];
	size_t out = 0;

	memcpy(typed, bytes, n);
	for (size_t i = 0; i < n; i++) {
		u8 c = typed[i];

		if (!t->escaped) {
			t->escaped = c == ESCAPE;
			if (!t->escaped)
				bytes[out++] = c;
			continue;
		}
		t->escaped = false;
		switch (c) {
		case 'x':
			t->options.leave(t->options.owner);
			return out;
		case 'h':
		case '?':
			s->chardev.ops->write(&s->chardev, help, sizeof(help) - 1);
			break;
		default: /* not ours: a guest's shell has uses for Ctrl-A, too */
			if (c != ESCAPE)
				bytes[out++] = ESCAPE;
			bytes[out++] = c;
		}
	}
	return out;
}

/* ---- set-up ---------------------------------------------------------------------------- */

static void measure(struct terminal *t)
{
	struct winsize size;

	if (ioctl(t->stream.out.fd, TIOCGWINSZ, &size) == 0)
		stream_set_size(&t->stream, size.ws_col, size.ws_row);
}

static void size_changed(struct loop_signal *s)
{
	measure(container_of(s, struct terminal, winch));
}

static void terminal_destroy(struct stream *s)
{
	struct terminal *t = terminal_of(s);

	restore(t);
	loop_remove_signal(s->loop, &t->winch);
	free(t);
}

static const struct stream_kind terminal_kind = {
	.name = "terminal",
	.filter = terminal_filter,
	.reads_always = true, /* Ctrl-A x leaves a guest that hangs */
	.destroy = terminal_destroy,
};

/* Pipes and files in a terminal's place: all of the input is the guest's. */
static const struct stream_kind no_terminal_kind = {
	.name = "stdio",
	.destroy = terminal_destroy,
};

/*
 * The same thing under a descriptor of our own, which does not block. A file's offset is shared
 * on purpose; sockets need no flag; and a terminal that we may not open (after su) blocks us
 * while somebody holds it with Ctrl-S.
 */
static int open_again(int fd)
{
	struct stat st;
	char path[32];
	int again = -1;

	if (fstat(fd, &st))
		return -1;
	if (S_ISCHR(st.st_mode) || S_ISFIFO(st.st_mode)) {
		int way = fcntl(fd, F_GETFL) & O_ACCMODE;

		snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
		again = open(path, way | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	}
	return again >= 0 ? again : fcntl(fd, F_DUPFD_CLOEXEC, 3);
}

static int terminal_start(struct terminal *t)
{
	int in_fd = open_again(t->options.in_fd);
	int out_fd = in_fd >= 0 ? open_again(t->options.out_fd) : -1;
	int err = out_fd >= 0 ? stream_attach(&t->stream, in_fd, out_fd) : -errno;

	if (err) {
		if (in_fd >= 0)
			close(in_fd);
		if (out_fd >= 0)
			close(out_fd);
		return err;
	}
	t->stream.chardev.open = true;
	if (t->stream.kind != &terminal_kind)
		return 0;
	err = loop_add_signal(t->stream.loop, &t->winch);
	if (!err)
		err = make_raw(t);
	measure(t);
	return err;
}

struct chardev *host_chardev_terminal_create(struct loop *loop,
					     const struct host_chardev_terminal *options)
{
	struct terminal *t = calloc(1, sizeof(*t));
	int err;

	if (!t)
		return NULL;
	signal(SIGPIPE, SIG_IGN);
	t->options = *options;
	t->winch = (struct loop_signal){ .signo = SIGWINCH, .raised = size_changed };
	stream_init(&t->stream, isatty(options->in_fd) ? &terminal_kind : &no_terminal_kind, loop);
	err = terminal_start(t);
	if (!err)
		return &t->stream.chardev;
	host_chardev_destroy(&t->stream.chardev);
	errno = -err;
	return NULL;
}
