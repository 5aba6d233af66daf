/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * vhost-user as a transport for pairs: our front end and our back end, joined by calls in one
 * thread. Messages are delivered at once, as their sender waits for the answer; doorbells,
 * interrupts and requests of the back end wait until a seeded step picks them.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/pair/pair.h"
#include "tests/support/fake_env.h"
#include "tests/support/rig.h"
#include "transport/vhost_user/frontend.h"

#define CLAIMED 0x7f0000000000ull /* where the front end says that its memory lies */
#define MAX_QUEUES 16

struct wire {
	struct pair *pair;
	struct fake_env back;
	struct vhost_user_front front;
	struct vhost_user_front_env env;
	struct vhost_user_front_memory memory;
	u64 random;

	bool open;
	u8 in[512]; /* on its way to the front end */
	u32 n_in, in_at;
	bool lost, woken; /* noted, and told to the driver later */
	u64 n_requests_seen;
	struct {
		bool kicked;
		int call; /* the back end's descriptor; -1: none */
		u64 n_seen; /* rings of it */
	} bells[MAX_QUEUES];
};

static struct wire *wire_of(struct vhost_user_front_env *env)
{
	return container_of(env, struct wire, env);
}

static void back_close(struct wire *w)
{
	if (!w->open)
		return;
	w->open = false;
	fake_env_close(&w->back);
}

/* ---- the front end's system ------------------------------------------------------------ */

static int env_send(struct vhost_user_front_env *env, const void *bytes, u32 n_bytes,
		    const int *fds, u32 n_fds)
{
	struct wire *w = wire_of(env);
	int numbers[VHOST_USER_MAX_FDS];
	u64 before = w->back.n_answers;
	struct vhost_user_header h;
	u64 queue;

	if (!w->open)
		return -EPIPE;
	memcpy(&h, bytes, sizeof(h));
	for (u32 i = 0; i < n_fds; i++) {
		numbers[i] = fake_fd(&w->back, fds[i] == w->memory.fd ? fds[i] : -1);
		if (h.request != VHOST_USER_SET_VRING_CALL)
			continue;
		memcpy(&queue, (const u8 *)bytes + sizeof(h), sizeof(queue));
		assert_true(queue < MAX_QUEUES);
		w->bells[queue].call = numbers[i];
		w->bells[queue].n_seen = 0;
	}
	/* Our own two ends understand each other. */
	if (fake_feed(&w->back, bytes, n_bytes, numbers, n_fds) < 0)
		fail_msg("the back end: %s", w->back.why);
	if (w->back.n_answers != before) {
		memcpy(w->in, w->back.answer, w->back.answer_bytes);
		w->n_in = w->back.answer_bytes;
		w->in_at = 0;
	}
	return 0;
}

static int env_receive(struct vhost_user_front_env *env, void *bytes, u32 n_bytes)
{
	struct wire *w = wire_of(env);

	assert_true(w->n_in - w->in_at >= n_bytes);
	memcpy(bytes, w->in + w->in_at, n_bytes);
	w->in_at += n_bytes;
	return 0;
}

static int env_open_requests(struct vhost_user_front_env *env)
{
	return 1000;
}

static int env_answer(struct vhost_user_front_env *env, const void *bytes, u32 n_bytes)
{
	return 0;
}

static int env_open_doorbells(struct vhost_user_front_env *env, u16 queue, int *kick_fd,
			      int *call_fd)
{
	assert_true(queue < MAX_QUEUES);
	*kick_fd = *call_fd = 2000 + queue;
	return 0;
}

static void env_close_doorbells(struct vhost_user_front_env *env, u16 queue)
{
	wire_of(env)->bells[queue].call = -1;
	wire_of(env)->bells[queue].kicked = false;
}

static void env_kick(struct vhost_user_front_env *env, u16 queue)
{
	wire_of(env)->bells[queue].kicked = true;
}

static void env_lost(struct vhost_user_front_env *env)
{
	wire_of(env)->lost = true;
	back_close(wire_of(env));
}

static void env_wake(struct vhost_user_front_env *env)
{
	wire_of(env)->woken = true;
}

static const struct vhost_user_front_env_ops env_ops = {
	.send = env_send,
	.receive = env_receive,
	.open_requests = env_open_requests,
	.answer = env_answer,
	.open_doorbells = env_open_doorbells,
	.close_doorbells = env_close_doorbells,
	.kick = env_kick,
	.lost = env_lost,
	.wake = env_wake,
};

/* ---- the transport --------------------------------------------------------------------- */

static int wire_connect(struct wire *w)
{
	w->open = true;
	w->back.n_answers = w->back.n_requests = w->n_requests_seen = 0;
	fake_env_open(&w->back);
	return vhost_user_front_connect(&w->front);
}

static void wire_start(struct pair *p)
{
	struct wire *w = calloc(1, sizeof(*w));

	assert_non_null(w);
	w->pair = p;
	w->random = p->seed;
	w->env.ops = &env_ops;
	w->memory = (struct vhost_user_front_memory){ { INPROC_GPA, PAIR_RAM_BYTES, CLAIMED, 0 },
						      p->ram_fd };
	for (u32 i = 0; i < MAX_QUEUES; i++)
		w->bells[i].call = -1;
	fake_env_init(&w->back, p->back);
	vhost_user_front_init(&w->front, &w->env, &p->memory.platform, p->back->type->device_id,
			      p->back->name, &w->memory, 1);
	assert_int_equal(wire_connect(w), 0);
	p->link = w;
	p->front = &w->front.device;
}

static void wire_stop(struct pair *p)
{
	struct wire *w = p->link;

	unregister_virtio_device(p->front);
	back_close(w);
	free(w);
}

enum delivery { KICK, AGAIN, CALL, REQUEST, WAKE, LOST };

static void deliver(struct wire *w, enum delivery what, u16 queue)
{
	switch (what) {
	case KICK:
		w->bells[queue].kicked = false;
		if (w->back.watched[queue] >= 0)
			vhost_user_backend_kicked(&w->back.backend, queue);
		break;
	case AGAIN:
		w->back.again[queue] = false;
		vhost_user_backend_kicked(&w->back.backend, queue);
		break;
	case CALL:
		w->bells[queue].n_seen = w->back.fds[w->bells[queue].call].n_signals;
		vhost_user_front_called(&w->front, queue);
		break;
	case REQUEST:
		w->n_requests_seen = w->back.n_requests;
		assert_true(vhost_user_front_requested(&w->front, &w->back.request,
						       sizeof(w->back.request)));
		break;
	case WAKE:
		w->woken = false;
		vhost_user_front_dispatch(&w->front);
		break;
	case LOST:
		w->lost = false;
		virtio_device_gone(w->pair->front);
		break;
	}
}

/* One of all that waits to be delivered, each with the same chance. */
struct choice {
	u64 *random;
	u32 n;
	enum delivery what;
	u16 queue;
};

static void waits(struct choice *c, bool there, enum delivery what, u16 queue)
{
	if (!there)
		return;
	c->n++;
	if (c->n > 1 && (!*c->random || rig_random(c->random) % c->n > 0))
		return;
	c->what = what;
	c->queue = queue;
}

static bool wire_step(struct pair *p)
{
	struct wire *w = p->link;
	struct choice c = { .random = &w->random };

	for (u16 i = 0; i < MAX_QUEUES && w->open; i++) {
		int call = w->bells[i].call;

		waits(&c, w->bells[i].kicked, KICK, i);
		waits(&c, w->back.again[i], AGAIN, i);
		waits(&c, call >= 0 && w->back.fds[call].n_signals != w->bells[i].n_seen, CALL, i);
	}
	waits(&c, w->open && w->back.n_requests != w->n_requests_seen, REQUEST, 0);
	waits(&c, w->woken, WAKE, 0);
	waits(&c, w->lost, LOST, 0);
	if (c.n > 0)
		deliver(w, c.what, c.queue);
	return c.n > 0;
}

static void wire_cut(struct pair *p)
{
	struct wire *w = p->link;

	back_close(w);
	vhost_user_front_lost(&w->front, "the test cuts the connection");
	deliver(w, LOST, 0);
}

static int wire_join(struct pair *p)
{
	int err = wire_connect(p->link);

	return err ? err : virtio_device_back(p->front);
}

const struct pair_transport pair_vhost_user = {
	.name = "vhost-user",
	.start = wire_start,
	.stop = wire_stop,
	.step = wire_step,
	.cut = wire_cut,
	.join = wire_join,
	.min_queue_size = 256,
};
