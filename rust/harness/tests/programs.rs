// SPDX-License-Identifier: GPL-2.0

//! Programs at random: on threads that run as they like, and one thread at a time.
//!
//! `HARNESS_PROGRAMS=` says how many, `HARNESS_SEED=` which one alone.

use std::{env, ops::Range};

use harness::{program::Program, random};

fn number(name: &str) -> Option<u64> {
    env::var(name).ok()?.parse().ok()
}

fn seeds(default: u64) -> Range<u64> {
    match number("HARNESS_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("HARNESS_PROGRAMS").unwrap_or(default),
    }
}

fn run(seed: u64, scheduled: bool) -> [isize; 6] {
    // One in four runs out of memory.
    let fail_at = if seed % 4 == 0 {
        (seed / 4 % 64) as u8
    } else {
        0
    };
    let program = Program::decode(&random::program(seed, 40, fail_at));
    eprintln!("seed {seed}");
    let outcome = if scheduled {
        program.run_scheduled()
    } else {
        program.run_freely()
    };
    let [copy, pull, push] = outcome.settled;
    [
        outcome.sessions,
        outcome.failed,
        outcome.abandoned,
        copy,
        pull,
        push,
    ]
}

/// What the programs were about: everything has happened.
fn summary(name: &str, runs: impl Iterator<Item = [isize; 6]>) {
    let (mut programs, mut sum) = (0, [0; 6]);
    for run in runs {
        programs += 1;
        sum.iter_mut().zip(run).for_each(|(sum, n)| *sum += n);
    }
    let [sessions, failed, abandoned, copy, pull, push] = sum;
    println!(
        "{name}: {programs} programs, {sessions} sessions, {failed} failed, {abandoned} abandoned; \
         ranges: {copy} copied, {pull} pulled, {push} pushed"
    );
    assert!(
        programs < 100 || sum.iter().all(|n| *n > 0),
        "something has not been tried"
    );
}

fn one_thread_at_a_time() {
    summary("schedules", seeds(1000).map(|seed| run(seed, true)));
}

/// Runs last: what is found above can be repeated.
fn threads_that_run_freely() {
    summary("free threads", seeds(300).map(|seed| run(seed, false)));
}

harness::tests!(one_thread_at_a_time, threads_that_run_freely);
