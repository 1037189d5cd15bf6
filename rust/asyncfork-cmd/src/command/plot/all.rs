// SPDX-License-Identifier: GPL-2.0

//! All pictures of a directory of experiments.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use anyhow::Result;
use plotters::style::RGBColor;
use serde_json::Value;

use super::Source;
use super::bars;
use super::bars::Bar;
use super::bars::Bars;
use super::bars::Scale;
use super::bars::Series;
use super::colour;
use super::lines;
use super::lines::Axis;
use super::lines::Chart;
use super::lines::Line;
use super::modes;
use super::over_time;
use super::over_time::OverTime;
use super::points;
use crate::command::Mode;
use crate::command::bench_model;
use crate::command::bench_redis;
use crate::command::bench_redis::Cause;
use crate::command::bench_report;
use crate::command::bench_snapshots;
use crate::command::bench_suite;
use crate::figures::Estimate;
use crate::figures::Unit;
use crate::paper;
use crate::report::time;

/// What an experiment can be drawn as.
enum Drawing {
    Lines(Chart),
    Bars(Bars),
    OverTime(OverTime),
    /// Why there is nothing to see
    Nothing(&'static str),
}

/// The picture, the experiment, and what draws it.
type Plot = (&'static str, &'static str, fn(&Value) -> Result<Drawing>);
const PLOTS: [Plot; 19] = [
    ("call", "a", |value| against_size(value, "call")),
    ("change", "b", change),
    ("interruptions", "d", interruptions),
    ("interruption-times", "d", interruption_times),
    ("throughput", "e", throughput),
    ("every", "f", |value| {
        in_both_modes(value, "SET in a whole cycle: p99", Scale::Logarithmic, time)
    }),
    ("at-once", "f2", at_once),
    ("rate", "i", rate),
    ("clients", "i", clients),
    ("pushes", "g", pushes),
    ("copied", "g", |value| {
        in_both_modes(
            value,
            "copied by the parent on write",
            Scale::Linear,
            mebibytes,
        )
    }),
    ("cpu", "g", |value| bars_of(value, points::cpu)),
    ("huge-call", "h", |value| by_point(value, "call")),
    ("huge-redis", "h", |value| by_point(value, MAX)),
    ("snapshots", "j", |value| by_point(value, MAX)),
    ("calls", "l", |value| bars_of(value, points::calls)),
    ("exec", "k", |value| {
        against_size(value, "fork and exec: executed")
    }),
    ("model-p99", "c", |value| {
        model(value, "p99", |figures| figures.p99)
    }),
    ("model-max", "c", |value| {
        model(value, "max", |figures| figures.max)
    }),
];

/// Draws what `directory` has, and says what it has not.
pub fn draw(directory: &Path, output: &Path) -> Result<ExitCode> {
    fs::create_dir_all(output).with_context(|| format!("cannot make {}", output.display()))?;
    let (mut drawn, mut failed) = (0, false);
    for (name, experiment, plot) in PLOTS {
        let to = output.join(format!("{name}.svg"));
        let outcome = match result(directory, experiment) {
            Some(from) => one(&from, &to, plot).with_context(|| from.display().to_string()),
            None => {
                let path = directory.join(format!("{experiment}.json"));
                Ok(Some(format!("{} is missing", path.display())))
            }
        };
        match outcome {
            Ok(None) => {
                println!("{}: drawn", to.display());
                drawn += 1;
            }
            Ok(Some(reason)) => println!("{}: not drawn: {reason}", to.display()),
            Err(error) => {
                println!("{}: not drawn: {error:#}", to.display());
                failed = true;
            }
        }
    }
    Ok(match drawn > 0 && !failed {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

/// The file of an experiment, compressed or not.
fn result(directory: &Path, experiment: &str) -> Option<PathBuf> {
    let names = [
        format!("{experiment}.json"),
        format!("{experiment}.json.gz"),
    ];
    let mut paths = names.iter().map(|name| directory.join(name));
    paths.find(|path| path.exists())
}

/// Why nothing was drawn, if there was nothing to see.
fn one(from: &Path, to: &Path, plot: fn(&Value) -> Result<Drawing>) -> Result<Option<String>> {
    let source = Source::read(from)?;
    match plot(&source.value)? {
        Drawing::Lines(chart) => lines::draw(&chart, &source.caption, to)?,
        Drawing::Bars(bars) => bars::draw(&bars, &source.caption, to)?,
        Drawing::OverTime(picture) => over_time::draw(&picture, &source.caption, to)?,
        Drawing::Nothing(reason) => return Ok(Some(format!("{}: {reason}", from.display()))),
    }
    Ok(None)
}

fn title(record: &bench_suite::Record) -> String {
    let quick = if record.quick { " (quick)" } else { "" };
    format!("{}{quick}", record.title)
}

fn bars_of(value: &Value, bars: impl Fn(&Value, String) -> Result<Bars>) -> Result<Drawing> {
    let record: bench_suite::Record = serde_json::from_value(value.clone())?;
    let bars = bars(value, title(&record))?;
    Ok(match bars.groups.is_empty() {
        true => Drawing::Nothing("no point has such a figure"),
        false => Drawing::Bars(bars),
    })
}

fn by_point(value: &Value, figure: &str) -> Result<Drawing> {
    bars_of(value, |value, title| points::by_point(value, title, figure))
}

fn against_size(value: &Value, figure: &str) -> Result<Drawing> {
    Ok(Drawing::Lines(bench_report::chart(value, Some(figure))?))
}

/// The points of an experiment with Redis, and its title.
fn redis(value: &Value) -> Result<(String, Vec<(String, bench_redis::Record)>)> {
    let record: bench_suite::Record = serde_json::from_value(value.clone())?;
    let title = title(&record);
    let points = record.points.into_iter().map(|point| {
        let record = serde_json::from_value(point.record);
        let record = record.with_context(|| format!("point {} is not whole", point.name))?;
        Ok((point.name, record))
    });
    Ok((title, points.collect::<Result<_>>()?))
}

/// Figures of the SETs in the window, as bench report names them.
const PERCENTILES: [(&str, &str, RGBColor); 4] = [
    (
        "p50",
        "SET in the window: p50 of a save",
        RGBColor(110, 150, 70),
    ),
    ("p99", P99, RGBColor(50, 130, 200)),
    (
        "p99.9",
        "SET in the window: p99.9 of a save",
        RGBColor(140, 100, 200),
    ),
    ("max", MAX, RGBColor(214, 120, 40)),
];
const P99: &str = "SET in the window: p99 of a save";
const MAX: &str = "SET in the window: max of a save";

/// By how many percent the percentiles of asynchronous forks differ from those of default forks.
fn change(value: &Value) -> Result<Drawing> {
    let (title, mut points) = redis(value)?;
    let load = |record: &bench_redis::Record| match record.parameters.clients.rate_percent {
        Some(percent) => format!("{percent} %"),
        None => format!("{}/s", record.parameters.clients.rate),
    };
    points.sort_by_key(|(_, record)| record.parameters.mb);
    let group = |(_, record): &(String, bench_redis::Record)| {
        let (measured, mb) = (record.measured(), record.parameters.mb);
        let bar = |(series, (_, figure, _)): (usize, &(&str, &str, RGBColor))| {
            let samples = |mode| measured.samples(figure, mode);
            let ratio = Estimate::ratio(samples(Mode::Async)?, samples(Mode::Default)?)?;
            let value = ratio.map(|ratio| (ratio - 1.0) * 100.0);
            Some(Bar { series, value })
        };
        bars::Group {
            name: format!("{}\n{}", lines::size(mb as f64), load(record)),
            bars: PERCENTILES.iter().enumerate().filter_map(bar).collect(),
            published: paper::at(mb).map(|published| (1, published.change_percent)),
        }
    };
    let series = |(name, _, colour): &(&str, &str, RGBColor)| Series {
        name: (*name).into(),
        colour: *colour,
    };
    Ok(Drawing::Bars(Bars {
        title,
        axis: "async fork against default fork (change)".into(),
        show: percent,
        scale: Scale::Linear,
        series: PERCENTILES.iter().map(series).collect(),
        groups: points.iter().map(group).collect(),
        published: "p99 in the paper, on its machine",
    }))
}

fn percent(value: f64) -> String {
    match value.abs() {
        size if size < 10.0 => format!("{value:.1} %"),
        _ => format!("{value:.0} %"),
    }
}

fn rate(value: &Value) -> Result<Drawing> {
    latency(
        value,
        Axis::Rate,
        |record| record.parameters.clients.rate_percent,
        |record| Some(record.parameters.clients.clients.into()),
    )
}

fn clients(value: &Value) -> Result<Drawing> {
    latency(
        value,
        Axis::Clients,
        |record| Some(record.parameters.clients.clients.into()),
        |record| record.parameters.clients.rate_percent,
    )
}

type Parameter = fn(&bench_redis::Record) -> Option<f64>;

/// Percentiles against `x`, of the points that are alike in `rest`, as many as there are.
fn latency(value: &Value, axis: Axis, x: Parameter, rest: Parameter) -> Result<Drawing> {
    let (title, points) = redis(value)?;
    let mut alike: BTreeMap<u64, Vec<(f64, &bench_redis::Record)>> = BTreeMap::new();
    for (_, record) in &points {
        if let (Some(x), Some(rest)) = (x(record), rest(record)) {
            alike.entry(rest.to_bits()).or_default().push((x, record));
        }
    }
    let Some(mut points) = alike
        .into_values()
        .max_by_key(Vec::len)
        .filter(|p| p.len() > 1)
    else {
        return Ok(Drawing::Nothing("there is only one point"));
    };
    points.sort_by(|(a, _), (b, _)| a.total_cmp(b));
    let line = |(of, figure): (&str, &str), mode| Line {
        of: format!("{of} in the window"),
        mode,
        modelled: false,
        points: (points.iter())
            .filter_map(|(x, record)| {
                let measured = record.measured();
                let samples = measured.samples(figure, mode)?;
                Some((*x, Estimate::median(samples)))
            })
            .collect(),
    };
    let figures = [("p99", P99), ("max", MAX)];
    Ok(Drawing::Lines(Chart {
        title,
        figure: "SET".into(),
        unit: Unit::Time,
        axis,
        lines: (figures.into_iter())
            .flat_map(|figure| Mode::BOTH.map(|mode| line(figure, mode)))
            .filter(|line| !line.points.is_empty())
            .collect(),
    }))
}

/// Of the ranges that were copied in a window, how many percent the parent had to copy.
fn pushes(value: &Value) -> Result<Drawing> {
    let (title, points) = redis(value)?;
    let share = |save: &bench_redis::Save| {
        let pushed = save.counted("range_push");
        let all = pushed + save.counted("range_copy");
        (all > 0.0).then(|| 100.0 * pushed / all)
    };
    let group = |(name, record): &(String, bench_redis::Record)| {
        let saves = record.saves.iter().filter(|save| save.mode == Mode::Async);
        let shares: Vec<f64> = saves.filter_map(share).collect();
        let bar = (!shares.is_empty()).then(|| Bar {
            series: 0,
            value: Estimate::median(&shares),
        });
        bars::Group {
            name: name.clone(),
            bars: bar.into_iter().collect(),
            published: None,
        }
    };
    Ok(Drawing::Bars(Bars {
        title,
        axis: "page tables copied by the parent".into(),
        show: |value| format!("{value:.1} %"),
        scale: Scale::Linear,
        series: vec![Series {
            name: "async fork".into(),
            colour: colour(Mode::Async),
        }],
        groups: points.iter().map(group).collect(),
        published: "",
    }))
}

/// One figure of each point.
fn in_both_modes(
    value: &Value,
    figure: &str,
    scale: Scale,
    show: fn(f64) -> String,
) -> Result<Drawing> {
    let (title, points) = redis(value)?;
    let group = |(name, record): &(String, bench_redis::Record)| {
        let measured = record.measured();
        let bar = |mode| {
            let samples = measured.samples(figure, mode)?;
            let series = usize::from(mode == Mode::Async);
            let value = Estimate::median(samples);
            Some(Bar { series, value })
        };
        bars::Group {
            name: name.clone(),
            bars: Mode::BOTH.into_iter().filter_map(bar).collect(),
            published: None,
        }
    };
    Ok(Drawing::Bars(Bars {
        title,
        axis: match scale {
            Scale::Linear => figure.into(),
            Scale::Logarithmic => format!("{figure} (logarithmic)"),
        },
        show,
        scale,
        series: modes(),
        groups: points.iter().map(group).collect(),
        published: "",
    }))
}

fn mebibytes(bytes: f64) -> String {
    match bytes / f64::from(1 << 20) {
        few if few < 100.0 => format!("{few:.1} MiB"),
        many => format!("{many:.0} MiB"),
    }
}

/// Causes of interruptions, and what is shown of each.
const CAUSES: [(Cause, &str, RGBColor); 4] = [
    (
        Cause::Freeze,
        "out of service: freeze",
        RGBColor(214, 120, 40),
    ),
    (
        Cause::Push,
        "out of service: pushes",
        RGBColor(140, 100, 200),
    ),
    (
        Cause::CopyOnWrite,
        "out of service: copy-on-write faults",
        RGBColor(50, 130, 200),
    ),
    (
        Cause::OtherFault,
        "out of service: other faults",
        RGBColor(110, 150, 70),
    ),
];

/// How long the server was out of service in a window, by cause.
fn interruptions(value: &Value) -> Result<Drawing> {
    let (title, points) = redis(value)?;
    let group = |(name, record): &(String, bench_redis::Record), mode: Mode| {
        let measured = record.measured();
        let bar = |(series, (_, figure, _)): (usize, &(Cause, &str, RGBColor))| {
            let value = Estimate::median(measured.samples(figure, mode)?);
            // A logarithmic axis has no place for nothing.
            (value.value > 0.0).then_some(Bar { series, value })
        };
        bars::Group {
            name: format!("{name}\n{mode}"),
            bars: CAUSES.iter().enumerate().filter_map(bar).collect(),
            published: None,
        }
    };
    let series = |(cause, _, colour): &(Cause, &str, RGBColor)| Series {
        name: cause.to_string(),
        colour: *colour,
    };
    Ok(Drawing::Bars(Bars {
        title,
        axis: "out of service in a window (logarithmic)".into(),
        show: time,
        scale: Scale::Logarithmic,
        series: CAUSES.iter().map(series).collect(),
        groups: (points.iter())
            .flat_map(|point| Mode::BOTH.map(|mode| group(point, mode)))
            .collect(),
        published: "",
    }))
}

/// The point of the largest size, the last of these.
fn largest(points: Vec<(String, bench_redis::Record)>) -> Result<(String, bench_redis::Record)> {
    let size = |(_, record): &(String, bench_redis::Record)| record.parameters.mb;
    points
        .into_iter()
        .max_by_key(size)
        .context("it has no points")
}

/// How many interruptions took how long.
fn interruption_times(value: &Value) -> Result<Drawing> {
    let (title, points) = redis(value)?;
    let (name, record) = largest(points)?;
    let line = |(cause, mode): (Cause, Mode)| Line {
        of: cause.to_string(),
        mode,
        modelled: false,
        points: (bench_redis::interruptions(&record.saves, mode, cause).into_iter())
            .enumerate()
            .filter(|(_, count)| *count > 0)
            .map(|(power, count)| {
                let middle = (power as f64 + 0.5).exp2();
                (middle, Estimate::exactly(count as f64))
            })
            .collect(),
    };
    let lines = CAUSES
        .iter()
        .flat_map(|(cause, ..)| Mode::BOTH.map(|mode| (*cause, mode)));
    Ok(Drawing::Lines(Chart {
        title,
        figure: format!("{name}, all windows"),
        unit: Unit::Number,
        axis: Axis::Duration,
        lines: lines
            .map(line)
            .filter(|line| !line.points.is_empty())
            .collect(),
    }))
}

/// Over time, at the largest size.
fn throughput(value: &Value) -> Result<Drawing> {
    let (title, points) = redis(value)?;
    let (name, record) = largest(points)?;
    let line = |mode| (mode, bench_redis::throughput(&record.saves, mode));
    Ok(Drawing::OverTime(OverTime {
        title: format!("{title}: {name}"),
        axis: "SETs per second, median of the saves".into(),
        lines: (Mode::BOTH.map(line).into_iter())
            .filter(|(_, points)| !points.is_empty())
            .collect(),
    }))
}

/// The last call of several, against how many there are.
fn at_once(value: &Value) -> Result<Drawing> {
    let record: bench_suite::Record = serde_json::from_value(value.clone())?;
    let title = title(&record);
    let mut lines: Vec<Line> = Vec::new();
    for point in record.points {
        let record: bench_snapshots::Record = serde_json::from_value(point.record)
            .with_context(|| format!("point {} is not whole", point.name))?;
        let (of, measured) = (lines::size(record.mb as f64), record.measured());
        for mode in Mode::BOTH {
            let Some(samples) = measured.samples(bench_snapshots::LAST, mode) else {
                continue;
            };
            let at = (f64::from(record.at_once), Estimate::median(samples));
            match lines.iter_mut().find(|l| l.of == of && l.mode == mode) {
                Some(line) => line.points.push(at),
                None => lines.push(Line {
                    of: of.clone(),
                    mode,
                    modelled: false,
                    points: vec![at],
                }),
            }
        }
    }
    Ok(Drawing::Lines(Chart {
        title,
        figure: bench_snapshots::LAST.into(),
        unit: Unit::Time,
        axis: Axis::Snapshots,
        lines,
    }))
}

/// A percentile in the window, against the size: measured, modelled and published.
fn model(value: &Value, name: &str, of: fn(&bench_model::Figures) -> Estimate) -> Result<Drawing> {
    let suite: bench_suite::Record = serde_json::from_value(value.clone())?;
    let record = suite.points.first().context("it has no points")?;
    let record: bench_model::Record = serde_json::from_value(record.record.clone())?;
    let pace = record.best_validated().context("it has no validation")?;
    let line = |what: &str, mode, modelled, points: Vec<(u64, bench_model::Figures)>| Line {
        of: format!("{what}, {pace}"),
        mode,
        modelled,
        points: (points.iter())
            .map(|(mb, figures)| (*mb as f64, of(figures)))
            .collect(),
    };
    let mut all = Vec::new();
    for mode in Mode::BOTH {
        all.push(line(
            "measured",
            mode,
            false,
            record.measured_at(pace, mode),
        ));
        all.push(line("modelled", mode, true, record.modelled_at(pace, mode)));
    }
    if name == "p99" {
        all.extend(Mode::BOTH.map(published));
    }
    all.retain(|line| !line.points.is_empty());
    Ok(Drawing::Lines(Chart {
        title: title(&suite),
        figure: name.into(),
        unit: Unit::Time,
        axis: Axis::Size,
        lines: all,
    }))
}

/// The p99 of the paper.
fn published(mode: Mode) -> Line {
    let points = paper::PAPER.iter().filter_map(|published| {
        let [default, asynchronous] = published.p99_ns?;
        let ns = match mode {
            Mode::Default => default,
            Mode::Async => asynchronous,
        };
        Some(((published.gib << 10) as f64, Estimate::exactly(ns)))
    });
    Line {
        of: "the paper, on its machine".into(),
        mode,
        modelled: false,
        points: points.collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::examples;

    fn write(directory: &Path, record: &bench_suite::Record) {
        let path = directory.join(format!("{}.json", record.experiment));
        fs::write(path, serde_json::to_string(record).unwrap()).unwrap();
    }

    fn model() -> bench_suite::Record {
        let record = serde_json::to_value(bench_model::tests::example()).unwrap();
        examples::experiment("c", [("modelled", record)])
    }

    fn is_success(status: ExitCode) -> bool {
        format!("{status:?}") == format!("{:?}", ExitCode::SUCCESS)
    }

    #[test]
    fn each_picture_says_what_it_shows_and_from_what() {
        let directory = tempfile::tempdir().unwrap();
        let output = directory.path().join("plots");
        for record in [
            examples::calls(),
            examples::requests(),
            model(),
            examples::patterns(),
            examples::rates(),
            examples::spawns(),
            examples::causes(),
            examples::throughputs(),
            examples::cycles(),
            examples::at_once(),
            examples::huge_pages(),
            examples::snapshots(),
            examples::system_calls(),
        ] {
            write(directory.path(), &record);
        }
        assert!(is_success(draw(directory.path(), &output).unwrap()));
        for (name, words) in [
            (
                "call",
                &["written pages", "zero pages", "64 GiB", "a.json"][..],
            ),
            (
                "change",
                &[
                    "1 GiB",
                    "50 %",
                    "p99.9",
                    "p99 in the paper",
                    "-80 %",
                    "b.json",
                ],
            ),
            (
                "interruptions",
                &["freeze", "push", "8192", "321 ms", "d.json"],
            ),
            (
                "interruption-times",
                &[
                    "8192, all windows",
                    "default fork, freeze",
                    "async fork, push",
                ],
            ),
            (
                "throughput",
                &["seconds since BGSAVE", "example of e: 8192", "e.json"],
            ),
            ("every", &["SET in a whole cycle: p99", "1024-every-10"]),
            ("at-once", &["snapshots at once", "16", "f2.json"]),
            (
                "rate",
                &["in percent of the capacity", "max in the window", "i.json"],
            ),
            ("clients", &["clients (log", "p99 in the window", "i.json"]),
            ("pushes", &["33.3 %", "zipfian", "g.json"]),
            ("copied", &["4.0 MiB", "default fork", "g.json"]),
            ("cpu", &["500 ms", "child, async fork", "zipfian", "g.json"]),
            ("huge-call", &["always", "41.0 ms", "call (log", "h.json"]),
            ("huge-redis", &["redis", "max of a save", "h.json"]),
            (
                "snapshots",
                &["valkey", "threads", "max of a save", "j.json"],
            ),
            ("calls", &["mprotect", "no child", "3.00 us", "l.json"]),
            ("exec", &["fork and exec: executed", "1 GiB", "k.json"]),
            (
                "model-p99",
                &["modelled, 50 %", "measured, 50 %", "the paper", "c.json"],
            ),
            ("model-max", &["modelled, 50 %", "measured, 50 %", "c.json"]),
        ] {
            let svg = fs::read_to_string(output.join(format!("{name}.svg"))).unwrap();
            for word in words.iter().chain(&["series 0123456789ab, test"]) {
                assert!(svg.contains(word), "{word} is not in {name}");
            }
        }
    }

    #[test]
    fn times_are_counted_by_logarithm() {
        let value = serde_json::to_value(examples::causes()).unwrap();
        let Drawing::Lines(chart) = interruption_times(&value).unwrap() else {
            panic!("no lines")
        };
        let points = |of: &str, mode| {
            let mut lines = chart.lines.iter();
            let line = lines.find(|line| line.of == of && line.mode == mode);
            line.map(|line| line.points.iter().map(|(x, y)| (*x, y.value)).collect())
        };
        let between = |power: f64| (power + 0.5).exp2();
        // 50 of 62.9 us each, in each of five windows.
        let pushes: Vec<_> = points("push", Mode::Async).unwrap();
        assert_eq!(pushes, [(between(15.0), 250.0)]);
        assert_eq!(points("push", Mode::Default), None);
        assert_eq!(points("freeze", Mode::Default).unwrap().len(), 1);
    }

    #[test]
    fn what_is_missing_leaves_the_others() {
        let directory = tempfile::tempdir().unwrap();
        let output = directory.path().join("plots");
        let pictures = || {
            let entries = fs::read_dir(&output).unwrap();
            let mut names: Vec<_> = entries.map(|e| e.unwrap().file_name()).collect();
            names.sort();
            names
        };
        assert!(
            !is_success(draw(directory.path(), &output).unwrap()),
            "nothing at all"
        );
        write(directory.path(), &examples::spawns());
        assert!(is_success(draw(directory.path(), &output).unwrap()));
        assert_eq!(pictures(), ["exec.svg"]);

        let mut alone = examples::rates();
        alone.points.truncate(1);
        write(directory.path(), &alone);
        assert!(is_success(draw(directory.path(), &output).unwrap()));
        assert_eq!(pictures(), ["exec.svg"], "one rate is no line");

        fs::write(directory.path().join("a.json"), "{").unwrap();
        write(directory.path(), &examples::patterns());
        assert!(
            !is_success(draw(directory.path(), &output).unwrap()),
            "a is broken"
        );
        let expected = ["copied.svg", "cpu.svg", "exec.svg", "pushes.svg"];
        assert_eq!(pictures(), expected);
    }

    #[test]
    fn the_change_is_in_percent() {
        let value = serde_json::to_value(examples::requests()).unwrap();
        let Drawing::Bars(bars) = change(&value).unwrap() else {
            panic!("no bars")
        };
        let max = |ns: &mut dyn Iterator<Item = f64>| ns.fold(0.0, f64::max);
        let async_ns = max(&mut examples::inside_ns(Mode::Async, 8192));
        let default_ns = max(&mut examples::inside_ns(Mode::Default, 8192));
        let expected = (async_ns / default_ns - 1.0) * 100.0;
        let group = bars.groups.last().unwrap();
        assert_eq!(group.name, "8 GiB\n50 %");
        assert!((group.bars[3].value.value - expected).abs() < 0.1);
        assert_eq!(group.published, Some((1, -81.76)));
        assert_eq!(bars.groups[2].published, None, "none at 4 GiB");
    }
}
