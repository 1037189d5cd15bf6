/* SPDX-License-Identifier: GPL-2.0 */
/* Stubbed: include/linux/hash.h */
#ifndef _LINUX_HASH_H
#define _LINUX_HASH_H

static inline unsigned int hash_long(unsigned long value, unsigned int bits)
{
	return value * 0x9e3779b97f4a7c15ul >> (64 - bits);
}

#endif
