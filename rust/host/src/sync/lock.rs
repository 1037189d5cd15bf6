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
/// Holders may sleep.
pub struct MutexBackend;

impl Backend for SpinLockBackend {
    const SLEEPS: bool = false;
}

impl Backend for MutexBackend {
    const SLEEPS: bool = true;
}

/// A lock whose holders do not sleep.
pub type SpinLock<T> = Lock<T, SpinLockBackend>;
/// A lock whose holders may sleep.
pub type Mutex<T> = Lock<T, MutexBackend>;

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

        #[track_caller]
        pub(crate) fn might_sleep() {
            assert!(DEPTH.get() == 0, "sleeping with a spinlock held");
        }
    }

    #[cfg(any(loom, shuttle))]
    mod imp {
        pub(crate) fn enter() {}
        pub(crate) fn leave() {}
        pub(crate) fn might_sleep() {}
    }

    pub(crate) use imp::*;
}

pub(crate) use atomic_context::might_sleep;

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
            inner: Some(self.inner.lock().unwrap_or_else(PoisonError::into_inner)),
            backend: PhantomData,
        }
    }
}

/// A lock that is held.
///
/// # Invariants
///
/// `inner` is not `None`, except in [`CondVar::wait`].
pub struct Guard<'a, T, B: Backend> {
    inner: Option<imp::MutexGuard<'a, T>>,
    backend: PhantomData<B>,
}

impl<T, B: Backend> Deref for Guard<'_, T, B> {
    type Target = T;

    fn deref(&self) -> &T {
        self.inner.as_ref().expect("held, by the type invariant")
    }
}

impl<T: Unpin, B: Backend> DerefMut for Guard<'_, T, B> {
    fn deref_mut(&mut self) -> &mut T {
        self.inner.as_mut().expect("held, by the type invariant")
    }
}

impl<T, B: Backend> Drop for Guard<'_, T, B> {
    fn drop(&mut self) {
        if !B::SLEEPS {
            atomic_context::leave();
        }
    }
}

/// A condition to wait for.
pub struct CondVar(imp::Condvar);

impl CondVar {
    /// An initializer of a condition variable.
    #[expect(clippy::new_without_default, reason = "as in the kernel")]
    pub fn new() -> Self {
        Self(imp::Condvar::new())
    }

    /// Releases the lock, sleeps until notified, and takes the lock.
    #[track_caller]
    pub fn wait<T>(&self, guard: &mut Guard<'_, T, MutexBackend>) {
        might_sleep();
        if let Some(inner) = guard.inner.take() {
            guard.inner = Some(self.0.wait(inner).unwrap_or_else(PoisonError::into_inner));
        }
    }

    /// Wakes everybody who waits.
    pub fn notify_all(&self) {
        self.0.notify_all();
    }
}

/// The class of a lock, as a static of the place where this is.
#[macro_export]
macro_rules! static_lock_class {
    () => {
        ::core::pin::Pin::new(&$crate::sync::LockClassKey)
    };
}

/// A mutex with a name for lockdep.
#[macro_export]
macro_rules! new_mutex {
    ($inner:expr $(, $name:literal)? $(,)?) => {
        $crate::sync::Mutex::new($inner, c"", $crate::static_lock_class!())
    };
}

/// A condition variable with a name for lockdep.
#[macro_export]
macro_rules! new_condvar {
    ($($name:literal)? $(,)?) => {
        $crate::sync::CondVar::new()
    };
}
