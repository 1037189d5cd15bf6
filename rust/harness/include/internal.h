/* SPDX-License-Identifier: GPL-2.0 */
/* Customised: mm/internal.h; behind it is shim/memory.c. */
#ifndef _MM_INTERNAL_H
#define _MM_INTERNAL_H

#include <linux/mm.h>

struct mmu_gather;

pmd_t *mm_find_pmd(struct mm_struct *mm, unsigned long addr);
void pmd_install(struct mm_struct *mm, pmd_t *pmd, pgtable_t *table);
void zap_vma_range_batched(struct mmu_gather *tlb, struct vm_area_struct *vma,
			   unsigned long addr, unsigned long size,
			   struct zap_details *details);

#endif
