//! What is stored: shown, counted, removed, kept.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::Arc,
};

use futures_util::stream;
use http::Response;
use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_json::{Value, json};

use super::{AdminError, lines, one};
use crate::{
    entry::{Digest, Key},
    http::body::Body,
    registry::{
        CacheUsage, HitStats, InventoryEntry, Registry, TierStats,
        inventory::{InventoryOrder, Selection, StoredArchive},
    },
    value::Period,
};

/// What a dry run says would go.
#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Planned {
    zips: BTreeSet<Key>,
    documents: BTreeSet<Key>,
    pins: BTreeSet<Key>,
    /// Keys that are kept while nothing is stored under them.
    marks: BTreeSet<Key>,
}

/// A request about what a pattern selects.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Ask {
    /// Absent: everything, where nothing is destroyed. An empty one is refused: it may be an unset variable.
    #[serde(deserialize_with = "selection")]
    pub(super) pattern: Selection,
    /// Say what would be done and do nothing.
    pub(super) dry_run: bool,
    /// For `rm` and `gc`: nothing but what a dry run has told; what has come since stays.
    only: Option<Planned>,
    /// For `rm`: forget the pins, too.
    forget: bool,
    /// For `keep`: false takes the mark away.
    kept: Option<bool>,
    /// For `gc`: remove what was not used for this long.
    unused: Option<Period>,
    /// For `stock`: in which order, and at most how many.
    sort: InventoryOrder,
    limit: Option<usize>,
    /// For `verify`: do not fetch damaged zips again.
    pub(super) no_fetch: bool,
}

impl Ask {
    /// Refuses to change everything when nobody has said so.
    fn named(self) -> Asked {
        if self.pattern.is_named() {
            return Ok(self);
        }
        Err(AdminError::bad("the request says no pattern; write */* for everything"))
    }

    /// The documents of every package that is selected, in whatever version.
    pub(super) fn with_documents(&self) -> Selection {
        self.pattern.clone().of_any_version()
    }
}

pub(super) type Asked = Result<Ask, AdminError>;

fn selection<'de, D: Deserializer<'de>>(from: D) -> Result<Selection, D::Error> {
    match Option::<String>::deserialize(from)? {
        Some(text) => text.parse().map_err(de::Error::custom),
        None => Ok(Selection::default()),
    }
}

const INDEX: &str = "the index of the cache cannot be read";

pub(super) async fn items(mirror: &Registry, selection: &Selection) -> Result<Vec<StoredArchive>, AdminError> {
    let stored = stored(mirror, selection, InventoryOrder::Name).await?;
    Ok(stored.into_iter().filter_map(StoredArchive::of).collect())
}

async fn stored(
    mirror: &Registry,
    selection: &Selection,
    sort: InventoryOrder,
) -> Result<Vec<InventoryEntry>, AdminError> {
    mirror.inventory().list(selection, sort).await.map_err(|error| AdminError::failed(INDEX, error))
}

/// An item as it is shown.
#[derive(Serialize)]
struct Shown<'i> {
    key: &'i Key,
    upstream: &'i str,
    package: String,
    kind: &'static str,
    version: &'i str,
    size: u64,
    sha256: Digest,
    stored_at: Timestamp,
    used_at: Timestamp,
    hits: u64,
    served: u64,
    kept: bool,
    pinned: bool,
    commit: Option<&'i str>,
}

impl<'i> From<&'i StoredArchive> for Shown<'i> {
    fn from(item: &'i StoredArchive) -> Self {
        let StoredArchive { package, entry: stored, .. } = item;
        let TierStats { hits, bytes: served } = stored.hit_stats.total();
        Self {
            key: &stored.key,
            upstream: &package.upstream,
            package: package.name.to_string(),
            kind: item.kind(),
            version: item.version(),
            size: stored.len,
            sha256: stored.digest,
            stored_at: stored.stored_at,
            used_at: stored.last_use,
            hits,
            served,
            kept: stored.kept,
            pinned: stored.pinned,
            commit: stored.commit.as_deref(),
        }
    }
}

/// An item that is shown when it is written.
struct Line(StoredArchive);

impl Serialize for Line {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        Shown::from(&self.0).serialize(to)
    }
}

/// An item as it is shown.
pub(super) fn shown(item: &StoredArchive) -> Value {
    json!(Shown::from(item))
}

/// Every selected zip, one per line. Only what the index says of them is held; the lines are made as they are read.
pub(super) async fn list(mirror: &Arc<Registry>, ask: Asked) -> Result<Response<Body>, AdminError> {
    let ask = ask?;
    let mut found = stored(mirror, &ask.pattern, ask.sort).await?;
    found.truncate(ask.limit.unwrap_or(usize::MAX));
    Ok(lines(stream::iter(found.into_iter().filter_map(StoredArchive::of).map(Line))))
}

/// What is stored of one upstream or package, and what it has answered.
#[derive(Default)]
struct Part {
    zips: u64,
    bytes: u64,
    hit_stats: HitStats,
}

impl Part {
    fn add(&mut self, item: &StoredArchive) {
        self.zips += 1;
        self.bytes += item.entry.len;
        self.hit_stats.add(item.entry.hit_stats);
    }

    fn json(&self) -> Value {
        let TierStats { hits, bytes } = self.hit_stats.total();
        json!({"zips": self.zips, "bytes": self.bytes, "hits": hits, "served": bytes})
    }
}

/// How many packages are named.
const TOP: usize = 10;

/// The tiers, the upstreams, and the packages that take or answer most. Hits and bytes served are those of what is stored
/// now, since it was stored.
pub(super) async fn stats(mirror: &Arc<Registry>) -> Result<Response<Body>, AdminError> {
    let CacheUsage { memory, disk, disk_areas: sums } = mirror.inventory().usage();
    let mut upstreams: BTreeMap<String, Part> = BTreeMap::new();
    let mut packages: BTreeMap<(Arc<str>, String), Part> = BTreeMap::new();
    let mut hit_stats = HitStats::default();
    let mut blobs = HashSet::new();
    for stored in stored(mirror, &Selection::default(), InventoryOrder::Name).await? {
        if blobs.insert(stored.digest) {
            hit_stats.add(stored.hit_stats);
        }
        let Some(item) = StoredArchive::of(stored) else { continue };
        upstreams.entry(item.package.upstream.to_string()).or_default().add(&item);
        packages.entry((item.package.upstream.clone(), item.package.name.to_string())).or_default().add(&item);
    }
    let mut packages: Vec<_> = packages.into_iter().collect();
    let count = packages.len();
    let top = |packages: &[((Arc<str>, String), Part)]| {
        let named = |((upstream, package), part): &((Arc<str>, String), Part)| {
            let mut value = part.json();
            (value["upstream"], value["package"]) = (json!(upstream), json!(package));
            value
        };
        packages.iter().take(TOP).map(named).collect::<Vec<_>>()
    };
    packages.sort_by_key(|(_, part)| Reverse(part.bytes));
    let largest = top(&packages);
    packages.retain(|(_, part)| part.hit_stats.total().hits > 0);
    packages.sort_by_key(|(_, part)| Reverse(part.hit_stats.total().hits));
    let busiest = top(&packages);
    let upstreams: serde_json::Map<String, Value> =
        upstreams.into_iter().map(|(name, part)| (name, part.json())).collect();
    Ok(one(&json!({
        "memory": {
            "bytes": memory.bytes, "limit": memory.limit, "objects": memory.objects,
            "hits": hit_stats.memory.hits, "served": hit_stats.memory.bytes,
        },
        "disk": {
            "bytes": disk.bytes, "limit": disk.limit, "objects": disk.objects,
            "zips": sums.blobs, "documents": sums.documents, "quarantine": sums.quarantine,
            "hits": hit_stats.disk.hits, "served": hit_stats.disk.bytes,
        },
        "upstreams": upstreams,
        "packages": count,
        "top": largest,
        "busiest": busiest,
        "downloads": mirror.inventory().fills_running(),
    })))
}

/// Removes zips, and where whole packages are selected their documents.
pub(super) async fn remove(mirror: &Arc<Registry>, ask: Asked) -> Result<Response<Body>, AdminError> {
    let ask = ask?.named()?;
    let failed = |error| AdminError::failed("something cannot be removed from the cache", error);
    let mut items = items(mirror, &ask.pattern).await?;
    let mut documents = mirror.inventory().document_keys(&ask.pattern).await.map_err(failed)?;
    let mut pins = if ask.forget {
        mirror.inventory().pinned_keys(&ask.pattern).await.map_err(failed)?
    } else {
        Default::default()
    };
    let mut marks = mirror.inventory().kept_missing_keys(&ask.pattern).await.map_err(failed)?;
    if let Some(only) = &ask.only {
        marks.retain(|key| only.marks.contains(key));
        documents.retain(|key| only.documents.contains(key));
        pins.retain(|key| only.pins.contains(key));
        items.retain(|StoredArchive { entry: InventoryEntry { key, .. }, .. }| {
            let told = only.zips.contains(key);
            // A zip that came after its pin was told keeps both: to forget the pin would remove the zip.
            let _ = !told && pins.remove(key);
            told
        });
    }
    let plan = Planned {
        zips: keys_of(&items),
        documents: documents.iter().cloned().collect(),
        pins: pins.iter().cloned().collect(),
        marks: marks.clone(),
    };
    let answer: Vec<Value> = items.iter().map(shown).collect();
    let forgotten = pins.len();
    if !ask.dry_run {
        unmark(mirror, &marks).await?;
        for item in &items {
            mirror.inventory().remove(&item.entry.key, ask.forget).await.map_err(failed)?;
            pins.remove(&item.entry.key);
        }
        for key in &pins {
            mirror.inventory().remove(key, true).await.map_err(failed)?;
        }
        for key in &documents {
            mirror.inventory().remove_document(key).await.map_err(failed)?;
        }
    }
    Ok(one(&json!({
        "zips": answer, "bytes": freed(&items), "documents": documents.len(), "forgotten": forgotten,
        "marks": marks.len(), "plan": plan, "dry_run": ask.dry_run,
    })))
}

/// Takes marks away that wait for what is not stored.
async fn unmark(mirror: &Registry, marks: &BTreeSet<Key>) -> Result<(), AdminError> {
    for key in marks {
        let done = mirror.inventory().keep(key, false).await;
        done.map_err(|error| AdminError::failed("a mark cannot be taken away", error))?;
    }
    Ok(())
}

fn keys_of(items: &[StoredArchive]) -> BTreeSet<Key> {
    items.iter().map(|item| item.entry.key.clone()).collect()
}

/// Bytes on disk that go with these items: a blob goes with the last of its keys.
fn freed(items: &[StoredArchive]) -> u64 {
    let mut blobs: BTreeMap<_, (usize, &InventoryEntry)> = BTreeMap::new();
    for StoredArchive { entry: stored, .. } in items {
        blobs.entry(stored.digest).or_insert((0, stored)).0 += 1;
    }
    blobs.values().filter(|(count, stored)| *count == stored.keys).map(|(_, stored)| stored.cost).sum()
}

/// Marks zips as never to be evicted, or takes the mark away.
pub(super) async fn keep(mirror: &Arc<Registry>, ask: Asked) -> Result<Response<Body>, AdminError> {
    let ask = ask?.named()?;
    let kept = ask.kept.unwrap_or(true);
    let mut changed = items(mirror, &ask.pattern).await?;
    changed.retain(|item| item.entry.kept != kept);
    for item in changed.iter_mut().filter(|_| !ask.dry_run) {
        let done = mirror.inventory().keep(&item.entry.key, kept).await;
        item.entry.kept = done.map_err(|error| AdminError::failed("the mark cannot be written", error))? == kept;
    }
    let waiting = if kept { Ok(BTreeSet::new()) } else { mirror.inventory().kept_missing_keys(&ask.pattern).await };
    let marks = waiting.map_err(|error| AdminError::failed(INDEX, error))?;
    if !ask.dry_run {
        unmark(mirror, &marks).await?;
    }
    Ok(one(&json!({
        "zips": changed.iter().map(shown).collect::<Vec<_>>(), "kept": kept, "marks": marks.len(), "dry_run": ask.dry_run,
    })))
}

/// Removes damaged files that were set aside, and zips that nobody has used for a while and nobody keeps.
pub(super) async fn collect(mirror: &Arc<Registry>, ask: Asked) -> Result<Response<Body>, AdminError> {
    let ask = ask?;
    let failed = |error| AdminError::failed("something cannot be removed from the cache", error);
    let mut old = Vec::new();
    if let Some(unused) = ask.unused {
        old = items(mirror, &ask.pattern).await?;
        let now = mirror.now();
        let age = |used: Timestamp| std::time::Duration::try_from(now.duration_since(used)).unwrap_or_default();
        let told = |key: &Key| ask.only.as_ref().is_none_or(|only| only.zips.contains(key));
        old.retain(|item| !item.entry.kept && age(item.entry.last_use) >= unused.0 && told(&item.entry.key));
    }
    let sums = mirror.inventory().usage().disk_areas;
    if !ask.dry_run {
        for item in &old {
            mirror.inventory().remove(&item.entry.key, false).await.map_err(failed)?;
        }
        mirror.inventory().clear_quarantine().await.map_err(failed)?;
    }
    Ok(one(&json!({
        "zips": old.iter().map(shown).collect::<Vec<_>>(), "bytes": freed(&old) + sums.quarantine,
        "quarantine": sums.quarantine, "plan": Planned { zips: keys_of(&old), ..Planned::default() },
        "dry_run": ask.dry_run,
    })))
}

/// Every selected pin: what was first seen, one per line.
pub(super) async fn pins(mirror: &Arc<Registry>, ask: Asked) -> Result<Response<Body>, AdminError> {
    let mut found = Vec::new();
    for item in items(mirror, &ask?.pattern).await? {
        let pin = mirror.inventory().pin(&item.entry.key).await;
        let pin = pin.map_err(|error| AdminError::failed("the record of pins cannot be read", error))?;
        let first_seen = pin.map_or(item.entry.stored_at, |pin| pin.first_seen);
        let mut value = shown(&item);
        value["first_seen"] = json!(first_seen);
        found.push(value);
    }
    Ok(lines(stream::iter(found)))
}
