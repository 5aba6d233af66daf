/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A device on a socket: the vhost-user back end with a Linux system under it.
 *
 * One device, one front end at a time. Another one that connects meanwhile waits in the
 * socket's queue until the first has gone (V18); front ends may come and go for ever, each
 * meets a device that is as new. What a front end does wrong closes its connection, with one
 * log line that says what it was, and nothing else.
 */
#ifndef VIADUCT_VMM_VHOST_USER_SERVER_H
#define VIADUCT_VMM_VHOST_USER_SERVER_H

#include "device/vdev.h"
#include "host/loop.h"

struct vhost_user_server;

/*
 * Serves `vdev` on `loop` to whoever connects to `listen_fd`, which becomes the server's. NULL
 * with errno set (listen_fd is then still the caller's).
 */
struct vhost_user_server *vhost_user_server_create(struct loop *loop, struct vdev *vdev,
						   int listen_fd);

/* Closes the connection, if there is one (drained), and the socket. The path is left alone. */
void vhost_user_server_destroy(struct vhost_user_server *s);

/* A front end is connected. */
bool vhost_user_server_connected(const struct vhost_user_server *s);

#endif
