/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * virtio_config_ops to vhost-user messages.
 *
 * Every request is answered before the next one goes out: by an answer of its own, by an
 * acknowledgement where REPLY_ACK was negotiated, else by the GET_FEATURES that ends a set-up.
 * So a refusal is known by the name of what was refused, and a peer that is gone is found here
 * and not by a queue that never moves.
 */
#include "transport/vhost_user/frontend.h"

#include "base/log.h"
#include "base/shared.h"
#include "ring/devq.h"
#include "transport/vhost_user/codec.h"

/* The protocol has no way to ask; this is what every back end takes, as QEMU goes up to it. */
#define MAX_QUEUE_SIZE 1024
#define RESET_LIMIT_NS 5000000000ull /* G-CORE-2.4.2-01, D07 */

static const u64 PROTOCOL_FEATURES =
	1ull << VHOST_USER_PROTOCOL_F_MQ | 1ull << VHOST_USER_PROTOCOL_F_REPLY_ACK |
	1ull << VHOST_USER_PROTOCOL_F_BACKEND_REQ | 1ull << VHOST_USER_PROTOCOL_F_CONFIG |
	1ull << VHOST_USER_PROTOCOL_F_RESET_DEVICE |
	1ull << VHOST_USER_PROTOCOL_F_CONFIGURE_MEM_SLOTS | 1ull << VHOST_USER_PROTOCOL_F_STATUS;

const char *vhost_user_protocol_feature_name(unsigned int bit)
{
	static const char *const names[] = {
		"MQ",
		"LOG_SHMFD",
		"RARP",
		"REPLY_ACK",
		"NET_MTU",
		"BACKEND_REQ",
		"CROSS_ENDIAN",
		"CRYPTO_SESSION",
		"PAGEFAULT",
		"CONFIG",
		"BACKEND_SEND_FD",
		"HOST_NOTIFIER",
		"INFLIGHT_SHMFD",
		"RESET_DEVICE",
		"INBAND_NOTIFICATIONS",
		"CONFIGURE_MEM_SLOTS",
		"STATUS",
		"XEN_MMAP",
		"SHARED_OBJECT",
		"DEVICE_STATE",
	};

	return bit < ARRAY_SIZE(names) ? names[bit] : NULL;
}

static struct vhost_user_front *front_of(struct virtio_device *vdev)
{
	return container_of(vdev, struct vhost_user_front, device);
}

static bool has_protocol(const struct vhost_user_front *f, unsigned int bit)
{
	return f->protocol_features >> bit & 1;
}

/* ---- asking and being answered ------------------------------------------------------------ */

static void lost(struct vhost_user_front *f, u32 request, const char *why)
{
	if (!f->connected)
		return;
	f->connected = false;
	f->device.away = true;
	if (request)
		log_line(LOG_WARN, f->device.name, "back end lost at %s: %s",
			 vhost_user_request_name(request), why);
	else
		log_line(LOG_WARN, f->device.name, "back end lost: %s", why);
	f->env->ops->lost(f->env);
}

void vhost_user_front_lost(struct vhost_user_front *f, const char *why)
{
	lost(f, 0, why);
}

static const char *why_of(int err)
{
	switch (err) {
	case -ETIMEDOUT:
		return "no answer in time";
	case -EPIPE:
		return "it closed the connection";
	case -EPROTO:
		return "descriptors in an answer";
	default:
		return "the connection failed";
	}
}

static int send_request(struct vhost_user_front *f, u32 request, u32 flags, const void *payload,
			u32 n_bytes, const int *fds, u32 n_fds)
{
	struct {
		struct vhost_user_header header;
		u8 payload[sizeof(union vhost_user_payload)];
	} out = { .header = { request, VHOST_USER_VERSION | flags, n_bytes } };
	int err;

	if (!f->connected)
		return -ENODEV;
	ASSERT(n_bytes <= sizeof(out.payload));
	if (n_bytes) /* memcpy from NULL is undefined, even of nothing */
		memcpy(out.payload, payload, n_bytes);
	err = f->env->ops->send(f->env, &out, sizeof(out.header) + n_bytes, fds, n_fds);
	if (err < 0)
		lost(f, request, why_of(err));
	return f->connected ? 0 : -ENODEV;
}

/*
 * The answer to `request`: `n_bytes` into `payload`, exactly; or none at all, where the protocol
 * lets a back end say no that way. Returns how many came, or -ENODEV: lost.
 */
static int receive_answer(struct vhost_user_front *f, u32 request, void *payload, u32 n_bytes,
			  bool may_say_no)
{
	struct vhost_user_header h;
	int err = f->env->ops->receive(f->env, &h, sizeof(h));

	if (err < 0)
		goto failed;
	if (!f->connected) /* by what came on the request channel meanwhile */
		return -ENODEV;
	if (h.request != request || (h.flags & VHOST_USER_VERSION_MASK) != VHOST_USER_VERSION ||
	    !(h.flags & VHOST_USER_FLAG_REPLY)) {
		lost(f, request, "what came is no answer to it");
		return -ENODEV;
	}
	if (h.n_bytes != n_bytes && !(may_say_no && h.n_bytes == 0)) { /* V19 */
		lost(f, request, "an answer of the wrong length");
		return -ENODEV;
	}
	if (h.n_bytes > 0)
		err = f->env->ops->receive(f->env, payload, h.n_bytes);
	if (err < 0)
		goto failed;
	return f->connected ? (int)h.n_bytes : -ENODEV;
failed:
	lost(f, request, why_of(err));
	return -ENODEV;
}

static int ask_number(struct vhost_user_front *f, u32 request, u64 *number)
{
	int err = send_request(f, request, 0, NULL, 0, NULL, 0);

	if (err == 0)
		err = receive_answer(f, request, number, sizeof(*number), false);
	return err < 0 ? err : 0;
}

/*
 * A request that has no answer of its own. 0; -EIO: refused, which is logged and no lie; -ENODEV.
 * Without REPLY_ACK 0 says little: see barrier.
 */
static int tell_with_fds(struct vhost_user_front *f, u32 request, const void *payload, u32 n_bytes,
			 const int *fds, u32 n_fds)
{
	bool acked = has_protocol(f, VHOST_USER_PROTOCOL_F_REPLY_ACK);
	u64 status = 0;
	int err = send_request(f, request, acked ? VHOST_USER_FLAG_NEED_REPLY : 0, payload, n_bytes,
			       fds, n_fds);

	if (err == 0 && acked)
		err = receive_answer(f, request, &status, sizeof(status), false);
	if (err < 0)
		return err;
	if (status == 0)
		return 0;
	log_line(LOG_WARN, f->device.name, "the back end refuses %s",
		 vhost_user_request_name(request));
	return -EIO;
}

static int tell(struct vhost_user_front *f, u32 request, const void *payload, u32 n_bytes)
{
	return tell_with_fds(f, request, payload, n_bytes, NULL, 0);
}

static int tell_number(struct vhost_user_front *f, u32 request, u64 number)
{
	return tell(f, request, &number, sizeof(number));
}

static int tell_state(struct vhost_user_front *f, u32 request, u32 index, u32 value)
{
	struct vhost_user_vring_state s = { index, value };

	return tell(f, request, &s, sizeof(s));
}

/* All that was told before is done, or the back end closed over it. */
static int barrier(struct vhost_user_front *f)
{
	u64 ignored;

	if (has_protocol(f, VHOST_USER_PROTOCOL_F_REPLY_ACK))
		return f->connected ? 0 : -ENODEV;
	return ask_number(f, VHOST_USER_GET_FEATURES, &ignored);
}

/* ---- configuration ------------------------------------------------------------------------ */

static int config_ask(struct vhost_user_front *f, u32 n_bytes, struct vhost_user_config *c)
{
	u32 whole = VHOST_USER_CONFIG_HEADER_BYTES + n_bytes;
	int got;

	*c = (struct vhost_user_config){ .n_bytes = n_bytes };
	got = send_request(f, VHOST_USER_GET_CONFIG, 0, c, whole, NULL, 0);
	if (got == 0)
		got = receive_answer(f, VHOST_USER_GET_CONFIG, c, whole, true);
	return got == (int)whole ? 0 : -EIO;
}

/* Zeroes where the back end has nothing to say. */
static void front_get(struct virtio_device *vdev, u32 offset, void *buf, u32 n_bytes)
{
	struct vhost_user_front *f = front_of(vdev);
	struct vhost_user_config c;

	memset(buf, 0, n_bytes);
	if (offset > VHOST_USER_MAX_CONFIG_BYTES || n_bytes > VHOST_USER_MAX_CONFIG_BYTES - offset)
		return;
	/*
	 * From the beginning on: the commonest back end library (QEMU's libvhost-user) looks at
	 * the length alone, whatever offset it was asked for.
	 */
	if (has_protocol(f, VHOST_USER_PROTOCOL_F_CONFIG) &&
	    config_ask(f, offset + n_bytes, &c) == 0) {
		memcpy(buf, c.bytes + offset, n_bytes);
		return;
	}
	if (f->connected && !f->config_refused)
		log_line(LOG_WARN, vdev->name,
			 "the back end has no configuration to show (bytes %u to %u); taken as "
			 "zeroes",
			 offset, offset + n_bytes - 1);
	f->config_refused = true;
}

static void front_set(struct virtio_device *vdev, u32 offset, const void *buf, u32 n_bytes)
{
	struct vhost_user_front *f = front_of(vdev);
	struct vhost_user_config c = { offset, n_bytes, 0, { 0 } };

	if (!has_protocol(f, VHOST_USER_PROTOCOL_F_CONFIG) ||
	    offset > VHOST_USER_MAX_CONFIG_BYTES || n_bytes > VHOST_USER_MAX_CONFIG_BYTES - offset)
		return;
	memcpy(c.bytes, buf, n_bytes);
	tell(f, VHOST_USER_SET_CONFIG, &c, VHOST_USER_CONFIG_HEADER_BYTES + n_bytes);
}

/* One message carries all bytes that belong together: none can change between two of them. */
static u32 front_generation(struct virtio_device *vdev)
{
	return 0;
}

/* ---- status and features ------------------------------------------------------------------ */

static u8 front_get_status(struct virtio_device *vdev)
{
	struct vhost_user_front *f = front_of(vdev);
	u64 status;

	/* A back end that is lost answers to nothing; find_vqs and reset will say so. */
	if (!has_protocol(f, VHOST_USER_PROTOCOL_F_STATUS) ||
	    ask_number(f, VHOST_USER_GET_STATUS, &status) < 0)
		return f->status;
	return (u8)status;
}

static void front_set_status(struct virtio_device *vdev, u8 status)
{
	struct vhost_user_front *f = front_of(vdev);

	f->status = status;
	if (has_protocol(f, VHOST_USER_PROTOCOL_F_STATUS))
		tell_number(f, VHOST_USER_SET_STATUS, status);
}

/* The back end lets go of the ring: it answers when nothing is in flight any more. */
static void ring_stop(struct vhost_user_front *f, u16 queue)
{
	struct vhost_user_vring_state s = { queue, 0 };
	int got;

	if (!f->queues[queue].started)
		return;
	f->queues[queue].started = false;
	got = send_request(f, VHOST_USER_GET_VRING_BASE, 0, &s, sizeof(s), NULL, 0);
	if (got == 0)
		got = receive_answer(f, VHOST_USER_GET_VRING_BASE, &s, sizeof(s), false);
	if (got > 0 && s.index != queue)
		lost(f, VHOST_USER_GET_VRING_BASE, "an answer about another ring");
}

static int await_reset(struct vhost_user_front *f)
{
	struct platform *p = f->device.platform;
	u64 began = p->ops->now_ns(p), status;
	int err;

	while ((err = ask_number(f, VHOST_USER_GET_STATUS, &status)) == 0 && status != 0) {
		if (p->ops->now_ns(p) - began > RESET_LIMIT_NS)
			return -ETIMEDOUT;
		p->ops->relax(p);
	}
	return err;
}

/*
 * Stopping all rings is a reset that every back end knows; where it knows more, it forgets the
 * status bits and a fault too.
 */
static int front_reset(struct virtio_device *vdev)
{
	struct vhost_user_front *f = front_of(vdev);
	int err = 0;

	for (u32 i = 0; i < VHOST_USER_FRONT_MAX_QUEUES; i++)
		ring_stop(f, i);
	f->status = 0;
	f->config_pending = false;
	if (!f->connected)
		return -ENODEV;
	if (has_protocol(f, VHOST_USER_PROTOCOL_F_STATUS)) {
		err = tell_number(f, VHOST_USER_SET_STATUS, 0);
		if (err == 0)
			err = await_reset(f);
	} else if (has_protocol(f, VHOST_USER_PROTOCOL_F_RESET_DEVICE)) {
		err = tell(f, VHOST_USER_RESET_DEVICE, NULL, 0);
	}
	return err;
}

static void front_get_features(struct virtio_device *vdev, struct features *offered)
{
	const struct vhost_user_front *f = front_of(vdev);

	/* Bits 26 and 30 are the protocol's own, whatever they mean to a device. */
	offered->word[0] = f->features_offered & ~f->hidden.word[0] &
			   ~(1ull << VHOST_F_LOG_ALL | 1ull << VHOST_USER_F_PROTOCOL_FEATURES);
	offered->word[1] = 0; /* the protocol carries 64 */
	/* Rings stop and start by themselves in this protocol, whatever the back end offers. */
	if (!features_has(&f->hidden, VIRTIO_F_RING_RESET))
		features_set(offered, VIRTIO_F_RING_RESET);
}

static int front_finalize_features(struct virtio_device *vdev)
{
	struct vhost_user_front *f = front_of(vdev);

	/* Would mean that each address is looked up by IOTLB messages; ours are in the table. */
	features_clear(&vdev->features, VIRTIO_F_ACCESS_PLATFORM);
	return tell_number(f, VHOST_USER_SET_FEATURES,
			   (vdev->features.word[0] & ~(1ull << VIRTIO_F_RING_RESET)) |
				   (f->features_offered & 1ull << VHOST_USER_F_PROTOCOL_FEATURES));
}

/* ---- memory and rings --------------------------------------------------------------------- */

static int tell_memory(struct vhost_user_front *f)
{
	struct vhost_user_mem_table table = { .n_regions = f->n_memory };
	int fds[VHOST_USER_MAX_REGIONS];
	int err = 0;

	if (f->memory_told)
		return 0;
	for (u32 i = 0; i < f->n_memory && err == 0; i++) {
		struct vhost_user_mem_reg reg = { 0, f->memory[i].region };

		table.regions[i] = reg.region;
		fds[i] = f->memory[i].fd;
		if (has_protocol(f, VHOST_USER_PROTOCOL_F_CONFIGURE_MEM_SLOTS))
			err = tell_with_fds(f, VHOST_USER_ADD_MEM_REG, &reg, sizeof(reg), &fds[i],
					    1);
	}
	if (!has_protocol(f, VHOST_USER_PROTOCOL_F_CONFIGURE_MEM_SLOTS))
		err = tell_with_fds(f, VHOST_USER_SET_MEM_TABLE, &table,
				    8 + f->n_memory * sizeof(table.regions[0]), fds, f->n_memory);
	f->memory_told = err == 0;
	return err;
}

/* Ring messages speak of places by the front end's pointers, rings by the device's addresses. */
static u64 front_addr(const struct vhost_user_front *f, u64 gpa)
{
	for (u32 i = 0; i < f->n_memory; i++) {
		const struct vhost_user_region *r = &f->memory[i].region;

		if (gpa >= r->gpa && gpa - r->gpa < r->n_bytes)
			return r->front_addr + (gpa - r->gpa);
	}
	ASSERT(false); /* the platform hands out what is not in `memory` */
	return 0;
}

static bool front_notify(struct virtqueue *vq)
{
	struct vhost_user_front *f = front_of(virtqueue_device(vq));

	if (!f->connected)
		return false;
	f->env->ops->kick(f->env, vq->index);
	return true;
}

static int ring_start(struct vhost_user_front *f, u16 queue, const struct virtqueue_addrs *addrs)
{
	const struct virtqueue *vq = f->queues[queue].vq;
	struct vhost_user_vring_addr a = {
		.index = queue,
		.desc = front_addr(f, addrs->desc),
		.avail = front_addr(f, addrs->driver_area),
		.used = front_addr(f, addrs->device_area),
	};
	u32 base = vq->setup.packed ? DEVQ_POSITION_START_PACKED : DEVQ_POSITION_START_SPLIT;
	u64 index = queue;
	int kick_fd, call_fd;
	int err = f->env->ops->open_doorbells(f->env, queue, &kick_fd, &call_fd);

	if (err == 0)
		err = tell_state(f, VHOST_USER_SET_VRING_NUM, queue, vq->setup.size);
	if (err == 0)
		err = tell_state(f, VHOST_USER_SET_VRING_BASE, queue, base);
	if (err == 0)
		err = tell(f, VHOST_USER_SET_VRING_ADDR, &a, sizeof(a));
	if (err == 0)
		err = tell_with_fds(f, VHOST_USER_SET_VRING_CALL, &index, sizeof(index), &call_fd,
				    1);
	if (err < 0)
		return err;
	/* The ring begins to live with its kick descriptor. */
	f->queues[queue].started = true;
	return tell_with_fds(f, VHOST_USER_SET_VRING_KICK, &index, sizeof(index), &kick_fd, 1);
}

static int find_vq(struct vhost_user_front *f, u16 queue, const struct virtqueue_info *info)
{
	int size = virtio_vq_size(&f->device, info, MAX_QUEUE_SIZE);
	struct virtqueue_addrs addrs;

	/* Of network devices some back ends count pairs: those have to refuse for themselves. */
	if (f->n_queues && queue >= f->n_queues && f->device.id.device != VIRTIO_ID_NET)
		return -ENOENT;
	f->queues[queue].vq = virtio_vq_create(&f->device, queue, size, info, front_notify, &addrs);
	if (!f->queues[queue].vq)
		return -ENOMEM;
	return ring_start(f, queue, &addrs);
}

/* Without protocol features rings are on by themselves. */
static int ring_enable(struct vhost_user_front *f, u16 queue, bool on)
{
	if (!(f->features_offered >> VHOST_USER_F_PROTOCOL_FEATURES & 1))
		return 0;
	return tell_state(f, VHOST_USER_SET_VRING_ENABLE, queue, on);
}

static int front_reset_vq(struct virtio_device *vdev, struct virtqueue *vq)
{
	struct vhost_user_front *f = front_of(vdev);
	int err = ring_enable(f, vq->index, false);

	ring_stop(f, vq->index);
	f->env->ops->close_doorbells(f->env, vq->index);
	return err < 0 ? err : f->connected ? 0 : -ENODEV;
}

static int front_enable_vq(struct virtio_device *vdev, struct virtqueue *vq)
{
	struct vhost_user_front *f = front_of(vdev);
	struct virtqueue_addrs addrs = virtqueue_addrs(vq);
	int err = ring_start(f, vq->index, &addrs);

	if (err == 0)
		err = ring_enable(f, vq->index, true);
	return err < 0 ? err : barrier(f);
}

static void front_del_vqs(struct virtio_device *vdev)
{
	struct vhost_user_front *f = front_of(vdev);

	for (u32 i = 0; i < VHOST_USER_FRONT_MAX_QUEUES; i++) {
		if (!f->queues[i].vq)
			continue;
		f->env->ops->close_doorbells(f->env, i);
		virtio_vq_destroy(vdev, f->queues[i].vq);
		f->queues[i].vq = NULL;
	}
}

static int front_find_vqs(struct virtio_device *vdev, u32 n, struct virtqueue *vqs[],
			  const struct virtqueue_info infos[])
{
	struct vhost_user_front *f = front_of(vdev);
	int err = n <= VHOST_USER_FRONT_MAX_QUEUES ? tell_memory(f) : -ENOENT;

	for (u32 i = 0; i < n && err == 0; i++) {
		if (!infos[i].absent)
			err = find_vq(f, i, &infos[i]);
		vqs[i] = f->queues[i].vq;
	}
	for (u32 i = 0; i < n && err == 0; i++)
		if (vqs[i])
			err = ring_enable(f, i, true);
	if (err == 0)
		err = barrier(f);
	if (err == 0)
		return 0;
	for (u32 i = 0; i < n && i < VHOST_USER_FRONT_MAX_QUEUES; i++)
		ring_stop(f, i);
	front_del_vqs(vdev);
	return err;
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

/* ---- what the back end says by itself ------------------------------------------------------- */

void vhost_user_front_called(struct vhost_user_front *f, u16 queue)
{
	struct virtqueue *vq = f->queues[queue].vq;

	if (vq && vq->setup.callback)
		vq->setup.callback(vq);
}

/* A whole request: there is one that we agreed to hear. */
static bool handle_request(struct vhost_user_front *f)
{
	const struct vhost_user_header *h = &f->request;
	struct {
		struct vhost_user_header header;
		u64 status;
	} __attribute__((packed)) answer = {
		.header = { h->request, VHOST_USER_VERSION | VHOST_USER_FLAG_REPLY, sizeof(u64) },
	};

	if ((h->flags & VHOST_USER_VERSION_MASK) != VHOST_USER_VERSION ||
	    h->flags & VHOST_USER_FLAG_REPLY ||
	    h->request != VHOST_USER_BACKEND_CONFIG_CHANGE_MSG || h->n_bytes != 0) {
		lost(f, 0, "it asks for what was not negotiated"); /* V22 */
		return false;
	}
	/* "Look again", however often it is said before somebody does: a flood costs nothing. */
	f->config_pending = true;
	f->env->ops->wake(f->env);
	if (h->flags & VHOST_USER_FLAG_NEED_REPLY &&
	    f->env->ops->answer(f->env, &answer, sizeof(answer)) < 0) {
		lost(f, 0, "it does not take the answers that it asks for"); /* V16 */
		return false;
	}
	return true;
}

bool vhost_user_front_requested(struct vhost_user_front *f, const void *bytes, u32 n_bytes)
{
	const u8 *from = bytes;

	while (n_bytes > 0 && f->connected) {
		u32 n = min_u64(n_bytes, sizeof(f->request) - f->n_request_bytes);

		memcpy((u8 *)&f->request + f->n_request_bytes, from, n);
		from += n;
		n_bytes -= n;
		f->n_request_bytes += n;
		if (f->n_request_bytes < sizeof(f->request))
			break;
		f->n_request_bytes = 0;
		if (!handle_request(f))
			break;
	}
	return f->connected;
}

void vhost_user_front_dispatch(struct vhost_user_front *f)
{
	if (!f->config_pending)
		return;
	f->config_pending = false;
	virtio_config_changed(&f->device);
}

/* ---- a connection ---------------------------------------------------------------------------- */

static int negotiate_protocol(struct vhost_user_front *f)
{
	int err = ask_number(f, VHOST_USER_GET_PROTOCOL_FEATURES, &f->protocol_offered);
	u64 wanted = f->protocol_offered & PROTOCOL_FEATURES;

	if (err == 0) /* not acknowledged: whether there are acknowledgements is said by it */
		err = tell_number(f, VHOST_USER_SET_PROTOCOL_FEATURES, wanted);
	if (err < 0)
		return err;
	f->protocol_features = wanted;
	if (has_protocol(f, VHOST_USER_PROTOCOL_F_MQ))
		err = ask_number(f, VHOST_USER_GET_QUEUE_NUM, &f->n_queues);
	if (err == 0 && has_protocol(f, VHOST_USER_PROTOCOL_F_CONFIGURE_MEM_SLOTS))
		err = ask_number(f, VHOST_USER_GET_MAX_MEM_SLOTS, &f->max_mem_slots);
	if (err == 0 && has_protocol(f, VHOST_USER_PROTOCOL_F_BACKEND_REQ)) {
		int fd = f->env->ops->open_requests(f->env);

		err = fd < 0 ? fd
			     : tell_with_fds(f, VHOST_USER_SET_BACKEND_REQ_FD, NULL, 0, &fd, 1);
	}
	return err;
}

int vhost_user_front_connect(struct vhost_user_front *f)
{
	int err;

	ASSERT(!f->connected);
	f->connected = true;
	f->device.away = false;
	f->features_offered = f->protocol_offered = f->protocol_features = 0;
	f->n_queues = f->max_mem_slots = 0;
	f->memory_told = f->config_refused = f->config_pending = false;
	f->n_request_bytes = 0;
	f->status = 0;
	for (u32 i = 0; i < VHOST_USER_FRONT_MAX_QUEUES; i++)
		f->queues[i].started = false;
	err = ask_number(f, VHOST_USER_GET_FEATURES, &f->features_offered);
	if (err == 0 && f->features_offered >> VHOST_USER_F_PROTOCOL_FEATURES & 1)
		err = negotiate_protocol(f);
	if (err == 0)
		err = tell(f, VHOST_USER_SET_OWNER, NULL, 0);
	if (err < 0)
		lost(f, 0, "it does not let itself be set up");
	return err;
}

void vhost_user_front_init(struct vhost_user_front *f, struct vhost_user_front_env *env,
			   struct platform *platform, u32 device_id, const char *name,
			   const struct vhost_user_front_memory *memory, u32 n_memory)
{
	ASSERT(n_memory <= VHOST_USER_MAX_REGIONS);
	*f = (struct vhost_user_front){
		.device = {
			.id = { device_id, 0 },
			.config = &front_ops,
			.platform = platform,
			.name = name,
		},
		.env = env,
		.memory = memory,
		.n_memory = n_memory,
	};
}
