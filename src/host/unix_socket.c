/* SPDX-License-Identifier: BSD-3-Clause */
/* A busy path is an error, a stale one is not: whether somebody answers tells them apart. */
#include "host/unix_socket.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

int unix_listen(const char *path, char *why, size_t n_why)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	struct stat st;
	int fd, err;

	if (strlen(path) >= sizeof(a.sun_path)) {
		snprintf(why, n_why, "%s: longer than the %zu bytes that a socket's path may have",
			 path, sizeof(a.sun_path) - 1);
		return -ENAMETOOLONG;
	}
	strcpy(a.sun_path, path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0) {
		err = -errno;
		snprintf(why, n_why, "no socket to be had: %s", strerror(-err));
		return err;
	}
	if (lstat(path, &st) == 0) {
		if (!S_ISSOCK(st.st_mode)) {
			snprintf(why, n_why,
				 "%s: is there already and no socket; name another path", path);
			err = -EEXIST;
			goto close;
		}
		if (connect(fd, (struct sockaddr *)&a, sizeof(a)) == 0 || errno == EAGAIN) {
			snprintf(why, n_why,
				 "%s: another process listens there; end it or name another path",
				 path);
			err = -EADDRINUSE;
			goto close;
		}
		/* Refused: left over from one that has ended. Else it may live, and is not ours. */
		if (errno != ECONNREFUSED) {
			err = -errno;
			snprintf(why, n_why,
				 "%s: is there already, and cannot be asked who listens (%s); "
				 "remove it or name another path",
				 path, strerror(-err));
			goto close;
		}
		unlink(path);
	}
	if (bind(fd, (struct sockaddr *)&a, sizeof(a)) < 0 || listen(fd, 8) < 0) {
		err = -errno;
		snprintf(why, n_why, "%s: cannot listen there: %s", path, strerror(-err));
		goto close;
	}
	return fd;
close:
	close(fd);
	return err;
}
