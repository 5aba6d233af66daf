/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The `viaduct` command: one file per verb, each with one function, joined in main.c.
 *
 * Exit status: 0 all went well; 1 something failed while running; 2 the call was wrong or
 * something it needs is missing, said in one line that tells how to mend it.
 */
#ifndef VIADUCT_CLI_CLI_H
#define VIADUCT_CLI_CLI_H

#include "base/types.h"

enum { EXIT_OK = 0, EXIT_FAILED = 1, EXIT_USAGE = 2 };

/* argv[0] is the verb. Each returns the exit status. */
int cli_bench(int argc, char **argv);
int cli_ctl(int argc, char **argv);
int cli_probe(int argc, char **argv);
int cli_run(int argc, char **argv);

/*
 * Also what `viaduct run` calls, in a process of its own, so this much of its syntax is fixed:
 *
 *   serve TYPE [--name NAME] OPTION... --socket S [TYPE ... --socket S]... [--control PATH]
 *
 *     blk      --file FILE[,ro][,...]
 *     net      --user | --tap NAME
 *     console  --port NAME,CHARDEV [--port NAME,CHARDEV]...
 *              CHARDEV: stdio | pty | socket=PATH (listens) | file=PATH | fd=N (open, both ways)
 *     balloon
 *     entropy
 *
 * S is a path to listen on, or fd=N: a socket that listens already, inherited. The caller's
 * SIGTERM ends it: everything acknowledged is in its file then, and the status is 0. --control
 * offers a socket for `viaduct ctl`, see ctl.c.
 */
int cli_serve(int argc, char **argv);

/* Prints "viaduct VERB: ..." and a newline to stderr, and returns EXIT_USAGE. */
__attribute__((format(printf, 2, 3))) int cli_usage(const char *verb, const char *format, ...);

/* Whether a vhost-user back end that offers these is a block device, as far as that shows. */
bool cli_is_blk(u64 features);

/* "512M", "2G", "4096": bytes, with K, M, G and T for powers of 1024. False: not a size. */
bool cli_size(const char *text, u64 *bytes);

/* The same, if it is at least `least` and at most `most`, which is below 2^32. NULL is no number. */
bool cli_number(const char *text, u64 least, u64 most, u32 *n);

#endif
