/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Mapping guest memory, and the SIGBUS handler that outlives its owner's tricks.
 *
 * The handler may run on any thread, in the middle of anything. It reads a table of slots that
 * it never has to lock: a slot is filled before its mapping is handed out and cleared after
 * the last access, so whoever faults finds it whole.
 */
#include "host/mapping.h"

#include <errno.h>
#include <linux/magic.h>
#include <pthread.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#define MAX_MAPPINGS 4096

static struct mapping *slots[MAX_MAPPINGS];
static u32 n_slots; /* up to here slots have ever been in use */

/* Guards come and go on several threads; the handler takes no part in this. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static u32 n_guards;
static struct sigaction before;

/* ---- the handler ----------------------------------------------------------------------- */

static struct mapping *mapping_at(const u8 *address)
{
	u32 n = __atomic_load_n(&n_slots, __ATOMIC_ACQUIRE);

	for (u32 i = 0; i < n; i++) {
		struct mapping *m = __atomic_load_n(&slots[i], __ATOMIC_ACQUIRE);

		if (m && (uintptr_t)address - (uintptr_t)m->pages < m->pages_bytes)
			return m;
	}
	return NULL;
}

/*
 * All of it at once: one signal per mapping, however much of it is gone. Two threads may come
 * here for the same mapping; the second finds zeroes, and makes them zeroes again.
 */
static bool replace_by_zeroes(struct mapping *m)
{
	return mmap(m->pages, m->pages_bytes, PROT_READ | PROT_WRITE,
		    MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0) != MAP_FAILED;
}

static void on_sigbus(int signo, siginfo_t *info, void *context)
{
	bool fault = info->si_code > 0; /* by the kernel; a kill from outside carries no address */
	struct mapping *m = fault ? mapping_at(info->si_addr) : NULL;
	int saved = errno;

	if (m && replace_by_zeroes(m)) {
		u64 one = 1;
		ssize_t n;

		__atomic_store_n(&m->broken, true, __ATOMIC_RELEASE);
		n = write(m->guard->woken.fd, &one, sizeof(one));
		(void)n; /* full: it is readable all the same */
		errno = saved;
		return;
	}
	/* Not ours: whoever cared before us, or the end. The access runs again and faults again. */
	sigaction(SIGBUS, &before, NULL);
	if (!fault)
		raise(SIGBUS);
	errno = saved;
}

/* ---- guards ---------------------------------------------------------------------------- */

/* A callback may close any mapping, its own included, so the walk begins anew after each. */
static struct mapping *next_to_tell(struct mapping_guard *guard)
{
	struct list *node, *tmp;

	list_for_each (node, tmp, &guard->mappings) {
		struct mapping *m = container_of(node, struct mapping, node);

		if (!m->told && mapping_is_broken(m))
			return m;
	}
	return NULL;
}

static void guard_woken(struct loop_watch *w, u32 events)
{
	struct mapping_guard *guard = container_of(w, struct mapping_guard, woken);
	struct mapping *m;
	u64 count;
	ssize_t n = read(w->fd, &count, sizeof(count));

	(void)n;
	while ((m = next_to_tell(guard))) {
		m->told = true;
		if (m->broke)
			m->broke(m);
	}
}

static int catch_sigbus(void)
{
	struct sigaction action = { .sa_sigaction = on_sigbus, .sa_flags = SA_SIGINFO };
	int err = 0;

	pthread_mutex_lock(&lock);
	if (n_guards == 0 && sigaction(SIGBUS, &action, &before))
		err = -errno;
	else
		n_guards++;
	pthread_mutex_unlock(&lock);
	return err;
}

static void release_sigbus(void)
{
	pthread_mutex_lock(&lock);
	if (--n_guards == 0)
		sigaction(SIGBUS, &before, NULL);
	pthread_mutex_unlock(&lock);
}

int mapping_guard_init(struct mapping_guard *guard, struct loop *loop)
{
	int err;

	*guard = (struct mapping_guard){ .loop = loop, .woken.ready = guard_woken };
	list_init(&guard->mappings);
	guard->woken.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (guard->woken.fd < 0)
		return -errno;
	err = loop_add(loop, &guard->woken, EPOLLIN);
	if (err)
		goto close_eventfd;
	err = catch_sigbus();
	if (err)
		goto remove_watch;
	return 0;

remove_watch:
	loop_remove(loop, &guard->woken);
close_eventfd:
	close(guard->woken.fd);
	return err;
}

void mapping_guard_fini(struct mapping_guard *guard)
{
	ASSERT(list_empty(&guard->mappings));
	release_sigbus();
	loop_remove(guard->loop, &guard->woken);
	close(guard->woken.fd);
}

/* ---- mappings -------------------------------------------------------------------------- */

static int slot_take(struct mapping *m)
{
	int err = -ENOSPC;

	pthread_mutex_lock(&lock);
	for (u32 i = 0; i < MAX_MAPPINGS && err; i++) {
		if (slots[i])
			continue;
		m->slot = i;
		__atomic_store_n(&slots[i], m, __ATOMIC_RELEASE);
		if (i >= n_slots)
			__atomic_store_n(&n_slots, i + 1, __ATOMIC_RELEASE);
		err = 0;
	}
	pthread_mutex_unlock(&lock);
	return err;
}

static void slot_give(u32 slot)
{
	pthread_mutex_lock(&lock);
	__atomic_store_n(&slots[slot], NULL, __ATOMIC_RELEASE);
	pthread_mutex_unlock(&lock);
}

/* Of the file's pages: mmap and munmap of hugetlbfs take nothing smaller. 0 with errno set. */
static u64 file_page_bytes(int fd)
{
	struct statfs fs;

	if (fstatfs(fd, &fs))
		return 0;
	return fs.f_type == HUGETLBFS_MAGIC ? (u64)fs.f_bsize : (u64)sysconf(_SC_PAGESIZE);
}

int mapping_open(struct mapping *m, struct mapping_guard *guard, int fd, u64 offset, u64 n_bytes)
{
	u64 page_bytes, skip;
	struct stat st;
	int err;

	if (fstat(fd, &st))
		return -errno;
	/* Honest mistakes are told here; who shrinks the file later meets the guard. */
	if (!S_ISREG(st.st_mode) || n_bytes == 0 || offset > (u64)st.st_size ||
	    n_bytes > (u64)st.st_size - offset)
		return -EINVAL;
	page_bytes = file_page_bytes(fd);
	if (!page_bytes)
		return -errno;

	skip = offset % page_bytes;
	m->guard = guard;
	m->broken = m->told = false;
	m->n_bytes = n_bytes;
	m->pages_bytes = (skip + n_bytes + page_bytes - 1) / page_bytes * page_bytes;
	m->pages = mmap(NULL, m->pages_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE,
			fd, (off_t)(offset - skip));
	if (m->pages == MAP_FAILED) {
		err = -errno;
		m->pages = NULL;
		return err;
	}
	m->base = m->pages + skip;
	madvise(m->pages, m->pages_bytes, MADV_DONTDUMP);
	err = slot_take(m);
	if (err) {
		munmap(m->pages, m->pages_bytes);
		m->pages = m->base = NULL;
		return err;
	}
	list_add_tail(&guard->mappings, &m->node);
	return 0;
}

void mapping_close(struct mapping *m)
{
	if (!m->pages)
		return;
	list_del(&m->node);
	slot_give(m->slot); /* before another thread may be given these addresses */
	munmap(m->pages, m->pages_bytes);
	m->pages = m->base = NULL;
	m->n_bytes = 0;
}
