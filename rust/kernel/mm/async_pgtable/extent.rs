// SPDX-License-Identifier: GPL-2.0

//! Which mapping of the child a range belongs to.

use crate::{
    alloc::Flags,
    prelude::*, //
};

use super::page_tables::PageTables;

/// The part of one mapping that consists of whole ranges.
struct Extent<P: PageTables> {
    start: usize,
    end: usize,
    target: P::TargetVma,
}

/// The mappings of a child in which ranges were deferred.
///
/// # Invariants
///
/// They are sorted, and do not overlap.
pub(super) struct Extents<P: PageTables>(KVVec<Extent<P>>);

impl<P: PageTables> Extents<P> {
    pub(super) fn new() -> Self {
        Self(KVVec::new())
    }

    /// Adds a mapping above all those before. Returns false if it is not.
    pub(super) fn push(
        &mut self,
        start: usize,
        end: usize,
        target: P::TargetVma,
        flags: Flags,
    ) -> Result<bool> {
        if self.0.last().is_some_and(|last| last.end > start) {
            return Ok(false);
        }
        // INVARIANT: Just looked at.
        self.0.push(Extent { start, end, target }, flags)?;
        Ok(true)
    }

    /// The mapping that overlaps `start..end` first.
    pub(super) fn find(&self, start: usize, end: usize) -> Option<P::TargetVma> {
        let first = self.0.partition_point(|extent| extent.end <= start);
        self.0
            .get(first)
            .filter(|extent| extent.start < end)
            .map(|extent| extent.target)
    }
}

#[cfg(CONFIG_ASYNC_PGTABLE_KUNIT_TEST)]
#[macros::kunit_tests(rust_async_pgtable_extent)]
mod tests {
    use super::super::fake::fake;
    use super::*;

    #[test]
    fn finds_the_mapping() -> Result {
        fake!();
        let mut extents = Extents::<Fake>::new();
        assert_eq!(extents.find(0, usize::MAX), None);
        assert!(extents.push(10, 20, 1, GFP_KERNEL)?);
        assert!(extents.push(20, 30, 2, GFP_KERNEL)?);
        assert!(!extents.push(29, 35, 3, GFP_KERNEL)?);
        assert!(extents.push(40, 50, 4, GFP_KERNEL)?);
        assert_eq!(extents.find(10, 11), Some(1));
        assert_eq!(extents.find(19, 21), Some(1));
        assert_eq!(extents.find(20, 21), Some(2));
        assert_eq!(extents.find(30, 40), None);
        assert_eq!(extents.find(30, 41), Some(4));
        assert_eq!(extents.find(0, 10), None);
        assert_eq!(extents.find(50, usize::MAX), None);
        Ok(())
    }
}
