// SPDX-License-Identifier: GPL-2.0

//! Claim: a copy that stops half-way is gone on with by whoever comes next, who skips what the
//! child has.

#![cfg(loom)]

use models::{Parent, Stops, explore};

#[test]
fn child_and_puller_take_turns() {
    explore("resumption/child and puller", 4, || {
        let parent = Parent::new(1, 2, false);
        let process = parent.fork_with(&[0], &[(0, Stops)]);
        let child = process.spawn(|process| process.copy());
        process.sees(0);
        child.join().unwrap();

        assert!(!parent.is_protected(0));
        assert!(parent.tracker.is_idle());
        assert!(process.is_at_rest());
    });
}

#[test]
fn child_and_parent_take_turns() {
    explore("resumption/child and parent", 4, || {
        let parent = Parent::new(1, 2, false);
        let process = parent.fork_with(&[0], &[(0, Stops)]);
        let child = process.spawn(|process| process.copy());
        // Is not let through while only half is copied.
        parent.write(0, 1);
        child.join().unwrap();

        process.sees(0);
        assert_eq!(parent.read(0), 1);
        assert!(parent.tracker.is_idle());
        assert!(process.is_at_rest());
    });
}

#[test]
fn the_child_exits_half_way() {
    explore("resumption/exit", 4, || {
        let parent = Parent::new(1, 2, false);
        let process = parent.fork_with(&[0], &[(0, Stops)]);
        let child = process.spawn(|process| process.exit());
        parent.write(0, 1);
        child.join().unwrap();

        assert_eq!(parent.read(0), 1);
        assert!(parent.tracker.is_idle());
        assert!(process.is_at_rest());
    });
}

#[test]
fn who_goes_on_has_no_memory() {
    explore("resumption/no memory", 4, || {
        let parent = Parent::new(1, 2, false);
        let process = parent.fork_with(&[0], &[(0, Stops)]);
        let child = process.spawn(|process| process.copy_all());
        parent.fail_allocs(1);
        // Here or there.
        let read = process.read(0);
        let copied = child.join().unwrap();

        assert_eq!(copied.is_err(), process.is_killed());
        if process.is_killed() {
            assert!(process.read(0).is_err());
        } else {
            assert!(read.is_ok() || copied.is_ok());
            process.sees(0);
        }
        assert!(parent.tracker.is_idle());
        process.exit();
        assert!(process.is_at_rest());
    });
}
