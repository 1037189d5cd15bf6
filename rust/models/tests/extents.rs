// SPDX-License-Identifier: GPL-2.0

//! A session of several mappings finds its ranges, and the mapping of each, as a set does.

#![cfg(not(any(loom, shuttle)))]

use std::{collections::BTreeSet, sync::Arc};

use kernel::{
    mm::async_pgtable::{
        Builder, PageTables, Tracker,
        page_tables::{self, Event, Party},
    },
    prelude::*,
};
use proptest::prelude::*;

const SIZE: usize = 4;

struct Set;

struct Entry;

impl page_tables::Entry for Entry {
    fn unprotect(&mut self) {}
}

/// What has been copied: mappings and addresses.
type Copied = std::sync::Mutex<Vec<(usize, usize)>>;
type Parent = Arc<(Pin<KBox<Tracker<Set>>>, Copied)>;

impl PageTables for Set {
    const RANGE_SIZE: usize = SIZE;

    type Source = Parent;
    type Target = ();
    type TargetVma = usize;
    type SourceVma<'a> = &'a Parent;
    type Payer = ();
    type Supplies = ();
    type Entry = Entry;

    fn tracker(parent: &Parent) -> Option<&Tracker<Self>> {
        Some(&parent.0)
    }

    fn prepare(_: &(), _: &mut (), _: Party, _: bool) {}

    unsafe fn copy(
        parent: &Parent,
        mapping: usize,
        addr: usize,
        _: &mut (),
        _: Party,
    ) -> Result<bool> {
        parent.1.lock().unwrap().push((mapping, addr));
        Ok(true)
    }

    fn lock_entry(_: &Parent, _: usize) -> Option<Entry> {
        Some(Entry)
    }

    unsafe fn with_source<R>(parent: &Parent, _: usize, f: impl FnOnce(&Parent) -> R) -> Option<R> {
        Some(f(parent))
    }

    fn account(_: &(), _: usize, _: usize, _: usize) {}
    fn is_dying(_: &()) -> bool {
        false
    }

    fn kill(_: &[Option<()>], _: Error) {}
    fn count(_: &(), _: Event, _: usize) {}
    fn kept(_: &Parent, _: u64) {}
    fn pause(_: &Parent) {}
    fn give_back((): &mut ()) {}
    fn wait_for_memory() {}
    fn now() -> u64 {
        0
    }

    fn interrupted(_: bool) -> bool {
        false
    }

    fn is_victim(_: &Parent) -> bool {
        false
    }
}

/// Gaps between and lengths of mappings, in ranges, and which of these are deferred.
fn mappings() -> impl Strategy<Value = Vec<(usize, Vec<bool>)>> {
    let mapping = (0..5_usize, prop::collection::vec(any::<bool>(), 1..50));
    prop::collection::vec(mapping, 1..6)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

    #[test]
    fn are_a_set_of_ranges(
        mappings in mappings(),
        queries in prop::collection::vec((0..1000_usize, 0..100_usize, any::<bool>()), 0..60),
    ) {
        let tracker = KBox::pin_init(Tracker::new(), GFP_KERNEL).unwrap();
        let parent: Parent = Arc::new((tracker, Default::default()));
        let mut builder = Builder::<Set>::new(parent.clone(), ()).unwrap();
        let mut pending = BTreeSet::new();
        let mut at = 0;
        for (mapping, (gap, ranges)) in mappings.into_iter().enumerate() {
            let start = at + gap * SIZE;
            at = start + ranges.len() * SIZE;
            builder.extent(mapping, start, at);
            for addr in (start..at).step_by(SIZE) {
                if ranges[(addr - start) / SIZE] {
                    prop_assert!(builder.defer(addr, addr + SIZE));
                    pending.insert((mapping, addr));
                }
            }
        }
        let all = pending.clone();
        let Some(session) = builder.arm(()) else {
            prop_assert!(all.is_empty());
            return Ok(());
        };

        for (start, length, pull) in queries {
            let end = start + length + 1;
            let hit: Vec<_> = pending
                .iter()
                .copied()
                .filter(|&(_, addr)| addr < end && start < addr + SIZE)
                .collect();
            prop_assert_eq!(session.is_waited_for(start, end), !hit.is_empty());
            prop_assert_eq!(parent.0.overlaps(start, end), !hit.is_empty());
            if pull {
                parent.1.lock().unwrap().clear();
                session.pull(start, end, true).unwrap();
                prop_assert_eq!(&*parent.1.lock().unwrap(), &hit);
                for range in hit {
                    pending.remove(&range);
                }
            }
        }
        parent.1.lock().unwrap().clear();
        session.copy_all().unwrap();
        let rest: Vec<_> = pending.into_iter().collect();
        prop_assert_eq!(&*parent.1.lock().unwrap(), &rest);
        prop_assert!(parent.0.is_idle());
    }
}
