/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The error numbers that cross the library's interfaces, with Linux's values, for places that
 * have no <errno.h> of their own.
 */
#ifndef VIADUCT_BASE_ERRNO_H
#define VIADUCT_BASE_ERRNO_H

#if __STDC_HOSTED__
#include <errno.h>
#else
#define EPERM 1
#define ENOENT 2
#define EIO 5
#define ENXIO 6
#define EAGAIN 11
#define ENOMEM 12
#define EFAULT 14
#define EBUSY 16
#define ENODEV 19
#define EINVAL 22
#define ENOSPC 28
#define EROFS 30
#define EPIPE 32
#define ERANGE 34
#define EPROTO 71
#define EOPNOTSUPP 95
#define ETIMEDOUT 110
#endif

#endif
