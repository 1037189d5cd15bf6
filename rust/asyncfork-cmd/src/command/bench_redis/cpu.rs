// SPDX-License-Identifier: GPL-2.0

//! The CPU time that a snapshot takes: of the server, of its child, and of the whole kernel.

use std::fs;

use anyhow::Context;
use anyhow::Result;
use serde::Deserialize;
use serde::Serialize;

use super::record::Save;
use super::record::figures_of;
use crate::figures::Figure;
use crate::figures::Unit;
use crate::redis::Client;
use crate::redis::Info;

/// Seconds, in what they were used; a reading, or the difference of two.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cpu {
    pub parent_user: f64,
    pub parent_system: f64,
    /// Of children that have ended: a snapshot's, when it is over
    pub child_user: f64,
    pub child_system: f64,
    /// Of all CPUs in the kernel, whoever it was for; ten milliseconds are the least there is
    pub kernel: f64,
}

impl Cpu {
    /// # Errors
    ///
    /// Those of the server and of the kernel, and that one of them does not say.
    pub fn read(client: &mut Client) -> Result<Self> {
        let info = Info::read(client, "cpu")?;
        Ok(Self {
            parent_user: info.number("used_cpu_user")?,
            parent_system: info.number("used_cpu_sys")?,
            child_user: info.number("used_cpu_user_children")?,
            child_system: info.number("used_cpu_sys_children")?,
            kernel: kernel()?,
        })
    }

    pub fn since(self, before: Self) -> Self {
        Self {
            parent_user: self.parent_user - before.parent_user,
            parent_system: self.parent_system - before.parent_system,
            child_user: self.child_user - before.child_user,
            child_system: self.child_system - before.child_system,
            kernel: self.kernel - before.kernel,
        }
    }
}

fn kernel() -> Result<f64> {
    const PATH: &str = "/proc/stat";
    let text = fs::read_to_string(PATH).with_context(|| format!("cannot read {PATH}"))?;
    let ticks = kernel_ticks(&text).with_context(|| format!("{PATH} has no CPU times"))?;
    // SAFETY: allowed at any time.
    let per_second = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    Ok(ticks as f64 / per_second as f64)
}

/// Those of all CPUs in system calls and faults, in interrupts and what these have left to do.
fn kernel_ticks(stat: &str) -> Option<u64> {
    let fields: Vec<u64> = (stat
        .lines()
        .next()?
        .strip_prefix("cpu ")?
        .split_whitespace())
    .map_while(|word| word.parse().ok())
    .collect();
    let [_user, _nice, system, _idle, _iowait, irq, softirq, ..] = fields[..] else {
        return None;
    };
    Some(system + irq + softirq)
}

type Part = (&'static str, fn(&Cpu) -> f64);
const PARTS: [Part; 5] = [
    ("CPU of the parent in the window", |cpu| {
        cpu.parent_user + cpu.parent_system
    }),
    ("CPU of the parent in the window: kernel", |cpu| {
        cpu.parent_system
    }),
    ("CPU of the child", |cpu| cpu.child_user + cpu.child_system),
    ("CPU of the child: kernel", |cpu| cpu.child_system),
    ("CPU of the whole kernel in the window", |cpu| cpu.kernel),
];

/// Figures of those saves that have it.
pub fn figures(saves: &[Save]) -> Vec<Figure> {
    let nanoseconds = |(name, part): Part| {
        let figure = move |cpu: &Cpu| Some(part(cpu) * 1e9);
        (name, Unit::Time, figure)
    };
    figures_of(saves, |save| save.cpu.as_ref(), PARTS.map(nanoseconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_the_kernel() {
        let stat = "cpu  100 1 20 3000 4 5 6 0 0 0\ncpu0 1 1 1 1\n";
        assert_eq!(kernel_ticks(stat), Some(31));
        assert_eq!(kernel_ticks("cpu  100 1 20\n"), None);
        assert_eq!(kernel_ticks("intr 5\n"), None);
        assert!(kernel().unwrap() > 0.0);
    }

    #[test]
    fn since() {
        let cpu = |seconds: f64| Cpu {
            parent_user: seconds,
            parent_system: 2.0 * seconds,
            child_user: 3.0 * seconds,
            child_system: 4.0 * seconds,
            kernel: 5.0 * seconds,
        };
        assert_eq!(cpu(3.0).since(cpu(1.0)), cpu(2.0));
        let parts = PARTS.map(|(_, part)| part(&cpu(1.0)));
        assert_eq!(parts, [3.0, 2.0, 7.0, 4.0, 5.0]);
    }
}
