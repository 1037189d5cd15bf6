// SPDX-License-Identifier: GPL-2.0

//! One connection to a server: commands out, replies in (RESP 2).

use std::io::BufRead;
use std::io::BufReader;
use std::io::Read;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::Path;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;

pub struct Client<S = UnixStream> {
    stream: BufReader<S>,
    /// Commands not yet sent
    out: Vec<u8>,
}

impl Client {
    /// Connects to the server that listens on `socket`.
    ///
    /// # Errors
    ///
    /// Those of `connect()`.
    pub fn connect(socket: &Path) -> Result<Self> {
        let stream = UnixStream::connect(socket)
            .with_context(|| format!("cannot connect to {}", socket.display()))?;
        Ok(Self::new(stream))
    }
}

impl<S: Read + Write> Client<S> {
    fn new(stream: S) -> Self {
        Self {
            stream: BufReader::new(stream),
            out: Vec::new(),
        }
    }

    /// Sends one command and waits for its reply, as text; nil is an empty one.
    ///
    /// # Errors
    ///
    /// Those of [`send()`](Self::send) and [`reply()`](Self::reply).
    pub fn command(&mut self, arguments: &[&str]) -> Result<String> {
        let bytes: Vec<_> = arguments.iter().map(|text| text.as_bytes()).collect();
        self.push(&bytes);
        self.send()?;
        let reply = self.reply().with_context(|| arguments.join(" "))?;
        Ok(String::from_utf8_lossy(&reply.unwrap_or_default()).into_owned())
    }

    /// Adds a command to those that [`send()`](Self::send) sends.
    pub fn push(&mut self, arguments: &[&[u8]]) {
        self.out
            .extend_from_slice(format!("*{}\r\n", arguments.len()).as_bytes());
        for argument in arguments {
            self.out
                .extend_from_slice(format!("${}\r\n", argument.len()).as_bytes());
            self.out.extend_from_slice(argument);
            self.out.extend_from_slice(b"\r\n");
        }
    }

    /// Sends what was pushed.
    ///
    /// # Errors
    ///
    /// Those of `write()`.
    pub fn send(&mut self) -> Result<()> {
        self.stream.get_mut().write_all(&self.out)?;
        self.out.clear();
        Ok(())
    }

    /// Waits for one reply; none is nil. An array is its length, and each element is a reply of its
    /// own after it.
    ///
    /// # Errors
    ///
    /// An error reply, one that is not RESP 2, or that the connection has ended.
    pub fn reply(&mut self) -> Result<Option<Vec<u8>>> {
        let mut line = Vec::new();
        self.stream.read_until(b'\n', &mut line)?;
        if !line.ends_with(b"\r\n") {
            bail!("the server closed the connection");
        }
        line.truncate(line.len() - 2);
        let text = String::from_utf8_lossy(&line);
        let Some((kind, rest)) = text.split_at_checked(1) else {
            bail!("an empty reply");
        };
        match kind {
            "+" | ":" | "*" => Ok(Some(rest.into())),
            "-" => bail!("{rest}"),
            "$" if rest == "-1" => Ok(None),
            "$" => {
                let mut bytes = vec![0; rest.parse::<usize>()? + 2];
                self.stream.read_exact(&mut bytes)?;
                bytes.truncate(bytes.len() - 2);
                Ok(Some(bytes))
            }
            _ => bail!("a reply this client does not know: {text}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    /// A client that reads `replies`.
    fn client(replies: &str) -> Client<Cursor<Vec<u8>>> {
        Client::new(Cursor::new(replies.as_bytes().to_vec()))
    }

    #[test]
    fn encodes() {
        let mut client = client("");
        client.push(&[b"SET", b"k", b"\x00\r\n"]);
        assert_eq!(
            client.out,
            b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$3\r\n\x00\r\n\r\n"
        );
    }

    #[test]
    fn decodes() {
        let mut client =
            client("+OK\r\n*1\r\n:12\r\n$4\r\na\r\nb\r\n$-1\r\n$0\r\n\r\n-ERR no\r\n%1\r\n+half");
        for expected in [
            Some("OK"),
            Some("1"),
            Some("12"),
            Some("a\r\nb"),
            None,
            Some(""),
        ] {
            assert_eq!(
                client.reply().unwrap().as_deref(),
                expected.map(str::as_bytes)
            );
        }
        for expected in [
            "ERR no",
            "a reply this client does not know: %1",
            "the server closed the connection",
        ] {
            assert_eq!(client.reply().unwrap_err().to_string(), expected);
        }
    }
}
