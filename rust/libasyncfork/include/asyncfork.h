/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Ask Linux for forks that copy their page tables after the call.
 *
 *	asyncfork_set_process(1);	once, then fork() as before; or
 *	pid = asyncfork_fork();		in place of one fork()
 *
 * Functions return -1 and set errno if they fail. A child that waits for its
 * page tables is killed by SIGKILL if there is no memory for them: look at how
 * a child has ended before its snapshot is used.
 */
#ifndef ASYNCFORK_H
#define ASYNCFORK_H

#include <stdint.h>
#include <sys/types.h>

#ifndef CLONE_ASYNC_PGTABLE
#define CLONE_ASYNC_PGTABLE 0x4000000000ULL	/* of clone3() */
#endif
#ifndef PR_SET_ASYNC_PGTABLE
#define PR_SET_ASYNC_PGTABLE 82
#define PR_GET_ASYNC_PGTABLE 83
#endif

#ifdef __cplusplus
extern "C" {
#endif

/*
 * Has the running kernel the feature? 1 or 0; found out by making a child that
 * exits at once, of which no SIGCHLD and no wait() tells.
 * Errors: EAGAIN, ENOMEM; EPERM by a filter of system calls.
 */
int asyncfork_probe(void);

/*
 * Every fork() of this process asynchronous, or (0) no longer. Children and
 * what they execute inherit it. Async-signal-safe.
 * Errors: EINVAL, the kernel does not have the feature.
 */
int asyncfork_set_process(int on);

/* What has been set: 1 or 0. Errors: as before. */
int asyncfork_process(void);

/*
 * fork(), asynchronous this once if the kernel can, else as ever. It sets the
 * above, calls fork(), and puts it back in parent and child. Handlers of
 * pthread_atfork() run. What another thread forks meanwhile is asynchronous,
 * too. Not for signal handlers.
 * Errors: those of fork().
 */
pid_t asyncfork_fork(void);

/*
 * UNSAFE: the bare clone3(), flags and the signal at the child's end (SIGCHLD,
 * or 0). The C library does not know of it: no handlers of pthread_atfork(),
 * locks of other threads stay locked, those of malloc() and stdio, too, and the
 * thread's id in mutexes is the parent's. The child may make system calls,
 * execve() and _exit(). CLONE_VM, and flags that have results written, must not
 * be given.
 * Errors: those of clone3(); EINVAL also if the kernel does not know a flag.
 */
pid_t asyncfork_clone3(uint64_t flags, int signal);

/*
 * The counter async_pgtable_NAME of /proc/vmstat, since boot and of the whole
 * machine: "session_start" are the forks that were asynchronous.
 * Errors: ENOENT, the kernel does not have it.
 */
int asyncfork_counter(const char *name, uint64_t *value);

#ifdef __cplusplus
}
#endif

#endif
