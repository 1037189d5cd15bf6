// SPDX-License-Identifier: GPL-2.0

//! GUP, and devices.

use crate::{
    Actor, Hook, Mutation, Wrong,
    page_tables::{Kind, Pmd, Pte, ZERO, range_of},
    task::Pc,
};

impl Actor<'_> {
    /// `access_process_vm()` that writes.
    pub(super) fn gup_write(&mut self, va: usize) -> Option<()> {
        match self.task().pc {
            Pc::Start => {
                self.lock_read(0)?;
                if self.s.detached || self.s.parent_is_dead() {
                    self.unlock_and_finish();
                } else {
                    self.push_one(Hook::Gup, va);
                    if self.task().pc == Pc::Wp {
                        self.task_mut().pc = Pc::Act;
                    }
                }
            }
            Pc::Repair => {
                self.repair(va)?;
                self.task_mut().pc = Pc::Act;
            }
            Pc::Act => {
                // can_follow_write_pte(), then the page is written to by way of the kernel.
                self.table_is_free(0, range_of(va))?;
                let pte = self.s.mms[0].pte[va];
                if pte.kind == Kind::Present && pte.write {
                    self.s.parent_writes(va, pte.page, self.my_value());
                    self.unlock_and_finish();
                } else if !self.accessible(va) {
                    self.unlock_and_finish();
                } else {
                    self.task_mut().pc = Pc::Wp;
                }
            }
            Pc::Wp => {
                if self.wp(va, true)? {
                    self.task_mut().pc = Pc::Act;
                }
            }
            _ => {
                self.cow(va, true)?;
                self.task_mut().pc = Pc::Act;
            }
        }
        Some(())
    }

    /// GUP-fast that pins, then the slow way; and a device that writes, if it may.
    pub(super) fn pin(&mut self, va: usize, write: bool) -> Option<()> {
        let range = range_of(va);
        let pte = self.s.mms[0].pte[va];
        match self.task().pc {
            Pc::Start => {
                if self.s.parent_is_dead() {
                    self.finish();
                    return Some(());
                }
                self.s.has_pins = true;
                let seq = self.s.seq;
                let pmd = self.s.mms[0].pmd[range];
                let bails = self.s.mms[0].is_protected(range) && self.hook(Hook::GupFast);
                let task = self.task_mut();
                task.a = seq;
                task.pc = if seq % 2 != 0 || pmd == Pmd::None || bails {
                    Pc::Slow
                } else {
                    Pc::Mark
                };
                task.b = u8::from(pmd == Pmd::Table { write: false });
            }
            Pc::Mark => {
                if !self.m(Mutation::MarkLate) {
                    self.s.marked[range] = true;
                }
                self.task_mut().pc = Pc::Grab;
            }
            Pc::Grab => {
                if !self.may_pin(pte, write) {
                    self.slow();
                } else {
                    self.s.get(pte.page);
                    self.s.pages[usize::from(pte.page)].pins += 1;
                    let task = self.task_mut();
                    task.hold = pte.page + 1;
                    task.pc = Pc::Recheck;
                }
            }
            Pc::Recheck => {
                let page = self.task().hold - 1;
                let protected = u8::from(self.s.mms[0].is_protected(range));
                let same = pte.page == page
                    && self.may_pin(pte, write)
                    && protected == self.task().b
                    && self.s.mms[0].pmd[range] != Pmd::None;
                if same {
                    self.task_mut().pc = Pc::Sequence;
                } else {
                    self.unpin();
                    self.slow();
                }
            }
            Pc::Sequence => {
                if self.s.seq == self.task().a || self.m(Mutation::SequenceIgnored) {
                    self.pinned();
                } else {
                    self.unpin();
                    self.slow();
                }
            }
            Pc::Slow => {
                self.lock_read(0)?;
                if self.s.detached || self.s.parent_is_dead() || !self.accessible(va) {
                    self.unlock_and_finish();
                } else if write {
                    // __async_pgtable_gup()
                    self.push_one(Hook::Gup, va);
                    if self.task().pc == Pc::Wp {
                        self.task_mut().pc = Pc::Act;
                    }
                } else {
                    if self.s.mms[0].is_protected(range) {
                        self.s.repair(range)?;
                    }
                    self.task_mut().pc = Pc::Act;
                }
            }
            Pc::Repair => {
                self.repair(va)?;
                self.task_mut().pc = Pc::Act;
            }
            Pc::Act => {
                // follow_page_pte()
                self.table_is_free(0, range)?;
                if self.may_pin(pte, write) {
                    self.s.marked[range] = true;
                    self.s.get(pte.page);
                    self.s.pages[usize::from(pte.page)].pins += 1;
                    self.task_mut().hold = pte.page + 1;
                    self.s.mms[0].read -= 1;
                    self.pinned();
                } else if !self.accessible(va) {
                    self.unlock_and_finish();
                } else {
                    // faultin_page(), with FAULT_FLAG_WRITE or FAULT_FLAG_UNSHARE
                    self.push_one(Hook::Fault, va);
                    if self.task().pc == Pc::Repair {
                        self.task_mut().pc = Pc::Leave;
                    }
                }
            }
            Pc::Leave => self.repair(va)?,
            Pc::Wp => {
                if self.wp(va, write)? {
                    self.task_mut().pc = Pc::Act;
                }
            }
            Pc::Cow => {
                self.cow(va, write)?;
                self.task_mut().pc = Pc::Act;
            }
            _ => {
                // The device. The pin stays.
                self.s.marked[range] = true;
                let page = self.task().hold - 1;
                if pte.kind == Kind::Present && pte.page != page {
                    self.wrong(Wrong::PinLost);
                }
                let value = self.my_value();
                if write {
                    self.s.pages[usize::from(page)].value = value;
                    if pte.uses(page) {
                        self.s.memory[va] = value;
                    }
                }
                self.s.pinned |= 1 << page;
                self.task_mut().hold = 0;
                self.finish();
            }
        }
        Some(())
    }

    pub(super) fn may_pin(&self, pte: Pte, write: bool) -> bool {
        pte.kind == Kind::Present
            && pte.access
            && pte.page != ZERO
            && (pte.write || !write)
            && self.s.pages[usize::from(pte.page)].refs != 0
            // gup_must_unshare()
            && (pte.write || self.s.pages[usize::from(pte.page)].exclusive)
    }

    pub(super) fn unpin(&mut self) {
        let page = self.task().hold - 1;
        self.s.pages[usize::from(page)].pins -= 1;
        self.s.put(page);
    }

    pub(super) fn slow(&mut self) {
        let task = self.task_mut();
        task.hold = 0;
        task.a = 0;
        task.b = 0;
        task.pc = Pc::Slow;
    }

    pub(super) fn pinned(&mut self) {
        let task = self.task_mut();
        task.a = 0;
        task.b = 0;
        task.pc = Pc::Dma;
    }

    /// A driver registers with the notifiers, then its device writes where a PTE permits that.
    pub(super) fn device(&mut self, va: usize) -> Option<()> {
        match self.task().pc {
            Pc::Start => {
                self.lock_write(0)?;
                self.task_mut().pc = Pc::Act;
                if self.hook(Hook::Notifier) {
                    self.push(0, self.model.ranges);
                }
            }
            Pc::Act => {
                self.s.notifier = true;
                self.s.mms[0].write = 0;
                self.task_mut().pc = Pc::Dma;
            }
            _ => {
                if self.s.mms[0].write != 0 {
                    return None;
                }
                self.table_is_free(0, range_of(va))?;
                let pte = self.s.mms[0].pte[va];
                if pte.kind == Kind::Present && pte.access && pte.write {
                    self.s.parent_writes(va, pte.page, self.my_value());
                }
                self.finish();
            }
        }
        Some(())
    }
}
