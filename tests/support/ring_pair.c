/* SPDX-License-Identifier: BSD-3-Clause */
/* Memory, addresses and set-up for a driver half and a device half; see the header. */
#include "tests/support/ring_pair.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/support/rig.h"

u64 ring_pair_gpa(u32 at)
{
	return at < PAIR_LOW_BYTES ? PAIR_GPA_LOW + at : PAIR_GPA_HIGH + at - PAIR_LOW_BYTES;
}

static u64 pair_map(struct dma *dma, void *ptr, size_t n_bytes, enum dma_dir dir)
{
	struct ring_pair *p = container_of(dma, struct ring_pair, dma);
	size_t at = (u8 *)ptr - p->ram;

	ASSERT((u8 *)ptr >= p->ram && n_bytes > 0);
	ASSERT(at <= PAIR_RAM_BYTES && n_bytes <= PAIR_RAM_BYTES - at);
	ASSERT(at >= PAIR_LOW_BYTES || n_bytes <= PAIR_LOW_BYTES - at);
	if (p->map_failures && rig_random(&p->map_failures) % 64 == 0)
		return DMA_MAP_FAILED;
	p->n_mapped++;
	return ring_pair_gpa(at);
}

static void pair_unmap(struct dma *dma, u64 addr, size_t n_bytes, enum dma_dir dir)
{
	struct ring_pair *p = container_of(dma, struct ring_pair, dma);

	ASSERT(p->n_mapped > 0);
	p->n_mapped--;
}

static const struct dma_ops pair_dma_ops = { .map = pair_map, .unmap = pair_unmap };

static bool pair_notify(struct virtqueue *vq)
{
	struct ring_pair *p = container_of(vq, struct ring_pair, vq);

	p->n_notified++;
	p->device_awake = true;
	return true;
}

static u8 *view(int fd)
{
	/* A page that nobody may touch on either side. */
	u8 *whole =
		mmap(NULL, PAIR_RAM_BYTES + 8192, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	ASSERT(whole != MAP_FAILED);
	ASSERT(mmap(whole + 4096, PAIR_RAM_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
		    fd, 0) == whole + 4096);
	return whole + 4096;
}

void ring_pair_create(struct ring_pair *p, bool one_view)
{
	int fd = memfd_create("guest", MFD_CLOEXEC);
	const u32 cut[2] = { PAIR_FIRST_CUT, PAIR_SECOND_CUT };

	ASSERT(fd >= 0 && ftruncate(fd, PAIR_RAM_BYTES) == 0);
	memset(p, 0, sizeof(*p));
	p->ram = view(fd);
	p->device_ram = one_view ? p->ram : view(fd);
	close(fd);
	for (int i = 0; i < 2; i++) {
		struct memory_region *r = p->regions[i];

		r[0] = (struct memory_region){ PAIR_GPA_HIGH, PAIR_RAM_BYTES - PAIR_LOW_BYTES,
					       p->device_ram + PAIR_LOW_BYTES };
		r[1] = (struct memory_region){ PAIR_GPA_LOW + cut[i], PAIR_LOW_BYTES - cut[i],
					       p->device_ram + cut[i] };
		r[2] = (struct memory_region){ PAIR_GPA_LOW, cut[i], p->device_ram };
		ASSERT(memory_init(&p->memory[i], r, 3) == 0);
	}
	devq_init(&p->devq, PAIR_MAX_SIZE, p->in_flight);
}

void ring_pair_destroy(struct ring_pair *p)
{
	if (p->devq.live)
		devq_stop(&p->devq);
	ASSERT(p->memory[0].n_pins == 1 && p->memory[1].n_pins == 1);
	munmap(p->ram - 4096, PAIR_RAM_BYTES + 8192);
	if (p->device_ram != p->ram)
		munmap(p->device_ram - 4096, PAIR_RAM_BYTES + 8192);
}

void ring_pair_start_driver(struct ring_pair *p, const struct ring_pair_options *options)
{
	struct virtqueue_setup setup = {
		.size = options->size,
		.packed = options->packed,
		.event_idx = options->event_idx,
		.indirect = options->indirect,
		.desc = p->ram + PAIR_DESC_AT,
		.driver_area = p->ram + PAIR_DRIVER_AT,
		.device_area = p->ram + PAIR_DEVICE_AT,
		.slots = p->slots,
		.tables = (struct virtq_desc *)(void *)(p->ram + PAIR_TABLES_AT),
		.pieces = p->pieces,
		.max_indirect = PAIR_MAX_INDIRECT,
		.dma = &p->dma,
		.notify = pair_notify,
		.name = "pair",
	};

	p->options = *options;
	p->dma.ops = &pair_dma_ops;
	p->n_mapped = 0;
	p->map_failures = 0;
	memset(p->ram, 0, PAIR_DEVICE_AT + 0x1000);
	ASSERT(virtqueue_init(&p->vq, &setup) == 0);
	p->setup = (struct devq_setup){
		.size = options->size,
		.packed = options->packed,
		.event_idx = options->event_idx,
		.indirect = options->indirect,
		.desc_gpa = ring_pair_gpa(PAIR_DESC_AT),
		.driver_gpa = ring_pair_gpa(PAIR_DRIVER_AT),
		.device_gpa = ring_pair_gpa(PAIR_DEVICE_AT),
	};
}

void ring_pair_start(struct ring_pair *p, const struct ring_pair_options *options)
{
	if (p->devq.live)
		devq_stop(&p->devq);
	ring_pair_start_driver(p, options);
	ASSERT(devq_start(&p->devq, &p->setup, &p->memory[0],
			  options->packed ? DEVQ_POSITION_START_PACKED
					  : DEVQ_POSITION_START_SPLIT) == 0);
	p->device_awake = true;
}

struct ring_pair_options ring_pair_combination(unsigned int i, u16 size)
{
	return (struct ring_pair_options){ i & 1, i & 2, i & 4, size };
}
