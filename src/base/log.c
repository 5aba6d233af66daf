/* SPDX-License-Identifier: BSD-3-Clause */
/* The log hook: one pointer, set by the program that the library lives in. */
#include "base/log.h"

static log_hook *the_hook;

void log_set_hook(log_hook *hook)
{
	the_hook = hook;
}

void log_line(enum log_level level, const char *object, const char *format, ...)
{
	va_list args;

	if (!the_hook)
		return;
	va_start(args, format);
	the_hook(level, object, format, args);
	va_end(args);
}
