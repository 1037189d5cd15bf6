// SPDX-License-Identifier: GPL-2.0

//! Migration.

use crate::{
    Actor, Life, Wrong,
    page_tables::{Kind, MMS, Pmd, ZERO, range_of},
    task::{Op, Pc},
};

impl Actor<'_> {
    /// Is a task in the middle of a rmap walk? Then nobody joins the rmap.
    pub(crate) fn walks(&self, task: usize) -> bool {
        let Some(Op::Migrate(_)) = self.model.op(self.s, task) else {
            return false;
        };
        let task = &self.s.tasks[task];
        task.b != 0
    }

    /// The page at an address of the parent is migrated. A rmap walk comes to the address spaces
    /// in any order: `choice` is the one that is next.
    pub(super) fn migrate(&mut self, va: usize, choice: usize) -> Option<()> {
        let range = range_of(va);
        // Who was there when a walk began, and has been visited.
        let (pc, all) = (self.task().pc, (1 << MMS) - 1);
        if !matches!(pc, Pc::Act | Pc::Leave) && choice != 0 {
            return None;
        }
        match pc {
            Pc::Start => {
                self.table_is_free(0, range)?;
                let pte = self.s.mms[0].pte[va];
                let movable = pte.kind == Kind::Present && pte.page != ZERO;
                if !movable || self.s.mms[0].pmd[range] == Pmd::None {
                    self.finish();
                    return Some(());
                }
                self.s.get(pte.page);
                let task = self.task_mut();
                task.hold = pte.page + 1;
                task.pc = Pc::Act;
            }
            Pc::Act | Pc::Leave => {
                let absent = self.absent();
                if self.task().b == 0 {
                    self.task_mut().b = absent;
                }
                if choice >= MMS || self.task().b & (1 << choice) != 0 {
                    return None;
                }
                self.visit(choice, va)?;
                self.task_mut().b |= 1 << choice;
                if self.task().b & all == all {
                    self.task_mut().b = 0;
                    if pc == Pc::Act {
                        self.task_mut().pc = Pc::Copy;
                    } else {
                        return self.migrated();
                    }
                }
            }
            _ => {
                // If the page is still mapped, or somebody uses it, it stays where it is.
                let old = self.task().hold - 1;
                let page = self.s.pages[usize::from(old)];
                let mapped = (self.s.mms.iter()).any(|mm| {
                    mm.pte
                        .iter()
                        .any(|p| p.kind == Kind::Present && p.page == old)
                });
                let mut target = old;
                if mapped || page.refs != self.s.mapped(old) + 1 {
                    self.s.get(old);
                } else {
                    target = self.s.alloc(page.value);
                    self.s.pages[usize::from(target)].exclusive = page.exclusive;
                }
                let task = self.task_mut();
                task.a = target + 1;
                task.pc = Pc::Leave;
            }
        }
        Some(())
    }

    /// Address spaces that are not in the rmap, or are not any more. Not 0, to know that a walk has
    /// begun.
    pub(super) fn absent(&self) -> u8 {
        let mut absent = 1 << MMS;
        if self.s.gone {
            absent |= 1;
        }
        for (c, child) in self.s.children.iter().enumerate() {
            if !matches!(child.life, Life::Forking | Life::Live) || child.gone {
                absent |= 2 << c;
            }
        }
        absent
    }

    pub(super) fn visit(&mut self, mm: usize, va: usize) -> Option<()> {
        self.table_is_free(mm, range_of(va))?;
        let old = self.task().hold - 1;
        let unmaps = self.task().pc == Pc::Act;
        let target = self.task().a.wrapping_sub(1);
        let pte = &mut self.s.mms[mm].pte[va];
        if !pte.uses(old) {
            return Some(());
        }
        if unmaps && pte.kind == Kind::Present {
            pte.kind = Kind::Migration;
            if mm == 0 {
                self.s.flush(va);
            }
        } else if !unmaps && pte.kind == Kind::Migration {
            pte.kind = Kind::Present;
            pte.page = target;
            self.s.get(target);
            self.s.put(old);
        }
        Some(())
    }

    pub(super) fn migrated(&mut self) -> Option<()> {
        let (old, target) = (self.task().hold - 1, self.task().a - 1);
        let left = (self.s.mms.iter()).any(|mm| {
            mm.pte
                .iter()
                .any(|p| p.kind == Kind::Migration && p.page == old)
        });
        if left {
            self.wrong(Wrong::MigrationForEver);
        }
        self.s.put(old);
        self.s.put(target);
        self.task_mut().hold = 0;
        self.finish();
        Some(())
    }
}
