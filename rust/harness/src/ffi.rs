// SPDX-License-Identifier: GPL-2.0

//! Duplicated from `rust/ffi.rs`: the types of C as the kernel sees them.

#![allow(non_camel_case_types)]

pub use core::ffi::c_void;

/// `unsigned char`, and `char`: the kernel is built with `-funsigned-char`.
pub type c_char = u8;
/// As the ABI says.
pub type c_schar = i8;
/// See [`c_char`].
pub type c_uchar = u8;
/// As the ABI says.
pub type c_short = i16;
/// As the ABI says.
pub type c_ushort = u16;
/// As the ABI says.
pub type c_int = i32;
/// As the ABI says.
pub type c_uint = u32;
/// `isize`, unlike in `core`.
pub type c_long = isize;
/// `usize`, unlike in `core`.
pub type c_ulong = usize;
/// As the ABI says.
pub type c_longlong = i64;
/// As the ABI says.
pub type c_ulonglong = u64;
