/* SPDX-License-Identifier: GPL-2.0 */
/* Stubbed: include/linux/pgalloc.h, gfp_types.h */
#ifndef _LINUX_PGALLOC_H
#define _LINUX_PGALLOC_H

#include <linux/mm_types.h>

#define GFP_KERNEL		1u
#define GFP_PGTABLE_USER	2u
#define GFP_HIGHUSER_MOVABLE	4u
#define __GFP_RETRY_MAYFAIL	8u
#define __GFP_NOWARN		16u
#define __GFP_NOMEMALLOC	32u
#define __GFP_NORETRY		64u

pgtable_t __pte_alloc_one(struct mm_struct *mm, gfp_t gfp);
void pte_free(struct mm_struct *mm, pgtable_t table);

#endif
