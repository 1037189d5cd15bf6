// SPDX-License-Identifier: GPL-2.0

//! Programs out of bytes, one thread at a time: for libFuzzer (`make fuzz`, `--cfg fuzzing`), or
//! for one who looks at what it has found:
//!
//!     HARNESS_TRACE=1 cargo run -p harness --bin fuzz -- FILE...

#![cfg_attr(fuzzing, no_main)]

use harness::program::Program;

/// What libFuzzer calls. There is nothing to return: a finding aborts.
///
/// # Safety
///
/// There are `size` bytes at `data`.
#[cfg(fuzzing)]
#[unsafe(no_mangle)]
unsafe extern "C" fn LLVMFuzzerTestOneInput(data: *const u8, size: usize) -> core::ffi::c_int {
    let bytes = if size == 0 {
        &[]
    } else {
        // SAFETY: By the contract of this function.
        unsafe { core::slice::from_raw_parts(data, size) }
    };
    Program::decode(bytes).run_scheduled();
    0
}

#[cfg(not(fuzzing))]
fn main() -> std::io::Result<()> {
    for file in std::env::args_os().skip(1) {
        let outcome = Program::decode(&std::fs::read(&file)?).run_scheduled();
        println!("{}: {outcome:?}", file.to_string_lossy());
    }
    Ok(())
}
