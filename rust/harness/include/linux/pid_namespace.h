/* SPDX-License-Identifier: GPL-2.0 */
/* Stubbed: include/linux/pid_namespace.h, pid.h. There is one namespace. */
#ifndef _LINUX_PID_NAMESPACE_H
#define _LINUX_PID_NAMESPACE_H

#include <linux/sched.h>

struct pid_namespace;

static inline struct pid_namespace *task_active_pid_ns(struct task_struct *p)
{
	return NULL;
}

static inline int task_pid_nr_ns(struct task_struct *p, struct pid_namespace *ns)
{
	return 1;
}

#endif
