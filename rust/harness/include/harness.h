/* SPDX-License-Identifier: GPL-2.0 */
/* What shim/ offers to the drivers: threads, processes, system calls, users. */
#ifndef _HARNESS_H
#define _HARNESS_H

#include <linux/mm.h>
#include <linux/sched/mm.h>
#include <linux/vmstat.h>

/* Threads. They run freely, or one at a time as the bytes of sched_start() say. */
struct thread;
struct thread *thread_spawn(void (*fn)(void *arg), void *arg);
void thread_join(struct thread *thread);
void sched_start(const uint8_t *bytes, size_t len);
void sched_stop(void);
/* Others may run here; with give_way() they should. */
void sched_point(void);
void give_way(void);
/* At so many points from here the calling thread gives way; 0 for none. */
void preempt_after(unsigned int points);
bool was_preempted(void);
/* One time out of @n: the same in every run of a schedule. */
bool chance(unsigned int n);

/* Allocations. The @nth from now on fails, once; 0 for none. */
void fail_nth(unsigned int nth, bool once);
bool failed_nth(void);
bool should_failslab(void);
/* The calling thread looks at @mm, or at nothing; it has got no memory since. */
void observe(struct mm_struct *mm);
bool is_starved(void);

enum live {
	LIVE_MM,
	LIVE_VMA,
	LIVE_TABLE,
	LIVE_PAGE,
	LIVE_TASK,
	LIVE_MEMCG,
	NR_LIVE
};
int live(enum live what);
void live_add(enum live what, int nr);
/* Of another file of the shim; not counted. */
void *xzalloc(size_t size);

/* Counted since the machine was reset. */
long vm_events(enum vm_event_item event);
/* All processes are gone. */
void reset_machine(void);

/* Processes. A thread is in at most one, and has a CPU of its own there. */
/* What current is outside of a process. */
struct task_struct *kthread(void);
void current_is_kthread(void);
struct task_struct *current_process(void);
struct task_struct *first_process(void);
struct task_struct *copy_process(u64 clone_flags, bool fail_late);
void add_thread(struct task_struct *task);
void enter_process(struct task_struct *task);
void task_work_run(void);
void leave_process(void);
/* execve(), in two steps, between which others may do something. */
struct mm_struct *exec_mmap(void);
void exec_mm_put_old(struct mm_struct *old_mm);
/* Current is the init of a pid namespace: all others die with it. */
void become_child_reaper(void);
void kill_process(struct task_struct *task);
/* Of the @nth process, counted round: its mm with mm_count; kills it if asked. */
struct mm_struct *get_nth_mm(unsigned int nth, bool kill, bool oom);
bool is_killed(void);
/* Its sessions may fail from here on. */
void doom(struct mm_struct *mm);
void put_fate(struct fate *fate);
/* Of the memory cgroup that the calling thread charges; 0 for none. */
int charged_memcg(void);
/* Returns when no mm is about to be torn down by a worker. */
void flush_workers(void);

/* Instructions: 0, -EFAULT for a SIGSEGV or -EINTR for a SIGKILL. */
int user_write(unsigned long page, long value);
int user_read(unsigned long page);

/* System calls of current. */
int do_mmap(unsigned long start, unsigned long end, vm_flags_t flags);
int do_munmap(unsigned long start, unsigned long end, bool downgrade);
int do_mprotect(unsigned long start, unsigned long end, bool write);
int do_madvise_dontneed(unsigned long start, unsigned long end);
int do_mremap(unsigned long from, unsigned long to);
int move_boundary(unsigned long addr, unsigned long to);
int register_notifier(void);
int write_sysctl(int value);

/* Others who look at @mm or change it; the caller has mm_count. */
int remote_read(struct mm_struct *mm, unsigned long page);
int remote_write(struct mm_struct *mm, unsigned long page, long value,
		 unsigned int gup_flags);
int collapse(struct mm_struct *mm, unsigned long addr, bool settle);
int migrate_page(struct mm_struct *mm, unsigned long page);
/*
 * The calling thread's next walk for migration entries gives way before it begins,
 * or when it has been to the youngest address space, which it then visits first.
 */
#define WALK_BEGINS	1
#define WALK_HAS_BEGUN	2
void stop_walk(unsigned int stages);
/* By the calling thread, for the entries of the last page. */
unsigned int walks_for_entries(void);
/* The process has been killed. */
void oom_reap(struct mm_struct *mm);

struct pin {
	struct page *page;
	unsigned long nr;
	int zapped;
};

/* A device has @pin; it goes away with unpin(). */
int pin_user_page(unsigned long page, unsigned int gup_flags, bool fast,
		  struct pin *pin);
void device_write(struct pin *pin, long value);
void device_read(struct pin *pin);
void unpin_user_page(struct pin *pin);

bool is_protected(unsigned long page);

/* One CPU. shim/cpu.c */
struct cpu;
void cpu_attach(struct mm_struct *mm);
void cpu_detach(void);
bool cpu_access(unsigned long page, bool write, long value);
void stop_cpus(struct mm_struct *mm);
void resume_cpus(struct mm_struct *mm);

/* shim/memory.c, for the other files of the shim */
void reset_swap(void);
void check_rss(struct mm_struct *mm);
struct page *alloc_page(void);
void get_page(struct page *page);
void put_page(struct page *page);
/* Waits for GUP-fast, as the IPI of a flush does. */
void synchronize_gup_fast(void);
vm_fault_t handle_mm_fault(struct vm_area_struct *vma, unsigned long addr,
			   unsigned int flags);
int copy_page_range(struct vm_area_struct *dst_vma,
		    struct vm_area_struct *src_vma);
void zap_range(struct vm_area_struct *vma, unsigned long start,
	       unsigned long end);
void free_tables(struct mm_struct *mm, unsigned long start, unsigned long end,
		 bool all);
void change_ptes(struct vm_area_struct *vma, unsigned long start,
		 unsigned long end);
void move_table(struct vm_area_struct *vma, unsigned long from,
		struct vm_area_struct *new_vma, unsigned long to);

/* shim/migrate.c */
extern struct rw_semaphore rmap_lock;
void rmap_link(struct mm_struct *mm, bool forking);
void rmap_forked(struct mm_struct *mm);
void rmap_unlink(struct mm_struct *mm);
void synchronize_rmap(void);
/* @pte is one, and its table is locked. */
void check_migration_entry(pte_t pte);
void migration_entry_wait(void);

/* shim/mmap.c */
struct mm_struct *mm_alloc(void);
int dup_mmap(struct mm_struct *mm, struct mm_struct *oldmm);

#endif
