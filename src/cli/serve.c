/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * `viaduct serve`: devices on vhost-user sockets, each in a process of its own.
 *
 * One device is served by the process that was called. Several are served by children, one
 * each; the parent then holds only the control socket, passes questions on, and sees to it that
 * all end together: a set of devices that lost one is no longer what was asked for.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/serve.h"
#include "host/log.h"
#include "host/unix_socket.h"
#include "vmm/vhost_user_server.h"

static const struct serve_type *const types[] = {
	&serve_blk, &serve_net, &serve_console, &serve_balloon, &serve_entropy,
};

#define MAX_DEVICES 64

struct served {
	const struct serve_type *type;
	void *options;
	char name[32];
	const char *socket; /* a path, or "fd=N" */
	int listen_fd;
	pid_t pid; /* of its process; 0: ours, or none yet */
	int control_fd; /* parent: where to ask it; -1 */
};

struct serve {
	struct served devices[MAX_DEVICES];
	int n_devices;
	const char *control;
	int control_fd;
	bool verbose;
	bool never_polls;
};

static void print_help(void)
{
	puts("viaduct serve: offer virtio devices to any vhost-user front end\n"
	     "\n"
	     "  viaduct serve TYPE OPTION... --socket PATH [TYPE OPTION... --socket PATH]...\n"
	     "\n"
	     "A front end (QEMU, libvirt, cloud-hypervisor, User-Mode Linux, DPDK, `viaduct run`)\n"
	     "connects to PATH and finds the device there, as often as it likes, one at a time.\n"
	     "With several devices each gets a process of its own. End it with Ctrl-C or SIGTERM:\n"
	     "requests under way are finished first.\n"
	     "\n"
	     "For each device:\n"
	     "  --socket PATH     where to listen; fd=N: a listening socket that was inherited\n"
	     "  --name NAME       what logs and ctl call it (else TYPE0, TYPE1, ...)\n"
	     "For all:\n"
	     "  --control PATH    listen there for `viaduct ctl PATH ...`\n"
	     "  --no-poll         never look for work without being told (saves CPU, costs time)\n"
	     "  --verbose         say more\n");
	for (size_t i = 0; i < ARRAY_SIZE(types); i++)
		printf("%s:\n%s\n", types[i]->name, types[i]->help);
	puts("Example: a disk for QEMU\n"
	     "  viaduct serve blk --file disk.img --socket /tmp/disk.sock &\n"
	     "  qemu-system-x86_64 -m 1G -object memory-backend-memfd,id=mem,size=1G,share=on \\\n"
	     "    -machine q35,memory-backend=mem -chardev socket,id=c,path=/tmp/disk.sock \\\n"
	     "    -device vhost-user-blk-pci,chardev=c ...");
}

void *serve_memory(size_t n_bytes)
{
	/* All of it lives as long as the process, which a leak checker sees by its being kept. */
	static void *kept[MAX_DEVICES + 1];
	static u32 n_kept;
	/* Not touched here: what a device never uses never becomes resident. */
	void *p = calloc(1, n_bytes);

	ASSERT(n_kept < ARRAY_SIZE(kept)); /* everybody's options, and this process's device */
	kept[n_kept++] = p;
	if (!p) {
		fprintf(stderr, "viaduct serve: no memory for a device of %zu bytes\n", n_bytes);
		exit(EXIT_FAILED);
	}
	return p;
}

static const struct serve_type *find_type(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(types); i++)
		if (!strcmp(types[i]->name, name))
			return types[i];
	return NULL;
}

/* ---- one device, in this process ----------------------------------------------------------- */

/* What answers for a device. */
struct device_control {
	struct control_handler handler;
	const struct serve_type *type;
	struct vdev *vdev;
	struct vhost_user_server *server;
};

static void device_status(struct device_control *d, struct control_answer *a)
{
	const struct vdev *v = d->vdev;
	u64 popped = 0, signals = 0;

	for (u16 i = 0; i < v->n_queues; i++) {
		popped += v->queues[i].q.n_popped;
		signals += v->queues[i].q.n_signals;
	}
	control_say(a, "%s: %s, %s%s%s", v->name, d->type->name,
		    vhost_user_server_connected(d->server) ? "connected"
							   : "waiting for a front end",
		    v->status & VIRTIO_STATUS_DRIVER_OK ? ", driver running" : "",
		    vdev_has(v, VIRTIO_F_RING_PACKED) ? ", packed rings" : "");
	if (v->broken)
		control_say(a, "  broken by its driver: %s on queue %u", v->fault_what,
			    v->fault_queue);
	control_say(a, "  requests %llu, notifications %llu, faults %llu, resets %llu",
		    (unsigned long long)popped, (unsigned long long)signals,
		    (unsigned long long)v->n_faults, (unsigned long long)v->n_resets);
	if (d->type->status)
		d->type->status(d->vdev, a);
}

static void device_handle(struct control_handler *h, int n_words, char **words,
			  struct control_answer *a)
{
	struct device_control *d = container_of(h, struct device_control, handler);

	if (!strcmp(words[0], "status") && n_words == 1)
		device_status(d, a);
	else if (!d->type->command || !d->type->command(d->vdev, n_words, words, a))
		control_fail(a, "%s: no command '%s'; `help` lists them", d->vdev->name, words[0]);
	vdev_flush(d->vdev);
}

struct stop {
	struct loop_signal term, intr;
	struct loop *loop;
};

static struct stop the_stop;

static void stop_raised(struct loop_signal *s)
{
	loop_stop(the_stop.loop, EXIT_OK);
}

static int stop_on_signals(struct loop *loop)
{
	int err;

	the_stop = (struct stop){
		.term = { .signo = SIGTERM, .raised = stop_raised },
		.intr = { .signo = SIGINT, .raised = stop_raised },
		.loop = loop,
	};
	err = loop_add_signal(loop, &the_stop.term);
	return err < 0 ? err : loop_add_signal(loop, &the_stop.intr);
}

static void stop_forget_signals(struct loop *loop)
{
	loop_remove_signal(loop, &the_stop.intr);
	loop_remove_signal(loop, &the_stop.term);
}

static void router_handle(struct control_handler *h, int n_words, char **words,
			  struct control_answer *a);

struct router {
	struct control_handler handler;
	struct serve *serve;
	struct device_control *only; /* the device, if it is in this process */
};

/* Serves `d` until told to stop. `ask_fd` is where a parent asks (-1: there is none). */
static int serve_device(struct serve *serve, struct served *d, int ask_fd)
{
	char why[SERVE_WHY_BYTES] = "";
	struct device_control control = { .handler.handle = device_handle, .type = d->type };
	struct router router = { .handler.handle = router_handle,
				 .serve = serve,
				 .only = &control };
	struct control_peer *peer = NULL;
	struct control *clients = NULL;
	struct loop *loop = loop_create();
	int status = EXIT_FAILED;

	if (!loop || stop_on_signals(loop) < 0) {
		fprintf(stderr, "viaduct serve: no event loop to be had: %s\n", strerror(errno));
		return EXIT_FAILED;
	}
	if (serve->never_polls)
		loop_set_poll_limit(loop, 0);
	control.vdev = d->type->open(loop, d->name, d->options, why);
	if (!control.vdev) {
		status = cli_usage("serve", "%s: %s", d->name, why);
		goto loop;
	}
	control.server = vhost_user_server_create(loop, control.vdev, d->listen_fd);
	if (!control.server) {
		fprintf(stderr, "viaduct serve: %s: cannot serve on its socket: %s\n", d->name,
			strerror(errno));
		goto device;
	}
	if (ask_fd >= 0)
		peer = control_peer_create(loop, ask_fd, &control.handler);
	else if (serve->control_fd >= 0)
		clients = control_create(loop, serve->control_fd, &router.handler);
	status = loop_run(loop);

	control_destroy(clients);
	control_peer_destroy(peer);
	vhost_user_server_destroy(control.server);
device:
	d->type->close(control.vdev);
loop:
	stop_forget_signals(loop);
	loop_destroy(loop);
	return status;
}

/* ---- several devices: the parent ----------------------------------------------------------- */

static void router_help(const struct serve *serve, struct control_answer *a)
{
	control_say(a, "status                       of all devices");
	control_say(a, "DEVICE status                of one");
	for (size_t t = 0; t < ARRAY_SIZE(types); t++) {
		bool there = false;

		for (int i = 0; i < serve->n_devices; i++)
			there |= serve->devices[i].type == types[t];
		if (there && types[t]->commands)
			control_say(a, "%s", types[t]->commands);
	}
	control_say(a, "Devices (a command without one goes to the first that knows it):");
	for (int i = 0; i < serve->n_devices; i++)
		control_say(a, "  %s", serve->devices[i].name);
}

/* Has device `i` answer `words`. */
static void router_pass(struct router *r, int i, int n_words, char **words,
			struct control_answer *a)
{
	char line[CONTROL_LINE_BYTES];
	size_t used = 0;
	int err;

	if (r->only) {
		device_handle(&r->only->handler, n_words, words, a);
		return;
	}
	for (int w = 0; w < n_words; w++)
		used += snprintf(line + used, sizeof(line) - used, "%s%s", w ? " " : "", words[w]);
	err = control_ask(r->serve->devices[i].control_fd, line, a);
	if (err < 0)
		control_fail(a, "%s does not answer: %s", r->serve->devices[i].name,
			     strerror(-err));
}

static void router_status_all(struct router *r, struct control_answer *a)
{
	static struct control_answer one;
	char *words[] = { (char *)"status", NULL };

	for (int i = 0; i < r->serve->n_devices; i++) {
		char *end;

		one.n = 0;
		one.judged = false;
		router_pass(r, i, 1, words, &one);
		/* Its lines without its verdict. */
		end = strstr(one.text, "\nok\n");
		if (end)
			*end = '\0';
		control_say(a, "%s", one.text);
	}
}

static void router_handle(struct control_handler *h, int n_words, char **words,
			  struct control_answer *a)
{
	struct router *r = container_of(h, struct router, handler);
	struct serve *serve = r->serve;

	if (!strcmp(words[0], "help")) {
		router_help(serve, a);
		return;
	}
	if (!strcmp(words[0], "status") && n_words == 1) {
		router_status_all(r, a);
		return;
	}
	for (int i = 0; i < serve->n_devices; i++) {
		if (strcmp(words[0], serve->devices[i].name) != 0)
			continue;
		if (n_words < 2)
			control_fail(a, "%s: what of it? `help` lists commands", words[0]);
		else
			router_pass(r, i, n_words - 1, words + 1, a);
		return;
	}
	/* Without a device's name: the first whose type has such a command. */
	for (int i = 0; i < serve->n_devices; i++) {
		const char *known = serve->devices[i].type->commands;
		char word[CONTROL_LINE_BYTES + 2];

		snprintf(word, sizeof(word), " %s ", words[0]);
		if (!known || !strstr(known, word))
			continue;
		router_pass(r, i, n_words, words, a);
		return;
	}
	control_fail(a, "no device and no command '%s'; `help` lists them", words[0]);
}

/* The parent's loop ends when a child does. */
struct children {
	struct loop_signal signal;
	struct serve *serve;
	struct loop *loop;
};

static void child_ended(struct loop_signal *s)
{
	struct children *c = container_of(s, struct children, signal);
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		for (int i = 0; i < c->serve->n_devices; i++) {
			struct served *d = &c->serve->devices[i];

			if (d->pid != pid)
				continue;
			d->pid = 0;
			if (WIFSIGNALED(status))
				fprintf(stderr, "viaduct serve: the process of %s died: %s\n",
					d->name, strsignal(WTERMSIG(status)));
			/* Its own words were printed by itself. */
			loop_stop(c->loop, WIFEXITED(status) && WEXITSTATUS(status)
						   ? WEXITSTATUS(status)
						   : EXIT_FAILED);
		}
	}
}

static int start_child(struct serve *serve, struct served *d)
{
	pid_t parent = getpid();
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0)
		return -errno;
	d->pid = fork();
	if (d->pid < 0) {
		d->pid = 0;
		close(pair[0]);
		close(pair[1]);
		return -errno;
	}
	if (d->pid > 0) {
		close(pair[1]);
		d->control_fd = pair[0];
		close(d->listen_fd);
		d->listen_fd = -1;
		return 0;
	}
	/* The device's process: nothing of its siblings is its business. */
	prctl(PR_SET_PDEATHSIG, SIGTERM);
	if (getppid() != parent)
		_exit(EXIT_FAILED);
	close(pair[0]);
	for (int i = 0; i < serve->n_devices; i++) {
		struct served *other = &serve->devices[i];

		if (other != d && other->listen_fd >= 0)
			close(other->listen_fd);
		if (other->control_fd >= 0)
			close(other->control_fd);
	}
	if (serve->control_fd >= 0)
		close(serve->control_fd);
	prctl(PR_SET_NAME, d->name);
	_exit(serve_device(serve, d, pair[1]));
}

static int serve_all(struct serve *serve)
{
	struct router router = { .handler.handle = router_handle, .serve = serve };
	struct control *clients = NULL;
	struct children children = {
		.signal = { .signo = SIGCHLD, .raised = child_ended },
		.serve = serve,
	};
	int status = EXIT_OK;

	/* Children first: they inherit neither a loop nor its signals. */
	for (int i = 0; i < serve->n_devices; i++) {
		int err = start_child(serve, &serve->devices[i]);

		if (err == 0)
			continue;
		fprintf(stderr, "viaduct serve: no process for %s: %s\n", serve->devices[i].name,
			strerror(-err));
		status = EXIT_FAILED;
	}
	children.loop = status == EXIT_OK ? loop_create() : NULL;
	if (children.loop && stop_on_signals(children.loop) == 0 &&
	    loop_add_signal(children.loop, &children.signal) == 0) {
		if (serve->control_fd >= 0)
			clients = control_create(children.loop, serve->control_fd, &router.handler);
		child_ended(&children.signal); /* one may have ended before we listened */
		status = loop_run(children.loop);
		control_destroy(clients);
	} else {
		status = EXIT_FAILED;
	}
	for (int i = 0; i < serve->n_devices; i++)
		if (serve->devices[i].pid > 0)
			kill(serve->devices[i].pid, SIGTERM);
	for (int i = 0; i < serve->n_devices; i++)
		if (serve->devices[i].pid > 0)
			waitpid(serve->devices[i].pid, NULL, 0);
	return status;
}

/* ---- the command line ---------------------------------------------------------------------- */

/* An open descriptor by number: "fd=N". -1: not of this form, or not open. */
static int inherited_fd(const char *text)
{
	char *end;
	long fd;

	if (strncmp(text, "fd=", 3) != 0)
		return -1;
	fd = strtol(text + 3, &end, 10);
	return *end || end == text + 3 || fd < 0 || fcntl(fd, F_GETFD) < 0 ? -1 : (int)fd;
}

static int listen_somewhere(const char *where, char *why)
{
	int fd;

	if (strncmp(where, "fd=", 3) != 0)
		return unix_listen(where, why, SERVE_WHY_BYTES);
	fd = inherited_fd(where);
	if (fd < 0) {
		snprintf(why, SERVE_WHY_BYTES, "%s: no such descriptor is open", where);
		return -EBADF;
	}
	fcntl(fd, F_SETFD, FD_CLOEXEC);
	return fd;
}

static int parse(struct serve *serve, int argc, char **argv)
{
	char why[SERVE_WHY_BYTES];
	struct served *d = NULL;

	for (int i = 1; i < argc; i++) {
		const struct serve_type *type = find_type(argv[i]);
		const char **value = NULL;
		int used;

		if (type) {
			int same = 0;

			if (serve->n_devices == MAX_DEVICES)
				return cli_usage("serve", "more than %d devices", MAX_DEVICES);
			for (int k = 0; k < serve->n_devices; k++)
				same += serve->devices[k].type == type;
			d = &serve->devices[serve->n_devices++];
			*d = (struct served){ .type = type, .listen_fd = -1, .control_fd = -1 };
			snprintf(d->name, sizeof(d->name), "%s%d", type->name, same);
			d->options = serve_memory(type->options_bytes);
			continue;
		}
		if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h")) {
			print_help();
			exit(EXIT_OK);
		}
		if (!strcmp(argv[i], "--verbose")) {
			serve->verbose = true;
			continue;
		}
		if (!strcmp(argv[i], "--no-poll")) {
			serve->never_polls = true;
			continue;
		}
		if (!strcmp(argv[i], "--control"))
			value = &serve->control;
		else if (!d)
			return cli_usage("serve",
					 "'%s' is no device type; there are blk, net, console, "
					 "balloon and entropy",
					 argv[i]);
		else if (!strcmp(argv[i], "--socket"))
			value = &d->socket;
		if (value || !strcmp(argv[i], "--name")) {
			if (i + 1 >= argc)
				return cli_usage("serve", "%s needs a value", argv[i]);
			if (value)
				*value = argv[i + 1];
			else if (strlen(argv[i + 1]) >= sizeof(d->name) ||
				 strpbrk(argv[i + 1], " \t\n") || !*argv[i + 1])
				return cli_usage("serve", "--name '%s': one word of 1 to %zu bytes",
						 argv[i + 1], sizeof(d->name) - 1);
			else
				strcpy(d->name, argv[i + 1]);
			i++;
			continue;
		}
		used = d->type->option(d->options, argv + i, why);
		if (used < 0)
			return cli_usage("serve", "%s: %s", d->name, why);
		if (used == 0)
			return cli_usage("serve",
					 "'%s' is no option of %s; see viaduct serve --help",
					 argv[i], d->type->name);
		i += used - 1;
	}
	if (serve->n_devices == 0)
		return cli_usage("serve",
				 "no device named; for example: viaduct serve blk --file disk.img "
				 "--socket disk.sock");
	for (int i = 0; i < serve->n_devices; i++) {
		if (!serve->devices[i].socket)
			return cli_usage("serve", "%s: where to listen? Add --socket PATH",
					 serve->devices[i].name);
		for (int k = 0; k < i; k++)
			if (!strcmp(serve->devices[i].name, serve->devices[k].name))
				return cli_usage("serve", "two devices are called %s",
						 serve->devices[i].name);
	}
	return EXIT_OK;
}

/* Our paths go when we do; inherited sockets are somebody else's. */
static void unlink_paths(const struct serve *serve)
{
	for (int i = 0; i < serve->n_devices; i++)
		if (serve->devices[i].listen_fd != -1 || serve->devices[i].control_fd != -1)
			if (strncmp(serve->devices[i].socket, "fd=", 3) != 0)
				unlink(serve->devices[i].socket);
	if (serve->control_fd >= 0 && strncmp(serve->control, "fd=", 3) != 0)
		unlink(serve->control);
}

int cli_serve(int argc, char **argv)
{
	static struct serve serve = { .control_fd = -1 };
	char why[SERVE_WHY_BYTES];
	int status = parse(&serve, argc, argv);

	if (status != EXIT_OK)
		return status;
	host_log_start(serve.verbose ? LOG_INFO : LOG_WARN);
	signal(SIGPIPE, SIG_IGN);
	for (int i = 0; i < serve.n_devices && status == EXIT_OK; i++) {
		struct served *d = &serve.devices[i];

		d->listen_fd = listen_somewhere(d->socket, why);
		if (d->listen_fd < 0) {
			d->listen_fd = -1;
			status = cli_usage("serve", "%s: %s", d->name, why);
		}
	}
	if (status == EXIT_OK && serve.control) {
		serve.control_fd = listen_somewhere(serve.control, why);
		if (serve.control_fd < 0) {
			serve.control_fd = -1;
			status = cli_usage("serve", "--control: %s", why);
		}
	}
	if (status == EXIT_OK)
		status = serve.n_devices == 1 ? serve_device(&serve, &serve.devices[0], -1)
					      : serve_all(&serve);
	unlink_paths(&serve);
	return status;
}
