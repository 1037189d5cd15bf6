// SPDX-License-Identifier: GPL-2.0

//! Children, and who looks at them.

use crate::{
    Actor, Hook, Life, Mutation, Wrong,
    page_tables::{Kind, Pmd, Pte, RANGES, ZERO, range_of, vas_of},
    session::{Phase, Session},
    task::{Failure, Pc, Role, TASKS},
};

impl Actor<'_> {
    /// `async_pgtable_child_work()`
    pub(super) fn child_work(&mut self) -> Option<()> {
        let Role::Child(c) = self.role() else {
            return None;
        };
        match self.task().pc {
            Pc::Start => {
                self.task_mut().pc = Pc::Act;
                self.copy_all(c);
            }
            _ => {
                if self.task().failed != Failure::None {
                    self.s.children[c].killed = !self.m(Mutation::AbandonedGoesOn);
                }
                // What is killed has no more to do but to exit.
                let session = &self.s.sessions[c];
                if !self.s.children[c].killed && (session.is_over() || session.is_good()) {
                    self.wrong(Wrong::EntersUserSpace);
                }
                self.finish();
            }
        }
        Some(())
    }

    /// The child writes to its memory. It is complete, so nothing of this is new.
    pub(super) fn child_write(&mut self, va: usize) -> Option<()> {
        let Role::Child(c) = self.role() else {
            return None;
        };
        let (mm, value) = (c + 1, self.my_value());
        self.table_is_free(mm, range_of(va))?;
        let pte = self.s.mms[mm].pte[va];
        match pte.kind {
            Kind::Migration => return None,
            Kind::None | Kind::Marker => {}
            Kind::Present => {
                let shared = pte.page == ZERO || self.s.pages[usize::from(pte.page)].refs != 1;
                let mut page = pte.page;
                if shared {
                    if let Some(old) = self.s.unmap(mm, va) {
                        self.s.put(old);
                    }
                    page = self.s.alloc(value);
                }
                self.s.pages[usize::from(page)].exclusive = true;
                self.s.pages[usize::from(page)].value = value;
                self.s.mms[mm].pte[va] = Pte {
                    page,
                    write: true,
                    ..pte
                };
                self.s.expected[c][va].value = Some(value);
            }
        }
        self.finish();
        Some(())
    }

    /// The child forks a child of its own, and does nothing with its memory any more. It is
    /// complete, and its TLB is not modelled: all is protected and armed in one step.
    pub(super) fn child_fork(&mut self, grandchild: usize) -> Option<()> {
        let Role::Child(c) = self.role() else {
            return None;
        };
        let mm = c + 1;
        if self.task().pc == Pc::Start {
            if (0..TASKS).any(|task| self.walks(task)) {
                return None;
            }
            self.lock_write(mm)?;
            self.s.children[grandchild].life = Life::Forking;
            self.task_mut().pc = Pc::Act;
            return Some(());
        }
        let ranges = self.model.ranges;
        for range in 0..RANGES {
            if let Pmd::Table { write } = &mut self.s.mms[mm].pmd[range] {
                *write = false;
            }
        }
        self.s.expected[grandchild] = self.s.expected[c];
        self.s.children[grandchild].life = Life::Live;
        self.s.sessions[grandchild] = Session {
            phase: Phase::Live,
            pending: (1 << ranges) - 1,
            source: mm as u8,
            present: true,
            claims: Default::default(),
        };
        self.s.mms[mm].write = 0;
        self.finish();
        Some(())
    }

    pub(super) fn kill(&mut self, c: usize) -> Option<()> {
        self.born(c)?;
        self.s.children[c].killed = true;
        self.finish();
        Some(())
    }

    /// Waits until there is a child, or will be none.
    pub(super) fn born(&self, c: usize) -> Option<()> {
        matches!(self.s.children[c].life, Life::Live | Life::Never).then_some(())
    }

    /// Is there a child whose address space can be had?
    pub(super) fn has_mm(&self, c: usize) -> bool {
        self.s.children[c].life == Life::Live && !self.s.children[c].left
    }

    /// Waits until there is a child, or will be none. Ends the operation, and says so, if it has
    /// just begun and there is no address space to be had.
    fn is_in_vain(&mut self, c: usize) -> Option<bool> {
        self.born(c)?;
        let vain = self.task().pc == Pc::Start && !self.has_mm(c);
        if vain {
            self.finish();
        }
        Some(vain)
    }

    /// A walk, or GUP, of somebody who looks at a child.
    pub(super) fn look(&mut self, hook: Hook, c: usize, range: usize) -> Option<()> {
        if self.is_in_vain(c)? {
            return Some(());
        }
        match self.task().pc {
            Pc::Start => {
                self.lock_read(c + 1)?;
                self.s.children[c].users += 1;
                self.task_mut().pc = Pc::Act;
                if self.hook(hook) {
                    self.pull(c, range as u8, range as u8 + 1);
                }
            }
            _ => {
                if self.task().failed == Failure::None {
                    let hole = vas_of(range).any(|va| {
                        self.s.expected[c][va].value.is_some()
                            && self.s.mms[c + 1].pte[va].kind == Kind::None
                    });
                    if hole && !self.s.sessions[c].is_over() {
                        self.wrong(Wrong::Hole);
                    }
                }
                self.s.mms[c + 1].read -= 1;
                self.s.children[c].users -= 1;
                self.finish();
            }
        }
        Some(())
    }

    /// Somebody locks the mapping of a child for writing, and changes it.
    pub(super) fn change_child(&mut self, c: usize) -> Option<()> {
        if self.is_in_vain(c)? {
            return Some(());
        }
        match self.task().pc {
            Pc::Start => {
                self.lock_write(c + 1)?;
                self.s.children[c].users += 1;
                self.task_mut().pc = Pc::Act;
                if self.hook(Hook::VmaWrite) {
                    self.pull(c, 0, self.model.ranges);
                }
            }
            Pc::Act => {
                if self.task().failed != Failure::Memory {
                    self.s.children[c].changed = true;
                }
                self.task_mut().pc = Pc::Leave;
            }
            _ => {
                self.s.mms[c + 1].write = 0;
                self.s.children[c].users -= 1;
                self.finish();
            }
        }
        Some(())
    }
}
