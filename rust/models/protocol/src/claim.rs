// SPDX-License-Identifier: GPL-2.0

//! The right to copy a range, and what becomes of it.

use crate::{
    Actor, Mutation, Wrong,
    page_tables::{PTES, vas_of},
    session::Phase,
    task::{Settle, Want},
};

impl Actor<'_> {
    /// `Claim::new()`. `Some(false)`: the range is settled, or the session has ended.
    fn claim(&mut self) -> Option<bool> {
        let (slot, range) = (self.task().session(), self.task().range());
        let me = self.me();
        let session = &self.s.sessions[slot];
        let lock = session.claims[range];
        if lock != 0 && lock != me && !self.model.has(Mutation::ClaimWithoutLock) {
            return None;
        }
        let good = session.is_good() && session.is_pending(range);
        if lock == me {
            self.wrong(Wrong::SleptWithClaim);
        }
        let session = &mut self.s.sessions[slot];
        if good || self.model.has(Mutation::ClaimWithoutLooking) {
            session.claims[range] = me;
            return Some(true);
        }
        Some(false)
    }

    /// Claims a range, and locks the parent's mapping if the caller has not. All in one step: who
    /// does not get both has neither.
    pub(crate) fn claim_step(&mut self, choice: u8) -> Option<()> {
        if choice == 1 {
            return self.claim_without_memory();
        }
        if !self.claim()? {
            self.next_range();
            return Some(());
        }
        let parent = self.source();
        if !self.task().pushes() {
            if self.s.is_gone(parent) {
                self.wrong(Wrong::ParentGone);
            }
            if self.parent_is_locked() {
                if !self.m(Mutation::ClaimOverPause) {
                    self.drop_claim();
                }
                self.task_mut().settle = Settle::Pause;
                return Some(());
            }
            self.s.mms[parent].read += 1;
        }
        let range = self.task().range();
        if self.m(Mutation::LiftBeforeCopy) {
            self.s.mms[parent].mkwrite(range);
        }
        if self.m(Mutation::NotedBeforeLock) {
            self.note_migrations(parent, vas_of(range));
        }
        let task = self.task_mut();
        task.settle = Settle::Copy;
        debug_assert!(usize::from(task.at) < PTES);
        Some(())
    }

    /// `prepare()` has failed.
    fn claim_without_memory(&mut self) -> Option<()> {
        if self.s.failures == 0 {
            return None;
        }
        let claimed = self.claim()?;
        self.s.failures -= 1;
        if !claimed {
            self.next_range();
        } else if self.task().must {
            self.fail_claimed();
        } else {
            self.drop_claim();
            self.return_failure();
        }
        Some(())
    }

    /// `Claim::fail()`, of a copy that has failed: with a claim of its own.
    pub(crate) fn fail_step(&mut self) -> Option<()> {
        if self.claim()? {
            self.fail_claimed();
        } else {
            self.next_range();
        }
        Some(())
    }

    fn fail_claimed(&mut self) {
        let session = self.task().session();
        let failed = self.s.sessions[session].end(Phase::Failed);
        self.drop_claim();
        if failed {
            self.task_mut().settle = Settle::Bury;
        } else {
            self.next_range();
        }
    }

    fn drop_claim(&mut self) {
        let (session, range) = (self.task().session(), self.task().range());
        self.s.sessions[session].claims[range] = 0;
    }

    /// Unlocks the parent's mapping, if it was locked for the claim, then drops the claim.
    pub(crate) fn give_back(&mut self) {
        if !self.task().pushes() {
            let parent = self.source();
            self.s.mms[parent].read -= 1;
        }
        if !(self.m(Mutation::ClaimOverSleep)
            && matches!(self.task().settle, Settle::Copy | Settle::Note))
        {
            self.drop_claim();
        }
        let tries = self.task().tries + 1;
        self.task_mut().tries = tries;
        if tries > 20 {
            self.wrong(Wrong::Endless);
        }
    }

    /// The first half of `publish()`: the range is settled, under the lock of the entry.
    pub(crate) fn publish_step(&mut self) -> Option<()> {
        let (session, range) = (self.task().session(), self.task().range());
        let (me, parent) = (self.me(), self.source());
        if self.s.mms[parent].pmd_lock[range] != 0 {
            return None;
        }
        if self.m(Mutation::LiftOutsideLock) {
            // Looks first, then settles.
            let others = (self.s.sessions.iter().enumerate())
                .any(|(other, it)| other != session && it.overlaps(parent, range));
            let task = self.task_mut();
            task.a = u8::from(others);
            task.settle = Settle::Settled;
            return Some(());
        }
        self.s.mms[parent].pmd_lock[range] = me;
        if !self.m(Mutation::LiftBeforePublish) {
            let last = self.s.sessions[session].settled(range);
            self.task_mut().last = last;
        } else {
            self.s.mms[parent].mkwrite(range);
        }
        self.task_mut().settle = Settle::Lift;
        Some(())
    }

    /// The same of the planted bug.
    pub(crate) fn settled_step(&mut self) -> Option<()> {
        let (session, range) = (self.task().session(), self.task().range());
        let last = self.s.sessions[session].settled(range);
        self.task_mut().last = last;
        if self.task().a == 0 {
            let parent = self.source();
            self.s.mms[parent].mkwrite(range);
        }
        self.leave();
        Some(())
    }

    /// The second half of `publish()`, and the end of the claim.
    pub(crate) fn lift_step(&mut self) -> Option<()> {
        let parent = self.source();
        let (session, range) = (self.task().session(), self.task().range());
        if self.m(Mutation::LiftBeforePublish) {
            let last = self.s.sessions[session].settled(range);
            self.task_mut().last = last;
        } else if self.m(Mutation::LiftForAll) {
            self.s.mms[parent].mkwrite(range);
        } else if !self.m(Mutation::NotLifted) {
            self.s.lift(parent, range);
        }
        self.s.mms[parent].pmd_lock[range] = 0;
        self.leave();
        Some(())
    }

    fn leave(&mut self) {
        self.give_back();
        self.task_mut().want = Want::Nothing;
        if self.task().last {
            self.task_mut().last = false;
            self.task_mut().settle = Settle::Complete;
        } else {
            self.next_range();
        }
    }
}
