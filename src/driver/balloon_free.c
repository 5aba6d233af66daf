/* SPDX-License-Identifier: BSD-3-Clause */
/* Memory that is free for now: hints, whenever the device asks; reports, as the owner likes. */
#include "driver/balloon_parts.h"

/* ---- hints ------------------------------------------------------------------------------- */

/*
 *          a new id                id sent               no more, or the device says so
 *   idle ----------> (hint_next) ----------> pages -----------> ending -----------> idle
 *                                                                      STOP sent
 */
enum hint_state { HINT_IDLE, HINT_PAGES, HINT_ENDING };

void driver_balloon_hints_reset(struct driver_balloon *b)
{
	b->hint_state = HINT_IDLE;
	b->hint_seen = b->hint_next = 0;
	b->hint_cmd_busy = false;
}

static bool send_hint_cmd(struct driver_balloon *b, u32 cmd)
{
	struct span s = { &b->shared->hint_cmd, sizeof(le32) };

	if (b->hint_cmd_busy)
		return false;
	b->shared->hint_cmd = le32_of(cmd);
	b->hint_cmd_busy = virtqueue_add_buf(b->vqs[VIRTIO_BALLOON_FREE_PAGE_VQ], &s, 1, 0,
					     &b->shared->hint_cmd) == 0;
	return b->hint_cmd_busy;
}

static void send_hints(struct driver_balloon *b)
{
	struct virtqueue *vq = b->vqs[VIRTIO_BALLOON_FREE_PAGE_VQ];
	struct span s;

	if (b->hint_state == HINT_IDLE && b->hint_next && send_hint_cmd(b, b->hint_next)) {
		b->hint_state = HINT_PAGES;
		b->hint_next = 0;
		b->hint_first = true;
	}
	while (b->hint_state == HINT_PAGES && vq->n_free > 0) {
		if (!b->config.ops->next_hint(b->config.owner, b->hint_first, &s) ||
		    virtqueue_add_buf(vq, &s, 0, 1, b) < 0)
			b->hint_state = HINT_ENDING;
		b->hint_first = false;
	}
	if (b->hint_state == HINT_ENDING && send_hint_cmd(b, VIRTIO_BALLOON_CMD_ID_STOP))
		b->hint_state = HINT_IDLE;
	virtqueue_kick(vq);
}

void driver_balloon_hints_seen(struct virtqueue *vq)
{
	struct driver_balloon *b = owner_of(vq);
	void *token;
	u32 n;

	platform_lock(b->vdev->platform);
	while ((token = virtqueue_get_buf(vq, &n)))
		if (token == &b->shared->hint_cmd)
			b->hint_cmd_busy = false;
	virtio_queue_failed(vq);
	send_hints(b);
	platform_unlock(b->vdev->platform);
}

/* The device's word on hints: a new round, STOP, or DONE. */
void driver_balloon_hear_hints(struct driver_balloon *b)
{
	u32 id = VIRTIO_CREAD(b->vdev, struct virtio_balloon_config, free_page_hint_cmd_id);

	if (id == b->hint_seen)
		return;
	b->hint_seen = id;
	if (b->hint_state == HINT_PAGES)
		b->hint_state = HINT_ENDING;
	b->hint_next = id > VIRTIO_BALLOON_CMD_ID_DONE ? id : 0;
	if (id == VIRTIO_BALLOON_CMD_ID_DONE)
		b->config.ops->hints_done(b->config.owner);
	send_hints(b);
}

/* ---- reports ----------------------------------------------------------------------------- */

int driver_balloon_report(struct driver_balloon *b, const struct span free[], u32 n, void *token)
{
	struct virtqueue *vq = b->running ? b->vqs[VIRTIO_BALLOON_REPORTING_VQ] : NULL;
	int err;

	if (!b->running)
		return -ENODEV;
	if (!vq)
		return -EOPNOTSUPP;
	platform_lock(b->vdev->platform);
	err = virtqueue_add_buf(vq, free, 0, n, token);
	virtqueue_kick(vq);
	platform_unlock(b->vdev->platform);
	return err == -EIO ? -ENODEV : err;
}

void driver_balloon_reports_seen(struct virtqueue *vq)
{
	struct driver_balloon *b = owner_of(vq);
	struct platform *p = b->vdev->platform;

	/* No more than there are now, though the owner may report again from within. */
	for (u32 n_left = vq->n_in_flight, n; n_left > 0; n_left--) {
		void *token;

		platform_lock(p);
		token = virtqueue_get_buf(vq, &n);
		platform_unlock(p);
		if (!token)
			break;
		b->config.ops->reported(b->config.owner, token);
	}
	virtio_queue_failed(vq);
}
