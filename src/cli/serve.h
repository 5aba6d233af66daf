/* SPDX-License-Identifier: BSD-3-Clause */
/* What `viaduct serve` knows of a device type: one of these a file, cli/serve_TYPE.c. */
#ifndef VIADUCT_CLI_SERVE_H
#define VIADUCT_CLI_SERVE_H

#include "device/vdev.h"
#include "host/loop.h"
#include "vmm/control.h"

#define SERVE_WHY_BYTES 512

/* A vhost-user front end chooses queue sizes without asking: what the largest of them want. */
#define SERVE_QUEUE_SIZE 1024

struct serve_type {
	const char *name; /* the command line's word */
	const char *help; /* its options, for --help */
	const char *commands; /* what ctl can ask of it, lines for `help` */
	size_t options_bytes; /* of the type's own struct, zeroed at first */
	/*
	 * One option, in argv[0] with its value in argv[1] (NULL: there is none). 1 or 2: so many
	 * words were used; 0: not an option of this type; -1: wrong, `why` says what.
	 */
	int (*option)(void *options, char **argv, char *why);
	/* Makes the device, on the loop, in its own process. NULL: `why` says what is wrong. */
	struct vdev *(*open)(struct loop *loop, const char *name, const void *options, char *why);
	/* After the front end has gone: lets go of files and ports. */
	void (*close)(struct vdev *vdev);
	/* A line of ctl, without the device's name. False: no such command. */
	bool (*command)(struct vdev *vdev, int n_words, char **words, struct control_answer *a);
	/* Lines about what it did, for `status`. */
	void (*status)(struct vdev *vdev, struct control_answer *a);
};

extern const struct serve_type serve_balloon, serve_blk, serve_console, serve_entropy, serve_net;

/* Zeroed memory, aligned for a device; ends the process with a message if there is none. */
void *serve_memory(size_t n_bytes);

#endif
