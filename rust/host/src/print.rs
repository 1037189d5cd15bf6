// SPDX-License-Identifier: GPL-2.0

//! Stubbed from `rust/kernel/print.rs`.

/// Prints, as the kernel would to its log.
#[macro_export]
macro_rules! pr_err {
    ($($arg:tt)*) => {
        eprint!($($arg)*)
    };
}
