// SPDX-License-Identifier: GPL-2.0

//! What was published: figures of others, on their machines, which ours stand beside.

/// The p99 of the requests in the window of a snapshot, by an asynchronous fork against a default
/// one.
pub struct Published {
    /// The data
    pub gib: u64,
    pub change_percent: f64,
    /// By default and by asynchronous fork, where both are given (ns)
    pub p99_ns: Option<[f64; 2]>,
}

pub const PAPER: [Published; 3] = [
    Published {
        gib: 1,
        change_percent: -17.57,
        p99_ns: None,
    },
    Published {
        gib: 8,
        change_percent: -81.76,
        p99_ns: None,
    },
    Published {
        gib: 64,
        change_percent: -99.84,
        p99_ns: Some([991.9e6, 1.5e6]),
    },
];

/// What the paper has at this size.
pub fn at(mb: u64) -> Option<&'static Published> {
    PAPER.iter().find(|published| published.gib << 10 == mb)
}
