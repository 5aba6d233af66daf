/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The vhost-user client on real sockets, with back ends in a thread of their own that answer
 * late, in drops, out of turn, or not at all; and the memory that it shares.
 */
#include <dirent.h>
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
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "host/unix_socket.h"
#include "vmm/shared_memory.h"
#include "vmm/vhost_user_client.h"

#define TIMEOUT_MS 300
#define LONG_NS 20000000000ull /* what nothing here may take, on a busy machine either */
#define FEATURES (1ull << VIRTIO_F_VERSION_1 | 1ull << VHOST_USER_F_PROTOCOL_FEATURES)
#define PROTOCOL                                                                            \
	(1ull << VHOST_USER_PROTOCOL_F_BACKEND_REQ | 1ull << VHOST_USER_PROTOCOL_F_CONFIG | \
	 1ull << VHOST_USER_PROTOCOL_F_REPLY_ACK)
#define CONFIG_BYTE 0x5a

/* A back end of one connection after the other. */
struct peer {
	pthread_t thread;
	int listener, socket, requests; /* requests: where it asks us; -1 */
	/* Of GET_CONFIG; false: end the connection. */
	bool (*config)(struct peer *p, const struct vhost_user_header *h,
		       const struct vhost_user_config *c);
	/* Of GET_FEATURES; NULL: honest. */
	bool (*features)(struct peer *p, const struct vhost_user_header *h);
	int n_connections; /* to be served before it ends */
	u32 n_answered; /* by us, on the request channel */
};

static struct loop *loop;
static char directory[32], path[64];
static u32 n_gone, n_back, n_gave_up;

static u64 now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (u64)t.tv_sec * 1000000000 + (u64)t.tv_nsec;
}

/* ---- the other side --------------------------------------------------------------------------- */

static bool read_all(int fd, void *bytes, size_t n_bytes, int *passed)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(8 * sizeof(int))];
	} control;
	u8 *at = bytes;

	while (n_bytes > 0) {
		struct iovec v = { at, n_bytes };
		struct msghdr m = { .msg_iov = &v,
				    .msg_iovlen = 1,
				    .msg_control = control.bytes,
				    .msg_controllen = sizeof(control) };
		ssize_t n = recvmsg(fd, &m, MSG_CMSG_CLOEXEC);

		if (n <= 0)
			return false;
		for (struct cmsghdr *c = CMSG_FIRSTHDR(&m); c && passed; c = CMSG_NXTHDR(&m, c))
			memcpy(passed, CMSG_DATA(c), sizeof(int));
		at += n;
		n_bytes -= n;
	}
	return true;
}

static bool answer(struct peer *p, u32 request, const void *payload, u32 n_bytes)
{
	u8 out[sizeof(struct vhost_user_header) + sizeof(union vhost_user_payload)];
	struct vhost_user_header h = { request, VHOST_USER_VERSION | VHOST_USER_FLAG_REPLY,
				       n_bytes };

	memcpy(out, &h, sizeof(h));
	memcpy(out + sizeof(h), payload, n_bytes);
	return send(p->socket, out, sizeof(h) + n_bytes, MSG_NOSIGNAL) > 0;
}

static bool answer_number(struct peer *p, u32 request, u64 number)
{
	return answer(p, request, &number, sizeof(number));
}

static bool answer_config(struct peer *p, const struct vhost_user_header *h,
			  const struct vhost_user_config *c)
{
	struct vhost_user_config to = *c;

	memset(to.bytes, CONFIG_BYTE, sizeof(to.bytes));
	return answer(p, h->request, &to, h->n_bytes);
}

static bool peer_handle(struct peer *p)
{
	struct vhost_user_header h;
	union vhost_user_payload payload;
	int passed = -1;

	if (!read_all(p->socket, &h, sizeof(h), &passed) ||
	    !read_all(p->socket, &payload, h.n_bytes, &passed))
		return false;
	switch (h.request) {
	case VHOST_USER_GET_FEATURES:
		return p->features ? p->features(p, &h) : answer_number(p, h.request, FEATURES);
	case VHOST_USER_GET_PROTOCOL_FEATURES:
		return answer_number(p, h.request, PROTOCOL);
	case VHOST_USER_SET_BACKEND_REQ_FD:
		p->requests = passed;
		return answer_number(p, h.request, 0);
	case VHOST_USER_GET_CONFIG:
		return p->config ? p->config(p, &h, &payload.config)
				 : answer_config(p, &h, &payload.config);
	default:
		return h.flags & VHOST_USER_FLAG_NEED_REPLY ? answer_number(p, h.request, 0) : true;
	}
}

static void *peer_main(void *arg)
{
	struct peer *p = arg;

	while (p->n_connections-- > 0) {
		struct pollfd wait = { p->listener, POLLIN, 0 };

		poll(&wait, 1, -1);
		p->socket = accept4(p->listener, NULL, NULL, SOCK_CLOEXEC);
		if (p->socket < 0)
			break;
		while (peer_handle(p))
			;
		close(p->socket);
		if (p->requests >= 0)
			close(p->requests);
		p->requests = -1;
	}
	return NULL;
}

static void peer_start(struct peer *p, int n_connections)
{
	char why[256];

	p->requests = -1;
	p->n_connections = n_connections;
	p->listener = unix_listen(path, why, sizeof(why));
	assert_true(p->listener >= 0);
	assert_int_equal(pthread_create(&p->thread, NULL, peer_main, p), 0);
}

static void peer_end(struct peer *p)
{
	pthread_join(p->thread, NULL);
	close(p->listener);
	unlink(path);
}

/* ---- this side ---------------------------------------------------------------------------------- */

static void note(void *arg, enum vhost_user_client_event event)
{
	n_gone += event == VHOST_USER_CLIENT_GONE;
	n_back += event == VHOST_USER_CLIENT_BACK;
	n_gave_up += event == VHOST_USER_CLIENT_GAVE_UP;
}

static struct vhost_user_client *client(u32 give_up_ms)
{
	struct vhost_user_client_config config = {
		.path = path,
		.name = "test",
		.device_id = 0xec0,
		.memory_bytes = 1 << 20,
		.timeout_ms = TIMEOUT_MS,
		.give_up_ms = give_up_ms,
		.event = note,
	};
	char why[256] = "";
	struct vhost_user_client *c;

	n_gone = n_back = n_gave_up = 0;
	c = vhost_user_client_create(loop, &config, why, sizeof(why));
	assert_true(c || strstr(why, path)); /* whatever went wrong, it is said where */
	return c;
}

static u32 count_fds(void)
{
	DIR *d = opendir("/proc/self/fd");
	u32 n = 0;

	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

static int setup(void **state)
{
	strcpy(directory, "/tmp/viaduct-XXXXXX");
	assert_non_null(mkdtemp(directory));
	snprintf(path, sizeof(path), "%s/s", directory);
	loop = loop_create();
	assert_non_null(loop);
	return 0;
}

static int teardown(void **state)
{
	loop_destroy(loop);
	rmdir(directory);
	return 0;
}

static void turn_until(const u32 *count, u32 wanted)
{
	u64 begun = now_ns();

	while (*count < wanted) {
		assert_true(now_ns() - begun < LONG_NS);
		loop_turn(loop, 100);
	}
	assert_int_equal(*count, wanted);
}

/* ---- answers ------------------------------------------------------------------------------------ */

static void nobody_there_is_said(void **state)
{
	u32 fds = count_fds();
	char why[256];
	int fd;

	assert_null(client(0));
	fd = unix_listen(path, why, sizeof(why));
	close(fd); /* the file stays, nobody listens */
	assert_null(client(0));
	unlink(path);
	assert_int_equal(count_fds(), fds);
}

static void honest_back_end_is_connected_and_read(void **state)
{
	struct peer p = { 0 };
	struct vhost_user_client *c;
	u32 fds = count_fds();

	peer_start(&p, 1);
	c = client(0);
	assert_non_null(c);
	assert_int_equal(vhost_user_client_front(c)->features_offered, FEATURES);
	assert_int_equal(virtio_cread(vhost_user_client_device(c), 0, 8), 0x5a5a5a5a5a5a5a5aull);
	vhost_user_client_destroy(c);
	peer_end(&p);
	assert_int_equal(count_fds(), fds);
}

static bool never(struct peer *p, const struct vhost_user_header *h)
{
	u8 byte;

	return read(p->socket, &byte, 1) > 0; /* 0: they have had enough */
}

static void answer_that_never_comes_is_waited_for_in_vain_only_so_long(void **state)
{
	struct peer p = { .features = never };
	u64 begun = now_ns();
	u32 fds = count_fds();

	peer_start(&p, 1);
	assert_null(client(0));
	assert_true(now_ns() - begun >= TIMEOUT_MS * 1000000ull);
	assert_true(now_ns() - begun < LONG_NS);
	peer_end(&p);
	assert_int_equal(count_fds(), fds);
}

/* A byte now and then, each in time: the answer as a whole is not. */
static bool in_drops(struct peer *p, const struct vhost_user_header *h)
{
	struct vhost_user_header a = { h->request, VHOST_USER_VERSION | VHOST_USER_FLAG_REPLY, 8 };
	struct pollfd closed = { p->socket, POLLIN, 0 };

	for (u32 i = 0; i < sizeof(a) - 1; i++) {
		if (send(p->socket, (u8 *)&a + i, 1, MSG_NOSIGNAL) != 1)
			return false;
		poll(&closed, 1, TIMEOUT_MS / 4);
	}
	return never(p, h);
}

static void answer_in_drops_is_cut_off(void **state)
{
	struct peer p = { .features = in_drops };
	u64 begun = now_ns();

	peer_start(&p, 1);
	assert_null(client(0));
	assert_true(now_ns() - begun >= TIMEOUT_MS * 1000000ull);
	assert_true(now_ns() - begun < LONG_NS);
	peer_end(&p);
}

static bool with_descriptors(struct peer *p, const struct vhost_user_header *h)
{
	struct {
		struct vhost_user_header h;
		u8 number[8];
	} a = { { h->request, VHOST_USER_VERSION | VHOST_USER_FLAG_REPLY, 8 }, { 0 } };
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(8 * sizeof(int))];
	} control = { .bytes = { 0 } };
	struct iovec v = { &a, sizeof(a) };
	struct msghdr m = { .msg_iov = &v,
			    .msg_iovlen = 1,
			    .msg_control = control.bytes,
			    .msg_controllen = sizeof(control) };
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);

	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(8 * sizeof(int));
	for (u32 i = 0; i < 8; i++)
		memcpy(CMSG_DATA(c) + i * sizeof(int), &p->socket, sizeof(int));
	return sendmsg(p->socket, &m, MSG_NOSIGNAL) > 0 && never(p, h);
}

static void descriptors_in_an_answer_stay_outside(void **state)
{
	struct peer p = { .features = with_descriptors };
	u32 fds = count_fds();

	peer_start(&p, 1);
	assert_null(client(0));
	peer_end(&p); /* which ends because its socket is closed: no copy of it is left here */
	assert_int_equal(count_fds(), fds);
}

/* ---- questions of theirs -------------------------------------------------------------------------- */

static const struct vhost_user_header change = { VHOST_USER_BACKEND_CONFIG_CHANGE_MSG,
						 VHOST_USER_VERSION | VHOST_USER_FLAG_NEED_REPLY,
						 0 };

/* Answers only after it was answered itself. */
static bool after_you(struct peer *p, const struct vhost_user_header *h,
		      const struct vhost_user_config *c)
{
	u8 a[sizeof(struct vhost_user_header) + 8];

	if (send(p->requests, &change, sizeof(change), MSG_NOSIGNAL) < 0 ||
	    !read_all(p->requests, a, sizeof(a), NULL))
		return false;
	__atomic_add_fetch(&p->n_answered, 1, __ATOMIC_SEQ_CST);
	return answer_config(p, h, c);
}

static void question_during_an_answer_is_answered_first(void **state)
{
	struct peer p = { .config = after_you };
	struct vhost_user_client *c;

	peer_start(&p, 1);
	c = client(0);
	assert_non_null(c);
	for (u32 i = 1; i <= 100; i++) {
		assert_int_equal(virtio_cread(vhost_user_client_device(c), 3, 1), CONFIG_BYTE);
		assert_int_equal(__atomic_load_n(&p.n_answered, __ATOMIC_SEQ_CST), i);
	}
	assert_true(vhost_user_client_front(c)->config_pending);
	loop_turn(loop, 0);
	assert_false(vhost_user_client_front(c)->config_pending);
	vhost_user_client_destroy(c);
	peer_end(&p);
}

/* Says that the configuration changed, without end, and answers nothing else. */
static bool flood(struct peer *p, const struct vhost_user_header *h,
		  const struct vhost_user_config *c)
{
	struct vhost_user_header quiet = change;

	quiet.flags = VHOST_USER_VERSION;
	while (send(p->requests, &quiet, sizeof(quiet), MSG_NOSIGNAL) > 0)
		;
	return false;
}

static void flood_instead_of_an_answer_ends_in_time(void **state)
{
	struct peer p = { .config = flood };
	struct vhost_user_client *c;
	u64 begun;

	peer_start(&p, 1);
	c = client(0);
	assert_non_null(c);
	begun = now_ns();
	assert_int_equal(virtio_cread(vhost_user_client_device(c), 0, 4), 0);
	assert_true(now_ns() - begun < LONG_NS);
	assert_false(vhost_user_client_front(c)->connected);
	turn_until(&n_gone, 1);
	turn_until(&n_gave_up, 1);
	vhost_user_client_destroy(c);
	peer_end(&p);
}

/* ---- gone, and back --------------------------------------------------------------------------------- */

static bool close_now(struct peer *p, const struct vhost_user_header *h,
		      const struct vhost_user_config *c)
{
	return false;
}

static void back_end_that_closes_is_looked_for_again(void **state)
{
	struct peer p = { .config = close_now };
	struct vhost_user_client *c;

	peer_start(&p, 5);
	c = client(60000);
	assert_non_null(c);
	for (u32 i = 1; i < 5; i++) {
		assert_int_equal(virtio_cread(vhost_user_client_device(c), 0, 4), 0);
		turn_until(&n_gone, i);
		turn_until(&n_back, i);
		assert_true(vhost_user_client_front(c)->connected);
	}
	assert_int_equal(n_gave_up, 0);
	vhost_user_client_destroy(c);
	peer_end(&p);
}

static void back_end_that_stays_away_is_given_up(void **state)
{
	struct peer p = { .config = close_now };
	struct vhost_user_client *c;
	u32 fds = count_fds();
	u64 begun;

	peer_start(&p, 1);
	c = client(200);
	assert_non_null(c);
	virtio_cread(vhost_user_client_device(c), 0, 4);
	peer_end(&p);
	begun = now_ns();
	turn_until(&n_gave_up, 1);
	assert_true(now_ns() - begun >= 100000000ull);
	assert_int_equal(n_gone, 1);
	assert_int_equal(n_back, 0);
	vhost_user_client_destroy(c);
	assert_int_equal(count_fds(), fds);
}

static bool chatty(struct peer *p, const struct vhost_user_header *h,
		   const struct vhost_user_config *c)
{
	return answer_config(p, h, c) && answer_config(p, h, c);
}

static void answer_without_a_question_loses_the_back_end(void **state)
{
	struct peer p = { .config = chatty };
	struct vhost_user_client *c;

	peer_start(&p, 1);
	c = client(0);
	assert_non_null(c);
	assert_int_equal(virtio_cread(vhost_user_client_device(c), 0, 1), CONFIG_BYTE);
	turn_until(&n_gone, 1);
	assert_false(vhost_user_client_front(c)->connected);
	vhost_user_client_destroy(c);
	peer_end(&p);
}

/* ---- shared memory ------------------------------------------------------------------------------------ */

static void shared_memory_cannot_be_shrunk_by_others(void **state)
{
	struct shared_memory m;

	assert_int_equal(shared_memory_init(&m, 65536), 0);
	assert_int_equal(ftruncate(m.fd, 0), -1);
	assert_int_equal(errno, EPERM);
	assert_int_equal(fcntl(m.fd, F_ADD_SEALS, F_SEAL_WRITE), -1);
	shared_memory_fini(&m);
}

static void shared_memory_is_handed_out_once_and_reused(void **state)
{
	struct shared_memory m;
	struct platform *p = &m.platform;
	u64 addr[64];
	u8 *mem[64];

	assert_int_equal(shared_memory_init(&m, 64 * 1024), 0);
	for (u32 round = 0; round < 3; round++) {
		for (u32 i = 0; i < 64; i++) {
			mem[i] = p->ops->dma_alloc(p, 1000, 16, &addr[i]);
			assert_non_null(mem[i]);
			assert_int_equal(addr[i] - SHARED_MEMORY_GPA, mem[i] - m.base);
			for (u32 k = 0; k < 1000; k++)
				assert_int_equal(mem[i][k], 0); /* zeroed, and nobody else's */
			memset(mem[i], 0xff, 1000);
		}
		assert_null(p->ops->dma_alloc(p, 1, 16, addr)); /* 64 * 1024 is all */
		/* Holes of one are too small for two, however they are aligned. */
		for (u32 i = 0; i < 64; i += 2)
			p->ops->dma_free(p, mem[i], 1000);
		assert_null(p->ops->dma_alloc(p, 2000, 16, addr));
		mem[0] = p->ops->dma_alloc(p, 1024, 4096, &addr[0]);
		assert_int_equal((uintptr_t)mem[0] % 4096, 0);
		p->ops->dma_free(p, mem[0], 1024);
		for (u32 i = 1; i < 64; i += 2)
			p->ops->dma_free(p, mem[i], 1000);
	}
	assert_non_null(mem[0] = p->ops->dma_alloc(p, 65536, 16, addr));
	p->ops->dma_free(p, mem[0], 65536);
	assert_null(p->ops->dma_alloc(p, 65537, 16, addr));
	assert_null(p->ops->dma_alloc(p, SIZE_MAX, 16, addr));
	shared_memory_fini(&m);
}

static void pointer_from_elsewhere_does_not_map(void **state)
{
	struct shared_memory m;
	u8 elsewhere;

	assert_int_equal(shared_memory_init(&m, 4096), 0);
	assert_int_equal(m.dma.ops->map(&m.dma, m.base, 4096, DMA_TO_DEVICE), SHARED_MEMORY_GPA);
	assert_int_equal(m.dma.ops->map(&m.dma, m.base + 1, 4096, DMA_TO_DEVICE), DMA_MAP_FAILED);
	assert_int_equal(m.dma.ops->map(&m.dma, m.base - 1, 1, DMA_TO_DEVICE), DMA_MAP_FAILED);
	assert_int_equal(m.dma.ops->map(&m.dma, &elsewhere, 1, DMA_TO_DEVICE), DMA_MAP_FAILED);
	shared_memory_fini(&m);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(nobody_there_is_said),
		TEST(honest_back_end_is_connected_and_read),
		TEST(answer_that_never_comes_is_waited_for_in_vain_only_so_long),
		TEST(answer_in_drops_is_cut_off),
		TEST(descriptors_in_an_answer_stay_outside),
		TEST(question_during_an_answer_is_answered_first),
		TEST(flood_instead_of_an_answer_ends_in_time),
		TEST(back_end_that_closes_is_looked_for_again),
		TEST(back_end_that_stays_away_is_given_up),
		TEST(answer_without_a_question_loses_the_back_end),
		cmocka_unit_test(shared_memory_cannot_be_shrunk_by_others),
		cmocka_unit_test(shared_memory_is_handed_out_once_and_reused),
		cmocka_unit_test(pointer_from_elsewhere_does_not_map),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
