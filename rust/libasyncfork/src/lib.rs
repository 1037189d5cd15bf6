// SPDX-License-Identifier: GPL-2.0

//! The functions of `include/asyncfork.h`, which says what they do. Each is one of the crate
//! `asyncfork`, with -1 and `errno` for an error.

use std::ffi::CStr;
use std::ffi::c_char;
use std::ffi::c_int;
use std::io;

use asyncfork::Fork;

/// What a C function returns for `result`.
fn answer(result: io::Result<c_int>) -> c_int {
    result.unwrap_or_else(|error| {
        let errno = match error.raw_os_error() {
            Some(errno) => errno,
            None if error.kind() == io::ErrorKind::NotFound => libc::ENOENT,
            None => libc::EIO,
        };
        // SAFETY: it is this thread's own.
        unsafe { *libc::__errno_location() = errno };
        -1
    })
}

fn pid(fork: Fork) -> libc::pid_t {
    match fork {
        Fork::Parent(pid) => pid,
        Fork::Child => 0,
    }
}

#[unsafe(no_mangle)]
extern "C" fn asyncfork_probe() -> c_int {
    answer(asyncfork::probe().map(c_int::from))
}

#[unsafe(no_mangle)]
extern "C" fn asyncfork_set_process(on: c_int) -> c_int {
    answer(asyncfork::set_process(on != 0).map(|()| 0))
}

#[unsafe(no_mangle)]
extern "C" fn asyncfork_process() -> c_int {
    answer(asyncfork::process().map(c_int::from))
}

/// # Safety
///
/// As for [`asyncfork::fork()`].
#[unsafe(no_mangle)]
unsafe extern "C" fn asyncfork_fork() -> libc::pid_t {
    // SAFETY: passed on to the caller.
    answer(unsafe { asyncfork::fork() }.map(pid))
}

/// # Safety
///
/// As for [`asyncfork::raw::clone3()`].
#[unsafe(no_mangle)]
unsafe extern "C" fn asyncfork_clone3(flags: u64, signal: c_int) -> libc::pid_t {
    // SAFETY: passed on to the caller.
    answer(unsafe { asyncfork::raw::clone3(flags, signal) }.map(pid))
}

/// # Safety
///
/// `name` is a string, and `value` can be written to.
#[unsafe(no_mangle)]
unsafe extern "C" fn asyncfork_counter(name: *const c_char, value: *mut u64) -> c_int {
    // SAFETY: the caller says so.
    let name = unsafe { CStr::from_ptr(name) };
    let found = asyncfork::counters().and_then(|counters| {
        counters
            .iter()
            .find(|(known, _)| known.as_bytes() == name.to_bytes())
            .map(|(_, count)| count)
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    });
    answer(found.map(|count| {
        // SAFETY: the caller says so.
        unsafe { value.write(count) };
        0
    }))
}
