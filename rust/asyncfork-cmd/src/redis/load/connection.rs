// SPDX-License-Identifier: GPL-2.0

//! One client: a connection that never blocks, the requests on it, and what they must be answered.

use std::collections::VecDeque;
use std::io;
use std::io::Write as _;
use std::os::unix::net::UnixStream;
use std::time::Duration;
use std::time::Instant;

use anyhow::Result;
use anyhow::bail;
use rand::SeedableRng;
use rand::rngs::SmallRng;

use super::traffic::Chooser;
use super::traffic::Start;
use super::traffic::Traffic;
use crate::redis::data::Data;
use crate::redis::data::Value;
use crate::redis::resp::Input;
use crate::redis::resp::Reply;

/// Client c of C has the keys k with k mod C = c to itself.
pub struct Connection {
    pub stream: UnixStream,
    id: usize,
    traffic: Traffic,
    data: Data,
    chooser: Chooser,
    random: SmallRng,
    /// How many values this client has written
    sequence: u32,
    /// When requests were due that are not sent yet
    waiting: VecDeque<Instant>,
    /// In the order in which they were sent
    under_way: VecDeque<Request>,
    /// When the last reply arrived
    replied: Instant,
    input: Input,
    out: Vec<u8>,
    /// How much of that has been written
    written: usize,
}

/// A request without its reply.
struct Request {
    is_set: bool,
    key: u32,
    start: Instant,
    sent: Instant,
    lag: Duration,
}

/// A request that was answered.
pub struct Answer {
    pub is_set: bool,
    pub key: u32,
    /// When its latency begins
    pub start: Instant,
    pub sent: Instant,
    pub answered: Instant,
    /// From when it was due and could be sent until it was sent
    pub lag: Duration,
}

impl Connection {
    /// # Errors
    ///
    /// Those of `fcntl()`.
    pub fn new(stream: UnixStream, id: usize, data: Data, traffic: Traffic) -> Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Self {
            stream,
            id,
            traffic,
            data,
            chooser: Chooser::new(traffic.choice, data.keys / traffic.clients as u64),
            random: SmallRng::seed_from_u64(id as u64),
            sequence: 0,
            waiting: VecDeque::new(),
            under_way: VecDeque::new(),
            replied: Instant::now(),
            input: Input::default(),
            out: Vec::new(),
            written: 0,
        })
    }

    /// Whether all requests that were due have been sent and answered.
    pub fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.under_way.is_empty()
    }

    /// Whether there is more to write than the socket has taken.
    pub fn is_blocked(&self) -> bool {
        self.written < self.out.len()
    }

    /// Adds a request that was due at `due`.
    pub fn add(&mut self, due: Instant) {
        self.waiting.push_back(due);
    }

    /// Sends what is due and may be sent, which is always something if the loop is `closed`.
    ///
    /// # Errors
    ///
    /// Those of `write()`, and that this client has run out of numbers.
    pub fn send(&mut self, closed: bool) -> Result<()> {
        while self.under_way.len() < self.traffic.pipeline {
            let due = match self.waiting.pop_front() {
                Some(due) => due,
                None if closed => Instant::now(),
                None => break,
            };
            self.push(due)?;
        }
        while self.is_blocked() {
            match self.stream.write(&self.out[self.written..]) {
                Ok(count) => self.written += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.out.clear();
        self.written = 0;
        Ok(())
    }

    fn push(&mut self, due: Instant) -> Result<()> {
        let clients = self.traffic.clients as u64;
        let key = self.chooser.next(&mut self.random) * clients + self.id as u64;
        let sent = Instant::now();
        let is_set = self.traffic.ratio.is_set(&mut self.random);
        if is_set {
            let Some(next) = self.sequence.checked_add(1) else {
                bail!("client {} has no number for another SET", self.id);
            };
            self.sequence = next;
            self.data.push_set(&mut self.out, key, self.sequence);
        } else {
            self.data.push_get(&mut self.out, key);
        }
        self.under_way.push_back(Request {
            is_set,
            key: key as u32,
            start: match self.traffic.latency_from {
                Start::Due => due,
                Start::Sent => sent,
            },
            sent,
            lag: sent - due.max(self.replied).min(sent),
        });
        Ok(())
    }

    /// Reads once and hands the requests that are answered now to `done`, in their order.
    ///
    /// # Errors
    ///
    /// Those of `read()`, that the connection has ended, and a reply that is not what it must be.
    pub fn receive(&mut self, mut done: impl FnMut(Answer)) -> Result<()> {
        match self.input.fill(&mut self.stream) {
            Ok(0) => bail!("the server closed the connection"),
            Ok(_) => {}
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                ) =>
            {
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        }
        let answered = Instant::now();
        while let Some(frame) = self.input.decode()? {
            let Some(request) = self.under_way.pop_front() else {
                bail!("the server has answered what it was not asked");
            };
            self.check(&request, &self.input.reply(&frame))?;
            self.replied = answered;
            done(Answer {
                is_set: request.is_set,
                key: request.key,
                start: request.start,
                sent: request.sent,
                answered,
                lag: request.lag,
            });
        }
        Ok(())
    }

    /// A SET must be answered with OK, a GET with a value that this client can have written.
    fn check(&self, request: &Request, reply: &Reply) -> Result<()> {
        let what = match (request.is_set, reply) {
            (true, Reply::Text(b"OK")) => return Ok(()),
            (false, Reply::Text(bytes)) => match self.data.identify(request.key.into(), bytes) {
                Value::Whole(number) if number <= self.sequence => return Ok(()),
                _ => "a value that was never written to it".into(),
            },
            (_, Reply::Error(text)) => String::from_utf8_lossy(text),
            (true, _) => "something other than OK".into(),
            (false, _) => "no value".into(),
        };
        let command = if request.is_set { "SET" } else { "GET" };
        bail!("{command} of key {} was answered with {what}", request.key)
    }
}
