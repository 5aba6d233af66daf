/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The block device on the wire (VIRTIO 1.4, 5.2).
 *
 * A request is a chain of: header (16 bytes, out), data (out or in), status (1 byte, the last
 * of in). All sectors are of 512 bytes, whatever blk_size says. Erasing, lifetime and zones are
 * listed for completeness of the configuration; our devices do not offer them.
 */
#ifndef VIADUCT_SPEC_BLK_H
#define VIADUCT_SPEC_BLK_H

#include "base/types.h"

/* Feature bits by number. */
#define VIRTIO_BLK_F_BARRIER 0 /* legacy */
#define VIRTIO_BLK_F_SIZE_MAX 1
#define VIRTIO_BLK_F_SEG_MAX 2
#define VIRTIO_BLK_F_GEOMETRY 4
#define VIRTIO_BLK_F_RO 5
#define VIRTIO_BLK_F_BLK_SIZE 6
#define VIRTIO_BLK_F_SCSI 7 /* legacy */
#define VIRTIO_BLK_F_FLUSH 9
#define VIRTIO_BLK_F_TOPOLOGY 10
#define VIRTIO_BLK_F_CONFIG_WCE 11
#define VIRTIO_BLK_F_MQ 12
#define VIRTIO_BLK_F_DISCARD 13
#define VIRTIO_BLK_F_WRITE_ZEROES 14
#define VIRTIO_BLK_F_LIFETIME 15
#define VIRTIO_BLK_F_SECURE_ERASE 16
#define VIRTIO_BLK_F_ZONED 17

#define VIRTIO_BLK_SECTOR_BITS 9
#define VIRTIO_BLK_SECTOR_BYTES (1u << VIRTIO_BLK_SECTOR_BITS)

/* A field is there if the feature named behind it is offered; bytes without one read as 0. */
struct virtio_blk_config {
	le64 capacity; /* sectors */
	le32 size_max; /* SIZE_MAX: bytes in one segment */
	le32 seg_max; /* SEG_MAX: data segments in one request */
	struct {
		le16 cylinders;
		u8 heads;
		u8 sectors;
	} geometry; /* GEOMETRY */
	le32 blk_size; /* BLK_SIZE: bytes in one logical block */
	struct {
		u8 physical_block_exp; /* log2 of logical blocks in a physical one */
		u8 alignment_offset; /* logical blocks before the first aligned one */
		le16 min_io_size; /* logical blocks */
		le32 opt_io_size; /* logical blocks */
	} topology; /* TOPOLOGY */
	u8 writeback; /* CONFIG_WCE: 0 write-through, 1 write-back; the driver may write it */
	u8 unused0;
	le16 num_queues; /* MQ */
	le32 max_discard_sectors; /* DISCARD, three fields */
	le32 max_discard_seg;
	le32 discard_sector_alignment; /* sectors */
	le32 max_write_zeroes_sectors; /* WRITE_ZEROES, three fields */
	le32 max_write_zeroes_seg;
	u8 write_zeroes_may_unmap;
	u8 unused1[3];
	le32 max_secure_erase_sectors; /* SECURE_ERASE, three fields */
	le32 max_secure_erase_seg;
	le32 secure_erase_sector_alignment;
	struct {
		le32 zone_sectors;
		le32 max_open_zones;
		le32 max_active_zones;
		le32 max_append_sectors;
		le32 write_granularity;
		u8 model;
		u8 unused2[3];
	} zoned; /* ZONED */
};
SIZE_IS(struct virtio_blk_config, 96);
OFFSET_IS(struct virtio_blk_config, blk_size, 20);
OFFSET_IS(struct virtio_blk_config, writeback, 32);
OFFSET_IS(struct virtio_blk_config, max_discard_sectors, 36);
OFFSET_IS(struct virtio_blk_config, write_zeroes_may_unmap, 56);
OFFSET_IS(struct virtio_blk_config, zoned, 72);

struct virtio_blk_header {
	le32 type;
	le32 reserved;
	le64 sector;
};
SIZE_IS(struct virtio_blk_header, 16);

#define VIRTIO_BLK_T_IN 0
#define VIRTIO_BLK_T_OUT 1
#define VIRTIO_BLK_T_SCSI_CMD 2 /* legacy */
#define VIRTIO_BLK_T_SCSI_CMD_OUT 3 /* legacy */
#define VIRTIO_BLK_T_FLUSH 4
#define VIRTIO_BLK_T_FLUSH_OUT 5 /* legacy */
#define VIRTIO_BLK_T_GET_ID 8
#define VIRTIO_BLK_T_GET_LIFETIME 10
#define VIRTIO_BLK_T_DISCARD 11
#define VIRTIO_BLK_T_WRITE_ZEROES 13
#define VIRTIO_BLK_T_SECURE_ERASE 14
#define VIRTIO_BLK_T_ZONE_APPEND 15
#define VIRTIO_BLK_T_ZONE_REPORT 16
#define VIRTIO_BLK_T_ZONE_OPEN 18
#define VIRTIO_BLK_T_ZONE_CLOSE 20
#define VIRTIO_BLK_T_ZONE_FINISH 22
#define VIRTIO_BLK_T_ZONE_RESET 24
#define VIRTIO_BLK_T_ZONE_RESET_ALL 26
#define VIRTIO_BLK_T_BARRIER 0x80000000u /* legacy */

#define VIRTIO_BLK_S_OK 0
#define VIRTIO_BLK_S_IOERR 1
#define VIRTIO_BLK_S_UNSUPP 2

/* What GET_ID answers; ends with a 0 byte only if it is shorter. */
#define VIRTIO_BLK_ID_BYTES 20

/* The data of DISCARD and WRITE_ZEROES: an array of these. */
struct virtio_blk_discard_write_zeroes {
	le64 sector;
	le32 num_sectors;
	le32 flags;
};
SIZE_IS(struct virtio_blk_discard_write_zeroes, 16);

#define VIRTIO_BLK_WRITE_ZEROES_F_UNMAP 1u /* bit 0 of flags */

#endif
