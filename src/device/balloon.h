/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The memory balloon (VIRTIO 1.4, 5.5): the host asks for guest memory, the guest gives it,
 * and it really goes back to the host (pages.h).
 *
 * Three ways in which pages come:
 *
 *   inflate    the guest gives a page away until it deflates: released at once.
 *   reporting  the guest happens not to use a page now, and may use it again as soon as the
 *              device acknowledged: released before that, never after.
 *   hints      the guest does not need a page's *contents*, but may write to it at any time,
 *              even before the device has seen the hint. Only one who tracks the guest's writes
 *              since the round began can act on that (D-BALLOON-5.5.6.5.2-04): a migration
 *              leaves such pages out. So the device never releases them, it only tells.
 *
 * A guest that names memory which it does not have, or names it twice, harms itself alone: such
 * pages are counted, told once in the log, and passed over. Nothing outside of the guest's
 * regions can be reached, as every number becomes a pointer in memory/memory.h.
 *
 * One thread: the event loop's. The time that one turn of it takes is bounded however much a
 * request names; the rest is done in later turns (case G38).
 */
#ifndef VIADUCT_DEVICE_BALLOON_H
#define VIADUCT_DEVICE_BALLOON_H

#include "device/clock.h"
#include "device/pages.h"
#include "device/vdev.h"
#include "spec/balloon.h"

/* Everything there is; a set of 1 << VIRTIO_BALLOON_F_*. */
#define DEVICE_BALLOON_ALL_FEATURES 0x3fu

/* What the owner wants to hear. Any may be NULL. Called on the loop's thread. */
struct device_balloon_ears {
	/* The driver says how many pages are in the balloon. Its word, not ours. */
	void (*actual_changed)(void *owner, u32 pages);
	/* New statistics are in device_balloon_state()->stats. */
	void (*stats_arrived)(void *owner);
	/* Memory whose contents the guest did not need when the running round began. */
	void (*hinted)(void *owner, struct span bytes);
	/* The driver has no more hints in this round. */
	void (*hints_ended)(void *owner);
};

struct device_balloon_config {
	const char *name; /* for logs; outlives the device */
	u32 features; /* offered: 1 << VIRTIO_BALLOON_F_*, ... */
	u32 target_pages; /* at first */
	u64 stats_interval_ns; /* 0: statistics only when asked for */
	struct pages *pages;
	struct clock *clock;
	const struct device_balloon_ears *ears; /* NULL: nobody listens */
	void *owner;
};

/* A statistic of the guest's. */
struct device_balloon_stat {
	bool known;
	u64 value; /* the guest's word */
	u64 at_ns; /* when it came, in the clock's time */
};

/* For people and for control programs. Counters are since init, unless said otherwise. */
struct device_balloon_state {
	u32 target_pages; /* what the host wants */
	u32 actual_pages; /* what the driver says it gave; 0 after a reset */
	/* Pages inflated less pages deflated, since the last reset: as the queues tell it. */
	u64 inside_pages;
	u64 n_inflated_pages, n_deflated_pages;
	u64 released_bytes; /* handed to pages->release, by inflating and by reporting */
	u64 reported_bytes; /* all that was reported */
	u64 poisoned_bytes; /* reported, but kept: they must go on reading as poison_val */
	u64 hinted_bytes; /* in rounds of ours */
	u64 n_stray_hints; /* pages or commands outside of any round: ignored */
	u64 n_bad_pages; /* numbers that are not the guest's memory: ignored */
	u64 n_release_failed; /* calls of pages->release */

	u32 hint_id; /* of the last round, running or not; 0: none so far */
	bool hinting; /* the driver is sending hints for it */

	u64 n_stats; /* reports received */
	u64 stats_at_ns; /* the last of them */
	struct device_balloon_stat stats[VIRTIO_BALLOON_S_N_TAGS]; /* by tag */
};

/* Bytes of memory to lend. */
size_t device_balloon_bytes(const struct device_balloon_config *config);

/*
 * A balloon in `mem` (aligned to 16), which it keeps until it is not used any more. `pages` and
 * `clock` must outlive it. Stop it with vdev_reset: no timer runs afterwards.
 */
struct vdev *device_balloon_init(void *mem, const struct device_balloon_config *config);

const struct device_balloon_state *device_balloon_state(const struct vdev *vdev);

/* How many pages of 4096 bytes the guest is asked to give; at any time. */
void device_balloon_set_target(struct vdev *vdev, u32 pages);

/*
 * Asks the driver for new statistics; `stats_arrived` follows. Asking while an answer is under
 * way is the same request. 0, or -EOPNOTSUPP: this driver, if there is one, gives none now.
 */
int device_balloon_request_stats(struct vdev *vdev);

/* Asks again and again, as long as a driver is there; 0: no more. */
void device_balloon_set_stats_interval(struct vdev *vdev, u64 interval_ns);

/*
 * A round of hints. start: pages come to `hinted` until `hints_ended`, or until pause or done.
 * What was hinted before is void: the new round's pages are free as of now. pause: the driver
 * sends no more, and keeps what it hinted free. done: it may have all of them back.
 *
 * The rule for who acts on hints: begin to track the guest's writes, then start; a hinted page
 * that was not written to since may be left out or overwritten until done is called, and not
 * after (D-BALLOON-5.5.6.5.2-05). One that was written to is as any other page.
 *
 * start gives 0, or -EOPNOTSUPP: this driver, if there is one, knows no hints.
 */
int device_balloon_hints_start(struct vdev *vdev);
void device_balloon_hints_pause(struct vdev *vdev);
void device_balloon_hints_done(struct vdev *vdev);

#endif
