// SPDX-License-Identifier: GPL-2.0

//! Stands for the border to C, which is not here: `rust/harness` has it, with the C.
