/* SPDX-License-Identifier: GPL-2.0 */
/* Customised: include/linux/mm.h and userfaultfd_k.h; behind it is shim/. */
#ifndef _LINUX_MM_H
#define _LINUX_MM_H

#include <linux/pgtable.h>
#include <linux/pgalloc.h>
#include <linux/async_pgtable.h>

#define CLONE_ASYNC_PGTABLE	(1ULL << 38)

/* The bits of the kernel do not matter. */
#define VM_WRITE	(1ULL << 0)
#define VM_SHARED	(1ULL << 1)
#define VM_MAYSHARE	(1ULL << 2)
#define VM_GROWSDOWN	(1ULL << 3)
#define VM_PFNMAP	(1ULL << 4)
#define VM_MIXEDMAP	(1ULL << 5)
#define VM_HUGETLB	(1ULL << 6)
#define VM_IO		(1ULL << 7)
#define VM_DONTCOPY	(1ULL << 8)
#define VM_WIPEONFORK	(1ULL << 9)
#define VM_SHADOW_STACK	(1ULL << 10)
#define VM_LOCKED	(1ULL << 11)
#define VM_SPECIAL	(VM_IO | VM_PFNMAP | VM_MIXEDMAP)

#define VM_FAULT_OOM	1
#define VM_FAULT_SIGBUS	2
#define VM_FAULT_SIGSEGV 4
#define VM_FAULT_RETRY	8

#define FAULT_FLAG_WRITE	1
#define FAULT_FLAG_RETRY_NOWAIT	2
#define FAULT_FLAG_UNSHARE	4

#define FOLL_WRITE	1
#define FOLL_PIN	2
#define FOLL_NOFAULT	4

static inline bool vma_is_anonymous(struct vm_area_struct *vma)
{
	return true;
}

static inline bool vma_is_sealed(struct vm_area_struct *vma)
{
	return false;
}

static inline bool userfaultfd_armed(struct vm_area_struct *vma)
{
	return vma->uffd;
}

static inline struct ptdesc *page_ptdesc(pgtable_t table)
{
	return table;
}

static inline bool ptdesc_test_pinned(struct ptdesc *ptdesc)
{
	return __atomic_load_n(&ptdesc->pinned, __ATOMIC_RELAXED);
}

static inline void ptdesc_set_pinned(struct ptdesc *ptdesc)
{
	__atomic_store_n(&ptdesc->pinned, 1, __ATOMIC_SEQ_CST);
}

static inline void ptdesc_clear_pinned(struct ptdesc *ptdesc)
{
	__atomic_store_n(&ptdesc->pinned, 0, __ATOMIC_SEQ_CST);
}

static inline spinlock_t *pmd_lock(struct mm_struct *mm, pmd_t *pmd)
{
	spin_lock(&mm->pmds->ptl);
	return &mm->pmds->ptl;
}

static inline void add_mm_counter(struct mm_struct *mm, int member, long value)
{
	__atomic_fetch_add(&mm->rss_stat[member].counter, value, __ATOMIC_RELAXED);
}

static inline long get_mm_counter_sum(struct mm_struct *mm, int member)
{
	return atomic_long_read(&mm->rss_stat[member]);
}

static inline unsigned long get_mm_rss(struct mm_struct *mm)
{
	return get_mm_counter_sum(mm, MM_ANONPAGES);
}

struct folio *vma_alloc_folio(gfp_t gfp, int order, struct vm_area_struct *vma,
			      unsigned long addr);
struct folio *folio_alloc(gfp_t gfp, int order);
void folio_put(struct folio *folio);

/* Mappings of an mm, or those that munmap() has detached: a list. */
struct ma_state {
	struct vm_area_struct *first;
};

static inline void mas_set(struct ma_state *mas, unsigned long index)
{
}

#define mas_for_each(mas, vma, max) \
	for (vma = (mas)->first; vma; vma = vma->vm_next)

struct vma_iterator {
	struct mm_struct *mm;
	unsigned long addr;
	struct ma_state mas;
};

#define VMA_ITERATOR(name, mm_, addr_) \
	struct vma_iterator name = { .mm = mm_, .addr = addr_, \
				     .mas = { .first = (mm_)->mmap } }
#define for_each_vma(vmi, vma) \
	for (vma = find_vma((vmi).mm, (vmi).addr); vma; vma = vma->vm_next)
#define for_each_vma_range(vmi, vma, end) \
	for (vma = find_vma((vmi).mm, (vmi).addr); vma && vma->vm_start < (end); \
	     vma = vma->vm_next)

static inline void vma_iter_init(struct vma_iterator *vmi, struct mm_struct *mm,
				 unsigned long addr)
{
	vmi->mm = mm;
	vmi->addr = addr;
}

static inline void vma_iter_set(struct vma_iterator *vmi, unsigned long addr)
{
	vmi->addr = addr;
}

struct zap_details {
	bool reclaim_pt;
};

struct vm_area_struct *vma_lookup(struct mm_struct *mm, unsigned long addr);
struct vm_area_struct *find_vma(struct mm_struct *mm, unsigned long addr);

static inline struct vm_area_struct *
find_vma_intersection(struct mm_struct *mm, unsigned long start, unsigned long end)
{
	struct vm_area_struct *vma = find_vma(mm, start);

	return vma && vma->vm_start < end ? vma : NULL;
}

#endif
