// SPDX-License-Identifier: GPL-2.0

//! `asyncfork status PID`: what became of the forks of a process.

use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use anyhow::anyhow;
use asyncfork::Decider;
use asyncfork::Forks;
use serde::Deserialize;
use serde::Serialize;

use super::ABSENT;
use crate::machine::process_status;
use crate::report::table;

#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub struct Process {
    pid: u32,
    name: String,
    #[serde(flatten)]
    forks: Forks,
}

impl Process {
    /// Of process `pid`, in the /proc below `root`.
    ///
    /// # Errors
    ///
    /// Whatever keeps it from being shown, and what to do about it.
    pub fn read(root: &Path, pid: u32) -> Result<Self> {
        let (_, name) = process_status(root, pid)?;
        let who = format!("process {pid} ({name})");
        let forks = Forks::read(root, pid).map_err(|error| match error.kind() {
            ErrorKind::PermissionDenied => {
                anyhow!("{who} is not ours to look into: sudo asyncfork status {pid}")
            }
            ErrorKind::NotFound if !root.join("proc/sys/vm/async_pgtable").exists() => {
                anyhow!("{ABSENT}")
            }
            ErrorKind::NotFound if root.join("proc/self/async_pgtable").exists() => {
                anyhow!("{who} has exited meanwhile, or is a thread: name a process")
            }
            ErrorKind::NotFound => anyhow!(
                "this kernel does not tell what became of the forks of one process: it has an \
                 older form of the series; asyncfork status has the counters of the machine"
            ),
            _ => anyhow!("cannot read /proc/{pid}/async_pgtable: {error}"),
        })?;
        let forks = forks.ok_or_else(|| {
            anyhow!("{who} has no memory: it is a thread of the kernel, or has exited already")
        })?;
        Ok(Self { pid, name, forks })
    }

    pub fn table(&self) -> String {
        let forks = &self.forks;
        let row = |name: &str, value: String| vec![name.to_owned(), value];
        let mut rows = vec![
            row("process", format!("{} ({})", self.pid, self.name)),
            row("its fork()", decision(forks)),
            row("asynchronous forks", forks.asynchronous.to_string()),
            row("that copied in the call", fallbacks(forks)),
            row("children being copied", forks.children_pending.to_string()),
            row("copied in its writes", pushes(forks)),
        ];
        if forks.ranges_pending != 0 {
            let text = format!("{} ranges of 2 MiB", forks.ranges_pending);
            rows.push(row("it waits for", text));
        }
        table(&rows, "<<")
    }
}

/// Whether a fork is asynchronous, and by whom.
pub fn decision(forks: &Forks) -> String {
    let word = if forks.on { "asynchronous" } else { "ordinary" };
    let by = match forks.decided_by {
        Decider::Nobody => "nobody asks",
        Decider::Process => "it asks, or who started it, by the prctl",
        Decider::Cgroup => "memory.async_pgtable of its control group says so",
        Decider::System if forks.on => "vm.async_pgtable is 2",
        Decider::System => "vm.async_pgtable is 0, or this machine cannot",
    };
    format!("{word}: {by}")
}

fn fallbacks(forks: &Forks) -> String {
    match &forks.last_fallback {
        None => forks.fallbacks.to_string(),
        Some(reason) => {
            let meaning = asyncfork::meaning(&format!("fallback_{reason}")).unwrap_or("");
            let why = meaning.trim_start_matches("copied in the call: ");
            format!("{}, the last one by {reason}: {why}", forks.fallbacks)
        }
    }
}

fn pushes(forks: &Forks) -> String {
    let ms = |time: Duration| format!("{:.3} ms", time.as_secs_f64() * 1e3);
    let (all, longest) = (ms(forks.push_time), ms(forks.longest_push));
    match forks.pushes {
        0 => "0 ranges".into(),
        n => format!("{n} ranges of 2 MiB, {all} in all, {longest} the longest"),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const TEXT: &str = "fork_async: 1\ndecided_by: process\nforks: 12\nfallbacks: 2\n\
        last_fallback: pinned\nchildren_pending: 1\nranges_pending: 7\npushes: 340\n\
        push_ns: 8421337\npush_max_ns: 61210\n";

    /// A /proc with process 7, with that file and without.
    fn proc(text: Option<&str>) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for directory in ["proc/7", "proc/self", "proc/sys/vm"] {
            fs::create_dir_all(root.path().join(directory)).unwrap();
        }
        fs::write(root.path().join("proc/7/status"), "Name:\tserver\n").unwrap();
        if let Some(text) = text {
            fs::write(root.path().join("proc/7/async_pgtable"), text).unwrap();
        }
        root
    }

    fn error(root: &Path, pid: u32) -> String {
        Process::read(root, pid).unwrap_err().to_string()
    }

    #[test]
    fn a_line_per_fact() {
        let root = proc(Some(TEXT));
        let text = Process::read(root.path(), 7).unwrap().table();
        for line in [
            "process                  7 (server)\n",
            "its fork()               asynchronous: it asks, or who started it, by the prctl\n",
            "asynchronous forks       12\n",
            "that copied in the call  2, the last one by pinned: pages pinned for a device\n",
            "children being copied    1\n",
            "copied in its writes     340 ranges of 2 MiB, 8.421 ms in all, 0.061 ms the longest\n",
            "it waits for             7 ranges of 2 MiB\n",
        ] {
            assert!(text.contains(line), "{line}{text}");
        }
    }

    #[test]
    fn json_round_trip() {
        let root = proc(Some(TEXT));
        let process = Process::read(root.path(), 7).unwrap();
        let json = serde_json::to_string(&process).unwrap();
        assert!(json.contains(r#""push_max_ns":61210"#), "{json}");
        assert_eq!(serde_json::from_str::<Process>(&json).unwrap(), process);
    }

    #[test]
    fn what_cannot_be_shown() {
        let root = proc(None);
        let at = |name| root.path().join(name);
        assert!(error(root.path(), 8).contains("there is no process 8"));
        assert_eq!(error(root.path(), 7), ABSENT);
        fs::write(at("proc/sys/vm/async_pgtable"), "1").unwrap();
        assert!(error(root.path(), 7).contains("an older form of the series"));
        fs::write(at("proc/self/async_pgtable"), TEXT).unwrap();
        assert!(error(root.path(), 7).contains("has exited meanwhile"));
        fs::write(at("proc/7/async_pgtable"), "").unwrap();
        assert!(error(root.path(), 7).contains("has no memory"));
        fs::write(at("proc/7/async_pgtable"), "x: 1\n").unwrap();
        assert!(error(root.path(), 7).contains("cannot read /proc/7/async_pgtable"));
    }
}
