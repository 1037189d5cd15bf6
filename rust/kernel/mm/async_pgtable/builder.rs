// SPDX-License-Identifier: GPL-2.0

//! A session while `dup_mmap()` puts it together.

use core::{
    convert::Infallible,
    mem::MaybeUninit, //
};

use crate::{
    alloc::AllocError,
    prelude::*,
    sync::{
        Arc,
        UniqueArc, //
    },
};

use super::{
    extent::Extent,
    page_tables::{
        Event,
        PageTables,
        Refusal, //
    },
    session::{
        Ends,
        Session, //
    },
};

/// A session that nobody else knows of yet.
///
/// All memory it will need is allocated before anything is deferred, so that what has been
/// deferred can always be armed.
pub struct Builder<P: PageTables> {
    source: P::Source,
    session: UniqueArc<MaybeUninit<Session<P>>>,
    extents: KVec<Extent<P>>,
    deferred: usize,
    refusal: Refusal,
}

impl<P: PageTables> Builder<P> {
    /// A session that copies from `source`.
    pub fn new(source: P::Source) -> Result<Self, AllocError> {
        Ok(Self {
            source,
            session: UniqueArc::new_uninit(GFP_KERNEL_ACCOUNT)?,
            extents: KVec::new(),
            deferred: 0,
            refusal: Refusal::Small,
        })
    }

    /// Remembers why a mapping is not deferred. The gravest reason counts.
    pub fn refuse(&mut self, refusal: Refusal) {
        self.refusal = self.refusal.max(refusal);
    }

    /// Begins a mapping of the child whose ranges in `start..end` may be deferred. They are above
    /// all those before. Without memory for it, none of them is.
    ///
    /// The parent's mmap_lock is held for writing, from here to [`arm`](Self::arm).
    pub fn extent(&mut self, target: P::TargetVma, start: usize, end: usize) {
        if self.try_extent(target, start, end).is_err() {
            self.refuse(Refusal::Nomem);
        }
    }

    fn try_extent(&mut self, target: P::TargetVma, start: usize, end: usize) -> Result {
        P::tracker(&self.source).reserve(GFP_KERNEL_ACCOUNT)?;
        self.extents.push(
            Extent::new(target, start, end, GFP_KERNEL_ACCOUNT)?,
            GFP_KERNEL_ACCOUNT,
        )?;
        Ok(())
    }

    /// Defers the range at `addr`. Returns false, and it must be copied now, if it is not in the
    /// mapping begun last.
    pub fn defer(&mut self, addr: usize) -> bool {
        let deferred = self
            .extents
            .last_mut()
            .is_some_and(|extent| extent.defer(addr));
        self.deferred += usize::from(deferred);
        deferred
    }

    /// Makes the session live, with `target` as the child. Returns `None` if nothing was deferred.
    ///
    /// To be called when no CPU can write to a deferred range any more, and before anybody else
    /// can reach the child or unlock the parent.
    pub fn arm(self, target: P::Target) -> Option<Arc<Session<P>>> {
        if self.deferred == 0 {
            P::count(Event::Fallback(self.refusal), 1);
            return None;
        }

        let ends = Ends {
            source: self.source.clone(),
            target,
        };
        let session = Session::new(self.extents, self.deferred, ends);
        let session: Arc<_> = match self.session.pin_init_with::<Infallible>(session) {
            Ok(session) => session.into(),
            Err(never) => match never {},
        };
        if P::tracker(&self.source).add(session.clone()).is_err() {
            // Cannot be: `extent` has reserved the place.
            pr_err!("async_pgtable: no room for a session\n");
            session.fail();
        }

        P::count(Event::SessionStart, 1);
        P::count(Event::RangeDefer, self.deferred);
        Some(session)
    }
}
