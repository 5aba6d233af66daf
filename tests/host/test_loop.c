/* SPDX-License-Identifier: BSD-3-Clause */
/* The event loop: order of a turn, removal from inside callbacks, waking, signals, polling. */
#include "host/loop.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

/* A pipe with something in it, and what its watch saw. */
struct source {
	struct loop_watch watch;
	struct loop *loop;
	int write_fd;
	int n_calls;
	u32 events;
	struct source *victim; /* removed when this one is called */
	struct source *mutes; /* put to rest when this one is called */
	bool spoils; /* the victim's memory is somebody else's afterwards */
	bool takes;
};

static void source_ready(struct loop_watch *w, u32 events)
{
	struct source *s = container_of(w, struct source, watch);
	char c;

	s->n_calls++;
	s->events = events;
	if (s->takes)
		assert_int_equal(read(w->fd, &c, 1), 1);
	if (s->victim)
		loop_remove(s->loop, &s->victim->watch);
	if (s->spoils)
		memset(&s->victim->watch, 0xff, sizeof(s->victim->watch));
	if (s->mutes)
		assert_int_equal(loop_change(s->loop, &s->mutes->watch, 0), 0);
}

static void source_open(struct source *s, struct loop *loop)
{
	int fds[2];

	assert_int_equal(pipe(fds), 0);
	*s = (struct source){ .watch = { .fd = fds[0], .ready = source_ready },
			      .loop = loop,
			      .write_fd = fds[1],
			      .takes = true };
	assert_int_equal(loop_add(loop, &s->watch, EPOLLIN), 0);
}

static void source_feed(struct source *s)
{
	assert_int_equal(write(s->write_fd, "x", 1), 1);
}

static void source_close(struct source *s)
{
	loop_remove(s->loop, &s->watch);
	close(s->watch.fd);
	close(s->write_fd);
}

static int set_up(void **state)
{
	*state = loop_create();
	return *state ? 0 : -1;
}

static int tear_down(void **state)
{
	loop_destroy(*state);
	return 0;
}

static u64 now_ns(struct loop *loop)
{
	struct clock *c = loop_clock(loop);

	return c->ops->now_ns(c);
}

/* ---- watches --------------------------------------------------------------------------- */

static void watch_ready_is_called_until_taken(void **state)
{
	struct source s;

	source_open(&s, *state);
	loop_turn(*state, 0);
	assert_int_equal(s.n_calls, 0);

	source_feed(&s);
	s.takes = false;
	loop_turn(*state, -1);
	loop_turn(*state, -1);
	assert_int_equal(s.n_calls, 2); /* level triggered */
	assert_int_equal(s.events, EPOLLIN);

	s.takes = true;
	loop_turn(*state, -1);
	loop_turn(*state, 0);
	assert_int_equal(s.n_calls, 3);
	source_close(&s);
}

static void watch_removed_by_earlier_callback_is_not_called(void **state)
{
	struct source a, b;

	source_open(&a, *state);
	source_open(&b, *state);
	a.victim = &b;
	b.victim = &a; /* whichever comes first */
	source_feed(&a);
	source_feed(&b);
	loop_turn(*state, -1);
	assert_int_equal(a.n_calls + b.n_calls, 1);
	loop_turn(*state, 0);
	assert_int_equal(a.n_calls + b.n_calls, 1);
	source_close(&a);
	source_close(&b);
}

/* Not even its memory is looked at: a call through what is there now would crash. */
static void watch_removed_and_gone_is_not_touched(void **state)
{
	struct source a, b;
	int fds[2];

	source_open(&a, *state);
	source_open(&b, *state);
	fds[0] = a.watch.fd;
	fds[1] = b.watch.fd;
	a.victim = &b;
	b.victim = &a;
	a.spoils = b.spoils = true;
	source_feed(&a);
	source_feed(&b);
	loop_turn(*state, -1);
	assert_int_equal(a.n_calls + b.n_calls, 1);
	if (a.n_calls)
		loop_remove(*state, &a.watch);
	else
		loop_remove(*state, &b.watch);
	for (int i = 0; i < 2; i++)
		close(fds[i]);
	close(a.write_fd);
	close(b.write_fd);
}

static void watch_muted_by_earlier_callback_is_not_called(void **state)
{
	struct source a, b;

	source_open(&a, *state);
	source_open(&b, *state);
	a.mutes = &b;
	b.mutes = &a;
	source_feed(&a);
	source_feed(&b);
	loop_turn(*state, -1);
	assert_int_equal(a.n_calls + b.n_calls, 1);
	source_close(&a);
	source_close(&b);
}

static void watch_removes_itself_and_frees_itself(void **state)
{
	struct source *s = malloc(sizeof(*s));

	assert_non_null(s);
	source_open(s, *state);
	s->victim = s;
	source_feed(s);
	loop_turn(*state, -1);
	assert_int_equal(s->n_calls, 1);
	source_close(s); /* a second removal does no harm */
	free(s);
	loop_turn(*state, 0);
}

static void watch_without_events_hears_no_hangup(void **state)
{
	struct source s;

	source_open(&s, *state);
	assert_int_equal(loop_change(*state, &s.watch, 0), 0);
	close(s.write_fd);
	loop_turn(*state, 0);
	assert_int_equal(s.n_calls, 0);

	s.takes = false;
	assert_int_equal(loop_change(*state, &s.watch, EPOLLIN), 0);
	loop_turn(*state, -1);
	assert_int_equal(s.n_calls, 1);
	assert_int_equal(s.events, EPOLLHUP);
	s.write_fd = -1;
	source_close(&s);
}

static void watch_on_regular_file_or_twice_is_refused(void **state)
{
	FILE *file = tmpfile();
	struct loop_watch regular = { .fd = fileno(file) }, twice;
	struct source s;

	assert_int_equal(loop_add(*state, &regular, EPOLLIN), -EPERM);
	loop_remove(*state, &regular);
	source_open(&s, *state);
	twice = (struct loop_watch){ .fd = s.watch.fd, .ready = source_ready };
	assert_int_equal(loop_add(*state, &twice, EPOLLIN), -EEXIST);
	source_close(&s);
	fclose(file);
}

/* More ready descriptors than one turn takes: each gets its turn, none twice as often. */
static void watches_beyond_one_fetch_are_served_fairly(void **state)
{
	static struct source s[200];

	for (size_t i = 0; i < ARRAY_SIZE(s); i++) {
		source_open(&s[i], *state);
		s[i].takes = false;
		source_feed(&s[i]);
	}
	for (int turn = 0; turn < 50; turn++)
		loop_turn(*state, -1);
	for (size_t i = 0; i < ARRAY_SIZE(s); i++) {
		assert_in_range(s[i].n_calls, 50 * 64 / 200 - 1, 50 * 64 / 200 + 1);
		source_close(&s[i]);
	}
}

/* ---- timers ---------------------------------------------------------------------------- */

static int n_fired;
static int fired_order[8];

struct test_timer {
	struct clock_timer timer;
	struct loop *loop;
	int id;
	struct test_timer *stops;
	bool restarts;
};

static void timer_fired(struct clock_timer *timer)
{
	struct test_timer *t = container_of(timer, struct test_timer, timer);
	struct clock *c = loop_clock(t->loop);

	assert_int_equal(timer->deadline_ns, 0);
	fired_order[n_fired++ % 8] = t->id;
	if (t->stops)
		c->ops->stop(c, &t->stops->timer);
	if (t->restarts)
		c->ops->start(c, timer, 1);
}

static void timers_fire_in_order_and_not_early(void **state)
{
	struct clock *c = loop_clock(*state);
	struct test_timer t[3];
	u64 start = now_ns(*state);

	n_fired = 0;
	for (int i = 0; i < 3; i++)
		t[i] = (struct test_timer){ { .fired = timer_fired }, *state, i, NULL, false };
	c->ops->start(c, &t[0].timer, start + 300000);
	c->ops->start(c, &t[1].timer, start + 200000);
	c->ops->start(c, &t[2].timer, start + 900000);
	c->ops->start(c, &t[2].timer, start + 100000); /* replaces */
	while (n_fired < 3)
		loop_turn(*state, -1);
	assert_true(now_ns(*state) >= start + 300000);
	assert_int_equal(fired_order[0], 2);
	assert_int_equal(fired_order[1], 1);
	assert_int_equal(fired_order[2], 0);
	c->ops->stop(c, &t[0].timer); /* harmless */
	loop_turn(*state, 0);
	assert_int_equal(n_fired, 3);
}

static void timer_stopped_by_another_due_one_does_not_fire(void **state)
{
	struct clock *c = loop_clock(*state);
	struct test_timer b = { { .fired = timer_fired }, *state, 1, NULL, false };
	struct test_timer a = { { .fired = timer_fired }, *state, 0, &b, false };

	n_fired = 0;
	c->ops->start(c, &a.timer, 1);
	c->ops->start(c, &b.timer, 2);
	loop_turn(*state, -1);
	loop_turn(*state, 0);
	assert_int_equal(n_fired, 1);
	assert_int_equal(fired_order[0], 0);
}

static void timer_restarted_in_the_past_does_not_hold_the_turn(void **state)
{
	struct clock *c = loop_clock(*state);
	struct test_timer t = { { .fired = timer_fired }, *state, 0, NULL, true };

	n_fired = 0;
	c->ops->start(c, &t.timer, 1);
	loop_turn(*state, -1);
	assert_int_equal(n_fired, 1);
	loop_turn(*state, -1);
	assert_int_equal(n_fired, 2);
	c->ops->stop(c, &t.timer);
}

/* A kernel, or a sandbox, that never heard of epoll_pwait2: timers work all the same. */
static void timers_without_epoll_pwait2_fire_and_not_early(void **state)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_epoll_pwait2, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = { ARRAY_SIZE(code), code };
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		struct loop *loop = loop_create();
		struct clock *c = loop_clock(loop);
		struct test_timer t = { { .fired = timer_fired }, loop, 0, NULL, false };
		u64 deadline = now_ns(loop) + 2300000;

		if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
		    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program))
			_exit(77);
		n_fired = 0;
		c->ops->start(c, &t.timer, deadline);
		loop_turn(loop, -1);
		_exit(n_fired != 1 || now_ns(loop) < deadline);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	if (WEXITSTATUS(status) == 77) {
		print_message("no seccomp filters here\n");
		skip();
	}
	assert_int_equal(WEXITSTATUS(status), 0);
}

/* ---- tasks, hooks, stop ---------------------------------------------------------------- */

struct test_task {
	struct loop_task task;
	struct loop *loop;
	int n_runs;
	struct test_task *cancels;
	int again;
};

static void task_run(struct loop_task *task)
{
	struct test_task *t = container_of(task, struct test_task, task);

	t->n_runs++;
	if (t->cancels)
		loop_cancel(t->loop, &t->cancels->task);
	if (t->again-- > 0)
		loop_defer(t->loop, task);
}

static void task_deferred_twice_runs_once(void **state)
{
	struct test_task t = { { .run = task_run }, *state, 0, NULL, 0 };

	loop_defer(*state, &t.task);
	loop_defer(*state, &t.task);
	loop_turn(*state, -1); /* does not sleep */
	loop_turn(*state, 0);
	assert_int_equal(t.n_runs, 1);
}

static void task_cancelled_by_another_does_not_run(void **state)
{
	struct test_task b = { { .run = task_run }, *state, 0, NULL, 0 };
	struct test_task a = { { .run = task_run }, *state, 0, &b, 0 };

	loop_defer(*state, &a.task);
	loop_defer(*state, &b.task);
	loop_turn(*state, -1);
	loop_turn(*state, 0);
	assert_int_equal(a.n_runs, 1);
	assert_int_equal(b.n_runs, 0);
}

static void task_deferred_by_itself_leaves_room_for_watches(void **state)
{
	struct test_task t = { { .run = task_run }, *state, 0, NULL, 3 };
	struct source s;

	source_open(&s, *state);
	s.takes = false;
	source_feed(&s);
	loop_defer(*state, &t.task);
	for (int i = 1; i <= 4; i++) {
		loop_turn(*state, -1);
		assert_int_equal(t.n_runs, i);
		assert_int_equal(s.n_calls, i);
	}
	source_close(&s);
}

struct test_hook {
	struct loop_hook hook;
	struct loop *loop;
	int n_runs;
	struct test_hook *removes;
	struct source *after; /* this one has been called before in the same turn */
};

static void hook_run(struct loop_hook *hook)
{
	struct test_hook *h = container_of(hook, struct test_hook, hook);

	h->n_runs++;
	if (h->after)
		assert_int_equal(h->after->n_calls, h->n_runs);
	if (h->removes)
		loop_remove_hook(h->loop, &h->removes->hook);
}

static void hook_runs_after_the_watches_of_every_turn(void **state)
{
	struct source s;
	struct test_hook h = { { .run = hook_run }, *state, 0, NULL, &s };

	source_open(&s, *state);
	s.takes = false;
	source_feed(&s);
	loop_add_hook(*state, &h.hook);
	for (int i = 1; i <= 3; i++) {
		loop_turn(*state, -1);
		assert_int_equal(h.n_runs, i);
	}
	loop_remove_hook(*state, &h.hook);
	source_close(&s);
}

static void hook_removed_by_another_does_not_run(void **state)
{
	struct test_hook b = { { .run = hook_run }, *state, 0, NULL, NULL };
	struct test_hook a = { { .run = hook_run }, *state, 0, &b, NULL };

	loop_add_hook(*state, &a.hook);
	loop_add_hook(*state, &b.hook);
	loop_turn(*state, 0);
	assert_int_equal(a.n_runs, 1);
	assert_int_equal(b.n_runs, 0);
	a.removes = &a;
	loop_turn(*state, 0);
	loop_turn(*state, 0);
	assert_int_equal(a.n_runs, 2);
}

static struct loop *to_stop;

static void task_stop(struct loop_task *t)
{
	loop_stop(to_stop, 42);
}

static void run_stopped_by_a_task_returns_its_status(void **state)
{
	struct loop_task t = { .run = task_stop };

	to_stop = *state;
	loop_defer(*state, &t);
	assert_int_equal(loop_run(*state), 42);
	loop_defer(*state, &t); /* and again: a stop is used up */
	assert_int_equal(loop_run(*state), 42);
	loop_stop(*state, 7); /* before it runs, too */
	assert_int_equal(loop_run(*state), 7);
}

/* ---- waking from elsewhere ------------------------------------------------------------- */

#define N_WAKES 20000

struct waker {
	struct loop *loop;
	int published; /* by the thread, before each wake */
};

static void *waker_main(void *arg)
{
	struct waker *w = arg;

	for (int i = 1; i <= N_WAKES; i++) {
		__atomic_store_n(&w->published, i, __ATOMIC_RELAXED);
		loop_wake(w->loop);
	}
	return NULL;
}

/* A lost wake-up leaves this test asleep, and the harness ends it. */
static void wake_from_a_thread_is_never_lost(void **state)
{
	struct waker w = { *state, 0 };
	pthread_t thread;

	assert_int_equal(pthread_create(&thread, NULL, waker_main, &w), 0);
	while (__atomic_load_n(&w.published, __ATOMIC_RELAXED) < N_WAKES)
		loop_turn(*state, -1);
	assert_int_equal(pthread_join(thread, NULL), 0);
}

struct test_signal {
	struct loop_signal signal;
	int n_raised;
};

static void signal_raised(struct loop_signal *signal)
{
	container_of(signal, struct test_signal, signal)->n_raised++;
}

static void signal_is_told_in_a_turn_and_restored_on_removal(void **state)
{
	struct test_signal usr1 = { { SIGUSR1, signal_raised } },
			   usr2 = { { SIGUSR2, signal_raised } };
	struct test_signal twice = { { SIGUSR1, signal_raised } };
	struct sigaction after;

	assert_int_equal(loop_add_signal(*state, &usr1.signal), 0);
	assert_int_equal(loop_add_signal(*state, &usr2.signal), 0);
	assert_int_equal(loop_add_signal(*state, &twice.signal), -EBUSY);
	raise(SIGUSR1);
	assert_int_equal(usr1.n_raised, 0); /* not inside the handler */
	loop_turn(*state, -1);
	assert_int_equal(usr1.n_raised, 1);
	assert_int_equal(usr2.n_raised, 0);
	loop_turn(*state, 0);
	assert_int_equal(usr1.n_raised, 1);

	loop_remove_signal(*state, &twice.signal); /* was never added: no effect */
	raise(SIGUSR1);
	loop_turn(*state, -1);
	assert_int_equal(usr1.n_raised, 2);
	loop_remove_signal(*state, &usr1.signal);
	loop_remove_signal(*state, &usr2.signal);
	assert_int_equal(sigaction(SIGUSR1, NULL, &after), 0);
	assert_ptr_equal(after.sa_handler, SIG_DFL);
}

static void signal_out_of_range_is_refused(void **state)
{
	struct test_signal none = { { 0, signal_raised } }, kill = { { SIGKILL, signal_raised } };

	assert_int_equal(loop_add_signal(*state, &none.signal), -EINVAL);
	assert_int_equal(loop_add_signal(*state, &kill.signal), -EINVAL);
}

/* ---- polling --------------------------------------------------------------------------- */

struct test_poller {
	struct loop_poller poller;
	struct loop *loop;
	int n_polls, n_on, n_off;
	int polls_after_off;
	int work; /* so many polls find something */
	int work_when_off; /* comes when polling is turned off */
	bool on, removes_itself;
};

static bool poller_poll(struct loop_poller *poller)
{
	struct test_poller *p = container_of(poller, struct test_poller, poller);

	p->n_polls++;
	if (!p->on)
		p->polls_after_off++;
	if (p->removes_itself)
		loop_remove_poller(p->loop, poller);
	return p->work > 0 && p->work--;
}

static void poller_set(struct loop_poller *poller, bool on)
{
	struct test_poller *p = container_of(poller, struct test_poller, poller);

	assert_true(p->on != on);
	p->on = on;
	if (on) {
		p->n_on++;
	} else {
		p->n_off++;
		p->work += p->work_when_off;
	}
}

/* Work has just been seen, so that the loop is inclined to poll. */
static void make_busy(struct loop *loop)
{
	struct source s;

	loop_set_poll_limit(loop, 1000000000000); /* any pause of this test is short */
	source_open(&s, loop);
	source_feed(&s);
	loop_turn(loop, -1);
	source_close(&s);
}

static void poller_is_polled_after_work_then_turned_off_and_looked_at_last(void **state)
{
	struct test_poller p = { { poller_poll, poller_set }, *state };

	loop_add_poller(*state, &p.poller);
	loop_turn(*state, 0);
	assert_int_equal(p.n_polls, 0); /* nothing happened yet: asleep */
	make_busy(*state);
	p.work = 5;
	for (int i = 1; i <= 5; i++) {
		loop_turn(*state, -1); /* would sleep for ever */
		assert_int_equal(p.n_on, 1);
		assert_int_equal(p.n_off, 0);
	}
	loop_turn(*state, 1);
	assert_int_equal(p.n_on, 1);
	assert_int_equal(p.n_off, 1);
	assert_int_equal(p.polls_after_off, 1); /* the last look */
	assert_true(p.n_polls >= 7);

	loop_remove_poller(*state, &p.poller);
}

/* What arrives just before notifications are on again is seen, or this test sleeps for ever. */
static void poller_finding_work_in_the_last_look_keeps_the_loop_awake(void **state)
{
	struct test_poller p = { { poller_poll, poller_set }, *state };

	loop_add_poller(*state, &p.poller);
	make_busy(*state);
	p.work_when_off = 3;
	loop_turn(*state, -1);
	assert_int_equal(p.n_off, 1);
	assert_int_equal(p.polls_after_off, 1);
	assert_int_equal(p.work, 2);
	loop_turn(*state, -1); /* and there is more */
	assert_int_equal(p.n_on, 2);
	assert_int_equal(p.work, 1);
	loop_remove_poller(*state, &p.poller);
}

static void poller_that_always_finds_work_does_not_starve_watches_and_timers(void **state)
{
	struct test_poller p = { { poller_poll, poller_set }, *state };
	struct clock *c = loop_clock(*state);
	struct test_timer t = { { .fired = timer_fired }, *state, 0, NULL, false };
	struct source s;

	loop_add_poller(*state, &p.poller);
	make_busy(*state);
	p.work = 1000000;
	source_open(&s, *state);
	source_feed(&s);
	n_fired = 0;
	c->ops->start(c, &t.timer, 1);
	loop_turn(*state, -1);
	assert_int_equal(n_fired, 1);
	for (int i = 0; i < 16; i++)
		loop_turn(*state, -1);
	assert_int_equal(s.n_calls, 1);
	source_close(&s);
	loop_remove_poller(*state, &p.poller);
}

static void poller_removed_by_itself_is_turned_off_and_left_alone(void **state)
{
	struct test_poller p = { { poller_poll, poller_set }, *state };

	loop_add_poller(*state, &p.poller);
	make_busy(*state);
	p.removes_itself = true;
	loop_turn(*state, 1);
	assert_int_equal(p.n_polls, 1);
	assert_int_equal(p.n_off, p.n_on);
	loop_turn(*state, 1);
	assert_int_equal(p.n_polls, 1);
}

static void poll_limit_zero_never_polls(void **state)
{
	struct test_poller p = { { poller_poll, poller_set }, *state };

	loop_add_poller(*state, &p.poller);
	make_busy(*state);
	loop_set_poll_limit(*state, 0);
	loop_turn(*state, 1);
	assert_int_equal(p.n_polls, 0);
	assert_int_equal(p.n_on, 0);
	loop_remove_poller(*state, &p.poller);
}

static void work_that_comes_seldom_is_not_polled_for(void **state)
{
	struct test_poller p = { { poller_poll, poller_set }, *state };
	struct source s;
	int polls;

	loop_add_poller(*state, &p.poller);
	make_busy(*state);
	loop_turn(*state, 1); /* polls a little, then sleeps a millisecond */
	loop_set_poll_limit(*state, 1000); /* work comes at a pause of more than that */
	source_open(&s, *state);
	source_feed(&s);
	loop_turn(*state, -1);
	polls = p.n_polls;
	loop_turn(*state, 1);
	loop_turn(*state, 1);
	assert_int_equal(p.n_polls, polls);
	assert_int_equal(p.on, false);
	source_close(&s);
	loop_remove_poller(*state, &p.poller);
}

/* One second with a poller, a watch and a hook, and nothing to do: no more than a few turns. */
static void idle_loop_sleeps_in_the_kernel(void **state)
{
	struct test_poller p = { { poller_poll, poller_set }, *state };
	struct test_hook h = { { .run = hook_run }, *state, 0, NULL, NULL };
	struct rusage before, after;
	struct source s;
	long cpu_us;

	source_open(&s, *state);
	loop_add_poller(*state, &p.poller);
	make_busy(*state);
	loop_set_poll_limit(*state, 32000);
	loop_add_hook(*state, &h.hook);
	assert_int_equal(getrusage(RUSAGE_THREAD, &before), 0);
	loop_turn(*state, 1000);
	assert_int_equal(getrusage(RUSAGE_THREAD, &after), 0);
	cpu_us = (after.ru_utime.tv_sec - before.ru_utime.tv_sec) * 1000000 +
		 (after.ru_utime.tv_usec - before.ru_utime.tv_usec) +
		 (after.ru_stime.tv_sec - before.ru_stime.tv_sec) * 1000000 +
		 (after.ru_stime.tv_usec - before.ru_stime.tv_usec);
	print_message("one idle second took %ld us of processor time\n", cpu_us);
	assert_in_range(cpu_us, 0, 20000);
	assert_int_equal(h.n_runs, 1);
	loop_remove_hook(*state, &h.hook);
	loop_remove_poller(*state, &p.poller);
	source_close(&s);
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(watch_ready_is_called_until_taken),
		CASE(watch_removed_by_earlier_callback_is_not_called),
		CASE(watch_removed_and_gone_is_not_touched),
		CASE(watch_muted_by_earlier_callback_is_not_called),
		CASE(watch_removes_itself_and_frees_itself),
		CASE(watch_without_events_hears_no_hangup),
		CASE(watch_on_regular_file_or_twice_is_refused),
		CASE(watches_beyond_one_fetch_are_served_fairly),
		CASE(timers_fire_in_order_and_not_early),
		CASE(timer_stopped_by_another_due_one_does_not_fire),
		CASE(timer_restarted_in_the_past_does_not_hold_the_turn),
		CASE(timers_without_epoll_pwait2_fire_and_not_early),
		CASE(task_deferred_twice_runs_once),
		CASE(task_cancelled_by_another_does_not_run),
		CASE(task_deferred_by_itself_leaves_room_for_watches),
		CASE(hook_runs_after_the_watches_of_every_turn),
		CASE(hook_removed_by_another_does_not_run),
		CASE(run_stopped_by_a_task_returns_its_status),
		CASE(wake_from_a_thread_is_never_lost),
		CASE(signal_is_told_in_a_turn_and_restored_on_removal),
		CASE(signal_out_of_range_is_refused),
		CASE(poller_is_polled_after_work_then_turned_off_and_looked_at_last),
		CASE(poller_finding_work_in_the_last_look_keeps_the_loop_awake),
		CASE(poller_that_always_finds_work_does_not_starve_watches_and_timers),
		CASE(poller_removed_by_itself_is_turned_off_and_left_alone),
		CASE(poll_limit_zero_never_polls),
		CASE(work_that_comes_seldom_is_not_polled_for),
		CASE(idle_loop_sleeps_in_the_kernel),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
