// SPDX-License-Identifier: GPL-2.0

//! A replica that takes a full synchronisation, and nothing after it: the snapshot comes through
//! the connection, as the server's child writes it, and is in no file.

use std::io;
use std::io::BufReader;
use std::io::Read;
use std::os::unix::net::UnixStream;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;

use super::Client;
use super::rdb;

/// Bytes of what ends the snapshot.
const MARK: usize = 40;
/// Bytes that are read at once.
const CHUNK: usize = 64 << 10;

/// The snapshot, which is still to come.
pub type Snapshot = rdb::Reader<BufReader<UntilMark<UnixStream>>>;

/// A connection that will ask for a snapshot.
pub struct Replica(Client);

impl Replica {
    /// # Errors
    ///
    /// Those of the server.
    pub fn new(mut client: Client) -> Result<Self> {
        client.command(&["REPLCONF", "capa", "eof"])?;
        Ok(Self(client))
    }

    /// Has the server fork. The answer may be there before that, so that another command has to be
    /// answered until it is known to be over.
    ///
    /// # Errors
    ///
    /// That the server does not want to send all of its data.
    pub fn ask(&mut self) -> Result<()> {
        let answer = self.0.command(&["PSYNC", "?", "-1"])?;
        if !answer.starts_with("FULLRESYNC ") {
            bail!("PSYNC was answered with {answer}");
        }
        Ok(())
    }

    /// Waits for the begin of the snapshot.
    ///
    /// # Errors
    ///
    /// That it does not come, or as a file of which the length is known.
    pub fn snapshot(self) -> Result<Snapshot> {
        let (stream, rest) = self.0.into_parts();
        let mut input = io::Cursor::new(rest).chain(stream);
        let mut line = Vec::new();
        // Line ends before it keep the connection alive.
        while line.is_empty() || !line.ends_with(b"\n") {
            let mut byte = [0];
            let read = input.read_exact(&mut byte);
            read.context("the server has not sent a snapshot")?;
            if byte != *b"\n" || !line.is_empty() {
                line.push(byte[0]);
            }
        }
        let mark = line.trim_ascii_end().strip_prefix(b"$EOF:");
        let Some(mark) = mark.and_then(|mark| mark.try_into().ok()) else {
            let line = String::from_utf8_lossy(&line);
            bail!("the snapshot begins with {:?}", line.trim_end());
        };
        let (rest, stream) = input.into_inner();
        let read = rest.position() as usize;
        rdb::Reader::new(BufReader::with_capacity(
            CHUNK,
            UntilMark {
                input: stream,
                mark,
                held: rest.into_inner().split_off(read),
            },
        ))
    }
}

/// What is read before the mark, which is the end.
pub struct UntilMark<R> {
    input: R,
    mark: [u8; MARK],
    /// Read, and not handed on: these may be the mark
    held: Vec<u8>,
}

impl<R: Read> Read for UntilMark<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.held.len() <= MARK {
            if self.held == self.mark {
                return Ok(0);
            }
            let length = self.held.len();
            self.held.resize(length + CHUNK, 0);
            let read = self.input.read(&mut self.held[length..]);
            self.held.truncate(length + *read.as_ref().unwrap_or(&0));
            if read? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        let length = buffer.len().min(self.held.len() - MARK);
        buffer[..length].copy_from_slice(&self.held[..length]);
        self.held.drain(..length);
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const END: [u8; MARK] = [b'e'; MARK];

    /// However it is cut into reads; and bytes that begin as the mark does are none.
    #[test]
    fn the_mark_is_the_end() {
        let data = [&b"snapshot"[..], &END[..MARK - 1], b"x"].concat();
        let all = [&data[..], &END].concat();
        struct Pieces<'a>(std::slice::Chunks<'a, u8>);
        impl Read for Pieces<'_> {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                let piece = self.0.next().unwrap_or_default();
                buffer[..piece.len()].copy_from_slice(piece);
                Ok(piece.len())
            }
        }
        for (length, held) in (1..=all.len()).flat_map(|length| [(length, 0), (length, 5)]) {
            let mut input = UntilMark {
                input: Pieces(all[held..].chunks(length)),
                mark: END,
                held: all[..held].to_vec(),
            };
            let mut read = Vec::new();
            input.read_to_end(&mut read).unwrap();
            assert_eq!(read, data, "{length}");
        }
        let mut cut = UntilMark {
            input: &all[..all.len() - 1],
            mark: END,
            held: vec![],
        };
        let error = cut.read_to_end(&mut Vec::new()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }

    fn snapshot(answer: &[u8]) -> Result<Snapshot> {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        io::Write::write_all(&mut theirs, answer).unwrap();
        drop(theirs);
        Replica(Client::new(ours)).snapshot()
    }

    #[test]
    fn what_is_no_such_snapshot() {
        for (answer, expected) in [
            (&b"$1234\r\n"[..], "begins with \"$1234\""),
            (b"\n\n$EOF:short\r\n", "begins with \"$EOF:short\""),
            (b"\n", "has not sent a snapshot"),
            (b"$EOF:", "has not sent a snapshot"),
        ] {
            let error = snapshot(answer).err().unwrap().to_string();
            assert!(error.contains(expected), "{error}");
        }
        let begin = [b"\n$EOF:", &END[..], b"\r\nREDIS0010"].concat();
        assert!(snapshot(&[&begin[..], &END].concat()).is_ok());
    }
}
