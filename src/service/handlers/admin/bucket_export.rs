//! Export of what only the shared bucket has. The bucket is asked on the runtime of the app.

use std::{
    collections::{BTreeSet, HashSet},
    sync::Arc,
};

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, stream};
use http::Response;
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};

use super::{AdminError, push::no_bucket, with_type};
use crate::{
    admin_api::{ErrorCode, ExportedItem},
    dialect::Names,
    entry::{ExportedArchive, Key, RecordedSource},
    http::body::{Body, BodyError},
    package::PackageId,
    registry::{
        BucketError, Registry,
        bucket_contents::{BucketContents, BucketContentsError, SharedVersion, open_shared_zip},
        inventory::{Selection, parse_package},
    },
};

/// Items that wait for the client: a document has up to 4 MiB.
const WAITING_ITEMS: usize = 4;
/// Parts of a zip that wait for the client.
const WAITING_PARTS: usize = 8;

/// The selected zips that only the bucket has; the documents, of each the copy that was validated last, here or in the bucket;
/// and the sources that only the bucket has and that lead to one of `packages`. Adds the packages of the zips and documents
/// to `packages`.
pub(super) fn shared_items(
    registry: &Arc<Registry>,
    selection: Selection,
    names: Arc<Names>,
    packages: Arc<Mutex<BTreeSet<String>>>,
) -> Result<impl Stream<Item = Result<ExportedItem, BodyError>> + use<>, AdminError> {
    let contents = BucketContents::new(registry, selection).ok_or_else(no_bucket)?;
    let (items, receiver) = mpsc::channel(WAITING_ITEMS);
    registry.spawn(async move {
        let last = match (BucketExport { contents, names, packages, items: items.clone() }).run().await {
            Ok(()) | Err(ExportOver::ClientLeft) => return,
            Err(ExportOver::Failed(BucketContentsError::Bucket(error))) => {
                Ok(ExportedItem::Stopped { message: error.to_string() })
            }
            Err(ExportOver::Failed(BucketContentsError::Here(error))) => Err(error.into()),
        };
        // An error means that the client has left.
        let _ = items.send(last).await;
    });
    Ok(stream::unfold(receiver, async |mut receiver| Some((receiver.recv().await?, receiver))))
}

struct BucketExport {
    contents: BucketContents,
    names: Arc<Names>,
    packages: Arc<Mutex<BTreeSet<String>>>,
    items: mpsc::Sender<Result<ExportedItem, BodyError>>,
}

/// Why an export has ended early.
enum ExportOver {
    ClientLeft,
    Failed(BucketContentsError),
}

impl From<BucketContentsError> for ExportOver {
    fn from(error: BucketContentsError) -> Self {
        Self::Failed(error)
    }
}

impl BucketExport {
    async fn run(&self) -> Result<(), ExportOver> {
        self.zips().await?;
        self.documents().await?;
        self.sources().await
    }

    async fn zips(&self) -> Result<(), ExportOver> {
        let mut after = None;
        // The latest revision so far of the present moving version: its revisions are listed one after the other.
        let mut latest: Option<(String, ExportedArchive)> = None;
        loop {
            let page = self.contents.versions_after(after.as_deref()).await?;
            for version in page.items {
                let archive = match version {
                    SharedVersion::Zip(archive) => *archive,
                    SharedVersion::LeftOut(key, why) => {
                        self.send(ExportedItem::LeftOut { key, why }).await?;
                        continue;
                    }
                };
                let Some(revisions) = BucketContents::revisions_of(&archive.key) else {
                    self.send_zip(archive).await?;
                    continue;
                };
                match &mut latest {
                    Some((known, latest)) if *known == revisions => {
                        if archive.meta.stored_at > latest.meta.stored_at {
                            *latest = archive;
                        }
                    }
                    _ => {
                        if let Some((_, before)) = latest.replace((revisions, archive)) {
                            self.send_zip(before).await?;
                        }
                    }
                }
            }
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        match latest {
            Some((_, archive)) => self.send_zip(archive).await,
            None => Ok(()),
        }
    }

    async fn documents(&self) -> Result<(), ExportOver> {
        let own = self.contents.own_document_keys().await?;
        self.send_documents(own.clone()).await?;
        let own: BTreeSet<_> = own.into_iter().collect();
        let mut after = None;
        loop {
            let page = self.contents.document_keys_after(after.as_deref(), &own).await?;
            self.send_documents(page.items).await?;
            after = page.next;
            if after.is_none() {
                return Ok(());
            }
        }
    }

    async fn send_documents(&self, keys: Vec<Key>) -> Result<(), ExportOver> {
        let mut documents = std::pin::pin!(self.contents.documents(keys));
        while let Some(document) = documents.next().await {
            if let Some(document) = document? {
                self.note_package(&document.key);
                self.send(ExportedItem::Document(document)).await?;
            }
        }
        Ok(())
    }

    async fn sources(&self) -> Result<(), ExportOver> {
        let mut after = None;
        let mut sent = HashSet::new();
        loop {
            let page = self.contents.sources_after(after.as_deref()).await?;
            for source in page.items {
                if self.leads_to_package(&source) && sent.insert((source.name.clone(), source.dialect)) {
                    self.send(ExportedItem::Source(source)).await?;
                }
            }
            after = page.next;
            if after.is_none() {
                return Ok(());
            }
        }
    }

    fn leads_to_package(&self, source: &RecordedSource) -> bool {
        let package = source.name.parse().ok().and_then(|name| self.names.id_on(&source.upstream, &name));
        package.is_some_and(|package| self.packages.lock().contains(&folded(&package)))
    }

    async fn send_zip(&self, archive: ExportedArchive) -> Result<(), ExportOver> {
        self.note_package(&archive.key);
        self.send(ExportedItem::SharedZip(archive)).await
    }

    fn note_package(&self, key: &Key) {
        self.packages.lock().extend(parse_package(key).map(|package| folded(&package)));
    }

    async fn send(&self, item: ExportedItem) -> Result<(), ExportOver> {
        self.items.send(Ok(item)).await.map_err(|_| ExportOver::ClientLeft)
    }
}

/// The bytes of a zip of the bucket, not verified.
pub(super) async fn read_shared(registry: &Arc<Registry>, key: Key) -> Result<Response<Body>, AdminError> {
    let (opened, answer) = oneshot::channel();
    let (parts, receiver) = mpsc::channel(WAITING_PARTS);
    let of_task = registry.clone();
    registry.spawn(async move {
        let mut zip = match open_shared_zip(&of_task, &key).await {
            Ok(Some(zip)) => zip,
            // An error of the send means that the client has left.
            other => {
                let _ = opened.send(other.map(|_| None));
                return;
            }
        };
        let _ = opened.send(Ok(Some(zip.len)));
        while let Some(part) = zip.body.next().await {
            let part: Result<Bytes, BodyError> = part.map_err(|error| BodyError::from(Box::new(error)));
            if parts.send(part).await.is_err() {
                // The client has left.
                return;
            }
        }
    });
    let len = match answer.await.unwrap_or(Err(BucketError::TimedOut)) {
        Ok(Some(len)) => len,
        Ok(None) => return Err(AdminError::new(ErrorCode::NotStored, "the shared bucket does not have this zip")),
        Err(error) => return Err(AdminError::new(ErrorCode::Bucket, error.to_string())),
    };
    let body = stream::unfold(receiver, async |mut receiver| Some((receiver.recv().await?, receiver)));
    Ok(with_type("application/zip", Body::stream(body.boxed(), Some(len))))
}

/// A package with its name in lower case, as recorded names are.
pub(super) fn folded(package: &PackageId) -> String {
    format!("{}:{}", package.upstream, package.name.folded())
}
