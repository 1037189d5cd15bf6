/* SPDX-License-Identifier: GPL-2.0 */
/* Stubbed: include/linux/delay.h */
#ifndef _LINUX_DELAY_H
#define _LINUX_DELAY_H

#define TASK_IDLE	1

void usleep_range_state(unsigned long min, unsigned long max, unsigned int state);

#endif
