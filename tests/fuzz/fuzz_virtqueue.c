/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Fuzzes the driver half: the input is a program for an honest driver and a hostile device.
 *
 * Whatever the device writes, a token comes back at most once while the queue works and exactly
 * once in the end, never with more bytes than there was room for, and no mapping stays behind.
 */
#include <stdio.h>
#include <string.h>

#include "base/shared.h"
#include "tests/fuzz/fuzz.h"
#include "tests/support/ring_pair.h"

#define MAX_PIECES 12
#define MAX_STEPS 400

struct buffer {
	bool busy;
	u32 in_bytes;
};

static struct ring_pair pair;
static struct buffer buffers[64];
static u32 n_given; /* free-running: entries (split), slots (packed) */
static u64 n_reaped, n_added, n_full, n_unmappable, n_reset, n_kicks, seen[RING_N_FAULTS];

static void add(struct choices *c)
{
	struct span sg[MAX_PIECES];
	u8 shape = choose(c);
	u32 n = shape % (MAX_PIECES + 1), n_out = (shape >> 4) % (n + 1);
	struct buffer *b = buffers;
	int err;

	while (b < buffers + ARRAY_SIZE(buffers) && b->busy)
		b++;
	if (b == buffers + ARRAY_SIZE(buffers))
		return;
	b->in_bytes = 0;
	for (u32 i = 0; i < n; i++) {
		u8 bytes = choose(c);

		sg[i] = (struct span){ pair.ram + PAIR_DATA_AT + 256 * i, bytes };
		b->in_bytes += i >= n_out ? bytes : 0;
	}
	err = virtqueue_add_buf(&pair.vq, sg, n_out, n - n_out, b);
	MUST(err == 0 || err == -ENOSPC || err == -EINVAL || err == -ENOMEM || err == -EIO);
	MUST((err == -EIO) == virtqueue_is_broken(&pair.vq));
	n_full += err == -ENOSPC;
	n_unmappable += err == -ENOMEM;
	if (err == 0) {
		b->busy = true;
		n_added++;
	}
}

/* What an honest device would do, but for the numbers. */
static void give(struct choices *c)
{
	u8 id = choose(c), more = choose(c);
	u16 size = pair.options.size;

	if (pair.options.packed) {
		struct virtq_packed_desc *d = (void *)(pair.ram + 16 * (n_given % size));
		u16 marks = n_given / size % 2
				    ? 0
				    : VIRTQ_PACKED_DESC_F_AVAIL | VIRTQ_PACKED_DESC_F_USED;

		*d = (struct virtq_packed_desc){ le64_of(0), le32_of(more), le16_of(id % 18),
						 le16_of(marks | VIRTQ_DESC_F_WRITE) };
		n_given += 1 + (more >> 6) % size;
	} else {
		struct virtq_used *used = (void *)(pair.ram + PAIR_DEVICE_AT);

		used->ring[n_given++ & (size - 1)] =
			(struct virtq_used_elem){ le32_of(id % 18), le32_of(more) };
		used->idx = le16_of(n_given);
	}
}

static void reap(void)
{
	u32 len = UINT32_MAX;
	struct buffer *b = virtqueue_get_buf(&pair.vq, &len);

	if (!b)
		return;
	MUST(b >= buffers && b < buffers + ARRAY_SIZE(buffers) && b->busy);
	MUST(len <= b->in_bytes);
	b->busy = false;
	n_reaped++;
}

/* Reset: all tokens back, nothing mapped, the queue as new. */
static void finish(void)
{
	struct buffer *b;

	seen[pair.vq.fault.kind]++;
	while ((b = virtqueue_detach(&pair.vq))) {
		MUST(b->busy);
		b->busy = false;
	}
	for (u32 i = 0; i < ARRAY_SIZE(buffers); i++)
		MUST(!buffers[i].busy);
	MUST(pair.n_mapped == 0);
	MUST(pair.vq.n_in_flight == 0 && pair.vq.n_free == pair.options.size);
}

static void begin(const struct ring_pair_options *options, bool mapping_fails)
{
	ring_pair_start_driver(&pair, options);
	pair.map_failures = mapping_fails;
	n_given = 0;
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t n_bytes)
{
	struct choices c = { data, n_bytes };
	u8 how = choose(&c);
	struct ring_pair_options options = ring_pair_combination(how & 7, 1 + choose(&c) % 16);

	if (!pair.ram)
		ring_pair_create(&pair, false);
	while (!options.packed && !is_power_of_two(options.size))
		options.size &= options.size - 1;
	begin(&options, how & 8);

	for (u32 step = 0; step < MAX_STEPS && c.n_bytes > 0; step++) {
		switch (choose(&c) % 16) {
		case 0:
		case 1:
		case 2:
			add(&c);
			break;
		case 3:
			MUST(virtqueue_kick(&pair.vq) == !virtqueue_is_broken(&pair.vq));
			n_kicks++;
			break;
		case 4:
		case 5:
		case 6:
			give(&c);
			break;
		case 7:
		case 8:
		case 9:
			reap();
			break;
		case 10:
			virtqueue_enable_cb(&pair.vq);
			break;
		case 11:
			virtqueue_enable_cb_delayed(&pair.vq);
			break;
		case 12:
			virtqueue_disable_cb(&pair.vq);
			virtqueue_pending(&pair.vq);
			break;
		case 13:
		case 14: {
			u16 *word = (u16 *)(void *)(pair.ram + choose16(&c) % 0x2800 / 2 * 2);

			*word = choose16(&c);
			break;
		}
		case 15:
			finish();
			begin(&options, how & 8);
			n_reset++;
			break;
		}
	}
	finish();
	return 0;
}

bool fuzz_reached_enough(void)
{
	bool all = true;

	printf("%llu added, %llu reaped, %llu full, %llu unmappable, %llu kicks, %llu resets\n",
	       (unsigned long long)n_added, (unsigned long long)n_reaped,
	       (unsigned long long)n_full, (unsigned long long)n_unmappable,
	       (unsigned long long)n_kicks, (unsigned long long)n_reset);
	for (u32 i = RING_FAULT_USED_JUMP; i < RING_N_FAULTS; i++) {
		printf("  %s %llu\n", ring_fault_name(i), (unsigned long long)seen[i]);
		all &= seen[i] > 0;
	}
	return all && n_added >= 100 && n_reaped >= 50 && n_full > 0 && n_unmappable > 0;
}
