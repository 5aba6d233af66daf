/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * From configuration space to queues. First the function is looked at, once, with distrust; what
 * is kept are windows that lie within their BARs, and all later accesses go through them.
 */
#include "transport/pci/driver.h"

#include "base/log.h"
#include "base/shared.h"

#define RESET_LIMIT_NS 5000000000ull /* D07 */
#define COMMON(field) ((u32)offsetof(struct virtio_pci_common_cfg, field))

static struct pci_front *front_of(struct virtio_device *vdev)
{
	return container_of(vdev, struct pci_front, device);
}

/* ---- accesses --------------------------------------------------------------------------- */

static u32 config_read(struct pci_front *f, u32 offset, u32 n_bytes)
{
	return f->access->ops->config_read(f->access, offset, n_bytes);
}

static void config_write(struct pci_front *f, u32 offset, u32 n_bytes, u32 value)
{
	f->access->ops->config_write(f->access, offset, n_bytes, value);
}

static bool window_holds(const struct pci_window *w, u32 at, u32 n_bytes)
{
	return at <= w->n_bytes && n_bytes <= w->n_bytes - at;
}

static u32 window_read(struct pci_front *f, const struct pci_window *w, u32 at, u32 n_bytes)
{
	if (!window_holds(w, at, n_bytes))
		return 0;
	return f->access->ops->bar_read(f->access, w->bar, (u64)w->offset + at, n_bytes);
}

static void window_write(struct pci_front *f, const struct pci_window *w, u32 at, u32 n_bytes,
			 u32 value)
{
	if (window_holds(w, at, n_bytes))
		f->access->ops->bar_write(f->access, w->bar, (u64)w->offset + at, n_bytes, value);
}

static u32 common_read(struct pci_front *f, u32 at, u32 n_bytes)
{
	return window_read(f, &f->common, at, n_bytes);
}

static void common_write(struct pci_front *f, u32 at, u32 n_bytes, u32 value)
{
	window_write(f, &f->common, at, n_bytes, value);
}

/* 64-bit fields by halves: G-PCI-4.1.3.1-01. */
static void common_write64(struct pci_front *f, u32 at, u64 value)
{
	common_write(f, at, 4, (u32)value);
	common_write(f, at + 4, 4, value >> 32);
}

/* ---- looking at the function -------------------------------------------------------------- */

static u32 bar_probe(struct pci_front *f, u32 bar)
{
	u32 was = config_read(f, PCI_BAR(bar), 4), mask;

	config_write(f, PCI_BAR(bar), 4, UINT32_MAX);
	mask = config_read(f, PCI_BAR(bar), 4);
	config_write(f, PCI_BAR(bar), 4, was);
	return mask;
}

/* Decoding is off meanwhile: for a moment, the BARs lie at silly places. */
static void bars_size(struct pci_front *f)
{
	u32 command = config_read(f, PCI_COMMAND, 2);

	config_write(f, PCI_COMMAND, 2, command & ~(PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER));
	for (u32 bar = 0; bar < PCI_N_BARS; bar++) {
		u32 low = bar_probe(f, bar), at = bar;
		u64 mask = low & ~(u32)PCI_BAR_FLAGS;

		if (low & PCI_BAR_IO)
			continue;
		if ((low & PCI_BAR_TYPE_MASK) == PCI_BAR_64) {
			if (++bar == PCI_N_BARS) /* D06: its other half is not there */
				break;
			mask |= (u64)bar_probe(f, bar) << 32;
		} else if (mask) {
			mask |= (u64)UINT32_MAX << 32;
		}
		if (is_power_of_two(~mask + 1))
			f->bar_bytes[at] = ~mask + 1;
	}
	config_write(f, PCI_COMMAND, 2, command);
}

/* The window, if it lies in its BAR; what is too long is cut off: G-PCI-4.1.4.1-06. */
static bool window_fits(const struct pci_front *f, struct pci_window *w, u32 align)
{
	u64 bar_bytes;

	if (w->bar >= PCI_N_BARS) /* G-PCI-4.1.4.1-04 */
		return false;
	bar_bytes = f->bar_bytes[w->bar];
	if (w->offset % align || w->offset >= bar_bytes)
		return false;
	w->n_bytes = min_u64(w->n_bytes, bar_bytes - w->offset);
	return w->n_bytes > 0;
}

static void cap_virtio(struct pci_front *f, u32 at)
{
	u32 cap_len = config_read(f, at + 2, 1);
	struct pci_window w = { 0 };
	struct pci_window *kind;
	u32 least = 1, align = 4;

	/* Longer than we know is fine (G-PCI-4.1.4.1-03), shorter is not. */
	if (cap_len < sizeof(struct virtio_pci_cap) || cap_len > PCI_CONFIG_BYTES - at)
		return;
	switch (config_read(f, at + offsetof(struct virtio_pci_cap, cfg_type), 1)) {
	case VIRTIO_PCI_CAP_COMMON_CFG:
		kind = &f->common;
		least = VIRTIO_PCI_COMMON_LEAST;
		break;
	case VIRTIO_PCI_CAP_NOTIFY_CFG:
		if (cap_len < sizeof(struct virtio_pci_notify_cap))
			return;
		kind = &f->notify;
		least = align = 2;
		break;
	case VIRTIO_PCI_CAP_ISR_CFG:
		kind = &f->isr;
		align = 1;
		break;
	case VIRTIO_PCI_CAP_DEVICE_CFG:
		kind = &f->config;
		break;
	default: /* G-PCI-4.1.4.1-01 */
		return;
	}
	w.bar = config_read(f, at + offsetof(struct virtio_pci_cap, bar), 1);
	w.offset = config_read(f, at + offsetof(struct virtio_pci_cap, offset), 4);
	w.n_bytes = config_read(f, at + offsetof(struct virtio_pci_cap, length), 4);
	/* The first that can be used is taken: G-PCI-4.1.4.1-02. */
	if (kind->n_bytes || !window_fits(f, &w, align) || w.n_bytes < least)
		return;
	*kind = w;
	if (kind == &f->notify)
		f->notify_multiplier = config_read(
			f, at + offsetof(struct virtio_pci_notify_cap, notify_off_multiplier), 4);
}

static void cap_msix(struct pci_front *f, u32 at)
{
	struct pci_window w;
	u32 table;

	if (f->msix_at || at > PCI_CONFIG_BYTES - sizeof(struct pci_msix_cap))
		return;
	table = config_read(f, at + offsetof(struct pci_msix_cap, table), 4);
	f->n_table = (config_read(f, at + offsetof(struct pci_msix_cap, control), 2) &
		      PCI_MSIX_SIZE_MASK) +
		     1; /* G-PCI-4.1.5.1.2.2-01 */
	w = (struct pci_window){ table & PCI_MSIX_BAR_MASK, table & ~PCI_MSIX_BAR_MASK,
				 f->n_table * sizeof(struct pci_msix_entry) };
	if (!window_fits(f, &w, 8))
		return;
	f->n_table = w.n_bytes / sizeof(struct pci_msix_entry);
	f->table = w;
	f->msix_at = at;
}

/* No list is longer than the places it can have: one that is goes in a circle (D06). */
static void caps_walk(struct pci_front *f)
{
	u32 left = (PCI_CONFIG_BYTES - PCI_FIRST_CAPABILITY) / 4;
	u32 at;

	if (!(config_read(f, PCI_STATUS, 2) & PCI_STATUS_CAPABILITIES))
		return;
	for (at = config_read(f, PCI_CAPABILITIES, 1) & ~3u; at >= PCI_FIRST_CAPABILITY && left > 0;
	     at = config_read(f, at + 1, 1) & ~3u, left--) {
		switch (config_read(f, at, 1)) {
		case PCI_CAP_VENDOR:
			cap_virtio(f, at);
			break;
		case PCI_CAP_MSIX:
			cap_msix(f, at);
			break;
		}
	}
	if (left == 0 && at >= PCI_FIRST_CAPABILITY)
		log_line(LOG_WARN, f->device.name, "the list of PCI capabilities has no end");
}

/* Transitional functions have ids of their own and say the type elsewhere: G-PCI-4.1.2.2-02. */
static u32 device_type(struct pci_front *f)
{
	u32 id = config_read(f, PCI_DEVICE_ID, 2);

	if (config_read(f, PCI_VENDOR_ID, 2) != VIRTIO_PCI_VENDOR ||
	    id < VIRTIO_PCI_TRANSITIONAL_BASE)
		return 0;
	return id >= VIRTIO_PCI_DEVICE_BASE ? id - VIRTIO_PCI_DEVICE_BASE
					    : config_read(f, PCI_SUBSYSTEM_ID, 2);
}

/* ---- interrupts ------------------------------------------------------------------------- */

static void command_change(struct pci_front *f, u32 off, u32 on)
{
	config_write(f, PCI_COMMAND, 2, (config_read(f, PCI_COMMAND, 2) & ~off) | on);
}

static void msix_control(struct pci_front *f, u32 bits)
{
	u32 at = f->msix_at + offsetof(struct pci_msix_cap, control);

	if (f->msix_at)
		config_write(
			f, at, 2,
			(config_read(f, at, 2) & ~(u32)(PCI_MSIX_ENABLE | PCI_MSIX_FUNCTION_MASK)) |
				bits);
}

static u32 vectors_wanted(const struct pci_front *f, enum pci_interrupts how)
{
	switch (how) {
	case PCI_VECTOR_PER_QUEUE:
		return f->n_queues + 1;
	case PCI_VECTOR_SHARED:
		return 2;
	case PCI_VECTOR_SINGLE:
		return 1;
	default:
		return 0;
	}
}

static u16 queue_vector(enum pci_interrupts how, u16 queue)
{
	switch (how) {
	case PCI_VECTOR_PER_QUEUE:
		return queue + 1;
	case PCI_VECTOR_SHARED:
		return 1;
	case PCI_VECTOR_SINGLE:
		return 0;
	default:
		return VIRTIO_MSI_NO_VECTOR;
	}
}

/* Whether the device took it is read back: G-PCI-4.1.5.1.2.2-05. */
static bool vector_set(struct pci_front *f, u32 at, u16 vector)
{
	common_write(f, at, 2, vector);
	return common_read(f, at, 2) == vector;
}

static bool queue_vector_set(struct pci_front *f, u16 queue)
{
	common_write(f, COMMON(queue_select), 2, queue);
	return vector_set(f, COMMON(queue_msix_vector), queue_vector(f->interrupts, queue));
}

static bool table_fill(struct pci_front *f, u32 n)
{
	if (!f->msix_at || !f->access->ops->message || n > f->n_table || n > f->access->max_vectors)
		return false; /* G-PCI-4.1.5.1.2.2-04 */
	msix_control(f, PCI_MSIX_ENABLE | PCI_MSIX_FUNCTION_MASK);
	for (u32 v = 0; v < n; v++) {
		u32 at = v * sizeof(struct pci_msix_entry);
		u64 address;
		u32 data;

		if (f->access->ops->message(f->access, v, &address, &data) < 0)
			return false;
		window_write(f, &f->table, at, 4, (u32)address);
		window_write(f, &f->table, at + 4, 4, address >> 32);
		window_write(f, &f->table, at + 8, 4, data);
		window_write(f, &f->table, at + 12, 4, 0);
	}
	return true;
}

static bool interrupts_try(struct pci_front *f, const struct virtqueue_info infos[])
{
	u32 n = vectors_wanted(f, f->interrupts);

	if (n == 0) {
		bool line = f->interrupts == PCI_INTX;

		if (line && (!f->access->intx || !config_read(f, PCI_INTERRUPT_PIN, 1)))
			return false;
		msix_control(f, 0);
		command_change(f, PCI_COMMAND_INTX_DISABLE, line ? 0 : PCI_COMMAND_INTX_DISABLE);
		return true;
	}
	if (!table_fill(f, n) || !vector_set(f, COMMON(config_msix_vector), 0))
		return false;
	for (u16 i = 0; i < f->n_queues; i++)
		if (!infos[i].absent && !queue_vector_set(f, i))
			return false;
	msix_control(f, PCI_MSIX_ENABLE);
	return true;
}

/* The best that the device and the machine both can; polling always can be. */
static void interrupts_choose(struct pci_front *f, const struct virtqueue_info infos[])
{
	for (f->interrupts = PCI_VECTOR_PER_QUEUE; !interrupts_try(f, infos); f->interrupts++)
		;
}

static void call_queue(struct pci_front *f, u16 queue)
{
	struct virtqueue *vq = f->vqs[queue];

	if (vq && vq->setup.callback)
		vq->setup.callback(vq);
}

static void call_queues(struct pci_front *f)
{
	for (u16 i = 0; i < f->n_queues; i++)
		call_queue(f, i);
}

void pci_front_message(struct pci_front *f, u16 vector)
{
	u32 n = vectors_wanted(f, f->interrupts);

	if (vector >= n)
		return;
	f->n_interrupts++;
	/*
	 * One message may stand for both (G-PCI-4.1.5.4.2-01), and only the ISR can tell whether
	 * the configuration changed, which it does with MSI-X too (D-PCI-4.1.4.5.1-02).
	 */
	if (vector == 0 && (f->interrupts != PCI_VECTOR_SINGLE ||
			    (window_read(f, &f->isr, 0, 1) & VIRTIO_PCI_ISR_CONFIG)))
		virtio_config_changed(&f->device);
	if (f->interrupts == PCI_VECTOR_PER_QUEUE && vector > 0)
		call_queue(f, vector - 1);
	else if (vector == n - 1)
		call_queues(f);
}

bool pci_front_intx(struct pci_front *f)
{
	u32 isr;

	if (f->interrupts < PCI_INTX) /* G-PCI-4.1.4.5.2-01 */
		return false;
	isr = window_read(f, &f->isr, 0, 1);
	if (isr == 0 || isr == 0xff) /* nothing, or nobody */
		return false;
	f->n_interrupts++;
	if (isr & VIRTIO_PCI_ISR_CONFIG)
		virtio_config_changed(&f->device);
	if (isr & VIRTIO_PCI_ISR_QUEUE)
		call_queues(f);
	return true;
}

/* ---- virtio_config_ops -------------------------------------------------------------------- */

/* As wide as fields are, as far as one can know: G-PCI-4.1.3.1-01. */
static u32 width_for(u32 offset, u32 n_bytes)
{
	if ((n_bytes == 2 || n_bytes == 4) && offset % n_bytes == 0)
		return n_bytes;
	return n_bytes == 8 && offset % 4 == 0 ? 4 : 1;
}

static void front_get(struct virtio_device *vdev, u32 offset, void *buf, u32 n_bytes)
{
	struct pci_front *f = front_of(vdev);
	u32 width = width_for(offset, n_bytes);

	for (u32 at = 0; at < n_bytes; at += width) {
		le32 value = le32_of(window_read(f, &f->config, offset + at, width));

		memcpy((u8 *)buf + at, &value, width);
	}
}

static void front_set(struct virtio_device *vdev, u32 offset, const void *buf, u32 n_bytes)
{
	struct pci_front *f = front_of(vdev);
	u32 width = width_for(offset, n_bytes);

	for (u32 at = 0; at < n_bytes; at += width) {
		le32 value = { 0 };

		memcpy(&value, (const u8 *)buf + at, width);
		window_write(f, &f->config, offset + at, width, le32_get(value));
	}
}

static u32 front_generation(struct virtio_device *vdev)
{
	return common_read(front_of(vdev), COMMON(config_generation), 1);
}

static u8 front_get_status(struct virtio_device *vdev)
{
	return common_read(front_of(vdev), COMMON(device_status), 1);
}

static void front_set_status(struct virtio_device *vdev, u8 status)
{
	common_write(front_of(vdev), COMMON(device_status), 1, status);
}

static int front_reset(struct virtio_device *vdev)
{
	struct pci_front *f = front_of(vdev);
	const struct platform_ops *ops = vdev->platform->ops;
	u64 begun = ops->now_ns(vdev->platform);

	vdev->away = config_read(f, PCI_VENDOR_ID, 2) != VIRTIO_PCI_VENDOR;
	if (vdev->away)
		return -ENODEV;
	/* It may have been away, and be as the bus's reset left it. */
	command_change(f, 0, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	msix_control(f, 0);
	front_set_status(vdev, 0);
	while (front_get_status(vdev) != 0) { /* G-PCI-4.1.4.3.2-05 */
		if (ops->now_ns(vdev->platform) - begun > RESET_LIMIT_NS)
			return -ETIMEDOUT;
		ops->relax(vdev->platform);
	}
	return 0;
}

static void front_get_features(struct virtio_device *vdev, struct features *offered)
{
	struct pci_front *f = front_of(vdev);

	for (u32 i = 0; i < 4; i++) {
		common_write(f, COMMON(device_feature_select), 4, i);
		features_set_word32(offered, i, common_read(f, COMMON(device_feature), 4));
	}
	/* The register came with the feature; who offers the one may forget the other. */
	if (!window_holds(&f->common, COMMON(queue_reset), 2))
		features_clear(offered, VIRTIO_F_RING_RESET);
}

static int front_finalize_features(struct virtio_device *vdev)
{
	struct pci_front *f = front_of(vdev);

	for (u32 i = 0; i < 4; i++) {
		common_write(f, COMMON(driver_feature_select), 4, i);
		common_write(f, COMMON(driver_feature), 4, features_word32(&vdev->features, i));
	}
	return 0;
}

/* ---- queues ----------------------------------------------------------------------------- */

static bool front_notify(struct virtqueue *vq)
{
	struct pci_front *f = front_of(virtqueue_device(vq));

	/* G-PCI-4.1.5.2.1-01, -03 */
	f->access->ops->bar_write(f->access, f->notify.bar, f->notify_at[vq->index], 2, vq->index);
	return true;
}

static void front_del_vqs(struct virtio_device *vdev)
{
	struct pci_front *f = front_of(vdev);

	for (u32 i = 0; i < f->n_queues; i++) {
		if (f->vqs[i])
			virtio_vq_destroy(vdev, f->vqs[i]);
		f->vqs[i] = NULL;
	}
	f->n_queues = 0;
}

/* Everything else comes first: G-PCI-4.1.4.3.2-04. */
static int queue_enable(struct pci_front *f, struct virtqueue *vq)
{
	struct virtqueue_addrs addrs = virtqueue_addrs(vq);

	common_write(f, COMMON(queue_select), 2, vq->index);
	common_write(f, COMMON(queue_size), 2, vq->setup.size);
	common_write64(f, COMMON(queue_desc), addrs.desc);
	common_write64(f, COMMON(queue_driver), addrs.driver_area);
	common_write64(f, COMMON(queue_device), addrs.device_area);
	common_write(f, COMMON(queue_enable), 2, 1);
	return common_read(f, COMMON(queue_enable), 2) == 1 ? 0 : -EIO;
}

static int front_find_vq(struct pci_front *f, u16 index, const struct virtqueue_info *info)
{
	u64 notify_at;
	int size;

	common_write(f, COMMON(queue_select), 2, index);
	if (common_read(f, COMMON(queue_enable), 2) != 0) /* after a reset? */
		return -EIO;
	size = virtio_vq_size(&f->device, info, common_read(f, COMMON(queue_size), 2));
	if (size < 0)
		return size;
	/* D06: 64 bits hold any product of the two. */
	notify_at = (u64)common_read(f, COMMON(queue_notify_off), 2) * f->notify_multiplier;
	if (notify_at > f->notify.n_bytes - 2 || notify_at % 2) {
		log_line(LOG_ERROR, f->device.name,
			 "queue %u is to be notified outside of the notify structure", index);
		return -EIO;
	}
	f->notify_at[index] = f->notify.offset + notify_at;
	f->vqs[index] = virtio_vq_create(&f->device, index, size, info, front_notify,
					 &(struct virtqueue_addrs){ 0 });
	return f->vqs[index] ? queue_enable(f, f->vqs[index]) : -ENOMEM;
}

static int front_find_vqs(struct virtio_device *vdev, u32 n, struct virtqueue *vqs[],
			  const struct virtqueue_info infos[])
{
	struct pci_front *f = front_of(vdev);
	u32 there = common_read(f, COMMON(num_queues), 2);

	if (n > PCI_FRONT_MAX_QUEUES)
		return -ENOENT;
	for (u32 i = there; i < n; i++)
		if (!infos[i].absent)
			return -ENOENT;
	f->n_queues = n;
	interrupts_choose(f, infos);
	for (u32 i = 0; i < n; i++) {
		int err = infos[i].absent ? 0 : front_find_vq(f, i, &infos[i]);

		if (err < 0) {
			front_reset(vdev); /* so that no queue is in use when it goes */
			front_del_vqs(vdev);
			return err;
		}
		vqs[i] = f->vqs[i];
	}
	return 0;
}

static int front_reset_vq(struct virtio_device *vdev, struct virtqueue *vq)
{
	struct pci_front *f = front_of(vdev);
	const struct platform_ops *ops = vdev->platform->ops;
	u64 begun = ops->now_ns(vdev->platform);

	common_write(f, COMMON(queue_select), 2, vq->index);
	common_write(f, COMMON(queue_reset), 2, 1);
	/* G-PCI-4.1.4.3.2-07. queue_enable is read too: it is 0 only once all is over. */
	while (common_read(f, COMMON(queue_reset), 2) || common_read(f, COMMON(queue_enable), 2)) {
		if (ops->now_ns(vdev->platform) - begun > RESET_LIMIT_NS)
			return -ETIMEDOUT;
		ops->relax(vdev->platform);
		common_write(f, COMMON(queue_select), 2, vq->index);
	}
	return 0;
}

static int front_enable_vq(struct virtio_device *vdev, struct virtqueue *vq)
{
	struct pci_front *f = front_of(vdev);

	if (f->interrupts < PCI_INTX && !queue_vector_set(f, vq->index))
		return -EIO;
	return queue_enable(f, vq);
}

static const struct virtio_config_ops front_ops = {
	.get = front_get,
	.set = front_set,
	.generation = front_generation,
	.get_status = front_get_status,
	.set_status = front_set_status,
	.reset = front_reset,
	.find_vqs = front_find_vqs,
	.del_vqs = front_del_vqs,
	.reset_vq = front_reset_vq,
	.enable_vq = front_enable_vq,
	.get_features = front_get_features,
	.finalize_features = front_finalize_features,
};

int pci_front_init(struct pci_front *f, struct pci_access *access, struct platform *platform,
		   const char *name)
{
	*f = (struct pci_front){
		.device = { .config = &front_ops, .platform = platform, .name = name },
		.access = access,
		.interrupts = PCI_POLLED,
	};
	f->device.id.device = device_type(f);
	if (!f->device.id.device)
		return -ENODEV;
	f->device.id.vendor = config_read(f, PCI_SUBSYSTEM_VENDOR_ID, 2);
	bars_size(f);
	caps_walk(f);
	if (!f->common.n_bytes || !f->notify.n_bytes || !f->isr.n_bytes) {
		/* G-PCI-4.1.5.1.1.1-04 */
		log_line(LOG_ERROR, name, "no usable %s structure: not a device of VIRTIO 1.0",
			 !f->common.n_bytes   ? "common"
			 : !f->notify.n_bytes ? "notify"
					      : "ISR");
		return -ENODEV;
	}
	command_change(f, PCI_COMMAND_INTX_DISABLE, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	return 0;
}

void pci_front_fini(struct pci_front *f)
{
	msix_control(f, 0);
	command_change(f, PCI_COMMAND_MASTER, PCI_COMMAND_INTX_DISABLE);
}
