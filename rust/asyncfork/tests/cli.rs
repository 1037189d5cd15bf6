// SPDX-License-Identifier: GPL-2.0

//! The command from outside, on any kernel: what depends on the feature is expected from `probe`.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::process::Command;
use std::process::Output;
use std::process::Stdio;

fn asyncfork(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_asyncfork"));
    command.args(arguments).stdin(Stdio::null());
    command
}

fn run(arguments: &[&str]) -> Output {
    asyncfork(arguments).output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// Asserts that the command failed with `status` and one line on standard error, and returns that
/// line.
#[track_caller]
fn one_line(output: &Output, status: i32) -> String {
    let text = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(output.status.code(), Some(status), "{text}");
    assert!(
        text.starts_with("asyncfork: ") && text.lines().count() == 1,
        "{text}"
    );
    text
}

fn patched() -> bool {
    asyncfork::probe().unwrap()
}

#[test]
fn probe_and_status_agree() {
    let expected = if patched() { 0 } else { 1 };
    assert_eq!(run(&["probe"]).status.code(), Some(expected));

    let status = run(&["status"]);
    assert_eq!(status.status.code(), Some(expected));
    assert_eq!(stdout(&status).contains("session_start"), patched());
    if !patched() {
        assert!(one_line(&status, 1).contains("no CLONE_ASYNC_PGTABLE"));
    }

    let json: serde_json::Value =
        serde_json::from_slice(&run(&["status", "--json"]).stdout).unwrap();
    assert_eq!(json["present"], patched());
    assert_eq!(json["counters"].is_object(), patched());
}

#[test]
fn run_without_the_feature_is_an_error_unless_told() {
    let output = run(&["run", "--", "echo", "hello"]);
    if patched() {
        assert_eq!(stdout(&output), "hello\n");
    } else {
        assert!(one_line(&output, 125).contains("no CLONE_ASYNC_PGTABLE"));
        assert_eq!(stdout(&output), "");
    }
    let output = run(&["run", "--if-available", "--", "echo", "hello"]);
    assert_eq!(
        (stdout(&output).as_str(), output.status.code()),
        ("hello\n", Some(0))
    );
    assert!(output.stderr.is_empty());
}

#[test]
fn run_passes_on_status_and_signal() {
    let sh = |script| run(&["run", "--if-available", "sh", "-c", script]).status;
    assert_eq!(sh("exit 42").code(), Some(42));
    assert_eq!(sh("kill -TERM $$").signal(), Some(libc::SIGTERM));
}

#[test]
fn run_tells_its_own_failures_apart() {
    assert!(
        one_line(&run(&["run", "--if-available", "/no/such/command"]), 127)
            .contains("/no/such/command")
    );
    assert!(one_line(&run(&["run", "--if-available", "/"]), 126).contains("denied"));
    assert_eq!(run(&["run"]).status.code(), Some(125));
    assert_eq!(
        run(&["run", "--no-such-option", "true"]).status.code(),
        Some(125)
    );
    assert_eq!(run(&["run", "--help"]).status.code(), Some(0));
}

#[test]
fn run_is_inherited_and_can_be_undone() {
    if !patched() {
        eprintln!("SKIP: this kernel has no CLONE_ASYNC_PGTABLE");
        return;
    }
    let me = env!("CARGO_BIN_EXE_asyncfork");
    let process = |arguments: &[&str]| {
        let output = run(arguments);
        serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap()["process"].as_bool()
    };
    // Through a shell that forks.
    let script = format!("{me} status --json; true");
    assert_eq!(process(&["run", "--", "sh", "-c", &script]), Some(true));
    assert_eq!(
        process(&["run", me, "run", "--off", me, "status", "--json"]),
        Some(false)
    );
}

#[test]
fn wrong_arguments() {
    for arguments in [
        &["bench", "fork", "--runs", "0"][..],
        &["bench", "fork", "--mb", "x"],
        &["bench", "fork", "--modes", "fast"],
        &["bench"],
        &["frobnicate"],
    ] {
        assert_eq!(run(arguments).status.code(), Some(2), "{arguments:?}");
    }
}

#[test]
fn benchmarks_need_the_feature_unless_told() {
    if patched() {
        eprintln!("SKIP: this kernel has CLONE_ASYNC_PGTABLE");
        return;
    }
    assert!(one_line(&run(&["bench", "fork"]), 1).contains("no CLONE_ASYNC_PGTABLE"));
}

#[test]
fn too_little_memory() {
    let line = one_line(
        &run(&["bench", "fork", "--modes", "default", "--mb", "16000000"]),
        1,
    );
    assert!(
        line.contains("--mb 16000000 needs at least") && line.contains("this machine has"),
        "{line}"
    );
}

#[test]
fn nowhere_to_write() {
    let output = run(&[
        "bench",
        "fork",
        "--modes",
        "default",
        "--mb",
        "16",
        "--json",
        "/no/such/file.json",
    ]);
    assert!(one_line(&output, 1).contains("cannot write /no/such/file.json"));
}

#[test]
fn bench_fork_default() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("fork.json");
    let arguments = [
        "bench", "fork", "--modes", "default", "--mb", "8", "--runs", "2", "--json",
    ];
    let output = asyncfork(&arguments).arg(&file).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(stdout(&output).contains("child's first instruction  median"));
    let json: serde_json::Value = serde_json::from_slice(&fs::read(file).unwrap()).unwrap();
    assert_eq!(json["runs"].as_array().unwrap().len(), 2);
    assert_eq!(json["runs"][0]["writes_ns"].as_array().unwrap().len(), 4);
}
