/* SPDX-License-Identifier: GPL-2.0 */
/* Customised: mm/internal.h; behind it is shim/memory.c. */
#ifndef _MM_INTERNAL_H
#define _MM_INTERNAL_H

#include <linux/mm.h>

pmd_t *mm_find_pmd(struct mm_struct *mm, unsigned long addr);
void pmd_install(struct mm_struct *mm, pmd_t *pmd, pgtable_t *table);

#endif
