// SPDX-License-Identifier: GPL-2.0

//! What programs at random do not come across every time.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

use harness::{
    bindings::*,
    machine::{
        run_on_machine, Entered, FailAt, OtherMm, Outcome, Task, Thread, PAGE, PAGES,
        PAGES_PER_RANGE, RANGE, RANGES,
    },
};

const ENOMEM: i32 = -12;
const VM_WRITE: u64 = 1;

/// A process with memory everywhere, and what it does; one thread at a time.
fn with_parent(body: impl FnOnce(Entered) + Send + 'static) -> Outcome {
    run_on_machine(FailAt::default(), Some(&[]), || {
        in_thread(|| {
            let entered = Task::first().enter();
            // SAFETY: In a process.
            unsafe { assert_eq!(do_mmap(0, PAGES * PAGE, VM_WRITE), 0) };
            write_all(1);
            body(entered);
        })
    })
}

fn in_thread(body: impl FnOnce() + Send + 'static) {
    Thread::spawn(body).join();
}

fn write_all(value: isize) {
    for page in 0..PAGES {
        // SAFETY: In a process.
        unsafe { assert_eq!(user_write(page, value), 0) };
    }
}

/// A child whose page tables nobody has copied yet.
fn fork() -> Task {
    Task::fork(true, false).expect("there is memory")
}

/// A child that copies what is left, is what it should be, and exits.
fn finish(child: Task) {
    in_thread(|| {
        let entered = child.enter();
        // SAFETY: In a process.
        unsafe {
            task_work_run();
            assert!(!is_killed(), "oracle: a child was killed");
            for page in 0..PAGES {
                user_read(page);
            }
        }
        write_all(2);
        drop(entered);
    });
}

/// A child that exits before it has copied anything.
fn give_up(child: Task) {
    child.kill();
    in_thread(|| drop(child.enter()));
}

/// The youngest process.
fn youngest() -> OtherMm {
    OtherMm::nth(0, false, false).expect("there is one")
}

fn who_looks_gets_no_memory() {
    let outcome = with_parent(|entered| {
        let child = fork();
        let mm = youngest();
        // SAFETY: The address space is kept.
        unsafe {
            // A table, then room for a swap count.
            for (nth, page) in [(1, 0), (1, 4), (2, 4)] {
                fail_nth(nth, false);
                assert_eq!(remote_read(mm.as_ptr(), page), ENOMEM, "oracle: peek");
                fail_nth(nth, false);
                assert_eq!(
                    remote_write(mm.as_ptr(), page, 1, 0),
                    ENOMEM,
                    "oracle: poke"
                );
            }
            fail_nth(0, false);
            assert_eq!(remote_read(mm.as_ptr(), 0), 0);
        }
        drop(mm);
        finish(child);
        drop(entered);
    });
    assert_eq!(outcome.failed, 0);
    assert_eq!(outcome.settled, [RANGES as isize - 1, 1, 0]);
}

/// Has the task call execve(), and `meanwhile` happen in the middle of it. Its old address space may
/// be looked at until that is over.
fn exec(looked_at: bool, meanwhile: impl FnOnce()) {
    let mut old_mm = None;
    let done = Task::exec(|mm| {
        // SAFETY: Who calls has it.
        old_mm = (looked_at && unsafe { mmget_not_zero(mm) }).then_some(mm);
        meanwhile();
    });
    assert!(done);
    if let Some(mm) = old_mm {
        // SAFETY: Taken above.
        unsafe { mmput(mm) };
    }
}

/// Who leaves an address space by an exec may be an OOM victim by then, for the sake of the new one.
/// That says nothing about the children of the old one, whether it ends just then, or somebody looks
/// at it.
fn a_victim_takes_an_innocent_parent_down() {
    for looked_at in [false, true] {
        let outcome = with_parent(move |entered| {
            let child = fork();
            exec(looked_at, || {
                drop(OtherMm::nth(1, true, true));
                // SAFETY: In a process.
                unsafe { assert!(is_killed()) };
            });
            drop(entered);
            finish(child);
        });
        assert_eq!((outcome.sessions, outcome.failed), (1, 0));
        assert_eq!(outcome.settled, [0, 0, RANGES as isize]);
    }
}

/// A mapping may begin in the middle of a range that has stayed protected.
fn a_protection_outlives_a_part_of_its_range() {
    with_parent(|entered| {
        for (start, end) in [(12, 14), (19, 20)] {
            give_up(fork());
            // SAFETY: In a process.
            unsafe { assert_eq!(do_munmap(start * PAGE, end * PAGE, false), 0) };
        }
        for page in [14, 18] {
            // SAFETY: In a process.
            unsafe {
                assert!(is_protected(page));
                assert_eq!(user_write(page, 3), 0);
                assert!(!is_protected(page), "oracle: protected after a write");
            }
        }
        drop(entered);
    });
}

fn as_many_sessions_as_may() {
    let outcome = with_parent(|entered| {
        let mut children: Vec<_> = (0..17).map(|_| fork()).collect();
        // SAFETY: No requirements.
        unsafe {
            assert_eq!(vm_events(vm_event_item_ASYNC_PGTABLE_SESSION_START), 16);
            assert_eq!(vm_events(vm_event_item_ASYNC_PGTABLE_FALLBACK_SESSIONS), 1);
            assert_eq!(
                vm_events(vm_event_item_ASYNC_PGTABLE_RANGE_SYNC),
                RANGES as isize
            );
        }
        give_up(children.remove(5));
        children.push(fork());
        // SAFETY: In a process.
        unsafe { assert_eq!(user_write(0, 3), 0) };
        children.into_iter().for_each(finish);
        drop(entered);
    });
    assert_eq!((outcome.sessions, outcome.abandoned), (17, 1));
}

fn nobody_copies_for_the_dying() {
    let outcome = with_parent(|entered| {
        let child = fork();
        child.kill();
        write_all(3);
        in_thread(|| drop(child.enter()));
        drop(entered);
    });
    assert_eq!((outcome.sessions, outcome.abandoned), (1, 1));
    assert_eq!(
        outcome.settled,
        [0, 0, 0],
        "oracle: copied for a child that is being killed"
    );
}

/// The address space of a child may stay when its task is gone.
fn a_child_exits_while_somebody_has_its_memory() {
    let outcome = with_parent(|entered| {
        let child = fork();
        let mm = youngest();
        // SAFETY: The address space is kept.
        unsafe { assert!(mmget_not_zero(mm.as_ptr())) };
        give_up(child);
        write_all(3);
        // SAFETY: Taken above.
        unsafe { mmput(mm.as_ptr()) };
        drop(mm);
        drop(entered);
    });
    assert_eq!((outcome.sessions, outcome.abandoned), (1, 1));
    assert_eq!(outcome.settled, [0, 0, 0], "oracle: copied for the dead");
}

/// Each child finds that it has been killed; else `bad` is so.
fn all_are_killed(children: Vec<Task>, bad: &'static str) {
    for child in children {
        in_thread(move || {
            let entered = child.enter();
            // SAFETY: In a process.
            unsafe {
                assert!(is_killed(), "oracle: {bad}");
                task_work_run();
            }
            drop(entered);
        });
    }
}

fn the_init_of_a_namespace_exits() {
    let outcome = with_parent(|entered| {
        // SAFETY: In a process.
        unsafe { become_child_reaper() };
        let children: Vec<_> = (0..3).map(|_| fork()).collect();
        drop(entered);
        all_are_killed(children, "a child outlives its namespace");
    });
    assert_eq!((outcome.sessions, outcome.abandoned), (3, 3));
    assert_eq!(outcome.settled, [0, 0, 0], "oracle: copied for the dying");
}

/// Its children live on, whether its old address space ends just then, or somebody looks at it.
fn the_init_of_a_namespace_calls_execve() {
    for looked_at in [false, true] {
        let outcome = with_parent(move |entered| {
            // SAFETY: In a process.
            unsafe { become_child_reaper() };
            let child = fork();
            exec(looked_at, || ());
            finish(child);
            drop(entered);
        });
        assert_eq!((outcome.abandoned, outcome.failed), (0, 0));
        assert_eq!(outcome.settled, [0, 0, RANGES as isize]);
    }
}

/// A parent with many children is reaped: they are killed, and nothing else.
fn a_parent_is_reaped() {
    let outcome = with_parent(|entered| {
        let children: Vec<_> = (0..3).map(|_| fork()).collect();
        let mm = OtherMm::nth(3, true, true).expect("there are four");
        // SAFETY: The process has been killed, and its address space is kept.
        unsafe { oom_reap(mm.as_ptr()) };
        drop(mm);
        drop(entered);
        all_are_killed(children, "a child without a parent runs on");
    });
    assert_eq!((outcome.sessions, outcome.failed), (3, 3));
}

/// Has [`at_each_point`] come to the point, or another thread to another one?
static REACHED: AtomicBool = AtomicBool::new(false);

/// What a child, or who looks at it, does while a copy has got to its first, its second, ... point.
fn at_each_point(copy: fn(Task), meanwhile: fn(Entered)) {
    for point in 1.. {
        with_parent(move |entered| {
            let child = fork();
            let copier = Thread::spawn(move || {
                // SAFETY: No requirements.
                unsafe { preempt_after(point) };
                copy(child);
                // SAFETY: No requirements.
                REACHED.store(unsafe { was_preempted() }, Relaxed);
            });
            // SAFETY: No requirements.
            unsafe { give_way() };
            meanwhile(entered);
            copier.join();
        });
        if !REACHED.load(Relaxed) {
            break;
        }
    }
}

/// The child: copies, and is what it should be unless it is killed.
fn the_child(child: Task) {
    let entered = child.enter();
    // SAFETY: In a process.
    unsafe {
        task_work_run();
        for page in 0..PAGES {
            user_read(page);
        }
    }
    drop(entered);
}

/// A process without memory of its own, which looks at the child, which then exits.
fn who_looks(child: Task) {
    let mm = youngest();
    for page in 0..PAGES {
        // SAFETY: The address space is kept.
        unsafe { remote_read(mm.as_ptr(), page) };
    }
    drop(mm);
    drop(child.enter());
}

fn the_parent_exits_during_a_copy() {
    at_each_point(the_child, drop);
    at_each_point(who_looks, drop);
}

fn the_parent_writes_during_a_copy() {
    fn write(_entered: Entered) {
        write_all(3);
    }
    at_each_point(the_child, write);
    at_each_point(who_looks, write);
}

fn the_parent_unmaps_during_a_copy() {
    fn unmap(_entered: Entered) {
        // SAFETY: In a process.
        unsafe {
            assert_eq!(do_munmap(3 * PAGE, 9 * PAGE, false), 0);
            assert_eq!(do_munmap(0, PAGES * PAGE, true), 0);
        }
    }
    at_each_point(the_child, unmap);
    at_each_point(who_looks, unmap);
}

fn the_parent_changes_mappings_during_a_copy() {
    fn change(_entered: Entered) {
        // SAFETY: In a process.
        unsafe {
            assert_eq!(do_madvise_dontneed(6 * PAGE, 13 * PAGE), 0);
            assert_eq!(do_mprotect(2 * PAGE, 5 * PAGE, false), 0);
            assert_eq!(do_munmap(8 * PAGE, 12 * PAGE, false), 0);
            assert_eq!(do_mremap(16 * PAGE, 8 * PAGE), 0);
            assert_eq!(register_notifier(), 0);
        }
    }
    at_each_point(the_child, change);
    at_each_point(who_looks, change);
}

fn the_parent_forks_and_pins_during_a_copy() {
    fn fork_and_pin(_entered: Entered) {
        let mut pin = pin::default();
        // SAFETY: In a process; the pin is given up before that ends.
        unsafe {
            assert_eq!(pin_user_page(5, 2, true, &mut pin), 0);
            let child = fork();
            device_read(&mut pin);
            finish(child);
            unpin_user_page(&mut pin);
        }
    }
    at_each_point(the_child, fork_and_pin);
    at_each_point(who_looks, fork_and_pin);
}

fn the_parent_is_reaped_during_a_copy() {
    fn reap(entered: Entered) {
        let mm = OtherMm::nth(1, true, true).expect("there are two");
        // SAFETY: The process has been killed, and its address space is kept.
        unsafe { oom_reap(mm.as_ptr()) };
        drop(entered);
    }
    at_each_point(the_child, reap);
    at_each_point(who_looks, reap);
}

fn the_child_is_killed_during_a_copy() {
    fn kill(_entered: Entered) {
        // The parent, if there is no child any more.
        drop(OtherMm::nth(0, true, false));
        for page in 0..PAGES {
            // SAFETY: In a process.
            unsafe { user_write(page, 3) };
        }
    }
    at_each_point(the_child, kill);
    at_each_point(who_looks, kill);
}

/// A page of each range of the parent moves, and the child, which must not keep an entry for where
/// it was, is what it should be.
fn who_migrates(child: Task) {
    let mm = OtherMm::nth(1, false, false).expect("there are two");
    for range in 0..RANGES {
        // SAFETY: The address space is kept.
        unsafe { migrate_page(mm.as_ptr(), range * PAGES_PER_RANGE) };
    }
    drop(mm);
    finish(child);
}

fn a_child_is_copied_during_a_migration() {
    fn look(entered: Entered) {
        let mm = youngest();
        for range in 0..RANGES {
            // SAFETY: The address space is kept. What moves is not waited for.
            unsafe { remote_read(mm.as_ptr(), range * PAGES_PER_RANGE + 1) };
        }
        drop(mm);
        drop(entered);
    }
    fn write(entered: Entered) {
        for range in 0..RANGES {
            // SAFETY: In a process.
            unsafe { user_write(range * PAGES_PER_RANGE + 1, 3) };
        }
        drop(entered);
    }
    at_each_point(who_migrates, look);
    at_each_point(who_migrates, write);
    at_each_point(who_migrates, drop);
}

/// As above, but the copy stops as well, at each of its points, while the migration goes on.
fn a_copy_stops_during_a_migration() {
    fn look() {
        let mm = youngest();
        // SAFETY: The address space is kept. What moves is not waited for.
        unsafe { remote_read(mm.as_ptr(), 1) };
    }
    fn write() {
        // SAFETY: In a process.
        unsafe { user_write(1, 3) };
    }
    for stages in [WALK_BEGINS, WALK_HAS_BEGUN, WALK_BEGINS | WALK_HAS_BEGUN] {
        for copy in [look, write] {
            for point in 1.. {
                with_parent(move |entered| {
                    let child = fork();
                    let migration = Thread::spawn(move || {
                        let mm = OtherMm::nth(1, false, false).expect("there are two");
                        // SAFETY: The address space is kept.
                        unsafe {
                            stop_walk(stages);
                            assert_eq!(migrate_page(mm.as_ptr(), 0), 0);
                        }
                    });
                    // SAFETY: No requirements.
                    unsafe {
                        give_way();
                        preempt_after(point);
                        copy();
                        REACHED.store(was_preempted(), Relaxed);
                        preempt_after(0);
                    }
                    migration.join();
                    finish(child);
                    drop(entered);
                });
                if !REACHED.load(Relaxed) {
                    break;
                }
            }
        }
    }
}

/// Who removes entries of one page does not walk again for those of another.
fn copies_of_other_pages_are_not_waited_for() {
    static WALKS: AtomicUsize = AtomicUsize::new(0);
    fn migrates(page: usize, stage: u32) -> Thread {
        Thread::spawn(move || {
            let mm = OtherMm::nth(1, false, false).expect("there are two");
            // SAFETY: The address space is kept.
            unsafe {
                stop_walk(stage);
                assert_eq!(migrate_page(mm.as_ptr(), page), 0);
                if stage == WALK_HAS_BEGUN {
                    WALKS.fetch_max(walks_for_entries() as usize, Relaxed);
                }
            }
        })
    }
    WALKS.store(0, Relaxed);
    for other in 1..PAGES_PER_RANGE {
        with_parent(move |entered| {
            let child = fork();
            let second = migrates(other, WALK_BEGINS);
            let first = migrates(PAGES_PER_RANGE, WALK_HAS_BEGUN);
            // SAFETY: In a process.
            unsafe {
                give_way();
                user_write(0, 3);
            }
            first.join();
            second.join();
            finish(child);
            drop(entered);
        });
    }
    assert_eq!(WALKS.load(Relaxed), 1);
}

fn pages_move_during_a_copy() {
    fn migrate(_entered: Entered) {
        let mm = OtherMm::nth(0, false, false).expect("there is one");
        for page in 0..PAGES {
            // SAFETY: The address space is kept.
            unsafe { migrate_page(mm.as_ptr(), page) };
        }
    }
    at_each_point(the_child, migrate);
    at_each_point(who_looks, migrate);
}

/// The parent pushes, and the child exits then.
fn the_child_exits_during_a_copy() {
    fn push(child: Task) {
        // Not the parent, but a process that changes it.
        let parents_mm = OtherMm::nth(1, false, false).expect("there are two");
        for page in 0..PAGES {
            // SAFETY: The address space is kept.
            unsafe { remote_write(parents_mm.as_ptr(), page, 3, 0) };
        }
        drop(parents_mm);
        child.kill();
        drop(child.enter());
    }
    fn exit(entered: Entered) {
        // The child's last reference may be anybody's.
        collapse_all();
        drop(entered);
    }
    at_each_point(push, exit);
}

/// khugepaged looks at everything.
fn collapse_all() {
    for nth in 0..2 {
        let mm = OtherMm::nth(nth, false, false).expect("there are two");
        for range in 0..RANGES {
            // SAFETY: The address space is kept.
            unsafe { collapse(mm.as_ptr(), range * RANGE, nth == 0) };
        }
    }
}

/// A parent that has nothing left to settle takes its mappings down without another look.
fn a_parent_exits_after_the_last_copy() {
    for _ in 0..30 {
        REACHED.store(false, Relaxed);
        run_on_machine(FailAt::default(), None, || {
            in_thread(|| {
                let entered = Task::first().enter();
                // SAFETY: In a process.
                unsafe { assert_eq!(do_mmap(0, PAGES * PAGE, VM_WRITE), 0) };
                write_all(1);
                let child = fork();
                let copier = Thread::spawn(|| {
                    let entered = child.enter();
                    // SAFETY: In a process.
                    unsafe { task_work_run() };
                    // Nothing that would tell the parent of it.
                    while !REACHED.load(Relaxed) {
                        std::thread::yield_now();
                    }
                    drop(entered);
                });
                // SAFETY: In a process.
                unsafe {
                    while __async_pgtable_is_source((*current_process()).mm) {
                        give_way();
                    }
                }
                drop(entered);
                REACHED.store(true, Relaxed);
                copier.join();
            });
        });
    }
}

/// Of two threads one faults while the other one forks for the first time.
fn a_fault_during_the_first_fork() {
    for _ in 0..100 {
        run_on_machine(FailAt::default(), None, || {
            in_thread(|| {
                let entered = Task::first().enter();
                // SAFETY: In a process.
                unsafe {
                    assert_eq!(async_pgtable_prctl_set(1, 0, 0, 0), 0);
                    assert_eq!(do_mmap(0, PAGES * PAGE, VM_WRITE), 0);
                }
                let task = Task::another_thread();
                let other = Thread::spawn(|| {
                    let entered = task.enter();
                    write_all(1);
                    drop(entered);
                });
                let child = fork();
                other.join();
                give_up(child);
                drop(entered);
            });
        });
    }
}

/// The administrator switches the feature off while somebody uses it for the first time.
fn switched_off_during_the_first_fork() {
    for point in 1.. {
        with_parent(move |entered| {
            let administrator = Thread::spawn(|| {
                // SAFETY: No requirements.
                unsafe { assert_eq!(write_sysctl(0), 0) };
            });
            // SAFETY: No requirements.
            unsafe { preempt_after(point) };
            let child = fork();
            // SAFETY: No requirements.
            REACHED.store(unsafe { was_preempted() }, Relaxed);
            administrator.join();
            finish(child);
            write_all(2);
            drop(entered);
        });
        if !REACHED.load(Relaxed) {
            break;
        }
    }
}

harness::tests!(
    who_looks_gets_no_memory,
    a_victim_takes_an_innocent_parent_down,
    a_protection_outlives_a_part_of_its_range,
    as_many_sessions_as_may,
    nobody_copies_for_the_dying,
    a_child_exits_while_somebody_has_its_memory,
    the_init_of_a_namespace_exits,
    the_init_of_a_namespace_calls_execve,
    a_parent_is_reaped,
    the_parent_exits_during_a_copy,
    the_parent_writes_during_a_copy,
    the_parent_unmaps_during_a_copy,
    the_parent_changes_mappings_during_a_copy,
    the_parent_forks_and_pins_during_a_copy,
    the_parent_is_reaped_during_a_copy,
    the_child_is_killed_during_a_copy,
    a_child_is_copied_during_a_migration,
    a_copy_stops_during_a_migration,
    copies_of_other_pages_are_not_waited_for,
    pages_move_during_a_copy,
    the_child_exits_during_a_copy,
    a_parent_exits_after_the_last_copy,
    a_fault_during_the_first_fork,
    switched_off_during_the_first_fork,
);
