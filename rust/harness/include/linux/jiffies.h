/* SPDX-License-Identifier: GPL-2.0 */
/* Stubbed: include/linux/jiffies.h, asm-generic/param.h */
#ifndef _LINUX_JIFFIES_H
#define _LINUX_JIFFIES_H

/* Time goes on when somebody waits for memory. */
#define HZ	16

extern unsigned long harness_jiffies;

#define jiffies	__atomic_load_n(&harness_jiffies, __ATOMIC_RELAXED)

#define time_before(a, b)	((long)((a) - (b)) < 0)

#endif
