// SPDX-License-Identifier: GPL-2.0

//! Transparent huge pages: which a measurement has, and how much of a process is in them.

use std::fmt;
use std::fs;
use std::path::Path;

use anyhow::Context;
use anyhow::Result;
use clap::ValueEnum;
use serde::Deserialize;
use serde::Serialize;

use crate::knobs::Knobs;
use crate::machine;

const DIRECTORY: &str = "/sys/kernel/mm/transparent_hugepage";
/// Below that, what is special about pages of this size.
const SIZE_64K: &str = "hugepages-64kB";

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum HugePages {
    /// Pages of 2 MiB wherever they fit
    Always,
    /// Pages of 2 MiB where a program asks for them
    Madvise,
    /// Pages of 4 KiB, also where a program asks for others
    Never,
    /// Pages of 64 KiB wherever they fit, and none of 2 MiB
    #[value(name = "64k")]
    #[serde(rename = "64k")]
    Size64k,
}

impl fmt::Display for HugePages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Always => "THP always",
            Self::Madvise => "THP madvise",
            Self::Never => "THP never",
            Self::Size64k => "mTHP 64 KiB",
        })
    }
}

impl HugePages {
    /// Has the machine give such pages.
    ///
    /// # Errors
    ///
    /// That it cannot: the kernel has none, or this takes root.
    pub fn set(self, knobs: &mut Knobs) -> Result<()> {
        self.set_in(Path::new(DIRECTORY), knobs)
    }

    fn set_in(self, directory: &Path, knobs: &mut Knobs) -> Result<()> {
        let (enabled, size_64k) = match self {
            Self::Always => ("always", "never"),
            Self::Madvise => ("madvise", "never"),
            Self::Never => ("never", "never"),
            Self::Size64k => ("never", "always"),
        };
        knobs.set(&directory.join("enabled"), enabled)?;
        knobs.set(&directory.join(SIZE_64K).join("enabled"), size_64k)
    }
}

/// KiB of a process that entries of 2 MiB map; `who` as in `/proc`.
///
/// # Errors
///
/// That the kernel does not say.
pub fn mapped_kib(who: &str) -> Result<u64> {
    let path = format!("/proc/{who}/smaps_rollup");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    machine::kib(&text, "AnonHugePages").with_context(|| format!("{path} has no AnonHugePages"))
}

/// KiB of anonymous memory of the whole machine in pages of 64 KiB; none if the kernel does not
/// count them.
pub fn size_64k_kib() -> Option<u64> {
    let path = Path::new(DIRECTORY).join(SIZE_64K).join("stats/nr_anon");
    let pages: u64 = fs::read_to_string(path).ok()?.trim().parse().ok()?;
    Some(64 * pages)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process() {
        assert!(mapped_kib("self").is_ok());
        let error = mapped_kib("0").unwrap_err();
        assert!(error.to_string().contains("/proc/0/smaps_rollup"));
    }

    #[test]
    fn each_sets_both_sizes() {
        let directory = tempfile::tempdir().unwrap();
        let size = directory.path().join(SIZE_64K);
        fs::create_dir(&size).unwrap();
        let files = [directory.path().join("enabled"), size.join("enabled")];
        let read = || {
            files
                .each_ref()
                .map(|file| fs::read_to_string(file).unwrap())
        };
        for (huge_pages, expected) in [
            (HugePages::Always, ["always", "never"]),
            (HugePages::Madvise, ["madvise", "never"]),
            (HugePages::Never, ["never", "never"]),
            (HugePages::Size64k, ["never", "always"]),
        ] {
            fs::write(&files[0], "always madvise [never]\n").unwrap();
            fs::write(&files[1], "always [inherit] madvise never\n").unwrap();
            let mut knobs = Knobs::default();
            huge_pages.set_in(directory.path(), &mut knobs).unwrap();
            let set = knobs.settings().iter().map(|setting| setting.set.as_str());
            assert_eq!(set.collect::<Vec<_>>(), expected);
            drop(knobs);
            assert!(read()[0].contains("never") && read()[1].contains("inherit"));
        }
        fs::remove_dir_all(&size).unwrap();
        let error = HugePages::Never.set_in(directory.path(), &mut Knobs::default());
        let error = format!("{:#}", error.unwrap_err());
        assert!(error.contains("hugepages-64kB/enabled"), "{error}");
    }

    #[test]
    fn names_in_json() {
        let json = serde_json::to_string(&[HugePages::Always, HugePages::Size64k]).unwrap();
        assert_eq!(json, r#"["always","64k"]"#);
    }
}
