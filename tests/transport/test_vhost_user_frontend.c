/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The vhost-user front end against our back end, joined by calls in one thread, and against the
 * same back end with its answers damaged on the way: each answer, each damage (V16, V17, V19).
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/log.h"
#include "tests/support/echo.h"
#include "tests/support/fake_env.h"
#include "transport/inproc/link.h"
#include "transport/vhost_user/frontend.h"

#define N_QUEUES 2
#define N_REQUESTS 8 /* of each queue */
#define RAM_BYTES (1u << 20)
#define CLAIMED 0x7f0000000000ull

enum damage {
	NONE,
	OTHER_REQUEST,
	NOT_AN_ANSWER,
	OTHER_VERSION,
	TOO_SHORT,
	TOO_LONG,
	ENORMOUS,
	NEVER, /* no answer in time */
	CUT, /* in the middle, then no more */
	CLOSED,
	WITH_FDS,
	N_DAMAGES,
	REFUSED = N_DAMAGES, /* not damaged: acknowledged with a number that is not 0 */
};

/* Both ends, and what lies between them. */
static struct world {
	struct echo echo;
	struct fake_env back;
	struct vhost_user_front front;
	struct vhost_user_front_env env;
	struct inproc_platform platform;
	struct vhost_user_front_memory memory;
	int memfd;
	u8 *ram;

	bool open; /* the back end's side of the connection */
	u8 in[1024]; /* on its way to the front end */
	u32 n_in, in_at;
	u32 n_answers; /* so far on this connection */
	u32 victim; /* the answer to be damaged; UINT32_MAX: none */
	enum damage damage;
	u32 victim_request; /* what it was an answer to */
	u64 hide_protocol; /* bits that the back end seems not to offer */
	bool no_protocol; /* nor bit 30 */
	bool no_config; /* GET_CONFIG is answered with nothing */
	u32 status_stuck; /* GET_STATUS answers so often what it was */

	u32 n_lost, n_woken;
	int request_fd;
	struct {
		int kick, call;
		u64 n_seen;
	} bells[VHOST_USER_FRONT_MAX_QUEUES];
	u8 answers[64]; /* on the request channel */
	u32 n_answer_bytes;
	bool answers_full;
} w;

static u32 n_log_lines;

static void count_line(enum log_level level, const char *object, const char *format, va_list args)
{
	n_log_lines += level <= LOG_WARN;
}

/* ---- the wire ------------------------------------------------------------------------------ */

static void back_close(void)
{
	if (!w.open)
		return;
	w.open = false;
	fake_env_close(&w.back);
}

static void edit(u8 *payload, u64 keep, u64 add)
{
	u64 number;

	memcpy(&number, payload, sizeof(number));
	number = (number & keep) | add;
	memcpy(payload, &number, sizeof(number));
}

/* Puts the answer that the back end gave on the way, damaged if it is its turn. */
static void carry_answer(void)
{
	struct vhost_user_header h;
	u8 *payload = w.in + sizeof(h);

	memcpy(w.in, w.back.answer, w.back.answer_bytes);
	memcpy(&h, w.in, sizeof(h));
	w.in_at = 0;
	w.n_in = w.back.answer_bytes;
	if (h.request == VHOST_USER_GET_PROTOCOL_FEATURES)
		edit(payload, ~w.hide_protocol, 0);
	if (h.request == VHOST_USER_GET_FEATURES && w.no_protocol)
		edit(payload, ~(1ull << VHOST_USER_F_PROTOCOL_FEATURES), 0);
	if (h.request == VHOST_USER_GET_CONFIG && w.no_config) {
		h.n_bytes = 0;
		w.n_in = sizeof(h);
	}
	if (h.request == VHOST_USER_GET_STATUS && w.status_stuck > 0) {
		edit(payload, 0, 0x0f);
		w.status_stuck--;
	}
	if (w.n_answers++ == w.victim) {
		w.victim_request = h.request;
		switch (w.damage) {
		case OTHER_REQUEST:
			h.request++;
			break;
		case NOT_AN_ANSWER:
			h.flags &= ~(u32)VHOST_USER_FLAG_REPLY;
			break;
		case OTHER_VERSION:
			h.flags ^= 3;
			break;
		case TOO_SHORT:
			h.n_bytes -= 1;
			w.n_in -= 1;
			break;
		case TOO_LONG:
			h.n_bytes += 8;
			w.n_in += 8;
			break;
		case ENORMOUS:
			h.n_bytes = 0xfffffff0;
			break;
		case NEVER:
			w.n_in = 0;
			break;
		case CUT:
			w.n_in -= 1;
			break;
		case CLOSED:
			w.n_in = 0;
			memcpy(w.in, &h, sizeof(h));
			back_close();
			return;
		case REFUSED:
			memset(payload, 1, sizeof(u64));
			break;
		default:
			break;
		}
	}
	memcpy(w.in, &h, sizeof(h));
}

static int env_send(struct vhost_user_front_env *env, const void *bytes, u32 n_bytes,
		    const int *fds, u32 n_fds)
{
	struct vhost_user_header h;
	int numbers[VHOST_USER_MAX_FDS];
	u64 before = w.back.n_answers;

	if (!w.open)
		return -EPIPE;
	assert_int_equal(w.n_in - w.in_at, 0); /* one request at a time */
	memcpy(&h, bytes, sizeof(h));
	for (u32 i = 0; i < n_fds; i++) {
		numbers[i] = fake_fd(&w.back, fds[i] == w.memfd ? w.memfd : -1);
		if (h.request == VHOST_USER_SET_VRING_KICK ||
		    h.request == VHOST_USER_SET_VRING_CALL) {
			u64 queue;

			memcpy(&queue, (const u8 *)bytes + sizeof(h), sizeof(queue));
			*(h.request == VHOST_USER_SET_VRING_KICK ? &w.bells[queue].kick
								 : &w.bells[queue].call) =
				numbers[i];
			w.bells[queue].n_seen = 0;
		}
	}
	if (fake_feed(&w.back, bytes, n_bytes, numbers, n_fds) < 0) {
		print_message("back end: %s at %s\n", w.back.why,
			      vhost_user_request_name(h.request));
		back_close();
		return 0; /* the bytes went out; that nobody is there is found by the answer */
	}
	if (w.back.n_answers != before)
		carry_answer();
	return 0;
}

static int env_receive(struct vhost_user_front_env *env, void *bytes, u32 n_bytes)
{
	if (w.victim + 1 == w.n_answers && w.damage == WITH_FDS)
		return -EPROTO;
	if (w.n_in - w.in_at < n_bytes)
		return w.open ? -ETIMEDOUT : -EPIPE;
	memcpy(bytes, w.in + w.in_at, n_bytes);
	w.in_at += n_bytes;
	return 0;
}

static int env_open_requests(struct vhost_user_front_env *env)
{
	assert_int_equal(w.request_fd, -1);
	return w.request_fd = 1000;
}

static int env_answer(struct vhost_user_front_env *env, const void *bytes, u32 n_bytes)
{
	if (w.answers_full)
		return -EAGAIN;
	assert_true(n_bytes <= sizeof(w.answers) - w.n_answer_bytes);
	memcpy(w.answers + w.n_answer_bytes, bytes, n_bytes);
	w.n_answer_bytes += n_bytes;
	return 0;
}

static int env_open_doorbells(struct vhost_user_front_env *env, u16 queue, int *kick_fd,
			      int *call_fd)
{
	assert_int_equal(w.bells[queue].kick, -1); /* closed before they are opened again */
	*kick_fd = *call_fd = 2000 + queue;
	w.bells[queue].kick = w.bells[queue].call = -2; /* open, the back end has them not */
	return 0;
}

static void env_close_doorbells(struct vhost_user_front_env *env, u16 queue)
{
	w.bells[queue].kick = w.bells[queue].call = -1;
}

static void env_kick(struct vhost_user_front_env *env, u16 queue)
{
	assert_true(w.open && w.bells[queue].kick >= 0);
	if (w.back.watched[queue] >= 0)
		vhost_user_backend_kicked(&w.back.backend, queue);
}

static void env_lost(struct vhost_user_front_env *env)
{
	w.n_lost++;
	w.n_in = w.in_at = 0;
	w.request_fd = -1;
	back_close();
}

static void env_wake(struct vhost_user_front_env *env)
{
	w.n_woken++;
}

static const struct vhost_user_front_env_ops env_ops = {
	env_send,   env_receive,        env_open_requests,
	env_answer, env_open_doorbells, env_close_doorbells,
	env_kick,   env_lost,           env_wake,
};

/* Delivers interrupts until there are none. */
static void settle(void)
{
	bool worked = true;

	while (worked) {
		worked = virtio_poll();
		for (u16 i = 0; i < N_QUEUES; i++) {
			int call = w.bells[i].call;

			if (call < 0 || !w.open || w.back.fds[call].n_signals == w.bells[i].n_seen)
				continue;
			w.bells[i].n_seen = w.back.fds[call].n_signals;
			vhost_user_front_called(&w.front, i);
			worked = true;
		}
	}
}

/* ---- a driver that keeps its requests until they are done ------------------------------------ */

struct request {
	u8 out[32], in[32];
	bool pending;
	u32 n_done;
	u16 queue;
};

static struct books {
	struct virtqueue *vqs[N_QUEUES];
	struct request *requests; /* in RAM */
	u32 n_changes;
	int probe_error;
} books;

static void book_submit(struct request *r)
{
	struct virtqueue *vq = books.vqs[r->queue];
	struct span sg[] = { { r->out, sizeof(r->out) }, { r->in, sizeof(r->in) } };

	assert_int_equal(virtqueue_add_buf(vq, sg, 1, 1, r), 0);
	virtqueue_kick(vq);
}

static void book_callback(struct virtqueue *vq)
{
	struct request *r;
	u32 len;

	while ((r = virtqueue_get_buf(vq, &len))) {
		assert_true(r->pending);
		if (len == 0) { /* drained by a back end that goes: not done */
			continue;
		}
		assert_int_equal(len, sizeof(r->in));
		assert_memory_equal(r->in, r->out, sizeof(r->in));
		r->pending = false;
		r->n_done++;
	}
	virtio_queue_failed(vq);
}

static int book_start(struct virtio_device *vdev)
{
	struct virtqueue_info infos[N_QUEUES] = {
		{ .name = "a", .callback = book_callback },
		{ .name = "b", .callback = book_callback, .max_size = 100 }
	};
	int err = virtio_find_vqs(vdev, N_QUEUES, books.vqs, infos);

	if (err < 0)
		return err;
	for (u32 i = 0; i < N_QUEUES * N_REQUESTS; i++)
		if (books.requests[i].pending)
			book_submit(&books.requests[i]);
	return 0;
}

static void book_stop(struct virtio_device *vdev)
{
	for (u16 i = 0; i < N_QUEUES; i++) {
		while (books.vqs[i] && virtqueue_detach(books.vqs[i]))
			;
		books.vqs[i] = NULL;
	}
	vdev->config->del_vqs(vdev);
}

static void book_changed(struct virtio_device *vdev)
{
	books.n_changes++;
}

static void book_give_up(struct virtio_device *vdev)
{
	fail_msg("given up");
}

static const struct virtio_device_id book_ids[] = { { 0xec0, VIRTIO_DEV_ANY_ID }, { 0, 0 } };
static const unsigned int book_features[] = { 5 };
static struct virtio_driver book_driver = {
	.name = "book",
	.id_table = book_ids,
	.feature_table = book_features,
	.feature_table_size = 1,
	.probe = book_start,
	.remove = book_stop,
	.config_changed = book_changed,
	.freeze = book_stop,
	.restore = book_start,
	.give_up = book_give_up,
};

/* ---- beginnings and ends ----------------------------------------------------------------------- */

static int world_connect(void)
{
	w.back.n_answers = 0;
	w.n_answers = w.n_in = w.in_at = 0;
	w.open = true;
	fake_env_open(&w.back);
	return vhost_user_front_connect(&w.front);
}

static int setup(void **state)
{
	memset(&w, 0, sizeof(w));
	memset(&books, 0, sizeof(books));
	n_log_lines = 0;
	log_set_hook(count_line);
	w.victim = UINT32_MAX;
	w.request_fd = -1;
	for (u32 i = 0; i < VHOST_USER_FRONT_MAX_QUEUES; i++)
		w.bells[i].kick = w.bells[i].call = -1;
	w.memfd = memfd_create("test", MFD_CLOEXEC);
	assert_true(w.memfd >= 0);
	assert_int_equal(ftruncate(w.memfd, RAM_BYTES), 0);
	w.ram = mmap(NULL, RAM_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, w.memfd, 0);
	assert_ptr_not_equal(w.ram, MAP_FAILED);
	inproc_platform_init(&w.platform, w.ram, RAM_BYTES);
	echo_init(&w.echo, N_QUEUES);
	fake_env_init(&w.back, &w.echo.vdev);
	w.env.ops = &env_ops;
	w.memory =
		(struct vhost_user_front_memory){ { INPROC_GPA, RAM_BYTES, CLAIMED, 0 }, w.memfd };
	vhost_user_front_init(&w.front, &w.env, &w.platform.platform, 0xec0, "test", &w.memory, 1);
	books.requests = w.platform.platform.ops->dma_alloc(
		&w.platform.platform, N_QUEUES * N_REQUESTS * sizeof(struct request), 64,
		&(u64){ 0 });
	for (u32 i = 0; i < N_QUEUES * N_REQUESTS; i++) {
		books.requests[i].queue = i % N_QUEUES;
		memset(books.requests[i].out, i + 1, sizeof(books.requests[i].out));
	}
	assert_int_equal(register_virtio_driver(&book_driver), 0);
	return 0;
}

static int teardown(void **state)
{
	if (list_linked(&w.front.device.node))
		unregister_virtio_device(&w.front.device);
	unregister_virtio_driver(&book_driver);
	back_close();
	for (u32 i = 0; i < VHOST_USER_FRONT_MAX_QUEUES; i++)
		assert_int_equal(w.bells[i].kick, -1);
	assert_int_equal(w.platform.n_mapped, 0);
	munmap(w.ram, RAM_BYTES);
	close(w.memfd);
	log_set_hook(NULL);
	return 0;
}

static void all_submit(void)
{
	for (u32 i = 0; i < N_QUEUES * N_REQUESTS; i++) {
		books.requests[i].pending = true;
		book_submit(&books.requests[i]);
	}
}

static void assert_all_done(u32 times)
{
	for (u32 i = 0; i < N_QUEUES * N_REQUESTS; i++) {
		assert_false(books.requests[i].pending);
		assert_int_equal(books.requests[i].n_done, times);
	}
}

/* ---- an honest peer ---------------------------------------------------------------------------- */

static void echo_with_any_rings_and_protocol_works(void **state)
{
	static const unsigned int protocol[] = {
		VHOST_USER_PROTOCOL_F_MQ,
		VHOST_USER_PROTOCOL_F_REPLY_ACK,
		VHOST_USER_PROTOCOL_F_CONFIG,
		VHOST_USER_PROTOCOL_F_BACKEND_REQ,
		VHOST_USER_PROTOCOL_F_STATUS,
		VHOST_USER_PROTOCOL_F_RESET_DEVICE,
		VHOST_USER_PROTOCOL_F_CONFIGURE_MEM_SLOTS,
	};
	const u32 n_protocols = 1u << ARRAY_SIZE(protocol);
	u32 n = 0;

	/* Every subset of what may be offered, and none of it; every kind of ring. */
	for (u32 p = 0; p <= n_protocols; p++)
		for (u32 kind = 0; kind < 8; kind++) {
			w.hide_protocol = 0;
			w.no_protocol = p == n_protocols;
			for (u32 i = 0; i < ARRAY_SIZE(protocol); i++)
				w.hide_protocol |= (u64)(p >> i & 1) << protocol[i];
			w.front.hidden.word[0] = (kind & 1 ? 1ull << VIRTIO_F_RING_PACKED : 0) |
						 (kind & 2 ? 1ull << VIRTIO_F_EVENT_IDX : 0) |
						 (kind & 4 ? 1ull << VIRTIO_F_INDIRECT_DESC : 0);
			assert_int_equal(world_connect(), 0);
			assert_int_equal(w.front.protocol_features & w.hide_protocol, 0);
			if (w.no_protocol)
				assert_int_equal(w.front.protocol_features, 0);
			assert_int_equal(register_virtio_device(&w.front.device), 0);
			assert_int_equal(w.front.device.state, VIRTIO_STATE_LIVE);
			assert_int_equal(books.vqs[0]->setup.packed, !(kind & 1));
			all_submit();
			settle();
			assert_all_done(++n);
			/* A reset and up again: the same way that a recovery takes. */
			virtio_break_device(&w.front.device);
			settle();
			assert_int_equal(w.front.device.state, VIRTIO_STATE_LIVE);
			all_submit();
			settle();
			assert_all_done(++n);
			assert_int_equal(w.front.device.n_recoveries, 1);
			unregister_virtio_device(&w.front.device);
			assert_true(w.front.connected);
			assert_int_equal(w.n_lost, 0);
			vhost_user_front_lost(&w.front, "done");
			w.n_lost = 0;
			w.request_fd = -1;
		}
}

static void config_read_and_written_arrives(void **state)
{
	struct virtio_device *d = &w.front.device;

	assert_int_equal(world_connect(), 0);
	assert_int_equal(register_virtio_device(d), 0);
	assert_int_equal(virtio_cread(d, 0, 4), 0x03020100);
	assert_int_equal(virtio_cread(d, 8, 8), 0x0f0e0d0c0b0a0908ull);
	assert_int_equal(virtio_cread(d, 15, 1), 15);
	virtio_cwrite(d, 4, 4, 0x11223344);
	assert_int_equal(virtio_cread(d, 4, 4), 0x11223344);
	/* Past any configuration there can be: zeroes, and no message. */
	assert_int_equal(virtio_cread(d, 252, 8), 0);
	assert_int_equal(virtio_cread(d, UINT32_MAX, 8), 0);
	assert_true(w.front.connected);
	assert_int_equal(n_log_lines, 0);
}

static void config_not_offered_reads_as_zeroes_and_is_said_once(void **state)
{
	for (int refuse = 0; refuse < 2; refuse++) {
		w.no_config = refuse;
		w.hide_protocol = refuse ? 0 : 1ull << VHOST_USER_PROTOCOL_F_CONFIG;
		n_log_lines = 0;
		assert_int_equal(world_connect(), 0);
		assert_int_equal(register_virtio_device(&w.front.device), 0);
		for (int i = 0; i < 10; i++)
			assert_int_equal(virtio_cread(&w.front.device, 0, 8), 0);
		virtio_cwrite(&w.front.device, 0, 1, 1);
		assert_int_equal(n_log_lines, 1);
		assert_true(w.front.connected);
		unregister_virtio_device(&w.front.device);
		vhost_user_front_lost(&w.front, "done");
	}
}

static void back_end_that_comes_again_loses_nothing(void **state)
{
	w.echo.hold = true;
	w.echo.put_back = true;
	assert_int_equal(world_connect(), 0);
	assert_int_equal(register_virtio_device(&w.front.device), 0);
	for (u32 round = 0; round < 20; round++) {
		all_submit(); /* one of each queue is held, the others wait */
		vhost_user_front_lost(&w.front, "killed");
		virtio_device_gone(&w.front.device);
		assert_int_equal(w.front.device.state, VIRTIO_STATE_BROKEN);
		/* Nobody there yet: nothing to wait for, nothing given up. */
		assert_int_equal(virtio_device_back(&w.front.device), -ENODEV);
		w.echo.hold = false;
		assert_int_equal(world_connect(), 0);
		assert_int_equal(virtio_device_back(&w.front.device), 0);
		settle();
		assert_all_done(round + 1);
		w.echo.hold = true;
		unregister_virtio_device(
			&w.front.device); /* the window of recoveries begins anew */
		assert_int_equal(register_virtio_device(&w.front.device), 0);
	}
}

/* ---- a peer that lies ---------------------------------------------------------------------------- */

/* Connect, register, work, read, reset, unregister. False as soon as something failed. */
static bool session(void)
{
	struct virtio_device *d = &w.front.device;
	bool good;

	if (world_connect() < 0)
		return false;
	good = register_virtio_device(d) == 0 && d->state == VIRTIO_STATE_LIVE;
	if (good) {
		virtio_cread(d, 0, 4);
		virtio_cwrite(d, 4, 4, 0);
		virtio_config_changed(d);
	}
	unregister_virtio_device(d);
	return good;
}

static void each_answer_damaged_loses_the_device_once(void **state)
{
	const u64 protocols[] = { 0, 1ull << VHOST_USER_PROTOCOL_F_STATUS,
				  1ull << VHOST_USER_PROTOCOL_F_REPLY_ACK };
	u32 n_cases = 0;

	for (u32 p = 0; p < ARRAY_SIZE(protocols); p++) {
		u32 n_answers;

		w.hide_protocol = protocols[p];
		w.victim = UINT32_MAX;
		assert_true(session());
		n_answers = w.n_answers;
		assert_true(n_answers > 8);
		vhost_user_front_lost(&w.front, "done");
		for (u32 victim = 0; victim < n_answers; victim++)
			for (enum damage d = OTHER_REQUEST; d < N_DAMAGES; d++) {
				size_t used = w.platform.used_bytes;

				w.victim = victim;
				w.damage = d;
				w.n_lost = 0;
				n_log_lines = 0;
				session();
				if (w.n_lost != 1 || w.front.connected)
					fail_msg("answer %u to %s, damage %d: lost %u times",
						 victim, vhost_user_request_name(w.victim_request),
						 d, w.n_lost);
				assert_false(w.open);
				assert_true(n_log_lines >= 1 && n_log_lines <= 2);
				/* No memory stays behind but what the first session took. */
				assert_int_equal(w.platform.used_bytes, used);
				n_cases++;
			}
		/* And after all that, an honest one is served. */
		w.victim = UINT32_MAX;
		assert_true(session());
		vhost_user_front_lost(&w.front, "done");
	}
	print_message("%u damaged answers\n", n_cases);
}

static void each_refusal_is_survived(void **state)
{
	u32 n_answers, n_refused = 0;

	assert_true(session());
	n_answers = w.n_answers;
	vhost_user_front_lost(&w.front, "done");
	for (u32 victim = 0; victim < n_answers; victim++) {
		w.victim = victim;
		w.damage = REFUSED;
		w.n_lost = 0;
		session();
		switch (w.victim_request) {
		case VHOST_USER_SET_FEATURES:
		case VHOST_USER_ADD_MEM_REG:
		case VHOST_USER_SET_VRING_NUM:
		case VHOST_USER_SET_VRING_BASE:
		case VHOST_USER_SET_VRING_ADDR:
		case VHOST_USER_SET_VRING_KICK:
		case VHOST_USER_SET_VRING_CALL:
		case VHOST_USER_SET_VRING_ENABLE:
		case VHOST_USER_SET_CONFIG:
			/* No lie: the connection is good, the device did not come up. */
			assert_true(w.front.connected);
			assert_int_equal(w.n_lost, 0);
			n_refused++;
			break;
		case VHOST_USER_SET_OWNER:
		case VHOST_USER_SET_BACKEND_REQ_FD:
			assert_false(w.front.connected);
			n_refused++;
			break;
		}
		vhost_user_front_lost(&w.front, "done");
	}
	/* NUM, BASE, ADDR, CALL, KICK, ENABLE of two rings, and the others. */
	assert_int_equal(n_refused, 6 * N_QUEUES + 5);
}

static void back_end_lost_while_it_comes_up_again_loses_nothing(void **state)
{
	u32 n_answers;

	w.echo.hold = true;
	w.echo.put_back = true;
	assert_int_equal(world_connect(), 0);
	assert_int_equal(register_virtio_device(&w.front.device), 0);
	all_submit();
	n_answers = w.n_answers;
	/* Killed after each of its answers in turn; book_give_up fails the test. */
	for (u32 victim = 0; victim < n_answers; victim++) {
		vhost_user_front_lost(&w.front, "killed");
		virtio_device_gone(&w.front.device);
		w.victim = victim;
		w.damage = CLOSED;
		if (world_connect() == 0)
			virtio_device_back(&w.front.device);
		virtio_device_gone(&w.front.device);
		assert_false(w.front.connected);
		assert_int_equal(w.front.device.state, VIRTIO_STATE_BROKEN);
	}
	w.victim = UINT32_MAX;
	w.echo.hold = false;
	assert_int_equal(world_connect(), 0);
	assert_int_equal(virtio_device_back(&w.front.device), 0);
	settle();
	assert_all_done(1);
}

static void reset_never_finished_times_out(void **state)
{
	assert_int_equal(world_connect(), 0);
	w.status_stuck = UINT32_MAX; /* D07; the platform's clock goes on with each look */
	assert_int_equal(w.front.device.config->reset(&w.front.device), -ETIMEDOUT);
	assert_true(w.front.connected);
	w.status_stuck = 3;
	assert_int_equal(w.front.device.config->reset(&w.front.device), 0);
	assert_int_equal(w.status_stuck, 0);
}

static void features_refused_by_the_device_fail_the_probe(void **state)
{
	w.echo.refuse = true;
	assert_int_equal(world_connect(), 0);
	assert_int_equal(register_virtio_device(&w.front.device), -ENODEV);
	assert_true(w.front.connected);
	unregister_virtio_device(&w.front.device);
}

static void more_queues_than_offered_are_not_asked_for(void **state)
{
	struct virtqueue_info infos[N_QUEUES + 1] = { { .name = "a" },
						      { .name = "b" },
						      { .name = "c" } };
	struct virtqueue *vqs[N_QUEUES + 1];

	assert_int_equal(world_connect(), 0);
	assert_int_equal(w.front.n_queues, N_QUEUES);
	w.front.device.config->get_features(&w.front.device, &w.front.device.features);
	assert_int_equal(w.front.device.config->finalize_features(&w.front.device), 0);
	assert_int_equal(virtio_find_vqs(&w.front.device, N_QUEUES + 1, vqs, infos), -ENOENT);
	assert_true(w.front.connected);
	/* An absent one has no number to be refused. */
	infos[N_QUEUES].absent = infos[0].absent = true;
	assert_int_equal(virtio_find_vqs(&w.front.device, N_QUEUES + 1, vqs, infos), 0);
	assert_null(vqs[0]);
	assert_non_null(vqs[1]);
	assert_null(vqs[2]);
	assert_int_equal(w.front.device.config->reset(&w.front.device), 0);
	w.front.device.config->del_vqs(&w.front.device);
}

/* ---- the request channel -------------------------------------------------------------------------- */

static const struct vhost_user_header change = { VHOST_USER_BACKEND_CONFIG_CHANGE_MSG,
						 VHOST_USER_VERSION, 0 };

static void config_changes_in_a_flood_are_told_once(void **state)
{
	assert_int_equal(world_connect(), 0);
	assert_int_equal(register_virtio_device(&w.front.device), 0);
	for (int i = 0; i < 10000; i++) /* V19 */
		assert_true(vhost_user_front_requested(&w.front, &change, sizeof(change)));
	vhost_user_front_dispatch(&w.front);
	vhost_user_front_dispatch(&w.front);
	assert_int_equal(books.n_changes, 1);
	assert_int_equal(w.n_answer_bytes, 0);
	/* In pieces of one byte, which is how sockets may bring it. */
	for (u32 i = 0; i < 3 * sizeof(change); i++)
		assert_true(vhost_user_front_requested(
			&w.front, (const u8 *)&change + i % sizeof(change), 1));
	vhost_user_front_dispatch(&w.front);
	assert_int_equal(books.n_changes, 2);
}

static void config_change_that_wants_an_answer_gets_it(void **state)
{
	struct vhost_user_header h = change, answer;
	u64 status;

	h.flags |= VHOST_USER_FLAG_NEED_REPLY;
	assert_int_equal(world_connect(), 0);
	assert_int_equal(register_virtio_device(&w.front.device), 0);
	assert_true(vhost_user_front_requested(&w.front, &h, sizeof(h)));
	assert_int_equal(w.n_answer_bytes, sizeof(answer) + sizeof(status));
	memcpy(&answer, w.answers, sizeof(answer));
	memcpy(&status, w.answers + sizeof(answer), sizeof(status));
	assert_int_equal(answer.request, h.request);
	assert_int_equal(answer.flags, VHOST_USER_VERSION | VHOST_USER_FLAG_REPLY);
	assert_int_equal(answer.n_bytes, 8);
	assert_int_equal(status, 0);
	/* V16: asks, and does not read. */
	w.answers_full = true;
	assert_false(vhost_user_front_requested(&w.front, &h, sizeof(h)));
	assert_int_equal(w.n_lost, 1);
	virtio_device_gone(&w.front.device);
}

static void junk_on_the_request_channel_loses_the_device(void **state)
{
	const struct vhost_user_header junk[] = {
		{ 0, VHOST_USER_VERSION, 0 },
		{ 1, VHOST_USER_VERSION, 32 }, /* IOTLB */
		{ 3, VHOST_USER_VERSION, 24 }, /* host notifier */
		{ 4, VHOST_USER_VERSION, 8 }, /* in-band call: not negotiated (V22) */
		{ 0xffffffff, 0xffffffff, 0xffffffff },
		{ VHOST_USER_BACKEND_CONFIG_CHANGE_MSG, VHOST_USER_VERSION, 4 },
		{ VHOST_USER_BACKEND_CONFIG_CHANGE_MSG, 2, 0 },
		{ VHOST_USER_BACKEND_CONFIG_CHANGE_MSG, VHOST_USER_VERSION | VHOST_USER_FLAG_REPLY,
		  0 },
	};

	for (u32 i = 0; i < ARRAY_SIZE(junk); i++) {
		assert_int_equal(world_connect(), 0);
		assert_int_equal(register_virtio_device(&w.front.device), 0);
		w.n_lost = 0;
		assert_false(vhost_user_front_requested(&w.front, &junk[i], sizeof(junk[i])));
		assert_int_equal(w.n_lost, 1);
		/* What was read with it goes nowhere. */
		assert_false(vhost_user_front_requested(&w.front, &change, sizeof(change)));
		assert_false(w.front.config_pending);
		virtio_device_gone(&w.front.device);
		unregister_virtio_device(&w.front.device);
	}
}

static void real_change_of_the_device_arrives(void **state)
{
	assert_int_equal(world_connect(), 0);
	assert_int_equal(register_virtio_device(&w.front.device), 0);
	vdev_config_changed(&w.echo.vdev);
	assert_int_equal(w.back.n_requests, 1);
	assert_true(vhost_user_front_requested(&w.front, &w.back.request, sizeof(w.back.request)));
	assert_int_equal(w.n_woken, 1);
	vhost_user_front_dispatch(&w.front);
	assert_int_equal(books.n_changes, 1);
}

static void device_that_needs_a_reset_is_recovered(void **state)
{
	assert_int_equal(world_connect(), 0);
	assert_int_equal(register_virtio_device(&w.front.device), 0);
	vdev_break(&w.echo.vdev, 0, "tried");
	vhost_user_front_requested(&w.front, &w.back.request, sizeof(w.back.request));
	vhost_user_front_dispatch(&w.front);
	settle();
	assert_int_equal(w.front.device.n_recoveries, 1);
	all_submit();
	settle();
	assert_all_done(1);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(echo_with_any_rings_and_protocol_works),
		TEST(config_read_and_written_arrives),
		TEST(config_not_offered_reads_as_zeroes_and_is_said_once),
		TEST(back_end_that_comes_again_loses_nothing),
		TEST(each_answer_damaged_loses_the_device_once),
		TEST(each_refusal_is_survived),
		TEST(back_end_lost_while_it_comes_up_again_loses_nothing),
		TEST(reset_never_finished_times_out),
		TEST(features_refused_by_the_device_fail_the_probe),
		TEST(more_queues_than_offered_are_not_asked_for),
		TEST(config_changes_in_a_flood_are_told_once),
		TEST(config_change_that_wants_an_answer_gets_it),
		TEST(junk_on_the_request_channel_loses_the_device),
		TEST(real_change_of_the_device_arrives),
		TEST(device_that_needs_a_reset_is_recovered),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
