// SPDX-License-Identifier: GPL-2.0

//! Repeated measurements: what they come to, and how sure that is.
//!
//! Intervals hold 95 %: they are made of what the samples would have come to if others of them had
//! been drawn, some twice and some not at all (the percentile bootstrap). That takes nothing for
//! granted about how times are distributed. With five samples it is rough; it says so by being
//! wide.

use std::fmt;

use rand::Rng;
use rand::SeedableRng;
use rand::rngs::SmallRng;
use serde::Deserialize;
use serde::Serialize;

use crate::command::Mode;
use crate::report::median;
use crate::report::time;

/// How often samples are drawn again.
const DRAWS: usize = 2000;
/// What an interval leaves out on each side.
const TAIL: f64 = 0.025;
/// A difference of which less than this can be seen in the ratio is none.
const ALIKE: f64 = 0.01;

/// One figure of one point in one mode.
#[derive(Clone, Debug, PartialEq)]
pub struct Figure {
    pub name: String,
    pub mode: Mode,
    pub unit: Unit,
    /// One for each repetition
    pub samples: Vec<f64>,
}

/// Each of `parts` by default fork and by asynchronous fork.
pub fn in_both_modes<P: Copy>(
    parts: impl IntoIterator<Item = P>,
    figure: impl Fn(P, Mode) -> Figure,
) -> Vec<Figure> {
    let modes = Mode::BOTH;
    (parts.into_iter())
        .flat_map(|part| modes.map(|mode| figure(part, mode)))
        .collect()
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Unit {
    /// In nanoseconds
    #[default]
    Time,
    Instructions,
    Bytes,
    Number,
}

impl Unit {
    pub fn show(self, value: f64) -> String {
        match self {
            Self::Time => time(value),
            Self::Instructions => thousands(value) + "insn",
            Self::Bytes => thousands(value) + "B",
            Self::Number => thousands(value).trim_end().to_owned(),
        }
    }
}

/// A number and its prefix: a unit can follow.
fn thousands(value: f64) -> String {
    match value.abs() {
        size if size < 1e4 => format!("{value:.0} "),
        size if size < 1e6 => format!("{:.1} k", value / 1e3),
        _ => format!("{:.2} M", value / 1e6),
    }
}

/// What one record has measured.
#[derive(Clone, Debug, PartialEq)]
pub struct Measured {
    /// What it was of: points with the same name are of different sizes
    pub of: String,
    pub mb: u64,
    pub figures: Vec<Figure>,
    /// What else is to be said of it
    pub notes: Vec<String>,
}

impl Measured {
    /// The samples of `name` in `mode`.
    pub fn samples(&self, name: &str, mode: Mode) -> Option<&[f64]> {
        let mut of_name = self.figures.iter().filter(|figure| figure.name == name);
        let figure = of_name.find(|figure| figure.mode == mode)?;
        (!figure.samples.is_empty()).then_some(&figure.samples)
    }

    pub fn unit(&self, name: &str) -> Unit {
        let mut figures = self.figures.iter();
        figures
            .find(|figure| figure.name == name)
            .map_or_else(Unit::default, |figure| figure.unit)
    }

    /// The names of the figures, each once, in their order.
    pub fn names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = Vec::new();
        for figure in &self.figures {
            if !names.contains(&figure.name.as_str()) {
                names.push(&figure.name);
            }
        }
        names
    }
}

/// A value with the interval in which it is.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    pub value: f64,
    pub low: f64,
    pub high: f64,
}

impl Estimate {
    /// What `statistic` makes of `groups` of samples, none of which is empty.
    fn of(groups: &[&[f64]], statistic: impl Fn(&[Vec<f64>]) -> f64) -> Self {
        // The same samples always have the same interval.
        let mut random = SmallRng::seed_from_u64(0);
        let mut draw = |samples: &&[f64]| -> Vec<f64> {
            (0..samples.len())
                .map(|_| samples[random.random_range(0..samples.len())])
                .collect()
        };
        let mut values: Vec<f64> = (0..DRAWS)
            .map(|_| statistic(&groups.iter().map(&mut draw).collect::<Vec<_>>()))
            .collect();
        values.sort_by(f64::total_cmp);
        let at = |share: f64| values[(share * (DRAWS - 1) as f64).round() as usize];
        let all: Vec<_> = groups.iter().map(|samples| samples.to_vec()).collect();
        Self {
            value: statistic(&all),
            low: at(TAIL),
            high: at(1.0 - TAIL),
        }
    }

    /// A value of which no more is known.
    pub fn exactly(value: f64) -> Self {
        Self {
            value,
            low: value,
            high: value,
        }
    }

    pub fn median(samples: &[f64]) -> Self {
        Self::of(&[samples], |groups| middle(&groups[0]))
    }

    /// The median of `of` in terms of that of `to`; none in terms of nothing.
    pub fn ratio(of: &[f64], to: &[f64]) -> Option<Self> {
        let ratio = |groups: &[Vec<f64>]| middle(&groups[0]) / middle(&groups[1]);
        to.iter()
            .all(|sample| *sample > 0.0)
            .then(|| Self::of(&[of, to], ratio))
    }

    /// With something done to all of it that keeps the order.
    pub fn map(self, figure: impl Fn(f64) -> f64) -> Self {
        Self {
            value: figure(self.value),
            low: figure(self.low),
            high: figure(self.high),
        }
    }

    pub fn show(self, figure: impl Fn(f64) -> String) -> String {
        format!(
            "{} [{}, {}]",
            figure(self.value),
            figure(self.low),
            figure(self.high)
        )
    }

    /// What a ratio of times says.
    pub fn verdict(self) -> Verdict {
        if self.high < 1.0 - ALIKE {
            Verdict::Shorter
        } else if self.low > 1.0 + ALIKE {
            Verdict::Longer
        } else if self.low >= 1.0 - ALIKE && self.high <= 1.0 + ALIKE {
            Verdict::Same
        } else {
            Verdict::Unknown
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Shorter,
    Longer,
    Same,
    Unknown,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Shorter => "shorter",
            Self::Longer => "longer",
            Self::Same => "same",
            Self::Unknown => "not known",
        })
    }
}

fn middle(samples: &[f64]) -> f64 {
    median(samples.iter().copied()).unwrap_or(f64::NAN)
}

/// A straight line through samples at several sizes: the least squares of the medians.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// Per unit of size
    pub slope: Estimate,
    pub intercept: Estimate,
}

impl Line {
    /// None for less than three sizes, as two are always on a line.
    pub fn through(points: &[(f64, &[f64])]) -> Option<Self> {
        let sizes: Vec<f64> = points.iter().map(|(size, _)| *size).collect();
        let mut different = sizes.clone();
        different.sort_by(f64::total_cmp);
        different.dedup();
        if different.len() < 3 {
            return None;
        }
        let groups: Vec<&[f64]> = points.iter().map(|(_, samples)| *samples).collect();
        let fit = |groups: &[Vec<f64>]| {
            let medians: Vec<f64> = groups.iter().map(|samples| middle(samples)).collect();
            least_squares(&sizes, &medians)
        };
        Some(Self {
            slope: Estimate::of(&groups, |groups| fit(groups).0),
            intercept: Estimate::of(&groups, |groups| fit(groups).1),
        })
    }

    /// What it comes to at `size`, by the slope and the intercept that are most likely.
    pub fn at(&self, size: f64) -> f64 {
        self.intercept.value + self.slope.value * size
    }
}

/// Slope and intercept.
fn least_squares(x: &[f64], y: &[f64]) -> (f64, f64) {
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    let (mean_x, mean_y) = (mean(x), mean(y));
    let sum = |part: &dyn Fn(f64, f64) -> f64| -> f64 {
        x.iter()
            .zip(y)
            .map(|(x, y)| part(x - mean_x, y - mean_y))
            .sum()
    };
    let slope = sum(&|x, y| x * y) / sum(&|x, _| x * x);
    (slope, mean_y - slope * mean_x)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_hold_the_value() {
        let samples = [10.0, 11.0, 9.0, 12.0, 10.5];
        let estimate = Estimate::median(&samples);
        assert_eq!(estimate.value, 10.5);
        assert!(estimate.low >= 9.0 && estimate.low < 10.5);
        assert!(estimate.high <= 12.0 && estimate.high > 10.5);
        assert_eq!(estimate, Estimate::median(&samples), "always the same");
        let sure = Estimate::median(&[7.0; 5]);
        assert_eq!((sure.low, sure.value, sure.high), (7.0, 7.0, 7.0));
    }

    #[test]
    fn more_samples_are_surer() {
        let few: Vec<f64> = (0..5).map(|i| 100.0 + f64::from(i)).collect();
        let many: Vec<f64> = (0..500).map(|i| 100.0 + f64::from(i % 5)).collect();
        let width = |samples: &[f64]| {
            let estimate = Estimate::median(samples);
            estimate.high - estimate.low
        };
        assert!(width(&many) < width(&few));
    }

    #[test]
    fn verdicts() {
        let verdict = |of: &[f64], to: &[f64]| Estimate::ratio(of, to).unwrap().verdict();
        let base = [100.0, 102.0, 98.0, 101.0, 99.0];
        let half: Vec<f64> = base.iter().map(|ns| ns / 2.0).collect();
        assert_eq!(verdict(&half, &base), Verdict::Shorter);
        assert_eq!(verdict(&base, &half), Verdict::Longer);
        assert_eq!(verdict(&[100.0; 5], &[100.1; 5]), Verdict::Same);
        assert_eq!(Estimate::ratio(&base, &[0.0, 1.0]), None);
        let wide = [60.0, 140.0, 70.0, 130.0, 100.0];
        assert_eq!(verdict(&wide, &base), Verdict::Unknown);
    }

    #[test]
    fn lines() {
        let samples = |size: f64| [1.0, 0.0, -1.0].map(|error| 5.0 + 3.0 * size + error);
        let at = [1.0, 2.0, 4.0, 8.0].map(|size| (size, samples(size)));
        let points: Vec<_> = at.iter().map(|(size, s)| (*size, &s[..])).collect();
        let line = Line::through(&points).unwrap();
        assert!((line.slope.value - 3.0).abs() < 1e-9, "{line:?}");
        assert!((line.intercept.value - 5.0).abs() < 1e-9, "{line:?}");
        assert!(line.slope.low < 3.0 && line.slope.high > 3.0, "{line:?}");
        assert_eq!(Line::through(&points[..2]), None);
        assert_eq!(Line::through(&[points[0], points[1], points[1]]), None);
    }

    #[test]
    fn units() {
        assert_eq!(Unit::Time.show(1500.0), "1.50 us");
        assert_eq!(Unit::Instructions.show(1219.0), "1219 insn");
        assert_eq!(Unit::Instructions.show(127_837.0), "127.8 kinsn");
        assert_eq!(Unit::Number.show(17.0), "17");
        assert_eq!(Unit::Bytes.show(-3_650_644.0), "-3.65 MB");
    }

    #[test]
    fn shown() {
        let estimate = Estimate {
            value: 1.5e6,
            low: 1.4e6,
            high: 2e6,
        };
        assert_eq!(estimate.show(time), "1.50 ms [1.40 ms, 2.00 ms]");
    }
}
