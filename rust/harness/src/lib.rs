// SPDX-License-Identifier: GPL-2.0

//! `mm/async_pgtable.c` and the Rust core, on a machine in software.
//!
//! This crate is another crate `kernel`: the shared sources and the parts of `rust/host` that
//! suit are linked into it. What is below them is the C of `shim/` instead of Rust, so that the
//! whole of the border is the real one. See `README.md`.

// The kernel's name of it.
extern crate pinned_init as pin_init;

pub mod alloc;
pub mod bindings;
pub mod error;
pub mod ffi;
pub mod mm;
pub mod prelude;
pub mod print;
pub mod sync;
pub mod types;

pub mod machine;
pub mod program;
pub mod random;
pub mod suite;
