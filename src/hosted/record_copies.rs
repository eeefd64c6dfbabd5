//! Copies records of the primary store into the directory. What was published here and is not there is set aside.

use std::{fs, io, path::Path};

use super::{
    HostedStore, HostedVersion, UploadedZip, VersionState,
    record::{RecordHead, ReleaseRecord},
};

/// Writes a record of the primary store here, unless the version has changed in the index since it was `known`: then
/// the next list compares again.
pub(super) fn copy_unless_changed(store: &HostedStore, record: ReleaseRecord, known: Option<&HostedVersion>) {
    let _changing = store.changing.lock();
    let present = store.package(&record.name).and_then(|package| package.version(&record.version).cloned());
    if present.as_ref() != known {
        return;
    }
    write_copy(store, &record);
}

/// Records that the primary store has the zips of a version.
pub(super) fn confirm_zips(store: &HostedStore, version: &HostedVersion) {
    let Some(copies) = &store.copies else { return };
    version.zips().for_each(|digest| copies.set_removable(digest));
}

/// Writes a record that the primary store has, and the zip of its publication, here. Returns the version as the index
/// has it then.
pub(super) fn copy_published(
    store: &HostedStore,
    record: ReleaseRecord,
    zip: Option<&mut UploadedZip>,
) -> HostedVersion {
    let _changing = store.changing.lock();
    if let Some(zip) = zip {
        match zip.staged.publish(&store.layout, &zip.digest) {
            Ok(()) => store.copies.iter().for_each(|copies| copies.add(&zip.digest, zip.len)),
            Err(error) => tracing::warn!(%error, "a published zip is not copied here"),
        }
    }
    write_copy(store, &record)
}

/// Links the record and the zips of a version that was published here into `conflicts/`: the primary store has other
/// content of the version.
fn set_aside(store: &HostedStore, there: &ReleaseRecord) -> io::Result<()> {
    tracing::error!(
        package = %there.name, version = %there.version, digest = %there.digest,
        "a version that was published here has other content in the shared bucket, which counts; what was here goes to conflicts/"
    );
    let folded = there.name.to_ascii_lowercase();
    let folder = store.layout.dir().join("conflicts");
    fs::create_dir_all(&folder)?;
    let text = fs::read(store.layout.record(&folded, &there.version))?;
    let head: RecordHead = serde_json::from_slice(&text)?;
    fs::write(folder.join(format!("{folded}@{}.json", there.version)), &text)?;
    head.zips().try_for_each(|(digest, ..)| link(&store.layout.blob(&digest), &folder.join(digest.to_string())))
}

fn link(from: &Path, to: &Path) -> io::Result<()> {
    match fs::hard_link(from, to) {
        // There already, or lost before.
        Err(error) if !matches!(error.kind(), io::ErrorKind::AlreadyExists | io::ErrorKind::NotFound) => Err(error),
        _ => Ok(()),
    }
}

/// Writes a record here, unless what was published here would be lost. Where the write fails, the index has the record
/// until the next start, which reads it from the primary store again.
fn write_copy(store: &HostedStore, record: &ReleaseRecord) -> HostedVersion {
    let folded = record.name.to_ascii_lowercase();
    let known = store.package(&folded).and_then(|package| package.version(&record.version).cloned());
    if let Some(known) = known
        && known.tag.is_none()
        && known.state != VersionState::Unreadable
        && (known.digest != record.digest || known.is_served() != record.deleted.is_none())
        && let Err(error) = set_aside(store, record)
    {
        tracing::error!(%error, "what was published here cannot be set aside, and stays as it is");
        return HostedVersion::of_record(&RecordHead::from(record));
    }
    let path = store.layout.record(&folded, &record.version);
    let written = store.files.create_folder(&store.layout.package(&folded));
    if let Err(error) = written.and_then(|()| store.record_files().replace(&path, record)) {
        tracing::warn!(package = %record.name, version = %record.version, %error, "a record is not copied here");
    }
    let version = store.note(record);
    confirm_zips(store, &version);
    version
}
