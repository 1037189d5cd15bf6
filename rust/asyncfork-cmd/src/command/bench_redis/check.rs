// SPDX-License-Identifier: GPL-2.0

//! How a snapshot is checked, and what that takes.

use std::path::Path;

use anyhow::Result;
use anyhow::bail;
use clap::ValueEnum;
use serde::Deserialize;
use serde::Serialize;

use crate::machine;
use crate::machine::FileSystem;

/// MiB up to which a second server is taken if nothing else is asked for.
const SERVER_LIMIT: u64 = 2048;
/// MiB for the servers and this program without their data.
const PROGRAMS: u64 = 128;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Check {
    /// A second server loads it, and every key is read back: as much memory again
    #[default]
    Server,
    /// The file is read from its begin to its end: 16 bytes of memory per key
    File,
}

impl Check {
    pub fn for_size(mb: u64) -> Self {
        if mb > SERVER_LIMIT {
            Self::File
        } else {
            Self::Server
        }
    }

    /// MiB of memory that `mb` MiB of data take: the server with its data, then the pages that its
    /// child keeps, or a second server. A child can keep all of them; a quarter is less than the
    /// least that makes a benchmark.
    fn needed(self, mb: u64) -> u64 {
        let data = mb + mb / 10;
        PROGRAMS
            + match self {
                Self::Server => 2 * data,
                Self::File => data + data / 4,
            }
    }

    /// Refuses what would not fit: the memory, and so many `files` of the size of the data in
    /// `directory`.
    ///
    /// # Errors
    ///
    /// That it would not.
    pub fn require_room(self, mb: u64, files: u64, directory: &Path) -> Result<()> {
        let disk = FileSystem::read(directory)?;
        let in_files = files * mb;
        let needed = self.needed(mb) + if disk.in_memory { in_files } else { 0 };
        let available = machine::available_mib();
        if available < needed {
            bail!(
                "--mb {mb} needs at least {needed} MiB of free memory, this machine has {available}; \
                 make it smaller, or give a VM more (make demo: MEM=...){}",
                self.hint(disk.in_memory)
            );
        }
        if disk.free_mib < in_files {
            bail!(
                "--mb {mb} needs {in_files} MiB in {}, it has {}; see --dir",
                directory.display(),
                disk.free_mib
            );
        }
        Ok(())
    }

    /// What else would make it fit.
    fn hint(self, in_memory: bool) -> &'static str {
        match (self, in_memory) {
            (Self::Server, _) => ", or take --check file",
            (Self::File, true) => ", or a --dir that is on a disk",
            (Self::File, false) => "",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_takes_less() {
        assert_eq!(Check::for_size(2048), Check::Server);
        assert_eq!(Check::for_size(2049), Check::File);
        assert_eq!(Check::Server.needed(1000), 128 + 2200);
        assert_eq!(Check::File.needed(1000), 128 + 1100 + 275);
    }

    #[test]
    fn what_to_do_is_said() {
        let too_much = |check: Check| {
            let error = check.require_room(1 << 30, 1, Path::new(".")).unwrap_err();
            error.to_string()
        };
        assert!(too_much(Check::Server).ends_with(", or take --check file"));
        assert!(!too_much(Check::File).contains("--check"));
    }
}
