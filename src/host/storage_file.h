/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Storage on a raw file or a block device, through io_uring or, where that is refused (many
 * containers do), through a few threads. The image's type is what the caller says, raw; it is
 * never guessed from bytes that a guest has written (E12), and never mapped: a file cut off
 * underneath gives errors, not signals (E10).
 */
#ifndef VIADUCT_HOST_STORAGE_FILE_H
#define VIADUCT_HOST_STORAGE_FILE_H

#include "device/storage.h"
#include "host/loop.h"

struct storage_file_options {
	const char *path;
	bool read_only;
	bool direct; /* past the host's page cache; guest buffers of any alignment will do */
	/*
	 * Room may be given back: discard is offered if the file can do it, and zeroes that may be
	 * unmapped become holes. Without, an image that was allocated in full stays so.
	 */
	bool discard;
	bool no_lock; /* somebody else sees to it that there is one writer only */
	const char *back_end; /* "io_uring", "threads"; NULL: the best that works here */
	u32 logical_block_bytes, physical_block_bytes; /* 0: what suits the file */
};

#define STORAGE_FILE_WHY_BYTES 512

/*
 * 0, or -errno and one sentence in `why`: what, to which file, and how to mend it. Unless
 * `no_lock`, the file is locked until closed: for one writer, or for any number of readers
 * (E14). Belongs to this process (a ring does not survive fork) and to `loop`, which goes later.
 * SIGXFSZ is ignored from here on: a guest's write must not end us.
 */
int storage_file_open(struct loop *loop, const struct storage_file_options *options,
		      struct storage **storage, char why[STORAGE_FILE_WHY_BYTES]);

/* Drains first. Not from within `done` or `batch_end`. What was not flushed is not safe. */
void storage_file_close(struct storage *s);

/* Somebody changed the file's size: n_bytes follows, and `resized` is called. 0 or -errno. */
int storage_file_refresh_size(struct storage *s);

/* "io_uring" or "threads". */
const char *storage_file_back_end(const struct storage *s);

#endif
