/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The ring on a machine whose processors see each other's stores late and out of order (D13).
 *
 * Both halves run in one thread, one step at a time, but each has a memory of its own. A store
 * is in the other's memory only when the model delivers it: in any order, except that a release
 * waits for all stores before it, and words that overlap keep theirs. A load may return what a
 * word was before the last delivery, unless an acquire came in between: that is a load done
 * early. A full fence delivers all, and makes one's own loads fresh; so does a doorbell, which
 * is a system call or a device register.
 *
 * That the model bites is shown by taking the orders away, one kind at a time: each time the
 * ring must go wrong. The processor that we test on is too well ordered to tell.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/shared.h"
#include "tests/support/rig.h"
#include "tests/support/ring_pair.h"

#define SIZE 8
#define MAX_ON_ITS_WAY 64
#define MAX_DELIVERED 64
#define N_BUFFERS 200 /* a schedule */
#define N_STEPS 200000 /* that no schedule needs */

enum { DRIVER, DEVICE };
enum order { ALL_ORDERS, NO_RELEASE, NO_ACQUIRE, NO_FENCE };

static struct ring_pair pair;
static u64 rnd;
static enum order broken;

/* ---- the memory -------------------------------------------------------------------------- */

struct store {
	u32 at, n_bytes;
	u64 value;
	u64 before; /* what was there, once delivered */
	bool release;
};

static struct processor {
	u8 sees[PAIR_RAM_BYTES];
	struct store on_its_way[MAX_ON_ITS_WAY]; /* of ours, to the other; oldest first */
	u32 n_on_its_way;
	struct store delivered[MAX_DELIVERED]; /* to us, since our last acquire */
	u32 n_delivered;
} processors[2];

static u32 below(u32 n)
{
	return rig_random(&rnd) % n;
}

static struct processor *processor_of(const void *p, u32 *at)
{
	const u8 *byte = p;

	if (byte >= pair.ram && byte < pair.ram + PAIR_RAM_BYTES) {
		*at = byte - pair.ram;
		return &processors[DRIVER];
	}
	*at = byte - pair.device_ram;
	assert_true(*at < PAIR_RAM_BYTES);
	return &processors[DEVICE];
}

static bool overlap(const struct store *a, const struct store *b)
{
	return a->at < b->at + b->n_bytes && b->at < a->at + a->n_bytes;
}

static void fresh(struct processor *p)
{
	p->n_delivered = 0;
}

static bool may_be_delivered(const struct processor *from, u32 i)
{
	const struct store *s = &from->on_its_way[i];

	if (s->release && broken != NO_RELEASE)
		return i == 0;
	for (u32 k = 0; k < i; k++)
		if (overlap(&from->on_its_way[k], s))
			return false;
	return true;
}

static void deliver(struct processor *from, u32 i)
{
	struct processor *to = &processors[from == &processors[DRIVER] ? DEVICE : DRIVER];
	struct store s = from->on_its_way[i];

	s.before = 0;
	memcpy(&s.before, to->sees + s.at, s.n_bytes);
	memcpy(to->sees + s.at, &s.value, s.n_bytes);
	if (to->n_delivered == MAX_DELIVERED)
		fresh(to);
	to->delivered[to->n_delivered++] = s;
	from->n_on_its_way--;
	memmove(from->on_its_way + i, from->on_its_way + i + 1,
		(from->n_on_its_way - i) * sizeof(s));
}

static void deliver_all(struct processor *from)
{
	while (from->n_on_its_way > 0)
		deliver(from, 0);
}

static void deliver_some(void)
{
	struct processor *from = &processors[below(2)];

	for (u32 tries = below(4); tries > 0 && from->n_on_its_way > 0; tries--) {
		u32 i = below(from->n_on_its_way);

		if (may_be_delivered(from, i))
			deliver(from, i);
	}
}

static u32 running; /* whose code runs: a fence has no address */
static void other_side_step(void);

/*
 * All of ours goes out, in any order that is allowed, and the other side goes on meanwhile: so it
 * meets what a fence, or the lack of a release before it, leaves half done.
 */
static void send_all(u32 who)
{
	struct processor *from = &processors[who];

	while (from->n_on_its_way > 0) {
		u32 i = below(from->n_on_its_way);

		deliver(from, may_be_delivered(from, i) ? i : 0);
		other_side_step();
	}
}

void weak_fence(void)
{
	if (broken == NO_FENCE)
		return;
	send_all(running);
	fresh(&processors[running]);
}

void weak_acquired(void)
{
	if (broken != NO_ACQUIRE)
		fresh(&processors[running]);
}

void weak_store(void *p, u64 value, u32 n_bytes, bool release)
{
	struct store s = { .n_bytes = n_bytes, .value = value, .release = release };
	struct processor *me = processor_of(p, &s.at);

	assert_ptr_equal(me, &processors[running]);
	memcpy(me->sees + s.at, &value, n_bytes);
	if (me->n_on_its_way == MAX_ON_ITS_WAY)
		deliver(me, 0);
	me->on_its_way[me->n_on_its_way++] = s;
	if (below(2))
		deliver_some();
}

u64 weak_load(const void *p, u32 n_bytes)
{
	struct store s = { .n_bytes = n_bytes };
	struct processor *me = processor_of(p, &s.at);
	u64 value = 0;

	assert_ptr_equal(me, &processors[running]);
	memcpy(&value, me->sees + s.at, n_bytes);
	/* As if the load had been done before some of the last deliveries to this word. */
	for (u32 i = me->n_delivered; i > 0 && below(2); i--) {
		const struct store *d = &me->delivered[i - 1];

		if (d->at == s.at && d->n_bytes == n_bytes)
			value = d->before;
	}
	if (below(2))
		deliver_some();
	return value;
}

/* A doorbell orders all that came before it, and wakes one who has seen nothing yet. */
static void doorbell(u32 from)
{
	send_all(from);
	fresh(&processors[!from]);
}

/* ---- the two halves ----------------------------------------------------------------------- */

static struct {
	const char *wrong; /* NULL: nothing so far */
	bool apart; /* set up or taken down: only one side runs */
	bool driver_awake, device_awake;
	u32 n_added, n_reaped;
	u64 sent[N_BUFFERS], n_back[N_BUFFERS];
	struct chain held[SIZE];
	struct span spans[SIZE][8];
	u32 n_held;
} run;

static u64 pattern(u32 i)
{
	return 0x0101010101010101ull * (i % 255 + 1);
}

/* Where buffer `i`'s question and answer lie: a slot of the data that nobody uses now. */
static u32 data_at(u32 i)
{
	return PAIR_DATA_AT + i * 32;
}

static void driver_add(void)
{
	u32 i = run.n_added;
	u8 *out = pair.ram + data_at(i), *in = out + 16;
	struct span sg[] = { { out, 8 }, { in, 8 } };

	if (i == N_BUFFERS || pair.vq.n_free < 2)
		return;
	le64_store((le64 *)(void *)out, pattern(i));
	if (virtqueue_add_buf(&pair.vq, sg, 1, 1, &run.sent[i]) == 0)
		run.n_added++;
}

static void driver_reap(void)
{
	u32 len;
	u64 *token = virtqueue_get_buf(&pair.vq, &len);

	if (token) {
		u32 i = token - run.sent;

		if (len != 8 || run.n_back[i]++)
			run.wrong = "a buffer came back twice, or with another length";
		else if (le64_load((const le64 *)(void *)(pair.ram + data_at(i) + 16)) !=
			 ~pattern(i))
			run.wrong = "the answer is not what the device wrote";
		run.n_reaped++;
		return;
	}
	if (virtqueue_is_broken(&pair.vq)) {
		run.wrong = ring_fault_name(pair.vq.fault.kind);
		return;
	}
	/* Nothing there. All is offered, or the ring is full: sleep, if that is safe. */
	if (run.n_added == N_BUFFERS || pair.vq.n_free < 2) {
		if (virtqueue_kick_prepare(&pair.vq)) {
			doorbell(DRIVER);
			run.device_awake = true;
		}
		run.driver_awake = !virtqueue_enable_cb(&pair.vq);
	}
}

static void driver_step(void)
{
	running = DRIVER;
	switch (below(4)) {
	case 0:
	case 1:
		driver_add();
		break;
	case 2:
		if (virtqueue_kick_prepare(&pair.vq)) {
			doorbell(DRIVER);
			run.device_awake = true;
		}
		break;
	case 3:
		driver_reap();
		break;
	}
}

static void device_pop(void)
{
	struct chain *c = &run.held[run.n_held];
	u64 word;
	int got;

	*c = (struct chain){ .spans = run.spans[run.n_held], .max_spans = 8 };
	got = devq_pop(&pair.devq, c);
	if (got < 0) {
		run.wrong = ring_fault_name(pair.devq.fault.kind);
	} else if (got == 0) {
		run.device_awake = false;
	} else {
		word = le64_load((const le64 *)(const void *)sg_at(&c->out));
		if (c->out.n_bytes != 8 || word == 0 ||
		    word != (word & 0xff) * 0x0101010101010101ull)
			run.wrong = "the question is not what the driver wrote";
		else
			le64_store((le64 *)(void *)sg_at(&c->in), ~word);
		run.n_held++;
	}
}

static void device_step(void)
{
	running = DEVICE;
	if (run.device_awake && run.n_held < SIZE && below(2))
		device_pop();
	if (run.n_held > 0 && below(2)) { /* in any order */
		u32 i = below(run.n_held);

		devq_push(&pair.devq, &run.held[i], 8);
		run.n_held--;
		for (u32 k = i; k < run.n_held; k++) {
			memcpy(run.spans[k], run.spans[k + 1], sizeof(run.spans[k]));
			run.held[k] = run.held[k + 1];
			run.held[k].spans = run.spans[k];
		}
	}
	if (below(2) && devq_flush(&pair.devq)) {
		doorbell(DEVICE);
		run.driver_awake = true;
	}
}

static void other_side_step(void)
{
	static bool nested;
	u32 was = running;

	if (nested || run.apart || below(2))
		return;
	nested = true;
	if (was == DRIVER)
		device_step();
	else if (run.driver_awake)
		driver_step();
	running = was;
	nested = false;
}

/* One schedule; NULL, or what went wrong. */
static const char *schedule(unsigned int combination)
{
	struct ring_pair_options options = ring_pair_combination(combination, SIZE);
	u32 quiet = 0;

	memset(processors, 0, sizeof(processors));
	memset(&run, 0, sizeof(run));
	run.apart = true;
	running = DRIVER;
	ring_pair_start_driver(&pair, &options);
	running = DEVICE;
	deliver_all(&processors[DRIVER]);
	assert_int_equal(
		devq_start(&pair.devq, &pair.setup, &pair.memory[0],
			   options.packed ? DEVQ_POSITION_START_PACKED : DEVQ_POSITION_START_SPLIT),
		0);
	run.driver_awake = run.device_awake = true;
	run.apart = false;
	for (u32 step = 0; step < N_STEPS && !run.wrong && run.n_reaped < N_BUFFERS; step++) {
		u32 before = run.n_reaped + run.n_added + run.n_held;

		deliver_some();
		if (run.driver_awake && below(2))
			driver_step();
		else
			device_step();
		quiet = run.n_reaped + run.n_added + run.n_held == before ? quiet + 1 : 0;
		/* Whoever is awake would have found something to do by now. */
		if (quiet == 2000) {
			deliver_all(&processors[DRIVER]);
			deliver_all(&processors[DEVICE]);
		}
		if (quiet > 4000)
			run.wrong = "both sleep, and there is work: a wake-up was lost";
	}
	if (!run.wrong && run.n_reaped < N_BUFFERS)
		run.wrong = "it does not come to an end";
	run.apart = true;
	while (virtqueue_detach(&pair.vq))
		;
	running = DEVICE;
	while (run.n_held > 0)
		devq_drop(&pair.devq, &run.held[--run.n_held]);
	if (pair.devq.live)
		devq_stop(&pair.devq);
	return run.wrong;
}

static void weak_D13_ring_keeps_its_promises_when_stores_come_late(void **state)
{
	for (unsigned int i = 0; i < 8; i++)
		for (u32 n = 0; n < 400; n++) {
			u64 seed = rnd;
			const char *wrong = schedule(i);

			if (wrong)
				print_error("combination %u, state %llu: %s\n", i,
					    (unsigned long long)seed, wrong);
			assert_null(wrong);
		}
}

/* Without an order that the ring counts on it must fail, or this test shows nothing. */
static void assert_goes_wrong_without(enum order order, unsigned int combination)
{
	const char *wrong = NULL;

	broken = order;
	for (u32 n = 0; n < 3000 && !wrong; n++)
		wrong = schedule(combination);
	broken = ALL_ORDERS;
	assert_non_null(wrong);
	print_message("combination %u: %s\n", combination, wrong);
}

static void weak_D13_ring_fails_without_release(void **state)
{
	for (unsigned int i = 0; i < 8; i++)
		assert_goes_wrong_without(NO_RELEASE, i);
}

static void weak_D13_ring_fails_without_acquire(void **state)
{
	for (unsigned int i = 0; i < 8; i++)
		assert_goes_wrong_without(NO_ACQUIRE, i);
}

static void weak_D13_ring_fails_without_fences(void **state)
{
	for (unsigned int i = 0; i < 8; i++)
		assert_goes_wrong_without(NO_FENCE, i);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(weak_D13_ring_keeps_its_promises_when_stores_come_late),
		cmocka_unit_test(weak_D13_ring_fails_without_release),
		cmocka_unit_test(weak_D13_ring_fails_without_acquire),
		cmocka_unit_test(weak_D13_ring_fails_without_fences),
	};

	rnd = rig_seed();
	ring_pair_create(&pair, false);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
