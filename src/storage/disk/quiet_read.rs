//! Hashes a stored file without filling the page cache: pages that it did not hold before are dropped again. The table of
//! open files is not used either, so hashing closes no idle file.

use std::{fs::File, io, os::unix::fs::FileExt as _, path::Path};

use sha2::Digest as _;

use super::blob::is_in_page_cache;
use crate::entry::Digest;

/// Bytes per read.
const QUIET_READ_BYTES: usize = 256 << 10;

/// A file's length and digest.
pub(super) struct HashedFile {
    pub(super) len: u64,
    pub(super) digest: Digest,
}

/// Reads a whole file. Blocks.
///
/// # Errors
/// When the file cannot be opened or read.
pub(super) fn hash(path: &Path) -> io::Result<HashedFile> {
    let file = File::open(path)?;
    advise(&file, 0, 0, rustix::fs::Advice::Random);
    let mut hasher = sha2::Sha256::new();
    let mut buf = vec![0; QUIET_READ_BYTES];
    let end = file.metadata()?.len();
    let mut offset = 0;
    // Checked before the first read: the kernel reads more into the cache than was asked for.
    let first = usize::try_from(end).unwrap_or(QUIET_READ_BYTES).min(QUIET_READ_BYTES);
    let any_was_cached =
        first > 0 && (is_in_page_cache(&file, 0, first) || is_in_page_cache(&file, end - first as u64, first));
    loop {
        let step = usize::try_from(end.saturating_sub(offset)).unwrap_or(QUIET_READ_BYTES).min(QUIET_READ_BYTES);
        let was_cached = step > 0 && is_in_page_cache(&file, offset, step);
        let len = match file.read_at(&mut buf, offset) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            read => read?,
        };
        if len == 0 {
            if !any_was_cached {
                // The whole file: a large folio is not dropped in parts.
                advise(&file, 0, 0, rustix::fs::Advice::DontNeed);
            }
            return Ok(HashedFile { len: offset, digest: Digest(hasher.finalize().into()) });
        }
        hasher.update(&buf[..len]);
        if !was_cached {
            advise(&file, offset, len as u64, rustix::fs::Advice::DontNeed);
        }
        offset += len as u64;
    }
}

/// Gives the kernel a hint, which may have no effect.
fn advise(file: &File, offset: u64, len: u64, advice: rustix::fs::Advice) {
    let _ = rustix::fs::fadvise(file, offset, std::num::NonZeroU64::new(len), advice);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_was_not_cached_is_not_cached_afterwards() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("blob");
        let bytes: Vec<u8> = (0..3_000_000_u32).map(|n| ((n * 31) >> 3) as u8).collect();
        std::fs::write(&path, &bytes).expect("written");
        let file = File::open(&path).expect("opens");
        file.sync_all().expect("synced");
        assert_eq!(hash(&path).expect("read").digest, Digest::of(&bytes));
        assert!(is_in_page_cache(&file, 0, QUIET_READ_BYTES), "what was cached stays cached");
        advise(&file, 0, 0, rustix::fs::Advice::DontNeed);
        // Some file systems keep everything in memory: there is nothing to leave as it was.
        if is_in_page_cache(&file, 0, QUIET_READ_BYTES) {
            return;
        }
        let hashed = hash(&path).expect("read");
        assert_eq!((hashed.len, hashed.digest), (3_000_000, Digest::of(&bytes)));
        assert!(!is_in_page_cache(&file, 0, QUIET_READ_BYTES) && !is_in_page_cache(&file, 2_000_000, QUIET_READ_BYTES));
    }
}
