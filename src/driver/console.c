/* SPDX-License-Identifier: BSD-3-Clause */
/* The console driver: the owner's calls, life and death. See console_parts.h for the rest. */
#include "driver/console.h"

#include "driver/console_parts.h"

/* ---- the owner's calls ------------------------------------------------------------------- */

static bool is_bound(const struct virtio_device *vdev)
{
	return vdev->driver == &driver_console && vdev->state != VIRTIO_STATE_UNBOUND;
}

int driver_console_listen(struct virtio_device *vdev, const struct driver_console_ears *ears,
			  void *owner)
{
	struct console *c = vdev->priv;
	u32 there = 0;

	if (!is_bound(vdev))
		return -ENODEV;
	c->ears = ears;
	c->owner = owner;
	for (u32 i = 0; i < c->n_ports; i++)
		there |= (u32)c->ports[i].there << i;
	driver_console_tell_owner(c, there);
	return 0;
}

const struct driver_console_port *driver_console_port(const struct virtio_device *vdev, u32 id)
{
	const struct console *c = vdev->priv;

	if (!is_bound(vdev) || id >= c->n_ports || !c->ports[id].there)
		return NULL;
	return &c->ports[id].info;
}

int driver_console_open(struct virtio_device *vdev, u32 id, bool open)
{
	struct console *c = vdev->priv;
	struct port *p;

	if (!driver_console_port(vdev, id))
		return -ENODEV;
	p = &c->ports[id];
	platform_lock(vdev->platform);
	if (p->info.open != open && c->multiport) {
		p->info.open = open;
		p->tell |= TELL_OPEN;
		driver_console_tell_all(c);
	}
	p->info.open = open;
	platform_unlock(vdev->platform);
	return 0;
}

int driver_console_emergency(struct virtio_device *vdev, u8 byte)
{
	/* Offered is enough: it may be written whatever state the device is in. */
	if (vdev->driver != &driver_console ||
	    !features_has(&vdev->offered, VIRTIO_CONSOLE_F_EMERG_WRITE))
		return -EOPNOTSUPP;
	virtio_cwrite(vdev, offsetof(struct virtio_console_config, emerg_wr), 4, byte);
	return 0;
}

static void console_config_changed(struct virtio_device *vdev)
{
	struct console *c = vdev->priv;

	driver_console_read_size(c);
	driver_console_tell_owner(c, c->ports[0].there);
}

/* ---- life and death ---------------------------------------------------------------------- */

/* How many ports the device says it has; it may say anything (D04, D11). */
static u32 ports_said(struct virtio_device *vdev)
{
	u64 n = 1;

	if (virtio_has_feature(vdev, VIRTIO_CONSOLE_F_MULTIPORT))
		n = VIRTIO_CREAD(vdev, struct virtio_console_config, max_nr_ports);
	return min_u64(max_u64(n, 1), DRIVER_CONSOLE_MAX_PORTS);
}

static const struct virtqueue_info port_queues[] = {
	{ .name = "input", .callback = driver_console_input_came, .max_size = N_BUFFERS },
	{ .name = "output", .callback = driver_console_output_taken, .max_size = N_BUFFERS },
};
static const struct virtqueue_info control_queues[] = {
	{ .name = "control-in", .callback = driver_console_control_came, .max_size = N_BUFFERS },
	{ .name = "control-out", .callback = driver_console_control_taken, .max_size = N_BUFFERS },
};

/* Finds the queues and says that we are there; the last step of probe and of restore. */
static int console_start(struct virtio_device *vdev)
{
	struct console *c = vdev->priv;
	struct virtqueue_info infos[MAX_QUEUES];
	u32 n_vqs;
	int err;

	c->multiport = virtio_has_feature(vdev, VIRTIO_CONSOLE_F_MULTIPORT);
	c->n_ports = min_u64(ports_said(vdev), c->max_ports);
	n_vqs = c->multiport ? 2 * c->n_ports + 2 : 2;
	for (u32 i = 0; i < n_vqs; i++) {
		bool control = i / 2 == VIRTIO_CONSOLE_CONTROL_RX_QUEUE / 2;

		infos[i] = (control ? control_queues : port_queues)[i % 2];
	}
	err = virtio_find_vqs(vdev, n_vqs, c->vqs, infos);
	if (err < 0)
		return err;
	c->n_vqs = n_vqs;
	for (u32 i = 0; i < c->n_ports; i++) {
		struct port *p = &c->ports[i];

		p->rx = c->vqs[VIRTIO_CONSOLE_RX_QUEUE(i)];
		p->tx = c->vqs[VIRTIO_CONSOLE_TX_QUEUE(i)];
		p->rx->priv = p->tx->priv = p;
	}
	virtio_device_ready(vdev); /* the device may be notified only from here on */
	platform_lock(vdev->platform); /* and so may we */
	if (c->multiport)
		driver_console_control_start(c);
	else
		driver_console_port_comes(&c->ports[0]);
	platform_unlock(vdev->platform);
	driver_console_tell_owner(c, c->ports[0].there);
	return 0;
}

/* Output that was taken before the end is not sent again; all other buffers just come back. */
static void console_stop(struct console *c)
{
	for (u32 i = 0; i < c->n_ports; i++) {
		struct port *p = &c->ports[i];

		if (p->tx)
			driver_console_reap_output(p->tx);
		p->rx = p->tx = NULL;
	}
	for (u32 i = 0; i < c->n_vqs; i++) {
		struct buffer *b;

		while ((b = virtqueue_detach(c->vqs[i])))
			b->posted = false;
	}
	c->n_vqs = 0;
	c->vdev->config->del_vqs(c->vdev);
}

static void console_freeze(struct virtio_device *vdev)
{
	struct console *c = vdev->priv;
	u32 went = 0;

	console_stop(c);
	for (u32 i = 0; i < c->n_ports; i++) {
		went |= (u32)c->ports[i].there << i;
		driver_console_port_goes(&c->ports[i]);
	}
	driver_console_tell_owner(c, went);
}

static void console_give_up(struct virtio_device *vdev)
{
	struct console *c = vdev->priv;

	for (u32 i = 0; i < c->max_ports; i++)
		driver_console_port_forget(&c->ports[i]);
}

static size_t console_bytes(u32 n_ports)
{
	return sizeof(struct console) + n_ports * sizeof(struct port);
}

/* A queue of input and one of output for each port and for control. */
static size_t memory_bytes(u32 n_ports)
{
	return (size_t)(n_ports + 1) * 2 * N_BUFFERS * BUFFER_BYTES;
}

static void console_free(struct virtio_device *vdev)
{
	struct platform *platform = vdev->platform;
	struct console *c = vdev->priv;

	if (c->memory)
		platform->ops->dma_free(platform, c->memory, memory_bytes(c->max_ports));
	platform->ops->free(platform, c, console_bytes(c->max_ports));
}

static void console_remove(struct virtio_device *vdev)
{
	struct console *c = vdev->priv;

	if (c->n_vqs)
		console_stop(c);
	console_free(vdev);
}

static u8 *lend(struct buffer buffers[], u8 *memory)
{
	for (u32 i = 0; i < N_BUFFERS; i++, memory += BUFFER_BYTES)
		buffers[i].bytes = memory;
	return memory;
}

static int console_probe(struct virtio_device *vdev)
{
	struct platform *platform = vdev->platform;
	u32 n_ports = ports_said(vdev);
	struct console *c = platform->ops->alloc(platform, console_bytes(n_ports));
	u8 *at;
	int err;

	if (!c)
		return -ENOMEM;
	vdev->priv = c;
	c->vdev = vdev;
	c->max_ports = n_ports;
	at = c->memory = platform->ops->dma_alloc(platform, memory_bytes(n_ports), 64, &(u64){ 0 });
	if (at) {
		at = lend(c->control_out, lend(c->control_in, at));
		for (u32 i = 0; i < n_ports; i++) {
			struct port *p = &c->ports[i];

			p->console = c;
			p->id = i;
			at = lend(p->out, lend(p->in, at));
		}
	}
	err = at ? console_start(vdev) : -ENOMEM;
	if (err < 0)
		console_free(vdev);
	return err;
}

static const struct virtio_device_id ids[] = { { VIRTIO_ID_CONSOLE, VIRTIO_DEV_ANY_ID }, { 0 } };
static const unsigned int features[] = {
	VIRTIO_CONSOLE_F_SIZE,
	VIRTIO_CONSOLE_F_MULTIPORT,
	VIRTIO_CONSOLE_F_EMERG_WRITE,
};

struct virtio_driver driver_console = {
	.name = "console",
	.id_table = ids,
	.feature_table = features,
	.feature_table_size = ARRAY_SIZE(features),
	.probe = console_probe,
	.remove = console_remove,
	.config_changed = console_config_changed,
	.freeze = console_freeze,
	.restore = console_start,
	.give_up = console_give_up,
};
