// SPDX-License-Identifier: GPL-2.0

//! Customised from `rust/kernel/sync/arc.rs`. The count is std's in every build: nothing that is
//! modelled depends on it.

use core::{
    mem::MaybeUninit,
    ops::Deref,
    pin::Pin,
    ptr::NonNull,
    sync::atomic::{
        AtomicUsize,
        Ordering::{AcqRel, Relaxed},
    },
};

use pin_init::PinInit;

use crate::{
    alloc::{try_alloc, AllocError, Flags},
    error::{Error, Result},
};

/// The layouts for `T` and `MaybeUninit<T>` are the same.
#[repr(C)]
struct Inner<T> {
    count: AtomicUsize,
    data: T,
}

/// A reference-counted object. Not std's: its destructor has a fence, which TSan does not know.
///
/// # Invariants
///
/// Owns one of `count` references.
pub struct Arc<T>(NonNull<Inner<T>>);

// SAFETY: As std's.
unsafe impl<T: Send + Sync> Send for Arc<T> {}
// SAFETY: As std's.
unsafe impl<T: Send + Sync> Sync for Arc<T> {}

impl<T> Arc<T> {
    /// A reference-counted object.
    fn new(data: T) -> Self {
        let count = AtomicUsize::new(1);
        // INVARIANT: The only reference.
        Self(NonNull::from(Box::leak(Box::new(Inner { count, data }))))
    }

    /// A reference-counted object as `init` makes it.
    pub fn pin_init<E>(init: impl PinInit<T, E>, flags: Flags) -> Result<Self>
    where
        Error: From<E>,
    {
        Ok(UniqueArc::new_uninit(flags)?.pin_init_with(init)?.into())
    }

    /// Gives the reference up to a pointer.
    pub fn into_raw(self) -> *const T {
        let inner = core::mem::ManuallyDrop::new(self).0.as_ptr();
        // SAFETY: By the type invariant it is valid.
        unsafe { &raw const (*inner).data }
    }

    /// Takes it back.
    ///
    /// # Safety
    ///
    /// `ptr` comes from `into_raw`, and is not used any more.
    pub unsafe fn from_raw(ptr: *const T) -> Self {
        let offset = core::mem::offset_of!(Inner<T>, data);
        // SAFETY: By the contract of this function it is the `data` of an `Inner`.
        let inner = unsafe { ptr.byte_sub(offset) }
            .cast::<Inner<T>>()
            .cast_mut();
        // INVARIANT: The reference that `into_raw` has given up.
        // SAFETY: Not null, as it is valid.
        Self(unsafe { NonNull::new_unchecked(inner) })
    }
}

impl<T> Clone for Arc<T> {
    fn clone(&self) -> Self {
        // SAFETY: By the type invariant.
        unsafe { self.0.as_ref() }.count.fetch_add(1, Relaxed);
        // INVARIANT: Just counted.
        Self(self.0)
    }
}

impl<T> Drop for Arc<T> {
    fn drop(&mut self) {
        // As refcount_dec_and_test(): what others did with their references comes before the end.
        // SAFETY: By the type invariant.
        if unsafe { self.0.as_ref() }.count.fetch_sub(1, AcqRel) == 1 {
            // SAFETY: That was the last one; it comes from a box.
            drop(unsafe { Box::from_raw(self.0.as_ptr()) });
        }
    }
}

impl<T> Deref for Arc<T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: By the type invariant.
        &unsafe { self.0.as_ref() }.data
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
        Ok(UniqueArc(Arc::new(MaybeUninit::uninit())))
    }
}

impl<T> UniqueArc<MaybeUninit<T>> {
    /// Initializes the object.
    pub fn pin_init_with<E>(self, init: impl PinInit<T, E>) -> Result<Pin<UniqueArc<T>>, E> {
        let slot = self.0.into_raw().cast_mut().cast::<T>();
        // SAFETY: The slot is valid and nobody else's, and pinned from here on. The layouts of `T`
        // and `MaybeUninit<T>` are the same. On failure it leaks, which nobody does here.
        unsafe {
            init.__pinned_init(slot)?;
            Ok(Pin::new_unchecked(UniqueArc(Arc::from_raw(slot))))
        }
    }
}

impl<T> Deref for UniqueArc<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}
