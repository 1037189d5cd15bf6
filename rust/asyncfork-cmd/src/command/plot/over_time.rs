// SPDX-License-Identifier: GPL-2.0

//! A figure over time, from before a fork to after its snapshot.

use std::path::Path;

use anyhow::Result;
use anyhow::ensure;
use plotters::prelude::*;
use plotters::style::text_anchor::HPos;
use plotters::style::text_anchor::VPos;

use super::FONT;
use super::INK;
use super::colour;
use super::style;
use crate::command::Mode;
use crate::figures::Unit;

pub struct OverTime {
    pub title: String,
    /// What the values are
    pub axis: String,
    /// At least one; of each mode what there is at so many seconds after BGSAVE, in their order
    pub lines: Vec<(Mode, Vec<(f64, f64)>)>,
}

const WIDTH: u32 = 880;
const HEIGHT: u32 = 440;

pub fn draw(picture: &OverTime, caption: &str, output: &Path) -> Result<()> {
    let points = || picture.lines.iter().flat_map(|(_, points)| points);
    let all = points().fold(f64::INFINITY..f64::NEG_INFINITY, |all, (x, _)| {
        all.start.min(*x)..all.end.max(*x)
    });
    let highest = points().map(|(_, y)| *y).fold(0.0, f64::max);
    ensure!(all.start < all.end && highest > 0.0, "nothing was measured");

    let area = SVGBackend::new(output, (WIDTH, HEIGHT)).into_drawing_area();
    let mut context = ChartBuilder::on(&area)
        .caption(&picture.title, (FONT, 17).into_font().color(&INK))
        .margin(12)
        .margin_right(30)
        .margin_bottom(52)
        .x_label_area_size(42)
        .y_label_area_size(84)
        .build_cartesian_2d(all.clone(), 0.0..highest * 1.08)?;
    context
        .configure_mesh()
        .axis_style(INK)
        .bold_line_style(INK.mix(0.3))
        .light_line_style(TRANSPARENT)
        .x_desc("seconds since BGSAVE")
        .y_desc(&picture.axis)
        .x_label_formatter(&|seconds| format!("{seconds:.1}"))
        .y_label_formatter(&|value| Unit::Number.show(*value))
        .label_style((FONT, 13).into_font().color(&INK))
        .draw()?;
    if all.contains(&0.0) {
        let bgsave = vec![(0.0, 0.0), (0.0, highest * 1.08)];
        context.draw_series([PathElement::new(bgsave, INK.stroke_width(1))])?;
    }
    let (mut x, y) = (96, HEIGHT as i32 - 40);
    for (mode, points) in &picture.lines {
        let colour = colour(*mode);
        context.draw_series(LineSeries::new(
            points.iter().copied(),
            colour.stroke_width(2),
        ))?;
        area.draw(&Rectangle::new([(x, y), (x + 12, y + 12)], colour.filled()))?;
        let text = format!("{mode} fork");
        area.draw_text(&text, &style(13, HPos::Left, VPos::Top), (x + 18, y))?;
        x += 140;
    }
    let at = (WIDTH as i32 - 14, HEIGHT as i32 - 6);
    area.draw_text(caption, &style(11, HPos::Right, VPos::Bottom), at)?;
    area.present()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn svg(lines: Vec<(Mode, Vec<(f64, f64)>)>) -> Result<String> {
        let directory = tempfile::tempdir()?;
        let file = directory.path().join("out.svg");
        let picture = OverTime {
            title: "one".into(),
            axis: "what per second".into(),
            lines,
        };
        draw(&picture, "e.json", &file)?;
        Ok(fs::read_to_string(file)?)
    }

    #[test]
    fn everything_is_named() {
        let points = vec![(-1.0, 12_000.0), (0.0, 500.0), (1.0, 12_000.0)];
        let text = svg(vec![(Mode::Default, points)]).unwrap();
        for part in [
            "one",
            "what per second",
            "seconds since BGSAVE",
            "10.0 k",
            "-1.0",
            "default fork",
            "e.json",
        ] {
            assert!(text.contains(part), "{part} is missing");
        }
        assert!(!text.contains("async fork"));
    }

    #[test]
    fn nothing_measured_is_an_error() {
        assert!(svg(vec![]).is_err());
        assert!(svg(vec![(Mode::Async, vec![(0.0, 1.0)])]).is_err());
        assert!(svg(vec![(Mode::Async, vec![(0.0, 0.0), (1.0, 0.0)])]).is_err());
    }
}
