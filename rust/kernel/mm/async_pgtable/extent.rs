// SPDX-License-Identifier: GPL-2.0

//! The ranges of a session.

use crate::{
    alloc::Flags,
    prelude::*, //
};

use super::{
    page_tables::PageTables,
    range_bitmap::{
        RangeBitmap,
        State, //
    },
};

/// The deferred part of one mapping.
///
/// # Invariants
///
/// `start` is a multiple of the range size.
pub(super) struct Extent<P: PageTables> {
    start: usize,
    target: P::TargetVma,
    ranges: RangeBitmap,
}

impl<P: PageTables> Extent<P> {
    /// An extent of which nothing is pending. `start` and `end` are multiples of the range size.
    pub(super) fn new(
        target: P::TargetVma,
        start: usize,
        end: usize,
        flags: Flags,
    ) -> Result<Self> {
        Ok(Self {
            start,
            target,
            ranges: RangeBitmap::new((end - start) / P::RANGE_SIZE, flags)?,
        })
    }

    fn end(&self) -> usize {
        self.start + self.ranges.len() * P::RANGE_SIZE
    }

    /// Makes the range at `addr` pending. Returns false if it is not part of this extent.
    pub(super) fn defer(&mut self, addr: usize) -> bool {
        (self.start..self.end()).contains(&addr)
            && self
                .ranges
                .mark_pending((addr - self.start) / P::RANGE_SIZE)
    }

    /// Settles what is pending, uncopied, and returns the number of these ranges.
    pub(super) fn abandon_pending(&self) -> usize {
        self.ranges.abandon_pending()
    }
}

/// One range of a session.
pub(super) struct Range<'a, P: PageTables> {
    extent: &'a Extent<P>,
    index: usize,
}

impl<P: PageTables> Clone for Range<'_, P> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<P: PageTables> Copy for Range<'_, P> {}

impl<'a, P: PageTables> Range<'a, P> {
    /// The first range that overlaps `start..end` and is found by `find`. `extents` is sorted and
    /// does not overlap.
    pub(super) fn find(
        extents: &'a [Extent<P>],
        start: usize,
        end: usize,
        find: impl Fn(&RangeBitmap, usize, usize) -> Option<usize>,
    ) -> Option<Self> {
        let first = extents.partition_point(|extent| extent.end() <= start);
        extents[first..]
            .iter()
            .take_while(|extent| extent.start < end)
            .find_map(|extent| {
                let from = start.saturating_sub(extent.start) / P::RANGE_SIZE;
                let to = (end - extent.start).div_ceil(P::RANGE_SIZE);
                let index = find(&extent.ranges, from, to)?;
                Some(Self { extent, index })
            })
    }

    pub(super) fn start(self) -> usize {
        self.extent.start + self.index * P::RANGE_SIZE
    }

    pub(super) fn end(self) -> usize {
        self.start() + P::RANGE_SIZE
    }

    /// The child's mapping.
    pub(super) fn target(self) -> P::TargetVma {
        self.extent.target
    }

    pub(super) fn state(self) -> State {
        self.extent.ranges.state(self.index)
    }

    /// See [`RangeBitmap::try_claim`].
    #[must_use]
    pub(super) fn try_claim(self) -> bool {
        self.extent.ranges.try_claim(self.index)
    }

    /// See [`RangeBitmap::publish`].
    pub(super) fn publish(self) {
        self.extent.ranges.publish(self.index);
    }

    /// See [`RangeBitmap::unclaim`].
    pub(super) fn unclaim(self) {
        self.extent.ranges.unclaim(self.index);
    }
}
