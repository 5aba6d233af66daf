/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A system for the vhost-user back end that has no sockets and keeps books: each descriptor is
 * a number here, is closed exactly once, and is real only where memory is mapped, so that a
 * touch after unmap is a crash.
 */
#ifndef VIADUCT_TESTS_SUPPORT_FAKE_ENV_H
#define VIADUCT_TESTS_SUPPORT_FAKE_ENV_H

#include "transport/vhost_user/backend.h"

#define FAKE_MAX_FDS 4096

struct fake_env {
	struct vhost_user_env env;
	struct vhost_user_backend backend;
	struct vhost_user_decoder decoder;

	struct {
		bool open;
		bool unwatchable; /* as a regular file is */
		int memfd; /* -1: not memory */
		u64 n_signals;
	} fds[FAKE_MAX_FDS];
	u32 next_fd, n_open;
	u32 n_mapped;
	bool again[VHOST_USER_MAX_QUEUES]; /* asked to be kicked again */
	int watched[VHOST_USER_MAX_QUEUES]; /* -1: not */

	u8 answer[512]; /* the last one, header first */
	u32 answer_bytes;
	u64 n_answers;
	int answer_error; /* what the next answers come to */
	bool request_full; /* requests have to wait */
	u64 n_requests;
	struct vhost_user_header request;
	u64 n_handled; /* messages that were well received */
	const char *why; /* the connection was ended */
};

void fake_env_init(struct fake_env *e, struct vdev *vdev);
/* The connection's end; fails the program if anything stayed open, mapped or watched. */
void fake_env_close(struct fake_env *e);
void fake_env_open(struct fake_env *e);

/* A new number. `memfd` -1: a doorbell. The memfd stays the caller's. */
int fake_fd(struct fake_env *e, int memfd);

/* Bytes from the front end, cut at will; 0, or -errno with `why`: closed by the back end. */
int fake_feed(struct fake_env *e, const void *bytes, u32 n_bytes, const int *fds, u32 n_fds);

#endif
