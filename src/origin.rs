//! The contract between the cache and what it caches: where a body comes from and what makes it good.
//!
//! The cache knows neither forges nor zips. It is handed an [`Origin`] that fetches and a [`Verify`] that
//! judges, and it never sees more of them than this file.

use std::{fmt, future::Future, io, pin::Pin, time::Duration};

use bytes::Bytes;
use futures_util::stream::BoxStream;

use crate::entry::{Document, Validators, Verified};

/// A boxed future that may borrow.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Why nothing usable came from upstream.
///
/// Carries no upstream text, address or token: it may be shown to a client.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FetchError {
    /// The upstream says that it does not exist.
    #[error("{0} does not exist upstream")]
    NotFound(Missing),
    /// The upstream blocks it for legal reasons (451).
    #[error("blocked upstream for legal reasons")]
    Blocked,
    /// No connection, or it broke before or in the middle of the answer.
    #[error("upstream unreachable: {0}")]
    Unreachable(&'static str),
    /// The upstream was silent for longer than the configured deadline.
    #[error("upstream too slow: {0}")]
    Timeout(&'static str),
    /// Rate-limited, or cooling down after it; nothing was or will be asked until `retry_after` is over.
    #[error("upstream limits our requests; retry in {} s", retry_after.as_secs())]
    Throttled {
        /// How long to wait, at least a second.
        retry_after: Duration,
    },
    /// It failed a moment ago and is not asked again before `retry_after` is over.
    #[error("{cause}; it will not be asked again for {} s", retry_after.as_secs())]
    CoolingDown {
        /// What failed.
        cause: Box<FetchError>,
        /// How long to wait.
        retry_after: Duration,
    },
    /// Any other status that is an error.
    #[error("upstream answered with status {0}")]
    Status(u16),
    /// An answer that is not what it should be: HTML for a zip, broken JSON, a CRC that does not match.
    #[error("upstream answered nonsense: {0}")]
    Invalid(String),
    /// Larger than the configured maximum of this many bytes.
    #[error("upstream's answer is larger than the {limit} bytes allowed")]
    TooLarge {
        /// The configured maximum, bytes.
        limit: u64,
    },
    /// Whole and well-formed, but not the content that is pinned.
    #[error("upstream's content differs from what was first seen (pin-mismatch)")]
    PinMismatch,
    /// The request came back to this mirror (RFC 9110 §7.6.3, `Via`).
    #[error("this mirror's own request came back to it")]
    Loop,
    /// Not stored, and this mirror asks nobody.
    #[error("not in this mirror, which is offline")]
    Offline {
        /// True when what is stored says that there is no such thing; false when nothing is known of it.
        absent: bool,
    },
    /// Refused by the mirror's own configuration before anything was asked: a redirect to a host that is not allowed, say.
    #[error("refused by configuration: {0}")]
    Refused(String),
}

impl FetchError {
    /// True when asking again soon may help and a stored answer should be used meanwhile;
    /// false for what the upstream says of the thing itself.
    pub fn is_trouble(&self) -> bool {
        !matches!(self, Self::NotFound(_) | Self::Blocked)
    }
}

/// What exactly is missing upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// The repository (or it is private and we may not see it).
    Package,
    /// The repository is there but has no release that fits.
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

/// Where a body comes from. Made anew for each request; asked only when the cache needs it.
pub trait Origin: Send + Sync + 'static {
    /// What one fetch yields: [`FetchedDocument`] or [`FetchedBody`].
    type Fetched;

    /// Asks the upstream once, conditionally where `stored` has validators that still apply.
    ///
    /// # Errors
    /// See [`FetchError`]. Dropping the future cancels the request.
    fn fetch<'a>(&'a self, stored: Option<&'a Document>) -> BoxFuture<'a, Result<Self::Fetched, FetchError>>;
}

/// What an upstream says of a document.
#[derive(Clone, Debug)]
pub enum FetchedDocument {
    /// The stored document still holds (304 on every page that was asked).
    NotModified {
        /// The validators to keep from now on.
        validators: Validators,
    },
    /// This is it now.
    Changed {
        /// Normalised JSON.
        body: Bytes,
        /// How to ask again.
        validators: Validators,
    },
}

/// An upstream's 200 whose body has only begun to arrive.
pub struct FetchedBody {
    /// The announced length, where one was announced.
    pub len: Option<u64>,
    /// True when it was fetched without a token.
    pub anonymous: bool,
    /// The bytes. An item that is an error is the last one; the end of the stream is the end of a whole message.
    pub body: BoxStream<'static, Result<Bytes, FetchError>>,
}

/// What makes a body good. One per kind of archive, shared by all fills.
pub trait Verify: Send + Sync + 'static {
    /// How many first bytes [`Verify::prefix`] wants to see before anything reaches a client.
    fn prefix_len(&self) -> usize;

    /// Judges the first bytes (fewer than `prefix_len` only when the body is shorter).
    ///
    /// # Errors
    /// A clause of ours that says what is wrong, fit for a client.
    fn prefix(&self, first: &[u8]) -> Result<(), String>;

    /// Judges the last bytes (64 KiB or all) of a body of `len` bytes that was too large to be verified as a whole:
    /// one that only passes through because there is no room for it.
    ///
    /// # Errors
    /// A clause of ours that says what is wrong, fit for a client.
    fn suffix(&self, last: &[u8], len: u64) -> Result<(), String>;

    /// Judges the whole body while it grows. Blocks; runs on a blocking thread beside the download.
    ///
    /// # Errors
    /// [`VerifyError::Invalid`] for a bad body, [`VerifyError::Io`] when `body` could not be read,
    /// which includes that the download failed.
    fn verify(&self, body: &dyn Growing) -> Result<Verified, VerifyError>;
}

/// A body that is still being written, read from a blocking thread.
#[expect(
    clippy::len_without_is_empty,
    reason = "its length waits for the end of a download and is no property of a container"
)]
pub trait Growing: Send + Sync {
    /// Reads at `offset`, waiting until at least one byte is there; 0 only at the end of the whole body.
    ///
    /// # Errors
    /// When the file cannot be read or the download has failed.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Waits for the end of the body and tells its length.
    ///
    /// # Errors
    /// When the download has failed.
    fn len(&self) -> io::Result<u64>;
}

/// Why verification did not say yes.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The body is not good: a clause of ours, fit for a client.
    #[error("{0}")]
    Invalid(String),
    /// The body could not be read.
    #[error(transparent)]
    Io(#[from] io::Error),
}
