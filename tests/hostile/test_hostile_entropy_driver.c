/* SPDX-License-Identifier: BSD-3-Clause */
/* The entropy driver against a hostile device, on split and packed rings. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "driver/entropy.h"
#include "tests/support/liar.h"

#define SECOND_NS 1000000000ull
#define MOST 256 /* of the driver's own buffer */

static struct liar liar;
static bool packed;
static u8 bytes[1024];

static void up(void)
{
	liar_init(&liar, VIRTIO_ID_ENTROPY);
	liar.max_size = 8;
	if (packed)
		features_set(&liar.offers, VIRTIO_F_RING_PACKED);
	assert_int_equal(register_virtio_driver(&driver_entropy), 0);
	assert_int_equal(register_virtio_device(&liar.front), 0);
	memset(bytes, 0xc5, sizeof(bytes));
}

static void down(void)
{
	unregister_virtio_device(&liar.front);
	unregister_virtio_driver(&driver_entropy);
	liar_fini(&liar);
}

static int read_bytes(u32 n, u64 timeout_ns)
{
	return driver_entropy_read(&liar.front, bytes, n, timeout_ns);
}

/* Nothing is there yet, and now the device has the buffer. */
static void ask(struct chain *c)
{
	assert_int_equal(read_bytes(16, 0), -EAGAIN);
	assert_true(liar_pop(&liar, 0, c));
	assert_int_equal(c->in_bytes, MOST);
}

static void D02_length(void)
{
	static const struct {
		u32 len;
		int got;
		u32 n_recoveries;
	} rows[] = {
		{ 0, -EAGAIN, 0 },          { 1, 1, 0 },
		{ MOST, MOST, 0 },          { MOST + 1, -EAGAIN, 1 },
		{ UINT32_MAX, -EAGAIN, 1 },
	};

	for (u32 i = 0; i < ARRAY_SIZE(rows); i++) {
		struct chain c;

		up();
		ask(&c);
		memset(c.spans[0].base, 0x77, MOST);
		liar_answer(&liar, 0, &c, rows[i].len);
		assert_int_equal(read_bytes(1024, 1000000), rows[i].got);
		assert_int_equal(liar.front.n_recoveries, rows[i].n_recoveries);
		for (int at = 0; at < rows[i].got; at++)
			assert_int_equal(bytes[at], 0x77);
		for (int at = rows[i].got > 0 ? rows[i].got : 0; at < 1024; at++)
			assert_int_equal(bytes[at], 0xc5);
		down();
	}
}

static void D01_id(void)
{
	static const u32 ids[] = { 1, 7, 8, 65535, UINT32_MAX };

	for (u32 i = 0; i < ARRAY_SIZE(ids); i++) {
		struct chain c;

		up();
		ask(&c);
		liar_use(&liar, 0, ids[i], 16, 1);
		assert_int_equal(read_bytes(16, 1000000), -EAGAIN);
		assert_int_equal(liar.front.n_recoveries, 1);
		ask(&c); /* and it works again */
		liar_answer(&liar, 0, &c, 16);
		assert_int_equal(read_bytes(16, 0), 16);
		down();
	}
}

static void D07_nothing_comes(void)
{
	struct chain c;

	up();
	assert_int_equal(read_bytes(16, SECOND_NS), -EAGAIN);
	assert_int_equal(read_bytes(16, SECOND_NS), -EAGAIN);
	assert_true(liar_pop(&liar, 0, &c));
	assert_false(liar_pop(&liar, 0, &c)); /* asked once */
	liar_answer(&liar, 0, &c, 3); /* late, and welcome */
	assert_int_equal(read_bytes(16, 0), 3);
	down();
}

/* Bytes are the caller's copy: what the device writes later does not change them. */
static void bytes_handed_out_are_given_once_and_stay(void)
{
	struct chain c;

	up();
	ask(&c);
	memset(c.spans[0].base, 0x77, MOST);
	liar_answer(&liar, 0, &c, MOST);
	assert_int_equal(read_bytes(100, 0), 100);
	assert_int_equal(((u8 *)c.spans[0].base)[0], 0); /* wiped where they lay */
	assert_int_equal(((u8 *)c.spans[0].base)[99], 0);
	memset(c.spans[0].base, 0x11, MOST);
	for (u32 i = 0; i < 100; i++)
		assert_int_equal(bytes[i], 0x77);
	assert_int_equal(read_bytes(MOST, 0), MOST - 100);
	assert_int_equal(read_bytes(16, 0), -EAGAIN);
	down();
}

static void gone_while_waited_for(void)
{
	struct chain c;

	up();
	ask(&c);
	liar.front.config->reset(&liar.front);
	virtio_device_gone(&liar.front);
	assert_int_equal(read_bytes(16, SECOND_NS), -ENODEV);
	assert_int_equal(virtio_device_back(&liar.front), 0);
	ask(&c);
	down();
}

#define BOTH(test)                                   \
	static void hostile_entropy_##test(void **s) \
	{                                            \
		for (int i = 0; i < 2; i++) {        \
			packed = i;                  \
			test();                      \
		}                                    \
	}

BOTH(D01_id)
BOTH(D02_length)
BOTH(D07_nothing_comes)
BOTH(bytes_handed_out_are_given_once_and_stay)
BOTH(gone_while_waited_for)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(hostile_entropy_D01_id),
		cmocka_unit_test(hostile_entropy_D02_length),
		cmocka_unit_test(hostile_entropy_D07_nothing_comes),
		cmocka_unit_test(hostile_entropy_bytes_handed_out_are_given_once_and_stay),
		cmocka_unit_test(hostile_entropy_gone_while_waited_for),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
