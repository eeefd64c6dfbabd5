//! The administration API: requests, answers, events and errors between the commands and the mirror that holds a cache.
//!
//! Every request is `POST /-/{route}` over the control socket, or over the network where `access.remote_admin` is on, with a
//! JSON object as its body; an empty body is `{}`. Over the network it has the field `Content-Type: application/json`;
//! [`ImportArchive`], whose body contains a zip, has `application/octet-stream`. A [`Call`] has one JSON value as its answer; a
//! [`Subscription`] has one JSON value per line, sent as they arise. Between two events that are more than
//! [`HEARTBEAT_INTERVAL`] apart, empty lines are sent. An error has a status above 399 and an [`ErrorBody`]. Client and server
//! are usually one program, but may be two versions of it: unknown fields of a request are errors, unknown fields of an answer
//! are ignored, and an unknown error code is [`ErrorCode::Other`].

use std::time::Duration;

use http::StatusCode;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

mod blocks;
mod failure;
mod hosting;
mod inventory;
mod publish;
mod reload;
mod route;
mod sentences;
mod shared;
mod status;
mod tokens;
mod transfer;
mod verify;
mod warm;

pub(crate) use blocks::{BlockList, BlockRow, BlockVersions, ListBlocks, UnblockVersions};
pub(crate) use failure::FailureCode;
pub(crate) use hosting::{
    CountHosted, DamageKind, EXPORT_BYTES_FIELD, ExportHosted, FailedPublicationList, HostedCheck, HostedCount,
    HostedDamage, ListFailedPublications, PruneEvent, PruneHosted, PrunedZip, VerifyHosted,
};
pub(crate) use inventory::{
    ArchiveRow, CollectGarbage, CredentialStats, DiskStats, InventoryOrder, KeepArchives, KeepReport, ListArchives,
    ListPins, MemoryStats, PackageStats, PinnedArchive, QueueStats, ReadStats, RefKind, RefusedCredential, RemovalPlan,
    RemovalReport, RemoveArchives, Stats, StatsSum,
};
pub(crate) use publish::{
    CONTENT_DIGEST, DeletedVersion, MAX_PUBLISH_ANSWER_BYTES, PublishError, PublishedVersion, UnyankVersion, YankState,
    YankVersion,
};
pub(crate) use reload::{ReloadConfig, ReloadReport, SettingChange};
pub(crate) use route::{
    DialectRoute, DialectSource, ImportSource, ImportedSource, PackageStock, RouteReport, SetRoute, SetRouteReport,
    ShowRoute, SourceRule,
};
pub(crate) use shared::{PushArchives, PushEvent, PushState, PushSums};
pub(crate) use status::{
    CertificateState, FailedPublicationRow, FleetState, LoggedEvent, MirrorState, MirrorStatus, ReadStatus,
    SharedBucketState, SpaceUse, UpstreamFailure, UpstreamPause, UpstreamState,
};
pub(crate) use tokens::{
    CreateToken, CreatedToken, ListTokens, RevokeToken, Right, RotateSigningKey, TokenList, TokenRow,
};
pub(crate) use transfer::{
    CheckDocument, ExportArchives, ExportedItem, ImportArchive, ImportDocument, ImportReport, ImportState,
    ImportedState, LeftOut, PlanImport, PlannedImport, ReadArchive,
};
pub(crate) use verify::{VerifyArchives, VerifyEvent, VerifyState};
pub(crate) use warm::{
    FilledArchive, FirstSeen, GetFirstSeen, GetStoredState, ReleaseRow, StoredState, UpstreamQuota, WarmArchive,
    WarmEvent, WarmFailure, WarmLists, WarmListsAnswer, WarmedLists,
};

/// The path of every route begins with this.
pub(crate) const ADMIN_PATH_PREFIX: &str = "/-/";
/// Longest time without a byte in the answer to a [`Subscription`]: then an empty line is sent.
pub(crate) const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(15);
/// Largest JSON body of a request, bytes.
pub(crate) const MAX_REQUEST_BYTES: usize = 64 << 20;
/// Largest answer to a [`Call`], bytes: a removal names every zip.
pub(crate) const MAX_ANSWER_BYTES: usize = 256 << 20;
/// Longest line of the answer to a [`Subscription`], bytes: an exported document is one line.
pub(crate) const MAX_EVENT_BYTES: usize = 512 << 20;

/// A request of the administration API.
pub(crate) trait AdminRequest: Serialize + DeserializeOwned {
    /// What follows [`ADMIN_PATH_PREFIX`] in its path.
    const ROUTE: &'static str;
}

/// A request that has one JSON value as its answer.
pub(crate) trait Call: AdminRequest {
    /// The answer.
    type Answer: Serialize + DeserializeOwned;
    /// Longest time until the head of the answer: the work is done by then.
    const TIMEOUT: Duration = Duration::from_secs(60);
}

/// A request that has one JSON value per line as its answer.
pub(crate) trait Subscription: AdminRequest {
    /// One line.
    type Event: Serialize + DeserializeOwned + 'static;
}

/// Gives a request type its route, and the type of its answer or of its events.
macro_rules! request {
    ($request:ty, $route:literal) => {
        impl $crate::admin_api::AdminRequest for $request {
            const ROUTE: &'static str = $route;
        }
    };
    ($request:ty, $route:literal, answer $answer:ty $(, within $timeout:expr)?) => {
        request!($request, $route);
        impl $crate::admin_api::Call for $request {
            type Answer = $answer;
            $(const TIMEOUT: std::time::Duration = $timeout;)?
        }
    };
    ($request:ty, $route:literal, events $event:ty) => {
        request!($request, $route);
        impl $crate::admin_api::Subscription for $request {
            type Event = $event;
        }
    };
}
pub(crate) use request;

/// Longest time for work that grows with the cache, such as removing every zip one after the other.
pub(crate) const BULK_TIMEOUT: Duration = Duration::from_secs(3600);

/// Asks whether the mirror answers.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Ping {}

/// The mirror's process.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Pong {
    /// Its process id.
    pub pid: u32,
    /// Its version.
    pub version: String,
}

request!(Ping, "ping", answer Pong, within Duration::from_secs(30));

/// A change was made.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Changed {}

/// The body of an error.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ErrorBody {
    /// One or two sentences for a person.
    pub message: String,
    /// The HTTP status, as text.
    pub status: String,
    /// The cause.
    #[serde(default)]
    pub code: ErrorCode,
}

/// Why a request is refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum ErrorCode {
    /// The request is malformed, or names no package, version or pattern.
    BadRequest,
    /// No route has this address.
    NoSuchRoute,
    /// The zip is no longer stored.
    NotStored,
    /// An import is not what it claims to be, or this mirror has no upstream for it.
    InvalidImport,
    /// The configuration cannot be used; nothing is changed.
    InvalidConfiguration,
    /// Other content is pinned under the key of an import.
    Conflict,
    /// There is no room for an import.
    NoSpace,
    /// The mirror has no memory for it at present.
    NoMemory,
    /// The credentials would pass the network in clear.
    Plaintext,
    /// The audit log cannot be written: nothing was changed.
    AuditUnwritable,
    /// The bucket that the mirrors share cannot be used at present.
    Bucket,
    /// An object of that bucket is damaged.
    DamagedInBucket,
    /// The cache directory cannot be read or written; the log has the cause.
    Storage,
    /// A code that this version does not have, or none.
    #[default]
    #[serde(other)]
    Other,
}

impl ErrorCode {
    /// The HTTP status of an answer with this code.
    pub(crate) fn status(self) -> StatusCode {
        match self {
            Self::BadRequest => StatusCode::BAD_REQUEST,
            Self::NoSuchRoute | Self::NotStored => StatusCode::NOT_FOUND,
            Self::InvalidImport | Self::InvalidConfiguration => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Conflict | Self::DamagedInBucket => StatusCode::CONFLICT,
            Self::NoSpace => StatusCode::INSUFFICIENT_STORAGE,
            Self::Plaintext => StatusCode::FORBIDDEN,
            Self::NoMemory | Self::AuditUnwritable | Self::Bucket => StatusCode::SERVICE_UNAVAILABLE,
            Self::Storage | Self::Other => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_error_code_is_other() {
        let code = |text: &str| serde_json::from_str::<ErrorBody>(text).expect("an error body").code;
        assert_eq!(code(r#"{"message": "no", "status": "404", "code": "not-stored"}"#), ErrorCode::NotStored);
        assert_eq!(code(r#"{"message": "no", "status": "418", "code": "teapot", "more": 1}"#), ErrorCode::Other);
        assert_eq!(code(r#"{"message": "no", "status": "404"}"#), ErrorCode::Other);
    }

    #[test]
    fn unknown_fields_of_a_request_are_errors() {
        assert!(serde_json::from_str::<ListArchives>(r#"{"pattern": null, "sort": "size"}"#).is_ok());
        assert!(serde_json::from_str::<ListArchives>(r#"{"patern": "a/*"}"#).is_err());
        assert!(serde_json::from_str::<RemoveArchives>(r#"{"forgett": true}"#).is_err());
    }
}
