// SPDX-License-Identifier: GPL-2.0

//! The bare system call.
//!
//! `clone3()` makes a process of which the C library does not know. With glibc, unlike after
//! [`fork()`](crate::fork()):
//!
//! - handlers of `pthread_atfork()` do not run, in which libraries take their locks before a fork,
//!   and in the child give them back or reset random numbers and connections;
//! - locks that other threads held at that moment stay locked in the child, also those of
//!   `malloc()`, stdio and the dynamic linker: the first `malloc()` of the child may hang;
//! - the id that glibc has noted for the thread is the parent's. Mutexes that record their owner
//!   (recursive, error-checking, robust, priority-inheriting) record the wrong one, and the kernel
//!   believes it of the latter two;
//! - the child has no list of robust mutexes: who waits for one is not told when the child ends;
//! - the parent's other threads are still listed, though they do not run: their stacks are never
//!   freed, and calls that are made on behalf of all threads, as `setuid()`, look for them.
//!
//! What is left is what `vfork()` is used for: a child that makes system calls, and executes
//! something or exits. It needs no `fork()` of gigabytes, but benchmarks and tests do. Whoever wants
//! a snapshot calls [`fork()`](crate::fork()), or [`set_process()`](crate::set_process()) once.

use std::io;

use crate::Fork;

/// `clone3()` with `flags`, in a copy of this memory; when the child ends the parent is sent
/// `signal`, or none if that is 0.
///
/// With [`CLONE_ASYNC_PGTABLE`](crate::CLONE_ASYNC_PGTABLE) and `vm.async_pgtable` at 0 the kernel
/// accepts the flag, copies in the call and counts a fall back.
///
/// # Errors
///
/// `EINVAL` or `ENOSYS` if the kernel does not have the feature
/// ([`is_absent()`](crate::is_absent()) tells); `EAGAIN` and `ENOMEM` as for `fork()`; others by
/// other flags.
///
/// # Safety
///
/// Until it calls `execve()` or `_exit()` the child may only do what is async-signal-safe, without
/// what the [module](self) lists, even if there is no other thread. `flags` must not ask for shared
/// memory (`CLONE_VM`) or for results to be written.
pub unsafe fn clone3(flags: u64, signal: libc::c_int) -> io::Result<Fork> {
    // SAFETY: all-zero is a valid `clone_args`.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = flags;
    args.exit_signal = signal as u64;
    // SAFETY: the kernel only reads `args`. With no stack given the child goes on with a copy of
    // this one.
    match unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of_val(&args)) } {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(Fork::Child),
        pid => Ok(Fork::Parent(pid as libc::pid_t)),
    }
}
