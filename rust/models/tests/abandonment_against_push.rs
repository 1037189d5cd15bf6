// SPDX-License-Identifier: GPL-2.0

//! Claim: when a child has let go of its session nobody copies to it any more, and its parent is
//! not held up.

#![cfg(loom)]

use kernel::prelude::*;
use models::{explore, parent, thread};

#[test]
fn the_child_exits_while_the_parent_writes() {
    explore("abandonment/one range", 4, || {
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
        assert!(process.is_at_rest());
        assert!(!process.is_killed());
    });
}

#[test]
fn the_child_exits_while_the_parent_writes_to_two_ranges() {
    explore("abandonment/two ranges", 3, || {
        let parent = parent(2);
        let process = parent.fork(&[0, 1]);
        let child = process.spawn(|process| process.exit());
        parent.write(0, 1);
        parent.write(1, 2);
        child.join().unwrap();

        assert_eq!((parent.read(0), parent.read(1)), (1, 2));
        assert!(parent.tracker.is_idle());
        assert!(process.is_at_rest());
    });
}

#[test]
fn the_child_exits_while_two_threads_of_the_parent_write() {
    explore("abandonment/two threads", 2, || {
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
        assert!(process.is_at_rest());
    });
}

#[test]
fn the_child_exits_while_somebody_pulls() {
    explore("abandonment/puller", 5, || {
        let parent = parent(2);
        let process = parent.fork(&[0, 1]);
        let puller = process.spawn(|process| process.session.unwrap().pull(0, usize::MAX, false));
        process.exit();
        // It has seen all, or that there is no child any more.
        let pulled = puller.join().unwrap();
        assert!(pulled.is_ok() || pulled == Err(EFAULT));

        assert!(parent.tracker.is_idle());
        assert!(process.is_at_rest());
        // What was protected is repaired.
        parent.write(0, 1);
        parent.write(1, 2);
        assert_eq!((parent.read(0), parent.read(1)), (1, 2));
    });
}
