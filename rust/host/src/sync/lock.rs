// SPDX-License-Identifier: GPL-2.0

//! Customised from `rust/kernel/sync/lock/spinlock.rs`: same interface on `std`, `loom` or
//! `shuttle`, with the part of lockdep that is cheap: who holds a spinlock does not sleep.

use core::{
    ffi::CStr,
    ops::{Deref, DerefMut},
    pin::Pin,
};
use std::sync::PoisonError;

use super::{imp, LockClassKey};

mod atomic_context {
    // A thread of a model is not a thread of `std`, so models go without.
    #[cfg(not(any(loom, shuttle)))]
    mod imp {
        use core::cell::Cell;

        thread_local! {
            static DEPTH: Cell<usize> = const { Cell::new(0) };
        }

        pub(crate) fn enter() {
            DEPTH.set(DEPTH.get() + 1);
        }

        pub(crate) fn leave() {
            DEPTH.set(DEPTH.get() - 1);
        }

        /// Notes that the caller may sleep, which panics with a spinlock held.
        /// Panics where the kernel would warn.
        #[track_caller]
        pub fn might_sleep() {
            assert!(DEPTH.get() == 0, "sleeping with a spinlock held");
        }
    }

    #[cfg(any(loom, shuttle))]
    mod imp {
        pub(crate) fn enter() {}
        pub(crate) fn leave() {}
        /// As on std, but does not look.
        pub fn might_sleep() {}
    }

    pub use imp::*;
}

pub use atomic_context::might_sleep;

/// A lock whose holders do not sleep, and what it protects.
pub struct SpinLock<T>(imp::Mutex<T>);

impl<T> SpinLock<T> {
    /// An initializer of a lock. In the kernel this is not the lock itself.
    pub fn new(t: T, _name: &'static CStr, _class: Pin<&'static LockClassKey>) -> Self {
        Self(imp::Mutex::new(t))
    }

    /// Waits for the lock and takes it.
    pub fn lock(&self) -> SpinLockGuard<'_, T> {
        atomic_context::enter();
        // The kernel does not unwind and knows no poison.
        SpinLockGuard(self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A spinlock that is held.
pub struct SpinLockGuard<'a, T>(imp::MutexGuard<'a, T>);

impl<T> Deref for SpinLockGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: Unpin> DerefMut for SpinLockGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

impl<T> Drop for SpinLockGuard<'_, T> {
    fn drop(&mut self) {
        atomic_context::leave();
    }
}
