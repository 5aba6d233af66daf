/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The seam between a guest and whatever runs it: User-Mode Linux today, KVM tomorrow.
 *
 * An engine boots a kernel and joins it to devices that other processes serve on vhost-user
 * sockets. It knows nothing of disks, terminals or people; `viaduct run` knows nothing of how a
 * kernel is run. A guest runs in processes of its own, which die with the one that started it,
 * however that one ends.
 */
#ifndef VIADUCT_VMM_ENGINE_H
#define VIADUCT_VMM_ENGINE_H

#include "base/types.h"

/* A device of the machine: somebody listens on `socket` and speaks vhost-user. */
struct machine_device {
	u16 device_id; /* VIRTIO_ID_* */
	const char *socket; /* a path */
};

/* What a guest is made of. All of it outlives the guest. */
struct machine {
	const char *name;
	const char *kernel; /* a path */
	const char *initrd; /* a path; NULL: none */
	const char *cmdline; /* words for the kernel; "": none */
	u64 memory_bytes;
	const char *dir; /* a directory of this guest's own, for the engine's small files */
	const struct machine_device *devices; /* in the order in which the guest finds them */
	u32 n_devices;
};

/* How a guest ended. */
enum guest_end {
	GUEST_OFF, /* it powered itself off, or rebooted */
	GUEST_CRASHED, /* its kernel gave up, or the engine did */
	GUEST_KILLED, /* engine->kill, or somebody's SIGKILL */
};

/* A guest that runs. Owned by the caller; one thread. */
struct guest {
	const struct engine *engine;
	int pid; /* the process whose memory is the guest's: for people and measurements */
	int end_fd; /* readable once the guest has ended: call reap */
	int messages_fd; /* what the kernel says before, and beside, its console; read it. Non-blocking */
	int keeper; /* the engine's */
};

struct engine {
	const char *name;
	/* The kernel it runs when told none; NULL if there is none on this machine. */
	const char *(*default_kernel)(void);
	/* Where the modules of `kernel` lie; false, with one line for people in `why`, if unknown. */
	bool (*modules)(const char *kernel, char *dir, size_t n_dir, char *why, size_t n_why);
	/* Boots. 0, or -errno with one line for people in `why`. */
	int (*start)(struct guest *guest, const struct machine *m, char *why, size_t n_why);
	/* Ends the guest now, as pulling the plug does. Follow with reap. */
	void (*kill)(struct guest *guest);
	/* After end_fd became readable, or kill: waits for the last of it and closes all. */
	enum guest_end (*reap)(struct guest *guest);
};

extern const struct engine engine_uml;

#endif
