/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The block driver against a hostile disk, on split and packed rings: whatever it answers, each
 * request ends exactly once, with data only if the disk claimed to have written all of it.
 */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/shared.h"
#include "driver/blk.h"
#include "spec/blk.h"
#include "tests/support/liar.h"

#define SECOND_NS 1000000000ull
#define N_REQUESTS 24u
#define CANARY 0xc5

static struct liar liar;
static struct virtio_device *front = &liar.front;
static struct virtio_blk_config *config = (struct virtio_blk_config *)liar.config;

/* Each with a sector of data between two canaries. */
static struct request {
	struct driver_blk_request req;
	struct span s;
	u8 *data;
	u32 n_done;
	int err;
} requests[N_REQUESTS];

static bool packed;

static void done(struct driver_blk_request *req, int err)
{
	struct request *r = container_of(req, struct request, req);

	r->n_done++;
	r->err = err;
}

static void begin(void)
{
	static const int offers[] = { VIRTIO_BLK_F_SEG_MAX, VIRTIO_BLK_F_FLUSH,
				      VIRTIO_BLK_F_DISCARD };

	liar_init(&liar, VIRTIO_ID_BLOCK);
	for (u32 i = 0; i < ARRAY_SIZE(offers); i++)
		features_set(&liar.offers, offers[i]);
	if (packed)
		features_set(&liar.offers, VIRTIO_F_RING_PACKED);
	config->capacity = le64_of(1000);
	config->seg_max = le32_of(16);
	for (u32 i = 0; i < N_REQUESTS; i++) {
		struct request *r = &requests[i];

		*r = (struct request){ .data = liar_alloc(&liar, 3 * 512) };
		memset(r->data, CANARY, 3 * 512);
		r->s = (struct span){ r->data + 512, 512 };
		r->req = (struct driver_blk_request){
			.op = DRIVER_BLK_READ, .sector = i, .sg = &r->s, .n_sg = 1, .done = done
		};
	}
	assert_int_equal(register_virtio_driver(&driver_blk), 0);
}

static void up(void)
{
	begin();
	assert_int_equal(register_virtio_device(front), 0);
}

static void end(void)
{
	unregister_virtio_device(front);
	unregister_virtio_driver(&driver_blk);
	for (u32 i = 0; i < N_REQUESTS; i++)
		for (u32 at = 0; at < 512; at++) {
			assert_int_equal(requests[i].data[at], CANARY);
			assert_int_equal(requests[i].data[1024 + at], CANARY);
		}
	liar_fini(&liar);
}

static void submit(u32 i)
{
	assert_int_equal(driver_blk_submit(front, &requests[i].req), 0);
}

/* A popped request's last byte of room. */
static void write_status(struct chain *c, u8 status)
{
	struct sg tail;

	assert_true(sg_split_tail(&c->in, 1, &tail));
	sg_write(&tail, &status, 1);
}

static struct virtio_blk_header header_of(struct chain *c)
{
	struct virtio_blk_header h;

	assert_int_equal(sg_read(&c->out, &h, sizeof(h)), sizeof(h));
	return h;
}

/* Answers all that is there as an honest disk would; returns how many. */
static u32 answer_honestly(void)
{
	struct chain c;
	u32 n = 0;

	for (; liar_pop(&liar, 0, &c); n++) {
		write_status(&c, VIRTIO_BLK_S_OK);
		liar_answer(&liar, 0, &c, c.in_bytes);
	}
	liar_interrupt(&liar, 0);
	return n;
}

static void assert_recovered(u32 i)
{
	assert_int_equal(front->n_recoveries, 1);
	assert_int_equal(requests[i].n_done, 0);
	assert_int_equal(answer_honestly(), 1);
	assert_int_equal(requests[i].n_done, 1);
	assert_int_equal(requests[i].err, 0);
}

/* ---- the ring lies --------------------------------------------------------------------- */

static void used_id(u32 id)
{
	struct chain c;

	up();
	submit(0);
	assert_true(liar_pop(&liar, 0, &c));
	liar_use(&liar, 0, id, 1, 1);
	liar_interrupt(&liar, 0);
	assert_recovered(0);
	end();
}

static void D01_used_id_past_the_end(void)
{
	used_id(64);
	used_id(65535);
	used_id(UINT32_MAX);
}

static void D01_used_id_not_in_flight(void)
{
	used_id(63);
}

static void D01_used_twice(void)
{
	struct chain c;

	up();
	submit(0);
	submit(1);
	assert_true(liar_pop(&liar, 0, &c));
	write_status(&c, VIRTIO_BLK_S_OK);
	liar_answer(&liar, 0, &c, c.in_bytes);
	liar_answer(&liar, 0, &c, c.in_bytes);
	liar_interrupt(&liar, 0);
	assert_int_equal(requests[0].n_done, 1);
	assert_int_equal(requests[0].err, 0);
	assert_recovered(1);
	assert_int_equal(requests[0].n_done, 1);
	end();
}

static void D01_used_idx_jumps(void)
{
	static const int jumps[] = { 2, 65, -1, 0x7000 };

	for (u32 i = 0; i < ARRAY_SIZE(jumps) && !packed; i++) {
		up();
		submit(0);
		liar_jump(&liar, 0, jumps[i]);
		liar_interrupt(&liar, 0);
		assert_recovered(0);
		end();
	}
}

static void D02_used_length(void)
{
	static const struct {
		u32 len;
		int err;
		bool recovers;
	} rows[] = {
		{ 0, -EIO, false },      { 1, -EIO, false }, { 512, -EIO, false },
		{ 513, 0, false },       { 514, 0, true },   { 0x80000000u, 0, true },
		{ UINT32_MAX, 0, true },
	};

	for (u32 i = 0; i < ARRAY_SIZE(rows); i++) {
		struct chain c;

		up();
		submit(0);
		assert_true(liar_pop(&liar, 0, &c));
		write_status(&c, VIRTIO_BLK_S_OK);
		liar_answer(&liar, 0, &c, rows[i].len);
		liar_interrupt(&liar, 0);
		if (rows[i].recovers)
			assert_recovered(0);
		assert_int_equal(requests[0].n_done, 1);
		assert_int_equal(requests[0].err, rows[i].err);
		end();
	}
}

static void D03_ring_rewritten_after_submit(void)
{
	struct virtqueue_setup *s;
	struct chain c[3];

	up();
	for (u32 i = 0; i < 3; i++) {
		submit(i);
		assert_true(liar_pop(&liar, 0, &c[i]));
		write_status(&c[i], VIRTIO_BLK_S_OK);
	}
	s = &liar.queues[0].vq->setup;
	memset(s->desc, 0x7f, VIRTQ_DESC_BYTES(s->size));
	if (!packed)
		memset(s->driver_area, 0xff, VIRTQ_AVAIL_BYTES(s->size));
	memset(s->tables, 0xee, (size_t)s->size * s->max_indirect * sizeof(*s->tables));
	for (u32 i = 3; i-- > 0;) /* and in another order */
		liar_answer(&liar, 0, &c[i], c[i].in_bytes);
	liar_interrupt(&liar, 0);
	for (u32 i = 0; i < 3; i++) {
		assert_int_equal(requests[i].n_done, 1);
		assert_int_equal(requests[i].err, 0);
	}
	assert_int_equal(liar.memory.n_mapped, 0);
	assert_int_equal(front->n_recoveries, 0);
	end();
}

static void *flip(void *arg)
{
	struct virtqueue_setup *s = &liar.queues[0].vq->setup;
	u64 rng = 88172645463325252ull;

	while (__atomic_load_n((bool *)arg, __ATOMIC_ACQUIRE)) {
		rng ^= rng << 13;
		rng ^= rng >> 7;
		rng ^= rng << 17;
		if (!packed) {
			struct virtq_used *used = s->device_area;

			le32_store(&used->ring[rng % s->size].id, rng >> 40 & 127);
			le32_store(&used->ring[rng % s->size].len, rng >> 32 & 1023);
		} else {
			struct virtq_packed_desc *d = s->desc;

			le16_store(&d[rng % s->size].id, rng >> 40 & 127);
			le32_store(&d[rng % s->size].len, rng >> 32 & 1023);
		}
	}
	return NULL;
}

/* What was checked must be what is used: another thread writes while the driver reads. */
static void D12_used_entries_change_all_the_time(void)
{
	for (u32 round = 0; round < 30; round++) {
		bool go = true;
		pthread_t thread;
		struct chain c;

		up();
		for (u32 i = 0; i < N_REQUESTS; i++)
			submit(i);
		assert_int_equal(pthread_create(&thread, NULL, flip, &go), 0);
		for (u32 i = 0; i < N_REQUESTS && liar_pop(&liar, 0, &c); i++) {
			write_status(&c, VIRTIO_BLK_S_OK);
			liar_answer(&liar, 0, &c, c.in_bytes);
			liar.queues[0].vq->setup.callback(liar.queues[0].vq);
		}
		__atomic_store_n(&go, false, __ATOMIC_RELEASE);
		pthread_join(thread, NULL);
		while (virtio_poll())
			;
		answer_honestly();
		end();
		for (u32 i = 0; i < N_REQUESTS; i++)
			assert_int_equal(requests[i].n_done, 1);
	}
}

/* ---- the answer lies ------------------------------------------------------------------- */

static void D08_status_junk_or_untouched(void)
{
	up();
	for (u32 status = 0; status < 257; status++) {
		struct chain c;

		requests[0].n_done = 0;
		submit(0);
		assert_true(liar_pop(&liar, 0, &c));
		if (status < 256) /* 256: untouched, though it claims to have written all */
			write_status(&c, status);
		liar_answer(&liar, 0, &c, c.in_bytes);
		liar_interrupt(&liar, 0);
		assert_int_equal(requests[0].n_done, 1);
		assert_int_equal(requests[0].err, status == 0   ? 0
						  : status == 2 ? -EOPNOTSUPP
								: -EIO);
	}
	assert_int_equal(front->n_recoveries, 0);
	end();
}

static void D08_answer_of_a_request_before_is_not_taken_for_ours(void)
{
	struct chain c;

	up();
	submit(0);
	assert_int_equal(answer_honestly(), 1);
	submit(1); /* the same record, in which OK stands from the last time */
	assert_true(liar_pop(&liar, 0, &c));
	liar_answer(&liar, 0, &c, c.in_bytes);
	liar_interrupt(&liar, 0);
	assert_int_equal(requests[1].err, -EIO);
	end();
}

/* ---- the configuration lies ------------------------------------------------------------ */

static void configure(u32 block_bytes, u32 seg_max, u32 size_max)
{
	begin();
	features_set(&liar.offers, VIRTIO_BLK_F_BLK_SIZE);
	features_set(&liar.offers, VIRTIO_BLK_F_SIZE_MAX);
	config->blk_size = le32_of(block_bytes);
	config->seg_max = le32_of(seg_max);
	config->size_max = le32_of(size_max);
}

static void D04_blocks_and_segments(void)
{
	static const struct {
		u32 block_bytes, seg_max, size_max;
		int err;
	} rows[] = {
		{ 512, 16, 4096, 0 },
		{ 0, 16, 4096, 0 }, /* it does not care: 512 */
		{ 4096, 16, 4096, 0 },
		{ 1, 16, 4096, -EPROTO },
		{ 256, 16, 4096, -EPROTO },
		{ 513, 16, 4096, -EPROTO },
		{ 4095, 16, 4096, -EPROTO },
		{ 1u << 31, 16, 4096, -EPROTO },
		{ UINT32_MAX, 16, 4096, -EPROTO },
		{ 512, 0, 4096, 0 },
		{ 512, UINT32_MAX, UINT32_MAX, 0 },
		{ 512, 1, 1, -EPROTO }, /* no request could be right */
		{ 512, 1, 511, -EPROTO },
		{ 512, 2, 256, 0 },
		{ 4096, 1, 2048, -EPROTO },
	};

	for (u32 i = 0; i < ARRAY_SIZE(rows); i++) {
		configure(rows[i].block_bytes, rows[i].seg_max, rows[i].size_max);
		assert_int_equal(register_virtio_device(front), rows[i].err);
		if (rows[i].err == 0) {
			const struct driver_blk_info *info = driver_blk_info(front);

			assert_int_equal(info->block_bytes,
					 rows[i].block_bytes ? rows[i].block_bytes : 512);
			assert_in_range(info->max_segments, 1, 62);
			if (info->block_bytes == 512) {
				submit(0);
				assert_int_equal(answer_honestly(), 1);
				assert_int_equal(requests[0].err, 0);
			} else { /* half a block */
				assert_int_equal(driver_blk_submit(front, &requests[0].req),
						 -EINVAL);
			}
		}
		end();
	}
}

static void D04_capacity(void)
{
	begin();
	config->capacity = le64_of(UINT64_MAX);
	assert_int_equal(register_virtio_device(front), 0);
	assert_true(driver_blk_info(front)->n_sectors == UINT64_MAX / 512);
	requests[0].req.sector = UINT64_MAX / 512 - 1;
	submit(0);
	assert_int_equal(answer_honestly(), 1);
	requests[1].req.sector = UINT64_MAX / 512;
	assert_int_equal(driver_blk_submit(front, &requests[1].req), -EINVAL);

	/* It shrinks, and says so. */
	config->capacity = le64_of(5);
	virtio_config_changed(front);
	submit(4);
	assert_int_equal(driver_blk_submit(front, &requests[5].req), -EINVAL);
	config->capacity = le64_of(0);
	virtio_config_changed(front);
	assert_int_equal(driver_blk_submit(front, &requests[0].req), -EINVAL);
	end();
}

static void D04_queues(void)
{
	static const u16 counts[] = { 0, 1, 3, 65535 };

	for (u32 i = 0; i < ARRAY_SIZE(counts); i++) {
		begin();
		features_set(&liar.offers, VIRTIO_BLK_F_MQ);
		config->num_queues = le16_of(counts[i]);
		liar.n_queues = LIAR_MAX_QUEUES;
		assert_int_equal(register_virtio_device(front), 0);
		assert_int_equal(driver_blk_info(front)->n_queues,
				 max_u64(1, min_u64(counts[i], DRIVER_BLK_MAX_QUEUES)));
		requests[0].req.queue = 65535;
		submit(0);
		end();
		assert_int_equal(requests[0].n_done, 1);
		assert_int_equal(requests[0].err, -ENODEV);
	}
	/* It says more than it has: no disk. */
	begin();
	features_set(&liar.offers, VIRTIO_BLK_F_MQ);
	config->num_queues = le16_of(2);
	assert_int_equal(register_virtio_device(front), -ENOENT);
	end();
	/* Queues in which no request fits. */
	begin();
	liar.max_size = 2;
	assert_int_equal(register_virtio_device(front), -EPROTO);
	end();
}

static void D04_discard_limits(void)
{
	struct request *r = &requests[0];
	struct virtio_blk_discard_write_zeroes range;
	struct virtio_blk_header h;
	struct chain c;
	u64 expected = 10;

	begin();
	config->max_discard_sectors = le32_of(7); /* and blocks of 8: it can never be right */
	features_set(&liar.offers, VIRTIO_BLK_F_BLK_SIZE);
	config->blk_size = le32_of(4096);
	assert_int_equal(register_virtio_device(front), 0);
	assert_false(driver_blk_info(front)->can_discard);
	end();

	begin();
	config->max_discard_sectors = le32_of(300);
	assert_int_equal(register_virtio_device(front), 0);
	r->req = (struct driver_blk_request){
		.op = DRIVER_BLK_DISCARD, .sector = 10, .n_sectors = 700, .done = done
	};
	submit(0);
	while (liar_pop(&liar, 0, &c)) { /* in pieces, each in its turn */
		h = header_of(&c);
		assert_int_equal(le32_get(h.type), VIRTIO_BLK_T_DISCARD);
		assert_int_equal(sg_read(&c.out, &range, sizeof(range)), sizeof(range));
		assert_int_equal(c.out.n_bytes, 0);
		assert_int_equal(le64_get(range.sector), expected);
		assert_int_equal(le32_get(range.num_sectors), min_u64(300, 710 - expected));
		assert_int_equal(le32_get(range.flags), 0);
		expected += le32_get(range.num_sectors);
		assert_int_equal(r->n_done, 0);
		write_status(&c, VIRTIO_BLK_S_OK);
		liar_answer(&liar, 0, &c, 1);
		liar_interrupt(&liar, 0);
	}
	assert_int_equal(expected, 710);
	assert_int_equal(r->n_done, 1);
	assert_int_equal(r->err, 0);
	end();
}

/* ---- the device misbehaves as a whole -------------------------------------------------- */

static void D07_needs_reset_in_the_middle(void)
{
	up();
	submit(0);
	liar_breaks(&liar);
	while (virtio_poll())
		;
	assert_recovered(0);
	end();
}

static void D07_interrupt_storm(void)
{
	up();
	submit(0);
	for (u32 i = 0; i < 10000; i++)
		liar_interrupt(&liar, 0);
	assert_int_equal(requests[0].n_done, 0);
	assert_int_equal(front->n_recoveries, 0);
	assert_int_equal(answer_honestly(), 1);
	assert_int_equal(requests[0].err, 0);
	end();
}

static void answer_without_interrupt(void *arg)
{
	struct chain c;

	if (!liar_pop(&liar, 0, &c))
		return;
	write_status(&c, VIRTIO_BLK_S_OK);
	liar_answer(&liar, 0, &c, c.in_bytes);
}

static void D07_no_interrupts(void)
{
	up();
	liar.memory.relax = answer_without_interrupt;
	assert_int_equal(driver_blk_run(front, &requests[0].req, SECOND_NS), 0);
	liar.memory.relax = NULL; /* and no answers */
	assert_int_equal(driver_blk_run(front, &requests[1].req, SECOND_NS), -ETIMEDOUT);
	liar.memory.relax = answer_without_interrupt;
	assert_int_equal(driver_blk_run(front, &requests[2].req, SECOND_NS), 0);
	end();
}

static void D07_reset_never_acknowledged(void)
{
	up();
	submit(0);
	liar_breaks(&liar);
	liar.resets_never = true;
	while (virtio_poll())
		;
	assert_int_equal(requests[0].n_done, 1);
	assert_int_equal(requests[0].err, -ENODEV);
	assert_int_equal(driver_blk_submit(front, &requests[1].req), -ENODEV);
	end();
	assert_int_equal(requests[0].n_done, 1);
}

static void D07_breaks_for_ever(void)
{
	u32 n;

	up();
	submit(0);
	for (n = 0; requests[0].n_done == 0; n++) {
		assert_true(n < 100);
		liar_use(&liar, 0, 9999, 0, 1);
		liar_interrupt(&liar, 0);
	}
	assert_int_equal(requests[0].err, -ENODEV);
	end();
}

static void requests_that_do_not_want_to_are_not_tried_again(void)
{
	up();
	requests[1].req.no_retry = true;
	submit(0);
	submit(1);
	liar_breaks(&liar);
	while (virtio_poll())
		;
	assert_int_equal(requests[1].n_done, 1);
	assert_int_equal(requests[1].err, -EIO);
	assert_recovered(0);
	end();
}

/*
 * Some are answered in any order, the device goes, more are submitted, it comes back: what was
 * not answered comes again, oldest first, before what is new.
 */
static void requests_come_again_in_order_before_new_ones(void)
{
	struct chain c[6];
	u64 last = 0;
	u32 n = 0;

	up();
	for (u32 i = 0; i < 6; i++) {
		submit(i);
		assert_true(liar_pop(&liar, 0, &c[i]));
		write_status(&c[i], VIRTIO_BLK_S_OK);
	}
	for (u32 i = 4; i > 1; i -= 2) /* 4 and 2 */
		liar_answer(&liar, 0, &c[i], c[i].in_bytes);
	liar_interrupt(&liar, 0);
	front->config->reset(front);
	virtio_device_gone(front);
	for (u32 i = 6; i < N_REQUESTS; i++)
		submit(i);
	assert_int_equal(virtio_device_back(front), 0);
	for (; liar_pop(&liar, 0, &c[0]); n++) {
		u64 sector = le64_get(header_of(&c[0]).sector);

		assert_true(n == 0 ? sector == 0 : sector > last);
		last = sector;
		write_status(&c[0], VIRTIO_BLK_S_OK);
		liar_answer(&liar, 0, &c[0], c[0].in_bytes);
	}
	assert_int_equal(n, N_REQUESTS - 2);
	liar_interrupt(&liar, 0);
	for (u32 i = 0; i < N_REQUESTS; i++) {
		assert_int_equal(requests[i].n_done, 1);
		assert_int_equal(requests[i].err, 0);
	}
	end();
}

/* D05: the features that come back are not those that went. */
static void device_that_came_back_able_to_do_less(void)
{
	up();
	requests[0].req = (struct driver_blk_request){ .op = DRIVER_BLK_FLUSH, .done = done };
	requests[1].req.sector = 900;
	submit(0);
	submit(1);
	submit(2);
	features_clear(&liar.offers, VIRTIO_BLK_F_FLUSH);
	config->capacity = le64_of(100);
	liar_breaks(&liar);
	while (virtio_poll())
		;
	assert_int_equal(requests[0].err, -EIO);
	assert_int_equal(requests[1].err, -EIO);
	assert_recovered(2);
	assert_int_equal(driver_blk_submit(front, &requests[0].req), -EOPNOTSUPP);
	end();
}

static void device_that_came_back_with_fewer_queues(void)
{
	begin();
	features_set(&liar.offers, VIRTIO_BLK_F_MQ);
	config->num_queues = le16_of(4);
	liar.n_queues = 4;
	assert_int_equal(register_virtio_device(front), 0);
	for (u32 i = 0; i < 8; i++) {
		requests[i].req.queue = i;
		submit(i);
	}
	config->num_queues = le16_of(1);
	liar_breaks(&liar);
	while (virtio_poll())
		;
	assert_int_equal(answer_honestly(), 8);
	for (u32 i = 0; i < 8; i++)
		assert_int_equal(requests[i].err, 0);
	end();
}

/* Probe with ever more memory: it fails cleanly until there is enough. */
static void memory_missing_at_each_place(void)
{
	size_t used;
	int err = -ENOMEM;
	u32 n;

	begin();
	used = liar.memory.used_bytes;
	for (n = 0; err == -ENOMEM; n++) {
		liar.memory.n_bytes = used + 64 * n;
		liar.memory.used_bytes = used; /* what was given back is forgotten */
		liar.memory.freed = NULL;
		err = register_virtio_device(front);
		if (err < 0)
			unregister_virtio_device(front);
	}
	assert_int_equal(err, 0);
	assert_true(n > 10);
	liar.memory.n_bytes = LIAR_RAM_BYTES;
	submit(0);
	assert_int_equal(answer_honestly(), 1);
	end();
}

/* ---- both kinds of ring ---------------------------------------------------------------- */

#define BOTH(test)                               \
	static void hostile_blk_##test(void **s) \
	{                                        \
		for (int i = 0; i < 2; i++) {    \
			packed = i;              \
			test();                  \
		}                                \
	}

BOTH(D01_used_id_past_the_end)
BOTH(D01_used_id_not_in_flight)
BOTH(D01_used_twice)
BOTH(D01_used_idx_jumps)
BOTH(D02_used_length)
BOTH(D03_ring_rewritten_after_submit)
BOTH(D04_blocks_and_segments)
BOTH(D04_capacity)
BOTH(D04_queues)
BOTH(D04_discard_limits)
BOTH(D07_needs_reset_in_the_middle)
BOTH(D07_interrupt_storm)
BOTH(D07_no_interrupts)
BOTH(D07_reset_never_acknowledged)
BOTH(D07_breaks_for_ever)
BOTH(D08_status_junk_or_untouched)
BOTH(D08_answer_of_a_request_before_is_not_taken_for_ours)
BOTH(D12_used_entries_change_all_the_time)
BOTH(requests_that_do_not_want_to_are_not_tried_again)
BOTH(requests_come_again_in_order_before_new_ones)
BOTH(device_that_came_back_able_to_do_less)
BOTH(device_that_came_back_with_fewer_queues)
BOTH(memory_missing_at_each_place)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(hostile_blk_D01_used_id_past_the_end),
		cmocka_unit_test(hostile_blk_D01_used_id_not_in_flight),
		cmocka_unit_test(hostile_blk_D01_used_twice),
		cmocka_unit_test(hostile_blk_D01_used_idx_jumps),
		cmocka_unit_test(hostile_blk_D02_used_length),
		cmocka_unit_test(hostile_blk_D03_ring_rewritten_after_submit),
		cmocka_unit_test(hostile_blk_D04_blocks_and_segments),
		cmocka_unit_test(hostile_blk_D04_capacity),
		cmocka_unit_test(hostile_blk_D04_queues),
		cmocka_unit_test(hostile_blk_D04_discard_limits),
		cmocka_unit_test(hostile_blk_D07_needs_reset_in_the_middle),
		cmocka_unit_test(hostile_blk_D07_interrupt_storm),
		cmocka_unit_test(hostile_blk_D07_no_interrupts),
		cmocka_unit_test(hostile_blk_D07_reset_never_acknowledged),
		cmocka_unit_test(hostile_blk_D07_breaks_for_ever),
		cmocka_unit_test(hostile_blk_D08_status_junk_or_untouched),
		cmocka_unit_test(hostile_blk_D08_answer_of_a_request_before_is_not_taken_for_ours),
		cmocka_unit_test(hostile_blk_D12_used_entries_change_all_the_time),
		cmocka_unit_test(hostile_blk_requests_that_do_not_want_to_are_not_tried_again),
		cmocka_unit_test(hostile_blk_requests_come_again_in_order_before_new_ones),
		cmocka_unit_test(hostile_blk_device_that_came_back_able_to_do_less),
		cmocka_unit_test(hostile_blk_device_that_came_back_with_fewer_queues),
		cmocka_unit_test(hostile_blk_memory_missing_at_each_place),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
