/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * `viaduct run`: a guest, from options to exit status.
 *
 *     viaduct run --- engine (vmm/engine.h) --- the guest's kernel
 *         |                                        | vhost-user, one socket a device
 *         `--- `viaduct serve`, forked ------------'
 *
 * The guest is joined to its devices and to nothing else: they are the very processes that
 * `viaduct serve` offers to QEMU. Here we only listen for ends: the guest's, the devices', ours.
 * The sockets listen before anybody is started, so nobody waits for anybody.
 *
 * How the guest's exit status comes out: the console has a second port, "viaduct.exit". The
 * guest writes a decimal number and a newline, waits for "ok", and powers off. A guest that
 * never heard of this and powers off has status 0; one that crashes has status 1.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <libgen.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cli/cli.h"
#include "spec/virtio.h"
#include "vmm/engine.h"

#define MAX_DEVICES 16
#define MAX_CONSOLES 8
#define MESSAGES_KEPT 8192
#define DEVICES_END_MS 10000

static const char help[] =
	"viaduct run: boot a Linux guest on Viaduct's devices\n"
	"\n"
	"  viaduct run [options]\n"
	"\n"
	"With no options: Debian's User-Mode Linux kernel (no KVM, no root needed) with a small\n"
	"system of busybox, network by user-mode NAT, and the virtio console on this terminal.\n"
	"Leave it with `exit`; `exit 3` makes this command exit with status 3. Ctrl-A x ends a "
	"guest\n"
	"that does not listen.\n"
	"\n"
	"  --disk FILE[,ro]     a disk image, raw; may be given several times: /dev/vda, vdb, ...\n"
	"  --rootfs IMG[,ro]    a disk image with a root file system to boot into, as /dev/vda\n"
	"  --net user           network behind a NAT in this process's name (the default)\n"
	"  --net tap=NAME       network on an existing TAP interface\n"
	"  --net none           no network\n"
	"  --console CHARDEV    where the guest's console goes: stdio (the default), pty,\n"
	"                       socket=PATH, file=PATH, none\n"
	"  --console NAME,CHARDEV\n"
	"                       one more console port, /dev/virtio-ports/NAME in the guest\n"
	"  --memory SIZE        256M unless told\n"
	"  --balloon            a balloon, to take memory back from the running guest\n"
	"  --entropy            an entropy device\n"
	"  --control PATH       a socket for `viaduct ctl PATH help`\n"
	"  --name NAME          the guest's name\n"
	"  --kernel K           a User-Mode Linux kernel; /usr/bin/linux.uml unless told\n"
	"  --initrd I           an initramfs; made on the fly unless told\n"
	"  --cmdline WORDS      more words for the kernel\n"
	"  --verbose            show the kernel's early messages\n"
	"\n"
	"Exit status: the guest's; 1 if it crashed; 2 if the call was wrong or something is "
	"missing;\n"
	"128+N after signal N.\n";

struct options {
	const char *name, *kernel, *initrd, *rootfs, *net, *console, *control, *cmdline;
	const char *disks[MAX_DEVICES];
	const char *ports[MAX_CONSOLES];
	u32 n_disks, n_ports;
	u64 memory_bytes;
	bool balloon, entropy, verbose;
};

/* Everything that must be undone at the end. */
struct run {
	const struct engine *engine;
	char dir[64];
	struct machine machine;
	struct machine_device devices[MAX_DEVICES];
	char sockets[MAX_DEVICES][96];
	int listeners[MAX_DEVICES];
	char initrd[96], cmdline[4096];
	char **words; /* of `viaduct serve` */
	u32 n_words;
	pid_t serve;
	int exit_port, exit_port_guest_end;
	int signals;
	bool verbose;
	const char *how; /* the guest ended against its will; NULL: it did not */
	char messages[MESSAGES_KEPT]; /* the last of what the kernel said */
	size_t n_messages;
	char said[16]; /* on the exit port, so far */
	size_t n_said;
	int status; /* the guest's word, or -1 */
};

static int say(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* One line for people about something that failed while running. */
static int say(const char *format, ...)
{
	va_list args;

	fputs("viaduct run: ", stderr);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
	return EXIT_FAILED;
}

/* ---- options ----------------------------------------------------------------------------- */

/* "stdio", "pty", "socket=...", "file=...": no port name in front. */
static bool is_chardev(const char *text)
{
	return !strcmp(text, "stdio") || !strcmp(text, "pty") || !strncmp(text, "socket=", 7) ||
	       !strncmp(text, "file=", 5);
}

static int parse_console(struct options *o, const char *text)
{
	const char *comma = strchr(text, ',');

	if (is_chardev(text) || !strcmp(text, "none")) {
		o->console = text;
		return EXIT_OK;
	}
	if (!comma || comma == text || !is_chardev(comma + 1))
		return cli_usage("run",
				 "--console %s: want stdio, pty, socket=PATH, file=PATH or none, "
				 "with NAME, in front for one more port",
				 text);
	if (o->n_ports == MAX_CONSOLES)
		return cli_usage("run", "at most %d console ports", MAX_CONSOLES);
	o->ports[o->n_ports++] = text;
	return EXIT_OK;
}

static int parse(int argc, char **argv, struct options *o)
{
	enum {
		DISK = 256,
		ROOTFS,
		NET,
		CONSOLE,
		MEMORY,
		BALLOON,
		ENTROPY,
		CONTROL,
		NAME,
		KERNEL,
		INITRD,
		CMDLINE,
		VERBOSE
	};
	static const struct option options[] = {
		{ "balloon", no_argument, NULL, BALLOON },
		{ "cmdline", required_argument, NULL, CMDLINE },
		{ "console", required_argument, NULL, CONSOLE },
		{ "control", required_argument, NULL, CONTROL },
		{ "disk", required_argument, NULL, DISK },
		{ "entropy", no_argument, NULL, ENTROPY },
		{ "initrd", required_argument, NULL, INITRD },
		{ "kernel", required_argument, NULL, KERNEL },
		{ "memory", required_argument, NULL, MEMORY },
		{ "name", required_argument, NULL, NAME },
		{ "net", required_argument, NULL, NET },
		{ "rootfs", required_argument, NULL, ROOTFS },
		{ "verbose", no_argument, NULL, VERBOSE },
		{ 0 },
	};
	int c, err;

	opterr = 0;
	optind = 1;
	while ((c = getopt_long(argc, argv, ":", options, NULL)) != -1) {
		switch (c) {
		case DISK:
			if (o->n_disks == MAX_DEVICES - 5)
				return cli_usage("run", "at most %d disks", MAX_DEVICES - 5);
			o->disks[o->n_disks++] = optarg;
			break;
		case CONSOLE:
			err = parse_console(o, optarg);
			if (err)
				return err;
			break;
		case MEMORY:
			if (!cli_size(optarg, &o->memory_bytes) || o->memory_bytes < 32 << 20)
				return cli_usage("run",
						 "--memory %s: want a size of at least 32M, "
						 "like 512M or 2G",
						 optarg);
			break;
		case NET:
			if (strcmp(optarg, "user") && strcmp(optarg, "none") &&
			    (strncmp(optarg, "tap=", 4) || !optarg[4]))
				return cli_usage("run", "--net %s: want user, tap=NAME or none",
						 optarg);
			o->net = optarg;
			break;
		case NAME:
			if (!*optarg ||
			    strspn(optarg, "abcdefghijklmnopqrstuvwxyz0123456789-"
					   "ABCDEFGHIJKLMNOPQRSTUVWXYZ_") != strlen(optarg))
				return cli_usage("run", "--name %s: want letters, digits, - and _",
						 optarg);
			o->name = optarg;
			break;
		case ROOTFS:
			o->rootfs = optarg;
			break;
		case BALLOON:
			o->balloon = true;
			break;
		case ENTROPY:
			o->entropy = true;
			break;
		case CONTROL:
			o->control = optarg;
			break;
		case KERNEL:
			o->kernel = optarg;
			break;
		case INITRD:
			o->initrd = optarg;
			break;
		case CMDLINE:
			o->cmdline = optarg;
			break;
		case VERBOSE:
			o->verbose = true;
			break;
		case ':':
			return cli_usage("run", "%s wants a value; see viaduct run --help",
					 argv[optind - 1]);
		default:
			return cli_usage("run", "no option %s; see viaduct run --help",
					 argv[optind - 1]);
		}
	}
	if (optind < argc)
		return cli_usage("run", "what is '%s'? Disks are given with --disk", argv[optind]);
	return EXIT_OK;
}

/* ---- devices ------------------------------------------------------------------------------ */

/* One more word for `viaduct serve`. They live as long as we do. */
__attribute__((format(printf, 2, 3))) static void word(struct run *r, const char *format, ...)
{
	va_list args;
	char *text;

	va_start(args, format);
	if (vasprintf(&text, format, args) < 0)
		abort();
	va_end(args);
	r->words = realloc(r->words, (r->n_words + 2) * sizeof(*r->words));
	if (!r->words)
		abort();
	r->words[r->n_words++] = text;
	r->words[r->n_words] = NULL;
}

/* A socket of our own that listens, for the device whose words come before this one's. */
static int add_device(struct run *r, u16 device_id)
{
	struct sockaddr_un at = { .sun_family = AF_UNIX };
	u32 i = r->machine.n_devices++;
	int fd = socket(AF_UNIX, SOCK_STREAM, 0); /* inherited: no CLOEXEC */

	snprintf(r->sockets[i], sizeof(r->sockets[i]), "%s/%u.sock", r->dir, i);
	strcpy(at.sun_path, r->sockets[i]);
	if (fd < 0 || bind(fd, (struct sockaddr *)&at, sizeof(at)) || listen(fd, 1))
		return say("%s: %s", r->sockets[i], strerror(errno));
	r->listeners[i] = fd;
	r->devices[i] = (struct machine_device){ device_id, r->sockets[i] };
	word(r, "--socket");
	word(r, "fd=%d", fd);
	return EXIT_OK;
}

static int add_disk(struct run *r, const char *file)
{
	word(r, "blk");
	word(r, "--file");
	word(r, "%s", file);
	return add_device(r, VIRTIO_ID_BLOCK);
}

static int add_net(struct run *r, const char *net)
{
	word(r, "net");
	if (!strcmp(net, "user")) {
		word(r, "--user");
	} else {
		word(r, "--tap");
		word(r, "%s", net + strlen("tap="));
	}
	return add_device(r, VIRTIO_ID_NET);
}

static int add_console(struct run *r, const struct options *o)
{
	word(r, "console");
	word(r, "--port");
	word(r, "console,%s", o->console);
	word(r, "--port");
	word(r, "viaduct.exit,fd=%d", r->exit_port_guest_end);
	for (u32 i = 0; i < o->n_ports; i++) {
		word(r, "--port");
		word(r, "%s", o->ports[i]);
	}
	return add_device(r, VIRTIO_ID_CONSOLE);
}

static int add_devices(struct run *r, const struct options *o)
{
	int pair[2], err = EXIT_OK;

	if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair))
		return say("socketpair: %s", strerror(errno));
	r->exit_port = pair[0];
	r->exit_port_guest_end = pair[1];
	fcntl(pair[0], F_SETFD, FD_CLOEXEC);
	fcntl(pair[0], F_SETFL, O_NONBLOCK);

	word(r, "serve");
	if (o->rootfs)
		err = add_disk(r, o->rootfs);
	for (u32 i = 0; !err && i < o->n_disks; i++)
		err = add_disk(r, o->disks[i]);
	if (!err && strcmp(o->net, "none"))
		err = add_net(r, o->net);
	if (!err && strcmp(o->console, "none"))
		err = add_console(r, o);
	if (!err && o->balloon) {
		word(r, "balloon");
		err = add_device(r, VIRTIO_ID_BALLOON);
	}
	if (!err && o->entropy) {
		word(r, "entropy");
		err = add_device(r, VIRTIO_ID_ENTROPY);
	}
	if (o->control) {
		word(r, "--control");
		word(r, "%s", o->control);
	}
	return err;
}

static int start_devices(struct run *r)
{
	sigset_t none;
	pid_t us = getpid();

	fflush(NULL);
	r->serve = fork();
	if (r->serve < 0)
		return say("fork: %s", strerror(errno));
	if (r->serve == 0) {
		/* If we die without a word, so do they; a terminal's Ctrl-C is for us to handle. */
		prctl(PR_SET_PDEATHSIG, SIGTERM);
		if (getppid() != us)
			_exit(EXIT_FAILED);
		sigemptyset(&none);
		sigprocmask(SIG_SETMASK, &none, NULL);
		signal(SIGINT, SIG_IGN);
		close(r->exit_port);
		close(r->signals);
		exit(cli_serve((int)r->n_words, r->words));
	}
	for (u32 i = 0; i < r->machine.n_devices; i++)
		close(r->listeners[i]);
	close(r->exit_port_guest_end);
	return EXIT_OK;
}

/* Asks the devices to end, and waits for it. False: they had to be killed. */
static bool end_devices(struct run *r)
{
	bool well = true;
	int status;

	if (r->serve <= 0)
		return true;
	kill(r->serve, SIGTERM);
	for (int ms = 0; waitpid(r->serve, &status, WNOHANG) == 0; ms += 5) {
		if (ms >= DEVICES_END_MS) {
			kill(r->serve, SIGKILL);
			well = false;
		}
		poll(NULL, 0, 5);
	}
	r->serve = 0;
	return well;
}

/* ---- kernel and initramfs ------------------------------------------------------------------ */

/*
 * Where our own files lie: next to the program in a build directory, under share/ when
 * installed.
 */
static bool find_guest_files(char *dir, size_t n_dir)
{
	static const char *const places[] = { "guest/linux", "../share/viaduct/guest/linux" };
	char self[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	char script[PATH_MAX + 64];

	if (n <= 0)
		return false;
	self[n] = '\0';
	dirname(self);
	for (size_t i = 0; i < ARRAY_SIZE(places); i++) {
		snprintf(dir, n_dir, "%s/%s", self, places[i]);
		snprintf(script, sizeof(script), "%s/mkinitramfs", dir);
		if (!access(script, X_OK))
			return true;
	}
	return false;
}

static int make_initrd(struct run *r)
{
	char dir[PATH_MAX + 32], script[PATH_MAX + 64], modules[256], why[256];
	int status;
	pid_t pid;

	if (!find_guest_files(dir, sizeof(dir)))
		return cli_usage("run", "guest/linux/mkinitramfs is not where it was installed; "
					"give --initrd, or install again");
	if (!r->engine->modules(r->machine.kernel, modules, sizeof(modules), why, sizeof(why)))
		return cli_usage("run", "%s", why);
	snprintf(script, sizeof(script), "%s/mkinitramfs", dir);
	snprintf(r->initrd, sizeof(r->initrd), "%s/initramfs", r->dir);
	pid = fork();
	if (pid == 0) {
		execl(script, script, r->initrd, modules, (char *)NULL);
		_exit(127);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid || status)
		return cli_usage("run", "no initramfs could be made by %s", script);
	r->machine.initrd = r->initrd;
	return EXIT_OK;
}

static int choose_kernel(struct run *r, const struct options *o)
{
	struct machine *m = &r->machine;

	m->kernel = o->kernel ? o->kernel : r->engine->default_kernel();
	if (!m->kernel)
		return cli_usage("run", "no User-Mode Linux kernel here; install it "
					"(apt install user-mode-linux) or give --kernel");
	if (access(m->kernel, X_OK))
		return cli_usage("run", "--kernel %s: %s", m->kernel, strerror(errno));
	if (o->initrd && access(o->initrd, R_OK))
		return cli_usage("run", "--initrd %s: %s", o->initrd, strerror(errno));

	m->name = o->name;
	m->memory_bytes = o->memory_bytes;
	m->dir = r->dir;
	m->devices = r->devices;
	m->initrd = o->initrd;
	m->cmdline = r->cmdline;
	if ((size_t)snprintf(r->cmdline, sizeof(r->cmdline), "viaduct.name=%s%s %s", o->name,
			     o->rootfs ? " viaduct.root=/dev/vda console=tty0 console=hvc0" : "",
			     o->cmdline ? o->cmdline : "") >= sizeof(r->cmdline))
		return cli_usage("run", "--cmdline is too long");
	return EXIT_OK;
}

/* ---- while it runs ------------------------------------------------------------------------- */

/* Keeps the last of it, for the day the kernel panics. False: nothing there. */
static bool take_messages(struct run *r, int fd)
{
	char now[1024];
	ssize_t n = read(fd, now, sizeof(now));
	size_t drop;

	if (n <= 0)
		return false;
	if (r->verbose)
		(void)!write(STDERR_FILENO, now, (size_t)n);
	drop = r->n_messages + (size_t)n > MESSAGES_KEPT ? r->n_messages + (size_t)n - MESSAGES_KEPT
							 : 0;
	memmove(r->messages, r->messages + drop, r->n_messages - drop);
	r->n_messages -= drop;
	memcpy(r->messages + r->n_messages, now, (size_t)n);
	r->n_messages += (size_t)n;
	return true;
}

/* The guest's number, and our answer, after which it powers off. Only the first line counts. */
static void take_exit(struct run *r)
{
	char *newline;
	ssize_t n;

	if (r->n_said == sizeof(r->said))
		r->n_said = 0; /* nonsense: no status is that long */
	n = read(r->exit_port, r->said + r->n_said, sizeof(r->said) - r->n_said);
	if (n <= 0)
		return;
	r->n_said += (size_t)n;
	newline = memchr(r->said, '\n', r->n_said);
	if (!newline)
		return;
	*newline = '\0';
	if (r->status < 0)
		r->status = atoi(r->said) & 0xff;
	r->n_said = 0;
	(void)!write(r->exit_port, "ok\n", 3);
}

static int guest_ended(struct run *r, struct guest *guest)
{
	enum guest_end end;

	while (take_messages(r, guest->messages_fd))
		;
	end = r->engine->reap(guest);
	if (end == GUEST_OFF)
		return r->status >= 0 ? r->status : EXIT_OK;
	r->how = end == GUEST_CRASHED ? "crashed" : "was killed";
	return EXIT_FAILED;
}

static int tell_how(struct run *r)
{
	if (!r->verbose)
		(void)!write(STDERR_FILENO, r->messages, r->n_messages);
	return say("the guest %s; its kernel's last words stand above", r->how);
}

/* 0, or the status to end with. */
static int take_signal(struct run *r)
{
	struct signalfd_siginfo s;
	int status;

	if (read(r->signals, &s, sizeof(s)) != sizeof(s))
		return 0;
	if (s.ssi_signo != SIGCHLD)
		return 128 + (int)s.ssi_signo;
	if (waitpid(r->serve, &status, WNOHANG) != r->serve)
		return 0;
	r->serve = 0;
	if (WIFEXITED(status) && WEXITSTATUS(status) == EXIT_USAGE)
		return EXIT_USAGE; /* it has said why */
	return say("the device process ended; the guest cannot go on without it");
}

static int watch(struct run *r, struct guest *guest)
{
	for (;;) {
		struct pollfd fds[] = {
			{ .fd = guest->messages_fd, .events = POLLIN },
			{ .fd = r->exit_port, .events = POLLIN },
			{ .fd = guest->end_fd, .events = POLLIN },
			{ .fd = r->signals, .events = POLLIN },
		};
		int status;

		if (poll(fds, ARRAY_SIZE(fds), -1) < 0)
			continue;
		if (fds[0].revents & POLLIN)
			take_messages(r, guest->messages_fd);
		if (fds[1].revents & POLLIN)
			take_exit(r);
		else if (fds[1].revents)
			r->exit_port = -1; /* the device process is gone; SIGCHLD follows */
		if (fds[2].revents)
			return guest_ended(r, guest);
		if (fds[3].revents && (status = take_signal(r))) {
			r->engine->kill(guest);
			r->engine->reap(guest);
			return status;
		}
	}
}

static void remove_dir(struct run *r)
{
	pid_t pid;

	if (!*r->dir)
		return;
	pid = fork();
	if (pid == 0) {
		execlp("rm", "rm", "-rf", r->dir, (char *)NULL);
		_exit(127);
	}
	waitpid(pid, NULL, 0);
}

static void block_signals(struct run *r)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGHUP);
	sigaddset(&set, SIGCHLD);
	sigprocmask(SIG_BLOCK, &set, NULL);
	r->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

static int run(struct run *r, const struct options *o)
{
	struct guest guest;
	char why[256];
	int err;

	err = choose_kernel(r, o);
	if (err)
		return err;
	if (!mkdtemp(r->dir)) {
		err = errno;
		*r->dir = '\0';
		return cli_usage("run", "no directory can be made in /tmp: %s", strerror(err));
	}
	if (!o->initrd)
		err = make_initrd(r);
	if (!err)
		err = add_devices(r, o);
	if (!err) {
		block_signals(r);
		err = start_devices(r);
	}
	if (err)
		return err;
	if (isatty(STDERR_FILENO) && !strcmp(o->console, "stdio"))
		fputs("Booting. Ctrl-A x leaves a guest that does not listen.\n", stderr);
	if (r->engine->start(&guest, &r->machine, why, sizeof(why)))
		return cli_usage("run", "%s", why);
	return watch(r, &guest);
}

int cli_run(int argc, char **argv)
{
	struct options o = {
		.name = "guest", .net = "user", .console = "stdio", .memory_bytes = (u64)256 << 20
	};
	struct run r = { .engine = &engine_uml, .dir = "/tmp/viaduct-XXXXXX", .status = -1 };
	int status;

	if (argc > 1 && (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h"))) {
		fputs(help, stdout);
		return EXIT_OK;
	}
	status = parse(argc, argv, &o);
	if (status)
		return status;
	r.verbose = o.verbose;
	status = run(&r, &o);
	if (!end_devices(&r) && !status)
		status = say("the device process did not end in time and was killed");
	if (r.how)
		status = tell_how(&r); /* now that the terminal is ours again */
	remove_dir(&r);
	for (u32 i = 0; i < r.n_words; i++)
		free(r.words[i]);
	free(r.words);
	return status;
}
