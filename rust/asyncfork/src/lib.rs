// SPDX-License-Identifier: GPL-2.0

//! Ask Linux for forks that copy their page tables after the call.
//!
//! A kernel with `CONFIG_ASYNC_PGTABLE` can be asked in these ways, the easy ones first:
//!
//! - [`set_process()`]: every `fork()` of this process, of its children and of what they execute,
//!   through `prctl()`;
//! - [`fork()`]: the C library's `fork()`, asynchronous this once;
//! - [`set_mode()`]: the whole machine, through the sysctl `vm.async_pgtable`;
//! - [`raw::clone3()`]: the system call with [`CLONE_ASYNC_PGTABLE`], behind the C library's back.
//!   What that breaks is said there.
//!
//! [`probe()`] says whether the kernel has the feature at all, [`counters()`] what it has done
//! since boot, and [`Forks::read()`] what became of those of one process. What cannot be deferred is copied in the call, as `fork()` always did; that is never
//! an error, it is counted.
//!
//! ```
//! use asyncfork::Fork;
//!
//! if !asyncfork::probe()? {
//!     eprintln!("this kernel copies page tables in the call");
//! }
//! // SAFETY: the child only exits.
//! match unsafe { asyncfork::fork() }? {
//!     Fork::Child => unsafe { libc::_exit(0) }, // it would write a snapshot here
//!     Fork::Parent(child) => assert_eq!(asyncfork::wait(child)?, 0),
//! }
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! A child that waits for its page tables is killed by SIGKILL if there is no memory for them: look
//! at how a child has ended before its snapshot is used.
//!
//! `examples/kvstore.rs` is a key-value store that takes snapshots of itself. The feature `serde`
//! makes [`Counters`], [`Mode`] and [`Forks`] serializable; without it `libc` is the only dependency.

mod counters;
mod forks;
pub mod raw;
mod sysctl;

use std::io;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

pub use counters::Counters;
pub use counters::counters;
pub use counters::meaning;
pub use forks::Decider;
pub use forks::Forks;
pub use sysctl::Mode;
pub use sysctl::mode;
pub use sysctl::set_mode;

/// The `clone3()` flag: the child's page tables are filled after the call has returned.
pub const CLONE_ASYNC_PGTABLE: u64 = 1 << 38;
/// `prctl()`: switch asynchronous forks on (1) or off (0) for this process.
pub const PR_SET_ASYNC_PGTABLE: libc::c_int = 82;
/// `prctl()`: whether asynchronous forks are on for this process.
pub const PR_GET_ASYNC_PGTABLE: libc::c_int = 83;

/// On which side of a fork the caller is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fork {
    /// The parent, with the child's process id.
    Parent(libc::pid_t),
    /// The child.
    Child,
}

/// The C library's `fork()`, asynchronous if the kernel can; other forks of the process are as they
/// were.
///
/// It sets the prctl, forks, and puts the prctl back in parent and child. So handlers of
/// `pthread_atfork()` run, and locks of the C library are usable in the child, as ever. Without the
/// feature, or where a filter forbids the prctl, this is `fork()`.
///
/// Threads that call this wait for each other. Between both prctls the process asks for every fork:
/// one that another thread makes by other means is asynchronous, too, and the child of that one
/// goes on asking. Neither is seen by a program otherwise. A [`set_process()`] of another thread in
/// between is undone. Not for signal handlers.
///
/// # Errors
///
/// Those of `fork()`: `EAGAIN`, `ENOMEM`.
///
/// # Safety
///
/// That of every `fork()`: if the process has other threads, the child may only do what is
/// async-signal-safe until it calls `execve()` or `_exit()`, for a lock that one of them held stays
/// locked. The locks of glibc's `malloc()` and stdio are excepted. A child of a process with one
/// thread may do everything.
pub unsafe fn fork() -> io::Result<Fork> {
    let asking = Asking::begin();
    // SAFETY: passed on to the caller.
    let fork = match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(Fork::Child),
        pid => Ok(Fork::Parent(pid)),
    };
    drop(asking);
    fork
}

/// As long as this lives, the prctl is on. One thread at a time, so that each puts back what it
/// found.
struct Asking {
    put_back: bool,
    _alone: MutexGuard<'static, ()>,
}

impl Asking {
    fn begin() -> Self {
        static ALONE: Mutex<()> = Mutex::new(());
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        Self {
            put_back: matches!(process(), Ok(false)) && set_process(true).is_ok(),
            _alone: alone,
        }
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        if self.put_back {
            // It was set a moment ago, so it can be.
            let _ = set_process(false);
        }
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
    match unsafe { raw::clone3(CLONE_ASYNC_PGTABLE, 0) } {
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
    use std::sync::atomic::AtomicI32;
    use std::sync::atomic::Ordering;

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
        let error = match unsafe { raw::clone3(CLONE_ASYNC_PGTABLE | libc::CLONE_VM as u64, 0) } {
            Ok(Fork::Child) => unsafe { libc::_exit(0) },
            result => result.unwrap_err(),
        };
        assert_eq!(error.raw_os_error(), Some(libc::EINVAL));
    }

    /// Forks by `fork`, and returns what the child's `status` makes its exit status.
    fn status_of(
        fork: unsafe fn() -> io::Result<Fork>,
        status: impl FnOnce() -> libc::c_int,
    ) -> libc::c_int {
        // SAFETY: the child makes system calls and exits.
        match unsafe { fork() }.unwrap() {
            Fork::Child => {
                let status = status();
                // SAFETY: allowed at any time.
                unsafe { libc::_exit(status) }
            }
            Fork::Parent(pid) => libc::WEXITSTATUS(wait(pid).unwrap()),
        }
    }

    static HANDLED: AtomicI32 = AtomicI32::new(0);

    extern "C" fn handler() {
        HANDLED.fetch_add(1, Ordering::Relaxed);
    }

    #[test]
    fn handlers_run_in_the_child_of_fork_only() {
        // SAFETY: the handler is a function that may run in any child.
        assert_eq!(
            unsafe { libc::pthread_atfork(None, None, Some(handler)) },
            0
        );
        let status = || HANDLED.load(Ordering::Relaxed);
        assert_eq!(status_of(fork, status), 1);
        // SAFETY: passed on.
        let bare: unsafe fn() -> _ = || unsafe { raw::clone3(0, libc::SIGCHLD) };
        assert_eq!(status_of(bare, status), 0);
    }

    #[test]
    fn fork_leaves_the_prctl_as_it_was() {
        let asks = || process().map_or(2, libc::c_int::from);
        // In a child, as the process is that of all tests.
        let all = || {
            for on in [false, true] {
                if set_process(on).is_ok() == process().is_err()
                    || status_of(fork, asks) != asks()
                    || process().is_ok_and(|now| now != on)
                {
                    return 1;
                }
            }
            0
        };
        assert_eq!(status_of(fork, all), 0);
    }
}
