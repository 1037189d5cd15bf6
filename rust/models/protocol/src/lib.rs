// SPDX-License-Identifier: GPL-2.0

//! The protocol and the page tables, as a model.
//!
//! loom runs the core itself, and sees its atomics and locks. This is a model of what the core is
//! for: PMD entries, PTEs, pages, TLBs, and all who change or look at them. stateright goes through
//! all states of small sizes, the [families]. What must be so in each is in [properties], what can
//! be broken, to see that this is noticed, in [mutation].
//!
//! The modules are named as those of the core, whose steps they have: [`builder`], [`claim`],
//! [`settle`], [`session`], [`tracker`]. [`page_tables`] and [`hooks`] stand for the C side,
//! [`tlb`] for the CPUs. A comment names the function that a step is taken from.
//!
//! # What is modelled
//!
//! - A parent with one or two ranges of two PTEs; pages that contain a number. Two threads on two
//!   CPUs, whose TLBs cache PMD entries and translations, with the permissions of when they were
//!   read. So a walk may use an old PMD entry and a new PTE.
//! - fork: the look for pins, protection, in-call copies, failure, flush, arming. Up to two
//!   sessions.
//! - The copy, PTE by PTE, that may stop between two, for want of a page, or as it is told to; claims; publication in two steps; the end of a session, and all that waits.
//! - The hooks of `ci/hooks`, each with what it is there for.
//! - Write faults with copy on write, GUP, GUP-fast that pins with `write_protect_seq`, devices.
//! - munmap, mprotect, mremap, discards, guards, splits, soft-dirty, userfaultfd, collapse, KSM.
//! - Migration: two walks of the rmap, which come to the mappings in any order, and a page that
//!   moves if it is mapped nowhere in between. The second one is repeated if migration entries were
//!   copied meanwhile. Their number is a mark here, on who has read it.
//! - A child of a child, to which migration entries come in two copies. Its parent is complete, and
//!   does no more than to exit.
//! - The exit of a parent, that frees range by range what is settled; that of a child; SIGKILL, and
//!   sessions that a parent abandons for it; the OOM reaper; want of memory.
//!
//! # What is not
//!
//! - Orderings of memory: a step is atomic and seen by all. For that are loom and
//!   `tools/check-litmus`.
//! - What a lock makes one: who takes a lock and can go on has done both in one step, and who lets
//!   go of one does it with what comes before. A claim and the parent's mapping are taken together,
//!   or neither. Page tables are locked across steps by copies only.
//! - One lock stands for the mmap_lock and the lock of the VMA, of which there is one. `munmap()`
//!   is of all of it.
//! - Waiting for time: who would try again after a while waits until that makes sense. So no model
//!   has a cycle but by a bug, and that everybody comes to an end is that no state is without a
//!   next one before.
//! - Swap, huge pages but as what collapse leaves behind, poisoned pages, read faults, `MADV_FREE`;
//!   memory cgroups and accounting; PREEMPT_RT. Two claims that share a lock. Namespaces of pids.
//! - GUP that takes a reference and no pin, and writes later: it has no rights after a fork.
//! - TLBs of children: nobody but they changes what they have in user space.
//! - In-call copies of fork as far as they are not new; they are atomic here. What a device writes
//!   by a pin while they run is nobody's instant.

pub mod builder;
pub mod claim;
pub mod explore;
pub mod families;
pub mod hooks;
pub mod mutation;
pub mod page_tables;
pub mod properties;
pub mod session;
pub mod settle;
pub mod task;
pub mod tlb;
pub mod tracker;

use std::{
    hash::{Hash, Hasher},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

pub use families::Family;
pub use mutation::{Hook, Mutation};
use page_tables::{CHILDREN, MMS, Mm, PAGES, PTES, Page, Pmd, Pte, RANGES, VAS};
use session::Session;
use stateright::{Model, Property};
use task::{Call, Op, Pc, Role, TASKS, Task};
use tlb::{CPUS, Tlb};

/// What somebody sees at an address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Seen {
    /// The content, if there is any.
    pub value: Option<u8>,
    /// Is it accessible?
    pub access: bool,
    /// Is it soft-dirty?
    pub soft_dirty: bool,
}

/// How far the life of a child is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Life {
    /// There is none yet.
    #[default]
    Unborn,
    /// In `dup_mmap()`.
    Forking,
    /// Others can reach it.
    Live,
    /// There will be none.
    Never,
}

/// A child.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Child {
    /// How far its life is.
    pub life: Life,
    /// It is to die.
    pub killed: bool,
    /// Its task has left the address space.
    pub left: bool,
    /// Its page tables are gone.
    pub gone: bool,
    /// Others who use its address space.
    pub users: u8,
    /// Its mapping was changed.
    pub changed: bool,
}

/// Something that must not be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Wrong {
    /// A fault, or a copy, would repeat for ever.
    Endless,
    /// Who looks at a child finds nothing where something is.
    Hole,
    /// An entry of the child is overwritten by a second copy.
    CopiedTwice,
    /// A copy finds a mapping or a page table that is not what was deferred.
    MappingChanged,
    /// Somebody copies to a child whose page tables are gone.
    ChildGone,
    /// Somebody copies to a mapping of the child that has been changed.
    ChildChanged,
    /// Somebody uses a parent whose mappings are gone.
    ParentGone,
    /// A device has a page that is not its owner's any more.
    PinLost,
    /// A page is freed once too often.
    FreedTwice,
    /// A CPU writes to a free page.
    UsedWhenFree,
    /// A migration entry is left behind.
    MigrationForEver,
    /// `MADV_COLLAPSE` has not collapsed what it has settled.
    CollapseFailed,
    /// A child is in user space and has not all of its memory.
    EntersUserSpace,
    /// A claim, a spinlock, is held while its owner sleeps.
    SleptWithClaim,
}

/// Everything, at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs)]
pub struct State {
    /// Which programs the tasks run.
    pub scenario: u16,
    pub tasks: [Task; TASKS],
    pub pages: [Page; PAGES],
    /// The parent's address space, then the children's.
    pub mms: [Mm; MMS],
    pub tlbs: [Tlb; CPUS],
    pub sessions: [Session; CHILDREN],
    pub children: [Child; CHILDREN],
    /// `write_protect_seq`
    pub seq: u8,
    /// `MMF_HAS_PINNED`
    pub has_pins: bool,
    /// Marks of page tables of the parent: something below may be pinned.
    pub marked: [bool; RANGES],
    /// A secondary MMU is attached to the parent.
    pub notifier: bool,
    /// The parent's mapping is unmapped.
    pub detached: bool,
    /// A boundary of mappings is in the middle of a range.
    pub cut: [bool; RANGES],
    /// `MMF_UNSTABLE`: the parent is being reaped. Its threads die.
    pub unstable: bool,
    /// The parent's mappings are gone.
    pub gone: bool,
    /// Forks that have been armed.
    pub forks: u8,
    /// Allocations, and forks, that may still fail.
    pub failures: u8,
    pub fork_failures: u8,
    /// Pages that the parent has at addresses that are not modelled.
    pub elsewhere: u16,
    /// Those of them that are being migrated there.
    pub elsewhere_migrating: u16,
    /// Pages that are pinned for good.
    pub pinned: u16,
    /// The oracle: what the parent, or a device of its, has written last.
    pub memory: [u8; VAS],
    /// The oracle: what each child has to have.
    pub expected: [[Seen; VAS]; CHILDREN],
    pub wrong: Option<Wrong>,
}

/// Collects what is to be hashed, to hash it at once.
struct Flat {
    bytes: [u8; 768],
    len: usize,
}

impl Hasher for Flat {
    fn write(&mut self, bytes: &[u8]) {
        self.bytes[self.len..self.len + bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len();
    }

    fn write_u8(&mut self, byte: u8) {
        self.bytes[self.len] = byte;
        self.len += 1;
    }

    /// Discriminants. All are small.
    fn write_isize(&mut self, discriminant: isize) {
        self.write_u8(discriminant as u8);
    }

    /// Lengths of arrays, which are constant.
    fn write_usize(&mut self, _: usize) {}

    fn finish(&self) -> u64 {
        unreachable!("only collects")
    }
}

impl Hash for State {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let mut flat = Flat {
            bytes: [0; 768],
            len: 0,
        };
        let Self {
            scenario,
            tasks,
            pages,
            mms,
            tlbs,
            sessions,
            children,
            seq,
            has_pins,
            marked,
            notifier,
            detached,
            cut,
            unstable,
            gone,
            forks,
            failures,
            fork_failures,
            elsewhere,
            elsewhere_migrating,
            pinned,
            memory,
            expected,
            wrong,
        } = self;
        (scenario, tasks, pages, mms, tlbs, sessions, children, seq).hash(&mut flat);
        (has_pins, marked, notifier, detached, cut, unstable, gone).hash(&mut flat);
        (forks, failures, fork_failures, elsewhere, pinned).hash(&mut flat);
        elsewhere_migrating.hash(&mut flat);
        (memory, expected, wrong).hash(&mut flat);
        state.write(&flat.bytes[..flat.len]);
    }
}

impl State {
    /// Uses of a page by page tables.
    pub fn mapped(&self, page: u8) -> u8 {
        let uses = |mm: &Mm| mm.pte.iter().filter(|pte| pte.uses(page)).count();
        self.mms.iter().map(uses).sum::<usize>() as u8
    }
}

/// A task takes its next step. There may be a choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Action {
    /// The task.
    pub task: u8,
    /// Which one, where there is a choice.
    pub choice: u8,
}

/// A family of models, with a bug or without.
#[derive(Clone, Debug)]
pub struct Protocol {
    family: Family,
    mutation: Option<Mutation>,
    ranges: u8,
    /// Steps that have been seen, see [`Protocol::reached`].
    reached: Arc<AtomicU64>,
}

impl Protocol {
    /// The models of a family.
    pub fn new(family: Family, mutation: Option<Mutation>) -> Self {
        let ranges = family.ranges;
        Self {
            family,
            mutation,
            ranges,
            reached: Arc::default(),
        }
    }

    /// Which steps of the core, and above them of operations, some execution comes to: a bit for
    /// each [`Settle`](task::Settle), then one for each [`Pc`].
    pub fn reached(&self) -> u64 {
        self.reached.load(Relaxed)
    }

    fn reach(&self, task: &Task) {
        let bit = match task.call {
            Call::None => task::SETTLES + task.pc as u32,
            _ => task.settle as u32,
        };
        if self.reached() >> bit & 1 == 0 {
            self.reached.fetch_or(1 << bit, Relaxed);
        }
    }

    fn has(&self, mutation: Mutation) -> bool {
        self.mutation == Some(mutation)
    }

    /// Tasks of a state.
    pub fn tasks(&self, s: &State) -> usize {
        self.family.scenarios[usize::from(s.scenario)].len()
    }

    /// Who a task is.
    pub fn role(&self, s: &State, task: usize) -> Role {
        self.family.scenarios[usize::from(s.scenario)][task].0
    }

    /// What a task does, and `None` if it is done.
    pub fn op(&self, s: &State, task: usize) -> Option<Op> {
        let scenario = &self.family.scenarios[usize::from(s.scenario)];
        let (_, ops) = scenario.get(task)?;
        ops.get(usize::from(s.tasks[task].op)).copied()
    }

    /// Is it done?
    pub fn is_done(&self, s: &State, task: usize) -> bool {
        self.op(s, task).is_none()
    }

    /// Does the parent move pages to where they are not modelled?
    pub fn moves(&self, s: &State) -> bool {
        let moves = |op: &Op| matches!(op, Op::Change(Hook::Mremap, _));
        (self.family.scenarios[usize::from(s.scenario)].iter())
            .any(|(_, ops)| ops.iter().any(moves))
    }

    /// Are all?
    pub fn all_done(&self, s: &State) -> bool {
        (0..self.tasks(s)).all(|task| self.is_done(s, task))
    }

    fn initial(&self, scenario: usize) -> State {
        let family = &self.family;
        let mut s = State {
            scenario: scenario as u16,
            tasks: Default::default(),
            pages: Default::default(),
            mms: Default::default(),
            tlbs: Default::default(),
            sessions: Default::default(),
            children: Default::default(),
            seq: 0,
            has_pins: false,
            marked: Default::default(),
            notifier: false,
            detached: false,
            cut: Default::default(),
            unstable: false,
            gone: false,
            forks: 0,
            failures: family.failures,
            fork_failures: family.fork_failures,
            elsewhere: 0,
            elsewhere_migrating: 0,
            pinned: 0,
            memory: Default::default(),
            expected: Default::default(),
            wrong: None,
        };
        for (c, child) in s.children.iter_mut().enumerate() {
            let forks = |(_, ops): &(Role, Vec<Op>)| {
                ops.contains(&Op::Fork(c)) || ops.contains(&Op::ChildFork(c))
            };
            if !family.scenarios[scenario].iter().any(forks) {
                child.life = Life::Never;
            }
        }
        let vas = usize::from(family.ranges) * PTES;
        for va in 0..vas {
            s.mms[0].pmd[page_tables::range_of(va)] = Pmd::Table { write: true };
            if family.hole && va == vas - 1 {
                continue;
            }
            let value = if family.zero { 0 } else { va as u8 + 1 };
            let page = s.alloc(value);
            s.mms[0].pte[va] = Pte::page(page, true);
            s.memory[va] = value;
        }
        s
    }
}

impl Model for Protocol {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        (0..self.family.scenarios.len())
            .map(|scenario| self.initial(scenario))
            .collect()
    }

    fn actions(&self, s: &State, actions: &mut Vec<Action>) {
        if s.wrong.is_some() {
            return;
        }
        for task in 0..self.tasks(s) {
            let choices = match self.op(s, task) {
                None => 0,
                Some(Op::Migrate(_)) => MMS as u8 + 1,
                Some(Op::Fork(_)) => 2,
                Some(_) if s.tasks[task].call != Call::None => 2,
                Some(_) => 1,
            };
            actions.extend((0..choices).map(|choice| Action {
                task: task as u8,
                choice,
            }));
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut s = last.clone();
        let mut actor = Actor {
            model: self,
            s: &mut s,
            t: action.task.into(),
        };
        actor.step(action.choice)?;
        self.reach(&last.tasks[usize::from(action.task)]);
        Some(s)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        properties::all()
    }
}

/// A task that takes a step. What returns `None` cannot be done now; what it has changed is not
/// used.
pub(crate) struct Actor<'a> {
    model: &'a Protocol,
    s: &'a mut State,
    t: usize,
}

impl Actor<'_> {
    fn step(&mut self, choice: u8) -> Option<()> {
        let op = self.model.op(self.s, self.t)?;
        if self.task().call != Call::None {
            return self.call_step(choice);
        }
        match self.role() {
            Role::Thread(_) if self.task().pc == Pc::Start && self.s.unstable && op != Op::Exit => {
                self.finish();
                return (choice == 0).then_some(());
            }
            Role::Child(c) if self.task().pc == Pc::Start => match self.s.children[c].life {
                Life::Live
                    if op == Op::ChildDies && !self.s.children[c].killed
                        || op != Op::ChildDies
                            && op != Op::ChildExit
                            && self.s.children[c].killed =>
                {
                    self.finish();
                    return (choice == 0).then_some(());
                }
                Life::Live => {}
                Life::Never => {
                    self.finish();
                    return Some(());
                }
                _ => return None,
            },
            _ => {}
        }
        self.op_step(op, choice)
    }

    fn task(&self) -> &Task {
        &self.s.tasks[self.t]
    }

    fn task_mut(&mut self) -> &mut Task {
        &mut self.s.tasks[self.t]
    }

    fn role(&self) -> Role {
        self.model.role(self.s, self.t)
    }

    /// The operation is done.
    fn finish(&mut self) {
        if let Some(Op::Fork(c) | Op::ChildFork(c)) = self.model.op(self.s, self.t) {
            let life = &mut self.s.children[c].life;
            if *life == Life::Unborn {
                *life = Life::Never;
            }
        }
        let op = self.task().op + 1;
        *self.task_mut() = Task {
            op,
            ..Default::default()
        };
    }

    /// How this task is known to locks.
    fn me(&self) -> u8 {
        self.t as u8 + 1
    }

    fn m(&self, mutation: Mutation) -> bool {
        self.model.has(mutation)
    }

    /// Is a hook enabled?
    fn hook(&self, hook: Hook) -> bool {
        !self.m(Mutation::Without(hook))
    }

    fn wrong(&mut self, wrong: Wrong) {
        self.s.wrong = self.s.wrong.or(Some(wrong));
    }
}
