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
use super::Server;
use super::data::Data;
use super::data::Noise;
use super::history::Write;
use super::resp::Reply;
use crate::report::Latencies;

/// What the clients are doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Nothing; no command is on its way.
    Pause,
    /// Writing new values.
    Write,
    Stop,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    /// One per client
    done: Vec<Mutex<Done>>,
}

/// The SETs of one client that were answered.
#[derive(Default)]
struct Done {
    /// Since [`Load::take()`] was last called
    latencies: Latencies,
    /// Since [`Load::written()`] was last called
    writes: Vec<Write>,
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
    /// as it gets replies. Client c has the keys k with k mod `clients` = c to itself.
    ///
    /// # Errors
    ///
    /// That a client cannot connect.
    pub fn start(server: &Server, data: Data, clients: usize, rate: u32) -> Result<Self> {
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                phase: Phase::Pause,
                paused: 0,
                failure: None,
            }),
            changed: Condvar::new(),
            done: (0..clients).map(|_| Mutex::default()).collect(),
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
                sequence: 0,
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
    ///
    /// # Errors
    ///
    /// What a client has failed of, if one has.
    pub fn pause(&self) -> Result<()> {
        self.set(Phase::Pause)?;
        let mut state = self.shared.state.lock().unwrap();
        while state.paused < self.shared.done.len() {
            state = self.shared.changed.wait(state).unwrap();
        }
        state.failure()
    }

    /// Lets the clients go on with `phase`.
    ///
    /// # Errors
    ///
    /// What a client has failed of, if one has.
    pub fn set(&self, phase: Phase) -> Result<()> {
        let mut state = self.shared.state.lock().unwrap();
        state.phase = phase;
        self.shared.changed.notify_all();
        state.failure()
    }

    /// The latencies of the writes that have ended since this was last called.
    pub fn take(&self) -> Latencies {
        let mut all = Latencies::default();
        for done in &self.shared.done {
            all.add(&std::mem::take(&mut done.lock().unwrap().latencies));
        }
        all
    }

    /// By client, its writes since this was last called, in their order. All, if the clients are
    /// paused.
    pub fn written(&self) -> Vec<Vec<Write>> {
        let take = |done: &Mutex<Done>| std::mem::take(&mut done.lock().unwrap().writes);
        self.shared.done.iter().map(take).collect()
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
    /// How many values this client has written
    sequence: u64,
    shared: Arc<Shared>,
}

impl Writer {
    fn work(&mut self) -> Result<()> {
        // When the next write is due, and when the last one had its reply.
        let (mut due, mut ready) = (Instant::now(), Instant::now());
        loop {
            let (phase, paused) = self.shared.phase();
            if phase == Phase::Stop {
                return Ok(());
            }
            let key = self.next_key();
            self.sequence += 1;
            self.data.push_set(self.client.out(), key, self.sequence);
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
            let sent = Instant::now();
            self.client.send()?;
            let is_ok = self.client.reply().context("SET")? == Reply::Text(b"OK");
            ready = Instant::now();
            if !is_ok {
                bail!("SET was not answered with OK");
            }
            let mut done = self.shared.done[self.id].lock().unwrap();
            done.latencies.record((ready - start).as_nanos() as u64);
            done.writes.push(Write {
                key,
                sent,
                answered: ready,
            });
        }
    }

    /// One of this client's keys.
    fn next_key(&mut self) -> u64 {
        let clients = self.shared.done.len() as u64;
        let mine = (self.data.keys / clients).max(1);
        self.noise.next() % mine * clients + self.id as u64
    }

    /// Where in an interval this client starts, so that the clients do not all write at once.
    fn fraction(&self) -> f64 {
        self.id as f64 / self.shared.done.len() as f64
    }
}
