// SPDX-License-Identifier: GPL-2.0

//! Sleeping until somebody else has changed something.

use crate::{
    new_condvar, new_mutex,
    prelude::*,
    sync::{
        atomic::{
            Atomic,
            Full,
            Relaxed, //
        },
        CondVar,
        Mutex, //
    },
};

/// Those who wait for others in one session.
///
/// Somebody who changes what may be waited for pays one load if nobody waits.
///
/// # Invariants
///
/// `waiters` is the number of tasks in the second half of [`until`](Self::until).
#[pin_data]
pub(super) struct Wait {
    waiters: Atomic<usize>,
    #[pin]
    lock: Mutex<()>,
    #[pin]
    queue: CondVar,
}

impl Wait {
    pub(super) fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            waiters: Atomic::new(0),
            lock <- new_mutex!((), "async_pgtable::Wait::lock"),
            queue <- new_condvar!("async_pgtable::Wait::queue"),
        })
    }

    /// Sleeps until `done`, which is called with a lock held.
    pub(super) fn until(&self, done: impl Fn() -> bool) {
        if done() {
            return;
        }
        let mut guard = self.lock.lock();
        // Full: see `wake`.
        self.waiters.fetch_add(1, Full);
        while !done() {
            self.queue.wait(&mut guard);
        }
        self.waiters.fetch_sub(1, Relaxed);
    }

    /// Wakes everybody who waits, if the caller has changed what they wait for by a fully ordered
    /// operation.
    pub(super) fn wake(&self) {
        // Either this sees a waiter, or the waiter, which has counted itself by a fully ordered
        // operation, sees the change.
        if self.waiters.load(Relaxed) != 0 {
            // A waiter that has not seen the change keeps the lock until it sleeps.
            let _guard = self.lock.lock();
            self.queue.notify_all();
        }
    }
}

#[cfg(CONFIG_ASYNC_PGTABLE_KUNIT_TEST)]
#[macros::kunit_tests(rust_async_pgtable_wait)]
mod tests {
    use super::*;

    #[test]
    fn does_not_wait_for_what_is_done() -> Result {
        let wait = KBox::pin_init(Wait::new(), GFP_KERNEL)?;
        wait.until(|| true);
        wait.wake();
        assert_eq!(wait.waiters.load(Relaxed), 0);
        Ok(())
    }

    #[test]
    fn looks_again_when_it_has_counted_itself() -> Result {
        let wait = KBox::pin_init(Wait::new(), GFP_KERNEL)?;
        // Done from the moment on in which the other side is sure to see somebody who waits.
        wait.until(|| wait.waiters.load(Relaxed) == 1);
        assert_eq!(wait.waiters.load(Relaxed), 0);
        Ok(())
    }
}
