// SPDX-License-Identifier: GPL-2.0

//! The functions that C calls, called as C does.

use core::{
    ffi::{c_int, c_uint, c_void},
    ptr,
};
use std::sync::atomic::{AtomicPtr, Ordering::SeqCst};

use kernel::{alloc::fail_nth, bindings::*};

// As in mm/async_pgtable.h.
unsafe extern "C" {
    fn async_pgtable_builder_new(source: *mut mm_struct) -> *mut c_void;
    fn async_pgtable_builder_free(builder: *mut c_void);
    fn async_pgtable_builder_refuse(builder: *mut c_void, refusal: c_uint);
    fn async_pgtable_builder_extent(
        builder: *mut c_void,
        target: *mut vm_area_struct,
        start: usize,
        end: usize,
    );
    fn async_pgtable_builder_defer(builder: *mut c_void, addr: usize) -> bool;
    fn async_pgtable_builder_arm(builder: *mut c_void, target: *mut mm_struct) -> *mut c_void;
    fn async_pgtable_session_pull(session: *mut c_void, start: usize, end: usize) -> c_int;
    fn async_pgtable_session_copy_all(session: *mut c_void) -> c_int;
    fn async_pgtable_session_overlaps(session: *mut c_void, start: usize, end: usize) -> bool;
    fn async_pgtable_session_abandon(session: *mut c_void);
    fn async_pgtable_session_put(session: *mut c_void);
    fn async_pgtable_tracker_push(
        tracker: *mut c_void,
        source: *mut vm_area_struct,
        start: usize,
        end: usize,
        nowait: bool,
    ) -> bool;
    fn async_pgtable_tracker_repair(tracker: *mut c_void, source: *mut vm_area_struct, addr: usize);
    fn async_pgtable_tracker_overlaps(tracker: *mut c_void, start: usize, end: usize) -> bool;
    fn async_pgtable_tracker_is_idle(tracker: *mut c_void) -> bool;
    fn async_pgtable_tracker_abort(tracker: *mut c_void);
}

const EFAULT: c_int = -14;

/// An `mm_struct`, and its part of what C does. Its ranges contain their number plus 100.
struct Mm(*mut mm_struct);

impl Mm {
    fn parent() -> Self {
        let mm = Self(mm_struct::alloc());
        for (index, pmd) in mm.fields().pmds.iter().enumerate() {
            let table = Box::new(page_table {
                value: (index + 100).into(),
            });
            pmd.table.store(Box::into_raw(table), SeqCst);
        }
        mm
    }

    fn child() -> Self {
        Self(mm_struct::alloc())
    }

    fn fields(&self) -> &mm_struct__bindgen_ty_1 {
        // SAFETY: `self` has a reference.
        unsafe { &(*self.0).__bindgen_anon_1 }
    }

    fn count(&self) -> i32 {
        self.fields().mm_count.load(SeqCst)
    }

    fn value(&self, index: usize) -> Option<usize> {
        let table = self.fields().pmds[index].table.load(SeqCst);
        // SAFETY: The tables of an mm stay until it is freed.
        unsafe { table.as_ref() }.map(|table| table.value.load(SeqCst))
    }

    fn is_protected(&self, index: usize) -> bool {
        !self.fields().pmds[index].write.load(SeqCst)
    }

    fn begin(&self, child: &Mm, deferred: &[usize]) -> *mut c_void {
        // SAFETY: Called as by `dup_mmap()`.
        unsafe {
            let builder = async_pgtable_builder_new(self.0);
            if builder.is_null() {
                return builder;
            }
            let vma = child.fields().vma;
            async_pgtable_builder_extent(builder, vma, 0, RANGES * PMD_SIZE);
            for &index in deferred {
                if async_pgtable_builder_defer(builder, index * PMD_SIZE) {
                    self.fields().pmds[index].write.store(false, SeqCst);
                }
            }
            builder
        }
    }

    fn fork(&self, child: &Mm, deferred: &[usize]) -> *mut c_void {
        let builder = self.begin(child, deferred);
        // SAFETY: The builder is ours.
        unsafe { async_pgtable_builder_arm(builder, child.0) }
    }

    fn tracker(&self) -> *mut c_void {
        self.fields().async_pgtable.tracker
    }

    fn push(&self, index: usize, nowait: bool) -> bool {
        let start = index * PMD_SIZE;
        // SAFETY: The mapping covers it.
        unsafe {
            async_pgtable_tracker_push(
                self.tracker(),
                self.fields().vma,
                start,
                start + PMD_SIZE,
                nowait,
            )
        }
    }
}

impl Drop for Mm {
    fn drop(&mut self) {
        // SAFETY: `self` has a reference.
        unsafe { mmdrop(self.0) }
    }
}

#[test]
fn a_session_from_fork_to_exit() {
    let (parent, child) = (Mm::parent(), Mm::child());
    let session = parent.fork(&child, &[0, 1, 2, 40]);
    assert!(!session.is_null());
    assert_eq!(events(vm_event_item_ASYNC_PGTABLE_SESSION_START), 1);
    assert_eq!(events(vm_event_item_ASYNC_PGTABLE_RANGE_DEFER), 4);
    assert_eq!((parent.count(), child.count()), (2, 2));

    // SAFETY: The session and the tracker live.
    unsafe {
        assert!(!async_pgtable_tracker_is_idle(parent.tracker()));
        assert!(async_pgtable_tracker_overlaps(
            parent.tracker(),
            0,
            PMD_SIZE
        ));
        assert!(!async_pgtable_session_overlaps(
            session,
            3 * PMD_SIZE,
            40 * PMD_SIZE
        ));
        assert!(parent.push(1, true));
        assert!(!parent.is_protected(1));
        assert!(parent.is_protected(2));
        assert_eq!(async_pgtable_session_pull(session, 0, 1), 0);
        assert_eq!(async_pgtable_session_copy_all(session), 0);
    }
    for index in [0, 1, 2, 40] {
        assert_eq!(child.value(index), Some(index + 100));
        assert!(!parent.is_protected(index));
    }
    assert_eq!(child.value(3), None);
    assert_eq!(events(vm_event_item_ASYNC_PGTABLE_RANGE_PUSH), 1);
    assert_eq!(events(vm_event_item_ASYNC_PGTABLE_RANGE_PULL), 1);
    assert_eq!(events(vm_event_item_ASYNC_PGTABLE_RANGE_COPY), 2);
    assert_eq!(events(vm_event_item_ASYNC_PGTABLE_SESSION_COMPLETE), 1);

    // Both sides have been let go of, and the child goes.
    assert_eq!((parent.count(), child.count()), (1, 1));
    assert_eq!(parent.fields().vma_locks.load(SeqCst), 0);
    assert_eq!(parent.fields().mm_users.load(SeqCst), 1);
    // SAFETY: The child's reference.
    unsafe {
        async_pgtable_session_abandon(session);
        async_pgtable_session_put(session);
    }
    assert_eq!(events(vm_event_item_ASYNC_PGTABLE_SESSION_ABANDON), 0);
}

#[test]
fn a_child_that_exits_early() {
    let (parent, child) = (Mm::parent(), Mm::child());
    let session = parent.fork(&child, &[0, 1]);
    // SAFETY: The session lives until it is put, the tracker as long as the parent.
    unsafe {
        async_pgtable_session_abandon(session);
        async_pgtable_session_put(session);
        assert!(async_pgtable_tracker_is_idle(parent.tracker()));
        assert!(parent.is_protected(0));
        async_pgtable_tracker_repair(parent.tracker(), parent.fields().vma, 0);
    }
    assert!(!parent.is_protected(0));
    assert!(parent.is_protected(1));
    assert_eq!(child.value(0), None);
    assert!(!child.fields().killed.load(SeqCst));
    assert_eq!(events(vm_event_item_ASYNC_PGTABLE_SESSION_ABANDON), 1);
    assert_eq!(events(vm_event_item_ASYNC_PGTABLE_RANGE_ABANDON), 2);
}

#[test]
fn a_child_that_is_killed_while_it_copies() {
    let (parent, child) = (Mm::parent(), Mm::child());
    let session = parent.fork(&child, &[0]);
    set_killed(true);
    // SAFETY: The session lives until it is put.
    unsafe {
        assert_eq!(async_pgtable_session_copy_all(session), 0);
        assert_eq!(child.value(0), None);
        async_pgtable_session_abandon(session);
        async_pgtable_session_put(session);
    }
}

#[test]
fn a_parent_that_is_reaped() {
    let (parent, child) = (Mm::parent(), Mm::child());
    let session = parent.fork(&child, &[0]);
    // SAFETY: The session lives until it is put.
    unsafe {
        async_pgtable_tracker_abort(parent.tracker());
        assert!(async_pgtable_tracker_is_idle(parent.tracker()));
        assert_eq!(async_pgtable_session_pull(session, 0, PMD_SIZE), EFAULT);
        async_pgtable_session_put(session);
    }
    assert!(child.fields().killed.load(SeqCst));
    assert_eq!(events(vm_event_item_ASYNC_PGTABLE_SESSION_FAIL), 1);
}

#[test]
fn a_parent_that_exits_while_the_child_pulls() {
    let (parent, child) = (Mm::parent(), Mm::child());
    let session = AtomicPtr::new(parent.fork(&child, &[0]));
    parent.fields().unmapped.store(true, SeqCst);
    std::thread::scope(|scope| {
        let puller = scope.spawn(|| {
            // SAFETY: The session lives.
            unsafe { async_pgtable_session_pull(session.load(SeqCst), 0, PMD_SIZE) }
        });
        // `exit_mmap()` settles what is pending, without a lock that the puller could want.
        assert!(parent.push(0, false));
        assert_eq!(puller.join().unwrap(), 0);
    });
    assert_eq!(child.value(0), Some(100));
    // SAFETY: The child's reference.
    unsafe { async_pgtable_session_put(session.into_inner()) };
}

#[test]
fn a_range_without_a_page_table() {
    let (parent, child) = (Mm::parent(), Mm::child());
    let session = parent.fork(&child, &[0]);
    // Emptied in the meantime: no entry to lock, and nothing to repair.
    let table = parent.fields().pmds[1].table.swap(ptr::null_mut(), SeqCst);
    // SAFETY: The session and the tracker live; the table is no one else's.
    unsafe {
        async_pgtable_tracker_repair(parent.tracker(), parent.fields().vma, PMD_SIZE);
        async_pgtable_free_table(parent.0, table);
        assert_eq!(async_pgtable_session_copy_all(session), 0);
        async_pgtable_session_put(session);
    }
}

#[test]
fn nothing_deferred() {
    let events_of = [
        vm_event_item_ASYNC_PGTABLE_FALLBACK_SMALL,
        vm_event_item_ASYNC_PGTABLE_FALLBACK_NOMEM,
        vm_event_item_ASYNC_PGTABLE_FALLBACK_PINNED,
        vm_event_item_ASYNC_PGTABLE_FALLBACK_NOTIFIER,
    ];
    let (parent, child) = (Mm::parent(), Mm::child());
    for (refusal, event) in events_of.into_iter().enumerate() {
        let builder = parent.begin(&child, &[]);
        // SAFETY: The builder is ours.
        unsafe {
            async_pgtable_builder_refuse(builder, refusal as c_uint);
            assert!(async_pgtable_builder_arm(builder, child.0).is_null());
        }
        assert_eq!(events(event), 1);
    }
    assert_eq!((parent.count(), child.count()), (1, 1));
}

#[test]
fn a_fork_that_fails() {
    let (parent, child) = (Mm::parent(), Mm::child());
    let builder = parent.begin(&child, &[0]);
    // SAFETY: The builder is ours.
    unsafe { async_pgtable_builder_free(builder) };
    assert_eq!((parent.count(), child.count()), (1, 1));
    assert_eq!(events(vm_event_item_ASYNC_PGTABLE_SESSION_START), 0);
}

#[test]
fn two_threads_fork_for_the_first_time() {
    for _ in 0..200 {
        let parent = Mm::parent();
        let mm = AtomicPtr::new(parent.0);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                // SAFETY: The mm lives, and each builder is its thread's.
                scope.spawn(|| unsafe {
                    async_pgtable_builder_free(async_pgtable_builder_new(mm.load(SeqCst)));
                });
            }
        });
        assert!(!parent.tracker().is_null());
        assert_eq!(parent.count(), 1);
    }
}

/// Every allocation of a fork and of its copy fails once: the fork goes on without a session, or
/// with one that defers less, or the child is killed. The parent is never hurt.
#[test]
fn memory_runs_out() {
    let (mut fallbacks, mut killed) = (0, 0);
    for n in 0.. {
        let (parent, child) = (Mm::parent(), Mm::child());
        let fail = fail_nth(n);
        let builder = parent.begin(&child, &[0, 33]);
        let session = if builder.is_null() {
            ptr::null_mut()
        } else {
            // SAFETY: The builder is ours.
            unsafe { async_pgtable_builder_arm(builder, child.0) }
        };
        if session.is_null() {
            assert!(fail.failed());
            assert!(!parent.is_protected(0) && !parent.is_protected(33));
            assert_eq!((parent.count(), child.count()), (1, 1));
            fallbacks += 1;
            continue;
        }

        // SAFETY: The session lives until it is put.
        unsafe {
            let err = async_pgtable_session_copy_all(session);
            let failed = child.fields().killed.load(SeqCst);
            assert!(err == 0 || err == EFAULT);
            assert_eq!(err != 0, failed);
            async_pgtable_session_abandon(session);
            async_pgtable_session_put(session);
            killed += usize::from(failed);
            if !failed {
                assert_eq!(child.value(0), Some(100));
                assert_eq!(child.value(33), Some(133));
            }
        }
        assert_eq!((parent.count(), child.count()), (1, 1));
        assert_eq!(parent.value(33), Some(133));
        if !fail.failed() {
            assert_eq!(n, fallbacks + killed);
            break;
        }
    }
    // Tracker, session, builder, room, extents, bitmap, and its words; two tables and two copies.
    assert!(fallbacks >= 5);
    assert_eq!(killed, 4);
}
