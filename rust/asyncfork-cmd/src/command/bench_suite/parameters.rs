// SPDX-License-Identifier: GPL-2.0

//! The files of parameters.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::Context;
use anyhow::Result;
use anyhow::anyhow;
use anyhow::bail;
use serde::Deserialize;

use super::record::Guest;

const SUFFIX: &str = "toml";

/// One file.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Experiment {
    /// The name of the file
    #[serde(skip)]
    pub name: String,
    pub title: String,
    /// To be read with the figures
    pub note: Option<String>,
    /// What `asyncfork` is asked for at each point
    pub command: String,
    /// It measures nothing, but computes on this machine: from the results of these experiments
    #[serde(default)]
    pub from: Vec<String>,
    /// Added to that for the quick points
    #[serde(default)]
    quick: String,
    #[serde(default = "two")]
    cpus: u8,
    /// The guest's clock counts instructions, on one CPU
    #[serde(default)]
    icount: bool,
    pub points: Vec<Point>,
}

/// One guest.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Point {
    pub name: String,
    /// Added to the command
    arguments: String,
    /// Of the guest: `2G`, `512M`
    memory: Option<String>,
    swap: Option<String>,
    disk: Option<String>,
    /// How long it takes, on two CPUs under TCG
    pub minutes: f64,
    /// Is also one of the quick points
    #[serde(default)]
    pub quick: bool,
}

fn two() -> u8 {
    2
}

impl Experiment {
    /// All files of `directory`, by name.
    ///
    /// # Errors
    ///
    /// What is wrong with one of them.
    pub fn read_all(directory: &Path) -> Result<Vec<Self>> {
        let entries = fs::read_dir(directory)
            .with_context(|| format!("cannot read {}", directory.display()))?;
        let mut experiments = Vec::new();
        for entry in entries {
            let path = entry?.path();
            if path.extension().is_some_and(|suffix| suffix == SUFFIX) {
                let text = fs::read_to_string(&path)?;
                let name = path.file_stem().unwrap_or_default().to_string_lossy();
                let experiment = Self::parse(&name, &text)
                    .with_context(|| format!("{} is wrong", path.display()))?;
                experiments.push(experiment);
            }
        }
        if experiments.is_empty() {
            bail!("no *.{SUFFIX} in {}", directory.display());
        }
        experiments.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(experiments)
    }

    pub fn parse(name: &str, text: &str) -> Result<Self> {
        let mut experiment: Self = toml::from_str(text).map_err(|error| {
            let before = error.span().map_or("", |span| &text[..span.start]);
            let line = before.matches('\n').count() + 1;
            anyhow!("line {line}: {}", error.message())
        })?;
        name.clone_into(&mut experiment.name);
        let mut names = BTreeSet::new();
        for point in &experiment.points {
            if !is_name(&point.name) {
                bail!("{:?} is not a name of a-z, 0-9, - and _", point.name);
            }
            if !names.insert(&point.name) {
                bail!("there are two points {}", point.name);
            }
            experiment.check_memory(point)?;
            if !(point.minutes > 0.0 && point.minutes.is_finite()) {
                bail!("{}: minutes = {} is no time", point.name, point.minutes);
            }
        }
        if !is_name(name) || names.is_empty() {
            bail!("an experiment needs points, and a name of a-z, 0-9, - and _");
        }
        Ok(experiment)
    }

    fn check_memory(&self, point: &Point) -> Result<()> {
        match (&point.memory, self.computes()) {
            (None, false) => bail!("{}: a guest needs memory", point.name),
            (Some(_), true) => bail!("{}: what is computed has no guest", point.name),
            _ => Ok(()),
        }
    }

    /// Has no guests.
    pub fn computes(&self) -> bool {
        !self.from.is_empty()
    }

    pub fn arguments(&self, point: &Point, quick: bool) -> Vec<String> {
        let quick = if quick { self.quick.as_str() } else { "" };
        [self.command.as_str(), &point.arguments, quick]
            .into_iter()
            .flat_map(str::split_whitespace)
            .map(str::to_owned)
            .collect()
    }

    /// None if it computes.
    pub fn guest(&self, point: &Point) -> Option<Guest> {
        Some(Guest {
            memory: point.memory.clone()?,
            cpus: if self.icount { 1 } else { self.cpus },
            icount: self.icount,
            swap: point.swap.clone(),
            disk: point.disk.clone(),
        })
    }
}

fn is_name(text: &str) -> bool {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_".contains(c);
    !text.is_empty() && text.chars().all(allowed)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::Arguments;
    use crate::command::Bench;
    use crate::command::Command;
    use crate::command::bench_insn;

    const TEXT: &str = r#"
        title = "one"
        command = "bench fork --runs 7"
        quick = "--runs 3"
        points = [
            { name = "small", arguments = "--mb 64", memory = "1G", minutes = 0.5, quick = true },
            { name = "large", arguments = "--mb 4096", memory = "6G", swap = "1G", minutes = 3 },
        ]
    "#;

    #[test]
    fn parses() {
        let experiment = Experiment::parse("a", TEXT).unwrap();
        let [small, large] = &experiment.points[..] else {
            panic!("two points")
        };
        assert!(small.quick && !large.quick);
        assert_eq!(
            experiment.arguments(small, false).join(" "),
            "bench fork --runs 7 --mb 64"
        );
        assert_eq!(
            experiment.arguments(small, true).join(" "),
            "bench fork --runs 7 --mb 64 --runs 3"
        );
        let guest = experiment.guest(large).unwrap();
        assert_eq!((guest.cpus, guest.memory.as_str()), (2, "6G"));
        assert_eq!((guest.swap.as_deref(), guest.disk), (Some("1G"), None));
    }

    #[test]
    fn mistakes_are_named() {
        for (from, to, reason) in [
            ("large", "small", "there are two points small"),
            ("large", "Large one", "is not a name"),
            ("minutes = 3", "minutes = 0", "is no time"),
            ("swap =", "swop =", "line 7: unknown field `swop`"),
            ("title =", "titel =", "unknown field `titel`"),
            (", minutes = 0.5", "", "missing field `minutes`"),
            ("memory = \"6G\", ", "", "large: a guest needs memory"),
            (
                "command =",
                "from = ['b']\ncommand =",
                "small: what is computed has no guest",
            ),
        ] {
            let error = Experiment::parse("a", &TEXT.replace(from, to)).unwrap_err();
            let error = format!("{error:#}");
            assert!(error.contains(reason), "{reason} is not in {error}");
        }
        assert!(Experiment::parse("a b", TEXT).is_err());
        let none = "title = 'x'\ncommand = 'bench fork'\npoints = []";
        assert!(Experiment::parse("a", none).is_err());
    }

    #[test]
    fn directories_without_experiments() {
        let directory = tempfile::tempdir().unwrap();
        let read = || Experiment::read_all(directory.path());
        assert!(read().unwrap_err().to_string().starts_with("no *.toml in"));
        fs::write(directory.path().join("b.toml"), TEXT).unwrap();
        fs::write(directory.path().join("a.toml"), TEXT).unwrap();
        fs::write(directory.path().join("README"), "").unwrap();
        let names: Vec<_> = read().unwrap().into_iter().map(|e| e.name).collect();
        assert_eq!(names, ["a", "b"]);
        fs::write(directory.path().join("c.toml"), "title = 1").unwrap();
        assert!(format!("{:#}", read().unwrap_err()).contains("c.toml is wrong"));
    }

    /// Those of this repository: each point is a command that `asyncfork` takes, and repeats at
    /// least five times; a quick one three times.
    #[test]
    fn experiments_are_commands() {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tools/bench.d");
        for experiment in Experiment::read_all(&directory).unwrap() {
            for point in &experiment.points {
                for quick in [false, true] {
                    let mut words = vec!["asyncfork".to_owned()];
                    words.extend(experiment.arguments(point, quick));
                    words.extend(experiment.from.iter().map(|name| format!("{name}.json")));
                    let parsed = Arguments::try_parse_from(&words);
                    let parsed = parsed.unwrap_or_else(|error| panic!("{words:?}: {error}"));
                    let repeated = match parsed.command {
                        Command::Bench(Bench::Fork(options)) => options.repeat.runs,
                        Command::Bench(Bench::Calls(options)) => options.repeat.runs,
                        Command::Bench(Bench::Spawn(options)) => options.repeat.runs,
                        Command::Bench(Bench::Snapshots(options)) => options.repeat.runs,
                        Command::Bench(Bench::Redis(options)) => options.saves,
                        Command::Bench(Bench::Model(options)) => options.repetitions as u32,
                        Command::Bench(Bench::Insn(_)) => bench_insn::ROUNDS,
                        _ => panic!("{words:?} is no measurement"),
                    };
                    let least = if quick { 3 } else { 5 };
                    assert!(repeated >= least, "{words:?}: {repeated} times");
                }
            }
            assert!(experiment.points.iter().any(|point| point.quick));
        }
    }
}
