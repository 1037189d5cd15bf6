// SPDX-License-Identifier: GPL-2.0

//! The file that BGSAVE writes (RDB), read from its begin to its end: the strings of one database.

use std::fs::File;
use std::io;
use std::io::BufReader;
use std::io::Read;
use std::path::Path;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use crc::CRC_64_REDIS;
use crc::Crc;
use crc::Digest;
use crc::Table;

/// Bytes read from the file at once.
const BUFFER: usize = 1 << 20;
/// Bytes of the longest string there is.
const MAX_STRING: u64 = 512 << 20;

/// A pair of strings with a name, about the file.
const AUX: u8 = 0xfa;
const RESIZE_DB: u8 = 0xfb;
const SELECT_DB: u8 = 0xfe;
const END: u8 = 0xff;
/// The type of a string.
const STRING: u8 = 0;

static CHECKSUM: Crc<u64, Table<16>> = Crc::<u64, Table<16>>::new(&CRC_64_REDIS);

pub struct Reader<R = BufReader<File>> {
    input: R,
    digest: Digest<'static, u64, Table<16>>,
    key: Vec<u8>,
    value: Vec<u8>,
    /// As it is in the file
    compressed: Vec<u8>,
}

/// What the length before a string says.
enum Length {
    Bytes(u64),
    /// The string is a number, and takes so many bytes in the file.
    Number(u8),
    Compressed,
}

impl Reader {
    /// # Errors
    ///
    /// Those of the file, and that it is no RDB file.
    pub fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
        Self::new(BufReader::with_capacity(BUFFER, file))
    }
}

impl<R: Read> Reader<R> {
    /// # Errors
    ///
    /// Those of the input, and that it is no RDB file.
    pub fn new(input: R) -> Result<Self> {
        let mut reader = Self {
            input,
            digest: CHECKSUM.digest(),
            key: Vec::new(),
            value: Vec::new(),
            compressed: Vec::new(),
        };
        let magic: [u8; 9] = reader.bytes()?;
        if !magic.starts_with(b"REDIS") && !magic.starts_with(b"VALKEY") {
            bail!("the snapshot is no RDB file");
        }
        Ok(reader)
    }

    /// The next key and its value; none at the end, where the checksum was found to be right.
    ///
    /// # Errors
    ///
    /// Those of the file, that it ends early or goes on after its end, a wrong checksum or none,
    /// and anything but strings in database 0.
    pub fn next(&mut self) -> Result<Option<(&[u8], &[u8])>> {
        loop {
            match self.byte()? {
                STRING => break,
                AUX => {
                    self.string(|reader| &mut reader.key)?;
                    self.string(|reader| &mut reader.value)?;
                }
                RESIZE_DB => {
                    self.count()?;
                    self.count()?;
                }
                SELECT_DB => {
                    let database = self.count()?;
                    if database != 0 {
                        bail!("the snapshot has a database {database}");
                    }
                }
                END => return self.end().map(|()| None),
                other => bail!("the snapshot has more than strings (type or code {other})"),
            }
        }
        self.string(|reader| &mut reader.key)?;
        self.string(|reader| &mut reader.value)?;
        Ok(Some((&self.key, &self.value)))
    }

    fn end(&mut self) -> Result<()> {
        let counted = self.digest.clone().finalize();
        let found = u64::from_le_bytes(self.bytes()?);
        if found == 0 {
            bail!("the snapshot has no checksum");
        }
        if found != counted {
            bail!("the snapshot's checksum is {found:016x}, its bytes have {counted:016x}");
        }
        if self.input.read(&mut [0])? != 0 {
            bail!("the snapshot goes on after its end");
        }
        Ok(())
    }

    /// A string, into the buffer that `target` names.
    fn string(&mut self, target: fn(&mut Self) -> &mut Vec<u8>) -> Result<()> {
        let mut bytes = std::mem::take(target(self));
        match self.length()? {
            Length::Bytes(length) => self.fill(&mut bytes, length)?,
            Length::Number(size) => {
                self.fill(&mut bytes, size.into())?;
                let mut wide = [if bytes[bytes.len() - 1] < 0x80 {
                    0
                } else {
                    0xff
                }; 4];
                wide[..bytes.len()].copy_from_slice(&bytes);
                bytes = i32::from_le_bytes(wide).to_string().into_bytes();
            }
            Length::Compressed => {
                let (length, full) = (self.count()?, self.count()?);
                let mut compressed = std::mem::take(&mut self.compressed);
                self.fill(&mut compressed, length)?;
                bytes = lzf::decompress(&compressed, bounded(full)?)
                    .ok()
                    .filter(|bytes| bytes.len() as u64 == full)
                    .context("the snapshot has a string that cannot be decompressed")?;
                self.compressed = compressed;
            }
        }
        *target(self) = bytes;
        Ok(())
    }

    fn length(&mut self) -> Result<Length> {
        let first = self.byte()?;
        let low = first & 0x3f;
        Ok(match first >> 6 {
            0 => Length::Bytes(low.into()),
            1 => Length::Bytes(u64::from(low) << 8 | u64::from(self.byte()?)),
            2 if first == 0x80 => Length::Bytes(u32::from_be_bytes(self.bytes()?).into()),
            2 if first == 0x81 => Length::Bytes(u64::from_be_bytes(self.bytes()?)),
            3 if low < 3 => Length::Number(1 << low),
            3 if low == 3 => Length::Compressed,
            _ => bail!("the snapshot has a length that is none (code {first})"),
        })
    }

    fn count(&mut self) -> Result<u64> {
        match self.length()? {
            Length::Bytes(count) => Ok(count),
            _ => bail!("the snapshot has a string where a number must be"),
        }
    }

    fn byte(&mut self) -> Result<u8> {
        self.bytes().map(|[byte]| byte)
    }

    fn bytes<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut bytes = [0; N];
        self.input.read_exact(&mut bytes).map_err(explain)?;
        self.digest.update(&bytes);
        Ok(bytes)
    }

    fn fill(&mut self, bytes: &mut Vec<u8>, length: u64) -> Result<()> {
        bytes.resize(bounded(length)?, 0);
        self.input.read_exact(bytes).map_err(explain)?;
        self.digest.update(bytes);
        Ok(())
    }
}

fn bounded(length: u64) -> Result<usize> {
    if length > MAX_STRING {
        bail!("the snapshot has a string of {length} bytes");
    }
    Ok(length as usize)
}

fn explain(error: io::Error) -> anyhow::Error {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => anyhow::anyhow!("the snapshot ends early"),
        _ => anyhow::Error::new(error).context("cannot read the snapshot"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file with `body` between magic and end, and its checksum.
    fn file(body: &[u8]) -> Vec<u8> {
        let mut file = [b"REDIS0010", body, &[END]].concat();
        let checksum = CHECKSUM.checksum(&file);
        file.extend_from_slice(&checksum.to_le_bytes());
        file
    }

    fn read(file: &[u8]) -> Result<Vec<(String, String)>> {
        let mut reader = Reader::new(file)?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let mut all = Vec::new();
        while let Some((key, value)) = reader.next()? {
            all.push((text(key), text(value)));
        }
        Ok(all)
    }

    #[track_caller]
    fn fails(file: &[u8], expected: &str) {
        let error = read(file).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }

    /// Two keys, after what a server puts before them.
    const BODY: &[u8] =
        b"\xfa\x09redis-ver\x067.0.15\xfa\x0aredis-bits\xc0\x40\xfe\x00\xfb\x02\x00\
        \x00\x01a\x03one\x00\x01b\x03two";

    #[test]
    fn strings() {
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        let expected = [pair("a", "one"), pair("b", "two")];
        assert_eq!(read(&file(BODY)).unwrap(), expected);
        assert_eq!(read(&file(b"")).unwrap(), []);
        let valkey = [b"VALKEY080", BODY, &[END]].concat();
        let checksum = CHECKSUM.checksum(&valkey).to_le_bytes();
        assert_eq!(read(&[&valkey[..], &checksum].concat()).unwrap(), expected);
    }

    /// However a length is written, and what numbers and compressed strings stand for.
    #[test]
    fn lengths() {
        let long = "x".repeat(300);
        for (value, expected) in [
            (b"\x03abc".to_vec(), "abc"),
            (b"\x40\x03abc".to_vec(), "abc"),
            (b"\x80\0\0\0\x03abc".to_vec(), "abc"),
            (b"\x81\0\0\0\0\0\0\0\x03abc".to_vec(), "abc"),
            ([b"\x41\x2c", long.as_bytes()].concat(), &long),
            (b"\xc0\xff".to_vec(), "-1"),
            (b"\xc1\x39\x30".to_vec(), "12345"),
            (b"\xc1\xc7\xcf".to_vec(), "-12345"),
            (b"\xc2\x15\xcd\x5b\x07".to_vec(), "123456789"),
            // A literal, and a reference to it of 9 bytes.
            (b"\xc3\x05\x0a\x00a\xe0\x00\x00".to_vec(), "aaaaaaaaaa"),
        ] {
            let body = [b"\x00\x01k", &value[..]].concat();
            assert_eq!(read(&file(&body)).unwrap()[0].1, expected, "{value:x?}");
        }
    }

    #[test]
    fn every_changed_byte_is_seen() {
        let good = file(BODY);
        for byte in 0..good.len() {
            for bit in 0..8 {
                let mut bad = good.clone();
                bad[byte] ^= 1 << bit;
                assert!(read(&bad).is_err(), "{byte}");
            }
        }
    }

    #[test]
    fn every_missing_end_is_seen() {
        let good = file(BODY);
        for length in 0..good.len() {
            fails(&good[..length], "ends early");
        }
        fails(&[&good[..], b"x"].concat(), "goes on after its end");
    }

    #[test]
    fn what_cannot_be_compared() {
        fails(b"REDID0010", "no RDB file");
        fails(&file(b"\xfe\x01"), "a database 1");
        fails(&file(b"\x01\x01k"), "more than strings (type or code 1)");
        fails(&file(b"\xfc12345678"), "more than strings");
        fails(&file(b"\x00\x01k\x82"), "a length that is none");
        fails(
            &file(b"\x00\x01k\x80\xff\xff\xff\xff"),
            "a string of 4294967295 bytes",
        );
        fails(
            &file(b"\x00\x01k\xc3\x02\x0a\x00a"),
            "cannot be decompressed",
        );
        let mut none = file(BODY);
        let end = none.len() - 8;
        none[end..].fill(0);
        fails(&none, "no checksum");
    }
}
