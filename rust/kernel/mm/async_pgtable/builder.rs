// SPDX-License-Identifier: GPL-2.0

//! A session while `dup_mmap()` puts it together.

use core::{
    convert::Infallible,
    mem::MaybeUninit, //
};

use crate::{
    alloc::{
        flags,
        AllocError,
        Flags, //
    },
    prelude::*,
    sync::{
        Arc,
        UniqueArc, //
    },
};

use super::{
    extent::Extents,
    page_tables::{
        Event,
        PageTables,
        Refusal, //
    },
    range_bitmap::RangeBitmap,
    session::Session, //
};

/// How bookkeeping is allocated. There is another way without memory, to copy in the call; so
/// nobody is killed for it, and little is tried.
pub(super) fn bookkeeping() -> Flags {
    flags::GFP_KERNEL_ACCOUNT | flags::__GFP_NORETRY | flags::__GFP_NOWARN
}

/// A mapping whose ranges may be deferred.
struct Mapping<P: PageTables> {
    target: P::TargetVma,
    start: usize,
    end: usize,
    /// May any of it still be deferred? If not, it is copied in the call although it might be.
    open: bool,
    /// Is it one of the session's extents?
    known: bool,
}

/// A session that nobody else knows of yet.
///
/// All memory it will need is allocated before anything is deferred, so that what has been
/// deferred can always be armed.
pub struct Builder<P: PageTables> {
    source: P::Source,
    payer: P::Payer,
    session: UniqueArc<MaybeUninit<Session<P>>>,
    bitmap: RangeBitmap,
    extents: Extents<P>,
    mapping: Option<Mapping<P>>,
    /// Is there room for the session? Asked once.
    room: Option<bool>,
    deferred: usize,
    sync: usize,
    refusal: Refusal,
    /// Was there no memory?
    short: bool,
}

impl<P: PageTables> Builder<P> {
    /// A session that copies from `source`, and for which `payer` is charged.
    pub fn new(source: P::Source, payer: P::Payer) -> Result<Self, AllocError> {
        Ok(Self {
            source,
            payer,
            session: UniqueArc::new_uninit(bookkeeping())?,
            bitmap: RangeBitmap::new(),
            extents: Extents::new(),
            mapping: None,
            room: None,
            deferred: 0,
            sync: 0,
            refusal: Refusal::Small,
            short: false,
        })
    }

    /// Remembers why a mapping is not deferred. The gravest reason counts.
    pub fn refuse(&mut self, refusal: Refusal) {
        self.refusal = self.refusal.max(refusal);
    }

    /// Begins a mapping of the child whose ranges in `start..end` may be deferred. They are above
    /// all those before.
    ///
    /// The parent's mmap_lock is held for writing, from here to [`arm`](Self::arm).
    pub fn extent(&mut self, target: P::TargetVma, start: usize, end: usize) {
        let source = &self.source;
        let room = *self
            .room
            .get_or_insert_with(|| P::tracker(source).is_some_and(|tracker| tracker.has_room()));
        if !room {
            self.refuse(Refusal::Sessions);
        }
        self.mapping = Some(Mapping {
            target,
            start,
            end,
            open: room && !self.short,
            known: false,
        });
    }

    /// May the range at `addr` be deferred? If not, it is copied now, and counted if it is in the
    /// mapping begun last.
    pub fn may_defer(&mut self, addr: usize) -> bool {
        let Some(mapping) = &self.mapping else {
            return false;
        };
        if !(mapping.start..mapping.end).contains(&addr) {
            return false;
        }
        self.sync += usize::from(!mapping.open);
        mapping.open
    }

    /// Defers the ranges of `start..end`, a run within one GiB and above all those before, the
    /// first of which [may be](Self::may_defer). Returns false if there is no memory, or if they
    /// are not all in that mapping: then the first is copied now.
    pub fn defer(&mut self, start: usize, end: usize) -> bool {
        let Some(mapping) = &mut self.mapping else {
            return false;
        };
        if !mapping.open || start < mapping.start || end > mapping.end {
            return false;
        }

        let deferred = Self::try_defer(&mut self.bitmap, &mut self.extents, mapping, start, end)
            .unwrap_or_else(|_| {
                self.run_out();
                false
            });
        if deferred {
            self.deferred += (end - start) / P::RANGE_SIZE;
        } else {
            self.sync += 1;
        }
        deferred
    }

    /// There is no memory: the rest is copied in the call.
    #[cold]
    fn run_out(&mut self) {
        self.short = true;
        self.refuse(Refusal::Nomem);
        if let Some(mapping) = &mut self.mapping {
            mapping.open = false;
        }
    }

    fn try_defer(
        bitmap: &mut RangeBitmap,
        extents: &mut Extents<P>,
        mapping: &mut Mapping<P>,
        start: usize,
        end: usize,
    ) -> Result<bool> {
        if !mapping.known && !Self::add_extent(extents, mapping)? {
            return Ok(false);
        }
        let (from, to) = (start / P::RANGE_SIZE, end / P::RANGE_SIZE);
        Ok(bitmap.mark_pending(from, to, bookkeeping())?)
    }

    /// Makes `mapping` an extent of the session.
    fn add_extent(extents: &mut Extents<P>, mapping: &mut Mapping<P>) -> Result<bool> {
        mapping.known = extents.push(mapping.start, mapping.end, mapping.target, bookkeeping())?;
        Ok(mapping.known)
    }

    /// Makes the session live, with `target` as the child. Returns `None` if nothing was deferred.
    ///
    /// To be called when no CPU can write to a deferred range any more, and before anybody else
    /// can reach the child or unlock the parent.
    pub fn arm(self, target: P::Target) -> Option<Arc<Session<P>>> {
        if self.sync != 0 {
            P::count(&self.payer, Event::RangeSync, self.sync);
        }
        if self.deferred == 0 {
            P::count(&self.payer, Event::Fallback(self.refusal), 1);
            return None;
        }

        P::account(&target, 0, self.deferred, self.deferred);
        P::count(&self.payer, Event::SessionStart, 1);
        P::count(&self.payer, Event::RangeDefer, self.deferred);
        let session = Session::new(
            self.bitmap,
            self.extents,
            self.deferred,
            self.payer,
            self.source.clone(),
            target,
        );
        let session: Arc<_> = match self.session.pin_init_with::<Infallible>(session) {
            Ok(session) => session.into(),
            Err(never) => match never {},
        };

        let added = P::tracker(&self.source).ok_or(EINVAL);
        if added
            .and_then(|tracker| tracker.add(session.clone()))
            .is_err()
        {
            // Cannot be: `extent` has looked.
            pr_err!("async_pgtable: no room for a session\n");
            if let Some(ended) = session.mark_failed() {
                session.bury(ended, ENOSPC);
            }
        }
        Some(session)
    }
}

#[cfg(CONFIG_ASYNC_PGTABLE_KUNIT_TEST)]
#[macros::kunit_tests(rust_async_pgtable_builder)]
mod tests {
    use super::super::fake::{
        addr,
        fake,
        RANGES, //
    };
    use super::*;

    fn defer<P: PageTables>(builder: &mut Builder<P>, index: usize) -> bool {
        builder.may_defer(addr(index)) && builder.defer(addr(index), addr(index + 1))
    }

    #[test]
    fn without_ranges_is_no_session() -> Result {
        fake!();
        let parent = Parent::new()?;
        assert!(Fake::fork(&parent, 0, &[])?.is_none());
        assert!(parent.tracker.is_idle());
        assert_eq!(Fake::count_of(Event::Fallback(Refusal::Small)), 1);
        assert_eq!(Fake::count_of(Event::SessionStart), 0);
        Ok(())
    }

    #[test]
    fn counts_the_gravest_refusal() -> Result {
        fake!();
        let parent = Parent::new()?;
        let mut builder = Fake::begin(&parent, 0, &[])?;
        builder.refuse(Refusal::Pinned);
        builder.refuse(Refusal::Nomem);
        assert!(builder.arm(0).is_none());
        assert_eq!(Fake::count_of(Event::Fallback(Refusal::Pinned)), 1);
        assert_eq!(Fake::count_of(Event::Fallback(Refusal::Nomem)), 0);

        // One that has something deferred is not a fallback.
        let mut builder = Fake::begin(&parent, 0, &[0])?;
        builder.refuse(Refusal::Notifier);
        let session = builder.arm(0).ok_or(EINVAL)?;
        assert_eq!(Fake::count_of(Event::Fallback(Refusal::Notifier)), 0);
        session.copy_all()
    }

    #[test]
    fn defers_within_the_mapping_begun_last() -> Result {
        fake!();
        let parent = Parent::new()?;
        let mut builder = Builder::<Fake>::new(parent.clone(), ())?;
        assert!(!defer(&mut builder, 2));

        builder.extent(0, addr(2), addr(4));
        assert!(!defer(&mut builder, 1));
        assert!(defer(&mut builder, 2));
        assert!(!defer(&mut builder, 2));
        assert!(!builder.defer(addr(3), addr(5)));
        assert!(!builder.defer(addr(1), addr(4)));
        assert!(defer(&mut builder, 3));
        assert!(!defer(&mut builder, 4));

        builder.extent(0, addr(6), addr(10));
        assert!(!defer(&mut builder, 5));
        assert!(builder.defer(addr(7), addr(10)));

        let session = builder.arm(0).ok_or(EINVAL)?;
        assert_eq!(Fake::count_of(Event::SessionStart), 1);
        assert_eq!(Fake::count_of(Event::RangeDefer), 5);
        assert!(!session.overlaps(addr(0), addr(2)));
        assert!(session.overlaps(addr(1), addr(2) + 1));
        assert!(session.overlaps(addr(4) - 1, addr(4)));
        assert!(!session.overlaps(addr(4), addr(7)));
        assert!(session.overlaps(0, usize::MAX));
        assert!(!session.overlaps(addr(10), usize::MAX));

        session.copy_all()?;
        assert!(!session.overlaps(0, usize::MAX));
        assert_eq!(parent.copy_of(0, 2), 3);
        assert_eq!(parent.copy_of(0, 6), 0);
        assert_eq!(parent.copy_of(0, 7), 8);
        assert_eq!(parent.copy_of(0, 9), 10);
        Ok(())
    }

    #[test]
    fn goes_on_in_the_call_without_memory() -> Result {
        fake!();
        let parent = Parent::new()?;
        let mut builder = Fake::begin(&parent, 0, &[0])?;
        // A mapping that is refused does not concern the next one.
        builder.refuse(Refusal::Pinned);
        builder.extent(0, addr(RANGES), addr(RANGES + 4));
        assert!(defer(&mut builder, RANGES));
        // But memory does.
        builder.run_out();
        assert!(!defer(&mut builder, RANGES + 1));
        builder.extent(0, addr(RANGES + 4), addr(RANGES + 8));
        assert!(!defer(&mut builder, RANGES + 4));
        let session = builder.arm(0).ok_or(EINVAL)?;
        assert_eq!(Fake::count_of(Event::RangeDefer), 2);
        assert_eq!(Fake::count_of(Event::RangeSync), 2);
        session.abandon();
        Ok(())
    }

    #[test]
    fn leaves_nothing_behind_if_dropped() -> Result {
        fake!();
        let parent = Parent::new()?;
        drop(Fake::begin(&parent, 0, &[0, 1, RANGES - 1])?);
        assert!(parent.tracker.is_idle());
        assert!(!parent.tracker.overlaps(0, usize::MAX));
        assert_eq!(Fake::count_of(Event::SessionStart), 0);

        // What had been protected is repaired by the next write.
        assert!(parent.is_protected(0));
        Fake::push(&parent, 0)?;
        parent.tracker.repair(&parent, addr(0));
        assert!(!parent.is_protected(0));
        assert_eq!(parent.copy_of(0, 0), 0);
        Ok(())
    }
}
