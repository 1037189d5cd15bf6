// SPDX-License-Identifier: GPL-2.0

//! What `asyncfork bench redis` has measured: the JSON, the table, the verdict.

use std::collections::BTreeMap;
use std::fmt;

use asyncfork::Counters;
use serde::Deserialize;
use serde::Serialize;

use super::check::Check;
use super::clients;
use super::cpu;
use super::cpu::Cpu;
use super::snapshot;
use super::throughput;
use super::throughput::Timeline;
use super::trace;
use super::trace::Interruptions;
use crate::command::Mode;
use crate::figures::Figure;
use crate::figures::Measured;
use crate::figures::Unit;
use crate::figures::in_both_modes;
use crate::huge_pages::HugePages;
use crate::knobs::Setting;
use crate::machine::Machine;
use crate::redis::Cut;
use crate::report::Latencies;
use crate::report::median;
use crate::report::table;
use crate::report::time;

/// Bytes of address space that are deferred, or not, as one: what a page table maps.
pub const RANGE: u64 = 2 << 20;
/// A save counts as asynchronous if at least this share of the ranges was deferred. Of the data set
/// all can be; a process has a few more that cannot.
const MIN_DEFERRED: f64 = 0.9;

/// The JSON.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    pub benchmark: String,
    pub machine: Machine,
    pub server: String,
    pub parameters: Parameters,
    /// What was set of the machine, but for vm.async_pgtable
    #[serde(default)]
    pub settings: Vec<Setting>,
    /// Keys in the server
    pub keys: u64,
    pub used_memory_bytes: u64,
    pub fill_seconds: f64,
    /// In the order in which they were made
    pub saves: Vec<Save>,
    pub summary: BTreeMap<Mode, Summary>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Parameters {
    pub mb: u64,
    pub saves: u32,
    pub modes: Vec<Mode>,
    pub quiet_seconds: f64,
    /// From one BGSAVE until the load is paused, for the next one
    #[serde(default)]
    pub every_seconds: Option<f64>,
    pub compress: bool,
    #[serde(default)]
    pub check: Check,
    #[serde(default)]
    pub snapshot: snapshot::Kind,
    #[serde(default = "one")]
    pub io_threads: u16,
    #[serde(default)]
    pub huge_pages: Option<HugePages>,
    #[serde(flatten)]
    pub clients: clients::Parameters,
}

fn one() -> u16 {
    1
}

/// One BGSAVE, or what else was asked for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Save {
    pub mode: Mode,
    /// latest_fork_usec: the fork() call, as the server saw it
    pub fork_us: u64,
    /// From BGSAVE sent to its reply, as a client saw it
    pub reply_us: u64,
    /// From BGSAVE sent to rdb_bgsave_in_progress:0
    pub snapshot_seconds: f64,
    /// rdb_last_bgsave_time_sec
    pub server_save_seconds: i64,
    /// rdb_last_cow_size
    pub cow_bytes: u64,
    /// SETs that were due while the snapshot was made
    pub inside: Latencies,
    /// SETs that were due before it, without a snapshot
    pub outside: Latencies,
    #[serde(default)]
    pub inside_gets: Latencies,
    #[serde(default)]
    pub outside_gets: Latencies,
    /// How late the clients themselves were with what was due inside
    #[serde(default)]
    pub inside_lag: Latencies,
    #[serde(default)]
    pub outside_lag: Latencies,
    pub outside_seconds: f64,
    /// KiB of the server in pages of 2 MiB before it, if huge pages were asked for
    #[serde(default)]
    pub huge_kib: Option<u64>,
    /// The same in pages of 64 KiB, of the whole machine
    #[serde(default)]
    pub size_64k_kib: Option<u64>,
    /// CPU time, from before BGSAVE until the save was over
    #[serde(default)]
    pub cpu: Option<Cpu>,
    /// As many ranges of [`RANGE`] bytes as the server's used_memory fills, before BGSAVE
    pub data_ranges: u64,
    /// The kernel's counters, from before BGSAVE until the save was over
    pub counters: Option<Counters>,
    /// Where the snapshot ends, by client
    pub cuts: Vec<Cut>,
    /// Why the snapshot is not exact, if it is not
    pub difference: Option<String>,
    /// To load the snapshot, read it back and compare
    pub check_seconds: f64,
    /// SETs that were due after it, until the load ended
    #[serde(default)]
    pub after: Latencies,
    /// If it was asked for
    #[serde(default)]
    pub timeline: Option<Timeline>,
    /// If they were asked for
    #[serde(default)]
    pub interruptions: Option<Interruptions>,
}

/// How much of what a save could have deferred it did defer, in ranges.
#[derive(Clone, Copy)]
struct Deferred {
    deferred: u64,
    /// What the kernel counted as deferred or copied in the call, or the data if they are more
    all: u64,
}

impl Deferred {
    fn share(self) -> f64 {
        self.deferred as f64 / self.all.max(1) as f64
    }
}

impl fmt::Display for Deferred {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} ranges deferred", self.deferred, self.all)
    }
}

impl Save {
    pub fn is_exact(&self) -> bool {
        self.difference.is_none()
    }

    /// All SETs from BGSAVE until the load ended.
    fn in_cycle(&self) -> Latencies {
        let mut all = self.inside.clone();
        all.add(&self.after);
        all
    }

    /// 0 if the kernel counts nothing.
    pub fn counted(&self, counter: &str) -> f64 {
        let counters = self.counters.as_ref();
        counters.map_or(0.0, |counters| counters.get(counter) as f64)
    }

    /// Those of the data that are not mapped by one entry each: there is a page table to copy.
    fn small_ranges(&self) -> u64 {
        self.data_ranges
            .saturating_sub(self.huge_kib.unwrap_or(0).div_ceil(RANGE >> 10))
    }

    /// None if the kernel counts nothing.
    fn deferred(&self) -> Option<Deferred> {
        let counters = self.counters.as_ref()?;
        let deferred = counters.get("range_defer");
        Some(Deferred {
            deferred,
            all: self
                .small_ranges()
                .max(deferred + counters.get("range_sync")),
        })
    }

    /// What is wrong with how the save was made: asynchronously or not, as asked?
    pub fn misdone(&self) -> Option<String> {
        let (Some(counters), Some(deferred)) = (&self.counters, self.deferred()) else {
            return (self.mode == Mode::Async).then(|| "the kernel counts nothing".into());
        };
        let sessions = counters.get("session_start");
        let odd: Vec<_> = counters
            .iter()
            .filter(|(name, value)| {
                *value > 0 && (name.starts_with("fallback_") || *name == "session_fail")
            })
            .map(|(name, value)| format!("{name} +{value}"))
            .collect();
        match self.mode {
            Mode::Default if sessions > 0 => {
                Some(format!("asynchronous, session_start +{sessions}"))
            }
            Mode::Async if sessions != 1 || !odd.is_empty() => Some(format!(
                "not asynchronous: session_start +{sessions} {}",
                odd.join(" ")
            )),
            Mode::Async if deferred.share() < MIN_DEFERRED => {
                Some(format!("not asynchronous: only {deferred}"))
            }
            _ => None,
        }
    }

    pub fn line(&self) -> String {
        let outcome = match (&self.difference, self.misdone()) {
            (Some(difference), _) => format!("DIFFERS from the data at the fork: {difference}"),
            (None, Some(reason)) => format!("exact, but {reason}"),
            (None, None) => match self.deferred() {
                Some(deferred) if self.mode == Mode::Async => format!("exact, {deferred}"),
                _ => "exact".into(),
            },
        };
        format!(
            "{:7}  fork {:>8}  snapshot {:5.1} s  SET p99 {:>8} max {:>8}  {outcome}",
            self.mode,
            time(self.fork_us as f64 * 1e3),
            self.snapshot_seconds,
            time(self.inside.percentile(99.0) as f64),
            time(self.inside.max() as f64),
        )
    }
}

/// All saves of one mode.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    pub saves: usize,
    pub exact: usize,
    pub fork_us: Spread,
    pub snapshot_seconds: Spread,
    pub inside: Latencies,
    pub inside_per_second: f64,
    pub outside: Latencies,
    pub outside_per_second: f64,
    #[serde(default)]
    pub inside_gets: Latencies,
    #[serde(default)]
    pub inside_gets_per_second: f64,
    #[serde(default)]
    pub outside_gets: Latencies,
    #[serde(default)]
    pub outside_gets_per_second: f64,
    #[serde(default)]
    pub inside_lag: Latencies,
    #[serde(default)]
    pub outside_lag: Latencies,
    /// Sums
    pub counters: Option<Counters>,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    pub min: f64,
    pub median: f64,
    pub max: f64,
}

impl Spread {
    /// Of at least one value.
    fn of(values: impl Iterator<Item = f64> + Clone) -> Self {
        Self {
            min: values.clone().fold(f64::INFINITY, f64::min),
            max: values.clone().fold(f64::NEG_INFINITY, f64::max),
            median: median(values).unwrap_or(f64::NAN),
        }
    }
}

impl Summary {
    pub fn by_mode(modes: &[Mode], saves: &[Save]) -> BTreeMap<Mode, Self> {
        let of = |mode| {
            saves
                .iter()
                .filter(|save| save.mode == mode)
                .collect::<Vec<_>>()
        };
        modes
            .iter()
            .map(|mode| (*mode, Self::of(&of(*mode))))
            .collect()
    }

    fn of(saves: &[&Save]) -> Self {
        let sum = |part: fn(&Save) -> &Latencies| {
            let mut sum = Latencies::default();
            saves.iter().for_each(|save| sum.add(part(save)));
            sum
        };
        let (inside, inside_gets) = (sum(|save| &save.inside), sum(|save| &save.inside_gets));
        let (outside, outside_gets) = (sum(|save| &save.outside), sum(|save| &save.outside_gets));
        let inside_seconds: f64 = saves.iter().map(|save| save.snapshot_seconds).sum();
        let outside_seconds: f64 = saves.iter().map(|save| save.outside_seconds).sum();
        let rate = |latencies: &Latencies, seconds: f64| {
            if seconds > 0.0 {
                latencies.count() as f64 / seconds
            } else {
                0.0
            }
        };
        Self {
            saves: saves.len(),
            exact: saves.iter().filter(|save| save.is_exact()).count(),
            fork_us: Spread::of(saves.iter().map(|save| save.fork_us as f64)),
            snapshot_seconds: Spread::of(saves.iter().map(|save| save.snapshot_seconds)),
            inside_per_second: rate(&inside, inside_seconds),
            inside_gets_per_second: rate(&inside_gets, inside_seconds),
            outside_per_second: rate(&outside, outside_seconds),
            outside_gets_per_second: rate(&outside_gets, outside_seconds),
            inside,
            inside_gets,
            outside,
            outside_gets,
            inside_lag: sum(|save| &save.inside_lag),
            outside_lag: sum(|save| &save.outside_lag),
            counters: saves
                .iter()
                .filter_map(|save| save.counters.clone())
                .reduce(|sum, save| sum.plus(&save)),
        }
    }
}

/// A figure of each save.
type Part = (&'static str, Unit, fn(&Save) -> f64);
const PARTS: [Part; 11] = [
    ("fork call", Unit::Time, |s| s.fork_us as f64 * 1e3),
    ("SET in the window: p50 of a save", Unit::Time, |s| {
        s.inside.percentile(50.0) as f64
    }),
    ("SET in the window: p99 of a save", Unit::Time, |s| {
        s.inside.percentile(99.0) as f64
    }),
    ("SET in the window: p99.9 of a save", Unit::Time, |s| {
        s.inside.percentile(99.9) as f64
    }),
    ("SET in the window: max of a save", Unit::Time, |s| {
        s.inside.max() as f64
    }),
    ("SET outside: p99 before a save", Unit::Time, |s| {
        s.outside.percentile(99.0) as f64
    }),
    ("SET outside: max before a save", Unit::Time, |s| {
        s.outside.max() as f64
    }),
    ("window", Unit::Time, |s| s.snapshot_seconds * 1e9),
    ("copied by the parent on write", Unit::Bytes, |s| {
        s.cow_bytes as f64
    }),
    ("ranges copied by the child", Unit::Number, |s| {
        s.counted("range_copy")
    }),
    ("ranges copied by the parent", Unit::Number, |s| {
        s.counted("range_push")
    }),
];

/// Those of a load with a snapshot so often.
const CYCLE: [Part; 3] = [
    ("SET in a whole cycle: p99", Unit::Time, |s| {
        s.in_cycle().percentile(99.0) as f64
    }),
    ("SET in a whole cycle: p99.9", Unit::Time, |s| {
        s.in_cycle().percentile(99.9) as f64
    }),
    ("SET in a whole cycle: max", Unit::Time, |s| {
        s.in_cycle().max() as f64
    }),
];

/// What those of `saves` in `mode` have that have one.
pub fn those_with<'a, T: 'a>(
    saves: &'a [Save],
    mode: Mode,
    part: fn(&Save) -> Option<&T>,
) -> impl Iterator<Item = &'a T> {
    let of_mode = saves.iter().filter(move |save| save.mode == mode);
    of_mode.filter_map(part)
}

/// Its `figures`; none if no save has one.
pub fn figures_of<T, F: Fn(&T) -> Option<f64> + Copy>(
    saves: &[Save],
    part: fn(&Save) -> Option<&T>,
    figures: impl IntoIterator<Item = (&'static str, Unit, F)>,
) -> Vec<Figure> {
    let figure = |(name, unit, figure): (&'static str, Unit, F), mode| Figure {
        name: name.into(),
        mode,
        unit,
        samples: those_with(saves, mode, part).filter_map(figure).collect(),
    };
    match saves.iter().any(|save| part(save).is_some()) {
        true => in_both_modes(figures, figure),
        false => vec![],
    }
}

impl Record {
    /// In what it differs from BGSAVE of a Redis with one thread, to be put before the load.
    fn unusual(&self) -> String {
        let parameters = &self.parameters;
        let server = self.server.split(' ').next();
        let words = [
            server.filter(|name| *name != "Redis").map(str::to_owned),
            (parameters.io_threads > 1).then(|| format!("{} I/O threads", parameters.io_threads)),
            (parameters.snapshot != snapshot::Kind::Rdb).then(|| parameters.snapshot.to_string()),
            parameters
                .huge_pages
                .map(|huge_pages| huge_pages.to_string()),
        ];
        words
            .into_iter()
            .flatten()
            .map(|word| word + ", ")
            .collect()
    }

    /// How much was in huge pages, which the first fork breaks up.
    fn huge_note(&self) -> Option<String> {
        let kib: Option<Vec<u64>> = self.saves.iter().map(|save| save.huge_kib).collect();
        let kib = kib.filter(|kib| !kib.is_empty())?;
        let of_64k = self.saves.iter().filter_map(|save| save.size_64k_kib).max();
        Some(format!(
            "; in pages of 2 MiB {} MiB before the first and {} before the last, of the machine in \
             pages of 64 KiB at most {} MiB",
            kib[0] >> 10,
            kib[kib.len() - 1] >> 10,
            of_64k.unwrap_or(0) >> 10
        ))
    }

    pub fn measured(&self) -> Measured {
        let figure = |(name, unit, figure): Part, mode| Figure {
            name: name.into(),
            mode,
            unit,
            samples: self
                .saves
                .iter()
                .filter(|save| save.mode == mode)
                .map(figure)
                .collect(),
        };
        let exact = self.saves.iter().filter(|save| save.is_exact()).count();
        let mut figures = in_both_modes(PARTS, figure);
        if self.parameters.every_seconds.is_some() {
            figures.extend(in_both_modes(CYCLE, figure));
        }
        figures.extend(throughput::figures(&self.saves));
        figures.extend(trace::figures(&self.saves));
        figures.extend(cpu::figures(&self.saves));
        let mut notes = vec![format!(
            "{}{}; exact: {exact} of {} snapshots equal the data at the fork{}",
            self.unusual(),
            self.parameters.clients.line(),
            self.saves.len(),
            self.huge_note().unwrap_or_default()
        )];
        notes.extend(throughput::notes(&self.saves));
        notes.extend(trace::notes(&self.saves));
        Measured {
            of: format!(
                "{}{} clients, {}",
                self.unusual(),
                self.parameters.clients.clients,
                self.parameters.clients.pace()
            ),
            mb: self.parameters.mb,
            figures,
            notes,
        }
    }

    pub fn table(&self) -> String {
        let mut rows = vec![vec![String::new(), String::new()]];
        rows[0].extend(self.summary.keys().map(Mode::to_string));
        let mut row = |what: &str, figure: &str, cell: &dyn Fn(&Summary) -> String| {
            let mut row = vec![what.to_owned(), figure.to_owned()];
            row.extend(self.summary.values().map(cell));
            rows.push(row);
        };
        row("fork call", "median", &|s| time(s.fork_us.median * 1e3));
        row("", "min", &|s| time(s.fork_us.min * 1e3));
        row("", "max", &|s| time(s.fork_us.max * 1e3));
        row("snapshot", "median", &|s| {
            time(s.snapshot_seconds.median * 1e9)
        });
        type Part = (&'static str, fn(&Summary) -> (&Latencies, f64));
        let parts: [Part; 4] = [
            ("SET during snapshots", |s| (&s.inside, s.inside_per_second)),
            ("GET during snapshots", |s| {
                (&s.inside_gets, s.inside_gets_per_second)
            }),
            ("SET outside", |s| (&s.outside, s.outside_per_second)),
            ("GET outside", |s| {
                (&s.outside_gets, s.outside_gets_per_second)
            }),
        ];
        let has_gets = self.summary.values().any(|s| s.inside_gets.count() > 0);
        for (name, part) in parts {
            if name.starts_with("GET") && !has_gets {
                continue;
            }
            let show = |s: &Summary, figure: fn(&Latencies) -> u64| match part(s).0 {
                latencies if latencies.count() == 0 => "-".into(),
                latencies => time(figure(latencies) as f64),
            };
            row(name, "p50", &|s| show(s, |l| l.percentile(50.0)));
            row("", "p99", &|s| show(s, |l| l.percentile(99.0)));
            row("", "p99.9", &|s| show(s, |l| l.percentile(99.9)));
            row("", "max", &|s| show(s, Latencies::max));
            row("", "per second", &|s| match part(s).1 {
                0.0 => "-".into(),
                rate => format!("{rate:.0}"),
            });
        }
        row("clients late", "p99", &|s| {
            time(s.inside_lag.percentile(99.0) as f64)
        });
        row("", "max", &|s| time(s.inside_lag.max() as f64));
        let counted = self
            .summary
            .values()
            .filter_map(|s| s.counters.clone())
            .reduce(|sum, one| sum.plus(&one));
        let mut title = "counted by the kernel";
        for (name, _) in counted
            .iter()
            .flat_map(Counters::iter)
            .filter(|(_, sum)| *sum > 0)
        {
            row(title, name, &|s| {
                s.counters
                    .as_ref()
                    .map_or(0, |counters| counters.get(name))
                    .to_string()
            });
            title = "";
        }
        format!("\n{}", table(&rows, "<<>>"))
    }

    /// Says whether the saves were exact and made as asked, and in time if `max_ratio` asks for
    /// that.
    pub fn verdict(&self, max_ratio: Option<f64>) -> bool {
        let mut good = true;
        if let (Some(limit), Some(summary)) = (max_ratio, self.summary.get(&Mode::Async)) {
            let outside = self
                .summary
                .values()
                .map(|s| s.outside.max())
                .max()
                .unwrap_or(0);
            let ratio = summary.inside.max() as f64 / outside as f64;
            good &= ratio <= limit;
            println!(
                "slowest SET during asynchronous saves: {ratio:.2} times the slowest outside, limit {limit}"
            );
        }
        let asked: Vec<_> = self
            .saves
            .iter()
            .filter(|save| save.mode == Mode::Async)
            .collect();
        if !asked.is_empty() {
            let done = asked.iter().filter(|save| save.misdone().is_none()).count();
            let shares = asked.iter().filter_map(|save| save.deferred());
            println!(
                "asynchronous: {done} of {} snapshots; deferred at least {:.1} % of the ranges, limit {:.0} %",
                asked.len(),
                shares.map(Deferred::share).fold(1.0, f64::min) * 100.0,
                MIN_DEFERRED * 100.0
            );
        }
        good &= self.saves.iter().all(|save| save.misdone().is_none());
        let exact = self.saves.iter().filter(|save| save.is_exact()).count();
        println!(
            "exact: {exact} of {} snapshots equal the data at the fork",
            self.saves.len()
        );
        good && exact == self.saves.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::bench_suite;
    use crate::command::examples;

    const ASYNCHRONOUS: &str = "async_pgtable_session_start 1\nasync_pgtable_range_defer 512\n";

    fn save(mode: Mode, fork_us: u64, vmstat: &str) -> Save {
        let latencies = |ns: &[u64]| {
            let mut latencies = Latencies::default();
            ns.iter().for_each(|ns| latencies.record(*ns));
            latencies
        };
        Save {
            mode,
            fork_us,
            reply_us: fork_us + 50,
            snapshot_seconds: 2.0,
            server_save_seconds: 2,
            cow_bytes: 1 << 20,
            inside: latencies(&[20_000, 30_000, fork_us * 1000]),
            outside: latencies(&[20_000, 25_000]),
            inside_gets: Latencies::default(),
            outside_gets: Latencies::default(),
            inside_lag: latencies(&[1_000]),
            outside_lag: latencies(&[1_000]),
            outside_seconds: 1.0,
            huge_kib: None,
            size_64k_kib: None,
            cpu: None,
            data_ranges: 512,
            counters: (!vmstat.is_empty()).then(|| Counters::parse(vmstat)),
            cuts: vec![Cut {
                answered: 1,
                included: 2,
                sent: 2,
            }],
            difference: None,
            check_seconds: 1.0,
            after: latencies(&[20_000]),
            timeline: None,
            interruptions: None,
        }
    }

    fn record(saves: Vec<Save>) -> Record {
        let modes = vec![Mode::Default, Mode::Async];
        Record {
            benchmark: "redis".into(),
            machine: Machine::read(None),
            server: "Redis server v=7.0.15".into(),
            parameters: Parameters {
                mb: 1024,
                saves: 1,
                modes: modes.clone(),
                quiet_seconds: 1.0,
                every_seconds: None,
                compress: false,
                check: Check::Server,
                snapshot: snapshot::Kind::Rdb,
                io_threads: 1,
                huge_pages: None,
                clients: clients::Parameters::example(),
            },
            settings: vec![],
            keys: 1 << 20,
            used_memory_bytes: 1 << 30,
            fill_seconds: 20.5,
            summary: Summary::by_mode(&modes, &saves),
            saves,
        }
    }

    fn good() -> Record {
        let fell_back = "async_pgtable_session_start 0\nasync_pgtable_fallback_off 1\n";
        record(vec![
            save(Mode::Default, 60_000, fell_back),
            save(Mode::Async, 300, ASYNCHRONOUS),
        ])
    }

    #[test]
    fn json_round_trip() {
        let json = serde_json::to_string(&good()).unwrap();
        assert_eq!(serde_json::from_str::<Record>(&json).unwrap(), good());
    }

    #[test]
    fn table_compares_the_modes() {
        let text = good().table();
        let cells = |line: &str| {
            line.split("  ")
                .map(str::trim)
                .filter(|c| !c.is_empty())
                .collect::<Vec<_>>()
                .join("|")
        };
        let lines: Vec<_> = text.lines().map(cells).collect();
        for expected in [
            "default|async",
            "fork call|median|60.0 ms|300 us",
            "snapshot|median|2.00 s|2.00 s",
            "SET outside|p50|20.0 us|20.0 us",
            "clients late|p99|1.00 us|1.00 us",
            "counted by the kernel|session_start|0|1",
            "fallback_off|1|0",
        ] {
            assert!(
                lines.iter().any(|line| line == expected),
                "{expected} not in\n{text}"
            );
        }
        assert!(!text.contains("GET"), "there were none");
        let mut gets = good();
        gets.saves[1].inside_gets.record(7_000);
        gets.summary = Summary::by_mode(&gets.parameters.modes, &gets.saves);
        let text = gets.table();
        let line = text.lines().find(|line| line.starts_with("GET during"));
        assert_eq!(cells(line.unwrap()), "GET during snapshots|p50|-|7.00 us");
    }

    /// The records of before there was a choice of clients and checks.
    #[test]
    fn reads_older_records() {
        let mut json = serde_json::to_value(good()).unwrap();
        let added = [
            "inside_gets",
            "outside_gets",
            "inside_lag",
            "outside_lag",
            "after",
            "timeline",
            "interruptions",
            "every_seconds",
            "inside_gets_per_second",
            "outside_gets_per_second",
            "check",
            "threads",
            "rate_percent",
            "capacity_per_second",
            "pipeline",
            "ratio",
            "keys",
            "latency_from",
            "snapshot",
            "io_threads",
            "huge_pages",
            "huge_kib",
            "size_64k_kib",
            "cpu",
        ];
        let strip = |value: &mut serde_json::Value| {
            let object = value.as_object_mut().unwrap();
            added.iter().for_each(|name| drop(object.remove(*name)));
        };
        strip(&mut json["parameters"]);
        json["saves"]
            .as_array_mut()
            .unwrap()
            .iter_mut()
            .for_each(strip);
        json["summary"]
            .as_object_mut()
            .unwrap()
            .values_mut()
            .for_each(strip);
        let record: Record = serde_json::from_value(json).unwrap();
        assert_eq!(record.parameters, good().parameters);
        assert_eq!(record.saves[0].inside, good().saves[0].inside);
    }

    #[test]
    fn figures_are_of_each_save() {
        let measured = good().measured();
        assert_eq!(measured.mb, 1024);
        let samples = |name, mode| measured.samples(name, mode).unwrap().to_vec();
        assert_eq!(samples("fork call", Mode::Default), [60e6]);
        assert_eq!(samples("fork call", Mode::Async), [300e3]);
        let copied = samples("copied by the parent on write", Mode::Async);
        assert_eq!(copied, [f64::from(1 << 20)]);
        let longest = samples("SET in the window: max of a save", Mode::Async);
        assert_eq!(longest, [good().saves[1].inside.max() as f64]);
        assert!(measured.notes[0].ends_with("exact: 2 of 2 snapshots equal the data at the fork"));
    }

    /// Those of experiments d, e and f.
    #[test]
    fn figures_of_what_was_asked_for() {
        let of = |experiment: bench_suite::Record| {
            let record = experiment.points.last().unwrap().record.clone();
            serde_json::from_value::<Record>(record).unwrap().measured()
        };
        let causes = of(examples::causes());
        let first = |name, mode| causes.samples(name, mode).unwrap()[0];
        let freeze = 321e6;
        let name = "out of service for page tables: freeze and pushes";
        assert_eq!(first(name, Mode::Default), freeze);
        let call = first("out of service: freeze", Mode::Async);
        let pushes = examples::PUSHES_NS as f64;
        assert_eq!(first(name, Mode::Async), call + pushes);
        let copies = first("out of service: copy-on-write faults", Mode::Async);
        assert_eq!(
            first("out of service in all", Mode::Async),
            call + pushes + copies
        );
        assert_eq!(first("pushes", Mode::Async), 50.0);
        let note = "longest interruption, default: 321 ms (freeze)";
        assert!(
            causes.notes.contains(&note.to_owned()),
            "{:?}",
            causes.notes
        );
        assert_eq!(causes.samples(CYCLE[0].0, Mode::Async), None);

        let throughput = of(examples::throughputs());
        let first = |name, mode| throughput.samples(name, mode).unwrap()[0];
        let name = "the same in percent of steady";
        assert_eq!(first(name, Mode::Default), 0.0);
        assert_eq!(first(name, Mode::Async), 98.6);
        let name = "from BGSAVE until p99 is steady";
        assert_eq!(first(name, Mode::Default), 400e6, "of 321 ms");
        assert_eq!(throughput.samples("pushes", Mode::Async), None);

        let cycle = of(examples::cycles());
        let max = cycle.samples(CYCLE[2].0, Mode::Default).unwrap()[0];
        let inside = examples::inside_ns(Mode::Default, 1024).fold(0.0, f64::max);
        assert!((max / inside - 1.0).abs() < 1e-3, "{max}");
    }

    #[test]
    fn what_is_unusual_is_named() {
        assert_eq!(good().measured().of, "4 clients, 1000 requests per second");
        let mut other = good();
        other.server = "Valkey server v=9.1.2".into();
        other.parameters.io_threads = 2;
        other.parameters.snapshot = snapshot::Kind::Aof;
        other.parameters.huge_pages = Some(HugePages::Always);
        other.saves[0].huge_kib = Some(512 << 10);
        other.saves[1].huge_kib = Some(0);
        let measured = other.measured();
        let words = "Valkey, 2 I/O threads, BGREWRITEAOF, THP always, ";
        assert!(measured.of.starts_with(words), "{}", measured.of);
        let note = &measured.notes[0];
        assert!(
            note.contains("512 MiB before the first and 0 before the last"),
            "{note}"
        );
    }

    #[test]
    fn cpu_time_is_a_figure_where_it_is_known() {
        let mut record = good();
        let name = "CPU of the child";
        assert_eq!(record.measured().samples(name, Mode::Async), None);
        record.saves[1].cpu = Some(Cpu {
            parent_user: 0.5,
            parent_system: 0.25,
            child_user: 2.0,
            child_system: 1.0,
            kernel: 1.5,
        });
        let measured = record.measured();
        assert_eq!(measured.samples(name, Mode::Async).unwrap(), [3e9]);
        assert_eq!(measured.samples(name, Mode::Default), None);
    }

    #[test]
    fn verdict() {
        assert!(good().verdict(None));
        assert!(good().verdict(Some(12.1)), "300 us inside, 25 us outside");
        assert!(!good().verdict(Some(11.9)));

        let mut differs = good();
        differs.saves[0].difference = Some("key 3 is missing".into());
        assert!(!differs.verdict(None));
        assert!(
            differs.saves[0]
                .line()
                .ends_with("DIFFERS from the data at the fork: key 3 is missing")
        );
    }

    #[test]
    fn a_save_must_be_made_as_asked() {
        let misdone = |mode, vmstat: &str| save(mode, 300, vmstat).misdone();
        assert_eq!(misdone(Mode::Async, ASYNCHRONOUS), None);
        assert_eq!(misdone(Mode::Default, ""), None);
        assert!(misdone(Mode::Async, "").is_some());
        assert!(misdone(Mode::Default, ASYNCHRONOUS).is_some());
        assert!(misdone(Mode::Async, "async_pgtable_session_start 0\n").is_some());
        assert!(misdone(Mode::Async, "async_pgtable_session_start 2\n").is_some());
        let fallback = format!("{ASYNCHRONOUS}async_pgtable_fallback_pinned 1\n");
        assert!(
            misdone(Mode::Async, &fallback)
                .unwrap()
                .ends_with("fallback_pinned +1")
        );
        assert!(!record(vec![save(Mode::Async, 300, &fallback)]).verdict(None));
    }
    #[test]
    fn nearly_all_must_be_deferred() {
        let of = |deferred: u64, sync: u64| {
            let vmstat = format!(
                "async_pgtable_session_start 1\nasync_pgtable_range_defer {deferred}\n\
                 async_pgtable_range_sync {sync}\n"
            );
            save(Mode::Async, 300, &vmstat)
        };
        for (deferred, sync) in [(512, 0), (530, 4), (461, 51), (534, 59)] {
            assert_eq!(of(deferred, sync).misdone(), None, "{deferred}, {sync}");
        }
        // Of the 512 ranges of the data: one; not enough; enough, but too many in the call.
        for (deferred, sync, all) in [(1, 0, 512), (1, 533, 534), (460, 0, 512), (512, 57, 569)] {
            let few = of(deferred, sync);
            assert_eq!(
                few.misdone().unwrap(),
                format!("not asynchronous: only {deferred} of {all} ranges deferred")
            );
            assert!(!record(vec![few]).verdict(None));
        }
        // What is mapped by huge pages has no page tables: 12 ranges are left.
        let mut huge = of(11, 0);
        huge.huge_kib = Some(1000 << 10);
        assert_eq!(huge.misdone(), None);
        huge.huge_kib = Some(980 << 10);
        assert!(
            huge.misdone()
                .unwrap()
                .ends_with("only 11 of 22 ranges deferred")
        );
        assert!(
            of(512, 0)
                .line()
                .ends_with("exact, 512 of 512 ranges deferred")
        );
    }
}
