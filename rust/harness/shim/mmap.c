// SPDX-License-Identifier: GPL-2.0
/*
 * Customised: mm/mmap.c, vma.c, mmap_lock.c, mprotect.c, mremap.c, madvise.c.
 * Mappings are a sorted list. It changes under the mmap_lock, and under rcu for
 * those who look without it.
 */
#include <harness.h>
#include <linux/mmap_lock.h>
#include <linux/pgalloc.h>
#include <linux/sched/signal.h>
#include <asm/tlb.h>

#include "async_pgtable.h"
#include "internal.h"

/* Of which the calling thread has got mm_users. */
static __thread struct mm_struct *got;

/*
 * Locks
 */

struct vm_area_struct *vma_lookup(struct mm_struct *mm, unsigned long addr)
{
	struct vm_area_struct *vma;

	for (vma = mm->mmap; vma; vma = vma->vm_next)
		if (vma->vm_start <= addr && addr < vma->vm_end)
			return vma;
	return NULL;
}

/* The first one that ends after @addr. */
struct vm_area_struct *find_vma(struct mm_struct *mm, unsigned long addr)
{
	struct vm_area_struct *vma, *found = NULL;

	for (vma = mm->mmap; vma; vma = vma->vm_next)
		if (addr < vma->vm_end &&
		    (!found || vma->vm_end < found->vm_end))
			found = vma;
	return found;
}

struct vm_area_struct *lock_vma_under_rcu(struct mm_struct *mm,
					  unsigned long addr)
{
	struct vm_area_struct *vma;

	BUG_ON(!mm->pmds && "mappings are looked at after exit_mmap()");
	/* They need none: see __async_pgtable_exit(). */
	BUG_ON(holds_spinlock() && mm == got && "a puller holds mm_users");
	rcu_read_lock();
	vma = vma_lookup(mm, addr);
	if (vma && !down_read_trylock(&vma->vm_lock))
		vma = NULL;
	rcu_read_unlock();
	return vma;
}

void vma_end_read(struct vm_area_struct *vma)
{
	up_read(&vma->vm_lock);
}

static int __vma_start_write(struct vm_area_struct *vma, bool killable)
{
	int err;

	mmap_assert_write_locked(vma->vm_mm);
	if (vma->write_locked)
		return 0;
	err = async_pgtable_vma_write(vma, killable);
	if (err)
		return err;
	async_pgtable_vma_lock(vma);
	down_write(&vma->vm_lock);
	vma->write_locked = true;
	return 0;
}

void vma_start_write(struct vm_area_struct *vma)
{
	BUG_ON(__vma_start_write(vma, false));
}

int vma_start_write_killable(struct vm_area_struct *vma)
{
	return __vma_start_write(vma, true);
}

/* Nobody finds @vma any more; who has found it is waited for. */
static void vma_mark_detached(struct vm_area_struct *vma)
{
	if (vma->write_locked)
		return;
	down_write(&vma->vm_lock);
	up_write(&vma->vm_lock);
}

static void vma_end_write(struct vm_area_struct *vma)
{
	if (!vma->write_locked)
		return;
	vma->write_locked = false;
	up_write(&vma->vm_lock);
}

static void vma_end_write_all(struct mm_struct *mm)
{
	for (struct vm_area_struct *vma = mm->mmap; vma; vma = vma->vm_next)
		vma_end_write(vma);
}

void mmap_write_unlock(struct mm_struct *mm)
{
	vma_end_write_all(mm);
	up_write(&mm->mmap_lock);
}

void mmap_write_downgrade(struct mm_struct *mm)
{
	vma_end_write_all(mm);
	downgrade_write(&mm->mmap_lock);
}

/*
 * The list
 */

static struct vm_area_struct *vm_area_alloc(struct mm_struct *mm,
					    unsigned long start,
					    unsigned long end, vm_flags_t flags)
{
	struct vm_area_struct *vma;

	if (should_failslab())
		return NULL;
	vma = xzalloc(sizeof(*vma));
	vma->vm_mm = mm;
	vma->vm_start = start;
	vma->vm_end = end;
	vma->vm_flags = flags;
	vma->anon_vma = mm;	/* all of them are written to */
	init_rwsem(&vma->vm_lock);
	live_add(LIVE_VMA, 1);
	return vma;
}

static void vm_area_free(struct vm_area_struct *vma)
{
	destroy_rwsem(&vma->vm_lock);
	free(vma);
	live_add(LIVE_VMA, -1);
}

static void vma_link(struct vm_area_struct *vma)
{
	struct vm_area_struct **p = &vma->vm_mm->mmap;

	while (*p && (*p)->vm_start < vma->vm_start)
		p = &(*p)->vm_next;
	vma->vm_next = *p;
	*p = vma;
	vma->attached = true;
}

static void vma_unlink(struct vm_area_struct *vma)
{
	struct vm_area_struct **p = &vma->vm_mm->mmap;

	while (*p != vma)
		p = &(*p)->vm_next;
	*p = vma->vm_next;
	vma->attached = false;
}

/* As __split_vma(). @vma keeps what is below @addr. */
static int split_vma(struct vm_area_struct *vma, unsigned long addr)
{
	struct vm_area_struct *new;

	if (addr <= vma->vm_start || addr >= vma->vm_end)
		return 0;
	new = vm_area_alloc(vma->vm_mm, addr, vma->vm_end, vma->vm_flags);
	if (!new)
		return -ENOMEM;
	new->uffd = vma->uffd;
	vma_start_write(vma);
	vma_start_write(new);
	async_pgtable_cut(vma, addr, ASYNC_PGTABLE_HOOK_SPLIT);

	down_write(&rcu);
	vma->vm_end = addr;
	vma_link(new);
	up_write(&rcu);
	return 0;
}

static int split_at(struct mm_struct *mm, unsigned long addr)
{
	struct vm_area_struct *vma = vma_lookup(mm, addr);

	return vma ? split_vma(vma, addr) : 0;
}

/*
 * System calls
 */

int do_mmap(unsigned long start, unsigned long end, vm_flags_t flags)
{
	struct mm_struct *mm = current->mm;
	struct vm_area_struct *vma;
	int ret = -EEXIST;

	mmap_write_lock(mm);
	for (unsigned long addr = start; addr < end; addr += PAGE_SIZE)
		if (vma_lookup(mm, addr))
			goto out;
	ret = -ENOMEM;
	vma = vm_area_alloc(mm, start, end, flags);
	if (!vma)
		goto out;
	down_write(&rcu);
	vma_link(vma);
	up_write(&rcu);
	ret = 0;
out:
	mmap_write_unlock(mm);
	return ret;
}

int do_munmap(unsigned long start, unsigned long end, bool downgrade)
{
	struct mm_struct *mm = current->mm;
	struct vm_area_struct *vma, *next, *detached = NULL;
	struct ma_state mas;
	int ret;

	mmap_write_lock(mm);
	ret = split_at(mm, start) ?: split_at(mm, end);
	if (ret) {
		mmap_write_unlock(mm);
		return ret;
	}
	for (vma = mm->mmap; vma; vma = next) {
		next = vma->vm_next;
		if (vma->vm_start < start || vma->vm_end > end)
			continue;
		vma_start_write(vma);
		down_write(&rcu);
		vma_unlink(vma);
		up_write(&rcu);
		vma_end_write(vma);
		vma->vm_next = detached;
		detached = vma;
	}
	if (downgrade)
		mmap_write_downgrade(mm);

	mas.first = detached;
	async_pgtable_unmap(mm, &mas);
	for (vma = detached; vma; vma = vma->vm_next)
		zap_range(vma, vma->vm_start, vma->vm_end);
	free_tables(mm, start, end, false);
	for (vma = detached; vma; vma = next) {
		next = vma->vm_next;
		vm_area_free(vma);
	}
	if (downgrade)
		mmap_read_unlock(mm);
	else
		mmap_write_unlock(mm);
	return 0;
}

int do_mprotect(unsigned long start, unsigned long end, bool write)
{
	struct mm_struct *mm = current->mm;
	struct vm_area_struct *vma;
	int ret;

	mmap_write_lock(mm);
	ret = split_at(mm, start) ?: split_at(mm, end);
	for (vma = mm->mmap; vma && !ret; vma = vma->vm_next) {
		if (vma->vm_start < start || vma->vm_end > end)
			continue;
		ret = async_pgtable_push_killable(vma, vma->vm_start,
						  vma->vm_end,
						  ASYNC_PGTABLE_HOOK_MPROTECT);
		if (ret)
			break;
		vma_start_write(vma);
		vma->vm_flags = (vma->vm_flags & ~VM_WRITE) | (write ? VM_WRITE : 0);
		change_ptes(vma, vma->vm_start, vma->vm_end);
	}
	mmap_write_unlock(mm);
	return ret;
}

static int dontneed(struct vm_area_struct *vma, unsigned long start,
		    unsigned long end)
{
	struct mmu_gather tlb;
	int err;

	if (start < vma->vm_start)
		start = vma->vm_start;
	if (end > vma->vm_end)
		end = vma->vm_end;
	if (start >= end)
		return 0;
	tlb_gather_mmu(&tlb, vma->vm_mm);
	err = async_pgtable_discard(vma, start, end,
				    ASYNC_PGTABLE_HOOK_DISCARD, &tlb);
	tlb_finish_mmu(&tlb);
	/* It may be all done. */
	if (err)
		return min(err, 0);
	zap_range(vma, start, end);
	return 0;
}

/* Under the lock of the VMA, if one covers all of it. */
int do_madvise_dontneed(unsigned long start, unsigned long end)
{
	struct mm_struct *mm = current->mm;
	struct vm_area_struct *vma = lock_vma_under_rcu(mm, start);
	int ret = 0;

	if (vma && end <= vma->vm_end) {
		ret = dontneed(vma, start, end);
		vma_end_read(vma);
		return ret;
	}
	if (vma)
		vma_end_read(vma);
	mmap_read_lock(mm);
	for (vma = mm->mmap; vma && !ret; vma = vma->vm_next)
		ret = dontneed(vma, start, end);
	mmap_read_unlock(mm);
	return ret;
}

/* Moves the 2 MiB at @from to @to, where nothing is mapped. */
int do_mremap(unsigned long from, unsigned long to)
{
	struct mm_struct *mm = current->mm;
	struct vm_area_struct *vma, *new;
	pgtable_t table;
	int ret = -EINVAL;

	mmap_write_lock(mm);
	for (unsigned long i = 0; i < PMD_SIZE; i += PAGE_SIZE)
		if (vma_lookup(mm, to + i))
			goto unlock;
	vma = vma_lookup(mm, from);
	if (!vma || vma->vm_end < from + PMD_SIZE || vma->uffd)
		goto unlock;
	ret = split_at(mm, from) ?: split_at(mm, from + PMD_SIZE);
	if (ret)
		goto unlock;
	vma = vma_lookup(mm, from);
	ret = async_pgtable_push_killable(vma, from, from + PMD_SIZE,
					  ASYNC_PGTABLE_HOOK_MREMAP);
	if (ret)
		goto unlock;
	ret = -ENOMEM;
	table = __pte_alloc_one(mm, 0);
	if (!table)
		goto unlock;
	new = vm_area_alloc(mm, to, to + PMD_SIZE, vma->vm_flags);
	if (!new) {
		pte_free(mm, table);
		goto unlock;
	}

	vma_start_write(vma);
	down_write(&new->vm_lock);
	new->write_locked = true;
	down_write(&rcu);
	vma_link(new);
	up_write(&rcu);
	pmd_install(mm, mm_find_pmd(mm, to), &table);
	BUG_ON(table);
	move_table(vma, from, new, to);

	down_write(&rcu);
	vma_unlink(vma);
	up_write(&rcu);
	vma_end_write(vma);
	free_tables(mm, from, from + PMD_SIZE, false);
	vm_area_free(vma);
	ret = 0;
unlock:
	mmap_write_unlock(mm);
	return ret;
}

/* The boundary at @addr moves to @to: what commit_merge() does to two of three. */
int move_boundary(unsigned long addr, unsigned long to)
{
	struct mm_struct *mm = current->mm;
	struct vm_area_struct *below, *above;
	int ret = -EINVAL;

	mmap_write_lock(mm);
	below = vma_lookup(mm, addr - 1);
	above = vma_lookup(mm, addr);
	if (!below || !above || below == above || to == addr ||
	    below->vm_flags != above->vm_flags || below->uffd != above->uffd ||
	    to <= below->vm_start || to >= above->vm_end)
		goto unlock;
	vma_start_write(below);
	vma_start_write(above);
	async_pgtable_cut(to < addr ? below : above, to,
			  ASYNC_PGTABLE_HOOK_MERGE);
	down_write(&rcu);
	below->vm_end = to;
	above->vm_start = to;
	up_write(&rcu);
	ret = 0;
unlock:
	mmap_write_unlock(mm);
	return ret;
}

static bool async_pgtable_busy_anywhere(struct mm_struct *mm)
{
	for (struct vm_area_struct *vma = mm->mmap; vma; vma = vma->vm_next)
		if (async_pgtable_busy(vma, vma->vm_start, vma->vm_end,
				       ASYNC_PGTABLE_HOOK_NOTIFIER))
			return true;
	return false;
}

int register_notifier(void)
{
	struct mm_struct *mm = current->mm;
	int ret;

	mmap_write_lock(mm);
	ret = async_pgtable_drain(mm, ASYNC_PGTABLE_HOOK_NOTIFIER);
	if (!ret) {
		BUG_ON(async_pgtable_busy_anywhere(mm) &&
		       "oracle: a notifier, and something is pending");
		WRITE_ONCE(mm->notifiers, 1);
	}
	mmap_write_unlock(mm);
	return ret;
}

/*
 * The life of an mm
 */

static int nr_mms;

struct mm_struct *mm_alloc(void)
{
	struct mm_struct *mm;

	if (should_failslab())
		return NULL;
	mm = xzalloc(sizeof(*mm));
	mm->mm_count = mm->mm_users.counter = 1;
	mm->id = __atomic_fetch_add(&nr_mms, 1, __ATOMIC_RELAXED);
	mm->fate = xzalloc(sizeof(*mm->fate));
	mm->fate->refcount = 1;
	mm->pmds = xzalloc(sizeof(*mm->pmds));
	mutex_init(&mm->pmds->ptl);
	init_rwsem(&mm->mmap_lock);
	pthread_mutex_init(&mm->cpus_lock, NULL);
	async_pgtable_mm_init(mm);
	live_add(LIVE_MM, 1);
	return mm;
}

static int dup_vma(struct mm_struct *mm, struct vm_area_struct *src_vma)
{
	struct vm_area_struct *vma;
	int err;

	if (fatal_signal_pending(current))
		return -EINTR;
	err = vma_start_write_killable(src_vma);
	if (err)
		return err;
	if (src_vma->vm_flags & VM_DONTCOPY)
		return 0;
	vma = vm_area_alloc(mm, src_vma->vm_start, src_vma->vm_end,
			    src_vma->vm_flags);
	if (!vma)
		return -ENOMEM;
	vma_link(vma);
	return src_vma->vm_flags & VM_WIPEONFORK ? 0 : copy_page_range(vma, src_vma);
}

/* What the user of the child expects: what is true now. */
static void dup_shadow(struct mm_struct *mm, struct mm_struct *oldmm)
{
	struct vm_area_struct *vma;

	for (vma = mm->mmap; vma; vma = vma->vm_next) {
		if (vma->vm_flags & VM_WIPEONFORK)
			continue;
		for (unsigned long addr = vma->vm_start; addr < vma->vm_end;
		     addr += PAGE_SIZE) {
			const unsigned long nr = addr >> PAGE_SHIFT;

			if (!mm->forked[nr])
				mm->shadow[nr] = oldmm->shadow[nr];
		}
	}
}

static bool inherits_all(struct mm_struct *mm)
{
	for (struct vm_area_struct *vma = mm->mmap; vma; vma = vma->vm_next)
		if (vma->vm_flags & (VM_DONTCOPY | VM_WIPEONFORK))
			return false;
	return true;
}

int dup_mmap(struct mm_struct *mm, struct mm_struct *oldmm)
{
	struct vm_area_struct *vma;
	bool flushed;
	int ret = 0;

	/* As mmap_write_lock_killable() */
	if (fatal_signal_pending(current)) {
		async_pgtable_dup_end(mm, oldmm, false);
		return -EINTR;
	}
	mmap_write_lock(oldmm);
	mmap_write_lock(mm);
	rmap_link(mm, true);
	for (vma = oldmm->mmap; vma && !ret; vma = vma->vm_next)
		ret = dup_vma(mm, vma);
	rmap_forked(mm);
	flushed = async_pgtable_dup_end(mm, oldmm, !ret);
	/* What is not copied yet counts already; what is not inherited need not. */
	BUG_ON(mm->async_pgtable.session &&
	       (inherits_all(oldmm) ? get_mm_rss(mm) != get_mm_rss(oldmm) :
				      get_mm_rss(mm) > get_mm_rss(oldmm)) &&
	       "oracle: RSS of a child");
	mmap_write_unlock(mm);
	if (!flushed)
		flush_tlb_mm(oldmm);
	if (!ret)
		dup_shadow(mm, oldmm);
	mmap_write_unlock(oldmm);
	return ret;
}

static void exit_mmap(struct mm_struct *mm)
{
	struct vm_area_struct *vma;

	BUG_ON(mm->cpus);
	check_rss(mm);
	mmap_read_lock(mm);
	for (vma = mm->mmap; vma; vma = vma->vm_next)
		zap_range(vma, vma->vm_start, vma->vm_end);
	mmap_read_unlock(mm);
	mmap_write_lock(mm);
	rmap_unlink(mm);
	/* The tables go first, and do not wait for those who have a VMA locked. */
	free_tables(mm, 0, TASK_SIZE, true);
	mutex_destroy(&mm->pmds->ptl);
	free(mm->pmds);
	mm->pmds = NULL;
	while ((vma = mm->mmap)) {
		down_write(&rcu);
		vma_unlink(vma);
		up_write(&rcu);
		vma_mark_detached(vma);
		vm_area_free(vma);
	}
	mmap_write_unlock(mm);
}

void mmgrab(struct mm_struct *mm)
{
	BUG_ON(__atomic_fetch_add(&mm->mm_count, 1, __ATOMIC_RELAXED) <= 0);
}

void mmdrop(struct mm_struct *mm)
{
	int count = __atomic_sub_fetch(&mm->mm_count, 1, __ATOMIC_ACQ_REL);

	BUG_ON(count < 0);
	if (count)
		return;
	async_pgtable_mm_free(mm);
	BUG_ON(mm->pmds || mm->mmap || mm->async_pgtable.session ||
	       mm->async_pgtable.builder);
	/* As check_mm() */
	BUG_ON(get_mm_rss(mm) && "oracle: RSS is left");
	BUG_ON(mm->killed_itself && !mm->failed &&
	       !__atomic_load_n(&mm->parents_fate->doomed, __ATOMIC_ACQUIRE) &&
	       "oracle: a child is killed, but its session has not failed");
	put_fate(mm->fate);
	put_fate(mm->parents_fate);
	destroy_rwsem(&mm->mmap_lock);
	pthread_mutex_destroy(&mm->cpus_lock);
	free(mm);
	live_add(LIVE_MM, -1);
}

bool mmget_not_zero(struct mm_struct *mm)
{
	int users = READ_ONCE(mm->mm_users.counter);

	do {
		if (!users)
			return false;
	} while (!__atomic_compare_exchange_n(&mm->mm_users.counter, &users, users + 1,
					      false, __ATOMIC_ACQ_REL,
					      __ATOMIC_RELAXED));
	got = mm;
	return true;
}

static void __mmput(struct mm_struct *mm)
{
	async_pgtable_exit(mm);
	exit_mmap(mm);
	async_pgtable_release(mm);
	mmdrop(mm);
}

static bool put_user(struct mm_struct *mm)
{
	int users = __atomic_sub_fetch(&mm->mm_users.counter, 1, __ATOMIC_ACQ_REL);

	BUG_ON(users < 0);
	got = NULL;
	return !users;
}

/* Workers: a thread for each. There may be an mm for every step of a program. */
#define MAX_WORKERS	256

static struct thread *workers[MAX_WORKERS];
static unsigned int nr_workers;

static void mmput_worker(void *mm)
{
	current = kthread();
	__mmput(mm);
}

static void queue_mmput(struct mm_struct *mm)
{
	unsigned int nr;

	nr = __atomic_fetch_add(&nr_workers, 1, __ATOMIC_RELAXED);
	BUG_ON(nr >= MAX_WORKERS);
	workers[nr] = thread_spawn(mmput_worker, mm);
}

/*
 * An OOM victim gives its children up, and a session that a child ends at the
 * same time is among its sessions until that child is done.
 */
static void left_alone(struct mm_struct *mm)
{
	void *tracker = READ_ONCE(mm->async_pgtable.tracker);

	BUG_ON(!failed_nth() && tracker && !mm->async_pgtable.oom_victim &&
	       async_pgtable_tracker_overlaps(tracker, 0, ULONG_MAX) &&
	       "oracle: children are left to who only looks");
}

void mmput_async(struct mm_struct *mm)
{
	if (!put_user(mm))
		return;
	left_alone(mm);
	queue_mmput(mm);
}

void mmput(struct mm_struct *mm)
{
	might_sleep();
	if (!put_user(mm))
		return;
	left_alone(mm);
	__mmput(mm);
}

/* For a task that leaves @mm. */
void mmput_own(struct mm_struct *mm)
{
	int one = 1;

	might_sleep();
	if (async_pgtable_is_source(mm)) {
		if (__atomic_compare_exchange_n(&mm->mm_users.counter, &one, 0, false,
						__ATOMIC_ACQ_REL, __ATOMIC_RELAXED)) {
			got = NULL;
			__mmput(mm);
			return;
		}
		async_pgtable_leave(mm);
	}
	mmput(mm);
}

void flush_workers(void)
{
	for (unsigned int i = 0; i < nr_workers; i++)
		thread_join(workers[i]);
	nr_workers = 0;
}
