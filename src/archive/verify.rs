//! The verdict on a zip: one pass beside the download, a short one at its end.

use std::io;

use super::{
    ZipFacts, ZipVerifier,
    central::{Central, Record},
    flat::{FlatPlan, FlatView},
    invalid,
    local::{Local, Step, Walk},
    manifest, name, publish, sign,
};
use crate::{
    entry::Verified,
    origin::{Growing, Verify, VerifyError},
    package::PublishManifest,
};

impl Verify for ZipVerifier {
    fn prefix_len(&self) -> usize {
        sign::LOCAL.len()
    }

    fn prefix(&self, first: &[u8]) -> Result<(), String> {
        if [sign::LOCAL, sign::END].contains(&first) {
            return Ok(());
        }
        let text = first.strip_prefix(b"\xef\xbb\xbf").unwrap_or(first).trim_ascii_start();
        Err(match (text.first(), first) {
            (_, []) => "not a zip (it is empty)",
            (Some(b'<'), _) => "not a zip (it begins like an HTML page)",
            (Some(b'{' | b'['), _) => "not a zip (it begins like JSON)",
            (_, [0x1f, 0x8b, ..]) => "not a zip (it begins like a gzip file)",
            _ => "not a zip (it does not begin with PK)",
        }
        .to_owned())
    }

    fn suffix(&self, last: &[u8], len: u64) -> Result<(), String> {
        Central::check_end(last, len.saturating_sub(last.len() as u64)).map_err(|clause| format!("the zip {clause}"))
    }

    fn verify(&self, body: &dyn Growing) -> Result<Verified, VerifyError> {
        let mut walk = Walk::new(body, self);
        let mut seen = Vec::new();
        while let Step::Entry(local) = walk.entry(None)? {
            seen.push(local);
        }
        let central = Central::read(body, body.len()?, self.max_entries)?;
        if seen.len() > central.records.len() {
            return invalid("the zip has entries that its central directory does not list");
        }
        for (place, record) in central.in_place().enumerate() {
            let later;
            let local = match seen.get(place) {
                Some(local) => local,
                None => match walk.entry(Some(record.packed))? {
                    Step::Entry(local) => {
                        later = local;
                        &later
                    }
                    _ => return invalid("the zip lists entries that it does not have"),
                },
            };
            if !agree(local, record, walk.hash(central.name(record))) {
                return invalid(format!("entry {} of the zip differs from its central directory", place + 1));
            }
        }
        drop(seen);
        if walk.at() != central.at {
            return invalid("the zip has bytes that belong to no entry");
        }
        report(&mut walk, &central)
    }
}

/// Whether an entry is what the central directory says.
fn agree(local: &Local, record: &Record, name: u64) -> bool {
    let of = |flags: u16| flags & sign::FLAGS_COMPARED;
    (local.offset, local.packed, local.size, local.crc) == (record.offset, record.packed, record.size, record.crc)
        && (local.method, of(local.flags)) == (record.method, of(record.flags))
        && local.name == name
}

/// What there is to say of a zip whose entries are whole.
fn report(walk: &mut Walk<'_>, central: &Central) -> Result<Verified, VerifyError> {
    let by_name = central.by_name();
    let sorted: Vec<&[u8]> = by_name.iter().map(|index| central.name(&central.records[*index as usize])).collect();
    name::check_all(&sorted).map_err(|clause| VerifyError::Invalid(format!("the zip {clause}")))?;
    drop(sorted);

    let top = central.top();
    let cut = top.map_or(0, |top| top.len() + 1);
    let manifest = manifest::digest(central, &by_name, cut);
    drop(by_name);
    let comment = central.comment();
    let commit = comment.len() == 40 && comment.iter().all(u8::is_ascii_hexdigit);
    let facts = ZipFacts {
        publish: read_publish(walk, central, cut)?,
        top: top.map(|top| String::from_utf8_lossy(top).into_owned()),
        entries: central.records.len(),
        symlinks: central.records.iter().filter(|record| record.link).count(),
        inflated: walk.inflated,
        flat: FlatPlan::new(central).map(|plan| FlatView::new(central, &plan)),
    };
    Ok(Verified {
        manifest,
        commit: commit.then(|| String::from_utf8_lossy(comment).to_ascii_lowercase()),
        facts: serde_json::to_value(facts).map_err(io::Error::other)?,
    })
}

/// `publish.yaml` at the root of the content, which begins after `cut` bytes of every name.
fn read_publish(walk: &mut Walk<'_>, central: &Central, cut: usize) -> Result<PublishManifest, VerifyError> {
    let named = |wanted: &[u8]| {
        let mut files = central.records.iter().filter(|record| !record.link && record.size <= publish::MAX_LEN);
        files.find(|record| central.name(record).get(cut..) == Some(wanted))
    };
    let Some(record) = publish::NAMES.into_iter().find_map(named) else { return Ok(PublishManifest::default()) };
    let text = walk.content(record.offset, record.packed, publish::MAX_LEN)?;
    Ok(text.map(|text| publish::parse(&text)).unwrap_or_default())
}
