// SPDX-License-Identifier: GPL-2.0

//! The SETs around a BGSAVE, by the time at which they were answered.

use std::collections::BTreeMap;
use std::time::Duration;
use std::time::Instant;

use serde::Deserialize;
use serde::Serialize;

use super::not_negative;
use super::record::Save;
use super::record::figures_of;
use super::record::those_with;
use crate::command::Mode;
use crate::figures::Figure;
use crate::figures::Unit;
use crate::redis::Write;
use crate::report::median;

/// What is counted as one.
const BIN: Duration = Duration::from_millis(100);
/// So many bins in a row with a p99 of the steady state end the disturbance.
const SETTLED: usize = 3;
/// How far above its median without a snapshot a p99 still is of the steady state.
const STEADY: f64 = 1.25;

#[derive(clap::Args)]
pub struct Around {
    /// Seconds for which the load goes on after each snapshot
    #[arg(long, value_name = "SECONDS", default_value_t = 0.0, value_parser = not_negative)]
    after: f64,

    /// The load goes on after each snapshot until SECONDS after its BGSAVE: a snapshot so often
    #[arg(long, value_name = "SECONDS", conflicts_with = "after", value_parser = not_negative)]
    every: Option<f64>,

    /// Record the throughput over time, around each snapshot
    #[arg(long)]
    timeline: bool,
}

impl Around {
    /// How long the load goes on after a snapshot that took `window`.
    pub fn rest(&self, window: Duration) -> Duration {
        match self.every {
            Some(every) => Duration::from_secs_f64(every).saturating_sub(window),
            None => Duration::from_secs_f64(self.after),
        }
    }

    /// The parameter of the record.
    pub fn every_seconds(&self) -> Option<f64> {
        self.every
    }

    /// What became of all SETs around the BGSAVE sent at `bgsave`, if that is to be recorded. `all`
    /// is the time in which the load was on.
    pub fn timeline(
        &self,
        writes: &[Vec<Write>],
        bgsave: Instant,
        all: std::ops::Range<Instant>,
    ) -> Option<Timeline> {
        let answers = writes.iter().flatten().map(|write| {
            let answered = write.answered();
            (answered, answered - write.sent)
        });
        self.timeline.then(|| Timeline::of(answers, bgsave, all))
    }
}

/// Whole bins of [`BIN`], of which one begins with BGSAVE.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Timeline {
    pub bin_ms: u64,
    /// Bins that end before BGSAVE
    pub before: usize,
    pub bins: Vec<Bin>,
}

/// The SETs that were answered in one bin. Latencies are from when they were sent, to microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bin {
    pub count: u64,
    pub p50_us: u64,
    pub p99_us: u64,
    pub max_us: u64,
}

impl Bin {
    fn of(mut us: Vec<u64>) -> Self {
        us.sort_unstable();
        // The least one that so many percent of all are not above.
        let percentile = |percent: usize| {
            let place = (us.len() * percent).div_ceil(100).saturating_sub(1);
            us.get(place).copied().unwrap_or(0)
        };
        Self {
            count: us.len() as u64,
            p50_us: percentile(50),
            p99_us: percentile(99),
            max_us: percentile(100),
        }
    }
}

impl Timeline {
    /// Of `answers`, each with its latency.
    fn of(
        answers: impl Iterator<Item = (Instant, Duration)>,
        bgsave: Instant,
        all: std::ops::Range<Instant>,
    ) -> Self {
        let whole = |time: Duration| (time.as_nanos() / BIN.as_nanos()) as usize;
        let before = whole(bgsave - all.start);
        let first = bgsave - BIN * before as u32;
        let mut bins = vec![Vec::new(); whole(all.end - first)];
        for (answered, latency) in answers {
            let place = answered.checked_duration_since(first).map(whole);
            if let Some(bin) = place.and_then(|place| bins.get_mut(place)) {
                bin.push(latency.as_micros() as u64);
            }
        }
        Self {
            bin_ms: BIN.as_millis() as u64,
            before,
            bins: bins.into_iter().map(Bin::of).collect(),
        }
    }

    /// Those without a snapshot.
    fn steady(&self) -> &[Bin] {
        &self.bins[..self.before]
    }

    /// Those from BGSAVE on.
    fn disturbed(&self) -> &[Bin] {
        &self.bins[self.before..]
    }

    fn seconds(&self, bins: f64) -> f64 {
        bins * self.bin_ms as f64 / 1e3
    }

    fn per_second(&self, count: f64) -> f64 {
        count / self.seconds(1.0)
    }

    /// SETs per second of the median bin without a snapshot.
    fn steady_per_second(&self) -> Option<f64> {
        let counts = self.steady().iter().map(|bin| bin.count as f64);
        median(counts).map(|count| self.per_second(count))
    }

    /// SETs per second of the worst bin since BGSAVE.
    fn least_per_second(&self) -> Option<f64> {
        let least = self.disturbed().iter().map(|bin| bin.count).min()?;
        Some(self.per_second(least as f64))
    }

    /// Of the steady state, in percent.
    fn least_percent(&self) -> Option<f64> {
        let steady = self.steady_per_second().filter(|steady| *steady > 0.0)?;
        Some(100.0 * self.least_per_second()? / steady)
    }

    /// Seconds from BGSAVE until p99 is of the steady state again.
    fn settled_seconds(&self) -> Option<f64> {
        let p99 = |bin: &Bin| bin.p99_us as f64;
        let limit = STEADY * median(self.steady().iter().map(p99))?;
        // Nothing at all was answered in an empty one.
        let is_steady = |bin: &Bin| bin.count > 0 && p99(bin) <= limit;
        let mut runs = self.disturbed().windows(SETTLED);
        let bins = runs.position(|bins| bins.iter().all(is_steady))?;
        Some(self.seconds(bins as f64))
    }

    /// The same, or how long it was looked for.
    fn disturbed_seconds(&self) -> Option<f64> {
        let all = self.seconds(self.disturbed().len() as f64);
        (!self.steady().is_empty()).then(|| self.settled_seconds().unwrap_or(all))
    }
}

type Part = (&'static str, Unit, fn(&Timeline) -> Option<f64>);
const PARTS: [Part; 4] = [
    ("SETs per second, steady", Unit::Number, |t| {
        t.steady_per_second()
    }),
    (
        "SETs per second, the least of 100 ms since BGSAVE",
        Unit::Number,
        |t| t.least_per_second(),
    ),
    ("the same in percent of steady", Unit::Number, |t| {
        t.least_percent()
    }),
    ("from BGSAVE until p99 is steady", Unit::Time, |t| {
        t.disturbed_seconds().map(|seconds| seconds * 1e9)
    }),
];

fn timelines(saves: &[Save], mode: Mode) -> impl Iterator<Item = &Timeline> {
    those_with(saves, mode, |save| save.timeline.as_ref())
}

/// What `asyncfork bench report` says of the saves that have a timeline.
pub fn figures(saves: &[Save]) -> Vec<Figure> {
    figures_of(saves, |save| save.timeline.as_ref(), PARTS)
}

/// How often p99 was not steady again before the load ended.
pub fn notes(saves: &[Save]) -> Vec<String> {
    let note = |mode| {
        let all = timelines(saves, mode).count();
        let settled = timelines(saves, mode).filter(|t| t.settled_seconds().is_some());
        let settled = settled.count();
        (settled < all).then(|| {
            format!(
                "{mode}: p99 was steady again in {settled} of {all} saves before the load ended; \
                 the others count as long as it went on"
            )
        })
    };
    Mode::BOTH.into_iter().filter_map(note).collect()
}

/// The median over all saves in `mode` of the SETs per second in each bin, by seconds from BGSAVE to
/// its middle.
pub fn typical(saves: &[Save], mode: Mode) -> Vec<(f64, f64)> {
    let mut bins: BTreeMap<i64, Vec<f64>> = BTreeMap::new();
    let mut bin_ms = 0;
    for timeline in timelines(saves, mode) {
        bin_ms = timeline.bin_ms;
        for (place, bin) in timeline.bins.iter().enumerate() {
            let place = place as i64 - timeline.before as i64;
            let rate = timeline.per_second(bin.count as f64);
            bins.entry(place).or_default().push(rate);
        }
    }
    let point = |(place, rates): (i64, Vec<f64>)| {
        Some(((place as f64 + 0.5) * bin_ms as f64 / 1e3, median(rates)?))
    };
    bins.into_iter().filter_map(point).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// Ten seconds, BGSAVE in the fourth, of a server that answers once a millisecond, but not for
    /// `pause` after BGSAVE, and then takes 9 ms for each request instead of one for a second.
    fn timeline(pause: Duration) -> Timeline {
        let start = Instant::now();
        let bgsave = start + 3050 * MS;
        let answers = (0..10_000).map(|i| start + i * MS).filter_map(|answered| {
            if (bgsave..bgsave + pause).contains(&answered) {
                return None;
            }
            let slow = (bgsave..bgsave + pause + 1000 * MS).contains(&answered);
            Some((answered, if slow { 9 * MS } else { MS }))
        });
        let answers: Vec<_> = answers.collect();
        Timeline::of(answers.into_iter(), bgsave, start..start + 10_000 * MS)
    }

    #[test]
    fn a_bin_begins_with_the_snapshot() {
        let timeline = timeline(Duration::ZERO);
        assert_eq!((timeline.before, timeline.bins.len()), (30, 99));
        assert!(timeline.bins.iter().all(|bin| bin.count == 100));
        assert_eq!(timeline.steady_per_second(), Some(1000.0));
        assert_eq!(timeline.least_percent(), Some(100.0));
    }

    #[test]
    fn a_known_pause_is_the_minimum() {
        for (pause, least) in [(40, 600.0), (90, 100.0), (100, 0.0), (250, 0.0)] {
            let timeline = timeline(pause * MS);
            assert_eq!(timeline.least_per_second(), Some(least), "{pause}");
            assert_eq!(timeline.least_percent(), Some(least / 10.0), "{pause}");
        }
    }

    #[test]
    fn a_known_disturbance_has_its_length() {
        // To the end of the bin.
        for (pause, seconds) in [(0, 1.0), (50, 1.1), (200, 1.2)] {
            let settled = timeline(pause * MS).settled_seconds();
            assert!((settled.unwrap() - seconds).abs() < 1e-9, "{settled:?}");
        }
        let mut never = timeline(Duration::ZERO);
        let before = never.before;
        never.bins[before..]
            .iter_mut()
            .for_each(|b| b.p99_us = 1300);
        assert_eq!(never.settled_seconds(), None);
        assert_eq!(never.disturbed_seconds(), Some(6.9));
        never.bins[before..]
            .iter_mut()
            .for_each(|b| b.p99_us = 1200);
        assert_eq!(never.settled_seconds(), Some(0.0));
    }

    #[test]
    fn without_a_steady_state() {
        let now = Instant::now();
        let empty = Timeline::of(std::iter::empty(), now, now..now + 150 * MS);
        assert_eq!((empty.before, empty.bins.len()), (0, 1));
        assert_eq!(empty.least_percent(), None);
        assert_eq!(empty.disturbed_seconds(), None);
        assert_eq!(empty.least_per_second(), Some(0.0));
    }

    #[test]
    fn bins() {
        let bin = Bin::of((1..=200).rev().collect());
        assert_eq!((bin.p50_us, bin.p99_us, bin.max_us), (100, 198, 200));
        assert_eq!(Bin::of(vec![]), Bin::default());
    }
}
