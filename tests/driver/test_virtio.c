/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The driver core against a device that a test holds in its hands: matching, the handshake,
 * recovery, and what happens when nothing of it works.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "driver/virtio.h"
#include "tests/support/liar.h"

#define ID 61 /* no device of the specification's has it */
#define N_TOKENS 8

/* ---- a driver that keeps books --------------------------------------------------------- */

static struct books {
	int probe_error, restore_error; /* 0 or -errno */
	u32 n_probes, n_removes, n_freezes, n_restores, n_give_ups, n_changes;
	struct virtqueue *vq;
	u32 n_back[N_TOKENS]; /* how often each token came back */
	bool ready_early;
	bool breaks_in_probe;
	bool change_in_probe;
} books;

static struct liar liar;
static u8 *buffers; /* the tokens are its first bytes */

static void note_back(void *token)
{
	u8 *p = token;

	assert_true(p >= buffers && p < buffers + N_TOKENS);
	books.n_back[p - buffers]++;
}

static void book_callback(struct virtqueue *vq)
{
	u32 len;
	void *token;

	while ((token = virtqueue_get_buf(vq, &len)))
		note_back(token);
	virtio_queue_failed(vq);
}

static int book_start(struct virtio_device *vdev)
{
	struct virtqueue_info info = { .name = "book", .callback = book_callback };

	return virtio_find_vqs(vdev, 1, &books.vq, &info);
}

static int book_probe(struct virtio_device *vdev)
{
	int err;

	books.n_probes++;
	if (books.probe_error == -ENOENT) /* before there are queues */
		return books.probe_error;
	err = book_start(vdev);
	if (err == 0 && books.probe_error) {
		virtio_del_vqs(vdev);
		return books.probe_error;
	}
	if (books.ready_early)
		virtio_device_ready(vdev);
	if (books.breaks_in_probe)
		virtio_break_device(vdev);
	if (books.change_in_probe)
		virtio_config_changed(vdev);
	return err;
}

static void book_stop(struct virtio_device *vdev)
{
	void *token;

	while (books.vq && (token = virtqueue_detach(books.vq)))
		note_back(token);
	vdev->config->del_vqs(vdev);
	books.vq = NULL;
}

static void book_remove(struct virtio_device *vdev)
{
	books.n_removes++;
	book_stop(vdev);
}

static void book_freeze(struct virtio_device *vdev)
{
	books.n_freezes++;
	book_stop(vdev);
}

static int book_restore(struct virtio_device *vdev)
{
	books.n_restores++;
	return books.restore_error ? books.restore_error : book_start(vdev);
}

static void book_give_up(struct virtio_device *vdev)
{
	books.n_give_ups++;
}

static void book_changed(struct virtio_device *vdev)
{
	books.n_changes++;
}

static const struct virtio_device_id book_ids[] = { { ID, VIRTIO_DEV_ANY_ID }, { 0, 0 } };
static const unsigned int book_features[] = { 3, 70 };

static struct virtio_driver book = {
	.name = "book",
	.id_table = book_ids,
	.feature_table = book_features,
	.feature_table_size = ARRAY_SIZE(book_features),
	.probe = book_probe,
	.remove = book_remove,
	.config_changed = book_changed,
	.freeze = book_freeze,
	.restore = book_restore,
	.give_up = book_give_up,
};

/* The same, without a freeze of its own. */
static struct virtio_driver plain;

static int setup(void **state)
{
	plain = book;
	plain.freeze = NULL;
	plain.restore = NULL;
	plain.give_up = NULL;
	memset(&books, 0, sizeof(books));
	liar_init(&liar, ID);
	buffers = liar_alloc(&liar, 4096);
	return 0;
}

static int teardown(void **state)
{
	liar_fini(&liar);
	return 0;
}

static void submit_all(void)
{
	for (u32 i = 0; i < N_TOKENS; i++) {
		struct span s = { buffers + 64 * i, 64 };

		assert_int_equal(virtqueue_add_buf(books.vq, &s, i % 2, 1 - i % 2, buffers + i), 0);
	}
	assert_true(virtqueue_kick(books.vq));
}

static void assert_all_back_once(void)
{
	for (u32 i = 0; i < N_TOKENS; i++)
		assert_int_equal(books.n_back[i], 1);
	assert_int_equal(liar.memory.n_mapped, 0);
}

static void poll_all(void)
{
	while (virtio_poll())
		;
}

static void bind(struct virtio_driver *driver)
{
	assert_int_equal(register_virtio_driver(driver), 0);
	assert_int_equal(register_virtio_device(&liar.front), 0);
	assert_int_equal(liar.front.state, VIRTIO_STATE_LIVE);
}

static void unbind(struct virtio_driver *driver)
{
	unregister_virtio_device(&liar.front);
	unregister_virtio_driver(driver);
}

/* ---- matching -------------------------------------------------------------------------- */

static void device_first_driver_later_binds(void **state)
{
	assert_int_equal(register_virtio_device(&liar.front), 0);
	assert_int_equal(liar.front.state, VIRTIO_STATE_UNBOUND);
	assert_int_equal(liar.n_statuses, 0); /* nobody cares for it: it is not touched */
	assert_int_equal(register_virtio_driver(&book), 0);
	assert_int_equal(liar.front.state, VIRTIO_STATE_LIVE);
	assert_int_equal(register_virtio_driver(&book), -EBUSY);
	assert_int_equal(books.n_probes, 1);
	unregister_virtio_driver(&book);
	assert_int_equal(books.n_removes, 1);
	assert_int_equal(liar.front.state, VIRTIO_STATE_UNBOUND);
	assert_int_equal(register_virtio_driver(&book), 0); /* and again */
	assert_int_equal(books.n_probes, 2);
	unbind(&book);
	assert_int_equal(books.n_removes, 2);
}

static void other_id_or_vendor_is_not_bound(void **state)
{
	static const struct virtio_device_id picky[] = { { ID, 7 }, { 0, 0 } };
	struct virtio_driver driver = book;

	driver.id_table = picky;
	assert_int_equal(register_virtio_driver(&driver), 0);
	assert_int_equal(register_virtio_device(&liar.front), 0);
	assert_int_equal(books.n_probes, 0);
	unregister_virtio_device(&liar.front);
	liar.front.id.vendor = 7;
	assert_int_equal(register_virtio_device(&liar.front), 0);
	assert_int_equal(books.n_probes, 1);
	unregister_virtio_device(&liar.front);
	liar.front.id.device = ID + 1;
	assert_int_equal(register_virtio_device(&liar.front), 0);
	assert_int_equal(books.n_probes, 1);
	unbind(&driver);
}

/* ---- the handshake --------------------------------------------------------------------- */

static void start_writes_status_step_by_step(void **state)
{
	const u8 order[] = { 0, 1, 3, 11, 15 }; /* G-CORE-2.1.1-01, -02 */

	bind(&book);
	assert_int_equal(liar.n_statuses, sizeof(order));
	assert_memory_equal(liar.statuses, order, sizeof(order));
	unbind(&book);
	assert_int_equal(liar.statuses[sizeof(order)], 0);
	assert_int_equal(liar.n_statuses, sizeof(order) + 1);
}

static void ready_in_probe_is_not_said_twice(void **state)
{
	books.ready_early = true;
	bind(&book);
	assert_int_equal(liar.n_statuses, 5);
	assert_int_equal(liar.statuses[4], 15);
	unbind(&book);
}

static void unknown_features_are_never_acknowledged(void **state)
{
	struct features wanted = { { 0, 0 } };

	features_set(&wanted, 3);
	features_set(&wanted, 70);
	features_set(&wanted, VIRTIO_F_INDIRECT_DESC);
	features_set(&wanted, VIRTIO_F_EVENT_IDX);
	features_set(&wanted, VIRTIO_F_VERSION_1);
	features_set(&wanted, VIRTIO_F_ACCESS_PLATFORM); /* the platform has dma */
	features_set(&wanted, VIRTIO_F_RING_PACKED);
	liar.offers = (struct features){ { UINT64_MAX, UINT64_MAX } };
	bind(&book);
	assert_memory_equal(&liar.written, &wanted, sizeof(wanted));
	unbind(&book);

	/* Nor is anything that was not offered. */
	liar.offers = (struct features){ { 0, 0 } };
	features_set(&liar.offers, VIRTIO_F_VERSION_1);
	bind(&book);
	assert_memory_equal(&liar.written, &liar.offers, sizeof(wanted));
	unbind(&book);
}

static void trim_3(struct virtio_device *vdev)
{
	features_clear(&vdev->features, 3);
}

static void trimmed_feature_is_not_acknowledged(void **state)
{
	struct virtio_driver driver = book;

	driver.trim_features = trim_3;
	features_set(&liar.offers, 3);
	bind(&driver);
	assert_false(features_has(&liar.written, 3));
	unbind(&driver);
}

static void assert_does_not_come_up(u32 n_probes)
{
	assert_int_equal(register_virtio_driver(&book), 0);
	assert_int_equal(register_virtio_device(&liar.front), -ENODEV);
	assert_int_equal(liar.front.state, VIRTIO_STATE_UNBOUND);
	assert_int_equal(books.n_probes, n_probes);
	assert_true(liar.statuses[liar.n_statuses - 1] & VIRTIO_STATUS_FAILED);
	assert_int_equal(books.n_removes, 0);
	unbind(&book);
	assert_int_equal(books.n_removes, 0);
}

static void hostile_D05_features_ok_refused_fails(void **state)
{
	liar.refuses_features = true;
	assert_does_not_come_up(0);
}

static void hostile_D05_version_1_missing_fails(void **state)
{
	features_clear(&liar.offers, VIRTIO_F_VERSION_1);
	assert_does_not_come_up(0);
	assert_true(features_has(&liar.written, 127)); /* nothing was acknowledged */
}

static void hostile_D05_features_are_read_once(void **state)
{
	bind(&book);
	assert_int_equal(liar.n_feature_reads, 1);
	unbind(&book);
}

static void hostile_D04_generation_never_stable_ends(void **state)
{
	bind(&book);
	liar.unstable = true;
	liar.config[4] = 0x34;
	liar.config[5] = 0x12;
	liar.n_config_reads = 0;
	assert_int_equal(virtio_cread(&liar.front, 4, 2), 0x1234);
	assert_in_range(liar.n_config_reads, 2, 100);
	unbind(&book);
}

static void config_fields_are_little_endian(void **state)
{
	bind(&book);
	for (u32 i = 0; i < 16; i++)
		liar.config[i] = i + 1;
	assert_int_equal(virtio_cread(&liar.front, 1, 1), 0x02);
	assert_int_equal(virtio_cread(&liar.front, 2, 4), 0x06050403);
	assert_true(virtio_cread(&liar.front, 8, 8) == 0x100f0e0d0c0b0a09ull);
	virtio_cwrite(&liar.front, 4, 2, 0xbeef);
	assert_int_equal(liar.config[4], 0xef);
	assert_int_equal(liar.config[5], 0xbe);
	assert_int_equal(liar.config[6], 7);
	unbind(&book);
}

static void hostile_D07_reset_never_acknowledged_fails(void **state)
{
	liar.resets_never = true;
	assert_int_equal(register_virtio_driver(&book), 0);
	assert_int_equal(register_virtio_device(&liar.front), -ETIMEDOUT);
	assert_int_equal(books.n_probes, 0);
	unbind(&book);
	assert_int_equal(books.n_removes, 0);
}

static void probe_failing_sets_failed_and_leaves_nothing(void **state)
{
	static const int errors[] = { -ENOENT, -ENOMEM }; /* before, after find_vqs */

	for (u32 i = 0; i < ARRAY_SIZE(errors); i++) {
		books.probe_error = errors[i];
		assert_int_equal(register_virtio_driver(&book), 0);
		assert_int_equal(register_virtio_device(&liar.front), errors[i]);
		assert_true(liar.status & VIRTIO_STATUS_FAILED);
		assert_false(liar.status & VIRTIO_STATUS_DRIVER_OK);
		assert_int_equal(liar.front.state, VIRTIO_STATE_UNBOUND);
		unbind(&book);
		assert_int_equal(books.n_removes, 0);
		assert_null(liar.queues[0].vq);
	}
}

static void device_without_the_queue_fails_probe(void **state)
{
	liar.n_queues = 0;
	assert_int_equal(register_virtio_driver(&book), 0);
	assert_int_equal(register_virtio_device(&liar.front), -ENOENT);
	unregister_virtio_device(&liar.front);
	liar.n_queues = 1;
	liar.max_size = 0;
	assert_int_equal(register_virtio_device(&liar.front), -ENOENT);
	unbind(&book);
}

static void queue_size_is_rounded_for_split_rings_only(void **state)
{
	liar.max_size = 100;
	bind(&book);
	assert_int_equal(books.vq->setup.size, 64);
	unregister_virtio_device(&liar.front);
	features_set(&liar.offers, VIRTIO_F_RING_PACKED);
	assert_int_equal(register_virtio_device(&liar.front), 0);
	assert_int_equal(books.vq->setup.size, 100);
	unbind(&book);
}

static void queue_memory_missing_fails_probe(void **state)
{
	liar.memory.n_bytes = liar.memory.used_bytes + 512;
	assert_int_equal(register_virtio_driver(&book), 0);
	assert_int_equal(register_virtio_device(&liar.front), -ENOMEM);
	liar.memory.n_bytes = LIAR_RAM_BYTES;
	unbind(&book);
}

/* ---- recovery -------------------------------------------------------------------------- */

static void unregister_with_buffers_in_flight_gives_each_back_once(void **state)
{
	bind(&book);
	submit_all();
	unregister_virtio_driver(&book);
	assert_all_back_once();
	assert_int_equal(books.n_removes, 1);
	unregister_virtio_device(&liar.front);
}

static void hostile_D07_needs_reset_recovers_tokens_once(void **state)
{
	struct chain c;

	bind(&book);
	submit_all();
	assert_true(liar_pop(&liar, 0, &c)); /* one was answered, the others were not */
	liar_answer(&liar, 0, &c, 0);
	liar_interrupt(&liar, 0);
	liar_breaks(&liar);
	assert_int_equal(books.n_freezes, 0); /* callbacks only note */
	poll_all();
	assert_int_equal(books.n_freezes, 1);
	assert_int_equal(books.n_restores, 1);
	assert_int_equal(books.n_changes, 0);
	assert_all_back_once();
	assert_int_equal(liar.front.state, VIRTIO_STATE_LIVE);
	assert_int_equal(liar.status, 15);

	memset(books.n_back, 0, sizeof(books.n_back)); /* and it works again */
	submit_all();
	while (liar_pop(&liar, 0, &c))
		liar_answer(&liar, 0, &c, 0);
	liar_interrupt(&liar, 0);
	assert_all_back_once();
	unbind(&book);
	assert_all_back_once();
}

static void driver_without_freeze_is_removed_and_probed(void **state)
{
	bind(&plain);
	submit_all();
	liar_breaks(&liar);
	poll_all();
	assert_all_back_once();
	assert_int_equal(books.n_removes, 1);
	assert_int_equal(books.n_probes, 2);
	unbind(&plain);
	assert_int_equal(books.n_removes, 2);
}

static void driver_without_freeze_that_cannot_come_back_is_removed_once(void **state)
{
	bind(&plain);
	books.probe_error = -ENOMEM;
	liar_breaks(&liar);
	poll_all();
	assert_int_equal(liar.front.state, VIRTIO_STATE_BROKEN);
	unbind(&plain);
	assert_int_equal(books.n_removes, 1);
}

static void hostile_D01_broken_queue_is_recovered(void **state)
{
	bind(&book);
	submit_all();
	liar_use(&liar, 0, 9999, 0, 1);
	liar_interrupt(&liar, 0);
	assert_int_equal(books.n_restores, 1);
	assert_all_back_once();
	assert_int_equal(liar.front.state, VIRTIO_STATE_LIVE);
	unbind(&book);
}

static void break_in_probe_is_recovered_afterwards(void **state)
{
	books.breaks_in_probe = true;
	bind(&book);
	poll_all();
	assert_int_equal(books.n_restores, 1);
	unbind(&book);
}

static void config_change_in_probe_is_told_afterwards(void **state)
{
	books.change_in_probe = true;
	bind(&book);
	assert_int_equal(books.n_changes, 1);
	virtio_config_changed(&liar.front);
	assert_int_equal(books.n_changes, 2);
	unbind(&book);
}

static void hostile_D07_device_that_breaks_for_ever_is_left_alone(void **state)
{
	u32 n;

	bind(&book);
	for (n = 0; n < 1000 && books.n_give_ups == 0; n++) {
		liar_breaks(&liar);
		poll_all();
	}
	assert_in_range(n, 10, 100);
	assert_int_equal(books.n_give_ups, 1);
	assert_int_equal(liar.front.state, VIRTIO_STATE_BROKEN);
	liar_breaks(&liar); /* nobody listens any more */
	virtio_break_device(&liar.front);
	assert_false(virtio_poll());
	assert_int_equal(books.n_give_ups, 1);

	/* Somebody repaired it. */
	liar.memory.now_ns += 60000000000ull;
	assert_int_equal(virtio_device_back(&liar.front), 0);
	liar_breaks(&liar);
	poll_all();
	assert_int_equal(liar.front.state, VIRTIO_STATE_LIVE);
	assert_int_equal(books.n_removes, 0);
	unbind(&book);
	assert_int_equal(books.n_removes, 1);
}

static void device_that_breaks_seldom_is_recovered_each_time(void **state)
{
	bind(&book);
	for (u32 i = 0; i < 100; i++) {
		liar.memory.now_ns += 1000000000ull;
		liar_breaks(&liar);
		poll_all();
		assert_int_equal(liar.front.state, VIRTIO_STATE_LIVE);
	}
	assert_int_equal(liar.front.n_recoveries, 100);
	unbind(&book);
}

static void restore_failing_gives_up_once(void **state)
{
	bind(&book);
	submit_all();
	books.restore_error = -ENOMEM;
	liar_breaks(&liar);
	poll_all();
	assert_all_back_once();
	assert_int_equal(books.n_give_ups, 1);
	assert_int_equal(liar.front.state, VIRTIO_STATE_BROKEN);
	assert_true(liar.status & VIRTIO_STATUS_FAILED);
	unbind(&book);
	assert_int_equal(books.n_removes, 1);
}

static void hostile_D07_reset_not_acknowledged_in_recovery_gives_tokens_back(void **state)
{
	bind(&book);
	submit_all();
	liar_breaks(&liar);
	liar.resets_never = true;
	poll_all();
	assert_all_back_once();
	assert_int_equal(books.n_give_ups, 1);
	assert_int_equal(books.n_restores, 0);
	unbind(&book);
}

static void gone_gives_tokens_back_and_back_brings_up(void **state)
{
	bind(&book);
	submit_all();
	liar.front.config->reset(
		&liar.front); /* its process died: nobody uses our memory any more */
	liar.gone = true;
	virtio_device_gone(&liar.front);
	virtio_device_gone(&liar.front);
	assert_all_back_once();
	assert_int_equal(books.n_freezes, 1);
	assert_int_equal(liar.front.state, VIRTIO_STATE_BROKEN);
	assert_false(virtio_poll());

	assert_int_equal(virtio_device_back(&liar.front), -ENODEV); /* not really */
	liar.gone = false;
	assert_int_equal(virtio_device_back(&liar.front), 0);
	assert_int_equal(liar.front.state, VIRTIO_STATE_LIVE);
	assert_int_equal(books.n_restores, 1);
	assert_int_equal(virtio_device_back(&liar.front), 0); /* it is there: nothing happens */
	assert_int_equal(books.n_restores, 1);
	unbind(&book);
	assert_int_equal(books.n_removes, 1);
}

static void unregister_while_gone_removes_once(void **state)
{
	bind(&book);
	submit_all();
	liar.front.config->reset(&liar.front);
	liar.gone = true;
	virtio_device_gone(&liar.front);
	unbind(&book);
	assert_int_equal(books.n_removes, 1);
	assert_all_back_once();
}

static void break_noted_before_gone_does_not_count_for_the_next_life(void **state)
{
	bind(&book);
	liar_breaks(&liar);
	liar.front.config->reset(&liar.front);
	virtio_device_gone(&liar.front);
	assert_int_equal(virtio_device_back(&liar.front), 0);
	assert_false(virtio_poll());
	assert_int_equal(books.n_restores, 1);
	unbind(&book);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(device_first_driver_later_binds),
		TEST(other_id_or_vendor_is_not_bound),
		TEST(start_writes_status_step_by_step),
		TEST(ready_in_probe_is_not_said_twice),
		TEST(unknown_features_are_never_acknowledged),
		TEST(trimmed_feature_is_not_acknowledged),
		TEST(hostile_D05_features_ok_refused_fails),
		TEST(hostile_D05_version_1_missing_fails),
		TEST(hostile_D05_features_are_read_once),
		TEST(hostile_D04_generation_never_stable_ends),
		TEST(config_fields_are_little_endian),
		TEST(hostile_D07_reset_never_acknowledged_fails),
		TEST(probe_failing_sets_failed_and_leaves_nothing),
		TEST(device_without_the_queue_fails_probe),
		TEST(queue_size_is_rounded_for_split_rings_only),
		TEST(queue_memory_missing_fails_probe),
		TEST(unregister_with_buffers_in_flight_gives_each_back_once),
		TEST(hostile_D07_needs_reset_recovers_tokens_once),
		TEST(driver_without_freeze_is_removed_and_probed),
		TEST(driver_without_freeze_that_cannot_come_back_is_removed_once),
		TEST(hostile_D01_broken_queue_is_recovered),
		TEST(break_in_probe_is_recovered_afterwards),
		TEST(config_change_in_probe_is_told_afterwards),
		TEST(hostile_D07_device_that_breaks_for_ever_is_left_alone),
		TEST(device_that_breaks_seldom_is_recovered_each_time),
		TEST(restore_failing_gives_up_once),
		TEST(hostile_D07_reset_not_acknowledged_in_recovery_gives_tokens_back),
		TEST(gone_gives_tokens_back_and_back_brings_up),
		TEST(unregister_while_gone_removes_once),
		TEST(break_noted_before_gone_does_not_count_for_the_next_life),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
