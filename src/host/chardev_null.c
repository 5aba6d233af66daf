/* SPDX-License-Identifier: BSD-3-Clause */
/* A stream with no descriptors: open, so that the guest writes, and nothing comes of it. */
#include <stdlib.h>

#include "host/chardev.h"
#include "host/chardev_stream.h"

static void null_destroy(struct stream *s)
{
	free(s);
}

static const struct stream_kind null_kind = { .name = "null", .destroy = null_destroy };

struct chardev *host_chardev_null_create(struct loop *loop)
{
	struct stream *s = malloc(sizeof(*s));

	if (!s)
		return NULL;
	stream_init(s, &null_kind, loop);
	s->chardev.open = true;
	return &s->chardev;
}
