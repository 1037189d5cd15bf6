// SPDX-License-Identifier: GPL-2.0

//! Runs tests one after the other on the main thread, and says so as libtest does.
//!
//! libtest runs each in a thread of its own and gets the results through a channel of `std`, which
//! is not instrumented: to TSan that is a race.

use std::{
    env,
    panic::{catch_unwind, AssertUnwindSafe},
    process::exit,
};

/// Runs those of `tests` whose names contain an argument, or all if there is none. Options are those
/// of libtest, as far as they need no answer.
pub fn run(tests: &[(&str, fn())]) {
    let mut filters: Vec<String> = env::args().skip(1).collect();
    let list = filters.iter().any(|arg| arg == "--list");
    filters.retain(|arg| !arg.starts_with('-'));
    let chosen = |name: &str| filters.is_empty() || filters.iter().any(|arg| name.contains(arg));
    let (mut passed, mut failed, mut left) = (0, 0, 0);

    for (name, test) in tests {
        if !chosen(name) {
            left += 1;
        } else if list {
            println!("{name}: test");
        } else if catch_unwind(AssertUnwindSafe(test)).is_ok() {
            println!("test {name} ... ok");
            passed += 1;
        } else {
            println!("test {name} ... FAILED");
            failed += 1;
        }
    }
    if !list {
        let result = if failed == 0 { "ok" } else { "FAILED" };
        println!(
            "\ntest result: {result}. {passed} passed; {failed} failed; 0 ignored; 0 measured; \
             {left} filtered out\n"
        );
    }
    if failed != 0 {
        exit(101);
    }
}

/// `main()` of a file of tests: `tests!(one, another);`
#[macro_export]
macro_rules! tests {
    ($($test:ident),+ $(,)?) => {
        fn main() {
            $crate::suite::run(&[$((stringify!($test), $test)),+])
        }
    };
}
