//! Garbage collection of the zips in one folder of the bucket: those that nothing names.

use std::{collections::HashSet, time::Duration};

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use jiff::Timestamp;
use serde::Serialize;

use super::{
    Bucket, BucketError, GarbageMode, GarbageProgress, GarbageRules, ListedObject, ObjectPage, ObjectSum,
    blob_name::{BlobFolder, BlobName},
    garbage_rules::CONCURRENT_REQUESTS,
    listing::ObjectPages,
    marks::{self, StoredMark},
    object_name::ObjectName,
    patience::with_patience,
};

/// Most unreadable objects that a report names of each kind.
const MAX_NAMED_OBJECTS: usize = 100;

/// The names of the zips that an object names, by its name and its bytes; `None` where it cannot be understood.
pub type ZipsOfReference = fn(&str, &[u8]) -> Option<Vec<String>>;

/// Zips of one folder, and the objects that name them.
pub(super) struct ZipSet {
    pub(super) folder: BlobFolder,
    /// The folder of the objects that name the zips.
    pub(super) references: &'static str,
    /// Largest of these objects, bytes.
    pub(super) max_reference_bytes: usize,
    pub(super) zips_of: ZipsOfReference,
    /// The progress after this many of these objects.
    pub(super) read: fn(u64) -> GarbageProgress,
    /// The progress after this many zips.
    pub(super) looked_at: fn(u64) -> GarbageProgress,
}

/// What a collection has found and done, or would do, with the zips of one folder.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ZipGarbage {
    /// Claims, or records of published versions, that were read.
    pub references: u64,
    /// Those that cannot be understood. While there are any, no zip of the folder is marked or deleted: they may name it.
    pub unreadable_references: Vec<String>,
    /// Marks that cannot be understood. Their zips are left alone.
    pub unreadable_marks: Vec<String>,
    /// All zips.
    pub zips: ObjectSum,
    /// Zips that nothing names, and that are too young to be marked.
    pub young: ObjectSum,
    /// Zips that are marked now.
    pub marked: ObjectSum,
    /// Zips that were marked before, but not for long enough.
    pub waiting: ObjectSum,
    /// Zips that are deleted.
    pub deleted: ObjectSum,
    /// Objects in the folder that are no zips.
    pub unknown: u64,
}

/// What becomes of an object in the folder of the zips.
enum BlobFate {
    Named,
    Young,
    Marked,
    Waiting,
    Deleted,
    Unknown,
    /// The name of its mark, which cannot be understood.
    Unreadable(String),
}

/// An object that may name zips.
enum ReadReference {
    To(Vec<BlobName>),
    Gone,
    /// Its name.
    Unreadable(String),
}

/// When a collection began to read, by the service's clock; nothing has an age before.
#[derive(Debug, Default)]
pub(super) struct ServiceTime(Option<Timestamp>);

impl ServiceTime {
    /// Takes the time of the first page. The machine's clock may be wrong.
    fn begin(&mut self, page: &ObjectPage) -> Result<(), BucketError> {
        if self.0.is_none() {
            self.0 = Some(page.answered_at.ok_or(BucketError::Damaged)?);
        }
        Ok(())
    }

    /// The time since then when the collection began to read; zero when that was later.
    pub(super) fn age(&self, then: Timestamp) -> Duration {
        let age = self.0.map(|now| now.duration_since(then));
        age.and_then(|age| Duration::try_from(age).ok()).unwrap_or_default()
    }
}

/// The collection of one [`ZipSet`].
pub(super) struct ZipCollection<'a> {
    bucket: &'a Bucket,
    rules: &'a GarbageRules,
    set: &'a ZipSet,
    /// The zips that are named; about 50 bytes for each.
    named: HashSet<BlobName>,
    report: ZipGarbage,
}

impl<'a> ZipCollection<'a> {
    pub(super) fn new(bucket: &'a Bucket, rules: &'a GarbageRules, set: &'a ZipSet) -> Self {
        Self { bucket, rules, set, named: HashSet::new(), report: ZipGarbage::default() }
    }

    /// Reads all objects that name zips, then lists the zips.
    pub(super) async fn run(
        mut self,
        time: &mut ServiceTime,
        progress: &dyn Fn(GarbageProgress),
    ) -> Result<ZipGarbage, BucketError> {
        self.read_references(time, progress).await?;
        if self.report.unreadable_references.is_empty() {
            self.collect_zips(time, progress).await?;
        }
        Ok(self.report)
    }

    async fn read_references(
        &mut self,
        time: &mut ServiceTime,
        progress: &dyn Fn(GarbageProgress),
    ) -> Result<(), BucketError> {
        let mut pages = ObjectPages::new(self.bucket, self.set.references);
        while let Some(page) = pages.next().await? {
            time.begin(&page)?;
            let read = stream::iter(page.objects).map(|object| self.read_reference(object.name));
            let read: Vec<_> = read.buffer_unordered(CONCURRENT_REQUESTS).try_collect().await?;
            for reference in read {
                match reference {
                    ReadReference::Gone => {}
                    ReadReference::To(names) => {
                        self.report.references += 1;
                        self.named.extend(names);
                    }
                    ReadReference::Unreadable(name) => add_name(&mut self.report.unreadable_references, name),
                }
            }
            progress((self.set.read)(self.report.references));
        }
        Ok(())
    }

    async fn read_reference(&self, name: String) -> Result<ReadReference, BucketError> {
        let object = ObjectName::listed(name);
        let found = with_patience(|| self.bucket.get(&object, self.set.max_reference_bytes)).await;
        let found = match found {
            Ok(Some(found)) => found,
            // Forgotten since it was listed.
            Ok(None) => return Ok(ReadReference::Gone),
            Err(BucketError::Damaged) => return Ok(ReadReference::Unreadable(object.to_string())),
            Err(error) => return Err(error),
        };
        let zips = (self.set.zips_of)(object.as_str(), &found.bytes);
        let names = zips.and_then(|zips| zips.iter().map(|zip| BlobName::parse(self.set.folder, zip)).collect());
        Ok(names.map_or_else(|| ReadReference::Unreadable(object.to_string()), ReadReference::To))
    }

    async fn collect_zips(
        &mut self,
        time: &ServiceTime,
        progress: &dyn Fn(GarbageProgress),
    ) -> Result<(), BucketError> {
        let mut pages = ObjectPages::new(self.bucket, self.set.folder.beginning());
        while let Some(page) = pages.next().await? {
            let fates = stream::iter(page.objects).map(|object| self.collect_zip(time, object));
            let fates: Vec<_> = fates.buffer_unordered(CONCURRENT_REQUESTS).try_collect().await?;
            for (fate, bytes) in fates {
                let report = &mut self.report;
                report.zips.add(bytes);
                match fate {
                    BlobFate::Named => {}
                    BlobFate::Young => report.young.add(bytes),
                    BlobFate::Marked => report.marked.add(bytes),
                    BlobFate::Waiting => report.waiting.add(bytes),
                    BlobFate::Deleted => report.deleted.add(bytes),
                    BlobFate::Unknown => report.unknown += 1,
                    BlobFate::Unreadable(mark) => add_name(&mut report.unreadable_marks, mark),
                }
            }
            progress((self.set.looked_at)(self.report.zips.objects));
        }
        Ok(())
    }

    async fn collect_zip(&self, time: &ServiceTime, object: ListedObject) -> Result<(BlobFate, u64), BucketError> {
        let fate = match BlobName::parse(self.set.folder, &object.name) {
            None => BlobFate::Unknown,
            Some(name) if self.named.contains(&name) => BlobFate::Named,
            Some(_) if time.age(object.modified_at) < self.rules.grace => BlobFate::Young,
            Some(name) => match with_patience(|| self.collect_unnamed(time, &name)).await {
                Err(BucketError::Damaged) => BlobFate::Unreadable(name.folder.mark(&name.digest).to_string()),
                fate => fate?,
            },
        };
        Ok((fate, object.len))
    }

    async fn collect_unnamed(&self, time: &ServiceTime, name: &BlobName) -> Result<BlobFate, BucketError> {
        let found = marks::read_mark(self.bucket, name.folder, &name.digest).await?;
        match &found {
            Some(mark) if mark.generation >= name.generation => {
                if !self.is_over(time, mark) {
                    return Ok(BlobFate::Waiting);
                }
                if self.rules.mode == GarbageMode::Delete {
                    self.bucket.delete(&name.object()).await?;
                }
                Ok(BlobFate::Deleted)
            }
            _ => {
                if self.rules.mode == GarbageMode::Delete {
                    marks::mark(self.bucket, name, found).await?;
                }
                Ok(BlobFate::Marked)
            }
        }
    }

    /// True when the objects that name zips were read after the grace of a mark.
    fn is_over(&self, time: &ServiceTime, mark: &StoredMark) -> bool {
        mark.marked_at.is_some_and(|marked_at| time.age(marked_at) >= self.rules.grace)
    }
}

/// Adds a name to those of a report, once.
fn add_name(names: &mut Vec<String>, name: String) {
    if names.len() < MAX_NAMED_OBJECTS && !names.contains(&name) {
        names.push(name);
    }
}
