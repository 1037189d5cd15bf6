// SPDX-License-Identifier: GPL-2.0

//! What `bench fork` and `bench spawn` have in common: a process of some size that forks in each
//! mode in turn, some times over.

use std::time::Duration;

use anyhow::Result;

use super::Mode;
use super::require_modes;
use crate::interrupt;
use crate::knobs::Setting;
use crate::machine::Machine;
use crate::memory::Kind;
use crate::memory::Memory;
use crate::report::JsonFile;
use crate::report::Output;

#[derive(clap::Args)]
pub struct Repeat {
    /// Anonymous memory of the process (MiB)
    #[arg(long, value_name = "MIB", default_value_t = 1024, value_parser = clap::value_parser!(u64).range(2..1 << 24))]
    pub mb: u64,

    /// Runs per mode
    #[arg(long, value_name = "N", default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..))]
    pub runs: u32,

    /// Forks to measure, in turn
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        default_value = "default,async"
    )]
    pub modes: Vec<Mode>,

    /// Time to let pass between touching the memory and forking (ms); see `make bench` in README
    ///
    /// An emulator (TCG) has a TLB in memory of its own, which has grown to many MiB when a GiB
    /// has been touched, and gives that back in the first flush that comes late enough. Without
    /// a pause that flush is the one in the call, and is most of what an asynchronous call takes.
    #[arg(long, value_name = "MS", default_value_t = 300)]
    pub settle_ms: u64,

    #[command(flatten)]
    pub output: Output,
}

/// What was measured, and where.
pub struct Repeated<R> {
    pub machine: Machine,
    pub settings: Vec<Setting>,
    pub runs: Vec<R>,
}

impl Repeat {
    /// Finds out whether all that was asked for can be done, and where to write it.
    pub fn prepare(&mut self, kind: impl Into<Kind>) -> Result<Option<JsonFile>> {
        let kind = kind.into();
        require_modes(&mut self.modes)?;
        kind.require_room(self.mb)?;
        if kind.takes_settings() {
            interrupt::note()?;
        }
        self.output.create()
    }

    /// Each run measures, and `line` says how it went.
    pub fn measure<R>(
        &self,
        kind: impl Into<Kind>,
        run: impl Fn(&mut Memory, Mode) -> Result<R>,
        line: impl Fn(&R) -> String,
    ) -> Result<Repeated<R>> {
        let machine = self.output.machine();
        println!("{}", machine.line());
        let settle = Duration::from_millis(self.settle_ms);
        let mut memory = Memory::new((self.mb as usize) << 20, kind, settle)?;
        let mut runs = Vec::new();
        for number in 1..=self.runs {
            for mode in &self.modes {
                interrupt::check()?;
                let run = run(&mut memory, *mode)?;
                println!("run {number} of {}  {mode:7}  {}", self.runs, line(&run));
                runs.push(run);
            }
        }
        Ok(Repeated {
            machine,
            settings: memory.settings(),
            runs,
        })
    }
}
