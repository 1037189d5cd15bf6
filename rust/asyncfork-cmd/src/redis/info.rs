// SPDX-License-Identifier: GPL-2.0

//! The reply to INFO.

use std::str::FromStr;

use anyhow::Context;
use anyhow::Result;

use super::Client;

pub struct Info(String);

impl Info {
    pub fn read(client: &mut Client, section: &str) -> Result<Self> {
        client.command(&["INFO", section]).map(Self)
    }

    pub fn text(&self, name: &str) -> Result<&str> {
        let value = |line: &str| line.strip_prefix(name)?.strip_prefix(':').map(str::len);
        let line = self.0.lines().find(|line| value(line).is_some());
        line.map(|line| &line[name.len() + 1..])
            .with_context(|| format!("the server's INFO has no {name}"))
    }

    pub fn number<T: FromStr>(&self, name: &str) -> Result<T> {
        let text = self.text(name)?;
        text.parse()
            .ok()
            .with_context(|| format!("the server's INFO has {name}:{text}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields() {
        let info = Info(
            "# Persistence\r\nloading:0\r\nrdb_last_bgsave_status:ok\r\nused_memory_human:1M\r\n\
            used_memory:1048576\r\nrdb_last_bgsave_time_sec:-1\r\n"
                .into(),
        );
        assert_eq!(info.text("rdb_last_bgsave_status").unwrap(), "ok");
        assert_eq!(info.number::<u64>("used_memory").unwrap(), 1 << 20);
        assert_eq!(info.number::<i64>("rdb_last_bgsave_time_sec").unwrap(), -1);
        assert_eq!(
            info.number::<u64>("rdb").unwrap_err().to_string(),
            "the server's INFO has no rdb"
        );
        assert!(info.number::<u64>("rdb_last_bgsave_status").is_err());
    }
}
