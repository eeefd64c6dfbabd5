//! Generates the central directory and the end records of a view.

use bytes::BufMut;

use super::{Rename, ViewError};
use crate::archive::{
    central::{CentralDirectory, CentralEntry},
    extra_fields, format, le, le16,
};

/// The largest value of a 16-bit count, which is also the marker for "see the Zip64 record".
const COUNT_IN_ZIP64: u64 = 0xffff;

/// Appends an entry of the view's central directory, whose local header is at `offset` in the view.
pub(super) fn put_central_entry(
    to: &mut Vec<u8>,
    central: &CentralDirectory,
    entry: &CentralEntry,
    rename: &Rename,
    offset: u64,
) -> Result<(), ViewError> {
    let stored = &central.tail[entry.position as usize..entry.position as usize + entry.len()];
    let (fixed, rest) = stored.split_at(format::CENTRAL_LEN);
    let (name, rest) = rest.split_at(entry.name_len.into());
    let (extra, comment) = rest.split_at(entry.extra_len.into());
    let start = to.len();
    to.extend_from_slice(fixed);
    to.extend_from_slice(&rename.added);
    to.extend_from_slice(&name[rename.removed.len()..]);
    let extra_start = to.len();
    let is_in_zip64 = |at: usize| le(fixed, at, 4) == format::IN_ZIP64;
    let was_in_zip64 = is_in_zip64(42);
    let offset_in_zip64 = was_in_zip64 || offset >= format::IN_ZIP64;
    // The offset follows the sizes that are in the field.
    let sizes_len = 8 * (usize::from(is_in_zip64(20)) + usize::from(is_in_zip64(24)));
    let mut has_zip64 = false;
    for (id, data) in extra_fields(extra).flatten() {
        match id {
            // The second name has the old beginning, and the checksum of the old name.
            format::UNICODE_PATH_EXTRA_FIELD => {}
            // The first one counts.
            format::ZIP64_EXTRA_FIELD if has_zip64 => {}
            format::ZIP64_EXTRA_FIELD if offset_in_zip64 => {
                let sizes = data.get(..sizes_len).unwrap_or_default();
                let rest = data.get(sizes_len + if was_in_zip64 { 8 } else { 0 }..).unwrap_or_default();
                put_extra_field(to, id, &[sizes, &offset.to_le_bytes(), rest])?;
                has_zip64 = true;
            }
            _ => put_extra_field(to, id, &[data])?,
        }
    }
    if offset_in_zip64 && !has_zip64 {
        put_extra_field(to, format::ZIP64_EXTRA_FIELD, &[&offset.to_le_bytes()])?;
        // Version 4.5 of the format has Zip64.
        let version = le16(fixed, 6).max(45);
        patch(to, start + 6, &version.to_le_bytes());
    }
    let extra_len = u16::try_from(to.len() - extra_start).map_err(|_| ViewError::NameTooLong)?;
    to.extend_from_slice(comment);
    // The plan has checked the length of the name.
    let name_len = (extra_start - start - format::CENTRAL_LEN) as u16;
    patch(to, start + 28, &name_len.to_le_bytes());
    patch(to, start + 30, &extra_len.to_le_bytes());
    let offset = if offset_in_zip64 { format::IN_ZIP64 } else { offset };
    patch(to, start + 42, &(offset as u32).to_le_bytes());
    Ok(())
}

/// Appends an extra field with the concatenation of `parts`.
fn put_extra_field(to: &mut Vec<u8>, id: u16, parts: &[&[u8]]) -> Result<(), ViewError> {
    let len: usize = parts.iter().map(|part| part.len()).sum();
    to.put_u16_le(id);
    to.put_u16_le(u16::try_from(len).map_err(|_| ViewError::NameTooLong)?);
    parts.iter().for_each(|part| to.extend_from_slice(part));
    Ok(())
}

/// Appends the end records: the stored ones with the view's values. `offset` and `size` are those of the view's directory.
///
/// A zip with Zip64 records keeps them; a view that has become too large without them gets them.
pub(super) fn put_end_records(to: &mut Vec<u8>, central: &CentralDirectory, count: u64, size: u64, offset: u64) {
    let start = to.len();
    let had_zip64 = central.plain_end > central.end;
    let has_zip64 = had_zip64 || size >= format::IN_ZIP64 || offset >= format::IN_ZIP64;
    if had_zip64 {
        to.extend_from_slice(&central.tail[central.end..central.plain_end]);
    } else if has_zip64 {
        put_empty_zip64_records(to);
    }
    let plain = to.len();
    to.extend_from_slice(&central.tail[central.plain_end..]);
    if has_zip64 {
        for (field, value) in [(24, count), (32, count), (40, size), (48, offset)] {
            patch(to, start + field, &value.to_le_bytes());
        }
        patch(to, plain - format::LOCATOR64_LEN + 8, &(offset + size).to_le_bytes());
    }
    for (field, len, value, marker) in [
        (8, 2, count, COUNT_IN_ZIP64),
        (10, 2, count, COUNT_IN_ZIP64),
        (12, 4, size, format::IN_ZIP64),
        (16, 4, offset, format::IN_ZIP64),
    ] {
        let was_marker = had_zip64 && le(to, plain + field, len) == marker;
        let value = if was_marker { marker } else { value.min(marker) };
        patch(to, plain + field, &value.to_le_bytes()[..len]);
    }
}

/// Appends a Zip64 end record and its locator, without values.
fn put_empty_zip64_records(to: &mut Vec<u8>) {
    let start = to.len();
    to.extend_from_slice(format::END64_SIGNATURE);
    to.put_u64_le(format::END64_LEN as u64 - 12);
    // Made by and needed: version 4.5 of the format.
    to.put_u16_le(45);
    to.put_u16_le(45);
    to.resize(start + format::END64_LEN, 0);
    to.extend_from_slice(format::LOCATOR64_SIGNATURE);
    to.resize(start + format::END64_LEN + format::LOCATOR64_LEN - 4, 0);
    // The number of disks.
    to.put_u32_le(1);
}

/// Overwrites the bytes at `at`.
fn patch(to: &mut [u8], at: usize, with: &[u8]) {
    if let Some(place) = to.get_mut(at..at + with.len()) {
        place.copy_from_slice(with);
    }
}
