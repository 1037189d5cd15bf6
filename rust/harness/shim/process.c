// SPDX-License-Identifier: GPL-2.0
/*
 * Customised: kernel/fork.c, exit.c, pid_namespace.c, signal.c, task_work.c,
 * sysctl.c, fs/exec.c, mm/vmstat.c, memcontrol.c, ksm.c, lib/fault-inject.c.
 */
#include <harness.h>
#include <linux/delay.h>
#include <linux/ksm.h>
#include <linux/memcontrol.h>
#include <linux/mmap_lock.h>
#include <linux/sched/signal.h>
#include <linux/sysctl.h>
#include <linux/task_work.h>
#include <linux/timekeeping.h>
#include <linux/tracepoint.h>

#include "async_pgtable.h"

__thread struct task_struct *current;
struct task_struct *processes;
struct rw_semaphore rcu = {
	.os = PTHREAD_RWLOCK_INITIALIZER,
	.writers = { .os = PTHREAD_MUTEX_INITIALIZER },
};

static struct task_struct kthread_task = { .flags = PF_KTHREAD };

struct task_struct *kthread(void)
{
	return &kthread_task;
}

void current_is_kthread(void)
{
	current = kthread();
}

struct task_struct *current_process(void)
{
	return current;
}

/*
 * Counters
 */

static long events[NR_VM_EVENT_ITEMS];
static int live_objects[NR_LIVE];

void count_vm_events(enum vm_event_item event, long nr)
{
	__atomic_fetch_add(&events[event], nr, __ATOMIC_RELAXED);
}

/* What mm/async_pgtable_stats.c counts, nobody reads here. */
void async_pgtable_stats_alloc(struct mm_struct *mm)
{
}

void async_pgtable_stats_free(struct mm_struct *mm)
{
}

void async_pgtable_stats_fork(struct mm_struct *mm)
{
}

void async_pgtable_stats_fallback(struct mm_struct *mm,
				  enum vm_event_item event)
{
}

void async_pgtable_stats_push(struct mm_struct *mm, u64 ns)
{
}

void async_pgtable_stats_range(struct mm_struct *mm)
{
}

long vm_events(enum vm_event_item event)
{
	return __atomic_load_n(&events[event], __ATOMIC_RELAXED);
}

void reset_machine(void)
{
	for (int i = 0; i < NR_VM_EVENT_ITEMS; i++)
		__atomic_store_n(&events[i], 0, __ATOMIC_RELAXED);
	for (int i = 0; i < NR_LIVE; i++)
		BUG_ON(live(i) && "something has leaked");
	BUG_ON(processes);
	BUG_ON(write_sysctl(1));
	async_pgtable_used.key.enabled = 0;
	async_pgtable_pins_noted.key.enabled = 0;
	reset_swap();
	fail_nth(0, false);
	current = kthread();
}

int live(enum live what)
{
	return __atomic_load_n(&live_objects[what], __ATOMIC_RELAXED);
}

void live_add(enum live what, int nr)
{
	__atomic_fetch_add(&live_objects[what], nr, __ATOMIC_RELAXED);
}

/*
 * Allocation failures
 */

static unsigned int fail_at, allocations;

/* Of the calling thread, see observe(). */
static __thread struct mm_struct *observed;
static __thread bool starved;
/* What fails does so once. Else, if somebody waits for it, until a session fails. */
static bool fails_once;
static int lacking;

void observe(struct mm_struct *mm)
{
	observed = mm;
	starved = false;
}

bool is_starved(void)
{
	return starved;
}

void fail_nth(unsigned int nth, bool once)
{
	__atomic_store_n(&fails_once, once, __ATOMIC_RELAXED);
	__atomic_store_n(&lacking, 0, __ATOMIC_RELAXED);
	__atomic_store_n(&allocations, 0, __ATOMIC_RELAXED);
	__atomic_store_n(&fail_at, nth, __ATOMIC_RELAXED);
}

bool failed_nth(void)
{
	const unsigned int at = __atomic_load_n(&fail_at, __ATOMIC_RELAXED);

	return at && __atomic_load_n(&allocations, __ATOMIC_RELAXED) >= at;
}

bool should_failslab(void)
{
	const unsigned int at = __atomic_load_n(&fail_at, __ATOMIC_RELAXED);

	/* But not for ever: sessions can end in other ways. */
	if (__atomic_load_n(&lacking, __ATOMIC_RELAXED) > 0) {
		__atomic_sub_fetch(&lacking, 1, __ATOMIC_RELAXED);
		starved = true;
		return true;
	}
	if (!at || __atomic_add_fetch(&allocations, 1, __ATOMIC_RELAXED) != at)
		return false;
	starved = true;
	return true;
}

/*
 * Memory cgroups: each process has one, and sometimes moves to another one
 * after it has forked.
 */

__thread struct mem_cgroup *active_memcg;
static int nr_memcgs;

static struct mem_cgroup *new_memcg(void)
{
	struct mem_cgroup *memcg = xzalloc(sizeof(*memcg));

	memcg->refcount = 1;
	memcg->id = __atomic_add_fetch(&nr_memcgs, 1, __ATOMIC_RELAXED);
	live_add(LIVE_MEMCG, 1);
	return memcg;
}

struct mem_cgroup *get_mem_cgroup_from_current(void)
{
	struct mem_cgroup *memcg;

	rcu_read_lock();
	memcg = current->memcg;
	if (memcg)
		__atomic_fetch_add(&memcg->refcount, 1, __ATOMIC_RELAXED);
	rcu_read_unlock();
	return memcg;
}

bool mem_cgroup_tryget(struct mem_cgroup *memcg)
{
	__atomic_fetch_add(&memcg->refcount, 1, __ATOMIC_RELAXED);
	return true;
}

void mem_cgroup_put(struct mem_cgroup *memcg)
{
	if (!memcg || __atomic_sub_fetch(&memcg->refcount, 1, __ATOMIC_ACQ_REL))
		return;
	free(memcg);
	live_add(LIVE_MEMCG, -1);
}

int charged_memcg(void)
{
	struct mem_cgroup *memcg;
	int id;

	if (active_memcg)
		return active_memcg->id;
	memcg = get_mem_cgroup_from_current();
	id = memcg ? memcg->id : 0;
	mem_cgroup_put(memcg);
	return id;
}

static void move_to_new_memcg(void)
{
	struct mem_cgroup *old, *new = new_memcg();

	down_write(&rcu);
	old = current->memcg;
	current->memcg = new;
	up_write(&rcu);
	mem_cgroup_put(old);
}

/*
 * Fates
 */

void doom(struct mm_struct *mm)
{
	__atomic_store_n(&mm->fate->doomed, 1, __ATOMIC_RELEASE);
}

void put_fate(struct fate *fate)
{
	if (fate && !__atomic_sub_fetch(&fate->refcount, 1, __ATOMIC_ACQ_REL))
		free(fate);
}

/* A session fails without memory, or because its parent is reaped. */
static void session_fails(struct mm_struct *mm)
{
	BUG_ON(!failed_nth() &&
	       !__atomic_load_n(&mm->parents_fate->doomed, __ATOMIC_ACQUIRE) &&
	       "oracle: a session failed without a reason");
	BUG_ON(observed == mm && starved && current->mm != mm &&
	       "oracle: a child is killed by who looks at it");
	__atomic_store_n(&mm->failed, 1, __ATOMIC_RELEASE);
}

/*
 * Signals and works
 */

void cond_resched(void)
{
	might_sleep();
	sched_point();
}

bool need_resched(void)
{
	return chance(4);
}

static u64 now;

u64 ktime_get_ns(void)
{
	return __atomic_load_n(&now, __ATOMIC_RELAXED);
}

void usleep_range_state(unsigned long min, unsigned long max, unsigned int state)
{
	might_sleep();
	/* See async_pgtable_wait_for_memory(). */
	if (min >= 4000) {
		__atomic_fetch_add(&now, 60000000, __ATOMIC_RELAXED);
		if (!__atomic_load_n(&fails_once, __ATOMIC_RELAXED))
			__atomic_store_n(&lacking, 20, __ATOMIC_RELAXED);
	}
	give_way();
}

void harness_trace(const char *event, struct mm_struct *mm)
{
	if (!strcmp(event, "async_pgtable_fail")) {
		__atomic_store_n(&lacking, 0, __ATOMIC_RELAXED);
		session_fails(mm);
	}
	sched_point();
}

void do_send_sig_info(int sig, void *info, struct task_struct *p,
		      enum pid_type type)
{
	BUG_ON(!(p->flags & PF_KTHREAD) && !READ_ONCE(p->doomed) && p->mm &&
	       !__atomic_load_n(&p->mm->failed, __ATOMIC_ACQUIRE) &&
	       "oracle: a process is killed that has done nothing");
	__atomic_store_n(&p->killed, 1, __ATOMIC_RELEASE);
}

/* Who fails a session may not have got to the signal yet: mmdrop() looks. */
void send_sig(int sig, struct task_struct *p, int priv)
{
	BUG_ON(p != current);
	p->mm->killed_itself |= !READ_ONCE(p->killed);
	__atomic_store_n(&p->killed, 1, __ATOMIC_RELEASE);
}

void kill_process(struct task_struct *task)
{
	WRITE_ONCE(task->doomed, 1);
	do_send_sig_info(SIGKILL, SEND_SIG_PRIV, task, PIDTYPE_TGID);
}

struct mm_struct *get_nth_mm(unsigned int nth, bool kill, bool oom)
{
	struct mm_struct *mm = NULL;
	struct task_struct *p;
	unsigned int nr = 0;

	rcu_read_lock();
	for_each_process(p)
		nr++;
	p = processes;
	for (unsigned int i = nr ? nth % nr : 0; i; i--)
		p = p->next;
	if (p) {
		mm = p->mm;
		mmgrab(mm);
		if (oom) {
			doom(mm);
			mmgrab(mm);
			if (!__sync_bool_compare_and_swap(&p->signal->oom_mm,
							  NULL, mm))
				mmdrop(mm);
			async_pgtable_oom_victim(mm);
		}
		if (kill)
			kill_process(p);
	}
	rcu_read_unlock();
	return mm;
}

bool is_killed(void)
{
	return fatal_signal_pending(current);
}

int task_work_add(struct task_struct *task, struct callback_head *work,
		  enum task_work_notify_mode mode)
{
	work->next = task->works;
	task->works = work;
	return 0;
}

/* Only the first thread of a process has works. */
void task_work_run(void)
{
	struct callback_head *work;

	while ((work = current->works)) {
		current->works = work->next;
		work->func(work);
	}
}

/*
 * Processes
 */

static struct task_struct *new_task(struct mm_struct *mm)
{
	struct task_struct *task = xzalloc(sizeof(*task));

	task->mm = mm;
	task->threads = 1;
	task->real_parent = task;
	task->signal->live.counter = 1;
	task->comm = "task";
	task->memcg = new_memcg();
	live_add(LIVE_TASK, 1);
	return task;
}

static void publish_task(struct task_struct *task)
{
	down_write(&rcu);
	task->next = processes;
	processes = task;
	up_write(&rcu);
}

struct task_struct *first_process(void)
{
	struct mm_struct *mm = mm_alloc();
	struct task_struct *task = new_task(mm);

	rmap_link(mm, false);
	publish_task(task);
	return task;
}

/* A child, which somebody must enter; or NULL without memory. */
struct task_struct *copy_process(u64 clone_flags, bool fail_late)
{
	struct mm_struct *oldmm = current->mm, *mm = mm_alloc();
	struct task_struct *task;

	if (!mm)
		return NULL;
	mm->payer = charged_memcg();
	mm->parents_fate = oldmm->fate;
	__atomic_fetch_add(&oldmm->fate->refcount, 1, __ATOMIC_RELAXED);
	async_pgtable_dup_begin(mm, oldmm, clone_flags);
	if (dup_mmap(mm, oldmm) || fail_late ||
	    fatal_signal_pending(current)) {
		mmput(mm);
		return NULL;
	}
	task = new_task(mm);
	task->real_parent = current;
	publish_task(task);
	async_pgtable_attach(task);
	/* Another thread could be about to fork. */
	if (READ_ONCE(current->threads) == 1 && chance(2))
		move_to_new_memcg();
	return task;
}

void add_thread(struct task_struct *task)
{
	__atomic_fetch_add(&task->threads, 1, __ATOMIC_RELAXED);
	BUG_ON(!mmget_not_zero(task->mm));
}

void enter_process(struct task_struct *task)
{
	BUG_ON(active_memcg);
	current = task;
	cpu_attach(task->mm);
}

void become_child_reaper(void)
{
	current->child_reaper = true;
}

/* As zap_pid_ns_processes(). There is one namespace. */
static void kill_all(void)
{
	struct task_struct *p;

	rcu_read_lock();
	for_each_process(p)
		kill_process(p);
	rcu_read_unlock();
}

/*
 * Current, whose other threads are gone, goes over to an mm in which nothing is
 * mapped. Returns the one that it has had, or NULL without memory.
 */
struct mm_struct *exec_mmap(void)
{
	struct mm_struct *old_mm = current->mm, *mm = mm_alloc();

	if (!mm)
		return NULL;
	BUG_ON(READ_ONCE(current->threads) != 1);
	rmap_link(mm, false);
	mmap_read_lock(old_mm);
	cpu_detach();
	/* As task_lock(): who is being chosen by the OOM killer keeps its mm. */
	down_write(&rcu);
	current->mm = mm;
	up_write(&rcu);
	cpu_attach(mm);
	mmap_read_unlock(old_mm);
	return old_mm;
}

/* Without any lock. By now current may be a victim, for its new mm. */
void exec_mm_put_old(struct mm_struct *old_mm)
{
	mmput_own(old_mm);
}

/* As do_exit(): the mm first, then the works that are left. */
void leave_process(void)
{
	struct task_struct *task = current, **p;
	struct mm_struct *mm = task->mm;

	BUG_ON(active_memcg && "a task exits that charges somebody else");
	/* get_signal(): works run before it takes the signal. */
	if (is_killed()) {
		task_work_run();
		WRITE_ONCE(task->signal->flags, SIGNAL_GROUP_EXIT);
		WRITE_ONCE(task->killed, 0);
		sched_point();
	}
	async_pgtable_exit_task(task);
	BUG_ON(mm->async_pgtable.session && READ_ONCE(task->threads) == 1 &&
	       async_pgtable_session_overlaps(mm->async_pgtable.session, 0, ULONG_MAX) &&
	       "oracle: a child is gone, and copies for it go on");
	cpu_detach();
	if (__atomic_sub_fetch(&task->threads, 1, __ATOMIC_ACQ_REL)) {
		mmput_own(mm);
		current = kthread();
		return;
	}
	down_write(&rcu);
	for (p = &processes; *p != task; p = &(*p)->next)
		;
	*p = task->next;
	for (p = &processes; *p; p = &(*p)->next)
		if ((*p)->real_parent == task)
			(*p)->real_parent = *p;
	task->mm = NULL;
	up_write(&rcu);
	__atomic_store_n(&task->signal->live.counter, 0, __ATOMIC_RELAXED);
	/* What it has not copied, its children do not need: they die first. */
	if (task->child_reaper)
		doom(mm);
	mmput_own(mm);
	if (task->child_reaper)
		kill_all();
	task_work_run();
	mem_cgroup_put(task->memcg);
	if (task->signal->oom_mm)
		mmdrop(task->signal->oom_mm);
	free(task);
	live_add(LIVE_TASK, -1);
	current = kthread();
}

/*
 * sysctl
 */

int sysctl_vals[] = { 0, 2 };
const struct ctl_table *harness_sysctl;

int proc_dointvec_minmax(const struct ctl_table *table, int write,
			 void *buffer, size_t *lenp, loff_t *ppos)
{
	const int value = *(int *)buffer;

	if (write && (value < *(int *)table->extra1 || value > *(int *)table->extra2))
		return -EINVAL;
	if (write)
		WRITE_ONCE(*(int *)table->data, value);
	else
		*(int *)buffer = READ_ONCE(*(int *)table->data);
	return 0;
}

int write_sysctl(int value)
{
	return harness_sysctl->proc_handler(harness_sysctl, 1, &value, NULL, NULL);
}
