// SPDX-License-Identifier: GPL-2.0

//! Claim: a puller that meets a change of the parent's mapping gives its claim back, and has its
//! range in the end; the parent does not wait for it.

#![cfg(loom)]

use models::{Parent, explore, initial, thread};

#[test]
fn a_puller_meets_munmap() {
    explore("mappings/munmap", 6, || {
        let parent = Parent::new(1, 1, true);
        let process = parent.fork(&[0]);
        let puller = process.spawn(|process| process.sees(0));
        parent.unmap();
        puller.join().unwrap();
        assert!(parent.tracker.is_idle());
        assert!(process.is_at_rest());
    });
}

#[test]
fn a_puller_meets_a_change() {
    explore("mappings/change", 6, || {
        let parent = Parent::new(1, 1, true);
        let process = parent.fork(&[0]);
        let puller = process.spawn(|process| process.sees(0));
        parent.discard(0, 1);
        puller.join().unwrap();
        assert_eq!(parent.read(0), 1);
        assert!(parent.tracker.is_idle());
        assert!(process.is_at_rest());
    });
}

#[test]
fn a_puller_meets_a_change_of_another_range() {
    explore("mappings/change next door", 4, || {
        let parent = Parent::new(2, 1, true);
        let process = parent.fork(&[0, 1]);
        let child = process.spawn(|process| process.copy());
        parent.discard(1, 1);
        child.join().unwrap();
        process.sees(0);
        process.sees(1);
        assert_eq!(parent.read(1), 1);
        assert!(parent.tracker.is_idle());
        assert!(process.is_at_rest());
    });
}

#[test]
fn a_puller_meets_a_fork() {
    explore("mappings/fork", 4, || {
        let parent = Parent::new(1, 1, true);
        let process = parent.fork(&[0]);
        let forks = thread::spawn({
            let parent = parent.clone();
            move || {
                let second = parent.fork(&[0]);
                parent.write(0, 1);
                second
            }
        });
        process.sees(0);
        let second = forks.join().unwrap();
        assert_eq!(second.expected, [initial(0)]);
        process.sees(0);
        second.sees(0);
        assert_eq!(parent.read(0), 1);
        assert!(parent.tracker.is_idle());
        assert!(process.is_at_rest() && second.is_at_rest());
    });
}
