// SPDX-License-Identifier: GPL-2.0

//! The sessions that copy from the parent.

use crate::{
    Actor, Hook, Mutation, State,
    page_tables::CHILDREN,
    session::{Phase, Session},
    task::{Call, Role, Settle},
};

impl State {
    /// Is there no session of an address space?
    pub fn is_idle(&self, mm: usize) -> bool {
        self.tracked(mm).next().is_none()
    }

    /// The sessions of an address space.
    pub fn tracked(&self, mm: usize) -> impl Iterator<Item = &Session> {
        (self.sessions.iter())
            .filter(move |session| session.present && usize::from(session.source) == mm)
    }

    /// Does any session have the range to settle? Also one that is over: somebody may still be
    /// copying in it.
    pub fn overlaps(&self, mm: usize, range: usize) -> bool {
        self.tracked(mm).any(|session| session.is_pending(range))
    }

    /// `lift()`, with the entry locked.
    pub fn lift(&mut self, mm: usize, range: usize) {
        if !self.overlaps(mm, range) {
            self.mms[mm].mkwrite(range);
        }
    }

    /// `repair()`
    pub fn repair(&mut self, range: usize) -> Option<()> {
        if self.mms[0].pmd_lock[range] != 0 {
            return None;
        }
        self.lift(0, range);
        Some(())
    }
}

impl Actor<'_> {
    /// The address space of who pushes.
    fn pushed(&self) -> usize {
        match self.role() {
            Role::Child(c) => c + 1,
            _ => 0,
        }
    }

    /// `async_pgtable_is_dying()`: the child has been killed, and has neither come to user space nor
    /// exited.
    fn is_dying(&self, c: usize) -> bool {
        let child = &self.s.children[c];
        let works = (0..self.model.tasks(self.s)).any(|task| {
            self.model.role(self.s, task) == Role::Child(c) && self.s.tasks[task].op == 0
        });
        child.killed && !child.left && works
    }

    /// `push()`: what is to be settled next, in this session or another one.
    pub(crate) fn push_next(&mut self) {
        loop {
            let task = *self.task();
            let slot = usize::from(task.slot);
            if slot == CHILDREN || slot > 0 && self.m(Mutation::PushSkipsASession) {
                self.task_mut().call = Call::None;
                return;
            }
            let session = self.s.sessions[slot];
            if session.present && usize::from(session.source) == self.pushed() {
                if let Some(range) = session.next(task.cursor, task.end) {
                    if !self.is_dying(slot) {
                        return self.settle(range);
                    }
                    self.s.sessions[slot].end(Phase::Abandoned);
                }
                if self.s.sessions[slot].is_over() && !self.m(Mutation::PushIgnoresTheEnded) {
                    self.task_mut().settle = Settle::Over;
                    return;
                }
            }
            let task = self.task_mut();
            task.slot += 1;
            task.cursor = task.from;
        }
    }

    /// What `push()` does with a session that is over.
    pub(crate) fn over(&mut self) -> Option<()> {
        let slot = self.task().session();
        if !self.m(Mutation::PushDoesNotWait) {
            self.s.sessions[slot].quiesce()?;
        }
        self.s.sessions[slot].present = false;
        let task = self.task_mut();
        task.slot += 1;
        task.cursor = task.from;
        task.settle = Settle::Claim;
        self.push_next();
        Some(())
    }

    /// `abort()`, a session at a time. Returns whether it has come to the end.
    pub(crate) fn abort(&mut self) -> Option<bool> {
        if !self.hook(Hook::Oom) {
            return Some(true);
        }
        let slot = usize::from(self.task().slot);
        if slot == CHILDREN {
            return Some(true);
        }
        if self.task().a == 0 {
            let session = &mut self.s.sessions[slot];
            let ended = session.present && session.source == 0 && session.end(Phase::Failed);
            if ended {
                self.task_mut().a = 1;
            } else {
                self.task_mut().slot += 1;
            }
        } else {
            if !self.m(Mutation::AbortDoesNotWait) {
                self.s.sessions[slot].quiesce()?;
            }
            self.s.bury(slot);
            let task = self.task_mut();
            task.a = 0;
            task.slot += 1;
        }
        Some(false)
    }
}
