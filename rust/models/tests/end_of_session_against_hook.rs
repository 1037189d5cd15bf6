// SPDX-License-Identifier: GPL-2.0

//! Claim: a hook that runs while a session ends finds either the session or its result, and the
//! session lets go of both sides once.

#![cfg(loom)]

use models::{addr, explore, initial, parent};

#[test]
fn hooks_run_while_the_last_range_is_settled() {
    explore("end/hooks", 4, || {
        let parent = parent(1);
        let process = parent.fork(&[0]);
        let child = process.spawn(|process| process.copy());
        if !parent.tracker.overlaps(addr(0), addr(1)) {
            // It is copied, so its PTEs are read-only, and this write is not seen by the child.
            parent.write(0, 1);
        }
        parent.push(0, 1);
        assert!(!parent.tracker.overlaps(addr(0), addr(1)));
        parent.write(0, 2);
        child.join().unwrap();

        assert!(parent.tracker.is_idle());
        assert!(!parent.is_protected(0));
        process.sees(0);
        assert!(process.is_at_rest());
    });
}

#[test]
fn somebody_looks_who_has_nothing_to_wait_for() {
    explore("end/nothing to wait for", 5, || {
        let parent = parent(1);
        let process = parent.fork(&[0]);
        let child = process.spawn(|process| process.copy());
        if let Some(value) = process.peek(0) {
            assert_eq!(value, initial(0));
        }
        child.join().unwrap();
        assert!(process.peek(0).is_some());
        assert!(process.is_at_rest());
    });
}

#[test]
fn two_parties_settle_the_last_two_ranges() {
    explore("end/two last ranges", 5, || {
        let parent = parent(2);
        let process = parent.fork(&[0, 1]);
        let puller = process.spawn(|process| process.sees(0));
        process.sees(1);
        puller.join().unwrap();

        assert!(parent.tracker.is_idle());
        assert!(process.is_at_rest());
    });
}

#[test]
fn the_parent_is_reaped_while_the_last_range_is_settled() {
    explore("end/reaper", 4, || {
        let parent = parent(1);
        let process = parent.fork(&[0]);
        let child = process.spawn(|process| process.copy_all());
        parent.tracker.abort();
        let copied = child.join().unwrap();

        // A session that is complete stays so; one that has failed kills.
        assert_eq!(process.is_killed(), process.read(0).is_err());
        assert!(copied.is_err() || !process.is_killed());
        assert!(parent.tracker.is_idle());
        process.exit();
        assert!(process.is_at_rest());
    });
}

#[test]
fn the_parent_is_reaped_while_the_child_finds_all_copied() {
    explore("end/reaper and puller", 2, || {
        let parent = parent(1);
        let process = parent.fork(&[0]);
        let child = process.spawn(|process| process.copy_all());
        let puller = process.spawn(|process| {
            let _ = process.read(0);
        });
        parent.tracker.abort();
        let copied = child.join().unwrap();
        puller.join().unwrap();

        // A child that has entered user space is not killed for what it has.
        assert_eq!(process.is_killed(), copied.is_err());
        assert!(parent.tracker.is_idle());
        assert!(process.is_at_rest());
    });
}

#[test]
fn a_child_exits_while_the_parent_is_reaped() {
    explore("end/exit and reaper", 4, || {
        let parent = parent(2);
        let process = parent.fork(&[0, 1]);
        let child = process.spawn(|process| process.exit());
        parent.tracker.abort();
        child.join().unwrap();
        assert!(parent.tracker.is_idle());
        assert!(process.is_at_rest());
    });
}
