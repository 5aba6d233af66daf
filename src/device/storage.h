/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What a block device asks of its host: an array of bytes that survives.
 *
 * Asynchronous: an operation ends with io->done(io, err), during the call or later, on the
 * event loop's thread, exactly once. Freestanding; the back ends live in host/.
 *
 * Durability is told by the words of hostile-case group E: a write is *volatile* until a flush
 * that was started after its completion has completed. flush must reach stable storage, not a
 * cache. Once a flush failed, every later one fails too until the storage is opened again: data
 * that was lost is not reported safe by trying twice (E07).
 */
#ifndef VIADUCT_DEVICE_STORAGE_H
#define VIADUCT_DEVICE_STORAGE_H

#include "base/types.h"

struct io {
	void (*done)(struct io *io, int err); /* err: 0 or -errno */
	u64 host[8]; /* the back end's, while in flight */
};

struct storage;

struct storage_ops {
	/*
	 * Whole range or an error; short transfers are continued by the back end (E09). `v` stays
	 * valid until done; the back end may narrow its entries to what is left to do, but points
	 * them nowhere else: what a failed read leaves in them, the device clears (G37). Offsets and
	 * lengths are multiples of logical_block_bytes and lie within n_bytes: the device has
	 * checked. At most 1024 spans, as many as a readv takes.
	 */
	void (*read)(struct storage *s, struct io *io, u64 offset, struct span *v, u32 n);
	void (*write)(struct storage *s, struct io *io, u64 offset, struct span *v, u32 n);
	void (*flush)(struct storage *s, struct io *io);
	/* A hint that the range is not needed; what it reads as afterwards is undefined. */
	void (*discard)(struct storage *s, struct io *io, u64 offset, u64 n_bytes);
	/* Reads as zeroes afterwards; may deallocate if `may_unmap`. */
	void (*write_zeroes)(struct storage *s, struct io *io, u64 offset, u64 n_bytes,
			     bool may_unmap);
	/* Returns when nothing is in flight: every done has been called. */
	void (*drain)(struct storage *s);
};

struct storage {
	const struct storage_ops *ops;
	const char *name; /* for people: the file's path */
	u64 n_bytes; /* may change while open: see resized */
	u32 logical_block_bytes; /* power of two, 512..4096 */
	u32 physical_block_bytes; /* power of two, >= logical */
	u32 min_io_bytes, opt_io_bytes; /* 0: no hint */
	u32 discard_align_bytes; /* 0: no preference */
	bool read_only;
	bool can_discard, can_write_zeroes; /* else the device does not offer it */

	/* The device's ears, set by it; called on the loop's thread. */
	void *owner;
	void (*batch_end)(void *owner); /* after one or more asynchronous dones; never NULL then */
	void (*resized)(void *owner); /* n_bytes changed */
};

#endif
