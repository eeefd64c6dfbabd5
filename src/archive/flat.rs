//! The flat view: the same zip without its single top folder, planned over the stored bytes.
//!
//! Nothing is recompressed and nothing is copied to disk. A local header of the view is the stored one with a shorter
//! name, and the shorter name is the end of the stored one, so an entry of the view is the stored entry less the
//! folder's bytes, with two bytes of its own (the name's length). Only the central directory is written anew. The plan
//! therefore needs nothing but the stored central directory, and is made again from it whenever it is wanted.

use std::{io, ops::Range};

use bytes::{BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};

use super::{
    central::{Central, Record},
    extra_fields, sign,
};
use crate::entry::Digest;

/// Where a local header has the length of its name.
const NAME_LEN_AT: u64 = 26;

/// What is kept of a flat view beside its zip: enough to describe it, and to make its [`FlatPlan`] again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FlatView {
    /// Length of the view, bytes.
    pub len: u64,
    /// Offset of the central directory in the zip; from here to the zip's end is what [`FlatView::plan`] needs.
    pub central: u64,
    /// SHA-256 of the zip from there on.
    pub central_digest: Digest,
}

/// The stored central directory is not the one that was verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the stored zip's central directory is damaged")]
pub struct DamagedDirectory;

impl FlatView {
    /// What is kept of a planned view.
    pub(super) fn new(central: &Central, plan: &FlatPlan) -> Self {
        Self { len: plan.len, central: central.at, central_digest: Digest::of(&central.tail) }
    }

    /// Makes the plan from the zip's bytes from [`FlatView::central`] on (at most [`super::MAX_CENTRAL_DIRECTORY_BYTES`] bytes).
    ///
    /// Takes milliseconds for ten thousand entries: worth keeping while the view is asked for.
    ///
    /// # Errors
    /// When the bytes are not those that were verified.
    pub fn plan(&self, tail: Bytes) -> Result<FlatPlan, DamagedDirectory> {
        if Digest::of(&tail) != self.central_digest {
            return Err(DamagedDirectory);
        }
        let central = Central::parse(tail, self.central).map_err(|_| DamagedDirectory)?;
        FlatPlan::new(&central).filter(|plan| plan.len == self.len).ok_or(DamagedDirectory)
    }
}

/// How to read a flat view: which bytes of the zip, and which of its own, in which order.
#[derive(Clone, Debug)]
pub struct FlatPlan {
    /// The entries, in the order of the zip.
    entries: Vec<Entry>,
    /// Bytes cut from every name: the folder and its slash.
    cut: u64,
    /// Where the view's central directory begins.
    central: u64,
    /// The name lengths of all entries, two bytes each, then the view's central directory and end records.
    own: Bytes,
    /// Length of the view.
    len: u64,
}

/// One entry of the view. It ends where the next begins.
#[derive(Clone, Debug)]
struct Entry {
    /// Offset in the view.
    at: u64,
    /// Offset in the zip.
    from: u64,
}

/// A run of bytes of the view.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FlatSlice {
    /// These bytes of the stored zip.
    Stored(Range<u64>),
    /// These bytes of [`FlatPlan::own`].
    Generated(Range<usize>),
}

impl FlatPlan {
    /// Plans the view; `None` where the zip has no single top folder and is its own flat view.
    ///
    /// The folder's own entry is dropped. Everything else stays: order, folders, extra fields, flags, modes, comments.
    pub(super) fn new(central: &Central) -> Option<Self> {
        let cut = central.top()?.len() + 1;
        let mut entries = Vec::with_capacity(central.records.len());
        let mut own = Vec::with_capacity(central.tail.len());
        let mut at = 0;
        // Where each record's entry went, by the record's place in the directory.
        let mut moved = vec![None; central.records.len()];
        for (place, index) in central.by_offset.iter().enumerate() {
            let record = &central.records[*index as usize];
            let name_len = usize::from(record.name_len) - cut;
            if name_len > 0 {
                entries.push(Entry { at, from: record.offset });
                own.put_u16_le(name_len as u16);
                moved[*index as usize] = Some(at);
                at += central.end_of(place) - record.offset - cut as u64;
            }
        }
        let directory = own.len();
        for (record, offset) in central.records.iter().zip(&moved) {
            if let Some(offset) = *offset {
                put_record(&mut own, central, record, cut, offset);
            }
        }
        let size = (own.len() - directory) as u64;
        put_end(&mut own, central, entries.len() as u64, size, at);
        let len = at + (own.len() - directory) as u64;
        Some(Self { entries, cut: cut as u64, central: at, own: own.into(), len })
    }

    /// Length of the view, bytes.
    #[expect(clippy::len_without_is_empty, reason = "a zip is never empty: it has an end record")]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// The view's own bytes, that [`FlatSlice::Generated`] points into.
    pub fn own(&self) -> &Bytes {
        &self.own
    }

    /// Memory that the plan takes, bytes.
    pub fn weight(&self) -> usize {
        size_of::<Self>() + self.own.len() + self.entries.capacity() * size_of::<Entry>()
    }

    /// The slices that make up `range` of the view, in order, none empty; what lies behind the view's end is left out.
    pub fn slices(&self, range: Range<u64>) -> impl Iterator<Item = FlatSlice> + '_ {
        let mut at = range.start;
        let end = range.end.min(self.len);
        let mut index = self.entries.partition_point(|entry| entry.at <= at).saturating_sub(1);
        std::iter::from_fn(move || {
            if at >= end {
                return None;
            }
            if self.entries.get(index + 1).is_some_and(|next| next.at <= at) {
                index += 1;
            }
            let (slice, len) = self.slice(index, at, end);
            at += len;
            Some(slice)
        })
    }

    /// The slice at `at`, which is in the entry `index` or in the directory, cut at `end`, and its length.
    fn slice(&self, index: usize, at: u64, end: u64) -> (FlatSlice, u64) {
        let own = |start: u64, len: u64| (FlatSlice::Generated(start as usize..(start + len) as usize), len);
        let Some(entry) = self.entries.get(index).filter(|_| at < self.central) else {
            return own(2 * self.entries.len() as u64 + (at - self.central), end - at);
        };
        // An entry of the view: the header up to its name's length, that length, the length of its extra fields, and
        // all the rest from the end of the folder's name on.
        const PARTS: [u64; 3] = [NAME_LEN_AT, NAME_LEN_AT + 2, sign::LOCAL_LEN as u64];
        let inside = at - entry.at;
        let stop = PARTS
            .into_iter()
            .find(|part| inside < *part)
            .map_or_else(|| self.entries.get(index + 1).map_or(self.central, |next| next.at), |part| entry.at + part);
        let len = stop.min(end) - at;
        if (PARTS[0]..PARTS[1]).contains(&inside) {
            return own(2 * index as u64 + (inside - PARTS[0]), len);
        }
        let start = entry.from + inside + if inside < PARTS[2] { 0 } else { self.cut };
        (FlatSlice::Stored(start..start + len), len)
    }

    /// The slices of `range` together with the one stretch of the zip that has all their bytes.
    ///
    /// One read of that stretch and [`FlatBatch::assemble`] give the bytes of `range`. The stretch is longer than `range`
    /// by the folder's name for every entry in it, a few per cent in practice.
    pub fn batch(&self, range: Range<u64>) -> FlatBatch {
        let slices: Vec<FlatSlice> = self.slices(range).collect();
        let mut stored = slices.iter().filter_map(|slice| match slice {
            FlatSlice::Stored(range) => Some(range.clone()),
            FlatSlice::Generated(_) => None,
        });
        let source = stored.next().map_or(0..0, |first| first.start..stored.next_back().unwrap_or(first).end);
        FlatBatch { slices, source, own: self.own.clone() }
    }
}

/// A part of the view, ready to be read. See [`FlatPlan::batch`].
#[derive(Clone, Debug)]
pub struct FlatBatch {
    slices: Vec<FlatSlice>,
    source: Range<u64>,
    own: Bytes,
}

impl FlatBatch {
    /// The stretch of the zip to read; empty when none of the zip is needed.
    pub fn source(&self) -> Range<u64> {
        self.source.clone()
    }

    /// The slices, in order.
    pub fn slices(&self) -> &[FlatSlice] {
        &self.slices
    }

    /// The view's bytes in what was read from [`FlatBatch::source`], piece by piece.
    ///
    /// # Panics
    /// When `read` is shorter than the source.
    pub fn pieces<'a>(&'a self, read: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
        self.slices.iter().map(|slice| match slice {
            FlatSlice::Generated(range) => &self.own[range.clone()],
            FlatSlice::Stored(range) => &read[self.within(range)],
        })
    }

    /// Makes the view's bytes of what was read from [`FlatBatch::source`]: in the same place where nobody else has it, and
    /// without a copy when they lie in one piece.
    ///
    /// # Errors
    /// When `read` is shorter than the source: the stored zip has lost bytes.
    pub fn assemble(&self, read: Bytes) -> io::Result<Bytes> {
        if (read.len() as u64) < self.source.end - self.source.start {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        match (&self.slices[..], read) {
            ([FlatSlice::Generated(range)], _) => Ok(self.own.slice(range.clone())),
            ([FlatSlice::Stored(range)], read) => Ok(read.slice(self.within(range))),
            // From here on every piece comes to lie where it was or before that.
            ([FlatSlice::Stored(_), ..], read) => match read.try_into_mut() {
                Ok(buf) => Ok(self.close_up(buf).freeze()),
                Err(read) => Ok(self.copied(&read)),
            },
            (_, read) => Ok(self.copied(&read)),
        }
    }

    /// Where a part of the zip is in what was read.
    fn within(&self, range: &Range<u64>) -> Range<usize> {
        (range.start - self.source.start) as usize..(range.end - self.source.start) as usize
    }

    fn copied(&self, read: &[u8]) -> Bytes {
        let mut bytes = BytesMut::with_capacity(read.len() + 2 * self.slices.len());
        self.pieces(read).for_each(|piece| bytes.extend_from_slice(piece));
        bytes.freeze()
    }

    /// Moves the pieces together over what the view leaves out.
    fn close_up(&self, mut buf: BytesMut) -> BytesMut {
        let mut len = 0;
        for slice in &self.slices {
            match slice {
                FlatSlice::Stored(range) => {
                    let from = self.within(range);
                    let add = from.len();
                    buf.copy_within(from, len);
                    len += add;
                }
                FlatSlice::Generated(range) => {
                    let own = &self.own[range.clone()];
                    // The view's directory is longer than what is left of what was read.
                    buf.resize(buf.len().max(len + own.len()), 0);
                    buf[len..len + own.len()].copy_from_slice(own);
                    len += own.len();
                }
            }
        }
        buf.truncate(len);
        buf
    }
}

/// Writes a record of the view's central directory for the entry that is now at `offset`.
fn put_record(to: &mut Vec<u8>, central: &Central, record: &Record, cut: usize, offset: u64) {
    let stored = &central.tail[record.at as usize..record.at as usize + record.len()];
    let (fixed, rest) = stored.split_at(sign::CENTRAL_LEN);
    let (name, rest) = rest.split_at(record.name_len.into());
    let (extra, comment) = rest.split_at(record.extra_len.into());
    let start = to.len();
    to.extend_from_slice(fixed);
    to.extend_from_slice(&name[cut..]);
    let extra_start = to.len();
    let wide = |at: usize| super::le(fixed, at, 4) == sign::IN_ZIP64;
    for (id, data, _) in extra_fields(extra).flatten() {
        // The name once more, in UTF-8: it has the folder in it and the checksum of the old name.
        if id == sign::EXTRA_UNICODE_PATH {
            continue;
        }
        to.put_u16_le(id);
        to.put_u16_le(data.len() as u16);
        let data_start = to.len();
        to.extend_from_slice(data);
        let slot = data_start + 8 * (usize::from(wide(20)) + usize::from(wide(24)));
        if id == sign::EXTRA_ZIP64 && wide(42) {
            patch(to, slot, &offset.to_le_bytes());
        }
    }
    let extra_len = (to.len() - extra_start) as u16;
    to.extend_from_slice(comment);
    patch(to, start + 28, &((name.len() - cut) as u16).to_le_bytes());
    patch(to, start + 30, &extra_len.to_le_bytes());
    if !wide(42) {
        patch(to, start + 42, &(offset as u32).to_le_bytes());
    }
}

/// Writes the end records: the stored ones with the view's counts, so that Zip64 stays where it was.
fn put_end(to: &mut Vec<u8>, central: &Central, count: u64, size: u64, at: u64) {
    let start = to.len();
    to.extend_from_slice(&central.tail[central.end..]);
    let plain = start + central.plain_end - central.end;
    if plain > start {
        for (field, value) in [(24, count), (32, count), (40, size), (48, at)] {
            patch(to, start + field, &value.to_le_bytes());
        }
        patch(to, plain - sign::LOCATOR64_LEN + 8, &(at + size).to_le_bytes());
    }
    for (field, len, value) in [(8, 2, count), (10, 2, count), (12, 4, size), (16, 4, at)] {
        // All ones: the Zip64 record has the value.
        if plain == start || to[plain + field..plain + field + len].iter().any(|byte| *byte != 0xff) {
            patch(to, plain + field, &value.to_le_bytes()[..len]);
        }
    }
}

/// Overwrites bytes that are already there.
fn patch(to: &mut [u8], at: usize, with: &[u8]) {
    if let Some(place) = to.get_mut(at..at + with.len()) {
        place.copy_from_slice(with);
    }
}
