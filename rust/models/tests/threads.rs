// SPDX-License-Identifier: GPL-2.0

//! The same by threads of this machine: what loom and shuttle do not run, such as the checks of
//! spinlocks that sleep, runs here, and sanitizers and coverage see it. And what needs no threads.

#![cfg(not(any(loom, shuttle)))]

use kernel::{mm::async_pgtable::tracker::MAX_SESSIONS, prelude::*};
use models::{Done, Parent, RANGES, Stops, explore, initial, parent, thread};

#[test]
fn children_pullers_and_the_parent_want_everything() {
    explore("threads/all at once", 300, || {
        let parent = Parent::new(RANGES, 2, true);
        let all: Vec<_> = (0..RANGES).collect();
        let how = all
            .iter()
            .map(|&range| (range, if range % 3 == 0 { Stops } else { Done }));
        let how: Vec<_> = how.collect();
        let processes = [(); 2].map(|()| parent.fork_with(&all, &how));
        thread::scope(|scope| {
            for process in &processes {
                scope.spawn(|| process.copy());
                for _ in 0..2 {
                    scope.spawn(|| {
                        for range in 0..RANGES {
                            process.sees(range);
                        }
                    });
                }
            }
            for range in 0..RANGES {
                parent.write(range, 1);
                parent.discard(range, 2);
            }
        });

        assert!(parent.tracker.is_idle());
        for range in all {
            assert_eq!(parent.read(range), 2);
            assert!(!parent.is_protected(range));
        }
        for process in &processes {
            assert!(process.is_at_rest());
        }
    });
}

#[test]
fn children_exit_while_the_parent_wants_everything() {
    explore("threads/exit", 300, || {
        let parent = Parent::new(RANGES, 1, true);
        let all: Vec<_> = (0..RANGES).collect();
        let processes = [(); 2].map(|()| parent.fork(&all));
        thread::scope(|scope| {
            for process in &processes {
                scope.spawn(|| process.exit());
            }
            for range in 0..RANGES {
                parent.write(range, 1);
            }
        });

        assert!(parent.tracker.is_idle());
        assert!((0..RANGES).all(|range| parent.read(range) == 1));
        for process in &processes {
            assert!(process.is_at_rest());
        }
    });
}

#[test]
fn a_puller_sleeps_while_the_mapping_changes() {
    let parent = Parent::new(1, 2, true);
    let process = parent.fork_with(&[0], &[(0, Stops)]);
    thread::scope(|scope| {
        parent.change(|| {
            let puller = scope.spawn(|| process.sees(0));
            while parent.pauses() < 3 && !puller.is_finished() {
                thread::yield_now();
            }
        });
    });
    assert!(parent.tracker.is_idle());
    assert!(process.is_at_rest());
}

#[test]
fn there_are_so_many_sessions() {
    let parent = parent(RANGES);
    let fork = || parent.fork(&[0, 1]);
    let processes: Vec<_> = (0..MAX_SESSIONS + 2).map(|_| fork()).collect();
    for (nr, process) in processes.iter().enumerate() {
        assert_eq!(process.session.is_some(), nr < MAX_SESSIONS);
        assert!(!process.is_killed());
    }

    // One more as soon as one is gone, whichever it is.
    processes[3].exit();
    let late = fork();
    assert!(late.session.is_some());
    assert!(fork().session.is_none());

    // One write is for all of them.
    parent.write(1, 1);
    for (nr, process) in processes.iter().enumerate().filter(|(nr, _)| *nr != 3) {
        process.sees(0);
        process.sees(1);
        assert_eq!(process.expected[1], initial(1));
        assert!(process.is_at_rest(), "{nr}");
    }
    late.sees(1);
    late.copy();
    assert!(late.is_at_rest());
    assert!(parent.tracker.is_idle());
    assert!(!parent.is_protected(0));
}

#[test]
fn the_child_is_told_what_is_pending() {
    let parent = parent(4);
    let process = parent.fork(&[0, 1, 2]);
    assert_eq!(process.pending(), 3);
    process.sees(1);
    assert_eq!(process.pending(), 2);
    parent.fail_allocs(1);
    assert_eq!(process.pull(0, true), Err(EFAULT));
    assert_eq!(process.pending(), 0);
    assert!(process.is_killed());
    assert!(process.is_at_rest());
}
