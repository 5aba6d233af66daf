/* SPDX-License-Identifier: BSD-3-Clause */
/* `viaduct ctl` against servers that are kind, unkind and gone; and sizes as people write them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "cli/cli.h"

/* A control socket that takes one connection, reads one line, gives one answer, hangs up. */
struct server {
	char path[64];
	int listener;
	const char *answer;
	char asked[256];
	pthread_t thread;
};

static void *serve(void *arg)
{
	struct server *s = arg;
	int fd = accept(s->listener, NULL, NULL);
	size_t n = 0;

	while (n < sizeof(s->asked) - 1 && read(fd, s->asked + n, 1) == 1 && s->asked[n++] != '\n')
		;
	(void)!write(fd, s->answer, strlen(s->answer));
	close(fd);
	return NULL;
}

static void start(struct server *s, const char *answer)
{
	struct sockaddr_un at = { .sun_family = AF_UNIX };

	memset(s, 0, sizeof(*s));
	s->answer = answer;
	snprintf(s->path, sizeof(s->path), "/tmp/viaduct-test-ctl-%d", (int)getpid());
	unlink(s->path);
	strcpy(at.sun_path, s->path);
	s->listener = socket(AF_UNIX, SOCK_STREAM, 0);
	assert_int_equal(bind(s->listener, (struct sockaddr *)&at, sizeof(at)), 0);
	assert_int_equal(listen(s->listener, 1), 0);
	assert_int_equal(pthread_create(&s->thread, NULL, serve, s), 0);
}

static void finish(struct server *s)
{
	pthread_join(s->thread, NULL);
	close(s->listener);
	unlink(s->path);
}

/* Calls ctl with both of its outputs in `out`; gives its exit status. */
static int ctl(char *out, size_t n_out, const char *path, const char *a, const char *b)
{
	char *argv[] = { (char *)"ctl", (char *)path, (char *)a, (char *)b, NULL };
	FILE *file = tmpfile();
	int saved[2] = { dup(STDOUT_FILENO), dup(STDERR_FILENO) };
	int status;
	size_t n;

	fflush(NULL);
	dup2(fileno(file), STDOUT_FILENO);
	dup2(fileno(file), STDERR_FILENO);
	status = cli_ctl(b ? 4 : a ? 3 : 2, argv);
	fflush(NULL);
	dup2(saved[0], STDOUT_FILENO);
	dup2(saved[1], STDERR_FILENO);
	close(saved[0]);
	close(saved[1]);
	rewind(file);
	n = fread(out, 1, n_out - 1, file);
	out[n] = '\0';
	fclose(file);
	return status;
}

static void answer_ok_is_printed_without_verdict(void **state)
{
	struct server s;
	char out[512];

	start(&s, "target 128 MiB\nactual 96 MiB\nok\n");
	assert_int_equal(ctl(out, sizeof(out), s.path, "balloon", "128M"), EXIT_OK);
	finish(&s);
	assert_string_equal(s.asked, "balloon 128M\n");
	assert_string_equal(out, "target 128 MiB\nactual 96 MiB\n");
}

static void answer_error_is_failed_with_reason(void **state)
{
	struct server s;
	char out[512];

	start(&s, "error: there is no balloon; start with --balloon\n");
	assert_int_equal(ctl(out, sizeof(out), s.path, "balloon", NULL), EXIT_FAILED);
	finish(&s);
	assert_string_equal(out, "viaduct ctl: there is no balloon; start with --balloon\n");
}

static void answer_cut_short_is_failed(void **state)
{
	struct server s;
	char out[512];

	start(&s, "target 128 MiB\nok"); /* no newline: not the verdict */
	assert_int_equal(ctl(out, sizeof(out), s.path, "balloon", NULL), EXIT_FAILED);
	finish(&s);
	assert_non_null(strstr(out, "hung up before it answered"));
}

static void nobody_listens_is_usage(void **state)
{
	char out[512];

	assert_int_equal(ctl(out, sizeof(out), "/tmp/viaduct-no-such", "help", NULL), EXIT_USAGE);
	assert_non_null(strstr(out, "nobody listens on /tmp/viaduct-no-such"));
}

static void word_with_newline_is_usage(void **state)
{
	char out[512];

	assert_int_equal(ctl(out, sizeof(out), "/tmp/x", "help\nquit", NULL), EXIT_USAGE);
	assert_non_null(strstr(out, "a command is one line"));
}

static void path_too_long_is_usage(void **state)
{
	char path[200], out[512];

	memset(path, 'x', sizeof(path) - 1);
	path[sizeof(path) - 1] = '\0';
	assert_int_equal(ctl(out, sizeof(out), path, "help", NULL), EXIT_USAGE);
	assert_non_null(strstr(out, "is too long for a socket"));
}

static void command_missing_is_usage(void **state)
{
	char out[512];

	assert_int_equal(ctl(out, sizeof(out), "/tmp/x", NULL, NULL), EXIT_USAGE);
	assert_non_null(strstr(out, "need PATH and COMMAND"));
}

static void size_as_people_write_it_is_read(void **state)
{
	static const struct {
		const char *text;
		u64 bytes;
	} good[] = {
		{ "0", 0 },
		{ "4096", 4096 },
		{ "1K", 1024 },
		{ "512M", (u64)512 << 20 },
		{ "2G", (u64)2 << 30 },
		{ "16777215T", (u64)16777215 << 40 },
		{ "18446744073709551615", UINT64_MAX },
	};
	u64 bytes;

	for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
		assert_true(cli_size(good[i].text, &bytes));
		assert_int_equal(bytes, good[i].bytes);
	}
}

static void size_that_is_none_is_refused(void **state)
{
	static const char *const bad[] = {
		"",
		"M",
		"-1",
		" 1",
		"1 M",
		"1MB",
		"1m",
		"0x10",
		"1.5G",
		"16777216T",
		"18446744073709551616",
	};
	u64 bytes;

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		if (cli_size(bad[i], &bytes))
			fail_msg("'%s' was read as %llu", bad[i], (unsigned long long)bytes);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(answer_ok_is_printed_without_verdict),
		cmocka_unit_test(answer_error_is_failed_with_reason),
		cmocka_unit_test(answer_cut_short_is_failed),
		cmocka_unit_test(nobody_listens_is_usage),
		cmocka_unit_test(word_with_newline_is_usage),
		cmocka_unit_test(path_too_long_is_usage),
		cmocka_unit_test(command_missing_is_usage),
		cmocka_unit_test(size_as_people_write_it_is_read),
		cmocka_unit_test(size_that_is_none_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
