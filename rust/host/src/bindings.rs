// SPDX-License-Identifier: GPL-2.0

//! Customised from what bindgen makes of `mm/async_pgtable.h`: the same names and types, in front
//! of a small address space in software. It is as wrong as the kernel would be if it is called
//! wrongly, but says so: a lock that is not held, a page table that is freed twice.
//!
//! An address space has [`RANGES`] ranges of one page each; what a range contains is one number.

#![allow(non_camel_case_types, non_upper_case_globals, missing_docs)]
#![allow(
    clippy::missing_safety_doc,
    reason = "mm/async_pgtable.h has the contracts"
)]

use core::{cell::Cell, ptr};
use std::{
    ffi::{c_int, c_uint, c_void},
    sync::atomic::{AtomicBool, AtomicI32, AtomicPtr, AtomicUsize, Ordering::SeqCst},
    thread,
};

use crate::{alloc::try_alloc, error::code};

pub const PMD_SIZE: usize = 1 << 21;

/// Ranges of an address space.
pub const RANGES: usize = 70;

pub type async_pgtable_party = c_uint;
pub const async_pgtable_party_ASYNC_PGTABLE_PARTY_COPY: async_pgtable_party = 0;
pub const async_pgtable_party_ASYNC_PGTABLE_PARTY_PULL: async_pgtable_party = 1;
pub const async_pgtable_party_ASYNC_PGTABLE_PARTY_PUSH: async_pgtable_party = 2;

pub type async_pgtable_refusal = c_uint;
pub const async_pgtable_refusal_ASYNC_PGTABLE_REFUSAL_SMALL: async_pgtable_refusal = 0;
pub const async_pgtable_refusal_ASYNC_PGTABLE_REFUSAL_NOMEM: async_pgtable_refusal = 1;
pub const async_pgtable_refusal_ASYNC_PGTABLE_REFUSAL_PINNED: async_pgtable_refusal = 2;
pub const async_pgtable_refusal_ASYNC_PGTABLE_REFUSAL_NOTIFIER: async_pgtable_refusal = 3;

pub type vm_event_item = c_uint;
pub const vm_event_item_ASYNC_PGTABLE_SESSION_START: vm_event_item = 0;
pub const vm_event_item_ASYNC_PGTABLE_SESSION_COMPLETE: vm_event_item = 1;
pub const vm_event_item_ASYNC_PGTABLE_SESSION_ABANDON: vm_event_item = 2;
pub const vm_event_item_ASYNC_PGTABLE_SESSION_FAIL: vm_event_item = 3;
pub const vm_event_item_ASYNC_PGTABLE_RANGE_DEFER: vm_event_item = 4;
pub const vm_event_item_ASYNC_PGTABLE_RANGE_COPY: vm_event_item = 5;
pub const vm_event_item_ASYNC_PGTABLE_RANGE_PULL: vm_event_item = 6;
pub const vm_event_item_ASYNC_PGTABLE_RANGE_PUSH: vm_event_item = 7;
pub const vm_event_item_ASYNC_PGTABLE_RANGE_ABANDON: vm_event_item = 8;
pub const vm_event_item_ASYNC_PGTABLE_FALLBACK_SMALL: vm_event_item = 9;
pub const vm_event_item_ASYNC_PGTABLE_FALLBACK_NOMEM: vm_event_item = 10;
pub const vm_event_item_ASYNC_PGTABLE_FALLBACK_PINNED: vm_event_item = 11;
pub const vm_event_item_ASYNC_PGTABLE_FALLBACK_NOTIFIER: vm_event_item = 12;
const NR_EVENTS: usize = 13;

thread_local! {
    static EVENTS: [Cell<usize>; NR_EVENTS] = const { [const { Cell::new(0) }; NR_EVENTS] };
    static KILLED: Cell<bool> = const { Cell::new(false) };
}

/// How often this thread has counted `event`.
pub fn events(event: vm_event_item) -> usize {
    EVENTS.with(|events| events[event as usize].get())
}

/// Sends this thread a fatal signal, or takes it back.
pub fn set_killed(killed: bool) {
    KILLED.set(killed);
}

/// A page table. There are no pages below it, just a number.
#[repr(C)]
pub struct page_table {
    pub value: AtomicUsize,
}

pub type pgtable_t = *mut page_table;

/// A PMD entry.
#[derive(Default)]
#[repr(C)]
pub struct pmd_t {
    pub table: AtomicPtr<page_table>,
    pub write: AtomicBool,
}

#[derive(Default)]
#[repr(transparent)]
pub struct spinlock_t(AtomicBool);

impl spinlock_t {
    fn lock(&self) {
        while self.0.swap(true, SeqCst) {
            thread::yield_now();
        }
    }

    fn unlock(&self) {
        assert!(self.0.swap(false, SeqCst), "was not locked");
    }
}

#[repr(C)]
pub struct async_pgtable_mm {
    pub tracker: *mut c_void,
    pub session: *mut c_void,
    pub builder: *mut c_void,
}

#[repr(C)]
pub struct mm_struct {
    pub __bindgen_anon_1: mm_struct__bindgen_ty_1,
}

#[repr(C)]
pub struct mm_struct__bindgen_ty_1 {
    pub async_pgtable: async_pgtable_mm,
    pub mm_count: AtomicI32,
    pub mm_users: AtomicI32,
    pub killed: AtomicBool,
    pub unmapped: AtomicBool,
    pub vma_locks: AtomicI32,
    pub ptl: spinlock_t,
    pub pmds: [pmd_t; RANGES],
    pub vma: *mut vm_area_struct,
}

#[repr(C)]
pub struct vm_area_struct {
    pub vm_mm: *mut mm_struct,
    pub vm_start: usize,
    pub vm_end: usize,
}

#[repr(C)]
pub struct async_pgtable_entry {
    pub pmd: *mut pmd_t,
    pub ptl: *mut spinlock_t,
}

impl Default for async_pgtable_entry {
    fn default() -> Self {
        Self {
            pmd: ptr::null_mut(),
            ptl: ptr::null_mut(),
        }
    }
}

#[repr(C)]
pub struct async_pgtable_source {
    pub vma: *mut vm_area_struct,
    pub mmap_locked: bool,
}

impl Default for async_pgtable_source {
    fn default() -> Self {
        Self {
            vma: ptr::null_mut(),
            mmap_locked: false,
        }
    }
}

impl mm_struct {
    /// An address space without page tables and one mapping, with one user.
    pub fn alloc() -> *mut Self {
        let mm = Box::into_raw(Box::new(Self {
            __bindgen_anon_1: mm_struct__bindgen_ty_1 {
                async_pgtable: async_pgtable_mm {
                    tracker: ptr::null_mut(),
                    session: ptr::null_mut(),
                    builder: ptr::null_mut(),
                },
                mm_count: AtomicI32::new(1),
                mm_users: AtomicI32::new(1),
                killed: AtomicBool::new(false),
                unmapped: AtomicBool::new(false),
                vma_locks: AtomicI32::new(0),
                ptl: spinlock_t::default(),
                pmds: [const {
                    pmd_t {
                        table: AtomicPtr::new(ptr::null_mut()),
                        write: AtomicBool::new(true),
                    }
                }; RANGES],
                vma: ptr::null_mut(),
            },
        }));
        let vma = Box::into_raw(Box::new(vm_area_struct {
            vm_mm: mm,
            vm_start: 0,
            vm_end: RANGES * PMD_SIZE,
        }));
        // SAFETY: Just allocated.
        unsafe { (*mm).__bindgen_anon_1.vma = vma };
        mm
    }
}

unsafe extern "C" {
    fn async_pgtable_tracker_free(tracker: *mut c_void);
}

pub unsafe fn mmgrab(mm: *mut mm_struct) {
    // SAFETY: The caller's.
    unsafe { (*mm).__bindgen_anon_1.mm_count.fetch_add(1, SeqCst) };
}

pub unsafe fn mmdrop(mm: *mut mm_struct) {
    // SAFETY: The caller's; the last reference frees it, and what it owns.
    unsafe {
        let this = &(*mm).__bindgen_anon_1;
        let old = this.mm_count.fetch_sub(1, SeqCst);
        assert!(old > 0, "dropped once too often");
        if old > 1 {
            return;
        }
        if !this.async_pgtable.tracker.is_null() {
            async_pgtable_tracker_free(this.async_pgtable.tracker);
        }
        for pmd in &this.pmds {
            let table = pmd.table.load(SeqCst);
            if !table.is_null() {
                drop(Box::from_raw(table));
            }
        }
        drop(Box::from_raw(this.vma));
        drop(Box::from_raw(mm));
    }
}

pub unsafe fn async_pgtable_alloc_table(_mm: *mut mm_struct) -> pgtable_t {
    if try_alloc().is_err() {
        return ptr::null_mut();
    }
    Box::into_raw(Box::new(page_table {
        value: AtomicUsize::new(0),
    }))
}

pub unsafe fn async_pgtable_free_table(_mm: *mut mm_struct, table: pgtable_t) {
    // SAFETY: The caller gives it up.
    drop(unsafe { Box::from_raw(table) });
}

pub unsafe fn async_pgtable_copy_range(
    src_vma: *mut vm_area_struct,
    dst_vma: *mut vm_area_struct,
    addr: usize,
    table: pgtable_t,
    _party: async_pgtable_party,
) -> c_int {
    let index = addr / PMD_SIZE;
    // SAFETY: The caller keeps both mappings.
    unsafe {
        let src = &(*(*src_vma).vm_mm).__bindgen_anon_1.pmds[index];
        let dst = &(*(*dst_vma).vm_mm).__bindgen_anon_1.pmds[index];
        let old = dst.table.swap(table, SeqCst);
        assert!(old.is_null(), "copied twice");
        if try_alloc().is_err() {
            return code::ENOMEM.to_errno();
        }
        let value = (*src.table.load(SeqCst)).value.load(SeqCst);
        (*table).value.store(value, SeqCst);
    }
    0
}

pub unsafe fn async_pgtable_entry_lock(
    mm: *mut mm_struct,
    addr: usize,
    entry: &mut async_pgtable_entry,
) -> bool {
    // SAFETY: The caller keeps the address space.
    let mm = unsafe { &(*mm).__bindgen_anon_1 };
    let pmd = &mm.pmds[addr / PMD_SIZE];
    mm.ptl.lock();
    if pmd.table.load(SeqCst).is_null() {
        mm.ptl.unlock();
        return false;
    }
    entry.pmd = ptr::from_ref(pmd).cast_mut();
    entry.ptl = (&raw const mm.ptl).cast_mut();
    true
}

pub unsafe fn async_pgtable_entry_unlock(entry: &mut async_pgtable_entry) {
    // SAFETY: The caller holds the lock.
    unsafe { (*entry.ptl).unlock() };
}

pub unsafe fn async_pgtable_entry_unprotect(entry: &mut async_pgtable_entry) {
    // SAFETY: The caller holds the lock.
    unsafe { (*entry.pmd).write.store(true, SeqCst) };
}

pub unsafe fn async_pgtable_source_lock(
    mm: *mut mm_struct,
    addr: usize,
    source: &mut async_pgtable_source,
) -> bool {
    // SAFETY: The caller keeps the address space.
    let this = unsafe { &(*mm).__bindgen_anon_1 };
    if this.unmapped.load(SeqCst) || addr >= RANGES * PMD_SIZE {
        return false;
    }
    this.mm_users.fetch_add(1, SeqCst);
    this.vma_locks.fetch_add(1, SeqCst);
    source.vma = this.vma;
    true
}

pub unsafe fn async_pgtable_source_unlock(source: &mut async_pgtable_source) {
    // SAFETY: The caller has locked it.
    let mm = unsafe { &(*(*source.vma).vm_mm).__bindgen_anon_1 };
    assert!(mm.vma_locks.fetch_sub(1, SeqCst) > 0, "was not locked");
    mm.mm_users.fetch_sub(1, SeqCst);
}

pub unsafe fn async_pgtable_kill(mm: *mut mm_struct) {
    // SAFETY: The caller keeps the address space.
    unsafe { (*mm).__bindgen_anon_1.killed.store(true, SeqCst) };
}

pub unsafe fn async_pgtable_count(event: vm_event_item, nr: usize) {
    EVENTS.with(|events| {
        let event = &events[event as usize];
        event.set(event.get() + nr);
    });
}

pub unsafe fn async_pgtable_interrupted() -> bool {
    crate::sync::might_sleep();
    KILLED.get()
}
