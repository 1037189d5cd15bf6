// SPDX-License-Identifier: GPL-2.0

//! SIGINT, SIGTERM and SIGHUP: kill what was started, and let the errors that follow unwind.
//!
//! The commands block in reads from servers they have started. Once those are killed every read
//! ends, the error travels up, and each owner cleans up on the way as after any other failure.

use std::io;
use std::process::Child;
use std::process::ExitStatus;
use std::sync::Mutex;
use std::sync::atomic::AtomicI32;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use anyhow::Result;
use anyhow::bail;
use signal_hook::consts::SIGHUP;
use signal_hook::consts::SIGINT;
use signal_hook::consts::SIGTERM;
use signal_hook::iterator::Signals;

/// The signal that has arrived, or 0.
static SIGNAL: AtomicI32 = AtomicI32::new(0);
/// The process groups to kill.
static GROUPS: Mutex<Vec<libc::pid_t>> = Mutex::new(Vec::new());

/// Takes over the signals, for the rest of the process's life.
pub fn catch() -> Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
    thread::spawn(move || {
        for signal in signals.forever() {
            let groups = GROUPS.lock().unwrap();
            SIGNAL.store(signal, Ordering::SeqCst);
            groups.iter().for_each(|group| kill_group(*group));
        }
    });
    Ok(())
}

/// Has the signals noted, and no more, without a thread: for what has started nothing, and looks by
/// [`check()`].
pub fn note() -> Result<()> {
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        let store = move || SIGNAL.store(signal, Ordering::SeqCst);
        // SAFETY: a store to an atomic is all that the handler does.
        unsafe { signal_hook::low_level::register(signal, store) }?;
    }
    Ok(())
}

/// The exit status, if a signal has arrived.
pub fn status() -> Option<u8> {
    match SIGNAL.load(Ordering::SeqCst) {
        0 => None,
        signal => Some(128 + signal as u8),
    }
}

/// An error, if a signal has arrived.
pub fn check() -> Result<()> {
    if status().is_some() {
        bail!("interrupted");
    }
    Ok(())
}

/// Sleeps, with an error as soon as a signal has arrived.
pub fn sleep(duration: Duration) -> Result<()> {
    let end = Instant::now() + duration;
    loop {
        check()?;
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        thread::sleep(left.min(Duration::from_millis(50)));
    }
}

/// A process that leads a group of its own. A signal kills the group, and so does the end of this
/// value.
pub struct Group(Child);

impl Group {
    pub fn new(leader: Child) -> Self {
        let group = Self(leader);
        let mut groups = GROUPS.lock().unwrap();
        groups.push(group.id());
        // A signal that came before the group was known.
        if status().is_some() {
            kill_group(group.id());
        }
        group
    }

    pub fn try_wait(&mut self) -> io::Result<Option<ExitStatus>> {
        self.0.try_wait()
    }

    pub fn id(&self) -> libc::pid_t {
        self.0.id() as libc::pid_t
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        GROUPS.lock().unwrap().retain(|group| *group != self.id());
        kill_group(self.id());
        let _ = self.0.wait();
    }
}

fn kill_group(group: libc::pid_t) {
    // SAFETY: allowed at any time; that the group is gone already is no error here.
    unsafe { libc::kill(-group, libc::SIGKILL) };
}
