// SPDX-License-Identifier: GPL-2.0
/*
 * Customised: mm/memory.c, gup.c, khugepaged.c. Page tables and what changes
 * them, in the order and under the locks of the kernel, with its hooks.
 */
#include <harness.h>
#include <linux/memcontrol.h>
#include <linux/mmap_lock.h>
#include <linux/pgalloc.h>
#include <linux/sched/signal.h>
#include <asm/tlb.h>

#include "async_pgtable.h"
#include "internal.h"
#include "swap.h"

/*
 * Pages and page tables
 */

struct folio *folio_alloc(gfp_t gfp, int order)
{
	struct folio *folio;

	might_sleep();
	if (should_failslab())
		return NULL;
	folio = xzalloc(sizeof(*folio));
	folio->page.refcount = 1;
	folio->page.exclusive = 1;
	live_add(LIVE_PAGE, 1);
	return folio;
}

/* The policy is that of @vma, which is locked. */
struct folio *vma_alloc_folio(gfp_t gfp, int order, struct vm_area_struct *vma,
			      unsigned long addr)
{
	vma_assert_stabilised(vma);
	BUG_ON(addr < vma->vm_start || addr >= vma->vm_end);
	return folio_alloc(gfp, order);
}

int mem_cgroup_charge(struct folio *folio, struct mm_struct *mm, gfp_t gfp)
{
	might_sleep();
	if (should_failslab())
		return -ENOMEM;
	BUG_ON(mm && "to whom is it charged?");
	folio->page.memcg = charged_memcg();
	return 0;
}

void folio_throttle_swaprate(struct folio *folio, gfp_t gfp)
{
	might_sleep();
}

void folio_put(struct folio *folio)
{
	put_page(&folio->page);
}

/* For who takes a fault: an allocation and its charge in one. */
struct page *alloc_page(void)
{
	struct folio *folio = folio_alloc(GFP_HIGHUSER_MOVABLE, 0);

	if (!folio)
		return NULL;
	folio->page.memcg = charged_memcg();
	return &folio->page;
}

void get_page(struct page *page)
{
	BUG_ON(__atomic_fetch_add(&page->refcount, 1, __ATOMIC_RELAXED) <= 0);
}

static bool try_get_page(struct page *page)
{
	int count = READ_ONCE(page->refcount);

	do {
		if (!count)
			return false;
	} while (!__atomic_compare_exchange_n(&page->refcount, &count, count + 1,
					      false, __ATOMIC_ACQ_REL,
					      __ATOMIC_ACQUIRE));
	return true;
}

void put_page(struct page *page)
{
	int count = __atomic_sub_fetch(&page->refcount, 1, __ATOMIC_ACQ_REL);

	BUG_ON(count < 0);
	if (count)
		return;
	BUG_ON(page->pincount);
	free(container_of(page, struct folio, page));
	live_add(LIVE_PAGE, -1);
}

/* Like PageAnonExclusive() and page_count() == 1 of do_wp_page(). */
static bool page_is_ours(struct page *page)
{
	return __atomic_load_n(&page->exclusive, __ATOMIC_ACQUIRE) ||
	       __atomic_load_n(&page->refcount, __ATOMIC_ACQUIRE) == 1;
}

pgtable_t __pte_alloc_one(struct mm_struct *mm, gfp_t gfp)
{
	pgtable_t table;

	might_sleep();
	if (should_failslab())
		return NULL;
	table = xzalloc(sizeof(*table));
	mutex_init(&table->ptl);
	table->memcg = charged_memcg();
	live_add(LIVE_TABLE, 1);
	return table;
}

void pte_free(struct mm_struct *mm, pgtable_t table)
{
	mutex_destroy(&table->ptl);
	for (int i = 0; i < PTRS_PER_PTE; i++)
		BUG_ON(!pte_none(table->pte[i]) && "a table is freed in use");
	free(table);
	live_add(LIVE_TABLE, -1);
}

pmd_t *mm_find_pmd(struct mm_struct *mm, unsigned long addr)
{
	BUG_ON(!mm->pmds && "page tables are looked at after exit_mmap()");
	return &mm->pmds->pmd[addr >> PMD_SHIFT];
}

/* There are no huge pages above. */
pmd_t *async_pgtable_find_pmd(struct mm_struct *mm, unsigned long addr)
{
	return mm_find_pmd(mm, addr);
}

void pmd_install(struct mm_struct *mm, pmd_t *pmd, pgtable_t *table)
{
	spinlock_t *ptl = pmd_lock(mm, pmd);

	if (pmd_none(*pmd)) {
		/* Release: the table is empty for all who see it. */
		__atomic_store_n(&pmd->pmd, (unsigned long)*table |
				 _PAGE_PRESENT | _PAGE_RW, __ATOMIC_RELEASE);
		*table = NULL;
	}
	spin_unlock(ptl);
}

/* The entry for @addr with its table locked; the mapping is locked. */
static pte_t *pte_lock(struct mm_struct *mm, unsigned long addr, pgtable_t *table)
{
	pmd_t pmd = pmdp_get_lockless(mm_find_pmd(mm, addr));

	if (!pmd_present(pmd))
		return NULL;
	*table = pmd_pgtable(pmd);
	spin_lock(&(*table)->ptl);
	return &(*table)->pte[(addr >> PAGE_SHIFT) % PTRS_PER_PTE];
}

void synchronize_gup_fast(void)
{
	down_write(&rcu);
	up_write(&rcu);
}

/*
 * fork
 */

/*
 * One entry; both tables are locked. -EAGAIN: needs *@prealloc, for a pinned
 * page.
 */
static int copy_one_pte(struct vm_area_struct *dst_vma,
			struct vm_area_struct *src_vma, pte_t *dst_pte,
			pte_t *src_pte, unsigned long addr, bool deferred,
			struct folio **prealloc, int *rss)
{
	struct mm_struct *dst_mm = dst_vma->vm_mm;
	struct mm_struct *src_mm = src_vma->vm_mm;
	pte_t pte = ptep_get(src_pte);
	struct page *page = pte_page(pte);
	const unsigned long nr = addr >> PAGE_SHIFT;

	BUG_ON(!pte_none(ptep_get(dst_pte)) && "copied twice");
	if (pte_none(pte))
		return 0;
	if (pte_migration(pte)) {
		check_migration_entry(pte);
		pte = mk_migration_pte(page, false, false);
		set_pte(src_pte, pte);
		sched_point();
		set_pte(dst_pte, pte);
		++*rss;
		return 0;
	}

	if (mm_flags_test(MMF_HAS_PINNED, src_mm) && READ_ONCE(page->pincount)) {
		if (!*prealloc)
			return -EAGAIN;
		/* A thread may go on writing to it: what the child expects is this. */
		stop_cpus(src_mm);
		(*prealloc)->page.content = page->content;
		resume_cpus(src_mm);
		if (!deferred) {
			dst_mm->shadow[nr] = (*prealloc)->page.content;
			dst_mm->forked[nr] = true;
		}
		BUG_ON((*prealloc)->page.memcg != dst_mm->payer &&
		       "oracle: a page is charged to somebody else");
		set_pte(dst_pte, mk_pte(&(*prealloc)->page, src_vma->vm_flags & VM_WRITE));
		*prealloc = NULL;
		++*rss;
		return 0;
	}

	get_page(page);
	__atomic_store_n(&page->exclusive, 0, __ATOMIC_RELEASE);
	set_pte(src_pte, mk_pte(page, false));
	sched_point();
	set_pte(dst_pte, mk_pte(page, false));
	++*rss;
	return 0;
}

/*
 * There is no swap. Instead the third page of every other range is said to be
 * such an entry whose count has no room, once for each child.
 */
#define MAX_SWAP	64

static bool swap_room[MAX_SWAP];

static swp_entry_t swap_entry(struct mm_struct *mm, unsigned long addr)
{
	return (swp_entry_t){ (mm->id * PTRS_PER_PMD + (addr >> PMD_SHIFT)) % MAX_SWAP };
}

static bool lacks_swap_room(struct mm_struct *mm, unsigned long addr)
{
	return (addr >> PMD_SHIFT) % 2 && (addr >> PAGE_SHIFT) % PTRS_PER_PTE == 2 &&
	       !__atomic_load_n(&swap_room[swap_entry(mm, addr).val], __ATOMIC_RELAXED);
}

int swap_retry_table_alloc(swp_entry_t entry, gfp_t gfp)
{
	BUG_ON(!(gfp & (__GFP_RETRY_MAYFAIL | __GFP_NORETRY)));
	might_sleep();
	if (should_failslab())
		return -ENOMEM;
	__atomic_store_n(&swap_room[entry.val], true, __ATOMIC_RELAXED);
	return 0;
}

void reset_swap(void)
{
	memset(swap_room, 0, sizeof(swap_room));
}

/**
 * copy_pte_range_deferred - as in mm/memory.c, entry by entry
 *
 * Others may look at the parent's entries meanwhile, but not change this one. Who
 * removes migration entries looks at the child's too.
 */
static void note_copied_migrations(pgtable_t table, unsigned long addr,
				    unsigned long end)
{
	for (; addr != end; addr += PAGE_SIZE) {
		pte_t pte = ptep_get(&table->pte[(addr >> PAGE_SHIFT) % PTRS_PER_PTE]);

		if (pte_migration(pte))
			async_pgtable_migration_copied(page_to_pfn(pte_page(pte)));
	}
}

int copy_pte_range_deferred(struct vm_area_struct *dst_vma,
			    struct vm_area_struct *src_vma, pmd_t *dst_pmd,
			    pmd_t *src_pmd, unsigned long end, bool resume,
			    bool brief, struct async_pgtable_supplies *supplies)
{
	const pmd_t src_pmdval = pmdp_get_lockless(src_pmd);
	const unsigned long start = supplies->addr;
	struct mm_struct *dst_mm = dst_vma->vm_mm;
	struct mm_struct *src_mm = src_vma->vm_mm;
	pgtable_t dst = pmd_pgtable(pmdp_get_lockless(dst_pmd));
	pgtable_t src = pmd_pgtable(src_pmdval);
	unsigned long addr = start;
	bool migrations = false;
	int ret = 0, rss = 0;

	vma_assert_stabilised(src_vma);
	BUG_ON(!holds_spinlock() && "a copy without a claim");
	BUG_ON(!pmd_present(src_pmdval) && "a pending range has lost its table");
	BUG_ON(pmd_table_write(src_pmdval) && "a pending range is not protected");
	BUG_ON(start >= end || (start & PMD_MASK) != ((end - 1) & PMD_MASK));
	BUG_ON(dst->memcg != dst_mm->payer &&
	       "oracle: a page table is charged to somebody else");

	spin_lock(&dst->ptl);
	spin_lock(&src->ptl);
	do {
		const int i = (addr >> PAGE_SHIFT) % PTRS_PER_PTE;

		if (brief && need_resched() && addr != start) {
			ret = -EINTR;
			break;
		}
		const pte_t pte = ptep_get(&src->pte[i]);

		if (resume && !pte_none(ptep_get(&dst->pte[i])))
			continue;
		if (pte_none(pte))
			continue;
		if (chance(32)) {
			ret = -EBUSY;
			break;
		}
		if (lacks_swap_room(dst_mm, addr)) {
			supplies->swap = swap_entry(dst_mm, addr);
			ret = -EIO;
			break;
		}
		ret = copy_one_pte(dst_vma, src_vma, &dst->pte[i], &src->pte[i],
				   addr, true, &supplies->folio, &rss);
		if (ret)
			break;
		migrations |= pte_migration(pte);
	} while (addr += PAGE_SIZE, addr != end);

	if (mm_flags_test(MMF_UNSTABLE, src_mm))
		ret = -EFAULT;
	BUG_ON(async_pgtable_poisoning());
	BUG_ON(pmdp_get_lockless(src_pmd).pmd != src_pmdval.pmd &&
	       "a claimed range has changed");

	if (migrations)
		note_copied_migrations(dst, start, addr);
	spin_unlock(&src->ptl);
	add_mm_counter(dst_mm, MM_ANONPAGES, rss);
	spin_unlock(&dst->ptl);
	supplies->addr = addr;
	return ret;
}

static int __copy_pte_range(struct vm_area_struct *dst_vma,
			    struct vm_area_struct *src_vma, pgtable_t dst,
			    pgtable_t src, unsigned long addr,
			    unsigned long end)
{
	const bool whole_table = end - addr == PMD_SIZE;
	struct folio *prealloc = NULL;
	bool pinned = false;
	int ret, rss = 0;

again:
	ret = 0;
	spin_lock(&dst->ptl);
	spin_lock(&src->ptl);
	for (; addr < end; addr += PAGE_SIZE) {
		const int i = (addr >> PAGE_SHIFT) % PTRS_PER_PTE;

		ret = copy_one_pte(dst_vma, src_vma, &dst->pte[i], &src->pte[i],
				   addr, false, &prealloc, &rss);
		if (ret)
			break;
	}
	spin_unlock(&src->ptl);
	spin_unlock(&dst->ptl);
	cond_resched();

	if (ret == -EAGAIN) {
		pinned = true;
		prealloc = vma_alloc_folio(GFP_HIGHUSER_MOVABLE, 0, src_vma, addr);
		if (prealloc && !mem_cgroup_charge(prealloc, NULL, GFP_KERNEL))
			goto again;
		ret = -ENOMEM;
	}
	if (prealloc)
		folio_put(prealloc);
	add_mm_counter(dst_vma->vm_mm, MM_ANONPAGES, rss);
	if (!ret && !pinned && whole_table)
		async_pgtable_forget_pins(src_vma->vm_mm, src);
	return ret;
}

static int copy_pte_range(struct vm_area_struct *dst_vma,
			  struct vm_area_struct *src_vma, pmd_t *dst_pmd,
			  pmd_t *src_pmd, unsigned long addr, unsigned long end)
{
	struct mm_struct *dst_mm = dst_vma->vm_mm;

	if (pmd_none(pmdp_get_lockless(dst_pmd))) {
		pgtable_t table = __pte_alloc_one(dst_mm, 0);

		if (!table)
			return -ENOMEM;
		pmd_install(dst_mm, dst_pmd, &table);
	}
	return __copy_pte_range(dst_vma, src_vma, pmd_pgtable(*dst_pmd),
				pmd_pgtable(pmdp_get_lockless(src_pmd)), addr,
				end);
}

int copy_page_range(struct vm_area_struct *dst_vma,
		    struct vm_area_struct *src_vma)
{
	struct mm_struct *dst_mm = dst_vma->vm_mm, *src_mm = src_vma->vm_mm;
	unsigned long addr, next, deferred;
	int ret = 0;

	/* As raw_write_seqcount_begin(), and the barrier that x86 has anyway. */
	__atomic_fetch_add(&src_mm->write_protect_seq, 1, __ATOMIC_SEQ_CST);
	async_pgtable_dup_vma(dst_vma, src_vma);
	for (addr = src_vma->vm_start; addr < src_vma->vm_end && !ret; addr = next) {
		pmd_t *src_pmd = mm_find_pmd(src_mm, addr);

		next = pmd_addr_end(addr, src_vma->vm_end);
		if (pmd_none(pmdp_get_lockless(src_pmd)))
			continue;
		deferred = async_pgtable_defer(dst_vma, src_vma, src_pmd, addr,
					       src_vma->vm_end);
		if (deferred) {
			next = addr + deferred * PMD_SIZE;
			continue;
		}
		ret = copy_pte_range(dst_vma, src_vma, mm_find_pmd(dst_mm, addr),
				     src_pmd, addr, next);
	}
	__atomic_fetch_add(&src_mm->write_protect_seq, 1, __ATOMIC_SEQ_CST);
	return ret;
}

/*
 * Faults
 */

/* A page of its own for the entry, whose table is locked. */
static void break_cow(struct vm_area_struct *vma, pte_t *pte, struct page *old,
		      struct page *new, bool write)
{
	new->content = old->content;
	set_pte(pte, (pte_t){ 0 });
	flush_tlb_mm(vma->vm_mm);
	set_pte(pte, mk_pte(new, write));
}

static bool is_hole(struct mm_struct *mm, unsigned long addr)
{
	pgtable_t table;
	bool none = pte_none(ptep_get(pte_lock(mm, addr, &table)));

	spin_unlock(&table->ptl);
	return none;
}

vm_fault_t handle_mm_fault(struct vm_area_struct *vma, unsigned long addr,
			   unsigned int flags)
{
	const bool write = flags & FAULT_FLAG_WRITE;
	struct mm_struct *mm = vma->vm_mm;
	struct page *page, *old = NULL;
	pgtable_t table;
	vm_fault_t ret;
	pmd_t *pmd;
	pte_t *ptep, pte;

	if (write && !(vma->vm_flags & VM_WRITE))
		return VM_FAULT_SIGSEGV;
	pmd = mm_find_pmd(mm, addr);
	ret = async_pgtable_fault(vma, addr, flags, pmd);
	if (ret)
		return ret;

	if (pmd_none(pmdp_get_lockless(pmd))) {
		table = __pte_alloc_one(mm, 0);
		if (!table)
			return VM_FAULT_OOM;
		pmd_install(mm, pmd, &table);
		if (table)
			pte_free(mm, table);
	}
	/* As do_anonymous_page() */
	if (!write && is_hole(mm, addr)) {
		ret = async_pgtable_fill(vma, addr, pmd);
		if (ret)
			return ret;
	}
	page = alloc_page();
	if (!page)
		return VM_FAULT_OOM;

	ptep = pte_lock(mm, addr, &table);
	pte = ptep_get(ptep);
	if (pte_migration(pte)) {
		check_migration_entry(pte);
		spin_unlock(&table->ptl);
		put_page(page);
		migration_entry_wait();
		return 0;
	}
	if (!pte_present(pte)) {
		set_pte(ptep, mk_pte(page, vma->vm_flags & VM_WRITE));
		add_mm_counter(mm, MM_ANONPAGES, 1);
		page = NULL;
	} else if (write && !pte_write(pte)) {
		old = pte_page(pte);
		if (page_is_ours(old)) {
			__atomic_store_n(&old->exclusive, 1, __ATOMIC_RELEASE);
			set_pte(ptep, mk_pte(old, true));
			old = NULL;
		} else {
			break_cow(vma, ptep, old, page, true);
			page = NULL;
		}
	} else if ((flags & FAULT_FLAG_UNSHARE) &&
		   !__atomic_load_n(&pte_page(pte)->exclusive, __ATOMIC_ACQUIRE)) {
		old = pte_page(pte);
		break_cow(vma, ptep, old, page, false);
		page = NULL;
	}
	spin_unlock(&table->ptl);
	if (page)
		put_page(page);
	if (old) {
		synchronize_gup_fast();
		put_page(old);
	}
	return 0;
}

/* A fault of current, under the lock of the VMA if that is free. */
static vm_fault_t do_user_addr_fault(unsigned long addr, unsigned int flags)
{
	struct mm_struct *mm = current->mm;
	struct vm_area_struct *vma = lock_vma_under_rcu(mm, addr);
	vm_fault_t ret;

	if (vma) {
		ret = handle_mm_fault(vma, addr, flags);
		vma_end_read(vma);
		return ret;
	}
	mmap_read_lock(mm);
	vma = vma_lookup(mm, addr);
	ret = vma ? handle_mm_fault(vma, addr, flags) : VM_FAULT_SIGSEGV;
	mmap_read_unlock(mm);
	return ret;
}

static int user_access(unsigned long page, bool write, long value)
{
	while (!cpu_access(page, write, value)) {
		vm_fault_t ret;

		if (fatal_signal_pending(current))
			return -EINTR;
		ret = do_user_addr_fault(page << PAGE_SHIFT,
					 write ? FAULT_FLAG_WRITE : 0);
		if (ret & VM_FAULT_SIGSEGV)
			return -EFAULT;
		if (ret & VM_FAULT_SIGBUS) {
			BUG_ON(!fatal_signal_pending(current) &&
			       "oracle: SIGBUS, but not killed");
			return -EINTR;
		}
		sched_point();
	}
	return 0;
}

int user_write(unsigned long page, long value)
{
	return user_access(page, true, value);
}

int user_read(unsigned long page)
{
	return user_access(page, false, 0);
}

/*
 * Changes of mappings
 */

/* Empties [@start, @end); what the user expects there is zero. */
void zap_range(struct vm_area_struct *vma, unsigned long start,
	       unsigned long end)
{
	struct mm_struct *mm = vma->vm_mm;
	pgtable_t table;

	for (unsigned long addr = start; addr < end; addr += PAGE_SIZE) {
		const unsigned long nr = addr >> PAGE_SHIFT;
		pte_t *ptep = pte_lock(mm, addr, &table);
		pte_t pte;

		if (!ptep)
			continue;
		pte = ptep_get(ptep);
		if (pte_migration(pte))
			check_migration_entry(pte);
		if (!pte_none(pte)) {
			set_pte(ptep, (pte_t){ 0 });
			add_mm_counter(mm, MM_ANONPAGES, -1);
		}
		__atomic_fetch_add(&mm->zapped[nr], 1, __ATOMIC_RELEASE);
		flush_tlb_mm(mm);
		mm->shadow[nr] = 0;
		spin_unlock(&table->ptl);
		if (pte_present(pte)) {
			synchronize_gup_fast();
			put_page(pte_page(pte));
		}
	}
}

/* When an mm goes away, of what has been settled. Empty tables stay. */
void zap_vma_range_batched(struct mmu_gather *tlb, struct vm_area_struct *vma,
			   unsigned long addr, unsigned long size,
			   struct zap_details *details)
{
	BUG_ON(tlb->mm != vma->vm_mm);
	BUG_ON(addr < vma->vm_start || addr + size > vma->vm_end);
	BUG_ON(async_pgtable_busy(vma, addr, addr + size,
				  ASYNC_PGTABLE_HOOK_EXIT) &&
	       "oracle: what a child needs is zapped");
	zap_range(vma, addr, addr + size);
}

/* Of all pages that are mapped, none is counted twice or not at all. */
void check_rss(struct mm_struct *mm)
{
	long nr = 0;

	for (int i = 0; i < PTRS_PER_PMD; i++) {
		pmd_t pmd = pmdp_get_lockless(&mm->pmds->pmd[i]);

		for (int j = 0; j < PTRS_PER_PTE && pmd_present(pmd); j++)
			nr += !pte_none(ptep_get(&pmd_pgtable(pmd)->pte[j]));
	}
	BUG_ON(get_mm_counter_sum(mm, MM_ANONPAGES) != nr &&
	       "oracle: RSS is not what it should be");
	BUG_ON(get_mm_counter_sum(mm, MM_SWAPENTS));
}

static void set_pmd_none(struct mm_struct *mm, pmd_t *pmd)
{
	__atomic_store_n(&pmd->pmd, 0, __ATOMIC_RELEASE);
	flush_tlb_mm(mm);
	synchronize_gup_fast();
}

/*
 * The tables of [@start, @end) that no mapping needs any more, or @all. As in the
 * kernel without the lock of their entries: nobody has a reason to look at them.
 */
void free_tables(struct mm_struct *mm, unsigned long start, unsigned long end,
		 bool all)
{
	for (unsigned long addr = start & PMD_MASK; addr < end; addr += PMD_SIZE) {
		pmd_t *pmd = mm_find_pmd(mm, addr), old = pmdp_get_lockless(pmd);
		struct vm_area_struct *vma;
		bool used = false;

		for (vma = mm->mmap; vma && !all; vma = vma->vm_next)
			used |= vma->vm_start < addr + PMD_SIZE && vma->vm_end > addr;
		if (used || pmd_none(old))
			continue;
		set_pmd_none(mm, pmd);
		synchronize_rmap();
		pte_free(mm, pmd_pgtable(old));
	}
}

/* mprotect(): what the flags do not permit any more. */
void change_ptes(struct vm_area_struct *vma, unsigned long start,
		 unsigned long end)
{
	struct mm_struct *mm = vma->vm_mm;
	pgtable_t table;

	for (unsigned long addr = start; addr < end; addr += PAGE_SIZE) {
		pte_t *pte = pte_lock(mm, addr, &table);

		if (!pte)
			continue;
		if (pte_write(ptep_get(pte)) && !(vma->vm_flags & VM_WRITE))
			set_pte(pte, (pte_t){ ptep_get(pte).pte & ~_PAGE_RW });
		spin_unlock(&table->ptl);
	}
	flush_tlb_mm(mm);
}

/* mremap(): one whole table, to where there is an empty one. */
void move_table(struct vm_area_struct *vma, unsigned long from,
		struct vm_area_struct *new_vma, unsigned long to)
{
	struct mm_struct *mm = vma->vm_mm;
	pgtable_t old_table, new_table;

	down_write(&rmap_lock);
	for (unsigned long i = 0; i < PMD_SIZE; i += PAGE_SIZE) {
		const unsigned long old = (from + i) >> PAGE_SHIFT;
		const unsigned long new = (to + i) >> PAGE_SHIFT;
		pte_t *old_pte = pte_lock(mm, from + i, &old_table);
		pte_t *new_pte;

		if (!old_pte)
			break;
		new_pte = pte_lock(mm, to + i, &new_table);
		async_pgtable_note_move(mm, new_table);
		set_pte(new_pte, ptep_get(old_pte));
		set_pte(old_pte, (pte_t){ 0 });
		__atomic_fetch_add(&mm->zapped[old], 1, __ATOMIC_RELEASE);
		__atomic_fetch_add(&mm->zapped[new], 1, __ATOMIC_RELEASE);
		flush_tlb_mm(mm);
		mm->shadow[new] = mm->shadow[old];
		mm->shadow[old] = 0;
		spin_unlock(&new_table->ptl);
		spin_unlock(&old_table->ptl);
	}
	up_write(&rmap_lock);
}

/* khugepaged and MADV_COLLAPSE, as far as they replace a page table. */
int collapse(struct mm_struct *mm, unsigned long addr, bool settle)
{
	const unsigned long end = addr + PMD_SIZE;
	struct vm_area_struct *vma;
	pgtable_t old, new;
	int ret = -EAGAIN;
	spinlock_t *ptl;
	pmd_t *pmd;

	if (!mmget_not_zero(mm))
		return -EFAULT;
	if (settle) {
		int err = 0;

		mmap_read_lock(mm);
		vma = vma_lookup(mm, addr);
		if (vma && vma->vm_start <= addr && vma->vm_end >= end) {
			err = async_pgtable_pull(vma, vma->vm_start, vma->vm_end,
						 ASYNC_PGTABLE_HOOK_COLLAPSE);
			if (!err)
				err = async_pgtable_push_killable(vma, addr, end,
						ASYNC_PGTABLE_HOOK_COLLAPSE);
		}
		mmap_read_unlock(mm);
		if (err) {
			mmput(mm);
			return err;
		}
	}
	new = __pte_alloc_one(mm, 0);
	if (!new)
		goto out;
	mmap_write_lock(mm);
	vma = vma_lookup(mm, addr);
	pmd = mm_find_pmd(mm, addr);
	if (!vma || vma->vm_start > addr || vma->vm_end < end ||
	    pmd_none(pmdp_get_lockless(pmd)) ||
	    async_pgtable_busy(vma, addr, end, ASYNC_PGTABLE_HOOK_KHUGEPAGED))
		goto unlock;
	vma_start_write(vma);
	down_write(&rmap_lock);
	ptl = pmd_lock(mm, pmd);
	old = pmd_pgtable(pmdp_get_lockless(pmd));
	__atomic_store_n(&pmd->pmd, 0, __ATOMIC_RELEASE);
	flush_tlb_mm(mm);
	spin_unlock(ptl);
	synchronize_gup_fast();
	spin_lock(&old->ptl);
	for (int i = 0; i < PTRS_PER_PTE; i++) {
		set_pte(&new->pte[i], ptep_get(&old->pte[i]));
		set_pte(&old->pte[i], (pte_t){ 0 });
	}
	spin_unlock(&old->ptl);
	if (ptdesc_test_pinned(old))
		ptdesc_set_pinned(new);
	pte_free(mm, old);
	pmd_install(mm, pmd, &new);
	up_write(&rmap_lock);
	BUG_ON(new);
	ret = 0;
unlock:
	mmap_write_unlock(mm);
	if (new)
		pte_free(mm, new);
out:
	mmput(mm);
	return ret;
}

void oom_reap(struct mm_struct *mm)
{
	struct vm_area_struct *vma;

	if (!mmget_not_zero(mm))
		return;
	doom(mm);
	mmap_read_lock(mm);
	mm_flags_set(MMF_UNSTABLE, mm);
	async_pgtable_abort(mm);
	for (vma = mm->mmap; vma; vma = vma->vm_next)
		zap_range(vma, vma->vm_start, vma->vm_end);
	mmap_read_unlock(mm);
	mmput_async(mm);
}

/*
 * GUP
 */

/*
 * The page at @addr, with its table locked, after faults if need be. As
 * follow_page_pte(), this looks at the PTE, not at the entry above it.
 */
static int follow_page(struct vm_area_struct *vma, unsigned long addr,
		       unsigned int flags, pgtable_t *table, struct page **page)
{
	for (;;) {
		unsigned int fault = flags & FOLL_WRITE ? FAULT_FLAG_WRITE : 0;
		vm_fault_t ret;
		pte_t *ptep, pte;
		int err;

		if (current && fatal_signal_pending(current))
			return -EINTR;
		err = async_pgtable_gup(vma, addr, flags);
		if (err)
			return err;

		ptep = pte_lock(vma->vm_mm, addr, table);
		if (ptep) {
			pte = ptep_get(ptep);
			*page = pte_page(pte);
			if (pte_present(pte) && (flags & FOLL_PIN) &&
			    !(flags & FOLL_WRITE) &&
			    !__atomic_load_n(&(*page)->exclusive, __ATOMIC_ACQUIRE))
				fault = FAULT_FLAG_UNSHARE;
			else if (pte_present(pte) &&
				 (pte_write(pte) || !(flags & FOLL_WRITE)))
				return 0;
			spin_unlock(&(*table)->ptl);
		}
		if (flags & FOLL_NOFAULT)
			return -EFAULT;
		ret = handle_mm_fault(vma, addr, fault);
		if (ret & VM_FAULT_OOM)
			return -ENOMEM;
		if (ret & (VM_FAULT_SIGBUS | VM_FAULT_SIGSEGV))
			return -EFAULT;
		sched_point();
	}
}

/* ptrace and /proc/PID/mem: completes the page first, if @mm is a child. */
int remote_read(struct mm_struct *mm, unsigned long page)
{
	const unsigned long addr = page << PAGE_SHIFT;
	struct vm_area_struct *vma;
	int ret = -EFAULT;
	pgtable_t table;
	pte_t *ptep;

	if (!mmget_not_zero(mm))
		return -EFAULT;
	observe(mm);
	mmap_read_lock(mm);
	vma = vma_lookup(mm, addr);
	if (vma)
		ret = async_pgtable_pull(vma, addr, addr + PAGE_SIZE,
					 ASYNC_PGTABLE_HOOK_FOLIO_WALK);
	BUG_ON(ret && ret != -EFAULT && ret != -EINTR &&
	       !(ret == -ENOMEM && is_starved() && current->mm != mm));
	if (!ret) {
		while ((ptep = pte_lock(mm, addr, &table)) &&
		       pte_migration(ptep_get(ptep))) {
			check_migration_entry(ptep_get(ptep));
			spin_unlock(&table->ptl);
			migration_entry_wait();
		}
		stop_cpus(mm);
		if (mm_flags_test(MMF_UNSTABLE, mm))
			ret = -EFAULT;
		else if (!ptep || !pte_present(ptep_get(ptep)))
			BUG_ON(mm->shadow[page] && "oracle: a page is missing");
		else
			BUG_ON(pte_page(ptep_get(ptep))->content != mm->shadow[page] &&
			       "oracle: a debugger sees something else");
		resume_cpus(mm);
		if (ptep)
			spin_unlock(&table->ptl);
	}
	observe(NULL);
	mmap_read_unlock(mm);
	mmput(mm);
	return ret;
}

int remote_write(struct mm_struct *mm, unsigned long page, long value,
		 unsigned int gup_flags)
{
	const unsigned long addr = page << PAGE_SHIFT;
	struct vm_area_struct *vma;
	int ret = -EFAULT;
	pgtable_t table;
	struct page *p;

	if (!mmget_not_zero(mm))
		return -EFAULT;
	observe(mm);
	mmap_read_lock(mm);
	vma = vma_lookup(mm, addr);
	if (vma)
		ret = follow_page(vma, addr, gup_flags | FOLL_WRITE, &table, &p);
	if (!ret) {
		stop_cpus(mm);
		p->content = mm->shadow[page] = value;
		resume_cpus(mm);
		spin_unlock(&table->ptl);
	}
	observe(NULL);
	mmap_read_unlock(mm);
	mmput(mm);
	return ret;
}

static void unpin(struct page *page)
{
	__atomic_fetch_sub(&page->pincount, 1, __ATOMIC_RELEASE);
	put_page(page);
}

static struct page *gup_fast(struct mm_struct *mm, unsigned long nr,
			     unsigned int flags)
{
	pmd_t *pmdp = &mm->pmds->pmd[nr / PTRS_PER_PTE], pmd;
	struct page *page = NULL;
	unsigned int seq;
	pte_t *ptep, pte;

	rcu_read_lock();
	seq = __atomic_load_n(&mm->write_protect_seq, __ATOMIC_ACQUIRE);
	pmd = pmdp_get_lockless(pmdp);
	if ((seq & 1) || !pmd_present(pmd) ||
	    async_pgtable_gup_fast_bail(pmd, flags & (FOLL_WRITE | FOLL_PIN)))
		goto out;
	if (flags & FOLL_PIN)
		async_pgtable_note_pin(pmd_pgtable(pmd));
	sched_point();
	ptep = &pmd_pgtable(pmd)->pte[nr % PTRS_PER_PTE];
	pte = ptep_get(ptep);
	if (!pte_present(pte) || ((flags & FOLL_WRITE) && !pte_write(pte)))
		goto out;
	page = pte_page(pte);
	if (!try_get_page(page)) {
		page = NULL;
		goto out;
	}
	__atomic_fetch_add(&page->pincount, 1, __ATOMIC_SEQ_CST);
	sched_point();
	if (pmdp_get_lockless(pmdp).pmd != pmd.pmd || ptep_get(ptep).pte != pte.pte ||
	    !__atomic_load_n(&page->exclusive, __ATOMIC_ACQUIRE) ||
	    __atomic_load_n(&mm->write_protect_seq, __ATOMIC_SEQ_CST) != seq) {
		unpin(page);
		page = NULL;
	}
out:
	rcu_read_unlock();
	return page;
}

int pin_user_page(unsigned long nr, unsigned int gup_flags, bool fast,
		  struct pin *pin)
{
	const unsigned long addr = nr << PAGE_SHIFT;
	struct mm_struct *mm = current->mm;
	struct vm_area_struct *vma;
	pgtable_t table;
	int ret = -EFAULT;

	mm_flags_set(MMF_HAS_PINNED, mm);
	if (async_pgtable_pins_unknown())
		mm_flags_set(MMF_PINS_UNKNOWN, mm);
	pin->nr = nr;
	pin->zapped = READ_ONCE(mm->zapped[nr]);
	pin->page = fast ? gup_fast(mm, nr, gup_flags) : NULL;
	if (pin->page)
		return 0;

	mmap_read_lock(mm);
	vma = vma_lookup(mm, addr);
	if (vma)
		ret = follow_page(vma, addr, gup_flags, &table, &pin->page);
	if (!ret) {
		async_pgtable_note_pin(table);
		get_page(pin->page);
		__atomic_fetch_add(&pin->page->pincount, 1, __ATOMIC_SEQ_CST);
		pin->zapped = READ_ONCE(mm->zapped[nr]);
		spin_unlock(&table->ptl);
	}
	mmap_read_unlock(mm);
	return ret;
}

/*
 * A device accesses what it has pinned: the page that the process has there,
 * unless that has been unmapped since.
 */
static void device_access(struct pin *pin, bool write, long value)
{
	const unsigned long addr = pin->nr << PAGE_SHIFT;
	struct mm_struct *mm = current->mm;
	pgtable_t table;
	pte_t *ptep;

	mmap_read_lock(mm);
	ptep = vma_lookup(mm, addr) ? pte_lock(mm, addr, &table) : NULL;
	if (ptep && !is_killed() && READ_ONCE(mm->zapped[pin->nr]) == pin->zapped) {
		BUG_ON(pte_page(ptep_get(ptep)) != pin->page &&
		       "oracle: a pinned page was replaced");
		stop_cpus(mm);
		BUG_ON(pin->page->content != mm->shadow[pin->nr] &&
		       "oracle: a device sees something else");
		if (write)
			pin->page->content = mm->shadow[pin->nr] = value;
		resume_cpus(mm);
	}
	if (ptep)
		spin_unlock(&table->ptl);
	mmap_read_unlock(mm);
}

void device_write(struct pin *pin, long value)
{
	device_access(pin, true, value);
}

void device_read(struct pin *pin)
{
	device_access(pin, false, 0);
}

void unpin_user_page(struct pin *pin)
{
	unpin(pin->page);
}

bool is_protected(unsigned long page)
{
	pmd_t pmd = pmdp_get_lockless(&current->mm->pmds->pmd[page / PTRS_PER_PTE]);

	return pmd_present(pmd) && !pmd_table_write(pmd);
}
