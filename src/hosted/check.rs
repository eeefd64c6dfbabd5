//! Verification of everything that is published: records against the index, zips against their digests, both ways.

use std::{collections::HashSet, fs, io, ops::ControlFlow};

use super::{
    HostedStore, HostedVersion, VersionState, ZipDownloadError, download_zip, is_copy,
    primary::{RecordedZip, zips_of},
    record::RecordHead,
};
use crate::{
    admin_api::{DamageKind, HostedCheck, HostedDamage},
    entry::Digest,
};

/// Verifies a store and passes each step to `each`, until that breaks. A damaged zip is hashed again before it is next
/// opened for a client. Blocks.
pub(crate) fn check(store: &HostedStore, each: impl FnMut(HostedCheck) -> ControlFlow<()>) {
    let seen = HashSet::new();
    let mut checker = StoreChecker { store, each, seen, versions: 0, zips: 0, bytes: 0, damaged: 0, unchecked: 0 };
    // A break means that the steps are not read any more.
    let _ = checker.run();
}

struct StoreChecker<'s, F> {
    store: &'s HostedStore,
    each: F,
    /// The zips that were checked, where the directory is a copy.
    seen: HashSet<Digest>,
    versions: u64,
    zips: u64,
    bytes: u64,
    damaged: u64,
    unchecked: u64,
}

impl<F: FnMut(HostedCheck) -> ControlFlow<()>> StoreChecker<'_, F> {
    fn run(&mut self) -> ControlFlow<()> {
        let packages = self.store.packages();
        let begin = {
            let index = self.store.index.read();
            let versions = packages.iter().map(|package| package.versions().count()).sum();
            HostedCheck::Begin { versions, zips: index.blob_count(), bytes: index.bytes() }
        };
        (self.each)(begin)?;
        for package in &packages {
            for version in package.versions() {
                self.check_version(&package.name, &version.version)?;
            }
        }
        for folder in 0..=u8::MAX {
            self.check_folder(folder)?;
        }
        if is_copy(self.store) {
            for package in &packages {
                for version in package.versions() {
                    self.check_missing_zips(&package.name, &version.version)?;
                }
            }
        }
        let &mut Self { versions, zips, bytes, damaged, unchecked, .. } = self;
        (self.each)(HostedCheck::End { versions, zips, bytes, damaged, unchecked })
    }

    fn damaged(&mut self, kind: DamageKind, names: Vec<String>, sha256: Option<Digest>) -> ControlFlow<()> {
        self.damaged += 1;
        (self.each)(HostedCheck::Damaged(HostedDamage { kind, names, sha256 }))
    }

    fn check_version(&mut self, name: &str, version: &str) -> ControlFlow<()> {
        self.versions += 1;
        let store = self.store;
        let found = {
            // Index and record are compared while neither changes.
            let _changing = store.changing.lock();
            let package = store.package(name);
            let Some(known) = package.as_ref().and_then(|package| package.version(version)) else {
                return ControlFlow::Continue(());
            };
            version_damage(store, name, known)
        };
        for (kind, sha256) in found {
            self.damaged(kind, vec![format!("{name}@{version}")], sha256)?;
        }
        ControlFlow::Continue(())
    }

    /// Downloads the zips of a version that are not here; the download compares each with its digest.
    fn check_missing_zips(&mut self, name: &str, version: &str) -> ControlFlow<()> {
        // A record that cannot be read was found before.
        let Ok(record) = self.store.record(name, version) else { return ControlFlow::Continue(()) };
        for RecordedZip { digest, len, object } in zips_of(&RecordHead::from(&record)) {
            if !self.seen.insert(digest) {
                continue;
            }
            match download_zip(self.store, &digest, len, Some(&object)) {
                Ok(()) => {
                    self.zips += 1;
                    self.bytes += len;
                    (self.each)(HostedCheck::Zip { bytes: len })?;
                }
                Err(ZipDownloadError::Damaged) => {
                    let names = versions_with_zip(self.store, &digest);
                    self.damaged(DamageKind::ZipMissing, names, Some(digest))?;
                }
                // Deleted since.
                Err(ZipDownloadError::Unknown) => {}
                Err(ZipDownloadError::Unavailable(_) | ZipDownloadError::NoRoom | ZipDownloadError::Unwritable) => {
                    self.unchecked += 1;
                }
            }
        }
        ControlFlow::Continue(())
    }

    /// Hashes the zips of one folder.
    fn check_folder(&mut self, first: u8) -> ControlFlow<()> {
        let mut first_byte = [0; 32];
        first_byte[0] = first;
        let folder = self.store.layout.blob_folder(&Digest(first_byte));
        // A folder without zips need not exist, and a zip in one that cannot be read is missing for its version.
        let Ok(files) = fs::read_dir(folder) else { return ControlFlow::Continue(()) };
        let names = files.filter_map(|file| file.ok()?.file_name().into_string().ok());
        let mut zips: Vec<Digest> = names.filter_map(|name| name.parse().ok()).collect();
        zips.retain(|digest| digest.0[0] == first);
        zips.sort_unstable();
        for digest in zips {
            self.check_zip(&digest)?;
        }
        ControlFlow::Continue(())
    }

    fn check_zip(&mut self, digest: &Digest) -> ControlFlow<()> {
        let store = self.store;
        let (expected, is_stray) = {
            // Under this lock, a publication names its zip before it writes the record, and a deletion removes the zip
            // after the record.
            let _changing = store.changing.lock();
            let expected = store.index.read().blob_len(digest);
            let is_in_use = expected.is_some() || store.held.holds(digest);
            (expected, !is_in_use && store.layout.blob(digest).exists())
        };
        if is_stray {
            return self.damaged(DamageKind::ZipWithoutRecord, Vec::new(), Some(*digest));
        }
        let Some(expected) = expected else { return ControlFlow::Continue(()) };
        let hashed = store.open_zip(digest).and_then(|file| Ok((file.metadata()?.len(), Digest::of_file(&file)?)));
        let intact = match hashed {
            Ok((len, found)) => len == expected && found == *digest,
            // Deleted since, or missing, which its version has shown.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return ControlFlow::Continue(()),
            Err(_) => false,
        };
        if is_copy(store) {
            self.seen.insert(*digest);
        }
        self.zips += 1;
        self.bytes += expected;
        (self.each)(HostedCheck::Zip { bytes: expected })?;
        if intact || !store.index.read().has_blob(digest) {
            return ControlFlow::Continue(());
        }
        store.index.write().set_checked(digest, false);
        let names = versions_with_zip(store, digest);
        self.damaged(DamageKind::ZipDamaged, names, Some(*digest))
    }
}

/// What is wrong with a version. Does not read its zips.
fn version_damage(store: &HostedStore, name: &str, known: &HostedVersion) -> Vec<(DamageKind, Option<Digest>)> {
    let record = match store.record(name, &known.version) {
        Ok(record) => RecordHead::from(&record),
        Err(_) => return vec![(DamageKind::RecordUnreadable, None)],
    };
    let recorded = HostedVersion::of_record(&record);
    let mut found = Vec::new();
    if known.state != VersionState::Unreadable && recorded != *known {
        found.push((DamageKind::RecordChanged, None));
    }
    // A copy may lack any zip: those are looked for elsewhere.
    let exists = |digest: &Digest| is_copy(store) || store.layout.blob(digest).exists();
    let missing = recorded.zips().filter(|digest| !exists(digest));
    found.extend(missing.map(|digest| (DamageKind::ZipMissing, Some(*digest))));
    if found.is_empty() && known.state == VersionState::Unreadable {
        // Its length was wrong at the start, or it was repaired since.
        found.push((DamageKind::ZipDamaged, Some(recorded.digest)));
    }
    found
}

/// The versions that keep a zip. Reads the whole index: only for damaged zips.
fn versions_with_zip(store: &HostedStore, digest: &Digest) -> Vec<String> {
    let mut names = Vec::new();
    for package in store.packages() {
        let versions = package.versions().filter(|version| version.zips().any(|zip| zip == digest));
        names.extend(versions.map(|version| format!("{}@{}", package.name, version.version)));
    }
    names
}
