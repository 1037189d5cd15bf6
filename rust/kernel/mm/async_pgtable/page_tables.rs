// SPDX-License-Identifier: GPL-2.0

//! What the core needs from the page tables that it does not own.
//!
//! There is one implementation in the kernel, `ffi::Kernel`, and others in tests and models.

use crate::{
    alloc::AllocError,
    prelude::*, //
};

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
///     alloc::AllocError,
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
///     type Table = ();
///     type Entry = Protection;
///
///     fn tracker(parent: &Arc<Parent>) -> &Tracker<Self> {
///         &parent.tracker
///     }
///
///     fn alloc_table(_: &Parent) -> Result<(), AllocError> {
///         Ok(())
///     }
///
///     fn copy(parent: &Parent, _: (), addr: usize, _: (), _: Party) -> Result {
///         let number = parent.memory[addr].load(Relaxed);
///         parent.memory_of_child[addr].store(number, Relaxed);
///         Ok(())
///     }
///
///     fn lock_entry(_: &Parent, _: usize) -> Option<Protection> {
///         Some(Protection)
///     }
///
///     fn with_source(parent: &Arc<Parent>, _: usize, f: impl FnOnce(&Parent)) -> bool {
///         f(parent);
///         true
///     }
///
///     fn kill(_: &()) {}
///     fn count(_: Event, _: usize) {}
///     fn interrupted() -> bool {
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
/// let mut builder = Builder::<Numbers>::new(parent.clone())?;
/// builder.extent((), 0, 4);
/// assert!((0..4).all(|addr| builder.defer(addr)));
/// let session = builder.arm(()).ok_or(EINVAL)?;
///
/// // It writes to what it still shares with its child.
/// parent.tracker.push(&parent, 2, 3, true);
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

    /// A parent. Keeps the object and its tracker, but not the mappings.
    type Source: Clone + Send + Unpin;
    /// A child. Keeps the object, but not the mappings.
    type Target: Send + Unpin;
    /// A mapping of a child. Valid while a range in it is claimed.
    type TargetVma: Copy + Send + Sync;
    /// A mapping of a parent, kept as it is by a lock of the caller's.
    type SourceVma<'a>: Copy;
    /// An empty page table for a child; freed when dropped.
    type Table;
    /// See [`Entry`].
    type Entry: Entry;

    /// The sessions that copy from `source`.
    fn tracker(source: &Self::Source) -> &Tracker<Self>;

    /// Allocates a page table for a copy from `source`.
    fn alloc_table(source: Self::SourceVma<'_>) -> Result<Self::Table, AllocError>;

    /// Copies the range at `addr`. The caller has claimed it.
    fn copy(
        source: Self::SourceVma<'_>,
        target: Self::TargetVma,
        addr: usize,
        table: Self::Table,
        party: Party,
    ) -> Result;

    /// Locks the parent's entry for `addr`, if it points to a page table.
    fn lock_entry(source: Self::SourceVma<'_>, addr: usize) -> Option<Self::Entry>;

    /// Locks the parent's mapping at `addr` and calls `f` with it. For pullers.
    ///
    /// Returns false without calling `f` if there is none, or if the parent is exiting. Then
    /// somebody on the parent's side is about to settle what is pending there.
    fn with_source(source: &Self::Source, addr: usize, f: impl FnOnce(Self::SourceVma<'_>))
        -> bool;

    /// Kills the processes that run on `target`. Does not sleep.
    fn kill(target: &Self::Target);

    /// Counts `nr` times `event`.
    fn count(event: Event, nr: usize);

    /// Gives way to others between two ranges. Returns whether the task is being killed.
    fn interrupted() -> bool;
}
