// SPDX-License-Identifier: GPL-2.0

//! Duplicated from `rust/kernel/error.rs`, as far as it is used.

use std::ffi::c_int;

use crate::alloc::AllocError;

/// A kernel error code, negative.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Error(c_int);

/// The result of something that fails with an error code.
pub type Result<T = (), E = Error> = core::result::Result<T, E>;

impl Error {
    /// The error code.
    pub fn to_errno(self) -> c_int {
        self.0
    }
}

impl From<AllocError> for Error {
    fn from(_: AllocError) -> Self {
        code::ENOMEM
    }
}

impl From<core::convert::Infallible> for Error {
    fn from(never: core::convert::Infallible) -> Self {
        match never {}
    }
}

/// Turns a C return value into a [`Result`].
pub fn to_result(err: c_int) -> Result {
    if err < 0 {
        Err(Error(err))
    } else {
        Ok(())
    }
}

/// Error codes.
pub mod code {
    use super::Error;

    /// Out of memory.
    pub const ENOMEM: Error = Error(-12);
    /// Bad address.
    pub const EFAULT: Error = Error(-14);
    /// Interrupted system call.
    pub const EINTR: Error = Error(-4);
    /// I/O error.
    pub const EIO: Error = Error(-5);
    /// Invalid argument.
    pub const EINVAL: Error = Error(-22);
    /// No space left on device.
    pub const ENOSPC: Error = Error(-28);
}
