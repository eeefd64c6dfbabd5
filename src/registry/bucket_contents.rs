//! What the shared bucket has, for a bundle: read page by page, and compared with what is stored here.

use std::{collections::BTreeSet, io, sync::Arc};

use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use super::{
    Registry,
    inventory::Selection,
    keys::{is_pinned_key, parse_archive_key, parse_package, revision_prefix},
    transfer::exported_document,
};
use crate::{
    admin_api::LeftOut,
    cache::{BucketError, BucketReader, ClaimedZip, KeyFolder, ListedKey, with_patience},
    entry::{ExportedArchive, ExportedDocument, Key, RecordedSource},
    package::{DialectName, PackageName},
    upstream::GitRef,
};

/// Claims that are read at once: some KiB each, at most 1 MiB.
const CONCURRENT_CLAIMS: usize = 16;
/// Documents that are read at once: at most 4 MiB each.
const CONCURRENT_DOCUMENTS: usize = 4;

/// Reads what the bucket has of some packages and versions.
pub(crate) struct BucketContents {
    registry: Arc<Registry>,
    bucket: BucketReader,
    selection: Selection,
}

/// A version that the bucket has a claim for, and this mirror no zip of.
#[derive(Debug)]
pub(crate) enum SharedVersion {
    /// The description of its zip.
    Zip(Box<ExportedArchive>),
    /// It cannot be exported.
    LeftOut(Key, LeftOut),
}

/// One page of what the bucket has.
#[derive(Debug)]
pub(crate) struct SharedPage<T> {
    pub(crate) items: Vec<T>,
    /// The object after which the next page begins; `None` for the last page.
    pub(crate) next: Option<String>,
}

/// Why a page of the bucket cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BucketContentsError {
    /// The bucket cannot be asked.
    #[error(transparent)]
    Bucket(#[from] BucketError),
    /// What is stored here cannot be read.
    #[error(transparent)]
    Here(#[from] io::Error),
}

impl BucketContents {
    /// `None` without a bucket.
    pub(crate) fn new(registry: &Arc<Registry>, selection: Selection) -> Option<Self> {
        let bucket = BucketReader::new(registry.transfer().cache.bucket()?.clone());
        Some(Self { registry: registry.clone(), bucket, selection })
    }

    /// The selected versions of which no zip is stored here, in the order of their keys; an older revision of a moving version
    /// is not among them.
    ///
    /// # Errors
    /// [`BucketContentsError`].
    pub(crate) async fn versions_after(
        &self,
        after: Option<&str>,
    ) -> Result<SharedPage<SharedVersion>, BucketContentsError> {
        let page = self.bucket.keys_after(KeyFolder::Claims, after).await?;
        let read = stream::iter(page.keys).map(|listed| self.version(listed)).buffered(CONCURRENT_CLAIMS);
        let found: Vec<_> = read.try_collect().await?;
        Ok(SharedPage { items: found.into_iter().flatten().collect(), next: page.next })
    }

    /// Reads the claim of a listed key; `None` where the version is not selected, or its zip is stored here.
    async fn version(&self, listed: ListedKey) -> Result<Option<SharedVersion>, BucketContentsError> {
        // By its name, if the listing has it: then most claims need not be read.
        if let Some(key) = &listed.key
            && !self.wants_zip(key).await?
        {
            return Ok(None);
        }
        let archive = match self.bucket.claimed(&listed).await {
            Ok(Some(archive)) => archive,
            Ok(None) => return Ok(None),
            Err(BucketError::Damaged) => {
                let key = listed.key.unwrap_or_else(|| Key::new(listed.name));
                return Ok(Some(SharedVersion::LeftOut(key, LeftOut::Unreadable)));
            }
            Err(error) => return Err(error.into()),
        };
        let transfer = self.registry.transfer();
        if (listed.key.is_none() && !self.wants_zip(&archive.key).await?)
            || !transfer.accepts_archive(&archive)
            || transfer.has_later_revision(&archive).await?
        {
            return Ok(None);
        }
        let pin = transfer.cache.pins().get(&archive.key).await.map_err(io::Error::other)?;
        let is_other = pin.is_some_and(|pin| pin.verified.manifest != archive.meta.verified.manifest);
        Ok(Some(match is_other && is_pinned_key(&archive.key) {
            true => SharedVersion::LeftOut(archive.key, LeftOut::Mismatch),
            false => SharedVersion::Zip(Box::new(archive)),
        }))
    }

    async fn wants_zip(&self, key: &Key) -> io::Result<bool> {
        if parse_archive_key(key).is_none() || !self.selection.selects_archive(key) {
            return Ok(false);
        }
        Ok(!self.registry.transfer().cache.disk().inventory().contains(key).await?)
    }

    /// What the keys of all revisions of a moving version begin with; `None` for the key of a pinned version.
    pub(crate) fn revisions_of(key: &Key) -> Option<String> {
        match parse_archive_key(key)? {
            (package, GitRef::Moving { version, .. }) => Some(revision_prefix(&package, &version)),
            _ => None,
        }
    }

    /// The keys of the documents of the selected packages that are stored here.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub(crate) async fn own_document_keys(&self) -> Result<Vec<Key>, BucketContentsError> {
        let selection = self.selection.clone().of_any_version();
        Ok(self.registry.inventory().document_keys(&selection).await?)
    }

    /// The keys of the documents of the selected packages that only the bucket has.
    ///
    /// # Errors
    /// When the bucket cannot be asked.
    pub(crate) async fn document_keys_after(
        &self,
        after: Option<&str>,
        own: &BTreeSet<Key>,
    ) -> Result<SharedPage<Key>, BucketContentsError> {
        let selection = self.selection.clone().of_any_version();
        let page = self.bucket.keys_after(KeyFolder::Documents, after).await?;
        let selected = |key: &Key| {
            let is_selected = parse_package(key).is_some_and(|package| selection.selects(&package, None));
            is_selected && !own.contains(key)
        };
        let keys = page.keys.into_iter().filter_map(|listed| listed.key.filter(selected));
        Ok(SharedPage { items: keys.collect(), next: page.next })
    }

    /// The documents of these keys: of each the copy that was validated last, here or in the bucket.
    ///
    /// # Errors
    /// When the bucket cannot be asked.
    pub(crate) fn documents(
        &self,
        keys: Vec<Key>,
    ) -> impl futures_util::Stream<Item = Result<Option<ExportedDocument>, BucketContentsError>> {
        stream::iter(keys).map(|key| self.document(key)).buffered(CONCURRENT_DOCUMENTS)
    }

    async fn document(&self, key: Key) -> Result<Option<ExportedDocument>, BucketContentsError> {
        let transfer = self.registry.transfer();
        let own = transfer.cache.document_tiers().peek(&key).await;
        let shared = self.bucket.stored_document(&key).await?;
        let later = match (own, shared) {
            (Some(own), Some(shared)) if shared.meta.validated_at > own.meta.validated_at => Some(shared),
            (own, shared) => own.or(shared),
        };
        let exported = later.and_then(|document| exported_document(&key, &document));
        Ok(exported.filter(|document| transfer.accepts_document(&document.key, document.body.as_bytes())))
    }

    /// The recorded sources that are not recorded here, of all names.
    ///
    /// # Errors
    /// When the bucket cannot be asked.
    pub(crate) async fn sources_after(
        &self,
        after: Option<&str>,
    ) -> Result<SharedPage<RecordedSource>, BucketContentsError> {
        let page = self.bucket.keys_after(KeyFolder::Sources, after).await?;
        let mut items = Vec::new();
        let sources = self.registry.sources();
        for (dialect, name) in page.keys.iter().filter_map(|listed| parse_source_key(listed.key.as_ref()?)) {
            if sources.recorded(&name, dialect).is_some() {
                continue;
            }
            let Some(sharing) = sources.sharing() else { continue };
            match with_patience(|| sharing.find(&name, dialect)).await {
                Ok(source) => items.extend(source),
                // A damaged record is used by no mirror, and was logged when it was read.
                Err(BucketError::Damaged) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(SharedPage { items, next: page.next })
    }
}

/// Opens a zip of the bucket; `None` where it is not there.
///
/// # Errors
/// When the bucket cannot be asked.
pub(crate) async fn open_shared_zip(registry: &Registry, key: &Key) -> Result<Option<ClaimedZip>, BucketError> {
    match registry.transfer().cache.bucket() {
        Some(bucket) => BucketReader::new(bucket.clone()).open_claimed(key).await,
        None => Ok(None),
    }
}

fn parse_source_key(key: &Key) -> Option<(DialectName, PackageName)> {
    let (dialect, name) = key.as_str().split_once('/')?;
    let dialect = DialectName::ALL.into_iter().find(|known| known.as_str() == dialect)?;
    Some((dialect, name.parse().ok()?))
}
