// SPDX-License-Identifier: GPL-2.0

//! Which ranges are pending, one bit a range, only where there are any.

use crate::{
    alloc::{
        AllocError,
        Flags,
        KVVec, //
    },
    sync::atomic::{
        Acquire,
        Atomic,
        Full,
        Relaxed, //
    },
};

const PER_WORD: usize = u64::BITS as usize;
const WORDS: usize = 8;
/// Ranges of a node: those behind one page of PMD entries, 1 GiB of address space on x86-64.
const PER_NODE: usize = WORDS * PER_WORD;

/// A group of neighbouring ranges, some of which are, or were, pending.
struct Node {
    /// Number of the first range, divided by [`PER_NODE`].
    position: usize,
    words: [Atomic<u64>; WORDS],
}

impl Node {
    /// Makes `from..to`, counted from the beginning of the node, pending if none of it is.
    fn mark(&mut self, from: usize, to: usize) -> bool {
        let first = from / PER_WORD;
        let words = &mut self.words[first..to.div_ceil(PER_WORD)];
        // The bits of the word at `index` that are below `to`, and not below `from`.
        let mask = |index: usize| {
            let base = (first + index) * PER_WORD;
            let above = (base + PER_WORD).saturating_sub(to);
            u64::MAX << from.saturating_sub(base) & u64::MAX >> above
        };
        let mut masked = words.iter_mut().enumerate();
        if masked.any(|(index, word)| *word.get_mut() & mask(index) != 0) {
            return false;
        }
        for (index, word) in words.iter_mut().enumerate() {
            *word.get_mut() |= mask(index);
        }
        true
    }

    /// The first pending range in `from..to`, counted from the beginning of the node.
    fn next_pending(&self, from: usize, to: usize) -> Option<usize> {
        let mut from = from;
        while from < to {
            let word = from / PER_WORD;
            // Acquire: pairs with `settle`.
            let left = self.words[word].load(Acquire) >> (from % PER_WORD);
            if left != 0 {
                let found = from + left.trailing_zeros() as usize;
                return (found < to).then_some(found);
            }
            from = (word + 1) * PER_WORD;
        }
        None
    }
}

/// A set of ranges that are pending.
///
/// A range is a number: its address divided by its size. Memory is used for ranges that were marked
/// and their neighbours, 72 bytes for a GiB (and as much again where the array has just grown), not
/// for the address space between them.
///
/// # Invariants
///
/// - `nodes` is sorted by position, and no two have the same one.
/// - Once shared, a range that is not pending stays so.
///
/// # Examples
///
/// ```
/// # use kernel::prelude::*;
/// use kernel::mm::async_pgtable::range_bitmap::RangeBitmap;
///
/// let mut bitmap = RangeBitmap::new();
/// bitmap.mark_pending(7, 9, GFP_KERNEL)?;
/// bitmap.mark_pending(1 << 40, (1 << 40) + 1, GFP_KERNEL)?;
///
/// assert!(bitmap.is_pending(7));
/// assert_eq!(bitmap.next_pending(9, usize::MAX), Some(1 << 40));
///
/// // A range is settled once.
/// assert!(bitmap.settle(7));
/// assert!(!bitmap.settle(7));
/// assert_eq!(bitmap.next_pending(0, 1 << 40), Some(8));
/// # Ok::<(), Error>(())
/// ```
pub struct RangeBitmap {
    nodes: KVVec<Node>,
}

impl RangeBitmap {
    /// A set of no ranges. Uses no memory.
    #[expect(clippy::new_without_default)]
    pub fn new() -> Self {
        Self {
            nodes: KVVec::new(),
        }
    }

    /// Makes the ranges `from..to` pending, before the set is shared: all, or returns false.
    ///
    /// They are within one GiB, and ranges are marked in ascending order; what comes before the
    /// last node is refused like what is pending already.
    pub fn mark_pending(
        &mut self,
        from: usize,
        to: usize,
        flags: Flags,
    ) -> Result<bool, AllocError> {
        let position = from / PER_NODE;
        if from >= to || (to - 1) / PER_NODE != position {
            return Ok(false);
        }
        match self.nodes.last() {
            Some(last) if last.position > position => return Ok(false),
            Some(last) if last.position == position => {}
            _ => self.add_node(position, flags)?,
        }
        let Some(node) = self.nodes.last_mut() else {
            return Err(AllocError);
        };

        Ok(node.mark(from % PER_NODE, (to - 1) % PER_NODE + 1))
    }

    /// Adds a node. `position` is above that of the last one.
    #[cold]
    fn add_node(&mut self, position: usize, flags: Flags) -> Result<(), AllocError> {
        let words = core::array::from_fn(|_| Atomic::new(0));
        // INVARIANT: As the caller says.
        self.nodes.push(Node { position, words }, flags)
    }

    /// Is the range pending? If not, what was done before it was settled is visible.
    pub fn is_pending(&self, range: usize) -> bool {
        self.node(range).is_some_and(|node| {
            let at = range % PER_NODE;
            node.next_pending(at, at + 1).is_some()
        })
    }

    /// Settles a range. Returns whether it was pending.
    pub fn settle(&self, range: usize) -> bool {
        let Some(node) = self.node(range) else {
            return false;
        };
        let word = &node.words[range % PER_NODE / PER_WORD];
        let bit = 1 << (range % PER_WORD);
        let mut old = word.load(Relaxed);
        while old & bit != 0 {
            // Full: as a release it makes the copy visible to whoever finds the range settled.
            match word.cmpxchg(old, old & !bit, Full) {
                Ok(_) => return true,
                Err(now) => old = now,
            }
        }
        false
    }

    /// The first pending range in `from..to`. If there is none, what was done before they were
    /// settled is visible.
    pub fn next_pending(&self, from: usize, to: usize) -> Option<usize> {
        let first = self.lower_bound(from / PER_NODE);
        for node in &self.nodes[first..] {
            let base = node.position * PER_NODE;
            if base >= to {
                break;
            }
            let found = node.next_pending(from.saturating_sub(base), (to - base).min(PER_NODE));
            if let Some(at) = found {
                return Some(base + at);
            }
        }
        None
    }

    /// Index of the first node that is not below `position`.
    fn lower_bound(&self, position: usize) -> usize {
        self.nodes.partition_point(|node| node.position < position)
    }

    fn node(&self, range: usize) -> Option<&Node> {
        let position = range / PER_NODE;
        self.nodes
            .get(self.lower_bound(position))
            .filter(|node| node.position == position)
    }
}

#[cfg(CONFIG_ASYNC_PGTABLE_KUNIT_TEST)]
#[macros::kunit_tests(rust_async_pgtable_range_bitmap)]
mod tests {
    use super::*;
    use crate::prelude::*;

    const FAR: usize = 1 << 26; // 128 TiB

    fn bitmap(pending: &[usize]) -> Result<RangeBitmap, AllocError> {
        let mut bitmap = RangeBitmap::new();
        for &range in pending {
            bitmap.mark_pending(range, range + 1, GFP_KERNEL)?;
        }
        Ok(bitmap)
    }

    #[test]
    fn is_empty_at_first() -> Result {
        let bitmap = bitmap(&[])?;
        assert!(!bitmap.is_pending(0));
        assert!(!bitmap.settle(0));
        assert_eq!(bitmap.next_pending(0, usize::MAX), None);
        assert_eq!(bitmap.nodes.capacity(), 0);
        Ok(())
    }

    #[test]
    fn marks_each_range_once() -> Result {
        let mut bitmap = bitmap(&[])?;
        for range in [0, PER_WORD - 1, PER_WORD, PER_NODE - 1, PER_NODE, FAR] {
            assert!(bitmap.mark_pending(range, range + 1, GFP_KERNEL)?);
            assert!(!bitmap.mark_pending(range, range + 1, GFP_KERNEL)?);
            assert!(bitmap.is_pending(range));
            assert!(!bitmap.is_pending(range + 2));
        }
        assert_eq!(bitmap.nodes.len(), 3);
        Ok(())
    }

    #[test]
    fn marks_in_ascending_order() -> Result {
        let mut bitmap = bitmap(&[PER_NODE])?;
        assert!(!bitmap.mark_pending(PER_NODE - 1, PER_NODE, GFP_KERNEL)?);
        assert!(!bitmap.is_pending(PER_NODE - 1));
        assert_eq!(bitmap.nodes.len(), 1);
        Ok(())
    }

    #[test]
    fn marks_a_run() -> Result {
        for (from, to) in [
            (0, PER_NODE),
            (1, PER_WORD),
            (PER_WORD, 2 * PER_WORD),
            (PER_WORD - 1, PER_WORD + 1),
            (3, PER_NODE - 5),
        ] {
            let mut bitmap = bitmap(&[])?;
            let base = 7 * PER_NODE;
            assert!(bitmap.mark_pending(base + from, base + to, GFP_KERNEL)?);
            let pending = |range: &usize| bitmap.is_pending(base + range);
            assert!((from..to).all(|range| pending(&range)));
            assert_eq!((0..PER_NODE).filter(pending).count(), to - from);
            assert_eq!(bitmap.nodes.len(), 1);
        }
        Ok(())
    }

    #[test]
    fn marks_all_of_a_run_or_none() -> Result {
        let mut bitmap = bitmap(&[PER_WORD + 5])?;
        assert!(!bitmap.mark_pending(3, PER_WORD + 6, GFP_KERNEL)?);
        assert!(!bitmap.is_pending(3));
        assert!(!bitmap.mark_pending(PER_WORD + 6, PER_NODE + 1, GFP_KERNEL)?);
        assert!(!bitmap.mark_pending(PER_WORD + 6, PER_WORD + 6, GFP_KERNEL)?);
        assert_eq!(bitmap.next_pending(PER_WORD + 6, usize::MAX), None);
        assert!(bitmap.mark_pending(PER_WORD + 6, PER_NODE, GFP_KERNEL)?);
        Ok(())
    }

    #[test]
    fn settles_each_range_once() -> Result {
        let bitmap = bitmap(&[0, 1, PER_WORD, FAR])?;
        assert!(bitmap.settle(1));
        assert!(!bitmap.settle(1));
        assert!(!bitmap.settle(2));
        assert!(!bitmap.settle(PER_NODE));
        assert!(bitmap.is_pending(0));
        assert!(bitmap.is_pending(PER_WORD));
        assert!(bitmap.settle(FAR));
        assert!(!bitmap.is_pending(FAR));
        Ok(())
    }

    #[test]
    fn finds_the_next_one() -> Result {
        let last = 3 * PER_NODE + PER_WORD + 5;
        let bitmap = bitmap(&[3, PER_WORD, PER_NODE + 1, last])?;
        assert_eq!(bitmap.next_pending(0, usize::MAX), Some(3));
        assert_eq!(bitmap.next_pending(3, usize::MAX), Some(3));
        assert_eq!(bitmap.next_pending(4, usize::MAX), Some(PER_WORD));
        assert_eq!(bitmap.next_pending(4, PER_WORD), None);
        assert_eq!(bitmap.next_pending(4, PER_WORD + 1), Some(PER_WORD));
        assert_eq!(
            bitmap.next_pending(PER_WORD + 1, PER_NODE + 2),
            Some(PER_NODE + 1)
        );
        assert_eq!(bitmap.next_pending(PER_WORD + 1, PER_NODE + 1), None);
        assert_eq!(bitmap.next_pending(PER_NODE + 2, usize::MAX), Some(last));
        assert_eq!(bitmap.next_pending(2 * PER_NODE, last), None);
        assert_eq!(bitmap.next_pending(last + 1, usize::MAX), None);
        assert_eq!(bitmap.next_pending(4, 3), None);

        assert!(bitmap.settle(3));
        assert_eq!(bitmap.next_pending(0, usize::MAX), Some(PER_WORD));
        Ok(())
    }
}
