// SPDX-License-Identifier: GPL-2.0

//! What the page tables of unit tests do.

use core::marker::PhantomData;

use crate::{
    prelude::*,
    sync::{
        atomic::Relaxed,
        Arc, //
    },
};

use super::{
    super::{
        page_tables::{
            Entry as LockedEntry,
            Event,
            PageTables,
            Party, //
        },
        patience::SECOND,
        Tracker, //
    },
    event_index,
    take,
    Fake,
    Parent,
    Test,
    PATIENCE,
    SIZE, //
};

/// A page table, or none yet.
pub struct Supplies<T: Test> {
    table: bool,
    tried: bool,
    test: PhantomData<T>,
}

impl<T: Test> Default for Supplies<T> {
    fn default() -> Self {
        Self {
            table: false,
            tried: false,
            test: PhantomData,
        }
    }
}

impl<T: Test> Drop for Supplies<T> {
    fn drop(&mut self) {
        if self.table {
            T::world().tables.fetch_sub(1, Relaxed);
        }
    }
}

/// A parent's entry.
pub struct Entry<T: Test> {
    parent: Arc<Parent<T>>,
    index: usize,
}

impl<T: Test> LockedEntry for Entry<T> {
    fn unprotect(&mut self) {
        self.parent.protected[self.index].store(0, Relaxed);
    }
}

impl<T: Test> PageTables for Fake<T> {
    const RANGE_SIZE: usize = SIZE;
    type Source = Arc<Parent<T>>;
    type Target = usize;
    type TargetVma = usize;
    type SourceVma<'a> = &'a Arc<Parent<T>>;
    type Payer = ();
    type Supplies = Supplies<T>;
    type Entry = Entry<T>;

    fn tracker(source: &Arc<Parent<T>>) -> Option<&Tracker<Self>> {
        Some(&source.tracker)
    }

    fn prepare((): &(), supplies: &mut Supplies<T>, _: Party, _: bool) {
        let world = Self::world();
        supplies.tried = true;
        if supplies.table {
            return;
        }
        if take(&world.alloc_failures) {
            Self::pass(world.failure_takes.load(Relaxed) as u64);
            if world.interrupts.load(Relaxed) != 0 {
                Self::interrupt(true);
            }
            let dying = world.dying.load(Relaxed) | world.kills_child.load(Relaxed);
            world.dying.store(dying, Relaxed);
            return;
        }
        world.tables.fetch_add(1, Relaxed);
        supplies.table = true;
    }

    unsafe fn copy(
        source: &Arc<Parent<T>>,
        target: usize,
        addr: usize,
        supplies: &mut Supplies<T>,
        _: Party,
    ) -> Result<bool> {
        if take(&Self::world().copy_failures) {
            return Err(EIO);
        }
        let index = addr / SIZE - 1;
        if source.installed[target][index].load(Relaxed) == 0 {
            if !supplies.table {
                return if supplies.tried {
                    Err(ENOMEM)
                } else {
                    Ok(false)
                };
            }
            supplies.table = false;
            Self::world().tables.fetch_sub(1, Relaxed);
        }
        Self::pass(Self::world().copy_takes.load(Relaxed) as u64);
        // Added to what is there, so that a second copy is noticed.
        source.copies[target][index].fetch_add(source.values[index].load(Relaxed), Relaxed);
        Ok(true)
    }

    fn lock_entry(source: &Arc<Parent<T>>, addr: usize) -> Option<Entry<T>> {
        Some(Entry {
            parent: source.clone(),
            index: addr / SIZE - 1,
        })
    }

    unsafe fn with_source<R>(
        source: &Arc<Parent<T>>,
        _: usize,
        f: impl FnOnce(&Arc<Parent<T>>) -> R,
    ) -> Option<R> {
        let world = Self::world();
        let locked = take(&world.locked) || source.unmapped.load(Relaxed) != 0;
        (!locked).then(|| f(source))
    }

    fn account(target: &usize, from: usize, to: usize, _: usize) {
        let pending = &Self::world().pending[*target];
        pending.store(pending.load(Relaxed) + to - from, Relaxed);
    }

    fn is_dying(target: &usize) -> bool {
        Self::world().dying.load(Relaxed) & (1 << target) != 0
    }

    fn kill(targets: &[Option<usize>], _: Error) {
        let world = Self::world();
        world.kills.fetch_add(1, Relaxed);
        for target in targets.iter().flatten() {
            let killed = world.killed.load(Relaxed);
            world.killed.store(killed | 1 << target, Relaxed);
        }
    }

    fn count((): &(), event: Event, nr: usize) {
        Self::world().events[event_index(event)].fetch_add(nr, Relaxed);
    }

    fn kept(_: &Arc<Parent<T>>, nanoseconds: u64) {
        Self::world().kept.fetch_add(nanoseconds as usize, Relaxed);
    }

    fn pause(source: &Arc<Parent<T>>) {
        if let Some(during_pause) = source.during_pause {
            during_pause(source);
        }
    }

    fn give_back(supplies: &mut Supplies<T>) {
        if supplies.table {
            supplies.table = false;
            Self::world().tables.fetch_sub(1, Relaxed);
        }
    }

    fn wait_for_memory() {
        let world = Self::world();
        world.waits.fetch_add(1, Relaxed);
        world.locked.store(world.locks.load(Relaxed), Relaxed);
        Self::pass(SECOND / PATIENCE as u64);
    }

    fn now() -> u64 {
        Self::world().now.load(Relaxed) as u64
    }

    fn interrupted(killable: bool) -> bool {
        let interrupted = Self::world().interrupted.load(Relaxed);
        interrupted > usize::from(!killable)
    }

    fn is_victim(_: &Arc<Parent<T>>) -> bool {
        Self::world().interrupted.load(Relaxed) == 2
    }
}
