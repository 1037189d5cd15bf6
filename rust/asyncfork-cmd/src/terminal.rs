// SPDX-License-Identifier: GPL-2.0

//! What is drawn anew in its place, where a terminal is; and signs of life while something takes
//! long.

use std::env;
use std::io;
use std::io::IsTerminal;
use std::io::Write;
use std::sync::mpsc;
use std::thread;
use std::thread::JoinHandle;
use std::time::Duration;
use std::time::Instant;

use anyhow::Result;

use crate::report;

/// Levels of a history, from nothing to all.
const LEVELS: &str = "▁▂▃▄▅▆▇█";
/// The same for a terminal that has only ASCII.
const ASCII_LEVELS: &str = "_.:-=+*#";

/// Lines of standard output that are drawn again and again.
#[derive(Default)]
pub struct Screen {
    /// How many there are
    drawn: usize,
}

impl Screen {
    /// None if standard output is no terminal on which one can draw.
    pub fn new() -> Option<Self> {
        let dumb = env::var("TERM").is_ok_and(|term| term == "dumb");
        (io::stdout().is_terminal() && !dumb).then(Self::default)
    }

    /// Puts `lines` where the last ones were, as far as there is room; whether somebody still reads.
    pub fn draw(&mut self, lines: &[String]) -> Result<bool> {
        report::print_to_reader(&self.text(lines, size()))
    }

    fn text(&mut self, lines: &[String], (columns, rows): (usize, usize)) -> String {
        let mut text = String::new();
        if self.drawn > 0 {
            text = format!("\x1b[{}A", self.drawn);
        }
        // The cursor is below the last one, and the last column makes some terminals wrap.
        let shown = &lines[..lines.len().min(rows.saturating_sub(1))];
        for line in shown {
            text.extend(line.chars().take(columns.saturating_sub(1)));
            text.push_str("\x1b[K\n");
        }
        // What is left of before, of a terminal that was larger
        text.push_str("\x1b[J");
        self.drawn = shown.len();
        text
    }
}

/// Columns and rows of standard output's terminal.
fn size() -> (usize, usize) {
    // SAFETY: all-zero is a valid `winsize`.
    let mut size: libc::winsize = unsafe { std::mem::zeroed() };
    // SAFETY: `size` is valid for writes.
    unsafe { libc::ioctl(libc::STDOUT_FILENO, libc::TIOCGWINSZ, &raw mut size) };
    // A serial line knows neither.
    let or = |known: u16, default| match known {
        0 => default,
        known => usize::from(known),
    };
    (or(size.ws_col, 80), or(size.ws_row, 24))
}

/// The levels that this user's terminal can show.
pub fn levels() -> &'static str {
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"]
        .iter()
        .find_map(|name| env::var(name).ok().filter(|value| !value.is_empty()))
        .unwrap_or_default()
        .to_lowercase();
    match locale.contains("utf-8") || locale.contains("utf8") {
        true => LEVELS,
        false => ASCII_LEVELS,
    }
}

/// One of `levels` for each value, the highest for the largest; a space for none.
pub fn sparkline(values: impl Iterator<Item = u64> + Clone, levels: &str) -> String {
    let largest = values.clone().max().unwrap_or(0).max(1);
    let levels: Vec<char> = levels.chars().collect();
    let level = |value: u64| match value {
        0 => ' ',
        value => levels[(value * levels.len() as u64).div_ceil(largest) as usize - 1],
    };
    values.map(level).collect()
}

/// Says on standard error every now and then that something goes on, if it takes over two seconds:
/// in place on a terminal, seldom in lines elsewhere. Dropping it ends that.
pub struct Progress {
    end: mpsc::Sender<()>,
    teller: Option<JoinHandle<()>>,
}

impl Progress {
    const FIRST: Duration = Duration::from_secs(2);

    /// Of what `told` says at that moment.
    pub fn new(told: impl Fn() -> String + Send + 'static) -> Self {
        let (end, ended) = mpsc::channel();
        let teller = thread::spawn(move || {
            let here = io::stderr().is_terminal();
            let begin = Instant::now();
            let (mut wait, mut drawn) = (Self::FIRST, false);
            while ended.recv_timeout(wait) == Err(mpsc::RecvTimeoutError::Timeout) {
                let seconds = begin.elapsed().as_secs();
                let line = format!("asyncfork: {}, {seconds} s so far", told());
                if here {
                    eprint!("\r{line}\x1b[K");
                } else {
                    eprintln!("{line}");
                }
                (wait, drawn) = (Duration::from_secs(if here { 1 } else { 10 }), here);
            }
            if drawn {
                eprint!("\r\x1b[K");
            }
            let _ = io::stderr().flush();
        });
        Self {
            end,
            teller: Some(teller),
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        let _ = self.end.send(());
        if let Some(teller) = self.teller.take() {
            let _ = teller.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drawn_in_place() {
        let mut screen = Screen::default();
        let lines = ["one", "two, which is long"].map(String::from);
        let first = screen.text(&lines, (10, 24));
        assert_eq!(first, "one\x1b[K\ntwo, whic\x1b[K\n\x1b[J");
        let again = screen.text(&lines[..1], (80, 24));
        assert_eq!(again, "\x1b[2Aone\x1b[K\n\x1b[J");
        let low = screen.text(&lines, (80, 2));
        assert_eq!(low, "\x1b[1Aone\x1b[K\n\x1b[J");
    }

    #[test]
    fn sparklines() {
        let line = |values: &[u64]| sparkline(values.iter().copied(), LEVELS);
        assert_eq!(line(&[0, 1, 400, 800]), " ▁▄█");
        assert_eq!(line(&[0, 0]), "  ");
        assert_eq!(line(&[]), "");
        assert_eq!(sparkline([1, 8].into_iter(), ASCII_LEVELS), "_#");
    }

    #[test]
    fn progress_ends_at_once() {
        let begin = Instant::now();
        drop(Progress::new(String::new));
        assert!(begin.elapsed() < Progress::FIRST);
    }
}
