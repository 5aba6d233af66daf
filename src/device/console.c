/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The console device. Three flows, each with its own paragraph below:
 *
 *   input    chardev -> port_input -> receive queue. Reading is on while the guest listens and
 *            has buffers; the first input that finds none turns it off, a kick turns it on.
 *   output   transmit queue -> port_transmit -> chardev. One chain a port is held while the
 *            chardev takes no more; its cursor is the progress.
 *   control  what the guest must know of a port is a set of bits (enum tell), sent lowest first
 *            whenever there is a control buffer. Events that undo each other merge, so the state
 *            of a port is bounded however fast it changes, and the last word always gets through.
 *
 * A port, as far as the guest knows it:
 *
 *            ADD told             PORT_READY 1            PORT_OPEN 1
 *   unknown ----------> added -----------------> ready <-------------> open
 *      ^                  |                        |    PORT_OPEN 0      |
 *      +----------------- REMOVE told -------------+---------------------+
 */
#include "device/console.h"

#include "base/shared.h"
#include "spec/console.h"

/* Pieces in the longest chain: Linux splices a pipe of 256 pages into one. */
#define SPANS_MAX 272

/* Still to be told; in this order. */
enum tell {
	TELL_REMOVE = 1 << 0,
	TELL_ADD = 1 << 1,
	/* The rest only once the driver is ready for the port. */
	TELL_CONSOLE = 1 << 2,
	TELL_NAME = 1 << 3,
	TELL_RESIZE = 1 << 4,
	TELL_CLOSED = 1 << 5, /* somebody was here and left, even if another one came since */
	TELL_OPEN = 1 << 6,
};
#define TELL_UNREADY (TELL_REMOVE | TELL_ADD)

struct console;

struct port {
	struct console *console;
	u32 id;
	struct chardev *chardev; /* NULL: there is no such port */
	char name[DEVICE_CONSOLE_NAME_BYTES];
	u8 name_bytes;
	bool is_console;

	/* With MULTIPORT: what the guest knows, and what it has yet to hear. */
	bool added, ready, guest_open, told_open;
	u8 tell;

	bool reading; /* the chardev gives us input */

	struct chain out; /* while `sending`: its rest waits for the chardev */
	size_t out_bytes; /* of all of it */
	bool sending;
	/*
	 * A drain gave a chain back in the middle: what was sent of it is skipped if it is the one
	 * that comes first afterwards.
	 */
	struct {
		u16 id;
		size_t n_bytes, n_sent; /* 0 sent: there is none */
	} unsent;

	u64 n_in, n_out;
};

struct console {
	struct vdev vdev;
	struct virtio_console_config config;
	bool resize_rows_first;
	bool driver_ready; /* DEVICE_READY came */
	u16 max_ports;
	u16 tell_from; /* the port that is told next: all get their turn */
	u64 n_ignored;
	struct span spans[SPANS_MAX]; /* of chains that are done with at once */
	struct port ports[];
};

static struct console *console_of(struct vdev *vdev)
{
	return container_of(vdev, struct console, vdev);
}

static struct chain scratch_chain(struct console *c)
{
	return (struct chain){ .spans = c->spans, .max_spans = SPANS_MAX };
}

static bool is_multiport(const struct console *c)
{
	return vdev_has(&c->vdev, VIRTIO_CONSOLE_F_MULTIPORT);
}

static u16 rx_queue(const struct port *p)
{
	return (u16)VIRTIO_CONSOLE_RX_QUEUE(p->id);
}

static u16 tx_queue(const struct port *p)
{
	return (u16)VIRTIO_CONSOLE_TX_QUEUE(p->id);
}

/* ---- input ----------------------------------------------------------------------------- */

/* Somebody in the guest wants what comes here. Otherwise the driver would throw it away. */
static bool guest_listens(const struct port *p)
{
	return is_multiport(p->console) ? p->guest_open : p->id == 0;
}

static void set_reading(struct port *p, bool on)
{
	if (p->reading == on)
		return;
	p->reading = on;
	p->chardev->ops->set_reading(p->chardev, on);
}

/*
 * The guest may have buffers now. Popping tells, and asks for a notification if there is none;
 * the buffer goes back, because there is nothing to put into it yet.
 */
static void look_for_room(struct port *p)
{
	struct console *c = p->console;
	struct chain chain = scratch_chain(c);

	if (p->reading || !p->chardev || !guest_listens(p))
		return;
	if (vdev_pop(&c->vdev, rx_queue(p), &chain) <= 0)
		return;
	vdev_unpop(&c->vdev, rx_queue(p), &chain);
	set_reading(p, true);
}

static size_t port_input(void *owner, const void *bytes, size_t n)
{
	struct port *p = owner;
	struct vdev *vdev = &p->console->vdev;
	struct chain chain = scratch_chain(p->console);
	size_t done = 0;

	while (done < n && guest_listens(p) && vdev_pop(vdev, rx_queue(p), &chain) > 0) {
		size_t put = sg_write(&chain.in, (const u8 *)bytes + done, n - done);

		vdev_push(vdev, rx_queue(p), &chain, (u32)put);
		done += put;
	}
	if (done < n)
		set_reading(p, false);
	p->n_in += done;
	vdev_flush(vdev);
	return done;
}

/* ---- output ---------------------------------------------------------------------------- */

/* Without MULTIPORT there is port 0 and nothing else. */
static bool is_there(const struct port *p)
{
	return p->chardev && (p->id == 0 || is_multiport(p->console));
}

/* Hands the rest of the chain to the chardev. False: it takes no more just now. */
static bool send_some(struct port *p)
{
	struct sg *out = &p->out.out;

	while (out->n_bytes > 0) {
		struct sg after = *out;
		struct span run = sg_take(&after, out->n_bytes);
		size_t taken = p->chardev->ops->write(p->chardev, run.base, run.n_bytes);

		ASSERT(taken <= run.n_bytes);
		sg_read(out, NULL, taken);
		p->n_out += taken;
		if (taken < run.n_bytes)
			return false;
	}
	return true;
}

static bool begin_sending(struct port *p)
{
	struct sg *out = &p->out.out;

	if (vdev_pop(&p->console->vdev, tx_queue(p), &p->out) <= 0)
		return false;
	p->out_bytes = out->n_bytes;
	if (p->unsent.n_sent && p->unsent.id == p->out.id && p->unsent.n_bytes == out->n_bytes)
		sg_read(out, NULL, p->unsent.n_sent);
	p->unsent.n_sent = 0;
	p->sending = true;
	return true;
}

static void end_sending(struct port *p)
{
	p->sending = false;
	vdev_push(&p->console->vdev, tx_queue(p), &p->out, 0);
}

/* All that waits in the transmit queue; that of a port which is not there goes nowhere. */
static void port_transmit(struct port *p)
{
	while (p->sending || begin_sending(p)) {
		if (is_there(p) && !send_some(p))
			return; /* port_writable goes on */
		end_sending(p);
	}
}

/*
 * The chain in the middle goes back to the ring. A guest that goes on with it later (a pause,
 * or queues that are handed to another process) loses nothing and sees nothing twice.
 */
static void port_unsend(struct port *p)
{
	struct vdev *vdev = &p->console->vdev;

	if (!p->sending)
		return;
	p->sending = false;
	if (vdev->broken) {
		vdev_drop(vdev, tx_queue(p), &p->out);
		return;
	}
	p->unsent.id = p->out.id;
	p->unsent.n_bytes = p->out_bytes;
	p->unsent.n_sent = p->out_bytes - p->out.out.n_bytes;
	vdev_unpop(vdev, tx_queue(p), &p->out);
}

static void port_writable(void *owner)
{
	struct port *p = owner;

	port_transmit(p);
	vdev_flush(&p->console->vdev);
}

/* D-CONSOLE-5.3.5.1-01, -02: works at any time, for a guest that has nothing but this. */
static void config_written(struct vdev *vdev, u32 offset, u32 n_bytes)
{
	struct console *c = console_of(vdev);
	struct chardev *to = c->ports[0].chardev;
	u8 byte = (u8)le32_get(c->config.emerg_wr);

	/* A chardev that is full just now loses it: there is nobody who could wait. */
	if (offset == offsetof(struct virtio_console_config, emerg_wr) && to)
		c->ports[0].n_out += to->ops->write(to, &byte, 1);
	c->config.emerg_wr = le32_of(0);
}

/* ---- what the guest is told ------------------------------------------------------------ */

/* Writes a message to the next control buffer that it fits in. False: there is none. */
static bool send_control(struct port *p, u16 event, u16 value, const void *more, size_t n_more)
{
	struct console *c = p->console;
	struct virtio_console_control message = { le32_of(p->id), le16_of(event), le16_of(value) };
	size_t n_bytes = sizeof(message) + n_more;
	struct chain chain = scratch_chain(c);

	while (vdev_pop(&c->vdev, VIRTIO_CONSOLE_CONTROL_RX_QUEUE, &chain) > 0) {
		bool fits = chain.in.n_bytes >= n_bytes;

		if (fits) {
			sg_write(&chain.in, &message, sizeof(message));
			sg_write(&chain.in, more, n_more);
		}
		vdev_push(&c->vdev, VIRTIO_CONSOLE_CONTROL_RX_QUEUE, &chain,
			  fits ? (u32)n_bytes : 0);
		if (fits)
			return true;
	}
	return false;
}

/* The port is news to the guest: whatever it knew was of another one. */
static void forget_guest(struct port *p)
{
	p->added = p->ready = p->guest_open = p->told_open = false;
	if (p->chardev)
		set_reading(p, false);
}

static bool send_resize(struct port *p)
{
	const struct chardev *from = p->chardev;
	bool swap = p->console->resize_rows_first;
	struct virtio_console_resize size = {
		.cols = le16_of(swap ? from->rows : from->cols),
		.rows = le16_of(swap ? from->cols : from->rows),
	};

	return send_control(p, VIRTIO_CONSOLE_RESIZE, 0, &size, sizeof(size));
}

/* Tells one thing about a port, and notes that it is told. False: no buffer. */
static bool tell_one(struct port *p, u8 what)
{
	switch (what) {
	case TELL_REMOVE:
		if (!send_control(p, VIRTIO_CONSOLE_DEVICE_REMOVE, 1, NULL, 0))
			return false;
		forget_guest(p);
		break;
	case TELL_ADD:
		if (!send_control(p, VIRTIO_CONSOLE_DEVICE_ADD, 1, NULL, 0))
			return false;
		p->added = true;
		break;
	case TELL_CONSOLE:
		if (!send_control(p, VIRTIO_CONSOLE_CONSOLE_PORT, 1, NULL, 0))
			return false;
		break;
	case TELL_NAME:
		if (!send_control(p, VIRTIO_CONSOLE_PORT_NAME, 1, p->name, p->name_bytes))
			return false;
		break;
	case TELL_RESIZE:
		if (!send_resize(p))
			return false;
		break;
	case TELL_CLOSED:
	case TELL_OPEN:
		if (!send_control(p, VIRTIO_CONSOLE_PORT_OPEN, what == TELL_OPEN, NULL, 0))
			return false;
		p->told_open = what == TELL_OPEN;
		break;
	}
	p->tell &= (u8)~what;
	return true;
}

/* What comes next, or 0. */
static u8 next_to_tell(const struct port *p)
{
	u32 now = p->tell;

	if (!p->ready || (now & TELL_UNREADY))
		now &= TELL_UNREADY;
	return (u8)(now & -now);
}

/* In turns, so that no port, however busy, keeps another from being told. */
static void tell_all(struct console *c)
{
	u16 n_quiet = 0; /* ports in a row with nothing to tell */

	while (c->driver_ready && n_quiet < c->max_ports) {
		struct port *p = &c->ports[c->tell_from];
		u8 what = next_to_tell(p);

		if (what && !tell_one(p, what))
			return; /* a kick of the control queue goes on */
		n_quiet = what ? 0 : n_quiet + 1;
		c->tell_from = (c->tell_from + 1) % c->max_ports;
	}
}

static void tell(struct port *p, u8 what)
{
	p->tell |= what;
	tell_all(p->console);
}

static void port_open_changed(void *owner)
{
	struct port *p = owner;

	if (p->chardev->open) {
		tell(p, TELL_OPEN);
	} else {
		p->tell &= (u8)~TELL_OPEN;
		if (p->told_open)
			tell(p, TELL_CLOSED);
	}
	vdev_flush(&p->console->vdev);
}

static bool size_is_known(const struct port *p)
{
	return p->chardev->cols && p->chardev->rows;
}

static void update_size(struct console *c)
{
	const struct chardev *from = c->ports[0].chardev;

	c->config.cols = le16_of(from ? from->cols : 0);
	c->config.rows = le16_of(from ? from->rows : 0);
}

static void port_resized(void *owner)
{
	struct port *p = owner;
	struct console *c = p->console;

	if (p->id == 0) {
		update_size(c);
		vdev_config_changed(&c->vdev);
	}
	if (p->is_console && size_is_known(p))
		tell(p, TELL_RESIZE);
	vdev_flush(&c->vdev);
}

/* ---- what the guest tells -------------------------------------------------------------- */

/* Everything there is to know about a port that the driver has just taken. */
static void introduce(struct port *p)
{
	p->ready = true;
	if (p->is_console)
		p->tell |= TELL_CONSOLE;
	if (p->name_bytes)
		p->tell |= TELL_NAME;
	if (p->is_console && size_is_known(p))
		p->tell |= TELL_RESIZE;
	if (p->chardev->open)
		p->tell |= TELL_OPEN;
}

/* The driver works: it gets to know all ports. Saying so again changes nothing. */
static void driver_is_ready(struct console *c)
{
	c->driver_ready = true;
	for (u16 i = 0; i < c->max_ports; i++)
		if (c->ports[i].chardev && !c->ports[i].added)
			c->ports[i].tell |= TELL_ADD;
}

/*
 * One message. What makes no sense is counted and dropped (G32): there is no way to answer, and
 * a message about a port may well have crossed with our news that it is gone.
 */
static bool obey(struct console *c, u32 id, u16 event, u16 value)
{
	struct port *p;

	if (!is_multiport(c))
		return false;
	if (event == VIRTIO_CONSOLE_DEVICE_READY) {
		if (value != 1) /* it does not work: then nothing is told */
			return false;
		driver_is_ready(c);
		return true;
	}
	if (id >= c->max_ports)
		return false;
	p = &c->ports[id];
	if (!p->added || (p->tell & TELL_REMOVE))
		return false;
	switch (event) {
	case VIRTIO_CONSOLE_PORT_READY:
		if (value != 1)
			return false;
		introduce(p);
		return true;
	case VIRTIO_CONSOLE_PORT_OPEN:
		p->guest_open = value != 0;
		if (p->guest_open)
			look_for_room(p);
		else
			set_reading(p, false);
		return true;
	default:
		return false;
	}
}

static void receive_control(struct console *c)
{
	struct chain chain = scratch_chain(c);

	while (vdev_pop(&c->vdev, VIRTIO_CONSOLE_CONTROL_TX_QUEUE, &chain) > 0) {
		struct virtio_console_control message;
		size_t n = sg_read(&chain.out, &message, sizeof(message));

		vdev_push(&c->vdev, VIRTIO_CONSOLE_CONTROL_TX_QUEUE, &chain, 0);
		if (n < sizeof(message) || !obey(c, le32_get(message.id), le16_get(message.event),
						 le16_get(message.value)))
			c->n_ignored++;
	}
	tell_all(c);
}

static void kick(struct vdev *vdev, u16 queue)
{
	struct console *c = console_of(vdev);
	u16 port = queue < 2 ? 0 : queue / 2 - 1;

	if (queue == VIRTIO_CONSOLE_CONTROL_RX_QUEUE)
		tell_all(c);
	else if (queue == VIRTIO_CONSOLE_CONTROL_TX_QUEUE)
		receive_control(c);
	else if (queue % 2 == 0)
		look_for_room(&c->ports[port]);
	else
		port_transmit(&c->ports[port]);
}

/* ---- ports come and go ----------------------------------------------------------------- */

static u8 bytes_of(const char *name)
{
	u8 n = 0;

	while (name && n < DEVICE_CONSOLE_NAME_BYTES && name[n])
		n++;
	return n;
}

int device_console_add_port(struct vdev *vdev, u32 id, const struct device_console_port *port)
{
	struct console *c = console_of(vdev);
	struct chardev *chardev = port->chardev;
	u8 name_bytes = bytes_of(port->name);
	struct port *p;

	if (id >= c->max_ports || name_bytes == DEVICE_CONSOLE_NAME_BYTES)
		return -EINVAL;
	p = &c->ports[id];
	if (p->chardev)
		return -EBUSY;
	memset(p->name, 0, sizeof(p->name));
	if (name_bytes)
		memcpy(p->name, port->name, name_bytes);
	p->name_bytes = name_bytes;
	p->is_console = port->is_console;
	p->n_in = p->n_out = 0;
	p->chardev = chardev;
	chardev->owner = p;
	chardev->input = port_input;
	chardev->writable = port_writable;
	chardev->open_changed = port_open_changed;
	chardev->resized = port_resized;

	if (id == 0) {
		update_size(c);
		vdev_config_changed(vdev);
	}
	if (c->driver_ready)
		tell(p, TELL_ADD);
	look_for_room(p);
	vdev_flush(vdev);
	return 0;
}

int device_console_remove_port(struct vdev *vdev, u32 id)
{
	struct console *c = console_of(vdev);
	struct chardev *chardev;
	struct port *p;

	if (id >= c->max_ports || !c->ports[id].chardev)
		return -ENOENT;
	p = &c->ports[id];
	chardev = p->chardev;
	set_reading(p, false);
	chardev->owner = NULL;
	chardev->input = NULL;
	chardev->writable = NULL;
	chardev->open_changed = NULL;
	chardev->resized = NULL;
	p->chardev = NULL;
	p->guest_open = false;

	port_transmit(p); /* what waited for this chardev is lost, and its buffers go back */
	if (id == 0) {
		update_size(c);
		vdev_config_changed(vdev);
	}
	/* D-CONSOLE-5.3.6.2.1-02: a port that the guest never heard of is not taken away. */
	p->tell = 0;
	if (p->added)
		tell(p, TELL_REMOVE);
	vdev_flush(vdev);
	return 0;
}

/* ---- the rest of a device -------------------------------------------------------------- */

static void drain(struct vdev *vdev)
{
	struct console *c = console_of(vdev);

	for (u16 i = 0; i < c->max_ports; i++)
		port_unsend(&c->ports[i]);
}

static void reset(struct vdev *vdev)
{
	struct console *c = console_of(vdev);

	c->driver_ready = false;
	c->tell_from = 0;
	for (u16 i = 0; i < c->max_ports; i++) {
		struct port *p = &c->ports[i];

		forget_guest(p);
		p->tell = 0;
		p->unsent.n_sent = 0;
	}
}

static const struct vdev_type console_type = {
	.name = "console",
	.device_id = VIRTIO_ID_CONSOLE,
	.drain = drain,
	.reset = reset,
	.kick = kick,
	.config_written = config_written,
};

struct parts {
	struct console *console;
	struct vdev_queue *queues;
	struct span *spans; /* of the chains that may be held, SPANS_MAX a port */
	u16 n_queues;
};

static struct parts carve(struct arena *arena, const struct device_console_config *config)
{
	u16 n = config->max_ports;
	struct parts parts = { .n_queues = n > 1 ? 2 * n + 2 : 2 };

	ASSERT(n > 0 && n <= DEVICE_CONSOLE_MAX_PORTS);
	parts.console = arena_take(arena, 1, sizeof(struct console) + n * sizeof(struct port));
	parts.queues = vdev_carve_queues(arena, parts.n_queues, config->queue_size);
	parts.spans = arena_take(arena, n, SPANS_MAX * sizeof(struct span));
	return parts;
}

size_t device_console_bytes(const struct device_console_config *config)
{
	struct arena counting = { 0 };

	carve(&counting, config);
	return counting.used_bytes;
}

struct vdev *device_console_init(void *mem, const struct device_console_config *config)
{
	struct arena arena = { .base = mem };
	struct parts parts = carve(&arena, config);
	struct console *c = parts.console;
	struct features *offered = &c->vdev.offered;

	*c = (struct console){
		.resize_rows_first = config->resize_rows_first,
		.max_ports = config->max_ports,
		.config.max_nr_ports = le32_of(config->max_ports),
	};
	for (u16 i = 0; i < config->max_ports; i++) {
		c->ports[i] = (struct port){
			.console = c,
			.id = i,
			.out.spans = parts.spans + (size_t)i * SPANS_MAX,
			.out.max_spans = SPANS_MAX,
		};
	}
	vdev_init(&c->vdev, &console_type, config->name, &c->config, sizeof(c->config),
		  parts.queues, parts.n_queues);
	c->vdev.writable[0] = (struct vdev_writable){
		.offset = offsetof(struct virtio_console_config, emerg_wr),
		.n_bytes = sizeof(c->config.emerg_wr),
	};
	features_set(offered, VIRTIO_CONSOLE_F_SIZE);
	features_set(offered, VIRTIO_CONSOLE_F_EMERG_WRITE);
	if (config->max_ports > 1)
		features_set(offered, VIRTIO_CONSOLE_F_MULTIPORT);
	return &c->vdev;
}

bool device_console_port_state(const struct vdev *vdev, u32 id,
			       struct device_console_port_state *state)
{
	const struct console *c = container_of(vdev, const struct console, vdev);
	const struct port *p = &c->ports[id < c->max_ports ? id : 0];

	if (id >= c->max_ports || !p->chardev)
		return false;
	*state = (struct device_console_port_state){
		.chardev = p->chardev,
		.name = p->name,
		.is_console = p->is_console,
		.guest_ready = is_multiport(c) ? p->ready : id == 0 && vdev->active,
		.guest_open = is_multiport(c) ? p->guest_open : id == 0 && vdev->active,
		.n_in = p->n_in,
		.n_out = p->n_out,
	};
	return true;
}

u64 device_console_n_ignored(const struct vdev *vdev)
{
	return container_of(vdev, const struct console, vdev)->n_ignored;
}
