/* SPDX-License-Identifier: BSD-3-Clause */
/* The register window of a virtio-mmio device, version 2 (VIRTIO 1.4, 4.2.2). */
#ifndef VIADUCT_SPEC_MMIO_H
#define VIADUCT_SPEC_MMIO_H

#define VIRTIO_MMIO_MAGIC 0x74726976u /* "virt" */
#define VIRTIO_MMIO_VERSION 2
#define VIRTIO_MMIO_VERSION_LEGACY 1

/* All are 32 bits wide; R: read only, W: write only, RW: both. */
#define VIRTIO_MMIO_MAGIC_VALUE 0x000 /* R */
#define VIRTIO_MMIO_VERSION_REG 0x004 /* R */
#define VIRTIO_MMIO_DEVICE_ID 0x008 /* R; 0: nothing is there, and that is no error */
#define VIRTIO_MMIO_VENDOR_ID 0x00c /* R */
#define VIRTIO_MMIO_DEVICE_FEATURES 0x010 /* R */
#define VIRTIO_MMIO_DEVICE_FEATURES_SEL 0x014 /* W */
#define VIRTIO_MMIO_DRIVER_FEATURES 0x020 /* W */
#define VIRTIO_MMIO_DRIVER_FEATURES_SEL 0x024 /* W */
#define VIRTIO_MMIO_QUEUE_SEL 0x030 /* W */
#define VIRTIO_MMIO_QUEUE_SIZE_MAX 0x034 /* R; 0: there is no such queue */
#define VIRTIO_MMIO_QUEUE_SIZE 0x038 /* W */
#define VIRTIO_MMIO_QUEUE_READY 0x044 /* RW */
#define VIRTIO_MMIO_QUEUE_NOTIFY 0x050 /* W */
#define VIRTIO_MMIO_INTERRUPT_STATUS 0x060 /* R */
#define VIRTIO_MMIO_INTERRUPT_ACK 0x064 /* W */
#define VIRTIO_MMIO_STATUS 0x070 /* RW */
#define VIRTIO_MMIO_QUEUE_DESC_LOW 0x080 /* W, and so the five that follow */
#define VIRTIO_MMIO_QUEUE_DESC_HIGH 0x084
#define VIRTIO_MMIO_QUEUE_DRIVER_LOW 0x090
#define VIRTIO_MMIO_QUEUE_DRIVER_HIGH 0x094
#define VIRTIO_MMIO_QUEUE_DEVICE_LOW 0x0a0
#define VIRTIO_MMIO_QUEUE_DEVICE_HIGH 0x0a4
#define VIRTIO_MMIO_SHM_SEL 0x0ac /* W */
#define VIRTIO_MMIO_SHM_LEN_LOW 0x0b0 /* R; a region that is not there: all ones */
#define VIRTIO_MMIO_SHM_LEN_HIGH 0x0b4 /* R */
#define VIRTIO_MMIO_SHM_BASE_LOW 0x0b8 /* R */
#define VIRTIO_MMIO_SHM_BASE_HIGH 0x0bc /* R */
#define VIRTIO_MMIO_QUEUE_RESET 0x0c0 /* RW, with VIRTIO_F_RING_RESET */
#define VIRTIO_MMIO_CONFIG_GENERATION 0x0fc /* R */
#define VIRTIO_MMIO_CONFIG 0x100 /* the type's configuration, by its fields' widths */

/* Bits of InterruptStatus and InterruptACK. */
#define VIRTIO_MMIO_INT_USED 1u
#define VIRTIO_MMIO_INT_CONFIG 2u
#define VIRTIO_MMIO_INT_ALL (VIRTIO_MMIO_INT_USED | VIRTIO_MMIO_INT_CONFIG)

#endif
