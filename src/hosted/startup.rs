//! Opening the directory: the lock, what a kill left behind, and the index.

use std::{
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use parking_lot::{Mutex, RwLock};

use super::{
    Config,
    copies::ZipCopies,
    durable_files::DurableFiles,
    failed::FailedPublications,
    index::{HostedIndex, HostedVersion},
    layout::{HostedLayout, RECORD_SUFFIX},
    primary::Primary,
    primary_store::PrimaryStore,
    record::RecordHead,
    space::HostedSpace,
    spent::SpentUploads,
    store::HostedStore,
};
use crate::entry::Digest;

/// The format that this program writes.
pub(super) const HOSTED_FORMAT: &str = "1\n";

/// Why the directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenHostedError {
    /// Another process holds it.
    #[error(
        "{} (upstreams.hosted.dir) is held by another process; stop that one, or give each mirror a directory of its own",
        dir.display()
    )]
    Busy {
        /// The directory.
        dir: PathBuf,
    },
    /// It has another format, or is no such directory.
    #[error(
        "{} (upstreams.hosted.dir) is no directory of published packages that this version reads; name another one, or \
         start the version that wrote it",
        dir.display()
    )]
    Format {
        /// The directory.
        dir: PathBuf,
    },
    /// An import into it was not finished.
    #[error(
        "an import into {} (upstreams.hosted.dir) was not finished; run srm-mirror host import again, or remove the \
         directory",
        dir.display()
    )]
    UnfinishedImport {
        /// The directory.
        dir: PathBuf,
    },
    /// The file system fails.
    #[error("{} (upstreams.hosted.dir): {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
}

impl HostedStore {
    /// Opens the directory, which is created where it is missing, removes what a kill left behind, and reads every record.
    /// Blocks.
    ///
    /// With a `primary` store, the directory is a copy of what is there.
    ///
    /// # Errors
    /// When another process holds it, or it cannot be read.
    pub(crate) fn open(
        dir: &Path,
        config: &Config,
        primary: Option<Arc<dyn PrimaryStore>>,
    ) -> Result<Self, OpenHostedError> {
        let layout = Arc::new(HostedLayout::new(dir.to_owned()));
        let at = |path: &Path| {
            let path = path.to_owned();
            move |source| OpenHostedError::Io { path, source }
        };
        fs::create_dir_all(dir).map_err(at(dir))?;
        let lock = lock_directory(&layout)?;
        check_format(&layout)?;
        let stage = layout.stage();
        if stage.is_dir() {
            fs::remove_dir_all(&stage).map_err(at(&stage))?;
        }
        for folder in [stage, layout.blobs(), layout.releases()] {
            fs::create_dir_all(&folder).map_err(at(&folder))?;
        }
        File::open(dir).and_then(|folder| folder.sync_all()).map_err(at(dir))?;
        let failed = FailedPublications::open(&layout).map_err(at(&layout.uploads()))?;
        let files = Arc::new(DurableFiles::default());
        let spent = SpentUploads::open(&layout, &files).map_err(at(&layout.spent()))?;
        let mut index = HostedIndex::default();
        let releases = layout.releases();
        let copied = if primary.is_some() { CopiedZips::InPrimary } else { CopiedZips::None };
        read_releases(&layout, &mut index, copied).map_err(at(&releases))?;
        if !index.has_unreadable() {
            remove_unused_blobs(&layout, &files, |digest| index.has_blob(digest)).map_err(at(&layout.blobs()))?;
        }
        let copies = primary.is_some().then(|| ZipCopies::open(&layout, &files)).transpose();
        let copies = copies.map_err(at(&layout.blobs()))?.map(Arc::new);
        let is_complete = layout.complete_copy().exists();
        let space = HostedSpace::new(dir.to_owned(), config.quota.0, config.min_free.0, copies.clone());
        space.set_stored(copies.as_ref().map_or(index.bytes(), |copies| copies.bytes()));
        Ok(Self {
            layout,
            files,
            failed,
            spent,
            space: Arc::new(space),
            index: RwLock::new(index),
            changing: Mutex::default(),
            held: Arc::default(),
            primary: primary.map(|objects| Primary::new(objects, is_complete)),
            copies,
            _lock: lock,
        })
    }
}

/// Locks the directory for this process; dropping the file unlocks it.
///
/// # Errors
/// When another process holds it.
pub(super) fn lock_directory(layout: &HostedLayout) -> Result<File, OpenHostedError> {
    let path = layout.lock();
    let file = File::options().read(true).write(true).create(true).truncate(false).open(&path);
    let file = file.map_err(|source| OpenHostedError::Io { path: path.clone(), source })?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(OpenHostedError::Busy { dir: layout.dir().to_owned() }),
        Err(TryLockError::Error(source)) => Err(OpenHostedError::Io { path, source }),
    }
}

/// Checks the format of an existing directory; writes it into a new one.
fn check_format(layout: &HostedLayout) -> Result<(), OpenHostedError> {
    let path = layout.format();
    let at = |source| OpenHostedError::Io { path: path.clone(), source };
    match fs::read_to_string(&path) {
        Ok(text) if text == HOSTED_FORMAT => Ok(()),
        Ok(_) => Err(OpenHostedError::Format { dir: layout.dir().to_owned() }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if layout.import().is_dir() {
                return Err(OpenHostedError::UnfinishedImport { dir: layout.dir().to_owned() });
            }
            if layout.releases().is_dir() {
                return Err(OpenHostedError::Format { dir: layout.dir().to_owned() });
            }
            let temporary = layout.dir().join("format.partial");
            fs::write(&temporary, HOSTED_FORMAT).map_err(at)?;
            File::open(&temporary).and_then(|file| file.sync_all()).map_err(at)?;
            fs::rename(&temporary, &path).map_err(at)
        }
        Err(error) => Err(at(error)),
    }
}

/// Whether a zip that is not here can be downloaded.
#[derive(Clone, Copy, PartialEq, Eq)]
enum CopiedZips {
    /// From the primary store, where the record is there.
    InPrimary,
    /// Nowhere.
    None,
}

/// Reads every record. A folder without records is what a kill left of a first publication.
fn read_releases(layout: &HostedLayout, index: &mut HostedIndex, copied: CopiedZips) -> io::Result<()> {
    for folder in fs::read_dir(layout.releases())? {
        let folder = folder?;
        // What another program has left here is no package.
        if !folder.file_type()?.is_dir() {
            continue;
        }
        let Some(name) = folder.file_name().to_str().map(str::to_owned) else { continue };
        let mut is_empty = true;
        for file in fs::read_dir(folder.path())? {
            let file = file?;
            is_empty = false;
            let Some(version) =
                file.file_name().to_str().and_then(|name| name.strip_suffix(RECORD_SUFFIX)).map(str::to_owned)
            else {
                continue;
            };
            let record = fs::read(file.path())
                .map_err(io::Error::other)
                .and_then(|text| serde_json::from_slice::<RecordHead>(&text).map_err(io::Error::other));
            let record =
                record.ok().filter(|record| record.version == version && record.name.eq_ignore_ascii_case(&name));
            let recorded: Vec<_> = record.iter().flat_map(RecordHead::zips).collect();
            let (name, version) = match record {
                Some(record) => served_version(layout, record, copied),
                None => {
                    tracing::error!(package = %name, %version, "the record of a published version cannot be read");
                    (name.clone(), HostedVersion::unreadable(&version))
                }
            };
            index.set(&name, version, |digest| {
                let recorded = recorded.iter().find(|(of, _)| of == digest && copied == CopiedZips::InPrimary);
                recorded.map(|(_, len)| *len).or_else(|| blob_len(layout, digest)).unwrap_or_default()
            });
        }
        if is_empty {
            fs::remove_dir(folder.path())?;
        }
    }
    Ok(())
}

/// The name and the version of a record; a version whose zip is missing or of another length is not served, unless the zip
/// can be downloaded.
fn served_version(layout: &HostedLayout, record: RecordHead, copied: CopiedZips) -> (String, HostedVersion) {
    let version = HostedVersion::of_record(&record);
    if version.is_served() && blob_len(layout, &version.digest) != Some(version.len) {
        if copied == CopiedZips::InPrimary && version.tag.is_some() {
            // A file of another length is found when it is opened.
            return (record.name, version);
        }
        let package = &record.name;
        tracing::error!(%package, version = %record.version, digest = %record.digest, "the zip of a published version is missing or damaged");
        return (record.name, HostedVersion::unreadable(&record.version));
    }
    (record.name, version)
}

fn blob_len(layout: &HostedLayout, digest: &Digest) -> Option<u64> {
    fs::metadata(layout.blob(digest)).ok().map(|stat| stat.len())
}

/// Removes the zips that are not used: what a kill left of a publication or a deletion.
pub(super) fn remove_unused_blobs(
    layout: &HostedLayout,
    files: &DurableFiles,
    is_used: impl Fn(&Digest) -> bool,
) -> io::Result<()> {
    layout.each_blob(|digest, path| if is_used(&digest) { Ok(()) } else { files.remove(path) })
}
