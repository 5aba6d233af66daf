/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A storage in memory, for tests that need a disk and do not care how it works. Every operation
 * is done at once, inside the call. Nothing is durable, and flush says it is.
 */
#ifndef VIADUCT_TESTS_SUPPORT_RAM_STORAGE_H
#define VIADUCT_TESTS_SUPPORT_RAM_STORAGE_H

#include "device/storage.h"

struct ram_storage {
	struct storage storage;
	u8 *bytes; /* storage.n_bytes of them; look and write as you like */
};

/* Zeroed, blocks of 512 bytes, writable, discards and writes zeroes. NULL: no memory. */
struct ram_storage *ram_storage_create(u64 n_bytes);
void ram_storage_destroy(struct ram_storage *ram);

/* As if the file had been truncated or grown (with zeroes); tells the device. False: no memory. */
bool ram_storage_resize(struct ram_storage *ram, u64 n_bytes);

#endif
