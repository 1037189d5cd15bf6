// SPDX-License-Identifier: GPL-2.0

//! What a count depends on besides the source.

use std::env;
use std::fmt;
use std::fs::File;
use std::io::Read;

use flate2::read::GzDecoder;
use serde::Deserialize;
use serde::Serialize;

/// Who has counted, and who has compiled the kernel. Empty is unknown.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Toolchain {
    /// From $ASYNCFORK_EMULATOR, without what its packager adds
    emulator: String,
    /// These two from the kernel's configuration
    compiler: String,
    rust: String,
}

impl Toolchain {
    /// That of the running kernel.
    pub fn read() -> Self {
        let mut config = String::new();
        // A kernel that does not have it has compilers that are unknown.
        let _ = File::open("/proc/config.gz")
            .and_then(|file| GzDecoder::new(file).read_to_string(&mut config));
        Self::of(&env::var("ASYNCFORK_EMULATOR").unwrap_or_default(), &config)
    }

    pub fn of(emulator: &str, config: &str) -> Self {
        let option = |name: &str| {
            let value = |line: &str| Some(line.strip_prefix(name)?.trim_matches('"').to_owned());
            config.lines().find_map(value).unwrap_or_default()
        };
        let version = emulator.split_once(" (").map_or(emulator, |(name, _)| name);
        Self {
            emulator: version.into(),
            compiler: option("CONFIG_CC_VERSION_TEXT="),
            rust: option("CONFIG_RUSTC_VERSION_TEXT="),
        }
    }

    pub fn is_known(&self) -> bool {
        [&self.emulator, &self.compiler, &self.rust]
            .iter()
            .all(|text| !text.is_empty())
    }
}

impl fmt::Display for Toolchain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [emulator, compiler, rust] =
            [&self.emulator, &self.compiler, &self.rust].map(|text| match text.as_str() {
                "" => "unknown",
                known => known,
            });
        write!(f, "{emulator}, {compiler}, {rust}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_configuration() {
        let emulator = "QEMU emulator version 10.0.2 (Debian 1:10.0.2+ds-2)";
        let config = "CONFIG_CC_VERSION_TEXT=\"gcc (Debian 12.2.0-14) 12.2.0\"\nCONFIG_CC_IS_GCC=y\n\
                      CONFIG_RUSTC_VERSION_TEXT=\"rustc 1.90.0\"\n";
        let known = Toolchain::of(emulator, config);
        let text = "QEMU emulator version 10.0.2, gcc (Debian 12.2.0-14) 12.2.0, rustc 1.90.0";
        assert_eq!(known.to_string(), text);
        assert!(known.is_known());
        let unknown = Toolchain::of("QEMU emulator version 10.0.2", "");
        assert_eq!(
            unknown.to_string(),
            "QEMU emulator version 10.0.2, unknown, unknown"
        );
        assert!(!unknown.is_known());
    }
}
