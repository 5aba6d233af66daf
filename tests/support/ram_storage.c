/* SPDX-License-Identifier: BSD-3-Clause */
#include "tests/support/ram_storage.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static struct ram_storage *ram_of(struct storage *s)
{
	return container_of(s, struct ram_storage, storage);
}

/* A storage that shrank has requests beyond its new end to fail, as a truncated file has. */
static bool holds(const struct storage *s, u64 offset, u64 n_bytes)
{
	return offset <= s->n_bytes && n_bytes <= s->n_bytes - offset;
}

static void move(struct storage *s, struct io *io, u64 offset, struct span *v, u32 n, bool in)
{
	int err = 0;

	for (u32 i = 0; i < n && !err; i++) {
		u8 *at = ram_of(s)->bytes + offset;

		if (!holds(s, offset, v[i].n_bytes))
			err = -EIO;
		else if (in)
			memcpy(v[i].base, at, v[i].n_bytes);
		else
			memcpy(at, v[i].base, v[i].n_bytes);
		offset += v[i].n_bytes;
	}
	io->done(io, err);
}

static void ram_read(struct storage *s, struct io *io, u64 offset, struct span *v, u32 n)
{
	move(s, io, offset, v, n, true);
}

static void ram_write(struct storage *s, struct io *io, u64 offset, struct span *v, u32 n)
{
	move(s, io, offset, v, n, false);
}

static void ram_flush(struct storage *s, struct io *io)
{
	io->done(io, 0);
}

static void fill(struct storage *s, struct io *io, u64 offset, u64 n_bytes, u8 byte)
{
	if (!holds(s, offset, n_bytes)) {
		io->done(io, -EIO);
		return;
	}
	memset(ram_of(s)->bytes + offset, byte, n_bytes);
	io->done(io, 0);
}

/* What is discarded reads as anything; 0xdd shows who relies on zeroes. */
static void ram_discard(struct storage *s, struct io *io, u64 offset, u64 n_bytes)
{
	fill(s, io, offset, n_bytes, 0xdd);
}

static void ram_write_zeroes(struct storage *s, struct io *io, u64 offset, u64 n_bytes,
			     bool may_unmap)
{
	fill(s, io, offset, n_bytes, 0);
}

static void ram_drain(struct storage *s)
{
}

static const struct storage_ops ram_ops = {
	.read = ram_read,
	.write = ram_write,
	.flush = ram_flush,
	.discard = ram_discard,
	.write_zeroes = ram_write_zeroes,
	.drain = ram_drain,
};

struct ram_storage *ram_storage_create(u64 n_bytes)
{
	struct ram_storage *ram = calloc(1, sizeof(*ram));

	if (!ram)
		return NULL;
	ram->bytes = calloc(1, n_bytes ? n_bytes : 1);
	if (!ram->bytes) {
		free(ram);
		return NULL;
	}
	ram->storage = (struct storage){
		.ops = &ram_ops,
		.name = "ram",
		.n_bytes = n_bytes,
		.logical_block_bytes = 512,
		.physical_block_bytes = 512,
		.can_discard = true,
		.can_write_zeroes = true,
	};
	return ram;
}

void ram_storage_destroy(struct ram_storage *ram)
{
	if (!ram)
		return;
	free(ram->bytes);
	free(ram);
}

bool ram_storage_resize(struct ram_storage *ram, u64 n_bytes)
{
	u64 old = ram->storage.n_bytes;
	u8 *bytes = realloc(ram->bytes, n_bytes ? n_bytes : 1);

	if (!bytes)
		return false;
	if (n_bytes > old)
		memset(bytes + old, 0, n_bytes - old);
	ram->bytes = bytes;
	ram->storage.n_bytes = n_bytes;
	if (ram->storage.resized)
		ram->storage.resized(ram->storage.owner);
	return true;
}
