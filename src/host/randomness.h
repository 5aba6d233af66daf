/* SPDX-License-Identifier: BSD-3-Clause */
/* Random bytes from the kernel, or from a file: what device/randomness.h asks for. */
#ifndef VIADUCT_HOST_RANDOMNESS_H
#define VIADUCT_HOST_RANDOMNESS_H

#include "device/randomness.h"

/*
 * NULL takes the kernel's generator, which never blocks on a machine that is up. A path may
 * name a device (/dev/hwrng), a pipe or a file; it is never waited for: what has nothing to
 * give now fills with -EAGAIN, what has come to its end with -EIO. NULL with errno set.
 */
struct randomness *host_randomness_create(const char *path);
void host_randomness_destroy(struct randomness *r);

#endif
