//! Recorded sources in the bucket: one object for each name and dialect, created once by the mirror that found the
//! source, and one state with what operators have set in its place.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::{sync::Notify, time::timeout};

use super::{
    Bucket, BucketError, StateWrite, damaged_objects::DamagedObjects, json::to_json, object_name::ObjectName,
    probe::Creation,
};
use crate::{
    entry::{Key, RecordedSource},
    package::DialectName,
};

/// The kind of the state with the sources that operators have set.
const SOURCES_STATE: &str = "sources";
/// How often the state is read, merged and written while others change it.
const SOURCES_ATTEMPTS: usize = 5;
/// Longest time for all attempts.
const SOURCES_TIMEOUT: Duration = Duration::from_secs(15);
/// Most sources that operators can set: every mirror reads all of them every few seconds, some 100 bytes each.
const MAX_SET_SOURCES: usize = 10_000;
/// Largest object of a source, bytes.
const MAX_SOURCE_BYTES: usize = 16 << 10;

/// The recorded sources in a bucket.
pub struct SharedSources {
    bucket: Arc<Bucket>,
    /// The sources that operators have set, as they were last read; `None` before the first read.
    set: Mutex<Option<Arc<SetSources>>>,
    damaged: DamagedObjects,
    /// Notified when a source was recorded which the bucket may not have.
    waiting: Notify,
}

/// The last source that an operator has set for each name: the later time counts. Names are never removed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetSources {
    sources: BTreeMap<DialectName, BTreeMap<String, SetSource>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct SetSource {
    upstream: String,
    at: Timestamp,
}

/// Whether a source that an operator has set before stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetMode {
    /// It is replaced.
    Replace,
    /// It stays.
    Keep,
}

/// Why sources are not set.
#[derive(Clone, Copy, Debug, thiserror::Error)]
pub enum SetSourceError {
    /// The bucket cannot be asked: they may be set, or not.
    #[error(transparent)]
    Bucket(#[from] BucketError),
    /// There are too many.
    #[error("operators have set the sources of {MAX_SET_SOURCES} names, and there can be no more: write [[routes]]")]
    TooMany,
}

impl SetSources {
    fn get(&self, name: &str, dialect: DialectName) -> Option<RecordedSource> {
        let SetSource { upstream, at } = self.sources.get(&dialect)?.get(name)?.clone();
        Some(RecordedSource { name: name.to_owned(), dialect, upstream, at })
    }

    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = RecordedSource> {
        self.sources.iter().flat_map(|(&dialect, names)| {
            names.iter().map(move |(name, SetSource { upstream, at })| RecordedSource {
                name: name.clone(),
                dialect,
                upstream: upstream.clone(),
                at: *at,
            })
        })
    }

    fn len(&self) -> usize {
        self.sources.values().map(BTreeMap::len).sum()
    }

    fn insert(&mut self, RecordedSource { name, dialect, upstream, at }: RecordedSource) {
        self.sources.entry(dialect).or_default().insert(name, SetSource { upstream, at });
    }

    /// Takes the sources of `other` that were set later.
    fn merge(&mut self, other: &Self) {
        for source in other.all() {
            let known = self.get(&source.name, source.dialect);
            if known.is_none_or(|known| (known.at, &known.upstream) < (source.at, &source.upstream)) {
                self.insert(source);
            }
        }
    }

    /// Sets sources. One that is set already is not set again, so the call can be repeated.
    fn set(&mut self, sources: &[RecordedSource], mode: SetMode) -> Result<(), SetSourceError> {
        let before = self.len();
        for source in sources {
            let mut source = source.clone();
            if let Some(known) = self.get(&source.name, source.dialect) {
                if known.upstream == source.upstream || mode == SetMode::Keep {
                    continue;
                }
                // The clocks of mirrors differ: what is set later has the later time all the same.
                let after = known.at.saturating_add(SignedDuration::from_nanos(1)).unwrap_or(known.at);
                source.at = source.at.max(after);
            }
            self.insert(source);
        }
        // What other mirrors have set is not refused.
        if self.len() > before.max(MAX_SET_SOURCES) { Err(SetSourceError::TooMany) } else { Ok(()) }
    }
}

impl SharedSources {
    /// The sources in a bucket.
    pub fn new(bucket: Arc<Bucket>) -> Self {
        Self { bucket, set: Mutex::default(), damaged: DamagedObjects::default(), waiting: Notify::new() }
    }

    /// Notifies the uploader that a source was recorded which the bucket may not have.
    pub fn notify(&self) {
        self.waiting.notify_one();
    }

    /// Waits for [`SharedSources::notify`].
    pub async fn notified(&self) {
        self.waiting.notified().await;
    }

    /// The source of a name in lower case. One request, once the state of what operators have set was read.
    ///
    /// # Errors
    /// When the bucket cannot be asked.
    pub async fn find(&self, name: &str, dialect: DialectName) -> Result<Option<RecordedSource>, BucketError> {
        match self.known_set().await?.get(name, dialect) {
            Some(set) => Ok(Some(set)),
            None => self.read(name, dialect).await,
        }
    }

    /// Records a source, unless the name has one; returns the one that counts. One request where it is new.
    ///
    /// # Errors
    /// When the bucket cannot decide; it may be recorded then.
    pub async fn record(&self, source: &RecordedSource) -> Result<RecordedSource, BucketError> {
        if let Some(set) = self.known_set().await?.get(&source.name, source.dialect) {
            return Ok(set);
        }
        let name = object_name(&source.name, source.dialect);
        match self.bucket.create(&name, to_json(source)?).await? {
            Creation::New => Ok(source.clone()),
            Creation::Exists => self.read(&source.name, source.dialect).await?.ok_or(BucketError::Damaged),
        }
    }

    async fn read(&self, name: &str, dialect: DialectName) -> Result<Option<RecordedSource>, BucketError> {
        let object = object_name(name, dialect);
        let Some(found) = self.bucket.get(&object, MAX_SOURCE_BYTES).await? else { return Ok(None) };
        let source = parse(&found.bytes).filter(|source| source.name == name && source.dialect == dialect);
        if source.is_none() && self.damaged.insert(&object) {
            tracing::error!(%object, "the recorded source in the bucket is damaged; set it with srm-mirror route set");
        }
        source.map(Some).ok_or(BucketError::Damaged)
    }

    /// The source that operators have set for a name, as it was last read. No request.
    pub fn set_source(&self, name: &str, dialect: DialectName) -> Option<RecordedSource> {
        self.set.lock().as_ref()?.get(name, dialect)
    }

    /// For how many more names sources can be set, by the state that was last read. No request.
    pub fn set_room(&self) -> usize {
        MAX_SET_SOURCES.saturating_sub(self.set.lock().as_ref().map_or(0, |set| set.len()))
    }

    /// Reads what operators have set on any mirror. What only this one knows, because the bucket has an older state, is
    /// written there again.
    ///
    /// # Errors
    /// When the bucket cannot be asked.
    pub async fn refresh(&self) -> Result<Arc<SetSources>, BucketError> {
        match self.exchange(&[], SetMode::Keep).await {
            Ok(set) => Ok(set),
            Err(SetSourceError::Bucket(error)) => Err(error),
            // Nothing is added.
            Err(SetSourceError::TooMany) => Err(BucketError::Damaged),
        }
    }

    /// Sets sources for all mirrors: all of them or none. Returns what is set then.
    ///
    /// # Errors
    /// [`SetSourceError`]; the call can be repeated.
    pub async fn set(&self, sources: &[RecordedSource], mode: SetMode) -> Result<Arc<SetSources>, SetSourceError> {
        let exchanged = timeout(SOURCES_TIMEOUT, self.exchange(sources, mode)).await;
        exchanged.unwrap_or(Err(SetSourceError::Bucket(BucketError::TimedOut)))
    }

    async fn known_set(&self) -> Result<Arc<SetSources>, BucketError> {
        let known = self.set.lock().clone();
        match known {
            Some(known) => Ok(known),
            None => self.refresh().await,
        }
    }

    /// Reads the state, merges it with what is known here, sets `sources`, and writes it if that changes it.
    async fn exchange(&self, sources: &[RecordedSource], mode: SetMode) -> Result<Arc<SetSources>, SetSourceError> {
        let mut failure = BucketError::Status(http::StatusCode::CONFLICT.as_u16());
        for _ in 0..SOURCES_ATTEMPTS {
            let read = self.bucket.read_state::<SetSources>(SOURCES_STATE).await;
            let read = read.inspect_err(|error| self.note_damaged_set(*error))?;
            let mut next = read.value.clone().unwrap_or_default();
            let known = self.set.lock().clone();
            if let Some(known) = known {
                next.merge(&known);
            }
            next.set(sources, mode)?;
            if read.value.as_ref() == Some(&next) || read.value.is_none() && next.len() == 0 {
                return Ok(self.merge_known(next));
            }
            match self.bucket.write_state(SOURCES_STATE, &next, read).await {
                Ok(StateWrite::Written) => return Ok(self.merge_known(next)),
                Ok(StateWrite::Changed) => {}
                // It may be written: what is read next says so.
                Err(error @ BucketError::Unreachable) => failure = error,
                Err(error) => return Err(error.into()),
            }
        }
        Err(failure.into())
    }

    fn note_damaged_set(&self, error: BucketError) {
        let object = ObjectName::state(SOURCES_STATE);
        if error == BucketError::Damaged && self.damaged.insert(&object) {
            tracing::error!(%object, "the sources that operators have set are damaged in the bucket; restore or delete the object");
        }
    }

    /// Replaces what is known here by `next`, merged with it.
    fn merge_known(&self, mut next: SetSources) -> Arc<SetSources> {
        let mut set = self.set.lock();
        // A concurrent exchange may have set a later one.
        if let Some(known) = &*set {
            next.merge(known);
        }
        set.insert(Arc::new(next)).clone()
    }
}

fn object_name(name: &str, dialect: DialectName) -> ObjectName {
    ObjectName::source(&Key::new(format!("{}/{name}", dialect.as_str())))
}

fn parse(text: &Bytes) -> Option<RecordedSource> {
    serde_json::from_slice(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(name: &str, upstream: &str, second: i64) -> RecordedSource {
        let at = Timestamp::from_second(second).expect("a time");
        RecordedSource { name: name.into(), dialect: DialectName::Srm, upstream: upstream.into(), at }
    }

    fn upstream(set: &SetSources, name: &str) -> Option<String> {
        set.get(name, DialectName::Srm).map(|source| source.upstream)
    }

    #[test]
    fn what_is_set_later_counts_also_where_a_clock_is_slow() {
        let mut set = SetSources::default();
        set.set(&[source("a", "gitee", 100)], SetMode::Replace).expect("set");
        let before = set.clone();
        set.set(&[source("a", "github", 10)], SetMode::Replace).expect("set");
        assert_eq!(upstream(&set, "a").as_deref(), Some("github"));
        for [one, other] in [[&before, &set], [&set, &before]] {
            let mut merged = one.clone();
            merged.merge(other);
            assert_eq!(merged, set);
        }
        let again = set.clone();
        set.set(&[source("a", "github", 200)], SetMode::Replace).expect("set");
        set.set(&[source("a", "gitee", 300)], SetMode::Keep).expect("kept");
        assert_eq!(set, again, "nothing is set twice");
    }

    #[test]
    fn the_state_is_bounded() {
        let mut set = SetSources::default();
        let sources: Vec<_> = (0..MAX_SET_SOURCES).map(|number| source(&number.to_string(), "gitee", 1)).collect();
        set.set(&sources, SetMode::Replace).expect("set");
        set.set(&[source("0", "github", 2)], SetMode::Replace).expect("replaced");
        assert!(matches!(set.set(&[source("one more", "gitee", 1)], SetMode::Replace), Err(SetSourceError::TooMany)));
    }

    #[test]
    fn the_state_can_be_read_by_a_person() {
        let mut set = SetSources::default();
        set.set(&[source("acme/tool", "gitee", 1)], SetMode::Replace).expect("set");
        let text = r#"{"sources":{"srm":{"acme/tool":{"upstream":"gitee","at":"1970-01-01T00:00:01Z"}}}}"#;
        assert_eq!(serde_json::to_string(&set).expect("text"), text);
        assert_eq!(serde_json::from_str::<SetSources>(text).expect("parses"), set);
    }
}
