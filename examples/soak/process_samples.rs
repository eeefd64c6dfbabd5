//! Memory and descriptors of a process, and the space of a directory.

use std::{collections::BTreeMap, fs, io, os::unix::fs::MetadataExt as _, path::Path};

/// The open descriptors of a process, by kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Descriptors {
    pub(crate) sockets: u64,
    pub(crate) files: u64,
    /// Files that are no longer in any directory.
    pub(crate) deleted: u64,
    pub(crate) others: u64,
}

impl Descriptors {
    /// Those of a running process.
    pub(crate) fn of(pid: u32) -> io::Result<Self> {
        let mut all = Self::default();
        for entry in fs::read_dir(format!("/proc/{pid}/fd"))? {
            let Ok(target) = fs::read_link(entry?.path()) else { continue };
            let target = target.to_string_lossy().into_owned();
            match target {
                _ if target.starts_with("socket:") => all.sockets += 1,
                _ if target.ends_with(" (deleted)") => all.deleted += 1,
                _ if target.starts_with('/') => all.files += 1,
                _ => all.others += 1,
            }
        }
        Ok(all)
    }

    pub(crate) fn count(&self) -> u64 {
        self.sockets + self.files + self.deleted + self.others
    }
}

/// Bytes of memory that belong to a process alone: without the pages of the files that it maps.
pub(crate) fn anonymous_memory(pid: u32) -> io::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let fields: BTreeMap<&str, &str> = status.lines().filter_map(|line| line.split_once(':')).collect();
    let kib = fields.get("RssAnon").and_then(|value| value.trim().strip_suffix("kB"));
    let kib = kib.and_then(|kib| kib.trim().parse::<u64>().ok());
    Ok(kib.ok_or_else(|| io::Error::other("no RssAnon"))? << 10)
}

/// The space of all files below a directory in bytes; files that vanish during the walk are skipped.
pub(crate) fn space(dir: &Path) -> u64 {
    let mut bytes = 0;
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            match entry.metadata() {
                Ok(stat) if stat.is_dir() => folders.push(entry.path()),
                Ok(stat) => bytes += stat.blocks() * 512,
                Err(_) => {}
            }
        }
    }
    bytes
}

/// Number of files in one folder.
pub(crate) fn count_files(folder: &Path) -> usize {
    fs::read_dir(folder).into_iter().flatten().count()
}
