/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The balloon driver: gives memory that its owner can spare to the device, and takes it back.
 *
 * The owner is whoever manages memory. It fills in a struct driver_balloon_config; what it can
 * do (which functions are there) decides which features are asked for. A page goes by its
 * number: its address, as the device sees it, by 4096. The balloon follows the device's wish by
 * itself, one request at a time, as far as the owner has pages and `max_pages` allows.
 *
 * A device that breaks or goes away forgets its balloon: every page in it, and every report
 * under way, comes back to the owner then, once; the balloon is filled again afterwards.
 */
#ifndef VIADUCT_DRIVER_BALLOON_H
#define VIADUCT_DRIVER_BALLOON_H

#include "driver/virtio.h"
#include "spec/balloon.h"

#define DRIVER_BALLOON_NO_PAGE UINT32_MAX

/*
 * `owner` is the config's. All but `reported` are called with the platform's lock held and must
 * not call the driver.
 */
struct driver_balloon_ops {
	/* A page that is not needed until `give`, or DRIVER_BALLOON_NO_PAGE: none to spare now. */
	u32 (*take)(void *owner);
	/*
	 * It is the owner's again. Its contents are undefined: an owner that named a poison value
	 * fills it with that before anyone uses it (G-BALLOON-5.5.6.6.1-01).
	 */
	void (*give)(void *owner, u32 pfn);
	/* NULL: gives no statistics. Fills in value[tag] for each tag of stats_tags. */
	void (*stats)(void *owner, u64 value[VIRTIO_BALLOON_S_N_TAGS]);
	/* NULL: reports nothing. The memory of driver_balloon_report may be used again. */
	void (*reported)(void *owner, void *token);
	/*
	 * NULL: gives no hints. The next stretch of free memory of this round (`first`: of a new
	 * one), whose contents may get lost until hints_done; who uses it earlier has to write it
	 * whole first. False: that was all.
	 */
	bool (*next_hint)(void *owner, bool first, struct span *bytes);
	void (*hints_done)(void *owner);
};

struct driver_balloon_config {
	const struct driver_balloon_ops *ops;
	void *owner;
	/* Lent: room for the numbers of all pages that the device may ever get. */
	u32 *pfns;
	u32 max_pages;
	u32 stats_tags; /* 1 << VIRTIO_BALLOON_S_*, ... */
	/* Free memory is filled with `poison`, and relied upon to be so. */
	bool poisons;
	u32 poison;
};

/* In the owner's memory, until the driver is unregistered. */
struct driver_balloon {
	struct virtio_driver driver; /* for register_virtio_driver, after driver_balloon_init */

	/* The driver's. */
	struct driver_balloon_config config;
	struct virtio_device *vdev; /* the one device that it is bound to */
	struct virtqueue *vqs[VIRTIO_BALLOON_N_QUEUES];
	bool running; /* the queues are there */
	struct balloon_shared *shared; /* what the device reads */

	/* pfns: first those inside, then those of the request under way. */
	u32 n_inside, n_moving;
	bool busy; /* a request is under way */
	u32 target; /* what the device wants */
	u32 ceiling; /* what memory ran out at; until the device wants something else */
	u64 n_given; /* pages that came back to the owner */

	u8 hint_state;
	bool hint_first, hint_cmd_busy;
	u32 hint_seen, hint_next; /* the device's last word; the round that waits */
};

void driver_balloon_init(struct driver_balloon *b, const struct driver_balloon_config *config);

/* Pages that the device has. */
u32 driver_balloon_pages(const struct driver_balloon *b);

/* There is memory to spare again, after `take` said that there is none. */
void driver_balloon_go_on(struct driver_balloon *b);

/*
 * Memory ran out: takes back up to `n_pages`, waiting for the device if it must be told first,
 * `timeout_ns` at most. How many came, by `give`. 0 if the device did not allow that
 * (DEFLATE_ON_OOM). The balloon stays as small until the device wants another size.
 */
u32 driver_balloon_oom(struct driver_balloon *b, u32 n_pages, u64 timeout_ns);

/*
 * These stretches of memory are free and stay so until `reported`; their contents get lost.
 * 0, or -errno: -EOPNOTSUPP: the device does not care; -ENOSPC: `reported` comes first;
 * -ENODEV; -EINVAL: too many or empty ones. Not from within other ops than `reported`.
 */
int driver_balloon_report(struct driver_balloon *b, const struct span free[], u32 n, void *token);

#endif
