/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What storage_file.c and its two back ends share; nobody else includes this.
 *
 * A request is a row of *steps*, each one system call. The common code (storage_file.c) decides
 * on the next step and takes its result; a back end (storage_uring.c, storage_threads.c) only
 * carries it out. A request lives in its struct io, so nothing is allocated for it.
 *
 *   ops --> queued --end of turn--> a back end: start --> step_done --> io->done
 *              ^                                             |
 *              +---------- short, interrupted, next way -----+
 */
#ifndef VIADUCT_HOST_STORAGE_REQUEST_H
#define VIADUCT_HOST_STORAGE_REQUEST_H

#include <liburing.h>
#include <pthread.h>

#include "host/storage_file.h"

enum storage_op { OP_READ, OP_WRITE, OP_FLUSH, OP_DISCARD, OP_WRITE_ZEROES };

enum storage_step {
	STEP_READ, /* into the spans */
	STEP_WRITE,
	STEP_READ_BOUNCE, /* into an aligned buffer of ours */
	STEP_WRITE_BOUNCE,
	STEP_WRITE_ZEROS, /* the long way: real ones */
	STEP_PUNCH, /* fallocate: a hole, which reads as zeroes */
	STEP_ZERO_RANGE, /* fallocate: zeroes, still allocated */
	STEP_BLKDISCARD, /* an ioctl: threads only */
	STEP_DATASYNC,
	STEP_SYNC,
};

struct storage_request {
	struct list node;
	u64 offset, left_bytes; /* of what is still to be done */
	struct span *v;
	u8 *bounce; /* NULL: none held */
	u32 n;
	u8 op, step;
	u16 n_retries; /* in a row without progress */
	int result; /* of a step, on its way from a thread */
};
_Static_assert(sizeof(struct storage_request) <= sizeof(((struct io *)0)->host),
	       "a request fits where the device gives it room");

#define BOUNCE_BYTES (64u << 10)
#define N_BOUNCES 16
#define ZEROS_BYTES (256u << 10)

struct storage_ring {
	struct io_uring ring;
	struct loop_watch watch;
	struct loop_poller poller;
	struct clock_timer retry; /* the kernel had no memory for a submission */
	u32 n_in_flight;
};

#define MAX_THREADS 4
struct storage_threads {
	pthread_t threads[MAX_THREADS];
	u32 n_threads;
	pthread_mutex_t lock; /* over the next three */
	pthread_cond_t work_came;
	struct list work, finished;
	bool ending;
	struct loop_watch watch; /* an eventfd: `finished` is not empty any more */
	struct list results; /* taken from `finished`; the loop's thread only */
};

struct storage_file {
	struct storage storage;
	struct loop *loop;
	struct loop_hook end_of_turn;
	struct loop_task another_turn; /* does nothing but keep the loop from sleeping */
	int fd;
	char *path;
	bool is_block_device, direct;
	u32 align_bytes; /* of direct I/O, in memory and in the file */

	bool has_ring, has_threads;
	struct storage_ring ring;
	struct storage_threads threads;

	struct list queued; /* steps that wait for their turn */
	u32 n_unfinished; /* requests whose done has not been called */
	bool batch_open; /* a done was called since the last batch_end */

	/* One fsync at a time, see storage_file.c. */
	struct storage_request *flushing;
	struct list flushes_covered; /* by the one that runs */
	struct list flushes_waiting;
	bool flush_over; /* it has ended with flush_err; tell those covered */
	int flush_err;
	bool sync_failed; /* E07: for good */
	bool size_changed; /* the next flush has to write all of the inode */

	bool no_punch, no_zero_range; /* not wanted, or tried in vain */

	u8 *bounce_memory;
	u8 *bounces[N_BOUNCES]; /* free ones */
	u32 n_bounces;
};

extern u8 storage_zeros[ZEROS_BYTES]; /* never written: in .bss, it costs no memory */

/* Common code, for the back ends. */
void storage_step_done(struct storage_file *f, struct storage_request *r, int result);
void storage_batch_end(struct storage_file *f);
int storage_fallocate_mode(const struct storage_request *r);

/*
 * A back end: init (0 or -errno), fini, start (false: no room now, ask again after some step
 * is done), reap (true: there was something). What has started, ring_submit sends off.
 */
int storage_ring_init(struct storage_file *f);
void storage_ring_fini(struct storage_file *f);
bool storage_ring_start(struct storage_file *f, struct storage_request *r);
void storage_ring_submit(struct storage_file *f);
bool storage_ring_reap(struct storage_file *f);

int storage_threads_init(struct storage_file *f, u32 n_threads);
void storage_threads_fini(struct storage_file *f);
bool storage_threads_start(struct storage_file *f, struct storage_request *r);
bool storage_threads_reap(struct storage_file *f);

#endif
