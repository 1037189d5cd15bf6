// SPDX-License-Identifier: GPL-2.0

//! The sysctl `vm.async_pgtable`.

use std::fmt;
use std::fs;
use std::io;

const PATH: &str = "/proc/sys/vm/async_pgtable";

/// Which forks the kernel makes asynchronous.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
pub enum Mode {
    /// 0: none.
    Off,
    /// 1: those that ask, by flag or by prctl. The default.
    OnRequest,
    /// 2: all.
    Every,
}

impl Mode {
    fn parse(text: &str) -> Option<Self> {
        match text.trim() {
            "0" => Some(Self::Off),
            "1" => Some(Self::OnRequest),
            "2" => Some(Self::Every),
            _ => None,
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Off => "0 (off)",
            Self::OnRequest => "1 (on request)",
            Self::Every => "2 (every fork)",
        })
    }
}

/// Reads the sysctl.
///
/// # Errors
///
/// `NotFound` if the kernel does not have it, `InvalidData` if it holds a value that this crate does
/// not know.
pub fn mode() -> io::Result<Mode> {
    let text = fs::read_to_string(PATH)?;
    Mode::parse(&text).ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::InvalidData,
            format!("{PATH}: {:?}", text.trim()),
        )
    })
}

/// Writes the sysctl, for every process of the machine.
///
/// # Errors
///
/// `NotFound` if the kernel does not have it, `PermissionDenied` without root.
pub fn set_mode(mode: Mode) -> io::Result<()> {
    // Not `fs::write()`: it would ask to create the file and so hide that the kernel does not have
    // it.
    io::Write::write_all(
        &mut fs::OpenOptions::new().write(true).open(PATH)?,
        (mode as u8).to_string().as_bytes(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_what_the_kernel_prints() {
        for mode in [Mode::Off, Mode::OnRequest, Mode::Every] {
            assert_eq!(Mode::parse(&format!("{}\n", mode as u8)), Some(mode));
        }
        assert_eq!(Mode::parse("3\n"), None);
        assert_eq!(Mode::parse(""), None);
    }
}
