/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Driver and device in one address space, joined by function calls.
 *
 * For tests, for learners, and for a monitor that lives with its drivers. Nothing happens behind
 * anyone's back: a doorbell or an interrupt is noted and delivered by inproc_step, one at a
 * time, in an order that the owner chose by a seed. Guest addresses are offset from pointers on
 * purpose, so that a forgotten translation is found at once.
 */
#ifndef VIADUCT_TRANSPORT_INPROC_LINK_H
#define VIADUCT_TRANSPORT_INPROC_LINK_H

#include "device/vdev.h"
#include "driver/virtio.h"

#define INPROC_MAX_QUEUES 64
#define INPROC_GPA 0x7000000000ull

/* A block of memory as a platform: what the driver shares with the device must come from here. */
struct inproc_platform {
	struct platform platform;
	struct dma dma;
	u8 *ram;
	size_t n_bytes, used_bytes;
	void *freed; /* blocks given back, singly linked */
	u64 n_mapped; /* buffers mapped and not unmapped */
	u64 now_ns; /* goes on by a microsecond each time that somebody looks or waits */
	void (*relax)(void *arg); /* what a wait does: step the links, as a rule */
	void *relax_arg;
};

/* `ram` is lent, aligned to 4096. */
void inproc_platform_init(struct inproc_platform *p, void *ram, size_t n_bytes);

/* The device's address for a pointer into the ram. */
u64 inproc_addr(const struct inproc_platform *p, const void *ptr);

struct inproc {
	struct virtio_device front; /* the driver's end */
	struct vdev *back; /* the device's end */
	struct vdev_link link;
	struct inproc_platform *memory;
	struct memory map;
	struct memory_region region;
	/* Bits that the transport takes away, to try each combination of ring features. */
	struct features hidden;
	struct virtqueue *vqs[INPROC_MAX_QUEUES];
	u64 kicked, used; /* a bit a queue: noted, not delivered */
	bool config;
	bool cut; /* see inproc_cut */
	u64 random; /* state; 0: lowest queue first, doorbells before interrupts */
	u64 n_kicks, n_interrupts;
};

/*
 * Joins them; register_virtio_device(&link->front) comes next, by the caller, who may set
 * `hidden` before.
 */
void inproc_init(struct inproc *link, struct vdev *back, struct inproc_platform *memory, u64 seed);

/* Delivers one thing that was noted. False: nothing was. */
bool inproc_step(struct inproc *link);

/* Steps until nothing is left, recoveries included. */
void inproc_settle(struct inproc *link);

/*
 * As if the device's process had died, and as if another had been started: requests in its
 * hands are ended unseen, the driver hears that it is gone; then finds it again, as new.
 * inproc_join returns what virtio_device_back does.
 */
void inproc_cut(struct inproc *link);
int inproc_join(struct inproc *link);

/* Unregisters the front (which unbinds its driver) and parts the two. */
void inproc_fini(struct inproc *link);

#endif
