//! Lists of what is stored, and the marks that keep zips from eviction.

use std::{collections::BTreeSet, io, sync::Arc};

use futures_util::{Stream, StreamExt as _, TryStreamExt as _, stream};

use super::{AdminError, blocking};
use crate::{
    admin_api::{ArchiveRow, ErrorCode, KeepArchives, KeepReport, ListArchives, ListPins, PinnedArchive},
    entry::Key,
    http::body::BodyError,
    registry::{
        ChangeError, InventoryEntry, KeepChange, Registry, StateChange, TierStats,
        hosting::{HostedPackages, HostedUpkeep},
        inventory::{ALL_SHARDS, Selection, SelectionError, StoredArchive},
    },
    service::audit::Acts,
};

/// Zips of a list that memory holds at once, about 25 MB. A longer list reads the index once for each page.
const MAX_LISTED_AT_ONCE: usize = 1 << 16;

pub(super) const INDEX_UNREADABLE: &str = "the index of the cache cannot be read";

/// The selection of a request; all packages without a pattern.
pub(super) fn selection(pattern: Option<&str>) -> Result<Selection, AdminError> {
    match pattern {
        Some(text) => text.parse().map_err(|error: SelectionError| AdminError::bad_request(error.to_string())),
        None => Ok(Selection::default()),
    }
}

/// The selection of a request that changes something: it must have a pattern.
pub(super) fn required_selection(pattern: Option<&str>) -> Result<Selection, AdminError> {
    match pattern {
        Some(_) => selection(pattern),
        None => Err(AdminError::bad_request("the request has no pattern; write * for everything")),
    }
}

/// The row of a stored zip in answers.
pub(super) fn archive_row(item: &StoredArchive) -> ArchiveRow {
    let StoredArchive { package, entry, .. } = item;
    let TierStats { hits, bytes: served } = entry.hit_stats.total();
    ArchiveRow {
        key: entry.key.clone(),
        upstream: package.upstream.to_string(),
        package: package.name.to_string(),
        kind: item.kind(),
        version: item.version().to_owned(),
        size: entry.len,
        sha256: entry.digest,
        stored_at: entry.stored_at,
        used_at: entry.last_use,
        hits,
        served,
        kept: entry.kept,
        pinned: entry.pinned,
        commit: entry.commit.clone(),
        findings: None,
    }
}

/// The selected published versions, by name.
async fn published(hosted: &Arc<HostedPackages>, selection: &Selection) -> Result<Vec<StoredArchive>, AdminError> {
    let add = |found: &mut Vec<_>, entry| found.extend(StoredArchive::of(entry));
    let found = HostedUpkeep::of(hosted).fold(selection.clone(), Vec::new(), add).await;
    found.map_err(|error| AdminError::storage(INDEX_UNREADABLE, error))
}

/// The state of a list that is sent page by page.
struct ListPosition {
    registry: Arc<Registry>,
    selection: Selection,
    request: ListArchives,
    /// The number of zips that may still be listed.
    left: usize,
}

/// Lists the selected zips, page by page. A zip whose place changes before its page is read may be
/// missing or listed twice.
pub(super) async fn list(
    registry: &Arc<Registry>,
    request: ListArchives,
) -> Result<impl Stream<Item = Result<ArchiveRow, BodyError>> + use<>, AdminError> {
    let findings = request.findings;
    let position = ListPosition::start(registry, request)?;
    let registry = registry.clone();
    Ok(position.items().await?.and_then(move |item| {
        let registry = registry.clone();
        async move {
            let findings = if findings { registry.inventory().model_findings(&item).await } else { None };
            Ok(ArchiveRow { findings, ..archive_row(&item) })
        }
    }))
}

/// The selected zips and published versions, in the order of the request, page by page as [`list`].
pub(super) async fn listed_items(
    registry: &Arc<Registry>,
    request: ListArchives,
) -> Result<impl Stream<Item = Result<StoredArchive, BodyError>> + use<>, AdminError> {
    ListPosition::start(registry, request)?.items().await
}

impl ListPosition {
    fn start(registry: &Arc<Registry>, request: ListArchives) -> Result<Self, AdminError> {
        let selection = selection(request.pattern.as_deref())?;
        let left = request.limit.unwrap_or(usize::MAX);
        Ok(Self { registry: registry.clone(), selection, request, left })
    }

    /// The zips, page by page.
    async fn items(mut self) -> Result<impl Stream<Item = Result<StoredArchive, BodyError>> + use<>, AdminError> {
        let first = self.page(None).await.map_err(|error| AdminError::storage(INDEX_UNREADABLE, error))?;
        let pages = stream::try_unfold((self, Some(first)), |(mut position, page)| async move {
            let Some(page) = page.filter(|page| !page.is_empty()) else { return Ok(None) };
            let last = page.last().filter(|_| page.len() == MAX_LISTED_AT_ONCE && position.left > 0).cloned();
            let next = match last {
                Some(last) => Some(position.page(Some(last)).await?),
                None => None,
            };
            Ok::<_, BodyError>(Some((page, (position, next))))
        });
        Ok(pages.map_ok(|page| stream::iter(page.into_iter().filter_map(StoredArchive::of)).map(Ok)).try_flatten())
    }

    /// The zips that follow `after`.
    async fn page(&mut self, after: Option<InventoryEntry>) -> io::Result<Vec<InventoryEntry>> {
        let count = self.left.min(MAX_LISTED_AT_ONCE);
        let page = self.registry.inventory().list_page(&self.selection, self.request.sort, after, count).await?;
        self.left -= page.len();
        Ok(page)
    }
}

/// Lists the selected zips with the time at which each was first seen, page by page as [`list`].
pub(super) async fn pins(
    registry: &Arc<Registry>,
    request: ListPins,
) -> Result<impl Stream<Item = Result<PinnedArchive, BodyError>> + use<>, AdminError> {
    let request = ListArchives { pattern: request.pattern, ..ListArchives::default() };
    let registry = registry.clone();
    Ok(ListPosition::start(&registry, request)?.items().await?.and_then(move |item| {
        let registry = registry.clone();
        async move {
            let pin = registry.inventory().pin(&item.entry.key).await?;
            let first_seen = pin.map_or(item.entry.stored_at, |pin| pin.first_seen);
            Ok(PinnedArchive { archive: archive_row(&item), first_seen })
        }
    }))
}

/// Marks the selected zips as never to be evicted, or removes the marks, also those of keys under which nothing is stored.
pub(super) async fn keep(
    registry: &Arc<Registry>,
    acts: &Acts,
    request: KeepArchives,
) -> Result<KeepReport, AdminError> {
    let KeepArchives { pattern, kept, dry_run } = request;
    let selection = required_selection(pattern.as_deref())?;
    let spreads = registry.transfer().removals().is_some();
    let change = if kept { KeepChange::Keep } else { KeepChange::Unkeep };
    let mut report = KeepReport { zips: 0, marked: 0, kept, marks: 0, dry_run, spreads };
    for shard in ALL_SHARDS {
        let entries = registry.inventory().fold(shard..=shard, &selection, Vec::new(), Vec::push).await;
        let mut entries: Vec<InventoryEntry> = entries.map_err(|error| AdminError::storage(INDEX_UNREADABLE, error))?;
        report.zips += entries.len();
        if !dry_run {
            let differing = entries.extract_if(.., |entry| entry.kept != kept);
            let differing: Vec<_> = differing.map(|entry| entry.key).collect();
            let marked = registry.inventory().mark(differing, change).await;
            report.marked += marked.map_err(|error| AdminError::storage("the mark cannot be written", error))?;
        }
        report.marked += entries.len();
    }
    keep_hosted(registry, acts, &selection, &mut report).await?;
    let marks = if kept { BTreeSet::new() } else { missing_kept_keys(registry, &selection).await? };
    if !dry_run {
        unmark(registry, &marks).await?;
        spread_mark(registry, pattern.unwrap_or_default(), change).await?;
    }
    Ok(KeepReport { marks: marks.len(), ..report })
}

/// Records the marks for the other mirrors of the bucket, which read them at once or when the bucket can be used.
async fn spread_mark(registry: &Registry, pattern: String, change: KeepChange) -> Result<(), AdminError> {
    const FAILED: &str = "it is marked here; the other mirrors cannot be told";
    let Some(removals) = registry.transfer().removals().cloned() else { return Ok(()) };
    let marked_at = registry.now();
    let recorded = blocking(FAILED, move || removals.record_mark(&pattern, change, marked_at)).await?;
    recorded.map_err(|error| AdminError::storage(FAILED, error))
}

/// Marks published versions as never to be pruned, or removes the marks.
async fn keep_hosted(
    registry: &Registry,
    acts: &Acts,
    selection: &Selection,
    report: &mut KeepReport,
) -> Result<(), AdminError> {
    let Some(hosted) = registry.hosted() else { return Ok(()) };
    let published = published(hosted, selection).await?;
    report.zips += published.len();
    for item in published {
        if report.dry_run || item.entry.kept == report.kept {
            report.marked += 1;
            continue;
        }
        let mark = report.kept.then(|| StateChange { by: acts.principal().to_owned(), at: registry.now() });
        match HostedUpkeep::of(hosted).keep(&item.package, item.version(), mark).await {
            Ok(()) => report.marked += 1,
            // Deleted in between.
            Err(ChangeError::Unknown | ChangeError::Deleted(_)) => {}
            Err(ChangeError::Io(error)) => return Err(AdminError::storage("the mark cannot be written", error)),
            Err(ChangeError::Unavailable(error)) => {
                return Err(AdminError::new(ErrorCode::Bucket, error.to_string()));
            }
        }
    }
    Ok(())
}

/// The selected keys that are marked while nothing is stored under them.
pub(super) async fn missing_kept_keys(registry: &Registry, selection: &Selection) -> Result<BTreeSet<Key>, AdminError> {
    let keys = registry.inventory().kept_missing_keys(selection).await;
    keys.map_err(|error| AdminError::storage(INDEX_UNREADABLE, error))
}

/// Removes the marks of these keys, under which nothing is stored.
pub(super) async fn unmark(registry: &Registry, keys: &BTreeSet<Key>) -> Result<(), AdminError> {
    let done = registry.inventory().clear_marks(keys.iter().cloned().collect()).await;
    done.map_err(|error| AdminError::storage("the mark cannot be removed", error))
}
