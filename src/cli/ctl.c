/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * `viaduct ctl`: says one thing to a control socket and prints what it answers.
 *
 * The protocol is made for people with a terminal and for scripts alike: a command is one line
 * of words; the answer is any number of lines, the last of which is "ok" or "error: " and a
 * reason. A connection may ask as often as it likes.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "cli/cli.h"

#define ANSWER_SECONDS 10

static const char help[] =
	"viaduct ctl: ask something of a running guest's devices\n"
	"\n"
	"  viaduct ctl PATH COMMAND [ARGUMENT...]\n"
	"\n"
	"PATH is what `viaduct run` or `viaduct serve` was given as --control. Ask the devices\n"
	"themselves what they can do:\n"
	"\n"
	"  viaduct ctl PATH help\n"
	"\n"
	"The answer is printed. Exit status: 0 done, 1 refused (the reason is printed), 2 nobody\n"
	"listens on PATH, or the call was wrong.\n";

/* Writes the words as one line. False: they make no line. */
static bool make_line(char *line, size_t n_line, char **words, int n_words)
{
	size_t used = 0;

	for (int i = 0; i < n_words; i++) {
		size_t n = strlen(words[i]);

		if (strchr(words[i], '\n') || n + 2 > n_line - used)
			return false;
		memcpy(line + used, words[i], n);
		used += n;
		line[used++] = i + 1 < n_words ? ' ' : '\n';
	}
	line[used] = '\0';
	return true;
}

/* Prints the answer but its last line, which is the verdict; EXIT_*. */
static int print_answer(FILE *f, const char *path)
{
	char line[1024];

	while (fgets(line, sizeof(line), f)) {
		if (!strcmp(line, "ok\n"))
			return EXIT_OK;
		if (!strncmp(line, "error: ", 7)) {
			fprintf(stderr, "viaduct ctl: %s", line + 7);
			return EXIT_FAILED;
		}
		fputs(line, stdout);
	}
	fprintf(stderr, "viaduct ctl: %s %s\n", path,
		errno == EAGAIN ? "did not answer in time; is its process stopped?"
				: "hung up before it answered; did the guest just end?");
	return EXIT_FAILED;
}

int cli_ctl(int argc, char **argv)
{
	const struct timeval limit = { .tv_sec = ANSWER_SECONDS };
	struct sockaddr_un at = { .sun_family = AF_UNIX };
	char line[1024];
	int fd, status;
	FILE *f;

	if (argc > 1 && (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h"))) {
		fputs(help, stdout);
		return EXIT_OK;
	}
	if (argc < 3)
		return cli_usage("ctl", "need PATH and COMMAND, like: viaduct ctl guest.ctl help");
	if (strlen(argv[1]) >= sizeof(at.sun_path))
		return cli_usage("ctl", "%s is too long for a socket (%zu characters at most)",
				 argv[1], sizeof(at.sun_path) - 1);
	if (!make_line(line, sizeof(line), argv + 2, argc - 2))
		return cli_usage("ctl", "a command is one line of at most %zu characters",
				 sizeof(line) - 2);
	strcpy(at.sun_path, argv[1]);

	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || connect(fd, (struct sockaddr *)&at, sizeof(at))) {
		int err = errno;

		if (fd >= 0)
			close(fd);
		return cli_usage("ctl",
				 "nobody listens on %s (%s); start viaduct with --control %s",
				 argv[1], strerror(err), argv[1]);
	}
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	f = fdopen(fd, "r+");
	if (!f) {
		close(fd);
		return cli_usage("ctl", "%s", strerror(errno));
	}
	if (send(fd, line, strlen(line), MSG_NOSIGNAL) < 0) {
		fprintf(stderr, "viaduct ctl: %s: %s\n", argv[1], strerror(errno));
		status = EXIT_FAILED;
	} else {
		errno = 0;
		status = print_answer(f, argv[1]);
	}
	fclose(f);
	return status;
}
