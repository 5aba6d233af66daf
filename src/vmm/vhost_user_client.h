/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A device behind a socket: the vhost-user front end with a Linux system under it.
 *
 * The other end of vhost_user_server. Connects, shares memory, watches doorbells on a loop; a
 * back end that goes is told to the driver (virtio_device_gone), then looked for again with
 * growing pauses, and the device is brought up as before (virtio_device_back). One thread, the
 * loop's. Waits for an answer happen in place and are bounded, see `timeout_ms`.
 */
#ifndef VIADUCT_VMM_VHOST_USER_CLIENT_H
#define VIADUCT_VMM_VHOST_USER_CLIENT_H

#include "host/loop.h"
#include "transport/vhost_user/frontend.h"

struct vhost_user_client;

enum vhost_user_client_event {
	VHOST_USER_CLIENT_GONE, /* the driver has its buffers back */
	VHOST_USER_CLIENT_BACK, /* the driver works again */
	VHOST_USER_CLIENT_GAVE_UP, /* nobody came back in time */
};

struct vhost_user_client_config {
	const char *path; /* where the back end listens */
	const char *name; /* for logs */
	u32 device_id;
	u64 memory_bytes; /* for rings and buffers; a multiple of 4096 */
	u32 timeout_ms; /* for one answer; 0: 5000 */
	u32 give_up_ms; /* how long to look for a back end that went; 0: not at all */
	struct features hidden; /* bits to do without */
	void (*event)(void *arg, enum vhost_user_client_event event); /* may be NULL */
	void *arg;
};

/*
 * Connected, and register_virtio_device(vhost_user_client_device(c)) is next. NULL, with a
 * sentence in `why`.
 */
struct vhost_user_client *vhost_user_client_create(struct loop *loop,
						   const struct vhost_user_client_config *config,
						   char *why, size_t n_why);

/* After unregister_virtio_device, if it was registered. */
void vhost_user_client_destroy(struct vhost_user_client *c);

struct virtio_device *vhost_user_client_device(struct vhost_user_client *c);

/* What the peer said of itself. */
const struct vhost_user_front *vhost_user_client_front(const struct vhost_user_client *c);

#endif
