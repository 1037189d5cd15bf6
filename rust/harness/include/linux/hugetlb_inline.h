/* SPDX-License-Identifier: GPL-2.0 */
/* Stubbed: include/linux/hugetlb_inline.h; there are no huge pages. */
#ifndef _LINUX_HUGETLB_INLINE_H
#define _LINUX_HUGETLB_INLINE_H

#include <linux/mm_types.h>

static inline bool is_vm_hugetlb_page(struct vm_area_struct *vma)
{
	return false;
}

#endif
