/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The bus: drivers and devices find each other, devices are brought up, and brought up again.
 *
 * One function, device_bring_up, goes through the steps of 3.1.1 whether a device is new, was
 * broken or came back; what differs is only whom it asks at the end, probe or restore.
 */
#include "driver/virtio.h"

#include "base/log.h"
#include "base/shared.h"

/* A device that breaks this often within this time is left alone (D07: no storms). */
#define MAX_RECOVERIES 16
#define RECOVERY_WINDOW_NS 10000000000ull

#define GENERATION_TRIES 32 /* D04: a generation that is never stable */

static struct list drivers = { &drivers, &drivers };
static struct list devices = { &devices, &devices };

/* ---- configuration ---------------------------------------------------------------------- */

void virtio_cread_bytes(struct virtio_device *vdev, u32 offset, void *buf, u32 n_bytes)
{
	u32 before = vdev->config->generation(vdev), after;

	for (int tries = 0; tries < GENERATION_TRIES; tries++) {
		vdev->config->get(vdev, offset, buf, n_bytes);
		after = vdev->config->generation(vdev);
		if (after == before)
			return;
		before = after;
	}
	/* What was read last is whole bytes at least; whoever uses it checks it anyway. */
}

u64 virtio_cread(struct virtio_device *vdev, u32 offset, u32 n_bytes)
{
	le64 value = { 0 };

	ASSERT(n_bytes <= sizeof(value));
	virtio_cread_bytes(vdev, offset, &value, n_bytes);
	return le64_get(value); /* little-endian: the bytes not read are the upper ones */
}

void virtio_cwrite(struct virtio_device *vdev, u32 offset, u32 n_bytes, u64 value)
{
	le64 wire = le64_of(value);

	ASSERT(n_bytes <= sizeof(wire));
	vdev->config->set(vdev, offset, &wire, n_bytes);
}

/* ---- bringing up ------------------------------------------------------------------------ */

static void status_add(struct virtio_device *vdev, u8 bits)
{
	vdev->config->set_status(vdev, vdev->config->get_status(vdev) | bits);
}

void virtio_del_vqs(struct virtio_device *vdev)
{
	vdev->config->reset(vdev);
	vdev->config->del_vqs(vdev);
}

void virtio_device_ready(struct virtio_device *vdev)
{
	if (!(vdev->config->get_status(vdev) & VIRTIO_STATUS_DRIVER_OK))
		status_add(vdev, VIRTIO_STATUS_DRIVER_OK);
}

static bool driver_knows(const struct virtio_driver *driver, unsigned int bit)
{
	for (u32 i = 0; i < driver->feature_table_size; i++)
		if (driver->feature_table[i] == bit)
			return true;
	return false;
}

/* The offered bits that somebody here knows; all others are passed over (G-CORE-2.2.1-03). */
static struct features features_known(const struct virtio_device *vdev)
{
	struct features f = { { 0, 0 } };

	for (unsigned int bit = 0; bit < 128; bit++) {
		bool known = driver_knows(vdev->driver, bit);

		switch (bit) {
		case VIRTIO_F_INDIRECT_DESC:
		case VIRTIO_F_EVENT_IDX:
		case VIRTIO_F_VERSION_1:
		case VIRTIO_F_RING_PACKED:
			known = true;
			break;
		case VIRTIO_F_ACCESS_PLATFORM: /* its addresses are what platform->dma makes */
			known = vdev->platform->dma != NULL;
			break;
		case VIRTIO_F_RING_RESET:
			known = vdev->config->reset_vq != NULL;
			break;
		}
		if (known && features_has(&vdev->offered, bit))
			features_set(&f, bit);
	}
	return f;
}

/* Steps 1 to 6 of G-CORE-3.1.1-01. */
static int device_negotiate(struct virtio_device *vdev)
{
	int err = vdev->config->reset(vdev);

	if (err < 0)
		return err;
	status_add(vdev, VIRTIO_STATUS_ACKNOWLEDGE);
	status_add(vdev, VIRTIO_STATUS_DRIVER);
	vdev->config->get_features(vdev, &vdev->offered);
	if (!features_has(&vdev->offered, VIRTIO_F_VERSION_1)) { /* D05 */
		log_line(LOG_ERROR, vdev->name, "the device is older than VIRTIO 1.0");
		return -ENODEV;
	}
	vdev->features = features_known(vdev);
	if (vdev->driver->trim_features)
		vdev->driver->trim_features(vdev);
	err = vdev->config->finalize_features(vdev);
	if (err < 0)
		return err;
	status_add(vdev, VIRTIO_STATUS_FEATURES_OK);
	if (!(vdev->config->get_status(vdev) & VIRTIO_STATUS_FEATURES_OK)) { /* D05 */
		log_line(LOG_ERROR, vdev->name, "the device refuses the features that it offered");
		return -ENODEV;
	}
	return 0;
}

/* From nothing to DRIVER_OK; `begin` is the driver's probe or restore. */
static int device_bring_up(struct virtio_device *vdev, int (*begin)(struct virtio_device *))
{
	int err;

	/* What was noted of the device's last life has nothing to say about this one. */
	vdev->recovery_wanted = vdev->config_noted = false;
	err = device_negotiate(vdev);
	if (err == 0)
		err = begin(vdev);
	if (err < 0) {
		/* G-CORE-3.1.1-04: FAILED, and no further. */
		status_add(vdev, VIRTIO_STATUS_FAILED);
		return err;
	}
	virtio_device_ready(vdev);
	vdev->state = VIRTIO_STATE_LIVE;
	if (vdev->config_noted)
		virtio_config_changed(vdev);
	return 0;
}

static bool ids_match(const struct virtio_device *vdev, const struct virtio_driver *driver)
{
	for (const struct virtio_device_id *id = driver->id_table; id->device; id++)
		if (id->device == vdev->id.device &&
		    (id->vendor == VIRTIO_DEV_ANY_ID || id->vendor == vdev->id.vendor))
			return true;
	return false;
}

static int device_bind(struct virtio_device *vdev, struct virtio_driver *driver)
{
	int err;

	vdev->driver = driver;
	vdev->n_in_window = 0;
	err = device_bring_up(vdev, driver->probe);
	if (err < 0)
		vdev->driver = NULL;
	return err;
}

/* Reset, and everything back from the driver. A reset that fails is logged: see below. */
static void device_reset(struct virtio_device *vdev)
{
	int err = vdev->config->reset(vdev);

	/*
	 * Nothing more can be done about a device that does not answer: its buffers go back to
	 * their owners, who had better not trust what stands in them.
	 */
	if (err == -ETIMEDOUT)
		log_line(LOG_ERROR, vdev->name, "the device does not acknowledge a reset");
}

static void device_unbind(struct virtio_device *vdev)
{
	if (!vdev->driver)
		return;
	device_reset(vdev);
	/* A driver without freeze was removed already when its device broke. */
	if (vdev->state == VIRTIO_STATE_LIVE || vdev->driver->freeze)
		vdev->driver->remove(vdev);
	vdev->driver = NULL;
	vdev->recovery_wanted = false;
	vdev->state = VIRTIO_STATE_UNBOUND;
}

int register_virtio_driver(struct virtio_driver *driver)
{
	struct list *node, *tmp;

	list_for_each (node, tmp, &drivers)
		if (node == &driver->node)
			return -EBUSY;
	list_add_tail(&drivers, &driver->node);
	list_for_each (node, tmp, &devices) {
		struct virtio_device *vdev = container_of(node, struct virtio_device, node);

		if (!vdev->driver && ids_match(vdev, driver))
			device_bind(vdev, driver);
	}
	return 0;
}

void unregister_virtio_driver(struct virtio_driver *driver)
{
	struct list *node, *tmp;

	list_for_each (node, tmp, &devices) {
		struct virtio_device *vdev = container_of(node, struct virtio_device, node);

		if (vdev->driver == driver)
			device_unbind(vdev);
	}
	list_del(&driver->node);
}

int register_virtio_device(struct virtio_device *vdev)
{
	struct list *node, *tmp;

	vdev->driver = NULL;
	vdev->state = VIRTIO_STATE_UNBOUND;
	vdev->recovery_wanted = false;
	vdev->n_recoveries = 0;
	list_add_tail(&devices, &vdev->node);
	list_for_each (node, tmp, &drivers) {
		struct virtio_driver *driver = container_of(node, struct virtio_driver, node);

		if (ids_match(vdev, driver))
			return device_bind(vdev, driver);
	}
	return 0;
}

void unregister_virtio_device(struct virtio_device *vdev)
{
	device_unbind(vdev);
	list_del(&vdev->node);
}

/* ---- recovery --------------------------------------------------------------------------- */

/* The tokens come back here, once, and the queues go. */
static void device_freeze(struct virtio_device *vdev)
{
	if (vdev->state != VIRTIO_STATE_LIVE)
		return;
	vdev->state = VIRTIO_STATE_BROKEN;
	if (vdev->driver->freeze)
		vdev->driver->freeze(vdev);
	else
		vdev->driver->remove(vdev);
}

static void device_give_up(struct virtio_device *vdev, const char *why)
{
	log_line(LOG_ERROR, vdev->name, "%s", why);
	if (vdev->driver->give_up)
		vdev->driver->give_up(vdev);
}

static int device_restore(struct virtio_device *vdev)
{
	struct virtio_driver *driver = vdev->driver;
	int err = device_bring_up(vdev, driver->freeze ? driver->restore : driver->probe);

	if (err == 0)
		vdev->n_recoveries++;
	else if (!vdev->away)
		device_give_up(vdev, "the device could not be brought up again");
	return err;
}

/* Not too often: a device that breaks at once every time is not worth the processor. */
static bool recovery_allowed(struct virtio_device *vdev)
{
	u64 now = vdev->platform->ops->now_ns(vdev->platform);

	if (vdev->n_in_window == 0 || now - vdev->window_ns > RECOVERY_WINDOW_NS) {
		vdev->window_ns = now;
		vdev->n_in_window = 0;
	}
	return vdev->n_in_window++ < MAX_RECOVERIES;
}

void virtio_break_device(struct virtio_device *vdev)
{
	vdev->recovery_wanted = true; /* on a device that is being brought up: once it is */
}

bool virtio_queue_failed(struct virtqueue *vq)
{
	struct virtio_device *vdev = virtqueue_device(vq);
	const struct ring_fault_record *f = &vq->fault;

	if (!virtqueue_is_broken(vq))
		return false;
	if (!vdev->recovery_wanted)
		log_line(LOG_WARN, vdev->name, "queue %s: %s (id %u, value 0x%llx); reset",
			 vq->setup.name, ring_fault_text(f->kind), f->id,
			 (unsigned long long)f->value);
	virtio_break_device(vdev);
	return true;
}

void virtio_config_changed(struct virtio_device *vdev)
{
	vdev->config_noted = vdev->state != VIRTIO_STATE_LIVE;
	if (vdev->config_noted)
		return;
	if (vdev->config->get_status(vdev) & VIRTIO_STATUS_DEVICE_NEEDS_RESET)
		virtio_break_device(vdev);
	else if (vdev->driver->config_changed)
		vdev->driver->config_changed(vdev);
}

void virtio_device_gone(struct virtio_device *vdev)
{
	device_freeze(vdev);
}

int virtio_device_back(struct virtio_device *vdev)
{
	if (vdev->state != VIRTIO_STATE_BROKEN || !vdev->driver)
		return 0;
	return device_restore(vdev);
}

bool virtio_poll(void)
{
	struct list *node, *tmp;
	bool worked = false;

	list_for_each (node, tmp, &devices) {
		struct virtio_device *vdev = container_of(node, struct virtio_device, node);

		if (!vdev->recovery_wanted || vdev->state != VIRTIO_STATE_LIVE)
			continue;
		worked = true;
		device_reset(vdev);
		device_freeze(vdev);
		if (recovery_allowed(vdev))
			device_restore(vdev);
		else
			device_give_up(vdev, "the device breaks again and again; left alone");
	}
	return worked;
}

/* ---- queues for transports -------------------------------------------------------------- */

/* A queue and what it stands on. */
struct vq_box {
	struct virtqueue vq;
	struct virtio_device *vdev;
	void *ring;
	size_t ring_bytes;
	struct virtqueue_addrs addrs;
};

struct virtio_device *virtqueue_device(const struct virtqueue *vq)
{
	return container_of((struct virtqueue *)vq, struct vq_box, vq)->vdev;
}

static size_t align_up(size_t n, size_t align)
{
	return (n + align - 1) & ~(align - 1);
}

/* Sizes of what a queue needs besides its ring. */
struct vq_extra {
	size_t slots_bytes, tables_bytes, pieces_bytes;
};

static struct vq_extra vq_extra(const struct virtio_device *vdev, u16 size, u16 max_indirect)
{
	size_t entries = (size_t)size * max_indirect;

	return (struct vq_extra){
		.slots_bytes = size * sizeof(struct vq_slot),
		.tables_bytes = entries * sizeof(struct virtq_desc),
		.pieces_bytes = vdev->platform->dma ? entries * sizeof(struct vq_piece) : 0,
	};
}

static void box_free(struct vq_box *box, const struct vq_extra *extra)
{
	struct platform *p = box->vdev->platform;
	const struct virtqueue_setup *s = &box->vq.setup;

	if (box->ring)
		p->ops->dma_free(p, box->ring, box->ring_bytes);
	if (s->tables)
		p->ops->dma_free(p, s->tables, extra->tables_bytes);
	if (s->slots)
		p->ops->free(p, s->slots, extra->slots_bytes);
	if (s->pieces)
		p->ops->free(p, s->pieces, extra->pieces_bytes);
	p->ops->free(p, box, sizeof(*box));
}

int virtio_vq_size(const struct virtio_device *vdev, const struct virtqueue_info *info,
		   u32 device_max)
{
	u32 size = min_u64(info->max_size ? info->max_size : 256, device_max);

	size = min_u64(size, VIRTQ_MAX_SIZE);
	if (!virtio_has_feature(vdev, VIRTIO_F_RING_PACKED)) /* 2.7: a power of two */
		while (size & (size - 1))
			size &= size - 1;
	return size ? (int)size : -ENOENT;
}

struct virtqueue *virtio_vq_create(struct virtio_device *vdev, u16 index, u16 size,
				   const struct virtqueue_info *info,
				   bool (*notify)(struct virtqueue *vq),
				   struct virtqueue_addrs *addrs)
{
	struct platform *p = vdev->platform;
	bool packed = virtio_has_feature(vdev, VIRTIO_F_RING_PACKED);
	bool indirect = virtio_has_feature(vdev, VIRTIO_F_INDIRECT_DESC) && info->max_indirect > 1;
	u16 max_indirect = indirect ? info->max_indirect : 0;
	struct vq_extra extra = vq_extra(vdev, size, max_indirect);
	size_t driver_at = VIRTQ_DESC_BYTES(size);
	size_t device_at =
		align_up(driver_at + (packed ? VIRTQ_EVENT_BYTES : VIRTQ_AVAIL_BYTES(size)),
			 VIRTQ_USED_ALIGN);
	struct vq_box *box = p->ops->alloc(p, sizeof(*box));
	struct virtqueue_setup setup;
	u64 addr;

	if (!box)
		return NULL;
	box->vdev = vdev;
	box->ring_bytes = device_at + (packed ? VIRTQ_EVENT_BYTES : VIRTQ_USED_BYTES(size));
	box->ring = p->ops->dma_alloc(p, box->ring_bytes, VIRTQ_DESC_ALIGN, &addr);
	box->vq.setup.slots = p->ops->alloc(p, extra.slots_bytes);
	if (extra.tables_bytes)
		box->vq.setup.tables =
			p->ops->dma_alloc(p, extra.tables_bytes, VIRTQ_DESC_ALIGN, &(u64){ 0 });
	if (extra.pieces_bytes)
		box->vq.setup.pieces = p->ops->alloc(p, extra.pieces_bytes);
	setup = box->vq.setup;
	if (!box->ring || !setup.slots || !setup.tables != !extra.tables_bytes ||
	    !setup.pieces != !extra.pieces_bytes) {
		box_free(box, &extra);
		return NULL;
	}
	setup.size = size;
	setup.packed = packed;
	setup.event_idx = virtio_has_feature(vdev, VIRTIO_F_EVENT_IDX);
	setup.indirect = indirect;
	setup.desc = box->ring;
	setup.driver_area = (u8 *)box->ring + driver_at;
	setup.device_area = (u8 *)box->ring + device_at;
	setup.max_indirect = max_indirect;
	setup.dma = p->dma;
	setup.callback = info->callback;
	setup.notify = notify;
	setup.name = info->name;
	if (virtqueue_init(&box->vq, &setup) < 0) {
		box_free(box, &extra);
		return NULL;
	}
	box->vq.index = index;
	box->addrs = (struct virtqueue_addrs){ addr, addr + driver_at, addr + device_at };
	*addrs = box->addrs;
	return &box->vq;
}

struct virtqueue_addrs virtqueue_addrs(const struct virtqueue *vq)
{
	return container_of((struct virtqueue *)vq, struct vq_box, vq)->addrs;
}

int virtqueue_reset(struct virtqueue *vq, void (*recycle)(struct virtqueue *vq, void *token))
{
	struct vq_box *box = container_of(vq, struct vq_box, vq);
	struct virtio_device *vdev = box->vdev;
	struct virtqueue before;
	void *token;
	int err;

	if (!virtio_has_feature(vdev, VIRTIO_F_RING_RESET))
		return -EOPNOTSUPP;
	err = vdev->config->reset_vq(vdev, vq);
	if (err < 0) {
		virtio_break_device(vdev);
		return err;
	}
	while ((token = virtqueue_detach(vq)))
		recycle(vq, token);
	/* As on first discovery (G-CORE-2.6.1.2.2-01), but for what is the driver's. */
	before = *vq;
	memset(box->ring, 0, box->ring_bytes);
	ASSERT(virtqueue_init(vq, &before.setup) == 0);
	vq->index = before.index;
	vq->priv = before.priv;
	if (!before.cb_enabled)
		virtqueue_disable_cb(vq);
	err = vdev->config->enable_vq(vdev, vq);
	if (err < 0)
		virtio_break_device(vdev);
	return err;
}

void virtio_vq_destroy(struct virtio_device *vdev, struct virtqueue *vq)
{
	struct vq_box *box = container_of(vq, struct vq_box, vq);
	struct vq_extra extra = vq_extra(vdev, vq->setup.size, vq->setup.max_indirect);

	box_free(box, &extra);
}
