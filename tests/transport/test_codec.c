/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The vhost-user codec against a second list of what the protocol allows, written from the
 * protocol's text: every request number, every size, every number of descriptors, cut at every
 * byte.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/errno.h"
#include "transport/vhost_user/codec.h"

/* The messages that our front ends send, as they send them. */
static const struct {
	u32 request, n_bytes;
	u64 first; /* 8 bytes of the payload */
	u32 n_fds;
} good[] = {
	{ VHOST_USER_GET_FEATURES, 0, 0, 0 },
	{ VHOST_USER_SET_FEATURES, 8, 1, 0 },
	{ VHOST_USER_SET_OWNER, 0, 0, 0 },
	{ VHOST_USER_RESET_OWNER, 0, 0, 0 },
	{ VHOST_USER_SET_MEM_TABLE, 8 + 32, 1, 1 },
	{ VHOST_USER_SET_MEM_TABLE, 8 + 8 * 32, 2, 2 }, /* DPDK: always room for 8 */
	{ VHOST_USER_SET_MEM_TABLE, 8 + 8 * 32, 8, 8 },
	{ VHOST_USER_SET_MEM_TABLE, 8, 0, 0 },
	{ VHOST_USER_SET_VRING_NUM, 8, 0, 0 },
	{ VHOST_USER_SET_VRING_ADDR, 40, 0, 0 },
	{ VHOST_USER_SET_VRING_BASE, 8, 0, 0 },
	{ VHOST_USER_GET_VRING_BASE, 8, 0, 0 },
	{ VHOST_USER_SET_VRING_KICK, 8, 0, 1 },
	{ VHOST_USER_SET_VRING_CALL, 8, 3, 1 },
	{ VHOST_USER_SET_VRING_ERR, 8, 255, 1 },
	{ VHOST_USER_SET_VRING_KICK, 8, 0x100, 0 },
	{ VHOST_USER_SET_VRING_CALL, 8, 0x101, 0 },
	{ VHOST_USER_SET_VRING_ERR, 8, 0x1ff, 0 },
	{ VHOST_USER_GET_PROTOCOL_FEATURES, 0, 0, 0 },
	{ VHOST_USER_SET_PROTOCOL_FEATURES, 8, 0, 0 },
	{ VHOST_USER_GET_QUEUE_NUM, 0, 0, 0 },
	{ VHOST_USER_SET_VRING_ENABLE, 8, 0, 0 },
	{ VHOST_USER_SEND_RARP, 8, 0, 0 },
	{ VHOST_USER_NET_SET_MTU, 8, 0, 0 },
	{ VHOST_USER_SET_BACKEND_REQ_FD, 0, 0, 1 },
	{ VHOST_USER_SET_BACKEND_REQ_FD, 8, 0, 1 },
	{ VHOST_USER_GET_CONFIG, 12 + 60, 0, 0 },
	{ VHOST_USER_GET_CONFIG, 12 + 256, 0, 0 },
	{ VHOST_USER_SET_CONFIG, 12 + 1, 0, 0 },
	{ VHOST_USER_RESET_DEVICE, 0, 0, 0 },
	{ VHOST_USER_GET_MAX_MEM_SLOTS, 0, 0, 0 },
	{ VHOST_USER_ADD_MEM_REG, 40, 0, 1 },
	{ VHOST_USER_REM_MEM_REG, 40, 0, 0 },
	{ VHOST_USER_REM_MEM_REG, 40, 0, 1 },
	{ VHOST_USER_SET_STATUS, 8, 0, 0 },
	{ VHOST_USER_GET_STATUS, 0, 0, 0 },
};

static const int some_fds[VHOST_USER_MAX_FDS] = { 10, 11, 12, 13, 14, 15, 16, 17 };

/*
 * Feeds one message in pieces of at most `piece` bytes; what the decoder says in the end, and
 * after how many bytes in `*n_fed`.
 */
static int feed(struct vhost_user_decoder *d, const struct vhost_user_header *h,
		const void *payload, u32 n_fds, u32 piece, u32 *n_fed, const char **why)
{
	u8 bytes[12 + 512] = { 0 };
	u32 total = sizeof(*h) + h->n_bytes;
	int got = 0;

	assert_true(h->n_bytes <= 512);
	memcpy(bytes, h, sizeof(*h));
	if (payload)
		memcpy(bytes + sizeof(*h), payload, h->n_bytes);
	*why = NULL;
	for (*n_fed = 0; *n_fed < total && got == 0;) {
		struct span room = vhost_user_decoder_room(d);
		u32 n = min_u64(min_u64(piece, room.n_bytes), total - *n_fed);

		assert_true(n > 0);
		memcpy(room.base, bytes + *n_fed, n);
		got = vhost_user_decoder_got(d, n, some_fds, *n_fed ? 0 : n_fds, why);
		*n_fed += n;
	}
	assert_true((got < 0) == (*why != NULL));
	return got;
}

static void good_messages_cut_anywhere_come_out_whole(void **state)
{
	struct vhost_user_decoder d;
	const char *why;
	u8 payload[512];
	u32 n_fed;

	for (u32 i = 0; i < sizeof(payload); i++)
		payload[i] = i * 7 + 1;
	for (u32 i = 0; i < ARRAY_SIZE(good); i++) {
		struct vhost_user_header h = { good[i].request, VHOST_USER_VERSION,
					       good[i].n_bytes };

		memcpy(payload, &good[i].first, 8);
		for (u32 piece = 1; piece <= 12 + h.n_bytes; piece++) {
			vhost_user_decoder_init(&d);
			memset(&d.msg.payload, 0xee, sizeof(d.msg.payload));
			assert_int_equal(feed(&d, &h, payload, good[i].n_fds, piece, &n_fed, &why),
					 1);
			assert_int_equal(n_fed, 12 + h.n_bytes);
			assert_memory_equal(&d.msg.header, &h, sizeof(h));
			assert_memory_equal(&d.msg.payload, payload, h.n_bytes);
			assert_int_equal(d.msg.n_fds, good[i].n_fds);
			if (d.msg.n_fds)
				assert_memory_equal(d.msg.fds, some_fds, d.msg.n_fds * sizeof(int));
			/* Nothing of an earlier message shows behind a short one. */
			for (u32 at = h.n_bytes; at < sizeof(d.msg.payload); at++)
				assert_int_equal(((u8 *)&d.msg.payload)[at], 0);
		}
	}
}

/* The sizes that a request may have, by the protocol's text. */
static bool size_is_good(u32 request, u32 n)
{
	switch (request) {
	case VHOST_USER_GET_FEATURES:
	case VHOST_USER_SET_OWNER:
	case VHOST_USER_RESET_OWNER:
	case VHOST_USER_GET_PROTOCOL_FEATURES:
	case VHOST_USER_GET_QUEUE_NUM:
	case VHOST_USER_RESET_DEVICE:
	case VHOST_USER_GET_MAX_MEM_SLOTS:
	case VHOST_USER_GET_STATUS:
		return n == 0;
	case VHOST_USER_SET_FEATURES:
	case VHOST_USER_SET_PROTOCOL_FEATURES:
	case VHOST_USER_SET_VRING_NUM:
	case VHOST_USER_SET_VRING_BASE:
	case VHOST_USER_GET_VRING_BASE:
	case VHOST_USER_SET_VRING_KICK:
	case VHOST_USER_SET_VRING_CALL:
	case VHOST_USER_SET_VRING_ERR:
	case VHOST_USER_SET_VRING_ENABLE:
	case VHOST_USER_SEND_RARP:
	case VHOST_USER_NET_SET_MTU:
	case VHOST_USER_SET_STATUS:
		return n == 8;
	case VHOST_USER_SET_VRING_ADDR:
	case VHOST_USER_ADD_MEM_REG:
	case VHOST_USER_REM_MEM_REG:
		return n == 40;
	case VHOST_USER_SET_MEM_TABLE:
		return n >= 8 && n <= 8 + 8 * 32;
	case VHOST_USER_GET_CONFIG:
	case VHOST_USER_SET_CONFIG:
		return n >= 12 && n <= 12 + 256;
	case VHOST_USER_SET_BACKEND_REQ_FD:
		return n <= 8;
	}
	return false;
}

static void hostile_V02_each_size_of_each_request_is_judged_at_the_header(void **state)
{
	struct vhost_user_decoder d;
	const char *why;

	for (u32 i = 0; i < ARRAY_SIZE(good); i++) {
		for (u32 n = 0; n < 70000; n = n < 400 ? n + 1 : n * 2) {
			struct vhost_user_header h = { good[i].request, VHOST_USER_VERSION, n };
			struct span room;
			bool fine = size_is_good(h.request, n);
			int got;

			vhost_user_decoder_init(&d);
			room = vhost_user_decoder_room(&d);
			assert_int_equal(room.n_bytes, sizeof(h));
			memcpy(room.base, &h, sizeof(h));
			got = vhost_user_decoder_got(&d, sizeof(h), some_fds, 0, &why);
			if (!fine) {
				assert_int_equal(got, -EPROTO);
				continue;
			}
			/* The one that wants a descriptor and no payload is whole, and lacks it. */
			assert_int_equal(got, n > 0                                        ? 0
					      : h.request == VHOST_USER_SET_BACKEND_REQ_FD ? -EPROTO
											   : 1);
			/* Never room past the end of the message, nor of the union. */
			room = vhost_user_decoder_room(&d);
			assert_int_equal(room.n_bytes, n);
			assert_true((u8 *)room.base + n <=
				    (u8 *)&d.msg.payload + sizeof(d.msg.payload));
		}
	}
}

static int header_only(u32 request, u32 flags, u32 n_bytes, const char **why)
{
	struct vhost_user_decoder d;
	struct vhost_user_header h = { request, flags, n_bytes };

	vhost_user_decoder_init(&d);
	memcpy(vhost_user_decoder_room(&d).base, &h, sizeof(h));
	return vhost_user_decoder_got(&d, sizeof(h), NULL, 0, why);
}

static void hostile_V02_versions_replies_and_unknown_requests_are_refused(void **state)
{
	const char *why = NULL;

	for (u32 version = 0; version < 4; version++) {
		int want = version == 1 ? 1 : -EPROTO;

		assert_int_equal(header_only(VHOST_USER_GET_FEATURES, version, 0, &why), want);
		if (want < 0)
			assert_string_equal(why, "a protocol version other than 1");
	}
	assert_int_equal(header_only(VHOST_USER_GET_FEATURES, 1 | 4, 0, &why), -EPROTO);
	assert_string_equal(why, "an answer where a request belongs");
	assert_int_equal(header_only(VHOST_USER_GET_FEATURES, 1 | 8, 0, &why), 1);
	for (u32 request = 0; request < 300; request++) {
		if (request >= 1 && request <= 40)
			continue;
		assert_int_equal(header_only(request, 1, 0, &why), -EPROTO);
		assert_string_equal(why, "a request number that does not exist");
		assert_string_equal(vhost_user_request_name(request), "unknown request");
	}
	assert_int_equal(header_only(UINT32_MAX, 1, 0, &why), -EPROTO);
	assert_int_equal(header_only(VHOST_USER_SET_FEATURES, 1, UINT32_MAX, &why), -EPROTO);
	assert_string_equal(why, "a payload too long for the request");
	assert_int_equal(header_only(VHOST_USER_SET_FEATURES, 1, 7, &why), -EPROTO);
	assert_string_equal(why, "a payload too short for the request");
	assert_string_equal(vhost_user_request_name(VHOST_USER_GET_CONFIG), "GET_CONFIG");
}

static void hostile_V03_each_number_of_descriptors_is_judged(void **state)
{
	struct vhost_user_decoder d;
	const char *why;
	u32 n_fed;

	for (u32 i = 0; i < ARRAY_SIZE(good); i++) {
		u8 payload[512] = { 0 };
		struct vhost_user_header h = { good[i].request, VHOST_USER_VERSION,
					       good[i].n_bytes };

		memcpy(payload, &good[i].first, 8);
		for (u32 n_fds = 0; n_fds <= VHOST_USER_MAX_FDS; n_fds++) {
			bool fine = n_fds == good[i].n_fds ||
				    (h.request == VHOST_USER_REM_MEM_REG && n_fds <= 1);

			vhost_user_decoder_init(&d);
			assert_int_equal(feed(&d, &h, payload, n_fds, 7, &n_fed, &why),
					 fine ? 1 : -EPROTO);
			/* Whatever it says: they are there, to be closed. */
			assert_int_equal(d.msg.n_fds, n_fds);
			if (!fine)
				assert_string_equal(
					why, n_fds > good[i].n_fds
						     ? "more descriptors than the request brings"
						     : "fewer descriptors than the request brings");
		}
	}
}

/* V05: more regions than a table holds. The descriptors are judged by what a message can bring. */
static void hostile_V05_table_of_nine_wants_all_descriptors_there_can_be(void **state)
{
	struct vhost_user_decoder d;
	struct vhost_user_header h = { VHOST_USER_SET_MEM_TABLE, VHOST_USER_VERSION, 8 };
	const char *why;
	u32 n_fed;

	for (u64 n = 9; n < UINT32_MAX; n = n * 3 + 1) {
		vhost_user_decoder_init(&d);
		assert_int_equal(feed(&d, &h, &n, 7, 100, &n_fed, &why), -EPROTO);
		vhost_user_decoder_init(&d);
		assert_int_equal(feed(&d, &h, &n, 8, 100, &n_fed, &why), 1);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(good_messages_cut_anywhere_come_out_whole),
		cmocka_unit_test(hostile_V02_each_size_of_each_request_is_judged_at_the_header),
		cmocka_unit_test(hostile_V02_versions_replies_and_unknown_requests_are_refused),
		cmocka_unit_test(hostile_V03_each_number_of_descriptors_is_judged),
		cmocka_unit_test(hostile_V05_table_of_nine_wants_all_descriptors_there_can_be),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
