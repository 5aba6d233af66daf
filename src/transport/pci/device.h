/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A back end as a PCI function: what a monitor puts on its bus.
 *
 * The monitor hands each access to configuration space or to the BAR here, and gets messages and
 * the level of INTx back. Any access has a defined answer, whatever its width and place (cases
 * G15 to G23): what no rule allows reads as all ones in configuration space and as zeroes in the
 * BAR, and is dropped when written.
 *
 *   BAR 0, 64 bits, prefetchable, 32 KiB: a page each for
 *     0x0000 common    0x1000 ISR           0x2000 device configuration
 *     0x3000 notify    0x4000 MSI-X table   0x5000 MSI-X pending bits
 */
#ifndef VIADUCT_TRANSPORT_PCI_DEVICE_H
#define VIADUCT_TRANSPORT_PCI_DEVICE_H

#include "device/vdev.h"
#include "spec/pci.h"

#define PCI_DEVICE_MAX_QUEUES 128
#define PCI_DEVICE_BAR_BYTES 0x8000u

struct pci_device_env;

/*
 * All that the function does to its bus. May be called from within any function of this file, or
 * of device/vdev.h; must not call back into them.
 */
struct pci_device_env_ops {
	void (*message)(struct pci_device_env *env, u64 address, u32 data); /* MSI-X */
	void (*intx)(struct pci_device_env *env, bool level); /* on changes only */
	/* A look at a queue ended with work left (G38): call pci_device_work soon. */
	void (*again)(struct pci_device_env *env);
};
struct pci_device_env {
	const struct pci_device_env_ops *ops;
};

/* What the driver wrote of a queue. */
struct pci_device_queue {
	u16 size, vector;
	u64 desc, driver, device;
	bool again;
};

struct pci_device {
	struct vdev *vdev;
	struct vdev_link link;
	struct pci_device_env *env;

	u8 config[PCI_CONFIG_BYTES];
	u8 writable[PCI_CONFIG_BYTES]; /* a bit that is set here can be written there */

	u32 device_feature_select, driver_feature_select;
	u16 queue_select;
	u16 config_vector;
	bool ring_reset; /* VIRTIO_F_RING_RESET was accepted: the transport's affair, not vdev's */
	struct pci_device_queue queues[PCI_DEVICE_MAX_QUEUES];

	u8 isr;
	bool level; /* of INTx, as last told to the environment */
	u16 n_vectors;
	struct pci_msix_entry table[PCI_DEVICE_MAX_QUEUES + 1];
	le64 pending[(PCI_DEVICE_MAX_QUEUES + 1 + 63) / 64];
};

/* Joins `vdev`, which has at most PCI_DEVICE_MAX_QUEUES queues and nobody connected. */
void pci_device_init(struct pci_device *p, struct vdev *vdev, struct pci_device_env *env);

/* Resets the device and parts the two. */
void pci_device_fini(struct pci_device *p);

/* The reset of the bus: everything as after pci_device_init. */
void pci_device_reset(struct pci_device *p);

/* Configuration space: 1, 2 or 4 bytes, aligned. */
u32 pci_device_config_read(struct pci_device *p, u32 offset, u32 n_bytes);
void pci_device_config_write(struct pci_device *p, u32 offset, u32 n_bytes, u32 value);

/*
 * The BAR: 1, 2, 4 or 8 bytes, aligned. With memory space switched off in the command register
 * nothing answers: all ones.
 */
u64 pci_device_bar_read(struct pci_device *p, u32 bar, u64 offset, u32 n_bytes);
void pci_device_bar_write(struct pci_device *p, u32 bar, u64 offset, u32 n_bytes, u64 value);

/* Where the driver put the BAR; where a monitor has to listen. */
u64 pci_device_bar_address(const struct pci_device *p);

/* Looks once more at the queues that asked for it. */
void pci_device_work(struct pci_device *p);

#endif
