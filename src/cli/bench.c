/* SPDX-License-Identifier: BSD-3-Clause */
/* `viaduct bench`: how fast, and whether right: somebody's device, or the rings alone. */
#include <stdio.h>
#include <string.h>

#include "cli/bench.h"
#include "cli/cli.h"

static void print_help(void)
{
	puts("viaduct bench: how fast a device is, and whether it keeps what it is given\n"
	     "\n"
	     "  viaduct bench SOCKET [options]   a block device on a vhost-user socket\n"
	     "  viaduct bench SOCKET --type net [options]   a network card on one\n"
	     "  viaduct bench ring [options]     virtqueues alone: split and packed, by batches,\n"
	     "                                   driver and device on one processor and on two\n"
	     "\n"
	     "For a block device:\n"
	     "  --op read|write|mix      what to do (read). Writing DESTROYS what is there\n"
	     "  --order random|sequential                                              (random)\n"
	     "  --depth N                operations under way at a time                (32)\n"
	     "  --block SIZE             bytes of each                                 (4K)\n"
	     "  --queues N               of those that the device has                  (all)\n"
	     "  --size SIZE              use the first SIZE of the disk                (all;\n"
	     "                           64M with --verify)\n"
	     "  --seconds N              how long                                      (5)\n"
	     "  --verify                 write versioned sectors, read them back, check each bit.\n"
	     "                           DESTROYS what is there. A back end that is killed and\n"
	     "                           started again meanwhile may lose nothing\n"
	     "  --seed N                 repeats a run's choices\n"
	     "  --rings split|packed     insist on one                                 (as "
	     "offered)\n"
	     "  --no-event-idx, --no-indirect   do without\n"
	     "  --give-up SECONDS        how long to wait for a back end that went     (30)\n"
	     "For a network card (--type net):\n"
	     "  --frame BYTES            of each, with its Ethernet header             (60)\n"
	     "  --depth N                frames under way at a time                    (128)\n"
	     "  --seconds N              how long                                      (5)\n"
	     "  --frames N               no more than that\n"
	     "  --verify                 the back end brings each frame back: check that it does,\n"
	     "                           in order and unchanged but for swapped addresses\n"
	     "  --rings, --no-event-idx, --no-indirect, --give-up   as above\n"
	     "  --no-mergeable           a receive buffer for each frame\n"
	     "For all:\n"
	     "  --json                   one object at the end instead of text\n"
	     "  --quiet                  no progress while it runs\n"
	     "\n"
	     "Example:\n"
	     "  viaduct serve blk --file disk.img --socket /tmp/disk.sock &\n"
	     "  viaduct bench /tmp/disk.sock --op read --depth 64");
}

int cli_bench(int argc, char **argv)
{
	for (int i = 1; i < argc; i++)
		if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h")) {
			print_help();
			return EXIT_OK;
		}
	if (argc < 2)
		return cli_usage("bench",
				 "what? A back end's socket, or ring; see viaduct bench --help");
	if (!strcmp(argv[1], "ring"))
		return bench_ring(argc - 1, argv + 1);
	for (int i = 2; i < argc; i++) {
		if (strcmp(argv[i], "--type") != 0)
			continue;
		if (i + 1 < argc && !strcmp(argv[i + 1], "net"))
			return bench_net(argc - 1, argv + 1);
		return cli_usage("bench", "--type is net, or left out: a block device then");
	}
	return bench_blk(argc - 1, argv + 1);
}
