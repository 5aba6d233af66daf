/* SPDX-License-Identifier: BSD-3-Clause */
/* A program outside the tree, built with what `meson install` left, as .ci/run does. */
#include <stdio.h>

#include <device/vdev.h>
#include <host/loop.h>
#include <ring/virtqueue.h>

int main(void)
{
	struct loop *loop = loop_create();
	struct memory_region region = { .gpa = 4096, .n_bytes = 4096, .base = (u8 *)"" };
	struct memory memory;

	if (!loop || memory_init(&memory, &region, 1)) {
		puts("the installed library does not work");
		return 1;
	}
	loop_destroy(loop);
	return 0;
}
