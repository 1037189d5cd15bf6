// SPDX-License-Identifier: GPL-2.0

//! The border to C: the page tables of the kernel.
//!
//! C header: [`mm/async_pgtable.h`](srctree/mm/async_pgtable.h)

use core::{
    mem::ManuallyDrop,
    ptr::NonNull, //
};

use crate::{
    alloc::AllocError,
    bindings,
    error::to_result,
    mm::{
        virt::VmaRef,
        Mm, //
    },
    prelude::*,
    sync::aref::ARef, //
};

use super::super::{
    page_tables::{
        Entry as LockedEntry,
        Event,
        PageTables,
        Party,
        Refusal, //
    },
    Tracker, //
};

/// The page tables of the kernel.
pub(super) struct Kernel;

/// A mapping of a child.
///
/// Dereferenced only while one of its ranges is claimed: every change of the mapping, and the exit
/// of the child, settles all of it first and so waits for the claim.
#[derive(Clone, Copy)]
pub(super) struct TargetVma(pub(super) NonNull<bindings::vm_area_struct>);

// SAFETY: Just a pointer; see above for its use.
unsafe impl Send for TargetVma {}
// SAFETY: As above.
unsafe impl Sync for TargetVma {}

/// An empty page table.
///
/// # Invariants
///
/// Owns a page table that is not installed anywhere.
pub(super) struct Table {
    table: bindings::pgtable_t,
    mm: *mut bindings::mm_struct,
}

impl Drop for Table {
    fn drop(&mut self) {
        // SAFETY: By the type invariant. `mm` only tells user tables from kernel ones.
        unsafe { bindings::async_pgtable_free_table(self.mm, self.table) }
    }
}

/// A parent's PMD entry.
///
/// # Invariants
///
/// `0.ptl` is held, and `0.pmd` points to a page table.
pub(super) struct Entry(bindings::async_pgtable_entry);

impl LockedEntry for Entry {
    fn unprotect(&mut self) {
        // SAFETY: By the type invariant.
        unsafe { bindings::async_pgtable_entry_unprotect(&mut self.0) }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        // SAFETY: By the type invariant.
        unsafe { bindings::async_pgtable_entry_unlock(&mut self.0) }
    }
}

/// A parent's mapping, locked by a puller.
///
/// # Invariants
///
/// `0.vma` is valid, and locked as `0.mmap_locked` says. Its mm has `mm_users`.
struct SourceLock(bindings::async_pgtable_source);

impl SourceLock {
    fn new(source: &Mm, addr: usize) -> Option<Self> {
        let mut lock = bindings::async_pgtable_source::default();
        // SAFETY: The reference keeps `mm_count`.
        let locked =
            unsafe { bindings::async_pgtable_source_lock(source.as_raw(), addr, &mut lock) };
        // INVARIANT: As documented there.
        locked.then(|| Self(lock))
    }

    fn vma(&self) -> &VmaRef {
        // SAFETY: By the type invariant, for as long as `self` lives.
        unsafe { VmaRef::from_raw(self.0.vma) }
    }
}

impl Drop for SourceLock {
    fn drop(&mut self) {
        // SAFETY: By the type invariant.
        unsafe { bindings::async_pgtable_source_unlock(&mut self.0) }
    }
}

impl PageTables for Kernel {
    const RANGE_SIZE: usize = bindings::PMD_SIZE;

    type Source = ARef<Mm>;
    type Target = ARef<Mm>;
    type TargetVma = TargetVma;
    type SourceVma<'a> = &'a VmaRef;
    type Table = Table;
    type Entry = Entry;

    fn tracker(source: &ARef<Mm>) -> &Tracker<Self> {
        // SAFETY: The sessions of a parent are made after its tracker, which lives as long as the
        // `mm_struct`.
        unsafe {
            &*(*source.as_raw())
                .__bindgen_anon_1
                .async_pgtable
                .tracker
                .cast()
        }
    }

    fn alloc_table(source: &VmaRef) -> Result<Table, AllocError> {
        let mm = source.mm().as_raw();
        // SAFETY: No requirements but that `mm` is valid.
        let table = unsafe { bindings::async_pgtable_alloc_table(mm) };
        if table.is_null() {
            return Err(AllocError);
        }
        // INVARIANT: Just allocated.
        Ok(Table { table, mm })
    }

    fn copy(source: &VmaRef, target: TargetVma, addr: usize, table: Table, party: Party) -> Result {
        let table = ManuallyDrop::new(table);
        // SAFETY: `source` is locked, `target` is kept by the caller's claim, and the table is
        // given away.
        to_result(unsafe {
            bindings::async_pgtable_copy_range(
                source.as_ptr(),
                target.0.as_ptr(),
                addr,
                table.table,
                party_to_c(party),
            )
        })
    }

    fn lock_entry(source: &VmaRef, addr: usize) -> Option<Entry> {
        let mut entry = bindings::async_pgtable_entry::default();
        // SAFETY: The mapping at `addr` is locked, so its upper page tables stay.
        let locked =
            unsafe { bindings::async_pgtable_entry_lock(source.mm().as_raw(), addr, &mut entry) };
        // INVARIANT: As documented there.
        locked.then(|| Entry(entry))
    }

    fn with_source(source: &ARef<Mm>, addr: usize, f: impl FnOnce(&VmaRef)) -> bool {
        SourceLock::new(source, addr)
            .map(|lock| f(lock.vma()))
            .is_some()
    }

    fn kill(target: &ARef<Mm>) {
        // SAFETY: The reference keeps the pointer unique; it is only compared.
        unsafe { bindings::async_pgtable_kill(target.as_raw()) }
    }

    fn count(event: Event, nr: usize) {
        // SAFETY: No requirements.
        unsafe { bindings::async_pgtable_count(event_to_c(event), nr) }
    }

    fn interrupted() -> bool {
        // SAFETY: Ranges are settled in process context, without spinlocks.
        unsafe { bindings::async_pgtable_interrupted() }
    }
}

fn party_to_c(party: Party) -> bindings::async_pgtable_party {
    match party {
        Party::Copy => bindings::async_pgtable_party_ASYNC_PGTABLE_PARTY_COPY,
        Party::Pull => bindings::async_pgtable_party_ASYNC_PGTABLE_PARTY_PULL,
        Party::Push => bindings::async_pgtable_party_ASYNC_PGTABLE_PARTY_PUSH,
    }
}

fn event_to_c(event: Event) -> bindings::vm_event_item {
    match event {
        Event::SessionStart => bindings::vm_event_item_ASYNC_PGTABLE_SESSION_START,
        Event::SessionComplete => bindings::vm_event_item_ASYNC_PGTABLE_SESSION_COMPLETE,
        Event::SessionAbandon => bindings::vm_event_item_ASYNC_PGTABLE_SESSION_ABANDON,
        Event::SessionFail => bindings::vm_event_item_ASYNC_PGTABLE_SESSION_FAIL,
        Event::RangeDefer => bindings::vm_event_item_ASYNC_PGTABLE_RANGE_DEFER,
        Event::RangeSettle(Party::Copy) => bindings::vm_event_item_ASYNC_PGTABLE_RANGE_COPY,
        Event::RangeSettle(Party::Pull) => bindings::vm_event_item_ASYNC_PGTABLE_RANGE_PULL,
        Event::RangeSettle(Party::Push) => bindings::vm_event_item_ASYNC_PGTABLE_RANGE_PUSH,
        Event::RangeAbandon => bindings::vm_event_item_ASYNC_PGTABLE_RANGE_ABANDON,
        Event::Fallback(refusal) => match refusal {
            Refusal::Small => bindings::vm_event_item_ASYNC_PGTABLE_FALLBACK_SMALL,
            Refusal::Nomem => bindings::vm_event_item_ASYNC_PGTABLE_FALLBACK_NOMEM,
            Refusal::Pinned => bindings::vm_event_item_ASYNC_PGTABLE_FALLBACK_PINNED,
            Refusal::Notifier => bindings::vm_event_item_ASYNC_PGTABLE_FALLBACK_NOTIFIER,
        },
    }
}
