// SPDX-License-Identifier: GPL-2.0

//! How long who copies waits for memory.

use crate::sync::atomic::{
    Atomic,
    Relaxed, //
};

use super::{
    page_tables::PageTables,
    Tracker, //
};

/// A second, as [`PageTables::now`] counts.
pub(super) const SECOND: u64 = 1_000_000_000;

/// What a range that is copied is worth: more than a grace period of RCU often takes.
const WORTH: u64 = SECOND / 50;

/// For how long who has given a child up waits for the next one: as long as that takes to exit.
const TURN: u64 = SECOND / 16;

/// For how long he waits for all others.
const TURNS: u64 = 2 * SECOND;

/// For how long he waits at most, whatever he copies.
const MOST: u64 = 4 * SECOND;

/// How long somebody who copies for children has waited for memory.
///
/// Memory that was freed may be on its way, so he waits before he gives a child up; but others may
/// wait for the locks that he has. So he waits for a second in all, not counting 20 ms for each
/// range that he has copied meanwhile, and for no more than four seconds. Once he has given a child
/// up, what he finds may be what it had: for each of the others he waits a sixteenth of a second,
/// and for all no more than two seconds. So it is if the same parent has given up another child
/// just now.
///
/// In C this is on the stack of who copies, zero at first, or with one try.
#[derive(Default)]
#[repr(C)]
pub struct Patience {
    /// For this child, less what was worth it.
    waited: u64,
    /// Of the most that he waits: waited, or lost.
    spent: u64,
    /// A child was given up.
    gave_up: bool,
    /// There is one try: it is a hard one, and he does without the child rather than give it up.
    pub(super) one_try: bool,
}

impl Patience {
    /// None, for who can do without a child.
    pub(super) fn one_try() -> Self {
        Self {
            one_try: true,
            ..Self::default()
        }
    }

    /// How long he waits for a child.
    fn limit(&self) -> u64 {
        if self.gave_up {
            TURN
        } else {
            SECOND
        }
    }

    /// He has lacked memory for so long since he tried last, maybe in vain.
    pub(super) fn waits<P: PageTables>(&mut self, since: u64) {
        let waited = since.min(self.limit() / P::TRIES);
        self.waited += waited;
        self.spent += waited;
    }

    /// He lacks memory, and a child was given up `just_now`, or not. May he wait for it? If not, he
    /// gives this one up.
    pub(super) fn lacks(&mut self, just_now: bool) -> bool {
        if self.waited == 0 && just_now {
            self.gives_up();
        }
        if self.waited < self.limit() && self.spent < MOST {
            return true;
        }
        self.gives_up();
        false
    }

    /// From now on the others have their turns.
    fn gives_up(&mut self) {
        self.gave_up = true;
        self.waited = 0;
        self.spent = self.spent.max(MOST - TURNS);
    }

    /// A range is copied.
    pub(super) fn succeeds(&mut self) {
        let worth = if self.gave_up { SECOND } else { WORTH };
        self.waited = self.waited.saturating_sub(worth);
    }
}

/// What a parent gave up for want of memory; hints, hence relaxed.
pub(super) struct GaveUp {
    /// When that was a child, or zero.
    child: Atomic<u64>,
    /// Was it to write what nobody will look at? Not zero if so, for ever.
    writes: Atomic<usize>,
}

impl GaveUp {
    /// Nothing.
    pub(super) fn new() -> Self {
        Self {
            child: Atomic::new(0),
            writes: Atomic::new(0),
        }
    }

    /// A child, now.
    pub(super) fn now<P: PageTables>(&self) {
        self.child.store(P::now().max(1), Relaxed);
    }

    /// A child within the last second?
    pub(super) fn just_now<P: PageTables>(&self) -> bool {
        let then = self.child.load(Relaxed);
        then != 0 && P::now().saturating_sub(then) < SECOND
    }
}

impl<P: PageTables> Tracker<P> {
    /// Who leaves the parent's memory, as all do, found none for a child, and does not write.
    pub fn give_up_writes(&self) {
        self.gave_up.writes.store(1, Relaxed);
    }

    /// Did anybody?
    pub fn gave_up_writes(&self) -> bool {
        self.gave_up.writes.load(Relaxed) != 0
    }
}

#[cfg(CONFIG_ASYNC_PGTABLE_KUNIT_TEST)]
#[macros::kunit_tests(rust_async_pgtable_patience)]
mod tests {
    use super::super::{
        fake::{
            addr,
            fake,
            PATIENCE, //
        },
        page_tables::Event,
        tracker::MAX_SESSIONS, //
    };
    use super::*;
    use crate::prelude::*;

    #[test]
    fn waits_for_memory_that_comes_later() -> Result {
        fake!();
        let parent = Parent::new()?;
        let session = Fake::fork(&parent, 0, &[0, 1, 2, 3, 4, 5])?.ok_or(EINVAL)?;
        // For each who needs some, whatever others have waited.
        for index in 0..5 {
            Fake::fail_allocs(PATIENCE);
            Fake::push(&parent, index)?;
            assert_eq!(parent.copy_of(0, index), index + 1);
        }
        assert_eq!(Fake::waits_for_memory(), 5 * PATIENCE);
        assert!(session.is_good());
        // But not for ever.
        Fake::fail_allocs(PATIENCE + 1);
        Fake::push(&parent, 5)?;
        assert_eq!(Fake::waits_for_memory(), 6 * PATIENCE);
        assert!(Fake::killed(0));
        assert!(parent.tracker.is_idle());
        Ok(())
    }

    #[test]
    fn one_call_waits_once() -> Result {
        fake!();
        let parent = Parent::new()?;
        for child in 0..3 {
            Fake::fork(&parent, child, &[0, 1])?.ok_or(EINVAL)?;
        }
        Fake::fail_allocs(usize::MAX);
        let mut patience = Patience::default();
        for index in 0..2 {
            let (start, end) = (addr(index), addr(index + 1));
            parent
                .tracker
                .push_as(&parent, start, end, Some(&mut patience), false)?;
        }
        // For each child but the first a sixteenth of that time, in some tries.
        let waits = PATIENCE + 2 * Fake::TRIES as usize;
        assert_eq!(Fake::waits_for_memory(), waits);
        assert!((0..3).all(Fake::killed));
        assert!(parent.tracker.is_idle());
        Ok(())
    }

    #[test]
    fn a_try_in_vain_is_no_work() -> Result {
        fake!();
        let parent = Parent::new()?;
        Fake::fork(&parent, 0, &[0])?.ok_or(EINVAL)?;
        Fake::fail_allocs(usize::MAX);
        Fake::take(1, 0);
        Fake::push(&parent, 0)?;
        // Half of the time goes by in trying.
        assert_eq!(Fake::waits_for_memory(), PATIENCE / 2);
        assert!(Fake::killed(0));
        Ok(())
    }

    #[test]
    fn goes_on_while_there_is_progress() -> Result {
        fake!();
        let parent = Parent::new()?;
        let all: [usize; 40] = core::array::from_fn(|index| index);
        let session = Fake::fork(&parent, 0, &all)?.ok_or(EINVAL)?;
        let mut patience = Patience::default();
        let mut push = |index| {
            let (start, end) = (addr(index), addr(index + 1));
            let patience = Some(&mut patience);
            parent.tracker.push_as(&parent, start, end, patience, false)
        };
        // A wait takes three times what a range is worth: these are more than a second in all.
        for index in 0..20 {
            Fake::fail_allocs(1);
            push(index)?;
        }
        assert_eq!(Fake::waits_for_memory(), 20);
        assert!(session.is_good());
        // It cannot go on like that for ever.
        for index in 20..40 {
            Fake::fail_allocs(1);
            push(index)?;
        }
        assert!(Fake::killed(0));
        Ok(())
    }

    #[test]
    fn lacks_memory_and_the_mapping_by_turns() -> Result {
        fake!();
        let parent = Parent::new()?;
        let session = Fake::fork(&parent, 0, &[0])?.ok_or(EINVAL)?;
        Fake::fail_allocs(100 * PATIENCE);
        Fake::lock_mappings_by_waits();
        assert_eq!(session.pull(addr(0), addr(1), true), Err(EFAULT));
        assert_eq!(Fake::waits_for_memory(), PATIENCE);
        assert!(Fake::killed(0));
        Ok(())
    }

    #[test]
    fn what_others_copy_ends_the_wait() {
        // As for a range that the child has copied when he tries again, and then nothing is lacking
        // for long.
        let mut patience = Patience::default();
        for _ in 0..1000 {
            assert!(patience.lacks(false));
        }
    }

    /// How often somebody waits, so long each time, before he gives a child up.
    fn waits_for_a_child<P: PageTables>(patience: &mut Patience, long: u64) -> u64 {
        let mut nr = 0;
        loop {
            patience.waits::<P>(long);
            if !patience.lacks(false) {
                break;
            }
            nr += 1;
        }
        nr
    }

    #[test]
    fn the_next_child_has_its_turn() {
        fake!();
        let mut patience = Patience::default();
        assert_eq!(waits_for_a_child::<Fake>(&mut patience, SECOND / 16), 15);
        // Each of as many as there may be, also if he hardly runs.
        for _ in 1..MAX_SESSIONS {
            assert_eq!(waits_for_a_child::<Fake>(&mut patience, 100 * SECOND), 7);
        }
    }

    #[test]
    fn what_the_killed_had_is_no_progress() {
        fake!();
        let mut patience = Patience::default();
        let long = SECOND / 128;
        let mut waits = waits_for_a_child::<Fake>(&mut patience, long);
        assert_eq!(waits, 127);
        // Each child that is given up has memory for some ranges of the others.
        for _ in 1..MAX_SESSIONS {
            for _ in 0..7 {
                patience.waits::<Fake>(long);
                waits += u64::from(patience.lacks(false));
                patience.succeeds();
            }
            waits += waits_for_a_child::<Fake>(&mut patience, long);
        }
        assert!(waits <= (SECOND + TURNS) / long);
    }

    #[test]
    fn progress_has_an_end() {
        fake!();
        let mut patience = Patience::default();
        let mut waits = 0;
        while patience.lacks(false) {
            patience.waits::<Fake>(WORTH);
            patience.succeeds();
            waits += 1;
        }
        assert_eq!(waits, MOST / WORTH);
    }

    #[test]
    fn the_next_call_does_not_begin_anew() -> Result {
        fake!();
        let parent = Parent::new()?;
        for child in 0..3 {
            Fake::fork(&parent, child, &[0, 1])?.ok_or(EINVAL)?;
        }
        Fake::fail_allocs(PATIENCE + 1 + Fake::TRIES as usize + 1);
        let push = |index| Fake::push(&parent, index);
        push(0)?;
        assert!(Fake::killed(0) && Fake::killed(1));
        let waits = PATIENCE + Fake::TRIES as usize;
        assert_eq!(Fake::waits_for_memory(), waits);
        Fake::fail_allocs(usize::MAX);
        push(1)?;
        assert!(Fake::killed(2));
        let waits = waits + Fake::TRIES as usize;
        assert_eq!(Fake::waits_for_memory(), waits);
        Ok(())
    }

    /// As it is when nobody has given up a child for a while.
    #[test]
    fn a_later_call_does() -> Result {
        fake!();
        let parent = Parent::new()?;
        for child in 0..2 {
            Fake::fork(&parent, child, &[0, 1])?.ok_or(EINVAL)?;
        }
        Fake::fail_allocs(PATIENCE + 1);
        Fake::push(&parent, 0)?;
        assert!(Fake::killed(0) && !Fake::killed(1));
        Fake::pass(2 * SECOND);
        Fake::fail_allocs(usize::MAX);
        Fake::push(&parent, 1)?;
        assert_eq!(Fake::waits_for_memory(), 2 * PATIENCE);
        assert!(Fake::killed(1));
        Ok(())
    }

    #[test]
    fn children_do_not_pay_for_what_their_parent_gave_up() -> Result {
        fake!();
        let parent = Parent::new()?;
        Fake::fork(&parent, 0, &[0, 1])?.ok_or(EINVAL)?;
        let other = Fake::fork(&parent, 1, &[0, 1])?.ok_or(EINVAL)?;
        Fake::fail_allocs(PATIENCE + 1);
        Fake::push(&parent, 0)?;
        assert!(Fake::killed(0) && !Fake::killed(1));
        Fake::fail_allocs(PATIENCE);
        other.copy_all()?;
        assert_eq!(parent.copy_of(1, 1), 2);
        Ok(())
    }

    #[test]
    fn nobody_waits_for_memory_of_the_dying() -> Result {
        fake!();
        let parent = Parent::new()?;
        let session = Fake::fork(&parent, 0, &[0])?.ok_or(EINVAL)?;
        Fake::fail_allocs(usize::MAX);
        Fake::kill_by_failure(0);
        Fake::push(&parent, 0)?;
        assert_eq!(Fake::waits_for_memory(), 0);
        assert!(session.is_over() && !Fake::killed(0));
        assert_eq!(Fake::count_of(Event::SessionAbandon), 1);
        Ok(())
    }

    #[test]
    fn victims_do_not_wait_for_memory() -> Result {
        fake!();
        let parent = Parent::new()?;
        let session = Fake::fork(&parent, 0, &[0, 1])?.ok_or(EINVAL)?;
        // Who is killed otherwise does in munmap(), which is past failing.
        Fake::fail_allocs(1);
        Fake::interrupt(true);
        parent.tracker.push(&parent, addr(0), addr(1), false)?;
        assert_eq!(Fake::waits_for_memory(), 1);
        assert!(session.is_good());
        Fake::fail_allocs(1);
        Fake::make_victim();
        parent.tracker.push(&parent, addr(1), addr(2), false)?;
        assert_eq!(Fake::waits_for_memory(), 1);
        assert!(Fake::killed(0));
        Ok(())
    }
}
