/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Driver half against device half: seeded random schedules, judged by a model that knows nothing
 * of rings.
 *
 * The model keeps what each buffer must go through: added, popped (in that order), pushed (in
 * any), reaped (in the order of pushes), with the bytes and the length that were written. And
 * who sleeps: a device sleeps when a pop answered "empty", a driver when enable_cb answered
 * "nothing there". A sleeper acts only when notified, so a wake-up that gets lost leaves work
 * undone, which is looked for after each kick, each flush and at the end.
 *
 * usage: test_ring_pair [--schedules N] [--seed S]; N is per format, and VIADUCT_PAIR_SCHEDULES
 * in the environment overrides it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/support/rig.h"
#include "tests/support/ring_pair.h"

#define MAX_LISTS 4
#define MAX_PIECES 12
#define MAX_SPANS (MAX_PIECES + 4) /* a cut may part a piece */
#define TOKEN_BYTES 1536
#define CANARY 0xee

struct token {
	enum { FREE, OFFERED, POPPED, PUSHED } state;
	u32 number; /* of all buffers; its data follow from it */
	u32 out_bytes, in_bytes, written;
	u32 slots; /* ring entries */
	u8 *data; /* out bytes, then in bytes, together */
	struct chain chain;
	struct span spans[MAX_SPANS];
};

/* Tokens in the order in which they must come. */
struct fifo {
	u16 at[PAIR_MAX_SIZE];
	u32 n;
};

static struct ring_pair pair;
static struct token tokens[PAIR_MAX_SIZE];
static struct fifo offered, popped, pushed;
static u32 n_flushed; /* of `pushed`, those that the driver has to see, and to be told of */
static bool device_asleep, driver_asleep, driver_delayed, polling;
static u32 n_pops_undoable;
static u32 slots_used, buffers_out, next_number;
static u32 n_returned; /* of `offered`, what the device put back and sleeps on, for want of more */
static u64 rnd, schedules = 2000, first_seed, current_seed;
static bool running;
static struct {
	u64 schedules, adds, indirects, full, unmappable, pops, unpops, pushes, reaps, stops,
		remaps, sleeps, kicks, notified, signals, delayed, polls;
} count;

static u32 below(u32 n)
{
	return rig_random(&rnd) % n;
}

static u16 fifo_take(struct fifo *f, u32 i)
{
	u16 t = f->at[i];

	memmove(&f->at[i], &f->at[i + 1], (--f->n - i) * sizeof(f->at[0]));
	return t;
}

static void fifo_put_first(struct fifo *f, u16 t)
{
	memmove(&f->at[1], &f->at[0], f->n++ * sizeof(f->at[0]));
	f->at[0] = t;
}

static void fifo_put(struct fifo *f, u16 t)
{
	f->at[f->n++] = t;
}

static u8 pattern(u32 number, bool in, u32 at)
{
	return (number * 2654435761u >> 24) + at * 7 + (in ? 101 : 0);
}

/* The same buffer from several lists, some of them empty. */
static int add_scattered(const struct span *sg, u32 n_out, u32 n_in, void *token)
{
	struct sg_list lists[2 * MAX_LISTS];
	u32 left = n_out, at = 0;

	for (u32 l = 0; l < 2 * MAX_LISTS; l++) {
		bool last = l % MAX_LISTS == MAX_LISTS - 1;
		u32 n = last ? left : below(left + 1);

		lists[l] = (struct sg_list){ sg + at, n };
		at += n;
		left = last ? n_in : left - n;
	}
	return virtqueue_add_sgs(&pair.vq, lists, MAX_LISTS, MAX_LISTS, token);
}

static void driver_add(void)
{
	struct span sg[MAX_PIECES];
	u32 n = 1 + below(below(4) ? 3 : MAX_PIECES), n_out = below(n + 1), left = TOKEN_BYTES;
	bool indirect = pair.options.indirect && n > 1 && n <= PAIR_MAX_INDIRECT;
	struct token *t = NULL;
	u16 i;
	int err;

	for (i = 0; i < pair.options.size && !t; i++)
		if (tokens[i].state == FREE)
			t = &tokens[i];
	if (!t) {
		struct span one = { pair.ram + PAIR_DATA_AT, 1 };

		assert_int_equal(virtqueue_add_buf(&pair.vq, &one, 1, 0, &one), -ENOSPC);
		count.full++;
		return;
	}
	i--;
	t->number = next_number++;
	t->slots = indirect ? 1 : n;
	t->out_bytes = t->in_bytes = 0;
	for (u32 k = 0; k < n; k++) {
		u32 most = left - (n - 1 - k),
		    bytes = 1 + below(below(3) ? min_u64(most, 16) : most);

		sg[k] = (struct span){ t->data + TOKEN_BYTES - left, bytes };
		left -= bytes;
		*(k < n_out ? &t->out_bytes : &t->in_bytes) += bytes;
	}
	for (u32 k = 0; k < t->out_bytes; k++)
		t->data[k] = pattern(t->number, false, k);
	memset(t->data + t->out_bytes, CANARY, TOKEN_BYTES - t->out_bytes);

	u64 mapped = pair.n_mapped;

	err = below(2) ? virtqueue_add_buf(&pair.vq, sg, n_out, n - n_out, t)
		       : add_scattered(sg, n_out, n - n_out, t);
	if (t->slots > pair.options.size) {
		assert_int_equal(err, -EINVAL);
	} else if (t->slots > pair.options.size - slots_used) {
		assert_int_equal(err, -ENOSPC);
		count.full++;
	} else if (err == -ENOMEM) {
		assert_int_not_equal(pair.map_failures, 0);
		count.unmappable++;
	} else {
		assert_int_equal(err, 0);
		assert_int_equal(pair.n_mapped, mapped + n + indirect);
		t->state = OFFERED;
		fifo_put(&offered, i);
		slots_used += t->slots;
		buffers_out++;
		count.adds++;
		count.indirects += indirect;
		return;
	}
	assert_int_equal(pair.n_mapped, mapped);
}

static void device_wakes(void)
{
	device_asleep = false;
	n_returned = 0;
}

static void driver_kick(void)
{
	u64 before = pair.n_notified;

	pair.device_awake = false;
	assert_true(virtqueue_kick(&pair.vq));
	count.kicks++;
	count.notified += pair.n_notified - before;
	if (pair.device_awake)
		device_asleep = false;
	/* The wake-up: after a kick nobody sleeps while there is something to take. */
	if (device_asleep) {
		assert_int_equal(offered.n, n_returned);
		assert_int_equal(devq_pending(&pair.devq), n_returned > 0);
	} else {
		n_returned = 0;
	}
	/* And where notifications can be forbidden, they were not made for nothing. */
	if (polling && !pair.options.event_idx)
		assert_int_equal(pair.n_notified, before);
}

static bool driver_reap(void)
{
	u32 written = 0xdeadbeef;
	struct token *t = virtqueue_get_buf(&pair.vq, &written);

	assert_false(virtqueue_is_broken(&pair.vq));
	if (!t) {
		assert_int_equal(n_flushed, 0);
		return false;
	}
	/* The split ring shows nothing before the flush. */
	assert_true(n_flushed > 0 || (pair.options.packed && pushed.n > 0));
	assert_ptr_equal(t, &tokens[fifo_take(&pushed, 0)]);
	n_flushed -= n_flushed > 0;
	assert_int_equal(t->state, PUSHED);
	assert_int_equal(written, t->written);
	for (u32 i = 0; i < t->out_bytes; i++)
		assert_int_equal(t->data[i], pattern(t->number, false, i));
	for (u32 i = 0; i < TOKEN_BYTES - t->out_bytes; i++)
		assert_int_equal(t->data[t->out_bytes + i],
				 i < written ? pattern(t->number, true, i) : CANARY);
	t->state = FREE;
	slots_used -= t->slots;
	buffers_out--;
	count.reaps++;
	return true;
}

static void driver_sleep(bool delayed)
{
	if (delayed ? !virtqueue_enable_cb_delayed(&pair.vq) : !virtqueue_enable_cb(&pair.vq)) {
		assert_true(n_flushed > 0 || (pair.options.packed && pushed.n > 0));
		virtqueue_disable_cb(&pair.vq);
		return;
	}
	if (!delayed)
		assert_int_equal(n_flushed, 0);
	driver_asleep = true;
	driver_delayed = delayed;
	count.sleeps++;
	count.delayed += delayed;
}

/* After a flush: nobody sleeps on results. Who asked for a delay may, while some are to come. */
static void driver_must_not_oversleep(void)
{
	if (!driver_asleep)
		return;
	assert_true(driver_delayed ? n_flushed == 0 || n_flushed < buffers_out : n_flushed == 0);
}

static void device_flush(void)
{
	bool signal = devq_flush(&pair.devq);

	n_flushed = pushed.n;
	count.signals += signal;
	assert_false(signal && !pair.vq.cb_enabled);
	if (signal)
		driver_asleep = false;
	driver_must_not_oversleep();
}

static void device_check_chain(struct token *t)
{
	struct sg out = t->chain.out;
	u8 bytes[TOKEN_BYTES];

	assert_int_equal(t->chain.out.n_bytes, t->out_bytes);
	assert_int_equal(t->chain.in.n_bytes, t->in_bytes);
	assert_int_equal(t->chain.in_bytes, t->in_bytes);
	assert_int_equal(sg_read(&out, bytes, sizeof(bytes)), t->out_bytes);
	for (u32 i = 0; i < t->out_bytes; i++)
		assert_int_equal(bytes[i], pattern(t->number, false, i));
}

/* False if there was nothing, and the device sleeps now. */
static bool device_pop(void)
{
	struct chain c = { .max_spans = MAX_SPANS };
	struct token *t = &tokens[offered.n ? offered.at[0] : 0];
	int got;

	c.spans = t->spans;
	if (!offered.n) { /* its spans may be in use */
		static struct span unused[MAX_SPANS];

		c.spans = unused;
	}
	got = devq_pop(&pair.devq, &c);
	if (got == 0) {
		/* A split driver has not published what it did not kick yet. */
		assert_true(offered.n == 0 || pair.vq.n_added > 0);
		device_asleep = !polling;
		return false;
	}
	assert_int_equal(got, 1);
	assert_true(offered.n > 0);
	assert_int_equal(t->state, OFFERED);
	fifo_put(&popped, fifo_take(&offered, 0));
	t->state = POPPED;
	t->chain = c;
	device_check_chain(t);
	n_pops_undoable++;
	count.pops++;
	return true;
}

static void device_unpop(void)
{
	u16 i = fifo_take(&popped, popped.n - 1);

	devq_unpop(&pair.devq, &tokens[i].chain);
	tokens[i].state = OFFERED;
	fifo_put_first(&offered, i);
	n_pops_undoable--;
	count.unpops++;
}

static void device_push(void)
{
	u16 i = fifo_take(&popped, below(popped.n));
	struct token *t = &tokens[i];
	u8 bytes[TOKEN_BYTES];

	t->written = below(4) ? t->in_bytes : below(t->in_bytes + 1);
	for (u32 k = 0; k < t->written; k++)
		bytes[k] = pattern(t->number, true, k);
	assert_int_equal(sg_write(&t->chain.in, bytes, t->written), t->written);
	devq_push(&pair.devq, &t->chain, t->written);
	t->state = PUSHED;
	fifo_put(&pushed, i);
	n_pops_undoable = 0;
	count.pushes++;
}

/* Another device takes over where this one stopped, perhaps with another map. */
static void device_stop_start(void)
{
	struct memory *memory = &pair.memory[below(2)];
	u32 position;

	device_flush();
	position = devq_stop(&pair.devq);
	memset(&pair.devq, 0xa5, sizeof(pair.devq));
	devq_init(&pair.devq, PAIR_MAX_SIZE, pair.in_flight);
	assert_int_equal(devq_start(&pair.devq, &pair.setup, memory, position), 0);
	polling = false;
	device_wakes(); /* it has to look once, before it may sleep */
	n_pops_undoable = 0;
	count.stops++;
}

static void act(void)
{
	switch (below(16)) {
	case 0:
	case 1:
	case 2:
		for (u32 n = 1 + below(4); n > 0; n--)
			driver_add();
		break;
	case 3:
	case 4:
		driver_kick();
		break;
	case 5:
	case 6:
		if (!driver_asleep)
			for (u32 n = 1 + below(6); n > 0 && driver_reap(); n--)
				;
		break;
	case 7:
		if (!driver_asleep)
			driver_sleep(below(3) == 0);
		break;
	case 8:
		if (!driver_asleep)
			virtqueue_disable_cb(&pair.vq);
		break;
	case 9:
	case 10:
		if (!device_asleep)
			for (u32 n = 1 + below(6); n > 0 && device_pop(); n--)
				;
		break;
	case 11:
		/* A device that wants more than there is puts back what it has and sleeps on. */
		for (u32 n = below(3); n > 0 && n_pops_undoable > 0; n--) {
			device_unpop();
			n_returned += device_asleep;
		}
		break;
	case 12:
	case 13:
		for (u32 n = 1 + below(4); n > 0 && popped.n > 0; n--)
			device_push();
		break;
	case 14:
		device_flush();
		break;
	case 15:
		switch (below(4)) {
		case 0:
			polling = !polling;
			devq_set_polling(&pair.devq, polling);
			device_wakes();
			count.polls += polling;
			break;
		case 1:
			if (popped.n == 0)
				device_stop_start();
			break;
		case 2:
			assert_int_equal(devq_remap(&pair.devq, &pair.memory[below(2)]), 0);
			count.remaps++;
			break;
		default:
			break;
		}
		break;
	}
}

/* No more buffers; both work while they are awake, and everything must have come back. */
static void drain(void)
{
	bool busy = true;

	if (polling) {
		polling = false;
		devq_set_polling(&pair.devq, false);
		device_wakes();
	}
	driver_kick();
	if (n_returned > 0)
		device_wakes();
	while (busy) {
		busy = false;
		while (!device_asleep && device_pop())
			busy = true;
		while (popped.n > 0)
			device_push();
		device_flush();
		if (!driver_asleep) {
			while (driver_reap())
				busy = true;
			driver_sleep(below(2));
		}
	}
	assert_true(device_asleep && driver_asleep);
	assert_int_equal(buffers_out, 0);
	assert_int_equal(slots_used, 0);
	assert_int_equal(pair.n_mapped, 0);
	assert_int_equal(pair.vq.n_free, pair.options.size);
	assert_int_equal(pair.devq.n_in_flight, 0);
	assert_null(virtqueue_detach(&pair.vq));
	assert_int_equal(pair.memory[0].n_pins + pair.memory[1].n_pins, 3);
}

static void run_schedule(bool packed, u64 seed)
{
	static const u16 split_sizes[] = { 1, 2, 8, 256 }, packed_sizes[] = { 1, 2, 3, 8, 256 };
	struct ring_pair_options options = { .packed = packed };

	rnd = seed;
	options.event_idx = below(2);
	options.indirect = below(2);
	options.size = packed ? packed_sizes[below(5)] : split_sizes[below(4)];
	ring_pair_start(&pair, &options);
	if (below(4) == 0)
		pair.map_failures = seed | 1;
	offered.n = popped.n = pushed.n = 0;
	n_returned = n_flushed = slots_used = buffers_out = n_pops_undoable = 0;
	device_asleep = driver_asleep = polling = false;
	for (u32 i = 0; i < PAIR_MAX_SIZE; i++)
		tokens[i].state = FREE;

	for (u32 n = 20 + below(below(8) ? 200 : 2000); n > 0; n--)
		act();
	drain();
	/* Once more from sleep, so that what the drain left behind can still be woken. */
	pair.map_failures = 0;
	driver_add();
	driver_kick();
	drain();
}

static void run_format(bool packed)
{
	memset(&count, 0, sizeof(count));
	for (running = true; count.schedules < schedules; count.schedules++) {
		current_seed = first_seed + count.schedules;
		run_schedule(packed, current_seed);
	}
	running = false;
	print_message("%s: %llu schedules from seed %llu\n", packed ? "packed" : "split",
		      (unsigned long long)schedules, (unsigned long long)first_seed);
#define SHOW(what)                                                                   \
	do {                                                                         \
		print_message("  %s %llu\n", #what, (unsigned long long)count.what); \
		if (schedules >= 100)                                                \
			assert_true(count.what > 0);                                 \
	} while (0)
	/* What a hundred schedules never do is not tested: say so by failing. */
	SHOW(adds);
	SHOW(indirects);
	SHOW(full);
	SHOW(unmappable);
	SHOW(pops);
	SHOW(unpops);
	SHOW(pushes);
	SHOW(reaps);
	SHOW(stops);
	SHOW(remaps);
	SHOW(polls);
	SHOW(sleeps);
	SHOW(delayed);
	SHOW(kicks);
	SHOW(notified);
	SHOW(signals);
	assert_int_equal(count.adds, count.reaps);
	/* Suppression suppresses: far from every kick rings, far from every buffer signals. */
	assert_true(count.notified < count.kicks);
	assert_true(count.signals < count.reaps);
}

static void pair_split_random_schedules_keep_every_promise(void **state)
{
	run_format(false);
}

static void pair_packed_random_schedules_keep_every_promise(void **state)
{
	run_format(true);
}

static int create(void **state)
{
	ring_pair_create(&pair, false);
	/* Half of the buffers in each part of the memory. */
	for (u32 i = 0; i < PAIR_MAX_SIZE; i++)
		tokens[i].data =
			pair.ram + (i % 2 ? PAIR_LOW_BYTES : PAIR_DATA_AT) + i / 2 * TOKEN_BYTES;
	return 0;
}

static int destroy(void **state)
{
	if (!running) { /* after a failure, requests may well be in flight */
		ring_pair_destroy(&pair);
		return 0;
	}
	print_error("the schedule that failed: --schedules 1 --seed %llu (%s, size %u%s%s)\n",
		    (unsigned long long)current_seed, pair.options.packed ? "packed" : "split",
		    pair.options.size, pair.options.event_idx ? ", event_idx" : "",
		    pair.options.indirect ? ", indirect" : "");
	running = false;
	return 0;
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(pair_split_random_schedules_keep_every_promise,
						create, destroy),
		cmocka_unit_test_setup_teardown(pair_packed_random_schedules_keep_every_promise,
						create, destroy),
	};
	bool seeded = false;

	for (int i = 1; i < argc; i += 2) {
		if (i + 1 < argc && strcmp(argv[i], "--schedules") == 0) {
			schedules = strtoull(argv[i + 1], NULL, 0);
		} else if (i + 1 < argc && strcmp(argv[i], "--seed") == 0) {
			first_seed = strtoull(argv[i + 1], NULL, 0);
			seeded = true;
		} else {
			fprintf(stderr, "usage: %s [--schedules N] [--seed S]\n", argv[0]);
			return 2;
		}
	}
	if (getenv("VIADUCT_PAIR_SCHEDULES"))
		schedules = strtoull(getenv("VIADUCT_PAIR_SCHEDULES"), NULL, 0);
	if (!seeded)
		first_seed = rig_seed();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
