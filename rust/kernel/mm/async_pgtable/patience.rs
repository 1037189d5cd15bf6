// SPDX-License-Identifier: GPL-2.0

//! How long who copies waits for memory.

use super::page_tables::PageTables;

/// A second, as [`PageTables::now`] counts.
pub(super) const SECOND: u64 = 1_000_000_000;

/// How long somebody who copies for children has waited for memory, and how long he has worked.
///
/// Memory that was freed may be on its way, so he waits before he gives a child up; but others may
/// wait for the locks that he has. So he waits for a second in which nothing comes, and in all for
/// a second and four times as long as he has worked since he lacked some first. When he gives a
/// child up he begins again, with half of the second.
///
/// In C this is on the stack of who copies, zero at first.
#[derive(Default)]
#[repr(C)]
pub struct Patience {
    /// Zero: he has not lacked any yet.
    limit: u64,
    waited: u64,
    worked: u64,
    /// How long he has waited since something was copied.
    stood: u64,
    /// Since when he does what he does.
    since: u64,
    lacks: bool,
}

impl Patience {
    fn lap<P: PageTables>(&mut self) -> u64 {
        let now = P::now();
        let lap = now.saturating_sub(self.since);
        self.since = now;
        lap
    }

    /// He begins to copy a range, or tries again.
    pub(super) fn tries<P: PageTables>(&mut self) {
        if self.limit == 0 {
            return;
        }
        let lap = self.lap::<P>();
        if self.lacks {
            self.waited += lap;
            self.stood += lap;
        } else {
            self.worked += lap;
        }
    }

    /// It is copied.
    pub(super) fn succeeds<P: PageTables>(&mut self) {
        if self.limit == 0 {
            return;
        }
        self.worked += self.lap::<P>();
        self.stood = 0;
        self.lacks = false;
    }

    /// He lacks memory. May he wait for it? If not, he gives the child up.
    ///
    /// What he has tried in vain is no work, and may take longer than the waits.
    pub(super) fn lacks<P: PageTables>(&mut self) -> bool {
        let lap = self.lap::<P>();
        if self.limit == 0 {
            self.limit = SECOND;
        } else {
            self.waited += lap;
            self.stood += lap;
        }
        self.lacks = true;
        if self.stood < self.limit && self.waited < self.limit + 4 * self.worked {
            return true;
        }
        *self = Self {
            limit: (self.limit / 2).max(1),
            since: self.since,
            ..Self::default()
        };
        false
    }
}
