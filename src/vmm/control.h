/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The other end of `viaduct ctl`: lines of words in, lines of text out.
 *
 * A question is one line; the answer any number of lines, the last of which is "ok" or
 * "error: " and a reason. Whoever may connect to the socket may ask: its path's permissions are
 * the guard.
 */
#ifndef VIADUCT_VMM_CONTROL_H
#define VIADUCT_VMM_CONTROL_H

#include "host/loop.h"

#define CONTROL_LINE_BYTES 1024
#define CONTROL_WORDS 16
#define CONTROL_ANSWER_BYTES 16384

struct control_answer {
	char text[CONTROL_ANSWER_BYTES]; /* whole lines, the verdict last */
	size_t n;
	bool judged;
};

/* Adds a line ("\n" is added); what does not fit is cut off, the verdict never. */
__attribute__((format(printf, 2, 3))) void control_say(struct control_answer *a, const char *format,
						       ...);
/* The verdict "error: ...". Without one it is "ok". */
__attribute__((format(printf, 2, 3))) void control_fail(struct control_answer *a,
							const char *format, ...);

/* Who answers. `words` may be written to; words[n_words] is NULL, n_words at least 1. */
struct control_handler {
	void (*handle)(struct control_handler *h, int n_words, char **words,
		       struct control_answer *a);
};

/* Serves clients of a listening socket, which becomes its own. NULL with errno set. */
struct control;
struct control *control_create(struct loop *loop, int listen_fd, struct control_handler *h);
void control_destroy(struct control *c);

/*
 * Between processes, over a SOCK_SEQPACKET pair: one end serves, one packet a question...
 * NULL with errno set; `fd` becomes its own.
 */
struct control_peer;
struct control_peer *control_peer_create(struct loop *loop, int fd, struct control_handler *h);
void control_peer_destroy(struct control_peer *p);

/* ... the other asks, and waits for the answer for a few seconds at most. 0 or -errno. */
int control_ask(int fd, const char *line, struct control_answer *a);

#endif
