//! Small state that all mirrors of a bucket have in common, each kind in one object: read, merged and replaced by
//! comparison.

use serde::{Serialize, de::DeserializeOwned};

use super::{
    Bucket, BucketError,
    bucket::SmallObject,
    json::to_json,
    object_name::ObjectName,
    probe::{Creation, Replacement},
};

/// Largest object, bytes.
const MAX_STATE_BYTES: usize = 16 << 20;

/// The state as it was read, for the write that follows.
#[derive(Debug)]
pub struct SharedState<T> {
    /// The state; `None` before a mirror has written one.
    pub value: Option<T>,
    object: Option<SmallObject>,
}

/// Whether a write has replaced what was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StateWrite {
    /// It has.
    Written,
    /// Another mirror was first: it must be read and merged again.
    Changed,
}

impl Bucket {
    /// Reads the state of a kind.
    ///
    /// # Errors
    /// When the bucket cannot be asked, or the object is damaged.
    pub async fn read_state<T: DeserializeOwned>(&self, kind: &'static str) -> Result<SharedState<T>, BucketError> {
        let Some(object) = self.get(&ObjectName::state(kind), MAX_STATE_BYTES).await? else {
            return Ok(SharedState { value: None, object: None });
        };
        let value = serde_json::from_slice(&object.bytes).map_err(|_| BucketError::Damaged)?;
        Ok(SharedState { value: Some(value), object: Some(object) })
    }

    /// Writes the state of a kind in place of what was read.
    ///
    /// # Errors
    /// When the bucket cannot be asked.
    pub async fn write_state<T: Serialize>(
        &self,
        kind: &'static str,
        value: &T,
        read: SharedState<T>,
    ) -> Result<StateWrite, BucketError> {
        let name = ObjectName::state(kind);
        let bytes = to_json(value)?;
        let is_written = match read.object {
            None => self.create(&name, bytes).await? == Creation::New,
            Some(object) => self.replace(&name, bytes, &object).await? == Replacement::Replaced,
        };
        if !is_written {
            return Ok(StateWrite::Changed);
        }
        self.notices.note_written();
        Ok(StateWrite::Written)
    }
}
