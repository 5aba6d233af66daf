/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The back end of vhost-user: joins one connection to one device.
 *
 * A front end's requests arrive whole (codec.h) and become vdev_* calls; what the device sends
 * goes out through descriptors that the front end gave. Everything that needs a system goes
 * through `struct vhost_user_env`, so this file runs wherever there are sockets of some kind,
 * and under a fuzzer.
 *
 * A connection lives from vhost_user_backend_open to _close; the back end itself for ever. Any
 * error answer means: close this connection. Nothing of it then stays behind in the device.
 * One thread, the device's.
 *
 * What is offered: MQ, REPLY_ACK, BACKEND_REQ, CONFIG, RESET_DEVICE, CONFIGURE_MEM_SLOTS, STATUS;
 * RARP and MTU for network devices. What is not offered is refused (V22), migration logs,
 * in-flight regions and an IOMMU among it.
 */
#ifndef VIADUCT_TRANSPORT_VHOST_USER_BACKEND_H
#define VIADUCT_TRANSPORT_VHOST_USER_BACKEND_H

#include "device/vdev.h"
#include "transport/vhost_user/codec.h"

#define VHOST_USER_MEM_SLOTS 256
#define VHOST_USER_MAX_QUEUES 256 /* ring messages carry 8 bits */

struct vhost_user_env;

/* Descriptors handed in become the back end's, which closes each exactly once. */
struct vhost_user_env_ops {
	/* Maps [offset, offset + n_bytes) of `fd`, shared. NULL: not possible (it is logged). */
	void *(*map)(struct vhost_user_env *env, int fd, u64 offset, u64 n_bytes);
	void (*unmap)(struct vhost_user_env *env, void *base, u64 n_bytes);
	void (*close)(struct vhost_user_env *env, int fd);
	/* Calls vhost_user_backend_kicked(queue) whenever `fd` is readable. 0 or -errno. */
	int (*watch)(struct vhost_user_env *env, u16 queue, int fd);
	void (*unwatch)(struct vhost_user_env *env, u16 queue);
	/* Rings an eventfd; never blocks, a full one is rung already. */
	void (*signal)(struct vhost_user_env *env, int fd);
	/* Calls vhost_user_backend_kicked(queue) soon, after other things had their turn. */
	void (*again)(struct vhost_user_env *env, u16 queue);
	/* An answer on the connection; taken whole, or the connection is lost. 0 or -errno. */
	int (*answer)(struct vhost_user_env *env, const void *bytes, u32 n_bytes);
	/*
	 * A message of ours on `fd`. 0, or -EAGAIN: not now, vhost_user_backend_retry follows.
	 */
	int (*request)(struct vhost_user_env *env, int fd, const void *bytes, u32 n_bytes);
};

struct vhost_user_env {
	const struct vhost_user_env_ops *ops;
};

/* One guest memory region, as the front end described it. */
struct vhost_user_slot {
	u64 gpa, n_bytes, front_addr;
	u8 *base;
};

/* A ring that is being put together. */
struct vhost_user_ring {
	struct devq_setup setup;
	u32 base;
	bool has_addr;
	bool enabled;
	bool stopped; /* GET_VRING_BASE answered `base`: it is a position, even if it is 0 */
	int kick_fd, call_fd, err_fd; /* -1: none */
};

struct vhost_user_backend {
	struct vdev *vdev;
	struct vhost_user_env *env;
	struct vdev_link link;
	bool open;

	u64 features; /* SET_FEATURES, bit 30 included */
	bool features_set;
	u64 protocol_features;
	int request_fd; /* SET_BACKEND_REQ_FD; -1: none */
	bool config_pending; /* a change message that did not go out yet */

	struct vhost_user_slot slots[VHOST_USER_MEM_SLOTS];
	u32 n_slots;
	/* Two maps, used in turn: while one is in use, the next is made. */
	struct memory maps[2];
	struct memory_region regions[2][VHOST_USER_MEM_SLOTS];
	u32 current;

	struct vhost_user_ring rings[VHOST_USER_MAX_QUEUES];
};

/* `vdev` and `env` outlive the back end. */
void vhost_user_backend_init(struct vhost_user_backend *b, struct vdev *vdev,
			     struct vhost_user_env *env);

void vhost_user_backend_open(struct vhost_user_backend *b);

/* The connection ended, for whatever reason: the device is reset, all it had is given back. */
void vhost_user_backend_close(struct vhost_user_backend *b);

/*
 * Handles one request; owns its descriptors. 0, or -errno with `*why`: close the connection.
 */
int vhost_user_backend_handle(struct vhost_user_backend *b, struct vhost_user_msg *msg,
			      const char **why);

/* The kick descriptor of `queue` was readable (the environment has emptied it). */
void vhost_user_backend_kicked(struct vhost_user_backend *b, u16 queue);

/* The request descriptor can be written to again. */
void vhost_user_backend_retry(struct vhost_user_backend *b);

#endif
