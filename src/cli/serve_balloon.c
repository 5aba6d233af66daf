/* SPDX-License-Identifier: BSD-3-Clause */
/* `viaduct serve balloon`: guest memory on loan from the host. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/serve.h"
#include "device/balloon.h"
#include "host/pages.h"

#define PAGE_BYTES 4096

struct options {
	u64 target_bytes;
	bool no_reporting;
};

static struct pages *the_pages;

static bool size_to_pages(const char *text, u32 *pages)
{
	u64 n_bytes;

	if (!cli_size(text, &n_bytes) || n_bytes / PAGE_BYTES > UINT32_MAX)
		return false;
	*pages = n_bytes / PAGE_BYTES;
	return true;
}

static int balloon_option(void *options, char **argv, char *why)
{
	struct options *o = options;
	u32 pages;

	if (!strcmp(argv[0], "--no-reporting")) {
		o->no_reporting = true;
		return 1;
	}
	if (strcmp(argv[0], "--target") != 0)
		return 0;
	if (!argv[1] || !size_to_pages(argv[1], &pages)) {
		snprintf(why, SERVE_WHY_BYTES, "--target needs a size, like 128M");
		return -1;
	}
	o->target_bytes = (u64)pages * PAGE_BYTES;
	return 2;
}

static struct vdev *balloon_open(struct loop *loop, const char *name, const void *options,
				 char *why)
{
	const struct options *o = options;
	struct device_balloon_config config = {
		.name = name,
		.features = DEVICE_BALLOON_ALL_FEATURES,
		.target_pages = o->target_bytes / PAGE_BYTES,
		.clock = loop_clock(loop),
	};

	if (o->no_reporting)
		config.features &= ~(1u << VIRTIO_BALLOON_F_PAGE_REPORTING);
	the_pages = host_pages_create(0);
	if (!the_pages) {
		snprintf(why, SERVE_WHY_BYTES, "no memory");
		return NULL;
	}
	config.pages = the_pages;
	return device_balloon_init(serve_memory(device_balloon_bytes(&config)), &config);
}

static void balloon_close(struct vdev *vdev)
{
	host_pages_destroy(the_pages);
}

static void balloon_say_stats(struct vdev *vdev, struct control_answer *a)
{
	static const char *const names[VIRTIO_BALLOON_S_N_TAGS] = {
		"swap-in", "swap-out",  "major-faults", "minor-faults",        "free",
		"total",   "available", "caches",       "hugetlb-allocations", "hugetlb-failures",
	};
	const struct device_balloon_state *s = device_balloon_state(vdev);

	if (s->n_stats == 0)
		control_say(a, "  no statistics yet; ask again in a moment");
	for (int i = 0; i < VIRTIO_BALLOON_S_N_TAGS; i++)
		if (s->stats[i].known)
			control_say(a, "  %s %llu", names[i],
				    (unsigned long long)s->stats[i].value);
}

static bool balloon_command(struct vdev *vdev, int n_words, char **words, struct control_answer *a)
{
	u32 pages;

	if (!strcmp(words[0], "target") && n_words == 2) {
		if (size_to_pages(words[1], &pages))
			device_balloon_set_target(vdev, pages);
		else
			control_fail(a, "target '%s': a size, like 128M", words[1]);
		return true;
	}
	if (!strcmp(words[0], "stats") && n_words == 1) {
		/* What is known now; the answer to this question is there at the next one. */
		balloon_say_stats(vdev, a);
		if (device_balloon_request_stats(vdev) < 0)
			control_fail(a, "the guest gives no statistics");
		return true;
	}
	if (!strcmp(words[0], "hints") && n_words == 2) {
		if (!strcmp(words[1], "done"))
			device_balloon_hints_done(vdev);
		else if (strcmp(words[1], "start") != 0)
			control_fail(a, "hints start, or hints done");
		else if (device_balloon_hints_start(vdev) < 0)
			control_fail(a, "the guest gives no hints");
		return true;
	}
	return false;
}

static void balloon_status(struct vdev *vdev, struct control_answer *a)
{
	const struct device_balloon_state *s = device_balloon_state(vdev);
	struct host_pages_stats p = host_pages_stats(the_pages);

	control_say(a, "  target %llu bytes, guest gave %llu, given back to the host so far %llu",
		    (unsigned long long)s->target_pages * PAGE_BYTES,
		    (unsigned long long)s->actual_pages * PAGE_BYTES,
		    (unsigned long long)p.released_bytes);
	control_say(a, "  reported free %llu bytes, hinted %llu, refused page numbers %llu",
		    (unsigned long long)s->reported_bytes, (unsigned long long)s->hinted_bytes,
		    (unsigned long long)s->n_bad_pages);
}

const struct serve_type serve_balloon = {
	.name = "balloon",
	.help = "  --target SIZE     memory to take from the guest at first (0)\n"
		"  --no-reporting    do not offer free page reporting",
	.commands = "[DEVICE] target SIZE         memory that the guest is to give back\n"
		    "[DEVICE] stats               what the guest says of its memory\n"
		    "[DEVICE] hints start|done    a round of free page hints",
	.options_bytes = sizeof(struct options),
	.option = balloon_option,
	.open = balloon_open,
	.close = balloon_close,
	.command = balloon_command,
	.status = balloon_status,
};
