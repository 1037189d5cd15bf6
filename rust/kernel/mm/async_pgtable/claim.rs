// SPDX-License-Identifier: GPL-2.0

//! The right to copy a range, and what becomes of it.
//!
//! A claim is a spinlock. So it is held by somebody who runs, who neither sleeps nor waits for
//! memory, and whoever wants it spins for no longer than one copy takes. What is done with it goes
//! through values, so that nothing can be left out or repeated:
//!
//! | value      | made by                | means                         | ends by             |
//! |------------|------------------------|-------------------------------|---------------------|
//! | [`Claim`]  | [`Claim::new`]         | nobody else copies the range  | being dropped       |
//! | [`Copied`] | [`Claim::copy`]        | all of it is copied           | [`Copied::publish`] |
//!
//! A claim outlives the lock of the parent's mapping that was taken under it: with the claim goes
//! the promise that its holder runs.
//!
//! Each takes the proof of the lock that it needs: a [`PageTables::SourceVma`] is the parent's
//! mapping, locked; a [`PageTables::Entry`] its PMD entry, locked.

use crate::{
    prelude::*,
    sync::SpinLockGuard, //
};

use super::{
    page_tables::{
        PageTables,
        Party, //
    },
    session::Settled,
    Session,
    Tracker, //
};

/// The right to copy one range.
///
/// If it is dropped, others can claim the range and go on where the copy stopped.
///
/// # Invariants
///
/// The range is pending, and its session good. `guard` is the lock of the session for the range.
pub(super) struct Claim<'a, P: PageTables> {
    session: &'a Session<P>,
    addr: usize,
    target: P::TargetVma,
    guard: SpinLockGuard<'a, ()>,
}

impl<'a, P: PageTables> Claim<'a, P> {
    /// Claims the range at `addr`, unless it is settled or the session has ended.
    pub(super) fn new(session: &'a Session<P>, addr: usize) -> Option<Self> {
        let target = session.target(addr)?;
        let guard = session.lock(addr);
        // INVARIANT: Others settle a range, or look at the session's end and wait for who copies,
        // with this lock.
        (session.is_good() && session.is_pending(addr)).then_some(Self {
            session,
            addr,
            target,
            guard,
        })
    }

    /// Copies the range. `None`: not all of it, for want of something.
    pub(super) fn copy(
        &mut self,
        source: P::SourceVma<'_>,
        supplies: &mut P::Supplies,
        party: Party,
    ) -> Result<Option<Copied<'_, 'a, P>>> {
        // SAFETY: By the type invariant the range is claimed, and `target` was looked up for it.
        let all = unsafe { P::copy(source, self.target, self.addr, supplies, party) }?;
        Ok(all.then_some(Copied(self)))
    }

    /// Ends the session, which cannot have ended well meanwhile: this range is pending.
    pub(super) fn fail(self, why: Error) {
        let Self { session, guard, .. } = self;
        let failed = session.mark_failed();
        drop(guard);
        if let Some(failed) = failed {
            session.bury(failed, why);
        }
    }
}

/// The duty to publish a range.
///
/// # Invariants
///
/// All of the claimed range is copied.
#[must_use]
pub(super) struct Copied<'c, 'a, P: PageTables>(&'c mut Claim<'a, P>);

impl<P: PageTables> Copied<'_, '_, P> {
    /// Settles the range, and lifts its protection if no other session needs it.
    pub(super) fn publish(self, tracker: &Tracker<P>, source: P::SourceVma<'_>) -> Settled {
        let Self(claim) = self;
        let entry = P::lock_entry(source, claim.addr);
        // Under the lock of the entry, so that of two sessions that publish the same range the
        // second sees that the first does not need the protection any more.
        let settled = claim.session.settled(claim.addr);
        if let Some(entry) = entry {
            tracker.lift(entry, claim.addr);
        }
        settled
    }
}

#[cfg(CONFIG_ASYNC_PGTABLE_KUNIT_TEST)]
#[macros::kunit_tests(rust_async_pgtable_claim)]
mod tests {
    use super::super::{
        fake::{
            addr,
            fake,
            Supplies, //
        },
        page_tables::Event, //
    };
    use super::*;

    #[test]
    fn is_for_what_is_pending() -> Result {
        fake!();
        let parent = Parent::new()?;
        let session = Fake::fork(&parent, 0, &[1])?.ok_or(EINVAL)?;
        assert!(Claim::new(&session, addr(0)).is_none());
        assert!(Claim::new(&session, addr(1)).is_some());

        session.copy_all()?;
        assert!(Claim::new(&session, addr(1)).is_none());
        Ok(())
    }

    #[test]
    fn comes_back_if_dropped() -> Result {
        fake!();
        let parent = Parent::new()?;
        let session = Fake::fork(&parent, 0, &[1])?.ok_or(EINVAL)?;

        drop(Claim::new(&session, addr(1)));
        assert!(session.is_pending(addr(1)));

        session.copy_all()?;
        assert_eq!(parent.copy_of(0, 1), 2);
        assert!(parent.tracker.is_idle());
        Ok(())
    }

    #[test]
    fn is_not_given_when_the_session_is_over() -> Result {
        fake!();
        let parent = Parent::new()?;
        let session = Fake::fork(&parent, 0, &[1, 2])?.ok_or(EINVAL)?;

        let claim = Claim::new(&session, addr(1)).ok_or(EINVAL)?;
        claim.fail(ENOMEM);
        assert!(Fake::killed(0));
        assert!(Claim::new(&session, addr(1)).is_none());
        assert!(Claim::new(&session, addr(2)).is_none());
        assert!(parent.tracker.is_idle());
        assert_eq!(parent.copy_of(0, 1), 0);
        assert_eq!(Fake::count_of(Event::RangeAbandon), 2);
        Ok(())
    }

    #[test]
    fn passes_through_its_states() -> Result {
        fake!();
        let parent = Parent::new()?;
        let session = Fake::fork(&parent, 0, &[1])?.ok_or(EINVAL)?;

        // A copy that lacks something leaves the range to whoever comes next.
        let mut supplies = Supplies::default();
        let mut claim = Claim::new(&session, addr(1)).ok_or(EINVAL)?;
        assert!(claim.copy(&parent, &mut supplies, Party::Push)?.is_none());
        drop(claim);
        assert!(session.is_pending(addr(1)));

        Fake::prepare(&(), &mut supplies, Party::Push, true);
        let mut claim = Claim::new(&session, addr(1)).ok_or(EINVAL)?;
        let copied = claim.copy(&parent, &mut supplies, Party::Push)?;
        assert_eq!(parent.copy_of(0, 1), 2);
        assert!(session.is_pending(addr(1)));
        assert!(parent.is_protected(1));

        let settled = copied.ok_or(EINVAL)?.publish(&parent.tracker, &parent);
        assert_eq!(settled, Settled::Last);
        assert!(!session.is_pending(addr(1)));
        assert!(!parent.is_protected(1));
        Ok(())
    }
}
