//! The manifest digest: the identity of a zip's content, independent of its compression and order.

use sha2::{Digest as _, Sha256};

use super::central::CentralDirectory;
use crate::entry::Digest;

/// SHA-256 over name (without its first `prefix_len` bytes), zero byte, size and CRC of every file and link, in the
/// order of the names.
///
/// Folders are left out, because only some packers list them. Names contain no zero byte (checked before), so different
/// lists have different bytes.
pub(super) fn manifest_digest(central: &CentralDirectory, by_name: &[u32], prefix_len: usize) -> Digest {
    let mut hash = Sha256::new();
    for index in by_name {
        let entry = &central.entries[*index as usize];
        let name = central.name(entry);
        if !name.ends_with(b"/") {
            hash.update(name.get(prefix_len..).unwrap_or_default());
            hash.update([0]);
            hash.update(entry.size.to_le_bytes());
            hash.update(entry.crc.to_le_bytes());
        }
    }
    Digest(hash.finalize().into())
}
