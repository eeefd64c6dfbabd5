//! Text with holes: one copy in memory for all answers that differ in a few places only.
//!
//! The holes hold a text already, that of the answer that is asked for most; for this one nothing is copied. Any other
//! answer is put together while it is sent, a chunk at a time.

use std::{ops::Range, sync::Arc};

use bytes::{Bytes, BytesMut};
use sha2::{Digest as _, Sha256};

use crate::{entry::Digest, value::memory_budget::MemoryShare};

/// Most bytes that are put together at once, and so what a reader of a filled template takes in memory.
pub(super) const CHUNK_BYTES: usize = 64 << 10;
/// A piece of at least this size is sent as it is, without a copy.
const SHARED_PIECE_BYTES: usize = 16 << 10;

/// What the text in a hole says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Slot {
    /// The mirror's own address as the client used it.
    Base,
    /// The request's id.
    RequestId,
    /// The signature behind the address of a zip; empty for clients that need none.
    Signature,
}

impl Slot {
    const ALL: [Self; SLOT_COUNT] = [Self::Base, Self::RequestId, Self::Signature];
}

/// Number of slots.
const SLOT_COUNT: usize = 3;

/// Texts by their slot.
#[derive(Clone, Debug, Default)]
pub(crate) struct SlotTexts([Bytes; SLOT_COUNT]);

#[derive(Clone, Copy, Debug)]
struct Hole {
    start: usize,
    slot: Slot,
}

/// A text with holes.
#[derive(Debug)]
pub(crate) struct Template {
    text: Bytes,
    /// In the order of the text.
    holes: Box<[Hole]>,
    /// The number of holes of each slot.
    counts: [usize; SLOT_COUNT],
    /// What stands in the holes of `text`.
    standing: SlotTexts,
    digest: Digest,
}

/// Writes a [`Template`].
pub(crate) struct TemplateWriter {
    text: Vec<u8>,
    holes: Vec<Hole>,
    standing: SlotTexts,
    digest: Sha256,
}

/// A template with the texts of one answer in its holes, whole or parts of it, as far as it is not sent yet.
#[derive(Clone, Debug)]
pub(crate) struct FilledTemplate {
    template: Arc<Template>,
    /// `None`: what stands in the template.
    fillings: [Option<Bytes>; SLOT_COUNT],
    /// The parts of the template's text that are still to be sent, in order.
    parts: [Range<usize>; 3],
    part: usize,
    /// The first hole that is not passed yet.
    hole: usize,
    /// A piece that did not fit into the last chunk.
    held_back: Option<Bytes>,
    left: u64,
}

impl SlotTexts {
    /// Sets the text of a slot.
    pub(crate) fn with(mut self, slot: Slot, text: &str) -> Self {
        self.0[slot as usize] = Bytes::copy_from_slice(text.as_bytes());
        self
    }

    fn get(&self, slot: Slot) -> &Bytes {
        &self.0[slot as usize]
    }
}

impl TemplateWriter {
    /// An empty template, in whose holes these texts will stand.
    pub(crate) fn new(standing: SlotTexts) -> Self {
        Self { text: Vec::new(), holes: Vec::new(), standing, digest: Sha256::new() }
    }

    /// Bytes written so far, what stands in the holes included.
    pub(crate) fn position(&self) -> usize {
        self.text.len()
    }

    /// Appends text that is the same in all answers.
    pub(crate) fn push(&mut self, text: &str) {
        self.text.extend_from_slice(text.as_bytes());
        self.digest.update(text);
    }

    /// Appends a hole.
    pub(crate) fn push_hole(&mut self, slot: Slot) {
        self.holes.push(Hole { start: self.text.len(), slot });
        self.text.extend_from_slice(self.standing.get(slot));
        // JSON contains no zero byte: no other text has this digest.
        self.digest.update([0, slot as u8]);
    }

    /// Appends text in which each marker stands for a hole.
    pub(crate) fn push_marked(&mut self, text: &str, markers: &[(&str, Slot)]) {
        let Some(((marker, slot), others)) = markers.split_first() else {
            self.push(text);
            return;
        };
        let mut pieces = text.split(marker);
        self.push_marked(pieces.next().unwrap_or_default(), others);
        for piece in pieces {
            self.push_hole(*slot);
            self.push_marked(piece, others);
        }
    }

    /// The template.
    pub(crate) fn finish(mut self) -> Template {
        self.text.shrink_to_fit();
        let Self { text, holes, standing, digest } = self;
        let count = |slot| holes.iter().filter(|hole| hole.slot == slot).count();
        let counts = Slot::ALL.map(count);
        let digest = Digest(digest.finalize().into());
        Template { text: text.into(), holes: holes.into(), counts, standing, digest }
    }
}

impl Template {
    /// A text without holes. `digest` must differ from that of every other text.
    pub(crate) fn of_bytes(text: Bytes, digest: Digest) -> Self {
        Self { text, holes: Box::default(), counts: [0; SLOT_COUNT], standing: SlotTexts::default(), digest }
    }

    /// The same template, whose text holds this share of memory until its last reader has left.
    pub(crate) fn counted_in(&self, share: MemoryShare) -> Self {
        Self {
            text: share.hold(self.text.clone()),
            holes: self.holes.clone(),
            counts: self.counts,
            standing: self.standing.clone(),
            digest: self.digest,
        }
    }

    /// The text, with what stands in its holes.
    pub(crate) fn text(&self) -> &Bytes {
        &self.text
    }

    /// True when it has holes of a slot.
    pub(crate) fn has(&self, slot: Slot) -> bool {
        self.counts[slot as usize] > 0
    }

    /// True when this text stands in all holes of a slot.
    pub(crate) fn stands(&self, slot: Slot, text: &str) -> bool {
        !self.has(slot) || self.standing.get(slot) == text.as_bytes()
    }

    /// The digest of the text without what stands in its holes, and of their places.
    pub(crate) fn digest(&self) -> &Digest {
        &self.digest
    }

    /// Bytes of memory that it takes.
    pub(crate) fn weight(&self) -> usize {
        self.text.len() + self.holes.len() * size_of::<Hole>() + size_of::<Self>()
    }

    /// The whole text with these texts in its holes.
    pub(crate) fn fill(self: &Arc<Self>, texts: &SlotTexts) -> FilledTemplate {
        self.fill_parts(texts, [0..self.text.len(), 0..0, 0..0])
    }

    /// Parts of the text, in the order in which they stand in it, with these texts in their holes. No part begins or ends
    /// in a hole.
    pub(crate) fn fill_parts(self: &Arc<Self>, texts: &SlotTexts, parts: [Range<usize>; 3]) -> FilledTemplate {
        let differs = |slot: Slot| self.has(slot) && texts.get(slot) != self.standing.get(slot);
        let filling = |slot| differs(slot).then(|| texts.get(slot).clone());
        let fillings = Slot::ALL.map(filling);
        let mut filled = FilledTemplate {
            template: self.clone(),
            fillings,
            part: 0,
            hole: self.hole_at(parts[0].start),
            parts,
            held_back: None,
            left: 0,
        };
        filled.left = filled.whole_len();
        filled
    }

    /// The first hole at or after a position.
    fn hole_at(&self, position: usize) -> usize {
        self.holes.partition_point(|hole| hole.start < position)
    }
}

impl FilledTemplate {
    /// Bytes that are not sent yet.
    pub(crate) fn left(&self) -> u64 {
        self.left
    }

    /// The text itself, when it is one in memory or small enough to be put together at once.
    pub(crate) fn as_bytes(&self) -> Option<Bytes> {
        if self.fillings.iter().all(Option::is_none) && self.parts[1..].iter().all(Range::is_empty) {
            return Some(self.template.text.slice(self.parts[0].clone()));
        }
        let len = usize::try_from(self.left).ok().filter(|len| *len <= CHUNK_BYTES)?;
        let mut bytes = BytesMut::with_capacity(len);
        let mut rest = self.clone();
        while let Some(piece) = rest.next_piece() {
            bytes.extend_from_slice(&piece);
        }
        Some(bytes.freeze())
    }

    /// The next bytes; `None` at the end.
    pub(crate) fn next_chunk(&mut self) -> Option<Bytes> {
        let first = self.held_back.take().or_else(|| self.next_piece())?;
        let chunk = if first.len() >= SHARED_PIECE_BYTES { first } else { self.gather(&first) };
        self.left = self.left.saturating_sub(chunk.len() as u64);
        Some(chunk)
    }

    fn gather(&mut self, first: &Bytes) -> Bytes {
        let left = usize::try_from(self.left).unwrap_or(usize::MAX);
        let mut chunk = BytesMut::with_capacity(left.min(CHUNK_BYTES).max(first.len()));
        chunk.extend_from_slice(first);
        while let Some(piece) = self.next_piece() {
            if piece.len() >= SHARED_PIECE_BYTES || chunk.len() + piece.len() > CHUNK_BYTES {
                self.held_back = Some(piece);
                break;
            }
            chunk.extend_from_slice(&piece);
        }
        chunk.freeze()
    }

    /// The text up to the next hole with another text, or that text.
    fn next_piece(&mut self) -> Option<Bytes> {
        let template = &*self.template;
        loop {
            let part = self.parts.get_mut(self.part)?;
            if part.start >= part.end {
                self.part += 1;
                self.hole = template.hole_at(self.parts.get(self.part)?.start);
                continue;
            }
            let filled =
                template.holes[self.hole..].iter().position(|hole| self.fillings[hole.slot as usize].is_some());
            self.hole = filled.map_or(template.holes.len(), |skipped| self.hole + skipped);
            let next = template.holes.get(self.hole).filter(|hole| hole.start < part.end);
            let end = next.map_or(part.end, |hole| hole.start);
            if part.start < end {
                let piece = template.text.slice(part.start..end);
                part.start = end;
                return Some(piece);
            }
            if let Some(hole) = next {
                part.start += template.standing.get(hole.slot).len();
                self.hole += 1;
                match &self.fillings[hole.slot as usize] {
                    Some(filling) if !filling.is_empty() => return Some(filling.clone()),
                    _ => {}
                }
            }
        }
    }

    fn whole_len(&self) -> u64 {
        let in_part = |part: &Range<usize>| {
            let holes = if self.fillings.iter().all(Option::is_none) {
                &[][..]
            } else {
                &self.template.holes[self.template.hole_at(part.start)..self.template.hole_at(part.end)]
            };
            let change = holes.iter().filter_map(|hole| {
                let filling = self.fillings[hole.slot as usize].as_ref()?;
                Some((filling.len(), self.template.standing.get(hole.slot).len()))
            });
            change.fold(part.len(), |len, (added, removed)| len + added - removed)
        };
        self.parts.iter().map(|part| in_part(part) as u64).sum()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn texts(base: &str, id: &str) -> SlotTexts {
        SlotTexts::default().with(Slot::Base, base).with(Slot::RequestId, id)
    }

    fn sent(mut filled: FilledTemplate) -> String {
        let mut all = Vec::new();
        while let Some(chunk) = filled.next_chunk() {
            all.extend_from_slice(&chunk);
        }
        assert_eq!(filled.left(), 0);
        String::from_utf8(all).expect("text")
    }

    #[test]
    fn the_text_that_stands_in_a_template_is_sent_without_a_copy() {
        let mut writer = TemplateWriter::new(texts("http://a", ""));
        writer.push_marked("[\"@/x\",\"@/y\"]", &[("@", Slot::Base)]);
        let template = Arc::new(writer.finish());
        let same = template.fill(&texts("http://a", "")).as_bytes().expect("whole");
        assert_eq!((&same[..], same.as_ptr()), (&b"[\"http://a/x\",\"http://a/y\"]"[..], template.text().as_ptr()));
        let other = template.fill(&texts("https://other", "")).as_bytes().expect("small");
        assert_eq!(&other[..], b"[\"https://other/x\",\"https://other/y\"]");
        assert!(template.stands(Slot::Base, "http://a") && !template.stands(Slot::Base, "http://b"));
    }

    #[test]
    fn a_large_piece_is_shared_and_small_ones_are_put_together() {
        let mut writer = TemplateWriter::new(texts("http://a", ""));
        let large = "x".repeat(SHARED_PIECE_BYTES);
        writer.push_marked(&format!("@1@2@{large}@"), &[("@", Slot::Base)]);
        let template = Arc::new(writer.finish());
        let mut filled = template.fill(&texts("b", ""));
        assert_eq!(filled.next_chunk().as_deref(), Some(&b"b1b2b"[..]));
        let shared = filled.next_chunk().expect("the large piece");
        assert!(template.text().as_ptr_range().contains(&shared.as_ptr()) && shared.len() == large.len());
        assert_eq!((filled.next_chunk().as_deref(), filled.next_chunk()), (Some(&b"b"[..]), None));
    }

    #[test]
    fn the_digest_is_that_of_the_text_without_what_stands_in_it() {
        let of = |base: &str, text: &str| {
            let mut writer = TemplateWriter::new(texts(base, ""));
            writer.push_marked(text, &[("@", Slot::Base)]);
            *writer.finish().digest()
        };
        assert_eq!(of("http://a", "x@y"), of("http://other", "x@y"));
        assert_ne!(of("http://a", "x@y"), of("http://a", "xy@"));
        assert_ne!(of("", "x@y"), of("", "xy"));
    }

    proptest! {
        #[test]
        fn a_filled_template_is_the_text_with_its_marks_replaced(
            pieces in proptest::collection::vec(("[a-z]{0,40}", 0..3_u8, 1..3000_usize), 0..60),
            standing in "[A-Z]{0,6}", base in "[A-Z]{0,9}", id in "[0-9]{0,9}", from in 0..60_usize, to in 0..60_usize,
        ) {
            let mut writer = TemplateWriter::new(texts(&standing, ""));
            let mut ends = vec![0];
            let mut expected = vec![String::new()];
            for (text, hole, times) in &pieces {
                let text = text.repeat(*times);
                let mut whole = text.clone();
                writer.push(&text);
                match hole {
                    1 => (writer.push_hole(Slot::Base), whole.push_str(&base)).0,
                    2 => (writer.push_hole(Slot::RequestId), whole.push_str(&id)).0,
                    _ => {}
                }
                // No part ends beside a hole.
                writer.push(";");
                whole.push(';');
                ends.push(writer.position());
                expected.push(whole);
            }
            let template = Arc::new(writer.finish());
            let whole = template.fill(&texts(&base, &id));
            prop_assert_eq!(whole.left(), expected.concat().len() as u64);
            if let Some(bytes) = whole.as_bytes() {
                let expected = expected.concat();
                prop_assert_eq!(&bytes[..], expected.as_bytes());
            }
            prop_assert_eq!(sent(whole), expected.concat());
            let last = ends.len() - 1;
            let middle = from.min(to).min(last).max(1.min(last))..from.max(to).min(last).max(1.min(last));
            let parts = [0..ends[1.min(last)], ends[middle.start]..ends[middle.end], ends[last]..ends[last]];
            let some = template.fill_parts(&texts(&base, &id), parts);
            let expected = [&expected[..2.min(last + 1)], &expected[middle.start + 1..middle.end + 1]].concat().concat();
            prop_assert_eq!(some.left(), expected.len() as u64);
            prop_assert_eq!(sent(some), expected);
        }
    }
}
