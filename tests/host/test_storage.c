/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Storage on real files and devices: one table of tests, run on {io_uring, threads} x {a memory
 * file system, a disk}. Errors are the kernel's own: a full file system, a file cut off, a
 * loop device whose backing is full. Where short transfers are wanted, what the back ends ask
 * the kernel for is made shorter on its way (below), so that the kernel answers them itself.
 */
#include "host/storage_file.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <linux/filter.h>
#include <linux/loop.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define KIB 1024u
#define MIB (1024u * KIB)

/* ---- making transfers short ------------------------------------------------------------ */

static bool make_short; /* every other system call is shortened, interrupted or refused */
static u64 seed, random_state;
static u32 n_shortened;

static u32 random_below(u32 n)
{
	static __thread u64 own;
	u64 z;

	/* Threads share the seed, not the state. */
	own += 0x9e3779b97f4a7c15;
	z = __atomic_add_fetch(&random_state, own | 1, __ATOMIC_RELAXED);
	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
	z = (z ^ z >> 27) * 0x94d049bb133111eb;
	return (u32)((z ^ z >> 31) % n);
}

/* A vector that covers some of `v`, at least 512 bytes; the spans themselves stay as they are. */
static int shorten(const struct iovec *v, int n, struct iovec *into)
{
	int keep = 1 + (int)random_below((u32)n);

	memcpy(into, v, sizeof(*v) * (size_t)keep);
	if (into[keep - 1].iov_len > 512)
		into[keep - 1].iov_len =
			512 * (1 + random_below((u32)(into[keep - 1].iov_len / 512)));
	__atomic_add_fetch(&n_shortened, 1, __ATOMIC_RELAXED);
	return keep;
}

/* The threads' calls: these definitions take the place of libc's in this program. */
ssize_t preadv(int fd, const struct iovec *v, int n, off_t offset)
{
	struct iovec less[1024];

	if (make_short && n > 0 && random_below(2)) {
		if (random_below(4) == 0) {
			errno = EINTR;
			return -1;
		}
		n = shorten(v, n, less);
		v = less;
	}
	return syscall(SYS_preadv, fd, v, n, offset, 0);
}

ssize_t pwritev(int fd, const struct iovec *v, int n, off_t offset)
{
	struct iovec less[1024];

	if (make_short && n > 0 && random_below(2)) {
		if (random_below(4) == 0) {
			errno = EAGAIN;
			return -1;
		}
		n = shorten(v, n, less);
		v = less;
	}
	return syscall(SYS_pwritev, fd, v, n, offset, 0);
}

/* Those of bounced pieces. Direct I/O is cut at multiples of what it may demand at most. */
static size_t fewer_bytes(size_t n)
{
	if (!make_short || n <= 4096 || random_below(2))
		return n;
	__atomic_add_fetch(&n_shortened, 1, __ATOMIC_RELAXED);
	return 4096 * (1 + random_below((u32)(n / 4096)));
}

ssize_t pread(int fd, void *bytes, size_t n, off_t offset)
{
	return syscall(SYS_pread64, fd, bytes, fewer_bytes(n), offset);
}

ssize_t pwrite(int fd, const void *bytes, size_t n, off_t offset)
{
	return syscall(SYS_pwrite64, fd, bytes, fewer_bytes(n), offset);
}

static u32 n_fsyncs, n_fdatasyncs, n_syncs_running;
static bool syncs_overlap;

static int counted_sync(int fd, u32 *count, long nr)
{
	int result;

	__atomic_add_fetch(count, 1, __ATOMIC_RELAXED);
	if (__atomic_add_fetch(&n_syncs_running, 1, __ATOMIC_RELAXED) > 1)
		__atomic_store_n(&syncs_overlap, true, __ATOMIC_RELAXED);
	result = (int)syscall(nr, fd);
	__atomic_sub_fetch(&n_syncs_running, 1, __ATOMIC_RELAXED);
	return result;
}

int fsync(int fd)
{
	return counted_sync(fd, &n_fsyncs, SYS_fsync);
}

int fdatasync(int fd)
{
	return counted_sync(fd, &n_fdatasyncs, SYS_fdatasync);
}

static void count_sqe(const struct io_uring_sqe *sqe)
{
	if (sqe->opcode == IORING_OP_FSYNC) {
		if (sqe->fsync_flags & IORING_FSYNC_DATASYNC)
			n_fdatasyncs++;
		else
			n_fsyncs++;
	}
}

/* The ring's: entries that have not been submitted yet are cut, or the submission is refused. */
static void shorten_sqe(struct io_uring_sqe *sqe)
{
	const struct iovec *v = (const struct iovec *)(uintptr_t)sqe->addr;

	if ((sqe->opcode == IORING_OP_READV || sqe->opcode == IORING_OP_WRITEV) && sqe->len > 1) {
		sqe->len = 1 + random_below(sqe->len);
	} else if ((sqe->opcode == IORING_OP_READV || sqe->opcode == IORING_OP_WRITEV) &&
		   sqe->len == 1 && v->iov_len > 512) {
		sqe->opcode = sqe->opcode == IORING_OP_READV ? IORING_OP_READ : IORING_OP_WRITE;
		sqe->addr = (uintptr_t)v->iov_base;
		sqe->len = 512 * (1 + random_below((u32)(v->iov_len / 512)));
	} else if ((sqe->opcode == IORING_OP_READ || sqe->opcode == IORING_OP_WRITE) &&
		   sqe->len > 4096) {
		sqe->len = 4096 * (1 + random_below(sqe->len / 4096));
	} else {
		return;
	}
	n_shortened++;
}

int io_uring_submit(struct io_uring *ring)
{
	static int (*real)(struct io_uring * ring);

	if (!real)
		*(void **)&real = dlsym(RTLD_NEXT, "io_uring_submit");
	if (make_short) {
		if (random_below(8) == 0)
			return random_below(2) ? -EAGAIN : -EBUSY;
		for (unsigned int i = ring->sq.sqe_head; i != ring->sq.sqe_tail; i++)
			if (random_below(2))
				shorten_sqe(&ring->sq.sqes[i & ring->sq.ring_mask]);
	}
	for (unsigned int i = ring->sq.sqe_head; i != ring->sq.sqe_tail; i++)
		count_sqe(&ring->sq.sqes[i & ring->sq.ring_mask]);
	return real(ring);
}

/* ---- one storage under test ------------------------------------------------------------ */

struct variant {
	const char *back_end, *dir;
};

static const struct variant variants[] = {
	{ "io_uring", "/dev/shm" },
	{ "threads", "/dev/shm" },
	{ "io_uring", "." },
	{ "threads", "." },
};

static struct loop *loop;
static struct storage *storage;
static char why[STORAGE_FILE_WHY_BYTES];
static char path[256];
static int n_batches, n_dones_since_batch, n_resized;

static void on_batch_end(void *owner)
{
	assert_ptr_equal(owner, &n_batches);
	assert_true(n_dones_since_batch > 0);
	n_dones_since_batch = 0;
	n_batches++;
}

static void on_resized(void *owner)
{
	n_resized++;
}

static void make_file(const struct variant *v, u64 n_bytes)
{
	int fd;

	snprintf(path, sizeof(path), "%s/viaduct-storage-%d.img", v->dir, (int)getpid());
	fd = open(path, O_CREAT | O_TRUNC | O_RDWR | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)n_bytes), 0);
	close(fd);
}

static int try_open(struct storage_file_options o)
{
	int err = storage_file_open(loop, &o, &storage, why);

	if (!err) {
		storage->owner = &n_batches;
		storage->batch_end = on_batch_end;
		storage->resized = on_resized;
		assert_string_equal(why, "");
	} else {
		assert_null(storage);
		assert_true(strlen(why) > 20);
		assert_non_null(strchr(why, ':')); /* what, and how to mend it */
	}
	return err;
}

static void open_image(const struct variant *v, struct storage_file_options o)
{
	int err;

	if (!o.path)
		o.path = path;
	o.back_end = v->back_end;
	err = try_open(o);
	if (err)
		fail_msg("open: %s", why);
	assert_string_equal(storage_file_back_end(storage), v->back_end);
}

static int set_up(void **state)
{
	make_short = false;
	n_batches = n_dones_since_batch = n_resized = 0;
	path[0] = '\0';
	storage = NULL;
	loop = loop_create();
	return loop ? 0 : -1;
}

static char small_dir[64]; /* a full file system that is mounted, see mount_small */

/* A test that failed half-way leaves neither mounts nor devices (they go with their last user). */
static int tear_down(void **state)
{
	make_short = false;
	storage_file_close(storage);
	loop_destroy(loop);
	if (path[0])
		unlink(path);
	if (small_dir[0]) {
		umount2(small_dir, MNT_DETACH);
		rmdir(small_dir);
		small_dir[0] = '\0';
	}
	return 0;
}

/* A request, and what came of it. */
struct op {
	struct io io;
	int n_dones, err;
	struct span v[8];
};

static void op_done(struct io *io, int err)
{
	struct op *op = container_of(io, struct op, io);

	op->n_dones++;
	op->err = err;
	n_dones_since_batch++;
}

static struct op *op_init(struct op *op)
{
	op->io.done = op_done;
	op->n_dones = 0;
	op->err = 1;
	return op;
}

static void op_wait(struct op *op)
{
	while (!op->n_dones)
		loop_turn(loop, -1);
	assert_int_equal(op->n_dones, 1);
}

enum { READ, WRITE };

static void op_transfer(struct op *op, int way, u64 offset, void *bytes, size_t n)
{
	op_init(op)->v[0] = (struct span){ bytes, n };
	(way == READ ? storage->ops->read : storage->ops->write)(storage, &op->io, offset, op->v,
								 1);
}

static int transfer(int way, u64 offset, void *bytes, size_t n)
{
	struct op op;

	op_transfer(&op, way, offset, bytes, n);
	op_wait(&op);
	return op.err;
}

static int flush(void)
{
	struct op op;

	storage->ops->flush(storage, &op_init(&op)->io);
	op_wait(&op);
	return op.err;
}

static int discard(u64 offset, u64 n_bytes)
{
	struct op op;

	storage->ops->discard(storage, &op_init(&op)->io, offset, n_bytes);
	op_wait(&op);
	return op.err;
}

static int write_zeroes(u64 offset, u64 n_bytes, bool may_unmap)
{
	struct op op;

	storage->ops->write_zeroes(storage, &op_init(&op)->io, offset, n_bytes, may_unmap);
	op_wait(&op);
	return op.err;
}

static u8 *pattern(size_t n, u8 first)
{
	u8 *bytes = malloc(n);

	assert_non_null(bytes);
	for (size_t i = 0; i < n; i++)
		bytes[i] = (u8)(first + i + i / 512);
	return bytes;
}

/* What another program would find in the file. */
static void assert_file_holds(u64 offset, const void *bytes, size_t n)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	u8 *found = malloc(n);

	assert_int_equal(pread(fd, found, n, (off_t)offset), n);
	assert_memory_equal(found, bytes, n);
	free(found);
	close(fd);
}

/* ---- the way of a request -------------------------------------------------------------- */

static void write_then_read_of_odd_spans_is_exact(void **state)
{
	u8 *out = pattern(64 * KIB, 1), *in = calloc(1, 64 * KIB);
	struct op op;

	make_file(*state, MIB);
	open_image(*state, (struct storage_file_options){ 0 });
	assert_int_equal(storage->n_bytes, MIB);
	assert_int_equal(storage->logical_block_bytes, 512);
	assert_false(storage->read_only);

	op_init(&op);
	op.v[0] = (struct span){ out, 1 };
	op.v[1] = (struct span){ out + 1, 511 };
	op.v[2] = (struct span){ out + 512, 0 };
	op.v[3] = (struct span){ out + 512, 64 * KIB - 512 };
	storage->ops->write(storage, &op.io, 4096, op.v, 4);
	assert_int_equal(op.n_dones, 0); /* batched until the end of the turn */
	op_wait(&op);
	assert_int_equal(op.err, 0);
	assert_file_holds(4096, out, 64 * KIB);

	op_init(&op);
	op.v[0] = (struct span){ in, 4095 };
	op.v[1] = (struct span){ in + 4095, 64 * KIB - 4095 };
	storage->ops->read(storage, &op.io, 4096, op.v, 2);
	op_wait(&op);
	assert_int_equal(op.err, 0);
	assert_memory_equal(in, out, 64 * KIB);
	assert_int_equal(n_batches, 2);
	assert_int_equal(flush(), 0);
	free(out);
	free(in);
}

static void requests_beyond_the_ring_all_end_once(void **state)
{
	enum { N = 1500 };
	struct op *ops = calloc(N, sizeof(*ops));
	u8 *out = pattern(N * 512, 3);

	make_file(*state, N * 512);
	open_image(*state, (struct storage_file_options){ 0 });
	for (int i = 0; i < N; i++)
		op_transfer(&ops[i], WRITE, (u64)i * 512, out + i * 512, 512);
	for (int i = 0; i < N; i++) {
		op_wait(&ops[i]);
		assert_int_equal(ops[i].err, 0);
	}
	assert_in_range(n_batches, 1, N);
	assert_int_equal(n_dones_since_batch, 0);
	assert_file_holds(0, out, N * 512);
	free(ops);
	free(out);
}

static void drain_returns_with_nothing_in_flight(void **state)
{
	enum { N = 300 };
	static struct op ops[N], last;
	u8 *out = pattern(N * 4096, 3);

	make_file(*state, N * 4096);
	open_image(*state, (struct storage_file_options){ .discard = true });
	for (int i = 0; i < N; i++)
		op_transfer(&ops[i], WRITE, (u64)i * 4096, out + i * 4096, 4096);
	storage->ops->flush(storage, &op_init(&last)->io);
	storage->ops->drain(storage);
	for (int i = 0; i < N; i++)
		assert_int_equal(ops[i].n_dones, 1);
	assert_int_equal(last.n_dones, 1);
	assert_int_equal(n_dones_since_batch, 0);
	storage->ops->drain(storage); /* of nothing */
	free(out);
}

/* The first completion drains all others, as a reset does; later ones are not lost. */
static void drain_done(struct io *io, int err)
{
	op_done(io, err);
	storage->ops->drain(storage);
}

static void drain_from_inside_a_completion_ends_the_others(void **state)
{
	enum { N = 40 };
	static struct op writes[N], flushes[N];
	u8 *out = pattern(N * 512, 3);

	make_file(*state, N * 512);
	open_image(*state, (struct storage_file_options){ 0 });
	for (int i = 0; i < N; i++) {
		op_transfer(&writes[i], WRITE, (u64)i * 512, out + i * 512, 512);
		storage->ops->flush(storage, &op_init(&flushes[i])->io);
		writes[i].io.done = flushes[i].io.done = drain_done;
	}
	while (!writes[0].n_dones && !flushes[0].n_dones)
		loop_turn(loop, -1);
	for (int i = 0; i < N; i++) {
		assert_int_equal(writes[i].n_dones, 1);
		assert_int_equal(flushes[i].n_dones, 1);
		assert_int_equal(writes[i].err | flushes[i].err, 0);
	}
	free(out);
}

/* Of overlapping fsyncs one could miss what the other was told: the second covers all the rest. */
static void flushes_at_once_share_two_fsyncs_that_never_overlap(void **state)
{
	enum { N = 20 };
	u8 *out = pattern(MIB, 1);
	struct op ops[N];

	make_file(*state, MIB);
	open_image(*state, (struct storage_file_options){ 0 });
	assert_int_equal(transfer(WRITE, 0, out, MIB), 0);
	n_fsyncs = n_fdatasyncs = 0;
	syncs_overlap = false;
	for (int i = 0; i < N; i++)
		storage->ops->flush(storage, &op_init(&ops[i])->io);
	for (int i = 0; i < N; i++) {
		op_wait(&ops[i]);
		assert_int_equal(ops[i].err, 0);
	}
	assert_int_equal(n_fdatasyncs, 2);
	assert_int_equal(n_fsyncs, 0);
	assert_false(syncs_overlap);
	assert_int_equal(flush(), 0); /* nothing new, and yet a real one */
	assert_int_equal(n_fdatasyncs, 3);
	free(out);
}

/* Each completion starts the next request, many times, from inside. */
struct relay {
	struct op op;
	u64 n_left;
	u8 bytes[512];
};

static void relay_done(struct io *io, int err)
{
	struct relay *r = container_of(container_of(io, struct op, io), struct relay, op);

	assert_int_equal(err, 0);
	n_dones_since_batch++;
	if (r->n_left-- == 0) {
		r->op.n_dones = 1;
		return;
	}
	r->op.v[0] = (struct span){ r->bytes, 512 };
	if (r->n_left % 3)
		storage->ops->read(storage, io, r->n_left * 512, r->op.v, 1);
	else
		storage->ops->flush(storage, io);
}

static void requests_from_completions_go_on_by_themselves(void **state)
{
	struct relay r = { .n_left = 200 };

	make_file(*state, 200 * 512);
	open_image(*state, (struct storage_file_options){ 0 });
	r.op.io.done = relay_done;
	storage->ops->flush(storage, &r.op.io);
	op_wait(&r.op);
}

static struct op hook_op;
static u8 hook_bytes[512];

static void issue_from_hook(struct loop_hook *h)
{
	loop_remove_hook(loop, h);
	op_transfer(&hook_op, READ, 0, hook_bytes, 512);
}

/* The storage's own hook has run already when this one does. */
static void request_from_a_later_hook_does_not_wait_for_ever(void **state)
{
	struct loop_hook h = { .run = issue_from_hook };

	make_file(*state, MIB);
	open_image(*state, (struct storage_file_options){ 0 });
	hook_op.n_dones = 0;
	loop_add_hook(loop, &h);
	loop_turn(loop, 0);
	op_wait(&hook_op); /* sleeps without limit if nobody woke the loop */
	assert_int_equal(hook_op.err, 0);
}

static void idle_storage_takes_no_time(void **state)
{
	struct rusage before, after;
	u8 bytes[512] = { 0 };
	long us;

	make_file(*state, MIB);
	open_image(*state, (struct storage_file_options){ 0 });
	for (int i = 0; i < 50; i++)
		assert_int_equal(transfer(WRITE, 0, bytes, 512), 0);
	getrusage(RUSAGE_SELF, &before);
	loop_turn(loop, 400);
	getrusage(RUSAGE_SELF, &after);
	us = (after.ru_utime.tv_sec - before.ru_utime.tv_sec + after.ru_stime.tv_sec -
	      before.ru_stime.tv_sec) *
		     1000000 +
	     after.ru_utime.tv_usec - before.ru_utime.tv_usec + after.ru_stime.tv_usec -
	     before.ru_stime.tv_usec;
	print_message("0.4 idle seconds took %ld us of processor time\n", us);
	assert_in_range(us, 0, 20000);
}

/* ---- E09: short transfers -------------------------------------------------------------- */

/*
 * The kernel moves at most 2 GiB - 4096 bytes a call. All spans are one buffer, so what it
 * holds in the end tells whether the rest was read from the right offset.
 */
static void read_above_two_gib_goes_on_at_the_right_offset(void **state)
{
	enum { SPAN = 4 * MIB, N = 513 };
	static struct span v[N];
	static u8 buffer[SPAN];
	u8 *tail = pattern(SPAN, 9);
	struct op op;
	int fd;

	make_file(*state, (u64)N * SPAN);
	fd = open(path, O_WRONLY);
	assert_int_equal(pwrite(fd, tail, SPAN, (off_t)(N - 1) * SPAN), SPAN);
	close(fd);
	open_image(*state, (struct storage_file_options){ 0 });
	for (int i = 0; i < N; i++)
		v[i] = (struct span){ buffer, SPAN };
	storage->ops->read(storage, &op_init(&op)->io, 0, v, N);
	op_wait(&op);
	assert_int_equal(op.err, 0);
	assert_memory_equal(buffer, tail, SPAN);
	free(tail);
}

/* A limit on file sizes makes the first part short, then refuses: E08 and E09 in one. */
static void write_beyond_a_size_limit_is_short_then_efbig(void **state)
{
	struct rlimit before, limit;
	u8 *out = pattern(8192, 5);
	u8 zeros[4096] = { 0 };
	int err;

	make_file(*state, MIB);
	open_image(*state, (struct storage_file_options){ 0 });
	getrlimit(RLIMIT_FSIZE, &before);
	limit = before;
	limit.rlim_cur = 65536;
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
	err = transfer(WRITE, 65536 - 4096, out, 8192); /* SIGXFSZ does not end us */
	setrlimit(RLIMIT_FSIZE, &before);
	assert_int_equal(err, -EFBIG);
	assert_file_holds(65536 - 4096, out, 4096);
	assert_file_holds(65536, zeros, 4096);
	assert_int_equal(transfer(WRITE, 65536 - 4096, out, 8192), 0);
	free(out);
}

/*
 * Everything at once against a model: seeded reads, writes, zeroes and flushes on disjoint
 * ranges, many in flight, with transfers shortened, interrupted and submissions refused.
 */
#define MODEL_BYTES (2 * MIB)
#define SLICE (64 * KIB)

static void check_against_model(const struct variant *v, bool direct)
{
	enum { N = MODEL_BYTES / SLICE, ROUNDS = 40 };
	u8 *model = calloc(1, MODEL_BYTES), *memory = calloc(1, MODEL_BYTES + 4096);
	static struct op ops[N];
	static bool reads[N];
	u32 offset[N], bytes[N], shift = 7; /* guest buffers are as unaligned as they like */

	make_file(v, MODEL_BYTES);
	open_image(v, (struct storage_file_options){ .direct = direct, .discard = seed % 2 });
	random_state = seed;
	n_shortened = 0;
	for (int round = 0; round < ROUNDS; round++) {
		u32 unit = storage->logical_block_bytes;

		make_short = true;
		for (u32 i = 0; i < N; i++) {
			struct op *op = op_init(&ops[i]);
			u8 *at = memory + i * SLICE + shift;
			u32 kind = random_below(8), cut;

			offset[i] = i * SLICE + unit * random_below(SLICE / 2 / unit);
			bytes[i] = unit * (1 + random_below(SLICE / 2 / unit));
			cut = 1 +
			      random_below(bytes[i] - 1); /* cut down to nothing reads as the end */
			reads[i] = kind < 3;
			op->v[0] = (struct span){ at, cut };
			op->v[1] = (struct span){ at + cut, bytes[i] - cut };
			if (kind == 0) { /* one span that is aligned */
				op->v[0] = (struct span){ memory + i * SLICE, bytes[i] };
				op->v[1] = (struct span){ memory + i * SLICE + bytes[i], 0 };
			}
			if (kind < 3) {
				storage->ops->read(storage, &op->io, offset[i], op->v, 2);
			} else if (kind < 6) {
				for (u32 j = 0; j < bytes[i]; j++)
					at[j] = (u8)random_below(256);
				memcpy(model + offset[i], at, bytes[i]);
				storage->ops->write(storage, &op->io, offset[i], op->v, 2);
			} else if (kind < 7) {
				memset(model + offset[i], 0, bytes[i]);
				storage->ops->write_zeroes(storage, &op->io, offset[i], bytes[i],
							   random_below(2));
			} else {
				storage->ops->flush(storage, &op->io);
			}
			if (kind == 0)
				reads[i] = false; /* content is checked by the other reads */
		}
		for (u32 i = 0; i < N; i++) {
			op_wait(&ops[i]);
			assert_int_equal(ops[i].err, 0);
			if (reads[i])
				assert_memory_equal(memory + i * SLICE + shift, model + offset[i],
						    bytes[i]);
		}
		make_short = false;
	}
	assert_file_holds(0, model, MODEL_BYTES);
	assert_true(n_shortened > 100);
	free(model);
	free(memory);
}

static void transfers_made_short_agree_with_a_model(void **state)
{
	check_against_model(*state, false);
}

static bool takes_direct(const struct variant *v)
{
	int fd;

	make_file(v, 4096);
	fd = open(path, O_RDONLY | O_DIRECT);
	if (fd < 0) {
		print_message("%s has no direct I/O: %s\n", v->dir, strerror(errno));
		return false;
	}
	close(fd);
	return true;
}

static void direct_transfers_made_short_agree_with_a_model(void **state)
{
	if (!takes_direct(*state))
		skip();
	check_against_model(*state, true);
}

/* ---- E07, E08, E10: the world fails ---------------------------------------------------- */

/* A file system of one megabyte of our own; false with a reason if we may not. */
static bool mount_small(void)
{
	strcpy(small_dir, "/tmp/viaduct-small-XXXXXX");
	if (!mkdtemp(small_dir) || mount("none", small_dir, "tmpfs", 0, "size=1m")) {
		print_message("cannot mount a small file system: %s\n", strerror(errno));
		rmdir(small_dir);
		small_dir[0] = '\0';
		return false;
	}
	return true;
}

static void write_to_a_full_file_system_gives_enospc_and_the_rest_goes_on(void **state)
{
	const struct variant *v = *state;
	struct variant small = { v->back_end, small_dir };
	u8 *out = pattern(4 * MIB, 1), in[4096];

	if (!mount_small()) {
		free(out);
		skip();
	}
	make_file(&small, 16 * MIB);
	open_image(&small, (struct storage_file_options){ .discard = true });
	assert_int_equal(transfer(WRITE, 0, out, 4 * MIB), -ENOSPC);
	assert_int_equal(transfer(READ, 0, in, sizeof(in)), 0);
	assert_memory_equal(in, out, sizeof(in));
	assert_int_equal(transfer(WRITE, 8 * MIB, out, MIB), -ENOSPC);
	assert_int_equal(discard(0, 16 * MIB), 0); /* room again */
	assert_int_equal(transfer(WRITE, 8 * MIB, out, 512 * KIB), 0);
	assert_int_equal(flush(), 0);
	free(out);
}

/* A block device on `backing`, gone with its last user; -1 with a reason if we may not. */
static int loop_device(const char *backing, u32 block_bytes, char *name, size_t n_name)
{
	struct loop_config config = { .fd = (u32)open(backing, O_RDWR | O_CLOEXEC),
				      .block_size = block_bytes,
				      .info.lo_flags = LO_FLAGS_AUTOCLEAR };
	int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC), fd = -1;

	for (int tries = 0; control >= 0 && fd < 0 && tries < 20; tries++) {
		int n = ioctl(control, LOOP_CTL_GET_FREE);

		snprintf(name, n_name, "/dev/loop%d", n);
		fd = n < 0 ? -1 : open(name, O_RDWR | O_CLOEXEC);
		if (fd >= 0 && ioctl(fd, LOOP_CONFIGURE, &config)) {
			close(fd);
			fd = -1; /* another program was faster */
		}
	}
	if (fd < 0)
		print_message("no loop device: %s\n", strerror(errno));
	if (control >= 0)
		close(control);
	close((int)config.fd);
	return fd;
}

/* E07 for real: the device takes writes into the page cache, and cannot keep them. */
static void flush_that_failed_fails_until_opened_again(void **state)
{
	const struct variant *v = *state;
	struct variant small = { v->back_end, small_dir };
	u8 *out = pattern(4 * MIB, 1), zeros[4096] = { 0 };
	char device[64];
	struct op ops[3];
	int fd;

	if (!mount_small()) {
		free(out);
		skip();
	}
	make_file(&small, 16 * MIB);
	fd = loop_device(path, 512, device, sizeof(device));
	if (fd < 0) {
		free(out);
		skip();
	}
	open_image(v, (struct storage_file_options){ .path = device, .discard = true });
	assert_int_equal(storage->n_bytes, 16 * MIB);
	assert_int_equal(flush(), 0);
	assert_int_equal(transfer(WRITE, 0, out, 4 * MIB), 0); /* volatile, and so it says */
	/* Three at once: the kernel tells of the loss once, all three must. */
	for (int i = 0; i < 3; i++)
		storage->ops->flush(storage, &op_init(&ops[i])->io);
	for (int i = 0; i < 3; i++) {
		op_wait(&ops[i]);
		assert_int_equal(ops[i].err, i == 0 ? -EIO : ops[i].err);
		assert_true(ops[i].err < 0);
	}
	/* There is room now, and nothing left to write: still no. */
	assert_int_equal(write_zeroes(0, 16 * MIB, true), 0);
	assert_int_equal(transfer(WRITE, 0, zeros, sizeof(zeros)), 0);
	assert_int_equal(flush(), -EIO);
	assert_int_equal(flush(), -EIO);
	storage_file_close(storage);
	open_image(v, (struct storage_file_options){ .path = device });
	assert_int_equal(flush(), 0);

	close(fd);
	free(out);
}

static void file_cut_off_underneath_gives_eio(void **state)
{
	u8 bytes[8192];

	make_file(*state, MIB);
	open_image(*state, (struct storage_file_options){ 0 });
	assert_int_equal(truncate(path, 4096), 0);
	assert_int_equal(transfer(READ, MIB / 2, bytes, 8192), -EIO);
	assert_int_equal(transfer(READ, 0, bytes, 8192), -EIO); /* half of it is there: no */
	assert_int_equal(transfer(READ, 0, bytes, 4096), 0);
	assert_int_equal(storage_file_refresh_size(storage), 0);
	assert_int_equal(storage->n_bytes, 4096);
	assert_int_equal(n_resized, 1);
}

static void file_grown_underneath_is_told_once_and_usable(void **state)
{
	u8 *out = pattern(4096, 1);

	make_file(*state, MIB);
	open_image(*state, (struct storage_file_options){ 0 });
	assert_int_equal(truncate(path, 2 * MIB + 100), 0);
	assert_int_equal(storage_file_refresh_size(storage), 0);
	assert_int_equal(storage->n_bytes, 2 * MIB); /* whole blocks only */
	assert_int_equal(storage_file_refresh_size(storage), 0);
	assert_int_equal(n_resized, 1);
	assert_int_equal(transfer(WRITE, 2 * MIB - 4096, out, 4096), 0);
	n_fsyncs = n_fdatasyncs = 0;
	assert_int_equal(flush(), 0);
	assert_int_equal(n_fsyncs, 1); /* all of the inode, its size with it */
	assert_int_equal(flush(), 0);
	assert_int_equal(n_fdatasyncs, 1);
	assert_file_holds(2 * MIB - 4096, out, 4096);
	free(out);
}

static void file_removed_underneath_goes_on(void **state)
{
	u8 *out = pattern(4096, 1), in[4096];

	make_file(*state, MIB);
	open_image(*state, (struct storage_file_options){ 0 });
	unlink(path);
	assert_int_equal(transfer(WRITE, 0, out, 4096), 0);
	assert_int_equal(flush(), 0);
	assert_int_equal(transfer(READ, 0, in, 4096), 0);
	assert_memory_equal(in, out, 4096);
	free(out);
}

/* ---- E11: direct ----------------------------------------------------------------------- */

static void direct_with_unaligned_buffers_is_exact(void **state)
{
	enum { N = 40, EACH = 200 * KIB }; /* more than there are bounces, each in pieces */
	u8 *out = pattern((size_t)N * EACH + 4096, 1), *in = calloc(1, (size_t)N * EACH + 4096);
	struct op ops[N];

	if (!takes_direct(*state)) {
		free(out);
		free(in);
		skip();
	}
	make_file(*state, (u64)N * EACH);
	open_image(*state, (struct storage_file_options){ .direct = true });
	for (int i = 0; i < N; i++)
		op_transfer(&ops[i], WRITE, (u64)i * EACH, out + 1 + i * EACH, EACH);
	for (int i = 0; i < N; i++) {
		op_wait(&ops[i]);
		assert_int_equal(ops[i].err, 0);
	}
	assert_file_holds(0, out + 1, (size_t)N * EACH);
	for (int i = 0; i < N; i++)
		op_transfer(&ops[i], READ, (u64)i * EACH, in + 3 + i * EACH, EACH);
	storage->ops->drain(storage);
	for (int i = 0; i < N; i++)
		assert_int_equal(ops[i].err, 0);
	assert_memory_equal(in + 3, out + 1, (size_t)N * EACH);
	assert_int_equal(write_zeroes(EACH, EACH, false), 0);
	assert_int_equal(flush(), 0);
	free(out);
	free(in);
}

static void direct_file_cut_off_gives_an_error(void **state)
{
	u8 *bytes = aligned_alloc(4096, 65536);

	if (!takes_direct(*state)) {
		free(bytes);
		skip();
	}
	make_file(*state, MIB);
	open_image(*state, (struct storage_file_options){ .direct = true });
	assert_int_equal(truncate(path, 4096 + 512), 0);
	assert_true(transfer(READ, 0, bytes, 65536) < 0);
	assert_true(transfer(READ, 0, bytes + 1, 32768) < 0);
	assert_true(transfer(READ, MIB / 2, bytes, 4096) < 0);
	free(bytes);
}

/* A device of 4 KiB sectors, buffered and direct, aligned and not; and its discard. */
static void device_with_large_sectors_works_and_discards(void **state)
{
	const struct variant *v = *state;
	struct storage_file_options o = { .direct = true, .discard = true };
	u8 *out = pattern(128 * KIB, 1), *in = calloc(1, 128 * KIB + 1);
	struct stat before, after;
	char device[64];
	int fd;

	make_file(v, 16 * MIB);
	if (access("/sys/dev/block", F_OK) < 0)
		print_message(
			"skipped: what a device can do is told by /sys, which is not mounted\n");
	fd = access("/sys/dev/block", F_OK) < 0 ? -1
						: loop_device(path, 4096, device, sizeof(device));
	if (fd < 0) {
		free(out);
		free(in);
		skip();
	}
	o.path = device;
	o.back_end = v->back_end;
	o.logical_block_bytes = 512;
	assert_int_equal(try_open(o), -EINVAL);
	assert_non_null(strstr(why, "4096"));
	o.logical_block_bytes = 0;

	for (int direct = 0; direct < 2; direct++) {
		o.direct = direct;
		open_image(v, o);
		assert_int_equal(storage->logical_block_bytes, 4096);
		assert_int_equal(storage->n_bytes, 16 * MIB);
		assert_true(storage->can_discard);
		assert_int_equal(transfer(WRITE, MIB, out, 128 * KIB), 0);
		assert_int_equal(flush(), 0);
		assert_int_equal(transfer(READ, MIB, in + 1, 128 * KIB), 0);
		assert_memory_equal(in + 1, out, 128 * KIB);
		assert_file_holds(MIB, out, 128 * KIB);

		stat(path, &before);
		assert_int_equal(discard(MIB, 64 * KIB), 0);
		assert_int_equal(flush(), 0);
		stat(path, &after);
		assert_true(after.st_blocks < before.st_blocks);
		for (int unmap = 0; unmap < 2; unmap++) {
			assert_int_equal(transfer(WRITE, MIB, out, 128 * KIB), 0);
			assert_int_equal(write_zeroes(MIB + 4096, 64 * KIB, unmap), 0);
			assert_int_equal(transfer(READ, MIB, in + 1, 128 * KIB), 0);
			assert_memory_equal(in + 1, out, 4096);
			for (u32 i = 4096; i < 68 * KIB; i++)
				assert_int_equal(in[1 + i], 0);
			assert_memory_equal(in + 1 + 68 * KIB, out + 68 * KIB, 60 * KIB);
		}
		storage_file_close(storage);
		storage = NULL;
	}

	/* E14 for devices: claimed from the host as well. */
	open_image(v, o);
	{
		int other = open(device, O_RDWR | O_EXCL | O_CLOEXEC);

		assert_int_equal(other, -1);
		assert_int_equal(errno, EBUSY);
	}
	close(fd);
	free(out);
	free(in);
}

/* ---- E13: discard and zeroes ----------------------------------------------------------- */

static void zeroes_read_as_zeroes_unmapped_or_not(void **state)
{
	u8 *out = pattern(MIB, 1), *in = calloc(1, MIB);
	struct stat before, after;

	make_file(*state, MIB);
	open_image(*state, (struct storage_file_options){ .discard = true });
	assert_true(storage->can_write_zeroes);
	for (int unmap = 0; unmap < 2; unmap++) {
		assert_int_equal(transfer(WRITE, 0, out, MIB), 0);
		assert_int_equal(flush(), 0);
		stat(path, &before);
		assert_int_equal(write_zeroes(512, 900 * KIB, unmap), 0);
		assert_int_equal(flush(), 0);
		stat(path, &after);
		assert_int_equal(after.st_size, MIB);
		if (unmap)
			assert_true(after.st_blocks < before.st_blocks);
		else
			assert_true(after.st_blocks >= before.st_blocks);
		assert_int_equal(transfer(READ, 0, in, MIB), 0);
		assert_memory_equal(in, out, 512);
		for (u32 i = 512; i < 512 + 900 * KIB; i++)
			assert_int_equal(in[i], 0);
		assert_memory_equal(in + 512 + 900 * KIB, out + 512 + 900 * KIB, 123 * KIB);
	}
	assert_int_equal(write_zeroes(0, 0, true), 0);

	/* What was allocated stays allocated, unless the image's owner lets room go. */
	storage_file_close(storage);
	open_image(*state, (struct storage_file_options){ .discard = false });
	assert_int_equal(transfer(WRITE, 0, out, MIB), 0);
	assert_int_equal(flush(), 0);
	stat(path, &before);
	assert_int_equal(write_zeroes(0, MIB, true), 0);
	assert_int_equal(flush(), 0);
	stat(path, &after);
	assert_true(after.st_blocks >= before.st_blocks);
	assert_int_equal(transfer(READ, 0, in, MIB), 0);
	for (u32 i = 0; i < MIB; i++)
		assert_int_equal(in[i], 0);
	free(out);
	free(in);
}

static void discard_gives_room_back_where_offered(void **state)
{
	u8 *out = pattern(MIB, 1);
	struct stat before, after;

	make_file(*state, MIB);
	open_image(*state, (struct storage_file_options){ 0 });
	assert_false(storage->can_discard);
	assert_int_equal(discard(0, 4096), -EOPNOTSUPP);
	storage_file_close(storage);

	open_image(*state, (struct storage_file_options){ .discard = true });
	assert_true(storage->can_discard);
	assert_int_equal(transfer(WRITE, 0, out, MIB), 0);
	assert_int_equal(flush(), 0);
	stat(path, &before);
	assert_int_equal(discard(0, MIB / 2), 0);
	stat(path, &after);
	assert_true(after.st_blocks < before.st_blocks);
	assert_int_equal(after.st_size, MIB);
	assert_file_holds(MIB / 2, out + MIB / 2, MIB / 2);
	free(out);
}

/* ---- E14 and other refusals ------------------------------------------------------------ */

static int second_open(const struct variant *v, bool read_only, bool no_lock)
{
	struct storage_file_options o = {
		.path = path, .read_only = read_only, .no_lock = no_lock, .back_end = v->back_end
	};
	struct storage *second;
	int err = storage_file_open(loop, &o, &second, why);

	storage_file_close(second);
	return err;
}

static void second_writer_is_refused_and_readers_share(void **state)
{
	int fds_before = dup(0), fds_after;

	close(fds_before);
	make_file(*state, MIB);
	open_image(*state, (struct storage_file_options){ 0 });
	assert_int_equal(second_open(*state, false, false), -EBUSY);
	assert_non_null(strstr(why, path));
	assert_non_null(strstr(why, "in use"));
	assert_int_equal(second_open(*state, true, false), -EBUSY);
	assert_int_equal(second_open(*state, false, true), 0);
	assert_int_equal(second_open(*state, false, false), -EBUSY); /* that took no lock away */
	storage_file_close(storage);

	open_image(*state, (struct storage_file_options){ .read_only = true });
	assert_int_equal(second_open(*state, true, false), 0);
	assert_int_equal(second_open(*state, false, false), -EBUSY);
	storage_file_close(storage);
	storage = NULL;
	for (int i = 0; i < 100; i++)
		assert_int_equal(second_open(*state, false, false), 0);
	fds_after = dup(0);
	assert_int_equal(fds_after, fds_before);
	close(fds_after);
}

/*
 * As after kill -9: the kernel keeps the lock for as long as it has the dead one's writes in its
 * hands. The child stands for that, and dies a moment after we have begun to wait.
 */
static void lock_of_one_that_is_dying_is_waited_for(void **state)
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	int held[2], fd;
	pid_t child;
	char byte;

	make_file(*state, MIB);
	assert_int_equal(pipe(held), 0);
	child = fork();
	assert_true(child >= 0);
	if (child == 0) {
		fd = open(path, O_RDWR);
		if (fd < 0 || fcntl(fd, F_OFD_SETLK, &lock) || write(held[1], "", 1) != 1)
			_exit(1);
		poll(NULL, 0, 100);
		_exit(0);
	}
	close(held[1]);
	assert_int_equal(read(held[0], &byte, 1), 1);
	assert_int_equal(second_open(*state, false, false), 0);
	close(held[0]);
	assert_int_equal(waitpid(child, NULL, 0), child);
}

static void read_only_image_takes_no_change(void **state)
{
	u8 bytes[512] = { 1 };

	make_file(*state, MIB);
	assert_int_equal(chmod(path, 0400), 0);
	open_image(*state, (struct storage_file_options){ .read_only = true, .discard = true });
	assert_true(storage->read_only);
	assert_false(storage->can_discard);
	assert_false(storage->can_write_zeroes);
	assert_int_equal(transfer(WRITE, 0, bytes, 512), -EROFS);
	assert_int_equal(write_zeroes(0, 512, true), -EROFS);
	assert_int_equal(flush(), 0);
	assert_int_equal(transfer(READ, 0, bytes, 512), 0);
	assert_int_equal(bytes[0], 0);
}

/* A file that this user may not write; root may, so root becomes somebody else for it. */
static void image_without_permission_says_how_to_mend_it(void **state)
{
	struct storage_file_options o = { .path = path };
	int err;

	make_file(*state, MIB);
	assert_int_equal(chmod(path, 0444), 0);
	if (geteuid() == 0 && seteuid(65534)) {
		print_message("cannot become another user: %s\n", strerror(errno));
		skip();
	}
	err = access(path, F_OK) ? 0 : try_open(o);
	if (getuid() == 0)
		assert_int_equal(seteuid(0), 0);
	if (!err) {
		print_message("the build directory is closed to other users\n");
		skip();
	}
	assert_int_equal(err, -EACCES);
	assert_non_null(strstr(why, "read-only"));
}

static void what_is_no_image_is_refused_in_one_sentence(void **state)
{
	struct storage_file_options o = { .path = "/nonexistent/disk.img" };

	assert_int_equal(try_open(o), -ENOENT);
	assert_non_null(strstr(why, "/nonexistent/disk.img"));
	o.path = "/";
	assert_int_equal(try_open(o), -EINVAL);
	o.path = "/dev/null";
	assert_int_equal(try_open(o), -EINVAL);

	snprintf(path, sizeof(path), "/tmp/viaduct-fifo-%d", (int)getpid());
	assert_int_equal(mkfifo(path, 0600), 0);
	o.path = path;
	assert_int_equal(try_open(o), -EINVAL); /* and does not wait for a writer */
	unlink(path);

	make_file(*state, 0);
	assert_int_equal(try_open(o), -EINVAL);
	assert_non_null(strstr(why, "empty"));
	make_file(*state, 1000);
	assert_int_equal(try_open(o), -EINVAL);
	assert_non_null(strstr(why, "1000 bytes"));
	assert_non_null(strstr(why, "truncate -s 1024"));
	make_file(*state, 512);
	o.logical_block_bytes = 4096;
	assert_int_equal(try_open(o), -EINVAL);
	o.logical_block_bytes = 513;
	assert_int_equal(try_open(o), -EINVAL);
	o.logical_block_bytes = 8192;
	assert_int_equal(try_open(o), -EINVAL);
	o.logical_block_bytes = 1024;
	o.physical_block_bytes = 512;
	assert_int_equal(try_open(o), -EINVAL);
	o.logical_block_bytes = o.physical_block_bytes = 0;
	o.back_end = "aio";
	assert_int_equal(try_open(o), -EINVAL);
	assert_non_null(strstr(why, "threads"));
	assert_true(strchr(why, '\n') == NULL);
}

/* ---- where io_uring is refused --------------------------------------------------------- */

/* From here on this process gets `err` from system call `nr`, as containers do it. */
static bool refuse(u32 nr, int err)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, nr, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (u32)err),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = { ARRAY_SIZE(code), code };

	return !prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) &&
	       !prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
}

/* In a child: 0 all well, 77 not possible here, else the line that failed. */
#define CHILD_CHECK(x)                               \
	do {                                         \
		if (!(x)) {                          \
			fprintf(stderr, "%s\n", #x); \
			_exit(1);                    \
		}                                    \
	} while (0)

static void use_storage_without(u32 nr, int err)
{
	struct storage_file_options o = { .path = path };
	u8 out[512] = "through threads", in[512];

	if (!refuse(nr, err))
		_exit(77);
	o.back_end = "io_uring";
	CHILD_CHECK(storage_file_open(loop, &o, &storage, why) == -err);
	CHILD_CHECK(strstr(why, "io_uring is refused"));
	o.back_end = NULL;
	CHILD_CHECK(storage_file_open(loop, &o, &storage, why) == 0);
	CHILD_CHECK(!strcmp(storage_file_back_end(storage), "threads"));
	CHILD_CHECK(transfer(WRITE, 512, out, 512) == 0);
	CHILD_CHECK(flush() == 0);
	CHILD_CHECK(transfer(READ, 512, in, 512) == 0);
	CHILD_CHECK(!memcmp(in, out, 512));
	storage_file_close(storage);
	_exit(0);
}

static void refused_io_uring_falls_back_to_threads(void **state)
{
	const struct {
		u32 nr;
		int err;
	} ways[] = { { SYS_io_uring_setup, EPERM },
		     { SYS_io_uring_setup, ENOSYS },
		     { SYS_io_uring_setup, ENOMEM },
		     { SYS_io_uring_enter, EPERM } };

	make_file(*state, MIB);
	for (size_t i = 0; i < ARRAY_SIZE(ways); i++) {
		int status;
		pid_t pid = fork();

		if (pid == 0) {
			loop = loop_create(); /* the parent's is not ours */
			use_storage_without(ways[i].nr, ways[i].err);
		}
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_true(WIFEXITED(status));
		if (WEXITSTATUS(status) == 77) {
			print_message("no seccomp filters here\n");
			skip();
		}
		assert_int_equal(WEXITSTATUS(status), 0);
	}
}

/* ---- the table ------------------------------------------------------------------------- */

static const struct {
	const char *name;
	CMUnitTestFunction f;
	bool memory_only; /* would fill a disk's cache */
} cases[] = {
#define CASE(f)              \
	{                    \
#f, f, false \
	}
	CASE(write_then_read_of_odd_spans_is_exact),
	CASE(requests_beyond_the_ring_all_end_once),
	CASE(drain_returns_with_nothing_in_flight),
	CASE(drain_from_inside_a_completion_ends_the_others),
	CASE(flushes_at_once_share_two_fsyncs_that_never_overlap),
	CASE(requests_from_completions_go_on_by_themselves),
	CASE(request_from_a_later_hook_does_not_wait_for_ever),
	CASE(idle_storage_takes_no_time),
	{ "read_above_two_gib_goes_on_at_the_right_offset",
	  read_above_two_gib_goes_on_at_the_right_offset, true },
	CASE(write_beyond_a_size_limit_is_short_then_efbig),
	CASE(transfers_made_short_agree_with_a_model),
	CASE(direct_transfers_made_short_agree_with_a_model),
	CASE(write_to_a_full_file_system_gives_enospc_and_the_rest_goes_on),
	CASE(flush_that_failed_fails_until_opened_again),
	CASE(file_cut_off_underneath_gives_eio),
	CASE(file_grown_underneath_is_told_once_and_usable),
	CASE(file_removed_underneath_goes_on),
	CASE(direct_with_unaligned_buffers_is_exact),
	CASE(direct_file_cut_off_gives_an_error),
	CASE(device_with_large_sectors_works_and_discards),
	CASE(zeroes_read_as_zeroes_unmapped_or_not),
	CASE(discard_gives_room_back_where_offered),
	CASE(second_writer_is_refused_and_readers_share),
	CASE(lock_of_one_that_is_dying_is_waited_for),
	CASE(read_only_image_takes_no_change),
	CASE(image_without_permission_says_how_to_mend_it),
	CASE(what_is_no_image_is_refused_in_one_sentence),
	CASE(refused_io_uring_falls_back_to_threads),
};

static bool io_uring_works(void)
{
	struct io_uring ring;
	int err = io_uring_queue_init(8, &ring, 0);

	if (err)
		print_message("io_uring is refused here (%s): threads only\n", strerror(-err));
	else
		io_uring_queue_exit(&ring);
	return !err;
}

int main(int argc, char **argv)
{
	static struct CMUnitTest tests[ARRAY_SIZE(cases) * ARRAY_SIZE(variants)];
	static char names[ARRAY_SIZE(tests)][160];
	bool ring = io_uring_works();
	size_t n = 0;

	seed = argc > 1 ? strtoull(argv[1], NULL, 0) : (u64)getpid();
	print_message("seed %llu\n", (unsigned long long)seed);
	for (size_t v = 0; v < ARRAY_SIZE(variants); v++) {
		if (!ring && !strcmp(variants[v].back_end, "io_uring"))
			continue;
		for (size_t c = 0; c < ARRAY_SIZE(cases); c++) {
			if (cases[c].memory_only && variants[v].dir[0] == '.')
				continue;
			snprintf(names[n], sizeof(names[n]), "%s (%s, %s)", cases[c].name,
				 variants[v].back_end, variants[v].dir);
			tests[n] = (struct CMUnitTest){ names[n], cases[c].f, set_up, tear_down,
							(void *)&variants[v] };
			n++;
		}
	}
	return _cmocka_run_group_tests("storage", tests, n, NULL, NULL);
}
