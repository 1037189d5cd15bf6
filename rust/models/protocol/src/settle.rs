// SPDX-License-Identifier: GPL-2.0

//! How the ranges of a session are settled, by each party.

use crate::{
    Actor,
    task::{Call, Failure, Settle, Want},
};

impl Actor<'_> {
    /// `Tracker::push()`
    pub(crate) fn push(&mut self, from: u8, to: u8) {
        let task = self.task_mut();
        task.call = Call::Push;
        task.slot = 0;
        task.from = from;
        task.cursor = from;
        task.end = to;
        task.must = true;
        self.push_next();
    }

    /// `Session::pull()`, for somebody who can do without.
    pub(crate) fn pull(&mut self, session: usize, from: u8, to: u8) {
        self.call(Call::Pull, session, from, to, false);
    }

    /// `Session::copy_all()`
    pub(crate) fn copy_all(&mut self, session: usize) {
        let ranges = self.model.ranges;
        self.call(Call::Copy, session, 0, ranges, true);
    }

    fn call(&mut self, call: Call, session: usize, from: u8, to: u8, must: bool) {
        let task = self.task_mut();
        task.call = call;
        task.slot = session as u8;
        task.from = from;
        task.cursor = from;
        task.end = to;
        task.must = must;
        task.failed = Failure::None;
        self.pull_next();
    }

    fn pull_next(&mut self) {
        let task = *self.task();
        let session = self.s.sessions[task.session()];
        let killed = task.call == Call::Copy && self.s.children[task.session()].killed;
        match session.next(task.cursor, task.end) {
            Some(range) if !killed => self.settle(range),
            _ if session.is_over() => self.task_mut().settle = Settle::Check,
            _ => self.task_mut().call = Call::None,
        }
    }

    /// `settle()` of a range is next.
    pub(crate) fn settle(&mut self, range: u8) {
        let task = self.task_mut();
        task.cursor = range;
        task.at = 0;
        task.start = 0;
        task.want = Want::Nothing;
        task.settle = Settle::Claim;
    }

    /// The range is settled, or cannot be: go on with the next one.
    pub(crate) fn next_range(&mut self) {
        let task = self.task_mut();
        task.cursor += 1;
        task.at = 0;
        task.start = 0;
        task.resume = false;
        task.want = Want::Nothing;
        task.settle = Settle::Claim;
        task.tries = 0;
        if task.pushes() {
            self.push_next();
        } else {
            self.pull_next();
        }
    }

    /// `pull()` fails without memory.
    pub(crate) fn return_failure(&mut self) {
        let task = self.task_mut();
        task.at = 0;
        task.start = 0;
        task.resume = false;
        task.call = Call::None;
        task.failed = Failure::Memory;
    }

    /// One step of `push()`, `pull()` or `copy_all()`.
    pub(crate) fn call_step(&mut self, choice: u8) -> Option<()> {
        match self.task().settle {
            Settle::Claim => self.claim_step(choice),
            Settle::Copy => self.copy_step(choice),
            _ if choice != 0 => None,
            Settle::Publish => self.publish_step(),
            Settle::Settled => self.settled_step(),
            Settle::Lift => self.lift_step(),
            Settle::Complete => self.complete(),
            Settle::Fail => self.fail_step(),
            Settle::Bury => self.bury(),
            Settle::Over => self.over(),
            Settle::Check => self.check(),
            Settle::Pause => self.pause_step(),
            Settle::Note => self.note_step(),
        }
    }

    /// The range may have been settled, or its session have ended, meanwhile.
    fn is_still_mine(&self) -> bool {
        let session = self.s.sessions[self.task().session()];
        session.is_good() && session.is_pending(self.task().range())
    }

    /// Somebody changes the parent's mapping. Here a wait that ends by itself, in the kernel it
    /// tries again after a while.
    fn pause_step(&mut self) -> Option<()> {
        if self.is_still_mine() && self.parent_is_locked() {
            return None;
        }
        self.task_mut().settle = Settle::Claim;
        Some(())
    }

    /// Is the parent's mapping locked for writing, or unmapped?
    pub(crate) fn parent_is_locked(&self) -> bool {
        let parent = self.source();
        self.s.mms[parent].write != 0 || parent == 0 && self.s.detached
    }
}
