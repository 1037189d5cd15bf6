// SPDX-License-Identifier: GPL-2.0

//! The sessions that copy from one parent.

use crate::{
    prelude::*,
    static_lock_class,
    sync::{
        atomic::{
            Acquire,
            Atomic,
            Relaxed,
            Release, //
        },
        Arc,
        SpinLock, //
    },
};

use super::{
    help::Locked,
    page_tables::{
        Entry,
        PageTables, //
    },
    patience::GaveUp,
    pusher::Pusher,
    Patience,
    Session, //
};

/// Most sessions that copy from one parent at a time.
///
/// A write of the parent may have to copy one page table for each. A fork beyond this copies all in
/// the call.
pub const MAX_SESSIONS: usize = 16;

/// What lockdep calls the lock of [`Tracker`]. As the key of its class this must be the same in all
/// crates, which a literal in a generic function is not.
static SESSIONS: &CStr = c"async_pgtable::Tracker::sessions";

/// The sessions that copy from one parent.
///
/// Sessions are added with the parent's mmap_lock and all its VMAs locked for writing, so whoever
/// holds one of these locks, in any mode, sees all sessions that concern it. A session is removed
/// when nobody copies in it any more.
///
/// # Invariants
///
/// `live` is the number of sessions, except while `sessions` is locked.
#[pin_data]
pub struct Tracker<P: PageTables> {
    #[pin]
    sessions: SpinLock<[Option<Arc<Session<P>>>; MAX_SESSIONS]>,
    live: Atomic<usize>,
    /// The slot with which a parent that helps begins; a hint.
    pub(super) helped_first: Atomic<usize>,
    pub(super) gave_up: GaveUp,
    pub(super) locked: Locked,
}

impl<P: PageTables> Tracker<P> {
    /// A tracker without sessions.
    pub fn new() -> impl PinInit<Self> {
        let none = core::array::from_fn(|_| None);
        // INVARIANT: None.
        pin_init!(Self {
            sessions <- SpinLock::new(none, SESSIONS, static_lock_class!()),
            live: Atomic::new(0),
            helped_first: Atomic::new(0),
            gave_up: GaveUp::new(),
            locked: Locked::new(),
        })
    }

    /// Is there no session?
    pub fn is_idle(&self) -> bool {
        // The caller's lock orders it after the sessions that were added. Acquire: pairs with
        // `remove`; who finds no session must also find that nobody copies any more.
        self.live.load(Acquire) == 0
    }

    /// Number of sessions.
    pub fn sessions(&self) -> usize {
        // Relaxed: nothing depends on it.
        self.live.load(Relaxed)
    }

    /// May a session be added? If so, it may until one is: the parent's mmap_lock is held for
    /// writing.
    pub(super) fn has_room(&self) -> bool {
        let is_full = || self.live.load(Relaxed) >= MAX_SESSIONS;
        if is_full() {
            self.forget_dying();
        }
        !is_full()
    }

    /// Adds a session, if there is room.
    pub(super) fn add(&self, session: Arc<Session<P>>) -> Result {
        let mut sessions = self.sessions.lock();
        let slot = sessions.iter_mut().find(|slot| slot.is_none());
        *slot.ok_or(ENOSPC)? = Some(session);
        // INVARIANT: One more.
        self.live.store(self.live.load(Relaxed) + 1, Relaxed);
        Ok(())
    }

    /// Removes a session, if it has not been, that has ended and in which nobody copies any more.
    pub(super) fn remove(&self, session: &Session<P>) {
        let is_it = |other: &Arc<Session<P>>| core::ptr::eq(&**other, session);
        let mut sessions = self.sessions.lock();
        let removed = sessions
            .iter_mut()
            .find(|slot| slot.as_ref().is_some_and(is_it))
            .and_then(Option::take);
        if removed.is_some() {
            // INVARIANT: One fewer. Release: see `is_idle`.
            self.live.store(self.live.load(Relaxed) - 1, Release);
        }
        drop(sessions);
        // Not under the lock: this may be the last reference.
        drop(removed);
    }

    /// The sessions in slot `from` or above for which `f`, which is asked under the lock, and their
    /// slots. The lock is not held between them: who has one of them can sleep.
    pub(super) fn each<'a>(
        &'a self,
        from: usize,
        f: impl Fn(&Session<P>) -> bool + 'a,
    ) -> impl Iterator<Item = (usize, Arc<Session<P>>)> + 'a {
        let mut slot = from;
        core::iter::from_fn(move || {
            if self.is_idle() {
                return None;
            }
            let sessions = self.sessions.lock();
            let mut sessions = sessions.iter().enumerate().skip(slot);
            let (found, session) = sessions.find_map(|(found, session)| {
                let session = session.as_ref().filter(|session| f(session))?;
                Some((found, session.clone()))
            })?;
            slot = found + 1;
            Some((found, session))
        })
    }

    /// The first address in `start..end` at which any session has something to settle.
    pub fn next_pending(&self, start: usize, end: usize) -> Option<usize> {
        if self.is_idle() {
            return None;
        }
        // Also if a session is over: somebody may still be copying in it.
        let first = if Session::<P>::is_short(start, end) {
            let sessions = self.sessions.lock();
            let sessions = sessions.iter().flatten();
            sessions.filter_map(|s| s.next_pending(start, end)).min()
        } else {
            let pending = |(_, s): (_, Arc<Session<P>>)| s.next_pending(start, end);
            self.each(0, |_| true).filter_map(pending).min()
        };
        Some(first?.max(start))
    }

    /// Is there one?
    pub fn overlaps(&self, start: usize, end: usize) -> bool {
        self.next_pending(start, end).is_some()
    }

    /// Settles all of `start..end`, in every session, on behalf of the parent. `source` covers it.
    ///
    /// Fails only if `killable` and the task is being killed.
    pub fn push(
        &self,
        source: P::SourceVma<'_>,
        start: usize,
        end: usize,
        killable: bool,
    ) -> Result {
        let mut patience = Patience::default();
        self.push_as(source, start, end, Some(&mut patience), killable)
    }

    /// The same on behalf of anybody. Who comes back has no `patience`, and fails for want of
    /// memory for a child; who need not go on with the parent, too, but has one try, a hard one.
    /// Who must, waits as long as he has some, in all calls with the same, before he gives a child
    /// up.
    pub fn push_as(
        &self,
        source: P::SourceVma<'_>,
        start: usize,
        end: usize,
        mut patience: Option<&mut Patience>,
        killable: bool,
    ) -> Result {
        let long = !Session::<P>::is_short(start, end);
        let concerned = |s: &Session<P>| long || s.is_over() || s.overlaps(start, end);
        let mut pusher = Pusher::new(self, source);
        for (_, session) in self.each(0, concerned) {
            let patience = patience.as_deref_mut();
            session.push(&mut pusher, start, end, patience, killable)?;
        }
        Ok(())
    }

    /// The same for those sessions whose slots are not in `full`. Those that there is no memory for
    /// are added to it. Is any other left?
    ///
    /// The parent does not fork meanwhile, so a slot has the same session in all calls, or none.
    pub fn push_some(
        &self,
        source: P::SourceVma<'_>,
        start: usize,
        end: usize,
        full: &mut u32,
    ) -> bool {
        let mut left = false;
        let mut pusher = Pusher::new(self, source);
        for (slot, session) in self.each(0, |_| true) {
            if *full & 1 << slot != 0 {
                continue;
            }
            match session.push(&mut pusher, start, end, None, false) {
                Ok(()) => left = true,
                Err(_) => *full |= 1 << slot,
            }
        }
        left
    }

    /// Gives up the sessions of children that are being killed.
    pub fn forget_dying(&self) {
        for (_, session) in self.each(0, |_| true) {
            if session.is_dying() {
                session.abandon();
            }
        }
    }

    /// Waits for those who are copying. Called when everything is settled.
    pub fn quiesce(&self) {
        for (_, session) in self.each(0, |_| true) {
            session.quiesce();
        }
    }

    /// Lifts a protection of the range at `addr` that no session needs any more.
    pub fn repair(&self, source: P::SourceVma<'_>, addr: usize) {
        if let Some(entry) = P::lock_entry(source, addr) {
            self.lift(entry, addr);
        }
    }

    /// Lifts the protection of the range at `addr`, and unlocks its entry, unless a session needs
    /// it.
    pub(super) fn lift(&self, mut entry: P::Entry, addr: usize) {
        // Stable: sessions that settle the range do so under the lock of the entry, and new ones
        // need the VMA.
        if !self.overlaps(addr, addr + P::RANGE_SIZE) {
            entry.unprotect();
        }
    }

    /// Fails every session: what they have not copied is about to be lost.
    ///
    /// Waits for copies that are under way, which is not long, and must find out for themselves
    /// whether what they read was intact.
    pub fn abort(&self) {
        let mut children: [Option<P::Target>; MAX_SESSIONS] = core::array::from_fn(|_| None);
        for (slot, session) in self.each(0, |_| true) {
            children[slot] = session.mark_failed().map(|ended| session.let_go(ended));
        }
        if children.iter().any(Option::is_some) {
            P::kill(&children, EFAULT);
        }
    }
}

#[cfg(CONFIG_ASYNC_PGTABLE_KUNIT_TEST)]
#[macros::kunit_tests(rust_async_pgtable_tracker)]
mod tests {
    use super::super::{
        fake::{
            addr,
            fake, //
        },
        page_tables::{
            Event,
            Refusal, //
        }, //
    };
    use super::*;

    #[test]
    fn a_push_is_for_all_sessions() -> Result {
        fake!();
        let parent = Parent::new()?;
        let first = Fake::fork(&parent, 0, &[0, 1])?.ok_or(EINVAL)?;
        let second = Fake::fork(&parent, 1, &[1, 2])?.ok_or(EINVAL)?;
        let third = Fake::fork(&parent, 2, &[2])?.ok_or(EINVAL)?;
        assert!(parent.tracker.overlaps(addr(0), addr(3)));
        assert!(!parent.tracker.overlaps(addr(3), usize::MAX));

        Fake::push(&parent, 1)?;
        assert_eq!(parent.copy_of(0, 1), 2);
        assert_eq!(parent.copy_of(1, 1), 2);
        assert_eq!(parent.copy_of(2, 1), 0);
        assert!(!parent.is_protected(1));
        assert!(parent.is_protected(2));
        assert!(!parent.tracker.overlaps(addr(1), addr(2)));

        parent.tracker.push(&parent, addr(0), addr(3), false)?;
        parent.tracker.quiesce();
        assert!(parent.tracker.is_idle());
        assert_eq!(parent.copy_of(2, 2), 3);
        first.copy_all()?;
        second.copy_all()?;
        third.copy_all()?;
        assert_eq!(parent.copy_of(0, 0), 1);
        Ok(())
    }

    #[test]
    fn who_has_no_room_is_left_out() -> Result {
        fake!();
        let parent = Parent::new()?;
        let first = Fake::fork(&parent, 0, &[0, 1])?.ok_or(EINVAL)?;
        let second = Fake::fork(&parent, 1, &[0, 1])?.ok_or(EINVAL)?;
        let mut full = 0;
        let tracker = &parent.tracker;

        Fake::fail_allocs(1);
        assert!(tracker.push_some(&parent, addr(0), addr(1), &mut full));
        assert_eq!(full, 1);
        // From then on, even if there is room again.
        assert!(tracker.push_some(&parent, addr(1), addr(2), &mut full));
        assert_eq!(parent.copy_of(0, 0) + parent.copy_of(0, 1), 0);
        assert_eq!(parent.copy_of(1, 0) + parent.copy_of(1, 1), 3);
        assert!(!second.is_good());
        assert!(!tracker.push_some(&parent, addr(0), addr(2), &mut full));
        assert!(!Fake::killed(0));
        first.copy_all()?;
        assert_eq!(parent.copy_of(0, 0) + parent.copy_of(0, 1), 3);
        assert!(tracker.is_idle());
        Ok(())
    }

    #[test]
    fn finds_what_is_pending_for_any() -> Result {
        fake!();
        let parent = Parent::new()?;
        let tracker = &parent.tracker;
        let first = Fake::fork(&parent, 0, &[1, 5])?.ok_or(EINVAL)?;
        let second = Fake::fork(&parent, 1, &[3])?.ok_or(EINVAL)?;
        let next = |from, to| tracker.next_pending(addr(from), addr(to));
        assert_eq!(next(0, 9), Some(addr(1)));
        assert_eq!(next(2, 9), Some(addr(3)));
        assert_eq!(next(4, 5), None);
        // In a part of the range.
        assert_eq!(
            tracker.next_pending(addr(3) + 1, addr(9)),
            Some(addr(3) + 1)
        );
        assert_eq!(tracker.next_pending(addr(2), addr(3) + 1), Some(addr(3)));
        second.copy_all()?;
        assert_eq!(next(2, 9), Some(addr(5)));
        first.copy_all()?;
        assert_eq!(next(0, 9), None);
        Ok(())
    }

    #[test]
    fn the_last_session_lifts_the_protection() -> Result {
        fake!();
        let parent = Parent::new()?;
        let first = Fake::fork(&parent, 0, &[1])?.ok_or(EINVAL)?;
        let second = Fake::fork(&parent, 1, &[1])?.ok_or(EINVAL)?;
        first.copy_all()?;
        assert!(parent.is_protected(1));
        assert!(!parent.tracker.is_idle());
        second.copy_all()?;
        assert!(!parent.is_protected(1));
        assert!(parent.tracker.is_idle());
        Ok(())
    }

    #[test]
    fn tracker_repair() -> Result {
        fake!();
        let parent = Parent::new()?;
        let first = Fake::fork(&parent, 0, &[1])?.ok_or(EINVAL)?;
        let second = Fake::fork(&parent, 1, &[1])?.ok_or(EINVAL)?;

        // Another session needs it.
        first.abandon();
        parent.tracker.repair(&parent, addr(1));
        assert!(parent.is_protected(1));

        // Nobody does, but abandonment leaves entries alone.
        second.abandon();
        assert!(parent.is_protected(1));
        parent.tracker.repair(&parent, addr(1));
        assert!(!parent.is_protected(1));
        Ok(())
    }

    #[test]
    fn nobody_waits_for_the_one_who_ends_a_session() -> Result {
        fake!();
        let parent = Parent::new()?;
        let session = Fake::fork(&parent, 0, &[1])?.ok_or(EINVAL)?;
        // Who does it does not get to run any more.
        let ended = session.mark_failed().ok_or(EINVAL)?;
        parent.tracker.repair(&parent, addr(1));
        assert!(parent.is_protected(1));
        assert_eq!(session.pull(addr(1), addr(2), false), Err(EFAULT));

        Fake::push(&parent, 1)?;
        parent.tracker.repair(&parent, addr(1));
        assert!(!parent.is_protected(1));
        assert!(parent.tracker.is_idle());

        session.bury(ended, ENOMEM);
        assert!(Fake::killed(0));
        Ok(())
    }

    #[test]
    fn an_abort_fails_all_sessions() -> Result {
        fake!();
        let parent = Parent::new()?;
        let first = Fake::fork(&parent, 0, &[0])?.ok_or(EINVAL)?;
        let second = Fake::fork(&parent, 1, &[0, 1])?.ok_or(EINVAL)?;
        let third = Fake::fork(&parent, 2, &[2])?.ok_or(EINVAL)?;
        first.copy_all()?;
        parent.tracker.abort();
        assert!(!Fake::killed(0));
        assert!(Fake::killed(1));
        assert!(Fake::killed(2));
        // In one go, however many there are.
        assert_eq!(Fake::kills(), 1);
        parent.tracker.abort();
        assert_eq!(Fake::kills(), 1);
        assert!(parent.tracker.is_idle());
        first.pull(addr(0), addr(1), false)?;
        assert_eq!(second.pull(addr(0), addr(1), false), Err(EFAULT));
        assert_eq!(third.copy_all(), Err(EFAULT));
        assert_eq!(Fake::count_of(Event::SessionFail), 2);
        assert_eq!(Fake::count_of(Event::SessionComplete), 1);
        Ok(())
    }

    #[test]
    fn the_dying_need_no_room() -> Result {
        fake!();
        let parent = Parent::new()?;
        let mut sessions = KVec::new();
        for child in 0..MAX_SESSIONS {
            let session = Fake::fork(&parent, child % 2, &[0])?.ok_or(EINVAL)?;
            sessions.push(session, GFP_KERNEL)?;
        }
        assert!(Fake::fork(&parent, 0, &[1])?.is_none());
        Fake::begin_to_kill(1);
        assert!(Fake::fork(&parent, 0, &[1])?.is_some());
        let abandoned = Fake::count_of(Event::SessionAbandon);
        assert_eq!(abandoned, MAX_SESSIONS / 2);
        assert!(sessions[0].is_good());
        assert!(!sessions[1].is_good());
        Ok(())
    }

    #[test]
    fn has_room_for_so_many() -> Result {
        fake!();
        let parent = Parent::new()?;
        let mut sessions = KVec::new();
        for _ in 0..MAX_SESSIONS {
            let session = Fake::fork(&parent, 0, &[0])?.ok_or(EINVAL)?;
            sessions.push(session, GFP_KERNEL)?;
        }
        assert!(Fake::fork(&parent, 1, &[0, 1])?.is_none()); // copied in the call
        let fallback = Event::Fallback(Refusal::Sessions);
        assert_eq!(Fake::count_of(fallback), 1);
        assert_eq!(Fake::count_of(Event::RangeSync), 2);

        // Until a child is gone, whichever it is.
        sessions[MAX_SESSIONS / 2].abandon();
        let late = Fake::fork(&parent, 1, &[1])?.ok_or(EINVAL)?;
        assert!(Fake::fork(&parent, 2, &[2])?.is_none());
        for session in &*sessions {
            session.abandon();
        }
        assert!(!parent.tracker.is_idle());
        late.copy_all()?;
        assert!(parent.tracker.is_idle());
        Ok(())
    }
}
