// SPDX-License-Identifier: GPL-2.0

//! What an unmodified Redis pays for its fork: `latest_fork_usec`, of a clock that counts a
//! thousand instructions for a microsecond.

use std::io;
use std::mem;
use std::path::Path;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;

use super::Cost;
use super::ROUNDS;
use super::set_mode;
use crate::command::Mode;
use crate::command::bench_redis::Snapshot;
use crate::command::counted_since;
use crate::command::misdone;
use crate::redis::Client;
use crate::redis::Data;
use crate::redis::Info;
use crate::redis::Settings;

const VALUE_SIZE: usize = 1024;

/// Forks of a server of `mib` MiB, default and asynchronous in turn.
pub fn count(mib: u64) -> Result<Vec<Cost>> {
    let directory = tempfile::tempdir().context("cannot make a directory")?;
    let settings = Settings {
        binary: "redis-server".into(),
        directory: directory.path().to_owned(),
        compress: false,
        more: String::new(),
    };
    // Before it reads a file: of what has been pinned without a note nothing is deferred.
    set_mode(asyncfork::Mode::OnRequest)?;
    let server = settings.start("server", false)?;
    let mut client = server.connect()?;
    real_time(Info::read(&mut client, "server")?.number("process_id")?)?;
    Data::fill(&mut client, mib << 20, VALUE_SIZE, |_| ())?;
    let mut costs = Mode::BOTH.map(|mode| (mode, Vec::new()));
    for _ in 0..ROUNDS {
        for (mode, samples) in &mut costs {
            samples.push(fork(&mut client, *mode, &settings.snapshot())?);
        }
    }
    let cost = |(mode, samples)| {
        let how = match mode {
            Mode::Default => "plain",
            Mode::Async => "async",
        };
        let cost = Cost {
            what: format!("call, Redis of {mib} MiB"),
            how: how.into(),
            samples,
        };
        println!("{} {how} {:?}", cost.what, cost.samples);
        cost
    };
    Ok(costs.map(cost).into())
}

/// The instructions of the fork of one save.
fn fork(client: &mut Client, mode: Mode, snapshot: &Path) -> Result<u64> {
    set_mode(match mode {
        Mode::Default => asyncfork::Mode::OnRequest,
        Mode::Async => asyncfork::Mode::Every,
    })?;
    let before = asyncfork::counters().ok();
    client.command(&["BGSAVE"])?;
    if let Some(reason) = misdone(mode, counted_since(before).as_ref(), 1, false) {
        bail!("{reason}");
    }
    Snapshot::Rdb.wait(client)?;
    // It takes memory.
    std::fs::remove_file(snapshot).context("the server has not saved")?;
    let microseconds: u64 = Info::read(client, "stats")?.number("latest_fork_usec")?;
    Ok(microseconds * 1000)
}

/// Has `process` not be preempted by its children, nor by us.
fn real_time(process: libc::pid_t) -> Result<()> {
    // SAFETY: all-zero is a valid `sched_param`.
    let mut parameters: libc::sched_param = unsafe { mem::zeroed() };
    parameters.sched_priority = 50;
    let policy = libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK;
    // SAFETY: `parameters` is valid for reads.
    match unsafe { libc::sched_setscheduler(process, policy, &raw const parameters) } {
        -1 => Err(io::Error::last_os_error()).context("cannot make the server SCHED_FIFO"),
        _ => Ok(()),
    }
}
