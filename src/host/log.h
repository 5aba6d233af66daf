/* SPDX-License-Identifier: BSD-3-Clause */
/* The log hook of a program on Linux: one line on stderr for each thing said. */
#ifndef VIADUCT_HOST_LOG_H
#define VIADUCT_HOST_LOG_H

#include "base/log.h"

/*
 * From here on lines up to `most` (LOG_WARN: errors and warnings) go to stderr as
 * "viaduct: OBJECT: text". Lines of threads and processes never mix: each is one write.
 */
void host_log_start(enum log_level most);

#endif
