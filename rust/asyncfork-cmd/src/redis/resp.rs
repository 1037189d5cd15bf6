// SPDX-License-Identifier: GPL-2.0

//! The protocol (RESP 2): commands to bytes, and bytes to replies as they come.

use std::io;
use std::io::Read;

use anyhow::Result;
use anyhow::bail;
use redis_protocol::resp2::decode::decode_range;
use redis_protocol::resp2::encode::encode_borrowed;
use redis_protocol::resp2::types::BorrowedFrame;
use redis_protocol::resp2::types::RangeFrame;

/// Bytes that are read at once, if as many have arrived.
const CHUNK: usize = 16 << 10;

/// One reply.
#[derive(Debug, PartialEq, Eq)]
pub enum Reply<'a> {
    Text(&'a [u8]),
    Number(i64),
    Nil,
    Error(&'a [u8]),
    Array(Vec<Reply<'a>>),
}

/// Where a reply is in an [`Input`], until that reads more.
pub struct Frame {
    start: usize,
    frame: RangeFrame,
}

/// What has arrived of a connection and was not looked at yet.
#[derive(Default)]
pub struct Input {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

/// Adds a command to `out`.
pub fn push(out: &mut Vec<u8>, arguments: &[&[u8]]) {
    let arguments: Vec<_> = arguments
        .iter()
        .map(|bytes| BorrowedFrame::BulkString(bytes))
        .collect();
    let command = BorrowedFrame::Array(&arguments);
    let start = out.len();
    out.resize(start + command.encode_len(false), 0);
    encode_borrowed(&mut out[start..], &command, false).expect("there is room for the command");
}

impl Input {
    /// Reads once, and returns how many bytes; none means that the connection has ended.
    ///
    /// # Errors
    ///
    /// Those of `read()`.
    pub fn fill(&mut self, stream: &mut impl Read) -> io::Result<usize> {
        if self.start > 0 {
            self.bytes.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        // Twice as much for a reply that does not fit, which is looked at again after each read.
        if self.bytes.len() - self.end < CHUNK {
            self.bytes.resize(2 * self.bytes.len() + CHUNK, 0);
        }
        let count = stream.read(&mut self.bytes[self.end..])?;
        self.end += count;
        Ok(count)
    }

    /// What has arrived and was not looked at.
    pub fn into_rest(mut self) -> Vec<u8> {
        self.bytes.truncate(self.end);
        self.bytes.split_off(self.start)
    }

    /// The next reply, if all of it has arrived.
    ///
    /// # Errors
    ///
    /// One that is not RESP 2.
    pub fn decode(&mut self) -> Result<Option<Frame>> {
        let bytes = &self.bytes[self.start..self.end];
        match decode_range(bytes) {
            Ok(None) => Ok(None),
            Ok(Some((frame, length))) => {
                let start = self.start;
                self.start += length;
                Ok(Some(Frame { start, frame }))
            }
            Err(_) => {
                let line = bytes.split(|byte| *byte == b'\r').next();
                bail!(
                    "a reply this client does not know: {}",
                    String::from_utf8_lossy(line.unwrap_or_default())
                )
            }
        }
    }

    /// The reply that [`decode()`](Self::decode) has found last.
    pub fn reply(&self, frame: &Frame) -> Reply<'_> {
        self.convert(frame.start, &frame.frame)
    }

    fn convert(&self, start: usize, frame: &RangeFrame) -> Reply<'_> {
        let bytes = |(from, to): (usize, usize)| &self.bytes[start + from..start + to];
        match frame {
            RangeFrame::SimpleString(range) | RangeFrame::BulkString(range) => {
                Reply::Text(bytes(*range))
            }
            RangeFrame::Integer(number) => Reply::Number(*number),
            RangeFrame::Null => Reply::Nil,
            RangeFrame::Error(range) => Reply::Error(bytes(*range)),
            RangeFrame::Array(frames) => Reply::Array(
                frames
                    .iter()
                    .map(|frame| self.convert(start, frame))
                    .collect(),
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encodes() {
        let mut out = b"before".to_vec();
        push(&mut out, &[b"SET", b"k", b"\x00\r\n"]);
        assert_eq!(
            out,
            b"before*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$3\r\n\x00\r\n\r\n"
        );
    }

    /// However the bytes are cut into reads.
    #[test]
    fn decodes() {
        let bytes =
            b"+OK\r\n:12\r\n$4\r\na\r\nb\r\n$-1\r\n$0\r\n\r\n-ERR no\r\n*2\r\n:1\r\n$1\r\nx\r\n%1\r\n";
        let expected = [
            Reply::Text(b"OK"),
            Reply::Number(12),
            Reply::Text(b"a\r\nb"),
            Reply::Nil,
            Reply::Text(b""),
            Reply::Error(b"ERR no"),
            Reply::Array(vec![Reply::Number(1), Reply::Text(b"x")]),
        ];
        for length in 1..=bytes.len() {
            let mut input = Input::default();
            let mut expected = expected.iter();
            let mut chunks = bytes.chunks(length);
            let error = loop {
                match input.decode() {
                    Ok(Some(frame)) => assert_eq!(Some(&input.reply(&frame)), expected.next()),
                    Ok(None) => {
                        let mut chunk = chunks.next().expect("there is an error at the end");
                        let length = chunk.len();
                        assert_eq!(input.fill(&mut chunk).unwrap(), length);
                    }
                    Err(error) => break error,
                }
            };
            assert_eq!(expected.next(), None);
            assert!(
                error
                    .to_string()
                    .starts_with("a reply this client does not know: %"),
                "{error}"
            );
        }
    }
}
