// SPDX-License-Identifier: GPL-2.0

//! The load against a server that stands still for a known time.

use std::collections::HashMap;
use std::io::Read;
use std::io::Write as _;
use std::str;
use std::sync::RwLock;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use redis_protocol::resp2::decode::decode;
use redis_protocol::resp2::types::OwnedFrame;
use redis_protocol::resp2::types::Resp2Frame;

use super::*;

const VALUE_SIZE: usize = 100;

/// A server that knows SET and GET, with a thread per connection. Whoever holds `still` keeps all
/// of them from answering.
#[derive(Default)]
struct Fake {
    still: Arc<RwLock<()>>,
    threads: Vec<JoinHandle<()>>,
    /// Commands received, by connection
    commands: Vec<Arc<AtomicU64>>,
}

impl Fake {
    /// A connection to it.
    fn connect(&mut self) -> UnixStream {
        let (near, far) = UnixStream::pair().unwrap();
        let (still, count) = (self.still.clone(), Arc::new(AtomicU64::new(0)));
        self.commands.push(count.clone());
        let serve = move || serve(far, &still, &count);
        self.threads.push(thread::spawn(serve));
        near
    }

    /// Answers nothing for `time`.
    fn stand_still(&self, time: Duration) {
        let _still = self.still.write().unwrap();
        thread::sleep(time);
    }

    /// Waits for the ends of the connections, and returns how many commands there were.
    fn end(self) -> u64 {
        self.threads.into_iter().for_each(|t| t.join().unwrap());
        self.commands.iter().map(|c| c.load(Ordering::SeqCst)).sum()
    }
}

/// Answers commands until the connection ends. Each key has its first value.
fn serve(mut stream: UnixStream, still: &RwLock<()>, count: &AtomicU64) {
    let mut values = HashMap::new();
    let mut bytes = Vec::new();
    loop {
        let mut out = Vec::new();
        while let Some((words, length)) = words(&bytes) {
            bytes.drain(..length);
            count.fetch_add(1, Ordering::SeqCst);
            match <[_; 3]>::try_from(words) {
                Ok([_, key, value]) => {
                    values.insert(key, value);
                    out.extend_from_slice(b"+OK\r\n");
                }
                Err(words) => {
                    let value = values.get(&words[1]).cloned();
                    let value = value.unwrap_or_else(|| first_value(&words[1]));
                    out.extend_from_slice(format!("${}\r\n", value.len()).as_bytes());
                    out.extend_from_slice(&value);
                    out.extend_from_slice(b"\r\n");
                }
            }
        }
        if !out.is_empty() {
            drop(still.read().unwrap());
        }
        let mut chunk = [0; 16 << 10];
        let read = stream
            .write_all(&out)
            .and_then(|()| stream.read(&mut chunk));
        match read {
            Ok(0) | Err(_) => return,
            Ok(length) => bytes.extend_from_slice(&chunk[..length]),
        }
    }
}

/// The first command in `bytes`, and its length.
fn words(bytes: &[u8]) -> Option<(Vec<Vec<u8>>, usize)> {
    let (OwnedFrame::Array(words), length) = decode(bytes).unwrap()? else {
        panic!("not a command");
    };
    let words = words.iter().map(|word| word.as_bytes().unwrap().to_vec());
    Some((words.collect(), length))
}

fn first_value(key: &[u8]) -> Vec<u8> {
    let digits = str::from_utf8(&key[4..]).unwrap();
    let mut set = Vec::new();
    data().push_set(&mut set, digits.parse().unwrap(), 0);
    words(&set).unwrap().0.remove(2)
}

/// As few clients as make most requests of a pause wait for one before them.
fn traffic() -> Traffic {
    Traffic {
        clients: 2,
        threads: 1,
        choice: Choice::Uniform,
        ratio: Ratio::default(),
        pipeline: 1,
        latency_from: Start::Due,
    }
}

fn data() -> Data {
    with_keys(10_000, VALUE_SIZE)
}

fn with_keys(keys: u64, value_size: usize) -> Data {
    let mut data = Data::new(value_size);
    data.keys = keys;
    data
}

fn start(fake: &mut Fake, traffic: Traffic) -> Load {
    let streams = (0..traffic.clients).map(|_| fake.connect()).collect();
    Load::start(streams, data(), traffic).unwrap()
}

/// A second in which the server stands still, in four.
const PAUSE: Duration = Duration::from_secs(1);
const RATE: f64 = 500.0;

/// 500 requests per second, of which PAUSE delays 500 by a second to nothing, and how long all of
/// it took.
fn paused(traffic: Traffic) -> (Latencies, Duration) {
    let mut fake = Fake::default();
    let load = start(&mut fake, traffic);
    let begin = Instant::now();
    load.mark();
    load.run(Pace::Open(RATE)).unwrap();
    thread::sleep(Duration::from_millis(1500));
    fake.stand_still(PAUSE);
    thread::sleep(Duration::from_millis(1500));
    load.pause().unwrap();
    let period = load.take().remove(0);
    (period.sets, begin.elapsed())
}

fn ns(duration: Duration) -> u64 {
    duration.as_nanos() as u64
}

/// A quarter of the requests were due in the pause, which is charged to each of them: of those
/// 1/4 - x, the slowest x of all have waited for at least 1 - 4 x of it.
#[test]
fn a_pause_is_charged_to_every_request() {
    let (latencies, all) = paused(traffic());
    assert!(latencies.count() > 1500, "{}", latencies.count());
    assert!(latencies.percentile(99.0) > ns(PAUSE) * 8 / 10);
    assert!(latencies.percentile(95.0) > ns(PAUSE) * 6 / 10);
    assert!(latencies.percentile(90.0) > ns(PAUSE) * 4 / 10);
    assert!(latencies.max() > ns(PAUSE) * 95 / 100);
    assert!(latencies.max() < ns(all));
}

/// What coordinated omission is: the same pause, seen by one request of each client.
#[test]
fn a_pause_hides_from_times_of_sending() {
    let (latencies, _) = paused(Traffic {
        latency_from: Start::Sent,
        ..traffic()
    });
    assert!(latencies.count() > 1500, "{}", latencies.count());
    assert!(latencies.percentile(99.0) < ns(PAUSE) * 4 / 10);
    assert!(latencies.max() > ns(PAUSE) * 95 / 100, "there was one");
}

/// A request counts where it was due, also if it was answered later.
#[test]
fn a_period_has_what_was_due_in_it() {
    let mut fake = Fake::default();
    let load = start(&mut fake, traffic());
    load.run(Pace::Open(RATE)).unwrap();
    load.mark();
    thread::sleep(Duration::from_millis(200));
    {
        let _still = fake.still.write().unwrap();
        thread::sleep(PAUSE);
        load.mark();
    }
    thread::sleep(Duration::from_millis(200));
    load.pause().unwrap();
    let periods = load.take();
    assert_eq!(periods.len(), 2);
    assert!(periods[0].sets.count() > 500, "those of the pause as well");
    assert!(periods[0].sets.max() > ns(PAUSE) * 95 / 100);
    assert!(periods[1].sets.max() < ns(PAUSE) * 8 / 10);
}

/// Nothing that was due before a pause of the load is left out, however far the server, or a thread
/// of the load, is behind.
#[test]
fn pausing_waits_for_what_was_due() {
    let mut fake = Fake::default();
    let load = start(&mut fake, traffic());
    load.mark();
    load.run(Pace::Open(RATE)).unwrap();
    let begin = Instant::now();
    let least = {
        let _still = fake.still.write().unwrap();
        thread::sleep(PAUSE);
        (begin.elapsed().as_secs_f64() * RATE) as u64
    };
    load.pause().unwrap();
    let count = load.take().remove(0).count();
    assert!(count >= least, "{count} of {least}");
    let writes: usize = load.written().iter().map(Vec::len).sum();
    assert_eq!(writes as u64, count);
    drop(load);
    assert_eq!(fake.end(), count);
}

/// Many clients on few threads, each with its share, in order, on its own keys.
#[test]
fn five_hundred_clients() {
    let mut fake = Fake::default();
    let mut traffic = Traffic {
        clients: 500,
        threads: 3,
        ..traffic()
    };
    for choice in [Choice::Uniform, Choice::Zipfian, Choice::Gaussian] {
        traffic.choice = choice;
        let load = start(&mut fake, traffic);
        load.mark();
        load.run(Pace::Open(5000.0)).unwrap();
        thread::sleep(Duration::from_millis(500));
        load.pause().unwrap();
        let count = load.take().remove(0).count();
        assert!(count >= 2500, "{count}");
        let written = load.written();
        assert_eq!(written.len(), 500);
        let counts = written.iter().map(Vec::len);
        let (least, most) = (counts.clone().min().unwrap(), counts.max().unwrap());
        assert!(least >= 4 && most - least <= 2, "{least} to {most}");
        for (client, writes) in written.iter().enumerate() {
            assert!(
                writes
                    .iter()
                    .all(|write| write.key as usize % 500 == client)
            );
            assert!(writes.is_sorted_by_key(|write| write.sent));
        }
    }
}

/// In a closed loop each client has as many requests under way as it may, and no more.
#[test]
fn pipelines() {
    let mut fake = Fake::default();
    let load = start(
        &mut fake,
        Traffic {
            pipeline: 100,
            ..traffic()
        },
    );
    let still = fake.still.clone();
    let held = still.write().unwrap();
    load.mark();
    load.run(Pace::Closed).unwrap();
    while fake.commands.iter().any(|c| c.load(Ordering::SeqCst) == 0) {
        thread::sleep(Duration::from_millis(1));
    }
    thread::scope(|scope| {
        let pause = scope.spawn(|| load.pause());
        thread::sleep(Duration::from_millis(100));
        drop(held);
        pause.join().unwrap().unwrap();
    });
    assert_eq!(load.take().remove(0).count(), 200);
    drop(load);
    assert_eq!(fake.end(), 200);
}

#[test]
fn sets_and_gets() {
    let mut fake = Fake::default();
    let load = start(
        &mut fake,
        Traffic {
            ratio: "1:10".parse().unwrap(),
            pipeline: 10,
            ..traffic()
        },
    );
    let capacity = load.capacity(Duration::from_millis(200)).unwrap();
    load.mark();
    load.run(Pace::Open(10_000.0)).unwrap();
    thread::sleep(Duration::from_millis(500));
    load.pause().unwrap();
    let period = load.take().remove(0);
    let (sets, gets) = (period.sets.count(), period.gets.count());
    assert!(capacity > 100.0, "{capacity}");
    assert!(sets + gets > 4000, "{sets}, {gets}");
    assert!((7..14).contains(&(gets / sets)), "{sets}, {gets}");
    assert_eq!(period.lag.count(), sets + gets);
}

/// Values larger than what a socket takes at once.
#[test]
fn large_values() {
    let mut fake = Fake::default();
    let data = with_keys(100, 1 << 20);
    let streams = vec![fake.connect(), fake.connect()];
    let load = Load::start(
        streams,
        data,
        Traffic {
            pipeline: 10,
            ..traffic()
        },
    )
    .unwrap();
    load.mark();
    load.run(Pace::Open(1000.0)).unwrap();
    thread::sleep(Duration::from_millis(50));
    load.pause().unwrap();
    let count = load.take().remove(0).count();
    drop(load);
    assert!(count >= 50);
    assert_eq!(fake.end(), count);
}

/// One client's failure is the load's, and does not keep anything waiting.
#[test]
fn failures() {
    let wrong = |reply: &'static [u8], ratio: &str| {
        let (near, mut far) = UnixStream::pair().unwrap();
        let mut fake = Fake::default();
        let traffic = Traffic {
            ratio: ratio.parse().unwrap(),
            ..traffic()
        };
        let load = Load::start(vec![fake.connect(), near], data(), traffic).unwrap();
        let server = thread::spawn(move || {
            let _ = far.read(&mut [0; 1000]);
            let _ = far.write_all(reply);
        });
        load.run(Pace::Open(1000.0)).unwrap();
        server.join().unwrap();
        let error = iter::repeat_with(|| load.pause()).find_map(Result::err);
        error.unwrap().to_string()
    };
    assert!(wrong(b"-OOM no\r\n", "1:0").ends_with("was answered with OOM no"));
    assert!(wrong(b"$-1\r\n", "1:0").ends_with("something other than OK"));
    assert!(wrong(b"+OK\r\n+OK\r\n", "1:0").contains("what it was not asked"));
    assert!(wrong(b"%\r\n", "1:0").contains("does not know: %"));
    assert!(wrong(b"", "1:0").contains("closed the connection"));
    assert!(wrong(b"$-1\r\n", "1:1000").ends_with("was answered with no value"));
    assert!(wrong(b"$3\r\nabc\r\n", "1:1000").ends_with("never written to it"));
}
