// SPDX-License-Identifier: GPL-2.0

//! Claim: a range that two sessions share is copied for both, and the last of them lifts the
//! protection.

#![cfg(loom)]

use models::{explore, initial, parent};

#[test]
fn both_children_copy() {
    explore("two sessions/both copy", 8, || {
        let parent = parent(1);
        let processes = [(); 2].map(|()| parent.fork(&[0]));
        let other = processes[1].spawn(|process| process.copy_all().unwrap());
        processes[0].copy_all().unwrap();
        other.join().unwrap();

        // Nobody has faulted: whoever came last has lifted it.
        assert!(!parent.is_protected(0));
        assert!(parent.tracker.is_idle());
        parent.write(0, 1);
        for process in &processes {
            assert_eq!(process.read(0), Ok(initial(0)));
            assert!(process.is_alone());
        }
    });
}

#[test]
fn the_parent_writes_while_a_child_copies() {
    explore("two sessions/parent and child", 6, || {
        let parent = parent(1);
        let processes = [(); 2].map(|()| parent.fork(&[0]));
        let child = processes[0].spawn(|process| process.copy_all().unwrap());
        parent.write(0, 1);
        child.join().unwrap();

        assert!(!parent.is_protected(0));
        assert!(parent.tracker.is_idle());
        for process in &processes {
            assert_eq!(process.read(0), Ok(initial(0)));
        }
    });
}

#[test]
fn one_child_exits_while_the_other_copies() {
    explore("two sessions/exit and copy", 8, || {
        let parent = parent(1);
        let processes = [(); 2].map(|()| parent.fork(&[0]));
        let child = processes[0].spawn(|process| process.exit());
        processes[1].copy_all().unwrap();
        child.join().unwrap();

        assert!(parent.tracker.is_idle());
        parent.write(0, 1);
        assert_eq!(processes[1].read(0), Ok(initial(0)));
        assert_eq!(parent.read(0), 1);
    });
}
