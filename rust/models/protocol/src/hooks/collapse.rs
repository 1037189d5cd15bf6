// SPDX-License-Identifier: GPL-2.0

//! Collapse and KSM.

use crate::{
    Actor, Hook, Mutation, Wrong,
    page_tables::{Kind, Pmd, Pte, ZERO, range_of, vas_of},
    task::Pc,
};

impl Actor<'_> {
    pub(super) fn madvise_collapse(&mut self, range: usize) -> Option<()> {
        match self.task().pc {
            Pc::Start => {
                self.lock_read(0)?;
                if self.s.detached || self.s.parent_is_dead() {
                    self.unlock_and_finish();
                    return Some(());
                }
                self.task_mut().pc = Pc::Wait;
                if self.hook(Hook::Collapse) {
                    self.push(range as u8, range as u8 + 1);
                }
            }
            Pc::Wait => {
                self.s.mms[0].read -= 1;
                let forks = self.s.forks;
                let task = self.task_mut();
                task.b = forks + 1;
                task.pc = Pc::Look;
            }
            _ => return self.collapse(range),
        }
        Some(())
    }

    pub(super) fn khugepaged(&mut self, range: usize) -> Option<()> {
        if self.task().pc != Pc::Start {
            return self.collapse(range);
        }
        // collapse_scan_pmd()
        if self.s.mms[0].write != 0 {
            return None;
        }
        if self.s.parent_is_dead() || self.s.detached || self.busy(Hook::Khugepaged, range) {
            self.finish();
        } else {
            self.task_mut().pc = Pc::Look;
        }
        Some(())
    }

    pub(super) fn busy(&self, hook: Hook, range: usize) -> bool {
        self.hook(hook) && self.s.overlaps(0, range)
    }

    /// `collapse_huge_page()`
    pub(super) fn collapse(&mut self, range: usize) -> Option<()> {
        match self.task().pc {
            Pc::Look => {
                self.lock_write(0)?;
                let dead = self.s.parent_is_dead() || self.s.detached;
                let busy = self.busy(Hook::Khugepaged, range) && !self.m(Mutation::BusyAskedOnce);
                if !dead && busy && self.task().b == self.s.forks + 1 {
                    self.wrong(Wrong::CollapseFailed);
                }
                let whole = vas_of(range).all(|va| {
                    let pte = self.s.mms[0].pte[va];
                    pte.kind == Kind::Present
                        && pte.access
                        && pte.page != ZERO
                        && self.s.pages[usize::from(pte.page)].pins == 0
                });
                let table = matches!(self.s.mms[0].pmd[range], Pmd::Table { .. });
                if dead || busy || !whole || !table {
                    self.s.mms[0].write = 0;
                    self.finish();
                    return Some(());
                }
                if self.s.mms[0].pmd_lock[range] != 0 {
                    return None;
                }
                // pmdp_collapse_flush()
                self.task_mut().a = u8::from(self.s.mms[0].is_protected(range));
                self.s.mms[0].pmd[range] = Pmd::None;
                self.s.flush_all();
                self.task_mut().pc = Pc::Copy;
            }
            _ => {
                self.table_is_free(0, range)?;
                // Somebody holds a page: __collapse_huge_page_isolate() gives up.
                let held = vas_of(range).any(|va| {
                    let page = self.s.mms[0].pte[va].page;
                    self.s.pages[usize::from(page)].refs > self.s.mapped(page)
                });
                if held {
                    let write = self.task().a == 0;
                    self.s.mms[0].pmd[range] = Pmd::Table { write };
                } else {
                    for va in vas_of(range) {
                        let pte = self.s.mms[0].pte[va];
                        let page = self.s.alloc(self.s.value(pte.page));
                        self.s.mms[0].pte[va] = Pte {
                            page,
                            write: true,
                            ..pte
                        };
                        self.s.put(pte.page);
                    }
                    self.s.mms[0].pmd[range] = Pmd::Leaf;
                }
                self.s.mms[0].write = 0;
                self.finish();
            }
        }
        Some(())
    }

    /// `try_to_merge_with_zero_page()`
    pub(super) fn ksm(&mut self, va: usize) -> Option<()> {
        if self.s.mms[0].write != 0 {
            return None;
        }
        self.table_is_free(0, range_of(va))?;
        let pte = self.s.mms[0].pte[va];
        let merges = !self.s.parent_is_dead()
            && !self.s.detached
            && !self.busy(Hook::Ksm, range_of(va))
            && pte.kind == Kind::Present
            && pte.page != ZERO
            && self.s.value(pte.page) == 0
            && self.s.pages[usize::from(pte.page)].refs == 1;
        if merges {
            self.s.flush(va);
            let entry = &mut self.s.mms[0].pte[va];
            entry.page = ZERO;
            entry.write = false;
            self.s.mms[0].zero_pages += 1;
            self.s.put(pte.page);
        }
        self.finish();
        Some(())
    }
}
