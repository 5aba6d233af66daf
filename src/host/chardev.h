/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Chardevs on Linux: what a console port may be joined to.
 *
 * All live on one event loop. create gives NULL with errno set. A chardev is destroyed when no
 * device listens to it any more, and not from within one of its callbacks. Whatever takes less
 * than it is offered, for a time, makes the guest wait; nothing is thrown away, but where nobody
 * is at the other end.
 */
#ifndef VIADUCT_HOST_CHARDEV_H
#define VIADUCT_HOST_CHARDEV_H

#include "device/chardev.h"
#include "host/loop.h"

/* Takes everything, gives nothing. */
struct chardev *host_chardev_null_create(struct loop *loop);

/*
 * The terminal that the program was started on, or whatever else is there: pipes and files do,
 * too. A terminal is put into raw mode, and its old mode comes back whatever becomes of this
 * process: by destroy, by exit, and if it is killed, by a child that has waited for just that.
 * Its size follows SIGWINCH, which nobody else may catch (EBUSY). SIGPIPE is ignored from then on.
 *
 * On a terminal, Ctrl-A x calls `leave`, Ctrl-A h tells what there is, Ctrl-A Ctrl-A is one
 * Ctrl-A for the guest. All this works even while the guest takes no input.
 */
struct host_chardev_terminal {
	int in_fd, out_fd; /* 0 and 1, as a rule; remain the caller's */
	void (*leave)(void *owner); /* on the loop's thread */
	void *owner;
};
struct chardev *host_chardev_terminal_create(struct loop *loop,
					     const struct host_chardev_terminal *options);

/*
 * A new pty, for programs that want a terminal. `link` (NULL: none) becomes a symbolic link to
 * it, in the place of an older one to a pty; anything else there is left alone (EEXIST).
 */
struct chardev *host_chardev_pty_create(struct loop *loop, const char *link);
const char *host_chardev_pty_path(const struct chardev *c);

/*
 * A stream socket in the file system. Listening: one client at a time, the next one waits until
 * it is gone; a socket that is left over from a dead process is replaced, one that is alive is
 * not (EADDRINUSE), nor is anything else (EEXIST). Connecting: the other side must be there now, and is looked for every second
 * once it has gone.
 */
struct chardev *host_chardev_socket_create(struct loop *loop, const char *path, bool listening);

/*
 * Files, or pipes with names. Output goes to `out` (made if it is not there; emptied at first,
 * unless `append`), input comes from `in`; either may be NULL. A named pipe is opened both ways,
 * so it has no end, and what it holds waits for a reader. A full disk loses output, and says so
 * once.
 */
struct host_chardev_file {
	const char *out, *in;
	bool append;
};
struct chardev *host_chardev_file_create(struct loop *loop,
					 const struct host_chardev_file *options);

/*
 * A descriptor that is open for both ways, like one end of a socket pair; it is the chardev's
 * from then on, and made not to block. When the other side is gone, that is for ever.
 */
struct chardev *host_chardev_fd_create(struct loop *loop, int fd);

/* Harmless on NULL. */
void host_chardev_destroy(struct chardev *c);

#endif
