// SPDX-License-Identifier: GPL-2.0

//! `asyncfork run`: execute a command whose forks are asynchronous.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt;
use std::process;
use std::process::ExitCode;

use super::explain;

/// Exit status when `asyncfork` itself failed, as `env` and `timeout` have it.
pub const FAILED: u8 = 125;
const CANNOT_EXECUTE: u8 = 126;
const NOT_FOUND: u8 = 127;

/// Run a command whose forks, and its children's forks, are asynchronous
///
/// Needs no change of the command and no root. Says nothing on success; the command takes this
/// process's place, so that signals and the exit status are its own.
#[derive(clap::Args)]
#[command(
    after_help = "Exit status: 125 if asyncfork fails, 126 if CMD cannot be executed, \
    127 if it is not found, otherwise CMD's."
)]
pub struct Options {
    /// Run CMD also on a kernel without the feature, with default forks
    #[arg(long)]
    if_available: bool,

    /// Switch asynchronous forks off for CMD, where they were inherited
    #[arg(long)]
    off: bool,

    /// The command and its arguments
    #[arg(required = true, value_name = "CMD", trailing_var_arg = true)]
    command: Vec<OsString>,
}

impl Options {
    pub fn execute(self) -> ExitCode {
        match asyncfork::set_process(!self.off) {
            Err(error) if self.if_available && asyncfork::is_absent(&error) => {}
            Err(error) => return fail(FAILED, explain(error)),
            Ok(()) => {}
        }
        let (program, arguments) = self.command.split_first().expect("clap asks for one");
        let error = process::Command::new(program).args(arguments).exec();
        let status = if error.kind() == io::ErrorKind::NotFound {
            NOT_FOUND
        } else {
            CANNOT_EXECUTE
        };
        fail(
            status,
            anyhow::Error::new(error).context(program.to_string_lossy().into_owned()),
        )
    }
}

fn fail(status: u8, error: anyhow::Error) -> ExitCode {
    eprintln!("asyncfork: {error:#}");
    ExitCode::from(status)
}
