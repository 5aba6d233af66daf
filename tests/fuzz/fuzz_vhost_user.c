/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * libFuzzer against the vhost-user back end: an input is a list of steps that a front end and
 * its guest may take, in any order: messages (well made, half made, or raw bytes) with
 * descriptors, doorbells, bytes written to the RAM that rings and requests lie in, and the device
 * that completes late or polls. One step is a whole good start, so that few bytes lead deep.
 *
 * The device is an echo, or a block device on a disk in memory. All bookkeeping of fake_env.h
 * holds after each input. With VIADUCT_FUZZ_MUST_REACH set, a run whose inputs reached nothing
 * fails.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "device/blk.h"
#include "tests/support/echo.h"
#include "tests/support/fake_env.h"
#include "tests/support/front.h"
#include "tests/support/ram_storage.h"

enum step {
	MESSAGE, /* request, flags, descriptors, length, payload */
	BYTES, /* count, bytes: what the codec makes of them */
	KICK, /* queue */
	SCRIBBLE, /* offset (2), byte */
	START, /* a whole good start: bit 0 packed, bit 1 event index, bit 2 without STATUS */
	REQUEST, /* queue: one good request of the driver's, with a kick */
	HANGUP,
	HOLD, /* what the echo does with the next requests */
	RELEASE,
	CONFIG_CHANGED, /* bit 0: the request socket is full */
	POLLING, /* bit 0: on */
	N_STEPS
};

#define N_QUEUES 2

struct input {
	const u8 *at;
	size_t n_bytes;
};

static struct fake_env env;
static struct echo echo;
static struct front front;
static struct ram_storage *disk;
static struct vdev *blk;
static int memfd;
static u64 n_messages, n_rings, n_answered, n_refused;

static u8 next(struct input *in)
{
	if (in->n_bytes == 0)
		return 0;
	in->n_bytes--;
	return *in->at++;
}

static int send_message(struct front *f, const struct vhost_user_header *h, const void *payload,
			const int *fds, u32 n_fds)
{
	u8 bytes[12 + 512];

	memcpy(bytes, h, 12);
	if (h->n_bytes)
		memcpy(bytes + 12, payload, h->n_bytes);
	return fake_feed(&env, bytes, 12 + h->n_bytes, fds, n_fds);
}

static void kick(struct front *f, u16 queue)
{
	vhost_user_backend_kicked(&env.backend, queue);
}

static void report(void)
{
	printf("%llu messages accepted, %llu connections refused, %llu rings started, "
	       "%llu requests answered\n",
	       (unsigned long long)n_messages, (unsigned long long)n_refused,
	       (unsigned long long)n_rings, (unsigned long long)n_answered);
	fflush(stdout);
	if (getenv("VIADUCT_FUZZ_MUST_REACH") &&
	    !(n_messages && n_refused && n_rings && n_answered))
		_exit(1);
}

static void prepare(void)
{
	struct device_blk_config config = { .name = "disk",
					    .n_queues = N_QUEUES,
					    .queue_size = FRONT_QUEUE_SIZE };

	disk = ram_storage_create(1 << 16);
	config.storage = &disk->storage;
	blk = device_blk_init(calloc(1, device_blk_bytes(&config)), &config);
	memfd = memfd_create("ram", MFD_CLOEXEC);
	if (memfd < 0 || ftruncate(memfd, FRONT_RAM_BYTES))
		abort();
	front.ram = mmap(NULL, FRONT_RAM_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, memfd, 0);
	front.send = send_message;
	front.kick = kick;
	atexit(report);
}

/* Some descriptors of some kinds: bits 0-3 of `what` say how many, the rest what they are. */
static u32 take_fds(u8 what, int *fds)
{
	u32 n = what & 15;

	n = n > VHOST_USER_MAX_FDS ? 1 : n;
	for (u32 i = 0; i < n; i++) {
		fds[i] = fake_fd(&env, what & 16 ? -1 : memfd);
		env.fds[fds[i]].unwatchable = what & 32;
	}
	return n;
}

static u32 close_fds(const int *fds, u32 n_fds)
{
	for (u32 i = 0; i < n_fds; i++)
		env.env.ops->close(&env.env, fds[i]);
	return 0;
}

static int step_message(struct input *in)
{
	struct vhost_user_header h = { next(in), 0, 0 };
	u8 payload[512] = { 0 };
	int fds[VHOST_USER_MAX_FDS];
	u32 n_fds;

	h.flags = next(in) ^ VHOST_USER_VERSION;
	n_fds = take_fds(next(in), fds);
	h.n_bytes = next(in) * 2;
	for (u32 i = 0; i < h.n_bytes; i++)
		payload[i] = next(in);
	return send_message(&front, &h, payload, fds, n_fds);
}

static int step_start(u8 how)
{
	const u64 protocol =
		1ull << VHOST_USER_PROTOCOL_F_MQ | 1ull << VHOST_USER_PROTOCOL_F_REPLY_ACK |
		1ull << VHOST_USER_PROTOCOL_F_BACKEND_REQ | 1ull << VHOST_USER_PROTOCOL_F_CONFIG |
		1ull << VHOST_USER_PROTOCOL_F_RESET_DEVICE |
		1ull << VHOST_USER_PROTOCOL_F_CONFIGURE_MEM_SLOTS |
		(u64) !(how & 4) << VHOST_USER_PROTOCOL_F_STATUS;
	int err, fd = fake_fd(&env, -1);

	front.packed = how & 1;
	front.event_idx = how & 2;
	front.used_bytes = 0;
	err = front_number(&front, VHOST_USER_SET_PROTOCOL_FEATURES, protocol);
	if (err) {
		close_fds(&fd, 1);
		return err;
	}
	err = front_message(&front, VHOST_USER_SET_BACKEND_REQ_FD, NULL, 0, &fd, 1);
	if (!err)
		err = front_number(&front, VHOST_USER_SET_FEATURES, front_features(&front));
	if (!err)
		err = front_memory(&front, fake_fd(&env, memfd));
	for (u16 q = 0; q < N_QUEUES && !err; q++) {
		err = front_ring(&front, q);
		if (!err)
			err = front_ring_fd(&front, VHOST_USER_SET_VRING_CALL, q,
					    fake_fd(&env, -1));
		if (!err)
			err = front_ring_fd(&front, VHOST_USER_SET_VRING_KICK, q,
					    fake_fd(&env, -1));
		if (!err)
			err = front_state(&front, VHOST_USER_SET_VRING_ENABLE, q, 1);
	}
	if (!err && !(how & 4))
		err = front_number(&front, VHOST_USER_SET_STATUS, 15);
	return err;
}

/* As good as the fuzzer has left the driver's ring; 64 bytes each way, a blk header in front. */
static void step_request(struct input *in)
{
	u8 what = next(in);
	struct virtqueue *vq = &front.vq[what % N_QUEUES];
	u8 *p = front.ram + FRONT_RAM_BYTES / 2 + what * 1024u;
	struct span sg[] = { { p, 16 }, { p + 16, what & 2 ? 512 : 48 }, { p + 600, 100 } };
	u32 n_written;

	if (!vq->setup.size)
		return;
	memset(p, 0, 16);
	p[0] = what & 2 ? 1 : 0;
	if (virtqueue_add_buf(vq, sg, 2, 1, p) == 0)
		virtqueue_kick(vq);
	while (virtqueue_get_buf(vq, &n_written))
		n_answered++;
}

static int take_step(struct input *in)
{
	u8 what, bytes[256];
	int fds[VHOST_USER_MAX_FDS];
	u32 n_fds;

	switch (next(in) % N_STEPS) {
	case MESSAGE:
		return step_message(in);
	case BYTES:
		n_fds = take_fds(next(in), fds);
		what = next(in);
		for (u32 i = 0; i < what; i++)
			bytes[i] = next(in);
		if (what == 0)
			n_fds = close_fds(fds, n_fds);
		return fake_feed(&env, bytes, what, fds, n_fds);
	case KICK:
		what = next(in) % env.backend.vdev->n_queues;
		if (env.watched[what] >= 0)
			vhost_user_backend_kicked(&env.backend, what);
		return 0;
	case SCRIBBLE: {
		u32 at = next(in);

		at |= next(in) << 8;
		front.ram[at] = next(in);
		return 0;
	}
	case START:
		return step_start(next(in));
	case REQUEST:
		step_request(in);
		return 0;
	case HANGUP:
		return -1;
	case HOLD:
		what = next(in);
		echo.hold = what & 1;
		echo.put_back = what & 2;
		return 0;
	case RELEASE:
		if (env.backend.vdev == &echo.vdev)
			echo_release(&echo);
		return 0;
	case CONFIG_CHANGED:
		env.request_full = next(in) & 1;
		vdev_config_changed(env.backend.vdev);
		env.request_full = false;
		vhost_user_backend_retry(&env.backend);
		return 0;
	case POLLING:
		vdev_set_polling(env.backend.vdev, next(in) & 1);
		vdev_poll(env.backend.vdev);
		return 0;
	}
	return 0;
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t n_bytes);

int LLVMFuzzerTestOneInput(const u8 *data, size_t n_bytes)
{
	struct input in = { data, n_bytes };

	if (!blk)
		prepare();
	/* The part of RAM that inputs can have changed. */
	memset(front.ram, 0, 65536);
	memset(front.vq, 0, sizeof(front.vq));
	echo_init(&echo, N_QUEUES);
	fake_env_init(&env, next(&in) & 1 ? blk : &echo.vdev);
	fake_env_open(&env);
	while (in.n_bytes > 0) {
		bool started[N_QUEUES];

		for (u16 q = 0; q < N_QUEUES; q++)
			started[q] = env.backend.vdev->queues[q].started;
		if (take_step(&in) < 0) {
			n_refused += env.why != NULL;
			fake_env_close(&env);
			fake_env_open(&env);
			memset(front.vq, 0, sizeof(front.vq));
			continue;
		}
		for (u16 q = 0; q < N_QUEUES; q++)
			n_rings += env.backend.vdev->queues[q].started && !started[q];
	}
	vdev_set_polling(env.backend.vdev, false);
	fake_env_close(&env);
	n_messages += env.n_handled;
	return 0;
}
