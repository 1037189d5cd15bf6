/* SPDX-License-Identifier: GPL-2.0 */
/* Stubbed: include/linux/swap.h, swapops.h, leafops.h */
#ifndef _LINUX_SWAP_H
#define _LINUX_SWAP_H

#include <linux/mm_types.h>

typedef struct { unsigned long val; } swp_entry_t;

void folio_throttle_swaprate(struct folio *folio, gfp_t gfp);

#endif
