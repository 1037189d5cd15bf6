// SPDX-License-Identifier: GPL-2.0

//! `asyncfork watch`: what is pending, and who copies it, while it happens.

use std::collections::VecDeque;
use std::process::ExitCode;
use std::ptr;
use std::time::Duration;
use std::time::Instant;
use std::time::SystemTime;

use anyhow::Result;
use asyncfork::Counters;
use serde::Serialize;

use super::explain;
use crate::interrupt;
use crate::memory::RANGE;
use crate::report;
use crate::report::median;
use crate::report::table;
use crate::report::time;
use crate::terminal;
use crate::terminal::Screen;
use crate::tracefs::Spans;

/// The events around the copy of one range by anybody.
const BEGIN: &str = "async_pgtable/async_pgtable_range_start";
const END: &str = "async_pgtable/async_pgtable_range_end";
/// That of them which a parent copies, as the events' format numbers it.
const BY_PARENT: &str = "party == 2";
/// Of a trace buffer, for each CPU.
const KIB: u64 = 512;
/// How often that is emptied at least.
const EMPTIED: Duration = Duration::from_millis(250);
/// How many intervals are drawn.
const HISTORY: usize = 60;

/// What an interval counted, and how its columns and rows are called.
const RATES: [(&str, &str, Rate); 6] = [
    ("start/s", "sessions started", |c| c.get("session_start")),
    ("copy/s", "ranges copied by the child", |c| {
        c.get("range_copy")
    }),
    ("pull/s", "by who looks at the child", |c| {
        c.get("range_pull")
    }),
    ("push/s", "by the parent", |c| c.get("range_push")),
    ("fallback/s", "fallbacks", Counters::fallbacks),
    ("fail/s", "children killed", |c| c.get("session_fail")),
];
type Rate = fn(&Counters) -> u64;

/// Watch what is pending after forks, and who copies it
///
/// Of the whole machine, from the counters in /proc/vmstat: how many children wait for page tables
/// (sessions) and for how many ranges of 2 MiB; and how many of these the child copied itself, how
/// many were copied for who looks at it (pull) and how many the parent copied before it changed
/// them (push). As root also how long each push took the parent, by two trace events in an instance
/// of tracefs of its own, which is removed at the end.
///
/// On a terminal it draws in place; elsewhere there is one line for each interval.
#[derive(clap::Args)]
#[command(
    after_help = "Exit status: 0 after --count intervals, or when nobody reads any more; 1 if the \
    kernel does not have the feature; 128 + N after signal N."
)]
pub struct Options {
    /// Time between two lines
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = interval)]
    interval: Duration,

    /// End after N intervals [default: go on until interrupted]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,

    /// Print a JSON object for each interval
    #[arg(long)]
    json: bool,
}

fn interval(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().filter(|s| (0.1..=86400.0).contains(s));
    seconds
        .map(Duration::from_secs_f64)
        .ok_or_else(|| "seconds from 0.1 to 86400".into())
}

/// How long parents were kept by what they copied.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Pushes {
    count: usize,
    median_ns: Option<f64>,
    max_ns: Option<u64>,
    /// There were more, and the buffer had no room for them
    lost: bool,
}

impl Pushes {
    fn of(ns: &[u64], lost: bool) -> Self {
        Self {
            count: ns.len(),
            median_ns: median(ns.iter().map(|ns| *ns as f64)),
            max_ns: ns.iter().max().copied(),
            lost,
        }
    }
}

/// One interval.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Sample {
    /// When it ended: seconds since 1970
    time: f64,
    /// How long it was
    seconds: f64,
    sessions_pending: u64,
    ranges_left: u64,
    /// All counters, in this interval
    counted: Counters,
    /// None where it is not traced
    pushes: Option<Pushes>,
}

impl Sample {
    fn per_second(&self, of: Rate) -> String {
        match of(&self.counted) as f64 / self.seconds {
            0.0 => "0".into(),
            rate if rate < 9.95 => format!("{rate:.1}"),
            rate => format!("{rate:.0}"),
        }
    }

    fn columns(&self) -> Vec<String> {
        let mut cells = vec![
            clock(self.time),
            self.sessions_pending.to_string(),
            self.ranges_left.to_string(),
        ];
        cells.extend(RATES.iter().map(|(.., of)| self.per_second(*of)));
        let pushes = self.pushes.as_ref();
        let us = |ns: Option<f64>| ns.map_or("-".into(), |ns| format!("{:.1}", ns / 1e3));
        cells.push(pushes.map_or("-".into(), |pushes| {
            let more = if pushes.lost { "+" } else { "" };
            format!("{}{more}", pushes.count)
        }));
        cells.push(us(pushes.and_then(|pushes| pushes.median_ns)));
        cells.push(us(pushes.and_then(|p| p.max_ns).map(|ns| ns as f64)));
        cells
    }
}

/// The time of day, here.
fn clock(time: f64) -> String {
    let seconds = time as libc::time_t;
    // SAFETY: all-zero is a valid `tm`.
    let mut tm: libc::tm = unsafe { std::mem::zeroed() };
    // SAFETY: both are valid, and nobody changes the environment meanwhile.
    unsafe { libc::localtime_r(ptr::from_ref(&seconds), &raw mut tm) };
    format!("{:02}:{:02}:{:02}", tm.tm_hour, tm.tm_min, tm.tm_sec)
}

/// What the columns are called.
fn names() -> impl Iterator<Item = &'static str> {
    let rates = RATES.iter().map(|(name, ..)| *name);
    let pushes = ["pushes", "med_us", "max_us"];
    ["time", "pending", "ranges"]
        .into_iter()
        .chain(rates)
        .chain(pushes)
}

/// Characters of a time of day.
const CLOCK: usize = 8;

/// A line with its columns where those of all other lines are.
fn line<S: AsRef<str>>(cells: impl IntoIterator<Item = S>) -> String {
    let cells = names().zip(cells).map(|(name, cell)| {
        let width = if name == "time" {
            CLOCK
        } else {
            name.len().max(7)
        };
        format!("{:>width$}", cell.as_ref())
    });
    cells.collect::<Vec<_>>().join("  ") + "\n"
}

/// What a terminal shows.
struct Picture {
    every: Duration,
    levels: &'static str,
    /// Ranges that were left, the last intervals
    history: VecDeque<u64>,
    /// Since it began
    counted: Counters,
    seconds: f64,
    longest_ns: Option<u64>,
}

impl Picture {
    fn new(every: Duration) -> Self {
        Self {
            every,
            levels: terminal::levels(),
            history: VecDeque::new(),
            counted: Counters::default(),
            seconds: 0.0,
            longest_ns: None,
        }
    }

    fn add(&mut self, sample: &Sample) {
        if self.history.len() == HISTORY {
            self.history.pop_front();
        }
        self.history.push_back(sample.ranges_left);
        self.counted = std::mem::take(&mut self.counted).plus(&sample.counted);
        self.seconds += sample.seconds;
        let longest = sample.pushes.as_ref().and_then(|pushes| pushes.max_ns);
        self.longest_ns = self.longest_ns.max(longest);
    }

    fn lines(&self, sample: &Sample) -> Vec<String> {
        let Sample {
            sessions_pending,
            ranges_left,
            ..
        } = sample;
        let mib = ranges_left * (RANGE >> 20) as u64;
        let every = self.every.as_secs_f64();
        let mut text = format!(
            "asyncfork watch, every {every} s, {:.0} s so far; Ctrl-C ends it\n\n",
            self.seconds
        );
        text.push_str(&format!("sessions pending  {sessions_pending}\n"));
        text.push_str(&format!("ranges left       {ranges_left}, {mib} MiB\n"));
        let history = terminal::sparkline(self.history.iter().copied(), self.levels);
        let most = self.history.iter().max().unwrap_or(&0);
        text.push_str(&format!("  {history:HISTORY$}  most {most}\n\n"));
        let mut rows = vec![vec!["".into(), "per second".into(), "so far".into()]];
        rows.extend(RATES.iter().map(|(_, name, of)| {
            let so_far = of(&self.counted).to_string();
            vec![(*name).into(), sample.per_second(*of), so_far]
        }));
        text.push_str(&table(&rows, "<>>"));
        if let Some(pushes) = &sample.pushes {
            let or_none = |ns: Option<f64>| ns.map_or("-".into(), time);
            text.push_str(&format!(
                "\npushes took       median {}, longest {}, longest so far {}{}\n",
                or_none(pushes.median_ns),
                or_none(pushes.max_ns.map(|ns| ns as f64)),
                or_none(self.longest_ns.map(|ns| ns as f64)),
                if pushes.lost { " (some lost)" } else { "" }
            ));
        }
        text.lines().map(String::from).collect()
    }
}

/// Where samples go.
enum Show {
    Draw(Screen, Picture),
    Lines,
    Json,
}

impl Show {
    /// Whether somebody still reads.
    fn begin(&mut self, now: &Sample) -> Result<bool> {
        match self {
            Self::Draw(screen, picture) => screen.draw(&picture.lines(now)),
            Self::Lines => report::print_to_reader(&line(names())),
            Self::Json => Ok(true),
        }
    }

    fn show(&mut self, sample: &Sample) -> Result<bool> {
        match self {
            Self::Draw(screen, picture) => {
                picture.add(sample);
                screen.draw(&picture.lines(sample))
            }
            Self::Lines => report::print_to_reader(&line(sample.columns())),
            Self::Json => report::print_to_reader(&(serde_json::to_string(sample)? + "\n")),
        }
    }
}

/// What is read at the end of each interval, and meanwhile.
struct Watch {
    counters: Counters,
    at: Instant,
    spans: Option<Spans>,
}

impl Watch {
    fn begin() -> Result<Self> {
        asyncfork::counters().map_err(explain)?;
        let spans = Spans::new(BEGIN, END, BY_PARENT, KIB);
        // To switch events on takes a while, which is in no interval.
        Ok(Self {
            spans: spans.map_err(without).ok(),
            counters: asyncfork::counters()?,
            at: Instant::now(),
        })
    }

    /// What is known before there was an interval.
    fn now(&self) -> Sample {
        self.sample(self.counters.since(&self.counters), f64::INFINITY, None)
    }

    fn sample(&self, counted: Counters, seconds: f64, pushes: Option<Pushes>) -> Sample {
        let time = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        Sample {
            time: time.unwrap_or_default().as_secs_f64(),
            seconds,
            sessions_pending: self.counters.sessions_pending(),
            ranges_left: self.counters.ranges_left(),
            counted,
            pushes,
        }
    }

    /// The next interval.
    fn next(&mut self, interval: Duration) -> Result<Sample> {
        let begin = self.at;
        let end = begin + interval;
        let (mut ns, mut lost) = (Vec::new(), false);
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let sleep = match self.spans {
                Some(_) => left.min(EMPTIED),
                None => left,
            };
            interrupt::sleep(sleep)?;
            match self.spans.as_mut().map(Spans::take).transpose() {
                Ok(taken) => taken.into_iter().for_each(|taken| {
                    ns.extend(taken.ns);
                    lost |= taken.lost;
                }),
                Err(error) => {
                    without(error);
                    self.spans = None;
                }
            }
            if sleep == left {
                break;
            }
        }
        let earlier = std::mem::replace(&mut self.counters, asyncfork::counters()?);
        self.at = Instant::now();
        let pushes = self.spans.as_ref().map(|_| Pushes::of(&ns, lost));
        let seconds = (self.at - begin).as_secs_f64();
        Ok(self.sample(self.counters.since(&earlier), seconds, pushes))
    }
}

fn without(error: anyhow::Error) {
    eprintln!("asyncfork: without the latency of pushes: {error:#}");
}

impl Options {
    pub fn execute(self) -> Result<ExitCode> {
        interrupt::note()?;
        let mut watch = Watch::begin()?;
        let mut show = match (self.json, Screen::new()) {
            (true, _) => Show::Json,
            (false, Some(screen)) => Show::Draw(screen, Picture::new(self.interval)),
            (false, None) => Show::Lines,
        };
        let mut read = show.begin(&watch.now())?;
        let mut number = 0;
        while read && self.count.is_none_or(|count| number < count) {
            read = show.show(&watch.next(self.interval)?)?;
            number += 1;
        }
        Ok(ExitCode::SUCCESS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(pushes: Option<Pushes>) -> Sample {
        Sample {
            time: 1.5,
            seconds: 2.0,
            sessions_pending: 1,
            ranges_left: 384,
            counted: Counters::parse(
                "async_pgtable_session_start 1\n\
                async_pgtable_range_copy 126\n\
                async_pgtable_range_push 3\n\
                async_pgtable_fallback_small 30\n\
                async_pgtable_fallback_off 4\n",
            ),
            pushes,
        }
    }

    #[test]
    fn intervals() {
        assert_eq!(interval("0.5"), Ok(Duration::from_millis(500)));
        for wrong in ["0", "-1", "x", "nan", "inf", "1e9", ""] {
            assert!(interval(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn lines_have_the_columns_of_the_header() {
        let pushes = Pushes::of(&[100_000, 300_000, 120_000], false);
        let with = line(sample(Some(pushes.clone())).columns());
        let words: Vec<&str> = with.split_whitespace().skip(1).collect();
        let expected = ["1", "384", "0.5", "63", "0", "1.5", "17", "0"];
        assert_eq!(words[..8], expected);
        assert_eq!(words[8..], ["3", "120.0", "300.0"]);
        assert_eq!(with.len(), line(names()).len());
        let without = line(sample(None).columns());
        assert!(without.ends_with(" -        -        -\n"), "{without}");
        let columns = |line: &str| line.split_whitespace().count();
        assert_eq!(columns(&with), names().count());
        assert_eq!(columns(&without), names().count());
        let lost = Pushes {
            lost: true,
            ..pushes
        };
        assert!(line(sample(Some(lost)).columns()).contains(" 3+  "));
        let none = Pushes::of(&[], false);
        assert!(line(sample(Some(none)).columns()).ends_with(" 0        -        -\n"));
    }

    #[test]
    fn pictures() {
        let mut picture = Picture::new(Duration::from_secs(2));
        picture.levels = "12345678";
        for left in [0, 768, 384] {
            picture.add(&Sample {
                ranges_left: left,
                ..sample(Some(Pushes::of(&[200_000], false)))
            });
        }
        let lines = picture.lines(&sample(Some(Pushes::of(&[100_000], true))));
        let text = lines.join("\n");
        assert!(text.contains("every 2 s, 6 s so far"), "{text}");
        assert!(
            text.contains("ranges left       384, 768 MiB\n   84 "),
            "{text}"
        );
        assert!(text.contains("most 768\n"), "{text}");
        assert!(
            text.contains("ranges copied by the child          63     378\n"),
            "{text}"
        );
        assert!(
            text.ends_with("median 100 us, longest 100 us, longest so far 200 us (some lost)"),
            "{text}"
        );
        let without = picture.lines(&sample(None)).join("\n");
        assert!(!without.contains("pushes took"), "{without}");
    }

    #[test]
    fn history_is_bounded() {
        let mut picture = Picture::new(Duration::from_secs(1));
        (0..2 * HISTORY).for_each(|_| picture.add(&sample(None)));
        assert_eq!(picture.history.len(), HISTORY);
    }

    #[test]
    fn json() {
        let pushes = Pushes::of(&[100], false);
        let json: serde_json::Value = serde_json::to_value(sample(Some(pushes))).unwrap();
        assert_eq!(json["sessions_pending"], 1);
        assert_eq!(json["counted"]["range_push"], 3);
        assert_eq!(json["pushes"]["max_ns"], 100);
        let json = serde_json::to_value(sample(None)).unwrap();
        assert!(json["pushes"].is_null());
    }
}
