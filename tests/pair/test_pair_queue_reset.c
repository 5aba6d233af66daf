/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * One queue reset while the device lives on (VIRTIO_F_RING_RESET), on every transport and kind
 * of ring: its buffers come back once, the other queue does not notice, and it works again.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "tests/pair/pair.h"
#include "tests/support/echo.h"
#include "tests/support/rig.h"

#define N_HELD 7

static struct echo echo;
static struct pair pair;
static struct virtqueue *vqs[2];
static unsigned int n_recycled;
static bool recycled[N_HELD];

static int probe(struct virtio_device *vdev)
{
	const struct virtqueue_info infos[] = {
		{ .name = "a", .max_size = 16, .max_indirect = 4 },
		{ .name = "b", .max_size = 16, .max_indirect = 4 },
	};

	return virtio_find_vqs(vdev, 2, vqs, infos);
}

static void remove_device(struct virtio_device *vdev)
{
	for (int i = 0; i < 2; i++)
		while (virtqueue_detach(vqs[i]))
			;
	virtio_del_vqs(vdev);
}

static const struct virtio_device_id ids[] = { { 0xec0, VIRTIO_DEV_ANY_ID }, { 0, 0 } };
static struct virtio_driver driver = {
	.name = "resetter",
	.id_table = ids,
	.probe = probe,
	.remove = remove_device,
};

static void recycle(struct virtqueue *vq, void *token)
{
	bool *mark = token;

	assert_ptr_equal(vq, vqs[0]);
	assert_in_range(mark - recycled, 0, N_HELD - 1);
	assert_false(*mark);
	*mark = true;
	n_recycled++;
}

/* An echo through queue `q`. */
static void echo_once(u16 q, u8 *out, u8 *in, u8 with)
{
	struct span sg[] = { { out, 5 }, { out + 5, 27 }, { in, 32 } };
	u32 len = 0;

	memset(out, with, 32);
	memset(in, 0, 32);
	assert_int_equal(virtqueue_add_buf(vqs[q], sg, 2, 1, out), 0);
	assert_true(virtqueue_kick(vqs[q]));
	pair_settle(&pair);
	assert_ptr_equal(virtqueue_get_buf(vqs[q], &len), out);
	assert_int_equal(len, 32);
	assert_memory_equal(out, in, 32);
}

static void queue_reset_gives_its_buffers_back_and_leaves_the_other_alone(void **state)
{
	u64 seed = rig_seed();

	for (unsigned int i = 0; i < pair_n_combinations(); i++) {
		struct pair_options options = pair_combination(i);
		u8 *out, *in;
		u64 n_resets;

		print_message("%s\n", pair_describe(&options));
		echo_init(&echo, 2);
		assert_int_equal(register_virtio_driver(&driver), 0);
		pair_start(&pair, &options, &echo.vdev, seed + i);
		if (!pair.front->config->reset_vq) {
			assert_int_equal(virtqueue_reset(vqs[0], recycle), -EOPNOTSUPP);
			pair_stop(&pair);
			unregister_virtio_driver(&driver);
			continue;
		}
		n_resets = echo.n_reset;
		out = pair_alloc(&pair, 64);
		in = pair_alloc(&pair, 64);
		for (u8 round = 1; round < 4; round++) {
			struct span sg[] = { { out + 32, 16 }, { in + 32, 16 } };

			echo_once(0, out, in, round);
			echo_once(1, out, in, 100 + round);
			/* Some are in the device's hands, some only in the ring. */
			memset(recycled, 0, sizeof(recycled));
			n_recycled = 0;
			echo.hold = true;
			for (int n = 0; n < N_HELD; n++) {
				assert_int_equal(virtqueue_add_buf(vqs[0], sg, 1, 1, &recycled[n]),
						 0);
				if (n == 2) {
					assert_true(virtqueue_kick(vqs[0]));
					pair_settle(&pair);
				}
			}
			echo.hold = false;
			virtqueue_disable_cb(vqs[0]);
			assert_int_equal(virtqueue_reset(vqs[0], recycle), 0);
			assert_int_equal(n_recycled, N_HELD);
			assert_false(echo.holding[0]);
			assert_int_equal(vqs[0]->n_free, vqs[0]->setup.size);
			assert_int_equal(vqs[0]->n_in_flight, 0);
			assert_false(vqs[0]->cb_enabled); /* the driver's wish outlives it */
			virtqueue_enable_cb(vqs[0]);
			echo_once(1, out, in, 200 + round);
			echo_once(0, out, in, 50 + round);
		}
		assert_int_equal(echo.n_reset, n_resets); /* the device itself lived on */
		assert_int_equal(pair.front->n_recoveries, 0);
		pair_stop(&pair);
		unregister_virtio_driver(&driver);
	}
	print_message("%u combinations\n", pair_n_combinations());
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(queue_reset_gives_its_buffers_back_and_leaves_the_other_alone),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
