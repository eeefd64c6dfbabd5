//! The bucket that several mirrors share: an S3-compatible store that holds zips, pins and documents.
//!
//! The bucket is authoritative for its mirrors. What is written there is created once ([`Bucket::create`]), named by
//! its digest, or replaced by comparison; a pin belongs to the mirror whose create-only request the bucket accepted.
//! Without the section `[shared]` nothing of this module runs.

mod archives;
mod blob_name;
mod bucket;
mod bucket_error;
mod bucket_gate;
mod config;
mod damaged_objects;
mod documents;
mod garbage;
mod garbage_rules;
mod hosted_objects;
mod json;
mod listing;
mod marks;
mod notices;
mod object_name;
mod once;
mod patience;
mod probe;
mod sealed;
mod sources;
mod state;
mod status;
mod zip_garbage;

pub use archives::{ArchiveUpload, Claim, SharedArchives, SharedPin};
pub use bucket::{Bucket, BucketBuildError};
pub use bucket_error::{BucketError, BucketOperation};
pub use config::{Arbiter, Config, Durability};
pub use documents::{BucketDocument, SharedDocuments};
pub use garbage::{GarbageReport, collect_garbage};
pub use garbage_rules::{GarbageMode, GarbageProgress, GarbageRules, ObjectSum};
pub use hosted_objects::{HostedObject, HostedObjects, ObjectDownloadError, ObjectWrite, UnmarkedZip};
pub use listing::{KeyFolder, KeyPage, ListedKey, ListedObject, ObjectPage};
pub use marks::MIN_GRACE;
pub use notices::{ChangeListener, ChangeNotices};
pub use once::Occurrence;
pub use patience::{MaybeBucketError, with_patience};
pub use sealed::{MIN_SEALING_SECRET_BYTES, SealError, SealedText, SealingKey};
pub use sources::{SetMode, SetSourceError, SetSources, SharedSources};
pub use state::{SharedState, StateWrite};
pub use status::{Arbitration, BucketStatus, OperationCounts};
pub use zip_garbage::{ZipGarbage, ZipsOfReference};
