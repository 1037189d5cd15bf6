// SPDX-License-Identifier: GPL-2.0

//! What a process may still take of memory, by its memory cgroups.

use std::fs;
use std::path::Path;
use std::path::PathBuf;

/// What is known of the limits of a process.
#[derive(Debug, PartialEq, Eq)]
pub enum Limit {
    /// No group has one
    None,
    /// It cannot be read, and why
    Unknown(&'static str),
    /// The group that has the least left
    Group(Group),
}

/// A group with a limit.
#[derive(Debug, PartialEq, Eq)]
pub struct Group {
    pub path: PathBuf,
    pub max_kib: u64,
    pub current_kib: u64,
    /// Of that, what is files, and can be dropped for something else
    pub files_kib: u64,
}

impl Group {
    pub fn left_kib(&self) -> u64 {
        self.max_kib.saturating_sub(self.current_kib)
    }
}

/// Of the groups that `cgroup` (`/proc/PID/cgroup`) names and all that they are in, below the mount
/// that `mountinfo` has of them.
pub fn limit(root: &Path, cgroup: &str, mountinfo: &str) -> Limit {
    if cgroup.lines().any(|line| {
        let controllers = line.split(':').nth(1).unwrap_or("");
        controllers.split(',').any(|name| name == "memory")
    }) {
        return Limit::Unknown("they are of version 1: see memory.limit_in_bytes");
    }
    let Some(path) = cgroup.lines().find_map(|line| line.strip_prefix("0::/")) else {
        return Limit::None;
    };
    let Some((seen, mount)) = mountinfo.lines().find_map(mounted) else {
        return Limit::Unknown("no cgroup2 is mounted here");
    };
    // The mount may show a part of the tree only, and the process be elsewhere.
    let below = Path::new("/").join(path.trim_end_matches(" (deleted)"));
    let below = match below.strip_prefix(seen) {
        Ok(below) if !path.contains("..") => below,
        _ => return Limit::Unknown("its group cannot be seen from here"),
    };
    let top = root.join(mount.trim_start_matches('/'));
    let mut groups: Vec<Group> = (below.ancestors())
        .filter_map(|below| read(&top.join(below), &Path::new(mount).join(below)))
        .collect();
    groups.sort_by_key(Group::left_kib);
    match groups.into_iter().next() {
        Some(group) => Limit::Group(group),
        None => Limit::None,
    }
}

/// Which part of the tree a line of mountinfo mounts, and where, if it is a cgroup2.
fn mounted(line: &str) -> Option<(&str, &str)> {
    let (mount, file_system) = line.split_once(" - ")?;
    let mut words = mount.split(' ').skip(3);
    let words = (words.next()?, words.next()?);
    file_system.starts_with("cgroup2 ").then_some(words)
}

/// None if it has no limit.
fn read(directory: &Path, path: &Path) -> Option<Group> {
    let text = |name| fs::read_to_string(directory.join(name)).ok();
    let kib = |name| Some(text(name)?.trim().parse::<u64>().ok()? >> 10);
    let stat = text("memory.stat").unwrap_or_default();
    let files = stat.lines().filter_map(|line| {
        let (name, bytes) = line.split_once(' ')?;
        let is_file = matches!(name, "active_file" | "inactive_file");
        is_file.then(|| bytes.parse::<u64>().ok())?
    });
    Some(Group {
        path: path.to_owned(),
        max_kib: kib("memory.max")?,
        current_kib: kib("memory.current")?,
        files_kib: files.sum::<u64>() >> 10,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "\
        23 28 0:22 / /proc rw,nosuid - proc proc rw\n\
        30 24 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";

    /// Groups, each with memory.max and memory.current (KiB or a word).
    fn groups(groups: &[(&str, &str, u64)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, max, current) in groups {
            let directory = root.path().join("sys/fs/cgroup").join(path);
            fs::create_dir_all(&directory).unwrap();
            let write = |name, text: String| fs::write(directory.join(name), text).unwrap();
            let max = max.parse::<u64>().map(|kib| (kib << 10).to_string());
            write("memory.max", max.unwrap_or("max".into()) + "\n");
            write("memory.current", format!("{}\n", current << 10));
            let stat = "anon 5\nfile 99999999\nactive_file 1048576\ninactive_file 2097152\n";
            write("memory.stat", stat.into());
        }
        root
    }

    #[test]
    fn the_ancestor_with_the_least_left() {
        let root = groups(&[
            ("", "none", 9),
            ("a", "5000", 4900),
            ("a/b", "3000", 100),
            ("a/b/c", "max", 50),
        ]);
        let found = limit(root.path(), "0::/a/b/c\n", MOUNTS);
        let expected = Group {
            path: "/sys/fs/cgroup/a".into(),
            max_kib: 5000,
            current_kib: 4900,
            files_kib: 3072,
        };
        assert_eq!(expected.left_kib(), 100);
        assert_eq!(found, Limit::Group(expected));
        assert_eq!(limit(root.path(), "0::/\n", MOUNTS), Limit::None);
        // More than there may be.
        let root = groups(&[("x", "10", 20)]);
        let Limit::Group(group) = limit(root.path(), "0::/x\n", MOUNTS) else {
            panic!("has a limit");
        };
        assert_eq!(group.left_kib(), 0);
    }

    #[test]
    fn a_part_of_the_tree() {
        let root = groups(&[("c", "4000", 1000)]);
        let mounts = "30 24 0:26 /pod/x /sys/fs/cgroup ro - cgroup2 cgroup rw\n";
        let Limit::Group(group) = limit(root.path(), "0::/pod/x/c\n", mounts) else {
            panic!("has a limit");
        };
        assert_eq!(group.path, Path::new("/sys/fs/cgroup/c"));
        for elsewhere in ["0::/other\n", "0::/../x\n"] {
            let found = limit(root.path(), elsewhere, mounts);
            assert!(matches!(found, Limit::Unknown(_)), "{elsewhere}");
        }
    }

    #[test]
    fn without_groups() {
        let root = groups(&[]);
        assert_eq!(limit(root.path(), "", MOUNTS), Limit::None);
        assert_eq!(
            limit(root.path(), "0::/gone (deleted)\n", MOUNTS),
            Limit::None
        );
        let first = "5:memory,hugetlb:/a\n0::/b\n";
        assert!(matches!(
            limit(root.path(), first, MOUNTS),
            Limit::Unknown(_)
        ));
        assert!(matches!(
            limit(root.path(), "0::/b\n", ""),
            Limit::Unknown(_)
        ));
    }
}
