/* SPDX-License-Identifier: BSD-3-Clause */
#include "tests/support/mock_storage.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct mock_storage *mock_of(struct storage *s)
{
	return container_of(s, struct mock_storage, storage);
}

void mock_log(struct mock_storage *m, char event)
{
	size_t n = strlen(m->log);

	/* Long runs are not read by anyone: the log just stops. */
	if (n + 1 < sizeof(m->log))
		m->log[n] = event;
}

void mock_clear_log(struct mock_storage *m)
{
	memset(m->log, 0, sizeof(m->log));
}

/* Moves bytes and narrows the spans, as a back end does that goes on after a short transfer. */
static void transfer(struct mock_storage *m, struct mock_op *op, u64 n_bytes)
{
	u64 offset = op->offset;

	for (u32 i = 0; i < op->n; i++) {
		struct span *v = &op->v[i];
		u64 now = min_u64(v->n_bytes, n_bytes);

		if (op->kind == MOCK_READ)
			memcpy(v->base, m->bytes + offset, now);
		else
			memcpy(m->bytes + offset, v->base, now);
		offset += now;
		n_bytes -= now;
		v->base = (u8 *)v->base + now;
		v->n_bytes -= now;
	}
}

static void end(struct mock_storage *m, struct mock_op *op)
{
	int err = m->fail[op->kind];

	if (op->kind == MOCK_FLUSH) {
		if (err)
			m->flush_failed = true;
		else if (m->flush_failed)
			err = -EIO;
		else
			memcpy(m->stable, op->snapshot, m->storage.n_bytes);
		free(op->snapshot);
	} else if (err) {
		if (op->kind == MOCK_READ)
			transfer(m, op, m->partial_bytes);
	} else if (op->kind == MOCK_READ || op->kind == MOCK_WRITE) {
		transfer(m, op, op->n_bytes);
	} else {
		memset(m->bytes + op->offset, op->kind == MOCK_DISCARD ? 0xdd : 0, op->n_bytes);
	}
	mock_log(m, err ? '!' : "RWFDZ"[op->kind]);
	op->io->done(op->io, err);
}

static void begin(struct mock_storage *m, struct mock_op op)
{
	const struct storage *s = &m->storage;

	assert_int_equal(op.offset % s->logical_block_bytes, 0);
	assert_int_equal(op.n_bytes % s->logical_block_bytes, 0);
	assert_true(op.offset <= s->n_bytes && op.n_bytes <= s->n_bytes - op.offset);
	assert_true(op.kind == MOCK_FLUSH || op.n_bytes > 0);
	assert_true(op.n <= 1024);
	for (u32 i = 0; i < m->n_pending; i++)
		assert_ptr_not_equal(m->pending[i].io, op.io);

	m->n_begun[op.kind]++;
	mock_log(m, "rwfdz"[op.kind]);
	if (op.kind == MOCK_FLUSH) {
		op.snapshot = malloc(s->n_bytes);
		assert_non_null(op.snapshot);
		memcpy(op.snapshot, m->bytes, s->n_bytes);
	}
	if (m->hold) {
		assert_true(m->n_pending < ARRAY_SIZE(m->pending));
		m->pending[m->n_pending++] = op;
	} else {
		end(m, &op);
	}
}

static void complete(struct mock_storage *m, u32 at)
{
	struct mock_op op;

	assert_true(at < m->n_pending);
	op = m->pending[at];
	m->n_pending--;
	memmove(&m->pending[at], &m->pending[at + 1], (m->n_pending - at) * sizeof(op));
	end(m, &op);
}

void mock_complete(struct mock_storage *m, u32 at)
{
	complete(m, at);
	m->storage.batch_end(m->storage.owner);
}

void mock_complete_all(struct mock_storage *m)
{
	while (m->n_pending > 0)
		complete(m, m->n_pending - 1);
	m->storage.batch_end(m->storage.owner);
}

static u64 total(const struct span *v, u32 n)
{
	u64 n_bytes = 0;

	for (u32 i = 0; i < n; i++)
		n_bytes += v[i].n_bytes;
	return n_bytes;
}

static void mock_read(struct storage *s, struct io *io, u64 offset, struct span *v, u32 n)
{
	begin(mock_of(s), (struct mock_op){ MOCK_READ, io, offset, total(v, n), v, n });
}

static void mock_write(struct storage *s, struct io *io, u64 offset, struct span *v, u32 n)
{
	begin(mock_of(s), (struct mock_op){ MOCK_WRITE, io, offset, total(v, n), v, n });
}

static void mock_flush(struct storage *s, struct io *io)
{
	begin(mock_of(s), (struct mock_op){ MOCK_FLUSH, io });
}

static void mock_discard(struct storage *s, struct io *io, u64 offset, u64 n_bytes)
{
	begin(mock_of(s), (struct mock_op){ MOCK_DISCARD, io, offset, n_bytes });
}

static void mock_write_zeroes(struct storage *s, struct io *io, u64 offset, u64 n_bytes,
			      bool may_unmap)
{
	begin(mock_of(s),
	      (struct mock_op){ MOCK_WRITE_ZEROES, io, offset, n_bytes, .may_unmap = may_unmap });
}

static void mock_drain(struct storage *s)
{
	if (mock_of(s)->n_pending > 0)
		mock_complete_all(mock_of(s));
}

static const struct storage_ops mock_ops = {
	.read = mock_read,
	.write = mock_write,
	.flush = mock_flush,
	.discard = mock_discard,
	.write_zeroes = mock_write_zeroes,
	.drain = mock_drain,
};

void mock_storage_init(struct mock_storage *m, u64 n_bytes)
{
	*m = (struct mock_storage){
		.storage = {
			.ops = &mock_ops,
			.name = "mock",
			.n_bytes = n_bytes,
			.logical_block_bytes = 512,
			.physical_block_bytes = 512,
			.can_discard = true,
			.can_write_zeroes = true,
		},
		.bytes = calloc(1, n_bytes),
		.stable = calloc(1, n_bytes),
	};
	assert_non_null(m->bytes);
	assert_non_null(m->stable);
}

void mock_storage_fini(struct mock_storage *m)
{
	for (u32 i = 0; i < m->n_pending; i++)
		free(m->pending[i].snapshot);
	free(m->bytes);
	free(m->stable);
}
