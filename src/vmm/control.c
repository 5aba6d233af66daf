/* SPDX-License-Identifier: BSD-3-Clause */
/* Lines and packets for `viaduct ctl`. */
#include "vmm/control.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define MAX_CLIENTS 16
#define ASK_MS 8000
#define VERDICT_BYTES 256

/* ---- answers ------------------------------------------------------------------------------ */

static void answer_add(struct control_answer *a, size_t keep, const char *format, va_list args)
{
	size_t room = sizeof(a->text) - a->n - keep;
	int n;

	if (room < 2)
		return;
	n = vsnprintf(a->text + a->n, room - 1, format, args);
	if (n < 0)
		return;
	a->n += (size_t)n < room - 1 ? (size_t)n : room - 2;
	a->text[a->n++] = '\n';
	a->text[a->n] = '\0';
}

void control_say(struct control_answer *a, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	answer_add(a, VERDICT_BYTES, format, args);
	va_end(args);
}

static void answer_verdict(struct control_answer *a, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	answer_add(a, 0, format, args);
	va_end(args);
}

void control_fail(struct control_answer *a, const char *format, ...)
{
	char reason[VERDICT_BYTES - 16];
	va_list args;

	if (a->judged)
		return;
	a->judged = true;
	va_start(args, format);
	vsnprintf(reason, sizeof(reason), format, args);
	va_end(args);
	answer_verdict(a, "error: %s", reason);
}

/* Has `h` answer a line, which is cut into words in place. */
static void handle_line(struct control_handler *h, char *line, struct control_answer *a)
{
	char *words[CONTROL_WORDS + 1], *rest = line;
	int n = 0;

	a->n = 0;
	a->judged = false;
	a->text[0] = '\0';
	while ((words[n] = strtok_r(rest, " \t\r\n", &rest)) && n < CONTROL_WORDS)
		n++;
	if (words[n])
		control_fail(a, "more than %d words", CONTROL_WORDS);
	else if (n == 0)
		control_fail(a, "an empty line; `help` says what can be asked");
	else
		h->handle(h, n, words, a);
	if (!a->judged)
		answer_verdict(a, "ok");
}

/* ---- clients of a socket ------------------------------------------------------------------ */

struct client {
	struct loop_watch watch; /* fd -1: free */
	struct control *control;
	size_t n_line;
	char line[CONTROL_LINE_BYTES];
	/* An answer that did not fit into the socket; nothing is read until it is gone. */
	char *out;
	size_t n_out, out_sent;
};

struct control {
	struct loop *loop;
	struct control_handler *handler;
	struct loop_watch listener;
	struct control_answer answer;
	struct client clients[MAX_CLIENTS];
};

static void client_close(struct client *c)
{
	if (c->watch.fd < 0)
		return;
	loop_remove(c->control->loop, &c->watch);
	close(c->watch.fd);
	free(c->out);
	c->watch.fd = -1;
	c->n_line = c->n_out = 0;
	c->out = NULL;
}

static bool client_send(struct client *c, const char *bytes, size_t n)
{
	ssize_t sent = send(c->watch.fd, bytes, n, MSG_NOSIGNAL | MSG_DONTWAIT);

	if (sent < 0 && errno != EAGAIN && errno != EINTR)
		return false;
	sent = sent < 0 ? 0 : sent;
	if ((size_t)sent == n)
		return true;
	c->n_out = n - sent;
	c->out_sent = 0;
	c->out = malloc(c->n_out);
	if (!c->out)
		return false;
	memcpy(c->out, bytes + sent, c->n_out);
	return loop_change(c->control->loop, &c->watch, EPOLLOUT) == 0;
}

/* Answers the whole lines that are there. False: the client has to go. */
static bool client_answer(struct client *c)
{
	struct control *control = c->control;
	char *end;

	while (!c->out && (end = memchr(c->line, '\n', c->n_line))) {
		size_t n = end + 1 - c->line;

		*end = '\0';
		handle_line(control->handler, c->line, &control->answer);
		c->n_line -= n;
		memmove(c->line, c->line + n, c->n_line);
		if (!client_send(c, control->answer.text, control->answer.n))
			return false;
	}
	if (c->n_line < sizeof(c->line))
		return true;
	client_send(c, "error: a line of more than 1023 bytes\n", 38);
	return false;
}

static void client_ready(struct loop_watch *w, u32 events)
{
	struct client *c = container_of(w, struct client, watch);
	ssize_t n;

	if (c->out) {
		n = send(w->fd, c->out + c->out_sent, c->n_out, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return;
		if (n < 0) {
			client_close(c);
			return;
		}
		c->out_sent += n;
		c->n_out -= n;
		if (c->n_out > 0)
			return;
		free(c->out);
		c->out = NULL;
		loop_change(c->control->loop, w, EPOLLIN);
	} else {
		n = recv(w->fd, c->line + c->n_line, sizeof(c->line) - c->n_line, MSG_DONTWAIT);
		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return;
		if (n <= 0) {
			client_close(c);
			return;
		}
		c->n_line += n;
	}
	if (!client_answer(c))
		client_close(c);
}

static void listener_ready(struct loop_watch *w, u32 events)
{
	struct control *control = container_of(w, struct control, listener);
	int fd = accept4(w->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (fd < 0)
		return;
	for (int i = 0; i < MAX_CLIENTS; i++) {
		struct client *c = &control->clients[i];

		if (c->watch.fd >= 0)
			continue;
		c->watch.fd = fd;
		if (loop_add(control->loop, &c->watch, EPOLLIN) < 0)
			break;
		return;
	}
	close(fd);
}

struct control *control_create(struct loop *loop, int listen_fd, struct control_handler *h)
{
	struct control *control = calloc(1, sizeof(*control));
	int err;

	if (!control)
		return NULL;
	control->loop = loop;
	control->handler = h;
	control->listener = (struct loop_watch){ .fd = listen_fd, .ready = listener_ready };
	for (int i = 0; i < MAX_CLIENTS; i++) {
		control->clients[i].watch = (struct loop_watch){ .fd = -1, .ready = client_ready };
		control->clients[i].control = control;
	}
	err = loop_add(loop, &control->listener, EPOLLIN);
	if (err < 0) {
		free(control);
		errno = -err;
		return NULL;
	}
	return control;
}

void control_destroy(struct control *control)
{
	if (!control)
		return;
	for (int i = 0; i < MAX_CLIENTS; i++)
		client_close(&control->clients[i]);
	loop_remove(control->loop, &control->listener);
	close(control->listener.fd);
	free(control);
}

/* ---- between processes -------------------------------------------------------------------- */

struct control_peer {
	struct loop *loop;
	struct control_handler *handler;
	struct loop_watch watch;
	struct control_answer answer;
};

static void peer_ready(struct loop_watch *w, u32 events)
{
	struct control_peer *p = container_of(w, struct control_peer, watch);
	char line[CONTROL_LINE_BYTES + 1];
	ssize_t n = recv(w->fd, line, sizeof(line) - 1, MSG_DONTWAIT);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) { /* the asker is gone; we serve on */
		loop_remove(p->loop, w);
		return;
	}
	line[n] = '\0';
	handle_line(p->handler, line, &p->answer);
	send(w->fd, p->answer.text, p->answer.n, MSG_NOSIGNAL | MSG_DONTWAIT);
}

struct control_peer *control_peer_create(struct loop *loop, int fd, struct control_handler *h)
{
	struct control_peer *p = calloc(1, sizeof(*p));
	int err;

	if (!p)
		return NULL;
	p->loop = loop;
	p->handler = h;
	p->watch = (struct loop_watch){ .fd = fd, .ready = peer_ready };
	err = loop_add(loop, &p->watch, EPOLLIN);
	if (err < 0) {
		free(p);
		errno = -err;
		return NULL;
	}
	return p;
}

void control_peer_destroy(struct control_peer *p)
{
	if (!p)
		return;
	loop_remove(p->loop, &p->watch);
	close(p->watch.fd);
	free(p);
}

int control_ask(int fd, const char *line, struct control_answer *a)
{
	struct pollfd wait = { .fd = fd, .events = POLLIN };
	ssize_t n;
	int ready;

	/* An answer that came too late for the question before is not the answer to this one. */
	while (recv(fd, a->text, sizeof(a->text), MSG_DONTWAIT) > 0)
		;
	if (send(fd, line, strlen(line), MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
		return -errno;
	do {
		ready = poll(&wait, 1, ASK_MS);
	} while (ready < 0 && errno == EINTR);
	if (ready == 0)
		return -ETIMEDOUT;
	n = recv(fd, a->text, sizeof(a->text) - 1, MSG_DONTWAIT);
	if (n <= 0)
		return n < 0 ? -errno : -EPIPE;
	a->text[n] = '\0';
	a->n = n;
	a->judged = true;
	return 0;
}
