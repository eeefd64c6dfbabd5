//! Whether the disk takes what is written to it.

use std::{io, sync::Mutex};

use super::store::lock;

/// The last trouble with writing; gone with the next write that works.
#[derive(Debug, Default)]
pub(super) struct Health {
    trouble: Mutex<Option<String>>,
}

impl Health {
    /// Notes how a write went and passes its result on.
    pub(super) fn note<T>(&self, result: io::Result<T>) -> io::Result<T> {
        *lock(&self.trouble) = match &result {
            Ok(_) => None,
            Err(error) if error.kind() == io::ErrorKind::StorageFull => Some("no space on disk".into()),
            Err(error) => Some(format!("the disk cannot be written: {error}")),
        };
        result
    }

    pub(super) fn trouble(&self) -> Option<String> {
        lock(&self.trouble).clone()
    }
}
