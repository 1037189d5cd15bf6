// SPDX-License-Identifier: GPL-2.0

//! `asyncfork doctor`: what keeps forks of the machine, or of one process, from being asynchronous,
//! from being worth it, or their children alive.

mod cgroup;
mod machine;
mod process;
mod smaps;

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use anyhow::Result;
use serde::Serialize;

use crate::machine::Uname;
use crate::report;
use crate::report::table;
use machine::Kernel;
use process::Process;
use smaps::Memory;

/// Find what makes forks fall back, gain nothing, or get their children killed
///
/// Of the machine: whether the kernel has the feature, how it is set, and what its counters say has
/// happened since boot. Of process PID: how much of its memory is deferred when it forks, how much
/// is copied in the call and why, and whether there is memory for its child's page tables. Each line
/// has a verdict (ok, note or problem) and a fact, and below that what to do.
///
/// For PID it reads /proc/PID/smaps. That takes the time of a walk of its memory, during which PID
/// may have to wait when it changes its mappings; and if PID is itself a child that still waits for
/// page tables, they are copied for the reader.
#[derive(clap::Args)]
#[command(
    after_help = "Exit status: 0 if nothing hinders, 1 if there is a problem, the kernel does not \
    have the feature or PID cannot be looked at, 2 for wrong arguments."
)]
pub struct Options {
    /// Print JSON
    #[arg(long)]
    json: bool,

    /// Look at this process [default: at the machine]
    #[arg(value_parser = clap::value_parser!(i32).range(1..))]
    pid: Option<i32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    Ok,
    Note,
    Problem,
}

/// One line.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Finding {
    verdict: Verdict,
    about: String,
    fact: String,
    remedy: Option<String>,
}

impl Finding {
    fn ok(about: &str, fact: impl Into<String>) -> Self {
        Self {
            verdict: Verdict::Ok,
            about: about.into(),
            fact: fact.into(),
            remedy: None,
        }
    }

    fn note(about: &str, fact: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            verdict: Verdict::Note,
            remedy: Some(remedy.into()),
            ..Self::ok(about, fact)
        }
    }

    fn problem(about: &str, fact: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            verdict: Verdict::Problem,
            ..Self::note(about, fact, remedy)
        }
    }
}

#[derive(Debug, Serialize)]
struct Diagnosis {
    release: String,
    pid: Option<i32>,
    /// Of PID
    name: Option<String>,
    problems: usize,
    findings: Vec<Finding>,
    /// What a fork of PID does with its memory
    memory: Option<Memory>,
    /// Page tables of a child of PID, at most
    page_tables_kib: Option<u64>,
}

impl Diagnosis {
    fn read(root: &Path, pid: Option<i32>) -> Result<Self> {
        // First, so that nothing is said of a machine if there is no such process.
        let process = pid.map(|pid| Process::read(root, pid)).transpose()?;
        let uname = Uname::read();
        // Before the probe, which is counted too.
        let counters = asyncfork::counters().ok();
        let kernel = Kernel {
            release: &uname.release,
            flag: asyncfork::probe()
                .or_else(filtered)
                .context("cannot probe the kernel")?,
            counters: counters.as_ref(),
            mode: asyncfork::mode().ok(),
            process: asyncfork::process().ok(),
        };
        let mut findings = vec![kernel.presence(root)];
        findings.extend(kernel.switch());
        match &process {
            Some(process) => findings.extend(process.findings(kernel.mode)),
            None => {
                findings.extend(kernel.own_prctl());
                findings.push(machine::overcommit(root));
                findings.extend(machine::huge_pages(root));
                findings.extend(kernel.history());
            }
        }
        let problems = findings.iter().filter(|f| f.verdict == Verdict::Problem);
        Ok(Self {
            problems: problems.count(),
            pid,
            name: process.as_ref().map(|process| process.name.clone()),
            page_tables_kib: process.as_ref().map(Process::needed_kib),
            memory: process.map(|process| process.memory),
            findings,
            release: uname.release,
        })
    }

    fn text(&self) -> String {
        let mut rows = Vec::new();
        for finding in &self.findings {
            let verdict = match finding.verdict {
                Verdict::Ok => "ok",
                Verdict::Note => "note",
                Verdict::Problem => "problem",
            };
            rows.push(
                [verdict, &finding.about, &finding.fact]
                    .map(String::from)
                    .to_vec(),
            );
            if let Some(remedy) = &finding.remedy {
                rows.push(vec!["".into(), "".into(), format!("-> {remedy}")]);
            }
        }
        let text = table(&rows, "<<<");
        let of = match (self.pid, &self.name) {
            (Some(pid), Some(name)) => format!(" of process {pid} ({name})"),
            _ => String::new(),
        };
        let end = match self.problems {
            0 => format!("nothing hinders asynchronous forks{of}"),
            1 => format!("1 problem{of}"),
            problems => format!("{problems} problems{of}"),
        };
        format!("{text}\n{end}\n")
    }
}

/// A filter that refuses the system call has the kernel without it, for this process.
fn filtered(error: std::io::Error) -> std::io::Result<bool> {
    match error.kind() {
        std::io::ErrorKind::PermissionDenied => Ok(false),
        _ => Err(error),
    }
}

impl Options {
    pub fn execute(self) -> Result<ExitCode> {
        let diagnosis = Diagnosis::read(Path::new("/"), self.pid)?;
        if self.json {
            report::print(&(serde_json::to_string_pretty(&diagnosis)? + "\n"))?;
        } else {
            report::print(&diagnosis.text())?;
        }
        Ok(match diagnosis.problems {
            0 => ExitCode::SUCCESS,
            _ => ExitCode::FAILURE,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn diagnosis(findings: Vec<Finding>) -> Diagnosis {
        Diagnosis {
            release: "7.3.4".into(),
            pid: Some(12),
            name: Some("redis-server".into()),
            problems: findings
                .iter()
                .filter(|f| f.verdict == Verdict::Problem)
                .count(),
            findings,
            memory: Some(Memory::default()),
            page_tables_kib: Some(128),
        }
    }

    #[test]
    fn a_line_for_each_fact_and_one_for_what_to_do() {
        let findings = vec![
            Finding::ok("kernel", "is fine"),
            Finding::problem("memory for it", "is short", "add some"),
        ];
        assert_eq!(
            diagnosis(findings).text(),
            "ok       kernel         is fine\n\
            problem  memory for it  is short\n\
            \x20                       -> add some\n\
            \n\
            1 problem of process 12 (redis-server)\n"
        );
        let text = diagnosis(vec![Finding::ok("kernel", "is fine")]).text();
        assert!(
            text.ends_with("\n\nnothing hinders asynchronous forks of process 12 (redis-server)\n")
        );
    }

    #[test]
    fn json() {
        let finding = Finding::note("x", "y", "z");
        let json = serde_json::to_value(diagnosis(vec![finding])).unwrap();
        assert_eq!(json["problems"], 0);
        assert_eq!(json["findings"][0]["verdict"], "note");
        assert_eq!(json["memory"]["deferred_kib"], 0);
    }

    #[test]
    fn this_process_and_machine() {
        let pid = std::process::id() as i32;
        let found = Diagnosis::read(Path::new("/"), Some(pid)).unwrap();
        assert!(found.memory.unwrap().mappings > 5);
        let found = Diagnosis::read(Path::new("/"), None).unwrap();
        assert_eq!(found.findings[0].about, "kernel");
        assert!(found.memory.is_none());
    }
}
