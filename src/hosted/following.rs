//! Keeps the directory a copy of the primary store: reads every few seconds what was noted as changed, at the start and
//! every ten minutes all of it, and at once a package that is requested and not known here.
//!
//! Records that were published here before there was a primary store are uploaded ([`super::local_uploads`]). Where the
//! primary store has another record of the version, that counts: what was here is moved to `conflicts/`, with an error
//! in the log.
//!
//! What cannot be read is tried again each time, and does not stop the reading of the rest.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    fs,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use super::{
    HostedStore, HostedVersion, change_notes,
    local_uploads::{LocalUploads, LocalVersion},
    primary::{Primary, RECORDS_FOLDER, parse_record_name, record_name},
    primary_store::{ListedRecord, PrimaryUnavailable},
    record_copies::{confirm_zips, copy_unless_changed},
};

/// How often all records are listed.
pub(super) const LIST_PERIOD: Duration = Duration::from_secs(600);
/// Records that are read at once.
const CONCURRENT_READS: usize = 8;

/// Follows the primary store of a directory.
#[derive(Debug)]
pub(crate) struct HostedFollower {
    store: Arc<HostedStore>,
    seen: Mutex<FollowedState>,
    uploads: LocalUploads,
}

/// What was seen last.
#[derive(Clone, Debug, Default)]
struct FollowedState {
    /// The generation of the noted changes; `None` before the first list.
    generation: Option<u64>,
    listed_at: Option<Instant>,
    /// The records that could not be read, `package/version`; `package/` where they could not be listed.
    unread: FailedNames,
}

/// Names whose read failed, each with the number of failures in a row.
#[derive(Clone, Debug, Default)]
struct FailedNames(BTreeMap<String, u32>);

/// Records that could not be read; the others were.
struct UnreadRecords {
    /// As [`FollowedState`] has them.
    names: Vec<String>,
    error: PrimaryUnavailable,
}

/// The records in the primary store.
struct ListedRecords {
    names: HashSet<String>,
    /// As [`FollowedState`] has them.
    unread: Vec<String>,
}

/// A record that must be read, and what is known of it here.
struct StaleRecord {
    package: String,
    version: String,
    known: Option<HostedVersion>,
}

impl FailedNames {
    /// The packages with their versions.
    fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.keys().filter_map(|name| name.split_once('/'))
    }

    /// Sets what has failed. What fails twice in a row is named in the log, once.
    fn set(&mut self, names: Vec<String>, failure: &str) {
        let before = std::mem::take(&mut self.0);
        self.0.extend(names.into_iter().map(|name| {
            let failures = before.get(&name).map_or(1, |failures| failures.saturating_add(1));
            if failures == 2 {
                tracing::error!(record = %name, "{failure}");
            }
            (name, failures)
        }));
    }
}

impl HostedFollower {
    /// Follows the primary store of `store`; without one, all methods do nothing.
    pub(crate) fn new(store: Arc<HostedStore>) -> Self {
        Self { store, seen: Mutex::default(), uploads: LocalUploads::default() }
    }

    /// Copies all records of the primary store here; versions that are here alone are left to [`Self::upload`]. Blocks.
    ///
    /// # Errors
    /// When the primary store cannot be used.
    pub(crate) fn begin(&self) -> Result<(), PrimaryUnavailable> {
        let Some(primary) = &self.store.primary else { return Ok(()) };
        let noted = change_notes::read(&*primary.objects)?;
        self.list(primary)?;
        self.seen.lock().generation = Some(noted.generation);
        Ok(())
    }

    /// Copies the records here that have changed since the last call, or all of them if that is due. What cannot be read is
    /// tried again by the next call. Blocks.
    ///
    /// # Errors
    /// When the primary store cannot be used; the next call tries again.
    pub(crate) fn step(&self) -> Result<(), PrimaryUnavailable> {
        let Some(primary) = &self.store.primary else { return Ok(()) };
        primary.notes.write(&*primary.objects)?;
        let noted = change_notes::read(&*primary.objects)?;
        let FollowedState { generation, listed_at, unread } = self.seen.lock().clone();
        let is_due = listed_at.is_none_or(|at| at.elapsed() >= LIST_PERIOD);
        let changed = generation.filter(|_| !is_due).and_then(|generation| noted.since(generation));
        match changed {
            Some(packages) => {
                let packages: BTreeSet<&str> =
                    packages.into_iter().chain(unread.iter().map(|(name, _)| name)).collect();
                let failed = packages.iter().filter_map(|package| refresh_records(&self.store, primary, package).err());
                self.set_unread(primary, failed.flat_map(|failed| failed.names).collect());
            }
            None => self.list(primary)?,
        }
        self.seen.lock().generation = Some(noted.generation);
        Ok(())
    }

    /// True when [`Self::upload`] has something to do now.
    pub(crate) fn has_uploads(&self) -> bool {
        !self.uploads.due().is_empty()
    }

    /// Uploads the versions that are here alone, if their next attempt is due. Blocks, perhaps for long: to be called on a
    /// thread of its own beside [`Self::step`], one call at a time.
    pub(crate) fn upload(&self) {
        if let Some(primary) = &self.store.primary {
            self.uploads.upload_due(&self.store, primary);
        }
    }

    /// Copies every record here, and records which versions are here alone.
    fn list(&self, primary: &Primary) -> Result<(), PrimaryUnavailable> {
        let listed = copy_all_records(&self.store, primary)?;
        self.set_unread(primary, listed.unread);
        self.seen.lock().listed_at = Some(Instant::now());
        self.uploads.set(local_versions(&self.store, &listed.names));
        Ok(())
    }

    /// Sets which records could not be read. Call it after all records were listed, by this call or an earlier one.
    fn set_unread(&self, primary: &Primary, names: Vec<String>) {
        if names.is_empty()
            && !primary.is_complete.swap(true, Ordering::AcqRel)
            && let Err(error) = fs::write(self.store.layout.complete_copy(), b"")
        {
            tracing::warn!(%error, "the directory of published packages cannot be written");
        }
        let failure = "a published version cannot be read from the shared bucket, which has others";
        self.seen.lock().unread.set(names, failure);
    }
}

/// Copies the records of a package from the primary store; `package` is in any case. Without a primary store, does nothing.
/// Blocks.
///
/// # Errors
/// When the primary store cannot be used.
pub(crate) fn refresh(store: &HostedStore, package: &str) -> Result<(), PrimaryUnavailable> {
    let Some(primary) = &store.primary else { return Ok(()) };
    refresh_with(store, primary, &package.to_ascii_lowercase())
}

/// Copies the record of one version from the primary store. Without a primary store, does nothing. Blocks.
///
/// # Errors
/// When the primary store cannot be used.
pub(crate) fn refresh_version(store: &HostedStore, package: &str, version: &str) -> Result<(), PrimaryUnavailable> {
    let Some(primary) = &store.primary else { return Ok(()) };
    let package = package.to_ascii_lowercase();
    let known = store.package(&package).and_then(|package| package.version(version).cloned());
    copy_record(store, primary, &StaleRecord { package, version: version.to_owned(), known })
}

/// True when the directory is a copy of a primary store.
pub(crate) fn is_copy(store: &HostedStore) -> bool {
    store.primary.is_some()
}

/// True when every published package may be known here: the directory is no copy, or was complete once.
pub(crate) fn is_complete(store: &HostedStore) -> bool {
    store.primary.as_ref().is_none_or(|primary| primary.is_complete.load(Ordering::Acquire))
}

/// As [`refresh`]; `package` is in lower case.
pub(super) fn refresh_with(store: &HostedStore, primary: &Primary, package: &str) -> Result<(), PrimaryUnavailable> {
    refresh_records(store, primary, package).map_err(|unread| unread.error)
}

/// As [`refresh_with`], with the names of the records that cannot be read.
fn refresh_records(store: &HostedStore, primary: &Primary, package: &str) -> Result<(), UnreadRecords> {
    let mut stale = Vec::new();
    let listed =
        primary.list(&format!("{RECORDS_FOLDER}{package}/"), |listed| stale.extend(stale_record(store, &listed)));
    listed.map_err(|error| UnreadRecords { names: vec![format!("{package}/")], error })?;
    copy_records(store, primary, &stale)
}

/// Copies every record here.
fn copy_all_records(store: &HostedStore, primary: &Primary) -> Result<ListedRecords, PrimaryUnavailable> {
    let mut stale = Vec::new();
    let mut names = HashSet::new();
    primary.list(RECORDS_FOLDER, |listed| {
        stale.extend(stale_record(store, &listed));
        names.insert(listed.name);
    })?;
    let unread = copy_records(store, primary, &stale).err().map(|unread| unread.names).unwrap_or_default();
    Ok(ListedRecords { names, unread })
}

/// The versions here whose records are not among `listed`, the names of the records in the primary store.
fn local_versions(store: &HostedStore, listed: &HashSet<String>) -> Vec<LocalVersion> {
    let mut others = Vec::new();
    for package in store.packages() {
        let folded = package.name.to_ascii_lowercase();
        let versions = package.versions().filter(|version| !listed.contains(&record_name(&folded, &version.version)));
        let local =
            |version: &HostedVersion| LocalVersion { package: folded.clone(), version: version.version.to_string() };
        others.extend(versions.map(local));
    }
    others
}

/// A listed record that must be read: it is not the one that is known here.
fn stale_record(store: &HostedStore, listed: &ListedRecord) -> Option<StaleRecord> {
    let (package, version) = parse_record_name(&listed.name)?;
    let known = store.package(package).and_then(|package| package.version(version).cloned());
    if let (Some(known), Some(tag)) = (&known, &listed.tag)
        && known.tag.as_deref() == Some(tag)
        && !tag.is_empty()
    {
        confirm_zips(store, known);
        return None;
    }
    Some(StaleRecord { package: package.to_owned(), version: version.to_owned(), known })
}

/// Copies records here, several at a time.
fn copy_records(store: &HostedStore, primary: &Primary, stale: &[StaleRecord]) -> Result<(), UnreadRecords> {
    let next = AtomicUsize::new(0);
    let failed = Mutex::new(Vec::new());
    let work = || {
        while let Some(record) = stale.get(next.fetch_add(1, Ordering::Relaxed)) {
            if let Err(error) = copy_record(store, primary, record) {
                failed.lock().push((format!("{}/{}", record.package, record.version), error));
            }
        }
    };
    thread::scope(|scope| {
        for _ in 1..CONCURRENT_READS.min(stale.len()) {
            // Without a further thread, it takes longer.
            let _ = thread::Builder::new().name("hosted".into()).spawn_scoped(scope, work);
        }
        work();
    });
    let failed = failed.into_inner();
    let Some(&(_, error)) = failed.first() else { return Ok(()) };
    Err(UnreadRecords { names: failed.into_iter().map(|(name, _)| name).collect(), error })
}

fn copy_record(store: &HostedStore, primary: &Primary, stale: &StaleRecord) -> Result<(), PrimaryUnavailable> {
    let StaleRecord { package, version, known } = stale;
    let Some(found) = primary.record(package, version)? else { return Ok(()) };
    match found.record {
        Some(record) => copy_unless_changed(store, record, known.as_ref()),
        None if known.is_none() => {
            let _changing = store.changing.lock();
            store.index.write().set(package, HostedVersion::unreadable(version), |_| 0);
        }
        // The copy that is here is still served.
        None => {}
    }
    Ok(())
}
