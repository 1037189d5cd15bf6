// SPDX-License-Identifier: GPL-2.0

//! Who copies on a parent's side.

use super::{
    page_tables::PageTables,
    Tracker, //
};

/// Who copies on a parent's side. Tells it, when dropped, for how long its children kept it.
pub(super) struct Pusher<'t, 'a, P: PageTables> {
    pub(super) tracker: &'t Tracker<P>,
    pub(super) source: P::SourceVma<'a>,
    since: Option<u64>,
}

impl<'t, 'a, P: PageTables> Pusher<'t, 'a, P> {
    /// Somebody who may copy what `source` covers.
    pub(super) fn new(tracker: &'t Tracker<P>, source: P::SourceVma<'a>) -> Self {
        Self {
            tracker,
            source,
            since: None,
        }
    }

    /// There is something to copy.
    pub(super) fn begin(&mut self) {
        self.since.get_or_insert_with(P::now);
    }
}

impl<P: PageTables> Drop for Pusher<'_, '_, P> {
    fn drop(&mut self) {
        if let Some(since) = self.since {
            P::kept(self.source, P::now() - since);
        }
    }
}

#[cfg(CONFIG_ASYNC_PGTABLE_KUNIT_TEST)]
#[macros::kunit_tests(rust_async_pgtable_pusher)]
mod tests {
    use super::super::fake::{
        addr,
        fake, //
    };
    use crate::prelude::*;

    #[test]
    fn a_parent_is_told_what_kept_it() -> Result {
        fake!();
        let parent = Parent::new()?;
        let tracker = &parent.tracker;
        let first = Fake::fork(&parent, 0, &[0, 1, 2])?.ok_or(EINVAL)?;
        let second = Fake::fork(&parent, 1, &[0, 1])?.ok_or(EINVAL)?;
        Fake::take(0, 1);
        // Nothing is pending there.
        Fake::push(&parent, 3)?;
        assert_eq!(Fake::kept(), 0);
        Fake::push(&parent, 0)?;
        assert_eq!(Fake::kept(), 2);
        // What others do is not the parent's.
        second.copy_all()?;
        assert_eq!(Fake::kept(), 2);
        assert!(tracker.push_some(&parent, addr(1), addr(2), &mut 0));
        assert_eq!(Fake::kept(), 3);
        let waiting = first.waits.begin();
        waiting.moment(addr(2));
        tracker.help(&parent, addr(2), addr(3));
        assert_eq!(Fake::kept(), 4);
        drop(waiting);
        assert!(tracker.is_idle());
        Ok(())
    }
}
