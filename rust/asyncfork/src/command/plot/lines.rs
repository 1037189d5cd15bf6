// SPDX-License-Identifier: GPL-2.0

//! One figure of an experiment, against the size.

use std::path::Path;

use anyhow::Result;
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::HPos;
use plotters::style::text_anchor::Pos;
use plotters::style::text_anchor::VPos;

use super::FONT;
use super::INK;
use super::SIZE;
use super::colour;
use crate::command::Mode;
use crate::figures::Estimate;
use crate::figures::Unit;

pub struct Chart {
    pub title: String,
    pub figure: String,
    pub unit: Unit,
    /// At least one, and each has at least two points
    pub lines: Vec<Line>,
}

pub struct Line {
    /// What was measured: shown by the shape of the points
    pub of: String,
    pub mode: Mode,
    /// MiB, in increasing order
    pub points: Vec<(u64, Estimate)>,
}

/// Half the size of a point, in pixels.
const POINT: i32 = 4;
const LEGEND: i32 = 18;

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
}

pub fn draw(chart: &Chart, caption: &str, output: &Path) -> Result<()> {
    let points = || chart.lines.iter().flat_map(|line| &line.points);
    let extent = |values: &dyn Fn(&(u64, Estimate)) -> f64| {
        points()
            .map(values)
            .fold((f64::INFINITY, 0.0), |(a, b): (f64, f64), value| {
                (a.min(value), b.max(value))
            })
    };
    let (left, right) = extent(&|(mb, _)| *mb as f64);
    // An interval may reach below what a logarithmic axis can show.
    let (bottom, _) = extent(&|(_, estimate)| estimate.value);
    let floor = bottom / 2.0;
    let (lowest, _) = extent(&|(_, estimate)| estimate.low.max(floor));
    let (_, highest) = extent(&|(_, estimate)| estimate.high);
    anyhow::ensure!(lowest.is_finite() && lowest > 0.0, "nothing was measured");

    let kinds = chart.kinds();
    let area = SVGBackend::new(output, SIZE).into_drawing_area();
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
            (left / 1.3..right * 1.3).log_scale().base(2.0),
            (lowest / 1.5..highest * 1.5).log_scale().base(10.0),
        )?;
    context
        .configure_mesh()
        .axis_style(INK)
        .bold_line_style(INK.mix(0.3))
        .light_line_style(TRANSPARENT)
        .x_desc("size (logarithmic)")
        .y_desc("median, 95 % interval (logarithmic)")
        .x_label_formatter(&|mb| size(*mb))
        .y_label_formatter(&|value| chart.unit.show(*value))
        .label_style((FONT, 13).into_font().color(&INK))
        .draw()?;
    for line in &chart.lines {
        let (colour, kind) = (colour(line.mode), kind_of(&kinds, line));
        let at = |(mb, estimate): &(u64, Estimate)| (*mb as f64, estimate.value);
        context.draw_series(LineSeries::new(
            line.points.iter().map(at),
            colour.stroke_width(2),
        ))?;
        for point in &line.points {
            let (x, estimate) = (point.0 as f64, point.1);
            let low = estimate.low.max(floor);
            context.draw_series([ErrorBar::new_vertical(
                x,
                low,
                estimate.value,
                estimate.high,
                colour.stroke_width(1),
                2 * POINT as u32,
            )])?;
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

/// A point: full and hollow squares and diamonds, in turn.
fn shape(kind: usize, (x, y): (i32, i32), colour: RGBColor) -> Polygon<(i32, i32)> {
    let p = POINT + 1;
    let corners = match kind % 3 {
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
        _ => vec![(x, y - p), (x + p, y + p), (x - p, y + p)],
    };
    Polygon::new(corners, colour.filled())
}

/// 64 MiB, 1 GiB
fn size(mb: f64) -> String {
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
    let (width, height) = (SIZE.0 as i32, SIZE.1 as i32);
    let style = |size: i32, horizontal| {
        let pos = Pos::new(horizontal, VPos::Center);
        (FONT, size).into_font().color(&INK).pos(pos)
    };
    for line in &chart.lines {
        let kind = kind_of(kinds, line);
        let x = if line.mode == Mode::Default { 110 } else { 430 };
        let y = height - 16 - LEGEND * (kinds.len() - kind) as i32 + LEGEND / 2;
        area.draw(&shape(kind, (x, y), colour(line.mode)))?;
        let text = format!("{} fork, {}", line.mode, line.of);
        area.draw_text(&text, &style(13, HPos::Left), (x + 14, y))?;
    }
    area.draw_text(caption, &style(11, HPos::Right), (width - 14, height - 10))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn line(mode: Mode, ns: f64) -> Line {
        let estimate = |mb: u64| Estimate {
            value: ns * mb as f64,
            low: -1.0,
            high: 1.1 * ns * mb as f64,
        };
        Line {
            of: "written pages".into(),
            mode,
            points: [64, 1024, 4096].map(|mb| (mb, estimate(mb))).to_vec(),
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
