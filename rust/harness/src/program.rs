// SPDX-License-Identifier: GPL-2.0

//! Programs: what threads do on the machine, made of bytes.
//!
//! | bytes             | meaning |
//! |-------------------|---------|
//! | 0                 | the first process: threads; how much of its memory is written to; is it an init? |
//! | 1                 | which allocation fails, 0 for none |
//! | 2                 | mappings of the first process, see [`LAYOUTS`] |
//! | three at a time   | who, and what ([`Op`]); two arguments |
//! | 255               | end of these |
//! | the rest          | the schedule, see `shim/sched.c` |
//!
//! A fork makes a process whose first thread is the next one that has not begun. Each thread does
//! what is its, then the first one of a process looks at all of its memory and writes to all,
//! unless it exits before.

use std::{
    env,
    sync::{
        atomic::{AtomicI64, AtomicUsize, Ordering::Relaxed},
        Arc,
    },
};

use crate::{
    bindings::*,
    machine::{
        run_on_machine, FailAt, OtherMm, Outcome, Task, Thread, Threads, PAGE, PAGES,
        PAGES_PER_RANGE, RANGE, RANGES,
    },
};

/// Threads of a program, over all its processes.
pub const THREADS: usize = 8;

/// Operations of a program.
const MAX_OPS: usize = 200;

const END: u8 = 255;

/// First page, page after the last one, flags.
type Mapping = (usize, usize, u32);

/// Mappings of the first process, and after an exec: aligned and not, several, and such as must not
/// be deferred.
pub const LAYOUTS: [&[Mapping]; 8] = [
    &[(0, 24, 0)],
    &[(1, 23, 0)],
    &[(0, 10, 0), (10, 20, 0)],
    &[(0, 8, 0), (8, 12, VM_WIPEONFORK), (12, 22, 0)],
    &[(2, 9, 0), (9, 16, VM_GROWSDOWN), (16, 24, 0)],
    &[(0, 8, 0), (8, 16, VM_DONTCOPY), (16, 20, 0)],
    &[(0, 4, 0)],
    &[(0, 16, 0)],
];

const VM_WIPEONFORK: u32 = 1 << 9;
const VM_DONTCOPY: u32 = 1 << 8;
const VM_GROWSDOWN: u32 = 1 << 3;
const VM_WRITE: u32 = 1;
const FOLL_WRITE: u32 = 1;
const FOLL_PIN: u32 = 2;
const FOLL_NOFAULT: u32 = 4;

/// What a thread does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Op {
    /// Writes to a page of its own.
    Write,
    /// Reads one.
    Read,
    /// Forks: bits say how, and what becomes of the child.
    Fork,
    /// Unmaps pages.
    Munmap,
    /// Maps pages that are not.
    Mmap,
    /// Changes the protection of pages.
    Mprotect,
    /// `MADV_DONTNEED`
    Discard,
    /// Moves a range.
    Mremap,
    /// Moves the boundary between two mappings.
    Boundary,
    /// Attaches a secondary MMU.
    Notifier,
    /// Looks at another process.
    Peek,
    /// Writes to another process.
    Poke,
    /// khugepaged, or `MADV_COLLAPSE`.
    Collapse,
    /// Sends SIGKILL to a process.
    Kill,
    /// Kills a process and reaps its memory.
    Reap,
    /// Pins a page of its own and lets a device access it.
    Dma,
    /// Starts another thread.
    Clone,
    /// Ends; the first thread of a process without a look at its memory.
    Exit,
    /// Lets others run.
    Yield,
    /// `vm.async_pgtable`
    Sysctl,
    /// `PR_SET_ASYNC_PGTABLE`
    Prctl,
    /// Writes to all pages of its own.
    WriteAll,
    /// Moves a page of another process, or of its own.
    Migrate,
    /// Goes over to another address space, if it is the first thread; others end before.
    Exec,
}

/// All operations, in the order of their numbers.
pub const OPS: [Op; 24] = [
    Op::Write,
    Op::Read,
    Op::Fork,
    Op::Munmap,
    Op::Mmap,
    Op::Mprotect,
    Op::Discard,
    Op::Mremap,
    Op::Boundary,
    Op::Notifier,
    Op::Peek,
    Op::Poke,
    Op::Collapse,
    Op::Kill,
    Op::Reap,
    Op::Dma,
    Op::Clone,
    Op::Exit,
    Op::Yield,
    Op::Sysctl,
    Op::Prctl,
    Op::WriteAll,
    Op::Migrate,
    Op::Exec,
];

/// Numbers from here on stood for the first of [`OPS`] again when the corpus was begun. Those that are
/// still free go on doing so.
const OPS_ONCE: usize = 23;

/// An operation and its arguments.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    /// What.
    pub op: Op,
    /// First argument.
    pub a: u8,
    /// Second argument.
    pub b: u8,
}

/// What threads do.
#[derive(Clone, Debug, Default)]
pub struct Program {
    /// Threads of the first process, and how it begins.
    pub start: u8,
    /// Which allocation fails.
    pub fail_at: FailAt,
    /// Which of [`LAYOUTS`].
    pub layout: u8,
    /// The steps of each thread.
    pub steps: [Vec<Step>; THREADS],
    /// For the scheduler.
    pub schedule: Vec<u8>,
}

/// A program that is running.
struct Running {
    program: Program,
    next_thread: AtomicUsize,
    next_value: AtomicI64,
    threads: Threads,
    /// `HARNESS_TRACE=1`, for people.
    trace: bool,
}

impl Program {
    /// The program that `bytes` mean; every string means one.
    pub fn decode(bytes: &[u8]) -> Self {
        let mut bytes = bytes.iter().copied();
        let mut next = || bytes.next().unwrap_or(END);
        let mut program = Self {
            start: next(),
            fail_at: FailAt::from(next()),
            layout: next(),
            ..Self::default()
        };
        for _ in 0..MAX_OPS {
            let what = next();
            if what == END {
                break;
            }
            let nr = usize::from(what & 31);
            let op = OPS.get(nr).copied().unwrap_or_else(|| OPS[nr - OPS_ONCE]);
            let (a, b) = (next(), next());
            program.steps[usize::from(what >> 5)].push(Step { op, a, b });
        }
        program.schedule = bytes.collect();
        program
    }

    /// Runs it, one thread at a time.
    pub fn run_scheduled(&self) -> Outcome {
        self.run(true)
    }

    /// Runs it on threads that run as they like.
    pub fn run_freely(&self) -> Outcome {
        self.run(false)
    }

    fn run(&self, scheduled: bool) -> Outcome {
        let running = Arc::new(Running {
            program: self.clone(),
            next_thread: AtomicUsize::new(0),
            next_value: AtomicI64::new(1),
            threads: Threads::new(),
            trace: env::var_os("HARNESS_TRACE").is_some(),
        });
        run_on_machine(self.fail_at, scheduled.then_some(&self.schedule), || {
            running.clone().begin()
        })
    }
}

impl Running {
    /// The first process. Its mappings are made before anything can fail.
    fn begin(self: Arc<Self>) {
        // SAFETY: No requirements.
        unsafe { fail_nth(0, false) };
        let task = Task::first();
        let this = self.clone();
        self.next_thread.fetch_add(1, Relaxed);
        let first = Thread::spawn(move || {
            let entered = task.enter();
            this.map(this.program.layout);
            if this.program.start >= 224 {
                // SAFETY: In a process.
                unsafe { become_child_reaper() };
            }
            let step = if this.program.start & 4 == 0 { 1 } else { 3 };
            for page in (0..PAGES).step_by(step) {
                this.write(page);
            }
            // SAFETY: No requirements.
            unsafe { fail_nth(this.program.fail_at.nth, this.program.fail_at.once) };
            let others = usize::from(this.program.start & 3);
            let others = (1..=others)
                .filter_map(|slot| this.clone().spawn_thread(slot))
                .collect();
            this.work(0, 0, others);
            drop(entered);
        });
        self.threads.add(first);
        self.threads.join();
    }

    /// The mappings of an address space that has none.
    fn map(&self, layout: u8) {
        for &(start, end, flags) in LAYOUTS[usize::from(layout) % LAYOUTS.len()] {
            // SAFETY: In a process.
            unsafe { do_mmap(start * PAGE, end * PAGE, (flags | VM_WRITE).into()) };
        }
    }

    fn take_thread(&self) -> Option<usize> {
        let thread = self.next_thread.fetch_add(1, Relaxed);
        (thread < THREADS).then_some(thread)
    }

    /// Another thread of the process of the caller.
    fn spawn_thread(self: Arc<Self>, slot: usize) -> Option<Thread> {
        let thread = self.take_thread()?;
        let task = Task::another_thread();
        Some(Thread::spawn(move || {
            let entered = task.enter();
            self.work(thread, slot, Vec::new());
            drop(entered);
        }))
    }

    /// The steps of one thread, which is the `slot`th of its process.
    fn work(self: Arc<Self>, thread: usize, slot: usize, mut others: Vec<Thread>) {
        let mut exited = false;
        for &step in &self.program.steps[thread] {
            if self.trace {
                eprintln!("thread {thread}: {step:?}");
            }
            // SAFETY: In a process.
            if unsafe { is_killed() } {
                break;
            }
            if step.op == Op::Exit {
                exited = true;
                break;
            }
            if step.op == Op::Clone {
                if slot == 0 && others.len() < PAGES_PER_RANGE - 1 {
                    others.extend(self.clone().spawn_thread(others.len() + 1));
                }
            } else if step.op == Op::Exec {
                if slot == 0 {
                    others.drain(..).for_each(Thread::join);
                    self.exec(step.a);
                }
            } else {
                self.clone().step(step, slot);
            }
            // SAFETY: No requirements.
            unsafe { sched_point() };
        }
        for other in others {
            other.join();
        }
        if slot == 0 && !exited {
            self.look_at_all();
        }
    }

    /// Alone in the process: all is as it should be, and can be written to.
    fn look_at_all(&self) {
        for page in 0..PAGES {
            self.read(page);
        }
        for page in 0..PAGES {
            if self.write(page) {
                // SAFETY: In a process.
                let protected = unsafe { is_protected(page) };
                assert!(!protected, "oracle: protected after a write");
            }
        }
        for page in 0..PAGES {
            self.read(page);
        }
    }

    /// Memory is to be had the next time, so a fault without memory is repeated.
    fn write(&self, page: usize) -> bool {
        let value = self.next_value.fetch_add(1, Relaxed);
        // SAFETY: In a process.
        unsafe { user_write(page, value as isize) == 0 }
    }

    fn read(&self, page: usize) {
        // SAFETY: In a process.
        unsafe { user_read(page) };
    }

    fn step(self: Arc<Self>, Step { op, a, b }: Step, slot: usize) {
        let (a, b) = (usize::from(a), usize::from(b));
        let range = a % RANGES;
        let own_page = range * PAGES_PER_RANGE + slot;
        let start = a % PAGES;
        let end = (start + 1 + b % 9).min(PAGES);
        let (start, end) = (start * PAGE, end * PAGE);
        let value = self.next_value.fetch_add(1, Relaxed) as isize;

        // SAFETY: In a process; other address spaces are kept by what they are taken from.
        unsafe {
            match op {
                Op::Write => {
                    self.write(own_page);
                }
                Op::Read => self.read(own_page),
                Op::WriteAll => {
                    for range in 0..RANGES {
                        self.write(range * PAGES_PER_RANGE + slot);
                    }
                }
                Op::Fork => self.fork(a, b),
                Op::Munmap => {
                    do_munmap(start, end, b & 16 != 0);
                }
                Op::Mmap => {
                    do_mmap(start, end, VM_WRITE.into());
                }
                Op::Mprotect => {
                    do_mprotect(start, end, b & 16 != 0);
                }
                Op::Discard => {
                    do_madvise_dontneed(start, end);
                }
                Op::Mremap => {
                    do_mremap(range * RANGE, (b % RANGES) * RANGE);
                }
                Op::Boundary => {
                    move_boundary(start, (b % PAGES) * PAGE);
                }
                Op::Notifier => {
                    register_notifier();
                }
                Op::Peek => {
                    if let Some(mm) = OtherMm::nth(b as u8, false, false) {
                        remote_read(mm.as_ptr(), a % PAGES);
                    }
                }
                Op::Poke => {
                    let flags = if a & 128 != 0 { FOLL_NOFAULT } else { 0 };
                    if let Some(mm) = OtherMm::nth(b as u8, false, false) {
                        remote_write(mm.as_ptr(), a % PAGES, value, flags);
                    }
                }
                Op::Collapse => {
                    if let Some(mm) = OtherMm::nth(b as u8, false, false) {
                        collapse(mm.as_ptr(), range * RANGE, b & 16 != 0);
                    }
                }
                Op::Migrate => {
                    if let Some(mm) = OtherMm::nth(b as u8, false, false) {
                        migrate_page(mm.as_ptr(), a % PAGES);
                    }
                }
                Op::Kill => drop(OtherMm::nth(b as u8, true, false)),
                Op::Reap => {
                    if let Some(mm) = OtherMm::nth(b as u8, true, true) {
                        oom_reap(mm.as_ptr());
                    }
                }
                Op::Dma => self.dma(own_page, b, value),
                Op::Yield => give_way(),
                Op::Sysctl => {
                    write_sysctl((a % 3) as i32);
                }
                Op::Prctl => {
                    async_pgtable_prctl_set(a & 1, 0, 0, 0);
                }
                Op::Clone | Op::Exit | Op::Exec => (),
            }
        }
    }

    fn fork(self: Arc<Self>, how: usize, child: usize) {
        if self.next_thread.load(Relaxed) >= THREADS {
            return;
        }
        let Some(task) = Task::fork(how & 3 != 2, how & 15 == 3) else {
            return;
        };
        if child & 3 == 3 {
            task.kill();
        }
        let thread = self.take_thread();
        let this = self.clone();
        self.threads.add(Thread::spawn(move || {
            let entered = task.enter();
            // SAFETY: In a process, before anything else.
            unsafe {
                if child & 4 != 0 {
                    give_way();
                }
                // What is left of a process that is killed runs its works in the end.
                if !is_killed() || child & 8 == 0 {
                    task_work_run();
                }
            }
            match thread {
                Some(thread) => this.work(thread, 0, Vec::new()),
                None => this.look_at_all(),
            }
            drop(entered);
        }));
    }

    /// Alone in the process.
    fn exec(&self, layout: u8) {
        // SAFETY: No requirements.
        if Task::exec(|_| unsafe { sched_point() }) {
            self.map(layout);
        }
    }

    fn dma(&self, page: usize, how: usize, value: isize) {
        let flags = FOLL_PIN | if how & 1 == 0 { FOLL_WRITE } else { 0 };
        let mut pin = pin::default();
        // SAFETY: In a process; the pin is used as long as it is one.
        unsafe {
            if pin_user_page(page, flags, how & 2 == 0, &mut pin) != 0 {
                return;
            }
            for i in 0..(how >> 2) & 3 {
                sched_point();
                if flags & FOLL_WRITE != 0 {
                    device_write(&mut pin, value);
                } else {
                    device_read(&mut pin);
                }
                if i == 1 {
                    self.write(page);
                }
            }
            unpin_user_page(&mut pin);
        }
    }
}
