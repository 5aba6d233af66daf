/* SPDX-License-Identifier: BSD-3-Clause */
/* Storage steps through io_uring: one submission a turn, completions found by epoll or poll. */
#include "host/storage_request.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/epoll.h>

#define RING_ENTRIES 128
#define MAX_IN_FLIGHT (2 * RING_ENTRIES) /* what the completion ring holds: it never overflows */
#define RETRY_NS 1000000

static void ring_ready(struct loop_watch *w, u32 events)
{
	storage_ring_reap(container_of(w, struct storage_file, ring.watch));
}

static bool ring_poll(struct loop_poller *p)
{
	return storage_ring_reap(container_of(p, struct storage_file, ring.poller));
}

/* The timer has made the loop take a turn; its end submits. */
static void ring_retry(struct clock_timer *t)
{
}

static bool kernel_knows(struct io_uring *ring)
{
	const int needed[] = { IORING_OP_READ,   IORING_OP_WRITE, IORING_OP_READV,
			       IORING_OP_WRITEV, IORING_OP_FSYNC, IORING_OP_FALLOCATE };
	struct io_uring_probe *probe = io_uring_get_probe_ring(ring);
	bool all = probe != NULL;

	for (size_t i = 0; all && i < ARRAY_SIZE(needed); i++)
		all = io_uring_opcode_supported(probe, needed[i]);
	io_uring_free_probe(probe);
	return all;
}

/* A sandbox may allow to set up a ring and refuse to use it: better learnt now. */
static int try_a_nop(struct io_uring *ring)
{
	struct io_uring_cqe *cqe;
	int n;

	io_uring_prep_nop(io_uring_get_sqe(ring));
	n = io_uring_submit(ring);
	if (n < 0)
		return n;
	n = io_uring_wait_cqe(ring, &cqe);
	if (n < 0)
		return n;
	io_uring_cqe_seen(ring, cqe);
	return 0;
}

int storage_ring_init(struct storage_file *f)
{
	struct storage_ring *r = &f->ring;
	int err = io_uring_queue_init(RING_ENTRIES, &r->ring, 0);

	if (err)
		return err;
	err = kernel_knows(&r->ring) ? try_a_nop(&r->ring) : -ENOSYS;
	if (err)
		goto exit_ring;
	r->watch = (struct loop_watch){ .fd = r->ring.ring_fd, .ready = ring_ready };
	err = loop_add(f->loop, &r->watch, EPOLLIN);
	if (err)
		goto exit_ring;
	r->poller = (struct loop_poller){ .poll = ring_poll };
	loop_add_poller(f->loop, &r->poller);
	r->retry.fired = ring_retry;
	f->has_ring = true;
	return 0;

exit_ring:
	io_uring_queue_exit(&r->ring);
	return err;
}

void storage_ring_fini(struct storage_file *f)
{
	struct clock *c = loop_clock(f->loop);

	if (!f->has_ring)
		return;
	c->ops->stop(c, &f->ring.retry);
	loop_remove_poller(f->loop, &f->ring.poller);
	loop_remove(f->loop, &f->ring.watch);
	io_uring_queue_exit(&f->ring.ring);
	f->has_ring = false;
}

bool storage_ring_start(struct storage_file *f, struct storage_request *r)
{
	struct io_uring_sqe *sqe;
	u32 bytes = (u32)min_u64(r->left_bytes, r->bounce ? BOUNCE_BYTES : ZEROS_BYTES);

	if (f->ring.n_in_flight == MAX_IN_FLIGHT)
		return false;
	sqe = io_uring_get_sqe(&f->ring.ring);
	if (!sqe) { /* more in one turn than the ring has entries: a submission in between */
		storage_ring_submit(f);
		sqe = io_uring_get_sqe(&f->ring.ring);
		if (!sqe)
			return false;
	}
	switch ((enum storage_step)r->step) {
	case STEP_READ:
		io_uring_prep_readv(sqe, f->fd, (struct iovec *)r->v, r->n, r->offset);
		break;
	case STEP_WRITE:
		io_uring_prep_writev(sqe, f->fd, (struct iovec *)r->v, r->n, r->offset);
		break;
	case STEP_READ_BOUNCE:
		io_uring_prep_read(sqe, f->fd, r->bounce, bytes, r->offset);
		break;
	case STEP_WRITE_BOUNCE:
		io_uring_prep_write(sqe, f->fd, r->bounce, bytes, r->offset);
		break;
	case STEP_WRITE_ZEROS:
		io_uring_prep_write(sqe, f->fd, storage_zeros, bytes, r->offset);
		break;
	case STEP_PUNCH:
	case STEP_ZERO_RANGE:
		io_uring_prep_fallocate(sqe, f->fd, storage_fallocate_mode(r), (off_t)r->offset,
					(off_t)r->left_bytes);
		break;
	case STEP_DATASYNC:
		io_uring_prep_fsync(sqe, f->fd, IORING_FSYNC_DATASYNC);
		break;
	case STEP_SYNC:
		io_uring_prep_fsync(sqe, f->fd, 0);
		break;
	case STEP_BLKDISCARD:
		ASSERT(false); /* the threads' */
	}
	io_uring_sqe_set_data(sqe, r);
	f->ring.n_in_flight++;
	return true;
}

/* The kernel may take a part only. What it leaves stays in the ring, and is offered again. */
void storage_ring_submit(struct storage_file *f)
{
	struct clock *c = loop_clock(f->loop);
	int n = 1;

	while (n > 0 && io_uring_sq_ready(&f->ring.ring))
		n = io_uring_submit(&f->ring.ring);
	/* Out of memory (-EAGAIN, -EBUSY) or interrupted, and perhaps nothing else will wake us. */
	if (io_uring_sq_ready(&f->ring.ring))
		c->ops->start(c, &f->ring.retry, c->ops->now_ns(c) + RETRY_NS);
}

/*
 * One at a time, each taken off the ring before its callback: a callback may drain, and then
 * finds the others here.
 */
bool storage_ring_reap(struct storage_file *f)
{
	struct io_uring_cqe *cqe;
	bool found = false;

	while (io_uring_cq_ready(&f->ring.ring) && !io_uring_peek_cqe(&f->ring.ring, &cqe)) {
		struct storage_request *r = io_uring_cqe_get_data(cqe);
		int result = cqe->res;

		io_uring_cqe_seen(&f->ring.ring, cqe);
		f->ring.n_in_flight--;
		storage_step_done(f, r, result);
		found = true;
	}
	storage_batch_end(f);
	return found;
}
