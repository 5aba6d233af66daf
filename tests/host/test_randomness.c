/* SPDX-License-Identifier: BSD-3-Clause */
/* Random bytes: all of them, or an error. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "host/randomness.h"

static int fill(struct randomness *r, void *bytes, size_t n)
{
	return r->ops->fill(r, bytes, n);
}

/*
 * Larger than the 256 bytes that getrandom gives in one piece in any case. That two megabytes
 * drawn from the kernel are alike, or that one has a run of 64 zeroes in it, does not happen.
 */
static void kernel_fills_all_and_differently(void **state)
{
	static u8 a[1 << 20], b[1 << 20], zeroes[64];
	struct randomness *r = host_randomness_create(NULL);

	assert_non_null(r);
	assert_int_equal(fill(r, a, sizeof(a)), 0);
	assert_int_equal(fill(r, b, sizeof(b)), 0);
	assert_memory_not_equal(a, b, sizeof(a));
	for (size_t at = 0; at + sizeof(zeroes) <= sizeof(a); at += sizeof(zeroes))
		assert_memory_not_equal(a + at, zeroes, sizeof(zeroes));
	host_randomness_destroy(r);
}

static void nothing_asked_is_given(void **state)
{
	struct randomness *r = host_randomness_create(NULL);

	assert_int_equal(fill(r, NULL, 0), 0);
	host_randomness_destroy(r);
}

static void file_is_read_in_order_and_its_end_is_an_error(void **state)
{
	char path[] = "/tmp/test-randomness-XXXXXX";
	int fd = mkstemp(path);
	struct randomness *r;
	u8 got[6];

	assert_true(fd >= 0);
	assert_int_equal(write(fd, "0123456789", 10), 10);
	close(fd);
	r = host_randomness_create(path);
	assert_non_null(r);
	assert_int_equal(fill(r, got, 6), 0);
	assert_memory_equal(got, "012345", 6);
	assert_int_equal(fill(r, got, 6), -EIO);
	host_randomness_destroy(r);
	unlink(path);
}

/* A pipe with a slow other end must not stop the loop that asks. */
static void pipe_with_nothing_in_it_is_not_waited_for(void **state)
{
	char dir[] = "/tmp/test-randomness-XXXXXX", path[64];
	struct randomness *r;
	FILE *writer;
	u8 got[4];

	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/pipe", dir);
	assert_int_equal(mkfifo(path, 0600), 0);
	r = host_randomness_create(path);
	assert_non_null(r);
	writer = fopen(path, "w");
	assert_non_null(writer);
	assert_int_equal(fill(r, got, sizeof(got)), -EAGAIN);
	fputs("abcd", writer);
	fflush(writer);
	assert_int_equal(fill(r, got, sizeof(got)), 0);
	assert_memory_equal(got, "abcd", 4);
	fclose(writer);
	assert_int_equal(fill(r, got, sizeof(got)), -EIO);
	host_randomness_destroy(r);
	unlink(path);
	rmdir(dir);
}

static void missing_file_says_so(void **state)
{
	errno = 0;
	assert_null(host_randomness_create("/nonexistent/randomness"));
	assert_int_equal(errno, ENOENT);
}

static void directory_is_an_error_to_read(void **state)
{
	struct randomness *r = host_randomness_create("/");
	u8 got[4];

	assert_non_null(r);
	assert_int_equal(fill(r, got, sizeof(got)), -EISDIR);
	host_randomness_destroy(r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(kernel_fills_all_and_differently),
		cmocka_unit_test(nothing_asked_is_given),
		cmocka_unit_test(file_is_read_in_order_and_its_end_is_an_error),
		cmocka_unit_test(pipe_with_nothing_in_it_is_not_waited_for),
		cmocka_unit_test(missing_file_says_so),
		cmocka_unit_test(directory_is_an_error_to_read),
	};

	return cmocka_run_group_tests_name("host/randomness", tests, NULL, NULL);
}
