// SPDX-License-Identifier: GPL-2.0

//! Host versions of the kernel's procedural macros, stubbed.
//!
//! | macro | kernel | here |
//! |---|---|---|
//! | `export` | `#[no_mangle]`, and a check against the C prototype | `#[no_mangle]` |
//! | `kunit_tests` | a KUnit suite | `#[cfg(test)]` |

use proc_macro::TokenStream;

/// `item` with `attribute` before it.
fn with(attribute: &str, item: TokenStream) -> TokenStream {
    let mut tokens: TokenStream = attribute.parse().unwrap();
    tokens.extend(item);
    tokens
}

/// Makes the function known to C.
#[proc_macro_attribute]
pub fn export(_: TokenStream, item: TokenStream) -> TokenStream {
    with("#[unsafe(no_mangle)]", item)
}

/// Makes the module a module of unit tests.
#[proc_macro_attribute]
pub fn kunit_tests(_: TokenStream, item: TokenStream) -> TokenStream {
    with("#[cfg(test)]", item)
}
