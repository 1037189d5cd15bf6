// SPDX-License-Identifier: GPL-2.0

//! A thread that serves its share of the clients.

use std::sync::Arc;
use std::time::Instant;

use anyhow::Result;

use super::Phase;
use super::Shared;
use super::connection::Connection;
use super::poll::Poll;
use super::traffic::Pace;
use super::traffic::Schedule;
use super::traffic::Traffic;
use crate::redis::history::Write;

pub struct Worker {
    pub thread: usize,
    pub traffic: Traffic,
    pub poll: Poll,
    /// Client `thread` + i * threads at i
    pub connections: Vec<Connection>,
    pub shared: Arc<Shared>,
}

/// What a worker does in a phase.
enum Course {
    /// Until nothing is under way, and then nothing
    Drain {
        reported: bool,
    },
    Closed,
    Open(Schedule),
}

impl Worker {
    /// Serves the clients until [`Phase::Stop`].
    ///
    /// # Errors
    ///
    /// Those of the connections.
    pub fn work(&mut self) -> Result<()> {
        // Requests are sent when they are due, not up to 50 us later.
        // SAFETY: it sets a number of this thread.
        unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1) };
        let mut course = Course::Drain { reported: false };
        let mut seen = 0;
        let mut ready = Vec::new();
        loop {
            while let Some(phase) = self.shared.phase(seen) {
                seen += 1;
                course = match phase {
                    Phase::Stop => return Ok(()),
                    Phase::Pause { at } => {
                        // Those that were due by then, however late this thread is.
                        if let Course::Open(schedule) = &mut course {
                            self.send_due(schedule, at)?;
                        }
                        Course::Drain { reported: false }
                    }
                    Phase::Run { pace, since } => self.begin(pace, since)?,
                };
            }
            let timeout = match &mut course {
                Course::Open(schedule) => {
                    self.send_due(schedule, Instant::now())?;
                    Some(schedule.due().saturating_duration_since(Instant::now()))
                }
                Course::Drain { reported } => {
                    if !*reported && self.connections.iter().all(Connection::is_idle) {
                        self.shared.paused(seen);
                        *reported = true;
                    }
                    None
                }
                Course::Closed => None,
            };
            self.poll.wait(timeout, &mut ready)?;
            for index in &ready {
                self.serve(*index, matches!(course, Course::Closed))?;
            }
        }
    }

    fn begin(&mut self, pace: Pace, since: Instant) -> Result<Course> {
        match pace {
            Pace::Open(per_second) => Ok(Course::Open(Schedule::new(
                since,
                per_second,
                &self.traffic,
                self.thread,
            ))),
            Pace::Closed => {
                for index in 0..self.connections.len() {
                    self.send(index, true)?;
                }
                Ok(Course::Closed)
            }
        }
    }

    /// Sends the requests that are due by `now`, each on its client's connection, or lets them wait
    /// there.
    fn send_due(&mut self, schedule: &mut Schedule, now: Instant) -> Result<()> {
        while let Some((client, due)) = schedule.next(now) {
            let index = client / self.traffic.threads;
            self.connections[index].add(due);
            self.send(index, false)?;
        }
        Ok(())
    }

    fn send(&mut self, index: usize, closed: bool) -> Result<()> {
        let connection = &mut self.connections[index];
        let was_blocked = connection.is_blocked();
        connection.send(closed)?;
        let is_blocked = connection.is_blocked();
        if was_blocked != is_blocked {
            self.poll
                .want_writable(&connection.stream, index, is_blocked)?;
        }
        Ok(())
    }

    /// Takes the replies that have arrived, and sends what that makes room for.
    fn serve(&mut self, index: usize, closed: bool) -> Result<()> {
        let mut done = self.shared.done[self.thread].lock().unwrap();
        self.connections[index].receive(|answer| {
            done.record(&answer);
            if answer.is_set {
                let write = Write::new(answer.key, answer.sent, answer.answered);
                done.writes[index].push(write);
            }
        })?;
        drop(done);
        self.send(index, closed)
    }
}
