//! Garbage collection of the bucket: zips that no claim and no record of a published version names, and small objects that
//! have served their purpose.
//!
//! [`super::marks`] says why a deletion never meets a claim. A collection may be broken off at any point and repeated, and
//! several may run at once.

use std::time::Duration;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use serde::{Deserialize, Serialize};

use super::{
    Arbiter, Arbitration, Bucket, BucketError,
    archives::MAX_DESCRIPTION_BYTES,
    blob_name::BlobFolder,
    garbage_rules::{CONCURRENT_REQUESTS, GarbageMode, GarbageProgress, GarbageRules},
    hosted_objects::MAX_HOSTED_OBJECT_BYTES,
    listing::ObjectPages,
    object_name::ObjectName,
    patience::with_patience,
    zip_garbage::{ServiceTime, ZipCollection, ZipGarbage, ZipSet, ZipsOfReference},
};

/// The folder of reservations of publications, which may be renewed.
const RESERVATIONS_FOLDER: &str = "hosted/reservations/";
/// The folders of objects that are needed for some minutes only: probes, used nonces, reservations.
const SHORT_LIVED_FOLDERS: [&str; 3] = ["probe/", "nonces/", RESERVATIONS_FOLDER];
/// Age from which such objects are deleted.
const MAX_SHORT_LIVED_AGE: Duration = Duration::from_secs(24 * 60 * 60);

/// What a collection has found and done, or would do.
#[derive(Clone, Debug, Default, Serialize)]
pub struct GarbageReport {
    /// Of the zips that were fetched; claims name them.
    pub fetched: ZipGarbage,
    /// Of the published zips; records of versions name them.
    pub published: ZipGarbage,
    /// True where nothing was deleted, and a collection that deletes would be refused: the bucket does not arbitrate.
    pub deletion_refused: bool,
    /// Small objects that are deleted because they have served their purpose.
    pub short_lived: u64,
    /// Documents that are deleted.
    pub documents: u64,
}

impl GarbageReport {
    /// True when something could not be read, and zips were left alone for it.
    pub fn has_unreadable(&self) -> bool {
        [&self.fetched, &self.published]
            .iter()
            .any(|zips| !zips.unreadable_references.is_empty() || !zips.unreadable_marks.is_empty())
    }
}

/// The field of a claim that the collection needs.
#[derive(Deserialize)]
struct ClaimedBlob {
    blob: String,
}

/// Collects garbage, or reports what would be deleted. `zips_of_record` returns the objects that the record of a published
/// version names; see [`ZipsOfReference`]. `progress` is called after each page of objects.
///
/// # Errors
/// When the bucket cannot be asked for some time. What was done until then stays done, and the next collection goes on.
pub async fn collect_garbage(
    bucket: &Bucket,
    rules: &GarbageRules,
    zips_of_record: ZipsOfReference,
    progress: &dyn Fn(GarbageProgress),
) -> Result<GarbageReport, BucketError> {
    let mut report = GarbageReport::default();
    // Marks are compared when they are replaced. A probe writes, so a report is without one where every node refuses to
    // start over a bucket that does not arbitrate.
    if (rules.mode == GarbageMode::Delete || bucket.arbiter == Arbiter::Owner)
        && bucket.probe().await? == Arbitration::Absent
    {
        match rules.mode {
            GarbageMode::Delete => return Err(BucketError::NotArbitrating),
            GarbageMode::Report => report.deletion_refused = true,
        }
    }
    let mut time = ServiceTime::default();
    let fetched = ZipSet {
        folder: BlobFolder::Fetched,
        references: "claims/",
        max_reference_bytes: MAX_DESCRIPTION_BYTES,
        zips_of: zip_of_claim,
        read: GarbageProgress::Claims,
        looked_at: GarbageProgress::Zips,
    };
    let published = ZipSet {
        folder: BlobFolder::Published,
        references: "hosted/releases/",
        max_reference_bytes: MAX_HOSTED_OBJECT_BYTES,
        zips_of: zips_of_record,
        read: GarbageProgress::Records,
        looked_at: GarbageProgress::PublishedZips,
    };
    report.fetched = ZipCollection::new(bucket, rules, &fetched).run(&mut time, progress).await?;
    report.published = ZipCollection::new(bucket, rules, &published).run(&mut time, progress).await?;
    let collection = GarbageCollection { bucket, rules, time };
    let mut seen = 0;
    for folder in SHORT_LIVED_FOLDERS {
        report.short_lived += collection.delete_old(folder, MAX_SHORT_LIVED_AGE, &mut seen, progress).await?;
    }
    if let Some(age) = rules.documents_older_than {
        report.documents = collection.delete_old("documents/", age, &mut seen, progress).await?;
    }
    Ok(report)
}

fn zip_of_claim(_: &str, claim: &[u8]) -> Option<Vec<String>> {
    serde_json::from_slice::<ClaimedBlob>(claim).ok().map(|claim| vec![claim.blob])
}

/// The collection of objects that are no zips.
struct GarbageCollection<'a> {
    bucket: &'a Bucket,
    rules: &'a GarbageRules,
    time: ServiceTime,
}

impl GarbageCollection<'_> {
    /// Deletes the objects of a folder that are older than `max_age`; returns their number.
    async fn delete_old(
        &self,
        folder: &'static str,
        max_age: Duration,
        seen: &mut u64,
        progress: &dyn Fn(GarbageProgress),
    ) -> Result<u64, BucketError> {
        let mut deleted = 0;
        let mut pages = ObjectPages::new(self.bucket, folder);
        while let Some(page) = pages.next().await? {
            *seen += page.objects.len() as u64;
            let old = page.objects.into_iter().filter(|object| self.time.age(object.modified_at) > max_age);
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
        if folder == RESERVATIONS_FOLDER && !self.is_still_old(&name, max_age).await? {
            return Ok(false);
        }
        with_patience(|| self.bucket.delete(&name)).await?;
        Ok(true)
    }

    /// Reads an object again: true if it is still older than `max_age`.
    async fn is_still_old(&self, name: &ObjectName, max_age: Duration) -> Result<bool, BucketError> {
        let found = match with_patience(|| self.bucket.get(name, MAX_HOSTED_OBJECT_BYTES)).await {
            Err(BucketError::Damaged) => None,
            found => found?,
        };
        Ok(found.and_then(|object| object.modified_at).is_some_and(|modified_at| self.time.age(modified_at) > max_age))
    }
}
