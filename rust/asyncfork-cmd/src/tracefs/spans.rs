// SPDX-License-Identifier: GPL-2.0

//! How long something takes that the kernel has two events for, one where it begins and one where it
//! ends in the same thread.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Result;
use anyhow::bail;

use super::Instance;
use super::ROOT;
use super::require;

/// Traced from its making until it is dropped, which removes all of it.
pub struct Spans {
    instance: Instance,
    pairs: Pairs,
}

/// What has ended since the last time.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// How long each took (ns)
    pub ns: Vec<u64>,
    /// There were more than the buffer could hold
    pub lost: bool,
}

impl Spans {
    /// Traces what is between the events `begin` and `end`, as `group/name`, where `filter` is true
    /// of both, into `kib` KiB for each CPU.
    ///
    /// # Errors
    ///
    /// Those of tracefs: that it is not there, takes root, or that the kernel lacks the events.
    pub fn new(begin: &str, end: &str, filter: &str, kib: u64) -> Result<Self> {
        Self::at(Path::new(ROOT), [begin, end], filter, kib)
    }

    fn at(root: &Path, events: [&str; 2], filter: &str, kib: u64) -> Result<Self> {
        require(root)?;
        for event in events {
            if !root.join("events").join(event).exists() {
                bail!("this kernel has no event {event}");
            }
        }
        let instance = Instance::new(root, &Instance::name(), kib)?;
        let pairs = Pairs {
            begin: instance.enable(events[0], filter)?,
            end: instance.enable(events[1], filter)?,
            open: BTreeMap::new(),
        };
        instance.set("tracing_on", "1")?;
        Ok(Self { instance, pairs })
    }

    /// # Errors
    ///
    /// Those of tracefs.
    pub fn take(&mut self) -> Result<Taken> {
        let mut events = Vec::new();
        let whole = self.instance.take(|ns, event| {
            events.push((ns, event.number, event.thread));
        })?;
        Ok(self.pairs.take(events, whole))
    }
}

/// Which begin an end belongs to: that of its thread.
struct Pairs {
    /// The events' numbers
    begin: u16,
    end: u16,
    /// When each thread that is at it began
    open: BTreeMap<u32, u64>,
}

impl Pairs {
    /// Of times, numbers and threads, in any order.
    fn take(&mut self, mut events: Vec<(u64, u16, u32)>, whole: bool) -> Taken {
        events.sort_by_key(|(ns, ..)| *ns);
        let mut taken = Taken {
            lost: !whole,
            ..Taken::default()
        };
        if taken.lost {
            // The ends may be among what was lost.
            self.open.clear();
        }
        for (ns, number, thread) in events {
            if number == self.begin {
                self.open.insert(thread, ns);
            } else if number == self.end {
                let begin = self.open.remove(&thread);
                taken.ns.extend(begin.map(|begin| ns.saturating_sub(begin)));
            }
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn pairs() -> Pairs {
        Pairs {
            begin: 1,
            end: 2,
            open: BTreeMap::new(),
        }
    }

    #[test]
    fn each_thread_has_its_own() {
        let mut pairs = pairs();
        let events = vec![
            (10, 1, 100),
            (12, 1, 200),
            (15, 2, 200),
            (14, 2, 100),
            (20, 1, 100),
            (21, 9, 100),
        ];
        assert_eq!(pairs.take(events, true).ns, [4, 3]);
        // One that had begun before; and an end whose begin nobody saw.
        let events = vec![(25, 2, 100), (26, 2, 300)];
        assert_eq!(pairs.take(events, true).ns, [5]);
    }

    #[test]
    fn what_was_lost_pairs_with_nothing() {
        let mut pairs = pairs();
        assert_eq!(pairs.take(vec![(10, 1, 100)], true), Taken::default());
        let taken = pairs.take(vec![(90, 2, 100), (91, 1, 100), (93, 2, 100)], false);
        assert_eq!((taken.ns, taken.lost), (vec![2], true));
    }

    #[test]
    fn what_is_missing_is_named() {
        let root = tempfile::tempdir().unwrap();
        let error = || {
            let spans = Spans::at(root.path(), ["a/b", "a/c"], "x == 1", 64);
            format!("{:#}", spans.err().unwrap())
        };
        assert!(error().contains("mount -t tracefs"), "{}", error());
        fs::create_dir(root.path().join("instances")).unwrap();
        assert_eq!(error(), "this kernel has no event a/b");
        for event in ["a/b", "a/c"] {
            fs::create_dir_all(root.path().join("events").join(event)).unwrap();
        }
        // A directory that the kernel has put nothing in.
        assert!(error().contains("cannot write"), "{}", error());
    }

    /// On a kernel that lets this test: this thread's own sleep, of a length that is known.
    #[test]
    fn spans_of_this_thread() {
        const BEGIN: &str = "syscalls/sys_enter_clock_nanosleep";
        const END: &str = "syscalls/sys_exit_clock_nanosleep";
        // SAFETY: allowed at any time.
        let thread = unsafe { libc::gettid() };
        let filter = format!("common_pid == {thread}");
        let mut spans = match Spans::new(BEGIN, END, &filter, 64) {
            Ok(spans) => spans,
            Err(error) => {
                eprintln!("SKIP: {error:#}");
                return;
            }
        };
        for _ in 0..2 {
            std::thread::sleep(std::time::Duration::from_millis(20));
            let taken = spans.take().unwrap();
            assert!((20_000_000..2_000_000_000).contains(&taken.ns[0]));
            assert_eq!((taken.ns.len(), taken.lost), (1, false));
        }
        let path = spans.instance.path.clone();
        assert!(path.exists());
        drop(spans);
        assert!(!path.exists());
    }
}
