/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A hostile back end against the vhost-user front end, with the block driver on top. An input
 * takes steps of the owner (requests, reads of the configuration), of the back end (questions,
 * doorbells, leaving) and of the loop; and says of each answer how it lies. Without input left
 * the back end is honest.
 *
 * What must hold: the device is lost once a connection and at most, each request ends exactly
 * once, nothing stays mapped or open, and there is an end to every call.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/shared.h"
#include "driver/blk.h"
#include "spec/blk.h"
#include "tests/fuzz/fuzz.h"
#include "transport/inproc/link.h"
#include "transport/vhost_user/frontend.h"

#define RAM_BYTES (8u << 20)
#define MAX_STEPS 400
#define N_REQUESTS 8
#define FD 3 /* of everything: nobody looks behind it here */
#define CLAIMED 0x7f0000000000ull

#define BIT(n) (1ull << (n))
#define FEATURES                                                                            \
	(BIT(VIRTIO_F_VERSION_1) | BIT(VIRTIO_F_RING_PACKED) | BIT(VIRTIO_F_EVENT_IDX) |    \
	 BIT(VIRTIO_F_INDIRECT_DESC) | BIT(VHOST_USER_F_PROTOCOL_FEATURES) |                \
	 BIT(VIRTIO_BLK_F_SEG_MAX) | BIT(VIRTIO_BLK_F_BLK_SIZE) | BIT(VIRTIO_BLK_F_FLUSH) | \
	 BIT(VIRTIO_BLK_F_MQ))

static struct inproc_platform memory;
static struct vhost_user_front front;
static struct choices *input;
static bool open_now, bells[VHOST_USER_FRONT_MAX_QUEUES];
static u32 n_bells;
static u64 protocol_offered, back_status;
static u8 answer[4096];
static u32 n_answer, answer_at;
static int answer_error;
static u64 n_connected, n_lost, n_live, n_refused, n_changes, n_restored;

static struct request {
	struct driver_blk_request req;
	struct span sg;
	bool busy;
} requests[N_REQUESTS];
static u8 *data;

/* ---- the back end ------------------------------------------------------------------------- */

static void put(const void *bytes, u32 n_bytes)
{
	MUST(n_answer + n_bytes <= sizeof(answer));
	memcpy(answer + n_answer, bytes, n_bytes);
	n_answer += n_bytes;
}

/* The honest payload of the answer to `h`; returns its length. */
static u32 honest(const struct vhost_user_header *h, const u8 *payload, u8 *out)
{
	struct virtio_blk_config config = {
		.capacity = le64_of(1024),
		.seg_max = le32_of(16),
		.blk_size = le32_of(512),
		.num_queues = le16_of(2),
	};
	u64 number = 0;
	u32 n;

	switch (h->request) {
	case VHOST_USER_GET_FEATURES:
		number = FEATURES;
		break;
	case VHOST_USER_GET_PROTOCOL_FEATURES:
		number = protocol_offered;
		break;
	case VHOST_USER_GET_QUEUE_NUM:
		number = 4;
		break;
	case VHOST_USER_GET_MAX_MEM_SLOTS:
		number = 32;
		break;
	case VHOST_USER_GET_STATUS:
		number = back_status;
		break;
	case VHOST_USER_GET_VRING_BASE:
	case VHOST_USER_GET_CONFIG:
		n = h->n_bytes;
		memcpy(out, payload, n);
		if (h->request == VHOST_USER_GET_CONFIG && n > VHOST_USER_CONFIG_HEADER_BYTES)
			memcpy(out + VHOST_USER_CONFIG_HEADER_BYTES, &config,
			       min_u64(sizeof(config), n - VHOST_USER_CONFIG_HEADER_BYTES));
		return n;
	}
	memcpy(out, &number, sizeof(number));
	return sizeof(number);
}

static bool is_answered(const struct vhost_user_header *h)
{
	switch (h->request) {
	case VHOST_USER_GET_FEATURES:
	case VHOST_USER_GET_PROTOCOL_FEATURES:
	case VHOST_USER_GET_QUEUE_NUM:
	case VHOST_USER_GET_MAX_MEM_SLOTS:
	case VHOST_USER_GET_STATUS:
	case VHOST_USER_GET_VRING_BASE:
	case VHOST_USER_GET_CONFIG:
		return true;
	default:
		return h->flags & VHOST_USER_FLAG_NEED_REPLY;
	}
}

static void ask(struct choices *c)
{
	u8 bytes[64];
	u32 n = choose(c) % sizeof(bytes);
	struct vhost_user_header h = { VHOST_USER_BACKEND_CONFIG_CHANGE_MSG, VHOST_USER_VERSION,
				       0 };

	if (n & 1) { /* what is agreed, often enough */
		h.flags |= n & 2 ? VHOST_USER_FLAG_NEED_REPLY : 0;
		vhost_user_front_requested(&front, &h, sizeof(h));
		return;
	}
	for (u32 i = 0; i < n; i++)
		bytes[i] = choose(c);
	vhost_user_front_requested(&front, bytes, n);
}

static int env_send(struct vhost_user_front_env *env, const void *bytes, u32 n_bytes,
		    const int *fds, u32 n_fds)
{
	const u8 *payload = (const u8 *)bytes + sizeof(struct vhost_user_header);
	u8 out[sizeof(union vhost_user_payload)] = { 0 };
	struct vhost_user_header h;
	u32 n;

	MUST(open_now && n_bytes >= sizeof(h));
	memcpy(&h, bytes, sizeof(h));
	MUST(h.n_bytes == n_bytes - sizeof(h) && n_fds <= VHOST_USER_MAX_FDS);
	for (u32 i = 0; i < n_fds; i++)
		MUST(fds[i] == FD);
	if (h.request == VHOST_USER_SET_STATUS)
		memcpy(&back_status, payload, sizeof(back_status));
	/* What is left of a longer answer than was read lies before the next one. */
	n_answer -= answer_at;
	memmove(answer, answer + answer_at, n_answer);
	answer_at = 0;
	answer_error = 0;
	if (!is_answered(&h))
		return 0;
	n = honest(&h, payload, out);
	h.flags = VHOST_USER_VERSION | VHOST_USER_FLAG_REPLY;
	h.n_bytes = n;
	switch (choose(input) % 16) {
	case 9: /* other contents */
		for (u32 i = 0; i < n && i < 32; i++)
			out[i + (n > 32 ? 12 : 0)] = choose(input);
		break;
	case 10: /* another header */
		h.request ^= choose(input);
		h.flags ^= choose(input);
		h.n_bytes = (u32)choose16(input) << (choose(input) & 16);
		break;
	case 11:
		h.n_bytes = n - 1 + choose(input) % 3;
		break;
	case 12: /* says no */
		n = h.n_bytes = 0;
		break;
	case 13:
		answer_error = -ETIMEDOUT;
		break;
	case 14:
		return -EPIPE;
	case 15:
		ask(input);
		break;
	}
	put(&h, sizeof(h));
	put(out, n);
	return 0;
}

static int env_receive(struct vhost_user_front_env *env, void *bytes, u32 n_bytes)
{
	if (answer_error)
		return answer_error;
	if (!open_now)
		return -EPIPE;
	if (n_answer - answer_at < n_bytes)
		return -ETIMEDOUT;
	MUST(n_bytes <= sizeof(struct vhost_user_config)); /* into what is lent for it */
	memcpy(bytes, answer + answer_at, n_bytes);
	answer_at += n_bytes;
	return 0;
}

static int env_open_requests(struct vhost_user_front_env *env)
{
	return choose(input) == 255 ? -EMFILE : FD;
}

static int env_answer(struct vhost_user_front_env *env, const void *bytes, u32 n_bytes)
{
	u8 read[20];

	MUST(n_bytes == sizeof(read));
	memcpy(read, bytes, n_bytes); /* a sanitizer looks at each byte that leaves us */
	return choose(input) == 255 ? -EAGAIN : 0;
}

static int env_open_doorbells(struct vhost_user_front_env *env, u16 queue, int *kick_fd,
			      int *call_fd)
{
	MUST(!bells[queue]);
	if (choose(input) == 255)
		return -EMFILE;
	bells[queue] = true;
	n_bells++;
	*kick_fd = *call_fd = FD;
	return 0;
}

static void env_close_doorbells(struct vhost_user_front_env *env, u16 queue)
{
	n_bells -= bells[queue];
	bells[queue] = false;
}

static void env_kick(struct vhost_user_front_env *env, u16 queue)
{
	MUST(open_now && bells[queue]);
}

static void env_lost(struct vhost_user_front_env *env)
{
	MUST(open_now);
	open_now = false;
	n_answer = answer_at = 0;
	n_lost++;
}

static void env_wake(struct vhost_user_front_env *env)
{
	n_changes++;
}

static const struct vhost_user_front_env_ops env_ops = {
	.send = env_send,
	.receive = env_receive,
	.open_requests = env_open_requests,
	.answer = env_answer,
	.open_doorbells = env_open_doorbells,
	.close_doorbells = env_close_doorbells,
	.kick = env_kick,
	.lost = env_lost,
	.wake = env_wake,
};

static int connect_again(void)
{
	static const u64 offers[] = {
		UINT64_MAX,
		0,
		BIT(VHOST_USER_PROTOCOL_F_CONFIG),
		BIT(VHOST_USER_PROTOCOL_F_CONFIG) | BIT(VHOST_USER_PROTOCOL_F_REPLY_ACK),
		UINT64_MAX & ~BIT(VHOST_USER_PROTOCOL_F_STATUS),
		UINT64_MAX & ~BIT(VHOST_USER_PROTOCOL_F_REPLY_ACK),
	};

	protocol_offered = CHOOSE_OF(input, offers);
	back_status = 0;
	n_answer = answer_at = 0;
	open_now = true;
	if (vhost_user_front_connect(&front) < 0)
		return -ENODEV;
	n_connected++;
	return 0;
}

/* ---- the owner ------------------------------------------------------------------------------ */

static void done(struct driver_blk_request *req, int err)
{
	struct request *r = container_of(req, struct request, req);

	MUST(r->busy);
	r->busy = false;
}

static void submit(struct choices *c)
{
	struct request *r = &requests[choose(c) % N_REQUESTS];

	if (r->busy)
		return;
	r->sg = (struct span){ data, 512u * (1 + choose(c) % 8) };
	r->req = (struct driver_blk_request){ .op = choose(c) % 6,
					      .queue = choose(c),
					      .sector = choose(c),
					      .n_sectors = choose(c),
					      .sg = &r->sg,
					      .n_sg = 1,
					      .done = done };
	r->busy = true;
	if (driver_blk_submit(&front.device, &r->req) < 0)
		r->busy = false;
}

static void gone(void)
{
	if (!open_now)
		virtio_device_gone(&front.device);
}

static void step(struct choices *c)
{
	struct virtio_device *d = &front.device;

	switch (choose(c) % 10) {
	case 0:
	case 1:
		submit(c);
		break;
	case 2:
		vhost_user_front_called(&front, choose(c));
		break;
	case 3:
		if (open_now)
			ask(c);
		break;
	case 4:
		vhost_user_front_lost(&front, "fuzzed");
		break;
	case 5:
		gone();
		if (!open_now && connect_again() == 0)
			n_restored += d->state == VIRTIO_STATE_BROKEN &&
				      virtio_device_back(d) == 0 && d->state == VIRTIO_STATE_LIVE;
		break;
	case 6:
		vhost_user_front_dispatch(&front);
		break;
	case 7:
		virtio_cread(d, choose16(c), 1u << choose(c) % 4);
		break;
	case 8:
		virtio_cwrite(d, choose16(c), 1u << choose(c) % 4, choose(c));
		break;
	case 9:
		virtio_break_device(d);
		break;
	}
	gone();
	virtio_poll();
	gone();
}

int LLVMFuzzerTestOneInput(const u8 *bytes, size_t n_bytes)
{
	static _Alignas(4096) u8 ram[RAM_BYTES];
	static struct vhost_user_front_env env = { &env_ops };
	static const struct vhost_user_front_memory shared = {
		{ INPROC_GPA, RAM_BYTES, CLAIMED, 0 }, FD
	};
	struct choices c = { bytes, n_bytes };
	u64 addr;

	input = &c;
	memset(requests, 0, sizeof(requests));
	inproc_platform_init(&memory, ram, RAM_BYTES);
	data = memory.platform.ops->dma_alloc(&memory.platform, 4096, 64, &addr);
	vhost_user_front_init(&front, &env, &memory.platform, VIRTIO_ID_BLOCK, "fuzz", &shared, 1);
	front.hidden.word[0] = choose(&c) & 1 ? BIT(VIRTIO_F_RING_PACKED) : 0;
	MUST(register_virtio_driver(&driver_blk) == 0);
	if (connect_again() == 0) {
		n_refused += register_virtio_device(&front.device) < 0;
		n_live += front.device.state == VIRTIO_STATE_LIVE;
		gone();
		for (int i = 0; i < MAX_STEPS && c.n_bytes > 0; i++)
			step(&c);
		unregister_virtio_device(&front.device);
	}
	unregister_virtio_driver(&driver_blk);
	if (open_now)
		vhost_user_front_lost(&front, "over");
	for (u32 i = 0; i < N_REQUESTS; i++)
		MUST(!requests[i].busy);
	MUST(n_bells == 0 && memory.n_mapped == 0);
	return 0;
}

bool fuzz_reached_enough(void)
{
	printf("connected %llu, lost %llu, live %llu, refused %llu, changes %llu, restored %llu\n",
	       (unsigned long long)n_connected, (unsigned long long)n_lost,
	       (unsigned long long)n_live, (unsigned long long)n_refused,
	       (unsigned long long)n_changes, (unsigned long long)n_restored);
	return n_connected > 50 && n_lost > 50 && n_live > 20 && n_refused > 5 && n_changes > 10 &&
	       n_restored > 5;
}
