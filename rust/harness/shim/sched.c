// SPDX-License-Identifier: GPL-2.0
/*
 * Threads, locks, and a scheduler that can be told what to do.
 *
 * Threads that run freely take pthread's locks. Once sched_start() has been
 * called one thread runs at a time, the one whose turn it is; at a lock, a
 * tracepoint or a sched_point() the turn may pass to another one, as a byte
 * says. Locks are then words, and a thread that cannot go on is blocked on the
 * address of what it waits for. If all are, that is a deadlock. Threads that run
 * freely find one too, see has_got(), but after a while.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <time.h>

#include <harness.h>

#define MAX_THREADS	64
#define MAX_STEPS	2000000
#define MAX_POINTS	50000000
#define DEADLOCK_SECONDS	10

struct thread {
	pthread_t os;
	pthread_cond_t turn;
	void (*fn)(void *arg);
	void *arg;
	void *blocked_on;
	bool done;
};

static struct {
	bool on;
	pthread_mutex_t lock;
	const uint8_t *bytes;
	size_t len;
	unsigned int budget;	/* points until the next byte is read */
	unsigned int nr;
	unsigned long steps;
	unsigned int seed;	/* of what is up to chance */
	struct thread *running;
	struct thread *threads[MAX_THREADS];
} sched = { .lock = PTHREAD_MUTEX_INITIALIZER };

/* Threads that run freely. */
static struct {
	int nr;
	int waiting;
	unsigned long got;	/* how often one got what it had to wait for */
} freely = { .nr = 1 };

static struct thread first_thread;
static __thread struct thread *self;

/* Where the calling thread has come to while it ran freely. */
static __thread unsigned int points;

/* Points until the calling thread is preempted, see preempt_after(). */
static __thread unsigned int preempt;

/* What the calling thread holds. */
static __thread int nr_spinlocks;
static __thread struct {
	struct rw_semaphore *sem;
	bool write;
} held[64];
static __thread unsigned int nr_held;

_Noreturn void harness_bug(const char *file, int line, const char *what)
{
	const char *name = strrchr(file, '/');

	fprintf(stderr, "harness: BUG %s:%d: %s\n", name ? name + 1 : file,
		line, what);
	abort();
}

void *xzalloc(size_t size)
{
	void *p = calloc(1, size);

	if (!p)
		abort();
	return p;
}

/*
 * The scheduler
 */

static unsigned int next_byte(void)
{
	if (!sched.len)
		return 0;
	sched.len--;
	return *sched.bytes++;
}

/* @self has not the turn any more; returns when it has it again. */
static void wait_for_turn(void)
{
	while (sched.running != self)
		pthread_cond_wait(&self->turn, &sched.lock);
}

static void pass_to(struct thread *next)
{
	if (next == sched.running)
		return;
	sched.running = next;
	pthread_cond_signal(&next->turn);
}

/* The @n-th after the running thread that can run, counted round. */
static struct thread *runnable(unsigned int n)
{
	struct thread *found[MAX_THREADS];
	unsigned int nr = 0, i, me = 0;

	for (i = 0; i < sched.nr; i++)
		if (sched.threads[i] == sched.running)
			me = i;
	for (i = 0; i < sched.nr; i++) {
		struct thread *t = sched.threads[(me + i) % sched.nr];

		if (!t->blocked_on && !t->done)
			found[nr++] = t;
	}
	return nr ? found[n % nr] : NULL;
}

static void reschedule(unsigned int n)
{
	struct thread *next;

	BUG_ON(++sched.steps > MAX_STEPS && "livelock");
	next = runnable(n);
	BUG_ON(!next && "deadlock");
	pass_to(next);
}

bool chance(unsigned int n)
{
	static __thread unsigned int own;
	unsigned int *seed = sched.on && self ? &sched.seed : &own;

	if (!*seed)
		*seed = (unsigned int)(uintptr_t)seed | 1;
	*seed = *seed * 1103515245 + 12345;
	return (*seed >> 16) % n == 0;
}

/* Runs freely: one time out of @n somewhere else. */
static void jitter(unsigned int n)
{
	BUG_ON(++points > MAX_POINTS && "livelock of free threads");
	if (chance(n))
		sched_yield();
}

/* One of pthread's calls with a limit, until has_got(). */
struct wait {
	struct timespec limit;	/* at first none at all */
	unsigned long got;
	unsigned int seconds;
};

/*
 * True if the call that returned @err has got what it wants; else it waits for a
 * second. If all threads do, and none gets anything, that is a deadlock. Who has
 * been woken is still said to wait until it runs, which is why it takes seconds.
 */
static bool has_got(struct wait *wait, int err)
{
	const bool first = !wait->limit.tv_sec;
	unsigned long got;

	if (err != ETIMEDOUT) {
		BUG_ON(err);
		if (!first) {
			__atomic_add_fetch(&freely.got, 1, __ATOMIC_RELAXED);
			__atomic_sub_fetch(&freely.waiting, 1, __ATOMIC_RELAXED);
		}
		return true;
	}
	if (first)
		__atomic_add_fetch(&freely.waiting, 1, __ATOMIC_RELAXED);
	got = __atomic_load_n(&freely.got, __ATOMIC_RELAXED);
	if (got != wait->got || __atomic_load_n(&freely.waiting, __ATOMIC_RELAXED) !=
				__atomic_load_n(&freely.nr, __ATOMIC_RELAXED))
		wait->seconds = 0;
	wait->got = got;
	BUG_ON(wait->seconds++ == DEADLOCK_SECONDS && "deadlock of free threads");
	clock_gettime(CLOCK_REALTIME, &wait->limit);
	wait->limit.tv_sec++;
	return false;
}

/* @call is one of pthread's; its last argument is limit. */
#define wait_freely(call) do {						\
	struct wait wait = {};						\
	const struct timespec *limit = &wait.limit;			\
									\
	while (!has_got(&wait, call))					\
		;							\
} while (0)

void sched_point(void)
{
	unsigned int byte;

	if (!sched.on || !self) {
		jitter(32);
		return;
	}
	if (preempt && !--preempt) {
		give_way();
		return;
	}
	if (sched.budget) {
		sched.budget--;
		return;
	}
	/* Two bits: who is next. Six bits: for how long. */
	byte = next_byte();
	sched.budget = sched.len ? byte >> 2 : 64;
	pthread_mutex_lock(&sched.lock);
	reschedule(byte & 3);
	wait_for_turn();
	pthread_mutex_unlock(&sched.lock);
}

void give_way(void)
{
	if (!sched.on || !self) {
		jitter(1);
		return;
	}
	pthread_mutex_lock(&sched.lock);
	reschedule(1);
	wait_for_turn();
	pthread_mutex_unlock(&sched.lock);
}

void preempt_after(unsigned int points)
{
	preempt = points;
}

bool was_preempted(void)
{
	return !preempt;
}

static void block_on(void *what)
{
	pthread_mutex_lock(&sched.lock);
	self->blocked_on = what;
	reschedule(next_byte());
	wait_for_turn();
	pthread_mutex_unlock(&sched.lock);
}

static void wake(void *what)
{
	for (unsigned int i = 0; i < sched.nr; i++)
		if (sched.threads[i]->blocked_on == what)
			sched.threads[i]->blocked_on = NULL;
}

void sched_start(const uint8_t *bytes, size_t len)
{
	BUG_ON(sched.on || sched.nr);
	self = &first_thread;
	pthread_cond_init(&self->turn, NULL);
	sched.bytes = bytes;
	sched.len = len;
	sched.budget = 0;
	sched.steps = 0;
	sched.seed = 1;
	for (size_t i = 0; i < len; i++)
		sched.seed = sched.seed * 31 + bytes[i];
	sched.seed |= 1;
	sched.running = self;
	sched.threads[sched.nr++] = self;
	sched.on = true;
}

void sched_stop(void)
{
	BUG_ON(sched.nr != 1 || self != &first_thread);
	pthread_cond_destroy(&self->turn);
	sched.nr = 0;
	sched.on = false;
	self = NULL;
}

static void *run_thread(void *arg)
{
	struct thread *thread = arg;

	if (!sched.on) {
		thread->fn(thread->arg);
		__atomic_sub_fetch(&freely.nr, 1, __ATOMIC_RELAXED);
		return NULL;
	}
	self = thread;
	pthread_mutex_lock(&sched.lock);
	wait_for_turn();
	pthread_mutex_unlock(&sched.lock);

	thread->fn(thread->arg);

	pthread_mutex_lock(&sched.lock);
	thread->done = true;
	wake(thread);
	reschedule(next_byte());
	pthread_mutex_unlock(&sched.lock);
	return NULL;
}

struct thread *thread_spawn(void (*fn)(void *arg), void *arg)
{
	struct thread *thread = xzalloc(sizeof(*thread));

	thread->fn = fn;
	thread->arg = arg;
	pthread_cond_init(&thread->turn, NULL);
	if (sched.on) {
		pthread_mutex_lock(&sched.lock);
		BUG_ON(sched.nr == MAX_THREADS);
		sched.threads[sched.nr++] = thread;
		pthread_mutex_unlock(&sched.lock);
	} else {
		__atomic_add_fetch(&freely.nr, 1, __ATOMIC_RELAXED);
	}
	BUG_ON(pthread_create(&thread->os, NULL, run_thread, thread));
	sched_point();
	return thread;
}

void thread_join(struct thread *thread)
{
	if (sched.on) {
		while (!thread->done)
			block_on(thread);
		pthread_mutex_lock(&sched.lock);
		for (unsigned int i = 0; i < sched.nr; i++)
			if (sched.threads[i] == thread)
				sched.threads[i] = sched.threads[--sched.nr];
		pthread_mutex_unlock(&sched.lock);
		BUG_ON(pthread_join(thread->os, NULL));
	} else {
		wait_freely(pthread_timedjoin_np(thread->os, NULL, limit));
		points = 0;
	}
	pthread_cond_destroy(&thread->turn);
	free(thread);
}

/*
 * Locks
 */

void might_sleep(void)
{
	BUG_ON(nr_spinlocks && "sleeping with a spinlock held");
}

bool holds_spinlock(void)
{
	return nr_spinlocks;
}

void mutex_init(struct mutex *lock)
{
	pthread_mutex_init(&lock->os, NULL);
	lock->held = false;
}

void mutex_destroy(struct mutex *lock)
{
	BUG_ON(lock->held);
	BUG_ON(pthread_mutex_destroy(&lock->os));
}

static void __mutex_lock(struct mutex *lock)
{
	sched_point();
	if (!sched.on) {
		wait_freely(pthread_mutex_timedlock(&lock->os, limit));
		return;
	}
	while (lock->held)
		block_on(lock);
	lock->held = true;
}

static void __mutex_unlock(struct mutex *lock)
{
	if (!sched.on) {
		BUG_ON(pthread_mutex_unlock(&lock->os));
	} else {
		BUG_ON(!lock->held);
		lock->held = false;
		wake(lock);
	}
	sched_point();
}

void spin_lock(spinlock_t *lock)
{
	__mutex_lock(lock);
	nr_spinlocks++;
}

void spin_unlock(spinlock_t *lock)
{
	nr_spinlocks--;
	__mutex_unlock(lock);
}

static void hold(struct rw_semaphore *sem, bool write)
{
	BUG_ON(nr_held == ARRAY_SIZE(held));
	held[nr_held].sem = sem;
	held[nr_held++].write = write;
}

static void release(struct rw_semaphore *sem, bool write)
{
	for (unsigned int i = nr_held; i--;) {
		if (held[i].sem == sem) {
			BUG_ON(held[i].write != write);
			held[i] = held[--nr_held];
			return;
		}
	}
	BUG_ON("released, but not held");
}

bool rwsem_is_held(struct rw_semaphore *sem)
{
	for (unsigned int i = 0; i < nr_held; i++)
		if (held[i].sem == sem)
			return true;
	return false;
}

bool rwsem_is_held_write(struct rw_semaphore *sem)
{
	for (unsigned int i = 0; i < nr_held; i++)
		if (held[i].sem == sem && held[i].write)
			return true;
	return false;
}

void init_rwsem(struct rw_semaphore *sem)
{
	mutex_init(&sem->writers);
	pthread_rwlock_init(&sem->os, NULL);
	sem->readers = sem->waiting = 0;
	sem->writer = false;
}

void destroy_rwsem(struct rw_semaphore *sem)
{
	BUG_ON(sem->readers || sem->writer);
	mutex_destroy(&sem->writers);
	BUG_ON(pthread_rwlock_destroy(&sem->os));
}

void down_read(struct rw_semaphore *sem)
{
	sched_point();
	BUG_ON(rwsem_is_held(sem));
	if (!sched.on) {
		wait_freely(pthread_rwlock_timedrdlock(&sem->os, limit));
	} else {
		while (sem->writer || sem->waiting)
			block_on(sem);
		sem->readers++;
	}
	hold(sem, false);
}

bool down_read_trylock(struct rw_semaphore *sem)
{
	sched_point();
	if (!sched.on) {
		if (pthread_rwlock_tryrdlock(&sem->os))
			return false;
	} else {
		if (sem->writer || sem->waiting)
			return false;
		sem->readers++;
	}
	hold(sem, false);
	return true;
}

void up_read(struct rw_semaphore *sem)
{
	release(sem, false);
	if (!sched.on) {
		BUG_ON(pthread_rwlock_unlock(&sem->os));
	} else if (!--sem->readers) {
		wake(sem);
	}
	sched_point();
}

void down_write(struct rw_semaphore *sem)
{
	might_sleep();
	BUG_ON(rwsem_is_held(sem));
	__mutex_lock(&sem->writers);
	if (!sched.on) {
		wait_freely(pthread_rwlock_timedwrlock(&sem->os, limit));
	} else {
		sem->waiting++;
		while (sem->writer || sem->readers)
			block_on(sem);
		sem->waiting--;
		sem->writer = true;
	}
	hold(sem, true);
}

/* Other writers stay out; readers come in. */
void downgrade_write(struct rw_semaphore *sem)
{
	release(sem, true);
	if (!sched.on) {
		BUG_ON(pthread_rwlock_unlock(&sem->os));
		BUG_ON(pthread_rwlock_rdlock(&sem->os));
	} else {
		sem->writer = false;
		sem->readers++;
		wake(sem);
	}
	hold(sem, false);
	__mutex_unlock(&sem->writers);
}

void up_write(struct rw_semaphore *sem)
{
	release(sem, true);
	if (!sched.on) {
		BUG_ON(pthread_rwlock_unlock(&sem->os));
	} else {
		sem->writer = false;
		wake(sem);
	}
	__mutex_unlock(&sem->writers);
}
