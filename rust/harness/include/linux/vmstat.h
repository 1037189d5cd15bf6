/* SPDX-License-Identifier: GPL-2.0 */
/* Stubbed: include/linux/vmstat.h */
#ifndef _LINUX_VMSTAT_H
#define _LINUX_VMSTAT_H

#include <linux/vm_event_item.h>

void count_vm_events(enum vm_event_item event, long nr);

static inline void count_vm_event(enum vm_event_item event)
{
	count_vm_events(event, 1);
}

#endif
