/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The vhost-user back end against a front end that knows the protocol, and against what hostile
 * ones send. Memory and rings are real, descriptors are a bookkeeper's numbers (fake_env.h),
 * which checks after each test that all were closed and unmapped. Messages pass the codec.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/errno.h"
#include "base/log.h"
#include "tests/support/echo.h"
#include "tests/support/fake_env.h"
#include "tests/support/front.h"
#include "tests/support/rig.h"

#define N_QUEUES 3

#define P(bit) (1ull << VHOST_USER_PROTOCOL_F_##bit)
#define ALL_PROTOCOL                                                           \
	(P(MQ) | P(REPLY_ACK) | P(BACKEND_REQ) | P(CONFIG) | P(RESET_DEVICE) | \
	 P(CONFIGURE_MEM_SLOTS) | P(STATUS))

static struct echo echo;
static struct fake_env env;
static struct front front;
static int memfd = -1;
static bool deaf; /* doorbells do not arrive */
static int call_fd[N_QUEUES];

static int send_in_process(struct front *f, const struct vhost_user_header *h, const void *payload,
			   const int *fds, u32 n_fds)
{
	u8 bytes[12 + 512];

	assert_true(h->n_bytes <= 512);
	memcpy(bytes, h, 12);
	if (h->n_bytes)
		memcpy(bytes + 12, payload, h->n_bytes);
	return fake_feed(&env, bytes, 12 + h->n_bytes, fds, n_fds);
}

static void kick_in_process(struct front *f, u16 queue)
{
	if (!deaf && env.watched[queue] >= 0)
		vhost_user_backend_kicked(&env.backend, queue);
}

static int setup(void **state)
{
	echo_init(&echo, N_QUEUES);
	fake_env_init(&env, &echo.vdev);
	fake_env_open(&env);
	memset(&front, 0, sizeof(front));
	front.send = send_in_process;
	front.kick = kick_in_process;
	memfd = memfd_create("ram", MFD_CLOEXEC);
	assert_int_equal(ftruncate(memfd, FRONT_RAM_BYTES), 0);
	front.ram = mmap(NULL, FRONT_RAM_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, memfd, 0);
	assert_true(front.ram != MAP_FAILED);
	deaf = false;
	return 0;
}

static int teardown(void **state)
{
	fake_env_close(&env);
	munmap(front.ram, FRONT_RAM_BYTES);
	close(memfd);
	return 0;
}

/* A connection after another, RAM as it was. */
static void reconnect(void)
{
	fake_env_close(&env);
	fake_env_open(&env);
	front.used_bytes = 0;
}

static u64 answered_number(u32 request)
{
	struct vhost_user_header h;
	u64 number;

	assert_int_equal(env.answer_bytes, 20);
	memcpy(&h, env.answer, 12);
	assert_int_equal(h.request, request);
	assert_int_equal(h.flags, VHOST_USER_VERSION | VHOST_USER_FLAG_REPLY);
	assert_int_equal(h.n_bytes, 8);
	memcpy(&number, env.answer + 12, 8);
	env.answer_bytes = 0;
	return number;
}

static u64 ask(u32 request)
{
	assert_int_equal(front_message(&front, request, NULL, 0, NULL, 0), 0);
	return answered_number(request);
}

/* The next message ends the connection, for this reason. */
static void assert_refused(int err, const char *why)
{
	assert_int_equal(err, -EPROTO);
	assert_string_equal(env.why, why);
}

static void negotiate(u64 features, u64 protocol)
{
	assert_int_equal(ask(VHOST_USER_GET_FEATURES) & features, features);
	assert_int_equal(front_message(&front, VHOST_USER_SET_OWNER, NULL, 0, NULL, 0), 0);
	if (protocol) {
		assert_int_equal(ask(VHOST_USER_GET_PROTOCOL_FEATURES) & protocol, protocol);
		assert_int_equal(front_number(&front, VHOST_USER_SET_PROTOCOL_FEATURES, protocol),
				 0);
	}
	assert_int_equal(front_number(&front, VHOST_USER_SET_FEATURES, features), 0);
}

static int memory(void)
{
	return front_memory(&front, fake_fd(&env, memfd));
}

static int doorbells(u16 queue)
{
	int err;

	call_fd[queue] = fake_fd(&env, -1);
	err = front_ring_fd(&front, VHOST_USER_SET_VRING_CALL, queue, call_fd[queue]);
	if (err == 0)
		err = front_ring_fd(&front, VHOST_USER_SET_VRING_KICK, queue, fake_fd(&env, -1));
	return err;
}

static int enable(u16 queue, u32 on)
{
	return front_state(&front, VHOST_USER_SET_VRING_ENABLE, queue, on);
}

static void ring_up(u16 queue)
{
	assert_int_equal(front_ring(&front, queue), 0);
	assert_int_equal(doorbells(queue), 0);
}

/* Everything up to working rings, as QEMU does it. */
static void start(u64 protocol)
{
	negotiate(front_features(&front), protocol);
	assert_int_equal(memory(), 0);
	for (u16 i = 0; i < N_QUEUES; i++) {
		ring_up(i);
		assert_int_equal(enable(i, 1), 0);
	}
	if (protocol & P(STATUS))
		assert_int_equal(front_number(&front, VHOST_USER_SET_STATUS, 15), 0);
}

/* One request there and back. */
static void round_trip(u16 queue)
{
	static u8 n;
	u8 *out = front_alloc(&front, 100), *in = front_alloc(&front, 100);
	u32 n_written = 0;

	memset(out, ++n, 100);
	front_submit(&front, queue, out, 100, in, 100);
	assert_ptr_equal(virtqueue_get_buf(&front.vq[queue], &n_written), in);
	assert_int_equal(n_written, 100);
	assert_memory_equal(in, out, 100);
}

static void assert_works(void)
{
	for (u16 i = 0; i < N_QUEUES; i++)
		round_trip(i);
	assert_false(echo.vdev.broken);
}

static u32 get_base(u16 queue)
{
	struct vhost_user_vring_state s;

	assert_int_equal(front_state(&front, VHOST_USER_GET_VRING_BASE, queue, 0), 0);
	assert_int_equal(env.answer_bytes, 12 + sizeof(s));
	memcpy(&s, env.answer + 12, sizeof(s));
	assert_int_equal(s.index, queue);
	return s.value;
}

/* ---- a front end's ways ------------------------------------------------------------------ */

static void qemu_order_starts_rings_in_both_formats(void **state)
{
	for (u32 i = 0; i < 8; i++) {
		front.packed = i & 1;
		front.event_idx = i & 2;
		start(i & 4 ? ALL_PROTOCOL : ALL_PROTOCOL & ~P(STATUS));
		assert_int_equal(echo.vdev.status, 15);
		assert_works();
		assert_int_equal(env.fds[call_fd[1]].n_signals, 1);
		reconnect();
	}
	assert_int_equal(echo.n_activated, 8);
}

/* QEMU 7.2's vhost-user-rng agrees on STATUS, says FEATURES_OK, and never DRIVER_OK. */
static void qemu_rng_order_without_driver_ok_works(void **state)
{
	negotiate(front_features(&front), ALL_PROTOCOL);
	assert_int_equal(front_number(&front, VHOST_USER_SET_STATUS, VIRTIO_STATUS_FEATURES_OK), 0);
	assert_int_equal(memory(), 0);
	for (u16 q = 0; q < N_QUEUES; q++) {
		ring_up(q);
		assert_int_equal(enable(q, 1), 0);
	}
	assert_works();
}

static void without_protocol_features_rings_are_enabled_at_start(void **state)
{
	negotiate(front_features(&front) & ~(1ull << VHOST_USER_F_PROTOCOL_FEATURES), 0);
	assert_int_equal(memory(), 0);
	for (u16 i = 0; i < N_QUEUES; i++)
		ring_up(i);
	assert_works();
}

static void uml_order_base_0_of_a_packed_ring_means_its_start(void **state)
{
	front.packed = true;
	negotiate(front_features(&front), P(REPLY_ACK) | P(BACKEND_REQ) | P(CONFIG));
	assert_int_equal(memory(), 0);
	for (u16 i = 0; i < N_QUEUES; i++) {
		call_fd[i] = fake_fd(&env, -1);
		assert_int_equal(front_ring_fd(&front, VHOST_USER_SET_VRING_CALL, i, call_fd[i]),
				 0);
		assert_int_equal(front_ring(&front, i), 0);
		assert_int_equal(front_state(&front, VHOST_USER_SET_VRING_BASE, i, 0), 0);
	}
	for (u16 i = 0; i < N_QUEUES; i++) {
		assert_int_equal(
			front_ring_fd(&front, VHOST_USER_SET_VRING_KICK, i, fake_fd(&env, -1)), 0);
		assert_int_equal(enable(i, 1), 0);
	}
	assert_works();
}

/* User-Mode Linux says neither GET_VRING_BASE nor RESET when a driver goes and comes back. */
static void uml_driver_that_comes_back_meets_a_reset_device(void **state)
{
	for (int i = 0; i < 2; i++) {
		front.packed = i;
		start(P(REPLY_ACK) | P(CONFIG));
		assert_works();
		for (u16 q = 0; q < N_QUEUES; q++)
			assert_int_equal(enable(q, 0), 0);
		echo.n_reset = 0;
		/* Other features now: no matter, all rings rest. */
		front.event_idx = !front.event_idx;
		assert_int_equal(
			front_number(&front, VHOST_USER_SET_FEATURES, front_features(&front)), 0);
		assert_int_equal(memory(), 0);
		for (u16 q = 0; q < N_QUEUES; q++)
			ring_up(q);
		for (u16 q = 0; q < N_QUEUES; q++)
			assert_int_equal(enable(q, 1), 0);
		assert_true(echo.n_reset >= 1);
		assert_works();
		for (u16 q = 0; q < N_QUEUES; q++)
			assert_int_equal(enable(q, 0), 0);
		/* And with the same features. */
		echo.n_reset = 0;
		for (u16 q = 0; q < N_QUEUES; q++)
			ring_up(q);
		for (u16 q = 0; q < N_QUEUES; q++)
			assert_int_equal(enable(q, 1), 0);
		assert_int_equal(echo.n_reset, 1);
		assert_works();
		reconnect();
	}
}

/* Stop and go on, as a monitor does that pauses its guest: each position must fit. */
static void stop_and_go_on_at_every_position(void **state)
{
	for (int i = 0; i < 6; i++) {
		u64 protocol = i < 2 ? ALL_PROTOCOL & ~P(STATUS) : ALL_PROTOCOL;
		u32 used;

		front.packed = i & 1;
		start(protocol);
		used = front.used_bytes;
		for (u32 n = 0; n < 3 * FRONT_QUEUE_SIZE; n++) {
			u32 base[N_QUEUES];

			front.used_bytes = used;
			assert_works();
			/* QEMU resets whenever it pauses: before it asks (7.2), or after. */
			if (i & 4)
				assert_int_equal(front_number(&front, VHOST_USER_SET_STATUS, 0), 0);
			for (u16 q = 0; q < N_QUEUES; q++)
				base[q] = get_base(q);
			if (i & 2)
				assert_int_equal(front_number(&front, VHOST_USER_SET_STATUS, 0), 0);
			assert_int_equal(front_number(&front, VHOST_USER_SET_FEATURES,
						      front_features(&front)),
					 0);
			for (u16 q = 0; q < N_QUEUES; q++) {
				assert_int_equal(
					front_state(&front, VHOST_USER_SET_VRING_BASE, q, base[q]),
					0);
				assert_int_equal(doorbells(q), 0);
				assert_int_equal(enable(q, 1), 0);
			}
			if (protocol & P(STATUS))
				assert_int_equal(front_number(&front, VHOST_USER_SET_STATUS, 15),
						 0);
		}
		assert_works();
		reconnect();
	}
}

static void need_reply_is_answered_once_for_each_request(void **state)
{
	struct vhost_user_header h = { VHOST_USER_SET_OWNER, FRONT_NEED_REPLY, 0 };

	/* Not negotiated: no answer, as the front end would not read one. */
	assert_int_equal(front.send(&front, &h, NULL, NULL, 0), 0);
	assert_int_equal(env.n_answers, 0);
	negotiate(front_features(&front), ALL_PROTOCOL);
	env.n_answers = 0;
	assert_int_equal(front.send(&front, &h, NULL, NULL, 0), 0);
	assert_int_equal(answered_number(VHOST_USER_SET_OWNER), 0);
	assert_int_equal(env.n_answers, 1);
	/* A question has its answer, and no second one. */
	h.request = VHOST_USER_GET_FEATURES;
	assert_int_equal(front.send(&front, &h, NULL, NULL, 0), 0);
	assert_int_equal(env.n_answers, 2);
	assert_int_equal(answered_number(VHOST_USER_GET_FEATURES),
			 echo.vdev.offered.word[0] | 1 << 30);
	h.request = VHOST_USER_GET_MAX_MEM_SLOTS;
	assert_int_equal(front.send(&front, &h, NULL, NULL, 0), 0);
	assert_int_equal(answered_number(VHOST_USER_GET_MAX_MEM_SLOTS), VHOST_USER_MEM_SLOTS);
	assert_int_equal(ask(VHOST_USER_GET_QUEUE_NUM), N_QUEUES);
	/* An answer that cannot be sent ends the connection. */
	env.answer_error = -EPIPE;
	assert_int_equal(front.send(&front, &h, NULL, NULL, 0), -EPIPE);
	assert_string_equal(env.why, "an answer that could not be sent");
}

static void config_change_reaches_the_front_end_and_never_waits(void **state)
{
	int fd = fake_fd(&env, -1);

	start(ALL_PROTOCOL);
	vdev_config_changed(&echo.vdev);
	assert_int_equal(env.n_requests, 0); /* nowhere to send it */
	assert_int_equal(front_message(&front, VHOST_USER_SET_BACKEND_REQ_FD, NULL, 0, &fd, 1), 0);
	vdev_config_changed(&echo.vdev);
	assert_int_equal(env.n_requests, 1);
	assert_int_equal(env.request.request, VHOST_USER_BACKEND_CONFIG_CHANGE_MSG);
	assert_int_equal(env.request.flags, VHOST_USER_VERSION);
	assert_int_equal(env.request.n_bytes, 0);
	/* V19: a flood of changes while the front end reads nothing is one message in the end. */
	env.request_full = true;
	for (u32 i = 0; i < 100000; i++)
		vdev_config_changed(&echo.vdev);
	env.request_full = false;
	vhost_user_backend_retry(&env.backend);
	vhost_user_backend_retry(&env.backend);
	assert_int_equal(env.n_requests, 2);
	/* Another descriptor replaces the first, which is closed. */
	fd = fake_fd(&env, -1);
	assert_int_equal(front_message(&front, VHOST_USER_SET_BACKEND_REQ_FD, NULL, 0, &fd, 1), 0);
	vdev_config_changed(&echo.vdev);
	assert_int_equal(env.n_requests, 3);
	assert_works();
}

static void reset_device_leaves_memory_and_starts_again(void **state)
{
	static const u32 how[] = { VHOST_USER_RESET_DEVICE, VHOST_USER_RESET_OWNER,
				   VHOST_USER_SET_STATUS };

	start(ALL_PROTOCOL);
	for (u32 i = 0; i < ARRAY_SIZE(how); i++) {
		u64 zero = 0;

		assert_works();
		echo.n_reset = 0;
		assert_int_equal(front_message(&front, how[i], &zero,
					       how[i] == VHOST_USER_SET_STATUS ? 8 : 0, NULL, 0),
				 0);
		assert_int_equal(echo.n_reset, 1);
		assert_int_equal(ask(VHOST_USER_GET_STATUS), 0);
		for (u16 q = 0; q < N_QUEUES; q++) {
			ring_up(q);
			assert_int_equal(enable(q, 1), 0);
		}
		assert_int_equal(front_number(&front, VHOST_USER_SET_STATUS, 15), 0);
	}
	assert_works();
}

static void features_that_the_device_refuses_are_seen_in_the_status(void **state)
{
	echo.refuse = true;
	negotiate(front_features(&front), ALL_PROTOCOL);
	assert_int_equal(front_number(&front, VHOST_USER_SET_STATUS, 11), 0);
	assert_int_equal(ask(VHOST_USER_GET_STATUS), 3);
	assert_int_equal(memory(), 0);
	assert_int_equal(front_ring(&front, 0), 0);
	assert_refused(doorbells(0),
		       "features that were not offered, or that this device does not work with");
}

/* The protocol has no legacy device here: without VERSION_1 no ring starts (D-CORE-6.2-02). */
static void rings_without_version_1_do_not_start(void **state)
{
	negotiate(1ull << VHOST_USER_F_PROTOCOL_FEATURES, P(CONFIG));
	assert_int_equal(memory(), 0);
	assert_int_equal(front_ring(&front, 0), 0);
	assert_refused(doorbells(0),
		       "features that were not offered, or that this device does not work with");
}

static void configuration_is_read_and_written_by_any_size(void **state)
{
	struct vhost_user_config c = { .offset = 0 };

	negotiate(front_features(&front), ALL_PROTOCOL);
	/* All (offset, size): QEMU asks for the whole, User-Mode Linux from 0 on, libblkio pieces. */
	for (u32 offset = 0; offset < 20; offset++) {
		for (u32 n = 1; n <= VHOST_USER_MAX_CONFIG_BYTES - offset; n++) {
			struct vhost_user_config got;

			c.offset = offset;
			c.n_bytes = n;
			assert_int_equal(front_message(&front, VHOST_USER_GET_CONFIG, &c,
						       12 + (n & 1 ? n : 0), NULL, 0),
					 0);
			assert_int_equal(env.answer_bytes, 12 + 12 + n);
			memcpy(&got, env.answer + 12, 12 + n);
			assert_int_equal(got.offset, offset);
			assert_int_equal(got.n_bytes, n);
			for (u32 i = 0; i < n; i++)
				assert_int_equal(got.bytes[i], offset + i < 16 ? offset + i : 0);
		}
	}
	c = (struct vhost_user_config){ .offset = 0, .n_bytes = 16 };
	memset(c.bytes, 0xaa, 16);
	assert_int_equal(front_message(&front, VHOST_USER_SET_CONFIG, &c, 12 + 16, NULL, 0), 0);
	for (u32 i = 0; i < 16; i++)
		assert_int_equal(echo.config[i], i >= 4 && i < 8 ? 0xaa : i);
}

/* ---- hostile ones ------------------------------------------------------------------------ */

static void hostile_V01_closed_at_every_byte_leaves_nothing(void **state)
{
	/* A table of two regions, with its descriptors, cut short at each byte. */
	struct vhost_user_mem_table t = { .n_regions = 2 };
	u8 bytes[12 + 8 + 64];
	struct vhost_user_header h = { VHOST_USER_SET_MEM_TABLE, 1, 8 + 64 };

	t.regions[0] = (struct vhost_user_region){ FRONT_GPA, 4096, FRONT_ADDR, 0 };
	t.regions[1] =
		(struct vhost_user_region){ FRONT_GPA + 4096, 4096, FRONT_ADDR + 4096, 4096 };
	memcpy(bytes, &h, 12);
	memcpy(bytes + 12, &t, 8 + 64);
	for (u32 n = 0; n <= sizeof(bytes); n++) {
		int fds[] = { fake_fd(&env, memfd), fake_fd(&env, memfd) };

		if (n > 0) {
			assert_int_equal(fake_feed(&env, bytes, n, fds, 2), 0);
		} else {
			env.env.ops->close(&env.env, fds[0]);
			env.env.ops->close(&env.env, fds[1]);
		}
		assert_int_equal(env.n_mapped, n == sizeof(bytes) ? 2 : 0);
		reconnect(); /* checks the books */
	}
}

static void hostile_V03_a_hundred_thousand_descriptors_come_and_go(void **state)
{
	negotiate(front_features(&front), ALL_PROTOCOL);
	for (u32 i = 0; i < 100000; i++) {
		u32 request = i % 2 ? VHOST_USER_SET_VRING_CALL : VHOST_USER_SET_VRING_ERR;

		assert_int_equal(front_ring_fd(&front, request, i % N_QUEUES, fake_fd(&env, -1)),
				 0);
	}
	assert_true(env.n_open <= 2 * N_QUEUES);
	for (u32 i = 0; i < 1000; i++)
		assert_int_equal(memory(), 0);
	assert_int_equal(env.n_mapped, 1);
	assert_true(env.n_open <= 2 * N_QUEUES);
}

static void hostile_V04_a_kick_descriptor_that_cannot_be_waited_for(void **state)
{
	int fd;

	negotiate(front_features(&front), ALL_PROTOCOL);
	assert_int_equal(memory(), 0);
	assert_int_equal(front_ring(&front, 0), 0);
	fd = fake_fd(&env, -1);
	env.fds[fd].unwatchable = true;
	assert_refused(front_ring_fd(&front, VHOST_USER_SET_VRING_KICK, 0, fd),
		       "a kick descriptor that cannot be waited for");
	reconnect();
	negotiate(front_features(&front), ALL_PROTOCOL);
	assert_refused(front_ring_fd(&front, VHOST_USER_SET_VRING_KICK, 0, -1),
		       "a ring without a kick descriptor, which needs polling by agreement");
}

static void hostile_V05_bad_memory_tables_are_refused(void **state)
{
	const char *range = "a guest memory region that is empty or wraps";
	const char *map = "a guest memory region that cannot be mapped";
	const char *overlap = "guest memory regions that are empty, overlap or wrap";
	const char *front_overlap = "memory regions that overlap in the front end";
	const struct {
		struct vhost_user_region r[2];
		bool no_memory;
		const char *why;
	} rows[] = {
#define GOOD { FRONT_GPA, 8192, FRONT_ADDR, 0 }
		{ { GOOD, { FRONT_GPA + 8192, 0, FRONT_ADDR + 8192, 0 } }, false, range },
		{ { GOOD, { UINT64_MAX - 4094, 4096, 0, 0 } }, false, range },
		{ { GOOD, { 0, 4096, UINT64_MAX - 4094, 0 } }, false, range },
		{ { GOOD, { 0, 4096, 0, UINT64_MAX - 4094 } }, false, range },
		{ { GOOD, { 0, 1ull << 63, 0, 0 } }, false, map },
		{ { GOOD, { 0, FRONT_RAM_BYTES + 1, 0, 0 } }, false, map },
		{ { GOOD, { 0, 4096, 0, FRONT_RAM_BYTES } }, false, map },
		{ { GOOD, { 0, 4096, 0, 0 } }, true, map },
		{ { GOOD, { FRONT_GPA + 4096, 4096, 0, 0 } }, false, overlap },
		{ { GOOD, { FRONT_GPA - 4096, 8192, 0, 0 } }, false, overlap },
		{ { GOOD, { 0, 4096, FRONT_ADDR + 8191, 0 } }, false, front_overlap },
		{ { GOOD, { 0, 4096, FRONT_ADDR - 4095, 0 } }, false, front_overlap },
		{ { GOOD, { FRONT_GPA + 8192, 4096, FRONT_ADDR + 8192, 8192 } }, false, NULL },
		{ { GOOD, { FRONT_GPA - 4096, 4096, FRONT_ADDR - 4096, 8192 } }, false, NULL },
	};

	for (u32 i = 0; i < ARRAY_SIZE(rows); i++) {
		for (u32 adding = 0; adding < 2; adding++) {
			struct vhost_user_mem_table t = { .n_regions = 2 };
			int fds[] = { fake_fd(&env, memfd),
				      fake_fd(&env, rows[i].no_memory ? -1 : memfd) };
			int err;

			memcpy(t.regions, rows[i].r, sizeof(rows[i].r));
			negotiate(front_features(&front), ALL_PROTOCOL);
			if (adding) {
				struct vhost_user_mem_reg reg = { 0, rows[i].r[0] };

				assert_int_equal(front_message(&front, VHOST_USER_ADD_MEM_REG, &reg,
							       sizeof(reg), &fds[0], 1),
						 0);
				reg.region = rows[i].r[1];
				err = front_message(&front, VHOST_USER_ADD_MEM_REG, &reg,
						    sizeof(reg), &fds[1], 1);
			} else {
				err = front_message(&front, VHOST_USER_SET_MEM_TABLE, &t, 8 + 64,
						    fds, 2);
			}
			if (rows[i].why)
				assert_refused(err, rows[i].why);
			else
				assert_int_equal(err, 0);
			reconnect();
		}
	}
	/* Nine regions in a message for eight, and a table longer than its message. */
	for (u32 n = 9; n; n = n == 9 ? 255 : n == 255 ? UINT32_MAX : 0) {
		struct vhost_user_mem_table t = { .n_regions = n };
		int fds[8];

		for (u32 i = 0; i < 8; i++)
			fds[i] = fake_fd(&env, memfd);
		assert_refused(
			front_message(&front, VHOST_USER_SET_MEM_TABLE, &t, sizeof(t), fds, 8),
			"a memory table that is longer than the message");
		reconnect();
	}
	struct vhost_user_mem_table t = { .n_regions = 1, .regions[0] = GOOD };
	int fd = fake_fd(&env, memfd);

	assert_refused(front_message(&front, VHOST_USER_SET_MEM_TABLE, &t, 8 + 31, &fd, 1),
		       "a memory table that is longer than the message");
	reconnect();
	t.n_regions = 0;
	assert_int_equal(front_message(&front, VHOST_USER_SET_MEM_TABLE, &t, 8, NULL, 0), 0);
}

static struct vhost_user_mem_reg page(u32 n)
{
	return (struct vhost_user_mem_reg){
		0, { FRONT_GPA + n * 4096ull, 4096, FRONT_ADDR + n * 4096ull, 0 }
	};
}

static void hostile_V07_slots_fill_up_and_empty_again(void **state)
{
	struct vhost_user_mem_reg r;
	int fd;

	negotiate(front_features(&front), ALL_PROTOCOL);
	for (u32 round = 0; round < 3; round++) {
		for (u32 i = 0; i < VHOST_USER_MEM_SLOTS; i++) {
			r = page(i);
			fd = fake_fd(&env, memfd);
			assert_int_equal(front_message(&front, VHOST_USER_ADD_MEM_REG, &r,
						       sizeof(r), &fd, 1),
					 0);
		}
		assert_int_equal(env.n_mapped, VHOST_USER_MEM_SLOTS);
		for (u32 i = 0; round < 2 && i < VHOST_USER_MEM_SLOTS; i++) {
			r = page((i * 37 + round) % VHOST_USER_MEM_SLOTS);
			fd = fake_fd(&env, -1); /* some bring one, unused */
			assert_int_equal(front_message(&front, VHOST_USER_REM_MEM_REG, &r,
						       sizeof(r), &fd, i % 2),
					 0);
			if (i % 2 == 0)
				env.env.ops->close(&env.env, fd);
		}
	}
	r = page(VHOST_USER_MEM_SLOTS);
	fd = fake_fd(&env, memfd);
	assert_refused(front_message(&front, VHOST_USER_ADD_MEM_REG, &r, sizeof(r), &fd, 1),
		       "more memory regions than there are slots");
	reconnect();
	/* The same twice, and one that never was. */
	negotiate(front_features(&front), ALL_PROTOCOL);
	r = page(0);
	fd = fake_fd(&env, memfd);
	assert_int_equal(front_message(&front, VHOST_USER_ADD_MEM_REG, &r, sizeof(r), &fd, 1), 0);
	fd = fake_fd(&env, memfd);
	assert_refused(front_message(&front, VHOST_USER_ADD_MEM_REG, &r, sizeof(r), &fd, 1),
		       "memory regions that overlap in the front end");
	reconnect();
	negotiate(front_features(&front), ALL_PROTOCOL);
	assert_refused(front_message(&front, VHOST_USER_REM_MEM_REG, &r, sizeof(r), NULL, 0),
		       "removal of a memory region that is not there");
}

static void hostile_V07_removal_with_requests_in_flight_ends_them_first(void **state)
{
	struct vhost_user_mem_reg r = { 0, front_region() };
	u8 *out, *in;

	start(ALL_PROTOCOL);
	echo.hold = true;
	out = front_alloc(&front, 64);
	in = front_alloc(&front, 64);
	front_submit(&front, 0, out, 64, in, 64);
	assert_true(echo.holding[0]);
	assert_int_equal(front_message(&front, VHOST_USER_REM_MEM_REG, &r, sizeof(r), NULL, 0), 0);
	/* The rings were in it, too: the device is broken and touches nothing (a crash if it did). */
	assert_false(echo.holding[0]);
	assert_int_equal(env.n_mapped, 0);
	assert_true(echo.vdev.broken);
	assert_int_equal(ask(VHOST_USER_GET_STATUS) & 64, 64);
	for (u16 q = 0; q < N_QUEUES; q++)
		vhost_user_backend_kicked(&env.backend, q);
	/* After a reset it is as new, on the same connection. */
	assert_int_equal(front_number(&front, VHOST_USER_SET_STATUS, 0), 0);
	echo.hold = false;
	assert_int_equal(memory(), 0);
	for (u16 q = 0; q < N_QUEUES; q++) {
		ring_up(q);
		assert_int_equal(enable(q, 1), 0);
	}
	assert_int_equal(front_number(&front, VHOST_USER_SET_STATUS, 15), 0);
	assert_works();
}

/* What a drain put back must be found again without a further kick. */
static void requests_put_back_for_new_memory_are_looked_for(void **state)
{
	u8 *in[N_QUEUES];
	u32 n_written;

	start(ALL_PROTOCOL);
	echo.hold = echo.put_back = true;
	for (u16 q = 0; q < N_QUEUES; q++) {
		in[q] = front_alloc(&front, 64);
		front_submit(&front, q, front_alloc(&front, 64), 64, in[q], 64);
		assert_true(echo.holding[q]);
	}
	assert_int_equal(memory(), 0);
	for (u16 q = 0; q < N_QUEUES; q++)
		assert_true(echo.holding[q]);
	/* The same when another queue stops. */
	get_base(1);
	assert_true(echo.holding[0]);
	assert_false(echo.holding[1]);
	assert_true(echo.holding[2]);
	echo_release(&echo);
	assert_ptr_equal(virtqueue_get_buf(&front.vq[0], &n_written), in[0]);
	assert_ptr_equal(virtqueue_get_buf(&front.vq[2], &n_written), in[2]);
	assert_null(virtqueue_get_buf(&front.vq[1], &n_written));
}

static void hostile_V08_ring_sizes(void **state)
{
	static const u32 bad[] = { 0, 32769, 65536, 0x10040, UINT32_MAX };
	const char *why = "a queue size that no queue can have, or for a running ring";

	for (u32 i = 0; i < ARRAY_SIZE(bad); i++) {
		negotiate(front_features(&front), ALL_PROTOCOL);
		assert_refused(front_state(&front, VHOST_USER_SET_VRING_NUM, 0, bad[i]), why);
		reconnect();
	}
	start(ALL_PROTOCOL);
	assert_refused(front_state(&front, VHOST_USER_SET_VRING_NUM, 0, FRONT_QUEUE_SIZE), why);
	reconnect();
	start(ALL_PROTOCOL & ~P(STATUS)); /* enabled rings are no User-Mode Linux at rest */
	assert_refused(front_state(&front, VHOST_USER_SET_VRING_NUM, 0, FRONT_QUEUE_SIZE), why);
	reconnect();
	negotiate(front_features(&front), ALL_PROTOCOL);
	for (u32 i = 0; i < 1000000; i++)
		assert_int_equal(
			front_state(&front, VHOST_USER_SET_VRING_NUM, i % N_QUEUES, 1 + i % 32768),
			0);
	/* No power of two, more than the device has: broken, not disconnected (G15, G24). */
	assert_int_equal(memory(), 0);
	for (u32 i = 0; i < 2; i++) {
		assert_int_equal(front_ring(&front, 0), 0);
		assert_int_equal(front_state(&front, VHOST_USER_SET_VRING_NUM, 0, i ? 3 : 512), 0);
		assert_int_equal(doorbells(0), 0);
		assert_true(echo.vdev.broken);
		assert_int_equal(front_number(&front, VHOST_USER_SET_STATUS, 0), 0);
	}
}

static void hostile_V09_ring_addresses(void **state)
{
	const char *outside = "ring addresses that are not in the memory table";
	struct vhost_user_vring_addr a = { .index = 0,
					   .desc = FRONT_ADDR,
					   .avail = FRONT_ADDR + 4096,
					   .used = FRONT_ADDR + 8192 };
	u64 *field[] = { &a.desc, &a.avail, &a.used };

	negotiate(front_features(&front), ALL_PROTOCOL);
	assert_refused(front_message(&front, VHOST_USER_SET_VRING_ADDR, &a, sizeof(a), NULL, 0),
		       outside);
	for (u32 i = 0; i < 3; i++) {
		static const u64 bad[] = { 0, FRONT_ADDR - 1, FRONT_ADDR + FRONT_RAM_BYTES,
					   FRONT_GPA, UINT64_MAX };

		for (u32 j = 0; j < ARRAY_SIZE(bad); j++) {
			u64 was = *field[i];

			reconnect();
			negotiate(front_features(&front), ALL_PROTOCOL);
			assert_int_equal(memory(), 0);
			*field[i] = bad[j];
			assert_refused(front_message(&front, VHOST_USER_SET_VRING_ADDR, &a,
						     sizeof(a), NULL, 0),
				       outside);
			*field[i] = was;
		}
	}
	reconnect();
	negotiate(front_features(&front), ALL_PROTOCOL);
	assert_int_equal(memory(), 0);
	a.flags = VHOST_USER_VRING_ADDR_F_LOG;
	assert_refused(front_message(&front, VHOST_USER_SET_VRING_ADDR, &a, sizeof(a), NULL, 0),
		       "a log for a ring without VHOST_F_LOG_ALL");
	/* Misaligned, or over the end of RAM: the driver's doing. */
	for (u32 i = 0; i < 6; i++) {
		u64 was = *field[i % 3];

		reconnect();
		negotiate(front_features(&front), ALL_PROTOCOL);
		assert_int_equal(memory(), 0);
		a.flags = 0;
		*field[i % 3] = i < 3 ? was + 1 : FRONT_ADDR + FRONT_RAM_BYTES - 16;
		assert_int_equal(front_state(&front, VHOST_USER_SET_VRING_NUM, 0, 64), 0);
		assert_int_equal(
			front_message(&front, VHOST_USER_SET_VRING_ADDR, &a, sizeof(a), NULL, 0),
			0);
		assert_int_equal(doorbells(0), 0);
		assert_true(echo.vdev.broken);
		*field[i % 3] = was;
	}
	/* Kicks for a ring without a size, without an address, without features. */
	for (u32 i = 0; i < 3; i++) {
		reconnect();
		if (i < 2)
			negotiate(front_features(&front), ALL_PROTOCOL);
		assert_int_equal(memory(), 0);
		if (i != 0)
			assert_int_equal(front_state(&front, VHOST_USER_SET_VRING_NUM, 0, 64), 0);
		if (i != 1)
			assert_int_equal(front_message(&front, VHOST_USER_SET_VRING_ADDR, &a,
						       sizeof(a), NULL, 0),
					 0);
		assert_refused(doorbells(0), i == 2 ? "a ring that starts before SET_FEATURES"
						    : "a ring that starts without SET_VRING_NUM or "
						      "SET_VRING_ADDR");
	}
	/* A running ring does not move. The same addresses again are no move. */
	reconnect();
	start(ALL_PROTOCOL);
	a.desc = front_gpa(&front, front.vq[0].setup.desc) - FRONT_GPA + FRONT_ADDR;
	a.avail = front_gpa(&front, front.vq[0].setup.driver_area) - FRONT_GPA + FRONT_ADDR;
	a.used = front_gpa(&front, front.vq[0].setup.device_area) - FRONT_GPA + FRONT_ADDR;
	assert_int_equal(front_message(&front, VHOST_USER_SET_VRING_ADDR, &a, sizeof(a), NULL, 0),
			 0);
	assert_works();
	a.desc += 16;
	assert_refused(front_message(&front, VHOST_USER_SET_VRING_ADDR, &a, sizeof(a), NULL, 0),
		       "new addresses for a running ring");
}

static void hostile_V10_ring_bases(void **state)
{
	negotiate(front_features(&front), ALL_PROTOCOL);
	/* Of a ring that never started: as it was set, and no harm done. */
	assert_int_equal(get_base(2), 0);
	assert_int_equal(front_state(&front, VHOST_USER_SET_VRING_BASE, 2, 77), 0);
	assert_int_equal(get_base(2), 77);
	assert_int_equal(get_base(2), 77);
	/* Split: wider than an index. Packed: slots past the ring. */
	for (u32 i = 0; i < 4; i++) {
		static const u32 bad[] = { 0x10000, UINT32_MAX, 64, 64u << 16 | 1 << 15 };

		reconnect();
		front.packed = i >= 2;
		negotiate(front_features(&front), ALL_PROTOCOL);
		assert_int_equal(memory(), 0);
		assert_int_equal(front_ring(&front, 0), 0);
		assert_int_equal(front_state(&front, VHOST_USER_SET_VRING_BASE, 0, bad[i]), 0);
		assert_int_equal(doorbells(0), 0);
		assert_true(echo.vdev.broken);
		assert_string_equal(echo.vdev.fault_what, "position");
	}
	reconnect();
	front.packed = false;
	start(ALL_PROTOCOL);
	assert_refused(front_state(&front, VHOST_USER_SET_VRING_BASE, 0, 0),
		       "a base for a running ring");
	/* An index far ahead of the driver's is a ring fault, found at once. */
	reconnect();
	negotiate(front_features(&front), ALL_PROTOCOL);
	assert_int_equal(memory(), 0);
	assert_int_equal(front_number(&front, VHOST_USER_SET_STATUS, 15), 0);
	assert_int_equal(front_ring(&front, 0), 0);
	assert_int_equal(front_state(&front, VHOST_USER_SET_VRING_BASE, 0, 5), 0);
	assert_int_equal(doorbells(0), 0);
	assert_int_equal(enable(0, 1), 0);
	assert_true(echo.vdev.broken);
	assert_string_equal(echo.vdev.fault_what, "avail-jump");
}

static void hostile_V11_ring_numbers_are_not_cut_off(void **state)
{
	static const u32 by_state[] = { VHOST_USER_SET_VRING_NUM, VHOST_USER_SET_VRING_BASE,
					VHOST_USER_GET_VRING_BASE, VHOST_USER_SET_VRING_ENABLE };
	static const u32 by_fd[] = { VHOST_USER_SET_VRING_KICK, VHOST_USER_SET_VRING_CALL,
				     VHOST_USER_SET_VRING_ERR };
	static const u32 bad[] = { N_QUEUES, 0xff, 0x100, 0x10000, 0x80000000, UINT32_MAX };
	static const u64 bad_fd[] = { N_QUEUES, 0xff, 0x200, 0x10000, 1ull << 32, 1ull << 63 };
	const char *why = "a ring that the device does not have";
	struct vhost_user_vring_addr a = { .desc = FRONT_ADDR,
					   .avail = FRONT_ADDR,
					   .used = FRONT_ADDR };

	for (u32 i = 0; i < ARRAY_SIZE(bad); i++) {
		for (u32 j = 0; j < ARRAY_SIZE(by_state); j++) {
			negotiate(front_features(&front), ALL_PROTOCOL);
			assert_refused(front_state(&front, by_state[j], bad[i], 1), why);
			reconnect();
		}
		for (u32 j = 0; j < 2 * ARRAY_SIZE(by_fd); j++) {
			bool no_fd = j >= ARRAY_SIZE(by_fd);
			u64 number = bad_fd[i] | (no_fd ? VHOST_USER_VRING_NO_FD : 0);
			int fd = no_fd ? -1 : fake_fd(&env, -1);

			negotiate(front_features(&front), ALL_PROTOCOL);
			assert_refused(front_message(&front, by_fd[j % 3], &number, 8, &fd, !no_fd),
				       why);
			reconnect();
		}
		negotiate(front_features(&front), ALL_PROTOCOL);
		assert_int_equal(memory(), 0);
		a.index = bad[i];
		assert_refused(
			front_message(&front, VHOST_USER_SET_VRING_ADDR, &a, sizeof(a), NULL, 0),
			why);
		reconnect();
	}
	/* A call descriptor is taken back by NO_FD; the device goes on without. */
	start(ALL_PROTOCOL);
	assert_int_equal(front_ring_fd(&front, VHOST_USER_SET_VRING_CALL, 0, -1), 0);
	assert_works();
	assert_refused(enable(0, 2), "SET_VRING_ENABLE with neither 0 nor 1");
}

/* All orders of kick descriptor, enable, status and the driver's first request: none is lost. */
static void hostile_V12_first_request_is_served_in_any_order(void **state)
{
	enum { KICK_FD, ENABLE, STATUS, REQUEST, N_STEPS };

	for (u32 order = 0; order < 256; order++) {
		u32 seen = 0, n_written;
		u8 *in;

		for (u32 i = 0; i < N_STEPS; i++)
			seen |= 1 << (order >> 2 * i & 3);
		if (seen != 15)
			continue; /* not a permutation */
		front.packed = order & 1;
		negotiate(front_features(&front), ALL_PROTOCOL);
		assert_int_equal(memory(), 0);
		assert_int_equal(front_ring(&front, 1), 0);
		in = front_alloc(&front, 64);
		for (u32 i = 0; i < N_STEPS; i++) {
			switch (order >> 2 * i & 3) {
			case KICK_FD:
				assert_int_equal(doorbells(1), 0);
				break;
			case ENABLE:
				assert_int_equal(enable(1, 1), 0);
				break;
			case STATUS:
				assert_int_equal(front_number(&front, VHOST_USER_SET_STATUS, 15),
						 0);
				break;
			case REQUEST:
				front_submit(&front, 1, front_alloc(&front, 64), 64, in, 64);
				break;
			}
		}
		assert_ptr_equal(virtqueue_get_buf(&front.vq[1], &n_written), in);
		reconnect();
	}
	/* While disabled: nothing is served, everything later. */
	start(ALL_PROTOCOL);
	assert_int_equal(enable(0, 0), 0);
	u8 *in = front_alloc(&front, 64);
	u32 n_written;

	front_submit(&front, 0, front_alloc(&front, 64), 64, in, 64);
	assert_null(virtqueue_get_buf(&front.vq[0], &n_written));
	assert_int_equal(enable(0, 1), 0);
	assert_ptr_equal(virtqueue_get_buf(&front.vq[0], &n_written), in);
	/* A kick that was rung before its descriptor was replaced. */
	deaf = true;
	in = front_alloc(&front, 64);
	front_submit(&front, 0, front_alloc(&front, 64), 64, in, 64);
	deaf = false;
	assert_int_equal(front_ring_fd(&front, VHOST_USER_SET_VRING_KICK, 0, fake_fd(&env, -1)), 0);
	assert_ptr_equal(virtqueue_get_buf(&front.vq[0], &n_written), in);
}

static void hostile_V15_configuration_out_of_bounds(void **state)
{
	static const struct {
		u32 offset, n_bytes;
	} bad[] = { { 0, 0 },          { 0, 257 },
		    { 256, 1 },        { 255, 2 },
		    { 1, 256 },        { UINT32_MAX, 1 },
		    { 1, UINT32_MAX }, { UINT32_MAX, 256 },
		    { 256, 256 },      { 0, UINT32_MAX - 1 },
		    { 0x80000000, 16 } };

	negotiate(front_features(&front), ALL_PROTOCOL);
	for (u32 i = 0; i < ARRAY_SIZE(bad); i++) {
		struct vhost_user_config c = { .offset = bad[i].offset, .n_bytes = bad[i].n_bytes };

		assert_int_equal(
			front_message(&front, VHOST_USER_GET_CONFIG, &c, sizeof(c), NULL, 0), 0);
		assert_int_equal(env.answer_bytes, 12); /* no payload: no */
	}
	for (u32 i = 0; i < ARRAY_SIZE(bad); i++) {
		struct vhost_user_config c = { .offset = bad[i].offset, .n_bytes = bad[i].n_bytes };
		u32 n = 12 + min_u64(c.n_bytes, 256);

		if (c.n_bytes > 256) {
			assert_refused(front_message(&front, VHOST_USER_SET_CONFIG, &c, n, NULL, 0),
				       "a configuration write longer than its message");
			reconnect();
			negotiate(front_features(&front), ALL_PROTOCOL);
		} else {
			memset(c.bytes, 0x55, 256);
			assert_int_equal(
				front_message(&front, VHOST_USER_SET_CONFIG, &c, n, NULL, 0), 0);
		}
		for (u32 at = 0; at < 16; at++) /* {1, 256} alone reaches what can be written */
			assert_true(echo.config[at] == at ||
				    (at >= 4 && at < 8 && echo.config[at] == 0x55));
	}
}

/* The connection ends at each step of a start, with a request in the device's hands or not. */
static void hostile_V17_disconnect_at_every_step(void **state)
{
	for (u32 round = 0; round < 10000; round++) {
		u32 stop_at = round % 12, step = 0;

		front.packed = round & 16;
		front.event_idx = round & 32;
		echo.hold = round & 64;
		echo.put_back = round & 128;
#define STEP(x)                            \
	do {                               \
		if (step++ == stop_at)     \
			goto disconnected; \
		x;                         \
	} while (0)
		STEP(negotiate(front_features(&front), ALL_PROTOCOL));
		STEP(assert_int_equal(memory(), 0));
		STEP(assert_int_equal(front_ring(&front, 0), 0));
		STEP(assert_int_equal(doorbells(0), 0));
		STEP(assert_int_equal(enable(0, 1), 0));
		STEP(assert_int_equal(front_number(&front, VHOST_USER_SET_STATUS, 15), 0));
		STEP(front_submit(&front, 0, front_alloc(&front, 64), 64, front_alloc(&front, 64),
				  64));
		STEP(assert_int_equal(memory(), 0));
		STEP(ring_up(1));
		STEP(get_base(0));
		STEP(assert_int_equal(front_number(&front, VHOST_USER_SET_STATUS, 0), 0));
disconnected:
		echo.hold = round & 64; /* the device outlives its connections */
		reconnect();
		assert_int_equal(echo.vdev.status, 0);
	}
	echo.hold = false;
	start(ALL_PROTOCOL);
	assert_works();
}

static void hostile_V18_owner_twice_and_features_changed(void **state)
{
	start(ALL_PROTOCOL);
	assert_int_equal(front_message(&front, VHOST_USER_SET_OWNER, NULL, 0, NULL, 0), 0);
	assert_int_equal(front_number(&front, VHOST_USER_SET_FEATURES, front_features(&front)), 0);
	assert_works();
	assert_refused(front_number(&front, VHOST_USER_SET_FEATURES,
				    front_features(&front) | 1ull << VIRTIO_F_EVENT_IDX),
		       "other features while rings run");
	reconnect();
	assert_refused(front_number(&front, VHOST_USER_SET_FEATURES, 1ull << 6),
		       "features that were not offered");
	reconnect();
	assert_refused(front_number(&front, VHOST_USER_SET_FEATURES,
				    1ull << VHOST_F_LOG_ALL | 1ull << VIRTIO_F_VERSION_1),
		       "features that were not offered");
	reconnect();
	/* V13, V14, V21: logs, in-flight regions, an IOMMU, RARP of a device that is no network. */
	for (u32 bit = 0; bit < 64; bit++) {
		if (ALL_PROTOCOL >> bit & 1)
			continue;
		assert_refused(front_number(&front, VHOST_USER_SET_PROTOCOL_FEATURES, 1ull << bit),
			       "protocol features that were not offered");
		reconnect();
	}
	assert_refused(front_number(&front, VHOST_USER_SET_STATUS, 1),
		       "a request that was not negotiated");
	reconnect();
	negotiate(front_features(&front), ALL_PROTOCOL);
	assert_refused(front_number(&front, VHOST_USER_SET_STATUS, 0x100),
		       "a status wider than a byte");
}

/* Each request whose feature was not negotiated, with all others negotiated. */
static void hostile_V22_requests_not_negotiated_are_refused(void **state)
{
	static const struct {
		u32 request;
		u64 feature; /* 0: never offered */
		u32 n_bytes, n_fds;
	} rows[] = {
		{ VHOST_USER_GET_CONFIG, P(CONFIG), 12 + 16, 0 },
		{ VHOST_USER_SET_CONFIG, P(CONFIG), 12 + 16, 0 },
		{ VHOST_USER_SET_BACKEND_REQ_FD, P(BACKEND_REQ), 0, 1 },
		{ VHOST_USER_GET_QUEUE_NUM, P(MQ), 0, 0 },
		{ VHOST_USER_RESET_DEVICE, P(RESET_DEVICE), 0, 0 },
		{ VHOST_USER_GET_MAX_MEM_SLOTS, P(CONFIGURE_MEM_SLOTS), 0, 0 },
		{ VHOST_USER_ADD_MEM_REG, P(CONFIGURE_MEM_SLOTS), 40, 1 },
		{ VHOST_USER_REM_MEM_REG, P(CONFIGURE_MEM_SLOTS), 40, 0 },
		{ VHOST_USER_SET_STATUS, P(STATUS), 8, 0 },
		{ VHOST_USER_GET_STATUS, P(STATUS), 0, 0 },
		{ VHOST_USER_SEND_RARP, 0, 8, 0 },
		{ VHOST_USER_NET_SET_MTU, 0, 8, 0 },
		{ VHOST_USER_SET_LOG_BASE, 0, 16, 1 }, /* V13 */
		{ VHOST_USER_SET_LOG_FD, 0, 0, 1 },
		{ VHOST_USER_GET_INFLIGHT_FD, 0, 24, 0 }, /* V14 */
		{ VHOST_USER_SET_INFLIGHT_FD, 0, 24, 1 },
		{ VHOST_USER_IOTLB_MSG, 0, 32, 0 }, /* V21 */
		{ VHOST_USER_SET_VRING_ENDIAN, 0, 8, 0 },
		{ VHOST_USER_CREATE_CRYPTO_SESSION, 0, 0, 0 },
		{ VHOST_USER_CLOSE_CRYPTO_SESSION, 0, 8, 0 },
		{ VHOST_USER_POSTCOPY_ADVISE, 0, 0, 0 },
		{ VHOST_USER_POSTCOPY_LISTEN, 0, 0, 0 },
		{ VHOST_USER_POSTCOPY_END, 0, 0, 0 },
		{ VHOST_USER_GPU_SET_SOCKET, 0, 0, 1 },
		{ VHOST_USER_VRING_KICK, 0, 8, 0 },
	};

	for (u32 i = 0; i < ARRAY_SIZE(rows); i++) {
		u8 payload[64] = { 0 };
		int fd = rows[i].n_fds ? fake_fd(&env, memfd) : -1;

		negotiate(front_features(&front), ALL_PROTOCOL & ~rows[i].feature);
		assert_refused(front_message(&front, rows[i].request, payload, rows[i].n_bytes, &fd,
					     rows[i].n_fds),
			       "a request that was not negotiated");
		reconnect();
	}
}

/* Any messages in any order: the books stay right, the device comes back (V17, V16). */
static void random_messages_never_leave_anything_behind(void **state)
{
	static const u32 requests[] = {
		1,  2,  3,  4,  5,  8,  8,  9,  9,  10, 11, 12, 12, 13, 14,
		15, 16, 17, 18, 18, 21, 24, 25, 34, 36, 37, 38, 39, 39, 40,
	};
	u64 random = rig_seed(), n_started = 0;

	for (u32 round = 0; round < 3000; round++) {
		int err = 0;

		front.packed = rig_random(&random) & 1;
		echo.hold = rig_random(&random) & 1;
		echo.put_back = rig_random(&random) & 1;
		if (rig_random(&random) & 1)
			start(ALL_PROTOCOL & (rig_random(&random) | P(MQ) | P(CONFIG)));
		for (u32 i = 0; i < 40 && err == 0; i++) {
			u32 request = requests[rig_random(&random) % ARRAY_SIZE(requests)];
			u16 queue = rig_random(&random) % N_QUEUES;
			struct vhost_user_config c = { rig_random(&random) % 20, 12, 0, { 7 } };
			struct vhost_user_mem_reg r = page(rig_random(&random) % 8);
			int fd;

			switch (request) {
			case VHOST_USER_SET_FEATURES:
				err = front_number(&front, request, front_features(&front));
				break;
			case VHOST_USER_SET_PROTOCOL_FEATURES:
				err = front_number(&front, request, ALL_PROTOCOL);
				break;
			case VHOST_USER_SET_MEM_TABLE:
				err = memory();
				break;
			case VHOST_USER_SET_VRING_NUM:
			case VHOST_USER_SET_VRING_BASE:
			case VHOST_USER_GET_VRING_BASE:
				err = front_state(&front, request, queue,
						  64 << rig_random(&random) % 2);
				break;
			case VHOST_USER_SET_VRING_ENABLE:
				err = enable(queue, rig_random(&random) % 2);
				break;
			case VHOST_USER_SET_VRING_ADDR:
				front.used_bytes = 0;
				err = front_ring(&front, queue);
				break;
			case VHOST_USER_SET_VRING_KICK:
				err = doorbells(queue);
				break;
			case VHOST_USER_SET_VRING_CALL:
			case VHOST_USER_SET_VRING_ERR:
				fd = rig_random(&random) % 2 ? fake_fd(&env, -1) : -1;
				err = front_ring_fd(&front, request, queue, fd);
				break;
			case VHOST_USER_SET_BACKEND_REQ_FD:
				fd = fake_fd(&env, -1);
				err = front_message(&front, request, NULL, 0, &fd, 1);
				break;
			case VHOST_USER_GET_CONFIG:
			case VHOST_USER_SET_CONFIG:
				err = front_message(&front, request, &c, 24, NULL, 0);
				break;
			case VHOST_USER_ADD_MEM_REG:
				fd = fake_fd(&env, memfd);
				err = front_message(&front, request, &r, sizeof(r), &fd, 1);
				break;
			case VHOST_USER_REM_MEM_REG:
				err = front_message(&front, request, &r, sizeof(r), NULL, 0);
				break;
			case VHOST_USER_SET_STATUS:
				err = front_number(&front, request, rig_random(&random) % 16);
				break;
			default:
				err = front_message(&front, request, NULL, 0, NULL, 0);
			}
			for (u16 q = 0; q < N_QUEUES; q++)
				n_started += echo.vdev.queues[q].started;
			/* Garbage in the RAM that the rings lie in. */
			if (rig_random(&random) % 4 == 0)
				front.ram[rig_random(&random) % 8192] = rig_random(&random);
			vhost_user_backend_kicked(&env.backend, queue);
			if (rig_random(&random) % 8 == 0)
				echo_release(&echo);
		}
		reconnect();
	}
	print_message("%llu messages handled, %llu ring-steps\n", (unsigned long long)env.n_handled,
		      (unsigned long long)n_started);
	assert_true(env.n_handled > 20000 && n_started > 1000);
	echo.hold = false;
	memset(front.ram, 0, FRONT_RAM_BYTES);
	start(ALL_PROTOCOL);
	assert_works();
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(qemu_order_starts_rings_in_both_formats),
		T(qemu_rng_order_without_driver_ok_works),
		T(without_protocol_features_rings_are_enabled_at_start),
		T(uml_order_base_0_of_a_packed_ring_means_its_start),
		T(uml_driver_that_comes_back_meets_a_reset_device),
		T(stop_and_go_on_at_every_position),
		T(need_reply_is_answered_once_for_each_request),
		T(config_change_reaches_the_front_end_and_never_waits),
		T(reset_device_leaves_memory_and_starts_again),
		T(features_that_the_device_refuses_are_seen_in_the_status),
		T(rings_without_version_1_do_not_start),
		T(configuration_is_read_and_written_by_any_size),
		T(requests_put_back_for_new_memory_are_looked_for),
		T(hostile_V01_closed_at_every_byte_leaves_nothing),
		T(hostile_V03_a_hundred_thousand_descriptors_come_and_go),
		T(hostile_V04_a_kick_descriptor_that_cannot_be_waited_for),
		T(hostile_V05_bad_memory_tables_are_refused),
		T(hostile_V07_slots_fill_up_and_empty_again),
		T(hostile_V07_removal_with_requests_in_flight_ends_them_first),
		T(hostile_V08_ring_sizes),
		T(hostile_V09_ring_addresses),
		T(hostile_V10_ring_bases),
		T(hostile_V11_ring_numbers_are_not_cut_off),
		T(hostile_V12_first_request_is_served_in_any_order),
		T(hostile_V15_configuration_out_of_bounds),
		T(hostile_V17_disconnect_at_every_step),
		T(hostile_V18_owner_twice_and_features_changed),
		T(hostile_V22_requests_not_negotiated_are_refused),
		T(random_messages_never_leave_anything_behind),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
