/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Customised: spinlock.h, mutex.h, rwsem.h. On threads that run freely
 * they are pthread's, which TSan knows. Under the scheduler of sched.c they are
 * a few words, and who cannot go on gives way.
 */
#ifndef _LINUX_LOCK_H
#define _LINUX_LOCK_H

#include <linux/compiler.h>
#include <pthread.h>

struct mutex {
	pthread_mutex_t os;
	bool held;
};

struct rw_semaphore {
	struct mutex writers;	/* held by a writer, also once downgraded */
	pthread_rwlock_t os;
	int readers;
	int waiting;		/* writers; new readers queue up behind them */
	bool writer;
};

typedef struct mutex spinlock_t;
#define __SPIN_LOCK_UNLOCKED(lock)	{ .os = PTHREAD_MUTEX_INITIALIZER }

void mutex_init(struct mutex *lock);
void mutex_destroy(struct mutex *lock);

/* A spinlock's holder does not sleep. */
void spin_lock(spinlock_t *lock);
void spin_unlock(spinlock_t *lock);
void might_sleep(void);
bool holds_spinlock(void);

void init_rwsem(struct rw_semaphore *sem);
void down_read(struct rw_semaphore *sem);
bool down_read_trylock(struct rw_semaphore *sem);
void up_read(struct rw_semaphore *sem);
void down_write(struct rw_semaphore *sem);
void downgrade_write(struct rw_semaphore *sem);
void up_write(struct rw_semaphore *sem);
void destroy_rwsem(struct rw_semaphore *sem);
/* By the calling thread. */
bool rwsem_is_held(struct rw_semaphore *sem);
bool rwsem_is_held_write(struct rw_semaphore *sem);

#endif
