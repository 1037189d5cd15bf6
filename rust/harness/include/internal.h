/* SPDX-License-Identifier: GPL-2.0 */
/* Customised: mm/internal.h; behind it is shim/memory.c. */
#ifndef _MM_INTERNAL_H
#define _MM_INTERNAL_H

#include <linux/mm.h>

pmd_t *mm_find_pmd(struct mm_struct *mm, unsigned long addr);
void pmd_install(struct mm_struct *mm, pmd_t *pmd, pgtable_t *table);
int copy_pte_range_deferred(struct vm_area_struct *dst_vma,
			    struct vm_area_struct *src_vma, pmd_t *dst_pmd,
			    pmd_t *src_pmd, unsigned long addr,
			    unsigned long end);

#endif
