// SPDX-License-Identifier: GPL-2.0

//! The deferred copy of one fork, and how it ends.

use crate::{
    Actor, Mutation, State,
    page_tables::RANGES,
    task::{Call, Failure, Pc, Settle},
};

/// What became of a session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Phase {
    /// There is none.
    #[default]
    None,
    /// It is live, or complete when nothing is pending.
    Live,
    /// Nobody needs the rest.
    Abandoned,
    /// The child must not be used.
    Failed,
}

/// A session. Its number is that of the child, and of its slot in the tracker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Session {
    /// What became of it.
    pub phase: Phase,
    /// The bitmap. What is pending when a session ends early stays in it.
    pub pending: u8,
    /// The address space that is copied.
    pub source: u8,
    /// Does the tracker know it?
    pub present: bool,
    /// The locks of the claims: 0, or the task that has it and 1.
    pub claims: [u8; RANGES],
}

impl Session {
    /// `is_pending()`
    pub fn is_pending(&self, range: usize) -> bool {
        self.pending & (1 << range) != 0
    }

    /// May anybody be copying a range of an address space? Also when it is over.
    pub fn overlaps(&self, source: usize, range: usize) -> bool {
        self.present && usize::from(self.source) == source && self.is_pending(range)
    }

    /// `is_good()`
    pub fn is_good(&self) -> bool {
        self.phase == Phase::Live && self.pending != 0
    }

    /// `is_over()`
    pub fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Abandoned | Phase::Failed)
    }

    /// `next()`
    pub fn next(&self, from: u8, to: u8) -> Option<u8> {
        if !self.is_good() {
            return None;
        }
        (from..to).find(|&range| self.is_pending(usize::from(range)))
    }

    /// `quiesce()`: nobody copies.
    ///
    /// Nobody begins to, where this is used. So it need not take one lock after the other.
    pub fn quiesce(&self) -> Option<()> {
        (self.claims == [0; RANGES]).then_some(())
    }

    /// `end()`: returns whether this has ended it.
    pub fn end(&mut self, phase: Phase) -> bool {
        let good = self.is_good();
        if good {
            self.phase = phase;
        }
        good
    }

    /// `settled()`: returns whether it was in time, and the last one.
    pub fn settled(&mut self, range: usize) -> bool {
        if self.phase != Phase::Live || !self.is_pending(range) {
            return false;
        }
        self.pending &= !(1 << range);
        self.pending == 0
    }
}

impl State {
    /// `let_go()` and `kill()`, without the wait.
    pub fn bury(&mut self, session: usize) {
        self.sessions[session].present = false;
        self.children[session].killed = true;
    }
}

impl Actor<'_> {
    /// `complete()`
    pub(crate) fn complete(&mut self) -> Option<()> {
        let session = self.task().session();
        if !self.m(Mutation::CompletedWithoutWaiting) {
            self.s.sessions[session].quiesce()?;
        }
        self.s.sessions[session].present = self.m(Mutation::LastRangeDoesNotEnd);
        self.next_range();
        Some(())
    }

    /// `bury()` of a session that this task has failed.
    pub(crate) fn bury(&mut self) -> Option<()> {
        let session = self.task().session();
        if !self.m(Mutation::FailedWithoutWaiting) {
            self.s.sessions[session].quiesce()?;
        }
        self.s.bury(session);
        self.next_range();
        Some(())
    }

    /// `check()` of a session that is over.
    pub(crate) fn check(&mut self) -> Option<()> {
        self.s.sessions[self.task().session()].quiesce()?;
        let task = self.task_mut();
        task.settle = Settle::Claim;
        task.call = Call::None;
        task.failed = Failure::Over;
        Some(())
    }

    /// The exit of a child: `abandon()`, and then its page tables go.
    pub(crate) fn child_exit(&mut self, c: usize) -> Option<()> {
        match self.task().pc {
            Pc::Start => {
                let ended = self.s.sessions[c].end(Phase::Abandoned);
                self.s.children[c].left = true;
                self.task_mut().a = u8::from(ended);
                self.task_mut().pc = Pc::Wait;
            }
            Pc::Wait => {
                if !self.m(Mutation::AbandonedWithoutWaiting) {
                    self.s.sessions[c].quiesce()?;
                }
                if self.task().a != 0 {
                    self.s.sessions[c].present = false;
                }
                self.task_mut().pc = Pc::Act;
            }
            // The last user of the mm, who may be somebody else.
            Pc::Act if self.s.children[c].users != 0 => return None,
            Pc::Act if !self.s.is_idle(c + 1) => {
                // Its own child lives on.
                self.lock_read(c + 1)?;
                self.task_mut().pc = Pc::Unlock;
                self.push(0, self.model.ranges);
            }
            Pc::Unlock => {
                self.s.mms[c + 1].read -= 1;
                self.task_mut().pc = Pc::Look;
            }
            _ => {
                for session in self.s.tracked(c + 1) {
                    session.quiesce()?;
                }
                for range in 0..RANGES {
                    self.table_is_free(c + 1, range)?;
                }
                self.s.take_down(c + 1);
                self.s.children[c].gone = true;
                self.finish();
            }
        }
        Some(())
    }
}
