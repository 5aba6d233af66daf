/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The balloon: five queues, each drained in bounded turns.
 *
 * In reading order: which queue is which; a turn; page numbers (inflate, deflate); pages
 * (reporting, hints); statistics; and what the core and the owner call.
 */
#include "device/balloon.h"

#include "base/log.h"
#include "base/shared.h"

/*
 * One turn may cost this much, in points: a number read is one, each call of the host four, and
 * the pages that the host then has to look at one per 64 KiB. That is some milliseconds, at the
 * worst. A turn overshoots by at most one batch of numbers or one slice.
 */
#define TURN_POINTS 1024
#define CHAIN_POINTS 16
#define CALL_POINTS 4
#define BYTES_PER_POINT 65536

/* Numbers are sorted by the batch: the more, the fewer and larger calls. Linux sends 256. */
#define BATCH_PFNS 256
/* Largest piece given to the host at once; a multiple of any huge page likely to be in use. */
#define SLICE_BYTES ((size_t)64 << 20)

#define QUEUE_SIZE 1024 /* vhost-user front ends choose without asking, up to this */
/* Twice the queue: a buffer that crosses regions takes a piece in each. */
#define MAX_PIECES 256
/* Entries read of one report; there are ten tags. */
#define MAX_STATS 64

#define N_ROLES VIRTIO_BALLOON_N_QUEUES

/* What one queue is at, named by its role: VIRTIO_BALLOON_INFLATEQ and so on. */
struct job {
	struct chain chain;
	bool busy; /* `chain` is popped, and not done with */
	bool later; /* the turn was used up: go on when the timer fires */
};

struct device_balloon {
	struct vdev vdev;
	struct virtio_balloon_config wire;
	struct device_balloon_config config;
	struct device_balloon_state state;
	struct clock_timer more; /* goes on with jobs that are `later` */
	struct clock_timer ask; /* for statistics */
	struct job jobs[N_ROLES];
	u32 numbered; /* roles that have a number, in this driver's reading; 0: not known yet */
	u32 memory_hint;
	bool stats_read; /* the buffer that lies in the queue has been read */
	bool telling_stats; /* we are inside of stats_arrived */
	bool logged_bad, logged_failed; /* once per reset */
};

static struct device_balloon *balloon_of(const struct vdev *vdev);

/*
 * ---- Which queue is which ----------------------------------------------------------------
 *
 * 5.5.2 gives each queue a number of its own, and says that some exist only with their feature.
 * Whether those behind one that does not exist move up is read in three ways: they stay (the
 * text, taken literally), they move up past what was not negotiated (Linux on PCI, MMIO and
 * User-Mode Linux), or past what was not offered (QEMU, crosvm). With all features on both
 * sides there is no difference. Otherwise the driver shows which it is by the queues that it
 * starts, for readings that differ use different sets of numbers.
 */
static u32 roles_of(const struct features *f)
{
	u32 roles = 1u << VIRTIO_BALLOON_INFLATEQ | 1u << VIRTIO_BALLOON_DEFLATEQ;

	if (features_has(f, VIRTIO_BALLOON_F_STATS_VQ))
		roles |= 1u << VIRTIO_BALLOON_STATSQ;
	if (features_has(f, VIRTIO_BALLOON_F_FREE_PAGE_HINT))
		roles |= 1u << VIRTIO_BALLOON_FREE_PAGE_VQ;
	if (features_has(f, VIRTIO_BALLOON_F_PAGE_REPORTING))
		roles |= 1u << VIRTIO_BALLOON_REPORTING_VQ;
	return roles;
}

/* The number of `role` if only `numbered` roles have one. */
static int number_among(u32 numbered, u16 role)
{
	int n = 0;

	for (u16 r = 0; r < role; r++)
		n += numbered >> r & 1;
	return n;
}

/*
 * The reading that the started queues fit, as the set of roles that have numbers; 0 if they do
 * not tell yet: the start of the next queue will. Two readings with the same numbers in use
 * mean the same by them. A transport that starts every queue fits none; then the text stands.
 */
static u32 find_numbering(const struct vdev *vdev)
{
	const u32 by_text = (1u << N_ROLES) - 1, accepted = roles_of(&vdev->accepted);
	const u32 readings[] = { by_text, roles_of(&vdev->offered), accepted };
	u32 started = 0, found = 0, found_used = 0;

	for (u16 queue = 0; queue < N_ROLES; queue++)
		started |= (u32)vdev->queues[queue].started << queue;

	for (u32 i = 0; i < ARRAY_SIZE(readings); i++) {
		u32 used = 0;

		for (u16 role = 0; role < N_ROLES; role++)
			if (accepted >> role & 1)
				used |= 1u << number_among(readings[i], role);
		if (started & ~used)
			continue;
		if (found && found_used != used)
			return 0;
		found = readings[i];
		found_used = used;
	}
	return found ? found : by_text;
}

/*
 * The queue of `role`, or -1: not negotiated, or not known yet. Once known it stays until
 * reset, so that what was popped is pushed to the same queue whatever a driver starts later.
 */
static int queue_of(struct device_balloon *b, u16 role)
{
	if (role <= VIRTIO_BALLOON_DEFLATEQ)
		return role;
	if (!b->vdev.active || !(roles_of(&b->vdev.accepted) >> role & 1))
		return -1;
	if (!b->numbered)
		b->numbered = find_numbering(&b->vdev);
	return b->numbered ? number_among(b->numbered, role) : -1;
}

/* ---- A turn -------------------------------------------------------------------------------- */

static void go_on_later(struct device_balloon *b, u16 role)
{
	struct clock *clock = b->config.clock;

	b->jobs[role].later = true;
	if (!b->more.deadline_ns)
		clock->ops->start(clock, &b->more, clock->ops->now_ns(clock) + 1);
}

/* Each works on the job's chain until it is done with (true) or the points are spent. */
static bool work_on_numbers(struct device_balloon *b, u16 role, int *points);
static bool work_on_report(struct device_balloon *b, u16 role, int *points);
static bool work_on_hints(struct device_balloon *b, u16 role, int *points);
static void take_stats(struct device_balloon *b, u16 queue);

static bool work(struct device_balloon *b, u16 role, int *points)
{
	switch (role) {
	case VIRTIO_BALLOON_INFLATEQ:
	case VIRTIO_BALLOON_DEFLATEQ:
		return work_on_numbers(b, role, points);
	case VIRTIO_BALLOON_FREE_PAGE_VQ:
		return work_on_hints(b, role, points);
	default:
		return work_on_report(b, role, points);
	}
}

static void serve(struct device_balloon *b, u16 role)
{
	struct job *job = &b->jobs[role];
	int queue = queue_of(b, role);
	int points = TURN_POINTS;

	/* A storm of kicks must not buy more than a turn at a time. */
	if (queue < 0 || job->later || !vdev_live(&b->vdev, (u16)queue))
		return;
	if (role == VIRTIO_BALLOON_STATSQ) {
		take_stats(b, (u16)queue);
		return;
	}
	while (points > 0) {
		if (!job->busy && vdev_pop(&b->vdev, (u16)queue, &job->chain) <= 0)
			return;
		job->busy = true;
		points -= CHAIN_POINTS;
		if (!work(b, role, &points))
			break;
		/* Nothing is written to the driver's memory as a device writes: 0 bytes. */
		job->busy = false;
		vdev_push(&b->vdev, (u16)queue, &job->chain, 0);
	}
	go_on_later(b, role);
}

static void more_fired(struct clock_timer *timer)
{
	struct device_balloon *b = container_of(timer, struct device_balloon, more);

	for (u16 role = 0; role < N_ROLES; role++) {
		if (!b->jobs[role].later)
			continue;
		b->jobs[role].later = false;
		serve(b, role);
	}
	vdev_flush(&b->vdev);
}

/* ---- Page numbers --------------------------------------------------------------------------- */

static void release(struct device_balloon *b, struct span bytes, int *points)
{
	int err = b->config.pages->ops->release(b->config.pages, bytes);

	*points -= CALL_POINTS + (int)(bytes.n_bytes / BYTES_PER_POINT);
	if (!err) {
		b->state.released_bytes += bytes.n_bytes;
		return;
	}
	/* The guest has done its part and cannot help: it goes on. */
	b->state.n_release_failed++;
	if (!b->logged_failed) {
		b->logged_failed = true;
		log_line(LOG_WARN, b->vdev.name, "the host could not take memory back: error %d",
			 -err);
	}
}

/*
 * A page that is not, or not wholly, the guest's: nothing is done, the request goes on (case
 * G34). Breaking the device would be allowed too, but such numbers come from honest drivers as
 * well, for memory that another transport or a hot-unplug hides from us.
 */
static void count_bad_page(struct device_balloon *b, u64 gpa)
{
	b->state.n_bad_pages++;
	if (!b->logged_bad) {
		b->logged_bad = true;
		log_line(LOG_WARN, b->vdev.name,
			 "the driver named a page outside of memory: 0x%llx",
			 (unsigned long long)gpa);
	}
}

/* `n_pages` pages from number `first` on were inflated or deflated. */
static void handle_run(struct device_balloon *b, u16 role, u32 first, u32 n_pages, int *points)
{
	const struct memory *memory = b->jobs[role].chain.memory;
	u64 gpa = (u64)first << VIRTIO_BALLOON_PFN_SHIFT;
	u64 left = (u64)n_pages << VIRTIO_BALLOON_PFN_SHIFT;

	while (left > 0) {
		u64 step = VIRTIO_BALLOON_PAGE_BYTES;
		struct span run;

		/* Only what lies in one region, and of that only whole pages. */
		if (!memory_find(memory, &b->memory_hint, gpa, left, &run) || run.n_bytes < step) {
			count_bad_page(b, gpa);
		} else {
			step = run.n_bytes & ~(u64)(VIRTIO_BALLOON_PAGE_BYTES - 1);
			run.n_bytes = step;
			if (role == VIRTIO_BALLOON_INFLATEQ) {
				release(b, run, points);
			} else {
				b->config.pages->ops->expect(b->config.pages, run);
				*points -= CALL_POINTS;
			}
		}
		gpa += step;
		left -= step;
	}
}

static void count_run(struct device_balloon *b, u16 role, u32 n_pages)
{
	struct device_balloon_state *s = &b->state;

	if (role == VIRTIO_BALLOON_INFLATEQ) {
		s->n_inflated_pages += n_pages;
		s->inside_pages += n_pages;
	} else {
		s->n_deflated_pages += n_pages;
		s->inside_pages -= min_u64(s->inside_pages, n_pages);
	}
}

/* Mostly in order already, or in reverse; 256 at the most. */
static void sort(u32 *v, u32 n)
{
	for (u32 i = 1; i < n; i++) {
		u32 x = v[i], at = i;

		for (; at > 0 && v[at - 1] > x; at--)
			v[at] = v[at - 1];
		v[at] = x;
	}
}

/*
 * The buffer is an array of le32 of any length. Drivers name pages in the order in which their
 * allocator had them; sorting a batch makes few runs of them, of which the host can also use
 * more if its own pages are larger. Within one request the order means nothing.
 */
static bool work_on_numbers(struct device_balloon *b, u16 role, int *points)
{
	struct sg *out = &b->jobs[role].chain.out;

	while (out->n_bytes >= sizeof(le32)) {
		le32 wire[BATCH_PFNS];
		u32 pfns[BATCH_PFNS];
		u32 n = (u32)min_u64(out->n_bytes / sizeof(le32), BATCH_PFNS);

		if (*points <= 0)
			return false;
		sg_read(out, wire, n * sizeof(le32));
		for (u32 i = 0; i < n; i++)
			pfns[i] = le32_get(wire[i]);
		sort(pfns, n);
		*points -= (int)n;

		for (u32 i = 0; i < n;) {
			u32 first = pfns[i], last = first;

			while (++i < n && pfns[i] - last <= 1) /* a number may come twice */
				last = pfns[i];
			handle_run(b, role, first, last - first + 1, points);
			count_run(b, role, last - first + 1);
		}
	}
	return true;
}

/* ---- Pages ------------------------------------------------------------------------------------ */

/*
 * Reported pages may be gone only until they are acknowledged, and they are, here. What is read
 * from one later is poison_val or what was there, if PAGE_POISON says that it matters
 * (D-BALLOON-5.5.6.7.2-02): the host gives zeroes back, so any other poison means to keep it.
 */
static bool work_on_report(struct device_balloon *b, u16 role, int *points)
{
	struct sg *in = &b->jobs[role].chain.in;
	bool keep = vdev_has(&b->vdev, VIRTIO_BALLOON_F_PAGE_POISON) &&
		    le32_get(b->wire.poison_val) != 0;

	while (in->n_bytes > 0) {
		struct span piece;

		if (*points <= 0)
			return false;
		piece = sg_take(in, SLICE_BYTES);
		b->state.reported_bytes += piece.n_bytes;
		if (keep) {
			b->state.poisoned_bytes += piece.n_bytes;
			*points -= CALL_POINTS;
		} else {
			release(b, piece, points);
		}
	}
	return true;
}

/* The driver begins or ends to send hints, in a buffer of 4 bytes (G-BALLOON-5.5.6.5.1-01). */
static void hint_command(struct device_balloon *b, struct sg *out)
{
	const struct device_balloon_ears *ears = b->config.ears;
	bool was_hinting = b->state.hinting;
	le32 wire;
	u32 id;

	if (sg_read(out, &wire, sizeof(wire)) < sizeof(wire)) {
		b->state.n_stray_hints++;
		return;
	}
	sg_read(out, NULL, out->n_bytes);
	id = le32_get(wire);

	/* Pages of another round than the one we asked for are not to be used: -5.5.6.5.2-03. */
	b->state.hinting =
		id > VIRTIO_BALLOON_CMD_ID_DONE && id == le32_get(b->wire.free_page_hint_cmd_id);
	if (id == VIRTIO_BALLOON_CMD_ID_STOP) {
		if (was_hinting && ears && ears->hints_ended)
			ears->hints_ended(b->config.owner);
	} else if (!b->state.hinting) {
		b->state.n_stray_hints++;
	}
}

static bool work_on_hints(struct device_balloon *b, u16 role, int *points)
{
	const struct device_balloon_ears *ears = b->config.ears;
	struct chain *c = &b->jobs[role].chain;

	if (c->out.n_bytes > 0)
		hint_command(b, &c->out);
	while (c->in.n_bytes > 0) {
		struct span piece;

		if (*points <= 0)
			return false;
		piece = sg_take(&c->in, SIZE_MAX);
		*points -= CALL_POINTS;
		if (!b->state.hinting) {
			b->state.n_stray_hints++;
			continue;
		}
		b->state.hinted_bytes += piece.n_bytes;
		if (ears && ears->hinted)
			ears->hinted(b->config.owner, piece);
	}
	return true;
}

/* ---- Statistics ------------------------------------------------------------------------------- */

static void read_stats(struct device_balloon *b, struct sg *out)
{
	struct clock *clock = b->config.clock;
	u64 now_ns = clock->ops->now_ns(clock);
	struct virtio_balloon_stat wire;

	b->state.n_stats++;
	b->state.stats_at_ns = now_ns;
	for (u32 n = 0; n < MAX_STATS && sg_read(out, &wire, sizeof(wire)) == sizeof(wire); n++) {
		u16 tag = le16_get(wire.tag);

		/* Unknown ones are skipped, any order will do: D-BALLOON-5.5.6.3.2-01, -02. */
		if (tag < VIRTIO_BALLOON_S_N_TAGS)
			b->state.stats[tag] = (struct device_balloon_stat){
				.known = true, .value = le64_get(wire.val), .at_ns = now_ns
			};
	}
}

/*
 * This queue runs backwards: the driver leaves a buffer with statistics, and a used buffer asks
 * for the next. The buffer is read when it comes and stays in the queue until then, not popped,
 * so that a queue that is stopped meanwhile takes up again where it was.
 */
static void take_stats(struct device_balloon *b, u16 queue)
{
	struct job *job = &b->jobs[VIRTIO_BALLOON_STATSQ];
	const struct device_balloon_ears *ears = b->config.ears;

	if (b->stats_read || vdev_pop(&b->vdev, queue, &job->chain) <= 0)
		return;
	read_stats(b, &job->chain.out);
	vdev_unpop(&b->vdev, queue, &job->chain);
	b->stats_read = true;

	if (ears && ears->stats_arrived) {
		b->telling_stats = true;
		ears->stats_arrived(b->config.owner);
		b->telling_stats = false;
	}
}

int device_balloon_request_stats(struct vdev *vdev)
{
	struct device_balloon *b = balloon_of(vdev);
	struct job *job = &b->jobs[VIRTIO_BALLOON_STATSQ];
	int queue = queue_of(b, VIRTIO_BALLOON_STATSQ);

	if (queue < 0 || !vdev_live(vdev, (u16)queue))
		return -EOPNOTSUPP;
	if (vdev_pop(vdev, (u16)queue, &job->chain) <= 0)
		return 0; /* the driver has the last request still, or broke */
	b->stats_read = false;
	vdev_push(vdev, (u16)queue, &job->chain, 0);
	vdev_flush(vdev);
	/*
	 * Looking once more makes the driver kick us for its answer. If it is there already, and
	 * our owner asks whenever one comes, that must not become a loop that the driver feeds.
	 */
	if (b->telling_stats)
		go_on_later(b, VIRTIO_BALLOON_STATSQ);
	else
		take_stats(b, (u16)queue);
	return 0;
}

static void schedule_stats(struct device_balloon *b)
{
	struct clock *clock = b->config.clock;

	if (b->config.stats_interval_ns && b->vdev.active &&
	    vdev_has(&b->vdev, VIRTIO_BALLOON_F_STATS_VQ))
		clock->ops->start(clock, &b->ask,
				  clock->ops->now_ns(clock) + b->config.stats_interval_ns);
	else
		clock->ops->stop(clock, &b->ask);
}

static void ask_fired(struct clock_timer *timer)
{
	struct device_balloon *b = container_of(timer, struct device_balloon, ask);

	device_balloon_request_stats(&b->vdev);
	schedule_stats(b);
}

void device_balloon_set_stats_interval(struct vdev *vdev, u64 interval_ns)
{
	struct device_balloon *b = balloon_of(vdev);

	b->config.stats_interval_ns = interval_ns;
	schedule_stats(b);
}

/* ---- What the core calls ---------------------------------------------------------------------- */

static void set_actual(struct device_balloon *b, u32 pages)
{
	const struct device_balloon_ears *ears = b->config.ears;

	if (b->state.actual_pages == pages)
		return;
	b->state.actual_pages = pages;
	if (ears && ears->actual_changed)
		ears->actual_changed(b->config.owner, pages);
}

static void balloon_activate(struct vdev *vdev)
{
	schedule_stats(balloon_of(vdev));
}

static void balloon_kick(struct vdev *vdev, u16 queue)
{
	struct device_balloon *b = balloon_of(vdev);

	if (queue <= VIRTIO_BALLOON_DEFLATEQ) {
		serve(b, queue);
		return;
	}
	/* A kick for one may have come before the start of another told which they are. */
	for (u16 role = VIRTIO_BALLOON_STATSQ; role < N_ROLES; role++)
		serve(b, role);
}

/*
 * What was not finished goes back into the queue and begins anew when it runs again: nothing in
 * it was acknowledged, so the driver has not used those pages.
 */
static void balloon_drain(struct vdev *vdev)
{
	struct device_balloon *b = balloon_of(vdev);

	for (u16 role = 0; role < N_ROLES; role++) {
		struct job *job = &b->jobs[role];

		if (job->busy)
			vdev_unpop(vdev, (u16)queue_of(b, role), &job->chain);
		job->busy = false;
	}
	/* Whatever comes next in the queue of statistics is looked at afresh. */
	b->stats_read = false;
}

static void balloon_reset(struct vdev *vdev)
{
	struct device_balloon *b = balloon_of(vdev);
	struct clock *clock = b->config.clock;

	clock->ops->stop(clock, &b->more);
	clock->ops->stop(clock, &b->ask);
	for (u16 role = 0; role < N_ROLES; role++)
		b->jobs[role].later = false;
	b->numbered = 0;
	b->wire.actual = le32_of(0);
	b->wire.free_page_hint_cmd_id = le32_of(VIRTIO_BALLOON_CMD_ID_STOP);
	b->wire.poison_val = le32_of(0);
	b->logged_bad = b->logged_failed = false;

	/* The next driver has all of its pages and has told nothing yet. */
	b->state.inside_pages = 0;
	b->state.hinting = false;
	memset(b->state.stats, 0, sizeof(b->state.stats));
	set_actual(b, 0);
}

static void balloon_config_written(struct vdev *vdev, u32 offset, u32 n_bytes)
{
	struct device_balloon *b = balloon_of(vdev);

	set_actual(b, le32_get(b->wire.actual));
}

static const struct vdev_type balloon_type = {
	.name = "balloon",
	.device_id = VIRTIO_ID_BALLOON,
	.activate = balloon_activate,
	.drain = balloon_drain,
	.reset = balloon_reset,
	.kick = balloon_kick,
	.config_written = balloon_config_written,
};

static struct device_balloon *balloon_of(const struct vdev *vdev)
{
	ASSERT(vdev->type == &balloon_type);
	return container_of((struct vdev *)vdev, struct device_balloon, vdev);
}

/* ---- What the owner calls --------------------------------------------------------------------- */

const struct device_balloon_state *device_balloon_state(const struct vdev *vdev)
{
	return &balloon_of(vdev)->state;
}

void device_balloon_set_target(struct vdev *vdev, u32 pages)
{
	struct device_balloon *b = balloon_of(vdev);

	if (b->state.target_pages == pages)
		return;
	b->state.target_pages = pages;
	b->wire.num_pages = le32_of(pages);
	vdev_config_changed(vdev);
}

static void set_hint_command(struct device_balloon *b, u32 id)
{
	b->state.hinting = false;
	b->wire.free_page_hint_cmd_id = le32_of(id);
	vdev_config_changed(&b->vdev);
}

int device_balloon_hints_start(struct vdev *vdev)
{
	struct device_balloon *b = balloon_of(vdev);

	if (!vdev->active || !vdev_has(vdev, VIRTIO_BALLOON_F_FREE_PAGE_HINT))
		return -EOPNOTSUPP;
	/* Never the id of a round that may still be on its way: D-BALLOON-5.5.6.5.2-02. */
	b->state.hint_id++;
	if (b->state.hint_id <= VIRTIO_BALLOON_CMD_ID_DONE)
		b->state.hint_id = VIRTIO_BALLOON_CMD_ID_DONE + 1;
	set_hint_command(b, b->state.hint_id);
	return 0;
}

void device_balloon_hints_pause(struct vdev *vdev)
{
	set_hint_command(balloon_of(vdev), VIRTIO_BALLOON_CMD_ID_STOP);
}

void device_balloon_hints_done(struct vdev *vdev)
{
	set_hint_command(balloon_of(vdev), VIRTIO_BALLOON_CMD_ID_DONE);
}

/* What a balloon is made of; NULL while the arena only counts. */
struct parts {
	struct device_balloon *balloon;
	struct vdev_queue *queues;
	struct span *spans;
};

static struct parts carve(struct arena *arena)
{
	struct parts p;

	p.balloon = arena_take(arena, 1, sizeof(*p.balloon));
	p.queues = vdev_carve_queues(arena, N_ROLES, QUEUE_SIZE);
	p.spans = arena_take(arena, N_ROLES * MAX_PIECES, sizeof(*p.spans));
	return p;
}

size_t device_balloon_bytes(const struct device_balloon_config *config)
{
	struct arena counting = { 0 };

	carve(&counting);
	return counting.used_bytes;
}

struct vdev *device_balloon_init(void *mem, const struct device_balloon_config *config)
{
	struct arena arena = { .base = mem };
	struct parts p = carve(&arena);
	struct device_balloon *b = p.balloon;
	struct vdev *vdev = &b->vdev;

	ASSERT(!(config->features & ~DEVICE_BALLOON_ALL_FEATURES));
	*b = (struct device_balloon){
		.wire.num_pages = le32_of(config->target_pages),
		.config = *config,
		.state.target_pages = config->target_pages,
		.more.fired = more_fired,
		.ask.fired = ask_fired,
	};
	for (u16 role = 0; role < N_ROLES; role++)
		b->jobs[role] = (struct job){
			.chain.spans = p.spans + (size_t)role * MAX_PIECES,
			.chain.max_spans = MAX_PIECES,
		};

	vdev_init(vdev, &balloon_type, config->name, &b->wire, sizeof(b->wire), p.queues, N_ROLES);
	for (u32 bit = 0; bit <= VIRTIO_BALLOON_F_PAGE_REPORTING; bit++)
		if (config->features >> bit & 1)
			features_set(&vdev->offered, bit);
	vdev->writable[0] = (struct vdev_writable){
		.offset = offsetof(struct virtio_balloon_config, actual),
		.n_bytes = sizeof(b->wire.actual),
		.is_setting = true,
	};
	if (config->features >> VIRTIO_BALLOON_F_PAGE_POISON & 1)
		vdev->writable[1] = (struct vdev_writable){
			.offset = offsetof(struct virtio_balloon_config, poison_val),
			.n_bytes = sizeof(b->wire.poison_val),
			.is_setting = true,
		};
	return vdev;
}
