/* SPDX-License-Identifier: BSD-3-Clause */
/* virtio_config_ops as register accesses (VIRTIO 1.4, 4.2). */
#include "transport/mmio/driver.h"

#include "base/log.h"
#include "base/shared.h"

#define RESET_LIMIT_NS 1000000000ull

#define GONE UINT32_MAX /* what a bus answers when nobody does; no register of ours reads so */

static struct mmio_driver *mmio_of(struct virtio_device *vdev)
{
	return container_of(vdev, struct mmio_driver, device);
}

/* Registers: aligned words and nothing else (G-MMIO-4.2.2.2-02). */
static u32 reg_read(struct mmio_driver *m, u32 reg)
{
	return m->regs->ops->read32(m->regs, reg);
}

static void reg_write(struct mmio_driver *m, u32 reg, u32 value)
{
	m->regs->ops->write32(m->regs, reg, value);
}

static void reg_write64(struct mmio_driver *m, u32 low, u64 value)
{
	reg_write(m, low, (u32)value);
	reg_write(m, low + 4, value >> 32);
}

/* ---- configuration space --------------------------------------------------------------- */

/*
 * The widest step for `n_bytes` at `offset`: a field by its own width, a field of 64 bits by
 * halves, an array of bytes by bytes (G-MMIO-4.2.2.2-03).
 */
static u32 step_bytes(u32 offset, u32 n_bytes)
{
	if (n_bytes % 4 == 0 && n_bytes <= 8 && offset % 4 == 0)
		return 4;
	return n_bytes == 2 && offset % 2 == 0 ? 2 : 1;
}

static void mmio_get(struct virtio_device *vdev, u32 offset, void *buf, u32 n_bytes)
{
	struct mmio_regs *regs = mmio_of(vdev)->regs;
	u32 step = step_bytes(offset, n_bytes), at = VIRTIO_MMIO_CONFIG + offset;

	for (u32 i = 0; i < n_bytes; i += step) {
		le32 value;

		if (step == 4)
			value = le32_of(regs->ops->read32(regs, at + i));
		else if (step == 2)
			value = le32_of(regs->ops->read16(regs, at + i));
		else
			value = le32_of(regs->ops->read8(regs, at + i));
		memcpy((u8 *)buf + i, &value, step); /* the low bytes come first */
	}
}

static void mmio_set(struct virtio_device *vdev, u32 offset, const void *buf, u32 n_bytes)
{
	struct mmio_regs *regs = mmio_of(vdev)->regs;
	u32 step = step_bytes(offset, n_bytes), at = VIRTIO_MMIO_CONFIG + offset;

	for (u32 i = 0; i < n_bytes; i += step) {
		le32 value = le32_of(0);

		memcpy(&value, (const u8 *)buf + i, step);
		if (step == 4)
			regs->ops->write32(regs, at + i, le32_get(value));
		else if (step == 2)
			regs->ops->write16(regs, at + i, le32_get(value));
		else
			regs->ops->write8(regs, at + i, le32_get(value));
	}
}

static u32 mmio_generation(struct virtio_device *vdev)
{
	return reg_read(mmio_of(vdev), VIRTIO_MMIO_CONFIG_GENERATION);
}

/* ---- status and features --------------------------------------------------------------- */

static u8 mmio_get_status(struct virtio_device *vdev)
{
	return reg_read(mmio_of(vdev), VIRTIO_MMIO_STATUS);
}

static void mmio_set_status(struct virtio_device *vdev, u8 status)
{
	reg_write(mmio_of(vdev), VIRTIO_MMIO_STATUS, status);
}

/* For the device to finish what it was told: bounded (D07). */
static int await_zero(struct mmio_driver *m, u32 reg)
{
	struct platform *p = m->device.platform;
	u64 began = p->ops->now_ns(p);
	u32 value;

	while ((value = reg_read(m, reg)) != 0) {
		if (value == GONE)
			return -ENODEV;
		if (p->ops->now_ns(p) - began > RESET_LIMIT_NS)
			return -ETIMEDOUT;
		p->ops->relax(p);
	}
	return 0;
}

static int mmio_reset(struct virtio_device *vdev)
{
	mmio_set_status(vdev, 0);
	return await_zero(mmio_of(vdev), VIRTIO_MMIO_STATUS);
}

/*
 * 64 bits, no more: devices made when there were no others take any selection but 0 for the
 * second word, and would show it again as the third, and lose it when we write the third.
 */
static void mmio_get_features(struct virtio_device *vdev, struct features *offered)
{
	struct mmio_driver *m = mmio_of(vdev);

	*offered = (struct features){ { 0, 0 } };
	for (u32 i = 0; i < 2; i++) {
		reg_write(m, VIRTIO_MMIO_DEVICE_FEATURES_SEL, i); /* G-MMIO-4.2.2.2-07 */
		features_set_word32(offered, i, reg_read(m, VIRTIO_MMIO_DEVICE_FEATURES));
	}
}

static int mmio_finalize_features(struct virtio_device *vdev)
{
	struct mmio_driver *m = mmio_of(vdev);

	for (u32 i = 0; i < 2; i++) {
		reg_write(m, VIRTIO_MMIO_DRIVER_FEATURES_SEL, i); /* G-MMIO-4.2.2.2-08 */
		reg_write(m, VIRTIO_MMIO_DRIVER_FEATURES, features_word32(&vdev->features, i));
	}
	return 0;
}

/* ---- queues ---------------------------------------------------------------------------- */

static bool mmio_notify(struct virtqueue *vq)
{
	reg_write(mmio_of(virtqueue_device(vq)), VIRTIO_MMIO_QUEUE_NOTIFY, vq->index);
	return true;
}

/* A reset has stopped the queues already; a device that missed it is told once more. */
static void mmio_del_vqs(struct virtio_device *vdev)
{
	struct mmio_driver *m = mmio_of(vdev);

	for (u32 i = 0; i < MMIO_DRIVER_MAX_QUEUES; i++) {
		if (!m->vqs[i])
			continue;
		reg_write(m, VIRTIO_MMIO_QUEUE_SEL, i);
		reg_write(m, VIRTIO_MMIO_QUEUE_READY, 0); /* G-MMIO-4.2.2.2-11 */
		reg_read(m, VIRTIO_MMIO_QUEUE_READY); /* -11b: the write has arrived */
		virtio_vq_destroy(vdev, m->vqs[i]);
		m->vqs[i] = NULL;
	}
}

/* Size and addresses first, then it is on (G-MMIO-4.2.2.2-10). */
static int mmio_enable_vq(struct virtio_device *vdev, struct virtqueue *vq)
{
	struct mmio_driver *m = mmio_of(vdev);
	struct virtqueue_addrs addrs = virtqueue_addrs(vq);

	reg_write(m, VIRTIO_MMIO_QUEUE_SEL, vq->index);
	reg_write(m, VIRTIO_MMIO_QUEUE_SIZE, vq->setup.size); /* G-MMIO-4.2.2.2-09 */
	reg_write64(m, VIRTIO_MMIO_QUEUE_DESC_LOW, addrs.desc);
	reg_write64(m, VIRTIO_MMIO_QUEUE_DRIVER_LOW, addrs.driver_area);
	reg_write64(m, VIRTIO_MMIO_QUEUE_DEVICE_LOW, addrs.device_area);
	reg_write(m, VIRTIO_MMIO_QUEUE_READY, 1);
	return 0;
}

/* The queue is the driver's again once both registers read 0 (G-MMIO-4.2.2.2-14). */
static int mmio_reset_vq(struct virtio_device *vdev, struct virtqueue *vq)
{
	struct mmio_driver *m = mmio_of(vdev);
	int err;

	reg_write(m, VIRTIO_MMIO_QUEUE_SEL, vq->index);
	reg_write(m, VIRTIO_MMIO_QUEUE_RESET, 1);
	err = await_zero(m, VIRTIO_MMIO_QUEUE_RESET);
	return err ? err : await_zero(m, VIRTIO_MMIO_QUEUE_READY);
}

static int find_vq(struct mmio_driver *m, u16 index, const struct virtqueue_info *info)
{
	struct virtqueue_addrs addrs;
	int size;

	reg_write(m, VIRTIO_MMIO_QUEUE_SEL, index);
	/* After a reset no queue can be in use: this one belongs to somebody else, or lies. */
	if (reg_read(m, VIRTIO_MMIO_QUEUE_READY) != 0)
		return -EBUSY;
	size = virtio_vq_size(&m->device, info, reg_read(m, VIRTIO_MMIO_QUEUE_SIZE_MAX));
	if (size < 0)
		return size;
	m->vqs[index] = virtio_vq_create(&m->device, index, size, info, mmio_notify, &addrs);
	return m->vqs[index] ? mmio_enable_vq(&m->device, m->vqs[index]) : -ENOMEM;
}

static int mmio_find_vqs(struct virtio_device *vdev, u32 n, struct virtqueue *vqs[],
			 const struct virtqueue_info infos[])
{
	struct mmio_driver *m = mmio_of(vdev);

	if (n > MMIO_DRIVER_MAX_QUEUES)
		return -ENOENT;
	for (u32 i = 0; i < n; i++) {
		int err = infos[i].absent ? 0 : find_vq(m, i, &infos[i]);

		if (err < 0) {
			mmio_reset(vdev); /* so that no queue is in use when it goes */
			mmio_del_vqs(vdev);
			return err;
		}
		vqs[i] = m->vqs[i];
	}
	return 0;
}

static const struct virtio_config_ops mmio_ops = {
	.get = mmio_get,
	.set = mmio_set,
	.generation = mmio_generation,
	.get_status = mmio_get_status,
	.set_status = mmio_set_status,
	.reset = mmio_reset,
	.find_vqs = mmio_find_vqs,
	.del_vqs = mmio_del_vqs,
	.reset_vq = mmio_reset_vq,
	.enable_vq = mmio_enable_vq,
	.get_features = mmio_get_features,
	.finalize_features = mmio_finalize_features,
};

/* ---- interrupts ------------------------------------------------------------------------ */

bool mmio_driver_interrupt(struct mmio_driver *m)
{
	u32 status = reg_read(m, VIRTIO_MMIO_INTERRUPT_STATUS); /* G-MMIO-4.2.3.4.1-01 */

	if (status == GONE)
		return false;
	status &= VIRTIO_MMIO_INT_ALL; /* G-MMIO-4.2.2.2-12, -13b */
	if (!status)
		return false;
	/*
	 * Acknowledged first (-13): what happens while we look sets its bit anew. The other way
	 * round, a buffer used after its queue was looked at would be acknowledged unseen.
	 */
	reg_write(m, VIRTIO_MMIO_INTERRUPT_ACK, status);
	if (status & VIRTIO_MMIO_INT_CONFIG)
		virtio_config_changed(&m->device);
	if (!(status & VIRTIO_MMIO_INT_USED))
		return true;
	for (u32 i = 0; i < MMIO_DRIVER_MAX_QUEUES; i++) /* G-MMIO-4.2.3.4.1-02 */
		if (m->vqs[i] && m->vqs[i]->setup.callback)
			m->vqs[i]->setup.callback(m->vqs[i]);
	return true;
}

/* ---- what is there --------------------------------------------------------------------- */

/* In this order, and no access more than needed to know (G-MMIO-4.2.3.1.1-01, -02, -02c). */
int mmio_driver_init(struct mmio_driver *m, struct mmio_regs *regs, struct platform *platform,
		     const char *name)
{
	u32 magic, version, id;

	*m = (struct mmio_driver){
		.device = { .config = &mmio_ops, .platform = platform, .name = name },
		.regs = regs,
	};
	magic = reg_read(m, VIRTIO_MMIO_MAGIC_VALUE);
	if (magic != VIRTIO_MMIO_MAGIC) { /* G-MMIO-4.2.2.2-04 */
		log_line(LOG_WARN, name, "no virtio-mmio device: the magic value is 0x%x", magic);
		return -ENODEV;
	}
	version = reg_read(m, VIRTIO_MMIO_VERSION_REG);
	if (version == VIRTIO_MMIO_VERSION_LEGACY) {
		log_line(LOG_ERROR, name,
			 "a virtio-mmio device of version 1 (legacy), which is not supported: "
			 "make it one of version 2 (QEMU: -global virtio-mmio.force-legacy=false)");
		return -ENODEV;
	}
	if (version != VIRTIO_MMIO_VERSION) { /* G-MMIO-4.2.2.2-05 */
		log_line(LOG_ERROR, name, "a virtio-mmio device of unknown version %u", version);
		return -ENODEV;
	}
	id = reg_read(m, VIRTIO_MMIO_DEVICE_ID);
	if (id == 0) /* G-MMIO-4.2.2.2-06, -06b: silently */
		return 0;
	m->device.id.device = id;
	m->device.id.vendor = reg_read(m, VIRTIO_MMIO_VENDOR_ID);
	return 1;
}
