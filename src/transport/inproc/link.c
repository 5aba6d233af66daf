/* SPDX-License-Identifier: BSD-3-Clause */
/* The in-process transport: virtio_config_ops on one side, vdev_* on the other. */
#include "transport/inproc/link.h"

#include "base/shared.h"

/* ---- the platform ----------------------------------------------------------------------- */

/* Before every block: how long it is, and the next one of those given back. */
struct block {
	size_t n_bytes;
	struct block *next;
	u8 pad[64 - sizeof(size_t) - sizeof(struct block *)]; /* 32-bit machines too */
};
SIZE_IS(struct block, 64);

#define GRAIN 64

static struct inproc_platform *inproc_of(struct platform *p)
{
	return container_of(p, struct inproc_platform, platform);
}

static void *block_take(struct inproc_platform *p, size_t n_bytes, size_t align)
{
	size_t rounded = (n_bytes + GRAIN - 1) & ~(size_t)(GRAIN - 1), at;
	struct block *b;

	for (struct block **link = (struct block **)&p->freed; *link; link = &(*link)->next) {
		b = *link;
		if (b->n_bytes != rounded || (uintptr_t)(b + 1) % align)
			continue;
		*link = b->next;
		memset(b + 1, 0, rounded);
		return b + 1;
	}
	at = p->used_bytes + sizeof(*b);
	at = (at + align - 1) & ~(align - 1);
	if (at > p->n_bytes || rounded > p->n_bytes - at)
		return NULL;
	p->used_bytes = at + rounded;
	b = (struct block *)(p->ram + at) - 1;
	b->n_bytes = rounded;
	memset(b + 1, 0, rounded);
	return b + 1;
}

static void *platform_alloc(struct platform *p, size_t n_bytes)
{
	return block_take(inproc_of(p), n_bytes, GRAIN);
}

static void platform_free(struct platform *p, void *mem, size_t n_bytes)
{
	struct block *b = (struct block *)mem - 1;

	b->next = inproc_of(p)->freed;
	inproc_of(p)->freed = b;
}

static void *platform_dma_alloc(struct platform *p, size_t n_bytes, size_t align, u64 *addr)
{
	void *mem = block_take(inproc_of(p), n_bytes, max_u64(align, GRAIN));

	if (mem)
		*addr = inproc_addr(inproc_of(p), mem);
	return mem;
}

static u64 platform_now_ns(struct platform *p)
{
	return inproc_of(p)->now_ns += 1000;
}

static void platform_relax(struct platform *p)
{
	struct inproc_platform *ip = inproc_of(p);

	ip->now_ns += 1000;
	if (ip->relax)
		ip->relax(ip->relax_arg);
}

static const struct platform_ops platform_ops = {
	.alloc = platform_alloc,
	.free = platform_free,
	.dma_alloc = platform_dma_alloc,
	.dma_free = platform_free,
	.now_ns = platform_now_ns,
	.relax = platform_relax,
};

static u64 inproc_map(struct dma *dma, void *ptr, size_t n_bytes, enum dma_dir dir)
{
	struct inproc_platform *p = container_of(dma, struct inproc_platform, dma);
	size_t at = (u8 *)ptr - p->ram;

	if (at >= p->n_bytes || n_bytes > p->n_bytes - at)
		return DMA_MAP_FAILED;
	p->n_mapped++;
	return INPROC_GPA + at;
}

static void inproc_unmap(struct dma *dma, u64 addr, size_t n_bytes, enum dma_dir dir)
{
	struct inproc_platform *p = container_of(dma, struct inproc_platform, dma);

	ASSERT(p->n_mapped > 0);
	p->n_mapped--;
}

static const struct dma_ops dma_ops = { inproc_map, inproc_unmap };

void inproc_platform_init(struct inproc_platform *p, void *ram, size_t n_bytes)
{
	ASSERT((uintptr_t)ram % 4096 == 0);
	*p = (struct inproc_platform){
		.platform.ops = &platform_ops,
		.dma.ops = &dma_ops,
		.ram = ram,
		.n_bytes = n_bytes,
	};
	p->platform.dma = &p->dma;
}

u64 inproc_addr(const struct inproc_platform *p, const void *ptr)
{
	return INPROC_GPA + (u64)((const u8 *)ptr - p->ram);
}

/* ---- the driver's end ------------------------------------------------------------------- */

static struct inproc *link_of(struct virtio_device *vdev)
{
	return container_of(vdev, struct inproc, front);
}

static void front_get(struct virtio_device *vdev, u32 offset, void *buf, u32 n_bytes)
{
	vdev_config_read(link_of(vdev)->back, offset, buf, n_bytes);
}

static void front_set(struct virtio_device *vdev, u32 offset, const void *buf, u32 n_bytes)
{
	if (!link_of(vdev)->cut)
		vdev_config_write(link_of(vdev)->back, offset, buf, n_bytes);
}

static u32 front_generation(struct virtio_device *vdev)
{
	return link_of(vdev)->back->config_generation;
}

static u8 front_get_status(struct virtio_device *vdev)
{
	return link_of(vdev)->back->status;
}

static void front_set_status(struct virtio_device *vdev, u8 status)
{
	if (!link_of(vdev)->cut)
		vdev_set_status(link_of(vdev)->back, status);
}

static int front_reset(struct virtio_device *vdev)
{
	struct inproc *link = link_of(vdev);

	vdev_reset(link->back);
	link->kicked = link->used = 0;
	link->config = false;
	return link->cut ? -ENODEV : 0;
}

static void front_get_features(struct virtio_device *vdev, struct features *offered)
{
	struct inproc *link = link_of(vdev);

	for (int i = 0; i < 2; i++)
		offered->word[i] = link->back->offered.word[i] & ~link->hidden.word[i];
	/* Not the device's affair: a queue that ends and begins is nothing new to it. */
	if (!features_has(&link->hidden, VIRTIO_F_RING_RESET))
		features_set(offered, VIRTIO_F_RING_RESET);
}

static int front_finalize_features(struct virtio_device *vdev)
{
	struct features devices = vdev->features;

	features_clear(&devices, VIRTIO_F_RING_RESET);
	vdev_set_features(link_of(vdev)->back, &devices);
	return 0;
}

static bool front_notify(struct virtqueue *vq)
{
	struct inproc *link = link_of(virtqueue_device(vq));

	if (link->cut)
		return false;
	link->kicked |= 1ull << vq->index;
	link->n_kicks++;
	return true;
}

static void front_del_vqs(struct virtio_device *vdev)
{
	struct inproc *link = link_of(vdev);

	for (u32 i = 0; i < INPROC_MAX_QUEUES; i++) {
		if (link->vqs[i])
			virtio_vq_destroy(vdev, link->vqs[i]);
		link->vqs[i] = NULL;
	}
}

static int front_enable_vq(struct virtio_device *vdev, struct virtqueue *vq)
{
	struct vdev *back = link_of(vdev)->back;
	struct virtqueue_addrs addrs = virtqueue_addrs(vq);
	struct devq_setup setup = {
		.size = vq->setup.size,
		.desc_gpa = addrs.desc,
		.driver_gpa = addrs.driver_area,
		.device_gpa = addrs.device_area,
	};
	int err = vdev_queue_start(back, vq->index, &setup, vdev_queue_position_start(back));

	if (err == 0)
		vdev_queue_enable(back, vq->index, true);
	return err;
}

static int front_reset_vq(struct virtio_device *vdev, struct virtqueue *vq)
{
	struct inproc *link = link_of(vdev);

	vdev_queue_enable(link->back, vq->index, false);
	vdev_queue_stop(link->back, vq->index);
	link->kicked &= ~(1ull << vq->index);
	link->used &= ~(1ull << vq->index); /* D-CORE-2.6.1.1.1-01 */
	return 0;
}

static int front_find_vq(struct inproc *link, u16 index, const struct virtqueue_info *info)
{
	struct virtqueue_addrs addrs;
	int err;

	if (index >= link->back->n_queues)
		return -ENOENT;
	err = virtio_vq_size(&link->front, info, link->back->queues[index].q.max_size);
	if (err < 0)
		return err;
	link->vqs[index] = virtio_vq_create(&link->front, index, err, info, front_notify, &addrs);
	return link->vqs[index] ? front_enable_vq(&link->front, link->vqs[index]) : -ENOMEM;
}

static int front_find_vqs(struct virtio_device *vdev, u32 n, struct virtqueue *vqs[],
			  const struct virtqueue_info infos[])
{
	struct inproc *link = link_of(vdev);

	ASSERT(n <= INPROC_MAX_QUEUES);
	for (u32 i = 0; i < n; i++) {
		int err = infos[i].absent ? 0 : front_find_vq(link, i, &infos[i]);

		if (err < 0) {
			vdev_reset(link->back); /* so that no queue is in use when it goes */
			front_del_vqs(vdev);
			return err;
		}
		vqs[i] = link->vqs[i];
	}
	return 0;
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

/* ---- the device's end ------------------------------------------------------------------- */

static void back_used(struct vdev_link *l, u16 queue)
{
	struct inproc *link = container_of(l, struct inproc, link);

	link->used |= 1ull << queue;
	link->n_interrupts++;
}

static void back_config(struct vdev_link *l)
{
	container_of(l, struct inproc, link)->config = true;
}

static void back_again(struct vdev_link *l, u16 queue)
{
	container_of(l, struct inproc, link)->kicked |= 1ull << queue;
}

static const struct vdev_link_ops back_ops = { back_used, back_config, back_again };

/* ---- between the two -------------------------------------------------------------------- */

void inproc_init(struct inproc *link, struct vdev *back, struct inproc_platform *memory, u64 seed)
{
	ASSERT(back->n_queues <= INPROC_MAX_QUEUES);
	*link = (struct inproc){
		.front = {
			.id = { back->type->device_id, 0 },
			.config = &front_ops,
			.platform = &memory->platform,
			.name = back->name,
		},
		.back = back,
		.link.ops = &back_ops,
		.memory = memory,
		.region = { INPROC_GPA, memory->n_bytes, memory->ram },
		.random = seed,
	};
	ASSERT(memory_init(&link->map, &link->region, 1) == 0);
	vdev_set_link(back, &link->link);
	vdev_set_memory(back, &link->map);
}

/* Of the bits set, one: the lowest, or one that the seed picks. */
static u32 pick(struct inproc *link, u64 bits)
{
	u32 n = 0, skip = 0;

	/* By hand: the compiler's own would be a call into its library. */
	for (u64 b = bits; b; b &= b - 1)
		n++;
	if (link->random) {
		/* xorshift: not secret, only varied and repeatable. */
		link->random ^= link->random << 13;
		link->random ^= link->random >> 7;
		link->random ^= link->random << 17;
		skip = link->random % n;
	}
	for (; skip > 0; skip--)
		bits &= bits - 1;
	return __builtin_ctzll(bits);
}

bool inproc_step(struct inproc *link)
{
	u64 kinds = (link->kicked ? 1 : 0) | (link->used ? 2 : 0) | (link->config ? 4 : 0);
	u32 queue;

	if (!kinds)
		return false;
	switch (pick(link, kinds)) {
	case 0:
		queue = pick(link, link->kicked);
		link->kicked &= ~(1ull << queue);
		vdev_kick(link->back, queue);
		break;
	case 1:
		queue = pick(link, link->used);
		link->used &= ~(1ull << queue);
		if (link->vqs[queue] && link->vqs[queue]->setup.callback)
			link->vqs[queue]->setup.callback(link->vqs[queue]);
		break;
	case 2:
		link->config = false;
		virtio_config_changed(&link->front);
		break;
	}
	return true;
}

void inproc_settle(struct inproc *link)
{
	while (inproc_step(link) || virtio_poll())
		;
}

void inproc_cut(struct inproc *link)
{
	link->cut = true;
	front_reset(&link->front); /* whoever goes away takes its hands off our memory */
	virtio_device_gone(&link->front);
}

int inproc_join(struct inproc *link)
{
	link->cut = false;
	return virtio_device_back(&link->front);
}

void inproc_fini(struct inproc *link)
{
	unregister_virtio_device(&link->front);
	vdev_reset(link->back);
	vdev_set_memory(link->back, NULL);
	vdev_set_link(link->back, NULL);
	ASSERT(link->map.n_pins == 1);
}
