/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The driver's end of PCI in front of a function that lies: our device end, with bytes of its
 * configuration space changed under it. The bus fails a test at once if an access is not aligned
 * or lies outside the BAR.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/log.h"
#include "tests/support/echo.h"
#include "tests/support/rig.h"
#include "transport/inproc/link.h"
#include "transport/pci/device.h"
#include "transport/pci/driver.h"

#define COMMON(field) ((u32)offsetof(struct virtio_pci_common_cfg, field))
#define N_QUEUES 2

static u64 seed;
static u8 ram[1 << 20] __attribute__((aligned(4096)));

static struct bench {
	struct echo echo;
	struct pci_device back;
	struct pci_device_env env;
	struct pci_front front;
	struct pci_access access;
	struct inproc_platform memory;
	struct memory map;
	struct memory_region region;
	bool gone;
	u32 lie_at, lie_bytes, lie; /* what a read of this place of the BAR gives; bytes 0: none */
	u32 n_accesses;
	u32 n_messages[N_QUEUES + 1];
	bool level;
	struct virtqueue *vqs[N_QUEUES];
	u32 n_callbacks[N_QUEUES], n_changes;
	u32 n_lines; /* logged */
} b;

/* ---- the bus ----------------------------------------------------------------------------- */

static void check(u64 offset, u32 n_bytes, u64 limit)
{
	b.n_accesses++;
	assert_true(n_bytes == 1 || n_bytes == 2 || n_bytes == 4);
	assert_int_equal(offset % n_bytes, 0);
	assert_true(offset <= limit - n_bytes);
}

static u32 bus_config_read(struct pci_access *a, u32 offset, u32 n_bytes)
{
	check(offset, n_bytes, PCI_CONFIG_BYTES);
	return b.gone ? UINT32_MAX >> (32 - 8 * n_bytes)
		      : pci_device_config_read(&b.back, offset, n_bytes);
}

static void bus_config_write(struct pci_access *a, u32 offset, u32 n_bytes, u32 value)
{
	check(offset, n_bytes, PCI_CONFIG_BYTES);
	if (!b.gone)
		pci_device_config_write(&b.back, offset, n_bytes, value);
}

static u32 bus_bar_read(struct pci_access *a, u32 bar, u64 offset, u32 n_bytes)
{
	assert_int_equal(bar, 0);
	check(offset, n_bytes, PCI_DEVICE_BAR_BYTES);
	if (b.gone)
		return UINT32_MAX >> (32 - 8 * n_bytes);
	if (b.lie_bytes == n_bytes && b.lie_at == offset)
		return b.lie;
	return pci_device_bar_read(&b.back, bar, offset, n_bytes);
}

static void bus_bar_write(struct pci_access *a, u32 bar, u64 offset, u32 n_bytes, u32 value)
{
	assert_int_equal(bar, 0);
	check(offset, n_bytes, PCI_DEVICE_BAR_BYTES);
	if (!b.gone)
		pci_device_bar_write(&b.back, bar, offset, n_bytes, value);
}

static int bus_message(struct pci_access *a, u16 vector, u64 *address, u32 *data)
{
	*address = 0x1fee00000ull;
	*data = vector;
	return 0;
}

static const struct pci_access_ops access_ops = {
	bus_config_read, bus_config_write, bus_bar_read, bus_bar_write, bus_message,
};

static void env_message(struct pci_device_env *env, u64 address, u32 data)
{
	assert_int_equal(address, 0x1fee00000ull);
	assert_in_range(data, 0, N_QUEUES);
	b.n_messages[data]++;
}

static void env_intx(struct pci_device_env *env, bool level)
{
	b.level = level;
}

static void env_again(struct pci_device_env *env)
{
}

static const struct pci_device_env_ops env_ops = { env_message, env_intx, env_again };

static void count_line(enum log_level level, const char *object, const char *format, va_list args)
{
	b.n_lines++;
}

/* ---- a driver ----------------------------------------------------------------------------- */

static void called(struct virtqueue *vq)
{
	b.n_callbacks[vq->index]++;
}

static int probe(struct virtio_device *vdev)
{
	const struct virtqueue_info infos[N_QUEUES] = {
		{ .name = "a", .callback = called, .max_size = 16 },
		{ .name = "b", .callback = called, .max_size = 16 },
	};

	return virtio_find_vqs(vdev, N_QUEUES, b.vqs, infos);
}

static void remove_device(struct virtio_device *vdev)
{
	for (int i = 0; i < N_QUEUES; i++)
		while (virtqueue_detach(b.vqs[i]))
			;
	virtio_del_vqs(vdev);
}

static void changed(struct virtio_device *vdev)
{
	b.n_changes++;
}

static const struct virtio_device_id ids[] = { { 0xec0, VIRTIO_DEV_ANY_ID }, { 0, 0 } };
static struct virtio_driver driver = {
	.name = "caller",
	.id_table = ids,
	.probe = probe,
	.remove = remove_device,
	.config_changed = changed,
};

static int setup(void **state)
{
	memset(&b, 0, sizeof(b));
	echo_init(&b.echo, N_QUEUES);
	inproc_platform_init(&b.memory, ram, sizeof(ram));
	b.region = (struct memory_region){ INPROC_GPA, sizeof(ram), ram };
	assert_int_equal(memory_init(&b.map, &b.region, 1), 0);
	vdev_set_memory(&b.echo.vdev, &b.map);
	b.env.ops = &env_ops;
	b.access = (struct pci_access){ .ops = &access_ops, .max_vectors = 16, .intx = true };
	pci_device_init(&b.back, &b.echo.vdev, &b.env);
	log_set_hook(count_line);
	return register_virtio_driver(&driver);
}

static int teardown(void **state)
{
	unregister_virtio_driver(&driver);
	pci_device_fini(&b.back);
	vdev_set_memory(&b.echo.vdev, NULL);
	log_set_hook(NULL);
	assert_int_equal(b.memory.n_mapped, 0);
	return 0;
}

static int init(void)
{
	return pci_front_init(&b.front, &b.access, &b.memory.platform, "card");
}

/* Where the capability of this type stands. */
static u32 cap_at(u8 type)
{
	u32 at = b.back.config[PCI_CAPABILITIES];

	while (b.back.config[at] != PCI_CAP_VENDOR || b.back.config[at + 3] != type)
		at = b.back.config[at + 1];
	return at;
}

static void echo_once(u16 queue)
{
	u8 *out = ram + sizeof(ram) - 64, *in = out + 32;
	struct span sg[] = { { out, 32 }, { in, 32 } };
	u32 len;

	memset(out, 0x21, 32);
	memset(in, 0, 32);
	assert_int_equal(virtqueue_add_buf(b.vqs[queue], sg, 1, 1, out), 0);
	assert_true(virtqueue_kick(b.vqs[queue]));
	assert_ptr_equal(virtqueue_get_buf(b.vqs[queue], &len), out);
	assert_int_equal(len, 32);
	assert_memory_equal(in, out, 32);
}

/* Everything works: up, an echo on each queue, down. */
static void expect_works(void)
{
	assert_int_equal(init(), 0);
	assert_int_equal(register_virtio_device(&b.front.device), 0);
	assert_int_equal(b.front.device.state, VIRTIO_STATE_LIVE);
	for (u16 i = 0; i < N_QUEUES; i++)
		echo_once(i);
}

/* ---- tests ------------------------------------------------------------------------------- */

static void init_sizes_bars_and_leaves_them(void **state)
{
	pci_device_config_write(&b.back, PCI_BAR(0), 4, 0xfe010000);
	pci_device_config_write(&b.back, PCI_BAR(1), 4, 7);
	expect_works();
	assert_int_equal(b.front.bar_bytes[0], PCI_DEVICE_BAR_BYTES);
	for (int i = 1; i < PCI_N_BARS; i++)
		assert_int_equal(b.front.bar_bytes[i], 0);
	assert_int_equal(pci_device_bar_address(&b.back), 0x7fe010000ull);
	assert_int_equal(b.front.device.id.device, 0xec0);
	assert_int_equal(b.n_lines, 0);
	unregister_virtio_device(&b.front.device);
	pci_front_fini(&b.front);
	assert_false(pci_device_config_read(&b.back, PCI_COMMAND, 2) & PCI_COMMAND_MASTER);
}

static void init_other_functions_are_no_devices(void **state)
{
	b.gone = true;
	assert_int_equal(init(), -ENODEV);
	b.gone = false;
	b.back.config[PCI_VENDOR_ID] ^= 1;
	assert_int_equal(init(), -ENODEV);
	b.back.config[PCI_VENDOR_ID] ^= 1;
	b.back.config[PCI_DEVICE_ID + 1] = 0x0f;
	assert_int_equal(init(), -ENODEV);
	b.back.config[PCI_DEVICE_ID] = 1; /* transitional: the type stands elsewhere */
	b.back.config[PCI_DEVICE_ID + 1] = 0x10;
	b.back.config[PCI_SUBSYSTEM_ID] = 0xc0;
	b.back.config[PCI_SUBSYSTEM_ID + 1] = 0x0e;
	expect_works();
	unregister_virtio_device(&b.front.device);
	assert_int_equal(b.n_lines, 0);
}

static void caps_list_without_end_is_walked_once(void **state)
{
	static const u8 types[] = { VIRTIO_PCI_CAP_COMMON_CFG, VIRTIO_PCI_CAP_NOTIFY_CFG,
				    VIRTIO_PCI_CAP_ISR_CFG, VIRTIO_PCI_CAP_DEVICE_CFG };

	for (u32 i = 0; i < ARRAY_SIZE(types); i++) { /* D06 */
		for (u32 back = 0; back <= i; back++) {
			u32 from = cap_at(types[i]), to = cap_at(types[back]);
			u8 was = b.back.config[from + 1];

			b.n_lines = b.n_accesses = 0;
			b.back.config[from + 1] = to;
			/* All that is needed lies before the circle, or not. */
			assert_int_equal(init(), i >= 2 ? 0 : -ENODEV);
			assert_in_range(b.n_accesses, 1, 600);
			assert_int_equal(b.n_lines, i >= 2 ? 1 : 2);
			b.back.config[from + 1] = was;
		}
	}
}

static void caps_that_cannot_be_are_passed_over(void **state)
{
	static const struct {
		const char *what;
		u8 type, at, n_bytes;
		u32 value;
		int result;
	} rows[] = {
		{ "common: bar 1, which is not there", 1, 4, 1, 1, -ENODEV },
		{ "common: bar 6", 1, 4, 1, 6, -ENODEV },
		{ "common: bar 255", 1, 4, 1, 255, -ENODEV },
		{ "common: at the BAR's end", 1, 8, 4, PCI_DEVICE_BAR_BYTES, -ENODEV },
		{ "common: too near to it", 1, 8, 4, PCI_DEVICE_BAR_BYTES - 52, -ENODEV },
		{ "common: far beyond", 1, 8, 4, 0xfffffffc, -ENODEV },
		{ "common: not aligned", 1, 8, 4, 2, -ENODEV },
		{ "common: no length", 1, 12, 4, 0, -ENODEV },
		{ "common: short", 1, 12, 4, 55, -ENODEV },
		{ "common: as of 1.0", 1, 12, 4, 56, 0 },
		{ "common: too long", 1, 12, 4, 0xffffffff, 0 },
		{ "common: capability too short", 1, 2, 1, 15, -ENODEV },
		{ "common: capability longer", 1, 2, 1, 24, 0 },
		{ "common: capability beyond the space", 1, 2, 1, 0xff, -ENODEV },
		{ "common: unknown type", 1, 3, 1, 77, -ENODEV },
		{ "notify: capability without multiplier", 2, 2, 1, 16, -ENODEV },
		{ "notify: one byte", 2, 12, 4, 1, -ENODEV },
		{ "notify: odd", 2, 8, 4, 0x3001, -ENODEV },
		{ "notify: bar 5", 2, 4, 1, 5, -ENODEV },
		{ "ISR: no length", 3, 12, 4, 0, -ENODEV },
		{ "ISR: beyond", 3, 8, 4, PCI_DEVICE_BAR_BYTES, -ENODEV },
		{ "device: beyond", 4, 8, 4, PCI_DEVICE_BAR_BYTES, 0 },
		{ "device: too long", 4, 12, 4, 0xffffffff, 0 },
		{ "device: bar 200", 4, 4, 1, 200, 0 },
	};

	for (u32 i = 0; i < ARRAY_SIZE(rows); i++) { /* D06 */
		u8 *at = &b.back.config[cap_at(rows[i].type) + rows[i].at], was[4];
		le32 value = le32_of(rows[i].value);

		b.n_lines = 0;
		memcpy(was, at, 4);
		memcpy(at, &value, rows[i].n_bytes);
		if (init() != rows[i].result)
			fail_msg("%s", rows[i].what);
		assert_int_equal(b.n_lines, rows[i].result ? 1 : 0);
		if (rows[i].result == 0) {
			expect_works();
			virtio_cread(&b.front.device, 0, 8);
			virtio_cwrite(&b.front.device, 12, 4, 1);
			virtio_cread(&b.front.device, UINT32_MAX - 3, 4);
			unregister_virtio_device(&b.front.device);
		}
		memcpy(at, was, 4);
	}
}

static void caps_first_usable_of_a_type_is_taken(void **state)
{
	u32 common = cap_at(VIRTIO_PCI_CAP_COMMON_CFG), spare = 0xc0;

	/* In front of the good one stand one in no BAR and, after it, one elsewhere. */
	memcpy(&b.back.config[spare], &b.back.config[common], 16);
	b.back.config[spare + 4] = 3;
	b.back.config[spare + 1] = common;
	memcpy(&b.back.config[spare + 16], &b.back.config[common], 16);
	b.back.config[spare + 16 + 9] = 0x40;
	b.back.config[common + 1] = spare + 16;
	b.back.config[b.back.config[PCI_CAPABILITIES] + 1] = spare;
	expect_works();
	assert_int_equal(b.front.common.offset, 0);
	unregister_virtio_device(&b.front.device);
}

static void notify_outside_of_its_structure_is_refused(void **state)
{
	static const u32 multipliers[] = { 0xffffffff, 0x80000000, 7, 8, 3, 1 };

	for (u32 i = 0; i < ARRAY_SIZE(multipliers); i++) { /* D06: queue 1 is the victim */
		le32 m = le32_of(multipliers[i]);

		memcpy(&b.back.config[cap_at(VIRTIO_PCI_CAP_NOTIFY_CFG) + 16], &m, 4);
		assert_int_equal(init(), 0);
		b.n_lines = 0;
		assert_int_equal(register_virtio_device(&b.front.device), -EIO);
		assert_int_equal(b.n_lines, 1);
		unregister_virtio_device(&b.front.device);
	}
}

static void interrupts_fall_back_step_by_step(void **state)
{
	static const struct {
		u16 table, machine;
		bool intx, refuse;
		enum pci_interrupts want;
	} rows[] = {
		{ 3, 16, true, false, PCI_VECTOR_PER_QUEUE },
		{ 2, 16, true, false, PCI_VECTOR_SHARED },
		{ 16, 2, true, false, PCI_VECTOR_SHARED },
		{ 1, 16, true, false, PCI_VECTOR_SINGLE },
		{ 16, 1, true, false, PCI_VECTOR_SINGLE },
		{ 3, 0, true, false, PCI_INTX },
		{ 3, 16, true, true, PCI_INTX },
		{ 3, 0, false, false, PCI_POLLED },
		{ 3, 16, false, true, PCI_POLLED },
	};

	for (u32 i = 0; i < ARRAY_SIZE(rows); i++) {
		u32 n_queue_vectors;

		pci_device_reset(&b.back);
		memset(b.n_messages, 0, sizeof(b.n_messages));
		memset(b.n_callbacks, 0, sizeof(b.n_callbacks));
		b.n_changes = 0;
		b.back.config[PCI_FIRST_CAPABILITY + 2] = rows[i].table - 1;
		b.access.max_vectors = rows[i].machine;
		b.access.intx = rows[i].intx;
		b.lie_bytes = rows[i].refuse ? 2 : 0;
		b.lie_at = COMMON(queue_msix_vector);
		b.lie = VIRTIO_MSI_NO_VECTOR;
		expect_works();
		assert_int_equal(b.front.interrupts, rows[i].want);
		vdev_config_changed(&b.echo.vdev);
		n_queue_vectors = b.n_messages[1] + b.n_messages[2];
		switch (rows[i].want) {
		case PCI_VECTOR_PER_QUEUE:
			assert_int_equal(b.n_messages[2], 1);
			/* fallthrough */
		case PCI_VECTOR_SHARED:
			assert_int_equal(n_queue_vectors, 2);
			assert_int_equal(b.n_messages[0], 1);
			break;
		case PCI_VECTOR_SINGLE:
			assert_int_equal(b.n_messages[0], 3);
			break;
		default:
			assert_int_equal(n_queue_vectors + b.n_messages[0], 0);
			assert_int_equal(b.level, rows[i].want == PCI_INTX);
			assert_true(pci_front_intx(&b.front));
		}
		for (u32 v = 0; v <= 0xffff; v++)
			pci_front_message(&b.front, v);
		assert_false(b.level);
		assert_false(pci_front_intx(&b.front));
		assert_int_equal(b.n_callbacks[0], 1);
		assert_int_equal(b.n_callbacks[1], 1);
		assert_int_equal(b.n_changes, 1);
		unregister_virtio_device(&b.front.device);
	}
}

static void reset_never_acknowledged_ends_in_time(void **state)
{
	assert_int_equal(init(), 0);
	b.lie_at = COMMON(device_status); /* D07 */
	b.lie_bytes = 1;
	b.lie = 1;
	assert_int_equal(register_virtio_device(&b.front.device), -ETIMEDOUT);
	b.lie_bytes = 0;
	unregister_virtio_device(&b.front.device);
}

static void queue_that_does_not_start_fails_the_probe(void **state)
{
	static const u32 values[] = { 0, 2, 0xffff };

	assert_int_equal(init(), 0);
	b.lie_at = COMMON(queue_enable);
	b.lie_bytes = 2;
	for (u32 i = 0; i < ARRAY_SIZE(values); i++) {
		b.lie = values[i];
		assert_int_equal(register_virtio_device(&b.front.device), -EIO);
		unregister_virtio_device(&b.front.device);
	}
	b.lie_at = COMMON(queue_size);
	b.lie = 0;
	assert_int_equal(register_virtio_device(&b.front.device), -ENOENT);
	unregister_virtio_device(&b.front.device);
	b.lie_at = COMMON(num_queues);
	b.lie = 1;
	assert_int_equal(register_virtio_device(&b.front.device), -ENOENT);
	unregister_virtio_device(&b.front.device);
}

static void card_pulled_and_put_back_comes_up_again(void **state)
{
	expect_works();
	pci_device_reset(&b.back);
	b.gone = true;
	virtio_device_gone(&b.front.device);
	assert_int_equal(virtio_device_back(&b.front.device), -ENODEV);
	assert_false(pci_front_intx(&b.front));
	b.gone = false;
	assert_int_equal(virtio_device_back(&b.front.device), 0);
	echo_once(1);
	unregister_virtio_device(&b.front.device);
}

static void random_configuration_space_does_no_harm(void **state)
{
	u64 rng = seed;
	u32 n_found = 0, n_live = 0;

	for (int i = 0; i < 20000; i++) {
		u32 n = 1 + rig_random(&rng) % 4;

		pci_device_reset(&b.back);
		while (n--) {
			u64 r = rig_random(&rng);

			b.back.config[0x34 + r % 0x7c] = r >> 32;
		}
		b.access.max_vectors = rig_random(&rng) % 4;
		if (init() < 0)
			continue;
		n_found++;
		if (register_virtio_device(&b.front.device) == 0 &&
		    b.front.device.state == VIRTIO_STATE_LIVE) {
			n_live++;
			virtio_cread(&b.front.device, rig_random(&rng) % 20, 8);
			pci_front_message(&b.front, rig_random(&rng) % 4);
			pci_front_intx(&b.front);
		}
		unregister_virtio_device(&b.front.device);
	}
	print_message("  %u found, %u live\n", n_found, n_live);
	assert_true(n_live > 0 && n_found > n_live && n_found < 20000);
	pci_device_reset(&b.back);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(init_sizes_bars_and_leaves_them),
		TEST(init_other_functions_are_no_devices),
		TEST(caps_list_without_end_is_walked_once),
		TEST(caps_that_cannot_be_are_passed_over),
		TEST(caps_first_usable_of_a_type_is_taken),
		TEST(notify_outside_of_its_structure_is_refused),
		TEST(interrupts_fall_back_step_by_step),
		TEST(reset_never_acknowledged_ends_in_time),
		TEST(queue_that_does_not_start_fails_the_probe),
		TEST(card_pulled_and_put_back_comes_up_again),
		TEST(random_configuration_space_does_no_harm),
	};

	seed = rig_seed();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
