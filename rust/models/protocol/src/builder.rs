// SPDX-License-Identifier: GPL-2.0

//! fork, as far as the page tables are concerned: `dup_mmap()` and `copy_page_range()`.

use crate::{
    Actor, Life, Mutation, Seen, Wrong,
    page_tables::{Kind, PTES, Pmd, VAS, vas_of},
    session::{Phase, Session},
    task::{Pc, TASKS},
};

impl Actor<'_> {
    /// One step of fork. `choice` 1 is that it fails.
    pub(crate) fn fork(&mut self, c: usize, choice: u8) -> Option<()> {
        let range = usize::from(self.task().cursor);
        if choice != 0 && self.task().pc != Pc::Unlock {
            return None;
        }
        match self.task().pc {
            Pc::Start => {
                // The child joins the rmap, which waits for walks.
                if (0..TASKS).any(|task| self.walks(task)) {
                    return None;
                }
                self.lock_write(0)?;
                self.s.children[c].life = Life::Forking;
                // raw_write_seqcount_begin()
                self.s.seq += 1;
                let task = self.task_mut();
                task.cursor = 0;
                task.a = 0;
                task.pc = Pc::Look;
            }
            Pc::Look => {
                // __async_pgtable_dup_vma(), __async_pgtable_defer()
                let marked = self.s.marked[range] && self.s.has_pins;
                let defer = matches!(self.s.mms[0].pmd[range], Pmd::Table { .. })
                    && !self.s.cut[range]
                    && !self.s.notifier
                    && (!marked || self.m(Mutation::MarkIgnored));
                self.task_mut().pc = if self.s.detached {
                    Pc::Flush
                } else if defer {
                    Pc::Protect
                } else {
                    Pc::Copy
                };
                if self.s.detached {
                    self.s.seq += 1;
                }
            }
            Pc::Protect => {
                self.task_mut().a |= 1 << range;
                if let Pmd::Table { write } = &mut self.s.mms[0].pmd[range] {
                    *write = false;
                }
                self.fork_next();
            }
            Pc::Copy => {
                // copy_pte_range() or copy_huge_pmd(), in the call
                self.table_is_free(0, range)?;
                self.s.mms[c + 1].pmd[range] = Pmd::Table { write: true };
                for va in vas_of(range) {
                    self.copy_in_call(c, va);
                }
                self.fork_next();
            }
            Pc::Unlock => {
                self.s.seq += 1;
                if choice == 1 {
                    if self.s.fork_failures == 0 {
                        return None;
                    }
                    self.s.fork_failures -= 1;
                    return self.fork_fails(c);
                }
                self.task_mut().pc = if self.m(Mutation::FlushAfterArm) {
                    Pc::Arm
                } else {
                    Pc::Flush
                };
            }
            Pc::Flush => {
                if !self.m(Mutation::NoFlush) {
                    self.s.flush_all();
                }
                if self.m(Mutation::FlushAfterArm) {
                    self.finish();
                } else {
                    self.task_mut().pc = Pc::Arm;
                }
            }
            _ => self.arm(c),
        }
        Some(())
    }

    fn fork_next(&mut self) {
        let ranges = self.model.ranges;
        let task = self.task_mut();
        task.cursor += 1;
        task.pc = if task.cursor == ranges {
            Pc::Unlock
        } else {
            Pc::Look
        };
    }

    /// `copy_present_ptes()`, inside of fork.
    fn copy_in_call(&mut self, c: usize, va: usize) {
        let pte = self.s.mms[0].pte[va];
        match pte.kind {
            Kind::None => return,
            Kind::Present if self.is_pinned(pte.page) => {
                let page = self.s.alloc(self.s.value(pte.page));
                self.s.mms[c + 1].pte[va] = crate::page_tables::Pte { page, ..pte };
                return;
            }
            _ => {}
        }
        self.share(0, c + 1, va);
    }

    fn is_pinned(&self, page: u8) -> bool {
        page != crate::page_tables::ZERO && self.s.pages[usize::from(page)].pins != 0
    }

    /// What was protected is left so.
    fn fork_fails(&mut self, c: usize) -> Option<()> {
        self.s.take_down(c + 1);
        self.s.children[c].life = Life::Never;
        self.s.flush_all();
        self.s.mms[0].write = 0;
        self.finish();
        Some(())
    }

    /// `Builder::arm()`, after which both sides are unlocked. This is the instant of the fork.
    fn arm(&mut self, c: usize) {
        let pending = self.task().a;
        for va in 0..VAS {
            let deferred = pending & (1 << (va / PTES)) != 0;
            // What was copied in the call is the business of fork as it was.
            let mm = if deferred { 0 } else { c + 1 };
            let pte = self.s.mms[mm].pte[va];
            self.s.expected[c][va] = Seen {
                value: self.s.seen(mm, va),
                access: pte.access,
                soft_dirty: pte.soft_dirty,
            };
        }
        self.s.mms[c + 1].zero_pages = self.s.mms[0].zero_pages;
        self.s.children[c].life = Life::Live;
        self.s.forks += 1;
        if pending != 0 {
            if self.s.sessions[c].phase != Phase::None {
                self.wrong(Wrong::MappingChanged);
            }
            self.s.sessions[c] = Session {
                phase: Phase::Live,
                pending,
                source: 0,
                present: true,
                claims: Default::default(),
            };
        }
        self.s.mms[0].write = 0;
        if self.m(Mutation::FlushAfterArm) {
            self.task_mut().pc = Pc::Flush;
        } else {
            self.finish();
        }
    }
}
