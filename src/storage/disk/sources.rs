//! Recorded sources: from which upstream a name without an upstream was first served, per dialect.
//!
//! The file `sources.jsonl` is append-only, in space that is allocated ahead; the last line of a name and
//! dialect counts. Eviction and removal of archives keep it: a name never changes its source silently. All records are in memory, because every request of such a name
//! reads one.

use std::{
    collections::HashMap,
    io::{self, Read as _},
    path::Path,
    sync::Arc,
};

use jiff::Timestamp;
use parking_lot::{Mutex, RwLock};

use super::{
    append_file::AppendFile,
    blocking,
    budget::Budget,
    health::{DiskArea, DiskHealth},
    skipped::SkippedFiles,
    space::Space,
};
use crate::{
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
    /// Another one, or the same, was recorded before: this is it.
    Known(Arc<str>),
}

type SourceTable = HashMap<DialectName, HashMap<String, (Arc<str>, Timestamp)>>;

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
    /// What the file holds; taken when the store is made.
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
            match serde_json::from_slice::<RecordedSource>(line) {
                Ok(RecordedSource { name, dialect, upstream, at }) => {
                    known.entry(dialect).or_default().insert(name, (upstream.into(), at));
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

    fn get(&self, name: &str, dialect: DialectName) -> Option<Arc<str>> {
        self.known.read().get(&dialect)?.get(name).map(|(upstream, _)| upstream.clone())
    }

    fn append(&self, source: RecordedSource, replace: Replace) -> io::Result<SourceRecord> {
        let mut tail = self.tail.lock();
        if let Some(known) = self.get(&source.name, source.dialect)
            && (replace == Replace::Never || *known == *source.upstream)
        {
            return Ok(SourceRecord::Known(known));
        }
        if self.known.read().values().map(HashMap::len).sum::<usize>() >= MAX_RECORDED_SOURCES {
            return Err(io::Error::other("too many recorded sources"));
        }
        let written = self.write(&mut tail, &source);
        self.health.record(&[DiskArea::Pins], written)?;
        let RecordedSource { name, dialect, upstream, at } = source;
        self.known.write().entry(dialect).or_default().insert(name, (upstream.into(), at));
        Ok(SourceRecord::Recorded)
    }

    fn write(&self, tail: &mut SourceFile, source: &RecordedSource) -> io::Result<()> {
        let mut line = serde_json::to_vec(source)?;
        line.push(b'\n');
        tail.file.append(&line, &self.space)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Replace {
    Never,
    ByOperator,
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
        names.get(&name.folded()).map(|(upstream, _)| upstream.clone())
    }

    /// The record of a name, which is compared without case. Does not block.
    pub fn find(&self, name: &PackageName, dialect: DialectName) -> Option<RecordedSource> {
        let name = name.folded();
        let known = self.store.known.read();
        let (upstream, at) = known.get(&dialect)?.get(&name)?;
        Some(RecordedSource { dialect, upstream: upstream.to_string(), at: *at, name })
    }

    /// Records a source unless one is recorded. Durable when it returns.
    ///
    /// # Errors
    /// When it cannot be written.
    pub async fn record(&self, name: &PackageName, dialect: DialectName, upstream: &str) -> io::Result<SourceRecord> {
        self.append(name, dialect, upstream, Replace::Never).await
    }

    /// Replaces the recorded source: the operator's word. Durable when it returns.
    ///
    /// # Errors
    /// When it cannot be written.
    pub async fn replace(&self, name: &PackageName, dialect: DialectName, upstream: &str) -> io::Result<SourceRecord> {
        self.append(name, dialect, upstream, Replace::ByOperator).await
    }

    async fn append(
        &self,
        name: &PackageName,
        dialect: DialectName,
        upstream: &str,
        replace: Replace,
    ) -> io::Result<SourceRecord> {
        let source =
            RecordedSource { name: name.folded(), dialect, upstream: upstream.to_owned(), at: Timestamp::now() };
        let store = Arc::clone(&self.store);
        blocking(move || store.append(source, replace)).await
    }

    /// Every record, ordered by name and dialect.
    pub fn list(&self) -> Vec<RecordedSource> {
        let known = self.store.known.read();
        let mut all: Vec<RecordedSource> = Vec::new();
        for (dialect, names) in known.iter() {
            all.extend(names.iter().map(|(name, (upstream, at))| RecordedSource {
                name: name.clone(),
                dialect: *dialect,
                upstream: upstream.to_string(),
                at: *at,
            }));
        }
        all.sort_by(|a, b| (&a.name, a.dialect).cmp(&(&b.name, b.dialect)));
        all
    }
}
