/* SPDX-License-Identifier: BSD-3-Clause */
/* The log on stderr: whole lines, filtered, and nothing that a guest could forge. */
#include "host/log.h"

#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static int pipe_fds[2], true_stderr;

static int set_up(void **state)
{
	true_stderr = dup(STDERR_FILENO);
	if (pipe(pipe_fds) || dup2(pipe_fds[1], STDERR_FILENO) < 0)
		return -1;
	return fcntl(pipe_fds[0], F_SETFL, O_NONBLOCK);
}

static int tear_down(void **state)
{
	dup2(true_stderr, STDERR_FILENO);
	close(true_stderr);
	close(pipe_fds[0]);
	close(pipe_fds[1]);
	log_set_hook(NULL);
	return 0;
}

static const char *said(void)
{
	static char text[65536 + 1];
	ssize_t n = read(pipe_fds[0], text, sizeof(text) - 1);

	text[n > 0 ? n : 0] = '\0';
	return text;
}

static void line_carries_its_object_and_level_filters(void **state)
{
	host_log_start(LOG_WARN);
	log_line(LOG_INFO, "blk0", "not shown");
	log_line(LOG_WARN, "blk0", "queue %d broken", 3);
	log_line(LOG_ERROR, NULL, "plain");
	assert_string_equal(said(), "viaduct: blk0: queue 3 broken\nviaduct: plain\n");
}

static void control_characters_are_not_passed_on(void **state)
{
	host_log_start(LOG_DEBUG);
	log_line(LOG_DEBUG, "a\nb", "%s", "x\nviaduct: forged\x1b[2J\x7f");
	assert_string_equal(said(), "viaduct: a?b: x?viaduct: forged?[2J?\n");
}

static void overlong_text_is_cut_and_still_one_line(void **state)
{
	char text[5000];
	const char *line;

	memset(text, 'x', sizeof(text));
	text[sizeof(text) - 1] = '\0';
	host_log_start(LOG_DEBUG);
	log_line(LOG_ERROR, "n", "%s", text);
	line = said();
	assert_int_equal(strlen(line), 511);
	assert_int_equal(line[510], '\n');
	log_line(LOG_ERROR, text, "gone");
	line = said();
	assert_int_equal(strlen(line), 511);
	assert_int_equal(line[510], '\n');
}

static void *chatter(void *arg)
{
	for (int i = 0; i < 100; i++)
		log_line(LOG_ERROR, arg, "%s", (const char *)arg);
	return NULL;
}

static void lines_of_two_threads_do_not_mix(void **state)
{
	static char a[] = "aaaaaaaaaaaaaaaa", b[] = "bbbbbbbbbbbbbbbb";
	pthread_t one, two;
	const char *text;
	int n = 0;

	host_log_start(LOG_DEBUG);
	assert_int_equal(pthread_create(&one, NULL, chatter, a), 0);
	assert_int_equal(pthread_create(&two, NULL, chatter, b), 0);
	pthread_join(one, NULL);
	pthread_join(two, NULL);
	for (text = said(); *text; text = strchr(text, '\n') + 1, n++) {
		char c = text[9];

		assert_true(c == 'a' || c == 'b');
		for (int i = 0; i < 16; i++)
			assert_true(text[9 + i] == c && text[27 + i] == c);
	}
	assert_int_equal(n, 200);
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(line_carries_its_object_and_level_filters),
		CASE(control_characters_are_not_passed_on),
		CASE(overlong_text_is_cut_and_still_one_line),
		CASE(lines_of_two_threads_do_not_mix),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
