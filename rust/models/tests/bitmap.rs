// SPDX-License-Identifier: GPL-2.0

//! The bitmap does what a list of states does, for any sequence of operations.

#![cfg(not(any(loom, shuttle)))]

use kernel::{
    mm::async_pgtable::range_bitmap::{
        RangeBitmap,
        State::{self, Claimed, Pending, Settled},
    },
    prelude::*,
};
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Op {
    Claim(usize),
    Publish(usize),
    Unclaim(usize),
    Abandon,
    NextUnsettled(usize, usize),
    NextPending(usize, usize),
}

fn ops(len: usize) -> impl Strategy<Value = Vec<Op>> {
    let index = 0..len;
    // Ends beyond the last range, and before the first, are allowed.
    let bounds = (0..len + 70, 0..len + 70);
    let op = prop_oneof![
        6 => index.clone().prop_map(Op::Claim),
        3 => index.clone().prop_map(Op::Publish),
        2 => index.prop_map(Op::Unclaim),
        1 => Just(Op::Abandon),
        4 => bounds.clone().prop_map(|(from, to)| Op::NextUnsettled(from, to)),
        4 => bounds.prop_map(|(from, to)| Op::NextPending(from, to)),
    ];
    prop::collection::vec(op, 0..200)
}

fn next(states: &[State], from: usize, to: usize, wanted: &[State]) -> Option<usize> {
    (from..to.min(states.len())).find(|&index| wanted.contains(&states[index]))
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

    #[test]
    fn is_a_list_of_states(
        (marked, ops) in (1..200_usize).prop_flat_map(|len| {
            (prop::collection::vec(any::<bool>(), len), ops(len))
        })
    ) {
        let len = marked.len();
        let mut bitmap = RangeBitmap::new(len, GFP_KERNEL).unwrap();
        let mut states = vec![Settled; len];
        for index in (0..len).filter(|&index| marked[index]) {
            prop_assert!(bitmap.mark_pending(index));
            prop_assert!(!bitmap.mark_pending(index));
            states[index] = Pending;
        }
        prop_assert_eq!(bitmap.len(), len);

        for op in ops {
            match op {
                Op::Claim(index) => {
                    let pending = states[index] == Pending;
                    prop_assert_eq!(bitmap.try_claim(index), pending);
                    if pending {
                        states[index] = Claimed;
                    }
                }
                // Of a claimed one only, by contract.
                Op::Publish(index) if states[index] == Claimed => {
                    bitmap.publish(index);
                    states[index] = Settled;
                }
                Op::Unclaim(index) if states[index] == Claimed => {
                    bitmap.unclaim(index);
                    states[index] = Pending;
                }
                Op::Publish(_) | Op::Unclaim(_) => {}
                Op::Abandon => {
                    let pending = states.iter_mut().filter(|state| **state == Pending);
                    let nr = pending.map(|state| *state = Settled).count();
                    prop_assert_eq!(bitmap.abandon_pending(), nr);
                }
                Op::NextUnsettled(from, to) => prop_assert_eq!(
                    bitmap.next_unsettled(from, to),
                    next(&states, from, to, &[Pending, Claimed])
                ),
                Op::NextPending(from, to) => prop_assert_eq!(
                    bitmap.next_pending(from, to),
                    next(&states, from, to, &[Pending])
                ),
            }
            for (index, state) in states.iter().enumerate() {
                prop_assert_eq!(bitmap.state(index), *state);
            }
        }
    }
}
