// SPDX-License-Identifier: GPL-2.0

//! What the clients send, and when.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;
use std::time::Instant;

use clap::ValueEnum;
use rand::Rng;
use rand::rngs::SmallRng;
use rand_distr::Distribution;
use rand_distr::Normal;
use rand_distr::Zipf;
use serde::Deserialize;
use serde::Serialize;

/// Exponent of the Zipfian distribution: that of YCSB.
const SKEW: f64 = 0.99;
/// The Gaussian distribution's standard deviation, as a part of the keys: all but 0.3 % of what it
/// gives are keys.
const SIGMA: f64 = 1.0 / 6.0;

/// The clients of a [`Load`](super::Load).
#[derive(Clone, Copy, Debug)]
pub struct Traffic {
    pub clients: usize,
    /// Threads that serve them
    pub threads: usize,
    pub choice: Choice,
    pub ratio: Ratio,
    /// Requests a client sends without having the replies to those before
    pub pipeline: usize,
    pub latency_from: Start,
}

/// Which of its keys a client takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Choice {
    /// Each as often as any other
    #[default]
    Uniform,
    /// The first most often, key number n with a weight of 1 / n^0.99
    Zipfian,
    /// Those in the middle most often, with a standard deviation of a sixth of the keys
    Gaussian,
}

/// When a request's latency begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Start {
    /// When it was to be sent, even if its client still waited for a reply
    #[default]
    Due,
    /// When it was sent
    Sent,
}

/// How many requests are SETs, and how many GETs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Ratio {
    sets: u32,
    gets: u32,
}

/// When requests are due.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pace {
    /// As soon as there are fewer under way than [`Traffic::pipeline`]
    Closed,
    /// So many per second of all clients together, whatever becomes of those before
    Open(f64),
}

/// Chooses among the keys of one client.
pub struct Chooser {
    /// How many there are
    keys: u64,
    choice: Numbers,
}

enum Numbers {
    Uniform,
    Zipfian(Zipf<f64>),
    Gaussian(Normal<f64>),
}

/// When the requests of one thread's clients are due. Of all requests number i is due i intervals
/// after the start, and is client i mod C's.
pub struct Schedule {
    start: Instant,
    per_second: f64,
    clients: u64,
    threads: u64,
    thread: u64,
    /// The client and the round of the next one
    client: u64,
    round: u64,
}

impl Default for Ratio {
    fn default() -> Self {
        Self { sets: 1, gets: 0 }
    }
}

impl Ratio {
    /// Whether the next request is a SET.
    pub fn is_set(self, random: &mut SmallRng) -> bool {
        self.gets == 0 || random.random_ratio(self.sets, self.sets + self.gets)
    }
}

impl FromStr for Ratio {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |text: &str| text.parse().ok().filter(|number| *number <= 1000);
        let ratio = text
            .split_once(':')
            .and_then(|(sets, gets)| Some((number(sets)?, number(gets)?)));
        match ratio {
            Some((sets, gets)) if sets > 0 => Ok(Self { sets, gets }),
            _ => Err("not SETS:GETS such as 1:0, 1:1 or 1:10, of 1 to 1000 SETs".into()),
        }
    }
}

impl fmt::Display for Ratio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.sets, self.gets)
    }
}

impl From<Ratio> for String {
    fn from(ratio: Ratio) -> Self {
        ratio.to_string()
    }
}

impl TryFrom<String> for Ratio {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl Chooser {
    /// Of `keys` keys, which are at least one.
    pub fn new(choice: Choice, keys: u64) -> Self {
        let count = keys as f64;
        let choice = match choice {
            Choice::Uniform => Numbers::Uniform,
            Choice::Zipfian => Numbers::Zipfian(Zipf::new(count, SKEW).expect("a key or more")),
            Choice::Gaussian => {
                let numbers = Normal::new(count / 2.0, count * SIGMA);
                Numbers::Gaussian(numbers.expect("a deviation that is finite"))
            }
        };
        Self { keys, choice }
    }

    /// A number from 0 to the number of keys.
    pub fn next(&self, random: &mut SmallRng) -> u64 {
        match &self.choice {
            Numbers::Uniform => random.random_range(0..self.keys),
            Numbers::Zipfian(numbers) => (numbers.sample(random) as u64 - 1).min(self.keys - 1),
            Numbers::Gaussian(numbers) => loop {
                let number = numbers.sample(random);
                if (0.0..self.keys as f64).contains(&number) {
                    break number as u64;
                }
            },
        }
    }
}

impl Schedule {
    /// Of the clients that `thread` of `traffic.threads` serves: those c with
    /// c mod threads = thread.
    pub fn new(start: Instant, per_second: f64, traffic: &Traffic, thread: usize) -> Self {
        Self {
            start,
            per_second,
            clients: traffic.clients as u64,
            threads: traffic.threads as u64,
            thread: thread as u64,
            client: thread as u64,
            round: 0,
        }
    }

    /// When the next request is due.
    pub fn due(&self) -> Instant {
        let number = self.round * self.clients + self.client;
        self.start + Duration::from_secs_f64(number as f64 / self.per_second)
    }

    /// The client of the next request and when it was due, if that is not after `now`.
    pub fn next(&mut self, now: Instant) -> Option<(usize, Instant)> {
        let due = self.due();
        if due > now {
            return None;
        }
        let client = self.client as usize;
        self.client += self.threads;
        if self.client >= self.clients {
            self.client = self.thread;
            self.round += 1;
        }
        Some((client, due))
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    /// How many of 100000 choices were keys of each tenth of 1000.
    fn tenths(choice: Choice) -> Vec<u32> {
        let chooser = Chooser::new(choice, 1000);
        let mut random = SmallRng::seed_from_u64(1);
        let mut counts = vec![0; 10];
        for _ in 0..100_000 {
            counts[chooser.next(&mut random) as usize / 100] += 1;
        }
        counts
    }

    #[test]
    fn choices() {
        for count in tenths(Choice::Uniform) {
            assert!((9_000..11_000).contains(&count), "{count}");
        }
        // The sum of 1 / n^0.99 to 100 is 0.69 of that to 1000.
        let zipfian = tenths(Choice::Zipfian);
        assert!((68_000..71_000).contains(&zipfian[0]), "{zipfian:?}");
        assert!(zipfian.is_sorted_by(|a, b| a > b), "{zipfian:?}");
        // 45 % are nearer to the mean than 0.6 deviations.
        let gaussian = tenths(Choice::Gaussian);
        let middle = gaussian[4] + gaussian[5];
        assert!((44_000..47_000).contains(&middle), "{gaussian:?}");
        assert!(gaussian[0] < 1_500 && gaussian[9] < 1_500, "{gaussian:?}");
    }

    #[test]
    fn one_key() {
        let mut random = SmallRng::seed_from_u64(1);
        for choice in [Choice::Uniform, Choice::Zipfian, Choice::Gaussian] {
            let chooser = Chooser::new(choice, 1);
            assert!((0..1000).all(|_| chooser.next(&mut random) == 0));
        }
    }

    #[test]
    fn ratios() {
        for text in ["1:0", "1:1", "1:10", "1000:1000"] {
            assert_eq!(text.parse::<Ratio>().unwrap().to_string(), text);
        }
        for text in ["", "1", "0:1", "1:-1", "1:1001", "1:1:1", "a:b"] {
            assert!(text.parse::<Ratio>().is_err(), "{text}");
        }
        let mut random = SmallRng::seed_from_u64(1);
        let ratio: Ratio = "1:10".parse().unwrap();
        let sets = (0..11_000).filter(|_| ratio.is_set(&mut random)).count();
        assert!((900..1_100).contains(&sets), "{sets}");
        assert!(Ratio::default().is_set(&mut random));
    }

    /// The schedules of all threads together have each request once, in time.
    #[test]
    fn schedules() {
        let start = Instant::now();
        let traffic = Traffic {
            clients: 5,
            threads: 2,
            choice: Choice::Uniform,
            ratio: Ratio::default(),
            pipeline: 1,
            latency_from: Start::Due,
        };
        let end = start + Duration::from_millis(19);
        let mut all: Vec<_> = (0..2)
            .flat_map(|thread| {
                let mut schedule = Schedule::new(start, 1000.0, &traffic, thread);
                let requests: Vec<_> = std::iter::from_fn(|| schedule.next(end)).collect();
                assert!(schedule.due() > end);
                assert!(requests.iter().all(|(client, _)| client % 2 == thread));
                requests
            })
            .collect();
        all.sort_by_key(|(_, due)| *due);
        let ms = |(client, due): &(usize, Instant)| (*client, (*due - start).as_millis());
        let all: Vec<_> = all.iter().map(ms).collect();
        let expected: Vec<_> = (0..20).map(|i| (i as usize % 5, i)).collect();
        assert_eq!(all, expected);
    }
}
