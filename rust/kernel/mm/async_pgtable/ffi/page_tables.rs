// SPDX-License-Identifier: GPL-2.0

//! The border to C: the page tables of the kernel.
//!
//! C header: [`mm/async_pgtable.h`](srctree/mm/async_pgtable.h)

use core::ptr::{
    self,
    NonNull, //
};

use crate::{
    bindings,
    error::to_result,
    mm::{
        virt::VmaRef,
        Mm, //
    },
    prelude::*,
    sync::{
        aref::ARef,
        atomic::{
            Acquire,
            Atomic, //
        }, //
    }, //
};

use super::super::{
    page_tables::{
        Entry as LockedEntry,
        Event,
        PageTables,
        Party,
        Refusal, //
    },
    tracker::MAX_SESSIONS,
    Tracker, //
};

/// The page tables of the kernel.
pub(super) struct Kernel;

pub(super) fn refusal_from_c(refusal: bindings::async_pgtable_refusal) -> Refusal {
    match refusal {
        bindings::async_pgtable_refusal_ASYNC_PGTABLE_REFUSAL_NOTIFIER => Refusal::Notifier,
        bindings::async_pgtable_refusal_ASYNC_PGTABLE_REFUSAL_PINNED => Refusal::Pinned,
        bindings::async_pgtable_refusal_ASYNC_PGTABLE_REFUSAL_NOMEM => Refusal::Nomem,
        _ => Refusal::Small,
    }
}

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

/// The memory cgroup that fork would have charged.
///
/// # Invariants
///
/// Owns a reference, if there are memory cgroups.
pub(super) struct Payer(*mut bindings::mem_cgroup);

// SAFETY: The reference is counted, and belongs to no thread.
unsafe impl Send for Payer {}

impl Payer {
    /// That of the current task.
    pub(super) fn current() -> Self {
        // SAFETY: No requirements.
        // INVARIANT: As documented there.
        Self(unsafe { bindings::async_pgtable_payer_get() })
    }
}

impl Clone for Payer {
    fn clone(&self) -> Self {
        // SAFETY: By the type invariant.
        // INVARIANT: As documented there.
        Self(unsafe { bindings::async_pgtable_payer_dup(self.0) })
    }
}

impl Drop for Payer {
    fn drop(&mut self) {
        // SAFETY: By the type invariant.
        unsafe { bindings::async_pgtable_payer_put(self.0) }
    }
}

/// What a copy needs.
///
/// # Invariants
///
/// Owns what the fields point to.
#[derive(Default)]
pub(super) struct Supplies(bindings::async_pgtable_supplies);

impl Drop for Supplies {
    fn drop(&mut self) {
        // SAFETY: By the type invariant.
        unsafe { bindings::async_pgtable_supplies_free(&mut self.0) }
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
/// Its VMA lock is held for reading.
struct SourceLock(NonNull<bindings::vm_area_struct>);

impl SourceLock {
    /// # Safety
    ///
    /// The mappings of `source` have not been taken down.
    unsafe fn new(source: &Mm, addr: usize) -> Option<Self> {
        // SAFETY: By the contract of this function.
        let vma = unsafe { bindings::lock_vma_under_rcu(source.as_raw(), addr) };
        // INVARIANT: Locked, if there is one.
        NonNull::new(vma).map(Self)
    }

    fn vma(&self) -> &VmaRef {
        // SAFETY: By the type invariant, for as long as `self` lives.
        unsafe { VmaRef::from_raw(self.0.as_ptr()) }
    }
}

impl Drop for SourceLock {
    fn drop(&mut self) {
        // SAFETY: By the type invariant.
        unsafe { bindings::vma_end_read(self.0.as_ptr()) }
    }
}

impl PageTables for Kernel {
    const RANGE_SIZE: usize = bindings::PMD_SIZE;

    type Source = ARef<Mm>;
    type Target = ARef<Mm>;
    type TargetVma = TargetVma;
    type SourceVma<'a> = &'a VmaRef;
    type Payer = Payer;
    type Supplies = Supplies;
    type Entry = Entry;

    fn tracker(source: &ARef<Mm>) -> Option<&Tracker<Self>> {
        // SAFETY: `source` is valid, and everybody accesses the field atomically.
        let slot = unsafe {
            Atomic::<*mut c_void>::from_ptr(
                &raw mut (*source.as_raw()).__bindgen_anon_1.async_pgtable.tracker,
            )
        };
        // Acquire: pairs with `ensure_tracker`.
        let tracker = slot.load(Acquire).cast::<Tracker<Self>>();
        // SAFETY: It lives as long as the `mm_struct`.
        unsafe { tracker.as_ref() }
    }

    fn prepare(payer: &Payer, supplies: &mut Supplies, party: Party, hard: bool) {
        let (supplies, party) = (&mut supplies.0, party_to_c(party));
        // SAFETY: By the type invariants.
        unsafe { bindings::async_pgtable_prepare(payer.0, supplies, party, hard) };
    }

    unsafe fn copy(
        source: &VmaRef,
        target: TargetVma,
        addr: usize,
        supplies: &mut Supplies,
        party: Party,
    ) -> Result<bool> {
        // SAFETY: `source` is locked, and `target` is kept by the caller's claim.
        let ret = unsafe {
            bindings::async_pgtable_copy_range(
                source.as_ptr(),
                target.0.as_ptr(),
                addr,
                &mut supplies.0,
                party_to_c(party),
            )
        };
        to_result(ret).map(|()| ret == 0)
    }

    fn lock_entry(source: &VmaRef, addr: usize) -> Option<Entry> {
        let mut entry = bindings::async_pgtable_entry::default();
        // SAFETY: The mapping is locked, so its upper page tables stay.
        let locked =
            unsafe { bindings::async_pgtable_entry_lock(source.as_ptr(), addr, &mut entry) };
        // INVARIANT: As documented there.
        locked.then(|| Entry(entry))
    }

    unsafe fn with_source<R>(
        source: &ARef<Mm>,
        addr: usize,
        f: impl FnOnce(&VmaRef) -> R,
    ) -> Option<R> {
        // SAFETY: By the contract of this function.
        unsafe { SourceLock::new(source, addr) }.map(|lock| f(lock.vma()))
    }

    fn account(target: &ARef<Mm>, from: usize, to: usize, of: usize) {
        // SAFETY: The reference keeps the `mm_struct`.
        unsafe { bindings::async_pgtable_account(target.as_raw(), from, to, of) }
    }

    fn is_dying(target: &ARef<Mm>) -> bool {
        // SAFETY: The reference keeps the `mm_struct`.
        unsafe { bindings::async_pgtable_is_dying(target.as_raw()) }
    }

    fn kill(targets: &[Option<ARef<Mm>>], why: Error) {
        let mut mms = [ptr::null_mut(); MAX_SESSIONS];
        let mut nr = 0;
        for (mm, target) in mms.iter_mut().zip(targets.iter().flatten()) {
            *mm = target.as_raw();
            nr += 1;
        }
        // SAFETY: The references keep the pointers unique; they are only compared.
        unsafe { bindings::async_pgtable_kill(mms.as_mut_ptr(), nr, why.to_errno()) }
    }

    fn count(payer: &Payer, event: Event, nr: usize) {
        // SAFETY: By the type invariants.
        unsafe { bindings::async_pgtable_count(payer.0, event_to_c(event), nr) }
    }

    fn kept(source: &VmaRef, nanoseconds: u64) {
        // SAFETY: The mapping is locked, and so its mm is valid.
        unsafe { bindings::async_pgtable_kept(source.as_ptr(), nanoseconds) }
    }

    fn pause(_: &ARef<Mm>) {
        // SAFETY: Ranges are settled in process context; called without spinlocks.
        unsafe { bindings::async_pgtable_pause() }
    }

    fn give_back(supplies: &mut Supplies) {
        // SAFETY: By the type invariant, which it keeps.
        unsafe { bindings::async_pgtable_supplies_free(&mut supplies.0) };
    }

    fn wait_for_memory() {
        // SAFETY: As above.
        unsafe { bindings::async_pgtable_wait_for_memory() }
    }

    fn now() -> u64 {
        // SAFETY: No requirements.
        unsafe { bindings::async_pgtable_now() }
    }

    fn interrupted(killable: bool) -> bool {
        // SAFETY: As above.
        unsafe { bindings::async_pgtable_interrupted(killable) }
    }

    fn is_victim(source: &VmaRef) -> bool {
        // SAFETY: The mapping is locked, and so its mm is valid.
        unsafe { bindings::async_pgtable_is_victim(source.as_ptr()) }
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
        Event::RangeSync => bindings::vm_event_item_ASYNC_PGTABLE_RANGE_SYNC,
        Event::RangeSettle(Party::Copy) => bindings::vm_event_item_ASYNC_PGTABLE_RANGE_COPY,
        Event::RangeSettle(Party::Pull) => bindings::vm_event_item_ASYNC_PGTABLE_RANGE_PULL,
        Event::RangeSettle(Party::Push) => bindings::vm_event_item_ASYNC_PGTABLE_RANGE_PUSH,
        Event::RangeAbandon => bindings::vm_event_item_ASYNC_PGTABLE_RANGE_ABANDON,
        Event::Fallback(refusal) => match refusal {
            Refusal::Small => bindings::vm_event_item_ASYNC_PGTABLE_FALLBACK_SMALL,
            Refusal::Nomem => bindings::vm_event_item_ASYNC_PGTABLE_FALLBACK_NOMEM,
            Refusal::Sessions => bindings::vm_event_item_ASYNC_PGTABLE_FALLBACK_SESSIONS,
            Refusal::Pinned => bindings::vm_event_item_ASYNC_PGTABLE_FALLBACK_PINNED,
            Refusal::Notifier => bindings::vm_event_item_ASYNC_PGTABLE_FALLBACK_NOTIFIER,
        },
    }
}
