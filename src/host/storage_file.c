/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Storage on files and block devices: requests, their steps, and opening.
 *
 * Three promises are kept here, whichever back end carries the steps out:
 * - A transfer ends whole or with an error. Short ones go on at the right offset (E09); one
 *   that moves nothing is an error, since the file has ended before its size (E10).
 * - A flush that succeeds is the truth. Fsyncs run one at a time: the kernel reports a lost
 *   page once per descriptor, and of two overlapping fsyncs the wrong one could say "all well"
 *   first. Flushes that come meanwhile share the next fsync. After one failed, all fail (E07).
 * - Zeroes read back as zeroes: a hole where wanted and possible, else a zeroed range, else
 *   zeroes written one by one (E13).
 */
#include "host/storage_request.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

_Static_assert(sizeof(struct span) == sizeof(struct iovec) &&
		       offsetof(struct span, base) == offsetof(struct iovec, iov_base) &&
		       offsetof(struct span, n_bytes) == offsetof(struct iovec, iov_len),
	       "spans are handed to readv as they are");

#define LOCK_TRIES 100
#define LOCK_PAUSE_NS 10000000
#define MAX_RETRIES 100 /* of one step without progress */
#define MAX_ALIGN_BYTES 4096

_Alignas(MAX_ALIGN_BYTES) u8 storage_zeros[ZEROS_BYTES];

static struct storage_file *file_of(struct storage *s)
{
	return container_of(s, struct storage_file, storage);
}

static struct io *io_of(struct storage_request *r)
{
	return container_of((u64(*)[8])(void *)r, struct io, host);
}

/* ---- spans ----------------------------------------------------------------------------- */

/* Copies the next `n_bytes` of a request between its spans and its bounce buffer. */
static void copy_bounced(struct storage_request *r, size_t n_bytes, bool to_spans)
{
	u8 *bounce = r->bounce;

	for (struct span *v = r->v; n_bytes; v++) {
		size_t n = min_u64(v->n_bytes, n_bytes);

		if (to_spans)
			memcpy(v->base, bounce, n);
		else
			memcpy(bounce, v->base, n);
		bounce += n;
		n_bytes -= n;
	}
}

/* The first `n_bytes` are done: narrows the spans to the rest. */
static void advance(struct storage_request *r, u64 n_bytes)
{
	r->offset += n_bytes;
	r->left_bytes -= n_bytes;
	while (r->n && n_bytes >= r->v->n_bytes) {
		n_bytes -= r->v->n_bytes;
		r->v++;
		r->n--;
	}
	if (r->n) {
		r->v->base = (u8 *)r->v->base + n_bytes;
		r->v->n_bytes -= n_bytes;
	}
}

static bool spans_are_aligned(const struct span *v, u32 n, u32 align_bytes)
{
	uintptr_t bits = 0;

	for (u32 i = 0; i < n; i++)
		bits |= (uintptr_t)v[i].base | v[i].n_bytes;
	return bits % align_bytes == 0;
}

/* ---- starting and ending --------------------------------------------------------------- */

/* There is always a turn to come whose end sends it off, wherever in a turn we are now. */
static void enqueue(struct storage_file *f, struct storage_request *r)
{
	list_add_tail(&f->queued, &r->node);
	loop_defer(f->loop, &f->another_turn);
}

/*
 * A request under way goes before all that have not begun: it may hold the bounce buffer that
 * the first of those waits for.
 */
static void go_on(struct storage_file *f, struct storage_request *r)
{
	list_add_tail(f->queued.next, &r->node);
	loop_defer(f->loop, &f->another_turn);
}

static void another_turn(struct loop_task *t)
{
}

static struct storage_request *request_new(struct storage_file *f, struct io *io,
					   enum storage_op op, enum storage_step step)
{
	struct storage_request *r = (struct storage_request *)(void *)io->host;

	*r = (struct storage_request){ .op = (u8)op, .step = (u8)step };
	f->n_unfinished++;
	return r;
}

static void finish(struct storage_file *f, struct storage_request *r, int err)
{
	struct io *io = io_of(r);

	if (r->bounce)
		f->bounces[f->n_bounces++] = r->bounce;
	f->n_unfinished--;
	f->batch_open = true;
	io->done(io, err);
}

void storage_batch_end(struct storage_file *f)
{
	if (!f->batch_open)
		return;
	f->batch_open = false;
	if (f->storage.batch_end)
		f->storage.batch_end(f->storage.owner);
}

/* False: something it needs is in use, and comes back with a step that is running. */
static bool start(struct storage_file *f, struct storage_request *r)
{
	if (r->step == STEP_READ_BOUNCE || r->step == STEP_WRITE_BOUNCE) {
		if (!r->bounce && !f->n_bounces)
			return false;
		if (!r->bounce)
			r->bounce = f->bounces[--f->n_bounces];
		if (r->step == STEP_WRITE_BOUNCE)
			copy_bounced(r, min_u64(r->left_bytes, BOUNCE_BYTES), false);
	}
	if (f->has_ring && r->step != STEP_BLKDISCARD)
		return storage_ring_start(f, r);
	return storage_threads_start(f, r);
}

/* In order: who finds no room waits at the head, so that nobody is overtaken for ever. */
static void start_queued(struct storage_file *f)
{
	struct list *node;

	while ((node = list_pop(&f->queued))) {
		if (start(f, container_of(node, struct storage_request, node)))
			continue;
		list_add_tail(f->queued.next, node); /* back to the head */
		break;
	}
	if (f->has_ring)
		storage_ring_submit(f);
}

/*
 * What the page cache answers at once is there already: told now rather than after another
 * look at the descriptors. What that brings goes out with a second submission, and then waits.
 */
static void end_of_turn(struct loop_hook *h)
{
	struct storage_file *f = container_of(h, struct storage_file, end_of_turn);

	start_queued(f);
	if (f->has_ring && storage_ring_reap(f))
		start_queued(f);
	/* All is sent, or waits for a result: nothing more to stay awake for. */
	loop_cancel(f->loop, &f->another_turn);
}

/* ---- flushes --------------------------------------------------------------------------- */

/* Starts an fsync for all that wait, if none runs. */
static void flush_next(struct storage_file *f)
{
	struct list *node;

	if (f->flushing || !(node = list_pop(&f->flushes_waiting)))
		return;
	list_move_all(&f->flushes_waiting, &f->flushes_covered);
	f->flushing = container_of(node, struct storage_request, node);
	f->flushing->step = f->size_changed ? STEP_SYNC : STEP_DATASYNC;
	f->size_changed = false;
	enqueue(f, f->flushing);
}

/*
 * The fsync has ended: tells all whom it covered. Each is off the list before its callback,
 * and new flushes wait until the last is told: a callback may flush, or drain, in between.
 */
static void flush_tell(struct storage_file *f)
{
	struct list *node;

	while (f->flush_over) {
		node = list_pop(&f->flushes_covered);
		if (node) {
			finish(f, container_of(node, struct storage_request, node), f->flush_err);
			continue;
		}
		f->flush_over = false;
		f->flushing = NULL;
		flush_next(f);
	}
}

static void flush_done(struct storage_file *f, struct storage_request *r, int result)
{
	if (result < 0 || f->sync_failed) {
		f->sync_failed = true;
		f->flush_err = result < 0 ? result : -EIO;
	} else {
		f->flush_err = 0;
	}
	f->flush_over = true;
	list_add_tail(f->flushes_covered.next, &r->node); /* the first of those it covers */
	flush_tell(f);
}

static void file_flush(struct storage *s, struct io *io)
{
	struct storage_file *f = file_of(s);
	struct storage_request *r;

	if (f->sync_failed || s->read_only) {
		io->done(io, f->sync_failed ? -EIO : 0);
		return;
	}
	r = request_new(f, io, OP_FLUSH, STEP_DATASYNC);
	list_add_tail(&f->flushes_waiting, &r->node);
	flush_next(f);
}

/* ---- reads and writes ------------------------------------------------------------------ */

static void transfer(struct storage *s, struct io *io, bool write, u64 offset, struct span *v,
		     u32 n)
{
	struct storage_file *f = file_of(s);
	bool bounce = f->direct && !spans_are_aligned(v, n, f->align_bytes);
	struct storage_request *r;

	if (write && s->read_only) {
		io->done(io, -EROFS);
		return;
	}
	r = request_new(f, io, write ? OP_WRITE : OP_READ,
			write ? (bounce ? STEP_WRITE_BOUNCE : STEP_WRITE)
			      : (bounce ? STEP_READ_BOUNCE : STEP_READ));
	r->offset = offset;
	r->v = v;
	r->n = n;
	for (u32 i = 0; i < n; i++)
		r->left_bytes += v[i].n_bytes;
	enqueue(f, r);
}

static void file_read(struct storage *s, struct io *io, u64 offset, struct span *v, u32 n)
{
	transfer(s, io, false, offset, v, n);
}

static void file_write(struct storage *s, struct io *io, u64 offset, struct span *v, u32 n)
{
	transfer(s, io, true, offset, v, n);
}

static void transfer_done(struct storage_file *f, struct storage_request *r, int result)
{
	if (result <= 0 && r->left_bytes) {
		finish(f, r, result ? result : -EIO);
		return;
	}
	if (r->step == STEP_READ_BOUNCE)
		copy_bounced(r, (size_t)result, true);
	advance(r, (u64)result);
	if (!r->left_bytes) {
		finish(f, r, 0);
		return;
	}
	/* A cut inside a block leaves spans that direct I/O takes only by way of a bounce. */
	if (f->direct && r->n && !spans_are_aligned(r->v, r->n, f->align_bytes))
		r->step = r->op == OP_READ ? STEP_READ_BOUNCE : STEP_WRITE_BOUNCE;
	r->n_retries = 0;
	go_on(f, r);
}

/* ---- discards and zeroes --------------------------------------------------------------- */

static void range(struct storage *s, struct io *io, enum storage_op op, enum storage_step step,
		  u64 offset, u64 n_bytes)
{
	struct storage_file *f = file_of(s);
	struct storage_request *r;

	if (s->read_only || !n_bytes) {
		io->done(io, s->read_only ? -EROFS : 0);
		return;
	}
	r = request_new(f, io, op, step);
	r->offset = offset;
	r->left_bytes = n_bytes;
	enqueue(f, r);
}

static void file_discard(struct storage *s, struct io *io, u64 offset, u64 n_bytes)
{
	struct storage_file *f = file_of(s);

	if (!s->can_discard)
		io->done(io, -EOPNOTSUPP);
	else
		range(s, io, OP_DISCARD, f->is_block_device ? STEP_BLKDISCARD : STEP_PUNCH, offset,
		      n_bytes);
}

static void file_write_zeroes(struct storage *s, struct io *io, u64 offset, u64 n_bytes,
			      bool may_unmap)
{
	struct storage_file *f = file_of(s);
	enum storage_step step = may_unmap && !f->no_punch ? STEP_PUNCH
				 : !f->no_zero_range       ? STEP_ZERO_RANGE
							   : STEP_WRITE_ZEROS;

	range(s, io, OP_WRITE_ZEROES, step, offset, n_bytes);
}

int storage_fallocate_mode(const struct storage_request *r)
{
	return FALLOC_FL_KEEP_SIZE |
	       (r->step == STEP_PUNCH ? FALLOC_FL_PUNCH_HOLE : FALLOC_FL_ZERO_RANGE);
}

/*
 * The file, or its device, cannot do this (never, or not on this range: -EINVAL). For a discard
 * that is no harm, it was a hint; for zeroes there is always another way.
 */
static void range_refused(struct storage_file *f, struct storage_request *r, bool never)
{
	if (r->op == OP_DISCARD) {
		finish(f, r, 0);
		return;
	}
	if (r->step == STEP_PUNCH) {
		f->no_punch |= never;
		r->step = f->no_zero_range ? STEP_WRITE_ZEROS : STEP_ZERO_RANGE;
	} else {
		f->no_zero_range |= never;
		r->step = STEP_WRITE_ZEROS;
	}
	go_on(f, r);
}

/* ---- results --------------------------------------------------------------------------- */

void storage_step_done(struct storage_file *f, struct storage_request *r, int result)
{
	if ((result == -EINTR || result == -EAGAIN) && r->n_retries < MAX_RETRIES) {
		r->n_retries++;
		go_on(f, r);
		return;
	}
	switch ((enum storage_step)r->step) {
	case STEP_READ:
	case STEP_WRITE:
	case STEP_READ_BOUNCE:
	case STEP_WRITE_BOUNCE:
	case STEP_WRITE_ZEROS:
		transfer_done(f, r, result);
		break;
	case STEP_PUNCH:
	case STEP_ZERO_RANGE:
	case STEP_BLKDISCARD:
		if (result == -EOPNOTSUPP || result == -ENOSYS || result == -EINVAL)
			range_refused(f, r, result != -EINVAL);
		else
			finish(f, r, result);
		break;
	case STEP_DATASYNC:
	case STEP_SYNC:
		flush_done(f, r, result);
		break;
	}
}

/* Sleeps until a back end has results, or a submission that the kernel refused may be tried. */
static void wait_for_results(struct storage_file *f)
{
	struct pollfd fds[2] = { { .fd = -1 }, { .fd = -1 } };
	bool refused = f->has_ring && io_uring_sq_ready(&f->ring.ring);

	if (f->has_ring)
		fds[0] = (struct pollfd){ f->ring.watch.fd, POLLIN, 0 };
	if (f->has_threads)
		fds[1] = (struct pollfd){ f->threads.watch.fd, POLLIN, 0 };
	poll(fds, 2, refused ? 1 : -1);
}

/* Its own little loop: the event loop may be in the middle of a turn that led here. */
static void file_drain(struct storage *s)
{
	struct storage_file *f = file_of(s);

	while (f->n_unfinished) {
		bool found = false;

		flush_tell(f); /* a callback that drains may have left some untold */
		start_queued(f);
		if (f->has_ring)
			found |= storage_ring_reap(f);
		if (f->has_threads)
			found |= storage_threads_reap(f);
		if (!found && f->n_unfinished)
			wait_for_results(f);
	}
	storage_batch_end(f);
}

static const struct storage_ops file_ops = {
	.read = file_read,
	.write = file_write,
	.flush = file_flush,
	.discard = file_discard,
	.write_zeroes = file_write_zeroes,
	.drain = file_drain,
};

/* ---- opening --------------------------------------------------------------------------- */

__attribute__((format(printf, 3, 4))) static int fail(char *why, int err, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(why, STORAGE_FILE_WHY_BYTES, format, args);
	va_end(args);
	return err;
}

static int check_options(const struct storage_file_options *o, char *why)
{
	u32 logical = o->logical_block_bytes, physical = o->physical_block_bytes;

	if (logical && (!is_power_of_two(logical) || logical < 512 || logical > 4096))
		return fail(why, -EINVAL,
			    "%s: a logical block of %u bytes is not possible: use 512, 1024, "
			    "2048 or 4096",
			    o->path, logical);
	if (physical && (!is_power_of_two(physical) || physical < max_u64(logical, 512)))
		return fail(why, -EINVAL,
			    "%s: a physical block of %u bytes is not possible: use a power of two "
			    "that is not below the logical block",
			    o->path, physical);
	if (o->back_end && strcmp(o->back_end, "io_uring") && strcmp(o->back_end, "threads"))
		return fail(why, -EINVAL, "%s: no back end is called '%s': use io_uring or threads",
			    o->path, o->back_end);
	return 0;
}

static int fail_open(const struct storage_file_options *o, int err, bool is_block_device, char *why)
{
	if (err == -ENOENT)
		return fail(why, err,
			    "%s does not exist: check the path, or make an image with "
			    "'truncate -s 1G %s'",
			    o->path, o->path);
	if (err == -EBUSY && is_block_device)
		return fail(why, err,
			    "%s is mounted or in use by another program: end that use, "
			    "or open it read-only",
			    o->path);
	if (err == -EINVAL && o->direct)
		return fail(why, err,
			    "%s lies on a file system without direct I/O: leave the "
			    "direct option off",
			    o->path);
	if (!o->read_only && (err == -EACCES || err == -EPERM || err == -EROFS || err == -ETXTBSY))
		return fail(why, err,
			    "%s cannot be opened for writing (%s): give this user the "
			    "right to, or open it read-only",
			    o->path, strerror(-err));
	return fail(why, err, "%s cannot be opened (%s): check the path and its permissions",
		    o->path, strerror(-err));
}

/*
 * Looked at before it is opened, because opening a FIFO could wait for ever and opening a
 * device may have effects. A writer claims a block device from the host's own file systems.
 */
static int open_file(struct storage_file *f, const struct storage_file_options *o, char *why)
{
	int flags = (o->read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC | (o->direct ? O_DIRECT : 0);
	struct stat st;

	if (stat(o->path, &st))
		return fail_open(o, -errno, false, why);
	f->is_block_device = S_ISBLK(st.st_mode);
	if (!f->is_block_device && !S_ISREG(st.st_mode))
		return fail(why, -EINVAL,
			    "%s is neither a file nor a block device: give the path of a disk "
			    "image",
			    o->path);
	if (f->is_block_device && !o->read_only && !o->no_lock)
		flags |= O_EXCL;
	f->fd = open(o->path, flags);
	if (f->fd < 0)
		return fail_open(o, -errno, f->is_block_device, why);
	if (fstat(f->fd, &st) || S_ISBLK(st.st_mode) != f->is_block_device ||
	    S_ISREG(st.st_mode) == f->is_block_device)
		return fail(why, -EINVAL, "%s was replaced while it was opened: try again",
			    o->path);
	return 0;
}

/* E14. Locks of the open file description: they end with it, and no stray close() drops them. */
static int lock_file(struct storage_file *f, const struct storage_file_options *o, char *why)
{
	struct flock lock = { .l_type = o->read_only ? F_RDLCK : F_WRLCK, .l_whence = SEEK_SET };
	int err = 0;

	if (o->no_lock)
		return 0;
	/*
	 * One that was killed holds its lock until the kernel has ended the writes that it had
	 * under way in io_uring, a moment after its death. Whoever is started in its place waits
	 * for exactly that: such a write must not land on top of one of ours.
	 */
	for (u32 i = 0; i < LOCK_TRIES; i++) {
		if (!fcntl(f->fd, F_OFD_SETLK, &lock))
			return 0;
		err = -errno;
		if (err != -EAGAIN && err != -EACCES)
			break;
		nanosleep(&(struct timespec){ .tv_nsec = LOCK_PAUSE_NS }, NULL);
	}
	if (err == -EAGAIN || err == -EACCES)
		return fail(why, -EBUSY,
			    "%s is in use by another program, which holds its lock: end that one, "
			    "open it read-only on both sides, or turn locking off if something "
			    "else keeps the writers apart",
			    o->path);
	return fail(why, err, "%s cannot be locked (%s): turn locking off if nobody else uses it",
		    o->path, strerror(-err));
}

static int file_bytes(const struct storage_file *f, u64 *n_bytes)
{
	struct stat st;

	if (f->is_block_device)
		return ioctl(f->fd, BLKGETSIZE64, n_bytes) ? -errno : 0;
	if (fstat(f->fd, &st))
		return -errno;
	*n_bytes = (u64)st.st_size;
	return 0;
}

static int find_sizes(struct storage_file *f, const struct storage_file_options *o, char *why)
{
	struct storage *s = &f->storage;
	u64 logical, n_bytes = 0;
	int err = file_bytes(f, &n_bytes);

	if (err)
		return fail(why, err, "%s: its size cannot be read (%s): check the device", o->path,
			    strerror(-err));
	if (n_bytes == 0)
		return fail(why, -EINVAL,
			    "%s is empty: give it a size, say with 'truncate -s 1G %s'", o->path,
			    o->path);
	logical = s->logical_block_bytes;
	if (n_bytes % logical)
		return fail(why, -EINVAL,
			    "%s has %llu bytes, which is not a multiple of %llu: if it is a raw "
			    "image, round it up with 'truncate -s %llu %s'",
			    o->path, (unsigned long long)n_bytes, (unsigned long long)logical,
			    (unsigned long long)((n_bytes / logical + 1) * logical), o->path);
	s->n_bytes = n_bytes;
	return 0;
}

/* What to tell the guest about blocks, from the device or the file system unless said. */
static void find_blocks(struct storage_file *f, const struct storage_file_options *o)
{
	struct storage *s = &f->storage;
	unsigned int physical = 0, min_io = 0, opt_io = 0;
	int logical = 0;
	struct stat st;

	if (f->is_block_device) {
		ioctl(f->fd, BLKSSZGET, &logical);
		ioctl(f->fd, BLKPBSZGET, &physical);
		ioctl(f->fd, BLKIOMIN, &min_io);
		ioctl(f->fd, BLKIOOPT, &opt_io);
	} else if (!fstat(f->fd, &st)) {
		physical = (unsigned int)st.st_blksize;
	}
	s->logical_block_bytes = o->logical_block_bytes ? o->logical_block_bytes : 512;
	if (!o->logical_block_bytes && logical > 512 && logical <= 4096)
		s->logical_block_bytes = (u32)logical;
	/* Network file systems call a megabyte a block: good to know, but not one that tears. */
	if (!is_power_of_two(physical) || physical > 65536)
		physical = 4096;
	s->physical_block_bytes = o->physical_block_bytes ? o->physical_block_bytes : physical;
	s->physical_block_bytes = (u32)max_u64(s->physical_block_bytes, s->logical_block_bytes);
	s->min_io_bytes = min_io;
	s->opt_io_bytes = opt_io;
	s->discard_align_bytes = s->physical_block_bytes;
}

/*
 * What direct I/O demands, found by trying: no system call tells it on every kernel. Read where
 * every image has data; an answer other than EINVAL is not about alignment.
 */
static int find_alignment(struct storage_file *f, const struct storage_file_options *o, char *why)
{
	struct storage *s = &f->storage;

	if (!o->direct)
		return 0;
	for (u32 align = 512; align <= MAX_ALIGN_BYTES && !f->align_bytes; align *= 2) {
		/* Aligned to `align` and to nothing more. */
		u8 *at = f->bounce_memory + (align < MAX_ALIGN_BYTES ? align : 0);

		if (pread(f->fd, at, align, 0) >= 0 || errno != EINVAL)
			f->align_bytes = align;
	}
	if (!f->align_bytes)
		return fail(why, -EINVAL,
			    "%s does not take direct I/O: leave the direct option off", o->path);
	if (o->logical_block_bytes && o->logical_block_bytes < f->align_bytes)
		return fail(why, -EINVAL,
			    "%s takes direct I/O in blocks of %u bytes only: use a logical block "
			    "of %u, or leave the direct option off",
			    o->path, f->align_bytes, f->align_bytes);
	s->logical_block_bytes = (u32)max_u64(s->logical_block_bytes, f->align_bytes);
	s->physical_block_bytes = (u32)max_u64(s->physical_block_bytes, s->logical_block_bytes);
	return 0;
}

static int make_bounces(struct storage_file *f, const struct storage_file_options *o, char *why)
{
	void *memory;

	if (!o->direct)
		return 0;
	f->direct = true;
	if (posix_memalign(&memory, MAX_ALIGN_BYTES, (size_t)N_BOUNCES * BOUNCE_BYTES))
		return fail(why, -ENOMEM,
			    "%s: no memory for bounce buffers: free some, or leave "
			    "the direct option off",
			    o->path);
	f->bounce_memory = memory;
	while (f->n_bounces < N_BOUNCES) {
		f->bounces[f->n_bounces] = f->bounce_memory + (size_t)f->n_bounces * BOUNCE_BYTES;
		f->n_bounces++;
	}
	return 0;
}

/* Asked of the kernel's own list for devices; of a file by a hole past its end, where none is. */
static bool file_can_discard(const struct storage_file *f)
{
	unsigned long long max_bytes = 0;
	char path[96];
	struct stat st;

	if (!f->is_block_device)
		return fallocate(f->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				 (off_t)f->storage.n_bytes, 4096) == 0;
	if (fstat(f->fd, &st))
		return false;
	/* A partition has its queue one up. */
	for (int up = 0; up < 2 && !max_bytes; up++) {
		FILE *file;

		snprintf(path, sizeof(path), "/sys/dev/block/%u:%u/%squeue/discard_max_bytes",
			 major(st.st_rdev), minor(st.st_rdev), up ? "../" : "");
		file = fopen(path, "re");
		if (!file)
			continue;
		if (fscanf(file, "%llu", &max_bytes) != 1)
			max_bytes = 0;
		fclose(file);
	}
	return max_bytes != 0;
}

static int start_back_ends(struct storage_file *f, const struct storage_file_options *o, char *why)
{
	bool want_ring = !o->back_end || !strcmp(o->back_end, "io_uring");
	int err = want_ring ? storage_ring_init(f) : -ENOSYS;

	if (err && o->back_end && want_ring)
		return fail(why, err,
			    "%s: io_uring is refused here (%s): let the back end be "
			    "chosen by itself, or use threads",
			    o->path, strerror(-err));
	/* The ring does all but one ioctl. */
	if (f->has_ring && !(f->is_block_device && f->storage.can_discard))
		return 0;
	err = storage_threads_init(f, f->has_ring ? 1 : MAX_THREADS);
	if (err)
		return fail(why, err,
			    "%s: no threads can be started (%s): raise the limit on "
			    "processes",
			    o->path, strerror(-err));
	return 0;
}

/* Else a write beyond the limit on file sizes would end us, instead of giving EFBIG. */
static void ignore_sigxfsz(void)
{
	struct sigaction now;

	if (!sigaction(SIGXFSZ, NULL, &now) && now.sa_handler == SIG_DFL) {
		now.sa_handler = SIG_IGN;
		sigaction(SIGXFSZ, &now, NULL);
	}
}

static void free_file(struct storage_file *f)
{
	storage_threads_fini(f);
	storage_ring_fini(f);
	loop_cancel(f->loop, &f->another_turn);
	loop_remove_hook(f->loop, &f->end_of_turn);
	if (f->fd >= 0)
		close(f->fd); /* and the lock with it */
	free(f->bounce_memory);
	free(f->path);
	free(f);
}

int storage_file_open(struct loop *loop, const struct storage_file_options *o,
		      struct storage **storage, char why[STORAGE_FILE_WHY_BYTES])
{
	struct storage_file *f = calloc(1, sizeof(*f));
	int err;

	*storage = NULL;
	why[0] = '\0';
	if (!f || !(f->path = strdup(o->path))) {
		free(f);
		return fail(why, -ENOMEM, "%s: no memory: free some", o->path);
	}
	f->fd = -1;
	f->loop = loop;
	list_init(&f->queued);
	list_init(&f->flushes_covered);
	list_init(&f->flushes_waiting);
	f->storage =
		(struct storage){ .ops = &file_ops, .name = f->path, .read_only = o->read_only };
	ignore_sigxfsz();

	err = check_options(o, why);
	if (!err)
		err = open_file(f, o, why);
	if (!err)
		err = lock_file(f, o, why);
	if (!err)
		err = make_bounces(f, o, why);
	if (err)
		goto free_all;
	find_blocks(f, o);
	err = find_alignment(f, o, why);
	if (!err)
		err = find_sizes(f, o, why);
	if (err)
		goto free_all;
	f->storage.can_write_zeroes = !o->read_only;
	f->no_punch = !o->discard;
	f->storage.can_discard = o->discard && !o->read_only && file_can_discard(f);
	err = start_back_ends(f, o, why);
	if (err)
		goto free_all;
	f->another_turn.run = another_turn;
	f->end_of_turn.run = end_of_turn;
	loop_add_hook(loop, &f->end_of_turn);
	*storage = &f->storage;
	return 0;

free_all:
	free_file(f);
	return err;
}

void storage_file_close(struct storage *s)
{
	if (!s)
		return;
	file_drain(s);
	free_file(file_of(s));
}

int storage_file_refresh_size(struct storage *s)
{
	struct storage_file *f = file_of(s);
	u64 n_bytes = 0;
	int err = file_bytes(f, &n_bytes);

	if (err)
		return err;
	n_bytes -= n_bytes % s->logical_block_bytes; /* a tail that no block covers stays out */
	if (n_bytes == s->n_bytes)
		return 0;
	s->n_bytes = n_bytes;
	f->size_changed = true;
	if (s->resized)
		s->resized(s->owner);
	return 0;
}

const char *storage_file_back_end(const struct storage *s)
{
	return container_of(s, const struct storage_file, storage)->has_ring ? "io_uring"
									     : "threads";
}
