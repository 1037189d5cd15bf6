// SPDX-License-Identifier: GPL-2.0

//! The same by threads of this machine: what loom and shuttle do not run, such as the checks of
//! spinlocks that sleep, runs here, and sanitizers and coverage see it.

#![cfg(not(any(loom, shuttle)))]

use models::{Parent, RANGES, explore, initial, thread};

#[test]
fn children_pullers_and_the_parent_want_everything() {
    explore("threads/all at once", 300, || {
        let parent = Parent::new(RANGES, true);
        let all: Vec<_> = (0..RANGES).collect();
        let processes = [(); 2].map(|()| parent.fork(&all));
        thread::scope(|scope| {
            for process in &processes {
                scope.spawn(|| process.copy_all().unwrap());
                for _ in 0..2 {
                    scope.spawn(|| {
                        for range in 0..RANGES {
                            assert_eq!(process.read(range), Ok(initial(range)));
                        }
                    });
                }
            }
            for range in 0..RANGES {
                parent.write(range, 1);
            }
        });

        assert!(parent.tracker.is_idle());
        for (range, value) in all.iter().map(|&range| (range, parent.read(range))) {
            assert_eq!(value, 1);
            assert!(!parent.is_protected(range));
        }
        for process in &processes {
            assert!(process.is_alone());
        }
    });
}

#[test]
fn children_exit_while_the_parent_wants_everything() {
    explore("threads/exit", 300, || {
        let parent = Parent::new(RANGES, true);
        let all: Vec<_> = (0..RANGES).collect();
        let processes = [(); 2].map(|()| parent.fork(&all));
        thread::scope(|scope| {
            for process in &processes {
                scope.spawn(|| process.exit());
            }
            for range in 0..RANGES {
                parent.write(range, 1);
            }
        });

        assert!(parent.tracker.is_idle());
        assert!((0..RANGES).all(|range| parent.read(range) == 1));
    });
}
