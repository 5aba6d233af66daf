/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Fuzzes the device half: the input is a program for a hostile driver and an honest device.
 *
 * Most of the driver's steps make sense by themselves (a descriptor, an entry of a table, an
 * offer), with values that matter; some write any word anywhere in the ring. So the deep states
 * are near, and the shallow ones still there.
 */
#include <stdio.h>
#include <string.h>

#include "base/shared.h"
#include "tests/fuzz/fuzz.h"
#include "tests/support/ring_pair.h"

#define MAX_SPANS 16
#define MAX_HELD 16
#define MAX_STEPS 400

#define LOW_END (PAIR_GPA_LOW + PAIR_LOW_BYTES)
#define HIGH_END (PAIR_GPA_HIGH + PAIR_RAM_BYTES - PAIR_LOW_BYTES)
#define TABLE_AT PAIR_TABLES_AT

static struct ring_pair pair;
static struct {
	struct chain chain;
	struct span spans[MAX_SPANS];
} held[MAX_HELD];
static u32 n_held, n_undoable;
static u32 n_offered; /* free-running: entries (split), slots (packed) */
static u64 n_popped, n_spans_seen, n_indirect, seen[RING_N_FAULTS], n_restarts, n_undone;

static const u64 addresses[] = {
	PAIR_GPA_LOW + PAIR_DATA_AT,
	PAIR_GPA_LOW + TABLE_AT,
	PAIR_GPA_LOW + PAIR_FIRST_CUT - 8,
	PAIR_GPA_LOW + TABLE_AT + 4,
	PAIR_GPA_HIGH,
	LOW_END - 16,
	HIGH_END - 16,
	PAIR_GPA_LOW + PAIR_SECOND_CUT - 8,
	PAIR_GPA_LOW,
	LOW_END,
	0,
	UINT64_MAX - 15,
};
static const u32 lengths[] = { 16, 1, 32, 48, 0, 17, 256, 4096, 1u << 19, UINT32_MAX, 0xfffffff0 };

static void write_descriptor(u8 *at, struct choices *c, bool in_ring)
{
	u64 addr = CHOOSE_OF(c, addresses);
	u32 len = CHOOSE_OF(c, lengths);
	u8 how = choose(c);
	u16 flags = how & 7, last = how >> 3 & 31;

	if (pair.options.packed) {
		struct virtq_packed_desc d = { le64_of(addr), le32_of(len), le16_of(last),
					       le16_of(flags) };

		/* The marks come with the offer; here they are those of the pass before. */
		if (in_ring)
			d.flags = ((struct virtq_packed_desc *)(void *)at)->flags.wire & 0x8080
					  ? le16_of(flags | VIRTQ_PACKED_DESC_F_AVAIL)
					  : le16_of(flags);
		memcpy(at, &d, sizeof(d));
	} else {
		struct virtq_desc d = { le64_of(addr), le32_of(len), le16_of(flags),
					le16_of(last) };

		memcpy(at, &d, sizeof(d));
	}
}

/* Split: an entry of the available ring. Packed: marks for up to four slots. */
static void offer(struct choices *c)
{
	u8 what = choose(c);
	u16 size = pair.options.size;

	if (!pair.options.packed) {
		struct virtq_avail *avail = (void *)(pair.ram + PAIR_DRIVER_AT);

		avail->ring[n_offered++ & (size - 1)] = le16_of(what % 17);
		avail->idx = le16_of(n_offered);
		return;
	}
	for (u32 n = 1 + what % 4; n > 0; n--, n_offered++) {
		struct virtq_packed_desc *d = (void *)(pair.ram + 16 * (n_offered % size));
		u16 mark =
			n_offered / size % 2 ? VIRTQ_PACKED_DESC_F_USED : VIRTQ_PACKED_DESC_F_AVAIL;

		d->flags = le16_of((le16_get(d->flags) & 7) | mark);
	}
}

static void pop(u16 max_spans)
{
	struct chain *chain = &held[n_held].chain;
	size_t total = 0;
	u32 n = 0;
	int got;

	if (n_held == MAX_HELD)
		return;
	*chain = (struct chain){ .spans = held[n_held].spans, .max_spans = max_spans };
	got = devq_pop(&pair.devq, chain);
	MUST(got == 1 || got == 0 || got == -EPROTO);
	MUST((got == -EPROTO) == (pair.devq.fault.kind != RING_OK));
	if (got <= 0)
		return;
	n_held++;
	n_undoable++;
	n_popped++;
	MUST(chain->id < pair.options.size);
	MUST(chain->in_bytes == chain->in.n_bytes);
	MUST(chain->out.n_bytes + chain->in.n_bytes > 0);
	MUST(chain->out.n_bytes + chain->in.n_bytes <= UINT32_MAX);
	for (; total < chain->out.n_bytes + chain->in.n_bytes; n++) {
		u8 *base = chain->spans[n].base;

		MUST(n < max_spans && chain->spans[n].n_bytes > 0);
		MUST(base >= pair.device_ram && base < pair.device_ram + PAIR_RAM_BYTES);
		MUST(chain->spans[n].n_bytes <= (size_t)(pair.device_ram + PAIR_RAM_BYTES - base));
		/* Out comes before in, and the two never share a span. */
		if (total < chain->out.n_bytes)
			MUST(chain->spans[n].n_bytes <= chain->out.n_bytes - total);
		total += chain->spans[n].n_bytes;
	}
	MUST(total == chain->out.n_bytes + chain->in.n_bytes);
	n_spans_seen += n;
	n_indirect += chain->n_slots < n;
}

static void end_chain(u32 which, u32 written, bool drop)
{
	if (drop)
		devq_drop(&pair.devq, &held[which].chain);
	else
		devq_push(&pair.devq, &held[which].chain,
			  min_u64(written, held[which].chain.in_bytes));
	/* Spans are not looked at again: only the chain moves down. */
	n_held--;
	for (u32 i = which; i < n_held; i++)
		held[i].chain = held[i + 1].chain;
	n_undoable = 0;
}

static void restart(struct choices *c)
{
	u8 how = choose(c);
	u32 position;

	while (n_held > 0)
		end_chain(0, 0, how & 1);
	seen[pair.devq.fault.kind]++;
	position = devq_stop(&pair.devq);
	if (how & 2)
		position = choose16(c) | (u32)choose16(c) << 16;
	if (how & 4)
		pair.setup.size = choose16(c);
	if (how & 8)
		pair.setup.desc_gpa = CHOOSE_OF(c, addresses);
	if (how & 16)
		pair.setup.driver_gpa = CHOOSE_OF(c, addresses);
	if (how & 32)
		pair.setup.device_gpa = CHOOSE_OF(c, addresses);
	if (devq_start(&pair.devq, &pair.setup, &pair.memory[how >> 6 & 1], position) < 0) {
		MUST(!pair.devq.live && pair.devq.fault.kind != RING_OK);
		seen[pair.devq.fault.kind]++;
		MUST(!devq_flush(&pair.devq) && !devq_pending(&pair.devq));
		ring_pair_start(&pair, &pair.options);
		n_offered = 0;
	} else if (pair.setup.size > pair.options.size) {
		/* A larger ring than the model's: fine for the device; go back to the other. */
		devq_stop(&pair.devq);
		ring_pair_start(&pair, &pair.options);
		n_offered = 0;
	} else {
		pair.options.size = pair.setup.size;
	}
	n_restarts++;
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t n_bytes)
{
	struct choices c = { data, n_bytes };
	u8 how = choose(&c);
	struct ring_pair_options options = ring_pair_combination(how & 7, 1 + choose(&c) % 16);
	u16 max_spans = 1 + choose(&c) % MAX_SPANS;

	if (!pair.ram)
		ring_pair_create(&pair, false);
	while (!options.packed && !is_power_of_two(options.size))
		options.size &= options.size - 1;
	ring_pair_start(&pair, &options);
	memset(pair.ram + TABLE_AT, 0, 4096);
	n_offered = n_held = n_undoable = 0;

	for (u32 step = 0; step < MAX_STEPS && c.n_bytes > 0; step++) {
		u8 op = choose(&c), at;

		switch (op % 16) {
		case 0:
		case 1:
		case 2:
			at = choose(&c) % pair.options.size;
			write_descriptor(pair.ram + PAIR_DESC_AT + 16 * at, &c, true);
			break;
		case 3:
			at = choose(&c);
			/* The low bits: a table at an odd address. */
			write_descriptor(pair.ram + TABLE_AT + 16 * (at & 7) + (at & 8 ? 4 : 0), &c,
					 false);
			break;
		case 4:
		case 5:
			offer(&c);
			break;
		case 6: {
			u16 *word = (u16 *)(void *)(pair.ram + choose16(&c) % 0x2800 / 2 * 2);

			*word = choose16(&c);
			break;
		}
		case 7:
		case 8:
		case 9:
			pop(max_spans);
			break;
		case 10:
			if (n_held > 0)
				end_chain(choose(&c) % n_held, choose(&c), false);
			break;
		case 11:
			if (n_held > 0 && n_undoable > 0) {
				devq_unpop(&pair.devq, &held[--n_held].chain);
				n_undoable--;
				n_undone++;
			}
			break;
		case 12:
			devq_flush(&pair.devq);
			devq_pending(&pair.devq);
			break;
		case 13:
			MUST((devq_remap(&pair.devq, &pair.memory[choose(&c) & 1]) < 0) ==
			     (pair.devq.fault.kind != RING_OK));
			break;
		case 14:
			devq_set_polling(&pair.devq, choose(&c) & 1);
			break;
		case 15:
			restart(&c);
			break;
		}
		MUST(pair.devq.n_in_flight == n_held);
	}
	while (n_held > 0)
		end_chain(n_held - 1, UINT32_MAX, false);
	devq_flush(&pair.devq);
	seen[pair.devq.fault.kind]++;
	devq_stop(&pair.devq);
	MUST(pair.memory[0].n_pins == 1 && pair.memory[1].n_pins == 1);
	return 0;
}

bool fuzz_reached_enough(void)
{
	bool all = true;

	printf("%llu chains popped (%llu from tables), %llu spans, %llu restarts, %llu undone\n",
	       (unsigned long long)n_popped, (unsigned long long)n_indirect,
	       (unsigned long long)n_spans_seen, (unsigned long long)n_restarts,
	       (unsigned long long)n_undone);
	for (u32 i = RING_OK; i <= RING_FAULT_INDIRECT_ADDRESS; i++) {
		printf("  %s %llu\n", ring_fault_name(i), (unsigned long long)seen[i]);
		all &= seen[i] > 0;
	}
	return all && n_popped >= 100 && n_indirect >= 10 && n_restarts >= 10 && n_undone >= 10;
}
