// SPDX-License-Identifier: GPL-2.0

//! What a server forks for, and where the snapshot that its child makes is then found.

use std::fmt;
use std::fs;
use std::ops::Range;
use std::path::Path;
use std::path::PathBuf;
use std::thread;
use std::thread::JoinHandle;
use std::time::Instant;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use clap::ValueEnum;
use serde::Deserialize;
use serde::Serialize;

use super::POLL;
use crate::interrupt;
use crate::redis::Client;
use crate::redis::Contents;
use crate::redis::Data;
use crate::redis::Info;
use crate::redis::Replica;
use crate::redis::Server;
use crate::redis::Settings;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// BGSAVE: a file of all data
    #[default]
    Rdb,
    /// BGREWRITEAOF: such a file, and one of every SET after it, which the server writes
    Aof,
    /// A full synchronisation of a replica, without a file
    Sync,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Rdb => "BGSAVE",
            Self::Aof => "BGREWRITEAOF",
            Self::Sync => "full sync",
        })
    }
}

/// How the server's INFO names what concerns a snapshot.
struct Fields {
    in_progress: &'static str,
    /// What it says of the last one. Of one to a replica it says nothing
    status: Option<&'static str>,
    seconds: &'static str,
    copied: &'static str,
}

const RDB: Fields = Fields {
    in_progress: "rdb_bgsave_in_progress",
    status: Some("rdb_last_bgsave_status"),
    seconds: "rdb_last_bgsave_time_sec",
    copied: "rdb_last_cow_size",
};
const AOF: Fields = Fields {
    in_progress: "aof_rewrite_in_progress",
    status: Some("aof_last_bgrewrite_status"),
    seconds: "aof_last_rewrite_time_sec",
    copied: "aof_last_cow_size",
};
const SYNC: Fields = Fields {
    status: None,
    ..RDB
};

impl Kind {
    /// Lines of the server's configuration.
    pub fn config(self) -> &'static str {
        match self {
            Self::Rdb => "",
            Self::Aof => "auto-aof-rewrite-percentage 0\n",
            Self::Sync => {
                "repl-diskless-sync yes\n\
                 repl-diskless-sync-delay 0\n\
                 client-output-buffer-limit replica 0 0 0\n"
            }
        }
    }

    /// How many files as large as the data there are at once.
    pub fn files(self) -> u64 {
        match self {
            Self::Rdb => 1,
            // The new one, the one before, and what was written since.
            Self::Aof => 3,
            Self::Sync => 0,
        }
    }

    fn fields(self) -> &'static Fields {
        match self {
            Self::Rdb => &RDB,
            Self::Aof => &AOF,
            Self::Sync => &SYNC,
        }
    }

    /// Has a filled server be as it will be between snapshots.
    ///
    /// # Errors
    ///
    /// Those of the server, and an interrupt.
    pub fn prepare(self, control: &mut Client) -> Result<()> {
        if self == Self::Aof {
            // Not before it is filled: that would be in the file, too.
            control.command(&["CONFIG", "SET", "appendonly", "yes"])?;
            self.wait(control)?;
        }
        Ok(())
    }

    /// Has the server fork.
    ///
    /// # Errors
    ///
    /// Those of the server.
    pub fn start(self, server: &Server, control: &mut Client, data: Data) -> Result<Started> {
        let replica = match self {
            Self::Sync => Some(Replica::new(server.connect()?)?),
            _ => None,
        };
        let start = Instant::now();
        let (mut command, mut arriving) = (start..start, None);
        match replica {
            None if self == Self::Aof => drop(control.command(&["BGREWRITEAOF"])?),
            None => drop(control.command(&["BGSAVE"])?),
            Some(mut replica) => {
                replica.ask()?;
                control.command(&["PING"])?;
                let read = move || data.read_snapshot(replica.snapshot()?);
                arriving = Some(thread::spawn(read));
            }
        }
        command.end = Instant::now();
        Ok(Started {
            kind: self,
            command,
            arriving,
        })
    }

    /// Waits until the server has no such child any more, and returns what it says of the last one.
    ///
    /// # Errors
    ///
    /// Those of the server, that it could not save, and an interrupt.
    pub fn wait(self, control: &mut Client) -> Result<Info> {
        let fields = self.fields();
        loop {
            let info = Info::read(control, "persistence")?;
            if info.text(fields.in_progress)? == "0" {
                if let Some(status) = fields.status {
                    let outcome = info.text(status)?;
                    if outcome != "ok" {
                        bail!("the server could not save ({status}:{outcome})");
                    }
                }
                return Ok(info);
            }
            interrupt::sleep(POLL)?;
        }
    }
}

/// A snapshot that is being made.
pub struct Started {
    kind: Kind,
    /// From when the server was told to fork until it had answered
    pub command: Range<Instant>,
    /// Of a replica: what has come
    arriving: Option<JoinHandle<Result<Contents>>>,
}

/// A snapshot that was made.
pub struct Made {
    kind: Kind,
    /// As the server has counted
    pub seconds: i64,
    pub copied: u64,
    arriving: Option<JoinHandle<Result<Contents>>>,
}

impl Started {
    /// Waits until it is over.
    ///
    /// # Errors
    ///
    /// Those of the server, that it could not save, and an interrupt.
    pub fn finish(self, control: &mut Client) -> Result<Made> {
        let fields = self.kind.fields();
        let info = self.kind.wait(control)?;
        Ok(Made {
            kind: self.kind,
            seconds: info.number(fields.seconds)?,
            copied: info.number(fields.copied)?,
            arriving: self.arriving,
        })
    }
}

impl Made {
    /// What is in it, by its file or as it has come.
    ///
    /// # Errors
    ///
    /// What is wrong with the snapshot.
    pub fn contents(self, settings: &Settings, data: Data) -> Result<Contents> {
        match self.arriving {
            Some(arriving) => match arriving.join() {
                Ok(contents) => contents,
                Err(_) => bail!("the thread that reads the snapshot has panicked"),
            },
            None if self.kind == Kind::Aof => data.read_file(&base_file(&settings.directory)?),
            None => data.read_file(&settings.snapshot()),
        }
    }
}

/// The file of an AOF that the last rewrite has made.
fn base_file(directory: &Path) -> Result<PathBuf> {
    let directory = directory.join("appendonlydir");
    let manifest = directory.join("appendonly.aof.manifest");
    let text = fs::read_to_string(&manifest)
        .with_context(|| format!("cannot read {}", manifest.display()))?;
    let name = base_name(&text).with_context(|| format!("{} has no base", manifest.display()))?;
    Ok(directory.join(name))
}

/// Of lines such as `file appendonly.aof.2.base.rdb seq 2 type b`.
fn base_name(manifest: &str) -> Option<&str> {
    let base = manifest.lines().find(|line| line.ends_with(" type b"))?;
    base.strip_prefix("file ")?.split(' ').next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn manifests() {
        let text = "file appendonly.aof.2.base.rdb seq 2 type b\n\
                    file appendonly.aof.3.incr.aof seq 3 type i\n";
        assert_eq!(base_name(text), Some("appendonly.aof.2.base.rdb"));
        assert_eq!(
            base_name("file appendonly.aof.3.incr.aof seq 3 type i\n"),
            None
        );
        assert_eq!(base_name(""), None);
        let error = base_file(Path::new("/no")).unwrap_err().to_string();
        assert!(error.contains("/no/appendonlydir/appendonly.aof.manifest"));
    }
}
