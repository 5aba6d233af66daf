/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The vhost-user server on real sockets, eventfds and memfds, with front ends in the same
 * thread: they send, let the server's loop turn until what they wait for is there, and look.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "host/unix_socket.h"
#include "tests/support/echo.h"
#include "tests/support/front.h"
#include "vmm/vhost_user_server.h"

#define N_QUEUES 2
#define PROTOCOL                                                                            \
	(1ull << VHOST_USER_PROTOCOL_F_REPLY_ACK | 1ull << VHOST_USER_PROTOCOL_F_CONFIG |   \
	 1ull << VHOST_USER_PROTOCOL_F_BACKEND_REQ | 1ull << VHOST_USER_PROTOCOL_F_STATUS | \
	 1ull << VHOST_USER_PROTOCOL_F_CONFIGURE_MEM_SLOTS)

/* A device on a socket. */
struct served {
	struct echo echo;
	struct vhost_user_server *server;
	char path[64];
};

/* A front end with all it takes. */
struct peer {
	struct front front;
	int socket, memfd, kick_fd[N_QUEUES], call_fd[N_QUEUES];
};

static struct loop *loop;
static struct served a, b;
static char directory[32];

static void serve(struct served *s, const char *name)
{
	char why[256];
	int fd;

	echo_init(&s->echo, N_QUEUES);
	snprintf(s->path, sizeof(s->path), "%s/%s", directory, name);
	fd = unix_listen(s->path, why, sizeof(why));
	assert_true(fd >= 0);
	s->server = vhost_user_server_create(loop, &s->echo.vdev, fd);
	assert_non_null(s->server);
}

static int setup(void **state)
{
	strcpy(directory, "/tmp/viaduct-XXXXXX");
	assert_non_null(mkdtemp(directory));
	loop = loop_create();
	assert_non_null(loop);
	serve(&a, "a");
	serve(&b, "b");
	return 0;
}

static int teardown(void **state)
{
	vhost_user_server_destroy(a.server);
	vhost_user_server_destroy(b.server);
	unlink(a.path);
	unlink(b.path);
	rmdir(directory);
	loop_destroy(loop);
	return 0;
}

static unsigned int count_fds(void)
{
	unsigned int n = 0;

	for (int fd = 0; fd < 1024; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

/* Turns the loop until `fd` is readable; the test's time limit is the only other way out. */
static void wait_readable(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	while (poll(&p, 1, 0) == 0)
		loop_turn(loop, 0);
}

static void wait_connected(struct served *s, bool connected)
{
	while (vhost_user_server_connected(s->server) != connected)
		loop_turn(loop, 100);
}

static int send_bytes(int fd, const void *bytes, u32 n_bytes, const int *fds, u32 n_fds)
{
	struct iovec v = { (void *)(uintptr_t)bytes, n_bytes };
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(64 * sizeof(int))];
	} control = { .bytes = { 0 } };
	struct msghdr m = { .msg_iov = &v, .msg_iovlen = 1 };

	if (n_fds) {
		m.msg_control = &control;
		m.msg_controllen = CMSG_SPACE(n_fds * sizeof(int));
		CMSG_FIRSTHDR(&m)->cmsg_level = SOL_SOCKET;
		CMSG_FIRSTHDR(&m)->cmsg_type = SCM_RIGHTS;
		CMSG_FIRSTHDR(&m)->cmsg_len = CMSG_LEN(n_fds * sizeof(int));
		memcpy(CMSG_DATA(CMSG_FIRSTHDR(&m)), fds, n_fds * sizeof(int));
	}
	return sendmsg(fd, &m, MSG_NOSIGNAL | MSG_DONTWAIT) == n_bytes ? 0 : -errno;
}

static int send_on_socket(struct front *f, const struct vhost_user_header *h, const void *payload,
			  const int *fds, u32 n_fds)
{
	struct peer *p = container_of(f, struct peer, front);
	u8 bytes[12 + 512];

	memcpy(bytes, h, 12);
	if (h->n_bytes)
		memcpy(bytes + 12, payload, h->n_bytes);
	return send_bytes(p->socket, bytes, 12 + h->n_bytes, fds, n_fds);
}

static void kick_eventfd(struct front *f, u16 queue)
{
	struct peer *p = container_of(f, struct peer, front);

	assert_int_equal(eventfd_write(p->kick_fd[queue], 1), 0);
}

static int connect_to(const char *path)
{
	struct sockaddr_un to = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	strcpy(to.sun_path, path);
	assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof(to)), 0);
	return fd;
}

static void peer_open(struct peer *p, const char *path)
{
	memset(p, 0, sizeof(*p));
	p->front.send = send_on_socket;
	p->front.kick = kick_eventfd;
	p->socket = connect_to(path);
	p->memfd = memfd_create("ram", MFD_CLOEXEC);
	assert_int_equal(ftruncate(p->memfd, FRONT_RAM_BYTES), 0);
	p->front.ram = mmap(NULL, FRONT_RAM_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, p->memfd, 0);
	assert_true(p->front.ram != MAP_FAILED);
	for (u16 q = 0; q < N_QUEUES; q++) {
		p->kick_fd[q] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		p->call_fd[q] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	}
}

static void peer_close(struct peer *p)
{
	munmap(p->front.ram, FRONT_RAM_BYTES);
	close(p->socket);
	close(p->memfd);
	for (u16 q = 0; q < N_QUEUES; q++) {
		close(p->kick_fd[q]);
		close(p->call_fd[q]);
	}
}

static u64 peer_ask(struct peer *p, u32 request)
{
	u8 answer[20];
	u64 number;

	assert_int_equal(front_message(&p->front, request, NULL, 0, NULL, 0), 0);
	wait_readable(p->socket);
	assert_int_equal(recv(p->socket, answer, sizeof(answer), 0), 20);
	assert_int_equal(answer[0], request);
	memcpy(&number, answer + 12, 8);
	return number;
}

static void peer_negotiate(struct peer *p)
{
	u64 offered = peer_ask(p, VHOST_USER_GET_FEATURES);

	assert_int_equal(offered & front_features(&p->front), front_features(&p->front));
	assert_int_equal(peer_ask(p, VHOST_USER_GET_PROTOCOL_FEATURES) & PROTOCOL, PROTOCOL);
	front_number(&p->front, VHOST_USER_SET_PROTOCOL_FEATURES, PROTOCOL);
	front_number(&p->front, VHOST_USER_SET_FEATURES, front_features(&p->front));
}

static void peer_ring(struct peer *p, u16 queue)
{
	assert_int_equal(front_ring(&p->front, queue), 0);
	front_ring_fd(&p->front, VHOST_USER_SET_VRING_CALL, queue, p->call_fd[queue]);
	front_ring_fd(&p->front, VHOST_USER_SET_VRING_KICK, queue, p->kick_fd[queue]);
	assert_int_equal(front_state(&p->front, VHOST_USER_SET_VRING_ENABLE, queue, 1), 0);
}

/* Everything up to working rings; the last question makes sure that all was handled. */
static void peer_start(struct peer *p)
{
	peer_negotiate(p);
	assert_int_equal(front_memory(&p->front, p->memfd), 0);
	for (u16 q = 0; q < N_QUEUES; q++)
		peer_ring(p, q);
	assert_int_equal(front_number(&p->front, VHOST_USER_SET_STATUS, 15), 0);
	assert_int_equal(peer_ask(p, VHOST_USER_GET_STATUS), 15);
}

/* Reaps one buffer, after the interrupt if the device sends one. */
static void *peer_reap(struct peer *p, u16 queue, u32 *n_written)
{
	void *token;

	while (!(token = virtqueue_get_buf(&p->front.vq[queue], n_written))) {
		eventfd_t count;

		assert_false(virtqueue_is_broken(&p->front.vq[queue]));
		wait_readable(p->call_fd[queue]);
		assert_int_equal(eventfd_read(p->call_fd[queue], &count), 0);
	}
	return token;
}

static void peer_round_trips(struct peer *p, u32 n)
{
	u32 used = p->front.used_bytes, n_written;

	for (u32 i = 0; i < n; i++) {
		u16 queue = i % N_QUEUES;
		u8 *out, *in;

		p->front.used_bytes = used;
		out = front_alloc(&p->front, 1000);
		in = front_alloc(&p->front, 1000);
		memset(out, i + 1, 1000);
		front_submit(&p->front, queue, out, 1000, in, 1000);
		assert_ptr_equal(peer_reap(p, queue, &n_written), in);
		assert_int_equal(n_written, 1000);
		assert_memory_equal(in, out, 1000);
	}
	p->front.used_bytes = used;
}

/* A front end that did nothing wrong is served by `s`. */
static void assert_serves(struct served *s)
{
	struct peer p;

	wait_connected(s, false);
	peer_open(&p, s->path);
	peer_start(&p);
	peer_round_trips(&p, 10);
	peer_close(&p);
	wait_connected(s, false);
}

/* The server hung up. */
static void assert_closed(struct peer *p, struct served *s)
{
	u8 byte;
	ssize_t n;

	wait_connected(s, false);
	do
		n = recv(p->socket, &byte, 1, MSG_DONTWAIT);
	while (n > 0);
	assert_true(n == 0 || errno == ECONNRESET);
}

/* ---- service ----------------------------------------------------------------------------- */

static void traffic_flows_in_both_formats(void **state)
{
	for (u32 i = 0; i < 4; i++) {
		struct peer p;

		peer_open(&p, a.path);
		p.front.packed = i & 1;
		p.front.event_idx = i & 2;
		peer_start(&p);
		peer_round_trips(&p, 2000);
		peer_close(&p);
		wait_connected(&a, false);
	}
	assert_int_equal(a.echo.n_answered, 4 * 2000);
}

/* A request held by the device is completed later, and interrupts. */
static void late_completion_interrupts(void **state)
{
	struct peer p;
	u8 *in;
	u32 n_written;

	peer_open(&p, a.path);
	peer_start(&p);
	a.echo.hold = true;
	in = front_alloc(&p.front, 64);
	front_submit(&p.front, 1, front_alloc(&p.front, 64), 64, in, 64);
	while (!a.echo.holding[1])
		loop_turn(loop, 100);
	assert_null(virtqueue_get_buf(&p.front.vq[1], &n_written));
	echo_release(&a.echo);
	wait_readable(p.call_fd[1]);
	assert_ptr_equal(virtqueue_get_buf(&p.front.vq[1], &n_written), in);
	peer_close(&p);
}

static void hostile_V17_front_ends_come_and_go_for_ever(void **state)
{
	unsigned int n_fds = count_fds();

	for (u32 i = 0; i < 10000; i++) {
		struct peer p;

		peer_open(&p, a.path);
		/* At every state: not a word, negotiated, started, with requests under way. */
		p.front.packed = i & 4;
		a.echo.hold = i & 8;
		if (i % 4 == 1)
			peer_negotiate(&p);
		if (i % 4 >= 2)
			peer_start(&p);
		if (i % 4 == 3)
			front_submit(&p.front, 0, front_alloc(&p.front, 8), 8,
				     front_alloc(&p.front, 8), 8);
		if (i % 3 == 0)
			loop_turn(loop, 0);
		peer_close(&p);
		if (i % 4 == 0) /* it may not have been noticed yet */
			loop_turn(loop, 0);
		else
			wait_connected(&a, false);
	}
	a.echo.hold = false;
	assert_serves(&a);
	assert_int_equal(count_fds(), n_fds);
}

static void hostile_V18_second_front_end_waits_for_the_first_to_go(void **state)
{
	struct peer first, second;
	u8 answer[20];

	peer_open(&first, a.path);
	peer_start(&first);
	peer_open(&second, a.path);
	assert_int_equal(front_message(&second.front, VHOST_USER_GET_FEATURES, NULL, 0, NULL, 0),
			 0);
	peer_round_trips(&first, 100);
	assert_int_equal(recv(second.socket, answer, 20, MSG_DONTWAIT), -1);
	assert_int_equal(errno, EAGAIN);
	peer_close(&first);
	wait_readable(second.socket);
	assert_int_equal(recv(second.socket, answer, 20, MSG_DONTWAIT), 20);
	peer_start(&second);
	peer_round_trips(&second, 10);
	peer_close(&second);
}

/* ---- hostile front ends ------------------------------------------------------------------- */

static void hostile_V01_messages_byte_by_byte(void **state)
{
	struct peer p;
	struct vhost_user_header h = { VHOST_USER_SET_MEM_TABLE, FRONT_NEED_REPLY, 8 + 32 };
	struct vhost_user_mem_table t = { .n_regions = 1, .regions[0] = front_region() };
	u8 bytes[12 + 8 + 32];
	u8 answer[20];

	peer_open(&p, a.path);
	peer_negotiate(&p);
	memcpy(bytes, &h, 12);
	memcpy(bytes + 12, &t, 8 + 32);
	for (u32 i = 0; i < sizeof(bytes); i++) {
		assert_int_equal(send_bytes(p.socket, bytes + i, 1, &p.memfd, i == 0), 0);
		loop_turn(loop, 0);
	}
	wait_readable(p.socket);
	assert_int_equal(recv(p.socket, answer, 20, 0), 20);
	for (u16 q = 0; q < N_QUEUES; q++)
		peer_ring(&p, q);
	assert_int_equal(front_number(&p.front, VHOST_USER_SET_STATUS, 15), 0);
	assert_int_equal(peer_ask(&p, VHOST_USER_GET_STATUS), 15);
	peer_round_trips(&p, 10);
	peer_close(&p);
}

static void hostile_V03_too_many_descriptors_leave_none_behind(void **state)
{
	unsigned int n_fds = count_fds();
	int fds[64];

	for (u32 i = 0; i < ARRAY_SIZE(fds); i++)
		fds[i] = 1;
	for (u32 n = 1; n <= 64; n++) {
		struct vhost_user_header h = { VHOST_USER_GET_FEATURES, 1, 0 };
		struct peer p;

		/* With a message that brings none; with each half of a header that should. */
		peer_open(&p, a.path);
		assert_int_equal(send_bytes(p.socket, &h, 12, fds, n), 0);
		wait_connected(&a, true);
		assert_closed(&p, &a);
		peer_close(&p);
		peer_open(&p, a.path);
		h.request = VHOST_USER_SET_MEM_TABLE;
		h.n_bytes = 8 + 32;
		assert_int_equal(send_bytes(p.socket, &h, 6, fds, n), 0);
		wait_connected(&a, true);
		if (n <= 8)
			assert_int_equal(send_bytes(p.socket, (u8 *)&h + 6, 6, fds, 9 - n), 0);
		assert_closed(&p, &a);
		peer_close(&p);
	}
	assert_int_equal(count_fds(), n_fds);
	assert_serves(&a);
}

/* Starts all of `p` but its rings. */
static void peer_start_without_rings(struct peer *p)
{
	peer_open(p, a.path);
	peer_negotiate(p);
	assert_int_equal(front_memory(&p->front, p->memfd), 0);
	assert_int_equal(front_number(&p->front, VHOST_USER_SET_STATUS, 15), 0);
}

static void hostile_V04_a_file_as_kick_descriptor_closes(void **state)
{
	struct peer p;

	peer_start_without_rings(&p);
	assert_int_equal(front_ring(&p.front, 0), 0);
	front_ring_fd(&p.front, VHOST_USER_SET_VRING_KICK, 0, p.memfd);
	assert_closed(&p, &a);
	peer_close(&p);
	assert_serves(&a);
}

static void hostile_V04_full_call_descriptors_do_not_stop_us(void **state)
{
	int blocking = eventfd(0, EFD_CLOEXEC), pipe_fds[2];
	struct peer p;
	eventfd_t count;

	/* An eventfd that would block, full; then a full pipe; then one without a reader. */
	assert_int_equal(eventfd_write(blocking, UINT64_MAX - 1), 0);
	assert_int_equal(pipe2(pipe_fds, O_CLOEXEC | O_NONBLOCK), 0);
	while (write(pipe_fds[1], "12345678", 8) == 8)
		;
	assert_int_equal(fcntl(pipe_fds[1], F_SETFL, 0), 0);
	peer_open(&p, a.path);
	peer_start(&p);
	for (u32 i = 0; i < 3; i++) {
		u8 *in = front_alloc(&p.front, 64);
		u32 n_written;

		if (i == 2)
			close(pipe_fds[0]);
		front_ring_fd(&p.front, VHOST_USER_SET_VRING_CALL, 0, i ? pipe_fds[1] : blocking);
		front_submit(&p.front, 0, front_alloc(&p.front, 64), 64, in, 64);
		assert_int_equal(peer_ask(&p, VHOST_USER_GET_STATUS), 15);
		while (!virtqueue_pending(&p.front.vq[0]))
			loop_turn(loop, 100);
		assert_ptr_equal(virtqueue_get_buf(&p.front.vq[0], &n_written), in);
	}
	assert_int_equal(eventfd_read(blocking, &count), 0);
	close(blocking);
	close(pipe_fds[1]);
	peer_close(&p);
}

static void hostile_V04_semaphores_sockets_and_hung_up_pipes_as_kick(void **state)
{
	int semaphore = eventfd(0, EFD_CLOEXEC | EFD_SEMAPHORE), pair[2], pipe_fds[2];
	struct peer p;

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	assert_int_equal(pipe2(pipe_fds, O_CLOEXEC), 0);
	peer_open(&p, a.path);
	peer_start(&p);
	for (u32 i = 0; i < 3; i++) {
		int fd = i == 0 ? semaphore : i == 1 ? pair[0] : pipe_fds[0];
		u8 *in = front_alloc(&p.front, 64);
		u32 n_written;

		front_ring_fd(&p.front, VHOST_USER_SET_VRING_KICK, 0, fd);
		assert_int_equal(peer_ask(&p, VHOST_USER_GET_STATUS), 15);
		front_submit(&p.front, 0, front_alloc(&p.front, 64), 64, in, 64);
		if (i == 0)
			assert_int_equal(eventfd_write(semaphore, 3), 0);
		if (i == 1) {
			assert_int_equal(send(pair[1], "odd", 3, 0), 3);
			close(pair[1]);
		}
		if (i == 2)
			close(pipe_fds[1]);
		while (!virtqueue_pending(&p.front.vq[0]))
			loop_turn(loop, 100);
		assert_ptr_equal(virtqueue_get_buf(&p.front.vq[0], &n_written), in);
	}
	/* What is hung up is not looked at for ever: the loop comes to rest. */
	for (u32 i = 0; i < 10; i++)
		loop_turn(loop, 0);
	struct timespec before, after;

	clock_gettime(CLOCK_MONOTONIC, &before);
	loop_turn(loop, 20);
	clock_gettime(CLOCK_MONOTONIC, &after);
	assert_true((after.tv_sec - before.tv_sec) * 1000000000ll + after.tv_nsec -
			    before.tv_nsec >=
		    19000000);
	close(semaphore);
	close(pair[0]);
	close(pipe_fds[0]);
	peer_close(&p);
}

static void hostile_V05_memory_that_is_none(void **state)
{
	int readonly, pipe_fds[2];
	char path[32];
	struct peer p;

	assert_int_equal(pipe2(pipe_fds, O_CLOEXEC), 0);
	for (u32 i = 0; i < 3; i++) {
		peer_open(&p, a.path);
		peer_negotiate(&p);
		snprintf(path, sizeof(path), "/proc/self/fd/%d", p.memfd);
		readonly = open(path, O_RDONLY | O_CLOEXEC);
		assert_true(readonly >= 0);
		if (i == 2)
			assert_int_equal(ftruncate(p.memfd, FRONT_RAM_BYTES - 1), 0);
		front_memory(&p.front, i == 0 ? readonly : i == 1 ? pipe_fds[0] : p.memfd);
		assert_closed(&p, &a);
		close(readonly);
		peer_close(&p);
	}
	close(pipe_fds[0]);
	close(pipe_fds[1]);
	assert_serves(&a);
}

/* Memory shrinks under a device that works in it: its connection ends, the neighbour's not. */
static void hostile_V06_memory_that_vanishes_ends_its_connection_only(void **state)
{
	struct peer bad, good;

	/* cmocka took SIGBUS for this test, after the setup: the servers take it again. */
	teardown(state);
	setup(state);
	peer_open(&good, b.path);
	peer_start(&good);
	for (u32 i = 0; i < 20; i++) {
		peer_open(&bad, a.path);
		bad.front.packed = i & 1;
		peer_start(&bad);
		peer_round_trips(&bad, 10);
		/* Before a kick: rings; with a request in the device's hands: its buffers. */
		if (i & 2) {
			a.echo.hold = true;
			front_submit(&bad.front, 0, front_alloc(&bad.front, 64), 64,
				     front_alloc(&bad.front, 64), 64);
			while (!a.echo.holding[0])
				loop_turn(loop, 100);
		}
		assert_int_equal(ftruncate(bad.memfd, 0), 0);
		a.echo.hold = false;
		if (i & 2)
			echo_release(&a.echo);
		else
			kick_eventfd(&bad.front, 0);
		assert_closed(&bad, &a);
		peer_close(&bad);
		peer_round_trips(&good, 10);
	}
	peer_close(&good);
	assert_serves(&a);
}

static void hostile_V16_flood_without_reading_answers(void **state)
{
	struct vhost_user_header h = { VHOST_USER_GET_FEATURES, 1, 0 };
	struct peer flood, good;
	u64 n_sent = 0, n_bytes = 0;
	u8 answers[4096];

	peer_open(&flood, a.path);
	peer_open(&good, b.path);
	peer_start(&good);
	/* Until neither takes anything any more. */
	for (u32 idle = 0; idle < 100; idle++) {
		while (send_bytes(flood.socket, &h, 12, NULL, 0) == 0) {
			n_sent++;
			idle = 0;
		}
		loop_turn(loop, 0);
	}
	print_message("%llu requests under way\n", (unsigned long long)n_sent);
	assert_true(n_sent > 100);
	peer_round_trips(&good, 100);
	/* And then it reads: each has its answer. */
	while (n_bytes < n_sent * 20) {
		ssize_t n;

		wait_readable(flood.socket);
		n = recv(flood.socket, answers, sizeof(answers), MSG_DONTWAIT);
		assert_true(n > 0);
		n_bytes += n;
	}
	assert_int_equal(n_bytes, n_sent * 20);
	peer_start(&flood);
	peer_round_trips(&flood, 10);
	peer_close(&flood);
	peer_close(&good);
}

static void hostile_V19_config_changes_to_a_front_end_that_does_not_read(void **state)
{
	struct vhost_user_header h;
	struct peer p;
	int pair[2];
	u32 n = 0;

	peer_open(&p, a.path);
	peer_start(&p);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	assert_int_equal(
		front_message(&p.front, VHOST_USER_SET_BACKEND_REQ_FD, NULL, 0, &pair[1], 1), 0);
	close(pair[1]);
	assert_int_equal(peer_ask(&p, VHOST_USER_GET_STATUS), 15);
	for (u32 i = 0; i < 200000; i++)
		vdev_config_changed(&a.echo.vdev);
	peer_round_trips(&p, 100);
	while (recv(pair[0], &h, sizeof(h), MSG_DONTWAIT) == sizeof(h)) {
		assert_int_equal(h.request, VHOST_USER_BACKEND_CONFIG_CHANGE_MSG);
		n++;
	}
	assert_in_range(n, 1, 100000); /* the socket was full */
	/* There is room again: the one that waited comes. */
	wait_readable(pair[0]);
	assert_int_equal(recv(pair[0], &h, sizeof(h), 0), sizeof(h));
	/* Full, and then gone. */
	for (u32 i = 0; i < 200000; i++)
		vdev_config_changed(&a.echo.vdev);
	close(pair[0]);
	peer_round_trips(&p, 10);
	vdev_config_changed(&a.echo.vdev);
	peer_round_trips(&p, 10);
	peer_close(&p);
}

/* V20: another thread writes into the rings while messages are handled. */
struct scribbler {
	u8 *ram;
	bool stop;
};

__attribute__((no_sanitize("thread"))) static void *scribble(void *arg)
{
	struct scribbler *s = arg;
	u64 x = 1;

	while (!__atomic_load_n(&s->stop, __ATOMIC_RELAXED)) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		__atomic_store_n(s->ram + x % 16384, (u8)(x >> 32), __ATOMIC_RELAXED);
	}
	return NULL;
}

static void hostile_V20_rings_change_while_messages_are_handled(void **state)
{
	for (u32 i = 0; i < 40; i++) {
		struct vhost_user_vring_state s;
		struct scribbler scribbler;
		pthread_t thread;
		struct peer p;

		peer_open(&p, a.path);
		p.front.packed = i & 1;
		p.front.event_idx = i & 2;
		peer_start(&p);
		scribbler = (struct scribbler){ .ram = p.front.ram };
		assert_int_equal(pthread_create(&thread, NULL, scribble, &scribbler), 0);
		for (u32 n = 0; n < 50; n++) {
			u8 answer[20];

			kick_eventfd(&p.front, n % N_QUEUES);
			assert_int_equal(front_memory(&p.front, p.memfd), 0);
			s = (struct vhost_user_vring_state){ n % N_QUEUES, 0 };
			assert_int_equal(front_message(&p.front, VHOST_USER_GET_VRING_BASE, &s,
						       sizeof(s), NULL, 0),
					 0);
			wait_readable(p.socket);
			assert_int_equal(recv(p.socket, answer, 20, 0), 20);
			assert_int_equal(front_number(&p.front, VHOST_USER_SET_STATUS, 0), 0);
			front_state(&p.front, VHOST_USER_SET_VRING_BASE, s.index,
				    p.front.packed ? 0x80008000 : 0);
			front_ring_fd(&p.front, VHOST_USER_SET_VRING_KICK, s.index,
				      p.kick_fd[s.index]);
			front_state(&p.front, VHOST_USER_SET_VRING_ENABLE, s.index, 1);
			front_number(&p.front, VHOST_USER_SET_STATUS, 15);
			peer_ask(&p, VHOST_USER_GET_STATUS);
		}
		__atomic_store_n(&scribbler.stop, true, __ATOMIC_RELAXED);
		pthread_join(thread, NULL);
		peer_close(&p);
		wait_connected(&a, false);
	}
	assert_serves(&a);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(traffic_flows_in_both_formats),
		T(late_completion_interrupts),
		T(hostile_V17_front_ends_come_and_go_for_ever),
		T(hostile_V18_second_front_end_waits_for_the_first_to_go),
		T(hostile_V01_messages_byte_by_byte),
		T(hostile_V03_too_many_descriptors_leave_none_behind),
		T(hostile_V04_a_file_as_kick_descriptor_closes),
		T(hostile_V04_full_call_descriptors_do_not_stop_us),
		T(hostile_V04_semaphores_sockets_and_hung_up_pipes_as_kick),
		T(hostile_V05_memory_that_is_none),
		T(hostile_V06_memory_that_vanishes_ends_its_connection_only),
		T(hostile_V16_flood_without_reading_answers),
		T(hostile_V19_config_changes_to_a_front_end_that_does_not_read),
		T(hostile_V20_rings_change_while_messages_are_handled),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
