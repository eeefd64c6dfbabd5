//! Recorded sources: from which upstream a name without an upstream was first served, per dialect.
//!
//! The file `sources.jsonl` is append-only, in space that is allocated ahead; the last line of a name and dialect counts.
//! Eviction and removal of archives do not change it: a name never changes its source silently. All records are in
//! memory, because every request of such a name reads one.

use std::{
    collections::{BinaryHeap, HashMap},
    io::{self, Read as _},
    path::Path,
    sync::Arc,
};

use jiff::Timestamp;
use parking_lot::{Mutex, RwLock};
use serde::{Deserialize, Serialize};

use super::{
    append_file::AppendFile,
    budget::Budget,
    health::{DiskArea, DiskHealth},
    skipped::SkippedFiles,
    space::Space,
};
use crate::{
    blocking::run_blocking_io,
    entry::RecordedSource,
    package::{DialectName, PackageName},
};

/// Most records: about 200 bytes of memory each.
const MAX_RECORDED_SOURCES: usize = 1_000_000;

/// What recording a source did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceRecord {
    /// The source is recorded now.
    Recorded,
    /// This source was recorded before; it may be the same one.
    Known(Arc<str>),
}

/// Where a recorded source is known to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourcePlace {
    /// On this mirror only: there is no shared bucket, or it could not be asked.
    Here,
    /// In the shared bucket, too.
    Bucket,
}

/// Which recorded sources are listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceSelection {
    /// All of them.
    All,
    /// Those at [`SourcePlace::Here`].
    NotShared,
}

type SourceTable = HashMap<DialectName, HashMap<String, KnownSource>>;

#[derive(Clone)]
struct KnownSource {
    upstream: Arc<str>,
    at: Timestamp,
    place: SourcePlace,
}

/// A line of the file.
#[derive(Serialize, Deserialize)]
struct SourceLine {
    name: String,
    dialect: DialectName,
    upstream: String,
    at: Timestamp,
    /// True when the bucket has it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    shared: bool,
}

/// The recorded sources of a cache directory.
pub(super) struct SourceStore {
    known: RwLock<SourceTable>,
    tail: Mutex<SourceFile>,
    space: Arc<Space>,
    health: Arc<DiskHealth>,
}

/// The file, to append to.
pub(super) struct SourceFile {
    file: AppendFile,
    /// The records that the file had when it was opened; [`SourceStore::new`] takes them.
    known: SourceTable,
}

impl SourceFile {
    /// Reads the file, which is created if missing. A torn last line is truncated; another line that cannot be read is
    /// skipped with a warning.
    ///
    /// # Errors
    /// When the file cannot be read or written.
    pub(super) fn open(path: &Path, budget: &Arc<Budget>, skipped: &SkippedFiles) -> io::Result<Self> {
        let mut file = AppendFile::open(path)?;
        let mut text = Vec::new();
        file.read_to_end(&mut text)?;
        let end = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
        if end < text.len() {
            tracing::warn!(bytes = text.len() - end, "the last line of the recorded sources is torn and is cut off");
        }
        let mut known = SourceTable::new();
        for line in text[..end].split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            match serde_json::from_slice::<SourceLine>(line) {
                Ok(SourceLine { name, dialect, upstream, at, shared }) => {
                    let place = if shared { SourcePlace::Bucket } else { SourcePlace::Here };
                    let source = KnownSource { upstream: upstream.into(), at, place };
                    known.entry(dialect).or_default().insert(name, source);
                }
                Err(_) => {
                    tracing::warn!("a damaged line of the recorded sources is skipped");
                    skipped.record_damaged_line();
                }
            }
        }
        Ok(Self { file: AppendFile::new(file, end as u64, budget)?, known })
    }
}

impl SourceStore {
    pub(super) fn new(mut file: SourceFile, space: Arc<Space>, health: Arc<DiskHealth>) -> Self {
        let known = RwLock::new(std::mem::take(&mut file.known));
        Self { known, tail: Mutex::new(file), space, health }
    }

    fn get(&self, name: &str, dialect: DialectName) -> Option<KnownSource> {
        self.known.read().get(&dialect)?.get(name).cloned()
    }

    fn append(&self, source: RecordedSource, place: SourcePlace, when_known: WhenKnown) -> io::Result<SourceRecord> {
        let mut tail = self.tail.lock();
        let known = self.get(&source.name, source.dialect);
        if let Some(known) = &known
            && (when_known == WhenKnown::Keep || *known.upstream == *source.upstream)
        {
            return Ok(SourceRecord::Known(known.upstream.clone()));
        }
        if known.is_none() && self.room() == 0 {
            return Err(no_room());
        }
        self.write(&mut tail, vec![source], place)?;
        Ok(SourceRecord::Recorded)
    }

    /// Writes those of `sources` that differ from what is recorded and for which `is_current` holds; returns them.
    ///
    /// # Errors
    /// When they cannot be written; or when there is no room for all names that have no record: the others are written.
    fn replace_all(
        &self,
        mut sources: Vec<RecordedSource>,
        place: SourcePlace,
        is_current: impl Fn(&RecordedSource) -> bool,
    ) -> io::Result<Vec<RecordedSource>> {
        let mut tail = self.tail.lock();
        let mut room = self.room();
        let mut has_room = true;
        sources.retain(|source| {
            let known = self.get(&source.name, source.dialect);
            if known.as_ref().is_some_and(|known| *known.upstream == *source.upstream) || !is_current(source) {
                return false;
            }
            if known.is_none() {
                has_room &= room > 0;
                let is_written = room > 0;
                room = room.saturating_sub(1);
                return is_written;
            }
            true
        });
        self.write(&mut tail, sources.clone(), place)?;
        if has_room { Ok(sources) } else { Err(no_room()) }
    }

    /// How many more names may have a record.
    fn room(&self) -> usize {
        MAX_RECORDED_SOURCES.saturating_sub(self.known.read().values().map(HashMap::len).sum())
    }

    /// Records that the bucket has these sources. Skips those that were replaced.
    fn set_shared(&self, mut sources: Vec<RecordedSource>) -> io::Result<()> {
        let mut tail = self.tail.lock();
        sources.retain(|source| {
            let known = self.get(&source.name, source.dialect);
            known.is_some_and(|known| *known.upstream == *source.upstream && known.place == SourcePlace::Here)
        });
        self.write(&mut tail, sources, SourcePlace::Bucket)
    }

    fn page_after(
        &self,
        after: Option<&RecordedSource>,
        limit: usize,
        selection: SourceSelection,
    ) -> Vec<RecordedSource> {
        let after = after.map(|after| (after.name.as_str(), after.dialect));
        let known = self.known.read();
        let all = known
            .iter()
            .flat_map(|(&dialect, names)| names.iter().map(move |(name, known)| ((name.as_str(), dialect), known)));
        let mut first = BinaryHeap::new();
        for (key, known) in all {
            let is_selected = selection == SourceSelection::All || known.place == SourcePlace::Here;
            if is_selected && after.is_none_or(|after| key > after) {
                first.push(key);
                if first.len() > limit {
                    first.pop();
                }
            }
        }
        let found = first.into_sorted_vec().into_iter().filter_map(|(name, dialect)| {
            let KnownSource { upstream, at, .. } = known.get(&dialect)?.get(name)?;
            Some(RecordedSource { name: name.to_owned(), dialect, upstream: upstream.to_string(), at: *at })
        });
        found.collect()
    }

    fn write(&self, tail: &mut SourceFile, sources: Vec<RecordedSource>, place: SourcePlace) -> io::Result<()> {
        let mut text = Vec::new();
        for RecordedSource { name, dialect, upstream, at } in sources.iter().cloned() {
            let line = SourceLine { name, dialect, upstream, at, shared: place == SourcePlace::Bucket };
            serde_json::to_writer(&mut text, &line)?;
            text.push(b'\n');
        }
        if text.is_empty() {
            return Ok(());
        }
        self.health.record(&[DiskArea::Pins], tail.file.append(&text, &self.space))?;
        let mut known = self.known.write();
        for RecordedSource { name, dialect, upstream, at } in sources {
            let source = KnownSource { upstream: upstream.into(), at, place };
            known.entry(dialect).or_default().insert(name, source);
        }
        Ok(())
    }
}

fn no_room() -> io::Error {
    io::Error::other("too many recorded sources")
}

/// What becomes of the source that is recorded already.
#[derive(Clone, Copy, PartialEq, Eq)]
enum WhenKnown {
    Keep,
    Replace,
}

/// The recorded sources of the disk tier. Cheap to clone.
#[derive(Clone)]
pub struct DiskSources {
    store: Arc<SourceStore>,
}

impl DiskSources {
    pub(super) fn new(store: Arc<SourceStore>) -> Self {
        Self { store }
    }

    /// The upstream recorded for a name, which is compared without case. Does not block.
    pub fn get(&self, name: &PackageName, dialect: DialectName) -> Option<Arc<str>> {
        // Every request of a name comes here; without records in its dialect it needs no copy of the name.
        let known = self.store.known.read();
        let names = known.get(&dialect).filter(|names| !names.is_empty())?;
        names.get(&name.folded()).map(|known| known.upstream.clone())
    }

    /// The record of a name, which is compared without case. Does not block.
    pub fn find(&self, name: &PackageName, dialect: DialectName) -> Option<RecordedSource> {
        let name = name.folded();
        let KnownSource { upstream, at, .. } = self.store.get(&name, dialect)?;
        Some(RecordedSource { dialect, upstream: upstream.to_string(), at, name })
    }

    /// Records a source unless one is recorded. Durable when it returns.
    ///
    /// # Errors
    /// When it cannot be written.
    pub async fn record(&self, source: RecordedSource, place: SourcePlace) -> io::Result<SourceRecord> {
        self.append(source, place, WhenKnown::Keep).await
    }

    /// Records a source in place of an earlier one: an operator demands it, or the bucket has it. Durable when it returns.
    ///
    /// # Errors
    /// When it cannot be written.
    pub async fn replace(&self, source: RecordedSource, place: SourcePlace) -> io::Result<SourceRecord> {
        self.append(source, place, WhenKnown::Replace).await
    }

    /// As [`DiskSources::replace`], in one write, for those of `sources` for which `is_current` holds at that time. Returns
    /// those that were written.
    ///
    /// # Errors
    /// When they cannot be written.
    pub async fn replace_all(
        &self,
        sources: Vec<RecordedSource>,
        place: SourcePlace,
        is_current: impl Fn(&RecordedSource) -> bool + Send + 'static,
    ) -> io::Result<Vec<RecordedSource>> {
        let store = Arc::clone(&self.store);
        run_blocking_io(move || store.replace_all(sources, place, is_current)).await
    }

    async fn append(
        &self,
        source: RecordedSource,
        place: SourcePlace,
        when_known: WhenKnown,
    ) -> io::Result<SourceRecord> {
        let store = Arc::clone(&self.store);
        run_blocking_io(move || store.append(source, place, when_known)).await
    }

    /// Records in one write that the bucket has these sources. Durable when it returns.
    ///
    /// # Errors
    /// When it cannot be written.
    pub async fn set_shared(&self, sources: Vec<RecordedSource>) -> io::Result<()> {
        let store = Arc::clone(&self.store);
        run_blocking_io(move || store.set_shared(sources)).await
    }

    /// At most `limit` of the selected records behind `after`, ordered by name and dialect.
    ///
    /// # Errors
    /// When the runtime is shut down.
    pub async fn page_after(
        &self,
        after: Option<RecordedSource>,
        limit: usize,
        selection: SourceSelection,
    ) -> io::Result<Vec<RecordedSource>> {
        let store = Arc::clone(&self.store);
        run_blocking_io(move || Ok(store.page_after(after.as_ref(), limit, selection))).await
    }

    /// Every record, ordered by name and dialect.
    pub fn list(&self) -> Vec<RecordedSource> {
        self.store.page_after(None, usize::MAX, SourceSelection::All)
    }
}
