// SPDX-License-Identifier: GPL-2.0

//! What the clients have written, and whether a snapshot is what that was at one instant.
//!
//! Client c of C has the keys k with k mod C = c to itself. It sends SETs on one connection, where
//! the server takes them in their order, numbers them 1, 2, ..., and each value has its SET's number
//! in it. So a snapshot tells, for each client, the last SET that is in it, N. It is exact if
//!
//! - every key of the client has the value that its SETs 1 to N leave there, whole, and there are
//!   no other keys; and
//! - there was an instant, between the moments when BGSAVE was sent and when its answer had
//!   arrived, before which SET N of every client had been sent, and before which SET N + 1 of no
//!   client had been answered.
//!
//! The second says more than that N is, for each client, from the last SET answered before BGSAVE
//! to the last one sent before its answer: all clients must have been cut at the same time.
//!
//! A check takes 16 bytes per key, and 24 per SET since the last exact snapshot; values are not
//! kept.

use std::iter;
use std::ops::Range;
use std::time::Duration;
use std::time::Instant;

use serde::Deserialize;
use serde::Serialize;

use super::data::Contents;
use super::data::Value;
use crate::report::time;

const _: () = assert!(size_of::<Write>() <= 24);

/// One SET.
pub struct Write {
    pub key: u32,
    /// From then to its answer, in microseconds, rounded up
    delay: u32,
    pub sent: Instant,
}

impl Write {
    /// Of `key`. `sent` was taken before the command was sent, `answered` after the answer had
    /// arrived.
    pub fn new(key: u32, sent: Instant, answered: Instant) -> Self {
        let delay = (answered - sent).as_nanos().div_ceil(1000);
        Self {
            key,
            delay: delay.try_into().unwrap_or(u32::MAX),
            sent,
        }
    }

    pub fn answered(&self) -> Instant {
        self.sent + Duration::from_micros(self.delay.into())
    }
}

/// Where a snapshot ends, for one client. SETs are numbered from 1; 0 is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cut {
    /// The last SET that was answered before BGSAVE was sent
    pub answered: u64,
    /// The last one in the snapshot
    pub included: u64,
    /// The last one that was sent before BGSAVE was answered
    pub sent: u64,
}

/// What came of a check.
pub struct Outcome {
    /// By client
    pub cuts: Vec<Cut>,
    /// Why the snapshot is not exact, if it is not
    pub difference: Option<String>,
}

/// The SETs of one client.
#[derive(Default)]
struct Log {
    /// How many are in [`History::values`]
    before: u64,
    /// Those after them, in the order in which they were sent
    writes: Vec<Write>,
}

impl Log {
    /// The number of the last SET for which `is_early`, which holds for none after one for which it
    /// does not, but for microseconds to which answers are rounded.
    fn last(&self, is_early: impl Fn(&Write) -> bool) -> u64 {
        self.before + self.writes.partition_point(is_early) as u64
    }

    /// SET `number`, unless it is in [`History::values`] or was never sent.
    fn get(&self, number: u64) -> Option<&Write> {
        let index = number.checked_sub(self.before + 1)?;
        self.writes.get(index as usize)
    }
}

/// All SETs.
pub struct History {
    /// By key, the number of the SET whose value the last exact snapshot had
    values: Vec<u32>,
    /// By client, those after that snapshot
    logs: Vec<Log>,
}

impl History {
    /// Of `clients` clients that have not written yet, to `keys` keys that have their first values.
    pub fn new(keys: u64, clients: usize) -> Self {
        Self {
            values: vec![0; keys as usize],
            logs: iter::repeat_with(Log::default).take(clients).collect(),
        }
    }

    /// Adds what the clients have written since, for each in the order of its numbers.
    pub fn add(&mut self, writes: Vec<Vec<Write>>) {
        for (log, writes) in self.logs.iter_mut().zip(writes) {
            log.writes.extend(writes);
        }
    }

    /// Checks what a snapshot holds, which was made by the BGSAVE that was sent and answered at the
    /// ends of `bgsave`.
    pub fn check(&mut self, contents: &Contents, bgsave: &Range<Instant>) -> Outcome {
        let cuts = self.cuts(contents, bgsave);
        let expected = self.replay(&cuts);
        let difference =
            faults(contents, &expected, &cuts).or_else(|| self.no_instant(&cuts, bgsave));
        if difference.is_none() {
            self.values = expected;
            for (log, cut) in self.logs.iter_mut().zip(&cuts) {
                log.writes.drain(..(cut.included - log.before) as usize);
                log.before = cut.included;
            }
        }
        Outcome { cuts, difference }
    }

    /// What comes of a snapshot that cannot be read, for `reason`.
    pub fn unreadable(&self, reason: &anyhow::Error, bgsave: &Range<Instant>) -> Outcome {
        Outcome {
            cuts: self.bounds(bgsave),
            difference: Some(format!("{reason:#}")),
        }
    }

    /// By client, a cut without news.
    fn bounds(&self, bgsave: &Range<Instant>) -> Vec<Cut> {
        let cut = |log: &Log| Cut {
            answered: log.last(|write| write.answered() < bgsave.start),
            included: log.before,
            sent: log.last(|write| write.sent < bgsave.end),
        };
        self.logs.iter().map(cut).collect()
    }

    fn cuts(&self, contents: &Contents, bgsave: &Range<Instant>) -> Vec<Cut> {
        let mut cuts = self.bounds(bgsave);
        for (key, value) in contents.values.iter().enumerate() {
            if let Value::Whole(number) = *value {
                let included = &mut cuts[key % self.logs.len()].included;
                *included = u64::from(number).max(*included);
            }
        }
        cuts
    }

    /// By key, the number of the SET whose value it has once each client has written what its cut
    /// includes.
    fn replay(&self, cuts: &[Cut]) -> Vec<u32> {
        let mut values = self.values.clone();
        for (log, cut) in self.logs.iter().zip(cuts) {
            for (write, number) in log.writes.iter().zip(log.before + 1..=cut.included) {
                values[write.key as usize] = number as u32;
            }
        }
        values
    }

    /// Says so if there is no instant at which all of `cuts` were possible.
    fn no_instant(&self, cuts: &[Cut], bgsave: &Range<Instant>) -> Option<String> {
        let clients = || self.logs.iter().zip(cuts).enumerate();
        let sent = clients().filter_map(|(client, (log, cut))| {
            let number = cut.included;
            let what = format!("client {client}'s SET {number}, which is in it, was sent");
            Some((log.get(number)?.sent, what))
        });
        let answered = clients().filter_map(|(client, (log, cut))| {
            let number = cut.included + 1;
            let what = format!("client {client}'s SET {number}, which is not in it, was answered");
            Some((log.get(number)?.answered(), what))
        });
        let begin = iter::once((bgsave.start, "BGSAVE was sent".into()));
        let end = iter::once((bgsave.end, "BGSAVE was answered".into()));
        let (from, sent) = begin.chain(sent).max()?;
        let (until, answered) = end.chain(answered).min()?;
        let gap = time(from.saturating_duration_since(until).as_nanos() as f64);
        (until < from).then(|| format!("{answered} {gap} before {sent}"))
    }
}

/// Says which keys do not have what they should have by `expected`.
fn faults(contents: &Contents, expected: &[u32], cuts: &[Cut]) -> Option<String> {
    let fault = |(key, (value, expected)): (usize, (&Value, &u32))| match value {
        Value::Whole(number) if number == expected => None,
        Value::Whole(number) => {
            let client = key % cuts.len();
            Some(format!(
                "key {key} has client {client}'s SET {number} instead of SET {expected}, in a \
                 snapshot with its SET {}",
                cuts[client].included
            ))
        }
        Value::Missing => Some(format!("key {key} is missing")),
        Value::Foreign => Some(format!(
            "key {key} has a value that was never written to it"
        )),
    };
    let keys = contents.values.iter().zip(expected).enumerate();
    let mut faults = keys.filter_map(fault);
    match (faults.next(), faults.count()) {
        (Some(first), 0) => Some(first),
        (Some(first), more) => Some(format!("{first}; and {more} more")),
        (None, _) if contents.size != expected.len() as u64 => Some(format!(
            "{} keys instead of {}",
            contents.size,
            expected.len()
        )),
        (None, _) => None,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const KEYS: u64 = 8;
    const CLIENTS: usize = 2;
    /// SETs of each client
    const WRITES: u64 = 12;

    /// Two clients in turn: client 0's SET n is sent at 10 n ms and answered at 10 n + 4, client
    /// 1's 5 ms later. Client 0 has the even keys.
    struct Run {
        start: Instant,
        history: History,
    }

    fn sent(client: usize, number: u64) -> u64 {
        10 * number + 5 * client as u64
    }

    fn answered(client: usize, number: u64) -> u64 {
        sent(client, number) + 4
    }

    fn key(client: usize, number: u64) -> usize {
        (number * number % (KEYS / 2)) as usize * CLIENTS + client
    }

    impl Run {
        fn new() -> Self {
            let start = Instant::now();
            let at = |ms| start + Duration::from_millis(ms);
            let write = |client, number| {
                let (sent, answered) = (sent(client, number), answered(client, number));
                Write::new(key(client, number) as u32, at(sent), at(answered))
            };
            let mut history = History::new(KEYS, CLIENTS);
            history.add(
                (0..CLIENTS)
                    .map(|client| (1..=WRITES).map(|number| write(client, number)).collect())
                    .collect(),
            );
            Self { start, history }
        }

        /// Checks `contents` as a snapshot by a BGSAVE from `ms.start` to `ms.end`.
        fn check(&mut self, contents: &Contents, us: Range<u64>) -> Outcome {
            let at = |us| self.start + Duration::from_micros(us);
            self.history.check(contents, &(at(us.start)..at(us.end)))
        }
    }

    /// What the server has after so many SETs of each client.
    fn contents(included: [u64; CLIENTS]) -> Contents {
        let mut values = vec![Value::Whole(0); KEYS as usize];
        for (client, last) in included.into_iter().enumerate() {
            for number in 1..=last {
                values[key(client, number)] = Value::Whole(number as u32);
            }
        }
        Contents { size: KEYS, values }
    }

    /// A BGSAVE while no SET is under way, after SET 4 of client 0 and SET 3 of client 1.
    const QUIET: Range<u64> = 44_200..44_800;
    const AT_QUIET: [u64; CLIENTS] = [4, 3];

    /// Asserts that `contents` are not exact and that the reason has `expected` in it.
    #[track_caller]
    fn differs(contents: &Contents, us: Range<u64>, expected: &str) {
        let difference = Run::new().check(contents, us).difference;
        let difference = difference.expect("the snapshot is torn");
        assert!(difference.contains(expected), "{difference}");
    }

    #[test]
    fn the_data_of_the_fork() {
        let mut run = Run::new();
        for (included, us) in [
            (AT_QUIET, QUIET),
            (AT_QUIET, QUIET),
            ([5, 5], 59_500..59_600),
            // Client 0's SET 9 is under way.
            ([8, 8], 92_000..92_001),
            ([9, 8], 92_000..92_001),
            ([12, 12], 500_000..501_000),
        ] {
            let outcome = run.check(&contents(included), us);
            assert_eq!(outcome.difference, None);
            for (cut, included) in outcome.cuts.iter().zip(included) {
                assert_eq!(cut.included, included);
                assert!((cut.answered..=cut.sent).contains(&included), "{cut:?}");
            }
        }
    }

    #[test]
    fn a_changed_value() {
        let mut torn = contents(AT_QUIET);
        torn.values[5] = Value::Foreign;
        differs(&torn, QUIET, "key 5 has a value that was never written");
    }

    #[test]
    fn a_missing_key() {
        let mut torn = contents(AT_QUIET);
        torn.values[7] = Value::Missing;
        differs(&torn, QUIET, "key 7 is missing");
    }

    #[test]
    fn a_key_too_many() {
        let mut torn = contents(AT_QUIET);
        torn.size += 1;
        differs(&torn, QUIET, "9 keys instead of 8");
    }

    #[test]
    fn a_value_from_after_the_fork() {
        // Alone it could only be client 0's next SET; the time tells.
        let after = contents([5, 3]);
        differs(
            &after,
            QUIET,
            "BGSAVE was answered 5.20 ms before client 0's SET 5",
        );
        // Without the SETs before it.
        let mut torn = contents(AT_QUIET);
        torn.values[key(0, 8)] = Value::Whole(8);
        differs(&torn, QUIET, "instead of SET");
    }

    #[test]
    fn a_value_from_before_the_fork() {
        differs(
            &contents([4, 2]),
            QUIET,
            "client 1's SET 3, which is not in it, was answered 5.20 ms before BGSAVE was sent",
        );
    }

    #[test]
    fn not_the_first_sets_of_a_client() {
        // SET 6 without SET 5: in the time of BGSAVE both, or none, could be in it.
        let mut torn = contents([4, 4]);
        torn.values[key(0, 6)] = Value::Whole(6);
        differs(
            &torn,
            40_000..70_000,
            "key 2 has client 0's SET 3 instead of SET 5, in a snapshot with its SET 6",
        );
    }

    #[test]
    fn two_clients_at_different_instants() {
        // Each of the two is possible in the time of BGSAVE, but not both.
        differs(
            &contents([6, 3]),
            30_000..80_000,
            "client 1's SET 4, which is not in it, was answered 11.0 ms before client 0's SET 6, \
             which is in it, was sent",
        );
    }

    #[test]
    fn a_set_that_was_never_sent() {
        let mut torn = contents([12, 12]);
        torn.values[0] = Value::Whole(13);
        differs(&torn, 500_000..501_000, "SET 13 instead of");
    }

    /// Whatever one key has instead of what it should have.
    #[test]
    fn every_change_of_one_key() {
        let whole = (0..=WRITES as u32 + 1).map(Value::Whole);
        let others: Vec<_> = whole.chain([Value::Missing, Value::Foreign]).collect();
        for key in 0..KEYS as usize {
            for other in &others {
                let mut torn = contents(AT_QUIET);
                let same = torn.values[key] == *other;
                torn.values[key] = *other;
                let difference = Run::new().check(&torn, QUIET).difference;
                assert_eq!(difference.is_none(), same, "key {key}, {other:?}");
            }
        }
    }

    /// Any two numbers of SETs pass if, and only if, they were possible at one instant.
    #[test]
    fn every_pair_of_cuts() {
        let us = 37_500..62_500;
        let mut passed = 0;
        for zero in 0..=WRITES {
            for one in 0..=WRITES {
                let possible = us.clone().step_by(500).any(|now| {
                    [zero, one].into_iter().enumerate().all(|(client, last)| {
                        (last == 0 || sent(client, last) * 1000 < now)
                            && (last == WRITES || answered(client, last + 1) * 1000 > now)
                    })
                });
                let difference = Run::new()
                    .check(&contents([zero, one]), us.clone())
                    .difference;
                assert_eq!(
                    difference.is_none(),
                    possible,
                    "{zero}, {one}: {difference:?}"
                );
                passed += u32::from(possible);
            }
        }
        // Seven: from 3, 2 over 3, 3 to 6, 5.
        assert_eq!(passed, 7);
    }

    #[test]
    fn answers_are_not_early() {
        let sent = Instant::now();
        for (ns, us) in [
            (0, 0),
            (1, 1),
            (1000, 1),
            (1001, 2),
            (u64::MAX / 2, u32::MAX),
        ] {
            let write = Write::new(0, sent, sent + Duration::from_nanos(ns));
            assert_eq!(write.answered() - sent, Duration::from_micros(us.into()));
        }
    }

    #[test]
    fn goes_on_after_a_torn_snapshot() {
        let mut run = Run::new();
        let mut torn = contents(AT_QUIET);
        torn.values[0] = Value::Missing;
        assert!(run.check(&torn, QUIET).difference.is_some());
        let exact = run.check(&contents([5, 5]), 59_500..59_600);
        assert_eq!(exact.difference, None);
    }
}
