// SPDX-License-Identifier: GPL-2.0

//! The deferred copy of one fork.

use pin_init::pin_init_array_from_fn;

use crate::{
    prelude::*,
    static_lock_class,
    sync::{
        atomic::{
            Acquire,
            Atomic,
            Relaxed,
            Release, //
        },
        SpinLock,
        SpinLockGuard, //
    },
};

use super::{
    extent::Extents,
    help::Waits,
    page_tables::{
        Event,
        PageTables, //
    },
    range_bitmap::RangeBitmap, //
};

/// How a session ends before all is copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// Nobody needs the rest.
    Abandoned = 1,
    /// The child must not be used.
    Failed = 2,
}

/// Number of pending ranges, and [`Outcome`], in a word. An outcome comes with no pending ranges.
const OUTCOME_BITS: u32 = 2;
const OUTCOME: usize = (1 << OUTCOME_BITS) - 1;

/// What became of a range that was copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Settled {
    /// It is settled. Others are pending.
    One,
    /// It is settled, and with it the session. [`Session::complete`] is next.
    Last,
    /// The session ended before it.
    TooLate,
}

/// Both sides of a session, and who pays.
struct Ends<P: PageTables> {
    source: P::Source,
    target: P::Target,
    payer: P::Payer,
}

/// A session that has ended before all was copied, for the one who ended it.
pub(super) struct Ended<P: PageTables> {
    ends: Ends<P>,
    pending: usize,
}

/// Number of locks for claims. Enough that the child and a few threads of the parent rarely meet.
const LOCKS: usize = 16;

/// What lockdep calls the locks: the same in all crates, as in
/// [`Tracker`](super::Tracker).
static ENDS: &CStr = c"async_pgtable::Session::ends";
static CLAIMS: &CStr = c"async_pgtable::Session::claims";

/// The deferred copy of one fork.
///
/// # Invariants
///
/// - `state` is written with `ends` locked; it holds the number of ranges that are pending in
///   `bitmap`, or zero and an outcome.
/// - `ends` is `None` once that number is zero, or a moment later.
#[pin_data]
pub struct Session<P: PageTables> {
    bitmap: RangeBitmap,
    extents: Extents<P>,
    deferred: usize,
    state: Atomic<usize>,
    #[pin]
    ends: SpinLock<Option<Ends<P>>>,
    pub(super) waits: Waits,
    /// See [`Claim`](super::claim::Claim). Locked one at a time.
    #[pin]
    claims: [SpinLock<()>; LOCKS],
}

impl<P: PageTables> Session<P> {
    /// A live session of which `deferred` ranges are pending in `bitmap`.
    pub(super) fn new(
        bitmap: RangeBitmap,
        extents: Extents<P>,
        deferred: usize,
        payer: P::Payer,
        source: P::Source,
        target: P::Target,
    ) -> impl PinInit<Self> {
        let ends = Some(Ends {
            source,
            target,
            payer,
        });
        let state = deferred << OUTCOME_BITS;
        // INVARIANT: As the caller says.
        pin_init!(Self {
            bitmap,
            extents,
            deferred,
            state: Atomic::new(state),
            ends <- SpinLock::new(ends, ENDS, static_lock_class!()),
            waits: Waits::new(),
            claims <- pin_init_array_from_fn(|_| {
                SpinLock::new((), CLAIMS, static_lock_class!())
            }),
        })
    }

    /// Is the range at `addr` still to be copied, as far as the bitmap knows?
    pub(super) fn is_pending(&self, addr: usize) -> bool {
        self.bitmap.is_pending(addr / P::RANGE_SIZE)
    }

    /// Address of the first range that overlaps `start..end` and is still to be copied, as far as the
    /// bitmap knows.
    ///
    /// What has been copied before it is visible.
    pub(super) fn next_pending(&self, start: usize, end: usize) -> Option<usize> {
        self.bitmap
            .next_pending(start / P::RANGE_SIZE, end.div_ceil(P::RANGE_SIZE))
            .map(|range| range * P::RANGE_SIZE)
    }

    /// Is a search of `start..end` so short that it may be under a spinlock?
    pub(super) fn is_short(start: usize, end: usize) -> bool {
        end - start <= P::RANGE_SIZE << 9
    }

    /// Is there one?
    pub(super) fn overlaps(&self, start: usize, end: usize) -> bool {
        self.next_pending(start, end).is_some()
    }

    /// Has it ended before all was copied?
    pub(super) fn is_over(&self) -> bool {
        // Acquire: pairs with `end`.
        self.state.load(Acquire) & OUTCOME != 0
    }

    /// Number of ranges that are still to be copied, and can be.
    pub fn pending(&self) -> usize {
        // Relaxed: nothing depends on it.
        self.state.load(Relaxed) >> OUTCOME_BITS
    }

    /// Is something still to be copied, and can be?
    ///
    /// If not, everything that has been copied is visible.
    pub(super) fn is_good(&self) -> bool {
        // Acquire: pairs with `settled` and `end`.
        self.state.load(Acquire) >> OUTCOME_BITS != 0
    }

    /// Does the child wait for anything in `start..end`?
    pub fn is_waited_for(&self, start: usize, end: usize) -> bool {
        self.next(start, end).is_some()
    }

    /// Address of the first range that overlaps `start..end` and is to be copied.
    pub(super) fn next(&self, start: usize, end: usize) -> Option<usize> {
        if !self.is_good() {
            return None;
        }
        self.next_pending(start, end)
    }

    /// The child's mapping that the range at `addr` belongs to.
    pub(super) fn target(&self, addr: usize) -> Option<P::TargetVma> {
        self.extents.find(addr, addr + P::RANGE_SIZE)
    }

    /// The lock to claim the range at `addr` by.
    pub(super) fn lock(&self, addr: usize) -> SpinLockGuard<'_, ()> {
        self.claims[addr / P::RANGE_SIZE % LOCKS].lock()
    }

    /// Waits for those who are copying. Nobody begins to once the session is over.
    ///
    /// They run, see [`Claim`](super::claim::Claim), so this does not take long.
    pub(super) fn quiesce(&self) {
        for claims in &self.claims {
            drop(claims.lock());
        }
    }

    /// Is the child in `start..end` what it should be, as far as it has been copied?
    pub(super) fn check(&self, start: usize, end: usize) -> Result {
        // Who keeps the mm of a child that is gone has no use for it either.
        if !self.is_over() || self.extents.find(start, end).is_none() {
            return Ok(());
        }
        // The caller may go on and change the child.
        self.quiesce();
        Err(EFAULT)
    }

    /// The parent, and who pays, for as long as the caller needs them. `None`: it has ended.
    pub(super) fn parent(&self) -> Option<(P::Source, P::Payer)> {
        let ends = self.ends.lock();
        let ends = ends.as_ref()?;
        Some((ends.source.clone(), ends.payer.clone()))
    }

    /// Settles the range at `addr`. The caller has claimed and copied it.
    pub(super) fn settled(&self, addr: usize) -> Settled {
        let ends = self.ends.lock();
        let Some(ends) = &*ends else {
            return Settled::TooLate;
        };
        let state = self.state.load(Relaxed);
        if state & OUTCOME != 0 || !self.bitmap.settle(addr / P::RANGE_SIZE) {
            return Settled::TooLate;
        }

        let from = state >> OUTCOME_BITS;
        let to = from - 1;
        P::account(&ends.target, from, to, self.deferred);
        // Release: whoever finds nothing pending sees all copies, this one and, by the lock, those
        // before. INVARIANT: One range fewer is pending, and `ends` is locked.
        self.state.store(to << OUTCOME_BITS, Release);
        if to == 0 {
            Settled::Last
        } else {
            Settled::One
        }
    }

    /// Is the child being killed? Then nobody needs what is pending.
    pub(super) fn is_dying(&self) -> bool {
        let ends = self.ends.lock();
        ends.as_ref().is_some_and(|ends| P::is_dying(&ends.target))
    }

    /// Everything is settled: let go of both sides. Called by the one who settled the last range,
    /// after that has been published.
    pub(super) fn complete(&self) {
        // Others may have published their ranges, but not left the parent yet, which need not wait
        // for sessions that it does not know.
        self.quiesce();
        let Some(ends) = self.ends.lock().take() else {
            return;
        };
        P::count(&ends.payer, Event::SessionComplete, 1);
        self.detach(&ends);
    }

    fn detach(&self, ends: &Ends<P>) {
        if let Some(tracker) = P::tracker(&ends.source) {
            tracker.remove(self);
        }
    }

    /// Ends the session, unless it has ended or all is copied.
    fn end(&self, outcome: Outcome) -> Option<Ended<P>> {
        let mut ends = self.ends.lock();
        let pending = self.state.load(Relaxed) >> OUTCOME_BITS;
        if pending == 0 {
            return None;
        }
        let ends = ends.take()?;
        P::account(&ends.target, pending, 0, self.deferred);
        // Release: see `is_over`. INVARIANT: An outcome and no pending ranges; `ends` is locked.
        self.state.store(outcome as usize, Release);
        Some(Ended { ends, pending })
    }

    /// Ends the session because something cannot be copied. To be followed by
    /// [`bury`](Self::bury).
    ///
    /// Does not wait, and neither allocates nor takes a lock of an address space.
    pub(super) fn mark_failed(&self) -> Option<Ended<P>> {
        self.end(Outcome::Failed)
    }

    /// Lets go of both sides of a session that has failed, and returns the child, to be killed.
    ///
    /// It need not be killed before others learn of the failure: it asks before it enters user
    /// space, see [`copy_all`](Self::copy_all).
    pub(super) fn let_go(&self, ended: Ended<P>) -> P::Target {
        self.quiesce();
        P::count(&ended.ends.payer, Event::SessionFail, 1);
        P::count(&ended.ends.payer, Event::RangeAbandon, ended.pending);
        self.detach(&ended.ends);
        ended.ends.target
    }

    /// Lets go of both sides of a session that has failed because of `why`, and kills the child.
    pub(super) fn bury(&self, ended: Ended<P>, why: Error) {
        P::kill(&[Some(self.let_go(ended))], why);
    }

    /// Ends the session because the child is gone, or being killed. When this returns, nobody
    /// copies to it.
    ///
    /// The parent's entries stay protected. That is lifted by its next write fault, or dropped
    /// with the entry.
    pub fn abandon(&self) {
        let ended = self.end(Outcome::Abandoned);
        self.quiesce();
        if let Some(ended) = ended {
            P::count(&ended.ends.payer, Event::SessionAbandon, 1);
            P::count(&ended.ends.payer, Event::RangeAbandon, ended.pending);
            self.detach(&ended.ends);
        }
    }
}

#[cfg(CONFIG_ASYNC_PGTABLE_KUNIT_TEST)]
#[macros::kunit_tests(rust_async_pgtable_session)]
mod tests {
    use super::super::fake::{
        addr,
        fake,
        RANGES, //
    };
    use super::*;

    #[test]
    fn the_child_copies_all() -> Result {
        fake!();
        let parent = Parent::new()?;
        let session = Fake::fork(&parent, 0, &[0, 3, RANGES - 1])?.ok_or(EINVAL)?;
        assert!(session.is_good());
        session.copy_all()?;
        assert!(!session.is_good());
        assert_eq!(parent.copy_of(0, 0), 1);
        assert_eq!(parent.copy_of(0, 1), 0);
        assert_eq!(parent.copy_of(0, 3), 4);
        assert_eq!(parent.copy_of(0, RANGES - 1), RANGES);
        assert!(!parent.is_protected(0));
        assert!(parent.tracker.is_idle());
        assert_eq!(Fake::tables(), 0);

        // Again, and for those who come late.
        session.copy_all()?;
        session.pull(0, usize::MAX, true)?;
        Fake::push(&parent, 0)?;
        session.abandon();
        assert!(session.mark_failed().is_none());
        session.check(0, usize::MAX)?;
        assert_eq!(parent.copy_of(0, 0), 1);
        assert!(!Fake::killed(0));
        assert_eq!(Fake::count_of(Event::SessionComplete), 1);
        Ok(())
    }

    #[test]
    fn is_abandoned_with_the_child() -> Result {
        fake!();
        let parent = Parent::new()?;
        let session = Fake::fork(&parent, 0, &[0, 1, 2])?.ok_or(EINVAL)?;
        session.pull(addr(1), addr(1) + 1, false)?;
        session.abandon();
        session.abandon();
        assert_eq!(session.pull(addr(0), addr(1), false), Err(EFAULT));
        assert!(parent.tracker.is_idle());
        assert_eq!(parent.copy_of(0, 0), 0);
        assert_eq!(parent.copy_of(0, 1), 2);
        assert!(!Fake::killed(0));
        assert_eq!(Fake::pending_of(0), 0);
        assert_eq!(Fake::count_of(Event::RangeAbandon), 2);
        assert_eq!(Fake::count_of(Event::SessionAbandon), 1);
        assert_eq!(Fake::count_of(Event::SessionComplete), 0);
        assert_eq!(Fake::count_of(Event::SessionFail), 0);
        Ok(())
    }

    #[test]
    fn fails_with_a_copy() -> Result {
        fake!();
        let parent = Parent::new()?;
        let session = Fake::fork(&parent, 0, &[0, 1, 2])?.ok_or(EINVAL)?;
        session.pull(addr(0), addr(1), false)?;

        Fake::fail_copies(1);
        Fake::push(&parent, 1)?;
        assert!(Fake::killed(0));
        assert!(parent.tracker.is_idle());
        // Nobody takes for copied what is not.
        assert_eq!(session.pull(addr(1), addr(2), false), Err(EFAULT));
        assert_eq!(session.pull(addr(2), addr(3), true), Err(EFAULT));
        assert_eq!(session.copy_all(), Err(EFAULT));
        // But other mappings of the child are not concerned.
        session.pull(0, addr(0), false)?;
        session.pull(addr(RANGES), usize::MAX, false)?;
        assert_eq!(Fake::tables(), 0);
        assert_eq!(Fake::pending_of(0), 0);
        assert_eq!(Fake::count_of(Event::RangeAbandon), 2);
        assert_eq!(Fake::count_of(Event::SessionFail), 1);
        assert_eq!(Fake::count_of(Event::SessionAbandon), 0);
        Ok(())
    }
}
