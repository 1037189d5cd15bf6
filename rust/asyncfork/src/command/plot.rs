// SPDX-License-Identifier: GPL-2.0

//! `asyncfork plot`: a picture of what `bench redis`, `bench fork` or an experiment has measured.

pub mod lines;

use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::HPos;
use plotters::style::text_anchor::Pos;
use plotters::style::text_anchor::VPos;

use super::Mode;
use super::bench_fork;
use super::bench_redis;
use super::bench_report;
use super::bench_suite;
use crate::report::time;

/// Draw the figures of a benchmark's JSON, gains and costs side by side
///
/// Of an experiment at several sizes one figure is drawn, against the size.
#[derive(clap::Args)]
pub struct Options {
    /// What `asyncfork bench --json` has written
    record: PathBuf,

    /// The picture to write (SVG)
    #[arg(short, long, value_name = "FILE")]
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
const SIZE: (u32, u32) = (880, 440);
const FONT: &str = "sans-serif";

fn colour(mode: Mode) -> RGBColor {
    match mode {
        Mode::Default => RGBColor(214, 120, 40),
        Mode::Async => RGBColor(50, 130, 200),
    }
}

impl Options {
    pub fn execute(self) -> Result<ExitCode> {
        let text = fs::read_to_string(&self.record)
            .with_context(|| format!("cannot read {}", self.record.display()))?;
        let name = self
            .record
            .file_name()
            .unwrap_or(self.record.as_os_str())
            .to_string_lossy();
        let value: serde_json::Value = serde_json::from_str(&text)
            .with_context(|| format!("{name} is not what bench --json writes"))?;
        if value["benchmark"] == bench_suite::Record::NAME {
            let chart = bench_report::chart(&value, self.figure.as_deref())
                .with_context(|| format!("cannot draw {name}"))?;
            lines::draw(&chart, &name, &self.output)
                .with_context(|| format!("cannot write {}", self.output.display()))?;
            return Ok(ExitCode::SUCCESS);
        }
        let picture = match value["benchmark"].as_str() {
            Some("redis") => bench_redis::picture(value),
            Some("fork") => bench_fork::picture(value),
            _ => bail!("{name} names no benchmark that can be drawn"),
        }
        .with_context(|| format!("{name} is not complete"))?;
        draw(&picture, &name, &self.output)
            .with_context(|| format!("cannot write {}", self.output.display()))?;
        Ok(ExitCode::SUCCESS)
    }
}

fn draw(picture: &Picture, caption: &str, output: &Path) -> Result<()> {
    let values = || picture.groups.iter().flat_map(|group| &group.bars);
    let lowest = values().map(|bar| bar.1).fold(f64::INFINITY, f64::min);
    let highest = values().map(|bar| bar.1).fold(0.0, f64::max);
    if !(lowest.is_finite() && lowest > 0.0) {
        bail!("nothing was measured");
    }

    let area = SVGBackend::new(output, SIZE).into_drawing_area();
    let groups = picture.groups.len() as f64;
    let mut chart = ChartBuilder::on(&area)
        .caption(&picture.title, (FONT, 17).into_font().color(&INK))
        .margin(12)
        .margin_bottom(60)
        .y_label_area_size(70)
        .build_cartesian_2d(
            0.0..groups,
            (lowest / 3.0..highest * 3.0).log_scale().base(10.0),
        )?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .disable_x_axis()
        .axis_style(INK)
        .bold_line_style(INK.mix(0.3))
        .light_line_style(TRANSPARENT)
        .y_desc("time (logarithmic)")
        .y_label_formatter(&|ns| time(*ns))
        .label_style((FONT, 13).into_font().color(&INK))
        .draw()?;

    let centred = Pos::new(HPos::Center, VPos::Bottom);
    let label = (FONT, 12).into_font().color(&INK).pos(centred);
    for (number, group) in picture.groups.iter().enumerate() {
        let width = 0.7 / group.bars.len() as f64;
        for (i, (mode, ns)) in group.bars.iter().enumerate() {
            let left = number as f64 + 0.15 + i as f64 * width;
            let bar = [(left, lowest / 3.0), (left + width, *ns)];
            chart.draw_series([Rectangle::new(bar, colour(*mode).filled())])?;
            let text = Text::new(time(*ns), (left + width / 2.0, *ns * 1.1), label.clone());
            chart.draw_series([text])?;
        }
    }
    let plotting = chart.plotting_area().get_pixel_range();
    below(&area, picture, caption, plotting.0.start, plotting.0.end)?;
    area.present()?;
    Ok(())
}

/// The names of the groups, the legend, and where the figures come from.
fn below(
    area: &DrawingArea<SVGBackend, Shift>,
    picture: &Picture,
    caption: &str,
    left: i32,
    right: i32,
) -> Result<()> {
    let (width, height) = (SIZE.0 as i32, SIZE.1 as i32);
    let style = |size: i32, horizontal| {
        (FONT, size)
            .into_font()
            .color(&INK)
            .pos(Pos::new(horizontal, VPos::Top))
    };
    let step = f64::from(right - left) / picture.groups.len() as f64;
    for (number, group) in picture.groups.iter().enumerate() {
        let x = left + (step * (number as f64 + 0.5)) as i32;
        for (line, text) in group.name.lines().enumerate() {
            let at = (x, height - 56 + 15 * line as i32);
            area.draw_text(text, &style(13, HPos::Center), at)?;
        }
    }
    for (i, mode) in [Mode::Default, Mode::Async].into_iter().enumerate() {
        let x = left + 130 * i as i32;
        let y = height - 24;
        area.draw(&Rectangle::new(
            [(x, y), (x + 12, y + 12)],
            colour(mode).filled(),
        ))?;
        area.draw_text(&format!("{mode} fork"), &style(13, HPos::Left), (x + 18, y))?;
    }
    area.draw_text(caption, &style(11, HPos::Right), (width - 14, height - 22))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

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
        draw(&picture, "demo.json", &file).unwrap();
        let svg = fs::read_to_string(file).unwrap();
        for text in ["145 ms", "1.18 ms", "34.0 us", "300 us", "demo.json", "p99"] {
            assert!(svg.contains(text), "{text} is missing");
        }
    }

    #[test]
    fn nothing_measured_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let picture = Picture {
            title: "none".into(),
            groups: vec![group("call", 0.0, 0.0)],
        };
        assert!(draw(&picture, "x", &directory.path().join("x.svg")).is_err());
    }
}
