/* SPDX-License-Identifier: BSD-3-Clause */
/* First fit over a short list: rings and pools of requests are taken at probe, and rarely. */
#include "vmm/shared_memory.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define GRAIN 64 /* no two owners in one cache line */
#define RELAX_NS 20000

struct extent {
	struct list node;
	u64 at, n_bytes;
};

static struct shared_memory *memory_of(struct platform *p)
{
	return container_of(p, struct shared_memory, platform);
}

static void *platform_alloc(struct platform *p, size_t n_bytes)
{
	return calloc(1, n_bytes);
}

static void platform_free(struct platform *p, void *mem, size_t n_bytes)
{
	free(mem);
}

static void *platform_dma_alloc(struct platform *p, size_t n_bytes, size_t align, u64 *addr)
{
	struct shared_memory *m = memory_of(p);
	struct extent *fresh = calloc(1, sizeof(*fresh));
	struct list *node, *tmp, *before = &m->extents;
	u64 at = 0;

	if (!fresh || n_bytes > m->n_bytes) {
		free(fresh);
		return NULL;
	}
	align = align < GRAIN ? GRAIN : align;
	fresh->n_bytes = (n_bytes + GRAIN - 1) & ~(u64)(GRAIN - 1);
	list_for_each (node, tmp, &m->extents) {
		const struct extent *e = container_of(node, struct extent, node);

		if (e->at >= at && e->at - at >= fresh->n_bytes) {
			before = node;
			break;
		}
		at = (e->at + e->n_bytes + align - 1) & ~(u64)(align - 1);
	}
	if (at > m->n_bytes || fresh->n_bytes > m->n_bytes - at) {
		free(fresh);
		return NULL;
	}
	fresh->at = at;
	list_add_tail(before, &fresh->node); /* that is: just before it */
	memset(m->base + at, 0, fresh->n_bytes);
	*addr = SHARED_MEMORY_GPA + at;
	return m->base + at;
}

static void platform_dma_free(struct platform *p, void *mem, size_t n_bytes)
{
	struct shared_memory *m = memory_of(p);
	struct list *node, *tmp;

	list_for_each (node, tmp, &m->extents) {
		struct extent *e = container_of(node, struct extent, node);

		if (m->base + e->at != mem)
			continue;
		list_del(node);
		free(e);
		return;
	}
	ASSERT(false); /* never handed out, or given back twice */
}

static u64 platform_now_ns(struct platform *p)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (u64)t.tv_sec * 1000000000 + (u64)t.tv_nsec;
}

static void platform_relax(struct platform *p)
{
	nanosleep(&(struct timespec){ .tv_nsec = RELAX_NS }, NULL);
}

static const struct platform_ops platform_ops = {
	.alloc = platform_alloc,
	.free = platform_free,
	.dma_alloc = platform_dma_alloc,
	.dma_free = platform_dma_free,
	.now_ns = platform_now_ns,
	.relax = platform_relax,
};

static u64 dma_map(struct dma *dma, void *ptr, size_t n_bytes, enum dma_dir dir)
{
	struct shared_memory *m = container_of(dma, struct shared_memory, dma);
	u64 at = (uintptr_t)ptr - (uintptr_t)m->base;

	if (at >= m->n_bytes || n_bytes > m->n_bytes - at)
		return DMA_MAP_FAILED;
	return SHARED_MEMORY_GPA + at;
}

static void dma_unmap(struct dma *dma, u64 addr, size_t n_bytes, enum dma_dir dir)
{
}

static const struct dma_ops dma_ops = { dma_map, dma_unmap };

int shared_memory_init(struct shared_memory *m, u64 n_bytes)
{
	int err;

	*m = (struct shared_memory){
		.platform.ops = &platform_ops,
		.dma.ops = &dma_ops,
		.n_bytes = n_bytes,
	};
	m->platform.dma = &m->dma;
	list_init(&m->extents);
	m->fd = memfd_create("viaduct-driver", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (m->fd < 0)
		return -errno;
	/* Sealed: a back end that shrinks it would have us end by SIGBUS. */
	if (ftruncate(m->fd, (off_t)n_bytes) < 0 ||
	    fcntl(m->fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
		goto close;
	m->base = mmap(NULL, n_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, m->fd, 0);
	if (m->base != MAP_FAILED)
		return 0;
close:
	err = -errno;
	close(m->fd);
	return err;
}

void shared_memory_fini(struct shared_memory *m)
{
	ASSERT(list_empty(&m->extents)); /* somebody still thinks that he owns a piece */
	munmap(m->base, m->n_bytes);
	close(m->fd);
}
