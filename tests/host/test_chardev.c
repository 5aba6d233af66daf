/* SPDX-License-Identifier: BSD-3-Clause */
/* Chardevs against real terminals, sockets, pipes and files, with a device that takes as told. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/log.h"
#include "host/chardev.h"

static struct loop *loop;
static char dir[64], path[96];

/* The device's ears. */
static struct ear {
	struct chardev *c;
	u8 got[1 << 20];
	size_t n_got, takes;
	unsigned int n_writable, n_open, n_closed, n_resized, n_left;
	const u8 *pending; /* output that goes on when it can */
	size_t n_pending;
	bool inside; /* an operation: nothing may call us from there */
} ear;

static size_t on_input(void *owner, const void *bytes, size_t n)
{
	size_t now = min_u64(n, ear.takes);

	assert_false(ear.inside);
	assert_true(now <= sizeof(ear.got) - ear.n_got);
	memcpy(ear.got + ear.n_got, bytes, now);
	ear.n_got += now;
	ear.takes -= now;
	if (now < n)
		ear.c->ops->set_reading(ear.c, false);
	return now;
}

static size_t put(const void *bytes, size_t n)
{
	size_t taken;

	ear.inside = true;
	taken = ear.c->ops->write(ear.c, bytes, n);
	ear.inside = false;
	assert_true(taken <= n);
	return taken;
}

static void put_pending(void)
{
	size_t taken = put(ear.pending, ear.n_pending);

	ear.pending += taken;
	ear.n_pending -= taken;
}

static void on_writable(void *owner)
{
	assert_false(ear.inside);
	ear.n_writable++;
	if (ear.n_pending)
		put_pending();
}

static void on_open_changed(void *owner)
{
	assert_false(ear.inside);
	ear.c->open ? ear.n_open++ : ear.n_closed++;
}

static void on_resized(void *owner)
{
	assert_false(ear.inside);
	ear.n_resized++;
}

static void on_leave(void *owner)
{
	ear.n_left++;
}

static void want(size_t takes)
{
	ear.takes = takes;
	ear.inside = true;
	ear.c->ops->set_reading(ear.c, takes > 0);
	ear.inside = false;
}

static struct chardev *listen_to(struct chardev *c)
{
	if (!c)
		fail_msg("%s", strerror(errno));
	memset(&ear, 0, sizeof(ear));
	ear.c = c;
	c->input = on_input;
	c->writable = on_writable;
	c->open_changed = on_open_changed;
	c->resized = on_resized;
	return c;
}

static void forget(void)
{
	struct chardev *c = ear.c;

	c->ops->set_reading(c, false);
	c->input = NULL;
	c->writable = c->open_changed = c->resized = NULL;
	host_chardev_destroy(c);
}

/* Turns the loop until it is so. What does not come within seconds never comes. */
#define turn_until(condition)                                 \
	do {                                                  \
		for (int i_ = 0; !(condition); i_++) {        \
			if (i_ == 100000)                     \
				fail_msg("not: " #condition); \
			loop_turn(loop, 10000);               \
		}                                             \
	} while (0)

static void settle(void)
{
	for (int i = 0; i < 20; i++)
		loop_turn(loop, 0);
}

#define assert_got(text)                                          \
	do {                                                      \
		turn_until(ear.n_got >= strlen(text));            \
		assert_int_equal(ear.n_got, strlen(text));        \
		assert_memory_equal(ear.got, text, strlen(text)); \
		ear.n_got = 0;                                    \
	} while (0)

static void fired(struct clock_timer *t)
{
	t->deadline_ns = 0;
}

/* The loop has nothing to do: a timer comes after no more than a few turns. */
static void assert_idle(void)
{
	struct clock *clock = loop_clock(loop);
	struct clock_timer timer = { .fired = fired };
	int turns = 0;

	settle();
	clock->ops->start(clock, &timer, clock->ops->now_ns(clock) + 20000000);
	while (timer.deadline_ns) {
		loop_turn(loop, -1);
		turns++;
	}
	assert_true(turns <= 3);
}

static char *in_dir(const char *name)
{
	snprintf(path, sizeof(path), "%s/%s", dir, name);
	return path;
}

static void assert_file(const char *name, const char *text)
{
	char buf[256] = { 0 };
	int fd = open(name, O_RDONLY);

	assert_true(fd >= 0);
	assert_int_equal(read(fd, buf, sizeof(buf) - 1), strlen(text));
	assert_string_equal(buf, text);
	close(fd);
}

static void make_file(const char *name, const char *text)
{
	int fd = open(name, O_WRONLY | O_CREAT | O_TRUNC, 0600);

	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	close(fd);
}

static void assert_readable(int fd, const char *text)
{
	char buf[1024] = { 0 };
	size_t n = 0;

	while (n < strlen(text)) {
		struct pollfd p = { .fd = fd, .events = POLLIN };
		ssize_t got;

		assert_int_equal(poll(&p, 1, 10000), 1);
		got = read(fd, buf + n, sizeof(buf) - 1 - n);
		assert_true(got > 0);
		n += (size_t)got;
	}
	assert_string_equal(buf, text);
}

static u8 *noise(size_t n)
{
	static u8 bytes[1 << 20];

	assert_true(n <= sizeof(bytes));
	for (size_t i = 0; i < n; i++)
		bytes[i] = (u8)(i * 7 + i / 251);
	return bytes;
}

/* ---- null and files -------------------------------------------------------------------- */

static void null_takes_everything(void **state)
{
	listen_to(host_chardev_null_create(loop));
	assert_true(ear.c->open);
	want(10);
	assert_int_equal(put(noise(1 << 20), 1 << 20), 1 << 20);
	assert_idle();
	assert_int_equal(ear.n_got, 0);
	forget();
}

static void file_is_emptied_or_appended_to(void **state)
{
	const char *name = strdup(in_dir("out"));
	struct host_chardev_file options = { .out = name };

	make_file(name, "old");
	listen_to(host_chardev_file_create(loop, &options));
	assert_true(ear.c->open);
	assert_int_equal(put("new", 3), 3);
	assert_file(name, "new");
	forget();
	options.append = true;
	listen_to(host_chardev_file_create(loop, &options));
	assert_int_equal(put("er", 2), 2);
	forget();
	assert_file(name, "newer");
	options.out = in_dir("no/such");
	assert_null(host_chardev_file_create(loop, &options));
	assert_int_equal(errno, ENOENT);
	free((char *)name);
}

static void file_is_input_as_far_as_it_is_wanted(void **state)
{
	struct host_chardev_file options = { .in = in_dir("in") };

	make_file(path, "0123456789");
	listen_to(host_chardev_file_create(loop, &options));
	assert_idle(); /* nobody wants it */
	assert_int_equal(ear.n_got, 0);
	want(4);
	assert_got("0123");
	assert_idle();
	want(3);
	assert_got("456");
	want(100);
	assert_got("789");
	assert_idle(); /* the end is the end, and no busy loop */
	forget();
}

static void file_writes_no_more_a_turn_than_its_budget(void **state)
{
	struct host_chardev_file options = { .out = in_dir("big") };
	struct stat st;

	listen_to(host_chardev_file_create(loop, &options));
	ear.pending = noise(1 << 20);
	ear.n_pending = 1 << 20;
	put_pending();
	assert_int_equal(ear.n_pending, (1 << 20) - 65536);
	loop_turn(loop, -1);
	assert_int_equal(ear.n_pending, (1 << 20) - 2 * 65536);
	turn_until(ear.n_pending == 0);
	forget();
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_size, 1 << 20);
}

static unsigned int n_lines;

static void count_lines(enum log_level level, const char *object, const char *format, va_list args)
{
	n_lines++;
}

static void full_disk_loses_output_and_says_so_once(void **state)
{
	struct host_chardev_file options = { .out = "/dev/full" };

	n_lines = 0;
	log_set_hook(count_lines);
	listen_to(host_chardev_file_create(loop, &options));
	for (int i = 0; i < 100; i++)
		assert_int_equal(put("x", 1), 1);
	log_set_hook(NULL);
	assert_int_equal(n_lines, 1);
	forget();
}

static void named_pipe_waits_for_its_reader(void **state)
{
	struct host_chardev_file options = { .out = in_dir("fifo") };
	static u8 back[1 << 20];
	size_t n = 0;
	int fd;

	assert_int_equal(mkfifo(path, 0600), 0);
	listen_to(host_chardev_file_create(loop, &options)); /* does not wait for anybody */
	ear.pending = noise(300000);
	ear.n_pending = 300000;
	put_pending();
	settle();
	assert_true(ear.n_pending > 0);
	assert_int_equal(ear.n_writable <= 1, 1);
	assert_idle();
	fd = open(path, O_RDONLY | O_NONBLOCK);
	while (n < 300000) {
		ssize_t got = read(fd, back + n, 5000);

		if (got > 0)
			n += (size_t)got;
		loop_turn(loop, 0);
	}
	assert_int_equal(ear.n_pending, 0);
	assert_memory_equal(back, noise(300000), 300000);
	close(fd);
	forget();
}

static void named_pipe_is_input_from_writers_that_come_and_go(void **state)
{
	struct host_chardev_file options = { .in = in_dir("fifo_in") };

	assert_int_equal(mkfifo(path, 0600), 0);
	listen_to(host_chardev_file_create(loop, &options));
	want(100);
	for (int i = 0; i < 3; i++) {
		int fd = open(path, O_WRONLY | O_NONBLOCK);

		assert_int_equal(write(fd, "hello", 5), 5);
		close(fd);
		assert_got("hello");
	}
	assert_idle();
	forget();
}

/* ---- sockets --------------------------------------------------------------------------- */

static struct sockaddr_un address_of(const char *name)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };

	strcpy(a.sun_path, name);
	return a;
}

static int client(void)
{
	struct sockaddr_un a = address_of(path);
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	return fd;
}

static int server(const char *name)
{
	struct sockaddr_un a = address_of(name);
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	assert_int_equal(listen(fd, 1), 0);
	return fd;
}

static void socket_serves_one_client_after_the_other(void **state)
{
	int first, second;

	listen_to(host_chardev_socket_create(loop, in_dir("s1"), true));
	assert_false(ear.c->open);
	assert_int_equal(put("nobody", 6), 6); /* dropped */
	want(1000);
	first = client();
	turn_until(ear.c->open);
	second = client();
	assert_int_equal(write(second, "later", 5), 5);
	assert_int_equal(write(first, "hello", 5), 5);
	assert_got("hello");
	assert_idle(); /* the one that waits costs nothing */
	assert_int_equal(put("to you", 6), 6);
	assert_readable(first, "to you");

	close(first);
	turn_until(ear.n_open == 2);
	assert_int_equal(ear.n_closed, 1);
	assert_got("later");
	assert_int_equal(put("2", 1), 1);
	assert_readable(second, "2");
	close(second);
	turn_until(ear.n_closed == 2);
	assert_idle();
	forget();
	assert_int_equal(access(path, F_OK), -1); /* and tidied up */
}

static void socket_input_of_a_client_that_left_is_still_read(void **state)
{
	int fd;

	listen_to(host_chardev_socket_create(loop, in_dir("s2"), true));
	fd = client();
	turn_until(ear.c->open);
	assert_int_equal(write(fd, noise(20000), 20000), 20000);
	close(fd);
	assert_idle(); /* the guest does not read, and a hang-up keeps nobody busy */
	want(5000);
	turn_until(ear.n_got == 5000);
	assert_idle();
	assert_true(ear.c->open);
	want(100000);
	turn_until(!ear.c->open);
	assert_int_equal(ear.n_got, 20000);
	assert_memory_equal(ear.got, noise(20000), 20000);
	forget();
}

static void socket_client_that_left_unread_makes_way_for_the_next(void **state)
{
	int fd, next;

	listen_to(host_chardev_socket_create(loop, in_dir("s3"), true));
	fd = client();
	turn_until(ear.c->open);
	want(1);
	assert_int_equal(write(fd, noise(10000), 10000), 10000);
	turn_until(ear.n_got == 1);
	close(fd);
	settle();
	assert_true(ear.c->open);
	next = client();
	turn_until(ear.n_open == 2);
	assert_int_equal(ear.n_closed, 1);
	assert_int_equal(write(next, "new", 3), 3);
	ear.n_got = 0;
	want(100);
	assert_got("new");
	close(next);
	forget();
}

static void socket_output_waits_for_a_slow_client(void **state)
{
	static u8 back[1 << 20];
	size_t n = 0;
	int fd;

	listen_to(host_chardev_socket_create(loop, in_dir("s4"), true));
	fd = client();
	turn_until(ear.c->open);
	ear.pending = noise(1 << 20);
	ear.n_pending = 1 << 20;
	put_pending();
	settle();
	assert_true(ear.n_pending > 0);
	assert_idle();
	assert_int_equal(put("x", 1), 0); /* full means full */
	while (n < 1 << 20) {
		ssize_t got = recv(fd, back + n, 1 + n % 9000, MSG_DONTWAIT);

		if (got > 0)
			n += (size_t)got;
		loop_turn(loop, 0);
	}
	assert_int_equal(ear.n_pending, 0);
	assert_memory_equal(back, noise(1 << 20), 1 << 20);
	close(fd);
	forget();
}

static void socket_client_that_leaves_frees_output_that_waited(void **state)
{
	int fd;

	listen_to(host_chardev_socket_create(loop, in_dir("s5"), true));
	for (int reading = 0; reading < 2; reading++) {
		fd = client();
		turn_until(ear.c->open);
		want(reading ? 10 : 0);
		ear.pending = noise(1 << 20);
		ear.n_pending = 1 << 20;
		put_pending();
		settle();
		assert_true(ear.n_pending > 0);
		close(fd);
		turn_until(ear.n_pending == 0); /* into nowhere */
		turn_until(!ear.c->open); /* it left nothing that is yet to be read */
		assert_idle();
	}
	forget();
}

static void socket_left_over_is_replaced_and_a_live_one_is_not(void **state)
{
	char *name = strdup(in_dir("s6"));
	int fd = server(name);
	struct sockaddr_un a = address_of(name);

	assert_null(host_chardev_socket_create(loop, name, true));
	assert_int_equal(errno, EADDRINUSE);
	close(fd);
	listen_to(host_chardev_socket_create(loop, name, true));
	/* Somebody takes our place: what is there then is not ours to remove. */
	unlink(name);
	fd = socket(AF_UNIX, SOCK_STREAM, 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	forget();
	assert_int_equal(access(name, F_OK), 0);
	close(fd);
	unlink(name);

	make_file(name, "precious");
	assert_null(host_chardev_socket_create(loop, name, true));
	assert_int_equal(errno, EEXIST);
	assert_file(name, "precious");
	free(name);
}

static void socket_that_connects_comes_back_to_a_server_that_went(void **state)
{
	char *name = strdup(in_dir("s7"));
	int fd, peer;

	assert_null(host_chardev_socket_create(loop, name, false));
	assert_int_equal(errno, ENOENT);
	fd = server(name);
	listen_to(host_chardev_socket_create(loop, name, false));
	assert_true(ear.c->open);
	peer = accept(fd, NULL, NULL);
	want(100);
	assert_int_equal(write(peer, "hi", 2), 2);
	assert_got("hi");
	close(peer);
	close(fd);
	unlink(name);
	turn_until(!ear.c->open);
	fd = server(name);
	turn_until(ear.c->open);
	peer = accept(fd, NULL, NULL);
	assert_int_equal(put("again", 5), 5);
	assert_readable(peer, "again");
	close(peer);
	close(fd);
	forget();
	free(name);
}

static void hostile_G40_socket_without_descriptors_left_waits_without_spinning(void **state)
{
	struct rlimit before, none;
	int fd, next;

	listen_to(host_chardev_socket_create(loop, in_dir("s8"), true));
	fd = client();
	next = dup(fd); /* all above it is not to be had */
	close(next);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
	none = (struct rlimit){ (rlim_t)next, before.rlim_max };
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
	assert_idle();
	assert_false(ear.c->open);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
	turn_until(ear.c->open);
	assert_int_equal(put("late", 4), 4);
	assert_readable(fd, "late");
	close(fd);
	forget();
}

static void socket_path_too_long_is_refused(void **state)
{
	char name[200];

	memset(name, 'a', sizeof(name));
	name[199] = 0;
	assert_null(host_chardev_socket_create(loop, name, true));
	assert_int_equal(errno, ENAMETOOLONG);
}

static void descriptor_carries_both_ways_until_the_other_side_is_gone(void **state)
{
	int ends[2];

	assert_null(host_chardev_fd_create(loop, -1));
	assert_int_equal(errno, EBADF);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
	listen_to(host_chardev_fd_create(loop, ends[0]));
	assert_true(ear.c->open);
	want(1000);
	assert_int_equal(write(ends[1], "in", 2), 2);
	assert_got("in");
	assert_int_equal(put("out", 3), 3);
	assert_readable(ends[1], "out");
	ear.pending = noise(1 << 20);
	ear.n_pending = 1 << 20;
	put_pending();
	settle();
	assert_true(ear.n_pending > 0);
	assert_int_equal(write(ends[1], "last", 4), 4);
	close(ends[1]);
	turn_until(!ear.c->open);
	assert_got("last");
	turn_until(ear.n_pending == 0);
	assert_int_equal(put("x", 1), 1);
	assert_idle();
	forget();
}

/* ---- ptys ------------------------------------------------------------------------------ */

static int open_terminal(const char *name)
{
	int fd = open(name, O_RDWR | O_NOCTTY);

	assert_true(fd >= 0);
	return fd;
}

/* A container without its own /dev/pts has no ptys: what is about them is left out, said aloud. */
static void skip_without_ptys(void)
{
	int fd = posix_openpt(O_RDWR | O_NOCTTY);
	bool there = fd >= 0 && access("/dev/pts/ptmx", F_OK) == 0;

	if (fd >= 0)
		close(fd);
	if (there)
		return;
	print_message("skipped: there are no ptys here (is /dev/pts mounted?)\n");
	skip();
}

static void pty_opens_and_closes_with_its_user(void **state)
{
	const char *name;
	int fd;

	skip_without_ptys();
	listen_to(host_chardev_pty_create(loop, NULL));
	name = host_chardev_pty_path(ear.c);
	want(1000);
	assert_idle();
	assert_false(ear.c->open);
	assert_int_equal(put("nobody", 6), 6);
	for (unsigned int i = 1; i <= 3; i++) {
		want(i % 2 ? 1000 : 0); /* whether the guest reads or not */
		fd = open_terminal(name);
		turn_until(ear.c->open);
		assert_int_equal(put("hello\n", 6), 6);
		assert_readable(fd, "hello\n"); /* raw: no carriage return, nothing from before */
		want(1000);
		assert_int_equal(write(fd, "\x03you\r", 5), 5);
		assert_got("\x03you\r");
		want(i % 2 ? 1000 : 0);
		close(fd);
		turn_until(!ear.c->open);
		assert_int_equal(ear.n_open, i);
		assert_idle();
	}
	forget();
}

static void pty_written_by_a_user_that_is_gone_at_once_is_read(void **state)
{
	int fd;

	skip_without_ptys();
	listen_to(host_chardev_pty_create(loop, NULL));
	want(1000);
	assert_idle();
	fd = open_terminal(host_chardev_pty_path(ear.c));
	assert_int_equal(write(fd, "hi", 2), 2);
	close(fd);
	assert_got("hi");
	assert_idle();
	assert_false(ear.c->open);
	forget();
}

static void pty_tells_its_size_when_it_is_opened(void **state)
{
	struct winsize size = { .ws_col = 91, .ws_row = 33 };
	int fd;

	skip_without_ptys();
	listen_to(host_chardev_pty_create(loop, NULL));
	fd = open_terminal(host_chardev_pty_path(ear.c));
	assert_int_equal(ioctl(fd, TIOCSWINSZ, &size), 0);
	turn_until(ear.n_resized == 1);
	assert_int_equal(ear.c->cols, 91);
	assert_int_equal(ear.c->rows, 33);
	close(fd);
	turn_until(!ear.c->open);
	forget();
}

static void pty_link_is_made_replaced_and_removed(void **state)
{
	char *name = strdup(in_dir("link")), target[64] = { 0 };

	skip_without_ptys();
	assert_int_equal(symlink("/dev/pts/99999", name), 0); /* of a process that died */
	listen_to(host_chardev_pty_create(loop, name));
	assert_true(readlink(name, target, sizeof(target) - 1) > 0);
	assert_string_equal(target, host_chardev_pty_path(ear.c));
	forget();
	assert_int_equal(access(name, F_OK), -1);

	make_file(name, "precious");
	assert_null(host_chardev_pty_create(loop, name));
	assert_int_equal(errno, EEXIST);
	assert_file(name, "precious");
	unlink(name);
	assert_int_equal(symlink("/etc/passwd", name), 0);
	assert_null(host_chardev_pty_create(loop, name));
	assert_int_equal(errno, EEXIST);
	free(name);
}

/* ---- terminals ------------------------------------------------------------------------- */

static char tty_name[64];

/* A terminal with a user at `master`; nobody has the other end open. */
static int new_terminal(void)
{
	int master = posix_openpt(O_RDWR | O_NOCTTY);

	assert_true(master >= 0);
	assert_int_equal(grantpt(master), 0);
	assert_int_equal(unlockpt(master), 0);
	assert_int_equal(ptsname_r(master, tty_name, sizeof(tty_name)), 0);
	return master;
}

static struct termios mode_of(int fd)
{
	struct termios mode;

	memset(&mode, 0, sizeof(mode));
	assert_int_equal(tcgetattr(fd, &mode), 0);
	return mode;
}

static bool is_raw(int fd)
{
	struct termios mode = mode_of(fd);

	return !(mode.c_lflag & (ICANON | ECHO | ISIG)) && !(mode.c_oflag & OPOST);
}

static struct chardev *on_terminal(int fd)
{
	struct host_chardev_terminal options = { .in_fd = fd, .out_fd = fd, .leave = on_leave };

	return host_chardev_terminal_create(loop, &options);
}

static void terminal_is_raw_and_restored_by_destroy(void **state)
{
	int master = new_terminal(), fd = open_terminal(tty_name);
	struct termios before = mode_of(fd), after;

	skip_without_ptys();
	assert_false(is_raw(fd));
	listen_to(on_terminal(fd));
	assert_true(is_raw(fd));
	assert_int_equal(fcntl(fd, F_GETFL) & O_NONBLOCK, 0); /* it is the shell's, too */
	assert_null(on_terminal(fd));
	assert_int_equal(errno, EBUSY);
	assert_true(is_raw(fd)); /* a second one that failed restores nothing */
	want(100);
	assert_int_equal(write(master, "\x03hi\r", 4), 4);
	assert_got("\x03hi\r");
	assert_int_equal(put("ho\n", 3), 3);
	assert_readable(master, "ho\n");
	forget();
	after = mode_of(fd);
	assert_memory_equal(&before, &after, sizeof(before));
	close(fd);
	close(master);
}

enum death { EXIT, TERMINATED, KILLED, CRASHED };

static void terminal_is_restored_however_the_process_ends(void **state)
{
	skip_without_ptys();
	for (enum death how = EXIT; how <= CRASHED; how++) {
		int master = new_terminal(), ready[2], status;
		struct pollfd p = { .fd = master };
		struct termios before, after;
		char c;
		pid_t pid;

		before = mode_of(master);
		assert_int_equal(pipe(ready), 0);
		pid = fork();
		if (pid == 0) {
			static struct loop *parents; /* no leak, for those who count */
			int fd = open(tty_name, O_RDWR | O_NOCTTY);

			parents = loop;
			close(master);
			signal(SIGSEGV, SIG_DFL);
			loop = loop_create();
			if (!parents || !on_terminal(fd))
				_exit(99);
			if (write(ready[1], "", 1) != 1)
				_exit(98);
			if (how == EXIT)
				exit(0);
			if (how == CRASHED)
				raise(SIGSEGV);
			for (;;)
				pause();
		}
		close(ready[1]);
		assert_int_equal(read(ready[0], &c, 1), 1);
		if (how == TERMINATED || how == KILLED) {
			assert_true(is_raw(master));
			kill(pid, how == KILLED ? SIGKILL : SIGTERM);
		}
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_int_equal(WIFEXITED(status) ? WEXITSTATUS(status) : 0, 0);
		/* The last who had the terminal open is gone: nobody is left to restore it. */
		do
			assert_int_equal(poll(&p, 1, 10000), 1);
		while (!(p.revents & POLLHUP));
		after = mode_of(master);
		assert_memory_equal(&before, &after, sizeof(before));
		close(ready[0]);
		close(master);
	}
}

static void terminal_escapes_are_ours_and_all_else_is_the_guests(void **state)
{
	static const struct {
		const char *typed, *guest, *shown;
		unsigned int n_left;
	} rows[] = {
		{ "plain", "plain", "", 0 },
		{ "a\x01\x01z", "a\x01z", "", 0 },
		{ "a\x01qz", "a\x01qz", "", 0 },
		{ "a\x01xrest", "a", "", 1 },
		{ "\x01h.", ".", "Ctrl-A x", 0 },
		{ "\x01?.", ".", "Ctrl-A x", 0 },
		{ "\x01\x01\x01\x01x", "\x01\x01x", "", 0 },
		{ "x", "x", "", 0 },
	};
	int master = new_terminal(), fd = open_terminal(tty_name);

	skip_without_ptys();
	for (int one_by_one = 0; one_by_one < 2; one_by_one++) {
		for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
			size_t n = strlen(rows[i].typed);
			char shown[256] = { 0 };

			listen_to(on_terminal(fd));
			want(100);
			if (one_by_one) {
				for (size_t at = 0; at < n && !ear.n_left; at++) {
					assert_int_equal(write(master, rows[i].typed + at, 1), 1);
					settle();
				}
			} else {
				assert_int_equal(write(master, rows[i].typed, n), n);
			}
			turn_until(ear.n_left == rows[i].n_left);
			assert_got(rows[i].guest);
			if (rows[i].shown[0]) {
				assert_true(read(master, shown, sizeof(shown) - 1) > 0);
				assert_non_null(strstr(shown, rows[i].shown));
			}
			forget();
			tcflush(fd, TCIOFLUSH);
		}
	}
	close(fd);
	close(master);
}

static void terminal_can_be_left_when_the_guest_reads_nothing(void **state)
{
	int master = new_terminal(), fd = open_terminal(tty_name);

	skip_without_ptys();
	listen_to(on_terminal(fd));
	for (int i = 0; i < 20; i++) { /* more than is kept */
		assert_int_equal(write(master, noise(1000) + 200, 500), 500);
		settle();
	}
	ear.n_left = 0; /* noise has everything in it */
	assert_int_equal(write(master, "..\x01x", 4), 4);
	turn_until(ear.n_left == 1);
	want(100000);
	turn_until(ear.n_got > 0);
	settle();
	assert_true(ear.n_got <= 4096);
	forget();
	close(fd);
	close(master);
}

static void terminal_size_follows_sigwinch(void **state)
{
	int master = new_terminal(), fd = open_terminal(tty_name);
	struct winsize size = { .ws_col = 80, .ws_row = 24 };

	skip_without_ptys();
	assert_int_equal(ioctl(fd, TIOCSWINSZ, &size), 0);
	listen_to(on_terminal(fd));
	assert_int_equal(ear.c->cols, 80);
	assert_int_equal(ear.c->rows, 24);
	size.ws_col = 132;
	assert_int_equal(ioctl(fd, TIOCSWINSZ, &size), 0);
	raise(SIGWINCH); /* this terminal is not the test's own */
	turn_until(ear.n_resized == 1);
	assert_int_equal(ear.c->cols, 132);
	raise(SIGWINCH);
	settle();
	assert_int_equal(ear.n_resized, 1); /* no change, no news */
	forget();
	close(fd);
	close(master);
}

static void pipes_in_place_of_a_terminal_have_no_escapes(void **state)
{
	int in[2], out[2];
	struct host_chardev_terminal options = { .leave = on_leave };

	assert_int_equal(pipe(in), 0);
	assert_int_equal(pipe(out), 0);
	options.in_fd = in[0];
	options.out_fd = out[1];
	listen_to(host_chardev_terminal_create(loop, &options));
	assert_true(ear.c->open);
	assert_int_equal(write(in[1], noise(10000), 10000), 10000);
	settle(); /* nothing is read ahead, so nothing can be dropped */
	want(20000);
	turn_until(ear.n_got == 10000);
	assert_memory_equal(ear.got, noise(10000), 10000);
	close(in[1]);
	assert_idle(); /* the end of input is not the end of output */
	assert_int_equal(put("still", 5), 5);
	assert_readable(out[0], "still");
	close(out[0]);
	close(out[1]);
	forget();
	close(in[0]);
}

static void pipe_whose_reader_is_gone_takes_and_drops(void **state)
{
	int out[2];
	struct host_chardev_terminal options = { .leave = on_leave };

	assert_int_equal(pipe(out), 0);
	options.in_fd = open("/dev/null", O_RDONLY);
	options.out_fd = out[1];
	listen_to(host_chardev_terminal_create(loop, &options));
	want(10);
	assert_idle();
	close(out[0]);
	assert_int_equal(put("x", 1), 1);
	close(options.in_fd);
	close(out[1]);
	forget();
}

static int set_up(void **state)
{
	loop = loop_create();
	strcpy(dir, "/tmp/viaduct-chardev-XXXXXX");
	return loop && mkdtemp(dir) ? 0 : -1;
}

static int tear_down(void **state)
{
	char command[128];

	snprintf(command, sizeof(command), "rm -r %s", dir);
	loop_destroy(loop);
	return system(command);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(null_takes_everything),
		TEST(file_is_emptied_or_appended_to),
		TEST(file_is_input_as_far_as_it_is_wanted),
		TEST(file_writes_no_more_a_turn_than_its_budget),
		TEST(full_disk_loses_output_and_says_so_once),
		TEST(named_pipe_waits_for_its_reader),
		TEST(named_pipe_is_input_from_writers_that_come_and_go),
		TEST(socket_serves_one_client_after_the_other),
		TEST(socket_input_of_a_client_that_left_is_still_read),
		TEST(socket_client_that_left_unread_makes_way_for_the_next),
		TEST(socket_output_waits_for_a_slow_client),
		TEST(socket_client_that_leaves_frees_output_that_waited),
		TEST(socket_left_over_is_replaced_and_a_live_one_is_not),
		TEST(socket_that_connects_comes_back_to_a_server_that_went),
		TEST(hostile_G40_socket_without_descriptors_left_waits_without_spinning),
		TEST(socket_path_too_long_is_refused),
		TEST(descriptor_carries_both_ways_until_the_other_side_is_gone),
		TEST(pty_opens_and_closes_with_its_user),
		TEST(pty_written_by_a_user_that_is_gone_at_once_is_read),
		TEST(pty_tells_its_size_when_it_is_opened),
		TEST(pty_link_is_made_replaced_and_removed),
		TEST(terminal_is_raw_and_restored_by_destroy),
		TEST(terminal_is_restored_however_the_process_ends),
		TEST(terminal_escapes_are_ours_and_all_else_is_the_guests),
		TEST(terminal_can_be_left_when_the_guest_reads_nothing),
		TEST(terminal_size_follows_sigwinch),
		TEST(pipes_in_place_of_a_terminal_have_no_escapes),
		TEST(pipe_whose_reader_is_gone_takes_and_drops),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
