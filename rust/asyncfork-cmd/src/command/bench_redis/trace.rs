// SPDX-License-Identifier: GPL-2.0

//! Every interruption of the server in the window of a snapshot, by its cause.
//!
//! The kernel is asked when the server's thread, the one that forks and answers, enters and leaves
//! a few of its functions. What is within another is taken out of that: a push in a page fault is
//! a push, and the rest of the fault a fault.

use std::collections::BTreeMap;
use std::fmt;

use anyhow::Result;
use serde::Deserialize;
use serde::Serialize;

use super::record::Save;
use super::record::figures_of;
use super::record::those_with;
use crate::command::Mode;
use crate::figures::Figure;
use crate::figures::Unit;
use crate::report::Latencies;
use crate::report::time;
use crate::tracefs;
use crate::tracefs::Probe;

/// KiB of trace for each MiB of data and for each CPU: an event takes up to 28 bytes, and each of
/// 256 pages makes three, once in a window.
const KIB_PER_MIB: u64 = 24;
/// KiB for other faults.
const KIB: u64 = 4096;

/// What the kernel tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    Begin(Span),
    End(Span),
    /// A page that was mapped is being replaced by another: a copy of it
    Copied,
}

/// A function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Span {
    Call,
    Push,
    Fault,
}

/// Functions that are never inlined: they are called from other files, or from the other language.
impl Span {
    fn function(self) -> &'static str {
        match self {
            Self::Call => "kernel_clone",
            Self::Push => "async_pgtable_tracker_push",
            Self::Fault => "handle_mm_fault",
        }
    }
}
/// In a page fault, it is called for a copy on write only.
const COPIED: &str = "ptep_clear_flush";

/// Why the server was interrupted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// The fork call
    Freeze,
    /// Pages tables that the parent copies for the child
    Push,
    /// Page faults that copy a page, without pushes in them
    CopyOnWrite,
    /// Other page faults, without pushes in them
    OtherFault,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Freeze => "freeze",
            Self::Push => "push",
            Self::CopyOnWrite => "copy-on-write fault",
            Self::OtherFault => "other fault",
        })
    }
}

/// All interruptions of one window.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Interruptions {
    pub causes: BTreeMap<Cause, Times>,
    /// Of whole interruptions, as they are between the first thing that the kernel enters and the
    /// last one that it leaves
    pub total_ns: u64,
    pub longest: Option<Longest>,
}

/// Those of one cause.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Times {
    pub count: u64,
    pub total_ns: u64,
    pub longest_ns: u64,
    /// By logarithm: how many were of at least 2^n ns, and of less than 2^(n + 1)
    pub log2: Vec<u64>,
    pub times: Latencies,
}

/// The longest single interruption, whole.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Longest {
    /// The longest part of it first
    pub causes: Vec<Cause>,
    pub ns: u64,
}

impl Times {
    fn add(&mut self, ns: u64) {
        let power = ns.max(1).ilog2() as usize;
        if self.log2.len() <= power {
            self.log2.resize(power + 1, 0);
        }
        self.log2[power] += 1;
        self.count += 1;
        self.total_ns += ns;
        self.longest_ns = self.longest_ns.max(ns);
        self.times.record(ns);
    }
}

/// A function that has been entered.
struct Open {
    span: Span,
    since: u64,
    /// What others took that were entered in it
    within: u64,
    copied: bool,
}

impl Open {
    fn cause(&self) -> Cause {
        match self.span {
            Span::Call => Cause::Freeze,
            Span::Push => Cause::Push,
            Span::Fault if self.copied => Cause::CopyOnWrite,
            Span::Fault => Cause::OtherFault,
        }
    }
}

impl Interruptions {
    /// Of marks in the order of their times (ns).
    pub fn of(marks: impl IntoIterator<Item = (u64, Mark)>) -> Self {
        let mut all = Self::default();
        let mut open: Vec<Open> = Vec::new();
        let mut parts: Vec<(u64, Cause)> = Vec::new();
        for (now, mark) in marks {
            match mark {
                // The call is one thing, whatever happens in it.
                _ if open.last().is_some_and(|open| open.span == Span::Call)
                    && mark != Mark::End(Span::Call) => {}
                Mark::Begin(span) => {
                    // None is entered twice: one whose end the kernel did not see.
                    if let Some(lost) = open.iter().position(|open| open.span == span) {
                        open.truncate(lost);
                    }
                    if open.is_empty() {
                        parts.clear();
                    }
                    open.push(Open {
                        span,
                        since: now,
                        within: 0,
                        copied: false,
                    });
                }
                Mark::Copied => {
                    if let Some(open) = open.last_mut() {
                        open.copied = true;
                    }
                }
                Mark::End(span) => {
                    // One that began before the window, or whose end the kernel did not see.
                    let Some(place) = open.iter().rposition(|open| open.span == span) else {
                        continue;
                    };
                    open.truncate(place + 1);
                    let Some(ended) = open.pop() else { continue };
                    let whole = now - ended.since;
                    parts.push((whole - ended.within, ended.cause()));
                    match open.last_mut() {
                        Some(outer) => outer.within += whole,
                        None => all.add(whole, &mut parts),
                    }
                }
            }
        }
        all
    }

    /// One interruption, which goes on for `whole`, and has `parts`, which are taken.
    fn add(&mut self, whole: u64, parts: &mut Vec<(u64, Cause)>) {
        for (ns, cause) in &*parts {
            self.causes.entry(*cause).or_default().add(*ns);
        }
        self.total_ns += whole;
        parts.sort_by(|a, b| b.cmp(a));
        if self
            .longest
            .as_ref()
            .is_none_or(|longest| longest.ns < whole)
        {
            self.longest = Some(Longest {
                causes: parts.iter().map(|(_, cause)| *cause).collect(),
                ns: whole,
            });
        }
        parts.clear();
    }

    /// How long those of `causes` took.
    fn total(&self, causes: &[Cause]) -> u64 {
        let of = |cause| self.causes.get(cause).map_or(0, |times| times.total_ns);
        causes.iter().map(of).sum()
    }

    fn count(&self, cause: Cause) -> u64 {
        self.causes.get(&cause).map_or(0, |times| times.count)
    }
}

impl fmt::Display for Longest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut names: Vec<String> = self.causes.iter().map(Cause::to_string).collect();
        names.dedup();
        write!(f, "{} ({})", time(self.ns as f64), names.join(" with "))
    }
}

/// Traces one thread.
pub struct Tracer(tracefs::Tracer<Mark>);

impl Tracer {
    /// Of `thread`, which has `mb` MiB of data, on a kernel that can `push` or cannot.
    ///
    /// # Errors
    ///
    /// Those of tracefs.
    pub fn new(thread: u32, mb: u64, push: bool) -> Result<Self> {
        let mut marks = vec![(
            Mark::Copied,
            Probe {
                function: COPIED,
                returns: false,
            },
        )];
        for span in [Span::Call, Span::Push, Span::Fault] {
            if span == Span::Push && !push {
                continue;
            }
            let function = span.function();
            for (mark, returns) in [(Mark::Begin(span), false), (Mark::End(span), true)] {
                marks.push((mark, Probe { function, returns }));
            }
        }
        tracefs::Tracer::new(&marks, thread, KIB + KIB_PER_MIB * mb).map(Self)
    }

    /// Begins a window.
    ///
    /// # Errors
    ///
    /// Those of tracefs.
    pub fn start(&self) -> Result<()> {
        self.0.start()
    }

    /// Ends it.
    ///
    /// # Errors
    ///
    /// Those of tracefs.
    pub fn stop(&self) -> Result<()> {
        self.0.stop()
    }

    /// # Errors
    ///
    /// Those of tracefs, and that there was no room for all of it.
    pub fn take(&self) -> Result<Interruptions> {
        self.0.take().map(Interruptions::of)
    }
}

/// A figure of a traced save.
type Part = (&'static str, Unit, fn(&Interruptions) -> u64);
const PARTS: [Part; 11] = [
    (
        "out of service for page tables: freeze and pushes",
        Unit::Time,
        |i| i.total(&[Cause::Freeze, Cause::Push]),
    ),
    ("out of service in all", Unit::Time, |i| i.total_ns),
    ("out of service: freeze", Unit::Time, |i| {
        i.total(&[Cause::Freeze])
    }),
    ("out of service: pushes", Unit::Time, |i| {
        i.total(&[Cause::Push])
    }),
    ("out of service: copy-on-write faults", Unit::Time, |i| {
        i.total(&[Cause::CopyOnWrite])
    }),
    ("out of service: other faults", Unit::Time, |i| {
        i.total(&[Cause::OtherFault])
    }),
    ("longest interruption", Unit::Time, |i| {
        i.longest.as_ref().map_or(0, |longest| longest.ns)
    }),
    ("copy-on-write fault: p50 of a window", Unit::Time, |i| {
        let copies = i.causes.get(&Cause::CopyOnWrite);
        copies.map_or(0, |copies| copies.times.percentile(50.0))
    }),
    ("pushes", Unit::Number, |i| i.count(Cause::Push)),
    ("copy-on-write faults", Unit::Number, |i| {
        i.count(Cause::CopyOnWrite)
    }),
    ("other faults", Unit::Number, |i| i.count(Cause::OtherFault)),
];

fn traced(saves: &[Save], mode: Mode) -> impl Iterator<Item = &Interruptions> {
    those_with(saves, mode, |save| save.interruptions.as_ref())
}

/// What `asyncfork bench report` says of the saves that were traced.
pub fn figures(saves: &[Save]) -> Vec<Figure> {
    let number = |(name, unit, figure): Part| {
        let figure = move |i: &Interruptions| Some(figure(i) as f64);
        (name, unit, figure)
    };
    figures_of(saves, |save| save.interruptions.as_ref(), PARTS.map(number))
}

/// The longest interruption in each mode, by name.
pub fn notes(saves: &[Save]) -> Vec<String> {
    let note = |mode| {
        let longest = traced(saves, mode).filter_map(|i| i.longest.as_ref());
        let longest = longest.max_by_key(|longest| longest.ns)?;
        Some(format!("longest interruption, {mode}: {longest}"))
    };
    Mode::BOTH.into_iter().filter_map(note).collect()
}

/// How many of `cause` there were in all windows in `mode`, by logarithm of how long they took.
pub fn log2(saves: &[Save], mode: Mode, cause: Cause) -> Vec<u64> {
    let mut sum = Vec::new();
    for times in traced(saves, mode).filter_map(|i| i.causes.get(&cause)) {
        sum.resize(sum.len().max(times.log2.len()), 0);
        sum.iter_mut()
            .zip(&times.log2)
            .for_each(|(sum, count)| *sum += count);
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn begin(ns: u64, span: Span) -> (u64, Mark) {
        (ns, Mark::Begin(span))
    }

    const fn end(ns: u64, span: Span) -> (u64, Mark) {
        (ns, Mark::End(span))
    }

    fn of(marks: &[(u64, Mark)]) -> Interruptions {
        Interruptions::of(marks.iter().copied())
    }

    fn total(interruptions: &Interruptions, cause: Cause) -> (u64, u64) {
        (interruptions.count(cause), interruptions.total(&[cause]))
    }

    /// A call with a fault in it, a fault that pushes and copies, one that does neither, and a push
    /// of its own.
    const WINDOW: [(u64, Mark); 14] = [
        begin(100, Span::Call),
        begin(110, Span::Fault),
        (115, Mark::Copied),
        end(120, Span::Fault),
        end(300, Span::Call),
        begin(1000, Span::Fault),
        begin(1010, Span::Push),
        end(1050, Span::Push),
        (1060, Mark::Copied),
        end(1100, Span::Fault),
        begin(2000, Span::Fault),
        end(2007, Span::Fault),
        begin(3000, Span::Push),
        end(3016, Span::Push),
    ];

    #[test]
    fn each_cause_has_its_own() {
        let window = of(&WINDOW);
        assert_eq!(total(&window, Cause::Freeze), (1, 200));
        assert_eq!(total(&window, Cause::Push), (2, 40 + 16));
        assert_eq!(total(&window, Cause::CopyOnWrite), (1, 100 - 40));
        assert_eq!(total(&window, Cause::OtherFault), (1, 7));
        let pushes = &window.causes[&Cause::Push];
        assert_eq!(pushes.log2, [0, 0, 0, 0, 1, 1], "16 and 40");
        assert_eq!(pushes.longest_ns, 40);
        assert_eq!(pushes.times.count(), 2);
    }

    #[test]
    fn causes_add_up() {
        let window = of(&WINDOW);
        assert_eq!(window.total_ns, 200 + 100 + 7 + 16);
        let causes = window.causes.values().map(|times| times.total_ns);
        assert_eq!(causes.sum::<u64>(), window.total_ns);
        for times in window.causes.values() {
            assert_eq!(times.log2.iter().sum::<u64>(), times.count);
        }
    }

    /// A fault that was made to take a millisecond is the longest, and the whole of it is named.
    #[test]
    fn a_known_pause_is_the_longest() {
        let mut window = WINDOW;
        assert_eq!(of(&window).longest.unwrap().causes, [Cause::Freeze]);
        window[9..].iter_mut().for_each(|(ns, _)| *ns += 1_000_000);
        let window = of(&window);
        assert_eq!(total(&window, Cause::CopyOnWrite), (1, 1_000_060));
        let longest = window.longest.unwrap();
        assert_eq!(longest.ns, 1_000_100);
        assert_eq!(
            longest.to_string(),
            "1.00 ms (copy-on-write fault with push)"
        );
    }

    #[test]
    fn what_is_cut_off_does_not_count() {
        let window = of(&[
            end(5, Span::Fault),
            begin(10, Span::Fault),
            // Ends that were not seen.
            begin(20, Span::Push),
            end(40, Span::Fault),
            begin(50, Span::Fault),
            begin(51, Span::Push),
            end(53, Span::Push),
            begin(60, Span::Fault),
            end(64, Span::Fault),
            begin(70, Span::Fault),
        ]);
        assert_eq!(total(&window, Cause::OtherFault), (2, 34));
        assert_eq!((window.total_ns, window.causes.len()), (34, 1));
        assert_eq!(of(&[]), Interruptions::default());
    }

    #[test]
    fn json_round_trip() {
        let json = serde_json::to_string(&of(&WINDOW)).unwrap();
        assert_eq!(
            serde_json::from_str::<Interruptions>(&json).unwrap(),
            of(&WINDOW)
        );
        assert!(json.contains(r#""copy_on_write":{"count":1"#), "{json}");
    }
}
