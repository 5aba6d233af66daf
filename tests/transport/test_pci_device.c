/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The PCI function seen from its bus: registers as a driver writes them, and as nobody should.
 * The device behind it is the echo; the ring is a split one, by hand.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "spec/virtq.h"
#include "tests/support/echo.h"
#include "tests/support/rig.h"
#include "transport/pci/device.h"

#define GPA 0x100000000ull
#define N_QUEUES 3
#define SIZE 8
#define COMMON(field) ((u32)offsetof(struct virtio_pci_common_cfg, field))
#define ISR 0x1000
#define CONFIG 0x2000
#define NOTIFY 0x3000
#define TABLE 0x4000
#define PENDING 0x5000

static u64 seed;

static struct bench {
	struct echo echo;
	struct pci_device pci;
	struct pci_device_env env;
	u64 address; /* of the last message */
	u32 data;
	u32 n_messages, n_levels, n_again;
	bool level;
	struct memory map;
	struct memory_region region;
	u16 avail_idx;
} b;

static _Alignas(4096) struct {
	struct virtq_desc desc[SIZE];
	_Alignas(64) le16 avail[3 + SIZE]; /* flags, idx, ring, used_event */
	_Alignas(64) le16 used[4 + SIZE * 4];
	u8 out[16], in[16];
} ram;

static void env_message(struct pci_device_env *env, u64 address, u32 data)
{
	b.address = address;
	b.data = data;
	b.n_messages++;
}

static void env_intx(struct pci_device_env *env, bool level)
{
	assert_int_not_equal(b.level, level);
	b.level = level;
	b.n_levels++;
}

static void env_again(struct pci_device_env *env)
{
	b.n_again++;
}

static const struct pci_device_env_ops env_ops = { env_message, env_intx, env_again };

static u32 cfg(u32 offset, u32 n)
{
	return pci_device_config_read(&b.pci, offset, n);
}

static void cfg_write(u32 offset, u32 n, u32 value)
{
	pci_device_config_write(&b.pci, offset, n, value);
}

static u64 bar(u32 offset, u32 n)
{
	return pci_device_bar_read(&b.pci, 0, offset, n);
}

static void bar_write(u32 offset, u32 n, u64 value)
{
	pci_device_bar_write(&b.pci, 0, offset, n, value);
}

static u32 cap_find(u8 id, u8 type)
{
	u32 at = cfg(PCI_CAPABILITIES, 1);

	for (int i = 0; i < 48 && at; i++, at = cfg(at + 1, 1))
		if (cfg(at, 1) == id && (id != PCI_CAP_VENDOR || cfg(at + 3, 1) == type))
			return at;
	return 0;
}

static int setup(void **state)
{
	memset(&b, 0, sizeof(b));
	memset(&ram, 0, sizeof(ram));
	echo_init(&b.echo, N_QUEUES);
	b.env.ops = &env_ops;
	b.region = (struct memory_region){ GPA, sizeof(ram), (u8 *)&ram };
	assert_int_equal(memory_init(&b.map, &b.region, 1), 0);
	pci_device_init(&b.pci, &b.echo.vdev, &b.env);
	vdev_set_memory(&b.echo.vdev, &b.map);
	cfg_write(PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	return 0;
}

static int teardown(void **state)
{
	pci_device_fini(&b.pci);
	vdev_set_memory(&b.echo.vdev, NULL);
	assert_false(b.level);
	assert_int_equal(b.map.n_pins, 1);
	return 0;
}

/* ---- what a driver does ----------------------------------------------------------------- */

static u64 gpa(const void *p)
{
	return GPA + (u64)((const u8 *)p - (const u8 *)&ram);
}

static void negotiate(void)
{
	bar_write(COMMON(device_status), 1, 0);
	bar_write(COMMON(device_status), 1, 1);
	bar_write(COMMON(device_status), 1, 3);
	bar_write(COMMON(driver_feature_select), 4, 1);
	bar_write(COMMON(driver_feature), 4, 1); /* VERSION_1 */
	bar_write(COMMON(device_status), 1, 11);
	assert_int_equal(bar(COMMON(device_status), 1), 11);
}

static void queue_setup(u16 queue)
{
	bar_write(COMMON(queue_select), 2, queue);
	bar_write(COMMON(queue_size), 2, SIZE);
	bar_write(COMMON(queue_desc), 4, (u32)gpa(ram.desc));
	bar_write(COMMON(queue_desc) + 4, 4, gpa(ram.desc) >> 32);
	bar_write(COMMON(queue_driver), 8, gpa(ram.avail));
	bar_write(COMMON(queue_device), 8, gpa(ram.used));
}

static void queue_start(u16 queue)
{
	queue_setup(queue);
	bar_write(COMMON(queue_enable), 2, 1);
	assert_int_equal(bar(COMMON(queue_enable), 2), 1);
}

static void live(void)
{
	negotiate();
	queue_start(0);
	bar_write(COMMON(device_status), 1, 15);
	assert_int_equal(bar(COMMON(device_status), 1), 15);
}

static void request(void)
{
	memset(ram.out, 0x5a, sizeof(ram.out));
	memset(ram.in, 0, sizeof(ram.in));
	ram.desc[0] = (struct virtq_desc){ le64_of(gpa(ram.out)), le32_of(16),
					   le16_of(VIRTQ_DESC_F_NEXT), le16_of(1) };
	ram.desc[1] = (struct virtq_desc){ le64_of(gpa(ram.in)), le32_of(16),
					   le16_of(VIRTQ_DESC_F_WRITE), le16_of(0) };
	ram.avail[2 + b.avail_idx % SIZE] = le16_of(0);
	ram.avail[1] = le16_of(++b.avail_idx);
}

static void kick(u16 queue)
{
	bar_write(NOTIFY + 4 * queue, 2, queue);
}

static void expect_answered(u16 used_idx)
{
	assert_int_equal(le16_get(ram.used[1]), used_idx);
	assert_memory_equal(ram.in, ram.out, 16);
}

static void vector_program(u16 vector)
{
	bar_write(TABLE + 16 * vector, 4, 0xfee00000 + 0x1000 * vector);
	bar_write(TABLE + 16 * vector + 4, 4, 1);
	bar_write(TABLE + 16 * vector + 8, 4, 0x40 + vector);
	bar_write(TABLE + 16 * vector + 12, 4, 0);
}

static void msix_control(u16 value)
{
	cfg_write(cap_find(PCI_CAP_MSIX, 0) + 2, 2, value);
}

/* ---- tests ------------------------------------------------------------------------------ */

static void config_identity_is_virtio(void **state)
{
	assert_int_equal(cfg(PCI_VENDOR_ID, 2), 0x1af4);
	assert_int_equal(cfg(PCI_DEVICE_ID, 2), 0x1040 + 0xec0);
	assert_int_equal(cfg(PCI_VENDOR_ID, 4), 0x1f001af4);
	assert_int_equal(cfg(PCI_REVISION_ID, 1), 1);
	assert_int_equal(cfg(0x0e, 1), 0); /* header type */
	assert_int_equal(cfg(PCI_INTERRUPT_PIN, 1), 1);
	assert_int_equal(cfg(PCI_STATUS, 2), PCI_STATUS_CAPABILITIES);
	for (u32 at = 0; at < 0x40; at += 4) { /* read-only bytes stay */
		u32 was = cfg(at, 4);

		if (at == PCI_COMMAND || (at >= PCI_BAR(0) && at < PCI_BAR(2)) ||
		    at == PCI_INTERRUPT_LINE)
			continue;
		cfg_write(at, 4, ~was);
		assert_int_equal(cfg(at, 4), was);
	}
}

static void config_bar_all_ones_reads_size(void **state)
{
	cfg_write(PCI_BAR(0), 4, UINT32_MAX);
	cfg_write(PCI_BAR(1), 4, UINT32_MAX);
	assert_int_equal(cfg(PCI_BAR(0), 4), 0xffff8000 | PCI_BAR_64 | PCI_BAR_PREFETCH);
	assert_int_equal(cfg(PCI_BAR(1), 4), UINT32_MAX);
	for (int i = 2; i < PCI_N_BARS; i++) {
		cfg_write(PCI_BAR(i), 4, UINT32_MAX);
		assert_int_equal(cfg(PCI_BAR(i), 4), 0);
	}
	cfg_write(PCI_BAR(0), 4, 0xfe008123);
	cfg_write(PCI_BAR(1), 4, 0x12);
	assert_int_equal(pci_device_bar_address(&b.pci), 0x12fe008000ull);
}

static void config_illegal_access_reads_ones_writes_nothing(void **state)
{
	u8 was[PCI_CONFIG_BYTES];

	memcpy(was, b.pci.config, sizeof(was));
	for (u32 n = 0; n < 12; n++) {
		for (u32 at = 0; at < 300; at++) {
			bool legal = (n == 1 || n == 2 || n == 4) && at % n == 0;

			if (legal && at < 256)
				continue;
			assert_int_equal(cfg(at, n), legal ? 0 : UINT32_MAX);
			cfg_write(at, n, UINT32_MAX);
		}
	}
	assert_memory_equal(b.pci.config, was, sizeof(was));
	assert_int_equal(cfg(UINT32_MAX, 1), 0);
	assert_int_equal(cfg(UINT32_MAX - 3, 4), 0);
}

static void caps_every_structure_lies_in_its_bar(void **state)
{
	static const struct {
		u8 type, len;
		u32 offset, length;
	} want[] = {
		{ VIRTIO_PCI_CAP_COMMON_CFG, 16, 0, 64 },
		{ VIRTIO_PCI_CAP_NOTIFY_CFG, 20, NOTIFY, 4 * N_QUEUES },
		{ VIRTIO_PCI_CAP_ISR_CFG, 16, ISR, 1 },
		{ VIRTIO_PCI_CAP_DEVICE_CFG, 16, CONFIG, 16 },
		{ VIRTIO_PCI_CAP_PCI_CFG, 20, 0, 0 },
	};
	u32 msix = cap_find(PCI_CAP_MSIX, 0);

	for (u32 i = 0; i < ARRAY_SIZE(want); i++) {
		u32 at = cap_find(PCI_CAP_VENDOR, want[i].type);

		assert_true(at >= 0x40 && at % 4 == 0);
		assert_int_equal(cfg(at + 2, 1), want[i].len);
		assert_int_equal(cfg(at + 4, 1), 0);
		assert_int_equal(cfg(at + 8, 4), want[i].offset);
		assert_int_equal(cfg(at + 12, 4), want[i].length);
	}
	assert_int_equal(cfg(cap_find(PCI_CAP_VENDOR, VIRTIO_PCI_CAP_NOTIFY_CFG) + 16, 4), 4);
	assert_int_equal(cfg(msix + 2, 2), N_QUEUES);
	assert_int_equal(cfg(msix + 4, 4), TABLE);
	assert_int_equal(cfg(msix + 8, 4), PENDING);
}

static void caps_type_without_config_has_no_device_capability(void **state)
{
	pci_device_fini(&b.pci);
	b.echo.vdev.config_bytes = 0;
	pci_device_init(&b.pci, &b.echo.vdev, &b.env);
	assert_int_equal(cap_find(PCI_CAP_VENDOR, VIRTIO_PCI_CAP_DEVICE_CFG), 0);
	assert_int_not_equal(cap_find(PCI_CAP_VENDOR, VIRTIO_PCI_CAP_PCI_CFG), 0);
}

static void bar_memory_space_off_answers_nothing(void **state)
{
	cfg_write(PCI_COMMAND, 2, 0);
	assert_int_equal(bar(COMMON(num_queues), 2), UINT64_MAX);
	bar_write(COMMON(device_status), 1, 1);
	cfg_write(PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	assert_int_equal(bar(COMMON(device_status), 1), 0);
}

static void bar_illegal_access_reads_zeroes_changes_nothing(void **state)
{
	negotiate();
	for (u32 n = 0; n < 20; n++) { /* G21 */
		for (u32 at = 0; at < 64; at++) {
			if ((n == 1 || n == 2 || n == 4 || n == 8) && at % n == 0)
				continue;
			assert_int_equal(bar(at, n), 0);
			bar_write(at, n, 0);
		}
	}
	assert_int_equal(bar(COMMON(device_status), 1), 11);
	assert_int_equal(bar(PCI_DEVICE_BAR_BYTES, 4), 0);
	assert_int_equal(pci_device_bar_read(&b.pci, 0, UINT64_MAX - 7, 8), 0);
	for (u32 i = 1; i < 300; i++) {
		assert_int_equal(pci_device_bar_read(&b.pci, i, 0, 4), 0);
		pci_device_bar_write(&b.pci, i, COMMON(device_status), 1, 0);
	}
	assert_int_equal(bar(COMMON(device_status), 1), 11);
}

static void common_writes_of_another_width_are_dropped(void **state)
{
	negotiate();
	bar_write(COMMON(queue_select), 1, 1);
	bar_write(COMMON(device_status), 4, 0); /* would be status, generation, select */
	bar_write(COMMON(queue_size), 4, 0x00010004); /* and the vector */
	bar_write(COMMON(device_feature_select), 2, 1);
	bar_write(COMMON(queue_desc), 2, 0x1234);
	bar_write(COMMON(queue_desc) + 2, 2, 0x1234);
	assert_int_equal(bar(COMMON(device_status), 1), 11);
	assert_int_equal(bar(COMMON(queue_select), 2), 0);
	assert_int_equal(bar(COMMON(queue_size), 2), ECHO_QUEUE_SIZE);
	assert_int_equal(bar(COMMON(device_feature_select), 4), 0);
	assert_int_equal(bar(COMMON(queue_desc), 8), 0);
}

static void common_reads_of_every_width_agree(void **state)
{
	u8 all[64];

	negotiate();
	queue_start(1);
	for (u32 at = 0; at < 64; at++)
		all[at] = bar(at, 1);
	for (u32 n = 2; n <= 8; n *= 2) {
		for (u32 at = 0; at < 64; at += n) {
			le64 want = { 0 };

			memcpy(&want, all + at, n);
			assert_int_equal(bar(at, n), le64_get(want));
		}
	}
	assert_int_equal(bar(64, 8), 0);
}

static void features_every_select_has_an_answer(void **state)
{
	u32 selects[] = { 0, 1, 2, 3, 4, 100, 0x80000000, UINT32_MAX };

	for (u32 i = 0; i < ARRAY_SIZE(selects); i++) { /* G16 */
		bar_write(COMMON(device_feature_select), 4, selects[i]);
		assert_int_equal(bar(COMMON(device_feature), 4),
				 features_word32(&b.echo.vdev.offered, selects[i]) |
					 (selects[i] == 1 ? 1u << (VIRTIO_F_RING_RESET - 32) : 0));
		bar_write(COMMON(driver_feature_select), 4, selects[i]);
		bar_write(COMMON(driver_feature), 4, UINT32_MAX);
		assert_int_equal(bar(COMMON(driver_feature), 4), i < 4 ? UINT32_MAX : 0);
	}
	bar_write(COMMON(device_status), 1, 11);
	assert_int_equal(bar(COMMON(device_status), 1), 3); /* G22 */
}

static void queue_select_out_of_range_is_no_queue(void **state)
{
	u32 selects[] = { N_QUEUES, N_QUEUES + 1, PCI_DEVICE_MAX_QUEUES, 0x7fff, 0x8000, 0xffff };

	negotiate();
	for (u32 i = 0; i < ARRAY_SIZE(selects); i++) { /* G16 */
		queue_setup(selects[i]);
		bar_write(COMMON(queue_msix_vector), 2, 1);
		bar_write(COMMON(queue_enable), 2, 1);
		assert_int_equal(bar(COMMON(queue_select), 2), selects[i]);
		assert_int_equal(bar(COMMON(queue_size), 2), 0);
		assert_int_equal(bar(COMMON(queue_enable), 2), 0);
		assert_int_equal(bar(COMMON(queue_desc), 8), 0);
		assert_int_equal(bar(COMMON(queue_msix_vector), 2), VIRTIO_MSI_NO_VECTOR);
	}
	assert_int_equal(bar(COMMON(device_status), 1), 11);
}

static void queue_in_use_cannot_be_changed(void **state)
{
	live();
	bar_write(COMMON(queue_size), 2, 4); /* G15 */
	bar_write(COMMON(queue_desc), 8, 0);
	bar_write(COMMON(queue_driver), 4, 0);
	bar_write(COMMON(queue_device) + 4, 4, 0);
	bar_write(COMMON(queue_enable), 2, 0);
	bar_write(COMMON(queue_enable), 2, 1);
	assert_int_equal(bar(COMMON(queue_size), 2), SIZE);
	assert_int_equal(bar(COMMON(queue_desc), 8), gpa(ram.desc));
	assert_int_equal(bar(COMMON(queue_driver), 8), gpa(ram.avail));
	assert_int_equal(bar(COMMON(queue_device), 8), gpa(ram.used));
	assert_int_equal(bar(COMMON(queue_enable), 2), 1);
	request();
	kick(0);
	expect_answered(1);
}

static void queue_size_impossible_is_not_taken(void **state)
{
	negotiate();
	bar_write(COMMON(queue_size), 2, 0);
	assert_int_equal(bar(COMMON(queue_size), 2), ECHO_QUEUE_SIZE);
	bar_write(COMMON(queue_size), 2, ECHO_QUEUE_SIZE + 1);
	assert_int_equal(bar(COMMON(queue_size), 2), ECHO_QUEUE_SIZE);
	bar_write(COMMON(queue_size), 2, 0xffff);
	assert_int_equal(bar(COMMON(queue_size), 2), ECHO_QUEUE_SIZE);
	queue_setup(0);
	bar_write(COMMON(queue_size), 2, 7); /* a split ring of no power of two */
	bar_write(COMMON(queue_enable), 2, 1);
	assert_int_equal(bar(COMMON(queue_enable), 2), 0);
	assert_int_equal(bar(COMMON(device_status), 1), 11 | VIRTIO_STATUS_DEVICE_NEEDS_RESET);
	live(); /* and is as new after a reset */
}

static void queue_enabled_before_features_ok_stays_off(void **state)
{
	bar_write(COMMON(device_status), 1, 3);
	queue_setup(0);
	bar_write(COMMON(queue_enable), 2, 1);
	assert_int_equal(bar(COMMON(queue_enable), 2), 0);
}

static void queue_outside_memory_breaks_until_reset(void **state)
{
	u64 places[] = { 0, GPA + sizeof(ram), UINT64_MAX - 15, GPA + 1, GPA - 16 };

	for (u32 i = 0; i < ARRAY_SIZE(places); i++) { /* G17 */
		negotiate();
		queue_setup(0);
		bar_write(COMMON(queue_desc), 8, places[i]);
		bar_write(COMMON(queue_enable), 2, 1);
		assert_int_equal(bar(COMMON(queue_enable), 2), 0);
		assert_true(bar(COMMON(device_status), 1) & VIRTIO_STATUS_DEVICE_NEEDS_RESET);
		queue_setup(1); /* starts nothing more */
		bar_write(COMMON(queue_enable), 2, 1);
		assert_int_equal(bar(COMMON(queue_enable), 2), 0);
	}
	b.avail_idx = 0;
	live();
	request();
	kick(0);
	expect_answered(1);
}

static void notify_at_any_time_and_place_is_harmless(void **state)
{
	for (u32 at = 0; at < 0x1000; at++) { /* G20 */
		bar_write(NOTIFY + at, 2, at);
		assert_int_equal(bar(NOTIFY + (at & ~3u), 4), 0);
	}
	negotiate();
	kick(0);
	kick(2);
	queue_start(0);
	request();
	kick(0);
	assert_int_equal(le16_get(ram.used[1]), 0); /* DRIVER_OK was not yet */
	bar_write(COMMON(device_status), 1, 15);
	expect_answered(1);
	request();
	bar_write(NOTIFY, 1, 0); /* widths that are no notification */
	bar_write(NOTIFY, 4, 0);
	bar_write(NOTIFY + 2, 2, 0);
	assert_int_equal(le16_get(ram.used[1]), 1);
	kick(0);
	expect_answered(2);
	bar_write(COMMON(device_status), 1, 0);
	request();
	kick(0);
	assert_int_equal(le16_get(ram.used[1]), 2);
}

static void reset_sets_registers_back_and_keeps_the_bus(void **state)
{
	live();
	bar_write(COMMON(config_msix_vector), 2, 0);
	bar_write(COMMON(queue_msix_vector), 2, 1);
	vector_program(1);
	cfg_write(PCI_BAR(0), 4, 0xfe000000);
	bar_write(COMMON(device_status), 1, 0);
	assert_int_equal(bar(COMMON(device_status), 1), 0);
	assert_int_equal(bar(COMMON(queue_enable), 2), 0);
	assert_int_equal(bar(COMMON(queue_size), 2), ECHO_QUEUE_SIZE);
	assert_int_equal(bar(COMMON(queue_desc), 8), 0);
	assert_int_equal(bar(COMMON(config_msix_vector), 2), VIRTIO_MSI_NO_VECTOR);
	assert_int_equal(bar(COMMON(queue_msix_vector), 2), VIRTIO_MSI_NO_VECTOR);
	assert_int_equal(bar(COMMON(driver_feature_select), 4), 0);
	assert_int_equal(bar(TABLE + 16 + 8, 4), 0x41); /* the table is the bus's */
	pci_device_reset(&b.pci);
	assert_int_equal(cfg(PCI_COMMAND, 2), 0);
	assert_int_equal(pci_device_bar_address(&b.pci), 0);
	assert_int_equal(le32_get(b.pci.table[1].data), 0);
}

static void reset_with_a_request_in_hand_answers_it_before(void **state)
{
	for (int i = 0; i < 1000; i++) { /* G19 */
		memset(&ram, 0, sizeof(ram));
		b.avail_idx = 0;
		live();
		b.echo.hold = true;
		request();
		kick(0);
		assert_true(b.echo.holding[0]);
		bar_write(COMMON(device_status), 1, 0);
		assert_false(b.echo.holding[0]);
		assert_int_equal(le16_get(ram.used[1]), 1);
		assert_false(b.level);
		assert_int_equal(bar(ISR, 1), 0);
	}
	assert_int_equal(b.n_levels, 2000);
}

static void status_every_value_from_every_state_is_defined(void **state)
{
	for (u32 from = 0; from < 256; from++) { /* G18 */
		for (u32 to = 0; to < 256; to++) {
			bar_write(COMMON(device_status), 1, 0);
			bar_write(COMMON(driver_feature_select), 4, 1);
			bar_write(COMMON(driver_feature), 4, 1);
			bar_write(COMMON(device_status), 1, from);
			bar_write(COMMON(device_status), 1, to);
			u8 s = bar(COMMON(device_status), 1);

			assert_int_equal(s & 0x70, 0);
			assert_true(!(s & 4) || (s & 8)); /* DRIVER_OK only with FEATURES_OK */
			assert_true(!(s & 8) || (s & 3) == 3);
			assert_true(to || !s);
		}
	}
}

static void config_read_only_bytes_stay_and_past_end_is_zero(void **state)
{
	assert_int_equal(bar(CONFIG, 4), 0x03020100);
	assert_int_equal(bar(CONFIG, 8), 0x0706050403020100ull);
	bar_write(CONFIG, 8, UINT64_MAX); /* G23: 4 to 7 can be written */
	assert_int_equal(bar(CONFIG, 8), 0xffffffff03020100ull);
	assert_int_equal(bar(CONFIG + 16, 8), 0);
	bar_write(CONFIG + 16, 8, UINT64_MAX);
	assert_int_equal(bar(CONFIG + 0xff8, 8), 0);
	assert_int_equal(bar(CONFIG + 8, 8), 0x0f0e0d0c0b0a0908ull);
}

static void config_generation_moves_with_a_change(void **state)
{
	u8 before = bar(COMMON(config_generation), 1);

	b.echo.config[0] = 0x77;
	vdev_config_changed(&b.echo.vdev);
	assert_int_equal((u8)(bar(COMMON(config_generation), 1) - before), 1);
}

static void queue_reset_forgets_one_queue(void **state)
{
	live();
	bar_write(COMMON(queue_reset), 2, 1); /* not negotiated */
	assert_int_equal(bar(COMMON(queue_enable), 2), 1);

	memset(&ram, 0, sizeof(ram));
	b.avail_idx = 0;
	bar_write(COMMON(device_status), 1, 0);
	bar_write(COMMON(device_status), 1, 3);
	bar_write(COMMON(driver_feature_select), 4, 1);
	bar_write(COMMON(driver_feature), 4, 1 | 1u << (VIRTIO_F_RING_RESET - 32));
	bar_write(COMMON(device_status), 1, 11);
	bar_write(COMMON(driver_feature), 4, 0); /* too late */
	assert_int_equal(bar(COMMON(driver_feature), 4), 1 | 1u << (VIRTIO_F_RING_RESET - 32));
	queue_start(0);
	bar_write(COMMON(device_status), 1, 15);
	b.echo.hold = true;
	request();
	kick(0);
	bar_write(COMMON(queue_reset), 2, 0);
	assert_true(b.echo.holding[0]);
	bar_write(COMMON(queue_reset), 2, 1);
	assert_false(b.echo.holding[0]);
	b.echo.hold = false;
	assert_int_equal(bar(COMMON(queue_reset), 2), 0);
	assert_int_equal(bar(COMMON(queue_enable), 2), 0);
	assert_int_equal(bar(COMMON(queue_size), 2), ECHO_QUEUE_SIZE);
	assert_int_equal(bar(COMMON(queue_desc), 8), 0);
	bar_write(COMMON(queue_select), 2, N_QUEUES);
	bar_write(COMMON(queue_reset), 2, 1);
	memset(&ram, 0, sizeof(ram));
	b.avail_idx = 0;
	queue_start(0);
	request();
	kick(0);
	expect_answered(1);
	assert_int_equal(bar(COMMON(device_status), 1), 15);
}

static void intx_level_follows_isr(void **state)
{
	live();
	request();
	kick(0);
	assert_true(b.level);
	assert_int_equal(cfg(PCI_STATUS, 2), PCI_STATUS_CAPABILITIES | PCI_STATUS_INTERRUPT);
	vdev_config_changed(&b.echo.vdev);
	assert_int_equal(bar(ISR + 4, 1), 0); /* not the register */
	assert_true(b.level);
	assert_int_equal(bar(ISR, 1), 3);
	assert_false(b.level);
	assert_int_equal(cfg(PCI_STATUS, 2), PCI_STATUS_CAPABILITIES);
	assert_int_equal(bar(ISR, 1), 0);

	/* Disabled: the line is silent, the status is not. */
	cfg_write(PCI_COMMAND, 2,
		  PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER | PCI_COMMAND_INTX_DISABLE);
	request();
	kick(0);
	assert_false(b.level);
	assert_int_equal(cfg(PCI_STATUS, 2), PCI_STATUS_CAPABILITIES | PCI_STATUS_INTERRUPT);
	cfg_write(PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	assert_true(b.level);
	assert_int_equal(bar(ISR, 4), 1);
	assert_int_equal(b.n_messages, 0);
}

static void msix_each_event_goes_to_its_vector(void **state)
{
	live();
	msix_control(PCI_MSIX_ENABLE);
	vector_program(0);
	vector_program(2);
	bar_write(COMMON(config_msix_vector), 2, 0);
	bar_write(COMMON(queue_msix_vector), 2, 2);
	assert_int_equal(bar(COMMON(queue_msix_vector), 2), 2);
	request();
	kick(0);
	assert_int_equal(b.n_messages, 1);
	assert_int_equal(b.address, 0x1fee02000ull);
	assert_int_equal(b.data, 0x42);
	vdev_config_changed(&b.echo.vdev);
	assert_int_equal(b.n_messages, 2);
	assert_int_equal(b.address, 0x1fee00000ull);
	assert_int_equal(bar(ISR, 1), VIRTIO_PCI_ISR_CONFIG);
	bar_write(COMMON(queue_msix_vector), 2, VIRTIO_MSI_NO_VECTOR); /* unmapped */
	bar_write(COMMON(config_msix_vector), 2, VIRTIO_MSI_NO_VECTOR);
	request();
	kick(0);
	vdev_config_changed(&b.echo.vdev);
	assert_int_equal(b.n_messages, 2);
	assert_int_equal(b.n_levels, 0); /* INTx is out of use */
}

static void msix_vector_out_of_range_reads_no_vector(void **state)
{
	u32 vectors[] = { N_QUEUES + 1, PCI_DEVICE_MAX_QUEUES + 1, 0x7ff, 0x8000, 0xfffe, 0xffff };

	for (u32 i = 0; i < ARRAY_SIZE(vectors); i++) { /* G16 */
		bar_write(COMMON(config_msix_vector), 2, 1);
		bar_write(COMMON(config_msix_vector), 2, vectors[i]);
		assert_int_equal(bar(COMMON(config_msix_vector), 2), VIRTIO_MSI_NO_VECTOR);
		bar_write(COMMON(queue_msix_vector), 2, vectors[i]);
		assert_int_equal(bar(COMMON(queue_msix_vector), 2), VIRTIO_MSI_NO_VECTOR);
	}
	for (u32 at = 16 * (N_QUEUES + 1); at < 0x1000; at += 4) {
		bar_write(TABLE + at, 4, UINT32_MAX);
		assert_int_equal(bar(TABLE + at, 4), 0);
	}
	bar_write(TABLE, 2, 0xffff); /* a width that the table does not take */
	assert_int_equal(bar(TABLE, 4), 0);
	bar_write(PENDING, 8, UINT64_MAX);
	assert_int_equal(bar(PENDING, 8), 0);
}

static void msix_masked_message_waits_for_the_last_mask(void **state)
{
	live();
	vector_program(1);
	bar_write(COMMON(queue_msix_vector), 2, 1);
	cfg_write(PCI_COMMAND, 2, PCI_COMMAND_MEMORY); /* not a master */
	msix_control(PCI_MSIX_ENABLE | PCI_MSIX_FUNCTION_MASK);
	bar_write(TABLE + 16 + 12, 4, 1);
	request();
	kick(0);
	request();
	kick(0);
	assert_int_equal(bar(PENDING, 8), 2);
	bar_write(TABLE + 16 + 12, 4, 0);
	msix_control(PCI_MSIX_ENABLE);
	assert_int_equal(b.n_messages, 0);
	cfg_write(PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	assert_int_equal(b.n_messages, 1); /* two made one */
	assert_int_equal(bar(PENDING, 8), 0);
	bar_write(TABLE + 16 + 12, 4, 1);
	request();
	kick(0);
	assert_int_equal(bar(PENDING, 8), 2);
	bar_write(COMMON(device_status), 1, 0); /* nothing comes after a reset */
	bar_write(TABLE + 16 + 12, 4, 0);
	assert_int_equal(b.n_messages, 1);
}

/* The window: everything that the BAR does, and with memory space off. */
static void window_write(u32 offset, u32 n, u32 value)
{
	u32 at = cap_find(PCI_CAP_VENDOR, VIRTIO_PCI_CAP_PCI_CFG);

	cfg_write(at + 4, 1, 0);
	cfg_write(at + 8, 4, offset);
	cfg_write(at + 12, 4, n);
	cfg_write(at + 16, 4, value);
}

static u32 window_read(u8 bar, u32 offset, u32 n)
{
	u32 at = cap_find(PCI_CAP_VENDOR, VIRTIO_PCI_CAP_PCI_CFG);

	cfg_write(at + 4, 1, bar);
	cfg_write(at + 8, 4, offset);
	cfg_write(at + 12, 4, n);
	return cfg(at + 16, 4);
}

static void window_drives_the_device_without_memory_space(void **state)
{
	live();
	cfg_write(PCI_COMMAND, 2, 0);
	request();
	window_write(NOTIFY, 2, 0);
	expect_answered(1);
	assert_int_equal(window_read(0, ISR, 1), 1);
	assert_int_equal(window_read(0, ISR, 1), 0);
	assert_int_equal(window_read(0, COMMON(num_queues), 2), N_QUEUES);
	assert_int_equal(window_read(0, COMMON(device_status), 1), 15);
	assert_int_equal(window_read(0, CONFIG, 4), 0x03020100);
	window_write(CONFIG + 4, 2, 0xbeef);
	assert_int_equal(window_read(0, CONFIG + 4, 4), 0x0706beef);
	window_write(COMMON(device_status), 1, 0);
	assert_int_equal(window_read(0, COMMON(device_status), 1), 0);
}

static void window_abuse_reads_ones_and_writes_nothing(void **state)
{
	u32 lengths[] = { 0, 3, 5, 8, 16, 0x80000000, UINT32_MAX };

	live();
	for (u32 i = 0; i < ARRAY_SIZE(lengths); i++) { /* G21 */
		assert_int_equal(window_read(0, 0, lengths[i]), UINT32_MAX);
		window_write(COMMON(device_status), lengths[i], 0);
	}
	assert_int_equal(window_read(0, 1, 2), UINT32_MAX);
	assert_int_equal(window_read(0, PCI_DEVICE_BAR_BYTES, 4), UINT32_MAX);
	assert_int_equal(window_read(0, UINT32_MAX - 3, 4), UINT32_MAX);
	for (u32 i = 1; i < 256; i++)
		assert_int_equal(window_read(i, 0, 4), UINT32_MAX);
	assert_int_equal(bar(COMMON(device_status), 1), 15);
}

static void again_is_asked_for_and_looks_once_more(void **state)
{
	live();
	b.pci.link.ops->again(&b.pci.link, 0);
	assert_int_equal(b.n_again, 1);
	request();
	pci_device_work(&b.pci);
	expect_answered(1);
	request();
	pci_device_work(&b.pci); /* nothing was asked for any more */
	assert_int_equal(le16_get(ram.used[1]), 1);
}

static void random_accesses_do_no_harm(void **state)
{
	static const u8 places[] = { 0, 4, 8, 12, 16, 20, 22, 24, 26, 28, 32, 36, 40, 44, 48, 52 };
	u64 rng = seed;
	u32 n_live = 0;

	for (int i = 0; i < 300000; i++) {
		u64 r = rig_random(&rng), value = rig_random(&rng) >> (r >> 58);
		u32 n = 1u << (r >> 8 & 3);

		switch (r & 15) {
		case 0:
			cfg_write(r >> 16 & 0xff & ~(n - 1), n, (u32)value);
			break;
		case 1:
			cfg(r >> 16 & 0x1ff, n);
			break;
		case 2:
			bar(r >> 16 & 0xffff & ~(n - 1), n);
			break;
		case 3:
			bar_write(r >> 16 & 0xffff & ~(n - 1), n, value);
			break;
		case 4:
			cfg_write(PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
			break;
		case 5:
			if ((r >> 16) % 64 == 0) {
				cfg_write(PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
				b.avail_idx = 0;
				memset(&ram, 0, sizeof(ram));
				live();
				n_live++;
			}
			request();
			break;
		default:
			bar_write(places[r >> 16 & 15], 1u << (r >> 20) % 3, value);
			break;
		case 13:
			kick(value & 3);
			break;
		}
		pci_device_work(&b.pci);
	}
	print_message("  live %u times, %llu answered, %u messages, %u levels\n", n_live,
		      (unsigned long long)b.echo.n_answered, b.n_messages, b.n_levels);
	assert_true(n_live > 0 && b.echo.n_answered > 0 && b.n_levels > 0);
	pci_device_reset(&b.pci);
	cfg_write(PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	memset(&ram, 0, sizeof(ram));
	b.avail_idx = 0;
	live();
	request();
	kick(0);
	expect_answered(1);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(config_identity_is_virtio),
		TEST(config_bar_all_ones_reads_size),
		TEST(config_illegal_access_reads_ones_writes_nothing),
		TEST(caps_every_structure_lies_in_its_bar),
		TEST(caps_type_without_config_has_no_device_capability),
		TEST(bar_memory_space_off_answers_nothing),
		TEST(bar_illegal_access_reads_zeroes_changes_nothing),
		TEST(common_writes_of_another_width_are_dropped),
		TEST(common_reads_of_every_width_agree),
		TEST(features_every_select_has_an_answer),
		TEST(queue_select_out_of_range_is_no_queue),
		TEST(queue_in_use_cannot_be_changed),
		TEST(queue_size_impossible_is_not_taken),
		TEST(queue_enabled_before_features_ok_stays_off),
		TEST(queue_outside_memory_breaks_until_reset),
		TEST(notify_at_any_time_and_place_is_harmless),
		TEST(reset_sets_registers_back_and_keeps_the_bus),
		TEST(reset_with_a_request_in_hand_answers_it_before),
		TEST(status_every_value_from_every_state_is_defined),
		TEST(config_read_only_bytes_stay_and_past_end_is_zero),
		TEST(config_generation_moves_with_a_change),
		TEST(queue_reset_forgets_one_queue),
		TEST(intx_level_follows_isr),
		TEST(msix_each_event_goes_to_its_vector),
		TEST(msix_vector_out_of_range_reads_no_vector),
		TEST(msix_masked_message_waits_for_the_last_mask),
		TEST(window_drives_the_device_without_memory_space),
		TEST(window_abuse_reads_ones_and_writes_nothing),
		TEST(again_is_asked_for_and_looks_once_more),
		TEST(random_accesses_do_no_harm),
	};

	seed = rig_seed();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
