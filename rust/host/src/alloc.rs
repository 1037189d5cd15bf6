// SPDX-License-Identifier: GPL-2.0

//! Customised from `rust/kernel/alloc.rs` and below: same interface, memory from `std`, and
//! allocations that fail when a test wants them to.

use core::{
    ops::{Deref, DerefMut},
    pin::Pin,
};

use pin_init::PinInit;

/// There is no memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AllocError;

/// How to allocate; of no effect.
#[derive(Clone, Copy)]
pub struct Flags;

impl core::ops::BitOr for Flags {
    type Output = Self;

    fn bitor(self, _: Self) -> Self {
        self
    }
}

/// Allocation flags.
pub mod flags {
    use super::Flags;

    /// Ordinary.
    pub const GFP_KERNEL: Flags = Flags;
    /// Ordinary, and accounted.
    pub const GFP_KERNEL_ACCOUNT: Flags = Flags;
    /// Without much effort.
    pub const __GFP_NORETRY: Flags = Flags;
    /// Without a report.
    pub const __GFP_NOWARN: Flags = Flags;
}

mod fail;

pub use fail::*;

/// A vector.
#[derive(Debug)]
pub struct KVec<T>(Vec<T>);

/// A vector, possibly of pages that are not contiguous.
pub type KVVec<T> = KVec<T>;

impl<T> Default for KVec<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> KVec<T> {
    /// An empty vector.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// An empty vector with room for `capacity` elements.
    pub fn with_capacity(capacity: usize, _: Flags) -> Result<Self, AllocError> {
        try_alloc()?;
        Ok(Self(Vec::with_capacity(capacity)))
    }

    /// Number of elements there is room for.
    pub fn capacity(&self) -> usize {
        self.0.capacity()
    }

    /// Appends an element.
    pub fn push(&mut self, v: T, _: Flags) -> Result<(), AllocError> {
        if self.0.len() == self.0.capacity() {
            try_alloc()?;
        }
        self.0.push(v);
        Ok(())
    }
}

impl<T> Deref for KVec<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.0
    }
}

impl<T> DerefMut for KVec<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.0
    }
}

/// A box.
pub struct KBox<T>(Box<T>);

impl<T> KBox<T> {
    /// A box of `x`.
    pub fn new(x: T, _: Flags) -> Result<Self, AllocError> {
        try_alloc()?;
        Ok(Self(Box::new(x)))
    }

    /// A box of what `init` makes.
    pub fn pin_init<E>(init: impl PinInit<T, E>, _: Flags) -> crate::error::Result<Pin<Self>>
    where
        crate::error::Error: From<E>,
    {
        try_alloc()?;
        let mut uninit = Box::<T>::new_uninit();
        // SAFETY: The slot is valid, pinned from here on, and only used if this succeeds.
        unsafe {
            init.__pinned_init(uninit.as_mut_ptr())?;
            Ok(Pin::new_unchecked(Self(uninit.assume_init())))
        }
    }

    /// Gives the object up to a pointer.
    pub fn into_raw(b: Self) -> *mut T {
        Box::into_raw(b.0)
    }

    /// Takes it back.
    ///
    /// # Safety
    ///
    /// `raw` comes from `into_raw`, and is not used any more.
    pub unsafe fn from_raw(raw: *mut T) -> Self {
        // SAFETY: By the contract of this function.
        Self(unsafe { Box::from_raw(raw) })
    }

    /// Moves the object out.
    pub fn into_inner(b: Self) -> T {
        *b.0
    }
}

impl<T> Deref for KBox<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}
