/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Storage steps by a few threads that sit in blocking system calls, for where io_uring is
 * refused, and for the ioctls that it cannot do. Only `work`, `finished` and `ending` are
 * shared, under one lock; a request belongs to the thread that took it until it is back.
 */
#include "host/storage_request.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <unistd.h>

static ssize_t do_step(int fd, struct storage_request *r)
{
	size_t bytes = min_u64(r->left_bytes, r->bounce ? BOUNCE_BYTES : ZEROS_BYTES);
	u64 range[2] = { r->offset, r->left_bytes };

	switch ((enum storage_step)r->step) {
	case STEP_READ:
		return preadv(fd, (struct iovec *)r->v, (int)r->n, (off_t)r->offset);
	case STEP_WRITE:
		return pwritev(fd, (struct iovec *)r->v, (int)r->n, (off_t)r->offset);
	case STEP_READ_BOUNCE:
		return pread(fd, r->bounce, bytes, (off_t)r->offset);
	case STEP_WRITE_BOUNCE:
		return pwrite(fd, r->bounce, bytes, (off_t)r->offset);
	case STEP_WRITE_ZEROS:
		return pwrite(fd, storage_zeros, bytes, (off_t)r->offset);
	case STEP_PUNCH:
	case STEP_ZERO_RANGE:
		return fallocate(fd, storage_fallocate_mode(r), (off_t)r->offset,
				 (off_t)r->left_bytes);
	case STEP_BLKDISCARD:
		return ioctl(fd, BLKDISCARD, range);
	case STEP_DATASYNC:
		return fdatasync(fd);
	case STEP_SYNC:
		return fsync(fd);
	}
	ASSERT(false);
}

static void *worker(void *arg)
{
	struct storage_file *f = arg;
	struct storage_threads *t = &f->threads;
	struct list *node;
	u64 one = 1;

	pthread_mutex_lock(&t->lock);
	for (;;) {
		struct storage_request *r;
		ssize_t n;

		while (!(node = list_pop(&t->work)) && !t->ending)
			pthread_cond_wait(&t->work_came, &t->lock);
		if (!node)
			break;
		pthread_mutex_unlock(&t->lock);

		r = container_of(node, struct storage_request, node);
		n = do_step(f->fd, r);
		r->result = n < 0 ? -errno : (int)n; /* at most 2 GiB: Linux moves no more */

		pthread_mutex_lock(&t->lock);
		if (list_empty(&t->finished)) {
			n = write(t->watch.fd, &one, sizeof(one));
			(void)n; /* full: it is readable all the same */
		}
		list_add_tail(&t->finished, node);
	}
	pthread_mutex_unlock(&t->lock);
	return NULL;
}

static void threads_ready(struct loop_watch *w, u32 events)
{
	storage_threads_reap(container_of(w, struct storage_file, threads.watch));
}

/* Signals are for the program's own threads; those that a fault raises must stay open. */
static int start_threads(struct storage_file *f, u32 n_threads)
{
	struct storage_threads *t = &f->threads;
	sigset_t most, before;
	int err = 0;

	sigfillset(&most);
	sigdelset(&most, SIGBUS);
	sigdelset(&most, SIGSEGV);
	sigdelset(&most, SIGILL);
	sigdelset(&most, SIGFPE);
	pthread_sigmask(SIG_SETMASK, &most, &before);
	while (t->n_threads < n_threads && !err) {
		err = -pthread_create(&t->threads[t->n_threads], NULL, worker, f);
		if (!err)
			t->n_threads++;
	}
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return t->n_threads ? 0 : err; /* one will do */
}

int storage_threads_init(struct storage_file *f, u32 n_threads)
{
	struct storage_threads *t = &f->threads;
	int err;

	ASSERT(n_threads <= MAX_THREADS);
	list_init(&t->work);
	list_init(&t->finished);
	list_init(&t->results);
	pthread_mutex_init(&t->lock, NULL);
	pthread_cond_init(&t->work_came, NULL);
	t->watch = (struct loop_watch){ .fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK),
					.ready = threads_ready };
	if (t->watch.fd < 0)
		return -errno;
	err = loop_add(f->loop, &t->watch, EPOLLIN);
	if (err)
		goto close_eventfd;
	err = start_threads(f, n_threads);
	if (err)
		goto remove_watch;
	f->has_threads = true;
	return 0;

remove_watch:
	loop_remove(f->loop, &t->watch);
close_eventfd:
	close(t->watch.fd);
	return err;
}

void storage_threads_fini(struct storage_file *f)
{
	struct storage_threads *t = &f->threads;

	if (!f->has_threads)
		return;
	pthread_mutex_lock(&t->lock);
	t->ending = true;
	pthread_cond_broadcast(&t->work_came);
	pthread_mutex_unlock(&t->lock);
	for (u32 i = 0; i < t->n_threads; i++)
		pthread_join(t->threads[i], NULL);
	loop_remove(f->loop, &t->watch);
	close(t->watch.fd);
	pthread_cond_destroy(&t->work_came);
	pthread_mutex_destroy(&t->lock);
	f->has_threads = false;
}

bool storage_threads_start(struct storage_file *f, struct storage_request *r)
{
	struct storage_threads *t = &f->threads;

	pthread_mutex_lock(&t->lock);
	list_add_tail(&t->work, &r->node);
	pthread_cond_signal(&t->work_came);
	pthread_mutex_unlock(&t->lock);
	return true;
}

/* As with the ring: taken one by one, so that a callback which drains finds the rest. */
bool storage_threads_reap(struct storage_file *f)
{
	struct storage_threads *t = &f->threads;
	struct list finished, *node;
	u64 count;
	ssize_t n = read(t->watch.fd, &count, sizeof(count));
	bool found = false;

	(void)n;
	pthread_mutex_lock(&t->lock);
	list_move_all(&t->finished, &finished);
	pthread_mutex_unlock(&t->lock);
	while ((node = list_pop(&finished)))
		list_add_tail(&t->results, node);

	while ((node = list_pop(&t->results))) {
		struct storage_request *r = container_of(node, struct storage_request, node);

		storage_step_done(f, r, r->result);
		found = true;
	}
	storage_batch_end(f);
	return found;
}
