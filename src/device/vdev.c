/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The device core: what every back end does alike, whatever its type and its transport.
 *
 * The core alone signals: after a kick, and when a type says that a batch of completions has
 * ended (vdev_flush). So a batch costs at most one notification a queue, and no type can
 * forget one.
 */
#include "device/vdev.h"

#include "base/log.h"
#include "base/shared.h"

struct vdev_queue *vdev_carve_queues(struct arena *arena, u16 n_queues, u16 max_size)
{
	struct vdev_queue *queues = arena_take(arena, n_queues, sizeof(*queues));
	u64 *maps = arena_take(arena, n_queues, DEVQ_MAP_WORDS(max_size) * sizeof(*maps));

	if (!queues)
		return NULL;
	for (u16 i = 0; i < n_queues; i++) {
		queues[i] = (struct vdev_queue){ 0 };
		devq_init(&queues[i].q, max_size, maps + (size_t)i * DEVQ_MAP_WORDS(max_size));
	}
	return queues;
}

void vdev_init(struct vdev *vdev, const struct vdev_type *type, const char *name, void *config,
	       u32 config_bytes, struct vdev_queue *queues, u16 n_queues)
{
	*vdev = (struct vdev){
		.type = type,
		.name = name,
		.config = config,
		.config_bytes = config_bytes,
		.queues = queues,
		.n_queues = n_queues,
		.look_left = UINT32_MAX,
	};
	features_set(&vdev->offered, VIRTIO_F_VERSION_1); /* D-CORE-6.2-01 */
	features_set(&vdev->offered, VIRTIO_F_INDIRECT_DESC);
	features_set(&vdev->offered, VIRTIO_F_EVENT_IDX);
	features_set(&vdev->offered, VIRTIO_F_RING_PACKED);
}

/* ---- batches and faults ---------------------------------------------------------------- */

void vdev_flush(struct vdev *vdev)
{
	while (vdev->dirty) {
		struct vdev_queue *vq = vdev->dirty;

		vdev->dirty = vq->next_dirty;
		vq->dirty = false;
		if (devq_flush(&vq->q) && vdev->link)
			vdev->link->ops->used(vdev->link, vq - vdev->queues);
	}
}

/* D-CORE-2.1.2-02, -03: say that only a reset helps, and say it once. */
static void vdev_fail(struct vdev *vdev, u16 queue, const char *what)
{
	vdev->broken = true;
	vdev->fault_what = what;
	vdev->fault_queue = queue;
	vdev->n_faults++;
	vdev->status |= VIRTIO_STATUS_DEVICE_NEEDS_RESET;
	if (vdev->active) {
		vdev->config_generation++;
		if (vdev->link)
			vdev->link->ops->config(vdev->link);
	}
}

void vdev_break(struct vdev *vdev, u16 queue, const char *what)
{
	if (vdev->broken)
		return;
	vdev_fail(vdev, queue, what);
	log_line(LOG_WARN, vdev->name, "queue %u: %s; the driver has to reset the device", queue,
		 what);
}

/* A ring's latched fault becomes the device's. */
static void vdev_break_ring(struct vdev *vdev, u16 queue)
{
	const struct ring_fault_record *f = &vdev->queues[queue].q.fault;

	if (vdev->broken)
		return;
	vdev_fail(vdev, queue, ring_fault_name(f->kind));
	log_line(LOG_WARN, vdev->name,
		 "queue %u: %s (%s, id %u, value 0x%llx); the driver has to reset the device",
		 queue, ring_fault_text(f->kind), ring_fault_name(f->kind), f->id,
		 (unsigned long long)f->value);
}

int vdev_pop(struct vdev *vdev, u16 queue, struct chain *c)
{
	int got;

	if (unlikely(!vdev_live(vdev, queue)))
		return vdev->broken ? -EPROTO : 0;
	if (unlikely(vdev->look_left == 0)) {
		vdev->look_ended = true;
		return 0;
	}
	vdev->look_left--;
	got = devq_pop(&vdev->queues[queue].q, c);
	if (unlikely(got < 0))
		vdev_break_ring(vdev, queue);
	return got;
}

void vdev_unpop(struct vdev *vdev, u16 queue, struct chain *c)
{
	devq_unpop(&vdev->queues[queue].q, c);
}

void vdev_drop(struct vdev *vdev, u16 queue, struct chain *c)
{
	devq_drop(&vdev->queues[queue].q, c);
}

void vdev_push(struct vdev *vdev, u16 queue, struct chain *c, u32 n_written)
{
	struct vdev_queue *vq = &vdev->queues[queue];

	if (unlikely(vdev->broken)) {
		devq_drop(&vq->q, c);
		return;
	}
	devq_push(&vq->q, c, n_written);
	if (!vq->dirty) {
		vq->dirty = true;
		vq->next_dirty = vdev->dirty;
		vdev->dirty = vq;
	}
}

/* ---- queues ---------------------------------------------------------------------------- */

/* The driver made buffers available, or may have while nobody looked. */
static void queue_look(struct vdev *vdev, u16 queue)
{
	if (!vdev_live(vdev, queue))
		return;
	vdev->look_left = VDEV_LOOK_REQUESTS;
	vdev->type->kick(vdev, queue);
	vdev->look_left = UINT32_MAX; /* completions and arrivals are bounded by what they bring */
	vdev_flush(vdev);
	if (unlikely(vdev->look_ended)) {
		vdev->look_ended = false;
		if (vdev->link)
			vdev->link->ops->again(vdev->link, queue);
	}
}

static void queues_look(struct vdev *vdev)
{
	for (u16 i = 0; i < vdev->n_queues; i++)
		queue_look(vdev, i);
}

void vdev_kick(struct vdev *vdev, u16 queue)
{
	if (queue < vdev->n_queues) /* G16 */
		queue_look(vdev, queue);
}

u32 vdev_queue_position_start(const struct vdev *vdev)
{
	return vdev_has(vdev, VIRTIO_F_RING_PACKED) ? DEVQ_POSITION_START_PACKED
						    : DEVQ_POSITION_START_SPLIT;
}

int vdev_queue_start(struct vdev *vdev, u16 queue, const struct devq_setup *setup, u32 position)
{
	struct devq_setup full = *setup;
	struct vdev_queue *vq = &vdev->queues[queue];

	ASSERT(queue < vdev->n_queues && !vq->started);
	if (!vdev->memory) {
		vdev_break(vdev, queue, "a queue was started before there was guest memory");
		return -EPROTO;
	}
	full.packed = vdev_has(vdev, VIRTIO_F_RING_PACKED);
	full.event_idx = vdev_has(vdev, VIRTIO_F_EVENT_IDX);
	full.indirect = vdev_has(vdev, VIRTIO_F_INDIRECT_DESC);
	if (devq_start(&vq->q, &full, vdev->memory, position) < 0) {
		vdev_break_ring(vdev, queue);
		return -EPROTO;
	}
	vq->started = true;
	devq_set_polling(&vq->q, vdev->polling);
	queue_look(vdev, queue);
	return 0;
}

void vdev_quiesce(struct vdev *vdev)
{
	if (vdev->type->drain)
		vdev->type->drain(vdev);
	vdev_flush(vdev);
}

static u32 queue_stop(struct vdev *vdev, struct vdev_queue *vq)
{
	vq->started = false;
	return devq_stop(&vq->q);
}

u32 vdev_queue_stop(struct vdev *vdev, u16 queue)
{
	struct vdev_queue *vq = &vdev->queues[queue];
	u32 position;

	ASSERT(queue < vdev->n_queues);
	if (!vq->started)
		return 0;
	vdev_quiesce(vdev);
	position = queue_stop(vdev, vq);
	queues_look(vdev); /* the others were drained too, and go on */
	return position;
}

void vdev_queue_enable(struct vdev *vdev, u16 queue, bool on)
{
	ASSERT(queue < vdev->n_queues);
	if (vdev->queues[queue].enabled == on)
		return;
	vdev->queues[queue].enabled = on;
	queue_look(vdev, queue); /* V12: a kick while disabled is not lost */
}

void vdev_set_memory(struct vdev *vdev, struct memory *memory)
{
	struct memory *old = vdev->memory;

	if (memory)
		memory_pin(memory);
	vdev->memory = memory;
	for (u16 i = 0; i < vdev->n_queues; i++) {
		struct vdev_queue *vq = &vdev->queues[i];

		if (!vq->started)
			continue;
		ASSERT(memory);
		if (devq_remap(&vq->q, memory) < 0)
			vdev_break_ring(vdev, i);
	}
	if (old)
		memory_unpin(old);
	queues_look(vdev); /* a drain that came before may have put requests back */
}

/* ---- polling --------------------------------------------------------------------------- */

void vdev_set_polling(struct vdev *vdev, bool on)
{
	vdev->polling = on;
	for (u16 i = 0; i < vdev->n_queues; i++) {
		devq_set_polling(&vdev->queues[i].q, on);
		/* Off: popping until empty arms, and finds what came before it did. */
		if (!on)
			queue_look(vdev, i);
	}
}

bool vdev_poll(struct vdev *vdev)
{
	bool worked = false;

	for (u16 i = 0; i < vdev->n_queues; i++) {
		struct devq *q = &vdev->queues[i].q;
		u64 popped = q->n_popped;

		if (!vdev_live(vdev, i) || !devq_pending(q))
			continue;
		queue_look(vdev, i);
		/* Receive buffers lie there until something arrives: that they do is no work. */
		worked |= q->n_popped != popped || vdev->broken;
	}
	return worked;
}

/* ---- features and status --------------------------------------------------------------- */

void vdev_set_link(struct vdev *vdev, struct vdev_link *link)
{
	vdev->link = link;
}

void vdev_set_features(struct vdev *vdev, const struct features *accepted)
{
	if (!(vdev->status & VIRTIO_STATUS_FEATURES_OK))
		vdev->accepted = *accepted;
}

static bool features_are_fine(struct vdev *vdev)
{
	if (!features_subset(&vdev->accepted, &vdev->offered)) /* G22 */
		return false;
	if (!vdev_has(vdev, VIRTIO_F_VERSION_1)) /* D-CORE-6.2-02: there is no legacy interface */
		return false;
	return !vdev->type->check_features ||
	       vdev->type->check_features(vdev, &vdev->accepted) == 0;
}

static void vdev_activate(struct vdev *vdev)
{
	vdev->active = true;
	/* A ring that could not be started has broken us before anyone listened (G24). */
	if (vdev->broken) {
		vdev->config_generation++;
		if (vdev->link)
			vdev->link->ops->config(vdev->link);
		return;
	}
	if (vdev->type->activate)
		vdev->type->activate(vdev);
	vdev_flush(vdev);
	queues_look(vdev);
}

void vdev_set_status(struct vdev *vdev, u8 status)
{
	const u8 begun = VIRTIO_STATUS_ACKNOWLEDGE | VIRTIO_STATUS_DRIVER;
	u8 now = vdev->status;

	if (status == 0) {
		vdev_reset(vdev);
		return;
	}
	/*
	 * Bits only ever join (G-CORE-2.1.1-02 forbids the driver to clear one; if it does, nothing
	 * changes). NEEDS_RESET is the device's to set, SUSPEND was not offered.
	 */
	now |= status & (begun | VIRTIO_STATUS_FAILED);
	if ((status & VIRTIO_STATUS_FEATURES_OK) && !(now & VIRTIO_STATUS_FEATURES_OK) &&
	    (now & begun) == begun && features_are_fine(vdev)) /* D-CORE-2.2.2-02b */
		now |= VIRTIO_STATUS_FEATURES_OK;
	if ((status & VIRTIO_STATUS_DRIVER_OK) && (now & VIRTIO_STATUS_FEATURES_OK) &&
	    !(now & VIRTIO_STATUS_FAILED))
		now |= VIRTIO_STATUS_DRIVER_OK;
	vdev->status = now;
	if ((now & VIRTIO_STATUS_DRIVER_OK) && !vdev->active)
		vdev_activate(vdev);
}

void vdev_reset(struct vdev *vdev)
{
	vdev_quiesce(vdev);
	for (u16 i = 0; i < vdev->n_queues; i++) {
		struct vdev_queue *vq = &vdev->queues[i];

		if (vq->started)
			queue_stop(vdev, vq);
		vq->enabled = false;
	}
	vdev->active = false;
	if (vdev->type->reset)
		vdev->type->reset(vdev);
	vdev->status = 0; /* D-CORE-2.4.1-01 */
	vdev->accepted = (struct features){ { 0, 0 } };
	vdev->broken = false;
	vdev->fault_what = NULL;
	vdev->n_resets++;
}

void vdev_reset_keep_settings(struct vdev *vdev)
{
	u8 kept[ARRAY_SIZE(vdev->writable)][8];

	for (u32 i = 0; i < ARRAY_SIZE(vdev->writable); i++) {
		const struct vdev_writable *w = &vdev->writable[i];

		ASSERT(w->n_bytes <= sizeof(kept[i]));
		if (w->is_setting)
			memcpy(kept[i], vdev->config + w->offset, w->n_bytes);
	}
	vdev_reset(vdev);
	for (u32 i = 0; i < ARRAY_SIZE(vdev->writable); i++)
		if (vdev->writable[i].is_setting)
			vdev_config_write(vdev, vdev->writable[i].offset, kept[i],
					  vdev->writable[i].n_bytes);
}

/* ---- configuration space --------------------------------------------------------------- */

void vdev_config_read(struct vdev *vdev, u32 offset, void *dst, u32 n_bytes)
{
	u32 there = offset < vdev->config_bytes ? min_u64(n_bytes, vdev->config_bytes - offset) : 0;

	if (there)
		memcpy(dst, vdev->config + offset, there);
	memset((u8 *)dst + there, 0, n_bytes - there);
}

void vdev_config_write(struct vdev *vdev, u32 offset, const void *src, u32 n_bytes)
{
	u64 end = (u64)offset + n_bytes;

	for (u32 i = 0; i < ARRAY_SIZE(vdev->writable); i++) {
		const struct vdev_writable *w = &vdev->writable[i];
		u64 from = max_u64(offset, w->offset);
		u64 to = min_u64(end, (u64)w->offset + w->n_bytes);

		if (from >= to)
			continue;
		memcpy(vdev->config + from, (const u8 *)src + (from - offset), to - from);
		if (vdev->type->config_written)
			vdev->type->config_written(vdev, from, to - from);
	}
	vdev_flush(vdev);
}

void vdev_config_changed(struct vdev *vdev)
{
	vdev->config_generation++;
	if (vdev->active && vdev->link)
		vdev->link->ops->config(vdev->link);
}
