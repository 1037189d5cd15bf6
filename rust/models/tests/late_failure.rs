// SPDX-License-Identifier: GPL-2.0

//! Claim: when a range cannot be copied nobody takes the child for what it should be, and the
//! parent goes on, whether or not the one who has failed it does.

#![cfg(loom)]

use kernel::prelude::*;
use models::{Fails, addr, explore, initial, parent, thread};

#[test]
fn a_copy_fails_while_another_pulls() {
    explore("late failure/copy and pull", 3, || {
        let parent = parent(2);
        let process = parent.fork_with(&[0, 1], &[(1, Fails)]);
        let puller = process.spawn(|process| {
            // `read` fails the model if this is taken for copied.
            assert_eq!(process.read(1), Err(EFAULT));
            if let Ok(value) = process.read(0) {
                assert_eq!(value, initial(0));
            }
        });
        assert_eq!(process.copy_all(), Err(EFAULT));
        puller.join().unwrap();

        assert!(process.is_killed());
        assert!(process.copy_all().is_err());
        assert!(parent.tracker.is_idle());
        process.exit();
        assert!(process.is_at_rest());
    });
}

#[test]
fn a_copy_fails_while_the_parent_writes() {
    explore("late failure/push and pull", 3, || {
        let parent = parent(1);
        let process = parent.fork_with(&[0], &[(0, Fails)]);
        let puller = process.spawn(|process| assert_eq!(process.read(0), Err(EFAULT)));
        // Fails the model if it has to be repeated until the other is done.
        parent.write(0, 1);
        puller.join().unwrap();

        assert_eq!(parent.read(0), 1);
        assert!(process.is_killed());
        assert!(parent.tracker.is_idle());
        process.exit();
        assert!(process.is_at_rest());
    });
}

#[test]
fn the_parent_does_not_wait_for_a_failure_elsewhere() {
    explore("late failure/helping", 3, || {
        let parent = parent(2);
        let process = parent.fork_with(&[0, 1], &[(0, Fails)]);
        let child = process.spawn(|process| process.copy_all());
        parent.write(1, 1);
        let session = process.session.as_ref().unwrap();
        if session.is_waited_for(0, usize::MAX) {
            assert!(parent.is_protected(0));
        } else {
            // It has failed, so the parent has nothing to do with it any more once it has looked.
            parent.push(1, 2);
            assert!(parent.tracker.is_idle());
            parent.write(0, 1);
        }
        assert_eq!(child.join().unwrap(), Err(EFAULT));

        assert_eq!(parent.read(1), 1);
        assert!(process.is_killed());
        assert!(parent.tracker.is_idle());
        process.exit();
        assert!(process.is_at_rest());
    });
}

#[test]
fn an_allocation_fails_while_another_copies() {
    explore("late failure/allocation", 3, || {
        let parent = parent(2);
        parent.fail_allocs(1);
        let process = parent.fork(&[0, 1]);
        let child = process.spawn(|process| process.copy_all());
        parent.write(0, 1);
        let copied = child.join().unwrap();

        // If the other has copied the range in the meantime it is as if nothing had failed.
        assert_eq!(process.is_killed(), copied.is_err());
        if process.is_killed() {
            assert!(process.read(0).is_err());
        } else {
            process.sees(0);
            process.sees(1);
        }
        assert_eq!(parent.read(0), 1);
        assert!(parent.tracker.is_idle());
        process.exit();
        assert!(process.is_at_rest());
    });
}

#[test]
fn an_observer_has_no_memory() {
    explore("late failure/observer", 6, || {
        let parent = parent(1);
        parent.fail_allocs(1);
        let process = parent.fork(&[0]);
        let other = process.spawn(|process| process.read(0));
        let read = process.read(0);
        let other = other.join().unwrap();

        // One of both, or none if the other has copied it meanwhile; and the child does not mind.
        for read in [&read, &other] {
            assert!(matches!(read, Ok(_) | Err(ENOMEM)));
        }
        assert!(read.is_ok() || other.is_ok());
        process.copy();
        assert!(!process.is_killed());
        process.sees(0);
        assert!(parent.tracker.is_idle());
        assert!(process.is_at_rest());
    });
}

#[test]
fn who_is_told_of_a_failure_changes_the_child() {
    explore("late failure/change of the child", 3, || {
        let parent = parent(2);
        let process = parent.fork_with(&[0, 1], &[(1, Fails)]);
        // Copies the first range while the other fails the second one.
        let puller = process.spawn(|process| {
            let _ = process.session.unwrap().pull(addr(0), addr(1), false);
        });
        assert_eq!(process.write(1), Err(EFAULT));
        let _ = process.write(0);
        puller.join().unwrap();

        assert!(process.is_killed());
        assert!(parent.tracker.is_idle());
        process.exit();
        assert!(process.is_at_rest());
    });
}

#[test]
fn who_is_told_does_not_wait_for_the_one_who_failed() {
    explore("late failure/told by another", 2, || {
        let parent = parent(2);
        let process = parent.fork_with(&[0, 1], &[(1, Fails)]);
        let fails = process.spawn(|process| assert_eq!(process.pull(1, true), Err(EFAULT)));
        let puller = process.spawn(|process| {
            let _ = process.session.unwrap().pull(addr(0), addr(1), false);
        });
        thread::yield_now();
        let _ = process.write(0);
        fails.join().unwrap();
        puller.join().unwrap();

        assert!(process.is_killed());
        assert!(parent.tracker.is_idle());
        process.exit();
        assert!(process.is_at_rest());
    });
}

#[test]
fn the_killed_child_exits_while_the_parent_writes() {
    explore("late failure/exit and push", 3, || {
        let parent = parent(2);
        let process = parent.fork_with(&[0, 1], &[(0, Fails)]);
        let child = process.spawn(|process| {
            let _ = process.copy_all();
            process.exit();
        });
        parent.write(1, 1);
        child.join().unwrap();

        assert_eq!(parent.read(1), 1);
        assert!(parent.tracker.is_idle());
        assert!(process.is_at_rest());
    });
}
