/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Our driver against our device, over any transport and on any kind of ring.
 *
 * A test makes a device (a vdev) and registers a driver; the pair joins the two. All
 * combinations: for (i = 0; i < pair_n_combinations(); i++). A transport is one row of pair.c.
 *
 * Half of them bounce: the device sees a copy of each buffer, made when the ring maps it and
 * copied back when it is unmapped, as with memory that is not coherent (case D13). A driver that
 * reads an answer before it has its token back sees nothing of it.
 */
#ifndef VIADUCT_TESTS_PAIR_PAIR_H
#define VIADUCT_TESTS_PAIR_PAIR_H

#include "device/vdev.h"
#include "driver/virtio.h"
#include "transport/inproc/link.h"

#define PAIR_RAM_BYTES (16u << 20)

struct pair;

struct pair_transport {
	const char *name;
	/* Makes p->front, ready for register_virtio_device, joined to p->back. */
	void (*start)(struct pair *p);
	/* Unregisters p->front and frees. */
	void (*stop)(struct pair *p);
	/* Delivers something, if there is anything. */
	bool (*step)(struct pair *p);
	/* As if the device's process had died; and as if another had been started: 0 or -errno. */
	void (*cut)(struct pair *p);
	int (*join)(struct pair *p);
	/* The least that a device's queues must be able to hold: some drivers cannot ask. */
	u16 min_queue_size;
};

extern const struct pair_transport pair_mmio; /* pair_mmio.c */
extern const struct pair_transport pair_pci; /* pair_pci.c */
extern const struct pair_transport pair_vhost_user; /* pair_vhost_user.c */

struct pair_options {
	const struct pair_transport *transport;
	bool packed, event_idx, indirect, bounce;
};

struct pair {
	struct pair_options options;
	struct vdev *back;
	struct virtio_device *front;
	void *link; /* the transport's */
	u64 seed;

	/* What the driver shares with the device. `ram_fd` is a memfd, mapped at memory.ram. */
	struct inproc_platform memory;
	int ram_fd;
	struct dma bounce;
	struct pair_copy *copies; /* the bounce buffers in use */

	/* What goes on in the world while a driver waits; may be NULL. True: something did. */
	bool (*world)(void *arg);
	void *world_arg;
};

unsigned int pair_n_combinations(void);
struct pair_options pair_combination(unsigned int i);
const char *pair_describe(const struct pair_options *options);

/* Joins and registers; fails the test if the driver does not come up. `seed` 0: plain order. */
void pair_start(struct pair *p, const struct pair_options *options, struct vdev *back, u64 seed);
/* Unregisters; checks that nothing stays mapped. */
void pair_stop(struct pair *p);

/* Memory that the device sees, for ever. */
void *pair_alloc(struct pair *p, size_t n_bytes);

/* One thing: a delivery, something in the world, a recovery. False: nothing is left to do. */
bool pair_step(struct pair *p);
void pair_settle(struct pair *p);

#endif
