/* SPDX-License-Identifier: GPL-2.0 */
/* Customised: include/linux/mmap_lock.h; the VMA lock is a rw_semaphore. */
#ifndef _LINUX_MMAP_LOCK_H
#define _LINUX_MMAP_LOCK_H

#include <linux/mm_types.h>

static inline void mmap_read_lock(struct mm_struct *mm)
{
	down_read(&mm->mmap_lock);
}

static inline void mmap_read_unlock(struct mm_struct *mm)
{
	up_read(&mm->mmap_lock);
}

static inline void mmap_write_lock(struct mm_struct *mm)
{
	down_write(&mm->mmap_lock);
	mm->mm_lock_seq.sequence++;
}

static inline unsigned int __vma_raw_mm_seqnum(struct vm_area_struct *vma)
{
	return vma->vm_mm->mm_lock_seq.sequence;
}

static inline int refcount_read(const int *refcount)
{
	return READ_ONCE(*refcount);
}

static inline void mmap_assert_write_locked(struct mm_struct *mm)
{
	BUG_ON(!rwsem_is_held_write(&mm->mmap_lock));
}

void mmap_write_unlock(struct mm_struct *mm);
void mmap_write_downgrade(struct mm_struct *mm);

struct vm_area_struct *lock_vma_under_rcu(struct mm_struct *mm,
					  unsigned long addr);
void vma_end_read(struct vm_area_struct *vma);
static inline bool vma_is_attached(struct vm_area_struct *vma)
{
	return vma->attached;
}

static inline bool __is_vma_write_locked(struct vm_area_struct *vma)
{
	return vma->write_locked;
}

void vma_start_write(struct vm_area_struct *vma);
int __must_check vma_start_write_killable(struct vm_area_struct *vma);

static inline void vma_assert_stabilised(struct vm_area_struct *vma)
{
	BUG_ON(!rwsem_is_held(&vma->vm_lock) &&
	       !rwsem_is_held(&vma->vm_mm->mmap_lock));
}

#endif
