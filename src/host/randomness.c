/* SPDX-License-Identifier: BSD-3-Clause */
/* Random bytes, by getrandom or from a file. */
#include "host/randomness.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/random.h>
#include <unistd.h>

struct host_randomness {
	struct randomness randomness;
	int fd; /* -1: the kernel's own generator */
};

static struct host_randomness *host_randomness_of(struct randomness *r)
{
	return container_of(r, struct host_randomness, randomness);
}

/* A signal may cut a call short, and a device gives what it has: go on until all is there. */
static int host_fill(struct randomness *r, void *bytes, size_t n)
{
	int fd = host_randomness_of(r)->fd;

	for (size_t done = 0; done < n;) {
		u8 *at = (u8 *)bytes + done;
		ssize_t got = fd < 0 ? getrandom(at, n - done, 0) : read(fd, at, n - done);

		if (got > 0)
			done += (size_t)got;
		else if (got == 0)
			return -EIO;
		else if (errno != EINTR)
			return -errno;
	}
	return 0;
}

static const struct randomness_ops host_randomness_ops = { .fill = host_fill };

struct randomness *host_randomness_create(const char *path)
{
	struct host_randomness *r = calloc(1, sizeof(*r));

	if (!r)
		return NULL;
	r->randomness.ops = &host_randomness_ops;
	r->fd = path ? open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC) : -1;
	if (path && r->fd < 0) {
		free(r);
		return NULL;
	}
	return &r->randomness;
}

void host_randomness_destroy(struct randomness *r)
{
	struct host_randomness *h = host_randomness_of(r);

	if (h->fd >= 0)
		close(h->fd);
	free(h);
}
