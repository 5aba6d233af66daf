/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the library has to say, handed to a hook that the environment installs.
 *
 * Every line carries the object that it speaks of. A peer can cause one line per reset, no
 * more: callers latch first, then log. Without a hook nothing is said.
 */
#ifndef VIADUCT_BASE_LOG_H
#define VIADUCT_BASE_LOG_H

#include <stdarg.h>

#include "base/types.h"

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };

/* `format` is printf's; any thread may call. */
typedef void log_hook(enum log_level level, const char *object, const char *format, va_list args);

/* Installs the hook of this program; call it before any other thread runs. NULL: silence. */
void log_set_hook(log_hook *hook);

__attribute__((format(printf, 3, 4))) void log_line(enum log_level level, const char *object,
						    const char *format, ...);

#endif
