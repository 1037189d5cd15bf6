/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Stubbed: include/linux/compiler.h, kernel.h, minmax.h, bug.h, align.h,
 * container_of.h, atomic.h, printk.h, asm/barrier.h
 */
#ifndef _LINUX_COMPILER_H
#define _LINUX_COMPILER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>

typedef uint32_t u32;
typedef uint64_t u64;
typedef unsigned int gfp_t;

#define __init
#define __initdata
#define __must_check	__attribute__((warn_unused_result))
#define noinline	__attribute__((noinline))
#define __read_mostly
#define likely(x)	__builtin_expect(!!(x), 1)
#define unlikely(x)	__builtin_expect(!!(x), 0)

/* The kernel's are not ordered either, but for dependencies: hence consume. */
#define READ_ONCE(x)	__atomic_load_n(&(x), __ATOMIC_CONSUME)
#define WRITE_ONCE(x, v) __atomic_store_n(&(x), v, __ATOMIC_RELAXED)
#define smp_mb()	__atomic_thread_fence(__ATOMIC_SEQ_CST)
#define smp_rmb()	__atomic_thread_fence(__ATOMIC_ACQUIRE)
#define smp_mb__before_atomic()	smp_mb()
#define smp_mb__after_atomic()	smp_mb()

typedef struct { int counter; } atomic_t;
typedef struct { long counter; } atomic_long_t;

#define ATOMIC_INIT(i)		{ i }
#define smp_store_release(p, v)	__atomic_store_n(p, v, __ATOMIC_RELEASE)
#define atomic_read(v)		__atomic_load_n(&(v)->counter, __ATOMIC_RELAXED)
#define atomic_read_acquire(v)	__atomic_load_n(&(v)->counter, __ATOMIC_ACQUIRE)
#define atomic_inc(v)		__atomic_fetch_add(&(v)->counter, 1, __ATOMIC_RELAXED)
#define atomic_dec(v)		__atomic_fetch_sub(&(v)->counter, 1, __ATOMIC_RELAXED)
#define atomic_long_read(v)	atomic_read(v)
#define atomic_long_sub(i, v)	__atomic_fetch_sub(&(v)->counter, i, __ATOMIC_RELAXED)

#define container_of(ptr, type, member) \
	((type *)((char *)(ptr) - offsetof(type, member)))
#define ALIGN_DOWN(x, a)	((x) & ~((a) - 1))
#define ALIGN(x, a)		ALIGN_DOWN((x) + (a) - 1, a)
#define IS_ALIGNED(x, a)	(((x) & ((a) - 1)) == 0)
#define ARRAY_SIZE(a)		(sizeof(a) / sizeof((a)[0]))
#define max(a, b)		((a) > (b) ? (a) : (b))

#define EINTR	4
#define EIO	5
#define EAGAIN	11
#define ENOMEM	12
#define EFAULT	14
#define EBUSY	16
#define EEXIST	17
#define EINVAL	22
#define EHWPOISON	133

#define ULONG_MAX	(~0UL)
#define min(a, b)	((a) < (b) ? (a) : (b))
#define xchg(p, v)	__atomic_exchange_n(p, v, __ATOMIC_SEQ_CST)

/* What the kernel logs is of no interest here. */
#define pr_info_ratelimited(fmt, args...) \
	do { if (0) printf(fmt, ##args); } while (0)
#define pr_warn	pr_info_ratelimited

/* Prints what is wrong, and aborts: a fuzzer and a debugger find the place. */
_Noreturn void harness_bug(const char *file, int line, const char *what);

#define BUG_ON(cond) \
	do { if (unlikely(cond)) harness_bug(__FILE__, __LINE__, #cond); } while (0)
/* What the kernel survives with a splat, the harness does not. */
#define WARN_ON_ONCE(cond) \
	(unlikely(cond) ? harness_bug(__FILE__, __LINE__, #cond), true : false)

#endif
