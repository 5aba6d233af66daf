/* SPDX-License-Identifier: BSD-3-Clause */
/* What a balloon asks of its host: to take guest memory back, for real. */
#ifndef VIADUCT_DEVICE_PAGES_H
#define VIADUCT_DEVICE_PAGES_H

#include "base/types.h"

struct pages;

struct pages_ops {
	/*
	 * The guest gave up these bytes (whole 4096-byte pages of it; the host's may be larger):
	 * memory goes back to the system, reading it later gives zeroes or old bytes. 0 or -errno.
	 */
	int (*release)(struct pages *p, struct span bytes);
	/* They will be used again soon; may do nothing. */
	void (*expect)(struct pages *p, struct span bytes);
};

struct pages {
	const struct pages_ops *ops;
};

#endif
