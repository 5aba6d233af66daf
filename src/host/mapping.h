/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Guest memory that another process owns, mapped here, and what happens when it lies.
 *
 * The owner of a memfd may shrink it after we mapped it; touching what is gone raises SIGBUS,
 * which would end us and every other guest that we serve. The guard catches that signal: the
 * whole mapping becomes private zeroes, so that the access which faulted goes on harmlessly,
 * and the mapping is told broken on the loop's thread, where its owner closes the connection
 * that it came from, and no other (case V06). A SIGBUS from anywhere else ends us as ever.
 *
 * A system call that meets such memory answers -EFAULT instead; that is its caller's affair.
 */
#ifndef VIADUCT_HOST_MAPPING_H
#define VIADUCT_HOST_MAPPING_H

#include "host/loop.h"

/* Watches over mappings for one loop. SIGBUS is this module's while there is a guard. */
struct mapping_guard {
	struct loop *loop;
	struct loop_watch woken; /* an eventfd, written by the signal handler */
	struct list mappings;
};

/* 0 or -errno. All mappings go before their guard. */
int mapping_guard_init(struct mapping_guard *guard, struct loop *loop);
void mapping_guard_fini(struct mapping_guard *guard);

struct mapping {
	u8 *base; /* byte `offset` of the file */
	u64 n_bytes;
	bool broken; /* set by the signal handler; see mapping_is_broken */

	/* The owner's, set before mapping_open: called once, on the loop's thread. */
	void (*broke)(struct mapping *m);

	/* The module's. */
	struct mapping_guard *guard;
	struct list node;
	u8 *pages; /* what mmap gave: whole pages, huge ones where the file has them */
	u64 pages_bytes;
	u32 slot;
	bool told;
};

/*
 * Maps [offset, offset + n_bytes) of `fd`, shared, to read and write. `fd` stays the caller's,
 * and may be closed afterwards. -EINVAL: not a regular file (memfd, tmpfs, hugetlbfs), or it
 * is shorter than that, or nothing to map; -EACCES: not open for writing; -ENOSPC: too many
 * mappings; or what mmap says. The pages stay out of core dumps: they are the guest's.
 */
int mapping_open(struct mapping *m, struct mapping_guard *guard, int fd, u64 offset, u64 n_bytes);

/* Nobody may touch the memory any more. Harmless on one that is zeroed or closed. */
void mapping_close(struct mapping *m);

static inline bool mapping_is_broken(const struct mapping *m)
{
	return __atomic_load_n(&m->broken, __ATOMIC_ACQUIRE);
}

#endif
