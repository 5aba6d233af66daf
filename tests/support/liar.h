/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A device that says and does what a test wants, true or not: drivers have to live with it.
 *
 * It is a transport and a device in one. Its honest half is the device half of a virtqueue
 * (requests are popped by devq); its answers are written into the ring by hand, with any id and
 * any length. The driver's memory is an inproc_platform, so addresses are not pointers and
 * mappings are counted.
 */
#ifndef VIADUCT_TESTS_SUPPORT_LIAR_H
#define VIADUCT_TESTS_SUPPORT_LIAR_H

#include "ring/devq.h"
#include "transport/inproc/link.h"

#define LIAR_MAX_QUEUES 64
#define LIAR_RAM_BYTES (8u << 20)
#define LIAR_MAX_SPANS 256

struct liar_queue {
	struct virtqueue *vq;
	struct devq q;
	u64 map[DEVQ_MAP_WORDS(1024)];
	u16 used_idx, used_slot; /* where the next answer goes: split, packed */
	bool used_wrap;
};

struct liar {
	struct virtio_device front;
	struct inproc_platform memory;
	struct memory map;
	struct memory_region region;

	/* What it says. */
	struct features offers; /* liar_init: VERSION_1, EVENT_IDX, INDIRECT_DESC */
	u8 config[256];
	u16 n_queues, max_size; /* liar_init: 1, 64 */
	bool refuses_features; /* FEATURES_OK does not stick */
	bool resets_never; /* a reset ends with -ETIMEDOUT */
	bool unstable; /* another generation each time */
	bool gone; /* a reset ends with -ENODEV */
	u8 status;

	/* What it heard. */
	u8 statuses[32]; /* as written, in order; a reset is a 0 */
	u32 n_statuses;
	struct features written; /* by the driver; all features when it was not asked */
	u32 n_feature_reads, n_config_reads, n_find_vqs, n_kicks;

	struct liar_queue queues[LIAR_MAX_QUEUES];
	struct span spans[LIAR_MAX_SPANS];
};

/* Not registered yet: the test changes what it says first. */
void liar_init(struct liar *liar, u32 device_id);
/* Frees. The device must be unregistered and everything unmapped. */
void liar_fini(struct liar *liar);

/* Memory that the device sees. */
void *liar_alloc(struct liar *liar, size_t n_bytes);

/* The next request, or false. Its spans stay readable until the next pop. */
bool liar_pop(struct liar *liar, u16 queue, struct chain *c);

/* An answer in the ring, whatever is true of it; the packed ring goes on by `n_slots`. */
void liar_use(struct liar *liar, u16 queue, u32 id, u32 len, u16 n_slots);

/* liar_use for a chain that was popped. */
void liar_answer(struct liar *liar, u16 queue, const struct chain *c, u32 len);

/* Split: says that so many more (or fewer) were used, without writing any. */
void liar_jump(struct liar *liar, u16 queue, int by);

/* Interrupts, though the driver may not have asked; then the loop's turn. */
void liar_interrupt(struct liar *liar, u16 queue);

/* NEEDS_RESET and a configuration change notification. */
void liar_breaks(struct liar *liar);

#endif
