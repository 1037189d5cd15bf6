/* SPDX-License-Identifier: GPL-2.0 */
/* Customised: asm-generic/tlb.h; who zaps flushes himself. */
#ifndef _ASM_TLB_H
#define _ASM_TLB_H

#include <asm/tlbflush.h>

struct mmu_gather {
	struct mm_struct *mm;
};

static inline void tlb_gather_mmu(struct mmu_gather *tlb, struct mm_struct *mm)
{
	tlb->mm = mm;
}

static inline void tlb_flush_mmu(struct mmu_gather *tlb)
{
}

static inline void tlb_finish_mmu(struct mmu_gather *tlb)
{
}

#endif
