// SPDX-License-Identifier: GPL-2.0

//! Pages of the kernel's ring buffer, as `trace_pipe_raw` has them: `events/header_page` and
//! `events/header_event` of tracefs say how.

use anyhow::Context;
use anyhow::Result;

/// A time and how many bytes follow.
const HEADER: usize = 16;
/// In that number: events before this page were overwritten.
const MISSED: u64 = 1 << 31;
const LENGTH: u64 = (1 << 27) - 1;

// Kinds of entries; those below are events of so many words, or of a length that follows.
const PADDING: u32 = 29;
const TIME_EXTEND: u32 = 30;
const TIME_STAMP: u32 = 31;
/// Bits of an entry's head that are its kind; the others are the time since the one before.
const KIND_BITS: u32 = 5;
const DELTA_BITS: u32 = 32 - KIND_BITS;

/// Bytes of a page.
pub fn size() -> usize {
    // SAFETY: allowed at any time.
    unsafe { libc::sysconf(libc::_SC_PAGESIZE) as usize }
}

/// What every event begins with: `common_type`, `common_flags`, `common_preempt_count`, and
/// `common_pid`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// Of its kind
    pub number: u16,
    /// The thread that it happened to
    pub thread: u32,
}

impl Event {
    fn read(bytes: &[u8]) -> Option<Self> {
        Some(Self {
            number: u16::from_ne_bytes(*bytes.first_chunk()?),
            thread: u32::from_ne_bytes(*bytes.get(4..)?.first_chunk()?),
        })
    }
}

/// Hands the time and the head of each event to `each`; whether all that were before this page have
/// been read.
///
/// # Errors
///
/// That this is no such page.
pub fn read(page: &[u8], mut each: impl FnMut(u64, Event)) -> Result<bool> {
    let long = |at: usize| {
        let bytes = page.get(at..)?.first_chunk()?;
        Some(u64::from_ne_bytes(*bytes))
    };
    let odd = "a page of the trace buffer is not as expected";
    let (mut ns, commit) = long(0).zip(long(8)).context(odd)?;
    let data = page.get(HEADER..HEADER + (commit & LENGTH) as usize);
    let data = data.context(odd)?;
    let word = |at: usize| {
        let bytes = data.get(at..)?.first_chunk()?;
        Some(u32::from_ne_bytes(*bytes))
    };
    let mut at = 0;
    while let Some(head) = word(at) {
        let (kind, delta) = (head & ((1 << KIND_BITS) - 1), u64::from(head >> KIND_BITS));
        let next = || word(at + 4).context(odd);
        let length = match kind {
            PADDING if delta == 0 => break,
            PADDING => next()?,
            TIME_EXTEND => {
                ns += (u64::from(next()?) << DELTA_BITS) + delta;
                4
            }
            TIME_STAMP => {
                ns = (u64::from(next()?) << DELTA_BITS) + delta;
                4
            }
            _ => {
                ns += delta;
                // The length counts itself.
                let (length, event) = match kind {
                    0 => (next()?, at + 8),
                    words => (4 * words, at + 4),
                };
                let event = data.get(event..).and_then(Event::read);
                each(ns, event.context(odd)?);
                length
            }
        };
        at += 4 + length as usize;
    }
    Ok(commit & MISSED == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A page of words behind a time.
    fn page(ns: u64, flags: u64, words: &[u32]) -> Vec<u8> {
        let mut page = ns.to_ne_bytes().to_vec();
        page.extend(((4 * words.len() as u64) | flags).to_ne_bytes());
        page.extend(words.iter().flat_map(|word| word.to_ne_bytes()));
        page.resize(4096, 0xff);
        page
    }

    fn head(kind: u32, delta: u32) -> u32 {
        kind | (delta << KIND_BITS)
    }

    fn events(page: &[u8]) -> (Vec<(u64, u16)>, bool) {
        let mut all = Vec::new();
        let whole = read(page, |ns, event| {
            assert_eq!(event.thread, 1000 + u32::from(event.number));
            all.push((ns, event.number));
        });
        let whole = whole.unwrap();
        (all, whole)
    }

    #[test]
    fn all_kinds_of_entries() {
        let page = page(
            1000,
            0,
            &[
                head(2, 5),
                7,
                1007,
                head(0, 10),
                12,
                8,
                1008,
                head(TIME_EXTEND, 1),
                2,
                head(2, 0),
                7,
                1007,
                head(PADDING, 1),
                8,
                0xdead,
                head(TIME_STAMP, 9),
                100,
                head(2, 1),
                9,
                1009,
                head(PADDING, 0),
                head(1, 1),
            ],
        );
        let long = 1015 + (2 << 27) + 1;
        let stamp = (100 << 27) + 10;
        let expected = vec![(1005, 7), (1015, 8), (long, 7), (stamp, 9)];
        assert_eq!(events(&page), (expected, true));
    }

    #[test]
    fn what_was_overwritten_is_known() {
        assert_eq!(events(&page(0, MISSED, &[])), (vec![], false));
        assert_eq!(events(&page(0, 0, &[])), (vec![], true));
    }

    #[test]
    fn broken_pages() {
        let mut ignore = |_, _| ();
        assert!(read(&[0; 15], &mut ignore).is_err());
        assert!(read(&page(0, 4096, &[]), &mut ignore).is_err(), "longer");
        assert!(read(&page(0, 0, &[head(TIME_EXTEND, 1)]), &mut ignore).is_err());
        assert!(read(&page(0, 0, &[head(3, 1)]), &mut ignore).is_err());
        assert!(read(&page(0, 0, &[head(1, 1), 7]), &mut ignore).is_err());
    }
}
