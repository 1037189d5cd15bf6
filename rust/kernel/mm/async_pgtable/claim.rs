// SPDX-License-Identifier: GPL-2.0

//! The right to copy a range, and what becomes of it.
//!
//! A claim goes through its states by value, so that none can be left out or repeated:
//!
//! | value      | made by                | means                                | ends by             |
//! |------------|------------------------|--------------------------------------|---------------------|
//! | [`Claim`]  | [`Claim::new`]         | nobody else copies the range         | [`Claim::copy`]     |
//! | [`Copied`] | [`Claim::copy`]        | it is copied, or the session failed  | [`Copied::publish`] |
//!
//! Each takes the proof of the lock that it needs: a [`PageTables::SourceVma`] is the parent's
//! mapping, locked; a [`PageTables::Entry`] its PMD entry, locked.

use core::mem;

use super::{
    extent::Range,
    page_tables::{
        Event,
        PageTables,
        Party, //
    },
    Session,
    Tracker, //
};

/// The right, and the duty, to copy one range.
///
/// Given back to be claimed by others if dropped.
///
/// # Invariants
///
/// The range is claimed, by nobody else.
pub(super) struct Claim<'a, P: PageTables> {
    session: &'a Session<P>,
    range: Range<'a, P>,
}

impl<'a, P: PageTables> Claim<'a, P> {
    /// Claims `range` of `session`, if it is pending.
    pub(super) fn new(session: &'a Session<P>, range: Range<'a, P>) -> Option<Self> {
        // INVARIANT: `try_claim` has just given the range to us. Made only if so: a claim that is
        // dropped is given back.
        range.try_claim().then(|| Self { session, range })
    }

    /// Copies the range, or fails the session.
    pub(super) fn copy(
        self,
        source: P::SourceVma<'_>,
        table: P::Table,
        party: Party,
    ) -> Copied<'a, P> {
        let Self { session, range } = self;
        match P::copy(source, range.target(), range.start(), table, party) {
            Ok(()) => P::count(Event::RangeSettle(party), 1),
            // Before the range is published, so that nobody takes it for copied.
            Err(_) => session.fail(),
        }

        // INVARIANT: The range passes on, and nothing is left to be given back.
        mem::forget(self);
        Copied { session, range }
    }
}

impl<P: PageTables> Drop for Claim<'_, P> {
    fn drop(&mut self) {
        self.range.unclaim();
        self.session.unclaimed();
    }
}

/// The duty to publish a range.
///
/// # Invariants
///
/// The range is claimed, by nobody else, and copied, or its session has failed.
#[must_use]
pub(super) struct Copied<'a, P: PageTables> {
    session: &'a Session<P>,
    range: Range<'a, P>,
}

impl<P: PageTables> Copied<'_, P> {
    /// Settles the range, and lifts its protection if no other session needs it.
    pub(super) fn publish(self, tracker: &Tracker<P>, source: P::SourceVma<'_>) {
        let entry = P::lock_entry(source, self.range.start());
        // Under the lock of the entry, so that of two sessions that publish the same range the
        // second sees that the first does not need the protection any more.
        self.range.publish();
        if let Some(entry) = entry {
            tracker.lift(entry, self.range.start());
        }
        self.session.settled(1);
    }
}

#[cfg(CONFIG_ASYNC_PGTABLE_KUNIT_TEST)]
#[macros::kunit_tests(rust_async_pgtable_claim)]
mod tests {
    use super::super::{
        fake::{
            addr,
            Fake,
            Parent, //
        },
        range_bitmap::{
            RangeBitmap,
            State, //
        },
    };
    use super::*;
    use crate::prelude::*;

    fn first<P: PageTables>(session: &Session<P>) -> Result<Range<'_, P>> {
        session
            .next(0, usize::MAX, RangeBitmap::next_unsettled)
            .ok_or(EINVAL)
    }

    #[test]
    fn is_given_to_one() -> Result {
        Fake::<0>::reset();
        let parent = Parent::<0>::new()?;
        let session = Fake::fork(&parent, 0, &[1])?.ok_or(EINVAL)?;
        let range = first(&session)?;
        assert_eq!(range.start(), addr(1));
        assert_eq!(range.end(), addr(2));

        let claim = Claim::new(&session, range);
        assert!(claim.is_some());
        // A second attempt fails, and does not take the first one's range away.
        assert!(Claim::new(&session, range).is_none());
        assert_eq!(range.state(), State::Claimed);
        drop(claim);

        session.abandon();
        Ok(())
    }

    #[test]
    fn comes_back_if_dropped() -> Result {
        Fake::<1>::reset();
        let parent = Parent::<1>::new()?;
        let session = Fake::fork(&parent, 0, &[1])?.ok_or(EINVAL)?;
        let range = first(&session)?;

        drop(Claim::new(&session, range));
        assert_eq!(range.state(), State::Pending);

        session.copy_all()?;
        assert_eq!(parent.copy_of(0, 1), 2);
        assert!(parent.tracker.is_idle());
        Ok(())
    }

    #[test]
    fn is_settled_if_dropped_too_late() -> Result {
        Fake::<2>::reset();
        let parent = Parent::<2>::new()?;
        let session = Fake::fork(&parent, 0, &[1, 2])?.ok_or(EINVAL)?;
        let range = first(&session)?;

        let claim = Claim::new(&session, range);
        session.fail();
        assert_eq!(range.state(), State::Claimed);
        assert!(!parent.tracker.is_idle());

        // The session has failed: there is nobody to claim it again.
        drop(claim);
        assert_eq!(range.state(), State::Settled);
        assert!(parent.tracker.is_idle());
        assert_eq!(parent.copy_of(0, 1), 0);
        assert_eq!(Fake::<2>::count_of(Event::RangeAbandon), 2);
        Ok(())
    }

    #[test]
    fn passes_through_its_states() -> Result {
        Fake::<3>::reset();
        let parent = Parent::<3>::new()?;
        let session = Fake::fork(&parent, 0, &[1])?.ok_or(EINVAL)?;
        let range = first(&session)?;

        let table = Fake::<3>::alloc_table(&parent)?;
        let claim = Claim::new(&session, range).ok_or(EINVAL)?;
        assert_eq!(parent.copy_of(0, 1), 0);

        let copied = claim.copy(&parent, table, Party::Push);
        assert_eq!(parent.copy_of(0, 1), 2);
        assert_eq!(range.state(), State::Claimed);
        assert!(parent.is_protected(1));

        copied.publish(&parent.tracker, &parent);
        assert_eq!(range.state(), State::Settled);
        assert!(!parent.is_protected(1));
        assert!(parent.tracker.is_idle());
        Ok(())
    }
}
