// SPDX-License-Identifier: GPL-2.0

//! Customised from `rust/kernel/sync.rs` and below: same interface on `std`, `loom` or
//! `shuttle`.

pub mod atomic;
mod lock;

pub use lock::might_sleep;
pub use lock::{Backend, Guard, Lock, LockClassKey, SpinLock, SpinLockGuard};

use core::{mem::MaybeUninit, ops::Deref, pin::Pin};
use std::sync;

use pin_init::PinInit;

use crate::{
    alloc::{try_alloc, AllocError, Flags},
    error::{Error, Result},
};

/// A reference-counted object. Not one of loom's: nothing that is modelled depends on the count.
pub struct Arc<T>(sync::Arc<T>);

impl<T> Arc<T> {
    /// A reference-counted object as `init` makes it.
    pub fn pin_init<E>(init: impl PinInit<T, E>, flags: Flags) -> Result<Self>
    where
        Error: From<E>,
    {
        Ok(UniqueArc::new_uninit(flags)?.pin_init_with(init)?.into())
    }

    /// Gives the reference up to a pointer.
    pub fn into_raw(self) -> *const T {
        sync::Arc::into_raw(self.0)
    }

    /// Takes it back.
    ///
    /// # Safety
    ///
    /// `ptr` comes from `into_raw`, and is not used any more.
    pub unsafe fn from_raw(ptr: *const T) -> Self {
        // SAFETY: By the contract of this function.
        Self(unsafe { sync::Arc::from_raw(ptr) })
    }

    /// The number of references.
    pub fn count(this: &Self) -> usize {
        sync::Arc::strong_count(&this.0)
    }
}

impl<T> Clone for Arc<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> Deref for Arc<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> From<Pin<UniqueArc<T>>> for Arc<T> {
    fn from(unique: Pin<UniqueArc<T>>) -> Self {
        // SAFETY: An `Arc` does not move its object.
        unsafe { Pin::into_inner_unchecked(unique) }.0
    }
}

/// The only reference to a reference-counted object.
pub struct UniqueArc<T>(Arc<T>);

impl<T> UniqueArc<T> {
    /// Memory for an object.
    pub fn new_uninit(_: Flags) -> Result<UniqueArc<MaybeUninit<T>>, AllocError> {
        try_alloc()?;
        Ok(UniqueArc(Arc(sync::Arc::new(MaybeUninit::uninit()))))
    }
}

impl<T> UniqueArc<MaybeUninit<T>> {
    /// Initializes the object.
    pub fn pin_init_with<E>(self, init: impl PinInit<T, E>) -> Result<Pin<UniqueArc<T>>, E> {
        let slot = sync::Arc::into_raw(self.0 .0).cast_mut().cast::<T>();
        // SAFETY: The slot is valid and nobody else's, and pinned from here on. The layouts of `T`
        // and `MaybeUninit<T>` are the same. On failure it leaks, which nobody does here.
        unsafe {
            init.__pinned_init(slot)?;
            Ok(Pin::new_unchecked(UniqueArc(Arc(sync::Arc::from_raw(
                slot,
            )))))
        }
    }
}

impl<T> Deref for UniqueArc<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}
