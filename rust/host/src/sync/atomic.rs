// SPDX-License-Identifier: GPL-2.0

//! Customised from `rust/kernel/sync/atomic.rs`: the orderings of C11 that are not stronger.
//!
//! The kernel's `Full` operations are fully ordered: everything before comes before everything
//! after. `SeqCst` operations of C11 are less than that, so here they come with a fence on either
//! side. loom treats a `SeqCst` access as `AcqRel`, but knows the fences; shuttle knows only `SeqCst`.

use super::imp::atomic as imp;
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
#[allow(missing_docs)]
pub trait AtomicType: Copy {
    /// The atomic of `std`, `loom` or `shuttle`.
    type Repr;

    #[cfg(any(loom, shuttle))]
    fn new(v: Self) -> Self::Repr;
    fn load(place: &Self::Repr, order: imp::Ordering) -> Self;
    fn store(place: &Self::Repr, v: Self, order: imp::Ordering);
    fn swap(place: &Self::Repr, v: Self, order: imp::Ordering) -> Self;
    fn cas(place: &Self::Repr, old: Self, new: Self, order: imp::Ordering) -> Result<Self, Self>;
}

/// Types that can be added to.
#[allow(missing_docs)]
pub trait AtomicAdd: AtomicType {
    fn add(place: &Self::Repr, v: Self, order: imp::Ordering) -> Self;
    fn sub(place: &Self::Repr, v: Self, order: imp::Ordering) -> Self;
}

/// A memory location that several threads use.
#[repr(transparent)]
pub struct Atomic<T: AtomicType>(Place<T>);

// As in the kernel, it can be made by a constant expression, which those of models cannot.
#[cfg(not(any(loom, shuttle)))]
type Place<T> = core::cell::UnsafeCell<T>;
#[cfg(any(loom, shuttle))]
type Place<T> = <T as AtomicType>::Repr;

// SAFETY: Shared access is atomic.
#[cfg(not(any(loom, shuttle)))]
unsafe impl<T: AtomicType> Sync for Atomic<T> {}
// SAFETY: A value of its own.
#[cfg(not(any(loom, shuttle)))]
unsafe impl<T: AtomicType> Send for Atomic<T> {}

#[cfg(not(any(loom, shuttle)))]
impl<T: AtomicType> Atomic<T> {
    /// A location with this value.
    pub const fn new(v: T) -> Self {
        Self(Place::new(v))
    }

    /// The value, for somebody who has the location to himself.
    pub fn get_mut(&mut self) -> &mut T {
        self.0.get_mut()
    }

    fn repr(&self) -> &T::Repr {
        // SAFETY: The atomics of `std` look like what they contain, and on the machines that have
        // these page tables are aligned like it. All shared access is by them.
        unsafe { &*self.0.get().cast() }
    }
}

#[cfg(any(loom, shuttle))]
impl<T: AtomicType> Atomic<T> {
    /// A location with this value.
    pub fn new(v: T) -> Self {
        Self(T::new(v))
    }

    /// The value, for somebody who has the location to himself.
    pub fn get_mut(&mut self) -> GetMut<'_, T> {
        GetMut {
            value: T::load(&self.0, imp::Ordering::Relaxed),
            place: &mut self.0,
        }
    }

    fn repr(&self) -> &T::Repr {
        &self.0
    }
}

impl<T: AtomicType> Atomic<T> {
    /// Loads the value.
    pub fn load<O: AcquireOrRelaxed>(&self, _: O) -> T {
        T::load(self.repr(), O::LOAD)
    }

    /// Stores a value.
    pub fn store<O: ReleaseOrRelaxed>(&self, v: T, _: O) {
        T::store(self.repr(), v, O::STORE)
    }

    /// Stores a value and returns the old one.
    pub fn xchg<O: Ordering>(&self, v: T, _: O) -> T {
        full::<O, _>(|| T::swap(self.repr(), v, O::RMW))
    }

    /// Stores `new` if the value is `old`. Returns the old value, as an error if it was another.
    pub fn cmpxchg<O: Ordering>(&self, old: T, new: T, _: O) -> Result<T, T> {
        full::<O, _>(|| T::cas(self.repr(), old, new, O::RMW))
    }
}

impl<T: AtomicAdd> Atomic<T> {
    /// Adds and returns the old value.
    pub fn fetch_add<O: Ordering>(&self, v: T, _: O) -> T {
        full::<O, _>(|| T::add(self.repr(), v, O::RMW))
    }

    /// Subtracts and returns the old value.
    pub fn fetch_sub<O: Ordering>(&self, v: T, _: O) -> T {
        full::<O, _>(|| T::sub(self.repr(), v, O::RMW))
    }
}

impl<T> Atomic<*mut T> {
    /// The location that `ptr` points to.
    ///
    /// # Safety
    ///
    /// `ptr` is valid for the duration of `'a`, and accessed atomically only.
    pub unsafe fn from_ptr<'a>(ptr: *mut *mut T) -> &'a Self {
        // SAFETY: By the contract of this function; the layouts are the same.
        unsafe { &*ptr.cast() }
    }
}

macro_rules! atomic_type {
    ({$($generics:tt)*} $ty:ty, $repr:ty) => {
        impl<$($generics)*> AtomicType for $ty {
            type Repr = $repr;

            #[cfg(any(loom, shuttle))]
            fn new(v: Self) -> Self::Repr {
                <$repr>::new(v)
            }

            fn load(place: &Self::Repr, order: imp::Ordering) -> Self {
                place.load(order)
            }

            fn store(place: &Self::Repr, v: Self, order: imp::Ordering) {
                place.store(v, order)
            }

            fn swap(place: &Self::Repr, v: Self, order: imp::Ordering) -> Self {
                place.swap(v, order)
            }

            fn cas(
                place: &Self::Repr,
                old: Self,
                new: Self,
                order: imp::Ordering,
            ) -> Result<Self, Self> {
                place.compare_exchange(old, new, order, imp::Ordering::Relaxed)
            }
        }
    };
}

macro_rules! atomic_add {
    ($($ty:ty, $repr:ident;)*) => { $(
        atomic_type!({} $ty, imp::$repr);

        impl AtomicAdd for $ty {
            fn add(place: &Self::Repr, v: Self, order: imp::Ordering) -> Self {
                place.fetch_add(v, order)
            }

            fn sub(place: &Self::Repr, v: Self, order: imp::Ordering) -> Self {
                place.fetch_sub(v, order)
            }
        }
    )* };
}

atomic_add! {
    u32, AtomicU32;
    u64, AtomicU64;
    usize, AtomicUsize;
}

// A pointer that is shared with C is always that of `std`: models have no C.
atomic_type!({T} *mut T, std::sync::atomic::AtomicPtr<T>);

/// The value of an atomic of a model, which does not lend it.
#[cfg(any(loom, shuttle))]
pub struct GetMut<'a, T: AtomicType> {
    value: T,
    place: &'a mut T::Repr,
}

#[cfg(any(loom, shuttle))]
impl<T: AtomicType> Drop for GetMut<'_, T> {
    fn drop(&mut self) {
        T::store(self.place, self.value, imp::Ordering::Relaxed);
    }
}

#[cfg(any(loom, shuttle))]
impl<T: AtomicType> core::ops::Deref for GetMut<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

#[cfg(any(loom, shuttle))]
impl<T: AtomicType> core::ops::DerefMut for GetMut<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.value
    }
}
