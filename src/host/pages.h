/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Giving guest memory back to Linux: what device/pages.h asks for.
 *
 * Works on memory mapped into this process, whatever is behind it. Shared memory (memfd, a file
 * on tmpfs, hugetlbfs, or a disk that can punch holes) is freed for all who map it. Of private
 * memory the anonymous kind is freed; a private copy of a file is left alone, as it would read
 * as the file afterwards, not as zeroes.
 */
#ifndef VIADUCT_HOST_PAGES_H
#define VIADUCT_HOST_PAGES_H

#include "device/pages.h"

struct host_pages_stats {
	u64 released_bytes; /* that the system took */
	u64 kept_bytes; /* edges: parts of a page of the host's that the rest was not given of */
	u64 n_failed;
};

/*
 * `page_bytes`: the host's page size in guest memory, a power of two; 0: the system's. Say it
 * for huge pages: only whole ones can be given back. NULL with errno set.
 */
struct pages *host_pages_create(size_t page_bytes);
void host_pages_destroy(struct pages *pages);

struct host_pages_stats host_pages_stats(const struct pages *pages);

#endif
