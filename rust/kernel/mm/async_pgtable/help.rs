// SPDX-License-Identifier: GPL-2.0

//! What a parent does for those who wait for its mappings.
//!
//! Who copies to a child only gets at a mapping of the parent that is not locked for writing, which
//! it may be most of the time, by calls that do nothing that pushes. So whoever locks it copies for
//! them, about as long as they have waited, but not for long.

use core::ops::Range;

use crate::{
    prelude::*,
    sync::atomic::{
        Atomic,
        Relaxed, //
    },
};

use super::{
    page_tables::PageTables,
    pusher::Pusher,
    Session,
    Tracker, //
};

/// Ranges that a parent copies for each moment that somebody has waited for it. A moment is 250 to
/// 500 microseconds, see `async_pgtable_pause()`, a copy about a quarter of that.
const RANGES_PER_MOMENT: usize = 4;

/// Moments until a parent that found no memory may try again.
const AFTER_FAILURE: usize = 64;

/// Most ranges that a parent copies at a time. Some milliseconds; calls that have the mapping locked
/// for so long that this is not what they have cost are long themselves.
const MAX_RANGES: usize = 256;

/// Those who wait for a mapping of the parent to copy to one child.
///
/// These are hints, hence relaxed: that of several who wait may be mixed up.
pub(super) struct Waits {
    /// How many do.
    waiters: Atomic<usize>,
    /// What the last of them wants.
    wanted: Atomic<usize>,
    /// For how many moments all of them have waited, since one got on or the parent helped.
    moments: Atomic<usize>,
    /// How many of these it takes at least.
    due: Atomic<usize>,
}

impl Waits {
    /// Nobody waits.
    pub(super) fn new() -> Self {
        Self {
            waiters: Atomic::new(0),
            wanted: Atomic::new(usize::MAX),
            moments: Atomic::new(0),
            due: Atomic::new(0),
        }
    }

    /// The caller waits, until the result is dropped.
    pub(super) fn begin(&self) -> Waiting<'_> {
        self.waiters.fetch_add(1, Relaxed);
        self.due.store(0, Relaxed);
        Waiting(self)
    }

    /// What somebody waits for, if it is in `start..end`. It may be something else the next time.
    fn wanted(&self, start: usize, end: usize) -> Option<usize> {
        let wanted = self.wanted.load(Relaxed);
        (self.waiters.load(Relaxed) != 0 && (start..end).contains(&wanted)).then_some(wanted)
    }

    /// The same, and how many ranges it is worth, if it is more than `spent`.
    fn take(&self, start: usize, end: usize, spent: usize) -> Option<(usize, usize)> {
        let wanted = self.wanted(start, end)?;
        // They may just have gone.
        let waiters = self.waiters.load(Relaxed).max(1);
        let moments = self.moments.load(Relaxed).div_ceil(waiters);
        let worth = moments.saturating_mul(RANGES_PER_MOMENT).min(MAX_RANGES);
        if worth <= spent || moments < self.due.load(Relaxed) {
            return None;
        }
        self.moments.store(0, Relaxed);
        self.due.store(0, Relaxed);
        Some((wanted, worth))
    }
}

/// The mappings of a parent that were locked for writing since its mmap_lock was: all of them are
/// between two addresses.
///
/// Only who has the mmap_lock for writing asks, or adds one, hence relaxed.
pub(super) struct Locked {
    /// Which time that is.
    seq: Atomic<usize>,
    start: Atomic<usize>,
    end: Atomic<usize>,
}

impl Locked {
    /// None.
    pub(super) fn new() -> Self {
        Self {
            // No sequence number of an mmap_lock is as large.
            seq: Atomic::new(usize::MAX),
            start: Atomic::new(0),
            end: Atomic::new(0),
        }
    }

    /// What is in `start..end` is locked next. The mmap_lock's sequence number is `seq`.
    fn add(&self, seq: u32, start: usize, end: usize) {
        let locked = self.bounds(seq);
        let (start, end) = if locked.is_empty() {
            (start, end)
        } else {
            (start.min(locked.start), end.max(locked.end))
        };
        self.seq.store(seq as usize, Relaxed);
        self.start.store(start, Relaxed);
        self.end.store(end, Relaxed);
    }

    /// Nothing is pending in any of them, or will be before the mmap_lock is given back.
    fn forget(&self) {
        self.seq.store(usize::MAX, Relaxed);
    }

    /// Between which addresses they are.
    fn bounds(&self, seq: u32) -> Range<usize> {
        if self.seq.load(Relaxed) == seq as usize {
            self.start.load(Relaxed)..self.end.load(Relaxed)
        } else {
            0..0
        }
    }
}

/// One who waits.
pub(super) struct Waiting<'a>(&'a Waits);

impl Waiting<'_> {
    /// For another moment, for the range at `addr`.
    pub(super) fn moment(&self, addr: usize) {
        self.0.wanted.store(addr, Relaxed);
        self.0.moments.fetch_add(1, Relaxed);
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        // Whoever else waits may get on, too.
        self.0.moments.store(0, Relaxed);
        self.0.waiters.fetch_sub(1, Relaxed);
    }
}

impl<P: PageTables> Session<P> {
    /// Settles some of `start..end`, whole ranges that the source of `pusher` covers, if somebody
    /// waits for that: less the more ranges the caller has `spent`. Returns how many it has
    /// settled.
    fn help(
        &self,
        pusher: &mut Pusher<'_, '_, P>,
        start: usize,
        end: usize,
        spent: usize,
    ) -> usize {
        let Some((mut cursor, worth)) = self.waits.take(start, end, spent) else {
            return 0;
        };
        let mut settled = 0;
        while spent + settled < worth {
            let Some(addr) = self.next(cursor, end) else {
                break;
            };
            cursor = addr + P::RANGE_SIZE;
            if let Err(err) = self.push(pusher, addr, cursor, None, true) {
                // Being killed, or without memory. Who waits is not, and may need help later.
                if err == ENOMEM {
                    self.waits.due.store(AFTER_FAILURE, Relaxed);
                }
                break;
            }
            settled += 1;
        }
        settled
    }
}

impl<P: PageTables> Tracker<P> {
    /// Settles some of `start..end` in those sessions for which somebody waits for that mapping, in
    /// all as much as those who have waited longest are due, each of them first in turn. `source`
    /// covers it.
    pub fn help(&self, source: P::SourceVma<'_>, start: usize, end: usize) {
        let start = start.next_multiple_of(P::RANGE_SIZE);
        let end = end / P::RANGE_SIZE * P::RANGE_SIZE;
        let wanted = |session: &Session<P>| session.waits.wanted(start, end).is_some();
        let first = self.helped_first.load(Relaxed);
        let others = self.each(0, wanted).take_while(|(slot, _)| *slot < first);
        let mut spent = 0;
        let mut pusher = Pusher::new(self, source);
        for (slot, session) in Iterator::chain(self.each(first, wanted), others) {
            let settled = session.help(&mut pusher, start, end, spent);
            if spent == 0 && settled != 0 {
                self.helped_first.store(slot + 1, Relaxed);
            }
            spent += settled;
        }
    }

    /// A mapping in `start..end` is about to be locked for writing, as the mmap_lock is, whose
    /// sequence number is `seq`.
    pub fn locks(&self, seq: u32, start: usize, end: usize) {
        self.locked.add(seq, start, end);
    }

    /// Between which addresses all mappings are that are locked for writing.
    pub fn locked(&self, seq: u32) -> Range<usize> {
        self.locked.bounds(seq)
    }

    /// All that is pending there has been settled.
    pub fn forget_locked(&self) {
        self.locked.forget();
    }
}

#[cfg(CONFIG_ASYNC_PGTABLE_KUNIT_TEST)]
#[macros::kunit_tests(rust_async_pgtable_help)]
mod tests {
    use super::super::{
        fake::{
            addr,
            fake,
            RANGES, //
        },
        page_tables::{
            Event,
            Party, //
        }, //
    };
    use super::*;
    use crate::sync::Arc;

    #[test]
    fn locked_until_the_mmap_lock_is_given_back() {
        let locked = Locked::new();
        assert!(locked.bounds(1).is_empty());
        locked.add(1, 20, 30);
        locked.add(1, 50, 60);
        locked.add(1, 10, 15);
        assert_eq!(locked.bounds(1), 10..60);
        assert!(locked.bounds(3).is_empty());
        locked.add(3, 70, 80);
        assert_eq!(locked.bounds(3), 70..80);
        locked.forget();
        assert!(locked.bounds(3).is_empty());
        locked.add(3, 20, 30);
        assert_eq!(locked.bounds(3), 20..30);
    }

    #[test]
    fn a_parent_helps_who_waits() -> Result {
        fake!();
        fn lock(parent: &Arc<Parent>) {
            parent.tracker.help(parent, addr(0), addr(RANGES));
        }
        let parent = Parent::with_hook(Some(lock))?;
        let session = Fake::fork(&parent, 0, &[0, 1, 3])?.ok_or(EINVAL)?;

        // Nobody waits.
        lock(&parent);
        assert!(session.overlaps(addr(0), addr(1)));

        // The mapping is not to be had, each time that somebody tries.
        parent.map(false);
        session.pull(addr(3), addr(4), false)?;
        // What is wanted, and what is above it.
        assert_eq!(parent.copy_of(0, 3), 4);
        assert!(session.overlaps(addr(0), addr(1)));
        session.copy_all()?;
        assert_eq!(parent.copy_of(0, 0) + parent.copy_of(0, 1), 3);
        assert_eq!(Fake::count_of(Event::RangeSettle(Party::Push)), 3);
        Ok(())
    }

    #[test]
    fn a_parent_helps_where_it_is() -> Result {
        fake!();
        // It has only parts of the ranges that are wanted, then all of one.
        fn lock(parent: &Arc<Parent>) {
            parent.tracker.help(parent, addr(1) + 1, addr(3) - 1);
            assert_eq!(parent.copy_of(0, 1) + parent.copy_of(0, 2), 0);
            parent.tracker.help(parent, addr(1), addr(2));
        }
        let parent = Parent::with_hook(Some(lock))?;
        let session = Fake::fork(&parent, 0, &[1, 2])?.ok_or(EINVAL)?;
        parent.map(false);
        session.pull(addr(1), addr(2), false)?;
        assert_eq!(parent.copy_of(0, 1), 2);
        assert_eq!(parent.copy_of(0, 2), 0);

        // Who waited does not any more.
        parent.tracker.help(&parent, addr(0), addr(RANGES));
        assert_eq!(parent.copy_of(0, 2), 0);
        Ok(())
    }

    #[test]
    fn a_parent_helps_as_long_as_was_waited() -> Result {
        let waits = Waits::new();
        assert_eq!(waits.take(0, usize::MAX, 0), None);
        let (one, other) = (waits.begin(), waits.begin());
        for _ in 0..3 {
            one.moment(7);
            other.moment(7);
        }
        assert_eq!(waits.take(0, 7, 0), None);
        // What others have got is not lost to these.
        assert_eq!(waits.take(0, 8, 3 * RANGES_PER_MOMENT), None);
        assert_eq!(waits.take(0, 8, 0), Some((7, 3 * RANGES_PER_MOMENT)));
        assert_eq!(waits.take(0, 8, 0), None);
        one.moment(7);
        drop(other);
        assert_eq!(waits.take(0, 8, 0), None);
        for _ in 0..MAX_RANGES {
            one.moment(7);
        }
        assert_eq!(waits.take(0, 8, 0), Some((7, MAX_RANGES)));
        drop(one);
        assert_eq!(waits.take(0, 8, 0), None);
        Ok(())
    }

    #[test]
    fn a_parent_without_memory_tries_again_later() -> Result {
        fake!();
        fn lock(parent: &Arc<Parent>) {
            parent.tracker.help(parent, addr(0), addr(RANGES));
        }
        let parent = Parent::with_hook(Some(lock))?;
        let session = Fake::fork(&parent, 0, &[0, 1])?.ok_or(EINVAL)?;
        let waiting = session.waits.begin();
        Fake::fail_allocs(1);
        waiting.moment(addr(0));
        lock(&parent);
        for _ in 1..AFTER_FAILURE {
            waiting.moment(addr(0));
            lock(&parent);
            assert_eq!(parent.copy_of(0, 0), 0);
        }
        waiting.moment(addr(0));
        lock(&parent);
        assert_eq!(parent.copy_of(0, 0), 1);
        drop(waiting);
        session.copy_all()?;
        assert!(!Fake::killed(0));
        Ok(())
    }

    #[test]
    fn who_waits_keeps_no_table() -> Result {
        fake!();
        fn needed_elsewhere(parent: &Arc<Parent>) {
            assert_eq!(Fake::tables(), 0);
            parent.map(true);
        }
        let parent = Parent::with_hook(Some(needed_elsewhere))?;
        let session = Fake::fork(&parent, 0, &[0, 1])?.ok_or(EINVAL)?;
        parent.map(false);
        session.pull(addr(0), addr(1), false)?;
        parent.map(false);
        session.copy_all()?;
        assert_eq!(parent.copy_of(0, 0) + parent.copy_of(0, 1), 3);
        Ok(())
    }

    #[test]
    fn a_parent_helps_each_child_first_in_turn() -> Result {
        fake!();
        const DEFERRED: [usize; 6] = [0, 1, 2, 3, 4, 5];
        let parent = Parent::new()?;
        let old = Fake::fork(&parent, 0, &DEFERRED)?.ok_or(EINVAL)?;
        let young = Fake::fork(&parent, 1, &DEFERRED)?.ok_or(EINVAL)?;
        let waiting = [old.waits.begin(), young.waits.begin()];
        let copied = |child| {
            let copies = DEFERRED.map(|index| usize::from(parent.copy_of(child, index) != 0));
            copies.iter().sum::<usize>()
        };
        // What one of them is due is all that the parent does at a time. Who had to stand back is
        // due more the next time.
        for copies in [(RANGES_PER_MOMENT, 0), (RANGES_PER_MOMENT, DEFERRED.len())] {
            for who in &waiting {
                who.moment(addr(0));
            }
            parent.tracker.help(&parent, addr(0), addr(RANGES));
            assert_eq!((copied(0), copied(1)), copies);
        }
        drop(waiting);
        old.copy_all()?;
        young.copy_all()
    }
}
