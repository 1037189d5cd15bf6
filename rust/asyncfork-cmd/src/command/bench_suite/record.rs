// SPDX-License-Identifier: GPL-2.0

//! What is kept of a point, and of an experiment.

use std::fs;
use std::path::Path;

use serde::Deserialize;
use serde::Serialize;

/// An experiment: the JSON that others read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// [`Record::NAME`]
    pub benchmark: String,
    pub experiment: String,
    pub title: String,
    pub note: Option<String>,
    pub quick: bool,
    /// How many points have not been measured
    pub missing: usize,
    pub points: Vec<Done>,
}

impl Record {
    pub const NAME: &str = "experiment";
}

/// What a point is measured for: if that is another, the point is measured again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Asked {
    /// Of `asyncfork`
    pub arguments: Vec<String>,
    /// None if it was computed
    pub guest: Option<Guest>,
    /// Hashes of the patches and of the kernel's configuration
    pub series: Option<String>,
    pub config: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Guest {
    pub memory: String,
    pub cpus: u8,
    /// Its clock counts instructions
    #[serde(default)]
    pub icount: bool,
    pub swap: Option<String>,
    pub disk: Option<String>,
}

/// A point that has been measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Done {
    pub name: String,
    pub asked: Asked,
    pub emulator: Option<String>,
    /// Seconds since 1970
    pub started: u64,
    pub seconds: f64,
    /// Of the machine on which the guest ran: of 1, 5 and 15 minutes
    pub load_before: Vec<f64>,
    pub load_after: Vec<f64>,
    /// What `asyncfork bench` has written
    pub record: serde_json::Value,
}

impl Done {
    /// What is in `path`, if that was measured for `asked`.
    pub fn read(path: &Path, asked: &Asked) -> Option<Self> {
        let done: Self = serde_json::from_str(&fs::read_to_string(path).ok()?).ok()?;
        (done.asked == *asked).then_some(done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn done() -> Done {
        Done {
            name: "small".into(),
            asked: Asked {
                arguments: vec!["bench".into(), "fork".into()],
                guest: Some(Guest {
                    memory: "1G".into(),
                    cpus: 2,
                    icount: false,
                    swap: None,
                    disk: None,
                }),
                series: Some("0123".into()),
                config: None,
            },
            emulator: None,
            started: 1,
            seconds: 2.5,
            load_before: vec![0.0, 1.0, 2.0],
            load_after: vec![],
            record: serde_json::json!({"benchmark": "fork"}),
        }
    }

    #[test]
    fn only_what_was_asked_for_counts() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("small.json");
        let done = done();
        assert_eq!(Done::read(&path, &done.asked), None);
        fs::write(&path, serde_json::to_string(&done).unwrap()).unwrap();
        assert_eq!(Done::read(&path, &done.asked), Some(done.clone()));
        let mut other = done.asked.clone();
        other.series = Some("4567".into());
        assert_eq!(Done::read(&path, &other), None);
        other = done.asked.clone();
        other.guest.as_mut().unwrap().cpus = 4;
        assert_eq!(Done::read(&path, &other), None);
        fs::write(&path, "{").unwrap();
        assert_eq!(Done::read(&path, &done.asked), None, "cut short");
    }
}
