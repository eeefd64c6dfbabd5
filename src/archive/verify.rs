//! Verifies a zip: one pass during the download, and a comparison with the central directory at its end.

use std::io;

use super::{
    ZipFacts, ZipVerifier,
    central::{CentralDirectory, CentralEntry},
    content::{ContentIndex, ZipContent},
    entry_reader::{EntryReader, LocalEntry, NextEntry},
    format, invalid, manifest, name,
    package_model::{self, ExaminedPackage},
    stored_zip::{DirectoryFacts, FlatView},
    view::ViewSpec,
};
use crate::{
    entry::Verified,
    origin::{Growing, InvalidContent, Verify, VerifyError},
};

/// Memory is taken for this many entries at a time.
const ENTRIES_PER_MEMORY_STEP: usize = 1024;

impl Verify for ZipVerifier {
    fn prefix_len(&self) -> usize {
        format::LOCAL_SIGNATURE.len()
    }

    fn prefix(&self, first: &[u8]) -> Result<(), InvalidContent> {
        if [format::LOCAL_SIGNATURE, format::END_SIGNATURE].contains(&first) {
            return Ok(());
        }
        let text = first.strip_prefix(b"\xef\xbb\xbf").unwrap_or(first).trim_ascii_start();
        let clause = match (text.first(), first) {
            (_, []) => "not a zip (it is empty)",
            (Some(b'<'), _) => "not a zip (it begins like an HTML page)",
            (Some(b'{' | b'['), _) => "not a zip (it begins like JSON)",
            (_, [0x1f, 0x8b, ..]) => "not a zip (it begins like a gzip file)",
            _ => "not a zip (it does not begin with PK)",
        };
        Err(InvalidContent(clause.to_owned()))
    }

    fn verify(&self, body: &dyn Growing) -> Result<Verified, VerifyError> {
        let mut reader = EntryReader::new(body, self);
        let mut locals = Vec::new();
        let mut memory = self.memory.share();
        while let NextEntry::Verified(local) = reader.read_entry(None)? {
            locals.push(local);
            if locals.len() % ENTRIES_PER_MEMORY_STEP == 0 {
                memory.grow_to_blocking((locals.len() * size_of::<LocalEntry>() * 2) as u64)?;
            }
        }
        let central = CentralDirectory::read(body, body.len()?, self.max_entries, &mut memory)?;
        if locals.len() > central.entries.len() {
            return invalid("the zip has entries that its central directory does not list");
        }
        for (place, entry) in central.entries_by_offset().enumerate() {
            // Entries from the first one of unknown size on are read now.
            let late;
            let local = match locals.get(place) {
                Some(local) => local,
                None => match reader.read_entry(Some(entry.packed))? {
                    NextEntry::Verified(local) => {
                        late = local;
                        &late
                    }
                    _ => return invalid("the zip lists entries that it does not have"),
                },
            };
            if !headers_agree(local, entry, reader.hash_name(central.name(entry))) {
                return invalid(format!("entry {} of the zip differs from its central directory", place + 1));
            }
        }
        drop(locals);
        if reader.offset() != central.offset {
            return invalid("the zip has bytes that belong to no entry");
        }
        summarise(&mut reader, &central)
    }
}

/// True if a local entry is equal to its entry in the central directory, whose name hashes to `name_hash`.
fn headers_agree(local: &LocalEntry, entry: &CentralEntry, name_hash: u64) -> bool {
    let compared = |flags: u16| flags & format::COMPARED_FLAGS;
    (local.offset, local.packed, local.size, local.crc) == (entry.offset, entry.packed, entry.size, entry.crc)
        && (local.method, compared(local.flags)) == (entry.method, compared(entry.flags))
        && local.name_hash == name_hash
}

/// Checks the names of a zip whose entries are verified, and collects its manifest, commit and facts.
fn summarise(reader: &mut EntryReader<'_>, central: &CentralDirectory) -> Result<Verified, VerifyError> {
    let by_name = central.by_name();
    let sorted: Vec<&[u8]> = by_name.iter().map(|index| central.name(&central.entries[*index as usize])).collect();
    name::check_all(&sorted).map_err(|clause| VerifyError::Invalid(format!("the zip {clause}")))?;
    drop(sorted);

    let top = central.top_folder();
    let prefix_len = top.map_or(0, |top| top.len() + 1);
    let manifest = manifest::manifest_digest(central, &by_name, prefix_len);
    let inflated = reader.inflated();
    let mut content = ZipContent { reader, index: ContentIndex::new(central, &by_name, None) };
    let ExaminedPackage { publish, missing_entry, findings } = package_model::examine(&mut content)?;
    drop(by_name);
    let flat = central
        .view_plan(&ViewSpec::Flat)
        .map_err(|error| VerifyError::Invalid(error.to_string()))?
        .map(|plan| FlatView::new(central, &plan));
    let comment = central.comment();
    let is_commit = comment.len() == 40 && comment.iter().all(u8::is_ascii_hexdigit);
    let facts = ZipFacts {
        publish,
        missing_entry,
        model: Some(findings),
        git_folder: central.entries.iter().any(|entry| name::has_git_folder(central.name(entry))),
        top: top.map(|top| String::from_utf8_lossy(top).into_owned()),
        entries: central.entries.len(),
        symlinks: central.entries.iter().filter(|entry| entry.is_symlink).count(),
        inflated,
        central: flat.is_none().then(|| DirectoryFacts::new(central)),
        flat,
    };
    Ok(Verified {
        manifest,
        commit: is_commit.then(|| String::from_utf8_lossy(comment).to_ascii_lowercase()),
        facts: serde_json::to_value(facts).map_err(io::Error::other)?,
    })
}
