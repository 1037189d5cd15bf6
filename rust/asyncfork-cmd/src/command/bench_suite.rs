// SPDX-License-Identifier: GPL-2.0

//! `asyncfork bench suite`: experiments, each a file of parameters, measured in guests.
//!
//! An experiment has points, each of which is one guest and one record of `asyncfork bench`. What
//! is measured stays: a suite that was interrupted goes on with the first point that is missing.
//! An experiment that computes does so each time, from what the others have measured by then.

mod parameters;
mod record;

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::ExitCode;
use std::process::ExitStatus;
use std::time::Duration;
use std::time::Instant;
use std::time::SystemTime;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;

use super::bench_report;
use crate::machine::load_average;
use crate::report;
use crate::report::JsonFile;
use parameters::Experiment;
use parameters::Point;
pub use record::Asked;
pub use record::Done;
use record::Guest;
pub use record::Record;

/// Run experiments in guests, and keep what they measure
///
/// Each experiment is a file of parameters, NAME.toml, and becomes NAME.json: all samples of all
/// points, each with where and when it was measured. A point that is there already, with the same
/// parameters, series and configuration, is not measured again.
#[derive(clap::Args)]
#[command(
    after_help = "Exit status: 0 if every point is there and passed its own checks, otherwise 1."
)]
pub struct Options {
    /// Directory with the files of parameters
    experiments: PathBuf,

    /// Directory for what is measured, writable in the guests too
    #[arg(short, long, value_name = "DIR")]
    output: PathBuf,

    /// Run these experiments only
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    only: Vec<String>,

    /// The points marked as quick, with fewer repetitions
    #[arg(long)]
    quick: bool,

    /// The program that runs a command in a guest, with the options of tools/vm/run
    #[arg(long, value_name = "PATH")]
    vm: PathBuf,

    /// The kernel that the guests boot
    #[arg(long, default_value = "base", value_name = "NAME")]
    kernel: String,

    /// Say what would be measured, and how long that takes
    #[arg(long)]
    list: bool,

    /// The asyncfork that measures, in the guests [default: this one]
    #[arg(long, value_name = "PATH", default_value_os_t = env::current_exe().unwrap_or_default(),
          hide_default_value = true)]
    program: PathBuf,
}

/// A point to measure.
struct Task<'a> {
    experiment: &'a Experiment,
    point: &'a Point,
    asked: Asked,
    /// Where it is kept
    path: PathBuf,
}

/// What is known of how long points take, against what their files say.
#[derive(Default)]
struct Pace {
    expected: f64,
    taken: f64,
}

impl Options {
    pub fn execute(self) -> Result<ExitCode> {
        let experiments = Experiment::read_all(&self.experiments)?;
        self.check_names(&experiments)?;
        let mut chosen: Vec<_> = experiments
            .iter()
            .filter(|experiment| self.only.is_empty() || self.only.contains(&experiment.name))
            .collect();
        // What computes comes after what measures.
        chosen.sort_by_key(|experiment| experiment.computes());
        let tasks: Vec<_> = chosen.iter().flat_map(|e| self.tasks(e)).collect();
        let done: Vec<Option<Done>> = tasks
            .iter()
            .map(|task| task.done().filter(|_| !task.experiment.computes()))
            .collect();
        let (todo, mut pace) = (self.todo(&tasks, &done), Pace::default());
        for (task, done) in tasks.iter().zip(&done) {
            if let Some(done) = done {
                pace.add(task.point.minutes, done.seconds);
            }
        }
        println!(
            "{} of {} points to measure, {}",
            todo.len(),
            tasks.len(),
            pace.left(&todo)
        );
        if self.list {
            for task in &todo {
                println!("  {}", task.line());
            }
            return Ok(ExitCode::SUCCESS);
        }

        let mut failed = Vec::new();
        for (number, task) in todo.iter().enumerate() {
            println!(
                "\npoint {} of {}: {}; {}",
                number + 1,
                todo.len(),
                task.line(),
                pace.left(&todo[number..])
            );
            self.gather_for(task, &experiments)?;
            let seconds = match self.measure(task)? {
                Ok(seconds) => seconds,
                Err(reason) => {
                    println!("FAILED: {}", reason);
                    failed.push(format!("{}: {reason}", task.name()));
                    continue;
                }
            };
            pace.add(task.point.minutes, seconds);
        }
        for experiment in chosen {
            if let Some(path) = self.gather(experiment)? {
                let text = bench_report::text(&report::read(&path)?)?;
                report::print(&format!("\n{text}in {}\n", path.display()))?;
            }
        }
        for failure in &failed {
            println!("FAILED {failure}");
        }
        Ok(match failed.is_empty() {
            true => ExitCode::SUCCESS,
            false => ExitCode::FAILURE,
        })
    }

    fn check_names(&self, experiments: &[Experiment]) -> Result<()> {
        let names: BTreeSet<_> = experiments.iter().map(|e| e.name.as_str()).collect();
        match self.only.iter().find(|name| !names.contains(name.as_str())) {
            Some(name) => bail!(
                "no experiment {name}; there are: {}",
                names.into_iter().collect::<Vec<_>>().join(" ")
            ),
            None => Ok(()),
        }
    }

    fn tasks<'a>(&self, experiment: &'a Experiment) -> Vec<Task<'a>> {
        experiment
            .points
            .iter()
            .filter(|point| point.quick || !self.quick)
            .map(|point| Task {
                experiment,
                point,
                asked: Asked {
                    arguments: self.arguments(experiment, point),
                    guest: experiment.guest(point),
                    series: env::var("ASYNCFORK_SERIES").ok(),
                    config: env::var("ASYNCFORK_CONFIG").ok(),
                },
                path: self
                    .output
                    .join(&experiment.name)
                    .join(format!("{}.json", point.name)),
            })
            .collect()
    }

    fn arguments(&self, experiment: &Experiment, point: &Point) -> Vec<String> {
        let mut arguments = experiment.arguments(point, self.quick);
        let inputs = experiment.from.iter().map(|name| self.result(name));
        arguments.extend(inputs.map(|path| path.display().to_string()));
        arguments
    }

    fn todo<'t, 'a>(&self, tasks: &'t [Task<'a>], done: &[Option<Done>]) -> Vec<&'t Task<'a>> {
        let pairs = tasks.iter().zip(done);
        pairs
            .filter(|(_, done)| done.is_none())
            .map(|(task, _)| task)
            .collect()
    }

    /// How many seconds it took, or why it has failed. What has failed is kept under another name,
    /// as far as it came, and is measured again next time.
    fn measure(&self, task: &Task) -> Result<Result<f64, String>> {
        let directory = task.path.parent().context("a result is in a directory")?;
        fs::create_dir_all(directory)
            .with_context(|| format!("cannot make {}", directory.display()))?;
        let raw = task.path.with_extension("raw");
        let _ = fs::remove_file(&raw);
        if task.experiment.computes() {
            let _ = fs::remove_file(&task.path);
        }
        let load_before = load_average();
        let (started, start) = (SystemTime::now(), Instant::now());
        let status = self.start(task, &raw)?;
        let seconds = start.elapsed().as_secs_f64();
        if let Some(signal) = interrupted(status) {
            bail!("interrupted by signal {signal}; the points that are measured stay");
        }
        let record = match fs::read_to_string(&raw) {
            Ok(text) => serde_json::from_str(&text)
                .with_context(|| format!("{} is not JSON", raw.display()))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(Err(format!("no record ({status})")));
            }
            Err(error) => return Err(error.into()),
        };
        let done = Done {
            name: task.point.name.clone(),
            asked: task.asked.clone(),
            emulator: env::var("ASYNCFORK_EMULATOR").ok(),
            started: started
                .duration_since(SystemTime::UNIX_EPOCH)
                .unwrap_or(Duration::ZERO)
                .as_secs(),
            seconds,
            load_before,
            load_after: load_average(),
            record,
        };
        let path = match status.success() {
            true => task.path.clone(),
            false => task.path.with_extension("failed.json"),
        };
        JsonFile::create(&path)?.write(&done)?;
        fs::remove_file(&raw)?;
        Ok(if status.success() {
            Ok(seconds)
        } else {
            Err(format!("{status}, see {}", path.display()))
        })
    }

    /// Has `task` measured in a guest, or computed here, with the record in `raw`.
    fn start(&self, task: &Task, raw: &Path) -> Result<ExitStatus> {
        let mut command = match &task.asked.guest {
            Some(guest) => self.in_guest(task, guest),
            None => Command::new(&self.program),
        };
        command.args(&task.asked.arguments);
        command.arg("--json").arg(raw);
        // SAFETY: one system call, without memory of its own.
        unsafe {
            command.pre_exec(|| {
                // The guest ends when this process does, whatever ended it.
                match libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM) {
                    -1 => Err(io::Error::last_os_error()),
                    _ => Ok(()),
                }
            });
        }
        command
            .status()
            .with_context(|| format!("cannot run {}", command.get_program().to_string_lossy()))
    }

    /// What boots a guest for `task` and runs `asyncfork` there.
    fn in_guest(&self, task: &Task, guest: &Guest) -> Command {
        let mut command = Command::new(&self.vm);
        command.args(["-k", &self.kernel, "-m", &guest.memory]);
        command.args(["-c", &guest.cpus.to_string()]);
        command.args(guest.icount.then_some("-i"));
        command.args(["-l", &format!("bench-{}", task.name())]);
        let limit = Duration::from_secs_f64(task.point.minutes * 60.0 * 10.0);
        command.args(["-t", &limit.as_secs().max(600).to_string()]);
        for (option, size) in [("-s", &guest.swap), ("-d", &guest.disk)] {
            if let Some(size) = size {
                command.args([option, size]);
            }
        }
        let mut words = vec!["env".to_owned()];
        for name in ["ASYNCFORK_SERIES", "ASYNCFORK_CONFIG", "ASYNCFORK_COMMIT"] {
            words.extend(env::var(name).map(|value| format!("{name}={value}")));
        }
        words.push(self.program.display().to_string());
        command.arg("--").args(words);
        command
    }

    /// Puts what there is of an experiment into one file, and says which, if there is anything.
    fn gather(&self, experiment: &Experiment) -> Result<Option<PathBuf>> {
        let tasks = self.tasks(experiment);
        let points: Vec<Done> = tasks.iter().filter_map(Task::done).collect();
        if points.is_empty() {
            return Ok(None);
        }
        let record = Record {
            benchmark: Record::NAME.into(),
            experiment: experiment.name.clone(),
            title: experiment.title.clone(),
            note: experiment.note.clone(),
            quick: self.quick,
            missing: tasks.len() - points.len(),
            points,
        };
        let path = self.result(&experiment.name);
        JsonFile::create(&path)?.write(&record)?;
        Ok(Some(path))
    }

    /// Has the results be there from which `task` computes, as far as they were measured.
    fn gather_for(&self, task: &Task, experiments: &[Experiment]) -> Result<()> {
        let needs = |experiment: &&Experiment| task.experiment.from.contains(&experiment.name);
        for experiment in experiments.iter().filter(needs) {
            self.gather(experiment)?;
        }
        Ok(())
    }

    /// Where all of an experiment is.
    fn result(&self, name: &str) -> PathBuf {
        self.output.join(format!("{name}.json"))
    }
}

impl Task<'_> {
    /// What was measured already.
    fn done(&self) -> Option<Done> {
        Done::read(&self.path, &self.asked)
    }

    fn name(&self) -> String {
        format!("{}-{}", self.experiment.name, self.point.name)
    }

    fn line(&self) -> String {
        let guest = self.asked.guest.as_ref();
        format!(
            "{} {}: {}, {}",
            self.experiment.name,
            self.point.name,
            self.asked.arguments.join(" "),
            guest.map_or("computed here".into(), |guest| format!(
                "in {}",
                guest.memory
            ))
        )
    }
}

impl Pace {
    fn add(&mut self, expected_minutes: f64, seconds: f64) {
        self.expected += expected_minutes * 60.0;
        self.taken += seconds;
    }

    /// How long `todo` takes if this machine goes on as it has done.
    fn left(&self, todo: &[&Task]) -> String {
        let ratio = match self.expected {
            0.0 => 1.0,
            expected => self.taken / expected,
        };
        let minutes: f64 = todo.iter().map(|task| task.point.minutes).sum();
        format!("about {:.0} min left", (minutes * ratio).ceil())
    }
}

/// The signal that has ended a guest, by itself or as the exit status of a shell.
fn interrupted(status: ExitStatus) -> Option<i32> {
    use std::os::unix::process::ExitStatusExt;

    let signals = [libc::SIGHUP, libc::SIGINT, libc::SIGTERM];
    status
        .signal()
        .or_else(|| status.code().map(|code| code - 128))
        .filter(|signal| signals.contains(signal))
}
