/* SPDX-License-Identifier: BSD-3-Clause */
/* What the verbs share: how a wrong call is told, and how a size is read. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"

int cli_usage(const char *verb, const char *format, ...)
{
	va_list args;

	fprintf(stderr, "viaduct %s: ", verb);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
	return EXIT_USAGE;
}

bool cli_size(const char *text, u64 *bytes)
{
	static const char units[] = "KMGT";
	const char *unit;
	char *end;
	u64 value;
	unsigned int shift = 0;

	if (*text < '0' || *text > '9')
		return false;
	errno = 0;
	value = strtoull(text, &end, 10);
	if (errno)
		return false;
	if (*end && (unit = strchr(units, *end))) {
		shift = 10 * (unsigned int)(unit - units + 1);
		end++;
	}
	if (*end || value > UINT64_MAX >> shift)
		return false;
	*bytes = value << shift;
	return true;
}

bool cli_number(const char *text, u64 least, u64 most, u32 *n)
{
	u64 value;

	if (!text || !cli_size(text, &value) || value < least || value > most)
		return false;
	*n = (u32)value;
	return true;
}
