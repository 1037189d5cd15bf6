// SPDX-License-Identifier: GPL-2.0

//! One connection to a server that waits for its replies.

use std::io::Read;
use std::io::Write;
use std::os::unix::net::UnixStream;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;

use super::resp;
use super::resp::Input;
use super::resp::Reply;

pub struct Client<S = UnixStream> {
    stream: S,
    input: Input,
    /// Commands not yet sent
    out: Vec<u8>,
}

impl<S: Read + Write> Client<S> {
    pub fn new(stream: S) -> Self {
        Self {
            stream,
            input: Input::default(),
            out: Vec::new(),
        }
    }

    /// Sends one command and waits for its reply, as text; nil is an empty one.
    ///
    /// # Errors
    ///
    /// Those of [`send()`](Self::send) and [`reply()`](Self::reply), and a reply that is an array.
    pub fn command(&mut self, arguments: &[&str]) -> Result<String> {
        let bytes: Vec<_> = arguments.iter().map(|text| text.as_bytes()).collect();
        self.push(&bytes);
        self.send()?;
        let what = || arguments.join(" ");
        match self.reply().with_context(what)? {
            Reply::Text(text) => Ok(String::from_utf8_lossy(text).into_owned()),
            Reply::Number(number) => Ok(number.to_string()),
            Reply::Nil => Ok(String::new()),
            other => bail!("{} was answered with {other:?}", what()),
        }
    }

    /// The connection, and what has arrived and was not looked at.
    pub fn into_parts(self) -> (S, Vec<u8>) {
        (self.stream, self.input.into_rest())
    }

    /// Adds a command to those that [`send()`](Self::send) sends.
    pub fn push(&mut self, arguments: &[&[u8]]) {
        resp::push(&mut self.out, arguments);
    }

    /// Where commands that are not yet sent are kept.
    pub fn out(&mut self) -> &mut Vec<u8> {
        &mut self.out
    }

    /// Sends what was pushed.
    ///
    /// # Errors
    ///
    /// Those of `write()`.
    pub fn send(&mut self) -> Result<()> {
        self.stream.write_all(&self.out)?;
        self.out.clear();
        Ok(())
    }

    /// Waits for one reply.
    ///
    /// # Errors
    ///
    /// An error reply, one that is not RESP 2, or that the connection has ended.
    pub fn reply(&mut self) -> Result<Reply<'_>> {
        let frame = loop {
            if let Some(frame) = self.input.decode()? {
                break frame;
            }
            if self.input.fill(&mut self.stream)? == 0 {
                bail!("the server closed the connection");
            }
        };
        match self.input.reply(&frame) {
            Reply::Error(text) => bail!("{}", String::from_utf8_lossy(text)),
            reply => Ok(reply),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    #[test]
    fn replies() {
        let replies = b"+OK\r\n$-1\r\n-ERR no\r\n%1\r\n".to_vec();
        let mut client = Client::new(Cursor::new(replies));
        assert_eq!(client.reply().unwrap(), Reply::Text(b"OK"));
        assert_eq!(client.reply().unwrap(), Reply::Nil);
        assert_eq!(client.reply().unwrap_err().to_string(), "ERR no");
        assert_eq!(
            client.reply().unwrap_err().to_string(),
            "a reply this client does not know: %1"
        );

        let mut client = Client::new(Cursor::new(b"+half".to_vec()));
        assert_eq!(
            client.reply().unwrap_err().to_string(),
            "the server closed the connection"
        );
    }
}
