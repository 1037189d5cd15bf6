/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Customised: include/linux/pgtable.h and x86's asm/pgtable.h. An entry is a
 * pointer and its low bits; tables are read as the CPU reads them, atomically.
 */
#ifndef _LINUX_PGTABLE_H
#define _LINUX_PGTABLE_H

#include <linux/mm_types.h>

#define _PAGE_PRESENT	1UL
#define _PAGE_RW	2UL
/* Of what is not present: */
#define _PAGE_MIGRATION	4UL
#define _PAGE_EXCLUSIVE	8UL
#define _PAGE_FLAGS	15UL

static inline bool pmd_none(pmd_t pmd)
{
	return !pmd.pmd;
}

static inline bool pmd_present(pmd_t pmd)
{
	return pmd.pmd & _PAGE_PRESENT;
}

static inline bool pmd_leaf(pmd_t pmd)
{
	return false;
}

static inline bool pmd_table_write(pmd_t pmd)
{
	return pmd.pmd & _PAGE_RW;
}

static inline pgtable_t pmd_pgtable(pmd_t pmd)
{
	return (pgtable_t)(pmd.pmd & ~_PAGE_FLAGS);
}

static inline bool pmd_bad(pmd_t pmd)
{
	return !pmd_present(pmd);
}

static inline pmd_t pmdp_get(pmd_t *pmdp)
{
	return (pmd_t){ READ_ONCE(pmdp->pmd) };
}

static inline pmd_t pmdp_get_lockless(pmd_t *pmdp)
{
	return pmdp_get(pmdp);
}

/* Atomic and fully ordered, as a locked instruction of x86 is. */
static inline void pmdp_table_wrprotect(pmd_t *pmdp)
{
	__atomic_fetch_and(&pmdp->pmd, ~_PAGE_RW, __ATOMIC_SEQ_CST);
}

static inline void pmdp_table_mkwrite(pmd_t *pmdp)
{
	__atomic_fetch_or(&pmdp->pmd, _PAGE_RW, __ATOMIC_SEQ_CST);
}

static inline unsigned long pmd_index(unsigned long addr)
{
	return addr / PMD_SIZE % PTRS_PER_PMD;
}

static inline unsigned long pmd_addr_end(unsigned long addr, unsigned long end)
{
	unsigned long boundary = ALIGN_DOWN(addr + PMD_SIZE, PMD_SIZE);

	return min(boundary, end);
}

/* There is one of each. */
typedef struct { unsigned long pgd; } pgd_t;
typedef struct { unsigned long p4d; } p4d_t;

static inline pgd_t *pgd_offset(struct mm_struct *mm, unsigned long addr)
{
	static pgd_t pgd;

	return &pgd;
}

static inline bool pgd_none(pgd_t pgd)
{
	return false;
}

static inline unsigned long pgd_addr_end(unsigned long addr, unsigned long end)
{
	return end;
}

static inline p4d_t *p4d_offset(pgd_t *pgd, unsigned long addr)
{
	static p4d_t p4d;

	return &p4d;
}

static inline bool p4d_none(p4d_t p4d)
{
	return false;
}

static inline unsigned long p4d_addr_end(unsigned long addr, unsigned long end)
{
	return end;
}

static inline unsigned long pud_addr_end(unsigned long addr, unsigned long end)
{
	unsigned long boundary = ALIGN_DOWN(addr + PUD_SIZE, PUD_SIZE);

	return min(boundary, end);
}

void sched_point(void);

/* Asked before the feature is used, while it may be switched off. */
static inline bool arch_async_pgtable_supported(void)
{
	sched_point();
	return true;
}

static inline struct page *pte_page(pte_t pte)
{
	return (struct page *)(pte.pte & ~_PAGE_FLAGS);
}

static inline pte_t mk_pte(struct page *page, bool write)
{
	return (pte_t){ (unsigned long)page | _PAGE_PRESENT | (write ? _PAGE_RW : 0) };
}

static inline bool pte_none(pte_t pte)
{
	return !pte.pte;
}

static inline bool pte_present(pte_t pte)
{
	return pte.pte & _PAGE_PRESENT;
}

static inline bool pte_write(pte_t pte)
{
	return pte.pte & _PAGE_RW;
}

/* Writable, readable and exclusive, or readable. */
static inline pte_t mk_migration_pte(struct page *page, bool write, bool exclusive)
{
	return (pte_t){ (unsigned long)page | _PAGE_MIGRATION |
			(write ? _PAGE_RW : 0) |
			(exclusive ? _PAGE_EXCLUSIVE : 0) };
}

static inline bool pte_migration(pte_t pte)
{
	return pte.pte & _PAGE_MIGRATION;
}

static inline bool pte_migration_exclusive(pte_t pte)
{
	return pte.pte & _PAGE_EXCLUSIVE;
}

static inline pte_t ptep_get(pte_t *ptep)
{
	return (pte_t){ READ_ONCE(ptep->pte) };
}

/* Stores of x86 are releases. */
static inline void set_pte(pte_t *ptep, pte_t pte)
{
	__atomic_store_n(&ptep->pte, pte.pte, __ATOMIC_RELEASE);
}

#endif
