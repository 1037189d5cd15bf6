// SPDX-License-Identifier: GPL-2.0

//! Figures of an experiment whose points differ in kind: bars, a group for each point.

use anyhow::Context;
use anyhow::Result;
use plotters::style::RGBColor;
use serde_json::Value;

use super::INK;
use super::bars;
use super::bars::Bar;
use super::bars::Bars;
use super::bars::Scale;
use super::bars::Series;
use super::colour;
use super::modes;
use crate::command::Mode;
use crate::command::bench_calls;
use crate::command::bench_report;
use crate::figures::Estimate;
use crate::figures::Measured;
use crate::report::time;

/// Paler than those of the modes.
const PALE: [RGBColor; 2] = [RGBColor(235, 180, 130), RGBColor(140, 190, 230)];

/// The figure `name`, a time, of all points that have it in some mode.
pub fn by_point(value: &Value, title: String, name: &str) -> Result<Bars> {
    let points = bench_report::points(value)?;
    let has = |point: &&(String, Measured)| point.1.names().contains(&name);
    let groups = points.iter().filter(has).map(|(point, measured)| {
        let bars = Mode::BOTH.iter().enumerate();
        group(point, bars.map(|(i, mode)| bar(i, measured, name, *mode)))
    });
    Ok(times(title, name, Scale::Logarithmic, modes(), groups))
}

/// What system calls take in the window, and without a child: of the largest process.
pub fn calls(value: &Value, title: String) -> Result<Bars> {
    let points = bench_report::points(value)?;
    let largest = points.iter().max_by_key(|(_, measured)| measured.mb);
    let (_, measured) = largest.context("it has no points")?;
    let mut series = vec![Series {
        name: "no child".into(),
        colour: INK,
    }];
    series.extend(modes());
    let groups = bench_calls::pictured().map(|(call, outside, inside)| {
        let bars = [
            bar(0, measured, &outside, Mode::Default),
            bar(1, measured, &inside, Mode::Default),
            bar(2, measured, &inside, Mode::Async),
        ];
        group(&call.replace(", ", "\n").replace(' ', "\n"), bars)
    });
    let axis = format!("call, at {} MiB: median of a run", measured.mb);
    Ok(times(title, &axis, Scale::Logarithmic, series, groups))
}

/// The CPU time of parent and child.
pub fn cpu(value: &Value, title: String) -> Result<Bars> {
    const PARENT: &str = "CPU of the parent in the window";
    const CHILD: &str = "CPU of the child";
    let all = || {
        let of = |(i, mode): (usize, Mode)| {
            [(PARENT, "parent", colour(mode)), (CHILD, "child", PALE[i])].map(|part| (part, mode))
        };
        Mode::BOTH.into_iter().enumerate().flat_map(of)
    };
    let points = bench_report::points(value)?;
    let groups = points.iter().map(|(point, measured)| {
        let bars = all().enumerate();
        group(
            point,
            bars.map(|(i, ((name, ..), mode))| bar(i, measured, name, mode)),
        )
    });
    let series = all().map(|((_, who, colour), mode)| Series {
        name: format!("{who}, {mode} fork"),
        colour,
    });
    let axis = "CPU time in the window";
    Ok(times(title, axis, Scale::Linear, series.collect(), groups))
}

fn bar(series: usize, measured: &Measured, name: &str, mode: Mode) -> Option<Bar> {
    let samples = measured.samples(name, mode)?;
    let value = Estimate::median(samples);
    Some(Bar { series, value })
}

fn group(name: &str, bars: impl IntoIterator<Item = Option<Bar>>) -> bars::Group {
    bars::Group {
        name: name.replacen('-', "\n", 1),
        bars: bars.into_iter().flatten().collect(),
        published: None,
    }
}

fn times(
    title: String,
    axis: &str,
    scale: Scale,
    series: Vec<Series>,
    groups: impl Iterator<Item = bars::Group>,
) -> Bars {
    Bars {
        title,
        axis: match scale {
            Scale::Linear => axis.to_owned(),
            Scale::Logarithmic => format!("{axis} (logarithmic)"),
        },
        show: time,
        scale,
        series,
        groups: groups.filter(|group| !group.bars.is_empty()).collect(),
        published: "",
    }
}
