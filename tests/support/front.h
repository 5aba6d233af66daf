/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A small vhost-user front end: guest RAM, a driver's virtqueues in it, and the messages that
 * bring both to a back end. How messages travel is its user's: a socket, or a call.
 */
#ifndef VIADUCT_TESTS_SUPPORT_FRONT_H
#define VIADUCT_TESTS_SUPPORT_FRONT_H

#include "ring/virtqueue.h"
#include "spec/vhost_user.h"

#define FRONT_RAM_BYTES (1u << 20)
#define FRONT_GPA 0x40000000ull
#define FRONT_ADDR 0x7f5500000000ull /* of RAM, as this front end claims */
#define FRONT_MAX_QUEUES 4
#define FRONT_QUEUE_SIZE 64

#define FRONT_NEED_REPLY (VHOST_USER_VERSION | VHOST_USER_FLAG_NEED_REPLY)

struct front {
	/* 0, or -errno: the back end ended the connection. */
	int (*send)(struct front *f, const struct vhost_user_header *h, const void *payload,
		    const int *fds, u32 n_fds);
	void (*kick)(struct front *f, u16 queue);
	void *priv;

	u8 *ram; /* its user maps it */
	u32 used_bytes;
	bool packed, event_idx;
	struct dma dma;
	struct virtqueue vq[FRONT_MAX_QUEUES];
	struct vq_slot slots[FRONT_MAX_QUEUES][FRONT_QUEUE_SIZE];
};

int front_message(struct front *f, u32 request, const void *payload, u32 n_bytes, const int *fds,
		  u32 n_fds);
int front_number(struct front *f, u32 request, u64 number);
int front_state(struct front *f, u32 request, u32 index, u32 value);
/* SET_VRING_KICK, _CALL, _ERR; `fd` -1: NO_FD. */
int front_ring_fd(struct front *f, u32 request, u16 queue, int fd);

struct vhost_user_region front_region(void);
int front_memory(struct front *f, int fd); /* all of RAM in a table */

/* The features that `packed` and `event_idx` stand for, with bit 30. */
u64 front_features(const struct front *f);

/* A fresh driver half in RAM, and the ring's NUM, BASE and ADDR. */
int front_ring(struct front *f, u16 queue);

/* Zeroed, aligned to 16. */
void *front_alloc(struct front *f, u32 n_bytes);
u64 front_gpa(const struct front *f, const void *p);

/* Adds and kicks one request of an out and an in span. Fails the test if it cannot. */
void front_submit(struct front *f, u16 queue, const void *out, u32 n_out, void *in, u32 n_in);

#endif
