// SPDX-License-Identifier: GPL-2.0

//! KSM: having the kernel find that pages have the same contents, and share one of them.

use std::fs;
use std::path::Path;
use std::time::Duration;
use std::time::Instant;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;

use crate::interrupt;
use crate::knobs::Knobs;

const DIRECTORY: &str = "/sys/kernel/mm/ksm";
/// How long no page may be merged.
const PATIENCE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(20);
/// The least share of the pages that is merged.
const MERGED: f64 = 0.98;

/// Has the kernel look for such pages as fast as it can.
///
/// # Errors
///
/// That it cannot: the kernel has no KSM, or this takes root.
pub fn start(knobs: &mut Knobs) -> Result<()> {
    start_in(Path::new(DIRECTORY), knobs)
}

fn start_in(directory: &Path, knobs: &mut Knobs) -> Result<()> {
    for (name, value) in [
        ("sleep_millisecs", "0"),
        ("pages_to_scan", "10000"),
        ("run", "1"),
    ] {
        knobs.set(&directory.join(name), value)?;
    }
    Ok(())
}

/// Has it stop, so that it does not run beside what is measured. What is merged stays merged.
///
/// # Errors
///
/// Those of the file.
pub fn stop(knobs: &mut Knobs) -> Result<()> {
    knobs.set(&Path::new(DIRECTORY).join("run"), "0")
}

/// Waits until of this process `wanted` pages are merged, or nearly as many.
///
/// # Errors
///
/// That no more are found for a minute, and an interrupt.
pub fn wait(wanted: usize) -> Result<()> {
    wait_for(wanted, merged, PATIENCE)
}

fn wait_for(wanted: usize, merged: impl Fn() -> Result<usize>, patience: Duration) -> Result<()> {
    let (mut most, mut since) = (0, Instant::now());
    loop {
        let now = merged()?;
        if now as f64 >= MERGED * wanted as f64 {
            return Ok(());
        }
        if now > most {
            (most, since) = (now, Instant::now());
        }
        if since.elapsed() > patience {
            bail!("only {now} of {wanted} pages could be merged");
        }
        interrupt::sleep(POLL)?;
    }
}

fn merged() -> Result<usize> {
    const PATH: &str = "/proc/self/ksm_merging_pages";
    let text = fs::read_to_string(PATH).with_context(|| format!("cannot read {PATH}"))?;
    let count = text.trim().parse();
    count.with_context(|| format!("{PATH} is {:?}", text.trim()))
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn settings_come_back() {
        let directory = tempfile::tempdir().unwrap();
        let names = ["sleep_millisecs", "pages_to_scan", "run"];
        let read = || names.map(|name| fs::read_to_string(directory.path().join(name)).unwrap());
        for (name, value) in names.iter().zip(["20", "100", "0"]) {
            fs::write(directory.path().join(name), value).unwrap();
        }
        let mut knobs = Knobs::default();
        start_in(directory.path(), &mut knobs).unwrap();
        assert_eq!(read(), ["0", "10000", "1"]);
        drop(knobs);
        assert_eq!(read(), ["20", "100", "0"]);
    }

    #[test]
    fn patience_is_for_as_long_as_pages_are_found() {
        let (count, step) = (Cell::new(0), Cell::new(10));
        let merged = || {
            count.set(count.get() + step.get());
            Ok(count.get())
        };
        // Longer in all than it waits for one.
        wait_for(100, merged, POLL * 2).unwrap();
        assert_eq!(count.get(), 100);
        step.set(0);
        let error = wait_for(200, merged, Duration::ZERO).unwrap_err();
        assert_eq!(error.to_string(), "only 100 of 200 pages could be merged");
    }
}
