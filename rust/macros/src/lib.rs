// SPDX-License-Identifier: GPL-2.0

//! Host versions of the kernel's procedural macros, stubbed.
//!
//! | macro | kernel | here |
//! |---|---|---|
//! | `export` | `#[no_mangle]`, and a check against the C prototype | nothing; `harness` has its own |
//! | `kunit_tests` | a KUnit suite | `#[cfg(test)]` |

use proc_macro::TokenStream;

/// Leaves the function as it is.
#[proc_macro_attribute]
pub fn export(_: TokenStream, item: TokenStream) -> TokenStream {
    item
}

/// Makes the module a module of unit tests.
#[proc_macro_attribute]
pub fn kunit_tests(_: TokenStream, item: TokenStream) -> TokenStream {
    let mut tests: TokenStream = "#[cfg(test)]".parse().unwrap();
    tests.extend(item);
    tests
}
