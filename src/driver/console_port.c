/* SPDX-License-Identifier: BSD-3-Clause */
/* The bytes of a port: buffers, input, output. */
#include "driver/console_parts.h"

#include "base/shared.h"

/* ---- buffers ---------------------------------------------------------------------------- */

void driver_console_post_input(struct virtqueue *vq, struct buffer in[], const struct buffer *but)
{
	for (u32 i = 0; i < N_BUFFERS; i++) {
		struct buffer *b = &in[i];
		struct span s = { b->bytes, BUFFER_BYTES };

		if (b->posted || b == but)
			continue;
		b->posted = virtqueue_add_buf(vq, &s, 0, 1, b) == 0;
		if (!b->posted)
			break;
	}
	virtqueue_kick(vq);
}

bool driver_console_post_output(struct virtqueue *vq, struct buffer *b)
{
	struct span s = { b->bytes, b->n_bytes };

	b->posted = virtqueue_add_buf(vq, &s, 1, 0, b) == 0;
	return b->posted;
}

struct buffer *driver_console_get(struct virtqueue *vq, u32 *n_written)
{
	struct buffer *b = virtqueue_get_buf(vq, n_written);

	if (b)
		b->posted = false;
	else
		virtio_queue_failed(vq);
	return b;
}

void driver_console_reap_output(struct virtqueue *vq)
{
	struct buffer *b;
	u32 n; /* means nothing for output */

	while ((b = driver_console_get(vq, &n)))
		b->n_bytes = 0;
}

/* ---- input and output ------------------------------------------------------------------- */

static u32 port_read(struct port *p, u8 *bytes, u32 n)
{
	u32 done = 0;

	/* So often and no more: a device may return buffers with nothing in them for ever. */
	for (u32 i = 0; i <= N_BUFFERS && done < n; i++) {
		u32 some;

		if (!p->reading) {
			p->at = p->end = 0;
			p->reading = driver_console_get(p->rx, &p->end);
			if (!p->reading)
				break;
		}
		some = min_u64(n - done, p->end - p->at);
		memcpy(bytes + done, p->reading->bytes + p->at, some);
		done += some;
		p->at += some;
		if (p->at == p->end)
			p->reading = NULL;
	}
	driver_console_post_input(p->rx, p->in, p->reading);
	return done;
}

static u32 port_write(struct port *p, const u8 *bytes, u32 n)
{
	u32 done = 0;

	driver_console_reap_output(p->tx);
	while (done < n) {
		struct buffer *b = &p->out[p->next];

		if (b->n_bytes)
			break;
		b->n_bytes = min_u64(n - done, BUFFER_BYTES);
		memcpy(b->bytes, bytes + done, b->n_bytes);
		if (!driver_console_post_output(p->tx, b)) {
			b->n_bytes = 0;
			break;
		}
		done += b->n_bytes;
		p->next = (p->next + 1) % N_BUFFERS;
	}
	p->cut_short = done < n;
	virtqueue_kick(p->tx);
	return done;
}

void driver_console_port_start(struct port *p)
{
	driver_console_post_input(p->rx, p->in, p->reading);
	for (u32 i = 0; i < N_BUFFERS; i++) {
		struct buffer *b = &p->out[(p->next + i) % N_BUFFERS];

		if (b->n_bytes && !b->posted && !driver_console_post_output(p->tx, b))
			b->n_bytes = 0; /* a smaller queue than before: lost */
	}
	virtqueue_kick(p->tx);
}

void driver_console_port_forget(struct port *p)
{
	u32 n;

	p->reading = NULL;
	while (p->rx && driver_console_get(p->rx, &n))
		;
	for (u32 i = 0; i < N_BUFFERS; i++)
		if (!p->out[i].posted)
			p->out[i].n_bytes = 0;
	p->info.open = false;
}

/* ---- callbacks and calls ---------------------------------------------------------------- */

void driver_console_input_came(struct virtqueue *vq)
{
	struct port *p = vq->priv;
	struct console *c = p->console;

	if (virtio_queue_failed(vq) || !p->there)
		return;
	if (c->ears && c->ears->input)
		c->ears->input(c->owner, p->id);
}

void driver_console_output_taken(struct virtqueue *vq)
{
	struct port *p = vq->priv;
	struct console *c = p->console;
	bool room;

	platform_lock(c->vdev->platform);
	driver_console_reap_output(vq);
	room = p->there && p->cut_short && p->out[p->next].n_bytes == 0;
	p->cut_short &= !room;
	platform_unlock(c->vdev->platform);
	if (room && c->ears && c->ears->room)
		c->ears->room(c->owner, p->id);
}

static struct port *port_of(struct virtio_device *vdev, u32 id)
{
	struct console *c = vdev->priv;

	return driver_console_port(vdev, id) ? &c->ports[id] : NULL;
}

int driver_console_read(struct virtio_device *vdev, u32 id, void *bytes, u32 n)
{
	struct port *p = port_of(vdev, id);
	u32 done;

	if (!p)
		return -ENODEV;
	platform_lock(vdev->platform);
	done = port_read(p, bytes, n);
	platform_unlock(vdev->platform);
	return done;
}

int driver_console_write(struct virtio_device *vdev, u32 id, const void *bytes, u32 n)
{
	struct port *p = port_of(vdev, id);
	u32 done;

	if (!p)
		return -ENODEV;
	platform_lock(vdev->platform);
	done = port_write(p, bytes, n);
	platform_unlock(vdev->platform);
	return done;
}
