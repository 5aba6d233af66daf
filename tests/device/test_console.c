/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The console device between a driver's half of its queues and chardevs that take and give
 * exactly what a test wants. Everything runs on each of the eight kinds of ring.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/shared.h"
#include "device/console.h"
#include "spec/console.h"
#include "tests/support/rig.h"

#define CONTROL_RX VIRTIO_CONSOLE_CONTROL_RX_QUEUE
#define CONTROL_TX VIRTIO_CONSOLE_CONTROL_TX_QUEUE
#define ANY_AMOUNT SIZE_MAX

static const int single[] = { VIRTIO_CONSOLE_F_SIZE, VIRTIO_CONSOLE_F_EMERG_WRITE, -1 };

/* A chardev in a test's hands. */
struct mock {
	struct chardev chardev;
	size_t takes; /* bytes it takes before it says: no more */
	bool reading;
	u8 got[1 << 16];
	size_t n_got;
};

static struct bench {
	struct device_console_config config;
	struct vdev *vdev;
	u8 *mem;
	size_t mem_bytes;
	struct rig rig;
	struct mock mock[DEVICE_CONSOLE_MAX_PORTS];
} b;

static unsigned int combination;
static u64 seed;

static size_t mock_write(struct chardev *c, const void *bytes, size_t n)
{
	struct mock *m = container_of(c, struct mock, chardev);

	n = min_u64(n, m->takes);
	assert_true(n <= sizeof(m->got) - m->n_got);
	memcpy(m->got + m->n_got, bytes, n);
	m->n_got += n;
	if (m->takes != ANY_AMOUNT)
		m->takes -= n;
	return n;
}

static void mock_set_reading(struct chardev *c, bool on)
{
	struct mock *m = container_of(c, struct mock, chardev);

	assert_true(m->reading != on); /* told once */
	m->reading = on;
}

static const struct chardev_ops mock_ops = { mock_write, mock_set_reading };

static size_t type_in(u32 port, const void *bytes, size_t n)
{
	struct chardev *c = &b.mock[port].chardev;

	assert_true(b.mock[port].reading);
	return c->input(c->owner, bytes, n);
}

static void set_open(u32 port, bool open)
{
	struct chardev *c = &b.mock[port].chardev;

	c->open = open;
	c->open_changed(c->owner);
}

static void resize(u32 port, u16 cols, u16 rows)
{
	struct chardev *c = &b.mock[port].chardev;

	c->cols = cols;
	c->rows = rows;
	c->resized(c->owner);
}

static void let_write(u32 port, size_t takes)
{
	struct chardev *c = &b.mock[port].chardev;

	b.mock[port].takes = takes;
	c->writable(c->owner);
}

static int add_port(u32 id, const char *name, bool is_console)
{
	struct device_console_port port = { &b.mock[id].chardev, name, is_console };

	return device_console_add_port(b.vdev, id, &port);
}

static void prepare(u16 max_ports)
{
	memset(&b, 0, sizeof(b));
	for (u32 i = 0; i < ARRAY_SIZE(b.mock); i++)
		b.mock[i] = (struct mock){
			.chardev = { .ops = &mock_ops, .name = "mock", .open = true },
			.takes = ANY_AMOUNT,
		};
	b.config = (struct device_console_config){
		.name = "console",
		.max_ports = max_ports,
		.queue_size = 64,
	};
}

static void init(void)
{
	b.mem_bytes = device_console_bytes(&b.config);
	b.mem = aligned_alloc(64, (b.mem_bytes + 64 + 63) & ~(size_t)63);
	assert_non_null(b.mem);
	memset(b.mem, 0xcc, b.mem_bytes + 64); /* lent memory is not cleared */
	b.vdev = device_console_init(b.mem, &b.config);
	assert_int_equal(add_port(0, NULL, true), 0);
}

static void start(const int *features)
{
	struct rig_options options = rig_combination(combination);

	options.queue_size = b.config.queue_size;
	rig_start(&b.rig, b.vdev, &options, features);
}

static void open_bench(u16 max_ports, const int *features)
{
	prepare(max_ports);
	init();
	start(features);
}

static void close_bench(void)
{
	rig_stop(&b.rig);
	for (size_t i = 0; i < 64; i++)
		assert_int_equal(b.mem[b.mem_bytes + i], 0xcc);
	for (u32 i = 0; i < ARRAY_SIZE(b.mock); i++)
		assert_false(b.mock[i].reading); /* a device at rest reads nothing */
	free(b.mem);
}

/* A buffer of the driver's; the token of its chain. */
struct buffer {
	u8 *bytes;
	size_t n_bytes;
};

static struct buffer *buffer(const void *bytes, size_t n)
{
	static struct buffer all[4096];
	static u32 n_used;
	struct buffer *buf = &all[n_used++ % ARRAY_SIZE(all)];

	*buf = (struct buffer){ rig_alloc(&b.rig, n), n };
	if (bytes)
		memcpy(buf->bytes, bytes, n);
	return buf;
}

static struct buffer *give_room(u16 queue, size_t n)
{
	struct buffer *buf = buffer(NULL, n);

	rig_submit(&b.rig, queue, &(struct span){ buf->bytes, n }, 0, 1, buf);
	return buf;
}

static struct buffer *send(u16 queue, const void *bytes, size_t n)
{
	struct buffer *buf = buffer(bytes, n);

	rig_submit(&b.rig, queue, &(struct span){ buf->bytes, n }, 1, 0, buf);
	return buf;
}

static void assert_back(u16 queue, struct buffer *buf, u32 want)
{
	u32 n_written = 0xdead;

	assert_ptr_equal(rig_reap(&b.rig, queue, &n_written), buf);
	assert_int_equal(n_written, want);
}

static void assert_none_back(u16 queue)
{
	u32 n;

	assert_null(rig_reap(&b.rig, queue, &n));
}

static void assert_received(u16 queue, struct buffer *buf, const char *text)
{
	assert_back(queue, buf, (u32)strlen(text));
	assert_memory_equal(buf->bytes, text, strlen(text));
}

static void assert_output(u32 port, const char *text)
{
	assert_int_equal(b.mock[port].n_got, strlen(text));
	assert_memory_equal(b.mock[port].got, text, strlen(text));
	b.mock[port].n_got = 0;
}

static void tell_device(u32 id, u16 event, u16 value)
{
	struct virtio_console_control m = { le32_of(id), le16_of(event), le16_of(value) };

	assert_back(CONTROL_TX, send(CONTROL_TX, &m, sizeof(m)), 0);
}

/* The next message to the driver: "ADD 1", "NAME 1 text", "RESIZE 0 80 25"; "" if none. */
static const char *told(void)
{
	static const char *const events[] = { "READY?",  "ADD",    "REMOVE", "PORT_READY?",
					      "CONSOLE", "RESIZE", "OPEN",   "NAME" };
	static char text[128];
	struct virtio_console_control m;
	struct virtio_console_resize size;
	struct buffer *buf;
	u32 n;
	int at;

	text[0] = 0;
	do {
		buf = rig_reap(&b.rig, CONTROL_RX, &n);
		if (!buf)
			return text;
	} while (n == 0); /* too short for what was to be told */
	assert_true(n >= sizeof(m));
	memcpy(&m, buf->bytes, sizeof(m));
	assert_true(le16_get(m.event) < ARRAY_SIZE(events));
	at = snprintf(text, sizeof(text), "%s %u", events[le16_get(m.event)], le32_get(m.id));
	switch (le16_get(m.event)) {
	case VIRTIO_CONSOLE_RESIZE:
		assert_int_equal(n, sizeof(m) + sizeof(size));
		memcpy(&size, buf->bytes + sizeof(m), sizeof(size));
		snprintf(text + at, sizeof(text) - at, " %u %u", le16_get(size.cols),
			 le16_get(size.rows));
		break;
	case VIRTIO_CONSOLE_PORT_NAME:
		snprintf(text + at, sizeof(text) - at, " %.*s", (int)(n - sizeof(m)),
			 (const char *)buf->bytes + sizeof(m));
		break;
	case VIRTIO_CONSOLE_PORT_OPEN:
		assert_int_equal(n, sizeof(m));
		snprintf(text + at, sizeof(text) - at, " %u", le16_get(m.value));
		break;
	default:
		assert_int_equal(n, sizeof(m));
		assert_int_equal(le16_get(m.value), 1);
	}
	return text;
}

#define assert_told(text) assert_string_equal(told(), text)

static void give_control_room(u32 n)
{
	while (n--)
		give_room(CONTROL_RX, 128);
}

/* The driver brings a port up, as Linux does. */
static void bring_up(u32 id)
{
	tell_device(id, VIRTIO_CONSOLE_PORT_READY, 1);
	tell_device(id, VIRTIO_CONSOLE_PORT_OPEN, 1);
}

static struct device_console_port_state state_of(u32 id)
{
	struct device_console_port_state s;

	assert_true(device_console_port_state(b.vdev, id, &s));
	return s;
}

/* Multiport, port 0 a console and port 1 called "one", both up, nothing left to be told. */
static void open_two_ports(u16 max_ports)
{
	prepare(max_ports);
	init();
	assert_int_equal(add_port(1, "one", false), 0);
	start(NULL);
	give_control_room(20);
	tell_device(0, VIRTIO_CONSOLE_DEVICE_READY, 1);
	assert_told("ADD 0");
	assert_told("ADD 1");
	bring_up(0);
	assert_told("CONSOLE 0");
	assert_told("OPEN 0 1");
	bring_up(1);
	assert_told("NAME 1 one");
	assert_told("OPEN 1 1");
	assert_told("");
}

/* ---- port 0 alone ---------------------------------------------------------------------- */

static void single_port_carries_both_ways(void **state)
{
	struct buffer *room;

	open_bench(1, NULL);
	assert_int_equal(b.vdev->n_queues, 2);
	assert_false(features_has(&b.vdev->offered, VIRTIO_CONSOLE_F_MULTIPORT));
	assert_back(1, send(1, "hello", 5), 0);
	assert_output(0, "hello");

	room = give_room(0, 100);
	assert_int_equal(type_in(0, "world", 5), 5);
	assert_received(0, room, "world");
	assert_int_equal(state_of(0).n_out, 5);
	assert_int_equal(state_of(0).n_in, 5);
	close_bench();
}

static void driver_without_multiport_has_port_0_alone(void **state)
{
	struct virtio_console_control m = { .event = le16_of(VIRTIO_CONSOLE_DEVICE_READY),
					    .value = le16_of(1) };
	struct buffer *room;

	open_bench(4, single);
	assert_int_equal(add_port(1, "one", false), 0);
	room = give_room(0, 10);
	assert_int_equal(type_in(0, "x", 1), 1);
	assert_received(0, room, "x");

	/* Whatever is on the other queues comes back and does nothing. */
	give_control_room(2);
	assert_back(CONTROL_TX, send(CONTROL_TX, &m, sizeof(m)), 0);
	assert_told("");
	assert_back(5, send(5, "lost", 4), 0);
	assert_output(1, "");
	give_room(4, 10);
	assert_false(b.mock[1].reading);
	assert_int_equal(device_console_n_ignored(b.vdev), 1);
	close_bench();
}

static void input_is_read_only_while_the_guest_has_room(void **state)
{
	struct buffer *a, *c;

	open_bench(1, NULL);
	assert_false(b.mock[0].reading);
	a = give_room(0, 3);
	assert_true(b.mock[0].reading);
	assert_int_equal(type_in(0, "abcdef", 6), 3);
	assert_false(b.mock[0].reading);
	assert_received(0, a, "abc");

	a = give_room(0, 2);
	c = give_room(0, 100);
	assert_int_equal(type_in(0, "def", 3), 3);
	assert_true(b.mock[0].reading); /* nothing was left over: nobody has asked for more */
	assert_received(0, a, "de");
	assert_received(0, c, "f");
	assert_int_equal(type_in(0, "g", 1), 0);
	assert_false(b.mock[0].reading);
	assert_int_equal(b.rig.n_used[0] > 0, 1);
	close_bench();
}

static void output_goes_on_where_the_chardev_stopped(void **state)
{
	struct buffer *first, *second;

	open_bench(1, NULL);
	b.mock[0].takes = 4;
	first = send(1, "0123456789", 10);
	second = send(1, "abc", 3);
	assert_none_back(1);
	let_write(0, 5);
	assert_none_back(1);
	let_write(0, 2);
	assert_back(1, first, 0);
	assert_none_back(1);
	let_write(0, ANY_AMOUNT);
	assert_back(1, second, 0);
	assert_output(0, "0123456789abc");
	close_bench();
}

static void output_in_any_framing_is_one_stream(void **state)
{
	u8 *bytes;
	struct span sg[40];

	open_bench(1, NULL);
	bytes = rig_alloc(&b.rig, 40);
	for (u32 i = 0; i < 40; i++) {
		bytes[i] = (u8)(i + 1);
		sg[i] = (struct span){ bytes + i, 1 };
	}
	b.mock[0].takes = 7;
	rig_submit(&b.rig, 1, sg, 40, 0, bytes);
	for (u32 i = 0; i < 5; i++)
		let_write(0, 7);
	assert_memory_equal(b.mock[0].got, bytes, 40);
	assert_int_equal(b.mock[0].n_got, 40);
	close_bench();
}

/* ---- pause, reset, break --------------------------------------------------------------- */

static void queue_stopped_in_the_middle_of_a_chain_goes_on_without_a_double(void **state)
{
	struct devq_setup setup;
	struct buffer *buf;
	u32 position;

	open_bench(1, NULL);
	assert_back(1, send(1, "..", 2), 0);
	b.mock[0].takes = 4;
	buf = send(1, "0123456789", 10);
	setup = b.vdev->queues[1].q.setup;
	position = vdev_queue_stop(b.vdev, 1);
	let_write(0, ANY_AMOUNT); /* the ring is not ours just now */
	assert_output(0, "..0123");

	assert_int_equal(vdev_queue_start(b.vdev, 1, &setup, position), 0);
	assert_back(1, buf, 0);
	assert_output(0, "456789");
	assert_back(1, send(1, "0123456789", 10), 0); /* and that was that */
	assert_output(0, "0123456789");
	close_bench();
}

static void hostile_G19_reset_forgets_output_that_waited(void **state)
{
	open_bench(1, NULL);
	for (u32 i = 0; i < 50; i++) {
		b.mock[0].takes = 4;
		send(1, "0123456789", 10);
		give_room(0, 10);
		assert_int_equal(rig_reset(&b.rig), 2);
		assert_false(b.mock[0].reading);
		let_write(0, ANY_AMOUNT);
		assert_output(0, "0123");
		rig_restart(&b.rig, NULL);
		assert_back(1, send(1, "0123456789", 10), 0); /* of the same id and length */
		assert_output(0, "0123456789");
	}
	close_bench();
}

static void broken_device_takes_no_input(void **state)
{
	open_two_ports(2);
	give_room(4, 10);
	give_room(0, 10);
	b.mock[1].takes = 1;
	send(5, "abc", 3);
	vdev_break(b.vdev, 0, "a test says so");
	assert_int_equal(type_in(1, "x", 1), 0);
	assert_false(b.mock[1].reading);
	let_write(1, ANY_AMOUNT);
	set_open(1, false);
	resize(0, 1, 1);
	assert_int_equal(device_console_remove_port(b.vdev, 0), 0);
	assert_none_back(5);
	close_bench();
}

/* ---- size and emergency ---------------------------------------------------------------- */

static void size_in_the_configuration_follows_the_terminal(void **state)
{
	struct virtio_console_config config;
	u64 n;

	prepare(1);
	b.mock[0].chardev.cols = 80;
	b.mock[0].chardev.rows = 25;
	init();
	start(NULL);
	vdev_config_read(b.vdev, 0, &config, sizeof(config));
	assert_int_equal(le16_get(config.cols), 80);
	assert_int_equal(le16_get(config.rows), 25);
	assert_int_equal(le32_get(config.max_nr_ports), 1);
	n = b.rig.n_config;
	resize(0, 132, 50);
	vdev_config_read(b.vdev, 0, &config, sizeof(config));
	assert_int_equal(le16_get(config.cols), 132);
	assert_int_equal(le16_get(config.rows), 50);
	assert_int_equal(b.rig.n_config, n + 1);
	close_bench();
}

static void resize_of_a_console_port_is_told_and_only_of_those(void **state)
{
	open_two_ports(2);
	resize(0, 132, 50);
	assert_told("RESIZE 0 132 50");
	resize(1, 10, 20);
	assert_told("");
	resize(0, 0, 50); /* unknown is no size */
	assert_told("");
	close_bench();
}

static void resize_for_drivers_that_read_rows_first_is_swapped(void **state)
{
	prepare(2);
	b.config.resize_rows_first = true;
	b.mock[0].chardev.cols = 80;
	b.mock[0].chardev.rows = 25;
	init();
	start(NULL);
	give_control_room(8);
	tell_device(0, VIRTIO_CONSOLE_DEVICE_READY, 1);
	bring_up(0);
	assert_told("ADD 0");
	assert_told("CONSOLE 0");
	assert_told("RESIZE 0 25 80");
	assert_told("OPEN 0 1");
	close_bench();
}

static void emergency_write_works_before_any_set_up(void **state)
{
	le32 word = le32_of(0x12345600 | 'E');
	u8 junk[4] = { 'a', 'b', 'c', 'd' };

	prepare(2);
	init();
	vdev_config_write(b.vdev, 8, &word, 4);
	assert_output(0, "E");
	vdev_config_write(b.vdev, 8, "M", 1);
	assert_output(0, "M");
	vdev_config_write(b.vdev, 9, junk, 3); /* the low byte is not in it */
	vdev_config_write(b.vdev, 6, junk, 2); /* read-only (G23) */
	assert_output(0, "");
	b.mock[0].takes = 0;
	vdev_config_write(b.vdev, 8, &word, 4);
	assert_int_equal(device_console_remove_port(b.vdev, 0), 0);
	vdev_config_write(b.vdev, 8, &word, 4);
	assert_output(0, "");
	start(NULL);
	close_bench();
}

/* ---- multiport ------------------------------------------------------------------------- */

static void ports_are_told_in_order_and_carry_both_ways(void **state)
{
	struct buffer *room;

	open_two_ports(4);
	assert_true(state_of(1).guest_ready && state_of(1).guest_open);
	room = give_room(4, 100);
	assert_int_equal(type_in(1, "in", 2), 2);
	assert_received(4, room, "in");
	assert_back(5, send(5, "out", 3), 0);
	assert_output(1, "out");
	assert_output(0, "");
	close_bench();
}

static void all_ports_have_queues_of_their_own(void **state)
{
	char name[8];

	prepare(DEVICE_CONSOLE_MAX_PORTS);
	init();
	for (u32 i = 1; i < DEVICE_CONSOLE_MAX_PORTS; i++) {
		snprintf(name, sizeof(name), "p%u", i);
		assert_int_equal(add_port(i, name, i % 2), 0);
	}
	assert_int_equal(b.vdev->n_queues, 2 * DEVICE_CONSOLE_MAX_PORTS + 2);
	start(NULL);
	tell_device(0, VIRTIO_CONSOLE_DEVICE_READY, 1);
	give_control_room(60);
	for (u32 i = 0; i < DEVICE_CONSOLE_MAX_PORTS; i++) {
		snprintf(name, sizeof(name), "ADD %u", i);
		assert_told(name);
	}
	for (u32 i = 0; i < DEVICE_CONSOLE_MAX_PORTS; i++) {
		u16 rx = i ? 2 * i + 2 : 0;
		struct buffer *room = give_room(rx, 4);

		assert_false(b.mock[i].reading); /* nobody in the guest listens */
		bring_up(i);
		snprintf(name, sizeof(name), "%u", i);
		assert_int_equal(type_in(i, name, strlen(name)), strlen(name));
		assert_received(rx, room, name);
		assert_back(rx + 1, send(rx + 1, name, strlen(name)), 0);
		assert_output(i, name);
	}
	close_bench();
}

static void guest_that_closes_a_port_is_not_fed(void **state)
{
	open_two_ports(2);
	give_room(4, 10);
	assert_true(b.mock[1].reading);
	tell_device(1, VIRTIO_CONSOLE_PORT_OPEN, 0);
	assert_false(b.mock[1].reading);
	give_room(4, 10);
	assert_false(b.mock[1].reading);
	assert_false(state_of(1).guest_open);
	tell_device(1, VIRTIO_CONSOLE_PORT_OPEN, 1);
	assert_int_equal(type_in(1, "0123456789ab", 12), 12);
	close_bench();
}

/* Until the driver has no control buffer out. */
static void use_up_control_room(void)
{
	while (b.rig.vq[CONTROL_RX].n_in_flight) {
		resize(0, 1, b.rig.vq[CONTROL_RX].n_in_flight);
		assert_string_not_equal(told(), "");
	}
}

static void news_without_a_buffer_waits_as_state_and_is_told_once(void **state)
{
	open_two_ports(2);
	use_up_control_room();
	for (u32 i = 0; i < 1000; i++) {
		set_open(0, false);
		resize(0, 100 + i, 50);
		set_open(0, true);
	}
	assert_told("");
	give_control_room(1);
	assert_told("RESIZE 0 1099 50"); /* the last word only */
	give_control_room(1);
	assert_told("OPEN 0 0"); /* somebody left ... */
	give_control_room(8);
	assert_told("OPEN 0 1"); /* ... and somebody came */
	assert_told("");
	close_bench();
}

static void closed_port_is_told_closed_when_it_was_told_open(void **state)
{
	prepare(2);
	init();
	b.mock[1].chardev.open = false;
	assert_int_equal(add_port(1, NULL, false), 0);
	start(NULL);
	give_control_room(10);
	tell_device(0, VIRTIO_CONSOLE_DEVICE_READY, 1);
	assert_told("ADD 0");
	assert_told("ADD 1");
	bring_up(1);
	assert_told(""); /* no name, nobody there */
	set_open(1, false);
	assert_told("");
	set_open(1, true);
	assert_told("OPEN 1 1");
	set_open(1, false);
	assert_told("OPEN 1 0");
	assert_told("");
	close_bench();
}

static void busy_port_does_not_keep_others_from_being_told(void **state)
{
	u32 n_open = 0;

	open_two_ports(2);
	use_up_control_room();
	set_open(1, false);
	for (u32 i = 0; i < 4; i++) { /* two kinds of news of port 0 for each that is told */
		resize(0, 2, 2);
		set_open(0, false);
		set_open(0, true);
		give_control_room(1);
		n_open += strcmp(told(), "OPEN 1 0") == 0;
	}
	assert_int_equal(n_open, 1);
	close_bench();
}

static void control_buffer_too_short_comes_back_empty_and_nothing_is_lost(void **state)
{
	struct buffer *tiny, *small;

	prepare(2);
	init();
	assert_int_equal(add_port(1, "a-rather-long-name", false), 0);
	start(NULL);
	tiny = give_room(CONTROL_RX, 7);
	tell_device(0, VIRTIO_CONSOLE_DEVICE_READY, 1);
	assert_back(CONTROL_RX, tiny, 0);
	give_control_room(2);
	assert_told("ADD 0");
	assert_told("ADD 1");
	small = give_room(CONTROL_RX, 8 + 17);
	bring_up(1);
	assert_back(CONTROL_RX, small, 0);
	give_room(CONTROL_RX, 8 + 18);
	assert_told("NAME 1 a-rather-long-name");
	give_control_room(1);
	assert_told("OPEN 1 1");
	close_bench();
}

/* ---- ports come and go ----------------------------------------------------------------- */

static void port_added_while_running_works(void **state)
{
	struct buffer *room;

	open_two_ports(4);
	assert_int_equal(add_port(3, "three", true), 0);
	assert_told("ADD 3");
	assert_told("");
	resize(3, 90, 30); /* not told before the driver is ready for it, and then once */
	assert_told("");
	bring_up(3);
	assert_told("CONSOLE 3");
	assert_told("NAME 3 three");
	assert_told("RESIZE 3 90 30");
	assert_told("OPEN 3 1");
	assert_told("");
	room = give_room(8, 10);
	assert_int_equal(type_in(3, "hi", 2), 2);
	assert_received(8, room, "hi");
	close_bench();
}

static void port_removed_gives_its_buffers_back_and_its_number_free(void **state)
{
	struct buffer *buf, *other;

	open_two_ports(2);
	give_room(4, 10);
	b.mock[1].takes = 1;
	buf = send(5, "abc", 3);
	other = send(5, "def", 3);
	assert_none_back(5);
	assert_int_equal(device_console_remove_port(b.vdev, 1), 0);
	assert_false(b.mock[1].reading);
	assert_null(b.mock[1].chardev.input);
	assert_back(5, buf, 0);
	assert_back(5, other, 0);
	assert_output(1, "a");
	assert_told("REMOVE 1");
	assert_back(5, send(5, "late", 4), 0); /* crossed with the news */
	tell_device(1, VIRTIO_CONSOLE_PORT_OPEN, 1);
	assert_int_equal(device_console_n_ignored(b.vdev), 1);

	b.mock[1].takes = ANY_AMOUNT;
	assert_int_equal(add_port(1, "again", false), 0);
	assert_told("ADD 1");
	assert_false(b.mock[1].reading);
	bring_up(1);
	assert_told("NAME 1 again");
	assert_told("OPEN 1 1");
	assert_true(b.mock[1].reading); /* the buffer from before is still there */
	assert_back(5, send(5, "new", 3), 0);
	assert_output(1, "new");
	close_bench();
}

static void port_that_the_guest_never_heard_of_is_not_taken_away(void **state)
{
	open_two_ports(4);
	use_up_control_room();
	assert_int_equal(add_port(2, "two", false), 0);
	assert_int_equal(device_console_remove_port(b.vdev, 2), 0);
	/* But one that it knows is taken away before its number comes again. */
	assert_int_equal(device_console_remove_port(b.vdev, 1), 0);
	assert_int_equal(add_port(1, "another", false), 0);
	tell_device(1, VIRTIO_CONSOLE_PORT_READY, 1); /* of the old one, too late */
	assert_int_equal(device_console_n_ignored(b.vdev), 1);
	give_control_room(10);
	assert_told("REMOVE 1");
	assert_told("ADD 1");
	assert_told("");
	assert_false(state_of(1).guest_ready);
	bring_up(1);
	assert_told("NAME 1 another");
	close_bench();
}

static void port_that_cannot_be_is_refused(void **state)
{
	char name[DEVICE_CONSOLE_NAME_BYTES + 1];
	struct device_console_port_state s;
	struct device_console_port port = { &b.mock[1].chardev, name, false };

	open_bench(2, NULL);
	memset(name, 'n', sizeof(name));
	name[DEVICE_CONSOLE_NAME_BYTES] = 0;
	assert_int_equal(device_console_add_port(b.vdev, 1, &port), -EINVAL);
	name[DEVICE_CONSOLE_NAME_BYTES - 1] = 0;
	assert_int_equal(device_console_add_port(b.vdev, 2, &port), -EINVAL);
	assert_int_equal(device_console_add_port(b.vdev, UINT32_MAX, &port), -EINVAL);
	assert_int_equal(device_console_add_port(b.vdev, 1, &port), 0);
	assert_int_equal(device_console_add_port(b.vdev, 1, &port), -EBUSY);
	assert_int_equal(device_console_remove_port(b.vdev, 2), -ENOENT);
	assert_int_equal(device_console_remove_port(b.vdev, 1), 0);
	assert_int_equal(device_console_remove_port(b.vdev, 1), -ENOENT);
	assert_false(device_console_port_state(b.vdev, 1, &s));
	assert_false(device_console_port_state(b.vdev, UINT32_MAX, &s));
	close_bench();
}

/* ---- hostile --------------------------------------------------------------------------- */

static void hostile_G32_control_messages_without_sense_are_dropped(void **state)
{
	struct {
		u32 id;
		u16 event, value;
	} bad[] = {
		{ 2, VIRTIO_CONSOLE_PORT_READY, 1 }, /* absent */
		{ 2, VIRTIO_CONSOLE_PORT_OPEN, 1 },
		{ 4, VIRTIO_CONSOLE_PORT_OPEN, 1 }, /* there can be none */
		{ 0x80000000, VIRTIO_CONSOLE_PORT_READY, 1 },
		{ UINT32_MAX, VIRTIO_CONSOLE_PORT_OPEN, 1 },
		{ UINT32_MAX, VIRTIO_CONSOLE_DEVICE_READY, 0 },
		{ 1, VIRTIO_CONSOLE_PORT_READY, 0 },
		{ 1, VIRTIO_CONSOLE_DEVICE_ADD, 1 }, /* the device's own words */
		{ 1, VIRTIO_CONSOLE_DEVICE_REMOVE, 1 },
		{ 1, VIRTIO_CONSOLE_CONSOLE_PORT, 1 },
		{ 1, VIRTIO_CONSOLE_RESIZE, 1 },
		{ 1, VIRTIO_CONSOLE_PORT_NAME, 1 },
		{ 1, 8, 1 },
		{ 1, 0xffff, 0xffff },
	};
	u8 zeroes[8] = { 0 };

	open_two_ports(4);
	for (u32 i = 0; i < ARRAY_SIZE(bad); i++) {
		tell_device(bad[i].id, bad[i].event, bad[i].value);
		assert_int_equal(device_console_n_ignored(b.vdev), i + 1);
	}
	for (u32 n = 1; n < 8; n++) {
		zeroes[4] = VIRTIO_CONSOLE_DEVICE_READY;
		assert_back(CONTROL_TX, send(CONTROL_TX, zeroes, n), 0);
	}
	assert_int_equal(device_console_n_ignored(b.vdev), ARRAY_SIZE(bad) + 7);
	assert_told("");
	assert_false(b.vdev->broken);
	assert_true(state_of(1).guest_open);
	close_bench();
}

static void hostile_G32_messages_before_the_device_is_ready_do_nothing(void **state)
{
	open_bench(2, NULL);
	give_control_room(4);
	bring_up(0);
	assert_int_equal(device_console_n_ignored(b.vdev), 2);
	assert_told("");
	tell_device(0, VIRTIO_CONSOLE_DEVICE_READY, 1);
	tell_device(0, VIRTIO_CONSOLE_DEVICE_READY, 1);
	assert_told("ADD 0");
	assert_told(""); /* D-CONSOLE-5.3.6.2.1-01: once */
	close_bench();
}

static void hostile_G32_control_message_with_a_long_tail_is_read_by_its_head(void **state)
{
	struct buffer *long_one;

	open_bench(2, NULL);
	give_control_room(1);
	long_one = buffer(NULL, 4 << 20);
	long_one->bytes[6] = 1; /* DEVICE_READY 1 */
	rig_submit(&b.rig, CONTROL_TX, &(struct span){ long_one->bytes, long_one->n_bytes }, 1, 0,
		   long_one);
	assert_back(CONTROL_TX, long_one, 0);
	assert_told("ADD 0");
	close_bench();
}

static void hostile_G10_buffers_of_the_wrong_direction_come_back_empty(void **state)
{
	struct buffer *wrong, *right;

	open_two_ports(2);
	wrong = send(0, "readable", 8); /* in the receive queue */
	right = give_room(0, 10);
	assert_int_equal(type_in(0, "x", 1), 1);
	assert_back(0, wrong, 0);
	assert_received(0, right, "x");
	assert_back(1, give_room(1, 10), 0);
	assert_output(0, "");
	assert_back(CONTROL_TX, give_room(CONTROL_TX, 10), 0);
	use_up_control_room();
	wrong = send(CONTROL_RX, "readable", 8);
	set_open(1, false);
	assert_back(CONTROL_RX, wrong, 0);
	give_control_room(1);
	assert_told("OPEN 1 0");
	close_bench();
}

static void send_control(u16 event)
{
	struct virtio_console_control m = { .event = le16_of(event), .value = le16_of(1) };

	send(CONTROL_TX, &m, sizeof(m));
}

static void hostile_G32_chain_longer_than_any_breaks_the_device_until_reset(void **state)
{
	struct span sg[273];
	u8 *bytes;

	prepare(2);
	b.config.queue_size = 1024;
	init();
	start(single);
	for (u16 queue = 0; queue < 4; queue++) {
		bool in = queue % 2 == 0;

		bytes = rig_alloc(&b.rig, ARRAY_SIZE(sg));
		for (u32 i = 0; i < ARRAY_SIZE(sg); i++)
			sg[i] = (struct span){ bytes + i, 1 };
		rig_submit(&b.rig, queue, sg, in ? 0 : 272, in ? 272 : 0, bytes); /* the longest */
		assert_false(b.vdev->broken);
		rig_submit(&b.rig, queue, sg, in ? 0 : 273, in ? 273 : 0, sg);
		if (queue == 0) /* the first is filled, the second looked at */
			assert_int_equal(type_in(0, bytes, ARRAY_SIZE(sg)), 272);
		if (queue == CONTROL_RX) {
			send_control(VIRTIO_CONSOLE_DEVICE_READY); /* told in the first */
			assert_false(b.vdev->broken);
			send_control(VIRTIO_CONSOLE_PORT_READY);
		}
		assert_true(b.vdev->broken);
		assert_string_equal(b.vdev->fault_what, ring_fault_name(RING_FAULT_CHAIN_TOO_LONG));
		assert_int_equal(b.vdev->fault_queue, queue);

		b.mock[0].n_got = 0;
		rig_reset(&b.rig);
		rig_restart(&b.rig, queue < 1 ? single : NULL);
		assert_false(b.vdev->broken);
		assert_back(1, send(1, "fine", 4), 0);
		assert_output(0, "fine");
	}
	close_bench();
}

/* ---- at random ------------------------------------------------------------------------- */

/* Two streams through a port, in pieces of all sizes on both sides: no byte lost or doubled. */
static void streams_at_random_arrive_whole(void **state)
{
	static u8 sent[60000], arrived[60000];
	size_t n_sent = 0, n_arrived = 0, n_typed = 0;
	u64 rng = seed;

	open_two_ports(2);
	for (size_t i = 0; i < sizeof(sent); i++)
		sent[i] = (u8)rig_random(&rng);
	b.mock[1].takes = 0;
	while (b.mock[1].n_got < sizeof(sent) || n_arrived < sizeof(sent)) {
		struct mock *m = &b.mock[1];
		struct buffer *buf;
		u32 n, n_written;

		switch (rig_random(&rng) % 5) {
		case 0: /* output */
			n = 1 + rig_random(&rng) % 300;
			n = (u32)min_u64(n, sizeof(sent) - n_sent);
			if (n && b.rig.vq[5].n_free > 2) {
				send(5, sent + n_sent, n);
				n_sent += n;
			}
			break;
		case 1:
			let_write(1, rig_random(&rng) % 400);
			break;
		case 2: /* room for input */
			if (b.rig.vq[4].n_free > 2)
				give_room(4, 1 + rig_random(&rng) % 300);
			break;
		case 3:
			n = (u32)min_u64(rig_random(&rng) % 400, sizeof(sent) - n_typed);
			if (n && m->reading)
				n_typed += type_in(1, sent + n_typed, n);
			break;
		case 4:
			while (rig_reap(&b.rig, 5, &n_written))
				;
			while ((buf = rig_reap(&b.rig, 4, &n_written))) {
				memcpy(arrived + n_arrived, buf->bytes, n_written);
				n_arrived += n_written;
			}
			break;
		}
	}
	assert_memory_equal(b.mock[1].got, sent, sizeof(sent));
	assert_memory_equal(arrived, sent, sizeof(sent));
	close_bench();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(single_port_carries_both_ways),
		cmocka_unit_test(driver_without_multiport_has_port_0_alone),
		cmocka_unit_test(input_is_read_only_while_the_guest_has_room),
		cmocka_unit_test(output_goes_on_where_the_chardev_stopped),
		cmocka_unit_test(output_in_any_framing_is_one_stream),
		cmocka_unit_test(queue_stopped_in_the_middle_of_a_chain_goes_on_without_a_double),
		cmocka_unit_test(hostile_G19_reset_forgets_output_that_waited),
		cmocka_unit_test(broken_device_takes_no_input),
		cmocka_unit_test(size_in_the_configuration_follows_the_terminal),
		cmocka_unit_test(resize_of_a_console_port_is_told_and_only_of_those),
		cmocka_unit_test(resize_for_drivers_that_read_rows_first_is_swapped),
		cmocka_unit_test(emergency_write_works_before_any_set_up),
		cmocka_unit_test(ports_are_told_in_order_and_carry_both_ways),
		cmocka_unit_test(all_ports_have_queues_of_their_own),
		cmocka_unit_test(guest_that_closes_a_port_is_not_fed),
		cmocka_unit_test(news_without_a_buffer_waits_as_state_and_is_told_once),
		cmocka_unit_test(closed_port_is_told_closed_when_it_was_told_open),
		cmocka_unit_test(busy_port_does_not_keep_others_from_being_told),
		cmocka_unit_test(control_buffer_too_short_comes_back_empty_and_nothing_is_lost),
		cmocka_unit_test(port_added_while_running_works),
		cmocka_unit_test(port_removed_gives_its_buffers_back_and_its_number_free),
		cmocka_unit_test(port_that_the_guest_never_heard_of_is_not_taken_away),
		cmocka_unit_test(port_that_cannot_be_is_refused),
		cmocka_unit_test(hostile_G32_control_messages_without_sense_are_dropped),
		cmocka_unit_test(hostile_G32_messages_before_the_device_is_ready_do_nothing),
		cmocka_unit_test(hostile_G32_control_message_with_a_long_tail_is_read_by_its_head),
		cmocka_unit_test(hostile_G10_buffers_of_the_wrong_direction_come_back_empty),
		cmocka_unit_test(hostile_G32_chain_longer_than_any_breaks_the_device_until_reset),
		cmocka_unit_test(streams_at_random_arrive_whole),
	};
	int failed = 0;

	seed = rig_seed();
	for (combination = 0; combination < 8; combination++) {
		struct rig_options options = rig_combination(combination);

		failed += cmocka_run_group_tests_name(rig_describe(&options), tests, NULL, NULL);
	}
	return failed;
}
