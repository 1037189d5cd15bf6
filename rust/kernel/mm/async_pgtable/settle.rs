// SPDX-License-Identifier: GPL-2.0

//! How the ranges of a session are settled, by each party.

use crate::prelude::*;

use super::{
    claim::Claim,
    page_tables::{
        Event,
        PageTables,
        Party, //
    },
    patience::GaveUp,
    pusher::Pusher,
    session::Settled,
    Patience,
    Session,
    Tracker, //
};

/// How long ago that was.
fn since<P: PageTables>(then: Option<u64>) -> u64 {
    then.map_or(0, |then| P::now() - then)
}

impl<P: PageTables> Session<P> {
    /// Copies the range at `addr`, or finds it settled, or the session ended.
    ///
    /// The caller is on the parent's side and has a locked `source` that covers the range, or not.
    /// Without memory he waits for as long as he has [`Patience`]; then the session fails. With one
    /// try, or if he has no `patience` because he comes back, that is an error at once, and leaves
    /// the range as it is. So it is if `killable` and the task is being killed.
    fn settle(
        &self,
        addr: usize,
        source: Option<(&Tracker<P>, P::SourceVma<'_>)>,
        party: Party,
        mut patience: Option<&mut Patience>,
        killable: bool,
    ) -> Result {
        let mut supplies = P::Supplies::default();
        let mut waiting = None;
        let mut missed = None;
        loop {
            let Some((parent, payer)) = self.parent() else {
                return Ok(());
            };
            let hard = patience.as_ref().is_some_and(|it| it.one_try);
            P::prepare(&payer, &mut supplies, party, hard);
            // Asked before the claim: this may give way to others.
            let dying = P::interrupted(killable);
            let killed = killable && dying;
            let Some(mut claim) = Claim::new(self, addr) else {
                return Ok(());
            };

            let settled = match source {
                Some((tracker, source)) => Some(Self::copy(
                    &mut claim,
                    tracker,
                    source,
                    &mut supplies,
                    party,
                )),
                None => P::tracker(&parent).and_then(|tracker| {
                    // SAFETY: The range is claimed, and a live session copies from its source.
                    unsafe {
                        P::with_source(&parent, addr, |source| {
                            Self::copy(&mut claim, tracker, source, &mut supplies, party)
                        })
                    }
                }),
            };

            if let Some(Err(err)) = settled {
                if err == ENOMEM {
                    // Who only looks may lack memory for it, and who is being killed is about to
                    // free some.
                    let patience = patience.as_deref_mut().filter(|it| !it.one_try);
                    let Some(patience) = patience else {
                        return Err(err);
                    };
                    if killed {
                        return Err(EINTR);
                    }
                    if self.is_dying() {
                        drop(claim);
                        self.abandon();
                        return Ok(());
                    }
                    // What has been freed, by RCU or by a child that has failed, and what is
                    // charged beforehand for another CPU, comes later. But the OOM killer waits for
                    // its victims, and others may lack what we have got.
                    patience.waits::<P>(since::<P>(missed.take()));
                    // A child that copies itself does not wait with the parent's locks.
                    let gave_up = source.map(|(tracker, _)| &tracker.gave_up);
                    let just_now = gave_up.is_some_and(GaveUp::just_now::<P>);
                    if !dying && patience.lacks(just_now) {
                        missed = Some(P::now());
                        drop(claim);
                        P::give_back(&mut supplies);
                        waiting = None;
                        P::wait_for_memory();
                        continue;
                    }
                    gave_up.inspect(|it| it.now::<P>());
                }
                // Nobody can have this range.
                claim.fail(err);
                return Ok(());
            }

            // Not before the parent's mapping is unlocked: whoever holds that must run.
            drop(claim);

            match settled {
                Some(Ok(Some(settled))) => {
                    if let Some(patience) = patience {
                        patience.waits::<P>(since::<P>(missed));
                        patience.succeeds();
                    }
                    if settled != Settled::TooLate {
                        P::count(&payer, Event::RangeSettle(party), 1);
                    }
                    if settled == Settled::Last {
                        self.complete();
                    }
                    return Ok(());
                }
                // Not all of it, for want of something else than before.
                Some(_) => {
                    waiting = None;
                    missed = None;
                }
                // Somebody changes or unmaps the parent's mapping and has to settle the range for
                // that, or will be done soon.
                None => {
                    // What it has got may be what somebody lacks who has to settle it meanwhile.
                    supplies = P::Supplies::default();
                    // What it waits for the mapping does not count.
                    if let Some(patience) = patience.as_deref_mut() {
                        patience.waits::<P>(since::<P>(missed.take()));
                    }
                    waiting
                        .get_or_insert_with(|| self.waits.begin())
                        .moment(addr);
                    P::pause(&parent);
                }
            }

            if killed {
                return Err(EINTR);
            }
        }
    }

    /// Copies the claimed range and publishes it. `None`: not all of it could be copied.
    fn copy(
        claim: &mut Claim<'_, P>,
        tracker: &Tracker<P>,
        source: P::SourceVma<'_>,
        supplies: &mut P::Supplies,
        party: Party,
    ) -> Result<Option<Settled>> {
        let copied = claim.copy(source, supplies, party)?;
        Ok(copied.map(|copied| copied.publish(tracker, source)))
    }

    /// Settles all of `start..end`, on the parent's side. The source of `pusher` covers it.
    ///
    /// Fails if `killable` and the task is being killed. See [`settle`](Self::settle) for want of
    /// memory.
    pub(super) fn push(
        &self,
        pusher: &mut Pusher<'_, '_, P>,
        start: usize,
        end: usize,
        mut patience: Option<&mut Patience>,
        killable: bool,
    ) -> Result {
        let mut cursor = start;
        while let Some(addr) = self.next(cursor, end) {
            pusher.begin();
            if self.is_dying() {
                self.abandon();
                break;
            }
            if P::interrupted(killable) && killable {
                return Err(EINTR);
            }
            // Whoever copies for it has its locks, and if he went on the OOM killer would take
            // somebody else.
            if P::is_victim(pusher.source) {
                pusher.tracker.abort();
                break;
            }
            let source = Some((pusher.tracker, pusher.source));
            self.settle(addr, source, Party::Push, patience.as_deref_mut(), killable)?;
            cursor = addr + P::RANGE_SIZE;
        }
        if self.is_over() {
            // Whoever ended it may not get to run for a while. The caller must not lift a
            // protection, or write, while somebody copies.
            self.quiesce();
            pusher.tracker.remove(self);
        }
        Ok(())
    }

    /// Settles all of `start..end`, on behalf of somebody who looks at the child.
    ///
    /// Who can do without, and need not (`must`) have it, may be killed meanwhile.
    pub fn pull(&self, start: usize, end: usize, must: bool) -> Result {
        self.pull_as(start, end, must, !must)
    }

    /// The same on behalf of anybody.
    ///
    /// Fails with `EFAULT` if the child is not, and will not be, what it should be there. If the
    /// caller cannot do without, and so `must` have it, the session fails for want of memory; else
    /// this fails. So it does if `killable` and the task is being killed.
    pub fn pull_as(&self, start: usize, end: usize, must: bool, killable: bool) -> Result {
        let mut patience = if must {
            Patience::default()
        } else {
            Patience::one_try()
        };
        let mut cursor = start;
        while let Some(addr) = self.next(cursor, end) {
            let patience = Some(&mut patience);
            self.settle(addr, None, Party::Pull, patience, killable)?;
            cursor = addr + P::RANGE_SIZE;
            if P::interrupted(killable) && killable && cursor < end {
                return Err(EINTR);
            }
        }
        self.check(start, end)
    }

    /// Settles what is pending, on behalf of the child, until there is nothing left or the task is
    /// killed. Fails as [`pull`](Self::pull) does.
    pub fn copy_all(&self) -> Result {
        let mut cursor = 0;
        while let Some(addr) = self.next(cursor, usize::MAX) {
            if P::interrupted(true) {
                break;
            }
            // Nobody stands behind it: it may wait for each range.
            let mut patience = Patience::default();
            self.settle(addr, None, Party::Copy, Some(&mut patience), true)?;
            cursor = addr + P::RANGE_SIZE;
        }
        self.check(0, usize::MAX)
    }
}

#[cfg(CONFIG_ASYNC_PGTABLE_KUNIT_TEST)]
#[macros::kunit_tests(rust_async_pgtable_settle)]
mod tests {
    use super::super::{
        fake::{
            addr,
            fake, //
        },
        page_tables::Refusal, //
    };
    use super::*;
    use crate::sync::Arc;

    #[test]
    fn does_not_copy_for_the_dying() -> Result {
        fake!();
        let parent = Parent::new()?;
        let dying = Fake::fork(&parent, 0, &[0, 1, 2])?.ok_or(EINVAL)?;
        let living = Fake::fork(&parent, 1, &[0, 1, 2])?.ok_or(EINVAL)?;
        Fake::push(&parent, 0)?;
        Fake::begin_to_kill(0);
        Fake::push(&parent, 1)?;
        assert_eq!(parent.copy_of(0, 1), 0);
        assert_eq!(parent.copy_of(1, 1), 2);
        assert!(dying.is_over() && living.is_good());
        assert_eq!(dying.copy_all(), Err(EFAULT));
        assert_eq!(Fake::count_of(Event::SessionAbandon), 1);
        assert_eq!(Fake::count_of(Event::RangeAbandon), 2);
        living.copy_all()
    }

    #[test]
    fn counts_who_settles() -> Result {
        fake!();
        let parent = Parent::new()?;
        let session = Fake::fork(&parent, 0, &[0, 1, 2, 3, 4])?.ok_or(EINVAL)?;
        assert_eq!(Fake::pending_of(0), 5);
        Fake::push(&parent, 1)?;
        session.pull(addr(2), addr(4), false)?;
        assert_eq!(Fake::pending_of(0), 2);
        session.copy_all()?;
        assert_eq!(Fake::pending_of(0), 0);
        let settled = |party| Fake::count_of(Event::RangeSettle(party));
        assert_eq!(settled(Party::Push), 1);
        assert_eq!(settled(Party::Pull), 2);
        assert_eq!(settled(Party::Copy), 2);
        assert_eq!(Fake::count_of(Event::RangeDefer), 5);
        assert_eq!(Fake::count_of(Event::RangeAbandon), 0);
        assert_eq!(Fake::count_of(Event::SessionStart), 1);
        assert_eq!(Fake::count_of(Event::SessionComplete), 1);
        assert_eq!(Fake::count_of(Event::SessionAbandon), 0);
        assert_eq!(Fake::count_of(Event::SessionFail), 0);
        assert_eq!(Fake::count_of(Event::Fallback(Refusal::Small)), 0);
        Ok(())
    }

    #[test]
    fn a_killed_child_stops_copying() -> Result {
        fake!();
        let parent = Parent::new()?;
        let session = Fake::fork(&parent, 0, &[0, 1, 2, 3])?.ok_or(EINVAL)?;
        Fake::interrupt(true);
        session.copy_all()?;
        assert_eq!(parent.copy_of(0, 0), 0);
        // Who looks at more than one range stops, too, unless it must not.
        assert_eq!(session.pull(addr(0), addr(3), false), Err(EINTR));
        assert_eq!(parent.copy_of(0, 0), 1);
        assert_eq!(parent.copy_of(0, 1), 0);
        session.pull(addr(0), addr(2), true)?;
        assert_eq!(parent.copy_of(0, 1), 2);
        // So does the parent where it can.
        let push = parent.tracker.push(&parent, addr(2), addr(4), true);
        assert_eq!(push, Err(EINTR));
        assert_eq!(parent.copy_of(0, 2), 0);
        parent.tracker.push(&parent, addr(2), addr(4), false)?;
        assert_eq!(parent.copy_of(0, 3), 4);
        assert!(parent.tracker.is_idle());
        Ok(())
    }

    #[test]
    fn fails_if_the_child_has_no_memory() -> Result {
        fake!();
        let parent = Parent::new()?;
        let session = Fake::fork(&parent, 0, &[0, 1])?.ok_or(EINVAL)?;
        Fake::fail_allocs(usize::MAX);
        assert_eq!(session.copy_all(), Err(EFAULT));
        assert!(Fake::killed(0));
        assert!(parent.tracker.is_idle());
        assert_eq!(Fake::count_of(Event::RangeAbandon), 2);
        assert_eq!(Fake::count_of(Event::SessionFail), 1);
        session.abandon();
        assert_eq!(Fake::count_of(Event::SessionAbandon), 0);
        Ok(())
    }

    #[test]
    fn does_not_fail_by_who_writes_to_the_parent() -> Result {
        fake!();
        let parent = Parent::new()?;
        let session = Fake::fork(&parent, 0, &[0, 1])?.ok_or(EINVAL)?;
        Fake::fail_allocs(1);
        let push = parent
            .tracker
            .push_as(&parent, addr(0), addr(1), None, false);
        assert_eq!(push, Err(ENOMEM));
        assert!(parent.is_protected(0));
        assert!(!Fake::killed(0));
        session.copy_all()?;
        assert_eq!(parent.copy_of(0, 0), 1);
        Ok(())
    }

    #[test]
    fn does_not_fail_by_who_is_killed() -> Result {
        fake!();
        let parent = Parent::new()?;
        let session = Fake::fork(&parent, 0, &[0, 1])?.ok_or(EINVAL)?;
        // While it waits for memory.
        Fake::fail_allocs(1);
        Fake::interrupt_by_failure();
        let push = parent.tracker.push(&parent, addr(0), addr(1), true);
        assert_eq!(push, Err(EINTR));
        assert!(parent.is_protected(0) && !Fake::killed(0));
        // It frees its memory, and what cannot fail goes on.
        parent.tracker.push(&parent, addr(0), addr(2), false)?;
        assert_eq!(parent.copy_of(0, 0) + parent.copy_of(0, 1), 3);
        session.copy_all()
    }

    #[test]
    fn nothing_is_copied_for_a_victim() -> Result {
        fake!();
        let parent = Parent::new()?;
        let first = Fake::fork(&parent, 0, &[0, 1])?.ok_or(EINVAL)?;
        let second = Fake::fork(&parent, 1, &[0, 1])?.ok_or(EINVAL)?;
        Fake::push(&parent, 0)?;
        // Who cannot stop has memory for it.
        Fake::make_victim();
        parent.tracker.push(&parent, addr(0), addr(2), false)?;
        assert_eq!(parent.copy_of(0, 1) + parent.copy_of(1, 1), 0);
        assert!(Fake::killed(0) && Fake::killed(1));
        assert!(first.is_over() && second.is_over() && parent.tracker.is_idle());
        Ok(())
    }

    #[test]
    fn is_not_failed_by_what_is_not_needed() -> Result {
        fake!();
        let parent = Parent::new()?;
        let session = Fake::fork(&parent, 0, &[0])?.ok_or(EINVAL)?;
        // The last copy of another party needs no table.
        parent.install(0, 0);
        Fake::fail_allocs(usize::MAX);
        session.copy_all()?;
        assert_eq!(parent.copy_of(0, 0), 1);
        Ok(())
    }

    #[test]
    fn does_not_fail_by_who_looks() -> Result {
        fake!();
        let parent = Parent::new()?;
        let session = Fake::fork(&parent, 0, &[0, 1])?.ok_or(EINVAL)?;
        Fake::fail_allocs(1);
        assert_eq!(session.pull(addr(0), addr(2), false), Err(ENOMEM));
        assert!(!Fake::killed(0));
        session.copy_all()?;
        assert_eq!(parent.copy_of(0, 0), 1);
        assert_eq!(Fake::count_of(Event::SessionComplete), 1);
        Ok(())
    }

    #[test]
    fn is_not_failed_by_a_range_that_is_settled() -> Result {
        fake!();
        fn during_pause(parent: &Arc<Parent>) {
            // Another party copies what we wait for, and we get no more memory.
            Fake::push(parent, 0).expect("not killable");
            Fake::fail_allocs(1);
            parent.map(true);
        }
        let parent = Parent::with_hook(Some(during_pause))?;
        let session = Fake::fork(&parent, 0, &[0])?.ok_or(EINVAL)?;
        parent.map(false);
        session.pull(addr(0), addr(1), true)?;
        assert!(!Fake::killed(0));
        assert_eq!(parent.copy_of(0, 0), 1);
        Ok(())
    }

    #[test]
    fn a_puller_waits_for_the_mapping() -> Result {
        fake!();
        fn during_pause(parent: &Arc<Parent>) {
            parent.map(true);
        }
        let parent = Parent::with_hook(Some(during_pause))?;
        let session = Fake::fork(&parent, 0, &[0])?.ok_or(EINVAL)?;
        parent.map(false);
        session.pull(addr(0), addr(1), false)?;
        assert_eq!(parent.copy_of(0, 0), 1);
        Ok(())
    }

    #[test]
    fn a_puller_leaves_it_to_munmap() -> Result {
        fake!();
        fn during_pause(parent: &Arc<Parent>) {
            Fake::push(parent, 0).expect("not killable");
        }
        let parent = Parent::with_hook(Some(during_pause))?;
        let session = Fake::fork(&parent, 0, &[0])?.ok_or(EINVAL)?;
        // `munmap()` has detached the mapping, and settles it.
        parent.map(false);
        session.pull(addr(0), addr(1), false)?;
        assert_eq!(parent.copy_of(0, 0), 1);
        Ok(())
    }
}
