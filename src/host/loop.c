/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The event loop: epoll, an eventfd to wake it, timers in a sorted list, adaptive polling.
 *
 * Every pass over a list of objects works in the same way: the list is moved aside, and node
 * by node goes back before its callback runs. So a callback may remove or add whatever it
 * likes: a removed node is simply on neither list, and an added one waits for the next pass.
 */
#include "host/loop.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#define MAX_FETCHED 64 /* events a turn: bounds how long timers and tasks wait for watches */
#define NEVER UINT64_MAX
#define POLL_LIMIT_NS 32000
#define FIRST_WINDOW_NS 4000
/* While polling, descriptors are looked at every so many rounds: a system call costs as much. */
#define ROUNDS_PER_FETCH 16

struct loop {
	int epoll_fd;
	bool no_pwait2; /* an old kernel, or a sandbox that never heard of it */
	bool in_turn, stopping;
	int status;

	struct loop_watch wake;
	bool woken; /* shared with other threads: the eventfd has been written already */

	struct epoll_event fetched[MAX_FETCHED];
	int n_fetched;

	struct clock clock;
	struct list watches, timers /* by deadline */, tasks, hooks, signals, pollers;

	bool polling;
	bool worked; /* the last turn found work: only then is polling begun */
	u32 rounds; /* of polling since descriptors were last looked at */
	u64 poll_limit_ns;
	u64 poll_window_ns; /* how long polling for nothing seems to be worth it, just now */
	u64 idle_since_ns;
};

static u64 now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (u64)ts.tv_sec * 1000000000 + (u64)ts.tv_nsec;
}

/* ---- clock ----------------------------------------------------------------------------- */

static u64 clock_now_ns(struct clock *c)
{
	return now_ns();
}

static void timer_stop(struct clock *c, struct clock_timer *t)
{
	if (list_linked(&t->node))
		list_del(&t->node);
	t->deadline_ns = 0;
}

/* From the back: most timers are set further ahead than those that run already. */
static void timer_start(struct clock *c, struct clock_timer *t, u64 deadline_ns)
{
	struct loop *loop = container_of(c, struct loop, clock);
	struct list *at;

	ASSERT(deadline_ns != 0);
	timer_stop(c, t);
	t->deadline_ns = deadline_ns;
	for (at = loop->timers.prev; at != &loop->timers; at = at->prev)
		if (container_of(at, struct clock_timer, node)->deadline_ns <= deadline_ns)
			break;
	list_add_tail(at->next, &t->node);
}

static const struct clock_ops clock_ops = {
	.now_ns = clock_now_ns,
	.start = timer_start,
	.stop = timer_stop,
};

struct clock *loop_clock(struct loop *loop)
{
	return &loop->clock;
}

/*
 * What is due is set aside before the first callback, so that a timer which restarts itself in
 * the past cannot keep the turn from ending.
 */
static void fire_timers(struct loop *loop)
{
	struct list due, *node, *tmp;
	u64 now;

	if (list_empty(&loop->timers))
		return;
	now = now_ns();
	list_init(&due);
	list_for_each (node, tmp, &loop->timers) {
		if (container_of(node, struct clock_timer, node)->deadline_ns > now)
			break;
		list_del(node);
		list_add_tail(&due, node);
	}
	while ((node = list_pop(&due))) {
		struct clock_timer *t = container_of(node, struct clock_timer, node);

		t->deadline_ns = 0;
		t->fired(t);
	}
}

/* ---- watches --------------------------------------------------------------------------- */

static int watch_control(struct loop *loop, struct loop_watch *w, int op, u32 events)
{
	struct epoll_event e = { .events = events, .data.ptr = w };

	return epoll_ctl(loop->epoll_fd, op, w->fd, &e) ? -errno : 0;
}

int loop_add(struct loop *loop, struct loop_watch *w, u32 events)
{
	int err = events ? watch_control(loop, w, EPOLL_CTL_ADD, events) : 0;

	if (err)
		return err;
	w->events = events;
	list_add_tail(&loop->watches, &w->node);
	return 0;
}

/* A watch without events is not in the kernel's set, where it would still report hang-ups. */
int loop_change(struct loop *loop, struct loop_watch *w, u32 events)
{
	int op = !w->events ? EPOLL_CTL_ADD : events ? EPOLL_CTL_MOD : EPOLL_CTL_DEL;
	int err = events == w->events ? 0 : watch_control(loop, w, op, events);

	if (!err)
		w->events = events;
	return err;
}

void loop_remove(struct loop *loop, struct loop_watch *w)
{
	if (!list_linked(&w->node))
		return;
	/* A descriptor closed too early may live on in a duplicate, and report to a dead watch. */
	if (w->events)
		ASSERT(watch_control(loop, w, EPOLL_CTL_DEL, 0) == 0);
	list_del(&w->node);
	w->events = 0;
	for (int i = 0; i < loop->n_fetched; i++)
		if (loop->fetched[i].data.ptr == w)
			loop->fetched[i].data.ptr = NULL;
}

/* Takes what is ready, waiting for it until `deadline_ns` (0: not at all). */
static void fetch(struct loop *loop, u64 deadline_ns)
{
	u64 now = deadline_ns && deadline_ns != NEVER ? now_ns() : 0;
	u64 wait_ns = deadline_ns > now ? deadline_ns - now : 0;
	struct timespec ts = { .tv_sec = (time_t)(wait_ns / 1000000000),
			       .tv_nsec = (long)(wait_ns % 1000000000) };
	int n = -1;

	if (!loop->no_pwait2) {
		n = epoll_pwait2(loop->epoll_fd, loop->fetched, MAX_FETCHED,
				 deadline_ns == NEVER ? NULL : &ts, NULL);
		loop->no_pwait2 = n < 0 && errno == ENOSYS;
	}
	if (loop->no_pwait2) /* rounded up: a timer must not fire early, nor the loop spin */
		n = epoll_wait(loop->epoll_fd, loop->fetched, MAX_FETCHED,
			       deadline_ns == NEVER
				       ? -1
				       : (int)min_u64((wait_ns + 999999) / 1000000, INT32_MAX));
	loop->n_fetched = n > 0 ? n : 0; /* EINTR: a turn with nothing to do */
	loop->rounds = 0;
}

static void call_watches(struct loop *loop)
{
	for (int i = 0; i < loop->n_fetched; i++) {
		struct loop_watch *w = loop->fetched[i].data.ptr;
		u32 events = loop->fetched[i].events;

		if (!w) /* removed by a callback before this one */
			continue;
		events &= w->events | EPOLLERR | EPOLLHUP; /* they may have been changed, too */
		if (events && w->events)
			w->ready(w, events);
	}
	loop->n_fetched = 0;
}

/* ---- waking and signals ---------------------------------------------------------------- */

/*
 * What the handler touches. Static, and only a descriptor of the loop: a handler that is still
 * running on another thread while its loop goes must not find freed memory.
 */
static struct {
	bool taken;
	int wake_fd;
	bool raised;
	struct sigaction before;
} caught[NSIG];

static void wake_by_fd(int fd)
{
	u64 one = 1;
	int saved = errno; /* of the code that a signal interrupted */
	ssize_t n = write(fd, &one, sizeof(one)); /* full: then it is readable, all is well */

	(void)n;
	errno = saved;
}

void loop_wake(struct loop *loop)
{
	/* [W] What the caller wrote before is visible to the loop after it took the flag. */
	if (!__atomic_exchange_n(&loop->woken, true, __ATOMIC_ACQ_REL))
		wake_by_fd(loop->wake.fd);
}

static void on_signal(int signo)
{
	__atomic_store_n(&caught[signo].raised, true, __ATOMIC_RELEASE);
	wake_by_fd(caught[signo].wake_fd);
}

static void wake_ready(struct loop_watch *w, u32 events)
{
	struct loop *loop = container_of(w, struct loop, wake);
	struct list pass, *node;
	u64 count;
	ssize_t n = read(w->fd, &count, sizeof(count));

	(void)n; /* EAGAIN: woken for nothing */
	(void)__atomic_exchange_n(&loop->woken, false, __ATOMIC_ACQ_REL); /* [W] */

	list_move_all(&loop->signals, &pass);
	while ((node = list_pop(&pass))) {
		struct loop_signal *s = container_of(node, struct loop_signal, node);

		list_add_tail(&loop->signals, node);
		if (__atomic_exchange_n(&caught[s->signo].raised, false, __ATOMIC_ACQUIRE))
			s->raised(s);
	}
}

int loop_add_signal(struct loop *loop, struct loop_signal *s)
{
	struct sigaction action = { .sa_handler = on_signal, .sa_flags = SA_RESTART };

	if (s->signo <= 0 || s->signo >= NSIG)
		return -EINVAL;
	if (caught[s->signo].taken)
		return -EBUSY;
	caught[s->signo].wake_fd = loop->wake.fd;
	caught[s->signo].raised = false;
	sigfillset(&action.sa_mask);
	if (sigaction(s->signo, &action, &caught[s->signo].before))
		return -errno;
	caught[s->signo].taken = true;
	list_add_tail(&loop->signals, &s->node);
	return 0;
}

void loop_remove_signal(struct loop *loop, struct loop_signal *s)
{
	if (!list_linked(&s->node))
		return;
	list_del(&s->node);
	sigaction(s->signo, &caught[s->signo].before, NULL);
	caught[s->signo].taken = false;
}

/* ---- tasks and hooks ------------------------------------------------------------------- */

void loop_defer(struct loop *loop, struct loop_task *t)
{
	if (!list_linked(&t->node))
		list_add_tail(&loop->tasks, &t->node);
}

void loop_cancel(struct loop *loop, struct loop_task *t)
{
	if (list_linked(&t->node))
		list_del(&t->node);
}

/* Those put off by a task run in the next turn, so that descriptors get their share. */
static void run_tasks(struct loop *loop)
{
	struct list pass, *node;

	list_move_all(&loop->tasks, &pass);
	while ((node = list_pop(&pass))) {
		struct loop_task *t = container_of(node, struct loop_task, node);

		t->run(t);
	}
}

void loop_add_hook(struct loop *loop, struct loop_hook *h)
{
	list_add_tail(&loop->hooks, &h->node);
}

void loop_remove_hook(struct loop *loop, struct loop_hook *h)
{
	if (list_linked(&h->node))
		list_del(&h->node);
}

static void run_hooks(struct loop *loop)
{
	struct list pass, *node;

	list_move_all(&loop->hooks, &pass);
	while ((node = list_pop(&pass))) {
		struct loop_hook *h = container_of(node, struct loop_hook, node);

		list_add_tail(&loop->hooks, node);
		h->run(h);
	}
}

/* ---- polling --------------------------------------------------------------------------- */

static void set_polling(struct loop *loop, bool on)
{
	struct list pass, *node;

	if (loop->polling == on)
		return;
	loop->polling = on;
	list_move_all(&loop->pollers, &pass);
	while ((node = list_pop(&pass))) {
		struct loop_poller *p = container_of(node, struct loop_poller, node);

		list_add_tail(&loop->pollers, node);
		if (p->set_polling)
			p->set_polling(p, on);
	}
}

static bool call_pollers(struct loop *loop)
{
	struct list pass, *node;
	bool found = false;

	list_move_all(&loop->pollers, &pass);
	while ((node = list_pop(&pass))) {
		struct loop_poller *p = container_of(node, struct loop_poller, node);

		list_add_tail(&loop->pollers, node);
		found |= p->poll(p);
	}
	return found;
}

void loop_add_poller(struct loop *loop, struct loop_poller *p)
{
	list_add_tail(&loop->pollers, &p->node);
	if (loop->polling && p->set_polling)
		p->set_polling(p, true);
}

void loop_remove_poller(struct loop *loop, struct loop_poller *p)
{
	if (!list_linked(&p->node))
		return;
	list_del(&p->node);
	if (loop->polling && p->set_polling)
		p->set_polling(p, false);
}

void loop_set_poll_limit(struct loop *loop, u64 limit_ns)
{
	loop->poll_limit_ns = limit_ns;
	loop->poll_window_ns = min_u64(loop->poll_window_ns, limit_ns);
}

/*
 * Polls until there is work, the window has passed, or `deadline_ns` has come; true if a
 * poller found work. Only a passed window ends the polling: a timer in between does not.
 */
static bool poll_for_work(struct loop *loop, u64 deadline_ns)
{
	set_polling(loop, loop->poll_window_ns != 0);
	while (loop->polling) {
		u64 now;

		if (call_pollers(loop))
			return true;
		if (++loop->rounds >= ROUNDS_PER_FETCH) {
			fetch(loop, 0);
			if (loop->n_fetched)
				return false;
		}
		if (!list_empty(&loop->tasks) || loop->stopping)
			return false;
		now = now_ns();
		if (now - loop->idle_since_ns >= loop->poll_window_ns)
			set_polling(loop, false);
		else if (now >= deadline_ns)
			return false;
	}
	return call_pollers(loop); /* what came before notifications were on again */
}

/*
 * Work has come after `idle_ns` of nothing. Had we polled for that long, we would have met it:
 * within the limit that is worth trying, so the window grows; beyond it, polling was in vain.
 */
static void adapt(struct loop *loop, u64 idle_ns)
{
	u64 grown = max_u64(FIRST_WINDOW_NS, 2 * loop->poll_window_ns);

	if (idle_ns > loop->poll_limit_ns)
		loop->poll_window_ns = 0;
	else if (idle_ns > loop->poll_window_ns)
		loop->poll_window_ns = min_u64(loop->poll_limit_ns, grown);
}

/* ---- turns ----------------------------------------------------------------------------- */

static u64 turn_deadline(struct loop *loop, int timeout_ms)
{
	u64 deadline = NEVER;

	if (timeout_ms == 0 || loop->stopping || !list_empty(&loop->tasks))
		return 0;
	if (timeout_ms > 0)
		deadline = now_ns() + (u64)timeout_ms * 1000000;
	if (!list_empty(&loop->timers)) {
		struct list *first = loop->timers.next;

		deadline = min_u64(deadline,
				   container_of(first, struct clock_timer, node)->deadline_ns);
	}
	return deadline;
}

void loop_turn(struct loop *loop, int timeout_ms)
{
	u64 deadline = turn_deadline(loop, timeout_ms);
	bool worth_polling = !list_empty(&loop->pollers) &&
			     (loop->polling || (loop->worked && loop->poll_window_ns && deadline));
	bool found = false;

	ASSERT(!loop->in_turn);
	loop->in_turn = true;

	if (worth_polling) {
		found = poll_for_work(loop, deadline);
		/* A poller may have put something off, or set a timer. */
		deadline = found ? 0 : min_u64(deadline, turn_deadline(loop, timeout_ms));
	}
	/* Work found by polling needs no look at the descriptors, but for fairness now and then. */
	if (!loop->n_fetched && (!found || ++loop->rounds >= ROUNDS_PER_FETCH))
		fetch(loop, deadline);
	found |= loop->n_fetched > 0;
	if (found && !list_empty(&loop->pollers))
		adapt(loop, now_ns() - loop->idle_since_ns);

	call_watches(loop);
	fire_timers(loop);
	run_tasks(loop);
	run_hooks(loop);

	if (found && !list_empty(&loop->pollers))
		loop->idle_since_ns = now_ns();
	loop->worked = found;
	loop->in_turn = false;
}

int loop_run(struct loop *loop)
{
	while (!loop->stopping)
		loop_turn(loop, -1);
	set_polling(loop, false);
	loop->stopping = false;
	return loop->status;
}

void loop_stop(struct loop *loop, int status)
{
	loop->stopping = true;
	loop->status = status;
}

/* Polling takes the processor from the one whom we poll for, if there is only one. */
static u64 default_poll_limit_ns(void)
{
	cpu_set_t ours;

	return sched_getaffinity(0, sizeof(ours), &ours) == 0 && CPU_COUNT(&ours) == 1
		       ? 0
		       : POLL_LIMIT_NS;
}

struct loop *loop_create(void)
{
	struct loop *loop = calloc(1, sizeof(*loop));
	int err;

	if (!loop)
		return NULL;
	list_init(&loop->watches);
	list_init(&loop->timers);
	list_init(&loop->tasks);
	list_init(&loop->hooks);
	list_init(&loop->signals);
	list_init(&loop->pollers);
	loop->clock.ops = &clock_ops;
	loop->poll_limit_ns = default_poll_limit_ns();
	loop->idle_since_ns = now_ns();

	loop->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (loop->epoll_fd < 0)
		goto free_loop;
	loop->wake.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (loop->wake.fd < 0)
		goto close_epoll;
	loop->wake.ready = wake_ready;
	err = loop_add(loop, &loop->wake, EPOLLIN);
	if (!err)
		return loop;

	errno = -err;
	close(loop->wake.fd);
close_epoll:
	close(loop->epoll_fd);
free_loop:
	free(loop);
	return NULL;
}

void loop_destroy(struct loop *loop)
{
	if (!loop)
		return;
	loop_remove(loop, &loop->wake);
	ASSERT(list_empty(&loop->watches) && list_empty(&loop->timers) &&
	       list_empty(&loop->tasks) && list_empty(&loop->hooks) && list_empty(&loop->signals) &&
	       list_empty(&loop->pollers));
	close(loop->wake.fd);
	close(loop->epoll_fd);
	free(loop);
}
