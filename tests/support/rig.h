/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A device and its driver's virtqueues in one process, without a transport between them.
 *
 * The driver half's memory is a block of "guest RAM" whose guest addresses are, on purpose, not
 * its pointers, and which is cut into two regions with a hole between. Notifications are direct
 * calls, and counted. A test sees exactly what a driver would.
 */
#ifndef VIADUCT_TESTS_SUPPORT_RIG_H
#define VIADUCT_TESTS_SUPPORT_RIG_H

#include "device/vdev.h"
#include "ring/virtqueue.h"

#define RIG_MAX_QUEUES 72
#define RIG_RAM_BYTES (64u << 20)
#define RIG_HALF_BYTES (RIG_RAM_BYTES / 2)
#define RIG_GPA_LOW 0x10000000ull
#define RIG_GPA_HIGH 0x180000000ull
#define RIG_MAX_INDIRECT 64

struct rig_options {
	bool packed, event_idx, indirect;
	u16 queue_size; /* 0: 64; capped at the device's maximum */
};

struct rig {
	struct vdev *vdev;
	struct rig_options options;
	struct vdev_link link;
	struct dma dma;
	u8 *ram;
	size_t low_used, high_used; /* of the two halves */
	struct memory memory;
	struct memory_region regions[2];
	struct virtqueue vq[RIG_MAX_QUEUES];
	u64 n_kicks[RIG_MAX_QUEUES]; /* doorbells that the driver rang */
	u64 n_used[RIG_MAX_QUEUES]; /* used buffer notifications */
	u64 n_config; /* configuration change notifications */
	u64 n_again; /* looks that ended with work left; the next kick goes on */
	bool again[RIG_MAX_QUEUES];
	u64 n_mapped; /* buffers mapped and not unmapped */
	u64 left_out; /* queues (bits, the first 64) that rig_restart does not start */
	bool deaf; /* notifications of the driver are counted but not delivered */
};

/*
 * Negotiates `features` (type's bits, by number, ended by -1; NULL: all that are offered) and
 * the ring options, starts and enables all queues, sets DRIVER_OK. Fails the test if the device
 * refuses.
 */
void rig_start(struct rig *rig, struct vdev *vdev, const struct rig_options *options,
	       const int *features);

/* The same again after rig_reset, with the RAM emptied. */
void rig_restart(struct rig *rig, const int *features);

/* Starts and enables one that was left out. */
void rig_start_queue(struct rig *rig, u16 index);

/* Resets the device and takes every token back; returns how many never came. */
unsigned int rig_reset(struct rig *rig);

/* Resets and frees. Checks that nothing stays mapped or pinned. */
void rig_stop(struct rig *rig);

/* Zeroed guest memory, aligned to 16, for ever; turns about from the low and the high half. */
void *rig_alloc(struct rig *rig, size_t n_bytes);
u64 rig_gpa(const struct rig *rig, const void *p);

/* add_buf and kick; fails the test if the queue does not take it. */
void rig_submit(struct rig *rig, u16 queue, const struct span *sg, u32 n_out, u32 n_in,
		void *token);

/* The next finished token, or NULL. Fails the test on a broken queue. */
void *rig_reap(struct rig *rig, u16 queue, u32 *n_written);

/* submit, then reap that token; returns the bytes written. For devices that answer at once. */
u32 rig_transact(struct rig *rig, u16 queue, const struct span *sg, u32 n_out, u32 n_in);

/* All eight combinations of packed, event_idx and indirect: for (i = 0; i < 8; i++) */
struct rig_options rig_combination(unsigned int i);
const char *rig_describe(const struct rig_options *options);

/* A small seeded generator (splitmix64), and the seed: VIADUCT_TEST_SEED or the clock. */
u64 rig_random(u64 *state);
u64 rig_seed(void); /* prints it */

#endif
