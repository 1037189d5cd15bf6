/* SPDX-License-Identifier: GPL-2.0 */
/* Stubbed: include/linux/compiler.h, kernel.h, bug.h, align.h, container_of.h, asm/barrier.h */
#ifndef _LINUX_COMPILER_H
#define _LINUX_COMPILER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>

typedef uint32_t u32;
typedef uint64_t u64;
typedef unsigned int gfp_t;

#define __init
#define __read_mostly
#define likely(x)	__builtin_expect(!!(x), 1)
#define unlikely(x)	__builtin_expect(!!(x), 0)

/* The kernel's are not ordered either, but for dependencies: hence consume. */
#define READ_ONCE(x)	__atomic_load_n(&(x), __ATOMIC_CONSUME)
#define WRITE_ONCE(x, v) __atomic_store_n(&(x), v, __ATOMIC_RELAXED)
#define smp_mb()	__atomic_thread_fence(__ATOMIC_SEQ_CST)

#define container_of(ptr, type, member) \
	((type *)((char *)(ptr) - offsetof(type, member)))
#define ALIGN_DOWN(x, a)	((x) & ~((a) - 1))
#define ALIGN(x, a)		ALIGN_DOWN((x) + (a) - 1, a)
#define IS_ALIGNED(x, a)	(((x) & ((a) - 1)) == 0)
#define ARRAY_SIZE(a)		(sizeof(a) / sizeof((a)[0]))

#define EINTR	4
#define EAGAIN	11
#define ENOMEM	12
#define EFAULT	14
#define EEXIST	17
#define EINVAL	22

/* Prints what is wrong, and aborts: a fuzzer and a debugger find the place. */
_Noreturn void harness_bug(const char *file, int line, const char *what);

#define BUG_ON(cond) \
	do { if (unlikely(cond)) harness_bug(__FILE__, __LINE__, #cond); } while (0)
/* What the kernel survives with a splat, the harness does not. */
#define WARN_ON_ONCE(cond) \
	(unlikely(cond) ? harness_bug(__FILE__, __LINE__, #cond), true : false)

#endif
