// SPDX-License-Identifier: GPL-2.0

//! The window of one snapshot, as the model has it.
//!
//! The fork is a pause at its begin. Then each request takes the server's time, and more if it
//! writes to memory for the first time: a page is copied, and in the window of an asynchronous
//! fork, as long as the child has not got there, its page table as well. Nothing of the memory is
//! simulated: of N parts, t writes to places at random leave a share of exp(-t / N) untouched.

use rand::Rng;
use rand::SeedableRng;
use rand::rngs::SmallRng;
use rand_distr::Distribution;
use serde::Deserialize;
use serde::Serialize;

use super::queue;
use super::queue::Samples;
use crate::report::Latencies;

/// What there is to know of a window. Each is measured, or follows from what was measured at another
/// size.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Window {
    /// The call: the server stands still
    pub call_ns: f64,
    /// How long the child copies page tables, from the begin of the call; 0 if the call does that
    pub copy_ns: f64,
    /// From the begin of the call until the snapshot is complete
    pub window_ns: f64,
    /// Requests per second, evenly spaced
    pub rate: f64,
    /// What a request takes of the server without a snapshot
    pub service_ns: f64,
    /// How many times as long all takes in the window
    pub slowdown: f64,
    /// Pages that a request writes to
    pub touches: f64,
    /// Of the server's memory
    pub pages: f64,
    pub ranges: f64,
}

/// Times to draw from.
#[derive(Clone)]
pub struct Times {
    /// Of a request from when it is due to its answer, without a snapshot
    pub request: Samples,
    /// Of the parent's first write to a page
    pub page: Samples,
    /// Of one that copies a page table besides
    pub push: Samples,
}

/// What one window has come to.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    pub p50_ns: f64,
    pub p99_ns: f64,
    pub p999_ns: f64,
    pub max_ns: f64,
    pub requests: f64,
    /// Page tables that the server has copied
    pub pushes: f64,
    /// The share of the window for which the server was busy after the call; above 1 it falls behind
    pub busy: f64,
}

/// What requests have copied so far.
struct Copying<'a> {
    window: &'a Window,
    times: &'a Times,
    random: SmallRng,
    touched: f64,
    pushes: f64,
}

impl Window {
    /// The same `seed` always has the same outcome.
    pub fn simulate(&self, times: &Times, seed: u64) -> Outcome {
        let mut copying = Copying {
            window: self,
            times,
            random: SmallRng::seed_from_u64(seed),
            touched: 0.0,
            pushes: 0.0,
        };
        // Of their own, so that they are the same whatever is copied.
        let mut requests = SmallRng::seed_from_u64(!seed);
        let mut latencies = Latencies::default();
        let mut busy = 0.0;
        let service_ns = self.slowdown * self.service_ns;
        queue::serve(
            queue::evenly(1e9 / self.rate, self.window_ns),
            self.call_ns,
            |now| service_ns + copying.copy(now),
            |served| {
                let taken = served.ended - served.begun;
                busy += taken;
                let alone = self.slowdown * times.request.sample(&mut requests);
                let copied = taken - service_ns;
                latencies.record((served.waited() + alone + copied) as u64);
            },
        );
        Outcome {
            p50_ns: latencies.percentile(50.0) as f64,
            p99_ns: latencies.percentile(99.0) as f64,
            p999_ns: latencies.percentile(99.9) as f64,
            max_ns: latencies.max() as f64,
            requests: latencies.count() as f64,
            pushes: copying.pushes,
            busy: busy / (self.window_ns - self.call_ns),
        }
    }

    /// The slowdown with which the median request takes `p50_ns`: between a tenth and ten.
    pub fn slowed_to(&self, p50_ns: f64, times: &Times, seed: u64) -> Self {
        const STEPS: u32 = 24;
        let (mut low, mut high) = (0.1_f64, 10.0_f64);
        let slowed = |slowdown| Self { slowdown, ..*self };
        for _ in 0..STEPS {
            let middle = (low * high).sqrt();
            match slowed(middle).simulate(times, seed).p50_ns < p50_ns {
                true => low = middle,
                false => high = middle,
            }
        }
        slowed((low * high).sqrt())
    }
}

impl Copying<'_> {
    /// How long the copies take for which a request has to wait that is begun `now`.
    fn copy(&mut self, now: f64) -> f64 {
        let part = self.random.random_bool(self.window.touches.fract());
        let touches = self.window.touches as u32 + u32::from(part);
        (0..touches).map(|_| self.touch(now)).sum()
    }

    fn touch(&mut self, now: f64) -> f64 {
        let untouched = |parts: f64| (-self.touched / parts).exp();
        let ranges = untouched(self.window.ranges) * self.left_by_child(now);
        let pages = untouched(self.window.pages);
        self.touched += 1.0;
        if self.random.random_bool(ranges) {
            self.pushes += 1.0;
            self.times.push.sample(&mut self.random)
        } else if self.random.random_bool(pages) {
            self.times.page.sample(&mut self.random)
        } else {
            0.0
        }
    }

    /// The share of the ranges to which the child has not come.
    fn left_by_child(&self, now: f64) -> f64 {
        match self.window.copy_ns {
            copy_ns if now < copy_ns => 1.0 - now / copy_ns,
            _ => 0.0,
        }
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    fn always(ns: u64) -> Samples {
        let mut latencies = Latencies::default();
        latencies.record(ns);
        Samples::of(&latencies).unwrap()
    }

    fn times() -> Times {
        Times {
            request: always(200_000),
            page: always(10_000),
            push: always(80_000),
        }
    }

    const WINDOW: Window = Window {
        call_ns: 50e6,
        copy_ns: 0.0,
        window_ns: 10e9,
        rate: 2000.0,
        service_ns: 250_000.0,
        slowdown: 1.0,
        touches: 0.0,
        pages: 262_144.0,
        ranges: 512.0,
    };

    fn close(value: f64, expected: f64, tolerance: f64) {
        let error = (value / expected - 1.0).abs();
        assert!(error < tolerance, "{value} instead of {expected}");
    }

    #[test]
    fn the_call_is_the_longest_wait() {
        let outcome = WINDOW.simulate(&times(), 1);
        assert_eq!(outcome.requests, 20_000.0);
        close(outcome.max_ns, 50e6 + 200_000.0, 0.002);
        close(outcome.p50_ns, 200_000.0, 0.002);
        close(outcome.busy, 0.5, 0.01);
        // Requests are delayed for twice the call, as the server is busy for half of the time: 1 %
        // of the window. One per thousand of the requests waits for more than 9 tenths of that.
        close(outcome.p999_ns, 0.9 * 50e6 + 200_000.0, 0.01);
        assert!(outcome.p99_ns < 1e6, "{outcome:?}");
        assert_eq!(outcome, WINDOW.simulate(&times(), 1));
    }

    #[test]
    fn first_writes_cost_a_page_each() {
        let window = Window {
            touches: 1.5,
            pages: 10_000.0,
            ..WINDOW
        };
        let outcome = window.simulate(&times(), 1);
        assert_eq!(outcome.pushes, 0.0, "nothing is left after the call");
        let touched = 10_000.0 * (1.0 - (-1.5 * 20_000.0 / 10_000.0_f64).exp());
        let more = touched * 10_000.0 / (window.window_ns - window.call_ns);
        close(
            outcome.busy,
            WINDOW.simulate(&times(), 1).busy + more,
            0.002,
        );
    }

    #[test]
    fn pushes_end_with_the_child() {
        let window = Window {
            call_ns: 1e6,
            copy_ns: 100e6,
            touches: 1.0,
            ..WINDOW
        };
        let outcome = window.simulate(&times(), 1);
        // 200 writes in that time, each to a range that was left with half of a chance, and that
        // no other has written to with a chance that falls to exp(-200 / 512).
        assert!((70.0..110.0).contains(&outcome.pushes), "{outcome:?}");
        close(outcome.max_ns, 1e6 + 280_000.0, 0.1);
        let longer = Window {
            copy_ns: 10e9,
            ..window
        };
        let pushes = longer.simulate(&times(), 1).pushes;
        assert!(
            (300.0..512.0).contains(&pushes),
            "each range once: {pushes}"
        );
    }

    #[test]
    fn the_slowdown_is_found() {
        for slowdown in [0.5, 1.0, 1.9] {
            let window = Window {
                slowdown,
                touches: 1.0,
                ..WINDOW
            };
            let p50 = window.simulate(&times(), 1).p50_ns;
            let unknown = Window {
                slowdown: 1.0,
                ..window
            };
            let found = unknown.slowed_to(p50, &times(), 1);
            close(found.slowdown, slowdown, 0.02);
        }
        let overloaded = Window {
            slowdown: 2.5,
            ..WINDOW
        };
        let outcome = overloaded.simulate(&times(), 1);
        assert!(outcome.busy > 1.0, "{outcome:?}");
        let found = WINDOW.slowed_to(outcome.p50_ns, &times(), 1);
        close(found.slowdown, 2.5, 0.01);
    }
}
