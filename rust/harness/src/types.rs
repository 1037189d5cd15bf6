// SPDX-License-Identifier: GPL-2.0

//! Duplicated from `rust/kernel/types.rs`, as far as it is used.

use core::{ffi::c_void, pin::Pin};

use crate::alloc::KBox;

/// Types that can be handed to C and taken back.
///
/// # Safety
///
/// As in the kernel: `into_foreign` returns a pointer that is not null and owns the object.
pub unsafe trait ForeignOwnable: Sized {
    /// Hands the object over.
    fn into_foreign(self) -> *mut c_void;

    /// Takes it back.
    ///
    /// # Safety
    ///
    /// `ptr` comes from `into_foreign`, and is not used any more.
    unsafe fn from_foreign(ptr: *mut c_void) -> Self;
}

// SAFETY: A box is not null and owns its object.
unsafe impl<T> ForeignOwnable for Pin<KBox<T>> {
    fn into_foreign(self) -> *mut c_void {
        // SAFETY: The object does not move, and comes back pinned.
        KBox::into_raw(unsafe { Pin::into_inner_unchecked(self) }).cast()
    }

    unsafe fn from_foreign(ptr: *mut c_void) -> Self {
        // SAFETY: By the contract of this function.
        unsafe { Pin::new_unchecked(KBox::from_raw(ptr.cast())) }
    }
}
