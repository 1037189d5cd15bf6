// SPDX-License-Identifier: GPL-2.0

//! Duplicated from `rust/kernel/prelude.rs`: the names, not the items.

pub use core::pin::Pin;
pub use std::ffi::{c_int, c_uint, c_void, CStr};

/// As in the kernel.
#[allow(non_camel_case_types)]
pub type c_ulong = usize;

pub use macros::{export, kunit_tests};
pub use pin_init::{pin_data, pin_init, Init, PinInit};

pub use crate::{
    alloc::{flags::*, AllocError, KBox, KVVec, KVec},
    error::{code::*, Error, Result},
    pr_err,
};
