// SPDX-License-Identifier: GPL-2.0

//! Customised from `rust/kernel/sync.rs`: locks and atomics are of `std`, `loom` or `shuttle`.

mod arc;
pub mod aref;
pub mod atomic;
mod lock;

#[cfg(loom)]
use loom::sync as imp;
#[cfg(shuttle)]
use shuttle::sync as imp;
#[cfg(not(any(loom, shuttle)))]
use std::sync as imp;

pub use arc::{Arc, UniqueArc};
pub use lock::{might_sleep, SpinLock, SpinLockGuard};

/// A class of locks for lockdep. Nothing here tells one from another.
pub struct LockClassKey;

/// The class of a lock, as a static of the place where this is.
#[macro_export]
macro_rules! static_lock_class {
    () => {
        ::core::pin::Pin::new(&$crate::sync::LockClassKey)
    };
}
