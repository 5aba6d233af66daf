/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The front end of vhost-user: a virtio_device whose device lives in another process.
 *
 * The other half of backend.h. What a driver asks of its transport becomes messages to the back
 * end, which nobody here trusts: an answer of another length, to another question, or none in
 * time makes the device lost, never a wait without an end (V19). Lost means: one log line, the
 * environment closes the connection, every later call answers at once; vhost_user_front_connect
 * on a new connection makes it whole again.
 *
 * What the peer offers of MQ, REPLY_ACK, BACKEND_REQ, CONFIG, RESET_DEVICE, CONFIGURE_MEM_SLOTS
 * and STATUS is used; none of it is needed. One thread, the driver's.
 */
#ifndef VIADUCT_TRANSPORT_VHOST_USER_FRONTEND_H
#define VIADUCT_TRANSPORT_VHOST_USER_FRONTEND_H

#include "driver/virtio.h"
#include "spec/vhost_user.h"

#define VHOST_USER_FRONT_MAX_QUEUES 256 /* ring messages carry 8 bits */

struct vhost_user_front_env;

struct vhost_user_front_env_ops {
	/*
	 * Both move all of `n_bytes` on the connection, or fail with -errno: -ETIMEDOUT after the
	 * environment's time limit, -EPIPE if the peer closed, -EPROTO if descriptors came along.
	 * Descriptors sent stay the environment's. Whatever arrives on the request channel during
	 * the wait goes to vhost_user_front_requested at once: the peer may wait for our answer
	 * there before it gives its own here.
	 */
	int (*send)(struct vhost_user_front_env *env, const void *bytes, u32 n_bytes,
		    const int *fds, u32 n_fds);
	int (*receive)(struct vhost_user_front_env *env, void *bytes, u32 n_bytes);
	/* A fresh request channel; returns the back end's end, kept open until it is lost. */
	int (*open_requests)(struct vhost_user_front_env *env);
	/* An answer on the request channel. Never waits; 0 or -errno. */
	int (*answer)(struct vhost_user_front_env *env, const void *bytes, u32 n_bytes);
	/*
	 * Two doorbells. From now on, vhost_user_front_called(queue) whenever the call one rings.
	 * Kept when the connection is lost, until close_doorbells.
	 */
	int (*open_doorbells)(struct vhost_user_front_env *env, u16 queue, int *kick_fd,
			      int *call_fd);
	void (*close_doorbells)(struct vhost_user_front_env *env, u16 queue);
	void (*kick)(struct vhost_user_front_env *env, u16 queue);
	/*
	 * Close the connection. The driver hears of it (virtio_device_gone) later, from outside:
	 * this may be in the middle of one of its calls.
	 */
	void (*lost)(struct vhost_user_front_env *env);
	/* Call vhost_user_front_dispatch soon, from outside. */
	void (*wake)(struct vhost_user_front_env *env);
};

struct vhost_user_front_env {
	const struct vhost_user_front_env_ops *ops;
};

/* Memory that the back end is to see; `fd` stays the owner's. */
struct vhost_user_front_memory {
	struct vhost_user_region region;
	int fd;
};

struct vhost_user_front {
	struct virtio_device device;
	struct vhost_user_front_env *env;
	const struct vhost_user_front_memory *memory;
	u32 n_memory;
	/* Bits that are taken away from what is offered; the owner may set it before connect. */
	struct features hidden;

	/* What the peer said at connect. */
	bool connected;
	u64 features_offered; /* bit 30 included */
	u64 protocol_offered;
	u64 protocol_features; /* in use */
	u64 n_queues; /* GET_QUEUE_NUM; 0: it cannot tell */
	u64 max_mem_slots; /* GET_MAX_MEM_SLOTS; 0: it cannot tell */

	u8 status; /* ours, where the back end keeps none */
	bool memory_told; /* on this connection */
	bool config_refused; /* said so once */
	bool config_pending; /* a change that dispatch has to tell */
	u32 n_request_bytes; /* of a request of the back end's, so far */
	struct vhost_user_header request;
	struct {
		struct virtqueue *vq; /* NULL: none */
		bool started; /* the back end has it, and is to stop it */
	} queues[VHOST_USER_FRONT_MAX_QUEUES];
};

/*
 * `device_id` is the caller's to know, as the protocol does not say it. `memory` covers all that
 * `platform` hands out as device-visible; at most VHOST_USER_MAX_REGIONS pieces.
 */
void vhost_user_front_init(struct vhost_user_front *f, struct vhost_user_front_env *env,
			   struct platform *platform, u32 device_id, const char *name,
			   const struct vhost_user_front_memory *memory, u32 n_memory);

/*
 * A connection is there: asks the back end what it is. 0 or -errno (and lost again). Then
 * register_virtio_device(&f->device), or virtio_device_back.
 */
int vhost_user_front_connect(struct vhost_user_front *f);

/* The environment's verdict: the peer closed, sent what nobody asked for, ... */
void vhost_user_front_lost(struct vhost_user_front *f, const char *why);

/* The call doorbell of `queue` rang (and was emptied). */
void vhost_user_front_called(struct vhost_user_front *f, u16 queue);

/* Bytes from the request channel. False: the device is lost (and the channel closed). */
bool vhost_user_front_requested(struct vhost_user_front *f, const void *bytes, u32 n_bytes);

/* Tells the driver what the back end told us meanwhile. */
void vhost_user_front_dispatch(struct vhost_user_front *f);

/* "MQ", "CONFIG", ...; NULL: no name known. */
const char *vhost_user_protocol_feature_name(unsigned int bit);

#endif
