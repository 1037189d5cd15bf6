/* SPDX-License-Identifier: GPL-2.0 */
/* Duplicated: rust/bindings/bindings_helper.h */
#include <async_pgtable.h>
#include <harness.h>
#include <linux/mmap_lock.h>

const size_t RUST_CONST_HELPER_PMD_SIZE = PMD_SIZE;
