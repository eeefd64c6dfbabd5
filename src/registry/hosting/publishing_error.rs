//! Why a version is not published.

use std::io;

use crate::{
    hosted::{PublishRefusal, StateChange, UploadError},
    package::ModelFinding,
    value::memory_budget::MemoryShortage,
};

/// The error sentence for the publisher where the file system fails.
pub(crate) const VERSION_UNWRITABLE: &str = "this mirror cannot write the version; ask the operator of this mirror";

/// Why a version is not published.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PublishingError {
    /// The store refuses it.
    #[error(transparent)]
    Refused(#[from] PublishRefusal),
    /// Another upload of the version is under way.
    #[error("is being published by another request")]
    BeingPublished,
    /// The version has content.
    #[error("was published by {} on {}", .0.by, .0.at)]
    Published(StateChange),
    /// Another principal has reserved the version.
    #[error("is being published by {0}")]
    Reserved(String),
    /// The principal has as many reservations as it may have.
    #[error("this account is publishing {0} other versions; finish one of them, or wait 10 minutes")]
    TooManyReservations(usize),
    /// The upload address is not valid any more, or is in use.
    #[error(transparent)]
    NotReserved(#[from] NotReserved),
    /// Too many uploads are under way.
    #[error("this mirror receives as many uploads as it may at present")]
    TooManyUploads,
    /// The zip is malformed.
    #[error("{0}")]
    InvalidZip(String),
    /// The zip is no package of this name and version.
    #[error("{}", ModelFinding::sentence(.0))]
    NotConforming(Vec<ModelFinding>),
    /// There is no memory for the verification of the zip at present.
    #[error("there is no memory for the verification of the zip at present")]
    NoMemory(MemoryShortage),
}

impl PublishingError {
    /// The reason as one sentence for the publisher, without the system's text.
    pub(crate) fn sentence(&self) -> String {
        match self {
            Self::Refused(PublishRefusal::OtherCase(_) | PublishRefusal::OtherSpelling(_)) => {
                format!("this package {self}")
            }
            Self::Refused(PublishRefusal::Upload(UploadError::Full(_)) | PublishRefusal::Unavailable(_)) => {
                self.to_string()
            }
            Self::Refused(PublishRefusal::Upload(UploadError::Io(_))) => VERSION_UNWRITABLE.to_owned(),
            Self::Refused(_) | Self::BeingPublished | Self::Published(_) | Self::Reserved(_) => {
                format!("this version {self}")
            }
            Self::InvalidZip(_) | Self::NotConforming(_) => format!("the zip is not published: {self}"),
            Self::TooManyReservations(_) | Self::NotReserved(_) | Self::TooManyUploads | Self::NoMemory(_) => {
                self.to_string()
            }
        }
    }
}

impl From<UploadError> for PublishingError {
    fn from(error: UploadError) -> Self {
        Self::Refused(error.into())
    }
}

impl From<io::Error> for PublishingError {
    fn from(error: io::Error) -> Self {
        UploadError::from(error).into()
    }
}

/// The error for an upload whose last write was abandoned.
pub(super) fn closed() -> io::Error {
    io::ErrorKind::BrokenPipe.into()
}

/// Why an upload address cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotReserved {
    /// The address was used, the mirror was restarted, or the version was reserved again.
    #[error(
        "the upload address does not hold any more: it was used, a newer one was made, or the mirror was restarted"
    )]
    Ended,
    /// Its zip is arriving.
    #[error("a zip is being uploaded to this address already")]
    Uploading,
}
