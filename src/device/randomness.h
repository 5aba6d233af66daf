/* SPDX-License-Identifier: BSD-3-Clause */
/* What an entropy device asks of its host: bytes nobody can guess. */
#ifndef VIADUCT_DEVICE_RANDOMNESS_H
#define VIADUCT_DEVICE_RANDOMNESS_H

#include "base/types.h"

struct randomness;

struct randomness_ops {
	/* Fills all of `bytes`, without blocking for long. 0 or -errno. */
	int (*fill)(struct randomness *r, void *bytes, size_t n);
};

struct randomness {
	const struct randomness_ops *ops;
};

#endif
