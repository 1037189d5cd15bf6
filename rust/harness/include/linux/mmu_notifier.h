/* SPDX-License-Identifier: GPL-2.0 */
/* Stubbed: include/linux/mmu_notifier.h */
#ifndef _LINUX_MMU_NOTIFIER_H
#define _LINUX_MMU_NOTIFIER_H

#include <linux/mm_types.h>

static inline bool mm_has_notifiers(struct mm_struct *mm)
{
	return READ_ONCE(mm->notifiers);
}

#endif
