// SPDX-License-Identifier: GPL-2.0

//! What there is to say of one process.

use std::fs;
use std::fs::File;
use std::io;
use std::io::BufReader;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use anyhow::Result;
use anyhow::anyhow;
use anyhow::bail;
use asyncfork::Decider;
use asyncfork::Forks;
use asyncfork::Mode;

use super::super::status::decision;
use super::Finding;
use super::cgroup;
use super::cgroup::Limit;
use super::machine;
use super::smaps::Memory;
use super::smaps::Reason;
use super::smaps::Size;
use crate::machine::field;
use crate::machine::kib;
use crate::machine::process_status;
use crate::terminal::Progress;

/// A page table (KiB).
const PAGE_TABLE_KIB: u64 = 4;
/// Of the flags in `/proc/PID/stat`.
const PF_KTHREAD: u64 = 0x0020_0000;
/// Below that, what is copied in the call takes no time to speak of (KiB).
const LITTLE_KIB: u64 = 32 << 10;

/// A process, as /proc has it.
#[derive(Debug)]
pub struct Process {
    pub name: String,
    pub memory: Memory,
    /// What became of its forks; none if the kernel does not tell
    forks: Option<Forks>,
    /// Pinned (KiB)
    pinned_kib: u64,
    /// Page tables that it has (KiB)
    tables_kib: u64,
    /// What its descriptors refer to; none if that cannot be seen
    descriptors: Option<Vec<String>>,
    limit: Limit,
    /// Of the machine
    available_kib: u64,
    strict_headroom_kib: Option<u64>,
}

impl Process {
    /// Looks at all of process `pid`; takes as long as a walk of its memory.
    ///
    /// # Errors
    ///
    /// That it is not there, none with memory, or of somebody else.
    pub fn read(root: &Path, pid: i32) -> Result<Self> {
        let directory = root.join(format!("proc/{pid}"));
        let text = |name| fs::read_to_string(directory.join(name));
        let (status, name) = process_status(root, pid)?;
        let who = format!("process {pid} ({name})");
        if matches!(
            field(&status, "State").unwrap_or("").chars().next(),
            Some('Z' | 'X')
        ) {
            bail!(
                "{who} has exited already, its parent has yet to wait for it: name one that runs"
            );
        }
        if kthread(&text("stat").unwrap_or_default()) {
            bail!("{who} is a thread of the kernel, which never forks: name a program's process");
        }
        let smaps = File::open(directory.join("smaps"));
        let smaps = smaps.map_err(|error| refused(&who, pid, error))?;
        let memory = read(smaps, &who, kib(&status, "VmSize"));
        let memory = memory.map_err(|error| match error.downcast::<io::Error>() {
            Ok(error) => refused(&who, pid, error),
            Err(error) => error,
        })?;
        if memory.mappings == 0 {
            bail!("{who} has exited meanwhile: name one that runs");
        }
        // Once more: a child that was not complete has all its page tables now.
        let status = text("status").unwrap_or(status);
        let read = |path: &str| fs::read_to_string(root.join(path)).unwrap_or_default();
        let cgroup = text("cgroup").unwrap_or_default();
        Ok(Self {
            memory,
            name,
            forks: Forks::read(root, pid.unsigned_abs()).ok().flatten(),
            pinned_kib: kib(&status, "VmPin").unwrap_or(0),
            tables_kib: kib(&status, "VmPTE").unwrap_or(u64::MAX),
            descriptors: descriptors(&directory.join("fd")),
            limit: cgroup::limit(root, &cgroup, &read("proc/self/mountinfo")),
            available_kib: kib(&read("proc/meminfo"), "MemAvailable").unwrap_or(u64::MAX),
            strict_headroom_kib: machine::strict_headroom_kib(root),
        })
    }

    /// Page tables that a child needs for what is deferred, at most (KiB).
    pub fn needed_kib(&self) -> u64 {
        (PAGE_TABLE_KIB * self.memory.ranges).min(self.tables_kib)
    }

    pub fn findings(&self, mode: Option<Mode>) -> Vec<Finding> {
        let mut found = Vec::new();
        match &self.forks {
            Some(forks) => found.extend(told(forks)),
            None => found.extend(prctl(mode)),
        }
        found.push(self.deferred());
        found.extend(self.others());
        found.extend(self.userfaultfd());
        found.extend(self.pinned());
        found.extend(self.notifiers());
        if self.descriptors.is_none() {
            found.push(Finding::note(
                "descriptors",
                "cannot be seen: KVM, RDMA, io_uring and userfaultfd are not ruled out",
                "as root: sudo asyncfork doctor PID",
            ));
        }
        found.push(self.headroom());
        found.extend(self.strict());
        found
    }

    fn deferred(&self) -> Finding {
        let about = "deferred";
        let (deferred, slow) = (self.memory.deferred_kib, self.memory.slow_kib());
        let huge = self.memory.kib(Reason::Huge);
        let amount = Size(deferred);
        let ranges = self.memory.ranges.min(self.tables_kib / PAGE_TABLE_KIB);
        if deferred == 0 && huge > slow {
            Finding::problem(
                about,
                "nothing: its memory is in huge pages, and each fork falls back (fallback_small)",
                "none needed: there is little to copy, and plain forks of it are short",
            )
        } else if deferred == 0 && slow < LITTLE_KIB {
            Finding::problem(
                about,
                "nothing: it has no private memory in whole ranges of 2 MiB, and each fork falls back (fallback_small)",
                "none needed: there is little to copy, and plain forks of it are short",
            )
        } else if deferred < slow && slow >= LITTLE_KIB {
            Finding::problem(
                about,
                format!("{amount} only, and {} are copied in the call", Size(slow)),
                "see the reasons below",
            )
        } else {
            let fact = format!("{amount} at least, in at most {ranges} ranges of 2 MiB");
            Finding::ok(about, fact)
        }
    }

    fn others(&self) -> impl Iterator<Item = Finding> {
        let slow = self.memory.slow_kib();
        self.memory.others_kib.iter().map(move |(reason, kib)| {
            let (what, remedy) = reason.explain();
            let fact = format!("{} {what}", Size(*kib));
            match remedy {
                Some(remedy) if slow >= LITTLE_KIB => Finding::note("not deferred", fact, remedy),
                _ => Finding::ok("not deferred", fact),
            }
        })
    }

    /// How many descriptors one of `names` begins the name of.
    fn open(&self, names: &[&str]) -> usize {
        let all = self.descriptors.iter().flatten();
        all.filter(|target| names.iter().any(|name| target.starts_with(name)))
            .count()
    }

    fn userfaultfd(&self) -> Option<Finding> {
        let open = self.open(&["anon_inode:[userfaultfd]"]);
        let registered = self.memory.kib(Reason::Userfaultfd);
        (open > 0 || registered > 0).then(|| {
            Finding::note(
                "userfaultfd",
                format!(
                    "{open} descriptors are open, and {} are registered: that much is copied in the call",
                    Size(registered)
                ),
                "have the program unregister memory before it forks, if it can",
            )
        })
    }

    fn pinned(&self) -> Vec<Finding> {
        const REMEDY: &str = "write vm.async_pgtable=1 at boot (/etc/sysctl.d), before it starts: then only page tables with pins are copied in the call, else all (fallback_pinned)";
        let mut found = Vec::new();
        if self.pinned_kib > 0 {
            found.push(Finding::note(
                "pinned pages",
                format!("{} are pinned for devices (VmPin)", Size(self.pinned_kib)),
                REMEDY,
            ));
        }
        let (rings, vfio) = (
            self.open(&["anon_inode:[io_uring]"]),
            self.open(&["/dev/vfio/", "anon_inode:[vfio"]),
        );
        for (open, what) in [(rings, "io_uring"), (vfio, "VFIO")] {
            if open > 0 && self.pinned_kib == 0 {
                found.push(Finding::note(
                    "pinned pages",
                    format!("{open} descriptors of {what} are open, which may pin pages"),
                    REMEDY,
                ));
            }
        }
        if found.is_empty() && self.descriptors.is_some() {
            let fact = "none that /proc knows of; direct I/O pins for a moment";
            found.push(Finding::ok("pinned pages", fact));
        }
        found
    }

    fn notifiers(&self) -> Option<Finding> {
        const MACHINE: [&str; 2] = ["anon_inode:kvm-vm", "anon_inode:kvm-vcpu"];
        const MAYBE: [&str; 6] = [
            "/dev/kvm",
            "/dev/infiniband/",
            "/dev/kfd",
            "/dev/nvidia",
            "/dev/dri/render",
            "/dev/iommu",
        ];
        let about = "mmu notifiers";
        if self.open(&MACHINE) > 0 {
            return Some(Finding::problem(
                about,
                "it runs a virtual machine (KVM): each fork falls back (fallback_notifier)",
                "have another process fork, one that KVM is not attached to",
            ));
        }
        let open = self.open(&MAYBE);
        match self.descriptors {
            Some(_) if open == 0 => Some(Finding::ok(about, "no device that needs them is open")),
            Some(_) => Some(Finding::note(
                about,
                format!(
                    "{open} descriptors of KVM, RDMA, GPUs or the like are open: if one is attached to the memory, or ever was, each fork falls back"
                ),
                "fork, and see whether fallback_notifier grows: asyncfork status",
            )),
            None => None,
        }
    }

    /// Whether the child's page tables fit.
    fn headroom(&self) -> Finding {
        let (about, needed) = ("memory for it", self.needed_kib());
        let takes = format!("page tables of a child take up to {}", Size(needed));
        if self.available_kib < needed {
            let fact = format!(
                "{takes}, the machine has {}: it may be killed",
                Size(self.available_kib)
            );
            return Finding::problem(about, fact, "free memory, or add some");
        }
        match &self.limit {
            Limit::None => Finding::ok(about, format!("{takes}, and no memory cgroup limits it")),
            Limit::Unknown(why) => Finding::note(
                about,
                format!("{takes}; what its memory cgroups leave is unknown: {why}"),
                "compare it with the limit of the group",
            ),
            Limit::Group(group) => {
                let path = group.path.display();
                let left = group.left_kib();
                let fact = format!("{takes}, memory.max of {path} leaves {}", Size(left));
                let remedy = format!("raise memory.max of {path}");
                if needed <= left {
                    Finding::ok(about, fact)
                } else if needed <= left + group.files_kib {
                    Finding::note(
                        about,
                        fact + ", and more when cached files are dropped",
                        remedy,
                    )
                } else {
                    Finding::problem(about, fact + ": the child may be killed", remedy)
                }
            }
        }
    }

    fn strict(&self) -> Option<Finding> {
        let (needs, left) = (self.memory.accounted_kib, self.strict_headroom_kib?);
        let about = "overcommit";
        let fact = format!(
            "vm.overcommit_memory is 2: fork() needs room for {}, and {} are left",
            Size(needs),
            Size(left)
        );
        Some(if needs > left {
            let remedy = "sysctl vm.overcommit_memory=1, or more swap";
            Finding::problem(about, fact + ": it fails", remedy)
        } else {
            Finding::ok(about, fact)
        })
    }
}

/// What the kernel tells of its forks.
fn told(forks: &Forks) -> Vec<Finding> {
    let (about, fact) = ("asks", decision(forks));
    let mut found = vec![match (forks.on, forks.decided_by) {
        (true, _) => Finding::ok(about, fact),
        (false, Decider::Cgroup) => {
            let remedy = "write 1 or inherit to memory.async_pgtable of its control group, and of \
                 those above that say 0";
            Finding::problem(about, fact, remedy)
        }
        // That is said of the machine already.
        (false, Decider::System) => Finding::note(about, fact, "see vm.async_pgtable above"),
        (false, _) => {
            let remedy = "start it with asyncfork run -- CMD, or write 1 to memory.async_pgtable \
                 of its control group";
            Finding::note(about, fact, remedy)
        }
    }];
    if let Some(reason) = &forks.last_fallback {
        let fact = format!(
            "{} copied in the call, {} did not; the last one by {reason}",
            forks.fallbacks, forks.asynchronous
        );
        let remedy = machine::remedy(&format!("fallback_{reason}")).unwrap_or_default();
        found.push(Finding::note("its forks", fact, remedy));
    }
    found
}

/// Whether it asks, which only it can know on a kernel that does not tell.
fn prctl(mode: Option<Mode>) -> Option<Finding> {
    match mode? {
        Mode::Off => None,
        Mode::Every => Some(Finding::ok(
            "asks",
            "not needed: every fork is asynchronous",
        )),
        Mode::OnRequest => Some(Finding::note(
            "asks",
            "unknown: this kernel does not tell whether another process has set the prctl",
            "start it with asyncfork run -- CMD; asyncfork watch shows whether its forks start sessions",
        )),
    }
}

/// Whether a line of `/proc/PID/stat` is that of a thread of the kernel.
fn kthread(stat: &str) -> bool {
    // The name, in parentheses, may have some itself.
    let fields = stat.rsplit_once(") ").map_or("", |(_, fields)| fields);
    let flags = fields
        .split(' ')
        .nth(6)
        .and_then(|flags| flags.parse().ok());
    flags.unwrap_or(0_u64) & PF_KTHREAD != 0
}

/// Why a process's memory cannot be looked at.
fn refused(who: &str, pid: i32, error: io::Error) -> anyhow::Error {
    match (error.kind(), error.raw_os_error()) {
        (ErrorKind::PermissionDenied, _) => {
            anyhow!("{who} is not ours to look into: sudo asyncfork doctor {pid}")
        }
        (ErrorKind::NotFound, _) | (_, Some(libc::ESRCH)) => {
            anyhow!("{who} has exited meanwhile: name one that runs")
        }
        (ErrorKind::OutOfMemory, _) => {
            anyhow!("{who} is a child that is not complete, and there is no memory to complete it")
        }
        _ => anyhow!("cannot read /proc/{pid}/smaps: {error}"),
    }
}

/// Reads smaps, with signs of life if there is a lot.
fn read(smaps: File, who: &str, size_kib: Option<u64>) -> Result<Memory> {
    let seen = Arc::new(AtomicU64::new(0));
    let (who, counted) = (who.to_owned(), seen.clone());
    let progress = Progress::new(move || {
        let all = size_kib.map_or(String::new(), |kib| format!(" of {}", Size(kib)));
        let seen = Size(counted.load(Ordering::Relaxed));
        format!("looking at the memory of {who}, {seen}{all}")
    });
    let memory = Memory::read(BufReader::with_capacity(1 << 16, smaps), |kib| {
        seen.fetch_add(kib, Ordering::Relaxed);
    });
    drop(progress);
    memory
}

/// None if they are not ours to see.
fn descriptors(directory: &Path) -> Option<Vec<String>> {
    let entries = fs::read_dir(directory).ok()?;
    let target = |entry: io::Result<fs::DirEntry>| fs::read_link(entry.ok()?.path()).ok();
    let targets = entries.filter_map(target);
    Some(
        targets
            .map(|target| target.to_string_lossy().into_owned())
            .collect(),
    )
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::path::PathBuf;

    use super::super::Verdict;
    use super::super::cgroup::Group;
    use super::super::smaps::tests::smaps;
    use super::*;

    const STATUS: &str = "Name:\tserver\nState:\tS (sleeping)\nVmSize:\t  70000 kB\n\
        VmPin:\t       0 kB\nVmPTE:\t     180 kB\n";
    const STAT: &str = "7 (a) b) S 1 7 7 0 -1 4194560 100";
    /// 64 MiB in whole ranges.
    const WHOLE: &str = "7f0000000000-7f0004000000";

    /// A /proc with process 7.
    fn proc(status: &str, stat: &str, smaps: &str) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("proc/7");
        fs::create_dir_all(directory.join("fd")).unwrap();
        for (name, text) in [("status", status), ("stat", stat), ("smaps", smaps)] {
            fs::write(directory.join(name), text).unwrap();
        }
        root
    }

    fn process(mappings: &[(&str, &str, [u64; 3], &str)]) -> Process {
        let root = proc(STATUS, STAT, &smaps(mappings));
        Process::read(root.path(), 7).unwrap()
    }

    fn full() -> Process {
        process(&[(WHOLE, "", [65536, 0, 0], "ac")])
    }

    /// Verdict and fact of what is said about `about`.
    #[track_caller]
    fn said(process: &Process, about: &str) -> (Verdict, String) {
        let found = process.findings(Some(Mode::OnRequest));
        let mut said = found.into_iter().filter(|finding| finding.about == about);
        let finding = said
            .next()
            .unwrap_or_else(|| panic!("nothing about {about}"));
        assert_eq!(finding.verdict == Verdict::Ok, finding.remedy.is_none());
        (finding.verdict, finding.fact)
    }

    #[test]
    fn a_large_process() {
        let process = full();
        assert_eq!(process.name, "server");
        let (verdict, fact) = said(&process, "deferred");
        assert_eq!(verdict, Verdict::Ok);
        assert_eq!(fact, "64 MiB at least, in at most 32 ranges of 2 MiB");
        assert_eq!(process.needed_kib(), 128);
        assert_eq!(said(&process, "memory for it").0, Verdict::Ok);
        let problems = process.findings(Some(Mode::OnRequest));
        assert!(problems.iter().all(|f| f.verdict != Verdict::Problem));
        let (verdict, fact) = said(&process, "asks");
        assert!(verdict == Verdict::Note && fact.starts_with("unknown"));
    }

    #[test]
    fn what_the_kernel_tells() {
        let root = proc(STATUS, STAT, &smaps(&[(WHOLE, "", [65536, 0, 0], "ac")]));
        let said = |on, by: &str, last: &str| {
            let text = format!(
                "fork_async: {on}\ndecided_by: {by}\nforks: 3\nfallbacks: 2\nlast_fallback: {last}\n\
                 children_pending: 0\nranges_pending: 0\npushes: 0\npush_ns: 0\npush_max_ns: 0\n"
            );
            fs::write(root.path().join("proc/7/async_pgtable"), text).unwrap();
            Process::read(root.path(), 7).unwrap()
        };
        let verdict = |on, by| super::tests::said(&said(on, by, "none"), "asks").0;
        assert_eq!(verdict(1, "process"), Verdict::Ok);
        assert_eq!(verdict(1, "cgroup"), Verdict::Ok);
        assert_eq!(verdict(0, "nobody"), Verdict::Note);
        assert_eq!(verdict(0, "system"), Verdict::Note);
        assert_eq!(verdict(0, "cgroup"), Verdict::Problem);
        let (verdict, fact) = super::tests::said(&said(1, "process", "pinned"), "its forks");
        assert_eq!(verdict, Verdict::Note);
        assert_eq!(
            fact,
            "2 copied in the call, 3 did not; the last one by pinned"
        );
    }

    #[test]
    fn page_tables_are_no_more_than_there_are() {
        let sparse = process(&[("7f0000000000-7f4000000000", "", [4000, 0, 0], "ac")]);
        assert_eq!(sparse.memory.ranges, 1000);
        assert_eq!(sparse.needed_kib(), 180);
        assert!(said(&sparse, "deferred").1.ends_with("45 ranges of 2 MiB"));
    }

    #[test]
    fn nothing_is_deferred() {
        for mappings in [
            (WHOLE, "", [65536, 65536, 0], "ac hg"),
            ("7f0000100000-7f0000200000", "", [1024, 0, 0], "ac"),
        ] {
            let (verdict, fact) = said(&process(&[mappings]), "deferred");
            assert_eq!(verdict, Verdict::Problem);
            assert!(fact.contains("fallback_small"), "{fact}");
        }
        let armed = process(&[(WHOLE, "", [65536, 0, 0], "ac um")]);
        let (verdict, fact) = said(&armed, "deferred");
        assert_eq!(verdict, Verdict::Problem);
        assert_eq!(fact, "0 KiB only, and 64 MiB are copied in the call");
        let (verdict, fact) = said(&armed, "not deferred");
        assert!(verdict == Verdict::Note && fact.contains("userfaultfd"));
        assert!(
            said(&armed, "userfaultfd")
                .1
                .contains("64 MiB are registered")
        );
    }

    #[test]
    fn descriptors_are_hints() {
        let with = |target: &str| {
            let root = proc(STATUS, STAT, &smaps(&[(WHOLE, "", [65536, 0, 0], "ac")]));
            symlink(target, root.path().join("proc/7/fd/3")).unwrap();
            Process::read(root.path(), 7).unwrap()
        };
        for (target, about, verdict) in [
            ("anon_inode:[userfaultfd]", "userfaultfd", Verdict::Note),
            ("anon_inode:[io_uring]", "pinned pages", Verdict::Note),
            ("/dev/vfio/12", "pinned pages", Verdict::Note),
            ("anon_inode:kvm-vm", "mmu notifiers", Verdict::Problem),
            ("/dev/kvm", "mmu notifiers", Verdict::Note),
            ("/dev/infiniband/uverbs0", "mmu notifiers", Verdict::Note),
            ("/dev/null", "mmu notifiers", Verdict::Ok),
            ("/dev/null", "pinned pages", Verdict::Ok),
        ] {
            assert_eq!(said(&with(target), about).0, verdict, "{target}");
        }
        let hidden = Process {
            descriptors: None,
            ..full()
        };
        assert_eq!(said(&hidden, "descriptors").0, Verdict::Note);
        let pinned = Process {
            pinned_kib: 2048,
            ..full()
        };
        assert_eq!(said(&pinned, "pinned pages").0, Verdict::Note);
    }

    #[test]
    fn room_for_page_tables() {
        let group = |left: u64, files_kib| {
            Limit::Group(Group {
                path: PathBuf::from("/sys/fs/cgroup/x"),
                max_kib: 9000,
                current_kib: 9000 - left,
                files_kib,
            })
        };
        for (limit, verdict) in [
            (Limit::None, Verdict::Ok),
            (Limit::Unknown("why"), Verdict::Note),
            (group(128, 0), Verdict::Ok),
            (group(127, 0), Verdict::Problem),
            (group(27, 101), Verdict::Note),
        ] {
            let process = Process { limit, ..full() };
            assert_eq!(said(&process, "memory for it").0, verdict);
        }
        let poor = Process {
            available_kib: 100,
            ..full()
        };
        assert_eq!(said(&poor, "memory for it").0, Verdict::Problem);
    }

    #[test]
    fn strict_accounting() {
        for (headroom, verdict) in [(65536, Verdict::Ok), (65535, Verdict::Problem)] {
            let process = Process {
                strict_headroom_kib: Some(headroom),
                ..full()
            };
            assert_eq!(said(&process, "overcommit").0, verdict);
        }
    }

    #[test]
    fn what_cannot_be_looked_at() {
        let error = |status: &str, stat: &str, smaps: &str| {
            let root = proc(status, stat, smaps);
            Process::read(root.path(), 7).unwrap_err().to_string()
        };
        let zombie = error("Name:\tx\nState:\tZ (zombie)\n", STAT, "");
        assert!(zombie.contains("process 7 (x) has exited"), "{zombie}");
        let kernel = "2 (kthreadd) S 0 0 0 0 -1 2129984 0";
        let line = error("Name:\tkthreadd\nState:\tS\n", kernel, "");
        assert!(line.contains("thread of the kernel"), "{line}");
        let gone = error(STATUS, STAT, "");
        assert!(gone.contains("has exited meanwhile"), "{gone}");
        let broken = error(STATUS, STAT, "frobnicate\n");
        assert!(broken.contains("not a line of smaps"), "{broken}");
        let root = proc(STATUS, STAT, "");
        let none = Process::read(root.path(), 8).unwrap_err().to_string();
        assert!(none.contains("no process 8"), "{none}");
        for (number, word) in [
            (libc::EACCES, "sudo asyncfork doctor 7"),
            (libc::ESRCH, "has exited"),
            (libc::ENOMEM, "not complete"),
            (libc::EIO, "cannot read /proc/7/smaps"),
        ] {
            let error = refused("process 7 (x)", 7, io::Error::from_raw_os_error(number));
            assert!(error.to_string().contains(word), "{error}");
        }
    }
}
