// SPDX-License-Identifier: GPL-2.0

//! `asyncfork bench fork`: what one call costs, with and without the flag.
//!
//! One process with touched anonymous memory in 4 KiB pages, forked by the same `clone3()` call
//! with the flag off and on in turn. Each run forks twice. After the first fork the parent leaves
//! its memory alone, and the child says when it executed its first instruction: as the kernel fills
//! the child's tables before it lets the child run, its memory was complete by then. After the
//! second fork the parent writes at once, one byte per 2 MiB.

use std::io;
use std::io::Read;
use std::iter;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::ExitCode;
use std::ptr;
use std::thread;
use std::time::Duration;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use asyncfork::Counters;
use asyncfork::Fork;
use serde::Deserialize;
use serde::Serialize;

use super::Mode;
use super::counters_for;
use super::plot::Group;
use super::plot::Picture;
use crate::machine;
use crate::machine::Machine;
use crate::report;
use crate::report::JsonFile;
use crate::report::Latencies;
use crate::report::median;
use crate::report::table;
use crate::report::time;

/// What one entry of a page-table directory (PMD) covers.
const RANGE: usize = 2 << 20;

/// Time clone3() of a large process, with the flag and without
#[derive(clap::Args)]
#[command(
    after_help = "Exit status: 0, or 1 if an asynchronous fork was not asynchronous or --check failed."
)]
pub struct Options {
    /// Anonymous memory of the process (MiB)
    #[arg(long, value_name = "MIB", default_value_t = 1024, value_parser = clap::value_parser!(u64).range(2..1 << 24))]
    mb: u64,

    /// Runs per mode
    #[arg(long, value_name = "N", default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,

    /// Forks to measure, in turn
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        default_value = "default,async"
    )]
    modes: Vec<Mode>,

    /// Fail unless the asynchronous call is short enough and the child complete soon enough
    #[arg(long)]
    check: bool,

    /// For --check: the call has to be this many times shorter than a default fork's
    #[arg(long, value_name = "RATIO", default_value_t = 100.0)]
    min_speedup: f64,

    /// For --check: the child has to be complete within this many times a default fork's call
    #[arg(long, value_name = "RATIO", default_value_t = 1.3)]
    max_complete: f64,

    /// Time to let pass between touching the memory and forking (ms); see `make bench` in README
    ///
    /// An emulator (TCG) has a TLB in memory of its own, which has grown to many MiB when a GiB
    /// has been touched, and gives that back in the first flush that comes late enough. Without
    /// a pause that flush is the one in the call, and is most of what an asynchronous call takes.
    #[arg(long, value_name = "MS", default_value_t = 300)]
    settle_ms: u64,

    /// Write everything measured to FILE
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,

    /// Name the accelerator in the record (tcg, kvm, native) [default: ask the CPU]
    #[arg(long, value_name = "NAME")]
    accelerator: Option<String>,
}

/// The JSON.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Record {
    benchmark: String,
    machine: Machine,
    mb: u64,
    settle_ms: u64,
    runs: Vec<Run>,
}

/// One run of one mode: two forks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Run {
    mode: Mode,
    /// The first fork: clone3(), in the parent
    call_ns: u64,
    /// From the start of that call to the child's first instruction
    child_ns: u64,
    /// The second fork: clone3(), in the parent
    write_call_ns: u64,
    /// Each write of the parent after the second fork: one byte per 2 MiB, in order of address
    writes_ns: Vec<u64>,
    /// The kernel's counters over both forks
    counters: Option<Counters>,
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
        let Some(counters) = &self.counters else {
            return (self.mode == Mode::Async).then(|| "the kernel counts nothing".into());
        };
        let (sessions, fallbacks) = (counters.get("session_start"), counters.fallbacks());
        let wanted = if self.mode == Mode::Async { 2 } else { 0 };
        (sessions != wanted || fallbacks != 0).then(|| {
            format!(
                "a run in {} mode counted session_start +{sessions}, fallbacks +{fallbacks}",
                self.mode
            )
        })
    }
}

impl Options {
    pub fn execute(mut self) -> Result<ExitCode> {
        self.modes.sort();
        self.modes.dedup();
        if self.check && self.modes.len() < 2 {
            bail!("--check compares both modes");
        }
        if counters_for(&self.modes)?.is_some() {
            let (mode, measures) = (asyncfork::mode()?, |mode| self.modes.contains(&mode));
            if mode == asyncfork::Mode::Off && measures(Mode::Async)
                || mode == asyncfork::Mode::Every && measures(Mode::Default)
            {
                bail!("vm.async_pgtable is {mode}, this needs 1");
            }
            asyncfork::set_process(false)?;
        }
        self.check_room()?;
        let json = self.json.as_deref().map(JsonFile::create).transpose()?;

        let machine = Machine::read(self.accelerator.clone());
        println!("{}", machine.line());
        let mut memory = Memory::new(
            (self.mb as usize) << 20,
            Duration::from_millis(self.settle_ms),
        )?;
        let mut runs = Vec::new();
        for number in 1..=self.runs {
            for mode in &self.modes {
                let run = memory.run(*mode)?;
                println!(
                    "run {number} of {}  {mode:7}  call {:>8}  child {:>8}",
                    self.runs,
                    time(run.call_ns as f64),
                    time(run.child_ns as f64)
                );
                runs.push(run);
            }
        }
        let record = Record {
            benchmark: "fork".into(),
            machine,
            mb: self.mb,
            settle_ms: self.settle_ms,
            runs,
        };
        report::print(&record.table(&self.modes))?;
        if let Some(json) = json {
            json.write(&record)?;
        }
        if let Some(reason) = record.runs.iter().find_map(Run::misdone) {
            bail!("{reason}");
        }
        let good = !self.check || self.verdict(&record)?;
        Ok(if good {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }

    /// The memory, its page tables twice, a copied page per range, and the rest of the process.
    fn check_room(&self) -> Result<()> {
        let needed = self.mb + 3 * self.mb.div_ceil(512) + 32;
        let available = machine::available_mib();
        if available < needed {
            bail!(
                "--mb {} needs at least {needed} MiB of free memory, this machine has {available}",
                self.mb
            );
        }
        Ok(())
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
        bars: [Mode::Default, Mode::Async]
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

/// Private anonymous memory in small pages, all of it touched.
struct Memory {
    start: *mut u8,
    length: usize,
    page: usize,
    settle: Duration,
}

impl Memory {
    fn new(length: usize, settle: Duration) -> Result<Self> {
        let start = map(length)?;
        // SAFETY: `start` and `length` are those of the mapping above.
        let advised = unsafe { libc::madvise(start.cast(), length, libc::MADV_NOHUGEPAGE) };
        // EINVAL is the answer of a kernel without huge pages.
        if advised == -1 && io::Error::last_os_error().raw_os_error() != Some(libc::EINVAL) {
            return Err(io::Error::last_os_error()).context("cannot ask for small pages");
        }
        // SAFETY: allowed at any time.
        let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) } as usize;
        Ok(Self {
            start,
            length,
            page,
            settle,
        })
    }

    fn write(&mut self, offset: usize) {
        assert!(offset < self.length);
        // SAFETY: within the mapping, which nothing else refers to.
        unsafe {
            let byte = self.start.add(offset);
            byte.write_volatile(byte.read_volatile().wrapping_add(1));
        }
    }

    /// Writes every page, so that each fork meets the same: pages that are this process's own,
    /// dirty, writable.
    fn touch(&mut self) -> Result<()> {
        for offset in (0..self.length).step_by(self.page) {
            self.write(offset);
        }
        self.settle()
    }

    /// Waits, and flushes the TLB of this CPU from time to time: changing the protection of more
    /// than a few dozen pages flushes all of it.
    fn settle(&self) -> Result<()> {
        const FLUSHES: u32 = 6;
        const PAGES: usize = 64;
        let length = PAGES * self.page;
        let scratch = map(length)?;
        for _ in 0..FLUSHES {
            for offset in (0..length).step_by(self.page) {
                // SAFETY: within the mapping above.
                unsafe { scratch.add(offset).write_volatile(1) };
            }
            for protection in [libc::PROT_READ, libc::PROT_READ | libc::PROT_WRITE] {
                // SAFETY: nothing refers to this mapping.
                if unsafe { libc::mprotect(scratch.cast(), length, protection) } == -1 {
                    return Err(io::Error::last_os_error()).context("mprotect");
                }
            }
            thread::sleep(self.settle / FLUSHES);
        }
        // SAFETY: as above.
        unsafe { libc::munmap(scratch.cast(), length) };
        Ok(())
    }

    fn run(&mut self, mode: Mode) -> Result<Run> {
        // Dirty both times, whatever the last child left shared.
        self.touch()?;
        let before = asyncfork::counters().ok();
        let mut child = Child::fork(mode)?;
        let (call_ns, child_ns) = (child.call_ns, child.first_instruction()?);
        child.end()?;

        self.touch()?;
        let child = Child::fork(mode)?;
        let offsets = (0..self.length).step_by(RANGE);
        let write = |offset| {
            let start = monotonic();
            self.write(offset);
            monotonic() - start
        };
        let writes_ns = offsets.map(write).collect();
        let write_call_ns = child.call_ns;
        child.end()?;
        let counters = before.and_then(|before| Some(asyncfork::counters().ok()?.since(&before)));
        Ok(Run {
            mode,
            call_ns,
            child_ns,
            write_call_ns,
            writes_ns,
            counters,
        })
    }
}

/// New private anonymous memory.
fn map(length: usize) -> Result<*mut u8> {
    // SAFETY: a new mapping, wherever the kernel likes.
    let start = unsafe {
        libc::mmap(
            ptr::null_mut(),
            length,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0,
        )
    };
    if start == libc::MAP_FAILED {
        return Err(io::Error::last_os_error()).context("cannot map memory");
    }
    Ok(start.cast())
}

/// A child that tells when it started and lives until it is told to end.
struct Child {
    pid: libc::pid_t,
    /// Our end of a socket: the child sends its start and ends when this is closed
    socket: UnixStream,
    /// When clone3() was called (ns)
    called: u64,
    /// How long it took
    call_ns: u64,
}

impl Child {
    fn fork(mode: Mode) -> Result<Self> {
        let (ours, theirs) = UnixStream::pair()?;
        let (our_end, their_end) = (ours.as_raw_fd(), theirs.as_raw_fd());
        let flags = if mode == Mode::Async {
            asyncfork::CLONE_ASYNC_PGTABLE
        } else {
            0
        };
        let called = monotonic();
        // SAFETY: this process has one thread, and its child makes system calls only.
        let fork = unsafe { asyncfork::clone3(flags, libc::SIGCHLD) };
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
    fn first_instruction(&mut self) -> Result<u64> {
        let mut started = [0; 8];
        self.socket
            .read_exact(&mut started)
            .context("the child did not start")?;
        Ok(u64::from_ne_bytes(started) - self.called)
    }

    fn end(self) -> Result<()> {
        drop(self.socket);
        match asyncfork::wait(self.pid)? {
            0 => Ok(()),
            status => bail!("the child ended with wait status {status:#x}"),
        }
    }
}

fn monotonic() -> u64 {
    let mut now = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `now` is valid for writes. This clock cannot fail.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(mode: Mode, call_ns: u64, child_ns: u64) -> Run {
        let sessions = if mode == Mode::Async { 2 } else { 0 };
        Run {
            mode,
            call_ns,
            child_ns,
            write_call_ns: call_ns,
            writes_ns: vec![10_000, 12_000],
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
            settle_ms: 0,
            runs,
        }
    }

    fn options(min_speedup: f64, max_complete: f64) -> Options {
        Options {
            mb: 1024,
            settle_ms: 0,
            runs: 2,
            modes: vec![Mode::Default, Mode::Async],
            check: true,
            min_speedup,
            max_complete,
            json: None,
            accelerator: None,
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
        let text = record().table(&[Mode::Default, Mode::Async]);
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
        wrong.mode = Mode::Default;
        assert!(wrong.misdone().is_some());
    }

    #[test]
    fn default_forks_of_this_process() {
        let run = Memory::new(4 << 20, Duration::ZERO)
            .unwrap()
            .run(Mode::Default)
            .unwrap();
        assert_eq!(run.writes_ns.len(), 2);
        assert!(run.child_ns > 0 && run.call_ns > 0);
    }
}
