/* SPDX-License-Identifier: BSD-3-Clause */
/* The User-Mode Linux engine: how guests end, and that nothing of them is left behind. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vmm/engine.h"

#define BOOT_MS 120000 /* a second, on a machine that does nothing else */

static char dir[] = "/tmp/viaduct-test-XXXXXX";
static char initrd[64];
static struct machine machine = { .name = "test", .memory_bytes = 64 << 20, .dir = dir };

static void start(struct guest *guest, const char *cmdline)
{
	char why[256] = "";

	machine.cmdline = cmdline;
	if (engine_uml.start(guest, &machine, why, sizeof(why)))
		fail_msg("%s", why);
}

/* Reads messages until `text` was among them, or the guest is silent. */
static bool says(struct guest *guest, const char *text)
{
	static char all[65536];
	size_t n = 0;

	while (n < sizeof(all) - 1) {
		struct pollfd p = { .fd = guest->messages_fd, .events = POLLIN };
		ssize_t got;

		if (poll(&p, 1, BOOT_MS) != 1)
			break;
		got = read(guest->messages_fd, all + n, sizeof(all) - 1 - n);
		if (got <= 0)
			break;
		n += (size_t)got;
		all[n] = '\0';
		if (strstr(all, text))
			return true;
	}
	print_message("the guest said: %s\n", all);
	return false;
}

static void wait_for_end(struct guest *guest)
{
	struct pollfd p = { .fd = guest->end_fd, .events = POLLIN };

	assert_int_equal(poll(&p, 1, BOOT_MS), 1);
}

/* Not one process, zombies included. */
static void assert_no_process_left(pid_t group)
{
	assert_int_equal(kill(-group, 0), -1);
	assert_int_equal(errno, ESRCH);
}

static void guest_powers_off_is_off(void **state)
{
	struct guest guest;
	pid_t group;

	start(&guest, "rdinit=/bin/busybox -- poweroff -f");
	group = guest.pid;
	wait_for_end(&guest);
	assert_int_equal(engine_uml.reap(&guest), GUEST_OFF);
	assert_no_process_left(group);
}

static void guest_reboots_is_off(void **state)
{
	struct guest guest;

	start(&guest, "rdinit=/bin/busybox -- reboot -f");
	wait_for_end(&guest);
	assert_int_equal(engine_uml.reap(&guest), GUEST_OFF);
}

static void first_process_ends_is_crashed(void **state)
{
	struct guest guest;
	pid_t group;

	start(&guest, "rdinit=/bin/busybox -- false");
	group = guest.pid;
	assert_true(says(&guest, "Attempted to kill init"));
	wait_for_end(&guest);
	assert_int_equal(engine_uml.reap(&guest), GUEST_CRASHED);
	assert_no_process_left(group);
}

static void kill_running_guest_leaves_nothing(void **state)
{
	struct guest guest;
	pid_t group;

	start(&guest, "rdinit=/bin/busybox -- sh -c \"echo up; while :; do sleep 1; done\"");
	group = guest.pid;
	assert_true(says(&guest, "Run /bin/busybox as init process"));
	engine_uml.kill(&guest);
	assert_int_equal(engine_uml.reap(&guest), GUEST_KILLED);
	assert_no_process_left(group);
}

/* The owner dies by SIGKILL, with no chance to say a word. */
static void owner_killed_leaves_nothing(void **state)
{
	int up[2];
	pid_t owner, group;

	assert_int_equal(pipe(up), 0);
	owner = fork();
	assert_true(owner >= 0);
	if (owner == 0) {
		struct guest guest;

		start(&guest, "rdinit=/bin/busybox -- sleep 1000");
		if (!says(&guest, "as init process"))
			_exit(1);
		(void)!write(up[1], &guest.pid, sizeof(guest.pid));
		for (;;)
			pause();
	}
	close(up[1]);
	assert_int_equal(read(up[0], &group, sizeof(group)), sizeof(group));
	close(up[0]);
	assert_int_equal(kill(-group, 0), 0);
	kill(owner, SIGKILL);
	waitpid(owner, NULL, 0);
	/* Nobody is left to wait with, so ask, for a while. */
	for (int i = 0; i < 1000 && !kill(-group, 0); i++)
		poll(NULL, 0, 10);
	assert_no_process_left(group);
}

static void kernel_that_is_none_is_told(void **state)
{
	char path[256], why[256] = "";

	assert_false(engine_uml.modules("/dev/null", path, sizeof(path), why, sizeof(why)));
	assert_non_null(strstr(why, "/dev/null does not run as a User-Mode Linux kernel"));
	assert_false(engine_uml.modules("/bin/true", path, sizeof(path), why, sizeof(why)));
	assert_non_null(strstr(why, "/bin/true does not run as a User-Mode Linux kernel"));
}

static void memory_without_room_is_refused(void **state)
{
	struct machine huge = machine;
	struct guest guest;
	char why[256] = "";

	huge.memory_bytes = (u64)1 << 60;
	assert_int_equal(engine_uml.start(&guest, &huge, why, sizeof(why)), -ENOSPC);
	assert_non_null(strstr(why, "no temporary directory has room"));
}

static int set_up(void **state)
{
	char modules[256], command[1024], why[256];

	if (!mkdtemp(dir))
		return -1;
	snprintf(initrd, sizeof(initrd), "%s/initramfs", dir);
	if (!engine_uml.modules(machine.kernel, modules, sizeof(modules), why, sizeof(why))) {
		print_error("%s\n", why);
		return -1;
	}
	snprintf(command, sizeof(command), "%s %s %s", MKINITRAMFS, initrd, modules);
	machine.initrd = initrd;
	return system(command);
}

static int clean_up(void **state)
{
	char command[64];

	snprintf(command, sizeof(command), "rm -rf %s", dir);
	return system(command);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(guest_powers_off_is_off),
		cmocka_unit_test(guest_reboots_is_off),
		cmocka_unit_test(first_process_ends_is_crashed),
		cmocka_unit_test(kill_running_guest_leaves_nothing),
		cmocka_unit_test(owner_killed_leaves_nothing),
		cmocka_unit_test(kernel_that_is_none_is_told),
		cmocka_unit_test(memory_without_room_is_refused),
	};

	machine.kernel = engine_uml.default_kernel();
	if (!machine.kernel) {
		puts("skipped: no User-Mode Linux kernel here (apt install user-mode-linux)");
		return 77;
	}
	return cmocka_run_group_tests(tests, set_up, clean_up);
}
