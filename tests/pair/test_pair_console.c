/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The console driver against the console device, on every transport and kind of ring. Byte i of
 * every stream is a function of i, so that whoever gets bytes knows whether they are the right
 * ones without being told.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "device/console.h"
#include "driver/console.h"
#include "spec/console.h"
#include "tests/pair/pair.h"
#include "tests/support/rig.h"

#define N_PORTS 4

static u64 seed;

/* A byte stream's two ends: what was sent and what came. */
struct stream {
	u64 n_sent, n_came;
};

/* A chardev, and the owner's view of the port that shows it. */
struct end {
	struct chardev chardev;
	size_t takes; /* bytes of output it takes before it says: no more */
	bool reading;
	struct stream in, out;
	u32 n_changed, n_room;
};

static struct bench {
	struct vdev *back;
	void *mem;
	struct end ends[N_PORTS];
	struct pair pair;
	u64 rng;
} b;

static u8 byte_at(u64 i)
{
	return i * 167 + i / 251;
}

static void bytes_send(struct stream *s, u8 *bytes, u32 n)
{
	for (u32 i = 0; i < n; i++)
		bytes[i] = byte_at(s->n_sent + i);
}

static void bytes_come(struct stream *s, const u8 *bytes, u32 n)
{
	for (u32 i = 0; i < n; i++)
		assert_int_equal(bytes[i], byte_at(s->n_came + i));
	s->n_came += n;
	assert_true(s->n_came <= s->n_sent);
}

/* ---- the device's world ------------------------------------------------------------------ */

static size_t take_output(struct chardev *c, const void *bytes, size_t n)
{
	struct end *e = container_of(c, struct end, chardev);

	n = min_u64(n, e->takes);
	if (e->takes != SIZE_MAX)
		e->takes -= n;
	bytes_come(&e->out, bytes, n);
	return n;
}

static void set_reading(struct chardev *c, bool on)
{
	container_of(c, struct end, chardev)->reading = on;
}

static const struct chardev_ops chardev_ops = { take_output, set_reading };

static void type_in(u32 id, u32 n)
{
	struct end *e = &b.ends[id];
	u8 bytes[1000];

	if (!e->reading)
		return;
	n = min_u64(n, sizeof(bytes));
	bytes_send(&e->in, bytes, n);
	e->in.n_sent += n; /* the driver may have them before this returns */
	e->in.n_sent -= n - e->chardev.input(e->chardev.owner, bytes, n);
}

static void let_write(u32 id, size_t takes)
{
	struct chardev *c = &b.ends[id].chardev;

	b.ends[id].takes = takes;
	if (c->writable)
		c->writable(c->owner);
}

static void add_port(u32 id, const char *name, bool is_console)
{
	struct device_console_port port = { &b.ends[id].chardev, name, is_console };

	assert_int_equal(device_console_add_port(b.back, id, &port), 0);
}

/* ---- the driver's owner ------------------------------------------------------------------ */

static void on_changed(void *owner, u32 id)
{
	b.ends[id].n_changed++;
}

static void on_room(void *owner, u32 id)
{
	b.ends[id].n_room++;
}

static void on_input(void *owner, u32 id)
{
	u8 bytes[300];
	int n;

	while ((n = driver_console_read(b.pair.front, id, bytes, 1 + rig_random(&b.rng) % 300)) > 0)
		bytes_come(&b.ends[id].in, bytes, n);
	assert_int_equal(n, 0);
}

static const struct driver_console_ears ears = { on_changed, on_input, on_room };

/* Returns what the driver took. */
static u32 write_some(u32 id, u32 n)
{
	struct stream *s = &b.ends[id].out;
	u8 bytes[1000];
	int taken;

	n = min_u64(n, sizeof(bytes));
	bytes_send(s, bytes, n);
	taken = driver_console_write(b.pair.front, id, bytes, n);
	assert_in_range(taken, 0, n);
	s->n_sent += taken;
	return taken;
}

static void start(unsigned int combination, u16 max_ports)
{
	struct pair_options options = pair_combination(combination);
	struct device_console_config config = {
		.name = "console",
		.max_ports = max_ports,
		.queue_size = 64,
	};

	memset(&b, 0, sizeof(b));
	b.rng = seed + combination;
	for (u32 i = 0; i < N_PORTS; i++)
		b.ends[i] = (struct end){
			.chardev = { .ops = &chardev_ops, .open = true, .cols = 80, .rows = 25 },
			.takes = SIZE_MAX,
		};
	b.mem = aligned_alloc(16, (device_console_bytes(&config) + 15) & ~(size_t)15);
	assert_non_null(b.mem);
	b.back = device_console_init(b.mem, &config);
	add_port(0, NULL, true);
	assert_int_equal(register_virtio_driver(&driver_console), 0);
	pair_start(&b.pair, &options, b.back, b.rng);
	assert_int_equal(driver_console_listen(b.pair.front, &ears, NULL), 0);
	pair_settle(&b.pair);
}

static void stop(void)
{
	pair_stop(&b.pair);
	unregister_virtio_driver(&driver_console);
	free(b.mem);
}

static void assert_all_came(u32 id)
{
	for (u32 i = 0; i < 100; i++) {
		let_write(id, SIZE_MAX);
		pair_settle(&b.pair);
	}
	assert_int_equal(b.ends[id].out.n_came, b.ends[id].out.n_sent);
	assert_int_equal(b.ends[id].in.n_came, b.ends[id].in.n_sent);
}

/* ---- tests ------------------------------------------------------------------------------- */

static void console_pair_bytes_both_ways_on_all_ports_come_once_in_order(void **state)
{
	for (unsigned int i = 0; i < pair_n_combinations(); i++) {
		u64 n_in = 0, n_out = 0;

		start(i, N_PORTS);
		for (u32 id = 1; id < N_PORTS; id++) {
			add_port(id, "a.port", false);
			pair_settle(&b.pair);
			assert_int_equal(driver_console_open(b.pair.front, id, true), 0);
		}
		for (u32 n = 0; n < 3000; n++) {
			u32 id = rig_random(&b.rng) % N_PORTS;

			switch (rig_random(&b.rng) % 6) {
			case 0:
			case 1:
				write_some(id, 1 + rig_random(&b.rng) % 1000);
				break;
			case 2:
				type_in(id, 1 + rig_random(&b.rng) % 1000);
				break;
			case 3:
				let_write(id, rig_random(&b.rng) % 2000);
				break;
			default:
				pair_step(&b.pair);
			}
		}
		for (u32 id = 0; id < N_PORTS; id++) {
			assert_all_came(id);
			n_in += b.ends[id].in.n_came;
			n_out += b.ends[id].out.n_came;
			assert_true(b.ends[id].out.n_came > 10000);
			assert_true(b.ends[id].in.n_came > 10000);
			assert_true(b.ends[id].n_room > 0);
		}
		assert_int_equal(device_console_n_ignored(b.back), 0);
		print_message("  %s: %llu bytes in, %llu out\n", pair_describe(&b.pair.options),
			      (unsigned long long)n_in, (unsigned long long)n_out);
		stop();
	}
}

static void console_pair_without_multiport_port_0_works(void **state)
{
	for (unsigned int i = 0; i < pair_n_combinations(); i++) {
		start(i, 1);
		assert_false(virtio_has_feature(b.pair.front, VIRTIO_CONSOLE_F_MULTIPORT));
		assert_int_equal(driver_console_port(b.pair.front, 0)->cols, 80);
		for (u32 n = 0; n < 500; n++) {
			write_some(0, 1 + rig_random(&b.rng) % 700);
			type_in(0, 1 + rig_random(&b.rng) % 700);
			pair_step(&b.pair);
		}
		assert_all_came(0);
		b.ends[0].chardev.cols = 132;
		b.ends[0].chardev.resized(b.ends[0].chardev.owner);
		pair_settle(&b.pair);
		assert_int_equal(driver_console_port(b.pair.front, 0)->cols, 132);
		stop();
	}
}

static void console_pair_ports_come_and_go_named_sized_and_opened(void **state)
{
	for (unsigned int i = 0; i < pair_n_combinations(); i++) {
		const struct driver_console_port *p;
		struct device_console_port_state s;

		start(i, N_PORTS);
		p = driver_console_port(b.pair.front, 0);
		assert_non_null(p);
		assert_true(p->is_console && p->open && p->device_open);
		assert_int_equal(p->cols, 80);
		assert_int_equal(p->rows, 25);
		for (u32 n = 0; n < 20; n++) {
			char name[20];

			snprintf(name, sizeof(name), "port.%u", n);
			assert_null(driver_console_port(b.pair.front, 2));
			add_port(2, name, n % 2);
			pair_settle(&b.pair);
			p = driver_console_port(b.pair.front, 2);
			assert_non_null(p);
			assert_string_equal(p->name, name);
			assert_int_equal(p->is_console, n % 2);
			assert_int_equal(p->open, n % 2);
			assert_int_equal(p->life, n + 1);
			assert_true(device_console_port_state(b.back, 2, &s));
			assert_true(s.guest_ready);
			assert_int_equal(s.guest_open, n % 2);
			driver_console_open(b.pair.front, 2, true);
			b.ends[2].chardev.open = false;
			b.ends[2].chardev.open_changed(b.ends[2].chardev.owner);
			pair_settle(&b.pair);
			assert_false(driver_console_port(b.pair.front, 2)->device_open);
			assert_true(device_console_port_state(b.back, 2, &s));
			assert_true(s.guest_open);
			b.ends[2].chardev.open = true;
			b.ends[2].chardev.open_changed(b.ends[2].chardev.owner);
			write_some(2, 100);
			type_in(2, 100);
			assert_all_came(2);
			assert_int_equal(device_console_remove_port(b.back, 2), 0);
			pair_settle(&b.pair);
		}
		assert_int_equal(device_console_n_ignored(b.back), 0);
		stop();
	}
}

static void console_pair_breaking_and_leaving_loses_no_waiting_byte(void **state)
{
	for (unsigned int i = 0; i < pair_n_combinations(); i++) {
		const struct pair_transport *t;
		struct device_console_port_state s;

		start(i, N_PORTS);
		add_port(1, "a.port", false);
		pair_settle(&b.pair);
		driver_console_open(b.pair.front, 1, true);
		t = b.pair.options.transport;
		for (u32 n = 0; n < 5; n++) {
			/* Nobody takes it, so all of it is still ours when the device ends. */
			b.ends[1].takes = 0;
			assert_int_equal(write_some(1, 1000), 1000);
			if (n % 2)
				pair_settle(&b.pair);
			if (n < 2) {
				vdev_break(b.back, 0, "the test breaks it");
				pair_settle(&b.pair);
			} else {
				t->cut(&b.pair);
				assert_null(driver_console_port(b.pair.front, 1));
				assert_int_equal(driver_console_write(b.pair.front, 1, "x", 1),
						 -ENODEV);
				assert_int_equal(t->join(&b.pair), 0);
				pair_settle(&b.pair);
			}
			assert_string_equal(driver_console_port(b.pair.front, 1)->name, "a.port");
			assert_true(device_console_port_state(b.back, 1, &s));
			assert_true(s.guest_open);
			type_in(1, 500);
			assert_all_came(1);
		}
		assert_int_equal(b.ends[1].out.n_came, 5000);
		assert_int_equal(b.ends[1].in.n_came, 2500);
		assert_int_equal(b.pair.front->n_recoveries, 5);
		stop();
	}
}

static void console_pair_emergency_write_is_output_at_once(void **state)
{
	for (unsigned int i = 0; i < pair_n_combinations(); i++) {
		start(i, 1);
		for (u32 n = 0; n < 10; n++) {
			b.ends[0].out.n_sent++;
			assert_int_equal(driver_console_emergency(b.pair.front, byte_at(n)), 0);
			assert_int_equal(b.ends[0].out.n_came, n + 1);
		}
		stop();
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(console_pair_bytes_both_ways_on_all_ports_come_once_in_order),
		cmocka_unit_test(console_pair_without_multiport_port_0_works),
		cmocka_unit_test(console_pair_ports_come_and_go_named_sized_and_opened),
		cmocka_unit_test(console_pair_breaking_and_leaving_loses_no_waiting_byte),
		cmocka_unit_test(console_pair_emergency_write_is_output_at_once),
	};

	seed = rig_seed();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
