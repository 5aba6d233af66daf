/* SPDX-License-Identifier: BSD-3-Clause */
/* What a device asks of its host to know the time: a monotonic clock and one-shot timers. */
#ifndef VIADUCT_DEVICE_CLOCK_H
#define VIADUCT_DEVICE_CLOCK_H

#include "base/list.h"

struct clock;

/* Embedded in the object that waits; zeroed at first. */
struct clock_timer {
	void (*fired)(struct clock_timer *t); /* on the loop's thread */
	u64 deadline_ns; /* 0: not running */
	struct list node; /* the clock's */
};

struct clock_ops {
	u64 (*now_ns)(struct clock *c);
	/* Fires once at `deadline_ns` (not 0) or soon after; replaces an earlier deadline. */
	void (*start)(struct clock *c, struct clock_timer *t, u64 deadline_ns);
	/* Harmless on a timer that is not running. */
	void (*stop)(struct clock *c, struct clock_timer *t);
};

struct clock {
	const struct clock_ops *ops;
};

#endif
