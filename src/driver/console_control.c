/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What is told of ports, both ways. What the device has yet to hear is two bits a port, told
 * when there is a buffer: a device that talks without end cannot make us queue without end.
 */
#include "driver/console_parts.h"

#include "base/shared.h"

/* ---- what we tell ------------------------------------------------------------------------ */

/* False: no buffer is free, control_taken goes on. No kick. */
static bool tell(struct console *c, u32 id, u16 event, u16 value)
{
	struct virtio_console_control message = { le32_of(id), le16_of(event), le16_of(value) };

	for (u32 i = 0; i < N_BUFFERS; i++) {
		struct buffer *b = &c->control_out[i];

		if (b->posted)
			continue;
		memcpy(b->bytes, &message, sizeof(message));
		b->n_bytes = sizeof(message);
		return driver_console_post_output(c->vqs[VIRTIO_CONSOLE_CONTROL_TX_QUEUE], b);
	}
	return false;
}

/* Ready before open: a device may pass over what it hears of a port that is not ready. */
static bool tell_port(struct console *c, struct port *p)
{
	if ((p->tell & TELL_READY) && !tell(c, p->id, VIRTIO_CONSOLE_PORT_READY, 1))
		return false;
	p->tell &= ~TELL_READY;
	if ((p->tell & TELL_OPEN) && !tell(c, p->id, VIRTIO_CONSOLE_PORT_OPEN, p->info.open))
		return false;
	p->tell = 0;
	return true;
}

void driver_console_tell_all(struct console *c)
{
	struct virtqueue *vq = c->vqs[VIRTIO_CONSOLE_CONTROL_TX_QUEUE];

	driver_console_reap_output(vq);
	for (u32 i = 0; i < c->n_ports && tell_port(c, &c->ports[i]); i++)
		;
	virtqueue_kick(vq);
}

void driver_console_control_start(struct console *c)
{
	struct virtqueue *rx = c->vqs[VIRTIO_CONSOLE_CONTROL_RX_QUEUE];

	rx->priv = c->vqs[VIRTIO_CONSOLE_CONTROL_TX_QUEUE]->priv = c;
	driver_console_post_input(rx, c->control_in, NULL);
	tell(c, 0, VIRTIO_CONSOLE_DEVICE_READY, 1); /* G-CONSOLE-5.3.6.2.2-01 */
	driver_console_tell_all(c);
}

/* ---- what the device tells us ------------------------------------------------------------ */

void driver_console_port_comes(struct port *p)
{
	p->there = true;
	p->info.life++;
	p->info.name[0] = 0;
	p->info.is_console = false;
	p->info.cols = p->info.rows = 0;
	p->info.device_open = !p->console->multiport;
	driver_console_port_start(p);
	if (p->console->multiport)
		p->tell = TELL_READY | (p->info.open ? TELL_OPEN : 0);
	if (p->id == 0)
		driver_console_read_size(p->console);
}

void driver_console_port_goes(struct port *p)
{
	p->there = false;
	p->tell = 0;
	p->cut_short = false;
}

void driver_console_read_size(struct console *c)
{
	struct port *p = &c->ports[0];

	if (!p->there || !virtio_has_feature(c->vdev, VIRTIO_CONSOLE_F_SIZE))
		return;
	p->info.cols = VIRTIO_CREAD(c->vdev, struct virtio_console_config, cols);
	p->info.rows = VIRTIO_CREAD(c->vdev, struct virtio_console_config, rows);
}

/* D11: a name ends where the message ends, or at a 0, or where we have no more room. */
static void take_name(struct port *p, const u8 *bytes, u32 n)
{
	u32 i;

	for (i = 0; i < n && i < DRIVER_CONSOLE_NAME_BYTES - 1 && bytes[i]; i++)
		p->info.name[i] = bytes[i];
	p->info.name[i] = 0;
}

/* News of a port that is there: `n` more bytes came with it. False: it makes no sense. */
static bool port_hears(struct port *p, u16 event, u16 value, const u8 *more, u32 n)
{
	struct virtio_console_resize size;

	switch (event) {
	case VIRTIO_CONSOLE_DEVICE_REMOVE:
		driver_console_port_goes(p);
		driver_console_port_forget(p);
		return true;
	case VIRTIO_CONSOLE_CONSOLE_PORT: /* G-CONSOLE-5.3.6.2.2-02b, -02c */
		p->info.is_console = true;
		p->info.open = true;
		p->tell |= TELL_OPEN;
		return true;
	case VIRTIO_CONSOLE_RESIZE:
		if (n < sizeof(size))
			return false;
		memcpy(&size, more, sizeof(size));
		p->info.cols = le16_get(size.cols);
		p->info.rows = le16_get(size.rows);
		return true;
	case VIRTIO_CONSOLE_PORT_OPEN:
		p->info.device_open = value != 0;
		return true;
	case VIRTIO_CONSOLE_PORT_NAME:
		take_name(p, more, n);
		return true;
	default:
		return false;
	}
}

/* One message, of which this is our copy. The port that changed, as a bit. */
static u32 hear(struct console *c, const u8 *bytes, u32 n)
{
	struct virtio_console_control message;
	struct port *p;
	u16 event;
	u32 id;

	if (n < sizeof(message))
		return 0;
	memcpy(&message, bytes, sizeof(message));
	id = le32_get(message.id);
	event = le16_get(message.event);
	if (id >= c->n_ports) { /* D11: more than there can be, or than we want */
		if (event == VIRTIO_CONSOLE_DEVICE_ADD)
			tell(c, id, VIRTIO_CONSOLE_PORT_READY, 0);
		return 0;
	}
	p = &c->ports[id];
	if (!p->there && event == VIRTIO_CONSOLE_DEVICE_ADD)
		driver_console_port_comes(p);
	else if (!p->there || !port_hears(p, event, le16_get(message.value),
					  bytes + sizeof(message), n - sizeof(message)))
		return 0;
	return 1u << id;
}

/* ---- callbacks --------------------------------------------------------------------------- */

void driver_console_tell_owner(struct console *c, u32 changed)
{
	for (u32 i = 0; i < c->max_ports; i++)
		if ((changed >> i & 1) && c->ears && c->ears->changed)
			c->ears->changed(c->owner, i);
}

void driver_console_control_came(struct virtqueue *vq)
{
	struct console *c = vq->priv;
	struct platform *platform = c->vdev->platform;
	u32 n, changed = 0;
	struct buffer *b;

	platform_lock(platform);
	/* Buffers go back only afterwards: the device cannot keep us here. */
	while ((b = driver_console_get(vq, &n))) {
		u8 message[BUFFER_BYTES];

		copy_once(message, b->bytes, n);
		changed |= hear(c, message, n);
	}
	driver_console_post_input(vq, c->control_in, NULL);
	driver_console_tell_all(c);
	platform_unlock(platform);
	driver_console_tell_owner(c, changed);
}

void driver_console_control_taken(struct virtqueue *vq)
{
	struct console *c = vq->priv;

	platform_lock(c->vdev->platform);
	driver_console_tell_all(c);
	platform_unlock(c->vdev->platform);
}
