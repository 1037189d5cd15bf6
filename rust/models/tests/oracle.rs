// SPDX-License-Identifier: GPL-2.0

//! Claim: whatever a parent and its children do, each child has the memory of the moment of its
//! fork, or is killed, and the parent has its own.
//!
//! Long runs under random schedules, against an oracle: a list of what each range contained when
//! the child was forked.

#![cfg(shuttle)]

use std::sync::Arc;

use kernel::prelude::*;
use models::{Done, Fails, Parent, Process, RANGES, Stops, addr, explore, thread};
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
        match random(10) {
            0 => parent.push(range, RANGES),
            1 => assert!(!parent.tracker.overlaps(addr(RANGES), usize::MAX)),
            2 | 3 => {
                parent.discard(range, value);
                assert_eq!(parent.read(range), value);
            }
            _ => {
                parent.write(range, value);
                assert_eq!(parent.read(range), value);
            }
        }
    }
}

/// Somebody looks at a range. Returns whether the child is as expected.
fn look(process: &Process, range: usize) -> bool {
    match process.read(range) {
        Ok(value) => assert_eq!(value, process.expected[range]),
        // No memory for who looks.
        Err(ENOMEM) => {}
        Err(_) => return false,
    }
    true
}

/// Somebody who looks at the child.
fn reader(process: &Process, steps: usize) -> bool {
    (0..steps).all(|_| look(process, random(RANGES)))
}

/// A child, and a debugger. Returns whether all was as expected.
fn child(process: Process) -> bool {
    let debugger = process.spawn(|process| reader(&process, 4));
    let mut good = reader(&process, random(4));
    let exits_early = random(4) == 0;
    if !exits_early && process.session.is_some() {
        good &= process.copy_all().is_ok();
        good &= (0..RANGES).all(|range| look(&process, range));
    }
    good &= debugger.join().unwrap();
    process.exit();
    good
}

fn run(forks: usize, may_fail: bool) {
    let parent = Parent::new(RANGES, 2, true);
    let writers = [0, 1].map(|odd| {
        let parent = parent.clone();
        thread::spawn(move || writer(parent, odd, 6))
    });
    if may_fail {
        parent.fail_allocs(random(3));
    }
    let children: Vec<_> = (0..forks)
        .map(|_| {
            let deferred: Vec<_> = (0..RANGES).filter(|_| random(4) != 0).collect();
            let mut how: Vec<_> = (0..RANGES)
                .map(|range| (range, if random(3) == 0 { Stops } else { Done }))
                .collect();
            if may_fail && random(4) == 0 {
                let range = random(RANGES);
                if deferred.contains(&range) {
                    how.push((range, Fails));
                }
            }
            let process = parent.fork_with(&deferred, &how);
            (process.clone(), thread::spawn(move || child(process)))
        })
        .collect();
    for writer in writers {
        writer.join().unwrap();
    }
    if may_fail && random(3) == 0 {
        parent.tracker.abort();
    }
    match random(3) {
        0 => parent.unmap(),
        1 => parent.exit(),
        _ => {}
    }
    let processes: Vec<_> = children
        .into_iter()
        .map(|(process, child)| (process, child.join().unwrap()))
        .collect();
    for (process, good) in processes {
        assert!(may_fail || good && !process.is_killed());
        // Whoever is told of a failure, the child is killed for it.
        assert!(good || process.is_killed());
        assert!(process.is_at_rest());
    }
    assert!(parent.tracker.is_idle());
}

#[test]
fn children_see_the_moment_of_their_fork() {
    explore("oracle/three children", 20_000, || run(3, false));
}

#[test]
fn failures_hurt_the_child_only() {
    explore("oracle/failures", 20_000, || run(3, true));
}

#[test]
fn a_parent_helps_from_what_it_has_locked() {
    explore("oracle/help", 2000, || {
        let parent = Parent::new(2, 1, true);
        let process = parent.fork(&[0, 1]);
        let pullers = [0, 1].map(|range| process.spawn(move |process| process.sees(range)));
        // Somebody may wait for the other mapping meanwhile.
        for _ in 0..3 {
            parent.help(1, 2);
        }
        for puller in pullers {
            puller.join().unwrap();
        }
        assert!(parent.tracker.is_idle());
        assert!(process.is_at_rest());
    });
}
