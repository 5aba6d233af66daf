/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The entropy device: pop, fill, push. A request that cannot be served now, because the rate
 * limit says so or the source has nothing, stays in the ring; a timer comes back for it. There
 * is no in-band error, and an empty answer is forbidden (D-ENTROPY-5.4.6.2-01).
 */
#include "device/entropy.h"

#include "base/log.h"

#define DEFAULT_MAX_BYTES 4096
#define SPANS_MAX 64 /* pieces in the longest request */
#define RETRY_NS 100000000 /* a source that failed is left alone that long */
#define NS_PER_S 1000000000ull

struct entropy {
	struct vdev vdev;
	struct randomness *randomness;
	struct clock *clock;
	struct clock_timer timer; /* while a request waits */
	u32 max_bytes;
	bool complained; /* about the source, since the last reset */

	/* The token bucket: a token is a byte, `rate_bytes` drip in each second up to the brim. */
	u32 rate_bytes, burst_bytes;
	u32 tokens;
	u64 counted_ns; /* tokens up to here are in the bucket */

	struct device_entropy_stats stats;
	struct span spans[SPANS_MAX];
};

static struct entropy *entropy_of(struct vdev *vdev)
{
	return container_of(vdev, struct entropy, vdev);
}

/* ---- the rate limit -------------------------------------------------------------------- */

static u64 drip_ns(const struct entropy *e, u32 n_tokens)
{
	return (n_tokens * NS_PER_S + e->rate_bytes - 1) / e->rate_bytes;
}

/* Time for less than a token stays uncounted, so that a slow rate loses nothing by being asked. */
static void refill(struct entropy *e)
{
	u64 elapsed_ns = e->clock->ops->now_ns(e->clock) - e->counted_ns;
	u32 room = e->burst_bytes - e->tokens, n;

	if (elapsed_ns >= drip_ns(e, room)) { /* also keeps the product below small */
		e->tokens = e->burst_bytes;
		e->counted_ns += elapsed_ns;
		return;
	}
	n = (u32)(elapsed_ns * e->rate_bytes / NS_PER_S);
	e->tokens += n;
	e->counted_ns += drip_ns(e, n);
}

/*
 * Takes `n` tokens, or as many as the bucket can ever hold, or none: dribs and drabs would only
 * cost both sides more calls. False: none, and the timer tells when to ask again.
 */
static bool take_tokens(struct entropy *e, size_t *n)
{
	u32 wanted;

	if (!e->rate_bytes)
		return true;
	refill(e);
	wanted = (u32)min_u64(*n, e->burst_bytes);
	if (wanted > e->tokens) {
		e->stats.n_waits++;
		e->clock->ops->start(e->clock, &e->timer,
				     e->counted_ns + drip_ns(e, wanted - e->tokens));
		return false;
	}
	e->tokens -= wanted;
	*n = wanted;
	return true;
}

/* ---- requests -------------------------------------------------------------------------- */

/* Straight into the guest's memory. Returns how many bytes there are now. */
static size_t fill(struct entropy *e, struct sg *room, size_t n)
{
	size_t done = 0;

	while (done < n) {
		struct span run = sg_take(room, n - done);
		int err = e->randomness->ops->fill(e->randomness, run.base, run.n_bytes);

		if (err) {
			e->stats.n_failures++;
			if (!e->complained)
				log_line(LOG_WARN, e->vdev.name,
					 "the source of randomness fails (error %d); trying again",
					 -err);
			e->complained = true;
			break;
		}
		done += run.n_bytes;
	}
	return done;
}

/* False: the request has to wait, and the timer runs. */
static bool serve(struct entropy *e, struct chain *c)
{
	size_t wanted = min_u64(c->in.n_bytes, e->max_bytes), n = 0;

	if (wanted > 0) {
		if (!take_tokens(e, &wanted))
			return false;
		n = fill(e, &c->in, wanted);
		if (e->rate_bytes)
			e->tokens += (u32)(wanted - n);
		if (n == 0) {
			e->clock->ops->start(e->clock, &e->timer,
					     e->clock->ops->now_ns(e->clock) + RETRY_NS);
			return false;
		}
	} /* without room there is nothing to fill: that is its answer */
	vdev_push(&e->vdev, 0, c, (u32)n);
	e->stats.n_requests++;
	e->stats.n_bytes += n;
	return true;
}

static void kick(struct vdev *vdev, u16 queue)
{
	struct entropy *e = entropy_of(vdev);
	struct chain c = { .spans = e->spans, .max_spans = SPANS_MAX };

	if (e->timer.deadline_ns) /* the first in the ring waits, and nobody overtakes it */
		return;
	while (vdev_pop(vdev, queue, &c) > 0) {
		if (!serve(e, &c)) {
			vdev_unpop(vdev, queue, &c);
			return;
		}
	}
}

static void timer_fired(struct clock_timer *t)
{
	struct entropy *e = container_of(t, struct entropy, timer);

	kick(&e->vdev, 0);
	vdev_flush(&e->vdev);
}

/* ---- the rest of a device -------------------------------------------------------------- */

/* Nothing is held; but the timer must not look at a ring that is about to go. */
static void drain(struct vdev *vdev)
{
	struct entropy *e = entropy_of(vdev);

	e->clock->ops->stop(e->clock, &e->timer);
}

/* The bucket stays as it is: a reset buys no tokens. */
static void reset(struct vdev *vdev)
{
	entropy_of(vdev)->complained = false;
}

static const struct vdev_type entropy_type = {
	.name = "entropy",
	.device_id = VIRTIO_ID_ENTROPY,
	.drain = drain,
	.reset = reset,
	.kick = kick,
};

struct parts {
	struct entropy *entropy;
	struct vdev_queue *queues;
};

static struct parts carve(struct arena *arena, const struct device_entropy_config *config)
{
	struct parts parts;

	parts.entropy = arena_take(arena, 1, sizeof(*parts.entropy));
	parts.queues = vdev_carve_queues(arena, 1, config->queue_size);
	return parts;
}

size_t device_entropy_bytes(const struct device_entropy_config *config)
{
	struct arena counting = { 0 };

	carve(&counting, config);
	return counting.used_bytes;
}

struct vdev *device_entropy_init(void *mem, const struct device_entropy_config *config)
{
	struct arena arena = { .base = mem };
	struct parts parts = carve(&arena, config);
	struct entropy *e = parts.entropy;

	*e = (struct entropy){
		.randomness = config->randomness,
		.clock = config->clock,
		.timer.fired = timer_fired,
		.max_bytes = config->max_bytes ? config->max_bytes : DEFAULT_MAX_BYTES,
		.rate_bytes = config->rate_bytes,
	};
	e->burst_bytes = config->burst_bytes ? config->burst_bytes : e->max_bytes;
	e->tokens = e->burst_bytes;
	e->counted_ns = e->clock->ops->now_ns(e->clock);
	vdev_init(&e->vdev, &entropy_type, config->name, NULL, 0, parts.queues, 1);
	return &e->vdev;
}

const struct device_entropy_stats *device_entropy_stats(const struct vdev *vdev)
{
	return &container_of(vdev, const struct entropy, vdev)->stats;
}
