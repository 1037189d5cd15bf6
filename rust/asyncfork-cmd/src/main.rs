// SPDX-License-Identifier: GPL-2.0

//! The command `asyncfork`.

mod command;
mod figures;
mod huge_pages;
mod interrupt;
mod knobs;
mod machine;
mod memory;
mod paper;
mod redis;
mod report;
mod same_pages;
mod terminal;
mod tracefs;

use std::env;
use std::process::ExitCode;

use clap::Parser;

use command::Command;

/// Forks that copy their page tables after the call (CLONE_ASYNC_PGTABLE).
#[derive(Parser)]
#[command(
    name = "asyncfork",
    version,
    max_term_width = 100,
    args_override_self = true
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            let _ = error.print();
            return usage_status(&error);
        }
    };
    match arguments.command.execute() {
        Ok(status) => status,
        Err(error) => match interrupt::status() {
            Some(status) => {
                eprintln!("asyncfork: interrupted");
                ExitCode::from(status)
            }
            None => {
                eprintln!("asyncfork: {error:#}");
                ExitCode::FAILURE
            }
        },
    }
}

/// 2 for wrong arguments, but 125 for `run`, whose other statuses belong to the command it starts.
fn usage_status(error: &clap::Error) -> ExitCode {
    match error.exit_code() {
        0 => ExitCode::SUCCESS,
        _ if env::args().nth(1).as_deref() == Some("run") => ExitCode::from(command::run::FAILED),
        status => ExitCode::from(status as u8),
    }
}
