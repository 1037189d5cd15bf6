/* SPDX-License-Identifier: GPL-2.0 */
/* Stubbed: include/linux/oom.h */
#ifndef _LINUX_OOM_H
#define _LINUX_OOM_H

#include <linux/sched.h>

static inline bool tsk_is_oom_victim(struct task_struct *p)
{
	return READ_ONCE(p->oom_victim);
}

#endif
