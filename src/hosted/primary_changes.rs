//! Publications and changes where a primary store decides: they are done when it has the record, and then copied here.
//!
//! A publication has this order: the zip is uploaded ([`super::zip_upload`]); of a new package, the spelling of its
//! name is created ([`super::spelling`]); the record is created, which is the publication; zip, record and index of
//! this directory follow; the change is noted for the other mirrors. A mirror that dies between any two of these steps
//! leaves the whole version or nothing of it, and a publication that is repeated succeeds, and is noted again. So every
//! mirror reads again what it took over before the note, and none keeps a copy that a later change has replaced.

use std::io;

use super::{
    ChangeError, HostedStore, HostedVersion, NewRelease, Publication, PublishRefusal, StateChange, UploadedZip,
    following::refresh_with,
    local_uploads::upload_if_local,
    primary::{Primary, is_same},
    primary_store::{COMPARE_ATTEMPTS, CONTENDED, PrimaryWrite, ZipName},
    record::ReleaseRecord,
    record_copies::copy_published,
    spelling::take_spelling,
    store::earlier_zips,
    zip_upload::upload_publication,
};

/// What to do with a publication where there is a record.
enum PublishStep {
    /// The record is this publication's: the answer to its write was lost.
    Done,
    /// The version has exactly these bytes.
    Unchanged,
    /// The record is replaced by this one.
    Replace(Box<ReleaseRecord>),
}

/// Publishes a verified zip. When this returns, the primary store has it. Blocks.
///
/// # Errors
/// [`PublishRefusal`]. After `Unavailable` the version may be there: the same publication can be repeated.
pub(super) fn publish(
    store: &HostedStore,
    primary: &Primary,
    mut zip: UploadedZip,
    release: NewRelease,
) -> Result<Publication, PublishRefusal> {
    let folded = release.name.to_ascii_lowercase();
    // Which versions there are decides whether this one is above them.
    refresh_with(store, primary, &folded)?;
    upload_if_local(store, primary, &folded, release.version.as_str())?;
    store.check(&release.name, &release.version)?;
    for _ in 0..COMPARE_ATTEMPTS {
        let name = upload_publication(store, primary, &folded, release.version.as_str(), &zip)?;
        let _publishing = primary.publishing.lock();
        // The upload may have taken long.
        refresh_with(store, primary, &folded)?;
        store.check(&release.name, &release.version)?;
        if let Some(published) = write_record(store, primary, &mut zip, &release, name.as_ref())? {
            primary.notes.add(&*primary.objects, &folded);
            return Ok(published);
        }
    }
    Err(CONTENDED.into())
}

/// Writes the record of a publication whose zip is uploaded. `None`: it must be uploaded again, since the record may
/// not name it.
fn write_record(
    store: &HostedStore,
    primary: &Primary,
    zip: &mut UploadedZip,
    release: &NewRelease,
    name: Option<&ZipName>,
) -> Result<Option<Publication>, PublishRefusal> {
    let folded = &*release.name.to_ascii_lowercase();
    let version = release.version.as_str();
    let blob = name.map(|name| name.name.clone());
    let new = ReleaseRecord { blob, ..ReleaseRecord::new(release.clone(), zip) };
    let package = store.package(folded);
    if package.as_ref().is_none_or(|package| !package.is_in_primary()) {
        take_spelling(primary, &release.name)?;
    }
    let is_known = package.is_some_and(|package| package.version(version).is_some());
    let mut present = if is_known { primary.record(folded, version)? } else { None };
    let mut record = new.clone();
    let mut begun = None;
    for _ in 0..COMPARE_ATTEMPTS {
        let replaced = match &present {
            None => None,
            Some(found) => {
                let there = found.record.as_ref().ok_or(PublishRefusal::Unreadable)?;
                match compare_with_record(there, &record, &new, release.version.is_moving())? {
                    PublishStep::Done => return Ok(Some(Publication::Created(copy_own(store, record, zip)))),
                    PublishStep::Unchanged => {
                        let unchanged = copy_published(store, there.clone(), Some(zip));
                        return Ok(Some(Publication::Unchanged(unchanged)));
                    }
                    PublishStep::Replace(next) => record = *next,
                }
                Some(found)
            }
        };
        if !name.is_some_and(|name| primary.objects.may_be_named(&name.looked_at)) {
            return Ok(None);
        }
        begun.get_or_insert_with(|| primary.notes.begin(folded));
        let written = match replaced {
            None => primary.create(&record)?,
            Some(found) => primary.replace(&record, found)?,
        };
        if written == PrimaryWrite::Done {
            return Ok(Some(Publication::Created(copy_own(store, record, zip))));
        }
        present = primary.record(folded, version)?;
    }
    Err(CONTENDED.into())
}

/// Writes a record that this mirror has written to the primary store, and its zip, here.
fn copy_own(store: &HostedStore, record: ReleaseRecord, zip: &mut UploadedZip) -> HostedVersion {
    copy_published(store, ReleaseRecord { tag: Some(String::new()), ..record }, Some(zip))
}

/// Compares a publication with the record that is there. `record` is what was last written, `new` is a first record.
fn compare_with_record(
    there: &ReleaseRecord,
    record: &ReleaseRecord,
    new: &ReleaseRecord,
    is_moving: bool,
) -> Result<PublishStep, PublishRefusal> {
    if is_same(there, record) {
        return Ok(PublishStep::Done);
    }
    match &there.deleted {
        Some(deleted) if !is_moving => return Err(PublishRefusal::Deleted(deleted.clone())),
        None if there.digest == new.digest => return Ok(PublishStep::Unchanged),
        None if !is_moving => {
            let change = StateChange { by: there.publisher.clone(), at: there.published_at };
            return Err(PublishRefusal::Taken(change));
        }
        _ => {}
    }
    let kept = there.kept.clone();
    let previous = earlier_zips(there.clone());
    Ok(PublishStep::Replace(Box::new(ReleaseRecord { kept, previous, ..new.clone() })))
}

/// Changes the record of a version unless `change` returns false; see [`HostedStore::change_if`]. Blocks.
///
/// # Errors
/// [`ChangeError`]. After `Unavailable` it may be changed: the same change can be repeated.
pub(super) fn change_if(
    store: &HostedStore,
    primary: &Primary,
    name: &str,
    version: &str,
    change: &mut dyn FnMut(&mut ReleaseRecord) -> bool,
) -> Result<Option<HostedVersion>, ChangeError> {
    let folded = name.to_ascii_lowercase();
    upload_if_local(store, primary, &folded, version)?;
    let mut written: Option<ReleaseRecord> = None;
    let mut begun = None;
    for _ in 0..COMPARE_ATTEMPTS {
        let found = primary.record(&folded, version)?.ok_or(ChangeError::Unknown)?;
        let there = found.record.clone().ok_or(io::Error::from(io::ErrorKind::InvalidData))?;
        let is_written = written.as_ref().is_some_and(|written| is_same(written, &there));
        let mut record = there.clone();
        if !is_written {
            if let Some(deleted) = there.deleted.clone() {
                copy_published(store, there, None);
                // Who has deleted it may have died before the note.
                primary.notes.add(&*primary.objects, &folded);
                return Err(ChangeError::Deleted(deleted));
            }
            if !change(&mut record) {
                copy_published(store, there, None);
                return Ok(None);
            }
        }
        begun.get_or_insert_with(|| primary.notes.begin(&folded));
        if is_written || primary.replace(&record, &found)? == PrimaryWrite::Done {
            let copy = ReleaseRecord { tag: Some(String::new()), ..record };
            let changed = copy_published(store, copy, None);
            drop(begun);
            primary.notes.add(&*primary.objects, &folded);
            return Ok(Some(changed));
        }
        written = Some(record);
    }
    Err(CONTENDED.into())
}

/// Replaces a record that cannot be read by a tombstone. Blocks.
///
/// # Errors
/// [`ChangeError`].
pub(super) fn write_tombstone(
    store: &HostedStore,
    primary: &Primary,
    tombstone: ReleaseRecord,
) -> Result<HostedVersion, ChangeError> {
    let folded = tombstone.name.to_ascii_lowercase();
    for _ in 0..COMPARE_ATTEMPTS {
        let found = primary.record(&folded, &tombstone.version)?.ok_or(ChangeError::Unknown)?;
        if found.record.as_ref().is_some_and(|there| !is_same(there, &tombstone)) {
            // It can be read now.
            return Err(CONTENDED.into());
        }
        let begun = primary.notes.begin(&folded);
        if found.record.is_some() || primary.replace(&tombstone, &found)? == PrimaryWrite::Done {
            let copy = ReleaseRecord { tag: Some(String::new()), ..tombstone };
            let deleted = copy_published(store, copy, None);
            drop(begun);
            primary.notes.add(&*primary.objects, &folded);
            return Ok(deleted);
        }
    }
    Err(CONTENDED.into())
}
