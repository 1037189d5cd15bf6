// SPDX-License-Identifier: GPL-2.0

//! The sessions that copy from one parent.

use crate::{
    alloc::{
        AllocError,
        Flags, //
    },
    prelude::*,
    static_lock_class,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        Arc,
        SpinLock, //
    },
};

use super::{
    page_tables::{
        Entry,
        PageTables, //
    },
    Session, //
};

/// What lockdep calls the lock of [`Tracker`]. As the key of its class this must be the same in all
/// crates, which a literal in a generic function is not.
static SESSIONS: &CStr = c"async_pgtable::Tracker::sessions";

/// The sessions that copy from one parent.
///
/// Sessions are added with the parent's mmap_lock and all its VMAs locked for writing, so whoever
/// holds one of these locks, in any mode, sees all sessions that concern him.
///
/// # Invariants
///
/// `live` is the length of `sessions`, except while that is locked.
#[pin_data]
pub struct Tracker<P: PageTables> {
    #[pin]
    sessions: SpinLock<KVec<Arc<Session<P>>>>,
    live: Atomic<usize>,
}

impl<P: PageTables> Tracker<P> {
    /// A tracker without sessions.
    pub fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            sessions <- SpinLock::new(KVec::new(), SESSIONS, static_lock_class!()),
            live: Atomic::new(0),
        })
    }

    /// Is there no session?
    pub fn is_idle(&self) -> bool {
        // Relaxed: the caller's lock orders it after the sessions that were added, and one that
        // is just being removed has nothing left to settle.
        self.live.load(Relaxed) == 0
    }

    /// Makes room for one more session. Only called, as `add`, by one fork at a time.
    pub(super) fn reserve(&self, flags: Flags) -> Result<(), AllocError> {
        let len = {
            let sessions = self.sessions.lock();
            if sessions.len() < sessions.capacity() {
                return Ok(());
            }
            sessions.len()
        };

        // Not under the lock. Meanwhile sessions may be removed, but not added.
        let mut larger = KVec::with_capacity((len + 1).next_power_of_two(), flags)?;
        let mut sessions = self.sessions.lock();
        for session in sessions.drain_all() {
            if larger.push_within_capacity(session).is_err() {
                break;
            }
        }
        let old = core::mem::replace(&mut *sessions, larger);
        drop(sessions);
        drop(old);
        Ok(())
    }

    /// Adds a session, for which room has been made.
    pub(super) fn add(&self, session: Arc<Session<P>>) -> Result {
        let mut sessions = self.sessions.lock();
        sessions.push_within_capacity(session)?;
        self.live.store(sessions.len(), Relaxed);
        Ok(())
    }

    /// Removes a session that has ended.
    pub(super) fn remove(&self, session: &Session<P>) {
        let mut sessions = self.sessions.lock();
        let removed = sessions
            .iter()
            .position(|other| core::ptr::eq(&**other, session))
            .map(|index| sessions.remove(index));
        self.live.store(sessions.len(), Relaxed);
        drop(sessions);
        // Not under the lock: this may be the last reference.
        drop(removed);
    }

    fn find(&self, f: impl Fn(&Session<P>) -> bool) -> Option<Arc<Session<P>>> {
        if self.is_idle() {
            return None;
        }
        let sessions = self.sessions.lock();
        sessions.iter().find(|session| f(session)).cloned()
    }

    /// Does any session have something to settle in `start..end`?
    pub fn overlaps(&self, start: usize, end: usize) -> bool {
        if self.is_idle() {
            return false;
        }
        let sessions = self.sessions.lock();
        sessions.iter().any(|session| session.overlaps(start, end))
    }

    /// Settles all of `start..end`, in every session. `source` covers it.
    ///
    /// Without `wait`, returns false instead of waiting for somebody else's copy.
    pub fn push(&self, source: P::SourceVma<'_>, start: usize, end: usize, wait: bool) -> bool {
        while let Some(session) = self.find(|session| session.overlaps(start, end)) {
            if !session.push(self, source, start, end, wait) {
                return false;
            }
        }
        true
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
    /// Copies that are under way go on, and must find out for themselves.
    pub fn abort(&self) {
        while let Some(session) = self.find(|session| session.is_good()) {
            session.fail();
        }
    }
}

#[cfg(CONFIG_ASYNC_PGTABLE_KUNIT_TEST)]
#[macros::kunit_tests(rust_async_pgtable_tracker)]
mod tests {
    use super::super::{
        fake::{
            addr,
            Fake,
            Parent, //
        },
        page_tables::Event, //
    };
    use super::*;

    #[test]
    fn a_push_is_for_all_sessions() -> Result {
        Fake::<16>::reset();
        let parent = Parent::<16>::new()?;
        let first = Fake::fork(&parent, 0, &[0, 1])?.ok_or(EINVAL)?;
        let second = Fake::fork(&parent, 1, &[1, 2])?.ok_or(EINVAL)?;
        let third = Fake::fork(&parent, 2, &[2])?.ok_or(EINVAL)?;
        assert!(parent.tracker.overlaps(addr(0), addr(3)));
        assert!(!parent.tracker.overlaps(addr(3), usize::MAX));

        assert!(Fake::push(&parent, 1, true));
        assert_eq!(parent.copy_of(0, 1), 2);
        assert_eq!(parent.copy_of(1, 1), 2);
        assert_eq!(parent.copy_of(2, 1), 0);
        assert!(!parent.is_protected(1));
        assert!(parent.is_protected(2));
        assert!(!parent.tracker.overlaps(addr(1), addr(2)));

        assert!(parent.tracker.push(&parent, addr(0), addr(3), true));
        assert!(parent.tracker.is_idle());
        assert_eq!(parent.copy_of(2, 2), 3);
        first.copy_all()?;
        second.copy_all()?;
        third.copy_all()?;
        assert_eq!(parent.copy_of(0, 0), 1);
        Ok(())
    }

    #[test]
    fn the_last_session_lifts_the_protection() -> Result {
        Fake::<17>::reset();
        let parent = Parent::<17>::new()?;
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
        Fake::<18>::reset();
        let parent = Parent::<18>::new()?;
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
    fn an_abort_fails_all_sessions() -> Result {
        Fake::<19>::reset();
        let parent = Parent::<19>::new()?;
        let first = Fake::fork(&parent, 0, &[0])?.ok_or(EINVAL)?;
        let second = Fake::fork(&parent, 1, &[0, 1])?.ok_or(EINVAL)?;
        first.copy_all()?;
        parent.tracker.abort();
        assert!(!Fake::<19>::killed(0));
        assert!(Fake::<19>::killed(1));
        assert!(parent.tracker.is_idle());
        first.pull(addr(0), addr(1))?;
        assert_eq!(second.pull(addr(0), addr(1)), Err(EFAULT));
        assert_eq!(Fake::<19>::count_of(Event::SessionFail), 1);
        assert_eq!(Fake::<19>::count_of(Event::SessionComplete), 1);
        Ok(())
    }

    #[test]
    fn has_room_for_what_is_begun() -> Result {
        Fake::<20>::reset();
        let parent = Parent::<20>::new()?;
        for _ in 0..5 {
            // The child is gone, another follows.
            Fake::fork(&parent, 0, &[0])?.ok_or(EINVAL)?.abandon();
            let kept = Fake::fork(&parent, 1, &[0])?;
            let also = Fake::fork(&parent, 2, &[1])?;
            assert_eq!(parent.tracker.sessions.lock().len(), 2);
            assert_eq!(parent.tracker.live.load(Relaxed), 2);
            kept.ok_or(EINVAL)?.abandon();
            assert_eq!(parent.tracker.live.load(Relaxed), 1);
            also.ok_or(EINVAL)?.abandon();
        }
        assert!(parent.tracker.is_idle());
        Ok(())
    }

    #[test]
    fn without_room_a_session_fails() -> Result {
        Fake::<21>::reset();
        let parent = Parent::<21>::new()?;
        let builder = Fake::begin(&parent, 0, &[0])?;
        // Cannot be, but if it is, nobody waits for what will not come.
        *parent.tracker.sessions.lock() = KVec::new();
        let session = builder.arm(0).ok_or(EINVAL)?;
        assert!(parent.tracker.is_idle());
        assert!(Fake::<21>::killed(0));
        assert_eq!(session.pull(addr(0), addr(1)), Err(EFAULT));
        Ok(())
    }
}
