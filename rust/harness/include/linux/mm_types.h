/* SPDX-License-Identifier: GPL-2.0 */
/* Duplicated: include/linux/mm_types.h, what the software machine has of it. */
#ifndef _LINUX_MM_TYPES_H
#define _LINUX_MM_TYPES_H

#include <linux/list.h>
#include <linux/lock.h>

#define PAGE_SHIFT	12
#define PAGE_SIZE	(1UL << PAGE_SHIFT)
#define PTRS_PER_PTE	4
#define PMD_SHIFT	(PAGE_SHIFT + 2)
#define PMD_SIZE	(1UL << PMD_SHIFT)
#define PMD_MASK	(~(PMD_SIZE - 1))
#define PTRS_PER_PMD	6
#define PUD_SIZE	(2 * PMD_SIZE)	/* what an exit settles and zaps at a time */
#define NR_PAGES	(PTRS_PER_PMD * PTRS_PER_PTE)
#define TASK_SIZE	(NR_PAGES * PAGE_SIZE)

typedef struct { unsigned long pte; } pte_t;
typedef struct { unsigned long pmd; } pmd_t;
typedef u64 vm_flags_t;
typedef unsigned int vm_fault_t;

struct callback_head {
	struct callback_head *next;
	void (*func)(struct callback_head *work);
};

/* As the series adds it. */
struct async_pgtable_mm {
	void *tracker;
	void *session;
	void *builder;
	unsigned long owed[2];
	bool oom_victim;
	struct task_struct *task;
	struct callback_head work;
};

/* A page of user memory. */
struct page {
	int refcount;
	int pincount;
	int exclusive;		/* PageAnonExclusive() */
	int memcg;		/* whose page it is */
	long content;		/* plain: TSan sees who writes to what is shared */
};

struct folio {
	struct page page;
};

/* A folio is a page, all memory is one block. */
#define MAX_PAGE_ORDER	47

static inline unsigned long page_to_pfn(const struct page *page)
{
	return (unsigned long)page / sizeof(*page);
}

static inline unsigned long folio_pfn(const struct folio *folio)
{
	return page_to_pfn(&folio->page);
}

static inline unsigned long folio_nr_pages(const struct folio *folio)
{
	return 1;
}

/* A page table. */
struct ptdesc {
	spinlock_t ptl;
	int pinned;
	int memcg;
	pte_t pte[PTRS_PER_PTE];
};

typedef struct ptdesc *pgtable_t;

/* The page above page tables, with the lock of its entries. Goes with exit_mmap(). */
struct pmd_page {
	spinlock_t ptl;
	pmd_t pmd[PTRS_PER_PMD];
};

struct vm_area_struct;

/* There are no files. */
struct vm_operations_struct {
	void (*close)(struct vm_area_struct *vma);
};

struct vm_area_struct {
	unsigned long vm_start;
	unsigned long vm_end;
	struct mm_struct *vm_mm;
	vm_flags_t vm_flags;
	void *anon_vma;
	const struct vm_operations_struct *vm_ops;	/* NULL */
	bool uffd;
	struct vm_area_struct *vm_next;
	struct rw_semaphore vm_lock;
	int vm_refcnt;		/* unused: those who wait sleep in vm_lock */
	bool write_locked;	/* until mmap_lock is released */
	bool attached;
};

enum { MM_ANONPAGES, MM_SWAPENTS, NR_MM_COUNTERS };

/* What may excuse that the sessions of a parent fail; outlives it. */
struct fate {
	int refcount;
	int doomed;
};

struct mm_struct {
	struct {
		int mm_count;
		atomic_t mm_users;
		unsigned long flags;
		unsigned int write_protect_seq;
		struct rw_semaphore mmap_lock;
		struct {
			unsigned int sequence;
		} mm_lock_seq;
		struct pmd_page *pmds;
		struct vm_area_struct *mmap;
		int notifiers;
		atomic_long_t rss_stat[NR_MM_COUNTERS];
		unsigned long hiwater_rss;
		struct async_pgtable_mm async_pgtable;
	};
	/* Of the harness: */
	struct cpu *cpus;		/* on which it runs */
	pthread_mutex_t cpus_lock;
	int forking;			/* what it has is being copied */
	int id;
	int payer;			/* memory cgroup of who forked it */
	struct fate *fate;
	struct fate *parents_fate;
	int failed;			/* a session of which it is the child */
	int killed_itself;		/* because of that */
	int zapped[NR_PAGES];		/* how often, under the page table lock */
	long shadow[NR_PAGES];		/* what its user expects to read */
	bool forked[NR_PAGES];		/* shadow is set: a page that was pinned */
};

#define MMF_HAS_PINNED		0
#define MMF_UNSTABLE		1
#define MMF_ASYNC_PGTABLE	2
#define MMF_PINS_UNKNOWN	3

static inline bool mm_flags_test(int flag, struct mm_struct *mm)
{
	return __atomic_load_n(&mm->flags, __ATOMIC_RELAXED) & 1UL << flag;
}

static inline void mm_flags_set(int flag, struct mm_struct *mm)
{
	__atomic_fetch_or(&mm->flags, 1UL << flag, __ATOMIC_SEQ_CST);
}

static inline void mm_flags_clear(int flag, struct mm_struct *mm)
{
	__atomic_fetch_and(&mm->flags, ~(1UL << flag), __ATOMIC_SEQ_CST);
}

#endif
