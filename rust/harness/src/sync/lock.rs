// SPDX-License-Identifier: GPL-2.0

//! Customised from `rust/kernel/sync/{lock,condvar}.rs`: same interface in front of the locks of
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
/// Holders may sleep.
pub struct MutexBackend;

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

impl Backend for MutexBackend {
    unsafe fn lock(lock: *mut bindings::mutex) {
        // SAFETY: By the contract of this function.
        unsafe { bindings::mutex_lock(lock) }
    }

    unsafe fn unlock(lock: *mut bindings::mutex) {
        // SAFETY: By the contract of this function.
        unsafe { bindings::mutex_unlock(lock) }
    }
}

/// A lock whose holders do not sleep.
pub type SpinLock<T> = Lock<T, SpinLockBackend>;
/// A lock whose holders may sleep.
pub type Mutex<T> = Lock<T, MutexBackend>;

/// To be called where a task may sleep.
pub(crate) fn might_sleep() {
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

/// A condition to wait for.
///
/// # Invariants
///
/// It is initialized, and is where it stays.
pub struct CondVar(Box<UnsafeCell<bindings::condition>>);

// SAFETY: As in the kernel.
unsafe impl Send for CondVar {}
// SAFETY: As in the kernel.
unsafe impl Sync for CondVar {}

impl CondVar {
    /// An initializer of a condition variable.
    #[expect(clippy::new_without_default, reason = "as in the kernel")]
    pub fn new() -> Self {
        let raw = Box::<UnsafeCell<bindings::condition>>::default();
        // SAFETY: The memory is ours.
        unsafe { bindings::condition_init(raw.get()) };
        // INVARIANT: Just initialized, in a box.
        Self(raw)
    }

    /// Releases the lock, sleeps until notified, and takes the lock.
    pub fn wait<T>(&self, guard: &mut Guard<'_, T, MutexBackend>) {
        // SAFETY: By the type invariant; the lock is held.
        unsafe { bindings::condition_wait(self.0.get(), guard.lock.raw.get()) }
    }

    /// Wakes everybody who waits.
    pub fn notify_all(&self) {
        // SAFETY: By the type invariant.
        unsafe { bindings::condition_wake_all(self.0.get()) }
    }
}

impl Drop for CondVar {
    fn drop(&mut self) {
        // SAFETY: By the type invariant; nobody uses it any more.
        unsafe { bindings::condition_destroy(self.0.get()) }
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
