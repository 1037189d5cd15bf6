// SPDX-License-Identifier: GPL-2.0

//! `asyncfork bench model`: snapshots of more memory than this machine has.
//!
//! A queue in front of one server, as [`window`] has it, with what was measured: the pauses in
//! experiment a, arrivals, service times and windows in experiment b. What one point of b was
//! measured to be, the model has to predict from a smaller one; then it goes on to larger sizes in
//! the same way. So the errors of the former are what is known of those of the latter.

mod inputs;
mod queue;
mod record;
mod window;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use anyhow::Result;
use anyhow::ensure;
use serde_json::Value;

use super::Mode;
use super::bench_fork;
use super::bench_redis;
use crate::figures::Measured;
use crate::machine::Machine;
use crate::report;
use crate::report::JsonFile;
use inputs::Experiment;
use inputs::Pauses;
use inputs::Point;
pub use record::Figures;
pub use record::Record;
use record::Row;
use record::Validated;

/// Say what snapshots of more memory would be like: a model of what was measured
///
/// A discrete-event simulation of a queue before one server, with the pauses of A and the arrivals
/// and service times of B. Prints how far off it is at each point of B; then other sizes. All that
/// is modelled says so.
#[derive(clap::Args)]
pub struct Options {
    /// Calls of bare processes: experiment a
    pub calls: PathBuf,

    /// Redis in the window of a snapshot: experiment b
    pub requests: PathBuf,

    /// Write all of it to FILE
    #[arg(short, long, alias = "json", value_name = "FILE")]
    output: Option<PathBuf>,

    /// Sizes to model (GiB)
    #[arg(long, value_name = "GIB", value_delimiter = ',', default_value = "16,32,64,128,256",
          value_parser = clap::value_parser!(u64).range(1..1 << 14))]
    gib: Vec<u64>,

    /// How often each window is simulated
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..1000))]
    pub repetitions: u64,

    /// What the random numbers begin with
    #[arg(long, value_name = "NUMBER", default_value_t = 2023)]
    seed: u64,
}

impl Options {
    pub fn execute(self) -> Result<ExitCode> {
        let output = self.output.as_deref().map(JsonFile::create).transpose()?;
        let calls = Experiment::read(&self.calls, "fork")?;
        let requests = Experiment::read(&self.requests, "redis")?;
        let record = self.model(calls, requests)?;
        report::print(&super::bench_report::text(&serde_json::to_value(&record)?)?)?;
        if let Some(output) = output {
            output.write(&record)?;
        }
        Ok(ExitCode::SUCCESS)
    }

    fn model(
        &self,
        calls: Experiment<bench_fork::Record>,
        requests: Experiment<bench_redis::Record>,
    ) -> Result<Record> {
        let same = calls.source.accelerator == requests.source.accelerator
            && calls.source.cpus == requests.source.cpus;
        ensure!(
            same,
            "the two were not measured on the same kind of machine"
        );
        let pauses = Pauses::of(&calls.records).context(calls.source.file.clone())?;
        let writes = inputs::writes(&calls.records).context(calls.source.file.clone())?;
        let points = Point::all(&requests.records, &pauses, &writes, self.seed)
            .with_context(|| requests.source.file.clone())?;
        Ok(Record {
            benchmark: "model".into(),
            machine: Machine::read(None),
            seed: self.seed,
            repetitions: self.repetitions,
            validation: self.validate(&points, &pauses),
            modelled: self.extend(&points, &pauses),
            from: vec![calls.source, requests.source],
            pauses,
        })
    }

    /// Each point from the next smaller one; the smallest from itself.
    fn validate(&self, points: &[Point], pauses: &Pauses) -> Vec<Validated> {
        let mut validated = Vec::new();
        for point in points {
            let is_smaller = |p: &&Point| p.is_like(point) && p.mb < point.mb;
            let from = points.iter().rfind(is_smaller).unwrap_or(point);
            for (mode, measured) in &point.measured {
                let row = self.row(from, point.mb, *mode, pauses);
                validated.push(Validated::new(point, row, *measured));
            }
        }
        validated
    }

    /// Each load at each of the sizes, from the largest point with it.
    fn extend(&self, points: &[Point], pauses: &Pauses) -> Vec<Row> {
        let is_largest = |point: &&Point| {
            let mut others = points.iter();
            !others.any(|other| other.is_like(point) && other.mb > point.mb)
        };
        let mut rows = Vec::new();
        for from in points.iter().filter(is_largest) {
            for gib in &self.gib {
                for mode in Mode::BOTH {
                    rows.push(self.row(from, gib << 10, mode, pauses));
                }
            }
        }
        rows
    }

    fn row(&self, from: &Point, mb: u64, mode: Mode, pauses: &Pauses) -> Row {
        let window = from.window(mode, mb, pauses);
        let outcomes = (0..self.repetitions)
            .map(|number| window.simulate(&from.times, self.seed.wrapping_add(number)))
            .collect();
        Row::new(mb, mode, from, window, outcomes)
    }
}

/// What `asyncfork bench report` makes of a record: a point for each size and load, and what is said
/// of all.
pub fn measured(record: Value) -> Result<(Vec<(String, Measured)>, String)> {
    let record: Record = serde_json::from_value(record)?;
    Ok((record.measured(), record.text()))
}

#[cfg(test)]
pub mod tests {
    use clap::Parser;

    use super::*;
    use crate::Arguments;
    use crate::command::Bench;
    use crate::command::Command;
    use crate::command::bench_suite;
    use crate::command::examples;

    fn options(more: &[&str]) -> Options {
        let words = ["asyncfork", "bench", "model", "a.json", "b.json"];
        let words = words.iter().chain(more);
        match Arguments::try_parse_from(words).unwrap().command {
            Command::Bench(Bench::Model(options)) => options,
            _ => panic!("another command"),
        }
    }

    fn model(calls: bench_suite::Record, requests: bench_suite::Record) -> Result<Record> {
        options(&["--gib", "16,64", "--repetitions", "2"]).model(
            Experiment::of("a.json", calls, "fork")?,
            Experiment::of("b.json", requests, "redis")?,
        )
    }

    pub fn example() -> Record {
        model(examples::calls(), examples::requests()).unwrap()
    }

    fn reason(calls: bench_suite::Record, requests: bench_suite::Record) -> String {
        format!("{:#}", model(calls, requests).unwrap_err())
    }

    #[test]
    fn a_machine_that_follows_the_formula_is_predicted() {
        let record = example();
        assert_eq!(record.validation.len(), 8, "four points, two modes");
        for validated in &record.validation {
            let errors = &validated.error;
            for error in [errors.call, errors.p50, errors.p99, errors.p999, errors.max] {
                assert!(error.abs() < 0.02, "{validated:?}");
            }
        }
        let from = |point: &str| {
            let of_point = |validated: &&Validated| validated.point == point;
            let found = record.validation.iter().find(of_point).unwrap();
            found.row.from.as_str()
        };
        assert_eq!(from("1024-50"), "1024-50");
        assert_eq!(from("4096-50"), "1024-50");
        assert_eq!(from("8192-50"), "4096-50", "the largest that is smaller");
        assert_eq!(from("1024-70"), "1024-70", "another load is no help");
    }

    #[test]
    fn a_machine_that_does_not_is_found_out() {
        let mut requests = examples::requests();
        let odd = &mut requests.points[2];
        assert_eq!(odd.name, "8192-50");
        // The latencies of half the size, and calls of twice the time.
        let smaller = examples::redis(4096, 50.0, 50)["saves"].take();
        for (save, of_smaller) in (odd.record["saves"].as_array_mut().unwrap())
            .iter_mut()
            .zip(smaller.as_array().unwrap())
        {
            save["inside"] = of_smaller["inside"].clone();
            save["fork_us"] = (2 * save["fork_us"].as_u64().unwrap()).into();
        }
        let record = model(examples::calls(), requests).unwrap();
        let is_odd = |v: &&Validated| v.point == "8192-50" && v.row.mode == Mode::Default;
        let error = record.validation.iter().find(is_odd).unwrap().error;
        assert!((error.call + 0.5).abs() < 0.01, "{error:?}");
        assert!((error.max - 0.97).abs() < 0.02, "324 ms, 164 ms: {error:?}");
        assert!(error.p50.abs() < 0.02, "{error:?}");
    }

    #[test]
    fn a_call_is_not_shorter_than_the_shortest() {
        let mut calls = examples::calls();
        for (point, ns) in calls.points.iter_mut().zip([5e6, 4e6, 1e6]) {
            for run in point.record["runs"].as_array_mut().unwrap() {
                run["call_ns"] = (ns as u64).into();
            }
        }
        let record = model(calls, examples::requests()).unwrap();
        for row in &record.modelled {
            assert_eq!(row.window.call_ns, 1e6, "whatever the line says: {row:?}");
        }
    }

    #[test]
    fn larger_sizes_follow_the_formula() {
        let record = example();
        assert_eq!(record.modelled.len(), 2 * 2 * 2, "sizes, loads, modes");
        for row in &record.modelled {
            assert_eq!(row.what, "modelled");
            let mut latencies = crate::report::Latencies::default();
            examples::inside_ns(row.mode, row.mb).for_each(|ns| latencies.record(ns as u64));
            for (figure, percent) in [
                (row.median(|outcome| outcome.p50_ns), 50.0),
                (row.median(|outcome| outcome.p99_ns), 99.0),
                (row.median(|outcome| outcome.p999_ns), 99.9),
                (row.median(|outcome| outcome.max_ns), 100.0),
            ] {
                let expected = latencies.percentile(percent) as f64;
                assert!((figure / expected - 1.0).abs() < 0.02, "{percent}: {row:?}");
            }
        }
    }

    #[test]
    fn everything_printed_says_that_it_is_modelled() {
        let text = crate::command::bench_report::text(&serde_json::to_value(example()).unwrap());
        let text = text.unwrap();
        let rows = |size: &str| text.lines().filter(|line| line.contains(size)).count();
        let modelled = |size: &str| {
            let line = format!("modelled {size}, ");
            text.lines().filter(|text| text.contains(&line)).count()
        };
        for size in ["16 GiB", "64 GiB"] {
            assert!(rows(size) > 10, "{text}");
            assert_eq!(rows(size), modelled(size), "{text}");
        }
        let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
        for expected in [
            "published 64 GB, the paper's machine 992 ms 1.50 ms -99.84 %",
            "4 of 8 rows are predictions from a smaller size; seed 2023",
            "from a.json: test, series 0123456789ab",
        ] {
            assert!(words.contains(expected), "{expected} is not in\n{text}");
        }
    }

    #[test]
    fn json_round_trip() {
        let record = example();
        let back = serde_json::to_string(&record).unwrap();
        let back: Record = serde_json::from_str(&back).unwrap();
        assert_eq!(back.text(), record.text());
        assert_eq!(back.measured(), record.measured());
        assert_eq!(record, example(), "the same seed");
    }

    #[test]
    fn what_is_missing_is_named() {
        let (calls, requests) = (examples::calls, examples::requests);
        let mut few = calls();
        few.points.remove(0);
        let text = reason(few, requests());
        assert!(
            text.contains("a line takes three sizes of written pages"),
            "{text}"
        );
        let text = reason(requests(), requests());
        assert!(
            text.contains("nothing that bench fork has measured"),
            "{text}"
        );

        let mut unpushed = calls();
        for point in &mut unpushed.points {
            for run in point.record["runs"].as_array_mut().unwrap() {
                run["counters"] = Value::Null;
            }
        }
        let text = reason(unpushed, requests());
        assert!(
            text.contains("first writes that copy a page table"),
            "{text}"
        );

        let mut elsewhere = requests();
        for point in &mut elsewhere.points {
            point.record["machine"]["accelerator"] = "other".into();
        }
        let text = reason(calls(), elsewhere);
        assert!(
            text.contains("not measured on the same kind of machine"),
            "{text}"
        );

        let mut closed = requests();
        for point in &mut closed.points {
            point.record["parameters"]["rate"] = 0.into();
        }
        assert!(reason(calls(), closed).contains("no point has an open loop"));
    }
}
