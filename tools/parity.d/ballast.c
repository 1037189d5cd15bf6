// SPDX-License-Identifier: GPL-2.0
/*
 * Preloaded into a program whose forks have nothing to defer: 8 MiB of anonymous
 * memory, of which every 16th page is there. So its forks are asynchronous.
 */
#include <sys/mman.h>

__attribute__((constructor))
static void ballast(void)
{
	const unsigned long size = 8UL << 20, step = 16UL << 12;
	volatile char *p = mmap(0, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	for (unsigned long i = 0; p != MAP_FAILED && i < size; i += step)
		p[i] = 1;
}
