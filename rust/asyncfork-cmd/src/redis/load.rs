// SPDX-License-Identifier: GPL-2.0

//! Clients that write and read, each on a connection and with keys of its own; few threads serve
//! them all.
//!
//! In an open loop each request has the time at which it is due, and its latency is counted from
//! then: a server that stands still is charged for every request it delays, also for those that
//! could not even be sent.

mod connection;
mod poll;
#[cfg(test)]
mod tests;
mod traffic;
mod worker;

use std::iter;
use std::mem;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::Condvar;
use std::sync::Mutex;
use std::thread;
use std::thread::JoinHandle;
use std::time::Duration;
use std::time::Instant;

use anyhow::Result;
use anyhow::bail;

use super::data::Data;
use super::history::Write;
use crate::interrupt;
use crate::report::Latencies;
use connection::Answer;
use connection::Connection;
use poll::Poll;
use poll::Waker;
pub use traffic::Choice;
pub use traffic::Pace;
pub use traffic::Ratio;
pub use traffic::Start;
pub use traffic::Traffic;
use worker::Worker;

/// What the clients are doing.
#[derive(Clone, Copy, Debug)]
enum Phase {
    /// Nothing more than what was due by then.
    Pause {
        at: Instant,
    },
    Run {
        pace: Pace,
        since: Instant,
    },
    Stop,
}

/// The requests that were due in one period of time.
#[derive(Clone, Default)]
pub struct Period {
    pub sets: Latencies,
    pub gets: Latencies,
    /// How late the clients themselves were: from when a request was due and could be sent until it
    /// was sent
    pub lag: Latencies,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    /// One per thread
    done: Vec<Mutex<Done>>,
}

struct State {
    /// All there were; each thread goes through them in their order
    phases: Vec<Phase>,
    /// Threads that have nothing left to do in the last one
    paused: usize,
    failed: usize,
    failure: Option<anyhow::Error>,
}

/// What has become of the requests of one thread.
struct Done {
    /// Each from then to the next one
    periods: Vec<(Instant, Period)>,
    /// By client, since [`Load::written()`] was last called
    writes: Vec<Vec<Write>>,
}

/// The running clients. Dropping it ends them.
pub struct Load {
    shared: Arc<Shared>,
    clients: usize,
    threads: Vec<(JoinHandle<()>, Waker)>,
}

impl Load {
    /// Starts one client on each of `streams`, paused. Client c of C has the keys k with
    /// k mod C = c to itself, and there is one for it.
    ///
    /// # Errors
    ///
    /// Those of what it takes to wait for connections.
    pub fn start(streams: Vec<UnixStream>, data: Data, mut traffic: Traffic) -> Result<Self> {
        traffic.clients = streams.len();
        traffic.threads = traffic.threads.min(traffic.clients);
        let mut shares: Vec<_> = iter::repeat_with(Vec::new).take(traffic.threads).collect();
        for (id, stream) in streams.into_iter().enumerate() {
            let connection = Connection::new(stream, id, data, traffic)?;
            shares[id % traffic.threads].push(connection);
        }
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                phases: Vec::new(),
                paused: 0,
                failed: 0,
                failure: None,
            }),
            changed: Condvar::new(),
            done: shares.iter().map(|share| Done::new(share.len())).collect(),
        });
        let mut load = Self {
            shared,
            clients: traffic.clients,
            threads: Vec::new(),
        };
        for (thread, connections) in shares.into_iter().enumerate() {
            let poll = Poll::new()?;
            let waker = poll.waker();
            for (key, connection) in connections.iter().enumerate() {
                poll.add(&connection.stream, key)?;
            }
            let mut worker = Worker {
                thread,
                traffic,
                poll,
                connections,
                shared: load.shared.clone(),
            };
            let handle = thread::spawn(move || {
                if let Err(error) = worker.work() {
                    worker.shared.fail(error);
                }
            });
            load.threads.push((handle, waker));
        }
        load.pause()?;
        Ok(load)
    }

    /// Has the clients send requests from now on.
    ///
    /// # Errors
    ///
    /// What a client has failed of, if one has.
    pub fn run(&self, pace: Pace) -> Result<()> {
        self.set(Phase::Run {
            pace,
            since: Instant::now(),
        })
    }

    /// Ends that, and waits until each request that was due by then has been sent and answered.
    ///
    /// # Errors
    ///
    /// What a client has failed of, if one has.
    pub fn pause(&self) -> Result<()> {
        self.set(Phase::Pause { at: Instant::now() })?;
        let mut state = self.shared.state.lock().unwrap();
        while state.paused + state.failed < self.threads.len() {
            state = self.shared.changed.wait(state).unwrap();
        }
        state.failure()
    }

    /// Begins a period. A request belongs to the one in which its latency begins, whenever it ends.
    pub fn mark(&self) {
        let now = Instant::now();
        for done in &self.shared.done {
            done.lock().unwrap().periods.push((now, Period::default()));
        }
    }

    /// The periods since this was last called, in their order. They are complete if the clients are
    /// paused.
    pub fn take(&self) -> Vec<Period> {
        let mut all: Vec<Period> = Vec::new();
        for done in &self.shared.done {
            let periods = mem::take(&mut done.lock().unwrap().periods);
            all.resize_with(periods.len(), Period::default);
            for (sum, (_, period)) in all.iter_mut().zip(&periods) {
                sum.add(period);
            }
        }
        all
    }

    /// By client, its SETs since this was last called, in their order. All, if the clients are
    /// paused.
    pub fn written(&self) -> Vec<Vec<Write>> {
        let mut all: Vec<_> = iter::repeat_with(Vec::new).take(self.clients).collect();
        let threads = self.threads.len();
        for (thread, done) in self.shared.done.iter().enumerate() {
            let writes = &mut done.lock().unwrap().writes;
            for (client, writes) in (thread..).step_by(threads).zip(writes) {
                all[client] = mem::take(writes);
            }
        }
        all
    }

    /// Requests per second that the server answers to these clients in a closed loop: the mean over
    /// `time`, after a quarter of that.
    ///
    /// # Errors
    ///
    /// What a client has failed of, if one has, and an interrupt.
    pub fn capacity(&self, time: Duration) -> Result<f64> {
        self.run(Pace::Closed)?;
        interrupt::sleep(time / 4)?;
        let start = Instant::now();
        self.mark();
        interrupt::sleep(time)?;
        self.mark();
        let seconds = start.elapsed().as_secs_f64();
        self.pause()?;
        let count = self.take().first().map_or(0, Period::count);
        if count == 0 {
            bail!("the server has answered nothing while its capacity was measured");
        }
        Ok(count as f64 / seconds)
    }

    fn set(&self, phase: Phase) -> Result<()> {
        let mut state = self.shared.state.lock().unwrap();
        state.phases.push(phase);
        state.paused = 0;
        self.threads.iter().for_each(|(_, waker)| waker.wake());
        state.failure()
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        let _ = self.set(Phase::Stop);
        for (thread, _) in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Period {
    pub fn count(&self) -> u64 {
        self.sets.count() + self.gets.count()
    }

    fn add(&mut self, other: &Self) {
        self.sets.add(&other.sets);
        self.gets.add(&other.gets);
        self.lag.add(&other.lag);
    }
}

impl Done {
    fn new(clients: usize) -> Mutex<Self> {
        Mutex::new(Self {
            periods: Vec::new(),
            writes: iter::repeat_with(Vec::new).take(clients).collect(),
        })
    }

    fn record(&mut self, answer: &Answer) {
        let started = |(start, _): &&mut (Instant, Period)| *start <= answer.start;
        let Some((_, period)) = self.periods.iter_mut().rev().find(started) else {
            return;
        };
        let latencies = if answer.is_set {
            &mut period.sets
        } else {
            &mut period.gets
        };
        latencies.record((answer.answered - answer.start).as_nanos() as u64);
        period.lag.record(answer.lag.as_nanos() as u64);
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
    /// The phase after the first `seen`.
    fn phase(&self, seen: usize) -> Option<Phase> {
        self.state.lock().unwrap().phases.get(seen).copied()
    }

    /// A thread has nothing left to do in the last of the first `seen` phases, a pause.
    fn paused(&self, seen: usize) {
        let mut state = self.state.lock().unwrap();
        if state.phases.len() == seen {
            state.paused += 1;
            self.changed.notify_all();
        }
    }

    fn fail(&self, error: anyhow::Error) {
        let mut state = self.state.lock().unwrap();
        state.failed += 1;
        state.failure.get_or_insert(error);
        self.changed.notify_all();
    }
}
