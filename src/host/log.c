/* SPDX-License-Identifier: BSD-3-Clause */
/* One line, one write(2): no lock needed, and nothing is left in a buffer when we crash. */
#include "host/log.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define LINE_BYTES 512 /* below PIPE_BUF, so that a pipe takes it as one piece, too */

static enum log_level level_shown;

/* snprintf tells what it would have written; this tells what is there. */
static size_t written(int n, size_t room)
{
	return n < 0 ? 0 : min_u64((u64)n, room - 1);
}

static void hook(enum log_level level, const char *object, const char *format, va_list args)
{
	char line[LINE_BYTES];
	size_t room = sizeof(line) - 1; /* the newline's place */
	int saved = errno;
	size_t n;
	ssize_t done;

	if (level > level_shown)
		return;
	if (object)
		n = written(snprintf(line, room, "viaduct: %s: ", object), room);
	else
		n = written(snprintf(line, room, "viaduct: "), room);
	n += written(vsnprintf(line + n, room - n, format, args), room - n);
	/* A name may come from a guest: it shall neither forge lines nor steer a terminal. */
	for (size_t i = 0; i < n; i++)
		if ((unsigned char)line[i] < ' ' || line[i] == 0x7f)
			line[i] = '?';
	line[n++] = '\n';
	do {
		done = write(STDERR_FILENO, line, n);
	} while (done < 0 && errno == EINTR);
	errno = saved;
}

void host_log_start(enum log_level most)
{
	level_shown = most;
	log_set_hook(hook);
}
