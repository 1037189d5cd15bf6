// SPDX-License-Identifier: GPL-2.0

//! Allocations that fail when a test wants them to.

use core::cell::Cell;

use super::AllocError;

thread_local! {
    static FAIL_AT: Cell<Option<usize>> = const { Cell::new(None) };
}

/// Makes the `n`th allocation of this thread from now on fail, and only that one.
///
/// Returns a guard that ends this when dropped.
pub fn fail_nth(n: usize) -> FailNth {
    FAIL_AT.set(Some(n));
    FailNth(())
}

/// See [`fail_nth`].
pub struct FailNth(());

impl FailNth {
    /// Has the allocation been reached?
    pub fn failed(&self) -> bool {
        FAIL_AT.get().is_none()
    }
}

impl Drop for FailNth {
    fn drop(&mut self) {
        FAIL_AT.set(None);
    }
}

/// To be called for every allocation.
pub fn try_alloc() -> Result<(), AllocError> {
    match FAIL_AT.get() {
        Some(0) => {
            FAIL_AT.set(None);
            Err(AllocError)
        }
        at => {
            FAIL_AT.set(at.map(|n| n - 1));
            Ok(())
        }
    }
}
