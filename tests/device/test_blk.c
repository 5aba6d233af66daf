/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The block device, asked by a driver's half of a queue and standing on a mock storage.
 *
 * Everything runs on each of the eight kinds of ring. Many tests compare the mock's log: a line
 * of letters in which r w f d z begin and R W F D Z end an operation of the storage, ! ends it
 * with an error, and . is the driver getting an answer. "wWfF." is a write that was made safe
 * before it was acknowledged.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/shared.h"
#include "device/blk.h"
#include "spec/blk.h"
#include "tests/support/mock_storage.h"
#include "tests/support/ram_storage.h"
#include "tests/support/rig.h"

#define SECTOR VIRTIO_BLK_SECTOR_BYTES
#define N_SECTORS 256u
#define OK VIRTIO_BLK_S_OK
#define IOERR VIRTIO_BLK_S_IOERR
#define UNSUPP VIRTIO_BLK_S_UNSUPP

/* What drivers may make of the write cache. */
static const int no_cache[] = { VIRTIO_BLK_F_SEG_MAX, -1 };
static const int flush_only[] = { VIRTIO_BLK_F_FLUSH, -1 };
static const int wce_only[] = { VIRTIO_BLK_F_CONFIG_WCE, -1 };
static const int flush_and_wce[] = { VIRTIO_BLK_F_FLUSH, VIRTIO_BLK_F_CONFIG_WCE, -1 };

/* A request as the driver remembers it. The pointers are to guest memory. */
struct call {
	struct virtio_blk_header *header;
	u8 *data; /* out or in */
	u8 *status;
	u32 n_data;
	bool back;
	u32 n_written;
	u16 queue; /* that it came back on */
};

static struct disk {
	struct mock_storage mock;
	struct device_blk_config config;
	struct vdev *vdev;
	u8 *mem;
	size_t mem_bytes;
	struct rig rig;
	struct call calls[1024];
	u32 n_calls;
} the_disk;

static unsigned int combination; /* of ring features, see main */
static u64 seed;

/* A disk nobody has opened yet: change mock.storage and config at will, then plug it. */
static struct disk *new_disk(void)
{
	struct disk *d = &the_disk;

	memset(d, 0, sizeof(*d));
	mock_storage_init(&d->mock, N_SECTORS * SECTOR);
	d->config = (struct device_blk_config){
		.name = "disk",
		.storage = &d->mock.storage,
		.serial = "viaduct-0123456789abcdef",
		.n_queues = 1,
		.queue_size = 64,
	};
	return d;
}

#define CANARY 64

static void plug(struct disk *d, const int *features)
{
	struct rig_options options = rig_combination(combination);

	d->mem_bytes = device_blk_bytes(&d->config);
	d->mem = aligned_alloc(64, (d->mem_bytes + CANARY + 63) & ~(size_t)63);
	assert_non_null(d->mem);
	memset(d->mem, 0xcc, d->mem_bytes + CANARY); /* lent memory is not cleared */
	d->vdev = device_blk_init(d->mem, &d->config);
	rig_start(&d->rig, d->vdev, &options, features);
}

static struct disk *open_disk(const int *features)
{
	struct disk *d = new_disk();

	plug(d, features);
	return d;
}

static void close_disk(struct disk *d)
{
	rig_stop(&d->rig);
	assert_int_equal(d->mock.n_pending, 0);
	for (size_t i = 0; i < CANARY; i++)
		assert_int_equal(d->mem[d->mem_bytes + i], 0xcc);
	free(d->mem);
	mock_storage_fini(&d->mock);
}

/* Offers header, data out, room in and status, each in a buffer of its own. */
static struct call *ask_on(struct disk *d, u16 queue, u32 type, u64 sector, const void *out,
			   u32 n_out, u32 n_room)
{
	struct call *call = &d->calls[d->n_calls++];
	struct span sg[4];
	u32 n = 0;

	assert_true(d->n_calls <= ARRAY_SIZE(d->calls));
	*call = (struct call){ .n_data = n_out + n_room };
	call->header = rig_alloc(&d->rig, sizeof(*call->header));
	call->status = rig_alloc(&d->rig, 1);
	call->data = rig_alloc(&d->rig, n_out + n_room);
	*call->header = (struct virtio_blk_header){ le32_of(type), le32_of(0), le64_of(sector) };
	*call->status = 0xff;
	memset(call->data, 0xa5, n_out + n_room);
	if (out)
		memcpy(call->data, out, n_out);
	sg[n++] = (struct span){ call->header, sizeof(*call->header) };
	if (n_out)
		sg[n++] = (struct span){ call->data, n_out };
	if (n_room)
		sg[n++] = (struct span){ call->data + n_out, n_room };
	sg[n] = (struct span){ call->status, 1 };
	rig_submit(&d->rig, queue, sg, 1 + (n_out > 0), 1 + (n_room > 0), call);
	return call;
}

static struct call *ask(struct disk *d, u32 type, u64 sector, const void *out, u32 n_out,
			u32 n_room)
{
	return ask_on(d, 0, type, sector, out, n_out, n_room);
}

static u32 reap(struct disk *d)
{
	struct call *call;
	u32 n = 0, n_written;

	for (u16 q = 0; q < d->vdev->n_queues; q++) {
		while ((call = rig_reap(&d->rig, q, &n_written))) {
			assert_false(call->back);
			call->back = true;
			call->n_written = n_written;
			call->queue = q;
			mock_log(&d->mock, '.');
			n++;
		}
	}
	return n;
}

#define assert_answer(call, want)                        \
	do {                                             \
		assert_true((call)->back);               \
		assert_int_equal(*(call)->status, want); \
	} while (0)

/* Asks a device that answers at once. */
static u8 answer(struct disk *d, u32 type, u64 sector, const void *out, u32 n_out, u32 n_room)
{
	struct call *call = ask(d, type, sector, out, n_out, n_room);

	assert_int_equal(reap(d), 1);
	assert_true(call->back);
	assert_int_equal(call->n_written, n_room + 1); /* all of it initialised, status last */
	return *call->status;
}

static const u8 *pattern(u64 number, u32 n_bytes)
{
	static u8 bytes[64 * SECTOR];
	u64 state = number;

	assert_true(n_bytes <= sizeof(bytes));
	for (u32 i = 0; i < n_bytes; i += 8) {
		u64 word = rig_random(&state);

		memcpy(bytes + i, &word, 8);
	}
	return bytes;
}

static struct call *ask_write(struct disk *d, u64 sector)
{
	return ask(d, VIRTIO_BLK_T_OUT, sector, pattern(sector, SECTOR), SECTOR, 0);
}

static bool holds(const u8 *disk, u64 sector)
{
	return memcmp(disk + sector * SECTOR, pattern(sector, SECTOR), SECTOR) == 0;
}

static u8 writeback(struct disk *d)
{
	u8 byte;

	vdev_config_read(d->vdev, offsetof(struct virtio_blk_config, writeback), &byte, 1);
	return byte;
}

static void set_writeback(struct disk *d, u8 byte)
{
	vdev_config_write(d->vdev, offsetof(struct virtio_blk_config, writeback), &byte, 1);
}

static struct virtio_blk_config config_of(struct disk *d)
{
	struct virtio_blk_config c;

	vdev_config_read(d->vdev, 0, &c, sizeof(c));
	return c;
}

/* ---- the three stability rules --------------------------------------------------------- */

static void stability_1_no_cache_features_write_answers_after_a_flush(void **state)
{
	struct disk *d = open_disk(no_cache);
	struct call *call;

	d->mock.hold = true;
	call = ask_write(d, 3);
	mock_complete(&d->mock, 0);
	assert_int_equal(reap(d), 0);
	assert_true(holds(d->mock.bytes, 3));
	assert_false(holds(d->mock.stable, 3));
	mock_complete(&d->mock, 0);
	assert_int_equal(reap(d), 1);
	assert_answer(call, OK);
	assert_true(holds(d->mock.stable, 3));
	assert_string_equal(d->mock.log, "wWfF.");

	/* Zeroes are data too; what was discarded is not. */
	d->mock.hold = false;
	mock_clear_log(&d->mock);
	struct virtio_blk_discard_write_zeroes segment = { le64_of(3), le32_of(1), le32_of(0) };
	assert_int_equal(answer(d, VIRTIO_BLK_T_WRITE_ZEROES, 0, &segment, 16, 0), OK);
	assert_string_equal(d->mock.log, "zZfF.");
	mock_clear_log(&d->mock);
	assert_int_equal(answer(d, VIRTIO_BLK_T_DISCARD, 0, &segment, 16, 0), OK);
	assert_string_equal(d->mock.log, "dD.");
	close_disk(d);
}

static void stability_1_flush_of_a_write_fails_write_fails(void **state)
{
	struct disk *d = open_disk(no_cache);

	d->mock.fail[MOCK_FLUSH] = -EIO;
	assert_int_equal(answer(d, VIRTIO_BLK_T_OUT, 0, NULL, SECTOR, 0), IOERR);
	assert_string_equal(d->mock.log, "wWf!.");
	/* A write that failed needs no flush. */
	mock_clear_log(&d->mock);
	d->mock.fail[MOCK_WRITE] = -ENOSPC;
	assert_int_equal(answer(d, VIRTIO_BLK_T_OUT, 0, NULL, SECTOR, 0), IOERR);
	assert_string_equal(d->mock.log, "w!.");
	close_disk(d);
}

static void stability_2_writeback_off_write_answers_after_a_flush(void **state)
{
	struct disk *d = open_disk(flush_and_wce);

	assert_int_equal(writeback(d), 1);
	ask_write(d, 1);
	reap(d);
	assert_string_equal(d->mock.log, "wW.");
	assert_false(holds(d->mock.stable, 1));

	set_writeback(d, 0);
	assert_int_equal(writeback(d), 0);
	mock_clear_log(&d->mock);
	ask_write(d, 2);
	reap(d);
	assert_string_equal(d->mock.log, "wWfF.");
	assert_true(holds(d->mock.stable, 2));

	set_writeback(d, 1);
	mock_clear_log(&d->mock);
	ask_write(d, 4);
	reap(d);
	assert_string_equal(d->mock.log, "wW.");
	close_disk(d);
}

static void stability_3_flush_starts_a_storage_flush_after_the_completed_writes(void **state)
{
	struct disk *d = open_disk(flush_only);

	ask_write(d, 5);
	reap(d);
	assert_false(holds(d->mock.stable, 5));
	assert_int_equal(answer(d, VIRTIO_BLK_T_FLUSH, 0, NULL, 0, 0), OK);
	assert_string_equal(d->mock.log, "wW.fF.");
	assert_true(holds(d->mock.stable, 5));
	/* Nothing was written since, but who knows: each FLUSH is a flush. */
	assert_int_equal(answer(d, VIRTIO_BLK_T_FLUSH, 0, NULL, 0, 0), OK);
	assert_int_equal(d->mock.n_begun[MOCK_FLUSH], 2);
	close_disk(d);
}

/* A flush under way when a write completes does not cover it: the next FLUSH is not merged. */
static void stability_3_flush_in_flight_is_not_shared_with_a_later_one(void **state)
{
	struct disk *d = open_disk(flush_only);
	struct call *write, *early, *late;

	d->mock.hold = true;
	write = ask_write(d, 7);
	early = ask(d, VIRTIO_BLK_T_FLUSH, 0, NULL, 0, 0);
	mock_complete(&d->mock, 0);
	reap(d);
	assert_answer(write, OK);
	late = ask(d, VIRTIO_BLK_T_FLUSH, 0, NULL, 0, 0);
	assert_string_equal(d->mock.log, "wfW.f");
	mock_complete(&d->mock, 0);
	reap(d);
	assert_answer(early, OK);
	assert_false(late->back);
	assert_false(holds(d->mock.stable, 7));
	mock_complete(&d->mock, 0);
	reap(d);
	assert_answer(late, OK);
	assert_true(holds(d->mock.stable, 7));
	assert_string_equal(d->mock.log, "wfW.fF.F.");
	close_disk(d);
}

static void blk_E06_flush_does_not_wait_for_writes_in_flight(void **state)
{
	struct disk *d = open_disk(flush_only);
	struct call *write, *flush;

	d->mock.hold = true;
	write = ask_write(d, 9);
	flush = ask(d, VIRTIO_BLK_T_FLUSH, 0, NULL, 0, 0);
	mock_complete(&d->mock, 1);
	assert_int_equal(reap(d), 1);
	assert_answer(flush, OK);
	assert_false(write->back);
	assert_string_equal(d->mock.log, "wfF.");
	mock_complete(&d->mock, 0);
	reap(d);
	assert_answer(write, OK);
	close_disk(d);
}

static void blk_E06_flush_on_one_queue_covers_writes_of_another(void **state)
{
	struct disk *d = new_disk();

	d->config.n_queues = 2;
	plug(d, flush_only);
	ask_on(d, 0, VIRTIO_BLK_T_OUT, 11, pattern(11, SECTOR), SECTOR, 0);
	reap(d);
	ask_on(d, 1, VIRTIO_BLK_T_FLUSH, 0, NULL, 0, 0);
	reap(d);
	assert_string_equal(d->mock.log, "wW.fF.");
	assert_true(holds(d->mock.stable, 11));
	close_disk(d);
}

/* Either end of the flight counts, so that a change of mind never weakens a write. */
static void blk_E06_writeback_toggled_under_a_write_takes_the_safe_side(void **state)
{
	static const struct {
		u8 before, after;
		const char *log;
	} rows[] = { { 1, 1, "wW." }, { 0, 0, "wWfF." }, { 0, 1, "wWfF." }, { 1, 0, "wWfF." } };
	struct disk *d = open_disk(flush_and_wce);

	d->mock.hold = true;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct call *call;

		mock_clear_log(&d->mock);
		set_writeback(d, rows[i].before);
		call = ask_write(d, i);
		set_writeback(d, rows[i].after);
		mock_complete_all(&d->mock);
		reap(d);
		assert_answer(call, OK);
		assert_string_equal(d->mock.log, rows[i].log);
	}
	close_disk(d);
}

/*
 * Everything at once, against the rules by the letter: writes, flushes and toggles at random,
 * completed at random. A write that saw writeback at 0 all its life is in `stable` when it is
 * answered; so is, when a FLUSH is answered, every write answered before it was asked.
 */
static void blk_E06_random_writes_flushes_and_toggles_keep_every_promise(void **state)
{
	struct {
		struct call *call;
		bool flush, seen;
		bool promised; /* write: writeback was 0 all the time */
		u32 n_before; /* flush: writes answered when it was asked */
	} asked[600] = { 0 };
	u32 done[N_SECTORS]; /* sectors, as their writes were answered */
	u32 n_asked = 0, n_written = 0, n_done = 0;
	struct disk *d = open_disk(flush_and_wce);
	u64 random = seed + combination;
	u8 cache = 1;

	d->mock.hold = true;
	while (n_done < N_SECTORS) {
		u64 dice = rig_random(&random) % 16;

		if (dice < 4 && n_written < N_SECTORS && d->mock.n_pending < 12) {
			asked[n_asked].promised = !cache;
			asked[n_asked++].call = ask_write(d, n_written++);
		} else if (dice < 5 && n_asked < 560 && d->mock.n_pending < 12) {
			asked[n_asked].flush = true;
			asked[n_asked].n_before = n_done;
			asked[n_asked++].call = ask(d, VIRTIO_BLK_T_FLUSH, 0, NULL, 0, 0);
		} else if (dice < 7) {
			cache = !cache;
			set_writeback(d, cache);
		} else if (d->mock.n_pending > 0) {
			mock_complete(&d->mock, rig_random(&random) % d->mock.n_pending);
		}
		for (u32 i = 0; i < n_asked; i++)
			asked[i].promised &= asked[i].call->back || !cache;
		reap(d);
		for (u32 i = 0; i < n_asked; i++) {
			struct call *call = asked[i].call;

			if (!call->back || asked[i].seen)
				continue;
			asked[i].seen = true;
			assert_answer(call, OK);
			if (asked[i].flush) {
				for (u32 j = 0; j < asked[i].n_before; j++)
					assert_true(holds(d->mock.stable, done[j]));
			} else {
				done[n_done] = (u32)le64_get(call->header->sector);
				if (asked[i].promised)
					assert_true(holds(d->mock.stable, done[n_done]));
				n_done++;
			}
		}
	}
	close_disk(d);
}

/* ---- the write cache's configuration --------------------------------------------------- */

static void config_wce_without_flush_writeback_stays_0(void **state)
{
	struct disk *d = open_disk(wce_only);

	assert_int_equal(writeback(d), 0); /* D-BLK-5.2.5.2-02 */
	set_writeback(d, 1);
	assert_int_equal(writeback(d), 0);
	ask_write(d, 1);
	reap(d);
	assert_string_equal(d->mock.log, "wWfF.");
	/* Another driver, another deal. */
	rig_reset(&d->rig);
	rig_restart(&d->rig, flush_and_wce);
	assert_int_equal(writeback(d), 1);
	close_disk(d);
}

static void config_writeback_takes_odd_values_for_0(void **state)
{
	struct disk *d = open_disk(flush_and_wce);

	set_writeback(d, 2);
	assert_int_equal(writeback(d), 0);
	ask_write(d, 1);
	reap(d);
	assert_string_equal(d->mock.log, "wWfF.");
	close_disk(d);
}

/* Without CONFIG_WCE the byte means nothing, and FLUSH alone means a cache. */
static void config_writeback_without_wce_changes_nothing(void **state)
{
	struct disk *d = open_disk(flush_only);

	set_writeback(d, 0);
	ask_write(d, 1);
	reap(d);
	assert_string_equal(d->mock.log, "wW.");
	close_disk(d);
}

/* ---- features and configuration -------------------------------------------------------- */

static void config_describes_the_storage(void **state)
{
	struct disk *d = new_disk();
	struct storage *s = &d->mock.storage;
	struct virtio_blk_config c, want;
	const u64 all = 1 << VIRTIO_BLK_F_SIZE_MAX | 1 << VIRTIO_BLK_F_SEG_MAX |
			1 << VIRTIO_BLK_F_BLK_SIZE | 1 << VIRTIO_BLK_F_FLUSH |
			1 << VIRTIO_BLK_F_TOPOLOGY | 1 << VIRTIO_BLK_F_CONFIG_WCE |
			1 << VIRTIO_BLK_F_MQ | 1 << VIRTIO_BLK_F_DISCARD |
			1 << VIRTIO_BLK_F_WRITE_ZEROES;

	s->logical_block_bytes = 1024;
	s->physical_block_bytes = 4096;
	s->min_io_bytes = 8192;
	s->opt_io_bytes = 65536;
	s->discard_align_bytes = 16384;
	d->config.size_max = 65536;
	d->config.seg_max = 30;
	d->config.n_queues = 4;
	plug(d, NULL);
	assert_int_equal(d->vdev->offered.word[0] & 0xffffff, all);
	want = (struct virtio_blk_config){
		.capacity = le64_of(N_SECTORS),
		.size_max = le32_of(65536),
		.seg_max = le32_of(30),
		.blk_size = le32_of(1024),
		.topology = { 2, 0, le16_of(8), le32_of(64) },
		.writeback = 1,
		.num_queues = le16_of(4),
		.max_discard_sectors = le32_of(1 << 22),
		.max_discard_seg = le32_of(64),
		.discard_sector_alignment = le32_of(32),
		.max_write_zeroes_sectors = le32_of(1 << 17),
		.max_write_zeroes_seg = le32_of(64),
		.write_zeroes_may_unmap = 1,
	};
	c = config_of(d);
	assert_memory_equal(&c, &want, sizeof(c)); /* D-BLK-5.2.5.2-03: and zeroes between */
	close_disk(d);
}

static void config_of_a_plain_disk_offers_no_more_than_there_is(void **state)
{
	struct disk *d = new_disk();
	struct virtio_blk_config c;
	const u64 some = 1 << VIRTIO_BLK_F_SEG_MAX | 1 << VIRTIO_BLK_F_BLK_SIZE |
			 1 << VIRTIO_BLK_F_FLUSH | 1 << VIRTIO_BLK_F_TOPOLOGY |
			 1 << VIRTIO_BLK_F_CONFIG_WCE;

	d->mock.storage.can_discard = d->mock.storage.can_write_zeroes = false;
	plug(d, NULL);
	assert_int_equal(d->vdev->offered.word[0] & 0xffffff, some);
	c = config_of(d);
	assert_int_equal(le32_get(c.seg_max), 62);
	assert_int_equal(le32_get(c.max_discard_sectors), 0);
	assert_int_equal(le32_get(c.max_write_zeroes_sectors), 0);
	close_disk(d);
}

static void hostile_G23_writes_to_read_only_config_are_dropped(void **state)
{
	struct disk *d = open_disk(NULL);
	struct virtio_blk_config before = config_of(d), after, junk;

	memset(&junk, 0xff, sizeof(junk));
	junk.writeback = 1;
	vdev_config_write(d->vdev, 0, &junk, sizeof(junk));
	after = config_of(d);
	assert_memory_equal(&before, &after, sizeof(before));
	assert_int_equal(answer(d, VIRTIO_BLK_T_IN, N_SECTORS, NULL, 0, SECTOR), IOERR);
	close_disk(d);
}

static void hostile_G23_capacity_change_has_its_own_generation_and_is_notified(void **state)
{
	struct disk *d = open_disk(NULL);
	struct storage *s = &d->mock.storage;
	u32 generation = d->vdev->config_generation;

	s->n_bytes = (N_SECTORS - 8) * SECTOR;
	s->resized(s->owner);
	assert_int_equal(d->vdev->config_generation, generation + 1);
	assert_int_equal(d->rig.n_config, 1);
	assert_int_equal(le64_get(config_of(d).capacity), N_SECTORS - 8);
	assert_int_equal(answer(d, VIRTIO_BLK_T_IN, N_SECTORS - 9, NULL, 0, SECTOR), OK);
	assert_int_equal(answer(d, VIRTIO_BLK_T_IN, N_SECTORS - 9, NULL, 0, 2 * SECTOR), IOERR);
	assert_int_equal(answer(d, VIRTIO_BLK_T_OUT, N_SECTORS - 8, NULL, SECTOR, 0), IOERR);

	/* Grown again, by half a sector too much: only whole ones count. */
	s->n_bytes = N_SECTORS * SECTOR - 256;
	s->resized(s->owner);
	assert_int_equal(le64_get(config_of(d).capacity), N_SECTORS - 1);
	assert_int_equal(answer(d, VIRTIO_BLK_T_OUT, N_SECTORS - 2, NULL, SECTOR, 0), OK);
	assert_int_equal(answer(d, VIRTIO_BLK_T_OUT, N_SECTORS - 1, NULL, SECTOR, 0), IOERR);
	s->n_bytes = N_SECTORS * SECTOR;
	close_disk(d);
}

/* ---- requests, good and silly ---------------------------------------------------------- */

static void read_returns_what_write_stored(void **state)
{
	struct disk *d = open_disk(NULL);
	struct call *call;

	assert_int_equal(answer(d, VIRTIO_BLK_T_OUT, 17, pattern(1, 8 * SECTOR), 8 * SECTOR, 0),
			 OK);
	assert_memory_equal(d->mock.bytes + 17 * SECTOR, pattern(1, 8 * SECTOR), 8 * SECTOR);
	call = ask(d, VIRTIO_BLK_T_IN, 17, NULL, 0, 8 * SECTOR);
	reap(d);
	assert_answer(call, OK);
	assert_int_equal(call->n_written, 8 * SECTOR + 1);
	assert_memory_equal(call->data, pattern(1, 8 * SECTOR), 8 * SECTOR);
	close_disk(d);
}

static void get_id_tells_20_bytes_of_the_serial(void **state)
{
	struct disk *d = open_disk(NULL);
	struct call *call = ask(d, VIRTIO_BLK_T_GET_ID, 0, NULL, 0, 20);

	reap(d);
	assert_answer(call, OK);
	assert_int_equal(call->n_written, 21);
	assert_memory_equal(call->data, "viaduct-0123456789ab", 20);

	/* More room than that: the rest is cleared. Less (G26): no. */
	call = ask(d, VIRTIO_BLK_T_GET_ID, 0, NULL, 0, 25);
	reap(d);
	assert_answer(call, OK);
	assert_int_equal(call->n_written, 26);
	assert_memory_equal(call->data, "viaduct-0123456789ab\0\0\0\0\0", 25);
	assert_int_equal(answer(d, VIRTIO_BLK_T_GET_ID, 0, NULL, 0, 19), IOERR);
	close_disk(d);

	d = new_disk();
	d->config.serial = "short";
	plug(d, NULL);
	call = ask(d, VIRTIO_BLK_T_GET_ID, 0, NULL, 0, 20);
	reap(d);
	assert_memory_equal(call->data, "short\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 20);
	close_disk(d);
}

static void hostile_G26_silly_requests_are_answered_in_band(void **state)
{
	static const struct {
		u32 type;
		u64 sector;
		u32 n_out, n_room;
		u8 status;
	} rows[] = {
		{ VIRTIO_BLK_T_IN, N_SECTORS - 1, 0, SECTOR, OK },
		{ VIRTIO_BLK_T_IN, N_SECTORS, 0, SECTOR, IOERR },
		{ VIRTIO_BLK_T_IN, N_SECTORS - 1, 0, 2 * SECTOR, IOERR },
		{ VIRTIO_BLK_T_IN, UINT64_MAX, 0, SECTOR, IOERR },
		{ VIRTIO_BLK_T_IN, UINT64_MAX, 0, 2 * SECTOR, IOERR },
		{ VIRTIO_BLK_T_IN, (UINT64_MAX >> 9) + 1, 0, SECTOR, IOERR }, /* byte 0, wrapped */
		{ VIRTIO_BLK_T_IN, 1ull << 55, 0, SECTOR, IOERR },
		{ VIRTIO_BLK_T_IN, 0, 0, SECTOR - 1, IOERR },
		{ VIRTIO_BLK_T_IN, 0, 0, SECTOR + 1, IOERR },
		{ VIRTIO_BLK_T_IN, 0, 0, 0, IOERR },
		{ VIRTIO_BLK_T_IN, 0, SECTOR, 0, IOERR }, /* data on the wrong side */
		{ VIRTIO_BLK_T_OUT, N_SECTORS - 1, SECTOR, 0, OK },
		{ VIRTIO_BLK_T_OUT, N_SECTORS, SECTOR, 0, IOERR },
		{ VIRTIO_BLK_T_OUT, N_SECTORS - 1, 2 * SECTOR, 0, IOERR },
		{ VIRTIO_BLK_T_OUT, UINT64_MAX, SECTOR, 0, IOERR },
		{ VIRTIO_BLK_T_OUT, (UINT64_MAX >> 9) + 1, SECTOR, 0, IOERR },
		{ VIRTIO_BLK_T_OUT, 0, SECTOR - 1, 0, IOERR },
		{ VIRTIO_BLK_T_OUT, 0, 0, 0, IOERR },
		{ VIRTIO_BLK_T_OUT, 0, 0, SECTOR, IOERR },
		{ VIRTIO_BLK_T_OUT, 0, SECTOR, 100, OK }, /* room nobody asked for is cleared */
		{ VIRTIO_BLK_T_FLUSH, 77, 32, 32, OK }, /* too safe is no harm */
		{ VIRTIO_BLK_T_SCSI_CMD, 0, 64, 200, UNSUPP },
		{ VIRTIO_BLK_T_SCSI_CMD_OUT, 0, 64, 0, UNSUPP },
		{ VIRTIO_BLK_T_FLUSH_OUT, 0, 0, 0, UNSUPP },
		{ VIRTIO_BLK_T_GET_LIFETIME, 0, 0, 6, UNSUPP },
		{ VIRTIO_BLK_T_SECURE_ERASE, 0, 16, 0, UNSUPP },
		{ VIRTIO_BLK_T_ZONE_APPEND, 0, SECTOR, 8, UNSUPP },
		{ VIRTIO_BLK_T_ZONE_REPORT, 0, 0, 128, UNSUPP },
		{ VIRTIO_BLK_T_BARRIER | VIRTIO_BLK_T_OUT, 0, SECTOR, 0, UNSUPP },
		{ UINT32_MAX, 0, 0, 0, UNSUPP },
	};
	struct disk *d = open_disk(NULL);

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct call *call =
			ask(d, rows[i].type, rows[i].sector, NULL, rows[i].n_out, rows[i].n_room);

		reap(d);
		assert_answer(call, rows[i].status);
		assert_int_equal(call->n_written, rows[i].n_room + 1);
		/* G37: nothing claimed that was not put there. The disk is all zeroes. */
		for (u32 j = 0; j < rows[i].n_room; j++)
			assert_int_equal(call->data[rows[i].n_out + j], 0);
		memset(d->mock.bytes, 0, N_SECTORS * SECTOR);
	}
	assert_int_equal(d->mock.n_begun[MOCK_READ], 1);
	assert_int_equal(d->mock.n_begun[MOCK_WRITE], 2);
	assert_false(d->vdev->broken);
	close_disk(d);
}

static void blocks_of_4096_refuse_parts_of_them(void **state)
{
	struct disk *d = new_disk();

	d->mock.storage.logical_block_bytes = d->mock.storage.physical_block_bytes = 4096;
	d->mock.storage.n_bytes -= 512; /* a last block that is not whole is none */
	plug(d, NULL);
	assert_int_equal(le64_get(config_of(d).capacity), N_SECTORS - 8);
	assert_int_equal(answer(d, VIRTIO_BLK_T_IN, 8, NULL, 0, 4096), OK);
	assert_int_equal(answer(d, VIRTIO_BLK_T_IN, 1, NULL, 0, 4096), IOERR);
	assert_int_equal(answer(d, VIRTIO_BLK_T_IN, 8, NULL, 0, 512), IOERR);
	assert_int_equal(answer(d, VIRTIO_BLK_T_OUT, 8, NULL, 4096 + 512, 0), IOERR);
	struct virtio_blk_discard_write_zeroes s = { le64_of(8), le32_of(7), le32_of(0) };
	assert_int_equal(answer(d, VIRTIO_BLK_T_DISCARD, 0, &s, 16, 0), IOERR);
	assert_int_equal(answer(d, VIRTIO_BLK_T_WRITE_ZEROES, 0, &s, 16, 0), IOERR);
	close_disk(d);
}

/* The driver does not take RO, or does, and writes all the same. */
static void hostile_G22_read_only_disk_refuses_writes_whatever_was_negotiated(void **state)
{
	static const int with_ro[] = { VIRTIO_BLK_F_RO, VIRTIO_BLK_F_FLUSH, -1 };
	static const int *const drivers[] = { no_cache, flush_only, with_ro };
	struct virtio_blk_discard_write_zeroes s = { le64_of(0), le32_of(8), le32_of(0) };

	for (u32 i = 0; i < 2 * ARRAY_SIZE(drivers); i++) {
		struct disk *d = new_disk();

		if (i & 1)
			d->config.read_only = true;
		else
			d->mock.storage.read_only = true;
		memset(d->mock.bytes, 0x77, N_SECTORS * SECTOR);
		plug(d, drivers[i / 2]);
		assert_true(features_has(&d->vdev->offered, VIRTIO_BLK_F_RO));
		assert_false(features_has(&d->vdev->offered, VIRTIO_BLK_F_DISCARD));
		assert_int_equal(answer(d, VIRTIO_BLK_T_OUT, 0, NULL, SECTOR, 0), IOERR);
		assert_int_equal(answer(d, VIRTIO_BLK_T_DISCARD, 0, &s, 16, 0), IOERR);
		assert_int_equal(answer(d, VIRTIO_BLK_T_WRITE_ZEROES, 0, &s, 16, 0), IOERR);
		assert_string_equal(d->mock.log, "...");
		assert_int_equal(answer(d, VIRTIO_BLK_T_IN, 0, NULL, 0, SECTOR), OK);
		assert_int_equal(answer(d, VIRTIO_BLK_T_FLUSH, 0, NULL, 0, 0), OK);
		assert_string_equal(d->mock.log, "...rR.fF.");
		for (u32 j = 0; j < N_SECTORS * SECTOR; j++)
			assert_int_equal(d->mock.bytes[j], 0x77);
		close_disk(d);
	}
}

/* ---- discard and write zeroes ---------------------------------------------------------- */

static void hostile_G27_segments_are_checked(void **state)
{
	static const struct {
		u32 type;
		u64 sector;
		u32 n_sectors, flags;
		u8 status;
	} rows[] = {
		{ VIRTIO_BLK_T_DISCARD, 0, N_SECTORS, 0, OK },
		{ VIRTIO_BLK_T_DISCARD, N_SECTORS, 0, 0, OK },
		{ VIRTIO_BLK_T_DISCARD, N_SECTORS + 1, 0, 0, IOERR },
		{ VIRTIO_BLK_T_DISCARD, 0, N_SECTORS + 1, 0, IOERR },
		{ VIRTIO_BLK_T_DISCARD, 1, N_SECTORS, 0, IOERR },
		{ VIRTIO_BLK_T_DISCARD, UINT64_MAX, 1, 0, IOERR },
		{ VIRTIO_BLK_T_DISCARD, UINT64_MAX, 2, 0, IOERR },
		{ VIRTIO_BLK_T_DISCARD, 1ull << 55, 1, 0, IOERR },
		{ VIRTIO_BLK_T_DISCARD, 0, UINT32_MAX, 0, IOERR },
		{ VIRTIO_BLK_T_DISCARD, 0, 1, 1, UNSUPP }, /* D-BLK-5.2.6.2-05 */
		{ VIRTIO_BLK_T_DISCARD, 0, 1, 2, UNSUPP }, /* D-BLK-5.2.6.2-04 */
		{ VIRTIO_BLK_T_DISCARD, 0, 1, 1u << 31, UNSUPP },
		{ VIRTIO_BLK_T_WRITE_ZEROES, 0, N_SECTORS, 0, OK },
		{ VIRTIO_BLK_T_WRITE_ZEROES, 0, 1, 1, OK },
		{ VIRTIO_BLK_T_WRITE_ZEROES, 0, 1, 2, UNSUPP },
		{ VIRTIO_BLK_T_WRITE_ZEROES, 0, 1, 3, UNSUPP },
		{ VIRTIO_BLK_T_WRITE_ZEROES, 0, 1, UINT32_MAX, UNSUPP },
		{ VIRTIO_BLK_T_WRITE_ZEROES, 0, N_SECTORS + 1, 0, IOERR },
		{ VIRTIO_BLK_T_WRITE_ZEROES, UINT64_MAX - 1, 3, 0, IOERR },
	};
	u8 many[65 * 16] = { 0 };
	struct disk *d = open_disk(NULL);

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct virtio_blk_discard_write_zeroes s = {
			le64_of(rows[i].sector),
			le32_of(rows[i].n_sectors),
			le32_of(rows[i].flags),
		};
		u64 begun = d->mock.n_begun[MOCK_DISCARD] + d->mock.n_begun[MOCK_WRITE_ZEROES];

		assert_int_equal(answer(d, rows[i].type, 0, &s, 16, 0), rows[i].status);
		assert_int_equal(d->mock.n_begun[MOCK_DISCARD] + d->mock.n_begun[MOCK_WRITE_ZEROES],
				 begun + (rows[i].status == OK && rows[i].n_sectors > 0));
	}
	for (u32 i = 0; i < 2; i++) {
		u32 type = i ? VIRTIO_BLK_T_DISCARD : VIRTIO_BLK_T_WRITE_ZEROES;

		assert_int_equal(answer(d, type, 0, NULL, 0, 0), IOERR);
		assert_int_equal(answer(d, type, 0, many, 15, 0), IOERR);
		assert_int_equal(answer(d, type, 0, many, 17, 0), IOERR);
		assert_int_equal(answer(d, type, 0, many, 64 * 16, 0), OK);
		assert_int_equal(answer(d, type, 0, many, 65 * 16, 0), IOERR);
	}
	close_disk(d);
}

/* Above the limits of one segment, on a disk that is large enough for more. */
static void hostile_G27_segments_above_the_told_limits_fail(void **state)
{
	struct disk *d = new_disk();
	u64 n_bytes = d->mock.storage.n_bytes;
	struct virtio_blk_config c;

	d->mock.storage.n_bytes = 1ull << 40;
	plug(d, NULL);
	c = config_of(d);
	for (u32 i = 0; i < 2; i++) {
		u32 type = i ? VIRTIO_BLK_T_DISCARD : VIRTIO_BLK_T_WRITE_ZEROES;
		u32 max = le32_get(i ? c.max_discard_sectors : c.max_write_zeroes_sectors);
		struct virtio_blk_discard_write_zeroes s = {
			le64_of(0),
			le32_of(max + 1),
			le32_of(0),
		};

		assert_int_equal(answer(d, type, 0, &s, 16, 0), IOERR);
		d->mock.hold = true;
		s.num_sectors = le32_of(max);
		ask(d, type, 0, &s, 16, 0);
		assert_int_equal(d->mock.n_pending, 1);
		assert_int_equal(d->mock.pending[0].n_bytes, (u64)max * SECTOR);
		d->mock.fail[MOCK_DISCARD] = d->mock.fail[MOCK_WRITE_ZEROES] = -EIO;
		mock_complete_all(&d->mock);
		assert_int_equal(reap(d), 1);
		d->mock.hold = false;
	}
	d->mock.storage.n_bytes = n_bytes;
	close_disk(d);
}

static void segments_run_one_by_one_and_answer_once(void **state)
{
	struct virtio_blk_discard_write_zeroes s[4] = {
		{ le64_of(1), le32_of(1), le32_of(0) },
		{ le64_of(9), le32_of(0), le32_of(0) },
		{ le64_of(5), le32_of(2), le32_of(1) },
		{ le64_of(20), le32_of(1), le32_of(0) },
	};
	struct disk *d = open_disk(flush_only);
	struct call *call;

	memset(d->mock.bytes, 0xee, N_SECTORS * SECTOR);
	d->mock.hold = true;
	call = ask(d, VIRTIO_BLK_T_WRITE_ZEROES, 0, s, sizeof(s), 0);
	assert_int_equal(d->mock.n_pending, 1);
	assert_false(d->mock.pending[0].may_unmap);
	mock_complete(&d->mock, 0);
	assert_int_equal(d->mock.n_pending, 1);
	assert_int_equal(d->mock.pending[0].offset, 5 * SECTOR);
	assert_true(d->mock.pending[0].may_unmap);
	mock_complete(&d->mock, 0);
	assert_int_equal(reap(d), 0);
	mock_complete(&d->mock, 0);
	assert_int_equal(reap(d), 1);
	assert_answer(call, OK);
	assert_string_equal(d->mock.log, "zZzZzZ.");
	for (u32 i = 0; i < N_SECTORS; i++)
		assert_int_equal(d->mock.bytes[i * SECTOR],
				 i == 1 || i == 5 || i == 6 || i == 20 ? 0 : 0xee);

	/* An error in the middle ends it, at once or later; so does a bad segment. */
	mock_clear_log(&d->mock);
	call = ask(d, VIRTIO_BLK_T_WRITE_ZEROES, 0, s, sizeof(s), 0);
	mock_complete(&d->mock, 0);
	d->mock.fail[MOCK_WRITE_ZEROES] = -ENOSPC;
	mock_complete(&d->mock, 0);
	reap(d);
	assert_answer(call, IOERR);
	assert_string_equal(d->mock.log, "zZz!.");

	mock_clear_log(&d->mock);
	d->mock.hold = false;
	assert_int_equal(answer(d, VIRTIO_BLK_T_WRITE_ZEROES, 0, s, sizeof(s), 0), IOERR);
	assert_string_equal(d->mock.log, "z!.");

	mock_clear_log(&d->mock);
	assert_int_equal(answer(d, VIRTIO_BLK_T_DISCARD, 0, s, sizeof(s), 0), UNSUPP);
	assert_string_equal(d->mock.log, "dD.");
	close_disk(d);
}

static void blk_E13_discard_and_zeroes_over_writes_in_flight(void **state)
{
	struct virtio_blk_discard_write_zeroes s = { le64_of(0), le32_of(8), le32_of(1) };
	struct disk *d = open_disk(flush_only);
	struct call *write, *zero, *read;

	d->mock.hold = true;
	write = ask_write(d, 4);
	zero = ask(d, VIRTIO_BLK_T_WRITE_ZEROES, 0, &s, 16, 0);
	/* No order is promised: here the later one is done first, and both are answered. */
	mock_complete(&d->mock, 1);
	mock_complete(&d->mock, 0);
	reap(d);
	assert_answer(write, OK);
	assert_answer(zero, OK);
	assert_true(holds(d->mock.bytes, 4));

	/* The driver waited, so now there is one: unmapped or not, zeroes are read. */
	d->mock.hold = false;
	assert_int_equal(answer(d, VIRTIO_BLK_T_WRITE_ZEROES, 0, &s, 16, 0), OK);
	read = ask(d, VIRTIO_BLK_T_IN, 0, NULL, 0, 8 * SECTOR);
	reap(d);
	for (u32 i = 0; i < 8 * SECTOR; i++)
		assert_int_equal(read->data[i], 0);
	close_disk(d);

	/* What a storage cannot do is not offered, and not done. */
	d = new_disk();
	d->mock.storage.can_discard = d->mock.storage.can_write_zeroes = false;
	plug(d, NULL);
	s.flags = le32_of(0);
	assert_int_equal(answer(d, VIRTIO_BLK_T_WRITE_ZEROES, 0, &s, 16, 0), UNSUPP);
	assert_int_equal(answer(d, VIRTIO_BLK_T_DISCARD, 0, &s, 16, 0), UNSUPP);
	assert_string_equal(d->mock.log, "..");
	close_disk(d);
}

/* ---- errors of the storage ------------------------------------------------------------- */

static void hostile_G40_each_operation_failing_is_an_ioerr_and_no_more(void **state)
{
	static const int errors[] = { -EIO, -ENOSPC, -ENOMEM, -EAGAIN, -EROFS, -EOPNOTSUPP };
	static const u32 types[MOCK_N_KINDS] = { VIRTIO_BLK_T_IN, VIRTIO_BLK_T_OUT,
						 VIRTIO_BLK_T_FLUSH, VIRTIO_BLK_T_DISCARD,
						 VIRTIO_BLK_T_WRITE_ZEROES };
	struct virtio_blk_discard_write_zeroes s = { le64_of(0), le32_of(8), le32_of(0) };
	struct disk *d = open_disk(flush_only);
	struct call *call;

	for (u32 i = 0; i < ARRAY_SIZE(errors) * MOCK_N_KINDS * 2; i++) {
		enum mock_kind kind = i / 2 % MOCK_N_KINDS;
		u32 n_out = kind == MOCK_WRITE ? SECTOR : kind >= MOCK_DISCARD ? sizeof(s) : 0;

		d->mock.hold = i % 2;
		d->mock.fail[kind] = errors[i / 2 / MOCK_N_KINDS];
		call = ask(d, types[kind], 0, kind >= MOCK_DISCARD ? &s : NULL, n_out,
			   kind == MOCK_READ ? SECTOR : 0);
		if (d->mock.hold)
			mock_complete(&d->mock, 0);
		assert_int_equal(reap(d), 1);
		assert_answer(call, IOERR);
		d->mock.fail[kind] = 0;
	}
	assert_false(d->vdev->broken);
	d->mock.hold = false;
	assert_int_equal(answer(d, VIRTIO_BLK_T_IN, 0, NULL, 0, SECTOR), OK);
	assert_int_equal(device_blk_stats(d->vdev)->n_in_flight, 0);
	close_disk(d);
}

/* Not tried again, not made good: as long as the storage says no, the guest hears no. */
static void blk_E07_failed_flush_is_never_made_good_by_asking_again(void **state)
{
	struct disk *d = open_disk(flush_and_wce);

	ask_write(d, 3);
	reap(d);
	d->mock.fail[MOCK_FLUSH] = -EIO;
	assert_int_equal(answer(d, VIRTIO_BLK_T_FLUSH, 0, NULL, 0, 0), IOERR);
	d->mock.fail[MOCK_FLUSH] = 0;
	mock_clear_log(&d->mock);
	assert_int_equal(answer(d, VIRTIO_BLK_T_FLUSH, 0, NULL, 0, 0), IOERR);
	assert_int_equal(answer(d, VIRTIO_BLK_T_FLUSH, 0, NULL, 0, 0), IOERR);
	set_writeback(d, 0);
	assert_int_equal(answer(d, VIRTIO_BLK_T_OUT, 4, NULL, SECTOR, 0), IOERR);
	assert_string_equal(d->mock.log, "f!.f!.wWf!.");
	assert_int_equal(answer(d, VIRTIO_BLK_T_IN, 3, NULL, 0, SECTOR), OK);
	close_disk(d);
}

static void hostile_G37_failed_read_leaves_no_stale_byte_in_its_claim(void **state)
{
	static const u32 partial[] = { 0, 1, 511, 700, 4 * SECTOR - 1 };

	for (size_t i = 0; i < ARRAY_SIZE(partial); i++) {
		struct disk *d = open_disk(NULL);
		struct span sg[5];
		struct virtio_blk_header *header = rig_alloc(&d->rig, sizeof(*header));
		u8 *room = rig_alloc(&d->rig, 4 * SECTOR + 1 + 16);
		u32 n_written;

		/* Data in three pieces, the status at the end of the last, canaries behind. */
		memset(d->mock.bytes, 0x3c, N_SECTORS * SECTOR);
		memset(room, 0xa5, 4 * SECTOR + 1 + 16);
		sg[0] = (struct span){ header, sizeof(*header) };
		sg[1] = (struct span){ room, 100 };
		sg[2] = (struct span){ room + 100, 900 };
		sg[3] = (struct span){ room + 1000, 4 * SECTOR + 1 - 1000 };
		d->mock.fail[MOCK_READ] = -EIO;
		d->mock.partial_bytes = partial[i];
		n_written = rig_transact(&d->rig, 0, sg, 1, 3);
		assert_int_equal(n_written, 4 * SECTOR + 1);
		for (u32 j = 0; j < 4 * SECTOR; j++)
			assert_int_equal(room[j], j < partial[i] ? 0x3c : 0);
		assert_int_equal(room[4 * SECTOR], IOERR);
		for (u32 j = 0; j < 16; j++)
			assert_int_equal(room[4 * SECTOR + 1 + j], 0xa5);
		close_disk(d);
	}
}

/* One megabyte offered 40 times over: not worth 40 megabytes of clearing. */
static void hostile_G38_absurd_room_is_not_cleared_and_nothing_is_claimed(void **state)
{
	struct disk *d = open_disk(NULL);
	struct virtio_blk_header *header = rig_alloc(&d->rig, sizeof(*header));
	u8 *room = rig_alloc(&d->rig, 1 << 20);
	u8 *status = rig_alloc(&d->rig, 1);
	struct span sg[42];

	memset(room, 0xa5, 1 << 20);
	header->type = le32_of(VIRTIO_BLK_T_SCSI_CMD);
	sg[0] = (struct span){ header, sizeof(*header) };
	for (u32 i = 1; i <= 40; i++)
		sg[i] = (struct span){ room, 1 << 20 };
	sg[41] = (struct span){ status, 1 };
	assert_int_equal(rig_transact(&d->rig, 0, sg, 1, 41), 0);
	assert_int_equal(*status, UNSUPP);
	assert_int_equal(room[0], 0xa5);
	assert_int_equal(room[(1 << 20) - 1], 0xa5);

	/* The same of a read: larger than the disk, so it never gets anywhere. */
	header->type = le32_of(VIRTIO_BLK_T_IN);
	assert_int_equal(rig_transact(&d->rig, 0, sg, 1, 41), 0);
	assert_int_equal(*status, IOERR);
	close_disk(d);
}

/* ---- framing --------------------------------------------------------------------------- */

static void hostile_G25_chain_without_a_status_byte_breaks_the_device(void **state)
{
	struct disk *d = open_disk(NULL);
	struct virtio_blk_header *header = rig_alloc(&d->rig, sizeof(*header));
	struct span sg[2] = { { header, sizeof(*header) }, { rig_alloc(&d->rig, 512), 512 } };
	struct call *held;
	int token;

	for (u32 n_out = 1; n_out <= 2; n_out++) { /* head only; head and data */
		d->mock.hold = true;
		held = ask(d, VIRTIO_BLK_T_IN, 0, NULL, 0, SECTOR);
		rig_submit(&d->rig, 0, sg, n_out, 0, &token);
		assert_true(d->vdev->broken);
		assert_string_equal(d->vdev->fault_what, "no-status-byte");
		assert_true(d->vdev->status & VIRTIO_STATUS_DEVICE_NEEDS_RESET);
		assert_int_equal(d->rig.n_config, n_out);
		/* What was in flight ends quietly; reset, and all is well again. */
		mock_complete(&d->mock, 0);
		assert_false(held->back);
		assert_int_equal(rig_reset(&d->rig), 2);
		rig_restart(&d->rig, NULL);
		d->mock.hold = false;
		assert_int_equal(answer(d, VIRTIO_BLK_T_IN, 0, NULL, 0, SECTOR), OK);
		header = rig_alloc(&d->rig, sizeof(*header));
		sg[0].base = header;
		sg[1].base = rig_alloc(&d->rig, 512);
	}
	close_disk(d);
}

static void hostile_G25_short_or_missing_header_is_an_ioerr(void **state)
{
	struct disk *d = open_disk(NULL);
	u8 *header = rig_alloc(&d->rig, 16), *room = rig_alloc(&d->rig, 33);

	for (u32 n = 0; n < 16; n++) {
		struct span sg[2] = { { header, n }, { room, 33 } };

		memset(room, 0xa5, 33);
		assert_int_equal(rig_transact(&d->rig, 0, n ? sg : sg + 1, n > 0, 1), 33);
		for (u32 i = 0; i < 32; i++)
			assert_int_equal(room[i], 0);
		assert_int_equal(room[32], IOERR);
	}
	assert_string_equal(d->mock.log, "");
	close_disk(d);
}

/* The longest request that was promised, cut as meanly as can be. */
static void longest_promised_request_fits_with_a_header_in_single_bytes(void **state)
{
	enum { SEGS = 40 };
	struct disk *d = new_disk();
	struct span sg[16 + SEGS + 1];
	struct virtio_blk_header *header;
	u8 *data, *status;

	d->config.seg_max = SEGS;
	plug(d, NULL);
	header = rig_alloc(&d->rig, sizeof(*header));
	data = rig_alloc(&d->rig, SEGS * SECTOR);
	status = rig_alloc(&d->rig, 1);
	*header = (struct virtio_blk_header){ le32_of(VIRTIO_BLK_T_OUT), le32_of(0), le64_of(2) };
	memcpy(data, pattern(5, SEGS * SECTOR), SEGS * SECTOR);
	for (u32 i = 0; i < 16; i++)
		sg[i] = (struct span){ (u8 *)header + i, 1 };
	for (u32 i = 0; i < SEGS; i++)
		sg[16 + i] = (struct span){ data + i * SECTOR, SECTOR };
	sg[16 + SEGS] = (struct span){ status, 1 };
	assert_int_equal(rig_transact(&d->rig, 0, sg, 16 + SEGS, 1), 1);
	assert_int_equal(*status, OK);
	assert_memory_equal(d->mock.bytes + 2 * SECTOR, pattern(5, SEGS * SECTOR), SEGS * SECTOR);
	close_disk(d);
}

/* What a request should do, told by a much simpler disk. */
static u8 model(u8 *disk, const u8 *out, u32 n_out, u8 *room, u32 n_room)
{
	struct virtio_blk_header header;
	u64 sector;
	u32 n = n_out - 16;

	memset(room, 0, n_room);
	if (n_out < 16)
		return IOERR;
	memcpy(&header, out, 16);
	sector = le64_get(header.sector);
	switch (le32_get(header.type)) {
	case VIRTIO_BLK_T_IN:
		if (n_room == 0 || n_room % SECTOR || sector + n_room / SECTOR > N_SECTORS)
			return IOERR;
		memcpy(room, disk + sector * SECTOR, n_room);
		return OK;
	case VIRTIO_BLK_T_OUT:
		if (n == 0 || n % SECTOR || sector + n / SECTOR > N_SECTORS)
			return IOERR;
		memcpy(disk + sector * SECTOR, out + 16, n);
		return OK;
	case VIRTIO_BLK_T_FLUSH:
		return OK;
	case VIRTIO_BLK_T_GET_ID:
		if (n_room < 20)
			return IOERR;
		memcpy(room, "viaduct-0123456789ab", 20);
		return OK;
	case VIRTIO_BLK_T_DISCARD:
	case VIRTIO_BLK_T_WRITE_ZEROES:
		if (n == 0 || n % 16)
			return IOERR;
		for (const u8 *p = out + 16; p < out + n_out; p += 16) {
			struct virtio_blk_discard_write_zeroes s;
			bool zeroes = le32_get(header.type) == VIRTIO_BLK_T_WRITE_ZEROES;

			memcpy(&s, p, 16);
			if (le32_get(s.flags) > (zeroes ? 1 : 0))
				return UNSUPP;
			if (le64_get(s.sector) + le32_get(s.num_sectors) > N_SECTORS)
				return IOERR;
			memset(disk + le64_get(s.sector) * SECTOR, zeroes ? 0 : 0xdd,
			       le32_get(s.num_sectors) * SECTOR);
		}
		return OK;
	}
	return UNSUPP;
}

/* Invents a request: mostly a good one. Returns the bytes of its readable part. */
static u32 invent(u64 *random, u8 *out, u32 *n_room)
{
	static const u32 types[] = { VIRTIO_BLK_T_IN,      VIRTIO_BLK_T_OUT,
				     VIRTIO_BLK_T_FLUSH,   VIRTIO_BLK_T_GET_ID,
				     VIRTIO_BLK_T_DISCARD, VIRTIO_BLK_T_WRITE_ZEROES,
				     VIRTIO_BLK_T_SCSI_CMD };
	u32 type = types[rig_random(random) % ARRAY_SIZE(types)];
	u64 sector = rig_random(random) % (N_SECTORS + 4);
	u32 n = 0;
	struct virtio_blk_header header = { le32_of(type), le32_of(0), le64_of(sector) };

	memcpy(out, &header, 16);
	*n_room = rig_random(random) % 4 ? 0 : (u32)(rig_random(random) % 40);
	switch (type) {
	case VIRTIO_BLK_T_IN:
		*n_room = (u32)(rig_random(random) % 9) * SECTOR;
		break;
	case VIRTIO_BLK_T_OUT:
		n = (u32)(rig_random(random) % 9) * SECTOR;
		memcpy(out + 16, pattern(rig_random(random), n), n);
		break;
	case VIRTIO_BLK_T_GET_ID:
		*n_room = 16 + (u32)(rig_random(random) % 9);
		break;
	case VIRTIO_BLK_T_DISCARD:
	case VIRTIO_BLK_T_WRITE_ZEROES:
		for (u32 i = (u32)(rig_random(random) % 5); i > 0; i--, n += 16) {
			struct virtio_blk_discard_write_zeroes s = {
				le64_of(rig_random(random) % (N_SECTORS - 4)),
				le32_of((u32)(rig_random(random) % 6)),
				le32_of(rig_random(random) % 8 == 0),
			};
			memcpy(out + 16 + n, &s, 16);
		}
		break;
	}
	n += 16;
	if (rig_random(random) % 16 == 0) /* cut short, perhaps into the header, perhaps to none */
		n -= (u32)(rig_random(random) % (n + 1));
	if (rig_random(random) % 16 == 0)
		*n_room += (u32)(rig_random(random) % 5);
	return n;
}

/* Cuts `n` bytes into pieces that lie about in `ram`, five bytes apart. */
static u32 cut(u64 *random, u8 *const ram[2], u32 n, struct span *sg, u32 max_pieces)
{
	u32 at[2] = { 0, 0 }, n_pieces = 0;

	while (n > 0) {
		u32 half = rig_random(random) % 2, piece = n;

		if (n_pieces + 1 < max_pieces && rig_random(random) % 8)
			piece = 1 + (u32)(rig_random(random) % (rig_random(random) % 2 ? 20 : n));
		piece = (u32)min_u64(piece, n);
		sg[n_pieces++] = (struct span){ ram[half] + at[half], piece };
		at[half] += piece + 5;
		n -= piece;
	}
	return n_pieces;
}

static void framing_of_any_kind_does_the_same(void **state)
{
	enum { AREA = 16384, PIECES = 30 };
	static u8 out[AREA], disk[N_SECTORS * SECTOR], room[AREA];
	struct disk *d = open_disk(NULL);
	u8 *ram_out[2], *ram_in[2];
	u64 random = seed + combination;

	memset(disk, 0, sizeof(disk));
	for (u32 i = 0; i < 2; i++) {
		ram_out[i] = rig_alloc(&d->rig, AREA);
		ram_in[i] = rig_alloc(&d->rig, AREA);
	}
	for (u32 round = 0; round < 2000; round++) {
		struct span sg[2 * PIECES];
		u32 n_room, n_out = invent(&random, out, &n_room), n_sg_out, n_sg_in, at = 0;
		u32 n_written;
		u8 status;

		for (u32 i = 0; i < 2; i++) {
			memset(ram_out[i], 0x5a, AREA);
			memset(ram_in[i], 0xa5, AREA);
		}
		n_sg_out = cut(&random, ram_out, n_out, sg, PIECES);
		for (u32 i = 0; i < n_sg_out; at += (u32)sg[i++].n_bytes)
			memcpy(sg[i].base, out + at, sg[i].n_bytes);
		n_sg_in = cut(&random, ram_in, n_room + 1, sg + n_sg_out, PIECES);

		n_written = rig_transact(&d->rig, 0, sg, n_sg_out, n_sg_in);
		status = model(disk, out, n_out, room, n_room);
		room[n_room] = status;
		assert_int_equal(n_written, n_room + 1);
		at = 0;
		for (u32 i = 0; i < n_sg_in; i++) {
			const struct span *v = &sg[n_sg_out + i];

			assert_memory_equal(v->base, room + at, v->n_bytes);
			for (u32 j = 0; j < 5; j++)
				assert_int_equal(((u8 *)v->base)[v->n_bytes + j], 0xa5);
			at += (u32)v->n_bytes;
		}
		at = 0;
		for (u32 i = 0; i < n_sg_out; at += (u32)sg[i++].n_bytes) /* D-SPLIT-2.7.5.1-01 */
			assert_memory_equal(sg[i].base, out + at, sg[i].n_bytes);
		assert_memory_equal(d->mock.bytes, disk, sizeof(disk));
	}
	close_disk(d);
}

/* ---- order, reset, queues -------------------------------------------------------------- */

static void completions_in_any_order_answer_their_own_request(void **state)
{
	struct disk *d = open_disk(flush_only);
	struct call *reads[16];
	u64 random = seed;

	for (u32 i = 0; i < 16; i++)
		ask_write(d, i);
	reap(d);
	d->mock.hold = true;
	for (u32 round = 0; round < 20; round++) {
		for (u32 i = 0; i < 16; i++)
			reads[i] = ask(d, VIRTIO_BLK_T_IN, i, NULL, 0, SECTOR);
		for (u32 left = 16; left > 0; left--) {
			u32 at = (u32)(rig_random(&random) % left);
			u64 sector = d->mock.pending[at].offset / SECTOR;

			mock_complete(&d->mock, at);
			assert_int_equal(reap(d), 1);
			assert_answer(reads[sector], OK);
			assert_memory_equal(reads[sector]->data, pattern(sector, SECTOR), SECTOR);
		}
	}
	close_disk(d);
}

static void queue_full_of_requests_in_flight_is_served(void **state)
{
	struct disk *d = open_disk(flush_only);
	u32 n = 0;

	d->mock.hold = true;
	/* Direct chains take three entries, indirect ones one: fill the ring either way. */
	while (d->rig.vq[0].n_free >= 3 || (d->rig.options.indirect && d->rig.vq[0].n_free > 0)) {
		ask(d, VIRTIO_BLK_T_IN, 0, NULL, 0, SECTOR);
		n++;
	}
	assert_int_equal(n, d->rig.options.indirect ? 64 : 21);
	assert_int_equal(d->mock.n_pending, n);
	assert_int_equal(device_blk_stats(d->vdev)->n_in_flight, n);
	mock_complete_all(&d->mock);
	assert_int_equal(reap(d), n);
	assert_int_equal(device_blk_stats(d->vdev)->n_in_flight, 0);
	close_disk(d);
}

/* Offers the head of slot 0 once more, past what the driver's half would do. */
static void offer_again(struct rig *rig)
{
	struct virtqueue_setup *ring = &rig->vq[0].setup;

	if (ring->packed) {
		struct virtq_packed_desc *desc = ring->desc;

		desc[0].flags = le16_of(VIRTQ_DESC_F_INDIRECT | VIRTQ_PACKED_DESC_F_USED);
	} else {
		struct virtq_avail *avail = ring->driver_area;
		u16 idx = le16_load(&avail->idx);

		avail->ring[idx % ring->size] = avail->ring[0];
		le16_store_release(&avail->idx, idx + 1);
	}
	vdev_kick(rig->vdev, 0);
}

/*
 * As many requests as the ring has entries, then a lie. Chains of one entry, that is indirect
 * ones, are the only way to get there; the other rings end after the first check.
 */
static void hostile_G06_head_offered_again_with_all_requests_in_flight_faults(void **state)
{
	struct disk *d = open_disk(flush_only);
	u32 n = 0;

	d->mock.hold = true;
	for (; d->rig.vq[0].n_free >= (d->rig.options.indirect ? 1 : 3); n++)
		ask(d, VIRTIO_BLK_T_IN, 0, NULL, 0, SECTOR);
	assert_int_equal(n, d->rig.options.indirect ? 64 : 21);
	if (d->rig.options.indirect) {
		offer_again(&d->rig);
		assert_true(d->vdev->broken);
		assert_string_equal(d->vdev->fault_what,
				    d->rig.options.packed ? "overrun" : "avail-jump");
	}
	mock_complete_all(&d->mock);
	assert_int_equal(rig_reset(&d->rig), n);
	d->mock.hold = false;
	d->n_calls = 0;
	rig_restart(&d->rig, flush_only);
	assert_int_equal(answer(d, VIRTIO_BLK_T_IN, 0, NULL, 0, SECTOR), OK);
	close_disk(d);
}

static void hostile_G19_reset_with_io_in_flight_ends_it_first(void **state)
{
	struct virtio_blk_discard_write_zeroes s[2] = {
		{ le64_of(64), le32_of(1), le32_of(0) },
		{ le64_of(65), le32_of(1), le32_of(0) },
	};
	struct disk *d = open_disk(no_cache);

	for (u32 round = 0; round < 50; round++) {
		struct call *read, *write;

		d->mock.hold = true;
		mock_clear_log(&d->mock);
		read = ask(d, VIRTIO_BLK_T_IN, 0, NULL, 0, SECTOR);
		write = ask_write(d, 5);
		ask(d, VIRTIO_BLK_T_WRITE_ZEROES, 0, s, sizeof(s), 0);
		/* Write-through: the drain must see the flush that follows, and the 2nd segment. */
		assert_int_equal(rig_reset(&d->rig), 3);
		assert_string_equal(d->mock.log, "rwzZzZfFWfFR");
		assert_int_equal(d->mock.n_pending, 0);
		assert_int_equal(*read->status, OK);
		assert_int_equal(*write->status, OK);
		assert_int_equal(device_blk_stats(d->vdev)->n_in_flight, 0);
		d->n_calls = 0;
		rig_restart(&d->rig, no_cache);
		d->mock.hold = false;
		assert_int_equal(answer(d, VIRTIO_BLK_T_IN, 0, NULL, 0, SECTOR), OK);
	}
	close_disk(d);
}

static void queue_stopped_with_io_on_others_drains_them_all(void **state)
{
	struct disk *d = new_disk();

	d->config.n_queues = 3;
	plug(d, flush_only);
	d->mock.hold = true;
	for (u16 q = 0; q < 3; q++)
		ask_on(d, q, VIRTIO_BLK_T_IN, q, NULL, 0, SECTOR);
	vdev_queue_stop(d->vdev, 1);
	assert_int_equal(d->mock.n_pending, 0);
	assert_int_equal(reap(d), 3);
	/* The others go on. */
	d->mock.hold = false;
	ask_on(d, 2, VIRTIO_BLK_T_IN, 0, NULL, 0, SECTOR);
	assert_int_equal(reap(d), 1);
	close_disk(d);
}

static void memory_replaced_under_a_read_keeps_the_old_one_until_done(void **state)
{
	struct disk *d = open_disk(NULL);
	struct memory_region regions[2];
	struct memory other;
	struct call *call;

	memcpy(regions, d->rig.regions, sizeof(regions));
	assert_int_equal(memory_init(&other, regions, 2), 0);
	d->mock.hold = true;
	call = ask(d, VIRTIO_BLK_T_IN, 0, NULL, 0, SECTOR);
	vdev_set_memory(d->vdev, &other);
	assert_int_equal(d->rig.memory.n_pins, 2);
	mock_complete(&d->mock, 0);
	assert_int_equal(d->rig.memory.n_pins, 1);
	reap(d);
	assert_answer(call, OK);
	vdev_set_memory(d->vdev, &d->rig.memory);
	close_disk(d);
}

static void queues_answer_on_their_own(void **state)
{
	struct disk *d = new_disk();
	struct call *calls[8][4];

	d->config.n_queues = 8;
	plug(d, NULL);
	assert_int_equal(le16_get(config_of(d).num_queues), 8);
	d->mock.hold = true;
	for (u32 i = 0; i < 4; i++)
		for (u16 q = 0; q < 8; q++)
			calls[q][i] = ask_on(d, q, VIRTIO_BLK_T_OUT, q * 4 + i,
					     pattern(q * 4 + i, SECTOR), SECTOR, 0);
	mock_complete_all(&d->mock);
	assert_int_equal(reap(d), 32);
	for (u16 q = 0; q < 8; q++) {
		/* One batch of completions, at most one notification a queue. */
		assert_int_equal(d->rig.n_used[q], 1);
		for (u32 i = 0; i < 4; i++) {
			assert_answer(calls[q][i], OK);
			assert_int_equal(calls[q][i]->queue, q);
			assert_true(holds(d->mock.bytes, q * 4 + i));
		}
	}
	close_disk(d);
}

static void stats_count_what_was_done(void **state)
{
	struct disk *d = open_disk(no_cache);
	const struct device_blk_stats *st = device_blk_stats(d->vdev);

	answer(d, VIRTIO_BLK_T_OUT, 0, NULL, 2 * SECTOR, 0);
	answer(d, VIRTIO_BLK_T_OUT, N_SECTORS, NULL, SECTOR, 0);
	answer(d, VIRTIO_BLK_T_IN, 0, NULL, 0, SECTOR);
	answer(d, VIRTIO_BLK_T_FLUSH, 0, NULL, 0, 0);
	answer(d, VIRTIO_BLK_T_GET_ID, 0, NULL, 0, 20);
	answer(d, VIRTIO_BLK_T_SCSI_CMD, 0, NULL, 0, 20);
	assert_int_equal(st->op[DEVICE_BLK_WRITE].n_done, 2);
	assert_int_equal(st->op[DEVICE_BLK_WRITE].n_failed, 1);
	assert_int_equal(st->op[DEVICE_BLK_WRITE].n_bytes, 2 * SECTOR);
	assert_int_equal(st->op[DEVICE_BLK_READ].n_done, 1);
	assert_int_equal(st->op[DEVICE_BLK_READ].n_bytes, SECTOR);
	assert_int_equal(st->op[DEVICE_BLK_FLUSH].n_done, 1);
	assert_int_equal(st->op[DEVICE_BLK_GET_ID].n_bytes, 20);
	assert_int_equal(st->op[DEVICE_BLK_OTHER].n_failed, 1);
	assert_int_equal(st->n_storage_flushes, 2);
	close_disk(d);
}

/* The ready-made storage that other tests use holds to the same contract. */
static void ram_storage_serves_a_disk(void **state)
{
	struct ram_storage *ram = ram_storage_create(N_SECTORS * SECTOR);
	struct virtio_blk_discard_write_zeroes s = { le64_of(4), le32_of(1), le32_of(0) };
	struct disk *d = new_disk();
	struct call *call;

	assert_non_null(ram);
	d->config.storage = &ram->storage;
	plug(d, NULL);
	assert_int_equal(answer(d, VIRTIO_BLK_T_OUT, 4, pattern(4, SECTOR), SECTOR, 0), OK);
	assert_true(holds(ram->bytes, 4));
	call = ask(d, VIRTIO_BLK_T_IN, 4, NULL, 0, SECTOR);
	reap(d);
	assert_answer(call, OK);
	assert_memory_equal(call->data, pattern(4, SECTOR), SECTOR);
	assert_int_equal(answer(d, VIRTIO_BLK_T_FLUSH, 0, NULL, 0, 0), OK);
	assert_int_equal(answer(d, VIRTIO_BLK_T_DISCARD, 0, &s, 16, 0), OK);
	assert_int_equal(ram->bytes[4 * SECTOR], 0xdd);
	assert_int_equal(answer(d, VIRTIO_BLK_T_WRITE_ZEROES, 0, &s, 16, 0), OK);
	assert_int_equal(ram->bytes[4 * SECTOR], 0);
	assert_true(ram_storage_resize(ram, 2 * N_SECTORS * SECTOR));
	assert_int_equal(le64_get(config_of(d).capacity), 2 * N_SECTORS);
	assert_int_equal(answer(d, VIRTIO_BLK_T_IN, N_SECTORS, NULL, 0, SECTOR), OK);
	close_disk(d);
	ram_storage_destroy(ram);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(stability_1_no_cache_features_write_answers_after_a_flush),
		cmocka_unit_test(stability_1_flush_of_a_write_fails_write_fails),
		cmocka_unit_test(stability_2_writeback_off_write_answers_after_a_flush),
		cmocka_unit_test(
			stability_3_flush_starts_a_storage_flush_after_the_completed_writes),
		cmocka_unit_test(stability_3_flush_in_flight_is_not_shared_with_a_later_one),
		cmocka_unit_test(blk_E06_flush_does_not_wait_for_writes_in_flight),
		cmocka_unit_test(blk_E06_flush_on_one_queue_covers_writes_of_another),
		cmocka_unit_test(blk_E06_writeback_toggled_under_a_write_takes_the_safe_side),
		cmocka_unit_test(blk_E06_random_writes_flushes_and_toggles_keep_every_promise),
		cmocka_unit_test(config_wce_without_flush_writeback_stays_0),
		cmocka_unit_test(config_writeback_takes_odd_values_for_0),
		cmocka_unit_test(config_writeback_without_wce_changes_nothing),
		cmocka_unit_test(config_describes_the_storage),
		cmocka_unit_test(config_of_a_plain_disk_offers_no_more_than_there_is),
		cmocka_unit_test(hostile_G23_writes_to_read_only_config_are_dropped),
		cmocka_unit_test(
			hostile_G23_capacity_change_has_its_own_generation_and_is_notified),
		cmocka_unit_test(read_returns_what_write_stored),
		cmocka_unit_test(get_id_tells_20_bytes_of_the_serial),
		cmocka_unit_test(hostile_G26_silly_requests_are_answered_in_band),
		cmocka_unit_test(blocks_of_4096_refuse_parts_of_them),
		cmocka_unit_test(hostile_G22_read_only_disk_refuses_writes_whatever_was_negotiated),
		cmocka_unit_test(hostile_G27_segments_are_checked),
		cmocka_unit_test(hostile_G27_segments_above_the_told_limits_fail),
		cmocka_unit_test(segments_run_one_by_one_and_answer_once),
		cmocka_unit_test(blk_E13_discard_and_zeroes_over_writes_in_flight),
		cmocka_unit_test(hostile_G40_each_operation_failing_is_an_ioerr_and_no_more),
		cmocka_unit_test(blk_E07_failed_flush_is_never_made_good_by_asking_again),
		cmocka_unit_test(hostile_G37_failed_read_leaves_no_stale_byte_in_its_claim),
		cmocka_unit_test(hostile_G38_absurd_room_is_not_cleared_and_nothing_is_claimed),
		cmocka_unit_test(hostile_G25_chain_without_a_status_byte_breaks_the_device),
		cmocka_unit_test(hostile_G25_short_or_missing_header_is_an_ioerr),
		cmocka_unit_test(longest_promised_request_fits_with_a_header_in_single_bytes),
		cmocka_unit_test(framing_of_any_kind_does_the_same),
		cmocka_unit_test(completions_in_any_order_answer_their_own_request),
		cmocka_unit_test(queue_full_of_requests_in_flight_is_served),
		cmocka_unit_test(hostile_G06_head_offered_again_with_all_requests_in_flight_faults),
		cmocka_unit_test(hostile_G19_reset_with_io_in_flight_ends_it_first),
		cmocka_unit_test(queue_stopped_with_io_on_others_drains_them_all),
		cmocka_unit_test(memory_replaced_under_a_read_keeps_the_old_one_until_done),
		cmocka_unit_test(queues_answer_on_their_own),
		cmocka_unit_test(stats_count_what_was_done),
		cmocka_unit_test(ram_storage_serves_a_disk),
	};
	int failed = 0;

	seed = rig_seed();
	for (combination = 0; combination < 8; combination++) {
		struct rig_options options = rig_combination(combination);

		failed += cmocka_run_group_tests_name(rig_describe(&options), tests, NULL, NULL);
	}
	return failed;
}
