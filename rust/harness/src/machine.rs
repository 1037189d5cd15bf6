// SPDX-License-Identifier: GPL-2.0

//! The machine of `shim/`, as far as programs use it, and what must be true of it in the end.

use std::sync;

use crate::{
    bindings::{self, *},
    ffi::c_void,
    static_lock_class,
    sync::SpinLock,
};

/// Pages of an address space.
pub const PAGES: usize = bindings::NR_PAGES as usize;
/// Pages of a range.
pub const PAGES_PER_RANGE: usize = bindings::PTRS_PER_PTE as usize;
/// Ranges of an address space.
pub const RANGES: usize = bindings::PTRS_PER_PMD as usize;
/// Bytes of a page.
pub const PAGE: usize = 1 << bindings::PAGE_SHIFT;
/// Bytes of a range.
pub const RANGE: usize = PAGE * PAGES_PER_RANGE;

/// A thread of the machine.
pub struct Thread(*mut bindings::thread);

// SAFETY: Any thread may join it.
unsafe impl Send for Thread {}

type Body = Box<dyn FnOnce() + Send>;

extern "C" fn run(body: *mut c_void) {
    // SAFETY: Comes from `Box::into_raw` of `Thread::spawn`, once.
    let body = unsafe { Box::from_raw(body.cast::<Body>()) };
    // SAFETY: No requirements.
    unsafe { current_is_kthread() };
    body();
}

impl Thread {
    /// Starts a thread. A panic in it aborts.
    pub fn spawn(body: impl FnOnce() + Send + 'static) -> Self {
        let body: Box<Body> = Box::new(Box::new(body));
        // SAFETY: `run` takes the box.
        Self(unsafe { thread_spawn(Some(run), Box::into_raw(body).cast()) })
    }

    /// Waits for its end.
    pub fn join(self) {
        // SAFETY: Comes from `thread_spawn`, and is given up.
        unsafe { thread_join(self.0) }
    }
}

/// Threads that somebody has to wait for.
pub struct Threads(SpinLock<Vec<Thread>>);

impl Threads {
    /// None.
    #[expect(clippy::new_without_default, reason = "it is not a value")]
    pub fn new() -> Self {
        Self(SpinLock::new(Vec::new(), c"threads", static_lock_class!()))
    }

    /// Leaves `thread` to whoever calls [`join`](Self::join).
    pub fn add(&self, thread: Thread) {
        self.0.lock().push(thread);
    }

    /// Waits for all, and for those that they leave here.
    pub fn join(&self) {
        loop {
            let Some(thread) = self.0.lock().pop() else {
                return;
            };
            thread.join();
        }
    }
}

/// A process that somebody has to enter.
pub struct Task(*mut task_struct);

// SAFETY: Any thread may enter it.
unsafe impl Send for Task {}

impl Task {
    /// The first process of a program.
    pub fn first() -> Self {
        // SAFETY: No requirements.
        Self(unsafe { first_process() })
    }

    /// One more thread for the process of the caller.
    pub fn another_thread() -> Self {
        // SAFETY: The caller is in a process.
        unsafe {
            let task = current_process();
            add_thread(task);
            Self(task)
        }
    }

    /// Forks the process of the caller.
    pub fn fork(asynchronous: bool, fail_late: bool) -> Option<Self> {
        let flags = if asynchronous { 1 << 38 } else { 0 };
        // SAFETY: The caller is in a process.
        let task = unsafe { copy_process(flags, fail_late) };
        (!task.is_null()).then_some(Self(task))
    }

    /// The process of the caller, which has no other threads, calls `execve()`: it gets an address
    /// space in which nothing is mapped, and leaves its old one after `meanwhile`, which gets that.
    /// False without memory.
    pub fn exec(meanwhile: impl FnOnce(*mut mm_struct)) -> bool {
        // SAFETY: The caller is in a process.
        let old_mm = unsafe { exec_mmap() };
        if old_mm.is_null() {
            return false;
        }
        meanwhile(old_mm);
        // SAFETY: Comes from `exec_mmap`, and is given up.
        unsafe { exec_mm_put_old(old_mm) };
        true
    }

    /// Kills it before it is entered.
    pub fn kill(&self) {
        // SAFETY: It stays until it is left.
        unsafe { kill_process(self.0) }
    }

    /// Makes the calling thread one of its threads until the result is dropped.
    pub fn enter(self) -> Entered {
        // SAFETY: Each `Task` stands for one thread.
        unsafe { enter_process(self.0) };
        Entered(())
    }
}

/// The calling thread is in a process.
pub struct Entered(());

impl Drop for Entered {
    fn drop(&mut self) {
        // SAFETY: As the type says.
        unsafe { leave_process() }
    }
}

/// An address space, kept by `mm_count`.
pub struct OtherMm(*mut mm_struct);

impl OtherMm {
    /// That of the `nth` process, counted round.
    pub fn nth(nth: u8, kill: bool, oom: bool) -> Option<Self> {
        // SAFETY: No requirements.
        let mm = unsafe { get_nth_mm(nth.into(), kill, oom) };
        (!mm.is_null()).then_some(Self(mm))
    }

    /// For the functions of the bindings.
    pub fn as_ptr(&self) -> *mut mm_struct {
        self.0
    }
}

impl Drop for OtherMm {
    fn drop(&mut self) {
        // SAFETY: Taken by `get_nth_mm`.
        unsafe { mmdrop(self.0) }
    }
}

fn events(event: vm_event_item) -> isize {
    // SAFETY: No requirements.
    unsafe { vm_events(event) }
}

/// What happened in a run.
#[derive(Clone, Copy, Debug, Default)]
pub struct Outcome {
    /// The allocation that should fail has been reached.
    pub failed_nth: bool,
    /// Sessions begun.
    pub sessions: isize,
    /// Sessions that could not be completed.
    pub failed: isize,
    /// Sessions given up with the child.
    pub abandoned: isize,
    /// Ranges by who settled them: copy, pull, push.
    pub settled: [isize; 3],
}

/// Which allocation fails, if any.
#[derive(Clone, Copy, Debug, Default)]
pub struct FailAt {
    /// The first is 1; 0: none does.
    pub nth: u32,
    /// Whoever waits for memory then gets it.
    pub once: bool,
}

impl From<u8> for FailAt {
    fn from(byte: u8) -> Self {
        Self {
            nth: byte.into(),
            once: byte % 2 == 1,
        }
    }
}

/// Runs `body` on a machine without processes, and sees that it leaves none behind, and that the
/// counters fit. With a `schedule` one thread runs at a time, as its bytes say.
pub fn run_on_machine(fail_at: FailAt, schedule: Option<&[u8]>, body: impl FnOnce()) -> Outcome {
    // There is one machine, and tests run in threads. What another one has left is reset.
    static MACHINE: sync::Mutex<()> = sync::Mutex::new(());
    let _machine = MACHINE.lock().unwrap_or_else(sync::PoisonError::into_inner);
    // SAFETY: Nothing else is on the machine.
    unsafe {
        reset_machine();
        if let Some(bytes) = schedule {
            sched_start(bytes.as_ptr(), bytes.len());
        }
        fail_nth(fail_at.nth, fail_at.once);
    }

    body();

    // SAFETY: All threads have been joined.
    let failed_nth = unsafe {
        flush_workers();
        let failed_nth = failed_nth();
        fail_nth(0, false);
        if schedule.is_some() {
            sched_stop();
        }
        for what in 0..live_NR_LIVE {
            assert_eq!(live(what), 0, "oracle: leaked, enum live {what}");
        }
        failed_nth
    };

    let outcome = Outcome {
        failed_nth,
        sessions: events(vm_event_item_ASYNC_PGTABLE_SESSION_START),
        failed: events(vm_event_item_ASYNC_PGTABLE_SESSION_FAIL),
        abandoned: events(vm_event_item_ASYNC_PGTABLE_SESSION_ABANDON),
        settled: [
            events(vm_event_item_ASYNC_PGTABLE_RANGE_COPY),
            events(vm_event_item_ASYNC_PGTABLE_RANGE_PULL),
            events(vm_event_item_ASYNC_PGTABLE_RANGE_PUSH),
        ],
    };
    assert_eq!(
        outcome.sessions,
        events(vm_event_item_ASYNC_PGTABLE_SESSION_COMPLETE) + outcome.abandoned + outcome.failed,
        "oracle: a session has not ended, or more than once"
    );
    assert_eq!(
        events(vm_event_item_ASYNC_PGTABLE_RANGE_DEFER),
        outcome.settled.iter().sum::<isize>() + events(vm_event_item_ASYNC_PGTABLE_RANGE_ABANDON),
        "oracle: a range was lost, or settled more than once"
    );
    outcome
}
