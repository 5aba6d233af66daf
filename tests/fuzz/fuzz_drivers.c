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
#include "driver/balloon.h"
#include "driver/blk.h"
#include "driver/console.h"
#include "driver/entropy.h"
#include "driver/net.h"
#include "spec/blk.h"
#include "spec/console.h"
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

/* The console's owner listens, and reads what there is to read. */
static void console_input(void *owner, u32 id)
{
	u8 bytes[100];
	int n;

	for (u32 i = 0; i < 10 && (n = driver_console_read(&liar.front, id, bytes, 100)) > 0; i++)
		MUST(n <= 100);
}

static void console_changed(void *owner, u32 id)
{
	const struct driver_console_port *p = driver_console_port(&liar.front, id);

	MUST(id < DRIVER_CONSOLE_MAX_PORTS);
	MUST(!p || memchr(p->name, 0, sizeof(p->name))); /* D11 */
}

static const struct driver_console_ears console_ears = { console_changed, console_input, NULL };

static void console_begin(void)
{
	struct virtio_console_config config = { .max_nr_ports = le32_of(2) };

	memcpy(liar.config, &config, sizeof(config));
	liar.n_queues = 6;
}

static void console_step(struct choices *in)
{
	u8 what = choose(in);
	u32 id = what / 8 % 3, n = choose_number(in) % 4000;
	int got;

	driver_console_listen(&liar.front, &console_ears, NULL);
	switch (what % 8) {
	case 0:
		driver_console_open(&liar.front, id, n & 1);
		return;
	case 1:
		driver_console_emergency(&liar.front, n);
		return;
	case 2:
		console_input(NULL, id);
		return;
	default:
		got = driver_console_write(&liar.front, id, data, n);
		MUST(got == -ENODEV || (got >= 0 && got <= (int)n));
		got > 0 ? n_good++ : n_failed++;
	}
}

/* A message that may mean something: most are of the few ports and events that there are. */
static void console_fill(struct choices *in, u16 queue, struct sg *room)
{
	struct virtio_console_control message;
	u8 what = choose(in);

	if (queue != VIRTIO_CONSOLE_CONTROL_RX_QUEUE)
		return;
	message.id = le32_of(what & 128 ? choose32(in) : what & 3);
	message.event = le16_of(what >> 2 & 7);
	message.value = le16_of(what >> 5 & 1);
	sg_write(room, &message, sizeof(message));
}

/* The balloon's owner keeps books of its pages and of what it reported. */
#define N_PAGES 600
#define N_REPORTS 8

static struct driver_balloon balloon;
static struct {
	u32 pfns[N_PAGES - 50]; /* some are never let go */
	bool away[N_PAGES], reported[N_REPORTS];
	u32 n_away, next;
} books;

static u32 balloon_take(void *owner)
{
	if (books.n_away == N_PAGES)
		return DRIVER_BALLOON_NO_PAGE;
	while (books.away[books.next % N_PAGES])
		books.next++;
	books.away[books.next % N_PAGES] = true;
	books.n_away++;
	return books.next % N_PAGES;
}

static void balloon_give(void *owner, u32 pfn)
{
	MUST(pfn < N_PAGES && books.away[pfn]); /* ours, and each once */
	books.away[pfn] = false;
	books.n_away--;
	n_good++;
}

static void balloon_stats(void *owner, u64 value[VIRTIO_BALLOON_S_N_TAGS])
{
	value[VIRTIO_BALLOON_S_MEMFREE] = N_PAGES - books.n_away;
}

static void balloon_reported(void *owner, void *token)
{
	bool *reported = token;

	MUST(*reported);
	*reported = false;
}

static bool balloon_next_hint(void *owner, bool first, struct span *bytes)
{
	*bytes = (struct span){ data, 4096 };
	return ++books.next % 100 != 0;
}

static void balloon_hints_done(void *owner)
{
}

static const struct driver_balloon_ops balloon_ops = { balloon_take,      balloon_give,
						       balloon_stats,     balloon_reported,
						       balloon_next_hint, balloon_hints_done };

static void balloon_begin(void)
{
	const struct driver_balloon_config config = {
		.ops = &balloon_ops,
		.pfns = books.pfns,
		.max_pages = ARRAY_SIZE(books.pfns),
		.stats_tags = 1u << VIRTIO_BALLOON_S_MEMFREE,
		.poisons = liar.offers.word[0] & 8,
	};
	struct virtio_balloon_config wire = { .num_pages = le32_of(300) };

	memset(&books, 0, sizeof(books));
	driver_balloon_init(&balloon, &config);
	memcpy(liar.config, &wire, sizeof(wire));
	liar.n_queues = VIRTIO_BALLOON_N_QUEUES;
}

static void balloon_step(struct choices *in)
{
	u8 what = choose(in);
	u32 n = choose_number(in);
	bool *reported = &books.reported[what / 4 % N_REPORTS];
	struct span s = { data, n % 8192 };

	switch (what % 4) {
	case 0:
		driver_balloon_go_on(&balloon);
		return;
	case 1:
		MUST(driver_balloon_oom(&balloon, n, PATIENCE_NS) <= N_PAGES);
		return;
	default:
		if (*reported)
			return;
		*reported = driver_balloon_report(&balloon, &s, 1, reported) == 0;
		n_failed += !*reported;
	}
}

static void balloon_end(void)
{
	MUST(books.n_away == 0);
	for (u32 i = 0; i < N_REPORTS; i++)
		MUST(!books.reported[i]);
}

/* What the driver has is lent or busy, and not touched meanwhile. */
#define N_NET_BUFFERS 8
#define N_NET_FRAMES 4

static struct driver_net_buffer net_buffers[N_NET_BUFFERS];
static bool net_lent[N_NET_BUFFERS];

static struct net_frame {
	struct driver_net_frame frame;
	struct span sg[2];
	bool busy;
} net_frames[N_NET_FRAMES];

static void net_done(struct driver_net_frame *frame, int err)
{
	struct net_frame *f = container_of(frame, struct net_frame, frame);

	MUST(f->busy); /* each ends once */
	f->busy = false;
	err ? n_failed++ : n_good++;
}

static void net_begin(void)
{
	struct virtio_net_config *c = (struct virtio_net_config *)liar.config;

	memset(net_buffers, 0, sizeof(net_buffers));
	memset(net_lent, 0, sizeof(net_lent));
	memset(net_frames, 0, sizeof(net_frames));
	liar.n_queues = 5;
	c->max_virtqueue_pairs = le16_of(2);
	c->mtu = le16_of(1500);
}

/* A header, often believable. */
static void net_fill(struct choices *in, u16 queue, struct sg *room)
{
	struct virtio_net_hdr h = { .num_buffers = le16_of(1 + choose(in) % 4) };
	u8 what = choose(in);

	if (what & 1)
		h.flags = choose(in);
	if (what & 2)
		h.csum_start = le16_of(choose_number(in));
	if (what & 4)
		h.csum_offset = le16_of(choose_number(in));
	if (what & 8)
		h.gso_type = choose(in);
	if (what & 16)
		h.gso_size = le16_of(choose_number(in));
	if (what & 32)
		h.num_buffers = le16_of(choose_number(in));
	sg_write(room, &h, sizeof(h));
}

static void net_post(u16 pair, u32 i)
{
	struct driver_net_buffer *r = &net_buffers[i];

	if (net_lent[i])
		return;
	*r = (struct driver_net_buffer){ .base = data + 1024 * i, .n_bytes = 1024 };
	net_lent[i] = driver_net_post(&liar.front, pair, r) == 0;
}

static void net_fetch(u16 pair)
{
	struct driver_net_received f;
	u32 n_bytes = 0, n = 0;

	if (driver_net_receive(&liar.front, pair, &f) != 1)
		return;
	for (struct driver_net_buffer *r = f.first; r; r = r->next, n++) {
		MUST(net_lent[r - net_buffers]);
		net_lent[r - net_buffers] = false;
		MUST(r->data.n_bytes > 0 && (u8 *)r->data.base >= (u8 *)r->base &&
		     (u8 *)r->data.base + r->data.n_bytes <= (u8 *)r->base + r->n_bytes);
		n_bytes += r->data.n_bytes;
	}
	MUST(n == f.n_buffers && n_bytes == f.n_bytes && n_bytes >= 14);
	MUST(!(f.offload.flags & 1) ||
	     f.offload.csum_start + f.offload.csum_offset + 2u <= n_bytes);
	n_good++;
}

static void net_send(u16 pair, struct choices *in)
{
	struct net_frame *f = &net_frames[choose(in) % N_NET_FRAMES];

	if (f->busy)
		return;
	*f = (struct net_frame){
		.frame = { .sg = f->sg, .n_sg = 1 + choose(in) % 2, .done = net_done },
		.sg = { { data, 14 + choose(in) }, { data + 512, choose(in) } },
		.busy = true,
	};
	f->frame.offload.flags = choose(in) & 1;
	f->frame.offload.csum_start = choose_number(in);
	if (driver_net_send(&liar.front, pair, &f->frame) < 0)
		f->busy = false;
}

static void net_step(struct choices *in)
{
	static const u8 mac[6] = { 2 };
	static const struct driver_net_filter filter = { .n_unicast = 1 };
	u8 what = choose(in), more = choose(in);
	u16 pair = what / 16 % 4;

	switch (what % 10) {
	case 0:
	case 1:
		net_send(pair, in);
		return;
	case 2:
		net_post(pair, more % N_NET_BUFFERS);
		return;
	case 3:
		net_fetch(pair);
		return;
	case 4:
		driver_net_kick(&liar.front, pair);
		return;
	case 5:
		driver_net_set_vlan(&liar.front, more * 16, what & 16, PATIENCE_NS);
		return;
	case 6:
		driver_net_set_mode(&liar.front, more % 8, what & 16, PATIENCE_NS);
		return;
	case 7:
		driver_net_set_pairs(&liar.front, more % 4, PATIENCE_NS);
		return;
	case 8:
		driver_net_set_mac(&liar.front, mac, PATIENCE_NS);
		driver_net_set_filter(&liar.front, &filter, PATIENCE_NS);
		return;
	case 9:
		driver_net_reap(&liar.front, pair);
		return;
	}
}

static void net_end(void)
{
	for (u32 i = 0; i < N_NET_FRAMES; i++)
		MUST(!net_frames[i].busy);
}

/* A row a driver. */
static const struct owner {
	u32 device_id;
	struct virtio_driver *driver;
	void (*begin)(void);
	void (*step)(struct choices *in);
	void (*end)(void); /* after unregister: nothing may be left */
	u16 n_queues; /* of which one is chosen */
	/* What the device writes, apart from the last byte; NULL: nothing. */
	void (*fill)(struct choices *in, u16 queue, struct sg *room);
} owners[] = {
	{ VIRTIO_ID_BLOCK, &driver_blk, blk_begin, blk_step, blk_end, 4, NULL },
	{ VIRTIO_ID_ENTROPY, &driver_entropy, nothing, entropy_step, nothing, 4, NULL },
	{ VIRTIO_ID_CONSOLE, &driver_console, console_begin, console_step, nothing, 6,
	  console_fill },
	{ VIRTIO_ID_BALLOON, &balloon.driver, balloon_begin, balloon_step, balloon_end, 5, NULL },
	{ VIRTIO_ID_NET, &driver_net, net_begin, net_step, net_end, 5, net_fill },
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

static void device_answer(const struct owner *owner, struct choices *in, u16 queue, bool well)
{
	u8 status = well ? 0 : choose(in), lie = well ? 0 : choose(in);
	struct sg tail;
	struct chain c;

	while (liar_pop(&liar, queue, &c)) {
		u32 len = c.in_bytes;
		struct sg room = c.in;

		if (owner->fill)
			owner->fill(in, queue, &room);
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
			((u8 *)s->tables)[at % ((size_t)s->size * s->max_indirect *
						sizeof(struct virtq_desc))] = byte;
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
	queue = choose(in) % owner->n_queues;
	if (!liar.queues[queue].vq)
		return;
	if (step == ANSWER || step == ANSWER_ALL) {
		device_answer(owner, in, queue, step == ANSWER_ALL);
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
