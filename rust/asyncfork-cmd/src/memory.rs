// SPDX-License-Identifier: GPL-2.0

//! Memory of a process that forks: so much of it, of one kind of page.

use std::fmt;
use std::fs;
use std::io;
use std::ptr;
use std::thread;
use std::time::Duration;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use clap::ValueEnum;
use serde::Deserialize;
use serde::Serialize;

use crate::huge_pages;
use crate::huge_pages::HugePages;
use crate::knobs::Knobs;
use crate::knobs::Setting;
use crate::machine;
use crate::same_pages;

/// What one entry of a page-table directory (PMD) covers.
pub const RANGE: usize = 2 << 20;
/// Memory is swapped out in pieces of this length, so that the rest need not fit.
const PIECE: usize = 64 << 20;
/// And merged in such: all that was merged before is looked at again for each.
const MERGED_PIECE: usize = 256 << 20;
/// The least share of the memory that is swapped out if that was asked for.
const SWAPPED: f64 = 0.9;

/// What the page tables are full of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Pages {
    /// Pages of this process's own, written before every fork
    #[default]
    Written,
    /// The zero page, everywhere: page tables of more than the machine's memory. A fork copies
    /// entries, and counts no page
    Zero,
    /// Swap entries, everywhere; takes as much swap. A fork counts each in the swap map
    Swapped,
    /// Pages that KSM has merged, all but one of each 2 MiB: nearly all entries refer to a few
    /// pages. A fork counts each. Takes root
    Ksm,
}

/// What memory consists of.
#[derive(Clone, Copy, Debug, Default, clap::Args)]
pub struct Kind {
    /// What the memory is full of
    #[arg(long, value_enum, value_name = "KIND", default_value = "written")]
    pub pages: Pages,

    /// Have the machine give huge pages so (takes root), and ask for them but with always and 64k;
    /// what it did before is put back [default: 4 KiB pages, the machine as it is]
    #[arg(long, value_enum, value_name = "HOW")]
    pub huge_pages: Option<HugePages>,
}

impl fmt::Display for Pages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Written => "written",
            Self::Zero => "zero",
            Self::Swapped => "swapped",
            Self::Ksm => "merged",
        })
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.huge_pages {
            Some(huge_pages) => write!(f, "{} pages, {huge_pages}", self.pages),
            None => write!(f, "{} pages", self.pages),
        }
    }
}

impl From<Pages> for Kind {
    fn from(pages: Pages) -> Self {
        Self {
            pages,
            huge_pages: None,
        }
    }
}

impl Kind {
    /// Refuses `mb` MiB of it where they do not fit, and what is no kind.
    ///
    /// # Errors
    ///
    /// That it cannot be.
    pub fn require_room(self, mb: u64) -> Result<()> {
        if self.huge_pages.is_some() && self.pages != Pages::Written {
            bail!("--huge-pages is for --pages written");
        }
        self.pages.require_room(mb)
    }

    /// It takes settings of the machine.
    pub fn takes_settings(self) -> bool {
        self.pages == Pages::Ksm || self.huge_pages.is_some()
    }

    /// What is asked of the kernel for the memory.
    fn advice(self) -> Option<libc::c_int> {
        match self.huge_pages {
            None => Some(libc::MADV_NOHUGEPAGE),
            Some(HugePages::Madvise | HugePages::Never) => Some(libc::MADV_HUGEPAGE),
            Some(HugePages::Always | HugePages::Size64k) => None,
        }
    }
}

impl Pages {
    /// Refuses `mb` MiB where they do not fit: the pages, the page tables of parent and child, a
    /// copied page for each range, and the rest of the process.
    ///
    /// # Errors
    ///
    /// That they do not.
    fn require_room(self, mb: u64) -> Result<()> {
        let pages = match self {
            Self::Written => mb,
            Self::Zero | Self::Swapped => 0,
            // What is not merged yet, a page for 256 that are, and 64 bytes for each.
            Self::Ksm => mb.min((MERGED_PIECE >> 20) as u64) + mb / 256 + mb / 64,
        };
        let needed = pages + 3 * mb.div_ceil(512) + 32;
        let available = machine::available_mib();
        if available < needed {
            bail!(
                "--mb {mb} needs at least {needed} MiB of free memory, this machine has {available}"
            );
        }
        let swap = machine::free_swap_mib();
        if self == Self::Swapped && swap < mb {
            bail!("--mb {mb} --pages swapped needs {mb} MiB of free swap, this machine has {swap}");
        }
        Ok(())
    }
}

/// Private anonymous memory in small pages, all of it mapped.
pub struct Memory {
    start: *mut u8,
    length: usize,
    page: usize,
    kind: Kind,
    settle: Duration,
    knobs: Knobs,
}

impl Memory {
    /// With [`Memory::touch()`] still to be called.
    ///
    /// # Errors
    ///
    /// Those of the system calls, and that nothing was swapped out or merged.
    pub fn new(length: usize, kind: impl Into<Kind>, settle: Duration) -> Result<Self> {
        let (kind, mut knobs): (Kind, _) = (kind.into(), Knobs::default());
        if let Some(huge_pages) = kind.huge_pages {
            huge_pages.set(&mut knobs)?;
        }
        let start = map(length)?;
        // SAFETY: allowed at any time.
        let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) } as usize;
        let mut memory = Self {
            start,
            length,
            page,
            kind,
            settle,
            knobs,
        };
        memory.ask(0, length)?;
        match kind.pages {
            Pages::Written => {}
            Pages::Zero => {
                // Without a page of its own there is nothing that fork() would have to copy.
                memory.write(0);
                memory
                    .advise(0, length, libc::MADV_POPULATE_READ)
                    .context("cannot map the zero page")?;
            }
            Pages::Swapped => memory.swap_out()?,
            Pages::Ksm => memory.merge()?,
        }
        Ok(memory)
    }

    /// What was set of the machine for it.
    pub fn settings(&self) -> Vec<Setting> {
        self.knobs.settings().to_vec()
    }

    /// KiB of this process in pages of 2 MiB, if huge pages were asked for.
    ///
    /// # Errors
    ///
    /// That the kernel does not say.
    pub fn huge_kib(&self) -> Result<Option<u64>> {
        let asked = self.kind.huge_pages;
        asked.map(|_| huge_pages::mapped_kib("self")).transpose()
    }

    /// Asks for pages of the size that all of it has.
    fn ask(&self, offset: usize, length: usize) -> Result<()> {
        let Some(advice) = self.kind.advice() else {
            return Ok(());
        };
        match self.advise(offset, length, advice) {
            // The answer of a kernel without huge pages.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Ok(()),
            result => result.context("cannot ask for pages of this size"),
        }
    }

    pub fn length(&self) -> usize {
        self.length
    }

    /// Of page number `page`.
    pub fn offset(&self, page: usize) -> usize {
        page * self.page
    }

    /// Of each page.
    pub fn offsets(&self) -> impl Iterator<Item = usize> + use<> {
        (0..self.length).step_by(self.page)
    }

    pub fn read(&self, offset: usize) -> u8 {
        assert!(offset < self.length);
        // SAFETY: within the mapping.
        unsafe { self.start.add(offset).read_volatile() }
    }

    pub fn write(&mut self, offset: usize) {
        assert!(offset < self.length);
        // SAFETY: within the mapping, which nothing else refers to.
        unsafe {
            let byte = self.start.add(offset);
            byte.write_volatile(byte.read_volatile().wrapping_add(1));
        }
    }

    /// Takes `length` bytes from `offset` on away; until [`Memory::map_again()`] nothing may be done
    /// with them.
    ///
    /// # Errors
    ///
    /// Those of `munmap()`.
    pub fn unmap(&mut self, offset: usize, length: usize) -> Result<()> {
        assert!(offset + length <= self.length);
        // SAFETY: within the mapping, which nothing else refers to.
        match unsafe { libc::munmap(self.start.add(offset).cast(), length) } {
            -1 => Err(io::Error::last_os_error()).context("munmap"),
            _ => Ok(()),
        }
    }

    /// New memory where it was taken away.
    ///
    /// # Errors
    ///
    /// Those of the system calls, and that something else is there.
    pub fn map_again(&mut self, offset: usize, length: usize) -> Result<()> {
        assert!(offset + length <= self.length);
        // SAFETY: within what was the mapping.
        let address = unsafe { self.start.add(offset) };
        map_at(address, length, libc::MAP_FIXED_NOREPLACE)?;
        self.ask(offset, length)
    }

    /// # Errors
    ///
    /// Those of `mprotect()`.
    pub fn protect(&mut self, offset: usize, length: usize, allowed: libc::c_int) -> Result<()> {
        assert!(offset + length <= self.length);
        // SAFETY: within the mapping, which nothing else refers to.
        match unsafe { libc::mprotect(self.start.add(offset).cast(), length, allowed) } {
            -1 => Err(io::Error::last_os_error()).context("mprotect"),
            _ => Ok(()),
        }
    }

    /// Has every fork meet the same: of written pages, that each is this process's own, dirty and
    /// writable; of others, that those which were written since, one for each range, are as before.
    ///
    /// # Errors
    ///
    /// Those of the system calls.
    pub fn touch(&mut self) -> Result<()> {
        match self.kind.pages {
            Pages::Written => {
                // A fork and a write break a huge page up, and it does not come back. Nor does one
                // of 64 KiB come where a read has mapped the zero page, as the writes below do.
                if self.kind.huge_pages.is_some() {
                    self.advise(0, self.length, libc::MADV_DONTNEED)
                        .and_then(|()| self.advise(0, self.length, libc::MADV_POPULATE_WRITE))
                        .context("cannot make pages anew")?;
                }
                for offset in self.offsets() {
                    self.write(offset);
                }
            }
            Pages::Zero => {
                for offset in (RANGE..self.length).step_by(RANGE) {
                    self.advise(offset, self.page, libc::MADV_DONTNEED)
                        .and_then(|()| self.advise(offset, self.page, libc::MADV_POPULATE_READ))
                        .context("cannot map the zero page again")?;
                }
            }
            Pages::Swapped => {
                for offset in (0..self.length).step_by(RANGE) {
                    self.advise(offset, self.page, libc::MADV_PAGEOUT)
                        .context("cannot swap out")?;
                }
            }
            // One page of each range is no other's, and stays that.
            Pages::Ksm => {
                for offset in (0..self.length).step_by(RANGE) {
                    self.write(offset);
                }
            }
        }
        self.settle()
    }

    /// Waits, and flushes the TLB of this CPU from time to time: changing the protection of more
    /// than a few dozen pages flushes all of it.
    fn settle(&self) -> Result<()> {
        const FLUSHES: u32 = 6;
        const PAGES: usize = 64;
        let length = PAGES * self.page;
        let scratch = map(length)?;
        for _ in 0..FLUSHES {
            for offset in (0..length).step_by(self.page) {
                // SAFETY: within the mapping above.
                unsafe { scratch.add(offset).write_volatile(1) };
            }
            for protection in [libc::PROT_READ, libc::PROT_READ | libc::PROT_WRITE] {
                // SAFETY: nothing refers to this mapping.
                if unsafe { libc::mprotect(scratch.cast(), length, protection) } == -1 {
                    return Err(io::Error::last_os_error()).context("mprotect");
                }
            }
            thread::sleep(self.settle / FLUSHES);
        }
        // SAFETY: as above.
        unsafe { libc::munmap(scratch.cast(), length) };
        Ok(())
    }

    fn swap_out(&mut self) -> Result<()> {
        for start in (0..self.length).step_by(PIECE) {
            let length = PIECE.min(self.length - start);
            // Zeros: the kernel notes that, and the swap device gets nothing to keep.
            self.advise(start, length, libc::MADV_POPULATE_WRITE)
                .context("cannot make pages")?;
            self.advise(start, length, libc::MADV_PAGEOUT)
                .context("cannot swap out")?;
        }
        let (swapped, wanted) = (swapped_mib()?, self.length as f64 / (1 << 20) as f64);
        if (swapped as f64) < SWAPPED * wanted {
            bail!("only {swapped} of {wanted} MiB could be swapped out");
        }
        Ok(())
    }

    /// Fills the memory with pages that are alike, but for the first of each range, and waits until
    /// they are merged.
    fn merge(&mut self) -> Result<()> {
        /// Not zero, which may become the zero page
        const ALIKE: u8 = 0xa5;

        self.advise(0, self.length, libc::MADV_MERGEABLE)
            .context("cannot ask for pages to be merged (KSM)")?;
        same_pages::start(&mut self.knobs)?;
        let mut alike = 0;
        for start in (0..self.length).step_by(MERGED_PIECE) {
            let end = self.length.min(start + MERGED_PIECE);
            for offset in (start..end).step_by(self.page) {
                // SAFETY: this page is within the mapping, which nothing else refers to.
                unsafe {
                    let page = self.start.add(offset);
                    page.write_bytes(ALIKE, self.page);
                    if offset % RANGE == 0 {
                        page.cast::<usize>().write(offset);
                    }
                }
                alike += usize::from(offset % RANGE != 0);
            }
            same_pages::wait(alike)?;
        }
        same_pages::stop(&mut self.knobs)
    }

    fn advise(&self, offset: usize, length: usize, advice: libc::c_int) -> io::Result<()> {
        assert!(offset + length <= self.length);
        // SAFETY: within the mapping, whose contents do not matter to anybody.
        match unsafe { libc::madvise(self.start.add(offset).cast(), length, advice) } {
            -1 => Err(io::Error::last_os_error()),
            _ => Ok(()),
        }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: the mapping is this value's.
        unsafe { libc::munmap(self.start.cast(), self.length) };
    }
}

/// How much of this process is swapped out.
fn swapped_mib() -> Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let kib = machine::kib(&status, "VmSwap").context("the kernel says nothing about swap")?;
    Ok(kib >> 10)
}

/// New private anonymous memory, which need not be there.
pub fn map(length: usize) -> Result<*mut u8> {
    map_at(ptr::null_mut(), length, 0)
}

/// The same at an address, if `flags` say so; they replace nothing.
fn map_at(address: *mut u8, length: usize, flags: libc::c_int) -> Result<*mut u8> {
    // SAFETY: a new mapping, in place of none.
    let start = unsafe {
        libc::mmap(
            address.cast(),
            length,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | flags,
            -1,
            0,
        )
    };
    if start == libc::MAP_FAILED {
        return Err(io::Error::last_os_error()).context("cannot map memory");
    }
    Ok(start.cast())
}

pub fn monotonic() -> u64 {
    let mut now = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `now` is valid for writes. This clock cannot fail.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new(pages: Pages) -> Memory {
        Memory::new(4 * RANGE, pages, Duration::ZERO).unwrap()
    }

    #[test]
    fn all_pages_are_written() {
        let mut memory = new(Pages::Written);
        memory.touch().unwrap();
        assert!(memory.offsets().all(|offset| memory.read(offset) == 1));
    }

    #[test]
    fn zero_pages_come_back() {
        let mut memory = new(Pages::Zero);
        for offset in (0..4 * RANGE).step_by(RANGE) {
            memory.write(offset);
        }
        assert_eq!(memory.read(RANGE), 1);
        memory.touch().unwrap();
        // The first page stays: see new().
        let left: Vec<_> = (0..4).map(|range| memory.read(range * RANGE)).collect();
        assert_eq!(left, [2, 0, 0, 0]);
    }

    #[test]
    fn swap_is_required() {
        if machine::free_swap_mib() >= 8 {
            eprintln!("SKIP: this machine has swap");
            return;
        }
        let error = Kind::from(Pages::Swapped)
            .require_room(8)
            .unwrap_err()
            .to_string();
        assert!(error.contains("8 MiB of free swap"), "{error}");
        let error = Memory::new(4 * RANGE, Pages::Swapped, Duration::ZERO).err();
        let error = error.unwrap().to_string();
        assert!(error.starts_with("only 0 of 8 MiB"), "{error}");
    }

    #[test]
    fn page_tables_take_less_than_pages() {
        let too_much = |pages: Pages, mb| pages.require_room(mb).is_err();
        let available = machine::available_mib();
        assert!(too_much(Pages::Written, available + 1024));
        assert!(!too_much(Pages::Zero, available + 1024));
        assert!(too_much(Pages::Zero, 1 << 20 << 10));
    }
}
