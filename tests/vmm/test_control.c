/* SPDX-License-Identifier: BSD-3-Clause */
/* The control socket against clients that are kind, and clients that are not. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "host/unix_socket.h"
#include "vmm/control.h"

static struct loop *loop;
static struct control *control;
static char directory[] = "/tmp/viaduct-control-XXXXXX", path[64];
static unsigned int n_asked, n_words_last;

static void handle(struct control_handler *h, int n_words, char **words, struct control_answer *a)
{
	n_asked++;
	n_words_last = n_words;
	assert_null(words[n_words]);
	if (!strcmp(words[0], "fail"))
		control_fail(a, "because of %s", n_words > 1 ? words[1] : "nothing");
	else if (!strcmp(words[0], "much"))
		for (int i = 0; i < 4000; i++)
			control_say(a, "line %d of many", i);
	else
		control_say(a, "you said %s", words[0]);
}

static struct control_handler handler = { handle };

static int set_up(void **state)
{
	char why[256];
	int fd;

	loop = loop_create();
	assert_non_null(loop);
	fd = unix_listen(path, why, sizeof(why));
	assert_true(fd >= 0);
	control = control_create(loop, fd, &handler);
	assert_non_null(control);
	n_asked = 0;
	return 0;
}

static int tear_down(void **state)
{
	control_destroy(control);
	loop_destroy(loop);
	unlink(path);
	return 0;
}

static int client(void)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	strcpy(a.sun_path, path);
	assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	return fd;
}

static void say(int fd, const char *text)
{
	assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), strlen(text));
}

/* All that comes within some turns; -1 in `*end` if the connection lives on, 0 if it ended. */
static size_t hear(int fd, char *text, size_t room, ssize_t *end)
{
	size_t n = 0;

	*end = -1;
	for (int turn = 0; turn < 200 && *end < 0; turn++) {
		ssize_t got;

		loop_turn(loop, 0);
		while ((got = recv(fd, text + n, room - 1 - n, 0)) > 0)
			n += got;
		if (got == 0 || (got < 0 && errno == ECONNRESET))
			*end = 0;
	}
	text[n] = '\0';
	return n;
}

static char text[65536];
static ssize_t end;

static void lines_are_answered_in_order_however_they_are_cut(void **state)
{
	int fd = client();

	say(fd, "hel");
	hear(fd, text, sizeof(text), &end);
	assert_string_equal(text, "");
	say(fd, "lo you\r\nfail now\n   \nlast\n");
	hear(fd, text, sizeof(text), &end);
	assert_string_equal(text, "you said hello\nok\n"
				  "error: because of now\n"
				  "error: an empty line; `help` says what can be asked\n"
				  "you said last\nok\n");
	assert_int_equal(end, -1);
	close(fd);
}

static void line_without_an_end_is_refused_and_others_are_served(void **state)
{
	int fd = client(), other = client();
	char junk[CONTROL_LINE_BYTES];

	memset(junk, 'a', sizeof(junk));
	assert_int_equal(send(fd, junk, sizeof(junk), MSG_NOSIGNAL), sizeof(junk));
	hear(fd, text, sizeof(text), &end);
	assert_string_equal(text, "error: a line of more than 1023 bytes\n");
	assert_int_equal(end, 0);
	assert_int_equal(n_asked, 0);
	say(other, "well\n");
	hear(other, text, sizeof(text), &end);
	assert_string_equal(text, "you said well\nok\n");
	close(fd);
	close(other);
}

static void too_many_words_and_bytes_of_any_kind_are_survived(void **state)
{
	int fd = client();
	const char odd[] = "nul\0inside it\n\xff\xfe%s%n\n";

	say(fd, "1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\n");
	hear(fd, text, sizeof(text), &end);
	assert_string_equal(text, "you said 1\nok\n");
	assert_int_equal(n_words_last, CONTROL_WORDS);
	say(fd, "1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17\n");
	hear(fd, text, sizeof(text), &end);
	assert_string_equal(text, "error: more than 16 words\n");
	assert_int_equal(send(fd, odd, sizeof(odd) - 1, MSG_NOSIGNAL), sizeof(odd) - 1);
	hear(fd, text, sizeof(text), &end);
	assert_string_equal(text, "you said nul\nok\nyou said \xff\xfe%s%n\nok\n");
	close(fd);
}

static void long_answer_is_cut_but_keeps_its_verdict(void **state)
{
	int fd = client();
	size_t n;

	say(fd, "much\n");
	n = hear(fd, text, sizeof(text), &end);
	assert_in_range(n, CONTROL_ANSWER_BYTES / 2, CONTROL_ANSWER_BYTES);
	assert_string_equal(text + n - 4, "\nok\n");
	close(fd);
}

/* Asks for ever and never reads: its questions wait, and nobody else's do. */
static void client_that_never_reads_stops_itself_only(void **state)
{
	int fd = client(), other = client();
	unsigned int asked;

	for (int i = 0; i < 3000; i++) {
		if (send(fd, "much\n", 5, MSG_NOSIGNAL) < 0)
			assert_int_equal(errno, EAGAIN);
		loop_turn(loop, 0);
	}
	asked = n_asked;
	for (int i = 0; i < 100; i++)
		loop_turn(loop, 0);
	assert_int_equal(n_asked, asked); /* nothing more is done for it */
	assert_true(asked < 1000);
	say(other, "well\n");
	hear(other, text, sizeof(text), &end);
	assert_string_equal(text, "you said well\nok\n");
	/* Once it reads, it goes on. */
	hear(fd, text, sizeof(text), &end);
	assert_true(n_asked > asked);
	close(fd);
	close(other);
}

static void more_clients_than_places_end_and_places_come_back(void **state)
{
	int fds[40], again;

	for (int i = 0; i < 40; i++) {
		fds[i] = client();
		loop_turn(loop, 0);
	}
	hear(fds[39], text, sizeof(text), &end);
	assert_int_equal(end, 0);
	say(fds[0], "well\n");
	hear(fds[0], text, sizeof(text), &end);
	assert_string_equal(text, "you said well\nok\n");
	for (int i = 0; i < 40; i++)
		close(fds[i]);
	for (int i = 0; i < 50; i++)
		loop_turn(loop, 0);
	again = client();
	say(again, "back\n");
	hear(again, text, sizeof(text), &end);
	assert_string_equal(text, "you said back\nok\n");
	close(again);
}

static void peer_that_ends_is_an_error_and_not_a_wait(void **state)
{
	static struct control_answer a;
	int pair[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, pair), 0);
	close(pair[1]);
	assert_int_equal(control_ask(pair[0], "status", &a), -EPIPE);
	close(pair[0]);
}

/* What was answered too late is not taken for the answer to the next question. */
static void late_answer_is_not_the_next_ones(void **state)
{
	static struct control_answer a;
	int pair[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, pair), 0);
	assert_int_equal(send(pair[1], "old\nok\n", 7, 0), 7);
	close(pair[1]);
	assert_int_equal(control_ask(pair[0], "status", &a), -EPIPE);
	close(pair[0]);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(lines_are_answered_in_order_however_they_are_cut),
		TEST(line_without_an_end_is_refused_and_others_are_served),
		TEST(too_many_words_and_bytes_of_any_kind_are_survived),
		TEST(long_answer_is_cut_but_keeps_its_verdict),
		TEST(client_that_never_reads_stops_itself_only),
		TEST(more_clients_than_places_end_and_places_come_back),
		cmocka_unit_test(peer_that_ends_is_an_error_and_not_a_wait),
		cmocka_unit_test(late_answer_is_not_the_next_ones),
	};
	int status;

	if (!mkdtemp(directory))
		return 1;
	snprintf(path, sizeof(path), "%s/s", directory);
	status = cmocka_run_group_tests(tests, NULL, NULL);
	rmdir(directory);
	return status;
}
