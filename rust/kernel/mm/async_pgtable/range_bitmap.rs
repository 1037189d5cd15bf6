// SPDX-License-Identifier: GPL-2.0

//! The state of each range of one mapping, two bits a range.

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

/// State of a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Copied, or not needed any more, or never deferred.
    Settled,
    /// To be copied. The parent's entry is write-protected.
    Pending,
    /// Being copied. The parent's entry is write-protected.
    Claimed,
}

const BITS: usize = 2;
const PER_WORD: usize = u64::BITS as usize / BITS;

/// Bit 0 of each range: pending.
const PENDING: u64 = u64::MAX / 3;

/// A range's two bits; both clear means settled, both set does not occur.
#[derive(Clone, Copy)]
struct Bits {
    word: usize,
    shift: usize,
}

impl Bits {
    #[inline]
    fn of(index: usize) -> Self {
        Self {
            word: index / PER_WORD,
            shift: index % PER_WORD * BITS,
        }
    }

    #[inline]
    fn pending(self) -> u64 {
        1 << self.shift
    }

    #[inline]
    fn claimed(self) -> u64 {
        2 << self.shift
    }
}

/// A fixed number of ranges and their states.
///
/// # Invariants
///
/// - At most one of the two bits of a range is set.
/// - Once shared, a settled range stays settled.
///
/// # Examples
///
/// ```
/// # use kernel::prelude::*;
/// use kernel::mm::async_pgtable::range_bitmap::{RangeBitmap, State};
///
/// let mut bitmap = RangeBitmap::new(100, GFP_KERNEL)?;
/// bitmap.mark_pending(7);
/// bitmap.mark_pending(42);
///
/// // One party gets a range.
/// assert!(bitmap.try_claim(7));
/// assert!(!bitmap.try_claim(7));
/// assert_eq!(bitmap.state(7), State::Claimed);
/// bitmap.publish(7);
/// assert_eq!(bitmap.state(7), State::Settled);
///
/// assert_eq!(bitmap.next_unsettled(0, 100), Some(42));
/// assert_eq!(bitmap.abandon_pending(), 1);
/// assert_eq!(bitmap.next_unsettled(0, 100), None);
/// # Ok::<(), Error>(())
/// ```
pub struct RangeBitmap {
    words: KVVec<Atomic<u64>>,
    len: usize,
}

impl RangeBitmap {
    /// Creates a bitmap of `len` ranges, all of them settled.
    pub fn new(len: usize, flags: Flags) -> Result<Self, AllocError> {
        let words = len.div_ceil(PER_WORD);
        let mut bitmap = Self {
            words: KVVec::with_capacity(words, flags)?,
            len,
        };
        for _ in 0..words {
            bitmap.words.push(Atomic::new(0), flags)?;
        }
        Ok(bitmap)
    }

    /// Number of ranges.
    #[inline]
    #[expect(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Makes a range pending, before the bitmap is shared. Returns whether it was settled.
    #[inline]
    pub fn mark_pending(&mut self, index: usize) -> bool {
        let bits = Bits::of(index);
        let word = &mut self.words[bits.word];
        let old = *word.get_mut();
        let new = old & (bits.pending() | bits.claimed()) == 0;
        if new {
            *word.get_mut() = old | bits.pending();
        }
        new
    }

    /// The state of a range. What was done before it was published is visible if it is settled.
    #[inline]
    pub fn state(&self, index: usize) -> State {
        let bits = Bits::of(index);
        // Acquire: pairs with `update` in `publish` and `abandon_pending`.
        let word = self.words[bits.word].load(Acquire);
        if word & bits.pending() != 0 {
            State::Pending
        } else if word & bits.claimed() != 0 {
            State::Claimed
        } else {
            State::Settled
        }
    }

    /// Claims a pending range. Returns false if it is not pending.
    ///
    /// The caller alone may copy the range now, and must [`publish`](Self::publish) or
    /// [`unclaim`](Self::unclaim) it.
    #[must_use]
    pub fn try_claim(&self, index: usize) -> bool {
        let bits = Bits::of(index);
        self.update(bits.word, |word| {
            (word & bits.pending() != 0).then_some(word ^ bits.pending() ^ bits.claimed())
        })
        .is_some()
    }

    /// Settles a range that the caller has claimed.
    pub fn publish(&self, index: usize) {
        let bits = Bits::of(index);
        self.update(bits.word, |word| Some(word & !bits.claimed()));
    }

    /// Gives a claimed range back, to be claimed again.
    pub fn unclaim(&self, index: usize) {
        let bits = Bits::of(index);
        self.update(bits.word, |word| {
            Some(word & !bits.claimed() | bits.pending())
        });
    }

    /// Settles all pending ranges, uncopied, and returns their number. Claimed ones stay claimed.
    pub fn abandon_pending(&self) -> usize {
        (0..self.words.len())
            .map(|word| {
                self.update(word, |old| (old & PENDING != 0).then_some(old & !PENDING))
                    .map_or(0, |old| (old & PENDING).count_ones() as usize)
            })
            .sum()
    }

    /// The first range in `from..to` that is not settled. If there is none, what was done before
    /// they were published is visible.
    pub fn next_unsettled(&self, from: usize, to: usize) -> Option<usize> {
        self.next(from, to, u64::MAX)
    }

    /// The first range in `from..to` that is pending.
    pub fn next_pending(&self, from: usize, to: usize) -> Option<usize> {
        self.next(from, to, PENDING)
    }

    /// The first range in `from..to` with a bit of `mask` set.
    fn next(&self, from: usize, to: usize, mask: u64) -> Option<usize> {
        let to = to.min(self.len);
        let mut from = from;

        while from < to {
            let bits = Bits::of(from);
            // Acquire: as in `state`.
            let word = self.words[bits.word].load(Acquire) & mask;
            let left = word >> bits.shift;
            if left != 0 {
                let found = from + left.trailing_zeros() as usize / BITS;
                return (found < to).then_some(found);
            }
            from = (bits.word + 1) * PER_WORD;
        }
        None
    }

    /// Applies `f` to a word until it sticks, and returns the old word, or `None` if `f` gave up.
    fn update(&self, word: usize, f: impl Fn(u64) -> Option<u64>) -> Option<u64> {
        let word = &self.words[word];
        let mut old = word.load(Relaxed);
        loop {
            // Full: as a release it makes the copy, or the reason why there is none, visible to
            // whoever finds the range settled, and what was begun visible to the next claimer. As
            // a barrier it orders the change before the look for waiters that follows.
            match word.cmpxchg(old, f(old)?, Full) {
                Ok(old) => return Some(old),
                Err(now) => old = now,
            }
        }
    }
}

#[cfg(CONFIG_ASYNC_PGTABLE_KUNIT_TEST)]
#[macros::kunit_tests(rust_async_pgtable_range_bitmap)]
mod tests {
    use super::*;
    use crate::prelude::*;

    const LEN: usize = 3 * PER_WORD + 5;

    fn bitmap(pending: &[usize]) -> Result<RangeBitmap, AllocError> {
        let mut bitmap = RangeBitmap::new(LEN, GFP_KERNEL)?;
        for &index in pending {
            bitmap.mark_pending(index);
        }
        Ok(bitmap)
    }

    #[test]
    fn is_settled_at_first() -> Result {
        let bitmap = bitmap(&[])?;
        assert_eq!(bitmap.len(), LEN);
        assert!((0..LEN).all(|index| bitmap.state(index) == State::Settled));
        assert_eq!(bitmap.next_unsettled(0, usize::MAX), None);
        assert_eq!(bitmap.abandon_pending(), 0);
        assert_eq!(RangeBitmap::new(0, GFP_KERNEL)?.next_unsettled(0, 1), None);
        Ok(())
    }

    #[test]
    fn marks_each_range_once() -> Result {
        let mut bitmap = bitmap(&[])?;
        for index in [0, PER_WORD - 1, PER_WORD, LEN - 1] {
            assert!(bitmap.mark_pending(index));
            assert!(!bitmap.mark_pending(index));
            assert_eq!(bitmap.state(index), State::Pending);
        }
        assert_eq!(bitmap.state(1), State::Settled);
        assert_eq!(bitmap.state(PER_WORD + 1), State::Settled);

        assert!(bitmap.try_claim(0));
        assert!(!bitmap.mark_pending(0));
        assert_eq!(bitmap.state(0), State::Claimed);
        Ok(())
    }

    #[test]
    fn claims_what_is_pending() -> Result {
        let bitmap = bitmap(&[0, 1, LEN - 1])?;
        assert!(!bitmap.try_claim(2));
        assert!(bitmap.try_claim(1));
        assert!(!bitmap.try_claim(1));
        assert_eq!(bitmap.state(0), State::Pending);
        assert_eq!(bitmap.state(1), State::Claimed);
        assert_eq!(bitmap.state(2), State::Settled);

        bitmap.publish(1);
        assert_eq!(bitmap.state(1), State::Settled);
        assert!(!bitmap.try_claim(1));
        assert_eq!(bitmap.state(0), State::Pending);
        Ok(())
    }

    #[test]
    fn takes_a_claim_back() -> Result {
        let bitmap = bitmap(&[7])?;
        assert!(bitmap.try_claim(7));
        bitmap.unclaim(7);
        assert_eq!(bitmap.state(7), State::Pending);
        assert!(bitmap.try_claim(7));
        Ok(())
    }

    #[test]
    fn abandons_what_nobody_copies() -> Result {
        let bitmap = bitmap(&[0, 1, PER_WORD, LEN - 1])?;
        assert!(bitmap.try_claim(1));
        assert_eq!(bitmap.abandon_pending(), 3);
        assert_eq!(bitmap.abandon_pending(), 0);
        assert_eq!(bitmap.state(0), State::Settled);
        assert_eq!(bitmap.state(1), State::Claimed);
        assert_eq!(bitmap.next_unsettled(0, LEN), Some(1));
        Ok(())
    }

    #[test]
    fn finds_the_next_one() -> Result {
        let bitmap = bitmap(&[3, PER_WORD, LEN - 1])?;
        assert_eq!(bitmap.next_unsettled(0, LEN), Some(3));
        assert_eq!(bitmap.next_unsettled(3, LEN), Some(3));
        assert_eq!(bitmap.next_unsettled(4, LEN), Some(PER_WORD));
        assert_eq!(bitmap.next_unsettled(4, PER_WORD), None);
        assert_eq!(bitmap.next_unsettled(4, PER_WORD + 1), Some(PER_WORD));
        assert_eq!(
            bitmap.next_unsettled(PER_WORD + 1, usize::MAX),
            Some(LEN - 1)
        );
        assert_eq!(bitmap.next_unsettled(LEN, usize::MAX), None);
        assert_eq!(bitmap.next_unsettled(4, 3), None);

        assert!(bitmap.try_claim(3));
        assert_eq!(bitmap.next_unsettled(0, LEN), Some(3));
        assert_eq!(bitmap.next_pending(0, LEN), Some(PER_WORD));
        Ok(())
    }
}
