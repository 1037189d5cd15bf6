// SPDX-License-Identifier: GPL-2.0

//! The deferred copy of one fork.

use crate::{
    prelude::*,
    static_lock_class,
    sync::{
        atomic::{
            Acquire,
            Atomic,
            Full,
            Relaxed, //
        },
        SpinLock, //
    },
};

use super::{
    claim::Claim,
    extent::{
        Extent,
        Range, //
    },
    page_tables::{
        Event,
        PageTables,
        Party, //
    },
    range_bitmap::{
        RangeBitmap,
        State, //
    },
    wait::Wait,
    Tracker, //
};

/// How a session ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
enum Outcome {
    /// It has not ended, or it is complete.
    Good = 0,
    /// Nobody needs the rest.
    Abandoned = 1,
    /// The child must not be used.
    Failed = 2,
}

/// Both sides of a session.
pub(super) struct Ends<P: PageTables> {
    pub(super) source: P::Source,
    pub(super) target: P::Target,
}

/// What lockdep calls the lock of the ends: the same in all crates, as in [`Tracker`].
static ENDS: &CStr = c"async_pgtable::Session::ends";

/// The deferred copy of one fork.
///
/// # Invariants
///
/// - `extents` is sorted and does not overlap.
/// - `remaining` is the number of ranges that are not settled, or more for a moment.
/// - `ends` is `None` once `remaining` is zero, or a moment later.
#[pin_data]
pub struct Session<P: PageTables> {
    extents: KVec<Extent<P>>,
    remaining: Atomic<usize>,
    outcome: Atomic<u32>,
    #[pin]
    ends: SpinLock<Option<Ends<P>>>,
    #[pin]
    wait: Wait,
}

impl<P: PageTables> Session<P> {
    /// A live session of which `pending` ranges are pending in `extents`.
    pub(super) fn new(
        extents: KVec<Extent<P>>,
        pending: usize,
        ends: Ends<P>,
    ) -> impl PinInit<Self> {
        pin_init!(Self {
            extents,
            remaining: Atomic::new(pending),
            outcome: Atomic::new(Outcome::Good as u32),
            ends <- SpinLock::new(Some(ends), ENDS, static_lock_class!()),
            wait <- Wait::new(),
        })
    }

    /// Does anything in `start..end` remain to be settled?
    ///
    /// If not, what has been copied there is visible.
    pub fn overlaps(&self, start: usize, end: usize) -> bool {
        self.next(start, end, RangeBitmap::next_unsettled).is_some()
    }

    /// Does anything remain to be settled?
    ///
    /// If not, everything that has been copied is visible.
    fn is_live(&self) -> bool {
        // Acquire: pairs with `settled`.
        self.remaining.load(Acquire) != 0
    }

    /// Does anything remain that could still fail?
    pub(super) fn is_good(&self) -> bool {
        self.is_live() && self.outcome.load(Relaxed) == Outcome::Good as u32
    }

    /// The first range that overlaps `start..end` and is found by `find`.
    pub(super) fn next(
        &self,
        start: usize,
        end: usize,
        find: impl Fn(&RangeBitmap, usize, usize) -> Option<usize>,
    ) -> Option<Range<'_, P>> {
        if !self.is_live() {
            return None;
        }

        Range::find(&self.extents, start, end, find)
    }

    /// Copies `range`, or waits until somebody else has. Without `wait`, returns false instead of
    /// waiting.
    fn settle(
        &self,
        tracker: &Tracker<P>,
        source: P::SourceVma<'_>,
        range: Range<'_, P>,
        party: Party,
        wait: bool,
    ) -> bool {
        loop {
            match range.state() {
                State::Settled => return true,
                State::Claimed if !wait => return false,
                State::Claimed => self.wait.until(|| range.state() != State::Claimed),
                State::Pending => {
                    // Before the claim, which others may wait for.
                    let Ok(table) = P::alloc_table(source) else {
                        self.fail();
                        continue;
                    };
                    if let Some(claim) = Claim::new(self, range) {
                        claim.copy(source, table, party).publish(tracker, source);
                    }
                }
            }
        }
    }

    /// Settles all of `start..end`, on behalf of the parent. `source` covers it.
    pub(super) fn push(
        &self,
        tracker: &Tracker<P>,
        source: P::SourceVma<'_>,
        start: usize,
        end: usize,
        wait: bool,
    ) -> bool {
        let mut start = start;
        while let Some(range) = self.next(start, end, RangeBitmap::next_unsettled) {
            if !self.settle(tracker, source, range, Party::Push, wait) {
                return false;
            }
            start = range.end();
            P::interrupted();
        }
        true
    }

    /// Settles all of `start..end`, on behalf of somebody who looks at the child.
    ///
    /// Fails with `EFAULT` if the child is not, and will not be, what it should be.
    pub fn pull(&self, start: usize, end: usize) -> Result {
        let mut cursor = start;
        while let Some(range) = self.next(cursor, end, RangeBitmap::next_unsettled) {
            self.pull_range(range, Party::Pull);
            cursor = range.end();
            P::interrupted();
        }
        self.check()
    }

    /// Settles what is pending, until there is nothing left or the task is killed.
    ///
    /// Does not wait for what others are copying. Fails as [`pull`](Self::pull) does.
    pub fn copy_all(&self) -> Result {
        let mut cursor = 0;
        while let Some(range) = self.next(cursor, usize::MAX, RangeBitmap::next_pending) {
            if P::interrupted() {
                break;
            }
            self.pull_range(range, Party::Copy);
            cursor = range.end();
        }
        self.check()
    }

    fn pull_range(&self, range: Range<'_, P>, party: Party) {
        let source = self.ends.lock().as_ref().map(|ends| ends.source.clone());
        let Some(source) = source else { return };
        let tracker = P::tracker(&source);
        let found = P::with_source(&source, range.start(), |source| {
            self.settle(tracker, source, range, party, true);
        });
        if !found {
            // Whoever unmaps it on the parent's side settles it, and needs no lock of ours.
            self.wait.until(|| range.state() == State::Settled);
        }
    }

    /// Is the child what it should be, as far as it has been copied?
    fn check(&self) -> Result {
        // Acquire: pairs with `fail`. Ranges are settled after that, and our caller has seen them
        // so.
        if self.outcome.load(Acquire) == Outcome::Failed as u32 {
            Err(EFAULT)
        } else {
            Ok(())
        }
    }

    /// Ends the session because something cannot be copied; kills the child.
    ///
    /// Does not wait, and neither allocates nor takes a lock of an address space.
    pub(super) fn fail(&self) {
        {
            // Under the lock, so that a session that has just become complete stays so, and that
            // who fails it too finds the child killed.
            let ends = self.ends.lock();
            let Some(ends) = &*ends else { return };
            if self.outcome.load(Relaxed) == Outcome::Failed as u32 {
                return;
            }
            // Before anybody is told: the child must not return to user space with an error.
            P::kill(&ends.target);
            // Full: before anything is settled without having been copied.
            self.outcome.xchg(Outcome::Failed as u32, Full);
        }

        P::count(Event::SessionFail, 1);
        self.give_up();
    }

    /// Ends the session because the child is gone. When this returns, nobody copies to it.
    pub fn abandon(&self) {
        // Full: either `give_up` sees what a dropped claim has given back, or `unclaimed` sees
        // this.
        let _ = self
            .outcome
            .cmpxchg(Outcome::Good as u32, Outcome::Abandoned as u32, Full);
        self.give_up();
        self.wait.until(|| !self.is_live());
    }

    /// Settles what is pending, uncopied.
    ///
    /// The parent's entries stay protected. That is lifted by its next write fault, or dropped
    /// with the entry.
    fn give_up(&self) {
        let nr = self.extents.iter().map(Extent::abandon_pending).sum();
        if nr != 0 {
            P::count(Event::RangeAbandon, nr);
            self.settled(nr);
        }
    }

    /// To be called after a claimed range has become pending again.
    pub(super) fn unclaimed(&self) {
        // Relaxed: the range was given back by a fully ordered operation, see `abandon`.
        if self.outcome.load(Relaxed) != Outcome::Good as u32 {
            // Nobody else would settle it any more.
            self.give_up();
        }
        self.wait.wake();
    }

    /// To be called after `nr` ranges have been settled.
    pub(super) fn settled(&self, nr: usize) {
        // Full: as a release, whoever finds nothing remaining sees all copies. As a barrier it
        // orders the publication before the look for waiters.
        if self.remaining.fetch_sub(nr, Full) == nr {
            self.end();
        }
        self.wait.wake();
    }

    /// Everything is settled: let go of both sides.
    fn end(&self) {
        let Some(ends) = self.ends.lock().take() else {
            return;
        };
        if self.outcome.load(Relaxed) == Outcome::Good as u32 {
            P::count(Event::SessionComplete, 1);
        } else if self.outcome.load(Relaxed) == Outcome::Abandoned as u32 {
            P::count(Event::SessionAbandon, 1);
        }
        P::tracker(&ends.source).remove(self);
    }
}

#[cfg(CONFIG_ASYNC_PGTABLE_KUNIT_TEST)]
#[macros::kunit_tests(rust_async_pgtable_session)]
mod tests {
    use super::super::{
        fake::{
            addr,
            Fake,
            Parent,
            RANGES, //
        },
        page_tables::Refusal, //
    };
    use super::*;
    use crate::sync::Arc;

    #[test]
    fn the_child_copies_all() -> Result {
        Fake::<8>::reset();
        let parent = Parent::<8>::new()?;
        let session = Fake::fork(&parent, 0, &[0, 3, RANGES - 1])?.ok_or(EINVAL)?;
        assert!(session.is_good());
        session.copy_all()?;
        assert!(!session.is_live());
        assert_eq!(parent.copy_of(0, 0), 1);
        assert_eq!(parent.copy_of(0, 1), 0);
        assert_eq!(parent.copy_of(0, 3), 4);
        assert_eq!(parent.copy_of(0, RANGES - 1), RANGES);
        assert!(!parent.is_protected(0));
        assert!(parent.tracker.is_idle());
        assert_eq!(Fake::<8>::tables(), 0);

        // Again, and for those who come late.
        session.copy_all()?;
        session.pull(0, usize::MAX)?;
        assert!(Fake::push(&parent, 0, false));
        session.abandon();
        session.fail();
        session.check()?;
        assert_eq!(parent.copy_of(0, 0), 1);
        assert!(!Fake::<8>::killed(0));
        assert_eq!(Fake::<8>::count_of(Event::SessionComplete), 1);
        Ok(())
    }

    #[test]
    fn counts_who_settles() -> Result {
        Fake::<9>::reset();
        let parent = Parent::<9>::new()?;
        let session = Fake::fork(&parent, 0, &[0, 1, 2, 3, 4])?.ok_or(EINVAL)?;
        assert!(Fake::push(&parent, 1, true));
        session.pull(addr(2), addr(4))?;
        session.copy_all()?;
        let settled = |party| Fake::<9>::count_of(Event::RangeSettle(party));
        assert_eq!(settled(Party::Push), 1);
        assert_eq!(settled(Party::Pull), 2);
        assert_eq!(settled(Party::Copy), 2);
        assert_eq!(Fake::<9>::count_of(Event::RangeDefer), 5);
        assert_eq!(Fake::<9>::count_of(Event::RangeAbandon), 0);
        assert_eq!(Fake::<9>::count_of(Event::SessionStart), 1);
        assert_eq!(Fake::<9>::count_of(Event::SessionComplete), 1);
        assert_eq!(Fake::<9>::count_of(Event::SessionAbandon), 0);
        assert_eq!(Fake::<9>::count_of(Event::SessionFail), 0);
        assert_eq!(Fake::<9>::count_of(Event::Fallback(Refusal::Small)), 0);
        Ok(())
    }

    #[test]
    fn a_push_need_not_wait() -> Result {
        fn during_copy(parent: &Arc<Parent<10>>) {
            // The range is claimed, by our caller.
            if !Fake::push(parent, 1, false) {
                P::interrupt(true);
            }
        }
        type P = Fake<10>;

        P::reset();
        let parent = Parent::<10>::with_hook(Some(during_copy))?;
        let session = Fake::fork(&parent, 0, &[1, 2])?.ok_or(EINVAL)?;
        session.copy_all()?;
        // The one was copied, in spite of the other, and the other did not wait.
        assert_eq!(parent.copy_of(0, 1), 2);
        assert!(P::interrupted());
        assert_eq!(parent.copy_of(0, 2), 0);

        P::interrupt(false);
        session.abandon();
        Ok(())
    }

    #[test]
    fn a_killed_child_stops_copying() -> Result {
        Fake::<11>::reset();
        let parent = Parent::<11>::new()?;
        let session = Fake::fork(&parent, 0, &[0, 1])?.ok_or(EINVAL)?;
        Fake::<11>::interrupt(true);
        session.copy_all()?;
        assert_eq!(parent.copy_of(0, 0), 0);
        // But whoever needs a range gets it.
        session.pull(addr(1), addr(2))?;
        assert_eq!(parent.copy_of(0, 1), 2);
        session.abandon();
        assert!(parent.tracker.is_idle());
        Ok(())
    }

    #[test]
    fn is_abandoned_with_the_child() -> Result {
        Fake::<12>::reset();
        let parent = Parent::<12>::new()?;
        let session = Fake::fork(&parent, 0, &[0, 1, 2])?.ok_or(EINVAL)?;
        session.pull(addr(1), addr(1) + 1)?;
        session.abandon();
        session.abandon();
        assert!(parent.tracker.is_idle());
        assert_eq!(parent.copy_of(0, 0), 0);
        assert_eq!(parent.copy_of(0, 1), 2);
        assert!(!Fake::<12>::killed(0));
        assert_eq!(Fake::<12>::count_of(Event::RangeAbandon), 2);
        assert_eq!(Fake::<12>::count_of(Event::SessionAbandon), 1);
        assert_eq!(Fake::<12>::count_of(Event::SessionComplete), 0);
        assert_eq!(Fake::<12>::count_of(Event::SessionFail), 0);
        Ok(())
    }

    #[test]
    fn fails_with_a_copy() -> Result {
        Fake::<13>::reset();
        let parent = Parent::<13>::new()?;
        let session = Fake::fork(&parent, 0, &[0, 1, 2])?.ok_or(EINVAL)?;
        session.pull(addr(0), addr(1))?;

        Fake::<13>::fail_copies(1);
        assert!(Fake::push(&parent, 1, true));
        assert!(Fake::<13>::killed(0));
        assert!(!parent.is_protected(1));
        assert!(parent.tracker.is_idle());
        // Nobody takes for copied what is not.
        assert_eq!(session.pull(addr(1), addr(2)), Err(EFAULT));
        assert_eq!(session.pull(addr(2), addr(3)), Err(EFAULT));
        assert_eq!(session.copy_all(), Err(EFAULT));
        assert_eq!(Fake::<13>::tables(), 0);
        assert_eq!(Fake::<13>::count_of(Event::RangeAbandon), 1);
        assert_eq!(Fake::<13>::count_of(Event::SessionFail), 1);
        assert_eq!(Fake::<13>::count_of(Event::SessionAbandon), 0);
        Ok(())
    }

    #[test]
    fn fails_without_a_table() -> Result {
        Fake::<14>::reset();
        let parent = Parent::<14>::new()?;
        let session = Fake::fork(&parent, 0, &[0, 1])?.ok_or(EINVAL)?;
        Fake::<14>::fail_allocs(1);
        assert_eq!(session.copy_all(), Err(EFAULT));
        assert!(Fake::<14>::killed(0));
        assert!(parent.tracker.is_idle());
        assert_eq!(Fake::<14>::count_of(Event::RangeAbandon), 2);
        assert_eq!(Fake::<14>::count_of(Event::SessionFail), 1);
        session.abandon();
        assert_eq!(Fake::<14>::count_of(Event::SessionAbandon), 0);
        Ok(())
    }

    #[test]
    fn a_puller_leaves_it_to_munmap() -> Result {
        fn during_copy(parent: &Arc<Parent<15>>) {
            parent.unmap();
        }
        Fake::<15>::reset();
        let parent = Parent::<15>::with_hook(Some(during_copy))?;
        let session = Fake::fork(&parent, 0, &[0])?.ok_or(EINVAL)?;
        // `munmap()` has detached the mapping, and settles it.
        assert!(Fake::push(&parent, 0, true));
        session.pull(addr(0), addr(1))?;
        assert_eq!(parent.copy_of(0, 0), 1);
        Ok(())
    }
}
