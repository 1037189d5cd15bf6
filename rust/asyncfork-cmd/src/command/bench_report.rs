// SPDX-License-Identifier: GPL-2.0

//! `asyncfork bench report` and `asyncfork bench compare`: tables of what was measured, with
//! intervals.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use serde_json::Value;

use super::Mode;
use super::bench_calls;
use super::bench_fork;
use super::bench_insn;
use super::bench_model;
use super::bench_redis;
use super::bench_snapshots;
use super::bench_spawn;
use super::bench_suite;
use super::plot;
use super::plot::lines;
use super::plot::lines::Chart;
use crate::figures::Estimate;
use crate::figures::Line;
use crate::figures::Measured;
use crate::figures::Verdict;
use crate::machine::Machine;
use crate::paper;
use crate::report;
use crate::report::table;

const INTERVALS: &str = "medians of the repetitions, each with the 95 % interval of a bootstrap";

/// Print what a benchmark or an experiment has measured, with intervals
#[derive(clap::Args)]
pub struct ReportOptions {
    /// What bench --json or bench suite has written
    #[arg(required = true)]
    records: Vec<PathBuf>,

    /// The headlines only, as Markdown
    #[arg(long)]
    markdown: bool,

    /// Put these into FILE, between its lines <!-- bench report: begin --> and
    /// <!-- bench report: end -->
    #[arg(long, value_name = "FILE")]
    update: Option<PathBuf>,
}

/// Say for each figure of two records whether it differs
///
/// Figures of points with the same name are compared. "not known" is said where the interval of
/// the ratio does not tell: there are too few repetitions, or they are too different.
#[derive(clap::Args)]
pub struct CompareOptions {
    /// What bench --json or bench suite has written
    before: PathBuf,
    /// The same, later or elsewhere
    after: PathBuf,

    /// Fail if a figure has grown by more than this, and certainly so
    #[arg(long, value_name = "PERCENT")]
    limit: Option<f64>,
}

impl ReportOptions {
    pub fn execute(self) -> Result<ExitCode> {
        let mut tables = String::new();
        for path in &self.records {
            let (value, name) = (report::read(path), path.file_name().unwrap_or_default());
            let text = value.and_then(|value| match self.markdown || self.update.is_some() {
                true => markdown(&name.to_string_lossy(), &value),
                false => Ok(format!("{}in {}\n", text(&value)?, path.display())),
            });
            tables += &text.with_context(|| format!("cannot read {}", path.display()))?;
        }
        match &self.update {
            None => report::print(&tables)?,
            Some(path) => update(path, &tables)
                .with_context(|| format!("cannot update {}", path.display()))?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Puts `tables` into the file `path`.
fn update(path: &Path, tables: &str) -> Result<()> {
    let text = updated(&fs::read_to_string(path)?, tables)?;
    Ok(fs::write(path, text)?)
}

impl CompareOptions {
    pub fn execute(self) -> Result<ExitCode> {
        let record = |path: &Path| {
            report::read(path)
                .and_then(|value| Points::of(&value))
                .with_context(|| format!("cannot compare {}", path.display()))
        };
        let compared = Compared::of(&record(&self.before)?, &record(&self.after)?)?;
        report::print(&compared.text)?;
        let limit = self.limit.unwrap_or(f64::INFINITY);
        let grown = compared.grown(limit);
        for (name, ratio) in &grown {
            println!("GROWN by more than {limit} %: {name}: {ratio}");
        }
        Ok(match grown.is_empty() {
            true => ExitCode::SUCCESS,
            false => ExitCode::FAILURE,
        })
    }
}

/// The figures of one record of a benchmark.
fn measured(record: &Value) -> Result<Measured> {
    match record["benchmark"].as_str() {
        Some("calls") => bench_calls::measured(record.clone()),
        Some("fork") => bench_fork::measured(record.clone()),
        Some("insn") => bench_insn::measured(record.clone()),
        Some("redis") => bench_redis::measured(record.clone()),
        Some("snapshots") => bench_snapshots::measured(record.clone()),
        Some("spawn") => bench_spawn::measured(record.clone()),
        _ => bail!("it names no benchmark that has figures"),
    }
}

/// Everything of a file, by point. One benchmark is one point.
struct Points {
    title: String,
    machines: Vec<Machine>,
    points: Vec<(String, Measured)>,
    note: Option<String>,
}

impl Points {
    fn of(value: &Value) -> Result<Self> {
        if value["benchmark"] != bench_suite::Record::NAME {
            return Self::of_record("", value);
        }
        let record: bench_suite::Record = serde_json::from_value(value.clone())?;
        let (mut machines, mut points) = (Vec::new(), Vec::new());
        let mut notes: Vec<String> = Vec::new();
        for point in &record.points {
            let of_point = Self::of_record(&point.name, &point.record)?;
            machines.extend(of_point.machines);
            points.extend(of_point.points);
            notes.extend(of_point.note);
        }
        notes.extend(record.note);
        let mut title = format!("{}: {}", record.experiment, record.title);
        if record.quick {
            title += " (quick)";
        }
        if record.missing > 0 {
            title += &format!("; {} points are missing", record.missing);
        }
        let loads = || {
            let points = record.points.iter();
            points.flat_map(|point| [point.load_before.first(), point.load_after.first()])
        };
        let highest = loads().flatten().copied().fold(0.0, f64::max);
        title += &format!("\nload of the machine up to {highest:.1}");
        Ok(Self {
            title,
            machines,
            points,
            note: (!notes.is_empty()).then(|| notes.join("\n")),
        })
    }

    /// Those of one benchmark at the point `name`. What a model says has names of its own, and no
    /// machine that it was measured on.
    fn of_record(name: &str, record: &Value) -> Result<Self> {
        if record["benchmark"] == "model" {
            let (points, text) = bench_model::measured(record.clone())?;
            return Ok(Self {
                title: "modelled, not measured".into(),
                machines: vec![],
                points,
                note: Some(text),
            });
        }
        let measured = measured(record)?;
        Ok(Self {
            title: format!("{}, {} MiB", measured.of, measured.mb),
            machines: vec![serde_json::from_value(record["machine"].clone())?],
            points: vec![(name.into(), measured)],
            note: None,
        })
    }

    /// Each machine once.
    fn machine_lines(&self) -> Vec<String> {
        let mut lines: Vec<String> = Vec::new();
        for machine in &self.machines {
            let hash = |hash: &Option<String>| hash.clone().unwrap_or("unknown".into());
            let Machine {
                uname,
                accelerator,
                cpus,
                cpu,
                ..
            } = machine;
            let line = format!(
                "Linux {}, {accelerator}, {cpus} x {cpu}; series {}, config {}",
                uname.release,
                hash(&machine.series),
                hash(&machine.config)
            );
            if !lines.contains(&line) {
                lines.push(line);
            }
        }
        lines
    }

    /// The names of the figures, each once.
    fn names(&self) -> Vec<&str> {
        let mut names = Vec::new();
        for name in self.points.iter().flat_map(|(_, point)| point.names()) {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        names
    }

    /// The points of the largest size, of each thing that was measured at several: of the sizes that
    /// the paper has too, if there are such.
    fn largest(&self) -> Vec<&str> {
        let mut kinds: BTreeMap<&str, (bool, u64, &str)> = BTreeMap::new();
        for (name, point) in &self.points {
            let this = (paper::at(point.mb).is_some(), point.mb, name.as_str());
            let largest = kinds.entry(&point.of).or_insert(this);
            *largest = this.max(*largest);
        }
        kinds.into_values().map(|(_, _, name)| name).collect()
    }

    /// How the figure `name` grows with the size, for each thing that was measured at several.
    fn lines(&self, name: &str) -> Vec<String> {
        let mut kinds: BTreeMap<&str, Vec<&Measured>> = BTreeMap::new();
        for (_, point) in &self.points {
            kinds.entry(&point.of).or_default().push(point);
        }
        let mut text = Vec::new();
        for (of, points) in kinds {
            let line = |mode| {
                let samples = |point: &&'_ Measured| {
                    let size = point.mb as f64 / 1024.0;
                    point.samples(name, mode).map(|s| (size, s.to_vec()))
                };
                let all: Vec<_> = points.iter().filter_map(samples).collect();
                let all: Vec<_> = all.iter().map(|(size, s)| (*size, &s[..])).collect();
                Line::through(&all)
            };
            for mode in Mode::BOTH {
                if let Some(line) = line(mode) {
                    let unit = points[0].unit(name);
                    text.push(format!(
                        "  {of}, {mode}: {} per GiB and {}",
                        line.slope.show(|value| unit.show(value)),
                        line.intercept.show(|value| unit.show(value))
                    ));
                }
            }
        }
        text
    }
}

/// All points of an experiment, by name.
pub fn points(value: &Value) -> Result<Vec<(String, Measured)>> {
    Ok(Points::of(value)?.points)
}

/// What `asyncfork plot` draws of an experiment: the figure `name`, or the first one, against the
/// size.
pub fn chart(value: &Value, name: Option<&str>) -> Result<Chart> {
    let points = Points::of(value)?;
    let names = points.names();
    let figure = match name {
        None => names.first().copied().context("it has no figures")?,
        Some(name) if names.contains(&name) => name,
        Some(name) => bail!("no figure {name:?}; there are: {}", names.join("; ")),
    };
    let mut lines: Vec<lines::Line> = Vec::new();
    for (_, point) in &points.points {
        for mode in Mode::BOTH {
            let Some(samples) = point.samples(figure, mode) else {
                continue;
            };
            let at = (point.mb as f64, Estimate::median(samples));
            match lines
                .iter_mut()
                .find(|line| line.of == point.of && line.mode == mode)
            {
                Some(line) => line.points.push(at),
                None => lines.push(lines::Line {
                    of: point.of.clone(),
                    mode,
                    modelled: false,
                    points: vec![at],
                }),
            }
        }
    }
    for line in &mut lines {
        line.points.sort_by(|(a, _), (b, _)| a.total_cmp(b));
        line.points.dedup_by_key(|(mb, _)| *mb);
    }
    lines.retain(|line| line.points.len() > 1);
    if lines.is_empty() {
        bail!("it was measured at one size only");
    }
    let mut title = value["title"].as_str().unwrap_or_default().to_owned();
    if value["quick"] == true {
        title += " (quick)";
    }
    Ok(Chart {
        title,
        figure: figure.to_owned(),
        unit: points.points[0].1.unit(figure),
        axis: lines::Axis::Size,
        lines,
    })
}

/// A figure by point: its name and the modes, then a row for each point.
fn rows(points: &Points, name: &str) -> Vec<Vec<String>> {
    let mut rows = vec![vec![name.to_owned()]];
    rows[0].extend(Mode::BOTH.map(|mode| mode.to_string()));
    rows[0].extend(["async/default".into(), "change".into()]);
    for (point, measured) in &points.points {
        let samples = Mode::BOTH.map(|mode| measured.samples(name, mode));
        let unit = measured.unit(name);
        let cell = |samples: Option<&[f64]>| match samples {
            Some(samples) => Estimate::median(samples).show(|value| unit.show(value)),
            None => "-".into(),
        };
        let mut row = vec![point.clone()];
        row.extend(samples.map(cell));
        let ratio = match samples {
            [Some(default), Some(asynchronous)] => Estimate::ratio(asynchronous, default),
            _ => None,
        };
        if let Some(ratio) = ratio {
            row.push(ratio.show(|ratio| format!("{ratio:.3}")));
            row.push(format!("{:+.1} %", (ratio.value - 1.0) * 100.0));
        }
        rows.push(row);
    }
    rows
}

/// Tables of everything in `value`.
pub fn text(value: &Value) -> Result<String> {
    let points = Points::of(value)?;
    let mut text = format!("{}\n", points.title);
    for line in points.machine_lines() {
        text += &format!("{line}\n");
    }
    text += &format!("{INTERVALS}\n");
    for name in points.names() {
        let mut rows = rows(&points, name);
        for row in &mut rows[1..] {
            row[0].insert_str(0, "  ");
        }
        text += &format!("\n{}", table(&rows, "<>>>>"));
        for line in points.lines(name) {
            text += &format!("{line}\n");
        }
    }
    text.push('\n');
    for (point, measured) in &points.points {
        for note in &measured.notes {
            let point = match point.as_str() {
                "" => String::new(),
                name => format!("{name}: "),
            };
            text += &format!("{point}{note}\n");
        }
    }
    if let Some(note) = &points.note {
        text += &format!("{note}\n");
    }
    Ok(text)
}

/// The figures that a README shows.
const HEADLINES: [&str; 6] = [
    "call",
    "SET in the window: p99 of a save",
    "SET in the window: max of a save",
    "fork and exec: executed",
    "p99 in the window, modelled",
    "max in the window, modelled",
];

/// A table of the headlines in `value`, which is in the file `name`; empty if there are none. Of each
/// load one size: the largest that the paper has too, or else the largest.
fn markdown(name: &str, value: &Value) -> Result<String> {
    let points = Points::of(value)?;
    let mut table = vec![
        [name, "default", "async", "change", "the paper"]
            .map(str::to_owned)
            .to_vec(),
    ];
    let shown = points.largest();
    for headline in HEADLINES {
        let rows = rows(&points, headline).into_iter().skip(1);
        for (row, (_, measured)) in rows.zip(&points.points) {
            let [point, default, asynchronous, _, change] = &row[..] else {
                continue;
            };
            if !shown.contains(&point.as_str()) {
                continue;
            }
            let published = paper::at(measured.mb).filter(|_| headline.contains("p99 "));
            table.push(vec![
                format!("{headline}: {point}"),
                default.clone(),
                asynchronous.clone(),
                change.clone(),
                published.map_or(String::new(), |p| format!("{:+.2} %", p.change_percent)),
            ]);
        }
    }
    if table.len() == 1 {
        return Ok(String::new());
    }
    let title = points.title.lines().next().unwrap_or_default();
    let source = plot::caption(name, value);
    let table = report::markdown(&table, "<>>>>");
    Ok(format!("\n{title} ({source}); {INTERVALS}:\n\n{table}"))
}

/// Where bench report puts what it has in another file.
const BEGIN: &str = "<!-- bench report: begin -->\n";
const END: &str = "<!-- bench report: end -->\n";

/// `text` with `tables` between the two marks.
///
/// # Errors
///
/// That it has not got them.
fn updated(text: &str, tables: &str) -> Result<String> {
    let marks = || {
        let (before, rest) = text.split_once(BEGIN)?;
        Some((before, rest.split_once(END)?.1))
    };
    let (before, after) = marks().with_context(|| {
        let [begin, end] = [BEGIN, END].map(str::trim_end);
        format!("it has no lines {begin} and {end}")
    })?;
    Ok(format!("{before}{BEGIN}{tables}\n{END}{after}"))
}

/// What became of each figure that both have.
struct Compared {
    text: String,
    ratios: Vec<(String, Estimate)>,
}

impl Compared {
    /// The figures that have certainly grown by more than `percent`.
    fn grown(&self, percent: f64) -> Vec<(&str, String)> {
        let grown = |ratio: &Estimate| ratio.low > 1.0 + percent / 100.0;
        let ratios = self.ratios.iter().filter(|(_, ratio)| grown(ratio));
        ratios
            .map(|(name, ratio)| (name.as_str(), ratio.show(|ratio| format!("{ratio:.3}"))))
            .collect()
    }

    fn of(before: &Points, after: &Points) -> Result<Self> {
        let mut ratios = Vec::new();
        let mut rows = vec![
            ["", "", "", "before", "after", "after/before", ""]
                .map(str::to_owned)
                .to_vec(),
        ];
        for (point, old) in &before.points {
            let Some((_, new)) = after.points.iter().find(|(name, _)| name == point) else {
                continue;
            };
            for name in old.names() {
                let unit = old.unit(name);
                for mode in Mode::BOTH {
                    let (Some(old), Some(new)) = (old.samples(name, mode), new.samples(name, mode))
                    else {
                        continue;
                    };
                    let ratio = Estimate::ratio(new, old);
                    let (shown, verdict) = match ratio {
                        Some(ratio) => (ratio.show(|ratio| format!("{ratio:.3}")), ratio.verdict()),
                        None if old == new => ("-".into(), Verdict::Same),
                        None => ("-".into(), Verdict::Unknown),
                    };
                    let figure = format!("{point} {name}, {mode}");
                    ratios.extend(ratio.map(|ratio| (figure.trim().into(), ratio)));
                    rows.push(vec![
                        point.clone(),
                        name.into(),
                        mode.to_string(),
                        unit.show(Estimate::median(old).value),
                        unit.show(Estimate::median(new).value),
                        shown,
                        verdict.to_string(),
                    ]);
                }
            }
        }
        if rows.len() == 1 {
            bail!("the two have no figure in common");
        }
        let mut text = table(&rows, "<<<>>><");
        if before.machine_lines() != after.machine_lines() {
            text += "\nnot measured alike:\n";
            for (when, points) in [("before", before), ("after", after)] {
                for line in points.machine_lines() {
                    text += &format!("  {when}: {line}\n");
                }
            }
        }
        Ok(Self { text, ratios })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::examples;
    use crate::figures::Figure;
    use crate::figures::Unit;

    fn points(default: f64, asynchronous: f64) -> Points {
        let point = |mb: u64| {
            let figure = |mode, ns: f64| Figure {
                name: "call".into(),
                mode,
                unit: Unit::Time,
                samples: [0.98, 0.99, 1.0, 1.01, 1.02]
                    .map(|noise| noise * ns * mb as f64)
                    .to_vec(),
            };
            let measured = Measured {
                of: "fork".into(),
                mb,
                figures: vec![
                    figure(Mode::Default, default),
                    figure(Mode::Async, asynchronous),
                ],
                notes: vec![],
            };
            (format!("p{mb}"), measured)
        };
        Points {
            title: "x".into(),
            machines: vec![Machine::read(None)],
            points: [1024, 2048, 4096].map(point).to_vec(),
            note: None,
        }
    }

    #[test]
    fn each_figure_has_a_verdict() {
        let compared = Compared::of(&points(1000.0, 10.0), &points(1000.0, 20.0)).unwrap();
        let text = &compared.text;
        let verdicts = |mode: &str, verdict: &str| {
            let of_mode = |line: &&str| line.contains(mode) && line.ends_with(verdict);
            text.lines().filter(of_mode).count()
        };
        assert_eq!(verdicts("async", "longer"), 3, "{text}");
        assert_eq!(verdicts("default", "longer"), 0, "{text}");
        assert!(!text.contains("not measured alike"));
        let grown = compared.grown(50.0);
        assert_eq!(grown.len(), 3, "{text}");
        assert_eq!(grown[0].0, "p1024 call, async");
        assert!(compared.grown(150.0).is_empty());
        let mut other = points(1000.0, 10.0);
        other.machines[0].accelerator = "other".into();
        let text = Compared::of(&points(1000.0, 10.0), &other).unwrap().text;
        assert!(text.contains("not measured alike"), "{text}");
    }

    #[test]
    fn nothing_in_common_is_an_error() {
        let mut other = points(1.0, 1.0);
        other.points.iter_mut().for_each(|point| point.0 += "x");
        assert!(Compared::of(&points(1.0, 1.0), &other).is_err());
    }

    #[test]
    fn sizes_are_on_a_line() {
        // Nanoseconds per MiB, so 1024 times as much per GiB.
        let lines = points(1000.0, 10.0).lines("call");
        let [default, asynchronous] = &lines[..] else {
            panic!("{lines:?}")
        };
        assert!(default.contains("default: 1.02 ms ["), "{default}");
        assert!(asynchronous.contains("async: 10.2 us ["), "{asynchronous}");
    }

    #[test]
    fn readmes_have_the_headlines() {
        let value = serde_json::to_value(examples::calls()).unwrap();
        let tables = markdown("a.json", &value).unwrap();
        let first = tables.trim_start().lines().next().unwrap();
        let expected = "a: example of a (a.json, series 0123456789ab, test); medians";
        assert!(first.starts_with(expected), "{tables}");
        for line in [
            "| a.json | default | async | change | the paper |",
            "| :--- | ---: | ---: | ---: | ---: |",
            "| call: written-8192 | 321 ms [321 ms, 321 ms] | 1.40 ms [1.40 ms, 1.40 ms] | \
             -99.6 % |  |",
        ] {
            assert!(
                tables.lines().any(|text| text == line),
                "{line} is not in\n{tables}"
            );
        }
        assert!(!tables.contains("child"), "no headline");
        assert!(!tables.contains("written-1024"), "not the largest");

        let old = format!("# Title\n{BEGIN}old\n{END}the rest\n");
        let new = updated(&old, &tables).unwrap();
        assert_eq!(new, format!("# Title\n{BEGIN}{tables}\n{END}the rest\n"));
        assert_eq!(updated(&new, &tables).unwrap(), new);
        for (text, missing) in [("", BEGIN), (BEGIN, END), (END, BEGIN)] {
            let error = updated(text, &tables).unwrap_err().to_string();
            assert!(error.contains(missing.trim_end()), "{error}");
        }
    }

    #[test]
    fn what_is_modelled_is_a_headline_that_says_so() {
        let record = bench_model::tests::example();
        let tables = markdown("c.json", &serde_json::to_value(record).unwrap()).unwrap();
        assert!(tables.contains("modelled, not measured (c.json, series 0123456789ab, test)"));
        let rows: Vec<&str> = tables.lines().filter(|line| line.contains("GiB")).collect();
        assert_eq!(rows.len(), 4, "two figures of two loads: {tables}");
        for row in rows {
            assert!(
                row.contains("in the window, modelled: modelled 64 GiB"),
                "{row}"
            );
            assert_eq!(row.contains("-99.84 %"), row.contains("p99"), "{row}");
        }
    }

    #[test]
    fn other_files_are_refused() {
        for other in ["{}", r#"{"benchmark": "other"}"#, "[]", "1"] {
            let value: Value = serde_json::from_str(other).unwrap();
            assert!(text(&value).is_err(), "{other}");
        }
    }
}
