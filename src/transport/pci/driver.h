/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A virtio device on PCI as its driver needs it: virtio_config_ops over a few accesses.
 *
 * Whoever finds the function (a bus scan) fills in a struct pci_access and calls pci_front_init,
 * then register_virtio_device(&front->device). Interrupts are the finder's to receive and to
 * hand on: pci_front_message for MSI-X, pci_front_intx for a line and for polling alike.
 *
 * What the function says of itself may be lies (cases D05 to D07): lists that bite their tail,
 * structures beyond their BAR, multipliers that overflow. They are passed over, or the device is
 * refused; nothing is ever touched outside what a BAR's size allows, and every wait ends.
 */
#ifndef VIADUCT_TRANSPORT_PCI_DRIVER_H
#define VIADUCT_TRANSPORT_PCI_DRIVER_H

#include "driver/virtio.h"
#include "spec/pci.h"

#define PCI_FRONT_MAX_QUEUES 128

struct pci_access;

/* `n_bytes` is 1, 2 or 4; places are aligned to it. A function that is not there reads all ones. */
struct pci_access_ops {
	u32 (*config_read)(struct pci_access *a, u32 offset, u32 n_bytes);
	void (*config_write)(struct pci_access *a, u32 offset, u32 n_bytes, u32 value);
	/* Within the BAR's size, as init finds it. Where it is mapped, if so, is the finder's. */
	u32 (*bar_read)(struct pci_access *a, u32 bar, u64 offset, u32 n_bytes);
	void (*bar_write)(struct pci_access *a, u32 bar, u64 offset, u32 n_bytes, u32 value);
	/* What to write where for pci_front_message(vector). 0 or -errno. NULL: no MSI-X here. */
	int (*message)(struct pci_access *a, u16 vector, u64 *address, u32 *data);
};
struct pci_access {
	const struct pci_access_ops *ops;
	u16 max_vectors; /* that this machine gives to the function; 0: no MSI-X */
	bool intx; /* the line is connected; false: somebody polls */
};

/* How notifications come. Each is tried when the one before cannot be had. */
enum pci_interrupts {
	PCI_VECTOR_PER_QUEUE, /* 0: configuration, 1 + i: queue i */
	PCI_VECTOR_SHARED, /* 0: configuration, 1: all queues */
	PCI_VECTOR_SINGLE, /* 0: everything */
	PCI_INTX,
	PCI_POLLED, /* pci_front_intx from time to time */
};

/* A structure that a capability describes; n_bytes 0: there is none. */
struct pci_window {
	u32 bar;
	u32 offset, n_bytes;
};

struct pci_front {
	struct virtio_device device;
	struct pci_access *access;
	u64 bar_bytes[PCI_N_BARS]; /* 0: none, or one of I/O ports */
	struct pci_window common, notify, isr, config, table;
	u32 notify_multiplier;
	u32 msix_at; /* the capability; 0: none */
	u16 n_table; /* vectors in the table */
	enum pci_interrupts interrupts;
	u16 n_queues; /* looked for by the driver */
	struct virtqueue *vqs[PCI_FRONT_MAX_QUEUES];
	u64 notify_at[PCI_FRONT_MAX_QUEUES]; /* within the BAR */
	u64 n_interrupts; /* for people */
};

/*
 * Looks at the function, sizes its BARs (which are as before afterwards) and reads its
 * capabilities. 0; -ENODEV: not a virtio device, or none that can be used; one line says why.
 */
int pci_front_init(struct pci_front *f, struct pci_access *access, struct platform *platform,
		   const char *name);

/* A message came. Numbers that were not given out are ignored. */
void pci_front_message(struct pci_front *f, u16 vector);

/* The line rose, or it is time to poll. False: it was not this device. */
bool pci_front_intx(struct pci_front *f);

/* The device is not to interrupt or use memory any more: after unregister_virtio_device. */
void pci_front_fini(struct pci_front *f);

#endif
