// SPDX-License-Identifier: GPL-2.0

//! Options of the kernel's configuration that the shared sources look at.

use std::env;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // The page tables of unit tests are not for models, which bring their own.
    let model = ["CARGO_CFG_LOOM", "CARGO_CFG_SHUTTLE"];
    if model.iter().all(|cfg| env::var_os(cfg).is_none()) {
        println!("cargo::rustc-cfg=CONFIG_ASYNC_PGTABLE_KUNIT_TEST");
    }
}
