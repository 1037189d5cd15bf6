/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Customised: include/linux/sched.h, pid.h, rcupdate.h. A task is a process; its
 * threads share the struct, and each has one mm_users.
 */
#ifndef _LINUX_SCHED_H
#define _LINUX_SCHED_H

#include <linux/mm_types.h>

#define PF_KTHREAD	1
#define PF_EXITING	4

#define SIGNAL_GROUP_EXIT	0x00000004

struct signal_struct {
	atomic_t live;
	struct task_struct *group_exec_task;
	unsigned int flags;
	struct mm_struct *oom_mm;
};

struct task_struct {
	struct mm_struct *mm;
	unsigned int flags;
	bool in_execve;
	int *clear_child_tid;
	int threads;
	struct signal_struct signal[1];
	int killed;		/* SIGKILL is pending */
	int ptrace;
	bool child_reaper;	/* init of a pid namespace */
	struct mem_cgroup *memcg;
	const char *comm;
	int doomed;		/* by somebody else than a session */
	struct callback_head *works;
	struct task_struct *next;
	struct task_struct *real_parent;	/* itself, if that is gone */
};

extern __thread struct task_struct *current;
extern struct task_struct *processes;
extern struct rw_semaphore rcu;

/* A writer of what RCU protects locks it for writing: a grace period. */
static inline void rcu_read_lock(void)
{
	down_read(&rcu);
}

static inline void rcu_read_unlock(void)
{
	up_read(&rcu);
}

#define rcu_dereference(p) READ_ONCE(p)

static inline bool same_thread_group(struct task_struct *a, struct task_struct *b)
{
	return a == b;
}

#define for_each_process(p) \
	for (p = processes; p; p = p->next)

void cond_resched(void);
bool need_resched(void);

static inline struct task_struct *task_tgid(struct task_struct *p)
{
	return p;
}

static inline bool is_child_reaper(struct task_struct *p)
{
	return p->child_reaper;
}

static inline int task_pid_nr(struct task_struct *p)
{
	return 0;
}

#endif
