// SPDX-License-Identifier: GPL-2.0

//! Claim: who waits for a range is woken when it is settled, and then sees the copy.

#![cfg(loom)]

use models::{Parent, explore, initial, parent, thread};

#[test]
fn two_pullers_of_one_range() {
    explore("waiting/two pullers", 7, || {
        let parent = parent(1);
        let process = parent.fork(&[0]);
        let other = process.spawn(|process| assert_eq!(process.read(0), Ok(initial(0))));
        assert_eq!(process.read(0), Ok(initial(0)));
        other.join().unwrap();
        assert!(parent.tracker.is_idle());
        assert!(process.is_alone());
    });
}

#[test]
fn three_pullers_of_one_range() {
    explore("waiting/three pullers", 3, || {
        let parent = parent(1);
        let process = parent.fork(&[0]);
        let others = [(); 2].map(|()| {
            let process = process.clone();
            thread::spawn(move || assert_eq!(process.read(0), Ok(initial(0))))
        });
        assert_eq!(process.read(0), Ok(initial(0)));
        for other in others {
            other.join().unwrap();
        }
        assert!(parent.tracker.is_idle());
    });
}

#[test]
fn a_puller_waits_for_munmap() {
    explore("waiting/munmap", 8, || {
        let parent = Parent::new(1, true);
        let process = parent.fork(&[0]);
        let puller = process.spawn(|process| assert_eq!(process.read(0), Ok(initial(0))));
        parent.unmap();
        puller.join().unwrap();
        assert!(parent.tracker.is_idle());
    });
}

#[test]
fn the_parent_waits_for_the_child() {
    explore("waiting/parent and child", 5, || {
        let parent = parent(1);
        let process = parent.fork(&[0]);
        let child = process.spawn(|process| process.copy_all().unwrap());
        parent.write(0, 1);
        child.join().unwrap();
        assert_eq!(process.read(0), Ok(initial(0)));
        assert_eq!(parent.read(0), 1);
    });
}

#[test]
fn a_puller_takes_over_what_is_given_back() {
    explore("waiting/claim given back", 5, || {
        let parent = parent(1);
        let process = parent.fork_unwinding(&[0], 0, 1);
        let puller = process.spawn(|process| process.read_unwinding(0));
        parent.push_unwinding(0);
        puller.join().unwrap();

        assert_eq!(process.read(0), Ok(initial(0)));
        assert!(parent.tracker.is_idle());
    });
}
