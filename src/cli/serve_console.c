/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * `viaduct serve console`: ports of a guest, joined to terminals, ptys, sockets and files.
 *
 * The first port is the console, the others are plain ones that the guest finds by name. Ctl adds
 * and removes those while the guest runs.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/serve.h"
#include "device/console.h"
#include "host/chardev.h"

/* Each port has two queues and memory for them; the guest makes all that it could ever need. */
#define MAX_PORTS 8

struct options {
	const char *ports[MAX_PORTS];
	u32 n_ports;
	bool rows_first;
};

/* The ports of this process's device, by their number in the guest. */
static struct chardev *the_chardevs[MAX_PORTS];
static struct loop *the_loop;

/* Ctrl-A x: what Ctrl-C does on a terminal whose keys are not the guest's. */
static void leave(void *owner)
{
	kill(0, SIGINT);
}

static struct chardev *open_descriptor(const char *number)
{
	char *end;
	long fd = strtol(number, &end, 10);

	if (*end || end == number || fd < 0 || fcntl((int)fd, F_GETFD) < 0) {
		errno = EBADF;
		return NULL;
	}
	return host_chardev_fd_create(the_loop, (int)fd);
}

/* What stands behind NAME, in --port; NULL with errno set, EINVAL if it is nothing we know. */
static struct chardev *open_chardev(const char *text)
{
	const struct host_chardev_terminal stdio = {
		.in_fd = STDIN_FILENO,
		.out_fd = STDOUT_FILENO,
		.leave = leave,
	};
	struct host_chardev_file file = { 0 };

	if (!strcmp(text, "stdio"))
		return host_chardev_terminal_create(the_loop, &stdio);
	if (!strcmp(text, "null"))
		return host_chardev_null_create(the_loop);
	if (!strcmp(text, "pty"))
		return host_chardev_pty_create(the_loop, NULL);
	if (!strncmp(text, "pty=", 4))
		return host_chardev_pty_create(the_loop, text + 4);
	if (!strncmp(text, "socket=", 7))
		return host_chardev_socket_create(the_loop, text + 7, true);
	if (!strncmp(text, "connect=", 8))
		return host_chardev_socket_create(the_loop, text + 8, false);
	if (!strncmp(text, "fd=", 3))
		return open_descriptor(text + 3);
	if (!strncmp(text, "file=", 5)) {
		file.out = text + 5;
		return host_chardev_file_create(the_loop, &file);
	}
	errno = EINVAL;
	return NULL;
}

/* "NAME,CHARDEV" as port `id`. False: `why` says what is wrong. */
static bool add_port(struct vdev *vdev, u32 id, const char *text, char *why)
{
	struct device_console_port port = { .is_console = id == 0 };
	const char *comma = strchr(text, ',');
	char name[DEVICE_CONSOLE_NAME_BYTES];
	int err;

	if (!comma || comma == text || (size_t)(comma - text) >= sizeof(name)) {
		snprintf(why, SERVE_WHY_BYTES,
			 "port '%s': want NAME,CHARDEV, the name of at most %zu characters", text,
			 sizeof(name) - 1);
		return false;
	}
	memcpy(name, text, (size_t)(comma - text));
	name[comma - text] = '\0';
	port.name = name;
	port.chardev = open_chardev(comma + 1);
	if (!port.chardev) {
		snprintf(why, SERVE_WHY_BYTES, "port %s: %s%s", text,
			 errno == EINVAL ? "no such chardev; see viaduct serve --help"
					 : strerror(errno),
			 errno == EADDRINUSE ? "; another process listens there" : "");
		return false;
	}
	err = device_console_add_port(vdev, id, &port);
	if (err) {
		snprintf(why, SERVE_WHY_BYTES, "port %s: %s", text, strerror(-err));
		host_chardev_destroy(port.chardev);
		return false;
	}
	the_chardevs[id] = port.chardev;
	if (!strcmp(comma + 1, "pty"))
		fprintf(stderr, "viaduct serve: port %s is at %s\n", name,
			host_chardev_pty_path(port.chardev));
	return true;
}

static void remove_port(struct vdev *vdev, u32 id)
{
	device_console_remove_port(vdev, id);
	host_chardev_destroy(the_chardevs[id]);
	the_chardevs[id] = NULL;
}

static int console_option(void *options, char **argv, char *why)
{
	struct options *o = options;

	if (!strcmp(argv[0], "--rows-first")) {
		o->rows_first = true;
		return 1;
	}
	if (strcmp(argv[0], "--port") != 0)
		return 0;
	if (!argv[1] || o->n_ports == MAX_PORTS) {
		snprintf(why, SERVE_WHY_BYTES, "--port needs NAME,CHARDEV, %d times at most",
			 MAX_PORTS);
		return -1;
	}
	o->ports[o->n_ports++] = argv[1];
	return 2;
}

static void console_close(struct vdev *vdev)
{
	for (u32 id = 0; id < MAX_PORTS; id++)
		if (the_chardevs[id])
			remove_port(vdev, id);
}

static struct vdev *console_open(struct loop *loop, const char *name, const void *options,
				 char *why)
{
	const struct options *o = options;
	const struct device_console_config config = {
		.name = name,
		.max_ports = MAX_PORTS,
		.queue_size = SERVE_QUEUE_SIZE,
		.resize_rows_first = o->rows_first,
	};
	struct vdev *vdev =
		device_console_init(serve_memory(device_console_bytes(&config)), &config);

	the_loop = loop;
	if (o->n_ports == 0) {
		snprintf(why, SERVE_WHY_BYTES, "no port; add --port console,stdio");
		return NULL;
	}
	for (u32 id = 0; id < o->n_ports; id++) {
		if (add_port(vdev, id, o->ports[id], why))
			continue;
		console_close(vdev); /* those before it are on the loop already */
		return NULL;
	}
	return vdev;
}

static bool port_named(const struct vdev *vdev, const char *name, u32 *id)
{
	struct device_console_port_state state;

	for (*id = 0; *id < MAX_PORTS; (*id)++)
		if (device_console_port_state(vdev, *id, &state) && !strcmp(state.name, name))
			return true;
	return false;
}

/* port add NAME,CHARDEV | port remove NAME */
static bool console_command(struct vdev *vdev, int n_words, char **words, struct control_answer *a)
{
	char why[SERVE_WHY_BYTES];
	u32 id;

	if (strcmp(words[0], "port") != 0 || n_words != 3)
		return false;
	if (!strcmp(words[1], "remove")) {
		if (!port_named(vdev, words[2], &id))
			control_fail(a, "no port '%s'; `status` lists them", words[2]);
		else if (id == 0)
			control_fail(a, "'%s' is the console, and stays", words[2]);
		else
			remove_port(vdev, id);
		return true;
	}
	if (strcmp(words[1], "add") != 0)
		return false;
	for (id = 1; id < MAX_PORTS && the_chardevs[id]; id++)
		;
	if (id == MAX_PORTS)
		control_fail(a, "there are %d ports already, and room for no more", MAX_PORTS);
	else if (!add_port(vdev, id, words[2], why))
		control_fail(a, "%s", why);
	return true;
}

static void console_status(struct vdev *vdev, struct control_answer *a)
{
	struct device_console_port_state s;

	for (u32 id = 0; id < MAX_PORTS; id++) {
		if (!device_console_port_state(vdev, id, &s))
			continue;
		control_say(a, "  port %u %s: %s%s, %s; bytes in %llu, out %llu", id, s.name,
			    s.chardev->name, s.chardev->open ? "" : " (nobody there)",
			    s.guest_open ? "open in the guest" : "closed in the guest",
			    (unsigned long long)s.n_in, (unsigned long long)s.n_out);
	}
}

const struct serve_type serve_console = {
	.name = "console",
	.help = "  --port NAME,CHARDEV   a port; the first is the console, the others are found "
		"by\n"
		"                    name in the guest. CHARDEV: stdio (Ctrl-A h for help), null,\n"
		"                    pty[=LINK], socket=PATH (listens), connect=PATH, file=PATH, "
		"fd=N\n"
		"  --rows-first      window sizes as older Linux drivers read them, against the\n"
		"                    specification: columns and rows change places",
	.commands = "[DEVICE] port add NAME,CHARDEV   one more port for the guest\n"
		    "[DEVICE] port remove NAME        one port less",
	.options_bytes = sizeof(struct options),
	.option = console_option,
	.open = console_open,
	.close = console_close,
	.command = console_command,
	.status = console_status,
};
