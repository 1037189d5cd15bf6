// SPDX-License-Identifier: GPL-2.0

//! What hangs says so and aborts, whether threads run freely or one at a time.

use std::{
    env,
    process::{Command, Stdio},
    sync::Arc,
    thread::sleep,
    time::{Duration, Instant},
};

use harness::{
    bindings::sched_point,
    machine::{run_on_machine, FailAt, Thread},
    static_lock_class, suite,
    sync::SpinLock,
};

/// Says to this program how it has to hang.
const HANG: &str = "HARNESS_HANG";

const LIMIT: Duration = Duration::from_secs(120);

/// Who has a lock waits for somebody who wants it.
fn deadlock() {
    let lock = Arc::new(SpinLock::new((), c"wanted", static_lock_class!()));
    let wanted = lock.clone();
    let guard = lock.lock();
    Thread::spawn(move || drop(wanted.lock())).join();
    drop(guard);
}

/// Who is waited for goes round in circles.
fn livelock() {
    Thread::spawn(|| loop {
        // SAFETY: No requirements.
        unsafe { sched_point() }
    })
    .join();
}

fn hang(how: &str) {
    let schedule: Option<&[u8]> = how.starts_with("scheduled").then_some(&[]);
    let body = if how.ends_with("deadlock") {
        deadlock
    } else {
        livelock
    };
    run_on_machine(FailAt::default(), schedule, body);
}

/// Another process hangs: what does it say of that?
fn is_named(how: &str, name: &str) {
    let mut child = Command::new(env::current_exe().expect("this program has a name"))
        .env(HANG, how)
        .stderr(Stdio::piped())
        .spawn()
        .expect("it can be run");
    let start = Instant::now();
    while child.try_wait().expect("it is a child").is_none() {
        if start.elapsed() > LIMIT {
            child.kill().expect("it is a child");
            break;
        }
        sleep(Duration::from_millis(10));
    }
    let output = child.wait_with_output().expect("it is a child");
    let said = String::from_utf8_lossy(&output.stderr);
    println!("{how}: {:.1?}", start.elapsed());
    assert!(said.contains(&format!("\"{name}\"")), "{how}: {said}");
}

fn of_a_schedule() {
    is_named("scheduled deadlock", "deadlock");
    is_named("scheduled livelock", "livelock");
}

fn of_free_threads() {
    is_named("free deadlock", "deadlock of free threads");
    is_named("free livelock", "livelock of free threads");
}

fn main() {
    match env::var(HANG) {
        Ok(how) => hang(&how),
        Err(_) => suite::run(&[
            ("of_a_schedule", of_a_schedule),
            ("of_free_threads", of_free_threads),
        ]),
    }
}
