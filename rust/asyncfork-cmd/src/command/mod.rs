// SPDX-License-Identifier: GPL-2.0

//! One file per subcommand.

pub mod bench_calls;
pub mod bench_fork;
pub mod bench_insn;
pub mod bench_model;
pub mod bench_redis;
pub mod bench_report;
pub mod bench_snapshots;
pub mod bench_spawn;
pub mod bench_suite;
pub mod doctor;
#[cfg(test)]
mod examples;
pub mod generate;
pub mod plot;
pub mod probe;
mod repeat;
pub mod run;
pub mod status;
pub mod watch;

use std::fmt;
use std::io;
use std::process::ExitCode;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use asyncfork::Counters;
use clap::Subcommand;
use clap::ValueEnum;
use serde::Deserialize;
use serde::Serialize;

#[derive(Subcommand)]
pub enum Command {
    Run(run::Options),
    Status(status::Options),
    /// Tell by the exit status alone whether the running kernel has the feature
    Probe,
    Doctor(doctor::Options),
    Watch(watch::Options),
    /// Measure
    #[command(subcommand)]
    Bench(Bench),
    Plot(plot::Options),
    #[command(hide = true)]
    Generate(generate::Options),
}

#[derive(Subcommand)]
pub enum Bench {
    Fork(bench_fork::Options),
    Calls(bench_calls::Options),
    Redis(bench_redis::Options),
    Insn(bench_insn::Options),
    Budget(bench_insn::BudgetOptions),
    Snapshots(bench_snapshots::Options),
    Spawn(bench_spawn::Options),
    Model(bench_model::Options),
    Suite(bench_suite::Options),
    Report(bench_report::ReportOptions),
    Compare(bench_report::CompareOptions),
}

impl Command {
    pub fn execute(self) -> Result<ExitCode> {
        match self {
            Self::Run(options) => Ok(options.execute()),
            Self::Status(options) => options.execute(),
            Self::Probe => probe::execute(),
            Self::Doctor(options) => options.execute(),
            Self::Watch(options) => options.execute(),
            Self::Bench(Bench::Fork(options)) => options.execute(),
            Self::Bench(Bench::Calls(options)) => options.execute(),
            Self::Bench(Bench::Redis(options)) => options.execute(),
            Self::Bench(Bench::Insn(options)) => options.execute(),
            Self::Bench(Bench::Budget(options)) => options.execute(),
            Self::Bench(Bench::Snapshots(options)) => options.execute(),
            Self::Bench(Bench::Spawn(options)) => options.execute(),
            Self::Bench(Bench::Model(options)) => options.execute(),
            Self::Bench(Bench::Suite(options)) => options.execute(),
            Self::Bench(Bench::Report(options)) => options.execute(),
            Self::Bench(Bench::Compare(options)) => options.execute(),
            Self::Plot(options) => options.execute(),
            Self::Generate(options) => options.execute(),
        }
    }
}

/// Which fork a benchmark measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// The page tables are copied in the call
    Default,
    /// The page tables are copied after the call
    Async,
}

impl Mode {
    pub const BOTH: [Self; 2] = [Self::Default, Self::Async];

    /// Flags of a `clone3()` in this mode.
    fn clone_flags(self) -> u64 {
        match self {
            Self::Default => 0,
            Self::Async => asyncfork::CLONE_ASYNC_PGTABLE,
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Default => "default",
            Self::Async => "async",
        })
    }
}

/// What is said wherever the kernel lacks the feature.
const ABSENT: &str =
    "this kernel has no CLONE_ASYNC_PGTABLE (not patched, or CONFIG_ASYNC_PGTABLE is off)";

/// The error of a function of the library, in words.
fn explain(error: io::Error) -> anyhow::Error {
    if asyncfork::is_absent(&error) {
        anyhow::anyhow!(ABSENT)
    } else {
        error.into()
    }
}

/// The kernel's counters, or none if it lacks the feature and `modes` can do without.
fn counters_for(modes: &[Mode]) -> Result<Option<asyncfork::Counters>> {
    if asyncfork::probe().context("cannot probe the kernel")? {
        return asyncfork::counters()
            .map(Some)
            .context("cannot read the counters");
    }
    if modes.contains(&Mode::Async) {
        bail!("{ABSENT}; --modes default measures without it");
    }
    Ok(None)
}

/// Has this process make forks of each of `modes` by flag alone, with each mode once and in order.
///
/// # Errors
///
/// That the kernel or its sysctl does not let it.
fn require_modes(modes: &mut Vec<Mode>) -> Result<()> {
    modes.sort();
    modes.dedup();
    if counters_for(modes)?.is_some() {
        let mode = asyncfork::mode()?;
        if mode == asyncfork::Mode::Off && modes.contains(&Mode::Async)
            || mode == asyncfork::Mode::Every && modes.contains(&Mode::Default)
        {
            bail!("vm.async_pgtable is {mode}, this needs 1");
        }
        asyncfork::set_process(false)?;
    }
    Ok(())
}

/// What the kernel has counted since `before`, if it counts.
fn counted_since(before: Option<Counters>) -> Option<Counters> {
    Some(asyncfork::counters().ok()?.since(&before?))
}

/// What is wrong with how `forks` forks were made, by the kernel's counters: asynchronously or not,
/// as asked? There `may_be_nothing` to defer.
fn misdone(
    mode: Mode,
    counters: Option<&Counters>,
    forks: u64,
    may_be_nothing: bool,
) -> Option<String> {
    let Some(counters) = counters else {
        return (mode == Mode::Async).then(|| "the kernel counts nothing".into());
    };
    let (mut sessions, mut fallbacks) = (counters.get("session_start"), counters.fallbacks());
    if may_be_nothing {
        let nothing = counters.get("fallback_small");
        (sessions, fallbacks) = (sessions + nothing, fallbacks - nothing);
    }
    let wanted = if mode == Mode::Async { forks } else { 0 };
    (sessions != wanted || fallbacks != 0).then(|| {
        format!("a run in {mode} mode counted session_start +{sessions}, fallbacks +{fallbacks}")
    })
}
