// SPDX-License-Identifier: GPL-2.0

//! Page tables, pages, and the copy of one page table.
//!
//! Stands for `mm/async_pgtable.c`, `copy_pte_range_deferred()` and what page tables are changed by
//! elsewhere. A page table has [`PTES`] entries, an address space [`RANGES`] tables.

use crate::{
    Actor, Hook, Mutation, State, Wrong,
    task::{Op, Settle, TASKS, Want},
};

/// Ranges of an address space.
pub const RANGES: usize = 2;
/// PTEs of a range.
pub const PTES: usize = 2;
/// Pages of an address space.
pub const VAS: usize = RANGES * PTES;
/// Pages of memory.
pub const PAGES: usize = 12;
/// The page of zeros that KSM puts in the place of others. Is not counted.
pub const ZERO: u8 = 0xf;
/// Children of the parent, and address spaces without it.
pub const CHILDREN: usize = 2;
/// Address spaces; the first one is the parent's.
pub const MMS: usize = CHILDREN + 1;

/// The range of an address.
pub const fn range_of(va: usize) -> usize {
    va / PTES
}

/// The addresses of a range.
pub fn vas_of(range: usize) -> std::ops::Range<usize> {
    range * PTES..(range + 1) * PTES
}

/// What a PTE is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Nothing.
    #[default]
    None,
    /// A page.
    Present,
    /// A page that is being migrated.
    Migration,
    /// A guard.
    Marker,
}

/// A PTE.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Pte {
    /// What it is.
    pub kind: Kind,
    /// Number of the page, if there is one.
    pub page: u8,
    /// R/W.
    pub write: bool,
    /// Is it there for user space, or `PROT_NONE`? Stands for the key, too.
    pub access: bool,
    /// For checkpoints.
    pub soft_dirty: bool,
}

impl Pte {
    /// One that points to a page.
    pub fn page(page: u8, write: bool) -> Self {
        Self {
            kind: Kind::Present,
            page,
            write,
            access: true,
            soft_dirty: true,
        }
    }

    /// Does it count as a use of `page`?
    pub fn uses(&self, page: u8) -> bool {
        matches!(self.kind, Kind::Present | Kind::Migration) && self.page == page
    }
}

/// A PMD entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Pmd {
    /// Nothing.
    #[default]
    None,
    /// Points to a page table.
    Table {
        /// R/W.
        write: bool,
    },
    /// A huge page; its parts are where the PTEs would be.
    Leaf,
}

/// A page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Page {
    /// Number of uses. Without one it is free.
    pub refs: u8,
    /// What it contains.
    pub value: u8,
    /// Pins.
    pub pins: u8,
    /// `PageAnonExclusive()`
    pub exclusive: bool,
}

/// An address space.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Mm {
    /// The PMD entries.
    pub pmd: [Pmd; RANGES],
    /// The PTEs of all ranges.
    pub pte: [Pte; VAS],
    /// Locks of the page tables: 0, or the task that has it and 1.
    pub ptl: [u8; RANGES],
    /// Locks of the PMD entries.
    pub pmd_lock: [u8; RANGES],
    /// The mmap_lock and the lock of the one VMA, for writing.
    pub write: u8,
    /// The same for reading: how many.
    pub read: u8,
    /// `ksm_zero_pages`
    pub zero_pages: u8,
}

impl Mm {
    /// Is the entry of a range protected?
    pub fn is_protected(&self, range: usize) -> bool {
        self.pmd[range] == Pmd::Table { write: false }
    }

    /// `pmdp_table_mkwrite()`
    pub fn mkwrite(&mut self, range: usize) {
        if let Pmd::Table { write } = &mut self.pmd[range] {
            *write = true;
        }
    }
}

impl State {
    /// Is all of an address space unmapped?
    pub fn is_gone(&self, mm: usize) -> bool {
        match mm {
            0 => self.gone,
            child => self.children[child - 1].gone,
        }
    }

    /// What a page contains.
    pub fn value(&self, page: u8) -> u8 {
        if page == ZERO {
            0
        } else {
            self.pages[usize::from(page)].value
        }
    }

    /// What is seen at an address, and `None` for nothing.
    pub fn seen(&self, mm: usize, va: usize) -> Option<u8> {
        let pte = self.mms[mm].pte[va];
        match pte.kind {
            Kind::Present | Kind::Migration => Some(self.value(pte.page)),
            Kind::None | Kind::Marker => None,
        }
    }

    /// A new page, with one use.
    pub fn alloc(&mut self, value: u8) -> u8 {
        let free = self.pages.iter().position(|page| page.refs == 0);
        let free = free.expect("PAGES is enough");
        self.pages[free] = Page {
            refs: 1,
            value,
            pins: 0,
            exclusive: true,
        };
        free as u8
    }

    /// One more use.
    pub fn get(&mut self, page: u8) {
        if page != ZERO {
            self.pages[usize::from(page)].refs += 1;
        }
    }

    /// One use less. The last one frees the page.
    pub fn put(&mut self, page: u8) {
        if page == ZERO {
            return;
        }
        let page = &mut self.pages[usize::from(page)];
        match page.refs {
            0 => self.wrong = self.wrong.or(Some(Wrong::FreedTwice)),
            1 => *page = Page::default(),
            _ => page.refs -= 1,
        }
    }

    /// Writes to a page that the parent has at `va`.
    pub fn parent_writes(&mut self, va: usize, page: u8, value: u8) {
        self.pages[usize::from(page)].value = value;
        let pte = self.mms[0].pte[va];
        // If the page is just being unmapped, it is as if this had come before.
        if matches!(pte.kind, Kind::Present | Kind::Migration) {
            self.memory[va] = value;
        }
    }

    /// Unmaps an address, and returns the page, still in use.
    pub fn unmap(&mut self, mm: usize, va: usize) -> Option<u8> {
        let pte = std::mem::take(&mut self.mms[mm].pte[va]);
        if pte.kind == Kind::Present && pte.page == ZERO {
            self.mms[mm].zero_pages = self.mms[mm].zero_pages.wrapping_sub(1);
        }
        matches!(pte.kind, Kind::Present | Kind::Migration)
            .then_some(pte.page)
            .filter(|&page| page != ZERO)
    }
}

impl Actor<'_> {
    /// The address space that the session at hand copies.
    pub(crate) fn source(&self) -> usize {
        self.s.sessions[self.task().session()].source.into()
    }

    /// Takes the lock of a page table, for one step.
    pub(crate) fn table_is_free(&self, mm: usize, range: usize) -> Option<()> {
        (self.s.mms[mm].ptl[range] == 0).then_some(())
    }

    /// `copy_pte_range_deferred()`, one PTE at a time. The range is claimed.
    pub(crate) fn copy_step(&mut self, choice: u8) -> Option<()> {
        let (c, range) = (self.task().session(), self.task().range());
        let (parent, child) = (self.source(), c + 1);
        let me = self.me();
        let held = self.s.mms[parent].ptl[range] == me;
        if choice == 1 {
            // need_resched()
            if !held || self.task().pushes() || self.task().at <= self.task().start {
                return None;
            }
            self.copy_stops();
            return Some(());
        }

        if !held {
            self.table_is_free(parent, range)?;
            self.table_is_free(child, range)?;
            self.s.mms[parent].ptl[range] = me;
            self.s.mms[child].ptl[range] = me;
            let resume = self.s.mms[child].pmd[range] != Pmd::None;
            self.s.mms[child].pmd[range] = Pmd::Table { write: true };
            let again = self.m(Mutation::ResumedCopyCopiesTwice);
            let task = self.task_mut();
            task.resume = resume && !again;
            if again {
                task.at = 0;
            }
            task.start = task.at;
            let [from, to] = [parent, child].map(|mm| self.s.mms[mm].pte);
            let copies = |va: usize| from[va].kind == Kind::Migration && to[va].kind == Kind::None;
            if self.m(Mutation::NotedBeforeCopy) {
                self.note_migrations(parent, vas_of(range).filter(|&va| copies(va)));
            }
        }
        if self.s.is_gone(parent) {
            self.wrong(Wrong::ParentGone);
        }
        if self.s.children[c].gone {
            self.wrong(Wrong::ChildGone);
        }
        if self.s.children[c].changed {
            self.wrong(Wrong::ChildChanged);
        }
        // WARN_ON_ONCE() in async_pgtable_copy_range()
        let cut = parent == 0 && self.s.cut[range];
        if cut || !matches!(self.s.mms[parent].pmd[range], Pmd::Table { .. }) {
            self.wrong(Wrong::MappingChanged);
        }

        let va = range * PTES + usize::from(self.task().at);
        match self.copy_pte(child, va) {
            Want::Nothing => self.task_mut().at += 1,
            want => {
                self.task_mut().want = want;
                self.copy_stops();
                return Some(());
            }
        }
        if self.is_copied() {
            self.copy_stops();
        }
        Some(())
    }

    fn is_copied(&self) -> bool {
        usize::from(self.task().at) == PTES || self.m(Mutation::HalfACopyIsPublished)
    }

    /// The copy has come to the end, or something is in the way.
    fn copy_stops(&mut self) {
        if !self.task().migrations {
            self.unlock_tables();
            self.copy_ends();
            return;
        }
        if self.m(Mutation::NotedAfterUnlock) {
            self.unlock_tables();
        }
        self.task_mut().settle = Settle::Note;
    }

    /// `note_copied_migrations()`, and then the page tables are unlocked. Until that is done nobody
    /// sees their entries, so it is one step.
    pub(crate) fn note_step(&mut self) -> Option<()> {
        let (child, first) = (self.task().session() + 1, self.task().range() * PTES);
        let (start, at) = (self.task().start, self.task().at);
        self.note_migrations(child, first + usize::from(start)..first + usize::from(at));
        self.task_mut().migrations = false;
        if !self.m(Mutation::NotedAfterUnlock) {
            self.unlock_tables();
        }
        self.copy_ends();
        Some(())
    }

    fn copy_ends(&mut self) {
        if !self.is_copied() {
            self.give_back();
            self.task_mut().settle = Settle::Claim;
            return;
        }
        let unstable = self.source() == 0
            && self.s.unstable
            && self.hook(Hook::Oom)
            && !self.m(Mutation::UnstableIgnored);
        if unstable {
            self.give_back();
            self.task_mut().settle = Settle::Fail;
        } else {
            self.task_mut().settle = Settle::Publish;
        }
    }

    fn unlock_tables(&mut self) {
        let (parent, child) = (self.source(), self.task().session() + 1);
        let range = self.task().range();
        self.s.mms[parent].ptl[range] = 0;
        self.s.mms[child].ptl[range] = 0;
    }

    /// Whoever removes migration entries of the pages that those of an address space are of is
    /// told.
    pub(crate) fn note_migrations(&mut self, mm: usize, vas: impl Iterator<Item = usize>) {
        let ptes = self.s.mms[mm].pte;
        for pte in vas.map(|va| ptes[va]) {
            for task in 0..TASKS {
                if let Some(Op::Migrate(_)) = self.model.op(self.s, task) {
                    let task = &mut self.s.tasks[task];
                    task.last |= pte.kind == Kind::Migration && task.hold == pte.page + 1;
                }
            }
        }
    }

    /// Copies a PTE, or says what it wants for that.
    fn copy_pte(&mut self, child: usize, va: usize) -> Want {
        let parent = self.source();
        let old = self.s.mms[child].pte[va];
        if self.task().resume && old.kind != Kind::None {
            return Want::Nothing;
        }
        let pte = self.s.mms[parent].pte[va];
        match pte.kind {
            Kind::None => return Want::Nothing,
            Kind::Migration => {
                let early = self.m(Mutation::NotedBeforeCopy) || self.m(Mutation::NotedBeforeLock);
                self.task_mut().migrations = !early;
            }
            Kind::Present if self.must_copy_page(pte.page) => {
                if self.task().want != Want::Folio {
                    return Want::Folio;
                }
                self.task_mut().want = Want::Nothing;
                let page = self.s.alloc(self.s.value(pte.page));
                self.s.mms[child].pte[va] = Pte { page, ..pte };
                return Want::Nothing;
            }
            Kind::Marker | Kind::Present => {}
        }
        if old.kind != Kind::None {
            self.wrong(Wrong::CopiedTwice);
        }
        self.share(parent, child, va);
        Want::Nothing
    }

    /// `copy_present_ptes()`, or `copy_nonpresent_pte()`: the child gets the parent's page, which
    /// is read-only from now on, and will be so when it has been migrated.
    pub(crate) fn share(&mut self, parent: usize, child: usize, va: usize) {
        let pte = &mut self.s.mms[parent].pte[va];
        if matches!(pte.kind, Kind::Present | Kind::Migration) {
            pte.write = false;
        }
        let pte = *pte;
        self.s.mms[child].pte[va] = pte;
        if !self.s.mms[parent].pte[va].uses(pte.page) || pte.page == ZERO {
            return;
        }
        self.s.get(pte.page);
        self.s.pages[usize::from(pte.page)].exclusive = false;
        // It is the entry that says so until it is removed.
        for task in 0..TASKS {
            if let Some(Op::Migrate(_)) = self.model.op(self.s, task) {
                let task = self.s.tasks[task];
                if task.hold == pte.page + 1 && task.a != 0 {
                    self.s.pages[usize::from(task.a) - 1].exclusive = false;
                }
            }
        }
    }

    fn must_copy_page(&self, page: u8) -> bool {
        !self.m(Mutation::PinsIgnored)
            && page != ZERO
            && self.s.has_pins
            && self.s.pages[usize::from(page)].pins != 0
    }
}
