// SPDX-License-Identifier: GPL-2.0

//! What became of the forks of a process: `/proc/PID/async_pgtable`.

use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

/// Who says whether a `fork()` of a process is asynchronous.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
pub enum Decider {
    /// Nobody: it is not, but by `clone3()` with the flag.
    Nobody,
    /// The process or who started it, by the prctl.
    Process,
    /// `memory.async_pgtable` of its memory cgroup, or of one above.
    Cgroup,
    /// `vm.async_pgtable`, or a machine that cannot.
    System,
}

/// The forks of a process since its last `execve()`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Forks {
    /// Would a `fork()` be asynchronous?
    pub on: bool,
    /// Who says so.
    pub decided_by: Decider,
    /// Forks that left something to be copied later.
    pub asynchronous: u64,
    /// Forks that were to, and could not.
    pub fallbacks: u64,
    /// Why the last of them could not: a counter `fallback_*` without that; none if there was none.
    pub last_fallback: Option<String>,
    /// Children that have not got all their page tables yet.
    pub children_pending: u64,
    /// Page tables, of 2 MiB each, that the process itself has not got yet.
    pub ranges_pending: u64,
    /// Page tables that were copied to children because the process was about to change memory.
    pub pushes: u64,
    /// How long its tasks were kept by that in all, whatever they waited for.
    #[cfg_attr(feature = "serde", serde(rename = "push_ns", with = "nanoseconds"))]
    pub push_time: Duration,
    /// The longest time that one was.
    #[cfg_attr(feature = "serde", serde(rename = "push_max_ns", with = "nanoseconds"))]
    pub longest_push: Duration,
}

/// As the kernel tells them.
#[cfg(feature = "serde")]
mod nanoseconds {
    use std::time::Duration;

    use serde::Deserialize;
    use serde::Deserializer;
    use serde::Serializer;

    pub fn serialize<S: Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(time.as_nanos().try_into().unwrap_or(u64::MAX))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        u64::deserialize(deserializer).map(Duration::from_nanos)
    }
}

impl Forks {
    /// Takes apart the text of the file. None if something is missing, or it is empty.
    fn parse(text: &str) -> Option<Self> {
        let word = |key: &str| {
            let line = |line: &'_ str| {
                line.strip_prefix(key)?
                    .strip_prefix(": ")
                    .map(str::to_owned)
            };
            text.lines().find_map(line)
        };
        let number = |key| word(key)?.parse::<u64>().ok();
        Some(Self {
            on: number("fork_async")? != 0,
            decided_by: match word("decided_by")?.as_str() {
                "nobody" => Decider::Nobody,
                "process" => Decider::Process,
                "cgroup" => Decider::Cgroup,
                "system" => Decider::System,
                _ => return None,
            },
            asynchronous: number("forks")?,
            fallbacks: number("fallbacks")?,
            last_fallback: Some(word("last_fallback")?).filter(|reason| reason != "none"),
            children_pending: number("children_pending")?,
            ranges_pending: number("ranges_pending")?,
            pushes: number("pushes")?,
            push_time: Duration::from_nanos(number("push_ns")?),
            longest_push: Duration::from_nanos(number("push_max_ns")?),
        })
    }

    /// Of process `pid`, in the /proc below `root`. None if it has no memory, as a thread of the
    /// kernel, or has exited and not been waited for.
    ///
    /// # Errors
    ///
    /// `NotFound` if there is no such process, or the kernel does not tell; `PermissionDenied` if
    /// the caller may not trace it; `InvalidData` if it tells something that this crate does not
    /// know.
    pub fn read(root: &Path, pid: u32) -> io::Result<Option<Self>> {
        let path = root.join(format!("proc/{pid}/async_pgtable"));
        let text = fs::read_to_string(&path)?;
        if text.is_empty() {
            return Ok(None);
        }
        let forks = Self::parse(&text).ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::InvalidData,
                format!("{}: {text:?}", path.display()),
            )
        })?;
        Ok(Some(forks))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "fork_async: 1\ndecided_by: cgroup\nforks: 12\nfallbacks: 2\n\
        last_fallback: pinned\nchildren_pending: 1\nranges_pending: 0\npushes: 340\n\
        push_ns: 8421337\npush_max_ns: 61210\n";

    #[test]
    fn takes_the_text_apart() {
        let forks = Forks::parse(TEXT).unwrap();
        assert!(forks.on);
        assert_eq!(forks.decided_by, Decider::Cgroup);
        assert_eq!(
            (forks.asynchronous, forks.fallbacks, forks.pushes),
            (12, 2, 340)
        );
        assert_eq!((forks.children_pending, forks.ranges_pending), (1, 0));
        assert_eq!(forks.last_fallback.as_deref(), Some("pinned"));
        assert_eq!(forks.push_time, Duration::from_nanos(8_421_337));
        assert_eq!(forks.longest_push, Duration::from_nanos(61_210));
        let text = TEXT.replace("pinned", "none");
        assert_eq!(Forks::parse(&text).unwrap().last_fallback, None);
        // What a later kernel adds does not matter.
        assert_eq!(Forks::parse(&format!("{TEXT}more: x\n")), Some(forks));
    }

    #[test]
    fn every_line_is_needed() {
        for missing in TEXT.lines() {
            let text = TEXT.replace(missing, "");
            assert_eq!(Forks::parse(&text), None, "without {missing}");
        }
        assert_eq!(Forks::parse(&TEXT.replace("cgroup", "moon")), None);
        assert_eq!(Forks::parse(&TEXT.replace(": 12", ": many")), None);
    }
}
