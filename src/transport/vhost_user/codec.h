/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * vhost-user messages out of a stream of bytes, and the headers of answers into one.
 *
 * Pure: bytes in, messages out; descriptors are numbers that are passed along. Strict: a header
 * that no front end may send is an error at once, before a byte of its payload is waited for.
 */
#ifndef VIADUCT_TRANSPORT_VHOST_USER_CODEC_H
#define VIADUCT_TRANSPORT_VHOST_USER_CODEC_H

#include "spec/vhost_user.h"

struct vhost_user_msg {
	struct vhost_user_header header;
	union vhost_user_payload payload;
	int fds[VHOST_USER_MAX_FDS];
	u32 n_fds;
};

struct vhost_user_decoder {
	struct vhost_user_msg msg;
	u32 n_got; /* bytes of header and payload so far */
};

/* Ready for the next message; descriptors of the last one are somebody else's by now. */
static inline void vhost_user_decoder_init(struct vhost_user_decoder *d)
{
	d->n_got = 0;
	d->msg.n_fds = 0;
}

/*
 * Where the next bytes belong and how many may be read at most: never past the end of the
 * message at hand, so that descriptors arrive with the message that they were sent with.
 */
struct span vhost_user_decoder_room(struct vhost_user_decoder *d);

/*
 * `n_bytes` were read into the room; `fds` (at most as many as msg.fds still holds) came with
 * them and belong to the message from now on. 1: a message is whole in d->msg; handle it, then
 * init the decoder again. 0: more is to come. -EPROTO: no such message exists, `*why` says what
 * is wrong; what is in d->msg.fds is still to be closed.
 */
int vhost_user_decoder_got(struct vhost_user_decoder *d, u32 n_bytes, const int *fds, u32 n_fds,
			   const char **why);

/* The request's name as the protocol spells it; never NULL. */
const char *vhost_user_request_name(u32 request);

/* True for a ring message that says that it comes without a descriptor. */
static inline bool vhost_user_msg_no_fd(const struct vhost_user_msg *msg)
{
	return msg->payload.number & VHOST_USER_VRING_NO_FD;
}

#endif
