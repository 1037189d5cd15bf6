// SPDX-License-Identifier: GPL-2.0

//! Where a measurement was made.

use std::env;
use std::ffi::CStr;
use std::ffi::CString;
use std::fmt;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use anyhow::Result;
use anyhow::bail;
use serde::Deserialize;
use serde::Serialize;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Uname {
    pub sysname: String,
    pub release: String,
    pub version: String,
    pub machine: String,
}

impl Uname {
    pub fn read() -> Self {
        // SAFETY: all-zero is a valid `utsname`.
        let mut name: libc::utsname = unsafe { std::mem::zeroed() };
        // SAFETY: `name` is valid for writes. The call has no other error.
        unsafe { libc::uname(&raw mut name) };
        let text = |field: &[libc::c_char]| {
            // SAFETY: the kernel terminates every field.
            unsafe { CStr::from_ptr(field.as_ptr()) }
                .to_string_lossy()
                .into_owned()
        };
        Self {
            sysname: text(&name.sysname),
            release: text(&name.release),
            version: text(&name.version),
            machine: text(&name.machine),
        }
    }
}

/// The head of every benchmark's JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    pub uname: Uname,
    /// tcg, kvm, native, or what the hypervisor calls itself
    pub accelerator: String,
    pub cpu: String,
    pub cpus: usize,
    pub memory_mib: u64,
    /// Of this repository, from $ASYNCFORK_COMMIT
    #[serde(default)]
    pub commit: Option<String>,
    /// Hash of the patch series in the kernel, from $ASYNCFORK_SERIES
    pub series: Option<String>,
    /// Hash of the kernel's configuration, from $ASYNCFORK_CONFIG
    pub config: Option<String>,
    pub command_line: Vec<String>,
}

impl Machine {
    /// Describes this machine; `accelerator` overrides what the CPU says.
    pub fn read(accelerator: Option<String>) -> Self {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        Self {
            uname: Uname::read(),
            accelerator: accelerator.unwrap_or_else(hypervisor),
            cpu: field(&cpuinfo, "model name")
                .unwrap_or("unknown")
                .to_owned(),
            cpus: std::thread::available_parallelism().map_or(1, Into::into),
            memory_mib: meminfo_mib("MemTotal"),
            commit: env::var("ASYNCFORK_COMMIT").ok(),
            series: env::var("ASYNCFORK_SERIES").ok(),
            config: env::var("ASYNCFORK_CONFIG").ok(),
            command_line: env::args().collect(),
        }
    }

    /// One line for the head of a report.
    pub fn line(&self) -> String {
        let Self {
            uname,
            accelerator,
            cpu,
            cpus,
            memory_mib,
            ..
        } = self;
        format!(
            "Linux {}, {accelerator}, {cpus} x {cpu}, {memory_mib} MiB",
            uname.release
        )
    }
}

/// MiB of memory that can be taken without swapping.
pub fn available_mib() -> u64 {
    meminfo_mib("MemAvailable")
}

/// MiB of swap that are free.
pub fn free_swap_mib() -> u64 {
    meminfo_mib("SwapFree")
}

/// Of 1, 5 and 15 minutes; empty if it is not known.
pub fn load_average() -> Vec<f64> {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ')
        .map_while(|word| word.parse().ok())
        .take(3)
        .collect()
}

/// The file system that a directory is on.
pub struct FileSystem {
    pub free_mib: u64,
    /// It is a tmpfs: its files take memory.
    pub in_memory: bool,
}

impl FileSystem {
    pub fn read(directory: &Path) -> io::Result<Self> {
        let path = CString::new(directory.as_os_str().as_bytes())?;
        // SAFETY: all-zero is a valid `statfs`.
        let mut status: libc::statfs = unsafe { std::mem::zeroed() };
        // SAFETY: `path` is a C string and `status` is valid for writes.
        if unsafe { libc::statfs(path.as_ptr(), &raw mut status) } == -1 {
            return Err(io::Error::last_os_error());
        }
        Ok(Self {
            free_mib: (status.f_bavail * status.f_bsize as u64) >> 20,
            in_memory: status.f_type == libc::TMPFS_MAGIC,
        })
    }
}

fn meminfo_mib(name: &str) -> u64 {
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    kib(&meminfo, name).unwrap_or(0) >> 10
}

/// The value of the first line `name: value kB`.
pub fn kib(text: &str, name: &str) -> Option<u64> {
    field(text, name)?.strip_suffix(" kB")?.parse().ok()
}

/// The value of the first line `name : value`.
pub fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == name).then(|| value.trim())
    })
}

/// `/proc/PID/status` of process `pid`, in the /proc below `root`, and its name.
///
/// # Errors
///
/// That it is not there.
pub fn process_status(root: &Path, pid: impl fmt::Display) -> Result<(String, String)> {
    let Ok(status) = fs::read_to_string(root.join(format!("proc/{pid}/status"))) else {
        bail!("there is no process {pid}: it has exited, or never was (or /proc hides it: root)");
    };
    let name = field(&status, "Name").unwrap_or("?").to_owned();
    Ok((status, name))
}

/// What runs this CPU: the hypervisor's signature in CPUID leaf 0x4000_0000.
#[cfg(target_arch = "x86_64")]
#[allow(
    unused_unsafe,
    reason = "__cpuid() became safe after the oldest Rust this builds with"
)]
fn hypervisor() -> String {
    use std::arch::x86_64::__cpuid;

    const HYPERVISOR_PRESENT: u32 = 1 << 31;
    // SAFETY: every x86-64 CPU has CPUID, and leaf 1.
    if unsafe { __cpuid(1) }.ecx & HYPERVISOR_PRESENT == 0 {
        return "native".into();
    }
    // SAFETY: the bit above says that this leaf is there.
    let leaf = unsafe { __cpuid(0x4000_0000) };
    let signature: Vec<u8> = [leaf.ebx, leaf.ecx, leaf.edx]
        .iter()
        .flat_map(|word| word.to_le_bytes())
        .collect();
    match String::from_utf8_lossy(&signature).trim_end_matches('\0') {
        "TCGTCGTCGTCG" => "tcg".into(),
        "KVMKVMKVM" => "kvm".into(),
        other => other.into(),
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn hypervisor() -> String {
    "unknown".into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields() {
        let cpuinfo = "processor\t: 0\nmodel name\t: QEMU TCG CPU version 2.5+\n\nprocessor\t: 1\n";
        assert_eq!(
            field(cpuinfo, "model name"),
            Some("QEMU TCG CPU version 2.5+")
        );
        assert_eq!(field(cpuinfo, "model"), None);
        assert_eq!(
            field("MemTotal:       24682496 kB\n", "MemTotal"),
            Some("24682496 kB")
        );
        assert_eq!(kib("VmSwap:\t      12 kB\n", "VmSwap"), Some(12));
    }

    #[test]
    fn this_machine() {
        let machine = Machine::read(None);
        assert!(machine.memory_mib > available_mib());
        assert!(!machine.accelerator.is_empty());
        assert_eq!(load_average().len(), 3);
        assert_eq!(machine.uname.sysname, "Linux");
        assert_eq!(Machine::read(Some("tcg".into())).accelerator, "tcg");
        let json = serde_json::to_string(&machine).unwrap();
        assert_eq!(serde_json::from_str::<Machine>(&json).unwrap(), machine);
    }
}
