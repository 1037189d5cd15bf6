// SPDX-License-Identifier: GPL-2.0

//! Claim: every range is copied exactly once, whoever wants it, and the child has the memory of
//! the moment of the fork.

#![cfg(loom)]

use models::{explore, initial, parent};

#[test]
fn child_puller_and_parent_want_one_range() {
    explore("claims/one range, three parties", 3, || {
        let parent = parent(1);
        let process = parent.fork(&[0]);
        let puller = process.spawn(|process| assert_eq!(process.read(0), Ok(initial(0))));
        let child = process.spawn(|process| process.copy_all().unwrap());
        parent.write(0, 1);
        assert_eq!(parent.read(0), 1);
        puller.join().unwrap();
        child.join().unwrap();

        assert_eq!(process.read(0), Ok(initial(0)));
        assert!(parent.tracker.is_idle());
        assert!(process.is_alone());
    });
}

#[test]
fn child_and_parent_meet_on_two_ranges() {
    explore("claims/two ranges, two parties", 3, || {
        let parent = parent(2);
        let process = parent.fork(&[0, 1]);
        let child = process.spawn(|process| process.copy_all().unwrap());
        parent.write(1, 1);
        parent.write(0, 2);
        child.join().unwrap();

        assert_eq!(process.read(0), Ok(initial(0)));
        assert_eq!(process.read(1), Ok(initial(1)));
        assert_eq!((parent.read(0), parent.read(1)), (2, 1));
        assert!(parent.tracker.is_idle());
        assert!(!parent.is_protected(0) && !parent.is_protected(1));
        assert!(process.is_alone());
    });
}
