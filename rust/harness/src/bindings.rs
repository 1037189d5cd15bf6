// SPDX-License-Identifier: GPL-2.0

//! What bindgen makes of `mm/async_pgtable.h` and of the shimmed headers.

#![allow(
    non_camel_case_types,
    non_upper_case_globals,
    missing_docs,
    dead_code,
    unreachable_pub,
    clippy::all,
    clippy::as_underscore,
    clippy::cast_lossless,
    clippy::ptr_as_ptr,
    clippy::ref_as_ptr,
    clippy::undocumented_unsafe_blocks
)]

include!(concat!(env!("OUT_DIR"), "/bindings.rs"));

pub const PMD_SIZE: usize = RUST_CONST_HELPER_PMD_SIZE;
