/* SPDX-License-Identifier: BSD-3-Clause */
/* The console driver against a device that says what a test wants. On split and packed rings. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "driver/console.h"
#include "spec/console.h"
#include "tests/support/liar.h"

#define N_BUFFERS 8 /* in each of the driver's queues */
#define BUFFER_BYTES 256
#define CONTROL_RX VIRTIO_CONSOLE_CONTROL_RX_QUEUE
#define CONTROL_TX VIRTIO_CONSOLE_CONTROL_TX_QUEUE
#define RX VIRTIO_CONSOLE_RX_QUEUE
#define TX VIRTIO_CONSOLE_TX_QUEUE

static bool packed; /* the ring of this run */

static struct liar liar;
static struct virtio_device *const front = &liar.front;

/* A lock that may be taken once, and never by one who holds it. */
static bool locked;
static struct platform_ops locking;

static void lock(struct platform *p)
{
	assert_false(locked);
	locked = true;
}

static void unlock(struct platform *p)
{
	assert_true(locked);
	locked = false;
}

static void add_lock(void)
{
	locking = *front->platform->ops;
	locking.lock = lock;
	locking.unlock = unlock;
	front->platform->ops = &locking;
}

static struct {
	u32 n_changed[DRIVER_CONSOLE_MAX_PORTS];
	u32 n_input, n_room;
} heard;

static void on_changed(void *owner, u32 id)
{
	assert_ptr_equal(owner, &heard);
	assert_false(locked); /* it may call the driver */
	heard.n_changed[id]++;
}

static void on_input(void *owner, u32 id)
{
	assert_false(locked);
	heard.n_input++;
}

static void on_room(void *owner, u32 id)
{
	assert_false(locked);
	heard.n_room++;
}

static const struct driver_console_ears ears = { on_changed, on_input, on_room };

/* ---- the device's side ------------------------------------------------------------------- */

static void set_max_ports(u32 n)
{
	struct virtio_console_config config = { le16_of(0), le16_of(0), le32_of(n), le32_of(0) };

	memcpy(liar.config, &config, sizeof(config));
}

static int setup(void **state)
{
	memset(&heard, 0, sizeof(heard));
	liar_init(&liar, VIRTIO_ID_CONSOLE);
	add_lock();
	if (packed)
		features_set(&liar.offers, VIRTIO_F_RING_PACKED);
	features_set(&liar.offers, VIRTIO_CONSOLE_F_MULTIPORT);
	liar.n_queues = 10;
	set_max_ports(4);
	return 0;
}

static int teardown(void **state)
{
	liar_fini(&liar);
	return 0;
}

static void bind(void)
{
	assert_int_equal(register_virtio_driver(&driver_console), 0);
	assert_int_equal(register_virtio_device(front), 0);
	assert_int_equal(front->state, VIRTIO_STATE_LIVE);
	assert_int_equal(driver_console_listen(front, &ears, &heard), 0);
}

static void unbind(void)
{
	unregister_virtio_device(front);
	unregister_virtio_driver(&driver_console);
}

/* Puts bytes into the next buffer of a queue and says that there are `len`. */
static void give(u16 queue, const void *bytes, u32 n, u32 len)
{
	struct chain c;

	assert_true(liar_pop(&liar, queue, &c));
	assert_int_equal(c.out.n_bytes, 0); /* G-CONSOLE-5.3.6.1-01 */
	assert_int_equal(sg_write(&c.in, bytes, n), n);
	liar_answer(&liar, queue, &c, len);
}

static void say_more(u32 id, u16 event, u16 value, const void *more, u32 n)
{
	u8 bytes[BUFFER_BYTES];
	struct virtio_console_control message = { le32_of(id), le16_of(event), le16_of(value) };

	assert_true(n <= sizeof(bytes) - sizeof(message));
	memcpy(bytes, &message, sizeof(message));
	memcpy(bytes + sizeof(message), more, n);
	give(CONTROL_RX, bytes, sizeof(message) + n, sizeof(message) + n);
	liar_interrupt(&liar, CONTROL_RX);
}

static void say(u32 id, u16 event, u16 value)
{
	say_more(id, event, value, "", 0);
}

/* The next thing that the driver tells, or false. */
static bool hear(u32 *id, u16 *event, u16 *value)
{
	struct virtio_console_control message;
	struct chain c;

	if (!liar_pop(&liar, CONTROL_TX, &c))
		return false;
	assert_int_equal(c.in.n_bytes, 0); /* G-CONSOLE-5.3.6.1-02 */
	assert_int_equal(c.out.n_bytes, sizeof(message));
	sg_read(&c.out, &message, sizeof(message));
	*id = le32_get(message.id);
	*event = le16_get(message.event);
	*value = le16_get(message.value);
	liar_answer(&liar, CONTROL_TX, &c, 0);
	liar_interrupt(&liar, CONTROL_TX);
	return true;
}

static void assert_told(u32 id, u16 event, u16 value)
{
	u32 told_id;
	u16 told_event, told_value;

	assert_true(hear(&told_id, &told_event, &told_value));
	assert_int_equal(told_id, id);
	assert_int_equal(told_event, event);
	assert_int_equal(told_value, value);
}

static void assert_told_nothing(void)
{
	struct chain c;

	assert_false(liar_pop(&liar, CONTROL_TX, &c));
}

/* Bound, and port `id` is there and open. */
static void bind_with_port(u32 id)
{
	bind();
	assert_told(0, VIRTIO_CONSOLE_DEVICE_READY, 1); /* G-CONSOLE-5.3.6.2.2-01 */
	say(id, VIRTIO_CONSOLE_DEVICE_ADD, 1);
	assert_told(id, VIRTIO_CONSOLE_PORT_READY, 1);
	assert_int_equal(driver_console_open(front, id, true), 0);
	assert_told(id, VIRTIO_CONSOLE_PORT_OPEN, 1);
	assert_told_nothing();
}

/* What a port's output is, all of it that is in the queue. */
static u32 take_output(u32 id, u8 *bytes)
{
	struct chain c;
	u32 n = 0;

	while (liar_pop(&liar, TX(id), &c)) {
		assert_int_equal(c.in.n_bytes, 0);
		n += sg_read(&c.out, bytes + n, c.out.n_bytes);
		liar_answer(&liar, TX(id), &c, 0);
	}
	liar_interrupt(&liar, TX(id));
	return n;
}

/* ---- ports ------------------------------------------------------------------------------- */

static void port_added_named_opened_is_known(void **state)
{
	const struct virtio_console_resize size = { le16_of(80), le16_of(25) };
	const struct driver_console_port *p;

	bind_with_port(2);
	assert_null(driver_console_port(front, 1));
	p = driver_console_port(front, 2);
	assert_non_null(p);
	assert_string_equal(p->name, "");
	assert_false(p->device_open);
	say_more(2, VIRTIO_CONSOLE_PORT_NAME, 1, "org.example.port", 16);
	say(2, VIRTIO_CONSOLE_PORT_OPEN, 1);
	say_more(2, VIRTIO_CONSOLE_RESIZE, 0, &size, sizeof(size));
	p = driver_console_port(front, 2);
	assert_string_equal(p->name, "org.example.port");
	assert_true(p->device_open);
	assert_true(p->open);
	assert_int_equal(p->cols, 80);
	assert_int_equal(p->rows, 25);
	assert_int_equal(heard.n_changed[2], 4);
	assert_int_equal(driver_console_open(front, 2, false), 0);
	assert_told(2, VIRTIO_CONSOLE_PORT_OPEN, 0);
	assert_int_equal(driver_console_open(front, 2, false), 0);
	assert_told_nothing(); /* no news */
	unbind();
}

static void console_port_is_opened_at_once(void **state)
{
	bind_with_port(1);
	driver_console_open(front, 1, false);
	assert_told(1, VIRTIO_CONSOLE_PORT_OPEN, 0);
	say(1, VIRTIO_CONSOLE_CONSOLE_PORT, 1);
	assert_told(1, VIRTIO_CONSOLE_PORT_OPEN, 1); /* G-CONSOLE-5.3.6.2.2-02b, -02c */
	assert_true(driver_console_port(front, 1)->is_console);
	unbind();
}

static void port_removed_and_added_is_another_one(void **state)
{
	u8 bytes[16];
	u32 life;

	bind_with_port(1);
	life = driver_console_port(front, 1)->life;
	say_more(1, VIRTIO_CONSOLE_PORT_NAME, 1, "old", 3);
	give(RX(1), "secret", 6, 6);
	liar_interrupt(&liar, RX(1));
	say(1, VIRTIO_CONSOLE_DEVICE_REMOVE, 1);
	assert_null(driver_console_port(front, 1));
	assert_int_equal(driver_console_read(front, 1, bytes, 16), -ENODEV);
	assert_int_equal(driver_console_write(front, 1, bytes, 16), -ENODEV);
	assert_int_equal(driver_console_open(front, 1, true), -ENODEV);
	say(1, VIRTIO_CONSOLE_DEVICE_ADD, 1);
	assert_told(1, VIRTIO_CONSOLE_PORT_READY, 1);
	assert_told_nothing(); /* nobody opened the new one */
	assert_string_equal(driver_console_port(front, 1)->name, "");
	assert_int_not_equal(driver_console_port(front, 1)->life, life);
	assert_int_equal(driver_console_read(front, 1, bytes, 16), 0);
	give(RX(1), "new", 3, 3);
	assert_int_equal(driver_console_read(front, 1, bytes, 16), 3);
	assert_memory_equal(bytes, "new", 3);
	unbind();
}

static void news_of_ports_in_the_wrong_state_is_ignored(void **state)
{
	bind_with_port(1);
	say(1, VIRTIO_CONSOLE_DEVICE_ADD, 1); /* it is there */
	for (u16 event = 0; event < 20; event++)
		if (event != VIRTIO_CONSOLE_DEVICE_ADD)
			say(0, event, 1); /* it is not */
	say(1, VIRTIO_CONSOLE_DEVICE_READY, 1); /* the driver's word, not the device's */
	say(1, VIRTIO_CONSOLE_PORT_READY, 1);
	say(1, 0xffff, 0xffff);
	assert_told_nothing();
	assert_int_equal(heard.n_changed[0], 0);
	assert_int_equal(heard.n_changed[1], 1);
	assert_null(driver_console_port(front, 0));
	unbind();
}

static void hostile_D11_huge_port_numbers_are_refused(void **state)
{
	const u32 ids[] = { 4, 5, 31, 32, 0xffff, 0x10000, 0x7fffffff, 0x80000001, 0xffffffff };

	bind_with_port(1);
	for (u32 i = 0; i < ARRAY_SIZE(ids); i++) {
		say(ids[i], VIRTIO_CONSOLE_DEVICE_ADD, 1);
		assert_told(ids[i], VIRTIO_CONSOLE_PORT_READY, 0);
		for (u16 event = 2; event < 10; event++)
			say_more(ids[i], event, 1, "name", 4);
		assert_told_nothing();
		assert_null(driver_console_port(front, ids[i]));
		assert_int_equal(driver_console_write(front, ids[i], "x", 1), -ENODEV);
	}
	assert_int_equal(front->n_recoveries, 0);
	unbind();
}

static void hostile_D11_flood_of_news_is_bounded_and_last_word_counts(void **state)
{
	u32 id, n = 0;
	u16 event, value;
	bool ready = false, open = false;

	bind_with_port(1);
	for (u32 i = 0; i < 1000; i++) { /* it never takes what we tell */
		say(1, VIRTIO_CONSOLE_DEVICE_REMOVE, 1);
		say(100 + i, VIRTIO_CONSOLE_DEVICE_ADD, 1);
		say(1, VIRTIO_CONSOLE_DEVICE_ADD, 1);
		say(1, VIRTIO_CONSOLE_CONSOLE_PORT, 1);
	}
	for (; hear(&id, &event, &value); n++) {
		ready |= id == 1 && event == VIRTIO_CONSOLE_PORT_READY && value == 1;
		open = ready && id == 1 && event == VIRTIO_CONSOLE_PORT_OPEN && value == 1;
	}
	assert_in_range(n, 2, N_BUFFERS + 2);
	assert_true(ready && open);
	unbind();
}

static void hostile_D11_name_unterminated_is_cut(void **state)
{
	char name[BUFFER_BYTES - 8];

	memset(name, 'x', sizeof(name));
	bind_with_port(1);
	say_more(1, VIRTIO_CONSOLE_PORT_NAME, 1, name, sizeof(name));
	assert_int_equal(strlen(driver_console_port(front, 1)->name),
			 DRIVER_CONSOLE_NAME_BYTES - 1);
	say_more(1, VIRTIO_CONSOLE_PORT_NAME, 1, name, DRIVER_CONSOLE_NAME_BYTES);
	assert_int_equal(strlen(driver_console_port(front, 1)->name),
			 DRIVER_CONSOLE_NAME_BYTES - 1);
	say_more(1, VIRTIO_CONSOLE_PORT_NAME, 1, "ab\0cd", 5);
	assert_string_equal(driver_console_port(front, 1)->name, "ab");
	say(1, VIRTIO_CONSOLE_PORT_NAME, 1);
	assert_string_equal(driver_console_port(front, 1)->name, "");
	unbind();
}

static void hostile_D02_control_message_cut_short_is_ignored(void **state)
{
	const struct virtio_console_control add = { le32_of(0), le16_of(VIRTIO_CONSOLE_DEVICE_ADD),
						    le16_of(1) };

	bind_with_port(1);
	for (u32 len = 0; len < sizeof(add); len++) { /* the bytes are there, but not said to be */
		give(CONTROL_RX, &add, sizeof(add), len);
		liar_interrupt(&liar, CONTROL_RX);
	}
	for (u32 n = 0; n < sizeof(struct virtio_console_resize); n++)
		say_more(1, VIRTIO_CONSOLE_RESIZE, 0, "\1\1\1\1", n);
	assert_null(driver_console_port(front, 0));
	assert_int_equal(driver_console_port(front, 1)->cols, 0);
	assert_told_nothing();
	assert_int_equal(front->n_recoveries, 0);
	unbind();
}

/* ---- limits of the device ---------------------------------------------------------------- */

static void hostile_D04_no_ports_at_all_means_one(void **state)
{
	set_max_ports(0);
	bind_with_port(0);
	unbind();
}

static void hostile_D04_ports_without_end_are_limited(void **state)
{
	set_max_ports(0xffffffff);
	liar.n_queues = 2 * DRIVER_CONSOLE_MAX_PORTS + 2;
	bind_with_port(DRIVER_CONSOLE_MAX_PORTS - 1);
	say(DRIVER_CONSOLE_MAX_PORTS, VIRTIO_CONSOLE_DEVICE_ADD, 1);
	assert_told(DRIVER_CONSOLE_MAX_PORTS, VIRTIO_CONSOLE_PORT_READY, 0);
	unbind();
}

static void hostile_D04_fewer_queues_than_ports_fails_probe(void **state)
{
	size_t used;

	set_max_ports(0xffffffff);
	assert_int_equal(register_virtio_driver(&driver_console), 0);
	assert_int_equal(register_virtio_device(front), -ENOENT);
	unregister_virtio_device(front);
	used = liar.memory.used_bytes;
	for (u32 i = 0; i < 10; i++) { /* what failed gave everything back */
		assert_int_equal(register_virtio_device(front), -ENOENT);
		unregister_virtio_device(front);
	}
	assert_int_equal(liar.memory.used_bytes, used);
	unregister_virtio_driver(&driver_console);
}

static void memory_missing_fails_probe_wherever_it_ends(void **state)
{
	const size_t all = liar.memory.n_bytes;
	int err = -ENOMEM;
	u32 n = 0;

	assert_int_equal(register_virtio_driver(&driver_console), 0);
	for (size_t bytes = 0; err; bytes += 512, n++) {
		liar.memory.used_bytes = 0;
		liar.memory.freed = NULL;
		liar.memory.n_bytes = bytes;
		err = register_virtio_device(front);
		assert_true(err == 0 || err == -ENOMEM);
		if (err)
			unregister_virtio_device(front);
	}
	assert_true(n > 20);
	liar.memory.n_bytes = all;
	unbind();
}

static void one_entry_queues_work(void **state)
{
	u8 bytes[64];

	liar.max_size = 1;
	bind_with_port(1);
	assert_int_equal(driver_console_write(front, 1, "abc", 3), 3);
	assert_int_equal(driver_console_write(front, 1, "def", 3), 0);
	assert_int_equal(take_output(1, bytes), 3);
	assert_int_equal(heard.n_room, 1);
	assert_int_equal(driver_console_write(front, 1, "def", 3), 3);
	assert_int_equal(take_output(1, bytes), 3);
	assert_memory_equal(bytes, "def", 3);
	unbind();
}

/* ---- bytes ------------------------------------------------------------------------------- */

static void input_is_read_in_any_pieces(void **state)
{
	u8 bytes[BUFFER_BYTES], got;

	for (u32 i = 0; i < sizeof(bytes); i++)
		bytes[i] = i;
	bind_with_port(3);
	assert_int_equal(driver_console_read(front, 3, bytes, 1), 0);
	for (u32 round = 0; round < 5; round++) {
		for (u32 i = 0; i < N_BUFFERS; i++)
			give(RX(3), bytes + 32 * i, 32, 32);
		liar_interrupt(&liar, RX(3));
		for (u32 i = 0; i < sizeof(bytes); i++) {
			assert_int_equal(driver_console_read(front, 3, &got, 1), 1);
			assert_int_equal(got, bytes[i]);
		}
		assert_int_equal(driver_console_read(front, 3, &got, 1), 0);
	}
	assert_true(heard.n_input >= 5);
	unbind();
}

static void output_full_is_cut_and_room_is_told_once(void **state)
{
	static u8 bytes[N_BUFFERS * BUFFER_BYTES + 100], got[sizeof(bytes)];

	for (u32 i = 0; i < sizeof(bytes); i++)
		bytes[i] = i * 7;
	bind_with_port(1);
	assert_int_equal(driver_console_write(front, 1, bytes, sizeof(bytes)),
			 N_BUFFERS * BUFFER_BYTES);
	assert_int_equal(driver_console_write(front, 1, bytes, 1), 0);
	liar_interrupt(&liar, TX(1));
	assert_int_equal(heard.n_room, 0);
	assert_int_equal(take_output(1, got), N_BUFFERS * BUFFER_BYTES);
	assert_memory_equal(got, bytes, N_BUFFERS * BUFFER_BYTES);
	assert_int_equal(heard.n_room, 1);
	liar_interrupt(&liar, TX(1));
	assert_int_equal(heard.n_room, 1);
	assert_int_equal(driver_console_write(front, 1, bytes, 1), 1);
	unbind();
}

static void hostile_D02_input_of_no_bytes_for_ever_ends(void **state)
{
	u8 bytes[16];

	bind_with_port(1);
	for (u32 round = 0; round < 100; round++) {
		for (u32 i = 0; i < N_BUFFERS; i++)
			give(RX(1), "", 0, 0);
		assert_int_equal(driver_console_read(front, 1, bytes, 16), 0);
	}
	give(RX(1), "ok", 2, 2);
	assert_int_equal(driver_console_read(front, 1, bytes, 16), 2);
	unbind();
}

/* ---- lies that break the device ----------------------------------------------------------- */

/* After the reset: the device begins anew, and port 1 with it. */
static void assert_recovered_with_port_1(void)
{
	assert_int_equal(front->state, VIRTIO_STATE_LIVE);
	assert_int_equal(front->n_recoveries, 1);
	assert_null(driver_console_port(front, 1)); /* not until the device says so */
	assert_told(0, VIRTIO_CONSOLE_DEVICE_READY, 1);
	say(1, VIRTIO_CONSOLE_DEVICE_ADD, 1);
	assert_told(1, VIRTIO_CONSOLE_PORT_READY, 1);
	assert_told(1, VIRTIO_CONSOLE_PORT_OPEN, 1); /* as it was */
	assert_true(driver_console_port(front, 1)->open);
}

static void hostile_D02_input_longer_than_buffer_recovers(void **state)
{
	const u32 lens[] = { BUFFER_BYTES + 1, 0x10000, 0xffffffff };
	u8 bytes[16];

	for (u32 i = 0; i < ARRAY_SIZE(lens); i++) {
		bind_with_port(1);
		give(RX(1), "x", 1, lens[i]);
		assert_int_equal(driver_console_read(front, 1, bytes, 16), 0);
		liar_interrupt(&liar, RX(1));
		assert_recovered_with_port_1();
		give(RX(1), "ok", 2, 2);
		assert_int_equal(driver_console_read(front, 1, bytes, 16), 2);
		unbind();
	}
}

static void hostile_D02_control_longer_than_buffer_recovers(void **state)
{
	bind_with_port(1);
	give(CONTROL_RX, "x", 1, BUFFER_BYTES + 1);
	liar_interrupt(&liar, CONTROL_RX);
	assert_recovered_with_port_1();
	unbind();
}

static void hostile_D01_output_id_out_of_range_sends_again(void **state)
{
	u8 bytes[64];
	struct chain c;

	bind_with_port(1);
	assert_int_equal(driver_console_write(front, 1, "one ", 4), 4);
	assert_int_equal(driver_console_write(front, 1, "two ", 4), 4);
	assert_int_equal(driver_console_write(front, 1, "three", 5), 5);
	assert_true(liar_pop(&liar, TX(1), &c));
	liar_answer(&liar, TX(1), &c, 0); /* the first was taken */
	liar_use(&liar, TX(1), 9999, 0, 1);
	liar_interrupt(&liar, TX(1));
	assert_recovered_with_port_1();
	assert_int_equal(take_output(1, bytes), 9);
	assert_memory_equal(bytes, "two three", 9);
	unbind();
}

static void hostile_D01_input_used_twice_recovers(void **state)
{
	u8 bytes[16];
	struct chain c;

	bind_with_port(1);
	assert_true(liar_pop(&liar, RX(1), &c));
	liar_answer(&liar, RX(1), &c, 3);
	/* The driver reads the first and posts again only afterwards. */
	liar_answer(&liar, RX(1), &c, 3);
	assert_int_equal(driver_console_read(front, 1, bytes, 16), 3);
	liar_interrupt(&liar, RX(1));
	assert_recovered_with_port_1();
	unbind();
}

static void hostile_D07_interrupt_storm_changes_nothing(void **state)
{
	bind_with_port(1);
	for (u32 i = 0; i < 1000; i++)
		for (u16 queue = 0; queue < liar.n_queues; queue++)
			liar_interrupt(&liar, queue);
	assert_told_nothing();
	assert_int_equal(heard.n_changed[1], 1);
	assert_int_equal(front->n_recoveries, 0);
	unbind();
}

static void hostile_D07_needs_reset_with_bytes_both_ways_loses_none(void **state)
{
	u8 bytes[16];

	bind_with_port(1);
	give(RX(1), "in", 2, 2);
	assert_int_equal(driver_console_read(front, 1, bytes, 1), 1);
	assert_int_equal(driver_console_write(front, 1, "out", 3), 3);
	liar_breaks(&liar);
	liar_interrupt(&liar, 0);
	assert_int_equal(heard.n_changed[1], 2);
	assert_recovered_with_port_1();
	assert_int_equal(driver_console_read(front, 1, bytes + 1, 8), 1); /* what was received */
	assert_memory_equal(bytes, "in", 2);
	assert_int_equal(take_output(1, bytes), 3);
	assert_memory_equal(bytes, "out", 3);
	unbind();
}

static void hostile_D07_device_given_up_drops_output(void **state)
{
	u8 bytes[16];

	bind_with_port(1);
	assert_int_equal(driver_console_write(front, 1, "out", 3), 3);
	liar.resets_never = true;
	liar_breaks(&liar);
	liar_interrupt(&liar, 0);
	assert_int_equal(front->state, VIRTIO_STATE_BROKEN);
	assert_null(driver_console_port(front, 1));
	assert_int_equal(driver_console_write(front, 1, "x", 1), -ENODEV);
	liar.resets_never = false;
	assert_int_equal(virtio_device_back(front), 0);
	assert_told(0, VIRTIO_CONSOLE_DEVICE_READY, 1);
	say(1, VIRTIO_CONSOLE_DEVICE_ADD, 1);
	assert_told(1, VIRTIO_CONSOLE_PORT_READY, 1);
	assert_told_nothing(); /* it is closed: the old one is gone for good */
	assert_int_equal(take_output(1, bytes), 0);
	unbind();
}

static void device_back_with_fewer_ports_and_more_again(void **state)
{
	bind_with_port(3);
	set_max_ports(2);
	liar_breaks(&liar);
	liar_interrupt(&liar, 0);
	assert_told(0, VIRTIO_CONSOLE_DEVICE_READY, 1);
	say(3, VIRTIO_CONSOLE_DEVICE_ADD, 1);
	assert_told(3, VIRTIO_CONSOLE_PORT_READY, 0);
	assert_null(driver_console_port(front, 3));
	set_max_ports(16); /* more than in probe: no buffers for those */
	liar_breaks(&liar);
	liar_interrupt(&liar, 0);
	assert_told(0, VIRTIO_CONSOLE_DEVICE_READY, 1);
	say(4, VIRTIO_CONSOLE_DEVICE_ADD, 1);
	assert_told(4, VIRTIO_CONSOLE_PORT_READY, 0);
	say(3, VIRTIO_CONSOLE_DEVICE_ADD, 1);
	assert_told(3, VIRTIO_CONSOLE_PORT_READY, 1);
	unbind();
}

/* ---- one port and nothing else ------------------------------------------------------------ */

static void single_port_is_there_at_once_with_its_size(void **state)
{
	const struct virtio_console_config config = { le16_of(132), le16_of(43),
						      le32_of(0xffffffff), le32_of(0) };
	const struct driver_console_port *p;
	u8 bytes[16];

	features_clear(&liar.offers, VIRTIO_CONSOLE_F_MULTIPORT);
	features_set(&liar.offers, VIRTIO_CONSOLE_F_SIZE);
	liar.n_queues = 2;
	memcpy(liar.config, &config, sizeof(config));
	bind();
	p = driver_console_port(front, 0);
	assert_non_null(p);
	assert_true(p->device_open);
	assert_int_equal(p->cols, 132);
	assert_int_equal(p->rows, 43);
	assert_int_equal(heard.n_changed[0], 1);
	liar.config[0] = 80;
	virtio_config_changed(front);
	assert_int_equal(driver_console_port(front, 0)->cols, 80);
	assert_int_equal(heard.n_changed[0], 2);
	assert_int_equal(driver_console_open(front, 0, true), 0);
	assert_null(driver_console_port(front, 1));

	assert_int_equal(driver_console_write(front, 0, "out", 3), 3);
	liar_breaks(&liar);
	liar_interrupt(&liar, 0);
	assert_int_equal(take_output(0, bytes), 3); /* nobody has to say that the port is there */
	assert_true(driver_console_port(front, 0)->open);
	assert_int_equal(heard.n_changed[0], 4);
	unbind();
}

static void emergency_write_reaches_the_register_in_any_state(void **state)
{
	bind();
	assert_int_equal(driver_console_emergency(front, 'x'), -EOPNOTSUPP);
	unbind();
	features_set(&liar.offers, VIRTIO_CONSOLE_F_EMERG_WRITE);
	bind();
	assert_int_equal(driver_console_emergency(front, 'x'), 0);
	assert_int_equal(liar.config[8], 'x');
	liar.resets_never = true;
	liar_breaks(&liar);
	liar_interrupt(&liar, 0);
	assert_int_equal(driver_console_emergency(front, 'y'), 0);
	assert_int_equal(liar.config[8], 'y');
	unbind();
	assert_int_equal(driver_console_emergency(front, 'z'), -EOPNOTSUPP);
	assert_int_equal(driver_console_listen(front, &ears, &heard), -ENODEV);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(port_added_named_opened_is_known),
		TEST(console_port_is_opened_at_once),
		TEST(port_removed_and_added_is_another_one),
		TEST(news_of_ports_in_the_wrong_state_is_ignored),
		TEST(hostile_D11_huge_port_numbers_are_refused),
		TEST(hostile_D11_flood_of_news_is_bounded_and_last_word_counts),
		TEST(hostile_D11_name_unterminated_is_cut),
		TEST(hostile_D02_control_message_cut_short_is_ignored),
		TEST(hostile_D04_no_ports_at_all_means_one),
		TEST(hostile_D04_ports_without_end_are_limited),
		TEST(hostile_D04_fewer_queues_than_ports_fails_probe),
		TEST(memory_missing_fails_probe_wherever_it_ends),
		TEST(one_entry_queues_work),
		TEST(input_is_read_in_any_pieces),
		TEST(output_full_is_cut_and_room_is_told_once),
		TEST(hostile_D02_input_of_no_bytes_for_ever_ends),
		TEST(hostile_D02_input_longer_than_buffer_recovers),
		TEST(hostile_D02_control_longer_than_buffer_recovers),
		TEST(hostile_D01_output_id_out_of_range_sends_again),
		TEST(hostile_D01_input_used_twice_recovers),
		TEST(hostile_D07_interrupt_storm_changes_nothing),
		TEST(hostile_D07_needs_reset_with_bytes_both_ways_loses_none),
		TEST(hostile_D07_device_given_up_drops_output),
		TEST(device_back_with_fewer_ports_and_more_again),
		TEST(single_port_is_there_at_once_with_its_size),
		TEST(emergency_write_reaches_the_register_in_any_state),
	};
	int n_failed = cmocka_run_group_tests_name("split", tests, NULL, NULL);

	packed = true;
	return n_failed + cmocka_run_group_tests_name("packed", tests, NULL, NULL);
}
