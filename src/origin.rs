//! The contract between the cache and its content: an [`Origin`] fetches it, a [`Verify`] checks it.
//!
//! The cache depends neither on forges nor on the zip format, only on the traits of this file.

use std::{fmt, future::Future, io, pin::Pin, time::Duration};

use bytes::Bytes;
use futures_util::stream::BoxStream;

use crate::{
    entry::{Document, Validators, Verified},
    value::memory_budget::{self, MemoryShortage},
};

/// A boxed future that may borrow.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// How a mirror refuses by its own rules what another mirror asks of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MirrorRefusal {
    /// It may not serve the package or the version.
    #[error("forbidden")]
    Forbidden,
    /// The component's entry is not in its zip.
    #[error("not built")]
    Unbuilt,
    /// The package does not conform to the package model.
    #[error("does not conform to the package model")]
    NotConforming,
}

/// Why a fetch failed.
///
/// Contains no upstream text, address or token: it may be shown to a client.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FetchError {
    /// The upstream reports that it does not exist.
    #[error("{0} does not exist upstream")]
    NotFound(Missing),
    /// The upstream blocks it for legal reasons (451).
    #[error("blocked upstream for legal reasons")]
    Blocked,
    /// No connection, or a connection that broke before the end of the response.
    #[error("upstream unreachable: {0}")]
    Unreachable(&'static str),
    /// The upstream did not respond within the configured time limit.
    #[error("upstream timed out: {0}")]
    Timeout(&'static str),
    /// The download was slower than `upstreams.NAME.min_rate`.
    #[error("the download was slower than {min_rate} bytes per second")]
    TooSlow {
        /// The configured minimum, bytes per second.
        min_rate: u64,
    },
    /// The download was slow, and no client waited for it any more.
    #[error("the download was slow and no client waited for it")]
    Abandoned,
    /// No place among the concurrent requests to the upstream was free in time.
    #[error("too many concurrent requests to the upstream; retry in {} s", retry_after.as_secs())]
    Busy {
        /// How long to wait.
        retry_after: Duration,
    },
    /// The disk has no room for the download, and it is too large to be received in memory.
    #[error("no room on disk; retry in {} s", retry_after.as_secs())]
    NoRoom {
        /// How long to wait.
        retry_after: Duration,
    },
    /// What is first seen under a key cannot be recorded or read, because the disk fails; unrecorded content is not served.
    #[error("the pin records cannot be read or written; retry in {} s", retry_after.as_secs())]
    PinsUnavailable {
        /// How long to wait.
        retry_after: Duration,
    },
    /// The memory for requests under way is taken.
    #[error("no memory for it at present; retry in {} s", retry_after.as_secs())]
    NoMemory {
        /// How long to wait.
        retry_after: Duration,
    },
    /// The upstream's rate limit was reached. Until `retry_after` is over no request is sent, which then fails as
    /// `CoolingDown`.
    #[error("upstream rate limit reached; retry in {} s", retry_after.as_secs())]
    Throttled {
        /// How long to wait, at least a second.
        retry_after: Duration,
    },
    /// A fetch of this kind failed recently and is not repeated before `retry_after` is over.
    #[error("{cause}; no new attempt for {} s", retry_after.as_secs())]
    CoolingDown {
        /// The earlier failure.
        cause: Box<FetchError>,
        /// How long to wait.
        retry_after: Duration,
    },
    /// The upstream is a mirror too, and refuses by its own rules: its refusal is passed on.
    #[error("the upstream, a mirror, refuses it: {0}")]
    RefusedByMirror(MirrorRefusal),
    /// Any other error status.
    #[error("upstream responded with status {0}")]
    Status(u16),
    /// An invalid response: HTML instead of a zip, broken JSON, a CRC mismatch.
    #[error("invalid response from upstream: {0}")]
    Invalid(String),
    /// Larger than the configured maximum of this many bytes.
    #[error("upstream's response exceeds the limit of {limit} bytes")]
    TooLarge {
        /// The configured maximum, bytes.
        limit: u64,
    },
    /// A document, such as a release list, larger than the configured maximum of this many bytes.
    #[error("upstream's document exceeds the limit of {limit} bytes (document_limit)")]
    DocumentTooLarge {
        /// The configured maximum, bytes.
        limit: u64,
    },
    /// Complete and valid, but not the pinned content.
    #[error("upstream's content differs from what was first seen (pin-mismatch)")]
    PinMismatch,
    /// The request came back to this mirror (RFC 9110 §7.6.3, `Via`).
    #[error("this mirror's own request came back to it")]
    Loop,
    /// Not stored, and the mirror is offline.
    #[error("not in this mirror, which is offline")]
    Offline {
        /// True when stored documents show that it does not exist; false when nothing is known about it.
        absent: bool,
    },
    /// Refused by the mirror's configuration before a request was sent: for example a redirect to a host that is not
    /// allowed.
    #[error("refused by configuration: {0}")]
    Refused(String),
}

impl From<MemoryShortage> for FetchError {
    fn from(_: MemoryShortage) -> Self {
        Self::NoMemory { retry_after: memory_budget::RETRY_AFTER }
    }
}

impl FetchError {
    /// True for failures of the fetch, which may be temporary and allow a stale answer; false when the upstream reports
    /// the state of the package itself.
    pub fn is_trouble(&self) -> bool {
        !matches!(self, Self::NotFound(_) | Self::Blocked)
    }

    /// False for failures without a request to the upstream.
    pub fn is_of_request(&self) -> bool {
        !matches!(
            self,
            Self::CoolingDown { .. }
                | Self::Busy { .. }
                | Self::NoRoom { .. }
                | Self::PinsUnavailable { .. }
                | Self::NoMemory { .. }
                | Self::Offline { .. }
        )
    }

    /// True for a rate limit that was hit now, or before.
    pub fn is_rate_limit(&self) -> bool {
        match self {
            Self::Throttled { .. } => true,
            Self::CoolingDown { cause, .. } => cause.is_rate_limit(),
            _ => false,
        }
    }
}

/// What does not exist upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// The repository, or it is private and not visible with the token.
    Package,
    /// A release of an existing repository.
    Release,
    /// The tag, branch or commit.
    Version,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Package => "the package",
            Self::Release => "the release",
            Self::Version => "the version",
        })
    }
}

/// The source of a document or a body. Made for each request; called only when the cache needs a fetch.
pub trait Origin: Send + Sync + 'static {
    /// The result of a fetch: [`FetchedDocument`] or [`FetchedBody`].
    type Fetched;

    /// Fetches once, conditionally when `stored` has validators that apply.
    ///
    /// # Errors
    /// See [`FetchError`]. Dropping the future cancels the request.
    fn fetch<'a>(&'a self, stored: Option<&'a Document>) -> BoxFuture<'a, Result<Self::Fetched, FetchError>>;

    /// True when a fetch may come back to this mirror by way of others: the request came through a mirror, and the upstream
    /// may be one. The default is an origin that is no mirror.
    fn may_come_back(&self) -> bool {
        false
    }

    /// Takes one retry from the budget of retries; false when it is spent. The default is an origin without a budget.
    fn may_retry(&self) -> bool {
        true
    }
}

/// The result of fetching a document.
#[derive(Clone, Debug)]
pub enum FetchedDocument {
    /// The stored document is unchanged (304 on every page that was requested).
    NotModified {
        /// The validators to store.
        validators: Validators,
    },
    /// A new document.
    Changed {
        /// Normalised JSON.
        body: Bytes,
        /// The validators for the next fetch.
        validators: Validators,
    },
}

/// A successful response whose body has not been read yet.
pub struct FetchedBody {
    /// The `Content-Length`, if any.
    pub len: Option<u64>,
    /// True when it was fetched without a token.
    pub anonymous: bool,
    /// The bytes. An error is the last item; without one, the end of the stream is the end of the complete message.
    pub body: BoxStream<'static, Result<Bytes, FetchError>>,
    /// The place among the concurrent downloads, which dropping this frees.
    pub place: DownloadPlace,
}

/// A place among the concurrent downloads of an upstream; dropping it frees the place. The default holds none.
#[derive(Default)]
pub struct DownloadPlace(Option<Box<dyn Send + Sync>>);

impl DownloadPlace {
    /// Holds `place` until it is dropped.
    pub fn new(place: impl Send + Sync + 'static) -> Self {
        Self(Some(Box::new(place)))
    }

    /// True when it holds a place.
    pub fn is_held(&self) -> bool {
        self.0.is_some()
    }
}

/// Checks bodies. One per archive format, shared by all fills.
pub trait Verify: Send + Sync + 'static {
    /// How many bytes [`Verify::prefix`] checks before any byte reaches a client.
    fn prefix_len(&self) -> usize;

    /// Checks the first bytes (fewer than `prefix_len` only when the body is shorter).
    ///
    /// # Errors
    /// What is wrong.
    fn prefix(&self, first: &[u8]) -> Result<(), InvalidContent>;

    /// Checks the whole body while it grows. Blocks: runs on a blocking thread in parallel to the download.
    ///
    /// # Errors
    /// [`VerifyError::Invalid`] for an invalid body, [`VerifyError::Io`] when `body` cannot be read, also because the
    /// download failed.
    fn verify(&self, body: &dyn Growing) -> Result<Verified, VerifyError>;
}

/// Why a body is invalid: a short text, fit for a client.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidContent(pub String);

impl From<InvalidContent> for FetchError {
    fn from(InvalidContent(text): InvalidContent) -> Self {
        Self::Invalid(text)
    }
}

/// A body that is still being written, read from a blocking thread.
#[expect(clippy::len_without_is_empty, reason = "the length is known only at the end of a download")]
pub trait Growing: Send + Sync {
    /// Reads at `offset`; blocks until at least one byte is available. 0 only at the end of the complete body.
    ///
    /// # Errors
    /// When the file cannot be read, or the download failed.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Blocks until the body is complete; returns its length in bytes.
    ///
    /// # Errors
    /// When the download failed.
    fn len(&self) -> io::Result<u64>;
}

/// Why verification failed.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The body is invalid. The text is fit for a client.
    #[error("{0}")]
    Invalid(String),
    /// The memory for requests under way is taken: the body may be valid.
    #[error(transparent)]
    NoMemory(#[from] MemoryShortage),
    /// The body could not be read.
    #[error(transparent)]
    Io(#[from] io::Error),
}
