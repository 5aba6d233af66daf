/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The block device. Read from the bottom of "requests" upwards: kick pops, start tells the
 * requests apart, one start_* each hands them to the storage, *_done answers.
 *
 * When is a write safe? (VIRTIO 1.4, 5.2.6.2.) Once it is complete and one of these holds:
 *  1. the driver took neither FLUSH nor CONFIG_WCE: it cannot flush, so we do, before we
 *     complete the write (write-through);
 *  2. the driver took CONFIG_WCE and `writeback` was 0 all the time: the same;
 *  3. a FLUSH that the driver sent after the write's completion has itself completed: each FLUSH
 *     starts a storage flush of its own, and storage promises that this one covers all writes
 *     done before it. Which flushes may share one fsync is the storage's affair.
 */
#include "device/blk.h"

#include "base/shared.h"
#include "spec/blk.h"

#define SPANS_MAX 1024 /* what storage takes, see storage.h */

/*
 * Pieces of a chain beyond its data segments: status, a header cut into single bytes, and some
 * buffers that reach over the border of two memory regions.
 */
#define SPANS_SLACK (1 + (u32)sizeof(struct virtio_blk_header) + 8)
_Static_assert(DEVICE_BLK_SEG_MAX + SPANS_SLACK <= SPANS_MAX, "longest chain fits");

/* Limits that we tell the driver; zeroing may really write, so it comes in smaller portions. */
#define DISCARD_MAX_SECTORS (1u << 22) /* 2 GiB */
#define WRITE_ZEROES_MAX_SECTORS (1u << 17) /* 64 MiB */
#define SEGMENTS_MAX 64u

/*
 * Room of a failed request that is cleared, see finish(). More than any driver asks for at once,
 * little enough that asking for it again and again costs a guest more than us.
 */
#define CLEAR_MAX_BYTES (16u << 20)

struct blk;
struct queue;

/*
 * One request. A queue has one more than it can have in flight, so there is always one to pop
 * into. Taken last in, first out: at low depth always the same, warm, memory.
 */
struct request {
	struct chain chain;
	struct io io;
	struct queue *queue;
	struct request *next; /* while free */
	u8 *status; /* in guest memory */
	u64 n_bytes; /* that it is about, for the statistics */
	u32 n_spans; /* READ: lent to the storage */
	u8 op; /* enum device_blk_op */
	bool write_through; /* when it was started */
	/* DISCARD and WRITE_ZEROES, see run_segments. */
	bool calling, returned;
	int err;
};

struct queue {
	struct request *free;
	struct blk *blk;
	u16 index;
};

struct blk {
	struct vdev vdev;
	struct storage *storage;
	u64 n_sectors;
	u32 block_mask; /* bytes in a logical block, less one */
	bool read_only;
	u8 serial[VIRTIO_BLK_ID_BYTES];
	struct device_blk_stats stats;
	struct virtio_blk_config config;
	struct queue queues[];
};

static struct blk *blk_of(struct vdev *vdev)
{
	return container_of(vdev, struct blk, vdev);
}

/* ---- answers --------------------------------------------------------------------------- */

static void forget(struct request *r)
{
	r->next = r->queue->free;
	r->queue->free = r;
	r->queue->blk->stats.n_in_flight--;
}

/*
 * Answers a request. Whatever is left in chain.in is room that nothing was put into. The status
 * byte lies behind it, and claiming the status as written claims the room too
 * (D-SPLIT-2.7.8.2-02): so clear it. Room beyond all reason is left alone, and then nothing is
 * claimed; the status is there all the same (D-SPLIT-2.7.8.2-03).
 */
static void finish(struct request *r, u8 status)
{
	struct blk *blk = r->queue->blk;
	struct sg *room = &r->chain.in;
	u32 n_written = r->chain.in_bytes;

	if (unlikely(room->n_bytes > 0)) {
		if (room->n_bytes <= CLEAR_MAX_BYTES)
			sg_zero(room, room->n_bytes);
		else
			n_written = 0;
	}
	*r->status = status;
	blk->stats.op[r->op].n_done++;
	if (likely(status == VIRTIO_BLK_S_OK))
		blk->stats.op[r->op].n_bytes += r->n_bytes;
	else
		blk->stats.op[r->op].n_failed++;
	vdev_push(&blk->vdev, r->queue->index, &r->chain, n_written);
	forget(r);
}

static void read_done(struct io *io, int err)
{
	struct request *r = container_of(io, struct request, io);
	struct sg *room = &r->chain.in;

	/* The storage may have narrowed the spans to what it could not do; that is left to clear. */
	room->n_bytes = 0;
	if (unlikely(err)) {
		for (u32 i = 0; i < r->n_spans; i++)
			room->n_bytes += room->v[i].n_bytes;
	}
	finish(r, err ? VIRTIO_BLK_S_IOERR : VIRTIO_BLK_S_OK);
}

static void flush_done(struct io *io, int err)
{
	struct request *r = container_of(io, struct request, io);

	finish(r, err ? VIRTIO_BLK_S_IOERR : VIRTIO_BLK_S_OK);
}

static void flush_storage(struct request *r)
{
	struct blk *blk = r->queue->blk;

	blk->stats.n_storage_flushes++;
	r->io.done = flush_done;
	blk->storage->ops->flush(blk->storage, &r->io);
}

/*
 * Rules 1 and 2. A driver with CONFIG_WCE but without FLUSH has writeback held at 0, so a driver
 * without FLUSH is always one of a write-through device.
 */
static bool is_write_through(const struct blk *blk)
{
	return !vdev_has(&blk->vdev, VIRTIO_BLK_F_FLUSH) ||
	       (vdev_has(&blk->vdev, VIRTIO_BLK_F_CONFIG_WCE) && !blk->config.writeback);
}

/*
 * The storage has the data; flush it if the guest counts on that. While writeback is toggled
 * under a write, rule 2 asks for nothing. A driver that switches to write-back, though, may have
 * handed out the old promise for it a moment ago: so either end of the flight will do.
 */
static void settle(struct request *r)
{
	if (r->write_through || is_write_through(r->queue->blk))
		flush_storage(r);
	else
		finish(r, VIRTIO_BLK_S_OK);
}

static void write_done(struct io *io, int err)
{
	struct request *r = container_of(io, struct request, io);

	if (unlikely(err))
		finish(r, VIRTIO_BLK_S_IOERR);
	else
		settle(r);
}

/* ---- requests -------------------------------------------------------------------------- */

static bool range_is_valid(const struct blk *blk, u64 sector, u64 n_bytes)
{
	u64 offset = sector << VIRTIO_BLK_SECTOR_BITS;

	if ((offset | n_bytes) & blk->block_mask)
		return false;
	return sector <= blk->n_sectors &&
	       n_bytes >> VIRTIO_BLK_SECTOR_BITS <= blk->n_sectors - sector;
}

/* A transfer of no bytes is one with its data on the wrong side of the chain. */
static bool transfer_is_valid(const struct blk *blk, u64 sector, u64 n_bytes)
{
	return n_bytes > 0 && range_is_valid(blk, sector, n_bytes);
}

static void start_read(struct request *r, u64 sector)
{
	struct blk *blk = r->queue->blk;
	struct sg *room = &r->chain.in;
	struct span *v;

	r->op = DEVICE_BLK_READ;
	if (unlikely(!transfer_is_valid(blk, sector, room->n_bytes))) {
		finish(r, VIRTIO_BLK_S_IOERR);
		return;
	}
	r->n_bytes = room->n_bytes;
	v = sg_spans(room, &r->n_spans);
	r->io.done = read_done;
	blk->storage->ops->read(blk->storage, &r->io, sector << VIRTIO_BLK_SECTOR_BITS, v,
				r->n_spans);
}

static void start_write(struct request *r, u64 sector)
{
	struct blk *blk = r->queue->blk;
	struct sg *data = &r->chain.out;
	struct span *v;
	u32 n;

	r->op = DEVICE_BLK_WRITE;
	/* D-BLK-5.2.6.2-03: ours to enforce, whether the driver took RO or not (G22). */
	if (unlikely(blk->read_only || !transfer_is_valid(blk, sector, data->n_bytes))) {
		finish(r, VIRTIO_BLK_S_IOERR);
		return;
	}
	r->n_bytes = data->n_bytes;
	r->write_through = is_write_through(blk);
	v = sg_spans(data, &n);
	r->io.done = write_done;
	blk->storage->ops->write(blk->storage, &r->io, sector << VIRTIO_BLK_SECTOR_BITS, v, n);
}

/* Done for every driver that asks, whatever it negotiated: too safe is no harm. */
static void start_flush(struct request *r)
{
	r->op = DEVICE_BLK_FLUSH;
	flush_storage(r);
}

static void start_get_id(struct request *r)
{
	struct blk *blk = r->queue->blk;

	r->op = DEVICE_BLK_GET_ID;
	if (r->chain.in.n_bytes < sizeof(blk->serial)) {
		finish(r, VIRTIO_BLK_S_IOERR);
		return;
	}
	sg_write(&r->chain.in, blk->serial, sizeof(blk->serial));
	r->n_bytes = sizeof(blk->serial);
	finish(r, VIRTIO_BLK_S_OK);
}

static u8 check_segment(const struct request *r, u64 sector, u32 n_sectors, u32 flags)
{
	bool discard = r->op == DEVICE_BLK_DISCARD;

	/* D-BLK-5.2.6.2-04, -05: UNMAP is for zeroes only, and no other flag is known. */
	if (flags & ~(discard ? 0 : VIRTIO_BLK_WRITE_ZEROES_F_UNMAP))
		return VIRTIO_BLK_S_UNSUPP;
	if (n_sectors > (discard ? DISCARD_MAX_SECTORS : WRITE_ZEROES_MAX_SECTORS))
		return VIRTIO_BLK_S_IOERR;
	if (!range_is_valid(r->queue->blk, sector, (u64)n_sectors << VIRTIO_BLK_SECTOR_BITS))
		return VIRTIO_BLK_S_IOERR;
	return VIRTIO_BLK_S_OK;
}

/*
 * Takes one segment after the other: each is read once, checked, done. The first bad one ends
 * the request; what was done before it stays done, as after any error. A storage may call done
 * at once or later; at once only leaves a mark, for the loop here to find, so that the stack
 * does not grow with the number of segments.
 */
static void run_segments(struct request *r)
{
	struct blk *blk = r->queue->blk;
	struct storage *s = blk->storage;

	do {
		struct virtio_blk_discard_write_zeroes segment;
		u64 offset, n_bytes;
		u32 n_sectors, flags;
		u8 status;

		if (r->err) {
			finish(r, VIRTIO_BLK_S_IOERR);
			return;
		}
		if (sg_read(&r->chain.out, &segment, sizeof(segment)) == 0) {
			/* What a discarded range reads as is open: nothing to make durable. */
			if (r->op == DEVICE_BLK_DISCARD)
				finish(r, VIRTIO_BLK_S_OK);
			else
				settle(r);
			return;
		}
		n_sectors = le32_get(segment.num_sectors);
		flags = le32_get(segment.flags);
		status = check_segment(r, le64_get(segment.sector), n_sectors, flags);
		if (status != VIRTIO_BLK_S_OK) {
			finish(r, status);
			return;
		}
		offset = le64_get(segment.sector) << VIRTIO_BLK_SECTOR_BITS;
		n_bytes = (u64)n_sectors << VIRTIO_BLK_SECTOR_BITS;
		r->n_bytes += n_bytes;

		r->calling = true;
		r->returned = false;
		if (n_bytes == 0)
			r->returned = true;
		else if (r->op == DEVICE_BLK_DISCARD)
			s->ops->discard(s, &r->io, offset, n_bytes);
		else
			s->ops->write_zeroes(s, &r->io, offset, n_bytes,
					     flags & VIRTIO_BLK_WRITE_ZEROES_F_UNMAP);
		r->calling = false;
	} while (r->returned);
}

static void segment_done(struct io *io, int err)
{
	struct request *r = container_of(io, struct request, io);

	r->err = err;
	if (r->calling)
		r->returned = true;
	else
		run_segments(r);
}

static void start_segments(struct request *r, enum device_blk_op op, unsigned int feature)
{
	struct blk *blk = r->queue->blk;
	size_t n_bytes = r->chain.out.n_bytes;

	r->op = op;
	if (blk->read_only) {
		finish(r, VIRTIO_BLK_S_IOERR);
		return;
	}
	if (!features_has(&blk->vdev.offered, feature)) {
		finish(r, VIRTIO_BLK_S_UNSUPP);
		return;
	}
	if (n_bytes == 0 || n_bytes % sizeof(struct virtio_blk_discard_write_zeroes) ||
	    n_bytes > SEGMENTS_MAX * sizeof(struct virtio_blk_discard_write_zeroes)) {
		finish(r, VIRTIO_BLK_S_IOERR);
		return;
	}
	r->write_through = is_write_through(blk);
	r->err = 0;
	r->io.done = segment_done;
	run_segments(r);
}

static void start(struct request *r)
{
	struct blk *blk = r->queue->blk;
	struct virtio_blk_header header;
	struct sg status;

	r->op = DEVICE_BLK_OTHER;
	r->n_bytes = 0;
	blk->stats.n_in_flight++;
	/* Without room for a status there is no way to answer (G25). */
	if (unlikely(!sg_split_tail(&r->chain.in, 1, &status))) {
		vdev_break(&blk->vdev, r->queue->index, "no-status-byte");
		vdev_drop(&blk->vdev, r->queue->index, &r->chain);
		forget(r);
		return;
	}
	r->status = sg_at(&status);
	if (unlikely(sg_read(&r->chain.out, &header, sizeof(header)) < sizeof(header))) {
		finish(r, VIRTIO_BLK_S_IOERR);
		return;
	}

	switch (le32_get(header.type)) {
	case VIRTIO_BLK_T_IN:
		start_read(r, le64_get(header.sector));
		break;
	case VIRTIO_BLK_T_OUT:
		start_write(r, le64_get(header.sector));
		break;
	case VIRTIO_BLK_T_FLUSH:
		start_flush(r);
		break;
	case VIRTIO_BLK_T_GET_ID:
		start_get_id(r);
		break;
	case VIRTIO_BLK_T_DISCARD:
		start_segments(r, DEVICE_BLK_DISCARD, VIRTIO_BLK_F_DISCARD);
		break;
	case VIRTIO_BLK_T_WRITE_ZEROES:
		start_segments(r, DEVICE_BLK_WRITE_ZEROES, VIRTIO_BLK_F_WRITE_ZEROES);
		break;
	default:
		finish(r, VIRTIO_BLK_S_UNSUPP);
		break;
	}
}

static void kick(struct vdev *vdev, u16 index)
{
	struct queue *queue = &blk_of(vdev)->queues[index];
	struct request *r = queue->free;

	/* Bounded by the queue: what is answered at once is not published before we return. */
	while (vdev_pop(vdev, index, &r->chain) == 1) {
		queue->free = r->next;
		start(r);
		r = queue->free;
	}
}

/* ---- the rest of a device -------------------------------------------------------------- */

/*
 * Features are final from here on, and the driver may read writeback before DRIVER_OK. Without
 * FLUSH there is nothing but write-through (D-BLK-5.2.5.2-02).
 */
static int check_features(struct vdev *vdev, const struct features *accepted)
{
	if (!features_has(accepted, VIRTIO_BLK_F_FLUSH))
		blk_of(vdev)->config.writeback = 0;
	return 0;
}

/* The one writable byte is writeback. Whatever is not a clear 1 is taken to the safe side. */
static void config_written(struct vdev *vdev, u32 offset, u32 n_bytes)
{
	struct blk *blk = blk_of(vdev);
	bool no_flush =
		(vdev->status & VIRTIO_STATUS_FEATURES_OK) && !vdev_has(vdev, VIRTIO_BLK_F_FLUSH);

	blk->config.writeback = blk->config.writeback == 1 && !no_flush;
}

static void drain(struct vdev *vdev)
{
	struct blk *blk = blk_of(vdev);

	blk->storage->ops->drain(blk->storage);
	ASSERT(blk->stats.n_in_flight == 0);
}

static void reset(struct vdev *vdev)
{
	blk_of(vdev)->config.writeback = 1;
}

static const struct vdev_type blk_type = {
	.name = "blk",
	.device_id = VIRTIO_ID_BLOCK,
	.check_features = check_features,
	.drain = drain,
	.reset = reset,
	.kick = kick,
	.config_written = config_written,
};

/* The storage's last words for this turn of the loop. */
static void batch_end(void *owner)
{
	struct blk *blk = owner;

	vdev_flush(&blk->vdev);
}

static void measure(struct blk *blk)
{
	u64 n_bytes = blk->storage->n_bytes & ~(u64)blk->block_mask;

	blk->n_sectors = n_bytes >> VIRTIO_BLK_SECTOR_BITS;
	blk->config.capacity = le64_of(blk->n_sectors);
}

/* Requests from now on have to fit; those under way are the storage's affair. */
static void resized(void *owner)
{
	struct blk *blk = owner;

	measure(blk);
	vdev_config_changed(&blk->vdev);
}

static u32 seg_max_of(const struct device_blk_config *config)
{
	u32 fits = config->queue_size > 3 ? config->queue_size - 2u : 1;

	return config->seg_max ? config->seg_max : (u32)min_u64(fits, DEVICE_BLK_SEG_MAX);
}

static u32 log2_of(u32 power_of_two)
{
	return (u32)__builtin_ctz(power_of_two);
}

static void describe(struct blk *blk, const struct device_blk_config *config)
{
	const struct storage *s = blk->storage;
	struct virtio_blk_config *c = &blk->config;
	struct features *offered = &blk->vdev.offered;
	u32 block_bits = log2_of(s->logical_block_bytes);

	/* D-BLK-5.2.5.2-01, -01b: with FLUSH; never a device that cannot be made safe. */
	features_set(offered, VIRTIO_BLK_F_FLUSH);
	features_set(offered, VIRTIO_BLK_F_CONFIG_WCE);
	c->writeback = 1;

	features_set(offered, VIRTIO_BLK_F_SEG_MAX);
	c->seg_max = le32_of(seg_max_of(config));
	if (config->size_max) {
		features_set(offered, VIRTIO_BLK_F_SIZE_MAX);
		c->size_max = le32_of(config->size_max);
	}

	features_set(offered, VIRTIO_BLK_F_BLK_SIZE);
	c->blk_size = le32_of(s->logical_block_bytes);
	features_set(offered, VIRTIO_BLK_F_TOPOLOGY);
	c->topology.physical_block_exp = (u8)(log2_of(s->physical_block_bytes) - block_bits);
	c->topology.min_io_size = le16_of((u16)min_u64(s->min_io_bytes >> block_bits, UINT16_MAX));
	c->topology.opt_io_size = le32_of(s->opt_io_bytes >> block_bits);

	if (config->n_queues > 1) {
		features_set(offered, VIRTIO_BLK_F_MQ);
		c->num_queues = le16_of(config->n_queues);
	}
	if (blk->read_only) {
		features_set(offered, VIRTIO_BLK_F_RO);
		return; /* with nothing that changes data */
	}
	if (s->can_discard) {
		u64 align = max_u64(s->discard_align_bytes, s->logical_block_bytes);

		features_set(offered, VIRTIO_BLK_F_DISCARD);
		c->max_discard_sectors = le32_of(DISCARD_MAX_SECTORS);
		c->max_discard_seg = le32_of(SEGMENTS_MAX);
		c->discard_sector_alignment = le32_of((u32)(align >> VIRTIO_BLK_SECTOR_BITS));
	}
	if (s->can_write_zeroes) {
		features_set(offered, VIRTIO_BLK_F_WRITE_ZEROES);
		c->max_write_zeroes_sectors = le32_of(WRITE_ZEROES_MAX_SECTORS);
		c->max_write_zeroes_seg = le32_of(SEGMENTS_MAX);
		c->write_zeroes_may_unmap = 1;
	}
}

/* What a device is made of. All pointers are NULL while the arena only counts. */
struct parts {
	struct blk *blk;
	struct vdev_queue *queues;
	struct request *requests;
	/*
	 * By far the most of it, and apart from the requests so that those which are never used are
	 * never touched.
	 */
	struct span *spans;
	u32 n_requests; /* in each queue */
	u32 max_spans; /* in each request */
};

static struct parts carve(struct arena *arena, const struct device_blk_config *config)
{
	u16 n_queues = config->n_queues;
	struct parts p = {
		.n_requests = config->queue_size + 1u,
		.max_spans = seg_max_of(config) + SPANS_SLACK,
	};
	size_t n_all = (size_t)p.n_requests * n_queues;

	p.blk = arena_take(arena, 1, sizeof(*p.blk) + n_queues * sizeof(p.blk->queues[0]));
	p.queues = vdev_carve_queues(arena, n_queues, config->queue_size);
	p.requests = arena_take(arena, n_all, sizeof(*p.requests));
	p.spans = arena_take(arena, n_all * p.max_spans, sizeof(*p.spans));
	return p;
}

size_t device_blk_bytes(const struct device_blk_config *config)
{
	struct arena counting = { 0 };

	carve(&counting, config);
	return counting.used_bytes;
}

static void init_queue(struct queue *queue, struct blk *blk, u16 index, const struct parts *p)
{
	size_t first = (size_t)index * p->n_requests;

	*queue = (struct queue){ .blk = blk, .index = index };
	/* From the last to the first, so that the first is on top. */
	for (size_t i = first + p->n_requests; i-- > first;) {
		struct request *r = &p->requests[i];

		*r = (struct request){
			.chain.spans = p->spans + i * p->max_spans,
			.chain.max_spans = (u16)p->max_spans,
			.queue = queue,
			.next = queue->free,
		};
		queue->free = r;
	}
}

struct vdev *device_blk_init(void *mem, const struct device_blk_config *config)
{
	struct arena arena = { .base = mem };
	struct parts p = carve(&arena, config);
	struct storage *s = config->storage;
	struct blk *blk = p.blk;

	ASSERT(config->n_queues > 0 && config->queue_size > 0);
	ASSERT(seg_max_of(config) <= DEVICE_BLK_SEG_MAX);
	ASSERT(is_power_of_two(s->logical_block_bytes) && is_power_of_two(s->physical_block_bytes));
	ASSERT(s->logical_block_bytes >= VIRTIO_BLK_SECTOR_BYTES &&
	       s->physical_block_bytes >= s->logical_block_bytes);

	*blk = (struct blk){
		.storage = s,
		.block_mask = s->logical_block_bytes - 1,
		.read_only = config->read_only || s->read_only,
	};
	for (size_t i = 0; config->serial && config->serial[i] && i < sizeof(blk->serial); i++)
		blk->serial[i] = (u8)config->serial[i];
	vdev_init(&blk->vdev, &blk_type, config->name, &blk->config, sizeof(blk->config), p.queues,
		  config->n_queues);
	blk->vdev.writable[0] = (struct vdev_writable){
		.offset = offsetof(struct virtio_blk_config, writeback),
		.n_bytes = sizeof(blk->config.writeback),
		.is_setting = true,
	};
	describe(blk, config);
	measure(blk);
	for (u16 i = 0; i < config->n_queues; i++)
		init_queue(&blk->queues[i], blk, i, &p);

	s->owner = blk;
	s->batch_end = batch_end;
	s->resized = resized;
	return &blk->vdev;
}

const struct device_blk_stats *device_blk_stats(const struct vdev *vdev)
{
	return &container_of(vdev, const struct blk, vdev)->stats;
}
