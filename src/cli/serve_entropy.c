/* SPDX-License-Identifier: BSD-3-Clause */
/* `viaduct serve entropy`: random bytes for a guest's own generator. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/serve.h"
#include "device/entropy.h"
#include "host/randomness.h"

struct options {
	const char *file;
	u32 rate_bytes, max_bytes;
};

static struct randomness *the_source;

static bool size32(const char *text, u32 *n_bytes)
{
	u64 n;

	if (!text || !cli_size(text, &n) || n == 0 || n > UINT32_MAX)
		return false;
	*n_bytes = n;
	return true;
}

static int entropy_option(void *options, char **argv, char *why)
{
	struct options *o = options;

	if (!strcmp(argv[0], "--rate"))
		snprintf(why, SERVE_WHY_BYTES, "--rate needs bytes a second, like 64K");
	else if (!strcmp(argv[0], "--max"))
		snprintf(why, SERVE_WHY_BYTES, "--max needs bytes a request, like 4K");
	else if (!strcmp(argv[0], "--source"))
		snprintf(why, SERVE_WHY_BYTES, "--source needs a file, like /dev/hwrng");
	else
		return 0;
	if (!strcmp(argv[0], "--rate"))
		return size32(argv[1], &o->rate_bytes) ? 2 : -1;
	if (!strcmp(argv[0], "--max"))
		return size32(argv[1], &o->max_bytes) ? 2 : -1;
	o->file = argv[1];
	return o->file ? 2 : -1;
}

static struct vdev *entropy_open(struct loop *loop, const char *name, const void *options,
				 char *why)
{
	const struct options *o = options;
	struct device_entropy_config config = {
		.name = name,
		.clock = loop_clock(loop),
		.queue_size = SERVE_QUEUE_SIZE,
		.max_bytes = o->max_bytes,
		.rate_bytes = o->rate_bytes,
	};

	the_source = host_randomness_create(o->file);
	if (!the_source) {
		snprintf(why, SERVE_WHY_BYTES, "%s gives no random bytes: %s",
			 o->file ? o->file : "the kernel", strerror(errno));
		return NULL;
	}
	config.randomness = the_source;
	return device_entropy_init(serve_memory(device_entropy_bytes(&config)), &config);
}

static void entropy_close(struct vdev *vdev)
{
	host_randomness_destroy(the_source);
}

static void entropy_status(struct vdev *vdev, struct control_answer *a)
{
	const struct device_entropy_stats *s = device_entropy_stats(vdev);

	control_say(a,
		    "  requests %llu, bytes %llu, held back by the rate limit %llu, failures %llu",
		    (unsigned long long)s->n_requests, (unsigned long long)s->n_bytes,
		    (unsigned long long)s->n_waits, (unsigned long long)s->n_failures);
}

const struct serve_type serve_entropy = {
	.name = "entropy",
	.help = "  --rate SIZE       bytes a second at most (no limit)\n"
		"  --max SIZE        bytes a request at most (4K)\n"
		"  --source FILE     where they come from (the kernel's generator)",
	.options_bytes = sizeof(struct options),
	.option = entropy_option,
	.open = entropy_open,
	.close = entropy_close,
	.status = entropy_status,
};
