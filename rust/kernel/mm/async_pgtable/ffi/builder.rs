// SPDX-License-Identifier: GPL-2.0

//! The border to C: what `dup_mmap()` calls.
//!
//! C header: [`mm/async_pgtable.h`](srctree/mm/async_pgtable.h)

use core::ptr::{
    self,
    NonNull, //
};

use crate::{
    bindings,
    mm::Mm,
    prelude::*,
    sync::{
        atomic::{
            Acquire,
            Atomic,
            Full, //
        },
        Arc, //
    },
    types::ForeignOwnable,
};

use super::super::{
    builder::bookkeeping,
    Builder,
    Tracker, //
};

use super::page_tables::{
    refusal_from_c,
    Kernel,
    Payer,
    TargetVma, //
};

/// # Safety
///
/// `builder` comes from [`async_pgtable_builder_new`], is not yet freed or armed, and is used by
/// no one else.
unsafe fn builder<'a>(builder: *mut c_void) -> &'a mut Builder<Kernel> {
    // SAFETY: By the contract of this function.
    unsafe { &mut *builder.cast() }
}

/// Makes sure that `mm` has a tracker.
///
/// # Safety
///
/// `mm` is a valid `mm_struct`.
unsafe fn ensure_tracker(mm: *mut bindings::mm_struct) -> Result {
    // SAFETY: `mm` is valid, and everybody accesses the field atomically.
    let slot = unsafe {
        Atomic::<*mut c_void>::from_ptr(&raw mut (*mm).__bindgen_anon_1.async_pgtable.tracker)
    };
    // Acquire: pairs with the `cmpxchg` of another thread that forks.
    if !slot.load(Acquire).is_null() {
        return Ok(());
    }

    let new = KBox::pin_init(Tracker::<Kernel>::new(), bookkeeping())?.into_foreign();
    // Full: as a release, the tracker is initialized before others find it. Those who follow the
    // pointer depend on it.
    if slot.cmpxchg(ptr::null_mut(), new, Full).is_err() {
        // SAFETY: Comes from `into_foreign` just now, and nobody else has seen it.
        drop(unsafe { Pin::<KBox<Tracker<Kernel>>>::from_foreign(new) });
    }
    Ok(())
}

/// Begins a session that copies from `source`. Returns null without memory.
///
/// Called by `__async_pgtable_dup_begin()`, without locks.
///
/// # Safety
///
/// `source` is the mm of the current task.
#[export]
unsafe extern "C" fn async_pgtable_builder_new(source: *mut bindings::mm_struct) -> *mut c_void {
    // SAFETY: `source` is valid.
    if unsafe { ensure_tracker(source) }.is_err() {
        return ptr::null_mut();
    }
    // SAFETY: `source` is valid.
    let source = unsafe { Mm::from_raw(source) }.into();
    let builder = Builder::<Kernel>::new(source, Payer::current())
        .and_then(|builder| KBox::new(builder, bookkeeping()));
    builder.map_or(ptr::null_mut(), |builder| KBox::into_raw(builder).cast())
}

/// Gives up a session that has been begun.
///
/// Called by `__async_pgtable_dup_end()`, with both mmap_locks held for writing, or without them
/// by a fork that was killed before it had them.
///
/// # Safety
///
/// As for [`builder`]; gives it up.
#[export]
unsafe extern "C" fn async_pgtable_builder_free(builder: *mut c_void) {
    // SAFETY: By the contract of this function, it comes from `KBox::into_raw`.
    drop(unsafe { KBox::<Builder<Kernel>>::from_raw(builder.cast()) });
}

/// Remembers why a mapping is not deferred.
///
/// Called by `__async_pgtable_dup_vma()`, with both mmap_locks held for writing.
///
/// # Safety
///
/// As for [`builder`].
#[export]
unsafe extern "C" fn async_pgtable_builder_refuse(
    this: *mut c_void,
    refusal: bindings::async_pgtable_refusal,
) {
    // SAFETY: By the contract of this function.
    unsafe { builder(this) }.refuse(refusal_from_c(refusal));
}

/// Begins a mapping whose ranges in `start..end` may be deferred.
///
/// Called by `__async_pgtable_dup_vma()`, with both mmap_locks and both VMAs held for writing.
///
/// # Safety
///
/// As for [`builder`]. `target` is not null. `start` and `end` are multiples of `PMD_SIZE`, and
/// above all those before.
#[export]
unsafe extern "C" fn async_pgtable_builder_extent(
    this: *mut c_void,
    target: *mut bindings::vm_area_struct,
    start: c_ulong,
    end: c_ulong,
) {
    // SAFETY: By the contract of this function.
    let target = TargetVma(unsafe { NonNull::new_unchecked(target) });
    // SAFETY: By the contract of this function.
    unsafe { builder(this) }.extent(target, start, end);
}

/// May the range at `addr` be deferred?
///
/// Called by `__async_pgtable_defer()`, as below.
///
/// # Safety
///
/// As for [`builder`].
#[export]
unsafe extern "C" fn async_pgtable_builder_may_defer(this: *mut c_void, addr: c_ulong) -> bool {
    // SAFETY: By the contract of this function.
    unsafe { builder(this) }.may_defer(addr)
}

/// Defers the ranges of `start..end`, if they are in the mapping begun last.
///
/// Called by `__async_pgtable_defer()`, with both mmap_locks and both VMAs held for writing.
///
/// # Safety
///
/// As for [`builder`].
#[export]
unsafe extern "C" fn async_pgtable_builder_defer(
    this: *mut c_void,
    start: c_ulong,
    end: c_ulong,
) -> bool {
    // SAFETY: By the contract of this function.
    unsafe { builder(this) }.defer(start, end)
}

/// Makes a session live. Returns the child's reference, or null if nothing was deferred.
///
/// Called by `__async_pgtable_dup_end()`, with both mmap_locks held for writing, after the flush.
///
/// # Safety
///
/// As for [`builder`]; gives it up. `target` is the child's mm.
#[export]
unsafe extern "C" fn async_pgtable_builder_arm(
    this: *mut c_void,
    target: *mut bindings::mm_struct,
) -> *mut c_void {
    // SAFETY: By the contract of this function, it comes from `KBox::into_raw`.
    let builder = unsafe { KBox::<Builder<Kernel>>::from_raw(this.cast()) };
    // SAFETY: `target` is valid.
    let target = unsafe { Mm::from_raw(target) }.into();
    KBox::into_inner(builder)
        .arm(target)
        .map_or(ptr::null_mut(), |session| {
            Arc::into_raw(session).cast_mut().cast()
        })
}
