//! The backup of published packages: a tar archive that is written while the mirror publishes. Nothing in it
//! is trusted when it is read: every entry is checked.
//!
//! It holds `srm-mirror-hosted.json`, then all records in `records/{number}.jsonl`, then `failed.json` with the failed
//! publications, then `blobs/{sha256}`, then `srm-mirror-hosted-end.json`, which says that it is complete. No zip is
//! removed while it is written, so every record has its zip: in this archive, or in an earlier one where the archive is
//! incremental. Reservations are not in it: they end with the process.

use std::{
    collections::{BTreeMap, HashSet},
    fs::{self, File},
    io::{self, Read as _, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::Digest as _;

use super::{
    HostedPackage, HostedStore, VersionState,
    failed::{MAX_FAILED_FILE_BYTES, StoredFailures},
    primary::{RecordedZip, zips_of},
    record::RecordHead,
    zip_download::download_zip,
    zip_hold::ZipHold,
};
use crate::{
    entry::Digest,
    tar_file::{self, TAR_END},
};

/// Name of the first entry.
const BACKUP_MANIFEST: &str = "srm-mirror-hosted.json";
/// Name of the last entry.
const BACKUP_END: &str = "srm-mirror-hosted-end.json";
/// Name of the entry with the publications that failed.
const BACKUP_FAILED: &str = "failed.json";
/// The version of the format.
const BACKUP_FORMAT: u32 = 1;
/// Records are collected up to about this many bytes for one entry.
const RECORD_BATCH_BYTES: usize = 1 << 20;
/// Largest entry of records, bytes.
const MAX_RECORD_BATCH_BYTES: u64 = 64 << 20;
/// Largest first or last entry, bytes.
const MAX_BACKUP_HEAD_BYTES: u64 = 64 << 10;
/// Bytes of a zip that are read at once.
const BACKUP_COPY_BYTES: usize = 256 << 10;

/// The content of the first entry.
#[derive(Debug, Serialize, Deserialize)]
struct BackupManifest {
    format: u32,
    created_at: Timestamp,
}

/// The content of the last entry.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "lowercase")]
enum BackupEnd {
    /// All of it was written.
    Complete {
        /// The number of records.
        versions: u64,
        /// SHA-256 of the records, one per line.
        records: Digest,
    },
    /// It is no backup.
    Failed {
        /// Why.
        message: String,
    },
}

/// A backup that begins: from now on no zip is removed until this is dropped, which blocks.
#[derive(Debug)]
pub(crate) struct Backup {
    store: Arc<HostedStore>,
    packages: Vec<Arc<HostedPackage>>,
    failed: StoredFailures,
    known: HashSet<Digest>,
    _hold: ZipHold,
}

/// Why no backup is made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BackupError {
    /// A version cannot be read.
    #[error(
        "{0} cannot be read, so a backup would lack it; srm-mirror host verify names all that is damaged: put the files \
         back, or delete the version"
    )]
    Unreadable(String),
}

/// Why a backup is not complete.
enum BackupFault {
    /// It cannot be written.
    Write(io::Error),
    /// A part of the store cannot be read.
    Damaged(String),
}

impl From<io::Error> for BackupFault {
    fn from(error: io::Error) -> Self {
        Self::Write(error)
    }
}

impl Backup {
    /// Begins a backup of everything but the zips of `known`. Blocks.
    ///
    /// # Errors
    /// [`BackupError`].
    pub(crate) fn begin(store: &Arc<HostedStore>, known: HashSet<Digest>) -> Result<Self, BackupError> {
        let hold = ZipHold::begin(store);
        let packages = store.packages();
        for package in &packages {
            if let Some(version) = package.versions().find(|version| version.state == VersionState::Unreadable) {
                return Err(BackupError::Unreadable(format!("{} {}", package.name, version.version)));
            }
        }
        Ok(Self { store: store.clone(), packages, failed: store.failed.stored(), known, _hold: hold })
    }

    /// Estimated bytes of the zips that will be written.
    pub(crate) fn zip_bytes(&self) -> u64 {
        let mut seen = HashSet::new();
        let zips = self.packages.iter().flat_map(|package| package.versions()).flat_map(|version| version.zips());
        let zips = zips.filter(|digest| !self.known.contains(digest) && seen.insert(**digest));
        let index = self.store.index.read();
        zips.filter_map(|digest| index.blob_len(digest)).sum()
    }

    /// Writes the archive. Blocks. Where the store cannot be read, the archive says so in its last entry.
    ///
    /// # Errors
    /// When `out` cannot be written.
    pub(crate) fn write(self, mut out: impl Write, created_at: Timestamp) -> io::Result<()> {
        append_json(&mut out, BACKUP_MANIFEST, &BackupManifest { format: BACKUP_FORMAT, created_at })?;
        let end = match self.write_content(&mut out) {
            Ok(end) => end,
            Err(BackupFault::Write(error)) => return Err(error),
            Err(BackupFault::Damaged(message)) => BackupEnd::Failed { message },
        };
        append_json(&mut out, BACKUP_END, &end)?;
        out.write_all(&TAR_END)?;
        out.flush()
    }

    fn write_content(&self, out: &mut impl Write) -> Result<BackupEnd, BackupFault> {
        let mut zips: BTreeMap<Digest, RecordedZip> = BTreeMap::new();
        let mut batch = Vec::new();
        let mut number = 0;
        let mut versions = 0;
        let mut sha = sha2::Sha256::new();
        for package in &self.packages {
            for version in package.versions() {
                let start = batch.len();
                self.add_record(package, &version.version, &mut batch, &mut zips)?;
                sha.update(&batch[start..]);
                versions += 1;
                if batch.len() >= RECORD_BATCH_BYTES {
                    tar_file::append(&mut *out, &records_name(number), &batch)?;
                    batch.clear();
                    number += 1;
                }
            }
        }
        if !batch.is_empty() {
            tar_file::append(&mut *out, &records_name(number), &batch)?;
        }
        append_json(&mut *out, BACKUP_FAILED, &self.failed)?;
        for zip in zips.values().filter(|zip| !self.known.contains(&zip.digest)) {
            self.write_zip(out, zip)?;
        }
        Ok(BackupEnd::Complete { versions, records: Digest(sha.finalize().into()) })
    }

    /// Appends a record to `batch` as one line, and adds its zips to `zips`.
    fn add_record(
        &self,
        package: &HostedPackage,
        version: &str,
        batch: &mut Vec<u8>,
        zips: &mut BTreeMap<Digest, RecordedZip>,
    ) -> Result<(), BackupFault> {
        let path = self.store.layout.record(&package.name.to_ascii_lowercase(), version);
        let unreadable = || BackupFault::Damaged(format!("the record of {} {version} cannot be read", package.name));
        let text = fs::read(path).map_err(|_| unreadable())?;
        let head: RecordHead = serde_json::from_slice(&text).map_err(|_| unreadable())?;
        // Written again: the file may have been formatted by hand.
        let mut value: serde_json::Value = serde_json::from_slice(&text).map_err(|_| unreadable())?;
        // The tag belongs to this copy of the record.
        value.as_object_mut().map(|fields| fields.remove("tag"));
        serde_json::to_writer(&mut *batch, &value).map_err(|_| unreadable())?;
        batch.push(b'\n');
        zips.extend(zips_of(&head).into_iter().map(|zip| (zip.digest, zip)));
        Ok(())
    }

    /// Appends a zip, which is downloaded first if this directory is a copy and lacks it.
    fn write_zip(&self, out: &mut impl Write, zip: &RecordedZip) -> Result<(), BackupFault> {
        let RecordedZip { digest, len, object } = zip;
        let len = *len;
        let damaged = || {
            let text = format!("the zip {digest} is missing or damaged; srm-mirror host verify names its versions");
            BackupFault::Damaged(text)
        };
        let mut opened = self.store.open_zip(digest);
        if opened.is_err() && download_zip(&self.store, digest, len, Some(object)).is_ok() {
            opened = self.store.open_zip(digest);
        }
        let mut file = opened.map_err(|_| damaged())?;
        if file.metadata().map_err(|_| damaged())?.len() != len {
            return Err(damaged());
        }
        out.write_all(tar_file::header(&zip_name(digest), len)?.as_bytes())?;
        let mut sha = sha2::Sha256::new();
        let mut buf = vec![0; BACKUP_COPY_BYTES];
        let mut left = len;
        while left > 0 {
            let most = usize::try_from(left).unwrap_or(usize::MAX).min(buf.len());
            let read = file.read(&mut buf[..most]).unwrap_or(0);
            if read == 0 {
                // The entry gets its length, so that the end can be read.
                io::copy(&mut io::repeat(0).take(left), out)?;
                break;
            }
            sha.update(&buf[..read]);
            out.write_all(&buf[..read])?;
            left -= read as u64;
        }
        tar_file::pad(&mut *out, len)?;
        if Digest(sha.finalize().into()) == *digest { Ok(()) } else { Err(damaged()) }
    }
}

fn records_name(number: usize) -> String {
    format!("records/{number:06}.jsonl")
}

fn zip_name(digest: &Digest) -> String {
    format!("blobs/{digest}")
}

fn append_json(out: &mut impl Write, name: &str, value: &impl Serialize) -> io::Result<()> {
    tar_file::append(out, name, &serde_json::to_vec(value)?)
}

/// A backup whose structure was checked; its records and zips are not read yet.
#[derive(Debug)]
pub(crate) struct BackupFile {
    pub(super) path: PathBuf,
    pub(super) file: File,
    pub(super) created_at: Timestamp,
    /// SHA-256 of its records, one per line.
    pub(super) records: Digest,
    /// What it holds.
    pub(crate) summary: BackupSummary,
}

/// What a backup holds.
#[derive(Clone, Debug, Default)]
pub(crate) struct BackupSummary {
    /// The number of records.
    pub(crate) versions: u64,
    /// Its zips, in order.
    pub(crate) zips: Vec<Digest>,
    /// Bytes of its zips.
    pub(crate) bytes: u64,
}

/// A file that is no backup.
#[derive(Debug, thiserror::Error)]
#[error("{}: {problem}", path.display())]
pub(crate) struct BackupFileError {
    /// The file.
    pub(crate) path: PathBuf,
    /// What is wrong with it.
    pub(crate) problem: BackupProblem,
}

/// What is wrong with a backup.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BackupProblem {
    /// It cannot be read.
    #[error("cannot be read: {0}")]
    Io(io::Error),
    /// It is no such archive.
    #[error("it is no backup of published packages")]
    NoBackup,
    /// A later or earlier format.
    #[error("its format is {0}, this version knows {BACKUP_FORMAT}")]
    OtherFormat(u32),
    /// Something is missing.
    #[error("it is truncated or damaged: its last entry is missing")]
    Truncated,
    /// An entry that does not belong there.
    #[error("it has an entry that does not belong there: {0}")]
    Unexpected(String),
    /// The mirror could not complete it.
    #[error("it was not completed: {0}")]
    Failed(String),
}

/// A part of a backup while it is read.
pub(super) enum BackupPart<'e, 'a, 'f> {
    /// Records, one per line.
    Records(&'e mut tar::Entry<'a, &'f File>),
    /// The publications that failed.
    Failed(StoredFailures),
    /// One zip.
    Zip(Digest, &'e mut tar::Entry<'a, &'f File>),
}

/// How far a backup was read.
#[derive(Default)]
struct BackupPosition {
    manifest: Option<BackupManifest>,
    batches: usize,
    has_failed: bool,
    last_zip: Option<Digest>,
    end: Option<BackupEnd>,
}

impl BackupFile {
    /// Opens a file and reads its structure.
    ///
    /// # Errors
    /// [`BackupFileError`].
    pub(crate) fn open(path: &Path) -> Result<Self, BackupFileError> {
        let wrong = |problem| BackupFileError { path: path.to_owned(), problem };
        let file = File::open(path).map_err(|error| wrong(BackupProblem::Io(error)))?;
        let mut summary = BackupSummary::default();
        let position = read_parts(&file, |part| {
            if let BackupPart::Zip(digest, entry) = part {
                summary.zips.push(digest);
                summary.bytes = summary.bytes.saturating_add(entry.size());
            }
            Ok::<_, BackupProblem>(())
        });
        let position = position.map_err(wrong)?;
        let Some(BackupManifest { created_at, .. }) = position.manifest else {
            return Err(wrong(BackupProblem::NoBackup));
        };
        match position.end {
            Some(BackupEnd::Complete { versions, records }) => {
                summary.versions = versions;
                Ok(Self { path: path.to_owned(), file, created_at, records, summary })
            }
            Some(BackupEnd::Failed { message }) => Err(wrong(BackupProblem::Failed(message))),
            None => Err(wrong(BackupProblem::Truncated)),
        }
    }

    /// Calls `each` for every part, in order.
    ///
    /// # Errors
    /// The first error of `each`, or what is wrong with the file, which may have changed.
    pub(super) fn read<E: From<BackupProblem>>(
        &self,
        each: impl FnMut(BackupPart<'_, '_, '_>) -> Result<(), E>,
    ) -> Result<(), E> {
        read_parts(&self.file, each).map(drop)
    }
}

/// Reads an archive, and checks that each entry is the plain file that may stand there. Calls `each` for every part.
fn read_parts<E: From<BackupProblem>>(
    file: &File,
    mut each: impl FnMut(BackupPart<'_, '_, '_>) -> Result<(), E>,
) -> Result<BackupPosition, E> {
    let mut position = BackupPosition::default();
    let malformed = |error: io::Error| match error.kind() {
        io::ErrorKind::Other | io::ErrorKind::InvalidData => BackupProblem::NoBackup.into(),
        io::ErrorKind::UnexpectedEof => BackupProblem::Truncated.into(),
        _ => BackupProblem::Io(error).into(),
    };
    tar_file::each_entry(file, malformed, |mut entry| {
        let name = tar_file::plain_name(&entry).unwrap_or_else(|| "no plain file".to_owned());
        let unexpected = || BackupProblem::Unexpected(name.clone());
        if position.manifest.is_none() {
            if name != BACKUP_MANIFEST {
                return Err(BackupProblem::NoBackup.into());
            }
            let manifest: BackupManifest = read_json(&mut entry, MAX_BACKUP_HEAD_BYTES)?;
            if manifest.format != BACKUP_FORMAT {
                return Err(BackupProblem::OtherFormat(manifest.format).into());
            }
            position.manifest = Some(manifest);
            return Ok(());
        }
        if position.end.is_some() {
            return Err(unexpected().into());
        }
        if name == BACKUP_END {
            position.end = Some(read_json(&mut entry, MAX_BACKUP_HEAD_BYTES)?);
            return Ok(());
        }
        let is_before_zips = position.last_zip.is_none() && !position.has_failed;
        if is_before_zips && name == BACKUP_FAILED {
            position.has_failed = true;
            return each(BackupPart::Failed(read_json(&mut entry, MAX_FAILED_FILE_BYTES)?));
        }
        if is_before_zips && name == records_name(position.batches) {
            if entry.size() > MAX_RECORD_BATCH_BYTES {
                return Err(unexpected().into());
            }
            position.batches += 1;
            return each(BackupPart::Records(&mut entry));
        }
        let digest = name.strip_prefix("blobs/").and_then(|text| text.parse::<Digest>().ok());
        // In order, so none comes twice.
        let digest =
            digest.filter(|digest| zip_name(digest) == name && position.last_zip.is_none_or(|last| last < *digest));
        let digest = digest.ok_or_else(unexpected)?;
        position.last_zip = Some(digest);
        each(BackupPart::Zip(digest, &mut entry))
    })?;
    if position.end.is_none() {
        return Err(BackupProblem::Truncated.into());
    }
    Ok(position)
}

fn read_json<T: serde::de::DeserializeOwned>(
    entry: &mut tar::Entry<'_, &File>,
    max_bytes: u64,
) -> Result<T, BackupProblem> {
    if entry.size() > max_bytes {
        return Err(BackupProblem::NoBackup);
    }
    let mut text = Vec::new();
    entry.read_to_end(&mut text).map_err(BackupProblem::Io)?;
    serde_json::from_slice(&text).map_err(|_| BackupProblem::NoBackup)
}
