/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Registers to vdev_* and back.
 *
 * Reading has one way: the registers of a page are put together as the wire struct, and the
 * bytes asked for are taken out of it; so every width that is aligned works. Writing is strict:
 * a field is written whole (64-bit fields by halves too), or nothing happens.
 */
#include "transport/pci/device.h"

#include "base/shared.h"

/* Capabilities, one after the other. */
#define AT_MSIX PCI_FIRST_CAPABILITY
#define AT_COMMON (AT_MSIX + sizeof(struct pci_msix_cap))
#define AT_NOTIFY (AT_COMMON + sizeof(struct virtio_pci_cap))
#define AT_ISR (AT_NOTIFY + sizeof(struct virtio_pci_notify_cap))
#define AT_WINDOW (AT_ISR + sizeof(struct virtio_pci_cap))
#define AT_DEVICE (AT_WINDOW + sizeof(struct virtio_pci_cfg_cap))
#define AT_WINDOW_DATA (AT_WINDOW + offsetof(struct virtio_pci_cfg_cap, pci_cfg_data))

#define BAR 0
#define PAGE_BYTES 0x1000u
enum page { PAGE_COMMON, PAGE_ISR, PAGE_DEVICE, PAGE_NOTIFY, PAGE_TABLE, PAGE_PENDING };

#define NOTIFY_MULTIPLIER 4 /* D-PCI-4.1.4.4.1-03; -06 when notifications carry data */

static u16 config_get16(const struct pci_device *p, u32 at)
{
	return p->config[at] | p->config[at + 1] << 8;
}

static u32 config_get32(const struct pci_device *p, u32 at)
{
	return config_get16(p, at) | (u32)config_get16(p, at + 2) << 16;
}

static void config_put16(u8 *bytes, u32 at, u16 value)
{
	bytes[at] = (u8)value;
	bytes[at + 1] = value >> 8;
}

static bool access_is_fine(u64 offset, u32 n_bytes, u32 most)
{
	return n_bytes <= most && is_power_of_two(n_bytes) && offset % n_bytes == 0;
}

/* ---- interrupts ------------------------------------------------------------------------- */

static bool msix_enabled(const struct pci_device *p)
{
	return config_get16(p, AT_MSIX + 2) & PCI_MSIX_ENABLE;
}

/* A message is a write to memory: the function must be allowed to be a master. */
static bool vector_can_fire(const struct pci_device *p, u16 vector)
{
	return msix_enabled(p) && !(config_get16(p, AT_MSIX + 2) & PCI_MSIX_FUNCTION_MASK) &&
	       !(le32_get(p->table[vector].control) & PCI_MSIX_ENTRY_MASKED) &&
	       (config_get16(p, PCI_COMMAND) & PCI_COMMAND_MASTER);
}

static void pending_set(struct pci_device *p, u16 vector, bool on)
{
	u64 word = le64_get(p->pending[vector / 64]), bit = 1ull << vector % 64;

	p->pending[vector / 64] = le64_of(on ? word | bit : word & ~bit);
}

static void vector_fire(struct pci_device *p, u16 vector)
{
	const struct pci_msix_entry *e;

	if (vector == VIRTIO_MSI_NO_VECTOR) /* D-PCI-4.1.5.3.1-01, D-PCI-4.1.5.4.1-01 */
		return;
	if (!vector_can_fire(p, vector)) {
		pending_set(p, vector, true);
		return;
	}
	e = &p->table[vector];
	p->env->ops->message(p->env,
			     le32_get(e->address_low) | (u64)le32_get(e->address_high) << 32,
			     le32_get(e->data));
}

/* What was masked may not be any more. */
static void vectors_look(struct pci_device *p)
{
	for (u16 v = 0; v < p->n_vectors; v++) {
		if (!(le64_get(p->pending[v / 64]) >> v % 64 & 1) || !vector_can_fire(p, v))
			continue;
		pending_set(p, v, false);
		vector_fire(p, v);
	}
}

/* The level follows from what stands in the registers; called after each change of them. */
static void intx_look(struct pci_device *p)
{
	bool wanted = p->isr && !msix_enabled(p);
	u16 status = config_get16(p, PCI_STATUS) & ~PCI_STATUS_INTERRUPT;

	/* D-PCI-4.1.4.5.1-04; the disable bit holds back the line, not the status. */
	config_put16(p->config, PCI_STATUS, status | (wanted ? PCI_STATUS_INTERRUPT : 0));
	wanted = wanted && !(config_get16(p, PCI_COMMAND) & PCI_COMMAND_INTX_DISABLE);
	if (wanted != p->level) {
		p->level = wanted;
		p->env->ops->intx(p->env, wanted);
	}
}

static void link_used(struct vdev_link *link, u16 queue)
{
	struct pci_device *p = container_of(link, struct pci_device, link);

	if (msix_enabled(p)) {
		vector_fire(p, p->queues[queue].vector);
		return;
	}
	p->isr |= VIRTIO_PCI_ISR_QUEUE; /* D-PCI-4.1.4.5.1-03 */
	intx_look(p);
}

static void link_config(struct vdev_link *link)
{
	struct pci_device *p = container_of(link, struct pci_device, link);

	p->isr |= VIRTIO_PCI_ISR_CONFIG; /* D-PCI-4.1.4.5.1-02: with MSI-X too */
	if (msix_enabled(p))
		vector_fire(p, p->config_vector);
	intx_look(p);
}

static void link_again(struct vdev_link *link, u16 queue)
{
	struct pci_device *p = container_of(link, struct pci_device, link);

	p->queues[queue].again = true;
	p->env->ops->again(p->env);
}

static const struct vdev_link_ops link_ops = { link_used, link_config, link_again };

void pci_device_work(struct pci_device *p)
{
	for (u16 i = 0; i < p->vdev->n_queues; i++) {
		if (!p->queues[i].again)
			continue;
		p->queues[i].again = false;
		vdev_kick(p->vdev, i);
	}
}

/* ---- common configuration --------------------------------------------------------------- */

static struct pci_device_queue *selected(struct pci_device *p)
{
	return p->queue_select < p->vdev->n_queues ? &p->queues[p->queue_select] : NULL; /* G16 */
}

/* Largest power of two: what any format can use (D-PCI-4.1.4.3.1-15). */
static u16 queue_size_offered(const struct pci_device *p, u16 queue)
{
	u16 size = p->vdev->queues[queue].q.max_size;

	while (size & (size - 1))
		size &= size - 1;
	return size;
}

/* A queue as on first discovery (D-PCI-4.1.5.1.2.1-07). */
static void queue_forget(struct pci_device *p, u16 queue)
{
	p->queues[queue] = (struct pci_device_queue){
		.size = queue_size_offered(p, queue),
		.vector = VIRTIO_MSI_NO_VECTOR,
	};
}

/* All that a reset of the device, as opposed to one of the bus, sets back. */
static void registers_reset(struct pci_device *p)
{
	p->device_feature_select = p->driver_feature_select = 0;
	p->queue_select = 0;
	p->ring_reset = false;
	p->config_vector = VIRTIO_MSI_NO_VECTOR; /* D-PCI-4.1.5.1.2.1-07 */
	for (u16 i = 0; i < p->vdev->n_queues; i++)
		queue_forget(p, i);
	/* Nothing comes after a reset, not even what was held back. */
	memset(p->pending, 0, sizeof(p->pending));
	p->isr = 0;
	intx_look(p);
}

/* Stopping and starting rings is the transport's work: no type has to know of it. */
static struct features with_ring_reset(const struct features *f, bool on)
{
	struct features all = *f;

	if (on)
		features_set(&all, VIRTIO_F_RING_RESET);
	return all;
}

static void common_gather(struct pci_device *p, struct virtio_pci_common_cfg *c)
{
	const struct vdev *vdev = p->vdev;
	const struct pci_device_queue *q = selected(p);
	struct features offered = with_ring_reset(&vdev->offered, true);
	struct features accepted = with_ring_reset(&vdev->accepted, p->ring_reset);

	*c = (struct virtio_pci_common_cfg){
		.device_feature_select = le32_of(p->device_feature_select),
		/* D-PCI-4.1.4.3.1-03: zeroes past the last word */
		.device_feature = le32_of(features_word32(&offered, p->device_feature_select)),
		.driver_feature_select = le32_of(p->driver_feature_select),
		.driver_feature = le32_of(features_word32(&accepted, p->driver_feature_select)),
		.config_msix_vector = le16_of(p->config_vector),
		.num_queues = le16_of(vdev->n_queues),
		.device_status = vdev->status,
		.config_generation = (u8)vdev->config_generation,
		.queue_select = le16_of(p->queue_select),
		.queue_msix_vector = le16_of(VIRTIO_MSI_NO_VECTOR),
	};
	if (!q) /* D-PCI-4.1.4.3.1-14 */
		return;
	c->queue_size = le16_of(q->size);
	c->queue_msix_vector = le16_of(q->vector);
	c->queue_enable = le16_of(vdev->queues[p->queue_select].enabled);
	c->queue_notify_off = le16_of(p->queue_select);
	c->queue_desc = le64_of(q->desc);
	c->queue_driver = le64_of(q->driver);
	c->queue_device = le64_of(q->device);
}

/* D-PCI-4.1.5.1.2.1-09: what cannot be mapped reads back as no vector. */
static u16 vector_accept(const struct pci_device *p, u32 value)
{
	return value < p->n_vectors ? value : VIRTIO_MSI_NO_VECTOR;
}

static void set_half(u64 *field, bool upper, u32 value)
{
	*field = upper ? (u32)*field | (u64)value << 32 : (*field >> 32 << 32) | value;
}

static void queue_enable(struct pci_device *p, struct pci_device_queue *q)
{
	const struct devq_setup setup = {
		.size = q->size,
		.desc_gpa = q->desc,
		.driver_gpa = q->driver,
		.device_gpa = q->device,
	};
	struct vdev *vdev = p->vdev;
	u16 index = p->queue_select;

	/* Before FEATURES_OK nobody knows the format; a broken device starts nothing. */
	if (!(vdev->status & VIRTIO_STATUS_FEATURES_OK) || vdev->broken)
		return;
	if (vdev_queue_start(vdev, index, &setup, vdev_queue_position_start(vdev)) == 0)
		vdev_queue_enable(vdev, index, true);
}

/*
 * D-PCI-4.1.4.3.1-11, -13: done before the write returns, so that queue_reset never reads 1.
 * Requests in hand are answered first; the driver, who takes its buffers back, need not look.
 */
static void queue_reset(struct pci_device *p)
{
	if (!p->ring_reset || !p->vdev->queues[p->queue_select].enabled)
		return;
	vdev_queue_enable(p->vdev, p->queue_select, false);
	vdev_queue_stop(p->vdev, p->queue_select);
	queue_forget(p, p->queue_select);
}

/* Fields of the selected queue. A queue in use is not changed under the device (G15). */
static void queue_write(struct pci_device *p, u32 offset, u32 value)
{
	struct pci_device_queue *q = selected(p);

	if (!q)
		return;
	if (offset == offsetof(struct virtio_pci_common_cfg, queue_msix_vector)) {
		q->vector = vector_accept(p, value); /* D-PCI-4.1.5.1.2.1-04, -05: at any time */
		return;
	}
	if (offset == offsetof(struct virtio_pci_common_cfg, queue_reset)) {
		if (value == 1)
			queue_reset(p);
		return;
	}
	if (p->vdev->queues[p->queue_select].enabled)
		return;
	switch (offset) {
	case offsetof(struct virtio_pci_common_cfg, queue_size):
		if (value > 0 && value <= p->vdev->queues[p->queue_select].q.max_size)
			q->size = value;
		break;
	case offsetof(struct virtio_pci_common_cfg, queue_enable):
		if (value == 1)
			queue_enable(p, q);
		break;
	case offsetof(struct virtio_pci_common_cfg, queue_desc):
	case offsetof(struct virtio_pci_common_cfg, queue_desc) + 4:
		set_half(&q->desc, offset & 4, value);
		break;
	case offsetof(struct virtio_pci_common_cfg, queue_driver):
	case offsetof(struct virtio_pci_common_cfg, queue_driver) + 4:
		set_half(&q->driver, offset & 4, value);
		break;
	case offsetof(struct virtio_pci_common_cfg, queue_device):
	case offsetof(struct virtio_pci_common_cfg, queue_device) + 4:
		set_half(&q->device, offset & 4, value);
		break;
	}
}

/* How wide the field is that begins at `offset`, if it can be written at all; 0: none does. */
static u32 common_width(u32 offset)
{
	switch (offset) {
	case offsetof(struct virtio_pci_common_cfg, device_feature_select):
	case offsetof(struct virtio_pci_common_cfg, driver_feature_select):
	case offsetof(struct virtio_pci_common_cfg, driver_feature):
		return 4;
	case offsetof(struct virtio_pci_common_cfg, config_msix_vector):
	case offsetof(struct virtio_pci_common_cfg, queue_select):
	case offsetof(struct virtio_pci_common_cfg, queue_size):
	case offsetof(struct virtio_pci_common_cfg, queue_msix_vector):
	case offsetof(struct virtio_pci_common_cfg, queue_enable):
	case offsetof(struct virtio_pci_common_cfg, queue_reset):
		return 2;
	case offsetof(struct virtio_pci_common_cfg, device_status):
		return 1;
	}
	/* Halves of the three addresses: D-PCI-4.1.3.2-01. */
	return offset >= offsetof(struct virtio_pci_common_cfg, queue_desc) &&
			       offset < offsetof(struct virtio_pci_common_cfg,
						 queue_notif_config_data)
		       ? 4
		       : 0;
}

static void driver_feature_write(struct pci_device *p, u32 value)
{
	struct features accepted = with_ring_reset(&p->vdev->accepted, p->ring_reset);

	if (p->vdev->status & VIRTIO_STATUS_FEATURES_OK)
		return;
	features_set_word32(&accepted, p->driver_feature_select, value);
	p->ring_reset = features_has(&accepted, VIRTIO_F_RING_RESET);
	features_clear(&accepted, VIRTIO_F_RING_RESET);
	vdev_set_features(p->vdev, &accepted);
}

static void common_write(struct pci_device *p, u32 offset, u32 n_bytes, u32 value)
{
	if (common_width(offset) != n_bytes)
		return;
	switch (offset) {
	case offsetof(struct virtio_pci_common_cfg, device_feature_select):
		p->device_feature_select = value;
		break;
	case offsetof(struct virtio_pci_common_cfg, driver_feature_select):
		p->driver_feature_select = value;
		break;
	case offsetof(struct virtio_pci_common_cfg, driver_feature):
		driver_feature_write(p, value);
		break;
	case offsetof(struct virtio_pci_common_cfg, config_msix_vector):
		p->config_vector = vector_accept(p, value);
		break;
	case offsetof(struct virtio_pci_common_cfg, device_status):
		vdev_set_status(p->vdev, value);
		if (value == 0) /* D-PCI-4.1.4.3.1-07 */
			registers_reset(p);
		break;
	case offsetof(struct virtio_pci_common_cfg, queue_select):
		p->queue_select = value;
		break;
	default:
		queue_write(p, offset, value);
	}
}

/* ---- the BAR, of which the window in configuration space is another door ------------------ */

/* `n_bytes` of `there` at `offset`; zeroes past its end. */
static u64 take(const void *bytes, u32 there, u32 offset, u32 n_bytes)
{
	le64 value = { 0 };

	if (offset < there)
		memcpy(&value, (const u8 *)bytes + offset, min_u64(n_bytes, there - offset));
	return le64_get(value);
}

static u64 isr_read(struct pci_device *p, u32 offset)
{
	u8 isr = p->isr;

	if (offset != 0)
		return 0;
	p->isr = 0; /* D-PCI-4.1.4.5.1-05 */
	intx_look(p);
	return isr;
}

static u64 page_read(struct pci_device *p, enum page page, u32 offset, u32 n_bytes)
{
	struct virtio_pci_common_cfg common;
	le64 value = { 0 };

	switch (page) {
	case PAGE_COMMON:
		common_gather(p, &common);
		return take(&common, sizeof(common), offset, n_bytes);
	case PAGE_ISR:
		return isr_read(p, offset);
	case PAGE_DEVICE:
		vdev_config_read(p->vdev, offset, &value, n_bytes);
		return le64_get(value);
	case PAGE_TABLE:
		return take(p->table, p->n_vectors * sizeof(p->table[0]), offset, n_bytes);
	case PAGE_PENDING:
		return take(p->pending, sizeof(p->pending), offset, n_bytes);
	case PAGE_NOTIFY:
		break;
	}
	return 0;
}

static void table_write(struct pci_device *p, u32 offset, u32 n_bytes, u32 value)
{
	u32 vector = offset / sizeof(struct pci_msix_entry);
	struct pci_msix_entry *e;

	if (vector >= p->n_vectors || n_bytes != 4) /* PCI wants whole words here; G16 */
		return;
	e = &p->table[vector];
	switch (offset % sizeof(*e)) {
	case offsetof(struct pci_msix_entry, address_low):
		e->address_low = le32_of(value & ~3u);
		break;
	case offsetof(struct pci_msix_entry, address_high):
		e->address_high = le32_of(value);
		break;
	case offsetof(struct pci_msix_entry, data):
		e->data = le32_of(value);
		break;
	case offsetof(struct pci_msix_entry, control):
		e->control = le32_of(value & PCI_MSIX_ENTRY_MASKED);
		vectors_look(p);
		break;
	}
}

static void page_write(struct pci_device *p, enum page page, u32 offset, u32 n_bytes, u64 value)
{
	le64 wire = le64_of(value);

	if (page == PAGE_DEVICE) {
		vdev_config_write(p->vdev, offset, &wire, n_bytes);
		return;
	}
	if (n_bytes == 8) {
		page_write(p, page, offset, 4, (u32)value);
		page_write(p, page, offset + 4, 4, value >> 32);
		return;
	}
	switch (page) {
	case PAGE_COMMON:
		common_write(p, offset, n_bytes, (u32)value);
		break;
	case PAGE_NOTIFY:
		/* The place says which queue; what is written would only say it again (G20). */
		if (n_bytes == 2 && offset % NOTIFY_MULTIPLIER == 0)
			vdev_kick(p->vdev, offset / NOTIFY_MULTIPLIER);
		break;
	case PAGE_TABLE:
		table_write(p, offset, n_bytes, (u32)value);
		break;
	default:
		break;
	}
}

static bool bar_access_is_fine(u32 bar, u64 offset, u32 n_bytes, u32 most)
{
	return bar == BAR && offset < PCI_DEVICE_BAR_BYTES && access_is_fine(offset, n_bytes, most);
}

static bool memory_enabled(const struct pci_device *p)
{
	return config_get16(p, PCI_COMMAND) & PCI_COMMAND_MEMORY;
}

u64 pci_device_bar_read(struct pci_device *p, u32 bar, u64 offset, u32 n_bytes)
{
	if (!memory_enabled(p))
		return UINT64_MAX;
	if (!bar_access_is_fine(bar, offset, n_bytes, 8)) /* G21 */
		return 0;
	return page_read(p, offset / PAGE_BYTES, offset % PAGE_BYTES, n_bytes);
}

void pci_device_bar_write(struct pci_device *p, u32 bar, u64 offset, u32 n_bytes, u64 value)
{
	if (memory_enabled(p) && bar_access_is_fine(bar, offset, n_bytes, 8))
		page_write(p, offset / PAGE_BYTES, offset % PAGE_BYTES, n_bytes, value);
}

/* ---- configuration space ---------------------------------------------------------------- */

/*
 * The window: an access to its data is one to the BAR, at the place and of the width that the
 * capability says (D-PCI-4.1.4.9.1-02, -03). It works with memory space off: it is for those who
 * have not given us an address yet.
 */
static void window_access(struct pci_device *p, bool write)
{
	u32 bar = p->config[AT_WINDOW + offsetof(struct virtio_pci_cap, bar)];
	u32 offset = config_get32(p, AT_WINDOW + offsetof(struct virtio_pci_cap, offset));
	u32 n_bytes = config_get32(p, AT_WINDOW + offsetof(struct virtio_pci_cap, length));
	u8 *data = &p->config[AT_WINDOW_DATA];
	le32 value = { UINT32_MAX };

	if (!bar_access_is_fine(bar, offset, n_bytes, 4)) {
		if (!write)
			memcpy(data, &value, sizeof(value));
	} else if (write) {
		page_write(p, offset / PAGE_BYTES, offset % PAGE_BYTES, n_bytes,
			   take(data, sizeof(value), 0, n_bytes));
	} else {
		value = le32_of(
			(u32)page_read(p, offset / PAGE_BYTES, offset % PAGE_BYTES, n_bytes));
		memcpy(data, &value, sizeof(value));
	}
}

static bool in_window(u32 offset)
{
	return offset >= AT_WINDOW_DATA && offset < AT_WINDOW_DATA + 4;
}

u32 pci_device_config_read(struct pci_device *p, u32 offset, u32 n_bytes)
{
	if (!access_is_fine(offset, n_bytes, 4))
		return UINT32_MAX;
	if (offset >= PCI_CONFIG_BYTES) /* no extended capabilities */
		return 0;
	if (in_window(offset))
		window_access(p, false);
	return (u32)take(p->config, sizeof(p->config), offset, n_bytes);
}

void pci_device_config_write(struct pci_device *p, u32 offset, u32 n_bytes, u32 value)
{
	if (!access_is_fine(offset, n_bytes, 4) || offset >= PCI_CONFIG_BYTES)
		return;
	/* All ones written to a BAR read back as its size: the bits below are not writable. */
	for (u32 i = 0; i < n_bytes; i++) {
		u8 may = p->writable[offset + i], byte = (u8)(value >> 8 * i);

		p->config[offset + i] = (p->config[offset + i] & ~may) | (byte & may);
	}
	if (in_window(offset))
		window_access(p, true);
	/* The command register or MSI-X's control may have let something through. */
	vectors_look(p);
	intx_look(p);
}

u64 pci_device_bar_address(const struct pci_device *p)
{
	return (config_get32(p, PCI_BAR(BAR)) & ~(u32)PCI_BAR_FLAGS) |
	       (u64)config_get32(p, PCI_BAR(BAR + 1)) << 32;
}

/* ---- coming and going ------------------------------------------------------------------- */

static void cap_put(struct pci_device *p, u32 at, u32 next, u8 type, enum page page, u32 n_bytes)
{
	struct virtio_pci_cap cap = {
		.cap_vndr = PCI_CAP_VENDOR,
		.cap_next = (u8)next,
		.cap_len = sizeof(cap),
		.cfg_type = type,
		.bar = BAR,
		.offset = le32_of(page * PAGE_BYTES),
		.length = le32_of(n_bytes),
	};

	memcpy(&p->config[at], &cap, sizeof(cap));
}

static void caps_put(struct pci_device *p)
{
	const struct vdev *vdev = p->vdev;
	const struct pci_msix_cap msix = {
		.id = PCI_CAP_MSIX,
		.next = AT_COMMON,
		.control = le16_of(p->n_vectors - 1), /* D-PCI-4.1.5.1.2.1-02 */
		.table = le32_of(PAGE_TABLE * PAGE_BYTES | BAR),
		.pending = le32_of(PAGE_PENDING * PAGE_BYTES | BAR),
	};

	p->config[PCI_CAPABILITIES] = AT_MSIX;
	memcpy(&p->config[AT_MSIX], &msix, sizeof(msix));
	cap_put(p, AT_COMMON, AT_NOTIFY, VIRTIO_PCI_CAP_COMMON_CFG, PAGE_COMMON,
		sizeof(struct virtio_pci_common_cfg));
	cap_put(p, AT_NOTIFY, AT_ISR, VIRTIO_PCI_CAP_NOTIFY_CFG, PAGE_NOTIFY,
		vdev->n_queues * NOTIFY_MULTIPLIER); /* D-PCI-4.1.4.4.1-05, -09 */
	p->config[AT_NOTIFY + 2] = sizeof(struct virtio_pci_notify_cap);
	p->config[AT_NOTIFY + offsetof(struct virtio_pci_notify_cap, notify_off_multiplier)] =
		NOTIFY_MULTIPLIER;
	cap_put(p, AT_ISR, AT_WINDOW, VIRTIO_PCI_CAP_ISR_CFG, PAGE_ISR, 1);
	/* D-PCI-4.1.4.6-01: the last one only if there is something to configure. */
	cap_put(p, AT_WINDOW, vdev->config_bytes ? AT_DEVICE : 0, VIRTIO_PCI_CAP_PCI_CFG, 0, 0);
	p->config[AT_WINDOW + 2] = sizeof(struct virtio_pci_cfg_cap);
	if (vdev->config_bytes)
		cap_put(p, AT_DEVICE, 0, VIRTIO_PCI_CAP_DEVICE_CFG, PAGE_DEVICE,
			vdev->config_bytes);

	config_put16(p->writable, AT_MSIX + 2, PCI_MSIX_ENABLE | PCI_MSIX_FUNCTION_MASK);
	p->writable[AT_WINDOW + offsetof(struct virtio_pci_cap, bar)] = 0xff;
	memset(&p->writable[AT_WINDOW + offsetof(struct virtio_pci_cap, offset)], 0xff, 12);
}

/* What a bus's scan prints beside the name; guests do not care. */
static u16 class_of(u16 device_id)
{
	switch (device_id) {
	case VIRTIO_ID_NET:
		return 0x0200;
	case VIRTIO_ID_BLOCK:
		return 0x0180;
	case VIRTIO_ID_CONSOLE:
		return 0x0780;
	default:
		return 0xff00;
	}
}

static void config_fill(struct pci_device *p)
{
	const u16 id = VIRTIO_PCI_DEVICE_BASE + p->vdev->type->device_id;
	const u16 class = class_of(p->vdev->type->device_id);
	u8 *c = p->config, *w = p->writable;

	memset(c, 0, PCI_CONFIG_BYTES);
	memset(w, 0, PCI_CONFIG_BYTES);
	config_put16(c, PCI_VENDOR_ID, VIRTIO_PCI_VENDOR); /* D-PCI-4.1.2.1-01, -02 */
	config_put16(c, PCI_DEVICE_ID, id);
	config_put16(c, PCI_STATUS, PCI_STATUS_CAPABILITIES);
	c[PCI_REVISION_ID] = 1; /* D-PCI-4.1.2.1-05 */
	c[PCI_CLASS_BASE] = class >> 8;
	c[PCI_CLASS_SUB] = (u8) class;
	c[PCI_BAR(BAR)] = PCI_BAR_64 | PCI_BAR_PREFETCH;
	config_put16(c, PCI_SUBSYSTEM_VENDOR_ID, VIRTIO_PCI_VENDOR);
	config_put16(c, PCI_SUBSYSTEM_ID, id); /* D-PCI-4.1.2.1-06 */
	c[PCI_INTERRUPT_PIN] = 1;

	config_put16(w, PCI_COMMAND,
		     PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER | PCI_COMMAND_INTX_DISABLE);
	config_put16(w, PCI_BAR(BAR), 0x10000u - PCI_DEVICE_BAR_BYTES);
	memset(&w[PCI_BAR(BAR) + 2], 0xff, 6);
	w[PCI_INTERRUPT_LINE] = 0xff;
	caps_put(p);
}

static void table_mask(struct pci_device *p)
{
	memset(p->table, 0, sizeof(p->table));
	for (u16 v = 0; v < p->n_vectors; v++)
		p->table[v].control = le32_of(PCI_MSIX_ENTRY_MASKED);
}

void pci_device_reset(struct pci_device *p)
{
	vdev_reset(p->vdev);
	registers_reset(p); /* first: it lowers INTx, which config_fill would forget */
	config_fill(p);
	table_mask(p);
}

void pci_device_init(struct pci_device *p, struct vdev *vdev, struct pci_device_env *env)
{
	ASSERT(vdev->n_queues > 0 && vdev->n_queues <= PCI_DEVICE_MAX_QUEUES);
	ASSERT(vdev->config_bytes <= PAGE_BYTES);
	*p = (struct pci_device){
		.vdev = vdev,
		.link.ops = &link_ops,
		.env = env,
		/* One for each queue and one for configuration: D-PCI-4.1.5.1.2.1-01, -03. */
		.n_vectors = vdev->n_queues + 1,
	};
	config_fill(p);
	table_mask(p);
	registers_reset(p);
	vdev_set_link(vdev, &p->link);
}

void pci_device_fini(struct pci_device *p)
{
	vdev_reset(p->vdev);
	registers_reset(p);
	vdev_set_link(p->vdev, NULL);
}
