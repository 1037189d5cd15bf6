// SPDX-License-Identifier: GPL-2.0

//! A server process, gone with everything it has started when the value is dropped.

use std::fs;
use std::io;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;

use super::Client;
use crate::interrupt;
use crate::interrupt::Group;

/// How the servers of one benchmark are run.
pub struct Settings {
    /// redis-server, or a path to it
    pub binary: PathBuf,
    /// Where sockets, logs and the snapshot are
    pub directory: PathBuf,
    pub compress: bool,
    /// More of its configuration, in lines
    pub more: String,
}

pub struct Server {
    process: Group,
    socket: PathBuf,
    log: PathBuf,
}

impl Settings {
    /// What `redis-server --version` says.
    pub fn version(&self) -> Result<String> {
        let output = Command::new(&self.binary).arg("--version").output();
        let output = output.with_context(|| format!("cannot run {}", self.binary.display()))?;
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    /// The file that BGSAVE writes and a new server loads.
    pub fn snapshot(&self) -> PathBuf {
        self.directory.join("dump.rdb")
    }

    /// Starts a server, with asynchronous forks if `asynchronous`, and waits until it has loaded
    /// its data.
    pub fn start(&self, name: &str, asynchronous: bool) -> Result<Server> {
        let path = |suffix| self.directory.join(format!("{name}.{suffix}"));
        let (socket, log, config) = (path("sock"), path("log"), path("conf"));
        fs::write(&config, self.config(&socket))?;
        let output = fs::File::create(&log)?;
        let mut command = Command::new(&self.binary);
        command
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .process_group(0);
        // SAFETY: both are system calls, without memory of their own.
        unsafe {
            command.pre_exec(move || {
                // Not even SIGKILL to this process leaves the server behind.
                if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) == -1 {
                    return Err(io::Error::last_os_error());
                }
                if asynchronous {
                    asyncfork::set_process(true)
                } else {
                    Ok(())
                }
            });
        }
        interrupt::check()?;
        let process = command
            .spawn()
            .with_context(|| format!("cannot run {}", self.binary.display()))?;
        let mut server = Server {
            process: Group::new(process),
            socket,
            log,
        };
        server.wait_until_loaded()?;
        Ok(server)
    }

    fn config(&self, socket: &Path) -> String {
        format!(
            "port 0\n\
             unixsocket \"{}\"\n\
             dir \"{}\"\n\
             dbfilename dump.rdb\n\
             save \"\"\n\
             appendonly no\n\
             rdbcompression {}\n\
             activedefrag no\n\
             {}",
            socket.display(),
            self.directory.display(),
            if self.compress { "yes" } else { "no" },
            self.more,
        )
    }
}

impl Server {
    /// Of the process, and of its thread that forks and answers.
    pub fn pid(&self) -> u32 {
        self.process.id() as u32
    }

    /// # Errors
    ///
    /// Those of `connect()`.
    pub fn connect(&self) -> Result<Client> {
        self.stream().map(Client::new)
    }

    /// A connection without a client of its own.
    ///
    /// # Errors
    ///
    /// Those of `connect()`.
    pub fn stream(&self) -> Result<UnixStream> {
        UnixStream::connect(&self.socket)
            .with_context(|| format!("cannot connect to {}", self.socket.display()))
    }

    fn wait_until_loaded(&mut self) -> Result<()> {
        loop {
            if let Some(status) = self.process.try_wait()? {
                interrupt::check()?;
                let log = fs::read_to_string(&self.log).unwrap_or_default();
                bail!(
                    "the Redis server ended at once ({status}): {}",
                    log.lines().last().unwrap_or("")
                );
            }
            // Neither a socket that is not there yet nor "LOADING" is an error.
            if self
                .connect()
                .and_then(|mut client| client.command(&["PING"]))
                .is_ok()
            {
                return Ok(());
            }
            interrupt::sleep(Duration::from_millis(20))?;
        }
    }
}
