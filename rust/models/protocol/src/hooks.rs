// SPDX-License-Identifier: GPL-2.0

//! Those who change or look at page tables, and the hooks where they do: `mm/async_pgtable.c`, and
//! where that is called.

mod change;
mod child;
mod collapse;
mod exit;
mod fault;
mod gup;
mod migrate;

use crate::{
    Actor, State,
    page_tables::{PTES, RANGES},
    task::{Op, Role},
};

impl State {
    /// All of an address space goes: `exit_mmap()`.
    pub fn take_down(&mut self, mm: usize) {
        for va in 0..RANGES * PTES {
            if let Some(page) = self.unmap(mm, va) {
                self.put(page);
            }
        }
        self.mms[mm].pmd = Default::default();
        if mm == 0 {
            self.flush_all();
        }
    }

    /// The parent's page tables are to be left alone, it exits or has been reaped.
    pub fn parent_is_dead(&self) -> bool {
        self.gone || self.unstable
    }
}

impl Actor<'_> {
    /// One step of the operation that the task is at.
    pub(crate) fn op_step(&mut self, op: Op, choice: u8) -> Option<()> {
        match op {
            Op::Fork(c) => return self.fork(c, choice),
            Op::Migrate(va) => return self.migrate(va, choice.into()),
            _ if choice != 0 => return None,
            _ => {}
        }
        match op {
            Op::Write(va) => self.write(va),
            Op::Change(hook, range) => self.change(hook, range),
            Op::Collapse(range) => self.madvise_collapse(range),
            Op::Device(va) => self.device(va),
            Op::GupWrite(va) => self.gup_write(va),
            Op::Pin(va, write) => self.pin(va, write),
            Op::Exit => self.exit(),
            Op::CopyAll => self.child_work(),
            Op::ChildWrite(va) => self.child_write(va),
            Op::ChildFork(c) => self.child_fork(c),
            Op::ChildExit | Op::ChildDies => match self.role() {
                Role::Child(c) => self.child_exit(c),
                _ => None,
            },
            Op::Look(hook, c, range) => self.look(hook, c, range),
            Op::Kill(c) => self.kill(c),
            Op::ChangeChild(c) => self.change_child(c),
            Op::Reap => self.reap(),
            Op::Khugepaged(range) => self.khugepaged(range),
            Op::Ksm(va) => self.ksm(va),
            Op::Fork(_) | Op::Migrate(_) => None,
        }
    }

    pub(crate) fn lock_read(&mut self, mm: usize) -> Option<()> {
        if self.s.mms[mm].write != 0 {
            return None;
        }
        self.s.mms[mm].read += 1;
        Some(())
    }

    /// Unlocks the parent's mapping, which was locked for reading, and ends the operation.
    fn unlock_and_finish(&mut self) {
        self.s.mms[0].read -= 1;
        self.finish();
    }

    /// Not killable: who is killed goes on, and gives up at the next operation.
    pub(crate) fn lock_write(&mut self, mm: usize) -> Option<()> {
        if self.s.mms[mm].write != 0 || self.s.mms[mm].read != 0 {
            return None;
        }
        self.s.mms[mm].write = self.me();
        Some(())
    }
}
