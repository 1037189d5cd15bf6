// SPDX-License-Identifier: GPL-2.0

//! Customised from `rust/kernel/sync/lock/spinlock.rs`: same interface in front of the locks of
//! `shim/sched.c`, as in the kernel, so that TSan and the scheduler know of them.

use core::{
    cell::UnsafeCell,
    ffi::CStr,
    ops::{Deref, DerefMut},
    pin::Pin,
};

use super::LockClassKey;
use crate::bindings;

/// To be called where a task may sleep.
pub fn might_sleep() {
    // SAFETY: No requirements.
    unsafe { bindings::might_sleep() }
}

/// A lock whose holders do not sleep, and what it protects.
///
/// # Invariants
///
/// `raw` is initialized, and is where it stays.
pub struct SpinLock<T> {
    raw: Box<UnsafeCell<bindings::mutex>>,
    data: UnsafeCell<T>,
}

// SAFETY: The lock gives the data to one thread at a time.
unsafe impl<T: Send> Send for SpinLock<T> {}
// SAFETY: As above.
unsafe impl<T: Send> Sync for SpinLock<T> {}

impl<T> SpinLock<T> {
    /// An initializer of a lock. In the kernel this is not the lock itself.
    pub fn new(t: T, _name: &'static CStr, _class: Pin<&'static LockClassKey>) -> Self {
        let raw = Box::<UnsafeCell<bindings::mutex>>::default();
        // SAFETY: The memory is ours.
        unsafe { bindings::mutex_init(raw.get()) };
        // INVARIANT: Just initialized, in a box.
        Self {
            raw,
            data: UnsafeCell::new(t),
        }
    }

    /// Waits for the lock and takes it.
    pub fn lock(&self) -> SpinLockGuard<'_, T> {
        // SAFETY: By the type invariant.
        unsafe { bindings::spin_lock(self.raw.get()) };
        SpinLockGuard(self)
    }
}

impl<T> Drop for SpinLock<T> {
    fn drop(&mut self) {
        // SAFETY: By the type invariant; nobody uses it any more.
        unsafe { bindings::mutex_destroy(self.raw.get()) }
    }
}

/// A spinlock that is held.
pub struct SpinLockGuard<'a, T>(&'a SpinLock<T>);

impl<T> Deref for SpinLockGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: The lock is held.
        unsafe { &*self.0.data.get() }
    }
}

impl<T: Unpin> DerefMut for SpinLockGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: The lock is held, by the owner of `self`.
        unsafe { &mut *self.0.data.get() }
    }
}

impl<T> Drop for SpinLockGuard<'_, T> {
    fn drop(&mut self) {
        // SAFETY: The lock is held.
        unsafe { bindings::spin_unlock(self.0.raw.get()) }
    }
}
