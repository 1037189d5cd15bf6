// SPDX-License-Identifier: GPL-2.0

//! Groups of bars.

use std::path::Path;

use anyhow::Result;
use anyhow::ensure;
use plotters::coord::Shift;
use plotters::coord::ranged1d::AsRangedCoord;
use plotters::coord::ranged1d::ValueFormatter;
use plotters::prelude::*;
use plotters::style::text_anchor::HPos;
use plotters::style::text_anchor::VPos;

use super::FONT;
use super::INK;
use super::style;
use super::ticks;
use crate::figures::Estimate;

pub struct Bars {
    pub title: String,
    /// What the values are
    pub axis: String,
    pub show: fn(f64) -> String,
    pub scale: Scale,
    pub series: Vec<Series>,
    pub groups: Vec<Group>,
    /// What a [`Group::published`] is
    pub published: &'static str,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    Linear,
    Logarithmic,
}

pub struct Series {
    pub name: String,
    pub colour: RGBColor,
}

pub struct Group {
    /// What is measured, in one or two lines
    pub name: String,
    pub bars: Vec<Bar>,
    /// What others have published, across the bar of this series
    pub published: Option<(usize, f64)>,
}

pub struct Bar {
    /// Its place in [`Bars::series`]
    pub series: usize,
    pub value: Estimate,
}

/// More bars than these do not have their values written on them.
const LABELLED: usize = 24;
const WIDTH: u32 = 880;
const PLOT_HEIGHT: u32 = 440;
/// Of the room for a group, what its bars take.
const FILLED: f64 = 0.7;
const PUBLISHED: RGBColor = RGBColor(200, 70, 150);

pub fn draw(bars: &Bars, caption: &str, output: &Path) -> Result<()> {
    let (low, high) = bars.extent();
    let area = SVGBackend::new(output, (WIDTH, PLOT_HEIGHT)).into_drawing_area();
    match bars.scale {
        Scale::Linear => {
            let (low, high) = (low.min(0.0), high.max(0.0));
            ensure!(high > low, "nothing was measured");
            let margin = 0.08 * (high - low);
            let bottom = if low < 0.0 { low - margin } else { 0.0 };
            on(bars, caption, &area, bottom..high + margin, 0.0)?;
        }
        Scale::Logarithmic => {
            ensure!(low.is_finite() && low > 0.0, "nothing was measured");
            let range = low / 3.0..high * 3.0;
            let (floor, ticks) = (range.start, ticks(&range));
            let values = range.log_scale().with_key_points(ticks);
            on(bars, caption, &area, values, floor)?;
        }
    }
    area.present()?;
    Ok(())
}

/// Bars that stand on `floor`.
fn on<Y>(bars: &Bars, caption: &str, area: &Area, values: Y, floor: f64) -> Result<()>
where
    Y: AsRangedCoord<Value = f64>,
    Y::CoordDescType: ValueFormatter<f64>,
{
    let mut chart = ChartBuilder::on(area)
        .caption(&bars.title, (FONT, 17).into_font().color(&INK))
        .margin(12)
        .margin_bottom(74)
        .y_label_area_size(84)
        .build_cartesian_2d(0.0..bars.groups.len() as f64, values)?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .disable_x_axis()
        .axis_style(INK)
        .bold_line_style(INK.mix(0.3))
        .light_line_style(TRANSPARENT)
        .y_desc(&bars.axis)
        .y_label_formatter(&|value| (bars.show)(*value))
        .label_style((FONT, 13).into_font().color(&INK))
        .draw()?;
    chart.draw_series([PathElement::new(
        vec![(0.0, floor), (bars.groups.len() as f64, floor)],
        INK,
    )])?;

    let labelled = bars
        .groups
        .iter()
        .map(|group| group.bars.len())
        .sum::<usize>()
        <= LABELLED;
    for (number, group) in bars.groups.iter().enumerate() {
        let width = FILLED / group.bars.len().max(1) as f64;
        let left = |place: usize| number as f64 + (1.0 - FILLED) / 2.0 + place as f64 * width;
        for (place, bar) in group.bars.iter().enumerate() {
            let (left, value) = (left(place), bar.value.value);
            let colour = bars.series[bar.series].colour;
            let corners = [(left, floor), (left + width, value)];
            chart.draw_series([Rectangle::new(corners, colour.filled())])?;
            let middle = left + width / 2.0;
            if bar.value.low < bar.value.high {
                let (low, high) = (bar.value.low, bar.value.high);
                // Of the half that is within the bar, grey would not be seen.
                let (inner, outer) = match value >= floor {
                    true => ([low.max(floor), value], [value, high]),
                    false => ([value, high.min(floor)], [low, value]),
                };
                for (ends, colour) in [(inner, WHITE), (outer, INK)] {
                    let ends = ends.map(|at| (middle, at));
                    chart.draw_series([PathElement::new(ends, colour.stroke_width(1))])?;
                }
            }
            if labelled {
                let (at, side) = match value >= floor {
                    true => (value.max(bar.value.high), VPos::Bottom),
                    false => (value.min(bar.value.low), VPos::Top),
                };
                let label = style(12, HPos::Center, side);
                chart.draw_series([Text::new((bars.show)(value), (middle, at), label)])?;
            }
        }
        if let Some((series, value)) = group.published {
            let place = group.bars.iter().position(|bar| bar.series == series);
            let (left, over) = (left(place.unwrap_or(0)), 0.15 * width);
            let ends = [(left - over, value), (left + width + over, value)];
            chart.draw_series([PathElement::new(ends, PUBLISHED.stroke_width(3))])?;
        }
    }
    let plotting = chart.plotting_area().get_pixel_range().0;
    below(area, bars, caption, plotting.start, plotting.end)
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// The names of the groups, the legend, and where the figures come from.
fn below(area: &Area, bars: &Bars, caption: &str, left: i32, right: i32) -> Result<()> {
    let (width, height) = (WIDTH as i32, PLOT_HEIGHT as i32);
    let step = f64::from(right - left) / bars.groups.len() as f64;
    for (number, group) in bars.groups.iter().enumerate() {
        let x = left + (step * (number as f64 + 0.5)) as i32;
        for (line, text) in group.name.lines().enumerate() {
            let at = (x, height - 70 + 15 * line as i32);
            area.draw_text(text, &style(13, HPos::Center, VPos::Top), at)?;
        }
    }
    let (mut x, y) = (left, height - 32);
    let published = bars.groups.iter().any(|group| group.published.is_some());
    let published = published.then_some((bars.published, PUBLISHED));
    let series = bars.series.iter().map(|s| (s.name.as_str(), s.colour));
    for (name, colour) in series.chain(published) {
        let corners = [(x, y), (x + 12, y + 12)];
        area.draw(&Rectangle::new(corners, colour.filled()))?;
        area.draw_text(name, &style(13, HPos::Left, VPos::Top), (x + 18, y))?;
        x += 48 + 7 * name.chars().count() as i32;
    }
    let at = (width - 14, height - 6);
    area.draw_text(caption, &style(11, HPos::Right, VPos::Bottom), at)?;
    Ok(())
}

impl Bars {
    /// The least and the greatest that is drawn.
    fn extent(&self) -> (f64, f64) {
        let bars = || self.groups.iter().flat_map(|group| &group.bars);
        let published = || self.groups.iter().filter_map(|g| g.published.map(|p| p.1));
        // An interval may reach below what a logarithmic axis can show.
        let low = |bar: &Bar| match self.scale {
            Scale::Linear => bar.value.low,
            Scale::Logarithmic => bar.value.value,
        };
        (
            bars()
                .map(low)
                .chain(published())
                .fold(f64::INFINITY, f64::min),
            bars()
                .map(|bar| bar.value.high)
                .chain(published())
                .fold(f64::NEG_INFINITY, f64::max),
        )
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::report::time;

    fn bars(scale: Scale, values: &[f64]) -> Bars {
        let group = |value: &f64| Group {
            name: format!("at {value}\nsecond line"),
            bars: vec![Bar {
                series: 0,
                value: Estimate {
                    value: *value,
                    low: value - 1.0,
                    high: value + 1.0,
                },
            }],
            published: None,
        };
        Bars {
            title: "one".into(),
            axis: "what".into(),
            show: time,
            scale,
            series: vec![Series {
                name: "alone".into(),
                colour: INK,
            }],
            groups: values.iter().map(group).collect(),
            published: "by others",
        }
    }

    fn svg(bars: &Bars) -> Result<String> {
        let directory = tempfile::tempdir()?;
        let file = directory.path().join("out.svg");
        draw(bars, "demo.json", &file)?;
        Ok(fs::read_to_string(file)?)
    }

    #[test]
    fn everything_is_named() {
        for scale in [Scale::Linear, Scale::Logarithmic] {
            let mut bars = bars(scale, &[145e6, 34e3]);
            let text = svg(&bars).unwrap();
            for part in [
                "145 ms",
                "34.0 us",
                "what",
                "second line",
                "alone",
                "demo.json",
            ] {
                assert!(text.contains(part), "{part} is missing");
            }
            assert!(!text.contains("by others"));
            bars.groups[1].published = Some((0, 1e6));
            assert!(svg(&bars).unwrap().contains("by others"));
        }
    }

    #[test]
    fn values_below_zero_hang() {
        let text = svg(&bars(Scale::Linear, &[-80e6, 20e6])).unwrap();
        assert!(text.contains("-80.0 ms"), "{text}");
        assert!(svg(&bars(Scale::Logarithmic, &[-80e6, 20e6])).is_err());
    }

    #[test]
    fn nothing_measured_is_an_error() {
        assert!(svg(&bars(Scale::Linear, &[])).is_err());
        assert!(svg(&bars(Scale::Logarithmic, &[0.0])).is_err());
    }
}
