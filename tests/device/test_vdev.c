/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The device core by itself, with a type that echoes: status machine, features, configuration,
 * faults, reset, polling.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/shared.h"
#include "tests/support/rig.h"

#define N_QUEUES 3
#define MAX_SIZE 64

struct echo {
	struct vdev vdev;
	u8 config[16];
	struct span spans[32];
	bool refuse;
	bool hold; /* pop one chain and keep it */
	struct chain held;
	bool holding;
	unsigned int n_activated, n_drained, n_reset;
	void (*pushed)(void); /* called after each push */
	bool forget;
	u32 written_at, written_bytes;
	_Alignas(16) u8 arena[16384];
};

static struct echo *echo_of(struct vdev *vdev)
{
	return container_of(vdev, struct echo, vdev);
}

static void echo_kick(struct vdev *vdev, u16 queue)
{
	struct echo *e = echo_of(vdev);
	struct chain c = { .spans = e->spans, .max_spans = ARRAY_SIZE(e->spans) };

	if (e->holding)
		return;
	while (vdev_pop(vdev, queue, &c) > 0) {
		if (e->hold) {
			e->held = c;
			e->holding = true;
			return;
		}
		vdev_push(vdev, queue, &c, sg_copy(&c.in, &c.out, c.out.n_bytes));
		if (e->pushed)
			e->pushed();
	}
}

static void echo_drain(struct vdev *vdev)
{
	struct echo *e = echo_of(vdev);

	e->n_drained++;
	if (e->holding)
		vdev_push(vdev, 0, &e->held, 0);
	e->holding = false;
}

static void echo_activate(struct vdev *vdev)
{
	echo_of(vdev)->n_activated++;
}

static void echo_reset(struct vdev *vdev)
{
	struct echo *e = echo_of(vdev);

	e->n_reset++;
	if (e->forget)
		memset(e->config, 0, sizeof(e->config));
}

static int echo_check(struct vdev *vdev, const struct features *accepted)
{
	return echo_of(vdev)->refuse ? -EINVAL : 0;
}

static void echo_written(struct vdev *vdev, u32 offset, u32 n_bytes)
{
	echo_of(vdev)->written_at = offset;
	echo_of(vdev)->written_bytes = n_bytes;
}

static const struct vdev_type echo_type = {
	.name = "echo",
	.check_features = echo_check,
	.activate = echo_activate,
	.drain = echo_drain,
	.reset = echo_reset,
	.kick = echo_kick,
	.config_written = echo_written,
};

static struct echo *echo_new(void)
{
	static struct echo e;
	struct arena arena = { .base = e.arena };
	struct vdev_queue *queues;

	memset(&e, 0, sizeof(e));
	queues = vdev_carve_queues(&arena, N_QUEUES, MAX_SIZE);
	assert_true(arena.used_bytes <= sizeof(e.arena));
	vdev_init(&e.vdev, &echo_type, "echo", e.config, sizeof(e.config), queues, N_QUEUES);
	features_set(&e.vdev.offered, 5);
	features_set(&e.vdev.offered, 70);
	e.vdev.writable[0] = (struct vdev_writable){ 4, 2 };
	e.vdev.writable[1] = (struct vdev_writable){ 8, 4 };
	return &e;
}

static void echo_works_in_every_ring_combination(void **state)
{
	for (unsigned int i = 0; i < 8; i++) {
		struct rig_options o = rig_combination(i);
		struct echo *e = echo_new();
		struct rig rig;

		print_message("%s\n", rig_describe(&o));
		rig_start(&rig, &e->vdev, &o, NULL);

		char *out = rig_alloc(&rig, 4096), *in = rig_alloc(&rig, 4096);

		for (unsigned int round = 0; round < 300; round++) {
			struct span sg[] = {
				{ out, 7 }, { out + 7, 93 }, { in, 50 }, { in + 50, 100 }
			};

			memset(out, round, 100);
			assert_int_equal(rig_transact(&rig, round % N_QUEUES, sg, 2, 2), 100);
			assert_memory_equal(in, out, 100);
		}
		rig_stop(&rig);
	}
}

/* What the specification lets a status byte become, written down a second time. */
static u8 status_model(u8 now, u8 write, bool acceptable)
{
	u8 next = now | (write & (1 | 2 | 128));

	if (write == 0)
		return 0;
	if ((write & 8) && (next & 3) == 3 && acceptable)
		next |= 8;
	if ((write & 4) && (next & 8) && !(next & 128))
		next |= 4;
	return next;
}

/* Each of 256 values from each state that can be reached. */
static void hostile_G18_every_status_from_every_state(void **state)
{
	struct echo *e = echo_new();
	struct features good = { { 0, 0 } }, bad;
	bool seen[256] = { true };
	unsigned int n_states = 1;
	u8 paths[256][8], n_path[256] = { 0 };

	features_set(&good, VIRTIO_F_VERSION_1);
	bad = good;
	features_set(&bad, 6);
	for (unsigned int at = 0; at < 256; at++) {
		for (unsigned int write = 0; seen[at] && write < 256; write++) {
			for (int acceptable = 0; acceptable < 2; acceptable++) {
				u8 want;

				vdev_set_status(&e->vdev, 0);
				vdev_set_features(&e->vdev, &good);
				for (unsigned int i = 0; i < n_path[at]; i++)
					vdev_set_status(&e->vdev, paths[at][i]);
				assert_int_equal(e->vdev.status, at);
				want = status_model(at, write, acceptable || (at & 8));
				vdev_set_features(&e->vdev, acceptable ? &good : &bad);
				vdev_set_status(&e->vdev, write);
				assert_int_equal(e->vdev.status, want);
				if (acceptable && !seen[want]) {
					assert_true(n_path[at] < 8);
					memcpy(paths[want], paths[at], n_path[at]);
					paths[want][n_path[at]] = write;
					n_path[want] = n_path[at] + 1;
					seen[want] = true;
					n_states++;
					at = 0; /* an earlier number may have become reachable */
				}
			}
		}
	}
	print_message("%u states\n", n_states);
	assert_int_equal(n_states, 12);
}

static void features_not_offered_stay_refused(void **state)
{
	struct echo *e = echo_new();
	struct features f = { { 0, 0 } };

	/* Without VERSION_1 there is no device for you (D-CORE-6.2-02). */
	vdev_set_features(&e->vdev, &f);
	vdev_set_status(&e->vdev, 1 | 2 | 8);
	assert_int_equal(e->vdev.status, 3);
	/* A bit that was not offered (D-CORE-2.2.2-02b). */
	features_set(&f, VIRTIO_F_VERSION_1);
	features_set(&f, 71);
	vdev_set_features(&e->vdev, &f);
	vdev_set_status(&e->vdev, 1 | 2 | 8);
	assert_int_equal(e->vdev.status, 3);
	/* The type's own refusal. */
	features_clear(&f, 71);
	features_set(&f, 70);
	e->refuse = true;
	vdev_set_features(&e->vdev, &f);
	vdev_set_status(&e->vdev, 1 | 2 | 8);
	assert_int_equal(e->vdev.status, 3);
	e->refuse = false;
	vdev_set_status(&e->vdev, 1 | 2 | 8);
	assert_int_equal(e->vdev.status, 11);
	assert_true(vdev_has(&e->vdev, 70));
	/* And final from then on (G-CORE-3.1.1-03). */
	features_clear(&f, 70);
	vdev_set_features(&e->vdev, &f);
	assert_true(vdev_has(&e->vdev, 70));
}

static void config_only_writable_bytes_change(void **state)
{
	struct echo *e = echo_new();
	u8 buf[32], want[32] = { 0 };

	memset(buf, 0xaa, sizeof(buf));
	vdev_config_write(&e->vdev, 0, buf, sizeof(buf));
	memset(want + 4, 0xaa, 2);
	memset(want + 8, 0xaa, 4);
	vdev_config_read(&e->vdev, 0, buf, sizeof(buf));
	assert_memory_equal(buf, want, sizeof(want));
	assert_int_equal(e->written_at, 8);
	assert_int_equal(e->written_bytes, 4);
	/* G21: across the end, far past the end, and round the top of the numbers. */
	vdev_config_read(&e->vdev, 14, buf, 8);
	assert_int_equal(buf[7], 0);
	vdev_config_read(&e->vdev, UINT32_MAX, buf, 8);
	vdev_config_write(&e->vdev, UINT32_MAX, buf, 8);
	vdev_config_write(&e->vdev, 9, (u8[]){ 1 }, 1);
	assert_int_equal(e->written_at, 9);
	assert_int_equal(e->written_bytes, 1);
	assert_int_equal(e->config[9], 1);
}

static void fault_breaks_whole_device_once_until_reset(void **state)
{
	struct rig_options o = { 0 };
	struct echo *e = echo_new();
	struct rig rig;
	struct span sg[2];

	rig_start(&rig, &e->vdev, &o, NULL);
	sg[0] = (struct span){ rig_alloc(&rig, 64), 64 };
	sg[1] = (struct span){ rig_alloc(&rig, 64), 64 };
	/* Queue 1: the available index jumps. */
	le16_store(&((struct virtq_avail *)rig.vq[1].setup.driver_area)->idx, 999);
	vdev_kick(&e->vdev, 1);
	vdev_kick(&e->vdev, 1);
	assert_true(e->vdev.broken);
	assert_int_equal(e->vdev.status & VIRTIO_STATUS_DEVICE_NEEDS_RESET, 64);
	assert_int_equal(rig.n_config, 1);
	assert_int_equal(e->vdev.n_faults, 1);
	assert_string_equal(e->vdev.fault_what, "avail-jump");
	assert_int_equal(e->vdev.fault_queue, 1);
	/* The others stand still too. */
	rig_submit(&rig, 0, sg, 1, 1, sg);
	assert_false(virtqueue_pending(&rig.vq[0]));
	/* After a reset: as new. */
	assert_int_equal(rig_reset(&rig), 1);
	assert_int_equal(e->vdev.status, 0);
	rig_restart(&rig, NULL);
	sg[0] = (struct span){ rig_alloc(&rig, 64), 64 };
	sg[1] = (struct span){ rig_alloc(&rig, 64), 64 };
	assert_int_equal(rig_transact(&rig, 1, sg, 1, 1), 64);
	rig_stop(&rig);
}

static void hostile_G24_ring_outside_memory_needs_reset_at_driver_ok(void **state)
{
	struct rig_options o = { 0 };
	struct echo *e = echo_new();
	struct rig rig;
	struct features f = { { 0, 0 } };
	struct devq_setup bad = { .size = 16, .desc_gpa = 0, .driver_gpa = 0, .device_gpa = 0 };

	rig_start(&rig, &e->vdev, &o, NULL);
	rig_reset(&rig);
	features_set(&f, VIRTIO_F_VERSION_1);
	vdev_set_features(&e->vdev, &f);
	vdev_set_status(&e->vdev, 1 | 2 | 8);
	assert_int_equal(vdev_queue_start(&e->vdev, 0, &bad, 0), -EPROTO);
	assert_int_equal(rig.n_config, 0); /* nobody listens before DRIVER_OK */
	vdev_set_status(&e->vdev, 1 | 2 | 4 | 8);
	assert_int_equal(e->vdev.status, 64 | 15);
	assert_int_equal(rig.n_config, 1);
	assert_int_equal(e->n_activated, 1); /* the first, good, time only */
	rig_restart(&rig, NULL);
	rig_stop(&rig);
}

static void hostile_G20_kicks_at_any_time_do_no_harm(void **state)
{
	struct rig_options o = { 0 };
	struct echo *e = echo_new();
	struct rig rig;

	for (u32 i = 0; i < 65536; i++)
		vdev_kick(&e->vdev, i);
	rig_start(&rig, &e->vdev, &o, NULL);
	for (u32 i = 0; i < 65536; i++)
		vdev_kick(&e->vdev, i);
	assert_false(e->vdev.broken);
	rig_stop(&rig);
	for (u32 i = 0; i < 65536; i++)
		vdev_kick(&e->vdev, i);
	assert_false(e->vdev.broken);
}

static void reset_with_a_request_held_drains_it(void **state)
{
	struct rig_options o = { .packed = true };
	struct echo *e = echo_new();
	struct rig rig;
	struct span sg;

	e->hold = true;
	rig_start(&rig, &e->vdev, &o, NULL);
	sg = (struct span){ rig_alloc(&rig, 64), 64 };
	rig_submit(&rig, 0, &sg, 1, 0, &sg);
	assert_true(e->holding);
	assert_int_equal(rig.memory.n_pins, 1 + 1 + N_QUEUES + 1);
	rig_stop(&rig);
	assert_false(e->holding);
	assert_int_equal(e->n_reset, 1);
}

static void kick_while_disabled_is_kept(void **state)
{
	struct rig_options o = { 0 };
	struct echo *e = echo_new();
	struct rig rig;
	struct span sg[2];
	u32 len;

	rig_start(&rig, &e->vdev, &o, NULL);
	sg[0] = (struct span){ rig_alloc(&rig, 64), 64 };
	sg[1] = (struct span){ rig_alloc(&rig, 64), 64 };
	vdev_queue_enable(&e->vdev, 2, false);
	rig_submit(&rig, 2, sg, 1, 1, sg);
	assert_null(rig_reap(&rig, 2, &len));
	vdev_queue_enable(&e->vdev, 2, true);
	assert_ptr_equal(rig_reap(&rig, 2, &len), sg);
	assert_int_equal(rig.n_used[2], 1);
	rig_stop(&rig);
}

static void polling_needs_no_kicks_and_loses_none_at_its_end(void **state)
{
	for (unsigned int i = 0; i < 8; i++) {
		struct rig_options o = rig_combination(i);
		struct echo *e = echo_new();
		struct rig rig;
		struct span sg[2];
		u64 kicks;
		u32 len;

		rig_start(&rig, &e->vdev, &o, NULL);
		sg[0] = (struct span){ rig_alloc(&rig, 64), 64 };
		sg[1] = (struct span){ rig_alloc(&rig, 64), 64 };
		vdev_set_polling(&e->vdev, true);
		assert_false(vdev_poll(&e->vdev));
		rig_submit(&rig, 0, sg, 1, 1, sg); /* an event armed before may still ring */
		while (!rig_reap(&rig, 0, &len))
			assert_true(vdev_poll(&e->vdev));
		kicks = rig.n_kicks[0];
		for (int n = 0; n < 10; n++) {
			rig_submit(&rig, 0, sg, 1, 1, sg);
			assert_int_equal(rig.n_kicks[0], kicks);
			assert_true(vdev_poll(&e->vdev));
			assert_ptr_equal(rig_reap(&rig, 0, &len), sg);
		}
		rig_submit(&rig, 0, sg, 1, 1, sg);
		vdev_set_polling(&e->vdev, false); /* finds it by itself */
		assert_ptr_equal(rig_reap(&rig, 0, &len), sg);
		assert_int_equal(rig_transact(&rig, 0, sg, 1, 1), 64);
		assert_int_equal(rig.n_kicks[0], kicks + 1);
		rig_stop(&rig);
	}
}

/* A driver that offers a new buffer for each one that it gets back, at once. */
static struct {
	struct rig *rig;
	struct span sg[2];
	u64 n;
} endless;

static void endless_refill(void)
{
	struct virtqueue *vq = &endless.rig->vq[0];
	u32 len;

	devq_flush(&endless.rig->vdev->queues[0].q);
	while (virtqueue_get_buf(vq, &len)) {
		assert_int_equal(virtqueue_add_buf(vq, endless.sg, 1, 1, endless.sg), 0);
		virtqueue_kick_prepare(vq);
		endless.n++;
	}
}

static void hostile_G38_driver_that_never_ends_gets_one_turn(void **state)
{
	for (unsigned int i = 0; i < 8; i++) {
		struct rig_options o = rig_combination(i);
		struct echo *e = echo_new();
		struct rig rig;

		rig_start(&rig, &e->vdev, &o, NULL);
		endless.rig = &rig;
		endless.n = 0;
		endless.sg[0] = (struct span){ rig_alloc(&rig, 64), 64 };
		endless.sg[1] = (struct span){ rig_alloc(&rig, 64), 64 };
		e->pushed = endless_refill;
		rig_submit(&rig, 0, endless.sg, 1, 1, endless.sg);
		assert_int_equal(endless.n, VDEV_LOOK_REQUESTS);
		assert_int_equal(rig.n_again, 1);
		assert_true(rig.again[0]);
		/* The next turn is as long, and polling sees that there is work. */
		vdev_kick(&e->vdev, 0);
		assert_int_equal(endless.n, 2 * VDEV_LOOK_REQUESTS);
		assert_true(vdev_poll(&e->vdev));
		e->pushed = NULL;
		vdev_kick(&e->vdev, 0);
		assert_false(vdev_poll(&e->vdev));
		assert_false(e->vdev.broken);
		rig_stop(&rig);
	}
}

static void pause_keeps_settings_and_reset_does_not_touch_them(void **state)
{
	struct echo *e = echo_new();

	e->vdev.writable[0].is_setting = true;
	vdev_config_write(&e->vdev, 4, (u8[]){ 7, 8 }, 2);
	vdev_config_write(&e->vdev, 8, (u8[]){ 9 }, 1);
	e->forget = true; /* its reset sets the configuration back */
	e->written_bytes = 0;
	vdev_reset_keep_settings(&e->vdev);
	assert_int_equal(e->config[4], 7);
	assert_int_equal(e->config[5], 8);
	assert_int_equal(e->config[8], 0);
	assert_int_equal(e->written_bytes, 2); /* and the type heard of it */
	vdev_reset(&e->vdev);
	assert_int_equal(e->config[4], 0);
}

static void memory_replaced_under_a_live_queue(void **state)
{
	struct rig_options o = { .packed = true };
	struct echo *e = echo_new();
	struct rig rig;
	struct memory other;
	struct memory_region regions[2], one[1];
	struct span sg[2];

	rig_start(&rig, &e->vdev, &o, NULL);
	sg[0] = (struct span){ rig_alloc(&rig, 64), 64 };
	sg[1] = (struct span){ rig_alloc(&rig, 64), 64 };
	memcpy(regions, rig.regions, sizeof(regions));
	assert_int_equal(memory_init(&other, regions, 2), 0);
	vdev_set_memory(&e->vdev, &other);
	assert_int_equal(rig.memory.n_pins, 1);
	assert_int_equal(rig_transact(&rig, 0, sg, 1, 1), 64);
	/* A map without the ring breaks the device and nothing else. */
	one[0] = (struct memory_region){ 0, 4096, rig.ram };
	assert_int_equal(memory_init(&rig.memory, one, 1), 0);
	vdev_set_memory(&e->vdev, &rig.memory);
	assert_true(e->vdev.broken);
	assert_int_equal(other.n_pins, 1);
	assert_string_equal(e->vdev.fault_what, "area");
	rig_stop(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(echo_works_in_every_ring_combination),
		cmocka_unit_test(hostile_G18_every_status_from_every_state),
		cmocka_unit_test(features_not_offered_stay_refused),
		cmocka_unit_test(config_only_writable_bytes_change),
		cmocka_unit_test(fault_breaks_whole_device_once_until_reset),
		cmocka_unit_test(hostile_G24_ring_outside_memory_needs_reset_at_driver_ok),
		cmocka_unit_test(hostile_G20_kicks_at_any_time_do_no_harm),
		cmocka_unit_test(reset_with_a_request_held_drains_it),
		cmocka_unit_test(kick_while_disabled_is_kept),
		cmocka_unit_test(polling_needs_no_kicks_and_loses_none_at_its_end),
		cmocka_unit_test(hostile_G38_driver_that_never_ends_gets_one_turn),
		cmocka_unit_test(pause_keeps_settings_and_reset_does_not_touch_them),
		cmocka_unit_test(memory_replaced_under_a_live_queue),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
