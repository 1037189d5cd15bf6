// SPDX-License-Identifier: GPL-2.0

//! Claim: a range that two sessions share is copied for both, and the last of them lifts the
//! protection.

#![cfg(loom)]

use models::{Fails, addr, explore, parent};

#[test]
fn both_children_copy() {
    explore("two sessions/both copy", 6, || {
        let parent = parent(1);
        let processes = [(); 2].map(|()| parent.fork(&[0]));
        let other = processes[1].spawn(|process| process.copy());
        processes[0].copy();
        other.join().unwrap();

        // Nobody has faulted: whoever came last has lifted it.
        assert!(!parent.is_protected(0));
        assert!(parent.tracker.is_idle());
        parent.write(0, 1);
        for process in &processes {
            process.sees(0);
            assert!(process.is_at_rest());
        }
    });
}

#[test]
fn the_parent_writes_while_a_child_copies() {
    explore("two sessions/parent and child", 5, || {
        let parent = parent(1);
        let processes = [(); 2].map(|()| parent.fork(&[0]));
        let child = processes[0].spawn(|process| process.copy());
        parent.write(0, 1);
        child.join().unwrap();

        assert!(!parent.is_protected(0));
        assert!(parent.tracker.is_idle());
        for process in &processes {
            process.sees(0);
        }
    });
}

#[test]
fn one_child_exits_while_the_other_copies() {
    explore("two sessions/exit and copy", 6, || {
        let parent = parent(1);
        let processes = [(); 2].map(|()| parent.fork(&[0]));
        let child = processes[0].spawn(|process| process.exit());
        processes[1].copy();
        child.join().unwrap();

        assert!(parent.tracker.is_idle());
        parent.write(0, 1);
        processes[1].sees(0);
        assert_eq!(parent.read(0), 1);
    });
}

#[test]
fn one_session_fails_while_the_other_copies() {
    explore("two sessions/failure and copy", 6, || {
        let parent = parent(1);
        let processes = [&[(0, Fails)][..], &[]].map(|how| parent.fork_with(&[0], how));
        let child = processes[0].spawn(|process| process.copy_all());
        processes[1].copy();
        assert!(child.join().unwrap().is_err());

        assert!(parent.tracker.is_idle());
        parent.write(0, 1);
        processes[1].sees(0);
        assert_eq!(parent.read(0), 1);
        assert!(processes[0].is_killed() && !processes[1].is_killed());
    });
}

#[test]
fn a_child_exits_while_another_copies_to_both() {
    explore("two sessions/exit and two copies", 3, || {
        let parent = parent(1);
        let processes = [(); 2].map(|()| parent.fork(&[0]));
        let child = processes[0].spawn(|process| process.exit());
        let puller = processes[0].spawn(|process| {
            let _ = process.session.unwrap().pull(addr(0), addr(1), false);
        });
        processes[1].copy();
        child.join().unwrap();
        puller.join().unwrap();

        assert!(parent.tracker.is_idle());
        parent.write(0, 1);
        processes[1].sees(0);
        assert_eq!(parent.read(0), 1);
    });
}

#[test]
fn a_session_is_removed_by_two() {
    explore("two sessions/removal", 4, || {
        let parent = parent(2);
        let (first, second) = (parent.fork(&[0]), parent.fork(&[0, 1]));
        let child = first.spawn(|process| process.exit());
        // Removes what is over.
        parent.write(0, 1);
        child.join().unwrap();
        // The other one is still known.
        parent.write(1, 2);

        second.sees(0);
        second.sees(1);
        assert_eq!((parent.read(0), parent.read(1)), (1, 2));
        assert!(parent.tracker.is_idle());
        assert!(first.is_at_rest() && second.is_at_rest());
    });
}
