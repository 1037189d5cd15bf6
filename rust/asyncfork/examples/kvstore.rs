// SPDX-License-Identifier: GPL-2.0

//! A key-value store that takes a snapshot of itself: a child of `fork()` writes the state at the
//! fork to a file, while the parent goes on writing. Then it verifies the file.
//!
//! ```sh
//! cargo run --release --example kvstore -- [--require] FILE
//! ```
//!
//! On a kernel without the feature the fork is an ordinary one, or with `--require` an error. Exit
//! status: 0 the snapshot is exact, else 1.

use std::collections::HashMap;
use std::env;
use std::error::Error;
use std::fs;
use std::fs::File;
use std::io;
use std::io::BufRead;
use std::io::BufReader;
use std::io::BufWriter;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use asyncfork::Fork;

const KEYS: u32 = 200_000;

#[derive(Default, PartialEq)]
struct Store(HashMap<String, String>);

impl Store {
    /// All writes are numbered, so that a state is known by how many there were.
    fn write_number(&mut self, n: u32) {
        // Each key once, then any
        let key = if n < KEYS {
            n
        } else {
            n.wrapping_mul(2_654_435_761) % KEYS
        };
        self.0.insert(format!("key:{key}"), format!("write-{n}"));
    }

    fn save(&self, path: &Path) -> io::Result<()> {
        let mut file = BufWriter::new(File::create(path)?);
        for (key, value) in &self.0 {
            writeln!(file, "{key} {value}")?;
        }
        file.into_inner()?.sync_all()
    }

    fn load(path: &Path) -> Result<Self, Box<dyn Error>> {
        let mut store = Self::default();
        for line in BufReader::new(File::open(path)?).lines() {
            let line = line?;
            let (key, value) = line.split_once(' ').ok_or("the snapshot cannot be read")?;
            store.0.insert(key.into(), value.into());
        }
        Ok(store)
    }
}

/// How many forks of the machine were asynchronous; 0 without the feature.
fn asynchronous_forks() -> io::Result<u64> {
    match asyncfork::counters() {
        Ok(counters) => Ok(counters.get("session_start")),
        Err(error) if asyncfork::is_absent(&error) => Ok(0),
        Err(error) => Err(error),
    }
}

/// Forks a child that saves `store`; returns its process id, and whether the fork was asynchronous.
fn begin_snapshot(store: &Store, path: &Path) -> io::Result<(libc::pid_t, bool)> {
    let before = asynchronous_forks()?;
    // SAFETY: this process has one thread, so the child may do everything.
    match unsafe { asyncfork::fork() }? {
        Fork::Child => {
            let status = store.save(path).is_err().into();
            // SAFETY: allowed at any time. What is buffered is the parent's.
            unsafe { libc::_exit(status) }
        }
        Fork::Parent(child) => Ok((child, asynchronous_forks()? > before)),
    }
}

/// How the child has ended, if it has.
fn ended(child: libc::pid_t) -> io::Result<Option<libc::c_int>> {
    let mut status = 0;
    // SAFETY: `status` is valid for writes.
    match unsafe { libc::waitpid(child, &raw mut status, libc::WNOHANG) } {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(None),
        _ => Ok(Some(status)),
    }
}

fn run(require: bool, path: &Path) -> Result<(), Box<dyn Error>> {
    if !asyncfork::probe()? {
        if require {
            return Err("this kernel has no asynchronous fork".into());
        }
        println!("kvstore: this kernel has no asynchronous fork, using fork()");
    }
    let mut live = Store::default();
    let at_fork = KEYS + KEYS / 2;
    (0..at_fork).for_each(|n| live.write_number(n));

    // Not in its place before it is whole.
    let unfinished = path.with_extension("new");
    let (child, asynchronous) = begin_snapshot(&live, &unfinished)?;

    // The store is in use meanwhile.
    let mut n = at_fork;
    let status = loop {
        for _ in 0..1000 {
            live.write_number(n);
            n = n.wrapping_add(1);
        }
        if let Some(status) = ended(child)? {
            break status;
        }
    };
    // By SIGKILL, if there was no memory for its page tables.
    if libc::WIFSIGNALED(status) {
        return Err("no snapshot: the child was killed".into());
    }
    if status != 0 {
        return Err("no snapshot: the child could not write it".into());
    }
    fs::rename(&unfinished, path)?;
    let (keys, writes) = (live.0.len(), n - at_fork);
    println!("kvstore: snapshot of {keys} keys, {writes} writes meanwhile");

    let loaded = Store::load(path)?;
    let mut expected = Store::default();
    (0..at_fork).for_each(|n| expected.write_number(n));
    if loaded != expected {
        return Err("WRONG: the snapshot is not the state at the fork".into());
    }
    if loaded == live {
        return Err("WRONG: the store has not changed since".into());
    }
    println!("kvstore: exact: the snapshot is the state at the fork");
    let how = if asynchronous { "" } else { "not " };
    println!("kvstore: the fork was {how}asynchronous");
    if require && !asynchronous {
        return Err("asynchronous was required: see fallback_* with asyncfork status".into());
    }
    Ok(())
}

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let result = match &arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["--require", path] => run(true, Path::new(path)),
        [path] => run(false, Path::new(path)),
        _ => Err("usage: kvstore [--require] FILE".into()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("kvstore: {error}");
            ExitCode::FAILURE
        }
    }
}
