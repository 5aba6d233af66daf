/* SPDX-License-Identifier: BSD-3-Clause */
/* `viaduct probe`: what a vhost-user back end offers, in words. */
#include <stdio.h>
#include <string.h>

#include "base/shared.h"
#include "cli/cli.h"
#include "host/log.h"
#include "spec/balloon.h"
#include "spec/blk.h"
#include "spec/console.h"
#include "spec/net.h"
#include "vmm/vhost_user_client.h"

#define PROBE_MEMORY_BYTES 4096 /* none is needed, but a front end has some */
#define MAX_NAMES 64

struct bit_name {
	unsigned int bit;
	const char *name;
};

/* A field of the configuration: there if the device has the feature. */
struct field {
	const char *name;
	u32 offset, n_bytes;
	int feature; /* -1: always there */
	enum { NUMBER, MAC, SECTORS } kind;
};

struct device_type {
	const char *name;
	const char *what;
	u32 id;
	const struct bit_name *bits;
	const struct field *fields;
};

#define BIT(prefix, name)           \
	{                           \
		prefix##name, #name \
	}
#define FIELD(type, field, feature, kind)                                                         \
	{                                                                                         \
#field, offsetof(struct type, field), sizeof(((struct type *)0)->field), feature, \
			kind                                                                      \
	}

/* clang-format off */
static const struct bit_name common_bits[] = {
	BIT(VIRTIO_F_, NOTIFY_ON_EMPTY), BIT(VIRTIO_F_, ANY_LAYOUT), BIT(VIRTIO_F_, INDIRECT_DESC),
	BIT(VIRTIO_F_, EVENT_IDX), BIT(VIRTIO_F_, VERSION_1), BIT(VIRTIO_F_, ACCESS_PLATFORM),
	BIT(VIRTIO_F_, RING_PACKED), BIT(VIRTIO_F_, IN_ORDER), BIT(VIRTIO_F_, ORDER_PLATFORM),
	BIT(VIRTIO_F_, SR_IOV), BIT(VIRTIO_F_, NOTIFICATION_DATA),
	BIT(VIRTIO_F_, NOTIF_CONFIG_DATA), BIT(VIRTIO_F_, RING_RESET), BIT(VIRTIO_F_, ADMIN_VQ),
	BIT(VIRTIO_F_, SUSPEND), { VHOST_F_LOG_ALL, "LOG_ALL" },
	{ VHOST_USER_F_PROTOCOL_FEATURES, "PROTOCOL_FEATURES" }, { 0, NULL },
};

static const struct bit_name blk_bits[] = {
	BIT(VIRTIO_BLK_F_, BARRIER), BIT(VIRTIO_BLK_F_, SIZE_MAX), BIT(VIRTIO_BLK_F_, SEG_MAX),
	BIT(VIRTIO_BLK_F_, GEOMETRY), BIT(VIRTIO_BLK_F_, RO), BIT(VIRTIO_BLK_F_, BLK_SIZE),
	BIT(VIRTIO_BLK_F_, SCSI), BIT(VIRTIO_BLK_F_, FLUSH), BIT(VIRTIO_BLK_F_, TOPOLOGY),
	BIT(VIRTIO_BLK_F_, CONFIG_WCE), BIT(VIRTIO_BLK_F_, MQ), BIT(VIRTIO_BLK_F_, DISCARD),
	BIT(VIRTIO_BLK_F_, WRITE_ZEROES), BIT(VIRTIO_BLK_F_, LIFETIME),
	BIT(VIRTIO_BLK_F_, SECURE_ERASE), BIT(VIRTIO_BLK_F_, ZONED), { 0, NULL },
};

static const struct field blk_fields[] = {
	FIELD(virtio_blk_config, capacity, -1, SECTORS),
	FIELD(virtio_blk_config, size_max, VIRTIO_BLK_F_SIZE_MAX, NUMBER),
	FIELD(virtio_blk_config, seg_max, VIRTIO_BLK_F_SEG_MAX, NUMBER),
	FIELD(virtio_blk_config, geometry.cylinders, VIRTIO_BLK_F_GEOMETRY, NUMBER),
	FIELD(virtio_blk_config, geometry.heads, VIRTIO_BLK_F_GEOMETRY, NUMBER),
	FIELD(virtio_blk_config, geometry.sectors, VIRTIO_BLK_F_GEOMETRY, NUMBER),
	FIELD(virtio_blk_config, blk_size, VIRTIO_BLK_F_BLK_SIZE, NUMBER),
	FIELD(virtio_blk_config, topology.physical_block_exp, VIRTIO_BLK_F_TOPOLOGY, NUMBER),
	FIELD(virtio_blk_config, topology.alignment_offset, VIRTIO_BLK_F_TOPOLOGY, NUMBER),
	FIELD(virtio_blk_config, topology.min_io_size, VIRTIO_BLK_F_TOPOLOGY, NUMBER),
	FIELD(virtio_blk_config, topology.opt_io_size, VIRTIO_BLK_F_TOPOLOGY, NUMBER),
	FIELD(virtio_blk_config, writeback, VIRTIO_BLK_F_CONFIG_WCE, NUMBER),
	FIELD(virtio_blk_config, num_queues, VIRTIO_BLK_F_MQ, NUMBER),
	FIELD(virtio_blk_config, max_discard_sectors, VIRTIO_BLK_F_DISCARD, NUMBER),
	FIELD(virtio_blk_config, max_discard_seg, VIRTIO_BLK_F_DISCARD, NUMBER),
	FIELD(virtio_blk_config, discard_sector_alignment, VIRTIO_BLK_F_DISCARD, NUMBER),
	FIELD(virtio_blk_config, max_write_zeroes_sectors, VIRTIO_BLK_F_WRITE_ZEROES, NUMBER),
	FIELD(virtio_blk_config, max_write_zeroes_seg, VIRTIO_BLK_F_WRITE_ZEROES, NUMBER),
	FIELD(virtio_blk_config, write_zeroes_may_unmap, VIRTIO_BLK_F_WRITE_ZEROES, NUMBER),
	FIELD(virtio_blk_config, max_secure_erase_sectors, VIRTIO_BLK_F_SECURE_ERASE, NUMBER),
	{ NULL, 0, 0, 0, NUMBER },
};

static const struct bit_name net_bits[] = {
	BIT(VIRTIO_NET_F_, CSUM), BIT(VIRTIO_NET_F_, GUEST_CSUM),
	BIT(VIRTIO_NET_F_, CTRL_GUEST_OFFLOADS), BIT(VIRTIO_NET_F_, MTU), BIT(VIRTIO_NET_F_, MAC),
	BIT(VIRTIO_NET_F_, GUEST_TSO4), BIT(VIRTIO_NET_F_, GUEST_TSO6),
	BIT(VIRTIO_NET_F_, GUEST_ECN), BIT(VIRTIO_NET_F_, GUEST_UFO),
	BIT(VIRTIO_NET_F_, HOST_TSO4), BIT(VIRTIO_NET_F_, HOST_TSO6), BIT(VIRTIO_NET_F_, HOST_ECN),
	BIT(VIRTIO_NET_F_, HOST_UFO), BIT(VIRTIO_NET_F_, MRG_RXBUF), BIT(VIRTIO_NET_F_, STATUS),
	BIT(VIRTIO_NET_F_, CTRL_VQ), BIT(VIRTIO_NET_F_, CTRL_RX), BIT(VIRTIO_NET_F_, CTRL_VLAN),
	BIT(VIRTIO_NET_F_, CTRL_RX_EXTRA), BIT(VIRTIO_NET_F_, GUEST_ANNOUNCE),
	BIT(VIRTIO_NET_F_, MQ), BIT(VIRTIO_NET_F_, CTRL_MAC_ADDR), { 54, "GUEST_USO4" },
	{ 55, "GUEST_USO6" }, { 56, "HOST_USO" }, { 57, "HASH_REPORT" }, { 59, "GUEST_HDRLEN" },
	{ 60, "RSS" }, { 61, "RSC_EXT" }, { 62, "STANDBY" }, { 63, "SPEED_DUPLEX" }, { 0, NULL },
};

static const struct field net_fields[] = {
	FIELD(virtio_net_config, mac, VIRTIO_NET_F_MAC, MAC),
	FIELD(virtio_net_config, status, VIRTIO_NET_F_STATUS, NUMBER),
	FIELD(virtio_net_config, max_virtqueue_pairs, VIRTIO_NET_F_MQ, NUMBER),
	FIELD(virtio_net_config, mtu, VIRTIO_NET_F_MTU, NUMBER),
	FIELD(virtio_net_config, speed, 63, NUMBER),
	FIELD(virtio_net_config, duplex, 63, NUMBER),
	{ NULL, 0, 0, 0, NUMBER },
};

static const struct bit_name console_bits[] = {
	BIT(VIRTIO_CONSOLE_F_, SIZE), BIT(VIRTIO_CONSOLE_F_, MULTIPORT),
	BIT(VIRTIO_CONSOLE_F_, EMERG_WRITE), { 0, NULL },
};

static const struct field console_fields[] = {
	FIELD(virtio_console_config, cols, VIRTIO_CONSOLE_F_SIZE, NUMBER),
	FIELD(virtio_console_config, rows, VIRTIO_CONSOLE_F_SIZE, NUMBER),
	FIELD(virtio_console_config, max_nr_ports, VIRTIO_CONSOLE_F_MULTIPORT, NUMBER),
	{ NULL, 0, 0, 0, NUMBER },
};

static const struct bit_name balloon_bits[] = {
	BIT(VIRTIO_BALLOON_F_, MUST_TELL_HOST), BIT(VIRTIO_BALLOON_F_, STATS_VQ),
	BIT(VIRTIO_BALLOON_F_, DEFLATE_ON_OOM), BIT(VIRTIO_BALLOON_F_, FREE_PAGE_HINT),
	BIT(VIRTIO_BALLOON_F_, PAGE_POISON), BIT(VIRTIO_BALLOON_F_, PAGE_REPORTING), { 0, NULL },
};

static const struct field balloon_fields[] = {
	FIELD(virtio_balloon_config, num_pages, -1, NUMBER),
	FIELD(virtio_balloon_config, actual, -1, NUMBER),
	FIELD(virtio_balloon_config, free_page_hint_cmd_id, VIRTIO_BALLOON_F_FREE_PAGE_HINT, NUMBER),
	FIELD(virtio_balloon_config, poison_val, VIRTIO_BALLOON_F_PAGE_POISON, NUMBER),
	{ NULL, 0, 0, 0, NUMBER },
};
/* clang-format on */

static const struct bit_name no_bits[] = { { 0, NULL } };
static const struct field no_fields[] = { { NULL, 0, 0, 0, NUMBER } };

static const struct device_type types[] = {
	{ "blk", "block device", VIRTIO_ID_BLOCK, blk_bits, blk_fields },
	{ "net", "network device", VIRTIO_ID_NET, net_bits, net_fields },
	{ "console", "console", VIRTIO_ID_CONSOLE, console_bits, console_fields },
	{ "entropy", "entropy source", VIRTIO_ID_ENTROPY, no_bits, no_fields },
	{ "balloon", "memory balloon", VIRTIO_ID_BALLOON, balloon_bits, balloon_fields },
};

static const struct device_type *type_named(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(types); i++)
		if (!strcmp(types[i].name, name))
			return &types[i];
	return NULL;
}

/*
 * vhost-user does not say what kind of device it carries; front ends are told. What is offered
 * gives most away: these bits are asked from the plainest to the faintest.
 */
static const struct device_type *type_guess(u64 features, u64 n_queues)
{
	/* Bits 24 to 40 belong to all devices, and to the protocol. */
	u64 own = features & 0xfffffe0000ffffffull;

	if (own == 0)
		return type_named("entropy");
	if (own >> VIRTIO_BLK_F_BLK_SIZE & 1) /* in net: a bit that ended with legacy devices */
		return type_named("blk");
	if (own & (1ull << VIRTIO_NET_F_MRG_RXBUF | 1ull << VIRTIO_NET_F_STATUS |
		   1ull << VIRTIO_NET_F_CTRL_VQ | 1ull << VIRTIO_NET_F_HOST_TSO4 |
		   1ull << VIRTIO_NET_F_GUEST_TSO4))
		return type_named("net");
	if (own & (1ull << VIRTIO_BLK_F_FLUSH | 1ull << VIRTIO_BLK_F_CONFIG_WCE))
		return type_named("blk");
	if (own == 1ull << VIRTIO_NET_F_MAC)
		return type_named("net");
	if (own & ~7ull)
		return own & ~0x3full ? NULL : type_named("balloon");
	/* Three bits that both have: a balloon has up to five queues, ports come in pairs. */
	return n_queues > VIRTIO_BALLOON_N_QUEUES || n_queues == 4 ||
			       own == 1ull << VIRTIO_CONSOLE_F_SIZE
		       ? type_named("console")
		       : type_named("balloon");
}

bool cli_is_blk(u64 features)
{
	return type_guess(features, 0) == type_named("blk");
}

/* ---- what there is to tell ---------------------------------------------------------------- */

struct report {
	const char *path;
	const struct device_type *type; /* NULL: unknown */
	bool guessed;
	const struct vhost_user_front *front;
	struct virtio_device *device;
};

static const char *bit_name(const struct report *r, unsigned int bit)
{
	for (const struct bit_name *b = common_bits; b->name; b++)
		if (b->bit == bit)
			return b->name;
	for (const struct bit_name *b = r->type ? r->type->bits : no_bits; b->name; b++)
		if (b->bit == bit)
			return b->name;
	return NULL;
}

static const char *feature_name(const struct report *r, unsigned int bit)
{
	return bit_name(r, bit);
}

static const char *protocol_name(const struct report *r, unsigned int bit)
{
	return vhost_user_protocol_feature_name(bit);
}

/* The names of all bits set, `before` each one but the first. */
static void print_bits(const struct report *r, u64 bits,
		       const char *(*name)(const struct report *r, unsigned int bit),
		       const char *quote, const char *between)
{
	bool first = true;

	for (unsigned int bit = 0; bit < 64; bit++) {
		if (!(bits >> bit & 1))
			continue;
		printf("%s%s", first ? "" : between, quote);
		if (name(r, bit))
			printf("%s%s", name(r, bit), quote);
		else
			printf("bit%u%s", bit, quote);
		first = false;
	}
}

static bool field_present(const struct report *r, const struct field *f)
{
	return f->feature < 0 || r->front->features_offered >> f->feature & 1;
}

static bool has_config(const struct report *r)
{
	return r->front->protocol_features >> VHOST_USER_PROTOCOL_F_CONFIG & 1;
}

static void print_mac(const struct report *r, const struct field *f)
{
	u8 mac[6];

	virtio_cread_bytes(r->device, f->offset, mac, sizeof(mac));
	printf("%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1], mac[2], mac[3], mac[4], mac[5]);
}

static void print_human(const struct report *r)
{
	const struct vhost_user_front *f = r->front;

	printf("%s: ", r->path);
	if (r->type)
		printf("%s (%s, virtio id %u)%s\n", r->type->what, r->type->name, r->type->id,
		       r->guessed ? ", by its features" : "");
	else
		printf("device of unknown type; say which with --type\n");
	printf("features  ");
	print_bits(r, f->features_offered, feature_name, "", " ");
	printf("\nprotocol  ");
	print_bits(r, f->protocol_offered, protocol_name, "", " ");
	printf("\nqueues    ");
	printf(f->n_queues ? "%llu" : "not told", (unsigned long long)f->n_queues);
	printf("\nmemory    ");
	printf(f->max_mem_slots ? "%llu slots" : "8 regions in one table",
	       (unsigned long long)f->max_mem_slots);
	printf("\nconfig%s\n", has_config(r) ? "" : "    not told");
	for (const struct field *c = r->type ? r->type->fields : no_fields; c->name; c++) {
		if (!field_present(r, c) || !has_config(r))
			continue;
		printf("  %-28s", c->name);
		if (c->kind == MAC) {
			print_mac(r, c);
		} else {
			u64 value = virtio_cread(r->device, c->offset, c->n_bytes);

			printf("%llu", (unsigned long long)value);
			if (c->kind == SECTORS)
				printf(" sectors, %.1f MiB", (double)value / 2048);
		}
		putchar('\n');
	}
	if (f->config_refused)
		puts("  (zeroes stand for what it did not tell)");
}

static void print_json_text(const char *text)
{
	putchar('"');
	for (; *text; text++)
		if (*text == '"' || *text == '\\')
			printf("\\%c", *text);
		else if ((unsigned char)*text < ' ')
			printf("\\u%04x", *text);
		else
			putchar(*text);
	putchar('"');
}

static void print_json_count(const char *key, u64 n)
{
	printf(n ? ",\"%s\":%llu" : ",\"%s\":null", key, (unsigned long long)n);
}

static void print_json(const struct report *r)
{
	const struct vhost_user_front *f = r->front;
	bool first = true;

	printf("{\"socket\":");
	print_json_text(r->path);
	if (r->type)
		printf(",\"type\":\"%s\",\"device_id\":%u", r->type->name, r->type->id);
	else
		printf(",\"type\":null,\"device_id\":null");
	printf(",\"guessed\":%s", r->guessed ? "true" : "false");
	printf(",\"feature_bits\":\"0x%llx\",\"features\":[",
	       (unsigned long long)f->features_offered);
	print_bits(r, f->features_offered, feature_name, "\"", ",");
	printf("],\"protocol_feature_bits\":\"0x%llx\",\"protocol_features\":[",
	       (unsigned long long)f->protocol_offered);
	print_bits(r, f->protocol_offered, protocol_name, "\"", ",");
	printf("]");
	print_json_count("queues", f->n_queues);
	print_json_count("memory_slots", f->max_mem_slots);
	printf(",\"config\":");
	if (!has_config(r)) {
		puts("null}");
		return;
	}
	putchar('{');
	for (const struct field *c = r->type ? r->type->fields : no_fields; c->name; c++) {
		if (!field_present(r, c))
			continue;
		printf("%s\"%s\":", first ? "" : ",", c->name);
		first = false;
		if (c->kind == MAC) {
			putchar('"');
			print_mac(r, c);
			putchar('"');
		} else {
			printf("%llu",
			       (unsigned long long)virtio_cread(r->device, c->offset, c->n_bytes));
		}
	}
	printf("},\"config_complete\":%s}\n", f->config_refused ? "false" : "true");
}

/* ---- the verb ------------------------------------------------------------------------------ */

static void print_help(void)
{
	puts("viaduct probe: what a vhost-user back end offers\n"
	     "\n"
	     "  viaduct probe SOCKET [--type blk|net|console|entropy|balloon] [--json]\n"
	     "\n"
	     "Connects as a front end does, asks, and goes: device type, features, protocol\n"
	     "features, queues, limits and configuration. The protocol does not say of which type\n"
	     "a device is: without --type that is concluded from what it offers. A back end that\n"
	     "has a front end already makes this wait, and give up after 5 seconds.\n"
	     "\n"
	     "Example:\n"
	     "  viaduct serve blk --file disk.img --socket /tmp/disk.sock &\n"
	     "  viaduct probe /tmp/disk.sock");
}

int cli_probe(int argc, char **argv)
{
	struct vhost_user_client_config config = {
		.name = "probe",
		.memory_bytes = PROBE_MEMORY_BYTES,
	};
	struct report r = { .guessed = true };
	struct vhost_user_client *client;
	struct loop *loop;
	char why[512];
	bool json = false;
	int status = EXIT_OK;

	for (int i = 1; i < argc; i++) {
		if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h")) {
			print_help();
			return EXIT_OK;
		}
		if (!strcmp(argv[i], "--json")) {
			json = true;
		} else if (!strcmp(argv[i], "--type")) {
			r.type = i + 1 < argc ? type_named(argv[i + 1]) : NULL;
			if (!r.type)
				return cli_usage("probe", "--type needs one of blk, net, console, "
							  "entropy, balloon");
			r.guessed = false;
			i++;
		} else if (argv[i][0] == '-' || r.path) {
			return cli_usage("probe", "'%s'? See viaduct probe --help", argv[i]);
		} else {
			r.path = argv[i];
		}
	}
	if (!r.path)
		return cli_usage("probe", "which back end? For example: viaduct probe disk.sock");
	host_log_start(LOG_ERROR); /* what else there is to say is said below */
	loop = loop_create();
	if (!loop)
		return cli_usage("probe", "no event loop to be had");
	config.path = r.path;
	config.device_id = r.type ? r.type->id : 0;
	client = vhost_user_client_create(loop, &config, why, sizeof(why));
	if (!client) {
		loop_destroy(loop);
		return cli_usage("probe", "%s", why);
	}
	r.front = vhost_user_client_front(client);
	r.device = vhost_user_client_device(client);
	if (r.guessed)
		r.type = type_guess(r.front->features_offered, r.front->n_queues);
	json ? print_json(&r) : print_human(&r);
	if (!r.front->connected) {
		fprintf(stderr, "viaduct probe: %s went away meanwhile; not all of this is true\n",
			r.path);
		status = EXIT_FAILED;
	}
	vhost_user_client_destroy(client);
	loop_destroy(loop);
	return status;
}
