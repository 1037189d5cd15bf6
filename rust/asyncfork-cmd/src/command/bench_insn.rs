// SPDX-License-Identifier: GPL-2.0

//! `asyncfork bench insn`: costs in instructions, in a guest whose clock counts them.
//!
//! `tools/cost/cost.c` measures, in two processes: what has been used before is not to be seen in
//! what is measured without. This keeps what it says, as other benchmarks do. What a server pays
//! for its fork is counted by the server.

mod budget;
mod server;
mod toolchain;

use std::env;
use std::path::PathBuf;
use std::process::Command;
use std::process::ExitCode;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use serde::Deserialize;
use serde::Serialize;

use super::Mode;
use crate::figures::Figure;
use crate::figures::Measured;
use crate::figures::Unit;
use crate::machine::Machine;
use crate::report;
use crate::report::JsonFile;
pub use budget::Options as BudgetOptions;
use toolchain::Toolchain;

/// Count the instructions of calls, faults and hooks, in a guest of tools/vm/run -i
///
/// Sets vm.async_pgtable to 1. Nothing may have used an asynchronous fork before.
#[derive(clap::Args)]
#[command(after_help = "Exit status: 0; 1 if an asynchronous fork was not asynchronous.")]
pub struct Options {
    /// tools/cost/cost.c, built [default: the file cost beside this program]
    #[arg(long, value_name = "PATH")]
    program: Option<PathBuf>,

    /// Only what a file of costs is about, see bench budget
    #[arg(long)]
    small: bool,

    /// Instead, the fork of a Redis server that uses this much memory
    #[arg(long, value_name = "MIB", conflicts_with_all = ["program", "small"],
          value_parser = clap::value_parser!(u64).range(8..1 << 24))]
    redis: Option<u64>,

    /// Write everything measured to FILE
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// How often everything is repeated, also by cost.c.
pub const ROUNDS: u32 = 5;

/// The JSON.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Record {
    benchmark: String,
    machine: Machine,
    #[serde(default)]
    toolchain: Toolchain,
    costs: Vec<Cost>,
}

/// One line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Cost {
    what: String,
    /// plain, async; of what anybody does: hooks off, hooks on, user
    how: String,
    /// Instructions, or bytes if `what` says so
    samples: Vec<u64>,
}

impl Cost {
    /// None for a line of another kind: `WHAT  HOW  MEDIAN  (SAMPLE SAMPLE...)`.
    fn parse(line: &str) -> Option<Self> {
        let (line, samples) = line.strip_suffix(')')?.split_once(" (")?;
        let (name, _median) = line.trim_end().rsplit_once(' ')?;
        let (what, how) = name.trim_end().rsplit_once("  ")?;
        let samples: Option<Vec<u64>> = samples.split(' ').map(|s| s.parse().ok()).collect();
        Some(Self {
            what: what.trim_end().into(),
            how: how.into(),
            samples: samples?,
        })
    }

    fn unit(&self) -> Unit {
        if self.what.ends_with(", bytes") {
            Unit::Bytes
        } else {
            Unit::Instructions
        }
    }

    fn figure(&self, name: String, mode: Mode) -> Figure {
        Figure {
            name,
            mode,
            unit: self.unit(),
            samples: self.samples.iter().map(|sample| *sample as f64).collect(),
        }
    }
}

impl Options {
    pub fn execute(self) -> Result<ExitCode> {
        let json = self.json.as_deref().map(JsonFile::create).transpose()?;
        let machine = Machine::read(None);
        println!("{}", machine.line());
        let costs = match self.redis {
            Some(mib) => server::count(mib)?,
            None => self.count()?,
        };
        let record = Record {
            benchmark: "insn".into(),
            machine,
            toolchain: Toolchain::read(),
            costs,
        };
        if let Some(json) = json {
            json.write(&record)?;
        }
        Ok(ExitCode::SUCCESS)
    }

    /// What `cost` counts, before the first use of the feature and after.
    fn count(&self) -> Result<Vec<Cost>> {
        let beside = || -> Result<PathBuf> { Ok(env::current_exe()?.with_file_name("cost")) };
        let program = self.program.clone().map_or_else(beside, Ok)?;
        let run = |arguments: &[&str]| -> Result<Vec<Cost>> {
            let output = Command::new(&program).args(arguments).output();
            let output = output.with_context(|| format!("cannot run {}", program.display()))?;
            if !output.status.success() {
                let reason = String::from_utf8_lossy(&output.stderr);
                bail!("{}: {}", output.status, reason.trim_end());
            }
            let text = String::from_utf8_lossy(&output.stdout);
            report::print(&text)?;
            Ok(text.lines().filter_map(Cost::parse).collect())
        };
        let mut costs = run(&["off"])?;
        set_mode(asyncfork::Mode::OnRequest)?;
        costs.extend(run(if self.small { &["small"] } else { &[] })?);
        if costs.is_empty() {
            bail!("{} has measured nothing", program.display());
        }
        Ok(costs)
    }
}

fn set_mode(mode: asyncfork::Mode) -> Result<()> {
    asyncfork::set_mode(mode)
        .context("cannot set vm.async_pgtable (it takes root, and the feature)")
}

/// What `asyncfork bench report` makes of a record: beside an asynchronous call the plain one,
/// beside what anybody does with the hooks on, or after asynchronous forks of its own, the same
/// without.
pub fn measured(record: serde_json::Value) -> Result<Measured> {
    let record: Record = serde_json::from_value(record)?;
    let mut figures = Vec::new();
    for cost in &record.costs {
        let (base, suffix) = match cost.how.as_str() {
            "async" => ("plain", ""),
            "hooks on" => ("hooks off", ": hooks on against off"),
            "user" => ("hooks off", ": after an async fork, against hooks off"),
            _ => continue,
        };
        let name = format!("{}{suffix}", cost.what);
        let base = record
            .costs
            .iter()
            .find(|other| other.what == cost.what && other.how == base);
        figures.extend(base.map(|base| base.figure(name.clone(), Mode::Default)));
        figures.push(cost.figure(name, Mode::Async));
    }
    Ok(Measured {
        of: "instructions".into(),
        mb: 0,
        figures,
        notes: vec![],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
        read fault                     hooks off       1188  (1189 1187 1188)\n\
        read fault                     hooks on        1219  (1227 1218 1219)\n\
        call, 64 MiB                   plain        3650644  (3879532 3665919 3635950)\n\
        call, 64 MiB                   async         127837  (125621 124576 127837)\n  \
        async/plain 0.0350\n\
        kernel memory, 64 MiB, bytes   async          36864  (36864 36864 36864)\n";

    fn costs() -> Vec<Cost> {
        TEXT.lines().filter_map(Cost::parse).collect()
    }

    #[test]
    fn lines() {
        let costs = costs();
        assert_eq!(costs.len(), 5);
        assert_eq!(costs[1].what, "read fault");
        assert_eq!(costs[1].how, "hooks on");
        assert_eq!(costs[1].samples, [1227, 1218, 1219]);
        assert_eq!(costs[3].what, "call, 64 MiB");
        assert_eq!(costs[4].unit(), Unit::Bytes);
        for other in ["", "x", "x (1)", "x  y 1 (one)", "(1 2)"] {
            assert_eq!(Cost::parse(other), None, "{other}");
        }
    }

    #[test]
    fn each_has_what_it_is_compared_with() {
        let record = Record {
            benchmark: "insn".into(),
            machine: Machine::read(None),
            toolchain: Toolchain::default(),
            costs: costs(),
        };
        let measured = measured(serde_json::to_value(record).unwrap()).unwrap();
        let samples = |name, mode| measured.samples(name, mode);
        let hooks = "read fault: hooks on against off";
        assert_eq!(
            samples(hooks, Mode::Default),
            Some(&[1189., 1187., 1188.][..])
        );
        assert_eq!(
            samples(hooks, Mode::Async),
            Some(&[1227., 1218., 1219.][..])
        );
        assert_eq!(samples("call, 64 MiB", Mode::Default).unwrap().len(), 3);
        let memory = "kernel memory, 64 MiB, bytes";
        assert_eq!(samples(memory, Mode::Default), None);
        assert_eq!(samples(memory, Mode::Async).unwrap().len(), 3);
    }
}
