// SPDX-License-Identifier: GPL-2.0

//! Waiting for many connections at once, to the nanosecond, or until another thread calls.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use rustix::event::EventfdFlags;
use rustix::event::Timespec;
use rustix::event::epoll;
use rustix::event::eventfd;
use rustix::io::Errno;

/// The key of the [`Waker`].
const WAKER: u64 = u64::MAX;
/// Events taken at once.
const EVENTS: usize = 256;

pub struct Poll {
    epoll: OwnedFd,
    waker: Waker,
}

/// Ends the [`Poll::wait()`] under way, or else the next one.
#[derive(Clone)]
pub struct Waker(Arc<OwnedFd>);

impl Waker {
    pub fn wake(&self) {
        // It fails only if 2^64 - 2 calls have not been seen yet.
        let _ = rustix::io::write(&*self.0, &1u64.to_ne_bytes());
    }
}

impl Poll {
    /// # Errors
    ///
    /// Those of `epoll_create()` and `eventfd()`.
    pub fn new() -> io::Result<Self> {
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        let poll = Self {
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            waker: Waker(Arc::new(eventfd(0, flags)?)),
        };
        let key = epoll::EventData::new_u64(WAKER);
        epoll::add(&poll.epoll, &*poll.waker.0, key, epoll::EventFlags::IN)?;
        Ok(poll)
    }

    pub fn waker(&self) -> Waker {
        self.waker.clone()
    }

    /// Has [`wait()`](Self::wait) return `key` when `source` can be read.
    ///
    /// # Errors
    ///
    /// Those of `epoll_ctl()`.
    pub fn add(&self, source: impl AsFd, key: usize) -> io::Result<()> {
        let data = epoll::EventData::new_u64(key as u64);
        Ok(epoll::add(
            &self.epoll,
            source,
            data,
            epoll::EventFlags::IN,
        )?)
    }

    /// Says whether it is to return also when `source` can be written.
    ///
    /// # Errors
    ///
    /// Those of `epoll_ctl()`.
    pub fn want_writable(&self, source: impl AsFd, key: usize, writable: bool) -> io::Result<()> {
        let mut flags = epoll::EventFlags::IN;
        flags.set(epoll::EventFlags::OUT, writable);
        let data = epoll::EventData::new_u64(key as u64);
        Ok(epoll::modify(&self.epoll, source, data, flags)?)
    }

    /// Waits, without end if there is no `timeout`, and puts the keys of the sources that are ready
    /// into `ready`.
    ///
    /// # Errors
    ///
    /// Those of `epoll_pwait2()`.
    pub fn wait(&self, timeout: Option<Duration>, ready: &mut Vec<usize>) -> io::Result<()> {
        ready.clear();
        let timeout = timeout.map(|duration| Timespec {
            tv_sec: duration.as_secs() as i64,
            tv_nsec: duration.subsec_nanos().into(),
        });
        let mut events = [const { MaybeUninit::<epoll::Event>::uninit() }; EVENTS];
        let events = match epoll::wait(&self.epoll, &mut events, timeout.as_ref()) {
            Ok((events, _)) => events,
            Err(Errno::INTR) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        for event in events {
            // Not a reference: the field may be unaligned.
            match { event.data }.u64() {
                WAKER => {
                    let _ = rustix::io::read(&*self.waker.0, &mut [0; 8]);
                }
                key => ready.push(key as usize),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::net::UnixStream;
    use std::time::Instant;

    use super::*;

    #[test]
    fn what_is_ready() {
        let poll = Poll::new().unwrap();
        let mut pairs: Vec<_> = (0..3).map(|_| UnixStream::pair().unwrap()).collect();
        for (key, (near, _)) in pairs.iter().enumerate() {
            poll.add(near, key).unwrap();
        }
        let mut ready = Vec::new();
        let mut wait = |poll: &Poll| {
            poll.wait(Some(Duration::from_millis(1)), &mut ready)
                .unwrap();
            ready.sort_unstable();
            ready.clone()
        };
        assert_eq!(wait(&poll), [0; 0]);
        pairs[1].1.write_all(b"x").unwrap();
        assert_eq!(wait(&poll), [1]);
        poll.want_writable(&pairs[2].0, 2, true).unwrap();
        assert_eq!(wait(&poll), [1, 2]);
        poll.want_writable(&pairs[2].0, 2, false).unwrap();
        assert_eq!(wait(&poll), [1]);
    }

    #[test]
    fn waits_until_woken_or_long_enough() {
        let poll = Poll::new().unwrap();
        let mut ready = Vec::new();
        poll.waker().wake();
        poll.wait(None, &mut ready).unwrap();
        let start = Instant::now();
        let timeout = Duration::from_micros(1500);
        poll.wait(Some(timeout), &mut ready).unwrap();
        assert!(start.elapsed() >= timeout, "one call wakes once");
    }
}
