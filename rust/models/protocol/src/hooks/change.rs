// SPDX-License-Identifier: GPL-2.0

//! Changes of the parent's mapping.

use crate::{
    Actor, Hook, Mutation,
    page_tables::{Kind, Pte, RANGES, ZERO, vas_of},
    task::Pc,
};

impl Actor<'_> {
    /// Changes a range. All have the same form: a lock, a hook, the change, a flush.
    pub(super) fn change(&mut self, hook: Hook, range: usize) -> Option<()> {
        let reads = matches!(hook, Hook::Discard | Hook::Guard | Hook::UffdMove);
        match self.task().pc {
            Pc::Start => {
                if reads {
                    self.lock_read(0)?;
                } else {
                    self.lock_write(0)?;
                }
                if self.s.detached || self.s.parent_is_dead() {
                    self.unlock(reads);
                    self.finish();
                    return Some(());
                }
                if hook == Hook::Munmap {
                    // The VMA is detached, and the lock downgraded.
                    self.s.detached = true;
                    self.s.mms[0].write = 0;
                    self.s.mms[0].read += 1;
                }
                self.task_mut().pc = Pc::Act;
                if self.hook(hook) && !self.m(Mutation::MunmapSettlesLate) {
                    if hook == Hook::Munmap {
                        self.push(0, self.model.ranges);
                    } else {
                        self.push(range as u8, range as u8 + 1);
                    }
                }
            }
            Pc::Act => {
                self.act(hook, range)?;
                self.task_mut().pc = Pc::Flush;
                if hook == Hook::Munmap && self.m(Mutation::MunmapSettlesLate) {
                    self.push(0, self.model.ranges);
                }
            }
            _ => {
                self.s.flush_all();
                self.free_gathered();
                self.unlock(reads || hook == Hook::Munmap);
                self.finish();
            }
        }
        Some(())
    }

    pub(super) fn unlock(&mut self, read: bool) {
        if read {
            self.s.mms[0].read -= 1;
        } else {
            self.s.mms[0].write = 0;
        }
    }

    pub(super) fn gather(&mut self, va: usize) {
        let migrates = self.s.mms[0].pte[va].kind == Kind::Migration;
        match self.s.unmap(0, va) {
            Some(page) if migrates => self.s.put(page),
            Some(page) => self.task_mut().gather |= 1 << page,
            None => {}
        }
        self.s.memory[va] = 0;
    }

    pub(super) fn free_gathered(&mut self) {
        let gather = std::mem::take(&mut self.task_mut().gather);
        for page in (0..16).filter(|page| gather & (1 << page) != 0) {
            self.s.put(page);
        }
    }

    /// What a change does to the page table.
    pub(super) fn act(&mut self, hook: Hook, range: usize) -> Option<()> {
        if hook == Hook::Munmap {
            for range in 0..RANGES {
                self.table_is_free(0, range)?;
                vas_of(range).for_each(|va| self.gather(va));
            }
            return Some(());
        }
        self.table_is_free(0, range)?;
        let vas = vas_of(range);
        match hook {
            Hook::Split | Hook::Merge => self.s.cut[range] = true,
            Hook::Mprotect => vas.for_each(|va| self.s.mms[0].pte[va].access = false),
            Hook::ClearRefs => vas.for_each(|va| {
                let pte = &mut self.s.mms[0].pte[va];
                pte.soft_dirty = false;
                pte.write = false;
            }),
            Hook::Discard => vas.for_each(|va| self.gather(va)),
            Hook::Guard => vas.for_each(|va| {
                self.gather(va);
                self.s.mms[0].pte[va].kind = Kind::Marker;
            }),
            // The pages go elsewhere, and stay in use there.
            Hook::Mremap => vas.for_each(|va| {
                let migrates = self.s.mms[0].pte[va].kind == Kind::Migration;
                if let Some(page) = self.s.unmap(0, va) {
                    self.s.elsewhere |= 1 << page;
                    self.s.elsewhere_migrating |= u16::from(migrates) << page;
                }
                self.s.memory[va] = 0;
            }),
            // UFFDIO_REGISTER, and UFFDIO_COPY as soon as it can be
            Hook::UffdRegister => {
                let va = vas.end - 1;
                if self.s.mms[0].pte[va].kind == Kind::None {
                    let value = self.my_value();
                    let page = self.s.alloc(value);
                    self.s.mms[0].pte[va] = Pte::page(page, true);
                    self.s.memory[va] = value;
                }
            }
            // To the last address, which must be empty; only what is not shared
            Hook::UffdMove => {
                let (from, to) = (vas.start, vas.end - 1);
                let pte = self.s.mms[0].pte[from];
                let moves = self.s.mms[0].pte[to].kind == Kind::None
                    && pte.kind == Kind::Present
                    && pte.page != ZERO
                    && self.s.pages[usize::from(pte.page)].exclusive;
                if moves {
                    self.s.mms[0].pte[to] = pte;
                    self.s.mms[0].pte[from] = Pte::default();
                    self.s.memory[to] = self.s.memory[from];
                    self.s.memory[from] = 0;
                    self.s.flush(from);
                }
            }
            _ => {}
        }
        Some(())
    }
}
