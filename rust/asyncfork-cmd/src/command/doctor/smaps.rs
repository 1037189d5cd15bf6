// SPDX-License-Identifier: GPL-2.0

//! What a fork does with each mapping of a process, by its `smaps`: defers it, copies it in the
//! call, or nothing at all.
//!
//! The rules are those of `vma_is_eligible()` and `__async_pgtable_dup_vma()` of the kernel.

use std::collections::BTreeMap;
use std::fmt;
use std::io::BufRead;

use anyhow::Result;
use anyhow::bail;
use serde::Serialize;

use crate::memory::RANGE;

/// What one page maps (KiB).
const PAGE_KIB: u64 = 4;
const RANGE_KIB: u64 = (RANGE >> 10) as u64;

/// Why private memory of a process is not deferred.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// Entries of 2 MiB
    Huge,
    /// Less than a whole range
    Small,
    /// Private copies of pages of a file
    File,
    /// VM_GROWSDOWN
    Stack,
    /// VM_UFFD_*
    Userfaultfd,
    /// VM_HUGETLB
    Hugetlb,
    /// VM_IO, VM_PFNMAP, VM_MIXEDMAP
    Device,
    /// VM_SHADOW_STACK
    ShadowStack,
    /// VM_DONTCOPY: nothing is copied at all
    NotInherited,
    /// VM_WIPEONFORK: likewise
    Wiped,
}

impl Reason {
    /// What it is, and what can be done.
    pub fn explain(self) -> (&'static str, Option<&'static str>) {
        match self {
            Self::Huge => (
                "in huge pages of 2 MiB, copied in the call, which costs little",
                None,
            ),
            Self::Small => (
                "in parts of mappings that are less than an aligned range of 2 MiB, copied in the call",
                None,
            ),
            Self::File => ("in private mappings of files, copied in the call", None),
            Self::Stack => ("in stacks that grow, copied in the call", None),
            Self::Userfaultfd => (
                "registered with userfaultfd, copied in the call",
                Some("have the program unregister it before it forks, if it can"),
            ),
            Self::Hugetlb => ("in hugetlbfs, copied in the call, which costs little", None),
            Self::Device => ("in mappings of devices, copied in the call", None),
            Self::ShadowStack => ("in shadow stacks, copied in the call", None),
            Self::NotInherited => ("not inherited (MADV_DONTFORK), nothing to copy", None),
            Self::Wiped => (
                "empty in the child (MADV_WIPEONFORK), nothing to copy",
                None,
            ),
        }
    }

    /// Whether there are page tables of small pages to copy.
    fn costs(self) -> bool {
        !matches!(
            self,
            Self::Huge | Self::Hugetlb | Self::NotInherited | Self::Wiped
        )
    }
}

/// Of one mapping, KiB but for the addresses and flags.
#[derive(Debug, Default)]
struct Mapping {
    start: u64,
    end: u64,
    name: String,
    anonymous: u64,
    huge: u64,
    swap: u64,
    hugetlb: u64,
    flags: Vec<[u8; 2]>,
}

impl Mapping {
    /// By the line that it begins with: `start-end perms offset dev inode name`.
    fn parse(line: &str) -> Option<Self> {
        let (range, rest) = line.split_once(' ')?;
        let (start, end) = range.split_once('-')?;
        let mut name = rest;
        for _ in 0..4 {
            name = name
                .trim_start()
                .split_once(' ')
                .map_or("", |(_, rest)| rest);
        }
        Some(Self {
            start: u64::from_str_radix(start, 16).ok()?,
            end: u64::from_str_radix(end, 16).ok()?,
            name: name.trim().to_owned(),
            ..Self::default()
        })
    }

    /// Takes one of the lines that follow.
    fn take(&mut self, name: &str, value: &str) {
        let kib = || value.trim().trim_end_matches(" kB").parse().unwrap_or(0);
        match name {
            "Anonymous" => self.anonymous = kib(),
            "AnonHugePages" => self.huge = kib(),
            "Swap" => self.swap = kib(),
            "Private_Hugetlb" => self.hugetlb = kib(),
            "VmFlags" => {
                let flags = value.split_whitespace();
                self.flags = flags
                    .filter_map(|flag| flag.as_bytes().try_into().ok())
                    .collect();
            }
            _ => {}
        }
    }

    fn has(&self, flags: &[&[u8; 2]]) -> bool {
        flags.iter().any(|flag| self.flags.contains(flag))
    }

    /// `vma_is_anonymous()`: a private mapping of /dev/zero is so, too.
    fn is_anonymous(&self) -> bool {
        const NAMES: [&str; 4] = ["", "[heap]", "[stack]", "/dev/zero"];
        NAMES.contains(&&self.name[..]) || self.name.starts_with("[anon:")
    }

    /// Why nothing of it is deferred, if so.
    fn refused(&self) -> Option<Reason> {
        let reasons: [(&[&[u8; 2]], Reason); 7] = [
            (&[b"dc"], Reason::NotInherited),
            (&[b"wf"], Reason::Wiped),
            (&[b"ht"], Reason::Hugetlb),
            (&[b"um", b"uw", b"ui", b"ur"], Reason::Userfaultfd),
            (&[b"ss"], Reason::ShadowStack),
            (&[b"io", b"pf", b"mm"], Reason::Device),
            (&[b"gd"], Reason::Stack),
        ];
        let reason = reasons.iter().find(|(flags, _)| self.has(flags));
        let file = (!self.is_anonymous()).then_some(Reason::File);
        reason.map(|(_, reason)| *reason).or(file)
    }

    /// KiB of whole, aligned ranges.
    fn whole_kib(&self) -> u64 {
        let range = RANGE as u64;
        let (start, end) = (self.start.div_ceil(range), self.end / range);
        end.saturating_sub(start) * RANGE_KIB
    }
}

/// What a fork of a process does with its memory.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Memory {
    /// Deferred, at least: where a mapping begins or ends within a range, that is taken to be full
    pub deferred_kib: u64,
    /// In so many ranges, at most: as many as the mappings have, or as there are pages in them
    pub ranges: u64,
    /// Not deferred
    pub others_kib: BTreeMap<Reason, u64>,
    /// What vm.overcommit_memory=2 counts again for the child
    pub accounted_kib: u64,
    pub mappings: u64,
}

impl Memory {
    /// Reads a whole `smaps`, and tells `seen` how many KiB it has come by.
    ///
    /// # Errors
    ///
    /// Those of the file, and that it is no such file or has nothing in it.
    pub fn read(mut smaps: impl BufRead, seen: impl Fn(u64)) -> Result<Self> {
        let (mut memory, mut mapping) = (Self::default(), None::<Mapping>);
        let mut line = Vec::new();
        loop {
            line.clear();
            let more = smaps.read_until(b'\n', &mut line)? > 0;
            let text = String::from_utf8_lossy(&line);
            let text = text.trim_end_matches('\n');
            // `Name: value`, or the head of a mapping, whose first word has no colon.
            let field = text
                .split_once(':')
                .filter(|(name, _)| !name.contains([' ', '-']));
            match (field, &mut mapping) {
                (Some((name, value)), Some(mapping)) => mapping.take(name, value),
                _ => {
                    let begun = more.then(|| Mapping::parse(text));
                    if begun.as_ref().is_some_and(Option::is_none) {
                        bail!("not a line of smaps: {text}");
                    }
                    if let Some(mapping) = mapping.take() {
                        seen((mapping.end - mapping.start) >> 10);
                        memory.add(&mapping);
                    }
                    mapping = begun.flatten();
                }
            }
            if !more {
                return Ok(memory);
            }
        }
    }

    fn add(&mut self, mapping: &Mapping) {
        self.mappings += 1;
        if mapping.has(&[b"sh", b"ms"]) {
            // What is shared has no page tables that must be copied.
            return;
        }
        let size = mapping.end.saturating_sub(mapping.start) >> 10;
        if mapping.has(&[b"ac"]) && !mapping.has(&[b"dc"]) {
            self.accounted_kib += size;
        }
        let small = mapping.anonymous.saturating_sub(mapping.huge) + mapping.swap;
        if let Some(reason) = mapping.refused() {
            let all = mapping.anonymous + mapping.swap + mapping.hugetlb;
            self.other(reason, all);
            return;
        }
        self.other(Reason::Huge, mapping.huge);
        let whole = mapping.whole_kib();
        let edges = small.min(size.saturating_sub(whole));
        self.other(Reason::Small, edges);
        self.deferred_kib += small - edges;
        let ranges = whole.saturating_sub(mapping.huge) / RANGE_KIB;
        self.ranges += ranges.min(small / PAGE_KIB);
    }

    fn other(&mut self, reason: Reason, kib: u64) {
        if kib > 0 {
            *self.others_kib.entry(reason).or_default() += kib;
        }
    }

    /// What is copied in the call, page by page.
    pub fn slow_kib(&self) -> u64 {
        let slow = self.others_kib.iter().filter(|(reason, _)| reason.costs());
        slow.map(|(_, kib)| kib).sum()
    }

    pub fn kib(&self, reason: Reason) -> u64 {
        self.others_kib.get(&reason).copied().unwrap_or(0)
    }
}

/// An amount, to three digits or so.
pub struct Size(pub u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(kib) = *self;
        match kib {
            0..10_240 => write!(f, "{kib} KiB"),
            10_240..10_485_760 => write!(f, "{} MiB", kib >> 10),
            _ => write!(f, "{:.1} GiB", kib as f64 / (1 << 20) as f64),
        }
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// Mappings as the kernel prints them: addresses and name; anonymous, huge and swapped KiB;
    /// flags.
    pub fn smaps(mappings: &[(&str, &str, [u64; 3], &str)]) -> String {
        let mapping = |mapping: &(&str, &str, [u64; 3], &str)| {
            let (range, name, [anonymous, huge, swap], flags) = mapping;
            let head = format!("{range} rw-p 00000000 00:00 0");
            let (start, end) = range.split_once('-').unwrap();
            let [start, end] = [start, end].map(|at| u64::from_str_radix(at, 16).unwrap());
            format!(
                "{head:<73}{name}\n\
                Size:           {:8} kB\n\
                KernelPageSize:        4 kB\n\
                Rss:            {anonymous:8} kB\n\
                Anonymous:      {anonymous:8} kB\n\
                AnonHugePages:  {huge:8} kB\n\
                Private_Hugetlb:       0 kB\n\
                Swap:           {swap:8} kB\n\
                THPeligible:           0\n\
                VmFlags: rd wr mr mw me {flags} \n",
                (end - start) >> 10
            )
        };
        mappings.iter().map(mapping).collect()
    }

    pub fn read(text: &str) -> Memory {
        Memory::read(text.as_bytes(), |_| ()).unwrap()
    }

    /// 16 MiB between whole ranges.
    const WHOLE: &str = "7f0000000000-7f0001000000";

    #[test]
    fn whole_ranges_are_deferred() {
        let memory = read(&smaps(&[(WHOLE, "", [12288, 0, 4096], "ac sd")]));
        assert_eq!((memory.deferred_kib, memory.ranges), (16384, 8));
        assert_eq!(memory.others_kib, BTreeMap::new());
        assert_eq!((memory.accounted_kib, memory.mappings), (16384, 1));
        // A page here and there.
        let memory = read(&smaps(&[(WHOLE, "[anon: cache: x]", [12, 0, 0], "")]));
        assert_eq!((memory.deferred_kib, memory.ranges), (12, 3));
        assert_eq!(memory.accounted_kib, 0);
        // Nothing in it: it has no anon_vma.
        let memory = read(&smaps(&[(WHOLE, "[heap]", [0; 3], "ac")]));
        assert_eq!((memory.deferred_kib, memory.ranges), (0, 0));
    }

    #[test]
    fn edges_are_copied() {
        // 1 MiB before and 512 KiB after two ranges, all of it full.
        let text = smaps(&[("7f0000300000-7f0000880000", "", [5632, 0, 0], "ac")]);
        let memory = read(&text);
        assert_eq!((memory.deferred_kib, memory.ranges), (4096, 2));
        assert_eq!(memory.kib(Reason::Small), 1536);
        // 3 MiB with no whole range in it.
        let memory = read(&smaps(&[(
            "7f0000100000-7f0000380000",
            "",
            [2560, 0, 0],
            "ac",
        )]));
        assert_eq!((memory.deferred_kib, memory.ranges), (0, 0));
        assert_eq!(memory.kib(Reason::Small), 2560);
        assert_eq!(memory.slow_kib(), 2560);
    }

    #[test]
    fn huge_pages_are_copied() {
        let memory = read(&smaps(&[(WHOLE, "", [16384, 12288, 0], "ac hg")]));
        assert_eq!((memory.deferred_kib, memory.ranges), (4096, 2));
        assert_eq!(memory.kib(Reason::Huge), 12288);
        assert_eq!(memory.slow_kib(), 0);
    }

    #[test]
    fn each_flag_has_its_reason() {
        for (flags, name, reason) in [
            ("gd ac", "[stack]", Reason::Stack),
            ("ac um", "", Reason::Userfaultfd),
            ("ac uw", "[heap]", Reason::Userfaultfd),
            ("ac ur", "", Reason::Userfaultfd),
            ("wf", "", Reason::Wiped),
            ("ac dc", "", Reason::NotInherited),
            ("pf io de", "/dev/mem", Reason::Device),
            ("ss", "", Reason::ShadowStack),
            ("ac", "/usr/lib/x86_64-linux-gnu/lib c.so.6", Reason::File),
            ("ac", "[vvar]", Reason::File),
        ] {
            let memory = read(&smaps(&[(WHOLE, name, [8192, 0, 0], flags)]));
            assert_eq!(memory.deferred_kib, 0, "{flags}");
            assert_eq!(
                memory.others_kib,
                BTreeMap::from([(reason, 8192)]),
                "{flags}"
            );
        }
        let zero = read(&smaps(&[(WHOLE, "/dev/zero", [8192, 0, 0], "ac")]));
        assert_eq!(zero.deferred_kib, 8192);
        let shared = read(&smaps(&[(
            WHOLE,
            "/dev/zero (deleted)",
            [8192, 0, 0],
            "sh ms",
        )]));
        assert_eq!((shared.deferred_kib, shared.others_kib.len()), (0, 0));
        let wiped = read(&smaps(&[(WHOLE, "", [8192, 0, 0], "wf")]));
        assert_eq!(wiped.slow_kib(), 0);
    }

    #[test]
    fn names_are_no_fields() {
        let text = smaps(&[
            (WHOLE, "/tmp/Anonymous: 5", [4, 0, 0], ""),
            ("7f0002000000-7f0003000000", "", [4096, 0, 0], ""),
        ]);
        let memory = read(&text);
        assert_eq!((memory.mappings, memory.deferred_kib), (2, 4096));
        assert_eq!(memory.kib(Reason::File), 4);
    }

    #[test]
    fn what_has_been_seen_is_told() {
        let text = smaps(&[(WHOLE, "", [0; 3], ""), (WHOLE, "", [0; 3], "")]);
        let seen = std::cell::Cell::new(0);
        Memory::read(text.as_bytes(), |kib| seen.set(seen.get() + kib)).unwrap();
        assert_eq!(seen.get(), 2 * 16384);
    }

    #[test]
    fn broken_text() {
        let error = |text: &str| Memory::read(text.as_bytes(), |_| ()).unwrap_err();
        assert!(error("frobnicate\n").to_string().contains("frobnicate"));
        assert!(error("Size: 4 kB\n").to_string().contains("Size"));
        assert_eq!(read(""), Memory::default());
    }

    #[test]
    fn sizes() {
        let shown = [812, 20480, 16 << 20].map(|kib| Size(kib).to_string());
        assert_eq!(shown, ["812 KiB", "20 MiB", "16.0 GiB"]);
    }
}
