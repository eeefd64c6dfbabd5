//! Export and import of zips and documents.

use std::{collections::BTreeSet, sync::Arc};

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, TryStreamExt as _, stream};
use http::Response;
use parking_lot::Mutex;

use super::{
    AdminError, Input, bucket_export,
    bucket_export::folded,
    drain,
    inventory::{INDEX_UNREADABLE, listed_items, selection},
    json_line, next_frame, with_type,
};
use crate::{
    admin_api::{
        AdminRequest as _, CheckDocument, ErrorCode, ExportArchives, ExportedItem, ImportArchive, ImportDocument,
        ImportReport, ImportedState, ListArchives, PlanImport, PlannedImport, ReadArchive,
    },
    dialect::Names,
    entry::ExportedDocument,
    http::body::{Body, BodyError},
    registry::{BucketError, ImportError, PinConflict, Registry, inventory::parse_package},
    service::{SendMode, audit::Acts, zip_body::range_body},
};

/// Zips whose import is planned at once: each costs a request to the shared bucket, where there is one.
const CONCURRENT_PLANS: usize = 16;
/// Longest claim before the bytes of a zip.
const MAX_CLAIM_BYTES: usize = 1 << 20;

/// One claim per selected zip, then every document of the selected packages, then the recorded sources that lead to them.
/// Each is read when it is sent.
pub(super) async fn export(
    registry: &Arc<Registry>,
    names: &Arc<Names>,
    request: ExportArchives,
) -> Result<impl Stream<Item = Result<ExportedItem, BodyError>> + use<>, AdminError> {
    let selection = selection(request.pattern.as_deref())?;
    let of_bucket = selection.clone();
    let documents = registry.inventory().document_keys(&selection.of_any_version()).await;
    let documents = documents.map_err(|error| AdminError::storage(INDEX_UNREADABLE, error))?;
    let sources = registry.sources().list().into_iter().filter_map(|source| {
        let package = names.id_on(&source.upstream, &source.name.parse().ok()?)?;
        Some((folded(&package), source))
    });
    let sources: Vec<_> = sources.collect();
    let packages: BTreeSet<_> = documents.iter().filter_map(parse_package).map(|package| folded(&package)).collect();
    let packages = Arc::new(Mutex::new(packages));

    let listed = ListArchives { pattern: request.pattern, ..ListArchives::default() };
    let of_zips = registry.clone();
    let seen = packages.clone();
    let zips = listed_items(registry, listed).await?.try_filter_map(move |item| {
        let registry = of_zips.clone();
        let is_hosted = registry.hosted().is_some_and(|hosted| *hosted.upstream() == item.package.upstream);
        if !is_hosted {
            seen.lock().insert(folded(&item.package));
        }
        async move {
            let archive = if is_hosted { None } else { registry.transfer().describe(&item.entry.key).await? };
            Ok(archive.map(ExportedItem::Zip))
        }
    });
    let registry = registry.clone();
    let shared = match request.shared {
        true => Some(bucket_export::shared_items(&registry, of_bucket, names.clone(), packages.clone())?),
        false => None,
    };
    // With the bucket, its items have the documents: of each the copy that was validated last.
    let documents = if shared.is_some() { Vec::new() } else { documents };
    let documents = stream::iter(documents).filter_map(move |key| {
        let registry = registry.clone();
        async move { registry.transfer().export_document(&key).await.map(ExportedItem::Document).map(Ok) }
    });
    let sources = stream::iter(sources).filter_map(move |(package, source)| {
        let is_selected = packages.lock().contains(&package);
        async move { is_selected.then_some(Ok(ExportedItem::Source(source))) }
    });
    Ok(zips.chain(documents).chain(stream::iter(shared).flatten()).chain(sources))
}

/// The bytes of one zip.
pub(super) async fn read_archive(registry: &Arc<Registry>, request: ReadArchive) -> Result<Response<Body>, AdminError> {
    let object = registry.transfer().open(&request.key).await;
    let Some(object) = object.map_err(|error| AdminError::storage("the zip cannot be read", error))? else {
        if request.shared {
            return bucket_export::read_shared(registry, request.key).await;
        }
        return Err(AdminError::new(ErrorCode::NotStored, "this zip is no longer stored"));
    };
    let len = object.meta.len;
    Ok(with_type("application/zip", range_body(object, 0..len, SendMode::Copy)))
}

/// What an import of each of these zips would do.
pub(super) async fn plan(
    registry: &Arc<Registry>,
    PlanImport(claims): PlanImport,
) -> Result<impl Stream<Item = PlannedImport> + use<>, AdminError> {
    let planned = stream::iter(claims).map(async |claim| {
        let state = registry.transfer().plan(&claim).await.map_err(import_refused)?;
        Ok::<_, AdminError>(PlannedImport { key: claim.key, state })
    });
    let planned: Vec<_> = planned.buffered(CONCURRENT_PLANS).try_collect().await?;
    Ok(stream::iter(planned))
}

/// Imports one zip. The input has a line with its [`ImportArchive`], then its bytes.
pub(super) async fn import(
    registry: &Arc<Registry>,
    mut input: Input,
    acts: &Acts,
) -> Result<Response<Body>, AdminError> {
    let imported = import_from(registry, &mut input, acts).await;
    if imported.is_err() {
        drain(&mut input).await;
    }
    imported.map(|report| json_line(&report))
}

async fn import_from(registry: &Arc<Registry>, input: &mut Input, acts: &Acts) -> Result<ImportReport, AdminError> {
    let mut first = Vec::new();
    let end = loop {
        if let Some(end) = first.iter().position(|byte| *byte == b'\n') {
            break end;
        }
        let frame = next_frame(input).await?.and_then(|frame| frame.into_data().ok());
        first.extend_from_slice(&frame.ok_or_else(|| AdminError::bad_request("the claim is incomplete"))?);
        if first.len() > MAX_CLAIM_BYTES {
            // A chunk of the body is far smaller: a claim this long has no end of line.
            return Err(AdminError::bad_request("the claim is too long"));
        }
    };
    let request: ImportArchive = serde_json::from_slice(&first[..end])
        .map_err(|error| AdminError::bad_request(format!("the claim is malformed: {error}")))?;
    let act = acts.begin(ImportArchive::ROUTE, &request).await?;
    let ImportArchive { force, claim } = request;
    let rest = Bytes::from(first.split_off(end + 1));
    let frames = stream::unfold(input, |input| async move {
        let frame = next_frame(input).await.transpose()?;
        let broken = |_| ImportError::Invalid("its bytes are incomplete".to_owned());
        Some((frame.map(|frame| frame.into_data().unwrap_or_default()).map_err(broken), input))
    });
    let body = stream::iter([Ok(rest)]).chain(frames);
    let on_conflict = if force { PinConflict::Replace } else { PinConflict::Refuse };
    let imported = registry.transfer().import(claim, body, on_conflict).await.map_err(import_refused);
    act.end(imported.as_ref().err().map(|error| error.message.as_str())).await;
    imported.map(|_| ImportReport { state: ImportedState::Stored })
}

/// Imports one document.
pub(super) async fn import_document(
    registry: &Arc<Registry>,
    ImportDocument(document): ImportDocument,
) -> Result<ImportReport, AdminError> {
    ensure_accepted(registry, &document)?;
    let state = registry.transfer().import_document(document).await.map_err(import_refused)?;
    Ok(ImportReport { state })
}

/// What an import of a document would do.
pub(super) async fn check_document(
    registry: &Arc<Registry>,
    CheckDocument(document): CheckDocument,
) -> Result<ImportReport, AdminError> {
    ensure_accepted(registry, &document)?;
    let stored = registry.transfer().has_document(&document.key, &document.meta).await;
    let stored = stored.map_err(|error| AdminError::storage("a stored document cannot be read", error))?;
    Ok(ImportReport { state: if stored { ImportedState::Stored } else { ImportedState::Wanted } })
}

fn ensure_accepted(registry: &Registry, document: &ExportedDocument) -> Result<(), AdminError> {
    if registry.transfer().accepts_document(&document.key, document.body.as_bytes()) {
        return Ok(());
    }
    let why = format!("this mirror has no place for {}", document.key);
    Err(AdminError::new(ErrorCode::InvalidImport, why))
}

fn import_refused(error: ImportError) -> AdminError {
    let code = match &error {
        ImportError::Invalid(_) => ErrorCode::InvalidImport,
        ImportError::Conflict | ImportError::Overruled => ErrorCode::Conflict,
        ImportError::Bucket(BucketError::Damaged) => ErrorCode::DamagedInBucket,
        ImportError::Bucket(_) => ErrorCode::Bucket,
        ImportError::NoRoom => ErrorCode::NoSpace,
        ImportError::NoMemory(_) => ErrorCode::NoMemory,
        ImportError::Io(cause) => {
            tracing::error!(error = %cause, "an import cannot be written");
            ErrorCode::Storage
        }
    };
    AdminError::new(code, error.to_string())
}
