//! Verification of everything that is published: records against the index, zips against their digests, both ways.

use std::{fs, io, ops::ControlFlow};

use super::{HostedStore, HostedVersion, VersionState, download_zip, is_copy, primary::zips_of, record::RecordHead};
use crate::{
    admin_api::{DamageKind, HostedCheck, HostedDamage},
    entry::Digest,
};

/// Verifies a store and passes each step to `each`, until that breaks. A damaged zip is compared again before it is next
/// opened for a client. Blocks.
pub(crate) fn check(store: &HostedStore, each: impl FnMut(HostedCheck) -> ControlFlow<()>) {
    let mut checker = StoreChecker { store, each, versions: 0, zips: 0, bytes: 0, damaged: 0 };
    // It breaks where nothing reads the steps any more.
    let _ = checker.run();
}

struct StoreChecker<'s, F> {
    store: &'s HostedStore,
    each: F,
    versions: u64,
    zips: u64,
    bytes: u64,
    damaged: u64,
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
        for package in packages {
            let versions: Vec<_> = package.versions().map(|version| version.version.clone()).collect();
            for version in versions {
                self.check_version(&package.name, &version)?;
            }
        }
        for folder in 0..=u8::MAX {
            self.check_folder(folder)?;
        }
        let &mut Self { versions, zips, bytes, damaged, .. } = self;
        (self.each)(HostedCheck::End { versions, zips, bytes, damaged })
    }

    fn damaged(&mut self, kind: DamageKind, names: Vec<String>, sha256: Option<Digest>) -> ControlFlow<()> {
        self.damaged += 1;
        (self.each)(HostedCheck::Damaged(HostedDamage { kind, names, sha256 }))
    }

    fn check_version(&mut self, name: &str, version: &str) -> ControlFlow<()> {
        self.versions += 1;
        let store = self.store;
        self.copy_zips(name, version);
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

    /// Downloads the zips of a version that are not here, where they can be had: each is compared with its digest then.
    fn copy_zips(&self, name: &str, version: &str) {
        if !is_copy(self.store) {
            return;
        }
        // What cannot be read or downloaded is found missing.
        let Ok(record) = self.store.record(name, version) else { return };
        for (digest, len, object) in zips_of(&RecordHead::from(&record)) {
            if !self.store.layout.blob(&digest).exists() {
                let _ = download_zip(self.store, &digest, len, Some(&object));
            }
        }
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
            // A publication names its zip before its record, and a deletion removes it after that, under this lock.
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
        self.zips += 1;
        self.bytes += expected;
        (self.each)(HostedCheck::Zip { bytes: expected })?;
        if intact || !store.index.read().has_blob(digest) {
            return ControlFlow::Continue(());
        }
        store.index.write().set_checked(digest, false);
        let names = names_of(store, digest);
        self.damaged(DamageKind::ZipDamaged, names, Some(*digest))
    }
}

/// What is wrong with a version, its zips not read.
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
    let exists = |digest: &Digest| store.layout.blob(digest).exists();
    let missing = recorded.zips().filter(|digest| !exists(digest));
    found.extend(missing.map(|digest| (DamageKind::ZipMissing, Some(*digest))));
    if found.is_empty() && known.state == VersionState::Unreadable {
        // Its length differed at the start, or it was repaired since.
        found.push((DamageKind::ZipDamaged, Some(recorded.digest)));
    }
    found
}

/// The versions that keep a zip. Looks through all of them: for what is damaged only.
fn names_of(store: &HostedStore, digest: &Digest) -> Vec<String> {
    let mut names = Vec::new();
    for package in store.packages() {
        let versions = package.versions().filter(|version| version.zips().any(|zip| zip == digest));
        names.extend(versions.map(|version| format!("{}@{}", package.name, version.version)));
    }
    names
}
