// SPDX-License-Identifier: GPL-2.0

//! Claim: when a range cannot be copied nobody takes the child for what it should be, and the
//! parent goes on.

#![cfg(loom)]

use models::{explore, initial, parent};

#[test]
fn a_copy_fails_while_another_pulls() {
    explore("late failure/copy and pull", 4, || {
        let parent = parent(2);
        let process = parent.fork_failing(&[0, 1], 1);
        let puller = process.spawn(|process| {
            // `read` fails the model if this is taken for copied.
            assert!(process.read(1).is_err());
            if let Ok(value) = process.read(0) {
                assert_eq!(value, initial(0));
            }
        });
        // Says nothing of what the puller is copying.
        let _ = process.copy_all();
        puller.join().unwrap();

        assert!(process.is_killed());
        assert!(process.copy_all().is_err());
        assert!(parent.tracker.is_idle());
        process.exit();
        assert!(process.is_alone());
    });
}

#[test]
fn a_copy_fails_while_the_parent_writes() {
    explore("late failure/push and pull", 5, || {
        let parent = parent(1);
        let process = parent.fork_failing(&[0], 0);
        let puller = process.spawn(|process| assert!(process.read(0).is_err()));
        parent.write(0, 1);
        puller.join().unwrap();

        assert_eq!(parent.read(0), 1);
        assert!(process.is_killed());
        assert!(parent.tracker.is_idle());
        process.exit();
        assert!(process.is_alone());
    });
}

#[test]
fn an_allocation_fails_while_another_copies() {
    explore("late failure/allocation", 5, || {
        let parent = parent(2);
        parent.fail_allocs(1);
        let process = parent.fork(&[0, 1]);
        let child = process.spawn(|process| process.copy_all());
        parent.write(0, 1);
        let copied = child.join().unwrap();

        // If the other has copied the range in the meantime, and it was the last one, it is as if
        // nothing had failed.
        if process.is_killed() {
            assert!(process.read(0).is_err());
        } else {
            assert!(copied.is_ok());
            assert_eq!(process.read(0), Ok(initial(0)));
            assert_eq!(process.read(1), Ok(initial(1)));
        }
        assert_eq!(parent.read(0), 1);
        assert!(parent.tracker.is_idle());
        process.exit();
        assert!(process.is_alone());
    });
}

#[test]
fn the_killed_child_exits_while_the_parent_writes() {
    explore("late failure/exit and push", 5, || {
        let parent = parent(2);
        let process = parent.fork_failing(&[0, 1], 0);
        let child = process.spawn(|process| {
            let _ = process.copy_all();
            process.exit();
        });
        parent.write(1, 1);
        child.join().unwrap();

        assert_eq!(parent.read(1), 1);
        assert!(parent.tracker.is_idle());
        assert!(process.is_alone());
    });
}
