/* SPDX-License-Identifier: BSD-3-Clause */
/* Memory really goes back to the system: measured on the file, or in the page tables. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "host/pages.h"

#define MIB ((size_t)1 << 20)
#define BYTES (8 * MIB)

static size_t page_bytes;

static u64 held_bytes(int fd)
{
	struct stat st;

	assert_int_equal(fstat(fd, &st), 0);
	return (u64)st.st_blocks * 512;
}

/* A shared mapping of a memory file, every byte 0xa5. */
static u8 *map_filled(int *fd)
{
	u8 *p;

	*fd = memfd_create("test-pages", MFD_CLOEXEC);
	assert_true(*fd >= 0);
	assert_int_equal(ftruncate(*fd, (off_t)BYTES), 0);
	p = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, *fd, 0);
	assert_ptr_not_equal(p, MAP_FAILED);
	memset(p, 0xa5, BYTES);
	assert_int_equal(held_bytes(*fd), BYTES);
	return p;
}

static void unmap(u8 *p, int fd)
{
	munmap(p, BYTES);
	close(fd);
}

static bool all_are(const u8 *p, size_t n, u8 value)
{
	for (size_t i = 0; i < n; i++)
		if (p[i] != value)
			return false;
	return true;
}

static size_t resident_bytes(u8 *p, size_t n)
{
	unsigned char map[BYTES / 4096];
	size_t resident = 0;

	assert_int_equal(mincore(p, n, map), 0);
	for (size_t i = 0; i < n / page_bytes; i++)
		resident += (map[i] & 1) * page_bytes;
	return resident;
}

static struct pages *make(size_t bytes)
{
	struct pages *pages = host_pages_create(bytes);

	assert_non_null(pages);
	return pages;
}

static int release(struct pages *pages, void *base, size_t n_bytes)
{
	return pages->ops->release(pages, (struct span){ base, n_bytes });
}

static void shared_memory_released_leaves_the_file(void **state)
{
	struct pages *pages = make(0);
	int fd;
	u8 *p = map_filled(&fd);

	assert_int_equal(release(pages, p + 2 * MIB, 4 * MIB), 0);
	assert_int_equal(held_bytes(fd), BYTES - 4 * MIB);
	assert_true(all_are(p, 2 * MIB, 0xa5));
	assert_true(all_are(p + 6 * MIB, 2 * MIB, 0xa5));
	assert_int_equal(host_pages_stats(pages).released_bytes, 4 * MIB);
	assert_int_equal(host_pages_stats(pages).kept_bytes, 0);

	/* What was in the hole reads as zeroes; reading alone takes shared memory again. */
	assert_true(all_are(p + 2 * MIB, 4 * MIB, 0));
	host_pages_destroy(pages);
	unmap(p, fd);
}

/* The hypervisor maps the same file: it must see the memory go, too. */
static void shared_memory_released_is_gone_for_other_mappings(void **state)
{
	struct pages *pages = make(0);
	int fd;
	u8 *p = map_filled(&fd);
	u8 *other = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	assert_ptr_not_equal(other, MAP_FAILED);
	assert_int_equal(other[MIB], 0xa5);
	assert_int_equal(release(pages, p + MIB, MIB), 0);
	assert_int_equal(other[MIB], 0);
	assert_int_equal(other[MIB - 1], 0xa5);
	assert_int_equal(other[2 * MIB], 0xa5);

	/* And it comes back, for all, when it is written to. */
	other[MIB] = 0x5a;
	assert_int_equal(p[MIB], 0x5a);
	munmap(other, BYTES);
	host_pages_destroy(pages);
	unmap(p, fd);
}

static void shared_memory_released_twice_is_harmless(void **state)
{
	struct pages *pages = make(0);
	int fd;
	u8 *p = map_filled(&fd);

	assert_int_equal(release(pages, p, MIB), 0);
	assert_int_equal(release(pages, p, MIB), 0);
	assert_int_equal(held_bytes(fd), BYTES - MIB);
	host_pages_destroy(pages);
	unmap(p, fd);
}

static void shared_anonymous_memory_is_released(void **state)
{
	struct pages *pages = make(0);
	u8 *p = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	assert_ptr_not_equal(p, MAP_FAILED);
	memset(p, 0xa5, BYTES);
	assert_int_equal(release(pages, p, 4 * MIB), 0);
	assert_int_equal(resident_bytes(p, BYTES), BYTES - 4 * MIB);
	assert_int_equal(p[4 * MIB - 1], 0);
	assert_int_equal(p[4 * MIB], 0xa5);
	host_pages_destroy(pages);
	munmap(p, BYTES);
}

static void private_anonymous_memory_is_released(void **state)
{
	struct pages *pages = make(0);
	u8 *p = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	assert_ptr_not_equal(p, MAP_FAILED);
	/* Huge pages would be found resident as a whole by the first look. */
	madvise(p, BYTES, MADV_NOHUGEPAGE);
	memset(p, 0xa5, BYTES);
	assert_int_equal(resident_bytes(p, BYTES), BYTES);
	assert_int_equal(release(pages, p + MIB, 4 * MIB), 0);
	assert_int_equal(resident_bytes(p, BYTES), BYTES - 4 * MIB);
	assert_int_equal(p[MIB - 1], 0xa5);
	assert_int_equal(p[MIB], 0);
	assert_int_equal(p[5 * MIB], 0xa5);
	host_pages_destroy(pages);
	munmap(p, BYTES);
}

/* Else a guest would read the file's old bytes, where it was promised zeroes or its own. */
static void private_file_memory_is_refused_and_kept(void **state)
{
	struct pages *pages = make(0);
	int fd;
	u8 *shared = map_filled(&fd);
	u8 *p = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);

	assert_ptr_not_equal(p, MAP_FAILED);
	memset(p, 0x77, BYTES);
	assert_int_equal(release(pages, p, MIB), -EACCES);
	assert_true(all_are(p, BYTES, 0x77));
	assert_int_equal(held_bytes(fd), BYTES);
	assert_int_equal(host_pages_stats(pages).n_failed, 1);
	assert_int_equal(host_pages_stats(pages).released_bytes, 0);
	munmap(p, BYTES);
	host_pages_destroy(pages);
	unmap(shared, fd);
}

/* A front end may hand us a descriptor that only reads. */
static void read_only_file_is_refused_and_kept(void **state)
{
	struct pages *pages = make(0);
	char path[64];
	int fd, fd_ro;
	u8 *p = map_filled(&fd), *ro;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	fd_ro = open(path, O_RDONLY | O_CLOEXEC);
	assert_true(fd_ro >= 0);
	ro = mmap(NULL, BYTES, PROT_READ, MAP_SHARED, fd_ro, 0);
	assert_ptr_not_equal(ro, MAP_FAILED);
	assert_int_equal(release(pages, ro, MIB), -EACCES);
	assert_true(all_are(ro, BYTES, 0xa5));
	assert_int_equal(held_bytes(fd), BYTES);
	munmap(ro, BYTES);
	close(fd_ro);
	host_pages_destroy(pages);
	unmap(p, fd);
}

static void unmapped_memory_is_an_error(void **state)
{
	struct pages *pages = make(0);
	int fd;
	u8 *p = map_filled(&fd);

	assert_int_equal(munmap(p + MIB, MIB), 0);
	assert_int_equal(release(pages, p + MIB, MIB), -ENOMEM);
	host_pages_destroy(pages);
	unmap(p, fd);
}

/* Not one byte outside of the span may go, whatever its ends are. */
static void edges_of_host_pages_are_kept(void **state)
{
	static const struct {
		size_t from, n_bytes, whole;
	} rows[] = {
		{ 65536, 65536, 65536 }, /* just one */
		{ 65536, 3 * 65536, 3 * 65536 },
		{ 65536 + 4096, 65536, 0 }, /* as long as one, in two */
		{ 65536 + 4096, 2 * 65536, 65536 },
		{ 65536 + 4096, 2 * 65536 - 4096, 65536 }, /* ends well, begins badly */
		{ 65536, 2 * 65536 - 4096, 65536 }, /* begins well, ends badly */
		{ 65536, 65536 - 4096, 0 },
		{ 4096, 4096, 0 }, /* inside of one */
		{ 65536 + 1, 65536 * 2 - 1, 65536 },
		{ 3, 1, 0 },
		{ 65536, 0, 0 },
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct pages *pages = make(65536);
		size_t from = rows[i].from, to = from + rows[i].n_bytes;
		struct host_pages_stats stats;
		int fd;
		u8 *map = map_filled(&fd);
		/* The mapping itself need not begin on a multiple of 64 KiB. */
		u8 *p = map + (-(uintptr_t)map & 65535);

		assert_int_equal(release(pages, p + from, rows[i].n_bytes), 0);
		assert_int_equal(held_bytes(fd), BYTES - rows[i].whole);
		assert_true(all_are(p, from, 0xa5));
		assert_true(all_are(p + to, MIB, 0xa5));
		stats = host_pages_stats(pages);
		assert_int_equal(stats.released_bytes, rows[i].whole);
		assert_int_equal(stats.kept_bytes, rows[i].n_bytes - rows[i].whole);
		host_pages_destroy(pages);
		unmap(map, fd);
	}
}

static void expect_takes_no_memory(void **state)
{
	struct pages *pages = make(0);
	int fd;
	u8 *p = map_filled(&fd);

	assert_int_equal(release(pages, p, BYTES), 0);
	pages->ops->expect(pages, (struct span){ p, BYTES });
	assert_int_equal(held_bytes(fd), 0);
	host_pages_destroy(pages);
	unmap(p, fd);
}

static void page_size_that_cannot_be_is_refused(void **state)
{
	static const size_t wrong[] = { 1, 512, 2048, 4097, 12288, 65536 + 4096 };

	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
		errno = 0;
		assert_null(host_pages_create(wrong[i]));
		assert_int_equal(errno, EINVAL);
	}
}

/* Only where huge pages were set aside; the arithmetic is tested above without them. */
static void huge_pages_are_released_whole(void **state)
{
	struct pages *pages = make(2 * MIB);
	/* 21 << 26: pages of 1 << 21 bytes; glibc has no name for it */
	int fd = memfd_create("test-huge", MFD_CLOEXEC | MFD_HUGETLB | 21u << 26);
	u8 *p = MAP_FAILED;

	if (fd >= 0 && ftruncate(fd, 4 * (off_t)MIB) == 0)
		p = mmap(NULL, 4 * MIB, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED) {
		print_message("skipped: this machine has no 2 MiB huge pages set aside\n");
		host_pages_destroy(pages);
		if (fd >= 0)
			close(fd);
		skip();
	}
	memset(p, 0xa5, 4 * MIB);
	assert_int_equal(release(pages, p + MIB, 3 * MIB), 0);
	assert_int_equal(held_bytes(fd), 2 * MIB);
	assert_true(all_are(p, 2 * MIB, 0xa5));
	host_pages_destroy(pages);
	munmap(p, 4 * MIB);
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(shared_memory_released_leaves_the_file),
		cmocka_unit_test(shared_memory_released_is_gone_for_other_mappings),
		cmocka_unit_test(shared_memory_released_twice_is_harmless),
		cmocka_unit_test(shared_anonymous_memory_is_released),
		cmocka_unit_test(private_anonymous_memory_is_released),
		cmocka_unit_test(private_file_memory_is_refused_and_kept),
		cmocka_unit_test(read_only_file_is_refused_and_kept),
		cmocka_unit_test(unmapped_memory_is_an_error),
		cmocka_unit_test(edges_of_host_pages_are_kept),
		cmocka_unit_test(expect_takes_no_memory),
		cmocka_unit_test(page_size_that_cannot_be_is_refused),
		cmocka_unit_test(huge_pages_are_released_whole),
	};

	page_bytes = (size_t)sysconf(_SC_PAGESIZE);
	return cmocka_run_group_tests_name("host/pages", tests, NULL, NULL);
}
