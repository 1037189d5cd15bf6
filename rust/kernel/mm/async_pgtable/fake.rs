// SPDX-License-Identifier: GPL-2.0

//! Page tables for unit tests: parents of a few ranges, each of which contains a number.

use core::marker::PhantomData;

use crate::{
    alloc::AllocError,
    prelude::*,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        Arc, //
    },
};

use super::{
    page_tables::Event,
    patience::SECOND,
    Builder,
    Session,
    Tracker, //
};

mod page_tables;

pub use page_tables::Supplies;

/// Number of ranges of a parent.
pub const RANGES: usize = 40;
/// Number of children a parent can have.
pub const CHILDREN: usize = 3;
/// How often somebody waits for memory in a second.
pub const PATIENCE: usize = 16;

const SIZE: usize = 0x1000;
const EVENTS: usize = 15;

/// Where range `index` begins. The first one is not at zero.
pub const fn addr(index: usize) -> usize {
    (index + 1) * SIZE
}

/// What the page tables of one test do when told to, and what they have done.
pub struct World {
    /// Allocations that fail from now on.
    alloc_failures: Atomic<usize>,
    /// Copies that fail from now on.
    copy_failures: Atomic<usize>,
    /// Is the task being killed? By the OOM killer, if it is 2.
    interrupted: Atomic<usize>,
    /// Is it when an allocation fails?
    interrupts: Atomic<usize>,
    /// Children that somebody else is killing, bit by bit.
    dying: Atomic<usize>,
    /// Those that he begins to kill when an allocation fails.
    kills_child: Atomic<usize>,
    /// Children that have been killed, bit by bit.
    killed: Atomic<usize>,
    /// How often somebody looked for children to kill.
    kills: Atomic<usize>,
    /// Ranges that are pending for each child, as it is told.
    pending: [Atomic<usize>; CHILDREN],
    /// How often somebody waited for memory.
    waits: Atomic<usize>,
    /// How often pullers find the parent's mapping locked, and after each wait for memory.
    locked: Atomic<usize>,
    locks: Atomic<usize>,
    /// The time, and what an allocation that fails takes, and a copy, in nanoseconds.
    now: Atomic<usize>,
    failure_takes: Atomic<usize>,
    copy_takes: Atomic<usize>,
    /// For how long children kept parents, in nanoseconds.
    kept: Atomic<usize>,
    /// Empty page tables.
    tables: Atomic<usize>,
    /// How often each event was counted.
    events: [Atomic<usize>; EVENTS],
}

impl World {
    /// Page tables that have been told nothing.
    pub const fn at_rest() -> Self {
        Self {
            alloc_failures: Atomic::new(0),
            copy_failures: Atomic::new(0),
            interrupted: Atomic::new(0),
            interrupts: Atomic::new(0),
            dying: Atomic::new(0),
            kills_child: Atomic::new(0),
            killed: Atomic::new(0),
            kills: Atomic::new(0),
            pending: [const { Atomic::new(0) }; CHILDREN],
            waits: Atomic::new(0),
            locked: Atomic::new(0),
            locks: Atomic::new(0),
            now: Atomic::new(0),
            failure_takes: Atomic::new(0),
            copy_takes: Atomic::new(0),
            kept: Atomic::new(0),
            tables: Atomic::new(0),
            events: [const { Atomic::new(0) }; EVENTS],
        }
    }
}

/// A test, as `fake!` makes it.
pub trait Test: 'static {
    /// What its page tables do.
    fn world() -> &'static World;
}

/// Begins a test, which has page tables of its own: tests run at the same time, and again. They
/// are `Fake`, and those of parents are `Parent`.
#[allow(unused_macros)] // The host crate has no tests for those who use it.
macro_rules! fake {
    () => {
        use $crate::mm::async_pgtable::fake;

        struct Test;

        impl fake::Test for Test {
            fn world() -> &'static fake::World {
                static WORLD: fake::World = fake::World::at_rest();
                &WORLD
            }
        }

        type Fake = fake::Fake<Test>;
        #[allow(dead_code)]
        type Parent = fake::Parent<Test>;

        Fake::reset();
    };
}

#[allow(unused_imports)]
pub(super) use fake;

fn event_index(event: Event) -> usize {
    match event {
        Event::SessionStart => 0,
        Event::SessionComplete => 1,
        Event::SessionAbandon => 2,
        Event::SessionFail => 3,
        Event::RangeDefer => 4,
        Event::RangeAbandon => 5,
        Event::RangeSync => 6,
        Event::RangeSettle(party) => 7 + party as usize,
        Event::Fallback(refusal) => 10 + refusal as usize,
    }
}

/// Takes one from `counter` if it is not zero.
fn take(counter: &Atomic<usize>) -> bool {
    let left = counter.load(Relaxed);
    if left != 0 {
        counter.store(left - 1, Relaxed);
    }
    left != 0
}

/// The page tables of a test.
pub struct Fake<T: Test>(PhantomData<T>);

impl<T: Test> Fake<T> {
    fn world() -> &'static World {
        T::world()
    }

    /// Begins a test: suites can be run again.
    pub fn reset() {
        let world = Self::world();
        for counter in [
            &world.alloc_failures,
            &world.copy_failures,
            &world.interrupted,
            &world.interrupts,
            &world.dying,
            &world.kills_child,
            &world.killed,
            &world.kills,
            &world.waits,
            &world.locked,
            &world.locks,
            &world.now,
            &world.failure_takes,
            &world.copy_takes,
            &world.kept,
            &world.tables,
        ] {
            counter.store(0, Relaxed);
        }
        for counter in Iterator::chain(world.pending.iter(), &world.events) {
            counter.store(0, Relaxed);
        }
    }

    /// Makes the next `nr` allocations of page tables fail.
    pub fn fail_allocs(nr: usize) {
        Self::world().alloc_failures.store(nr, Relaxed);
    }

    /// Makes the next `nr` copies fail.
    pub fn fail_copies(nr: usize) {
        Self::world().copy_failures.store(nr, Relaxed);
    }

    /// Sends the task a fatal signal, or takes it back.
    pub fn interrupt(interrupted: bool) {
        Self::world()
            .interrupted
            .store(usize::from(interrupted), Relaxed);
    }

    /// Makes the task a victim of the OOM killer.
    pub fn make_victim() {
        Self::world().interrupted.store(2, Relaxed);
    }

    /// Sends the task a fatal signal when an allocation fails.
    pub fn interrupt_by_failure() {
        Self::world().interrupts.store(1, Relaxed);
    }

    /// Somebody else kills this child, which has yet to notice.
    pub fn begin_to_kill(child: usize) {
        Self::world().dying.store(1 << child, Relaxed);
    }

    /// Somebody else begins to kill this child when an allocation fails.
    pub fn kill_by_failure(child: usize) {
        Self::world().kills_child.store(1 << child, Relaxed);
    }

    /// Has this child been killed?
    pub fn killed(child: usize) -> bool {
        Self::world().killed.load(Relaxed) & (1 << child) != 0
    }

    /// How often somebody waited for memory.
    pub fn waits_for_memory() -> usize {
        Self::world().waits.load(Relaxed)
    }

    /// Who has waited for memory finds the parent's mapping locked.
    pub fn lock_mappings_by_waits() {
        Self::world().locks.store(1, Relaxed);
    }

    /// Time passes.
    pub fn pass(nanoseconds: u64) {
        let now = &Self::world().now;
        now.store(now.load(Relaxed) + nanoseconds as usize, Relaxed);
    }

    /// What takes how many of the waits of a second: an allocation that fails, and a copy.
    pub fn take(failure: usize, copy: usize) {
        let wait = SECOND as usize / PATIENCE;
        Self::world().failure_takes.store(failure * wait, Relaxed);
        Self::world().copy_takes.store(copy * wait, Relaxed);
    }

    /// For how many of the waits of a second, rounded, children kept parents.
    pub fn kept() -> usize {
        Self::world().kept.load(Relaxed) / (SECOND as usize / PATIENCE)
    }

    /// How often somebody looked for children to kill.
    pub fn kills() -> usize {
        Self::world().kills.load(Relaxed)
    }

    /// Number of ranges that this child was told are pending.
    pub fn pending_of(child: usize) -> usize {
        Self::world().pending[child].load(Relaxed)
    }

    /// Number of page tables that are allocated and not installed.
    pub fn tables() -> usize {
        Self::world().tables.load(Relaxed)
    }

    /// How often `event` was counted.
    pub fn count_of(event: Event) -> usize {
        Self::world().events[event_index(event)].load(Relaxed)
    }

    /// Begins a session of which the ranges `deferred` are deferred.
    pub fn begin(
        parent: &Arc<Parent<T>>,
        child: usize,
        deferred: &[usize],
    ) -> Result<Builder<Self>, AllocError> {
        let mut builder = Builder::new(parent.clone(), ())?;
        builder.extent(child, addr(0), addr(RANGES));
        for &index in deferred {
            let (start, end) = (addr(index), addr(index + 1));
            if builder.may_defer(start) && builder.defer(start, end) {
                parent.protected[index].store(1, Relaxed);
            }
        }
        Ok(builder)
    }

    /// Begins a session of which the ranges `deferred` are deferred, and makes it live.
    pub fn fork(
        parent: &Arc<Parent<T>>,
        child: usize,
        deferred: &[usize],
    ) -> Result<Option<Arc<Session<Self>>>> {
        Ok(Self::begin(parent, child, deferred)?.arm(child))
    }

    /// Settles a range on behalf of the parent.
    pub fn push(parent: &Arc<Parent<T>>, index: usize) -> Result {
        parent
            .tracker
            .push(parent, addr(index), addr(index + 1), false)
    }
}

/// A parent, and what its children have of it.
#[pin_data]
pub struct Parent<T: Test> {
    /// The sessions that copy from it.
    #[pin]
    pub tracker: Tracker<Fake<T>>,
    during_pause: Option<fn(&Arc<Self>)>,
    unmapped: Atomic<usize>,
    protected: [Atomic<usize>; RANGES],
    values: [Atomic<usize>; RANGES],
    installed: [[Atomic<usize>; RANGES]; CHILDREN],
    copies: [[Atomic<usize>; RANGES]; CHILDREN],
}

impl<T: Test> Parent<T> {
    /// A parent whose range `n` contains `n + 1`.
    pub fn new() -> Result<Arc<Self>> {
        Self::with_hook(None)
    }

    /// A parent for which `during_pause` runs when a puller has to wait for it.
    pub fn with_hook(during_pause: Option<fn(&Arc<Self>)>) -> Result<Arc<Self>> {
        let empty = || core::array::from_fn(|_| Atomic::new(0));
        Arc::pin_init(
            pin_init!(Self {
                tracker <- Tracker::new(),
                during_pause,
                unmapped: Atomic::new(0),
                protected: empty(),
                values: core::array::from_fn(|index| Atomic::new(index + 1)),
                installed: core::array::from_fn(|_| empty()),
                copies: core::array::from_fn(|_| empty()),
            }),
            GFP_KERNEL,
        )
    }

    /// Is the range write-protected?
    pub fn is_protected(&self, index: usize) -> bool {
        self.protected[index].load(Relaxed) != 0
    }

    /// Detaches all mappings from pullers, or lets them have them.
    pub fn map(&self, mapped: bool) {
        self.unmapped.store(usize::from(!mapped), Relaxed);
    }

    /// Gives a child an empty page table, as if somebody had begun to copy.
    pub fn install(&self, child: usize, index: usize) {
        self.installed[child][index].store(1, Relaxed);
    }

    /// What a child has of a range; zero if nothing.
    pub fn copy_of(&self, child: usize, index: usize) -> usize {
        self.copies[child][index].load(Relaxed)
    }
}
