/* SPDX-License-Identifier: BSD-3-Clause */
/* PCI on the wire, as far as virtio meets it (PCI 3.0, 6; VIRTIO 1.4, 4.1). */
#ifndef VIADUCT_SPEC_PCI_H
#define VIADUCT_SPEC_PCI_H

#include "base/types.h"

/* Configuration space of a type 0 function. */
#define PCI_CONFIG_BYTES 256
#define PCI_VENDOR_ID 0x00
#define PCI_DEVICE_ID 0x02
#define PCI_COMMAND 0x04
#define PCI_STATUS 0x06
#define PCI_REVISION_ID 0x08
#define PCI_CLASS_PROG 0x09
#define PCI_CLASS_SUB 0x0a
#define PCI_CLASS_BASE 0x0b
#define PCI_BAR(n) (0x10 + 4 * (n))
#define PCI_SUBSYSTEM_VENDOR_ID 0x2c
#define PCI_SUBSYSTEM_ID 0x2e
#define PCI_CAPABILITIES 0x34
#define PCI_INTERRUPT_LINE 0x3c
#define PCI_INTERRUPT_PIN 0x3d
#define PCI_FIRST_CAPABILITY 0x40 /* none lies before */

#define PCI_N_BARS 6

#define PCI_COMMAND_MEMORY 0x0002
#define PCI_COMMAND_MASTER 0x0004
#define PCI_COMMAND_INTX_DISABLE 0x0400
#define PCI_STATUS_INTERRUPT 0x0008
#define PCI_STATUS_CAPABILITIES 0x0010

#define PCI_BAR_IO 0x1
#define PCI_BAR_TYPE_MASK 0x6
#define PCI_BAR_64 0x4
#define PCI_BAR_PREFETCH 0x8
#define PCI_BAR_FLAGS 0xf

#define PCI_CAP_VENDOR 0x09
#define PCI_CAP_MSIX 0x11

struct pci_msix_cap {
	u8 id, next;
	le16 control;
	le32 table; /* offset; the lowest three bits: which BAR */
	le32 pending;
};
SIZE_IS(struct pci_msix_cap, 12);
#define PCI_MSIX_SIZE_MASK 0x07ff /* vectors minus one */
#define PCI_MSIX_FUNCTION_MASK 0x4000
#define PCI_MSIX_ENABLE 0x8000
#define PCI_MSIX_BAR_MASK 0x7

struct pci_msix_entry {
	le32 address_low, address_high;
	le32 data;
	le32 control;
};
SIZE_IS(struct pci_msix_entry, 16);
#define PCI_MSIX_ENTRY_MASKED 0x1

/* Virtio's part. */
#define VIRTIO_PCI_VENDOR 0x1af4
#define VIRTIO_PCI_DEVICE_BASE 0x1040 /* plus the device id */
#define VIRTIO_PCI_DEVICE_LAST 0x107f
#define VIRTIO_PCI_TRANSITIONAL_BASE 0x1000
#define VIRTIO_PCI_TRANSITIONAL_LAST 0x103f

#define VIRTIO_PCI_CAP_COMMON_CFG 1
#define VIRTIO_PCI_CAP_NOTIFY_CFG 2
#define VIRTIO_PCI_CAP_ISR_CFG 3
#define VIRTIO_PCI_CAP_DEVICE_CFG 4
#define VIRTIO_PCI_CAP_PCI_CFG 5
#define VIRTIO_PCI_CAP_SHARED_MEMORY_CFG 8
#define VIRTIO_PCI_CAP_VENDOR_CFG 9

struct virtio_pci_cap {
	u8 cap_vndr, cap_next, cap_len;
	u8 cfg_type;
	u8 bar;
	u8 id;
	u8 padding[2];
	le32 offset, length;
};
SIZE_IS(struct virtio_pci_cap, 16);

struct virtio_pci_notify_cap {
	struct virtio_pci_cap cap;
	le32 notify_off_multiplier;
};
SIZE_IS(struct virtio_pci_notify_cap, 20);

struct virtio_pci_cfg_cap {
	struct virtio_pci_cap cap;
	u8 pci_cfg_data[4];
};
SIZE_IS(struct virtio_pci_cfg_cap, 20);

struct virtio_pci_common_cfg {
	le32 device_feature_select, device_feature;
	le32 driver_feature_select, driver_feature;
	le16 config_msix_vector;
	le16 num_queues;
	u8 device_status;
	u8 config_generation;
	le16 queue_select;
	/* Of the queue selected. */
	le16 queue_size;
	le16 queue_msix_vector;
	le16 queue_enable;
	le16 queue_notify_off;
	le64 queue_desc, queue_driver, queue_device;
	le16 queue_notif_config_data;
	le16 queue_reset;
	le16 admin_queue_index, admin_queue_num;
};
SIZE_IS(struct virtio_pci_common_cfg, 64);
OFFSET_IS(struct virtio_pci_common_cfg, queue_select, 22);
OFFSET_IS(struct virtio_pci_common_cfg, queue_device, 48);
#define VIRTIO_PCI_COMMON_LEAST 56 /* what every version since 1.0 has */

#define VIRTIO_MSI_NO_VECTOR 0xffff

#define VIRTIO_PCI_ISR_QUEUE 0x1
#define VIRTIO_PCI_ISR_CONFIG 0x2

#endif
