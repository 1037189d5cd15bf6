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

#[cfg(CONFIG_ASYNC_PGTABLE_KUNIT_TEST)]
#[macros::kunit_tests(rust_async_pgtable_builder)]
mod tests {
    use super::super::fake::{
        addr,
        Fake,
        Parent,
        RANGES, //
    };
    use super::*;

    #[test]
    fn without_ranges_is_no_session() -> Result {
        Fake::<4>::reset();
        let parent = Parent::<4>::new()?;
        assert!(Fake::fork(&parent, 0, &[])?.is_none());
        assert!(parent.tracker.is_idle());
        assert_eq!(Fake::<4>::count_of(Event::Fallback(Refusal::Small)), 1);
        assert_eq!(Fake::<4>::count_of(Event::SessionStart), 0);
        Ok(())
    }

    #[test]
    fn counts_the_gravest_refusal() -> Result {
        Fake::<5>::reset();
        let parent = Parent::<5>::new()?;
        let mut builder = Fake::begin(&parent, 0, &[])?;
        builder.refuse(Refusal::Pinned);
        builder.refuse(Refusal::Nomem);
        assert!(builder.arm(0).is_none());
        assert_eq!(Fake::<5>::count_of(Event::Fallback(Refusal::Pinned)), 1);
        assert_eq!(Fake::<5>::count_of(Event::Fallback(Refusal::Nomem)), 0);

        // One that has something deferred is not a fallback.
        let mut builder = Fake::begin(&parent, 0, &[0])?;
        builder.refuse(Refusal::Notifier);
        let session = builder.arm(0).ok_or(EINVAL)?;
        assert_eq!(Fake::<5>::count_of(Event::Fallback(Refusal::Notifier)), 0);
        session.copy_all()
    }

    #[test]
    fn defers_within_the_mapping_begun_last() -> Result {
        Fake::<6>::reset();
        let parent = Parent::<6>::new()?;
        let mut builder = Builder::<Fake<6>>::new(parent.clone())?;
        assert!(!builder.defer(addr(2)));

        builder.extent(0, addr(2), addr(4));
        assert!(!builder.defer(addr(1)));
        assert!(builder.defer(addr(2)));
        assert!(!builder.defer(addr(2)));
        assert!(builder.defer(addr(3)));
        assert!(!builder.defer(addr(4)));

        builder.extent(0, addr(6), addr(8));
        assert!(!builder.defer(addr(3)));
        assert!(!builder.defer(addr(5)));
        assert!(builder.defer(addr(7)));

        let session = builder.arm(0).ok_or(EINVAL)?;
        assert_eq!(Fake::<6>::count_of(Event::SessionStart), 1);
        assert_eq!(Fake::<6>::count_of(Event::RangeDefer), 3);
        assert!(!session.overlaps(addr(0), addr(2)));
        assert!(session.overlaps(addr(1), addr(2) + 1));
        assert!(session.overlaps(addr(4) - 1, addr(4)));
        assert!(!session.overlaps(addr(4), addr(7)));
        assert!(session.overlaps(0, usize::MAX));
        assert!(!session.overlaps(addr(8), usize::MAX));

        session.copy_all()?;
        assert!(!session.overlaps(0, usize::MAX));
        assert_eq!(parent.copy_of(0, 2), 3);
        assert_eq!(parent.copy_of(0, 6), 0);
        assert_eq!(parent.copy_of(0, 7), 8);
        Ok(())
    }

    #[test]
    fn leaves_nothing_behind_if_dropped() -> Result {
        Fake::<7>::reset();
        let parent = Parent::<7>::new()?;
        drop(Fake::begin(&parent, 0, &[0, 1, RANGES - 1])?);
        assert!(parent.tracker.is_idle());
        assert!(!parent.tracker.overlaps(0, usize::MAX));
        assert_eq!(Fake::<7>::count_of(Event::SessionStart), 0);

        // What had been protected is repaired by the next write.
        assert!(parent.is_protected(0));
        assert!(Fake::push(&parent, 0, true));
        parent.tracker.repair(&parent, addr(0));
        assert!(!parent.is_protected(0));
        assert_eq!(parent.copy_of(0, 0), 0);
        Ok(())
    }
}
