/* SPDX-License-Identifier: GPL-2.0 */
/* Stubbed: include/linux/memcontrol.h, sched/mm.h; each process has a cgroup. */
#ifndef _LINUX_MEMCONTROL_H
#define _LINUX_MEMCONTROL_H

#include <linux/sched.h>
#include <linux/vm_event_item.h>

struct mem_cgroup {
	int refcount;
	int id;
};

/* What the calling thread charges instead of its own, or NULL. */
extern __thread struct mem_cgroup *active_memcg;

static inline struct mem_cgroup *set_active_memcg(struct mem_cgroup *memcg)
{
	struct mem_cgroup *old = active_memcg;

	active_memcg = memcg;
	return old;
}

struct mem_cgroup *get_mem_cgroup_from_current(void);
bool mem_cgroup_tryget(struct mem_cgroup *memcg);
void mem_cgroup_put(struct mem_cgroup *memcg);
int mem_cgroup_charge(struct folio *folio, struct mm_struct *mm, gfp_t gfp);

/* What is counted for a group, nobody reads here. */
static inline void count_memcg_events(struct mem_cgroup *memcg, enum vm_event_item event,
				      unsigned long nr)
{
}

/* None of them says anything. */
static inline int mem_cgroup_async_pgtable(struct task_struct *task)
{
	return -1;
}

#endif
