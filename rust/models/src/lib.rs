// SPDX-License-Identifier: GPL-2.0

//! A machine on which parents fork, for models of the core.
//!
//! A parent has a few ranges of one or two pages. A page contains a number; the parent writes to
//! the last page of a range. What the hardware does is modelled as far as the order of things
//! matters:
//!
//! - A write looks at the PMD entry, then at the PTE, and goes to the page if both permit it. Else
//!   it is a fault: the range is settled, then the page is copied if it is shared.
//! - To copy a range makes the parent's PTEs read-only, and lets the child have the pages. So a
//!   write that is let through too early is seen by the child.
//! - A copy may want a table and, half-way, something else. It then stops, and who goes on skips
//!   what the child has.
//! - What a child has is written without any lock, so that reading it without having seen that it
//!   is settled, or going on with a copy without a claim, is a data race, and loom says so.
//! - The same goes for what a parent takes down: its mappings, and their page tables.
//!
//! What nobody in the kernel sees, such as the sums of the oracle, is of `std` in every build.

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
mod vmas;
#[cfg(loom)]
use loom::cell;

use std::{
    mem,
    sync::{self as std_sync, Arc},
};

use cell::UnsafeCell;
pub use explore::explore;
use imp::sync::{
    Mutex, MutexGuard,
    atomic::{
        AtomicUsize,
        Ordering::{Acquire, Relaxed, Release},
    },
};
use kernel::{
    mm::async_pgtable::{
        Builder, PageTables, Session, Tracker,
        page_tables::{self, Event, Party},
    },
    prelude::*,
    sync::might_sleep,
};
use std_sync::atomic::{AtomicUsize as Number, Ordering::SeqCst};
use vmas::Vmas;

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

/// What the pages of range `range` of a parent contain when nobody has written to them.
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
    ptes: Vec<AtomicUsize>,
    pte_lock: Mutex<()>,
}

impl Range {
    /// The PTE that the parent writes through.
    fn last(&self) -> &AtomicUsize {
        self.ptes.last().expect("a range has pages")
    }
}

/// Something that a parent takes down while nobody may look at it.
struct Standing(UnsafeCell<bool>);

impl Standing {
    fn new() -> Self {
        Self(UnsafeCell::new(true))
    }

    /// Somebody uses it.
    fn look(&self) {
        // SAFETY: Nobody takes it down, or the model fails.
        assert!(self.0.with(|up| unsafe { *up }), "used when gone");
    }

    /// The parent changes it.
    fn change(&self) {
        // SAFETY: Nobody looks, or the model fails.
        self.0.with_mut(|up| unsafe { *up = true });
    }

    fn take_down(&self) {
        // SAFETY: As above.
        self.0.with_mut(|up| unsafe { *up = false });
    }
}

// SAFETY: Used and taken down as the core says. loom finds it if that is wrong.
unsafe impl Sync for Standing {}

/// A parent.
pub struct Parent {
    /// The sessions that copy from it.
    pub tracker: Pin<KBox<Tracker<Machine>>>,
    ranges: Vec<Range>,
    pages: Vec<AtomicUsize>,
    next_page: Number,
    /// Locked for writing by fork, munmap and other changes.
    ///
    /// Here readers synchronize with each other, which the kernel's do not. So models that have no
    /// writer do without.
    vmas: Option<Vmas>,
    /// Where mappings are looked for.
    tree: Standing,
    /// The page tables of all mappings.
    tables: Standing,
    /// The oracle: what has been written, and nothing of how.
    written: std_sync::Mutex<Vec<usize>>,
    payer: Arc<Payer>,
    pauses: Number,
    /// What the mapping covers from which the parent helps.
    helps: std_sync::Mutex<Option<std::ops::Range<usize>>>,
}

/// Who pays for what children need.
pub struct Payer {
    failing_allocs: Number,
    supplies: Number,
    #[cfg(loom)]
    steps: AtomicUsize,
}

impl Payer {
    fn new() -> Self {
        Self {
            failing_allocs: Number::new(0),
            supplies: Number::new(0),
            #[cfg(loom)]
            steps: AtomicUsize::new(0),
        }
    }

    /// Somebody comes to a point at which others may come first.
    ///
    /// loom lets them if this is an access that depends on one of theirs. But of each location it
    /// knows the last access only, and overlooks others if that was by the same thread.
    fn step(&self) {
        // Relaxed: orders nothing.
        #[cfg(loom)]
        self.steps.fetch_add(1, Relaxed);
    }

    fn alloc(&self) -> bool {
        let left = self.failing_allocs.load(SeqCst);
        if left != 0 {
            self.failing_allocs.store(left - 1, SeqCst);
            return false;
        }
        self.supplies.fetch_add(1, SeqCst);
        true
    }
}

/// What a copy uses up.
#[derive(Default)]
pub struct Supplies {
    /// Nothing comes, the next time.
    starved: bool,
    payer: Option<Arc<Payer>>,
    wants_page: bool,
    page_tried: bool,
    table: bool,
    page: bool,
}

impl Supplies {
    fn used(&self) {
        let payer = self.payer.as_ref().expect("prepared");
        assert!(payer.supplies.fetch_sub(1, SeqCst) != 0);
    }
}

impl Drop for Supplies {
    fn drop(&mut self) {
        for left in [self.table, self.page] {
            if left {
                self.used();
            }
        }
    }
}

/// How the copy of a range goes.
#[derive(Clone, Copy, Default)]
pub enum CopyResult {
    /// To its end.
    #[default]
    Done,
    /// It stops before the last page, until somebody has what it wants.
    Stops,
    /// It fails at the last page.
    Fails,
}

pub use CopyResult::{Done, Fails, Stops};

/// What a child has of a range.
struct Table {
    installed: bool,
    ptes: Vec<Option<usize>>,
}

/// A child.
pub struct Child {
    parent: Arc<Parent>,
    tables: Vec<UnsafeCell<Table>>,
    copy: Vec<CopyResult>,
    /// Ranges that are pending, as it is told.
    pending: Number,
    gone: Number,
    killed: Number,
}

// SAFETY: `tables` is written by who has claimed the range, and read after that is settled. That is
// what the models are about: loom finds it if it is not so.
unsafe impl Sync for Child {}
// SAFETY: As above.
unsafe impl Send for Child {}

/// A parent with `ranges` ranges of one page that nobody unmaps, and that forks before there are
/// threads.
pub fn parent(ranges: usize) -> Arc<Parent> {
    Parent::new(ranges, 1, false)
}

impl Parent {
    /// A parent with `ranges` ranges of `pages` pages. If `locked`, they can be unmapped and
    /// changed, and it can fork at any time.
    pub fn new(ranges: usize, pages: usize, locked: bool) -> Arc<Self> {
        let nr = if locked { PAGES } else { ranges * (pages + 1) };
        Arc::new(Self {
            tracker: KBox::pin_init(Tracker::new(), GFP_KERNEL).expect("there is memory"),
            ranges: (0..ranges)
                .map(|range| Range {
                    pmd_write: AtomicUsize::new(1),
                    pmd_lock: Mutex::new(()),
                    ptes: (0..pages)
                        .map(|at| Pte {
                            page: range * pages + at,
                            write: true,
                        })
                        .map(|pte| AtomicUsize::new(pte.pack()))
                        .collect(),
                    pte_lock: Mutex::new(()),
                })
                .collect(),
            pages: (0..nr)
                .map(|page| AtomicUsize::new(initial(page / pages)))
                .collect(),
            next_page: Number::new(ranges * pages),
            vmas: locked.then(Vmas::new),
            tree: Standing::new(),
            tables: Standing::new(),
            written: std_sync::Mutex::new((0..ranges).map(initial).collect()),
            payer: Arc::new(Payer::new()),
            pauses: Number::new(0),
            helps: std_sync::Mutex::new(None),
        })
    }

    /// Makes the next `nr` allocations for children fail.
    pub fn fail_allocs(&self, nr: usize) {
        self.payer.failing_allocs.store(nr, SeqCst);
    }

    /// Calls `f` with the VMAs locked for reading.
    fn with_vmas<R>(&self, f: impl FnOnce() -> R) -> R {
        let _guard = self.vmas.as_ref().map(Vmas::read);
        f()
    }

    fn vmas(&self) -> &Vmas {
        self.vmas.as_ref().expect("a parent with locks")
    }

    fn wrote(&self, range: usize, value: usize) {
        self.written.lock().expect("not poisoned")[range] = value;
    }

    /// The hardware. Returns false for a fault.
    fn try_write(&self, range: usize, value: usize) -> bool {
        let range = &self.ranges[range];
        // Acquire: a page walk reads the one after the other.
        if range.pmd_write.load(Acquire) == 0 {
            return false;
        }
        let pte = Pte::unpack(range.last().load(Acquire));
        if pte.write {
            self.pages[pte.page].store(value, Relaxed);
        }
        pte.write
    }

    /// The hardware, while fork may run: it waits for writes that are under way, by the flush.
    fn try_write_locked(&self, range: usize, value: usize) -> bool {
        let write = || {
            let written = self.try_write(range, value);
            if written {
                self.wrote(range, value);
            }
            written
        };
        self.with_vmas(write)
    }

    /// The fault, with the VMA locked for reading.
    fn write_fault(self: &Arc<Self>, index: usize) {
        let range = &self.ranges[index];
        // As in `push_one()`.
        if range.pmd_write.load(Relaxed) == 0 {
            self.push_locked(index, index + 1);
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
        let pte = Pte::unpack(range.last().load(Relaxed));
        if !pte.write {
            self.new_page(range, self.pages[pte.page].load(Relaxed));
        }
    }

    /// Gives the range a last page of its own. The page table is locked.
    fn new_page(&self, range: &Range, value: usize) {
        let page = self.next_page.fetch_add(1, SeqCst);
        self.pages[page].store(value, Relaxed);
        range
            .last()
            .store(Pte { page, write: true }.pack(), Release);
    }

    /// The parent writes to a range.
    pub fn write(self: &Arc<Self>, range: usize, value: usize) {
        while !self.try_write_locked(range, value) {
            self.with_vmas(|| self.write_fault(range));
        }
    }

    /// What the parent sees.
    pub fn read(&self, range: usize) -> usize {
        let pte = Pte::unpack(self.ranges[range].last().load(Acquire));
        self.pages[pte.page].load(Relaxed)
    }

    fn push_locked(self: &Arc<Self>, from: usize, to: usize) {
        self.payer.step();
        self.tracker
            .push(self, addr(from), addr(to), false)
            .expect("not killable");
    }

    /// The parent makes sure of all that is pending in `from..to`.
    pub fn push(self: &Arc<Self>, from: usize, to: usize) {
        self.with_vmas(|| self.push_locked(from, to));
    }

    /// The parent discards a range, with the VMA locked for writing: its next page contains
    /// `value`.
    pub fn discard(self: &Arc<Self>, range: usize, value: usize) {
        self.change(|| {
            self.push_locked(range, range + 1);
            self.tables.change();
            self.new_page(&self.ranges[range], value);
            self.wrote(range, value);
        });
    }

    /// Runs `f` with the VMAs locked for writing.
    pub fn change<R>(&self, f: impl FnOnce() -> R) -> R {
        let _guard = self.vmas().write();
        f()
    }

    /// The parent locks the mapping of `from..to` for writing, and so helps who waits for that.
    pub fn help(self: &Arc<Self>, from: usize, to: usize) {
        let set = |covered| *self.helps.lock().expect("not poisoned") = covered;
        self.change(|| {
            set(Some(addr(from)..addr(to)));
            self.tracker.help(self, addr(from), addr(to));
            set(None);
        });
    }

    /// How often a puller had to wait for the parent.
    pub fn pauses(&self) -> usize {
        self.pauses.load(SeqCst)
    }

    /// `munmap()`: detaches all mappings, then settles what is pending without a lock.
    pub fn unmap(self: &Arc<Self>) {
        self.vmas().write().unmap();
        self.push_locked(0, self.ranges.len());
        self.tables.take_down();
    }

    /// `__mmput()`, when the parent has no threads any more: settles everything, then takes the
    /// mappings down.
    pub fn exit(self: &Arc<Self>) {
        self.push_locked(0, self.ranges.len());
        self.payer.step();
        self.tracker.quiesce();
        self.tree.take_down();
        self.tables.take_down();
    }

    /// Is a range write-protected?
    pub fn is_protected(&self, range: usize) -> bool {
        self.ranges[range].pmd_write.load(Acquire) == 0
    }

    /// Forks a child that has the ranges `deferred` deferred.
    ///
    /// Without locks, before there are threads.
    pub fn fork(self: &Arc<Self>, deferred: &[usize]) -> Process {
        self.fork_with(deferred, &[])
    }

    /// Forks a child for which the copies of some ranges go as `how` says.
    pub fn fork_with(self: &Arc<Self>, deferred: &[usize], how: &[(usize, CopyResult)]) -> Process {
        let _guard = self.vmas.as_ref().map(Vmas::write);
        let ranges = self.ranges.len();
        let mut copy = vec![Done; ranges];
        for &(range, result) in how {
            copy[range] = result;
        }
        let child = Arc::new(Child {
            parent: self.clone(),
            tables: (self.ranges.iter())
                .map(|range| Table {
                    installed: false,
                    ptes: vec![None; range.ptes.len()],
                })
                .map(UnsafeCell::new)
                .collect(),
            copy,
            pending: Number::new(0),
            gone: Number::new(0),
            killed: Number::new(0),
        });

        let builder = Builder::<Machine>::new(self.clone(), self.payer.clone());
        let mut builder = builder.expect("there is memory");
        builder.extent(TargetVma(&*child), addr(0), addr(ranges));
        for (index, range) in self.ranges.iter().enumerate() {
            if deferred.contains(&index) && builder.defer(addr(index), addr(index + 1)) {
                range.pmd_write.store(0, Release);
            } else {
                child.copy_now(index);
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
    /// Copies a range in the call of fork.
    fn copy_now(&self, range: usize) {
        // SAFETY: Nobody else knows of the child.
        self.tables[range].with_mut(|table| unsafe {
            for (at, pte) in (&mut *table).ptes.iter_mut().enumerate() {
                *pte = Some(self.share(range, at));
            }
        });
    }

    /// Copies a range, or what is left of it, by somebody who has claimed it.
    fn copy(&self, range: usize, supplies: &mut Supplies) -> Result<bool> {
        // Others may come in between: the models know without being told.
        #[cfg(not(any(loom, shuttle)))]
        thread::yield_now();
        self.parent.tables.look();
        let protected = || self.parent.is_protected(range);
        assert!(protected(), "copies what is not protected");
        // SAFETY: Nobody else uses it, or the model fails.
        let all = self.tables[range].with_mut(|table| unsafe {
            let table = &mut *table;
            if !table.installed {
                if !mem::take(&mut supplies.table) {
                    return Err(ENOMEM);
                }
                supplies.used();
                table.installed = true;
            }
            for at in 0..table.ptes.len() {
                if table.ptes[at].is_some() {
                    continue;
                }
                if at == table.ptes.len() - 1 {
                    match self.copy[range] {
                        Fails => return Err(EIO),
                        Stops if !mem::take(&mut supplies.page) => {
                            if supplies.page_tried {
                                return Err(ENOMEM);
                            }
                            supplies.wants_page = true;
                            return Ok(false);
                        }
                        Stops => supplies.used(),
                        Done => {}
                    }
                }
                let old = table.ptes[at].replace(self.share(range, at));
                assert!(old.is_none(), "copied twice");
            }
            Ok(true)
        });
        assert_eq!(self.gone.load(SeqCst), 0, "copied to a child that has gone");
        assert!(protected(), "copied what is not protected");
        all
    }

    /// Copies a PTE: the page is shared, and read-only from now on.
    fn share(&self, range: usize, at: usize) -> usize {
        let source = &self.parent.ranges[range];
        let _guard = source.pte_lock.lock().expect("not poisoned");
        let pte = Pte::unpack(source.ptes[at].load(Relaxed));
        let read_only = Pte {
            write: false,
            ..pte
        };
        source.ptes[at].store(read_only.pack(), Release);
        pte.page
    }
}

/// A child that runs.
#[derive(Clone)]
pub struct Process {
    /// Its address space.
    child: Arc<Child>,
    /// Where the rest of its memory comes from.
    pub session: Option<kernel::sync::Arc<Session<Machine>>>,
    /// What it must see in the last page of each range.
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

    /// The child copies all it can. If that fails it does not enter user space.
    pub fn copy_all(&self) -> Result {
        self.child.parent.payer.step();
        self.session().copy_all()
    }

    /// The child copies all, which cannot fail.
    pub fn copy(&self) {
        self.copy_all().expect("nothing fails");
    }

    /// Somebody reads the child's memory, who can do without.
    pub fn read(&self, range: usize) -> Result<usize> {
        self.pull(range, false)
    }

    /// Somebody reads the child's memory, who `must` have it or not.
    pub fn pull(&self, range: usize, must: bool) -> Result<usize> {
        self.child.parent.payer.step();
        if let Some(session) = &self.session {
            session.pull(addr(range), addr(range + 1), must)?;
        }
        Ok(self.look(range))
    }

    /// Somebody reads the child's memory, if the child does not wait for it.
    pub fn peek(&self, range: usize) -> Option<usize> {
        self.child.parent.payer.step();
        let (start, end) = (addr(range), addr(range + 1));
        (!self.session().is_waited_for(start, end)).then(|| self.look(range))
    }

    fn look(&self, range: usize) -> usize {
        // SAFETY: It is settled, or the model fails.
        let pages = self.child.tables[range].with(|table| unsafe { (&*table).ptes.clone() });
        let mut value = None;
        for page in pages {
            if let Some(value) = value {
                // Of one that nobody writes to.
                assert_eq!(value, initial(range));
            }
            let page = page.expect("settled, and not copied");
            value = Some(self.child.parent.pages[page].load(Relaxed));
        }
        value.expect("a range has pages")
    }

    /// Somebody reads a range that cannot fail and that is as it was at first.
    pub fn sees(&self, range: usize) {
        assert_eq!(self.read(range), Ok(initial(range)));
    }

    /// Somebody changes the child's page table of a range, as far as it has been copied and if it
    /// has failed, as if it had been settled.
    pub fn write(&self, range: usize) -> Result {
        self.child.parent.payer.step();
        let pulled = self.session().pull(addr(range), addr(range + 1), false);
        // SAFETY: Nobody copies to it any more, or the model fails.
        self.child.tables[range].with_mut(|table| unsafe { (*table).installed = true });
        pulled
    }

    /// The child exits, or execs. It takes its page tables down.
    pub fn exit(&self) {
        self.child.parent.payer.step();
        if let Some(session) = &self.session {
            session.abandon();
        }
        self.child.gone.store(1, SeqCst);
        for table in &self.child.tables {
            // SAFETY: Nobody copies any more, or the model fails.
            table.with_mut(|table| unsafe { (&mut *table).ptes.clear() });
        }
    }

    /// How many ranges it is told are pending.
    pub fn pending(&self) -> usize {
        self.child.pending.load(SeqCst)
    }

    /// Has it been killed?
    pub fn is_killed(&self) -> bool {
        self.child.killed.load(SeqCst) != 0
    }

    /// It is over for all: nobody else, such as a session, uses the address space, nothing is
    /// pending, and nothing is left of what was allocated.
    pub fn is_at_rest(&self) -> bool {
        assert_eq!(self.pending(), 0, "accounted as pending");
        let supplies = &self.child.parent.payer.supplies;
        assert_eq!(supplies.load(SeqCst), 0, "supplies that are lost");
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
        self.parent.tables.look();
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
    const TRIES: u64 = 1;

    type Source = Arc<Parent>;
    type Target = Arc<Child>;
    type TargetVma = TargetVma;
    type SourceVma<'a> = &'a Arc<Parent>;
    type Payer = Arc<Payer>;
    type Supplies = Supplies;
    type Entry = Entry;

    fn tracker(source: &Arc<Parent>) -> Option<&Tracker<Self>> {
        Some(&source.tracker)
    }

    fn prepare(payer: &Arc<Payer>, supplies: &mut Supplies, _: Party, _: bool) {
        might_sleep();
        payer.step();
        supplies.payer = Some(payer.clone());
        // What somebody has waited for has not come.
        let alloc = |starved: bool| !starved && payer.alloc();
        let starved = mem::take(&mut supplies.starved);
        if supplies.wants_page {
            supplies.page = supplies.page || alloc(starved);
            supplies.page_tried = true;
        } else {
            supplies.table = supplies.table || alloc(starved);
        }
    }

    unsafe fn copy(
        source: &Arc<Parent>,
        target: TargetVma,
        at: usize,
        supplies: &mut Supplies,
        party: Party,
    ) -> Result<bool> {
        if party == Party::Push {
            let helps = source.helps.lock().expect("not poisoned").clone();
            let covers = helps.is_none_or(|covered| covered.contains(&at));
            assert!(covers, "copied from a mapping that does not cover it");
        }
        // SAFETY: The session has a reference, and the range is claimed.
        unsafe { &*target.0 }.copy(at / SIZE - 1, supplies)
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

    unsafe fn with_source<R>(
        source: &Arc<Parent>,
        _: usize,
        f: impl FnOnce(&Arc<Parent>) -> R,
    ) -> Option<R> {
        source.payer.step();
        source.tree.look();
        let _guard = match &source.vmas {
            Some(vmas) => Some(vmas.try_read()?),
            None => None,
        };
        Some(f(source))
    }

    fn account(target: &Arc<Child>, from: usize, to: usize, of: usize) {
        target.parent.payer.step();
        assert!(from <= of && to <= of);
        assert_eq!(target.gone.load(SeqCst), 0, "accounted after the exit");
        assert_eq!(target.pending.swap(to, SeqCst), from, "accounted wrongly");
    }

    fn is_dying(_: &Arc<Child>) -> bool {
        false
    }

    fn kill(targets: &[Option<Arc<Child>>], _: Error) {
        for target in targets.iter().flatten() {
            assert_eq!(target.killed.swap(1, SeqCst), 0, "killed twice");
        }
    }

    fn count(_: &Arc<Payer>, _: Event, _: usize) {}

    fn kept(_: &Arc<Parent>, _: u64) {}

    fn give_back(supplies: &mut Supplies) {
        let wants_page = supplies.wants_page;
        *supplies = Supplies::default();
        supplies.wants_page = wants_page;
        supplies.starved = true;
    }

    fn wait_for_memory() {
        might_sleep();
    }

    /// A second is over at once.
    fn now() -> u64 {
        std::thread_local!(static NOW: std::cell::Cell<u64> = const { std::cell::Cell::new(0) });
        NOW.with(|now| now.replace(now.get() + 1_000_000_000))
    }

    fn pause(source: &Arc<Parent>) {
        might_sleep();
        source.pauses.fetch_add(1, SeqCst);
        thread::yield_now();
    }

    fn interrupted(_: bool) -> bool {
        might_sleep();
        false
    }

    fn is_victim(_: &Arc<Parent>) -> bool {
        false
    }
}
