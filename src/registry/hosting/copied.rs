//! Lookups and downloads for a directory that is a copy of a primary store: packages and versions that it does not have yet
//! are looked up there when they are asked for, and their zips are downloaded from there.

use std::time::Duration;

use super::{
    HostedPackages, damaged,
    shared_tasks::{NotRun, SharedTask, SharedTasks},
    status,
};
use crate::{
    cache::CacheFailure,
    clock::Clock,
    entry::{Digest, Key},
    hosted::{self, HostedFollower, HostedVersion, PrimaryUnavailable, VersionNumber, ZipDownloadError},
    origin::FetchError,
    package::{PackageId, PackageName},
    registry::RegistryError,
    value::bounded_cache::BoundedCache,
};

/// How long a lookup of a package or version is remembered.
const LOOKUP_AGE: Duration = Duration::from_secs(2);
/// The same for names that another upstream serves: a publication under such a name is followed within some seconds anyway.
const SERVED_NAME_AGE: Duration = Duration::from_secs(60);
/// How long a failed lookup is remembered.
const FAILED_LOOKUP_AGE: Duration = Duration::from_secs(1);
/// Most lookups that are remembered.
const MAX_LOOKUPS: u64 = 10_000;
/// Most lookups that run at the same time ...
const CONCURRENT_LOOKUPS: usize = 16;
/// ... and most downloads.
const CONCURRENT_DOWNLOADS: usize = 16;
/// When a client may try again after no place was free for its lookup or download.
const BUSY_RETRY: Duration = Duration::from_secs(5);
/// When a client may try again after the directory had no room.
const NO_ROOM_RETRY: Duration = Duration::from_secs(30);

/// The lookups and downloads of a directory that is a copy.
pub(super) struct CopiedPackages {
    clock: Clock,
    /// The last lookup of a package, by its name in lower case, or of a version, by that, a slash and its text.
    looked_up: BoundedCache<Key, PastLookup>,
    lookups: SharedTasks<Key, LookupOutcome>,
    downloads: SharedTasks<Digest, Result<(), ZipDownloadError>>,
}

type LookupOutcome = Result<(), PrimaryUnavailable>;

/// A finished lookup.
#[derive(Clone, Copy)]
struct PastLookup {
    /// When it ended, by [`Clock::uptime`].
    at: Duration,
    outcome: LookupOutcome,
}

/// A package or version to be looked up in the primary store.
struct PrimaryLookup {
    /// The name in lower case.
    package: String,
    /// `None` for the whole package.
    version: Option<VersionNumber>,
    key: Key,
}

impl CopiedPackages {
    pub(super) fn new(clock: Clock) -> Self {
        Self {
            clock,
            looked_up: BoundedCache::new(MAX_LOOKUPS),
            lookups: SharedTasks::new(CONCURRENT_LOOKUPS),
            downloads: SharedTasks::new(CONCURRENT_DOWNLOADS),
        }
    }
}

impl PrimaryLookup {
    /// `None` for a version that can have no record.
    fn new(name: &str, version: Option<&str>) -> Option<Self> {
        let version = version.map(str::parse::<VersionNumber>).transpose().ok()?;
        let package = name.to_ascii_lowercase();
        let key = version.as_ref().map_or_else(|| package.clone(), |version| format!("{package}/{version}"));
        Some(Self { package, version, key: Key::new(key) })
    }

    /// Joins the running lookup of the same key, or begins it.
    fn begin(self, hosted: &HostedPackages) -> SharedTask<LookupOutcome> {
        let store = hosted.store().clone();
        let looked_up = hosted.copied.looked_up.clone();
        let clock = hosted.copied.clock.clone();
        let Self { package, version, key } = self;
        hosted.copied.lookups.join(&key.clone(), move || {
            let outcome = match version {
                Some(version) => hosted::refresh_version(&store, &package, version.as_str()),
                None => hosted::refresh(&store, &package),
            };
            looked_up.insert(key, PastLookup { at: clock.uptime(), outcome });
            outcome
        })
    }

    async fn run(self, hosted: &HostedPackages) -> Result<(), RegistryError> {
        let outcome = self.begin(hosted).await;
        let outcome = outcome.unwrap_or(Err(PrimaryUnavailable { retry_after: BUSY_RETRY }));
        outcome.map_err(unavailable)
    }

    /// The outcome of the last lookup of the same key, if it is younger than `age`.
    fn past(&self, hosted: &HostedPackages, age: Duration) -> Option<LookupOutcome> {
        let past = hosted.copied.looked_up.get(&self.key)?;
        let age = if past.outcome.is_ok() { age } else { FAILED_LOOKUP_AGE };
        (hosted.copied.clock.uptime().saturating_sub(past.at) < age).then_some(past.outcome)
    }
}

fn unavailable(PrimaryUnavailable { retry_after }: PrimaryUnavailable) -> RegistryError {
    RegistryError::HostedUnavailable(retry_after)
}

/// Follows the primary store of these packages.
pub(crate) fn follower(hosted: &HostedPackages) -> HostedFollower {
    HostedFollower::new(hosted.store().clone())
}

/// Looks up a package that is not known here, or a version of it, in the primary store. Does nothing where the directory is
/// no copy.
///
/// # Errors
/// [`RegistryError::HostedUnavailable`].
pub(super) async fn look_up(hosted: &HostedPackages, name: &str, version: Option<&str>) -> Result<(), RegistryError> {
    look_up_after(hosted, name, version, LOOKUP_AGE).await
}

/// As [`look_up`], unless it was looked up less than `age` ago.
async fn look_up_after(
    hosted: &HostedPackages,
    name: &str,
    version: Option<&str>,
    age: Duration,
) -> Result<(), RegistryError> {
    if !hosted::is_copy(hosted.store()) {
        return Ok(());
    }
    let Some(lookup) = PrimaryLookup::new(name, version) else { return Ok(()) };
    match lookup.past(hosted, age) {
        Some(outcome) => outcome.map_err(unavailable),
        None => lookup.run(hosted).await,
    }
}

/// Whether a name that is not known as published has another source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NameUse {
    /// Another upstream serves it: it is looked up at most once a minute.
    ServedElsewhere,
    /// No source of it is known.
    Unserved,
}

/// Finds the published package of a name that is not known here: another mirror may have published it a moment ago.
///
/// # Errors
/// [`RegistryError::HostedUnavailable`] where the primary store cannot be asked, and this directory was never a complete copy.
pub(crate) async fn find_new(
    hosted: &HostedPackages,
    name: &PackageName,
    name_use: NameUse,
) -> Result<Option<PackageId>, RegistryError> {
    let age = match name_use {
        NameUse::ServedElsewhere => SERVED_NAME_AGE,
        NameUse::Unserved => LOOKUP_AGE,
    };
    match look_up_after(hosted, name.base_name(), None, age).await {
        Err(error) if !hosted::is_complete(hosted.store()) => return Err(error),
        // Names of other upstreams are served while the bucket fails.
        Ok(()) | Err(_) => {}
    }
    Ok(hosted.published_id(name))
}

/// Downloads the zip of a version. Concurrent calls share one download.
///
/// # Errors
/// Why it cannot be downloaded.
pub(super) async fn download(
    hosted: &HostedPackages,
    package: &PackageId,
    version: &HostedVersion,
    blob: Option<String>,
) -> Result<(), RegistryError> {
    let store = hosted.store().clone();
    let digest = version.digest;
    let len = version.len;
    let download =
        hosted.copied.downloads.join(&digest, move || hosted::download_zip(&store, &digest, len, blob.as_deref()));
    let downloaded = download.await.unwrap_or_else(|not_run| match not_run {
        NotRun::Busy => Err(ZipDownloadError::Unavailable(BUSY_RETRY)),
        NotRun::Lost => Err(ZipDownloadError::Unwritable),
    });
    downloaded.map_err(|error| match error {
        ZipDownloadError::Unavailable(retry_after) => RegistryError::HostedUnavailable(retry_after),
        ZipDownloadError::NoRoom => {
            let error = FetchError::NoRoom { retry_after: NO_ROOM_RETRY };
            RegistryError::Fetch(CacheFailure { error, status: status() })
        }
        ZipDownloadError::Damaged | ZipDownloadError::Unwritable | ZipDownloadError::Unknown => {
            damaged(package, &version.version, &std::io::ErrorKind::InvalidData.into())
        }
    })
}
