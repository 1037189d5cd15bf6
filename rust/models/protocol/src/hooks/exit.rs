// SPDX-License-Identifier: GPL-2.0

//! The end of a parent.

use crate::{
    Actor, Hook, Mutation, Wrong,
    page_tables::{RANGES, vas_of},
    task::{Pc, Role},
};

impl Actor<'_> {
    /// `__async_pgtable_exit()` and `exit_mmap()`. A range is a mapping, and a chunk of one.
    pub(super) fn exit(&mut self) -> Option<()> {
        match self.task().pc {
            Pc::Start => {
                let others = (0..self.model.tasks(self.s))
                    .filter(|&other| other != self.t)
                    .any(|other| {
                        matches!(self.model.role(self.s, other), Role::Thread(_))
                            && !self.model.is_done(self.s, other)
                    });
                if others {
                    return None;
                }
                self.task_mut().slot = 0;
                self.task_mut().a = 0;
                if self.s.is_idle(0) {
                    self.task_mut().pc = Pc::Leave;
                } else if self.s.unstable {
                    self.task_mut().pc = Pc::Flush;
                } else {
                    self.lock_read(0)?;
                    self.task_mut().b = 0;
                    self.task_mut().pc = Pc::Act;
                }
            }
            Pc::Flush => {
                if self.abort()? {
                    self.task_mut().pc = Pc::Wait;
                }
            }
            // zap_all(): first what no child waits for
            Pc::Act => {
                let range = usize::from(self.task().b);
                if range == usize::from(self.model.ranges) {
                    self.task_mut().b = 0;
                    self.task_mut().pc = Pc::Look;
                    return Some(());
                }
                if !self.s.overlaps(0, range) {
                    self.zap(range)?;
                }
                self.task_mut().b += 1;
            }
            Pc::Look => {
                let range = self.task().b;
                if range == self.model.ranges {
                    self.s.mms[0].read -= 1;
                    self.task_mut().b = 0;
                    self.task_mut().pc = Pc::Wait;
                } else if self.s.overlaps(0, range.into()) {
                    if self.m(Mutation::ExitZapsFirst) {
                        self.zap(range.into())?;
                    }
                    self.task_mut().pc = Pc::Unlock;
                    if self.hook(Hook::Exit) {
                        self.push(range, range + 1);
                    }
                } else {
                    self.task_mut().b += 1;
                }
            }
            Pc::Unlock => {
                self.zap(self.task().b.into())?;
                self.task_mut().b += 1;
                self.task_mut().pc = Pc::Look;
            }
            Pc::Wait => {
                if !self.m(Mutation::ExitDoesNotWait) {
                    for session in self.s.tracked(0) {
                        session.quiesce()?;
                    }
                }
                self.task_mut().pc = Pc::Leave;
            }
            _ => {
                // exit_mmap() waits for the mmap_lock, which the reaper may have, but not for locks
                // of VMAs, which pullers have.
                let pullers = (self.s.tasks.iter())
                    .filter(|task| task.is_in_parent())
                    .filter(|task| self.s.sessions[task.session()].source == 0)
                    .count();
                if usize::from(self.s.mms[0].read) != pullers {
                    return None;
                }
                if pullers != 0 {
                    self.wrong(Wrong::ParentGone);
                }
                for range in 0..RANGES {
                    self.table_is_free(0, range)?;
                }
                self.s.take_down(0);
                self.s.gone = true;
                self.finish();
            }
        }
        Some(())
    }

    /// `zap_settled()`. No other thread is left, so it is one step.
    fn zap(&mut self, range: usize) -> Option<()> {
        self.table_is_free(0, range)?;
        vas_of(range).for_each(|va| self.gather(va));
        self.s.flush_all();
        self.free_gathered();
        Some(())
    }

    /// `__oom_reap_task_mm()`
    pub(super) fn reap(&mut self) -> Option<()> {
        match self.task().pc {
            Pc::Start => {
                self.lock_read(0)?;
                if self.s.gone {
                    self.unlock_and_finish();
                    return Some(());
                }
                self.s.unstable = true;
                self.task_mut().slot = 0;
                self.task_mut().a = 0;
                self.task_mut().pc = Pc::Wait;
            }
            Pc::Wait => {
                if self.abort()? {
                    self.task_mut().slot = 0;
                    self.task_mut().cursor = 0;
                    self.task_mut().pc = Pc::Act;
                }
            }
            Pc::Act => {
                let range = usize::from(self.task().cursor);
                self.table_is_free(0, range)?;
                vas_of(range).for_each(|va| self.gather(va));
                self.task_mut().cursor += 1;
                if self.task().cursor == self.model.ranges {
                    self.task_mut().pc = Pc::Flush;
                }
            }
            _ => {
                self.s.flush_all();
                self.free_gathered();
                self.unlock_and_finish();
            }
        }
        Some(())
    }
}
