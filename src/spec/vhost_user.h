/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The vhost-user protocol as it crosses its socket (QEMU, docs/interop/vhost-user.rst): a
 * front end (the monitor) sends requests, a back end (us) answers, descriptors ride along.
 *
 * Unlike virtio, the protocol is in the machine's byte order; both ends share a machine.
 */
#ifndef VIADUCT_SPEC_VHOST_USER_H
#define VIADUCT_SPEC_VHOST_USER_H

#include "base/types.h"

/* Front end to back end. */
#define VHOST_USER_GET_FEATURES 1
#define VHOST_USER_SET_FEATURES 2
#define VHOST_USER_SET_OWNER 3
#define VHOST_USER_RESET_OWNER 4
#define VHOST_USER_SET_MEM_TABLE 5
#define VHOST_USER_SET_LOG_BASE 6
#define VHOST_USER_SET_LOG_FD 7
#define VHOST_USER_SET_VRING_NUM 8
#define VHOST_USER_SET_VRING_ADDR 9
#define VHOST_USER_SET_VRING_BASE 10
#define VHOST_USER_GET_VRING_BASE 11
#define VHOST_USER_SET_VRING_KICK 12
#define VHOST_USER_SET_VRING_CALL 13
#define VHOST_USER_SET_VRING_ERR 14
#define VHOST_USER_GET_PROTOCOL_FEATURES 15
#define VHOST_USER_SET_PROTOCOL_FEATURES 16
#define VHOST_USER_GET_QUEUE_NUM 17
#define VHOST_USER_SET_VRING_ENABLE 18
#define VHOST_USER_SEND_RARP 19
#define VHOST_USER_NET_SET_MTU 20
#define VHOST_USER_SET_BACKEND_REQ_FD 21
#define VHOST_USER_IOTLB_MSG 22
#define VHOST_USER_SET_VRING_ENDIAN 23
#define VHOST_USER_GET_CONFIG 24
#define VHOST_USER_SET_CONFIG 25
#define VHOST_USER_CREATE_CRYPTO_SESSION 26
#define VHOST_USER_CLOSE_CRYPTO_SESSION 27
#define VHOST_USER_POSTCOPY_ADVISE 28
#define VHOST_USER_POSTCOPY_LISTEN 29
#define VHOST_USER_POSTCOPY_END 30
#define VHOST_USER_GET_INFLIGHT_FD 31
#define VHOST_USER_SET_INFLIGHT_FD 32
#define VHOST_USER_GPU_SET_SOCKET 33
#define VHOST_USER_RESET_DEVICE 34
#define VHOST_USER_VRING_KICK 35
#define VHOST_USER_GET_MAX_MEM_SLOTS 36
#define VHOST_USER_ADD_MEM_REG 37
#define VHOST_USER_REM_MEM_REG 38
#define VHOST_USER_SET_STATUS 39
#define VHOST_USER_GET_STATUS 40
#define VHOST_USER_N_REQUESTS 41

/* Back end to front end, on the socket that SET_BACKEND_REQ_FD brought. */
#define VHOST_USER_BACKEND_CONFIG_CHANGE_MSG 2

/* Protocol features by bit number. */
#define VHOST_USER_PROTOCOL_F_MQ 0
#define VHOST_USER_PROTOCOL_F_LOG_SHMFD 1
#define VHOST_USER_PROTOCOL_F_RARP 2
#define VHOST_USER_PROTOCOL_F_REPLY_ACK 3
#define VHOST_USER_PROTOCOL_F_MTU 4
#define VHOST_USER_PROTOCOL_F_BACKEND_REQ 5
#define VHOST_USER_PROTOCOL_F_CONFIG 9
#define VHOST_USER_PROTOCOL_F_RESET_DEVICE 13
#define VHOST_USER_PROTOCOL_F_CONFIGURE_MEM_SLOTS 15
#define VHOST_USER_PROTOCOL_F_STATUS 16

/* Offered as a virtio feature bit: there are protocol features to be negotiated. */
#define VHOST_USER_F_PROTOCOL_FEATURES 30
/* Guest writes are to be logged for migration; not offered here. */
#define VHOST_F_LOG_ALL 26

/* Flags of a message. */
#define VHOST_USER_VERSION_MASK 3
#define VHOST_USER_VERSION 1
#define VHOST_USER_FLAG_REPLY (1 << 2)
#define VHOST_USER_FLAG_NEED_REPLY (1 << 3)

struct vhost_user_header {
	u32 request;
	u32 flags;
	u32 n_bytes; /* of the payload */
};
SIZE_IS(struct vhost_user_header, 12);

#define VHOST_USER_MAX_FDS 8 /* in one message */
#define VHOST_USER_MAX_REGIONS 8 /* in one SET_MEM_TABLE */
#define VHOST_USER_MAX_CONFIG_BYTES 256

/* SET_VRING_NUM, _BASE, _ENABLE; GET_VRING_BASE both ways. */
struct vhost_user_vring_state {
	u32 index;
	u32 value;
};
SIZE_IS(struct vhost_user_vring_state, 8);

/* Addresses are the front end's own pointers. */
struct vhost_user_vring_addr {
	u32 index;
	u32 flags; /* bit 0: log used ring writes */
	u64 desc, used, avail, log;
};
SIZE_IS(struct vhost_user_vring_addr, 40);

#define VHOST_USER_VRING_ADDR_F_LOG 1

/* SET_VRING_KICK, _CALL, _ERR: one u64. */
#define VHOST_USER_VRING_INDEX_MASK 0xff
#define VHOST_USER_VRING_NO_FD (1 << 8)

struct vhost_user_region {
	u64 gpa;
	u64 n_bytes;
	u64 front_addr; /* the front end's own pointer */
	u64 mmap_offset;
};
SIZE_IS(struct vhost_user_region, 32);

struct vhost_user_mem_table {
	u32 n_regions;
	u32 padding;
	struct vhost_user_region regions[VHOST_USER_MAX_REGIONS];
};
SIZE_IS(struct vhost_user_mem_table, 8 + 8 * 32);

/* ADD_MEM_REG, REM_MEM_REG. */
struct vhost_user_mem_reg {
	u64 padding;
	struct vhost_user_region region;
};
SIZE_IS(struct vhost_user_mem_reg, 40);

struct vhost_user_config {
	u32 offset;
	u32 n_bytes;
	u32 flags;
	u8 bytes[VHOST_USER_MAX_CONFIG_BYTES];
};
SIZE_IS(struct vhost_user_config, 12 + 256);
#define VHOST_USER_CONFIG_HEADER_BYTES 12

union vhost_user_payload {
	u64 number;
	struct vhost_user_vring_state state;
	struct vhost_user_vring_addr addr;
	struct vhost_user_mem_table table;
	struct vhost_user_mem_reg reg;
	struct vhost_user_config config;
};

#endif
