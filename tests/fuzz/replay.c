/* SPDX-License-Identifier: BSD-3-Clause */
/* Runs every file of a corpus through a fuzz target: replay DIRECTORY. */
#include <dirent.h>
#include <stdio.h>
#include <string.h>

#include "tests/fuzz/fuzz.h"

int main(int argc, char **argv)
{
	static u8 data[1 << 16];
	unsigned int n_files = 0;
	struct dirent *entry;
	DIR *dir;

	if (argc != 2 || !(dir = opendir(argv[1]))) {
		fprintf(stderr, "usage: %s DIRECTORY\n", argv[0]);
		return 2;
	}
	while ((entry = readdir(dir))) {
		char path[4096];
		FILE *file;
		size_t n;

		if (entry->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), "%s/%s", argv[1], entry->d_name);
		file = fopen(path, "rb");
		if (!file) {
			perror(path);
			return 1;
		}
		n = fread(data, 1, sizeof(data), file);
		fclose(file);
		LLVMFuzzerTestOneInput(data, n);
		n_files++;
	}
	closedir(dir);
	printf("%u inputs\n", n_files);
	return n_files > 0 && fuzz_reached_enough() ? 0 : 1;
}
