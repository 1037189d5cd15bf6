// SPDX-License-Identifier: GPL-2.0

//! The CPUs: what they cache of the parent's page tables.
//!
//! Two things are cached: entries of PMD level (paging-structure caches), and translations of
//! single addresses. Both keep the permission that they had when they were filled; that of a
//! translation is what both levels said. A walk reads the PMD entry, or has it cached, and at some
//! later time reads the PTE.
//!
//! A CPU caches what it likes. Of that, what is not used later makes no difference, so here it
//! does so for its next access; but as long before that as it likes.

use crate::{
    State, Wrong,
    page_tables::{Kind, Pmd, RANGES, VAS, ZERO, range_of},
};

/// CPUs on which the parent runs.
pub const CPUS: usize = 2;
const NONE: u8 = 0xff;

/// A cached PMD entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Pde {
    /// None is.
    #[default]
    None,
    /// It denies writes.
    Read,
    /// It does not.
    Write,
}

/// A cached translation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Translation {
    page: u8,
    write: bool,
}

impl Default for Translation {
    fn default() -> Self {
        Self {
            page: NONE,
            write: false,
        }
    }
}

/// What a CPU caches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Tlb {
    pde: [Pde; RANGES],
    pte: [Translation; VAS],
}

/// How far an access has come.
pub enum Access {
    /// Something was cached for it.
    Walks,
    /// It is done.
    Done,
    /// It is denied.
    Faults,
}

impl State {
    /// One step of a write by a CPU.
    pub fn cpu_writes(&mut self, cpu: usize, va: usize, value: u8) -> Access {
        let range = range_of(va);
        let Translation { page, write } = self.tlbs[cpu].pte[va];
        if page != NONE {
            if !write {
                return self.deny(cpu, va);
            }
            if self.pages[usize::from(page)].refs == 0 {
                self.wrong = self.wrong.or(Some(Wrong::UsedWhenFree));
            }
            self.parent_writes(va, page, value);
            return Access::Done;
        }

        let pde = self.tlbs[cpu].pde[range];
        if pde == Pde::None {
            self.tlbs[cpu].pde[range] = match self.mms[0].pmd[range] {
                Pmd::None => return Access::Faults,
                Pmd::Table { write: false } => Pde::Read,
                Pmd::Table { write: true } | Pmd::Leaf => Pde::Write,
            };
            return Access::Walks;
        }
        let pte = self.mms[0].pte[va];
        if pte.kind != Kind::Present || !pte.access || pte.page == ZERO {
            return self.deny(cpu, va);
        }
        self.tlbs[cpu].pte[va] = Translation {
            page: pte.page,
            write: pte.write && pde == Pde::Write,
        };
        Access::Walks
    }

    /// A fault drops what is cached for its address.
    fn deny(&mut self, cpu: usize, va: usize) -> Access {
        self.tlbs[cpu].pde[range_of(va)] = Pde::None;
        self.tlbs[cpu].pte[va] = Translation::default();
        Access::Faults
    }

    /// Flushes the TLBs of all CPUs.
    pub fn flush_all(&mut self) {
        self.tlbs = Default::default();
    }

    /// Flushes one address. That flushes all entries of PMD level, too.
    pub fn flush(&mut self, va: usize) {
        for tlb in &mut self.tlbs {
            tlb.pde = Default::default();
            tlb.pte[va] = Translation::default();
        }
    }

    /// Does a CPU still cache the way to a page?
    pub fn is_cached(&self, page: u8) -> bool {
        self.tlbs
            .iter()
            .any(|tlb| tlb.pte.iter().any(|cached| cached.page == page))
    }
}
