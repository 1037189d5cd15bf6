// SPDX-License-Identifier: GPL-2.0

//! What the model takes from the experiments: the calls of bare processes of many sizes (a), and
//! the requests of Redis at some sizes (b).

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::path::Path;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use serde::Deserialize;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::queue::Samples;
use super::window::Times;
use super::window::Window;
use crate::command::Mode;
use crate::command::bench_fork;
use crate::command::bench_redis;
use crate::command::bench_suite;
use crate::figures::Line;
use crate::machine::Machine;
use crate::memory::Pages;
use crate::report;
use crate::report::Latencies;
use crate::report::median;

const PAGE: f64 = 4096.0;
const RANGE: f64 = 2_097_152.0;

/// Where figures come from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// Without its directory
    pub file: String,
    pub experiment: String,
    pub quick: bool,
    /// Points that have not been measured
    pub missing: usize,
    /// Hashes of the patches, each once; so the following
    pub series: BTreeSet<String>,
    pub config: BTreeSet<String>,
    pub commit: BTreeSet<String>,
    pub accelerator: BTreeSet<String>,
    pub cpus: BTreeSet<usize>,
}

impl Source {
    pub fn line(&self) -> String {
        let words = |set: &BTreeSet<String>| match set.is_empty() {
            true => "unknown".into(),
            false => set.iter().cloned().collect::<Vec<_>>().join(" and "),
        };
        let mut line = format!(
            "from {}: {}, series {}, config {}",
            self.file,
            words(&self.accelerator),
            words(&self.series),
            words(&self.config)
        );
        if self.quick {
            line += ", quick";
        }
        if self.missing > 0 {
            line += &format!(", {} points are missing", self.missing);
        }
        line
    }
}

/// An experiment, with all records of one benchmark.
pub struct Experiment<R> {
    pub source: Source,
    /// With the names of the points
    pub records: Vec<(String, R)>,
}

impl<R: DeserializeOwned> Experiment<R> {
    /// # Errors
    ///
    /// That `path` is no experiment, or has no record of `benchmark`.
    pub fn read(path: &Path, benchmark: &str) -> Result<Self> {
        let read = || {
            let name = path.file_name().unwrap_or(path.as_os_str());
            let experiment: bench_suite::Record = serde_json::from_value(report::read(path)?)?;
            Self::of(&name.to_string_lossy(), experiment, benchmark)
        };
        read().with_context(|| format!("cannot model from {}", path.display()))
    }

    pub fn of(file: &str, experiment: bench_suite::Record, benchmark: &str) -> Result<Self> {
        let mut points = experiment.points;
        points.retain(|point| point.record["benchmark"] == benchmark);
        if points.is_empty() {
            bail!("it has nothing that bench {benchmark} has measured");
        }
        let machine = |point: &bench_suite::Done| -> Result<Machine> {
            Ok(serde_json::from_value(point.record["machine"].clone())?)
        };
        let machines = points.iter().map(machine).collect::<Result<Vec<_>>>()?;
        let each = |field: fn(&Machine) -> Option<String>| machines.iter().filter_map(field);
        let source = Source {
            file: file.into(),
            experiment: experiment.experiment,
            quick: experiment.quick,
            missing: experiment.missing,
            series: each(|machine| machine.series.clone()).collect(),
            config: each(|machine| machine.config.clone()).collect(),
            commit: each(|machine| machine.commit.clone()).collect(),
            accelerator: machines.iter().map(|m| m.accelerator.clone()).collect(),
            cpus: machines.iter().map(|machine| machine.cpus).collect(),
        };
        let record = |point: bench_suite::Done| -> Result<(String, R)> {
            let record = serde_json::from_value(point.record);
            let record = record.with_context(|| format!("point {} is not whole", point.name))?;
            Ok((point.name, record))
        };
        let records = points.into_iter().map(record).collect::<Result<_>>()?;
        Ok(Self { source, records })
    }
}

/// How long something takes, against the size of the parent.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Growth {
    /// Per GiB and at zero
    pub line: Line,
    /// The shortest median: it takes no less at any size, whatever the line says
    pub least_ns: f64,
}

impl Growth {
    /// # Errors
    ///
    /// That there are less than three sizes of written pages by `mode`.
    fn of(
        records: &[(String, bench_fork::Record)],
        mode: Mode,
        figure: fn(&bench_fork::Run) -> u64,
    ) -> Result<Self> {
        let samples = |record: &bench_fork::Record| -> Vec<f64> {
            let runs = record.runs.iter().filter(|run| run.mode == mode);
            runs.map(|run| figure(run) as f64).collect()
        };
        let points: Vec<(f64, Vec<f64>)> = written(records)
            .map(|record| (record.mb as f64 / 1024.0, samples(record)))
            .filter(|(_, samples)| !samples.is_empty())
            .collect();
        let slices: Vec<_> = points.iter().map(|(size, s)| (*size, &s[..])).collect();
        let line = Line::through(&slices)
            .with_context(|| format!("a line takes three sizes of written pages by {mode} fork"))?;
        let medians = points.iter().filter_map(|(_, s)| median(s.iter().copied()));
        Ok(Self {
            line,
            least_ns: medians.fold(f64::INFINITY, f64::min),
        })
    }

    fn at(&self, gib: f64) -> f64 {
        self.line.at(gib).max(self.least_ns)
    }
}

/// How long a parent stands still, and its child copies.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pauses {
    pub default_call: Growth,
    pub async_call: Growth,
    /// From the begin of an asynchronous call until the child has copied all
    pub async_copy: Growth,
}

impl Pauses {
    /// # Errors
    ///
    /// That there are less than three sizes of written pages in both modes.
    pub fn of(records: &[(String, bench_fork::Record)]) -> Result<Self> {
        Ok(Self {
            default_call: Growth::of(records, Mode::Default, |run| run.call_ns)?,
            async_call: Growth::of(records, Mode::Async, |run| run.call_ns)?,
            async_copy: Growth::of(records, Mode::Async, |run| run.child_ns)?,
        })
    }

    fn call_ns(&self, mode: Mode, gib: f64) -> f64 {
        match mode {
            Mode::Default => self.default_call.at(gib),
            Mode::Async => self.async_call.at(gib),
        }
    }

    fn copy_ns(&self, mode: Mode, gib: f64) -> f64 {
        match mode {
            Mode::Default => 0.0,
            Mode::Async => self.async_copy.at(gib),
        }
    }
}

fn written(records: &[(String, bench_fork::Record)]) -> impl Iterator<Item = &bench_fork::Record> {
    let records = records.iter().map(|(_, record)| record);
    records.filter(|record| record.pages == Pages::Written)
}

/// What the parent's first writes take: to a page, and to a page of a range that it has to copy.
///
/// # Errors
///
/// That one of them was not measured.
pub fn writes(records: &[(String, bench_fork::Record)]) -> Result<(Samples, Samples)> {
    let (mut pages, mut pushes) = (Latencies::default(), Latencies::default());
    for run in written(records).flat_map(|record| &record.runs) {
        match run.mode {
            Mode::Default => run.writes_ns.iter().for_each(|ns| pages.record(*ns)),
            Mode::Async => pushed(run).for_each(|ns| pushes.record(ns)),
        }
    }
    Ok((
        Samples::of(&pages).context("first writes after a default fork")?,
        Samples::of(&pushes).context("first writes that copy a page table")?,
    ))
}

/// The writes of `run` that have copied a page table: as many as the kernel has counted, and those
/// that took longest.
fn pushed(run: &bench_fork::Run) -> impl Iterator<Item = u64> {
    let counted = run.counters.as_ref().map_or(0, |c| c.get("range_push"));
    let mut writes = run.writes_ns.clone();
    writes.sort_unstable();
    writes.into_iter().rev().take(counted as usize)
}

/// What was measured of Redis at one point.
#[derive(Clone)]
pub struct Point {
    pub name: String,
    pub mb: u64,
    pub clients: u16,
    /// What is the same at points that can be compared
    pub pace: String,
    pub times: Times,
    rate: f64,
    service_ns: f64,
    slowdown: f64,
    touches: f64,
    pages: f64,
    pub measured: BTreeMap<Mode, Measured>,
}

/// The windows of one point in one mode: medians over the snapshots.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// As the server has seen it
    pub call_ns: f64,
    pub window_ns: f64,
    pub p50_ns: f64,
    pub p99_ns: f64,
    pub p999_ns: f64,
    pub max_ns: f64,
    pub requests: f64,
    pub pushes: f64,
}

impl Measured {
    fn of(record: &bench_redis::Record, mode: Mode) -> Option<Self> {
        let saves = || record.saves.iter().filter(|save| save.mode == mode);
        let middle = |figure: &dyn Fn(&bench_redis::Save) -> f64| median(saves().map(figure));
        let percentile = |percent: f64| {
            middle(&|save: &bench_redis::Save| save.inside.percentile(percent) as f64)
        };
        Some(Self {
            call_ns: middle(&|save| save.fork_us as f64 * 1e3)?,
            window_ns: middle(&|save| save.snapshot_seconds * 1e9)?,
            p50_ns: percentile(50.0)?,
            p99_ns: percentile(99.0)?,
            p999_ns: percentile(99.9)?,
            max_ns: middle(&|save| save.inside.max() as f64)?,
            requests: middle(&|save| save.inside.count() as f64)?,
            pushes: middle(&|save| save.counted("range_push"))?,
        })
    }
}

impl Point {
    /// All points with an open loop, by size.
    ///
    /// # Errors
    ///
    /// That there is none, or that something is missing which the model needs.
    pub fn all(
        records: &[(String, bench_redis::Record)],
        pauses: &Pauses,
        writes: &(Samples, Samples),
        seed: u64,
    ) -> Result<Vec<Self>> {
        let capacities = records.iter().map(|(_, record)| record);
        let capacities = capacities.filter_map(|r| r.parameters.clients.capacity_per_second);
        let capacity = median(capacities).context("no point has measured the capacity")?;
        let mut points = records
            .iter()
            .filter(|(_, record)| record.parameters.clients.rate > 0)
            .map(|(name, record)| {
                Self::of(name, record, capacity, writes)
                    .map(|point| point.calibrated(pauses, seed))
                    .with_context(|| format!("point {name}"))
            })
            .collect::<Result<Vec<_>>>()?;
        if points.is_empty() {
            bail!("no point has an open loop");
        }
        points.sort_by_key(|point| point.mb);
        Ok(points)
    }

    fn of(
        name: &str,
        record: &bench_redis::Record,
        capacity: f64,
        (page, push): &(Samples, Samples),
    ) -> Result<Self> {
        let clients = &record.parameters.clients;
        let mut outside = Latencies::default();
        record
            .saves
            .iter()
            .for_each(|save| outside.add(&save.outside));
        let measured: BTreeMap<_, _> = Mode::BOTH
            .into_iter()
            .filter_map(|mode| Some((mode, Measured::of(record, mode)?)))
            .collect();
        let default = measured
            .get(&Mode::Default)
            .context("it has no snapshot by default fork")?;
        let defaults = record
            .saves
            .iter()
            .filter(|save| save.mode == Mode::Default);
        let copied = median(defaults.map(|save| save.cow_bytes as f64 / PAGE)).unwrap_or(0.0);
        let pages = record.used_memory_bytes as f64 / PAGE;
        Ok(Self {
            name: name.into(),
            mb: record.parameters.mb,
            clients: clients.clients,
            pace: clients.pace(),
            times: Times {
                request: Samples::of(&outside).context("requests without a snapshot")?,
                page: page.clone(),
                push: push.clone(),
            },
            rate: clients.rate.into(),
            service_ns: 1e9 / clients.capacity_per_second.unwrap_or(capacity),
            slowdown: 1.0,
            touches: touches(copied, pages, default.requests),
            pages,
            measured,
        })
    }

    /// With the slowdown at which its own median request in the windows of default forks takes as
    /// long as was measured.
    fn calibrated(self, pauses: &Pauses, seed: u64) -> Self {
        let window = self.window(Mode::Default, self.mb, pauses);
        let p50_ns = self.measured[&Mode::Default].p50_ns;
        let slowdown = window.slowed_to(p50_ns, &self.times, seed).slowdown;
        Self { slowdown, ..self }
    }

    /// The window of a snapshot of `mb` MiB, with what was measured here.
    pub fn window(&self, mode: Mode, mb: u64, pauses: &Pauses) -> Window {
        let measured = self.measured.get(&mode);
        let measured = measured.unwrap_or(&self.measured[&Mode::Default]);
        let (growth, gib) = (mb as f64 / self.mb as f64, mb as f64 / 1024.0);
        let pages = self.pages * growth;
        Window {
            call_ns: pauses.call_ns(mode, gib),
            copy_ns: pauses.copy_ns(mode, gib),
            window_ns: measured.window_ns * growth,
            rate: self.rate,
            service_ns: self.service_ns,
            slowdown: self.slowdown,
            touches: self.touches,
            pages,
            ranges: pages * PAGE / RANGE,
        }
    }

    /// Is of the same load, whatever the size?
    pub fn is_like(&self, other: &Self) -> bool {
        self.pace == other.pace && self.clients == other.clients
    }
}

/// To how many pages a request writes, if `requests` have had `copied` of `pages` copied, each at
/// random.
fn touches(copied: f64, pages: f64, requests: f64) -> f64 {
    /// Of the pages; what is copied more than once, as in a child of its own, is not known
    const MOST: f64 = 0.999;

    let share = (copied / pages).min(MOST);
    (1.0 / (1.0 - share)).ln() * pages / requests.max(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn touches_undo_what_chance_does() {
        let (pages, requests) = (262_144.0, 100_000.0);
        for each in [0.1_f64, 1.0, 2.5] {
            let copied = pages * (1.0 - (-each * requests / pages).exp());
            assert!((touches(copied, pages, requests) / each - 1.0).abs() < 1e-9);
        }
        assert_eq!(touches(0.0, pages, requests), 0.0);
        assert!(touches(2.0 * pages, pages, requests).is_finite());
    }
}
