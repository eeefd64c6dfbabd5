//! What a directory that is a copy does not have yet: published packages and versions are looked for in the primary store
//! when they are asked for, and their zips are downloaded from there.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::{FutureExt as _, future::Shared};
use parking_lot::Mutex;
use tokio::{sync::Semaphore, task::spawn_blocking, time::timeout};

use super::{HostedPackages, damaged, status};
use crate::{
    cache::CacheFailure,
    entry::{Digest, Key},
    hosted::{self, HostedFollower, HostedStore, HostedVersion, PrimaryUnavailable, VersionNumber, ZipDownloadError},
    origin::{BoxFuture, FetchError},
    package::{PackageId, PackageName},
    registry::RegistryError,
    value::bounded_cache::BoundedCache,
};

/// How long it is remembered that a package or a version was looked up.
const LOOKUP_AGE: Duration = Duration::from_secs(2);
/// The same for names that are served from elsewhere: what is published under them is known here some seconds later.
const SERVED_NAME_AGE: Duration = Duration::from_secs(60);
/// Most of them that this is remembered of.
const MAX_LOOKUPS: u64 = 10_000;
/// Concurrent lookups and downloads, and the longest wait for a place among them.
const CONCURRENT_LOOKUPS: usize = 16;
const CONCURRENT_DOWNLOADS: usize = 16;
const PLACE_PATIENCE: Duration = Duration::from_secs(5);
/// When to try again where no place was free.
const BUSY_RETRY: Duration = Duration::from_secs(5);
/// When to try again where the directory has no room.
const NO_ROOM_RETRY: Duration = Duration::from_secs(30);

/// The lookups and downloads of a directory that is a copy.
pub(super) struct CopiedPackages {
    /// When a package was last looked up, by its name in lower case, or a version, by that, a slash and its text.
    looked_up: BoundedCache<Key, Instant>,
    lookups: Semaphore,
    downloads: ZipDownloads,
}

/// The running downloads: one of each zip.
struct ZipDownloads {
    running: Arc<Mutex<HashMap<Digest, SharedDownload>>>,
    places: Arc<Semaphore>,
}

/// A download that all who ask for its zip wait for.
type SharedDownload = Shared<BoxFuture<'static, Result<(), ZipDownloadError>>>;

impl Default for CopiedPackages {
    fn default() -> Self {
        let running = Arc::default();
        let places = Arc::new(Semaphore::new(CONCURRENT_DOWNLOADS));
        Self {
            looked_up: BoundedCache::new(MAX_LOOKUPS),
            lookups: Semaphore::new(CONCURRENT_LOOKUPS),
            downloads: ZipDownloads { running, places },
        }
    }
}

/// Follows the primary store of these packages.
pub(crate) fn follower(hosted: &HostedPackages) -> HostedFollower {
    HostedFollower::new(hosted.store().clone())
}

/// Looks a package up that is not known here; or a version of it. Where the directory is no copy, does nothing.
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
    // Other versions can have no record.
    let version = version.map(str::parse::<VersionNumber>).transpose();
    let (true, Ok(version)) = (hosted::is_copy(hosted.store()), version) else { return Ok(()) };
    let folded = name.to_ascii_lowercase();
    let key = version.as_ref().map_or_else(|| folded.clone(), |version| format!("{folded}/{version}"));
    let key = Key::new(key);
    let copied = &hosted.copied;
    let is_recent = || copied.looked_up.get(&key).is_some_and(|at| at.elapsed() < age);
    if is_recent() {
        return Ok(());
    }
    let place = timeout(PLACE_PATIENCE, copied.lookups.acquire()).await;
    if place.is_err() {
        return Err(RegistryError::HostedUnavailable(BUSY_RETRY));
    }
    // Another request may have looked it up while this one waited.
    if is_recent() {
        return Ok(());
    }
    let store = hosted.store().clone();
    let refreshed = spawn_blocking(move || match version {
        Some(version) => hosted::refresh_version(&store, &folded, version.as_str()),
        None => hosted::refresh(&store, &folded),
    });
    let refreshed = refreshed.await;
    let refreshed = refreshed.unwrap_or(Err(PrimaryUnavailable { retry_after: BUSY_RETRY }));
    refreshed.map_err(|PrimaryUnavailable { retry_after }| RegistryError::HostedUnavailable(retry_after))?;
    copied.looked_up.insert(key, Instant::now());
    Ok(())
}

/// The published package of a name that is not known here: another mirror may have published it a moment ago. Of a name that
/// is served from elsewhere all the time, a minute ago is enough.
///
/// # Errors
/// [`RegistryError::HostedUnavailable`] where that cannot be known, and no complete copy was here before.
pub(crate) async fn find_new(
    hosted: &HostedPackages,
    name: &PackageName,
    is_served_elsewhere: bool,
) -> Result<Option<PackageId>, RegistryError> {
    let age = if is_served_elsewhere { SERVED_NAME_AGE } else { LOOKUP_AGE };
    match look_up_after(hosted, name.base_name(), None, age).await {
        Err(error) if !hosted::is_complete(hosted.store()) => return Err(error),
        // Other names work while the bucket does not.
        Ok(()) | Err(_) => {}
    }
    Ok(hosted.published_id(name))
}

/// Downloads the zip of a version.
///
/// # Errors
/// When it cannot be had.
pub(super) async fn download(
    hosted: &HostedPackages,
    package: &PackageId,
    version: &HostedVersion,
    blob: Option<String>,
) -> Result<(), RegistryError> {
    let downloaded = hosted.copied.downloads.get(hosted.store(), version, blob).await;
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

impl ZipDownloads {
    /// Joins the download of a zip, or begins it. It goes on when its callers have left.
    async fn get(
        &self,
        store: &Arc<HostedStore>,
        version: &HostedVersion,
        blob: Option<String>,
    ) -> Result<(), ZipDownloadError> {
        let joined = {
            let mut running = self.running.lock();
            running.entry(version.digest).or_insert_with(|| self.begin(store, version, blob)).clone()
        };
        joined.await
    }

    fn begin(&self, store: &Arc<HostedStore>, version: &HostedVersion, blob: Option<String>) -> SharedDownload {
        let running = self.running.clone();
        let places = self.places.clone();
        let store = store.clone();
        let digest = version.digest;
        let len = version.len;
        let task = tokio::spawn(async move {
            let outcome = match timeout(PLACE_PATIENCE, places.acquire()).await {
                Err(_) => Err(ZipDownloadError::Unavailable(BUSY_RETRY)),
                Ok(_place) => {
                    let download = spawn_blocking(move || hosted::download_zip(&store, &digest, len, blob.as_deref()));
                    download.await.unwrap_or(Err(ZipDownloadError::Unwritable))
                }
            };
            running.lock().remove(&digest);
            outcome
        });
        let outcome = async move { task.await.unwrap_or(Err(ZipDownloadError::Unwritable)) };
        (Box::pin(outcome) as BoxFuture<'static, _>).shared()
    }
}
