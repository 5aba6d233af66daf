/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A storage under a test's thumb: it delays, reorders and fails operations at will, remembers
 * what would survive a power cut, and writes down everything that happens.
 *
 * A mock and not a file, because the subject is order: which flush began after which write was
 * done, and what the guest was told when. It also holds the device to its side of storage.h:
 * ranges inside the storage and in whole blocks, one operation an io.
 */
#ifndef VIADUCT_TESTS_SUPPORT_MOCK_STORAGE_H
#define VIADUCT_TESTS_SUPPORT_MOCK_STORAGE_H

#include "device/storage.h"

enum mock_kind { MOCK_READ, MOCK_WRITE, MOCK_FLUSH, MOCK_DISCARD, MOCK_WRITE_ZEROES, MOCK_N_KINDS };

struct mock_op {
	enum mock_kind kind;
	struct io *io;
	u64 offset, n_bytes;
	struct span *v;
	u32 n;
	bool may_unmap;
	u8 *snapshot; /* FLUSH: what was complete when it began */
};

struct mock_storage {
	struct storage storage;
	u8 *bytes; /* all that was completed */
	u8 *stable; /* the part that a power cut would leave */

	bool hold; /* operations wait for mock_complete; otherwise done inside the call */
	int fail[MOCK_N_KINDS]; /* 0, or the -errno that operations of a kind end with */
	u64 partial_bytes; /* of a failing read: done well before it fails */
	bool flush_failed; /* once and for all (E07) */

	struct mock_op pending[256]; /* in order of their beginning */
	u32 n_pending;
	u64 n_begun[MOCK_N_KINDS];

	/*
	 * A letter an event: r w f d z begins a read, write, flush, discard, write-zeroes;
	 * R W F D Z ends it well; ! ends it with an error. Tests add their own.
	 */
	char log[512];
};

void mock_storage_init(struct mock_storage *m, u64 n_bytes);
void mock_storage_fini(struct mock_storage *m);

/* Ends the operation pending[at], with the errno of its kind if there is one, as a batch. */
void mock_complete(struct mock_storage *m, u32 at);
/* Ends all that are pending now and all that follow from them, the last one first. */
void mock_complete_all(struct mock_storage *m);

void mock_log(struct mock_storage *m, char event);
void mock_clear_log(struct mock_storage *m);

#endif
