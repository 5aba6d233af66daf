/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A device that answers with what it was sent: for transports, which must not care.
 *
 * Configuration: 16 bytes 0..15, of which 4..7 can be written. `hold` makes it keep one request
 * a queue in its hands, as a device does that waits for the world.
 */
#ifndef VIADUCT_TESTS_SUPPORT_ECHO_H
#define VIADUCT_TESTS_SUPPORT_ECHO_H

#include "device/vdev.h"

#define ECHO_MAX_QUEUES 4
#define ECHO_QUEUE_SIZE 256

struct echo {
	struct vdev vdev;
	u8 config[16];
	struct span spans[64];
	bool hold; /* keep the next request of each queue; a drain answers it with nothing */
	bool put_back; /* or puts it back */
	struct chain held[ECHO_MAX_QUEUES];
	struct span held_spans[ECHO_MAX_QUEUES][64];
	bool holding[ECHO_MAX_QUEUES];
	bool refuse; /* all features */
	u64 n_answered, n_activated, n_reset;
	_Alignas(16) u8 arena[4096];
};

void echo_init(struct echo *e, u16 n_queues);

/* Answers the requests held, as late completions do. */
void echo_release(struct echo *e);

#endif
