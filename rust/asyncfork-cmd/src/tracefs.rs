// SPDX-License-Identifier: GPL-2.0

//! Events of the kernel, in a buffer of their own: when one thread enters and leaves functions, by
//! probes ([`Tracer`]); or when something began and ended that the kernel has events for
//! ([`Spans`]).
//!
//! While a [`Tracer`] fills its buffer nobody reads it, so that nothing is disturbed but by the
//! probes themselves; it is read when tracing has stopped. That of [`Spans`] is read meanwhile.

mod page;
mod spans;

use std::fs;
use std::fs::File;
use std::fs::OpenOptions;
use std::io;
use std::io::ErrorKind;
use std::io::Read;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::path::PathBuf;
use std::process;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;

use anyhow::Context;
use anyhow::Result;
use anyhow::anyhow;
use anyhow::bail;

use page::Event;
pub use spans::Spans;

/// Where tracefs is mounted.
const ROOT: &str = "/sys/kernel/tracing";
/// Calls of one function that can be under way at once, of all threads of the machine.
const ACTIVE: u32 = 64;

/// An event: a function begins, or returns.
#[derive(Clone, Copy, Debug)]
pub struct Probe {
    pub function: &'static str,
    pub returns: bool,
}

/// An instance of tracefs: a buffer and events of its own. Dropping it removes it.
struct Instance {
    path: PathBuf,
    /// Of the buffer, for each CPU
    kib: u64,
}

impl Instance {
    /// A name that nothing else has.
    fn name() -> String {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        format!("asyncfork_{}_{number}", process::id())
    }

    /// With tracing off, and `kib` KiB for each CPU.
    fn new(root: &Path, name: &str, kib: u64) -> Result<Self> {
        let path = root.join("instances").join(name);
        fs::create_dir(&path).map_err(|error| match error.kind() {
            ErrorKind::PermissionDenied => anyhow!("tracing takes root"),
            _ => anyhow!("cannot make {}: {error}", path.display()),
        })?;
        // From here on it is removed again.
        let instance = Self { path, kib };
        instance.set("tracing_on", "0")?;
        instance.set("trace_clock", "mono")?;
        instance.set("buffer_size_kb", &kib.to_string())?;
        Ok(instance)
    }

    fn set(&self, name: &str, value: &str) -> Result<()> {
        let path = self.path.join(name);
        fs::write(&path, value).with_context(|| format!("cannot write {}", path.display()))
    }

    /// Traces `event` where `filter` is true of it, and returns its number in the buffer.
    fn enable(&self, event: &str, filter: &str) -> Result<u16> {
        let event = format!("events/{event}");
        self.set(&format!("{event}/filter"), filter)?;
        self.set(&format!("{event}/enable"), "1")?;
        let id = fs::read_to_string(self.path.join(format!("{event}/id")))?;
        Ok(id.trim().parse()?)
    }

    /// Hands all that is in the buffer to `each`, CPU by CPU, and takes it out; whether none was
    /// lost.
    fn take(&self, mut each: impl FnMut(u64, Event)) -> Result<bool> {
        let mut whole = true;
        let mut bytes = vec![0; page::size()];
        for cpu in fs::read_dir(self.path.join("per_cpu"))? {
            let mut pages = OpenOptions::new()
                .read(true)
                .custom_flags(libc::O_NONBLOCK)
                .open(cpu?.path().join("trace_pipe_raw"))?;
            while read_page(&mut pages, &mut bytes)? {
                whole &= page::read(&bytes, &mut each)?;
            }
        }
        Ok(whole)
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        // Its events go with it.
        let _ = fs::remove_dir(&self.path);
    }
}

/// Finds out whether tracefs is at `root`.
fn require(root: &Path) -> Result<()> {
    match fs::metadata(root.join("instances")) {
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            bail!("tracing takes root");
        }
        Err(_) => bail!(
            "tracing needs tracefs and root: mount -t tracefs tracefs {}",
            root.display()
        ),
    }
    Ok(())
}

/// Probes of one thread. Dropping it removes them.
pub struct Tracer<E> {
    root: PathBuf,
    /// None before all probes are defined
    instance: Option<Instance>,
    /// Of the probes
    group: String,
    /// The events that have been defined, each with its number in the buffer
    events: Vec<(u16, E)>,
}

impl<E: Copy> Tracer<E> {
    /// Traces `events` of `thread` into `kib` KiB for each CPU, once it is started.
    ///
    /// # Errors
    ///
    /// Those of tracefs: that it is not there, takes root, or that the kernel lacks something.
    pub fn new(events: &[(E, Probe)], thread: u32, kib: u64) -> Result<Self> {
        Self::at(Path::new(ROOT), events, thread, kib)
    }

    fn at(root: &Path, events: &[(E, Probe)], thread: u32, kib: u64) -> Result<Self> {
        require(root)?;
        if !root.join("kprobe_events").exists() {
            bail!("tracing needs a kernel with CONFIG_KPROBE_EVENTS");
        }
        // From here on what has been made is removed again.
        let mut tracer = Self {
            root: root.to_owned(),
            instance: None,
            group: Instance::name(),
            events: Vec::new(),
        };
        for (number, (event, probe)) in events.iter().enumerate() {
            let id = tracer.define(number, probe)?;
            tracer.events.push((id, *event));
        }
        let instance = tracer
            .instance
            .insert(Instance::new(root, &tracer.group, kib)?);
        for number in 0..events.len() {
            let event = format!("{}/{}", tracer.group, event_name(number));
            instance.enable(&event, &format!("common_pid == {thread}"))?;
        }
        Ok(tracer)
    }

    /// Makes probe `number`, and returns its number in the buffer.
    fn define(&self, number: usize, probe: &Probe) -> Result<u16> {
        let Probe { function, returns } = probe;
        let kind = match returns {
            true => format!("r{ACTIVE}"),
            false => "p".into(),
        };
        let event = format!("{}/{}", self.group, event_name(number));
        self.change_probes(&format!("{kind}:{event} {function}"))
            .map_err(|error| match error.kind() {
                ErrorKind::PermissionDenied => {
                    anyhow!("tracing functions of the kernel takes root")
                }
                _ => anyhow!("this kernel has no function {function} that can be traced ({error})"),
            })?;
        let id = fs::read_to_string(self.root.join(format!("events/{event}/id")))?;
        Ok(id.trim().parse()?)
    }

    /// Adds a line to those that define the probes: opened in another way, the file loses them.
    fn change_probes(&self, line: &str) -> io::Result<()> {
        let path = self.root.join("kprobe_events");
        let mut file = OpenOptions::new().append(true).open(path)?;
        file.write_all(line.as_bytes())
    }

    fn instance(&self) -> &Instance {
        self.instance.as_ref().expect("made with the tracer")
    }

    /// Forgets what there was, and begins.
    ///
    /// # Errors
    ///
    /// Those of tracefs.
    pub fn start(&self) -> Result<()> {
        self.instance().set("trace", "")?;
        self.instance().set("tracing_on", "1")
    }

    /// # Errors
    ///
    /// Those of tracefs.
    pub fn stop(&self) -> Result<()> {
        self.instance().set("tracing_on", "0")
    }

    /// What has happened between start and stop, in its order, with times of the monotonic clock
    /// (ns).
    ///
    /// # Errors
    ///
    /// Those of tracefs, and that the buffer was too small for all of it.
    pub fn take(&self) -> Result<Vec<(u64, E)>> {
        let mut all = Vec::new();
        let whole = self.instance().take(|ns, event| {
            let known = self.events.iter().find(|(id, _)| *id == event.number);
            all.extend(known.map(|(_, event)| (ns, *event)));
        })?;
        if !whole {
            bail!(
                "a trace buffer of {} KiB for each CPU was too small",
                self.instance().kib
            );
        }
        all.sort_by_key(|(ns, _)| *ns);
        Ok(all)
    }
}

fn event_name(number: usize) -> String {
    format!("event{number}")
}

/// False if there is no more.
fn read_page(pages: &mut File, bytes: &mut [u8]) -> io::Result<bool> {
    match pages.read(bytes) {
        Ok(0) => Ok(false),
        Ok(_) => Ok(true),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(false),
        Err(error) => Err(error),
    }
}

impl<E> Drop for Tracer<E> {
    fn drop(&mut self) {
        // A probe cannot go before the instance that has it.
        self.instance = None;
        let path = self.root.join("kprobe_events");
        for number in 0..self.events.len() {
            let line = format!("-:{}/{}", self.group, event_name(number));
            if let Ok(mut file) = OpenOptions::new().append(true).open(&path) {
                let _ = file.write_all(line.as_bytes());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROBE: Probe = Probe {
        function: "kernel_clone",
        returns: false,
    };

    /// What `Tracer::at()` says of a directory with these entries.
    fn error(entries: &[&str]) -> String {
        let root = tempfile::tempdir().unwrap();
        for entry in entries {
            match entry.strip_suffix('/') {
                Some(directory) => fs::create_dir_all(root.path().join(directory)).unwrap(),
                None => fs::write(root.path().join(entry), "").unwrap(),
            }
        }
        let tracer = Tracer::at(root.path(), &[((), PROBE)], 1, 64);
        format!("{:#}", tracer.err().unwrap())
    }

    #[test]
    fn what_is_missing_is_named() {
        let line = error(&[]);
        assert!(line.contains("mount -t tracefs"), "{line}");
        let line = error(&["instances/"]);
        assert!(line.ends_with("CONFIG_KPROBE_EVENTS"), "{line}");
        // A definition that makes no event.
        assert!(!error(&["instances/", "kprobe_events"]).is_empty());
    }

    /// On a kernel that lets this test: a thread's own sleep, of a length that is known.
    #[test]
    fn traces_this_thread() {
        let sleep = |returns| Probe {
            function: "hrtimer_nanosleep",
            returns,
        };
        // SAFETY: allowed at any time.
        let thread = unsafe { libc::gettid() } as u32;
        let events = [(false, sleep(false)), (true, sleep(true))];
        let tracer = match Tracer::new(&events, thread, 64) {
            Ok(tracer) => tracer,
            Err(error) => {
                eprintln!("SKIP: {error:#}");
                return;
            }
        };
        std::thread::sleep(std::time::Duration::from_millis(1));
        tracer.start().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(20));
        tracer.stop().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(1));
        let [(begin, false), (end, true)] = tracer.take().unwrap()[..] else {
            panic!("one sleep");
        };
        assert!((20_000_000..2_000_000_000).contains(&(end - begin)));
        let instance = tracer.instance().path.clone();
        assert!(instance.exists());
        drop(tracer);
        assert!(!instance.exists());
    }
}
