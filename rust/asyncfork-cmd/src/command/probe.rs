// SPDX-License-Identifier: GPL-2.0

//! `asyncfork probe`: 0 if the running kernel has the feature, 1 if not.

use std::process::ExitCode;

use anyhow::Context;
use anyhow::Result;

pub fn execute() -> Result<ExitCode> {
    let here = asyncfork::probe().context("cannot probe the kernel")?;
    Ok(if here {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
