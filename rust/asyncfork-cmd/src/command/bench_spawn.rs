// SPDX-License-Identifier: GPL-2.0

//! `asyncfork bench spawn`: children that are gone at once.
//!
//! A large process forks a child that calls `_exit()`, and one that executes another program: what
//! shells, build tools and servers with helpers do. Nobody needs the copied page tables.

use std::fs::File;
use std::io::Read;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::ptr;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use asyncfork::Counters;
use asyncfork::Fork;
use rustix::fs::MemfdFlags;
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
use crate::memory::Memory;
use crate::memory::Pages;
use crate::memory::monotonic;
use crate::report;
use crate::report::median;
use crate::report::table;
use crate::report::time;

/// Time fork with _exit or exec at once, of a large process
#[derive(clap::Args)]
#[command(after_help = "Exit status: 0, or 1 if an asynchronous fork was not asynchronous.")]
pub struct Options {
    #[command(flatten)]
    pub repeat: Repeat,
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
    exit: Times,
    exec: Times,
    /// The kernel's counters over both forks
    counters: Option<Counters>,
}

/// From the start of clone3(), in the parent.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Times {
    /// Until it returns
    call_ns: u64,
    /// Until the child has left the memory, by _exit() or for another program's
    gone_ns: u64,
    /// Until the parent has been told that the child, or that program, has ended
    ended_ns: u64,
}

impl Run {
    /// What is wrong with how the forks were made: asynchronously or not, as asked?
    fn misdone(&self) -> Option<String> {
        super::misdone(self.mode, self.counters.as_ref(), 2, false)
    }
}

impl Options {
    pub fn execute(mut self) -> Result<ExitCode> {
        let json = self.repeat.prepare(Pages::Written)?;
        let program = program()?;
        let repeated = self.repeat.measure(
            Pages::Written,
            |memory, mode| run(memory, mode, &program),
            |run| {
                format!(
                    "_exit {:>8}  exec {:>8}",
                    time(run.exit.gone_ns as f64),
                    time(run.exec.gone_ns as f64)
                )
            },
        )?;
        let record = Record {
            benchmark: "spawn".into(),
            machine: repeated.machine,
            mb: self.repeat.mb,
            settle_ms: self.repeat.settle_ms,
            runs: repeated.runs,
        };
        let misdone = record.runs.iter().find_map(Run::misdone);
        let table = record.table(&self.repeat.modes);
        report::finish(&table, json, &record, misdone)?;
        Ok(ExitCode::SUCCESS)
    }
}

type Part = (&'static str, fn(&Run) -> u64);
const PARTS: [Part; 6] = [
    ("fork and _exit: call", |run| run.exit.call_ns),
    ("fork and _exit: child gone", |run| run.exit.gone_ns),
    ("fork and _exit: waited for", |run| run.exit.ended_ns),
    ("fork and exec: call", |run| run.exec.call_ns),
    ("fork and exec: executed", |run| run.exec.gone_ns),
    ("fork and exec: waited for", |run| run.exec.ended_ns),
];

impl Record {
    fn samples(&self, mode: Mode, figure: fn(&Run) -> u64) -> Vec<f64> {
        self.runs
            .iter()
            .filter(|run| run.mode == mode)
            .map(|run| figure(run) as f64)
            .collect()
    }

    fn table(&self, modes: &[Mode]) -> String {
        let mut rows = vec![vec![String::new()]];
        rows[0].extend(modes.iter().map(Mode::to_string));
        rows[0].extend((modes.len() == 2).then(|| "async/default".to_owned()));
        for (name, figure) in PARTS {
            let of = |mode: &Mode| median(self.samples(*mode, figure)).unwrap_or(f64::NAN);
            let medians: Vec<f64> = modes.iter().map(of).collect();
            let mut row = vec![name.to_owned()];
            row.extend(medians.iter().copied().map(time));
            if let [default, asynchronous] = medians[..] {
                row.push(format!("{:.3}", asynchronous / default));
            }
            rows.push(row);
        }
        format!("\n{}", table(&rows, "<>>>"))
    }
}

/// What `asyncfork bench report` makes of a record.
pub fn measured(record: serde_json::Value) -> Result<Measured> {
    let record: Record = serde_json::from_value(record)?;
    let figure = |(name, figure): Part, mode| Figure {
        name: name.into(),
        mode,
        unit: Unit::Time,
        samples: record.samples(mode, figure),
    };
    Ok(Measured {
        of: "fork with _exit or exec at once".into(),
        mb: record.mb,
        figures: in_both_modes(PARTS, figure),
        notes: vec![],
    })
}

fn run(memory: &mut Memory, mode: Mode, program: &File) -> Result<Run> {
    memory.touch()?;
    let before = asyncfork::counters().ok();
    let exit = spawn(mode, None)?;
    memory.touch()?;
    let exec = spawn(mode, Some(program))?;
    let counters = counted_since(before);
    Ok(Run {
        mode,
        exit,
        exec,
        counters,
    })
}

/// Makes a child that executes `program`, or exits.
fn spawn(mode: Mode, program: Option<&File>) -> Result<Times> {
    // The child's end is closed when it has left our memory: by exit, or as it is close-on-exec.
    let (mut ours, theirs) = UnixStream::pair()?;
    let our_end = ours.as_raw_fd();
    let program = program.map(AsRawFd::as_raw_fd);
    let arguments = [c"true".as_ptr(), ptr::null()];
    let start = monotonic();
    // SAFETY: this process has one thread, and its child makes system calls only.
    let fork = unsafe { asyncfork::raw::clone3(mode.clone_flags(), libc::SIGCHLD) };
    let call_ns = monotonic() - start;
    let pid = match fork.context("clone3")? {
        // SAFETY: the child's own descriptors, and strings that outlive the calls.
        Fork::Child => unsafe {
            libc::close(our_end);
            if let Some(program) = program {
                libc::fexecve(program, arguments.as_ptr(), [ptr::null()].as_ptr());
                libc::_exit(127)
            }
            libc::_exit(0)
        },
        Fork::Parent(pid) => pid,
    };
    drop(theirs);
    if ours.read(&mut [0])? != 0 {
        bail!("the child said something");
    }
    let gone_ns = monotonic() - start;
    match asyncfork::wait(pid)? {
        0 => {}
        status => bail!("the child ended with wait status {status:#x}"),
    }
    Ok(Times {
        call_ns,
        gone_ns,
        ended_ns: monotonic() - start,
    })
}

/// A program that does nothing but end, in memory: no file system and no dynamic linker is measured.
fn program() -> Result<File> {
    /// Where it is loaded
    const BASE: u64 = 0x40_0000;
    /// The header of an ELF file, and that of its only segment
    const HEADERS: u64 = 64 + 56;
    /// xor %edi, %edi; mov $60, %eax; syscall: _exit(0)
    const CODE: [u8; 9] = [0x31, 0xff, 0xb8, 60, 0, 0, 0, 0x0f, 0x05];

    let length = HEADERS + CODE.len() as u64;
    let mut elf = Vec::new();
    let half = |elf: &mut Vec<u8>, value: u16| elf.extend(value.to_le_bytes());
    let word = |elf: &mut Vec<u8>, value: u32| elf.extend(value.to_le_bytes());
    let long = |elf: &mut Vec<u8>, value: u64| elf.extend(value.to_le_bytes());
    // 64 bits, little endian, version 1; an executable for x86-64.
    elf.extend(*b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
    half(&mut elf, 2);
    half(&mut elf, 62);
    word(&mut elf, 1);
    // Where it begins; where its program headers are, and its (no) section headers.
    long(&mut elf, BASE + HEADERS);
    long(&mut elf, 64);
    long(&mut elf, 0);
    word(&mut elf, 0);
    // Length of this header; length and number of the others.
    for value in [64, 56, 1, 64, 0, 0] {
        half(&mut elf, value);
    }
    // To be loaded, readable and executable: all of the file.
    word(&mut elf, 1);
    word(&mut elf, 4 | 1);
    for value in [0, BASE, BASE, length, length, 4096] {
        long(&mut elf, value);
    }
    elf.extend(CODE);

    let file = rustix::fs::memfd_create("true", MemfdFlags::CLOEXEC).context("memfd_create")?;
    let mut file = File::from(file);
    file.write_all(&elf)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn record() -> Record {
        let times = |ns| Times {
            call_ns: ns,
            gone_ns: 2 * ns,
            ended_ns: 3 * ns,
        };
        let run = |mode, ns| Run {
            mode,
            exit: times(ns),
            exec: times(10 * ns),
            counters: None,
        };
        Record {
            benchmark: "spawn".into(),
            machine: Machine::read(None),
            mb: 1024,
            settle_ms: 0,
            runs: vec![run(Mode::Default, 1_000_000), run(Mode::Async, 10_000)],
        }
    }

    #[test]
    fn json_round_trip() {
        let json = serde_json::to_string(&record()).unwrap();
        assert_eq!(serde_json::from_str::<Record>(&json).unwrap(), record());
    }

    #[test]
    fn both_children_are_in_the_table() {
        let text = record().table(&Mode::BOTH);
        let words: Vec<Vec<_>> = text
            .lines()
            .map(|line| line.split_whitespace().collect())
            .collect();
        for line in [
            "fork and _exit: call 1.00 ms 10.0 us 0.010",
            "fork and exec: executed 20.0 ms 200 us 0.010",
        ] {
            let line: Vec<_> = line.split(' ').collect();
            assert!(words.contains(&line), "{line:?} is not in\n{text}");
        }
    }

    #[test]
    fn measured_has_every_part_in_both_modes() {
        let measured = measured(serde_json::to_value(record()).unwrap()).unwrap();
        assert_eq!(measured.names().len(), PARTS.len());
        let samples = measured.samples("fork and exec: waited for", Mode::Async);
        assert_eq!(samples.unwrap(), [300_000.0]);
    }

    #[test]
    fn default_forks_of_this_process() {
        let mut memory = Memory::new(4 << 20, Pages::Written, Duration::ZERO).unwrap();
        let run = run(&mut memory, Mode::Default, &program().unwrap()).unwrap();
        for times in [run.exit, run.exec] {
            assert!(times.call_ns > 0);
            assert!(times.gone_ns >= times.call_ns && times.ended_ns >= times.gone_ns);
        }
    }

    #[test]
    fn a_program_that_cannot_be_executed() {
        let mut file = File::from(rustix::fs::memfd_create("x", MemfdFlags::CLOEXEC).unwrap());
        file.write_all(b"nothing").unwrap();
        let error = spawn(Mode::Default, Some(&file)).unwrap_err().to_string();
        assert!(error.contains("0x7f00"), "{error}");
    }
}
