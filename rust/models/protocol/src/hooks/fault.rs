// SPDX-License-Identifier: GPL-2.0

//! Faults of the parent that write.

use crate::{
    Actor, Hook, Mutation, Wrong,
    page_tables::{Kind, Pte, ZERO, range_of},
    task::{Pc, Role},
    tlb::Access,
};

impl Actor<'_> {
    /// A value that nobody else writes.
    pub(super) fn my_value(&self) -> u8 {
        10 + 4 * self.t as u8 + self.task().op
    }

    pub(super) fn write(&mut self, va: usize) -> Option<()> {
        match self.task().pc {
            Pc::Start => {
                let cpu = match self.role() {
                    Role::Thread(cpu) => cpu,
                    _ => return None,
                };
                match self.s.cpu_writes(cpu, va, self.my_value()) {
                    Access::Walks => {}
                    Access::Done => self.finish(),
                    Access::Faults => self.task_mut().pc = Pc::Fault,
                }
            }
            Pc::Fault => {
                self.lock_read(0)?;
                if self.s.detached || self.s.parent_is_dead() || !self.accessible(va) {
                    // SIGSEGV, SIGBUS
                    self.unlock_and_finish();
                } else {
                    self.push_one(Hook::Fault, va);
                }
            }
            Pc::Repair => self.repair(va)?,
            Pc::Wp => {
                if self.wp(va, true)? {
                    self.fault_ends();
                }
            }
            _ => {
                self.cow(va, true)?;
                self.fault_ends();
            }
        }
        Some(())
    }

    pub(super) fn fault_ends(&mut self) {
        self.s.mms[0].read -= 1;
        let tries = self.task().tries + 1;
        let task = self.task_mut();
        task.tries = tries;
        task.pc = Pc::Start;
        if tries > 8 {
            self.wrong(Wrong::Endless);
        }
    }

    pub(super) fn accessible(&self, va: usize) -> bool {
        let pte = self.s.mms[0].pte[va];
        match pte.kind {
            Kind::None => true,
            Kind::Marker => false,
            _ => pte.access,
        }
    }

    /// `push_one()`: `repair()` is next, then `wp()`.
    pub(super) fn push_one(&mut self, hook: Hook, va: usize) {
        let range = range_of(va);
        self.task_mut().pc = Pc::Wp;
        if !self.s.mms[0].is_protected(range) {
            return;
        }
        if !self.hook(hook) {
            self.s.mms[0].mkwrite(range);
            return;
        }
        self.task_mut().pc = Pc::Repair;
        self.push(range as u8, range as u8 + 1);
    }

    /// The rest of it. The mapping is locked, so nobody has protected the entry again.
    pub(super) fn repair(&mut self, va: usize) -> Option<()> {
        let range = range_of(va);
        if self.s.mms[0].is_protected(range) && !self.m(Mutation::RepairForgotten) {
            self.s.repair(range)?;
        }
        if self.s.mms[0].is_protected(range) {
            self.wrong(Wrong::Endless);
        }
        self.task_mut().pc = Pc::Wp;
        Some(())
    }

    /// `handle_pte_fault()` of a write, or to unshare. Returns whether that is all.
    pub(super) fn wp(&mut self, va: usize, write: bool) -> Option<bool> {
        self.table_is_free(0, range_of(va))?;
        let pte = self.s.mms[0].pte[va];
        match pte.kind {
            Kind::Migration => return None,
            Kind::Marker => return Some(true),
            Kind::None => {
                let page = self.s.alloc(0);
                self.s.mms[0].pte[va] = Pte::page(page, true);
                return Some(true);
            }
            Kind::Present => {}
        }
        if pte.page != ZERO {
            let page = &mut self.s.pages[usize::from(pte.page)];
            if page.exclusive || page.refs == 1 {
                page.exclusive = true;
                let pte = &mut self.s.mms[0].pte[va];
                pte.write |= write;
                pte.soft_dirty |= write;
                return Some(true);
            }
        }
        // wp_page_copy(): the content is copied without a lock.
        self.s.get(pte.page);
        let value = self.s.value(pte.page);
        let task = self.task_mut();
        task.hold = pte.page + 1;
        task.b = value;
        task.pc = Pc::Cow;
        Some(false)
    }

    /// The rest of `wp_page_copy()`.
    pub(super) fn cow(&mut self, va: usize, write: bool) -> Option<()> {
        self.table_is_free(0, range_of(va))?;
        let old = self.task().hold - 1;
        self.task_mut().hold = 0;
        let pte = self.s.mms[0].pte[va];
        if pte.kind == Kind::Present && pte.page == old && !pte.write {
            let page = self.s.alloc(self.task().b);
            self.s.mms[0].pte[va] = Pte {
                page,
                write,
                soft_dirty: pte.soft_dirty || write,
                ..pte
            };
            self.s.flush(va);
            if old == ZERO {
                self.s.mms[0].zero_pages = self.s.mms[0].zero_pages.wrapping_sub(1);
            }
            self.s.put(old);
        }
        self.s.put(old);
        self.task_mut().b = 0;
        Some(())
    }
}
