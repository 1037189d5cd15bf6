// SPDX-License-Identifier: GPL-2.0

//! The counters `async_pgtable_*` of `/proc/vmstat`.

use std::collections::BTreeMap;
use std::fs;
use std::io;

const PATH: &str = "/proc/vmstat";
const PREFIX: &str = "async_pgtable_";

/// What each counter counts, in the order in which they are shown. Names are without the prefix.
const MEANINGS: &[(&str, &str)] = &[
    ("session_start", "forks whose copy was deferred"),
    ("session_complete", "sessions whose every range was settled"),
    (
        "session_abandon",
        "sessions the child left early (exit, exec, kill)",
    ),
    (
        "session_fail",
        "sessions without memory; the child was killed",
    ),
    ("range_defer", "2 MiB ranges left to copy after the call"),
    (
        "range_sync",
        "copied in the call: no memory to defer, or too many sessions",
    ),
    ("range_copy", "ranges copied by the child before it ran"),
    ("range_pull", "ranges settled on access to the child"),
    ("range_push", "ranges settled by the parent before a change"),
    ("range_abandon", "ranges nobody had to copy any more"),
    ("fallback_off", "copied in the call: vm.async_pgtable is 0"),
    (
        "fallback_arch",
        "copied in the call: this CPU or mode cannot",
    ),
    (
        "fallback_notifier",
        "copied in the call: mmu notifiers (KVM, RDMA)",
    ),
    (
        "fallback_pinned",
        "copied in the call: pages pinned for a device",
    ),
    ("fallback_small", "copied in the call: nothing to defer"),
    (
        "fallback_sessions",
        "copied in the call: 16 children wait already",
    ),
    (
        "fallback_nomem",
        "copied in the call: no memory for a session",
    ),
];

/// What the counter `name` (without prefix) counts, if this crate knows it.
pub fn meaning(name: &str) -> Option<&'static str> {
    MEANINGS
        .iter()
        .find(|(known, _)| *known == name)
        .map(|(_, meaning)| *meaning)
}

/// A reading of the counters, or the difference of two. They only grow, and count since boot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(transparent))]
pub struct Counters(BTreeMap<String, u64>);

impl Counters {
    /// Takes the feature's counters, known to this crate or not, out of the text of `/proc/vmstat`.
    pub fn parse(vmstat: &str) -> Self {
        let counter = |line: &str| {
            let (name, value) = line.strip_prefix(PREFIX)?.split_once(' ')?;
            Some((name.to_owned(), value.trim().parse().ok()?))
        };
        Self(vmstat.lines().filter_map(counter).collect())
    }

    /// The counter `name` (without prefix); 0 if the kernel does not have it.
    pub fn get(&self, name: &str) -> u64 {
        self.0.get(name).copied().unwrap_or(0)
    }

    /// How many forks were asked to be asynchronous and were not, for whatever reason.
    pub fn fallbacks(&self) -> u64 {
        self.0
            .iter()
            .filter(|(name, _)| name.starts_with("fallback_"))
            .map(|(_, value)| value)
            .sum()
    }

    /// How many sessions are pending: begun, and neither complete nor given up.
    ///
    /// The kernel does not read all counters at one moment, so while forks go on it is approximate.
    pub fn sessions_pending(&self) -> u64 {
        let over = ["session_complete", "session_abandon", "session_fail"];
        self.left("session_start", &over)
    }

    /// How many ranges are still to be copied, or not needed any more; approximate in the same way.
    pub fn ranges_left(&self) -> u64 {
        let over = ["range_copy", "range_pull", "range_push", "range_abandon"];
        self.left("range_defer", &over)
    }

    fn left(&self, begun: &str, over: &[&str]) -> u64 {
        let over = over.iter().map(|name| self.get(name)).sum();
        self.get(begun).saturating_sub(over)
    }

    /// What was counted between `earlier` and this reading.
    pub fn since(&self, earlier: &Self) -> Self {
        let difference = |(name, value): (&String, &u64)| {
            (name.clone(), value.saturating_sub(earlier.get(name)))
        };
        Self(self.0.iter().map(difference).collect())
    }

    /// The sum of two differences.
    pub fn plus(mut self, other: &Self) -> Self {
        for (name, value) in &other.0 {
            *self.0.entry(name.clone()).or_default() += value;
        }
        self
    }

    /// Name and value of each counter: the known ones in their order, then the others by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, u64)> {
        let known = MEANINGS
            .iter()
            .filter_map(|(name, _)| self.0.get_key_value(*name));
        let others = self.0.iter().filter(|(name, _)| meaning(name).is_none());
        known
            .chain(others)
            .map(|(name, value)| (name.as_str(), *value))
    }
}

/// Reads the counters.
///
/// # Errors
///
/// `NotFound` if the kernel has none of them.
pub fn counters() -> io::Result<Counters> {
    let counters = Counters::parse(&fs::read_to_string(PATH)?);
    if counters.0.is_empty() {
        return Err(io::Error::new(
            io::ErrorKind::NotFound,
            format!("{PATH} has no {PREFIX}* counters"),
        ));
    }
    Ok(counters)
}

#[cfg(test)]
mod tests {
    use super::*;

    const VMSTAT: &str = "nr_free_pages 123\n\
        async_pgtable_session_start 7\n\
        async_pgtable_range_defer 3584\n\
        async_pgtable_fallback_off 2\n\
        async_pgtable_fallback_small 3\n\
        async_pgtable_brand_new 5\n\
        async_pgtable_broken x\n\
        nr_unstable 0\n";

    #[test]
    fn parses_its_own_lines_only() {
        let counters = Counters::parse(VMSTAT);
        let shown: Vec<_> = counters.iter().collect();
        assert_eq!(
            shown,
            [
                ("session_start", 7),
                ("range_defer", 3584),
                ("fallback_off", 2),
                ("fallback_small", 3),
                ("brand_new", 5)
            ]
        );
        assert_eq!(counters.fallbacks(), 5);
        assert_eq!(counters.get("session_fail"), 0);
        assert_eq!(Counters::parse("nr_free_pages 123\n"), Counters::default());
    }

    #[test]
    fn difference_is_per_counter() {
        let later = Counters::parse("async_pgtable_session_start 9\nasync_pgtable_range_push 4\n");
        let delta = later.since(&Counters::parse(VMSTAT));
        assert_eq!(
            delta.iter().collect::<Vec<_>>(),
            [("session_start", 2), ("range_push", 4)]
        );
        let sum = delta.plus(&Counters::parse(
            "async_pgtable_range_push 1\nasync_pgtable_range_copy 2\n",
        ));
        assert_eq!(
            sum.iter().collect::<Vec<_>>(),
            [("session_start", 2), ("range_copy", 2), ("range_push", 5)]
        );
    }

    #[test]
    fn what_is_pending() {
        let text = |values: [u64; 4]| {
            let names = ["session_start", "session_fail", "range_defer", "range_pull"];
            let lines = names.iter().zip(values);
            lines
                .map(|(name, value)| format!("{PREFIX}{name} {value}\n"))
                .collect::<String>()
        };
        let counters = Counters::parse(&text([5, 1, 900, 100]));
        assert_eq!(counters.sessions_pending(), 4);
        assert_eq!(counters.ranges_left(), 800);
        // Read while a session ends: more over than begun.
        let counters = Counters::parse(&text([5, 6, 900, 901]));
        assert_eq!(
            (counters.sessions_pending(), counters.ranges_left()),
            (0, 0)
        );
    }

    #[cfg(feature = "serde")]
    #[test]
    fn json_round_trip() {
        let counters = Counters::parse(VMSTAT);
        let json = serde_json::to_string(&counters).unwrap();
        assert_eq!(serde_json::from_str::<Counters>(&json).unwrap(), counters);
    }
}
