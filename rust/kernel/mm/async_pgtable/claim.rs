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
