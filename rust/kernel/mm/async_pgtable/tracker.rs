// SPDX-License-Identifier: GPL-2.0

//! The sessions that copy from one parent.

use crate::{
    alloc::{
        AllocError,
        Flags, //
    },
    new_spinlock,
    prelude::*,
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
            sessions <- new_spinlock!(KVec::new(), "async_pgtable::Tracker::sessions"),
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
