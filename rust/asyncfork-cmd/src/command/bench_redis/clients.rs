// SPDX-License-Identifier: GPL-2.0

//! The clients of `asyncfork bench redis`: the options, and what they come to.

use std::str::FromStr;
use std::time::Duration;

use anyhow::Result;
use anyhow::bail;
use serde::Deserialize;
use serde::Serialize;

use crate::redis::Choice;
use crate::redis::Data;
use crate::redis::Load;
use crate::redis::Pace;
use crate::redis::Ratio;
use crate::redis::Server;
use crate::redis::Start;
use crate::redis::Traffic;

/// How long the capacity is measured.
const CAPACITY: Duration = Duration::from_secs(3);

#[derive(clap::Args)]
pub struct Clients {
    /// Clients, each with a connection and keys of its own
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=1000))]
    clients: u16,

    /// Threads that serve the clients
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
    threads: u16,

    /// Requests per second of all clients together, each due at its time; or a share of the
    /// capacity, which is measured first, such as 70%. 0: each client as fast as it gets replies,
    /// which hides delays from the percentiles
    #[arg(long, value_name = "N|N%", default_value = "1000")]
    rate: Rate,

    /// Requests that a client sends without having the replies to those before
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pipeline: u16,

    /// How many of the requests are SETs, and how many GETs, such as 1:0, 1:1, 1:10
    #[arg(long, value_name = "SETS:GETS", default_value_t)]
    ratio: Ratio,

    /// Which of its keys a client takes
    #[arg(long, value_enum, value_name = "CHOICE", default_value = "uniform")]
    keys: Choice,

    /// When a request's latency begins
    #[arg(long, value_enum, value_name = "WHEN", default_value = "due")]
    latency_from: Start,

    /// Bytes per value
    #[arg(long, value_name = "BYTES", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(Data::MIN_VALUE_SIZE as i64..=1 << 16))]
    pub value_size: u32,
}

/// What --rate asks for.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Rate {
    /// 0 is a closed loop
    PerSecond(u32),
    Percent(f64),
}

/// What the record says of the clients. What older records lack has its default.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Parameters {
    pub clients: u16,
    #[serde(default = "one")]
    threads: u16,
    /// Requests per second; 0 is a closed loop
    pub rate: u32,
    /// What of the capacity was asked for
    #[serde(default)]
    pub rate_percent: Option<f64>,
    /// The capacity, if it was measured
    #[serde(default)]
    pub capacity_per_second: Option<f64>,
    #[serde(default = "one")]
    pipeline: u16,
    #[serde(default)]
    ratio: Ratio,
    #[serde(default)]
    keys: Choice,
    #[serde(default)]
    latency_from: Start,
    value_size: u32,
}

fn one() -> u16 {
    1
}

impl FromStr for Rate {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let Some(percent) = text.strip_suffix('%') else {
            return text
                .parse()
                .map(Self::PerSecond)
                .map_err(|_| "not a number of requests per second, nor a percentage such as 70%");
        };
        match percent.parse() {
            Ok(percent) if percent > 0.0 && percent <= 100.0 => Ok(Self::Percent(percent)),
            _ => Err("not a percentage above 0% and up to 100%"),
        }
    }
}

impl Clients {
    pub fn count(&self) -> usize {
        self.clients.into()
    }

    /// Connects the clients, which do nothing yet.
    ///
    /// # Errors
    ///
    /// Those of the connections, and that there are fewer keys than clients, or more than 2^32.
    pub fn start(&self, server: &Server, data: Data) -> Result<Load> {
        if data.keys < self.clients.into() {
            bail!(
                "--clients {} needs a key for each, and there are {}; make --mb larger, or \
                 --value-size smaller",
                self.clients,
                data.keys
            );
        }
        if u32::try_from(data.keys).is_err() {
            bail!(
                "{} keys are more than can be told apart; make --value-size larger",
                data.keys
            );
        }
        let traffic = Traffic {
            clients: self.count(),
            threads: self.threads.into(),
            choice: self.keys,
            ratio: self.ratio,
            pipeline: self.pipeline.into(),
            latency_from: self.latency_from,
        };
        let streams: Result<Vec<_>> = (0..self.clients).map(|_| server.stream()).collect();
        Load::start(streams?, data, traffic)
    }

    /// The pace asked for, and the capacity if that takes it.
    ///
    /// # Errors
    ///
    /// Those of the measurement.
    pub fn pace(&self, load: &Load) -> Result<(Pace, Option<f64>)> {
        match self.rate {
            Rate::PerSecond(0) => Ok((Pace::Closed, None)),
            Rate::PerSecond(rate) => Ok((Pace::Open(rate.into()), None)),
            Rate::Percent(percent) => {
                let capacity = load.capacity(CAPACITY)?;
                let rate = (capacity * percent / 100.0).round().max(1.0);
                Ok((Pace::Open(rate), Some(capacity)))
            }
        }
    }

    pub fn parameters(&self, pace: Pace, capacity: Option<f64>) -> Parameters {
        Parameters {
            clients: self.clients,
            threads: self.threads,
            rate: match pace {
                Pace::Closed => 0,
                Pace::Open(rate) => rate as u32,
            },
            rate_percent: match self.rate {
                Rate::PerSecond(_) => None,
                Rate::Percent(percent) => Some(percent),
            },
            capacity_per_second: capacity,
            pipeline: self.pipeline,
            ratio: self.ratio,
            keys: self.keys,
            latency_from: self.latency_from,
            value_size: self.value_size,
        }
    }
}

impl Parameters {
    /// The load in a few words.
    pub fn line(&self) -> String {
        let what = if self.ratio == Ratio::default() {
            "SETs".into()
        } else {
            format!("SETs and GETs {}", self.ratio)
        };
        match (self.rate, self.rate_percent) {
            (0, _) => format!("{what} as fast as answered"),
            (rate, None) => format!("{rate} {what} per second"),
            (rate, Some(percent)) => {
                format!("{rate} {what} per second ({percent} % of the capacity)")
            }
        }
    }

    /// What is the same at every size, in a few words.
    pub fn pace(&self) -> String {
        match (self.rate, self.rate_percent) {
            (0, _) => "a closed loop".into(),
            (rate, None) => format!("{rate} requests per second"),
            (_, Some(percent)) => format!("{percent} % of the capacity"),
        }
    }

    #[cfg(test)]
    pub fn example() -> Self {
        Self {
            clients: 4,
            threads: 1,
            rate: 1000,
            rate_percent: None,
            capacity_per_second: None,
            pipeline: 1,
            ratio: Ratio::default(),
            keys: Choice::Uniform,
            latency_from: Start::Due,
            value_size: 1000,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates() {
        for (text, rate) in [
            ("0", Rate::PerSecond(0)),
            ("25000", Rate::PerSecond(25_000)),
            ("70%", Rate::Percent(70.0)),
            ("12.5%", Rate::Percent(12.5)),
            ("100%", Rate::Percent(100.0)),
        ] {
            assert_eq!(text.parse(), Ok(rate));
        }
        for text in ["", "-1", "1.5", "x", "%", "0%", "101%", "nan%", "-1%"] {
            assert!(text.parse::<Rate>().is_err(), "{text}");
        }
    }

    #[test]
    fn lines() {
        let example = Parameters::example();
        assert_eq!(example.line(), "1000 SETs per second");
        let share = Parameters {
            rate_percent: Some(70.0),
            ratio: "1:10".parse().unwrap(),
            ..example.clone()
        };
        assert_eq!(
            share.line(),
            "1000 SETs and GETs 1:10 per second (70 % of the capacity)"
        );
        let closed = Parameters {
            rate: 0,
            ..example.clone()
        };
        assert_eq!(closed.line(), "SETs as fast as answered");
        assert_eq!(example.pace(), "1000 requests per second");
        assert_eq!(share.pace(), "70 % of the capacity");
        assert_eq!(closed.pace(), "a closed loop");
    }

    /// Records that were written before there was a choice.
    #[test]
    fn older_records() {
        let old: Parameters =
            serde_json::from_str(r#"{"clients": 4, "rate": 1000, "value_size": 1000}"#).unwrap();
        assert_eq!(old, Parameters::example());
    }
}
