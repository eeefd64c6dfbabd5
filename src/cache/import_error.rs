//! Why something is not imported.

use std::io;

use super::{
    pins::ImportPinError,
    spool_writer::{FinishError, SpoolWriteError},
};
use crate::{origin::VerifyError, shared::BucketError, value::memory_budget::MemoryShortage};

/// Why something is not imported.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// It differs from its description, or is not valid.
    #[error("{0}")]
    Invalid(String),
    /// Other content is pinned under the key.
    #[error("other content was first seen here under this version")]
    Conflict,
    /// Another mirror has pinned other content under the key in the bucket: that content counts.
    #[error("the bucket has other content under this version, which counts")]
    Overruled,
    /// The bucket cannot be asked. What was stored here until then stays.
    #[error("the shared bucket cannot be used: {0}")]
    Bucket(#[from] BucketError),
    /// There is no room for it.
    #[error("there is no room for it in the cache")]
    NoRoom,
    /// There is no memory for its verification at present.
    #[error(transparent)]
    NoMemory(#[from] MemoryShortage),
    /// The disk fails.
    #[error("the cache directory cannot be written")]
    Io(#[from] io::Error),
}

impl From<ImportPinError> for ImportError {
    fn from(error: ImportPinError) -> Self {
        match error {
            ImportPinError::Conflict => Self::Conflict,
            ImportPinError::Io(error) => Self::Io(error),
        }
    }
}

impl From<SpoolWriteError> for ImportError {
    fn from(_: SpoolWriteError) -> Self {
        Self::NoRoom
    }
}

impl From<FinishError> for ImportError {
    fn from(_: FinishError) -> Self {
        Self::NoRoom
    }
}

impl From<VerifyError> for ImportError {
    fn from(error: VerifyError) -> Self {
        match error {
            VerifyError::Invalid(reason) => Self::Invalid(reason),
            VerifyError::NoMemory(shortage) => Self::NoMemory(shortage),
            VerifyError::Io(error) => Self::Io(error),
        }
    }
}
