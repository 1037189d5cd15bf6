/* SPDX-License-Identifier: GPL-2.0 */
/* Customised: x86's asm/tlbflush.h; the TLB is in shim/cpu.c. */
#ifndef _ASM_TLBFLUSH_H
#define _ASM_TLBFLUSH_H

#include <linux/mm_types.h>

void flush_tlb_mm(struct mm_struct *mm);

static inline void arch_async_pgtable_flush(struct mm_struct *mm)
{
	flush_tlb_mm(mm);
}

#endif
