// SPDX-License-Identifier: GPL-2.0

//! Customised from `rust/kernel/sync/lock.rs`: same interface in front of the locks of
//! `shim/sched.c`, as in the kernel, so that TSan and the scheduler know of them.

use core::{
    cell::UnsafeCell,
    ffi::CStr,
    marker::PhantomData,
    ops::{Deref, DerefMut},
    pin::Pin,
};

use crate::bindings;

/// The kinds of lock.
pub trait Backend {
    /// Takes the lock.
    ///
    /// # Safety
    ///
    /// `lock` is initialized, and does not move.
    unsafe fn lock(lock: *mut bindings::mutex);

    /// Releases it.
    ///
    /// # Safety
    ///
    /// The caller holds it.
    unsafe fn unlock(lock: *mut bindings::mutex);
}

/// Holders do not sleep.
pub struct SpinLockBackend;

impl Backend for SpinLockBackend {
    unsafe fn lock(lock: *mut bindings::mutex) {
        // SAFETY: By the contract of this function.
        unsafe { bindings::spin_lock(lock) }
    }

    unsafe fn unlock(lock: *mut bindings::mutex) {
        // SAFETY: By the contract of this function.
        unsafe { bindings::spin_unlock(lock) }
    }
}

/// A lock whose holders do not sleep.
pub type SpinLock<T> = Lock<T, SpinLockBackend>;
/// A spinlock that is held.
pub type SpinLockGuard<'a, T> = Guard<'a, T, SpinLockBackend>;

/// To be called where a task may sleep.
pub fn might_sleep() {
    // SAFETY: No requirements.
    unsafe { bindings::might_sleep() }
}

/// A class of locks for lockdep. Nothing here tells one from another.
pub struct LockClassKey;

/// A lock and what it protects.
///
/// # Invariants
///
/// `raw` is initialized, and is where it stays.
pub struct Lock<T, B: Backend> {
    raw: Box<UnsafeCell<bindings::mutex>>,
    data: UnsafeCell<T>,
    backend: PhantomData<B>,
}

// SAFETY: The lock gives the data to one thread at a time.
unsafe impl<T: Send, B: Backend> Send for Lock<T, B> {}
// SAFETY: As above.
unsafe impl<T: Send, B: Backend> Sync for Lock<T, B> {}

impl<T, B: Backend> Lock<T, B> {
    /// An initializer of a lock. In the kernel this is not the lock itself.
    pub fn new(t: T, _name: &'static CStr, _class: Pin<&'static LockClassKey>) -> Self {
        let raw = Box::<UnsafeCell<bindings::mutex>>::default();
        // SAFETY: The memory is ours.
        unsafe { bindings::mutex_init(raw.get()) };
        // INVARIANT: Just initialized, in a box.
        Self {
            raw,
            data: UnsafeCell::new(t),
            backend: PhantomData,
        }
    }

    /// Waits for the lock and takes it.
    pub fn lock(&self) -> Guard<'_, T, B> {
        // SAFETY: By the type invariant.
        unsafe { B::lock(self.raw.get()) };
        Guard { lock: self }
    }
}

impl<T, B: Backend> Drop for Lock<T, B> {
    fn drop(&mut self) {
        // SAFETY: By the type invariant; nobody uses it any more.
        unsafe { bindings::mutex_destroy(self.raw.get()) }
    }
}

/// A lock that is held.
pub struct Guard<'a, T, B: Backend> {
    lock: &'a Lock<T, B>,
}

impl<T, B: Backend> Deref for Guard<'_, T, B> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: The lock is held.
        unsafe { &*self.lock.data.get() }
    }
}

impl<T: Unpin, B: Backend> DerefMut for Guard<'_, T, B> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: The lock is held, by the owner of `self`.
        unsafe { &mut *self.lock.data.get() }
    }
}

impl<T, B: Backend> Drop for Guard<'_, T, B> {
    fn drop(&mut self) {
        // SAFETY: The lock is held.
        unsafe { B::unlock(self.lock.raw.get()) }
    }
}

/// The class of a lock, as a static of the place where this is.
#[macro_export]
macro_rules! static_lock_class {
    () => {
        ::core::pin::Pin::new(&$crate::sync::LockClassKey)
    };
}
