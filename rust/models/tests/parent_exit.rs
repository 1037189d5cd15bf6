// SPDX-License-Identifier: GPL-2.0

//! Claim: when a parent that exits has settled everything, and waited for who is copying, nobody
//! looks at its mappings any more.

#![cfg(loom)]

use models::{Fails, Parent, Stops, explore, parent};

#[test]
fn the_parent_exits_while_the_child_copies() {
    explore("parent exit/child", 4, || {
        let parent = parent(1);
        let process = parent.fork(&[0]);
        let child = process.spawn(|process| process.copy());
        parent.exit();
        child.join().unwrap();
        process.sees(0);
        assert!(parent.tracker.is_idle());
        assert!(process.is_at_rest());
    });
}

#[test]
fn the_parent_exits_while_two_pull() {
    explore("parent exit/two pullers", 2, || {
        let parent = parent(2);
        let process = parent.fork(&[0, 1]);
        let pullers = [0, 1].map(|range| process.spawn(move |process| process.sees(range)));
        parent.exit();
        for puller in pullers {
            puller.join().unwrap();
        }
        assert!(parent.tracker.is_idle());
        assert!(process.is_at_rest());
    });
}

#[test]
fn the_parent_exits_while_a_copy_is_half_way() {
    explore("parent exit/half-way", 3, || {
        let parent = Parent::new(1, 2, false);
        let process = parent.fork_with(&[0], &[(0, Stops)]);
        let child = process.spawn(|process| process.copy());
        parent.exit();
        child.join().unwrap();
        process.sees(0);
        assert!(parent.tracker.is_idle());
        assert!(process.is_at_rest());
    });
}

#[test]
fn parent_and_child_exit() {
    explore("parent exit/both", 3, || {
        let parent = parent(1);
        let process = parent.fork(&[0]);
        let puller = process.spawn(|process| {
            let _ = process.read(0);
            process.exit();
        });
        parent.exit();
        puller.join().unwrap();
        assert!(parent.tracker.is_idle());
        assert!(process.is_at_rest());
    });
}

#[test]
fn the_parent_exits_while_the_session_fails() {
    explore("parent exit/failure", 3, || {
        let parent = parent(2);
        let process = parent.fork(&[0, 1]);
        parent.fail_allocs(1);
        let child = process.spawn(|process| process.copy_all());
        parent.exit();
        let copied = child.join().unwrap();
        assert_eq!(copied.is_err(), process.is_killed());
        assert!(parent.tracker.is_idle());
        assert!(process.is_at_rest());
    });
}

#[test]
fn the_parent_exits_while_the_session_fails_and_another_pulls() {
    explore("parent exit/failure and puller", 2, || {
        let parent = parent(2);
        let process = parent.fork_with(&[0, 1], &[(1, Fails)]);
        let puller = process.spawn(|process| {
            let _ = process.read(0);
        });
        let child = process.spawn(|process| assert!(process.pull(1, true).is_err()));
        parent.exit();
        puller.join().unwrap();
        child.join().unwrap();
        assert!(process.is_killed());
        assert!(parent.tracker.is_idle());
        assert!(process.is_at_rest());
    });
}
