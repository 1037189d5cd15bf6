// SPDX-License-Identifier: GPL-2.0

//! The border to C: the functions that C calls.
//!
//! C header: [`mm/async_pgtable.h`](srctree/mm/async_pgtable.h)
//!
//! All of `unsafe` is in this module and those below it, but for what a claim is the proof of: see
//! [`PageTables::copy`](super::PageTables::copy) and `with_source`.
//!
//! All pointers to sessions, trackers and builders are fields of `struct async_pgtable_mm`:
//!
//! - `tracker` is set once, before anything is protected, and freed with the `mm_struct`. Other
//!   threads of the parent may look at it meanwhile, so C reads it with `READ_ONCE()`.
//! - `session` is set by `dup_mmap()` before the child is reachable, and owns a reference until
//!   `__mmput()` is past `exit_mmap()`.
//! - `builder` is only used by the task that forks.

mod builder;
mod page_tables;

use core::mem::offset_of;

use crate::{
    bindings,
    mm::virt::VmaRef,
    prelude::*,
    sync::Arc,
    types::ForeignOwnable, //
};

use super::{
    Patience,
    Session,
    Tracker, //
};

use page_tables::Kernel;

/// # Safety
///
/// `session` comes from `async_pgtable_builder_arm()`, and is not put for the duration of `'a`.
unsafe fn session<'a>(session: *mut c_void) -> &'a Session<Kernel> {
    // SAFETY: By the contract of this function.
    unsafe { &*session.cast() }
}

/// # Safety
///
/// `tracker` is that of an `mm_struct` that stays for the duration of `'a`.
unsafe fn tracker<'a>(tracker: *mut c_void) -> &'a Tracker<Kernel> {
    // SAFETY: By the contract of this function.
    unsafe { &*tracker.cast() }
}

/// Settles what overlaps `start..end`, on behalf of somebody who looks at the child.
///
/// Called by the hooks on a child's mapping, with the child's mmap_lock or VMA lock held. See
/// [`Session::pull_as`] for `must` and `killable`.
///
/// # Safety
///
/// As for [`session`].
#[export]
unsafe extern "C" fn async_pgtable_session_pull(
    this: *mut c_void,
    start: c_ulong,
    end: c_ulong,
    must: bool,
    killable: bool,
) -> c_int {
    // SAFETY: By the contract of this function.
    match unsafe { session(this) }.pull_as(start, end, must, killable) {
        Ok(()) => 0,
        Err(err) => err.to_errno(),
    }
}

/// Copies what is pending, until the task is killed.
///
/// Called by the child, without locks.
///
/// # Safety
///
/// As for [`session`].
#[export]
unsafe extern "C" fn async_pgtable_session_copy_all(this: *mut c_void) -> c_int {
    // SAFETY: By the contract of this function.
    match unsafe { session(this) }.copy_all() {
        Ok(()) => 0,
        Err(err) => err.to_errno(),
    }
}

/// Is anything in `start..end` still to be copied?
///
/// # Safety
///
/// As for [`session`].
#[export]
unsafe extern "C" fn async_pgtable_session_overlaps(
    this: *mut c_void,
    start: c_ulong,
    end: c_ulong,
) -> bool {
    // SAFETY: By the contract of this function.
    unsafe { session(this) }.is_waited_for(start, end)
}

/// Number of ranges that the child waits for.
///
/// # Safety
///
/// As for [`session`].
#[export]
unsafe extern "C" fn async_pgtable_session_pending(this: *mut c_void) -> c_ulong {
    // SAFETY: By the contract of this function.
    unsafe { session(this) }.pending()
}

/// Ends the session because the child is gone, and waits until nobody copies to it.
///
/// Called by the child's task when it exits, and by `__mmput()`, without locks.
///
/// # Safety
///
/// As for [`session`].
#[export]
unsafe extern "C" fn async_pgtable_session_abandon(this: *mut c_void) {
    // SAFETY: By the contract of this function.
    unsafe { session(this) }.abandon();
}

/// Drops the child's reference.
///
/// Called by `__mmput()` of the child, without locks.
///
/// # Safety
///
/// As for [`session`]; gives the reference up.
#[export]
unsafe extern "C" fn async_pgtable_session_put(this: *mut c_void) {
    // SAFETY: By the contract of this function, it comes from `Arc::into_raw`.
    drop(unsafe { Arc::<Session<Kernel>>::from_raw(this.cast()) });
}

const _: () = {
    type ForC = bindings::async_pgtable_patience;
    assert!(size_of::<Patience>() == size_of::<ForC>());
    assert!(align_of::<Patience>() == align_of::<ForC>());
    assert!(offset_of!(Patience, one_try) == offset_of!(ForC, one_try));
};

/// Settles what overlaps `start..end` in every session of a parent.
///
/// Called by the hooks on a parent's mapping. See [`Tracker::push_as`] for `patience`, which is
/// null for who comes back, and `killable`.
///
/// # Safety
///
/// As for [`tracker`]. `source` is a mapping of the same mm that covers `start..end` as far as
/// that is pending, and is locked, or detached by a `munmap()` that is past failing. `patience` is
/// null, or valid and the caller's alone, and was zero at first, or with one try.
#[export]
unsafe extern "C" fn async_pgtable_tracker_push(
    this: *mut c_void,
    source: *mut bindings::vm_area_struct,
    start: c_ulong,
    end: c_ulong,
    patience: *mut bindings::async_pgtable_patience,
    killable: bool,
) -> c_int {
    // SAFETY: By the contract of this function.
    let (this, source) = unsafe { (tracker(this), VmaRef::from_raw(source)) };
    // SAFETY: By the contract of this function; a `Patience` is what C has, as asserted above.
    let patience = unsafe { patience.cast::<Patience>().as_mut() };
    match this.push_as(source, start, end, patience, killable) {
        Ok(()) => 0,
        Err(err) => err.to_errno(),
    }
}

/// The same for the sessions that are not in `full`, see [`Tracker::push_some`].
///
/// Called by the last task that leaves a parent, and with the mmap_lock held for writing.
///
/// # Safety
///
/// As for [`async_pgtable_tracker_push`]. `full` is valid for reading and writing.
#[export]
unsafe extern "C" fn async_pgtable_tracker_push_some(
    this: *mut c_void,
    source: *mut bindings::vm_area_struct,
    start: c_ulong,
    end: c_ulong,
    full: *mut u32,
) -> bool {
    // SAFETY: By the contract of this function.
    let (this, source, full) = unsafe { (tracker(this), VmaRef::from_raw(source), &mut *full) };
    this.push_some(source, start, end, full)
}

/// Settles some of `start..end` in those sessions that somebody waits for, see [`Tracker::help`].
///
/// Called by whoever locks a parent's mapping for writing, before that, with the mmap_lock held for
/// writing, which will do as well.
///
/// # Safety
///
/// As for [`async_pgtable_tracker_push`], but for the lock.
#[export]
unsafe extern "C" fn async_pgtable_tracker_help(
    this: *mut c_void,
    source: *mut bindings::vm_area_struct,
    start: c_ulong,
    end: c_ulong,
) {
    // SAFETY: By the contract of this function.
    let (this, source) = unsafe { (tracker(this), VmaRef::from_raw(source)) };
    this.help(source, start, end);
}

/// Notes that a parent's mapping in `start..end` is locked for writing next.
///
/// Called with the mmap_lock held for writing, whose sequence number is `seq`.
///
/// # Safety
///
/// As for [`tracker`].
#[export]
unsafe extern "C" fn async_pgtable_tracker_locks(
    this: *mut c_void,
    seq: c_uint,
    start: c_ulong,
    end: c_ulong,
) {
    // SAFETY: By the contract of this function.
    unsafe { tracker(this) }.locks(seq, start, end);
}

/// Between which addresses a parent's mappings are that are locked for writing.
///
/// Called with the mmap_lock held for writing, whose sequence number is `seq`.
///
/// # Safety
///
/// As for [`tracker`]; `start` and `end` can be written.
#[export]
unsafe extern "C" fn async_pgtable_tracker_locked(
    this: *mut c_void,
    seq: c_uint,
    start: *mut c_ulong,
    end: *mut c_ulong,
) {
    // SAFETY: By the contract of this function.
    let (this, start, end) = unsafe { (tracker(this), &mut *start, &mut *end) };
    let locked = this.locked(seq);
    (*start, *end) = (locked.start, locked.end);
}

/// What is locked for writing need not be known any more: nothing is pending there.
///
/// Called with the mmap_lock held for writing.
///
/// # Safety
///
/// As for [`tracker`].
#[export]
unsafe extern "C" fn async_pgtable_tracker_forget_locked(this: *mut c_void) {
    // SAFETY: By the contract of this function.
    unsafe { tracker(this) }.forget_locked();
}

/// All leave the parent's memory, and one found no memory for a child: nothing is written any more.
///
/// # Safety
///
/// As for [`tracker`].
#[export]
unsafe extern "C" fn async_pgtable_tracker_give_up_writes(this: *mut c_void) {
    // SAFETY: By the contract of this function.
    unsafe { tracker(this) }.give_up_writes();
}

/// Is it so?
///
/// # Safety
///
/// As for [`tracker`].
#[export]
unsafe extern "C" fn async_pgtable_tracker_gave_up_writes(this: *mut c_void) -> bool {
    // SAFETY: By the contract of this function.
    unsafe { tracker(this) }.gave_up_writes()
}

/// Gives up the children of a parent that are being killed.
///
/// # Safety
///
/// As for [`tracker`].
#[export]
unsafe extern "C" fn async_pgtable_tracker_forget_dying(this: *mut c_void) {
    // SAFETY: By the contract of this function.
    unsafe { tracker(this) }.forget_dying();
}

/// Waits for those who are copying from a parent that has settled everything.
///
/// Called by `__mmput()`, before the mappings are taken down.
///
/// # Safety
///
/// As for [`tracker`].
#[export]
unsafe extern "C" fn async_pgtable_tracker_quiesce(this: *mut c_void) {
    // SAFETY: By the contract of this function.
    unsafe { tracker(this) }.quiesce();
}

/// Lifts a protection that no session needs any more.
///
/// Called by the write fault, with the VMA or the mmap_lock held.
///
/// # Safety
///
/// As for [`async_pgtable_tracker_push`].
#[export]
unsafe extern "C" fn async_pgtable_tracker_repair(
    this: *mut c_void,
    source: *mut bindings::vm_area_struct,
    addr: c_ulong,
) {
    // SAFETY: By the contract of this function.
    let (this, source) = unsafe { (tracker(this), VmaRef::from_raw(source)) };
    this.repair(source, addr);
}

/// The first address in `start..end` at which any session of a parent has something to settle, or
/// `end`.
///
/// # Safety
///
/// As for [`tracker`].
#[export]
unsafe extern "C" fn async_pgtable_tracker_next(
    this: *mut c_void,
    start: c_ulong,
    end: c_ulong,
) -> c_ulong {
    // SAFETY: By the contract of this function.
    unsafe { tracker(this) }
        .next_pending(start, end)
        .unwrap_or(end)
}

/// Does a parent have no session?
///
/// # Safety
///
/// As for [`tracker`].
#[export]
unsafe extern "C" fn async_pgtable_tracker_is_idle(this: *mut c_void) -> bool {
    // SAFETY: By the contract of this function.
    unsafe { tracker(this) }.is_idle()
}

/// Number of sessions of a parent.
///
/// # Safety
///
/// As for [`tracker`].
#[export]
unsafe extern "C" fn async_pgtable_tracker_sessions(this: *mut c_void) -> c_ulong {
    // SAFETY: By the contract of this function.
    unsafe { tracker(this) }.sessions()
}

/// Fails every session of a parent that is about to be reaped.
///
/// Called by the OOM reaper with the parent's mmap_lock held for reading, and, without locks, by the
/// last task that leaves the mm of an OOM victim and by `__mmput()`.
///
/// # Safety
///
/// As for [`tracker`].
#[export]
unsafe extern "C" fn async_pgtable_tracker_abort(this: *mut c_void) {
    // SAFETY: By the contract of this function.
    unsafe { tracker(this) }.abort();
}

/// Frees the tracker of an `mm_struct` that is being freed. May be called in atomic context.
///
/// # Safety
///
/// As for [`tracker`]; gives it up. There are no sessions: each keeps its parent's `mm_struct`.
#[export]
unsafe extern "C" fn async_pgtable_tracker_free(this: *mut c_void) {
    // SAFETY: By the contract of this function, it comes from `into_foreign`.
    drop(unsafe { Pin::<KBox<Tracker<Kernel>>>::from_foreign(this) });
}
