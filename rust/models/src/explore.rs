// SPDX-License-Identifier: GPL-2.0

//! Runs a model, and says how much of it was seen.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Instant,
};

/// Runs all executions of `model` in which threads are preempted at most `bound` times, or as
/// often as `LOOM_MAX_PREEMPTIONS` says.
#[cfg(loom)]
pub fn explore(name: &str, bound: usize, model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    let bound = *builder.preemption_bound.get_or_insert(bound);
    builder.max_branches = 100_000;

    let executions = Arc::new(AtomicUsize::new(0));
    let count = executions.clone();
    let start = Instant::now();
    builder.check(move || {
        count.fetch_add(1, Relaxed);
        model();
    });
    report(
        name,
        &format!("preemption bound {bound}"),
        &executions,
        start,
    );
}

/// Runs `model` under `nr` random schedules, or as many as `SCHEDULES` says, and as many in which
/// threads have priorities that change three times (PCT): those are rarely preempted, but then in
/// unlikely places.
#[cfg(shuttle)]
pub fn explore(name: &str, nr: usize, model: impl Fn() + Send + Sync + 'static) {
    let nr = std::env::var("SCHEDULES").map_or(nr, |nr| nr.parse().expect("SCHEDULES is a number"));
    let executions = Arc::new(AtomicUsize::new(0));
    let count = executions.clone();
    let start = Instant::now();
    let model = Arc::new(move || {
        count.fetch_add(1, Relaxed);
        model();
    });
    let same = model.clone();
    shuttle::check_random(move || same(), nr);
    shuttle::check_pct(move || model(), nr, 3);
    report(name, "random and PCT schedules", &executions, start);
}

/// Runs `model` a number of times, by threads of the machine.
#[cfg(not(any(loom, shuttle)))]
pub fn explore(name: &str, nr: usize, model: impl Fn() + Send + Sync + 'static) {
    let executions = Arc::new(AtomicUsize::new(0));
    let start = Instant::now();
    for _ in 0..nr {
        executions.fetch_add(1, Relaxed);
        model();
    }
    report(name, "real threads", &executions, start);
}

fn report(name: &str, how: &str, executions: &AtomicUsize, start: Instant) {
    println!(
        "model {name}: {how}, {} executions, {:.1} s",
        executions.load(Relaxed),
        start.elapsed().as_secs_f64(),
    );
}
