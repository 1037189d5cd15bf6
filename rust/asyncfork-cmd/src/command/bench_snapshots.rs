// SPDX-License-Identifier: GPL-2.0

//! `asyncfork bench snapshots`: several children at once, each of which has to see the memory as it
//! was when it was forked.
//!
//! Pages are written in an order that a seed gives, each time one more than before. A child knows
//! how many writes there were before it, makes them again in a copy of what the pages were at the
//! start, and compares.

use std::iter;
use std::process::ExitCode;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use asyncfork::Counters;
use asyncfork::Fork;
use rand::Rng;
use rand::SeedableRng;
use rand::rngs::SmallRng;
use serde::Deserialize;
use serde::Serialize;

use super::Mode;
use super::counted_since;
use super::repeat::Repeat;
use crate::figures::Figure;
use crate::figures::Measured;
use crate::figures::Unit;
use crate::figures::in_both_modes;
use crate::machine::Machine;
use crate::memory::Kind;
use crate::memory::Memory;
use crate::memory::Pages;
use crate::memory::monotonic;
use crate::report;
use crate::report::Latencies;
use crate::report::table;
use crate::report::time;

/// Writes between two forks, and between two looks at whether a child has ended.
const WRITES: usize = 64;
/// Sessions that a parent may have: more forks than these are not asynchronous.
const SESSIONS: i64 = 16;

/// Take several snapshots of one large process at once, while it writes, and check each
#[derive(clap::Args)]
#[command(
    after_help = "Exit status: 0, or 1 if a snapshot differs from the memory at its fork, or an \
    asynchronous fork was not asynchronous."
)]
pub struct Options {
    #[command(flatten)]
    pub repeat: Repeat,

    /// Children that are forked one after the other, while the first ones still copy
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=SESSIONS))]
    at_once: u16,
}

/// The JSON.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    benchmark: String,
    machine: Machine,
    pub mb: u64,
    pub at_once: u16,
    settle_ms: u64,
    runs: Vec<Run>,
}

/// One run of one mode.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Run {
    mode: Mode,
    /// clone3() of each child, in the parent, in their order
    calls_ns: Vec<u64>,
    /// The parent's writes, from after the first call until the last child was gone
    writes: Latencies,
    /// Pages that were written then
    pages: usize,
    /// From the start of the first call until the last child had compared everything and was gone
    gone_ns: u64,
    /// Children that saw the memory as it was when they were forked
    exact: usize,
    /// The kernel's counters over all of it
    counters: Option<Counters>,
}

impl Run {
    fn first(&self) -> u64 {
        self.calls_ns.first().copied().unwrap_or(0)
    }

    fn last(&self) -> u64 {
        self.calls_ns.last().copied().unwrap_or(0)
    }

    fn all(&self) -> u64 {
        self.calls_ns.iter().sum()
    }

    /// What is wrong with the snapshots, or with how they were made?
    fn misdone(&self) -> Option<String> {
        let all = self.calls_ns.len();
        match self.exact {
            exact if exact < all => Some(format!(
                "{} of {all} snapshots in {} mode DIFFER from the memory at their forks",
                all - exact,
                self.mode
            )),
            _ => super::misdone(self.mode, self.counters.as_ref(), all as u64, false),
        }
    }
}

impl Options {
    pub fn execute(mut self) -> Result<ExitCode> {
        let json = self.repeat.prepare(Pages::Written)?;
        Kind::from(Pages::Written)
            .require_room(2 * self.repeat.mb)
            .context("what is written while children look is there twice")?;
        let measured = self.repeat.measure(
            Pages::Written,
            |memory, mode| run(memory, mode, self.at_once.into()),
            |run| {
                format!(
                    "calls {:>8} to {:>8}  write max {:>8}  exact: {} of {} snapshots",
                    time(run.first() as f64),
                    time(run.last() as f64),
                    time(run.writes.max() as f64),
                    run.exact,
                    run.calls_ns.len()
                )
            },
        )?;
        let record = Record {
            benchmark: "snapshots".into(),
            machine: measured.machine,
            mb: self.repeat.mb,
            at_once: self.at_once,
            settle_ms: self.repeat.settle_ms,
            runs: measured.runs,
        };
        let misdone = record.runs.iter().find_map(Run::misdone);
        let table = record.table(&self.repeat.modes);
        report::finish(&table, json, &record, misdone)?;
        Ok(ExitCode::SUCCESS)
    }
}

type Part = (&'static str, fn(&Run) -> u64);
const PARTS: [Part; 7] = [
    ("call: the first of them", Run::first),
    (LAST, Run::last),
    ("calls: all of a run", Run::all),
    ("parent's write meanwhile: p50 of a run", |run| {
        run.writes.percentile(50.0)
    }),
    ("parent's write meanwhile: p99 of a run", |run| {
        run.writes.percentile(99.0)
    }),
    ("parent's write meanwhile: max of a run", |run| {
        run.writes.max()
    }),
    ("until all have compared", |run| run.gone_ns),
];
/// A figure that `asyncfork plot` draws.
pub const LAST: &str = "call: the last of them";

impl Record {
    fn figures(&self) -> Vec<Figure> {
        let figure = |(name, figure): Part, mode| Figure {
            name: name.into(),
            mode,
            unit: Unit::Time,
            samples: (self.runs.iter())
                .filter(|run| run.mode == mode)
                .map(|run| figure(run) as f64)
                .collect(),
        };
        in_both_modes(PARTS, figure)
    }

    fn line(&self) -> String {
        let exact: usize = self.runs.iter().map(|run| run.exact).sum();
        let all: usize = self.runs.iter().map(|run| run.calls_ns.len()).sum();
        format!("exact: {exact} of {all} snapshots equal the memory at the fork")
    }

    pub fn measured(&self) -> Measured {
        Measured {
            of: format!("{} at once", self.at_once),
            mb: self.mb,
            figures: self.figures(),
            notes: vec![self.line()],
        }
    }

    fn table(&self, modes: &[Mode]) -> String {
        let mut rows = vec![vec![String::new()]];
        rows[0].extend(modes.iter().map(Mode::to_string));
        let figures = self.figures();
        for (name, _) in PARTS {
            let median = |mode: &Mode| {
                let mut of_name = figures.iter().filter(|figure| figure.name == name);
                let figure = of_name.find(|figure| figure.mode == *mode);
                let samples = figure.map_or(vec![], |figure| figure.samples.clone());
                time(report::median(samples).unwrap_or(f64::NAN))
            };
            rows.push(
                iter::once(name.to_owned())
                    .chain(modes.iter().map(median))
                    .collect(),
            );
        }
        format!("\n{}{}\n", table(&rows, "<>>"), self.line())
    }
}

/// What `asyncfork bench report` makes of a record.
pub fn measured(record: serde_json::Value) -> Result<Measured> {
    let record: Record = serde_json::from_value(record)?;
    Ok(record.measured())
}

/// Pages in an order that can be had again.
struct Order {
    random: SmallRng,
    pages: usize,
}

impl Order {
    fn new(pages: usize) -> Self {
        Self {
            random: SmallRng::seed_from_u64(0),
            pages,
        }
    }

    fn next(&mut self) -> usize {
        self.random.random_range(0..self.pages)
    }
}

/// What the pages were before any write, and room to make these again.
struct Before {
    pages: Vec<u8>,
    now: Vec<u8>,
}

impl Before {
    fn read(memory: &Memory) -> Self {
        let pages: Vec<u8> = memory.offsets().map(|offset| memory.read(offset)).collect();
        Self {
            now: pages.clone(),
            pages,
        }
    }

    /// Whether `memory` is as it was after `writes` writes. Allocates nothing.
    fn is_followed_by(&mut self, writes: usize, memory: &Memory) -> bool {
        self.now.copy_from_slice(&self.pages);
        let mut order = Order::new(self.pages.len());
        for _ in 0..writes {
            let page = &mut self.now[order.next()];
            *page = page.wrapping_add(1);
        }
        let mut pages = memory.offsets().zip(&self.now);
        pages.all(|(offset, expected)| memory.read(offset) == *expected)
    }
}

fn run(memory: &mut Memory, mode: Mode, at_once: usize) -> Result<Run> {
    memory.touch()?;
    let mut before = Before::read(memory);
    let mut order = Order::new(before.pages.len());
    let mut run = Run {
        mode,
        calls_ns: Vec::with_capacity(at_once),
        writes: Latencies::default(),
        pages: 0,
        gone_ns: 0,
        exact: 0,
        counters: None,
    };
    let mut writes = 0;
    let counters = asyncfork::counters().ok();
    let mut children = Vec::with_capacity(at_once);
    let begun = monotonic();
    for _ in 0..at_once {
        let start = monotonic();
        // SAFETY: this process has one thread.
        let fork = unsafe { asyncfork::raw::clone3(mode.clone_flags(), libc::SIGCHLD) };
        let ns = monotonic() - start;
        match fork.context("clone3")? {
            Fork::Child => {
                let exact = before.is_followed_by(writes, memory);
                // SAFETY: allowed at any time.
                unsafe { libc::_exit(i32::from(!exact)) }
            }
            Fork::Parent(pid) => children.push(pid),
        }
        run.calls_ns.push(ns);
        writes += write(memory, &mut order, &mut run.writes);
    }
    while let Some(pid) = children.last() {
        match ended(*pid)? {
            None => writes += write(memory, &mut order, &mut run.writes),
            Some(status) => {
                // Whatever else a child ends with is not its own doing.
                match (libc::WIFEXITED(status), libc::WEXITSTATUS(status)) {
                    (true, 0) => run.exact += 1,
                    (true, 1) => {}
                    _ => bail!("a child ended with wait status {status:#x}"),
                }
                children.pop();
            }
        }
    }
    run.gone_ns = monotonic() - begun;
    run.counters = counted_since(counters);
    let mut order = Order::new(before.pages.len());
    before.now.fill(0);
    (0..writes).for_each(|_| before.now[order.next()] = 1);
    run.pages = before.now.iter().filter(|page| **page == 1).count();
    Ok(run)
}

/// The next [`WRITES`], and how many these are.
fn write(memory: &mut Memory, order: &mut Order, latencies: &mut Latencies) -> usize {
    for _ in 0..WRITES {
        let offset = memory.offset(order.next());
        let start = monotonic();
        memory.write(offset);
        latencies.record(monotonic() - start);
    }
    WRITES
}

/// The wait status of a child, if it has ended.
fn ended(pid: libc::pid_t) -> Result<Option<i32>> {
    let mut status = 0;
    // SAFETY: `status` is valid for writes.
    match unsafe { libc::waitpid(pid, &raw mut status, libc::WNOHANG) } {
        -1 => Err(std::io::Error::last_os_error()).context("waitpid"),
        0 => Ok(None),
        _ => Ok(Some(status)),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn memory() -> Memory {
        let mut memory = Memory::new(4 << 20, Pages::Written, Duration::ZERO).unwrap();
        memory.touch().unwrap();
        memory
    }

    /// More writes, or fewer, or one to another page.
    #[test]
    fn what_differs_is_found() {
        let mut memory = memory();
        let mut before = Before::read(&memory);
        let mut order = Order::new(before.pages.len());
        assert!(before.is_followed_by(0, &memory));
        assert!(!before.is_followed_by(1, &memory));
        let writes = write(&mut memory, &mut order, &mut Latencies::default());
        assert!(before.is_followed_by(writes, &memory));
        assert!(!before.is_followed_by(writes - 1, &memory));
        memory.write(memory.offset(7));
        assert!(!before.is_followed_by(writes, &memory));
    }

    #[test]
    fn default_forks_of_this_process() {
        let mut memory = memory();
        let run = run(&mut memory, Mode::Default, 3).unwrap();
        assert_eq!((run.calls_ns.len(), run.exact), (3, 3));
        assert!(run.writes.count() >= 3 * WRITES as u64);
        assert!(run.pages > 100 && run.gone_ns > run.all());
        assert_eq!(run.misdone(), None);
    }

    fn record() -> Record {
        let run = |mode, ns| Run {
            mode,
            calls_ns: vec![ns, 2 * ns],
            writes: Latencies::default(),
            pages: 1,
            gone_ns: 10 * ns,
            exact: 2,
            counters: Some(Counters::parse(match mode {
                Mode::Default => "async_pgtable_session_start 0\n",
                Mode::Async => "async_pgtable_session_start 2\n",
            })),
        };
        Record {
            benchmark: "snapshots".into(),
            machine: Machine::read(None),
            mb: 64,
            at_once: 2,
            settle_ms: 0,
            runs: vec![run(Mode::Default, 1_000_000), run(Mode::Async, 1_000)],
        }
    }

    #[test]
    fn json_and_table() {
        let json = serde_json::to_value(record()).unwrap();
        let back: Record = serde_json::from_value(json.clone()).unwrap();
        assert_eq!(back, record());
        let measured = measured(json).unwrap();
        assert_eq!(measured.samples(LAST, Mode::Async), Some(&[2e3][..]));
        let text = record().table(&Mode::BOTH);
        assert!(text.contains("call: the last of them"), "{text}");
        assert!(text.ends_with("exact: 4 of 4 snapshots equal the memory at the fork\n"));
    }

    #[test]
    fn a_wrong_snapshot_or_mode_is_an_error() {
        let misdone = |record: &Record| record.runs.iter().find_map(Run::misdone);
        assert_eq!(misdone(&record()), None);
        let mut wrong = record();
        wrong.runs[1].exact = 1;
        assert!(
            misdone(&wrong)
                .unwrap()
                .starts_with("1 of 2 snapshots in async")
        );
        let mut wrong = record();
        wrong.runs[1].calls_ns.push(1);
        wrong.runs[1].exact = 3;
        assert!(misdone(&wrong).unwrap().contains("session_start +2"));
    }
}
