/* SPDX-License-Identifier: BSD-3-Clause */
/* `viaduct serve blk`: a raw file or a block device as a disk. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/serve.h"
#include "device/blk.h"
#include "host/storage_file.h"

struct options {
	char *path;
	bool read_only, direct, no_discard, no_lock;
	const char *back_end;
	const char *serial;
	u32 block_bytes;
	u16 n_queues;
};

/* The process's one disk. */
static struct storage *the_storage;
static char the_path[4096];

/* FILE[,ro][,direct][,nodiscard][,nolock][,serial=S][,block=4096][,backend=threads] */
static int parse_file(struct options *o, char *text, char *why)
{
	char *word, *rest = text;
	u32 n;

	o->path = strtok_r(rest, ",", &rest);
	if (!o->path) {
		snprintf(why, SERVE_WHY_BYTES, "--file needs the path of an image");
		return -1;
	}
	while ((word = strtok_r(rest, ",", &rest))) {
		if (!strcmp(word, "ro"))
			o->read_only = true;
		else if (!strcmp(word, "direct"))
			o->direct = true;
		else if (!strcmp(word, "nodiscard"))
			o->no_discard = true;
		else if (!strcmp(word, "nolock"))
			o->no_lock = true;
		else if (!strncmp(word, "serial=", 7))
			o->serial = word + 7;
		else if (!strncmp(word, "backend=", 8))
			o->back_end = word + 8;
		else if (!strncmp(word, "block=", 6) && cli_number(word + 6, 512, 4096, &n))
			o->block_bytes = n;
		else {
			snprintf(why, SERVE_WHY_BYTES,
				 "'%s' is nothing that --file knows; see viaduct serve --help",
				 word);
			return -1;
		}
	}
	return 2;
}

static int blk_option(void *options, char **argv, char *why)
{
	struct options *o = options;
	u32 n;

	if (!strcmp(argv[0], "--ro")) {
		o->read_only = true;
		return 1;
	}
	if (strcmp(argv[0], "--file") != 0 && strcmp(argv[0], "--queues") != 0)
		return 0;
	if (!argv[1]) {
		snprintf(why, SERVE_WHY_BYTES, "%s needs a value", argv[0]);
		return -1;
	}
	if (!strcmp(argv[0], "--file"))
		return parse_file(o, argv[1], why);
	if (!cli_number(argv[1], 1, 64, &n)) {
		snprintf(why, SERVE_WHY_BYTES, "--queues '%s': a number from 1 to 64", argv[1]);
		return -1;
	}
	o->n_queues = n;
	return 2;
}

static struct vdev *blk_open(struct loop *loop, const char *name, const void *options, char *why)
{
	const struct options *o = options;
	struct storage_file_options file = {
		.path = o->path,
		.read_only = o->read_only,
		.direct = o->direct,
		.discard = !o->no_discard,
		.no_lock = o->no_lock,
		.back_end = o->back_end,
		.logical_block_bytes = o->block_bytes,
	};
	struct device_blk_config config = {
		.name = name,
		.serial = o->serial ? o->serial : name,
		.read_only = o->read_only,
		.n_queues = o->n_queues ? o->n_queues : 1,
		.queue_size = SERVE_QUEUE_SIZE,
		.seg_max = 126,
	};

	if (!o->path) {
		snprintf(why, SERVE_WHY_BYTES, "which image? Add --file disk.img");
		return NULL;
	}
	if (storage_file_open(loop, &file, &the_storage, why) < 0)
		return NULL;
	snprintf(the_path, sizeof(the_path), "%s", o->path);
	config.storage = the_storage;
	return device_blk_init(serve_memory(device_blk_bytes(&config)), &config);
}

static void blk_close(struct vdev *vdev)
{
	storage_file_close(the_storage);
}

/* resize [SIZE]: grows or shrinks the image to SIZE, or just looks at its size anew. */
static bool blk_command(struct vdev *vdev, int n_words, char **words, struct control_answer *a)
{
	u64 n_bytes;
	int err;

	if (strcmp(words[0], "resize") != 0 || n_words > 2)
		return false;
	if (n_words == 2) {
		if (!cli_size(words[1], &n_bytes) || n_bytes % 512 || n_bytes == 0) {
			control_fail(a,
				     "resize '%s': a size in whole sectors of 512 bytes, like 2G",
				     words[1]);
			return true;
		}
		if (n_bytes < the_storage->n_bytes) {
			control_fail(
				a, "%s is larger than that; shrinking would lose what lies behind",
				the_path);
			return true;
		}
		if (the_storage->read_only || truncate(the_path, n_bytes) < 0) {
			control_fail(a, "%s does not take that size: %s", the_path,
				     the_storage->read_only ? "it is read-only" : strerror(errno));
			return true;
		}
	}
	err = storage_file_refresh_size(the_storage);
	if (err < 0)
		control_fail(a, "%s: %s", the_path, strerror(-err));
	else
		control_say(a, "%llu bytes", (unsigned long long)the_storage->n_bytes);
	return true;
}

static void blk_status(struct vdev *vdev, struct control_answer *a)
{
	const struct device_blk_stats *s = device_blk_stats(vdev);

	control_say(a, "  %s, %llu bytes, through %s", the_path,
		    (unsigned long long)the_storage->n_bytes, storage_file_back_end(the_storage));
	control_say(
		a,
		"  reads %llu (%llu bytes), writes %llu (%llu bytes), flushes %llu, in flight %u",
		(unsigned long long)s->op[DEVICE_BLK_READ].n_done,
		(unsigned long long)s->op[DEVICE_BLK_READ].n_bytes,
		(unsigned long long)s->op[DEVICE_BLK_WRITE].n_done,
		(unsigned long long)s->op[DEVICE_BLK_WRITE].n_bytes,
		(unsigned long long)s->op[DEVICE_BLK_FLUSH].n_done, s->n_in_flight);
}

const struct serve_type serve_blk = {
	.name = "blk",
	.help = "  --file FILE[,ro]   a raw image or block device; more words after commas:\n"
		"                    direct (past the page cache), nodiscard, nolock, "
		"serial=TEXT,\n"
		"                    block=4096 (sector size), backend=io_uring or threads\n"
		"  --queues N        request queues, 1 to 64 (1)",
	.commands = "[DEVICE] resize [SIZE]       grow a disk, or see that its file was resized",
	.options_bytes = sizeof(struct options),
	.option = blk_option,
	.open = blk_open,
	.close = blk_close,
	.command = blk_command,
	.status = blk_status,
};
