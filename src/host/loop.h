/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The event loop that a device lives on: one thread, epoll below, nothing burnt when idle.
 *
 * A turn of the loop: sleep until something is ready (or poll, see below), call the watches
 * that are, the timers that are due, the tasks that were put off; then the end-of-turn hooks,
 * which is where batched work (one io_uring submission a turn) is sent off.
 *
 * All objects are embedded in their owner, zeroed at first, and must be removed before they or
 * the loop go; removing what is not there does no harm. Everything here but loop_turn may be
 * called from callbacks, removal of any object included: a removed object is not called again,
 * even if its event had been fetched already. Only the loop's thread may call, except loop_wake.
 */
#ifndef VIADUCT_HOST_LOOP_H
#define VIADUCT_HOST_LOOP_H

#include "device/clock.h"

struct loop;

/* NULL with errno set. */
struct loop *loop_create(void);
void loop_destroy(struct loop *loop);

/* Runs until loop_stop; returns the status given there. */
int loop_run(struct loop *loop);
void loop_stop(struct loop *loop, int status);

/* One turn, waiting at most `timeout_ms` (-1: for ever, 0: not at all). For tests and guests. */
void loop_turn(struct loop *loop, int timeout_ms);

/* Makes a sleeping loop take a turn. Any thread, and signal handlers. */
void loop_wake(struct loop *loop);

/* The clock and timers of this loop, as devices want them. */
struct clock *loop_clock(struct loop *loop);

/*
 * A descriptor to look at. `events` are EPOLLIN, EPOLLOUT, ...; level triggered. With no events
 * it rests: not even a hang-up is reported, which a paused stream could not act upon and would
 * otherwise be told for ever. Remove the watch before the descriptor is closed.
 */
struct loop_watch {
	int fd;
	void (*ready)(struct loop_watch *w, u32 events);
	/* The loop's. */
	u32 events;
	struct list node;
};

/* 0 or -errno. Files that cannot be watched (regular ones) give -EPERM, a second watch -EEXIST. */
int loop_add(struct loop *loop, struct loop_watch *w, u32 events);
int loop_change(struct loop *loop, struct loop_watch *w, u32 events);
void loop_remove(struct loop *loop, struct loop_watch *w); /* does not close fd */

/* Called once, later in this turn or in the next one, before the loop sleeps. */
struct loop_task {
	void (*run)(struct loop_task *t);
	struct list node; /* initialised with list_init, or zeroed */
};
void loop_defer(struct loop *loop, struct loop_task *t); /* again: no effect */
void loop_cancel(struct loop *loop, struct loop_task *t);

/* Called at the end of every turn, before the loop sleeps. */
struct loop_hook {
	void (*run)(struct loop_hook *h);
	struct list node;
};
void loop_add_hook(struct loop *loop, struct loop_hook *h);
void loop_remove_hook(struct loop *loop, struct loop_hook *h);

/*
 * A signal, told on the loop's thread. Caught by a handler rather than by signalfd, because a
 * blocked signal would stay blocked in every program that this one starts. Of one process only
 * one may catch a given signal: -EBUSY otherwise. Removal restores what was there before; a
 * child that was forked and lives on without exec removes its parent's before it adds its own.
 */
struct loop_signal {
	int signo;
	void (*raised)(struct loop_signal *s);
	struct list node;
};
int loop_add_signal(struct loop *loop, struct loop_signal *s);
void loop_remove_signal(struct loop *loop, struct loop_signal *s);

/*
 * Something to look at without being told: the adaptive part. Once `poll` or a watch found
 * work, the loop calls every poller again and again instead of sleeping, for as long as that
 * finds work often enough to be worth it, at most loop_set_poll_limit's time without any; then
 * it calls `set_polling(false)`, looks a last time, and sleeps. While it sleeps nothing is
 * called: 0.0% CPU. Adding and removing a poller while the loop polls turns it on and off.
 */
struct loop_poller {
	bool (*poll)(struct loop_poller *p); /* true: there was work, and it is done */
	void (*set_polling)(struct loop_poller *p, bool on); /* NULL: does not matter */
	struct list node;
};
void loop_add_poller(struct loop *loop, struct loop_poller *p);
void loop_remove_poller(struct loop *loop, struct loop_poller *p);

/* How long to poll for nothing at most; 0 never polls. At first 32 us, or 0 on one processor. */
void loop_set_poll_limit(struct loop *loop, u64 limit_ns);

#endif
