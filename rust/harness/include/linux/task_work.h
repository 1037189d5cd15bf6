/* SPDX-License-Identifier: GPL-2.0 */
/* Duplicated: include/linux/task_work.h */
#ifndef _LINUX_TASK_WORK_H
#define _LINUX_TASK_WORK_H

#include <linux/sched.h>

enum task_work_notify_mode { TWA_RESUME };

static inline void init_task_work(struct callback_head *work,
				  void (*func)(struct callback_head *work))
{
	work->func = func;
}

int task_work_add(struct task_struct *task, struct callback_head *work,
		  enum task_work_notify_mode mode);

#endif
