/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A hostile device against each driver. An input chooses a driver, then takes steps, of the
 * driver's owner (requests), of the device (answers, lies, scribbles, breaks, leaves, comes back,
 * says other things of itself) and of the loop.
 *
 * What must hold: nothing is touched that should not be (the sanitizers see to that), each
 * request ends exactly once, nothing stays mapped, and there is an end to it.
 */
#include <stdio.h>
#include <string.h>

#include "base/shared.h"
#include "driver/blk.h"
#include "driver/entropy.h"
#include "spec/blk.h"
#include "tests/fuzz/fuzz.h"
#include "tests/support/liar.h"

#define PATIENCE_NS 30000

static struct liar liar;
static u8 *data; /* of the owner's requests */
static u64 n_good, n_failed, n_recovered, n_given_up;

static u32 choose32(struct choices *in)
{
	u32 low = choose16(in);

	return low | (u32)choose16(in) << 16;
}

/* Often small, sometimes any. */
static u32 choose_number(struct choices *in)
{
	u8 v = choose(in);

	return v < 240 ? v : choose32(in);
}

/* ---- the owners ------------------------------------------------------------------------ */

#define N_REQUESTS 16

static struct request {
	struct driver_blk_request req;
	struct span sg[4];
	bool busy;
} requests[N_REQUESTS];

static void blk_done(struct driver_blk_request *req, int err)
{
	struct request *r = container_of(req, struct request, req);

	MUST(r->busy); /* each ends once */
	r->busy = false;
	err ? n_failed++ : n_good++;
}

static void blk_begin(void)
{
	memset(requests, 0, sizeof(requests));
}

static void blk_step(struct choices *in)
{
	struct driver_blk_request run, *req = &run;
	u8 which = choose(in);
	struct request *r = &requests[which % N_REQUESTS];
	bool wait = which & 128;
	struct span sg[4];

	if (!wait && r->busy)
		return;
	if (!wait)
		req = &r->req;
	*req = (struct driver_blk_request){
		.op = choose(in) % 8,
		.queue = choose(in),
		.sector = choose_number(in),
		.n_sectors = choose_number(in),
		.sg = wait ? sg : r->sg,
		.n_sg = 1 + which / N_REQUESTS % 4,
		.no_retry = which & 64,
		.done = blk_done,
	};
	for (u32 i = 0; i < req->n_sg; i++)
		(wait ? sg : r->sg)[i] = (struct span){ data + 1024 * i, choose(in) * 8u };
	if (wait) {
		driver_blk_run(&liar.front, req, PATIENCE_NS) ? n_failed++ : n_good++;
		return;
	}
	r->busy = true;
	if (driver_blk_submit(&liar.front, req) < 0)
		r->busy = false;
}

static void blk_end(void)
{
	for (u32 i = 0; i < N_REQUESTS; i++)
		MUST(!requests[i].busy);
}

static void nothing(void)
{
}

static void entropy_step(struct choices *in)
{
	u8 bytes[300];
	u32 most = 1 + choose(in);
	int got = driver_entropy_read(&liar.front, bytes, most, PATIENCE_NS);

	MUST(got <= (int)most && got != 0);
	got > 0 ? n_good++ : n_failed++;
}

/* A row a driver. */
static const struct owner {
	u32 device_id;
	struct virtio_driver *driver;
	void (*begin)(void);
	void (*step)(struct choices *in);
	void (*end)(void); /* after unregister: nothing may be left */
} owners[] = {
	{ VIRTIO_ID_BLOCK, &driver_blk, blk_begin, blk_step, blk_end },
	{ VIRTIO_ID_ENTROPY, &driver_entropy, nothing, entropy_step, nothing },
};

/* ---- the device ------------------------------------------------------------------------ */

enum step {
	OWNER,
	ANSWER, /* queue, what the last byte of room says, how the length lies */
	ANSWER_ALL, /* queue; well, with an interrupt */
	USE, /* queue, id, length, ring entries */
	JUMP, /* queue, by */
	SCRIBBLE, /* queue, area, offset (2), byte */
	INTERRUPT, /* queue */
	BREAK,
	LEAVE,
	COME_BACK,
	CONFIG, /* offset, byte; and says so if the offset is odd */
	SAY, /* which features or queues from now on, after the next reset */
	TIME,
	POLL,
	N_STEPS
};

/* Of the first few: most devices have no more. */
static u16 choose_queue(struct choices *in)
{
	return choose(in) % 4;
}

static void device_answer(struct choices *in, u16 queue, bool well)
{
	u8 status = well ? 0 : choose(in), lie = well ? 0 : choose(in);
	struct sg tail;
	struct chain c;

	while (liar_pop(&liar, queue, &c)) {
		u32 len = c.in_bytes;

		if (sg_split_tail(&c.in, 1, &tail))
			sg_write(&tail, &status, 1);
		if (lie & 1)
			len = choose_number(in);
		liar_answer(&liar, queue, &c, len);
		if (!well)
			return;
	}
	liar_interrupt(&liar, queue);
}

static void device_scribble(struct choices *in, u16 queue)
{
	struct virtqueue_setup *s = &liar.queues[queue].vq->setup;
	u8 area = choose(in) % 4;
	u32 at = choose16(in);
	u8 byte = choose(in);

	switch (area) {
	case 0:
		((u8 *)s->desc)[at % VIRTQ_DESC_BYTES(s->size)] = byte;
		break;
	case 1:
		((u8 *)s->driver_area)[at % VIRTQ_EVENT_BYTES] = byte;
		break;
	case 2:
		((u8 *)s->device_area)[at % (s->packed ? VIRTQ_EVENT_BYTES
						       : VIRTQ_USED_BYTES(s->size))] = byte;
		break;
	case 3:
		if (s->tables)
			((u8 *)s->tables)[at] = byte; /* there are more than 64 KiB of them */
		break;
	}
}

static void device_say(struct choices *in)
{
	u8 what = choose(in);

	if (what < 128) {
		u32 bit = what % 64;

		liar.offers.word[0] ^= 1ull << bit;
	} else if (what < 192) {
		liar.n_queues = what % 8;
	} else if (what < 224) {
		liar.max_size = what % 32 * 4;
	} else {
		liar.refuses_features = what & 1;
		liar.resets_never = what & 2;
		liar.unstable = what & 4;
	}
}

static void take_step(const struct owner *owner, struct choices *in)
{
	enum step step = choose(in) % N_STEPS;
	u16 queue;

	switch (step) {
	case OWNER:
		owner->step(in);
		return;
	case BREAK:
		liar_breaks(&liar);
		return;
	case LEAVE:
		liar.front.config->reset(&liar.front);
		virtio_device_gone(&liar.front);
		return;
	case COME_BACK:
		n_given_up += virtio_device_back(&liar.front) < 0;
		return;
	case CONFIG: {
		u8 offset = choose(in) % 100;

		liar.config[offset] = choose(in);
		if (offset & 1)
			virtio_config_changed(&liar.front);
		return;
	}
	case SAY:
		device_say(in);
		return;
	case TIME:
		liar.memory.now_ns += 1000000000ull;
		return;
	case POLL:
		virtio_poll();
		return;
	default:
		break;
	}
	queue = choose_queue(in);
	if (!liar.queues[queue].vq)
		return;
	if (step == ANSWER || step == ANSWER_ALL) {
		device_answer(in, queue, step == ANSWER_ALL);
	} else if (step == USE) {
		u32 id = choose_number(in), len = choose_number(in);

		liar_use(&liar, queue, id, len, choose(in) % 8);
	} else if (step == JUMP && !liar.queues[queue].vq->setup.packed) {
		liar_jump(&liar, queue, (int)choose_number(in));
	} else if (step == SCRIBBLE) {
		device_scribble(in, queue);
	} else if (step == INTERRUPT) {
		liar_interrupt(&liar, queue);
	}
}

/* The byte chooses the kind of ring; a block device gets a believable configuration at first. */
static void device_begin(const struct owner *owner, u8 kind)
{
	struct virtio_blk_config *c = (struct virtio_blk_config *)liar.config;

	liar_init(&liar, owner->device_id);
	liar.n_queues = 3;
	liar.max_size = 32;
	if (kind & 1)
		features_set(&liar.offers, VIRTIO_F_RING_PACKED);
	if (kind & 2)
		features_clear(&liar.offers, VIRTIO_F_INDIRECT_DESC);
	if (kind & 4)
		features_clear(&liar.offers, VIRTIO_F_EVENT_IDX);
	if (kind & 8)
		liar.offers.word[0] |= 0xffffff;
	c->capacity = le64_of(10000);
	c->seg_max = le32_of(6);
	c->size_max = le32_of(1024);
	c->blk_size = le32_of(512);
	c->num_queues = le16_of(2);
	c->max_discard_sectors = le32_of(100);
	c->max_write_zeroes_sectors = le32_of(100);
	data = liar_alloc(&liar, 8192);
}

int LLVMFuzzerTestOneInput(const u8 *bytes, size_t n_bytes)
{
	struct choices in = { bytes, n_bytes };
	u8 kind = choose(&in);
	const struct owner *owner = &owners[kind / 16 % ARRAY_SIZE(owners)];

	device_begin(owner, kind);
	owner->begin();
	register_virtio_driver(owner->driver);
	register_virtio_device(&liar.front);
	while (in.n_bytes > 0)
		take_step(owner, &in);
	n_recovered += liar.front.n_recoveries;
	unregister_virtio_device(&liar.front);
	unregister_virtio_driver(owner->driver);
	owner->end();
	liar_fini(&liar);
	return 0;
}

bool fuzz_reached_enough(void)
{
	printf("%llu requests went well, %llu failed; %llu recoveries, %llu vain\n",
	       (unsigned long long)n_good, (unsigned long long)n_failed,
	       (unsigned long long)n_recovered, (unsigned long long)n_given_up);
	return n_good > 20 && n_failed > 20 && n_recovered > 20 && n_given_up > 20;
}
