// SPDX-License-Identifier: GPL-2.0

//! Claim: whatever a parent and its children do, each child has the memory of the moment of its
//! fork, or is killed, and the parent has its own.
//!
//! Long runs under random schedules, against an oracle: a list of what each range contained when
//! the child was forked.

#![cfg(shuttle)]

use std::sync::Arc;

use models::{Parent, Process, RANGES, addr, explore, thread};
use shuttle::rand::{Rng, thread_rng};

fn random(below: usize) -> usize {
    thread_rng().gen_range(0..below)
}

/// A thread of the parent that writes to every second range, so that the last one to write is
/// known.
fn writer(parent: Arc<Parent>, odd: usize, steps: usize) {
    for step in 0..steps {
        let range = random(RANGES / 2) * 2 + odd;
        let value = 1000 + 100 * step + range;
        match random(8) {
            0 => parent.push(range, RANGES),
            1 => assert!(!parent.tracker.overlaps(addr(RANGES), usize::MAX)),
            _ => {
                parent.write(range, value);
                assert_eq!(parent.read(range), value);
            }
        }
    }
}

/// Somebody who looks at the child. Returns whether all was as expected.
fn reader(process: &Process, steps: usize) -> bool {
    for _ in 0..steps {
        let range = random(RANGES);
        match process.read(range) {
            Ok(value) => assert_eq!(value, process.expected[range]),
            Err(_) => return false,
        }
    }
    true
}

/// A child, and a debugger.
fn child(process: Process, may_fail: bool) {
    let debugger = process.spawn(|process| reader(&process, 4));
    let mut good = reader(&process, random(4));
    let exits_early = random(4) == 0;
    if !exits_early && process.session.is_some() {
        good &= process.copy_all().is_ok();
        for range in 0..RANGES {
            match process.read(range) {
                Ok(value) => assert_eq!(value, process.expected[range]),
                Err(_) => good = false,
            }
        }
    }
    good &= debugger.join().unwrap();
    assert!(good || may_fail);
    process.exit();
    assert!(process.is_killed() || good);
}

fn run(forks: usize, may_fail: bool) {
    let parent = Parent::new(RANGES, true);
    let writers = [0, 1].map(|odd| {
        let parent = parent.clone();
        thread::spawn(move || writer(parent, odd, 6))
    });
    if may_fail {
        parent.fail_allocs(random(2));
    }
    let children: Vec<_> = (0..forks)
        .map(|_| {
            let deferred: Vec<_> = (0..RANGES).filter(|_| random(4) != 0).collect();
            let process = if may_fail && random(4) == 0 {
                parent.fork_failing(&deferred, random(RANGES))
            } else {
                parent.fork(&deferred)
            };
            thread::spawn(move || child(process, may_fail))
        })
        .collect();
    for writer in writers {
        writer.join().unwrap();
    }
    if may_fail && random(2) == 0 {
        parent.tracker.abort();
    } else if random(2) == 0 {
        parent.unmap();
    }
    for child in children {
        child.join().unwrap();
    }
    assert!(parent.tracker.is_idle());
}

#[test]
fn children_see_the_moment_of_their_fork() {
    explore("oracle/three children", 100_000, || run(3, false));
}

#[test]
fn failures_hurt_the_child_only() {
    explore("oracle/failures", 100_000, || run(3, true));
}
