// SPDX-License-Identifier: GPL-2.0

//! The bitmap does what a set of numbers does, for any sequence of operations.

#![cfg(not(any(loom, shuttle)))]

use std::{collections::BTreeSet, ops::Range};

use kernel::{mm::async_pgtable::range_bitmap::RangeBitmap, prelude::GFP_KERNEL};
use proptest::prelude::*;

/// Ranges of a node.
const NODE: usize = 512;

#[derive(Clone, Debug)]
enum Op {
    Settle(usize),
    Next(usize, usize),
}

/// Ranges of a few nodes, some of them far away.
fn range() -> impl Strategy<Value = usize> {
    let node = prop_oneof![4 => 0..3_usize, 1 => 1 << 20..(1 << 20) + 2_usize];
    let at = prop_oneof![
        3 => 0..NODE,
        1 => prop::sample::select(&[0, 63, 64, 127, 128, 447, 448, 511][..]),
    ];
    (node, at).prop_map(|(node, at)| node * NODE + at)
}

/// Where a search ends.
fn end() -> impl Strategy<Value = usize> {
    prop_oneof![4 => range(), 1 => Just(usize::MAX)]
}

/// Which ranges are marked: neighbours, and others, nearly in order.
fn marks() -> impl Strategy<Value = Vec<Range<usize>>> {
    let run = (range(), 1..200_usize).prop_map(|(from, len)| from..from + len);
    let alone = range().prop_map(|range| range..range + 1);
    let runs = prop::collection::vec(prop_oneof![run, alone], 0..20);
    (runs, any::<bool>()).prop_map(|(mut runs, sorted)| {
        if sorted {
            runs.sort_by_key(|run| run.start);
        }
        runs
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

    #[test]
    fn is_a_set_of_ranges(
        marks in marks(),
        ops in prop::collection::vec(
            prop_oneof![range().prop_map(Op::Settle), (range(), end()).prop_map(|(a, b)| Op::Next(a, b))],
            0..100,
        ),
        picks in prop::collection::vec(any::<prop::sample::Index>(), 0..50),
    ) {
        let mut bitmap = RangeBitmap::new();
        let mut set = BTreeSet::new();
        for run in &marks {
            // What comes before the last node is refused, and all that is not new in one.
            let above = set.last().is_none_or(|last| last / NODE <= run.start / NODE);
            let within = run.start / NODE == (run.end - 1) / NODE;
            let new = above && within && set.range(run.clone()).next().is_none();
            if new {
                set.extend(run.clone());
            }
            prop_assert_eq!(bitmap.mark_pending(run.start, run.end, GFP_KERNEL).unwrap(), new);
        }

        // Most ranges that are not chosen by what was marked were not.
        let picks = picks.iter().filter(|_| !marks.is_empty());
        let picks = picks.map(|pick| Op::Settle(pick.get(&marks).start));
        for op in ops.into_iter().chain(picks) {
            match op {
                Op::Settle(range) => {
                    prop_assert_eq!(bitmap.is_pending(range), set.contains(&range));
                    prop_assert_eq!(bitmap.settle(range), set.remove(&range));
                    prop_assert!(!bitmap.is_pending(range));
                }
                Op::Next(from, to) => {
                    let next = set.range(from..).next().copied().filter(|&range| range < to);
                    prop_assert_eq!(bitmap.next_pending(from, to), next);
                }
            }
        }
        let mut from = 0;
        for &range in &set {
            prop_assert_eq!(bitmap.next_pending(from, usize::MAX), Some(range));
            prop_assert!(bitmap.is_pending(range));
            from = range + 1;
        }
        prop_assert_eq!(bitmap.next_pending(from, usize::MAX), None);
    }
}
