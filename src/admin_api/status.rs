//! The state of the mirror, its upstreams and its bucket in one answer: what does not work, and why.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{CredentialStats, FailureCode, QueueStats, request};

/// Asks for the state of the mirror and its upstreams. Reads nothing from disk and asks no upstream.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ReadStatus {}

request!(ReadStatus, "status", answer MirrorStatus);

/// The state of the mirror.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct MirrorStatus {
    /// As `/readyz` says it.
    pub state: MirrorState,
    /// Why it is degraded, one sentence each, as in `/readyz`.
    pub reasons: Vec<String>,
    /// The program's version.
    pub version: String,
    /// The process id.
    pub pid: u32,
    /// When it was started.
    pub started_at: Timestamp,
    /// When the configuration was last read again; absent before the first time.
    pub reloaded_at: Option<Timestamp>,
    /// The upstreams, by name.
    pub upstreams: Vec<UpstreamState>,
    /// Space on disk.
    pub disk: SpaceUse,
    /// Memory that requests under way share.
    pub memory: SpaceUse,
    /// The bucket that several mirrors share; absent without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shared: Option<SharedBucketState>,
    /// What nodes of the fleet have sent each other; absent without a fleet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fleet: Option<FleetState>,
    /// Running downloads.
    pub downloads: usize,
    /// Responses since the start that were stale.
    pub stale_answers: u64,
    /// Requests and connections that were refused since the start, by the key of the limit in `[clients]`.
    pub refused: BTreeMap<String, u64>,
    /// Events of the audit log that were lost since the start.
    pub audit_lost: u64,
    /// The mirror's own certificates; none without TLS.
    #[serde(default)]
    pub certificates: Vec<CertificateState>,
    /// The publications that failed after the last response that their client reads, the newest first; at most 50.
    #[serde(default)]
    pub failed_publications: Vec<FailedPublicationRow>,
    /// The last warnings and errors of the log, the oldest first.
    pub recent: Vec<LoggedEvent>,
}

/// The state of the bucket that several mirrors share.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct SharedBucketState {
    /// Its last answer; absent before the first.
    pub answered_at: Option<Timestamp>,
    /// The last request that failed; absent before the first.
    pub failed_at: Option<Timestamp>,
    /// Why that failed.
    pub failure: Option<String>,
    /// How many seconds it is not asked, because it failed; absent while it is asked.
    pub paused_seconds: Option<u64>,
    /// Requests since the start that succeeded.
    pub answered: u64,
    /// Requests since the start that failed.
    pub failed: u64,
    /// Zips that wait for their upload.
    pub queued: u64,
    /// Their bytes, and the most that wait.
    pub queue: SpaceUse,
}

/// What nodes of the fleet have sent each other since the start.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct FleetState {
    /// The nodes that are known at present, this one included.
    #[serde(default)]
    pub nodes: usize,
    /// Zips that this node has read from another one, or begun to.
    pub read: u64,
    /// Zips that it has sent to another one, or begun to.
    pub sent: u64,
    /// Attempts to read from another node that failed.
    pub failed: u64,
}

impl SharedBucketState {
    /// The state in a few words.
    pub(crate) fn describe(&self) -> String {
        match (self.paused_seconds, self.answered_at) {
            (Some(seconds), _) => format!("does not work, asked again in {seconds} s"),
            (None, Some(_)) => "works".into(),
            (None, None) => "not asked yet".into(),
        }
    }
}

/// A certificate that the mirror shows to its clients.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct CertificateState {
    /// Its subject, else its number in the configuration.
    pub name: String,
    /// When it, or one that it is sent with, ends; absent when that cannot be read.
    pub not_after: Option<Timestamp>,
}

/// A publication that failed.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct FailedPublicationRow {
    /// The package.
    pub package: String,
    /// The version.
    pub version: String,
    /// The account that published it.
    pub by: String,
    /// When.
    pub at: Timestamp,
    /// Why, in one sentence.
    pub reason: String,
}

/// Whether the mirror serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum MirrorState {
    /// It is not serving yet.
    Starting,
    /// It serves, and nothing is wrong.
    Ready,
    /// It serves, and something is wrong.
    Degraded,
    /// It ends.
    Draining,
}

/// The state of one upstream.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct UpstreamState {
    /// Its name.
    pub name: String,
    /// The last answer that could be used, absences included; absent before the first.
    pub answered_at: Option<Timestamp>,
    /// The last call that failed; absent before the first.
    pub failure: Option<UpstreamFailure>,
    /// Why it is not asked at present; absent while it is.
    pub pause: Option<UpstreamPause>,
    /// Requests since it was configured that it answered.
    pub answered: u64,
    /// Requests since then that it did not answer, or with a server error.
    pub failed: u64,
    /// The requests that wait for it now; no empty queue.
    pub queues: Vec<QueueStats>,
    /// Its credentials. No secrets.
    pub credentials: Vec<CredentialStats>,
}

/// A call to an upstream that failed.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct UpstreamFailure {
    /// When.
    pub at: Timestamp,
    /// The class of the cause.
    pub code: FailureCode,
    /// The cause. No text of the upstream.
    pub message: String,
}

/// A pause of an upstream: of its circuit breaker, or because it limits the mirror's requests.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct UpstreamPause {
    /// The class of the cause.
    pub code: FailureCode,
    /// How many seconds it lasts.
    pub seconds: u64,
}

/// How much of a limit is used.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct SpaceUse {
    /// Bytes in use.
    pub bytes: u64,
    /// The most bytes.
    pub limit: u64,
}

/// A warning or an error of the log.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct LoggedEvent {
    /// When.
    pub at: Timestamp,
    /// `warn` or `error`.
    pub level: String,
    /// The message and its fields.
    pub text: String,
}
