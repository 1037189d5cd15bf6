// SPDX-License-Identifier: GPL-2.0

//! `asyncfork generate`: man pages and completions, from the same source as the arguments.

use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use anyhow::Result;
use clap::Command;
use clap::CommandFactory;
use clap_complete::Shell;
use clap_mangen::Man;

use crate::Arguments;

/// Write man pages and completions for bash, zsh and fish
#[derive(clap::Args)]
pub struct Options {
    /// Where to; it is made if it is not there
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

impl Options {
    pub fn execute(self) -> Result<ExitCode> {
        let out = &self.out;
        let failed = || {
            format!(
                "cannot write to {}: name a directory that can",
                out.display()
            )
        };
        fs::create_dir_all(out).with_context(failed)?;
        let mut command = Arguments::command().disable_help_subcommand(true);
        command.build();
        pages(&command, out).with_context(failed)?;
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let name = command.get_name().to_owned();
            clap_complete::generate_to(shell, &mut visible(Arguments::command()), name, out)
                .with_context(failed)?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Without what is hidden: completions would offer it.
fn visible(command: Command) -> Command {
    let shown: Vec<Command> = (command.get_subcommands())
        .filter(|command| !command.is_hide_set())
        .cloned()
        .collect();
    // There is no way to take one away.
    let top = Command::new("asyncfork").version(env!("CARGO_PKG_VERSION"));
    let about = command.get_about().cloned().unwrap_or_default();
    top.about(about).subcommands(shown)
}

/// A page for `command`, and for each below it.
fn pages(command: &Command, out: &Path) -> Result<()> {
    let page = Man::new(command.clone())
        .source(concat!("asyncfork ", env!("CARGO_PKG_VERSION")))
        .manual("User Commands");
    let name = page.get_filename();
    let mut text = Vec::new();
    page.render(&mut text)?;
    fs::write(out.join(name), edit(&String::from_utf8(text)?))?;
    let mut shown = command.get_subcommands().filter(|c| !c.is_hide_set());
    shown.try_for_each(|command| pages(command, out))
}

/// What is said after the help of options has a section of its own here, which its text names.
fn edit(page: &str) -> String {
    const STATUS: &str = "Exit status: ";
    let page = page.replace(&format!(".SH EXTRA\n{STATUS}"), ".SH \"EXIT STATUS\"\n");
    page.replace(".SH EXTRA\n", ".SH NOTES\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_well_formed() {
        Arguments::command().debug_assert();
        visible(Arguments::command()).debug_assert();
    }

    #[test]
    fn sections_that_manuals_have() {
        let page = edit(".SH OPTIONS\nx\n.SH EXTRA\nExit status: 0 if so\n");
        assert_eq!(page, ".SH OPTIONS\nx\n.SH \"EXIT STATUS\"\n0 if so\n");
        assert_eq!(edit(".SH EXTRA\nMore\n"), ".SH NOTES\nMore\n");
    }

    #[test]
    fn a_page_for_each_subcommand() {
        let out = tempfile::tempdir().unwrap();
        let mut command = Arguments::command().disable_help_subcommand(true);
        command.build();
        pages(&command, out.path()).unwrap();
        for name in ["asyncfork", "asyncfork-doctor", "asyncfork-bench-fork"] {
            let page = fs::read_to_string(out.path().join(format!("{name}.1"))).unwrap();
            assert!(page.contains(".SH SYNOPSIS"), "{name}");
        }
        assert!(!out.path().join("asyncfork-generate.1").exists(), "hidden");
        let run = fs::read_to_string(out.path().join("asyncfork-run.1")).unwrap();
        assert!(run.contains(".SH \"EXIT STATUS\"\n125 if"), "{run}");
    }
}
