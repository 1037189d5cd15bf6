// SPDX-License-Identifier: GPL-2.0

//! Claim: every range is copied exactly once, whoever wants it, and the child has the memory of
//! the moment of the fork.

#![cfg(loom)]

use models::{explore, parent, thread};

#[test]
fn child_puller_and_parent_want_one_range() {
    explore("claims/one range, three parties", 3, || {
        let parent = parent(1);
        let process = parent.fork(&[0]);
        let puller = process.spawn(|process| process.sees(0));
        let child = process.spawn(|process| process.copy());
        parent.write(0, 1);
        assert_eq!(parent.read(0), 1);
        puller.join().unwrap();
        child.join().unwrap();

        process.sees(0);
        assert!(parent.tracker.is_idle());
        assert!(process.is_at_rest());
    });
}

#[test]
fn two_pullers_want_one_range() {
    explore("claims/one range, two pullers", 6, || {
        let parent = parent(1);
        let process = parent.fork(&[0]);
        let other = process.spawn(|process| process.sees(0));
        process.sees(0);
        other.join().unwrap();
        assert!(parent.tracker.is_idle());
        assert!(process.is_at_rest());
    });
}

#[test]
fn two_threads_of_the_parent_want_one_range() {
    explore("claims/one range, two threads", 3, || {
        let parent = parent(1);
        let process = parent.fork(&[0]);
        let other = thread::spawn({
            let parent = parent.clone();
            move || parent.write(0, 1)
        });
        parent.write(0, 1);
        other.join().unwrap();
        assert_eq!(parent.read(0), 1);
        process.sees(0);
        assert!(parent.tracker.is_idle());
        assert!(process.is_at_rest());
    });
}

#[test]
fn child_and_parent_meet_on_two_ranges() {
    explore("claims/two ranges, two parties", 3, || {
        let parent = parent(2);
        let process = parent.fork(&[0, 1]);
        let child = process.spawn(|process| process.copy());
        parent.write(1, 1);
        parent.write(0, 2);
        child.join().unwrap();

        process.sees(0);
        process.sees(1);
        assert_eq!((parent.read(0), parent.read(1)), (2, 1));
        assert!(parent.tracker.is_idle());
        assert!(!parent.is_protected(0) && !parent.is_protected(1));
        assert!(process.is_at_rest());
    });
}

#[test]
fn child_and_parent_meet_on_one_of_two_ranges() {
    explore("claims/one of two ranges", 3, || {
        let parent = parent(2);
        let process = parent.fork(&[0, 1]);
        let child = process.spawn(|process| process.copy());
        parent.write(0, 1);
        child.join().unwrap();

        process.sees(0);
        process.sees(1);
        assert!(parent.tracker.is_idle());
        assert!(process.is_at_rest());
    });
}
