/* SPDX-License-Identifier: GPL-2.0 */
/* Stubbed: include/linux/bitmap.h, bitops.h; without atomic operations. */
#ifndef _LINUX_BITMAP_H
#define _LINUX_BITMAP_H

#include <linux/compiler.h>

#define BITS_PER_LONG	64
#define DECLARE_BITMAP(name, bits) \
	unsigned long name[((bits) + BITS_PER_LONG - 1) / BITS_PER_LONG]

static inline void __set_bit(unsigned long nr, unsigned long *map)
{
	map[nr / BITS_PER_LONG] |= 1UL << nr % BITS_PER_LONG;
}

static inline bool test_bit(unsigned long nr, const unsigned long *map)
{
	return map[nr / BITS_PER_LONG] >> nr % BITS_PER_LONG & 1;
}

static inline void bitmap_zero(unsigned long *map, unsigned int bits)
{
	for (unsigned int i = 0; i < bits; i += BITS_PER_LONG)
		map[i / BITS_PER_LONG] = 0;
}

#endif
