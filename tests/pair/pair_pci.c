/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * PCI as a transport for pairs: our driver end and our device end, register accesses handed
 * straight from one to the other, but for doorbells: these, messages, the level of INTx and
 * further looks wait until a seeded step picks them. The seed also says how the driver is to be interrupted, so that a run
 * over all combinations sees each way.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/pair/pair.h"
#include "tests/support/rig.h"
#include "transport/pci/device.h"
#include "transport/pci/driver.h"

#define DOORBELL 0xfee01000ull /* where messages are written to */
#define MAX_VECTORS (PCI_DEVICE_MAX_QUEUES + 1)

struct bus {
	struct pair *pair;
	struct pci_device back;
	struct pci_device_env env;
	struct pci_front front;
	struct pci_access access;
	struct memory map;
	struct memory_region region;
	u64 random;
	bool gone; /* the card was pulled */
	bool level, again;
	bool message[MAX_VECTORS], doorbell[PCI_DEVICE_MAX_QUEUES]; /* noted, not delivered */
};

static struct bus *bus_of(struct pci_access *a)
{
	return container_of(a, struct bus, access);
}

/* ---- the driver's bus -------------------------------------------------------------------- */

static u32 bus_config_read(struct pci_access *a, u32 offset, u32 n_bytes)
{
	struct bus *bus = bus_of(a);

	return bus->gone ? UINT32_MAX : pci_device_config_read(&bus->back, offset, n_bytes);
}

static void bus_config_write(struct pci_access *a, u32 offset, u32 n_bytes, u32 value)
{
	struct bus *bus = bus_of(a);

	if (!bus->gone)
		pci_device_config_write(&bus->back, offset, n_bytes, value);
}

static u32 bus_bar_read(struct pci_access *a, u32 bar, u64 offset, u32 n_bytes)
{
	struct bus *bus = bus_of(a);

	return bus->gone ? UINT32_MAX : pci_device_bar_read(&bus->back, bar, offset, n_bytes);
}

static void bus_bar_write(struct pci_access *a, u32 bar, u64 offset, u32 n_bytes, u32 value)
{
	struct bus *bus = bus_of(a);

	if (bus->gone)
		return;
	if (offset >= bus->front.notify.offset &&
	    offset - bus->front.notify.offset < bus->front.notify.n_bytes) {
		assert_int_equal(n_bytes, 2);
		assert_in_range(value, 0, bus->pair->back->n_queues - 1);
		bus->doorbell[value] = true;
	} else {
		pci_device_bar_write(&bus->back, bar, offset, n_bytes, value);
	}
}

static int bus_message(struct pci_access *a, u16 vector, u64 *address, u32 *data)
{
	*address = DOORBELL;
	*data = 0x4000 + vector;
	return 0;
}

static const struct pci_access_ops access_ops = {
	bus_config_read, bus_config_write, bus_bar_read, bus_bar_write, bus_message,
};

/* ---- the device's bus -------------------------------------------------------------------- */

static void env_message(struct pci_device_env *env, u64 address, u32 data)
{
	struct bus *bus = container_of(env, struct bus, env);

	assert_int_equal(address, DOORBELL);
	assert_in_range(data, 0x4000, 0x4000 + MAX_VECTORS - 1);
	bus->message[data - 0x4000] = true;
}

static void env_intx(struct pci_device_env *env, bool level)
{
	container_of(env, struct bus, env)->level = level;
}

static void env_again(struct pci_device_env *env)
{
	container_of(env, struct bus, env)->again = true;
}

static const struct pci_device_env_ops env_ops = { env_message, env_intx, env_again };

/* ---- the pair ---------------------------------------------------------------------------- */

static void pci_start(struct pair *p)
{
	static const u16 max_vectors[] = { MAX_VECTORS, 2, 1, 0, 0 };
	struct bus *bus = calloc(1, sizeof(*bus));
	u32 way = p->seed % ARRAY_SIZE(max_vectors);

	assert_non_null(bus);
	bus->pair = p;
	bus->random = p->seed;
	bus->env.ops = &env_ops;
	bus->access = (struct pci_access){
		.ops = &access_ops,
		.max_vectors = max_vectors[way],
		.intx = way == 3,
	};
	bus->region = (struct memory_region){ INPROC_GPA, p->memory.n_bytes, p->memory.ram };
	assert_int_equal(memory_init(&bus->map, &bus->region, 1), 0);
	vdev_set_memory(p->back, &bus->map);
	pci_device_init(&bus->back, p->back, &bus->env);
	assert_int_equal(
		pci_front_init(&bus->front, &bus->access, &p->memory.platform, p->back->name), 0);
	assert_int_equal(bus->front.device.id.device, p->back->type->device_id);
	p->link = bus;
	p->front = &bus->front.device;
}

static void pci_stop(struct pair *p)
{
	struct bus *bus = p->link;

	unregister_virtio_device(p->front);
	pci_front_fini(&bus->front);
	pci_device_fini(&bus->back);
	vdev_set_memory(p->back, NULL);
	assert_int_equal(bus->map.n_pins, 1);
	free(bus);
}

static bool pci_step(struct pair *p)
{
	enum { LINE = MAX_VECTORS, AGAIN, BELLS, MAX_THINGS = BELLS + PCI_DEVICE_MAX_QUEUES };
	struct bus *bus = p->link;
	u32 things[MAX_THINGS], n = 0, thing;

	for (u32 v = 0; v < MAX_VECTORS; v++)
		if (bus->message[v])
			things[n++] = v;
	if (bus->level || (bus->front.interrupts == PCI_POLLED && bus->back.isr && !bus->gone))
		things[n++] = LINE;
	if (bus->again)
		things[n++] = AGAIN;
	for (u32 q = 0; q < PCI_DEVICE_MAX_QUEUES; q++)
		if (bus->doorbell[q])
			things[n++] = BELLS + q;
	if (n == 0)
		return false;
	thing = things[p->seed ? rig_random(&bus->random) % n : 0];
	if (thing >= BELLS) {
		bus->doorbell[thing - BELLS] = false;
		pci_device_bar_write(&bus->back, bus->front.notify.bar,
				     bus->front.notify_at[thing - BELLS], 2, thing - BELLS);
		return true;
	}
	switch (thing) {
	case LINE:
		assert_true(pci_front_intx(&bus->front));
		break;
	case AGAIN:
		bus->again = false;
		pci_device_work(&bus->back);
		break;
	default:
		bus->message[thing] = false;
		pci_front_message(&bus->front, thing);
	}
	return true;
}

static void pci_cut(struct pair *p)
{
	struct bus *bus = p->link;

	pci_device_reset(&bus->back);
	bus->gone = true;
	bus->again = false;
	memset(bus->message, 0, sizeof(bus->message));
	memset(bus->doorbell, 0, sizeof(bus->doorbell));
	virtio_device_gone(p->front);
}

static int pci_join(struct pair *p)
{
	struct bus *bus = p->link;

	bus->gone = false;
	return virtio_device_back(p->front);
}

const struct pair_transport pair_pci = {
	.name = "pci",
	.start = pci_start,
	.stop = pci_stop,
	.step = pci_step,
	.cut = pci_cut,
	.join = pci_join,
};
