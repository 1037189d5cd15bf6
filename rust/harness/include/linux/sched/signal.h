/* SPDX-License-Identifier: GPL-2.0 */
/* Stubbed: include/linux/sched/signal.h; there is SIGKILL. */
#ifndef _LINUX_SCHED_SIGNAL_H
#define _LINUX_SCHED_SIGNAL_H

#include <linux/sched.h>

#define SIGKILL		9
#define SEND_SIG_PRIV	NULL
enum pid_type { PIDTYPE_TGID };

void do_send_sig_info(int sig, void *info, struct task_struct *p,
		      enum pid_type type);

void send_sig(int sig, struct task_struct *p, int priv);

static inline bool __fatal_signal_pending(struct task_struct *p)
{
	return READ_ONCE(p->killed);
}

static inline bool thread_group_empty(struct task_struct *p)
{
	return READ_ONCE(p->threads) <= 1;
}

static inline bool fatal_signal_pending(struct task_struct *p)
{
	return __fatal_signal_pending(p);
}

#endif
