/* SPDX-License-Identifier: BSD-3-Clause */
/* The echo: pops, copies out to in, pushes. */
#include "tests/support/echo.h"

#include <errno.h>
#include <string.h>

static struct echo *echo_of(struct vdev *vdev)
{
	return container_of(vdev, struct echo, vdev);
}

static void echo_answer(struct echo *e, u16 queue, struct chain *c)
{
	u32 n = sg_copy(&c->in, &c->out, c->out.n_bytes);

	vdev_push(&e->vdev, queue, c, n);
	e->n_answered++;
}

static void echo_kick(struct vdev *vdev, u16 queue)
{
	struct echo *e = echo_of(vdev);

	while (!e->holding[queue]) {
		struct chain c = { .spans = e->hold ? e->held_spans[queue] : e->spans,
				   .max_spans = ARRAY_SIZE(e->spans) };

		if (vdev_pop(vdev, queue, &c) <= 0)
			return;
		if (e->hold) {
			e->held[queue] = c;
			e->holding[queue] = true;
		} else {
			echo_answer(e, queue, &c);
		}
	}
}

static void echo_drain(struct vdev *vdev)
{
	struct echo *e = echo_of(vdev);

	for (u16 i = 0; i < vdev->n_queues; i++) {
		if (!e->holding[i])
			continue;
		e->holding[i] = false;
		if (e->put_back)
			vdev_unpop(vdev, i, &e->held[i]);
		else
			vdev_push(vdev, i, &e->held[i], 0);
	}
}

void echo_release(struct echo *e)
{
	for (u16 i = 0; i < e->vdev.n_queues; i++) {
		if (!e->holding[i])
			continue;
		e->holding[i] = false;
		echo_answer(e, i, &e->held[i]);
	}
	vdev_flush(&e->vdev);
}

static int echo_check(struct vdev *vdev, const struct features *accepted)
{
	return echo_of(vdev)->refuse ? -EINVAL : 0;
}

static void echo_activate(struct vdev *vdev)
{
	echo_of(vdev)->n_activated++;
}

static void echo_reset(struct vdev *vdev)
{
	echo_of(vdev)->n_reset++;
}

static const struct vdev_type echo_type = {
	.name = "echo",
	.device_id = 0xec0,
	.check_features = echo_check,
	.activate = echo_activate,
	.drain = echo_drain,
	.reset = echo_reset,
	.kick = echo_kick,
};

void echo_init(struct echo *e, u16 n_queues)
{
	struct arena arena = { .base = e->arena };
	struct vdev_queue *queues;

	memset(e, 0, sizeof(*e));
	for (u32 i = 0; i < sizeof(e->config); i++)
		e->config[i] = i;
	ASSERT(n_queues <= ECHO_MAX_QUEUES);
	queues = vdev_carve_queues(&arena, n_queues, ECHO_QUEUE_SIZE);
	ASSERT(arena.used_bytes <= sizeof(e->arena));
	vdev_init(&e->vdev, &echo_type, "echo", e->config, sizeof(e->config), queues, n_queues);
	features_set(&e->vdev.offered, 5);
	e->vdev.writable[0] = (struct vdev_writable){ 4, 4 };
}
