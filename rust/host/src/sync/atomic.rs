// SPDX-License-Identifier: GPL-2.0

//! Customised from `rust/kernel/sync/atomic.rs`: the orderings of C11 that are not stronger.
//!
//! The kernel's `Full` operations are fully ordered: everything before comes before everything
//! after. `SeqCst` operations of C11 are less than that, so here they come with a fence on either
//! side. loom treats a `SeqCst` access as `AcqRel`, but knows the fences.

#[cfg(loom)]
use loom::sync::atomic as imp;
#[cfg(not(loom))]
use std::sync::atomic as imp;

use imp::Ordering::SeqCst;

/// How an operation is ordered.
pub trait Ordering {
    /// A fence on either side.
    const FULL: bool = false;
    /// The ordering of a load.
    const LOAD: imp::Ordering = imp::Ordering::Relaxed;
    /// The ordering of a store.
    const STORE: imp::Ordering = imp::Ordering::Relaxed;
    /// The ordering of an operation that does both.
    const RMW: imp::Ordering;
}

/// No order.
pub struct Relaxed;
/// Later accesses come after the load.
pub struct Acquire;
/// Earlier accesses come before the store.
pub struct Release;
/// Both, and the store before the loads that come after.
pub struct Full;

impl Ordering for Relaxed {
    const RMW: imp::Ordering = imp::Ordering::Relaxed;
}

impl Ordering for Acquire {
    const LOAD: imp::Ordering = imp::Ordering::Acquire;
    const RMW: imp::Ordering = imp::Ordering::Acquire;
}

impl Ordering for Release {
    const STORE: imp::Ordering = imp::Ordering::Release;
    const RMW: imp::Ordering = imp::Ordering::Release;
}

impl Ordering for Full {
    const FULL: bool = true;
    const RMW: imp::Ordering = SeqCst;
}

/// Orderings of loads.
pub trait AcquireOrRelaxed: Ordering {}
impl AcquireOrRelaxed for Acquire {}
impl AcquireOrRelaxed for Relaxed {}

/// Orderings of stores.
pub trait ReleaseOrRelaxed: Ordering {}
impl ReleaseOrRelaxed for Release {}
impl ReleaseOrRelaxed for Relaxed {}

fn full<O: Ordering, R>(f: impl FnOnce() -> R) -> R {
    if O::FULL {
        imp::fence(SeqCst);
    }
    let ret = f();
    if O::FULL {
        imp::fence(SeqCst);
    }
    ret
}

/// Types that an [`Atomic`] can have.
pub trait AtomicType: Copy {
    /// The atomic of `std` or `loom`.
    type Repr;
}

/// A memory location that several threads use.
pub struct Atomic<T: AtomicType>(T::Repr);

macro_rules! atomic {
    ($($ty:ty, $repr:ident;)*) => { $(
        impl AtomicType for $ty {
            type Repr = imp::$repr;
        }

        impl Atomic<$ty> {
            /// A location with this value.
            pub fn new(v: $ty) -> Self {
                Self(imp::$repr::new(v))
            }

            /// The value, for somebody who has the location to himself.
            #[cfg(not(loom))]
            pub fn get_mut(&mut self) -> &mut $ty {
                self.0.get_mut()
            }

            /// The value, for somebody who has the location to himself.
            #[cfg(loom)]
            pub fn get_mut(&mut self) -> GetMut<'_, $ty> {
                GetMut { value: self.0.with_mut(|v| *v), place: &mut self.0 }
            }

            /// Loads the value.
            pub fn load<O: AcquireOrRelaxed>(&self, _: O) -> $ty {
                self.0.load(O::LOAD)
            }

            /// Stores a value.
            pub fn store<O: ReleaseOrRelaxed>(&self, v: $ty, _: O) {
                self.0.store(v, O::STORE)
            }

            /// Stores a value and returns the old one.
            pub fn xchg<O: Ordering>(&self, v: $ty, _: O) -> $ty {
                full::<O, _>(|| self.0.swap(v, O::RMW))
            }

            /// Stores `new` if the value is `old`. Returns the old value, as an error if it was
            /// another.
            pub fn cmpxchg<O: Ordering>(&self, old: $ty, new: $ty, _: O) -> Result<$ty, $ty> {
                full::<O, _>(|| {
                    self.0.compare_exchange(old, new, O::RMW, imp::Ordering::Relaxed)
                })
            }

            /// Adds and returns the old value.
            pub fn fetch_add<O: Ordering>(&self, v: $ty, _: O) -> $ty {
                full::<O, _>(|| self.0.fetch_add(v, O::RMW))
            }

            /// Subtracts and returns the old value.
            pub fn fetch_sub<O: Ordering>(&self, v: $ty, _: O) -> $ty {
                full::<O, _>(|| self.0.fetch_sub(v, O::RMW))
            }
        }

        #[cfg(loom)]
        impl Drop for GetMut<'_, $ty> {
            fn drop(&mut self) {
                let value = self.value;
                self.place.with_mut(|v| *v = value);
            }
        }
    )* };
}

atomic! {
    u32, AtomicU32;
    u64, AtomicU64;
    usize, AtomicUsize;
}

/// loom lends the value of an atomic to a closure only.
#[cfg(loom)]
pub struct GetMut<'a, T: AtomicType> {
    value: T,
    place: &'a mut T::Repr,
}

#[cfg(loom)]
impl<T: AtomicType> core::ops::Deref for GetMut<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

#[cfg(loom)]
impl<T: AtomicType> core::ops::DerefMut for GetMut<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.value
    }
}
