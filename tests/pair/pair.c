/* SPDX-License-Identifier: BSD-3-Clause */
#include "tests/pair/pair.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

/* ---- in one process -------------------------------------------------------------------- */

static void link_start(struct pair *p)
{
	struct inproc *link = malloc(sizeof(*link));

	assert_non_null(link);
	inproc_init(link, p->back, &p->memory, p->seed);
	p->link = link;
	p->front = &link->front;
}

static void link_stop(struct pair *p)
{
	inproc_fini(p->link);
	free(p->link);
}

static bool link_step(struct pair *p)
{
	return inproc_step(p->link);
}

static void link_cut(struct pair *p)
{
	inproc_cut(p->link);
}

static int link_join(struct pair *p)
{
	return inproc_join(p->link);
}

static const struct pair_transport pair_inproc = {
	.name = "inproc",
	.start = link_start,
	.stop = link_stop,
	.step = link_step,
	.cut = link_cut,
	.join = link_join,
};

static const struct pair_transport *const transports[] = {
	&pair_inproc,
	&pair_mmio,
	&pair_pci,
	&pair_vhost_user,
};

/* ---- memory that is not coherent -------------------------------------------------------- */

struct pair_copy {
	struct pair_copy *next;
	void *original, *copy;
	u64 addr;
};

static u64 bounce_map(struct dma *dma, void *ptr, size_t n_bytes, enum dma_dir dir)
{
	struct pair *p = container_of(dma, struct pair, bounce);
	struct platform *platform = &p->memory.platform;
	struct pair_copy *c = malloc(sizeof(*c));

	assert_non_null(c);
	c->original = ptr;
	c->copy = platform->ops->dma_alloc(platform, n_bytes, 16, &c->addr);
	if (!c->copy) {
		free(c);
		return DMA_MAP_FAILED;
	}
	if (dir == DMA_TO_DEVICE)
		memcpy(c->copy, ptr, n_bytes);
	else
		memset(c->copy, 0xb0, n_bytes);
	c->next = p->copies;
	p->copies = c;
	p->memory.n_mapped++;
	return c->addr;
}

static void bounce_unmap(struct dma *dma, u64 addr, size_t n_bytes, enum dma_dir dir)
{
	struct pair *p = container_of(dma, struct pair, bounce);
	struct platform *platform = &p->memory.platform;
	struct pair_copy **link = &p->copies, *c;

	while (*link && (*link)->addr != addr)
		link = &(*link)->next;
	c = *link;
	assert_non_null(c);
	*link = c->next;
	if (dir == DMA_FROM_DEVICE)
		memcpy(c->original, c->copy, n_bytes);
	platform->ops->dma_free(platform, c->copy, n_bytes);
	free(c);
	p->memory.n_mapped--;
}

static const struct dma_ops bounce_ops = { bounce_map, bounce_unmap };

/* ---- combinations ---------------------------------------------------------------------- */

unsigned int pair_n_combinations(void)
{
	return 16 * ARRAY_SIZE(transports);
}

struct pair_options pair_combination(unsigned int i)
{
	return (struct pair_options){ transports[i / 16], i & 1, i & 2, i & 4, i & 8 };
}

const char *pair_describe(const struct pair_options *o)
{
	static char text[80];

	snprintf(text, sizeof(text), "%s, %s%s%s%s", o->transport->name,
		 o->packed ? "packed" : "split", o->event_idx ? ", event idx" : "",
		 o->indirect ? ", indirect" : "", o->bounce ? ", bounced" : "");
	return text;
}

/* ---- pairs ----------------------------------------------------------------------------- */

static void pair_relax(void *arg)
{
	struct pair *p = arg;

	/* Not virtio_poll: whoever waits calls it. */
	if (!p->options.transport->step(p) && p->world)
		p->world(p->world_arg);
}

static void offer(struct vdev *back, unsigned int bit, bool on)
{
	on ? features_set(&back->offered, bit) : features_clear(&back->offered, bit);
}

void pair_start(struct pair *p, const struct pair_options *o, struct vdev *back, u64 seed)
{
	void *ram;

	*p = (struct pair){ .options = *o, .back = back, .seed = seed };
	p->ram_fd = memfd_create("pair", MFD_CLOEXEC);
	assert_true(p->ram_fd >= 0);
	assert_int_equal(ftruncate(p->ram_fd, PAIR_RAM_BYTES), 0);
	ram = mmap(NULL, PAIR_RAM_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, p->ram_fd, 0);
	assert_ptr_not_equal(ram, MAP_FAILED);
	inproc_platform_init(&p->memory, ram, PAIR_RAM_BYTES);
	p->bounce.ops = &bounce_ops;
	if (o->bounce)
		p->memory.platform.dma = &p->bounce;
	p->memory.relax = pair_relax;
	p->memory.relax_arg = p;

	offer(back, VIRTIO_F_RING_PACKED, o->packed);
	offer(back, VIRTIO_F_EVENT_IDX, o->event_idx);
	offer(back, VIRTIO_F_INDIRECT_DESC, o->indirect);
	o->transport->start(p);
	assert_int_equal(register_virtio_device(p->front), 0);
	assert_int_equal(p->front->state, VIRTIO_STATE_LIVE);
	assert_int_equal(virtio_has_feature(p->front, VIRTIO_F_RING_PACKED), o->packed);
	assert_int_equal(virtio_has_feature(p->front, VIRTIO_F_EVENT_IDX), o->event_idx);
	assert_int_equal(virtio_has_feature(p->front, VIRTIO_F_INDIRECT_DESC), o->indirect);
}

void pair_stop(struct pair *p)
{
	p->options.transport->stop(p);
	assert_int_equal(p->memory.n_mapped, 0);
	munmap(p->memory.ram, PAIR_RAM_BYTES);
	close(p->ram_fd);
}

void *pair_alloc(struct pair *p, size_t n_bytes)
{
	struct platform *platform = &p->memory.platform;
	u64 addr;
	void *mem = platform->ops->dma_alloc(platform, n_bytes, 64, &addr);

	assert_non_null(mem);
	return mem;
}

bool pair_step(struct pair *p)
{
	return p->options.transport->step(p) || (p->world && p->world(p->world_arg)) ||
	       virtio_poll();
}

void pair_settle(struct pair *p)
{
	while (pair_step(p))
		;
}
