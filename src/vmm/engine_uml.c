/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The engine on User-Mode Linux: a Linux kernel that is a program, so it needs no KVM.
 *
 * Facts that shape this file:
 * - UML is several processes (helpers that wait for I/O, one a guest address space) and ignores
 *   SIGTERM. Only SIGKILL to all of them ends it; killing the first one leaves helpers behind.
 *   So a *keeper* stands between: it starts UML as leader of a process group, and kills the
 *   group when UML ends or when the other end of its socket, which we hold, goes away. That
 *   works even when we are killed ourselves.
 *
 *       viaduct run ===socket=== keeper ---- linux.uml ---- helpers, address spaces
 *                                            `--------- one process group --------'
 *
 * - The guest's memory is a file that UML makes in $TMPDIR and maps shared: that is what makes
 *   vhost-user possible. A full file system there is a SIGBUS in the guest, so we choose one
 *   with room, in RAM if there is one.
 * - Its console 0 must be open for reading and pollable, or UML reads end-of-file for ever. A
 *   socket pair serves; its other end is guest->messages_fd.
 * - A panic ends in abort(): no core file of the whole guest, please.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include <linux/magic.h>

#include "vmm/engine.h"

#define MODULES "/usr/lib/uml/modules"
#define MIN_MEMORY_BYTES ((u64)32 << 20)

static const char *uml_default_kernel(void)
{
	static const char *const places[] = { "/usr/bin/linux.uml", "/usr/local/bin/linux.uml" };

	for (size_t i = 0; i < ARRAY_SIZE(places); i++)
		if (!access(places[i], X_OK))
			return places[i];
	return NULL;
}

/* What `kernel --version` prints: the name of the modules' directory. */
static bool uml_version(const char *kernel, char *version, size_t n_version)
{
	int out[2];
	pid_t pid;
	ssize_t n;
	int status;

	if (pipe2(out, O_CLOEXEC))
		return false;
	pid = fork();
	if (pid == 0) {
		int null = open("/dev/null", O_RDWR);

		dup2(null, STDIN_FILENO);
		dup2(null, STDERR_FILENO);
		dup2(out[1], STDOUT_FILENO);
		execl(kernel, kernel, "--version", (char *)NULL);
		_exit(127);
	}
	close(out[1]);
	n = pid < 0 ? -1 : read(out[0], version, n_version - 1);
	close(out[0]);
	if (pid < 0 || waitpid(pid, &status, 0) != pid || n <= 0)
		return false;
	version[n] = '\0';
	version[strcspn(version, "\n")] = '\0';
	/* What other programs say to --version starts with their name. */
	return *version >= '0' && *version <= '9' && !strchr(version, '/');
}

static bool uml_modules(const char *kernel, char *dir, size_t n_dir, char *why, size_t n_why)
{
	char version[128], dep[256];

	if (!uml_version(kernel, version, sizeof(version))) {
		snprintf(why, n_why,
			 "%s does not run as a User-Mode Linux kernel (tried %s --version)", kernel,
			 kernel);
		return false;
	}
	snprintf(dir, n_dir, MODULES "/%s", version);
	snprintf(dep, sizeof(dep), "%s/modules.dep", dir);
	if (access(dep, R_OK)) {
		snprintf(why, n_why,
			 "no modules of %s in %s; give --initrd, or install user-mode-linux",
			 kernel, dir);
		return false;
	}
	return true;
}

/*
 * The directory for the guest's memory: one in RAM with room for all of it, else one with room
 * at all; never one mounted noexec, because the guest's programs are mapped from it. What the
 * user says in $TMPDIR comes first of its kind.
 */
static const char *memory_dir(u64 bytes)
{
	const char *const places[] = { getenv("TMPDIR"), "/dev/shm", "/run", "/tmp", "/var/tmp" };
	const char *on_disk = NULL;

	for (size_t i = 0; i < ARRAY_SIZE(places); i++) {
		struct statvfs v;
		struct statfs f;

		if (!places[i] || access(places[i], W_OK | X_OK) || statvfs(places[i], &v) ||
		    statfs(places[i], &f))
			continue;
		if (v.f_flag & ST_NOEXEC || (u64)v.f_bavail * v.f_frsize < bytes)
			continue;
		if (f.f_type == TMPFS_MAGIC)
			return places[i];
		if (!on_disk)
			on_disk = places[i];
	}
	return on_disk;
}

/* A list of words that grows; allocation failure ends the program: nothing runs yet. */
struct words {
	char **v;
	size_t n;
};

__attribute__((format(printf, 2, 3))) static void add(struct words *w, const char *format, ...)
{
	va_list args;
	char *word;

	va_start(args, format);
	if (vasprintf(&word, format, args) < 0)
		abort();
	va_end(args);
	w->v = realloc(w->v, (w->n + 2) * sizeof(*w->v));
	if (!w->v)
		abort();
	w->v[w->n++] = word;
	w->v[w->n] = NULL;
}

static void free_words(struct words *w)
{
	for (size_t i = 0; i < w->n; i++)
		free(w->v[i]);
	free(w->v);
}

static void command_line(struct words *w, const struct machine *m)
{
	add(w, "%s", m->kernel);
	add(w, "mem=%lluM", (unsigned long long)(m->memory_bytes >> 20));
	add(w, "umid=%s", m->name);
	add(w, "uml_dir=%s", m->dir);
	/* A reboot ends the guest too: our devices are made for one life. */
	add(w, "noreboot");
	add(w, "con=none");
	add(w, "con0=fd:0,fd:1");
	if (m->initrd) {
		add(w, "initrd=%s", m->initrd);
		add(w, "rdinit=/init");
	}
	for (u32 i = 0; i < m->n_devices; i++)
		add(w, "virtio_uml.device=%s:%u", m->devices[i].socket, m->devices[i].device_id);

	/* The kernel splits its command line at blanks; so do we, outside quotes. */
	for (const char *p = m->cmdline; *p;) {
		const char *start = p += strspn(p, " \t\n");
		bool quoted = false;

		for (; *p && (quoted || !strchr(" \t\n", *p)); p++)
			quoted ^= *p == '"';
		if (p > start)
			add(w, "%.*s", (int)(p - start), start);
	}
}

__attribute__((noreturn)) static void exec_uml(char **argv, int console)
{
	const struct rlimit no_core = { 0, 0 };

	setpgid(0, 0);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	setrlimit(RLIMIT_CORE, &no_core);
	dup2(console, STDIN_FILENO);
	dup2(console, STDOUT_FILENO);
	dup2(console, STDERR_FILENO);
	execv(argv[0], argv);
	dprintf(STDERR_FILENO, "%s: %s\n", argv[0], strerror(errno));
	_exit(127);
}

/* The keeper's whole life; `ours` is its end of the socket pair. */
__attribute__((noreturn)) static void keep(char **argv, int ours, int console)
{
	struct pollfd watch[2] = { { .fd = ours, .events = POLLIN } };
	enum guest_end end = GUEST_KILLED;
	siginfo_t how;
	sigset_t none;
	pid_t uml;

	setpgid(0, 0); /* a terminal's signals pass it by */
	prctl(PR_SET_CHILD_SUBREAPER, 1); /* UML's children come to us when it dies */
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	uml = fork();
	if (uml == 0)
		exec_uml(argv, console);
	if (uml < 0)
		_exit(1);
	setpgid(uml, uml); /* both sides do it, so that it is done whoever comes first */
	close(console);
	watch[1] = (struct pollfd){ .fd = (int)syscall(SYS_pidfd_open, uml, 0), .events = POLLIN };
	if (watch[1].fd >= 0 && send(ours, &uml, sizeof(uml), MSG_NOSIGNAL) == sizeof(uml))
		while (poll(watch, 2, -1) < 0 && errno == EINTR)
			;
	if (watch[1].revents && !waitid(P_PIDFD, (id_t)watch[1].fd, &how, WEXITED | WNOWAIT)) {
		if (how.si_code == CLD_EXITED)
			end = how.si_status ? GUEST_CRASHED : GUEST_OFF;
		else if (how.si_status != SIGKILL)
			end = GUEST_CRASHED;
		send(ours, &end, sizeof(end), MSG_NOSIGNAL);
	}
	/* Not reaped before: its number, the group's too, cannot be anybody else's. */
	kill(-uml, SIGKILL);
	while (waitpid(-1, NULL, 0) > 0 || errno == EINTR)
		;
	_exit(0);
}

static int uml_start(struct guest *guest, const struct machine *m, char *why, size_t n_why)
{
	struct words argv = { 0 };
	const char *dir = memory_dir(m->memory_bytes);
	int console[2] = { -1, -1 }, life[2] = { -1, -1 };
	int err;

	if (m->memory_bytes < MIN_MEMORY_BYTES) {
		snprintf(why, n_why, "User-Mode Linux needs at least 32M of memory");
		return -EINVAL;
	}
	if (!dir) {
		snprintf(why, n_why,
			 "no temporary directory has room for %llu MiB of guest memory; "
			 "give less --memory, or set TMPDIR",
			 (unsigned long long)(m->memory_bytes >> 20));
		return -ENOSPC;
	}
	command_line(&argv, m);
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, console) ||
	    socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, life))
		goto fail;

	*guest = (struct guest){ .engine = &engine_uml };
	guest->keeper = fork();
	if (guest->keeper < 0)
		goto fail;
	if (guest->keeper == 0) {
		close(console[0]);
		close(life[0]);
		setenv("TMPDIR", dir, 1);
		keep(argv.v, life[1], console[1]);
	}
	/* From here on a failure shows as the guest's end. */
	close(console[1]);
	close(life[1]);
	free_words(&argv);
	guest->messages_fd = console[0];
	fcntl(console[0], F_SETFL, O_NONBLOCK);
	guest->end_fd = life[0];
	if (recv(life[0], &guest->pid, sizeof(guest->pid), 0) != sizeof(guest->pid))
		guest->pid = guest->keeper;
	return 0;

fail:
	err = errno;
	snprintf(why, n_why, "cannot start the guest: %s", strerror(err));
	for (int i = 0; i < 2; i++) {
		close(console[i]);
		close(life[i]);
	}
	free_words(&argv);
	return -err;
}

static void uml_kill(struct guest *guest)
{
	/* Its end of our socket: the keeper wakes and ends the group. */
	shutdown(guest->end_fd, SHUT_RDWR);
}

static enum guest_end uml_reap(struct guest *guest)
{
	enum guest_end end;

	if (recv(guest->end_fd, &end, sizeof(end), 0) != sizeof(end))
		end = GUEST_KILLED;
	while (waitpid(guest->keeper, NULL, 0) < 0 && errno == EINTR)
		;
	close(guest->end_fd);
	close(guest->messages_fd);
	return end;
}

const struct engine engine_uml = {
	.name = "uml",
	.default_kernel = uml_default_kernel,
	.modules = uml_modules,
	.start = uml_start,
	.kill = uml_kill,
	.reap = uml_reap,
};
