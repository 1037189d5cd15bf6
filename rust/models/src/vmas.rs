// SPDX-License-Identifier: GPL-2.0

//! The lock of all mappings of a parent. loom has one of these, but there who tries waits, too.

use crate::imp::sync::{Condvar, Mutex};

/// A lock.
pub(crate) struct Vmas {
    state: Mutex<State>,
    free: Condvar,
}

struct State {
    readers: usize,
    writer: bool,
    mapped: bool,
}

impl Vmas {
    pub(crate) fn new() -> Self {
        Self {
            state: Mutex::new(State {
                readers: 0,
                writer: false,
                mapped: true,
            }),
            free: Condvar::new(),
        }
    }

    /// Locks it for reading, if that is possible at once and there are mappings.
    pub(crate) fn try_read(&self) -> Option<Reader<'_>> {
        let mut state = self.state.lock().expect("not poisoned");
        if state.writer || !state.mapped {
            return None;
        }
        state.readers += 1;
        Some(Reader(self))
    }

    /// Locks it for reading. There are mappings.
    pub(crate) fn read(&self) -> Reader<'_> {
        let mut state = self.state.lock().expect("not poisoned");
        while state.writer {
            state = self.free.wait(state).expect("not poisoned");
        }
        assert!(state.mapped, "used after it was unmapped");
        state.readers += 1;
        Reader(self)
    }

    /// Locks it for writing.
    pub(crate) fn write(&self) -> Writer<'_> {
        let mut state = self.state.lock().expect("not poisoned");
        while state.writer || state.readers != 0 {
            state = self.free.wait(state).expect("not poisoned");
        }
        state.writer = true;
        Writer(self)
    }
}

/// A lock that is held for reading.
pub(crate) struct Reader<'a>(&'a Vmas);

impl Drop for Reader<'_> {
    fn drop(&mut self) {
        self.0.state.lock().expect("not poisoned").readers -= 1;
        self.0.free.notify_all();
    }
}

/// A lock that is held for writing.
pub(crate) struct Writer<'a>(&'a Vmas);

impl Writer<'_> {
    /// There are no mappings any more.
    pub(crate) fn unmap(&self) {
        self.0.state.lock().expect("not poisoned").mapped = false;
    }
}

impl Drop for Writer<'_> {
    fn drop(&mut self) {
        self.0.state.lock().expect("not poisoned").writer = false;
        self.0.free.notify_all();
    }
}
