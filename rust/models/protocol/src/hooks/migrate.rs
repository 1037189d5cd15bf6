// SPDX-License-Identifier: GPL-2.0

//! Migration.

use crate::{
    Actor, Hook, Life, Mutation, Wrong,
    page_tables::{CHILDREN, Kind, MMS, Pmd, ZERO, range_of},
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
    /// in any order: `choice` is the one that is next. [`MMS`] is where the parent may have moved
    /// the page to, which comes after where it was.
    ///
    /// Both walks lock the page tables, as `PVMW_SYNC` does. `last` is that the walk that
    /// removes migration entries has been told of a copy, and `tries` is how often it has been
    /// repeated.
    pub(super) fn migrate(&mut self, va: usize, choice: usize) -> Option<()> {
        let range = range_of(va);
        // Who was there when a walk began, and has been visited.
        let (pc, all) = (self.task().pc, (2 << MMS) - 1);
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
                let visited = self.task().b;
                let nobody = visited & all == all && choice == 0;
                if !nobody {
                    if visited & (1 << choice) != 0 || choice == MMS && visited & 1 == 0 {
                        return None;
                    }
                    let second = visited.count_ones() == absent.count_ones() + 1;
                    if second && self.m(Mutation::WalkBegunLate) {
                        self.task_mut().last = false;
                    }
                    self.visit(choice, va)?;
                    self.task_mut().b |= 1 << choice;
                }
                if self.task().b & all == all {
                    let task = self.task_mut();
                    task.b = 0;
                    task.pc = if pc == Pc::Act { Pc::Copy } else { Pc::Recheck };
                }
            }
            Pc::Recheck => return self.walk_again(),
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
                let away = self.s.elsewhere >> old & 1 != 0;
                let moving = self.s.elsewhere_migrating >> old & 1 != 0;
                let uses = self.s.mapped(old) + u8::from(away);
                if mapped || away && !moving || page.refs != uses + 1 {
                    self.s.get(old);
                } else {
                    target = self.s.alloc(page.value);
                    self.s.pages[usize::from(target)].exclusive = page.exclusive;
                }
                let task = self.task_mut();
                task.a = target + 1;
                // async_pgtable_walk_begin()
                task.last = false;
                task.pc = Pc::Leave;
            }
        }
        Some(())
    }

    /// Address spaces that are not in the rmap, or are not any more. Not 0, to know that a walk has
    /// begun.
    pub(super) fn absent(&self) -> u8 {
        let mut absent = 2 << MMS;
        if !self.model.moves(self.s) {
            absent |= 1 << MMS;
        }
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

    fn visit(&mut self, mm: usize, va: usize) -> Option<()> {
        if mm == MMS {
            self.visit_elsewhere();
            return Some(());
        }
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
            // Only for a planted bug: it has removed an entry of a parent.
            let parents = self.s.sessions.map(|session| session.source);
            self.task_mut().must |=
                parents.contains(&(mm as u8)) && self.m(Mutation::RetryIfRestored);
            self.s.get(target);
            self.s.put(old);
        }
        Some(())
    }

    /// The same where the parent has moved pages to.
    fn visit_elsewhere(&mut self) {
        let (old, target) = (self.task().hold - 1, self.task().a.wrapping_sub(1));
        let away = self.s.elsewhere >> old & 1 != 0;
        let migrating = self.s.elsewhere_migrating >> old & 1 != 0;
        if self.task().pc == Pc::Act && away && !migrating {
            self.s.elsewhere_migrating |= 1 << old;
        } else if self.task().pc == Pc::Leave && migrating {
            self.s.elsewhere_migrating &= !(1 << old);
            self.s.elsewhere &= !(1 << old);
            self.s.elsewhere |= 1 << target;
            self.task_mut().must = self.m(Mutation::RetryIfRestored);
            self.s.get(target);
            self.s.put(old);
        }
    }

    /// `async_pgtable_walk_again()`
    fn walk_again(&mut self) -> Option<()> {
        let task = *self.task();
        let retry = task.last
            && self.hook(Hook::Migration)
            && (task.must || !self.m(Mutation::RetryIfRestored));
        if !retry {
            return self.migrated();
        }
        // There is another walk for each child at most, to which an entry is copied once. So this
        // is no cycle.
        if usize::from(task.tries) == CHILDREN {
            self.wrong(Wrong::Endless);
        }
        let again = self.m(Mutation::WalkBegunOnce);
        let task = self.task_mut();
        task.tries += 1;
        task.last = again;
        task.must = false;
        task.pc = Pc::Leave;
        Some(())
    }

    fn migrated(&mut self) -> Option<()> {
        let (old, target) = (self.task().hold - 1, self.task().a - 1);
        let left = (self.s.mms.iter()).any(|mm| {
            mm.pte
                .iter()
                .any(|p| p.kind == Kind::Migration && p.page == old)
        });
        if left || self.s.elsewhere_migrating >> old & 1 != 0 {
            self.wrong(Wrong::MigrationForEver);
        }
        self.s.put(old);
        self.s.put(target);
        self.task_mut().hold = 0;
        self.finish();
        Some(())
    }
}
