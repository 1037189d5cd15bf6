// SPDX-License-Identifier: GPL-2.0

//! Customised from `rust/kernel/sync/{lock,condvar}.rs`: same interface on `std`, `loom` or
//! `shuttle`, with the part of lockdep that is cheap: who holds a spinlock does not sleep.

#[cfg(loom)]
use loom::sync as imp;
#[cfg(shuttle)]
use shuttle::sync as imp;
#[cfg(not(any(loom, shuttle)))]
use std::sync as imp;

use core::{
    ffi::CStr,
    marker::PhantomData,
    ops::{Deref, DerefMut},
    pin::Pin,
};
use std::sync::PoisonError;

/// The kinds of lock.
pub trait Backend {
    /// May a holder sleep?
    const SLEEPS: bool;
}

/// Holders do not sleep.
pub struct SpinLockBackend;

impl Backend for SpinLockBackend {
    const SLEEPS: bool = false;
}

/// A lock whose holders do not sleep.
pub type SpinLock<T> = Lock<T, SpinLockBackend>;
/// A spinlock that is held.
pub type SpinLockGuard<'a, T> = Guard<'a, T, SpinLockBackend>;

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

/// A class of locks for lockdep. Nothing here tells one from another.
pub struct LockClassKey;

/// A lock and what it protects.
pub struct Lock<T, B: Backend> {
    inner: imp::Mutex<T>,
    backend: PhantomData<B>,
}

impl<T, B: Backend> Lock<T, B> {
    /// An initializer of a lock. In the kernel this is not the lock itself.
    pub fn new(t: T, _name: &'static CStr, _class: Pin<&'static LockClassKey>) -> Self {
        Self {
            inner: imp::Mutex::new(t),
            backend: PhantomData,
        }
    }

    /// Waits for the lock and takes it.
    #[track_caller]
    pub fn lock(&self) -> Guard<'_, T, B> {
        if B::SLEEPS {
            might_sleep();
        } else {
            atomic_context::enter();
        }
        Guard {
            // The kernel does not unwind and knows no poison.
            inner: self.inner.lock().unwrap_or_else(PoisonError::into_inner),
            backend: PhantomData,
        }
    }
}

/// A lock that is held.
pub struct Guard<'a, T, B: Backend> {
    inner: imp::MutexGuard<'a, T>,
    backend: PhantomData<B>,
}

impl<T, B: Backend> Deref for Guard<'_, T, B> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.inner
    }
}

impl<T: Unpin, B: Backend> DerefMut for Guard<'_, T, B> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.inner
    }
}

impl<T, B: Backend> Drop for Guard<'_, T, B> {
    fn drop(&mut self) {
        if !B::SLEEPS {
            atomic_context::leave();
        }
    }
}

/// The class of a lock, as a static of the place where this is.
#[macro_export]
macro_rules! static_lock_class {
    () => {
        ::core::pin::Pin::new(&$crate::sync::LockClassKey)
    };
}
