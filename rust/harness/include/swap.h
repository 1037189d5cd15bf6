/* SPDX-License-Identifier: GPL-2.0 */
/* Stubbed: mm/swap.h; behind it is shim/memory.c. */
#ifndef _MM_SWAP_H
#define _MM_SWAP_H

#include <linux/swap.h>

int swap_retry_table_alloc(swp_entry_t entry, gfp_t gfp);

#endif
