/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A driver on one thread and a device on another, on the same ring, as fast as they can.
 *
 * Sleeping, they rely on nothing but the ring's own protocol: a pop that answers "empty", or
 * enable_cb that answers "nothing there", and then an eventfd that only the other half's
 * notification writes. A lost wake-up is a standstill, which the watchdog ends. Polling, there
 * is no other order between the threads than the ring's: ThreadSanitizer sees each pair that is
 * too weak.
 */
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/shared.h"
#include "tests/support/rig.h"
#include "tests/support/ring_pair.h"

#define SIZE 16
#define N_BUFFERS 20000u
#define SLOT_BYTES 256
#define WATCHDOG_SECONDS 100

/* cmocka's asserts jump, which only its own thread may. */
#define CHECK(x)                                                                        \
	do {                                                                            \
		if (!(x)) {                                                             \
			fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #x); \
			abort();                                                        \
		}                                                                       \
	} while (0)

struct buffer {
	u32 number;
	u32 out_bytes, in_bytes;
	u8 *data;
	bool busy;
};

static struct ring_pair pair;
static struct buffer buffers[SIZE];
static int device_event, driver_event;
static bool polling;
static u64 driver_random, device_random;
static u64 n_driver_sleeps, n_device_sleeps;

static void event_wait(int fd)
{
	u64 n;

	CHECK(read(fd, &n, sizeof(n)) == sizeof(n));
}

static void event_set(int fd)
{
	u64 one = 1;

	CHECK(write(fd, &one, sizeof(one)) == sizeof(one));
}

static bool doorbell(struct virtqueue *vq)
{
	event_set(device_event);
	return true;
}

static u8 pattern(u32 number, u32 at)
{
	return number * 31 + at * 7 + (number >> 8);
}

/* ---- the driver's thread ----------------------------------------------------------------- */

static bool driver_add(u32 number)
{
	struct buffer *b = buffers;
	struct span sg[3];
	u32 first;

	while (b < buffers + SIZE && b->busy)
		b++;
	if (b == buffers + SIZE)
		return false;
	b->number = number;
	b->out_bytes = 4 + rig_random(&driver_random) % 60;
	b->in_bytes = 1 + rig_random(&driver_random) % 60;
	for (u32 i = 0; i < b->out_bytes; i++)
		b->data[i] = i < 4 ? number >> 8 * i : pattern(number, i);
	memset(b->data + b->out_bytes, 0, b->in_bytes);
	first = 1 + rig_random(&driver_random) % (b->out_bytes - 1);
	sg[0] = (struct span){ b->data, first };
	sg[1] = (struct span){ b->data + first, b->out_bytes - first };
	sg[2] = (struct span){ b->data + b->out_bytes, b->in_bytes };
	if (virtqueue_add_buf(&pair.vq, sg, 2, 1, b) != 0)
		return false;
	b->busy = true;
	return true;
}

static bool driver_reap(void)
{
	u32 len;
	struct buffer *b = virtqueue_get_buf(&pair.vq, &len);

	CHECK(!virtqueue_is_broken(&pair.vq));
	if (!b)
		return false;
	CHECK(b->busy && len == b->in_bytes);
	for (u32 i = 0; i < b->in_bytes; i++)
		CHECK(b->data[b->out_bytes + i] == pattern(~b->number, i));
	b->busy = false;
	return true;
}

static void *driver_thread(void *unused)
{
	u32 n_sent = 0, n_done = 0;

	while (n_done < N_BUFFERS) {
		u32 batch = 1 + rig_random(&driver_random) % SIZE;
		bool reaped = false;

		while (batch-- > 0 && n_sent < N_BUFFERS && driver_add(n_sent))
			n_sent++;
		CHECK(virtqueue_kick(&pair.vq));
		while (driver_reap()) {
			n_done++;
			reaped = true;
		}
		if (reaped)
			continue;
		if (polling) {
			sched_yield();
			continue;
		}
		/* Asleep with buffers out, or for want of room: only the device can wake us. */
		if (n_sent == n_done)
			continue;
		if (rig_random(&driver_random) % 4 ? virtqueue_enable_cb(&pair.vq)
						   : virtqueue_enable_cb_delayed(&pair.vq)) {
			n_driver_sleeps++;
			event_wait(driver_event);
		}
		virtqueue_disable_cb(&pair.vq);
	}
	return NULL;
}

/* ---- the device's thread ----------------------------------------------------------------- */

static void device_answer(struct chain *c)
{
	u8 bytes[64], answer[64];
	u32 number, n_in = c->in_bytes;
	size_t n = sg_read(&c->out, bytes, sizeof(bytes));

	CHECK(c->out.n_bytes == 0 && n >= 4);
	number = bytes[0] | bytes[1] << 8 | bytes[2] << 16 | (u32)bytes[3] << 24;
	for (u32 i = 4; i < n; i++)
		CHECK(bytes[i] == pattern(number, i));
	CHECK(n_in <= sizeof(answer));
	for (u32 i = 0; i < n_in; i++)
		answer[i] = pattern(~number, i);
	CHECK(sg_write(&c->in, answer, n_in) == n_in);
	devq_push(&pair.devq, c, n_in);
}

static void *device_thread(void *unused)
{
	struct chain chains[SIZE];
	struct span spans[SIZE][8];
	u32 n_taken = 0, n_held = 0;

	while (n_taken < N_BUFFERS || n_held > 0) {
		int got = 0;

		/* Hold some, so that they go back out of order and in batches. */
		while (n_held < SIZE && (n_held == 0 || rig_random(&device_random) % 4)) {
			chains[n_held] = (struct chain){ .spans = spans[n_held], .max_spans = 8 };
			got = devq_pop(&pair.devq, &chains[n_held]);
			CHECK(got >= 0);
			if (got == 0)
				break;
			n_taken++;
			n_held++;
		}
		if (n_held == 0) {
			if (polling) {
				sched_yield();
			} else {
				n_device_sleeps++;
				event_wait(device_event);
			}
			continue;
		}
		/* The spans move along with their chain. */
		u32 last = rig_random(&device_random) % n_held;
		struct chain c = chains[last];

		device_answer(&c);
		n_held--;
		for (u32 i = last; i < n_held; i++) {
			ptrdiff_t out = chains[i + 1].out.v - spans[i + 1];
			ptrdiff_t in = chains[i + 1].in.v - spans[i + 1];

			memcpy(spans[i], spans[i + 1], sizeof(spans[i]));
			chains[i] = chains[i + 1];
			chains[i].spans = spans[i];
			chains[i].out.v = spans[i] + out;
			chains[i].in.v = spans[i] + in;
		}
		/* A batch ends when nothing is held; whoever sleeps must have been told by then. */
		if ((n_held == 0 || rig_random(&device_random) % 4 == 0) && devq_flush(&pair.devq))
			event_set(driver_event);
	}
	return NULL;
}

/* ---- all combinations ---------------------------------------------------------------------- */

static void standstill(int signal)
{
	static const char text[] = "watchdog: a wake-up was lost, or this machine is very slow\n";

	(void)!write(2, text, sizeof(text) - 1);
	abort();
}

static void run(unsigned int combination)
{
	struct ring_pair_options options = ring_pair_combination(combination, SIZE);
	u64 popped = pair.devq.n_popped, pushed = pair.devq.n_pushed, signals = pair.devq.n_signals;
	pthread_t driver, device;

	ring_pair_start(&pair, &options);
	pair.vq.setup.notify = doorbell;
	for (u32 i = 0; i < SIZE; i++)
		buffers[i] = (struct buffer){ .data = pair.ram + PAIR_DATA_AT + i * SLOT_BYTES };
	device_event = eventfd(0, EFD_CLOEXEC);
	driver_event = eventfd(0, EFD_CLOEXEC);
	assert_true(device_event >= 0 && driver_event >= 0);
	n_driver_sleeps = n_device_sleeps = 0;
	if (polling) {
		devq_set_polling(&pair.devq, true);
		virtqueue_disable_cb(&pair.vq);
	}
	alarm(WATCHDOG_SECONDS);
	assert_int_equal(pthread_create(&device, NULL, device_thread, NULL), 0);
	assert_int_equal(pthread_create(&driver, NULL, driver_thread, NULL), 0);
	pthread_join(driver, NULL);
	pthread_join(device, NULL);
	alarm(0);
	close(device_event);
	close(driver_event);
	assert_int_equal(pair.devq.n_popped - popped, N_BUFFERS);
	assert_int_equal(pair.devq.n_pushed - pushed, N_BUFFERS);
	assert_int_equal(pair.n_mapped, 0);
	if (!polling) /* or nothing was tested */
		assert_true(n_device_sleeps > 0 && n_driver_sleeps > 0);
	print_message("%s%s%s, %s: %u buffers, the driver slept %llu times, the device %llu, "
		      "signals %llu\n",
		      options.packed ? "packed" : "split", options.event_idx ? ", event_idx" : "",
		      options.indirect ? ", indirect" : "", polling ? "polling" : "sleeping",
		      N_BUFFERS, (unsigned long long)n_driver_sleeps,
		      (unsigned long long)n_device_sleeps,
		      (unsigned long long)(pair.devq.n_signals - signals));
}

static void stress_sleeping_threads_never_lose_a_wake_up(void **state)
{
	polling = false;
	for (unsigned int i = 0; i < 8; i++)
		run(i);
}

static void stress_polling_threads_need_no_order_but_the_rings(void **state)
{
	polling = true;
	for (unsigned int i = 0; i < 8; i++)
		run(i);
}

static int create(void **state)
{
	signal(SIGALRM, standstill);
	driver_random = rig_seed();
	device_random = driver_random ^ 0x5555;
	ring_pair_create(&pair, true);
	return 0;
}

static int destroy(void **state)
{
	ring_pair_destroy(&pair);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(stress_sleeping_threads_never_lose_a_wake_up),
		cmocka_unit_test(stress_polling_threads_need_no_order_but_the_rings),
	};

	return cmocka_run_group_tests(tests, create, destroy);
}
