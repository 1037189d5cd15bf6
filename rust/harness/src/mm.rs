// SPDX-License-Identifier: GPL-2.0

//! Duplicated from `rust/kernel/mm.rs`, as far as it is used.

pub mod async_pgtable;
pub mod virt;

use core::{ops::Deref, ptr::NonNull};

use crate::{bindings, sync::aref::AlwaysRefCounted};

/// A `struct mm_struct`, kept by `mm_count`.
#[repr(transparent)]
pub struct Mm {
    mm: bindings::mm_struct,
}

// SAFETY: As in the kernel: it can be dropped by any thread.
unsafe impl Send for Mm {}
// SAFETY: As in the kernel: its methods can be called by all threads at the same time.
unsafe impl Sync for Mm {}

// SAFETY: Counts its references by `mm_count`.
unsafe impl AlwaysRefCounted for Mm {
    fn inc_ref(&self) {
        // SAFETY: `self` is valid.
        unsafe { bindings::mmgrab(self.as_raw()) }
    }

    unsafe fn dec_ref(obj: NonNull<Self>) {
        // SAFETY: The caller gives up a reference.
        unsafe { bindings::mmdrop(obj.cast().as_ptr()) }
    }
}

impl Mm {
    /// The C object.
    pub fn as_raw(&self) -> *mut bindings::mm_struct {
        (&raw const self.mm).cast_mut()
    }

    /// The Rust view of a C object.
    ///
    /// # Safety
    ///
    /// `ptr` is valid, and has a positive `mm_count` for the duration of `'a`.
    pub unsafe fn from_raw<'a>(ptr: *const bindings::mm_struct) -> &'a Mm {
        // SAFETY: By the contract of this function; the layouts are the same.
        unsafe { &*ptr.cast() }
    }
}

/// A `struct mm_struct`, kept by `mm_users`.
#[repr(transparent)]
pub struct MmWithUser {
    mm: Mm,
}

impl Deref for MmWithUser {
    type Target = Mm;

    fn deref(&self) -> &Mm {
        &self.mm
    }
}

impl MmWithUser {
    /// The Rust view of a C object.
    ///
    /// # Safety
    ///
    /// `ptr` is valid, and has a positive `mm_users` for the duration of `'a`.
    pub unsafe fn from_raw<'a>(ptr: *const bindings::mm_struct) -> &'a MmWithUser {
        // SAFETY: By the contract of this function; the layouts are the same.
        unsafe { &*ptr.cast() }
    }
}
