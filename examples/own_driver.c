/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A whole driver of one's own: it throws dice with the bytes of an entropy device. main joins it
 * to a device in this process; in a kernel, a transport registers the devices that it finds.
 */
#include <stdio.h>
#include <stdlib.h>

#include "device/entropy.h"
#include "host/loop.h"
#include "host/randomness.h"
#include "transport/inproc/link.h"

static struct dice {
	struct virtqueue *vq;
	u8 *byte; /* the device's while a throw is on its way */
	int n_thrown;
} dice;

static void dice_throw(void)
{
	struct span s = { dice.byte, 1 };

	virtqueue_add_buf(dice.vq, &s, 0, 1, &dice); /* nothing out, one byte in, a token */
	virtqueue_kick(dice.vq);
}

static void dice_thrown(struct virtqueue *vq) /* the device used a buffer */
{
	u32 n_written;

	while (virtqueue_get_buf(vq, &n_written)) {
		if (n_written == 1 && *dice.byte < 252) /* a multiple of six */
			printf("throw %d: %d\n", ++dice.n_thrown, *dice.byte % 6 + 1);
		if (dice.n_thrown < 10)
			dice_throw();
	}
	virtio_queue_failed(vq); /* did the device lie? Then it is brought up again. */
}

static int dice_probe(struct virtio_device *vdev)
{
	struct virtqueue_info info = { .name = "request", .callback = dice_thrown };
	int err = virtio_find_vqs(vdev, 1, &dice.vq, &info);

	if (err < 0)
		return err;
	dice.byte = vdev->platform->ops->dma_alloc(vdev->platform, 1, 1, &(u64){ 0 });
	virtio_device_ready(vdev);
	dice_throw();
	return 0;
}

static void dice_remove(struct virtio_device *vdev)
{
	virtqueue_detach(dice.vq); /* a throw that never came back */
	vdev->config->del_vqs(vdev);
	vdev->platform->ops->dma_free(vdev->platform, dice.byte, 1);
}

static const struct virtio_device_id ids[] = { { VIRTIO_ID_ENTROPY, VIRTIO_DEV_ANY_ID }, { 0 } };
static struct virtio_driver driver = { "dice", ids, .probe = dice_probe, .remove = dice_remove };

int main(void)
{
	struct device_entropy_config config = { "rng", host_randomness_create(NULL),
						loop_clock(loop_create()), 8 };
	struct vdev *back = device_entropy_init(malloc(device_entropy_bytes(&config)), &config);
	static struct inproc_platform memory;
	static struct inproc link;

	inproc_platform_init(&memory, aligned_alloc(4096, 65536), 65536);
	inproc_init(&link, back, &memory, 0);
	register_virtio_driver(&driver);
	register_virtio_device(&link.front); /* matches, negotiates, probes */
	inproc_settle(&link);
	inproc_fini(&link);
	return dice.n_thrown != 10;
}
