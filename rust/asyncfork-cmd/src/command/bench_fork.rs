// SPDX-License-Identifier: GPL-2.0

//! `asyncfork bench fork`: what one call costs, with and without the flag.
//!
//! One process with touched anonymous memory in 4 KiB pages, forked by the same `clone3()` call
//! with the flag off and on in turn. Each run forks twice. After the first fork the parent leaves
//! its memory alone, and the child says when it executed its first instruction: as the kernel fills
//! the child's tables before it lets the child run, its memory was complete by then. After the
//! second fork the parent writes at once, one byte per 2 MiB.

use std::io::Read;
use std::iter;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use asyncfork::Counters;
use asyncfork::Fork;
use serde::Deserialize;
use serde::Serialize;

use super::Mode;
use super::counted_since;
use super::plot::Group;
use super::plot::Picture;
use super::repeat::Repeat;
use crate::figures::Figure;
use crate::figures::Measured;
use crate::figures::Unit;
use crate::figures::in_both_modes;
use crate::huge_pages;
use crate::huge_pages::HugePages;
use crate::knobs::Setting;
use crate::machine::Machine;
use crate::memory::Kind;
use crate::memory::Memory;
use crate::memory::Pages;
use crate::memory::RANGE;
use crate::memory::monotonic;
use crate::report;
use crate::report::Latencies;
use crate::report::median;
use crate::report::table;
use crate::report::time;

/// Time clone3() of a large process, with the flag and without
#[derive(clap::Args)]
#[command(
    after_help = "Exit status: 0, or 1 if an asynchronous fork was not asynchronous or --check failed."
)]
pub struct Options {
    #[command(flatten)]
    pub repeat: Repeat,

    #[command(flatten)]
    kind: Kind,

    /// Fail unless the asynchronous call is short enough and the child complete soon enough
    #[arg(long)]
    check: bool,

    /// For --check: the call has to be this many times shorter than a default fork's
    #[arg(long, value_name = "RATIO", default_value_t = 100.0)]
    min_speedup: f64,

    /// For --check: the child has to be complete within this many times a default fork's call
    #[arg(long, value_name = "RATIO", default_value_t = 1.3)]
    max_complete: f64,
}

/// The JSON.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    benchmark: String,
    machine: Machine,
    pub mb: u64,
    #[serde(default)]
    pub pages: Pages,
    #[serde(default)]
    pub huge_pages: Option<HugePages>,
    /// What was set of the machine
    #[serde(default)]
    settings: Vec<Setting>,
    settle_ms: u64,
    pub runs: Vec<Run>,
}

/// One run of one mode: two forks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Run {
    pub mode: Mode,
    /// The first fork: clone3(), in the parent
    pub call_ns: u64,
    /// From the start of that call to the child's first instruction
    pub child_ns: u64,
    /// The second fork: clone3(), in the parent
    write_call_ns: u64,
    /// Each write of the parent after the second fork: one byte per 2 MiB, in order of address
    pub writes_ns: Vec<u64>,
    /// KiB in pages of 2 MiB before the first fork, if huge pages were asked for
    #[serde(default)]
    pub huge_kib: Option<u64>,
    /// The same in pages of 64 KiB, of the whole machine
    #[serde(default)]
    pub size_64k_kib: Option<u64>,
    /// The kernel's counters over both forks
    pub counters: Option<Counters>,
}

/// How long the writes of `runs` took.
fn writes<'a>(runs: impl Iterator<Item = &'a Run>) -> Latencies {
    let mut latencies = Latencies::default();
    runs.flat_map(|run| &run.writes_ns)
        .for_each(|ns| latencies.record(*ns));
    latencies
}

impl Run {
    /// All writes of the run together.
    fn writes_sum(&self) -> u64 {
        self.writes_ns.iter().sum()
    }

    /// What is wrong with how the forks were made: asynchronously or not, as asked?
    fn misdone(&self) -> Option<String> {
        let may_be_nothing = self.huge_kib.is_some_and(|kib| kib > 0);
        super::misdone(self.mode, self.counters.as_ref(), 2, may_be_nothing)
    }
}

impl Options {
    pub fn execute(mut self) -> Result<ExitCode> {
        let json = self.repeat.prepare(self.kind)?;
        if self.check && self.repeat.modes.len() < 2 {
            bail!("--check compares both modes");
        }
        let repeated = self.repeat.measure(self.kind, measure, |run: &Run| {
            format!(
                "call {:>8}  child {:>8}",
                time(run.call_ns as f64),
                time(run.child_ns as f64)
            )
        })?;
        let record = Record {
            benchmark: "fork".into(),
            machine: repeated.machine,
            mb: self.repeat.mb,
            pages: self.kind.pages,
            huge_pages: self.kind.huge_pages,
            settings: repeated.settings,
            settle_ms: self.repeat.settle_ms,
            runs: repeated.runs,
        };
        let misdone = record.runs.iter().find_map(Run::misdone);
        let table = record.table(&self.repeat.modes);
        report::finish(&table, json, &record, misdone.or_else(|| record.not_huge()))?;
        let good = !self.check || self.verdict(&record)?;
        Ok(if good {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }

    fn verdict(&self, record: &Record) -> Result<bool> {
        let figure = |mode, figure: fn(&Run) -> u64| record.median(mode, figure).context("no runs");
        let default = figure(Mode::Default, |run| run.call_ns)?;
        let speedup = default / figure(Mode::Async, |run| run.call_ns)?;
        let complete = figure(Mode::Async, |run| run.child_ns)? / default;
        let says = |good| if good { "ok" } else { "NOT MET" };
        let (short, soon) = (speedup >= self.min_speedup, complete <= self.max_complete);
        println!(
            "call {speedup:.0} times shorter, at least {}: {}",
            self.min_speedup,
            says(short)
        );
        println!(
            "child complete after {complete:.2} of a default fork's call, at most {}: {}",
            self.max_complete,
            says(soon)
        );
        Ok(short && soon)
    }
}

impl Record {
    fn kind(&self) -> Kind {
        Kind {
            pages: self.pages,
            huge_pages: self.huge_pages,
        }
    }

    /// Why the pages were not what was asked for, as far as the kernel counts them.
    fn not_huge(&self) -> Option<String> {
        let huge_pages = self.huge_pages?;
        let kib = |run: &Run| match huge_pages {
            HugePages::Always | HugePages::Madvise => run.huge_kib,
            HugePages::Size64k => run.size_64k_kib,
            HugePages::Never => None,
        };
        let least = self.runs.iter().filter_map(kib).min()?;
        (least < self.mb << 9).then(|| {
            format!(
                "{huge_pages}: only {} of {} MiB were in such pages",
                least >> 10,
                self.mb
            )
        })
    }

    /// How much was in huge pages.
    fn huge_note(&self) -> Option<String> {
        let least = self.runs.iter().filter_map(|run| run.huge_kib).min()?;
        let of_64k = self.runs.iter().filter_map(|run| run.size_64k_kib).min();
        let of_64k = of_64k.map_or("unknown".into(), |kib| format!("{} MiB", kib >> 10));
        Some(format!(
            "of {} MiB at least {} MiB were in pages of 2 MiB; of the machine in pages of 64 KiB: \
             {of_64k}",
            self.mb,
            least >> 10
        ))
    }

    fn runs(&self, mode: Mode) -> impl Iterator<Item = &Run> {
        self.runs.iter().filter(move |run| run.mode == mode)
    }

    fn median(&self, mode: Mode, figure: impl Fn(&Run) -> u64) -> Option<f64> {
        median(self.runs(mode).map(|run| figure(run) as f64))
    }

    fn table(&self, modes: &[Mode]) -> String {
        let mut rows = vec![vec![String::new(), String::new()]];
        rows[0].extend(modes.iter().map(Mode::to_string));
        let mut row = |what: &str, name: &str, figure: &dyn Fn(Mode) -> f64| {
            let figures: Vec<f64> = modes.iter().map(|mode| figure(*mode)).collect();
            let mut row = vec![what.to_owned(), name.to_owned()];
            row.extend(figures.iter().copied().map(time));
            if let [default, asynchronous] = figures[..] {
                row.push(format!("{:.3}", asynchronous / default));
            }
            rows.push(row);
        };
        type Part = (&'static str, fn(&Run) -> u64);
        let parts: [Part; 2] = [
            ("call", |run| run.call_ns),
            ("child's first instruction", |run| run.child_ns),
        ];
        for (what, figure) in parts {
            row(what, "median", &|mode| {
                self.median(mode, figure).unwrap_or(f64::NAN)
            });
            row("", "min", &|mode| {
                self.runs(mode).map(figure).min().unwrap_or(0) as f64
            });
            row("", "max", &|mode| {
                self.runs(mode).map(figure).max().unwrap_or(0) as f64
            });
        }
        let writes = |mode| writes(self.runs(mode));
        row("parent's write after it", "p50", &|mode| {
            writes(mode).percentile(50.0) as f64
        });
        row("", "p99", &|mode| writes(mode).percentile(99.0) as f64);
        row("", "max", &|mode| writes(mode).max() as f64);
        row("", "all of a run", &|mode| {
            self.median(mode, Run::writes_sum).unwrap_or(f64::NAN)
        });
        rows[0].extend((modes.len() == 2).then(|| "async/default".to_owned()));
        format!("\n{}", table(&rows, "<<>>>"))
    }
}

/// What `asyncfork plot` draws of a record.
pub fn picture(record: serde_json::Value) -> Result<Picture> {
    let record: Record = serde_json::from_value(record)?;
    let group = |name: &str, figure: &dyn Fn(&Run) -> u64| Group {
        name: name.into(),
        bars: Mode::BOTH
            .into_iter()
            .filter_map(|mode| Some((mode, record.median(mode, figure)?)))
            .collect(),
    };
    let percentile = |p| move |run: &Run| writes(iter::once(run)).percentile(p);
    Ok(Picture {
        title: format!(
            "fork of a process with {} MiB in 4 KiB pages, medians of runs ({})",
            record.mb, record.machine.accelerator
        ),
        groups: vec![
            group("call", &|run| run.call_ns),
            group("child runs", &|run| run.child_ns),
            group("parent's first write\nto 2 MiB, p50", &percentile(50.0)),
            group("parent's first write\nto 2 MiB, p99", &percentile(99.0)),
            group("all of these\nwrites together", &Run::writes_sum),
        ],
    })
}

fn measure(memory: &mut Memory, mode: Mode) -> Result<Run> {
    // The same both times, whatever the last child left shared.
    memory.touch()?;
    let huge_kib = memory.huge_kib()?;
    let size_64k_kib = huge_kib.and_then(|_| huge_pages::size_64k_kib());
    let before = asyncfork::counters().ok();
    let mut child = Child::fork(mode)?;
    let (call_ns, child_ns) = (child.call_ns, child.first_instruction()?);
    child.end()?;

    memory.touch()?;
    let child = Child::fork(mode)?;
    let offsets = (0..memory.length()).step_by(RANGE);
    let write = |offset| {
        let start = monotonic();
        memory.write(offset);
        monotonic() - start
    };
    let writes_ns = offsets.map(write).collect();
    let write_call_ns = child.call_ns;
    child.end()?;
    let counters = counted_since(before);
    Ok(Run {
        mode,
        call_ns,
        child_ns,
        write_call_ns,
        writes_ns,
        huge_kib,
        size_64k_kib,
        counters,
    })
}

/// What `asyncfork bench report` makes of a record.
pub fn measured(record: serde_json::Value) -> Result<Measured> {
    let record: Record = serde_json::from_value(record)?;
    type Part = (&'static str, fn(&Run) -> u64);
    let parts: [Part; 6] = [
        ("call", |run| run.call_ns),
        ("child's first instruction", |run| run.child_ns),
        ("parent's first write to 2 MiB: p50 of a run", |run| {
            writes(iter::once(run)).percentile(50.0)
        }),
        ("parent's first write to 2 MiB: p99 of a run", |run| {
            writes(iter::once(run)).percentile(99.0)
        }),
        ("parent's first write to 2 MiB: max of a run", |run| {
            writes(iter::once(run)).max()
        }),
        ("parent's first writes: all of a run", Run::writes_sum),
    ];
    let figure = |(name, figure): Part, mode| Figure {
        name: name.into(),
        mode,
        unit: Unit::Time,
        samples: record.runs(mode).map(|run| figure(run) as f64).collect(),
    };
    Ok(Measured {
        of: record.kind().to_string(),
        mb: record.mb,
        figures: in_both_modes(parts, figure),
        notes: record.huge_note().into_iter().collect(),
    })
}

/// A child that tells when it started and lives until it is told to end.
pub struct Child {
    pid: libc::pid_t,
    /// Our end of a socket: the child sends its start and ends when this is closed
    socket: UnixStream,
    /// When clone3() was called (ns)
    pub called: u64,
    /// How long it took
    pub call_ns: u64,
}

impl Child {
    pub fn fork(mode: Mode) -> Result<Self> {
        let (ours, theirs) = UnixStream::pair()?;
        let (our_end, their_end) = (ours.as_raw_fd(), theirs.as_raw_fd());
        let called = monotonic();
        // SAFETY: this process has one thread, and its child makes system calls only.
        let fork = unsafe { asyncfork::raw::clone3(mode.clone_flags(), libc::SIGCHLD) };
        let returned = monotonic();
        match fork.context("clone3")? {
            // SAFETY: both descriptors are the child's own, and `started` and `byte` outlive the
            // calls.
            Fork::Child => unsafe {
                let (started, mut byte) = (returned.to_ne_bytes(), 0u8);
                libc::close(our_end);
                libc::write(their_end, started.as_ptr().cast(), started.len());
                libc::read(their_end, (&raw mut byte).cast(), 1);
                libc::_exit(0)
            },
            Fork::Parent(pid) => Ok(Self {
                pid,
                socket: ours,
                called,
                call_ns: returned - called,
            }),
        }
    }

    /// Waits for the child to start; nanoseconds from the call to its first instruction.
    pub fn first_instruction(&mut self) -> Result<u64> {
        let mut started = [0; 8];
        self.socket
            .read_exact(&mut started)
            .context("the child did not start")?;
        Ok(u64::from_ne_bytes(started) - self.called)
    }

    pub fn end(self) -> Result<()> {
        drop(self.socket);
        match asyncfork::wait(self.pid)? {
            0 => Ok(()),
            status => bail!("the child ended with wait status {status:#x}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::report::Output;

    fn run(mode: Mode, call_ns: u64, child_ns: u64) -> Run {
        let sessions = if mode == Mode::Async { 2 } else { 0 };
        Run {
            mode,
            call_ns,
            child_ns,
            write_call_ns: call_ns,
            writes_ns: vec![10_000, 12_000],
            huge_kib: None,
            size_64k_kib: None,
            counters: Some(Counters::parse(&format!(
                "async_pgtable_session_start {sessions}\n"
            ))),
        }
    }

    fn record() -> Record {
        let runs = vec![
            run(Mode::Default, 40_000_000, 40_100_000),
            run(Mode::Async, 200_000, 48_000_000),
            run(Mode::Default, 42_000_000, 42_100_000),
            run(Mode::Async, 210_000, 46_000_000),
        ];
        Record {
            benchmark: "fork".into(),
            machine: Machine::read(None),
            mb: 1024,
            pages: Pages::Written,
            huge_pages: None,
            settings: vec![],
            settle_ms: 0,
            runs,
        }
    }

    fn options(min_speedup: f64, max_complete: f64) -> Options {
        Options {
            repeat: Repeat {
                mb: 1024,
                runs: 2,
                modes: vec![Mode::Default, Mode::Async],
                settle_ms: 0,
                output: Output::default(),
            },
            kind: Pages::Written.into(),
            check: true,
            min_speedup,
            max_complete,
        }
    }

    #[test]
    fn json_round_trip() {
        let json = serde_json::to_string(&record()).unwrap();
        assert_eq!(serde_json::from_str::<Record>(&json).unwrap(), record());
    }

    #[test]
    fn check() {
        // Medians: call 41 ms and 0.205 ms, child complete 47 ms.
        assert!(options(199.0, 1.15).verdict(&record()).unwrap());
        assert!(!options(201.0, 1.15).verdict(&record()).unwrap());
        assert!(!options(199.0, 1.14).verdict(&record()).unwrap());
    }

    #[test]
    fn table_has_the_ratio() {
        let text = record().table(&Mode::BOTH);
        let call: Vec<_> = text
            .lines()
            .find(|line| line.starts_with("call"))
            .unwrap()
            .split_whitespace()
            .collect();
        assert_eq!(call, ["call", "median", "41.0", "ms", "205", "us", "0.005"]);
    }

    #[test]
    fn a_fork_must_be_made_as_asked() {
        assert_eq!(record().runs.iter().find_map(Run::misdone), None);
        let mut wrong = run(Mode::Async, 1, 1);
        wrong.counters = Some(Counters::parse(
            "async_pgtable_session_start 1\nasync_pgtable_fallback_small 1\n",
        ));
        assert!(wrong.misdone().is_some());
        // Of huge pages there may be nothing to defer.
        wrong.huge_kib = Some(0);
        assert!(wrong.misdone().is_some());
        wrong.huge_kib = Some(2048);
        assert_eq!(wrong.misdone(), None);
        wrong.mode = Mode::Default;
        assert!(wrong.misdone().is_some());
    }

    #[test]
    fn huge_pages_must_be_there() {
        let mut record = record();
        for run in &mut record.runs {
            (run.huge_kib, run.size_64k_kib) = (Some(1000 << 10), Some(100));
        }
        for (huge_pages, reason) in [
            (HugePages::Always, None),
            (HugePages::Never, None),
            (
                HugePages::Size64k,
                Some("mTHP 64 KiB: only 0 of 1024 MiB were in such pages"),
            ),
        ] {
            record.huge_pages = Some(huge_pages);
            assert_eq!(record.not_huge().as_deref(), reason);
        }
    }

    #[test]
    fn default_forks_of_this_process() {
        let mut memory = Memory::new(4 << 20, Pages::Written, Duration::ZERO).unwrap();
        let run = measure(&mut memory, Mode::Default).unwrap();
        assert_eq!(run.writes_ns.len(), 2);
        assert!(run.child_ns > 0 && run.call_ns > 0);
    }
}
