// SPDX-License-Identifier: GPL-2.0

//! Every allocation of a program fails, one in each run: the parent goes on, a child is exact or
//! killed, and nothing leaks.

use harness::machine::FailAt;
use harness::{
    program::{Op, Program, Step},
    random,
};

/// Runs `program` with the first, the second, ... allocation failing, until there are no more.
/// Returns the number of them, and how many sessions failed.
fn each_allocation_fails(mut program: Program, scheduled: bool, once: bool) -> (u32, isize) {
    let mut failed = 0;
    for n in 1.. {
        program.fail_at = FailAt { nth: n, once };
        let outcome = if scheduled {
            program.run_scheduled()
        } else {
            program.run_freely()
        };
        failed += outcome.failed;
        if !outcome.failed_nth {
            return (n - 1, failed);
        }
    }
    unreachable!("a program is finite");
}

fn program(layout: u8, steps: &[(usize, Op, u8, u8)]) -> Program {
    let mut program = Program {
        layout,
        ..Program::default()
    };
    for &(thread, op, a, b) in steps {
        program.steps[thread].push(Step { op, a, b });
    }
    program
}

fn of_a_fork_and_its_copy() {
    let (allocations, failed) =
        each_allocation_fails(program(0, &[(0, Op::Fork, 0, 0)]), true, false);
    println!("a fork: {allocations} allocations, {failed} failed sessions");
    // Each of six ranges needs a table, and three of them room for a swap count.
    assert_eq!(failed, 6 + 3);
}

fn of_a_fork_and_memory_that_comes_later() {
    let fork = program(0, &[(0, Op::Fork, 0, 0)]);
    let (allocations, failed) = each_allocation_fails(fork, true, true);
    println!("memory that comes later: {allocations} allocations, {failed} failed sessions");
    assert!(allocations > 9);
    assert_eq!(failed, 0);
}

fn of_two_forks_and_what_the_parent_does_then() {
    let steps = [
        (0, Op::Fork, 0, 0),
        (0, Op::WriteAll, 0, 0),
        (0, Op::Fork, 0, 4),
        (0, Op::Munmap, 5, 16),
        (0, Op::Mprotect, 10, 3),
        (0, Op::Discard, 17, 2),
        (0, Op::Mremap, 0, 1),
    ];
    let (allocations, failed) = each_allocation_fails(program(0, &steps), true, false);
    println!("two forks: {allocations} allocations, {failed} failed sessions");
    assert!(failed > 0);
}

fn of_forks_with_pins_between_them() {
    let steps = [
        (0, Op::Fork, 0, 0),
        (0, Op::Dma, 1, 8),
        (0, Op::Fork, 0, 0),
        (0, Op::Dma, 2, 9),
        (0, Op::Fork, 0, 0),
    ];
    let (allocations, failed) = each_allocation_fails(program(2, &steps), true, false);
    println!("pins: {allocations} allocations, {failed} failed sessions");
    assert!(failed > 0);
}

fn of_programs_at_random() {
    let (mut allocations, mut failed) = (0, 0);
    for seed in 0..40 {
        eprintln!("seed {seed}");
        let program = Program::decode(&random::program(1000 + seed, 25, 0));
        let (n, f) = each_allocation_fails(program, seed < 20, seed % 4 == 3);
        allocations += n;
        failed += f;
    }
    println!("random programs: {allocations} allocations, {failed} failed sessions");
    assert!(failed > 0);
}

harness::tests!(
    of_a_fork_and_its_copy,
    of_a_fork_and_memory_that_comes_later,
    of_two_forks_and_what_the_parent_does_then,
    of_forks_with_pins_between_them,
    of_programs_at_random
);
