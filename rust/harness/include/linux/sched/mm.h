/* SPDX-License-Identifier: GPL-2.0 */
/* Duplicated: include/linux/sched/mm.h */
#ifndef _LINUX_SCHED_MM_H
#define _LINUX_SCHED_MM_H

#include <linux/sched.h>

void mmgrab(struct mm_struct *mm);
void mmdrop(struct mm_struct *mm);
bool mmget_not_zero(struct mm_struct *mm);
void mmput(struct mm_struct *mm);
void mmput_own(struct mm_struct *mm);
void mmput_async(struct mm_struct *mm);

static inline bool process_shares_mm(struct task_struct *p,
				     struct mm_struct *mm)
{
	return READ_ONCE(p->mm) == mm;
}

#endif
