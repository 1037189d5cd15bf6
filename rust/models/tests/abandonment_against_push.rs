// SPDX-License-Identifier: GPL-2.0

//! Claim: when a child has let go of its session nobody copies to it any more, and its parent is
//! not held up.

#![cfg(loom)]

use models::{explore, parent, thread};

#[test]
fn the_child_exits_while_the_parent_writes() {
    explore("abandonment/one range", 8, || {
        let parent = parent(1);
        let process = parent.fork(&[0]);
        let child = process.spawn(|process| {
            // Takes its page tables down.
            process.exit()
        });
        parent.write(0, 1);
        child.join().unwrap();

        assert_eq!(parent.read(0), 1);
        assert!(parent.tracker.is_idle());
        assert!(process.is_alone());
        assert!(!process.is_killed());
    });
}

#[test]
fn the_child_exits_while_the_parent_writes_to_two_ranges() {
    explore("abandonment/two ranges", 4, || {
        let parent = parent(2);
        let process = parent.fork(&[0, 1]);
        let child = process.spawn(|process| process.exit());
        parent.write(0, 1);
        parent.write(1, 2);
        child.join().unwrap();

        assert_eq!((parent.read(0), parent.read(1)), (1, 2));
        assert!(parent.tracker.is_idle());
        assert!(process.is_alone());
    });
}

#[test]
fn the_child_exits_while_two_threads_of_the_parent_write() {
    explore("abandonment/two threads", 3, || {
        let parent = parent(1);
        let process = parent.fork(&[0]);
        let child = process.spawn(|process| process.exit());
        let other = thread::spawn({
            let parent = parent.clone();
            move || parent.write(0, 1)
        });
        parent.write(0, 1);
        child.join().unwrap();
        other.join().unwrap();

        assert_eq!(parent.read(0), 1);
        assert!(parent.tracker.is_idle());
        assert!(process.is_alone());
    });
}

#[test]
fn the_child_exits_while_a_claim_is_given_back() {
    explore("abandonment/claim given back", 8, || {
        let parent = parent(1);
        let process = parent.fork_unwinding(&[0], 0, 9);
        let child = process.spawn(|process| process.exit());
        parent.push_unwinding(0);
        child.join().unwrap();

        assert!(parent.tracker.is_idle());
        assert!(process.is_alone());
    });
}
