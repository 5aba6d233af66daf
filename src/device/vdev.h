/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A back end: status machine, features, configuration, queues and faults, for every type.
 *
 * Three parties meet here. A *transport* (PCI, MMIO, vhost-user, in-process) calls the first
 * group of functions with whatever the driver asked for; it never looks into a type. A *type*
 * (device/blk.c and its siblings) is one const struct vdev_type and calls the second group. An
 * *event loop* owns the device: every call, and every completion from storage.h, netport.h,
 * chardev.h and clock.h, happens on its one thread. No locks, no system calls, no allocation.
 *
 *            status writes                      a ring lied: vdev_pop latches
 *   RESET --------------------> LIVE (DRIVER_OK) ----------------------> BROKEN
 *     ^   ACK DRIVER FEATURES_OK  |                                        |
 *     +------- reset -------------+---------------- reset -----------------+
 *
 * A broken device answers -EPROTO from vdev_pop on every queue, has DEVICE_NEEDS_RESET set and
 * sent one configuration notification (D-CORE-2.1.2-02, -03). After a reset it is as new.
 */
#ifndef VIADUCT_DEVICE_VDEV_H
#define VIADUCT_DEVICE_VDEV_H

#include "base/arena.h"
#include "ring/devq.h"
#include "spec/virtio.h"

struct vdev;

/* What a type brings. Const, shared by all its instances. */
struct vdev_type {
	const char *name; /* "blk", "net", ...: also the CLI's word */
	u16 device_id; /* VIRTIO_ID_* */
	/*
	 * The driver accepted these features (a subset of what is offered). 0, or -EINVAL if the
	 * device cannot work with the set: FEATURES_OK then stays clear. NULL: all subsets will do.
	 */
	int (*check_features)(struct vdev *vdev, const struct features *accepted);
	/* DRIVER_OK: features are final. Queues may start before or after. NULL: nothing to do. */
	void (*activate)(struct vdev *vdev);
	/*
	 * Ends all requests in flight, on all queues, and touches no guest memory until the next
	 * kick; returns only when that is so. Each chain popped was pushed, unpopped or dropped. The
	 * core calls it before it stops a queue and before a reset. NULL: nothing is ever held.
	 */
	void (*drain)(struct vdev *vdev);
	/* Back to the state after init. Queues are stopped already. NULL: nothing to do. */
	void (*reset)(struct vdev *vdev);
	/* The driver made buffers available, or the queue just went live. Pop until empty. */
	void (*kick)(struct vdev *vdev, u16 queue);
	/* The driver wrote configuration bytes (only those that vdev_config allows). */
	void (*config_written)(struct vdev *vdev, u32 offset, u32 n_bytes);
};

/*
 * What a device sends: the transport's end. May be called from within any vdev_* function; must
 * not call back into the device (note it and act later). Nothing comes after vdev_reset returned.
 */
struct vdev_link;
struct vdev_link_ops {
	void (*used)(struct vdev_link *link, u16 queue); /* a used buffer notification */
	void (*config)(struct vdev_link *link); /* a configuration change notification */
	/*
	 * Not the driver's affair: a look at `queue` ended with work left (G38). Call vdev_kick for
	 * it again soon, after everybody else had a turn.
	 */
	void (*again)(struct vdev_link *link, u16 queue);
};
struct vdev_link {
	const struct vdev_link_ops *ops;
};

struct vdev_queue {
	struct devq q;
	bool started; /* the transport gave it a ring */
	bool enabled;
	bool dirty; /* pushed to since the last flush: on the device's list */
	struct vdev_queue *next_dirty;
};

/* The driver may write bytes [offset, offset + n_bytes) of the configuration. */
struct vdev_writable {
	u16 offset, n_bytes;
	bool is_setting; /* it stands until changed, as opposed to doing something at once */
};

/*
 * Requests that one look at a queue may take before it is somebody else's turn: a driver that
 * offers new ones as fast as it gets answers must not hold the loop for ever (G38).
 */
#define VDEV_LOOK_REQUESTS 1024

struct vdev {
	const struct vdev_type *type;
	const char *name; /* of this instance, for logs */
	struct vdev_link *link; /* NULL: nobody is connected */

	struct features offered; /* type's bits and the ring's; transports may take away */
	struct features accepted; /* as the driver wrote them; final from FEATURES_OK on */
	u8 status;
	bool broken;
	bool active; /* type->activate was called, no reset since */

	u8 *config; /* the type's wire struct */
	u32 config_bytes;
	u32 config_generation;
	struct vdev_writable writable[2];

	struct memory *memory; /* pinned; NULL before the transport told */
	struct vdev_queue *queues;
	u16 n_queues;
	struct vdev_queue *dirty; /* singly linked through next_dirty */
	bool polling;
	u32 look_left; /* requests that the present look may still take */
	bool look_ended; /* and there were more */

	/* For people. */
	const char *fault_what; /* NULL, or the name of the fault that broke it */
	u16 fault_queue;
	u64 n_faults, n_resets;
};

/* ---- for transports -------------------------------------------------------------------- */

/* Connects the device to the driver's side; NULL disconnects. Only while reset. */
void vdev_set_link(struct vdev *vdev, struct vdev_link *link);

/* The driver's features, at any time before FEATURES_OK; ignored later (G-CORE-3.1.1-03). */
void vdev_set_features(struct vdev *vdev, const struct features *accepted);

/*
 * A write to the status field, with all that follows from it: 0 resets; FEATURES_OK stays
 * clear for a set that was not offered, lacks VERSION_1 or is refused by the type; DRIVER_OK
 * without FEATURES_OK is ignored. Bits cannot be cleared but by reset. What a driver may write
 * is any byte; what it gets is always a defined state (case G18). Read vdev->status back.
 */
void vdev_set_status(struct vdev *vdev, u8 status);

/* Reset: drained, all queues stopped and disabled, features and status 0, memory kept. */
void vdev_reset(struct vdev *vdev);

/*
 * The same for a transport that cannot tell a reset from a pause: what the driver has set in
 * the configuration (is_setting) stays, as it will not set it again after a pause.
 */
void vdev_reset_keep_settings(struct vdev *vdev);

/*
 * Ends every request in flight and publishes the answers; new ones come only by a later kick.
 * Waits for the world behind the device (a disk, say) as long as it takes.
 */
void vdev_quiesce(struct vdev *vdev);

/*
 * Guest memory; replaces the map in use (the device holds its own pin) and finds running rings
 * in the new one; a ring that is not there breaks the device. NULL while no queue is started:
 * forget it.
 */
void vdev_set_memory(struct vdev *vdev, struct memory *memory);

/*
 * A ring for queue `queue` (must exist), from `position` on. packed, event_idx and indirect are
 * filled in from the accepted features. 0, or -EPROTO: the ring is impossible and the device
 * broken (case G24). The queue works once it is also enabled and the status says DRIVER_OK.
 */
int vdev_queue_start(struct vdev *vdev, u16 queue, const struct devq_setup *setup, u32 position);

/* Where a fresh ring begins under the accepted features. */
u32 vdev_queue_position_start(const struct vdev *vdev);

/* Drains the device, stops the queue, returns its position. A queue not started: `position` 0. */
u32 vdev_queue_stop(struct vdev *vdev, u16 queue);

/* Disabled queues keep their ring and their kicks: enabling looks for work by itself. */
void vdev_queue_enable(struct vdev *vdev, u16 queue, bool on);

/* The driver's notification; harmless at any time for any number (cases G16, G20). */
void vdev_kick(struct vdev *vdev, u16 queue);

/*
 * Configuration space. Reads past its end give zeroes, writes to bytes that are not writable
 * are dropped; both are harmless (cases G21, G23). Generation: vdev->config_generation.
 */
void vdev_config_read(struct vdev *vdev, u32 offset, void *dst, u32 n_bytes);
void vdev_config_write(struct vdev *vdev, u32 offset, const void *src, u32 n_bytes);

/*
 * Polling, for the owner's loop. While on, drivers are asked not to notify, and vdev_poll does
 * what is to be done; true if there was something. Turning it off looks once more by itself,
 * so that no wake-up is lost.
 */
void vdev_set_polling(struct vdev *vdev, bool on);
bool vdev_poll(struct vdev *vdev);

/* ---- for types ------------------------------------------------------------------------- */

/*
 * Prepares an instance. `config` and `queues` are lent; the ring features (VERSION_1,
 * INDIRECT_DESC, EVENT_IDX, RING_PACKED) are offered by itself, the type adds its own to
 * vdev->offered afterwards.
 */
void vdev_init(struct vdev *vdev, const struct vdev_type *type, const char *name, void *config,
	       u32 config_bytes, struct vdev_queue *queues, u16 n_queues);

/* `n_queues` queues of up to `max_size` entries, ready for vdev_init; NULL while counting. */
struct vdev_queue *vdev_carve_queues(struct arena *arena, u16 n_queues, u16 max_size);

/*
 * As devq_pop, on a queue that is live; 0 otherwise. -EPROTO: the device is broken, stop. A
 * fault is latched, logged and told to the driver here, once.
 */
int vdev_pop(struct vdev *vdev, u16 queue, struct chain *c);
void vdev_unpop(struct vdev *vdev, u16 queue, struct chain *c);

/* Gives a request back. On a device that is broken: just forgets it. */
void vdev_push(struct vdev *vdev, u16 queue, struct chain *c, u32 n_written);

/* Forgets a request without an answer; the driver gets its buffer back by a reset only. */
void vdev_drop(struct vdev *vdev, u16 queue, struct chain *c);

/*
 * Ends a batch of pushes that did not come from kick, activate, drain or reset (the core ends
 * those): completions, timers, arriving frames. Publishes and notifies where asked for.
 */
void vdev_flush(struct vdev *vdev);

/* The queue has a ring, is enabled, DRIVER_OK is set, nothing is broken. */
static inline bool vdev_live(const struct vdev *vdev, u16 queue)
{
	return vdev->queues[queue].q.live && vdev->queues[queue].enabled && vdev->active &&
	       !vdev->broken;
}

/* Negotiated? */
static inline bool vdev_has(const struct vdev *vdev, unsigned int bit)
{
	return features_has(&vdev->accepted, bit);
}

/* The type changed its configuration: new generation, and the driver is told if it listens. */
void vdev_config_changed(struct vdev *vdev);

/*
 * The driver broke the protocol of the *type* beyond an in-band answer (a chain with no room
 * for a status, say): same consequences as a ring fault. `what` is a static name.
 */
void vdev_break(struct vdev *vdev, u16 queue, const char *what);

#endif
