// SPDX-License-Identifier: GPL-2.0

//! Figures, tables and JSON files.

use std::fs;
use std::fs::Permissions;
use std::io;
use std::io::BufReader;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::path::PathBuf;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use flate2::read::GzDecoder;
use hdrhistogram::Histogram;
use serde::Deserialize;
use serde::Serialize;
use tempfile::NamedTempFile;

use crate::machine::Machine;

/// The middle value; of an even number, the mean of the two in the middle.
pub fn median(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let (last, half) = (values.len().checked_sub(1)?, values.len() / 2);
    Some((values[last - half] + values[half]) / 2.0)
}

/// A time in nanoseconds, to three digits, with its unit.
pub fn time(ns: f64) -> String {
    let (value, unit) = match ns {
        ns if ns < 0.0 => return format!("-{}", time(-ns)),
        ns if ns < 1e6 => (ns / 1e3, "us"),
        ns if ns < 1e9 => (ns / 1e6, "ms"),
        ns => (ns / 1e9, "s"),
    };
    let digits = if value < 10.0 {
        2
    } else if value < 100.0 {
        1
    } else {
        0
    };
    format!("{value:.digits$} {unit}")
}

/// Lays out `rows` in columns, each left (`<`) or right (`>`) aligned as `alignment` says.
pub fn table(rows: &[Vec<String>], alignment: &str) -> String {
    let width = |column: usize| {
        rows.iter()
            .filter_map(|row| row.get(column))
            .map(|cell| cell.chars().count())
            .max()
    };
    let columns: Vec<_> = alignment
        .chars()
        .enumerate()
        .map(|(i, side)| (side, width(i).unwrap_or(0)))
        .collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (cell, (side, width)) in row.iter().zip(&columns) {
            match side {
                '>' => line.push_str(&format!("{cell:>width$}  ")),
                _ => line.push_str(&format!("{cell:<width$}  ")),
            }
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// The same as a table of Markdown; the first row is its head.
pub fn markdown(rows: &[Vec<String>], alignment: &str) -> String {
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let sides = alignment.chars().map(|side| match side {
        '>' => "---:".to_owned(),
        _ => ":---".to_owned(),
    });
    let sides: Vec<String> = sides.collect();
    let mut lines = rows.iter().map(|row| {
        let mut cells = row.clone();
        cells.resize(sides.len(), String::new());
        line(&cells)
    });
    let head = lines.next().unwrap_or_default();
    head + &line(&sides) + &lines.collect::<String>()
}

/// Writes to standard output; a reader that has gone away is no error.
pub fn print(text: &str) -> Result<()> {
    print_to_reader(text).map(drop)
}

/// Writes to standard output, at once; whether there still is somebody who reads.
pub fn print_to_reader(text: &str) -> Result<bool> {
    let mut out = io::stdout();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// The end of a measurement: prints its table, and writes its record. What was done otherwise than
/// asked is an error after that.
pub fn finish(
    table: &str,
    json: Option<JsonFile>,
    record: &impl Serialize,
    misdone: Option<String>,
) -> Result<()> {
    print(table)?;
    if let Some(json) = json {
        json.write(record)?;
    }
    match misdone {
        Some(reason) => bail!("{reason}"),
        None => Ok(()),
    }
}

/// What is in a JSON file, which may be compressed by gzip.
pub fn read(path: &Path) -> Result<serde_json::Value> {
    /// How such a file begins
    const GZIP: &[u8] = b"\x1f\x8b";

    let bytes = fs::read(path)?;
    match bytes.starts_with(GZIP) {
        true => Ok(serde_json::from_reader(BufReader::new(GzDecoder::new(
            &bytes[..],
        )))?),
        false => Ok(serde_json::from_slice(&bytes)?),
    }
}

/// A JSON file to be: appears under its name whole or not at all.
pub struct JsonFile {
    path: PathBuf,
    file: NamedTempFile,
}

/// Where a record goes, and the part of it that the user knows better.
#[derive(Default, clap::Args)]
pub struct Output {
    /// Write everything measured to FILE
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,

    /// Name the accelerator in the record (tcg, kvm, native) [default: ask the CPU]
    #[arg(long, value_name = "NAME")]
    accelerator: Option<String>,
}

impl Output {
    pub fn create(&self) -> Result<Option<JsonFile>> {
        self.json.as_deref().map(JsonFile::create).transpose()
    }

    pub fn machine(&self) -> Machine {
        Machine::read(self.accelerator.clone())
    }
}

impl JsonFile {
    /// Finds out, before anything is measured, whether `path` can be written.
    pub fn create(path: &Path) -> Result<Self> {
        let directory = path
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty());
        let file = tempfile::Builder::new()
            .permissions(Permissions::from_mode(0o666))
            .tempfile_in(directory.unwrap_or(Path::new(".")))
            .with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Self {
            path: path.to_owned(),
            file,
        })
    }

    pub fn write(mut self, record: &impl Serialize) -> Result<()> {
        let text = serde_json::to_string(record)? + "\n";
        let written = self.file.write_all(text.as_bytes());
        written
            .and_then(|()| Ok(self.file.persist(&self.path)?))
            .map(drop)
            .with_context(|| format!("cannot write {}", self.path.display()))
    }
}

/// Latencies in nanoseconds, to three digits.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(into = "Buckets", try_from = "Buckets")]
pub struct Latencies(Histogram<u64>);

impl Default for Latencies {
    fn default() -> Self {
        Self(Histogram::new(3).expect("0 to 5 digits are allowed"))
    }
}

impl Latencies {
    pub fn record(&mut self, ns: u64) {
        self.0.record(ns).expect("the histogram grows as needed");
    }

    pub fn add(&mut self, other: &Self) {
        self.0.add(&other.0).expect("the histogram grows as needed");
    }

    pub fn count(&self) -> u64 {
        self.0.len()
    }

    pub fn percentile(&self, percent: f64) -> u64 {
        self.0.value_at_percentile(percent)
    }

    pub fn max(&self) -> u64 {
        self.0.max()
    }

    /// Those that are not empty: the upper end (ns) and the count of each.
    pub fn buckets(&self) -> impl Iterator<Item = (u64, u64)> {
        self.0
            .iter_recorded()
            .map(|bucket| (bucket.value_iterated_to(), bucket.count_at_value()))
    }
}

/// How [`Latencies`] look in JSON: the figures people want, and all buckets that are not empty.
#[derive(Serialize, Deserialize)]
struct Buckets {
    count: u64,
    p50_ns: u64,
    p99_ns: u64,
    p999_ns: u64,
    max_ns: u64,
    /// Pairs of latency (ns, the bucket's upper end) and count
    buckets: Vec<(u64, u64)>,
}

impl From<Latencies> for Buckets {
    fn from(latencies: Latencies) -> Self {
        Self {
            count: latencies.count(),
            p50_ns: latencies.percentile(50.0),
            p99_ns: latencies.percentile(99.0),
            p999_ns: latencies.percentile(99.9),
            max_ns: latencies.max(),
            buckets: latencies.buckets().collect(),
        }
    }
}

impl TryFrom<Buckets> for Latencies {
    type Error = hdrhistogram::RecordError;

    fn try_from(buckets: Buckets) -> Result<Self, Self::Error> {
        let mut latencies = Self::default();
        for (ns, count) in buckets.buckets {
            latencies.0.record_n(ns, count)?;
        }
        Ok(latencies)
    }
}

#[cfg(test)]
mod tests {
    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    #[test]
    fn medians() {
        assert_eq!(median([]), None);
        assert_eq!(median([3.0]), Some(3.0));
        assert_eq!(median([9.0, 1.0, 4.0]), Some(4.0));
        assert_eq!(median([4.0, 1.0, 2.0, 9.0]), Some(3.0));
    }

    #[test]
    fn times() {
        assert_eq!(time(1_234.0), "1.23 us");
        assert_eq!(time(56_780.0), "56.8 us");
        assert_eq!(time(123_456_789.0), "123 ms");
        assert_eq!(time(2.5e9), "2.50 s");
        assert_eq!(time(-9.12e6), "-9.12 ms");
    }

    #[test]
    fn tables() {
        let rows = [
            vec!["a".into(), "1".into()],
            vec!["long".into(), "23".into()],
            vec!["b".into()],
        ];
        assert_eq!(table(&rows, "<>"), "a      1\nlong  23\nb\n");
    }

    #[test]
    fn markdown_tables() {
        let rows = [vec!["a".into(), "b".into()], vec!["c".into()]];
        let expected = "| a | b |\n| :--- | ---: |\n| c |  |\n";
        assert_eq!(markdown(&rows, "<>"), expected);
    }

    #[test]
    fn latencies_round_trip() {
        let mut latencies = Latencies::default();
        for ns in [0, 900, 15_000, 15_001, 2_000_000_000] {
            latencies.record(ns);
        }
        let json = serde_json::to_string(&latencies).unwrap();
        let back: Latencies = serde_json::from_str(&json).unwrap();
        assert_eq!(back, latencies);
        assert_eq!(
            (back.count(), back.percentile(50.0)),
            (5, latencies.percentile(50.0))
        );
        assert!(
            back.max().abs_diff(2_000_000_000) < 2_000_000,
            "three digits"
        );
    }

    #[test]
    fn json_may_be_compressed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.json.gz");
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(b"[1, 2]").unwrap();
        let bytes = encoder.finish().unwrap();
        fs::write(&path, &bytes).unwrap();
        assert_eq!(read(&path).unwrap(), serde_json::json!([1, 2]));
        fs::write(&path, "[1, 2]").unwrap();
        assert_eq!(read(&path).unwrap(), serde_json::json!([1, 2]));
        fs::write(&path, &bytes[..bytes.len() - 9]).unwrap();
        assert!(read(&path).is_err(), "cut short");
    }

    #[test]
    fn json_is_whole_or_absent() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("out.json");
        drop(JsonFile::create(&path).unwrap());
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
        JsonFile::create(&path).unwrap().write(&[1, 2]).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "[1,2]\n");
        let error = JsonFile::create(&directory.path().join("no/out.json"))
            .err()
            .unwrap();
        assert!(
            format!("{error:#}").starts_with("cannot write "),
            "{error:#}"
        );
    }
}
