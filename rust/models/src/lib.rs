// SPDX-License-Identifier: GPL-2.0

//! A machine on which parents fork, for models of the core.
//!
//! A parent has a few ranges of one page each. A page contains a number. What the hardware does is
//! modelled as far as the order of things matters:
//!
//! - A write looks at the PMD entry, then at the PTE, and goes to the page if both permit it. Else
//!   it is a fault: the range is settled, then the page is copied if it is shared.
//! - To copy a range makes the parent's PTE read-only, and lets the child have the page. So a write
//!   that is let through too early is seen by the child.
//! - What a child has is written without any lock, so that reading it without having seen that it
//!   is settled is a data race, and loom says so.

#[cfg(loom)]
use loom as imp;
#[cfg(shuttle)]
use shuttle as imp;
#[cfg(not(any(loom, shuttle)))]
use std as imp;

pub use imp::thread;

#[cfg(not(loom))]
mod cell;
mod explore;
#[cfg(loom)]
use loom::cell;

use std::{
    mem,
    panic::{self, AssertUnwindSafe},
    sync::Arc,
};

use cell::UnsafeCell;
pub use explore::explore;
use imp::sync::{
    Mutex, MutexGuard, RwLock,
    atomic::{
        AtomicUsize,
        Ordering::{Acquire, Relaxed, Release},
    },
};
use kernel::{
    alloc::AllocError,
    mm::async_pgtable::{
        Builder, PageTables, Session, Tracker,
        page_tables::{self, Event, Party},
    },
    prelude::*,
};

/// The page tables of models.
pub struct Machine;

/// Most ranges that a parent can have.
pub const RANGES: usize = 8;
const SIZE: usize = 16;
const PAGES: usize = 256;

/// Where a range begins.
pub const fn addr(range: usize) -> usize {
    (range + 1) * SIZE
}

/// What range `range` of a parent contains when nobody has written to it.
pub const fn initial(range: usize) -> usize {
    100 + range
}

/// A PTE: the number of a page, and whether it may be written to.
#[derive(Clone, Copy)]
struct Pte {
    page: usize,
    write: bool,
}

impl Pte {
    fn pack(self) -> usize {
        self.page << 1 | usize::from(self.write)
    }

    fn unpack(word: usize) -> Self {
        Self {
            page: word >> 1,
            write: word & 1 != 0,
        }
    }
}

/// A range of a parent.
struct Range {
    pmd_write: AtomicUsize,
    pmd_lock: Mutex<()>,
    pte: AtomicUsize,
    pte_lock: Mutex<()>,
}

/// A parent.
pub struct Parent {
    /// The sessions that copy from it.
    pub tracker: Pin<KBox<Tracker<Machine>>>,
    ranges: Vec<Range>,
    pages: Vec<AtomicUsize>,
    next_page: AtomicUsize,
    /// Locked for writing by fork and munmap. Contains whether there are mappings.
    ///
    /// In loom's, readers synchronize with each other, which the kernel's do not. So models that
    /// have no writer do without.
    vmas: Option<RwLock<bool>>,
    /// The oracle: what has been written, and nothing of how.
    written: Mutex<Vec<usize>>,
    failing_allocs: AtomicUsize,
    unwinding_copies: AtomicUsize,
}

/// How the copy of a range goes.
#[derive(Clone, Copy)]
enum CopyResult {
    Done,
    Failed,
    Unwinds,
}

/// The reason why a copy unwinds.
struct Unwind;

/// Takes one of `left`, if there is one. Who takes it does not matter.
fn take(left: &AtomicUsize) -> bool {
    let nr = left.load(Relaxed);
    nr != 0 && left.compare_exchange(nr, nr - 1, Relaxed, Relaxed).is_ok()
}

/// Calls `f`, which may unwind as [`Parent::fork_unwinding`] says.
fn unwinding<R>(f: impl FnOnce() -> R) -> Option<R> {
    panic::catch_unwind(AssertUnwindSafe(f))
        .map_err(|reason| {
            if !reason.is::<Unwind>() {
                panic::resume_unwind(reason);
            }
        })
        .ok()
}

/// A child.
pub struct Child {
    parent: Arc<Parent>,
    ptes: Vec<UnsafeCell<Option<usize>>>,
    copy: Vec<CopyResult>,
    killed: AtomicUsize,
}

// SAFETY: `ptes` is written by who has claimed the range, and read after that is settled. That is
// what the models are about: loom finds it if it is not so.
unsafe impl Sync for Child {}
// SAFETY: As above.
unsafe impl Send for Child {}

/// A parent with `ranges` ranges that nobody unmaps, and that forks before there are threads.
pub fn parent(ranges: usize) -> Arc<Parent> {
    Parent::new(ranges, false)
}

impl Parent {
    /// A parent with `ranges` ranges. If `locked`, they can be unmapped, and it can fork at any
    /// time.
    pub fn new(ranges: usize, locked: bool) -> Arc<Self> {
        let pages = if locked { PAGES } else { 2 * ranges };
        Arc::new(Self {
            tracker: KBox::pin_init(Tracker::new(), GFP_KERNEL).expect("there is memory"),
            ranges: (0..ranges)
                .map(|page| Range {
                    pmd_write: AtomicUsize::new(1),
                    pmd_lock: Mutex::new(()),
                    pte: AtomicUsize::new(Pte { page, write: true }.pack()),
                    pte_lock: Mutex::new(()),
                })
                .collect(),
            pages: (0..pages)
                .map(|page| AtomicUsize::new(initial(page)))
                .collect(),
            next_page: AtomicUsize::new(ranges),
            vmas: locked.then(|| RwLock::new(true)),
            written: Mutex::new((0..if locked { ranges } else { 0 }).map(initial).collect()),
            failing_allocs: AtomicUsize::new(0),
            unwinding_copies: AtomicUsize::new(0),
        })
    }

    /// Makes the next `nr` allocations of page tables fail.
    pub fn fail_allocs(&self, nr: usize) {
        self.failing_allocs.store(nr, Relaxed);
    }

    fn with_vmas<R>(&self, f: impl FnOnce() -> R) -> Option<R> {
        let Some(vmas) = &self.vmas else {
            return Some(f());
        };
        let mapped = vmas.read().expect("not poisoned");
        mapped.then(f)
    }

    /// The hardware. Returns false for a fault.
    fn try_write(&self, range: usize, value: usize) -> bool {
        let range = &self.ranges[range];
        // Acquire: a page walk reads the one after the other.
        if range.pmd_write.load(Acquire) == 0 {
            return false;
        }
        let pte = Pte::unpack(range.pte.load(Acquire));
        if pte.write {
            self.pages[pte.page].store(value, Relaxed);
        }
        pte.write
    }

    /// The hardware, while fork may run: it waits for writes that are under way, by the flush.
    fn try_write_locked(&self, range: usize, value: usize) -> bool {
        let write = || {
            let written = self.try_write(range, value);
            if written && self.vmas.is_some() {
                self.written.lock().expect("not poisoned")[range] = value;
            }
            written
        };
        self.with_vmas(write).expect("written to before unmapped")
    }

    /// The fault, with the VMA locked for reading.
    fn write_fault(self: &Arc<Self>, index: usize) {
        let range = &self.ranges[index];
        // As in `push_one()`.
        if range.pmd_write.load(Relaxed) == 0 {
            self.tracker.push(self, addr(index), addr(index + 1), true);
            if range.pmd_write.load(Relaxed) == 0 {
                self.tracker.repair(self, addr(index));
            }
            assert_eq!(
                range.pmd_write.load(Relaxed),
                1,
                "the fault would repeat forever"
            );
        }

        // As in `do_wp_page()`.
        let _guard = range.pte_lock.lock().expect("not poisoned");
        let pte = Pte::unpack(range.pte.load(Relaxed));
        if !pte.write {
            let page = self.next_page.fetch_add(1, Relaxed);
            self.pages[page].store(self.pages[pte.page].load(Relaxed), Relaxed);
            range.pte.store(Pte { page, write: true }.pack(), Release);
        }
    }

    /// The parent writes to a range.
    pub fn write(self: &Arc<Self>, range: usize, value: usize) {
        while !self.try_write_locked(range, value) {
            let mapped = self.with_vmas(|| self.write_fault(range));
            assert!(mapped.is_some());
        }
    }

    /// What the parent sees.
    pub fn read(&self, range: usize) -> usize {
        let pte = Pte::unpack(self.ranges[range].pte.load(Acquire));
        self.pages[pte.page].load(Relaxed)
    }

    /// The parent makes sure of all that is pending in `from..to`.
    pub fn push(self: &Arc<Self>, from: usize, to: usize) {
        self.with_vmas(|| self.tracker.push(self, addr(from), addr(to), true));
    }

    /// `munmap()`: detaches all mappings, then settles what is pending without a lock.
    pub fn unmap(self: &Arc<Self>) {
        let vmas = self.vmas.as_ref().expect("a parent with locks");
        *vmas.write().expect("not poisoned") = false;
        self.tracker
            .push(self, addr(0), addr(self.ranges.len()), true);
    }

    /// Is a range write-protected?
    pub fn is_protected(&self, range: usize) -> bool {
        self.ranges[range].pmd_write.load(Acquire) == 0
    }

    /// The parent makes sure of a range, and does not mind if that unwinds.
    pub fn push_unwinding(self: &Arc<Self>, range: usize) {
        unwinding(|| self.push(range, range + 1));
    }

    /// Forks a child that has the ranges `deferred` deferred.
    ///
    /// Without locks, before there are threads.
    pub fn fork(self: &Arc<Self>, deferred: &[usize]) -> Process {
        self.fork_with(deferred, |_| CopyResult::Done)
    }

    /// Forks a child that cannot have a copy of the range `failing`.
    pub fn fork_failing(self: &Arc<Self>, deferred: &[usize], failing: usize) -> Process {
        self.fork_with(deferred, move |range| {
            if range == failing {
                CopyResult::Failed
            } else {
                CopyResult::Done
            }
        })
    }

    /// Forks a child. The first `nr` who copy the range `unwinding` give up by unwinding, which the
    /// kernel does not do; it is the only way to make the core drop a claim.
    pub fn fork_unwinding(
        self: &Arc<Self>,
        deferred: &[usize],
        unwinding: usize,
        nr: usize,
    ) -> Process {
        self.unwinding_copies.store(nr, Relaxed);
        self.fork_with(deferred, move |range| {
            if range == unwinding {
                CopyResult::Unwinds
            } else {
                CopyResult::Done
            }
        })
    }

    fn fork_with(
        self: &Arc<Self>,
        deferred: &[usize],
        copy: impl Fn(usize) -> CopyResult,
    ) -> Process {
        let _guard = self
            .vmas
            .as_ref()
            .map(|vmas| vmas.write().expect("not poisoned"));
        let ranges = self.ranges.len();
        let child = Arc::new(Child {
            parent: self.clone(),
            ptes: (0..ranges).map(|_| UnsafeCell::new(None)).collect(),
            copy: (0..ranges).map(copy).collect(),
            killed: AtomicUsize::new(0),
        });

        let mut builder = Builder::<Machine>::new(self.clone()).expect("there is memory");
        builder.extent(TargetVma(&*child), addr(0), addr(ranges));
        for index in 0..ranges {
            let range = &self.ranges[index];
            if deferred.contains(&index) {
                assert!(builder.defer(addr(index)));
                range.pmd_write.store(0, Release);
            } else {
                child.share(index);
            }
        }
        // The flush would be here.
        let session = builder.arm(child.clone());
        let expected = self.written.lock().expect("not poisoned").clone();
        Process {
            child,
            session,
            expected,
        }
    }
}

impl Child {
    /// Copies a PTE.
    fn share(&self, range: usize) {
        // Others may come in between: the models know without being told.
        #[cfg(not(any(loom, shuttle)))]
        thread::yield_now();
        let source = &self.parent.ranges[range];
        let _guard = source.pte_lock.lock().expect("not poisoned");
        let pte = Pte::unpack(source.pte.load(Relaxed));
        let read_only = Pte {
            write: false,
            ..pte
        };
        source.pte.store(read_only.pack(), Release);
        // SAFETY: Nobody else uses it, or the model fails.
        let old = self.ptes[range].with_mut(|slot| unsafe { (*slot).replace(pte.page) });
        assert!(old.is_none(), "copied twice");
    }
}

/// A child that runs.
#[derive(Clone)]
pub struct Process {
    /// Its address space.
    child: Arc<Child>,
    /// Where the rest of its memory comes from.
    pub session: Option<kernel::sync::Arc<Session<Machine>>>,
    /// What it must see, if the parent has locks.
    pub expected: Vec<usize>,
}

impl Process {
    /// Runs `run` in a thread, with this process.
    pub fn spawn<T: Send + 'static>(
        &self,
        run: impl FnOnce(Self) -> T + Send + 'static,
    ) -> thread::JoinHandle<T> {
        let process = self.clone();
        thread::spawn(move || run(process))
    }

    fn session(&self) -> &Session<Machine> {
        self.session.as_ref().expect("something was deferred")
    }

    /// The child copies all it can.
    pub fn copy_all(&self) -> Result {
        self.session().copy_all().inspect_err(|_| self.is_dead())
    }

    /// Whoever is told of a failure: the child does not return to user space with it.
    fn is_dead(&self) {
        assert!(
            self.is_killed(),
            "a child that has seen a failure and lives"
        );
    }

    /// Somebody reads the child's memory.
    pub fn read(&self, range: usize) -> Result<usize> {
        if let Some(session) = &self.session {
            session
                .pull(addr(range), addr(range + 1))
                .inspect_err(|_| self.is_dead())?;
        }
        // SAFETY: It is settled, or the model fails.
        let page = self.child.ptes[range].with(|slot| unsafe { *slot });
        let page = page.expect("settled, and not copied");
        Ok(self.child.parent.pages[page].load(Relaxed))
    }

    /// As [`read`](Self::read), and does not mind if that unwinds.
    pub fn read_unwinding(&self, range: usize) {
        unwinding(|| self.read(range));
    }

    /// The child exits, or execs. It takes its page tables down.
    pub fn exit(&self) {
        if let Some(session) = &self.session {
            session.abandon();
        }
        for slot in &self.child.ptes {
            // SAFETY: Nobody copies any more, or the model fails.
            slot.with_mut(|slot| unsafe { *slot = None });
        }
    }

    /// Has it been killed?
    pub fn is_killed(&self) -> bool {
        self.child.killed.load(Acquire) != 0
    }

    /// Is nobody else, such as a session, using the address space?
    pub fn is_alone(&self) -> bool {
        Arc::strong_count(&self.child) == 1
    }
}

/// A parent's PMD entry.
pub struct Entry {
    guard: Option<MutexGuard<'static, ()>>,
    parent: Arc<Parent>,
    index: usize,
}

impl page_tables::Entry for Entry {
    fn unprotect(&mut self) {
        // Release: the PTEs have been changed before. Relaxed would do on x86, and for loom, as
        // their lock has been released since.
        self.parent.ranges[self.index].pmd_write.store(1, Release);
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        // Before the parent.
        self.guard = None;
    }
}

/// A child's mapping; valid while one of its ranges is claimed.
#[derive(Clone, Copy)]
pub struct TargetVma(*const Child);

// SAFETY: As a reference, of which the model says whether it is valid.
unsafe impl Send for TargetVma {}
// SAFETY: As above.
unsafe impl Sync for TargetVma {}

impl PageTables for Machine {
    const RANGE_SIZE: usize = SIZE;

    type Source = Arc<Parent>;
    type Target = Arc<Child>;
    type TargetVma = TargetVma;
    type SourceVma<'a> = &'a Arc<Parent>;
    type Table = ();
    type Entry = Entry;

    fn tracker(source: &Arc<Parent>) -> &Tracker<Self> {
        &source.tracker
    }

    fn alloc_table(source: &Arc<Parent>) -> Result<(), AllocError> {
        if take(&source.failing_allocs) {
            return Err(AllocError);
        }
        Ok(())
    }

    fn copy(_: &Arc<Parent>, target: TargetVma, at: usize, _: (), _: Party) -> Result {
        // SAFETY: The session has a reference, and the range is claimed.
        let child = unsafe { &*target.0 };
        let range = at / SIZE - 1;
        match child.copy[range] {
            CopyResult::Failed => return Err(ENOMEM),
            CopyResult::Unwinds if take(&child.parent.unwinding_copies) => {
                panic::resume_unwind(Box::new(Unwind))
            }
            _ => child.share(range),
        }
        Ok(())
    }

    fn lock_entry(source: &Arc<Parent>, at: usize) -> Option<Entry> {
        let index = at / SIZE - 1;
        let guard = source.ranges[index].pmd_lock.lock().expect("not poisoned");
        // SAFETY: The entry has a reference to the parent, and drops this first.
        let guard = unsafe { mem::transmute::<MutexGuard<'_, ()>, MutexGuard<'static, ()>>(guard) };
        Some(Entry {
            guard: Some(guard),
            parent: source.clone(),
            index,
        })
    }

    fn with_source(source: &Arc<Parent>, _: usize, f: impl FnOnce(&Arc<Parent>)) -> bool {
        source.with_vmas(|| f(source)).is_some()
    }

    fn kill(target: &Arc<Child>) {
        target.killed.store(1, Release);
    }

    fn count(_: Event, _: usize) {}

    fn interrupted() -> bool {
        false
    }
}
