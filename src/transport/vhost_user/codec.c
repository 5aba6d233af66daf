/* SPDX-License-Identifier: BSD-3-Clause */
/* Which messages exist, how long they are, and how many descriptors they bring: one table. */
#include "transport/vhost_user/codec.h"

#include "base/errno.h"
#include "base/shared.h"

enum fd_rule { FDS_NONE, FDS_ONE, FDS_ONE_OR_NONE, FDS_RING, FDS_TABLE };

#define EXACT(type) sizeof(type), sizeof(type)
#define STATE EXACT(struct vhost_user_vring_state)

static const struct {
	const char *name;
	u16 min_bytes, max_bytes;
	enum fd_rule fds;
} requests[VHOST_USER_N_REQUESTS] = {
	[VHOST_USER_GET_FEATURES] = { "GET_FEATURES", 0, 0, FDS_NONE },
	[VHOST_USER_SET_FEATURES] = { "SET_FEATURES", EXACT(u64), FDS_NONE },
	[VHOST_USER_SET_OWNER] = { "SET_OWNER", 0, 0, FDS_NONE },
	[VHOST_USER_RESET_OWNER] = { "RESET_OWNER", 0, 0, FDS_NONE },
	/* Some front ends send room for 8 regions however many there are. */
	[VHOST_USER_SET_MEM_TABLE] = { "SET_MEM_TABLE", 8, sizeof(struct vhost_user_mem_table),
				       FDS_TABLE },
	[VHOST_USER_SET_LOG_BASE] = { "SET_LOG_BASE", 8, 16, FDS_ONE_OR_NONE },
	[VHOST_USER_SET_LOG_FD] = { "SET_LOG_FD", 0, 8, FDS_ONE_OR_NONE },
	[VHOST_USER_SET_VRING_NUM] = { "SET_VRING_NUM", STATE, FDS_NONE },
	[VHOST_USER_SET_VRING_ADDR] = { "SET_VRING_ADDR", EXACT(struct vhost_user_vring_addr),
					FDS_NONE },
	[VHOST_USER_SET_VRING_BASE] = { "SET_VRING_BASE", STATE, FDS_NONE },
	[VHOST_USER_GET_VRING_BASE] = { "GET_VRING_BASE", STATE, FDS_NONE },
	[VHOST_USER_SET_VRING_KICK] = { "SET_VRING_KICK", EXACT(u64), FDS_RING },
	[VHOST_USER_SET_VRING_CALL] = { "SET_VRING_CALL", EXACT(u64), FDS_RING },
	[VHOST_USER_SET_VRING_ERR] = { "SET_VRING_ERR", EXACT(u64), FDS_RING },
	[VHOST_USER_GET_PROTOCOL_FEATURES] = { "GET_PROTOCOL_FEATURES", 0, 0, FDS_NONE },
	[VHOST_USER_SET_PROTOCOL_FEATURES] = { "SET_PROTOCOL_FEATURES", EXACT(u64), FDS_NONE },
	[VHOST_USER_GET_QUEUE_NUM] = { "GET_QUEUE_NUM", 0, 0, FDS_NONE },
	[VHOST_USER_SET_VRING_ENABLE] = { "SET_VRING_ENABLE", STATE, FDS_NONE },
	[VHOST_USER_SEND_RARP] = { "SEND_RARP", EXACT(u64), FDS_NONE },
	[VHOST_USER_NET_SET_MTU] = { "NET_SET_MTU", EXACT(u64), FDS_NONE },
	[VHOST_USER_SET_BACKEND_REQ_FD] = { "SET_BACKEND_REQ_FD", 0, 8, FDS_ONE },
	[VHOST_USER_IOTLB_MSG] = { "IOTLB_MSG", 32, 40, FDS_NONE },
	[VHOST_USER_SET_VRING_ENDIAN] = { "SET_VRING_ENDIAN", STATE, FDS_NONE },
	[VHOST_USER_GET_CONFIG] = { "GET_CONFIG", VHOST_USER_CONFIG_HEADER_BYTES,
				    sizeof(struct vhost_user_config), FDS_NONE },
	[VHOST_USER_SET_CONFIG] = { "SET_CONFIG", VHOST_USER_CONFIG_HEADER_BYTES,
				    sizeof(struct vhost_user_config), FDS_NONE },
	[VHOST_USER_CREATE_CRYPTO_SESSION] = { "CREATE_CRYPTO_SESSION", 0, 256, FDS_NONE },
	[VHOST_USER_CLOSE_CRYPTO_SESSION] = { "CLOSE_CRYPTO_SESSION", 0, 256, FDS_NONE },
	[VHOST_USER_POSTCOPY_ADVISE] = { "POSTCOPY_ADVISE", 0, 8, FDS_NONE },
	[VHOST_USER_POSTCOPY_LISTEN] = { "POSTCOPY_LISTEN", 0, 8, FDS_NONE },
	[VHOST_USER_POSTCOPY_END] = { "POSTCOPY_END", 0, 8, FDS_NONE },
	[VHOST_USER_GET_INFLIGHT_FD] = { "GET_INFLIGHT_FD", 0, 24, FDS_NONE },
	[VHOST_USER_SET_INFLIGHT_FD] = { "SET_INFLIGHT_FD", 0, 24, FDS_ONE },
	[VHOST_USER_GPU_SET_SOCKET] = { "GPU_SET_SOCKET", 0, 8, FDS_ONE },
	[VHOST_USER_RESET_DEVICE] = { "RESET_DEVICE", 0, 0, FDS_NONE },
	[VHOST_USER_VRING_KICK] = { "VRING_KICK", STATE, FDS_NONE },
	[VHOST_USER_GET_MAX_MEM_SLOTS] = { "GET_MAX_MEM_SLOTS", 0, 0, FDS_NONE },
	[VHOST_USER_ADD_MEM_REG] = { "ADD_MEM_REG", EXACT(struct vhost_user_mem_reg), FDS_ONE },
	/* Some front ends pass a descriptor here too; it is to be closed unused. */
	[VHOST_USER_REM_MEM_REG] = { "REM_MEM_REG", EXACT(struct vhost_user_mem_reg),
				     FDS_ONE_OR_NONE },
	[VHOST_USER_SET_STATUS] = { "SET_STATUS", EXACT(u64), FDS_NONE },
	[VHOST_USER_GET_STATUS] = { "GET_STATUS", 0, 0, FDS_NONE },
};

const char *vhost_user_request_name(u32 request)
{
	if (request < VHOST_USER_N_REQUESTS && requests[request].name)
		return requests[request].name;
	return "unknown request";
}

struct span vhost_user_decoder_room(struct vhost_user_decoder *d)
{
	u32 header = sizeof(d->msg.header);

	if (d->n_got < header)
		return (struct span){ (u8 *)&d->msg.header + d->n_got, header - d->n_got };
	return (struct span){ (u8 *)&d->msg.payload + (d->n_got - header),
			      d->msg.header.n_bytes - (d->n_got - header) };
}

static const char *header_fault(const struct vhost_user_header *h)
{
	if ((h->flags & VHOST_USER_VERSION_MASK) != VHOST_USER_VERSION)
		return "a protocol version other than 1";
	if (h->flags & VHOST_USER_FLAG_REPLY)
		return "an answer where a request belongs";
	if (h->request >= VHOST_USER_N_REQUESTS || !requests[h->request].name)
		return "a request number that does not exist";
	if (h->n_bytes < requests[h->request].min_bytes)
		return "a payload too short for the request";
	if (h->n_bytes > requests[h->request].max_bytes)
		return "a payload too long for the request";
	return NULL;
}

static const char *fds_fault(const struct vhost_user_msg *m)
{
	u32 least = 0, most = 0;

	switch (requests[m->header.request].fds) {
	case FDS_NONE:
		break;
	case FDS_ONE:
		least = most = 1;
		break;
	case FDS_ONE_OR_NONE:
		most = 1;
		break;
	case FDS_RING:
		least = most = vhost_user_msg_no_fd(m) ? 0 : 1;
		break;
	case FDS_TABLE:
		/* More regions than a message can hold are the back end's to refuse. */
		least = most = min_u64(m->payload.table.n_regions, VHOST_USER_MAX_FDS);
		break;
	}
	if (m->n_fds < least)
		return "fewer descriptors than the request brings";
	if (m->n_fds > most)
		return "more descriptors than the request brings";
	return NULL;
}

int vhost_user_decoder_got(struct vhost_user_decoder *d, u32 n_bytes, const int *fds, u32 n_fds,
			   const char **why)
{
	u32 header = sizeof(d->msg.header), before = d->n_got;

	ASSERT(n_fds <= VHOST_USER_MAX_FDS - d->msg.n_fds);
	for (u32 i = 0; i < n_fds; i++)
		d->msg.fds[d->msg.n_fds++] = fds[i];
	d->n_got += n_bytes;
	if (d->n_got < header)
		return 0;
	if (before < header) {
		*why = header_fault(&d->msg.header);
		if (*why)
			return -EPROTO;
		/* A short payload of a message that allows it reads as zeroes behind. */
		memset(&d->msg.payload, 0, sizeof(d->msg.payload));
	}
	if (d->n_got - header < d->msg.header.n_bytes)
		return 0;
	*why = fds_fault(&d->msg);
	return *why ? -EPROTO : 1;
}
