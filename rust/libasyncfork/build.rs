// SPDX-License-Identifier: GPL-2.0

//! The shared library has its major version in its name.

fn main() {
    let major = env!("CARGO_PKG_VERSION_MAJOR");
    println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,libasyncfork.so.{major}");
    println!("cargo::rerun-if-changed=build.rs");
}
