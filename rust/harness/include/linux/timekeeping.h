/* SPDX-License-Identifier: GPL-2.0 */
/* Stubbed: include/linux/timekeeping.h */
#ifndef _LINUX_TIMEKEEPING_H
#define _LINUX_TIMEKEEPING_H

#include <linux/compiler.h>

/* Time goes on when somebody waits for memory. */
u64 ktime_get_ns(void);

#endif
