// SPDX-License-Identifier: GPL-2.0

//! Duplicated from `rust/kernel/sync/aref.rs`, as far as it is used.

use core::{ops::Deref, ptr::NonNull};

/// Objects that count their references themselves.
///
/// # Safety
///
/// As in the kernel: `inc_ref` keeps the object until `dec_ref`.
pub unsafe trait AlwaysRefCounted {
    /// Takes a reference.
    fn inc_ref(&self);

    /// Drops a reference.
    ///
    /// # Safety
    ///
    /// The caller owns one.
    unsafe fn dec_ref(obj: NonNull<Self>);
}

/// An owned reference.
///
/// # Invariants
///
/// Owns one reference to the object.
pub struct ARef<T: AlwaysRefCounted>(NonNull<T>);

// SAFETY: As for a reference.
unsafe impl<T: AlwaysRefCounted + Sync> Send for ARef<T> {}
// SAFETY: As for a reference.
unsafe impl<T: AlwaysRefCounted + Sync> Sync for ARef<T> {}

impl<T: AlwaysRefCounted> Clone for ARef<T> {
    fn clone(&self) -> Self {
        (&**self).into()
    }
}

impl<T: AlwaysRefCounted> Deref for ARef<T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: By the type invariant.
        unsafe { self.0.as_ref() }
    }
}

impl<T: AlwaysRefCounted> From<&T> for ARef<T> {
    fn from(obj: &T) -> Self {
        obj.inc_ref();
        // INVARIANT: Just taken.
        Self(NonNull::from(obj))
    }
}

impl<T: AlwaysRefCounted> Drop for ARef<T> {
    fn drop(&mut self) {
        // SAFETY: By the type invariant.
        unsafe { T::dec_ref(self.0) }
    }
}
