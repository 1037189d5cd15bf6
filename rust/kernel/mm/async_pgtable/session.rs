// SPDX-License-Identifier: GPL-2.0

//! The deferred copy of one fork.

use crate::{
    alloc::Flags,
    new_condvar,
    new_mutex,
    new_spinlock,
    prelude::*,
    sync::{
        atomic::{
            Acquire,
            Atomic,
            Full,
            Relaxed,
            Release, //
        },
        CondVar,
        Mutex,
        SpinLock, //
    },
};

use super::{
    page_tables::{
        Entry,
        Event,
        PageTables,
        Party, //
    },
    range_bitmap::{
        RangeBitmap,
        State, //
    },
    Tracker, //
};

/// The deferred part of one mapping.
pub(super) struct Extent<P: PageTables> {
    start: usize,
    target: P::TargetVma,
    ranges: RangeBitmap,
}

impl<P: PageTables> Extent<P> {
    /// An extent of which nothing is pending. `start` and `end` are multiples of the range size.
    pub(super) fn new(
        target: P::TargetVma,
        start: usize,
        end: usize,
        flags: Flags,
    ) -> Result<Self> {
        Ok(Self {
            start,
            target,
            ranges: RangeBitmap::new((end - start) / P::RANGE_SIZE, flags)?,
        })
    }

    fn end(&self) -> usize {
        self.start + self.ranges.len() * P::RANGE_SIZE
    }

    fn addr(&self, index: usize) -> usize {
        self.start + index * P::RANGE_SIZE
    }

    /// Makes the range at `addr` pending. Returns false if it is not part of this extent.
    pub(super) fn defer(&mut self, addr: usize) -> bool {
        (self.start..self.end()).contains(&addr)
            && self.ranges.mark_pending((addr - self.start) / P::RANGE_SIZE)
    }
}

/// One range of a session.
struct Range<'a, P: PageTables> {
    extent: &'a Extent<P>,
    index: usize,
}

impl<P: PageTables> Clone for Range<'_, P> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<P: PageTables> Copy for Range<'_, P> {}

impl<P: PageTables> Range<'_, P> {
    fn addr(&self) -> usize {
        self.extent.addr(self.index)
    }

    fn state(&self) -> State {
        self.extent.ranges.state(self.index)
    }
}

/// The right, and the duty, to copy one range.
///
/// Given back to be claimed by others if dropped.
///
/// # Invariants
///
/// The range is claimed, by nobody else.
struct Claim<'a, P: PageTables> {
    session: &'a Session<P>,
    range: Range<'a, P>,
}

impl<P: PageTables> Claim<'_, P> {
    /// Copies the range and settles it, or fails the session.
    fn settle(
        self,
        tracker: &Tracker<P>,
        source: P::SourceVma<'_>,
        table: P::Table,
        party: Party,
    ) {
        let (session, range) = (self.session, self.range);
        let addr = range.addr();

        match P::copy(source, range.extent.target, addr, table, party) {
            Ok(()) => P::count(Event::RangeSettle(party), 1),
            // Before the range is published, so that nobody takes it for copied.
            Err(_) => session.fail(),
        }

        // Under the lock of the entry, so that of two sessions that publish the same range the
        // second sees that the first does not need the protection any more.
        {
            let entry = P::lock_entry(source, addr);
            range.extent.ranges.publish(range.index);
            if let Some(mut entry) = entry {
                if !tracker.overlaps(addr, addr + P::RANGE_SIZE) {
                    entry.unprotect();
                }
            }
        }

        // INVARIANT: Nothing is left to be given back.
        core::mem::forget(self);
        session.settled(1);
    }
}

impl<P: PageTables> Drop for Claim<'_, P> {
    fn drop(&mut self) {
        self.range.extent.ranges.unclaim(self.range.index);
        self.session.wake();
    }
}

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
    waiters: Atomic<usize>,
    #[pin]
    wait_lock: Mutex<()>,
    #[pin]
    wait_queue: CondVar,
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
            ends <- new_spinlock!(Some(ends), "async_pgtable::Session::ends"),
            waiters: Atomic::new(0),
            wait_lock <- new_mutex!((), "async_pgtable::Session::wait_lock"),
            wait_queue <- new_condvar!("async_pgtable::Session::wait_queue"),
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
    fn next(
        &self,
        start: usize,
        end: usize,
        find: impl Fn(&RangeBitmap, usize, usize) -> Option<usize>,
    ) -> Option<Range<'_, P>> {
        if !self.is_live() {
            return None;
        }

        let first = self.extents.partition_point(|extent| extent.end() <= start);
        self.extents[first..]
            .iter()
            .take_while(|extent| extent.start < end)
            .find_map(|extent| {
                let from = start.saturating_sub(extent.start) / P::RANGE_SIZE;
                let to = (end - extent.start).div_ceil(P::RANGE_SIZE);
                let index = find(&extent.ranges, from, to)?;
                Some(Range { extent, index })
            })
    }

    fn claim<'a>(&'a self, range: Range<'a, P>) -> Option<Claim<'a, P>> {
        // INVARIANT: `try_claim` has just given the range to us. Made only if so: a claim that is
        // dropped is given back.
        range.extent.ranges.try_claim(range.index).then(|| Claim {
            session: self,
            range,
        })
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
                State::Claimed => self.wait_until(|| range.state() != State::Claimed),
                State::Pending => {
                    // Before the claim, which others may wait for.
                    let Ok(table) = P::alloc_table(source) else {
                        self.fail();
                        continue;
                    };
                    if let Some(claim) = self.claim(range) {
                        claim.settle(tracker, source, table, party);
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
            start = range.addr() + P::RANGE_SIZE;
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
            cursor = range.addr() + P::RANGE_SIZE;
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
            cursor = range.addr() + P::RANGE_SIZE;
        }
        self.check()
    }

    fn pull_range(&self, range: Range<'_, P>, party: Party) {
        let source = self.ends.lock().as_ref().map(|ends| ends.source.clone());
        let Some(source) = source else { return };
        let tracker = P::tracker(&source);
        let found = P::with_source(&source, range.addr(), |source| {
            self.settle(tracker, source, range, party, true);
        });
        if !found {
            // Whoever unmaps it on the parent's side settles it, and needs no lock of ours.
            self.wait_until(|| range.state() == State::Settled);
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
        let target = {
            // Under the lock, so that a session that has just become complete stays so.
            let ends = self.ends.lock();
            let Some(ends) = &*ends else { return };
            // Full: before anything is settled without having been copied.
            if self.outcome.xchg(Outcome::Failed as u32, Full) == Outcome::Failed as u32 {
                return;
            }
            ends.target.clone()
        };

        P::count(Event::SessionFail, 1);
        P::kill(&target);
        self.give_up();
    }

    /// Ends the session because the child is gone. When this returns, nobody copies to it.
    pub fn abandon(&self) {
        // Release: for the sake of `end`, which counts.
        let _ = self
            .outcome
            .cmpxchg(Outcome::Good as u32, Outcome::Abandoned as u32, Release);
        self.give_up();
        self.wait_until(|| !self.is_live());
    }

    /// Settles what is pending, uncopied.
    ///
    /// The parent's entries stay protected. That is lifted by its next write fault, or dropped
    /// with the entry.
    fn give_up(&self) {
        let nr = self
            .extents
            .iter()
            .map(|extent| extent.ranges.abandon_pending())
            .sum();
        if nr != 0 {
            P::count(Event::RangeAbandon, nr);
            self.settled(nr);
        }
    }

    /// To be called after `nr` ranges have been settled.
    fn settled(&self, nr: usize) {
        // Full: as a release, whoever finds nothing remaining sees all copies. As a barrier it
        // orders the publication before the look at `waiters`.
        if self.remaining.fetch_sub(nr, Full) == nr {
            self.end();
        }
        self.wake();
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

    /// Wakes everybody who waits, if the caller has changed the state of a range, or `remaining`,
    /// by a fully ordered operation.
    fn wake(&self) {
        // Either this sees a waiter, or the waiter, which has counted itself by a fully ordered
        // operation, sees the change.
        if self.waiters.load(Relaxed) != 0 {
            // A waiter that has not seen the change keeps the lock until it sleeps.
            let _guard = self.wait_lock.lock();
            self.wait_queue.notify_all();
        }
    }

    fn wait_until(&self, done: impl Fn() -> bool) {
        if done() {
            return;
        }
        let mut guard = self.wait_lock.lock();
        // Full: see `wake`.
        self.waiters.fetch_add(1, Full);
        while !done() {
            self.wait_queue.wait(&mut guard);
        }
        self.waiters.fetch_sub(1, Relaxed);
    }
}
