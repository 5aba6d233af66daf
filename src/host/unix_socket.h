/* SPDX-License-Identifier: BSD-3-Clause */
/* Listening on a path of the file system. */
#ifndef VIADUCT_HOST_UNIX_SOCKET_H
#define VIADUCT_HOST_UNIX_SOCKET_H

#include "base/types.h"

/*
 * A listening stream socket at `path`, non-blocking. A socket file that nobody listens on any
 * more is replaced. Or -errno, with a sentence in `why`: what is wrong with the path, and how to
 * mend it. The caller unlinks the path when it is done.
 */
int unix_listen(const char *path, char *why, size_t n_why);

#endif
