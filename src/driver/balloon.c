/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The balloon driver. In reading order: inflate and deflate; statistics; what the core calls.
 * Memory that is only free, not given, is in balloon_free.c.
 *
 * One request moves pages at a time, so one array holds their numbers, inside and under way:
 *
 *     pfns   | inside, n_inside | moving, n_moving |        inflate done: n_inside grows
 *                                                           deflate: shrinks first, gives when done
 *
 * The copy that the device reads is only ever written: what comes back is what we remember.
 */
#include "driver/balloon_parts.h"

/* ---- inflate and deflate ---------------------------------------------------------------- */

static void write_actual(struct driver_balloon *b) /* G-BALLOON-5.5.6.1-11 */
{
	virtio_cwrite(b->vdev, offsetof(struct virtio_balloon_config, actual), 4, b->n_inside);
}

/* The pages behind those inside are the owner's again. */
static void give_moving(struct driver_balloon *b)
{
	while (b->n_moving > 0) {
		b->n_given++;
		b->config.ops->give(b->config.owner, b->config.pfns[b->n_inside + --b->n_moving]);
	}
}

/* Names the moving pages to the device. */
static bool send_moving(struct driver_balloon *b, u16 queue)
{
	struct span s = { b->shared->pfns, b->n_moving * sizeof(le32) };

	for (u32 i = 0; i < b->n_moving; i++)
		b->shared->pfns[i] = le32_of(b->config.pfns[b->n_inside + i]);
	b->busy = virtqueue_add_buf(b->vqs[queue], &s, 1, 0, b) == 0;
	virtqueue_kick(b->vqs[queue]);
	return b->busy;
}

static void inflate(struct driver_balloon *b, u32 n)
{
	for (; n > 0; n--) {
		u32 pfn = b->config.ops->take(b->config.owner);

		if (pfn == DRIVER_BALLOON_NO_PAGE)
			break;
		b->config.pfns[b->n_inside + b->n_moving++] = pfn;
	}
	if (b->n_moving > 0 && !send_moving(b, VIRTIO_BALLOON_INFLATEQ))
		give_moving(b);
}

static void deflate(struct driver_balloon *b, u32 n)
{
	b->n_inside -= n;
	b->n_moving = n;
	if (!send_moving(b, VIRTIO_BALLOON_DEFLATEQ)) {
		b->n_inside += n; /* the queue is broken: freeze gives them all */
		b->n_moving = 0;
		return;
	}
	write_actual(b);
	/* G-BALLOON-5.5.6.1-07, -08: does it have to know first? */
	if (!virtio_has_feature(b->vdev, VIRTIO_BALLOON_F_MUST_TELL_HOST))
		give_moving(b);
}

/* A step towards the size that the device wants, if none is under way. */
static void go_on(struct driver_balloon *b)
{
	u32 most = min_u64(min_u64(b->target, b->ceiling), b->config.max_pages);

	if (b->busy)
		return;
	if (b->n_inside < most)
		inflate(b, min_u64(most - b->n_inside, BATCH));
	else if (b->n_inside > b->target)
		deflate(b, min_u64(b->n_inside - b->target, BATCH));
}

/* The request is answered: G-BALLOON-5.5.6.1-09, -10 end here. False: not yet. */
static bool reap_moved(struct driver_balloon *b)
{
	struct virtqueue *in = b->vqs[VIRTIO_BALLOON_INFLATEQ];
	struct virtqueue *out = b->vqs[VIRTIO_BALLOON_DEFLATEQ];
	u32 n;

	if (virtqueue_get_buf(in, &n)) {
		b->n_inside += b->n_moving;
		b->n_moving = 0;
		b->busy = false;
		write_actual(b);
	} else if (virtqueue_get_buf(out, &n)) {
		give_moving(b);
		b->busy = false;
	}
	virtio_queue_failed(in);
	virtio_queue_failed(out);
	return !b->busy;
}

static void moved(struct virtqueue *vq)
{
	struct driver_balloon *b = owner_of(vq);

	platform_lock(b->vdev->platform);
	if (reap_moved(b))
		go_on(b);
	platform_unlock(b->vdev->platform);
}

u32 driver_balloon_oom(struct driver_balloon *b, u32 n_pages, u64 timeout_ns)
{
	struct virtio_device *vdev = b->vdev;
	struct platform *p = vdev ? vdev->platform : NULL;
	u64 before = b->n_given, start;
	bool more = true;

	if (!b->running || !virtio_has_feature(vdev, VIRTIO_BALLOON_F_DEFLATE_ON_OOM))
		return 0;
	start = p->ops->now_ns(p);
	b->ceiling = 0; /* nothing goes in meanwhile */
	while (more) {
		platform_lock(p);
		if (reap_moved(b) && b->n_inside > 0 && b->n_given - before < n_pages)
			deflate(b, min_u64(min_u64(b->n_inside, BATCH),
					   n_pages - (b->n_given - before)));
		b->ceiling = b->n_inside;
		more = b->n_given - before < n_pages && (b->busy || b->n_inside > 0) &&
		       !vdev->recovery_wanted;
		platform_unlock(p);
		/* No virtio_poll: whoever has no memory may be in the middle of anything. */
		if (more && p->ops->now_ns(p) - start >= timeout_ns)
			break;
		if (more)
			p->ops->relax(p);
	}
	return b->n_given - before;
}

/* ---- statistics -------------------------------------------------------------------------- */

/* The one buffer, filled anew: the device keeps it until it wants another. */
static void send_stats(struct driver_balloon *b)
{
	struct virtqueue *vq = b->vqs[VIRTIO_BALLOON_STATSQ];
	u64 value[VIRTIO_BALLOON_S_N_TAGS] = { 0 };
	struct span s = { b->shared->stats, 0 };
	u32 n = 0;

	b->config.ops->stats(b->config.owner, value);
	for (u32 tag = 0; tag < VIRTIO_BALLOON_S_N_TAGS; tag++)
		if (b->config.stats_tags >> tag & 1)
			b->shared->stats[n++] =
				(struct virtio_balloon_stat){ le16_of(tag), le64_of(value[tag]) };
	s.n_bytes = n * sizeof(struct virtio_balloon_stat);
	virtqueue_add_buf(vq, &s, 1, 0, b);
	virtqueue_kick(vq);
}

static void stats_wanted(struct virtqueue *vq)
{
	struct driver_balloon *b = owner_of(vq);
	u32 n;

	platform_lock(b->vdev->platform);
	if (virtqueue_get_buf(vq, &n))
		send_stats(b);
	virtio_queue_failed(vq);
	platform_unlock(b->vdev->platform);
}

/* ---- what the core calls ------------------------------------------------------------------ */

static void balloon_config_changed(struct virtio_device *vdev)
{
	struct driver_balloon *b = balloon_of(vdev);
	u32 target = VIRTIO_CREAD(vdev, struct virtio_balloon_config, num_pages);

	platform_lock(vdev->platform);
	if (target != b->target)
		b->ceiling = UINT32_MAX;
	b->target = target;
	go_on(b);
	if (b->vqs[VIRTIO_BALLOON_FREE_PAGE_VQ])
		driver_balloon_hear_hints(b);
	platform_unlock(vdev->platform);
}

void driver_balloon_go_on(struct driver_balloon *b)
{
	if (!b->running)
		return;
	platform_lock(b->vdev->platform);
	b->ceiling = UINT32_MAX;
	go_on(b);
	platform_unlock(b->vdev->platform);
}

static void balloon_trim_features(struct virtio_device *vdev)
{
	const struct driver_balloon_config *config = &balloon_of(vdev)->config;
	struct features *f = &vdev->features;

	if (!config->ops->stats || !config->stats_tags)
		features_clear(f, VIRTIO_BALLOON_F_STATS_VQ);
	if (!config->ops->next_hint)
		features_clear(f, VIRTIO_BALLOON_F_FREE_PAGE_HINT);
	if (!config->poisons)
		features_clear(f, VIRTIO_BALLOON_F_PAGE_POISON);
	/* G-BALLOON-5.5.3.1-03 */
	if (!config->ops->reported ||
	    (config->poisons && !features_has(f, VIRTIO_BALLOON_F_PAGE_POISON)))
		features_clear(f, VIRTIO_BALLOON_F_PAGE_REPORTING);
}

static int balloon_start(struct virtio_device *vdev)
{
	struct driver_balloon *b = balloon_of(vdev);
	struct virtqueue_info infos[VIRTIO_BALLOON_N_QUEUES] = {
		{ "inflate", moved, 1, 0, false },
		{ "deflate", moved, 1, 0, false },
		{ "stats", stats_wanted, 1, 0,
		  !virtio_has_feature(vdev, VIRTIO_BALLOON_F_STATS_VQ) },
		{ "hints", driver_balloon_hints_seen, MAX_FREE_QUEUE, 0,
		  !virtio_has_feature(vdev, VIRTIO_BALLOON_F_FREE_PAGE_HINT) },
		{ "reports", driver_balloon_reports_seen, MAX_FREE_QUEUE, MAX_REPORT,
		  !virtio_has_feature(vdev, VIRTIO_BALLOON_F_PAGE_REPORTING) },
	};
	int err = virtio_find_vqs(vdev, VIRTIO_BALLOON_N_QUEUES, b->vqs, infos);

	if (err < 0)
		return err;
	b->target = 0;
	b->ceiling = UINT32_MAX;
	driver_balloon_hints_reset(b);
	if (virtio_has_feature(vdev, VIRTIO_BALLOON_F_PAGE_POISON)) /* G-BALLOON-5.5.6.6.1-02 */
		virtio_cwrite(vdev, offsetof(struct virtio_balloon_config, poison_val), 4,
			      b->config.poison);
	b->running = true;
	virtio_device_ready(vdev); /* the device may be notified only from here on */
	if (b->vqs[VIRTIO_BALLOON_STATSQ]) { /* G-BALLOON-5.5.6.3.1-02 */
		platform_lock(vdev->platform);
		send_stats(b);
		platform_unlock(vdev->platform);
	}
	balloon_config_changed(vdev);
	return 0;
}

/* Everything comes back: to a device that was reset no page is in the balloon. */
static void balloon_freeze(struct virtio_device *vdev)
{
	struct driver_balloon *b = balloon_of(vdev);
	void *token;

	if (!b->running)
		return;
	b->running = false;
	b->busy = false;
	for (u32 i = 0; i < VIRTIO_BALLOON_N_QUEUES; i++)
		while (b->vqs[i] && (token = virtqueue_detach(b->vqs[i])))
			if (i == VIRTIO_BALLOON_REPORTING_VQ)
				b->config.ops->reported(b->config.owner, token);
	platform_lock(vdev->platform);
	if (b->vqs[VIRTIO_BALLOON_FREE_PAGE_VQ])
		b->config.ops->hints_done(b->config.owner);
	b->n_moving += b->n_inside;
	b->n_inside = 0;
	give_moving(b);
	platform_unlock(vdev->platform);
	vdev->config->del_vqs(vdev);
}

static void balloon_remove(struct virtio_device *vdev)
{
	struct driver_balloon *b = balloon_of(vdev);
	struct platform *p = vdev->platform;

	balloon_freeze(vdev);
	p->ops->dma_free(p, b->shared, sizeof(*b->shared));
	b->vdev = NULL;
}

static int balloon_probe(struct virtio_device *vdev)
{
	struct driver_balloon *b = balloon_of(vdev);
	struct platform *p = vdev->platform;
	int err;

	if (b->vdev)
		return -EBUSY;
	b->shared = p->ops->dma_alloc(p, sizeof(*b->shared), 64, &(u64){ 0 });
	if (!b->shared)
		return -ENOMEM;
	b->vdev = vdev;
	err = balloon_start(vdev);
	if (err < 0) {
		p->ops->dma_free(p, b->shared, sizeof(*b->shared));
		b->vdev = NULL;
	}
	return err;
}

u32 driver_balloon_pages(const struct driver_balloon *b)
{
	return b->n_inside;
}

static const struct virtio_device_id ids[] = { { VIRTIO_ID_BALLOON, VIRTIO_DEV_ANY_ID }, { 0 } };
static const unsigned int features[] = {
	VIRTIO_BALLOON_F_MUST_TELL_HOST, VIRTIO_BALLOON_F_STATS_VQ,
	VIRTIO_BALLOON_F_DEFLATE_ON_OOM, VIRTIO_BALLOON_F_FREE_PAGE_HINT,
	VIRTIO_BALLOON_F_PAGE_POISON,    VIRTIO_BALLOON_F_PAGE_REPORTING,
};

void driver_balloon_init(struct driver_balloon *b, const struct driver_balloon_config *config)
{
	*b = (struct driver_balloon){
		.driver = {
			.name = "balloon",
			.id_table = ids,
			.feature_table = features,
			.feature_table_size = ARRAY_SIZE(features),
			.trim_features = balloon_trim_features,
			.probe = balloon_probe,
			.remove = balloon_remove,
			.config_changed = balloon_config_changed,
			.freeze = balloon_freeze,
			.restore = balloon_start,
		},
		.config = *config,
	};
	b->config.stats_tags &= (1u << VIRTIO_BALLOON_S_N_TAGS) - 1;
}
