//! How the memory of `memory.limit` is shared out.

use std::{fs, path::Path};

use crate::{
    registry::MAX_PARSED_BYTES,
    storage::memory::{self, MIN_MEMORY_LIMIT},
    value::{ByteSize, memory_budget::MemoryBudget},
};

/// Caches of a fixed size: plans of views and their digests, facts of releases and folders, look-ups of the disk tier and
/// of documents that are not stored, lists of registries, the table of clients, and the responses of the connection
/// threads. ARCHITECTURE.md has the table.
const FIXED_CACHE_BYTES: u64 = 120 << 20;
/// Largest default of `memory.limit`, bytes.
const MOST_LIMIT: u64 = 4 << 30;
/// Most bytes of renditions in memory.
const MAX_RENDITION_BYTES: u64 = 32 << 20;

/// What each part may take, bytes.
#[derive(Debug)]
pub(super) struct MemoryPlan {
    /// The configured section with the caps that hold.
    pub(super) section: memory::Config,
    /// Cap of the cache of renditions.
    pub(super) renditions: u64,
    /// Bytes that wait for HTTP/2 clients.
    send: u64,
    /// Small archives, renditions, parsed documents, and all work under way.
    shared: u64,
}

impl MemoryPlan {
    /// Shares out what is configured, or a quarter of this machine's memory.
    pub(super) fn new(section: &memory::Config) -> Self {
        let limit = section.limit.unwrap_or_else(default_limit).0.max(MIN_MEMORY_LIMIT.0);
        let documents = section.documents.0.min(limit / 10);
        let archives = section.archives.0.min(limit / 6);
        let send = limit / 32;
        let section = memory::Config {
            limit: Some(ByteSize(limit)),
            documents: ByteSize(documents),
            archives: ByteSize(archives),
            archive_max: ByteSize(section.archive_max.0.min(archives)),
        };
        let shared = limit.saturating_sub(documents + FIXED_CACHE_BYTES + send);
        Self { section, renditions: MAX_RENDITION_BYTES.min(limit / 32), send, shared }
    }

    /// The budget of bytes that wait for HTTP/2 clients. It is separate, so that clients which do not read take none of the
    /// memory that other requests need.
    pub(super) fn send_budget(&self) -> MemoryBudget {
        MemoryBudget::new(self.send, self.send)
    }

    /// The budget that small archives, renditions and all work under way share. The largest piece of work finds room when
    /// the caches are full and nothing else is under way.
    pub(super) fn budget(&self) -> MemoryBudget {
        let caches = self.section.archives.0 + self.renditions + MAX_PARSED_BYTES;
        MemoryBudget::new(self.shared, self.shared.saturating_sub(caches))
    }
}

/// A quarter of the memory of the machine, or of the control group that this process is in; at least 256 MiB and at most
/// 4 GiB.
fn default_limit() -> ByteSize {
    let machine = fs::read_to_string("/proc/meminfo").ok().and_then(|text| total_of(&text));
    let group = fs::read_to_string("/proc/self/cgroup").ok().and_then(|text| group_limit(&text));
    let memory = machine.into_iter().chain(group).min().unwrap_or(0);
    ByteSize((memory / 4).clamp(MIN_MEMORY_LIMIT.0, MOST_LIMIT))
}

/// `MemTotal` of `/proc/meminfo`, bytes.
fn total_of(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? << 10)
}

/// The lowest limit of the control group of this process and the groups above it, bytes; `None` without one.
fn group_limit(groups: &str) -> Option<u64> {
    let read = |path: &Path| fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
    groups
        .lines()
        .filter_map(|line| {
            let mut fields = line.splitn(3, ':').skip(1);
            let controllers = fields.next()?;
            let path = fields.next()?;
            let (root, file) = match controllers {
                "" => ("/sys/fs/cgroup", "memory.max"),
                one if one.split(',').any(|name| name == "memory") => {
                    ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")
                }
                _ => return None,
            };
            let root = Path::new(root);
            let own = root.join(path.trim_start_matches('/'));
            // In a container, the path may name a group that is not mounted; the root then is the container's own.
            own.ancestors()
                .take_while(|group| group.starts_with(root))
                .filter_map(|group| read(&group.join(file)))
                .min()
        })
        .min()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(limit: u64) -> MemoryPlan {
        MemoryPlan::new(&memory::Config { limit: Some(ByteSize(limit)), ..memory::Config::default() })
    }

    #[test]
    fn the_parts_never_exceed_the_limit() {
        for limit in [256 << 20, 300 << 20, 1 << 30, 4 << 30, 64 << 30] {
            let plan = plan(limit);
            assert!(plan.section.documents.0 + FIXED_CACHE_BYTES + plan.send + plan.shared <= limit, "{plan:?}");
            let work = plan.shared - plan.section.archives.0 - plan.renditions - MAX_PARSED_BYTES;
            assert!(work >= 16 << 20, "{plan:?}");
        }
    }

    #[test]
    fn what_is_configured_stays_a_cap_inside_the_limit() {
        let large = plan(4 << 30).section;
        assert_eq!((large.documents, large.archives), (ByteSize::mib(64), ByteSize::mib(256)));
        let small = plan(256 << 20).section;
        assert!(small.documents < ByteSize::mib(64) && small.archives < ByteSize::mib(256));
        let none = MemoryPlan::new(&memory::Config { archives: ByteSize(0), ..memory::Config::default() });
        assert_eq!((none.section.archives, none.section.archive_max), (ByteSize(0), ByteSize(0)));
    }

    #[test]
    fn the_machine_is_read_from_what_the_kernel_says() {
        assert_eq!(total_of("MemTotal:       24650284 kB\nMemFree: 1 kB\n"), Some(24_650_284 << 10));
        assert_eq!(total_of("nothing"), None);
        assert_eq!(group_limit("0::/no/such/group\n1:cpu:/x\n").filter(|limit| *limit < 1 << 20), None);
        let limit = default_limit();
        assert!((MIN_MEMORY_LIMIT..=ByteSize(MOST_LIMIT)).contains(&limit));
    }
}
