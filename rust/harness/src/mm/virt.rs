// SPDX-License-Identifier: GPL-2.0

//! Duplicated from `rust/kernel/mm/virt.rs`, as far as it is used.

use crate::{bindings, mm::MmWithUser};

/// A `struct vm_area_struct`, locked for reading or stronger.
#[repr(transparent)]
pub struct VmaRef {
    vma: bindings::vm_area_struct,
}

impl VmaRef {
    /// The Rust view of a C object.
    ///
    /// # Safety
    ///
    /// `vma` is valid, and locked for the duration of `'a`.
    pub unsafe fn from_raw<'a>(vma: *const bindings::vm_area_struct) -> &'a Self {
        // SAFETY: By the contract of this function; the layouts are the same.
        unsafe { &*vma.cast() }
    }

    /// The C object.
    pub fn as_ptr(&self) -> *mut bindings::vm_area_struct {
        (&raw const self.vma).cast_mut()
    }

    /// The address space.
    pub fn mm(&self) -> &MmWithUser {
        // SAFETY: The lock keeps `mm_users`.
        unsafe { MmWithUser::from_raw(self.vma.vm_mm) }
    }
}
