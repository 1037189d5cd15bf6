// SPDX-License-Identifier: GPL-2.0

//! The command from outside, on any kernel: what depends on the feature is expected from `probe`.

use std::fs;
use std::io::BufRead;
use std::io::BufReader;
use std::io::Read;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Output;
use std::process::Stdio;
use std::sync::Mutex;
use std::sync::PoisonError;

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

/// Keeps the tests from running side by side: the counters and the sysctl belong to all processes.
fn alone() -> impl Sized {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn patched() -> bool {
    asyncfork::probe().unwrap()
}

/// Whether Debian's redis-server is here; the tests that need it say so when it is not.
fn has_redis() -> bool {
    let here = Command::new("redis-server")
        .arg("--version")
        .output()
        .is_ok();
    if !here {
        eprintln!("SKIP: no redis-server");
    }
    here
}

/// A stand-in for redis-server: a script that runs it.
fn server(directory: &Path, script: &str) -> PathBuf {
    let path = directory.join("server");
    fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

/// Arguments of a small benchmark whose temporary directory is made in `directory`.
fn small<'a>(directory: &'a Path, saves: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let mut arguments = vec![
        "bench", "redis", "--modes", "default", "--mb", "16", "--quiet", "0.3",
    ];
    arguments.extend(["--saves", saves, "--dir", directory.to_str().unwrap()]);
    arguments.extend(more);
    arguments
}

/// The processes whose command line names `directory`.
fn processes_of(directory: &Path) -> Vec<String> {
    let name = directory.to_str().unwrap();
    let command_line = |entry: fs::DirEntry| fs::read_to_string(entry.path().join("cmdline")).ok();
    let all = fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter_map(command_line);
    all.filter(|line| line.contains(name)).collect()
}

#[test]
fn probe_and_status_agree() {
    let _alone = alone();
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
fn doctor_of_the_machine() {
    let _alone = alone();
    let output = run(&["doctor"]);
    let text = stdout(&output);
    let problem = text.lines().any(|line| line.starts_with("problem "));
    assert_eq!(output.status.code(), Some(problem.into()), "{text}");
    assert!(output.stderr.is_empty(), "{output:?}");
    let kernel = text.lines().next().unwrap();
    let expected = if patched() { "ok " } else { "problem " };
    assert!(
        kernel.starts_with(expected) && kernel.contains(" kernel "),
        "{text}"
    );
    // Whatever is not fine is followed by what to do.
    let lines: Vec<&str> = text.lines().collect();
    for pair in lines.windows(2) {
        let fine = pair[0].starts_with("ok ") || !pair[0].starts_with(['n', 'p']);
        assert!(
            fine || pair[0].contains("hinders") || pair[1].trim().starts_with("-> "),
            "{text}"
        );
    }

    let json: serde_json::Value =
        serde_json::from_slice(&run(&["doctor", "--json"]).stdout).unwrap();
    assert!(json["pid"].is_null() && json["memory"].is_null());
    assert_eq!(json["findings"][0]["about"], "kernel");
}

/// A process that waits for its standard input to end, and has come that far: its name, for one, is
/// another one until a moment after it has been started.
fn waiting() -> Child {
    let mut command = Command::new("cat");
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.as_mut().unwrap().write_all(b"x").unwrap();
    let mut back = [0];
    child
        .stdout
        .as_mut()
        .unwrap()
        .read_exact(&mut back)
        .unwrap();
    child
}

#[test]
fn doctor_of_a_process() {
    let _alone = alone();
    let mut child = waiting();
    let pid = child.id().to_string();
    let output = run(&["doctor", &pid]);
    let text = stdout(&output);
    // It is small, so nothing is deferred.
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(text.contains("fallback_small"), "{text}");
    assert!(
        text.ends_with(&format!("of process {pid} (cat)\n")),
        "{text}"
    );
    assert_eq!(
        text.contains("unknown: the kernel does not tell"),
        patched()
    );
    let json: serde_json::Value =
        serde_json::from_slice(&run(&["doctor", "--json", &pid]).stdout).unwrap();
    assert_eq!(json["name"], "cat");
    assert_eq!(json["memory"]["deferred_kib"], 0);
    assert!(json["memory"]["mappings"].as_u64() > Some(5));

    // It ends, and nobody has waited for it yet.
    drop(child.stdin.take());
    let stat = format!("/proc/{pid}/stat");
    while !fs::read_to_string(&stat).unwrap().contains(") Z ") {
        std::thread::yield_now();
    }
    let line = one_line(&run(&["doctor", &pid]), 1);
    assert!(line.contains("(cat) has exited already"), "{line}");
    child.wait().unwrap();
    let line = one_line(&run(&["doctor", &pid]), 1);
    assert!(
        line.contains(&format!("there is no process {pid}")),
        "{line}"
    );
}

#[test]
fn doctor_of_what_is_not_ours() {
    let _alone = alone();
    if fs::read("/proc/2/comm").is_ok_and(|name| name == b"kthreadd\n") {
        let line = one_line(&run(&["doctor", "2"]), 1);
        assert!(line.contains("a thread of the kernel"), "{line}");
    }
    // SAFETY: allowed at any time.
    if unsafe { libc::geteuid() } != 0 {
        let line = one_line(&run(&["doctor", "1"]), 1);
        assert!(line.contains("sudo asyncfork doctor 1"), "{line}");
    }
}

#[test]
fn watch_needs_the_feature() {
    let _alone = alone();
    let output = run(&["watch", "--count", "2", "--interval", "0.1"]);
    if !patched() {
        assert!(one_line(&output, 1).contains("no CLONE_ASYNC_PGTABLE"));
        assert_eq!(stdout(&output), "");
        return;
    }
    assert!(output.status.success(), "{output:?}");
    let text = stdout(&output);
    let widths = text.lines().map(str::len).collect::<Vec<_>>();
    assert_eq!(widths, [widths[0]; 3], "{text}");
    let output = run(&["watch", "--json", "--count", "2", "--interval", "0.1"]);
    for line in stdout(&output).lines() {
        let json: serde_json::Value = serde_json::from_str(line).unwrap();
        assert!(
            json["ranges_left"].is_u64() && json["counted"].is_object(),
            "{line}"
        );
    }
}

/// Instances of tracefs that this command has made.
fn instances() -> usize {
    let all = fs::read_dir("/sys/kernel/tracing/instances");
    let all = all.into_iter().flatten().flatten();
    all.filter(|entry| {
        entry
            .file_name()
            .to_string_lossy()
            .starts_with("asyncfork_")
    })
    .count()
}

#[test]
fn watch_ends_by_a_signal_or_without_a_reader() {
    let _alone = alone();
    if !patched() {
        eprintln!("SKIP: this kernel has no CLONE_ASYNC_PGTABLE");
        return;
    }
    let watch = || {
        let mut command = asyncfork(&["watch", "--interval", "0.1"]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        // A header, and a line that came before the end.
        assert!(lines.by_ref().take(2).all(|line| line.is_ok()));
        (child, lines)
    };
    let (child, lines) = watch();
    // SAFETY: the child has not been waited for.
    unsafe { libc::kill(child.id() as libc::pid_t, libc::SIGINT) };
    lines.for_each(drop);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(128 + libc::SIGINT));
    assert!(output.stderr.ends_with(b"asyncfork: interrupted\n"));
    assert_eq!(instances(), 0);
    let (mut child, lines) = watch();
    drop(lines);
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert_eq!(instances(), 0);
}

#[test]
fn generate_pages_and_completions() {
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("new/out");
    let output = run(&["generate", "--out", out.to_str().unwrap()]);
    assert!(
        output.status.success() && output.stdout.is_empty(),
        "{output:?}"
    );
    for (name, text) in [
        ("asyncfork.1", ".SH SYNOPSIS"),
        ("asyncfork-watch.1", "interval"),
        ("asyncfork-bench-redis.1", ".SH OPTIONS"),
        ("asyncfork.bash", "doctor"),
        ("_asyncfork", "#compdef asyncfork"),
        ("asyncfork.fish", "doctor"),
    ] {
        let file = fs::read_to_string(out.join(name)).unwrap();
        assert!(file.contains(text), "{name}");
        assert!(!file.contains("generate"), "{name} has what is hidden");
    }
    assert!(!stdout(&run(&["--help"])).contains("generate"));
    let line = one_line(&run(&["generate", "--out", "/proc/no"]), 1);
    assert!(line.contains("cannot write to /proc/no"), "{line}");
}

#[test]
fn run_without_the_feature_is_an_error_unless_told() {
    let _alone = alone();
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
    let _alone = alone();
    let sh = |script| run(&["run", "--if-available", "sh", "-c", script]).status;
    assert_eq!(sh("exit 42").code(), Some(42));
    assert_eq!(sh("kill -TERM $$").signal(), Some(libc::SIGTERM));
}

#[test]
fn run_tells_its_own_failures_apart() {
    let _alone = alone();
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
    let _alone = alone();
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
    let _alone = alone();
    for arguments in [
        &["bench", "fork", "--runs", "0"][..],
        &["bench", "fork", "--mb", "x"],
        &["bench", "fork", "--pages", "huge"],
        &["bench", "fork", "--huge-pages", "2M"],
        &["bench", "redis", "--mb", "1"],
        &["bench", "redis", "--modes", "fast"],
        &["bench", "redis", "--soak", "3", "--saves", "2"],
        &["bench", "redis", "--quiet", "-1"],
        &["bench", "redis", "--rate", "101%"],
        &["bench", "redis", "--ratio", "0:1"],
        &["bench", "redis", "--keys", "normal"],
        &["bench", "redis", "--clients", "0"],
        &["bench", "redis", "--pipeline", "0"],
        &["bench", "redis", "--latency-from", "reply"],
        &["bench", "redis", "--check", "digest"],
        &["bench", "redis", "--after", "1", "--every", "2"],
        &["bench", "snapshots", "--at-once", "17"],
        &["bench", "redis", "--snapshot", "save"],
        &["bench", "redis", "--io-threads", "0"],
        &["bench", "redis", "--huge-pages", "2M"],
        &["doctor", "0"],
        &["doctor", "-1"],
        &["doctor", "init"],
        &["watch", "--interval", "0"],
        &["watch", "--interval", "nan"],
        &["watch", "--count", "0"],
        &["generate"],
        &["bench"],
        &["frobnicate"],
    ] {
        assert_eq!(run(arguments).status.code(), Some(2), "{arguments:?}");
    }
}

#[test]
fn benchmarks_need_the_feature_unless_told() {
    let _alone = alone();
    if patched() {
        eprintln!("SKIP: this kernel has CLONE_ASYNC_PGTABLE");
        return;
    }
    for arguments in [
        &["bench", "fork"][..],
        &["bench", "redis"],
        &["bench", "redis", "--soak", "2"],
    ] {
        assert!(
            one_line(&run(arguments), 1).contains("no CLONE_ASYNC_PGTABLE"),
            "{arguments:?}"
        );
    }
}

#[test]
fn too_little_memory() {
    let _alone = alone();
    for benchmark in ["fork", "redis"] {
        let line = one_line(
            &run(&["bench", benchmark, "--modes", "default", "--mb", "16000000"]),
            1,
        );
        assert!(
            line.contains("--mb 16000000 needs at least") && line.contains("this machine has"),
            "{line}"
        );
    }
}

#[test]
fn huge_pages_are_of_written_ones() {
    let _alone = alone();
    let options = ["--huge-pages", "never", "--pages", "zero", "--mb", "8"];
    let arguments = ["bench", "fork", "--modes", "default"];
    let line = one_line(&run(&[&arguments[..], &options].concat()), 1);
    assert!(
        line.contains("--huge-pages is for --pages written"),
        "{line}"
    );
}

#[test]
fn nowhere_to_write() {
    let _alone = alone();
    for benchmark in ["fork", "redis"] {
        let output = run(&[
            "bench",
            benchmark,
            "--modes",
            "default",
            "--mb",
            "16",
            "--json",
            "/no/such/file.json",
        ]);
        assert!(one_line(&output, 1).contains("cannot write /no/such/file.json"));
    }
    let output = run(&[
        "bench",
        "redis",
        "--modes",
        "default",
        "--dir",
        "/no/such/directory",
    ]);
    assert!(one_line(&output, 1).contains("/no/such/directory"));
}

#[test]
fn no_server_or_a_broken_one() {
    let _alone = alone();
    let directory = tempfile::tempdir().unwrap();
    let output = run(&small(
        directory.path(),
        "2",
        &["--server", "/no/such/server"],
    ));
    assert!(one_line(&output, 1).contains("cannot run /no/such/server"));

    let broken = server(directory.path(), "echo 'no mood today'; exit 3");
    let output = run(&small(
        directory.path(),
        "2",
        &["--server", broken.to_str().unwrap()],
    ));
    let line = one_line(&output, 1);
    assert!(
        line.contains("no mood today") && line.contains('3'),
        "{line}"
    );
    assert_eq!(
        fs::read_dir(directory.path()).unwrap().count(),
        1,
        "the server alone"
    );
}

#[test]
fn bench_fork_default() {
    let _alone = alone();
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

#[test]
fn bench_spawn_default() {
    let _alone = alone();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("spawn.json");
    let arguments = [
        "bench", "spawn", "--modes", "default", "--mb", "8", "--runs", "2", "--json",
    ];
    let output = asyncfork(&arguments).arg(&file).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let report = run(&["bench", "report", file.to_str().unwrap()]);
    let text = stdout(&report);
    assert!(report.status.success(), "{report:?}");
    assert!(text.contains("fork and exec: executed"), "{text}");
    let file = file.to_str().unwrap();
    let compared = run(&["bench", "compare", file, file, "--limit", "0.5"]);
    assert!(compared.status.success(), "{compared:?}");
    assert_eq!(stdout(&compared).lines().count(), 7, "{compared:?}");
}

#[test]
fn bench_snapshots_default() {
    let _alone = alone();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("snapshots.json");
    let arguments = [
        "bench",
        "snapshots",
        "--modes",
        "default",
        "--mb",
        "8",
        "--runs",
        "2",
        "--at-once",
        "3",
        "--settle-ms",
        "0",
        "--json",
    ];
    let output = asyncfork(&arguments).arg(&file).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let exact = "exact: 6 of 6 snapshots equal the memory at the fork\n";
    assert!(stdout(&output).ends_with(exact), "{output:?}");
    let report = run(&["bench", "report", file.to_str().unwrap()]);
    assert!(report.status.success(), "{report:?}");
    let text = stdout(&report);
    assert!(
        text.contains("call: the last of them") && text.contains(exact),
        "{text}"
    );
}

#[test]
fn bench_calls_default() {
    let _alone = alone();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("calls.json");
    let arguments = [
        "bench",
        "calls",
        "--modes",
        "default",
        "--mb",
        "18",
        "--rounds",
        "4",
        "--runs",
        "2",
        "--settle-ms",
        "0",
    ];
    let output = asyncfork(&arguments)
        .arg("--json")
        .arg(&file)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let json: serde_json::Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    let runs = json["runs"].as_array().unwrap();
    assert_eq!(runs.len(), 2);
    for run in runs {
        for when in ["outside", "after"] {
            let calls = run[when].as_array().unwrap();
            assert_eq!(calls.len(), 4 * 7);
            assert!(calls.iter().all(|call| call["ns"].as_u64().unwrap() > 0));
        }
    }
    let report = run(&["bench", "report", file.to_str().unwrap()]);
    let text = stdout(&report);
    assert!(
        text.contains("munmap, written memory, in the window"),
        "{text}"
    );
    let few = [
        "bench", "calls", "--modes", "default", "--mb", "17", "--rounds", "4",
    ];
    assert!(one_line(&run(&few), 1).contains("--rounds 4 takes --mb 18 or more"));
}

/// A suite of two points on this machine, by a stand-in for tools/vm/run.
struct Suite {
    directory: tempfile::TempDir,
}

impl Suite {
    fn new() -> Self {
        let suite = Self {
            directory: tempfile::tempdir().unwrap(),
        };
        suite.write(
            "experiments/x.toml",
            "title = 'two sizes'\n\
             note = 'of no importance'\n\
             command = 'bench fork --modes default --settle-ms 0 --runs 5'\n\
             quick = '--runs 3'\n\
             points = [\n\
             { name = 'small', arguments = '--mb 2', memory = '1G', minutes = 1, quick = true },\n\
             { name = 'large', arguments = '--mb 4', memory = '2G', minutes = 2 },\n\
             ]\n",
        );
        suite.vm("");
        suite
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// What the stand-in does before the command: with $mem, the guest's memory.
    fn vm(&self, script: &str) {
        let script = format!(
            "#!/bin/sh\n\
             while [ $1 != -- ]; do [ $1 != -m ] || mem=$2; shift; done; shift\n\
             echo $mem >>{}\n{script}\nexec \"$@\"\n",
            self.path("boots").display()
        );
        self.program("vm", &script);
    }

    fn program(&self, name: &str, script: &str) {
        self.write(name, script);
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn run(&self, more: &[&str]) -> Output {
        let path = |name| self.path(name).to_str().unwrap().to_owned();
        let mut command = asyncfork(&["bench", "suite", &path("experiments")]);
        command.args(["--output", &path("out"), "--vm", &path("vm")]);
        command.args(more).env("ASYNCFORK_SERIES", "0123");
        command.output().unwrap()
    }

    /// The memory of each guest since the last time.
    fn boots(&self) -> String {
        let boots = fs::read_to_string(self.path("boots")).unwrap_or_default();
        let _ = fs::remove_file(self.path("boots"));
        boots.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&fs::read(self.path("out/x.json")).unwrap()).unwrap()
    }
}

#[test]
fn a_suite_measures_what_is_missing() {
    let _alone = alone();
    let suite = Suite::new();
    let output = suite.run(&["--list"]);
    assert!(stdout(&output).starts_with("2 of 2 points to measure, about 3 min left\n"));
    assert_eq!(suite.boots(), "");

    let output = suite.run(&[]);
    assert!(output.status.success(), "{output:?}");
    assert!(stdout(&output).contains("\nof no importance\n"));
    assert_eq!(suite.boots(), "1G 2G");
    let json = suite.json();
    assert_eq!(json["missing"], 0);
    // The picture of an experiment is of one figure against the size.
    let (from, to) = (suite.path("out/x.json"), suite.path("x.svg"));
    let [from, to] = [&from, &to].map(|path| path.to_str().unwrap());
    let output = run(&["plot", from, "-o", to, "--figure", "call"]);
    assert!(output.status.success(), "{output:?}");
    assert!(fs::read_to_string(to).unwrap().contains("two sizes: call"));
    let line = one_line(&run(&["plot", from, "-o", to, "--figure", "x"]), 1);
    assert!(line.contains("no figure \"x\"; there are: call;"), "{line}");
    for (i, mb) in [(0, 2), (1, 4)] {
        let point = &json["points"][i];
        assert_eq!(point["record"]["mb"], mb);
        assert_eq!(point["record"]["runs"].as_array().unwrap().len(), 5);
        assert_eq!(point["record"]["machine"]["series"], "0123");
        assert_eq!(point["load_before"].as_array().unwrap().len(), 3);
    }

    let output = suite.run(&[]);
    assert!(stdout(&output).starts_with("0 of 2 points"), "{output:?}");
    assert_eq!(suite.boots(), "");

    // One is lost, one is asked for otherwise.
    fs::remove_file(suite.path("out/x/small.json")).unwrap();
    assert!(suite.run(&[]).status.success());
    assert_eq!(suite.boots(), "1G");
    let text = fs::read_to_string(suite.path("experiments/x.toml")).unwrap();
    suite.write("experiments/x.toml", &text.replace("2G", "3G"));
    assert!(suite.run(&[]).status.success());
    assert_eq!(suite.boots(), "3G");
    // The quick one has fewer runs.
    assert!(suite.run(&["--quick"]).status.success());
    assert_eq!(suite.boots(), "1G");
    assert_eq!(suite.json()["points"].as_array().unwrap().len(), 1);
    assert_eq!(
        suite.json()["points"][0]["record"]["runs"][2]["mode"],
        "default"
    );
}

#[test]
fn a_suite_goes_on_after_a_failure_but_not_after_a_signal() {
    let _alone = alone();
    let suite = Suite::new();
    // Fails after its measurement, and without one.
    for (script, reason) in [
        ("[ $mem != 1G ] || { \"$@\"; exit 3; }", "small.failed.json"),
        ("[ $mem != 1G ] || exit 3", "no record (exit status: 3)"),
    ] {
        suite.vm(script);
        let output = suite.run(&[]);
        assert_eq!(output.status.code(), Some(1));
        let text = stdout(&output);
        assert!(
            text.contains("FAILED x-small: ") && text.contains(reason),
            "{text}"
        );
        assert_eq!(suite.json()["missing"], 1);
        assert!(text.contains("1 points are missing"), "{text}");
        assert!(suite.boots().starts_with("1G"));
    }
    fs::remove_dir_all(suite.path("out")).unwrap();
    suite.vm("[ $mem != 2G ] || exit 130");
    let output = suite.run(&[]);
    assert!(one_line(&output, 1).contains("interrupted by signal 2"));
    assert!(suite.path("out/x/small.json").exists());
    suite.vm("");
    suite.boots();
    assert!(suite.run(&[]).status.success());
    assert_eq!(suite.boots(), "2G", "the other is there");
}

#[test]
fn a_suite_computes_last_and_each_time() {
    let _alone = alone();
    let suite = Suite::new();
    suite.write(
        "experiments/c.toml",
        "title = 'of the other'\n\
         command = 'bench model'\n\
         from = ['x']\n\
         points = [{ name = 'all', arguments = '--repetitions 5', minutes = 1, quick = true }]\n",
    );
    // In place of the model, which takes both modes: any record, if its input is there.
    suite.program(
        "program",
        &format!(
            "#!/bin/sh\n\
             asyncfork={}\n\
             [ $2 = model ] || exec $asyncfork \"$@\"\n\
             while [ $1 != --json ]; do input=$1; shift; done\n\
             [ -s $input ] || exit 3\n\
             exec $asyncfork bench fork --modes default --settle-ms 0 --runs 1 --mb 2 \"$@\"\n",
            env!("CARGO_BIN_EXE_asyncfork")
        ),
    );
    let program = suite.path("program");
    let program = ["--program", program.to_str().unwrap()];
    let output = suite.run(&program);
    assert!(output.status.success(), "{output:?}");
    let text = stdout(&output);
    assert!(text.contains("point 3 of 3: c all: bench model"), "{text}");
    assert!(text.contains("computed here"), "{text}");
    assert_eq!(suite.boots(), "1G 2G", "none for what is computed");
    let computed = fs::read(suite.path("out/c.json")).unwrap();
    let computed: serde_json::Value = serde_json::from_slice(&computed).unwrap();
    assert_eq!(
        computed["points"][0]["asked"]["guest"],
        serde_json::Value::Null
    );

    let output = suite.run(&program);
    assert!(stdout(&output).starts_with("1 of 3 points"), "{output:?}");
    assert_eq!(suite.boots(), "");

    // The model itself, which says what it lacks.
    let output = suite.run(&["--only", "c"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(error.contains("required"), "{error}");
    assert!(
        stdout(&output).contains("FAILED c-all: no record"),
        "{output:?}"
    );
}

#[test]
fn bench_model_names_what_it_cannot_read() {
    let directory = tempfile::tempdir().unwrap();
    let absent = directory.path().join("a.json");
    let absent = absent.to_str().unwrap();
    let line = one_line(&run(&["bench", "model", absent, absent]), 1);
    assert!(line.contains("cannot model from"), "{line}");
    assert!(line.contains("No such file"), "{line}");
}

#[test]
fn a_suite_names_what_it_does_not_have() {
    let _alone = alone();
    let suite = Suite::new();
    let line = one_line(&suite.run(&["--only", "x,y"]), 1);
    assert!(line.contains("no experiment y; there are: x"), "{line}");
    suite.write("experiments/z.toml", "title = 'z'");
    let line = one_line(&suite.run(&[]), 1);
    assert!(line.contains("z.toml is wrong"), "{line}");
}

#[test]
fn bench_redis_default() {
    let _alone = alone();
    if !has_redis() {
        return;
    }
    for rate in ["0", "2000"] {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("redis.json");
        let output = asyncfork(&small(directory.path(), "2", &["--rate", rate, "--json"]))
            .arg(&file)
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        let last = stdout(&output).lines().last().unwrap().to_owned();
        assert_eq!(last, "exact: 2 of 2 snapshots equal the data at the fork");

        let json: serde_json::Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
        assert!(json["used_memory_bytes"].as_u64().unwrap() >= 16 << 20);
        let saves = json["saves"].as_array().unwrap();
        assert_eq!(saves.len(), 2);
        let mut before = vec![0; 4];
        for save in saves {
            assert!(save["fork_us"].as_u64().unwrap() > 0);
            assert!(
                save["inside"]["count"].as_u64().unwrap() > 0,
                "clients write during the snapshot"
            );
            assert!(save["outside"]["count"].as_u64().unwrap() > 0);
            let cuts = save["cuts"].as_array().unwrap();
            assert_eq!(cuts.len(), before.len());
            for (cut, before) in cuts.iter().zip(&mut before) {
                let number = |name| cut[name].as_u64().unwrap();
                assert!((number("answered")..=number("sent")).contains(&number("included")));
                // A snapshot without news proves little.
                assert!(number("included") > *before);
                *before = number("included");
            }
        }
        assert_eq!(
            fs::read_dir(directory.path()).unwrap().count(),
            1,
            "the JSON alone"
        );
    }
}

/// Fewer threads than clients, a rate that is measured first, GETs between the SETs, and the
/// snapshot read without a second server.
#[test]
fn bench_redis_with_a_choice_of_load() {
    let _alone = alone();
    if !has_redis() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("redis.json");
    let load = "--clients 100 --threads 2 --rate 30% --ratio 1:1 --keys zipfian --pipeline 2";
    let more = format!("{load} --check file --json");
    let more: Vec<_> = more.split(' ').collect();
    let output = asyncfork(&small(directory.path(), "2", &more))
        .arg(&file)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = stdout(&output);
    assert!(
        text.contains("capacity: ") && text.contains("GET during snapshots"),
        "{text}"
    );
    assert!(text.ends_with("exact: 2 of 2 snapshots equal the data at the fork\n"));

    let json: serde_json::Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    let parameters = &json["parameters"];
    for (name, expected) in [
        ("clients", 100.into()),
        ("threads", 2.into()),
        ("pipeline", 2.into()),
        ("rate_percent", 30.0.into()),
        ("ratio", "1:1".into()),
        ("keys", "zipfian".into()),
        ("latency_from", "due".into()),
        ("check", "file".into()),
    ] {
        let expected: serde_json::Value = expected;
        assert_eq!(parameters[name], expected, "{name}");
    }
    let rate = parameters["rate"].as_f64().unwrap();
    let capacity = parameters["capacity_per_second"].as_f64().unwrap();
    assert!((rate - 0.3 * capacity).abs() < 1.0, "{rate} of {capacity}");
    for save in json["saves"].as_array().unwrap() {
        let count = |name: &str| save[name]["count"].as_u64().unwrap();
        assert!(count("outside") > 0 && count("outside_gets") > 0);
        assert!(count("inside") > 0 && count("inside_gets") > 0);
        assert_eq!(count("inside_lag"), count("inside") + count("inside_gets"));
        assert_eq!(save["cuts"].as_array().unwrap().len(), 100);
    }
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
}

/// By the throughput over time: a server that stands still for 350 ms while it saves.
#[test]
fn a_known_pause_is_the_minimum() {
    let _alone = alone();
    if !has_redis() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let script = "[ \"$1\" != --version ] || exec redis-server --version; \
         (until redis-cli -s ${1%.conf}.sock INFO persistence | grep -q in_progress:1; \
         do sleep 0.01; done; kill -STOP $$; sleep 0.35; kill -CONT $$) >/dev/null 2>&1 & \
         exec redis-server \"$@\" --rdb-key-save-delay 50";
    let server = server(directory.path(), script);
    let file = directory.path().join("redis.json");
    let load = "--rate 0 --pipeline 4 --check file --quiet 1 --after 1 --timeline --server";
    let mut more: Vec<_> = load.split(' ').collect();
    more.extend([server.to_str().unwrap(), "--json"]);
    let output = asyncfork(&small(directory.path(), "1", &more))
        .arg(&file)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");

    let json: serde_json::Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    let save = &json["saves"][0];
    assert!(save["after"]["count"].as_u64().unwrap() > 0);
    let timeline = &save["timeline"];
    let before = timeline["before"].as_u64().unwrap() as usize;
    assert!((9..=15).contains(&before), "{before} tenths of a second");
    let bins = timeline["bins"].as_array().unwrap().iter();
    let counts: Vec<_> = bins.map(|bin| bin["count"].as_u64().unwrap()).collect();
    assert!(!counts[..before].contains(&0), "{counts:?}");
    let empty = counts[before..].iter().filter(|count| **count == 0).count();
    assert!((2..=6).contains(&empty), "{counts:?}");

    let report = run(&["bench", "report", file.to_str().unwrap()]);
    let text = stdout(&report);
    let least = text
        .lines()
        .skip_while(|line| !line.contains("least of 100 ms"));
    assert!(least.take(2).last().unwrap().contains("0 [0, 0]"), "{text}");
}

#[test]
fn more_snapshots_than_one_are_a_cycle() {
    let _alone = alone();
    if !has_redis() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("redis.json");
    let start = std::time::Instant::now();
    let output = asyncfork(&small(directory.path(), "2", &["--every", "1.5", "--json"]))
        .arg(&file)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(start.elapsed().as_secs_f64() > 3.0);
    let text = stdout(&run(&["bench", "report", file.to_str().unwrap()]));
    assert!(text.contains("SET in a whole cycle: p99"), "{text}");
}

/// The fork call is an interruption, which the server has timed as well; on a kernel that cannot
/// tell, that is the error.
#[test]
fn interruptions_have_causes() {
    let _alone = alone();
    if !has_redis() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("redis.json");
    let output = asyncfork(&small(directory.path(), "2", &["--trace", "--json"]))
        .arg(&file)
        .output()
        .unwrap();
    if !output.status.success() {
        let line = one_line(&output, 1);
        assert!(line.contains("tracing"), "{line}");
        eprintln!("SKIP: {line}");
        return;
    }
    let json: serde_json::Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    for save in json["saves"].as_array().unwrap() {
        let interruptions = &save["interruptions"];
        let causes = interruptions["causes"].as_object().unwrap();
        let total = |times: &serde_json::Value| times["total_ns"].as_u64().unwrap();
        let sum: u64 = causes.values().map(total).sum();
        assert_eq!(sum, total(interruptions), "{interruptions}");
        assert_eq!(causes["freeze"]["count"], 1, "{interruptions}");
        assert!(causes["copy_on_write"]["count"].as_u64().unwrap() > 10);
        let fork_ns = save["fork_us"].as_u64().unwrap() * 1000;
        let freeze = total(&causes["freeze"]);
        assert!(
            (fork_ns / 4..=fork_ns + 1000).contains(&freeze),
            "{freeze} of {fork_ns}"
        );
    }
}

/// What else a server forks for, by one with threads.
#[test]
fn bench_redis_of_other_snapshots() {
    let _alone = alone();
    if !has_redis() {
        return;
    }
    for snapshot in ["aof", "sync"] {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("redis.json");
        let options = ["--snapshot", snapshot, "--io-threads", "2", "--json"];
        let output = asyncfork(&small(directory.path(), "2", &options))
            .arg(&file)
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        assert!(
            stdout(&output).ends_with("exact: 2 of 2 snapshots equal the data at the fork\n"),
            "{output:?}"
        );
        let json: serde_json::Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
        assert_eq!(json["parameters"]["snapshot"], snapshot);
        assert_eq!(json["parameters"]["io_threads"], 2);
        for save in json["saves"].as_array().unwrap() {
            assert!(save["fork_us"].as_u64().unwrap() > 0, "{snapshot}");
            assert!(save["inside"]["count"].as_u64().unwrap() > 0, "{snapshot}");
            let cpu = |name: &str| save["cpu"][name].as_f64().unwrap();
            assert!(cpu("parent_user") + cpu("parent_system") > 0.0);
            assert!(cpu("child_user") + cpu("child_system") > 0.0);
        }
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }
    let directory = tempfile::tempdir().unwrap();
    let options = ["--snapshot", "sync", "--check", "server"];
    let line = one_line(&run(&small(directory.path(), "1", &options)), 1);
    assert!(line.contains("--check server takes"), "{line}");
}

#[test]
fn more_clients_than_keys() {
    let _alone = alone();
    if !has_redis() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let options = ["--value-size", "65536", "--clients", "1000"];
    let line = one_line(&run(&small(directory.path(), "1", &options)), 1);
    assert!(
        line.contains("--clients 1000 needs a key for each") && line.contains("make --mb larger"),
        "{line}"
    );
}

/// By the file: while the clients write, somebody else changes a value, deletes a key, adds one, or
/// something that cannot be compared.
#[test]
fn a_file_that_differs_is_found() {
    let _alone = alone();
    if !has_redis() {
        return;
    }
    for (snapshot, command, reason) in [
        (
            "rdb",
            "SETRANGE key:000000000003 500 x",
            "key 3 has a value that was never written to it",
        ),
        ("rdb", "DEL key:000000000003", "key 3 is missing"),
        ("rdb", "SET other x", " keys instead of "),
        ("rdb", "SADD set x", "the snapshot has more than strings"),
        ("aof", "DEL key:000000000003", "key 3 is missing"),
        ("sync", "DEL key:000000000003", "key 3 is missing"),
        ("sync", "SADD set x", "the snapshot has more than strings"),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let client = "redis-cli -s ${1%.conf}.sock";
        let script = format!(
            "[ \"$1\" != --version ] || exec redis-server --version; \
             (until {client} PING; do sleep 0.05; done; while {client} {command}; do sleep 0.05; done) \
             >/dev/null 2>&1 & exec redis-server \"$@\""
        );
        let server = server(directory.path(), &script);
        let options = [
            "--check",
            "file",
            "--snapshot",
            snapshot,
            "--server",
            server.to_str().unwrap(),
        ];
        let output = run(&small(directory.path(), "1", &options));
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let text = stdout(&output);
        assert!(
            text.contains("DIFFERS from the data at the fork: ") && text.contains(reason),
            "{text}"
        );
        assert!(text.ends_with("exact: 0 of 1 snapshots equal the data at the fork\n"));
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }
}

#[test]
fn a_snapshot_that_differs_is_found() {
    let _alone = alone();
    if !has_redis() {
        return;
    }
    // The second server loads nothing; the first save again; the save without one key.
    for (second, exact, reason) in [
        (
            "exec redis-server \"$@\" --dbfilename no.rdb",
            0,
            "key 0 is missing; and",
        ),
        (
            "cd ${1%/*} && cp -n dump.rdb keep.rdb; exec redis-server \"$@\" --dbfilename keep.rdb",
            1,
            "was answered",
        ),
        (
            "redis-server $1 --unixsocket ${1%.conf}.tmp >/dev/null & \
             until redis-cli -s ${1%.conf}.tmp DEL key:000000000003 2>&1 | grep -qx 1; do :; done; \
             redis-cli -s ${1%.conf}.tmp SHUTDOWN SAVE; wait; exec redis-server \"$@\"",
            0,
            "key 3 is missing",
        ),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let script =
            format!("case $1 in */second.conf) {second};; *) exec redis-server \"$@\";; esac");
        let server = server(directory.path(), &script);
        let output = run(&small(
            directory.path(),
            "2",
            &["--server", server.to_str().unwrap()],
        ));
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let text = stdout(&output);
        let differs = text
            .lines()
            .find(|line| line.contains("DIFFERS from the data at the fork: "));
        assert!(differs.unwrap().contains(reason), "{text}");
        let last = format!("exact: {exact} of 2 snapshots equal the data at the fork\n");
        assert!(text.ends_with(&last), "{text}");
    }
}

#[test]
fn interrupts_leave_nothing() {
    let _alone = alone();
    if !has_redis() {
        return;
    }
    for (signal, after) in [
        (libc::SIGINT, "Redis server"),
        (libc::SIGTERM, "save"),
        (libc::SIGINT, "keys of"),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let mut command = asyncfork(&small(directory.path(), "1000", &[]));
        let mut child: Child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap().contains(after)), "{after}");
        // SAFETY: the child has not been waited for.
        assert_eq!(unsafe { libc::kill(child.id() as libc::pid_t, signal) }, 0);
        lines.for_each(drop);
        let output = child.wait_with_output().unwrap();
        assert_eq!(one_line(&output, 128 + signal), "asyncfork: interrupted\n");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
        assert_eq!(processes_of(directory.path()), [""; 0]);
    }
}
