//! What the archive of a release says of its package: its manifest, its readme and its `s.yaml`, as far as the archive was
//! seen or is stored. Sends no upstream request. Access is not checked here: see [`super::authorize`].

use std::{io, sync::Arc};

use super::{archive_source::ArchiveSource, moving::MovingVersions, shared_work::SharedWorkCache};
use crate::{
    archive::{CentralDirectory, FolderFacts, SmallFile, StoredZipError, ZipFacts},
    blocking::spawn_blocking,
    cache::{Cache, Object},
    entry::{Digest, Meta, Pin, Verified},
    package::{FolderPath, ModelFinding, PackageId, PublishManifest},
    upstream::GitRef,
    value::memory_budget::MemoryShare,
};

/// Most bytes of cached files.
const MAX_FILES_BYTES: u64 = 16 << 20;
/// What an entry of that cache needs besides its texts, in bytes.
const FILES_OVERHEAD_BYTES: usize = 256;

/// Reads what the archives of releases say.
pub struct ReleaseFacts {
    cache: Arc<Cache>,
    archives: Arc<ArchiveSource>,
    moving: Arc<MovingVersions>,
    /// The small files of stored zips.
    files: SharedWorkCache<Arc<PackageFiles>, StoredZipError>,
}

/// The small files of one package: what they are read from.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct FilesKey {
    /// The digest of the zip.
    zip: Digest,
    /// The package's part of it; `None` for the whole.
    part: Option<FolderPart>,
}

/// The part of a zip that is a package of its own.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct FolderPart {
    /// The folder.
    pub(super) path: FolderPath,
    /// The `Type` in its `publish.yaml`.
    pub(super) kind: Option<String>,
}

/// The small files of a stored zip.
pub(super) struct StoredFiles {
    /// The digest of the zip.
    pub(super) zip: Digest,
    pub(super) files: Arc<PackageFiles>,
}

/// What the archive of one release says.
#[derive(Clone, Debug)]
pub struct ArchiveFacts {
    /// Where its manifest stands. It is parsed only to be rendered.
    pub content: KnownContent,
    /// Its small files; empty while the archive is not stored.
    pub files: Arc<PackageFiles>,
    /// Equal digests mean equal facts.
    pub digest: Digest,
}

impl ArchiveFacts {
    /// `source` names what `content` is read from.
    pub(super) fn new(content: KnownContent, source: &str, stored: Option<StoredFiles>) -> Self {
        let zip = stored.as_ref().map(|stored| stored.zip.to_string()).unwrap_or_default();
        let digest = Digest::of(format!("{source}+{zip}").as_bytes());
        Self { content, files: stored.map(|stored| stored.files).unwrap_or_default(), digest }
    }
}

/// What verification found in an archive, where it is kept.
#[derive(Clone, Debug)]
pub enum KnownContent {
    /// In a pin.
    Pinned(Arc<Pin>),
    /// In the description of a stored archive.
    Stored(Arc<Meta>),
    /// In the pin of a folder's version.
    Folder(Arc<FolderFacts>),
}

impl KnownContent {
    /// Its `publish.yaml`; empty without one.
    pub fn manifest(&self) -> PublishManifest {
        match self {
            Self::Pinned(pin) => manifest(&pin.verified),
            Self::Stored(meta) => manifest(&meta.verified),
            Self::Folder(facts) => facts.publish.clone(),
        }
    }

    /// Where it does not conform to the package model; `None` where an earlier release has verified it.
    pub(super) fn model_findings(&self) -> Option<Vec<ModelFinding>> {
        match self {
            Self::Pinned(pin) => ZipFacts::model_findings_in(&pin.verified.facts),
            Self::Stored(meta) => ZipFacts::model_findings_in(&meta.verified.facts),
            Self::Folder(facts) => facts.model.clone(),
        }
    }
}

/// Files of a package that are shown beside it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PackageFiles {
    /// `readme.md`.
    pub readme: Option<String>,
    /// `s.yaml`, of an application the one in `src/`.
    pub syaml: Option<String>,
}

impl FilesKey {
    fn digest(&self) -> Digest {
        let part = self.part.as_ref().map(|part| (part.path.as_str(), part.kind.as_deref()));
        Digest::of(format!("{} {part:?}", self.zip).as_bytes())
    }
}

impl PackageFiles {
    fn weight(&self) -> u32 {
        let texts = [&self.readme, &self.syaml].into_iter().flatten();
        u32::try_from(texts.map(String::len).sum::<usize>() + FILES_OVERHEAD_BYTES).unwrap_or(u32::MAX)
    }
}

impl ReleaseFacts {
    pub(super) fn new(cache: Arc<Cache>, archives: Arc<ArchiveSource>, moving: Arc<MovingVersions>) -> Self {
        Self { cache, archives, moving, files: SharedWorkCache::new(MAX_FILES_BYTES) }
    }

    /// What the archive of a tag says; `None` when it was never seen.
    pub async fn get(&self, package: &PackageId, tag: &str) -> Option<ArchiveFacts> {
        let reference = self.reference(package, tag).await?;
        let content = self.content(package, &reference).await?;
        let stored = self.stored_files(package, &reference, None).await;
        // Equal manifests mean equal files, and so equal facts.
        let files_digest = match &content {
            KnownContent::Pinned(pin) => pin.verified.manifest,
            KnownContent::Stored(meta) => meta.verified.manifest,
            KnownContent::Folder(_) => return None,
        };
        Some(ArchiveFacts::new(content, &files_digest.to_string(), stored))
    }

    /// The small files of a stored archive, or of a part of it; `None` when it is not stored or cannot be read.
    pub(super) async fn stored_files(
        &self,
        package: &PackageId,
        reference: &GitRef,
        part: Option<FolderPart>,
    ) -> Option<StoredFiles> {
        let zip = self.archives.stored_meta(package, reference).await?.digest;
        let files = self.files(package, reference, FilesKey { zip, part }).await?;
        Some(StoredFiles { zip, files })
    }

    /// What verification found in the archive of a tag; `None` when it was never seen.
    pub(super) async fn known_content(&self, package: &PackageId, tag: &str) -> Option<KnownContent> {
        let reference = self.reference(package, tag).await?;
        self.content(package, &reference).await
    }

    /// The reference of a tag; of a moving version its stored revision.
    async fn reference(&self, package: &PackageId, tag: &str) -> Option<GitRef> {
        if self.moving.is_moving(package, tag) {
            return self.moving.stored_reference(package, tag).await;
        }
        Some(GitRef::Tag(tag.to_owned()))
    }

    /// What verification found in an archive: from its pin; of a moving version or a published one from the stored zip.
    async fn content(&self, package: &PackageId, reference: &GitRef) -> Option<KnownContent> {
        if matches!(reference, GitRef::Moving { .. }) || self.archives.is_hosted(package) {
            return self.archives.stored_meta(package, reference).await.map(KnownContent::Stored);
        }
        self.archives.pin(package, reference).await.ok().flatten().map(KnownContent::Pinned)
    }

    /// The small files of a stored zip; `None` when it cannot be read.
    async fn files(&self, package: &PackageId, reference: &GitRef, key: FilesKey) -> Option<Arc<PackageFiles>> {
        let zip = key.zip;
        let part = key.part.clone();
        let read = async {
            let object = self.archives.peek(package, reference).await?;
            let object = object.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
            let files = {
                let object = object.clone();
                let mut memory = self.cache.memory().share();
                spawn_blocking(move || read_files(&object, part.as_ref(), &mut memory))
                    .await
                    .map_err(io::Error::other)?
            };
            if let Err(StoredZipError::Damaged) = &files {
                self.cache.archive_tiers().quarantine(&object).await;
            }
            let files = Arc::new(files?);
            let weight = files.weight();
            Ok((files, weight))
        };
        let files = self.files.get_or_make(key.digest(), read).await;
        let report = |error: &Option<Arc<StoredZipError>>| {
            let error = error.as_ref().map(ToString::to_string);
            tracing::warn!(%package, %zip, error, "cannot read files of a stored zip");
        };
        files.inspect_err(report).ok()
    }
}

/// Reads the small files of a zip, or of a part of it. Blocks.
fn read_files(
    object: &Object,
    part: Option<&FolderPart>,
    memory: &mut MemoryShare,
) -> Result<PackageFiles, StoredZipError> {
    // Facts of an earlier release that cannot be parsed: nothing is known of the zip's structure.
    let Ok(facts) = ZipFacts::from_value(&object.meta.verified.facts) else { return Ok(PackageFiles::default()) };
    let read = |buf: &mut [u8], offset| object.read_exact(buf, offset);
    let central = CentralDirectory::open(&facts, object.meta.len, memory, read)?;
    let kind = part.map_or(&facts.publish.kind, |part| &part.kind);
    let folder = part.map(|part| &part.path);
    let syaml = SmallFile::syaml_of(kind.as_deref());
    Ok(PackageFiles {
        readme: central.small_file(SmallFile::Readme, folder, read)?,
        syaml: central.small_file(syaml, folder, read)?,
    })
}

/// The manifest that verification read from an archive; empty when there is none.
pub(super) fn manifest(verified: &Verified) -> PublishManifest {
    ZipFacts::from_value(&verified.facts).map(|facts| facts.publish).unwrap_or_default()
}
