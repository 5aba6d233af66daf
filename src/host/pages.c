/* SPDX-License-Identifier: BSD-3-Clause */
/* Guest memory back to the system, by madvise. */
#include "host/pages.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

struct host_pages {
	struct pages pages;
	size_t page_bytes;
	struct host_pages_stats stats;
};

static struct host_pages *host_pages_of(const struct pages *pages)
{
	return container_of((struct pages *)pages, struct host_pages, pages);
}

/*
 * REMOVE frees what is behind a shared mapping: page tables, page cache and storage. On memory
 * with no file behind it it says EINVAL, and then, only then, DONTNEED frees. The other way
 * round would be wrong: on a shared mapping DONTNEED says yes, and frees nothing. A private
 * mapping of a file, or a mapping of one that is open for reading only, says EACCES and stays
 * as it is. Nothing is remembered from call to call: regions may be of different kinds.
 */
static int give_back(void *at, size_t n_bytes)
{
	if (madvise(at, n_bytes, MADV_REMOVE) == 0)
		return 0;
	if (errno != EINVAL)
		return -errno;
	return madvise(at, n_bytes, MADV_DONTNEED) == 0 ? 0 : -errno;
}

/* Cuts the edges off, so that whole pages of the host's are left; maybe none. */
static int host_release(struct pages *pages, struct span bytes)
{
	struct host_pages *p = host_pages_of(pages);
	uintptr_t mask = p->page_bytes - 1;
	uintptr_t base = (uintptr_t)bytes.base;
	size_t head = min_u64(-base & mask, bytes.n_bytes);
	size_t whole = (bytes.n_bytes - head) & ~mask;
	int err;

	p->stats.kept_bytes += bytes.n_bytes - whole;
	if (whole == 0)
		return 0;
	err = give_back((u8 *)bytes.base + head, whole);
	if (err)
		p->stats.n_failed++;
	else
		p->stats.released_bytes += whole;
	return err;
}

/*
 * Nothing to do: a released page comes back by itself when it is touched. Fetching it now would
 * spend memory that the guest may not use for long.
 */
static void host_expect(struct pages *pages, struct span bytes)
{
}

static const struct pages_ops host_pages_ops = {
	.release = host_release,
	.expect = host_expect,
};

struct pages *host_pages_create(size_t page_bytes)
{
	size_t system_bytes = (size_t)sysconf(_SC_PAGESIZE);
	struct host_pages *p;

	if (page_bytes == 0)
		page_bytes = system_bytes;
	if (!is_power_of_two(page_bytes) || page_bytes < system_bytes) {
		errno = EINVAL;
		return NULL;
	}
	p = calloc(1, sizeof(*p));
	if (!p)
		return NULL;
	p->pages.ops = &host_pages_ops;
	p->page_bytes = page_bytes;
	return &p->pages;
}

void host_pages_destroy(struct pages *pages)
{
	free(host_pages_of(pages));
}

struct host_pages_stats host_pages_stats(const struct pages *pages)
{
	return host_pages_of(pages)->stats;
}
