// SPDX-License-Identifier: GPL-2.0

//! The part of the kernel crate that the shared sources use, for host builds.
//!
//! `src/mm/async_pgtable*` are links to the canonical sources. Everything else here is a shim, see
//! `README.md` for what stands for what, and how far it can be trusted.

// The kernel's name of it.
extern crate pinned_init as pin_init;

pub mod alloc;
pub mod error;
pub mod mm;
pub mod prelude;
pub mod print;
pub mod sync;
