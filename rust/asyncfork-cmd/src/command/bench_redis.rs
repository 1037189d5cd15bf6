// SPDX-License-Identifier: GPL-2.0

//! `asyncfork bench redis`: snapshots of an unmodified Redis under load, timed and checked.
//!
//! One server, one set of data, default and asynchronous saves in turn. The server has asked for
//! asynchronous forks by prctl; the sysctl `vm.async_pgtable` decides, save by save, whether it
//! gets them.
//!
//! How a save is known to be exact: the clients go on writing, with numbers, through the fork and
//! the save. The snapshot is read, or a second server loads it, and what it has must be what the
//! clients had written at one instant of the BGSAVE command; [`crate::redis::History`] knows.

mod check;
mod clients;
mod cpu;
mod record;
mod snapshot;
mod throughput;
mod trace;

use std::env;
use std::fs;
use std::ops::Range;
use std::path::Path;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use std::time::Instant;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;

use super::Mode;
use super::counted_since;
use super::counters_for;
use super::plot::Group;
use super::plot::Picture;
use crate::figures::Measured;
use crate::huge_pages;
use crate::huge_pages::HugePages;
use crate::interrupt;
use crate::knobs::Knobs;
use crate::machine::Machine;
use crate::redis::Client;
use crate::redis::Data;
use crate::redis::History;
use crate::redis::Info;
use crate::redis::Load;
use crate::redis::Outcome;
use crate::redis::Pace;
use crate::redis::Server;
use crate::redis::Settings;
use crate::report;
use crate::report::Output;
use check::Check;
use clients::Clients;
use cpu::Cpu;
use record::Parameters;
pub use record::Record;
pub use record::Save;
use record::Summary;
pub use snapshot::Kind as Snapshot;
use snapshot::Made;
pub use throughput::typical as throughput;
pub use trace::Cause;
use trace::Tracer;
pub use trace::log2 as interruptions;

/// The clients run this long before anything is measured.
const SETTLE: Duration = Duration::from_millis(200);
/// Time between two looks at whether the save is over.
const POLL: Duration = Duration::from_millis(50);

/// Time BGSAVE of a Redis server under load and check every snapshot
///
/// Starts a Redis server of its own, fills it, and takes snapshots with default and asynchronous
/// forks in turn while clients write. Needs root where it has to switch vm.async_pgtable.
#[derive(clap::Args)]
#[command(
    after_help = "Exit status: 0 if every snapshot is exact and was made as asked, otherwise 1; \
    128 + N after signal N."
)]
pub struct Options {
    /// Fill the server until it uses this much memory (MiB)
    #[arg(long, value_name = "MIB", default_value_t = 1024, value_parser = clap::value_parser!(u64).range(8..1 << 24))]
    mb: u64,

    /// Snapshots per mode
    #[arg(long, alias = "runs", value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    pub saves: u32,

    /// Forks to measure, in turn
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        default_value = "default,async"
    )]
    modes: Vec<Mode>,

    /// This many asynchronous snapshots in a row, without quiet periods between
    #[arg(long, value_name = "N", conflicts_with_all = ["saves", "modes", "quiet", "check_max"],
          value_parser = clap::value_parser!(u32).range(1..))]
    soak: Option<u32>,

    #[command(flatten)]
    clients: Clients,

    #[command(flatten)]
    around: throughput::Around,

    /// Record every interruption of the server in the window, by cause; takes root and tracefs
    #[arg(long)]
    trace: bool,

    /// What the server forks for
    #[arg(long, value_enum, value_name = "KIND", default_value = "rdb")]
    snapshot: snapshot::Kind,

    /// Threads with which the server reads requests and writes replies
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=16))]
    io_threads: u16,

    /// Have the machine, and the server, give huge pages so; the server never asks for them. What
    /// the machine did before is put back [default: as the machine is, and none in the server]
    #[arg(long, value_enum, value_name = "HOW")]
    huge_pages: Option<HugePages>,

    /// How to check a snapshot [default: server up to 2048 MiB, file above]
    #[arg(long, value_enum, value_name = "HOW")]
    check: Option<Check>,

    /// Seconds of load without a snapshot, measured before each snapshot
    #[arg(long, value_name = "SECONDS", default_value_t = 5.0, value_parser = not_negative)]
    quiet: f64,

    /// Fail unless the slowest SET during asynchronous saves took at most RATIO times the slowest
    /// outside
    #[arg(long, value_name = "RATIO", value_parser = not_negative)]
    check_max: Option<f64>,

    /// Have Redis compress its snapshots
    #[arg(long)]
    compress: bool,

    /// The server to run: a path, a file beside this program, or a name to look for in $PATH
    #[arg(long, default_value = "redis-server", value_name = "PATH")]
    server: PathBuf,

    /// Where to make the temporary directory, with the snapshot in it [default: $TMPDIR or /tmp]
    #[arg(long)]
    dir: Option<PathBuf>,

    #[command(flatten)]
    output: Output,
}

fn not_negative(text: &str) -> Result<f64, &'static str> {
    let number = text
        .parse()
        .ok()
        .filter(|number| (0.0..=1e6).contains(number));
    number.ok_or("not a number from 0 to 1000000")
}

/// `program`, or the file of that name beside this program.
fn found(program: &Path) -> PathBuf {
    let beside = || {
        let path = env::current_exe().ok()?.with_file_name(program);
        (program.components().count() == 1 && path.is_file()).then_some(path)
    };
    beside().unwrap_or_else(|| program.to_owned())
}

/// The sysctl as it was found, put back at the end.
struct Sysctl {
    /// None if the kernel does not have it
    found: Option<asyncfork::Mode>,
    /// The server has asked for asynchronous forks
    asked: bool,
}

impl Sysctl {
    /// Has the server's next fork be what `mode` says.
    fn set(&self, mode: Mode) -> Result<()> {
        if self.found.is_none() {
            return Ok(());
        }
        let now = match asyncfork::mode()? {
            asyncfork::Mode::Off => Mode::Default,
            asyncfork::Mode::OnRequest if !self.asked => Mode::Default,
            _ => Mode::Async,
        };
        let wanted = match mode {
            _ if mode == now => return Ok(()),
            Mode::Default => asyncfork::Mode::Off,
            Mode::Async => asyncfork::Mode::OnRequest,
        };
        asyncfork::set_mode(wanted).context("cannot set vm.async_pgtable (it takes root)")
    }
}

impl Drop for Sysctl {
    fn drop(&mut self) {
        let Some(found) = self.found else { return };
        if let Err(error) = asyncfork::set_mode(found) {
            // Without root it cannot have been changed either.
            if asyncfork::mode().ok() != Some(found) {
                eprintln!("asyncfork: vm.async_pgtable is not back at {found}: {error}");
            }
        }
    }
}

/// What `asyncfork plot` draws of a record.
pub fn picture(record: serde_json::Value) -> Result<Picture> {
    let record: Record = serde_json::from_value(record)?;
    let group = |name: &str, figure: &dyn Fn(&Summary) -> f64| Group {
        name: name.into(),
        bars: record
            .summary
            .iter()
            .map(|(mode, summary)| (*mode, figure(summary)))
            .collect(),
    };
    Ok(Picture {
        title: format!(
            "Redis, {} MiB, {}: BGSAVE ({})",
            record.parameters.mb,
            record.parameters.clients.line(),
            record.machine.accelerator
        ),
        groups: vec![
            group("fork call,\nmedian", &|s| s.fork_us.median * 1e3),
            group("SET during\nsnapshot, p50", &|s| {
                s.inside.percentile(50.0) as f64
            }),
            group("SET during\nsnapshot, p99", &|s| {
                s.inside.percentile(99.0) as f64
            }),
            group("SET during\nsnapshot, p99.9", &|s| {
                s.inside.percentile(99.9) as f64
            }),
            group("SET during\nsnapshot, max", &|s| s.inside.max() as f64),
            group("SET outside,\nmax", &|s| s.outside.max() as f64),
        ],
    })
}

/// What `asyncfork bench report` makes of a record.
pub fn measured(record: serde_json::Value) -> Result<Measured> {
    let record: Record = serde_json::from_value(record)?;
    Ok(record.measured())
}

impl Options {
    fn check(&self) -> Check {
        let default = match self.snapshot {
            snapshot::Kind::Rdb => Check::for_size(self.mb),
            _ => Check::File,
        };
        self.check.unwrap_or(default)
    }

    /// More of the server's configuration.
    fn config(&self) -> String {
        // A server does without huge pages otherwise, whatever the machine says.
        let huge_pages = match self.huge_pages {
            Some(_) => "disable-thp no\n",
            None => "",
        };
        let (threads, kind) = (self.io_threads, self.snapshot.config());
        format!("io-threads {threads}\n{kind}{huge_pages}")
    }

    pub fn execute(mut self) -> Result<ExitCode> {
        if let Some(saves) = self.soak {
            (self.modes, self.saves, self.quiet) = (vec![Mode::Async], saves, 0.0);
        }
        self.modes.sort();
        self.modes.dedup();
        let counters = counters_for(&self.modes)?;
        if self.check() == Check::Server && self.snapshot != snapshot::Kind::Rdb {
            bail!("--check server takes a file of BGSAVE: --snapshot rdb");
        }
        interrupt::catch()?;
        let json = self.output.create()?;
        let base = self.dir.clone().unwrap_or_else(std::env::temp_dir);
        let directory = tempfile::Builder::new()
            .prefix("asyncfork-")
            .tempdir_in(&base);
        let directory =
            directory.with_context(|| format!("cannot make a directory in {}", base.display()))?;
        let settings = Settings {
            binary: found(&self.server),
            directory: directory.path().to_owned(),
            compress: self.compress,
            more: self.config(),
        };
        let version = settings.version()?;
        let files = self.snapshot.files();
        self.check()
            .require_room(self.mb, files, &settings.directory)?;
        let sysctl = Sysctl {
            found: counters.map(|_| asyncfork::mode()).transpose()?,
            asked: self.modes.contains(&Mode::Async),
        };

        let machine = self.output.machine();
        println!("{}\n{version}", machine.line());
        let record = self.measure(machine, version, &settings, &sysctl)?;
        report::print(&record.table())?;
        if let Some(json) = json {
            json.write(&record)?;
        }
        Ok(if record.verdict(self.check_max) {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }

    fn measure(
        &self,
        machine: Machine,
        version: String,
        settings: &Settings,
        sysctl: &Sysctl,
    ) -> Result<Record> {
        let mut knobs = Knobs::default();
        if let Some(huge_pages) = self.huge_pages {
            huge_pages.set(&mut knobs)?;
        }
        // For the fill, which forks nothing, and so that a lack of root shows at once.
        sysctl.set(self.modes[0])?;
        let server = settings.start("server", sysctl.asked)?;
        let tracer = || Tracer::new(server.pid(), self.mb, sysctl.found.is_some());
        let tracer = self.trace.then(tracer).transpose()?;
        let mut control = server.connect()?;
        let start = Instant::now();
        let mut shown = 0;
        let data = Data::fill(
            &mut control,
            self.mb << 20,
            self.clients.value_size as usize,
            |used| {
                if used >> 28 > shown {
                    shown = used >> 28;
                    println!("filling: {} of {} MiB", used >> 20, self.mb);
                }
            },
        )?;
        let fill_seconds = start.elapsed().as_secs_f64();
        let used_memory_bytes = Info::read(&mut control, "memory")?.number("used_memory")?;
        println!(
            "{} keys of {} bytes in {fill_seconds:.1} s",
            data.keys, self.clients.value_size
        );

        self.snapshot.prepare(&mut control)?;
        let load = self.clients.start(&server, data)?;
        let (pace, capacity) = self.clients.pace(&load)?;
        if let (Some(capacity), Pace::Open(rate)) = (capacity, pace) {
            println!("capacity: {capacity:.0} requests per second, of which {rate:.0}");
        }
        let mut bench = Bench {
            options: self,
            settings,
            sysctl,
            tracer,
            server: &server,
            control,
            load,
            pace,
            data,
            history: History::new(data.keys, self.clients.count()),
        };
        let mut saves: Vec<Save> = Vec::new();
        let total = self.saves as usize * self.modes.len();
        for _ in 0..self.saves {
            for mode in &self.modes {
                let save = bench.save(*mode)?;
                println!("save {:>2} of {total}  {}", saves.len() + 1, save.line());
                saves.push(save);
            }
        }
        Ok(Record {
            benchmark: "redis".into(),
            machine,
            server: version,
            parameters: Parameters {
                mb: self.mb,
                saves: self.saves,
                modes: self.modes.clone(),
                quiet_seconds: self.quiet,
                every_seconds: self.around.every_seconds(),
                compress: self.compress,
                check: self.check(),
                snapshot: self.snapshot,
                io_threads: self.io_threads,
                huge_pages: self.huge_pages,
                clients: self.clients.parameters(pace, capacity),
            },
            settings: knobs.settings().to_vec(),
            keys: data.keys,
            used_memory_bytes,
            fill_seconds,
            summary: Summary::by_mode(&self.modes, &saves),
            saves,
        })
    }
}

struct Bench<'a> {
    options: &'a Options,
    settings: &'a Settings,
    sysctl: &'a Sysctl,
    tracer: Option<Tracer>,
    server: &'a Server,
    control: Client,
    load: Load,
    pace: Pace,
    data: Data,
    history: History,
}

impl Bench<'_> {
    fn save(&mut self, mode: Mode) -> Result<Save> {
        self.sysctl.set(mode)?;
        let huge_kib = self.huge_kib()?;
        let size_64k_kib = huge_kib.and_then(|_| huge_pages::size_64k_kib());
        self.load.run(self.pace)?;
        interrupt::sleep(SETTLE)?;
        let begun = Instant::now();
        let outside_seconds = self.outside()?;

        let used: u64 = Info::read(&mut self.control, "memory")?.number("used_memory")?;
        let before = asyncfork::counters().ok();
        let cpu = Cpu::read(&mut self.control)?;
        self.load.mark();
        let kind = self.options.snapshot;
        self.tracer.as_ref().map_or(Ok(()), Tracer::start)?;
        let started = kind.start(self.server, &mut self.control, self.data)?;
        let bgsave = started.command.clone();
        let made = started.finish(&mut self.control)?;
        let window = bgsave.start.elapsed();
        let cpu = Cpu::read(&mut self.control)?.since(cpu);
        self.tracer.as_ref().map_or(Ok(()), Tracer::stop)?;
        self.load.mark();
        interrupt::sleep(self.options.around.rest(window))?;
        let ended = Instant::now();
        self.load.pause()?;
        let mut periods = self.load.take();
        let after = periods.pop().unwrap_or_default();
        let inside = periods.pop().unwrap_or_default();
        let outside = periods.pop().unwrap_or_default();
        let counters = counted_since(before);

        let (server_save_seconds, cow_bytes) = (made.seconds, made.copied);
        let writes = self.load.written();
        let timeline = (self.options.around).timeline(&writes, bgsave.start, begun..ended);
        self.history.add(writes);
        let interruptions = self.tracer.as_ref().map(Tracer::take).transpose()?;
        let check = Instant::now();
        let outcome = self.check_snapshot(made, &bgsave)?;
        Ok(Save {
            mode,
            fork_us: Info::read(&mut self.control, "stats")?.number("latest_fork_usec")?,
            reply_us: (bgsave.end - bgsave.start).as_micros() as u64,
            snapshot_seconds: window.as_secs_f64(),
            server_save_seconds,
            cow_bytes,
            inside: inside.sets,
            outside: outside.sets,
            after: after.sets,
            inside_gets: inside.gets,
            outside_gets: outside.gets,
            inside_lag: inside.lag,
            outside_lag: outside.lag,
            outside_seconds,
            huge_kib,
            size_64k_kib,
            cpu: Some(cpu),
            data_ranges: used / record::RANGE,
            counters,
            cuts: outcome.cuts,
            difference: outcome.difference,
            check_seconds: check.elapsed().as_secs_f64(),
            timeline,
            interruptions,
        })
    }

    /// Load without a snapshot, for the time asked for, and how many seconds that was.
    fn outside(&mut self) -> Result<f64> {
        if self.options.quiet == 0.0 {
            return Ok(0.0);
        }
        self.load.mark();
        let start = Instant::now();
        interrupt::sleep(Duration::from_secs_f64(self.options.quiet))?;
        Ok(start.elapsed().as_secs_f64())
    }

    /// KiB of the server in huge pages, if these were asked for.
    fn huge_kib(&self) -> Result<Option<u64>> {
        let server = self.server.pid().to_string();
        let asked = self.options.huge_pages;
        asked.map(|_| huge_pages::mapped_kib(&server)).transpose()
    }

    /// Has the snapshot read, one way or the other, and removes it if nobody needs it.
    fn check_snapshot(&mut self, made: Made, bgsave: &Range<Instant>) -> Result<Outcome> {
        let outcome = match self.options.check() {
            Check::Server => {
                let second = self.settings.start("second", false)?;
                let contents = self.data.read(&mut second.connect()?)?;
                self.history.check(&contents, bgsave)
            }
            Check::File => match made.contents(self.settings, self.data) {
                Ok(contents) => self.history.check(&contents, bgsave),
                Err(reason) => {
                    interrupt::check()?;
                    self.history.unreadable(&reason, bgsave)
                }
            },
        };
        if self.options.snapshot == snapshot::Kind::Rdb {
            fs::remove_file(self.settings.snapshot())?;
        }
        Ok(outcome)
    }
}
