/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Registers into vdev_* calls.
 *
 * What the vdev knows is asked of it each time (is a queue ready? what is the status?), so that
 * no second copy can disagree with it; kept here is only what the driver writes ahead of time.
 */
#include "transport/mmio/device.h"

#include "base/shared.h"

#define VENDOR_ID 0x54434456u /* "VDCT" */

/* ---- the interrupt line ---------------------------------------------------------------- */

/* D-MMIO-4.2.2.1-03, -04: a bit is set from its event to its acknowledgement, never else. */
static void interrupts_set(struct mmio_device *d, u32 status)
{
	bool was_high = d->interrupt_status != 0, high = status != 0;

	d->interrupt_status = status;
	if (high != was_high)
		d->irq(d->irq_arg, high);
}

static struct mmio_device *mmio_of(struct vdev_link *link)
{
	return container_of(link, struct mmio_device, link);
}

static void link_used(struct vdev_link *link, u16 queue)
{
	interrupts_set(mmio_of(link), mmio_of(link)->interrupt_status | VIRTIO_MMIO_INT_USED);
}

static void link_config(struct vdev_link *link)
{
	interrupts_set(mmio_of(link), mmio_of(link)->interrupt_status | VIRTIO_MMIO_INT_CONFIG);
}

static void link_again(struct vdev_link *link, u16 queue)
{
	mmio_of(link)->queues[queue].again = true;
}

static const struct vdev_link_ops link_ops = { link_used, link_config, link_again };

/* ---- queues ---------------------------------------------------------------------------- */

/* The queue that QueueSel names; NULL: there is none, whatever is done to it (G16). */
static struct mmio_device_queue *selected(struct mmio_device *d)
{
	return d->queue_sel < d->vdev->n_queues ? &d->queues[d->queue_sel] : NULL;
}

static bool selected_is_ready(const struct mmio_device *d)
{
	return d->queue_sel < d->vdev->n_queues && d->vdev->queues[d->queue_sel].started;
}

/* As after a reset: a driver that writes no size means the largest. */
static void queue_forget(struct mmio_device *d, u16 queue)
{
	d->queues[queue] = (struct mmio_device_queue){ .size = d->vdev->queues[queue].q.max_size };
}

static void queue_make_ready(struct mmio_device *d)
{
	const struct mmio_device_queue *q = selected(d);
	struct devq_setup setup;

	/* Before FEATURES_OK nobody knows what kind of ring it is; a broken device starts nothing. */
	if (!q || selected_is_ready(d) || d->vdev->broken ||
	    !(d->vdev->status & VIRTIO_STATUS_FEATURES_OK))
		return;
	setup = (struct devq_setup){
		/* What does not fit stays too large: the ring faults on it (G15). */
		.size = min_u64(q->size, UINT16_MAX),
		.desc_gpa = q->desc_gpa,
		.driver_gpa = q->driver_gpa,
		.device_gpa = q->device_gpa,
	};
	if (vdev_queue_start(d->vdev, d->queue_sel, &setup, vdev_queue_position_start(d->vdev)) ==
	    0)
		vdev_queue_enable(d->vdev, d->queue_sel, true);
}

/* Ends with nothing in flight: when the write is done, the ring is the driver's again. */
static void queue_stop(struct mmio_device *d)
{
	if (!selected_is_ready(d))
		return;
	vdev_queue_enable(d->vdev, d->queue_sel, false);
	vdev_queue_stop(d->vdev, d->queue_sel); /* D-MMIO-4.2.2.1-07 */
	d->queues[d->queue_sel].again = false;
}

/* D-MMIO-4.2.2.1-10: at once, so that QueueReset never reads anything but 0 (-08, -09, -12). */
static void queue_reset(struct mmio_device *d)
{
	if (!selected(d) || !features_has(&d->driver_features, VIRTIO_F_RING_RESET) ||
	    !(d->vdev->status & VIRTIO_STATUS_FEATURES_OK))
		return;
	queue_stop(d);
	queue_forget(d, d->queue_sel);
}

/* Size and addresses; those of a ring in use stay what they are (G15, G-MMIO-4.2.2.2-10). */
static void queue_write(struct mmio_device *d, u32 reg, u32 value)
{
	struct mmio_device_queue *q = selected(d);
	u64 *gpa;

	if (!q || selected_is_ready(d))
		return;
	switch (reg) {
	case VIRTIO_MMIO_QUEUE_SIZE:
		q->size = value;
		return;
	case VIRTIO_MMIO_QUEUE_DESC_LOW:
	case VIRTIO_MMIO_QUEUE_DESC_HIGH:
		gpa = &q->desc_gpa;
		break;
	case VIRTIO_MMIO_QUEUE_DRIVER_LOW:
	case VIRTIO_MMIO_QUEUE_DRIVER_HIGH:
		gpa = &q->driver_gpa;
		break;
	default:
		gpa = &q->device_gpa;
		break;
	}
	if (reg & 4) /* the upper half */
		*gpa = (u32)*gpa | (u64)value << 32;
	else
		*gpa = (*gpa >> 32 << 32) | value;
}

/* ---- features and status --------------------------------------------------------------- */

/* The device's, and this transport's own: that a queue ends and begins is nothing to the device. */
static struct features features_offered(const struct mmio_device *d)
{
	struct features f = d->vdev->offered;

	features_set(&f, VIRTIO_F_RING_RESET);
	return f;
}

static void features_write(struct mmio_device *d, u32 value)
{
	struct features devices;

	if (d->vdev->status & VIRTIO_STATUS_FEATURES_OK) /* too late (G-CORE-3.1.1-03) */
		return;
	/* Bits that no device can offer are as refused as others that were not offered (G22). */
	if (d->driver_features_sel >= sizeof(struct features) / sizeof(value))
		d->features_beyond |= value != 0;
	features_set_word32(&d->driver_features, d->driver_features_sel, value);
	devices = d->driver_features;
	features_clear(&devices, VIRTIO_F_RING_RESET);
	vdev_set_features(d->vdev, &devices);
}

/* All that the driver wrote; D-MMIO-4.2.2.1-05: the queues' readiness went with the vdev's reset. */
static void registers_reset(struct mmio_device *d)
{
	d->device_features_sel = d->driver_features_sel = d->queue_sel = 0;
	d->driver_features = (struct features){ { 0, 0 } };
	d->features_beyond = false;
	for (u16 i = 0; i < d->vdev->n_queues; i++)
		queue_forget(d, i);
	interrupts_set(d, 0);
}

static void status_write(struct mmio_device *d, u8 status)
{
	if (status == 0) {
		vdev_reset(d->vdev);
		registers_reset(d);
		return;
	}
	if (d->features_beyond)
		status &= ~VIRTIO_STATUS_FEATURES_OK; /* D-CORE-2.2.2-02b */
	if (status != 0)
		vdev_set_status(d->vdev, status);
}

/* ---- accesses -------------------------------------------------------------------------- */

static u32 register_read(struct mmio_device *d, u32 reg)
{
	struct vdev *vdev = d->vdev;
	struct features offered;

	switch (reg) {
	case VIRTIO_MMIO_MAGIC_VALUE: /* D-MMIO-4.2.2.1-01 */
		return VIRTIO_MMIO_MAGIC;
	case VIRTIO_MMIO_VERSION_REG: /* D-MMIO-4.2.2.1-02 */
		return VIRTIO_MMIO_VERSION;
	case VIRTIO_MMIO_DEVICE_ID:
		return vdev->type->device_id;
	case VIRTIO_MMIO_VENDOR_ID:
		return VENDOR_ID;
	case VIRTIO_MMIO_DEVICE_FEATURES:
		offered = features_offered(d);
		return features_word32(&offered, d->device_features_sel);
	case VIRTIO_MMIO_QUEUE_SIZE_MAX:
		return selected(d) ? vdev->queues[d->queue_sel].q.max_size : 0;
	case VIRTIO_MMIO_QUEUE_READY:
		return selected_is_ready(d);
	case VIRTIO_MMIO_INTERRUPT_STATUS:
		return d->interrupt_status;
	case VIRTIO_MMIO_STATUS:
		return vdev->status;
	case VIRTIO_MMIO_SHM_LEN_LOW: /* no device of ours has shared memory */
	case VIRTIO_MMIO_SHM_LEN_HIGH:
	case VIRTIO_MMIO_SHM_BASE_LOW:
	case VIRTIO_MMIO_SHM_BASE_HIGH:
		return UINT32_MAX;
	case VIRTIO_MMIO_CONFIG_GENERATION: /* D-MMIO-4.2.2.1-06 */
		return vdev->config_generation;
	}
	return 0;
}

static void register_write(struct mmio_device *d, u32 reg, u32 value)
{
	switch (reg) {
	case VIRTIO_MMIO_DEVICE_FEATURES_SEL:
		d->device_features_sel = value;
		break;
	case VIRTIO_MMIO_DRIVER_FEATURES:
		features_write(d, value);
		break;
	case VIRTIO_MMIO_DRIVER_FEATURES_SEL:
		d->driver_features_sel = value;
		break;
	case VIRTIO_MMIO_QUEUE_SEL:
		d->queue_sel = value;
		break;
	case VIRTIO_MMIO_QUEUE_SIZE:
	case VIRTIO_MMIO_QUEUE_DESC_LOW:
	case VIRTIO_MMIO_QUEUE_DESC_HIGH:
	case VIRTIO_MMIO_QUEUE_DRIVER_LOW:
	case VIRTIO_MMIO_QUEUE_DRIVER_HIGH:
	case VIRTIO_MMIO_QUEUE_DEVICE_LOW:
	case VIRTIO_MMIO_QUEUE_DEVICE_HIGH:
		queue_write(d, reg, value);
		break;
	case VIRTIO_MMIO_QUEUE_READY:
		if (value == 1)
			queue_make_ready(d);
		else if (value == 0)
			queue_stop(d);
		break;
	case VIRTIO_MMIO_QUEUE_NOTIFY:
		if (value < d->vdev->n_queues) /* G16: before the number is cut to 16 bits */
			vdev_kick(d->vdev, value);
		break;
	case VIRTIO_MMIO_INTERRUPT_ACK:
		interrupts_set(d, d->interrupt_status & ~value);
		break;
	case VIRTIO_MMIO_STATUS:
		status_write(d, value);
		break;
	case VIRTIO_MMIO_QUEUE_RESET:
		if (value == 1)
			queue_reset(d);
		break;
	}
}

/* G21. 64-bit fields are read by halves (G-MMIO-4.2.2.2-03): 8 bytes at once are not legal. */
static bool access_is_legal(u64 offset, u32 width)
{
	if (offset > UINT32_MAX || offset % 4 + width > 4)
		return false;
	if (offset < VIRTIO_MMIO_CONFIG)
		return width == 4; /* and so it is aligned */
	return (width == 1 || width == 2 || width == 4) && offset % width == 0;
}

u64 mmio_device_read(struct mmio_device *d, u64 offset, u32 width)
{
	le32 value = le32_of(0);

	if (!access_is_legal(offset, width))
		return 0;
	if (offset < VIRTIO_MMIO_CONFIG)
		return register_read(d, offset);
	vdev_config_read(d->vdev, offset - VIRTIO_MMIO_CONFIG, &value, width);
	return le32_get(value);
}

void mmio_device_write(struct mmio_device *d, u64 offset, u32 width, u64 value)
{
	le32 wire = le32_of(value);

	if (!access_is_legal(offset, width))
		return;
	if (offset < VIRTIO_MMIO_CONFIG)
		register_write(d, offset, value);
	else
		vdev_config_write(d->vdev, offset - VIRTIO_MMIO_CONFIG, &wire, width);
}

/* ---- the owner ------------------------------------------------------------------------- */

bool mmio_device_step(struct mmio_device *d)
{
	bool worked = false;

	for (u16 i = 0; i < d->vdev->n_queues; i++) {
		if (!d->queues[i].again)
			continue;
		d->queues[i].again = false; /* first: the look may end early again */
		vdev_kick(d->vdev, i);
		worked = true;
	}
	return worked;
}

void mmio_device_init(struct mmio_device *d, struct vdev *vdev, struct mmio_device_queue *queues,
		      void (*irq)(void *arg, bool high), void *irq_arg)
{
	*d = (struct mmio_device){
		.link.ops = &link_ops,
		.vdev = vdev,
		.queues = queues,
		.irq = irq,
		.irq_arg = irq_arg,
	};
	registers_reset(d);
	vdev_set_link(vdev, &d->link);
}

void mmio_device_fini(struct mmio_device *d)
{
	vdev_reset(d->vdev);
	registers_reset(d);
	vdev_set_link(d->vdev, NULL);
}
