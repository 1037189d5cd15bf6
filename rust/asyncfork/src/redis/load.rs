// SPDX-License-Identifier: GPL-2.0

//! Clients that write, each from its own thread and with keys of its own.

use std::sync::Arc;
use std::sync::Condvar;
use std::sync::Mutex;
use std::thread;
use std::thread::JoinHandle;
use std::time::Duration;
use std::time::Instant;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;

use super::Client;
use super::Info;
use super::Server;
use crate::report::Latencies;

/// SETs sent before their replies are read, while filling.
const BATCH: u64 = 256;

/// What the server holds: `keys` values, each made from its key and a sequence number.
#[derive(Clone, Copy)]
pub struct Data {
    pub keys: u64,
    value_size: usize,
}

impl Data {
    /// Writes values until the server uses `bytes` of memory. `progress` is told the bytes used so
    /// far.
    pub fn fill(
        client: &mut Client,
        bytes: u64,
        value_size: usize,
        mut progress: impl FnMut(u64),
    ) -> Result<Self> {
        let mut data = Self {
            keys: 0,
            value_size,
        };
        let mut value = vec![0; value_size];
        loop {
            let used = Info::read(client, "memory")?.number("used_memory")?;
            progress(used);
            if used >= bytes {
                return Ok(data);
            }
            for key in data.keys..data.keys + BATCH {
                fill_value(&mut value, key, 0);
                push_set(client, key, &value);
            }
            client.send()?;
            for _ in 0..BATCH {
                client.reply()?;
            }
            data.keys += BATCH;
        }
    }
}

fn push_set(client: &mut Client, key: u64, value: &[u8]) {
    client.push(
        [
            b"SET".as_slice(),
            format!("key:{key:012}").as_bytes(),
            value,
        ]
        .into_iter(),
    );
}

/// Fills `value` with noise that is a function of `key` and `sequence`, so that every page of it
/// differs from every other and from zero.
fn fill_value(value: &mut [u8], key: u64, sequence: u64) {
    let mut noise = Noise(key.wrapping_mul(0xd6e8_feb8_6659_fd93) ^ sequence);
    for chunk in value.chunks_mut(8) {
        chunk.copy_from_slice(&noise.next().to_le_bytes()[..chunk.len()]);
    }
}

/// splitmix64.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// What the clients are doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Nothing; no command is on its way.
    Pause,
    /// Writing new values.
    Write,
    /// Writing to one key the value that it already has: the server works, its data stay the same.
    Repeat,
    Stop,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    /// One per client: latencies since they were last taken
    latencies: Vec<Mutex<Latencies>>,
}

struct State {
    phase: Phase,
    /// Clients that are in [`Phase::Pause`], or have failed
    paused: usize,
    failure: Option<anyhow::Error>,
}

/// The running clients. Dropping it ends them.
pub struct Load {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl Load {
    /// Starts `clients` clients, paused. At `rate` writes a second together, or at 0 each as fast
    /// as it gets replies.
    pub fn start(server: &Server, data: Data, clients: usize, rate: u32) -> Result<Self> {
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                phase: Phase::Pause,
                paused: 0,
                failure: None,
            }),
            changed: Condvar::new(),
            latencies: (0..clients).map(|_| Mutex::default()).collect(),
        });
        let mut load = Self {
            shared,
            threads: Vec::new(),
        };
        for id in 0..clients {
            let mut writer = Writer {
                id,
                client: server.connect()?,
                data,
                interval: (rate > 0)
                    .then(|| Duration::from_secs_f64(clients as f64 / f64::from(rate))),
                noise: Noise(id as u64),
                last: (id as u64, 0),
                shared: load.shared.clone(),
            };
            load.threads.push(thread::spawn(move || {
                if let Err(error) = writer.work() {
                    writer.shared.fail(error);
                }
            }));
        }
        load.pause()?;
        Ok(load)
    }

    /// Has the clients stop writing, and waits until every reply has arrived.
    pub fn pause(&self) -> Result<()> {
        self.set(Phase::Pause)?;
        let mut state = self.shared.state.lock().unwrap();
        while state.paused < self.shared.latencies.len() {
            state = self.shared.changed.wait(state).unwrap();
        }
        state.failure()
    }

    /// Lets the clients go on with `phase`.
    pub fn set(&self, phase: Phase) -> Result<()> {
        let mut state = self.shared.state.lock().unwrap();
        state.phase = phase;
        self.shared.changed.notify_all();
        state.failure()
    }

    /// The latencies of the writes that have ended since this was last called.
    pub fn take(&self) -> Latencies {
        let mut all = Latencies::default();
        for latencies in &self.shared.latencies {
            all.add(&std::mem::take(&mut *latencies.lock().unwrap()));
        }
        all
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        let _ = self.set(Phase::Stop);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl State {
    fn failure(&mut self) -> Result<()> {
        match self.failure.take() {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }
}

impl Shared {
    /// The phase, once it is not [`Phase::Pause`], and whether there was a pause.
    fn phase(&self) -> (Phase, bool) {
        let mut state = self.state.lock().unwrap();
        if state.phase != Phase::Pause {
            return (state.phase, false);
        }
        state.paused += 1;
        self.changed.notify_all();
        while state.phase == Phase::Pause {
            state = self.changed.wait(state).unwrap();
        }
        state.paused -= 1;
        (state.phase, true)
    }

    fn fail(&self, error: anyhow::Error) {
        let mut state = self.state.lock().unwrap();
        state.paused += 1;
        state.failure.get_or_insert(error);
        self.changed.notify_all();
    }
}

struct Writer {
    id: usize,
    client: Client,
    data: Data,
    /// Time between two writes; none means at once
    interval: Option<Duration>,
    noise: Noise,
    /// The key and sequence number written last
    last: (u64, u64),
    shared: Arc<Shared>,
}

impl Writer {
    fn work(&mut self) -> Result<()> {
        let mut value = vec![0; self.data.value_size];
        // When the next write is due, and when the last one had its reply.
        let (mut due, mut ready) = (Instant::now(), Instant::now());
        loop {
            let (phase, paused) = self.shared.phase();
            match phase {
                Phase::Stop => return Ok(()),
                Phase::Write => self.next(),
                Phase::Repeat | Phase::Pause => {}
            }
            let (key, sequence) = self.last;
            fill_value(&mut value, key, sequence);
            push_set(&mut self.client, key, &value);
            let mut start = Instant::now();
            if let Some(interval) = self.interval {
                due = if paused {
                    start + interval.mul_f64(self.fraction())
                } else {
                    due + interval
                };
                thread::sleep(due.saturating_duration_since(start));
                // A write that had to wait for the one before it has waited since it was due. A
                // clock that woke this thread late is not the server's doing.
                start = if ready > due { due } else { Instant::now() };
            }
            self.client.send()?;
            if self.client.reply().context("SET")?.as_deref() != Some(b"OK") {
                bail!("SET was not answered with OK");
            }
            ready = Instant::now();
            let latency = (ready - start).as_nanos() as u64;
            self.shared.latencies[self.id]
                .lock()
                .unwrap()
                .record(latency);
        }
    }

    /// Goes on to another of this client's keys, with a value that it has not had.
    fn next(&mut self) {
        let clients = self.shared.latencies.len() as u64;
        let (key, sequence) = &mut self.last;
        let mine = (self.data.keys / clients).max(1);
        *key = self.noise.next() % mine * clients + self.id as u64;
        *sequence += 1;
    }

    /// Where in an interval this client starts, so that the clients do not all write at once.
    fn fraction(&self) -> f64 {
        self.id as f64 / self.shared.latencies.len() as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(key: u64, sequence: u64) -> Vec<u8> {
        let mut value = vec![0; 13];
        fill_value(&mut value, key, sequence);
        value
    }

    #[test]
    fn a_value_is_a_function_of_key_and_sequence() {
        assert_eq!(value(3, 7), value(3, 7));
        assert_ne!(value(3, 7), value(3, 8));
        assert_ne!(value(3, 7), value(4, 7));
        assert!(value(0, 0).iter().any(|byte| *byte != 0));
    }
}
