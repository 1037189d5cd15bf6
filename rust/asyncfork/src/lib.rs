// SPDX-License-Identifier: GPL-2.0

//! Ask Linux for forks that copy their page tables after the call.
//!
//! A kernel with `CONFIG_ASYNC_PGTABLE` offers three ways in, and this crate has one function for
//! each:
//!
//! - [`async_fork()`]: one `clone3()` with [`CLONE_ASYNC_PGTABLE`];
//! - [`set_process()`]: every `fork()` of this process, of its children and of what they execute,
//!   through `prctl()`;
//! - [`set_mode()`]: the whole machine, through the sysctl `vm.async_pgtable`.
//!
//! [`probe()`] says whether the kernel has the feature at all, [`counters()`] what it has done
//! since boot. What cannot be deferred is copied in the call, as `fork()` always did; that is never
//! an error, it is counted.
//!
//! ```
//! if asyncfork::probe()? {
//!     asyncfork::set_process(true)?;
//! }
//! // fork() as before
//! # Ok::<(), std::io::Error>(())
//! ```

mod counters;
mod sysctl;

use std::io;

pub use counters::Counters;
pub use counters::counters;
pub use counters::meaning;
pub use sysctl::Mode;
pub use sysctl::mode;
pub use sysctl::set_mode;

/// The `clone3()` flag: the child's page tables are filled after the call has returned.
pub const CLONE_ASYNC_PGTABLE: u64 = 1 << 38;
/// `prctl()`: switch asynchronous forks on (1) or off (0) for this process.
pub const PR_SET_ASYNC_PGTABLE: libc::c_int = 82;
/// `prctl()`: whether asynchronous forks are on for this process.
pub const PR_GET_ASYNC_PGTABLE: libc::c_int = 83;

/// On which side of [`async_fork()`] the caller is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fork {
    /// The parent, with the child's process id.
    Parent(libc::pid_t),
    /// The child.
    Child,
}

/// Forks with [`CLONE_ASYNC_PGTABLE`]. The child sends SIGCHLD when it ends, as after `fork()`.
///
/// With `vm.async_pgtable` at 0 the kernel accepts the flag, copies in the call and counts a fall
/// back.
///
/// # Errors
///
/// `EINVAL` or `ENOSYS` if the kernel does not have the feature ([`is_absent()`] tells); `EAGAIN`
/// and `ENOMEM` as for `fork()`.
///
/// # Safety
///
/// This is the bare system call: the C library does not know of it, so its fork handlers do not run
/// and its idea of the thread id stays the parent's. Until it calls `execve()` or `_exit()` the
/// child may only do what is async-signal-safe. A program that wants the C library's `fork()` calls
/// [`set_process()`] once instead.
pub unsafe fn async_fork() -> io::Result<Fork> {
    // SAFETY: passed on to the caller.
    unsafe { clone3(CLONE_ASYNC_PGTABLE, libc::SIGCHLD) }
}

/// `fork()` by `clone3()` with `flags`; when the child ends the parent is sent `signal`, or none if
/// that is 0.
///
/// # Errors
///
/// Those of `clone3()`.
///
/// # Safety
///
/// As for [`async_fork()`]; and `flags` must not ask for shared memory (`CLONE_VM`) or for results
/// to be written.
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

/// Whether the running kernel has the feature, found out by making a child that exits at once.
///
/// The child has no exit signal, so neither a SIGCHLD handler nor a `waitpid(-1, ...)` elsewhere in
/// the program notices it. `vm.async_pgtable` does not matter, except that at 0 this costs a
/// default fork of the caller.
///
/// # Errors
///
/// Whatever kept the kernel from making a child: `EAGAIN`, `ENOMEM`, or `EPERM` from a system call
/// filter.
pub fn probe() -> io::Result<bool> {
    // SAFETY: the child does nothing but `_exit()`.
    match unsafe { clone3(CLONE_ASYNC_PGTABLE, 0) } {
        // SAFETY: allowed at any time.
        Ok(Fork::Child) => unsafe { libc::_exit(0) },
        Ok(Fork::Parent(pid)) => wait(pid).map(|_| true),
        Err(error) if is_absent(&error) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Waits for the child `pid` to end, whatever its exit signal, and returns its wait status.
///
/// # Errors
///
/// Those of `waitpid()`, other than `EINTR`.
pub fn wait(pid: libc::pid_t) -> io::Result<libc::c_int> {
    let mut status = 0;
    loop {
        // SAFETY: `status` is valid for writes.
        if unsafe { libc::waitpid(pid, &raw mut status, libc::__WALL) } == pid {
            return Ok(status);
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

/// Makes every `fork()` of this process asynchronous, or no longer; inherited over fork and exec.
///
/// Takes effect when `vm.async_pgtable` is at least 1. Async-signal-safe, so allowed between fork
/// and exec.
///
/// # Errors
///
/// `EINVAL` if the kernel does not have the feature; [`is_absent()`] tells.
pub fn set_process(on: bool) -> io::Result<()> {
    prctl(PR_SET_ASYNC_PGTABLE, on.into()).map(drop)
}

/// Whether every `fork()` of this process is to be asynchronous.
///
/// # Errors
///
/// `EINVAL` if the kernel does not have the feature; [`is_absent()`] tells.
pub fn process() -> io::Result<bool> {
    prctl(PR_GET_ASYNC_PGTABLE, 0).map(|on| on != 0)
}

fn prctl(option: libc::c_int, value: libc::c_ulong) -> io::Result<libc::c_int> {
    const ZERO: libc::c_ulong = 0;
    // SAFETY: neither option takes a pointer.
    match unsafe { libc::prctl(option, value, ZERO, ZERO, ZERO) } {
        -1 => Err(io::Error::last_os_error()),
        value => Ok(value),
    }
}

/// Whether `error`, from a function of this crate, means that the kernel does not have the feature.
pub fn is_absent(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EINVAL | libc::ENOSYS))
        || error.kind() == io::ErrorKind::NotFound
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_in_agrees_about_the_kernel() {
        let here = probe().unwrap();
        assert_eq!(process().is_ok(), here);
        assert_eq!(mode().is_ok(), here);
        assert_eq!(counters().is_ok(), here);
    }

    #[test]
    fn probing_leaves_no_child() {
        // Not the children of the other tests' threads.
        const FLAGS: libc::c_int = libc::__WALL | libc::__WNOTHREAD | libc::WNOHANG;
        probe().unwrap();
        // SAFETY: no status is asked for.
        let pid = unsafe { libc::waitpid(-1, std::ptr::null_mut(), FLAGS) };
        assert_eq!(pid, -1);
        assert_eq!(
            io::Error::last_os_error().raw_os_error(),
            Some(libc::ECHILD)
        );
    }

    #[test]
    fn sharing_memory_is_refused_by_every_kernel() {
        // SAFETY: refused, so there is no child; were it made, it would only exit.
        let error = match unsafe { clone3(CLONE_ASYNC_PGTABLE | libc::CLONE_VM as u64, 0) } {
            Ok(Fork::Child) => unsafe { libc::_exit(0) },
            result => result.unwrap_err(),
        };
        assert_eq!(error.raw_os_error(), Some(libc::EINVAL));
    }
}
