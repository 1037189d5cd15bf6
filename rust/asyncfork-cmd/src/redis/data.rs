// SPDX-License-Identifier: GPL-2.0

//! What the servers of the benchmark hold: values that tell who wrote them, and when.

use std::io::Read;
use std::iter;
use std::path::Path;
use std::str;

use anyhow::Result;
use anyhow::bail;

use super::Client;
use super::Info;
use super::rdb;
use super::resp;
use super::resp::Reply;
use crate::interrupt;

/// Commands sent before their replies are read.
const BATCH: u64 = 256;
/// Bytes of a value that are its sequence number.
const SEQUENCE: usize = size_of::<u64>();

/// `keys` values, each a function of its key and a sequence number; that is 0 until a client has
/// written to the key.
#[derive(Clone, Copy)]
pub struct Data {
    pub keys: u64,
    /// Bytes per value
    value_size: usize,
}

/// What a server has under one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value {
    /// The value with this sequence number, whole
    Whole(u32),
    Missing,
    /// A value that was never written to this key
    Foreign,
}

/// What a server has, or a snapshot: eight bytes per key.
pub struct Contents {
    /// Number of keys, whichever they are
    pub size: u64,
    /// By key
    pub values: Vec<Value>,
}

impl Data {
    /// Bytes of the smallest value: a sequence number, and as much that depends on the key.
    pub const MIN_VALUE_SIZE: usize = 2 * SEQUENCE;

    /// No keys yet. Values have `value_size` bytes, at least
    /// [`MIN_VALUE_SIZE`](Self::MIN_VALUE_SIZE).
    pub fn new(value_size: usize) -> Self {
        Self {
            keys: 0,
            value_size,
        }
    }

    /// Writes values until the server uses `bytes` of memory. `progress` is told the bytes used so
    /// far.
    ///
    /// # Errors
    ///
    /// Those of the connection and of the server.
    pub fn fill(
        client: &mut Client,
        bytes: u64,
        value_size: usize,
        mut progress: impl FnMut(u64),
    ) -> Result<Self> {
        let mut data = Self::new(value_size);
        loop {
            let used = Info::read(client, "memory")?.number("used_memory")?;
            progress(used);
            if used >= bytes {
                return Ok(data);
            }
            for key in data.keys..data.keys + BATCH {
                data.push_set(client.out(), key, 0);
            }
            client.send()?;
            for _ in 0..BATCH {
                client.reply()?;
            }
            data.keys += BATCH;
        }
    }

    /// Reads every key of a server.
    ///
    /// # Errors
    ///
    /// Those of the connection and of the server. What the server has is none.
    pub fn read(&self, client: &mut Client) -> Result<Contents> {
        let size = client.command(&["DBSIZE"])?;
        let Ok(size) = size.parse() else {
            bail!("DBSIZE was answered with {size}");
        };
        // The server looks one batch up while this reads the one before.
        let batches = || (0..self.keys).step_by(BATCH as usize);
        let batch = |first| first..self.keys.min(first + BATCH);
        let mut asked = batches();
        let mut ask = |client: &mut Client| {
            if let Some(first) = asked.next() {
                let names: Vec<_> = batch(first).map(name).collect();
                let keys = names.iter().map(|name| name.as_bytes());
                client.push(
                    &iter::once(b"MGET".as_slice())
                        .chain(keys)
                        .collect::<Vec<_>>(),
                );
            }
            client.send()
        };
        ask(client)?;
        let mut values = Vec::with_capacity(self.keys as usize);
        for first in batches() {
            ask(client)?;
            let Reply::Array(replies) = client.reply()? else {
                bail!("MGET was not answered with an array");
            };
            for (key, reply) in batch(first).zip(replies) {
                values.push(match reply {
                    Reply::Text(bytes) => self.identify(key, bytes),
                    _ => Value::Missing,
                });
            }
        }
        Ok(Contents { size, values })
    }

    /// Reads every key of a snapshot in the file `path`, from its begin to its end, without keeping
    /// more of it than one value.
    ///
    /// # Errors
    ///
    /// Those of the file, that it is no snapshot of strings in one database, or not a whole one,
    /// and an interrupt. What the keys hold is none.
    pub fn read_file(&self, path: &Path) -> Result<Contents> {
        self.read_snapshot(rdb::Reader::open(path)?)
    }

    /// The same of one that comes from elsewhere.
    ///
    /// # Errors
    ///
    /// The same, of what it comes from.
    pub fn read_snapshot<R: Read>(&self, mut snapshot: rdb::Reader<R>) -> Result<Contents> {
        let mut contents = Contents {
            size: 0,
            values: vec![Value::Missing; self.keys as usize],
        };
        while let Some((name, bytes)) = snapshot.next()? {
            if contents.size % BATCH == 0 {
                interrupt::check()?;
            }
            contents.size += 1;
            let Some(key) = number(name) else { continue };
            if let Some(value) = contents.values.get_mut(key as usize) {
                *value = self.identify(key, bytes);
            }
        }
        Ok(contents)
    }

    /// Adds the SET of `key` with `sequence` to the commands in `out`.
    pub fn push_set(&self, out: &mut Vec<u8>, key: u64, sequence: u32) {
        let mut value = Vec::with_capacity(self.value_size);
        self.value(key, sequence, |bytes| {
            value.extend_from_slice(bytes);
            true
        });
        resp::push(out, &[b"SET", name(key).as_bytes(), &value]);
    }

    /// Adds the GET of `key` to the commands in `out`.
    pub fn push_get(&self, out: &mut Vec<u8>, key: u64) {
        resp::push(out, &[b"GET", name(key).as_bytes()]);
    }

    /// Hands the value of `key` with `sequence` to `each`, eight bytes after eight bytes, as long
    /// as that returns true; and returns whether it always did. A value is its sequence number, and
    /// noise that is a function of both, so that every page of it differs from every other and from
    /// zero.
    fn value(&self, key: u64, sequence: u32, mut each: impl FnMut(&[u8]) -> bool) -> bool {
        let sequence = u64::from(sequence);
        let mut noise = Noise(key.wrapping_mul(0xd6e8_feb8_6659_fd93) ^ sequence);
        let mut left = self.value_size - SEQUENCE;
        let mut go_on = each(&sequence.to_le_bytes());
        while go_on && left > 0 {
            let length = left.min(8);
            go_on = each(&noise.next().to_le_bytes()[..length]);
            left -= length;
        }
        go_on
    }

    /// What `bytes` are as a value of `key`.
    pub fn identify(&self, key: u64, bytes: &[u8]) -> Value {
        let sequence = bytes.first_chunk().map(|head| u64::from_le_bytes(*head));
        let Some(Ok(sequence)) = sequence.map(u32::try_from) else {
            return Value::Foreign;
        };
        let mut left = bytes;
        let same = self.value(key, sequence, |expected| {
            let (found, rest) = left.split_at(left.len().min(expected.len()));
            left = rest;
            found == expected
        });
        if same && left.is_empty() {
            Value::Whole(sequence)
        } else {
            Value::Foreign
        }
    }
}

fn name(key: u64) -> String {
    format!("key:{key:012}")
}

/// The key that has this name.
fn number(bytes: &[u8]) -> Option<u64> {
    let digits = str::from_utf8(bytes).ok()?.strip_prefix("key:")?;
    let key = digits.parse().ok()?;
    (name(key).as_bytes() == bytes).then_some(key)
}

/// splitmix64.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const _: () = assert!(size_of::<Value>() == 8);

    fn value(data: Data, key: u64, sequence: u32) -> Vec<u8> {
        let mut value = Vec::new();
        data.value(key, sequence, |bytes| {
            value.extend_from_slice(bytes);
            true
        });
        value
    }

    #[test]
    fn a_value_says_what_it_is() {
        for size in [Data::MIN_VALUE_SIZE, 21, 1000] {
            let data = Data::new(size);
            let value = value(data, 3, 7);
            assert_eq!(value.len(), size);
            assert_eq!(data.identify(3, &value), Value::Whole(7));
            assert_eq!(data.identify(4, &value), Value::Foreign);
            assert_eq!(data.identify(3, &value[1..]), Value::Foreign);
            assert_eq!(data.identify(3, &value[..size - 1]), Value::Foreign);
            assert_eq!(
                data.identify(3, &[&value[..], b"x"].concat()),
                Value::Foreign
            );
            assert_eq!(data.identify(3, b""), Value::Foreign);
        }
    }

    #[test]
    fn one_changed_byte_is_seen() {
        let data = Data::new(100);
        for byte in 0..100 {
            let mut value = value(data, 3, 7);
            value[byte] ^= 1;
            assert_eq!(data.identify(3, &value), Value::Foreign, "{byte}");
        }
        // Half of one value, half of the next: a page that was copied too late.
        let (old, new) = (value(data, 3, 7), value(data, 3, 8));
        let torn = [&old[..50], &new[50..]].concat();
        assert_eq!(data.identify(3, &torn), Value::Foreign);
    }

    #[test]
    fn names() {
        for key in [0, 3, 999_999_999_999, 1_000_000_000_000] {
            assert_eq!(number(name(key).as_bytes()), Some(key));
        }
        for other in [
            &b""[..],
            b"key:",
            b"key:3",
            b"key:+00000000003",
            b"kez:000000000003",
            b"\xff",
        ] {
            assert_eq!(number(other), None);
        }
    }
}
