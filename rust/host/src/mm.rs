// SPDX-License-Identifier: GPL-2.0

//! The shared sources.

pub mod async_pgtable;
