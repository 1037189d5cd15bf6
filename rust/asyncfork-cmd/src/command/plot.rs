// SPDX-License-Identifier: GPL-2.0

//! `asyncfork plot`: a picture of what `bench redis`, `bench fork` or an experiment has measured, or
//! all pictures of a directory of experiments.

mod all;
pub mod bars;
pub mod lines;
mod over_time;
mod points;

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::Path;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use plotters::prelude::*;
use plotters::style::text_anchor::HPos;
use plotters::style::text_anchor::Pos;
use plotters::style::text_anchor::VPos;
use serde_json::Value;

use super::Mode;
use super::bench_fork;
use super::bench_redis;
use super::bench_report;
use super::bench_suite;
use crate::figures::Estimate;
use crate::report;
use crate::report::time;
use bars::Bar;
use bars::Bars;
use bars::Scale;
use bars::Series;

/// Draw the figures of a benchmark's JSON, gains and costs side by side
///
/// Of an experiment at several sizes one figure is drawn, against the size. Of a directory with the
/// results of bench suite, all pictures that there are, each with the name of the JSON it is from.
#[derive(clap::Args)]
#[command(
    after_help = "Exit status: 0, also if some experiments are not there, or 1 if one cannot be \
    drawn or none is there."
)]
pub struct Options {
    /// What asyncfork bench has written, or a directory with such files
    record: PathBuf,

    /// The picture to write (SVG), or the directory for all of them
    #[arg(short, long, value_name = "FILE|DIR")]
    output: PathBuf,

    /// Of an experiment: which figure, as bench report names it [default: the first]
    #[arg(long, value_name = "NAME")]
    figure: Option<String>,
}

/// One group of bars: a figure in each mode.
pub struct Group {
    /// What is measured, in one or two lines
    pub name: String,
    /// In nanoseconds
    pub bars: Vec<(Mode, f64)>,
}

/// What there is to draw.
pub struct Picture {
    pub title: String,
    pub groups: Vec<Group>,
}

/// Grey that can be read on white and on black.
const INK: RGBColor = RGBColor(128, 128, 128);
const FONT: &str = "sans-serif";

fn colour(mode: Mode) -> RGBColor {
    match mode {
        Mode::Default => RGBColor(214, 120, 40),
        Mode::Async => RGBColor(50, 130, 200),
    }
}

fn style<'a>(size: i32, horizontal: HPos, vertical: VPos) -> TextStyle<'a> {
    (FONT, size)
        .into_font()
        .color(&INK)
        .pos(Pos::new(horizontal, vertical))
}

/// What is named on a logarithmic axis: powers of ten, and twice and five times these if there are
/// few.
fn ticks(range: &Range<f64>) -> Vec<f64> {
    /// Decades that are few
    const FEW: f64 = 2.5;

    let (first, last) = (range.start.log10(), range.end.log10());
    let steps: &[f64] = match last - first < FEW {
        true => &[1.0, 2.0, 5.0],
        false => &[1.0],
    };
    (first.floor() as i32..=last.ceil() as i32)
        .flat_map(|power| steps.iter().map(move |step| step * 10_f64.powi(power)))
        .filter(|value| range.contains(value))
        .collect()
}

/// Both modes, for bars.
fn modes() -> Vec<Series> {
    let series = |mode| Series {
        name: format!("{mode} fork"),
        colour: colour(mode),
    };
    Mode::BOTH.map(series).into()
}

/// A file of records, and what a picture says of where its figures are from.
struct Source {
    value: Value,
    caption: String,
}

impl Source {
    fn read(path: &Path) -> Result<Self> {
        let name = path.file_name().unwrap_or(path.as_os_str());
        let value =
            report::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        let caption = caption(&name.to_string_lossy(), &value);
        Ok(Self { value, caption })
    }
}

/// The name, and the patches and machines of all records.
pub fn caption(name: &str, value: &Value) -> String {
    let points = value["points"].as_array();
    let of_points = points
        .iter()
        .copied()
        .flatten()
        .map(|point| &point["record"]);
    let records: Vec<&Value> = match points {
        Some(_) => of_points.collect(),
        None => vec![value],
    };
    let (mut series, mut accelerators) = (BTreeSet::new(), BTreeSet::new());
    for record in records {
        // A model has those of what it was made from.
        let sources = record["from"].as_array();
        for source in sources.map_or(vec![&record["machine"]], |all| all.iter().collect()) {
            series.extend(words(&source["series"]));
            accelerators.extend(words(&source["accelerator"]));
        }
    }
    let all = |set: BTreeSet<&str>| match set.is_empty() {
        true => "unknown".into(),
        false => set.into_iter().collect::<Vec<_>>().join(" and "),
    };
    format!("{name}, series {}, {}", all(series), all(accelerators))
}

/// A string, or all of an array.
fn words(value: &Value) -> impl Iterator<Item = &str> {
    let several = value.as_array().into_iter().flatten();
    value
        .as_str()
        .into_iter()
        .chain(several.filter_map(Value::as_str))
}

impl Options {
    pub fn execute(self) -> Result<ExitCode> {
        if self.record.is_dir() {
            return all::draw(&self.record, &self.output);
        }
        let source = Source::read(&self.record)?;
        self.draw(&source)
            .with_context(|| format!("cannot draw {}", self.record.display()))?;
        Ok(ExitCode::SUCCESS)
    }

    fn draw(&self, source: &Source) -> Result<()> {
        let value = source.value.clone();
        if value["benchmark"] == bench_suite::Record::NAME {
            let chart = bench_report::chart(&value, self.figure.as_deref())?;
            return lines::draw(&chart, &source.caption, &self.output);
        }
        let picture = match value["benchmark"].as_str() {
            Some("redis") => bench_redis::picture(value),
            Some("fork") => bench_fork::picture(value),
            _ => bail!("it names no benchmark that can be drawn"),
        };
        let picture = picture.context("it is not complete")?;
        bars::draw(&picture.into(), &source.caption, &self.output)
    }
}

impl From<Picture> for Bars {
    fn from(picture: Picture) -> Self {
        let bar = |(mode, value): &(Mode, f64)| Bar {
            series: usize::from(*mode == Mode::Async),
            value: Estimate::exactly(*value),
        };
        let group = |group: &Group| bars::Group {
            name: group.name.clone(),
            bars: group.bars.iter().map(bar).collect(),
            published: None,
        };
        Self {
            title: picture.title,
            axis: "time (logarithmic)".into(),
            show: time,
            scale: Scale::Logarithmic,
            series: modes(),
            groups: picture.groups.iter().map(group).collect(),
            published: "",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use serde_json::json;

    use super::*;
    use crate::command::examples;

    fn group(name: &str, default: f64, asynchronous: f64) -> Group {
        Group {
            name: name.into(),
            bars: vec![(Mode::Default, default), (Mode::Async, asynchronous)],
        }
    }

    #[test]
    fn bars_carry_their_figures() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("out.svg");
        let picture = Picture {
            title: "one".into(),
            groups: vec![group("call", 145e6, 1.18e6), group("write\np99", 34e3, 3e5)],
        };
        bars::draw(&picture.into(), "demo.json", &file).unwrap();
        let svg = fs::read_to_string(file).unwrap();
        for text in ["145 ms", "1.18 ms", "34.0 us", "300 us", "demo.json", "p99"] {
            assert!(svg.contains(text), "{text} is missing");
        }
        for text in ["default fork", "async fork"] {
            assert!(svg.contains(text), "{text} is missing");
        }
    }

    #[test]
    fn axes_have_enough_ticks_and_not_too_many() {
        assert_eq!(ticks(&(0.9e6..6e6)), [1e6, 2e6, 5e6]);
        assert_eq!(ticks(&(15.0..16_000.0)), [100.0, 1000.0, 10_000.0]);
        assert_eq!(
            ticks(&(9.0..900.0)),
            [10.0, 20.0, 50.0, 100.0, 200.0, 500.0]
        );
    }

    #[test]
    fn captions_name_patches_and_machines() {
        let of = |value: Value| caption("x.json", &value);
        assert_eq!(of(json!({})), "x.json, series unknown, unknown");
        let calls = serde_json::to_value(examples::calls()).unwrap();
        assert_eq!(of(calls), "x.json, series 0123456789ab, test");
        let from = |series: &str| json!({"series": [series], "accelerator": ["tcg"]});
        let model = json!({
            "machine": {"series": "that of the day", "accelerator": "native"},
            "from": [from("b"), from("a"), from("b")],
        });
        let expected = "x.json, series a and b, tcg";
        assert_eq!(of(model.clone()), expected);
        assert_eq!(of(json!({"points": [{"record": model}]})), expected);
    }
}
