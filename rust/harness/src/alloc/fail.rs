// SPDX-License-Identifier: GPL-2.0

//! Customised: allocations fail together with those of the C side, one count for both.

use super::AllocError;
use crate::{bindings, sync::might_sleep};

/// To be called for every allocation.
pub fn try_alloc() -> Result<(), AllocError> {
    might_sleep();
    // SAFETY: No requirements.
    if unsafe { bindings::should_failslab() } {
        Err(AllocError)
    } else {
        Ok(())
    }
}
