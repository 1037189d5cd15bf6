// SPDX-License-Identifier: GPL-2.0

//! `asyncfork status`: whether the kernel has the feature, how it is set, what it has done.

mod process;

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use anyhow::Result;
use asyncfork::Counters;
use serde::Deserialize;
use serde::Serialize;

use super::ABSENT;
use crate::machine::Uname;
use crate::report;
use crate::report::table;
pub use process::decision;

/// Show whether this kernel has the feature, how it is set, and its counters
///
/// With PID: whether a fork() of that process would be asynchronous and who says so, what became of
/// its forks since it was started, and how much of their time has moved into its writes.
#[derive(clap::Args)]
#[command(
    after_help = "Exit status: 0 if the kernel has the feature, 1 if not, or if PID cannot be \
    looked at, 2 for wrong arguments."
)]
pub struct Options {
    /// Print JSON
    #[arg(long)]
    json: bool,

    /// Show this process [default: the machine]
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    pid: Option<u32>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Status {
    uname: Uname,
    present: bool,
    /// vm.async_pgtable
    mode: Option<asyncfork::Mode>,
    /// The prctl, as this process inherited it
    process: Option<bool>,
    /// Since boot, without the probe's own fork
    counters: Option<Counters>,
}

impl Status {
    fn read() -> Result<Self> {
        let mut status = Self {
            uname: Uname::read(),
            present: false,
            mode: None,
            process: None,
            counters: None,
        };
        // Before the probe, which is counted too.
        let counters = asyncfork::counters();
        status.present = asyncfork::probe().context("cannot probe the kernel")?;
        if status.present {
            status.counters = Some(counters.context("cannot read the counters")?);
            status.mode = Some(asyncfork::mode().context("cannot read vm.async_pgtable")?);
            status.process = Some(asyncfork::process().context("cannot read the prctl")?);
        }
        Ok(status)
    }

    fn table(&self) -> String {
        let mut rows = vec![vec!["kernel".into(), self.uname.release.clone()]];
        if let Some(mode) = self.mode {
            rows.push(vec!["vm.async_pgtable".into(), mode.to_string()]);
        }
        if let Some(on) = self.process {
            rows.push(vec![
                "this process".into(),
                if on { "on" } else { "off" }.into(),
            ]);
        }
        let mut text = table(&rows, "<<");
        if let Some(counters) = &self.counters {
            let row = |(name, value): (&str, u64)| {
                vec![
                    name.into(),
                    value.to_string(),
                    asyncfork::meaning(name).unwrap_or("").into(),
                ]
            };
            text.push_str("\ncounters since boot\n");
            text.push_str(&table(&counters.iter().map(row).collect::<Vec<_>>(), "<><"));
        }
        text
    }
}

impl Options {
    pub fn execute(self) -> Result<ExitCode> {
        if let Some(pid) = self.pid {
            let process = process::Process::read(Path::new("/"), pid)?;
            report::print(&if self.json {
                serde_json::to_string_pretty(&process)? + "\n"
            } else {
                process.table()
            })?;
            return Ok(ExitCode::SUCCESS);
        }
        let status = Status::read()?;
        if self.json {
            report::print(&(serde_json::to_string_pretty(&status)? + "\n"))?;
        } else {
            report::print(&status.table())?;
        }
        if !status.present {
            eprintln!("asyncfork: {ABSENT}");
            return Ok(ExitCode::FAILURE);
        }
        Ok(ExitCode::SUCCESS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patched() -> Status {
        Status {
            uname: Uname::read(),
            present: true,
            mode: Some(asyncfork::Mode::OnRequest),
            process: Some(false),
            counters: Some(Counters::parse(
                "async_pgtable_session_start 3\nasync_pgtable_brand_new 1\n",
            )),
        }
    }

    #[test]
    fn json_round_trip() {
        let json = serde_json::to_string(&patched()).unwrap();
        assert_eq!(serde_json::from_str::<Status>(&json).unwrap(), patched());
    }

    #[test]
    fn table_has_a_line_per_fact() {
        let text = patched().table();
        assert!(
            text.contains("vm.async_pgtable  1 (on request)\n"),
            "{text}"
        );
        assert!(
            text.contains("session_start  3  forks whose copy was deferred\n"),
            "{text}"
        );
        assert!(text.contains("brand_new      1\n"), "{text}");
    }
}
