// SPDX-License-Identifier: GPL-2.0

//! What the core needs from the page tables that it does not own.
//!
//! There is one implementation in the kernel, `ffi::Kernel`, and others in tests and models.

use crate::prelude::*;

use super::Tracker;

/// Who settles a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Party {
    /// The child, before it enters user space.
    Copy,
    /// Somebody who looks at the child.
    Pull,
    /// The parent, before it changes the range.
    Push,
}

/// Why nothing of a fork was deferred.
///
/// # Examples
///
/// The greater one is the graver one.
///
/// ```
/// use kernel::mm::async_pgtable::page_tables::Refusal;
///
/// assert!(Refusal::Small < Refusal::Nomem);
/// assert_eq!(Refusal::Small.max(Refusal::Pinned), Refusal::Pinned);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Refusal {
    /// No eligible mapping contains a whole range with a page table.
    Small,
    /// No memory for the session.
    Nomem,
    /// As many sessions copy from the parent as may.
    Sessions,
    /// The parent has, or had, pinned pages.
    Pinned,
    /// A secondary MMU is attached to the parent.
    Notifier,
}

/// Something worth counting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A fork deferred something.
    SessionStart,
    /// All of a session was copied.
    SessionComplete,
    /// The child was gone before all of a session was copied.
    SessionAbandon,
    /// Something could not be copied and the child was killed.
    SessionFail,
    /// Ranges were deferred.
    RangeDefer,
    /// Ranges that could have been deferred were copied in the call.
    RangeSync,
    /// A range was copied.
    RangeSettle(Party),
    /// Ranges were given up.
    RangeAbandon,
    /// A fork deferred nothing.
    Fallback(Refusal),
}

/// A parent's PMD entry that points to a page table, locked until dropped.
pub trait Entry {
    /// Permits writes again, as far as the PTEs do.
    fn unprotect(&mut self);
}

/// The page tables of parents and children, and the locks around them.
///
/// # Examples
///
/// A parent without locks, in which a range is a number.
///
/// ```
/// # use kernel::prelude::*;
/// use kernel::{
///     mm::async_pgtable::{
///         page_tables::{Entry, Event, Party},
///         Builder, PageTables, Tracker,
///     },
///     sync::{
///         atomic::{Atomic, Relaxed},
///         Arc,
///     },
/// };
///
/// struct Numbers;
///
/// #[pin_data]
/// struct Parent {
///     #[pin]
///     tracker: Tracker<Numbers>,
///     memory: [Atomic<u32>; 4],
///     memory_of_child: [Atomic<u32>; 4],
/// }
///
/// struct Protection;
///
/// impl Entry for Protection {
///     fn unprotect(&mut self) {}
/// }
///
/// impl PageTables for Numbers {
///     const RANGE_SIZE: usize = 1;
///
///     type Source = Arc<Parent>;
///     type Target = ();
///     type TargetVma = ();
///     type SourceVma<'a> = &'a Parent;
///     type Payer = ();
///     type Supplies = ();
///     type Entry = Protection;
///
///     fn tracker(parent: &Arc<Parent>) -> Option<&Tracker<Self>> {
///         Some(&parent.tracker)
///     }
///
///     fn prepare((): &(), (): &mut (), _: Party, _: bool) {}
///
///     unsafe fn copy(parent: &Parent, _: (), addr: usize, _: &mut (), _: Party) -> Result<bool> {
///         let number = parent.memory[addr].load(Relaxed);
///         parent.memory_of_child[addr].store(number, Relaxed);
///         Ok(true)
///     }
///
///     fn lock_entry(_: &Parent, _: usize) -> Option<Protection> {
///         Some(Protection)
///     }
///
///     unsafe fn with_source<R>(
///         parent: &Arc<Parent>,
///         _: usize,
///         f: impl FnOnce(&Parent) -> R,
///     ) -> Option<R> {
///         Some(f(parent))
///     }
///
///     fn account(_: &(), _: usize, _: usize, _: usize) {}
///     fn is_dying(_: &()) -> bool {
///         false
///     }
///     fn kill(_: &[Option<()>], _: Error) {}
///     fn count((): &(), _: Event, _: usize) {}
///     fn kept(_: &Parent, _: u64) {}
///     fn pause(_: &Arc<Parent>) {}
///     fn give_back((): &mut ()) {}
///     fn wait_for_memory() {}
///     fn now() -> u64 {
///         0
///     }
///     fn interrupted(_: bool) -> bool {
///         false
///     }
///     fn is_victim(_: &Parent) -> bool {
///         false
///     }
/// }
///
/// let parent = Arc::pin_init(
///     pin_init!(Parent {
///         tracker <- Tracker::new(),
///         memory: core::array::from_fn(|_| Atomic::new(1)),
///         memory_of_child: core::array::from_fn(|_| Atomic::new(0)),
///     }),
///     GFP_KERNEL,
/// )?;
///
/// // The parent forks.
/// let mut builder = Builder::<Numbers>::new(parent.clone(), ())?;
/// builder.extent((), 0, 4);
/// assert!(builder.defer(0, 4));
/// let session = builder.arm(()).ok_or(EINVAL)?;
///
/// // It writes to what it still shares with its child.
/// parent.tracker.push(&parent, 2, 3, false)?;
/// parent.memory[2].store(2, Relaxed);
///
/// // The child has the memory of the moment of the fork.
/// session.copy_all()?;
/// assert!((0..4).all(|addr| parent.memory_of_child[addr].load(Relaxed) == 1));
/// assert!(parent.tracker.is_idle());
/// # Ok::<(), Error>(())
/// ```
pub trait PageTables: Sized {
    /// Size of a range in bytes, a power of two.
    const RANGE_SIZE: usize;
    /// How often who lacks memory tries at least, also if he hardly runs.
    const TRIES: u64 = 8;

    /// A parent. Keeps the object and its tracker, but not the mappings.
    type Source: Clone + Send + Unpin;
    /// A child. Keeps the object, but not the mappings.
    type Target: Clone + Send + Unpin;
    /// A mapping of a child. Valid while a range in it is claimed.
    type TargetVma: Copy + Send + Sync;
    /// A mapping of a parent, kept as it is by a lock of the caller's.
    type SourceVma<'a>: Copy;
    /// Who is charged for what is allocated for the child: the one whom fork would have charged.
    /// Not kept longer than there is something to allocate.
    type Payer: Clone + Send + Unpin;
    /// What a copy may use up and cannot allocate, as it runs with a spinlock held. At first there
    /// is nothing, and the least is wanted that any copy needs.
    type Supplies: Default;
    /// See [`Entry`].
    type Entry: Entry;

    /// The sessions that copy from `source`. There is a tracker once there was a session.
    fn tracker(source: &Self::Source) -> Option<&Tracker<Self>>;

    /// Allocates, or waits for, what the last copy lacked. Sleeps, and is called without spinlocks.
    ///
    /// It may get nothing, without having called the OOM killer. The next copy knows whether that
    /// is still needed. Little is tried at a time, but if it is to try `hard`.
    fn prepare(payer: &Self::Payer, supplies: &mut Self::Supplies, party: Party, hard: bool);

    /// Copies the range at `addr`, or goes on where a copy stopped before. Does not sleep.
    ///
    /// Returns whether all of it is copied. If not, `supplies` knows what is missing. Fails with
    /// `ENOMEM` if it lacks what [`prepare`](Self::prepare) could not get.
    ///
    /// # Safety
    ///
    /// The caller has claimed the range, and `target` is the mapping of the child it belongs to.
    unsafe fn copy(
        source: Self::SourceVma<'_>,
        target: Self::TargetVma,
        addr: usize,
        supplies: &mut Self::Supplies,
        party: Party,
    ) -> Result<bool>;

    /// Locks the parent's entry for `addr`, if it is in `source` and points to a page table.
    fn lock_entry(source: Self::SourceVma<'_>, addr: usize) -> Option<Self::Entry>;

    /// Locks the parent's mapping at `addr` and calls `f` with it, if that is possible at once. For
    /// pullers. Does not sleep.
    ///
    /// If it is not, somebody on the parent's side is changing the mapping, or is about to settle
    /// what is pending there.
    ///
    /// # Safety
    ///
    /// The caller has claimed the range at `addr` in a session that copies from `source`. So the
    /// parent's mappings have not been taken down: it settles everything first.
    unsafe fn with_source<R>(
        source: &Self::Source,
        addr: usize,
        f: impl FnOnce(Self::SourceVma<'_>) -> R,
    ) -> Option<R>;

    /// Accounts for the fact that of `of` deferred ranges no longer `from` but `to` are pending.
    /// Does not sleep.
    fn account(target: &Self::Target, from: usize, to: usize, of: usize);

    /// Is the process that runs on `target` being killed, so that it needs nothing any more? Does
    /// not sleep.
    fn is_dying(target: &Self::Target) -> bool;

    /// Kills the processes that run on `targets`, because of `why`. Does not sleep.
    fn kill(targets: &[Option<Self::Target>], why: Error);

    /// Counts `nr` times `event`, also for `payer`. Does not sleep.
    fn count(payer: &Self::Payer, event: Event, nr: usize);

    /// The parent was kept by its children for so many nanoseconds. Does not sleep.
    fn kept(source: Self::SourceVma<'_>, nanoseconds: u64);

    /// Sleeps for a moment, because somebody on the side of `source` is in the way.
    fn pause(source: &Self::Source);

    /// Gives back what was allocated. What was wanted still is.
    fn give_back(supplies: &mut Self::Supplies);

    /// Sleeps for longer, because memory may be on its way that [`prepare`](Self::prepare) did not
    /// get. See [`Patience`](super::Patience).
    fn wait_for_memory();

    /// The time in nanoseconds since any moment. Does not go back, and does not sleep.
    fn now() -> u64;

    /// Gives way to others between two ranges. Returns whether the task is being killed; if it is
    /// not `killable`, whether the OOM killer waits for what it has.
    fn interrupted(killable: bool) -> bool;

    /// Does the OOM killer wait for what the parent has? Does not sleep.
    fn is_victim(source: Self::SourceVma<'_>) -> bool;
}
