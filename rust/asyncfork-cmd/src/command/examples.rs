// SPDX-License-Identifier: GPL-2.0

//! Experiments as they would be if everything took exactly what a formula says. Nothing of this was
//! measured; it is for tests alone.

use serde_json::Value;
use serde_json::json;

use super::Mode;
use super::bench_calls;
use super::bench_suite;
use crate::machine::Machine;
use crate::report::Latencies;

pub const SERIES: &str = "0123456789ab";

/// Requests per second of the open loops, and what the server can do.
pub const RATE: f64 = 200.0;
pub const CAPACITY: f64 = 400.0;
/// Of a request without a snapshot, from due to answered
pub const REQUEST_NS: f64 = 3e6;

/// What a call takes.
pub fn call_ns(mode: Mode, mb: u64) -> f64 {
    let gib = mb as f64 / 1024.0;
    match mode {
        Mode::Default => 1e6 + 40e6 * gib,
        Mode::Async => 1e6 + 0.05e6 * gib,
    }
}

/// From the begin of a snapshot until it is complete.
pub fn window_ns(mb: u64) -> f64 {
    4e9 * mb as f64 / 1024.0
}

/// What each request that is due in a window takes: those behind the call wait for it, each less
/// than the one before.
pub fn inside_ns(mode: Mode, mb: u64) -> impl Iterator<Item = f64> {
    let catch_up = 1e9 / RATE - 1e9 / CAPACITY;
    let requests = (RATE * window_ns(mb) / 1e9) as u64;
    (0..requests).map(move |i| REQUEST_NS + (call_ns(mode, mb) - i as f64 * catch_up).max(0.0))
}

fn latencies(ns: impl IntoIterator<Item = f64>) -> Value {
    let mut latencies = Latencies::default();
    ns.into_iter().for_each(|ns| latencies.record(ns as u64));
    json!(latencies)
}

fn machine() -> Machine {
    Machine {
        series: Some(SERIES.into()),
        ..Machine::read(Some("test".into()))
    }
}

fn counters(range_push: u64) -> Value {
    json!({"range_copy": 100, "range_push": range_push})
}

/// Five repetitions in each mode.
fn repeated(one: impl Fn(Mode) -> Value) -> Vec<Value> {
    (0..5).flat_map(|_| Mode::BOTH.map(&one)).collect()
}

fn fork(pages: &str, mb: u64) -> Value {
    let run = |mode| {
        let (write_ns, pushes) = match mode {
            Mode::Default => (10_000, 0),
            Mode::Async => (80_000, 20),
        };
        json!({
            "mode": mode,
            "call_ns": call_ns(mode, mb) as u64,
            "child_ns": (call_ns(Mode::Default, mb) * 1.1) as u64,
            "write_call_ns": 1,
            "writes_ns": vec![write_ns; 20],
            "counters": counters(pushes),
        })
    };
    json!({
        "benchmark": "fork",
        "machine": machine(),
        "mb": mb,
        "pages": pages,
        "settle_ms": 0,
        "runs": repeated(run),
    })
}

fn spawn(mb: u64) -> Value {
    let run = |mode| {
        let ns = call_ns(mode, mb) as u64;
        let times = json!({"call_ns": ns, "gone_ns": 2 * ns, "ended_ns": 3 * ns});
        json!({"mode": mode, "exit": times, "exec": times, "counters": null})
    };
    json!({
        "benchmark": "spawn",
        "machine": machine(),
        "mb": mb,
        "settle_ms": 0,
        "runs": repeated(run),
    })
}

/// At 50 % of the capacity, or so many `percent` by name.
pub fn redis(mb: u64, percent: f64, clients: u16) -> Value {
    let save = |mode| {
        json!({
            "mode": mode,
            "fork_us": (call_ns(mode, mb) / 1e3) as u64,
            "reply_us": 1,
            "snapshot_seconds": window_ns(mb) / 1e9,
            "server_save_seconds": 1,
            "cow_bytes": if mode == Mode::Default { 0 } else { 1 << 22 },
            "inside": latencies(inside_ns(mode, mb)),
            "outside": latencies([REQUEST_NS]),
            "outside_seconds": 1.0,
            "cpu": {
                "parent_user": 0.25, "parent_system": 0.25,
                "child_user": 1.0, "child_system": 0.5, "kernel": 1.0,
            },
            "data_ranges": mb / 2,
            "counters": counters(if mode == Mode::Default { 0 } else { 50 }),
            "cuts": [],
            "difference": null,
            "check_seconds": 1.0,
        })
    };
    json!({
        "benchmark": "redis",
        "machine": machine(),
        "server": "none",
        "parameters": {
            "mb": mb,
            "saves": 5,
            "modes": Mode::BOTH,
            "quiet_seconds": 1.0,
            "compress": false,
            "clients": clients,
            "rate": RATE as u32,
            "rate_percent": percent,
            "capacity_per_second": CAPACITY,
            "value_size": 1000,
        },
        "keys": 1,
        "used_memory_bytes": mb << 20,
        "fill_seconds": 1.0,
        "saves": repeated(save),
        "summary": {},
    })
}

pub fn experiment(
    name: &str,
    points: impl IntoIterator<Item = (&'static str, Value)>,
) -> bench_suite::Record {
    let point = |(name, record)| bench_suite::Done {
        name: String::from(name),
        asked: bench_suite::Asked {
            arguments: vec![],
            guest: None,
            series: Some(SERIES.into()),
            config: None,
        },
        emulator: None,
        started: 0,
        seconds: 1.0,
        load_before: vec![],
        load_after: vec![],
        record,
    };
    bench_suite::Record {
        benchmark: bench_suite::Record::NAME.into(),
        experiment: name.into(),
        title: format!("example of {name}"),
        note: None,
        quick: false,
        missing: 0,
        points: points.into_iter().map(point).collect(),
    }
}

/// Experiment a.
pub fn calls() -> bench_suite::Record {
    let of = |pages, mb| fork(pages, mb);
    experiment(
        "a",
        [
            ("written-64", of("written", 64)),
            ("written-1024", of("written", 1024)),
            ("written-8192", of("written", 8192)),
            ("zero-1024", of("zero", 1024)),
            ("zero-65536", of("zero", 65536)),
        ],
    )
}

/// Experiment b.
pub fn requests() -> bench_suite::Record {
    experiment(
        "b",
        [
            ("1024-50", redis(1024, 50.0, 50)),
            ("4096-50", redis(4096, 50.0, 50)),
            ("8192-50", redis(8192, 50.0, 50)),
            ("1024-70", redis(1024, 70.0, 50)),
        ],
    )
}

/// Experiment g.
pub fn patterns() -> bench_suite::Record {
    experiment(
        "g",
        [
            ("uniform", redis(64, 50.0, 50)),
            ("zipfian", redis(64, 50.0, 50)),
        ],
    )
}

/// Experiment i.
pub fn rates() -> bench_suite::Record {
    experiment(
        "i",
        [
            ("rate-30", redis(64, 30.0, 50)),
            ("rate-50", redis(64, 50.0, 50)),
            ("rate-90", redis(64, 90.0, 50)),
            ("clients-10", redis(64, 50.0, 10)),
        ],
    )
}

/// With `more` of each save of a record.
fn with(mut record: Value, more: impl Fn(Mode) -> Value) -> Value {
    for save in record["saves"].as_array_mut().expect("saves") {
        let mode = serde_json::from_value(save["mode"].clone()).expect("a mode");
        let (save, more) = (save.as_object_mut(), more(mode));
        save.expect("an object")
            .extend(more.as_object().expect("an object").clone());
    }
    record
}

/// What an asynchronous fork's pushes take in a window.
pub const PUSHES_NS: u64 = 3 << 20;

/// A freeze, 50 pushes if it is asynchronous, and 4096 faults that copy a page.
fn interruptions(mode: Mode, mb: u64) -> Value {
    let times = |count: u64, total_ns: u64| {
        let ns = total_ns / count;
        let mut log2 = vec![0; ns.ilog2() as usize];
        log2.push(count);
        json!({
            "count": count,
            "total_ns": total_ns,
            "longest_ns": ns,
            "log2": log2,
            "times": latencies(vec![ns as f64; count as usize]),
        })
    };
    let (freeze, copies) = (call_ns(mode, mb) as u64, 4096 * 20_000);
    let mut causes = json!({
        "freeze": times(1, freeze),
        "copy_on_write": times(4096, copies),
    });
    let mut total = freeze + copies;
    if mode == Mode::Async {
        causes["push"] = times(50, PUSHES_NS);
        total += PUSHES_NS;
    }
    let longest = json!({"causes": ["freeze"], "ns": freeze});
    json!({"interruptions": {"causes": causes, "total_ns": total, "longest": longest}})
}

/// Experiment d.
pub fn causes() -> bench_suite::Record {
    let of = |mb| with(redis(mb, 50.0, 50), |mode| interruptions(mode, mb));
    experiment("d", [("1024", of(1024)), ("8192", of(8192))])
}

/// SETs in 100 ms of a steady state.
const STEADY: u64 = 1000;

/// A second before BGSAVE, one in which nothing is answered during the call, and the rest alike.
fn timeline(mode: Mode, mb: u64) -> Value {
    let frozen = |bin: u64| (call_ns(mode, mb) - bin as f64 * 1e8).clamp(0.0, 1e8) / 1e8;
    let bin = |bin: i64| {
        let share = u64::try_from(bin).map_or(0.0, frozen);
        let p99 = if share > 0.01 { 100_000 } else { 5_000 };
        json!({
            "count": (STEADY as f64 * (1.0 - share)).round() as u64,
            "p50_us": 1_000,
            "p99_us": p99,
            "max_us": p99,
        })
    };
    let bins: Vec<Value> = (-10..30).map(bin).collect();
    json!({"timeline": {"bin_ms": 100, "before": 10, "bins": bins}})
}

/// Experiment e.
pub fn throughputs() -> bench_suite::Record {
    let of = |mb| with(redis(mb, 100.0, 50), |mode| timeline(mode, mb));
    experiment("e", [("1024", of(1024)), ("8192", of(8192))])
}

/// Experiment f.
pub fn cycles() -> bench_suite::Record {
    let of = |mb| {
        let after = |_| json!({"after": latencies([REQUEST_NS])});
        let mut record = with(redis(mb, 50.0, 50), after);
        record["parameters"]["every_seconds"] = json!(10.0);
        record
    };
    experiment("f", [("1024-every-10", of(1024))])
}

fn children_at_once(mb: u64, at_once: u16) -> Value {
    let run = |mode| {
        json!({
            "mode": mode,
            "calls_ns": vec![call_ns(mode, mb) as u64; at_once.into()],
            "writes": latencies([1e4]),
            "pages": 1,
            "gone_ns": 1_000_000_000,
            "exact": at_once,
            "counters": null,
        })
    };
    json!({
        "benchmark": "snapshots",
        "machine": machine(),
        "mb": mb,
        "at_once": at_once,
        "settle_ms": 0,
        "runs": repeated(run),
    })
}

/// Experiment f2.
pub fn at_once() -> bench_suite::Record {
    let names = [("1024-1", 1), ("1024-4", 4), ("1024-16", 16)];
    experiment(
        "f2",
        names.map(|(name, at_once)| (name, children_at_once(1024, at_once))),
    )
}

/// Experiment k.
pub fn spawns() -> bench_suite::Record {
    experiment("k", [("256", spawn(256)), ("1024", spawn(1024))])
}

/// Experiment h.
pub fn huge_pages() -> bench_suite::Record {
    experiment(
        "h",
        [
            ("call-always", fork("written", 1024)),
            ("redis-always", redis(64, 50.0, 50)),
        ],
    )
}

/// Experiment j.
pub fn snapshots() -> bench_suite::Record {
    experiment(
        "j",
        [
            ("aof", redis(64, 50.0, 50)),
            ("valkey-threads", redis(64, 50.0, 50)),
        ],
    )
}

/// Experiment l.
pub fn system_calls() -> bench_suite::Record {
    let mut record = json!(bench_calls::tests::example());
    record["machine"] = json!(machine());
    experiment("l", [("64", record)])
}
