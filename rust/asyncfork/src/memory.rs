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

use crate::machine;

/// What one entry of a page-table directory (PMD) covers.
pub const RANGE: usize = 2 << 20;
/// Memory is swapped out in pieces of this length, so that the rest need not fit.
const PIECE: usize = 64 << 20;
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
}

impl fmt::Display for Pages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Written => "written",
            Self::Zero => "zero",
            Self::Swapped => "swapped",
        })
    }
}

impl Pages {
    /// Refuses `mb` MiB where they do not fit: the pages, the page tables of parent and child, a
    /// copied page for each range, and the rest of the process.
    ///
    /// # Errors
    ///
    /// That they do not.
    pub fn require_room(self, mb: u64) -> Result<()> {
        let pages = if self == Self::Written { mb } else { 0 };
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
    pages: Pages,
    settle: Duration,
}

impl Memory {
    /// With [`Memory::touch()`] still to be called.
    ///
    /// # Errors
    ///
    /// Those of the system calls, and that nothing was swapped out.
    pub fn new(length: usize, pages: Pages, settle: Duration) -> Result<Self> {
        let start = map(length)?;
        // SAFETY: allowed at any time.
        let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) } as usize;
        let mut memory = Self {
            start,
            length,
            page,
            pages,
            settle,
        };
        match memory.advise(0, length, libc::MADV_NOHUGEPAGE) {
            // The answer of a kernel without huge pages.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {}
            result => result.context("cannot ask for small pages")?,
        }
        match pages {
            Pages::Written => {}
            Pages::Zero => {
                // Without a page of its own there is nothing that fork() would have to copy.
                memory.write(0);
                memory
                    .advise(0, length, libc::MADV_POPULATE_READ)
                    .context("cannot map the zero page")?;
            }
            Pages::Swapped => memory.swap_out()?,
        }
        Ok(memory)
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

    /// Has every fork meet the same: of written pages, that each is this process's own, dirty and
    /// writable; of others, that those which were written since, one for each range, are as before.
    ///
    /// # Errors
    ///
    /// Those of the system calls.
    pub fn touch(&mut self) -> Result<()> {
        match self.pages {
            Pages::Written => {
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
fn map(length: usize) -> Result<*mut u8> {
    // SAFETY: a new mapping, wherever the kernel likes.
    let start = unsafe {
        libc::mmap(
            ptr::null_mut(),
            length,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
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
        let error = Pages::Swapped.require_room(8).unwrap_err().to_string();
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
