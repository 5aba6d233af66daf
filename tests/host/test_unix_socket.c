/* SPDX-License-Identifier: BSD-3-Clause */
/* A path to listen on: fresh, stale, busy, and not ours to take. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "host/unix_socket.h"

static char directory[32], path[64], why[256];

static int setup(void **state)
{
	strcpy(directory, "/tmp/viaduct-XXXXXX");
	assert_non_null(mkdtemp(directory));
	snprintf(path, sizeof(path), "%s/socket", directory);
	return 0;
}

static int teardown(void **state)
{
	unlink(path);
	assert_int_equal(rmdir(directory), 0);
	return 0;
}

static int connect_to_path(void)
{
	struct sockaddr_un to = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	strcpy(to.sun_path, path);
	assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof(to)), 0);
	return fd;
}

static void fresh_and_stale_paths_are_taken(void **state)
{
	for (int i = 0; i < 3; i++) {
		int fd = unix_listen(path, why, sizeof(why));

		assert_true(fd >= 0);
		close(connect_to_path());
		close(fd); /* the file stays: stale */
	}
}

static void busy_path_is_refused_and_left_alone(void **state)
{
	int fd = unix_listen(path, why, sizeof(why));
	char want[128];

	assert_true(fd >= 0);
	snprintf(want, sizeof(want),
		 "%s: another process listens there; end it or name another path", path);
	/* Also when its queue is full of those that asked. */
	for (int i = 0; i < 20; i++) {
		assert_int_equal(unix_listen(path, why, sizeof(why)), -EADDRINUSE);
		assert_string_equal(why, want);
	}
	while (close(accept(fd, NULL, NULL)) == 0)
		;
	close(connect_to_path());
	close(fd);
}

/* Somebody lives there who does not speak our kind of socket. */
static void datagram_socket_of_another_is_left_alone(void **state)
{
	struct sockaddr_un at = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct stat st;

	strcpy(at.sun_path, path);
	assert_int_equal(bind(fd, (struct sockaddr *)&at, sizeof(at)), 0);
	assert_int_equal(unix_listen(path, why, sizeof(why)), -EPROTOTYPE);
	assert_non_null(strstr(why, "cannot be asked who listens"));
	assert_int_equal(lstat(path, &st), 0);
	close(fd);
}

static void files_directories_and_impossible_paths_are_refused(void **state)
{
	char long_path[200];
	FILE *f = fopen(path, "w");

	assert_non_null(f);
	fclose(f);
	assert_int_equal(unix_listen(path, why, sizeof(why)), -EEXIST);
	assert_int_equal(unix_listen(directory, why, sizeof(why)), -EEXIST);
	memset(long_path, 'x', sizeof(long_path) - 1);
	long_path[sizeof(long_path) - 1] = 0;
	assert_int_equal(unix_listen(long_path, why, sizeof(why)), -ENAMETOOLONG);
	assert_int_equal(unix_listen("/nowhere/at/all", why, sizeof(why)), -ENOENT);
	assert_string_equal(why, "/nowhere/at/all: cannot listen there: No such file or directory");
	assert_int_equal(unlink(path), 0);
	/* A dangling link is not followed and not replaced. */
	assert_int_equal(symlink("/nowhere/at/all", path), 0);
	assert_int_equal(unix_listen(path, why, sizeof(why)), -EEXIST);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(fresh_and_stale_paths_are_taken),
		T(busy_path_is_refused_and_left_alone),
		T(datagram_socket_of_another_is_left_alone),
		T(files_directories_and_impossible_paths_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
