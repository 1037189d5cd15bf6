// SPDX-License-Identifier: GPL-2.0

//! What the model has come to: the JSON and its tables.

use serde::Deserialize;
use serde::Serialize;

use super::inputs;
use super::inputs::Pauses;
use super::inputs::Source;
use super::window::Outcome;
use super::window::Window;
use crate::command::Mode;
use crate::figures::Estimate;
use crate::figures::Figure;
use crate::figures::Measured;
use crate::figures::Unit;
use crate::figures::in_both_modes;
use crate::machine::Machine;
use crate::paper;
use crate::report::median;
use crate::report::table;
use crate::report::time;

/// The JSON.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    pub benchmark: String,
    /// Where this was computed, not where anything was measured
    pub machine: Machine,
    pub from: Vec<Source>,
    pub seed: u64,
    pub repetitions: u64,
    /// Of written memory, per GiB
    pub pauses: Pauses,
    /// The points that were measured, from those that are smaller
    pub validation: Vec<Validated>,
    pub modelled: Vec<Row>,
}

/// [`Row::what`]
const WHAT: &str = "modelled";

/// One size, load and mode.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// `modelled`: nothing of this was measured
    pub what: String,
    pub mb: u64,
    pub clients: u16,
    pub pace: String,
    pub mode: Mode,
    /// The point whose rate, service times and window are used
    pub from: String,
    pub window: Window,
    /// One for each repetition
    pub outcomes: Vec<Outcome>,
}

/// A row beside what was measured there.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Validated {
    pub point: String,
    pub row: Row,
    pub measured: inputs::Measured,
    /// By how much the row is above that, as a part of it
    pub error: Errors,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Errors {
    pub call: f64,
    pub p50: f64,
    pub p99: f64,
    pub p999: f64,
    pub max: f64,
}

/// What is drawn, with intervals where there are any.
pub struct Figures {
    pub p99: Estimate,
    pub max: Estimate,
}

impl Row {
    pub fn new(
        mb: u64,
        mode: Mode,
        from: &inputs::Point,
        window: Window,
        outcomes: Vec<Outcome>,
    ) -> Self {
        Self {
            what: WHAT.into(),
            mb,
            clients: from.clients,
            pace: from.pace.clone(),
            mode,
            from: from.name.clone(),
            window,
            outcomes,
        }
    }

    /// The median over the repetitions.
    pub fn median(&self, figure: fn(&Outcome) -> f64) -> f64 {
        median(self.outcomes.iter().map(figure)).unwrap_or(f64::NAN)
    }

    fn is_beside(&self, other: &Self) -> bool {
        (self.mb, self.clients, &self.pace) == (other.mb, other.clients, &other.pace)
    }

    fn name(&self) -> String {
        format!("{WHAT} {} GiB, {}", self.mb as f64 / 1024.0, self.pace)
    }
}

impl Validated {
    pub fn new(point: &inputs::Point, row: Row, measured: inputs::Measured) -> Self {
        let above = |modelled: f64, measured: f64| modelled / measured - 1.0;
        Self {
            point: point.name.clone(),
            error: Errors {
                call: above(row.window.call_ns, measured.call_ns),
                p50: above(row.median(|o| o.p50_ns), measured.p50_ns),
                p99: above(row.median(|o| o.p99_ns), measured.p99_ns),
                p999: above(row.median(|o| o.p999_ns), measured.p999_ns),
                max: above(row.median(|o| o.max_ns), measured.max_ns),
            },
            row,
            measured,
        }
    }

    /// Nothing of the point itself was used.
    fn is_prediction(&self) -> bool {
        self.row.from != self.point
    }
}

/// A figure of each repetition.
type Part = (&'static str, Unit, fn(&Row, &Outcome) -> f64);
const PARTS: [Part; 7] = [
    ("fork call, modelled", Unit::Time, |row, _| {
        row.window.call_ns
    }),
    ("p50 in the window, modelled", Unit::Time, |_, o| o.p50_ns),
    ("p99 in the window, modelled", Unit::Time, |_, o| o.p99_ns),
    ("p99.9 in the window, modelled", Unit::Time, |_, o| {
        o.p999_ns
    }),
    ("max in the window, modelled", Unit::Time, |_, o| o.max_ns),
    ("window, modelled", Unit::Time, |row, _| {
        row.window.window_ns
    }),
    (
        "ranges copied by the parent, modelled",
        Unit::Number,
        |_, o| o.pushes,
    ),
];

impl Record {
    /// A point for each size and load, of both modes.
    pub fn measured(&self) -> Vec<(String, Measured)> {
        let mut points: Vec<&Row> = Vec::new();
        for row in &self.modelled {
            if !points.iter().any(|point| point.is_beside(row)) {
                points.push(row);
            }
        }
        points
            .into_iter()
            .map(|row| (row.name(), self.point(row)))
            .collect()
    }

    fn point(&self, of: &Row) -> Measured {
        let rows = || self.modelled.iter().filter(|row| row.is_beside(of));
        let figure = |(name, unit, figure): Part, mode| Figure {
            name: name.into(),
            mode,
            unit,
            samples: rows()
                .filter(|row| row.mode == mode)
                .flat_map(|row| row.outcomes.iter().map(|outcome| figure(row, outcome)))
                .collect(),
        };
        let busy = rows().map(|row| {
            let busy = row.median(|outcome| outcome.busy) * 100.0;
            format!("{} {busy:.0} %", row.mode)
        });
        Measured {
            of: format!("{WHAT}, {}", of.pace),
            mb: of.mb,
            figures: in_both_modes(PARTS, figure),
            notes: vec![format!(
                "from point {}; slowdown in the window {:.2}; the server is busy for: {}",
                of.from,
                of.window.slowdown,
                busy.collect::<Vec<_>>().join(", ")
            )],
        }
    }

    /// What the rows are beside, and how far off the model was where it could be known.
    pub fn text(&self) -> String {
        let sources: String = self.from.iter().map(|s| s.line() + "\n").collect();
        let (published, validated) = (self.beside_the_paper(), self.validated());
        format!("{sources}\n{published}\n{validated}")
    }

    /// The load of most points that were measured.
    pub fn best_validated(&self) -> Option<&str> {
        let points = |pace: &str| {
            let rows = self.validation.iter().map(|validated| &validated.row);
            rows.filter(|row| row.pace == pace).count()
        };
        let paces = self.validation.iter().map(|v| v.row.pace.as_str());
        paces.max_by_key(|pace| points(pace))
    }

    /// With the size in MiB.
    pub fn measured_at(&self, pace: &str, mode: Mode) -> Vec<(u64, Figures)> {
        let rows = self.validation.iter();
        rows.filter(|v| v.row.pace == pace && v.row.mode == mode)
            .map(|v| {
                let figures = Figures {
                    p99: Estimate::exactly(v.measured.p99_ns),
                    max: Estimate::exactly(v.measured.max_ns),
                };
                (v.row.mb, figures)
            })
            .collect()
    }

    /// With the size in MiB; the predictions of what was measured among them.
    pub fn modelled_at(&self, pace: &str, mode: Mode) -> Vec<(u64, Figures)> {
        let of = |row: &Row, figure: fn(&Outcome) -> f64| {
            let samples: Vec<f64> = row.outcomes.iter().map(figure).collect();
            Estimate::median(&samples)
        };
        let predicted = self.validation.iter().filter(|v| v.is_prediction());
        let rows = predicted.map(|v| &v.row).chain(&self.modelled);
        rows.filter(|row| row.pace == pace && row.mode == mode)
            .map(|row| {
                let figures = Figures {
                    p99: of(row, |outcome| outcome.p99_ns),
                    max: of(row, |outcome| outcome.max_ns),
                };
                (row.mb, figures)
            })
            .collect()
    }

    fn validated(&self) -> String {
        let mut rows = vec![
            [
                "modelled / measured",
                "",
                "from",
                "call",
                "p50",
                "p99",
                "p99.9",
                "max",
                "pushes",
            ]
            .map(str::to_owned)
            .to_vec(),
        ];
        for validated in &self.validation {
            let (row, measured, error) = (&validated.row, &validated.measured, &validated.error);
            let cell = |modelled: f64, measured: f64, error: f64| {
                let (modelled, measured) = (time(modelled), time(measured));
                format!("{modelled} / {measured} {:+.0} %", error * 100.0)
            };
            rows.push(vec![
                format!("  {}", validated.point),
                row.mode.to_string(),
                match validated.is_prediction() {
                    true => row.from.clone(),
                    false => "itself".into(),
                },
                cell(row.window.call_ns, measured.call_ns, error.call),
                cell(row.median(|o| o.p50_ns), measured.p50_ns, error.p50),
                cell(row.median(|o| o.p99_ns), measured.p99_ns, error.p99),
                cell(row.median(|o| o.p999_ns), measured.p999_ns, error.p999),
                cell(row.median(|o| o.max_ns), measured.max_ns, error.max),
                format!("{:.0} / {:.0}", row.median(|o| o.pushes), measured.pushes),
            ]);
        }
        let predicted = self.validation.iter().filter(|v| v.is_prediction()).count();
        format!(
            "{}\n{predicted} of {} rows are predictions from a smaller size; seed {}\n",
            table(&rows, "<<<>>>>>>"),
            self.validation.len(),
            self.seed
        )
    }

    fn beside_the_paper(&self) -> String {
        let mut rows = vec![
            ["p99 in the window", "default", "async", "change"]
                .map(str::to_owned)
                .to_vec(),
        ];
        for published in &paper::PAPER {
            let [default, asynchronous] = published
                .p99_ns
                .map_or(["-".into(), "-".into()], |p99| p99.map(time));
            rows.push(vec![
                format!("  published {} GB, the paper's machine", published.gib),
                default,
                asynchronous,
                format!("{:+.2} %", published.change_percent),
            ]);
        }
        let default = |row: &&Row| row.mode == Mode::Default;
        for row in self.modelled.iter().filter(default) {
            let mut rest = self.modelled.iter();
            let Some(other) = rest.find(|r| r.mode == Mode::Async && r.is_beside(row)) else {
                continue;
            };
            let p99 = [row, other].map(|row| row.median(|outcome| outcome.p99_ns));
            rows.push(vec![
                format!("  {}", row.name()),
                time(p99[0]),
                time(p99[1]),
                format!("{:+.2} %", (p99[1] / p99[0] - 1.0) * 100.0),
            ]);
        }
        table(&rows, "<>>>")
    }
}
