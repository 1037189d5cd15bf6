// SPDX-License-Identifier: GPL-2.0

//! Snapshots of a real server, right and made wrong on purpose, by both ways to read them.

use std::fs;
use std::ops::Range;
use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use super::history::Write;
use super::*;

const VALUE_SIZE: usize = 1000;
const CLIENTS: usize = 2;
/// SETs of each client before the snapshot
const WRITES: u32 = 20;

/// A server, and what two clients have written to it, in turn.
struct Run {
    settings: Settings,
    _directory: tempfile::TempDir,
    _server: Server,
    control: Client,
    data: Data,
    history: History,
    sent: [u32; CLIENTS],
}

impl Run {
    /// None if there is no server here.
    fn start(compress: bool) -> Option<Self> {
        let binary = PathBuf::from("redis-server");
        if Command::new(&binary).arg("--version").output().is_err() {
            eprintln!("SKIP: no redis-server");
            return None;
        }
        let directory = tempfile::tempdir().unwrap();
        let settings = Settings {
            binary,
            directory: directory.path().to_owned(),
            compress,
            more: String::new(),
        };
        let server = settings.start("server", false).unwrap();
        let mut control = server.connect().unwrap();
        let data = Data::fill(&mut control, 2 << 20, VALUE_SIZE, |_| ()).unwrap();
        let mut run = Self {
            settings,
            _directory: directory,
            _server: server,
            control,
            data,
            history: History::new(data.keys, CLIENTS),
            sent: [0; CLIENTS],
        };
        run.write(WRITES);
        Some(run)
    }

    /// Has each client send so many SETs.
    fn write(&mut self, count: u32) {
        for _ in 0..count {
            for client in 0..CLIENTS {
                self.sent[client] += 1;
                let number = self.sent[client];
                let key = number as u64 * 7 % 10 * CLIENTS as u64 + client as u64;
                let sent = Instant::now();
                self.set(key, number);
                let mut writes: Vec<_> = (0..CLIENTS).map(|_| Vec::new()).collect();
                writes[client].push(Write::new(key as u32, sent, Instant::now()));
                self.history.add(writes);
            }
        }
    }

    fn set(&mut self, key: u64, number: u32) {
        self.data.push_set(self.control.out(), key, number);
        self.control.send().unwrap();
        self.control.reply().unwrap();
    }

    fn save(&mut self) -> Range<Instant> {
        let start = Instant::now();
        self.control.command(&["SAVE"]).unwrap();
        start..Instant::now()
    }

    /// What is wrong with the snapshot, as the file and as a second server have it.
    fn check(&mut self, bgsave: &Range<Instant>) -> Option<String> {
        let contents = self.data.read_file(&self.settings.snapshot()).unwrap();
        let second = self.settings.start("second", false).unwrap();
        let loaded = self.data.read(&mut second.connect().unwrap()).unwrap();
        assert_eq!(contents.size, loaded.size);
        assert_eq!(contents.values, loaded.values);
        self.history.check(&contents, bgsave).difference
    }

    /// Saves after `change`, and asserts that the snapshot differs by `expected`.
    fn differs(&mut self, change: &[&str], expected: &str) {
        self.control.command(change).unwrap();
        let bgsave = self.save();
        let difference = self.check(&bgsave).expect("the snapshot is wrong");
        assert!(difference.contains(expected), "{difference}");
    }
}

#[test]
fn the_data_at_the_save() {
    for compress in [false, true] {
        let Some(mut run) = Run::start(compress) else {
            return;
        };
        for _ in 0..2 {
            let bgsave = run.save();
            assert_eq!(run.check(&bgsave), None);
            run.write(WRITES);
        }
    }
}

#[test]
fn one_value_changed() {
    let Some(mut run) = Run::start(false) else {
        return;
    };
    run.differs(
        &["SETRANGE", "key:000000000500", "900", "x"],
        "key 500 has a value that was never written to it",
    );
    run.set(500, 0);
    // A value of another key.
    run.differs(
        &["COPY", "key:000000000501", "key:000000000502", "REPLACE"],
        "key 502 has a value that was never written to it",
    );
    run.set(502, 0);
    let bgsave = run.save();
    assert_eq!(run.check(&bgsave), None);
}

#[test]
fn one_key_missing() {
    let Some(mut run) = Run::start(false) else {
        return;
    };
    run.differs(&["DEL", "key:000000000500"], "key 500 is missing");
    // With another in its place.
    run.differs(&["SET", "other", "x"], "key 500 is missing");
    run.set(500, 0);
    let bgsave = run.save();
    let difference = run.check(&bgsave).unwrap();
    let keys = run.data.keys;
    assert_eq!(difference, format!("{} keys instead of {keys}", keys + 1));
}

#[test]
fn one_value_from_after_the_fork() {
    let Some(mut run) = Run::start(false) else {
        return;
    };
    let bgsave = run.save();
    // What a page that was copied too late would have in it.
    run.write(3);
    run.save();
    let difference = run.check(&bgsave).unwrap();
    assert!(
        difference.starts_with("BGSAVE was answered ")
            && difference.ends_with("'s SET 23, which is in it, was sent"),
        "{difference}"
    );
    // One alone, between those of the fork.
    let number = WRITES + 1;
    let key = |number: u32| u64::from(number) * 7 % 10 * CLIENTS as u64;
    for older in WRITES - 9..=WRITES {
        run.set(key(older), older);
        run.set(key(older) + 1, older);
    }
    let fork = run.save();
    assert_eq!(run.check(&(bgsave.start..bgsave.end)), None, "{fork:?}");
    run.set(key(number + 1), number + 1);
    run.save();
    let difference = run.check(&bgsave).unwrap();
    assert!(
        difference.contains("SET 11 instead of SET 21"),
        "{difference}"
    );
}

/// Whatever becomes of the file.
#[test]
fn a_broken_file() {
    let Some(mut run) = Run::start(false) else {
        return;
    };
    run.save();
    let path = run.settings.snapshot();
    let good = fs::read(&path).unwrap();
    let read = |bytes: &[u8]| {
        fs::write(&path, bytes).unwrap();
        run.data.read_file(&path).map(|contents| contents.size)
    };
    assert_eq!(read(&good).unwrap(), run.data.keys);
    let mut bad = good.clone();
    bad[good.len() / 2] ^= 1;
    assert!(read(&bad).unwrap_err().to_string().contains("checksum"));
    let error = read(&good[..good.len() / 2]).unwrap_err();
    assert_eq!(error.to_string(), "the snapshot ends early");
}

#[test]
fn what_cannot_be_compared() {
    let Some(mut run) = Run::start(false) else {
        return;
    };
    for (change, undo, expected) in [
        (
            &["RPUSH", "l", "x"][..],
            &["DEL", "l"][..],
            "more than strings",
        ),
        (
            &["SET", "s", "x", "EX", "1000"],
            &["DEL", "s"],
            "more than strings",
        ),
        (
            &["COPY", "key:000000000000", "k", "DB", "1"],
            &["FLUSHALL"],
            "a database 1",
        ),
    ] {
        run.control.command(change).unwrap();
        run.save();
        let error = run.data.read_file(&run.settings.snapshot()).err().unwrap();
        assert!(error.to_string().contains(expected), "{error}");
        run.control.command(undo).unwrap();
    }
}
