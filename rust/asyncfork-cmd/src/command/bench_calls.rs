// SPDX-License-Identifier: GPL-2.0

//! `asyncfork bench calls`: what system calls on its memory cost a process while its child has not
//! got all page tables yet.
//!
//! Each run makes the same calls twice per mode: without a child, and at once after a fork. They are
//! made in turn, and those on written memory from its end, which the child copies last. A call was
//! made in the window of an asynchronous fork if it had returned before the child's first
//! instruction. A default fork leaves no such window, so all calls after it count.

use std::fmt;
use std::io;
use std::process::ExitCode;
use std::thread;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use asyncfork::Counters;
use clap::ValueEnum;
use serde::Deserialize;
use serde::Serialize;

use super::Mode;
use super::bench_fork::Child;
use super::counted_since;
use super::repeat::Repeat;
use crate::figures::Figure;
use crate::figures::Measured;
use crate::figures::Unit;
use crate::figures::in_both_modes;
use crate::machine::Machine;
use crate::memory::Memory;
use crate::memory::Pages;
use crate::memory::RANGE;
use crate::memory::map;
use crate::memory::monotonic;
use crate::report;
use crate::report::median;
use crate::report::time;

/// Time mmap, munmap, brk, mprotect and thread creation while a child is pending
#[derive(clap::Args)]
#[command(
    after_help = "Exit status: 0, or 1 if an asynchronous fork was not asynchronous, or no call was \
    made while its child was pending."
)]
pub struct Options {
    #[command(flatten)]
    pub repeat: Repeat,

    /// Calls of each kind, without a child and after a fork; each takes 4 MiB
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
}

/// The JSON.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Record {
    benchmark: String,
    machine: Machine,
    mb: u64,
    rounds: u32,
    settle_ms: u64,
    runs: Vec<Run>,
}

/// One run of one mode: the calls without a child, a fork, and the calls.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Run {
    mode: Mode,
    /// clone3(), in the parent
    call_ns: u64,
    /// From the start of that call to the child's first instruction
    child_ns: u64,
    outside: Vec<Timed>,
    after: Vec<Timed>,
    /// The kernel's counters over the fork and the calls after it
    counters: Option<Counters>,
}

/// One call.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Timed {
    call: Call,
    /// Its start, from that of clone3(), or from when the calls without a child began
    at_ns: u64,
    ns: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
enum Call {
    Mmap,
    MunmapNew,
    MunmapWritten,
    BrkUp,
    BrkDown,
    MprotectWritten,
    Thread,
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Mmap => "mmap",
            Self::MunmapNew => "munmap, new memory",
            Self::MunmapWritten => "munmap, written memory",
            Self::BrkUp => "brk up",
            Self::BrkDown => "brk down",
            Self::MprotectWritten => "mprotect, written memory",
            Self::Thread => "thread creation",
        })
    }
}

impl Run {
    /// What is wrong with how the fork was made: asynchronously or not, as asked?
    fn misdone(&self) -> Option<String> {
        super::misdone(self.mode, self.counters.as_ref(), 1, false)
    }

    /// The calls in the window.
    fn inside(&self) -> impl Iterator<Item = &Timed> {
        let in_time = |timed: &&Timed| timed.at_ns + timed.ns <= self.child_ns;
        (self.after.iter()).filter(move |timed| self.mode == Mode::Default || in_time(timed))
    }
}

impl Options {
    pub fn execute(mut self) -> Result<ExitCode> {
        let needed = (2 * u64::from(self.rounds) + 1) * (RANGE >> 20) as u64;
        if self.repeat.mb < needed {
            bail!("--rounds {} takes --mb {needed} or more", self.rounds);
        }
        let json = self.repeat.prepare(Pages::Written)?;
        let rounds = self.rounds as usize;
        let repeated = self.repeat.measure(
            Pages::Written,
            |memory, mode| run(memory, mode, rounds),
            |run| {
                let (inside, all) = (run.inside().count(), run.after.len());
                let call = time(run.call_ns as f64);
                format!("call {call:>8}  {inside} of {all} calls in the window")
            },
        )?;
        let record = Record {
            benchmark: "calls".into(),
            machine: repeated.machine,
            mb: self.repeat.mb,
            rounds: self.rounds,
            settle_ms: self.repeat.settle_ms,
            runs: repeated.runs,
        };
        let table = record.table(&self.repeat.modes);
        report::finish(&table, json, &record, record.misdone())?;
        Ok(ExitCode::SUCCESS)
    }
}

/// When a call was made, and what of its times in a run is looked at.
type Part = (&'static str, fn(&Run, Call) -> Option<f64>);
const PARTS: [Part; 4] = [
    ("outside: median of a run", |run, call| {
        median(of(call, run.outside.iter()))
    }),
    ("outside: max of a run", |run, call| {
        of(call, run.outside.iter()).reduce(f64::max)
    }),
    ("in the window: median of a run", |run, call| {
        median(of(call, run.inside()))
    }),
    ("in the window: max of a run", |run, call| {
        of(call, run.inside()).reduce(f64::max)
    }),
];

fn of<'a>(call: Call, timed: impl Iterator<Item = &'a Timed>) -> impl Iterator<Item = f64> {
    timed
        .filter(move |timed| timed.call == call)
        .map(|timed| timed.ns as f64)
}

impl Record {
    /// Of each run that has any.
    fn samples(&self, (_, part): Part, call: Call, mode: Mode) -> Vec<f64> {
        let runs = self.runs.iter().filter(|run| run.mode == mode);
        runs.filter_map(|run| part(run, call)).collect()
    }

    fn misdone(&self) -> Option<String> {
        if let Some(reason) = self.runs.iter().find_map(Run::misdone) {
            return Some(reason);
        }
        let mut pending = self.runs.iter().filter(|run| run.mode == Mode::Async);
        let none = pending.clone().next().is_some() && pending.all(|r| r.inside().next().is_none());
        none.then(|| "no call was made while a child was pending; make --mb larger".into())
    }

    fn table(&self, modes: &[Mode]) -> String {
        let mut rows = vec![vec![String::new(), String::new()]];
        rows[0].extend(modes.iter().map(Mode::to_string));
        rows[0].extend((modes.len() == 2).then(|| "async/default".to_owned()));
        for call in Call::value_variants() {
            for (i, part) in PARTS.into_iter().enumerate() {
                let name = if i == 0 {
                    call.to_string()
                } else {
                    String::new()
                };
                let medians = modes
                    .iter()
                    .map(|mode| median(self.samples(part, *call, *mode)));
                let medians: Vec<_> = medians.collect();
                let mut row = vec![name, part.0.to_owned()];
                row.extend(medians.iter().map(|ns| ns.map_or("-".into(), time)));
                if let [Some(default), Some(asynchronous)] = medians[..] {
                    row.push(format!("{:.3}", asynchronous / default));
                }
                rows.push(row);
            }
        }
        format!("\n{}", report::table(&rows, "<<>>>"))
    }
}

/// What `asyncfork bench report` makes of a record.
pub fn measured(record: serde_json::Value) -> Result<Measured> {
    let record: Record = serde_json::from_value(record)?;
    let parts = (Call::value_variants().iter()).flat_map(|call| PARTS.map(|part| (*call, part)));
    let figure = |(call, part): (Call, Part), mode| Figure {
        name: format!("{call}, {}", part.0),
        mode,
        unit: Unit::Time,
        samples: record.samples(part, call, mode),
    };
    let pending = record.runs.iter().filter(|run| run.mode == Mode::Async);
    let (inside, all) = pending.fold((0, 0), |(inside, all), run| {
        (inside + run.inside().count(), all + run.after.len())
    });
    Ok(Measured {
        of: "calls beside a child".into(),
        mb: record.mb,
        figures: in_both_modes(parts, figure),
        notes: vec![format!(
            "{inside} of {all} calls were made while a child was pending"
        )],
    })
}

/// For a picture: each call, and the names of its medians outside and in the window.
pub fn pictured() -> impl Iterator<Item = (String, String, String)> {
    let [(outside, _), _, (inside, _), _] = PARTS;
    let names = move |call: &Call| {
        let figure = |part| format!("{call}, {part}");
        (call.to_string(), figure(outside), figure(inside))
    };
    Call::value_variants().iter().map(names)
}

fn run(memory: &mut Memory, mode: Mode, rounds: usize) -> Result<Run> {
    memory.touch()?;
    let outside = calls(memory, rounds, monotonic())?;
    memory.touch()?;
    let before = asyncfork::counters().ok();
    let mut child = Child::fork(mode)?;
    let after = calls(memory, rounds, child.called)?;
    let (call_ns, child_ns) = (child.call_ns, child.first_instruction()?);
    let counters = counted_since(before);
    child.end()?;
    Ok(Run {
        mode,
        call_ns,
        child_ns,
        outside,
        after,
        counters,
    })
}

/// Makes each call in turn, and puts the memory right afterwards.
fn calls(memory: &mut Memory, rounds: usize, origin: u64) -> Result<Vec<Timed>> {
    let mut all = Vec::with_capacity(rounds * Call::value_variants().len());
    let mut timed = |call, start| {
        let ns = monotonic() - start;
        let at_ns = start - origin;
        all.push(Timed { call, at_ns, ns });
    };
    // A range stays on both sides of each hole, so that no thread's stack fits into it.
    let offsets = |round| {
        let last = memory.length() - (2 * round + 1) * RANGE;
        [last - RANGE, last]
    };
    let offsets: Vec<[usize; 2]> = (0..rounds).map(offsets).collect();
    for [to_unmap, to_protect] in &offsets {
        let start = monotonic();
        let new = map(RANGE)?;
        timed(Call::Mmap, start);
        let start = monotonic();
        // SAFETY: the mapping above, which nothing refers to.
        check(unsafe { libc::munmap(new.cast(), RANGE) })?;
        timed(Call::MunmapNew, start);

        let start = monotonic();
        memory.unmap(*to_unmap, RANGE)?;
        timed(Call::MunmapWritten, start);
        let start = monotonic();
        memory.protect(*to_protect, RANGE, libc::PROT_READ)?;
        timed(Call::MprotectWritten, start);

        for (call, bytes) in [
            (Call::BrkUp, RANGE as isize),
            (Call::BrkDown, -(RANGE as isize)),
        ] {
            let start = monotonic();
            move_break(bytes)?;
            timed(call, start);
        }

        let start = monotonic();
        let thread = thread::Builder::new().spawn(|| ());
        timed(Call::Thread, start);
        let ended = thread.context("cannot create a thread")?.join();
        ended.expect("the thread does nothing");
    }
    for [to_unmap, to_protect] in offsets {
        memory.map_again(to_unmap, RANGE)?;
        memory.protect(to_protect, RANGE, libc::PROT_READ | libc::PROT_WRITE)?;
    }
    Ok(all)
}

/// Gives the heap so many bytes more, or takes back what it was given just now.
fn move_break(bytes: isize) -> Result<()> {
    // SAFETY: this process has one thread, which allocates nothing between the two calls that move
    // it up and down, so what is taken back is nobody's.
    let old = unsafe { libc::sbrk(bytes) };
    check(if old as isize == -1 { -1 } else { 0 }).context("brk")
}

fn check(result: libc::c_int) -> Result<()> {
    match result {
        -1 => Err(io::Error::last_os_error().into()),
        _ => Ok(()),
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// Two calls of each kind outside, and two after the fork, of which the second is too late.
    fn run(mode: Mode, ns: u64) -> Run {
        let calls = |times: [(u64, u64); 2]| -> Vec<Timed> {
            let call = |(at_ns, ns)| {
                let each = Call::value_variants().iter();
                each.map(move |call| Timed {
                    call: *call,
                    at_ns,
                    ns,
                })
            };
            times.into_iter().flat_map(call).collect()
        };
        let sessions = u64::from(mode == Mode::Async);
        Run {
            mode,
            call_ns: 100,
            child_ns: 20_000,
            outside: calls([(0, 1000), (1000, 1000)]),
            after: calls([(100, ns), (19_000, 2 * ns)]),
            counters: Some(Counters::parse(&format!(
                "async_pgtable_session_start {sessions}\n"
            ))),
        }
    }

    pub fn example() -> impl Serialize {
        record()
    }

    fn record() -> Record {
        Record {
            benchmark: "calls".into(),
            machine: Machine::read(None),
            mb: 64,
            rounds: 2,
            settle_ms: 0,
            runs: vec![run(Mode::Default, 2000), run(Mode::Async, 3000)],
        }
    }

    #[test]
    fn json_round_trip() {
        let json = serde_json::to_string(&record()).unwrap();
        assert_eq!(serde_json::from_str::<Record>(&json).unwrap(), record());
    }

    #[test]
    fn the_window_ends_with_the_childs_start() {
        let measured = measured(serde_json::to_value(record()).unwrap()).unwrap();
        let max = |mode| measured.samples("mmap, in the window: max of a run", mode);
        assert_eq!(max(Mode::Default).unwrap(), [4000.0]);
        assert_eq!(max(Mode::Async).unwrap(), [3000.0]);
        assert_eq!(
            measured.notes,
            ["7 of 14 calls were made while a child was pending"]
        );
        for (_, outside, inside) in pictured() {
            for figure in [outside, inside] {
                assert!(measured.names().contains(&figure.as_str()), "{figure}");
            }
        }
        let text = record().table(&Mode::BOTH);
        assert!(text.contains("thread creation"), "{text}");
    }

    #[test]
    fn a_window_without_calls_is_no_result() {
        assert_eq!(record().misdone(), None);
        let mut late = record();
        late.runs[1].child_ns = 50;
        assert!(late.misdone().unwrap().contains("make --mb larger"));
        let mut wrong = record();
        wrong.runs[1].counters = Some(Counters::parse("async_pgtable_session_start 0\n"));
        assert!(wrong.misdone().unwrap().contains("session_start +0"));
    }
}
