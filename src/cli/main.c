/* SPDX-License-Identifier: BSD-3-Clause */
/* The `viaduct` command: finds the verb, and says what there is to one who does not know. */
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"

static int cli_help(int argc, char **argv);

static int cli_version(int argc, char **argv)
{
	(void)argc;
	(void)argv;
	puts("viaduct " VIADUCT_VERSION);
	return EXIT_OK;
}

static const struct verb {
	const char *name;
	int (*run)(int argc, char **argv);
	bool has_help; /* knows --help */
	const char *what;
} verbs[] = {
	{ "run", cli_run, true, "boot a Linux guest on Viaduct's devices" },
	{ "serve", cli_serve, true, "offer devices on vhost-user sockets, to QEMU or others" },
	{ "ctl", cli_ctl, true, "ask something of a running guest's devices" },
	{ "bench", cli_bench, true, "measure a block device, or the rings; verify what it keeps" },
	{ "probe", cli_probe, true, "see what a vhost-user back end offers" },
	{ "version", cli_version, false, "print the version" },
	{ "help", cli_help, false, "this text, or the help of a verb: viaduct help run" },
};

static const struct verb *find_verb(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(verbs); i++)
		if (!strcmp(name, verbs[i].name))
			return &verbs[i];
	return NULL;
}

static int cli_help(int argc, char **argv)
{
	if (argc > 1) {
		const struct verb *verb = find_verb(argv[1]);
		char *ask[] = { argv[1], (char *)"--help", NULL };

		if (!verb)
			return cli_usage("help", "no verb '%s'; `viaduct help` lists them",
					 argv[1]);
		if (verb->has_help)
			return verb->run(2, ask);
	}
	puts("viaduct: virtio devices of our own for virtual machines\n"
	     "\n"
	     "  viaduct VERB [options]\n");
	for (size_t i = 0; i < ARRAY_SIZE(verbs); i++)
		printf("  %-9s%s\n", verbs[i].name, verbs[i].what);
	puts("\n"
	     "`viaduct VERB --help` tells more. To see it all at work: viaduct run");
	return EXIT_OK;
}

int main(int argc, char **argv)
{
	const struct verb *verb;
	const char *name = argc > 1 ? argv[1] : "help";

	if (!strcmp(name, "--help") || !strcmp(name, "-h"))
		name = "help";
	if (!strcmp(name, "--version") || !strcmp(name, "-V"))
		name = "version";
	verb = find_verb(name);
	if (!verb) {
		fprintf(stderr, "viaduct: no verb '%s'; `viaduct help` lists them\n", name);
		return EXIT_USAGE;
	}
	return argc > 1 ? verb->run(argc - 1, argv + 1) : verb->run(argc, argv);
}
