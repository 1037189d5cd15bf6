// SPDX-License-Identifier: GPL-2.0

//! What there is to say of a machine.

use std::fs;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use asyncfork::Counters;
use asyncfork::Mode;
use flate2::read::GzDecoder;

use super::Finding;
use super::smaps::Size;
use crate::machine::kib;

/// Where one learns the value of one option of the kernel.
const OPTION: &str = "CONFIG_ASYNC_PGTABLE";

/// What is there, apart from files.
pub struct Kernel<'a> {
    pub release: &'a str,
    /// Whether `clone3()` takes the flag
    pub flag: bool,
    pub counters: Option<&'a Counters>,
    pub mode: Option<Mode>,
    /// The prctl of this process
    pub process: Option<bool>,
}

impl Kernel<'_> {
    pub fn is_patched(&self) -> bool {
        self.flag || self.counters.is_some() || self.mode.is_some()
    }

    /// Whether it has the feature.
    pub fn presence(&self, root: &Path) -> Finding {
        let release = self.release;
        if self.flag {
            return Finding::ok("kernel", format!("{release} has CLONE_ASYNC_PGTABLE"));
        }
        if self.is_patched() {
            return Finding::note(
                "kernel",
                format!(
                    "{release} has the feature, and something keeps clone3() from this process"
                ),
                "a filter of system calls, as containers have, is likely: fork() by the prctl or the sysctl needs no clone3()",
            );
        }
        let (fact, remedy) = absence(config(root, release).as_ref());
        Finding::problem("kernel", format!("{release} {fact}"), remedy)
    }

    pub fn switch(&self) -> Option<Finding> {
        let about = "vm.async_pgtable";
        let mode = self.mode?;
        Some(match mode {
            Mode::Off => Finding::problem(
                about,
                format!("{mode}: every fork copies in the call, whoever asks"),
                "sysctl vm.async_pgtable=1",
            ),
            Mode::OnRequest => Finding::ok(about, format!("{mode}: for those who ask")),
            Mode::Every => Finding::ok(about, mode.to_string()),
        })
    }

    /// Whether this process asks.
    pub fn own_prctl(&self) -> Option<Finding> {
        let (about, on) = ("this process", self.process?);
        Some(if on || self.mode == Some(Mode::Every) {
            let asked = if on { "on" } else { "off, and not needed" };
            Finding::ok(about, format!("the prctl is {asked}"))
        } else {
            Finding::note(
                about,
                "the prctl is off: what this shell starts does not ask",
                "asyncfork run -- CMD; or sysctl vm.async_pgtable=2 for every fork",
            )
        })
    }

    /// What has happened since boot.
    pub fn history(&self) -> Vec<Finding> {
        let Some(counters) = self.counters else {
            return Vec::new();
        };
        let found = counters.iter().filter(|(_, value)| *value > 0);
        let found: Vec<_> = found
            .filter_map(|(name, value)| counted(name, value))
            .collect();
        if found.is_empty() {
            let forks = counters.get("session_start");
            let fact = format!("{forks} asynchronous forks since boot, and no fallback or failure");
            return vec![Finding::ok("counters", fact)];
        }
        found
    }
}

/// Why a kernel does not have it, by its configuration and where that was.
fn absence(config: Option<&(String, String)>) -> (String, &'static str) {
    let Some((path, text)) = config else {
        return (
            "has no CLONE_ASYNC_PGTABLE, and its configuration is not to be found".into(),
            "boot a kernel with the patches and CONFIG_ASYNC_PGTABLE=y",
        );
    };
    let is = |line: String| text.lines().any(|found| found == line);
    if is(format!("{OPTION}=y")) {
        (
            format!("has no CLONE_ASYNC_PGTABLE, though {path} has {OPTION}=y"),
            "boot the kernel that this configuration is of; if it runs, a filter of system calls hides it",
        )
    } else if is(format!("# {OPTION} is not set")) {
        (
            format!("has the patches, but {OPTION} is off in {path}"),
            "build it with scripts/config -e RUST -e ASYNC_PGTABLE",
        )
    } else {
        (
            format!("has no {OPTION} in {path}: not patched, or without CONFIG_RUST"),
            "apply the patches, and build with scripts/config -e RUST -e ASYNC_PGTABLE",
        )
    }
}

/// The kernel's configuration, with its path.
fn config(root: &Path, release: &str) -> Option<(String, String)> {
    let mut text = String::new();
    let path = "proc/config.gz";
    let unpacked =
        File::open(root.join(path)).and_then(|file| GzDecoder::new(file).read_to_string(&mut text));
    if unpacked.is_ok() {
        return Some((format!("/{path}"), text));
    }
    let path = format!("boot/config-{release}");
    let text = fs::read_to_string(root.join(&path)).ok()?;
    Some((format!("/{path}"), text))
}

/// What a counter that is not zero says.
fn counted(name: &str, value: u64) -> Option<Finding> {
    if name == "session_fail" {
        let fact = format!(
            "{value} children were killed since boot, as there was no memory to copy for them"
        );
        let remedy = "dmesg | grep async_pgtable: says who; give them memory: raise memory.max, or keep more free";
        return Some(Finding::problem(name, fact, remedy));
    }
    let remedy = remedy(name)?;
    let unit = if name == "range_sync" {
        "ranges"
    } else {
        "forks"
    };
    let meaning = asyncfork::meaning(name).unwrap_or("copied in the call");
    let fact = format!("{value} {unit} since boot, {meaning}");
    Some(Finding::note(name, fact, remedy))
}

/// What to do about what the counter `name` counts, if that was copied in the call.
pub fn remedy(name: &str) -> Option<&'static str> {
    Some(match name {
        "range_sync" => {
            "give the group of the process memory, or fork when fewer children are pending"
        }
        "fallback_off" => "sysctl vm.async_pgtable=1, and 1 or inherit in memory.async_pgtable",
        "fallback_arch" => "none here: it takes x86-64, and no Xen PV guest",
        "fallback_notifier" => {
            "none while the process has KVM, or RDMA with on-demand paging: have another process fork"
        }
        "fallback_pinned" => {
            "boot with async_pgtable=1, so that pins are noted before programs do direct I/O: then only page tables with pins are copied"
        }
        "fallback_small" => "none: small processes, or huge pages, have nothing to defer",
        "fallback_sessions" => {
            "fork less often, or give the children CPU time: 16 of one process were pending"
        }
        "fallback_nomem" => {
            "give the group of the process memory: raise memory.max, or keep more free"
        }
        _ if name.starts_with("fallback_") => {
            "the kernel's Documentation/admin-guide/mm/async_pgtable.rst says what it is"
        }
        _ => return None,
    })
}

/// What strict accounting of memory leaves (KiB); none if it is not strict.
pub fn strict_headroom_kib(root: &Path) -> Option<u64> {
    let read = |path| fs::read_to_string(root.join(path)).ok();
    let strict = read("proc/sys/vm/overcommit_memory")?.trim() == "2";
    let meminfo = read("proc/meminfo")?;
    let left = kib(&meminfo, "CommitLimit")?.saturating_sub(kib(&meminfo, "Committed_AS")?);
    strict.then_some(left)
}

pub fn overcommit(root: &Path) -> Finding {
    let about = "overcommit";
    match strict_headroom_kib(root) {
        Some(left) => Finding::note(
            about,
            format!(
                "vm.overcommit_memory is 2: fork() itself fails if all private memory of a process does not fit a second time; {} are left",
                Size(left)
            ),
            "asyncfork doctor PID compares; sysctl vm.overcommit_memory=1, or more swap",
        ),
        None => Finding::ok(about, "fork() counts on copy-on-write"),
    }
}

pub fn huge_pages(root: &Path) -> Option<Finding> {
    let path = "sys/kernel/mm/transparent_hugepage/enabled";
    let text = fs::read_to_string(root.join(path)).ok()?;
    let mode = text.split(['[', ']']).nth(1)?;
    let about = "huge pages";
    Some(match mode {
        "always" => Finding::note(
            about,
            "always: memory in pages of 2 MiB is copied in the call, which costs little; only the rest gains",
            "none needed; asyncfork doctor PID says how much of a process is which",
        ),
        "madvise" => Finding::ok(about, "madvise: small pages, but for programs that ask"),
        mode => Finding::ok(about, format!("{mode}: small pages, which are deferred")),
    })
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::super::Verdict;
    use super::*;

    fn kernel(counters: Option<&Counters>) -> Kernel<'_> {
        Kernel {
            release: "7.3.4",
            flag: counters.is_some(),
            counters,
            mode: counters.map(|_| Mode::OnRequest),
            process: counters.map(|_| false),
        }
    }

    fn root(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    #[test]
    fn why_it_is_absent() {
        let presence = |config: Option<&str>| {
            let root = root(&[]);
            if let Some(text) = config {
                let boot = root.path().join("boot");
                fs::create_dir(&boot).unwrap();
                fs::write(boot.join("config-7.3.4"), text).unwrap();
            }
            let found = kernel(None).presence(root.path());
            assert_eq!(found.verdict, Verdict::Problem);
            assert!(found.remedy.is_some());
            found.fact
        };
        assert!(presence(None).contains("not to be found"));
        assert!(presence(Some("CONFIG_RUST=y\n")).contains("not patched"));
        let off = presence(Some("# CONFIG_ASYNC_PGTABLE is not set\n"));
        assert!(
            off.contains("has the patches") && off.contains("/boot/config-7.3.4"),
            "{off}"
        );
        let test_only = presence(Some("CONFIG_ASYNC_PGTABLE_TEST=y\n"));
        assert!(test_only.contains("not patched"), "{test_only}");
        assert!(presence(Some("CONFIG_ASYNC_PGTABLE=y\n")).contains("though"));
    }

    #[test]
    fn packed_configuration() {
        let root = root(&[("proc/x", "")]);
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder
            .write_all(b"# CONFIG_ASYNC_PGTABLE is not set\n")
            .unwrap();
        fs::write(
            root.path().join("proc/config.gz"),
            encoder.finish().unwrap(),
        )
        .unwrap();
        let fact = kernel(None).presence(root.path()).fact;
        assert!(fact.ends_with("is off in /proc/config.gz"), "{fact}");
    }

    #[test]
    fn present_and_filtered() {
        let counters = Counters::parse("async_pgtable_session_start 3\n");
        let root = root(&[]);
        let mut kernel = kernel(Some(&counters));
        assert_eq!(kernel.presence(root.path()).verdict, Verdict::Ok);
        kernel.flag = false;
        let found = kernel.presence(root.path());
        assert_eq!(found.verdict, Verdict::Note);
        assert!(found.fact.contains("keeps clone3()"), "{}", found.fact);
    }

    #[test]
    fn switches() {
        let counters = Counters::default();
        let mut kernel = kernel(Some(&counters));
        let verdicts = |kernel: &Kernel| {
            [kernel.switch(), kernel.own_prctl()].map(|found| found.unwrap().verdict)
        };
        assert_eq!(verdicts(&kernel), [Verdict::Ok, Verdict::Note]);
        kernel.process = Some(true);
        assert_eq!(verdicts(&kernel), [Verdict::Ok, Verdict::Ok]);
        kernel.mode = Some(Mode::Off);
        assert_eq!(verdicts(&kernel)[0], Verdict::Problem);
        kernel.mode = Some(Mode::Every);
        kernel.process = Some(false);
        assert_eq!(verdicts(&kernel), [Verdict::Ok, Verdict::Ok]);
    }

    #[test]
    fn every_counter_of_a_fallback_has_a_remedy() {
        let names = [
            "session_fail",
            "range_sync",
            "fallback_off",
            "fallback_arch",
            "fallback_notifier",
            "fallback_pinned",
            "fallback_small",
            "fallback_sessions",
            "fallback_nomem",
            "fallback_brand_new",
        ];
        let vmstat: String = names
            .map(|name| format!("async_pgtable_{name} 2\n"))
            .concat();
        let counters = Counters::parse(&(vmstat + "async_pgtable_session_start 7\n"));
        let found = kernel(Some(&counters)).history();
        assert_eq!(found.len(), names.len());
        for finding in &found {
            assert!(finding.fact.starts_with("2 ") && finding.remedy.is_some());
            let killed = finding.about == "session_fail";
            assert_eq!(finding.verdict == Verdict::Problem, killed);
        }
    }

    #[test]
    fn nothing_has_happened() {
        let counters =
            Counters::parse("async_pgtable_session_start 7\nasync_pgtable_session_fail 0\n");
        let found = kernel(Some(&counters)).history();
        assert_eq!((found.len(), found[0].verdict), (1, Verdict::Ok));
        assert!(found[0].fact.starts_with("7 asynchronous forks"));
        assert!(kernel(None).history().is_empty());
    }

    #[test]
    fn strict_accounting() {
        let meminfo = (
            "proc/meminfo",
            "CommitLimit:  9000 kB\nCommitted_AS: 4000 kB\n",
        );
        let of = |mode| root(&[("proc/sys/vm/overcommit_memory", mode), meminfo]);
        let strict = of("2\n");
        assert_eq!(strict_headroom_kib(strict.path()), Some(5000));
        let found = overcommit(strict.path());
        assert_eq!(found.verdict, Verdict::Note);
        assert!(found.fact.ends_with("5000 KiB are left"), "{}", found.fact);
        assert_eq!(overcommit(of("0\n").path()).verdict, Verdict::Ok);
    }

    #[test]
    fn modes_of_huge_pages() {
        let path = "sys/kernel/mm/transparent_hugepage/enabled";
        for (text, verdict) in [
            ("[always] madvise never\n", Verdict::Note),
            ("always [madvise] never\n", Verdict::Ok),
            ("always madvise [never]\n", Verdict::Ok),
        ] {
            let root = root(&[(path, text)]);
            assert_eq!(huge_pages(root.path()).unwrap().verdict, verdict);
        }
        assert!(huge_pages(root(&[]).path()).is_none());
    }
}
