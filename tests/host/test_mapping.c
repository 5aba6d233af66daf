/* SPDX-License-Identifier: BSD-3-Clause */
/* Guest memory mapped from another's file, and truncated under us for real (V05, V06). */
#include "host/mapping.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define MIB (1u << 20)

static struct loop *loop;
static struct mapping_guard guard;
static int n_broke;
static struct mapping *last_broken, *closes_too;

static void broke(struct mapping *m)
{
	n_broke++;
	last_broken = m;
	assert_true(mapping_is_broken(m));
	if (closes_too) {
		mapping_close(closes_too);
		mapping_close(m);
	}
}

/* In the test's body, not in a fixture: cmocka catches SIGBUS itself just before that. */
static void begin(void)
{
	n_broke = 0;
	last_broken = closes_too = NULL;
	loop = loop_create();
	assert_non_null(loop);
	assert_int_equal(mapping_guard_init(&guard, loop), 0);
}

static void end(void)
{
	mapping_guard_fini(&guard);
	loop_destroy(loop);
}

static int memory_file(u64 n_bytes)
{
	int fd = memfd_create("guest", MFD_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)n_bytes), 0);
	return fd;
}

static void map(struct mapping *m, int fd, u64 offset, u64 n_bytes)
{
	*m = (struct mapping){ .broke = broke };
	assert_int_equal(mapping_open(m, &guard, fd, offset, n_bytes), 0);
}

static void mapping_shows_the_file_at_an_odd_offset(void **state)
{
	int fd = memory_file(MIB);
	struct mapping m;
	char byte;

	begin();
	assert_int_equal(pwrite(fd, "guest", 5, 4999), 5);
	map(&m, fd, 4999, MIB - 4999);
	close(fd); /* not needed any more */
	assert_memory_equal(m.base, "guest", 5);
	assert_int_equal(m.n_bytes, MIB - 4999);
	m.base[m.n_bytes - 1] = 7;
	byte = (char)m.base[m.n_bytes - 1];
	assert_int_equal(byte, 7);
	mapping_close(&m);
	mapping_close(&m); /* harmless */
	loop_turn(loop, 0);
	assert_int_equal(n_broke, 0);
	end();
}

static void mapping_of_what_cannot_be_is_refused(void **state)
{
	int fd = memory_file(MIB), pipe_fds[2], dir = open("/", O_RDONLY | O_DIRECTORY);
	struct mapping m = { 0 };
	char path[64];
	int read_only;

	begin();
	assert_int_equal(mapping_open(&m, &guard, fd, 0, MIB + 1), -EINVAL);
	assert_int_equal(mapping_open(&m, &guard, fd, 1, MIB), -EINVAL);
	assert_int_equal(mapping_open(&m, &guard, fd, MIB, 1), -EINVAL);
	assert_int_equal(mapping_open(&m, &guard, fd, UINT64_MAX, 2), -EINVAL); /* wraps */
	assert_int_equal(mapping_open(&m, &guard, fd, 4096, UINT64_MAX), -EINVAL);
	assert_int_equal(mapping_open(&m, &guard, fd, 0, 1ull << 63), -EINVAL);
	assert_int_equal(mapping_open(&m, &guard, fd, 0, 0), -EINVAL);
	assert_int_equal(mapping_open(&m, &guard, -1, 0, 4096), -EBADF);
	assert_int_equal(pipe(pipe_fds), 0);
	assert_int_equal(mapping_open(&m, &guard, pipe_fds[0], 0, 4096), -EINVAL);
	assert_int_equal(mapping_open(&m, &guard, dir, 0, 4096), -EINVAL);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	read_only = open(path, O_RDONLY);
	assert_true(read_only >= 0);
	assert_int_equal(mapping_open(&m, &guard, read_only, 0, 4096), -EACCES);
	mapping_close(&m); /* never opened */
	close(read_only);
	close(dir);
	close(pipe_fds[0]);
	close(pipe_fds[1]);
	close(fd);
	end();
}

/* V06: reads, writes and copies go on, the owner is told once, and the neighbour is whole. */
static void memory_truncated_after_mmap_breaks_that_mapping_alone(void **state)
{
	int fd = memory_file(4 * MIB), other_fd = memory_file(MIB);
	struct mapping m, other;
	static char copy[3 * MIB];

	begin();
	map(&m, fd, 0, 4 * MIB);
	map(&other, other_fd, 0, MIB);
	memset(m.base, 0x55, 4 * MIB);
	other.base[0] = 9;
	assert_int_equal(ftruncate(fd, MIB), 0);

	assert_int_equal(m.base[100], 0x55); /* still there: nothing to tell */
	loop_turn(loop, 0);
	assert_int_equal(n_broke, 0);

	memset(copy, 0xff, sizeof(copy));
	memcpy(copy, m.base + MIB, sizeof(copy)); /* gone, as a ring or a sg_read would find it */
	for (size_t i = 0; i < sizeof(copy); i += 4096)
		assert_int_equal(copy[i], 0);
	__atomic_store_n((u32 *)(void *)(m.base + 3 * MIB), 1, __ATOMIC_RELEASE);
	assert_true(mapping_is_broken(&m));
	assert_int_equal(n_broke, 0); /* not from inside the handler */
	loop_turn(loop, -1);
	loop_turn(loop, 0);
	assert_int_equal(n_broke, 1);
	assert_ptr_equal(last_broken, &m);

	assert_false(mapping_is_broken(&other));
	assert_int_equal(other.base[0], 9);
	mapping_close(&m);
	mapping_close(&other);
	close(fd);
	close(other_fd);
	end();
}

static void system_call_on_truncated_memory_gives_efault(void **state)
{
	int fd = memory_file(MIB), from = memory_file(4096);
	struct mapping m;

	begin();
	map(&m, fd, 0, MIB);
	assert_int_equal(ftruncate(fd, 0), 0);
	assert_int_equal(pread(from, m.base, 4096, 0), -1);
	assert_int_equal(errno, EFAULT);
	mapping_close(&m);
	close(fd);
	close(from);
	end();
}

/* The callback closes its own mapping and another broken one that waits to be told. */
static void broken_mappings_closed_from_the_callback_are_not_told(void **state)
{
	int fd = memory_file(MIB);
	struct mapping a, b;

	begin();
	map(&a, fd, 0, MIB);
	map(&b, fd, 0, MIB);
	closes_too = &b;
	assert_int_equal(ftruncate(fd, 0), 0);
	a.base[0] = 1;
	b.base[0] = 1;
	loop_turn(loop, -1);
	assert_int_equal(n_broke, 1);
	assert_null(a.pages);
	assert_null(b.pages);
	close(fd);
	end();
}

static void *touch(void *address)
{
	*(u8 *)address = 1;
	return NULL;
}

static void fault_on_another_thread_is_told_on_the_loops(void **state)
{
	int fd = memory_file(MIB);
	struct mapping m;
	pthread_t thread[4];

	begin();
	map(&m, fd, 0, MIB);
	assert_int_equal(ftruncate(fd, 0), 0);
	for (int i = 0; i < 4; i++)
		assert_int_equal(pthread_create(&thread[i], NULL, touch, m.base + i * 4096), 0);
	while (n_broke == 0)
		loop_turn(loop, -1);
	for (int i = 0; i < 4; i++)
		assert_int_equal(pthread_join(thread[i], NULL), 0);
	loop_turn(loop, 0);
	assert_int_equal(n_broke, 1);
	mapping_close(&m);
	close(fd);
	end();
}

/* A thousand connections with broken memory leave nothing behind. */
static void truncations_repeated_leave_no_slot_or_descriptor(void **state)
{
	int first = dup(0), last;

	begin();
	close(first);
	for (int i = 0; i < 5000; i++) {
		int fd = memory_file(4096);
		struct mapping m;

		map(&m, fd, 0, 4096);
		assert_int_equal(m.slot, 0);
		assert_int_equal(ftruncate(fd, 0), 0);
		m.base[0] = 1;
		loop_turn(loop, -1);
		assert_int_equal(n_broke, i + 1);
		mapping_close(&m);
		close(fd);
	}
	last = dup(0);
	assert_int_equal(last, first);
	close(last);
	end();
}

/* The status of a child with a guard that does `f`. */
static int status_of(void (*f)(void))
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		const struct rlimit none = { 0, 0 };

		setrlimit(RLIMIT_CORE, &none);
		signal(SIGBUS, SIG_DFL); /* so that nobody but the kernel was there before */
		begin();
		f();
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return status;
}

static void fault_elsewhere(void)
{
	int fd = memfd_create("ours", 0);
	u8 *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	*(volatile u8 *)p = 1;
}

static void kill_from_outside(void)
{
	raise(SIGBUS);
}

static void sigbus_that_is_not_ours_ends_the_process(void **state)
{
	int by_fault = status_of(fault_elsewhere), by_kill = status_of(kill_from_outside);

	assert_true(WIFSIGNALED(by_fault) && WTERMSIG(by_fault) == SIGBUS);
	assert_true(WIFSIGNALED(by_kill) && WTERMSIG(by_kill) == SIGBUS);
}

static void guard_gone_gives_the_signal_back(void **state)
{
	struct sigaction with, without;

	begin();
	assert_int_equal(sigaction(SIGBUS, NULL, &with), 0);
	assert_true(with.sa_flags & SA_SIGINFO);
	mapping_guard_fini(&guard);
	assert_int_equal(sigaction(SIGBUS, NULL, &without), 0);
	assert_ptr_not_equal(with.sa_sigaction, without.sa_sigaction);
	assert_int_equal(mapping_guard_init(&guard, loop), 0);
	end();
}

static void huge_pages_are_mapped_whole(void **state)
{
	int fd = memfd_create("huge", MFD_CLOEXEC | MFD_HUGETLB);
	struct mapping m = { .broke = broke };
	int err;

	begin();
	if (fd < 0 || ftruncate(fd, 2 * 2 * MIB)) {
		print_message("no huge pages: %s\n", strerror(errno));
		skip();
	}
	err = mapping_open(&m, &guard, fd, MIB, 2 * MIB);
	if (err == -ENOMEM) {
		print_message("no huge pages are set aside on this machine\n");
		close(fd);
		skip();
	}
	assert_int_equal(err, 0);
	assert_int_equal((uintptr_t)m.pages % (2 * MIB), 0);
	assert_int_equal(m.pages_bytes % (2 * MIB), 0);
	assert_int_equal(m.base - m.pages, MIB);
	mapping_close(&m);
	close(fd);
	end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(mapping_shows_the_file_at_an_odd_offset),
		cmocka_unit_test(mapping_of_what_cannot_be_is_refused),
		cmocka_unit_test(memory_truncated_after_mmap_breaks_that_mapping_alone),
		cmocka_unit_test(system_call_on_truncated_memory_gives_efault),
		cmocka_unit_test(broken_mappings_closed_from_the_callback_are_not_told),
		cmocka_unit_test(fault_on_another_thread_is_told_on_the_loops),
		cmocka_unit_test(truncations_repeated_leave_no_slot_or_descriptor),
		cmocka_unit_test(sigbus_that_is_not_ours_ends_the_process),
		cmocka_unit_test(guard_gone_gives_the_signal_back),
		cmocka_unit_test(huge_pages_are_mapped_whole),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
