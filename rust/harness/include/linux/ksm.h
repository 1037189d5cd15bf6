/* SPDX-License-Identifier: GPL-2.0 */
/* Stubbed: include/linux/ksm.h; there are no zero pages. */
#ifndef _LINUX_KSM_H
#define _LINUX_KSM_H

#include <linux/mm_types.h>

static inline void ksm_forget_zero_pages(struct mm_struct *mm)
{
}

#endif
