/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * vhost-user requests to vdev_* calls.
 *
 * The protocol grew by front ends that did what worked, so the order of messages is taken as it
 * comes: a ring starts when its SET_VRING_KICK arrives, and again whenever an address or a base
 * is set anew while it stands still. Where virtio and vhost-user tell the same thing twice
 * (status bits, features) the device's own state machine stays the only one: the first ring to
 * start stands for DRIVER_OK, all else that a front end with STATUS says is passed on.
 */
#include "transport/vhost_user/backend.h"

#include "base/log.h"
#include "base/shared.h"

static const u64 PROTOCOL_FEATURES =
	1ull << VHOST_USER_PROTOCOL_F_MQ | 1ull << VHOST_USER_PROTOCOL_F_REPLY_ACK |
	1ull << VHOST_USER_PROTOCOL_F_BACKEND_REQ | 1ull << VHOST_USER_PROTOCOL_F_CONFIG |
	1ull << VHOST_USER_PROTOCOL_F_RESET_DEVICE |
	1ull << VHOST_USER_PROTOCOL_F_CONFIGURE_MEM_SLOTS | 1ull << VHOST_USER_PROTOCOL_F_STATUS;

static u64 protocol_offered(const struct vhost_user_backend *b)
{
	u64 offered = PROTOCOL_FEATURES;

	if (b->vdev->type->device_id == VIRTIO_ID_NET)
		offered |= 1ull << VHOST_USER_PROTOCOL_F_RARP | 1ull << VHOST_USER_PROTOCOL_F_MTU;
	return offered;
}

static u64 features_offered(const struct vhost_user_backend *b)
{
	return b->vdev->offered.word[0] | 1ull << VHOST_USER_F_PROTOCOL_FEATURES;
}

static bool has_protocol(const struct vhost_user_backend *b, unsigned int bit)
{
	return b->protocol_features >> bit & 1;
}

/* ---- device to front end --------------------------------------------------------------- */

static void backend_used(struct vdev_link *link, u16 queue)
{
	struct vhost_user_backend *b = container_of(link, struct vhost_user_backend, link);

	if (b->rings[queue].call_fd >= 0)
		b->env->ops->signal(b->env, b->rings[queue].call_fd);
}

static void backend_config(struct vdev_link *link)
{
	struct vhost_user_backend *b = container_of(link, struct vhost_user_backend, link);
	struct vhost_user_header h = {
		.request = VHOST_USER_BACKEND_CONFIG_CHANGE_MSG,
		.flags = VHOST_USER_VERSION, /* no reply wanted: we wait for nobody */
	};

	if (b->request_fd < 0 || !has_protocol(b, VHOST_USER_PROTOCOL_F_CONFIG))
		return;
	/* The message only says "look again", so one that is waiting stands for any number. */
	b->config_pending = b->env->ops->request(b->env, b->request_fd, &h, sizeof(h)) == -EAGAIN;
}

static void backend_again(struct vdev_link *link, u16 queue)
{
	struct vhost_user_backend *b = container_of(link, struct vhost_user_backend, link);

	b->env->ops->again(b->env, queue);
}

static const struct vdev_link_ops backend_link_ops = {
	backend_used,
	backend_config,
	backend_again,
};

void vhost_user_backend_retry(struct vhost_user_backend *b)
{
	if (b->config_pending)
		backend_config(&b->link);
}

/* ---- descriptors ----------------------------------------------------------------------- */

static void fd_close(struct vhost_user_backend *b, int *fd)
{
	if (*fd >= 0)
		b->env->ops->close(b->env, *fd);
	*fd = -1;
}

/* The message's only descriptor, or -1; it is the caller's now. */
static int msg_take_fd(struct vhost_user_msg *msg)
{
	int fd = msg->n_fds > 0 ? msg->fds[0] : -1;

	if (msg->n_fds > 0)
		msg->fds[0] = -1;
	return fd;
}

static void kick_close(struct vhost_user_backend *b, u16 queue)
{
	if (b->rings[queue].kick_fd >= 0)
		b->env->ops->unwatch(b->env, queue);
	fd_close(b, &b->rings[queue].kick_fd);
}

/* ---- guest memory ---------------------------------------------------------------------- */

static void slot_unmap(struct vhost_user_backend *b, struct vhost_user_slot *s)
{
	b->env->ops->unmap(b->env, s->base, s->n_bytes);
}

/*
 * Puts the device onto a map of the `n` slots. Everything in flight is ended first, so that the
 * old map has no user afterwards and its slots can be unmapped by the caller.
 */
static int memory_install(struct vhost_user_backend *b, const struct vhost_user_slot *slots, u32 n,
			  const char **why)
{
	u32 next = !b->current;
	struct memory_region *regions = b->regions[next];
	struct memory *map = &b->maps[next];

	for (u32 i = 0; i < n; i++)
		regions[i] =
			(struct memory_region){ slots[i].gpa, slots[i].n_bytes, slots[i].base };
	if (memory_init(map, regions, n) < 0) {
		*why = "guest memory regions that are empty, overlap or wrap";
		return -EPROTO;
	}
	vdev_quiesce(b->vdev);
	vdev_set_memory(b->vdev, map);
	map->n_pins--; /* the device's pin is the only one */
	b->current = next;
	ASSERT(b->maps[!next].n_pins == 0);
	return 0;
}

/* Maps what a region message describes; `slot->base` is NULL if that cannot be. */
static int slot_map(struct vhost_user_backend *b, struct vhost_user_slot *slot,
		    const struct vhost_user_region *r, int fd, const char **why)
{
	*slot = (struct vhost_user_slot){ .gpa = r->gpa,
					  .n_bytes = r->n_bytes,
					  .front_addr = r->front_addr };
	*why = "a guest memory region that is empty or wraps"; /* V05 */
	if (r->n_bytes == 0 || r->n_bytes - 1 > UINT64_MAX - r->gpa ||
	    r->n_bytes - 1 > UINT64_MAX - r->front_addr ||
	    r->n_bytes - 1 > UINT64_MAX - r->mmap_offset)
		return -EPROTO;
	*why = "a guest memory region that cannot be mapped";
	slot->base = b->env->ops->map(b->env, fd, r->mmap_offset, r->n_bytes);
	return slot->base ? 0 : -EPROTO;
}

static bool front_ranges_overlap(const struct vhost_user_slot *a, const struct vhost_user_slot *c)
{
	return a->front_addr <= c->front_addr ? c->front_addr - a->front_addr < a->n_bytes
					      : a->front_addr - c->front_addr < c->n_bytes;
}

static int set_mem_table(struct vhost_user_backend *b, struct vhost_user_msg *msg, const char **why)
{
	const struct vhost_user_mem_table *t = &msg->payload.table;
	struct vhost_user_slot fresh[VHOST_USER_MAX_REGIONS] = { { 0 } };
	u32 n = t->n_regions, n_mapped = 0;
	int err;

	if (n > VHOST_USER_MAX_REGIONS || msg->header.n_bytes < 8 + n * sizeof(t->regions[0])) {
		*why = "a memory table that is longer than the message";
		return -EPROTO;
	}
	for (; n_mapped < n; n_mapped++) {
		err = slot_map(b, &fresh[n_mapped], &t->regions[n_mapped], msg->fds[n_mapped], why);
		if (err < 0)
			goto unmap;
		for (u32 i = 0; i < n_mapped; i++) {
			if (!front_ranges_overlap(&fresh[i], &fresh[n_mapped]))
				continue;
			n_mapped++;
			*why = "memory regions that overlap in the front end";
			err = -EPROTO;
			goto unmap;
		}
	}
	err = memory_install(b, fresh, n, why);
	if (err < 0)
		goto unmap;
	for (u32 i = 0; i < b->n_slots; i++)
		slot_unmap(b, &b->slots[i]);
	for (u32 i = 0; i < n; i++)
		b->slots[i] = fresh[i];
	b->n_slots = n;
	return 0;
unmap:
	while (n_mapped > 0)
		slot_unmap(b, &fresh[--n_mapped]);
	return err;
}

static int add_mem_reg(struct vhost_user_backend *b, struct vhost_user_msg *msg, const char **why)
{
	struct vhost_user_slot *slot = &b->slots[b->n_slots];
	int err;

	if (b->n_slots == VHOST_USER_MEM_SLOTS) {
		*why = "more memory regions than there are slots";
		return -EPROTO;
	}
	err = slot_map(b, slot, &msg->payload.reg.region, msg->fds[0], why);
	if (err < 0)
		return err;
	for (u32 i = 0; i < b->n_slots; i++) {
		if (!front_ranges_overlap(&b->slots[i], slot))
			continue;
		slot_unmap(b, slot);
		*why = "memory regions that overlap in the front end";
		return -EPROTO;
	}
	err = memory_install(b, b->slots, b->n_slots + 1, why);
	if (err < 0) {
		slot_unmap(b, slot);
		return err;
	}
	b->n_slots++;
	return 0;
}

static int rem_mem_reg(struct vhost_user_backend *b, const struct vhost_user_msg *msg,
		       const char **why)
{
	const struct vhost_user_region *r = &msg->payload.reg.region;
	struct vhost_user_slot gone;
	u32 at = 0;

	while (at < b->n_slots &&
	       (b->slots[at].gpa != r->gpa || b->slots[at].front_addr != r->front_addr ||
		b->slots[at].n_bytes != r->n_bytes))
		at++;
	if (at == b->n_slots) {
		*why = "removal of a memory region that is not there";
		return -EPROTO;
	}
	gone = b->slots[at];
	b->slots[at] = b->slots[--b->n_slots];
	/* Fewer regions of a good map are a good map; a ring that was in it breaks the device. */
	ASSERT(memory_install(b, b->slots, b->n_slots, why) == 0);
	slot_unmap(b, &gone);
	return 0;
}

/* The front end's pointer as a guest address. */
static bool front_to_gpa(const struct vhost_user_backend *b, u64 addr, u64 *gpa)
{
	for (u32 i = 0; i < b->n_slots; i++) {
		const struct vhost_user_slot *s = &b->slots[i];

		if (addr >= s->front_addr && addr - s->front_addr < s->n_bytes) {
			*gpa = s->gpa + (addr - s->front_addr);
			return true;
		}
	}
	return false;
}

/* ---- rings ----------------------------------------------------------------------------- */

/* The device's handshake, by the front end's features; false if the device refuses them. */
static bool device_prepare(struct vhost_user_backend *b, u8 status)
{
	struct features f = { { b->features & ~(1ull << VHOST_USER_F_PROTOCOL_FEATURES), 0 } };

	vdev_set_features(b->vdev, &f);
	vdev_set_status(b->vdev, status | VIRTIO_STATUS_ACKNOWLEDGE | VIRTIO_STATUS_DRIVER |
					 VIRTIO_STATUS_FEATURES_OK);
	return b->vdev->status & VIRTIO_STATUS_FEATURES_OK;
}

static int ring_start(struct vhost_user_backend *b, u16 queue, const char **why)
{
	struct vhost_user_ring *r = &b->rings[queue];
	u32 base = r->base;

	*why = "a ring that starts before SET_FEATURES";
	if (!b->features_set)
		return -EPROTO;
	*why = "a ring that starts without SET_VRING_NUM or SET_VRING_ADDR";
	if (!r->has_addr || r->setup.size == 0)
		return -EPROTO;
	*why = "features that were not offered, or that this device does not work with";
	if (!device_prepare(b, 0))
		return -EPROTO;
	if (vdev_has(b->vdev, VIRTIO_F_RING_PACKED)) {
		/*
		 * The upper half, the used position, came late to the protocol: some front ends
		 * leave it 0 and mean "as the available one". A ring that stopped is drained, so the
		 * two are the same anyway. User-Mode Linux says 0 for "at the start"; who speaks
		 * STATUS knows better, and means slot 0 on an even lap.
		 */
		if (base >> 16 == 0)
			base |= base << 16;
		if (base == 0 && !r->stopped && !has_protocol(b, VHOST_USER_PROTOCOL_F_STATUS))
			base = DEVQ_POSITION_START_PACKED;
	}
	/*
	 * A ring that cannot be is the guest's doing, not the front end's: the device is broken
	 * until it is reset, the connection lives on (G24).
	 */
	if (vdev_queue_start(b->vdev, queue, &r->setup, base) < 0)
		return 0;
	vdev_queue_enable(b->vdev, queue, r->enabled);
	/*
	 * Not left to SET_STATUS even where that was agreed on: QEMU 7.2 never gets so far with
	 * vhost-user-rng, whose guest waits for bytes all the same.
	 */
	vdev_set_status(b->vdev, b->vdev->status | VIRTIO_STATUS_DRIVER_OK);
	return 0;
}

static void ring_stop(struct vhost_user_backend *b, u16 queue)
{
	struct vhost_user_ring *r = &b->rings[queue];

	if (b->vdev->queues[queue].started) {
		r->base = vdev_queue_stop(b->vdev, queue);
		r->stopped = true;
	}
	kick_close(b, queue);
}

static bool is_running(const struct vhost_user_backend *b, u16 queue)
{
	return b->vdev->queues[queue].started;
}

static bool any_running(const struct vhost_user_backend *b)
{
	for (u16 i = 0; i < b->vdev->n_queues; i++)
		if (is_running(b, i))
			return true;
	return false;
}

/* Without protocol features there is no SET_VRING_ENABLE: rings are on from the start. */
static bool rings_begin_enabled(const struct vhost_user_backend *b)
{
	return b->features_set && !(b->features >> VHOST_USER_F_PROTOCOL_FEATURES & 1);
}

/*
 * As after a reset, but with the connection's memory and ring descriptors kept, and the rings'
 * positions: QEMU resets the device whenever it pauses a guest, and only then asks where the
 * rings stopped.
 */
static void device_reset(struct vhost_user_backend *b, void (*reset)(struct vdev *vdev))
{
	for (u16 i = 0; i < b->vdev->n_queues; i++) /* no new request while others end */
		vdev_queue_enable(b->vdev, i, false);
	for (u16 i = 0; i < b->vdev->n_queues; i++) {
		ring_stop(b, i);
		b->rings[i].enabled = rings_begin_enabled(b);
		b->rings[i].stopped = false;
	}
	reset(b->vdev);
}

/*
 * Rings may be set up. User-Mode Linux stops none: it disables all, forgets them, and sets them
 * up anew when a driver comes back. Without STATUS that is all we hear of the reset in between.
 */
static bool at_rest(struct vhost_user_backend *b, bool running)
{
	if (!running)
		return true;
	if (has_protocol(b, VHOST_USER_PROTOCOL_F_STATUS))
		return false;
	for (u16 i = 0; i < b->vdev->n_queues; i++)
		if (b->rings[i].enabled)
			return false;
	device_reset(b, vdev_reset);
	return true;
}

static int set_vring_addr(struct vhost_user_backend *b, const struct vhost_user_vring_addr *a,
			  const char **why)
{
	struct devq_setup *s = &b->rings[a->index].setup;

	*why = "a log for a ring without VHOST_F_LOG_ALL"; /* V09 */
	if (a->flags & VHOST_USER_VRING_ADDR_F_LOG)
		return -EPROTO;
	*why = "ring addresses that are not in the memory table";
	if (!front_to_gpa(b, a->desc, &s->desc_gpa) || !front_to_gpa(b, a->avail, &s->driver_gpa) ||
	    !front_to_gpa(b, a->used, &s->device_gpa))
		return -EPROTO;
	b->rings[a->index].has_addr = true;
	return 0;
}

static int set_vring_kick(struct vhost_user_backend *b, struct vhost_user_msg *msg, u16 queue,
			  const char **why)
{
	struct vhost_user_ring *r = &b->rings[queue];

	if (vhost_user_msg_no_fd(msg)) {
		*why = "a ring without a kick descriptor, which needs polling by agreement";
		return -EPROTO;
	}
	kick_close(b, queue);
	r->kick_fd = msg_take_fd(msg);
	if (b->env->ops->watch(b->env, queue, r->kick_fd) < 0) {
		fd_close(b, &r->kick_fd);
		*why = "a kick descriptor that cannot be waited for"; /* V04 */
		return -EPROTO;
	}
	if (is_running(b, queue)) { /* a new descriptor for a ring that goes on */
		vdev_kick(b->vdev, queue);
		return 0;
	}
	return ring_start(b, queue, why);
}

void vhost_user_backend_kicked(struct vhost_user_backend *b, u16 queue)
{
	vdev_kick(b->vdev, queue);
}

/* Requests that speak of one ring, which exists. */
static int handle_ring(struct vhost_user_backend *b, struct vhost_user_msg *msg, u16 queue,
		       const char **why)
{
	struct vhost_user_ring *r = &b->rings[queue];
	u32 value = msg->payload.state.value;

	switch (msg->header.request) {
	case VHOST_USER_SET_VRING_NUM:
		*why = "a queue size that no queue can have, or for a running ring"; /* V08 */
		if (value == 0 || value > VIRTQ_MAX_SIZE || !at_rest(b, is_running(b, queue)))
			return -EPROTO;
		r->setup.size = value;
		return 0;
	case VHOST_USER_SET_VRING_BASE:
		*why = "a base for a running ring"; /* V10 */
		if (!at_rest(b, is_running(b, queue)))
			return -EPROTO;
		r->base = value;
		return 0;
	case VHOST_USER_SET_VRING_ADDR:
		if (is_running(b, queue)) { /* QEMU sets it again only to switch logging */
			struct devq_setup old = r->setup;
			int err = set_vring_addr(b, &msg->payload.addr, why);

			if (err == 0 && memcmp(&old, &r->setup, sizeof(old)) != 0 &&
			    !at_rest(b, true)) {
				*why = "new addresses for a running ring";
				err = -EPROTO;
			}
			return err;
		}
		return set_vring_addr(b, &msg->payload.addr, why);
	case VHOST_USER_SET_VRING_KICK:
		return set_vring_kick(b, msg, queue, why);
	case VHOST_USER_SET_VRING_CALL:
		fd_close(b, &r->call_fd);
		r->call_fd = msg_take_fd(msg);
		/* What was used while nobody listened is told now; a call too many does no harm. */
		if (r->call_fd >= 0 && is_running(b, queue))
			b->env->ops->signal(b->env, r->call_fd);
		return 0;
	case VHOST_USER_SET_VRING_ERR:
		fd_close(b, &r->err_fd);
		r->err_fd = msg_take_fd(msg);
		return 0;
	case VHOST_USER_SET_VRING_ENABLE:
		*why = "SET_VRING_ENABLE with neither 0 nor 1";
		if (value > 1)
			return -EPROTO;
		r->enabled = value;
		vdev_queue_enable(b->vdev, queue, r->enabled);
		return 0;
	}
	ASSERT(false);
	return -EPROTO;
}

/* ---- the whole device ------------------------------------------------------------------ */

static int answer(struct vhost_user_backend *b, const struct vhost_user_msg *to, const void *bytes,
		  u32 n_bytes)
{
	struct {
		struct vhost_user_header header;
		u8 payload[sizeof(union vhost_user_payload)];
	} out = {
		.header = { to->header.request, VHOST_USER_VERSION | VHOST_USER_FLAG_REPLY,
			    n_bytes },
	};

	ASSERT(n_bytes <= sizeof(out.payload));
	memcpy(out.payload, bytes, n_bytes);
	return b->env->ops->answer(b->env, &out, sizeof(out.header) + n_bytes);
}

static int answer_number(struct vhost_user_backend *b, const struct vhost_user_msg *to, u64 n)
{
	return answer(b, to, &n, sizeof(n));
}

static int set_features(struct vhost_user_backend *b, u64 features, const char **why)
{
	*why = "features that were not offered";
	if (features & ~features_offered(b))
		return -EPROTO;
	if (b->features_set && b->features == features)
		return 0;
	*why = "other features while rings run"; /* V18 */
	if (!at_rest(b, any_running(b)))
		return -EPROTO;
	if (b->vdev->status)
		vdev_reset(b->vdev);
	b->features = features;
	b->features_set = true;
	for (u16 i = 0; rings_begin_enabled(b) && i < b->vdev->n_queues; i++)
		b->rings[i].enabled = true;
	return 0;
}

static int get_config(struct vhost_user_backend *b, struct vhost_user_msg *msg)
{
	struct vhost_user_config *c = &msg->payload.config;

	/* The payload may be left out in the question, as the answer's is all that counts. */
	if (c->n_bytes > VHOST_USER_MAX_CONFIG_BYTES || c->n_bytes == 0 ||
	    c->offset > VHOST_USER_MAX_CONFIG_BYTES - c->n_bytes)
		return answer(b, msg, c, 0); /* V15: the protocol's way to say no */
	vdev_config_read(b->vdev, c->offset, c->bytes, c->n_bytes);
	return answer(b, msg, c, VHOST_USER_CONFIG_HEADER_BYTES + c->n_bytes);
}

static int set_config(struct vhost_user_backend *b, const struct vhost_user_msg *msg,
		      const char **why)
{
	const struct vhost_user_config *c = &msg->payload.config;

	*why = "a configuration write longer than its message"; /* V15 */
	if (c->n_bytes != msg->header.n_bytes - VHOST_USER_CONFIG_HEADER_BYTES)
		return -EPROTO;
	vdev_config_write(b->vdev, c->offset, c->bytes, c->n_bytes);
	return 0;
}

static int set_status(struct vhost_user_backend *b, u64 status, const char **why)
{
	*why = "a status wider than a byte";
	if (status > UINT8_MAX)
		return -EPROTO;
	if (status == 0) {
		/* QEMU says this to pause as well, and its guest does not know (rule 2 of E06). */
		device_reset(b, vdev_reset_keep_settings);
		return 0;
	}
	/*
	 * QEMU sets FEATURES_OK before ACKNOWLEDGE and DRIVER; the driver has long done all three
	 * in the right order towards QEMU.
	 */
	if ((status & (VIRTIO_STATUS_FEATURES_OK | VIRTIO_STATUS_DRIVER_OK)) && b->features_set)
		device_prepare(b, status);
	else
		vdev_set_status(b->vdev, status);
	return 0;
}

/*
 * For a network device front ends count pairs, and keep the control queue to themselves; for all
 * others they count queues.
 */
static u64 queue_num(const struct vhost_user_backend *b)
{
	u16 n = b->vdev->n_queues;

	return b->vdev->type->device_id == VIRTIO_ID_NET ? max_u64(n / 2, 1) : n;
}

/* What a request needs to have been negotiated; 64: nothing, 65: never offered. */
static unsigned int needed_protocol(u32 request)
{
	switch (request) {
	case VHOST_USER_GET_CONFIG:
	case VHOST_USER_SET_CONFIG:
		return VHOST_USER_PROTOCOL_F_CONFIG;
	case VHOST_USER_SET_BACKEND_REQ_FD:
		return VHOST_USER_PROTOCOL_F_BACKEND_REQ;
	case VHOST_USER_GET_QUEUE_NUM:
		return VHOST_USER_PROTOCOL_F_MQ;
	case VHOST_USER_SEND_RARP:
		return VHOST_USER_PROTOCOL_F_RARP;
	case VHOST_USER_NET_SET_MTU:
		return VHOST_USER_PROTOCOL_F_MTU;
	case VHOST_USER_RESET_DEVICE:
		return VHOST_USER_PROTOCOL_F_RESET_DEVICE;
	case VHOST_USER_GET_MAX_MEM_SLOTS:
	case VHOST_USER_ADD_MEM_REG:
	case VHOST_USER_REM_MEM_REG:
		return VHOST_USER_PROTOCOL_F_CONFIGURE_MEM_SLOTS;
	case VHOST_USER_SET_STATUS:
	case VHOST_USER_GET_STATUS:
		return VHOST_USER_PROTOCOL_F_STATUS;
	case VHOST_USER_SET_LOG_BASE:
	case VHOST_USER_SET_LOG_FD:
	case VHOST_USER_IOTLB_MSG:
	case VHOST_USER_SET_VRING_ENDIAN:
	case VHOST_USER_CREATE_CRYPTO_SESSION:
	case VHOST_USER_CLOSE_CRYPTO_SESSION:
	case VHOST_USER_POSTCOPY_ADVISE:
	case VHOST_USER_POSTCOPY_LISTEN:
	case VHOST_USER_POSTCOPY_END:
	case VHOST_USER_GET_INFLIGHT_FD:
	case VHOST_USER_SET_INFLIGHT_FD:
	case VHOST_USER_GPU_SET_SOCKET:
	case VHOST_USER_VRING_KICK:
		return 65;
	default:
		return 64;
	}
}

/* The ring that a request speaks of, which may not exist; NO_RING: it speaks of none. */
#define NO_RING UINT64_MAX
static u64 ring_of(const struct vhost_user_msg *msg)
{
	switch (msg->header.request) {
	case VHOST_USER_SET_VRING_NUM:
	case VHOST_USER_SET_VRING_BASE:
	case VHOST_USER_GET_VRING_BASE:
	case VHOST_USER_SET_VRING_ENABLE:
		return msg->payload.state.index;
	case VHOST_USER_SET_VRING_ADDR:
		return msg->payload.addr.index;
	case VHOST_USER_SET_VRING_KICK:
	case VHOST_USER_SET_VRING_CALL:
	case VHOST_USER_SET_VRING_ERR:
		/* Bits that mean nothing must not be cut off a number that means another ring. */
		return msg->payload.number & ~(u64)VHOST_USER_VRING_NO_FD;
	default:
		return NO_RING;
	}
}

/* 0: done, an acknowledgement is due if asked for. 1: answered. -errno: close. */
static int handle(struct vhost_user_backend *b, struct vhost_user_msg *msg, const char **why)
{
	unsigned int needs = needed_protocol(msg->header.request);
	u64 ring = ring_of(msg);
	int err;

	if (needs == 65 || (needs < 64 && !has_protocol(b, needs))) { /* V22 */
		*why = "a request that was not negotiated";
		return -EPROTO;
	}
	if (ring != NO_RING && ring >= b->vdev->n_queues) { /* V11 */
		*why = "a ring that the device does not have";
		return -EPROTO;
	}

	switch (msg->header.request) {
	case VHOST_USER_GET_FEATURES:
		err = answer_number(b, msg, features_offered(b));
		break;
	case VHOST_USER_SET_FEATURES:
		return set_features(b, msg->payload.number, why);
	case VHOST_USER_GET_PROTOCOL_FEATURES:
		err = answer_number(b, msg, protocol_offered(b));
		break;
	case VHOST_USER_SET_PROTOCOL_FEATURES:
		*why = "protocol features that were not offered";
		if (msg->payload.number & ~protocol_offered(b))
			return -EPROTO;
		b->protocol_features = msg->payload.number;
		return 0;
	case VHOST_USER_SET_OWNER: /* one connection, one owner: it is already */
		return 0;
	case VHOST_USER_RESET_OWNER: /* obsolete; some use it for a reset still */
	case VHOST_USER_RESET_DEVICE:
		device_reset(b, vdev_reset);
		return 0;
	case VHOST_USER_SET_MEM_TABLE:
		return set_mem_table(b, msg, why);
	case VHOST_USER_ADD_MEM_REG:
		return add_mem_reg(b, msg, why);
	case VHOST_USER_REM_MEM_REG:
		return rem_mem_reg(b, msg, why);
	case VHOST_USER_GET_MAX_MEM_SLOTS:
		err = answer_number(b, msg, VHOST_USER_MEM_SLOTS);
		break;
	case VHOST_USER_GET_QUEUE_NUM:
		err = answer_number(b, msg, queue_num(b));
		break;
	case VHOST_USER_GET_VRING_BASE: {
		struct vhost_user_vring_state s = { ring, 0 };

		ring_stop(b, ring);
		s.value = b->rings[ring].base;
		err = answer(b, msg, &s, sizeof(s));
		break;
	}
	case VHOST_USER_GET_CONFIG:
		err = get_config(b, msg);
		break;
	case VHOST_USER_SET_CONFIG:
		return set_config(b, msg, why);
	case VHOST_USER_GET_STATUS:
		err = answer_number(b, msg, b->vdev->status);
		break;
	case VHOST_USER_SET_STATUS:
		return set_status(b, msg->payload.number, why);
	case VHOST_USER_SET_BACKEND_REQ_FD:
		fd_close(b, &b->request_fd);
		b->request_fd = msg_take_fd(msg);
		b->config_pending = false;
		return 0;
	case VHOST_USER_SEND_RARP: /* the network learns where the guest is by its first frame */
	case VHOST_USER_NET_SET_MTU: /* the front end's own copy; ours stands in the config */
		return 0;
	default:
		return handle_ring(b, msg, ring, why);
	}
	*why = "an answer that could not be sent";
	return err < 0 ? err : 1;
}

int vhost_user_backend_handle(struct vhost_user_backend *b, struct vhost_user_msg *msg,
			      const char **why)
{
	int err = handle(b, msg, why);

	for (u32 i = 0; i < msg->n_fds; i++)
		fd_close(b, &msg->fds[i]);
	msg->n_fds = 0;
	if (err == 0 && (msg->header.flags & VHOST_USER_FLAG_NEED_REPLY) &&
	    has_protocol(b, VHOST_USER_PROTOCOL_F_REPLY_ACK)) {
		*why = "an acknowledgement that could not be sent";
		err = answer_number(b, msg, 0);
	}
	return err < 0 ? err : 0;
}

void vhost_user_backend_init(struct vhost_user_backend *b, struct vdev *vdev,
			     struct vhost_user_env *env)
{
	ASSERT(vdev->n_queues <= VHOST_USER_MAX_QUEUES);
	*b = (struct vhost_user_backend){
		.vdev = vdev,
		.env = env,
		.link.ops = &backend_link_ops,
	};
}

void vhost_user_backend_open(struct vhost_user_backend *b)
{
	ASSERT(!b->open && b->n_slots == 0);
	b->open = true;
	b->features = b->protocol_features = 0;
	b->features_set = b->config_pending = false;
	b->request_fd = -1;
	for (u32 i = 0; i < VHOST_USER_MAX_QUEUES; i++)
		b->rings[i] =
			(struct vhost_user_ring){ .kick_fd = -1, .call_fd = -1, .err_fd = -1 };
	vdev_set_link(b->vdev, &b->link);
}

void vhost_user_backend_close(struct vhost_user_backend *b)
{
	if (!b->open)
		return;
	b->open = false;
	device_reset(b, vdev_reset);
	vdev_set_link(b->vdev, NULL);
	vdev_set_memory(b->vdev, NULL);
	for (u32 i = 0; i < b->n_slots; i++)
		slot_unmap(b, &b->slots[i]);
	b->n_slots = 0;
	for (u32 i = 0; i < VHOST_USER_MAX_QUEUES; i++) {
		fd_close(b, &b->rings[i].call_fd);
		fd_close(b, &b->rings[i].err_fd);
	}
	fd_close(b, &b->request_fd);
}
