//! The identity of a zip's content, whatever its packing.

use sha2::{Digest as _, Sha256};

use super::central::Central;
use crate::entry::Digest;

/// SHA-256 over name (less `cut` bytes), zero byte, size and CRC of every file and link, in the order of the names.
///
/// Folders have no content and are left out: packers differ in whether they list them. Names have no zero byte
/// (checked before), so no two lists have the same bytes.
pub(super) fn digest(central: &Central, by_name: &[u32], cut: usize) -> Digest {
    let mut hash = Sha256::new();
    for index in by_name {
        let record = &central.records[*index as usize];
        let name = central.name(record);
        if !name.ends_with(b"/") {
            hash.update(name.get(cut..).unwrap_or_default());
            hash.update([0]);
            hash.update(record.size.to_le_bytes());
            hash.update(record.crc.to_le_bytes());
        }
    }
    Digest(hash.finalize().into())
}
