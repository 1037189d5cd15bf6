// SPDX-License-Identifier: GPL-2.0

//! `asyncfork bench budget`: does an operation take more instructions than it did?

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use serde::Deserialize;
use serde::Serialize;

use super::Record;
use super::Toolchain;
use crate::figures::Unit;
use crate::report;

/// Percent by which a cost may differ without a word.
const LIMIT: f64 = 2.0;

/// Compare what bench insn has counted with a file of costs
///
/// Prints a line for each operation.
#[derive(clap::Args)]
#[command(
    after_help = "Exit status: 0; 1 if an operation takes over 2 % more instructions than in the \
    file, is in one of both only, or if the file is of another emulator or compiler."
)]
pub struct Options {
    /// What bench insn --json has written
    record: PathBuf,

    /// The file of costs
    costs: PathBuf,

    /// Write the file of costs anew
    #[arg(long)]
    update: bool,
}

/// The file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Budget {
    of: Toolchain,
    /// The least instructions of an operation
    costs: BTreeMap<String, u64>,
}

impl Options {
    pub fn execute(self) -> Result<ExitCode> {
        let (text, passes) = self.run()?;
        report::print(&text)?;
        Ok(match passes {
            true => ExitCode::SUCCESS,
            false => ExitCode::FAILURE,
        })
    }

    /// What there is to say, and whether no operation fails.
    fn run(&self) -> Result<(String, bool)> {
        let counted = report::read(&self.record)
            .and_then(|record| Budget::counted(&serde_json::from_value(record)?))
            .with_context(|| format!("cannot read {}", self.record.display()))?;
        if self.update {
            counted
                .write(&self.costs)
                .with_context(|| format!("cannot write {}", self.costs.display()))?;
            return Ok((String::new(), true));
        }
        let budget = Budget::read(&self.costs)
            .with_context(|| format!("cannot read {}", self.costs.display()))?;
        if budget.of != counted.of {
            bail!(
                "{} is of {}, and this was counted with {}: it has to be written anew",
                self.costs.display(),
                budget.of,
                counted.of
            );
        }
        let compared = budget.compare(&counted);
        let text = compared.iter().map(Compared::to_string).collect();
        Ok((text, compared.iter().all(Compared::passes)))
    }
}

impl Budget {
    /// What `record` comes to.
    fn counted(record: &Record) -> Result<Self> {
        if !record.toolchain.is_known() {
            bail!("it was counted with {}", record.toolchain);
        }
        let costs = record.costs.iter().filter_map(|cost| {
            let name = format!("{}: {}", cost.what, cost.how);
            // What comes in between, a timer or what RCU has put off, can only add to it.
            let least = cost.samples.iter().min()?;
            (cost.unit() == Unit::Instructions).then_some((name, *least))
        });
        Ok(Self {
            of: record.toolchain.clone(),
            costs: costs.collect(),
        })
    }

    fn read(path: &Path) -> Result<Self> {
        Ok(serde_json::from_value(report::read(path)?)?)
    }

    fn write(&self, path: &Path) -> Result<()> {
        Ok(fs::write(path, serde_json::to_string_pretty(self)? + "\n")?)
    }

    /// Every operation of both.
    fn compare<'a>(&'a self, counted: &'a Self) -> Vec<Compared<'a>> {
        let names: BTreeSet<&String> = self.costs.keys().chain(counted.costs.keys()).collect();
        let compared = |name: &'a String| Compared {
            name,
            before: self.costs.get(name).copied(),
            now: counted.costs.get(name).copied(),
        };
        names.into_iter().map(compared).collect()
    }
}

/// One operation.
struct Compared<'a> {
    name: &'a str,
    /// In the file
    before: Option<u64>,
    /// As counted
    now: Option<u64>,
}

impl Compared<'_> {
    fn passes(&self) -> bool {
        self.percent().is_some_and(|percent| percent <= LIMIT)
    }

    /// By how much it has grown.
    fn percent(&self) -> Option<f64> {
        let (before, now) = (self.before? as f64, self.now? as f64);
        Some((now - before) * 100.0 / before)
    }
}

impl fmt::Display for Compared<'_> {
    /// Lines for ci/count.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, before, now } = self;
        let verdict = if self.passes() { "ok" } else { "not ok" };
        write!(f, "{verdict} - {name}: ")?;
        match (before, now, self.percent()) {
            (Some(before), Some(now), Some(percent)) => {
                writeln!(
                    f,
                    "{now} instructions, {before} in the file ({percent:+.1} %)"
                )?;
                if percent < -LIMIT {
                    writeln!(f, "shrank: {name}: from {before} to {now} instructions")?;
                }
                Ok(())
            }
            (None, Some(now), _) => writeln!(f, "{now} instructions, not in the file"),
            _ => writeln!(f, "in the file, but not counted"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::bench_insn::Cost;
    use crate::machine::Machine;

    fn cost(what: &str, samples: &[u64]) -> Cost {
        Cost {
            what: what.into(),
            how: "user".into(),
            samples: samples.to_vec(),
        }
    }

    fn toolchain() -> Toolchain {
        Toolchain::of(
            "QEMU emulator version 10.0.2",
            "CONFIG_CC_VERSION_TEXT=\"gcc 12\"\nCONFIG_RUSTC_VERSION_TEXT=\"rustc 1.90\"\n",
        )
    }

    fn record(costs: Vec<Cost>) -> Record {
        Record {
            benchmark: "insn".into(),
            machine: Machine::read(None),
            toolchain: toolchain(),
            costs,
        }
    }

    fn budget(costs: &[(&str, u64)]) -> Budget {
        let costs = costs
            .iter()
            .map(|(what, cost)| (format!("{what}: user"), *cost));
        Budget {
            of: toolchain(),
            costs: costs.collect(),
        }
    }

    #[test]
    fn the_least_instructions() {
        let costs = vec![cost("a", &[3, 9, 4]), cost("b, bytes", &[1])];
        assert_eq!(
            Budget::counted(&record(costs)).unwrap(),
            budget(&[("a", 3)])
        );
        let unknown = Record {
            toolchain: Toolchain::default(),
            ..record(vec![])
        };
        let error = Budget::counted(&unknown).unwrap_err().to_string();
        assert_eq!(error, "it was counted with unknown, unknown, unknown");
    }

    #[test]
    fn a_cost_that_grows_fails() {
        for (now, passes, text) in [
            (
                1020,
                true,
                "ok - a: user: 1020 instructions, 1000 in the file (+2.0 %)\n",
            ),
            (
                1021,
                false,
                "not ok - a: user: 1021 instructions, 1000 in the file (+2.1 %)\n",
            ),
            (
                980,
                true,
                "ok - a: user: 980 instructions, 1000 in the file (-2.0 %)\n",
            ),
            (
                970,
                true,
                "ok - a: user: 970 instructions, 1000 in the file (-3.0 %)\n\
                 shrank: a: user: from 1000 to 970 instructions\n",
            ),
        ] {
            let (before, now) = (budget(&[("a", 1000)]), budget(&[("a", now)]));
            let [compared] = &before.compare(&now)[..] else {
                panic!("one operation")
            };
            assert_eq!(
                (compared.passes(), compared.to_string().as_str()),
                (passes, text)
            );
        }
    }

    #[test]
    fn operations_in_one_of_both_fail() {
        let (before, now) = (budget(&[("a", 1), ("b", 1)]), budget(&[("b", 1), ("c", 1)]));
        let compared = before.compare(&now);
        let passes: Vec<bool> = compared.iter().map(Compared::passes).collect();
        assert_eq!(passes, [false, true, false]);
        assert_eq!(
            compared[0].to_string(),
            "not ok - a: user: in the file, but not counted\n"
        );
        assert_eq!(
            compared[2].to_string(),
            "not ok - c: user: 1 instructions, not in the file\n"
        );
    }

    #[test]
    fn files() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let run = |costs: &str, update| {
            let options = Options {
                record: path("record"),
                costs: path(costs),
                update,
            };
            options.run().map(|(_, passes)| passes)
        };
        let text = serde_json::to_string(&record(vec![cost("a", &[1000])])).unwrap();
        fs::write(path("record"), text).unwrap();
        assert!(run("costs", false).is_err(), "there is none yet");
        assert!(run("costs", true).unwrap());
        assert_eq!(
            Budget::read(&path("costs")).unwrap(),
            budget(&[("a", 1000)])
        );
        assert!(run("costs", false).unwrap());

        let text = fs::read_to_string(path("costs")).unwrap();
        fs::write(path("less"), text.replace("1000", "970")).unwrap();
        assert!(!run("less", false).unwrap());
        fs::write(path("other"), text.replace("rustc 1.90", "rustc 1.91")).unwrap();
        let error = run("other", false).unwrap_err().to_string();
        assert!(
            error.contains("rustc 1.91, and this was counted with QEMU"),
            "{error}"
        );
        fs::write(path("wrong"), text.replace("\"costs\"", "\"cost\"")).unwrap();
        assert!(format!("{:#}", run("wrong", false).unwrap_err()).contains("unknown field `cost`"));
    }
}
