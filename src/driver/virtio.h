/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Drivers and devices, and how they find each other: the article's API, with what came after.
 *
 * The shapes are those of Linux 2.6.30 (struct virtio_driver, virtio_device, virtio_config_ops,
 * register_virtio_driver), carried on to VIRTIO 1.4: FEATURES_OK, more than 64 features,
 * find_vqs for all queues at once, config generation, and recovery of a device that broke or
 * went away. The five queue operations stand in ring/virtqueue.h.
 *
 * A transport finds a device and registers it; the core matches it with a driver by id, brings
 * it up (G-CORE-3.1.1-01) and probes. Every wait is bounded. One bus of one thread: calls into
 * the core are the caller's to serialise.
 */
#ifndef VIADUCT_DRIVER_VIRTIO_H
#define VIADUCT_DRIVER_VIRTIO_H

#include "base/list.h"
#include "driver/platform.h"
#include "ring/virtqueue.h"
#include "spec/virtio.h"

struct virtio_device;
struct virtio_driver;

struct virtio_device_id {
	u32 device; /* VIRTIO_ID_*; 0 ends a table */
	u32 vendor; /* or VIRTIO_DEV_ANY_ID */
};
#define VIRTIO_DEV_ANY_ID 0xffffffffu

/* What a driver wants of a queue. */
struct virtqueue_info {
	const char *name;
	void (*callback)(struct virtqueue *vq); /* NULL: the driver polls this queue */
	u16 max_size; /* entries at most; 0: as the device likes, up to 256 */
	u16 max_indirect; /* pieces of an indirect buffer; 0: none */
	bool absent; /* a queue that the device lacks under the negotiated features */
};

/* What a transport gives a driver. Const, shared by all devices of the transport. */
struct virtio_config_ops {
	/* Configuration space, bytes as they lie; see virtio_cread for whole fields. */
	void (*get)(struct virtio_device *vdev, u32 offset, void *buf, u32 n_bytes);
	void (*set)(struct virtio_device *vdev, u32 offset, const void *buf, u32 n_bytes);
	u32 (*generation)(struct virtio_device *vdev);
	u8 (*get_status)(struct virtio_device *vdev);
	void (*set_status)(struct virtio_device *vdev, u8 status);
	/* Returns once status reads 0 (G-CORE-2.4.2-01), or -ETIMEDOUT (D07), or -ENODEV. */
	int (*reset)(struct virtio_device *vdev);
	/*
	 * Sets up `n` queues; vqs[i] is NULL where infos[i].absent. 0 or -errno, with none set up.
	 * del_vqs: after reset only; tokens still out are to be detached before.
	 */
	int (*find_vqs)(struct virtio_device *vdev, u32 n, struct virtqueue *vqs[],
			const struct virtqueue_info infos[]);
	void (*del_vqs)(struct virtio_device *vdev);
	/*
	 * One queue by itself (VIRTIO_F_RING_RESET, 2.6.1), for virtqueue_reset. reset_vq returns
	 * once the device has let go of it (G-CORE-2.6.1.1.2-01), enable_vq starts it anew where it
	 * was. 0 or -errno. NULL, both: this transport cannot.
	 */
	int (*reset_vq)(struct virtio_device *vdev, struct virtqueue *vq);
	int (*enable_vq)(struct virtio_device *vdev, struct virtqueue *vq);
	void (*get_features)(struct virtio_device *vdev, struct features *offered);
	/* Takes away what the transport cannot carry, writes vdev->features. 0 or -errno. */
	int (*finalize_features)(struct virtio_device *vdev);
};

enum virtio_state {
	VIRTIO_STATE_UNBOUND, /* no driver, or probe failed */
	VIRTIO_STATE_LIVE,
	VIRTIO_STATE_BROKEN, /* needs a reset, or is away; in-flight buffers were taken back */
};

/* A device as its driver sees it. Embedded in the transport's own struct. */
struct virtio_device {
	/* The transport's, set before register_virtio_device. */
	struct virtio_device_id id;
	const struct virtio_config_ops *config;
	struct platform *platform;
	const char *name;
	/*
	 * The other side is gone, maybe in the middle of a bring-up: that this fails is then no
	 * reason to give up, because virtio_device_back follows, or unregister_virtio_device.
	 */
	bool away;

	/* The core's. */
	struct features offered;
	struct features features; /* negotiated */
	struct virtio_driver *driver;
	enum virtio_state state;
	bool recovery_wanted; /* noted by a callback, done by virtio_poll */
	bool config_noted; /* a change that came while the driver could not be told */
	u32 n_recoveries;
	u64 window_ns; /* when the present row of recoveries began */
	u32 n_in_window;
	struct list node;

	void *priv; /* the driver's */
};

/* A front end. */
struct virtio_driver {
	const char *name;
	const struct virtio_device_id *id_table;
	/* Device-type features that the driver knows; ring features are the core's. */
	const unsigned int *feature_table;
	u32 feature_table_size;

	/*
	 * Looks at vdev->features before they are told to the device, and may take some away, such
	 * as those whose prerequisites the device forgot (G-CORE-2.2.1-01b). NULL: takes them all.
	 */
	void (*trim_features)(struct virtio_device *vdev);
	/* FEATURES_OK is read back, DRIVER_OK is not set yet. 0, or -errno: FAILED. */
	int (*probe)(struct virtio_device *vdev);
	/*
	 * The device was reset: give everything back, whatever state it is in. Once for each probe
	 * that went well; a probe that fails after find_vqs cleans up by virtio_del_vqs.
	 */
	void (*remove)(struct virtio_device *vdev);
	/* NULL: does not care. */
	void (*config_changed)(struct virtio_device *vdev);
	/*
	 * Recovery, in two halves. freeze: the device was reset or is gone; take every token back
	 * (virtqueue_detach) and fail its request or keep it, then del_vqs. restore: find the
	 * queues again, under features negotiated again, and submit what was kept; it gives the
	 * queues back itself if it fails. NULL: remove and probe do instead.
	 */
	void (*freeze)(struct virtio_device *vdev);
	int (*restore)(struct virtio_device *vdev);
	/*
	 * The device did not come up again, or breaks too often: what freeze kept is to be failed
	 * now, and what is submitted from now on; only virtio_device_back may yet lead to restore.
	 * NULL: nothing was kept.
	 */
	void (*give_up)(struct virtio_device *vdev);

	struct list node; /* the core's */
};

/* ---- for drivers ----------------------------------------------------------------------- */

/* 0, -EBUSY: registered already. Devices that wait for such a driver are probed at once. */
int register_virtio_driver(struct virtio_driver *driver);
void unregister_virtio_driver(struct virtio_driver *driver);

/* Negotiated? */
static inline bool virtio_has_feature(const struct virtio_device *vdev, unsigned int bit)
{
	return features_has(&vdev->features, bit);
}

/*
 * A configuration field of 1, 2, 4 or 8 bytes, in the machine's order; read whole even while
 * the device changes it (G-CORE-2.5.1-01, -01b), a bounded number of times (D04).
 */
u64 virtio_cread(struct virtio_device *vdev, u32 offset, u32 n_bytes);
void virtio_cwrite(struct virtio_device *vdev, u32 offset, u32 n_bytes, u64 value);
/* Several fields that belong together, as they lie. */
void virtio_cread_bytes(struct virtio_device *vdev, u32 offset, void *buf, u32 n_bytes);
#define VIRTIO_CREAD(vdev, type, field) \
	virtio_cread(vdev, offsetof(type, field), sizeof(((type *)0)->field))

static inline int virtio_find_vqs(struct virtio_device *vdev, u32 n, struct virtqueue *vqs[],
				  const struct virtqueue_info infos[])
{
	return vdev->config->find_vqs(vdev, n, vqs, infos);
}

/* For a probe or restore that fails after find_vqs: resets the device, so that no queue is in use. */
void virtio_del_vqs(struct virtio_device *vdev);

/*
 * Takes all buffers of one queue back while the device lives on: each token still out goes to
 * `recycle` once (which may not add), then the queue is empty and works. 0; -EOPNOTSUPP: not
 * negotiated; or -errno: the device is broken and will be recovered.
 */
int virtqueue_reset(struct virtqueue *vq, void (*recycle)(struct virtqueue *vq, void *token));

/* DRIVER_OK early, for a probe that needs its queues to work. The core sets it otherwise. */
void virtio_device_ready(struct virtio_device *vdev);

/*
 * The driver met a lie (a broken queue, a status that cannot be): the device will be reset,
 * its tokens taken back by freeze, and brought up again, all by the next virtio_poll. Callable
 * from a callback.
 */
void virtio_break_device(struct virtio_device *vdev);

/*
 * For a driver that got NULL from get_buf or -EIO from add_buf: true if that is because the
 * device lied. Then one line is logged and the device is broken as above.
 */
bool virtio_queue_failed(struct virtqueue *vq);

/* ---- for transports --------------------------------------------------------------------- */

/* 0: bound and live, or waiting for a driver. -errno: a driver was there and failed. */
int register_virtio_device(struct virtio_device *vdev);
void unregister_virtio_device(struct virtio_device *vdev);

/* A configuration change notification came: the driver is told, NEEDS_RESET acted upon. */
void virtio_config_changed(struct virtio_device *vdev);

/*
 * The other side is gone (a socket closed, a card pulled): tokens come back by freeze. Called
 * from the transport's own turn, never from within a doorbell or another of its functions that a
 * driver is calling.
 */
void virtio_device_gone(struct virtio_device *vdev);

/* It is there again, as new: brought up as before. 0 or -errno (and it stays broken). */
int virtio_device_back(struct virtio_device *vdev);

/*
 * A queue of `size` entries in memory of the platform's: `vq` is ready to be used, `addrs` is
 * what the transport has to tell the device. NULL: no memory.
 */
struct virtqueue_addrs {
	u64 desc, driver_area, device_area;
};
/* The size for a queue: as `info` wants it, at most `device_max` (0: -ENOENT), and possible. */
int virtio_vq_size(const struct virtio_device *vdev, const struct virtqueue_info *info,
		   u32 device_max);
struct virtqueue *virtio_vq_create(struct virtio_device *vdev, u16 index, u16 size,
				   const struct virtqueue_info *info,
				   bool (*notify)(struct virtqueue *vq),
				   struct virtqueue_addrs *addrs);
void virtio_vq_destroy(struct virtio_device *vdev, struct virtqueue *vq);
struct virtio_device *virtqueue_device(const struct virtqueue *vq);
struct virtqueue_addrs virtqueue_addrs(const struct virtqueue *vq); /* as told by the create */

/* ---- for the owner of the loop ------------------------------------------------------------ */

/*
 * Does what callbacks put off: recovers devices that asked for it. True if there was something.
 * Call it after a callback or a notification came, or from time to time.
 */
bool virtio_poll(void);

#endif
