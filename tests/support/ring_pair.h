/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The two halves of one virtqueue in one process, with nothing above them.
 *
 * Guest memory is seen twice, through two mappings of the same pages: the driver half works on
 * one, the device half on the other, so neither's pointers mean anything to the other and a
 * guest address is no pointer of either. The device's maps cut the memory into regions in two
 * different ways; the first two touch, so that buffers and tables reach across.
 */
#ifndef VIADUCT_TESTS_SUPPORT_RING_PAIR_H
#define VIADUCT_TESTS_SUPPORT_RING_PAIR_H

#include "ring/devq.h"
#include "ring/virtqueue.h"

#define PAIR_RAM_BYTES (1u << 20)
#define PAIR_LOW_BYTES (640u << 10) /* of the RAM lie at PAIR_GPA_LOW, the rest at _HIGH */
#define PAIR_GPA_LOW 0x40000000ull
#define PAIR_GPA_HIGH 0x200000000ull
#define PAIR_MAX_SIZE 256
#define PAIR_MAX_INDIRECT 8

/* Where things lie in the RAM; all below the first cut. The data are the test's. */
#define PAIR_DESC_AT 0u
#define PAIR_DRIVER_AT 0x1000u
#define PAIR_DEVICE_AT 0x2000u
#define PAIR_TABLES_AT (126u << 10) /* across the cut of the second map, at 128 KiB */
#define PAIR_DATA_AT (196u << 10)
#define PAIR_FIRST_CUT (384u << 10) /* of the first map */
#define PAIR_SECOND_CUT (128u << 10) /* of the second map */

struct ring_pair_options {
	bool packed, event_idx, indirect;
	u16 size;
};

struct ring_pair {
	struct ring_pair_options options;
	struct virtqueue vq;
	struct devq devq;
	struct devq_setup setup; /* the device half's */
	u8 *ram; /* the driver's view */
	u8 *device_ram; /* the device's; the same pages */
	struct memory memory[2]; /* the device's maps */
	struct memory_region regions[2][3];
	struct dma dma;
	u64 n_mapped; /* buffers mapped and not unmapped */
	u64 map_failures; /* random state; 0: mapping never fails */
	u64 n_notified; /* doorbells rung */
	bool device_awake; /* set by the doorbell */
	struct vq_slot slots[PAIR_MAX_SIZE];
	struct vq_piece pieces[PAIR_MAX_SIZE * PAIR_MAX_INDIRECT];
	u64 in_flight[DEVQ_MAP_WORDS(PAIR_MAX_SIZE)];
};

/* Maps the RAM; with `one_view` the device sees it where the driver does. Aborts on failure. */
void ring_pair_create(struct ring_pair *p, bool one_view);
void ring_pair_destroy(struct ring_pair *p);

/* Empties the rings, sets both halves up anew and starts the device half. */
void ring_pair_start(struct ring_pair *p, const struct ring_pair_options *options);

/* The driver half alone, on emptied rings: for those who start the device half by themselves. */
void ring_pair_start_driver(struct ring_pair *p, const struct ring_pair_options *options);

/* The guest address of the RAM's byte `at`. */
u64 ring_pair_gpa(u32 at);

struct ring_pair_options ring_pair_combination(unsigned int i, u16 size); /* i: 0..7 */

#endif
