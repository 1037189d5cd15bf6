// SPDX-License-Identifier: GPL-2.0

//! Settings of the machine in files below /sys: made for a measurement, and put back after it.

use std::fs;
use std::fs::OpenOptions;
use std::io;
use std::io::Write;
use std::path::Path;
use std::path::PathBuf;

use anyhow::Context;
use anyhow::Result;
use serde::Deserialize;
use serde::Serialize;

/// One setting, as it is recorded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setting {
    pub path: PathBuf,
    /// What it was before
    pub found: String,
    /// What it was while something was measured
    pub set: String,
}

/// Settings that were made; what was found is put back when this value goes.
#[derive(Default)]
pub struct Knobs(Vec<Setting>);

impl Knobs {
    /// Writes `value` to the file `path`, if it is not there already.
    ///
    /// # Errors
    ///
    /// Those of the file.
    pub fn set(&mut self, path: &Path, value: &str) -> Result<()> {
        let found = read(path).with_context(|| format!("cannot read {}", path.display()))?;
        let refused = || format!("cannot write {value} to {} (it takes root)", path.display());
        if found != value {
            write(path, value).with_context(refused)?;
        }
        match self.0.iter_mut().find(|setting| setting.path == path) {
            Some(setting) => value.clone_into(&mut setting.set),
            None => self.0.push(Setting {
                path: path.to_owned(),
                found,
                set: value.to_owned(),
            }),
        }
        Ok(())
    }

    pub fn settings(&self) -> &[Setting] {
        &self.0
    }
}

impl Drop for Knobs {
    fn drop(&mut self) {
        for setting in self.0.iter().rev().filter(|s| s.found != s.set) {
            let Setting { path, found, .. } = setting;
            if let Err(error) = write(path, found) {
                eprintln!(
                    "asyncfork: {} is not back at {found}: {error}",
                    path.display()
                );
            }
        }
    }
}

/// What a file says: the word in brackets, where all that are possible are listed.
fn read(path: &Path) -> io::Result<String> {
    let text = fs::read_to_string(path)?;
    let chosen = text.split(['[', ']']).nth(1);
    Ok(chosen.unwrap_or(text.trim()).to_owned())
}

/// Not `fs::write()`, which asks to make a file that is not there.
fn write(path: &Path, value: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).truncate(true).open(path)?;
    file.write_all(value.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_found_comes_back() {
        let directory = tempfile::tempdir().unwrap();
        let [thp, run] = ["enabled", "run"].map(|name| directory.path().join(name));
        fs::write(&thp, "always [madvise] never\n").unwrap();
        fs::write(&run, "0\n").unwrap();
        let mut knobs = Knobs::default();
        knobs.set(&thp, "always").unwrap();
        knobs.set(&run, "1").unwrap();
        assert_eq!(read(&thp).unwrap(), "always");
        // A second time: what was there first is what comes back.
        knobs.set(&run, "2").unwrap();
        assert_eq!(read(&run).unwrap(), "2");
        let found: Vec<_> = knobs.settings().iter().map(|s| s.found.as_str()).collect();
        assert_eq!(found, ["madvise", "0"]);
        assert_eq!(knobs.settings()[1].set, "2");
        drop(knobs);
        assert_eq!(read(&thp).unwrap(), "madvise");
        assert_eq!(read(&run).unwrap(), "0");
    }

    #[test]
    fn files_that_are_not_there() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("none");
        let error = Knobs::default().set(&path, "1").unwrap_err();
        assert!(format!("{error:#}").starts_with("cannot read "), "{error}");
        assert!(!path.exists());
    }
}
