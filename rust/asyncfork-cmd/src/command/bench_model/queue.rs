// SPDX-License-Identifier: GPL-2.0

//! A queue in front of one server, and times that were measured to draw from.

use anyhow::Context;
use anyhow::Result;
use rand::Rng;
use rand_distr::Distribution;
use rand_distr::weighted::WeightedAliasIndex;

use crate::report::Latencies;

/// A request that was served. Times in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Served {
    pub due: f64,
    pub begun: f64,
    pub ended: f64,
}

impl Served {
    /// How long it was due and not served.
    pub fn waited(self) -> f64 {
        self.begun - self.due
    }
}

/// Serves `arrivals`, which are in order of time, one by one as they came. The server stands still
/// from 0 until `pause`, then takes `service(now)` for each. Times in nanoseconds.
pub fn serve(
    arrivals: impl IntoIterator<Item = f64>,
    pause: f64,
    mut service: impl FnMut(f64) -> f64,
    mut served: impl FnMut(Served),
) {
    let mut free = pause;
    for due in arrivals {
        let begun = free.max(due);
        free = begun + service(begun);
        served(Served {
            due,
            begun,
            ended: free,
        });
    }
}

/// The arrivals of an open loop: one each `interval`, from 0 until `end`. Times in nanoseconds.
pub fn evenly(interval: f64, end: f64) -> impl Iterator<Item = f64> {
    let count = (end / interval).ceil() as u64;
    (0..count).map(move |number| number as f64 * interval)
}

/// Times that were measured: each is drawn as often as it was seen.
#[derive(Clone)]
pub struct Samples {
    ns: Vec<u64>,
    weights: WeightedAliasIndex<f64>,
}

impl Samples {
    /// # Errors
    ///
    /// That there is none.
    pub fn of(latencies: &Latencies) -> Result<Self> {
        let (ns, counts): (Vec<_>, Vec<_>) = latencies.buckets().unzip();
        let weights = counts.into_iter().map(|count| count as f64).collect();
        let weights = WeightedAliasIndex::new(weights).context("nothing was measured")?;
        Ok(Self { ns, weights })
    }
}

impl Distribution<f64> for Samples {
    fn sample<R: Rng + ?Sized>(&self, random: &mut R) -> f64 {
        self.ns[self.weights.sample(random)] as f64
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::SmallRng;
    use rand_distr::Exp;

    use super::*;

    /// Mean time between arrivals and mean time of service: the server is busy for 70 %.
    const INTERVAL: f64 = 100_000.0;
    const SERVICE: f64 = 70_000.0;
    const REQUESTS: usize = 1_000_000;

    fn random_arrivals(random: &mut SmallRng) -> Vec<f64> {
        let gap = Exp::new(1.0 / INTERVAL).unwrap();
        let mut now = 0.0;
        (0..REQUESTS)
            .map(|_| {
                now += gap.sample(random);
                now
            })
            .collect()
    }

    fn close(value: f64, expected: f64, tolerance: f64) {
        let error = (value / expected - 1.0).abs();
        assert!(error < tolerance, "{value} instead of {expected}");
    }

    /// The time in a queue of random arrivals and random service (M/M/1) is exponential with the
    /// difference of the rates.
    #[test]
    fn random_service_meets_the_closed_form() {
        let mut random = SmallRng::seed_from_u64(1);
        let arrivals = random_arrivals(&mut random);
        let service = Exp::new(1.0 / SERVICE).unwrap();
        let mut latencies = Latencies::default();
        let mut sum = 0.0;
        serve(
            arrivals,
            0.0,
            |_| service.sample(&mut random),
            |served| {
                let ns = served.ended - served.due;
                sum += ns;
                latencies.record(ns as u64);
            },
        );
        let mean = 1.0 / (1.0 / SERVICE - 1.0 / INTERVAL);
        close(sum / REQUESTS as f64, mean, 0.03);
        for (percent, tail) in [(50.0, 2.0_f64), (99.0, 100.0), (99.9, 1000.0)] {
            let expected = mean * tail.ln();
            close(latencies.percentile(percent) as f64, expected, 0.08);
        }
    }

    /// That before a service which always takes the same (M/D/1) is half as long as before a random
    /// one, by Pollaczek and Khinchine.
    #[test]
    fn even_service_meets_the_closed_form() {
        let arrivals = random_arrivals(&mut SmallRng::seed_from_u64(2));
        let mut waited = 0.0;
        serve(
            arrivals,
            0.0,
            |_| SERVICE,
            |served| waited += served.waited(),
        );
        let load = SERVICE / INTERVAL;
        let expected = load * SERVICE / (2.0 * (1.0 - load));
        close(waited / REQUESTS as f64, expected, 0.03);
    }

    /// Behind a pause each request waits for less than the one before, by what the server is faster
    /// than they come.
    #[test]
    fn a_pause_is_charged_to_each_request_it_delays() {
        const PAUSE: f64 = 5_000_000.0;
        let mut latencies = Vec::new();
        let arrivals = evenly(INTERVAL, 100.0 * PAUSE);
        serve(
            arrivals,
            PAUSE,
            |_| SERVICE,
            |served| latencies.push(served.ended - served.due),
        );
        assert_eq!(latencies.len(), (100.0 * PAUSE / INTERVAL) as usize);
        let expected =
            |number: usize| SERVICE + (PAUSE - number as f64 * (INTERVAL - SERVICE)).max(0.0);
        for (number, ns) in latencies.iter().enumerate() {
            assert!((ns - expected(number)).abs() < 1.0, "{number}: {ns}");
        }
        let longest = latencies.iter().copied().fold(0.0, f64::max);
        assert_eq!(longest, PAUSE + SERVICE);
    }

    #[test]
    fn arrivals_end() {
        assert_eq!(
            evenly(10.0, 30.0).collect::<Vec<_>>(),
            [0.0, 10.0, 20.0],
            "what is due at the end is not in the window"
        );
        assert_eq!(evenly(10.0, 31.0).count(), 4);
    }

    #[test]
    fn samples_are_drawn_as_often_as_seen() {
        let mut latencies = Latencies::default();
        [1000, 1000, 1000, 9000]
            .iter()
            .for_each(|ns| latencies.record(*ns));
        let samples = Samples::of(&latencies).unwrap();
        let mut random = SmallRng::seed_from_u64(3);
        let draws: Vec<f64> = (0..10_000).map(|_| samples.sample(&mut random)).collect();
        let short = draws.iter().filter(|ns| **ns < 2000.0).count();
        close(short as f64, 7500.0, 0.05);
        assert!(draws.iter().all(|ns| *ns < 2000.0 || *ns > 8900.0));
        assert!(Samples::of(&Latencies::default()).is_err());
    }
}
