/* SPDX-License-Identifier: BSD-3-Clause */
/* The system that keeps books. */
#include "tests/support/fake_env.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

static struct fake_env *fake_of(struct vhost_user_env *env)
{
	return container_of(env, struct fake_env, env);
}

static void *fake_map(struct vhost_user_env *env, int fd, u64 offset, u64 n_bytes)
{
	struct fake_env *e = fake_of(env);
	struct stat st;
	void *p;

	ASSERT(e->fds[fd].open);
	if (e->fds[fd].memfd < 0 || fstat(e->fds[fd].memfd, &st) || offset % 4096 ||
	    offset > (u64)st.st_size || n_bytes > (u64)st.st_size - offset)
		return NULL;
	p = mmap(NULL, n_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, e->fds[fd].memfd, offset);
	if (p == MAP_FAILED)
		return NULL;
	e->n_mapped++;
	return p;
}

static void fake_unmap(struct vhost_user_env *env, void *base, u64 n_bytes)
{
	ASSERT(munmap(base, n_bytes) == 0);
	ASSERT(fake_of(env)->n_mapped-- > 0);
}

static void fake_close(struct vhost_user_env *env, int fd)
{
	struct fake_env *e = fake_of(env);

	ASSERT(fd >= 0 && fd < FAKE_MAX_FDS && e->fds[fd].open);
	for (u32 i = 0; i < VHOST_USER_MAX_QUEUES; i++)
		ASSERT(e->watched[i] != fd);
	e->fds[fd].open = false;
	e->n_open--;
}

static int fake_watch(struct vhost_user_env *env, u16 queue, int fd)
{
	struct fake_env *e = fake_of(env);

	ASSERT(e->fds[fd].open && e->watched[queue] == -1);
	if (e->fds[fd].unwatchable)
		return -EPERM;
	e->watched[queue] = fd;
	return 0;
}

static void fake_unwatch(struct vhost_user_env *env, u16 queue)
{
	fake_of(env)->watched[queue] = -1;
}

static void fake_signal(struct vhost_user_env *env, int fd)
{
	ASSERT(fake_of(env)->fds[fd].open);
	fake_of(env)->fds[fd].n_signals++;
}

static int fake_answer(struct vhost_user_env *env, const void *bytes, u32 n_bytes)
{
	struct fake_env *e = fake_of(env);

	ASSERT(n_bytes <= sizeof(e->answer));
	if (e->answer_error)
		return e->answer_error;
	memcpy(e->answer, bytes, n_bytes); /* a sanitizer looks at each byte that leaves us */
	e->answer_bytes = n_bytes;
	e->n_answers++;
	return 0;
}

static int fake_request(struct vhost_user_env *env, int fd, const void *bytes, u32 n_bytes)
{
	struct fake_env *e = fake_of(env);

	ASSERT(e->fds[fd].open && n_bytes == sizeof(e->request));
	if (e->request_full)
		return -EAGAIN;
	memcpy(&e->request, bytes, n_bytes);
	e->n_requests++;
	return 0;
}

static void fake_again(struct vhost_user_env *env, u16 queue)
{
	fake_of(env)->again[queue] = true;
}

static const struct vhost_user_env_ops fake_ops = {
	.map = fake_map,
	.unmap = fake_unmap,
	.close = fake_close,
	.watch = fake_watch,
	.unwatch = fake_unwatch,
	.signal = fake_signal,
	.again = fake_again,
	.answer = fake_answer,
	.request = fake_request,
};

void fake_env_init(struct fake_env *e, struct vdev *vdev)
{
	memset(e, 0, sizeof(*e));
	e->env.ops = &fake_ops;
	for (u32 i = 0; i < VHOST_USER_MAX_QUEUES; i++)
		e->watched[i] = -1;
	vhost_user_backend_init(&e->backend, vdev, &e->env);
}

void fake_env_open(struct fake_env *e)
{
	e->next_fd = 0;
	e->why = NULL;
	e->request_full = false;
	e->answer_error = 0;
	vhost_user_decoder_init(&e->decoder);
	vhost_user_backend_open(&e->backend);
}

void fake_env_close(struct fake_env *e)
{
	for (u32 i = 0; i < e->decoder.msg.n_fds; i++)
		fake_close(&e->env, e->decoder.msg.fds[i]);
	vhost_user_decoder_init(&e->decoder);
	vhost_user_backend_close(&e->backend);
	ASSERT(e->n_open == 0 && e->n_mapped == 0);
	for (u32 i = 0; i < VHOST_USER_MAX_QUEUES; i++)
		ASSERT(e->watched[i] == -1);
	ASSERT(!e->backend.vdev->link && !e->backend.vdev->memory);
}

int fake_fd(struct fake_env *e, int memfd)
{
	while (e->fds[e->next_fd].open)
		e->next_fd = (e->next_fd + 1) % FAKE_MAX_FDS;
	e->fds[e->next_fd].open = true;
	e->fds[e->next_fd].unwatchable = false;
	e->fds[e->next_fd].memfd = memfd;
	e->fds[e->next_fd].n_signals = 0;
	e->n_open++;
	return e->next_fd;
}

int fake_feed(struct fake_env *e, const void *bytes, u32 n_bytes, const int *fds, u32 n_fds)
{
	const u8 *at = bytes;

	if (n_fds > VHOST_USER_MAX_FDS - e->decoder.msg.n_fds) { /* as a socket's owner has to */
		for (u32 i = 0; i < n_fds; i++)
			fake_close(&e->env, fds[i]);
		e->why = "descriptors that no request brings";
		return -EPROTO;
	}
	while (n_bytes > 0) {
		struct span room = vhost_user_decoder_room(&e->decoder);
		u32 n = min_u64(n_bytes, room.n_bytes);
		int got;

		memcpy(room.base, at, n);
		at += n;
		n_bytes -= n;
		/* Descriptors come with the first byte that they were sent with. */
		got = vhost_user_decoder_got(&e->decoder, n, fds, n_fds, &e->why);
		n_fds = 0;
		if (got == 0 && vhost_user_decoder_room(&e->decoder).n_bytes == 0)
			got = vhost_user_decoder_got(&e->decoder, 0, NULL, 0, &e->why);
		if (got > 0) {
			got = vhost_user_backend_handle(&e->backend, &e->decoder.msg, &e->why);
			ASSERT(e->decoder.msg.n_fds == 0);
			if (got == 0) {
				vhost_user_decoder_init(&e->decoder);
				e->n_handled++;
			}
		}
		if (got < 0) {
			ASSERT(e->why);
			return got;
		}
	}
	return 0;
}
