// SPDX-License-Identifier: GPL-2.0

//! Figures of an experiment, against the size or another parameter.

use std::path::Path;

use anyhow::Result;
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::HPos;
use plotters::style::text_anchor::VPos;

use super::FONT;
use super::INK;
use super::colour;
use super::style;
use super::ticks;
use crate::command::Mode;
use crate::figures::Estimate;
use crate::figures::Unit;
use crate::report::time;

pub struct Chart {
    pub title: String,
    pub figure: String,
    pub unit: Unit,
    pub axis: Axis,
    /// At least one
    pub lines: Vec<Line>,
}

/// What the points are against.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Axis {
    /// MiB
    Size,
    /// Percent of the capacity
    Rate,
    Clients,
    Snapshots,
    /// Nanoseconds, and how often something took that
    Duration,
}

pub struct Line {
    /// What was measured: shown by the shape of the points
    pub of: String,
    pub mode: Mode,
    /// Was not measured: shown by dashes
    pub modelled: bool,
    /// In increasing order, at least one
    pub points: Vec<(f64, Estimate)>,
}

/// Half the size of a point, in pixels.
const POINT: i32 = 4;
const LEGEND: i32 = 18;
const WIDTH: u32 = 880;
/// Without the legend.
const PLOT_HEIGHT: u32 = 440;

impl Axis {
    fn title(self) -> &'static str {
        match self {
            Self::Size => "size (logarithmic)",
            Self::Rate => "rate, in percent of the capacity (logarithmic)",
            Self::Clients => "clients (logarithmic)",
            Self::Snapshots => "snapshots at once (logarithmic)",
            Self::Duration => "how long, to a power of two (logarithmic)",
        }
    }

    fn show(self, value: f64) -> String {
        match self {
            Self::Size => size(value),
            Self::Rate => format!("{value:.0} %"),
            Self::Clients | Self::Snapshots => format!("{value:.0}"),
            Self::Duration => time(value),
        }
    }

    /// What the values are.
    fn values(self) -> &'static str {
        match self {
            Self::Duration => "how many (logarithmic)",
            _ => "median, 95 % interval (logarithmic)",
        }
    }
}

impl Chart {
    /// What was measured, each once.
    fn kinds(&self) -> Vec<&str> {
        let mut kinds: Vec<&str> = Vec::new();
        for line in &self.lines {
            if !kinds.contains(&line.of.as_str()) {
                kinds.push(&line.of);
            }
        }
        kinds
    }

    /// What is named on the axis: the powers of two among sizes, some times, otherwise each value.
    fn columns(&self) -> Vec<f64> {
        let (left, right) = self.extent(|(x, _)| *x);
        if self.axis == Axis::Size {
            let powers = (0..40).map(|power| f64::from(power).exp2());
            return powers.filter(|mb| (left..=right).contains(mb)).collect();
        }
        if self.axis == Axis::Duration {
            return ticks(&(left..right));
        }
        let points = self.lines.iter().flat_map(|line| &line.points);
        let mut values: Vec<f64> = points.map(|(x, _)| *x).collect();
        values.sort_by(f64::total_cmp);
        values.dedup();
        values
    }

    fn extent(&self, value: impl Fn(&(f64, Estimate)) -> f64) -> (f64, f64) {
        let points = self.lines.iter().flat_map(|line| &line.points);
        points
            .map(value)
            .fold((f64::INFINITY, 0.0), |(low, high), value| {
                (value.min(low), value.max(high))
            })
    }
}

pub fn draw(chart: &Chart, caption: &str, output: &Path) -> Result<()> {
    let (left, right) = chart.extent(|(x, _)| *x);
    // An interval may reach below what a logarithmic axis can show.
    let floor = chart.extent(|(_, estimate)| estimate.value).0 / 2.0;
    let (lowest, _) = chart.extent(|(_, estimate)| estimate.low.max(floor));
    let (_, highest) = chart.extent(|(_, estimate)| estimate.high);
    anyhow::ensure!(lowest.is_finite() && lowest > 0.0, "nothing was measured");

    let (across, up) = (left / 1.3..right * 1.3, lowest / 1.5..highest * 1.5);
    let rows = ticks(&up);
    let kinds = chart.kinds();
    let height = PLOT_HEIGHT + LEGEND as u32 * kinds.len() as u32;
    let area = SVGBackend::new(output, (WIDTH, height)).into_drawing_area();
    let mut context = ChartBuilder::on(&area)
        .caption(
            format!("{}: {}", chart.title, chart.figure),
            (FONT, 17).into_font().color(&INK),
        )
        .margin(12)
        .margin_right(30)
        .margin_bottom(34 + LEGEND * kinds.len() as i32)
        .x_label_area_size(42)
        .y_label_area_size(84)
        .build_cartesian_2d(
            across.log_scale().with_key_points(chart.columns()),
            up.log_scale().with_key_points(rows),
        )?;
    context
        .configure_mesh()
        .axis_style(INK)
        .bold_line_style(INK.mix(0.3))
        .light_line_style(TRANSPARENT)
        .x_desc(chart.axis.title())
        .y_desc(chart.axis.values())
        .x_label_formatter(&|x| chart.axis.show(*x))
        .y_label_formatter(&|value| chart.unit.show(*value))
        .label_style((FONT, 13).into_font().color(&INK))
        .draw()?;
    for line in &chart.lines {
        let (colour, kind) = (colour(line.mode), kind_of(&kinds, line));
        let at = |(x, estimate): &(f64, Estimate)| (*x, estimate.value);
        let (points, stroke) = (line.points.iter().map(at), colour.stroke_width(2));
        match line.modelled {
            true => context.draw_series(DashedLineSeries::new(points, 6, 4, stroke))?,
            false => context.draw_series(LineSeries::new(points, stroke))?,
        };
        for point in &line.points {
            let (x, estimate) = *point;
            let low = estimate.low.max(floor);
            if low < estimate.high {
                context.draw_series([ErrorBar::new_vertical(
                    x,
                    low,
                    estimate.value,
                    estimate.high,
                    colour.stroke_width(1),
                    2 * POINT as u32,
                )])?;
            }
            context.draw_series([EmptyElement::at(at(point)) + shape(kind, (0, 0), colour)])?;
        }
    }
    legend(&area, chart, &kinds, caption)?;
    area.present()?;
    Ok(())
}

fn kind_of(kinds: &[&str], line: &Line) -> usize {
    kinds.iter().position(|kind| *kind == line.of).unwrap_or(0)
}

/// A point: squares, diamonds and two kinds of triangles, in turn.
fn shape(kind: usize, (x, y): (i32, i32), colour: RGBColor) -> Polygon<(i32, i32)> {
    let p = POINT + 1;
    let corners = match kind % 4 {
        0 => vec![
            (x - POINT, y - POINT),
            (x + POINT, y - POINT),
            (x + POINT, y + POINT),
            (x - POINT, y + POINT),
        ],
        1 => vec![
            (x, y - p - 1),
            (x + p + 1, y),
            (x, y + p + 1),
            (x - p - 1, y),
        ],
        2 => vec![(x, y - p), (x + p, y + p), (x - p, y + p)],
        _ => vec![(x, y + p), (x + p, y - p), (x - p, y - p)],
    };
    Polygon::new(corners, colour.filled())
}

/// 64 MiB, 1 GiB
pub fn size(mb: f64) -> String {
    if mb < 1024.0 {
        format!("{mb:.0} MiB")
    } else {
        format!("{:.0} GiB", mb / 1024.0)
    }
}

/// A row for each thing that was measured, and where the figures come from.
fn legend(
    area: &DrawingArea<SVGBackend, Shift>,
    chart: &Chart,
    kinds: &[&str],
    caption: &str,
) -> Result<()> {
    let (width, height) = area.dim_in_pixel();
    let (width, height) = (width as i32, height as i32);
    for line in &chart.lines {
        let kind = kind_of(kinds, line);
        let x = if line.mode == Mode::Default { 110 } else { 480 };
        let y = height - 16 - LEGEND * (kinds.len() - kind) as i32 + LEGEND / 2;
        area.draw(&shape(kind, (x, y), colour(line.mode)))?;
        let text = format!("{} fork, {}", line.mode, line.of);
        area.draw_text(&text, &style(13, HPos::Left, VPos::Center), (x + 14, y))?;
    }
    let at = (width - 14, height - 10);
    area.draw_text(caption, &style(11, HPos::Right, VPos::Center), at)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn line(mode: Mode, ns: f64) -> Line {
        let estimate = |mb: f64| Estimate {
            value: ns * mb,
            low: -1.0,
            high: 1.1 * ns * mb,
        };
        Line {
            of: "written pages".into(),
            mode,
            modelled: false,
            points: [64.0, 1024.0, 4096.0].map(|mb| (mb, estimate(mb))).to_vec(),
        }
    }

    #[test]
    fn axes_and_lines_are_named() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("out.svg");
        let chart = Chart {
            title: "one".into(),
            figure: "call".into(),
            unit: Unit::Time,
            axis: Axis::Size,
            lines: vec![line(Mode::Default, 4e4), line(Mode::Async, 40.0)],
        };
        draw(&chart, "a.json", &file).unwrap();
        let svg = fs::read_to_string(file).unwrap();
        for text in [
            "one: call",
            "1 GiB",
            "100 ms",
            "default fork, written pages",
            "async fork, written pages",
            "a.json",
        ] {
            assert!(svg.contains(text), "{text} is missing");
        }
    }

    #[test]
    fn sizes() {
        assert_eq!(size(64.0), "64 MiB");
        assert_eq!(size(16384.0), "16 GiB");
    }
}
