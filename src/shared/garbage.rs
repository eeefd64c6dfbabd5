//! Garbage collection of the bucket: zips that no claim names, and small objects that have served their purpose.
//!
//! [`super::marks`] says why a deletion never meets a claim. A collection may be broken off at any point and repeated, and
//! several may run at once.

use std::{collections::HashSet, time::Duration};

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    Arbiter, Arbitration, Bucket, BucketError, ListedObject,
    archives::MAX_DESCRIPTION_BYTES,
    blob_name::BlobName,
    hosted_objects::MAX_HOSTED_OBJECT_BYTES,
    listing::ObjectPages,
    marks::{self, StoredMark},
    object_name::ObjectName,
    patience::patiently,
};

/// Requests at once.
const CONCURRENT_REQUESTS: usize = 16;
/// Reservations of publications: they may be renewed.
const RESERVATIONS: &str = "hosted/reservations/";
/// What serves for some minutes only: probes, used nonces, reservations.
const SHORT_LIVED: [&str; 3] = ["probe/", "nonces/", RESERVATIONS];
/// It is deleted after this time.
const SHORT_LIFE: Duration = Duration::from_secs(24 * 60 * 60);
/// Most unreadable claims that a report names, and most unreadable marks.
const MAX_NAMED: usize = 100;

/// What is collected.
#[derive(Clone, Copy, Debug)]
pub struct GarbageRules {
    /// Whether anything is written or deleted.
    pub mode: GarbageMode,
    /// How long a zip is marked before it is deleted, and how old it is before it is marked; at least [`super::MIN_GRACE`],
    /// unless nothing else uses the bucket.
    pub grace: Duration,
    /// Documents that no upstream has confirmed for this long are deleted.
    pub documents_older_than: Option<Duration>,
}

/// Whether a collection writes and deletes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GarbageMode {
    /// It says what it would do.
    Report,
    /// It does it.
    Delete,
}

/// How far a collection is.
#[derive(Clone, Copy, Debug)]
pub enum GarbageProgress {
    /// This many claims were read.
    Claims(u64),
    /// This many zips were looked at.
    Zips(u64),
    /// This many other objects were looked at.
    Others(u64),
}

/// Objects and their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ObjectSum {
    /// Their number.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// What a collection has found and done, or would do.
#[derive(Clone, Debug, Default, Serialize)]
pub struct GarbageReport {
    /// Claims that were read.
    pub claims: u64,
    /// Claims that cannot be understood. While there are any, no zip is marked or deleted: they may name it.
    pub unreadable_claims: Vec<String>,
    /// Marks that cannot be understood. Their zips are left alone.
    pub unreadable_marks: Vec<String>,
    /// True where nothing was deleted, and a collection that deletes would be refused: the bucket does not arbitrate.
    pub deletion_refused: bool,
    /// All zips.
    pub zips: ObjectSum,
    /// Zips that no claim names, and that are too young to be marked.
    pub young: ObjectSum,
    /// Zips that are marked now.
    pub marked: ObjectSum,
    /// Zips that were marked before, but not for long enough.
    pub waiting: ObjectSum,
    /// Zips that are deleted.
    pub deleted: ObjectSum,
    /// Objects among the zips that are none.
    pub unknown: u64,
    /// Small objects that are deleted because they have served their purpose.
    pub short_lived: u64,
    /// Documents that are deleted.
    pub documents: u64,
}

/// What becomes of an object among the zips.
enum BlobFate {
    Claimed,
    Young,
    Marked,
    Waiting,
    Deleted,
    Unknown,
    /// The name of its mark, which cannot be understood.
    Unreadable(String),
}

/// Only what the collection needs of a claim.
#[derive(Deserialize)]
struct ClaimedBlob {
    blob: String,
}

impl ObjectSum {
    fn add(&mut self, bytes: u64) {
        self.objects += 1;
        self.bytes += bytes;
    }
}

/// Collects garbage, or says what would be done. `progress` is called after each page of objects.
///
/// # Errors
/// When the bucket cannot be asked for some time. What was done until then stays done, and the next collection goes on.
pub async fn collect_garbage(
    bucket: &Bucket,
    rules: &GarbageRules,
    progress: &dyn Fn(GarbageProgress),
) -> Result<GarbageReport, BucketError> {
    let mut report = GarbageReport::default();
    // Marks are compared when they are replaced. A probe writes, so a report is without one where every node refuses to start
    // over a bucket that does not arbitrate.
    if (rules.mode == GarbageMode::Delete || bucket.arbiter == Arbiter::Owner)
        && bucket.probe().await? == Arbitration::Absent
    {
        match rules.mode {
            GarbageMode::Delete => return Err(BucketError::NotArbitrating),
            GarbageMode::Report => report.deletion_refused = true,
        }
    }
    let mut collection = GarbageCollection { bucket, rules, now: None, claimed: HashSet::new(), report };
    collection.read_claims(progress).await?;
    if collection.report.unreadable_claims.is_empty() {
        collection.collect_zips(progress).await?;
    }
    let mut seen = 0;
    for folder in SHORT_LIVED {
        let deleted = collection.delete_old(folder, SHORT_LIFE, &mut seen, progress).await?;
        collection.report.short_lived += deleted;
    }
    if let Some(age) = rules.documents_older_than {
        collection.report.documents = collection.delete_old("documents/", age, &mut seen, progress).await?;
    }
    Ok(collection.report)
}

struct GarbageCollection<'a> {
    bucket: &'a Bucket,
    rules: &'a GarbageRules,
    /// When the claims began to be read, by the service's clock; nothing has an age before.
    now: Option<Timestamp>,
    /// Names that claims lead to; about 50 bytes for each.
    claimed: HashSet<BlobName>,
    report: GarbageReport,
}

impl GarbageCollection<'_> {
    async fn read_claims(&mut self, progress: &dyn Fn(GarbageProgress)) -> Result<(), BucketError> {
        let mut pages = ObjectPages::new(self.bucket, "claims/");
        while let Some(page) = patiently(async || pages.next().await).await? {
            if self.now.is_none() {
                // The machine's clock may be wrong.
                self.now = Some(page.answered_at.ok_or(BucketError::Damaged)?);
            }
            let read = stream::iter(page.objects).map(|object| self.read_claim(object.name));
            let read: Vec<_> = read.buffer_unordered(CONCURRENT_REQUESTS).try_collect().await?;
            for claim in read {
                match claim {
                    ReadClaim::Gone => {}
                    ReadClaim::Of(name) => {
                        self.report.claims += 1;
                        self.claimed.insert(name);
                    }
                    ReadClaim::Unreadable(name) => add_name(&mut self.report.unreadable_claims, name),
                }
            }
            progress(GarbageProgress::Claims(self.report.claims));
        }
        Ok(())
    }

    async fn read_claim(&self, name: String) -> Result<ReadClaim, BucketError> {
        let object = ObjectName::listed(name);
        let found = patiently(async || self.bucket.get(&object, MAX_DESCRIPTION_BYTES).await).await;
        let found = match found {
            Ok(Some(found)) => found,
            // Forgotten since it was listed.
            Ok(None) => return Ok(ReadClaim::Gone),
            Err(BucketError::Damaged) => return Ok(ReadClaim::Unreadable(object.to_string())),
            Err(error) => return Err(error),
        };
        let claim = serde_json::from_slice::<ClaimedBlob>(&found.bytes).ok();
        let blob = claim.and_then(|claim| BlobName::parse(&claim.blob));
        Ok(blob.map_or_else(|| ReadClaim::Unreadable(object.to_string()), ReadClaim::Of))
    }

    async fn collect_zips(&mut self, progress: &dyn Fn(GarbageProgress)) -> Result<(), BucketError> {
        let mut pages = ObjectPages::new(self.bucket, "blobs/");
        while let Some(page) = patiently(async || pages.next().await).await? {
            let fates = stream::iter(page.objects).map(|object| self.collect_zip(object));
            let fates: Vec<_> = fates.buffer_unordered(CONCURRENT_REQUESTS).try_collect().await?;
            for (fate, bytes) in fates {
                let report = &mut self.report;
                report.zips.add(bytes);
                match fate {
                    BlobFate::Claimed => {}
                    BlobFate::Young => report.young.add(bytes),
                    BlobFate::Marked => report.marked.add(bytes),
                    BlobFate::Waiting => report.waiting.add(bytes),
                    BlobFate::Deleted => report.deleted.add(bytes),
                    BlobFate::Unknown => report.unknown += 1,
                    BlobFate::Unreadable(mark) => add_name(&mut report.unreadable_marks, mark),
                }
            }
            progress(GarbageProgress::Zips(self.report.zips.objects));
        }
        Ok(())
    }

    async fn collect_zip(&self, object: ListedObject) -> Result<(BlobFate, u64), BucketError> {
        let fate = match BlobName::parse(&object.name) {
            None => BlobFate::Unknown,
            Some(name) if self.claimed.contains(&name) => BlobFate::Claimed,
            Some(_) if self.age(object.modified_at) < self.rules.grace => BlobFate::Young,
            Some(name) => match patiently(async || self.collect_unclaimed(&name).await).await {
                Err(BucketError::Damaged) => BlobFate::Unreadable(ObjectName::mark(&name.digest).to_string()),
                fate => fate?,
            },
        };
        Ok((fate, object.len))
    }

    async fn collect_unclaimed(&self, name: &BlobName) -> Result<BlobFate, BucketError> {
        let found = marks::read_mark(self.bucket, &name.digest).await?;
        match &found {
            Some(mark) if mark.generation >= name.generation => {
                if !self.is_over(mark) {
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

    /// True when the claims were read after the grace of a mark.
    fn is_over(&self, mark: &StoredMark) -> bool {
        mark.marked_at.is_some_and(|marked_at| self.age(marked_at) >= self.rules.grace)
    }

    /// Deletes the objects of a folder that were not written for this long; their number.
    async fn delete_old(
        &self,
        folder: &'static str,
        max_age: Duration,
        seen: &mut u64,
        progress: &dyn Fn(GarbageProgress),
    ) -> Result<u64, BucketError> {
        let mut deleted = 0;
        let mut pages = ObjectPages::new(self.bucket, folder);
        while let Some(page) = patiently(async || pages.next().await).await? {
            *seen += page.objects.len() as u64;
            let old = page.objects.into_iter().filter(|object| self.age(object.modified_at) > max_age);
            let old = stream::iter(old)
                .map(|object| self.delete_short_lived(folder, ObjectName::listed(object.name), max_age));
            let old: Vec<_> = old.buffer_unordered(CONCURRENT_REQUESTS).try_collect().await?;
            deleted += old.into_iter().filter(|is_deleted| *is_deleted).count() as u64;
            progress(GarbageProgress::Others(*seen));
        }
        Ok(deleted)
    }

    /// Deletes an object that was old when it was listed; false where it is no longer.
    async fn delete_short_lived(
        &self,
        folder: &'static str,
        name: ObjectName,
        max_age: Duration,
    ) -> Result<bool, BucketError> {
        if self.rules.mode == GarbageMode::Report {
            return Ok(true);
        }
        if folder == RESERVATIONS && !self.is_still_old(&name, max_age).await? {
            return Ok(false);
        }
        patiently(async || self.bucket.delete(&name).await).await?;
        Ok(true)
    }

    /// Looks at an object again.
    async fn is_still_old(&self, name: &ObjectName, max_age: Duration) -> Result<bool, BucketError> {
        let found = match patiently(async || self.bucket.get(name, MAX_HOSTED_OBJECT_BYTES).await).await {
            Err(BucketError::Damaged) => None,
            found => found?,
        };
        Ok(found.and_then(|object| object.modified_at).is_some_and(|modified_at| self.age(modified_at) > max_age))
    }

    /// The time since then when the claims began to be read; zero when that was later.
    fn age(&self, then: Timestamp) -> Duration {
        let age = self.now.map(|now| now.duration_since(then));
        age.and_then(|age| Duration::try_from(age).ok()).unwrap_or_default()
    }
}

/// Adds a name to those of a report, once.
fn add_name(names: &mut Vec<String>, name: String) {
    if names.len() < MAX_NAMED && !names.contains(&name) {
        names.push(name);
    }
}

enum ReadClaim {
    Of(BlobName),
    Gone,
    Unreadable(String),
}
